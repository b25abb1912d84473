//! No data plane comes back: each port does as its `failover` says, within `grace` + 50 ms, and recovers when one does.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zsync_tests::config::{self, by};
use zsync_tests::{Control, Flow, FlowPlan, Lab, Report, Shape, by_each_device, in_lab, ping, wait_for};

by_each_device!(open_lets_the_kernel_forward, closed_lets_nothing_pass, a_wire_falls_back_to_nothing);

const GRACE: Duration = Duration::from_millis(250);
const SLACK: Duration = Duration::from_millis(50);
/// Packets that were under way when the data plane was killed.
const UNDER_WAY: Duration = Duration::from_millis(10);
const RATE: u32 = 5000;

/// A flow each way.
fn flows(lab: &Lab) -> Result<[Flow; 2]> {
    let (client, server) = (lab.client_addresses[0], lab.server_addresses[0]);
    let plan = |source, target| FlowPlan {
        rate: RATE,
        source: SocketAddr::new(source, 0),
        target: SocketAddr::new(target, 7000),
        payload: 64,
    };
    Ok([
        Flow::start(&lab.client, &lab.server, plan(client, server))?,
        Flow::start(&lab.server, &lab.client, plan(server, client))?,
    ])
}

/// Kills the data plane under traffic, waits, has another one started; the flows, and when those two things happened.
fn drill(lab: &Lab, device: &str, failover: &str) -> Result<([Report; 2], Duration, Duration)> {
    let lines = format!("failover = \"{failover}\"\ngrace = \"{}ms\"", GRACE.as_millis());
    let control = Control::start_with(lab, &by(device, &config::router(&lines)), &["--no-respawn"])?;
    ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
    let [there, back] = flows(lab)?;
    std::thread::sleep(Duration::from_millis(300));

    // It is asked for its number first, which may take longer than anything that is held to a limit here.
    control.kill9_dataplane()?;
    let killed = there.now();
    let said = wait_for("the ports to fall back", GRACE + Duration::from_secs(1), || {
        let ports = control.ctl(&["show", "ports"]).ok()?;
        let fell = ports.as_array()?.iter().all(|port| port["failover"] == failover);
        fell.then(|| there.now())
    })?;
    println!("{failover}: said so {:?} after the kill", said - killed);
    std::thread::sleep(Duration::from_millis(500));
    let state = control.status()?["dataplane"]["state"].clone();
    ensure!(state == "failed-over", "{state}");

    control.ctl(&["restart-dataplane"])?;
    let restarted = there.now();
    std::thread::sleep(Duration::from_millis(300));
    let reports = [there.finish()?, back.finish()?];
    ensure!(ping(&lab.client, lab.server_addresses[1], 3)?.all(), "no way after the recovery");
    control.balanced()?;
    Ok((reports, killed, restarted))
}

fn open_lets_the_kernel_forward(device: &str) {
    in_lab(Shape::router(), |lab| {
        let (reports, killed, restarted) = drill(lab, device, "open")?;
        for report in reports {
            println!("{report}");
            let gone = report.arrivals_in(killed + UNDER_WAY..killed + GRACE - UNDER_WAY);
            ensure!(gone == 0, "{gone} packets arrived without a data plane, before grace ran out");
            let first = killed + GRACE + SLACK;
            let arrived =
                report.first_arrival_of_sent_since(killed + GRACE - SLACK).context("nothing arrived")?;
            println!("forwarded by the kernel {:.1?} after the kill", arrived - killed);
            ensure!(arrived <= first, "the kernel took over {:?} after the kill", arrived - killed);
            let lost = report.lost_in(first..restarted - Duration::from_millis(100));
            ensure!(lost == 0, "{lost} packets lost while the kernel forwarded");
            let after = restarted + Duration::from_millis(100);
            ensure!(report.lost_in(after..Duration::MAX) == 0, "{report}: lost after the recovery");
        }
        Ok(())
    });
}

fn closed_lets_nothing_pass(device: &str) {
    in_lab(Shape::router(), |lab| {
        let (reports, killed, restarted) = drill(lab, device, "closed")?;
        for report in reports {
            println!("{report}");
            let first = killed + GRACE + SLACK;
            // The restart was under way for a while when `restart-dataplane` returned.
            let until = restarted - Duration::from_millis(200);
            let passed = report.arrivals_in(killed + UNDER_WAY..until);
            ensure!(passed == 0, "{passed} packets passed a closed port");
            let (sent, lost) = (report.sent_in(first..until), report.lost_in(first..until));
            ensure!(sent > 100 && lost == sent, "{lost} of {sent} packets of that time never arrived");
            let after = restarted + Duration::from_millis(100);
            ensure!(report.sent_in(after..Duration::MAX) > 0, "{report}");
            ensure!(report.lost_in(after..Duration::MAX) == 0, "{report}: lost after the recovery");
        }
        Ok(())
    });
}

fn a_wire_falls_back_to_nothing(device: &str) {
    in_lab(Shape::wire(), |lab| {
        let control = Control::start_with(lab, &by(device, config::WIRE), &["--no-respawn"])?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        control.kill9_dataplane()?;
        std::thread::sleep(GRACE + SLACK);
        ensure!(ping(&lab.client, lab.server_addresses[0], 1)?.received == 0, "a cut wire carries");
        control.ctl(&["restart-dataplane"])?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way after the recovery");
        control.balanced()?;
        Ok(())
    });
}
