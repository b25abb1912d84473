//! What takes a port's packets: the best that works, and another one while it runs.

use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::time::Duration;
use zsync_tests::config::{self, ROUTER, by};
use zsync_tests::iperf::Iperf;
use zsync_tests::{Control, Flow, FlowPlan, Shape, in_lab, ping};

/// How the sockets of both ports are bound, as `show ports` has it, and what is warned of the first.
fn sockets(control: &Control<'_>) -> Result<(Vec<String>, String)> {
    let ports = control.ctl(&["show", "ports"])?;
    let ports = ports.as_array().context("a list of ports")?;
    let modes = ports.iter().map(|port| port["mode"].as_str().unwrap_or_default().to_owned()).collect();
    Ok((modes, ports.first().map(|port| port["warnings"].to_string()).unwrap_or_default()))
}

#[test]
fn auto_takes_the_best_that_works_and_says_why_it_is_not_a_better_one() {
    in_lab(Shape::router(), |lab| {
        let mut control = Control::start(lab, &by("auto", ROUTER))?;
        let (modes, why) = sockets(&control)?;
        ensure!(modes == ["copy", "copy"] && why.contains("zero-copy"), "{modes:?}: {why}");
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way by AF_XDP");
        control.stop()?;
        drop(control);

        // No veth can do this.
        let mut control = Control::start(lab, &by("auto", &config::router("mode = \"zero-copy\"")))?;
        let (modes, why) = sockets(&control)?;
        ensure!(modes == ["packet", "packet"], "{modes:?}: {why}");
        ensure!(why.contains("without AF_XDP") && why.contains("zero-copy"), "{why}");
        for server in lab.server_addresses {
            ensure!(ping(&lab.client, server, 3)?.all(), "no way by packet sockets to {server}");
        }
        control.balanced()?;

        // The next control process knows that it is so, and where the reason is.
        control.kill9()?;
        control.revive()?;
        control.wait_ready()?;
        let (modes, why) = sockets(&control)?;
        ensure!(modes == ["packet", "packet"] && why.contains("without AF_XDP"), "{modes:?}: {why}");
        Ok(())
    });
}

#[test]
fn a_port_goes_from_one_device_to_another_and_back() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, &by("xdp", ROUTER))?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        for (device, mode) in
            [("uring-packet", "packet"), ("xdp", "copy"), ("uring-packet", "packet"), ("auto", "copy")]
        {
            control.apply(&by(device, ROUTER), &[])?;
            let (modes, _) = sockets(&control)?;
            ensure!(modes == [mode, mode], "{device}: {modes:?}");
            for (client, server) in lab.client_addresses.into_iter().zip(lab.server_addresses) {
                ensure!(ping(&lab.client, server, 3)?.all(), "{device}: no way to {server}");
                let plan = FlowPlan {
                    rate: 10_000,
                    source: SocketAddr::new(client, 0),
                    target: SocketAddr::new(server, 7000),
                    payload: 64,
                };
                let flow = Flow::start(&lab.client, &lab.server, plan)?;
                std::thread::sleep(Duration::from_millis(300));
                let report = flow.finish()?;
                ensure!((report.lost(), report.duplicated()) == (0, 0), "{device}: {report}");
            }
            control.balanced()?;
        }
        Ok(())
    });
}

#[test]
fn what_the_kernel_left_to_a_nic_is_done_for_packet_sockets() {
    in_lab(Shape::router(), |lab| {
        // As hosts have it: the sender's stack leaves checksums and segments to its device.
        for host in [&lab.client, &lab.server] {
            host.run(|| {
                let mut ethtool = std::process::Command::new("ethtool");
                ethtool.args(["-K", "eth0", "tx", "on", "tso", "on", "gso", "on"]);
                ensure!(ethtool.output()?.status.success(), "ethtool failed");
                Ok(())
            })?;
        }
        let control = Control::start(lab, &by("uring-packet", ROUTER))?;
        let iperf = Iperf::serve(lab)?;
        for target in lab.server_addresses {
            for direction in [&[][..], &["-R"]] {
                let tcp = iperf.run(target, &[&["-t", "1"], direction].concat())?;
                ensure!(tcp.bits_per_second > 50e6, "{target} {direction:?}: {tcp:?}");
            }
        }
        let ports = control.ctl(&["show", "ports"])?;
        for port in ports.as_array().context("a list of ports")? {
            ensure!(port["split"].as_u64() > Some(100), "nothing was split: {port}");
            ensure!(port["drops"]["rx-refused"] == 0, "{port}");
        }
        control.balanced()?;
        Ok(())
    });
}
