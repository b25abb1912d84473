//! Both directions of a WireGuard tunnel under bytes that a fuzzer makes up.
//!
//! Shared by the fuzz targets and the tests of `zsync-pipelines` (by `#[path]`). Two gateways have a session with each other at the
//! beginning of every input, which is a list of steps: a byte that says what is done ([`Player::step`]), and what that wants to know.
//! Their randomness follows from a seed, so an input does the same each time.
//!
//! Keeps true, or panics: every frame comes home; what is opened is a packet of the peer's, and what is sealed is one of the four
//! messages, to the peer, with no counter twice; a session goes on whatever came, unless it came to its end.

#[path = "wireguard/end.rs"]
mod end;

use end::{End, MAC, PORT, inner, outer, outside, payload};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use zsync_packet::burst::BURST;
use zsync_packet::header::{Ethernet, Ipv4, Ipv6, ether_type};
use zsync_wireguard::desk::PACE;
use zsync_wireguard::message::Message;

const SECOND: u64 = 1_000_000_000;
/// The longest input that is looked at, in steps.
const STEPS: usize = 100;
/// Where an input's packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Messages of the peer.
    Open,
    /// Packets of those inside.
    Seal,
}

/// Takes so many bytes off, or what there is; missing ones are 0.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let (now, behind) = rest.split_at(N.min(rest.len()));
    bytes[..now.len()].copy_from_slice(now);
    *rest = behind;
    bytes
}

/// Takes a length, and so many bytes.
fn part<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let [low, high] = take(rest);
    let (now, behind) = rest.split_at((usize::from(u16::from_le_bytes([low, high])) % 1600).min(rest.len()));
    *rest = behind;
    now
}

/// What an input is played on: gateway 1 is under test, and gateway 2 is its peer.
struct Player {
    us: End,
    them: End,
    v6: bool,
    now: u64,
    /// What the peer has sent, in order, and what we have.
    theirs: Vec<Vec<u8>>,
    ours: Vec<Vec<u8>>,
    /// Sessions and counters of data that we have sent.
    nonces: BTreeSet<(u32, u64)>,
    passed: usize,
}

/// Plays an input; how many packets got through.
pub(crate) fn run(direction: Direction, input: &[u8]) -> usize {
    let mut rest = input;
    let [how] = take(&mut rest);
    let mut player = Player::new(how & 1 == 1);
    for _ in 0..STEPS {
        if rest.is_empty() {
            break;
        }
        player.step(direction, &mut rest);
    }
    player.end();
    player.passed
}

impl Player {
    fn new(v6: bool) -> Self {
        let (us, them) = (End::new(1, 2, v6), End::new(2, 1, v6));
        let (theirs, ours) = (Vec::new(), Vec::new());
        let mut player = Self { us, them, v6, now: SECOND, theirs, ours, nonces: BTreeSet::new(), passed: 0 };
        player.them.run(&[inner(2, 1, v6, 253, b"first")], SECOND, true);
        player.talk(6);
        assert!(player.them.sealed(b"", 0).is_some(), "no session");
        player
    }

    /// Lets both ends hear what the other says.
    fn talk(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.now += PACE;
            let said = self.them.tick(self.now);
            self.come(&said);
            let said = self.us.tick(self.now);
            self.sent(&said);
        }
    }

    /// Packets of the peer's, as it sends them, come to us.
    fn come(&mut self, frames: &[Vec<u8>]) {
        let to_us = |frame: &Vec<u8>| [&MAC, frame.get(6..).unwrap_or_default()].concat();
        for frames in frames.chunks(BURST / 2) {
            let frames: Vec<_> = frames.iter().map(to_us).collect();
            let left = self.us.run(&frames, self.now, false);
            self.opened(&left);
            self.theirs.extend(frames);
        }
        let keep = self.theirs.len().saturating_sub(16);
        self.theirs.drain(..keep);
    }

    /// What must hold of what comes out inside. Packets that are not to the tunnel's port go on as they were.
    fn opened(&mut self, left: &[Vec<u8>]) {
        for frame in left {
            let parsed = Ethernet::parse(frame).expect("a frame goes on");
            // What the stage has made itself has no sender yet.
            if frame[6..12] != [0; 6] {
                continue;
            }
            let source: IpAddr = match parsed.ether_type() {
                ether_type::IPV4 => {
                    Ipv4::parse(parsed.payload()).expect("what goes on is whole").source().into()
                }
                ether_type::IPV6 => {
                    Ipv6::parse(parsed.payload()).expect("what goes on is whole").source().into()
                }
                other => panic!("{other:#06x} goes on"),
            };
            let own = match source {
                IpAddr::V4(v4) => v4.octets()[..3] == [10, 0, 2],
                IpAddr::V6(v6) => v6.segments()[..2] == [0xfd00, 2],
            };
            assert!(own, "{source} is not the peer's");
            self.passed += 1;
        }
    }

    /// What must hold of what we send; the peer gets it.
    fn sent(&mut self, frames: &[Vec<u8>]) {
        for frame in frames {
            let Some((to, message)) = payload(frame) else { continue };
            if ![outside(2, false).ip(), outside(2, true).ip()].contains(&to) {
                continue;
            }
            match Message::parse(&message) {
                Ok(Message::Data { receiver, counter }) => {
                    assert!(self.nonces.insert((receiver, counter)), "a nonce was used twice");
                    assert!(message.len() <= 2048, "longer than any frame");
                }
                Ok(_) => {}
                Err(malformed) => panic!("{malformed}: {message:02x?}"),
            }
        }
        let to_them: Vec<_> = frames.iter().map(|frame| [&MAC, &frame[6..]].concat()).collect();
        for frames in to_them.chunks(BURST / 2) {
            self.passed += self.them.run(frames, self.now, false).len();
        }
        self.ours.extend(to_them);
        let keep = self.ours.len().saturating_sub(16);
        self.ours.drain(..keep);
    }

    /// One step, as its first byte says.
    fn step(&mut self, direction: Direction, rest: &mut &[u8]) {
        let [what] = take(rest);
        let (from, to) = (outside(2, self.v6), outside(1, self.v6));
        match (direction, what % 8) {
            // A message, byte for byte.
            (Direction::Open, 0) => {
                let message = outer(from, to, part(rest));
                self.come(&[message]);
            }
            // Text that is sealed as the peer would, from where it is or from elsewhere, with the next counter or another.
            (Direction::Open, 1 | 2) => {
                let [ahead, port] = take(rest);
                let ahead = u64::from(ahead & 0x7f) << ((ahead >> 7) * 40);
                let from = SocketAddr::new(from.ip(), if port < 0x80 { PORT } else { port.into() });
                let text = part(rest);
                if let Some(message) = self.them.sealed(text, ahead) {
                    self.come(&[outer(from, to, &message)]);
                }
            }
            // A packet of the peer's network, or nearly.
            (Direction::Open, 3) => {
                let [number, source] = take(rest);
                let text = part(rest);
                let whole = inner(if source < 0xc0 { 2 } else { source }, 1, what & 8 != 0, number, text);
                if let Some(message) = self.them.sealed(&whole[14..], 0) {
                    self.come(&[outer(from, to, &message)]);
                }
            }
            // Packets inside, byte for byte, or to the peer with any payload.
            (Direction::Seal, 0) => {
                let bytes = part(rest).to_vec();
                self.inside(bytes);
            }
            (Direction::Seal, 1..=3) => {
                let [number, changes] = take(rest);
                let text = part(rest);
                let mut bytes = inner(1, 2, what & 8 != 0, number, text);
                change(&mut bytes[14..], changes & 7, rest);
                self.inside(bytes);
            }
            // What was sent before comes again, changed: handshakes too.
            (_, 4) => {
                let [which, changes] = take(rest);
                let sent = if which & 0x80 == 0 { &self.theirs } else { &self.ours };
                if let Some(frame) = sent.get(usize::from(which & 0x7f) % sent.len().max(1)) {
                    let mut frame = frame.clone();
                    let ip = if self.v6 { 62 } else { 42 };
                    if let Some(message) = frame.get_mut(ip..) {
                        change(message, changes & 7, rest);
                        let message = message.to_vec();
                        self.come(&[outer(from, to, &message)]);
                    }
                }
            }
            // Either end begins a handshake, and both talk.
            (_, 5) => {
                self.now += 6 * SECOND;
                self.them.reload(Some(what));
                if what & 8 == 0 {
                    let said = self.them.run(&[inner(2, 1, self.v6, 253, b"again")], self.now, true);
                    self.come(&said);
                } else {
                    self.inside(inner(1, 2, self.v6, 253, b"again"));
                }
                self.talk(usize::from(what >> 4));
            }
            // Time goes by: up to nine minutes.
            (_, 6) => {
                let [much] = take(rest);
                self.now += 1 << (u32::from(much) % 40);
                self.talk(1 + usize::from(much >> 6));
            }
            // A new configuration, the same as before; or a new process over what was left.
            _ => {
                let process = (what & 8 != 0).then_some(what | 1);
                self.us.reload(process);
            }
        }
    }

    fn inside(&mut self, frame: Vec<u8>) {
        let left = self.us.run(&[frame], self.now, true);
        // What is for nobody in the tunnel goes on as it is; what was sealed has no stations yet.
        let sealed: Vec<_> = left.into_iter().filter(|frame| frame.get(..12) == Some(&[0; 12])).collect();
        self.sent(&sealed);
    }

    /// Whatever came, who is there is still heard: with a handshake if need be, and where that took so long that one end believes
    /// in a session that is over at the other, with the one that silence leads to.
    fn end(&mut self) {
        self.now += 200 * SECOND;
        self.talk(4);
        let before = self.passed;
        for _ in 0..3 {
            let said = self.them.run(&[inner(2, 1, self.v6, 253, b"last")], self.now, true);
            self.come(&said);
            self.talk(12);
            if self.passed > before {
                return;
            }
            self.now += 16 * SECOND;
        }
        panic!("the peer is not heard any more");
    }
}

/// Changes so many bytes, as the input says.
fn change(bytes: &mut [u8], count: u8, rest: &mut &[u8]) {
    for _ in 0..count {
        let [low, high, value] = take(rest);
        let at = usize::from(u16::from_le_bytes([low, high])) % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
    }
}

/// Inputs to begin with.
pub(crate) fn seeds(direction: Direction) -> Vec<Vec<u8>> {
    let step = |what: u8, more: &[u8], text: &[u8]| {
        [&[what], more, &(text.len() as u16).to_le_bytes()[..], text].concat()
    };
    let (v4, v6) = (inner(2, 1, false, 253, b"four"), inner(2, 1, true, 253, b"six"));
    let mut seeds: Vec<Vec<u8>> = match direction {
        Direction::Open => vec![
            step(0, &[], &[1; 148]),
            step(0, &[], &[4, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]),
            step(1, &[0, 0], &v4[14..]),
            step(1, &[3, 0x90], &v6[14..]),
            step(1, &[0x85, 0], &v4[14..]),
            step(3, &[6, 0], &[0x50; 20]),
            step(11, &[17, 0xc5], &[7; 60]),
        ],
        Direction::Seal => vec![
            step(0, &[], &inner(1, 2, false, 1, b"whole")),
            step(0, &[], &inner(1, 9, true, 58, b"nobody's")),
            step(1, &[17, 0], &[9; 1392]),
            step(9, &[6, 0], &[2; 1372]),
            step(2, &[6, 2], &[0x50; 40]),
            step(9, &[58, 0], &[3; 1500]),
        ],
    };
    // Handshakes, replays with and without changes, time, reloads.
    let rest: [&[u8]; 4] = [
        &[0x65, 4, 0, 0, 4, 0x80, 0, 4, 1, 1, 5, 0, 9],
        &[0x6d, 4, 1, 0, 4, 2, 2, 20, 0, 1, 30, 0, 2],
        &[6, 37, 6, 0xa5, 7, 15, 4, 3, 0],
        &[6, 38, 0x65, 7, 0x6d, 6, 39, 15],
    ];
    seeds.extend(rest.iter().map(|rest| rest.to_vec()));
    seeds.push(seeds.concat());
    seeds.iter().flat_map(|seed| [0, 1].map(|v6| [&[v6], &seed[..]].concat())).collect()
}
