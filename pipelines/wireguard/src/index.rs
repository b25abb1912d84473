//! Session indices: from the 32 bits on the wire to a peer without a table.
//!
//! Owns: a permutation of all 32-bit numbers under a secret. An index is the peer's slot and a generation that counts its
//! handshakes, permuted, so two live sessions never have the same one, and an observer does not see which are of one peer.
//! Keeps true: [`Indices::find`] undoes [`Indices::hide`], for every number.

use zsync_packet::flow::{FlowKey, HashKey};

/// Bits of a slot.
pub const SLOT_BITS: u32 = 18;
/// Peers that there may be.
pub const MAX_PEERS: u32 = 1 << SLOT_BITS;
/// Generations are counted up to this many.
pub const GENERATIONS: u32 = 1 << (32 - SLOT_BITS);

/// See the module.
#[derive(Clone, Debug)]
pub struct Indices([u32; 4]);

impl Indices {
    /// Under a secret of this boot.
    pub fn new(secret: &HashKey) -> Self {
        Self(
            [0u64, 1, 2, 3]
                .map(|round| FlowKey::from_words([round, 0, 0, 0, 0x7767]).hash(secret) as u32 | 1),
        )
    }

    /// The index of the session of generation `generation` of the peer in `slot`; both are cut to their bits.
    #[inline]
    pub fn hide(&self, slot: u32, generation: u32) -> u32 {
        let plain = slot & (MAX_PEERS - 1) | generation << SLOT_BITS;
        // A Feistel network (Luby and Rackoff, 1988), of which four rounds are a permutation that looks random.
        let (mut left, mut right) = (plain >> 16, plain & 0xffff);
        for key in self.0 {
            (left, right) = (right, left ^ round(right, key));
        }
        left << 16 | right
    }

    /// Slot and generation of an index.
    #[inline]
    pub fn find(&self, index: u32) -> (u32, u32) {
        let (mut left, mut right) = (index >> 16, index & 0xffff);
        for key in self.0.iter().rev() {
            (left, right) = (right ^ round(left, *key), left);
        }
        let plain = left << 16 | right;
        (plain & (MAX_PEERS - 1), plain >> SLOT_BITS)
    }
}

/// 16 bits that depend on all of `half` and of the key.
#[inline]
fn round(half: u32, key: u32) -> u32 {
    let mixed = (half ^ key >> 16).wrapping_mul(0x9e37_79b1).wrapping_add(key);
    let mixed = (mixed ^ mixed >> 15).wrapping_mul(key);
    (mixed ^ mixed >> 16) & 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn what_is_hidden_is_found(seed: u64, slot in 0..MAX_PEERS, generation in 0..GENERATIONS, any: u32) {
            let indices = Indices::new(&HashKey::from_seed(seed));
            prop_assert_eq!(indices.find(indices.hide(slot, generation)), (slot, generation));
            let (slot, generation) = indices.find(any);
            prop_assert_eq!(indices.hide(slot, generation), any);
        }
    }

    #[test]
    fn indices_of_one_peer_do_not_look_alike() {
        let indices = Indices::new(&HashKey::from_seed(7));
        let of: Vec<u32> = (0..GENERATIONS).map(|generation| indices.hide(5, generation)).collect();
        assert_eq!(of.iter().collect::<HashSet<_>>().len(), of.len());
        // Each bit is set in about half of them, and of neighbours about half of the bits differ.
        for bit in 0..32 {
            let set = of.iter().filter(|index| **index >> bit & 1 == 1).count() as u32;
            assert!(
                (GENERATIONS * 2 / 5..GENERATIONS * 3 / 5).contains(&set),
                "bit {bit}: {set} of {GENERATIONS}"
            );
        }
        let differ: u32 = of.windows(2).map(|pair| (pair[0] ^ pair[1]).count_ones()).sum();
        assert!((14..18).contains(&(differ / (GENERATIONS - 1))));
        let other = Indices::new(&HashKey::from_seed(8));
        assert_ne!(indices.hide(5, 1), other.hide(5, 1));
    }
}
