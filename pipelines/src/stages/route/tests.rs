use super::*;
use crate::stage::Extra;
use crate::stages::decide::Decide;
use crate::stages::fixture::{
    IN, MAC_IN, MAC_OUT, MTU_OUT, OUT, Seen, on_v4, on_v6, ports, run, run_and_make, sample,
};
use crate::stages::parse::Parse;
use crate::stages::track::{Rules, Track};
use crate::state::{State, StateSize};
use crate::tables::fib::{AdjacencyId, FibLayout, FibWriter, Target};
use crate::tables::flow::{FlowId, FlowSpace, Flows};
use std::collections::BTreeSet;
use std::net::IpAddr;
use zsync_packet::frame::FrameSize;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec};
use zsync_packet::header::{Ethernet, Mac, corpus, ether_type};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::rewrite;

mod answers;
mod translated;

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

#[test]
fn marks_choose_the_table() {
    let table = |target: Target| {
        let mut fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL).unwrap();
        for zero in ["0.0.0.0", "::"] {
            fib.insert(zero.parse().unwrap(), 0, target.clone()).unwrap();
        }
        fib
    };
    let (seven, nine) = (table(Target::Blackhole), table(Target::Local));
    let mut router = Router::new();
    router.route = router.route.by_mark(vec![(9, nine.reader()), (7, seven.reader())]);
    let wanted = |mark| match mark {
        7 => Verdict::Drop(DropReason::Blackhole),
        9 => Verdict::Punt,
        _ => Verdict::Transmit(OUT),
    };
    let packets: Vec<Vec<u8>> = (0..64)
        .map(|i| match i % 2 {
            0 => on_v4(&v4([10, 2, 0, i as u8]), &[]),
            _ => on_v6(&v6(&format!("2001:db8:2::{i}")), &[]),
        })
        .collect();
    let marks = |i: usize| [0, 7, 9, 8, 7, u32::MAX, 7, 0][i / 2 % 8];
    let mut mark = Marker(marks);
    let seen = run(&mut [&mut router.parse, &mut mark, &mut router.route], IN, &packets, 0);
    for (i, seen) in seen.iter().enumerate() {
        assert_eq!(seen.verdict, wanted(marks(i)), "packet {i}, mark {}", marks(i));
    }
}

/// Gives each packet of a burst a mark, by its place.
struct Marker(fn(usize) -> u32);

impl Stage for Marker {
    fn process(&mut self, burst: &mut Burst, _: &mut Cx<'_>) {
        for i in burst.undecided() {
            burst.facts_mut(i).mark = (self.0)(i);
        }
    }
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

#[test]
fn a_route_is_explained_in_words() {
    let mut router = Router::new();
    let table = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL).unwrap();
    router.route = router.route.by_mark(vec![(7, table.reader())]);
    let explain = |router: &mut Router, packet: Vec<u8>, mark| {
        let mut pool = Pool::heap(FrameSize::K2, 1, 1).unwrap().remove(0);
        let mut burst = Burst::new(pool.arena().clone());
        burst.extend_from(&mut pool, 1, IN, 256, packet.len() as u16);
        burst.bytes_mut(0).copy_from_slice(&packet);
        router.parse.process(&mut burst, &mut Cx::at(0));
        burst.facts_mut(0).mark = mark;
        let mut words = Vec::new();
        router.route.explain(&burst, 0, 0, &mut words);
        burst.free_into(&mut pool);
        words.join("; ")
    };
    for (packet, mark, words) in [
        (on_v4(&v4([10, 2, 3, 4]), b""), 0, "10.2.0.0/16: port 1, 02:00:00:00:02:01"),
        (on_v6(&v6("2001:db8:7::9"), b""), 8, "2001:db8:7::/48: blackhole"),
        (on_v4(&v4([10, 12, 3, 4]), b""), 0, "no route to 10.12.3.4"),
        (on_v4(&v4([10, 2, 3, 4]), b""), 7, "the table of mark 0x7; no route to 10.2.3.4"),
    ] {
        assert_eq!(explain(&mut router, packet, mark), words);
    }
    let words = explain(&mut router, on_v4(&v4([10, 3, 0, 1]), b""), 0);
    assert!(
        words.starts_with("10.3.0.0/16: port ") && words.ends_with("by its flow, of several hops"),
        "{words}"
    );
    // The way is the one that packets take.
    let seen = router.one(&on_v4(&v4([10, 3, 0, 1]), b""));
    let Verdict::Transmit(port) = seen.verdict else { panic!("{seen:?}") };
    assert!(words.contains(&format!("port {},", port.0)), "{words}: {port:?}");
}
