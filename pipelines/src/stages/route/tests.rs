use super::*;
use crate::stages::decide::Decide;
use crate::stages::fixture::{IN, MAC_IN, MAC_OUT, MTU_OUT, OUT, Seen, on_v4, on_v6, ports, run, sample};
use crate::stages::parse::Parse;
use crate::tables::fib::{AdjacencyId, FibLayout, FibWriter, Target};
use std::collections::BTreeSet;
use std::net::IpAddr;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec};
use zsync_packet::header::{Ethernet, Mac, corpus, ether_type};
use zsync_packet::region::Region;

/// The neighbours behind [`OUT`], and one behind [`IN`].
const NEXT: Mac = [0x02, 0, 0, 0, 2, 1];
const OTHER: Mac = [0x02, 0, 0, 0, 2, 2];
const BACK: Mac = [0x02, 0, 0, 0, 2, 3];

const HERE: [u8; 4] = [10, 1, 0, 2];

struct Router {
    fib: FibWriter,
    parse: Parse,
    route: Route,
}

impl Router {
    /// `10.2.0.0/16` and `2001:db8:2::/48` lead to [`NEXT`] behind [`OUT`]; the rest is by name.
    fn new() -> Self {
        let region = Region::heap(FibLayout::SMALL.bytes());
        let mut fib = FibWriter::create(region, FibLayout::SMALL).unwrap();
        let next = Self::neighbour(&mut fib, OUT, NEXT);
        let other = Self::neighbour(&mut fib, OUT, OTHER);
        let back = Self::neighbour(&mut fib, IN, BACK);
        let unknown = fib.adjacency(1, [10, 9, 9, 9].into()).unwrap();
        let nowhere = Self::neighbour(&mut fib, PortId(99), NEXT);
        let one = |hop| Target::Hops(vec![(hop, 1)]);
        for (v4, v6, target) in [
            ("10.2.0.0/16", "2001:db8:2::/48", one(next)),
            ("10.3.0.0/16", "2001:db8:3::/48", Target::Hops(vec![(next, 1), (other, 1), (back, 2)])),
            ("10.4.0.0/16", "2001:db8:4::/48", one(unknown)),
            ("10.5.0.0/16", "2001:db8:5::/48", Target::Local),
            ("10.6.0.0/16", "2001:db8:6::/48", Target::Kernel),
            ("10.7.0.0/16", "2001:db8:7::/48", Target::Blackhole),
            ("10.8.0.0/16", "2001:db8:8::/48", Target::Unreachable),
            ("10.9.0.0/16", "2001:db8:9::/48", Target::Prohibit),
            ("10.10.0.0/16", "2001:db8:10::/48", one(nowhere)),
            ("10.11.0.0/16", "2001:db8:11::/48", one(back)),
        ] {
            for prefix in [v4, v6] {
                let (address, len) = prefix.split_once('/').unwrap();
                fib.insert(address.parse().unwrap(), len.parse().unwrap(), target.clone()).unwrap();
            }
        }
        let route = Route::new(fib.reader(), ports(), HashKey::from_seed(1));
        Self { fib, parse: Parse::new(ports(), false), route }
    }

    fn neighbour(fib: &mut FibWriter, port: PortId, mac: Mac) -> AdjacencyId {
        let id = fib.adjacency(port.0, IpAddr::from([10, port.0 as u8, mac[5], 1])).unwrap();
        assert!(fib.resolve(id, mac));
        id
    }

    fn run<P: AsRef<[u8]>>(&mut self, packets: &[P], now: u64) -> Vec<Seen> {
        run(&mut [&mut self.parse, &mut self.route], IN, packets, now)
    }

    fn one(&mut self, packet: &[u8]) -> Seen {
        self.run(&[packet], 0).remove(0)
    }

    /// Uses the allowance for answers up, at the time 0.
    fn tire(&mut self) {
        while self.route.answers.take(0) {}
    }
}

fn v4(destination: [u8; 4]) -> Ipv4Spec {
    Ipv4Spec::new(HERE.into(), destination.into(), 253)
}

fn v6(destination: &str) -> Ipv6Spec {
    Ipv6Spec::new("2001:db8:1::2".parse().unwrap(), destination.parse().unwrap(), 59)
}

#[test]
fn a_forwarded_ipv4_packet_to_the_byte() {
    let spec = Ipv4Spec { ttl: 64, identification: 0x1234, tos: 0x2e, ..v4([10, 2, 0, 2]) };
    let mut expected = build::ethernet(
        NEXT,
        MAC_OUT,
        &[],
        ether_type::IPV4,
        &Ipv4Spec { ttl: 63, ..spec.clone() }.packet(b"payload"),
    );
    // What follows the total length is padding, and goes along.
    expected.extend([0xee; 30]);
    let mut packet = on_v4(&spec, b"payload");
    packet.extend([0xee; 30]);
    let seen = Router::new().one(&packet);
    assert_eq!((seen.verdict, seen.bytes), (Verdict::Transmit(OUT), expected));
}

#[test]
fn every_time_to_live_keeps_the_checksum_right() {
    let mut router = Router::new();
    for ttl in 2..=255 {
        for identification in [0, 0x00ff, 0xfeff, 0xffff, 0x8c1d] {
            let spec = Ipv4Spec { ttl, identification, ..v4([10, 2, 0, 2]) };
            let seen = router.one(&on_v4(&spec, &[]));
            assert_eq!(seen.bytes[14..], Ipv4Spec { ttl: ttl - 1, ..spec }.packet(&[]), "TTL {ttl}");
        }
    }
}

#[test]
fn a_forwarded_ipv6_packet_to_the_byte() {
    let spec = Ipv6Spec { hop_limit: 2, flow_label: 0xabcde, ..v6("2001:db8:2::9") };
    let mut expected = build::ethernet(
        NEXT,
        MAC_OUT,
        &[],
        ether_type::IPV6,
        &Ipv6Spec { hop_limit: 1, ..spec.clone() }.packet(b"payload"),
    );
    expected.extend([0xee; 30]);
    let mut packet = on_v6(&spec, b"payload");
    packet.extend([0xee; 30]);
    let seen = Router::new().one(&packet);
    assert_eq!((seen.verdict, seen.bytes), (Verdict::Transmit(OUT), expected));
}

#[test]
fn back_out_of_the_port_that_it_came_in_by() {
    let seen = Router::new().one(&on_v4(&v4([10, 11, 0, 1]), &[]));
    assert_eq!(seen.verdict, Verdict::Transmit(IN));
    let frame = Ethernet::parse(&seen.bytes).unwrap();
    assert_eq!((frame.destination(), frame.source()), (BACK, MAC_IN));
}

#[test]
fn extension_headers_are_not_looked_behind() {
    let mut router = Router::new();
    for name in ["v6 hop-by-hop options", "v6, five extension headers", "v6 fragment, middle", "v6 esp"] {
        let Some(packet) = corpus::valid().into_iter().find(|sample| sample.name == name) else { continue };
        assert_eq!(router.one(&packet.bytes).verdict, Verdict::Transmit(OUT), "{name}");
    }
    // Nor when they are broken: their destination may say so.
    let broken = Ipv6Spec { next_header: 60, ..v6("2001:db8:2::9") };
    assert_eq!(router.one(&on_v6(&broken, &[17, 200, 0, 0])).verdict, Verdict::Transmit(OUT));
}

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
    // The kernel takes it apart, and that is no answer.
    router.tire();
    assert_eq!(router.one(&of(mtu + 1, false)).verdict, Verdict::Punt);
}

#[test]
fn a_neighbour_that_is_found_or_lost_or_moves() {
    let mut router = Router::new();
    let packet = on_v4(&v4([10, 4, 0, 1]), &[]);
    let id = router.fib.find_adjacency(1, [10, 9, 9, 9].into()).unwrap();
    assert_eq!(router.one(&packet).verdict, Verdict::Punt);
    for mac in [OTHER, NEXT] {
        router.fib.resolve(id, mac);
        let seen = router.one(&packet);
        assert_eq!((seen.verdict, &seen.bytes[..6]), (Verdict::Transmit(OUT), &mac[..]));
    }
    router.fib.unresolve(id);
    assert_eq!(router.one(&packet).verdict, Verdict::Punt);
}

/// Packets of 4,000 flows over three hops of weights 1, 1 and 2.
fn spread(packets: &[Vec<u8>]) -> Vec<(PortId, Vec<u8>)> {
    let mut router = Router::new();
    let hops = |router: &mut Router| -> Vec<(PortId, Vec<u8>)> {
        let seen = packets.chunks(64).flat_map(|burst| router.run(burst, 0));
        seen.map(|seen| match seen.verdict {
            Verdict::Transmit(port) => (port, seen.bytes[..6].to_vec()),
            other => panic!("{other:?}"),
        })
        .collect()
    };
    let first = hops(&mut router);
    assert_eq!(first, hops(&mut router), "a flow keeps its hop");
    assert_eq!(first, hops(&mut Router::new()), "in a FIB that was made anew too");
    first
}

#[test]
fn equal_paths_share_by_weight_and_a_flow_stays() {
    let of4 = |flow: u16| {
        let spec = Ipv4Spec::new(HERE.into(), [10, 3, 0, 1].into(), 17);
        on_v4(&spec, &build::udp(spec.address_sum(), 1024 + flow, 53, b"flow"))
    };
    let of6 = |flow: u16| {
        let spec = Ipv6Spec::new("2001:db8:1::2".parse().unwrap(), "2001:db8:3::1".parse().unwrap(), 6);
        let segment = build::TcpSpec::new(1024 + flow, 443, zsync_packet::header::TcpFlags::SYN);
        on_v6(&spec, &segment.segment(spec.address_sum(), b""))
    };
    // Extension headers that cannot be walked: the addresses alone decide, and still spread.
    let broken = |flow: u16| {
        let source = std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, flow);
        let spec = Ipv6Spec::new(source, "2001:db8:3::1".parse().unwrap(), 60);
        on_v6(&spec, &[17, 9, 0, 0])
    };
    for of in [&of4 as &dyn Fn(u16) -> Vec<u8>, &of6, &broken] {
        let packets: Vec<Vec<u8>> = (0..4000).map(of).collect();
        let hops = spread(&packets);
        let share = |mac: Mac| hops.iter().filter(|(_, to)| *to == mac).count();
        let shares = [share(NEXT), share(OTHER), share(BACK)];
        // Binomial: four standard deviations are 110 and 127.
        assert!(shares[0].abs_diff(1000) < 110 && shares[1].abs_diff(1000) < 110, "{shares:?}");
        assert!(shares[2].abs_diff(2000) < 127, "{shares:?}");
    }
    // All fragments of a datagram take one way, whatever ports the first one shows.
    let parts: Vec<Vec<u8>> = (0..40u16)
        .map(|n| {
            let spec = Ipv4Spec { more_fragments: true, fragment_offset: n * 8, ..v4([10, 3, 0, 1]) };
            on_v4(&Ipv4Spec { protocol: 17, ..spec }, &[n as u8; 8])
        })
        .collect();
    assert_eq!(spread(&parts).into_iter().collect::<BTreeSet<_>>().len(), 1);
}

#[test]
fn a_packet_that_was_not_parsed_is_refused() {
    let mut router = Router::new();
    let packet = sample("v4 udp");
    let seen = run(&mut [&mut router.route], IN, &[&packet], 0);
    assert_eq!((seen[0].verdict, &seen[0].bytes), (Verdict::Drop(DropReason::NotIp), &packet));
    let mut punt = Decide::PUNT;
    let seen = run(&mut [&mut punt, &mut router.route], IN, &[&packet], 0);
    assert_eq!(seen[0].verdict, Verdict::Punt, "decided already");
}

#[test]
fn both_families_in_one_burst_keep_their_places() {
    let mut router = Router::new();
    let nets = [2, 7, 5, 11, 2, 10, 3, 4];
    let packets: Vec<Vec<u8>> = (0..64)
        .map(|i| match (i % 2, nets[i / 8]) {
            (0, net) => on_v4(&v4([10, net, 0, i as u8]), &[i as u8]),
            (_, net) => on_v6(&v6(&format!("2001:db8:{net}::{i}")), &[i as u8]),
        })
        .collect();
    let alone: Vec<Seen> = packets.iter().map(|packet| router.one(packet)).collect();
    assert_eq!(router.run(&packets, 0), alone);
}
