//! Everything that is opened for the data plane: memory, sockets, programs, devices.
//!
//! Owns the descriptors; the data plane gets copies. What is here outlives a data plane, and is what its successor carries
//! on with. [`Installation::open`] makes it all from a configuration, or nothing; [`Installation::adopt`] gets it back from
//! a data plane that outlived the control process before this one.

mod adopt;
mod opened;
mod punt;

pub use opened::{OpenPort, OpenQueue};

use super::placement;
use super::ports::{Opening, check_ports, frames_for, open_port, plan_queues, served_queues, steering};
use super::promiscuous;
use super::sockets::SharedMemory;
use super::tun::{self, Tuns};
use super::udp::{self, Udps};
use crate::programs::Programs;
use crate::xdp::Hook;
use anyhow::{Context as _, Result, anyhow};
use punt::{admit_own_sources, open_punt};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use zsync_packet::frame::FrameSize;
use zsync_packet::ledger::{home_slice, ledger_bytes};
use zsync_pipelines::spec::{HugePages, Idle, Port, Spec, UdpSpec};
use zsync_protocol::message::{self, Layout, ToDataplane, VERSION, WorkerPlan};
use zsync_protocol::shm::{Huge, Memory};
use zsync_protocol::stats::{StatsLayout, WorkerStats};

/// Bytes that Ethernet and two VLAN tags take of a frame besides the MTU's.
const LINK_HEADERS: u32 = 14 + 2 * 4;

/// Where control keeps things.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Sockets: gone with the machine's boot.
    pub run: PathBuf,
    /// Pins, on a BPF file system.
    pub bpffs: PathBuf,
}

impl Paths {
    /// Where the data plane listens for the next control process.
    pub fn knock(&self) -> PathBuf {
        self.run.join("dataplane.sock")
    }

    pub(super) fn pins(&self, port: &str) -> PathBuf {
        self.bpffs.join(port)
    }

    /// For what the verifier is to look at and forget. No port has this name.
    pub(super) fn scratch(&self) -> PathBuf {
        self.bpffs.join("SCRATCH")
    }
}

/// A configuration that is to be opened, and the operator's programs that it names.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'c> {
    /// The configuration.
    pub spec: &'c Spec,
    /// Its programs.
    pub programs: &'c Programs,
}

/// What stays open while the rest is opened anew: the kernel's routes go by it, and what has come waits in it.
#[derive(Debug, Default)]
pub struct Kept {
    punt: Option<OwnedFd>,
    tuns: Tuns,
    udps: Udps,
}

impl Kept {
    /// Nothing is open. A data plane of which nobody knows may have just ended, and have had all the rings that `spec` asks for.
    pub fn nothing(spec: &Spec) -> Self {
        let asks = |port: &Port| port.udp.filter(|udp| udp.io_uring).map(|udp| udp.listen.port());
        let ringed = spec.ports.iter().filter_map(asks).collect();
        Self { udps: Udps { ringed, ..Udps::default() }, ..Self::default() }
    }
}

/// Everything that is opened for the data plane. See the module.
#[derive(Debug)]
pub struct Installation {
    /// What the data plane process is made of.
    pub layout: Layout,
    /// Arena, ledger, counters, and the listening socket for the next control process.
    memory: [OwnedFd; 4],
    /// One a worker.
    pub stats: Vec<WorkerStats>,
    /// By port number.
    pub ports: Vec<OpenPort>,
    /// In the order of their marks on the ledger.
    pub queues: Vec<OpenQueue>,
    /// The TUN device for punted packets.
    pub punt: OwnedFd,
    /// The TUN and TAP devices that are ports.
    tuns: Tuns,
    /// The UDP sockets that are ports.
    udps: Udps,
    /// What packet memory lies on.
    pub pages: String,
}

impl Installation {
    /// Whether `spec` can be opened in the place of this one, as far as can be told while it is there.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn check(&self, wanted: Wanted<'_>, running: &Programs, paths: &Paths) -> Result<()> {
        let Wanted { spec, programs } = wanted;
        let size = FrameSize::from_bytes(spec.engine.frame_size)
            .ok_or_else(|| anyhow!("frames of {} bytes", spec.engine.frame_size))?;
        check_ports(spec, paths, size.longest_packet() as u32 - LINK_HEADERS)?;
        let queues: Vec<u32> = in_order(spec).map(served_queues).collect::<Result<_>>()?;
        let most = queues.iter().copied().max().unwrap_or(1);
        let workers = placement::place(&spec.engine.workers, most, None, &placement::cores()).len();
        let plans = plan_queues(spec, &queues, workers);
        frames_for(spec, &plans, workers)?;
        // Sockets of ours would be in each other's way.
        let ours = |udp: &UdpSpec| self.udps.open.keys().any(|local| local.port() == udp.listen.port());
        for (port, plans) in in_order(spec).zip(&plans) {
            if let Some(udp) = port.udp.filter(|udp| !ours(udp)) {
                udp::try_address(udp, plans.len()).with_context(|| format!("port {}", port.name))?;
            }
        }
        Ok(programs.verify(running, &paths.scratch())?)
    }

    /// Opens everything that `spec` asks for. On error everything is as it was before. `kept` is what is
    /// open already; what of it is not in the way stays there then.
    ///
    /// # Errors
    /// All ports that cannot be opened, each with the reason and the remedy.
    pub fn open(
        wanted: Wanted<'_>,
        paths: &Paths,
        identity: (u32, u32),
        secret: [[u8; 32]; 2],
        kept: &mut Kept,
    ) -> Result<Self> {
        let spec = wanted.spec;
        let size = FrameSize::from_bytes(spec.engine.frame_size)
            .ok_or_else(|| anyhow!("frames of {} bytes", spec.engine.frame_size))?;
        let mtu_limit = size.longest_packet() as u32 - LINK_HEADERS;
        let checked = check_ports(spec, paths, mtu_limit)?;
        let queues: Vec<u32> = in_order(spec).map(served_queues).collect::<Result<_>>()?;
        let node = in_order(spec)
            .zip(&checked)
            .find_map(|(port, check)| placement::node_of(&port.netdev, check.link.ifindex));
        let most = queues.iter().copied().max().unwrap_or(1);
        let places = placement::place(&spec.engine.workers, most, node, &placement::cores());
        let workers = places.len();

        let plans = plan_queues(spec, &queues, workers);
        let frames = frames_for(spec, &plans, workers)?;
        let arena_len = frames as usize * size.bytes();
        let huge = match spec.engine.huge_pages {
            HugePages::Auto => Huge::Auto,
            HugePages::Require => Huge::Require,
            HugePages::Never => Huge::Never,
        };
        let arena = Memory::create("zsync-packets", arena_len, huge)?;
        let ledger = Memory::create("zsync-ledger", ledger_bytes(frames), Huge::Never)?;
        let stats = Memory::create("zsync-counters", StatsLayout::bytes(workers), Huge::Never)?;
        StatsLayout::format(&stats.region, workers)?;
        let shared = SharedMemory {
            arena: &arena.region,
            ledger: &ledger.region,
            frame_size: spec.engine.frame_size,
            frames,
        };

        // Those of no port any more would be in the way of those that are opened.
        let listens =
            |local: &SocketAddr| in_order(spec).any(|port| port.udp.is_some_and(|udp| udp.listen == *local));
        kept.udps.open.retain(|local, _| listens(local));
        let mut tuns = Tuns::new();
        let mut ports = Vec::new();
        let mut open_queues = Vec::new();
        let mut free: Vec<u32> = (0..workers).map(|w| home_slice(frames, workers, w).start).collect();
        for ((port, check), plans) in in_order(spec).zip(&checked).zip(&plans) {
            let opened = match (&port.tun, port.udp) {
                (Some(tun), _) => tun::open(spec, port, tun, plans, kept.tuns.remove(&port.netdev)).map(
                    |(open, queues, fds)| {
                        tuns.insert(port.netdev.clone(), fds);
                        (open, queues)
                    },
                ),
                (None, Some(udp)) => {
                    let ringed = kept.udps.ringed.contains(&udp.listen.port());
                    let open = kept.udps.open.remove(&udp.listen);
                    udp::open(port, udp, mtu_limit, plans, open, ringed).map(|(open, queues, fds)| {
                        kept.udps.open.insert(udp.listen, fds);
                        (open, queues)
                    })
                }
                (None, None) => {
                    open_port(&Opening { wanted, port, check, plans, paths, memory: &shared }, &mut free)
                }
            };
            let opened = opened.with_context(|| format!("port {}", port.name));
            let (open, queues) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    drop_new_programs(ports);
                    return Err(error);
                }
            };
            ports.push(open);
            open_queues.extend(queues);
        }
        let listener = match listen(&paths.knock()) {
            Ok(listener) => listener,
            Err(error) => {
                drop_new_programs(ports);
                return Err(error);
            }
        };
        let punt = match kept.punt.take().map_or_else(open_punt, Ok) {
            Ok(punt) => punt,
            Err(error) => {
                drop_new_programs(ports);
                return Err(error);
            }
        };
        admit_own_sources(spec);
        let (uid, gid) = identity;
        let layout = Layout {
            frame_size: spec.engine.frame_size,
            frames,
            workers: places.into_iter().map(|core| WorkerPlan { core }).collect(),
            idle: idle(spec.engine.idle),
            uid,
            gid,
            secret,
            takeover: false,
        };
        let readers = (0..workers).map(|w| WorkerStats::open(&stats.region, w)).collect::<Result<_, _>>()?;
        if let Err(error) = promiscuous::settle(paths, &promiscuous::wanted(spec, &ports)) {
            drop_new_programs(ports);
            return Err(error);
        }
        Ok(Self {
            layout,
            pages: arena.pages.to_string(),
            memory: [arena.fd, ledger.fd, stats.fd, listener],
            stats: readers,
            ports,
            queues: open_queues,
            punt,
            tuns,
            udps: Udps { open: std::mem::take(&mut kept.udps.open), ..Udps::default() },
        })
    }

    /// Everything that a data plane is told before its workers start, except what changes later (FIBs, snapshot).
    pub fn messages(&self, takeover: bool) -> Vec<(ToDataplane, Vec<BorrowedFd<'_>>)> {
        let layout = Layout { takeover, ..self.layout.clone() };
        let hello = ToDataplane::Hello { version: VERSION, layout };
        let mut messages = vec![(hello, self.memory.iter().map(AsFd::as_fd).collect())];
        messages.extend(self.ports.iter().map(|port| (port.message(), Vec::new())));
        messages.extend(self.queues.iter().map(|q| (q.message.clone(), vec![q.socket.as_fd()])));
        messages.push((ToDataplane::Punt, vec![self.punt.as_fd()]));
        messages
    }

    /// Hands every queue's packets to its socket.
    ///
    /// # Errors
    /// The kernel refused an entry.
    pub fn steer_to_sockets(&mut self) -> Result<()> {
        for queue in &self.queues {
            let port = self.ports.get_mut(usize::from(queue.port));
            if let Some(ingress) = port.and_then(|port| port.ingress.as_mut()) {
                ingress.set_socket(queue.queue, &queue.socket)?;
            }
        }
        Ok(())
    }

    /// Applies the live settings of a new configuration to ports that stay as they are.
    ///
    /// # Errors
    /// A list that does not fit its map; a netdev that cannot be made promiscuous.
    pub fn apply_live(&mut self, wanted: Wanted<'_>, paths: &Paths) -> Result<()> {
        let Wanted { spec, programs } = wanted;
        for port in in_order(spec) {
            if let Some(open) = self.ports.iter_mut().find(|open| open.spec.id == port.id) {
                let of_port = || format!("port {}", port.name);
                if let Some(ingress) = &mut open.ingress {
                    set_chain(ingress, port, programs).with_context(of_port)?;
                    ingress.apply_steering(&steering(spec, port)).with_context(of_port)?;
                }
                if let Some(new) = &port.tun {
                    tun::address(open.ifindex, open.spec.tun.as_ref(), new).with_context(of_port)?;
                }
                open.spec = port.clone();
            }
        }
        admit_own_sources(spec);
        promiscuous::settle(paths, &promiscuous::wanted(spec, &self.ports)).map(drop)
    }

    /// Finishes what a control process that died may have left half done: the programs of the configuration in force, and whose netdevs are
    /// promiscuous.
    pub fn finish(&mut self, wanted: Wanted<'_>, paths: &Paths) {
        if let Err(error) = promiscuous::settle(paths, &promiscuous::wanted(wanted.spec, &self.ports)) {
            tracing::error!("{error:#}");
        }
        for port in &mut self.ports {
            if let Some(ingress) = &mut port.ingress
                && let Err(error) = set_chain(ingress, &port.spec, wanted.programs)
            {
                tracing::error!(port = port.spec.name, "its XDP programs stay as they are: {error:#}");
            }
        }
    }

    /// Makes room for an installation of `spec`: closes the sockets, and detaches the programs of ports that `spec` does not
    /// have. The others stay attached, by their pins, without sockets. Returns what stays open.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn release(&mut self, spec: &Spec) -> Result<Kept> {
        self.queues.clear();
        let ringed = self.ports.iter().filter(|port| matches!(port.ring, Some(Ok(()))));
        let ringed = ringed.filter_map(|port| port.spec.udp).map(|udp| udp.listen.port());
        self.udps.ringed.extend(ringed);
        let stays = |open: &OpenPort| {
            let same = |port: &Port| (&port.name, &port.netdev) == (&open.spec.name, &open.spec.netdev);
            spec.ports.iter().any(|port| same(port) && port.is_taken() == open.spec.is_taken())
        };
        let (_kept, gone): (Vec<_>, Vec<_>) = self.ports.drain(..).partition(stays);
        drop_programs(gone);
        let mut tuns = Tuns::new();
        for (netdev, queues) in &self.tuns {
            tuns.insert(netdev.clone(), queues.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>()?);
        }
        // A socket that stayed here too would be in the way of one of another address or number.
        let udps = std::mem::take(&mut self.udps);
        Ok(Kept { punt: Some(self.punt.try_clone()?), tuns, udps })
    }

    /// Takes back what was released, because another installation could not be opened.
    pub fn take_back(&mut self, kept: Kept) {
        self.udps = kept.udps;
    }

    /// Closes everything: programs detached, pins removed, sockets closed, netdevs as promiscuous as they were.
    pub fn close(self, paths: &Paths) {
        if let Err(error) = promiscuous::settle(paths, &BTreeSet::new()) {
            tracing::error!("netdevs may be left promiscuous: {error:#}");
        }
        drop_programs(self.ports);
    }
}

/// Puts the operator's programs of a port ahead of ours.
pub(super) fn set_chain(hook: &mut Hook, port: &Port, programs: &Programs) -> Result<()> {
    let Some(ingress) = hook.xdp_mut() else { return Ok(()) };
    for program in ingress.set_chain(programs.on(port))? {
        tracing::info!(port = port.name, program, "an XDP program of the operator's runs");
    }
    Ok(())
}

/// The ports in order of their numbers.
pub(super) fn in_order(spec: &Spec) -> impl Iterator<Item = &Port> {
    let mut ports: Vec<&Port> = spec.ports.iter().collect();
    ports.sort_by_key(|port| port.id);
    ports.into_iter()
}

fn idle(idle: Idle) -> message::Idle {
    match idle {
        Idle::Spin => message::Idle::Spin,
        Idle::Adaptive => message::Idle::Adaptive,
        Idle::Block => message::Idle::Block,
    }
}

/// Undoes what a failed opening attached.
fn drop_new_programs(ports: Vec<OpenPort>) {
    drop_programs(ports.into_iter().filter(|port| !port.inherited).collect());
}

fn drop_programs(ports: Vec<OpenPort>) {
    for port in ports {
        if let Some(ingress) = port.ingress
            && let Err(error) = ingress.detach()
        {
            tracing::error!(port = port.spec.name, %error, "its XDP program could not be detached");
        }
    }
}

/// The socket on which the data plane waits for the next control process.
fn listen(path: &Path) -> Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", path.display()));
        }
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)
        .with_context(|| format!("binding {}", path.display()))?;
    rustix::net::listen(&socket, 4)?;
    Ok(socket)
}
