//! The kernel's monotonic clock, in nanoseconds: that of `bpf_ktime_get_ns`, so that times of packets compare.

use rustix::time::{ClockId, Timespec, clock_gettime};

const SECOND: u64 = 1_000_000_000;
/// Nanoseconds before a time at which a sleep for it ends: the timer's slack (50 µs by default) and the way back.
const SPIN: u64 = 120_000;

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

/// Returns at `time`, or at once when it has passed: sleeps while it is far, spins the last 120 µs.
pub fn wait_until(time: u64) {
    let wake = time.saturating_sub(SPIN);
    if now() < wake {
        let request = Timespec { tv_sec: (wake / SECOND) as i64, tv_nsec: (wake % SECOND) as i64 };
        // A signal ends it early: the spin below is then longer, the time is the same.
        let _ = rustix::thread::clock_nanosleep_absolute(ClockId::Monotonic, &request);
    }
    while now() < time {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_never_ends_early() {
        for nanoseconds in [0, 1_000, 500_000] {
            let due = now() + nanoseconds;
            wait_until(due);
            assert!(now() >= due);
        }
        wait_until(0);
    }
}
