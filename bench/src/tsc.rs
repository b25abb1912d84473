//! The processor's time stamp counter: what a "clock" is in this crate's figures.
//!
//! It ticks at a constant rate, near the core's base clock, whatever the core's frequency is at the moment: so a clock is a
//! fixed time, and figures in it compare with those that others publish. Refuses: architectures without one (`None`).
#![expect(unsafe_code, reason = "the one instruction that reads the counter")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Long enough that reading the two clocks one after the other (some 20 ns) is nothing.
const CALIBRATION: Duration = Duration::from_millis(50);

/// Ticks per nanosecond, measured against the monotonic clock.
pub fn ticks_per_nanosecond() -> Option<f64> {
    let (start, first) = (Instant::now(), read()?);
    std::thread::sleep(CALIBRATION);
    let (elapsed, last) = (start.elapsed(), read()?);
    Some(last.wrapping_sub(first) as f64 / elapsed.as_nanos() as f64)
}

/// The counter, after all loads and stores before it are done; 0 where there is none. As DPDK's `rte_rdtsc_precise`: a
/// locked addition on the stack is a full barrier, and cheaper than the instruction that is only that.
#[inline]
pub fn ordered() -> u64 {
    std::hint::black_box(&AtomicU64::new(0)).fetch_add(1, Ordering::SeqCst);
    read().unwrap_or(0)
}

/// The counter, now; not ordered against what else the processor has under way, so time thousands of clocks with it.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn read() -> Option<u64> {
    // SAFETY: every x86-64 processor has the instruction, and it touches no memory.
    Some(unsafe { std::arch::x86_64::_rdtsc() })
}

/// There is none.
#[cfg(not(target_arch = "x86_64"))]
pub fn read() -> Option<u64> {
    None
}
