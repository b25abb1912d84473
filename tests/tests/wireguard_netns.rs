//! What the kernel's own test of WireGuard tries (tools/testing/selftests/wireguard/netns.sh), where it makes sense here: sizes,
//! NAT, who may say what from where, keys that change, peers that nobody can be.
//!
//! Elsewhere: pings and streams of both families over both are in `wireguard_interop.rs`, roaming in `wireguard_roaming.rs`,
//! handshakes that are lost in `wireguard_timers.rs`, the tool's own forms (`wg setconf` with many prefixes, `/dev/null` for a key,
//! clamping, prefixes given twice) in the tests of the configuration and of the socket that `wg` speaks to.
//!
//! Not ported, because there is no such thing here: devices of one namespace with sockets in another, and what is left of them when
//! either goes (`sk_bound_dev_if`, `dst_cache`, circular references, `/dev/kmsg`); `fwmark` and policy routing as `wg-quick` has it, for
//! the outer packets follow the table that `route` names; inner MTUs of 34,816, for 9,000 is the longest; a tunnel inside of a tunnel
//! in one host, for a packet passes a pipeline once; and that a stranger's echo request is answered by the gateway with "host
//! unreachable", for a packet without a session is counted (`wireguard-no-session`) and not answered.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zsync_tests::iperf::Iperf;
use zsync_tests::ping::ping_with;
use zsync_tests::wireguard::watch::{Kind, Watch};
use zsync_tests::wireguard::{
    BEHIND, INNER, Pair, Peer, Program, config, config_of, endpoint_of, peer_of, talk,
};
use zsync_tests::{Control, Lab, Namespace, Shape, in_lab, ping, wait_for};

const SOON: Duration = Duration::from_secs(3);
const THERE: &str = "10.2.0.2:51821";
const HERE: &str = "10.2.0.1:51820";

/// A tunnel to wireguard-go with these lines in our section; nothing was said yet.
fn tunnel<'lab>(lab: &'lab Lab, lines: &str) -> Result<(Pair, Peer<'lab>, Control<'lab>)> {
    let keys = Pair::generate(lab.folder(), "ours.key")?;
    let peer = Peer::start(lab, Program::Go)?;
    peer.knows(&keys.public, None, "")?;
    let text = config_of(&keys, lines, &[peer_of(&peer.keys.public, Some(THERE), BEHIND, "")]);
    let control = Control::start(lab, &text)?;
    Ok((keys, peer, control))
}

/// Echo requests of this payload that nobody may take apart.
fn whole(from: &Namespace, to: &str, payload: usize) -> Result<zsync_tests::Ping> {
    let size = payload.to_string();
    ping_with(from, to.parse()?, 2, &["-i", "0.02", "-M", "do", "-s", &size])
}

#[test]
fn what_fits_goes_and_who_sends_more_is_told_how_much_does() {
    for (mtu, v6) in [(1420, true), (1280, true), (576, false)] {
        in_lab(Shape::router(), |lab| {
            let (_, peer, control) = tunnel(lab, &format!("mtu = {mtu}"))?;
            lab.server.ip(&format!("link set wg0 mtu {mtu}"))?;
            if v6 {
                talk(lab)?;
            }
            let families = [(INNER[0], "10.1.0.2", 28), (INNER[1], "fd01::2", 48)];
            for (inner, client, headers) in families.into_iter().take(1 + usize::from(v6)) {
                for (from, to) in [(&lab.client, inner), (&lab.server, client)] {
                    for payload in [mtu - headers, mtu - headers - 1, mtu - headers - 15, 0] {
                        let outcome = whole(from, to, payload)?;
                        ensure!(outcome.all(), "{payload} bytes to {to} in {mtu}: {outcome:?}");
                    }
                }
                let outcome = whole(&lab.client, inner, mtu - headers + 1)?;
                let told = outcome.text.contains(&format!("mtu = {mtu}"))
                    || outcome.text.contains(&format!("mtu={mtu}"));
                ensure!(outcome.received == 0 && told, "{outcome:?}");
            }
            let iperf = Iperf::serve(lab)?;
            for inner in INNER.into_iter().take(1 + usize::from(v6)) {
                for direction in [&[][..], &["-R"]] {
                    let tcp = iperf.run(inner.parse()?, &[&["-t", "1"], direction].concat())?;
                    println!("{mtu} {inner} {direction:?}: {tcp:?}");
                    ensure!(tcp.bytes > 1 << 20, "{tcp:?}");
                }
            }
            ensure!(peer.handshake()? > 0);
            control.balanced()?;
            Ok(())
        });
    }
}

#[test]
fn who_sends_through_the_tunnel_what_goes_no_further_is_told_through_it() {
    in_lab(Shape::router().client_mtu(1300), |lab| {
        let (_, _peer, control) = tunnel(lab, "")?;
        talk(lab)?;
        for (client, headers) in [("10.1.0.2", 28), ("fd01::2", 48)] {
            let outcome = ping_with(&lab.server, client.parse()?, 2, &["-i", "0.02", "-t", "1"])?;
            let told = outcome.text.contains("exceeded");
            ensure!(outcome.received == 0 && told, "hops: {outcome:?}");
            let fits = whole(&lab.server, client, 1300 - headers)?;
            ensure!(fits.all(), "{fits:?}");
            let outcome = whole(&lab.server, client, 1301 - headers)?;
            let told = ["mtu = 1300", "mtu=1300"].iter().any(|told| outcome.text.contains(told));
            ensure!(outcome.received == 0 && told, "size: {outcome:?}");
        }
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn padding_makes_no_message_longer_than_the_tunnel_takes() {
    in_lab(Shape::router(), |lab| {
        let (_, _peer, control) = tunnel(lab, "mtu = 1300")?;
        lab.server.ip("link set wg0 mtu 1300")?;
        talk(lab)?;
        for (payload, sealed) in [(1272, 1300), (1269, 1300), (1262, 1296), (1000, 1040)] {
            let watch = Watch::open(&lab.server, "eth0")?;
            ensure!(whole(&lab.client, INNER[0], payload)?.all());
            let seen = watch.all(Duration::from_millis(100))?;
            let lengths: Vec<_> =
                seen.iter().filter(|seen| seen.ends.1.port() == 51821).map(|seen| seen.kind()).collect();
            ensure!(lengths == [Some(Kind::Data(sealed)); 2], "{payload}: {lengths:?}");
        }
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn a_link_shorter_than_the_messages_takes_apart_the_outer_packets_alone() {
    in_lab(Shape::router().server_mtu(1400), |lab| {
        let (_, _peer, control) = tunnel(lab, "")?;
        // What comes in pieces is not opened, so what the peer sends must fit.
        lab.server.ip("link set wg0 mtu 1320")?;
        talk(lab)?;
        let iperf = Iperf::serve(lab)?;
        for inner in INNER {
            let tcp = iperf.run(inner.parse()?, &["-t", "1"])?;
            println!("{inner}: {tcp:?}");
            ensure!(tcp.bytes > 1 << 20, "{tcp:?}");
        }
        let outcome = whole(&lab.client, INNER[0], 1392)?;
        ensure!(outcome.all(), "{outcome:?}");
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn a_peer_behind_nat_is_reached_as_long_as_it_keeps_its_way_open() {
    in_lab(Shape::router(), |lab| {
        let behind = Namespace::create(lab.server.name().replace("-server", "-behind"))?;
        lab.server.ip(&format!("link add inside type veth peer name eth0 netns {}", behind.name()))?;
        lab.server.ip("addr add 192.168.1.1/24 dev inside")?;
        lab.server.ip("link set inside up")?;
        behind.ip("addr add 192.168.1.100/24 dev eth0")?;
        behind.ip("link set eth0 up")?;
        behind.ip("route add default via 192.168.1.1")?;
        behind.output(Command::new("ethtool").args(["-K", "eth0", "tx", "off"]))?;
        lab.server.sysctl("net/ipv4/ip_forward", "1")?;
        let translate = |ports: &str| -> Result<()> {
            let rules = format!(
                "table ip nat\ndelete table ip nat\ntable ip nat {{\nchain out {{\n\
                 type nat hook postrouting priority 100\n\
                 ip saddr 192.168.1.0/24 udp sport 51821 snat to 10.2.0.2:{ports}\n}}\n}}\n"
            );
            let file = lab.folder().join("nat.nft");
            std::fs::write(&file, rules)?;
            lab.server.output(Command::new("nft").arg("-f").arg(&file)).map(drop)
        };
        translate("40001")?;
        for key in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
            lab.server.sysctl(&format!("net/netfilter/{key}"), "2")?;
        }
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let peer = Peer::start_at(lab, &behind, Program::Go, "wg0", INNER, 51821)?;
        let control = Control::start(lab, &config(&keys, &peer.keys, None, ""))?;
        peer.knows(&keys.public, Some(HERE), "persistent-keepalive 1")?;
        let is_at = |port: u16| {
            wait_for(&format!("the peer at port {port}"), SOON, || {
                let at = endpoint_of(&control, &peer.keys.public).ok()??;
                (at.to_string() == format!("10.2.0.2:{port}")).then_some(())
            })
        };
        is_at(40001)?;
        talk(lab)?;
        // Longer than the translator remembers.
        std::thread::sleep(SOON);
        talk(lab)?;
        is_at(40001)?;
        // It forgets, and there is no way in; what the peer says next opens another, and is followed.
        peer.set(&format!("peer {} persistent-keepalive 0", keys.public))?;
        std::thread::sleep(SOON);
        translate("40002")?;
        ensure!(ping(&lab.client, INNER[0].parse()?, 2)?.received == 0);
        ensure!(ping(&behind, "10.1.0.2".parse()?, 2)?.all());
        is_at(40002)?;
        talk(lab)?;
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn a_peer_may_say_only_what_is_its_own_and_that_may_change() {
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let one = Peer::start(lab, Program::Go)?;
        let two = Peer::start_at(lab, &lab.server, Program::Go, "wg1", ["10.9.0.2", "fd09::2"], 51822)?;
        lab.server.ip("route replace 10.1.0.0/24 dev wg0")?;
        one.knows(&keys.public, Some(HERE), "")?;
        two.knows(&keys.public, Some(HERE), "")?;
        let text = |of_one: &str, of_two: &str| {
            let peers = [
                peer_of(&one.keys.public, Some(THERE), of_one, ""),
                peer_of(&two.keys.public, Some("10.2.0.2:51822"), of_two, ""),
            ];
            config_of(&keys, "", &peers)
        };
        let both = "\"10.8.0.0/24\", \"10.8.7.0/24\"";
        let control = Control::start(lab, &text(both, "\"10.9.0.0/24\""))?;
        for device in ["wg0", "wg1"] {
            lab.server.ip(&format!("addr add 10.8.7.7/32 dev {device}"))?;
        }
        let through = |device: &str, source: &str| {
            lab.server.ip(&format!("route replace 10.1.0.0/24 dev {device}"))?;
            ping_with(&lab.server, "10.1.0.2".parse()?, 3, &["-i", "0.02", "-I", source])
        };
        let refused = || anyhow::Ok(control.counts()?.dropped("wireguard-source"));
        ensure!(through("wg0", "10.8.0.2")?.all() && through("wg0", "10.8.7.7")?.all());
        ensure!(through("wg1", "10.9.0.2")?.all() && refused()? == 0);
        // What is the other's, and what is nobody's.
        ensure!(through("wg1", "10.8.7.7")?.received == 0 && refused()? == 3, "{}", refused()?);
        ensure!(through("wg1", "10.2.0.2")?.received == 0 && refused()? == 6, "{}", refused()?);
        // Moved to the other one, by a configuration, and within it by a longer prefix.
        let seven = "\"10.9.0.0/24\", \"10.8.7.0/24\"";
        control.apply(&text("\"10.8.0.0/24\"", seven), &[])?;
        ensure!(through("wg1", "10.8.7.7")?.all());
        ensure!(through("wg0", "10.8.7.7")?.received == 0 && refused()? == 9, "{}", refused()?);
        control.apply(&text("\"10.8.0.0/16\"", "\"10.9.0.0/24\", \"10.8.7.7/32\""), &[])?;
        ensure!(through("wg1", "10.8.7.7")?.all() && through("wg0", "10.8.0.2")?.all());
        ensure!(through("wg0", "10.8.7.7")?.received == 0 && refused()? == 12, "{}", refused()?);
        // A prefix is one peer's.
        ensure!(control.apply(&text(BEHIND, BEHIND), &[]).is_err());
        // Who is no peer any more is heard no more.
        let alone = config_of(&keys, "", &[peer_of(&two.keys.public, None, "\"10.9.0.0/24\"", "")]);
        control.apply(&alone, &[])?;
        ensure!(through("wg0", "10.8.0.2")?.received == 0 && through("wg1", "10.9.0.2")?.all());
        ensure!(control.counts()?.dropped("wireguard-unknown") >= 3);
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn keys_change_at_either_end_and_a_handshake_comes_at_once() {
    in_lab(Shape::router(), |lab| {
        let (keys, peer, control) = tunnel(lab, "")?;
        talk(lab)?;
        // Ours.
        let other = Pair::generate(lab.folder(), "other.key")?;
        peer.set(&format!("peer {} remove", keys.public))?;
        peer.knows(&other.public, Some(HERE), "")?;
        control.apply(&config(&other, &peer.keys, Some(THERE), ""), &[])?;
        talk(lab)?;
        // The peer's.
        let theirs = Pair::generate(lab.folder(), "theirs.key")?;
        peer.set(&format!("private-key {}", theirs.file.display()))?;
        control.apply(&config(&other, &theirs, Some(THERE), ""), &[])?;
        talk(lab)?;
        // One that is both ends'.
        let refused = control.apply(&config(&other, &other, Some(THERE), ""), &[]);
        let said = format!("{:?}", refused.err().context("we are our own peer")?);
        ensure!(said.contains("is this end itself"), "{said}");
        talk(lab)?;
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn peers_that_nobody_can_be_or_find_are_not_spoken_to() {
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        // Points of small order (RFC 7748 §6.1; https://cr.yp.to/ecdh.html#validate): a secret of zeros.
        let small = [
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "4Ot6fDtBuK4WVuP68Z/EatoJjeucMrH9hmIFFl9JuAA=",
            "X5yVvKNQjCSx0LFVnIPvWwREXMRYHI6G2CJO3dCfEVc=",
            "7P///////////////////////////////////////38=",
            "7f///////////////////////////////////////38=",
            "7v///////////////////////////////////////38=",
        ];
        let somebody = Pair::generate(lab.folder(), "somebody.key")?.public;
        let mut peers: Vec<String> = small
            .iter()
            .enumerate()
            .map(|(n, key)| {
                peer_of(key, Some("10.2.0.2:1111"), &format!("\"10.8.{n}.0/24\""), ", keepalive = \"1s\"")
            })
            .collect();
        peers.push(peer_of(&somebody, None, "\"10.8.100.0/24\"", ", keepalive = \"1s\""));
        let listener = lab.server.run(|| Ok(UdpSocket::bind("10.2.0.2:1111")?))?;
        listener.set_read_timeout(Some(Duration::from_secs(2)))?;
        let control = Control::start(lab, &config_of(&keys, "", &peers))?;
        for n in [0, 4] {
            ensure!(ping(&lab.client, format!("10.8.{n}.2").parse()?, 2)?.received == 0);
        }
        // Nobody knows where the last one is, and who asks for it is told.
        let nowhere = ping(&lab.client, "10.8.100.2".parse()?, 2)?;
        ensure!(
            nowhere.received == 0 && nowhere.text.contains("Destination Host Unreachable"),
            "{nowhere:?}"
        );
        ensure!(listener.recv(&mut [0; 200]).is_err(), "something was said to a peer that nobody can be");
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    in_lab(Shape::router(), |lab| {
        let (keys, peer, control) = tunnel(lab, "")?;
        for (address, length) in [("10.2.0.11", 24), ("fd02::11", 64)] {
            let nodad = if length == 64 { "nodad" } else { "" };
            lab.router.ip(&format!("addr add {address}/{length} dev eth2 {nodad}"))?;
        }
        // One that is another device's.
        lab.router.ip("addr add 10.50.0.1/32 dev lo")?;
        for at in ["10.2.0.1", "10.2.0.11", "10.50.0.1", "fd02::1", "fd02::11"] {
            let at = SocketAddr::new(at.parse()?, 51820);
            peer.set(&format!("peer {} endpoint {at}", keys.public))?;
            wait_for("an answer", SOON, || {
                ping(&lab.server, "10.1.0.2".parse().ok()?, 1).ok()?.all().then_some(())
            })?;
            talk(lab)?;
            let endpoints = peer.show("endpoints")?;
            ensure!(endpoints.ends_with(&at.to_string()), "{endpoints} and not {at}");
        }
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn a_peer_inside_of_its_own_tunnel_makes_no_storm() {
    in_lab(Shape::router(), |lab| {
        let (keys, peer, control) = tunnel(lab, "")?;
        talk(lab)?;
        control.apply(&config(&keys, &peer.keys, Some("10.8.0.2:51821"), ""), &[])?;
        let before = control.counts()?;
        ping(&lab.client, INNER[0].parse()?, 10)?;
        let counts = control.counts()?;
        ensure!(counts.tx() - before.tx() < 200, "{before:?} {counts:?}");
        // And out of it again.
        control.apply(&config(&keys, &peer.keys, Some(THERE), ""), &[])?;
        talk(lab)?;
        control.balanced()?;
        Ok(())
    });
}
