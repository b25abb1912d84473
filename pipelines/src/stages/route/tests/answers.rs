//! What senders are told, and by whom.

use super::*;

/// What each destination gets: with the allowance for answers, and when it is used up.
#[test]
fn answers_come_from_the_kernel_until_there_were_too_many() {
    let punt_or = |reason| (Verdict::Punt, Verdict::Drop(reason));
    let always = |verdict| (verdict, verdict);
    for (net, (at_first, at_last)) in [
        (2, always(Verdict::Transmit(OUT))),
        (4, always(Verdict::Punt)),
        (5, always(Verdict::Punt)),
        (6, always(Verdict::Punt)),
        (7, always(Verdict::Drop(DropReason::Blackhole))),
        (8, punt_or(DropReason::Unreachable)),
        (9, punt_or(DropReason::Prohibited)),
        (10, always(Verdict::Drop(DropReason::NoSuchPort))),
        (12, punt_or(DropReason::NoRoute)),
    ] {
        let packets = [on_v4(&v4([10, net, 0, 9]), &[]), on_v6(&v6(&format!("2001:db8:{net}::9")), &[])];
        let mut router = Router::new();
        for (packet, seen) in packets.iter().zip(router.run(&packets, 0)) {
            assert_eq!(seen.verdict, at_first, "net {net}");
            assert!(
                seen.verdict == Verdict::Transmit(OUT) || seen.bytes == *packet,
                "a punted packet is as it was"
            );
            assert_eq!(seen.facts.l3, 14, "the kernel gets it from there on");
        }
        router.tire();
        assert!(router.run(&packets, 0).iter().all(|seen| seen.verdict == at_last), "net {net}");
        // A second later all is well again.
        assert!(router.run(&packets, 1_000_000_000).iter().all(|seen| seen.verdict == at_first), "net {net}");
    }
}

#[test]
fn no_more_answers_a_second_than_are_allowed() {
    let mut router = Router::new();
    let lost = vec![on_v4(&v4([10, 12, 0, 1]), &[]); 64];
    let mut punted = 0;
    for _ in 0..40 {
        punted += router.run(&lost, 5).iter().filter(|seen| seen.verdict == Verdict::Punt).count();
    }
    assert_eq!(punted, ANSWERS as usize);
}

#[test]
fn time_to_live_used_up() {
    let mut router = Router::new();
    for left in [0, 1] {
        let packets = [
            on_v4(&Ipv4Spec { ttl: left, ..v4([10, 2, 0, 2]) }, &[]),
            on_v6(&Ipv6Spec { hop_limit: left, ..v6("2001:db8:2::2") }, &[]),
        ];
        for (seen, was) in router.run(&packets, 0).iter().zip(&packets) {
            assert_eq!((seen.verdict, &seen.bytes), (Verdict::Punt, was));
        }
        router.tire();
        for seen in router.run(&packets, 0) {
            assert_eq!(seen.verdict, Verdict::Drop(DropReason::TtlExpired));
        }
        router.route.answers = Allowance::per_second(ANSWERS);
        // For ourselves it has arrived, whatever its time (RFC 1812 §5.3.1).
        router.tire();
        let ours = on_v4(&Ipv4Spec { ttl: left, ..v4([10, 5, 0, 1]) }, &[]);
        assert_eq!(router.one(&ours).verdict, Verdict::Punt);
        router.route.answers = Allowance::per_second(ANSWERS);
    }
}

#[test]
fn too_big_for_the_port() {
    let mut router = Router::new();
    let of = |len: usize, dont_fragment| {
        on_v4(&Ipv4Spec { dont_fragment, ..v4([10, 2, 0, 2]) }, &vec![7; len - 20])
    };
    let of6 = |len: usize| on_v6(&v6("2001:db8:2::2"), &vec![7; len - 40]);
    let mtu = MTU_OUT as usize;
    for fits in [of(mtu, true), of(mtu, false), of6(mtu)] {
        assert_eq!(router.one(&fits).verdict, Verdict::Transmit(OUT));
        // Padding does not count.
        let padded = [&fits[..], &[0; 9]].concat();
        assert_eq!(router.one(&padded).verdict, Verdict::Transmit(OUT));
    }
    for too_big in [of(mtu + 1, true), of6(mtu + 1)] {
        assert_eq!(router.one(&too_big).verdict, Verdict::Punt);
        router.tire();
        assert_eq!(router.one(&too_big).verdict, Verdict::Drop(DropReason::TooBig));
        router.route.answers = Allowance::per_second(ANSWERS);
    }
}

#[test]
fn a_packet_that_may_be_taken_apart_leaves_in_parts_that_fit() {
    let mut router = Router::new();
    let spec = Ipv4Spec { identification: 7, ..v4([10, 2, 0, 2]) };
    let payload: Vec<u8> = (0..1300).map(|i| i as u8).collect();
    let packet = on_v4(&spec, &payload);
    let (seen, made) = run_and_make(&mut [&mut router.parse, &mut router.route], IN, &[packet], 0);
    assert_eq!((seen.len(), made.len()), (1, 0), "it fits");
    let payload: Vec<u8> = (0..1480).map(|i| i as u8).collect();
    let packet = on_v4(&spec, &payload);
    let (seen, made) = run_and_make(&mut [&mut router.parse, &mut router.route], IN, &[packet], 0);
    let part = |range: std::ops::Range<usize>, more_fragments| {
        let spec = Ipv4Spec { ttl: 63, more_fragments, fragment_offset: range.start as u16, ..spec.clone() };
        build::ethernet(NEXT, MAC_OUT, &[], ether_type::IPV4, &spec.packet(&payload[range]))
    };
    let all: Vec<_> = seen.into_iter().chain(made).map(|seen| (seen.verdict, seen.bytes)).collect();
    let out = Verdict::Transmit(OUT);
    assert_eq!(all, [(out, part(0..1376, true)), (out, part(1376..1480, false))]);
    // Without frames for the parts, nothing leaves.
    let seen = run_one_without_frames(&mut router, &on_v4(&spec, &payload));
    assert_eq!(seen, Verdict::Drop(DropReason::NoFrame));
}

/// What becomes of a packet where no stage can make another one.
fn run_one_without_frames(router: &mut Router, packet: &[u8]) -> Verdict {
    let mut pool = Pool::heap(FrameSize::K2, 1, 1).unwrap().remove(0);
    let mut burst = Burst::new(pool.arena().clone());
    assert_eq!(burst.extend_from(&mut pool, 1, IN, 256, packet.len() as u16), 1);
    burst.bytes_mut(0).copy_from_slice(packet);
    let mut extra = Extra::new();
    let mut cx = Cx::new(0, &mut pool, &mut extra);
    router.parse.process(&mut burst, &mut cx);
    router.route.process(&mut burst, &mut cx);
    let verdict = burst.verdict(0);
    burst.free_into(&mut pool);
    assert!(extra.is_empty());
    verdict
}

/// What a packet gets from a router whose ports have addresses: type and code, and the word behind the checksum.
fn told(packet: Vec<u8>) -> Option<([u8; 2], u32)> {
    let mut router = Router::new();
    let mut ports = ports();
    (ports[0].v4, ports[0].v6) = (Some([10, 1, 0, 1].into()), Some("2001:db8:1::1".parse().unwrap()));
    router.route.ports = ports;
    let (mut seen, made) =
        run_and_make(&mut [&mut router.parse, &mut router.route], IN, std::slice::from_ref(&packet), 0);
    assert_eq!(made, []);
    let seen = seen.remove(0);
    if seen.verdict != Verdict::Transmit(IN) {
        assert_eq!(seen.bytes, packet);
        return None;
    }
    let frame = Ethernet::parse(&seen.bytes).unwrap();
    assert_eq!((frame.destination(), frame.source()), (corpus::MACS.0, MAC_IN));
    let (message, quoted) = match frame.ether_type() {
        ether_type::IPV4 => {
            let ip = Ipv4::parse(frame.payload()).unwrap();
            assert_eq!((ip.source().octets(), ip.destination().octets()), ([10, 1, 0, 1], HERE));
            (ip.payload(), &packet[14..])
        }
        _ => {
            let ip = Ipv6::parse(frame.payload()).unwrap();
            assert_eq!(ip.source().to_string(), "2001:db8:1::1");
            assert_eq!(ip.destination().to_string(), "2001:db8:1::2");
            (ip.payload(), &packet[14..])
        }
    };
    let (head, body) = message.split_first_chunk::<8>().unwrap();
    assert!(quoted.starts_with(body), "the packet as it came, not as it would have left");
    let [kind, code, _, _, word @ ..] = *head;
    Some(([kind, code], u32::from_be_bytes(word)))
}

#[test]
fn ports_with_addresses_answer_as_linux_does() {
    for (net, to_v4, to_v6) in [(8, [3, 1], [1, 0]), (9, [3, 13], [1, 1]), (12, [3, 0], [1, 0])] {
        assert_eq!(told(on_v4(&v4([10, net, 0, 9]), b"x")), Some((to_v4, 0)), "net {net}");
        assert_eq!(told(on_v6(&v6(&format!("2001:db8:{net}::9")), b"x")), Some((to_v6, 0)), "net {net}");
    }
    for left in [0, 1] {
        let spec = Ipv4Spec { ttl: left, ..v4([10, 2, 0, 2]) };
        assert_eq!(told(on_v4(&spec, b"x")), Some(([11, 0], 0)));
        let spec = Ipv6Spec { hop_limit: left, ..v6("2001:db8:2::2") };
        assert_eq!(told(on_v6(&spec, b"x")), Some(([3, 0], 0)));
    }
    let whole = Ipv4Spec { dont_fragment: true, ..v4([10, 2, 0, 2]) };
    assert_eq!(told(on_v4(&whole, &[7; 1400])), Some(([3, 4], 1400)));
    assert_eq!(told(on_v6(&v6("2001:db8:2::2"), &[7; 1400])), Some(([2, 0], 1400)));
    // Blackholes are silent; what the kernel resolves or delivers, it gets.
    for net in [4, 5, 6, 7, 10] {
        assert_eq!(told(on_v4(&v4([10, net, 0, 9]), b"x")), None, "net {net}");
        assert_eq!(told(on_v6(&v6(&format!("2001:db8:{net}::9")), b"x")), None, "net {net}");
    }
}
