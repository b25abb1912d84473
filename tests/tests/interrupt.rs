//! Control is told to end: SIGTERM and SIGINT leave nothing behind, SIGUSR1 leaves the data plane.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::process::{Signal, kill_process};
use zsync_tests::config::ROUTER;
use zsync_tests::control::{dataplanes, pins, run_dir};
use zsync_tests::{Control, Flow, Shape, in_lab, ping, wait_for};

#[test]
fn sigterm_gives_the_ports_back_to_the_kernel() {
    in_lab(Shape::router(), |lab| {
        let links = || lab.router.ip("-o -d link show");
        for signal in [Signal::TERM, Signal::INT] {
            let before = links()?;
            let mut control = Control::start(lab, ROUTER)?;
            ensure!(links()?.contains("xdp"), "nothing is attached: {}", links()?);
            ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
            let flow = Flow::to_server(lab, 2000, 7000)?;
            std::thread::sleep(Duration::from_millis(200));
            let told = (Instant::now(), flow.now());
            kill_process(control.pid(), signal)?;
            let status = control.ended_within(Duration::from_secs(5))?;
            println!("{signal:?}: ended after {:?}", told.0.elapsed());
            ensure!(status.success(), "{signal:?}: {status}");

            ensure!(dataplanes(lab).is_empty(), "{signal:?}: a data plane was left");
            let after = links()?;
            ensure!(after == before, "{signal:?}: the devices are not as they were:\n{before}\n{after}");
            ensure!(pins(lab).is_empty(), "{signal:?}: {:?} were left", pins(lab));
            let left: Vec<_> = fs::read_dir(run_dir(lab))?.flatten().map(|entry| entry.file_name()).collect();
            ensure!(left.is_empty(), "{signal:?}: {left:?} were left");
            std::thread::sleep(Duration::from_millis(200));
            let report = flow.finish()?;
            println!("{signal:?}: {report}");
            let settled = told.1 + Duration::from_secs(1);
            ensure!(report.longest_gap() < Duration::from_secs(1), "{report}");
            ensure!(report.lost_in(settled..Duration::MAX) == 0, "{report}");
            ensure!(ping(&lab.client, lab.server_addresses[1], 3)?.all(), "the kernel does not forward");
        }
        Ok(())
    });
}

#[test]
fn sigusr1_leaves_the_data_plane_at_work() {
    in_lab(Shape::router(), |lab| {
        let mut control = Control::start(lab, ROUTER)?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        let dataplane = control.dataplane()?;
        let flow = Flow::to_server(lab, 20_000, 7000)?;
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(100));
            kill_process(control.pid(), Signal::USR1)?;
            let status = control.ended_within(Duration::from_secs(5))?;
            ensure!(status.success(), "{status}");
            ensure!(dataplanes(lab) == [dataplane], "the data plane went");
            control.revive()?;
            control.wait_ready()?;
            ensure!(control.dataplane()? == dataplane, "it was not adopted");
        }
        let report = flow.finish()?;
        println!("{report}");
        ensure!((report.lost(), report.duplicated(), report.reordered()) == (0, 0, 0), "{report}");
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn a_start_that_is_interrupted_leaves_nothing() {
    in_lab(Shape::router(), |lab| {
        let before = lab.router.ip("-o -d link show")?;
        for after in [0, 5, 20, 50, 100, 200] {
            let mut control = Control::start_unready(lab, ROUTER)?;
            std::thread::sleep(Duration::from_millis(after));
            kill_process(control.pid(), Signal::TERM)?;
            control.ended_within(Duration::from_secs(10))?;
            // One that ended so early that it had no say leaves links that end with its descriptors.
            wait_for("the devices to be as they were", Duration::from_secs(2), || {
                (lab.router.ip("-o -d link show").ok()? == before).then_some(())
            })
            .map_err(|error| {
                anyhow::anyhow!("after {after} ms: {error}: {:?}", lab.router.ip("-o -d link show"))
            })?;
            ensure!(dataplanes(lab).is_empty(), "after {after} ms: a data plane was left");
        }
        Ok::<_, anyhow::Error>(())
    });
}
