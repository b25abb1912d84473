//! `wireguard-open`: out of WireGuard. Datagrams to our port are handshake messages, for the desk, or data messages: those of a
//! burst are opened as one batch, in the frames that they came in, and their inner packets go on to the next stage, as if they
//! had come in by the same port. All else goes on as it is.
//!
//! Owns nothing but scratch. Refuses, each with its reason, and answers none: what is no message; sessions that are not there
//! or are over; counters that came before; what does not authenticate, which is wiped; inner packets that are none, or whose
//! source is not the peer's. Keeps true: nothing of a packet is believed before it was authentic, its outer addresses neither.

mod admission;
mod datagram;

use super::screen::Screen;
use super::segments::clamp;
use super::{Shared, Tunnel};
use crate::snapshot::PortFacts;
use crate::stage::{Cx, Stage};
use crate::stages::parse::Parse;
use crate::stages::tunnel::{Inner, ecn_out, set_ecn};
use crate::tables::cryptokey::Routes;
use admission::admit;
use arrayvec::ArrayVec;
use datagram::{Datagram, Letterbox, is_intact};
use std::net::IpAddr;
use zsync_crypto::aead::{Job, Key};
use zsync_packet::burst::{BURST, Burst, Facts};
use zsync_packet::header::{ether_type, ethernet};
use zsync_packet::verdict::{DropReason, Verdict};
use zsync_wireguard::desk::Rejected;
use zsync_wireguard::message::{DATA_HEADER_LEN, Message, OVERHEAD, data_nonce};
use zsync_wireguard::record::Endpoint;
use zsync_wireguard::transport::{Receiving, Refused};

/// See the module.
#[derive(Clone, Debug)]
pub struct Open {
    tunnel: Tunnel,
    ports: Vec<PortFacts>,
    parse: Parse,
    worker: usize,
    /// The stage ahead, behind which another worker goes on.
    ahead: u8,
    /// See [`Facts::tunnel`].
    answers: u8,
    /// This worker has taken its peers' records over.
    ready: bool,
    /// How many handshake messages are looked at.
    screen: Screen,
}

/// A session that messages of a burst came in.
struct Group<'b> {
    receiving: Receiving<'b>,
    key: Key,
    endpoint: Option<Endpoint>,
    data: bool,
    bytes: u64,
}

/// A message that is opened.
#[derive(Clone, Copy)]
struct Opening {
    /// Where the message starts, and how long it is.
    at: u16,
    len: u16,
    group: u8,
    /// Outer congestion bits.
    ecn: u8,
    counter: u64,
    /// It came from elsewhere than those before.
    moved: Option<Endpoint>,
}

impl Open {
    /// Of this tunnel. `ahead`: the number of the stage ahead. `answers`: the number of the stage ahead of the tunnel's `wireguard-seal`,
    /// behind which answers to what comes out of it go on; none: there are none.
    pub fn new(tunnel: Tunnel, ports: Vec<PortFacts>, ahead: u8, answers: Option<u8>) -> Self {
        // What a peer has sealed is no partial packet of a stack beside us.
        let whole = |port: &PortFacts| PortFacts { complete_checksums: false, ..*port };
        Self {
            parse: Parse::new(ports.iter().map(whole).collect(), true),
            tunnel,
            ports,
            worker: 0,
            ahead,
            answers: answers.and_then(|answers| answers.checked_add(1)).unwrap_or(0),
            ready: false,
            screen: Screen::default(),
        }
    }

    /// The tunnel.
    pub fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }
}

fn reason(refused: Refused) -> DropReason {
    match refused {
        Refused::Unknown => DropReason::WireguardUnknown,
        Refused::Expired => DropReason::WireguardExpired,
        Refused::Replayed => DropReason::WireguardReplayed,
    }
}

impl Stage for Open {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let Self { tunnel: Tunnel(shared), ports, parse, worker, ahead, answers, ready, screen } = self;
        let back = *answers;
        let (now, worker) = (cx.now, *worker);
        let mut groups: ArrayVec<Group<'_>, BURST> = ArrayVec::new();
        let mut openings: ArrayVec<Opening, BURST> = ArrayVec::new();
        let (mut mask, mut letterbox) = (0u64, Letterbox::of(shared));
        for i in burst.undecided() {
            let Some(datagram) = letterbox.datagram(burst, i) else { continue };
            if !*ready {
                // Where a process has left the records, this one goes on.
                *ready = shared.office(worker, now).is_some();
            }
            let payload = burst.bytes(i).get(datagram.at..datagram.at + datagram.len).unwrap_or(&[]);
            match Message::parse(payload) {
                Ok(Message::Data { receiver, counter }) => {
                    let known =
                        groups.iter().rposition(|group| group.receiving.room.index() == Some(receiver));
                    let (owner, slot) = match known {
                        Some(group) => (worker, groups[group].receiving.slot),
                        None => {
                            let slot = shared.book.indices().find(receiver).0;
                            (shared.owner(slot), slot)
                        }
                    };
                    if owner != worker {
                        // Only what has a session is worth the way.
                        let found = Receiving::find(&shared.book, &shared.peers, receiver, now);
                        burst.decide(
                            i,
                            match found.and_then(|found| found.admit(counter)) {
                                Ok(()) => Verdict::Worker(owner as u8, *ahead),
                                // Its owner has not gone on with these peers yet.
                                Err(Refused::Unknown) if shared.peers.is_new(&shared.book, slot) => {
                                    Verdict::Worker(owner as u8, *ahead)
                                }
                                Err(refused) => Verdict::Drop(reason(refused)),
                            },
                        );
                        continue;
                    }
                    match admit(shared, (&mut groups, known), burst, i, &datagram, (receiver, counter), now) {
                        Ok(opening) => {
                            openings.push(opening);
                            mask |= 1 << i;
                        }
                        Err(reason) => burst.decide(i, Verdict::Drop(reason)),
                    }
                }
                _ if !screen.admits(datagram.from.ip(), &shared.with.hash_key, now) => {
                    burst.decide(i, Verdict::Drop(DropReason::WireguardOverload));
                }
                _ => {
                    let verdict = handshake(shared, burst, i, &datagram, worker, now);
                    burst.decide(i, verdict);
                }
            }
        }
        if mask == 0 {
            return;
        }
        let authentic = open(shared, burst, mask, &openings, &groups);
        let (mut opened, routes) = (false, shared.routing.routes());
        for (i, opening) in zsync_packet::burst::Bits(mask).zip(&openings) {
            let group = &mut groups[usize::from(opening.group)];
            let verdict = if authentic >> i & 1 == 0 {
                Verdict::Drop(DropReason::WireguardForged)
            } else {
                take(shared, group, opening, worker, now)
                    .and_then(|()| unwrap(shared, burst, i, opening, group, (ports, &routes, back)))
                    .unwrap_or_else(Verdict::Drop)
            };
            match verdict {
                Verdict::Next => opened = true,
                verdict => burst.decide(i, verdict),
            }
        }
        for group in &groups {
            if group.bytes > 0 {
                group.receiving.note(group.data, group.bytes, now);
            }
        }
        if opened {
            // Of the undecided packets those that were opened are not parsed.
            parse.process(burst, cx);
        }
    }

    fn assign(&mut self, worker: usize) {
        (self.worker, self.ready) = (worker, false);
    }

    fn explain(&self, burst: &Burst, i: usize, now: u64, out: &mut Vec<String>) {
        let shared = &self.tunnel.0;
        let Some(datagram) = Letterbox::of(shared).datagram(burst, i) else {
            out.push(format!("no datagram to the tunnel's port {}: it stays as it is", shared.settings.port));
            return;
        };
        let payload = burst.bytes(i).get(datagram.at..datagram.at + datagram.len).unwrap_or(&[]);
        out.push(match Message::parse(payload) {
            Ok(Message::Data { receiver, counter }) => {
                match Receiving::find(&shared.book, &shared.peers, receiver, now) {
                    Ok(found) => format!("data of the peer {}, counter {counter}", found.record.public()),
                    Err(Refused::Expired) => "data of a session that is over".to_owned(),
                    Err(_) => "data of no session that is there".to_owned(),
                }
            }
            Ok(Message::Initiation(_)) => "the first message of a handshake".to_owned(),
            Ok(Message::Response(_)) => "the second message of a handshake".to_owned(),
            Ok(Message::CookieReply(_)) => "a cookie".to_owned(),
            Err(malformed) => format!("to the tunnel's port, but {malformed}"),
        });
    }
}

/// Puts a handshake message on the desk.
#[cold]
fn handshake(
    shared: &Shared,
    burst: &Burst,
    i: usize,
    datagram: &Datagram,
    worker: usize,
    now: u64,
) -> Verdict {
    let message = burst.bytes(i).get(datagram.at..datagram.at + datagram.len).unwrap_or(&[]);
    if !is_intact(burst, i) {
        return Verdict::Drop(DropReason::WireguardForged);
    }
    let Some(mut office) = shared.office(worker, now) else {
        return Verdict::Drop(DropReason::WireguardOverload);
    };
    let endpoint = Endpoint { remote: datagram.from, local: datagram.to };
    let taken = office.change(|office| Some(office.desk.as_mut()?.handle_input(message, endpoint, now)));
    match taken {
        Some(Ok(())) => Verdict::Consume,
        Some(Err(Rejected::Forged)) => Verdict::Drop(DropReason::WireguardForged),
        Some(Err(Rejected::Overload)) | None => Verdict::Drop(DropReason::WireguardOverload),
    }
}

/// Opens the messages of `mask` as one batch. Returns those that are authentic.
#[inline]
fn open(shared: &Shared, burst: &mut Burst, mask: u64, openings: &[Opening], groups: &[Group<'_>]) -> u64 {
    let mut jobs: ArrayVec<Job<'_>, BURST> = ArrayVec::new();
    let mut numbers: ArrayVec<u8, BURST> = ArrayVec::new();
    for ((i, bytes), opening) in burst.each_mut(mask).zip(openings) {
        let (at, len) = (usize::from(opening.at), usize::from(opening.len));
        let Some(data) = bytes.get_mut(at + DATA_HEADER_LEN..at + len) else { continue };
        let key = &groups[usize::from(opening.group)].key;
        jobs.push(Job::new(key, data_nonce(opening.counter), &[], data));
        numbers.push(i as u8);
    }
    shared.aead.open(&mut jobs);
    jobs.iter().zip(&numbers).filter(|(job, _)| job.is_done()).fold(0, |mask, (_, i)| mask | 1 << i)
}

/// Takes an authentic message: its counter, and where it came from.
#[inline]
fn take(
    shared: &Shared,
    group: &mut Group<'_>,
    opening: &Opening,
    worker: usize,
    now: u64,
) -> Result<(), DropReason> {
    let first = group.receiving.take(opening.counter).map_err(reason)?;
    if let Some(endpoint) = opening.moved {
        group.receiving.record.set_endpoint(endpoint);
    }
    if first && let Some(mut office) = shared.office(worker, now) {
        let unix = shared.unix(now);
        office.change(|office| {
            if let Some(desk) = &mut office.desk {
                desk.confirmed(group.receiving.slot, unix);
            }
        });
    }
    group.bytes += u64::from(opening.len);
    Ok(())
}

/// Leaves the inner packet of an opened message.
#[inline]
fn unwrap(
    shared: &Shared,
    burst: &mut Burst,
    i: usize,
    opening: &Opening,
    group: &mut Group<'_>,
    (ports, routes, back): (&[PortFacts], &Routes<'_>, u8),
) -> Result<Verdict, DropReason> {
    const MALFORMED: DropReason = DropReason::TunnelMalformed;
    if usize::from(opening.len) == OVERHEAD {
        // An empty message says that the peer is there.
        return Ok(Verdict::Consume);
    }
    group.data = true;
    let mac = ports.get(usize::from(burst.port(i).0)).ok_or(DropReason::NoSuchPort)?.mac;
    let at = usize::from(opening.at) + DATA_HEADER_LEN;
    let text = usize::from(opening.len) - OVERHEAD;
    let bytes = burst.bytes_mut(i).get_mut(at..at + text).ok_or(MALFORMED)?;
    let inner = Inner::of(bytes).filter(|inner| inner.len <= text).ok_or(MALFORMED)?;
    let ecn = ecn_out(inner.tos & 3, opening.ecn).ok_or(MALFORMED)?;
    let packet = bytes.get_mut(..inner.len).ok_or(MALFORMED)?;
    let (source, kind) = source(packet).ok_or(MALFORMED)?;
    if routes.of(source) != Some(group.receiving.slot) {
        return Err(DropReason::WireguardSource);
    }
    if ecn != inner.tos & 3 {
        set_ecn(packet, ecn);
    }
    clamp(packet, shared.settings.mtu);
    // The outer headers are longer than the one that takes their place.
    if !burst.set_len(i, at + inner.len) || !burst.trim_front(i, at - ethernet::HEADER_LEN) {
        return Err(MALFORMED);
    }
    if let Some(header) = burst.bytes_mut(i).first_chunk_mut::<{ ethernet::HEADER_LEN }>() {
        header[..6].copy_from_slice(&mac);
        header[6..12].fill(0);
        header[12..].copy_from_slice(&kind.to_be_bytes());
    }
    let known = *burst.facts(i);
    *burst.facts_mut(i) = Facts { vlan: known.vlan, mark: known.mark, tunnel: back, ..Facts::default() };
    Ok(Verdict::Next)
}

/// Where a packet comes from that is valid as far as its header goes, and its type.
#[inline]
fn source(packet: &[u8]) -> Option<(IpAddr, u16)> {
    if packet.first()? >> 4 == 4 {
        Some((IpAddr::from(*packet.get(12..)?.first_chunk::<4>()?), ether_type::IPV4))
    } else {
        Some((IpAddr::from(*packet.get(8..)?.first_chunk::<16>()?), ether_type::IPV6))
    }
}
