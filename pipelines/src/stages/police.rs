//! `police`: what is beyond a rate is dropped, or marked.
//!
//! One meter for all packets, one for each source prefix, or one for each flow ([`Subjects`]); each packet gets a colour, and
//! each colour its treatment. Counts whole frames as they lie in memory, Ethernet header included, without their checksum,
//! and `overhead` bytes more for each.
//!
//! **Several workers** share each meter, in the one region that all of them open, so the rate is that of all of them together.
//! Owns nothing. A burst that is wholly within an aggregate's rate is one
//! decision.

use crate::stage::{Chore, Cx, Stage};
use crate::tables::meter::adaptive::{Adaptive, Totals};
use crate::tables::meter::any::Meter;
use crate::tables::meter::keyed::Slot;
use crate::tables::meter::subject::{Per, Subjects, board};
use crate::tables::meter::{Colour, Writers};
use serde::{Deserialize, Serialize};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use zsync_packet::burst::{BURST, Burst};
use zsync_packet::flow::HashKey;
use zsync_packet::header::{Ipv4, Ipv4Mut, Ipv6, Ipv6Mut};
use zsync_packet::region::Region;
use zsync_packet::verdict::{DropReason, Verdict};

/// Whether a packet of a colour goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It does.
    #[default]
    Pass,
    /// It is dropped.
    Drop,
    /// It goes on with a mark that its sender will see (CE, RFC 3168 §5); dropped if it cannot have one.
    Congest,
}

/// What is done with the packets of a colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Treatment {
    /// Whether it goes on.
    pub fate: Fate,
    /// The mark that it gets for later stages.
    pub mark: Option<u32>,
    /// The code point that it gets (RFC 2474), 0 to 63.
    pub dscp: Option<u8>,
}

impl Treatment {
    /// Dropped.
    pub const DROP: Self = Self { fate: Fate::Drop, mark: None, dscp: None };

    #[inline]
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What follows a target.
#[derive(Clone, Debug)]
pub struct Following {
    /// How the rate moves.
    pub adaptive: Adaptive,
    /// The states of the shapers whose queue it follows.
    pub shapers: Vec<Region>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Police {
    meter: Meter,
    subjects: Subjects,
    /// By colour.
    treatments: [Treatment; 3],
    /// Packets come with colours: the drop precedence of their code point.
    aware: bool,
    writers: Writers,
    following: Option<Following>,
    /// The meter's time at the last burst.
    last: u64,
}

impl Police {
    /// Bytes of state for a meter and so many subjects.
    #[must_use]
    pub fn bytes(per: Per, capacity: usize, meter: &Meter) -> usize {
        Subjects::bytes(per, capacity, meter.words())
    }

    /// Polices by `meter`, whose states lie in `state`: fresh memory, or what a predecessor left, the same for all `workers`.
    /// `treatments` by colour: green, yellow, red. None when the memory is shorter than [`Police::bytes`].
    #[must_use]
    pub fn new(
        meter: Meter,
        per: Per,
        capacity: usize,
        state: Region,
        workers: usize,
        hash_key: HashKey,
        treatments: [Treatment; 3],
    ) -> Option<Self> {
        let subjects = Subjects::open(state, per, capacity, meter.words(), hash_key)?;
        let writers = Writers::of(workers);
        Some(Self { meter, subjects, treatments, aware: false, writers, following: None, last: 0 })
    }

    /// Packets keep the colour that they come with, or get a worse one. It is the drop precedence of the assured forwarding
    /// classes (RFC 2597 §6): low is green, medium yellow, high red; all other code points are green.
    #[must_use]
    pub fn aware(self) -> Self {
        Self { aware: true, ..self }
    }

    /// The rate of the meter, which is the ceiling, follows a target.
    #[must_use]
    pub fn following(self, following: Following) -> Self {
        Self { following: Some(following), ..self }
    }

    /// The meter's time.
    #[inline]
    fn time(&mut self, now: u64) -> u64 {
        let (Some(following), Some(state)) = (&self.following, self.subjects.adaptive()) else { return now };
        let boards = || following.shapers.iter().filter_map(board);
        let totals = || boards().fold(Totals::default(), |sum, board| sum.plus(&board.totals()));
        self.last = following.adaptive.follow(state, now, self.last, totals);
        self.last
    }

    #[inline]
    fn one(&self, burst: &mut Burst, i: usize, state: &[AtomicU64], now: u64) -> Colour {
        let came = if self.aware { came(burst, i) } else { Colour::Green };
        let units = self.meter.units(1, burst.bytes(i).len() as u64);
        let colour = self.meter.take(state, now, units, came, self.writers);
        let treatment = self.treatments[colour as usize];
        if !treatment.is_nothing() {
            treat(burst, i, treatment);
        }
        colour
    }

    /// The worst colour that there was.
    #[inline]
    fn together(&self, burst: &mut Burst, now: u64) -> Colour {
        let state = self.subjects.common();
        let live = burst.live();
        let packets = live.count_ones() as usize;
        let bytes = if packets == burst.len() {
            burst.total_bytes()
        } else {
            burst.undecided().map(|i| burst.bytes(i).len() as u64).sum()
        };
        let units = self.meter.units(packets as u64, bytes);
        if !self.aware && self.meter.take_all(state, now, units, self.writers) {
            let [green, ..] = self.treatments;
            if !green.is_nothing() {
                burst.undecided().for_each(|i| treat(burst, i, green));
            }
            return Colour::Green;
        }
        burst.undecided().map(|i| self.one(burst, i, state, now)).max().unwrap_or_default()
    }
}

impl Stage for Police {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let now = self.time(cx.now);
        let Some(table) = self.subjects.table() else {
            let worst = self.together(burst, now);
            return self.note(worst);
        };
        // All first lines of a burst together: their cache misses overlap.
        let mut hashes = [0; BURST];
        for i in burst.undecided() {
            let hash = self.subjects.hash(burst.key(i));
            table.prefetch(hash);
            hashes[i & (BURST - 1)] = hash;
        }
        let mut worst = Colour::Green;
        for i in burst.undecided() {
            let state = match table.slot(hashes[i & (BURST - 1)], now, &self.meter) {
                Slot::Own(state) => state,
                Slot::Crowd => self.subjects.common(),
            };
            worst = worst.max(self.one(burst, i, state, now));
        }
        self.note(worst);
    }

    fn explain(&self, burst: &Burst, i: usize, now: u64, out: &mut Vec<String>) {
        out.push(self.subjects.explain(burst.key(i), now, &self.meter));
        out.push(self.meter.to_string());
        let came = if self.aware { came(burst, i) } else { Colour::Green };
        if self.aware {
            out.push(format!("it came {came:?}").to_lowercase());
        }
        if self.following.is_some() {
            return out.push("that rate is the most: what it is now follows a target".to_owned());
        }
        // On a copy, so that nothing is taken.
        let key = burst.key(i);
        let words = self.subjects.state(key).unwrap_or(&[]).iter().map(|word| word.load(Relaxed));
        let mut state: Vec<AtomicU64> = words.map(AtomicU64::new).collect();
        state.resize_with(self.meter.words(), AtomicU64::default);
        let units = self.meter.units(1, burst.bytes(i).len() as u64);
        let colour = self.meter.take(&state, now, units, came, Writers::One);
        let Treatment { fate, mark, dscp } = self.treatments[colour as usize];
        let fate = match fate {
            Fate::Pass => "goes on",
            Fate::Drop => "is dropped",
            Fate::Congest => "goes on with a mark of congestion, or is dropped if it cannot have one",
        };
        let mark = mark.map_or(String::new(), |mark| format!(", with mark {mark:#x}"));
        let dscp = dscp.map_or(String::new(), |dscp| format!(", with DSCP {dscp}"));
        out.push(format!("{}: {fate}{mark}{dscp}", format!("{colour:?}").to_lowercase()));
    }

    fn chore(&self) -> Option<Chore> {
        Some(Chore::sliced("meters to be forgotten"))
    }

    fn tend(&mut self, now: u64) -> bool {
        let now = self.time(now);
        self.subjects.tend(now, &self.meter);
        false
    }
}

impl Police {
    #[inline]
    fn note(&self, worst: Colour) {
        if let (Some(following), Colour::Red, Some(state)) =
            (&self.following, worst, self.subjects.adaptive())
        {
            following.adaptive.note_refusal(state);
        }
    }
}

/// The colour that a packet came with.
fn came(burst: &Burst, i: usize) -> Colour {
    let facts = burst.facts(i);
    let packet = burst.bytes(i).get(usize::from(facts.l3)..).unwrap_or(&[]);
    let dscp = match facts.version {
        4 => Ipv4::parse(packet).map(|ip| ip.dscp()),
        6 => Ipv6::parse(packet).map(|ip| ip.dscp()),
        _ => return Colour::Green,
    };
    // AFcp is 8c + 2p (RFC 2597 §6), for classes 1 to 4.
    match dscp {
        Ok(dscp) if (8..40).contains(&dscp) => match dscp & 7 {
            4 => Colour::Yellow,
            6 => Colour::Red,
            _ => Colour::Green,
        },
        _ => Colour::Green,
    }
}

#[inline]
fn treat(burst: &mut Burst, i: usize, treatment: Treatment) {
    if let Some(mark) = treatment.mark {
        burst.facts_mut(i).mark = mark;
    }
    match treatment.fate {
        Fate::Drop => return burst.decide(i, Verdict::Drop(DropReason::Policed)),
        Fate::Congest if congest(burst, i) == Congested::Cannot => {
            return burst.decide(i, Verdict::Drop(DropReason::Policed));
        }
        Fate::Congest | Fate::Pass => {}
    }
    if let Some(dscp) = treatment.dscp {
        let facts = *burst.facts(i);
        let packet = burst.bytes_mut(i).get_mut(usize::from(facts.l3)..).unwrap_or_default();
        match facts.version {
            4 => Ipv4Mut::parse(packet).iter_mut().for_each(|ip| ip.set_dscp(dscp)),
            6 => Ipv6Mut::parse(packet).iter_mut().for_each(|ip| ip.set_dscp(dscp)),
            _ => {}
        }
    }
}

/// What came of [`congest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Congested {
    /// The packet has the mark now.
    Now,
    /// It had it before.
    Before,
    /// Its transport does not understand marks, or it is not IP.
    Cannot,
}

/// Sets the congestion mark on a packet whose transport understands it (RFC 3168 §5).
#[inline]
pub(crate) fn congest(burst: &mut Burst, i: usize) -> Congested {
    const NOT_ECT: u8 = 0;
    const CE: u8 = 3;
    let facts = *burst.facts(i);
    let packet = burst.bytes_mut(i).get_mut(usize::from(facts.l3)..).unwrap_or_default();
    let outcome = |ecn| match ecn {
        NOT_ECT => Congested::Cannot,
        CE => Congested::Before,
        _ => Congested::Now,
    };
    match facts.version {
        4 => {
            let Ok(mut ip) = Ipv4Mut::parse(packet) else { return Congested::Cannot };
            let outcome = outcome(ip.view().ecn());
            if outcome == Congested::Now {
                ip.set_ecn(CE);
            }
            outcome
        }
        6 => {
            let Ok(mut ip) = Ipv6Mut::parse(packet) else { return Congested::Cannot };
            let outcome = outcome(ip.view().ecn());
            if outcome == Congested::Now {
                ip.set_ecn(CE);
            }
            outcome
        }
        _ => Congested::Cannot,
    }
}

#[cfg(test)]
mod tests;
