//! `kill -9` of the data plane, again and again, under traffic: each time its successor goes on where it stopped.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use zsync_tests::config::{ROUTER, by};
use zsync_tests::iperf::Iperf;
use zsync_tests::{Control, Flow, Shape, by_each_device, in_lab, ping, wait_for};

by_each_device!(a_flow_goes_on_through_every_kill, a_tcp_connection_lives_on);

/// Kills of one test; `ZSYNC_DRILLS` says otherwise.
const DRILLS: usize = 100;
/// Between the successor's start and the next kill: longer than the 50 ms after which control no longer takes a death
/// for a start that failed.
const REST: Duration = Duration::from_millis(120);
/// How soon packets must flow again.
const LIMIT: Duration = Duration::from_millis(100);

fn drills() -> usize {
    std::env::var("ZSYNC_DRILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(DRILLS)
}

fn a_flow_goes_on_through_every_kill(device: &str) {
    in_lab(Shape::router(), |lab| {
        let mut control = Control::start(lab, &by(device, ROUTER))?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        let flow = Flow::to_server(lab, 20_000, 7000)?;
        std::thread::sleep(REST);
        let mut kills = Vec::new();
        for _ in 0..drills() {
            kills.push(flow.now());
            let killed = control.kill9_dataplane()?;
            control.wait_successor(killed)?;
            std::thread::sleep(REST);
        }
        let end = flow.now();
        let report = flow.finish()?;

        let ends = kills.iter().skip(1).copied().chain([end]);
        let mut silences = Vec::new();
        let mut losses = Vec::new();
        for (kill, next) in kills.iter().zip(ends) {
            // What was sent just before may be what is waited for.
            let since = kill.saturating_sub(Duration::from_millis(5));
            silences.push(report.longest_silence(since..next - Duration::from_millis(5)));
            losses.push(report.lost_in(since..next - Duration::from_millis(5)));
        }
        let total: u64 = losses.iter().sum();
        silences.sort_unstable();
        losses.sort_unstable();
        let (middle, last) = (kills.len() / 2, kills.len() - 1);
        println!("{report}");
        println!(
            "{} kills: silence median {:.1?}, longest {:.1?}; lost median {}, most {}, in all {total}",
            kills.len(),
            silences[middle],
            silences[last],
            losses[middle],
            losses[last],
        );
        let log = control.log();
        std::fs::write("/tmp/drill-control.log", &log).unwrap();
        let told =
            log.lines().filter_map(|line| line.split_once("microseconds=")?.1.trim().parse::<u64>().ok());
        println!("control says that packets waited {} us at most", told.max().unwrap_or(0));
        let books = control.balanced()?;
        println!("{} packets were in a dying worker's hands", books.lost_in_crashes());
        ensure!(silences[last] <= LIMIT, "silent for {:?} after a kill: {silences:?}", silences[last]);
        ensure!(losses[middle] == 0, "a kill loses {} packets: {losses:?}", losses[middle]);
        ensure!(report.duplicated() == 0, "{report}");
        Ok(())
    });
}

fn a_tcp_connection_lives_on(device: &str) {
    in_lab(Shape::router(), |lab| {
        let mut control = Control::start(lab, &by(device, ROUTER))?;
        for target in lab.server_addresses {
            ensure!(ping(&lab.client, target, 3)?.all(), "no way");
            let iperf = Iperf::serve(lab)?;
            let wanted = drills().div_ceil(10);
            // Some time without kills before and after them, and a fifth of a second for each.
            let seconds = (2 + wanted.div_ceil(5)).to_string();
            let mut connection = iperf.start(target, &["-t", &seconds, "-b", "200M"])?;
            std::thread::sleep(Duration::from_millis(500));
            let mut kills = 0;
            for _ in 0..wanted {
                let killed = control.kill9_dataplane()?;
                control.wait_successor(killed)?;
                std::thread::sleep(REST);
                // A connection that stood still until the next kill would end as if nothing had been.
                let ping = ping(&lab.client, target, 2)?;
                ensure!(ping.received > 0, "after kill {kills}: {ping:?}");
                kills += usize::from(connection.is_running()?);
            }
            let outcome = connection.finish(Duration::from_secs(20))?;
            println!("{kills} kills during one connection: {outcome:?}");
            ensure!(kills == wanted, "the connection ended after {kills} kills");
            ensure!(outcome.bits_per_second > 50e6, "{outcome:?}");
        }
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn control_tells_of_it() {
    in_lab(Shape::router(), |lab| {
        let mut control = Control::start(lab, ROUTER)?;
        let killed = control.kill9_dataplane()?;
        let next = control.wait_successor(killed)?;
        let status = control.status()?;
        let dataplane = &status["dataplane"];
        ensure!(dataplane["restarts"] == 1, "{status}");
        ensure!(dataplane["pid"] == next.as_raw_nonzero().get(), "{status}, and it is {next:?}");
        ensure!(dataplane["sandboxed"] == true, "{status}");
        ensure!(dataplane["last-exit"].as_str().is_some_and(|how| how.contains('9')), "{status}");
        control.balanced()?;
        Ok(())
    });
}

/// The log is a pipe that is full, which nobody reads: as of a journal that is stuck.
#[test]
fn nobody_reads_the_log_and_packets_flow_all_the_same() {
    in_lab(Shape::router(), |lab| {
        let log = lab.folder().join("control.log");
        mknodat(CWD, &log, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let flags = OFlags::NONBLOCK.bits() as i32;
        let mut pipe = File::options().read(true).write(true).custom_flags(flags).open(&log)?;
        for bytes in [4096, 1] {
            while pipe.write(&vec![b'\n'; bytes]).is_ok() {}
        }
        let mut control = Control::start(lab, ROUTER)?;
        for _ in 0..10 {
            let killed = control.kill9_dataplane()?;
            control.wait_successor(killed)?;
            std::thread::sleep(REST);
            for target in lab.server_addresses {
                ensure!(ping(&lab.client, target, 3)?.all(), "no way to {target}");
            }
        }
        control.balanced()?;
        ensure!(pipe.write(b"\n").is_err(), "somebody has read");
        // Whoever comes to read has the lines that there was room for.
        let mut text = Vec::new();
        while !String::from_utf8_lossy(&text).contains("the data plane ended") {
            let mut bytes = [0; 4096];
            let length = pipe.read(&mut bytes).context("the log ends before it tells of a death")?;
            text.extend_from_slice(&bytes[..length]);
            std::thread::sleep(Duration::from_millis(1));
        }
        let status = control.stop()?;
        ensure!(status.success(), "{status}");
        Ok(())
    });
}

/// A kernel that needs memory does not take that of the programs, which a successor would have to read from the disk (`bench/RESULTS.md` has
/// what that takes).
#[test]
fn the_programs_stay_in_memory() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, ROUTER)?;
        let mappings = format!("/proc/{}/smaps", control.pid().as_raw_nonzero());
        for program in ["zsync-dataplane", "zsync-control"] {
            wait_for("a program to be locked in memory", Duration::from_secs(20), || {
                let mappings = std::fs::read_to_string(&mappings).ok()?;
                let mut lines = mappings.lines();
                // Read by nobody and shared with the file: the lock's own.
                lines.find(|line| line.contains(" r--s ") && line.ends_with(program))?;
                let mut of = |what| lines.find_map(|line| line.strip_prefix(what)).map(str::trim);
                let [size, resident] = ["Size:", "Rss:"].map(&mut of);
                let large = size?.strip_suffix(" kB")?.parse().is_ok_and(|size: u64| size > 1000);
                (large && resident == size && of("VmFlags:")?.contains(" lo")).then_some(())
            })
            .with_context(|| program)?;
        }
        Ok(())
    });
}
