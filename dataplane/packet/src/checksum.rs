//! The internet checksum (RFC 1071): over bytes, and over changes (RFC 1624).
//!
//! Two values. [`Sum`] is a one's complement sum that is still being added up; [`Delta`] is the difference that
//! a rewrite makes, so that a router or NAT need not read the payload again. Both are order-free: words are added
//! as the machine reads them and swapped once at the end (RFC 1071 §2(B)).
//!
//! One's complement has two zeros, and this module keeps them apart: a [`Sum`] is the integer zero only if every
//! byte added was zero, so [`Sum::finish`] gives `0xffff` for all-zero data and `0x0000` for any other data whose
//! sum is a multiple of `0xffff`. [`Delta::apply`] to a checksum that was computed so gives the very checksum that
//! a full computation gives, save where the new data are all zero: no IP header and no pseudo-header is; ICMP
//! can be, and its view recomputes then.
#![forbid(unsafe_code)]

use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::Add;

/// A one's complement sum under way. Every piece but the last must have an even length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Sum = Sum(0);

    /// The sum of `bytes`; an odd last byte counts as if a zero followed it.
    #[inline]
    pub fn of(bytes: &[u8]) -> Sum {
        // Four lanes of 8 bytes: adding the two halves of a word needs no carry, so the loop vectorises. A lane
        // grows by less than 2^33 a block and would overflow after 2^31 blocks, 64 GiB.
        let (blocks, rest) = bytes.as_chunks::<32>();
        let mut lanes = [0u64; 4];
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += halves(u64::from_ne_bytes(*word));
            }
        }
        let mut sum: u64 = lanes.iter().fold(0, |sum, lane| sum + fold32(*lane));

        let (words, rest) = rest.as_chunks::<8>();
        for word in words {
            sum += halves(u64::from_ne_bytes(*word));
        }
        let (pairs, rest) = rest.as_chunks::<2>();
        for pair in pairs {
            sum += u64::from(u16::from_ne_bytes(*pair));
        }
        if let [last] = rest {
            sum += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        Sum(sum)
    }

    /// The sum of a header whose length is known when the program is compiled: no loop is left.
    #[inline(always)]
    pub(crate) fn of_fixed<const N: usize>(header: &[u8; N]) -> Sum {
        const { assert!(N.is_multiple_of(4), "fixed headers are whole 32-bit words") };
        let (words, _) = header.as_chunks::<4>();
        Sum(words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum())
    }

    /// The two addresses of a v4 pseudo-header (RFC 9293 §3.1).
    #[inline]
    pub fn addresses_v4(source: Ipv4Addr, destination: Ipv4Addr) -> Sum {
        let [s, d] = [source, destination].map(|a| u64::from(u32::from_ne_bytes(a.octets())));
        Sum(s + d)
    }

    /// The two addresses of a v6 pseudo-header (RFC 8200 §8.1). With a routing header that still has segments
    /// left, `destination` is the last segment, not the header's field.
    #[inline]
    pub fn addresses_v6(source: Ipv6Addr, destination: Ipv6Addr) -> Sum {
        Sum::of_fixed(&source.octets()) + Sum::of_fixed(&destination.octets())
    }

    /// The whole v4 pseudo-header: addresses, `protocol` and the transport `length` in bytes.
    #[inline]
    pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Sum {
        Sum::addresses_v4(source, destination).with_transport(protocol, usize::from(length))
    }

    /// The whole v6 pseudo-header: addresses, `next_header` and the transport `length` in bytes.
    #[inline]
    pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, length: u32) -> Sum {
        // The cast widens: usize has at least 32 bits wherever there is AF_XDP.
        Sum::addresses_v6(source, destination).with_transport(next_header, length as usize)
    }

    /// Adds the rest of a pseudo-header, which both families share: the protocol and the length.
    #[inline]
    pub(crate) fn with_transport(self, protocol: u8, length: usize) -> Sum {
        self.with_u16(u16::from(protocol)) + Sum(u64::from((length as u32).to_be()))
    }

    /// Adds one 16-bit number (in host order).
    #[inline]
    pub fn with_u16(self, word: u16) -> Sum {
        self + Sum(u64::from(word.to_be()))
    }

    /// The checksum: the complement of the folded sum, in host order.
    #[inline]
    pub fn finish(self) -> u16 {
        !u16::from_be_bytes(fold16(self.0).to_ne_bytes())
    }

    /// The checksum as UDP sends it: a computed zero goes as `0xffff`, for zero says "none" (RFC 768).
    #[inline]
    pub fn finish_udp(self) -> u16 {
        udp_zero_rule(self.finish())
    }

    /// Whether data that include their checksum field add up.
    #[inline]
    pub fn is_valid(self) -> bool {
        fold16(self.0) == 0xffff
    }
}

impl Add for Sum {
    type Output = Sum;

    /// Adds with the carry brought round, so no number of pieces overflows.
    #[inline]
    fn add(self, other: Sum) -> Sum {
        let (sum, carry) = self.0.overflowing_add(other.0);
        Sum(sum + u64::from(carry))
    }
}

/// The internet checksum of `bytes`, whose checksum field is zero.
#[inline]
pub fn of(bytes: &[u8]) -> u16 {
    Sum::of(bytes).finish()
}

/// What a rewrite adds to the sum under a checksum: `~m + m'` of RFC 1624 equation 3.
///
/// A setter of a header view returns it, for the checksums above that cover the same bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "a checksum of a layer above may cover the bytes that changed"]
pub struct Delta(u16);

impl Delta {
    /// No change.
    pub const NONE: Delta = Delta(0);

    /// The change of `old` into `new`, which lie at an even offset from the start of what the checksum covers.
    #[inline]
    pub fn of<const N: usize>(old: &[u8; N], new: &[u8; N]) -> Delta {
        const { assert!(N.is_multiple_of(2), "the internet checksum is over 16-bit words") };
        let mut sum = 0u64;
        for (old, new) in old.as_chunks::<2>().0.iter().zip(new.as_chunks::<2>().0) {
            sum += u64::from(!u16::from_ne_bytes(*old)) + u64::from(u16::from_ne_bytes(*new));
        }
        Delta(u16::from_be_bytes(fold16(sum).to_ne_bytes()))
    }

    /// The change of one 16-bit word (in host order).
    #[inline]
    pub fn of_u16(old: u16, new: u16) -> Delta {
        Delta(fold16(u64::from(!old) + u64::from(new)))
    }

    /// The change of one 32-bit word (in host order).
    #[inline]
    pub fn of_u32(old: u32, new: u32) -> Delta {
        Delta(fold16(u64::from(!old) + u64::from(new)))
    }

    /// The same bytes seen from an odd offset: every byte sits in the other half of its word (RFC 1071 §2(B)).
    #[inline]
    pub fn at_odd_offset(self) -> Delta {
        Delta(self.0.swap_bytes())
    }

    /// The checksum after the change (RFC 1624 equation 3: `HC' = ~(~HC + ~m + m')`).
    #[inline]
    pub fn apply(self, checksum: u16) -> u16 {
        !fold16(u64::from(!checksum) + u64::from(self.0))
    }

    /// The UDP checksum after the change: "none" (zero) stays none, and a computed zero goes as `0xffff`.
    #[inline]
    pub fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 { 0 } else { udp_zero_rule(self.apply(checksum)) }
    }
}

impl Add for Delta {
    type Output = Delta;

    #[inline]
    fn add(self, other: Delta) -> Delta {
        Delta(fold16(u64::from(self.0) + u64::from(other.0)))
    }
}

#[inline]
fn udp_zero_rule(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// The two 32-bit halves of a word, added.
#[inline]
fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// Brings a sum under 2^33; keeps it zero only if it was.
#[inline]
fn fold32(sum: u64) -> u64 {
    halves(sum)
}

/// Folds a sum to 16 bits; the result is zero only if `sum` is.
#[inline]
fn fold16(sum: u64) -> u16 {
    let sum = halves(sum); // < 2^33
    let sum = (sum & 0xffff) + (sum >> 16); // < 2^18
    let sum = (sum & 0xffff) + (sum >> 16); // <= 0xffff + 3
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 §4.1, word by word.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
        }
        !(sum as u16)
    }

    /// Words where the two zeros and the carries live come often.
    fn word() -> impl Strategy<Value = u16> {
        prop_oneof![Just(0u16), Just(0xffff), Just(1), Just(0xfffe), Just(0x8000), any::<u16>()]
    }

    fn words(count: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(word(), count).prop_map(|w| w.into_iter().flat_map(u16::to_be_bytes).collect())
    }

    #[test]
    fn rfc_1071_example() {
        // RFC 1071 §3: the words 0001 f203 f4f5 f6f7 add up to ddf2.
        assert_eq!(of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn rfc_1624_example() {
        // RFC 1624 §4: checksum dd2f, a word goes from 5555 to 3285, and the answer is 0000, not ffff.
        assert_eq!(Delta::of_u16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn every_length_agrees_with_the_naive_sum() {
        let bytes: Vec<u8> = (0..1600u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
        let ones = vec![0xff; 1600];
        for len in 0..=1600 {
            assert_eq!(of(&bytes[..len]), naive(&bytes[..len]), "length {len}");
            assert_eq!(of(&ones[..len]), naive(&ones[..len]), "length {len}, all ones");
        }
    }

    #[test]
    fn the_two_zeros() {
        assert_eq!(of(&[0, 0, 0, 0]), 0xffff);
        assert_eq!(of(&[0xff, 0xff, 0, 0]), 0x0000);
        assert_eq!(Sum::of(&[0xff, 0xff]).finish_udp(), 0xffff);
        assert_eq!(Delta::of_u16(1, 2).apply_udp(0), 0);
        assert_eq!(Delta::NONE.apply(0x1234), 0x1234);
    }

    proptest! {
        #[test]
        fn any_bytes_agree_with_the_naive_sum(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(of(&bytes), naive(&bytes));
        }

        #[test]
        fn pieces_add_up(head in words(0..40), tail in prop::collection::vec(any::<u8>(), 0..90)) {
            let whole = [&head[..], &tail].concat();
            prop_assert_eq!((Sum::of(&head) + Sum::of(&tail)).finish(), naive(&whole));
        }

        #[test]
        fn a_filled_checksum_verifies(mut bytes in words(1..40)) {
            bytes[0] = 0;
            bytes[1] = 0;
            let filled = of(&bytes).to_be_bytes();
            bytes[..2].copy_from_slice(&filled);
            prop_assert!(Sum::of(&bytes).is_valid());
        }

        #[test]
        fn incremental_is_full(mut bytes in words(10..20), at in 0usize..6, new in words(8..=8usize)) {
            // One word is never zero, as in an IP header or under a pseudo-header.
            bytes[19] |= 1;
            let before = of(&bytes);
            let at = at.min((bytes.len() - 16) / 2) * 2;
            macro_rules! check {
                ($width:literal) => {
                    let mut changed = bytes.clone();
                    let old: [u8; $width] = changed[at..at + $width].try_into().unwrap();
                    let new: [u8; $width] = new[..$width].try_into().unwrap();
                    changed[at..at + $width].copy_from_slice(&new);
                    // The fixed word may have been overwritten.
                    if changed.iter().any(|&b| b != 0) {
                        prop_assert_eq!(Delta::of(&old, &new).apply(before), of(&changed));
                        let udp = Delta::of(&old, &new).apply_udp(Sum::of(&bytes).finish_udp());
                        prop_assert_eq!(udp, Sum::of(&changed).finish_udp());
                    }
                };
            }
            check!(2);
            check!(4);
            check!(16);
        }

        #[test]
        fn the_forms_of_a_delta_agree(old in any::<u32>(), new in any::<u32>(), checksum in word()) {
            let by_bytes = Delta::of(&old.to_be_bytes(), &new.to_be_bytes());
            prop_assert_eq!(Delta::of_u32(old, new).apply(checksum), by_bytes.apply(checksum));
            let high = Delta::of_u16((old >> 16) as u16, (new >> 16) as u16);
            let low = Delta::of_u16(old as u16, new as u16);
            prop_assert_eq!((high + low).apply(checksum), by_bytes.apply(checksum));
        }

        #[test]
        fn odd_offsets(mut bytes in prop::collection::vec(any::<u8>(), 9..30), new in any::<[u8; 2]>()) {
            bytes[0] = 0x45;
            let before = of(&bytes);
            let old = [bytes[3], bytes[4]];
            bytes[3..5].copy_from_slice(&new);
            prop_assert_eq!(Delta::of(&old, &new).at_odd_offset().apply(before), of(&bytes));
        }

        #[test]
        fn pseudo_headers(
            s4 in any::<[u8; 4]>(), d4 in any::<[u8; 4]>(), s6 in any::<[u8; 16]>(), d6 in any::<[u8; 16]>(),
            protocol in any::<u8>(), length in any::<u16>(), jumbo in any::<u32>(),
        ) {
            let [hi, lo] = length.to_be_bytes();
            let v4 = [&s4[..], &d4, &[0, protocol, hi, lo]].concat();
            prop_assert_eq!(Sum::pseudo_v4(s4.into(), d4.into(), protocol, length).finish(), naive(&v4));
            let v6 = [&s6[..], &d6, &jumbo.to_be_bytes(), &[0, 0, 0, protocol]].concat();
            prop_assert_eq!(Sum::pseudo_v6(s6.into(), d6.into(), protocol, jumbo).finish(), naive(&v6));
        }
    }
}
