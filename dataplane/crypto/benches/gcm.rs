//! What a packet costs with AES-GCM, beside `ring` and `aws-lc-rs` with keys that they expanded before.
//!
//! `cargo bench -p zsync-crypto --bench gcm [-- open] [-- every]`: bursts of some sizes of packets of some lengths, under four
//! keys that take turns; `every`: single packets of each 13th length up to 9000 and the worst ratio among them. Passes of all
//! take turns in one run; the figures are medians, in ns a packet, and medians of the ratios to the better of the others.
//! Opening is measured as sealing and opening, less sealing.

use aws_lc_rs::aead as aws;
use ring::aead as ring;
use std::hint::black_box;
use std::time::Instant;
use zsync_crypto::aead::{Aead, Algorithm, Backend, Job, Key, NONCE_LEN, TAG_LEN};

const LENGTHS: [usize; 12] = [0, 16, 64, 100, 128, 256, 300, 512, 1420, 4096, 8192, MIXED];
const COUNTS: [usize; 4] = [1, 4, 8, 32];
const KEYS: usize = 4;
const TURNS: usize = 41;
const AAD: [u8; 12] = [3; 12];
const NONCE: [u8; NONCE_LEN] = [9; NONCE_LEN];
/// Stands for lengths between 40 and 1420 that follow no pattern.
const MIXED: usize = usize::MAX;

/// Keys of all who are measured.
struct Keys {
    ring: Vec<ring::LessSafeKey>,
    aws: Vec<aws::LessSafeKey>,
    ours: Vec<Key>,
}

impl Keys {
    fn new(algorithm: Algorithm) -> Option<Self> {
        let (rings, awses) = match algorithm {
            Algorithm::Aes128Gcm => (&ring::AES_128_GCM, &aws::AES_128_GCM),
            Algorithm::Aes256Gcm => (&ring::AES_256_GCM, &aws::AES_256_GCM),
            Algorithm::ChaCha20Poly1305 => return None,
        };
        let mut keys = Self { ring: Vec::new(), aws: Vec::new(), ours: Vec::new() };
        for n in 0..KEYS {
            let bytes = &[n as u8 + 1; 32][..algorithm.key_len()];
            keys.ring.push(ring::LessSafeKey::new(ring::UnboundKey::new(rings, bytes).ok()?));
            keys.aws.push(aws::LessSafeKey::new(aws::UnboundKey::new(awses, bytes).ok()?));
            keys.ours.push(Key::new(algorithm, bytes)?);
        }
        Some(keys)
    }
}

/// ns a packet that `round` takes, which does `count` of them.
fn timed(rounds: usize, count: usize, mut round: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..rounds {
        round();
    }
    start.elapsed().as_nanos() as f64 / rounds as f64 / count as f64
}

/// One pass of each: `ring`, `aws-lc-rs`, ours.
fn pass(keys: &Keys, aead: &Aead, frames: &mut [Vec<u8>], rounds: usize, open: bool) -> [f64; 3] {
    let count = frames.len();
    let by_ring = timed(rounds, count, || {
        for (n, frame) in frames.iter_mut().enumerate() {
            let len = frame.len() - TAG_LEN;
            let (text, behind) = frame.split_at_mut(len);
            let (nonce, aad) = (ring::Nonce::assume_unique_for_key(NONCE), ring::Aad::from(&AAD[..]));
            if let Ok(tag) = keys.ring[n % KEYS].seal_in_place_separate_tag(nonce, aad, text) {
                behind.copy_from_slice(tag.as_ref());
            }
        }
        if open {
            for (n, frame) in frames.iter_mut().enumerate() {
                let (nonce, aad) = (ring::Nonce::assume_unique_for_key(NONCE), ring::Aad::from(&AAD[..]));
                let text = keys.ring[n % KEYS].open_in_place(nonce, aad, frame);
                assert!(text.is_ok());
            }
        }
    });
    let by_aws = timed(rounds, count, || {
        for (n, frame) in frames.iter_mut().enumerate() {
            let len = frame.len() - TAG_LEN;
            let (text, behind) = frame.split_at_mut(len);
            let (nonce, aad) = (aws::Nonce::assume_unique_for_key(NONCE), aws::Aad::from(&AAD[..]));
            if let Ok(tag) = keys.aws[n % KEYS].seal_in_place_separate_tag(nonce, aad, text) {
                behind.copy_from_slice(tag.as_ref());
            }
        }
        if open {
            for (n, frame) in frames.iter_mut().enumerate() {
                let (nonce, aad) = (aws::Nonce::assume_unique_for_key(NONCE), aws::Aad::from(&AAD[..]));
                let text = keys.aws[n % KEYS].open_in_place(nonce, aad, frame);
                assert!(text.is_ok());
            }
        }
    });
    let mut jobs: Vec<_> = frames
        .iter_mut()
        .enumerate()
        .map(|(n, frame)| Job::new(&keys.ours[n % KEYS], NONCE, &AAD, frame))
        .collect();
    let by_us = timed(rounds, count, || {
        aead.seal(black_box(&mut jobs));
        if open {
            aead.open(black_box(&mut jobs));
        }
    });
    assert!(jobs.iter().all(Job::is_done));
    [by_ring, by_aws, by_us]
}

fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut of: Vec<_> = of.collect();
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Medians of each, and of the ratio.
fn measured(keys: &Keys, aead: &Aead, len: usize, count: usize, open: bool, turns: usize) -> ([f64; 3], f64) {
    let length = |n: usize| if len == MIXED { 40 + n * n * 7919 % 1381 } else { len };
    let mut frames: Vec<_> = (0..count).map(|n| vec![7; length(n) + TAG_LEN]).collect();
    let each = frames.iter().map(|frame| 150 + frame.len()).sum::<usize>();
    let rounds = (250_000 / each).max(1);
    let passes: Vec<_> = (0..turns)
        .map(|_| {
            let mut pass_of = |open| pass(keys, aead, &mut frames, rounds, open);
            let sealed = pass_of(false);
            if !open {
                return sealed;
            }
            let both = pass_of(true);
            std::array::from_fn(|n| both[n] - sealed[n])
        })
        .collect();
    let medians = std::array::from_fn(|n| median(passes.iter().map(|pass| pass[n])));
    (medians, median(passes.iter().map(|pass| pass[0].min(pass[1]) / pass[2])))
}

fn main() {
    let asked = |what: &str| std::env::args().any(|argument| argument == what);
    let (open, every) = (asked("open"), asked("every"));
    let Some(aead) = Aead::with(Backend::Avx512) else {
        println!("this processor has no VAES with AVX-512");
        return;
    };
    for algorithm in [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm] {
        let Some(keys) = Keys::new(algorithm) else { continue };
        if every {
            let worst = (0..=9000)
                .step_by(13)
                .map(|len| (measured(&keys, &aead, len, 1, open, 5).1, len))
                .min_by(|a, b| a.0.total_cmp(&b.0));
            println!("{algorithm:?}, single packets: worst ratio and its length {worst:?}");
            continue;
        }
        println!("{algorithm:?}, {}", if open { "open" } else { "seal" });
        println!(
            "{:>6} {:>7} {:>7} {:>7} {:>7} {:>6}",
            "bytes", "packets", "ring", "aws-lc", "ours", "ratio"
        );
        for len in LENGTHS {
            for count in COUNTS {
                let ([ring, aws, ours], ratio) = measured(&keys, &aead, len, count, open, TURNS);
                let name = if len == MIXED { "mixed".to_owned() } else { len.to_string() };
                println!("{name:>6} {count:>7} {ring:>7.1} {aws:>7.1} {ours:>7.1} {ratio:>6.2}");
            }
        }
    }
}
