//! Two gateways with a virtual clock, and a network between them that loses, delays, repeats and reorders: whatever it does,
//! nothing is delivered twice, no nonce is used twice, and once it behaves, packets arrive.

use super::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use zsync_wireguard::message::Message;

/// Virtual time between two steps.
const STEP: u64 = SECOND / 10;
const SEEDS: u64 = 1_000;

struct Random(u64);

impl Random {
    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// One direction of the network: frames by when they arrive.
#[derive(Default)]
struct Link {
    flying: BTreeMap<(u64, u64), Vec<u8>>,
    count: u64,
}

impl Link {
    /// Takes frames; of 100, so many are lost, repeated, delayed.
    fn send(&mut self, frames: Vec<Vec<u8>>, now: u64, [lost, again, late]: [u64; 3], random: &mut Random) {
        for frame in frames {
            let copies = match random.below(100) {
                roll if roll < lost => 0,
                roll if roll < lost + again => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let delay = if random.below(100) < late { random.below(20) * STEP } else { 0 };
                self.count += 1;
                self.flying.insert((now + delay, self.count), frame.clone());
            }
        }
    }

    fn arrived(&mut self, now: u64) -> Vec<Vec<u8>> {
        let later = self.flying.split_off(&(now + 1, 0));
        std::mem::replace(&mut self.flying, later).into_values().take(60).collect()
    }
}

/// What was seen on the way: no session seals two packets with one counter.
#[derive(Default)]
struct Wire {
    nonces: HashSet<(bool, u32, u64)>,
    sessions: BTreeSet<u32>,
}

impl Wire {
    fn look(&mut self, frames: &[Vec<u8>], from_a: bool, seed: u64) {
        for frame in frames {
            if let Ok(Message::Data { receiver, counter }) = Message::parse(&frame[14 + 20 + 8..]) {
                self.sessions.insert(receiver);
                assert!(
                    self.nonces.insert((from_a, receiver, counter)),
                    "seed {seed}: counter {counter} of {receiver:#x} twice"
                );
            }
        }
    }
}

fn run(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    // Every third peer is one whose endpoint nobody configured.
    let (mut a, mut b) = (End::new(1, &[2], false, true), End::new(2, &[1], false, !seed.is_multiple_of(3)));
    let (mut to_a, mut to_b) = (Link::default(), Link::default());
    let (mut wire, mut sent, mut got) = (Wire::default(), [0u32; 2], [const { BTreeSet::new() }; 2]);
    let bad = [random.below(40), random.below(20), random.below(60)];
    let (steps, healed) = (4_500, 3_500);
    let mut delivered_late = [0; 2];
    for step in 0..steps {
        let now = SECOND + step * STEP;
        let weather = if step < healed { bad } else { [0; 3] };
        // Talk and silence, by turns; after the network is well, always talk.
        let talks = step >= healed || !(step / 300 + seed).is_multiple_of(3);
        if talks && step % 5 == 0 {
            for (side, (from, to)) in [(1, 2), (2, 1)].into_iter().enumerate() {
                let payload = sent[side].to_be_bytes();
                sent[side] += 1;
                let end = if side == 0 { &mut a } else { &mut b };
                let frames = end.inside(&[inner(from, to, random.below(2) == 0, &payload)], now);
                wire.look(&frames, side == 0, seed);
                let link = if side == 0 { &mut to_b } else { &mut to_a };
                link.send(frames, now, weather, &mut random);
            }
        }
        if random.below(1500) == 0 {
            let knows = !seed.is_multiple_of(3);
            if random.below(2) == 0 { a.reload(&[2], true, true) } else { b.reload(&[1], knows, true) }
        }
        for side in [0, 1] {
            let (end, link) = if side == 0 { (&mut a, &mut to_a) } else { (&mut b, &mut to_b) };
            for frame in end.outside(&link.arrived(now), now) {
                let number = u32::from_be_bytes(frame[frame.len() - 4..].try_into().unwrap());
                assert!(got[side].insert(number), "seed {seed}: packet {number} was delivered twice");
                delivered_late[side] += u32::from(step > healed + 600);
            }
            let frames = end.tick(now);
            wire.look(&frames, side == 0, seed);
            let link = if side == 0 { &mut to_b } else { &mut to_a };
            link.send(frames, now, weather, &mut random);
        }
    }
    // 400 steps of the last were well, and each fifth had a packet.
    assert!(
        delivered_late.iter().all(|count| *count >= 75),
        "seed {seed}: {delivered_late:?} of 80 after the network was well: {bad:?}"
    );
    assert!(wire.sessions.len() >= 6, "seed {seed}: {} sessions in {} s", wire.sessions.len(), steps / 10);
}

#[test]
fn whatever_the_network_does_nothing_comes_twice_and_packets_arrive_again() {
    let seeds = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    std::thread::scope(|scope| {
        for first in 0..seeds {
            scope.spawn(move || (first..SEEDS).step_by(seeds as usize).for_each(run));
        }
    });
}
