//! Copies of packets, into a file and out of a port, while the packets themselves go on; and fragments, which later stages
//! see as parts of their flows.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use zsync_tests::capture::Capture;
use zsync_tests::config::router;
use zsync_tests::ping::ping_with;
use zsync_tests::{Control, Shape, in_lab, ping, wait_for};

/// Packets in a capture of nanoseconds, as libpcap has them: the bytes of each.
fn packets(file: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = file.strip_prefix(&0xa1b2_3c4d_u32.to_le_bytes())?.get(20..)?;
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest.get(8..12)?.try_into().ok()?) as usize;
        packets.push(rest.get(16..16 + len)?.to_vec());
        rest = rest.get(16 + len..)?;
    }
    Some(packets)
}

#[test]
fn copies_go_into_a_file_that_outlives_a_reload() {
    in_lab(Shape::router(), |lab| {
        let file = lab.folder().join("mirror.pcap");
        let config = router("").replace("[\"route.main\"]", "[\"mirror.all\", \"route.main\"]")
            + &format!("\n[mirror.all]\nto = {{ file = {:?} }}\nsnap = 64\n", file.display().to_string());
        let control = Control::start(lab, &config)?;
        let [v4, v6] = lab.server_addresses;
        ensure!(ping(&lab.client, v4, 20)?.all() && ping(&lab.client, v6, 20)?.all(), "no way");
        control.apply(&config.replace("snap = 64", "snap = 60"), &[])?;
        ensure!(ping(&lab.client, v4, 20)?.all(), "no way");
        // Requests and answers of 60 pings, and what else the hosts say.
        let written = wait_for("the copies of 120 packets", Duration::from_secs(5), || {
            let packets = packets(&std::fs::read(&file).ok()?)?;
            (packets.len() >= 120).then_some(packets)
        })?;
        let echoes = |version: u8, protocol: usize, number: u8| {
            written.iter().filter(|p| p[14] >> 4 == version && p.get(protocol) == Some(&number)).count()
        };
        ensure!(echoes(4, 23, 1) == 80 && echoes(6, 20, 58) >= 40, "{} packets", written.len());
        ensure!(written.iter().all(|packet| packet.len() <= 64), "a packet is longer than asked for");
        ensure!(written.iter().any(|packet| packet.len() == 60), "none was written after the reload");
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn copies_leave_by_a_port() {
    in_lab(Shape::router(), |lab| {
        // What the client sends to the router's own kernel is copied to the server's cable as it is.
        let config = router("").replace("[\"route.main\"]", "[\"mirror.all\", \"route.main\"]")
            + "\n[mirror.all]\nto = \"lan\"\n";
        let control = Control::start(lab, &config)?;
        let mac = lab.router.mac("eth1")?;
        let capture = Capture::start(lab, &lab.server, "eth0", "")?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 10)?.all(), "no way");
        let copied = || {
            let to_router = |frames: Vec<Vec<u8>>| frames.iter().filter(|f| f.starts_with(&mac)).count();
            capture.frames().ok().map(to_router).filter(|count| *count >= 10)
        };
        let count = wait_for("ten copies", Duration::from_secs(3), copied).context("at the server")?;
        println!("{count} copies");
        capture.finish()?;
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn fragments_go_through() {
    in_lab(Shape::router(), |lab| {
        let config = router("").replace("[\"route.main\"]", "[\"reassemble\", \"route.main\"]");
        let control = Control::start(lab, &config)?;
        for target in lab.server_addresses {
            ensure!(ping(&lab.client, target, 2)?.all(), "no way");
            let outcome = ping_with(&lab.client, target, 10, &["-s", "4000", "-i", "0.05"])?;
            ensure!(outcome.all(), "{outcome:?}");
        }
        let books = control.balanced()?;
        // Two families, ten echoes of three fragments each, both ways.
        ensure!(books.counts.tx() >= 120, "{books:?}");
        Ok(())
    });
}
