//! What a verified Ed25519 signature costs, beside `ring` and dalek's `verify_strict` in the same run.
//!
//! `cargo bench -p zsync-crypto --bench ed25519 [SECONDS]`. All take turns, a few milliseconds each; the medians of each one's
//! turns are printed: what the machine does besides hits them alike. Every signature has a key of its own; messages have
//! 200 bytes.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use std::hint::black_box;
use std::time::{Duration, Instant};
use zsync_crypto::ed25519::{Backend, Check, Verifier};

const MESSAGE: usize = 200;
const SIGNED: usize = 1024;
/// Signatures verified in a turn at least.
const TURN: usize = 64;

struct Signed {
    key: [u8; 32],
    signature: [u8; 64],
    message: [u8; MESSAGE],
}

/// Whether all of a batch are right.
type Verify<'a> = dyn FnMut(&[Check<'_>]) -> bool + 'a;

/// One of those who take turns: what it is called, its batch, and what verifies a batch.
struct Contender<'a> {
    name: String,
    batch: usize,
    verify: Box<Verify<'a>>,
    /// Nanoseconds a signature, for each turn.
    turns: Vec<f64>,
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(20);
    let signed: Vec<_> = (0..SIGNED)
        .map(|n| {
            let mut seed = [7; 32];
            seed[..8].copy_from_slice(&n.to_le_bytes());
            let (key, message) = (SigningKey::from_bytes(&seed), [n as u8; MESSAGE]);
            let signature = key.sign(&message).to_bytes();
            Signed { key: key.verifying_key().to_bytes(), signature, message }
        })
        .collect();
    let checks: Vec<_> = signed
        .iter()
        .map(|one| Check { key: &one.key, signature: &one.signature, message: &one.message })
        .collect();

    let mut contenders = vec![
        Contender { name: "ring".into(), batch: 64, verify: Box::new(by_ring), turns: Vec::new() },
        Contender {
            name: "dalek verify_strict".into(),
            batch: 64,
            verify: Box::new(by_dalek),
            turns: Vec::new(),
        },
    ];
    let verifiers = [
        ("lanes alone", Verifier::with(Backend::Ifma), &[1, 2, 8][..]),
        ("verifier", Some(Verifier::new()), &[1, 2, 4, 8, 64, 1024][..]),
    ];
    for (name, verifier, batches) in verifiers {
        for &batch in batches {
            let Some(verifier) = verifier.clone() else { continue };
            let mut verdicts = vec![false; batch];
            contenders.push(Contender {
                name: format!("{name}, batches of {batch}"),
                batch,
                verify: Box::new(move |checks| {
                    verifier.verify(checks, &mut verdicts);
                    verdicts.iter().all(|right| *right)
                }),
                turns: Vec::new(),
            });
        }
    }

    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        for one in &mut contenders {
            let turn = Instant::now();
            let mut count = 0;
            for checks in checks.chunks_exact(one.batch) {
                assert!((one.verify)(black_box(checks)), "{}: a right signature is wrong", one.name);
                count += checks.len();
                if count >= TURN {
                    break;
                }
            }
            one.turns.push(turn.elapsed().as_nanos() as f64 / count as f64);
        }
    }

    let medians: Vec<_> = contenders.iter_mut().map(|one| median(&mut one.turns)).collect();
    println!("{:32} {:>9} {:>12} {:>8} {:>8}", "", "ns", "k/s, median", "k/s best", "of ring");
    for (one, ns) in contenders.iter().zip(&medians) {
        let best = 1e6 / one.turns[0];
        println!("{:32} {ns:9.0} {:12.1} {best:8.1} {:8.2}", one.name, 1e6 / ns, medians[0] / ns);
    }
}

fn by_ring(checks: &[Check<'_>]) -> bool {
    checks.iter().all(|check| {
        ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, check.key)
            .verify(check.message, check.signature)
            .is_ok()
    })
}

fn by_dalek(checks: &[Check<'_>]) -> bool {
    checks.iter().all(|check| {
        VerifyingKey::from_bytes(check.key)
            .and_then(|key| key.verify_strict(check.message, &Signature::from_bytes(check.signature)))
            .is_ok()
    })
}

fn median(turns: &mut [f64]) -> f64 {
    turns.sort_by(f64::total_cmp);
    turns[turns.len() / 2]
}
