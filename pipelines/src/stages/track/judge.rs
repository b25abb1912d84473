//! One packet after the other: what it is to which flow.
//!
//! Owns nothing. Keeps true: whatever the bytes are, one packet changes one flow at most, besides those that make room for it.

use super::icmp::{self, Message};
use super::own::Own;
use super::quick::quick;
use super::rules::Rules;
use super::segment::{BadSegment, Kind, Segment};
use super::states::State;
use super::tcp::{Connection, Outcome, Packed, Seen};
use super::window::{Side, after, before};
use crate::tables::flow::{self, FlowId, Flows, Hot, bit};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use zsync_packet::burst::{Facts, FlowState, Fragment};
use zsync_packet::flow::FlowKey;
use zsync_packet::header::{Ipv4, Ipv6, protocol};
use zsync_packet::verdict::DropReason;

const SECOND: u64 = 1_000_000_000;
/// UDP that still goes both ways after this long is a stream (`udp_stream_ts` of nf_conntrack_proto_udp.c).
const STREAM_AFTER: u64 = 2 * SECOND;
/// The bits of a flow that are its protocol's.
const OWN: u64 = (1 << Packed::BITS) - 1;

/// What tracking looks at.
pub(super) struct Packet<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) facts: Facts,
    pub(super) key: &'a FlowKey,
    pub(super) hash: u64,
    /// The flow that it most likely belongs to.
    pub(super) guess: Option<FlowId>,
}

/// What is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It belongs to a flow.
    Of { id: FlowId, reply: bool, state: FlowState, mark: u32 },
    /// It begins one.
    Begun { id: FlowId },
    /// It is of a kind that belongs to none.
    Untracked,
    /// It should belong to one, and does not.
    Invalid(DropReason),
    /// It would begin one, and may not.
    Refused(DropReason),
}

/// What judges.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) flows: &'a Flows,
    pub(super) rules: &'a Rules,
    pub(super) own: &'a Own,
    pub(super) now: u64,
}

impl Packet<'_> {
    /// The bytes from the transport header to the end of the IP packet, as its header says it.
    #[inline]
    fn transport(&self) -> &[u8] {
        let (l3, l4) = (usize::from(self.facts.l3), usize::from(self.facts.l4));
        let length = |at: usize| match self.bytes.get(l3 + at..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => usize::from(u16::from_be_bytes(*bytes)),
            None => 0,
        };
        let end = l3 + if self.facts.version == 4 { length(2) } else { 40 + length(4) };
        self.bytes.get(l4..end.min(self.bytes.len())).unwrap_or(&[])
    }
}

impl Judge<'_> {
    #[inline]
    pub(super) fn packet(&self, packet: &Packet<'_>) -> Told {
        let facts = &packet.facts;
        if facts.fragment != Fragment::Whole {
            return self.fragment(packet);
        }
        match facts.protocol {
            protocol::TCP => self.tcp(packet),
            protocol::UDP => self.udp(packet),
            protocol::ICMP if facts.version == 4 => self.icmp(packet, icmp::v4),
            protocol::ICMPV6 if facts.version == 6 => self.icmp(packet, icmp::v6),
            _ => self.simple(packet, true),
        }
    }

    /// The flow that the packet belongs to. One whose time is over is removed.
    #[inline]
    fn locate(&self, packet: &Packet<'_>) -> Option<(FlowId, Hot<'_>, bool)> {
        let guessed = packet.guess.and_then(|id| Some((id, self.flows.is_it(id, packet.key)?)));
        let (id, reply) = guessed.or_else(|| self.flows.find(packet.key, packet.hash))?;
        let hot = self.flows.hot(id)?;
        if hot.life() <= self.now {
            self.flows.remove(id);
            return None;
        }
        Some((id, hot, reply))
    }

    #[inline]
    fn tcp(&self, packet: &Packet<'_>) -> Told {
        let segment = match Segment::parse(packet.transport()) {
            Ok(segment) => segment,
            Err(BadSegment::Truncated) => return Told::Invalid(DropReason::TransportTruncated),
            Err(BadSegment::Flags) => return Told::Invalid(DropReason::TcpInvalid),
        };
        match self.locate(packet) {
            Some((id, hot, reply)) => self.tcp_of(packet, &segment, id, hot, reply),
            None => self.tcp_begin(packet, &segment),
        }
    }

    #[inline]
    fn tcp_of(
        &self,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        id: FlowId,
        hot: Hot<'_>,
        reply: bool,
    ) -> Told {
        let Some(cold) = self.flows.cold(id) else { return Told::Invalid(DropReason::Invalid) };
        let bits = hot.bits();
        let packed = Packed {
            bits: bits & OWN,
            last_end: hot.last(),
            sides: [&cold[0], &cold[1], &cold[2], &cold[3]].map(|word| word.load(Relaxed)),
        };
        const OPEN: u64 = bit::REPLIED | bit::ASSURED;
        let mut quickly = packed;
        if bits & OPEN == OPEN
            && let Some(life) = quick(&mut quickly, reply, segment, &self.rules.tcp)
        {
            refresh(hot, self.now, life);
            store(hot, cold, &packed, &quickly);
            hot.set_bits(bits & !OWN | quickly.bits);
            return self.of(id, bits, reply, FlowState::Established);
        }
        let mut connection = Connection::unpack(&packed);
        let mut seen = Seen { reply: bits & bit::REPLIED != 0, assured: bits & bit::ASSURED != 0 };
        let state = if reply || seen.reply { FlowState::Established } else { FlowState::New };
        let left = hot.life().saturating_sub(self.now);
        let outcome = connection.segment(reply, segment, &self.rules.tcp, &mut seen, left);
        match outcome {
            Outcome::Accept(life) => refresh(hot, self.now, life),
            Outcome::Keep => {}
            // Later stages still need it for this packet, so that the next burst finds it over.
            Outcome::End => hot.set_life(self.now + 1),
            Outcome::Reopen => {
                self.flows.remove(id);
                return self.tcp_begin(packet, segment);
            }
            Outcome::InvalidCut(life) => hot.set_life(self.now.saturating_add(life)),
            Outcome::Invalid => {}
        }
        let invalid = matches!(outcome, Outcome::Invalid | Outcome::InvalidCut(_));
        seen.reply |= reply && !invalid;
        let new = connection.pack();
        store(hot, cold, &packed, &new);
        let new_bits = bits & bit::MARKED | new.bits | common(seen, connection.state);
        if new_bits != bits {
            self.flows.settle(id, new_bits);
        }
        if invalid {
            return Told::Invalid(DropReason::Invalid);
        }
        self.of(id, bits, reply, state)
    }

    /// Takes a connection for closed, whose end a reset was made up for here (`nf_conntrack_tcp_set_closing`).
    #[cold]
    pub(super) fn close(&self, id: FlowId) {
        let Some(hot) = self.flows.hot(id).filter(|hot| hot.life() > self.now) else { return };
        let bits = hot.bits();
        let mut connection = Connection::unpack(&Packed { bits: bits & OWN, ..Packed::default() });
        connection.state = State::Close;
        let seen = Seen { reply: bits & bit::REPLIED != 0, assured: bits & bit::ASSURED != 0 };
        self.flows.settle(id, bits & bit::MARKED | connection.pack().bits | common(seen, State::Close));
        hot.set_life(self.now.saturating_add(self.rules.tcp.timeouts.close));
    }

    /// The first segment of a connection.
    #[cold]
    fn tcp_begin(&self, packet: &Packet<'_>, segment: &Segment<'_>) -> Told {
        let rules = &self.rules.tcp;
        let mut seen = Seen::default();
        if segment.kind() != Kind::Syn && self.own.has(packet.key.destination()) {
            return Told::Untracked;
        }
        let Some(mut connection) = Connection::open(segment, rules) else {
            return Told::Invalid(DropReason::Invalid);
        };
        let Outcome::Accept(life) = connection.segment(false, segment, rules, &mut seen, 0) else {
            return Told::Invalid(DropReason::Invalid);
        };
        let packed = connection.pack();
        let state = flow::State {
            bits: packed.bits | common(seen, connection.state),
            last: packed.last_end,
            cold: packed.sides,
        };
        self.begin(packet, &state, life)
    }

    /// What belongs to no flow and begins none: the host's own matter, if it is for the host.
    #[cold]
    fn stray(&self, packet: &Packet<'_>, reason: DropReason) -> Told {
        if self.own.has(packet.key.destination()) { Told::Untracked } else { Told::Invalid(reason) }
    }

    /// Adds a flow.
    fn begin(&self, packet: &Packet<'_>, state: &flow::State, life: u64) -> Told {
        let until = self.now.saturating_add(life);
        let timeout = |hot: Hot<'_>| self.rules.timeout(hot);
        let times = (self.now, until);
        match self.flows.create(packet.key, packet.hash, state, times, &self.rules.limits, timeout) {
            Ok(id) => Told::Begun { id },
            Err(error) => Told::Refused(super::refusal(error)),
        }
    }

    #[inline]
    fn of(&self, id: FlowId, bits: u64, reply: bool, state: FlowState) -> Told {
        let mark = if bits & bit::MARKED != 0 { self.flows.mark(id) } else { 0 };
        Told::Of { id, reply, state, mark }
    }

    #[inline]
    fn udp(&self, packet: &Packet<'_>) -> Told {
        let bytes = packet.transport();
        match bytes.first_chunk::<8>() {
            Some([_, _, _, _, high, low, ..])
                if (8..=bytes.len()).contains(&usize::from(u16::from_be_bytes([*high, *low]))) =>
            {
                self.simple(packet, true)
            }
            _ => Told::Invalid(DropReason::TransportTruncated),
        }
    }

    /// A packet of a protocol of which only the directions matter. `opens`: it may begin a flow.
    #[inline]
    fn simple(&self, packet: &Packet<'_>, opens: bool) -> Told {
        let timeouts = &self.rules.timeouts;
        let protocol = packet.facts.protocol;
        let is_udp = matches!(protocol, protocol::UDP | protocol::UDP_LITE);
        let Some((id, hot, reply)) = self.locate(packet) else {
            let life = match protocol {
                _ if is_udp => timeouts.udp,
                protocol::ICMP | protocol::ICMPV6 => timeouts.icmp,
                _ => timeouts.generic,
            };
            // UDP must know when it began.
            let state = flow::State { bits: bit::WEAK, last: 0, cold: [self.now, 0, 0, 0] };
            return if opens {
                self.begin(packet, &state, life)
            } else {
                self.stray(packet, DropReason::Invalid)
            };
        };
        let bits = hot.bits();
        let replied = bits & bit::REPLIED != 0;
        let mut new = bits;
        let life = if !is_udp {
            self.rules.timeout(hot)
        } else if bits & bit::ASSURED != 0 {
            timeouts.udp_stream
        } else if replied && self.now.saturating_sub(self.began(id)) > STREAM_AFTER {
            new |= bit::ASSURED;
            timeouts.udp_stream
        } else {
            timeouts.udp
        };
        if reply {
            new = (new | bit::REPLIED) & !bit::WEAK;
        }
        refresh(hot, self.now, life);
        if new != bits {
            self.flows.settle(id, new);
        }
        let state = if reply || replied { FlowState::Established } else { FlowState::New };
        self.of(id, bits, reply, state)
    }

    fn began(&self, id: FlowId) -> u64 {
        self.flows.cold(id).map_or(0, |cold| cold[0].load(Relaxed))
    }

    fn icmp(&self, packet: &Packet<'_>, sort: fn(u8) -> Message) -> Told {
        let bytes = packet.transport();
        let Some([kind, ..]) = bytes.first_chunk::<8>() else {
            return Told::Invalid(DropReason::TransportTruncated);
        };
        match sort(*kind) {
            Message::Link => Told::Untracked,
            Message::Error => self.related(packet, bytes.get(8..).unwrap_or(&[])),
            Message::Other => Told::Invalid(DropReason::Invalid),
            message => {
                // Both ends may ask under the same number. The answers to the one that began are answers; who asks as well
                // begins nothing new, and is answered by what is no answer to the first.
                let asks = message == Message::Query;
                match self.locate(packet) {
                    Some((id, hot, true)) if asks => self.of(id, hot.bits(), true, FlowState::New),
                    Some((_, _, false)) if !asks => Told::Invalid(DropReason::Invalid),
                    _ => self.simple(packet, asks),
                }
            }
        }
    }

    /// An error about a packet of some flow. It goes to whoever sent that packet, which is the way that the packet's answers go.
    #[cold]
    fn related(&self, packet: &Packet<'_>, quoted: &[u8]) -> Told {
        let unrelated = Told::Invalid(DropReason::IcmpUnrelated);
        let (about, transport) = match packet.facts.version {
            4 => match Ipv4::parse_quoted(quoted) {
                Ok(ip) if ip.begins_transport() => (FlowKey::of_ipv4(&ip), ip.payload()),
                _ => return unrelated,
            },
            _ => match Ipv6::parse_quoted(quoted).and_then(|ip| Ok((ip, ip.upper()?))) {
                Ok((ip, upper)) if upper.begins_transport() => {
                    (FlowKey::of_ipv6_upper(&ip, &upper), upper.payload())
                }
                _ => return unrelated,
            },
        };
        let answers = about.reversed();
        let found = self.flows.find(&answers, self.flows.hash(&answers));
        let Some((id, reply)) = found else { return self.stray(packet, DropReason::IcmpUnrelated) };
        let Some(hot) = self.flows.hot(id).filter(|hot| hot.life() > self.now) else { return unrelated };
        if packet.key.destination() != about.source()
            || (about.protocol() == protocol::TCP && !self.in_flight(id, hot, !reply, transport))
            || !icmp::may_go(about.protocol(), packet.facts.version, transport, !reply)
        {
            return unrelated;
        }
        self.of(id, hot.bits(), reply, FlowState::Related)
    }

    /// Whether a segment that an error quotes may be under way (RFC 5927 §4.1): who makes one up has to guess. `transport` has
    /// at least its first 8 bytes, or nothing is told by them.
    fn in_flight(&self, id: FlowId, hot: Hot<'_>, reply: bool, transport: &[u8]) -> bool {
        let (Some([_, _, _, _, sequence @ ..]), Some(cold)) =
            (transport.first_chunk::<8>(), self.flows.cold(id))
        else {
            return false;
        };
        let sides = [&cold[0], &cold[1], &cold[2], &cold[3]].map(|word| word.load(Relaxed));
        let connection = Connection::unpack(&Packed { bits: hot.bits() & OWN, last_end: 0, sides });
        let [initiator, responder] = connection.sides;
        let (sender, receiver) = if reply { (responder, initiator) } else { (initiator, responder) };
        let sequence = u32::from_be_bytes(*sequence);
        let lenient = !self.rules.tcp.windows
            || self.rules.tcp.liberal
            || sender.is(Side::LIBERAL)
            || sender.max_win == 0;
        let oldest = sender.end.wrapping_sub(receiver.max_win.max(66_000)).wrapping_sub(1);
        lenient || (before(sequence, sender.end.wrapping_add(1)) && after(sequence, oldest))
    }

    /// A part of a packet. It belongs to the flow that its key says, which is right if the key has the ports of the first part.
    #[cold]
    fn fragment(&self, packet: &Packet<'_>) -> Told {
        let facts = &packet.facts;
        if facts.protocol != protocol::TCP {
            let bytes = packet.transport();
            let kind = if facts.fragment == Fragment::First { bytes.first() } else { None };
            return match (facts.protocol, facts.version, kind) {
                (protocol::ICMP, 4, Some(kind)) => self.simple(packet, icmp::v4(*kind) == Message::Query),
                (protocol::ICMPV6, 6, Some(kind)) => self.simple(packet, icmp::v6(*kind) == Message::Query),
                _ => self.simple(packet, facts.fragment == Fragment::First),
            };
        }
        // How much a segment in parts has is not seen here, so this connection's windows are not judged any more.
        let Some((id, hot, reply)) = self.locate(packet) else {
            return self.stray(packet, DropReason::Invalid);
        };
        let bits = hot.bits();
        let mut connection = Connection::unpack(&Packed { bits: bits & OWN, ..Packed::default() });
        connection.sides.iter_mut().for_each(|side| side.flags |= Side::LIBERAL);
        self.flows.settle(id, bits & !OWN | connection.pack().bits);
        let established = reply || bits & bit::REPLIED != 0;
        self.of(id, bits, reply, if established { FlowState::Established } else { FlowState::New })
    }
}

/// Stores what has changed of a connection, but for its bits.
#[inline]
fn store(hot: Hot<'_>, cold: &[AtomicU64; 4], old: &Packed, new: &Packed) {
    if new.last_end != old.last_end {
        hot.set_last(new.last_end);
    }
    for ((word, old), new) in cold.iter().zip(old.sides).zip(new.sides) {
        if old != new {
            word.store(new, Relaxed);
        }
    }
}

/// Lets a flow live on. A time that is hardly later is not worth a store.
#[inline]
fn refresh(hot: Hot<'_>, now: u64, life: u64) {
    let (old, new) = (hot.life(), now.saturating_add(life));
    if new < old || new - old >= (life >> 4).min(SECOND) {
        hot.set_life(new);
    }
}

/// The bits that all protocols have in common, of a TCP connection.
#[inline]
fn common(seen: Seen, state: State) -> u64 {
    let half_open = state.is_embryonic();
    let weak = !seen.reply || half_open || state.is_closing();
    let flag = |on: bool, bit: u64| if on { bit } else { 0 };
    flag(seen.reply, bit::REPLIED)
        | flag(seen.assured, bit::ASSURED)
        | flag(weak, bit::WEAK)
        | flag(half_open, bit::HALF_OPEN)
}
