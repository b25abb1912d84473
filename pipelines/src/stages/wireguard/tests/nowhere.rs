//! Packets for a peer of whom nobody knows where it is: their senders are told.

use super::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use zsync_packet::header::Ipv6;

/// What becomes of packets from inside, each with its bytes then.
fn told(end: &mut End, frames: &[Vec<u8>], ports: Vec<PortFacts>) -> Vec<(Verdict, Vec<u8>)> {
    let tunnel = end.seal.tunnel().clone();
    end.seal = Seal::new(tunnel, ports, 0, Some(OUT));
    end.seal.assign(0);
    end.fill(frames);
    let mut cx = Cx::new(SECOND, &mut end.pool, &mut end.extra);
    end.parse.process(&mut end.burst, &mut cx);
    end.seal.process(&mut end.burst, &mut cx);
    let all = (0..frames.len()).map(|i| (end.burst.verdict(i), end.burst.bytes(i).to_vec())).collect();
    end.drained();
    all
}

#[test]
fn who_sends_to_a_peer_that_is_nowhere_is_told() {
    let mut end = End::new(2, &[1], false, false);
    let sent = [inner(2, 1, false, b"four"), inner(2, 1, true, b"six")];
    let all = |v4: [u8; 4], v6: &str, of_host| {
        let with = |port| PortFacts { v4: Some(v4.into()), v6: v6.parse().ok(), of_host, ..port };
        ports().into_iter().map(with).collect::<Vec<_>>()
    };
    let (theirs, theirs_v6) = (Ipv4Addr::from([10, 0, 1, 6]), "fd00:1::6".parse::<Ipv6Addr>().unwrap());
    for (ports, from) in [
        (
            all([192, 0, 2, 77], "2001:db8::77", false),
            ([192, 0, 2, 77].into(), "2001:db8::77".parse().unwrap()),
        ),
        // The host is not told by itself, but by whom it wanted to reach.
        (all([10, 0, 2, 5], "fd00:2::5", true), (theirs, theirs_v6)),
        (ports(), (theirs, theirs_v6)),
    ] {
        let told = told(&mut end, &sent, ports);
        assert!(told.iter().all(|(verdict, _)| *verdict == Verdict::Transmit(IN)), "{told:?}");
        let ip = Ipv4::parse(&told[0].1[14..]).unwrap();
        assert_eq!(
            (ip.source(), ip.destination(), ip.protocol()),
            (from.0, [10, 0, 2, 5].into(), protocol::ICMP)
        );
        assert_eq!(ip.payload()[..2], [3, 1], "host unreachable");
        assert_eq!(ip.payload()[8..], sent[0][14..], "all of the packet is quoted");
        let ip = Ipv6::parse(&told[1].1[14..]).unwrap();
        assert_eq!((ip.source(), ip.next_header()), (from.1, protocol::ICMPV6));
        assert_eq!(ip.payload()[..2], [1, 3], "address unreachable");
        assert_eq!(told[0].1[..6], sent[0][6..12], "to the station that it came from");
    }
    assert_eq!(end.seal.tunnel().book().counted(Count::Nowhere), 6);
}

#[test]
fn what_came_sealed_is_not_quoted_on_the_wire() {
    for v6 in [false, true] {
        let (mut a, mut b) = connected(v6);
        let sealed = a.inside(&[inner(1, 2, false, b"secret"), inner(1, 2, true, b"secret")], 2 * SECOND);
        let opened = b.outside(&sealed, 2 * SECOND);
        assert_eq!(opened.len(), 2);
        // Whose next hop is another tunnel, with a peer that is nowhere.
        let mut onward = End::new(3, &[1, 2], v6, false);
        let told = told(&mut onward, &opened, ports());
        for ((verdict, bytes), opened) in told.iter().zip(&opened) {
            assert_eq!((*verdict, bytes), (Verdict::Drop(DropReason::WireguardNoSession), opened));
        }
    }
}

#[test]
fn no_more_are_told_than_a_host_may_send() {
    let mut end = End::new(2, &[1], false, false);
    assert!(end.inside(&vec![inner(2, 1, false, b"again"); 64], SECOND).is_empty());
    // Those that a station may get at once.
    assert_eq!(end.dropped(DropReason::WireguardNoSession), 64 - 6, "{:?}", end.drops);
    assert_eq!(end.seal.tunnel().book().counted(Count::Nowhere), 64);
}

#[test]
fn a_peer_that_has_been_heard_is_somewhere() {
    let mut end = End::new(2, &[1], false, false);
    let remote = outside(1, false);
    // As the worker does that hears it.
    assert!(end.tick(SECOND).is_empty());
    end.record(1, |record| {
        record.set_endpoint(zsync_wireguard::record::Endpoint { remote, local: [0; 4].into() })
    });
    let told = told(&mut end, &[inner(2, 1, false, b"x")], ports());
    assert_eq!(told[0].0, Verdict::Consume, "it waits");
}
