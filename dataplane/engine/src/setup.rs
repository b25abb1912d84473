//! From the descriptors that control hands over to workers that are ready to run.
//!
//! Owns: everything that was given, kept for the next control process to ask back ([`Given::replay`]). Refuses: messages
//! out of order, workers or ports that do not exist, memory that does not fit. Keeps true: after a predecessor's death,
//! every frame is found again before the first packet is read.

mod error;

pub use error::SetupError;

use crate::endpoint::Endpoint;
use crate::exchange::Mailbox;
use crate::punt::Punt;
use crate::sandbox::Needs;
use crate::worker::{Output, Parts, Queue, Worker};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::thread::{CpuSet, sched_getaffinity};
use std::collections::BTreeMap;
use std::sync::Arc;
use zsync_io::device::Device;
use zsync_io::packet::PacketSocket;
use zsync_io::tun::Tun;
use zsync_io::udp::Udp;
use zsync_io::uring::Shape;
use zsync_io::xsk::{Xsk, XskConfig};
use zsync_packet::flow::HashKey;
use zsync_packet::frame::FrameSize;
use zsync_packet::ledger::ledger_bytes;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;
use zsync_pipelines::compile::{Resources, compile_after};
use zsync_pipelines::snapshot::{PortFacts, Snapshot};
use zsync_pipelines::spec::Spec;
use zsync_pipelines::state::{State, StateSize, needs};
use zsync_pipelines::tables::fib::Fib;
use zsync_protocol::message::{Layout, ToDataplane, TunOffload, VERSION};
use zsync_protocol::ring::RingLayout;
use zsync_protocol::shm::{Access, map, read_sealed};
use zsync_protocol::stats::{StatsLayout, WorkerStats};
use zsync_runtime::Seat;

/// Longest serialised configuration, in bytes: block lists of a million prefixes.
const LONGEST_SNAPSHOT: usize = 256 << 20;

/// Everything that control has given, the newest of each kind.
#[derive(Debug, Default)]
pub struct Given {
    hello: Option<(ToDataplane, Vec<OwnedFd>)>,
    ports: BTreeMap<u16, ToDataplane>,
    queues: Vec<(ToDataplane, OwnedFd)>,
    rings: Vec<ToDataplane>,
    punt: Option<OwnedFd>,
    fibs: BTreeMap<u32, (ToDataplane, OwnedFd, Fib)>,
    states: BTreeMap<String, (ToDataplane, OwnedFd, State)>,
    snapshot: Option<(ToDataplane, OwnedFd, Spec)>,
}

impl Given {
    /// Takes a message about what there is; `running` when the workers run already. Returns the epoch to compile, if the
    /// message changes what workers see.
    ///
    /// # Errors
    /// It is out of order, or what it brings cannot be used; what was there before stays.
    pub fn accept(
        &mut self,
        message: ToDataplane,
        mut fds: Vec<OwnedFd>,
        running: bool,
    ) -> Result<Option<u64>, SetupError> {
        let only_before = |what| match running {
            true => Err(SetupError::Order { what, when: "while the workers run" }),
            false => Ok(()),
        };
        match &message {
            ToDataplane::Hello { version, .. } => {
                only_before("hello")?;
                if *version != VERSION {
                    return Err(SetupError::Version { theirs: *version });
                }
                self.hello = Some((message, fds));
            }
            ToDataplane::Port { id, .. } => {
                self.ports.insert(*id, message);
            }
            ToDataplane::Queue { .. }
            | ToDataplane::Packet { .. }
            | ToDataplane::Tun { .. }
            | ToDataplane::Udp { .. } => {
                only_before("a queue")?;
                self.queues.extend(fds.pop().map(|fd| (message, fd)));
            }
            ToDataplane::Ring { .. } => {
                only_before("a ring")?;
                self.rings.push(message);
            }
            ToDataplane::Punt => {
                only_before("the punt device")?;
                self.punt = fds.pop();
            }
            ToDataplane::Fib { epoch, table, len } => {
                let (epoch, table) = (*epoch, *table);
                let Some(fd) = fds.pop() else { return Ok(None) };
                let region = map(fd.as_fd(), *len as usize, Access::Read)
                    .map_err(|source| SetupError::Memory { what: "the FIB's memory", source })?;
                let fib = Fib::open(region).map_err(|source| SetupError::Fib { table, source })?;
                self.fibs.insert(table, (message, fd, fib));
                return Ok((running && self.snapshot.is_some()).then_some(epoch));
            }
            ToDataplane::State { label, shared, each, len } => {
                let size = StateSize { shared: *shared as usize, each: *each as usize };
                let (label, workers) = (label.clone(), self.layout()?.workers.len());
                let Some(fd) = fds.pop() else { return Ok(None) };
                let region = map(fd.as_fd(), *len as usize, Access::ReadWrite)
                    .map_err(|source| SetupError::Memory { what: "a stage's memory", source })?;
                let state = State::open(region, size, workers)
                    .map_err(|source| SetupError::State { label: label.clone(), source })?;
                if running {
                    state.populate();
                }
                self.states.insert(label, (message, fd, state));
            }
            ToDataplane::Snapshot { epoch, .. } => {
                let epoch = *epoch;
                let Some(fd) = fds.pop() else { return Ok(None) };
                let what = |what: String| SetupError::Snapshot { epoch, what };
                let bytes = read_sealed(fd.as_fd(), LONGEST_SNAPSHOT)
                    .map_err(|source| SetupError::Memory { what: "the configuration", source })?;
                let spec = Spec::from_bytes(&bytes).map_err(|error| what(error.to_string()))?;
                let needed = needs(&spec, self.layout()?.workers.len());
                self.states.retain(|label, _| needed.contains_key(label));
                self.snapshot = Some((message, fd, spec));
                return Ok(running.then_some(epoch));
            }
            ToDataplane::Start
            | ToDataplane::Audit { .. }
            | ToDataplane::Tasks { .. }
            | ToDataplane::Replay
            | ToDataplane::Stop => {
                return Err(SetupError::Order { what: "an order", when: "where a description was expected" });
            }
        }
        Ok(None)
    }

    /// What the process is made of.
    ///
    /// # Errors
    /// Control has not said yet.
    pub fn layout(&self) -> Result<&Layout, SetupError> {
        match &self.hello {
            Some((ToDataplane::Hello { layout, .. }, _)) => Ok(layout),
            _ => Err(SetupError::Order { what: "an order", when: "before hello" }),
        }
    }

    /// The socket on which the next control process knocks.
    pub fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.hello.as_ref()?.1.get(3).map(AsFd::as_fd)
    }

    /// Everything, as messages with their descriptors, in an order in which [`Self::accept`] takes them.
    pub fn replay(&self) -> impl Iterator<Item = (&ToDataplane, Vec<BorrowedFd<'_>>)> {
        let hello = self.hello.iter().map(|(m, fds)| (m, fds.iter().map(AsFd::as_fd).collect()));
        let ports = self.ports.values().map(|m| (m, Vec::new()));
        let queues = self.queues.iter().map(|(m, fd)| (m, vec![fd.as_fd()]));
        let rings = self.rings.iter().map(|m| (m, Vec::new()));
        let punt = self.punt.iter().map(|fd| (&ToDataplane::Punt, vec![fd.as_fd()]));
        let fibs = self.fibs.values().map(|(m, fd, _)| (m, vec![fd.as_fd()]));
        let states = self.states.values().map(|(m, fd, _)| (m, vec![fd.as_fd()]));
        let snapshot = self.snapshot.iter().map(|(m, fd, _)| (m, vec![fd.as_fd()]));
        hello.chain(ports).chain(queues).chain(rings).chain(punt).chain(fibs).chain(states).chain(snapshot)
    }

    /// Compiles the configuration as `epoch`, which follows the snapshot `before` and shares with it what it can.
    ///
    /// # Errors
    /// There is none, or it does not fit what else was given.
    pub fn compile(&self, epoch: u64, before: Option<&Snapshot>) -> Result<Snapshot, SetupError> {
        let Some((_, _, spec)) = &self.snapshot else { return Ok(Snapshot::empty()) };
        let mut ports = vec![PortFacts::default(); spec.ports.len()];
        let of_host = |port| {
            self.queues
                .iter()
                .any(|(message, _)| matches!(message, ToDataplane::Tun { port: of, .. } if *of == port))
        };
        for message in self.ports.values() {
            if let ToDataplane::Port { id, mac, mtu, partial_checksums, v4, v6, .. } = message
                && let Some(port) = ports.get_mut(usize::from(*id))
            {
                *port = PortFacts {
                    mac: *mac,
                    mtu: *mtu,
                    v4: *v4,
                    v6: *v6,
                    complete_checksums: *partial_checksums,
                    of_host: of_host(*id),
                };
            }
        }
        let fibs = self.fibs.iter().map(|(table, (_, _, fib))| (*table, fib.clone())).collect();
        let states =
            self.states.iter().map(|(label, (_, _, state))| (label.clone(), state.clone())).collect();
        let workers = self.layout()?.workers.len();
        let [a, b] = self.layout()?.secret;
        let mut secret = [0; 64];
        secret[..32].copy_from_slice(&a);
        secret[32..].copy_from_slice(&b);
        let resources = Resources { ports, fibs, hash_key: HashKey::from_bytes(&secret), workers, states };
        compile_after(spec, epoch, &resources, before)
            .map_err(|error| SetupError::Snapshot { epoch, what: error.to_string() })
    }

    /// Gives a queue's device its ring, if it has one. Each is given out once.
    ///
    /// # Errors
    /// There is none, or not as control said; the device goes without.
    fn ring(&self, of: u16, number: u16, udp: &mut Udp) -> Result<(), SetupError> {
        for message in &self.rings {
            if let ToDataplane::Ring { port, queue, fd, layout } = message
                && (*port, *queue) == (of, number)
            {
                let RingLayout { submissions, completions, buffers, submission, completion } = *layout;
                let shape = Shape { submissions, completions, buffers, submission, completion };
                return Ok(udp.go_by(inherited(*fd)?, shape)?);
            }
        }
        Ok(())
    }

    /// Touches every page of what stages keep, so that no worker has to wait for one.
    pub fn populate(&self) {
        self.states.values().for_each(|(_, _, state)| state.populate());
    }

    /// The epoch of the newest thing that was given.
    pub fn epoch(&self) -> u64 {
        let fibs = self.fibs.values().map(|(message, _, _)| message);
        let snapshot = self.snapshot.iter().map(|(message, _, _)| message);
        fibs.chain(snapshot)
            .map(|message| match message {
                ToDataplane::Fib { epoch, .. } | ToDataplane::Snapshot { epoch, .. } => *epoch,
                _ => 0,
            })
            .max()
            .unwrap_or(0)
    }
}

/// A worker, and what its thread needs besides.
pub struct Ready {
    /// The worker.
    pub worker: Worker<Endpoint>,
    /// For the executor of its tasks, whose bell wakes it.
    pub seat: Seat,
    /// The CPU to pin it to.
    pub core: Option<u32>,
    /// What its queues take besides.
    pub needs: Needs,
}

/// The workers, and what leads to them.
pub struct Engine {
    /// By number.
    pub workers: Vec<Ready>,
    /// By number.
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// Every descriptor that they hold, which the sandbox must leave open.
    pub descriptors: Vec<RawFd>,
    /// What the workers begin with, as it was compiled.
    pub snapshot: Snapshot,
    /// Where the process may run and no worker does; none where there is no such core.
    pub spare: Option<CpuSet>,
}

/// Maps the memory and the rings, finds the frames that a predecessor left, and makes the workers.
///
/// # Errors
/// Anything that was given cannot be used.
pub fn build(given: &Given) -> Result<Engine, SetupError> {
    let layout = given.layout()?;
    let memory = |place: usize, what, len| {
        let fd = given.hello.as_ref().and_then(|(_, fds)| fds.get(place));
        let fd = fd.ok_or(SetupError::Order { what, when: "without its descriptor" })?;
        map(fd.as_fd(), len, Access::ReadWrite).map_err(|source| SetupError::Memory { what, source })
    };
    let size =
        FrameSize::from_bytes(layout.frame_size).ok_or(SetupError::FrameSize { bytes: layout.frame_size })?;
    let arena = memory(0, "packet memory", layout.frames as usize * size.bytes())?;
    let ledger = memory(1, "the ledger's memory", ledger_bytes(layout.frames))?;
    let stats = memory(2, "the counters' memory", StatsLayout::bytes(layout.workers.len()))?;
    // SAFETY: control gives this memory to one data plane at a time: it starts the next one when the last has ended.
    let mut pools =
        unsafe { Pool::open(arena, ledger, size, layout.frames, layout.workers.len(), layout.takeover)? };
    let mut queues = open_queues(given, &mut pools, layout.takeover)?;
    let recovered = if layout.takeover { Pool::recover(&mut pools) } else { Vec::new() };

    let seats = (0..pools.len()).map(|_| Seat::new()).collect::<Result<Vec<_>, _>>()?;
    let mailboxes: Vec<_> = seats.iter().map(|seat| Mailbox::new(seat.remote().bell())).collect();
    let bells = seats.iter().filter_map(|seat| seat.remote().bell().descriptor().ok());
    let mut descriptors: Vec<RawFd> = bells.map(|bell| bell.as_raw_fd()).collect();
    let sockets: Arc<[PortId]> = given
        .queues
        .iter()
        .filter_map(|(message, _)| match message {
            ToDataplane::Udp { port, .. } => Some(PortId(*port)),
            _ => None,
        })
        .collect();
    let punt = match &given.punt {
        Some(tun) => {
            let own = rustix::io::fcntl_dupfd_cloexec(tun, 3)
                .map_err(|errno| SetupError::System { what: "duplicating the punt device", errno })?;
            descriptors.push(own.as_raw_fd());
            Some(Arc::new(own))
        }
        None => None,
    };
    let owners: Vec<Option<u8>> = (0..64).map(|port| owner_of(&queues, PortId(port))).collect();
    let snapshot = given.compile(given.epoch(), None)?;
    let (mut workers, mut ready) = (Vec::new(), Vec::new());
    for (number, (pool, seat)) in pools.into_iter().zip(seats).enumerate() {
        let queues = std::mem::take(&mut queues[number]);
        for queue in &queues {
            if let Some(socket) = queue.device.waitable() {
                descriptors.push(socket.as_raw_fd());
            }
            if let Endpoint::Udp(udp) = &queue.device {
                descriptors.extend(udp.ring().map(|ring| ring.as_raw_fd()));
            }
        }
        let outputs = (0..64)
            .map(|port| {
                let own = queues.iter().position(|queue| queue.port == PortId(port));
                match (own, owners[usize::from(port)]) {
                    (Some(queue), _) => Output::Own(queue),
                    (None, Some(worker)) => Output::Peer(worker),
                    (None, None) => Output::Nowhere,
                }
            })
            .collect();
        let any = |is: fn(&Endpoint) -> bool| queues.iter().any(|queue| is(&queue.device));
        let needs = Needs {
            messages: any(|device| matches!(device, Endpoint::Udp(_))),
            bursts: any(|device| matches!(device, Endpoint::Packet(_))),
            rings: any(|device| matches!(device, Endpoint::Udp(udp) if udp.ring().is_some())),
        };
        let parts = Parts {
            pool,
            queues,
            outputs,
            mailbox: Arc::clone(&mailboxes[number]),
            peers: mailboxes.clone(),
            stats: WorkerStats::open(&stats, number)?,
            punt: punt.clone().map(|tun| Punt::new(tun, Arc::clone(&sockets))),
        };
        let mut snapshot = Box::new(snapshot.clone());
        snapshot.assign(number);
        let mut worker = Worker::new(parts, snapshot);
        if let Some(recovered) = recovered.get(number) {
            worker.note_reclaimed(recovered.freed);
        }
        ready.push((seat, layout.workers[number].core, needs));
        workers.push(worker);
    }
    if layout.takeover {
        Worker::settle(&mut workers);
    }
    let ready = workers.into_iter().zip(ready);
    let workers = ready.map(|(worker, (seat, core, needs))| Ready { worker, seat, core, needs }).collect();
    Ok(Engine { workers, mailboxes, descriptors, snapshot, spare: spare_cores(layout) })
}

fn spare_cores(layout: &Layout) -> Option<CpuSet> {
    let mut cores = sched_getaffinity(None).ok()?;
    for core in layout.workers.iter().filter_map(|worker| worker.core) {
        if (core as usize) < CpuSet::MAX_CPU {
            cores.unset(core as usize);
        }
    }
    (cores.count() > 0).then_some(cores)
}

/// The first worker that has a queue of the port.
fn owner_of(queues: &[Vec<Queue<Endpoint>>], port: PortId) -> Option<u8> {
    queues.iter().position(|own| own.iter().any(|queue| queue.port == port)).map(|worker| worker as u8)
}

/// A descriptor that control says the process was born with, and nobody has yet.
fn inherited(number: RawFd) -> Result<OwnedFd, SetupError> {
    let failed = |errno| SetupError::System { what: "taking a ring that was inherited", errno };
    // Those below are the standard ones, and none at all.
    if number < 3 {
        return Err(failed(Errno::BADF));
    }
    // SAFETY: it is used for this one call, which says so if there is none of that number.
    fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC).map_err(failed)?;
    // SAFETY: it is open, and as control says, nobody's: it names each ring once, and it is not the one that messages come by.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn duplicate(fd: impl AsFd) -> Result<OwnedFd, SetupError> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
        .map_err(|errno| SetupError::System { what: "duplicating a port's descriptor", errno })
}

/// Opens every socket at its worker.
fn open_queues(
    given: &Given,
    pools: &mut [Pool],
    takeover: bool,
) -> Result<Vec<Vec<Queue<Endpoint>>>, SetupError> {
    let mut queues: Vec<Vec<Queue<Endpoint>>> = pools.iter().map(|_| Vec::new()).collect();
    for (number, (message, fd)) in given.queues.iter().enumerate() {
        let (ToDataplane::Queue { port, queue, worker, .. }
        | ToDataplane::Packet { port, queue, worker }
        | ToDataplane::Tun { port, queue, worker, .. }
        | ToDataplane::Udp { port, queue, worker, .. }) = *message
        else {
            continue;
        };
        let (Some(pool), Some(facts)) = (pools.get_mut(usize::from(worker)), given.ports.get(&port)) else {
            return Err(SetupError::Queue { port, queue, worker });
        };
        let fd = duplicate(fd)?;
        let device = match (message, facts) {
            (&ToDataplane::Queue { rx, tx, fill, completion, busy_poll, .. }, _) => {
                let mark = number * 2;
                let config = XskConfig { port: PortId(port), rx, tx, fill, completion, mark, busy_poll };
                let mut device = Xsk::open(fd, config)?;
                if takeover {
                    device.recover(pool)?;
                }
                Endpoint::Xsk(device)
            }
            (ToDataplane::Packet { .. }, _) => Endpoint::Packet(PacketSocket::new(fd, PortId(port))),
            (&ToDataplane::Udp { local, .. }, ToDataplane::Port { mac, .. }) => {
                let mut udp = Udp::new(fd, local, PortId(port), *mac);
                if let Err(error) = given.ring(port, queue, &mut udp) {
                    crate::log!("port {port}, queue {queue}: goes by system calls, not by io_uring: {error}");
                }
                Endpoint::Udp(udp)
            }
            (&ToDataplane::Tun { offload, frames, .. }, ToDataplane::Port { mac, mtu, .. }) => {
                let (port, mtu) = (PortId(port), u16::try_from(*mtu).unwrap_or(u16::MAX));
                let tun = match offload {
                    TunOffload::None => Tun::new(fd, port, *mac, mtu),
                    TunOffload::Tcp => Tun::with_header(fd, port, *mac, mtu, false),
                    TunOffload::TcpUdp => Tun::with_header(fd, port, *mac, mtu, true),
                };
                Endpoint::Tun(if frames { tun.of_frames() } else { tun })
            }
            _ => return Err(SetupError::Queue { port, queue, worker }),
        };
        queues[usize::from(worker)].push(Queue::new(device, PortId(port)));
    }
    Ok(queues)
}
