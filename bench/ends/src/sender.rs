//! Senders: a thread for each queue, on its core, with a socket of its own; they send an order together.
//!
//! Owns: the sockets, for as long as it lives, since opening one takes a real NIC's link down for a moment. Keeps true: all
//! shares of an order begin at the same time, after all of them have been made; each flow leaves from one queue only.

use crate::order::{Order, Sent};
use crate::share::{Share, Wire};
use crate::source::Source;
use crate::{Enter, Port};
use anyhow::{Context, Result, anyhow, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use zsync_bench_xsk::{Options, Transmitter, clock};

/// From "all are ready" to the first departure: a sleeping thread is up by then.
const LEAD_NS: u64 = 2_000_000;
/// Bytes of the Ethernet header, and of two tags: what a frame may have beyond the MTU.
const BEYOND_MTU: usize = 14 + 8;
/// Bytes that a socket's frame has for a packet: a page less the headroom.
const FRAME: usize = 3840;

/// Who sends orders.
pub trait NearEnd {
    /// Begins an order.
    ///
    /// # Errors
    /// An order that cannot be.
    fn start(&self, order: &Arc<Order>) -> Result<Running>;
}

/// A share of an order, for whoever has a wire; see [`begin`].
pub(crate) struct Job {
    order: Arc<Order>,
    share: (u32, u32),
    ready: Sender<Result<()>>,
    /// When it begins; never, if it hangs up.
    go: Receiver<u64>,
    done: Sender<Result<Sent>>,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl Job {
    /// Makes the share, waits until all are made, and sends it. `mtu` is the port's.
    pub(crate) fn work(self, wire: &mut impl Wire, port: &Port, mtu: usize) {
        let Self { order, share, ready, go, done, stop, sent } = self;
        let made = Source::new(&order.what, order.run, share).and_then(|source| {
            let longest = order.what.longest().max(source.longest());
            let limit = (mtu + BEYOND_MTU).min(FRAME);
            ensure!(
                longest <= limit,
                "{} takes frames of at most {limit} bytes (MTU {mtu}), and the longest packet has {longest}: \
                 raise the MTU or send shorter ones",
                port.device
            );
            Ok(source)
        });
        let mut source = match made {
            Ok(source) => source,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let _ = ready.send(Ok(()));
        // Another share could not be made.
        let Ok(start) = go.recv() else { return };
        let share = Share { order: &order, part: share, stop: &stop, sent: &sent };
        let result = share.send(wire, &mut source, start);
        let _ = done.send(result.with_context(|| format!("{}, queue {}", port.device, port.queue)));
    }
}

/// Begins an order that `of` threads send: `give` hands a thread its share. Returns once all have made theirs.
pub(crate) fn begin(
    order: &Arc<Order>,
    of: usize,
    mut give: impl FnMut(usize, Job) -> Result<()>,
) -> Result<Running> {
    let stop = Arc::new(AtomicBool::new(false));
    let (mut shares, mut counts, mut waiting) = (vec![], vec![], vec![]);
    for part in 0..of {
        let ((ready, is_ready), (go, goes), (done, share)) = (channel(), channel(), channel());
        let sent = Arc::<AtomicU64>::default();
        let job = Job {
            order: Arc::clone(order),
            share: (part as u32, of as u32),
            ready,
            go: goes,
            done,
            stop: Arc::clone(&stop),
            sent: Arc::clone(&sent),
        };
        give(part, job)?;
        waiting.push((is_ready, go));
        shares.push(share);
        counts.push(sent);
    }
    for (ready, _) in &waiting {
        ready.recv().map_err(|_| gone())??;
    }
    let start = clock::now() + LEAD_NS;
    for (_, go) in &waiting {
        go.send(start).map_err(|_| gone())?;
    }
    Ok(Running { shares, sent: counts, stop })
}

struct Thread {
    jobs: Option<Sender<Job>>,
    handle: Option<JoinHandle<()>>,
}

/// Who sends. See the module.
pub struct Senders {
    threads: Vec<Thread>,
    is_zero_copy: bool,
}

/// An order at work.
pub struct Running {
    shares: Vec<Receiver<Result<Sent>>>,
    sent: Vec<Arc<AtomicU64>>,
    stop: Arc<AtomicBool>,
}

impl Senders {
    /// Opens a socket on each port's queue, in a thread on its core, after `enter`.
    ///
    /// # Errors
    /// No port; what [`Transmitter::open`] refuses; a core that does not exist.
    pub fn open(ports: &[Port], options: &Options, enter: &Enter) -> Result<Self> {
        ensure!(!ports.is_empty(), "there is no port to send by");
        let mut threads = Vec::with_capacity(ports.len());
        let mut is_zero_copy = true;
        for port in ports {
            let (jobs, orders) = channel();
            let (opened, open) = channel();
            let (port, options, enter) = (port.clone(), *options, Arc::clone(enter));
            let handle = std::thread::spawn(move || {
                let start = || -> Result<(Transmitter, usize)> {
                    enter()?;
                    port.pin()?;
                    let transmitter = Transmitter::open(&port.device, port.queue, &options)?;
                    Ok((transmitter, mtu(&port.device)?))
                };
                match start() {
                    Ok((mut transmitter, mtu)) => {
                        // Nobody listens any more: then nobody sends jobs either.
                        let _ = opened.send(Ok(transmitter.is_zero_copy()));
                        serve(&mut transmitter, &port, mtu, &orders);
                    }
                    Err(error) => drop(opened.send(Err(error))),
                }
            });
            is_zero_copy &= open.recv().context("a sender's thread ended early")??;
            threads.push(Thread { jobs: Some(jobs), handle: Some(handle) });
        }
        Ok(Self { threads, is_zero_copy })
    }

    /// Whether every device sends from the frames themselves.
    pub fn is_zero_copy(&self) -> bool {
        self.is_zero_copy
    }
}

impl NearEnd for Senders {
    /// Once every sender has made its share. Refuses packets that do not fit the device's MTU or a frame.
    fn start(&self, order: &Arc<Order>) -> Result<Running> {
        begin(order, self.threads.len(), |part, job| {
            let jobs = self.threads.get(part).and_then(|thread| thread.jobs.as_ref());
            jobs.ok_or_else(gone)?.send(job).map_err(|_| gone())
        })
    }
}

impl Drop for Senders {
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

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    /// One share, in a thread of its own. `work` is given what tells it to stop, and what it counts its packets with.
    pub fn spawn(work: impl FnOnce(&AtomicBool, &AtomicU64) -> Result<Sent> + Send + 'static) -> Self {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (done, share) = channel();
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        std::thread::spawn(move || done.send(work(&stopped, &count)));
        Self { shares: vec![share], sent: vec![sent], stop }
    }

    /// Waits until the order is done, at most that long; what became of it, or `None` when it goes on.
    ///
    /// # Errors
    /// A device went down or away.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<Sent>> {
        let Some(first) = self.shares.first() else { return Ok(None) };
        let mut whole = match first.recv_timeout(limit) {
            Ok(share) => share?,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => return Err(gone()),
        };
        for share in self.shares.iter().skip(1) {
            whole.join(share.recv().map_err(|_| gone())??);
        }
        self.shares.clear();
        Ok(Some(whole))
    }

    /// Packets so far.
    pub fn sent(&self) -> u64 {
        self.sent.iter().map(|sent| sent.load(Ordering::Relaxed)).sum()
    }

    /// Ends it within a fraction of a second; [`Self::wait`] says what was sent.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn gone() -> anyhow::Error {
    anyhow!("a sender's thread has ended")
}

/// The greatest payload of the device's frames.
pub(crate) fn mtu(device: &str) -> Result<usize> {
    let output = std::process::Command::new("ip").args(["-j", "link", "show", "dev", device]).output()?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).context(device.to_owned())?;
    let mtu = links[0]["mtu"].as_u64().and_then(|mtu| mtu.try_into().ok());
    mtu.with_context(|| format!("{device} has no MTU"))
}

fn serve(transmitter: &mut Transmitter, port: &Port, mtu: usize, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        job.work(transmitter, port, mtu);
    }
}
