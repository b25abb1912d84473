//! Senders: a thread for each queue, on its core, with a socket of its own; they send an order together.
//!
//! Owns: the sockets, for as long as it lives, since opening one takes a real NIC's link down for a moment. Keeps true: all
//! shares of an order begin at the same time, after all of them have been made; each flow leaves from one queue only.

use crate::order::{Order, Phase, Sent, Went};
use crate::source::Source;
use crate::{Enter, Port};
use anyhow::{Context, Result, anyhow, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use zsync_bench_xsk::{BURST, Handed, Options, Transmitter, clock};

/// From "all are ready" to the first departure: a sleeping thread is up by then.
const LEAD_NS: u64 = 2_000_000;
/// How long the kernel is given to send what it has taken.
const DRAIN: Duration = Duration::from_secs(1);
/// A wait is never longer, so that a stop is seen.
const LOOK_NS: u64 = 20_000_000;
/// For how long after its end a phase may send what was to leave before.
const GRACE_NS: u64 = 100_000_000;
/// Bytes of the Ethernet header, and of two tags: what a frame may have beyond the MTU.
const BEYOND_MTU: usize = 14 + 8;

/// Who sends orders.
pub trait NearEnd {
    /// Begins an order.
    ///
    /// # Errors
    /// An order that cannot be.
    fn start(&self, order: &Arc<Order>) -> Result<Running>;
}

/// What packets are handed to.
pub(crate) trait Wire {
    /// As [`Transmitter::send`].
    fn send(&mut self, most: usize, fill: impl FnMut(&mut [u8]) -> usize) -> Result<usize>;
    /// As [`Transmitter::handed`].
    fn handed(&self) -> Handed;
    /// Waits until everything has left, but not for ever.
    fn drain(&mut self) -> Result<()>;
}

impl Wire for Transmitter {
    fn send(&mut self, most: usize, fill: impl FnMut(&mut [u8]) -> usize) -> Result<usize> {
        Ok(Self::send(self, most, fill)?)
    }

    fn handed(&self) -> Handed {
        Self::handed(self)
    }

    fn drain(&mut self) -> Result<()> {
        Self::drain(self, DRAIN)?;
        Ok(())
    }
}

struct Job {
    order: Arc<Order>,
    share: (u32, u32),
    ready: Sender<Result<()>>,
    /// When it begins; never, if it hangs up.
    go: Receiver<u64>,
    done: Sender<Result<Sent>>,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

struct Thread {
    jobs: Option<Sender<Job>>,
    handle: Option<JoinHandle<()>>,
    /// Packets of the present order so far.
    sent: Arc<AtomicU64>,
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
            threads.push(Thread { jobs: Some(jobs), handle: Some(handle), sent: Arc::default() });
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
        let stop = Arc::new(AtomicBool::new(false));
        let of = self.threads.len() as u32;
        let (mut shares, mut sent, mut waiting) = (vec![], vec![], vec![]);
        for (part, thread) in (0..).zip(&self.threads) {
            let ((ready, is_ready), (go, goes), (done, share)) = (channel(), channel(), channel());
            thread.sent.store(0, Ordering::Relaxed);
            let job = Job {
                order: Arc::clone(order),
                share: (part, of),
                ready,
                go: goes,
                done,
                stop: Arc::clone(&stop),
                sent: Arc::clone(&thread.sent),
            };
            let jobs = thread.jobs.as_ref().ok_or_else(gone)?;
            jobs.send(job).map_err(|_| gone())?;
            waiting.push((is_ready, go));
            shares.push(share);
            sent.push(Arc::clone(&thread.sent));
        }
        for (ready, _) in &waiting {
            ready.recv().map_err(|_| gone())??;
        }
        let start = clock::now() + LEAD_NS;
        for (_, go) in &waiting {
            go.send(start).map_err(|_| gone())?;
        }
        Ok(Running { shares, sent, stop })
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

fn gone() -> anyhow::Error {
    anyhow!("a sender's thread has ended")
}

/// The greatest payload of the device's frames.
fn mtu(device: &str) -> Result<usize> {
    let output = std::process::Command::new("ip").args(["-j", "link", "show", "dev", device]).output()?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).context(device.to_owned())?;
    let mtu = links[0]["mtu"].as_u64().and_then(|mtu| mtu.try_into().ok());
    mtu.with_context(|| format!("{device} has no MTU"))
}

fn serve(transmitter: &mut Transmitter, port: &Port, mtu: usize, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        let Job { order, share, ready, go, done, stop, sent } = job;
        let made = Source::new(&order.what, order.run, share).and_then(|source| {
            let longest = order.what.longest().max(source.longest());
            let limit = mtu + BEYOND_MTU;
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
            Err(error) => {
                let _ = ready.send(Err(error));
                continue;
            }
        };
        let _ = ready.send(Ok(()));
        // Another share could not be made.
        let Ok(start) = go.recv() else { continue };
        let result = Share { order: &order, part: share, stop: &stop, sent: &sent }.send(
            transmitter,
            &mut source,
            start,
        );
        let _ = done.send(result.with_context(|| format!("{}, queue {}", port.device, port.queue)));
    }
}

/// One sender's part of an order.
pub(crate) struct Share<'a> {
    pub order: &'a Order,
    pub part: (u32, u32),
    pub stop: &'a AtomicBool,
    pub sent: &'a AtomicU64,
}

impl Share<'_> {
    /// Packets that this part may send.
    fn most(&self) -> u64 {
        let (part, of) = (u64::from(self.part.0), u64::from(self.part.1));
        self.order.packets.map_or(u64::MAX, |all| all / of + u64::from(part < all % of))
    }

    pub(crate) fn send(&self, wire: &mut impl Wire, source: &mut Source, start: u64) -> Result<Sent> {
        let before = wire.handed();
        let mut sent = Sent::default();
        let mut left = self.most();
        let mut from = start;
        for phase in &self.order.phases {
            source.phase(phase.rate)?;
            let went = self.phase(wire, source, phase, from, &mut left, &mut sent)?;
            sent.phases.push(went);
            // The next one begins when this one was to end, even if it is late: phases have no gap.
            from = went.to_ns;
        }
        wire.drain()?;
        let after = wire.handed();
        sent.refused = after.refused - before.refused;
        sent.pending = after.handed - after.completed;
        sent.flows = source.written(self.order.what.flows());
        Ok(sent)
    }

    fn phase(
        &self,
        wire: &mut impl Wire,
        source: &mut Source,
        phase: &Phase,
        start: u64,
        left: &mut u64,
        sent: &mut Sent,
    ) -> Result<Went> {
        let length = phase.duration.as_nanos() as u64;
        let end = start.saturating_add(length);
        let patience = self.order.patience.map_or(u64::MAX, |time| time.as_nanos() as u64);
        let mut went = Went { from_ns: start, ..Went::default() };
        let skipped = sent.skipped;
        let is_full = source.is_full();
        clock::wait_until(start);
        while *left > 0 && !self.stop.load(Ordering::Relaxed) {
            let now = clock::now();
            let elapsed = now.saturating_sub(start);
            let Some(next) = source.next() else { break };
            // What was to leave in time may leave a little late.
            if next >= length || now >= if is_full { end } else { end.saturating_add(GRACE_NS) } {
                break;
            }
            if !is_full && elapsed.saturating_sub(next) > patience {
                while source.next().is_some_and(|next| elapsed.saturating_sub(next) > patience) {
                    source.skip();
                    sent.skipped += 1;
                }
                continue;
            }
            let due = source.due(elapsed.min(length.saturating_sub(1)));
            if due == 0 {
                clock::wait_until((start + next).min(end).min(now + LOOK_NS));
                continue;
            }
            if !is_full {
                sent.late_ns = sent.late_ns.max(elapsed - next.min(elapsed));
            }
            let most = due.min(BURST).min(usize::try_from(*left).unwrap_or(usize::MAX));
            let count = wire.send(most, |frame| source.write(start, now, frame))? as u64;
            went.packets += count;
            *left -= count;
            self.sent.fetch_add(count, Ordering::Relaxed);
        }
        let now = clock::now();
        // A phase ends when it was to, unless something else ended it, or it ran over.
        let early = *left == 0 || self.stop.load(Ordering::Relaxed) || source.next().is_none();
        went.to_ns = if early { now } else { now.max(end) };
        let is_short = !is_full && *left > 0;
        let missed = if is_short { missed(source, length.min(went.to_ns.saturating_sub(start))) } else { 0 };
        went.asked = went.packets + (sent.skipped - skipped) + missed;
        Ok(went)
    }
}

/// Packets that were to leave before `elapsed` and did not; they are taken from the source.
fn missed(source: &mut Source, elapsed: u64) -> u64 {
    let mut missed = 0;
    while source.next().is_some_and(|next| next < elapsed) {
        source.skip();
        missed += 1;
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Rate;

    #[test]
    fn parts_share_the_packets_to_the_last_one() {
        let order = Order {
            what: crate::source::What::Capture {
                path: "".into(),
                timing: zsync_traffic::replay::Timing::Original,
                rounds: 1,
            },
            run: 1,
            phases: vec![Phase { rate: Rate::Full, duration: Duration::from_secs(1) }],
            packets: Some(11),
            readable: None,
            patience: None,
        };
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let most = |part| Share { order: &order, part: (part, 4), stop: &stop, sent: &sent }.most();
        assert_eq!([0, 1, 2, 3].map(most), [3, 3, 3, 2]);
    }
}
