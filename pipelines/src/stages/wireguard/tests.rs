use super::open::Open;
use super::seal::Seal;
use super::*;
use crate::stage::{Cx, Extra, Stage};
use crate::stages::fixture::{IN, MAC_IN, OUT, on_v4, on_v6, ports};
use crate::stages::parse::Parse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec};
use zsync_packet::header::{Ipv4, protocol};
use zsync_packet::pool::Pool;
use zsync_packet::verdict::{DropReason, Verdict};
use zsync_wireguard::desk::PACE;
use zsync_wireguard::record::{Fact, Role};

mod by_socket;
mod growth;
mod nowhere;
mod pair;

pub(super) const SECOND: u64 = 1_000_000_000;
const EPOCH: u64 = 1_700_000_000 * SECOND;
const PORT: u16 = 51820;

/// A gateway: both stages of a tunnel, and what runs them.
pub(super) struct End {
    seed: u8,
    v6: bool,
    memory: Region,
    slots: u32,
    pool: Pool,
    burst: Burst,
    extra: Extra,
    parse: Parse,
    open: Open,
    seal: Seal,
    pub(super) drops: BTreeMap<&'static str, u64>,
    pub(super) consumed: u64,
}

fn private(seed: u8) -> Secret {
    Secret::new([seed; 32])
}

fn outside(seed: u8, v6: bool) -> SocketAddr {
    if v6 {
        SocketAddr::new(format!("2001:db8::{seed}").parse().unwrap(), PORT)
    } else {
        SocketAddr::from(([192, 0, 2, seed], PORT))
    }
}

pub(super) fn entropy(seed: u64) -> Entropy {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    Box::new(move |bytes| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
        true
    })
}

/// What an end with this seed is told: its peers are the ends with those.
fn settings(seed: u8, peers: &[u8], v6: bool, knows: bool) -> Settings {
    let of = |peer: &u8| {
        let configured = Peer {
            public: private(*peer).public(),
            preshared: Secret::new([3; 32]),
            endpoint: knows.then(|| outside(*peer, v6)),
            keepalive: 0,
        };
        let inner = [format!("10.0.{peer}.0/24"), format!("fd00:{peer}::/32")];
        (configured, inner.iter().map(|text| text.parse().unwrap()).collect())
    };
    Settings {
        private: private(seed),
        port: PORT,
        local: vec![outside(seed, v6).ip()],
        to: None,
        mtu: 1420,
        dscp: None,
        slots: 4,
        peers: peers.iter().map(of).collect(),
    }
}

impl End {
    /// `knows`: it knows where its peers are.
    pub(super) fn new(seed: u8, peers: &[u8], v6: bool, knows: bool) -> Self {
        let memory = Region::heap(Book::bytes(4));
        let pool = Pool::heap(FrameSize::K2, 512, 1).unwrap().remove(0);
        let tunnel = Self::tunnel(&memory, settings(seed, peers, v6, knows), seed, None);
        let burst = Burst::new(pool.arena().clone());
        let mut end = Self {
            seed,
            v6,
            memory,
            slots: 4,
            pool,
            burst,
            extra: Extra::new(),
            parse: Parse::new(ports(), true),
            open: Open::new(tunnel.clone(), ports(), 0, None),
            seal: Seal::new(tunnel, ports(), 0, Some(OUT)),
            drops: BTreeMap::new(),
            consumed: 0,
        };
        end.open.assign(0);
        end.seal.assign(0);
        end
    }

    fn tunnel(memory: &Region, settings: Settings, seed: u8, before: Option<&Tunnel>) -> Tunnel {
        let with = With {
            memory: memory.clone(),
            workers: 1,
            hash_key: HashKey::from_seed(u64::from(seed)),
            ports: ports(),
            fib: None,
        };
        let tunnel = Tunnel::new(settings, with, before).unwrap();
        match before {
            Some(_) => tunnel,
            None => tunnel.repeatable(Wall::Since(EPOCH), |_| entropy(u64::from(seed))),
        }
    }

    /// A new configuration, in the same process (`crash`: in another one).
    fn reload(&mut self, peers: &[u8], knows: bool, crash: bool) {
        let before = (!crash).then(|| self.seal.tunnel().clone());
        let seed = self.seed.wrapping_add(if crash { 100 } else { 0 });
        let settings = Settings { slots: self.slots, ..settings(self.seed, peers, self.v6, knows) };
        let with = With {
            memory: self.memory.clone(),
            workers: 1,
            hash_key: HashKey::from_seed(u64::from(self.seed)),
            ports: ports(),
            fib: None,
        };
        let tunnel = Tunnel::new(settings, with, before.as_ref()).unwrap();
        let tunnel = match crash {
            true => tunnel.repeatable(Wall::Since(EPOCH), |_| entropy(u64::from(seed))),
            false => tunnel,
        };
        (self.open, self.seal) =
            (Open::new(tunnel.clone(), ports(), 0, None), Seal::new(tunnel, ports(), 0, Some(OUT)));
        self.open.assign(0);
        self.seal.assign(0);
    }

    fn fill(&mut self, frames: &[Vec<u8>]) {
        for bytes in frames {
            let mut frame = self.pool.alloc().unwrap();
            let len = bytes.len() as u16;
            self.pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(bytes);
            self.burst.push(Packet { frame, start: HEADROOM as u16, len, port: IN }).unwrap();
        }
    }

    /// What is left undecided; all else is counted.
    fn drained(&mut self) -> Vec<Vec<u8>> {
        let mut left = Vec::new();
        let Self { burst, pool, drops, consumed, seal, .. } = self;
        let to = seal.tunnel().0.settings.to;
        burst.drain(|packet, verdict, _| {
            match verdict {
                Verdict::Next => {
                    left.push(pool.arena().bytes(&packet.frame, packet.start, packet.len).to_vec())
                }
                Verdict::Transmit(port) if Some(port) == to => {
                    left.push(pool.arena().bytes(&packet.frame, packet.start, packet.len).to_vec());
                }
                Verdict::Drop(reason) => *drops.entry(reason.label()).or_default() += 1,
                Verdict::Consume => *consumed += 1,
                other => *drops.entry(Box::leak(format!("{other:?}").into_boxed_str())).or_default() += 1,
            }
            pool.free(packet.frame);
        });
        self.extra.drain().for_each(|made| self.pool.free(made.packet.frame));
        assert_eq!(self.pool.audit(0, 0).pool, 512);
        left
    }

    /// Packets from inside: the outer ones that leave.
    pub(super) fn inside(&mut self, frames: &[Vec<u8>], now: u64) -> Vec<Vec<u8>> {
        self.fill(frames);
        let mut cx = Cx::new(now, &mut self.pool, &mut self.extra);
        self.parse.process(&mut self.burst, &mut cx);
        self.seal.process(&mut self.burst, &mut cx);
        self.drained()
    }

    /// Packets from outside: the inner ones.
    pub(super) fn outside(&mut self, frames: &[Vec<u8>], now: u64) -> Vec<Vec<u8>> {
        let to_us = |frame: &Vec<u8>| [&MAC_IN, &frame[6..]].concat();
        self.fill(&frames.iter().map(to_us).collect::<Vec<_>>());
        let mut cx = Cx::new(now, &mut self.pool, &mut self.extra);
        self.parse.process(&mut self.burst, &mut cx);
        self.open.process(&mut self.burst, &mut cx);
        self.drained()
    }

    /// What it says of itself.
    pub(super) fn tick(&mut self, now: u64) -> Vec<Vec<u8>> {
        let mut cx = Cx::new(now, &mut self.pool, &mut self.extra);
        self.seal.emit(&mut self.burst, &mut cx);
        self.drained()
    }

    pub(super) fn record<T>(
        &self,
        peer: u8,
        then: impl FnOnce(zsync_wireguard::record::Record<'_>) -> T,
    ) -> T {
        let tunnel = self.seal.tunnel();
        let slot = tunnel.peers().slot(&private(peer).public()).unwrap();
        then(tunnel.peers().record(tunnel.book(), slot).unwrap())
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason.label()).copied().unwrap_or(0)
    }
}

/// An inner packet between the networks of two ends.
pub(super) fn inner(from: u8, to: u8, v6: bool, payload: &[u8]) -> Vec<u8> {
    if v6 {
        let (from, to) =
            (format!("fd00:{from}::5").parse().unwrap(), format!("fd00:{to}::6").parse().unwrap());
        on_v6(&Ipv6Spec::new(from, to, 253), payload)
    } else {
        on_v4(&Ipv4Spec::new([10, 0, from, 5].into(), [10, 0, to, 6].into(), 253), payload)
    }
}

/// Lets both ends talk until nothing is said any more, from `now` on. Returns what came out inside of each.
pub(super) fn settle(
    a: &mut End,
    b: &mut End,
    mut now: u64,
    said: Vec<Vec<u8>>,
) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut to_b, mut to_a) = (said, Vec::new());
    let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        now += PACE;
        at_b.extend(b.outside(&std::mem::take(&mut to_b), now));
        at_a.extend(a.outside(&std::mem::take(&mut to_a), now));
        to_b.extend(a.tick(now));
        to_a.extend(b.tick(now));
    }
    (at_a, at_b)
}

fn connected(v6: bool) -> (End, End) {
    let (mut a, mut b) = (End::new(1, &[2], v6, true), End::new(2, &[1], v6, false));
    let first = a.inside(&[inner(1, 2, false, b"first")], SECOND);
    assert_eq!(first, Vec::<Vec<u8>>::new(), "it waits for a session");
    let (_, came) = settle(&mut a, &mut b, SECOND, first);
    assert_eq!(came.len(), 1);
    assert!(came[0].ends_with(b"first"));
    (a, b)
}

#[test]
fn packets_of_both_families_go_both_ways_through_tunnels_of_both() {
    for outer in [false, true] {
        let (mut a, mut b) = connected(outer);
        for v6 in [false, true] {
            let sent: Vec<_> = (0..64).map(|n| inner(1, 2, v6, &vec![n as u8; n * 21])).collect();
            let sealed = a.inside(&sent, 2 * SECOND);
            assert_eq!(sealed.len(), 64);
            for (sealed, sent) in sealed.iter().zip(&sent) {
                assert!(
                    !sealed.windows(20).any(|window| window == &sent[sent.len().saturating_sub(20)..])
                        || sent.len() < 60
                );
            }
            let opened = b.outside(&sealed, 2 * SECOND);
            assert_eq!(opened.len(), 64);
            for (opened, sent) in opened.iter().zip(&sent) {
                assert_eq!(opened[26..], sent[26..], "all but hops and the checksum");
                let (was, is) = if v6 { (sent[21], opened[21]) } else { (sent[22], opened[22]) };
                assert_eq!(is, was - 1, "the tunnel is a hop");
            }
            let back = b.inside(&[inner(2, 1, v6, b"back")], 2 * SECOND);
            assert_eq!(a.outside(&back, 2 * SECOND).len(), 1);
        }
        assert_eq!((a.drops.len(), b.drops.len()), (0, 0), "{:?} {:?}", a.drops, b.drops);
    }
}

#[test]
fn what_comes_again_or_was_changed_is_refused() {
    let (mut a, mut b) = connected(false);
    let sealed = a.inside(&[inner(1, 2, false, b"once"), inner(1, 2, false, b"changed")], 2 * SECOND);
    let mut changed = sealed[1].clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(b.outside(&[sealed[0].clone(), sealed[0].clone(), changed], 2 * SECOND).len(), 1);
    assert_eq!(b.outside(&sealed, 2 * SECOND).len(), 1, "the one that was changed comes as it was");
    assert_eq!((b.dropped(DropReason::WireguardReplayed), b.dropped(DropReason::WireguardForged)), (2, 1));
}

#[test]
fn a_peer_may_send_from_its_own_addresses_alone() {
    let (mut a, mut b) = (End::new(1, &[2], false, true), End::new(2, &[1, 3], false, false));
    a.inside(&[inner(1, 2, false, b"first")], SECOND);
    settle(&mut a, &mut b, SECOND, Vec::new());
    let sealed = a.inside(&[inner(3, 2, false, b"not mine"), inner(1, 2, false, b"mine")], 2 * SECOND);
    assert_eq!(b.outside(&sealed, 2 * SECOND).len(), 1);
    assert_eq!(b.dropped(DropReason::WireguardSource), 1);
}

#[test]
fn a_peer_that_moves_is_followed_when_it_shows_who_it_is() {
    let (mut a, mut b) = connected(false);
    let elsewhere = |frame: &Vec<u8>| {
        let ip = Ipv4::parse(&frame[14..]).unwrap();
        let (to, payload) = (ip.destination(), &ip.payload()[8..]);
        let from: std::net::Ipv4Addr = [198, 51, 100, 7].into();
        let addresses = zsync_packet::checksum::Sum::addresses_v4(from, to);
        on_v4(&Ipv4Spec::new(from, to, protocol::UDP), &build::udp(addresses, 999, PORT, payload))
    };
    let mut sealed: Vec<_> =
        a.inside(&[inner(1, 2, false, b"x")], 2 * SECOND).iter().map(elsewhere).collect();
    let mut forged = sealed[0].clone();
    *forged.last_mut().unwrap() ^= 0x10;
    b.outside(&[forged], 2 * SECOND);
    assert_eq!(
        b.record(1, |record| record.endpoint().unwrap().remote),
        outside(1, false),
        "whoever forges does not move it"
    );
    // With a port that was not sent.
    sealed.push(sealed[0].clone());
    sealed[0][35] ^= 1;
    assert_eq!(b.outside(&sealed[..1], 2 * SECOND).len(), 0);
    assert_eq!(b.outside(&sealed[1..], 2 * SECOND).len(), 1);
    assert_eq!(b.record(1, |record| record.endpoint().unwrap().remote), "198.51.100.7:999".parse().unwrap());
    let back = b.inside(&[inner(2, 1, false, b"y")], 2 * SECOND);
    assert_eq!(
        Ipv4::parse(&back[0][14..]).unwrap().destination(),
        std::net::Ipv4Addr::from([198, 51, 100, 7])
    );
}

#[test]
fn foreign_datagrams_go_on_and_broken_ones_are_counted() {
    let (_, mut b) = connected(false);
    let to = |port: u16, payload: &[u8]| {
        let (from, to): (std::net::Ipv4Addr, std::net::Ipv4Addr) =
            ([192, 0, 2, 9].into(), [192, 0, 2, 2].into());
        let addresses = zsync_packet::checksum::Sum::addresses_v4(from, to);
        on_v4(&Ipv4Spec::new(from, to, protocol::UDP), &build::udp(addresses, 7, port, payload))
    };
    assert_eq!(
        b.outside(&[to(PORT + 1, b"dns"), inner(9, 9, false, b"z"), to(53, &[4; 100])], SECOND).len(),
        3
    );
    let garbage = [to(PORT, b""), to(PORT, &[1; 148]), to(PORT, &[4, 0, 0]), to(PORT, &[9; 64])];
    assert_eq!(b.outside(&garbage, SECOND).len(), 0);
    assert_eq!(b.dropped(DropReason::WireguardForged), 4);
    let mut data = [0x55; 64];
    data[..4].copy_from_slice(&[4, 0, 0, 0]);
    assert_eq!(b.outside(&[to(PORT, &data)], SECOND).len(), 0);
    assert_eq!(b.dropped(DropReason::WireguardUnknown), 1);
}

#[test]
fn what_is_too_long_is_told_and_segments_are_kept_short() {
    let (mut a, mut b) = connected(false);
    let long =
        Ipv4Spec { dont_fragment: true, ..Ipv4Spec::new([10, 0, 1, 5].into(), [10, 0, 2, 6].into(), 253) };
    assert_eq!(
        a.inside(&[on_v4(&long, &[0; 1401])], 2 * SECOND).len(),
        0,
        "an answer leaves by the port that it came in by"
    );
    let fits = a.inside(&[on_v4(&long, &[0; 1400])], 2 * SECOND);
    assert_eq!(
        fits[0].len(),
        14 + 20 + 8 + 32 + 1420,
        "padding does not make it longer than the tunnel takes"
    );
    let may = Ipv4Spec { dont_fragment: false, ..long };
    let outer = a.inside(&[on_v4(&may, &[0; 1450])], 2 * SECOND);
    assert!(!Ipv4::parse(&outer[0][14..]).unwrap().dont_fragment(), "the outer packet may be taken apart");
    let syn = build::TcpSpec {
        options: vec![2, 4, 0x05, 0xb4],
        ..build::TcpSpec::new(1000, 80, zsync_packet::header::TcpFlags::SYN)
    };
    let ip = Ipv4Spec::new([10, 0, 1, 5].into(), [10, 0, 2, 6].into(), protocol::TCP);
    let sealed = a.inside(&[on_v4(&ip, &syn.segment(ip.address_sum(), &[]))], 2 * SECOND);
    let opened = b.outside(&sealed, 2 * SECOND);
    let segment = zsync_packet::header::Tcp::parse(Ipv4::parse(&opened[0][14..]).unwrap().payload()).unwrap();
    segment.verify_checksum(Ipv4::parse(&opened[0][14..]).unwrap().address_sum()).unwrap();
    assert_eq!(opened[0][14 + 20 + 20 + 2..][..2], 1380u16.to_be_bytes());
}

#[test]
fn congestion_marks_go_in_and_come_out() {
    let (mut a, mut b) = connected(true);
    let ect = Ipv4Spec { tos: 0xb8 | 2, ..Ipv4Spec::new([10, 0, 1, 5].into(), [10, 0, 2, 6].into(), 253) };
    let mut sealed =
        a.inside(&[on_v4(&ect, b"marked"), on_v4(&Ipv4Spec { tos: 0, ..ect.clone() }, b"not")], 2 * SECOND);
    assert_eq!(sealed[0][14..16], [0x6b, 0xa0 | sealed[0][15] & 0xf], "DSCP and ECN of the inner packet");
    // Both met congestion.
    sealed.iter_mut().for_each(|frame| frame[15] |= 0x30);
    let opened = b.outside(&sealed, 2 * SECOND);
    assert_eq!((opened.len(), opened[0][15] & 3), (1, 3));
    assert_eq!(b.dropped(DropReason::TunnelMalformed), 1, "one that cannot be marked is dropped");
}

#[test]
fn a_reload_and_a_crash_keep_sessions() {
    let (mut a, mut b) = connected(false);
    let next = a.record(2, |record| record.session(Role::Current).unwrap().next_counter());
    a.reload(&[2, 3], true, false);
    assert_eq!(b.outside(&a.inside(&[inner(1, 2, false, b"reload")], 2 * SECOND), 2 * SECOND).len(), 1);
    a.reload(&[2, 3], true, true);
    let sealed = a.inside(&[inner(1, 2, false, b"crash")], 2 * SECOND);
    assert_eq!(b.outside(&sealed, 2 * SECOND).len(), 1);
    assert!(a.record(2, |record| record.session(Role::Current).unwrap().next_counter()) > next + 1000);
    assert_eq!(a.record(2, |record| record.fact(Fact::Initiated)) / SECOND, 1, "no other handshake");
    b.reload(&[1], false, true);
    assert_eq!(b.outside(&a.inside(&[inner(1, 2, false, b"both")], 3 * SECOND), 3 * SECOND).len(), 1);
    assert_eq!(b.outside(&sealed, 3 * SECOND).len(), 0, "what came before the crash");
    b.reload(&[], false, false);
    assert_eq!(b.outside(&a.inside(&[inner(1, 2, false, b"gone")], 3 * SECOND), 3 * SECOND).len(), 0);
}

#[test]
fn a_handshake_goes_on_over_a_reload() {
    let (mut a, mut b) = (End::new(1, &[2], false, true), End::new(2, &[1], false, false));
    a.inside(&[inner(1, 2, false, b"first")], SECOND);
    a.tick(SECOND);
    let initiation = a.tick(SECOND + PACE);
    b.outside(&initiation, SECOND + PACE);
    let response = b.tick(SECOND + PACE);
    a.reload(&[2, 3], true, false);
    a.outside(&response, SECOND + 2 * PACE);
    let waited = a.tick(SECOND + 3 * PACE);
    assert_eq!(b.outside(&waited, SECOND + 3 * PACE).len(), 1);
    // Who gets the slot of a peer that leaves gets nothing of what waited for it.
    let mut c = End::new(1, &[3], false, true);
    c.inside(&[inner(1, 3, false, b"for 3")], SECOND);
    c.tick(SECOND);
    c.reload(&[2], true, false);
    let mut b = End::new(2, &[1], false, false);
    let (_, came) = settle(&mut c, &mut b, 2 * SECOND, Vec::new());
    assert!(!came.iter().any(|frame| frame.ends_with(b"for 3")), "{came:?}");
}

#[test]
fn packets_wait_in_order_and_only_so_many() {
    let (mut a, mut b) = (End::new(1, &[2], false, true), End::new(2, &[1], false, false));
    let many: Vec<_> = (0..40u8).map(|n| inner(1, 2, false, &[n])).collect();
    a.inside(&many, SECOND);
    assert_eq!(a.dropped(DropReason::WireguardNoSession), 8);
    let (_, came) = settle(&mut a, &mut b, SECOND, Vec::new());
    assert_eq!(came.iter().map(|frame| frame[34]).collect::<Vec<_>>(), (0..32).collect::<Vec<_>>());
}

#[test]
fn what_the_host_sends_itself_has_passed_no_router() {
    let (mut a, mut b) = connected(false);
    let facts = ports().into_iter().map(|port| PortFacts { of_host: true, ..port }).collect();
    let tunnel = a.seal.tunnel().clone();
    a.seal = Seal::new(tunnel, facts, 0, Some(OUT));
    a.seal.assign(0);
    let v4 = Ipv4Spec { ttl: 1, ..Ipv4Spec::new([10, 0, 1, 5].into(), [10, 0, 2, 6].into(), 253) };
    let (from, to) = ("fd00:1::5".parse().unwrap(), "fd00:2::6".parse().unwrap());
    let v6 = Ipv6Spec { hop_limit: 1, ..Ipv6Spec::new(from, to, 253) };
    let sent = [on_v4(&v4, b"last"), on_v6(&v6, b"last")];
    let opened = b.outside(&a.inside(&sent, 2 * SECOND), 2 * SECOND);
    assert_eq!((opened[0][22], opened[1][21]), (1, 1), "{opened:?}");
}

#[test]
fn what_waits_for_a_peer_that_never_answers_is_given_up_and_counted() {
    let mut a = End::new(1, &[2], false, true);
    assert!(a.inside(&[inner(1, 2, false, b"one"), inner(1, 2, false, b"two")], SECOND).is_empty());
    let given_up = |a: &End| a.seal.tunnel().book().counted(Count::GivenUp);
    let tried = (10..1200).filter(|n| !a.tick(n * SECOND / 10).is_empty()).count();
    // Every five seconds for a minute and a half (REKEY_TIMEOUT, REKEY_ATTEMPT_TIME).
    assert!((15..=19).contains(&tried), "{tried}");
    assert_eq!((given_up(&a), a.consumed), (2, 2));
}
