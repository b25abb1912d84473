//! Twigs: each is one IPv6 prefix that is alone below an entry.
//!
//! Owns: the words of a twig, for both halves. Keeps true: what they decode to never panics, whatever they are; only the
//! word with the two leaves changes while readers know the twig, and in one store.
//!
//! ```text
//! high:64 │ low:64 │ mask:64 │ miss:32 leaf:32
//! leaf: for what the prefix covers      miss: for the other addresses that come to the entry
//! mask: of the high half; of the low one in a long twig, where all of the high one counts
//! ```
//!
//! The halves and the mask are in network byte order, as the address in a packet is. Which twigs are long is said by the
//! pointers to them, so that a burst can tell before it looks.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};

use super::entry::depth;
use super::rib::Prefix;

/// Words of a twig: two in a cache line, and none in two.
pub(super) const TWIG: usize = 4;

/// The words of a twig.
pub(super) type Words = [AtomicU64; TWIG];

/// The leaf for `address`, of a twig that is not long.
#[inline]
pub(super) fn end_of([high, _, mask, leaves]: &Words, address: &[u8; 16]) -> u32 {
    let [a, _] = halves(u128::from_be_bytes(*address));
    choose(leaves, (a ^ high.load(Relaxed)) & mask.load(Relaxed))
}

/// The leaf for `address`, of a long twig.
#[inline]
pub(super) fn end_of_long([high, low, mask, leaves]: &Words, address: &[u8; 16]) -> u32 {
    let [a, b] = halves(u128::from_be_bytes(*address));
    choose(leaves, (a ^ high.load(Relaxed)) | ((b ^ low.load(Relaxed)) & mask.load(Relaxed)))
}

#[inline]
fn choose(leaves: &AtomicU64, differ: u64) -> u32 {
    let leaves = leaves.load(Relaxed);
    (if differ == 0 { leaves } else { leaves >> 32 }) as u32
}

/// Both halves, in network byte order.
#[inline]
fn halves(bits: u128) -> [u64; 2] {
    [((bits >> 64) as u64).to_be(), (bits as u64).to_be()]
}

/// Makes a twig, which no reader knows, one of `prefix`, which is longer than 24 bits.
pub(super) fn write([high, low, mask, leaves]: &Words, prefix: Prefix, leaf: u32, miss: u32) {
    let key = halves(prefix.bits);
    let masks = halves(Prefix::of(u128::MAX, prefix.len).bits);
    high.store(key[0], Relaxed);
    low.store(key[1], Relaxed);
    mask.store(masks[usize::from(prefix.len > 64)], Relaxed);
    leaves.store(u64::from(miss) << 32 | u64::from(leaf), Relaxed);
}

/// The prefix of a twig.
pub(super) fn prefix_of([high, low, _, leaves]: &Words) -> Prefix {
    let [high, low] = [high, low].map(|half| u128::from(u64::from_be(half.load(Relaxed))));
    Prefix { bits: high << 64 | low, len: depth(leaves.load(Relaxed) as u32) }
}

/// The leaf for addresses that the prefix covers.
pub(super) fn leaf_of([.., leaves]: &Words) -> u32 {
    leaves.load(Relaxed) as u32
}

/// The leaf for addresses that the prefix does not cover.
pub(super) fn miss_of([.., leaves]: &Words) -> u32 {
    (leaves.load(Relaxed) >> 32) as u32
}

pub(super) fn set_leaf([.., leaves]: &Words, leaf: u32) {
    leaves.store(leaves.load(Relaxed) >> 32 << 32 | u64::from(leaf), Release);
}

pub(super) fn set_miss([.., leaves]: &Words, miss: u32) {
    leaves.store(leaves.load(Relaxed) & 0xffff_ffff | u64::from(miss) << 32, Release);
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Route, leaf};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_twig_covers_what_its_prefix_covers(bits: u128, len in 25u8..=128, flip in 0u32..128) {
            let prefix = Prefix::of(bits, len);
            let (own, other) = (leaf(Route(7), len), leaf(Route(8), 24));
            let words = Words::default();
            write(&words, prefix, own, 0);
            set_miss(&words, other);
            prop_assert_eq!((prefix_of(&words), miss_of(&words)), (prefix, other));
            let end = |bits: u128| if len > 64 {
                end_of_long(&words, &bits.to_be_bytes())
            } else {
                end_of(&words, &bits.to_be_bytes())
            };
            prop_assert_eq!(end(bits), own);
            let changed = bits ^ 1 << (127 - flip);
            prop_assert_eq!(end(changed), if flip < u32::from(len) { other } else { own });
            set_leaf(&words, leaf(Route(9), len));
            prop_assert_eq!((end(bits), miss_of(&words)), (leaf(Route(9), len), other));
            prop_assert_eq!(prefix_of(&words), prefix);
        }
    }
}
