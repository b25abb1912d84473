//! `wireguard-seal`: into WireGuard. Packets to the inner addresses of a peer are sealed, those of a burst as one batch, in the
//! frames that they came in; from then on they are the outer packets, for a `route` behind. All else goes on as it is, and so do
//! packets to the host's own addresses. It is also where a tunnel speaks by itself: handshakes, empty messages, packets that
//! have waited for a session.
//!
//! Owns nothing but scratch. Refuses what is too long for the tunnel, which its sender is told; packets whose hops are used up,
//! for a tunnel is a hop; packets of peers of whom nobody knows where they are, which their senders are told. Keeps true: a counter is stored as used before anything is
//! sealed with it; the packets of a peer have counters in their order; an inner packet is never fragmented.

use super::open::clamp;
use super::outer::{Ends, Outer};
use super::waiting::Packet as Waiter;
use super::{Office, Shared, Tunnel};
use crate::snapshot::PortFacts;
use crate::stage::{Cx, Stage};
use crate::stages::answer::{self, Answer};
use crate::stages::track::is_local;
use crate::stages::tunnel::Inner;
use crate::tables::cryptokey::Routes;
use crate::tables::fib::FibTables;
use arrayvec::ArrayVec;
use std::net::IpAddr;
use zsync_crypto::aead::{Job, Key, TAG_LEN};
use zsync_packet::burst::{BURST, Burst};
use zsync_packet::flow::FlowKey;
use zsync_packet::header::{Ipv4Mut, Ipv6Mut};
use zsync_packet::verdict::{DropReason, PortId, Verdict};
use zsync_wireguard::desk::{Action, Letter, Written};
use zsync_wireguard::message::{DATA_HEADER_LEN, OVERHEAD, data_header, data_nonce, padded};
use zsync_wireguard::record::{Endpoint, Record};
use zsync_wireguard::room::Room;
use zsync_wireguard::timers::{REJECT_AFTER_MESSAGES, sent};
use zsync_wireguard::transport::sending;

/// Handshake messages are of the class AF41, as the kernel's are (messages.h, HANDSHAKE_DSCP).
const HANDSHAKE_TOS: u8 = 0x88;
/// Things that a tunnel does of itself between two bursts.
const ACTIONS: usize = 32;
/// Peers that are looked at then because something waits for them.
const WANTED: usize = 8;

/// See the module.
#[derive(Clone, Debug)]
pub struct Seal {
    tunnel: Tunnel,
    ports: Vec<PortFacts>,
    worker: usize,
    /// The stage ahead, behind which another worker goes on.
    ahead: u8,
    /// Where packets that are the tunnel's own come from; none: another stage sends them.
    speaks: Option<PortId>,
    /// This worker has taken its peers' records over.
    ready: bool,
    /// Identification of IPv4 packets that may be taken apart.
    number: u16,
}

/// A peer that packets of a burst go to.
struct Group<'b> {
    record: Record<'b>,
    room: Room<'b>,
    /// Our index of the session that the key is of.
    index: u32,
    ends: Ends,
    /// Their headers.
    outer: Outer,
    key: Key,
    /// Packets, and the counter of the next.
    count: u64,
    next: u64,
    data: bool,
    bytes: u64,
}

/// A packet that is sealed.
#[derive(Clone, Copy)]
struct Sealing {
    i: u8,
    group: u8,
    /// Where the message starts.
    at: u16,
    counter: u64,
}

/// A burst's work.
struct Work<'b> {
    /// Slots of the groups, in their order.
    slots: ArrayVec<u32, BURST>,
    groups: ArrayVec<Group<'b>, BURST>,
    sealing: ArrayVec<Sealing, BURST>,
    mask: u64,
    /// Identification of IPv4 packets that may be taken apart.
    number: u16,
}

/// Why a packet is not sealed now.
enum Not {
    /// There is no session with its peer.
    Session,
    /// This is decided of it.
    Decided(Verdict),
}

impl From<DropReason> for Not {
    fn from(reason: DropReason) -> Self {
        Self::Decided(Verdict::Drop(reason))
    }
}

impl Seal {
    /// Of this tunnel. `ahead`: the number of the stage ahead. `speaks`: this stage sends what the tunnel says of itself, as if
    /// it came in there.
    pub fn new(tunnel: Tunnel, ports: Vec<PortFacts>, ahead: u8, speaks: Option<PortId>) -> Self {
        Self { tunnel, ports, worker: 0, ahead, speaks, ready: false, number: 0 }
    }

    /// The tunnel.
    pub fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }
}

impl Shared {
    /// What says whose packets are; taken once a burst.
    #[inline]
    fn ways(&self) -> Ways<'_> {
        Ways { peers: self.routing.routes(), own: self.own.tables() }
    }
}

/// See [`Shared::ways`].
struct Ways<'b> {
    peers: Routes<'b>,
    own: Option<FibTables<'b>>,
}

impl Ways<'_> {
    /// The slot of the peer that packet `i` is for.
    #[inline]
    fn peer_of(&self, burst: &Burst, i: usize) -> Option<u32> {
        let facts = burst.facts(i);
        let packet = burst.bytes(i).get(usize::from(facts.l3)..)?;
        let (slot, to) = match facts.version {
            4 => {
                let to = *packet.get(16..)?.first_chunk::<4>()?;
                (self.peers.v4(u32::from_be_bytes(to))?, IpAddr::from(to))
            }
            6 => {
                let to = packet.get(24..)?.first_chunk::<16>()?;
                (self.peers.v6(to)?, IpAddr::from(*to))
            }
            _ => return None,
        };
        // What is for the host itself is not for a peer that all else goes to.
        (!self.own.as_ref().is_some_and(|own| is_local(own, to))).then_some(slot)
    }
}

impl Stage for Seal {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let Self { tunnel: Tunnel(shared), ports, worker, ahead, ready, number, .. } = self;
        let (now, worker) = (cx.now, *worker);
        let mut work = Work::new(*number);
        let ways = shared.ways();
        for i in burst.undecided() {
            let Some(slot) = ways.peer_of(burst, i) else { continue };
            let owner = shared.owner(slot);
            if owner != worker {
                burst.decide(i, Verdict::Worker(owner as u8, *ahead));
                continue;
            }
            if !*ready {
                // Where a process has left the records, this one goes on.
                *ready = shared.office(worker, now).is_some();
            }
            match plan(shared, ports, burst, i, slot, &mut work, cx) {
                Ok(()) => {}
                Err(Not::Session) if !shared.is_somewhere(slot) => {
                    let verdict = shared.nowhere(burst, i, ports, cx);
                    burst.decide(i, verdict);
                }
                Err(Not::Session) => {
                    let verdict = keep(shared, burst, i, slot, worker, now);
                    burst.decide(i, verdict);
                }
                Err(Not::Decided(verdict)) => burst.decide(i, verdict),
            }
        }
        *number = work.number;
        seal(shared, burst, &mut work, now);
    }

    fn assign(&mut self, worker: usize) {
        (self.worker, self.ready) = (worker, false);
    }

    fn emit(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let Some(port) = self.speaks else { return };
        let Self { tunnel: Tunnel(shared), worker, number, .. } = self;
        let (now, unix) = (cx.now, shared.unix(cx.now));
        let mut forwards: ArrayVec<(usize, Letter), ACTIONS> = ArrayVec::new();
        let mut work = Work::new(*number);
        {
            let Some(mut office) = shared.office(*worker, now) else { return };
            let office = &mut *office;
            for _ in 0..ACTIONS {
                if burst.room() < 2 {
                    break;
                }
                match office.poll(now, unix) {
                    None => break,
                    Some(Action::Send(written, endpoint)) => {
                        send(shared, burst, cx, port, &written, endpoint)
                    }
                    Some(Action::Forward(to, letter)) => forwards.push((to, letter)),
                    Some(Action::GiveUp(slot)) => shared.give_up(office.waiting.drop_all(slot)),
                    Some(Action::Keepalive(slot)) => say_nothing(shared, burst, cx, port, slot, &mut work),
                    Some(Action::Ready { slot, ours }) => {
                        if !office.go_on(shared, burst, cx, slot, &mut work) && ours {
                            say_nothing(shared, burst, cx, port, slot, &mut work);
                        }
                    }
                }
            }
            // Who waits for a session that could not be begun yet, or for room in this burst.
            for _ in 0..WANTED {
                let Some(slot) = office.waiting.next_wanted() else { break };
                if shared.session(slot, now).is_some() {
                    office.go_on(shared, burst, cx, slot, &mut work);
                } else if !office.desk.as_mut().is_some_and(|desk| desk.want(slot, now, unix)) {
                    office.waiting.want_later(slot);
                }
            }
            *number = work.number;
            seal(shared, burst, &mut work, now);
        }
        // Nobody holds two of these locks.
        for (to, letter) in forwards {
            shared.forward(to, letter, now);
        }
    }

    fn explain(&self, burst: &Burst, i: usize, now: u64, out: &mut Vec<String>) {
        let shared = &self.tunnel.0;
        match shared.ways().peer_of(burst, i) {
            Some(slot) => shared.sealed_in_words(burst, i, slot, now, out),
            None => out.push("its destination is no peer's: it stays as it is".to_owned()),
        }
    }
}

impl Office {
    /// Lets all go that waits for the peer in `slot`, as far as there is room in the burst. False: nothing waits.
    fn go_on<'b>(
        &mut self,
        shared: &'b Shared,
        burst: &mut Burst,
        cx: &mut Cx<'_>,
        slot: u32,
        work: &mut Work<'b>,
    ) -> bool {
        let mut any = false;
        while let Some(waiter) = self.waiting.next(slot) {
            any = true;
            let gone =
                if burst.room() > 1 { go_on(shared, burst, cx, slot, waiter, work) } else { Err(waiter) };
            if let Err(waiter) = gone {
                self.waiting.put_back(slot, waiter);
                self.waiting.want_later(slot);
                break;
            }
        }
        any
    }
}

impl Shared {
    /// The session with the peer in `slot`, and where that is.
    #[inline]
    pub(super) fn session(&self, slot: u32, now: u64) -> Option<(Record<'_>, Room<'_>, Endpoint)> {
        let record = self.peers.record(&self.book, slot)?;
        Some((record, sending(&record, now)?, record.endpoint()?))
    }
}

impl<'b> Work<'b> {
    /// None yet. Made in its place: it is long.
    #[inline(always)]
    fn new(number: u16) -> Self {
        Self { slots: ArrayVec::new(), groups: ArrayVec::new(), sealing: ArrayVec::new(), mask: 0, number }
    }

    /// The group of the peer in `slot`.
    #[inline]
    fn group(&mut self, shared: &'b Shared, slot: u32, now: u64) -> Result<usize, Not> {
        if let Some(known) = self.slots.iter().rposition(|known| *known == slot) {
            return Ok(known);
        }
        let (record, room, endpoint) = shared.session(slot, now).ok_or(Not::Session)?;
        let index = room.index().ok_or(Not::Session)?;
        let ends = Ends::to(shared, endpoint).ok_or(DropReason::NoRoute)?;
        let key = Key::chacha(room.sending());
        let outer = Outer::new(ends, shared.settings.port);
        self.groups.push(Group {
            record,
            room,
            index,
            ends,
            outer,
            key,
            count: 0,
            next: 0,
            data: false,
            bytes: 0,
        });
        self.slots.push(slot);
        Ok(self.groups.len() - 1)
    }

    /// Packet `i` is to be sealed for a group.
    #[inline]
    fn add(&mut self, i: usize, group: usize, at: usize) {
        self.groups[group].count += 1;
        self.sealing.push(Sealing { i: i as u8, group: group as u8, at: at as u16, counter: 0 });
        self.mask |= 1 << i;
    }
}

/// Looks at an inner packet, and makes it ready to be sealed: its message's room is there, and the outer header is written.
#[inline]
fn plan<'b>(
    shared: &'b Shared,
    ports: &[PortFacts],
    burst: &mut Burst,
    i: usize,
    slot: u32,
    work: &mut Work<'b>,
    cx: &mut Cx<'_>,
) -> Result<(), Not> {
    let now = cx.now;
    let l3 = usize::from(burst.facts(i).l3);
    let packet = burst.bytes(i).get(l3..).unwrap_or(&[]);
    let inner = Inner::of(packet).ok_or(DropReason::IpTruncated)?;
    let from = ports.get(usize::from(burst.port(i).0)).ok_or(DropReason::NoSuchPort)?;
    // What the host itself sends has not passed a router yet.
    let ages = !from.of_host;
    if ages && inner.ttl <= 1 {
        let verdict = answer::reply(burst, i, Answer::TimeExceeded, from, DropReason::TtlExpired, cx);
        return Err(Not::Decided(verdict));
    }
    let mtu = shared.settings.mtu;
    if inner.len > mtu && inner.whole {
        let answer = Answer::TooBig { mtu: mtu as u32 };
        return Err(Not::Decided(answer::reply(burst, i, answer, from, DropReason::TooBig, cx)));
    }
    let group = work.group(shared, slot, now)?;
    if !burst.set_len(i, l3 + inner.len) || !burst.trim_front(i, l3) {
        return Err(DropReason::IpTruncated.into());
    }
    let packet = burst.bytes_mut(i);
    clamp(packet, mtu);
    if ages {
        age(packet);
    }
    wrap(shared, burst, i, inner, group, work)?;
    Ok(())
}

/// Puts an inner packet, which is all that packet `i` is, into a message that is not sealed yet, and into outer headers.
#[inline]
fn wrap(
    shared: &Shared,
    burst: &mut Burst,
    i: usize,
    inner: Inner,
    group: usize,
    work: &mut Work<'_>,
) -> Result<(), DropReason> {
    let ends = work.groups[group].ends;
    let flow = match ends {
        Ends::V6(..) => {
            FlowKey::of(burst.bytes(i)).map_or(0, |key| (key.hash(&shared.with.hash_key) >> 32) as u32)
        }
        Ends::V4(..) => 0,
    };
    let text = padded(inner.len, shared.settings.mtu);
    if !burst.set_len(i, text + TAG_LEN) {
        return Err(DropReason::TooBig);
    }
    let at = ends.len();
    let bytes = burst.prepend(i, at + DATA_HEADER_LEN).ok_or(DropReason::NoHeadroom)?;
    let padding = at + DATA_HEADER_LEN + inner.len..at + DATA_HEADER_LEN + text;
    bytes.get_mut(padding).unwrap_or_default().fill(0);
    let tos = shared.settings.dscp.map_or(inner.tos, |dscp| dscp << 2 | inner.tos & 3);
    work.number = work.number.wrapping_add(1);
    if !work.groups[group].outer.write(bytes, tos, flow, work.number) {
        return Err(DropReason::TooBig);
    }
    work.groups[group].data = true;
    work.add(i, group, at);
    Ok(())
}

/// Seals all that was planned, as one batch. From here on these packets are the outer ones.
#[inline]
fn seal(shared: &Shared, burst: &mut Burst, work: &mut Work<'_>, now: u64) {
    let Work { groups, sealing, mask, .. } = work;
    if *mask == 0 {
        return;
    }
    let mut failed = 0u64;
    for group in groups.iter_mut() {
        match group.room.take_counters(group.index, group.count, REJECT_AFTER_MESSAGES) {
            Some(first) => group.next = first,
            None => group.count = 0,
        }
    }
    // In the order of the burst, as the jobs are.
    if !sealing.is_sorted_by_key(|sealing| sealing.i) {
        sealing.sort_unstable_by_key(|sealing| sealing.i);
    }
    for sealing in sealing.iter_mut() {
        let group = &mut groups[usize::from(sealing.group)];
        sealing.counter = group.next;
        group.next += 1;
    }
    let mut jobs: ArrayVec<Job<'_>, BURST> = ArrayVec::new();
    let mut numbers: ArrayVec<u8, BURST> = ArrayVec::new();
    for ((i, bytes), sealing) in burst.each_mut(*mask).zip(sealing.iter()) {
        let group = &groups[usize::from(sealing.group)];
        let message = bytes.get_mut(usize::from(sealing.at)..).unwrap_or_default();
        let Some((header, data)) = message.split_first_chunk_mut().filter(|_| group.count > 0) else {
            failed |= 1 << i;
            continue;
        };
        *header = data_header(group.room.remote(), sealing.counter);
        jobs.push(Job::new(&group.key, data_nonce(sealing.counter), &[], data));
        numbers.push(i as u8);
    }
    shared.aead.seal(&mut jobs);
    failed |=
        jobs.iter().zip(&numbers).filter(|(job, _)| !job.is_done()).fold(0, |mask, (_, i)| mask | 1 << i);
    drop(jobs);
    for sealing in sealing.iter() {
        let (i, group) = (usize::from(sealing.i), &mut groups[usize::from(sealing.group)]);
        if failed >> i & 1 == 1 {
            burst.decide(i, Verdict::Drop(DropReason::WireguardNoSession));
            continue;
        }
        let bytes = burst.bytes_mut(i);
        group.bytes += bytes.len().saturating_sub(usize::from(sealing.at)) as u64;
        group.ends.finish(bytes);
        group.ends.know(burst, i, shared.settings.port);
    }
    for group in groups.iter().filter(|group| group.bytes > 0) {
        sent(&group.record, group.data, group.bytes, now);
    }
}

/// Keeps a packet until there is a session with its peer.
#[cold]
fn keep(shared: &Shared, burst: &Burst, i: usize, slot: u32, worker: usize, now: u64) -> Verdict {
    const NO: Verdict = Verdict::Drop(DropReason::WireguardNoSession);
    let Some(mut office) = shared.office(worker, now) else { return NO };
    if !office.waiting.has_room(slot) {
        return NO;
    }
    let facts = burst.facts(i);
    let packet = burst.bytes(i).get(usize::from(facts.l3)..).unwrap_or(&[]);
    let Some(inner) = Inner::of(packet).and_then(|inner| packet.get(..inner.len)) else { return NO };
    let waiter = Waiter { port: burst.port(i), bytes: inner.into(), mark: facts.mark };
    if !office.waiting.keep(slot, waiter) {
        return NO;
    }
    Verdict::Consume
}

/// Makes a packet of a handshake message.
#[cold]
fn send(
    shared: &Shared,
    burst: &mut Burst,
    cx: &mut Cx<'_>,
    port: PortId,
    written: &Written,
    endpoint: Endpoint,
) {
    let Some(ends) = Ends::to(shared, endpoint) else { return };
    let message = written.bytes();
    let made = cx.join(burst, port, ends.len() + message.len(), |bytes| {
        ends.write(bytes, shared.settings.port, HANDSHAKE_TOS, 0, 0);
        if let Some(place) = bytes.get_mut(ends.len()..) {
            place.copy_from_slice(message);
        }
        ends.finish(bytes);
    });
    if let Some(i) = made {
        ends.know(burst, i, shared.settings.port);
    }
}

/// Makes an empty message for a peer.
#[cold]
fn say_nothing<'b>(
    shared: &'b Shared,
    burst: &mut Burst,
    cx: &mut Cx<'_>,
    port: PortId,
    slot: u32,
    work: &mut Work<'b>,
) {
    let Ok(group) = work.group(shared, slot, cx.now) else { return };
    let ends = work.groups[group].ends;
    let made = cx.join(burst, port, ends.len() + OVERHEAD, |bytes| {
        bytes.fill(0);
        ends.write(bytes, shared.settings.port, 0, 0, 0);
    });
    if let Some(i) = made {
        work.add(i, group, ends.len());
    }
}

/// Lets a packet go that has waited. What cannot go comes back.
#[cold]
fn go_on<'b>(
    shared: &'b Shared,
    burst: &mut Burst,
    cx: &mut Cx<'_>,
    slot: u32,
    waiter: Waiter,
    work: &mut Work<'b>,
) -> Result<(), Waiter> {
    let group = match work.group(shared, slot, cx.now) {
        Ok(group) => group,
        Err(Not::Session) => return Err(waiter),
        // There is no way there.
        Err(Not::Decided(_)) => {
            shared.give_up(1);
            return Ok(());
        }
    };
    let Some(inner) = Inner::of(&waiter.bytes) else { return Ok(()) };
    let made = cx.join(burst, waiter.port, waiter.bytes.len(), |bytes| bytes.copy_from_slice(&waiter.bytes));
    let Some(i) = made else { return Err(waiter) };
    burst.facts_mut(i).mark = waiter.mark;
    let packet = burst.bytes_mut(i);
    clamp(packet, shared.settings.mtu);
    if !shared.with.ports.get(usize::from(waiter.port.0)).is_some_and(|from| from.of_host) {
        age(packet);
    }
    if let Err(reason) = wrap(shared, burst, i, inner, group, work) {
        burst.decide(i, Verdict::Drop(reason));
    }
    Ok(())
}

/// Takes a hop off a packet that has more than one.
#[inline]
fn age(packet: &mut [u8]) {
    if let Ok(mut ip) = Ipv4Mut::parse(packet) {
        let _ = ip.decrement_ttl();
    } else if let Ok(mut ip) = Ipv6Mut::parse(packet) {
        let _ = ip.decrement_hop_limit();
    }
}
