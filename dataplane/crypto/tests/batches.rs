//! Batches of any mix against `ring`, byte for byte, on each backend that this machine has.

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use zsync_crypto::aead::{Aead, Algorithm, Backend, Job, Key, NONCE_LEN, TAG_LEN};

/// What a job is made of.
struct Made {
    key: Key,
    nonce: [u8; NONCE_LEN],
    aad: Vec<u8>,
    text: Vec<u8>,
}

impl Made {
    fn any(rng: &mut TestRng, algorithm: Algorithm, len: usize, aad: usize) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        let (mut nonce, mut aad, mut text) = ([0; NONCE_LEN], vec![0; aad], vec![0; len]);
        rng.fill_bytes(&mut nonce);
        rng.fill_bytes(&mut aad);
        rng.fill_bytes(&mut text);
        Self { key: Key::new(algorithm, &bytes[..algorithm.key_len()]).unwrap(), nonce, aad, text }
    }

    /// Its text, room for the tag, and more bytes behind, which nobody may touch.
    fn frame(&self) -> Vec<u8> {
        let mut frame = [&self.text[..], &[0; TAG_LEN]].concat();
        frame.extend([0xa5; 64]);
        frame
    }
}

fn aead(backend: Option<Backend>) -> Aead {
    backend.map_or_else(Aead::new, |backend| Aead::with(backend).unwrap())
}

/// Seals and opens `made` as one batch by `backend`, or by whichever are chosen, and each alone by `ring`: all is the same. `spoil`: the numbers of those
/// whose bytes are changed on the way.
fn agrees(backend: Option<Backend>, made: &[Made], spoil: &[usize]) {
    let (aead, oracle) = (aead(backend), Aead::with(Backend::Ring).unwrap());
    let mut frames: Vec<_> = made.iter().map(Made::frame).collect();
    let mut expected = frames.clone();
    let seal = |aead: &Aead, frames: &mut [Vec<u8>]| {
        let mut jobs: Vec<_> = made
            .iter()
            .zip(frames)
            .map(|(made, frame)| {
                let len = made.text.len() + TAG_LEN;
                Job::new(&made.key, made.nonce, &made.aad, &mut frame[..len])
            })
            .collect();
        aead.seal(&mut jobs);
        assert!(jobs.iter().all(Job::is_done));
    };
    seal(&aead, &mut frames);
    seal(&oracle, &mut expected);
    for (n, (frame, expected)) in frames.iter().zip(&expected).enumerate() {
        let what = format!("{backend:?}, job {n} of {}: {} bytes", made.len(), made[n].text.len());
        assert!(frame == expected, "{what}: sealed otherwise than by ring");
    }
    for &n in spoil {
        let at = (n * 7919 + made.len()) % (made[n].text.len() + TAG_LEN);
        frames[n][at] ^= 1 << (n % 8);
    }
    let mut jobs: Vec<_> = made
        .iter()
        .zip(&mut frames)
        .map(|(made, frame)| {
            let len = made.text.len() + TAG_LEN;
            Job::new(&made.key, made.nonce, &made.aad, &mut frame[..len])
        })
        .collect();
    aead.open(&mut jobs);
    for (n, (job, made)) in jobs.iter().zip(made).enumerate() {
        let what = format!("{backend:?}, job {n} of {}: {} bytes", jobs.len(), made.text.len());
        assert_eq!(job.is_done(), !spoil.contains(&n), "{what}");
        if job.is_done() {
            assert!(job.data()[..made.text.len()] == made.text, "{what}: opened otherwise");
        } else {
            assert!(job.data().iter().all(|byte| *byte == 0), "{what}: shown, and not authentic");
        }
    }
    for frame in &frames {
        assert!(
            frame[frame.len() - 64..].iter().all(|byte| *byte == 0xa5),
            "{backend:?}: wrote behind a packet"
        );
    }
}

/// `None`: what is chosen where nobody says.
fn backends() -> impl Iterator<Item = Option<Backend>> {
    Backend::ALL.into_iter().filter(|backend| backend.is_available()).map(Some).chain([None])
}

fn rng() -> TestRng {
    TestRng::deterministic_rng(RngAlgorithm::ChaCha)
}

#[test]
fn every_length_up_to_9000() {
    let mut rng = rng();
    for algorithm in Algorithm::ALL {
        // In batches of neighbours, so that each length has others beside it, and alone in every 17th.
        for from in (0..=9000).step_by(16) {
            let made: Vec<_> = (from..(from + 16).min(9001))
                .map(|len| Made::any(&mut rng, algorithm, len, [0, 12, 13, 33][len % 4]))
                .collect();
            for backend in backends() {
                agrees(backend, &made, &[from % made.len()]);
                let alone = from / 16 % made.len();
                agrees(backend, &made[alone..=alone], &[]);
            }
        }
    }
}

/// Bursts whose texts have equally many blocks go a way of their own: of one length and of some, under one key and under many, with
/// additional data and without, and with others behind them.
#[test]
fn bursts_of_about_one_length() {
    let mut rng = rng();
    let lens = (1..=700).chain((701..=9000).step_by(97)).chain([1024, 1420, 4096, 8192]);
    for (round, len) in lens.enumerate() {
        let count = [32, 64, 40][round % 3];
        let blocks = usize::div_ceil(len, 64);
        let mut made: Vec<_> = (0..count)
            .map(|_| {
                let any = (blocks - 1) * 64 + 1 + rng.next_u32() as usize % 64;
                let aad = if round % 5 < 3 { 0 } else { rng.next_u32() as usize % 40 };
                let len = if round % 2 == 0 { len } else { any };
                Made::any(&mut rng, Algorithm::ChaCha20Poly1305, len, aad)
            })
            .collect();
        let spoil: Vec<_> = (0..count).filter(|_| rng.next_u32().is_multiple_of(8)).collect();
        for backend in backends() {
            agrees(backend, &made, &spoil);
        }
        // All of one length under one key, whose jobs have the same one.
        for made in &mut made {
            made.text.resize(len, 0x5a);
        }
        let [mut ours, mut others] = [Aead::new(), Aead::with(Backend::Ring).unwrap()].map(|aead| {
            let mut frames: Vec<_> = made.iter().map(Made::frame).collect();
            let mut jobs: Vec<_> = made
                .iter()
                .zip(&mut frames)
                .map(|(of, frame)| Job::new(&made[0].key, of.nonce, &of.aad, &mut frame[..len + TAG_LEN]))
                .collect();
            aead.seal(&mut jobs);
            assert!(jobs.iter().all(Job::is_done));
            frames
        });
        assert!(ours == others, "{len} bytes under one key: sealed otherwise than by ring");
        for frames in [&mut ours, &mut others] {
            for &n in &spoil {
                frames[n][(n * 7919) % (len + TAG_LEN)] ^= 1 << (n % 8);
            }
        }
        let mut jobs: Vec<_> = made
            .iter()
            .zip(&mut ours)
            .map(|(of, frame)| Job::new(&made[0].key, of.nonce, &of.aad, &mut frame[..len + TAG_LEN]))
            .collect();
        Aead::new().open(&mut jobs);
        for (n, (job, made)) in jobs.iter().zip(&made).enumerate() {
            assert_eq!(job.is_done(), !spoil.contains(&n), "job {n}, {len} bytes under one key");
            let right = if job.is_done() {
                job.data().starts_with(&made.text)
            } else {
                job.data().iter().all(|b| *b == 0)
            };
            assert!(right, "job {n}, {len} bytes under one key");
        }
    }
}

/// `ZSYNC_LONG=1` makes it a million; a processor that is emulated gets fewer.
#[test]
fn random_mixed_batches() {
    let rounds = match std::env::var_os("ZSYNC_LONG") {
        Some(_) => 1_000_000,
        None if cfg!(target_arch = "aarch64") => 2_000,
        None => 20_000,
    };
    let mut rng = rng();
    for round in 0..rounds {
        let count = 1 + rng.next_u32() as usize % if round % 16 == 0 { 130 } else { 33 };
        let longest = [80, 300, 1500][rng.next_u32() as usize % 3];
        let mixed = rng.next_u32().is_multiple_of(4);
        let one = Algorithm::ALL[rng.next_u32() as usize % 3];
        let made: Vec<_> = (0..count)
            .map(|_| {
                let algorithm = if mixed { Algorithm::ALL[rng.next_u32() as usize % 3] } else { one };
                let len = rng.next_u32() as usize % (longest + 1);
                let aad = if rng.next_u32().is_multiple_of(2) { 0 } else { rng.next_u32() as usize % 40 };
                Made::any(&mut rng, algorithm, len, aad)
            })
            .collect();
        let spoil: Vec<_> = (0..count).filter(|_| rng.next_u32().is_multiple_of(8)).collect();
        for backend in backends() {
            agrees(backend, &made, &spoil);
        }
    }
}

#[test]
fn what_has_no_room_for_a_tag_fails_and_is_wiped() {
    let key = Key::chacha([7; 32]);
    for backend in backends() {
        let aead = aead(backend);
        let (mut short, mut fine) = ([1; TAG_LEN - 1], [1; TAG_LEN + 3]);
        let mut jobs = [Job::new(&key, [0; 12], &[], &mut short), Job::new(&key, [1; 12], &[], &mut fine)];
        aead.seal(&mut jobs);
        assert!(!jobs[0].is_done() && jobs[1].is_done());
        assert_eq!(short, [0; TAG_LEN - 1]);
    }
}

#[test]
fn keys_are_not_printed() {
    let key = Key::chacha([0xab; 32]);
    let text = format!("{key:?}");
    assert!(!text.contains("ab") && !text.contains("171"), "{text}");
}
