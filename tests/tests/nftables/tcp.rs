//! TCP connections, of which much goes wrong.

use zsync_packet::header::build::TcpSpec;
use zsync_packet::header::{TcpFlags, protocol};

use super::{Pair, Writer};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// One connection, as both ends see it.
struct Talk {
    /// Each end as the sender.
    ways: [Pair; 2],
    /// What each end sends next.
    next: [u32; 2],
    /// How much was in each end's last segment.
    last: [u32; 2],
    scales: bool,
}

impl Talk {
    fn segment(&self, way: usize, flags: u8, sequence: u32, acknowledgement: u32, payload: &[u8]) -> Vec<u8> {
        let pair = &self.ways[way];
        let mut spec = TcpSpec {
            sequence,
            acknowledgement,
            window: if self.scales { 500 } else { 30_000 },
            ..TcpSpec::new(pair.ports[0], pair.ports[1], TcpFlags(flags))
        };
        if flags & SYN != 0 {
            // Longest segment, selective acknowledgements, a shift of 7.
            spec.options = vec![2, 4, 5, 0xb4, 4, 2, 1];
            if self.scales {
                spec.options.extend([3, 3, 7, 1, 1]);
            }
        }
        spec.segment(pair.sum(), payload)
    }
}

impl Writer {
    /// A segment whose fields are as they fall.
    pub(super) fn any_segment(&mut self, pair: &Pair, flags: u8) -> Vec<u8> {
        let numbers = self.random.next();
        let spec = TcpSpec {
            sequence: numbers as u32,
            acknowledgement: if flags & ACK != 0 { (numbers >> 32) as u32 } else { 0 },
            window: self.random.next() as u16,
            ..TcpSpec::new(pair.ports[0], pair.ports[1], TcpFlags(flags))
        };
        let payload = if flags & (SYN | RST) != 0 { Vec::new() } else { self.payload(200) };
        spec.segment(pair.sum(), &payload)
    }

    fn segment(
        &mut self,
        kind: &'static str,
        talk: &Talk,
        way: usize,
        flags: u8,
        shift: [i32; 2],
        payload: &[u8],
    ) {
        let sequence = talk.next[way].wrapping_add_signed(shift[0]);
        let acknowledgement =
            if flags & ACK != 0 { talk.next[1 - way].wrapping_add_signed(shift[1]) } else { 0 };
        let segment = talk.segment(way, flags, sequence, acknowledgement, payload);
        self.tell(kind, &talk.ways[way], protocol::TCP, &segment);
    }

    fn open(&mut self, talk: &mut Talk) {
        self.segment("syn", talk, 0, SYN, [0; 2], &[]);
        talk.next[0] = talk.next[0].wrapping_add(1);
        if self.random.once_in(8) {
            return;
        }
        if self.random.once_in(8) {
            self.segment("syn again", talk, 0, SYN, [-1, 0], &[]);
        }
        self.segment("syn and ack", talk, 1, SYN | ACK, [0; 2], &[]);
        talk.next[1] = talk.next[1].wrapping_add(1);
        if self.random.once_in(12) {
            self.segment("syn and ack again", talk, 1, SYN | ACK, [-1, 0], &[]);
        }
        self.segment("ack", talk, 0, ACK, [0; 2], &[]);
    }

    /// A connection, from its beginning or from its midst, that may be used again.
    pub(super) fn tcp(&mut self) {
        let mut there = self.pair();
        if self.random.once_in(2) {
            // Where the policy lets it through, more can go wrong.
            there.ports[1] = self.random.of(&[22, 80, 443, 8000, 9000]);
        }
        let numbers = self.random.next();
        let next = [numbers as u32, (numbers >> 32) as u32];
        let scales = self.random.once_in(2);
        let mut talk = Talk { ways: [there, there.back()], next, last: [0; 2], scales };
        if !self.random.once_in(6) {
            self.open(&mut talk);
        }
        self.chat(&mut talk);
        if self.random.once_in(2) {
            self.close(&mut talk);
        }
        if self.random.once_in(3) {
            let ahead = self.random.of(&[1, 5000, 200_000, 0x4000_0000, 0xa000_0000]);
            talk.next = talk.next.map(|next| next.wrapping_add(ahead));
            self.open(&mut talk);
            self.chat(&mut talk);
        }
    }

    fn chat(&mut self, talk: &mut Talk) {
        for _ in 0..self.random.below(8) {
            let way = self.random.below(2) as usize;
            let payload = self.payload(400);
            let length = payload.len() as i32;
            match self.random.below(24) {
                0..=7 => {
                    self.segment("data", talk, way, ACK | PSH, [0; 2], &payload);
                    talk.next[way] = talk.next[way].wrapping_add(length as u32);
                    talk.last[way] = length as u32;
                }
                8 | 9 => self.segment("ack", talk, way, ACK, [0; 2], &[]),
                10 => {
                    let last = talk.last[way] as i32;
                    self.segment("data again", talk, way, ACK, [-last, 0], &payload[..0]);
                }
                11 => self.segment("data too far ahead", talk, way, ACK, [300_000, 0], &payload),
                12 => self.segment("data too far behind", talk, way, ACK, [-300_000, 0], &payload),
                13 => self.segment("ack of what was not sent", talk, way, ACK, [0, 100_000], &payload),
                14 => self.segment("ack of what is long over", talk, way, ACK, [0, -300_000], &payload),
                15 => self.segment("reset", talk, way, RST, [0; 2], &[]),
                16 => self.segment("reset with ack", talk, way, RST | ACK, [0; 2], &[]),
                17 => self.segment("reset a little ahead", talk, way, RST, [10, 0], &[]),
                18 => self.segment("reset far ahead", talk, way, RST, [300_000, 0], &[]),
                19 => self.segment("syn in the midst", talk, way, SYN, [20_000, 0], &[]),
                20 => self.segment("syn and ack in the midst", talk, way, SYN | ACK, [0; 2], &[]),
                21 => {
                    let flags =
                        self.random.of(&[0, FIN, FIN | SYN, SYN | RST, 0x3f, 0x29, FIN | RST, 0x30, 0xd0]);
                    self.segment("odd flags", talk, way, flags, [0; 2], &[]);
                }
                22 => {
                    let about = talk.segment(way, ACK, talk.next[way], talk.next[1 - way], &payload);
                    self.error("error about tcp", &talk.ways[way], protocol::TCP, &about);
                }
                _ => self.segment("keep-alive", talk, way, ACK, [-1, 0], &[]),
            }
        }
    }

    fn close(&mut self, talk: &mut Talk) {
        let first = self.random.below(2) as usize;
        for way in [first, 1 - first] {
            self.segment("fin", talk, way, FIN | ACK, [0; 2], &[]);
            talk.next[way] = talk.next[way].wrapping_add(1);
            if !self.random.once_in(6) {
                self.segment("ack of fin", talk, 1 - way, ACK, [0; 2], &[]);
            }
        }
        if self.random.once_in(3) {
            let way = self.random.below(2) as usize;
            self.segment("ack after the end", talk, way, ACK, [0; 2], &[]);
        }
        if self.random.once_in(3) {
            let way = self.random.below(2) as usize;
            self.segment("reset after the end", talk, way, RST, [0; 2], &[]);
        }
    }
}
