//! A gateway with one peer, and the packets around it.

use super::SECOND;
use std::net::{IpAddr, SocketAddr};
use zsync_crypto::aead::{Aead, Job, Key, TAG_LEN};
use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::checksum::Sum;
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec};
use zsync_packet::header::{Ethernet, Ipv4, Ipv6, Udp, ether_type, protocol};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::{DropReason, PortId, Verdict};
use zsync_pipelines::snapshot::PortFacts;
use zsync_pipelines::stage::{Cx, EXTRA, Extra, Stage};
use zsync_pipelines::stages::parse::Parse;
use zsync_pipelines::stages::wireguard::open::Open;
use zsync_pipelines::stages::wireguard::seal::Seal;
use zsync_pipelines::stages::wireguard::{Settings, Tunnel, Wall, With};
use zsync_wireguard::book::{Book, Peer};
use zsync_wireguard::desk::Entropy;
use zsync_wireguard::key::Secret;
use zsync_wireguard::message::{DATA_HEADER_LEN, data_header, data_nonce};
use zsync_wireguard::record::Role;
use zsync_wireguard::timers::REJECT_AFTER_MESSAGES;

const FRAMES: u32 = (2 * BURST + EXTRA) as u32;
const SLOTS: u32 = 2;
pub(super) const PORT: u16 = 51820;
const MTU: usize = 1420;
pub(super) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn private(seed: u8) -> Secret {
    Secret::new([seed; 32])
}

pub(super) fn outside(seed: u8, v6: bool) -> SocketAddr {
    let address =
        if v6 { [0x2001, 0xdb8, 0, 0, 0, 0, 0, seed.into()].into() } else { IpAddr::from([192, 0, 2, seed]) };
    SocketAddr::new(address, PORT)
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

/// A gateway.
pub(super) struct End {
    seed: u8,
    peer: u8,
    v6: bool,
    memory: Region,
    pool: Pool,
    burst: Burst,
    extra: Extra,
    parse: Parse,
    open: Open,
    seal: Seal,
}

impl End {
    pub(super) fn new(seed: u8, peer: u8, v6: bool) -> Self {
        let memory = Region::heap(Book::bytes(SLOTS));
        let pool = Pool::heap(FrameSize::K2, FRAMES, 1).expect("some frames").remove(0);
        let burst = Burst::new(pool.arena().clone());
        let (open, seal) = stages(&memory, (seed, peer), v6, None, seed);
        let parse = Parse::new(ports(), true);
        Self { seed, peer, v6, memory, pool, burst, extra: Extra::new(), parse, open, seal }
    }

    /// The same configuration again; `process`: in another process, whose randomness is another.
    pub(super) fn reload(&mut self, process: Option<u8>) {
        let before = process.is_none().then(|| self.seal.tunnel().clone());
        let ends = (self.seed, self.peer);
        (self.open, self.seal) =
            stages(&self.memory, ends, self.v6, before.as_ref(), process.unwrap_or(self.seed));
    }

    /// Packets that come in: what is left undecided, and what became of each.
    pub(super) fn run(&mut self, frames: &[Vec<u8>], now: u64, inside: bool) -> Vec<Vec<u8>> {
        for bytes in frames {
            let len = bytes.len().min(FrameSize::K2.longest_packet()) as u16;
            let mut frame = self.pool.alloc().expect("all frames are home between bursts");
            let place = self.pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len);
            place.copy_from_slice(&bytes[..usize::from(len)]);
            let packet = Packet { frame, start: HEADROOM as u16, len, port: PortId(0) };
            self.burst.push(packet).expect("a burst has room for its size");
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

    /// What it says of itself.
    pub(super) fn tick(&mut self, now: u64) -> Vec<Vec<u8>> {
        let mut cx = Cx::new(now, &mut self.pool, &mut self.extra);
        self.seal.emit(&mut self.burst, &mut cx);
        self.drain()
    }

    fn drain(&mut self) -> Vec<Vec<u8>> {
        let (mut left, Self { burst, pool, extra, .. }) = (Vec::new(), self);
        burst.drain(|packet, verdict, _| {
            match verdict {
                Verdict::Next => {
                    left.push(pool.arena().bytes(&packet.frame, packet.start, packet.len).to_vec());
                }
                Verdict::Drop(DropReason::Undecided | DropReason::NoSuchPort)
                | Verdict::Worker(..)
                | Verdict::Goto(_) => {
                    panic!("{verdict:?}")
                }
                Verdict::Drop(_) | Verdict::Transmit(_) | Verdict::Punt | Verdict::Consume => {}
            }
            pool.free(packet.frame);
        });
        extra.drain().for_each(|made| pool.free(made.packet.frame));
        let audit = pool.audit(0, 0);
        assert_eq!((audit.pool, audit.leaked, audit.misplaced), (FRAMES, 0, 0), "frames are not home");
        left
    }

    /// Text, whatever it is, sealed in the session that this end sends in, with a counter so far from the next one.
    pub(super) fn sealed(&self, text: &[u8], ahead: u64) -> Option<Vec<u8>> {
        let tunnel = self.seal.tunnel();
        let slot = tunnel.peers().slot(&private(self.peer).public())?;
        let record = tunnel.peers().record(tunnel.book(), slot)?;
        let room = record.session(Role::Current)?;
        let next = room.take_counters(room.index()?, 1, REJECT_AFTER_MESSAGES)?;
        let counter = next.wrapping_add(ahead);
        let mut message = [&data_header(room.remote(), counter)[..], text, &[0; TAG_LEN]].concat();
        let key = Key::chacha(room.sending());
        Aead::new().seal(&mut [Job::new(&key, data_nonce(counter), &[], &mut message[DATA_HEADER_LEN..])]);
        Some(message)
    }
}

fn ports() -> Vec<PortFacts> {
    vec![PortFacts { mac: MAC, mtu: 1500, v4: Some([192, 0, 2, 77].into()), ..PortFacts::default() }]
}

fn stages(
    memory: &Region,
    (seed, peer): (u8, u8),
    v6: bool,
    before: Option<&Tunnel>,
    process: u8,
) -> (Open, Seal) {
    let prefixes = [format!("10.0.{peer}.0/24"), format!("fd00:{peer}::/32")];
    let configured = Peer {
        public: private(peer).public(),
        preshared: Secret::new([3; 32]),
        endpoint: Some(outside(peer, v6)),
        keepalive: 25 * SECOND,
    };
    let settings = Settings {
        private: private(seed),
        port: PORT,
        local: vec![outside(seed, false).ip(), outside(seed, true).ip()],
        to: None,
        mtu: MTU,
        dscp: None,
        slots: SLOTS,
        peers: vec![(configured, prefixes.iter().map(|text| text.parse().expect("a prefix")).collect())],
    };
    let hash_key = HashKey::from_seed(seed.into());
    let with = With { memory: memory.clone(), workers: 1, hash_key, ports: ports(), fib: None };
    let tunnel = Tunnel::new(settings, with, before).expect("there is memory");
    let tunnel = match before {
        Some(_) => tunnel,
        None => tunnel.repeatable(Wall::Since(1_700_000_000 * SECOND), |_| entropy(process)),
    };
    let mut stages =
        (Open::new(tunnel.clone(), ports(), 0, None), Seal::new(tunnel, ports(), 0, Some(PortId(0))));
    stages.0.assign(0);
    stages.1.assign(0);
    stages
}

/// A datagram to gateway `to`, around this payload.
pub(super) fn outer(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let udp = build::udp(Sum::addresses_v4(source, destination), from.port(), PORT, payload);
            let ip = Ipv4Spec::new(source, destination, protocol::UDP).packet(&udp);
            build::ethernet(MAC, [2; 6], &[], ether_type::IPV4, &ip)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let udp = build::udp(Sum::addresses_v6(source, destination), from.port(), PORT, payload);
            let ip = Ipv6Spec::new(source, destination, protocol::UDP).packet(&udp);
            build::ethernet(MAC, [2; 6], &[], ether_type::IPV6, &ip)
        }
        _ => Vec::new(),
    }
}

/// A packet from the network of one gateway to that of another.
pub(super) fn inner(from: u8, to: u8, v6: bool, number: u8, payload: &[u8]) -> Vec<u8> {
    let (kind, ip) = if v6 {
        let address = |seed: u8| [0xfd00, seed.into(), 0, 0, 0, 0, 0, 5].into();
        (ether_type::IPV6, Ipv6Spec::new(address(from), address(to), number).packet(payload))
    } else {
        (
            ether_type::IPV4,
            Ipv4Spec::new([10, 0, from, 5].into(), [10, 0, to, 6].into(), number).packet(payload),
        )
    };
    build::ethernet(MAC, [2; 6], &[], kind, &ip)
}

/// The payload of an outer packet, and where it goes.
pub(super) fn payload(frame: &[u8]) -> Option<(IpAddr, Vec<u8>)> {
    let frame = Ethernet::parse(frame).ok()?;
    let (to, datagram) = match frame.ether_type() {
        ether_type::IPV4 => {
            let ip = Ipv4::parse(frame.payload()).ok()?;
            (ip.destination().into(), ip.payload())
        }
        _ => {
            let ip = Ipv6::parse(frame.payload()).ok()?;
            (ip.destination().into(), ip.payload())
        }
    };
    Some((to, Udp::parse(datagram).ok()?.payload().to_vec()))
}
