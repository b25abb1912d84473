//! `kill -9` of control, again and again, under traffic: nothing is lost, no filter is bypassed, the next one adopts.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use zsync_tests::config::{self, ROUTER, by};
use zsync_tests::control::{bpffs, dataplanes};
use zsync_tests::ping::ping_with;
use zsync_tests::{Control, Flow, FlowPlan, Lab, Shape, by_each_device, in_lab, ping, wait_for};

by_each_device!(
    nothing_is_lost_and_no_filter_bypassed,
    the_next_control_is_whole,
    both_dead_is_a_blip,
    both_dead_the_ports_do_as_they_were_told
);

/// Kills of one test; `ZSYNC_DRILLS` says otherwise.
const DRILLS: usize = 100;
/// How long each time goes without control.
const AWAY: Duration = Duration::from_millis(30);
const BLOCKED: [&str; 2] = ["10.1.0.66", "fd01::66"];

fn drills() -> usize {
    std::env::var("ZSYNC_DRILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(DRILLS)
}

/// What identifies the pinned objects: a link that was made anew has another inode.
fn links(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(links(&path));
        } else if path.to_string_lossy().contains("link") {
            found.push((path.display().to_string(), entry.metadata().map_or(0, |meta| meta.ino())));
        }
    }
    found.sort();
    found
}

fn flow_from(lab: &Lab, source: &str, target: SocketAddr, rate: u32) -> Result<Flow> {
    let plan = FlowPlan { rate, source: SocketAddr::new(source.parse()?, 0), target, payload: 64 };
    Flow::start(&lab.client, &lab.server, plan)
}

fn nothing_is_lost_and_no_filter_bypassed(device: &str) {
    in_lab(Shape::router(), |lab| {
        lab.client.ip("addr add 10.1.0.66/24 dev eth0")?;
        lab.client.ip("addr add fd01::66/64 dev eth0 nodad")?;
        let mut control = Control::start(lab, &by(device, &config::router("")))?;
        // The sources do get through while they are not blocked.
        for (source, target) in BLOCKED.into_iter().zip(lab.server_addresses) {
            let outcome = ping_with(&lab.client, target, 3, &["-I", source])?;
            ensure!(outcome.all(), "{source}: {outcome:?}");
        }
        control.stop()?;
        drop(control);
        let mut control =
            Control::start(lab, &by(device, &config::router(r#"block = ["10.1.0.66/32", "fd01::66/128"]"#)))?;
        for (source, target) in BLOCKED.into_iter().zip(lab.server_addresses) {
            ensure!(
                ping_with(&lab.client, target, 2, &["-I", source])?.received == 0,
                "{source} is not blocked"
            );
        }
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");

        let (dataplane, pinned) = (control.dataplane()?, links(&bpffs(lab)));
        ensure!(pinned.len() == 2, "links of two ports are pinned: {pinned:?}");
        let flow = Flow::to_server(lab, 20_000, 7000)?;
        let blocked = [
            flow_from(lab, BLOCKED[0], lab.service(7001), 1000)?,
            flow_from(lab, BLOCKED[1], SocketAddr::new(lab.server_addresses[1], 7002), 1000)?,
        ];
        for _ in 0..drills() {
            control.kill9()?;
            std::thread::sleep(AWAY);
            ensure!(dataplanes(lab) == [dataplane], "the data plane went with control");
            control.revive()?;
            control.wait_ready()?;
            ensure!(control.dataplane()? == dataplane, "the data plane was not adopted");
        }
        let report = flow.finish()?;
        println!("{} kills of control: {report}", drills());
        for flow in blocked {
            let report = flow.finish()?;
            ensure!(report.sent() > 0 && report.received() == 0, "from a blocked source: {report}");
        }
        ensure!(
            links(&bpffs(lab)) == pinned,
            "the links were made anew: {pinned:?} {:?}",
            links(&bpffs(lab))
        );
        ensure!(report.lost() == 0 && report.duplicated() == 0 && report.reordered() == 0, "{report}");
        control.balanced()?;
        Ok(())
    });
}

fn the_next_control_is_whole(device: &str) {
    in_lab(Shape::router(), |lab| {
        let mut control = Control::start(lab, &by(device, ROUTER))?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        let before = control.counts()?;
        control.kill9()?;
        // What the kernel learns while nobody listens.
        lab.server.ip("addr add 10.9.0.1/32 dev lo")?;
        lab.router.ip("route add 10.9.0.0/24 via 10.2.0.2")?;
        control.revive()?;
        control.wait_ready()?;
        let after = control.counts()?;
        ensure!(after.rx() >= before.rx() && after.rx() > 0, "the counters began anew: {before:?} {after:?}");
        let outcome = ping(&lab.client, "10.9.0.1".parse()?, 3)?;
        ensure!(outcome.received >= 2, "a route of the time without control: {outcome:?}");

        // It supervises a data plane that is not its child.
        let killed = control.kill9_dataplane()?;
        control.wait_successor(killed)?;
        ensure!(ping(&lab.client, lab.server_addresses[1], 3)?.all(), "no way after the data plane's death");
        // It configures it.
        let applied = control.apply(&by(device, &config::router(r#"block = ["10.1.0.2/32"]"#)), &[])?;
        ensure!(
            ping(&lab.client, lab.server_addresses[0], 1)?.received == 0,
            "the block is not in force: {applied}"
        );
        control.ctl(&["rollback"])?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "the rollback is not in force");
        control.balanced()?;
        Ok(())
    });
}

fn both_dead_is_a_blip(device: &str) {
    in_lab(Shape::router(), |lab| {
        lab.client.ip("addr add 10.1.0.66/24 dev eth0")?;
        let mut control = Control::start(lab, &by(device, &config::router(r#"block = ["10.1.0.66/32"]"#)))?;
        let blocked = flow_from(lab, BLOCKED[0], lab.service(7001), 1000)?;
        for first in ["control", "data plane"] {
            if first == "control" {
                control.kill9()?;
                control.kill9_dataplane()?;
            } else {
                control.kill9_dataplane()?;
                control.kill9()?;
            }
            control.revive()?;
            control.wait_ready()?;
            let outcome = ping(&lab.client, lab.server_addresses[0], 3)?;
            ensure!(outcome.all(), "{first} first: {outcome:?}");
        }
        let report = blocked.finish()?;
        ensure!(report.sent() > 0 && report.received() == 0, "from a blocked source: {report}");
        control.balanced()?;
        Ok(())
    });
}

fn both_dead_the_ports_do_as_they_were_told(device: &str) {
    in_lab(Shape::router(), |lab| {
        lab.client.ip("addr add 10.1.0.66/24 dev eth0")?;
        for (failover, passes) in [("open", true), ("closed", false)] {
            let lines = format!("failover = \"{failover}\"\nblock = [\"10.1.0.66/32\"]");
            let mut control = Control::start(lab, &by(device, &config::router(&lines)))?;
            ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
            control.kill9()?;
            control.kill9_dataplane()?;
            // The kernel takes a moment to close what the two have held.
            let all = || ping(&lab.client, lab.server_addresses[0], 1).ok().filter(|outcome| outcome.all());
            let _ = wait_for("the kernel to forward", Duration::from_secs(1), all);
            for server in lab.server_addresses {
                let outcome = ping(&lab.client, server, 3)?;
                ensure!(outcome.received == if passes { 3 } else { 0 }, "{failover}: {outcome:?}");
            }
            let blocked = ping_with(&lab.client, lab.server_addresses[0], 2, &["-I", BLOCKED[0]])?;
            ensure!(blocked.received == 0, "{failover}: the block list is not in force: {blocked:?}");
            control.revive()?;
            control.wait_ready()?;
            ensure!(ping(&lab.client, lab.server_addresses[1], 3)?.all(), "{failover}: no way back");
            control.balanced()?;
            control.stop()?;
        }
        Ok(())
    });
}
