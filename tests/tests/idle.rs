//! An idle data plane costs almost nothing, and the first packet does not wait for it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;
use zsync_tests::config::{self, ROUTER};
use zsync_tests::ping::ping_with;
use zsync_tests::{Control, Shape, in_lab, ping};

/// Time that all threads of a process ran (Documentation/scheduler/sched-stats.rst: nanoseconds, first of three).
fn ran(pid: Pid) -> Result<Duration> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split(' ').next().context("empty")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

/// The part of a core that a process takes over `span`.
fn load(pid: Pid, span: Duration) -> Result<f64> {
    let (before, start) = (ran(pid)?, Instant::now());
    std::thread::sleep(span);
    Ok((ran(pid)? - before).as_secs_f64() / start.elapsed().as_secs_f64())
}

#[test]
fn an_idle_engine_takes_under_2_percent_of_a_core() {
    takes_under_2_percent(ROUTER.to_owned());
}

#[test]
fn an_idle_engine_with_flows_to_forget_takes_no_more() {
    let router = config::router("").replace("[\"route.main\"]", "[\"track.flows\", \"route.main\"]");
    takes_under_2_percent(router + "[track.flows]\n");
}

fn takes_under_2_percent(config: String) {
    in_lab(Shape::router(), move |lab| {
        let control = Control::start(lab, &config)?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        std::thread::sleep(Duration::from_millis(500));
        let (dataplane, control) = (control.dataplane()?, control.pid());
        let data = load(dataplane, Duration::from_secs(3))?;
        let rest = load(control, Duration::from_secs(1))?;
        println!("idle: data plane {:.2} % of a core, control {:.2} %", data * 100.0, rest * 100.0);
        ensure!(data < 0.02, "the idle data plane takes {:.1} % of a core", data * 100.0);
        ensure!(rest < 0.05, "the idle control process takes {:.1} % of a core", rest * 100.0);
        Ok(())
    });
}

#[test]
fn spinning_is_a_choice() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, &format!("[engine]\nidle = \"spin\"\n\n{}", config::router("")))?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        let load = load(control.dataplane()?, Duration::from_secs(1))?;
        println!("spinning: {:.0} % of a core", load * 100.0);
        ensure!(load > 0.3, "a spinning data plane takes {:.1} % of a core", load * 100.0);
        Ok(())
    });
}

#[test]
fn the_first_packet_after_idle_does_not_wait() {
    in_lab(Shape::router(), |lab| {
        let round = || ping_with(&lab.client, lab.server_addresses[0], 15, &["-i", "0.2"]);
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        let kernel = round()?.median().context("the kernel does not forward")?;
        let _control = Control::start(lab, ROUTER)?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        let outcome = round()?;
        let zsync = outcome.median().context("no replies")?;
        println!("round trip after 200 ms of nothing, median: kernel {kernel:?}, zsync {zsync:?}");
        ensure!(outcome.all(), "{outcome:?}");
        // Twice a wake-up of a worker: 100 µs each as a rule, on a machine that is shared rather more.
        ensure!(zsync < kernel + Duration::from_millis(1), "kernel {kernel:?}, zsync {zsync:?}");
        Ok(())
    });
}
