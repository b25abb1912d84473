//! Floods of new flows, a successor, and the host's own connections.

use super::*;

/// A SYN, or another packet, from a made-up source.
fn flood(n: u32, tcp: bool) -> Vec<u8> {
    let source = Ipv4Addr::from_bits(0x0b00_0000 | n.wrapping_mul(0x9e37_79b1) >> 8);
    let protocol = if tcp { protocol::TCP } else { protocol::UDP };
    let ip = Ipv4Spec::new(source, [10, 2, 0, 9].into(), protocol);
    let port = (n % 60_000) as u16 + 1;
    if tcp {
        on_v4(&ip, &TcpSpec::new(port, 80, SYN).segment(ip.address_sum(), &[]))
    } else {
        on_v4(&ip, &build::udp(ip.address_sum(), port, 53, b"junk"))
    }
}

/// Established connections, amid a flood of new ones: what becomes of both.
fn under_flood(tcp: bool, limits: Limits) -> (Edge, u32) {
    const CONNECTIONS: u16 = 500;
    let mut edge = Edge::with(1000, Rules { limits, ..Rules::default() });
    let ends = |n: u16| Ends { v6: n.is_multiple_of(2), ports: (20_000 + n, 443) };
    for n in 0..CONNECTIONS {
        edge.burst(&handshake(ends(n)));
    }
    let (mut sent, mut kept, mut begun, mut n) = (0u32, 0u32, 0, 0);
    for round in 0..1500u32 {
        edge.now += 1_000_000;
        let mut packets: Vec<Vec<u8>> = (n..n + 60).map(|n| flood(n, tcp)).collect();
        n += 60;
        for i in 0..4 {
            let ends = ends(((round * 4 + i) % u32::from(CONNECTIONS)) as u16);
            let reply = i % 2 == 1;
            packets.push(if reply { ends.tcp(true, ACK, 501, 101) } else { ends.tcp(false, ACK, 101, 501) });
        }
        // Connections that begin in the midst of it, too, as long as there is room for what is not weak.
        let new = Ends { v6: false, ports: (1000 + round as u16, 8000) };
        if round < 300 {
            packets[10] = new.tcp(false, SYN, 100, 0);
            packets[20] = new.tcp(true, SYNACK, 500, 101);
            packets[30] = new.tcp(false, ACK, 101, 501);
        }
        let seen = edge.burst(&packets);
        for seen in &seen[60..] {
            sent += 1;
            kept += u32::from(seen.verdict == Verdict::Next && seen.facts.state == FlowState::Established);
        }
        begun += u32::from(round < 300 && seen[30].facts.state == FlowState::Established);
        edge.track.tend(edge.now);
    }
    assert!(kept * 100 >= sent * 99, "{kept} of {sent}");
    assert!(begun == 300, "{begun} of 300 new ones");
    (edge, n)
}

#[test]
fn in_a_syn_flood_established_connections_keep_their_packets() {
    let (edge, n) = under_flood(true, Limits { half_open: 100, per_source: 0 });
    let counts = edge.table().counts();
    assert!(counts.half_open <= 100, "{counts:?}");
    assert!(counts.evicted_half_open > u64::from(n) / 2);
}

#[test]
fn in_a_udp_flood_from_made_up_sources_established_connections_keep_their_packets() {
    let (edge, _) = under_flood(false, Limits { half_open: 100, per_source: 0 });
    let counts = edge.table().counts();
    assert_eq!(counts.flows, 1000);
    assert!(counts.evicted_weak > 10_000);
}

#[test]
fn a_successor_goes_on_where_the_predecessor_was_killed() {
    let mut edge = Edge::new();
    edge.burst(&handshake(V4));
    // Another stage over the same memory, as after a restart.
    edge.track = Track::alone(edge.table().clone(), edge.track.rules);
    assert_eq!(edge.told(&V4.tcp(true, ACK, 501, 101)), (FlowState::Established, true, 1));
}

proptest! {
    /// Random flags, numbers and lengths on few flows: whatever comes, each flow is found by its packets, and what is counted
    /// of the table is what is in it.
    #[test]
    fn whatever_comes_the_table_stays_sound(
        packets in prop::collection::vec(
            (any::<bool>(), any::<bool>(), 0u16..6, 0u8..7, any::<u8>(), 0u32..2000, 0u32..2000, 0usize..80, 0u64..200),
            1..200,
        )
    ) {
        let mut edge = Edge::with(4, Rules::default());
        for (v6, reply, port, kind, byte, sequence, acknowledgement, cut, pass) in packets {
            let ends = Ends { v6, ports: (port, 80) };
            let mut packet = match kind {
                0..=2 => ends.tcp(reply, TcpFlags(byte), sequence, acknowledgement),
                3 => ends.udp(reply),
                4 => ends.echo(reply, byte > 127, port),
                5 => ends.unreachable(&ends.tcp(reply, ACK, sequence, 0), !reply),
                _ => ends.packet(reply, byte, |_| vec![byte; cut]),
            };
            if cut < 3 {
                let last = packet.len() - 1;
                packet[last - cut * 7] ^= byte;
            }
            edge.now += pass * SECOND / 4;
            let seen = edge.one(&packet);
            edge.track.tend(edge.now);
            let flows = edge.table();
            if let Some(id) = FlowId::from_fact(seen.facts.flow)
                && seen.facts.state != FlowState::Related
            {
                prop_assert_eq!(flows.is_it(id, &seen.key), Some(seen.facts.reply));
            }
            let (mut all, mut weak, mut half_open) = (0, 0, 0);
            for hot in (0..4).filter_map(|id| flows.hot(FlowId(id))).filter(|hot| hot.life() != 0) {
                all += 1;
                weak += u32::from(hot.bits() & bit::WEAK != 0);
                half_open += u32::from(hot.bits() & bit::HALF_OPEN != 0);
            }
            let counts = flows.counts();
            prop_assert_eq!((counts.flows, counts.weak, counts.half_open), (all, weak, half_open));
        }
    }
}

#[test]
fn the_hosts_own_connections_are_left_to_the_host() {
    struct Settle<'a>(&'a mut Track);
    impl Stage for Settle<'_> {
        fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
            self.0.process(burst, cx);
            burst.decide_all(Verdict::Punt);
            self.0.settle(burst);
        }
    }
    // The host is the one end, and begins: what it sends is not seen here.
    let mut fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL).unwrap();
    fib.insert("10.1.0.2".parse().unwrap(), 32, Target::Local).unwrap();
    fib.insert("2001:db8:1::2".parse().unwrap(), 128, Target::Local).unwrap();
    for ends in [V4, V6] {
        let mut edge = Edge::new();
        let stray = ends.tcp(true, SYNACK, 500, 101);
        assert_eq!(edge.one(&stray).verdict, Verdict::Drop(DropReason::Invalid));
        edge.track = edge.track.clone().at(Own::of(Some(fib.reader())));
        let error = ends.unreachable(&ends.udp(false), true);
        for packet in [
            stray,
            ends.tcp(true, ACK, 501, 101),
            ends.tcp(true, RST, 501, 101),
            ends.echo(true, true, 7),
            error,
        ] {
            let seen = edge.one(&packet);
            assert_eq!((seen.verdict, seen.facts.state), (Verdict::Next, FlowState::Untracked));
        }
        // Not so for others, and for what is no packet of anybody's.
        let other = ends.tcp(false, SYNACK, 500, 101);
        assert_eq!(edge.one(&other).verdict, Verdict::Drop(DropReason::Invalid));
        let christmas = ends.tcp(true, TcpFlags(0x03), 500, 101);
        assert_eq!(edge.one(&christmas).verdict, Verdict::Drop(DropReason::TcpInvalid));
        assert_eq!(edge.flows(), 0);
        // Who begins something with the host begins a flow, which is forgotten when the host gets the packet: each is new.
        for packet in [ends.udp(true), ends.tcp(true, SYN, 500, 0), ends.echo(true, false, 7)] {
            assert_eq!(edge.state(&packet), FlowState::New);
            edge.table().sweep(edge.table().space().flows, u64::MAX);
            run(&mut [&mut edge.parse, &mut Settle(&mut edge.track)], IN, &[packet], SECOND);
            assert_eq!(edge.flows(), 0);
        }
        // What the kernel is to send on for others stays a flow.
        run(&mut [&mut edge.parse, &mut Settle(&mut edge.track)], IN, &[ends.udp(false)], SECOND);
        assert_eq!(edge.flows(), 1);
    }
}
