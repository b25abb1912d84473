//! zsync as a wire between two hosts of one subnet: whatever goes in comes out, unchanged.

use std::time::Duration;

use anyhow::ensure;
use zsync_tests::capture::Capture;
use zsync_tests::config::WIRE;
use zsync_tests::iperf::Iperf;
use zsync_tests::raw::RawSocket;
use zsync_tests::{Control, Shape, in_lab, ping, wait_for};

#[test]
fn hosts_talk_as_over_a_wire() {
    in_lab(Shape::wire(), |lab| {
        let control = Control::start(lab, WIRE)?;
        for (client, server) in lab.client_addresses.into_iter().zip(lab.server_addresses) {
            // The first needs ARP or neighbour discovery to pass, too.
            for outcome in [ping(&lab.client, server, 10)?, ping(&lab.server, client, 10)?] {
                ensure!(outcome.all(), "{outcome:?}");
                ensure!(outcome.text.contains("ttl=64"), "a wire does not age packets: {outcome:?}");
            }
        }
        let iperf = Iperf::serve(lab)?;
        for target in lab.server_addresses {
            let tcp = iperf.run(target, &["-t", "1"])?;
            ensure!(tcp.bits_per_second > 50e6, "{tcp:?}");
        }
        let books = control.balanced()?;
        ensure!(books.counts.punted() == 0, "a wire gives nothing to the kernel: {books:?}");
        ensure!(books.counts.tx() > 10_000, "{books:?}");
        Ok(())
    });
}

#[test]
fn frames_pass_byte_for_byte() {
    in_lab(Shape::wire(), |lab| {
        let control = Control::start(lab, WIRE)?;
        // What is sent here is of an EtherType for experiments, so that no stack answers it; behind tags the outer type
        // counts.
        let capture = Capture::start(lab, &lab.server, "eth0", "")?;
        let client = RawSocket::open(&lab.client, "eth0")?;
        let frames: Vec<Vec<u8>> = [
            (&[0x88, 0xb5][..], 46),                                              // untagged
            (&[0x88, 0xb5], 1500),                                                // as long as the MTU
            (&[0x81, 0x00, 0x20, 0x05, 0x88, 0xb5], 46), // 802.1Q, priority 1, VLAN 5
            (&[0x81, 0x00, 0xff, 0xfe, 0x88, 0xb5], 1400), // 802.1Q, all bits that there are
            (&[0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x00, 0x05, 0x88, 0xb5], 100), // 802.1ad
        ]
        .into_iter()
        .enumerate()
        .map(|(number, (types, length))| {
            let mut frame = [[0x02, 0, 0, 0, 0x66, number as u8], [0x02, 0, 0, 0, 0x55, 1]].concat();
            frame.extend(types);
            frame.extend((0..length).map(|byte| (byte as u8).wrapping_mul(37) ^ number as u8));
            frame
        })
        .collect();
        for frame in &frames {
            client.send(frame)?;
        }
        let came = || capture.frames().ok().filter(|got| frames.iter().all(|frame| got.contains(frame)));
        let all = wait_for("every frame as it was", Duration::from_secs(3), came);
        let got = capture.finish()?;
        let missing: Vec<usize> =
            (0..frames.len()).filter(|number| !got.contains(&frames[*number])).collect();
        ensure!(all.is_ok(), "frames {missing:?} did not arrive as they were sent; these did: {got:02x?}");
        for frame in &frames {
            let times = got.iter().filter(|other| *other == frame).count();
            ensure!(times == 1, "{times} copies of {frame:02x?}");
        }
        control.balanced()?;
        Ok(())
    });
}
