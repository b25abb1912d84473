//! Probes: what a packet's payload tells the sink about it.
//!
//! Two layouts, both big-endian. The short one fits what a 64-byte packet (with FCS) has left behind IPv4 and UDP:
//! 64 - 4 - 14 - 20 - 8 = 18 bytes. The long one is used as soon as there is room. Behind either, the payload is zeros.
//!
//! ```text
//! short, 18 bytes                                  long, 36 bytes
//!  0  u16  magic 5a73                               0  u16  magic 5a4c
//!  2  u16  check                                    2  u16  check
//!  4  u16  run, low bits                            4  u32  run
//!  6  u24  flow                                     8  u32  flow
//!  9  u8   departed - intended, a small float      12  u64  sequence in its flow
//! 10  u32  sequence in its flow, low bits          20  u64  intended departure, ns
//! 14  u32  intended departure, units of 8 ns       28  u64  departed, ns
//! ```
//!
//! The short one's numbers wrap: [`Probe::read`] completes the time to the last one before `now` (right for delays under
//! 33 s), [`Probe::sequence_near`] a sequence to the one nearest to what is expected. Its lateness has 4 significant bits,
//! so it is told up to an eighth too low.
//!
//! The check covers the probe and the payload's length; the rest must be zeros. With the checksums of IP and transport a
//! change of any byte behind the IP header is seen, save one in the magic, after which the packet is none of ours.

use zsync_packet::checksum::Delta;

pub use zsync_ebpf_common::probe::{LOAD_MAGIC, SHORT, SHORT_MAGIC, SHORT_UNIT};
use zsync_ebpf_common::probe::{Short, head, mix};

/// Bytes of a long probe.
pub const LONG: usize = 36;
/// The most flows that a short probe can tell apart.
pub const SHORT_FLOWS: u32 = 1 << 24;
const LONG_MAGIC: [u8; 2] = [0x5a, 0x4c];
/// Clocks of two machines or cores may differ a little, so a packet may seem to come before it left: by 1 s at most.
const AHEAD: u64 = 1_000_000_000;

/// What a probe says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Which run of the generator; a short probe has the low 16 bits.
    pub run: u32,
    /// Which flow; below [`SHORT_FLOWS`] in a short probe.
    pub flow: u32,
    /// Which packet of its flow, from 0; a short probe has the low 32 bits.
    pub sequence: u64,
    /// When it was to leave, in ns of the generator's clock.
    pub intended: u64,
    /// When it left (was written), in ns of the same clock.
    pub departed: u64,
    /// Which layout it has.
    pub short: bool,
}

/// What the bytes of a payload are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A probe, intact.
    Probe(Probe),
    /// Begins with the magic, and then the check or the zeros are wrong.
    Damaged,
    /// Not ours.
    Foreign,
}

impl Probe {
    /// The two bytes that the probe of a payload of `len` bytes begins with; `None` when there is no room for one.
    pub fn mark_for(len: usize) -> Option<[u8; 2]> {
        Self::len_for(len).map(|probe| if probe == LONG { LONG_MAGIC } else { SHORT_MAGIC })
    }

    /// How long the probe of a payload of `len` bytes is; `None` when there is no room for one.
    #[inline]
    pub fn len_for(len: usize) -> Option<usize> {
        if len >= LONG { Some(LONG) } else { (len >= SHORT).then_some(SHORT) }
    }

    /// Writes the probe to the front of `payload`, long when there is room, and zeros behind it.
    ///
    /// Returns the probe's length, 0 when there is no room for any (and then nothing is written).
    #[inline]
    pub fn write(&self, payload: &mut [u8]) -> usize {
        self.put(payload).0
    }

    /// As [`Probe::write`]; and what the probe adds to a checksum under which it was zeros.
    #[inline]
    pub(crate) fn put(&self, payload: &mut [u8]) -> (usize, Delta) {
        let len = payload.len() as u64;
        if let Some((probe, rest)) = payload.split_first_chunk_mut::<LONG>() {
            let words = [
                u64::from(self.run) << 32 | u64::from(self.flow),
                self.sequence,
                self.intended,
                self.departed,
            ];
            let head = head(LONG_MAGIC, words.iter().fold(len, |sum, word| mix(sum ^ word)));
            probe[..4].copy_from_slice(&head.to_be_bytes());
            for (at, word) in words.iter().enumerate() {
                probe[4 + 8 * at..12 + 8 * at].copy_from_slice(&word.to_be_bytes());
            }
            if !rest.is_empty() {
                rest.fill(0);
            }
            return (LONG, added(head, &words));
        }
        let Some((probe, rest)) = payload.split_first_chunk_mut::<SHORT>() else { return (0, Delta::NONE) };
        let &Self { run, flow, sequence, intended, departed, .. } = self;
        let short = Short { run: run as u16, flow, sequence: sequence as u32, intended, departed };
        let (head, front, back) = short.words(len);
        probe[..4].copy_from_slice(&head.to_be_bytes());
        probe[4..12].copy_from_slice(&front.to_be_bytes());
        probe[12..].copy_from_slice(&back.to_be_bytes()[2..]);
        if !rest.is_empty() {
            rest.fill(0);
        }
        (SHORT, added(head, &[front, back]))
    }

    /// Reads a whole payload. `now` is the generator's clock at the time of arrival; only short probes need it.
    #[inline]
    pub fn read(payload: &[u8], now: u64) -> Reading {
        let Some(magic) = payload.first_chunk::<2>() else { return Reading::Foreign };
        let (head, short) = match *magic {
            SHORT_MAGIC => (SHORT, true),
            LONG_MAGIC => (LONG, false),
            _ => return Reading::Foreign,
        };
        let Some((probe, rest)) = payload.split_at_checked(head) else { return Reading::Damaged };
        // No early end: the loop over zeros vectorises.
        if probe[2..4] != check(&probe[4..], payload.len()).to_be_bytes()
            || rest.iter().fold(0, |or, byte| or | byte) != 0
        {
            return Reading::Damaged;
        }
        let u32_at = |at: usize| probe[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let u64_at = |at: usize| probe[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Reading::Probe(if short {
            let latest = now.saturating_add(AHEAD) / SHORT_UNIT;
            let ago = (latest as u32).wrapping_sub(u32_at(14));
            let intended = latest.saturating_sub(ago.into()) * SHORT_UNIT;
            Probe {
                run: u32_at(4) >> 16,
                flow: u32_at(5) & 0x00ff_ffff,
                sequence: u32_at(10).into(),
                intended,
                departed: intended.saturating_add(lateness_of(probe[9])),
                short,
            }
        } else {
            Probe {
                run: u32_at(4),
                flow: u32_at(8),
                sequence: u64_at(12),
                intended: u64_at(20),
                departed: u64_at(28),
                short,
            }
        })
    }

    /// Whether it is of `run`, as far as its layout can tell.
    pub fn is_of(&self, run: u32) -> bool {
        if self.short { self.run as u16 == run as u16 } else { self.run == run }
    }

    /// The whole sequence number: of those with the same low bits the one nearest to `expected`.
    pub fn sequence_near(&self, expected: u64) -> u64 {
        if !self.short {
            return self.sequence;
        }
        let ahead = (self.sequence as u32).wrapping_sub(expected as u32) as i32;
        // Before the first packet there is none: the number is then what it says.
        expected.checked_add_signed(ahead.into()).unwrap_or(self.sequence)
    }
}

/// 16 bits over the fields and the payload's length. A change is missed once in 65536.
#[inline]
fn check(fields: &[u8], len: usize) -> u16 {
    let (words, rest) = fields.as_chunks::<8>();
    let mut sum = words.iter().fold(len as u64, |sum, word| mix(sum ^ u64::from_be_bytes(*word)));
    if !rest.is_empty() {
        sum = mix(sum ^ rest.iter().fold(1, |word, byte| word << 8 | u64::from(*byte)));
    }
    (sum >> 48) as u16
}

/// What the words add to a checksum, computed here because their bytes were only just stored in other pieces.
#[inline]
fn added(head: u32, words: &[u64]) -> Delta {
    let sum = words.iter().fold(u64::from(head), |sum, word| sum + (word >> 32) + (word & 0xffff_ffff));
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    Delta::of_u32(0, ((sum >> 16) + (sum & 0xffff)) as u32)
}

/// The time that [`lateness`](zsync_ebpf_common::probe::lateness) wrote.
#[inline]
fn lateness_of(code: u8) -> u64 {
    match u64::from(code >> 3) {
        0 => code.into(),
        exponent => (8 | u64::from(code & 7)) << (exponent - 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use zsync_ebpf_common::probe::lateness;

    const PROBE: Probe = Probe {
        run: 0x0102_0304,
        flow: 9_999_999,
        sequence: 0x0102_0304_0506_0708,
        intended: 5_000_000_000_000,
        departed: 5_000_000_000_100,
        short: false,
    };

    #[test]
    fn the_layouts_are_as_documented() {
        let mut long = [0xff; 40];
        assert_eq!(PROBE.write(&mut long), 36);
        assert_eq!(long[..2], [0x5a, 0x4c]);
        assert_eq!(long[4..12], [1, 2, 3, 4, 0, 0x98, 0x96, 0x7f]);
        assert_eq!(long[12..20], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(long[20..36], [0, 0, 4, 0x8c, 0x27, 0x39, 0x50, 0, 0, 0, 4, 0x8c, 0x27, 0x39, 0x50, 0x64]);
        assert_eq!(long[36..], [0; 4]);
        let mut short = [0xff; 18];
        assert_eq!(PROBE.write(&mut short), 18);
        assert_eq!(short[..2], [0x5a, 0x73]);
        assert_eq!(short[4..9], [3, 4, 0x98, 0x96, 0x7f]);
        // 100 = 12 << 3: exponent 3, mantissa 4.
        assert_eq!(short[9], 4 << 3 | 4);
        assert_eq!(short[10..14], [5, 6, 7, 8]);
        assert_eq!(u32::from_be_bytes(short[14..].try_into().unwrap()), (5_000_000_000_000u64 / 8) as u32);
        assert_eq!(PROBE.write(&mut [0; 17]), 0);
        assert_eq!([17, 18, 35, 36].map(Probe::len_for), [None, Some(18), Some(18), Some(36)]);
    }

    #[test]
    fn lateness_is_rounded_down_by_an_eighth_at_most() {
        for ns in (0..10_000).chain((0..1 << 34).step_by(777_777)) {
            let told = lateness_of(lateness(ns));
            assert!(told <= ns && ns - told <= ns / 8, "{ns} {told}");
        }
        let codes: Vec<u64> = (0..=255).map(lateness_of).collect();
        assert!(codes.is_sorted());
        assert!((0..=255).all(|code| lateness(lateness_of(code)) == code));
        assert_eq!(lateness(u64::MAX), 255);
    }

    #[test]
    fn foreign_payloads_are_foreign_and_cut_ones_damaged() {
        let mut payload = [0; 60];
        PROBE.write(&mut payload);
        assert_eq!(Probe::read(&payload, 0), Reading::Probe(PROBE));
        assert_eq!(Probe::read(&payload[..59], 0), Reading::Damaged);
        assert_eq!(Probe::read(&payload[..10], 0), Reading::Damaged);
        assert_eq!(Probe::read(&payload[..1], 0), Reading::Foreign);
        assert_eq!(Probe::read(&[], 0), Reading::Foreign);
        assert_eq!(Probe::read(&[7; 60], 0), Reading::Foreign);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            run: u32, flow in 0..SHORT_FLOWS, sequence: u64, intended in 0u64..1 << 62, late in 0u64..1 << 30,
            delay in 0u64..30_000_000_000, len in SHORT..200,
        ) {
            let probe = Probe { run, flow, sequence, intended, departed: intended + late, short: len < LONG };
            let mut payload = vec![0xee; len];
            prop_assert_eq!(Some(probe.write(&mut payload)), Probe::len_for(len));
            let Reading::Probe(read) = Probe::read(&payload, intended + delay) else {
                return Err(TestCaseError::fail("not read"));
            };
            prop_assert!(read.is_of(run) && !read.is_of(run ^ 1));
            if len >= LONG {
                prop_assert_eq!(read, probe);
            } else {
                prop_assert_eq!((read.flow, read.short), (flow, true));
                prop_assert_eq!(read.intended, intended / 8 * 8);
                prop_assert_eq!(read.departed, read.intended + lateness_of(lateness(late)));
                prop_assert_eq!(read.sequence_near(sequence.saturating_sub(1000)), sequence);
                prop_assert_eq!(read.sequence_near(sequence.saturating_add(1000)), sequence);
            }
        }
    }

    proptest! {
        // A fixed seed: the check misses a flipped bit once in 65536, and a test must not fail by chance.
        #![proptest_config(ProptestConfig { rng_seed: prop::test_runner::RngSeed::Fixed(7), ..Default::default() })]
        #[test]
        fn a_flipped_bit_is_seen(len in SHORT..80, sequence: u64, bit in 16usize..640) {
            let probe = Probe { sequence, ..PROBE };
            let mut payload = vec![0; len];
            probe.write(&mut payload);
            let bit = 16 + bit % (8 * len - 16);
            payload[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Probe::read(&payload, PROBE.departed), Reading::Damaged);
        }
    }
}
