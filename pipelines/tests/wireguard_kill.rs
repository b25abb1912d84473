//! A tunnel whose worker is killed, at every instruction: no nonce is ever used twice, and the tunnel goes on.
//!
//! A child process seals packets, or answers a handshake, one instruction at a time (ptrace), over memory that it shares with
//! its parent: the peers' records, and the frames, from which the kernel might send at any moment. Whatever is there after an
//! instruction is what a successor would find, and what the wire may have seen.

mod stepping;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use stepping::{copy, shared, step_through, words};
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::build::{self, Ipv4Spec};
use zsync_packet::header::ether_type;
use zsync_packet::ledger::ledger_bytes;
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::{PortId, Verdict};
use zsync_pipelines::snapshot::PortFacts;
use zsync_pipelines::stage::{Cx, Extra, Stage};
use zsync_pipelines::stages::parse::Parse;
use zsync_pipelines::stages::wireguard::open::Open;
use zsync_pipelines::stages::wireguard::seal::Seal;
use zsync_pipelines::stages::wireguard::{Settings, Tunnel, Wall, With};
use zsync_wireguard::book::{Book, Peer};
use zsync_wireguard::desk::{Entropy, PACE};
use zsync_wireguard::key::Secret;
use zsync_wireguard::message::Message;

const SECOND: u64 = 1_000_000_000;
const FRAMES: u32 = 8;
const SLOTS: u32 = 2;
/// After growth.
const GROWN: u32 = 4;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Ethernet, IPv4 and UDP headers.
const OUTER: usize = 42;

fn private(seed: u8) -> Secret {
    Secret::new([seed; 32])
}

fn address(seed: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, seed], 51820))
}

fn entropy(seed: u8) -> Entropy {
    let mut state = u64::from(seed) << 40 | 1;
    Box::new(move |bytes| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
        true
    })
}

fn ports() -> Vec<PortFacts> {
    vec![PortFacts { mac: MAC, mtu: 1500, ..PortFacts::default() }]
}

/// A gateway over this memory.
struct End {
    pool: Pool,
    burst: Burst,
    extra: Extra,
    parse: Parse,
    open: Open,
    seal: Seal,
}

impl End {
    /// Number `us`, whose peer is number `them`; `process` makes its randomness another's.
    fn new(us: u8, them: u8, book: Region, arena: Region, process: u8) -> Self {
        let (open, seal) = Self::stages((us, them), book, process, None);
        let ledger = Region::heap(ledger_bytes(FRAMES));
        // SAFETY: nobody else has a pool over this memory; a child of this process has a copy of this one, and ends.
        let pools = unsafe { Pool::open(arena, ledger, FrameSize::K2, FRAMES, 1, false) };
        let pool = pools.unwrap().remove(0);
        let burst = Burst::new(pool.arena().clone());
        Self { pool, burst, extra: Extra::new(), parse: Parse::new(ports(), true), open, seal }
    }

    /// Both stages over this memory, behind those of the same process `before`.
    fn stages((us, them): (u8, u8), book: Region, process: u8, before: Option<&Tunnel>) -> (Open, Seal) {
        let peer = Peer {
            public: private(them).public(),
            preshared: Secret::new([0; 32]),
            endpoint: Some(address(them)),
            keepalive: 0,
        };
        let settings = Settings {
            private: private(us),
            port: 51820,
            local: vec![address(us).ip()],
            to: None,
            mtu: 1420,
            dscp: None,
            // As many as there is room for.
            slots: if book.len() < Book::bytes(GROWN) { SLOTS } else { GROWN },
            peers: vec![(peer, vec![format!("10.0.{them}.0/24").parse().unwrap()])],
        };
        let hash_key = HashKey::from_seed(u64::from(us));
        let with = With { memory: book, workers: 1, hash_key, ports: ports(), fib: None };
        let mut tunnel = Tunnel::new(settings, with, before).unwrap();
        if before.is_none() {
            tunnel = tunnel.repeatable(Wall::Since(1_700_000_000 * SECOND), |_| entropy(us ^ process));
        }
        let mut open = Open::new(tunnel.clone(), ports(), 0, None);
        let mut seal = Seal::new(tunnel, ports(), 0, Some(PortId(0)));
        open.assign(0);
        seal.assign(0);
        (open, seal)
    }

    /// Goes on in other memory.
    fn grow(&mut self, ends: (u8, u8), book: Region) {
        let before = self.seal.tunnel().clone();
        (self.open, self.seal) = Self::stages(ends, book, 0, Some(&before));
    }

    fn heap(us: u8, them: u8, book: Region, process: u8) -> Self {
        Self::new(us, them, book, Region::heap(FRAMES as usize * 2048), process)
    }

    fn run(&mut self, frames: &[Vec<u8>], now: u64, inside: bool) -> Vec<Vec<u8>> {
        for bytes in frames {
            let (mut frame, len) = (self.pool.alloc().unwrap(), bytes.len() as u16);
            self.pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(bytes);
            self.burst.push(Packet { frame, start: HEADROOM as u16, len, port: PortId(0) }).unwrap();
        }
        let mut cx = Cx::new(now, &mut self.pool, &mut self.extra);
        self.parse.process(&mut self.burst, &mut cx);
        if inside {
            self.seal.process(&mut self.burst, &mut cx);
        } else {
            self.open.process(&mut self.burst, &mut cx);
        }
        self.drain()
    }

    fn drain(&mut self) -> Vec<Vec<u8>> {
        let (mut left, Self { burst, pool, .. }) = (Vec::new(), self);
        burst.drain(|packet, verdict, _| {
            if verdict == Verdict::Next {
                left.push(pool.arena().bytes(&packet.frame, packet.start, packet.len).to_vec());
            }
            pool.free(packet.frame);
        });
        left
    }

    fn inside(&mut self, count: u8, (from, to): (u8, u8), now: u64) -> Vec<Vec<u8>> {
        let packet = |n: u8| {
            let ip = Ipv4Spec::new(Ipv4Addr::new(10, 0, from, 1), Ipv4Addr::new(10, 0, to, 1), 253);
            build::ethernet(MAC, [2; 6], &[], ether_type::IPV4, &ip.packet(&[n; 30]))
        };
        self.run(&(0..count).map(packet).collect::<Vec<_>>(), now, true)
    }

    fn outside(&mut self, frames: &[Vec<u8>], now: u64) -> Vec<Vec<u8>> {
        let to_us = |frame: &Vec<u8>| [&MAC, &frame[6..]].concat();
        self.run(&frames.iter().map(to_us).collect::<Vec<_>>(), now, false)
    }

    fn tick(&mut self, now: u64) -> Vec<Vec<u8>> {
        let mut cx = Cx::new(now, &mut self.pool, &mut self.extra);
        self.seal.emit(&mut self.burst, &mut cx);
        self.drain()
    }
}

/// Receivers and counters of all data messages whose headers are anywhere in these frames.
fn wire(arena: &[u64], receivers: &BTreeSet<u32>) -> BTreeSet<(u32, u64)> {
    let bytes: Vec<u8> = arena.iter().flat_map(|word| word.to_le_bytes()).collect();
    let headers = bytes.windows(32).filter_map(|window| match Message::parse(window) {
        Ok(Message::Data { receiver, counter }) if receivers.contains(&receiver) => Some((receiver, counter)),
        _ => None,
    });
    headers.collect()
}

fn nonce(frame: &[u8]) -> (u32, u64) {
    match Message::parse(&frame[OUTER..]) {
        Ok(Message::Data { receiver, counter }) => (receiver, counter),
        other => panic!("{other:?}"),
    }
}

/// Both ends, connected; the first one's memory is shared with children.
fn connected() -> (End, End, Region, Region) {
    let book = shared(Book::bytes(SLOTS).next_multiple_of(4096));
    let arena = shared(FRAMES as usize * 2048);
    let mut a = End::new(1, 2, book.clone(), arena.clone(), 0);
    let mut b = End::heap(2, 1, Region::heap(Book::bytes(SLOTS)), 0);
    a.inside(1, (1, 2), SECOND);
    let mut now = SECOND;
    let (mut to_a, mut to_b) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        now += PACE;
        b.outside(&to_b, now);
        a.outside(&to_a, now);
        (to_b, to_a) = (a.tick(now), b.tick(now));
    }
    (a, b, book, arena)
}

#[test]
fn no_nonce_is_used_twice_wherever_the_sender_is_killed() {
    let (mut a, mut b, book, arena) = connected();
    let mut kills = 0;
    for round in 1..=2u64 {
        let now = round * 2 * SECOND;
        let before = a.inside(1, (1, 2), now);
        assert_eq!(b.outside(&before, now).len(), 1);
        let receivers = BTreeSet::from([nonce(&before[0]).0]);
        // The child has its own copy of everything but the shared memory.
        let mut images = vec![(words(&book), words(&arena))];
        let child = || {
            a.inside(3, (1, 2), now);
        };
        step_through(&book, child, |records| images.push((records.to_vec(), words(&arena))));
        images.push((words(&book), words(&arena)));
        // The records as they were after a change, and all that was in the frames until the next one.
        for ((records, _), (_, frames)) in images.iter().zip(&images[1..]) {
            kills += 1;
            let sent = wire(frames, &receivers);
            let mut successor = End::heap(1, 2, copy(records), 40 + kills as u8);
            let next = nonce(&successor.inside(1, (1, 2), now + SECOND)[0]);
            assert!(
                sent.iter().chain([&nonce(&before[0])]).all(|sent| sent.1 < next.1),
                "{next:?} after {sent:?}"
            );
        }
        let counters: Vec<_> = wire(&words(&arena), &receivers).into_iter().map(|nonce| nonce.1).collect();
        let first = nonce(&before[0]).1 + 1;
        assert!((first..first + 3).all(|counter| counters.contains(&counter)), "{counters:?} from {first}");
    }
    assert!(kills >= 6, "{kills} kills");
}

#[test]
fn no_nonce_is_used_twice_wherever_a_tunnel_that_grows_is_killed() {
    let (mut a, mut b, _, arena) = connected();
    let now = 2 * SECOND;
    let before = a.inside(2, (1, 2), now);
    assert_eq!(b.outside(&before, now).len(), 2);
    let receivers = BTreeSet::from([nonce(&before[0]).0]);
    let grown = shared(Book::bytes(GROWN).next_multiple_of(4096));
    let mut images = Vec::new();
    let child = || {
        a.grow((1, 2), grown.clone());
        a.inside(3, (1, 2), now);
    };
    step_through(&grown, child, |records| images.push((records.to_vec(), words(&arena))));
    images.push((words(&grown), words(&arena)));
    let (mut lost, mut live) = (0, 0);
    // Most of them differ by a word of the record that is copied: all of the first and the last, and every tenth.
    let last = images.len().saturating_sub(40);
    for (n, ((records, _), (_, frames))) in images.iter().zip(&images[1..]).enumerate() {
        if n > 40 && n < last && n % 10 != 0 {
            continue;
        }
        let sent = wire(frames, &receivers);
        let mut successor = End::heap(1, 2, copy(records), 40 + n as u8);
        match successor.inside(1, (1, 2), now + SECOND).first() {
            // Nothing of a record that was not whole: it waits for a handshake.
            None => lost += 1,
            Some(frame) => {
                live += 1;
                let next = nonce(frame);
                assert!(
                    sent.iter().chain([&nonce(&before[1])]).all(|sent| sent.1 < next.1),
                    "{next:?} after {sent:?}"
                );
            }
        }
    }
    assert!(lost >= 10 && live >= 3, "{lost} {live} of {}", images.len());
    let counters: Vec<_> = wire(&words(&arena), &receivers).into_iter().map(|nonce| nonce.1).collect();
    let first = nonce(&before[1]).1 + 1;
    assert!((first..first + 3).all(|counter| counters.contains(&counter)), "{counters:?} from {first}");
}
