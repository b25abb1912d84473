//! What is sent: conversations of many kinds, each a list of datagrams in order, mixed with one another.
//!
//! Keeps true: the same seed makes the same traffic; each datagram has a number of its own, which its packets bear where nobody
//! changes it (IPv4's identification, IPv6's flow label).

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zsync_packet::checksum::Sum;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec};
use zsync_packet::header::{Mac, ether_type, protocol};

use super::sides::BEHIND;

mod odd;
mod tcp;

/// What goes in at once: a whole packet, or the fragments of one.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Its number.
    pub id: u32,
    /// Its conversation's number.
    pub conversation: usize,
    /// What is special about it.
    pub kind: &'static str,
    /// Where it goes in: 0 at the client's side, 1 at the server's.
    pub side: usize,
    /// Its packets, with their Ethernet headers.
    pub frames: Vec<Vec<u8>>,
}

/// Numbers that look random (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Below that.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// Two ends and their ports; the first one begins.
#[derive(Clone, Copy)]
pub struct Pair {
    pub ends: [IpAddr; 2],
    pub ports: [u16; 2],
    /// The side of the first one.
    pub side: usize,
}

impl Pair {
    /// The addresses' part of the pseudo-header.
    pub fn sum(&self) -> Sum {
        match self.ends {
            [IpAddr::V4(a), IpAddr::V4(b)] => Sum::addresses_v4(a, b),
            [IpAddr::V6(a), IpAddr::V6(b)] => Sum::addresses_v6(a, b),
            _ => unreachable!("ends are of one family"),
        }
    }

    pub fn is_v4(&self) -> bool {
        self.ends[0].is_ipv4()
    }

    /// ICMP of its family.
    pub fn icmp(&self) -> u8 {
        if self.is_v4() { protocol::ICMP } else { protocol::ICMPV6 }
    }

    /// The other way round.
    pub fn back(&self) -> Self {
        let ([a, b], [c, d]) = (self.ends, self.ports);
        Self { ends: [b, a], ports: [d, c], side: 1 - self.side }
    }

    /// An ICMP message of its family, from its first end.
    pub fn message(&self, kind: u8, code: u8, word: [u8; 4], payload: &[u8]) -> Vec<u8> {
        match self.is_v4() {
            true => build::icmp(kind, code, word, payload),
            false => build::icmpv6(self.sum(), kind, code, word, payload),
        }
    }
}

/// How many conversations go on at a time.
const AT_A_TIME: usize = 12;
/// Ports that rules and their edges know, and others.
const PORTS: &[u16] = &[
    1, 22, 52, 53, 54, 79, 80, 113, 123, 443, 444, 1023, 1024, 4000, 4099, 4100, 4999, 5000, 5555, 5999,
    6000, 7999, 8000, 8050, 8099, 8100, 8999, 9000, 9010, 9011, 33433, 33434, 33534, 33535, 65535,
];

/// Writes conversations.
pub struct Writer {
    pub random: Random,
    macs: [Mac; 2],
    next: u32,
    conversation: usize,
    said: Vec<Datagram>,
    /// The last packet, from its IP header on.
    pub last: Vec<u8>,
}

/// All of it, for a router with these addresses.
pub fn traffic(seed: u64, macs: [Mac; 2]) -> Vec<Datagram> {
    let random = Random(seed);
    let mut writer = Writer { random, macs, next: 1, conversation: 0, said: Vec::new(), last: Vec::new() };
    let mut conversations = Vec::new();
    for round in 0..450 {
        conversations.push(writer.conversation(Writer::tcp));
        conversations.push(writer.conversation(Writer::tcp));
        conversations.push(writer.conversation(Writer::udp));
        conversations.push(writer.conversation(Writer::echo));
        conversations.push(writer.conversation(Writer::fragments));
        for _ in 0..10 {
            conversations.push(writer.conversation(Writer::alone));
        }
        if round % 5 == 0 {
            conversations.extend(odd::ALL.map(|odd| writer.conversation(odd)));
        }
    }
    mixed(&mut writer.random, conversations)
}

/// One after the other of some, until all are said.
fn mixed(random: &mut Random, mut waiting: Vec<VecDeque<Datagram>>) -> Vec<Datagram> {
    let (mut mixed, mut open) = (Vec::new(), Vec::new());
    while !waiting.is_empty() || !open.is_empty() {
        while open.len() < AT_A_TIME && !waiting.is_empty() {
            open.push(waiting.swap_remove(random.below(waiting.len() as u64) as usize));
        }
        let at = random.below(open.len() as u64) as usize;
        mixed.extend(open[at].pop_front());
        if open[at].is_empty() {
            open.swap_remove(at);
        }
    }
    mixed
}

impl Writer {
    fn conversation(&mut self, write: fn(&mut Self)) -> VecDeque<Datagram> {
        self.conversation += 1;
        write(self);
        std::mem::take(&mut self.said).into()
    }

    /// Ends of any family, at any side.
    pub fn pair(&mut self) -> Pair {
        let (net, host) = (self.random.of(&[0, 0, 0, 1, 66]), self.random.below(60_000) as u16 + 1);
        let (far, station) = (self.random.of(&[0, 1, 2, 3]), self.random.below(60_000) as u16 + 1);
        let ends: [IpAddr; 2] = if self.random.once_in(2) {
            let [low, lower] = [host.to_be_bytes()[1].max(1), station.to_be_bytes()[1].max(1)];
            [Ipv4Addr::new(10, 10, net as u8, low).into(), Ipv4Addr::new(10, 20, far, lower).into()]
        } else {
            let high = u16::from(self.random.once_in(2)) << 15;
            [
                // The networks are read as they are written: 66 is 0x66.
                Ipv6Addr::new(0xfd10, 0, 0, if net == 66 { 0x66 } else { net }, 0, 0, 0, host).into(),
                Ipv6Addr::new(0xfd20, 0, 0, far.into(), high, 0, 0, station).into(),
            ]
        };
        let own = self.random.below(64_000) as u16 + 1000;
        let (own, service) =
            (if self.random.once_in(8) { self.random.of(PORTS) } else { own }, self.random.of(PORTS));
        let pair = Pair { ends, ports: [own, service], side: 0 };
        if self.random.once_in(4) { Pair { ports: [own, service], ..pair.back() } } else { pair }
    }

    /// The number of the next datagram.
    pub fn number(&self) -> u32 {
        self.next
    }

    pub fn payload(&mut self, longest: u64) -> Vec<u8> {
        (0..self.random.below(longest + 1)).map(|_| self.random.next() as u8).collect()
    }

    /// An IPv4 header with the next number, and the rest as it falls.
    pub fn v4(&mut self, source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Ipv4Spec {
        Ipv4Spec {
            ttl: self.random.of(&[2, 3, 64, 128, 255]),
            tos: self.tos(),
            identification: self.next as u16,
            dont_fragment: self.random.once_in(2),
            ..Ipv4Spec::new(source, destination, protocol)
        }
    }

    /// The same in IPv6.
    pub fn v6(&mut self, source: Ipv6Addr, destination: Ipv6Addr, next_header: u8) -> Ipv6Spec {
        Ipv6Spec {
            hop_limit: self.random.of(&[2, 3, 64, 128, 255]),
            traffic_class: self.tos(),
            flow_label: self.next,
            ..Ipv6Spec::new(source, destination, next_header)
        }
    }

    fn tos(&mut self) -> u8 {
        let dscp = self.random.of(&[0, 0, 8, 10, 12, 46, 48]);
        let dscp = if self.random.once_in(4) { self.random.below(64) as u8 } else { dscp };
        dscp << 2 | self.random.below(4) as u8
    }

    /// A packet of `pair`'s first end.
    pub fn packet(&mut self, pair: &Pair, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match pair.ends {
            [IpAddr::V4(a), IpAddr::V4(b)] => self.v4(a, b, protocol).packet(payload),
            [IpAddr::V6(a), IpAddr::V6(b)] => self.v6(a, b, protocol).packet(payload),
            _ => unreachable!("ends are of one family"),
        }
    }

    /// Says a datagram of these packets, from the side of `pair`'s first end.
    pub fn say(&mut self, kind: &'static str, pair: &Pair, packets: Vec<Vec<u8>>) {
        let kind_of_ip = if pair.is_v4() { ether_type::IPV4 } else { ether_type::IPV6 };
        let frame = |packet: &Vec<u8>| {
            build::padded(build::ethernet(self.macs[pair.side], BEHIND, &[], kind_of_ip, packet))
        };
        let frames = packets.iter().map(frame).collect();
        let (id, conversation) = (self.next, self.conversation);
        self.said.push(Datagram { id, conversation, kind, side: pair.side, frames });
        self.last = packets.into_iter().next().unwrap_or_default();
        self.next += 1;
    }

    /// Says one packet.
    pub fn tell(&mut self, kind: &'static str, pair: &Pair, protocol: u8, payload: &[u8]) {
        let packet = self.packet(pair, protocol, payload);
        self.say(kind, pair, vec![packet]);
    }

    /// One packet of any kind, to anybody.
    fn alone(&mut self) {
        let pair = self.pair();
        match self.random.below(8) {
            0..=2 => {
                let flags = self.random.of(&[0x02, 0x02, 0x02, 0x10, 0x12, 0x04, 0x14, 0x11, 0x18]);
                let flags = if self.random.once_in(3) { self.random.next() as u8 } else { flags };
                let segment = self.any_segment(&pair, flags);
                self.tell("tcp alone", &pair, protocol::TCP, &segment);
            }
            3..=5 => {
                let payload = self.payload(300);
                let datagram = build::udp(pair.sum(), pair.ports[0], pair.ports[1], &payload);
                self.tell("udp alone", &pair, protocol::UDP, &datagram);
            }
            6 => {
                let kinds: &[u8] = match pair.is_v4() {
                    true => &[0, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 40],
                    false => &[1, 2, 3, 4, 100, 128, 129, 130, 139, 140, 144, 200],
                };
                let (kind, code) = (self.random.of(kinds), self.random.of(&[0, 0, 1, 3]));
                let (word, payload) = (self.random.next() as u32, self.payload(100));
                let message = pair.message(kind, code, word.to_be_bytes(), &payload);
                self.tell("icmp alone", &pair, pair.icmp(), &message);
            }
            _ => {
                let number = self.random.of(&[protocol::GRE, protocol::ESP, 4, 41, 89, 103, 253]);
                // GRE without a key, of any payload; of the others nobody looks at what they carry.
                let payload = [&[0, 0, 0x65, 0x58][..], &self.payload(200)].concat();
                self.tell("other alone", &pair, number, &payload);
            }
        }
    }

    /// Questions and answers, and errors about them.
    fn udp(&mut self) {
        let there = self.pair();
        let back = there.back();
        for _ in 0..1 + self.random.below(6) {
            let payload = self.payload(200);
            let of = |pair: &Pair| build::udp(pair.sum(), pair.ports[0], pair.ports[1], &payload);
            match self.random.below(8) {
                0..=2 => self.tell("udp there", &there, protocol::UDP, &of(&there)),
                3..=5 => self.tell("udp back", &back, protocol::UDP, &of(&back)),
                6 => {
                    let stranger = Pair { ports: [back.ports[0] ^ 1, back.ports[1]], ..back };
                    self.tell("udp of a stranger", &stranger, protocol::UDP, &of(&stranger));
                }
                _ => {
                    let about = build::udp(there.sum(), there.ports[0], there.ports[1], &payload);
                    self.error("error about udp", &there, protocol::UDP, &about);
                }
            }
        }
    }

    /// Says an error of `about`'s second end about a packet of its first.
    pub fn error(&mut self, kind: &'static str, about: &Pair, protocol: u8, payload: &[u8]) {
        let quoted = self.packet(about, protocol, payload);
        let back = about.back();
        let (number, code) = if about.is_v4() {
            self.random.of(&[(3, 1), (3, 3), (3, 4), (3, 13), (11, 0), (12, 0), (4, 0)])
        } else {
            self.random.of(&[(1, 0), (1, 4), (2, 0), (3, 0), (4, 1)])
        };
        let cut = if about.is_v4() { 28 } else { 48 }.max(quoted.len().min(120));
        let message = back.message(number, code, [0, 0, 5, 0x14], &quoted[..cut.min(quoted.len())]);
        self.tell(kind, &back, back.icmp(), &message);
    }

    /// Pings, and what might be taken for their answers.
    fn echo(&mut self) {
        let there = self.pair();
        let back = there.back();
        let (ask, tell) = if there.is_v4() { (8, 0) } else { (128, 129) };
        let id = self.random.next() as u16;
        for number in 0..1 + self.random.below(6) as u16 {
            let payload = self.payload(120);
            let word = |id: u16| {
                let ([a, b], [c, d]) = (id.to_be_bytes(), number.to_be_bytes());
                [a, b, c, d]
            };
            match self.random.below(8) {
                0..=2 => {
                    let message = there.message(ask, 0, word(id), &payload);
                    self.tell("echo request", &there, there.icmp(), &message);
                }
                3 | 4 => {
                    let message = back.message(tell, 0, word(id), &payload);
                    self.tell("echo reply", &back, back.icmp(), &message);
                }
                5 => {
                    let message = back.message(tell, 0, word(id ^ 1), &payload);
                    self.tell("echo reply to another", &back, back.icmp(), &message);
                }
                6 => {
                    let about = there.message(ask, 0, word(id), &payload);
                    self.error("error about echo", &there, there.icmp(), &about);
                }
                _ => {
                    let message = back.message(ask, 0, word(id), &payload);
                    self.tell("echo request back", &back, back.icmp(), &message);
                }
            }
        }
    }

    /// A datagram in parts, and another one behind it.
    fn fragments(&mut self) {
        let there = self.pair();
        let length = 100 + self.random.below(1100) as usize;
        let payload: Vec<u8> = (0..length).map(|_| self.random.next() as u8).collect();
        let datagram = build::udp(there.sum(), there.ports[0], there.ports[1], &payload);
        let mut parts = self.parts(&there, protocol::UDP, &datagram);
        if self.random.once_in(2) {
            parts.reverse();
        }
        self.say("fragments of udp", &there, parts);
        let back = there.back();
        let answer = build::udp(back.sum(), back.ports[0], back.ports[1], &payload[..20]);
        self.tell("udp back", &back, protocol::UDP, &answer);
    }

    /// The fragments of a packet with that payload, two or three.
    pub fn parts(&mut self, pair: &Pair, protocol: u8, payload: &[u8]) -> Vec<Vec<u8>> {
        let size = (payload.len() / (2 + self.random.below(2) as usize)).next_multiple_of(8);
        let count = payload.len().div_ceil(size);
        let piece = |i: usize| &payload[i * size..payload.len().min((i + 1) * size)];
        match pair.ends {
            [IpAddr::V4(a), IpAddr::V4(b)] => {
                let whole = Ipv4Spec { dont_fragment: false, ..self.v4(a, b, protocol) };
                let part = |i: usize| Ipv4Spec {
                    more_fragments: i + 1 < count,
                    fragment_offset: (i * size) as u16,
                    ..whole.clone()
                };
                (0..count).map(|i| part(i).packet(piece(i))).collect()
            }
            [IpAddr::V6(a), IpAddr::V6(b)] => {
                let (whole, id) = (self.v6(a, b, protocol::FRAGMENT), self.number());
                let header = |i: usize| build::fragment(protocol, (i * size) as u16, i + 1 < count, id);
                (0..count).map(|i| whole.packet(&[&header(i)[..], piece(i)].concat())).collect()
            }
            _ => unreachable!("ends are of one family"),
        }
    }
}
