//! A far end that reads every packet: sequence, damage and latency, each on the core of its queue.
//!
//! Owns: the XDP program, a socket for each queue and its thread, and the books of the trial, one for each queue. Keeps
//! true: no allocation per packet; a lock is taken once a burst, and contended only by whoever looks once a second. What the
//! sockets had no room for is this host's loss, and spoils the trial.

use crate::books::Books;
use crate::counter::Marks;
use crate::far::{FarEnd, Seen};
use crate::order::{Order, Sent};
use crate::{Enter, Port};
use anyhow::{Context, Result, bail, ensure};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use zsync_bench_xsk::{Action, Counts, Match, Options, Receiver, Sink as Program};
use zsync_sink::clock::{Relation, Step};
use zsync_sink::live::Interval;

/// How long an idle thread sleeps at most.
const NAP: Duration = Duration::from_millis(10);

/// How a reader reads.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// By what packets are told.
    pub marks: Marks,
    /// Whether the kernel's XDP program stamps each packet; else its time is that of reading its burst.
    pub stamped: bool,
    /// The sockets' rings.
    pub options: Options,
}

/// A queue's books, its thread's beyond them, and the thread.
#[derive(Default)]
struct Desk {
    books: Mutex<Option<Books>>,
    /// Packets that the socket had no room for, since it was opened.
    missed: AtomicU64,
    /// What went wrong with the device.
    failure: Mutex<Option<String>>,
}

impl Desk {
    fn books(&self) -> MutexGuard<'_, Option<Books>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, receiver: &mut Receiver, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let mut books = None;
            let result = receiver.wait(NAP, |packet, arrival| {
                let books = books.get_or_insert_with(|| self.books());
                if let Some(books) = books.as_mut() {
                    books.take(packet, arrival);
                }
            });
            drop(books);
            self.missed.store(receiver.missed(), Ordering::Relaxed);
            if let Err(error) = result {
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                return;
            }
        }
    }
}

/// The program and its threads. They end with it.
struct Open {
    packets: Match,
    program: Program,
    desks: Vec<Arc<Desk>>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Open {
    fn new(ports: &[Port], manner: &Manner, packets: Match, enter: &Enter) -> Result<Self> {
        let device = &ports.first().context("there is no port to receive by")?.device;
        ensure!(
            ports.iter().all(|port| port.device == *device),
            "a reader has one device, and its ports are of several"
        );
        let action = if manner.stamped { Action::ReceiveStamped } else { Action::Receive };
        let (made, stop) = (
            std::thread::scope(|scope| {
                let open = || -> Result<_> {
                    enter()?;
                    let mut program = Program::attach(device, action, packets)?;
                    let open = |port: &Port| Receiver::open(&mut program, port.queue, &manner.options);
                    let receivers = ports.iter().map(open).collect::<Result<Vec<_>, _>>()?;
                    Ok((program, receivers))
                };
                scope.spawn(open).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }),
            Arc::new(AtomicBool::new(false)),
        );
        let (program, receivers) = made?;
        let mut open = Self { packets, program, desks: vec![], threads: vec![], stop };
        for (port, mut receiver) in ports.iter().zip(receivers) {
            let (desk, stop, port) = (Arc::<Desk>::default(), Arc::clone(&open.stop), port.clone());
            open.desks.push(Arc::clone(&desk));
            open.threads.push(std::thread::spawn(move || match port.pin() {
                Ok(()) => desk.work(&mut receiver, &stop),
                Err(error) => {
                    *desk.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                }
            }));
        }
        Ok(open)
    }

    fn missed(&self) -> u64 {
        self.desks.iter().map(|desk| desk.missed.load(Ordering::Relaxed)).sum()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic was told where it happened.
            let _ = thread.join();
        }
    }
}

/// Reads. See the module.
pub struct Reader {
    ports: Vec<Port>,
    manner: Manner,
    enter: Enter,
    open: Option<Open>,
    relation: Relation,
    interval: Interval,
    missed: u64,
    before: Counts,
}

impl Reader {
    /// On the queues of one device, which nothing else may be attached to.
    ///
    /// # Errors
    /// None but of memory.
    pub fn new(ports: Vec<Port>, manner: Manner, enter: &Enter) -> Result<Self> {
        Ok(Self {
            ports,
            manner,
            enter: Enter::clone(enter),
            open: None,
            relation: Relation::SAME,
            interval: Interval::new()?,
            missed: 0,
            before: Counts::default(),
        })
    }

    /// From here on the sender's clock relates to this host's like this.
    pub fn set_clock(&mut self, relation: Relation) {
        self.relation = relation;
        for desk in self.open.iter().flat_map(|open| &open.desks) {
            if let Some(books) = desk.books().as_mut() {
                (books.ahead_ns, _) = (relation.ahead_ns, books.sink.set_clock(relation));
            }
        }
    }

    /// Ready for packets of a run, `flows` flows of it, told by `packets`; up to `log` arrivals are written down.
    ///
    /// # Errors
    /// The device is another's, or is gone; no memory for so many flows.
    pub fn expect(&mut self, packets: Match, run: u32, flows: u32, log: Option<u64>) -> Result<()> {
        if self.open.as_ref().is_none_or(|open| open.packets != packets) {
            // The old one goes first: a device has room for one.
            self.open = None;
            self.open = Some(Open::new(&self.ports, &self.manner, packets, &self.enter)?);
        }
        let Some(open) = &self.open else { bail!("no socket is open") };
        self.missed = open.missed();
        self.before = open.program.counts()?;
        for desk in &open.desks {
            // The old ones' memory first: they may be large.
            *desk.books() = None;
            let log = log.filter(|_| flows == 1);
            *desk.books() = Some(Books::new(run, flows, self.relation, log)?);
        }
        self.interval = Interval::new()?;
        Ok(())
    }

    /// Leaves the device to others.
    pub fn give_up(&mut self) {
        self.open = None;
    }

    fn failure(&self) -> Result<()> {
        let desks = self.open.iter().flat_map(|open| &open.desks);
        let mut failures =
            desks.filter_map(|desk| desk.failure.lock().unwrap_or_else(PoisonError::into_inner).clone());
        failures.next().map_or(Ok(()), |failure| bail!(failure))
    }

    /// Closes the books of a run; without word of the sender what was known to have been sent is what was sent.
    ///
    /// # Errors
    /// What arrived and what was sent contradict each other; the device is gone.
    pub fn close(&mut self, sent: Option<&Sent>, steps: &[Step]) -> Result<Seen> {
        self.failure()?;
        let open = self.open.as_ref().context("nothing was begun")?;
        let mut books = open.desks.iter().filter_map(|desk| desk.books().take());
        let mut first = books.next().context("nothing was begun")?;
        for other in books {
            first.sink.merge(&other.sink)?;
            first.last_lost_ns = first.last_lost_ns.max(other.last_lost_ns);
            if let (Some(log), Some(others)) = (&mut first.log, other.log) {
                log.extend(others);
            }
        }
        let counts = open.program.counts()?;
        // What came on a queue that nobody reads is no loss of the device under test.
        let unread = counts.lost - self.before.lost;
        let dropped_here = open.missed() - self.missed + unread;
        let mut seen = first.close(sent, steps, dropped_here)?;
        if unread > 0 {
            seen.verdicts
                .push(format!("{unread} packets came on queues that nobody reads: give all in --queues"));
        }
        seen.foreign += counts.foreign - self.before.foreign;
        seen.load = counts.load - self.before.load;
        Ok(seen)
    }
}

impl FarEnd for Reader {
    fn begin(&mut self, order: &Order) -> Result<()> {
        let packets = self.manner.marks.of(&order.what)?;
        let flows = order.what.flows();
        ensure!(flows > 0, "a capture has no probes to read: count its packets instead");
        self.expect(packets, order.run, flows, order.log.then(|| order.most()))
    }

    fn counted(&mut self) -> Result<u64> {
        self.failure()?;
        let Some(open) = &self.open else { return Ok(0) };
        let load = open.program.counts()?.load.saturating_sub(self.before.load);
        let read = |desk: &Arc<Desk>| desk.books().as_ref().map_or(0, |books| books.sink.received());
        Ok(open.desks.iter().map(read).fold(load, u64::saturating_add))
    }

    fn line(&mut self, took: Duration) -> Result<String> {
        self.failure()?;
        for desk in self.open.iter().flat_map(|open| &open.desks) {
            if let Some(books) = desk.books().as_mut() {
                self.interval.take(&mut books.sink);
            }
        }
        Ok(self.interval.line(took.as_nanos() as u64).to_string())
    }

    fn end(&mut self, sent: &Sent, steps: &[Step]) -> Result<Seen> {
        self.close(Some(sent), steps)
    }
}
