//! The loop of the control process, and what it holds.

use super::blocks::Blocks;
use super::captures::Captures;
use super::dataplane::{self, Dataplane};
use super::first::{check, initial_config, initial_programs};
use super::history::{Entry, History};
use super::installation::{Installation, Paths, Wanted};
use super::looks::Looks;
use super::options::Options;
use super::promiscuous::{settle, wanted};
use super::routes::Routes;
use super::states::States;
use super::supervisor::{Phase, TICK};
use super::{adoption, privileges, resident};
use crate::api::{Answer, ApiError, BindError, Call, Groups, Server};
use crate::health::{Checks, Outcome};
use crate::netlink::{Changes, NetlinkError};
use crate::programs::Programs;
use crate::uapi::{self, Sockets};
use crate::xdp::{is_in_memory, mount_bpffs_if_missing};
use anyhow::{Context as _, Result, bail};
use futures_util::future::{pending, select_all};
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use zsync_pipelines::spec::Spec;
use zsync_protocol::message::ToDataplane;

/// Where an answer goes.
pub(super) type ReplyTo = oneshot::Sender<Result<Answer, ApiError>>;

/// A configuration in force.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub entry: Entry,
    pub spec: Spec,
    /// The operator's XDP programs, as they were read when it was put in force.
    pub programs: Programs,
}

impl Config {
    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted { spec: &self.spec, programs: &self.programs }
    }
}

/// A configuration that is taken back unless somebody confirms it.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    pub deadline: Instant,
    pub previous: u64,
}

/// Somebody who waits for the data plane to have adopted an epoch.
#[derive(Debug)]
pub(super) struct Waiter {
    pub epoch: u64,
    pub since: Instant,
    pub reply: ReplyTo,
    pub answer: Answer,
}

/// The control process. See [`super`].
#[derive(Debug)]
pub struct Daemon {
    pub(super) options: Options,
    pub(super) paths: Paths,
    pub(super) history: History,
    pub(super) config: Config,
    pub(super) installation: Installation,
    pub(super) routes: Vec<Routes>,
    pub(super) states: States,
    pub(super) captures: Captures,
    pub(super) blocks: Blocks,
    pub(super) looks: Looks,
    /// The sockets for `wg`.
    pub(super) wg: Sockets,
    pub(super) checks: Checks,
    pub(super) dataplane: Option<Dataplane>,
    pub(super) phase: Phase,
    /// This installation has had a data plane, whose state the next one carries on from.
    pub(super) launched: bool,
    /// Number of the newest thing that workers were given.
    pub(super) epoch: u64,
    pub(super) restarts: u64,
    pub(super) last_exit: Option<String>,
    pub(super) sandboxed: bool,
    /// Starts in a row that came to nothing.
    pub(super) failures: u32,
    pub(super) unconfirmed: Option<Unconfirmed>,
    pub(super) reverted: Vec<u64>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) audits: HashMap<u32, ReplyTo>,
    pub(super) next_audit: u32,
    pub(super) tasks_asked: HashMap<u32, super::tasks::Asked>,
    pub(super) restart_waiter: Option<(Instant, ReplyTo)>,
    /// Worker load at the last look, for percentages.
    pub(super) load: HashMap<u32, (Instant, u64)>,
    /// When to look next at what does not announce itself.
    pub(super) next_tick: Instant,
    /// Nothing is in force any more: the process ends, and the next one begins anew.
    pub(super) fatal: Option<anyhow::Error>,
    calls: mpsc::Receiver<Call>,
    wg_calls: mpsc::Receiver<uapi::Call>,
}

/// Whatever happens next.
#[derive(Debug)]
enum Event {
    Call(Call),
    Wg(uapi::Call),
    Dataplane(dataplane::Event),
    Kernel(Result<Changes, NetlinkError>),
    Checked(Outcome),
    Time,
    Stop,
    Leave,
}

impl Daemon {
    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// What keeps it from starting: all that is wrong with the configuration, the ports, or the privileges.
    pub async fn run(options: Options) -> Result<()> {
        privileges::check()?;
        // First of all: whoever interrupts the start gets an orderly stop, not programs that nobody holds.
        let mut signals = Signals::listen()?;
        std::fs::create_dir_all(&options.run_dir)
            .with_context(|| format!("making {}", options.run_dir.display()))?;
        if !is_in_memory(&options.run_dir) {
            tracing::warn!(
                run_dir = %options.run_dir.display(),
                "the run directory is on a disk, for which packets wait when the data plane is started anew: name one on a tmpfs"
            );
        }
        mount_bpffs_if_missing(mount_point(&options.bpffs))?;
        std::fs::create_dir_all(&options.bpffs)
            .with_context(|| format!("making {}", options.bpffs.display()))?;

        let history = History::open(&options.state_dir)?;
        let (text, file) = initial_config(&options, &history)?;
        let (parsed, lists) = check(&text, &file, &options, &history)?;
        let programs = initial_programs(&parsed.spec, &text, &file, &options, &history)?;
        let groups = Groups::new(&parsed.spec.control.admin_group, &parsed.spec.control.read_group);
        let server = bind(&options.run_dir.join("api.sock"), &groups).await?;
        // The data plane's user may pass through, to no file: it has nothing to open there.
        std::fs::set_permissions(&options.run_dir, std::fs::Permissions::from_mode(0o755))?;

        let (calls_to, calls) = mpsc::channel(64);
        let mut daemon =
            adoption::begin(options, history, (parsed, programs, lists), text, file, calls).await?;
        daemon.serve_wg();
        resident::keep(daemon.options.dataplane());
        let role = move |peer| groups.role(peer);
        let serving = server.serve(calls_to, role);
        tokio::pin!(serving);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        tracing::info!(
            config = daemon.config.entry.number,
            ports = daemon.installation.ports.len(),
            workers = daemon.installation.layout.workers.len(),
            packet_memory = daemon.installation.pages,
            "ready"
        );

        loop {
            let event = tokio::select! {
                () = &mut serving => bail!("the API ended"),
                event = daemon.next(&mut signals) => event,
            };
            match event {
                Event::Call(call) => {
                    daemon.answer(call).await;
                    daemon.serve_wg();
                }
                Event::Wg(call) => daemon.answer_wg(call).await,
                Event::Dataplane(event) => daemon.on_dataplane(event),
                Event::Checked(outcome) => daemon.on_check(outcome),
                Event::Kernel(Ok(changes)) => daemon.on_kernel(changes),
                Event::Kernel(Err(error)) => {
                    // A control process without netlink would let the FIB go stale: the next one adopts and resyncs.
                    return Err(error).context("the kernel's routes cannot be followed any more");
                }
                Event::Time => {
                    daemon.on_time().await;
                    daemon.serve_wg();
                }
                Event::Stop => {
                    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
                    daemon.stop().await;
                    return Ok(());
                }
                Event::Leave => {
                    tracing::info!("leaving; the data plane goes on, and the next control process adopts it");
                    return Ok(());
                }
            }
            if let Some(error) = daemon.fatal.take() {
                return Err(error);
            }
        }
    }

    async fn next(&mut self, signals: &mut Signals) -> Event {
        let deadline = self.deadline().min(self.next_tick);
        let Self { calls, wg_calls, dataplane, routes, checks, .. } = self;
        let said = async {
            match dataplane {
                Some(dataplane) => dataplane.next().await,
                None => pending().await,
            }
        };
        let kernel = async {
            if routes.is_empty() {
                return pending().await;
            }
            select_all(routes.iter_mut().map(|table| Box::pin(table.follow()))).await.0
        };
        tokio::select! {
            // What must not wait comes first: a data plane that talks without end, or a kernel full of news, starves nobody.
            biased;
            () = tokio::time::sleep_until(deadline.into()) => Event::Time,
            _ = signals.terminate.recv() => Event::Stop,
            _ = signals.interrupt.recv() => Event::Stop,
            _ = signals.leave.recv() => Event::Leave,
            event = said => Event::Dataplane(event),
            Some(call) = calls.recv() => Event::Call(call),
            Some(call) = wg_calls.recv() => Event::Wg(call),
            outcome = checks.next() => Event::Checked(outcome),
            result = kernel => Event::Kernel(result),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "called once, by whoever has gathered all of it")]
    pub(super) fn assemble(
        options: Options,
        paths: Paths,
        history: History,
        config: Config,
        installation: Installation,
        routes: Vec<Routes>,
        epoch: u64,
        calls: mpsc::Receiver<Call>,
    ) -> Self {
        let (wg_to, wg_calls) = mpsc::channel(16);
        let wg = Sockets::new(options.wireguard_dir(), wg_to);
        Self {
            options,
            paths,
            history,
            config,
            installation,
            routes,
            states: States::default(),
            captures: Captures::default(),
            blocks: Blocks::default(),
            looks: Looks::default(),
            wg,
            checks: Checks::default(),
            dataplane: None,
            phase: Phase::starting(),
            launched: false,
            epoch,
            restarts: 0,
            last_exit: None,
            sandboxed: false,
            failures: 0,
            unconfirmed: None,
            reverted: Vec::new(),
            waiters: Vec::new(),
            audits: HashMap::new(),
            next_audit: 0,
            tasks_asked: HashMap::new(),
            restart_waiter: None,
            load: HashMap::new(),
            next_tick: Instant::now() + TICK,
            fatal: None,
            calls,
            wg_calls,
        }
    }

    /// The kernel changed something; the FIB has it already.
    pub(super) fn on_kernel(&mut self, changes: Changes) {
        if changes.addresses {
            self.tell_local_addresses();
        }
        if changes.links {
            self.keep_promiscuous();
        }
        if changes.links || changes.addresses {
            self.follow_ports();
        }
    }

    /// Somebody may have taken it away that a netdev takes frames for any station.
    fn keep_promiscuous(&self) {
        let Some(routes) = self.routes.first() else { return };
        let wanted = wanted(&self.config.spec, &self.installation.ports);
        // (The mirror may be behind; who is asked is the kernel.)
        let is_lost = |ifindex: &u32| {
            routes.netlink().mirror().link(*ifindex).is_some_and(|link| !link.is_promiscuous())
        };
        if !wanted.iter().any(is_lost) {
            return;
        }
        match settle(&self.paths, &wanted) {
            Ok(made) => {
                for netdev in made {
                    tracing::warn!(netdev, "somebody had it no longer promiscuous: it is so again");
                }
            }
            Err(error) => tracing::error!("{error:#}"),
        }
    }

    /// Tells the XDP programs which addresses are the kernel's own.
    pub(super) fn tell_local_addresses(&mut self) {
        let Some(routes) = self.routes.first() else { return };
        // Stages that look at the transport guard and translate these addresses too; else they are the kernel's at once.
        let addresses: Vec<_> = if self.config.spec.is_deep() {
            Vec::new()
        } else {
            routes.local_addresses().into_iter().collect()
        };
        for port in &mut self.installation.ports {
            if let Some(ingress) = &mut port.ingress
                && let Err(error) = ingress.set_local(&addresses)
            {
                tracing::error!(port = port.spec.name, %error, "its local addresses are out of date");
            }
        }
    }

    /// A port's addresses or MTU may have changed: the data plane hears of it.
    pub(super) fn follow_ports(&mut self) {
        let changed = self.look_at_ports();
        if changed.is_empty() {
            return;
        }
        for message in &changed {
            self.tell(message, &[]);
        }
        self.send_snapshot();
    }

    /// Takes over what the kernel says of the ports; what a running data plane must be told of it.
    pub(super) fn look_at_ports(&mut self) -> Vec<ToDataplane> {
        let Some(routes) = self.routes.first() else { return Vec::new() };
        let mut changed = Vec::new();
        for port in self.installation.ports.iter_mut().filter(|port| port.ifindex != 0) {
            let Some(link) = routes.netlink().mirror().link(port.ifindex) else {
                tracing::error!(
                    port = port.spec.name,
                    netdev = port.spec.netdev,
                    "the netdev is gone; `zsyncctl apply` opens it again when it is back"
                );
                continue;
            };
            let mac = link.mac.unwrap_or(port.mac);
            let (v4, v6) = routes.netlink().mirror().sources(port.ifindex);
            if (mac, link.mtu, v4, v6) != (port.mac, port.mtu, port.v4, port.v6) {
                tracing::info!(port = port.spec.name, mtu = link.mtu, ?v4, ?v6, "addresses or MTU changed");
                (port.mac, port.mtu, port.v4, port.v6) = (mac, link.mtu, v4, v6);
                changed.push(port.message());
            }
        }
        changed
    }
}

/// The tables that a configuration's `route` stages use, each once.
pub(super) fn tables_of(spec: &Spec) -> Vec<u32> {
    let mut tables: Vec<u32> = spec
        .pipelines
        .iter()
        .flat_map(|pipeline| &pipeline.stages)
        .flat_map(|stage| stage.spec.routing_tables())
        .collect();
    tables.sort_unstable();
    tables.dedup();
    tables
}

/// Where the BPF file system is to be, for pins in `folder`: `/sys/fs/bpf` for what lies below it.
fn mount_point(folder: &Path) -> &Path {
    let usual = Path::new("/sys/fs/bpf");
    if folder.starts_with(usual) { usual } else { folder }
}

/// Binds the API socket. A control process that was killed while it started a data plane may be survived for a moment by
/// that child, which holds the socket until it executes its program.
async fn bind(path: &Path, groups: &Groups) -> Result<Server> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Server::bind(path, groups) {
            Err(BindError::InUse { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            bound => return Ok(bound?),
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    leave: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            leave: signal(SignalKind::user_defined1())?,
        })
    }
}
