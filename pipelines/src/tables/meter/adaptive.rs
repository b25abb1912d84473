//! A rate that follows a target: additive increase, multiplicative decrease (Chiu and Jain, 1989).
//!
//! **What it measures** is told by a [`Board`]: counts that a shaper keeps of the packets that it let through, how long it
//! made them wait, and how many it dropped or marked. So the latency is the mean wait *in that shaper's queue*, over the last
//! interval, and the loss is the part of the packets that the shaper dropped or CE-marked. It says nothing of queues or
//! losses elsewhere in the network: the shaper's rate must be the bottleneck's.
//!
//! **It moves by time.** The meter keeps its pace, that of the ceiling, and is told a time that passes more slowly: at half the
//! ceiling, half as fast. So a change of the rate leaves every state what it was, in bytes: nothing is given, nothing lacks.
//!
//! Once an interval, one worker looks (who is first): beyond the target the rate becomes 7/8 of what it was, but not less
//! than the floor; else, if the meter had to refuse anything, it grows by a 128th of the ceiling. A rate that nobody asks
//! more of stays as it is. Without a packet in the shaper there is nothing to follow: as if within the target.

use super::{SKEW, Writers};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

/// Words of a [`Board`].
const BOARD: usize = 4;

/// What a shaper tells of its queue: four words that only grow. Several may write.
#[derive(Clone, Copy, Debug)]
pub struct Board<'a> {
    words: &'a [AtomicU64; BOARD],
}

/// Sums since the beginning; they wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets let through.
    pub passed: u64,
    /// Packets dropped.
    pub lost: u64,
    /// Packets let through with a mark (CE) that they did not come with.
    pub marked: u64,
    /// Nanoseconds that all packets let through had to wait.
    pub waited: u64,
}

impl Totals {
    /// Of two boards together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            passed: self.passed.wrapping_add(other.passed),
            lost: self.lost.wrapping_add(other.lost),
            marked: self.marked.wrapping_add(other.marked),
            waited: self.waited.wrapping_add(other.waited),
        }
    }
}

impl<'a> Board<'a> {
    /// Words that it takes.
    pub const WORDS: usize = BOARD;

    /// The board in these words.
    #[must_use]
    pub fn new(words: &'a [AtomicU64; BOARD]) -> Self {
        Self { words }
    }

    /// Adds what became of a burst.
    #[inline]
    pub fn add(&self, more: &Totals, writers: Writers) {
        let more = [more.passed, more.lost, more.marked, more.waited];
        for (word, more) in self.words.iter().zip(more).filter(|(_, more)| *more != 0) {
            match writers {
                Writers::One => word.store(word.load(Relaxed).wrapping_add(more), Relaxed),
                Writers::Many => {
                    word.fetch_add(more, Relaxed);
                }
            }
        }
    }

    /// What it says now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let [passed, lost, marked, waited] = self.words;
        let load = |word: &AtomicU64| word.load(Relaxed);
        Totals { passed: load(passed), lost: load(lost), marked: load(marked), waited: load(waited) }
    }
}

/// What the rate is to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Mean wait in the shaper, in nanoseconds.
    Wait(u64),
    /// Packets dropped or marked by the shaper, in a million of those that came to it.
    Loss(u32),
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    floor: u64,
    ceiling: u64,
    target: Target,
    interval: u64,
}

/// The state's words: when to look next (ns); whether the meter refused anything; the board's totals at the last look; then
/// the rate, since when it is so (ns), and what the meter's time was then, under a version that is odd while they change.
const NEXT: usize = 0;
const REFUSED: usize = 1;
const SEEN: usize = 2;
const VERSION: usize = SEEN + BOARD;
const RATE: usize = VERSION + 1;
const SINCE: usize = VERSION + 2;
const METER: usize = VERSION + 3;

/// A rate, and the meter's time when it began.
#[derive(Clone, Copy, Debug)]
struct Course {
    rate: u64,
    since: u64,
    meter: u64,
}

impl Adaptive {
    /// Words of its state.
    pub const WORDS: usize = METER + 1;

    /// A rate from `floor` to `ceiling` a second, looked at every `interval` ns. None unless 0 < floor ≤ ceiling, and the
    /// interval is 1 ms at least.
    #[must_use]
    pub fn new(floor: u64, ceiling: u64, target: Target, interval: u64) -> Option<Self> {
        let fits = floor > 0 && floor <= ceiling && interval >= 1_000_000;
        fits.then_some(Self { floor, ceiling, target, interval })
    }

    /// The rate as it is now: the ceiling at first, and while it is just being changed.
    #[must_use]
    pub fn rate(&self, state: &[AtomicU64; Self::WORDS]) -> u64 {
        self.course(state, 0).map_or(self.ceiling, |course| course.rate)
    }

    /// The course, as it is now: at the ceiling from `now` on when there is none yet. None while it is changed, or when a
    /// worker died over that.
    #[inline]
    fn course(&self, state: &[AtomicU64; Self::WORDS], now: u64) -> Option<Course> {
        let version = state[VERSION].load(Acquire);
        if version == 0 {
            return Some(Course { rate: self.ceiling, since: now, meter: now });
        }
        let [rate, since, meter] = [RATE, SINCE, METER].map(|word| state[word].load(Relaxed));
        fence(Acquire);
        let settled = version.is_multiple_of(2) && version == state[VERSION].load(Relaxed);
        settled.then(|| Course { rate: rate.clamp(self.floor, self.ceiling), since, meter })
    }

    /// Notes that the meter had to refuse something.
    #[inline]
    pub fn note_refusal(&self, state: &[AtomicU64; Self::WORDS]) {
        if state[REFUSED].load(Relaxed) == 0 {
            state[REFUSED].store(1, Relaxed);
        }
    }

    /// Looks at the board, when it is time. Returns the meter's time at `now` (ns), which was `last` before: never ahead of
    /// `now`, unless the clock went back.
    #[inline]
    pub fn follow(
        &self,
        state: &[AtomicU64; Self::WORDS],
        now: u64,
        last: u64,
        board: impl FnOnce() -> Totals,
    ) -> u64 {
        let next = state[NEXT].load(Relaxed);
        // Far ahead: the clock has gone back.
        let due = now >= next || next - now > self.interval.saturating_add(SKEW);
        if due && state[NEXT].compare_exchange(next, now + self.interval, Relaxed, Relaxed).is_ok() {
            let meter = self.meter_time(state, now, last);
            self.look(state, now, meter, board(), next == 0);
        }
        self.meter_time(state, now, last)
    }

    #[inline]
    fn meter_time(&self, state: &[AtomicU64; Self::WORDS], now: u64, last: u64) -> u64 {
        // It stands for as long as another worker changes its course.
        let Some(Course { rate, since, meter }) = self.course(state, now) else { return last };
        let passed = u128::from(now.saturating_sub(since)) * u128::from(rate) / u128::from(self.ceiling);
        meter.saturating_add(passed as u64)
    }

    #[cold]
    fn look(&self, state: &[AtomicU64; Self::WORDS], now: u64, meter: u64, totals: Totals, first: bool) {
        let seen = |at: usize, new: u64| {
            let grown = new.wrapping_sub(state[SEEN + at].swap(new, Relaxed));
            // Less than before: it is another board.
            if grown > i64::MAX as u64 { 0 } else { u128::from(grown) }
        };
        let (passed, lost) = (seen(0, totals.passed), seen(1, totals.lost));
        let (marked, waited) = (seen(2, totals.marked), seen(3, totals.waited));
        let refused = state[REFUSED].swap(0, Relaxed) != 0;
        let beyond = match self.target {
            Target::Wait(target) => waited > u128::from(target) * passed,
            Target::Loss(target) => (lost + marked) * 1_000_000 > u128::from(target) * (passed + lost),
        };
        let rate = self.rate(state);
        let rate = match (beyond, refused) {
            // What was there before the first look is not of this interval.
            _ if first => rate,
            (true, _) => rate - rate / 8,
            (false, true) => rate.saturating_add((self.ceiling / 128).max(1)),
            (false, false) => rate,
        };
        // One writer an interval. One that was preempted for longer, or died, left an odd version: the next one makes it even.
        let version = state[VERSION].load(Relaxed) | 1;
        state[VERSION].store(version, Relaxed);
        fence(Release);
        let rate = rate.clamp(self.floor, self.ceiling);
        for (word, value) in [(RATE, rate), (SINCE, now), (METER, meter)] {
            state[word].store(value, Relaxed);
        }
        state[VERSION].store(version.wrapping_add(1).max(2), Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::array::from_fn;

    const MS: u64 = 1_000_000;

    fn state() -> [AtomicU64; Adaptive::WORDS] {
        from_fn(|_| AtomicU64::new(0))
    }

    /// A shaper in front of a link of `link` units a second, whose queue is what came beyond it: the rate after each look.
    fn lab(target: Target, link: u64, looks: u64) -> Vec<u64> {
        let adaptive = Adaptive::new(1_000, 1_000_000, target, 100 * MS).unwrap();
        let (state, mut queue, mut totals, mut rates) = (state(), 0u64, Totals::default(), Vec::new());
        for look in 1..=looks * 10 {
            adaptive.follow(&state, look * 10 * MS, 0, || totals);
            let rate = adaptive.rate(&state);
            adaptive.note_refusal(&state);
            queue += rate / 100;
            let out = queue.min(link / 100);
            queue -= out;
            // A queue of up to 100 ms; what is beyond is lost.
            let lost = queue.saturating_sub(link / 10);
            queue -= lost;
            totals.passed += out;
            totals.lost += lost;
            totals.waited += out * (queue * 1_000 * MS / link);
            rates.push(rate);
        }
        rates
    }

    #[test]
    fn the_rate_finds_the_link_behind_the_shaper_and_stays_around_it() {
        for target in [Target::Wait(5 * MS), Target::Loss(1_000)] {
            let rates = lab(target, 200_000, 600);
            let late = &rates[3_000..];
            let mean = late.iter().sum::<u64>() / late.len() as u64;
            assert!((160_000..=205_000).contains(&mean), "{target:?}: {mean}");
            assert!(late.iter().all(|rate| (100_000..=260_000).contains(rate)), "{target:?}");
        }
    }

    #[test]
    fn it_goes_to_its_ceiling_and_to_its_floor_and_no_further() {
        assert_eq!(lab(Target::Wait(5 * MS), 100_000_000, 300).last(), Some(&1_000_000));
        assert_eq!(lab(Target::Wait(0), 100, 300).last(), Some(&1_000));
    }

    #[test]
    fn a_rate_that_nobody_asks_more_of_stays() {
        let adaptive = Adaptive::new(10, 1_000, Target::Loss(0), MS).unwrap();
        let state = state();
        let mut totals = Totals::default();
        for look in 1..20 {
            (totals.passed, totals.lost) = (look, look.min(10));
            adaptive.follow(&state, look * MS, 0, || totals);
        }
        let low = adaptive.rate(&state);
        assert!(low < 1_000);
        for look in 20..200 {
            adaptive.follow(&state, look * MS, 0, || totals);
            assert_eq!(adaptive.rate(&state), low);
        }
        adaptive.note_refusal(&state);
        adaptive.follow(&state, 200 * MS, 0, || totals);
        assert_eq!(adaptive.rate(&state), low + 7);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_stop_it_and_another_board_does_not_scare_it() {
        let adaptive = Adaptive::new(10, 1_000, Target::Loss(0), MS).unwrap();
        let state = state();
        let old = Totals { passed: 1_000, ..Totals::default() };
        adaptive.follow(&state, 3_600_000 * MS, 0, || old);
        adaptive.follow(&state, 5 * MS, 0, Totals::default);
        let lossy = Totals { passed: 1, lost: 1, ..Totals::default() };
        adaptive.follow(&state, 7 * MS, 0, || lossy);
        assert_eq!(adaptive.rate(&state), 875);
    }

    #[test]
    fn the_meters_time_passes_as_fast_as_the_rate_is_and_never_jumps() {
        let adaptive = Adaptive::new(1, 1_000, Target::Loss(0), 100 * MS).unwrap();
        let (state, mut totals, mut expected) = (state(), Totals::default(), 1_000 * MS);
        let mut last = adaptive.follow(&state, 1_000 * MS, 0, || totals);
        assert_eq!(last, 1_000 * MS);
        for step in 1..1_000u64 {
            let now = (1_000 + step) * MS;
            let rate = adaptive.rate(&state);
            totals.lost += u64::from(step < 300);
            let time = adaptive.follow(&state, now, last, || totals);
            adaptive.note_refusal(&state);
            expected += rate * MS / 1_000;
            assert!(time >= last && time.abs_diff(expected) <= step, "{step}: {time} {expected}");
            last = time;
        }
        assert!(expected < 1_900 * MS);
    }

    #[test]
    fn a_worker_that_died_while_it_changed_the_rate_stops_nobody() {
        let adaptive = Adaptive::new(1, 1_000, Target::Loss(0), 100 * MS).unwrap();
        let state = state();
        let follow = |now, last| adaptive.follow(&state, now * MS, last * MS, Totals::default) / MS;
        assert_eq!(follow(1_000, 0), 1_000);
        state[VERSION].fetch_add(1, Relaxed);
        assert_eq!([follow(1_050, 1_020), follow(1_060, 1_020)], [1_020; 2], "it stands");
        assert_eq!([follow(1_200, 1_020), follow(1_250, 1_020)], [1_020, 1_070]);
        assert_eq!(state[VERSION].load(Relaxed) % 2, 0);
    }

    #[test]
    fn refuses_what_cannot_be_followed() {
        assert_eq!(Adaptive::new(0, 1, Target::Loss(0), MS), None);
        assert_eq!(Adaptive::new(2, 1, Target::Loss(0), MS), None);
        assert_eq!(Adaptive::new(1, 1, Target::Loss(0), MS - 1), None);
    }
}
