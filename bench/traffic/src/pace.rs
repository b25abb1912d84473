//! Departure times: when the next packet is to leave, in nanoseconds since the start.
//!
//! The times do not depend on when they are asked for, so a generator that falls behind shows it (`now` minus the time) and
//! does not thin out its traffic. Written as text: `constant`, `poisson`, `burst:32` (back to back), `burst:32@10000000` (at
//! that rate within the burst), `ramp:2000000@60s` (from the rate to 2,000,000/s within 60 s).
//!
//! Keeps true: times never go back; constant and bursty ones are exact for ever (integers, no drift), each rounded down to
//! its nanosecond; a ramp's are exact to a few nanoseconds for a hundred days.

use crate::share::Share;

mod course;
mod shape;

use course::Course;
pub use shape::Shape;

/// The highest rate: 200 million packets/s, above what 100 Gbit/s carries (148.8 million of 64 bytes).
pub const HIGHEST: u64 = 200_000_000;
/// The most packets that [`Pace::due`] counts: a burst.
pub const BURST: usize = 64;
const SECOND: u64 = 1_000_000_000;

/// Why there is no such pace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaceError {
    /// A rate outside of what there is.
    #[error("{0} packets/s cannot be: 1 to 200000000 can")]
    Rate(u64),
    /// A burst of nothing.
    #[error("a burst must have at least 1 packet")]
    Burst,
    /// A burst that would not be over when the next one starts.
    #[error("{peak} packets/s within bursts is below the mean rate of {rate}: it must be higher")]
    Peak {
        /// The rate within bursts.
        peak: u64,
        /// The mean rate.
        rate: u64,
    },
    /// A ramp without length.
    #[error("a ramp must last, for at most 24 hours")]
    Ramp,
    /// A text that is no shape.
    #[error("`{0}` is no shape: expected constant, poisson, burst:32, burst:32@10000000 or ramp:2000000@60s")]
    Syntax(String),
}

/// Departure times, one after the other.
#[derive(Clone, Debug)]
pub struct Pace {
    course: Course,
    /// Times that were looked at already: `queued` of them from `head` on.
    ahead: [u64; BURST],
    head: usize,
    queued: usize,
    last: u64,
}

impl Pace {
    /// Times of `shape` at `rate` packets/s; a ramp starts with that rate. The seed counts for Poisson alone.
    ///
    /// # Errors
    /// See [`PaceError`].
    pub fn new(shape: Shape, rate: u64, seed: u64) -> Result<Self, PaceError> {
        Self::share(shape, rate, seed, Share::WHOLE)
    }

    /// Times of a share of the packets, when the whole has `rate` packets/s (and `shape`'s rates are the whole's).
    ///
    /// The shares of `n` equal parts take turns: packet `k` of part `p` leaves as packet `k·n + p` of the whole, and so do
    /// bursts; unequal parts leave as evenly, each by itself. Poisson's are independent, and their union is Poisson's.
    /// Ask for each part with the same seed.
    ///
    /// # Errors
    /// See [`PaceError`].
    pub fn share(shape: Shape, rate: u64, seed: u64, share: Share) -> Result<Self, PaceError> {
        let course = Course::new(shape, rate, seed, share)?;
        Ok(Self { course, ahead: [0; BURST], head: 0, queued: 0, last: 0 })
    }

    /// Takes the next packet's departure, in ns since the start.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "it never ends, so there is no Option")]
    pub fn next(&mut self) -> u64 {
        if self.queued == 0 {
            return self.draw();
        }
        let time = self.ahead[self.head];
        self.head = (self.head + 1) % BURST;
        self.queued -= 1;
        time
    }

    /// When the next packet is to leave; it is not taken.
    #[inline]
    pub fn peek(&mut self) -> u64 {
        if self.queued == 0 {
            self.look();
        }
        self.ahead[self.head]
    }

    /// How many packets are due at `now` (ns since the start) and not taken yet; [`BURST`] says "that many or more".
    pub fn due(&mut self, now: u64) -> usize {
        loop {
            let last = (self.head + self.queued).wrapping_sub(1) % BURST;
            if self.queued == BURST || self.queued > 0 && self.ahead[last] > now {
                break;
            }
            self.look();
        }
        (0..self.queued).take_while(|at| self.ahead[(self.head + at) % BURST] <= now).count()
    }

    fn look(&mut self) {
        self.ahead[(self.head + self.queued) % BURST] = self.draw();
        self.queued += 1;
    }

    fn draw(&mut self) -> u64 {
        self.last = self.course.step().max(self.last);
        self.last
    }
}

#[cfg(test)]
mod tests;
