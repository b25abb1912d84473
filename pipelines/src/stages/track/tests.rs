use super::*;
use crate::snapshot::PortFacts;
use crate::stages::answer;
use crate::stages::fixture::{IN, Seen, on_v4, on_v6, ports, run};
use crate::stages::parse::Parse;
use crate::tables::fib::{FibLayout, FibWriter, Target};
use crate::tables::flow::{FlowSpace, Limits, bit};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use zsync_packet::flow::HashKey;
use zsync_packet::header::TcpFlags;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};
use zsync_packet::header::protocol;
use zsync_packet::region::Region;

mod endings;
mod floods;

const SECOND: u64 = 1_000_000_000;
const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const SYNACK: TcpFlags = TcpFlags(0x12);
const RST: TcpFlags = TcpFlags::RST;

/// Parser and tracker, and a clock.
struct Edge {
    parse: Parse,
    track: Track,
    now: u64,
}

impl Edge {
    fn new() -> Self {
        Self::with(1000, Rules::default())
    }

    fn with(flows: u32, rules: Rules) -> Self {
        let space = FlowSpace { flows, translations: flows / 4 };
        let flows = Flows::open(Region::heap(space.bytes()), space, HashKey::from_seed(3)).unwrap();
        Self { parse: Parse::new(ports(), true), track: Track::alone(flows, rules), now: SECOND }
    }

    fn burst<P: AsRef<[u8]>>(&mut self, packets: &[P]) -> Vec<Seen> {
        run(&mut [&mut self.parse, &mut self.track], IN, packets, self.now)
    }

    fn one(&mut self, packet: &[u8]) -> Seen {
        self.burst(&[packet]).remove(0)
    }

    /// What is told of one packet: its state, whether it is an answer, and the flow.
    fn told(&mut self, packet: &[u8]) -> (FlowState, bool, u32) {
        let seen = self.one(packet);
        (seen.facts.state, seen.facts.reply, seen.facts.flow)
    }

    fn state(&mut self, packet: &[u8]) -> FlowState {
        self.told(packet).0
    }

    fn table(&self) -> &Flows {
        self.track.flows().unwrap()
    }

    fn flows(&self) -> u32 {
        self.table().counts().flows
    }

    /// Slices of the sweep, as many as go round the table.
    fn sweep(&mut self) {
        for _ in 0..self.table().space().flows.div_ceil(SWEEP) {
            self.track.tend(self.now);
        }
    }
}

/// One of two hosts, in both families.
#[derive(Clone, Copy)]
struct Ends {
    v6: bool,
    ports: (u16, u16),
}

const V4: Ends = Ends { v6: false, ports: (40_000, 80) };
const V6: Ends = Ends { v6: true, ports: (40_000, 80) };

impl Ends {
    fn packet(
        self,
        reply: bool,
        protocol: u8,
        payload: impl Fn(zsync_packet::checksum::Sum) -> Vec<u8>,
    ) -> Vec<u8> {
        if self.v6 {
            let (a, b): (Ipv6Addr, Ipv6Addr) =
                ("2001:db8:1::2".parse().unwrap(), "2001:db8:2::9".parse().unwrap());
            let ip = if reply { Ipv6Spec::new(b, a, protocol) } else { Ipv6Spec::new(a, b, protocol) };
            on_v6(&ip, &payload(ip.address_sum()))
        } else {
            let (a, b) = (Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 2, 0, 9));
            let ip = if reply { Ipv4Spec::new(b, a, protocol) } else { Ipv4Spec::new(a, b, protocol) };
            on_v4(&ip, &payload(ip.address_sum()))
        }
    }

    fn tcp(self, reply: bool, flags: TcpFlags, sequence: u32, acknowledgement: u32) -> Vec<u8> {
        let (from, to) = if reply { (self.ports.1, self.ports.0) } else { self.ports };
        let spec = TcpSpec { sequence, acknowledgement, ..TcpSpec::new(from, to, flags) };
        self.packet(reply, protocol::TCP, |sum| spec.segment(sum, &[]))
    }

    fn udp(self, reply: bool) -> Vec<u8> {
        let (from, to) = if reply { (self.ports.1, self.ports.0) } else { self.ports };
        self.packet(reply, protocol::UDP, |sum| build::udp(sum, from, to, b"data"))
    }

    fn echo(self, reply: bool, answer: bool, id: u16) -> Vec<u8> {
        let word = [(id >> 8) as u8, id as u8, 0, 1];
        if self.v6 {
            let kind = if answer { 129 } else { 128 };
            self.packet(reply, protocol::ICMPV6, |sum| build::icmpv6(sum, kind, 0, word, b"ping"))
        } else {
            let kind = if answer { 0 } else { 8 };
            self.packet(reply, protocol::ICMP, |_| build::icmp(kind, 0, word, b"ping"))
        }
    }

    /// A router's "unreachable" about a packet, to whoever is said.
    fn unreachable(self, about: &[u8], to_initiator: bool) -> Vec<u8> {
        let quoted = &about[14..about.len().min(14 + if self.v6 { 48 } else { 28 })];
        if self.v6 {
            let to = if to_initiator { "2001:db8:1::2" } else { "2001:db8:2::9" };
            let ip = Ipv6Spec::new("2001:db8:7::1".parse().unwrap(), to.parse().unwrap(), protocol::ICMPV6);
            on_v6(&ip, &build::icmpv6(ip.address_sum(), 1, 4, [0; 4], quoted))
        } else {
            let to = if to_initiator { [10, 1, 0, 2] } else { [10, 2, 0, 9] };
            let ip = Ipv4Spec::new([10, 7, 0, 1].into(), to.into(), protocol::ICMP);
            on_v4(&ip, &build::icmp(3, 1, [0; 4], quoted))
        }
    }
}

/// A handshake whose next numbers are 101 and 501.
fn handshake(ends: Ends) -> [Vec<u8>; 3] {
    [ends.tcp(false, SYN, 100, 0), ends.tcp(true, SYNACK, 500, 101), ends.tcp(false, ACK, 101, 501)]
}

#[test]
fn packets_of_one_burst_see_each_others_effects() {
    for ends in [V4, V6] {
        let mut edge = Edge::new();
        let [syn, synack, ack] = handshake(ends);
        let seen = edge.burst(&[&syn, &syn, &synack, &ack, &synack]);
        let told: Vec<_> = seen.iter().map(|seen| (seen.facts.state, seen.facts.reply)).collect();
        use FlowState::{Established, New};
        let expected =
            [(New, false), (New, false), (Established, true), (Established, false), (Established, true)];
        assert_eq!(told, expected);
        assert!(seen.iter().all(|one| one.facts.flow == seen[0].facts.flow && one.verdict == Verdict::Next));
        assert!(seen.iter().all(|one| one.facts.hash == seen[0].facts.hash));
        assert_eq!(edge.flows(), 1);
        let hot = edge.table().hot(FlowId(seen[0].facts.flow - 1)).unwrap();
        assert_eq!(hot.bits() & (bit::REPLIED | bit::ASSURED | bit::COUNTED), bit::REPLIED | bit::ASSURED);
    }
}

#[test]
fn what_belongs_to_no_connection_is_dropped_unless_a_filter_is_to_see_it() {
    let stray = V4.tcp(false, SYNACK, 1, 1);
    let mut cut = V4.tcp(false, ACK, 1, 1);
    cut[14 + 20 + 12] = 0x40;
    let flags = V4.tcp(false, TcpFlags(0x29), 1, 1);
    let mut short = V4.udp(false);
    short[14 + 20 + 5] = 200;
    for (packet, reason) in [
        (stray, DropReason::Invalid),
        (cut, DropReason::TransportTruncated),
        (flags, DropReason::TcpInvalid),
        (short, DropReason::TransportTruncated),
        (V4.unreachable(&V4.udp(false), true), DropReason::IcmpUnrelated),
    ] {
        let seen = Edge::new().one(&packet);
        assert_eq!((seen.verdict, seen.facts.state), (Verdict::Drop(reason), FlowState::Invalid));
        let mut edge = Edge::with(100, Rules { drop_invalid: false, ..Rules::default() });
        let seen = edge.one(&packet);
        assert_eq!((seen.verdict, seen.facts.state, seen.facts.flow), (Verdict::Next, FlowState::Invalid, 0));
        assert_eq!(edge.flows(), 0);
    }
}

#[test]
fn udp_is_new_until_answered_and_a_stream_after_two_seconds() {
    for ends in [V4, V6] {
        let mut edge = Edge::new();
        let (out, back) = (ends.udp(false), ends.udp(true));
        let left = |edge: &Edge| (edge.table().hot(FlowId(0)).unwrap().life() - edge.now) / SECOND;
        assert_eq!(edge.told(&out), (FlowState::New, false, 1));
        edge.now += SECOND;
        assert_eq!(edge.told(&out), (FlowState::New, false, 1));
        assert_eq!(left(&edge), 30);
        assert_eq!(edge.told(&back), (FlowState::Established, true, 1));
        assert_eq!(edge.told(&out), (FlowState::Established, false, 1));
        edge.now += SECOND;
        edge.one(&out);
        assert_eq!(left(&edge), 30);
        edge.now += 1;
        edge.one(&out);
        assert_eq!(left(&edge), 120);
        // Another port is another flow.
        let other = Ends { ports: (40_001, 80), ..ends };
        assert_eq!(edge.told(&other.udp(true)), (FlowState::New, false, 2));
    }
}

#[test]
fn echoes_are_flows_and_answers_to_nothing_are_invalid() {
    for ends in [V4, V6] {
        let mut edge = Edge::new();
        assert_eq!(edge.told(&ends.echo(true, true, 7)), (FlowState::Invalid, false, 0));
        assert_eq!(edge.told(&ends.echo(false, false, 7)), (FlowState::New, false, 1));
        assert_eq!(edge.told(&ends.echo(true, true, 8)), (FlowState::Invalid, false, 0));
        assert_eq!(edge.told(&ends.echo(true, true, 7)), (FlowState::Established, true, 1));
        assert_eq!(edge.told(&ends.echo(false, false, 7)), (FlowState::Established, false, 1));
        assert_eq!(edge.told(&ends.echo(false, true, 7)), (FlowState::Invalid, false, 0));
        assert_eq!(edge.told(&ends.echo(true, false, 7)), (FlowState::New, true, 1), "it asks as well");
        edge.now += 31 * SECOND;
        assert_eq!(edge.told(&ends.echo(true, true, 7)), (FlowState::Invalid, false, 0), "too late");
    }
    let mut edge = Edge::new();
    let stamp =
        |reply, kind| V4.packet(reply, protocol::ICMP, |_| build::icmp(kind, 0, [0, 1, 0, 1], &[0; 12]));
    assert_eq!(edge.state(&stamp(true, 14)), FlowState::Invalid);
    assert_eq!(edge.state(&stamp(false, 13)), FlowState::New);
    assert_eq!(edge.state(&stamp(true, 14)), FlowState::Established);
    assert_eq!(edge.state(&stamp(false, 40)), FlowState::Invalid, "no such query");
}

#[test]
fn neighbour_discovery_is_not_tracked() {
    for kind in [130, 131, 132, 133, 134, 135, 136, 137, 143] {
        let mut edge = Edge::new();
        let packet = V6.packet(false, protocol::ICMPV6, |sum| build::icmpv6(sum, kind, 0, [0; 4], &[0; 16]));
        let seen = edge.one(&packet);
        assert_eq!((seen.verdict, seen.facts.state), (Verdict::Next, FlowState::Untracked));
        assert_eq!(edge.flows(), 0);
    }
}

#[test]
fn errors_are_related_to_the_flow_that_they_are_about() {
    for ends in [V4, V6] {
        let mut edge = Edge::new();
        let [syn, synack, ack] = handshake(ends);
        edge.burst(&[&syn, &synack, &ack]);
        for (about, reply) in [(&syn, false), (&ack, false), (&synack, true)] {
            // The error goes to who sent the packet, as its answers do.
            assert_eq!(edge.told(&ends.unreachable(about, !reply)), (FlowState::Related, !reply, 1));
            assert_eq!(edge.state(&ends.unreachable(about, reply)), FlowState::Invalid, "to the wrong end");
        }
        let far = ends.tcp(false, ACK, 1_000_000, 501);
        assert_eq!(edge.state(&ends.unreachable(&far, true)), FlowState::Invalid, "it was never sent");
        let other = Ends { ports: (1, 2), ..ends };
        assert_eq!(edge.state(&ends.unreachable(&other.tcp(false, ACK, 101, 501), true)), FlowState::Invalid);
        edge.one(&ends.udp(false));
        assert_eq!(edge.state(&ends.unreachable(&ends.udp(false), true)), FlowState::Related);
        edge.one(&ends.echo(false, false, 7));
        assert_eq!(edge.state(&ends.unreachable(&ends.echo(false, false, 7), true)), FlowState::Related);
        assert_eq!(edge.state(&ends.unreachable(&ends.echo(true, true, 7), false)), FlowState::Related);
        // Of the same number, but the flow's queries come from the other end.
        for (reply, answer) in [(true, false), (false, true)] {
            let other_way = ends.unreachable(&ends.echo(reply, answer, 7), !reply);
            assert_eq!(edge.state(&other_way), FlowState::Invalid);
        }
        // Nothing is changed by any of them.
        assert_eq!(edge.flows(), 3);
        assert_eq!(edge.told(&ack), (FlowState::Established, false, 1));
    }
}

#[test]
fn an_error_about_a_translated_flow_is_known_on_either_side_of_the_translation() {
    let mut edge = Edge::new();
    edge.one(&V4.udp(false));
    let outside = zsync_packet::flow::FlowKey::v4(
        ([10, 2, 0, 9].into(), 80),
        ([192, 0, 2, 1].into(), 7777),
        protocol::UDP,
    );
    edge.table().translate(FlowId(0), &outside).unwrap();
    let answer = {
        let ip = Ipv4Spec::new([10, 2, 0, 9].into(), [192, 0, 2, 1].into(), protocol::UDP);
        on_v4(&ip, &build::udp(ip.address_sum(), 80, 7777, b"data"))
    };
    assert_eq!(edge.told(&answer), (FlowState::Established, true, 1));
    // The packet as it left here, quoted to the outside address.
    let left = Ipv4Spec::new([192, 0, 2, 1].into(), [10, 2, 0, 9].into(), protocol::UDP);
    let quoted = left.packet(&build::udp(left.address_sum(), 7777, 80, b"data"));
    let ip = Ipv4Spec::new([10, 7, 0, 1].into(), [192, 0, 2, 1].into(), protocol::ICMP);
    let error = on_v4(&ip, &build::icmp(11, 0, [0; 4], &quoted));
    assert_eq!(edge.told(&error), (FlowState::Related, true, 1));
    // The answer as it went on inside, quoted by a router there to the responder.
    let error = V4.unreachable(&V4.udp(true), false);
    assert_eq!(edge.told(&error), (FlowState::Related, false, 1));
}

#[test]
fn a_refused_connection_is_gone_with_the_next_burst() {
    let mut edge = Edge::new();
    let syn = V4.tcp(false, SYN, 100, 0);
    assert_eq!(edge.told(&syn), (FlowState::New, false, 1));
    assert_eq!(edge.told(&V4.tcp(true, TcpFlags(0x14), 0, 101)), (FlowState::Established, true, 1));
    edge.now += SECOND;
    assert_eq!(edge.state(&V4.tcp(true, ACK, 0, 101)), FlowState::New, "picked up, the other way round");
    let mut edge = Edge::new();
    edge.one(&syn);
    edge.one(&V4.tcp(true, RST, 0, 101));
    edge.now += SECOND;
    edge.sweep();
    assert_eq!(edge.flows(), 0);
}

#[test]
fn a_closed_connection_between_the_same_ports_begins_anew() {
    let mut edge = Edge::new();
    edge.burst(&handshake(V4));
    const FINACK: TcpFlags = TcpFlags(0x11);
    for packet in
        [V4.tcp(false, FINACK, 101, 501), V4.tcp(true, FINACK, 501, 102), V4.tcp(false, ACK, 102, 502)]
    {
        assert_eq!(edge.state(&packet), FlowState::Established);
    }
    assert_eq!(edge.table().counts().weak, 1, "it is closing");
    assert_eq!(edge.state(&V4.tcp(false, SYN, 90_000, 0)), FlowState::New);
    assert_eq!(edge.state(&V4.tcp(true, SYNACK, 70_000, 90_001)), FlowState::Established);
    assert_eq!(edge.flows(), 1);
}

#[test]
fn flows_expire_when_they_are_looked_up_and_by_the_sweep() {
    let mut edge = Edge::new();
    edge.one(&V4.udp(false));
    edge.one(&V6.udp(false));
    edge.now += 30 * SECOND - 1;
    edge.sweep();
    assert_eq!(edge.flows(), 2);
    edge.now += 1;
    assert_eq!(edge.told(&V4.udp(true)), (FlowState::New, false, 1), "the other way round");
    edge.sweep();
    assert_eq!((edge.flows(), edge.table().counts().expired), (1, 1));
}

#[test]
fn a_source_has_its_limit() {
    let limits = Limits { half_open: 100, per_source: 2 };
    let mut edge = Edge::with(100, Rules { limits, ..Rules::default() });
    for port in 1..=4 {
        let seen = edge.one(&Ends { ports: (port, 53), ..V4 }.udp(false));
        let verdict = if port <= 2 { Verdict::Next } else { Verdict::Drop(DropReason::SourceLimit) };
        assert_eq!(seen.verdict, verdict);
    }
    assert_eq!(edge.one(&Ends { ports: (1, 53), ..V4 }.udp(false)).verdict, Verdict::Next, "it has this one");
    assert_eq!(edge.one(&V6.udp(false)).verdict, Verdict::Next);
}

#[test]
fn fragments_go_with_their_flow_and_begin_none_without_their_first() {
    let mut edge = Edge::new();
    let whole = Ipv4Spec::new([10, 1, 0, 2].into(), [10, 2, 0, 9].into(), protocol::UDP);
    let first = Ipv4Spec { more_fragments: true, ..whole.clone() };
    let later = Ipv4Spec { fragment_offset: 1000, ..whole };
    assert_eq!(edge.state(&on_v4(&later, &[0; 80])), FlowState::Invalid);
    assert_eq!(edge.told(&on_v4(&first, &[0; 1000])), (FlowState::New, false, 1));
    assert_eq!(edge.told(&on_v4(&later, &[0; 80])), (FlowState::New, false, 1));
    let tcp = Ipv4Spec { protocol: protocol::TCP, ..first };
    assert_eq!(edge.state(&on_v4(&tcp, &[0; 80])), FlowState::Invalid, "no connection begins in parts");
}

#[test]
fn a_mark_of_the_flow_is_its_packets_too() {
    let mut edge = Edge::new();
    edge.one(&V4.udp(false));
    edge.table().set_mark(FlowId(0), 99);
    assert_eq!(edge.one(&V4.udp(true)).facts.mark, 99);
    edge.burst(&handshake(V6));
    edge.table().set_mark(FlowId(1), 98);
    assert_eq!(edge.one(&V6.tcp(false, ACK, 101, 501)).facts.mark, 98);
    assert_eq!(edge.one(&V6.tcp(true, ACK, 501, 101)).facts.mark, 98);
}
