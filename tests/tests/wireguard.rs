//! WireGuard on real traffic, wireguard-go at the other end.

use anyhow::ensure;
use zsync_tests::iperf::Iperf;
use zsync_tests::wireguard::{At, INNER, PORTS, Pair, Peer, Program, config, talk};
use zsync_tests::{Control, Shape, in_lab, ping};

fn both_ways(ours: &str, theirs: &str) {
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let peer = Peer::start(lab, Program::Go)?;
        peer.knows(&keys.public, None, "")?;
        let endpoint = At(theirs, PORTS[1]).to_string();
        let control = Control::start(lab, &config(&keys, &peer.keys, Some(&endpoint), ""))?;
        talk(lab)?;
        let handshakes = peer.wg("show wg0 latest-handshakes")?;
        ensure!(!handshakes.trim().ends_with("\t0"), "{handshakes}");
        let endpoints = peer.wg("show wg0 endpoints")?;
        ensure!(endpoints.contains(ours), "{endpoints}");
        let iperf = Iperf::serve(lab)?;
        for inner in INNER {
            for direction in [&[][..], &["-R"]] {
                let tcp = iperf.run(inner.parse()?, &[&["-t", "1"], direction].concat())?;
                println!("{inner} {direction:?}: {tcp:?}");
                ensure!(tcp.bits_per_second > 20e6, "{tcp:?}");
            }
        }
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn wireguard_go_is_reached_over_ipv4() {
    both_ways("10.2.0.1", "10.2.0.2");
}

#[test]
fn wireguard_go_is_reached_over_ipv6() {
    both_ways("fd02::1", "fd02::2");
}

#[test]
fn wireguard_go_begins_and_has_a_preshared_key() {
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let preshared = Pair::generate(lab.folder(), "shared.key")?.file.display().to_string();
        let peer = Peer::start(lab, Program::Go)?;
        let with = format!("preshared-key {preshared}");
        peer.knows(&keys.public, Some("10.2.0.1:51820"), &with)?;
        let more = format!(", preshared-key-file = \"{preshared}\"");
        let control = Control::start(lab, &config(&keys, &peer.keys, None, &more))?;
        // Nobody knows where the peer is until it has said something.
        let outcome = ping(&lab.server, "10.1.0.2".parse()?, 10)?;
        ensure!(outcome.all(), "{outcome:?}");
        talk(lab)?;
        // With another preshared key nothing goes.
        let other = Pair::generate(lab.folder(), "other.key")?.file.display().to_string();
        peer.wg(&format!("set wg0 peer {} remove", keys.public))?;
        peer.knows(&keys.public, Some("10.2.0.1:51820"), &format!("preshared-key {other}"))?;
        let outcome = ping(&lab.server, "10.1.0.2".parse()?, 3)?;
        ensure!(outcome.received == 0, "{outcome:?}");
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn a_session_lives_on_when_the_data_plane_dies_and_when_it_is_reconfigured() {
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let peer = Peer::start(lab, Program::Go)?;
        peer.knows(&keys.public, None, "")?;
        let text = config(&keys, &peer.keys, Some("10.2.0.2:51821"), "");
        let mut control = Control::start(lab, &text)?;
        talk(lab)?;
        let first = peer.wg("show wg0 latest-handshakes")?;
        for _ in 0..3 {
            let old = control.kill9_dataplane()?;
            control.wait_successor(old)?;
            talk(lab)?;
        }
        control.apply(&text.replace("peers = [", "mtu = 1400\npeers = ["), &[])?;
        talk(lab)?;
        control.kill9()?;
        talk(lab)?;
        control.revive()?;
        control.wait_ready()?;
        talk(lab)?;
        // Other workers own the peers now, whoever did.
        for workers in [2, 1] {
            control.apply(&format!("[engine]\nworkers = {workers}\n{text}"), &[])?;
            control.wait_ready()?;
            talk(lab)?;
        }
        ensure!(peer.wg("show wg0 latest-handshakes")? == first, "there was another handshake");
        control.balanced()?;
        Ok(())
    });
}
