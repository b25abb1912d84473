//! Who has a netdev take frames for any station, and for how long.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zsync_tests::config::{WIRE, by, router};
use zsync_tests::{Control, Lab, Shape, by_each_device, in_lab, wait_for};

by_each_device!(a_promiscuous_netdev_is_so_until_control_stops, the_netdevs_of_a_wire_are_promiscuous,);

/// How many ask for it, as the kernel counts.
fn promiscuity(lab: &Lab, device: &str) -> Result<u64> {
    let shown: serde_json::Value =
        serde_json::from_str(&lab.router.ip(&format!("-d -j link show dev {device}"))?)?;
    shown[0]["promiscuity"].as_u64().with_context(|| format!("{shown}"))
}

fn a_promiscuous_netdev_is_so_until_control_stops(device: &str) {
    in_lab(Shape::router(), |lab| {
        let plain = by(device, &router(""));
        let wanted = plain.replace("netdev = \"eth1\"", "netdev = \"eth1\"\npromiscuous = true");
        ensure!(promiscuity(lab, "eth1")? == 0, "somebody else asks");
        let mut control = Control::start(lab, &wanted)?;
        let both = |of: [u64; 2]| -> Result<()> {
            let now = [promiscuity(lab, "eth1")?, promiscuity(lab, "eth2")?];
            ensure!(now == of, "{now:?}, and not {of:?}");
            Ok(())
        };
        both([1, 0])?;
        let old = control.kill9_dataplane()?;
        both([1, 0])?;
        let running = control.wait_successor(old)?;
        both([1, 0])?;
        control.kill9()?;
        both([1, 0])?;
        control.revive()?;
        control.wait_ready()?;
        both([1, 0])?;
        // The kernel has one flag: who sets it and takes it away again takes away ours.
        lab.router.ip("link set eth1 promisc on")?;
        lab.router.ip("link set eth1 promisc off")?;
        wait_for("it to be promiscuous again", Duration::from_secs(5), || both([1, 0]).ok())?;
        // It changes while the data plane runs on.
        control.apply(&plain, &[])?;
        both([0, 0])?;
        control.apply(&wanted, &[])?;
        both([1, 0])?;
        ensure!(control.dataplane()? == running, "the data plane was started anew for it");
        // Sockets are opened anew, and it stays: nobody asks once more.
        control.apply(&wanted.replace("[pipeline", "[engine]\nframe-size = 4096\n\n[pipeline"), &[])?;
        both([1, 0])?;
        ensure!(control.dataplane()? != running, "the data plane runs on");
        // Whoever comes after both died takes it back.
        let last = control.dataplane()?;
        control.kill9()?;
        rustix::process::kill_process(last, rustix::process::Signal::KILL)?;
        both([1, 0])?;
        control.revive()?;
        control.wait_ready()?;
        both([1, 0])?;
        control.balanced()?;
        control.stop()?;
        both([0, 0])?;
        // What the operator has set is the operator's.
        lab.router.ip("link set eth1 promisc on")?;
        let mut control = Control::start(lab, &wanted)?;
        both([1, 0])?;
        control.stop()?;
        both([1, 0])
    });
}

fn the_netdevs_of_a_wire_are_promiscuous(device: &str) {
    in_lab(Shape::wire(), |lab| {
        let mut control = Control::start(lab, &by(device, WIRE))?;
        for netdev in ["eth1", "eth2"] {
            ensure!(promiscuity(lab, netdev)? == 1, "{netdev}");
        }
        control.stop()?;
        for netdev in ["eth1", "eth2"] {
            ensure!(promiscuity(lab, netdev)? == 0, "{netdev}");
        }
        Ok(())
    });
}
