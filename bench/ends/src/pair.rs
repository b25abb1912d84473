//! Both ends: makes the trials that searches ask for, and bursts, overloads and resets.
//!
//! Keeps true: between two trials nothing is on its way any more; each has a number of its own, which its packets carry; a
//! host's clock that was set during a trial is told with it. A trial that this side's hosts spoiled is an error, not a loss
//! of the device under test, unless only its latency was wanted.

use crate::far::{FarEnd, Seen};
use crate::order::{Order, Phase, Rate, Sent};
use crate::sender::NearEnd;
use crate::source::What;
use anyhow::{Context, Result, bail, ensure};
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zsync_bench_xsk::clock;
use zsync_search::back_to_back::{Burst, Bursts};
use zsync_search::recovery::{Overload, Relieved};
use zsync_search::reset::{Arrival, Reset, reset_time};
use zsync_search::trial::{Measured, Trial};
use zsync_sink::clock::{Host, Pair as Clocks, Watch};
use zsync_traffic::pace::Shape;
use zsync_traffic::stream::Content;

/// How often the clocks are looked at, and the far end is asked whether more has come.
const LOOK: Duration = Duration::from_millis(50);
/// Where packets are missing, nothing comes any more when nothing came for so long.
const SILENCE: Duration = Duration::from_millis(400);
/// RFC 2544 §23: how long late packets are waited for at most.
const STRAGGLE: Duration = Duration::from_secs(2);
/// How often there is a live line.
const LINE: Duration = Duration::from_secs(1);
/// A clock set by more than this was set, nanoseconds.
pub const STEP_NS: u64 = 1_000;
/// How late a packet of a throughput trial may leave: half of what the smallest usual ring holds at 1 M packets/s.
pub const PATIENCE: Duration = Duration::from_micros(500);
/// How long a relieved device is watched: several times what any buffer holds.
const RELIEF: Duration = Duration::from_secs(3);

/// What the caller sees of a trial under way, and whether it is to end.
pub trait Look {
    /// A line each second.
    fn line(&self, line: &str);
    /// Asked some 20 times a second.
    fn is_cancelled(&self) -> bool;
}

/// Sees nothing and lets everything end by itself.
pub struct Blind;

impl Look for Blind {
    fn line(&self, _: &str) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// A trial's latencies.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// Packets per second that were sent.
    pub offered: f64,
    /// Packets that came.
    pub packets: u64,
    /// As of [`Seen::curve`].
    pub curve: Vec<(f64, u64)>,
}

/// Something to be done in the midst of a trial, so long after its start.
pub type Act<'a> = (Duration, &'a mut dyn FnMut() -> Result<()>);

/// Both ends. See the module.
pub struct Pair<'a> {
    near: &'a dyn NearEnd,
    far: Box<dyn FarEnd + 'a>,
    what: What,
    shape: Shape,
    look: &'a dyn Look,
    run: u32,
    /// Whether a trial that this side spoiled is passed on without its latency.
    pub lenient: bool,
    /// See [`Order::readable`].
    pub readable: Option<u64>,
    /// How late packets may leave; see [`Order::patience`].
    pub patience: Option<Duration>,
    /// The latencies of the trials that had any.
    pub timed: Vec<Timed>,
    /// What spoiled trials, or their latencies.
    pub verdicts: Vec<String>,
}

impl<'a> Pair<'a> {
    /// Trials of `what`, its packets lying in time as `shape` says.
    pub fn new(
        near: &'a dyn NearEnd,
        far: impl FarEnd + 'a,
        what: What,
        shape: Shape,
        look: &'a dyn Look,
    ) -> Self {
        // Another number than those of a run before this one, whose packets may be on their way still.
        let run = (clock::now() / 1_000_000) as u32 & 0x00ff_ffff;
        let far = Box::new(far);
        let (timed, verdicts) = (vec![], vec![]);
        let (lenient, readable, patience) = (false, None, Some(PATIENCE));
        Self { near, far, what, shape, look, run, lenient, readable, patience, timed, verdicts }
    }

    /// One trial; what was sent, and what came.
    ///
    /// # Errors
    /// Either end's; the books contradict each other; `act` failed.
    pub fn run(
        &mut self,
        phases: Vec<Phase>,
        packets: Option<u64>,
        mut act: Option<Act<'_>>,
    ) -> Result<(Sent, Seen)> {
        self.run = self.run.wrapping_add(1);
        let what = self.what.clone();
        let order = Arc::new(Order {
            what,
            run: self.run,
            phases,
            packets,
            log: act.is_some(),
            readable: self.readable,
            patience: self.patience,
        });
        self.far.begin(&order)?;
        let mut watch = Watch::new(Host::Sender, STEP_NS);
        watch.observe(&clocks());
        let mut running = self.near.start(&order)?;
        let (start, mut said) = (Instant::now(), Instant::now());
        let sent = loop {
            if let Some(sent) = running.wait(LOOK)? {
                break sent;
            }
            watch.observe(&clocks());
            self.far.keep()?;
            if act.as_ref().is_some_and(|(when, _)| start.elapsed() >= *when)
                && let Some((_, act)) = act.take()
            {
                act()?;
            }
            if said.elapsed() >= LINE {
                let line = self.far.line(said.elapsed())?;
                said = Instant::now();
                self.look.line(&format!("sent {}  {line}", running.sent()));
            }
            if self.look.is_cancelled() {
                running.stop();
            }
        };
        self.settle(sent.all())?;
        watch.observe(&clocks());
        let seen = self.far.end(&sent, watch.steps())?;
        for verdict in &seen.verdicts {
            if !self.verdicts.contains(verdict) {
                self.verdicts.push(verdict.clone());
            }
        }
        if !seen.curve.is_empty() {
            let (offered, packets) = (sent.rate(), seen.received);
            self.timed.push(Timed { offered, packets, curve: seen.curve.clone() });
        }
        Ok((sent, seen))
    }

    /// Waits until all of what was sent came, or nothing comes any more.
    fn settle(&mut self, sent: u64) -> Result<()> {
        let start = Instant::now();
        let (mut counted, mut since) = (self.far.counted()?, Instant::now());
        while counted < sent && start.elapsed() < STRAGGLE && since.elapsed() < SILENCE {
            std::thread::sleep(LOOK);
            let now = self.far.counted()?;
            if now != counted {
                (counted, since) = (now, Instant::now());
            }
        }
        // What is on its way still would be taken for the next trial's by an end that only counts.
        ensure!(
            counted >= sent || since.elapsed() >= SILENCE || self.lenient,
            "packets still came {STRAGGLE:?} after the last one was sent: the device holds them for longer"
        );
        Ok(())
    }

    fn shaped(&self, rate: f64) -> Rate {
        Rate::Shaped(rate.round().max(1.0) as u64, self.shape)
    }

    /// What this side's hosts did to the counts is no loss of the device under test.
    fn sound(&self, sent: &Sent, seen: &Seen) -> Result<()> {
        ensure!(
            sent.refused == 0 || self.lenient,
            "the device refused {} packets: it is down, or full",
            sent.refused
        );
        ensure!(
            seen.dropped_here == 0 || self.lenient,
            "the reader's host dropped {} packets of its own: count instead of reading, or read on more cores",
            seen.dropped_here
        );
        let others = seen.verdicts.iter().find(|verdict| verdict.contains("of others"));
        ensure!(others.is_none() || self.lenient, "{}", others.map_or("", String::as_str));
        Ok(())
    }

    /// Sends at `rate` for `duration`, has `reset` done after a third of it, and tells how long nothing came (RFC 6201).
    /// Takes a far end that reads and logs, and one flow.
    ///
    /// # Errors
    /// Those of [`Self::run`]; of `reset`; nothing came before, or after.
    pub fn reset(
        &mut self,
        rate: f64,
        duration: Duration,
        reset: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Reset> {
        let phase = Phase { rate: self.shaped(rate), duration };
        // One flow: its numbers tell which packets the reset cost.
        let What::Stream { content, seed } = self.what.clone() else {
            bail!("a capture has no numbers to tell a reset by")
        };
        let content = Arc::new(Content { flows: 1, ..Content::clone(&content) });
        let many = std::mem::replace(&mut self.what, What::Stream { content, seed });
        let done = self.run(vec![phase], None, Some((duration / 3, reset)));
        self.what = many;
        let (sent, seen) = done?;
        self.sound(&sent, &seen)?;
        let first = seen.arrivals.iter().map(|(_, at)| *at).min().context("nothing arrived")?;
        let arrivals: Vec<Arrival> = seen
            .arrivals
            .iter()
            .map(|&(sequence, at)| Arrival { sequence, at: Duration::from_nanos(at - first) })
            .collect();
        Ok(reset_time(&arrivals, sent.packets(), sent.rate())?)
    }
}

impl Trial for Pair<'_> {
    type Error = anyhow::Error;

    fn run(&mut self, rate: f64, duration: Duration) -> Result<Measured> {
        let phase = Phase { rate: self.shaped(rate), duration };
        let (sent, seen) = Pair::run(self, vec![phase], None, None)?;
        self.sound(&sent, &seen)?;
        // Packets are whole: the one that a short trial has more than its rate admits is no overload.
        let whole = (sent.all().saturating_sub(1)) as f64 <= rate * sent.duration().as_secs_f64();
        Ok(Measured {
            asked: rate,
            offered: if whole { sent.rate().min(rate) } else { sent.rate() },
            sent: sent.all(),
            received: seen.received.saturating_add(seen.load),
            duration: sent.duration(),
            latency: seen.latency.map(Into::into),
        })
    }
}

impl Bursts for Pair<'_> {
    type Error = anyhow::Error;

    fn burst(&mut self, packets: u64) -> Result<Burst> {
        // Its end is its last packet; nobody waits for an hour.
        let phase = Phase { rate: Rate::Full, duration: Duration::from_secs(3600) };
        let (sent, seen) = self.run(vec![phase], Some(packets), None)?;
        self.sound(&sent, &seen)?;
        Ok(Burst { sent: sent.packets(), received: seen.received, rate: sent.rate() })
    }
}

impl Overload for Pair<'_> {
    type Error = anyhow::Error;

    fn run(&mut self, overload: f64, relief: f64, duration: Duration) -> Result<Relieved> {
        let phases = vec![
            Phase { rate: self.shaped(overload), duration },
            Phase { rate: self.shaped(relief), duration: RELIEF },
        ];
        let (sent, seen) = Pair::run(self, phases, None, None)?;
        self.sound(&sent, &seen)?;
        let [over, relieved] = sent.phases[..] else { anyhow::bail!("the trial was stopped") };
        let since = |time: u64| Duration::from_nanos(time.saturating_sub(over.from_ns));
        Ok(Relieved {
            offered: over.rate(),
            cut_at: since(relieved.from_ns),
            last_lost_at: seen.last_lost_ns.map(since),
            lost: sent.packets().saturating_sub(seen.received),
        })
    }
}

/// Both clocks of this host.
pub fn clocks() -> Clocks {
    let before = clock::now();
    let time = clock_gettime(ClockId::Realtime);
    let realtime_ns = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    Clocks { monotonic_ns: before, realtime_ns, width_ns: clock::now() - before }
}
