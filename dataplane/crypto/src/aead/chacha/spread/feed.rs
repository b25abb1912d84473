//! Lanes, as they are filled.

use super::{Block, Sums};

/// What makes key stream: `L` blocks in one pass.
pub(in super::super) trait Wide<const L: usize>: Copy {
    /// Changes each lane's block by its key stream, and lets `sums` work between rounds.
    fn pass(self, lanes: &mut [Lane<'_>; L], sums: &mut Sums<'_>);
}

/// A block of key stream, and what it is to be added to.
pub(in super::super) struct Lane<'a> {
    pub(in super::super) key: &'a [u8; 32],
    pub(in super::super) nonce: [u32; 3],
    pub(in super::super) counter: u32,
    /// `None`: the lane is idle.
    pub(in super::super) block: Option<&'a mut Block>,
}

impl<'a> Lane<'a> {
    const IDLE: Self = Self { key: &[0; 32], nonce: [0; 3], counter: 0, block: None };

    #[inline(always)]
    pub(super) fn new(key: &'a [u8; 32], nonce: [u8; 12], counter: u32, block: &'a mut Block) -> Self {
        let [a, b, c] = nonce.as_chunks::<4>().0 else { unreachable!("12 bytes are three words") };
        let nonce = [u32::from_le_bytes(*a), u32::from_le_bytes(*b), u32::from_le_bytes(*c)];
        Self { key, nonce, counter, block: Some(block) }
    }
}

/// Lanes that are done as soon as all are taken.
pub(super) struct Feed<'a, W, const L: usize> {
    wide: W,
    lanes: [Lane<'a>; L],
    taken: usize,
}

impl<'a, const L: usize, W: Wide<L>> Feed<'a, W, L> {
    #[inline(always)]
    pub(super) fn new(wide: W) -> Self {
        Self { wide, lanes: [const { Lane::IDLE }; L], taken: 0 }
    }

    #[inline(always)]
    pub(super) fn push(&mut self, lane: Lane<'a>, sums: &mut Sums<'_>) {
        self.lanes[self.taken] = lane;
        self.taken += 1;
        if self.taken == L {
            self.wide.pass(&mut self.lanes, sums);
            self.taken = 0;
        }
    }

    /// Does what is left.
    #[inline(always)]
    pub(super) fn flush(mut self, sums: &mut Sums<'_>) {
        if self.taken > 0 {
            self.lanes[self.taken..].fill_with(|| Lane::IDLE);
            self.wide.pass(&mut self.lanes, sums);
        }
    }
}
