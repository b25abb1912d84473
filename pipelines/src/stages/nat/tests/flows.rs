//! Sharing an address, forwards, filtering, hairpins and errors.

use super::packets::{ICMP_REPLY, error, packet, udp};
use super::*;

#[test]
fn a_flow_goes_out_by_the_ports_address_and_its_answers_come_back() {
    let mut edge = Edge::new(masquerade());
    for (inside, outside, server) in
        [("10.0.0.5", "203.0.113.1", "192.0.2.7"), ("fd00::5", "2001:db8::1", "2001:db8:7::7")]
    {
        for kind in [protocol::TCP, protocol::UDP, protocol::ICMP] {
            let echo = kind == protocol::ICMP;
            let (port, far) = (4000, if echo { 4000 } else { 443 });
            let answer = if echo { ICMP_REPLY } else { kind };
            for _ in 0..3 {
                edge.becomes(
                    LAN,
                    &packet(kind, at(inside, port), at(server, far)),
                    &packet(kind, at(outside, port), at(server, far)),
                );
                edge.becomes(
                    WAN,
                    &packet(answer, at(server, far), at(outside, port)),
                    &packet(answer, at(server, far), at(inside, port)),
                );
            }
        }
    }
    assert_eq!(edge.mappings(), 6);
}

#[test]
fn what_does_not_leave_by_the_output_stays_as_it_is() {
    let mut edge = Edge::new(masquerade());
    for stays in
        [udp(at("10.0.0.5", 4000), at("10.9.0.1", 53)), udp(at("fd00::5", 4000), at("fd00:9::1", 53))]
    {
        edge.becomes(LAN, &stays, &stays);
    }
    // From outside to the host itself, and through it.
    for stays in [
        udp(at("192.0.2.7", 4000), at("203.0.113.1", 22)),
        packet(protocol::ICMP, at("192.0.2.7", 9), at("203.0.113.1", 9)),
        udp(at("192.0.2.7", 4000), at("10.0.0.5", 53)),
        udp(at("2001:db8:7::7", 4000), at("fd00::5", 53)),
    ] {
        edge.becomes(WAN, &stays, &stays);
    }
    assert_eq!(edge.mappings(), 0);
}

#[test]
fn a_forward_leads_in_whoever_asks() {
    for to in [Some("203.0.113.1"), None] {
        let mut edge = Edge::new(with_forward(to, "udp/8000", 8009, "10.0.0.5", 53));
        for (n, port) in [(0, 8000), (9, 8009)] {
            let (client, server) = (at("192.0.2.7", 4000 + n), at("10.0.0.5", 53 + n));
            edge.becomes(WAN, &udp(client, at("203.0.113.1", port)), &udp(client, server));
            edge.becomes(LAN, &udp(server, client), &udp(at("203.0.113.1", port), client));
        }
        let beyond = udp(at("192.0.2.7", 1), at("203.0.113.1", 8010));
        edge.becomes(WAN, &beyond, &beyond);
        // From inside: the target would answer past us, so it must not see who asks.
        let (client, target) = (at("10.0.0.9", 4000), at("10.0.0.5", 53));
        edge.becomes(LAN, &udp(client, at("203.0.113.1", 8000)), &udp(at("203.0.113.1", 4000), target));
        edge.becomes(LAN, &udp(target, at("203.0.113.1", 4000)), &udp(at("203.0.113.1", 8000), client));
    }
}

#[test]
fn a_forwarded_port_is_no_clients() {
    let mut edge = Edge::new(with_forward(Some("203.0.113.1"), "udp/4000", 4000, "10.0.0.5", 53));
    let seen = edge.one(LAN, &udp(at("10.0.0.9", 4000), at("192.0.2.7", 53)));
    assert_eq!(seen.verdict, Verdict::Next);
    assert_ne!(seen.key.source_port(), 4000);
    assert_eq!(seen.key.source_port() % 2, 0);
}

/// What reaches a client that has sent from 4000 to 192.0.2.7:53: the same end, another port, another address.
fn let_in(filtering: Filtering) -> [Result<(), DropReason>; 3] {
    let mut edge = Edge::new(NatSpec { filtering, ..pooled("203.0.113.8/32") });
    let (inside, outside) = (at("10.0.0.5", 4000), at("203.0.113.8", 4000));
    edge.becomes(LAN, &udp(inside, at("192.0.2.7", 53)), &udp(outside, at("192.0.2.7", 53)));
    [at("192.0.2.7", 53), at("192.0.2.7", 54), at("192.0.2.8", 53)].map(|from| {
        let seen = edge.one(WAN, &udp(from, outside));
        match seen.verdict {
            Verdict::Drop(reason) => Err(reason),
            _ => {
                assert_eq!(seen.bytes, udp(from, inside));
                edge.becomes(LAN, &udp(inside, from), &udp(outside, from));
                Ok(())
            }
        }
    })
}

#[test]
fn filtering_is_as_strict_as_it_is_set() {
    let no = Err(DropReason::NatFiltered);
    assert_eq!(let_in(Filtering::Endpoint), [Ok(()); 3]);
    assert_eq!(let_in(Filtering::Address), [Ok(()), Ok(()), no]);
    assert_eq!(let_in(Filtering::AddressAndPort), [Ok(()), no, no]);
}

#[test]
fn clients_meet_outside_and_see_each_others_external_ends() {
    let mut edge = Edge::new(NatSpec { filtering: Filtering::Endpoint, ..pooled("203.0.113.8/32") });
    let (one, other) = (at("10.0.0.5", 4000), at("10.0.0.6", 5000));
    let (one_out, other_out) = (at("203.0.113.8", 4000), at("203.0.113.8", 5000));
    edge.becomes(LAN, &udp(other, at("192.0.2.7", 53)), &udp(other_out, at("192.0.2.7", 53)));
    edge.becomes(LAN, &udp(one, other_out), &udp(one_out, other));
    edge.becomes(LAN, &udp(other, one_out), &udp(other_out, one));
}

#[test]
fn errors_reach_who_sent_what_they_are_about() {
    for (inside, outside, server, router, hidden) in [
        ("10.0.0.5", "203.0.113.1", "192.0.2.7", "198.51.100.1", "10.0.0.77"),
        ("fd00::5", "2001:db8::1", "2001:db8:7::7", "2001:db8:9::9", "fd00::77"),
    ] {
        let mut edge = Edge::new(with_forward(None, "udp/8000", 8000, inside, 53));
        for kind in [protocol::TCP, protocol::UDP, protocol::ICMP] {
            let port = if kind == protocol::ICMP { 4000 } else { 443 };
            let sent = packet(kind, at(inside, 4000), at(server, port));
            let left = packet(kind, at(outside, 4000), at(server, port));
            edge.becomes(LAN, &sent, &left);
            // From a router outside, about what went out.
            edge.becomes(WAN, &error(router, &left), &error(router, &sent));
        }
        // From inside, about an answer: the one who could not be reached stays hidden (RFC 5508 REQ-5).
        let answer = udp(at(server, 443), at(outside, 4000));
        let inner = udp(at(server, 443), at(inside, 4000));
        edge.becomes(WAN, &answer, &inner);
        edge.becomes(LAN, &error(hidden, &inner), &error(outside, &answer));
        // From inside, about a forwarded packet.
        let asked = udp(at(server, 7), at(outside, 8000));
        let led = udp(at(server, 7), at(inside, 53));
        edge.becomes(WAN, &asked, &led);
        edge.becomes(LAN, &error(inside, &led), &error(outside, &asked));
    }
}

#[test]
fn what_cannot_be_translated_never_leaves_as_it_is() {
    let mut edge = Edge::new(pooled("203.0.113.8/32"));
    let (inside, server) = (at("10.0.0.5", 0), at("192.0.2.7", 0));
    edge.drops(LAN, &packet(protocol::ESP, inside, server), DropReason::NatUntranslatable);
    edge.drops(LAN, &packet(protocol::AUTH, inside, server), DropReason::NatUntranslatable);
    // To the pool, and nobody there; from the pool.
    edge.drops(WAN, &udp(server, at("203.0.113.8", 4000)), DropReason::NatNoMapping);
    edge.drops(WAN, &packet(protocol::ICMP, server, at("203.0.113.8", 0)), DropReason::NatNoMapping);
    edge.drops(LAN, &udp(at("203.0.113.8", 4000), server), DropReason::MartianSource);
    // The tracker knows no flow.
    let mut burst = vec![udp(inside, server)];
    let (mut parse, mut nat) = (edge.parse.clone(), edge.nat.clone());
    let seen = run(&mut [&mut parse, &mut nat], LAN, &burst, 0).remove(0);
    assert_eq!(seen.verdict, Verdict::Drop(DropReason::NatUntranslatable));
    burst[0] = udp(inside, at("10.9.0.1", 0));
    assert_eq!(run(&mut [&mut parse, &mut nat], LAN, &burst, 0).remove(0).verdict, Verdict::Next);
    assert_eq!(edge.tracker.flows.counts().flows, 0, "refused flows are not kept");
}

#[test]
fn ports_run_out_and_come_back_with_time() {
    let mut edge = Edge::new(NatSpec { ports: (1024, 1151), ..pooled("203.0.113.8/32") });
    let server = at("192.0.2.7", 53);
    for n in 0..128 {
        let seen = edge.one(LAN, &udp(at("10.0.0.5", 2000 + n), server));
        assert_eq!(seen.verdict, Verdict::Next, "{n}");
    }
    edge.drops(LAN, &udp(at("10.0.0.5", 9999), server), DropReason::NatNoPort);
    edge.wait(3);
    edge.drops(LAN, &udp(at("10.0.0.5", 9999), server), DropReason::NatNoPort);
    edge.wait(302);
    assert_eq!((edge.tracker.flows.counts().flows, edge.mappings()), (0, 0));
    assert_eq!(edge.one(LAN, &udp(at("10.0.0.5", 9999), server)).verdict, Verdict::Next);
}

#[test]
fn a_flow_lives_through_restarts_and_ends_with_its_address() {
    let mut edge = Edge::new(masquerade());
    let (inside, server) = (at("10.0.0.5", 4000), at("192.0.2.7", 53));
    for _ in 0..20 {
        edge.becomes(LAN, &udp(inside, server), &udp(at("203.0.113.1", 4000), server));
        edge.becomes(WAN, &udp(server, at("203.0.113.1", 4000)), &udp(server, inside));
        edge.restart();
        edge.wait(3);
    }
    assert_eq!(edge.mappings(), 1);
    // The provider gives the port another address.
    edge.own[1] = vec![[203, 0, 113, 99].into()];
    edge.restart();
    edge.wait(3);
    assert_eq!((edge.tracker.flows.counts().flows, edge.mappings()), (0, 0));
    edge.becomes(LAN, &udp(inside, server), &udp(at("203.0.113.99", 4000), server));
    // And none for a while: nothing leaves.
    edge.own[1].clear();
    edge.restart();
    edge.drops(LAN, &udp(at("10.0.0.6", 1), server), DropReason::NatNoPort);
}

#[test]
fn both_directions_have_one_owner_and_clients_are_spread() {
    let spec =
        NatSpec { block: 64, blocks_per_client: 2, ..with_forward(None, "tcp/443", 443, "10.0.0.5", 8443) };
    let edge = Edge::new(spec.clone());
    let workers = 3;
    let rules = |own: &[Vec<IpAddr>]| NatRules::new(&spec, own, Some(edge.fib.reader())).unwrap();
    let hash_key = HashKey::from_seed(3);
    let owners = Owners::new(rules(&edge.own), ports(&spec, (0, workers)), hash_key.clone(), workers);
    let mut seen = [0; 3];
    for client in 0..60u8 {
        let inside = Endpoint::new([10, 0, 0, client].into(), 4000 + u16::from(client), 17);
        let server = Endpoint::new([192, 0, 2, 7].into(), 53, 17);
        let owner = owners.owner(&inside.to(&server), LAN).unwrap();
        seen[usize::from(owner)] += 1;
        // The owner has memory of its own, and its own ports.
        let memory = Region::heap(layout(&spec).bytes());
        let state =
            Translations::open(&memory, layout(&spec), ports(&spec, (owner, workers)), 2, hash_key.clone());
        let state = state.map(|mut state| {
            state.start();
            state
        });
        let rules = rules(&edge.own);
        let first = First { key: &inside.to(&server), input: LAN, has_ports: true, now: 0 };
        let out = rules.decide(&first, state.as_ref()).unwrap().unwrap();
        assert_eq!(owners.owner(&out.reversed(), WAN), Some(owner));
    }
    assert!(seen.iter().all(|count| *count > 8), "{seen:?}");
    let target = Endpoint::new([10, 0, 0, 5].into(), 8443, protocol::TCP);
    let asker = Endpoint::new([192, 0, 2, 7].into(), 4000, protocol::TCP);
    let outside = Endpoint::new([203, 0, 113, 1].into(), 443, protocol::TCP);
    let owner = owners.owner(&asker.to(&outside), WAN);
    assert_eq!((owner.is_some(), owners.owner(&target.to(&asker), LAN)), (true, owner));
    // What no rule is about, in either direction.
    let neighbour = Endpoint::new([10, 9, 0, 1].into(), 1, protocol::TCP);
    let other = Endpoint::new([10, 0, 0, 77].into(), 1, protocol::TCP);
    assert_eq!(
        (owners.owner(&other.to(&neighbour), LAN), owners.owner(&asker.to(&other), WAN)),
        (None, None)
    );
}
