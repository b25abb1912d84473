//! The lab itself, with the kernel as the forwarder: what the other tests measure with must be right first.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use zsync_tests::capture::Capture;
use zsync_tests::iperf::Iperf;
use zsync_tests::netns::execute;
use zsync_tests::process::Process;
use zsync_tests::raw::RawSocket;
use zsync_tests::{Flow, FlowPlan, Shape, in_lab, ping, wait_for};

#[test]
fn the_kernel_forwards_both_families_both_ways() {
    in_lab(Shape::router().queues(2), |lab| {
        for (client, server) in lab.client_addresses.into_iter().zip(lab.server_addresses) {
            for outcome in [ping(&lab.client, server, 3)?, ping(&lab.server, client, 3)?] {
                ensure!(outcome.all() && outcome.times.len() == 3, "{outcome:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn a_wire_without_zsync_is_cut() {
    in_lab(Shape::wire(), |lab| {
        let outcome = ping(&lab.client, lab.server_addresses[0], 1)?;
        ensure!(outcome.received == 0, "{outcome:?}");
        Ok(())
    });
}

#[test]
fn a_flow_is_paced_exactly_and_whole() {
    in_lab(Shape::router(), |lab| {
        ensure!(ping(&lab.client, lab.server_addresses[0], 1)?.all(), "no way");
        let flow = Flow::to_server(lab, 20_000, 7000)?;
        std::thread::sleep(Duration::from_secs(2));
        let report = flow.finish()?;
        println!("{report}");
        ensure!((report.rate() - 20_000.0).abs() < 200.0, "{report}");
        ensure!((report.lost(), report.duplicated(), report.reordered()) == (0, 0, 0), "{report}");
        Ok(())
    });
}

#[test]
fn a_flow_sees_a_cut_and_its_end() {
    in_lab(Shape::router(), |lab| {
        let [source, target] = [lab.client_addresses[1], lab.server_addresses[1]];
        ensure!(ping(&lab.client, target, 1)?.all(), "no way");
        let plan = FlowPlan {
            rate: 5000,
            source: SocketAddr::new(source, 0),
            target: SocketAddr::new(target, 7000),
            payload: 200,
        };
        let flow = Flow::start(&lab.client, &lab.server, plan)?;
        std::thread::sleep(Duration::from_millis(300));
        lab.router.sysctl("net/ipv6/conf/all/forwarding", "0")?;
        let cut = flow.now();
        std::thread::sleep(Duration::from_millis(300));
        lab.router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let healed = flow.now();
        std::thread::sleep(Duration::from_millis(300));
        let report = flow.finish()?;
        println!("{report}");
        let lost = report.lost_in(cut..healed);
        ensure!((1000..=2000).contains(&lost), "{lost} lost in the cut: {report}");
        ensure!(report.longest_gap() > Duration::from_millis(200), "{report}");
        ensure!(report.arrivals_in(healed..Duration::MAX) > 1000, "{report}");
        Ok(())
    });
}

#[test]
fn iperf3_reports_tcp_and_udp() {
    in_lab(Shape::router(), |lab| {
        let iperf = Iperf::serve(lab)?;
        for target in lab.server_addresses {
            let tcp = iperf.run(target, &["-t", "1"])?;
            let back = iperf.run(target, &["-t", "1", "-R"])?;
            let udp = iperf.run(target, &["-t", "1", "-u", "-b", "20M", "-l", "1200"])?;
            println!("{tcp:?} {back:?} {udp:?}");
            ensure!(tcp.bytes > 1 << 20 && back.bytes > 1 << 20, "{tcp:?} {back:?}");
            ensure!(udp.bytes > 1 << 20 && udp.lost_percent < 50.0, "{udp:?}");
        }
        let refused = iperf.run("10.2.0.99".parse()?, &["-t", "1", "--connect-timeout", "300"]);
        ensure!(refused.is_err(), "{refused:?}");
        Ok(())
    });
}

#[test]
fn frames_leave_and_arrive_as_they_are() {
    in_lab(Shape::wire(), |lab| {
        let capture = Capture::start(lab, &lab.router, "eth1", "")?;
        let (client, port) = (RawSocket::open(&lab.client, "eth0")?, RawSocket::open(&lab.router, "eth1")?);
        let mut frame =
            [0x02, 0, 0, 0, 0, 9, 0x02, 0, 0, 0, 0, 8, 0x81, 0x00, 0x20, 0x05, 0x88, 0xb5].to_vec();
        frame.extend((0..100).map(|n| n ^ 0x5a));
        client.send(&frame)?;
        // Without the tag, as the stack has it; and with it, as it came.
        let stripped = [&frame[..12], &frame[16..]].concat();
        let mut received =
            || port.receive(Duration::from_millis(100)).ok().flatten().filter(|got| *got == stripped);
        wait_for("the frame", Duration::from_secs(2), &mut received)?;
        wait_for("the capture", Duration::from_secs(2), || {
            capture.frames().ok().filter(|frames| frames.contains(&frame))
        })?;
        ensure!(capture.finish()?.contains(&frame), "the capture ended without it");
        Ok(())
    });
}

#[test]
fn a_lab_leaves_nothing_behind_even_when_a_test_panics() {
    let mut names = Vec::new();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        in_lab(Shape::router(), |lab| {
            let log = lab.folder().join("sleep.log");
            let process = Process::start(&lab.client, Command::new("sleep").arg("1000"), &log)?;
            names = vec![lab.client.name().to_owned(), lab.folder().display().to_string()];
            names.push(format!("/proc/{}", process.pid().as_raw_nonzero()));
            // Not ended by its owner, as if the owner had been killed.
            std::mem::forget(process);
            panic!("on purpose");
        });
    }));
    if names.is_empty() {
        return; // skipped
    }
    assert!(outcome.is_err());
    let listed = execute(Command::new("ip").args(["netns", "list"])).unwrap();
    assert!(!listed.contains(&names[0]), "{listed}");
    assert!(!std::path::Path::new(&names[1]).exists());
    // This process is its parent and never asked how it ended: a zombie at most.
    let state = std::fs::read_to_string(format!("{}/stat", names[2])).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z"), "{state}");
}
