//! The parts against big integers, dalek's points and the hash of RustCrypto. Nothing to do on processors without the lanes.

use super::digits::{self, Digit};
use super::field::{Fe, same};
use super::halve::{self, LIMBS};
use super::point::{Curve, Projective, Summand};
use super::sha512::{self, Message};
use super::table::{Base, Table};
use super::turn::columns;
use super::{Lanes, WIDTH, order, turn};
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use num_bigint::BigUint;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sha2::{Digest, Sha512};
use std::arch::x86_64::*;

type Bytes = [[u8; 32]; WIDTH];

/// Calls `test`, which uses the lanes' instructions, if there are any.
macro_rules! with_lanes {
    ($test:ident) => {
        if Lanes::is_available() {
            // SAFETY: the processor has them.
            unsafe { $test() }
        } else {
            eprintln!("SKIPPED: no AVX-512 IFMA");
        }
    };
}

fn p() -> BigUint {
    (BigUint::from(1u8) << 255) - 19u8
}

fn order_of_base() -> BigUint {
    (BigUint::from(1u8) << 252) + 27_742_317_777_372_353_535_851_937_790_883_648_493_u128
}

fn number(bytes: &[u8; 32]) -> BigUint {
    BigUint::from_bytes_le(bytes)
}

/// Up to 256 bits.
fn to_bytes(number: &BigUint) -> [u8; 32] {
    let (mut bytes, digits) = ([0; 32], number.to_bytes_le());
    bytes[..digits.len()].copy_from_slice(&digits);
    bytes
}

/// Words of each lane to the bytes of each number.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn rows(words: [__m512i; 4]) -> Bytes {
    let mut rows = Bytes::default();
    turn::put_rows(words, rows.each_mut());
    rows
}

fn random(rng: &mut TestRng) -> Bytes {
    let mut bytes = Bytes::default();
    bytes.iter_mut().for_each(|bytes| rng.fill_bytes(bytes));
    bytes
}

/// Bytes at the edges of the field and of words, and random ones.
fn samples() -> Vec<Bytes> {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut edges: Vec<[u8; 32]> = Vec::new();
    for n in 0..256 {
        for less in 0..2u8 {
            edges.push(to_bytes(&((BigUint::from(1u8) << n) - less)));
        }
    }
    for over in 0..20 {
        let mut edge = [0xff; 32];
        (edge[0], edge[31]) = (0xec + over as u8 % 20, 0x7f);
        edges.push(edge);
    }
    while !edges.len().is_multiple_of(WIDTH) {
        edges.push([0; 32]);
    }
    let mut samples: Vec<_> = edges.as_chunks().0.to_vec();
    samples.extend((0..200).map(|_| random(&mut rng)));
    samples
}

/// A field element's least numbers, by its own carries.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn least(a: &Fe) -> [BigUint; WIDTH] {
    let mut out: [BigUint; WIDTH] = Default::default();
    for (n, limb) in a.least().into_iter().enumerate() {
        for (out, limb) in out.iter_mut().zip(digits::Lanes::of(limb).0) {
            assert!(limb < 1 << 51);
            *out += BigUint::from(limb) << (51 * n);
        }
    }
    out
}

/// Holds `a` to be what `expected` says of each lane.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn is(a: &Fe, expected: impl Fn(usize) -> BigUint, what: &str) {
    for limb in a.0 {
        assert!(digits::Lanes::of(limb).0.iter().all(|limb| *limb < (1 << 51) + (1 << 16)), "{what}: limbs");
    }
    for (lane, least) in least(a).into_iter().enumerate() {
        assert_eq!(least, expected(lane) % p(), "{what}, lane {lane}");
    }
}

#[test]
fn the_field_does_what_big_integers_do() {
    with_lanes!(field);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn field() {
    let low = |bytes: &[u8; 32]| -> BigUint { number(bytes) % (BigUint::from(1u8) << 255) };
    let samples = samples();
    for (a, b) in samples.iter().zip(samples.iter().cycle().skip(17)) {
        let (x, y) = (Fe::from_words(&columns(a.each_ref())), Fe::from_words(&columns(b.each_ref())));
        let (a, b) = (a.each_ref().map(low), b.each_ref().map(low));
        is(&x, |n| a[n].clone(), "words");
        is(&x.mul(&y).carry(), |n| &a[n] * &b[n], "product");
        is(&x.square().carry(), |n| &a[n] * &a[n], "square");
        is(&x.wide().plus(&y.wide()).carry(), |n| &a[n] + &b[n], "sum");
        is(&x.wide().minus(&y.wide()).carry(), |n| &a[n] + p() + p() - &b[n], "difference");
        let (xy, xx, yy) = (x.mul(&y), x.square(), y.square());
        let bound = p() * p() * 4u8;
        is(
            &xx.plus(&xx).plus(&xy).minus(&yy).carry(),
            |n| &a[n] * &a[n] * 2u8 + &a[n] * &b[n] + &bound - &b[n] * &b[n],
            "wide",
        );
        for (n, a) in a.iter().enumerate() {
            assert_eq!(x.is_zero() >> n & 1 == 1, (a % p()) == BigUint::ZERO, "zero");
            assert_eq!(x.is_odd() >> n & 1 == 1, (a % p()).bit(0), "odd");
        }
        // The largest limbs that there may be.
        let mut large = x;
        for limb in &mut large.0 {
            *limb = _mm512_or_si512(*limb, same((1 << 51) | ((1 << 16) - 1)));
            *limb = _mm512_and_si512(*limb, same((1 << 51) | ((1 << 16) - 1)));
        }
        let value: BigUint = (0..5).map(|n| BigUint::from((1u64 << 51) | 0xffff) << (51 * n)).sum();
        is(&large.mul(&large).carry(), |_| &value * &value, "large product");
        is(&large.square().carry(), |_| &value * &value, "large square");
        is(&y.mul(&large).carry(), |n| &value * &b[n], "large by any");
    }
}

#[test]
fn powers_are_what_big_integers_make() {
    with_lanes!(powers);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn powers() {
    let exponent = (p() - 5u8) >> 3;
    for sample in samples().iter().step_by(9) {
        let a = sample.each_ref().map(|bytes| -> BigUint { number(bytes) % (BigUint::from(1u8) << 255) });
        let x = Fe::from_words(&columns(sample.each_ref()));
        let [first, second] = Fe::to_p58([x, x.square().carry()]);
        is(&first, |n| a[n].modpow(&exponent, &p()), "power");
        is(&second, |n| (&a[n] * &a[n]).modpow(&exponent, &p()), "power of the square");
    }
}

/// The encoded points of X, Y and Z.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn encoded(point: &Projective) -> Bytes {
    let (x, y, z) = (least(&point.x), least(&point.y), least(&point.z));
    let mut out = Bytes::default();
    for (n, out) in out.iter_mut().enumerate() {
        let inverse = z[n].modpow(&(p() - 2u8), &p());
        assert_ne!(inverse, BigUint::ZERO);
        *out = to_bytes(&(&y[n] * &inverse % p()));
        out[31] |= u8::from((&x[n] * &inverse % p()).bit(0)) << 7;
    }
    out
}

#[test]
fn tables_hold_the_multiples() {
    with_lanes!(tables);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn tables() {
    let curve = Curve::new();
    let high = (0..128).fold(ED25519_BASEPOINT_POINT, |point, _| point + point);
    for (table, point) in Base::both(&curve).iter().zip([ED25519_BASEPOINT_POINT, high]) {
        for n in 0..=128u64 {
            let multiples = std::array::from_fn(|lane| (n + 19 * lane as u64) % 129);
            for negative in [0, 0xa7] {
                let factors = Summand::identity().add_fixed(&table.pick(&multiples), negative);
                let found = encoded(&factors.projective());
                for (lane, found) in found.into_iter().enumerate() {
                    let expected = point * Scalar::from(multiples[lane]);
                    let expected = if negative >> lane & 1 == 1 { -expected } else { expected };
                    assert_eq!(found, expected.compress().to_bytes(), "{} times", multiples[lane]);
                }
            }
        }
    }
    let points: [_; WIDTH] = std::array::from_fn(|n| high * Scalar::from(n as u64) + EIGHT_TORSION[n]);
    let bytes = points.map(|point| point.compress().to_bytes());
    let mut table = Table::empty();
    table.fill(&curve.decode([&columns(bytes.each_ref()); 2])[1].0, &curve);
    for n in 0..9 {
        let multiples = std::array::from_fn(|lane| (n + lane as u64) % 9);
        for negative in [0, 0x5b] {
            let factors = Summand::identity().add(&table.pick(&multiples), negative);
            // And once more on top, and doubled.
            let twice = factors.summand().add(&table.pick(&multiples), negative).projective();
            let doubled = factors.projective().double().projective();
            let (found, twice, doubled) =
                (encoded(&factors.projective()), encoded(&twice), encoded(&doubled));
            for lane in 0..WIDTH {
                let expected =
                    (0..multiples[lane]).fold(EdwardsPoint::identity(), |sum, _| sum + points[lane]);
                let expected = if negative >> lane & 1 == 1 { -expected } else { expected };
                assert_eq!(found[lane], expected.compress().to_bytes());
                assert_eq!(twice[lane], (expected + expected).compress().to_bytes());
                assert_eq!(doubled[lane], twice[lane]);
            }
        }
    }
}

#[test]
fn points_are_decoded_as_dalek_does() {
    with_lanes!(decoding);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn decoding() {
    let curve = Curve::new();
    let mut samples = samples();
    // All that is of small order, in all its encodings: y and y + p, with both signs.
    let mut small: Vec<[u8; 32]> = Vec::new();
    for point in EIGHT_TORSION {
        let bytes = point.compress().to_bytes();
        for sign in [0, 0x80] {
            let mut one = bytes;
            one[31] = one[31] & 0x7f | sign;
            small.push(one);
            let over = number(&{
                one[31] &= 0x7f;
                one
            }) + p();
            if over.bits() <= 255 {
                let mut bytes = to_bytes(&over);
                bytes[31] |= sign;
                small.push(bytes);
            }
        }
    }
    small.resize(small.len().next_multiple_of(WIDTH), [1; 32]);
    samples.extend(small.as_chunks().0);
    let (mut good, mut bad, mut low) = (0, 0, 0);
    for pair in samples.windows(2) {
        let [first, second] = curve.decode([&columns(pair[0].each_ref()), &columns(pair[1].each_ref())]);
        for ((point, is_point), bytes) in [first, second].into_iter().zip(pair) {
            let (found, is_small) = (encoded(&point.projective()), point.is_small());
            for lane in 0..WIDTH {
                let expected = CompressedEdwardsY(bytes[lane]).decompress();
                assert_eq!(is_point >> lane & 1 == 1, expected.is_some(), "{:02x?}", bytes[lane]);
                let Some(expected) = expected else {
                    bad += 1;
                    continue;
                };
                assert_eq!(found[lane], expected.compress().to_bytes(), "{:02x?}", bytes[lane]);
                assert_eq!(is_small >> lane & 1 == 1, expected.is_small_order(), "{:02x?}", bytes[lane]);
                good += 1;
                low += usize::from(expected.is_small_order());
            }
        }
    }
    assert!(good > 500 && bad > 500 && low > 30, "{good} {bad} {low}");
}

/// A number of limbs, in a lane.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn of_limbs(limbs: &[__m512i; LIMBS]) -> [BigUint; WIDTH] {
    let mut out: [BigUint; WIDTH] = Default::default();
    for (n, limb) in limbs.iter().enumerate() {
        for (out, limb) in out.iter_mut().zip(digits::Lanes::of(*limb).0) {
            *out += BigUint::from(limb) << (halve::BITS as usize * n);
        }
    }
    out
}

/// A number of signed digits modulo 2^256.
fn of_digits(digits: &[Digit], bits: usize, lane: usize) -> BigUint {
    let modulus = BigUint::from(1u8) << 256;
    digits.iter().enumerate().fold(BigUint::ZERO, |sum, (n, digit)| {
        assert!(digit.multiples.0[lane] <= 1 << (bits - 1));
        let part = BigUint::from(digit.multiples.0[lane]) << (bits * n);
        let part = if digit.negative >> lane & 1 == 1 { &modulus - part } else { part };
        (sum + part) % &modulus
    })
}

#[test]
fn halves_are_of_the_lattice_odd_and_short() {
    with_lanes!(halves);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn halves() {
    let modulus = order_of_base() << 3;
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut samples = samples();
    samples.extend((0..5000).map(|_| random(&mut rng)));
    // k with long quotients: near fractions of 8 L.
    for n in 1..40u32 {
        samples.push(std::array::from_fn(|lane| {
            let near = (&modulus / BigUint::from(8u32 + n * 7 + lane as u32)) + (lane as u32);
            to_bytes(&(near % order_of_base()))
        }));
    }
    let (mut long, mut all) = (0, 0);
    for (n, sample) in samples.iter().enumerate() {
        let k = sample.map(|bytes| Scalar::from_bytes_mod_order(bytes).to_bytes());
        let words = columns(k.each_ref());
        assert_eq!(rows(halve::words(&halve::limbs::<LIMBS>(&words, halve::BITS), halve::BITS)), k);
        let halves = halve::halve(&words);
        let (c, d) = (of_limbs(&halves.c), of_limbs(&halves.d));
        let (c_digits, c_count) = digits::short(&halves.c);
        let (d_digits, d_count) = digits::short(&halves.d);
        let s_digits = digits::long(&words);
        if (84..5000).contains(&n) {
            all += 1;
            long += usize::from(c_count.max(d_count) > 33);
        }
        for lane in 0..WIDTH {
            let k = number(&k[lane]);
            let signed = if halves.c_is_negative >> lane & 1 == 1 {
                &modulus - &c[lane] % &modulus
            } else {
                c[lane].clone()
            };
            assert_eq!(signed % &modulus, &d[lane] * &k % &modulus, "sample {n}, lane {lane}: k = {k}");
            assert!(d[lane].bit(0), "even");
            assert!(c[lane].bits() <= 255 && d[lane].bits() <= 255);
            assert_eq!(of_digits(&c_digits[..c_count], 4, lane), c[lane]);
            assert_eq!(of_digits(&d_digits[..d_count], 4, lane), d[lane]);
            assert_eq!(of_digits(&s_digits, 8, lane), k);
        }
    }
    assert!(long * 20 < all, "{long} of {all} groups have more than 33 digits");
}

#[test]
fn numbers_are_reduced_as_big_integers_are() {
    with_lanes!(numbers);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn numbers() {
    let mut samples = samples();
    // Around multiples of L, and of L 2^256.
    for step in 0..24u32 {
        samples.push(std::array::from_fn(|lane| {
            to_bytes(&(order_of_base() * (lane as u32 + 1) + step - 12u32))
        }));
    }
    for (n, a) in samples.iter().enumerate() {
        for b in [&samples[(n * 7 + 5) % samples.len()], a, &[[0; 32]; WIDTH], &[[0xff; 32]; WIDTH]] {
            let (x, y) = (columns(a.each_ref()), columns(b.each_ref()));
            let wide = rows(order::least(&[x[0], x[1], x[2], x[3], y[0], y[1], y[2], y[3]]));
            let product = rows(order::product(&x, &y));
            for lane in 0..WIDTH {
                let (a, b) = (number(&a[lane]), number(&b[lane]));
                assert_eq!(number(&product[lane]), &a * &b % order_of_base(), "{a} by {b}");
                assert_eq!(number(&wide[lane]), (a + (b << 256)) % order_of_base());
            }
        }
    }
}

#[test]
fn hashes_are_those_of_one_after_the_other() {
    with_lanes!(hashes);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma")]
fn hashes() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut text = vec![0; 700];
    rng.fill_bytes(&mut text);
    let heads = random(&mut rng);
    for len in 0..=600 {
        // All lanes alike, with lengths nearby, and far apart.
        for step in [0, 1, 75] {
            let messages = std::array::from_fn(|lane| Message {
                head: [&heads[lane], &heads[7 - lane]],
                tail: &text[lane..lane + (len + step * lane) % 601],
            });
            let [a, b, c, d, e, f, g, h] = sha512::hash(&messages);
            let (low, high) = (rows([a, b, c, d]), rows([e, f, g, h]));
            for (lane, message) in messages.iter().enumerate() {
                let hash = Sha512::new()
                    .chain_update(message.head[0])
                    .chain_update(message.head[1])
                    .chain_update(message.tail)
                    .finalize();
                assert_eq!([low[lane], high[lane]].concat(), hash.to_vec(), "{} bytes", message.tail.len());
            }
        }
    }
}
