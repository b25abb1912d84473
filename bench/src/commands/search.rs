//! `search`: what a device under test carries, between two ports of this host, or with another host as its far end, or
//! between the namespaces of `veth-route`.

use super::connections::{self, Opening, Wires};
use super::ends::{driver, live, local, near, reset};
use super::receive::Taking;
use super::report::write_page;
use super::run::command_line;
use super::traffic::{Packets, Sockets, here, stream};
use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use zsync_bench::forwarder::{self, Forwarder};
use zsync_bench::kernel::Way;
use zsync_bench::live::LEAST;
use zsync_bench::machine;
use zsync_bench::outcome::COMMIT;
use zsync_bench::place::{self, Part};
use zsync_bench::search::{Eyes, Findings, Kind, Plan, Wanted, run};
use zsync_bench::watch::Watch;
use zsync_bench::{enclosure, interrupt};
use zsync_ends::Port;
use zsync_ends::far::FarEnd;
use zsync_ends::pair::Pair;
use zsync_ends::remote::Remote;
use zsync_ends::sender::Senders;
use zsync_report::outcome::{Direction, Outcome, Series};
use zsync_search::connections::Attempt;
use zsync_search::mlr::Goal;
use zsync_search::trial::Record;

/// Who forwards between the namespaces of `veth-route`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Through {
    /// zsync's router.
    Zsync,
    /// DPDK's testpmd on af_xdp.
    DpdkTestpmd,
    /// The kernel's forwarding.
    Kernel,
    /// An XDP program that redirects.
    KernelXdp,
    /// A forwarder of xsk-rs.
    XskRs,
    /// The kernel's connection tracking.
    KernelTrack,
    /// The kernel's masquerading.
    KernelNat,
}

impl Through {
    fn forwarder(self) -> forwarder::Kind {
        match self {
            Self::Zsync => forwarder::Kind::Zsync,
            Self::DpdkTestpmd => forwarder::Kind::Testpmd,
            Self::Kernel => forwarder::Kind::Kernel,
            Self::KernelXdp => forwarder::Kind::Redirect,
            Self::XskRs => forwarder::Kind::XskRs,
            Self::KernelTrack => forwarder::Kind::Nftables(Way::Track),
            Self::KernelNat => forwarder::Kind::Nftables(Way::Masquerade),
        }
    }
}

/// What sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// AF_XDP, by sockets that share no code with zsync's own.
    Xsk,
    /// The kernel itself.
    Live,
}

#[derive(Args)]
pub struct Search {
    /// What is searched for.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ndr")]
    measure: Vec<Kind>,
    #[command(flatten)]
    packets: Packets,
    #[command(flatten)]
    sockets: Sockets,
    #[command(flatten)]
    taking: Taking,
    #[command(flatten)]
    opening: Opening,
    /// Device that packets leave by; several share the packets.
    #[arg(long, value_delimiter = ',', value_name = "NETDEV", required_unless_present = "through")]
    from: Vec<String>,
    /// Device of this host that they come back by.
    #[arg(long, value_name = "NETDEV", conflicts_with = "remote")]
    to: Option<String>,
    /// Or the other host, where `zsync-bench receive --listen ADDRESS:PORT` lends its port.
    #[arg(long, value_name = "ADDRESS:PORT")]
    remote: Option<SocketAddr>,
    /// Instead of ports: between two veth pairs in namespaces of its own, through this forwarder. Needs root and two cores.
    #[arg(long, value_enum, conflicts_with_all = ["from", "to", "remote"])]
    through: Option<Through>,
    /// What sends where packets are counted only: xsk, or the kernel itself, which makes more of them, of one size and from
    /// 2,000 a second on. Without it, the kernel with --through, and xsk else.
    #[arg(long, value_enum)]
    engine: Option<Engine>,
    /// Cores to send from, one for each queue of each device.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// Cores to read on, one for each queue.
    #[arg(long, value_delimiter = ',')]
    reader_cores: Vec<usize>,
    /// Read every packet in every trial; without it only where latency is wanted, and else they are counted in the driver.
    #[arg(long)]
    read: bool,
    /// Length of the trials that decide, in seconds.
    #[arg(long, default_value_t = 30.0)]
    trial: f64,
    /// Short trials, three of each rate, of which one may lose packets, and bounds within 3 %: for a machine that does other
    /// things besides.
    #[arg(long)]
    quick: bool,
    /// Least rate that is tried, packets per second.
    #[arg(long, default_value_t = 1000.0)]
    min_rate: f64,
    /// Greatest rate: the line's. Without it, what the generator reaches by itself.
    #[arg(long)]
    max_rate: Option<f64>,
    /// How often latencies, bursts, recoveries and resets are measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// No single search takes longer, in seconds of trials.
    #[arg(long, default_value_t = 3600.0)]
    time: f64,
    /// What resets the device: run by `sh -c`, in the midst of a trial.
    #[arg(long, value_name = "COMMAND")]
    reset_command: Option<String>,
    /// JSON.
    #[arg(long)]
    json: bool,
    /// Also a page for a browser: latency by percentile, loss by rate.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Searches; fails when there is no result.
pub fn search(what: &Search) -> Result<ExitCode> {
    if what.through.is_some() {
        if enclosure::is_inside() {
            enclosure::furnish()?;
        } else {
            interrupt::listen();
            interrupt::hold();
            return enclosure::run();
        }
    }
    let watch = Watch::new("search");
    let plan = plan(what)?;
    let each = |record: &Record| {
        if !what.json {
            watch.clear();
            println!("  {record}");
        }
    };
    if what.through.is_some() {
        place::build()?;
    }
    let of_connections = |kind: &&Kind| kind.is_of_connections();
    let mut outcomes = Vec::new();
    let mut is_found = true;
    if what.measure.iter().any(|kind| !kind.is_of_connections()) {
        let (mut found, is_zero_copy) = match what.through {
            Some(through) => between_namespaces(what, &plan, through, &watch, &each)?,
            None => between_ports(what, &plan, &watch, &each)?,
        };
        watch.clear();
        if !what.read && !what.taking.takes_all() {
            found
                .notes
                .push("counted, not read: copies would hide losses; --read tells them apart".to_owned());
        }
        if !what.json {
            print!("{found}");
        }
        is_found = !found.texts.is_empty() && found.failed.is_empty();
        let mode = if is_zero_copy { "AF_XDP zero copy" } else { "AF_XDP copy" };
        outcomes.push(outcome(what, &found, mode));
        for (name, title, samples) in [
            (
                "search pdr",
                "the greatest rate at which at most 0.5 % is lost",
                found.pdr.into_iter().collect(),
            ),
            ("search mrr", "what comes through when all is sent that can be", found.mrr.clone()),
        ] {
            if !samples.is_empty() {
                let ours = Series::new(what.name(), samples);
                let other = Outcome::new(name, "packets/s", Direction::More, ours);
                outcomes.push(located(what, Outcome { title: title.to_owned(), ..other }, mode));
            }
        }
    }
    if what.measure.iter().find(of_connections).is_some() && !watch.is_cancelled() {
        let each = |attempt: &Attempt| {
            if !what.json {
                watch.clear();
                println!("  {attempt}");
            }
        };
        let found = connections(what, &plan, &watch, &each)?;
        watch.clear();
        if !what.json {
            print!("{found}");
        }
        is_found &= found.rate.is_some();
        let wants_capacity = what.measure.contains(&Kind::TableCapacity);
        let of = connections::outcomes(&found, &what.name(), wants_capacity);
        outcomes.extend(of.into_iter().map(|outcome| located(what, outcome, "AF_XDP")));
    }
    if what.json {
        outcomes.iter().for_each(|outcome| println!("{}", outcome.to_json()));
    }
    if let Some(path) = &what.html {
        write_page(path, &outcomes)?;
    }
    Ok(match (watch.is_cancelled(), is_found) {
        (true, _) => ExitCode::from(interrupt::STATUS),
        (_, false) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

fn plan(what: &Search) -> Result<Plan> {
    let trial = Duration::try_from_secs_f64(what.trial)?;
    ensure!(!trial.is_zero(), "trials must last");
    let quick = Plan::quick(trial.min(Duration::from_secs(1)));
    let full = |goal: Goal| Goal { initial: goal.initial.min(trial), last: trial, sum: trial, ..goal };
    let goals = if what.quick { quick.goals.clone() } else { vec![full(Goal::ndr()), full(Goal::pdr())] };
    Ok(Plan {
        kinds: what.measure.clone(),
        goals,
        minimum: what.min_rate,
        maximum: what.max_rate,
        trial: if what.quick { quick.trial } else { trial },
        repeats: what.repeats,
        time: Duration::try_from_secs_f64(what.time)?,
    })
}

/// What was found, and whether the senders copied nothing.
fn between_ports(
    what: &Search,
    plan: &Plan,
    watch: &Watch,
    each: &dyn Fn(&Record),
) -> Result<(Findings, bool)> {
    what.to.iter().try_for_each(|device| what.taking.check(device))?;
    let profile = what.packets.profile(what.from.first().map(String::as_str))?;
    let ports = what.sockets.ports(&what.from, &what.cores)?;
    let senders = Senders::open(&ports, &what.sockets.options(), &here())?;
    let live = match (what.engine, &what.from[..]) {
        (Some(Engine::Live), [device]) => Some(live(&profile, device, ports[0].core, &here())?),
        (Some(Engine::Live), _) => bail!("the live engine has one device: give one in --from"),
        _ => None,
    };
    let (packets, eyes) = (stream(&profile), Eyes(watch));
    let mut ends = |wanted: Wanted| -> Result<Pair<'_>> {
        let wanted = what.wanted(wanted);
        let read = wanted.reads();
        let far: Box<dyn FarEnd> = match (&what.to, what.remote) {
            (Some(device), _) => {
                let ports = what.sockets.ports(std::slice::from_ref(device), &what.reader_cores)?;
                local(ports, read, (&what.taking, &what.sockets), &here())?
            }
            (None, Some(address)) => Box::new(Remote::reach(address, what.taking.marks(), read)?),
            (None, None) => bail!("where do packets come back? --to NETDEV, or --remote ADDRESS:PORT"),
        };
        Ok(Pair::new(near(&senders, live.as_ref(), wanted), far, packets.clone(), profile.shape, &eyes))
    };
    let mut act = || reset(what.reset_command.as_deref());
    Ok((run(plan, &mut ends, Some(&mut act), watch, each)?, senders.is_zero_copy()))
}

fn between_namespaces(
    what: &Search,
    plan: &Plan,
    through: Through,
    watch: &Watch,
    each: &dyn Fn(&Record),
) -> Result<(Findings, bool)> {
    let profile = what.packets.profile_with(None, place::PROFILE)?;
    let layers = &profile.content.layers;
    ensure!(
        layers.ip.source.is_ipv4() && layers.tags.is_empty() && layers.tunnel.is_none(),
        "the namespaces are joined by plain IPv4: other packets are searched with between ports (--from, --to)"
    );
    let port = |core: usize| vec![Port { device: "eth0".to_owned(), queue: 0, core: Some(core) }];
    let core = |cores: &[usize]| cores.first().copied().unwrap_or(0);
    let senders =
        Senders::open(&port(core(&what.cores)), &what.sockets.options(), &place::enter(Part::Source))?;
    let kernel = || live(&profile, "eth0", Some(core(&what.cores)), &place::enter(Part::Source));
    let kernel = match what.engine {
        Some(Engine::Live) => Some(kernel()?),
        // Packets that the kernel cannot make are sent by sockets.
        None => kernel().ok(),
        Some(Engine::Xsk) => None,
    };
    let least = if kernel.is_some() { LEAST as f64 } else { 0.0 };
    let plan = &Plan { minimum: plan.minimum.max(least), ..plan.clone() };
    let forwarder = std::cell::RefCell::new(Some(Forwarder::start(through.forwarder())?));
    let (packets, eyes) = (stream(&profile), Eyes(watch));
    let mut ends = |wanted: Wanted| -> Result<Pair<'_>> {
        let wanted = what.wanted(wanted);
        let ports = port(core(&what.reader_cores));
        let far = local(ports, wanted.reads(), (&what.taking, &what.sockets), &place::enter(Part::Sink))?;
        let near = near(&senders, kernel.as_ref(), wanted);
        Ok(Pair::new(near, far, packets.clone(), profile.shape, &eyes))
    };
    // Without another command, the forwarder is ended and started anew.
    let mut act = || match what.reset_command.as_deref() {
        Some(command) => reset(Some(command)),
        None => {
            ensure!(
                through != Through::Kernel,
                "nothing resets the kernel's forwarding: give --reset-command"
            );
            drop(forwarder.borrow_mut().take());
            *forwarder.borrow_mut() = Some(Forwarder::start(through.forwarder())?);
            Ok(())
        }
    };
    Ok((run(plan, &mut ends, Some(&mut act), watch, each)?, senders.is_zero_copy()))
}

fn connections(
    what: &Search,
    plan: &Plan,
    watch: &Watch,
    each: &dyn Fn(&Attempt),
) -> Result<zsync_bench::connections::Findings> {
    let (count, most) = what.opening.counts()?;
    let (kinds, minimum, maximum, time) = (plan.kinds.clone(), plan.minimum, plan.maximum, plan.time);
    let wires = Wires {
        packets: &what.packets,
        sockets: &what.sockets,
        marks: what.taking.marks(),
        opening: &what.opening,
        plan: zsync_bench::connections::Plan { kinds, count, most, minimum, maximum, time },
    };
    let Some(through) = what.through else {
        what.from.iter().chain(&what.to).try_for_each(|device| what.taking.check(device))?;
        let to = what.to.as_ref().map(|device| (device, &what.reader_cores[..]));
        return wires.between_ports((&what.from, &what.cores), to, watch, each);
    };
    let core = |cores: &[usize], otherwise| cores.first().copied().unwrap_or(otherwise);
    // Where the forwarder is on the initiator's core, the responder is not in its way on the other one.
    let cores = [core(&what.cores, 0), core(&what.reader_cores, machine::measured_core())];
    wires.between_namespaces(through.forwarder(), cores, watch, each)
}

impl Search {
    /// What the far end is to do: where everything is taken, only what was read is known to be the trial's.
    fn wanted(&self, wanted: Wanted) -> Wanted {
        if self.read || self.taking.takes_all() { Wanted::All } else { wanted }
    }

    /// What is measured, as a report names it.
    fn name(&self) -> String {
        self.through.map_or("device under test", |through| through.forwarder().name()).to_owned()
    }
}

/// As `--json` prints it, and a page has it.
fn outcome(what: &Search, found: &Findings, mode: &str) -> Outcome {
    let name = what.name();
    let ndr = found.ndr.filter(|_| found.irregular.is_none());
    let samples: Vec<f64> = ndr.map(|ndr| ndr.rate).into_iter().collect();
    let mut outcome = Outcome::new(
        "search",
        "packets/s",
        Direction::More,
        Series { ndr, ..Series::new(name.clone(), samples) },
    );
    outcome.title = "the greatest rate without loss".to_owned();
    outcome.loss = vec![found.loss(&name)];
    outcome.latency = found.latency.iter().cloned().map(|curve| curve.of(&name)).collect();
    outcome.notes = found.texts.iter().chain(&found.notes).cloned().collect();
    outcome.invalid = found.irregular.iter().map(|why| format!("no regular result: {why}")).collect();
    located(what, outcome, mode)
}

/// With where it was measured, and how.
fn located(what: &Search, outcome: Outcome, mode: &str) -> Outcome {
    let device = what.from.first().map(String::as_str);
    let machine = machine::look().with_devices(&device.map_or("veth".to_owned(), driver), mode);
    Outcome { command: command_line(), machine, commit: COMMIT.to_owned(), ..outcome }
}
