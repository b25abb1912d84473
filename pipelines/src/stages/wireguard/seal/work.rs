//! A burst's work: the peers that its packets go to, and each packet as it is made ready and then sealed.
//!
//! Owns scratch for one burst. Refuses what [`super`] says. Keeps true: packets that were planned have their outer headers and the
//! room of their message; a peer's record and key are looked up once a burst.

use crate::snapshot::PortFacts;
use crate::stage::Cx;
use crate::stages::answer::{self, Answer};
use crate::stages::tunnel::Inner;
use crate::stages::wireguard::Shared;
use crate::stages::wireguard::outer::{Ends, Outer};
use crate::stages::wireguard::segments::clamp;
use arrayvec::ArrayVec;
use zsync_crypto::aead::{Job, Key, TAG_LEN};
use zsync_packet::burst::{BURST, Burst};
use zsync_packet::flow::FlowKey;
use zsync_packet::verdict::{DropReason, Verdict};
use zsync_wireguard::message::{DATA_HEADER_LEN, data_header, data_nonce, padded};
use zsync_wireguard::record::{Endpoint, Record};
use zsync_wireguard::room::Room;
use zsync_wireguard::timers::{REJECT_AFTER_MESSAGES, sent};
use zsync_wireguard::transport::sending;

/// A peer that packets of a burst go to.
pub(super) struct Group<'b> {
    record: Record<'b>,
    room: Room<'b>,
    /// Our index of the session that the key is of.
    index: u32,
    pub(super) ends: Ends,
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
pub(super) struct Work<'b> {
    /// Slots of the groups, in their order.
    slots: ArrayVec<u32, BURST>,
    pub(super) groups: ArrayVec<Group<'b>, BURST>,
    sealing: ArrayVec<Sealing, BURST>,
    mask: u64,
    /// Identification of IPv4 packets that may be taken apart.
    pub(super) number: u16,
}

/// Why a packet is not sealed now.
pub(super) enum Not {
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

impl Shared {
    /// The session with the peer in `slot`, and where that is.
    #[inline]
    pub(in crate::stages::wireguard) fn session(
        &self,
        slot: u32,
        now: u64,
    ) -> Option<(Record<'_>, Room<'_>, Endpoint)> {
        let record = self.peers.record(&self.book, slot)?;
        Some((record, sending(&record, now)?, record.endpoint()?))
    }
}

impl<'b> Work<'b> {
    /// None yet. Made in its place: it is long.
    #[inline(always)]
    pub(super) fn new(number: u16) -> Self {
        Self { slots: ArrayVec::new(), groups: ArrayVec::new(), sealing: ArrayVec::new(), mask: 0, number }
    }

    /// The group of the peer in `slot`.
    #[inline]
    pub(super) fn group(&mut self, shared: &'b Shared, slot: u32, now: u64) -> Result<usize, Not> {
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
    pub(super) fn add(&mut self, i: usize, group: usize, at: usize) {
        self.groups[group].count += 1;
        self.sealing.push(Sealing { i: i as u8, group: group as u8, at: at as u16, counter: 0 });
        self.mask |= 1 << i;
    }
}

/// Looks at an inner packet, and makes it ready to be sealed: its message's room is there, and the outer header is written.
#[inline]
pub(super) fn plan<'b>(
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
    let inner = Inner::of_valid(packet).ok_or(DropReason::IpTruncated)?;
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
    let packet = burst.bytes_mut(i).get_mut(l3..l3 + inner.len).ok_or(DropReason::IpTruncated)?;
    clamp(packet, mtu);
    if ages {
        age(packet);
    }
    // What is behind the packet is cut off with its message's length.
    if !burst.trim_front(i, l3) {
        return Err(DropReason::IpTruncated.into());
    }
    wrap(shared, burst, i, inner, group, work)?;
    Ok(())
}

/// Puts an inner packet, which is all that packet `i` is, into a message that is not sealed yet, and into outer headers.
#[inline]
pub(super) fn wrap(
    shared: &Shared,
    burst: &mut Burst,
    i: usize,
    inner: Inner,
    group: usize,
    work: &mut Work<'_>,
) -> Result<(), DropReason> {
    let ends = work.groups[group].ends;
    let flow = match ends {
        Ends::V6(..) => FlowKey::of(burst.bytes(i).get(..inner.len).unwrap_or(&[]))
            .map_or(0, |key| (key.hash(&shared.with.hash_key) >> 32) as u32),
        Ends::V4(..) => 0,
    };
    let text = padded(inner.len, shared.settings.mtu);
    if !burst.set_len(i, text + TAG_LEN) {
        return Err(DropReason::TooBig);
    }
    let at = ends.len();
    let bytes = burst.prepend(i, at + DATA_HEADER_LEN).ok_or(DropReason::NoHeadroom)?;
    // As many bytes as the longest padding, for a fill of some takes a call: the rest is the tag's room, which is written later.
    let padding = bytes.get_mut(at + DATA_HEADER_LEN + inner.len..).and_then(|rest| rest.first_chunk_mut());
    *padding.ok_or(DropReason::TooBig)? = [0u8; TAG_LEN];
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
pub(super) fn seal(shared: &Shared, burst: &mut Burst, work: &mut Work<'_>, now: u64) {
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
        group.ends.finish(shared, bytes);
        group.ends.know(shared, burst, i);
    }
    for group in groups.iter().filter(|group| group.bytes > 0) {
        sent(&group.record, group.data, group.bytes, now);
    }
}

/// Takes a hop off a valid packet that has more than one.
#[inline]
pub(super) fn age(packet: &mut [u8]) {
    let Some(header) = packet.first_chunk_mut::<20>() else { return };
    let v4 = header[0] >> 4 == 4;
    let hops = &mut header[if v4 { 8 } else { 7 }];
    if *hops <= 1 {
        return;
    }
    *hops -= 1;
    if v4 {
        // RFC 1624, equation 3: the word that the hops are the upper half of has become less by 0x100.
        let sum = u32::from(!u16::from_be_bytes([header[10], header[11]])) + 0xfeff;
        let sum = (sum & 0xffff) + (sum >> 16);
        header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zsync_packet::header::corpus;
    use zsync_packet::header::{Ethernet, Ipv4Mut, Ipv6Mut};

    proptest! {
        #[test]
        fn a_hop_is_taken_off_as_the_views_do_it(n in any::<prop::sample::Index>(), hops in any::<u8>()) {
            let valid = corpus::valid();
            let frame = &n.get(&valid).bytes;
            let mut ours = Ethernet::parse(frame).map(|frame| frame.payload().to_vec()).unwrap_or_default();
            if let Ok(mut ip) = Ipv4Mut::parse(&mut ours) {
                ip.set_ttl(hops);
            } else if let Ok(mut ip) = Ipv6Mut::parse(&mut ours) {
                ip.set_hop_limit(hops);
            } else {
                return Ok(());
            }
            let mut theirs = ours.clone();
            age(&mut ours);
            if let Ok(mut ip) = Ipv4Mut::parse(&mut theirs) {
                let _ = ip.decrement_ttl();
            } else if let Ok(mut ip) = Ipv6Mut::parse(&mut theirs) {
                let _ = ip.decrement_hop_limit();
            }
            prop_assert_eq!(ours, theirs);
        }
    }
}
