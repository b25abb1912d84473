//! Both ends of a device that keeps connections, such as a NAT: opens connections through it, and looks which are still
//! there (RFC 9693, as [`zsync_search::connections`] has it).
//!
//! ```text
//!   initiator ── a packet of each flow ──▶ device ──▶ responder     phase 1
//!   initiator ◀── device ◀── a packet back over each that came ──   phase 2
//! ```
//!
//! A flow is a connection: UDP, its addresses and ports as the profile's sweeps have them. Keeps true: a connection counts
//! once; no packet of an earlier run counts; what this host had no room for is no loss of the device, and the phase is
//! repeated. Refuses: two hosts, as the responder answers what it saw.

use crate::counter::Marks;
use crate::end::{Answers, End, Listening};
use crate::order::{Order, Phase, Rate, Sent};
use crate::pair::Look;
use crate::sender::NearEnd;
use crate::source::What;
use crate::table::Table;
use crate::{Enter, Port};
use anyhow::{Result, bail, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use zsync_bench_xsk::{Options, clock};
use zsync_search::connections::{Connections, Established};
use zsync_search::trial::TOLERANCE;
use zsync_traffic::flows::Choice;
use zsync_traffic::pace::Shape;
use zsync_traffic::size::in_memory;
use zsync_traffic::stream::Content;
use zsync_traffic::sweep::Values;
use zsync_traffic::template::{Field, Transport};

/// The most connections that one trial can have: flows that a generator keeps apart.
pub const MOST: u64 = 10_000_000;
/// How often it is looked whether more has come, and whether the caller wants to end.
const LOOK: Duration = Duration::from_millis(20);
/// Nothing comes any more when nothing came for so long.
const SILENCE: Duration = Duration::from_millis(150);
/// How long late packets are waited for at most (RFC 2544 §23).
const STRAGGLE: Duration = Duration::from_secs(2);
/// How late a packet may leave before a loss may be this host's fault, nanoseconds: it makes up for it with a storm.
const LATE_NS: u64 = 2_000_000;
/// How often a phase is tried that this host spoils.
const TRIES: u32 = 5;
/// Phase 2's rate, as a part of phase 1's: the device has not to open connections any more, and may be as slow again.
const BACK: f64 = 0.5;

/// An end: a device's queues, and how its threads get to where it is.
#[derive(Clone)]
pub struct Side {
    /// The queues, all of one device.
    pub ports: Vec<Port>,
    /// What a thread does to be there.
    pub enter: Enter,
}

/// Empties the table of the device under test.
pub type Clear<'a> = dyn FnMut() -> Result<()> + 'a;

/// Both ends. See the module.
pub struct Opener<'a> {
    initiator: End,
    responder: End,
    content: Content,
    seed: u64,
    /// Bytes of a packet back.
    length: usize,
    clear: &'a mut Clear<'a>,
    look: &'a dyn Look,
    run: u32,
    /// Of the last trial: what came, and how fast it was sent.
    last: Option<(Arc<Table>, f64)>,
}

impl<'a> Opener<'a> {
    /// Opens both ends, for packets of `what`, told by `marks`. `clear` empties the device's table, and is called before
    /// each trial.
    ///
    /// # Errors
    /// A capture; other packets than UDP without tags or tunnels; sweeps of random values, which may open a connection
    /// twice; devices that are another's, or not there.
    pub fn open(
        sides: [Side; 2],
        options: &Options,
        marks: Marks,
        what: &What,
        clear: &'a mut Clear<'a>,
        look: &'a dyn Look,
    ) -> Result<Self> {
        let What::Stream { content, seed } = what else {
            bail!("a capture opens no connections: give a profile with flows")
        };
        let content = Content { choice: Choice::RoundRobin, ..Content::clone(content) };
        connections_of(what)?;
        let packets = marks.of(what)?;
        let open = |side: &Side| End::open(&side.ports, options, packets, &side.enter);
        let [initiator, responder] = &sides;
        Ok(Self {
            initiator: open(initiator)?,
            responder: open(responder)?,
            length: in_memory(content.sizes.least()),
            content,
            seed: *seed,
            clear,
            look,
            // Another number than those of a run before this one, whose packets may be on their way still.
            run: (clock::now() / 1_000_000) as u32 & 0x00ff_ffff,
            last: None,
        })
    }

    /// Connections per second that the initiator reaches by itself, with `count` of them; how many the device opens does
    /// not matter.
    ///
    /// # Errors
    /// Those of a trial.
    pub fn reach(&mut self, count: u64) -> Result<f64> {
        (self.clear)()?;
        let phase = Phase { rate: Rate::Full, duration: Duration::from_secs(3600) };
        let (sent, _, _) = self.open_all(count, phase)?;
        let rate = sent.rate();
        ensure!(rate > 0.0, "the generator sent nothing: is the device up?");
        Ok(rate)
    }

    /// One phase 1: what was sent, what came, and how many packets this host had no room for.
    fn open_all(&mut self, count: u64, phase: Phase) -> Result<(Sent, Table, u64)> {
        let flows = u32::try_from(count).ok().filter(|_| count <= MOST);
        let Some(flows) = flows else { bail!("{count} connections cannot be: at most {MOST} can") };
        self.run = self.run.wrapping_add(1);
        let content = Arc::new(Content { flows, ..self.content.clone() });
        let what = What::Stream { content, seed: self.seed };
        let (run, phases) = (self.run, vec![phase]);
        let order = Arc::new(Order {
            what,
            run,
            phases,
            packets: Some(count),
            log: false,
            readable: None,
            patience: None,
        });
        let listening = self.responder.listen(Table::new(run, flows))?;
        let mut running = self.initiator.start(&order)?;
        let sent = loop {
            if let Some(sent) = running.wait(LOOK)? {
                break sent;
            }
            if self.look.is_cancelled() {
                running.stop();
            }
        };
        ensure!(sent.refused == 0, "the device refused {} packets: it is down, or full", sent.refused);
        settle(&listening, sent.packets());
        let (table, missed) = listening.end()?;
        Ok((sent, table, missed))
    }

    /// One phase 2: how many connections came back, and how many packets this host had no room for.
    fn answer_all(&mut self, table: &Arc<Table>, rate: f64, flows: u32) -> Result<(u64, u64)> {
        self.run = self.run.wrapping_add(1);
        let listening = self.initiator.listen(Table::new(self.run, flows))?;
        let answers = Answers { run: self.run, rate, length: self.length };
        let stop = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| -> Result<()> {
            let answering = scope.spawn(|| self.responder.answer(table, answers, &stop));
            while !answering.is_finished() {
                std::thread::sleep(LOOK);
                stop.store(self.look.is_cancelled(), Ordering::Relaxed);
            }
            answering.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        settle(&listening, table.count());
        let (back, missed) = listening.end()?;
        Ok((back.count(), missed))
    }
}

impl Connections for Opener<'_> {
    type Error = anyhow::Error;

    fn clear(&mut self) -> Result<()> {
        self.last = None;
        (self.clear)()
    }

    fn establish(&mut self, count: u64, rate: f64) -> Result<Established> {
        let per_second = rate.round().max(1.0);
        let least = Duration::from_secs_f64(count as f64 / per_second);
        // It ends with its last packet; the rest is for what a rate's last digit leaves.
        let duration = least + Duration::from_secs(1);
        let phase = Phase { rate: Rate::Shaped(per_second as u64, Shape::Constant), duration };
        let mut tries = 1;
        let (sent, table) = loop {
            let (sent, table, missed) = self.open_all(count, phase)?;
            ensure!(
                table.strange() == 0,
                "{} packets came tagged, in a tunnel, or not as UDP: such connections cannot be answered",
                table.strange()
            );
            let came = table.count() == sent.packets();
            // A generator that fell short makes no measurement, however often it is asked.
            let is_short = sent.packets() < count || sent.duration().mul_f64(1.0 - TOLERANCE) > least;
            let was_late = sent.late_ns > LATE_NS && !is_short;
            if came || (missed == 0 && !was_late) || self.look.is_cancelled() {
                break (sent, table);
            }
            ensure!(
                missed == 0 || tries < TRIES,
                "the responder's host dropped {missed} packets of its own, {TRIES} times over: give it a core of its \
                 own, a larger --ring, or a lower --max-rate"
            );
            if tries >= TRIES {
                break (sent, table);
            }
            tries += 1;
            self.clear()?;
        };
        // Each packet has an interval, the last one too.
        let duration = sent.duration().max(least);
        let offered = sent.packets() as f64 / duration.as_secs_f64();
        let (tried, established) = (sent.packets(), table.count());
        self.last = Some((Arc::new(table), offered));
        Ok(Established { offered, tried, established, duration })
    }

    fn validate(&mut self, count: u64) -> Result<u64> {
        let Some((table, rate)) = self.last.clone() else { return Ok(0) };
        if table.count() == 0 {
            return Ok(0);
        }
        let flows = u32::try_from(count)?;
        let mut tries = 1;
        loop {
            let (back, missed) = self.answer_all(&table, (rate * BACK).max(1.0), flows)?;
            if missed == 0 || back == table.count() || self.look.is_cancelled() {
                return Ok(back);
            }
            ensure!(
                tries < TRIES,
                "the initiator's host dropped {missed} packets of its own, {TRIES} times over: give it a core of its \
                 own, or a larger --ring"
            );
            tries += 1;
        }
    }
}

/// Waits until nothing comes any more, or all came.
fn settle(listening: &Listening, all: u64) {
    let start = Instant::now();
    let (mut counted, mut since) = (listening.count(), Instant::now());
    while counted < all && start.elapsed() < STRAGGLE && since.elapsed() < SILENCE {
        std::thread::sleep(LOOK);
        let now = listening.count();
        if now != counted {
            (counted, since) = (now, Instant::now());
        }
    }
}

/// How many connections the packets tell apart: by addresses and ports, not by anything else. At most [`MOST`].
///
/// # Errors
/// Those of [`Opener::open`] that concern the packets.
pub fn connections_of(what: &What) -> Result<u64> {
    let What::Stream { content, .. } = what else {
        bail!("a capture opens no connections: give a profile with flows")
    };
    let layers = &content.layers;
    ensure!(
        matches!(layers.transport, Transport::Udp { .. })
            && layers.tags.is_empty()
            && layers.tunnel.is_none(),
        "connections are opened with UDP, without tags or tunnels"
    );
    let mut told = 1u64;
    for (field, values) in &content.sweeps {
        let is_of_connection =
            matches!(field, Field::Source | Field::Destination | Field::SourcePort | Field::DestinationPort);
        ensure!(
            is_of_connection,
            "{field:?} varies, and connections differ by addresses and ports alone: let only these vary"
        );
        ensure!(
            !matches!(values, Values::Random(..)),
            "{field:?} is random, and might open a connection twice: give a range"
        );
        told = told.saturating_mul(values.count());
    }
    Ok(told.min(MOST))
}
