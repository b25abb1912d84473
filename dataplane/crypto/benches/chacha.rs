//! ChaCha20-Poly1305 in batches, as ratios to `ring` in the same run.
//!
//! `cargo bench -p zsync-crypto --bench chacha [-- MODE]`; MODE is `targets` (bursts of 32), `shapes` (lengths by batch sizes) or
//! `scan` (every batch size by many lengths: shows only where `ring` was as fast). A ratio is above 1 where this crate is
//! faster. `ring` has its keys prepared ahead. Each packet has a key of its own, is sealed in place and opened again in hot
//! memory; the passes of all are interleaved, and each figure is the least of its passes. To open costs what sealing and
//! opening cost, less sealing.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use std::hint::black_box;
use std::time::{Duration, Instant};
use zsync_crypto::aead::{Aead, Job, Key, TAG_LEN};

/// What is sealed.
struct Burst {
    keys: Vec<Key>,
    ring: Vec<LessSafeKey>,
    frames: Vec<Vec<u8>>,
}

impl Burst {
    fn of(lens: &[usize]) -> Self {
        let bytes = |n: usize| -> [u8; 32] { std::array::from_fn(|at| (n * 37 + at * 11) as u8) };
        let ring = |n| LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &bytes(n)).unwrap());
        Self {
            keys: (0..lens.len()).map(|n| Key::chacha(bytes(n))).collect(),
            ring: (0..lens.len()).map(ring).collect(),
            frames: lens.iter().map(|len| vec![0x5a; len + TAG_LEN]).collect(),
        }
    }

    /// Nanoseconds that `rounds` rounds take by `ring`.
    fn ring(&mut self, rounds: usize, open: bool) -> f64 {
        let from = Instant::now();
        for _ in 0..rounds {
            for (key, frame) in self.ring.iter().zip(&mut self.frames) {
                let (text, tag_of) = frame.split_last_chunk_mut::<TAG_LEN>().unwrap();
                let nonce = Nonce::assume_unique_for_key([0; 12]);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), text).unwrap();
                *tag_of = tag.as_ref().try_into().unwrap();
            }
            if open {
                for (key, frame) in self.ring.iter().zip(&mut self.frames) {
                    let nonce = Nonce::assume_unique_for_key([0; 12]);
                    black_box(key.open_in_place(nonce, Aad::empty(), frame).unwrap());
                }
            }
        }
        from.elapsed().as_nanos() as f64
    }

    /// The same by this crate.
    fn ours(&mut self, aead: &Aead, rounds: usize, open: bool) -> f64 {
        let mut jobs: Vec<_> = self
            .keys
            .iter()
            .zip(&mut self.frames)
            .map(|(key, frame)| Job::new(key, [0; 12], &[], &mut frame[..]))
            .collect();
        let from = Instant::now();
        for _ in 0..rounds {
            aead.seal(&mut jobs);
            if open {
                aead.open(&mut jobs);
            }
        }
        let took = from.elapsed().as_nanos() as f64;
        assert!(jobs.iter().all(Job::is_done));
        took
    }
}

/// Nanoseconds a packet.
struct Figure {
    ring: [f64; 2],
    ours: [f64; 2],
}

impl Figure {
    fn of(lens: &[usize], pass: Duration, passes: usize) -> Self {
        let (mut burst, aead) = (Burst::of(lens), Aead::new());
        let once = burst.ring(1, true).min(burst.ring(1, true)).max(100.0);
        let rounds = (pass.as_nanos() as f64 / once).ceil() as usize;
        let mut least = [f64::MAX; 4];
        for _ in 0..passes {
            for (n, least) in least.iter_mut().enumerate() {
                let open = n % 2 == 1;
                let took = if n < 2 { burst.ring(rounds, open) } else { burst.ours(&aead, rounds, open) };
                *least = least.min(took / rounds as f64 / lens.len() as f64);
            }
        }
        let [ring, ring_both, ours, ours_both] = least;
        Self { ring: [ring, ring_both - ring], ours: [ours, ours_both - ours] }
    }

    fn ratios(&self) -> [f64; 2] {
        [self.ring[0] / self.ours[0], self.ring[1] / self.ours[1]]
    }
}

/// Lengths of a mix: the same ones in each run.
fn mix(name: &str, count: usize) -> Vec<usize> {
    let mut seed = 7_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    (0..count)
        .map(|_| match name {
            "imix" => [64, 64, 64, 64, 64, 64, 64, 594, 594, 594, 594, 1518][random() % 12],
            _ => 64 + random() % 1437,
        })
        .collect()
}

fn targets() {
    println!("bursts of 32: ns a packet by ring and by us, and the ratio");
    println!("{:>16} | {:^26} | {:^26} | asked", "", "seal", "open");
    let equal = [(64, 5.5), (256, 3.2), (512, 2.6), (1420, 2.1), (8192, 1.8)];
    let mut rows: Vec<_> =
        equal.iter().map(|(len, asked)| (len.to_string(), vec![*len; 32], format!("{asked}"))).collect();
    for name in ["imix", "64 to 1500"] {
        rows.push((name.into(), mix(name, 32), String::new()));
    }
    for (name, lens, asked) in rows {
        let figure = Figure::of(&lens, Duration::from_micros(500), 60);
        let [seal, open] = figure.ratios();
        println!(
            "{name:>16} | {:8.1} {:8.1} {seal:7.2}x | {:8.1} {:8.1} {open:7.2}x | {asked}",
            figure.ring[0], figure.ours[0], figure.ring[1], figure.ours[1]
        );
    }
}

fn shapes() {
    let lens = [0, 16, 64, 128, 256, 512, 1024, 1420, 2048, 4096, 9000];
    println!("ratio to ring, seal/open, packets of a batch by bytes of a packet");
    print!("{:>4}", "");
    for len in lens {
        print!("{len:>11}");
    }
    println!();
    for count in [1, 2, 3, 4, 5, 6, 8, 9, 12, 15, 16, 17, 20, 24, 32, 64] {
        print!("{count:>4}");
        for len in lens {
            let [seal, open] = Figure::of(&vec![len; count], Duration::from_micros(200), 12).ratios();
            print!("{:>11}", format!("{seal:.2}/{open:.2}"));
        }
        println!();
    }
}

fn scan() {
    let (mut least, mut cells) = (f64::MAX, 0);
    for count in (1..=16).chain([17, 18, 20, 24, 25, 32, 33]) {
        for len in (0..=320).step_by(16).chain((321..1600).step_by(97)).chain((1600..=9000).step_by(925)) {
            let [mut seal, mut open] = Figure::of(&vec![len; count], Duration::from_micros(60), 8).ratios();
            if seal.min(open) < 1.1 {
                // Once more, longer, before it is believed.
                [seal, open] = Figure::of(&vec![len; count], Duration::from_micros(300), 20).ratios();
            }
            cells += 1;
            least = least.min(seal).min(open);
            if seal.min(open) < 1.1 {
                println!("{count} packets of {len}: seal {seal:.2}x, open {open:.2}x");
            }
        }
    }
    println!("{cells} shapes, the least ratio to ring {least:.2}");
}

fn main() {
    match std::env::args().find(|arg| ["shapes", "scan", "targets"].contains(&arg.as_str())).as_deref() {
        Some("shapes") => shapes(),
        Some("scan") => scan(),
        _ => targets(),
    }
}
