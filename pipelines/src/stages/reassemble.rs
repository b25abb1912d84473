//! `reassemble`: virtual reassembly. Fragments go on one by one, each as if it had the ports of its datagram's first fragment,
//! so that every later stage (filter, tracking, NAT, balancing) treats them all alike.
//!
//! Stands ahead of the stages that look at ports. Owns which bytes of which datagrams have passed ([`Fragments`]), and the
//! fragments that came ahead of their first ([`Parked`]), both in the stage's region. Refuses, by reason: fragments that
//! overlap; that are empty, of a length that no fragment has, or beyond 65,535 bytes (the "ping of death"); first fragments
//! without their whole transport header (RFC 1858 §3.2, RFC 7112 §5). Leaves alone what is whole, atomic fragments too
//! (RFC 6946). Keeps true: of a datagram nothing goes on before its first fragment has.
//!
//! A fragment ahead of its first is kept as a copy, at most [`HOLD`] of them; the first one brings them into its burst. What
//! waits in vain, or must make room, is dropped as [`DropReason::FragmentTimeout`].

use crate::spec::reassemble::ReassembleSpec;
use crate::stage::{Cx, Stage};
use crate::state::{State, StateSize};
use crate::tables::fragments::{Arrival, Fragments, Piece, Transport};
use crate::tables::parked::{Parked, Ticket};
use std::net::IpAddr;
use zsync_packet::burst::{BURST, Bits, Burst, Facts, Fragment};
use zsync_packet::flow::{FlowKey, HashKey, ports};
use zsync_packet::header::{Ipv4, Ipv6, protocol};
use zsync_packet::region::Region;
use zsync_packet::verdict::{DropReason, Verdict};

/// Fragments that may wait for their first one. More than a burst's worth are not out of order, but an attack.
pub const HOLD: usize = 64;

/// The longest datagram, in bytes: what the length fields of both families can say.
const LONGEST: usize = 0xffff;

/// See the module.
#[derive(Clone, Debug)]
pub struct Reassemble {
    datagrams: usize,
    /// Nanoseconds that a datagram may take, and a fragment waits for its first one.
    timeout: u64,
    hash_key: HashKey,
    state: State,
    /// Once the stage is a worker's.
    tables: Option<Tables>,
}

impl Reassemble {
    /// What the stage keeps.
    pub fn size(spec: &ReassembleSpec) -> StateSize {
        let datagrams = spec.datagrams as usize;
        StateSize { shared: 0, each: Fragments::bytes(datagrams) + Parked::bytes(HOLD) }
    }

    /// As `spec` says, with this state, which has a shard for each worker.
    pub fn new(spec: &ReassembleSpec, state: State, hash_key: HashKey) -> Self {
        let timeout = u64::try_from(spec.timeout.as_nanos()).unwrap_or(u64::MAX);
        Self { datagrams: spec.datagrams as usize, timeout, hash_key, state, tables: None }
    }
}

/// What a worker works on.
#[derive(Clone, Debug)]
struct Tables {
    fragments: Fragments,
    parked: Parked,
    hash_key: HashKey,
    patience: u64,
    /// Whether nothing was done with these yet: another stage may still work on the same memory.
    new: bool,
    /// Fragments may wait whose first one has come: a burst was full.
    owed: bool,
}

impl Tables {
    fn open(region: &Region, datagrams: usize, timeout: u64, hash_key: HashKey) -> Option<Self> {
        let table = Fragments::bytes(datagrams);
        let fragments = Fragments::open(region.part(0..table)?, datagrams, timeout)?;
        let parked = Parked::open(region.part(table..table + Parked::bytes(HOLD))?, HOLD)?;
        Some(Self { fragments, parked, hash_key, patience: timeout, new: true, owed: true })
    }
}

impl Stage for Reassemble {
    #[inline]
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let is_fragment = |i: &usize| burst.facts(*i).fragment != Fragment::Whole;
        let fragments = burst.undecided().filter(is_fragment).fold(0, |mask, i| mask | 1 << i);
        let Some(tables) = &mut self.tables else { return };
        if tables.new {
            tables.new = false;
            tables.parked.count();
        }
        if fragments != 0 || !tables.parked.is_empty() {
            tables.run(burst, fragments, cx);
        }
    }

    fn explain(&self, burst: &Burst, i: usize, now: u64, out: &mut Vec<String>) {
        if burst.facts(i).fragment == Fragment::Whole {
            return out.push("not a fragment".to_owned());
        }
        let Some(tables) = &self.tables else {
            return out.push("no worker's yet: it knows no fragments".to_owned());
        };
        let part = match Part::read(burst.bytes(i), burst.facts(i)) {
            Ok(part) => part,
            Err(reason) => return out.push(format!("a fragment that cannot be one: {}", reason.label())),
        };
        let Piece { offset, len, more, .. } = part.piece;
        let last = if more { "" } else { ", the last" };
        let end = u32::from(offset) + u32::from(len);
        out.push(format!("bytes {offset} to {end} of its datagram{last}"));
        let place = tables.fragments.find(&part.datagram, part.datagram.hash(&self.hash_key), now);
        let waiting = |place| tables.parked.all().filter(|ticket| ticket.reason == place).count();
        out.push(match place.map(|place| (tables.fragments.first(place), waiting(place))) {
            None => "nothing of the datagram has come yet".to_owned(),
            Some((None, waiting)) => {
                format!("its first fragment has not come yet; {waiting} wait for it")
            }
            Some((Some(Transport { source_port, destination_port, protocol }), _)) => format!(
                "its first fragment has come: protocol {protocol}, ports {source_port} and {destination_port}"
            ),
        });
    }

    fn assign(&mut self, worker: usize) {
        let open = |region| Tables::open(&region, self.datagrams, self.timeout, self.hash_key.clone());
        self.tables = self.state.shard(worker).and_then(open);
    }
}

impl Tables {
    #[cold]
    fn run(&mut self, burst: &mut Burst, fragments: u64, cx: &mut Cx<'_>) {
        self.expire(cx);
        if self.owed {
            self.owed = false;
            while let Some(ticket) = self.parked.find(|ticket| self.fragments.has_first(ticket.reason)) {
                if !self.resume(burst, &ticket, cx) {
                    self.owed = true;
                    break;
                }
            }
        }
        // All hashes first: their cache misses overlap.
        let mut read = [None; BURST];
        for i in Bits(fragments) {
            match Part::read(burst.bytes(i), burst.facts(i)) {
                Ok(part) => {
                    let hash = part.datagram.hash(&self.hash_key);
                    self.fragments.prefetch(hash);
                    if let Some(place) = read.get_mut(i) {
                        *place = Some((part, hash));
                    }
                }
                Err(reason) => burst.decide(i, Verdict::Drop(reason)),
            }
        }
        for (i, part) in read.iter().enumerate() {
            if let Some((part, hash)) = part {
                self.arrive(burst, i, part, *hash, cx);
            }
        }
    }

    /// Decides about the fragment `i`, and those that wait for it.
    fn arrive(&mut self, burst: &mut Burst, i: usize, part: &Part, hash: u64, cx: &mut Cx<'_>) {
        let slot = self.fragments.slot(&part.datagram, hash, cx.now);
        if slot.fresh && !self.parked.is_empty() {
            // They waited for the datagram that had this place before.
            while let Some(ticket) = self.parked.waiting_for(slot.number) {
                give_up(&ticket, cx);
                self.parked.give_up(&ticket);
            }
        }
        let arrival = self.fragments.arrive(slot.number, &part.piece);
        match arrival {
            Arrival::Known(transport) => {
                follow(burst, i, part, transport);
                if part.piece.transport.is_some() {
                    while let Some(ticket) = self.parked.waiting_for(slot.number) {
                        if !self.resume(burst, &ticket, cx) {
                            self.owed = true;
                            break;
                        }
                    }
                }
            }
            Arrival::Early => {
                let note = Note::of(burst.facts(i)).0;
                let until = cx.now.saturating_add(self.patience);
                let (bytes, port) = (burst.bytes(i), burst.port(i));
                let kept =
                    self.parked.park(bytes, port, slot.number, note, until, |oldest| give_up(oldest, cx));
                let verdict =
                    if kept { Verdict::Consume } else { Verdict::Drop(DropReason::FragmentTimeout) };
                burst.decide(i, verdict);
            }
            Arrival::Refused(reason) => burst.decide(i, Verdict::Drop(reason)),
        }
    }

    /// Brings a fragment that waits, and whose first one has come, into the burst. False when there is no room, or no frame.
    fn resume(&mut self, burst: &mut Burst, ticket: &Ticket, cx: &mut Cx<'_>) -> bool {
        let Some(i) = cx.join(burst, ticket.port, ticket.len, |bytes| self.parked.read(ticket, bytes)) else {
            return false;
        };
        self.parked.give_up(ticket);
        *burst.facts_mut(i) = Note(ticket.note).facts();
        match Part::read(burst.bytes(i), burst.facts(i)) {
            Ok(part) => match self.fragments.arrive(ticket.reason, &part.piece) {
                Arrival::Known(transport) => follow(burst, i, &part, transport),
                Arrival::Early => burst.decide(i, Verdict::Drop(DropReason::FragmentTimeout)),
                Arrival::Refused(reason) => burst.decide(i, Verdict::Drop(reason)),
            },
            Err(reason) => burst.decide(i, Verdict::Drop(reason)),
        }
        true
    }

    /// Drops what has waited too long.
    fn expire(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        while let Some(ticket) = self.parked.find(|ticket| ticket.until <= now) {
            give_up(&ticket, cx);
            self.parked.give_up(&ticket);
        }
    }
}

/// Counts a fragment that waited in vain as dropped: it was consumed, and so must be made again.
fn give_up(ticket: &Ticket, cx: &mut Cx<'_>) {
    // Without a free frame it stays counted as consumed. It is nobody's, and goes nowhere.
    let _ = cx.spawn(0, ticket.port, ticket.len, Verdict::Drop(DropReason::FragmentTimeout), 0, |_| ());
}

/// Lets later stages see the fragment as a part of its flow.
fn follow(burst: &mut Burst, i: usize, part: &Part, transport: Transport) {
    let (from, to) = (transport.source_port, transport.destination_port);
    let key = match part.ends {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            FlowKey::v4((source, from), (destination, to), transport.protocol)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            FlowKey::v6((source, from), (destination, to), transport.protocol)
        }
        _ => return,
    };
    burst.set_key(i, key);
    burst.facts_mut(i).protocol = transport.protocol;
}

/// What a fragment says of itself.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Which datagram it is of, as the key of a table.
    datagram: FlowKey,
    ends: (IpAddr, IpAddr),
    piece: Piece,
}

impl Part {
    /// The fragment in `bytes`, a frame that was parsed for its transport.
    fn read(bytes: &[u8], facts: &Facts) -> Result<Self, DropReason> {
        let packet = bytes.get(usize::from(facts.l3)..).unwrap_or(&[]);
        let (this, before, payload, upper) = match facts.version {
            4 => {
                let ip = Ipv4::parse(packet).map_err(|_| DropReason::IpTruncated)?;
                let (source, destination) = (ip.source(), ip.destination());
                let datagram = FlowKey::v4((source, ip.identification()), (destination, 0), ip.protocol());
                let piece = Piece {
                    offset: ip.fragment_offset(),
                    len: 0,
                    more: ip.more_fragments(),
                    transport: None,
                };
                let this = Self { datagram, ends: (source.into(), destination.into()), piece };
                (this, ip.header_len(), ip.payload().len(), (ip.protocol(), ip.payload()))
            }
            _ => {
                let ip = Ipv6::parse(packet).map_err(|_| DropReason::IpTruncated)?;
                let upper = ip.upper().map_err(|_| DropReason::BadExtensionHeader)?;
                let id = upper.identification().unwrap_or(0);
                let (source, destination) = (ip.source(), ip.destination());
                let datagram =
                    FlowKey::v6((source, id as u16), (destination, (id >> 16) as u16), protocol::FRAGMENT);
                let piece = Piece {
                    offset: upper.fragment_offset(),
                    len: 0,
                    more: upper.more_fragments(),
                    transport: None,
                };
                let this = Self { datagram, ends: (source.into(), destination.into()), piece };
                // Up to the fragment header and with it; without it they are the datagram's own (RFC 8200 §4.5).
                let mut ahead = 0;
                for extension in ip.extensions().flatten() {
                    ahead += extension.bytes.len();
                    if extension.kind == protocol::FRAGMENT {
                        break;
                    }
                }
                let len = ip.payload().len().saturating_sub(ahead);
                (this, ahead.saturating_sub(8), len, (upper.protocol(), upper.payload()))
            }
        };
        this.with_payload(before, payload, upper, facts.version)
    }

    /// Checks the length, and reads the transport header of a first fragment. `before`: what counts towards the longest
    /// datagram ahead of its bytes.
    fn with_payload(
        mut self,
        before: usize,
        len: usize,
        (protocol, payload): (u8, &[u8]),
        version: u8,
    ) -> Result<Self, DropReason> {
        let odd = self.piece.more && !len.is_multiple_of(8);
        if len == 0 || odd || before + usize::from(self.piece.offset) + len > LONGEST {
            return Err(DropReason::FragmentMalformed);
        }
        self.piece.len = len as u16;
        if self.piece.offset == 0 {
            if payload.len() < shortest_transport(protocol) {
                return Err(DropReason::FragmentMalformed);
            }
            let (source_port, destination_port) = ports(protocol, payload, version);
            self.piece.transport = Some(Transport { source_port, destination_port, protocol });
        }
        Ok(self)
    }
}

/// Bytes of the transport header that a first fragment must have.
fn shortest_transport(number: u8) -> usize {
    match number {
        protocol::TCP => 20,
        protocol::SCTP | protocol::DCCP => 12,
        protocol::UDP | protocol::UDP_LITE | protocol::ICMP | protocol::ICMPV6 | protocol::ESP => 8,
        _ => 0,
    }
}

/// What must be known of a packet that waits, in a word: from the low end, where its IP header starts (8 bits), its version
/// (8), its VLAN (16), its mark (32).
struct Note(u64);

impl Note {
    fn of(facts: &Facts) -> Self {
        Self(
            u64::from(facts.l3 & 0xff)
                | u64::from(facts.version) << 8
                | u64::from(facts.vlan) << 16
                | u64::from(facts.mark) << 32,
        )
    }

    fn facts(&self) -> Facts {
        Facts {
            l3: (self.0 & 0xff) as u16,
            version: (self.0 >> 8) as u8,
            vlan: (self.0 >> 16) as u16,
            mark: (self.0 >> 32) as u32,
            fragment: Fragment::Later,
            ..Facts::default()
        }
    }
}

#[cfg(test)]
mod tests;
