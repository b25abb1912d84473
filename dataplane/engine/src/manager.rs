//! The data plane's main thread: talks to control, starts the workers, hands them snapshots.
//!
//! Owns: the channel to control, the listening socket on which a new control process knocks, what was given. Refuses:
//! knocks by another user, messages that are unknown, too large or out of order (the channel is closed, the workers go
//! on). Keeps true: that control is gone changes nothing for a packet.

use crate::exchange::{Answer, Mailbox, Order};
use crate::runner::Runner;
use crate::sandbox::{Report, worker_filter};
use crate::setup::{Engine, Given, Ready, SetupError};
use crate::told;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::net::{SocketFlags, accept_with};
use rustix::thread::sched_setaffinity;
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use zsync_pipelines::snapshot::Snapshot;
use zsync_protocol::fd::{Channel, ChannelError, peer_credentials};
use zsync_protocol::message::{FromDataplane, Idle, MAX_MESSAGE, ToDataplane, WorkerAudit, decode, encode};

/// How long the manager sleeps while workers owe it an answer: they answer at their next housekeeping, or when woken.
const WHILE_WAITING: Duration = Duration::from_micros(200);

/// Monotonic nanoseconds.
pub fn clock() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// See the module.
pub struct Manager {
    given: Given,
    control: Option<Channel>,
    /// The user that control runs as: no other may knock.
    owner: u32,
    mailboxes: Vec<Arc<Mailbox>>,
    threads: Vec<JoinHandle<()>>,
    /// What was compiled last: the next one shares with it what it can.
    snapshot: Snapshot,
    /// Questions that the workers have not all answered, oldest first.
    pending: VecDeque<Pending>,
    buffer: Vec<u8>,
    stopping: bool,
}

enum Pending {
    /// `missing`: a bit for each worker that has not answered.
    Adopt {
        epoch: u64,
        missing: u32,
    },
    Audit {
        id: u32,
        workers: Vec<Option<WorkerAudit>>,
    },
    Tasks {
        id: u32,
        missing: u32,
    },
    Drain {
        missing: u32,
    },
    Stop {
        missing: u32,
    },
}

impl Manager {
    /// Starts the workers. In the sandbox already.
    ///
    /// # Errors
    /// A thread cannot be made.
    pub fn start(given: Given, control: Channel, owner: u32, engine: Engine) -> Result<Self, SetupError> {
        let idle = given.layout()?.idle;
        let mut threads = Vec::new();
        for (number, ready) in engine.workers.into_iter().enumerate() {
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || work(number, ready, idle))
                .map_err(|error| SetupError::System {
                    what: "starting a worker's thread",
                    errno: rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::AGAIN),
                })?;
            threads.push(thread);
        }
        // A big configuration takes long to compile: not a worker's time, where there is other.
        if let Some(spare) = &engine.spare {
            let _ = sched_setaffinity(None, spare);
        }
        Ok(Self {
            given,
            control: Some(control),
            owner,
            mailboxes: engine.mailboxes,
            threads,
            snapshot: engine.snapshot,
            pending: VecDeque::new(),
            buffer: Vec::with_capacity(MAX_MESSAGE),
            stopping: false,
        })
    }

    /// Serves control until it says stop. What the sandbox reports is logged once packets flow: they do not wait for a disk.
    pub fn run(mut self, sandbox: &Report) {
        self.say(&FromDataplane::Started, &[]);
        log!("zsync-dataplane: {sandbox}");
        self.given.populate();
        while !self.stopping {
            self.wait();
            self.collect();
            self.listen();
            self.hear();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.say(&FromDataplane::Stopped, &[]);
    }

    fn wait(&self) {
        let mut fds = Vec::with_capacity(2);
        if let Some(control) = &self.control {
            fds.push(PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN));
        }
        if let Some(listener) = self.given.listener() {
            fds.push(PollFd::from_borrowed_fd(listener, PollFlags::IN));
        }
        let limit = if self.pending.is_empty() { Duration::from_secs(1) } else { WHILE_WAITING };
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        let _ = poll(&mut fds, Some(&limit));
    }

    /// Takes a knock: the newest control process is the one to talk to.
    fn listen(&mut self) {
        let Some(listener) = self.given.listener() else { return };
        let Ok(socket) = accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else { return };
        match peer_credentials(socket.as_fd()) {
            Ok(peer) if peer.uid == self.owner => {
                if let Ok(channel) = Channel::from_fd(socket)
                    && channel.set_nonblocking(false).is_ok()
                {
                    log!("zsync-dataplane: control process {} took over", peer.pid);
                    self.control = Some(channel);
                    self.say(&FromDataplane::Ready { pid: std::process::id(), sandboxed: true }, &[]);
                }
            }
            Ok(peer) => log!("zsync-dataplane: refused a knock by user {} (pid {})", peer.uid, peer.pid),
            Err(error) => log!("zsync-dataplane: refused a knock: {error}"),
        }
    }

    /// One message from control, if there is one.
    fn hear(&mut self) {
        let Some(control) = &self.control else { return };
        let mut fds = [PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN)];
        if !matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1)) {
            return;
        }
        let mut buffer = [0; MAX_MESSAGE];
        let received = match control.recv(&mut buffer) {
            Ok(received) => received,
            Err(ChannelError::WouldBlock) => return,
            Err(ChannelError::Closed) => {
                log!("zsync-dataplane: control is gone; packets go on");
                self.control = None;
                return;
            }
            Err(error) => return self.hang_up(&error.to_string()),
        };
        match decode::<ToDataplane>(&buffer[..received.len], received.fds.len()) {
            Ok(message) => self.obey(message, received.fds),
            Err(error) => self.hang_up(&error.to_string()),
        }
    }

    fn obey(&mut self, message: ToDataplane, fds: Vec<rustix::fd::OwnedFd>) {
        match message {
            ToDataplane::Audit { id } => {
                self.pending.push_back(Pending::Audit { id, workers: vec![None; self.mailboxes.len()] });
                self.order_all(|_| Order::Audit);
            }
            ToDataplane::Tasks { id } => {
                self.pending.push_back(Pending::Tasks { id, missing: self.everybody() });
                self.order_all(|_| Order::Tasks);
            }
            ToDataplane::Replay => self.replay(),
            ToDataplane::Stop
                if self.pending.iter().any(|p| matches!(p, Pending::Drain { .. } | Pending::Stop { .. })) => {
            }
            ToDataplane::Stop => {
                self.pending.push_back(Pending::Drain { missing: self.everybody() });
                self.order_all(|_| Order::Drain);
            }
            // From an adopting control process, which finds the workers running.
            ToDataplane::Start => self.say(&FromDataplane::Started, &[]),
            description => match self.given.accept(description, fds, true) {
                Ok(None) => {}
                Ok(Some(epoch)) => self.adopt(epoch),
                Err(error) => self.say(&FromDataplane::failed(error), &[]),
            },
        }
    }

    /// Compiles what was given and hands every worker its copy.
    fn adopt(&mut self, epoch: u64) {
        match self.given.compile(epoch, Some(&self.snapshot)) {
            Ok(snapshot) => {
                self.pending.push_back(Pending::Adopt { epoch, missing: self.everybody() });
                self.order_all(|worker| {
                    let mut snapshot = Box::new(snapshot.clone());
                    snapshot.assign(worker);
                    Order::Adopt(snapshot)
                });
                self.snapshot = snapshot;
            }
            Err(error) => self.say(&FromDataplane::failed(error), &[]),
        }
    }

    /// A bit for each worker.
    fn everybody(&self) -> u32 {
        u32::MAX >> (32 - self.mailboxes.len().clamp(1, 32))
    }

    fn order_all(&self, order: impl Fn(usize) -> Order) {
        for (worker, mailbox) in self.mailboxes.iter().enumerate() {
            let mut order = order(worker);
            // A worker takes its orders every 100 µs or when woken; only a dead one does not, and then the process dies.
            while let Err(refused) = mailbox.order(order) {
                order = refused;
                std::thread::sleep(WHILE_WAITING);
            }
        }
    }

    /// Takes the workers' answers; they come in the order of the questions.
    fn collect(&mut self) {
        let mut told = Vec::new();
        for (number, mailbox) in self.mailboxes.iter().enumerate() {
            while let Some(answer) = mailbox.answers.pop() {
                if let Answer::Tasks(dump) = &answer
                    && let Some(id) = self.pending.iter().find_map(|pending| pending.asks_tasks_of(number))
                {
                    told.extend(told::parts(id, number, dump));
                }
                settle(&mut self.pending, number, answer);
            }
        }
        told.iter().for_each(|part| self.say(part, &[]));
        while let Some(done) = self.pending.front().and_then(Pending::settled) {
            match self.pending.pop_front() {
                // Now no worker hands packets to another: none is left in a mailbox by whoever stops first.
                Some(Pending::Drain { .. }) => {
                    self.pending.push_back(Pending::Stop { missing: self.everybody() });
                    self.order_all(|_| Order::Stop);
                }
                Some(Pending::Stop { .. }) => {
                    self.stopping = true;
                    return;
                }
                _ => self.say(&done, &[]),
            }
        }
    }

    fn replay(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut failed = None;
        if let Some(control) = &self.control {
            for (message, fds) in self.given.replay() {
                let sent = encode(&FromDataplane::Replayed(message.clone()), &mut buffer)
                    .map_err(|error| error.to_string())
                    .and_then(|()| control.send(&buffer, &fds).map_err(|error| error.to_string()));
                if let Err(error) = sent {
                    failed = Some(error);
                    break;
                }
            }
        }
        self.buffer = buffer;
        match failed {
            Some(error) => self.hang_up(&error),
            None => self.say(&FromDataplane::ReplayEnd, &[]),
        }
    }

    fn say(&mut self, message: &FromDataplane, fds: &[rustix::fd::BorrowedFd<'_>]) {
        let Some(control) = &self.control else { return };
        let sent = encode(message, &mut self.buffer)
            .map_err(|error| error.to_string())
            .and_then(|()| control.send(&self.buffer, fds).map_err(|error| error.to_string()));
        if let Err(error) = sent {
            self.hang_up(&error);
        }
    }

    fn hang_up(&mut self, why: &str) {
        log!("zsync-dataplane: the channel to control is closed: {why}");
        self.control = None;
    }
}

fn settle(pending: &mut VecDeque<Pending>, worker: usize, answer: Answer) {
    match answer {
        Answer::Retired(_) => tick_off(pending, worker, |p| match p {
            Pending::Adopt { missing, .. } => Some(missing),
            _ => None,
        }),
        Answer::Audited { audit, rx, completion } => {
            let first = pending.iter_mut().find_map(|p| match p {
                Pending::Audit { workers, .. } => workers.get_mut(worker).filter(|slot| slot.is_none()),
                _ => None,
            });
            if let Some(slot) = first {
                *slot = Some(WorkerAudit {
                    worker: worker as u8,
                    pool: audit.pool,
                    fill: audit.fill.saturating_sub(rx),
                    rx,
                    burst: audit.burst,
                    tx: audit.tx.saturating_sub(completion),
                    completion,
                    held: audit.held,
                    remote: audit.remote,
                    misplaced: audit.misplaced,
                    leaked: audit.leaked,
                });
            }
        }
        Answer::Tasks(_) => tick_off(pending, worker, |p| match p {
            Pending::Tasks { missing, .. } => Some(missing),
            _ => None,
        }),
        Answer::Drained => tick_off(pending, worker, |p| match p {
            Pending::Drain { missing } => Some(missing),
            _ => None,
        }),
        Answer::Stopped => tick_off(pending, worker, |p| match p {
            Pending::Stop { missing } => Some(missing),
            _ => None,
        }),
    }
}

/// Ticks the worker off in the oldest question of a kind that it has not answered.
fn tick_off(pending: &mut VecDeque<Pending>, worker: usize, of: impl Fn(&mut Pending) -> Option<&mut u32>) {
    let bit = 1 << (worker & 31);
    if let Some(missing) = pending.iter_mut().filter_map(of).find(|missing| **missing & bit != 0) {
        *missing &= !bit;
    }
}

impl Pending {
    /// What to tell control, once all workers have answered.
    fn settled(&self) -> Option<FromDataplane> {
        match self {
            Self::Adopt { epoch, missing: 0 } => Some(FromDataplane::Adopted { epoch: *epoch }),
            Self::Audit { id, workers } => {
                let workers = workers.iter().copied().collect::<Option<Vec<_>>>()?;
                Some(FromDataplane::Audit { id: *id, workers })
            }
            Self::Tasks { id, missing: 0 } => Some(FromDataplane::TasksEnd { id: *id }),
            Self::Drain { missing: 0 } | Self::Stop { missing: 0 } => Some(FromDataplane::Stopped),
            Self::Adopt { .. } | Self::Tasks { .. } | Self::Drain { .. } | Self::Stop { .. } => None,
        }
    }

    /// The question about tasks that this worker has not answered.
    fn asks_tasks_of(&self, worker: usize) -> Option<u32> {
        match self {
            Self::Tasks { id, missing } if missing & 1 << (worker & 31) != 0 => Some(*id),
            _ => None,
        }
    }
}

/// A worker's thread.
fn work(number: usize, ready: Ready, idle: Idle) {
    if let Some(core) = ready.core
        && !core_affinity::set_for_current(core_affinity::CoreId { id: core as usize })
    {
        log!(
            "zsync-dataplane: worker {number} could not be pinned to core {core}; it runs where the kernel puts it"
        );
    }
    if let Err(error) = worker_filter(ready.needs) {
        log!("zsync-dataplane: worker {number}: {error}");
        std::process::abort();
    }
    Runner::new(ready.worker, ready.seat, clock()).run(idle, clock);
}
