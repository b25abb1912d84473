//! Everything that is opened for the data plane: memory, sockets, programs, devices.
//!
//! Owns the descriptors; the data plane gets copies. What is here outlives a data plane, and is what its successor carries
//! on with. [`Installation::open`] makes it all from a configuration, or nothing; [`Installation::adopt`] gets it back from
//! a data plane that outlived the control process before this one.

use super::placement;
use super::ports::{check_ports, frames_for, open_port, plan_queues, served_queues, steering};
use super::sockets::{Copying, SharedMemory};
use super::tun::{self, Tuns};
use crate::netlink::check_port;
use crate::programs::Programs;
use crate::raw;
use crate::xdp::{Ingress, Mode as XdpMode, attached_program};
use anyhow::{Context as _, Result, anyhow};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use zsync_packet::frame::FrameSize;
use zsync_packet::ledger::{home_slice, ledger_bytes};
use zsync_pipelines::snapshot::PortFacts;
use zsync_pipelines::spec::{HugePages, Idle, Port, Spec, StageSpec};
use zsync_protocol::message::{self, Layout, ToDataplane, VERSION, WorkerPlan};
use zsync_protocol::shm::{Access, Huge, Memory, map};
use zsync_protocol::stats::{StatsLayout, WorkerStats};

/// Bytes that Ethernet and two VLAN tags take of a frame besides the MTU's.
const LINK_HEADERS: u32 = 14 + 2 * 4;

/// The device by which punted packets reach the kernel.
const PUNT: &str = "zsync-punt";

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

/// A configured port, open.
#[derive(Debug)]
pub struct OpenPort {
    /// Number and settings.
    pub spec: Port,
    /// Index of its netdev.
    pub ifindex: u32,
    /// Its address.
    pub mac: [u8; 6],
    /// Its MTU.
    pub mtu: u32,
    /// The IPv4 address that packets of its own come from.
    pub v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub v6: Option<Ipv6Addr>,
    /// Its driver's kind: "veth", …
    pub kind: Option<String>,
    /// The program; a TUN device has none.
    pub ingress: Option<Ingress>,
    /// Its program was attached before this installation: if that cannot be opened, the program stays.
    pub(super) inherited: bool,
    /// Where the program runs.
    pub xdp: XdpMode,
    /// How its sockets are bound.
    pub copying: Copying,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// A queue of a port, and its socket.
#[derive(Debug)]
pub struct OpenQueue {
    /// What the data plane is told of it.
    pub message: ToDataplane,
    /// Its port's number.
    pub port: u16,
    /// The NIC queue.
    pub queue: u32,
    /// Its worker.
    pub worker: u8,
    /// The socket.
    pub socket: OwnedFd,
}

/// A configuration that is to be opened, and the operator's programs that it names.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'c> {
    /// The configuration.
    pub spec: &'c Spec,
    /// Its programs.
    pub programs: &'c Programs,
}

/// What stays open while the rest is opened anew: the kernel's routes go by it.
#[derive(Debug)]
pub struct Kept {
    punt: OwnedFd,
    tuns: Tuns,
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
    /// The TUN devices that are ports.
    tuns: Tuns,
    /// What packet memory lies on.
    pub pages: String,
}

impl Installation {
    /// Whether `spec` can be opened, as far as can be told without opening anything.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn check(wanted: Wanted<'_>, running: &Programs, paths: &Paths) -> Result<()> {
        let Wanted { spec, programs } = wanted;
        let size = FrameSize::from_bytes(spec.engine.frame_size)
            .ok_or_else(|| anyhow!("frames of {} bytes", spec.engine.frame_size))?;
        check_ports(spec, paths, size.longest_packet() as u32 - LINK_HEADERS)?;
        let queues: Vec<u32> = in_order(spec).map(served_queues).collect::<Result<_>>()?;
        let most = queues.iter().copied().max().unwrap_or(1);
        let workers = placement::place(&spec.engine.workers, most, None, &placement::cores()).len();
        frames_for(spec, &plan_queues(spec, &queues, workers), workers)?;
        Ok(programs.verify(running, &paths.scratch())?)
    }

    /// Opens everything that `spec` asks for. On error everything is as it was before. `kept` is what is
    /// open already.
    ///
    /// # Errors
    /// All ports that cannot be opened, each with the reason and the remedy.
    pub fn open(
        wanted: Wanted<'_>,
        paths: &Paths,
        identity: (u32, u32),
        secret: [[u8; 32]; 2],
        kept: Option<Kept>,
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

        let (punt, mut open_tuns) = kept.map_or_else(Default::default, |kept| (Some(kept.punt), kept.tuns));
        let mut tuns = Tuns::new();
        let mut ports = Vec::new();
        let mut open_queues = Vec::new();
        let mut free: Vec<u32> = (0..workers).map(|w| home_slice(frames, workers, w).start).collect();
        for ((port, check), plans) in in_order(spec).zip(&checked).zip(&plans) {
            let opened = match &port.tun {
                Some(spec) => {
                    tun::open(port, spec, plans, open_tuns.remove(&port.netdev)).map(|(open, queues, fds)| {
                        tuns.insert(port.netdev.clone(), fds);
                        (open, queues)
                    })
                }
                None => open_port(wanted, port, check, plans, paths, &shared, &mut free),
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
        let punt = match punt.map_or_else(open_punt, Ok) {
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
        Ok(Self {
            layout,
            pages: arena.pages.to_string(),
            memory: [arena.fd, ledger.fd, stats.fd, listener],
            stats: readers,
            ports,
            queues: open_queues,
            punt,
            tuns,
        })
    }

    /// Takes back what a running data plane was given, from its own mouth, and the programs from their pins.
    ///
    /// # Errors
    /// Something is missing or does not fit; the data plane then goes on, and somebody has to look.
    pub fn adopt(spec: &Spec, paths: &Paths, given: Vec<(ToDataplane, Vec<OwnedFd>)>) -> Result<Self> {
        let (mut layout, mut memory, mut punt) = (None, None, None);
        let (mut facts, mut queues, mut tuns) = (Vec::new(), Vec::new(), Tuns::new());
        for (message, mut fds) in given {
            match message {
                ToDataplane::Hello { layout: had, .. } => {
                    let four: [OwnedFd; 4] =
                        fds.try_into().map_err(|_| anyhow!("the data plane did not return its memory"))?;
                    (layout, memory) = (Some(had), Some(four));
                }
                ToDataplane::Port { id, ifindex, mac, mtu, v4, v6, .. } => {
                    facts.push((id, ifindex, mac, mtu, v4, v6));
                }
                ToDataplane::Queue { port, queue, worker, .. } => {
                    let socket = fds.pop().ok_or_else(|| anyhow!("a queue came without its socket"))?;
                    let queue = u32::from(queue);
                    queues.push(OpenQueue { message, port, queue, worker, socket });
                }
                ToDataplane::Tun { port, queue, worker } => {
                    let socket = fds.pop().ok_or_else(|| anyhow!("a TUN device came without its queue"))?;
                    let own = in_order(spec).find(|of| of.id.0 == port && of.tun.is_some());
                    let netdev = own.map(|port| port.netdev.clone());
                    let netdev = netdev.ok_or_else(|| anyhow!("port {port} is no TUN device"))?;
                    tuns.entry(netdev).or_default().push(socket.try_clone()?);
                    queues.push(OpenQueue { message, port, queue: queue.into(), worker, socket });
                }
                ToDataplane::Punt => punt = fds.pop(),
                _ => {}
            }
        }
        let layout = layout.ok_or_else(|| anyhow!("the data plane did not say what it is made of"))?;
        let memory = memory.ok_or_else(|| anyhow!("the data plane did not return its memory"))?;
        let punt = punt.ok_or_else(|| anyhow!("the data plane did not return the punt device"))?;
        let workers = layout.workers.len();
        let region = map(memory[2].as_fd(), StatsLayout::bytes(workers), Access::ReadWrite)?;
        let stats = (0..workers).map(|w| WorkerStats::open(&region, w)).collect::<Result<_, _>>()?;
        let mut ports = Vec::new();
        for port in in_order(spec) {
            let (_, ifindex, mac, mtu, v4, v6) = facts
                .iter()
                .find(|(id, ..)| *id == port.id.0)
                .ok_or_else(|| anyhow!("the data plane has no port {}", port.name))?;
            if port.tun.is_some() {
                ports.push(OpenPort { v4: *v4, v6: *v6, ..tun::opened(port, *ifindex, *mtu) });
                continue;
            }
            let mut ingress = Ingress::adopt(&paths.pins(&port.name), *ifindex)?;
            if let Err(error) = ingress.upgrade() {
                tracing::warn!(port = port.name, %error, "the running XDP program stays: this build's was refused");
            }
            let xdp = attached_program(*ifindex)?.map_or(XdpMode::Native, |program| program.mode);
            let copying = match queues.iter().find(|q| q.port == port.id.0).map(|q| &q.message) {
                Some(ToDataplane::Queue { zero_copy: true, .. }) => Copying::ZeroCopy,
                _ => Copying::Copy,
            };
            let kind = check_port(&port.netdev, None, |_| true).ok().and_then(|check| check.link.kind);
            ports.push(OpenPort {
                spec: port.clone(),
                ifindex: *ifindex,
                mac: *mac,
                mtu: *mtu,
                v4: *v4,
                v6: *v6,
                kind,
                ingress: Some(ingress),
                inherited: true,
                xdp,
                copying,
                warnings: Vec::new(),
            });
        }
        Ok(Self { layout, memory, stats, ports, queues, punt, tuns, pages: "as before".to_owned() })
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
    /// A list that does not fit its map.
    pub fn apply_live(&mut self, wanted: Wanted<'_>) -> Result<()> {
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
        Ok(())
    }

    /// Finishes what a control process that died may have left half done: the programs of the configuration in force.
    pub fn finish_chains(&mut self, programs: &Programs) {
        for port in &mut self.ports {
            if let Some(ingress) = &mut port.ingress
                && let Err(error) = set_chain(ingress, &port.spec, programs)
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
        let stays = |open: &OpenPort| {
            let same = |port: &Port| (&port.name, &port.netdev) == (&open.spec.name, &open.spec.netdev);
            spec.ports.iter().any(|port| same(port) && port.tun.is_some() == open.spec.tun.is_some())
        };
        let (_kept, gone): (Vec<_>, Vec<_>) = self.ports.drain(..).partition(stays);
        drop_programs(gone);
        let mut tuns = Tuns::new();
        for (netdev, queues) in &self.tuns {
            tuns.insert(netdev.clone(), queues.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>()?);
        }
        Ok(Kept { punt: self.punt.try_clone()?, tuns })
    }

    /// Closes everything: programs detached, pins removed, sockets closed.
    pub fn close(self) {
        drop_programs(self.ports);
    }
}

impl OpenPort {
    /// What its stages know of it.
    pub fn facts(&self) -> PortFacts {
        PortFacts {
            mac: self.mac,
            mtu: self.mtu,
            v4: self.v4,
            v6: self.v6,
            complete_checksums: self.kind.as_deref() == Some("veth"),
            of_host: self.spec.tun.is_some(),
        }
    }

    /// What the data plane is told of it.
    pub fn message(&self) -> ToDataplane {
        ToDataplane::Port {
            id: self.spec.id.0,
            name: self.spec.netdev.clone(),
            ifindex: self.ifindex,
            mac: self.mac,
            mtu: self.mtu,
            v4: self.v4,
            v6: self.v6,
            partial_checksums: self.kind.as_deref() == Some("veth"),
        }
    }
}

/// Puts the operator's programs of a port ahead of ours.
pub(super) fn set_chain(ingress: &mut Ingress, port: &Port, programs: &Programs) -> Result<()> {
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

/// The way to the kernel: up, and with source checks that let packets from everywhere pass.
///
/// The kernel checks sources by the stricter of the device's `rp_filter` and that of `all`. Where `all` is off, the device's
/// is turned off. Where it is on, loose checks are all that can be had, and they need an address on the device
/// (`__fib_validate_source`, net/ipv4/fib_frontend.c): it gets the dummy address of RFC 7600.
fn open_punt() -> Result<OwnedFd> {
    let tun = raw::open_tun(PUNT).map_err(|errno| {
        anyhow!("opening the TUN device {PUNT} for packets to the kernel: {errno} (is /dev/net/tun there?)")
    })?;
    let strict = std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter")
        .is_ok_and(|value| value.trim() != "0");
    if strict {
        raw::set_address(PUNT, Ipv4Addr::new(192, 0, 0, 8))
            .with_context(|| format!("giving {PUNT} an address"))?;
    }
    raw::set_up(PUNT).with_context(|| format!("bringing {PUNT} up"))?;
    let sysctl = format!("/proc/sys/net/ipv4/conf/{PUNT}/rp_filter");
    if let Err(error) = std::fs::write(&sysctl, if strict { "2" } else { "0" }) {
        tracing::warn!(%error, "could not set {sysctl}: the kernel may drop punted packets");
    }
    Ok(tun)
}

/// Lets the kernel take punted packets that come from an address of this host, if a `nat` stage or a tunnel of WireGuard gives
/// them one, or the host itself sends by a port: its first packet to a neighbour that is not known yet is the kernel's to forward, which otherwise drops it as a forgery
/// (`fib_validate_source`, net/ipv4/fib_frontend.c; there is no such check for IPv6).
fn admit_own_sources(spec: &Spec) {
    let stages = spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let ours = |spec: &StageSpec| matches!(spec, StageSpec::Nat(_) | StageSpec::WireguardSeal(_));
    let own =
        stages.into_iter().any(|stage| ours(&stage.spec)) || spec.ports.iter().any(|port| port.tun.is_some());
    let sysctl = format!("/proc/sys/net/ipv4/conf/{PUNT}/accept_local");
    if let Err(error) = std::fs::write(&sysctl, if own { "1" } else { "0" }) {
        tracing::warn!(%error, "could not set {sysctl}: the kernel may drop packets of our own");
    }
}
