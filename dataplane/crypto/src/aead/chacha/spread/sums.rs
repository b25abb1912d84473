//! The tags of a group: what is summed for each packet, and how far that is.
//!
//! Keeps true: two messages are summed side by side, since each product waits for the one before it; a message that
//! ends makes room for the next one at once, so that uneven lengths cost little. The last one, with nobody beside it,
//! has the turns of both.

use super::super::super::TAG_LEN;
use super::poly::{Block, Poly};
use super::{GROUP, Group, text};

/// Sums side by side.
const SIDE: usize = 2;
/// Blocks of each that are summed at once, between two rounds of key stream: two messages are to be done in as many
/// rounds as it took to make their key stream.
const STEPS: usize = 2;

/// What is summed of a packet (RFC 8439 §2.8) and is not in the packet: the ends of the additional data and of the
/// text, padded, and both lengths.
type Ends = [Block; 3];

/// The [`Ends`] of a group.
#[inline(always)]
pub(super) fn ends(group: &Group<'_, '_>) -> [Ends; GROUP] {
    let mut ends = [[[0; 16]; 3]; GROUP];
    for (job, ends) in group.iter().zip(&mut ends) {
        let Some(job) = job else { break };
        for (end, bytes) in ends.iter_mut().zip([job.aad, text(job.data)]) {
            let rest = bytes.as_chunks::<16>().1;
            if !rest.is_empty() {
                end[..rest.len()].copy_from_slice(rest);
            }
        }
        let lens = job.aad.len() as u128 | (text(job.data).len() as u128) << 64;
        ends[2] = lens.to_le_bytes();
    }
    ends
}

/// The sums of a group.
pub(in super::super) struct Sums<'a> {
    /// Additional data and text.
    messages: [Option<(&'a [u8], &'a [u8])>; GROUP],
    heads: &'a [[u8; 64]; GROUP],
    ends: &'a [Ends; GROUP],
    sums: [Poly; SIDE],
    /// What each is to take of the part of its message that it is at.
    from: [&'a [Block]; SIDE],
    /// Which message each is at, and how many parts of it were taken.
    at: [Option<(usize, usize)>; SIDE],
    /// The second has nothing, and leaves its turns to the first.
    alone: bool,
    /// Turns that each can take: there are as many blocks in `from`.
    both: usize,
    over: bool,
    next: usize,
    tags: [[u8; TAG_LEN]; GROUP],
}

impl<'a> Sums<'a> {
    /// Of `group`, whose one-time keys are in `heads`.
    #[inline(always)]
    pub(super) fn new(
        group: &'a Group<'_, '_>,
        heads: &'a [[u8; 64]; GROUP],
        ends: &'a [Ends; GROUP],
    ) -> Self {
        Self {
            messages: group.each_ref().map(|job| job.as_ref().map(|job| (job.aad, text(job.data)))),
            heads,
            ends,
            sums: [Poly::new(&[0; 32]); SIDE],
            from: [&[]; SIDE],
            at: [None; SIDE],
            alone: false,
            both: 0,
            over: group[0].is_none(),
            next: 0,
            tags: [[0; TAG_LEN]; GROUP],
        }
    }

    /// Part `part` of message `n`, if it has as many.
    fn part(&self, n: usize, part: usize) -> Option<&'a [Block]> {
        let ((aad, text), ends) = (self.messages[n]?, &self.ends[n]);
        let (aad, aad_rest) = aad.as_chunks::<16>();
        let (text, text_rest) = text.as_chunks::<16>();
        let aad_end = &ends[..usize::from(!aad_rest.is_empty())];
        let last = &ends[1 + usize::from(text_rest.is_empty())..];
        [aad, aad_end, text, last].get(part).copied()
    }

    /// Whether each of both sums has [`STEPS`] blocks to take: then these must be taken.
    #[inline(always)]
    pub(in super::super) fn is_ready(&mut self) -> bool {
        if self.both < STEPS && !self.over {
            self.turn();
        }
        let ready = self.both >= STEPS;
        if ready {
            self.both -= STEPS;
        }
        ready
    }

    /// The first takes a block.
    #[inline(always)]
    pub(in super::super) fn first(&mut self) {
        self.step::<0>();
    }

    /// The second takes one.
    #[inline(always)]
    pub(in super::super) fn second(&mut self) {
        if self.alone { self.step::<0>() } else { self.step::<1>() }
    }

    #[inline(always)]
    fn step<const N: usize>(&mut self) {
        if let Some((block, rest)) = self.from[N].split_first() {
            self.sums[N].add(block);
            self.from[N] = rest;
        }
    }

    /// Sums what is left of the shorter part, and takes the next.
    #[cold]
    #[inline(never)]
    fn turn(&mut self) {
        self.rest();
        for side in 0..SIDE {
            while self.from[side].is_empty() {
                if let Some((n, taken)) = &mut self.at[side] {
                    let (n, part) = (*n, *taken);
                    *taken += 1;
                    if let Some(part) = self.part(n, part) {
                        self.from[side] = part;
                        continue;
                    }
                    self.tags[n] = self.sums[side].tag();
                    self.at[side] = None;
                }
                if self.next == GROUP || self.messages[self.next].is_none() {
                    break;
                }
                self.sums[side] = Poly::new(self.heads[self.next].first_chunk().unwrap_or(&[0; 32]));
                self.at[side] = Some((self.next, 0));
                self.next += 1;
            }
        }
        if self.from[0].is_empty() {
            self.from.swap(0, 1);
            self.sums.swap(0, 1);
            self.at.swap(0, 1);
        }
        let [a, b] = self.from.map(<[Block]>::len);
        self.alone = b == 0;
        self.both = if self.alone { a / 2 } else { a.min(b) };
        self.over = a + b == 0;
    }

    /// Takes the turns that are left, and the odd block of the last one.
    #[inline(always)]
    fn rest(&mut self) {
        let [mut one, mut other] = self.sums;
        let [mut a, mut b] = self.from;
        if self.alone {
            a.iter().for_each(|block| one.add(block));
            a = &[];
        } else {
            for (a, b) in a.iter().zip(b).take(self.both) {
                one.add(a);
                other.add(b);
            }
            (a, b) = (&a[self.both..], &b[self.both..]);
        }
        (self.sums, self.from, self.both) = ([one, other], [a, b], 0);
    }

    /// Sums what is left: the tags.
    #[inline(always)]
    pub(super) fn finish(mut self) -> [[u8; TAG_LEN]; GROUP] {
        while !self.over {
            self.turn();
        }
        self.tags
    }
}
