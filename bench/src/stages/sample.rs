//! Samples: the middle one of several timed sweeps, and what a sweep must know of the machine.
//!
//! Keeps true: a sweep during which another thread had the core counts only where there is no other.

use crate::tsc;
use crate::watch::{Interrupted, Watch};
use anyhow::{Context, Result};
use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};
use zsync_report::spread::Spread;

/// Sweeps of a sample, at least.
const SWEEPS: usize = 3;
/// Sweeps that others interrupted, at most, while there are too few that nobody did.
const TORN: usize = 50;
/// Bytes of a last-level cache that the kernel does not tell.
const CACHE: usize = 32 << 20;

/// What one sweep took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    /// Clocks per packet.
    clocks: f64,
    /// No other thread had the core meanwhile.
    whole: bool,
}

impl Sweep {
    /// Times `work`, which is done to `packets` packets.
    pub(crate) fn of(packets: usize, work: impl FnOnce()) -> Self {
        let waited = waited();
        let before = tsc::read().unwrap_or(0);
        work();
        let after = tsc::read().unwrap_or(0);
        Self { clocks: after.wrapping_sub(before) as f64 / packets as f64, whole: waited == self::waited() }
    }
}

/// Clocks per packet: the middle one of as many sweeps as the time allows. Those during which another thread had the core
/// do not count, as long as there are others.
///
/// # Errors
/// Those of a sweep; the run is to stop.
pub(crate) fn sample(turn: Duration, watch: &Watch, mut sweep: impl FnMut() -> Result<Sweep>) -> Result<f64> {
    let (start, mut whole, mut torn) = (Instant::now(), Vec::new(), Vec::new());
    // The first sweep brings in what the case before it has put out of the caches.
    let mut first = true;
    while start.elapsed() < turn || (whole.len() < SWEEPS && torn.len() < TORN) {
        if watch.is_cancelled() {
            return Err(Interrupted.into());
        }
        let sweep = sweep()?;
        let sweeps = if sweep.whole { &mut whole } else { &mut torn };
        if !std::mem::take(&mut first) {
            sweeps.push(sweep.clocks);
        }
    }
    let spread = Spread::of(if whole.is_empty() { &torn } else { &whole });
    Ok(spread.context("no sweep came to its end")?.median)
}

/// Nanoseconds that this thread has waited for its core (the second number of `schedstat`; Documentation/scheduler).
fn waited() -> Option<u64> {
    fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').nth(1)?.parse().ok()
}

/// Memory that, once written, has put everything else out of the caches.
pub(crate) struct Eviction(Vec<u8>);

impl Eviction {
    /// Twice the last-level cache.
    pub(crate) fn new() -> Self {
        let kernel = fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index3/size").ok();
        let kib = kernel.and_then(|text| text.trim().strip_suffix('K')?.parse::<usize>().ok());
        // Twice its size, because it is not emptied in the order of use.
        Self(vec![0; 2 * kib.map_or(CACHE, |kib| kib << 10)])
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Writes it.
    pub(crate) fn evict(&mut self) {
        for line in self.0.chunks_mut(64) {
            line[0] = line[0].wrapping_add(1);
        }
        black_box(&self.0);
    }
}
