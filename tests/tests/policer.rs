//! The shipped policer on real traffic: customers get their rate and no more, and what waits is bounded.

use std::time::Duration;

use anyhow::ensure;
use zsync_tests::capture::Capture;
use zsync_tests::iperf::Iperf;
use zsync_tests::{Control, Shape, in_lab, ping};

/// The example, as it is shipped.
const POLICER: &str = include_str!("../../pipelines/examples/policer.toml");
/// What a customer may send, and twice that is the peak: low enough for any machine.
const RATE: f64 = 20e6;

/// The example for the lab: the client is a customer, and rates are a fifth.
fn policer() -> String {
    POLICER
        .replace("\"eth2\"", "\"swap\"")
        .replace("\"eth1\"", "\"eth2\"")
        .replace("\"swap\"", "\"eth1\"")
        .replace("\"100Mbit\"", "\"20Mbit\"")
        .replace("\"200Mbit\"", "\"40Mbit\"")
        .replace("\"1MiB\"", "\"200KiB\"")
        .replace("\"2MiB\"", "\"400KiB\"")
}

#[test]
fn a_customer_gets_the_peak_and_what_is_beyond_the_rate_is_marked() {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, &policer())?;
        let iperf = Iperf::serve(lab)?;
        for target in lab.server_addresses {
            ensure!(ping(&lab.client, target, 3)?.all(), "no way to {target}");
            // Below the rate: nothing is lost, nothing marked.
            let marked = if target.is_ipv4() {
                "udp and ip[1] >> 2 == 12"
            } else {
                "udp and ip6[0:2] & 0xfc0 == 0x300"
            };
            let capture = Capture::start(lab, &lab.server, "eth0", marked)?;
            let before = control.counts()?;
            let slow = iperf.run(target, &["-t", "1", "-u", "-b", "10M", "-l", "1200"])?;
            ensure!(slow.lost_percent < 1.0, "{slow:?}");
            ensure!(capture.frames()?.is_empty(), "{target}: marked below the rate");
            ensure!(
                control.counts()?.dropped("policed") == before.dropped("policed"),
                "dropped below the rate"
            );

            let fast = iperf.run(target, &["-t", "2", "-u", "-b", "80M", "-l", "1200"])?;
            let policed = control.counts()?.dropped("policed") - before.dropped("policed");
            println!("{target}: {fast:?}, {policed} dropped");
            let peak = 2.0 * RATE;
            ensure!((0.5 * peak..1.3 * peak).contains(&fast.bits_per_second), "{target}: {fast:?}");
            ensure!(policed > 1000 && policed <= fast.packets, "{target}: {policed} of {fast:?}");
            let yellow = capture.finish()?.len() as u64;
            // About half of what came: between rate and peak.
            let came = fast.packets - fast.lost;
            ensure!((came / 5..came * 4 / 5).contains(&yellow), "{target}: {yellow} of {came} are marked");

            // TCP finds the rate, and the other direction is free of it.
            let up = iperf.run(target, &["-t", "2"])?;
            let down = iperf.run(target, &["-t", "1", "-R"])?;
            println!("{target}: up {up:?}, down {down:?}");
            ensure!((0.3 * RATE..1.3 * peak).contains(&up.bits_per_second), "{target}: {up:?}");
            ensure!(down.bits_per_second > 1.5 * peak, "{target}: {down:?}");
        }
        for packet in ["udp 10.1.0.2:40000 -> 10.2.0.2:5201", "udp [fd01::2]:40000 -> [fd02::2]:5201"] {
            let explained = control.verdict("lan", packet)?;
            ensure!(explained == "transmit by wan", "{packet}: {explained}");
        }
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn what_the_link_cannot_take_waits_its_turn_and_not_for_long() {
    in_lab(Shape::router(), |lab| {
        let config = policer().replace("\"950Mbit\"", "\"10Mbit\"");
        let control = Control::start(lab, &config)?;
        let iperf = Iperf::serve(lab)?;
        for target in lab.server_addresses {
            ensure!(ping(&lab.client, target, 3)?.all(), "no way to {target}");
            let before = control.counts()?;
            let running = iperf.start(target, &["-t", "2", "-u", "-b", "15M", "-l", "1200"])?;
            std::thread::sleep(Duration::from_millis(700));
            let waiting = ping(&lab.client, target, 20)?;
            let sent = running.finish(Duration::from_secs(10))?;
            let late = control.counts()?.dropped("shape-full") - before.dropped("shape-full");
            println!("{target}: {sent:?}, {late} dropped, {:?}", waiting.median());
            ensure!((5e6..13e6).contains(&sent.bits_per_second), "{target}: {sent:?}");
            ensure!(late > 100 && late <= sent.packets, "{target}: {late} of {sent:?}");
            // Echoes wait in the same line; how long is the machine's to say, that they wait is ours.
            let median = waiting.median().unwrap_or_default();
            ensure!(median > Duration::from_millis(10), "{target}: {waiting:?}");
        }
        control.balanced()?;
        Ok(())
    });
}
