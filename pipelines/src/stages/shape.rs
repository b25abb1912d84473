//! `shape`: what is beyond a rate waits, each packet until its departure time.
//!
//! A packet leaves when it conforms to a token bucket (earliest departure time): this stage computes when that is, and the
//! worker's timing wheel keeps the packet until then. So a shaper is one word for each of its subjects, and has no queue of
//! its own. What would wait beyond `mark` gets the mark of congestion if its transport understands it (CE, RFC 3168 §5), what would wait
//! beyond `limit` is dropped, and counts for nothing.
//!
//! Keeps true: no packet of a subject is given an earlier departure than one before it; and, since departures are rounded up to
//! [`TICK`]s, at which the worker lets packets out before it receives, none overtakes another on the way out. (A subject that
//! found no slot and later does is two subjects for as long as what it left in the crowd's queue waits.)
//!
//! **Several workers** share each subject's word, so the rate is that of all of them together.

use super::police::{Congested, congest};
use crate::stage::{Chore, Cx, Stage};
use crate::tables::meter::Writers;
use crate::tables::meter::adaptive::Totals;
use crate::tables::meter::any::Meter;
use crate::tables::meter::bucket::{Bucket, Rule};
use crate::tables::meter::keyed::Slot;
use crate::tables::meter::pace::Pace;
use crate::tables::meter::subject::{Per, Subjects};
use std::sync::atomic::AtomicU64;
use zsync_packet::burst::{BURST, Burst};
use zsync_packet::flow::HashKey;
use zsync_packet::region::Region;
use zsync_packet::verdict::{DropReason, Verdict};

/// Departures are multiples of this, in nanoseconds of the clock: a tick of the worker's timing wheel. 128 bytes at 1 Gbit/s.
pub const TICK: u64 = 1024;

/// The longest limit, in nanoseconds: what a delay of 32 bits can say, less a tick.
pub const LONGEST_LIMIT: u64 = u32::MAX as u64 - TICK;

/// See the module.
#[derive(Clone, Debug)]
pub struct Shape {
    bucket: Bucket,
    /// The same for packets that are certain to overtake nobody: they conform a tick ago. None if the burst is not that long.
    early: Option<Bucket>,
    subjects: Subjects,
    /// Nanoseconds.
    limit: u64,
    /// Nanoseconds; none to mark nothing.
    mark: Option<u64>,
    writers: Writers,
}

impl Shape {
    /// Bytes of state for so many subjects.
    #[must_use]
    pub fn bytes(per: Per, capacity: usize) -> usize {
        Subjects::bytes(per, capacity, Bucket::WORDS)
    }

    /// Shapes to `pace`, of which `burst` (bytes, or packets; a packet at least) may leave at once. A packet waits `limit` ns
    /// at most, and is marked from `mark` ns on. `state` is fresh memory, or what a predecessor left, the same for all
    /// `workers`. None when it is shorter than [`Shape::bytes`], the burst takes hours, or the limit exceeds [`LONGEST_LIMIT`].
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "four say what is shaped to what, four where and for whom")]
    pub fn new(
        pace: Pace,
        burst: u64,
        limit: u64,
        mark: Option<u64>,
        per: Per,
        capacity: usize,
        state: Region,
        workers: usize,
        hash_key: HashKey,
    ) -> Option<Self> {
        let bucket = Bucket::new(pace, burst, Rule::Token)?;
        let subjects = Subjects::open(state, per, capacity, Bucket::WORDS, hash_key)?;
        let fits = limit <= LONGEST_LIMIT;
        let writers = Writers::of(workers);
        fits.then_some(Self { bucket, early: bucket.earlier(TICK), subjects, limit, mark, writers })
    }

    #[inline]
    fn one(&self, burst: &mut Burst, i: usize, state: &AtomicU64, now: u64, totals: &mut Totals) {
        let units = self.bucket.pace().units(1, burst.bytes(i).len() as u64);
        let Some(wait) = self.bucket.wait(state, now, units, self.limit, self.writers) else {
            totals.lost += 1;
            return burst.decide(i, Verdict::Drop(DropReason::ShapeFull));
        };
        totals.passed += 1;
        // What conforms since less than a tick may have one before it that still waits for that tick.
        if wait > -(TICK as i64) {
            let leaves = now.saturating_add_signed(wait).next_multiple_of(TICK);
            // At most the limit and a tick.
            burst.delay(i, leaves.saturating_sub(now) as u32);
        }
        if wait > 0 {
            totals.waited += wait as u64;
            if self.mark.is_some_and(|mark| wait as u64 >= mark) && congest(burst, i) == Congested::Now {
                totals.marked += 1;
            }
        }
    }

    fn together(&self, burst: &mut Burst, now: u64, totals: &mut Totals) {
        let Some(state) = self.subjects.common().first() else { return };
        let packets = u64::from(burst.live().count_ones());
        let bytes = if packets == burst.len() as u64 {
            burst.total_bytes()
        } else {
            burst.undecided().map(|i| burst.bytes(i).len() as u64).sum()
        };
        let units = self.bucket.pace().units(packets, bytes);
        if self.early.is_some_and(|early| early.take_all(state, now, units, self.writers)) {
            totals.passed += packets;
            return;
        }
        for i in burst.undecided() {
            self.one(burst, i, state, now, totals);
        }
    }
}

impl Stage for Shape {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let mut totals = Totals::default();
        match self.subjects.table() {
            None => self.together(burst, cx.now, &mut totals),
            Some(table) => {
                // All first lines of a burst together: their cache misses overlap.
                let mut hashes = [0; BURST];
                for i in burst.undecided() {
                    let hash = self.subjects.hash(burst.key(i));
                    table.prefetch(hash);
                    hashes[i & (BURST - 1)] = hash;
                }
                let meter = Meter::Bucket(self.bucket);
                for i in burst.undecided() {
                    let state = match table.slot(hashes[i & (BURST - 1)], cx.now, &meter) {
                        Slot::Own(state) => state,
                        Slot::Crowd => self.subjects.common(),
                    };
                    if let Some(state) = state.first() {
                        self.one(burst, i, state, cx.now, &mut totals);
                    }
                }
            }
        }
        if let Some(board) = self.subjects.board() {
            board.add(&totals, self.writers);
        }
    }

    fn explain(&self, burst: &Burst, i: usize, now: u64, out: &mut Vec<String>) {
        out.push(self.subjects.explain(burst.key(i), now, &Meter::Bucket(self.bucket)));
        let mark = self.mark.map_or(String::new(), |mark| format!(", marked beyond {} µs", mark / 1000));
        out.push(format!("{}; at most {} µs of waiting{mark}", self.bucket, self.limit / 1000));
    }

    fn chore(&self) -> Option<Chore> {
        Some(Chore::sliced("meters to be forgotten"))
    }

    fn tend(&mut self, now: u64) -> bool {
        self.subjects.tend(now, &Meter::Bucket(self.bucket));
        false
    }
}

#[cfg(test)]
mod tests;
