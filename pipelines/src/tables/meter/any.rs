//! Any of the meters, chosen by the configuration: closed, so that a call is one branch.

use super::bucket::Bucket;
use super::keyed::State;
use super::tcm::{SrTcm, TrTcm};
use super::window::Window;
use super::{Colour, Writers, ahead, is_past, point, word};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meter {
    /// Token bucket, or leaky bucket: green or red.
    Bucket(Bucket),
    /// RFC 2697.
    SrTcm(SrTcm),
    /// RFC 2698.
    TrTcm(TrTcm),
    /// A limit in any window of time: green or red.
    Window(Window),
}

impl std::fmt::Display for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bucket(meter) => meter.fmt(f),
            Self::SrTcm(meter) => meter.fmt(f),
            Self::TrTcm(meter) => meter.fmt(f),
            Self::Window(meter) => meter.fmt(f),
        }
    }
}

impl Meter {
    /// Words of a state.
    #[inline]
    #[must_use]
    pub fn words(&self) -> usize {
        match self {
            Self::Bucket(_) => Bucket::WORDS,
            Self::SrTcm(_) | Self::TrTcm(_) => 2,
            Self::Window(_) => Window::WORDS,
        }
    }

    /// What counts of `packets` packets that have `bytes` bytes together.
    #[inline]
    #[must_use]
    pub fn units(&self, packets: u64, bytes: u64) -> u64 {
        match self {
            Self::Bucket(meter) => meter.pace().units(packets, bytes),
            Self::SrTcm(meter) => meter.pace().units(packets, bytes),
            Self::TrTcm(meter) => meter.pace().units(packets, bytes),
            Self::Window(meter) => meter.units(packets, bytes),
        }
    }

    /// The colour of `units` at `now` (ns) that came with `colour`, which only the two three colour markers look at. A
    /// state that is too short is red.
    #[inline]
    pub fn take(
        &self,
        state: &[AtomicU64],
        now: u64,
        units: u64,
        colour: Colour,
        writers: Writers,
    ) -> Colour {
        let passed = match self {
            Self::Bucket(meter) => state.first().is_some_and(|state| meter.take(state, now, units, writers)),
            Self::Window(meter) => {
                state.first_chunk().is_some_and(|state| meter.take(state, now, units, writers))
            }
            Self::SrTcm(meter) => {
                let state = state.first_chunk();
                return state.map_or(Colour::Red, |state| meter.take(state, now, units, colour, writers));
            }
            Self::TrTcm(meter) => {
                let state = state.first_chunk();
                return state.map_or(Colour::Red, |state| meter.take(state, now, units, colour, writers));
            }
        };
        if passed { Colour::Green } else { Colour::Red }
    }

    /// Takes all `units` of several green packets if each of them is green. False also when that is not certain: then they
    /// are to be taken one by one.
    #[inline]
    pub fn take_all(&self, state: &[AtomicU64], now: u64, units: u64, writers: Writers) -> bool {
        match self {
            Self::Bucket(meter) => {
                state.first().is_some_and(|state| meter.take_all(state, now, units, writers))
            }
            Self::Window(meter) => {
                state.first_chunk().is_some_and(|state| meter.take(state, now, units, writers))
            }
            Self::SrTcm(meter) => {
                state.first_chunk().is_some_and(|state| meter.take_all(state, now, units, writers))
            }
            Self::TrTcm(meter) => {
                state.first_chunk().is_some_and(|state| meter.take_all(state, now, units, writers))
            }
        }
    }
}

impl State for Meter {
    #[inline]
    fn is_idle(&self, state: &[AtomicU64], now: u64) -> bool {
        state.iter().all(|word| self.is_past(word.load(Relaxed), now))
    }

    #[inline]
    fn is_past(&self, word: u64, now: u64) -> bool {
        match self {
            Self::Window(meter) => meter.is_past(word, now),
            _ => is_past(word, point(now)),
        }
    }

    fn fold(&self, second: &[AtomicU64], first: &[AtomicU64], now: u64) {
        for (second, first) in second.iter().zip(first) {
            let debt = second.swap(0, SeqCst);
            match self {
                Self::Window(meter) => meter.fold(debt, first, now),
                _ => {
                    let debt = ahead(debt, point(now));
                    Writers::Many.update(first, |old| Some(word(point(now), ahead(old, point(now)) + debt)));
                }
            }
        }
    }
}
