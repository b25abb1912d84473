//! The stage over a FIB and memory of its own; outer headers as another parser reads them.

use super::*;
use crate::spec::balance::{Backend, GUE_PORT};
use crate::stages::fixture::{IN, MAC_OUT, MTU_OUT, OUT, Seen, on_v4, on_v6, ports, run_and_make};
use crate::stages::parse::Parse;
use crate::state::State as Memory;
use crate::tables::backends::State;
use crate::tables::fib::{FibLayout, FibWriter, Target};
use crate::tables::maglev;
use etherparse::{LaxPacketHeaders, NetHeaders, TransportHeader};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};

const VIP4: [u8; 4] = [192, 0, 2, 80];
const VIP6: &str = "2001:db8::80";
const SECOND: u64 = 1_000_000_000;

/// Four backends of each family, all behind [`OUT`].
fn address(number: u8, v4: bool) -> IpAddr {
    if v4 { [10, 9, 0, number].into() } else { format!("2001:db8:9::{number}").parse().unwrap() }
}

fn mac(address: IpAddr) -> [u8; 6] {
    match address {
        IpAddr::V4(v4) => [2, 0, 0, 4, 0, v4.octets()[3]],
        IpAddr::V6(v6) => [2, 0, 0, 6, 0, v6.octets()[15]],
    }
}

pub(super) fn spec(forward: Forward, backends: &[(IpAddr, u16)]) -> BalanceSpec {
    let backend = |&(address, weight): &(IpAddr, u16)| Backend { address, port: None, weight, drain: false };
    BalanceSpec {
        vips: vec![VIP4.into(), VIP6.parse().unwrap()],
        services: vec!["tcp/443".parse().unwrap(), "udp/443".parse().unwrap()],
        forward,
        backends: backends.iter().map(backend).collect(),
        sources: vec!["10.8.0.0/24".parse().unwrap(), "2001:db8:8::/64".parse().unwrap()],
        gue_port: GUE_PORT,
        route_table: 254,
        entries: maglev::SIZE,
        connections: 4096,
        tcp_idle: Duration::from_secs(900),
        udp_idle: Duration::from_secs(300),
        seed: 5,
        health: None,
    }
}

fn four(v4: bool) -> Vec<(IpAddr, u16)> {
    (1..=4).map(|number| (address(number, v4), 1)).collect()
}

struct Lab {
    fib: FibWriter,
    memory: Memory,
    parse: Parse,
    balance: Balance,
    now: u64,
}

impl Lab {
    fn new(spec: &BalanceSpec) -> Self {
        let mut fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL).unwrap();
        for address in (1..=4).flat_map(|number| [address(number, true), address(number, false)]) {
            let id = fib.adjacency(OUT.0, address).unwrap();
            assert!(fib.resolve(id, mac(address)));
            fib.insert(address, if address.is_ipv4() { 32 } else { 128 }, Target::Hops(vec![(id, 1)]))
                .unwrap();
        }
        let memory = Memory::heap(size(spec), 2);
        let balance = Self::balance(spec, memory.clone(), &fib, 7);
        Self { fib, memory, parse: Parse::new(ports(), true), balance, now: SECOND }
    }

    fn balance(spec: &BalanceSpec, memory: Memory, fib: &FibWriter, secret: u64) -> Balance {
        Balance::new(spec, memory, fib.reader(), ports(), HashKey::from_seed(secret)).unwrap()
    }

    /// What a new configuration does, and a data plane that takes over.
    fn reload(&mut self, spec: &BalanceSpec) {
        self.balance = Self::balance(spec, self.memory.clone(), &self.fib, 7);
    }

    fn run(&mut self, packets: &[Vec<u8>]) -> Vec<Seen> {
        let (seen, made) = run_and_make(&mut [&mut self.parse, &mut self.balance], IN, packets, self.now);
        assert_eq!(made, []);
        seen
    }

    fn one(&mut self, packet: Vec<u8>) -> Seen {
        self.run(&[packet]).remove(0)
    }

    /// Where a packet goes: by the MAC address that it is sent to.
    fn to(&mut self, packet: Vec<u8>) -> [u8; 6] {
        let seen = self.one(packet);
        assert_eq!(seen.verdict, Verdict::Transmit(OUT));
        *seen.bytes.first_chunk().unwrap()
    }

    /// What control says, of which the next burst knows, even after a long sleep.
    fn say(&mut self, number: u8, down: bool, drained: bool) {
        let backend = Backend { address: address(number, true), port: None, weight: 1, drain: false };
        let states = states(&self.memory).unwrap();
        assert!(states.set(backend.identity(), State { down, drained }, |_| true));
    }

    /// Lets the stage do all that is to do between bursts.
    fn settle(&mut self) {
        (0..2000).for_each(|_| {
            self.balance.tend(self.now);
        });
        assert!(!self.balance.pool.tend());
    }
}

fn tcp4(client: u16, flags: TcpFlags) -> Vec<u8> {
    let ip = Ipv4Spec {
        ttl: 9,
        dont_fragment: true,
        tos: 0x2e,
        ..Ipv4Spec::new([10, 1, 0, 2].into(), VIP4.into(), 6)
    };
    on_v4(&ip, &TcpSpec::new(client, 443, flags).segment(ip.address_sum(), b"to be or not"))
}

fn tcp6(client: u16, flags: TcpFlags) -> Vec<u8> {
    let ip = Ipv6Spec::new("2001:db8:1::2".parse().unwrap(), VIP6.parse().unwrap(), 6);
    on_v6(&ip, &TcpSpec::new(client, 443, flags).segment(ip.address_sum(), b"to be or not"))
}

fn udp4(client: u16, payload: &[u8]) -> Vec<u8> {
    let ip = Ipv4Spec::new([10, 1, 0, 2].into(), VIP4.into(), 17);
    on_v4(&ip, &build::udp(ip.address_sum(), client, 443, payload))
}

/// The packet as it is when it was forwarded: a hop older.
fn aged(mut packet: Vec<u8>) -> Vec<u8> {
    match packet[14] >> 4 {
        4 => drop(Ipv4Mut::parse(&mut packet[14..]).unwrap().decrement_ttl()),
        _ => drop(Ipv6Mut::parse(&mut packet[14..]).unwrap().decrement_hop_limit()),
    }
    packet
}

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const FIN: TcpFlags = TcpFlags(TcpFlags::FIN.0 | TcpFlags::ACK.0);

#[test]
fn direct_return_changes_the_addresses_of_the_frame_and_the_age_alone() {
    for v4 in [true, false] {
        let mut lab = Lab::new(&spec(Forward::Direct, &four(v4)[..1]));
        for packet in [tcp4(1000, SYN), tcp6(1000, SYN)] {
            let seen = lab.one(packet.clone());
            assert_eq!(seen.verdict, Verdict::Transmit(OUT));
            let mut expected = aged(packet);
            expected[..6].copy_from_slice(&mac(address(1, v4)));
            expected[6..12].copy_from_slice(&MAC_OUT);
            assert_eq!(seen.bytes, expected);
        }
    }
}

#[test]
fn a_tunnel_carries_either_family_in_either_family() {
    for (forward, v4) in
        [(Forward::Ipip, true), (Forward::Ipip, false), (Forward::Gue, true), (Forward::Gue, false)]
    {
        let mut lab = Lab::new(&spec(forward, &four(v4)[..1]));
        for packet in [tcp4(1000, SYN), tcp6(1000, SYN)] {
            let seen = lab.one(build::padded(packet.clone()));
            assert_eq!(seen.verdict, Verdict::Next, "routing follows");
            let inner = &aged(packet.clone())[14..];
            assert!(seen.bytes.ends_with(inner), "padding stays behind");
            assert_eq!((seen.facts.l3, seen.facts.version), (14, if v4 { 4 } else { 6 }));
            assert_eq!(seen.key, FlowKey::of(&seen.bytes[14..]).unwrap());
            let lax = LaxPacketHeaders::from_ethernet(&seen.bytes).unwrap();
            assert_eq!(lax.stop_err, None);
            let (source, protocol) = match lax.net.unwrap() {
                NetHeaders::Ipv4(ip, _) => {
                    assert_eq!(
                        (IpAddr::from(ip.destination), ip.calc_header_checksum()),
                        (address(1, true), ip.header_checksum)
                    );
                    assert_eq!(usize::from(ip.total_len), seen.bytes.len() - 14);
                    assert!(ip.dont_fragment && ip.time_to_live == 64);
                    let inner_class = if packet[14] >> 4 == 4 { 0x2e } else { 0 };
                    assert_eq!(ip.dscp.value() << 2 | ip.ecn.value(), inner_class);
                    (IpAddr::from(ip.source), ip.protocol.0)
                }
                NetHeaders::Ipv6(ip, _) => {
                    assert_eq!(IpAddr::from(ip.destination), address(1, false));
                    assert_eq!((usize::from(ip.payload_length), ip.hop_limit), (seen.bytes.len() - 54, 64));
                    (IpAddr::from(ip.source), ip.next_header.0)
                }
                other => panic!("{other:?}"),
            };
            match source {
                IpAddr::V4(source) => assert_eq!(source.octets()[..3], [10, 8, 0]),
                IpAddr::V6(source) => assert_eq!(source.segments()[..4], [0x2001, 0xdb8, 8, 0]),
            }
            assert_eq!(
                usize::from(seen.facts.l4),
                seen.bytes.len() - inner.len() - if forward == Forward::Gue { 8 } else { 0 }
            );
            match forward {
                Forward::Ipip => assert_eq!(protocol, if packet[14] >> 4 == 4 { 4 } else { 41 }),
                _ => {
                    let udp = &seen.bytes[usize::from(seen.facts.l4)..];
                    let field = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
                    assert_eq!((protocol, field(2), usize::from(field(4))), (17, GUE_PORT, udp.len()));
                    assert!(field(0) >= 49_152 && udp[8] >> 6 == 1, "variant 1 is told by the version of IP");
                    if v4 {
                        assert_eq!(field(6), 0);
                    } else {
                        let ip = etherparse::Ipv6Header::from_slice(&seen.bytes[14..]).unwrap().0;
                        let (header, payload) = etherparse::UdpHeader::from_slice(udp).unwrap();
                        assert_eq!(header.calc_checksum_ipv6(&ip, payload).unwrap(), field(6));
                    }
                }
            }
            assert!(!matches!(lax.transport, Some(TransportHeader::Tcp(_))));
        }
    }
}

#[test]
fn outer_headers_differ_by_flow_and_not_within_one() {
    for forward in [Forward::Ipip, Forward::Gue] {
        let mut lab = Lab::new(&spec(forward, &four(true)[..1]));
        let outer = |seen: &Seen| seen.bytes[26..38].to_vec();
        let outers: BTreeSet<_> = (0..100).map(|client| outer(&lab.one(tcp4(2000 + client, SYN)))).collect();
        assert!(outers.len() > 60, "{}", outers.len());
        let again = lab.run(&[tcp4(2000, ACK), tcp4(2000, FIN)]);
        assert_eq!(outer(&again[0]), outer(&again[1]));
        assert!(outers.contains(&outer(&again[0])));
    }
}

#[test]
fn what_is_for_no_service_goes_on_untouched() {
    let mut lab = Lab::new(&spec(Forward::Direct, &four(true)));
    let ip = Ipv4Spec::new([10, 1, 0, 2].into(), VIP4.into(), 6);
    let other = |port| on_v4(&ip, &TcpSpec::new(1, port, SYN).segment(ip.address_sum(), &[]));
    let echo = Ipv4Spec { protocol: 1, ..ip.clone() };
    let elsewhere = Ipv4Spec { destination: [192, 0, 2, 81].into(), ..ip.clone() };
    let packets = [
        other(444),
        on_v4(&echo, &build::icmp(8, 0, [0, 1, 0, 1], b"ping")),
        on_v4(&elsewhere, &TcpSpec::new(1, 443, SYN).segment(elsewhere.address_sum(), &[])),
        on_v4(&Ipv4Spec { protocol: 132, ..ip.clone() }, &[0; 32]),
    ];
    for (seen, packet) in lab.run(&packets).into_iter().zip(packets) {
        assert_eq!((seen.verdict, seen.bytes), (Verdict::Next, packet));
    }
    assert_eq!(lab.balance.connections.live(), 0);
}

#[test]
fn flows_spread_by_weight() {
    let backends: Vec<_> = (1..=4).map(|number| (address(number, true), u16::from(number))).collect();
    let mut lab = Lab::new(&spec(Forward::Direct, &backends));
    let mut shares: BTreeMap<[u8; 6], i32> = BTreeMap::new();
    (0..4000).for_each(|client| *shares.entry(lab.to(tcp4(1000 + client, SYN))).or_default() += 1);
    for number in 1..=4 {
        let share = shares[&mac(address(number, true))];
        assert!((share - 400 * i32::from(number)).abs() < 160, "{number}: {share}");
    }
}

#[test]
fn a_changed_pool_breaks_no_connection() {
    let mut lab = Lab::new(&spec(Forward::Direct, &four(true)));
    let clients = 1000..1400;
    let before: Vec<_> = clients.clone().map(|client| lab.to(tcp4(client, SYN))).collect();
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 4);
    // One leaves the configuration, one is drained, one is weighed anew, and the data plane is another.
    let mut changed =
        spec(Forward::Direct, &[(address(2, true), 1), (address(3, true), 9), (address(4, true), 1)]);
    changed.backends[2].drain = true;
    for round in 0..3 {
        lab.reload(&changed);
        let after: Vec<_> = clients.clone().map(|client| lab.to(tcp4(client, ACK))).collect();
        assert_eq!(before, after, "round {round}");
        changed.backends.rotate_left(1);
    }
    // New flows go to those that are left.
    let new: BTreeSet<_> = (2000..2400).map(|client| lab.to(tcp4(client, SYN))).collect();
    assert_eq!(new, BTreeSet::from([mac(address(2, true)), mac(address(3, true))]));
}

#[test]
fn a_backend_that_is_down_keeps_what_runs_and_gets_nothing_new() {
    let mut lab = Lab::new(&spec(Forward::Direct, &four(true)));
    let clients = 1000..1200;
    let before: Vec<_> = clients.clone().map(|client| lab.to(tcp4(client, SYN))).collect();
    let datagrams: Vec<_> = clients.clone().map(|client| lab.to(udp4(client, b"q"))).collect();
    lab.run(&[tcp4(1000, ACK)]);
    lab.say(1, true, false);
    let down = mac(address(1, true));
    for settled in [false, true] {
        let from = if settled { 3000 } else { 2000 };
        assert!((from..from + 200).all(|client| lab.to(tcp4(client, SYN)) != down), "settled: {settled}");
        for (client, was) in clients.clone().zip(&before) {
            assert_eq!(lab.to(tcp4(client, ACK)), *was, "a connection may outlive a failed check");
        }
        for (client, was) in clients.clone().zip(&datagrams) {
            let now = lab.to(udp4(client, b"q"));
            assert!(now != down && (*was == down || now == *was), "datagrams go elsewhere, those alone");
        }
        lab.settle();
    }
    // Who opens a connection anew does so with another; and all is as it was when it is up again.
    let client = clients.clone().zip(&before).find(|(_, was)| **was == down).unwrap().0;
    lab.run(&[tcp4(client, FIN)]);
    assert_ne!(lab.to(tcp4(client, SYN)), down);
    lab.say(1, false, false);
    lab.settle();
    assert!((4000..4200).any(|client| lab.to(tcp4(client, SYN)) == down));
}

#[test]
fn without_a_backend_flows_are_refused() {
    let mut lab = Lab::new(&spec(Forward::Direct, &four(true)[..2]));
    let was = lab.to(tcp4(1, SYN));
    for number in 1..=2 {
        lab.say(number, number == 1, number == 2);
    }
    assert_eq!(lab.one(tcp4(2, SYN)).verdict, Verdict::Drop(DropReason::NoBackend));
    lab.settle();
    assert_eq!(lab.one(tcp4(3, SYN)).verdict, Verdict::Drop(DropReason::NoBackend));
    assert_eq!(lab.to(tcp4(1, ACK)), was);
}

#[test]
fn balancers_with_one_seed_choose_alike_whatever_their_secret() {
    let spec = spec(Forward::Direct, &four(true));
    let mut lab = Lab::new(&spec);
    let first: Vec<_> = (0..200).map(|client| lab.to(tcp4(client, SYN))).collect();
    let mut reversed = spec.clone();
    reversed.backends.reverse();
    let mut other = Lab::new(&reversed);
    other.balance = Lab::balance(&reversed, other.memory.clone(), &other.fib, 99);
    assert!(first.iter().zip(0..200).all(|(was, client)| other.to(tcp4(client, SYN)) == *was));
    let mut seeded = Lab::new(&BalanceSpec { seed: 6, ..spec });
    assert!(first.iter().zip(0..200).any(|(was, client)| seeded.to(tcp4(client, SYN)) != *was));
}

/// An ICMP error about a packet that a backend sent from the virtual address to `client`.
fn error4(client: u16) -> Vec<u8> {
    let answer = Ipv4Spec { dont_fragment: true, ..Ipv4Spec::new(VIP4.into(), [10, 1, 0, 2].into(), 6) };
    let quoted = answer.packet(&TcpSpec::new(443, client, ACK).segment(answer.address_sum(), &[7; 900]));
    let ip = Ipv4Spec::new([10, 77, 0, 1].into(), VIP4.into(), 1);
    on_v4(&ip, &build::icmp(3, 4, [0, 0, 2, 100], &quoted[..28]))
}

fn error6(client: u16) -> Vec<u8> {
    let answer = Ipv6Spec::new(VIP6.parse().unwrap(), "2001:db8:1::2".parse().unwrap(), 6);
    let quoted = answer.packet(&TcpSpec::new(443, client, ACK).segment(answer.address_sum(), &[7; 900]));
    let ip = Ipv6Spec::new("2001:db8:77::1".parse().unwrap(), VIP6.parse().unwrap(), 58);
    on_v6(&ip, &build::icmpv6(ip.address_sum(), 2, 0, [0, 0, 5, 0], &quoted[..900]))
}

#[test]
fn an_icmp_error_goes_to_the_backend_of_its_flow() {
    let mut lab = Lab::new(&spec(Forward::Direct, &four(true)));
    let before: Vec<_> =
        (1000..1100).map(|client| (lab.to(tcp4(client, SYN)), lab.to(tcp6(client, SYN)))).collect();
    lab.reload(&spec(Forward::Direct, &four(true)[1..]));
    for (client, (v4, v6)) in (1000..1100).zip(before) {
        let seen = lab.one(error4(client));
        assert_eq!((seen.verdict, &seen.bytes[..6]), (Verdict::Transmit(OUT), &v4[..]));
        assert_eq!(seen.bytes[14..], aged(error4(client))[14..], "as it came, a hop older");
        assert_eq!(lab.to(error6(client)), v6);
    }
    // About a flow that nobody remembers: as Maglev says, which is where its packets would go.
    for client in 5000..5050 {
        assert_eq!(lab.to(error4(client)), lab.to(tcp4(client, ACK)));
    }
    let ip = Ipv4Spec::new([10, 77, 0, 1].into(), VIP4.into(), 1);
    let stray = on_v4(&ip, &build::icmp(3, 4, [0, 0, 2, 100], &[0x45; 12]));
    assert_eq!(lab.one(stray).verdict, Verdict::Next);
}

#[test]
fn fragments_without_ports_stay_together() {
    let mut lab = Lab::new(&spec(Forward::Direct, &four(true)));
    let whole =
        build::udp(Ipv4Spec::new([10, 1, 0, 2].into(), VIP4.into(), 17).address_sum(), 9, 443, &[1; 64]);
    let part = |source: [u8; 4], offset: u16, bytes: &[u8]| {
        let ip = Ipv4Spec::new(source.into(), VIP4.into(), 17);
        on_v4(&Ipv4Spec { more_fragments: offset == 0, fragment_offset: offset, ..ip }, bytes)
    };
    let mut seen = BTreeSet::new();
    for last in 0..50 {
        let first = lab.to(part([10, 1, 0, last], 0, &whole[..32]));
        assert_eq!(lab.to(part([10, 1, 0, last], 32, &whole[32..])), first);
        seen.insert(first);
    }
    assert_eq!((seen.len(), lab.balance.connections.live()), (4, 0));
}

#[test]
fn a_packet_too_big_for_the_way_is_answered_with_what_fits() {
    let overhead = [(Forward::Direct, true, 0), (Forward::Ipip, true, 20), (Forward::Gue, false, 48)];
    for (forward, v4, overhead) in overhead {
        let mut lab = Lab::new(&spec(forward, &four(v4)));
        let fits = MTU_OUT as usize - overhead;
        let packet = |len: usize, dont_fragment| {
            let ip = Ipv4Spec { dont_fragment, ..Ipv4Spec::new([10, 1, 0, 2].into(), VIP4.into(), 17) };
            on_v4(&ip, &build::udp(ip.address_sum(), 9, 443, &vec![1; len - 28]))
        };
        assert_ne!(lab.one(packet(fits, true)).verdict, Verdict::Transmit(IN));
        let seen = lab.one(packet(fits + 1, true));
        assert_eq!(seen.verdict, Verdict::Transmit(IN), "{forward:?}");
        let ip = Ipv4::parse(&seen.bytes[14..]).unwrap();
        assert_eq!(ip.destination().octets(), [10, 1, 0, 2]);
        assert_eq!(Icmp::parse(ip.payload()).unwrap().next_hop_mtu(), Some(fits as u16));
        // What may be taken apart is, outside, where the outer header is of IPv4.
        let verdict = lab.one(packet(fits + 1, false)).verdict;
        assert_eq!(verdict == Verdict::Next, forward == Forward::Ipip, "{forward:?}");
        let ip = Ipv6Spec::new("2001:db8:1::2".parse().unwrap(), VIP6.parse().unwrap(), 17);
        let seen = lab.one(on_v6(&ip, &build::udp(ip.address_sum(), 9, 443, &vec![1; fits + 1 - 48])));
        assert_eq!(seen.verdict, Verdict::Transmit(IN));
        let ip = Ipv6::parse(&seen.bytes[14..]).unwrap();
        assert_eq!(Icmpv6::parse(ip.payload()).unwrap().mtu(), Some(fits as u32));
    }
}

#[test]
fn a_packet_whose_time_is_over_is_answered() {
    let mut lab = Lab::new(&spec(Forward::Gue, &four(true)));
    let ip = Ipv4Spec { ttl: 1, ..Ipv4Spec::new([10, 1, 0, 2].into(), VIP4.into(), 17) };
    let seen = lab.one(on_v4(&ip, &build::udp(ip.address_sum(), 9, 443, b"q")));
    assert_eq!((seen.verdict, seen.bytes[34]), (Verdict::Transmit(IN), 11));
}

#[test]
fn a_backend_that_moves_is_followed() {
    let mut lab = Lab::new(&spec(Forward::Direct, &four(true)[..1]));
    assert_eq!(lab.to(tcp4(1, SYN)), mac(address(1, true)));
    let id = lab.fib.find_adjacency(OUT.0, address(1, true)).unwrap();
    lab.fib.resolve(id, [2, 9, 9, 9, 9, 9]);
    lab.now += 2 * pool::FRESH;
    assert_eq!(lab.to(tcp4(1, ACK)), [2, 9, 9, 9, 9, 9]);
    lab.fib.unresolve(id);
    lab.now += 2 * pool::FRESH;
    assert_eq!(lab.one(tcp4(1, ACK)).verdict, Verdict::Drop(DropReason::Unreachable));
}

#[test]
fn flows_are_counted_and_forgotten() {
    let mut lab = Lab::new(&spec(Forward::Direct, &four(true)));
    let mut expected: BTreeMap<IpAddr, u64> = BTreeMap::new();
    for client in 0..300 {
        let to = lab.to(tcp4(1000 + client, SYN));
        *expected.entry([10, 9, 0, to[5]].into()).or_default() += 1;
    }
    lab.settle();
    let flows = |lab: &Lab| -> BTreeMap<IpAddr, u64> {
        let roll = roll(&lab.memory, 0).unwrap();
        roll.iter().map(|(place, who)| (who.address, roll.flows(place.into()))).collect()
    };
    assert_eq!(flows(&lab), expected);
    lab.now += 61 * SECOND;
    lab.settle();
    assert_eq!((flows(&lab).values().sum::<u64>(), lab.balance.connections.live()), (0, 0));
}

#[test]
fn too_little_memory_is_refused() {
    let spec = spec(Forward::Direct, &four(true));
    let lab = Lab::new(&spec);
    let mut short = size(&spec);
    short.each -= 8;
    let short = Memory::heap(short, 1);
    assert!(Balance::new(&spec, short, lab.fib.reader(), ports(), HashKey::from_seed(1)).is_none());
}

#[test]
fn each_worker_has_connections_of_its_own() {
    let mut lab = Lab::new(&spec(Forward::Direct, &four(true)));
    lab.to(tcp4(1, SYN));
    assert_eq!(lab.balance.connections.live(), 1);
    lab.balance.assign(1);
    assert_eq!(lab.balance.connections.live(), 0);
    lab.to(tcp4(2, SYN));
    lab.to(tcp4(3, SYN));
    lab.balance.assign(0);
    assert_eq!(lab.balance.connections.live(), 1);
}
