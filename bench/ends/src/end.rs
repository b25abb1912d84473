//! An end that sends and receives: the queues of a device, each with a thread on its core and one socket for both ways.
//!
//! Owns: the XDP program, which takes the packets that have the marks, and the threads. Keeps true: a thread does one thing
//! at a time; what came while it did another is looked at, and is of an old run then.

use crate::order::Order;
use crate::sender::{NearEnd, Running, begin, gone, mtu};
use crate::table::Table;
use crate::{Enter, Port};
use anyhow::{Context, Result, ensure};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use zsync_bench_xsk::{Action, BURST, Duplex, Match, Options, Pace, Sink, clock};
use zsync_traffic::probe::Probe;

/// How long an idle thread sleeps at most.
const NAP: Duration = Duration::from_millis(5);
/// How long the kernel is given to send what it has taken.
const DRAIN: Duration = Duration::from_secs(1);
/// A wait between two packets is never longer, so that a stop is seen.
const LOOK_NS: u64 = 20_000_000;

type Job = Box<dyn FnOnce(&mut Duplex) + Send>;

struct Thread {
    port: Port,
    jobs: Option<Sender<Job>>,
    handle: Option<JoinHandle<()>>,
}

/// See the module.
pub(crate) struct End {
    threads: Vec<Thread>,
    mtu: usize,
    /// As long as it lives, packets come.
    _program: Sink,
}

impl End {
    /// Takes the packets that are `packets` from a device's queues, after `enter`.
    pub fn open(ports: &[Port], options: &Options, packets: Match, enter: &Enter) -> Result<Self> {
        let device = &ports.first().context("there is no port to send and receive by")?.device;
        ensure!(
            ports.iter().all(|port| port.device == *device),
            "an end of connections has one device, and its ports are of several"
        );
        let open = || -> Result<_> {
            enter()?;
            let mut program = Sink::attach(device, Action::Receive, packets)?;
            let open = |port: &Port| Duplex::open(&mut program, port.queue, options);
            let sockets = ports.iter().map(open).collect::<Result<Vec<_>, _>>()?;
            Ok((program, sockets, mtu(device)?))
        };
        let opened = std::thread::scope(|scope| scope.spawn(open).join());
        let (program, sockets, mtu) = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let mut end = Self { threads: vec![], mtu, _program: program };
        for (port, mut socket) in ports.iter().zip(sockets) {
            let ((jobs, orders), (pinned, is_pinned)) = (channel::<Job>(), channel());
            let core = port.clone();
            let handle = std::thread::spawn(move || {
                let on_core = core.pin();
                let goes = on_core.is_ok();
                let _ = pinned.send(on_core);
                while let Some(job) = orders.recv().ok().filter(|_| goes) {
                    job(&mut socket);
                }
            });
            end.threads.push(Thread { port: port.clone(), jobs: Some(jobs), handle: Some(handle) });
            is_pinned.recv().map_err(|_| gone())??;
        }
        Ok(end)
    }

    fn give(&self, part: usize, job: Job) -> Result<()> {
        let jobs = self.threads.get(part).and_then(|thread| thread.jobs.as_ref());
        jobs.ok_or_else(gone)?.send(job).map_err(|_| gone())
    }

    /// Writes into a table what comes, until [`Listening::end`].
    pub fn listen(&self, table: Table) -> Result<Listening> {
        let (table, stop) = (Arc::new(Mutex::new(table)), Arc::new(AtomicBool::new(false)));
        let mut listening = Listening { table: Arc::clone(&table), stop: Arc::clone(&stop), threads: vec![] };
        for (part, thread) in self.threads.iter().enumerate() {
            let ((ready, is_ready), (done, is_done)) = (channel(), channel());
            let (table, stop, device) = (Arc::clone(&table), Arc::clone(&stop), thread.port.device.clone());
            self.give(
                part,
                Box::new(move |socket| {
                    let _ = done.send(hear(socket, &table, &stop, &ready).context(device));
                }),
            )?;
            // Else the first packets might find the rings full of old ones.
            let _ = is_ready.recv();
            listening.threads.push(is_done);
        }
        Ok(listening)
    }

    /// Sends a packet of a run back over each connection of a table, `rate` per second, evenly; returns when all have left.
    pub fn answer(&self, table: &Arc<Table>, answers: Answers, stop: &Arc<AtomicBool>) -> Result<()> {
        let of = self.threads.len();
        let mut waiting = Vec::with_capacity(of);
        for part in 0..of {
            let (done, is_done) = channel();
            let (table, stop) = (Arc::clone(table), Arc::clone(stop));
            self.give(
                part,
                Box::new(move |socket| {
                    let _ = done.send(answers.send(socket, &table, (part, of), &stop));
                }),
            )?;
            waiting.push(is_done);
        }
        waiting.into_iter().try_for_each(|done| done.recv().map_err(|_| gone())?)
    }
}

impl NearEnd for End {
    fn start(&self, order: &Arc<Order>) -> Result<Running> {
        begin(order, self.threads.len(), |part, job| {
            let (port, mtu) = (self.threads.get(part).ok_or_else(gone)?.port.clone(), self.mtu);
            self.give(part, Box::new(move |socket| job.work(socket, &port, mtu)))
        })
    }
}

impl Drop for End {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            drop(thread.jobs.take());
        }
        for thread in &mut self.threads {
            // A panic was told where it happened.
            let _ = thread.handle.take().map(JoinHandle::join);
        }
    }
}

/// Threads that write into a table.
pub(crate) struct Listening {
    table: Arc<Mutex<Table>>,
    stop: Arc<AtomicBool>,
    threads: Vec<Receiver<Result<u64>>>,
}

impl Listening {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections so far.
    pub fn count(&self) -> u64 {
        self.table().count()
    }

    /// Ends it; the table, and how many packets the sockets had no room for.
    pub fn end(mut self) -> Result<(Table, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut missed = 0;
        for thread in self.threads.drain(..) {
            missed += thread.recv().map_err(|_| gone())??;
        }
        let table = std::mem::take(&mut *self.table());
        Ok((table, missed))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Packets that the socket had no room for.
fn hear(socket: &mut Duplex, table: &Mutex<Table>, stop: &AtomicBool, ready: &Sender<()>) -> Result<u64> {
    // What an earlier run left there.
    while socket.receive(|_| {})? > 0 {}
    let before = socket.missed();
    let _ = ready.send(());
    while !stop.load(Ordering::Relaxed) {
        let mut held: Option<(MutexGuard<'_, Table>, u64)> = None;
        socket.wait(NAP, |packet| {
            let (table, now) = held
                .get_or_insert_with(|| (table.lock().unwrap_or_else(PoisonError::into_inner), clock::now()));
            table.take(packet, *now);
        })?;
    }
    Ok(socket.missed() - before)
}

/// How connections are answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answers {
    /// The run that the packets are of.
    pub run: u32,
    /// Packets per second, of all queues together.
    pub rate: f64,
    /// Bytes of each, from its Ethernet header on.
    pub length: usize,
}

impl Answers {
    fn send(
        self,
        socket: &mut Duplex,
        table: &Table,
        (part, of): (usize, usize),
        stop: &AtomicBool,
    ) -> Result<()> {
        let Self { run, rate, length } = self;
        let mut ways = table.share(part, of);
        let mut left = table.count() / of as u64 + u64::from((part as u64) < table.count() % of as u64);
        let share = rate / of as f64;
        let pace = Pace::new(share, clock::now());
        let mut pace = pace.with_context(|| format!("{share} packets/s cannot be: 0.001 to 1e9 can"))?;
        while left > 0 && !stop.load(Ordering::Relaxed) {
            let now = clock::now();
            let due = pace.due(now).min(left).min(BURST as u64) as usize;
            if due == 0 {
                clock::wait_until(pace.next().min(now + LOOK_NS));
                continue;
            }
            let mut is_short = false;
            let sent = socket.send(due, |frame| {
                let Some((flow, way)) = ways.next() else { return 0 };
                let probe = Probe { run, flow, sequence: 0, intended: now, departed: now, short: false };
                let written = way.back(&probe, length, frame);
                is_short |= written == 0;
                written
            })? as u64;
            ensure!(!is_short, "{length} bytes have no room for the packet back: give a larger size");
            pace.sent(sent);
            left -= sent;
        }
        ensure!(socket.drain(DRAIN)?, "the device has not sent all after {DRAIN:?}: is it up?");
        Ok(())
    }
}
