//! Which block of which packet is in which lane.
//!
//! Owns: the order of the blocks of a group: the first of all packets (which are the keys of Poly1305), the second of all, and
//! so on, so that lanes are idle in the last pass only, whatever the lengths. Keeps true: the packets that go on are always the
//! first ones, because the longest come first.

use super::GROUP;

/// Lanes of a pass at most: two vectors, because ChaCha20 is a seventh faster if two states are interleaved.
pub(super) const LANES: usize = 32;

/// What is in the lanes of a pass.
pub(super) struct Lanes {
    /// The number of its packet in the group.
    pub(super) packet: [u32; LANES],
    /// ChaCha's counter: 0 is the key of Poly1305, the text begins at 1.
    pub(super) block: [u32; LANES],
    /// Lanes in use, from the first.
    pub(super) count: usize,
    /// How many blocks of text of every packet that has as many have been in a lane by now.
    pub(super) complete: u32,
}

impl Lanes {
    /// None in use.
    #[inline]
    pub(super) fn none() -> Self {
        Self { packet: [0; LANES], block: [0; LANES], count: 0, complete: 0 }
    }

    /// The greatest block in them.
    #[inline]
    pub(super) fn last_block(&self) -> u32 {
        self.block[self.count.saturating_sub(1) % LANES]
    }
}

/// Where the passes over a group's blocks are.
pub(super) struct Walk {
    /// Blocks of text of each packet, most first.
    blocks: [u32; GROUP],
    /// Packets that have this block.
    active: usize,
    block: u32,
    packet: usize,
    /// Blocks that have not been in a lane.
    left: u64,
}

impl Walk {
    /// Over packets with texts of these lengths, longest first, at most [`GROUP`].
    #[inline]
    pub(super) fn new(lens: &[u64]) -> Self {
        let mut blocks = [0; GROUP];
        let active = lens.len().min(GROUP);
        let mut left = active as u64;
        for (blocks, len) in blocks.iter_mut().zip(lens) {
            // A text's length was checked: the counter holds it.
            *blocks = len.div_ceil(64) as u32;
            left += u64::from(*blocks);
        }
        Self { blocks, active, block: 0, packet: 0, left }
    }

    /// Blocks that have not been in a lane.
    #[inline]
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// How many blocks of text at least `least` packets have.
    #[inline]
    pub(super) fn common(&self, least: usize) -> u32 {
        if self.active < least { 0 } else { self.blocks[least.clamp(1, GROUP) - 1] }
    }

    /// Goes past the keys of Poly1305 and the first `blocks` blocks of text.
    #[inline]
    pub(super) fn skip(&mut self, blocks: u32) {
        (self.block, self.packet) = (blocks, 0);
        self.left = self.blocks.iter().map(|own| u64::from(own.saturating_sub(blocks))).sum();
        self.next_block();
    }

    /// Fills `lanes` with the next: 32 if there are as many or nearly, 16, or a few. None if all have been in a lane.
    #[inline]
    pub(super) fn pass(&mut self, lanes: &mut Lanes) {
        // Up to four more than 16 cost less by themselves.
        let most = if self.left > GROUP as u64 + 4 { LANES } else { GROUP };
        let count = self.left.min(most as u64) as usize;
        let mut lane = 0;
        while lane < count {
            if self.packet == 0 && self.active == GROUP && lane + GROUP <= count {
                for n in 0..GROUP {
                    lanes.packet[lane + n] = n as u32;
                    lanes.block[lane + n] = self.block;
                }
                lane += GROUP;
                self.next_block();
                continue;
            }
            lanes.packet[lane] = self.packet as u32;
            lanes.block[lane] = self.block;
            lane += 1;
            self.packet += 1;
            if self.packet >= self.active {
                self.packet = 0;
                self.next_block();
            }
        }
        self.left -= count as u64;
        lanes.count = count;
        lanes.complete = self.block.saturating_sub(1);
    }

    /// The next block of those packets that have one.
    #[inline]
    fn next_block(&mut self) {
        // A text of the greatest length ends with the greatest counter, and then nothing is left.
        self.block = self.block.saturating_add(1);
        while self.active > 0 && self.blocks[self.active - 1] < self.block {
            self.active -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_in_one_lane() {
        for lens in
            [&[0_u64][..], &[1500], &[64; 16], &[1518, 1518, 594, 594, 594, 64, 64, 64, 0], &[65, 64, 63]]
        {
            let mut walk = Walk::new(lens);
            let (mut seen, total) = (Vec::new(), walk.left());
            let mut lanes = Lanes::none();
            while walk.left() > 0 {
                let before = seen.len();
                walk.pass(&mut lanes);
                for lane in 0..lanes.count {
                    seen.push((lanes.block[lane], lanes.packet[lane]));
                }
                assert!(lanes.count.is_multiple_of(GROUP) || walk.left() == 0);
                assert!(seen.len() > before);
            }
            walk.pass(&mut lanes);
            assert_eq!(lanes.count, 0);
            assert_eq!(seen.len() as u64, total);
            assert!(seen.is_sorted());
            for (packet, len) in lens.iter().enumerate() {
                let own = seen.iter().filter(|(_, of)| *of as usize == packet).count();
                assert_eq!(own as u64, 1 + len.div_ceil(64));
            }
        }
    }

    #[test]
    fn blocks_are_complete_once_all_packets_have_had_them() {
        let mut walk = Walk::new(&[230; 10]);
        let mut lanes = Lanes::none();
        for complete in [2, 3, 4, 4] {
            walk.pass(&mut lanes);
            assert_eq!(lanes.complete, complete);
        }
    }
}
