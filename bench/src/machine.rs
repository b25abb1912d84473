//! The machine: what figures were measured on, and how much of a core a thread really had.

use crate::tsc;
use std::fs;
use std::io;
use std::time::Duration;
use zsync_report::machine::Machine;

/// This machine, now. Which devices are used is for the caller to say.
pub fn look() -> Machine {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, name)| name.trim());
    let loadavg = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Machine {
        processor: processor.to_owned(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        ghz: tsc::ticks_per_nanosecond(),
        load: loadavg.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        ..Machine::default()
    }
}

/// The core that measured threads run on: the last one, as most of what else a machine does is on the first.
pub fn measured_core() -> usize {
    std::thread::available_parallelism().map_or(0, |cores| usize::from(cores) - 1)
}

/// How long thread `thread` of process `process` has been running on a core, without the time that others had it.
///
/// The kernel brings it up to date at its tick, so it may be some milliseconds old (kernel/sched/core.c, `sched_tick`).
///
/// # Errors
/// There is no such thread, or the kernel has no such account.
pub fn core_time(process: u32, thread: u32) -> io::Result<Duration> {
    let path = format!("/proc/{process}/task/{thread}/schedstat");
    let text = fs::read_to_string(&path)?;
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    nanoseconds.map(Duration::from_nanos).ok_or_else(|| io::Error::other(format!("{path}: {text:?}")))
}

/// How long each core was busy since the machine started, softirqs and interrupts included, core 0 first. In steps of the
/// kernel's `USER_HZ`, 10 ms.
///
/// # Errors
/// There is no `/proc/stat`.
pub fn busy_time() -> io::Result<Vec<Duration>> {
    Ok(busy(&fs::read_to_string("/proc/stat")?))
}

/// User, nice, system, interrupts and softirqs of each core, from `/proc/stat` (proc_stat(5)).
fn busy(stat: &str) -> Vec<Duration> {
    let of_core = |line: &str| {
        let mut fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
        fields.next()?;
        let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
        let busy = [0, 1, 2, 5, 6].into_iter().filter_map(|n| ticks.get(n)).sum::<u64>();
        line.as_bytes().get(3).is_some_and(u8::is_ascii_digit).then(|| Duration::from_millis(busy * 10))
    };
    stat.lines().filter_map(of_core).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_busy_with_all_but_idling_waiting_and_what_is_stolen() {
        let stat = "cpu  30 0 30 300 30 0 30 0 0 0\ncpu0 10 1 20 100 7 3 5 9 0 0\ncpu1 1 0 0 200 0 0 0 0 0 0\nintr 5 6\n";
        assert_eq!(busy(stat), [390, 10].map(Duration::from_millis));
    }
}
