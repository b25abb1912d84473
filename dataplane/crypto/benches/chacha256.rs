//! What a packet costs with the lanes of AVX2, beside `ring`, for bursts of some sizes of packets of some lengths.
//!
//! `cargo bench -p zsync-crypto --bench chacha256 [-- open]`, and lengths and numbers, if not all are wanted. Passes of both
//! take turns; the figures are the least of each, in ns a packet, and their ratio.

use std::time::Instant;
use zsync_crypto::aead::{Aead, Algorithm, Backend, Job, Key, TAG_LEN};

const LENGTHS: [usize; 8] = [0, 64, 80, 256, 512, 1420, 8192, 700];
const COUNTS: [usize; 8] = [1, 2, 3, 4, 6, 8, 16, 32];
const TURNS: usize = 61;

/// ns a packet, of sealing or opening all of `frames` once.
fn pass(aead: &Aead, open: bool, keys: &[Key], frames: &mut [Vec<u8>], rounds: u64) -> f64 {
    let count = frames.len() as f64;
    let oracle = Aead::with(Backend::Ring).unwrap_or_default();
    let mut spent = 0;
    for round in 0..rounds {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&round.to_le_bytes());
        let mut jobs: Vec<_> =
            keys.iter().zip(&mut *frames).map(|(key, frame)| Job::new(key, nonce, &[], frame)).collect();
        if open {
            oracle.seal(&mut jobs);
        }
        let start = Instant::now();
        if open {
            aead.open(&mut jobs);
        } else {
            aead.seal(&mut jobs);
        }
        spent += start.elapsed().as_nanos();
        assert!(jobs.iter().all(Job::is_done));
    }
    spent as f64 / rounds as f64 / count
}

fn least(of: &[f64]) -> f64 {
    of.iter().copied().fold(f64::INFINITY, f64::min)
}

fn main() {
    let open = std::env::args().any(|argument| argument == "open");
    let Some(wide) = Aead::with(Backend::Avx2) else {
        println!("this processor has no AVX2");
        return;
    };
    let ring = Aead::with(Backend::Ring).unwrap_or_default();
    println!("{:>6} {:>7} {:>8} {:>8} {:>6}", "bytes", "packets", "ring", "avx2", "ratio");
    let only: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    for len in LENGTHS {
        for count in COUNTS {
            if !(only.is_empty() || only.contains(&len) && only.contains(&count)) {
                continue;
            }
            let keys: Vec<_> =
                (0..count).filter_map(|n| Key::new(Algorithm::ChaCha20Poly1305, &[n as u8; 32])).collect();
            // 700 stands for a mix.
            let length = |n: usize| if len == 700 { [60, 1420, 576, 120][n % 4] } else { len };
            let mut frames: Vec<_> = (0..count).map(|n| vec![7; length(n) + TAG_LEN]).collect();
            let rounds = (200_000 / ((200 + len) * count)).max(1) as u64;
            let (mut a, mut b) = (Vec::new(), Vec::new());
            for _ in 0..TURNS {
                a.push(pass(&ring, open, &keys, &mut frames, rounds));
                b.push(pass(&wide, open, &keys, &mut frames, rounds));
            }
            let (a, b) = (least(&a), least(&b));
            let ratio = a / b;
            let name = if len == 700 { "mixed".to_owned() } else { len.to_string() };
            println!("{name:>6} {count:>7} {:>8.0} {:>8.0} {ratio:>6.2}", a, b);
        }
    }
}
