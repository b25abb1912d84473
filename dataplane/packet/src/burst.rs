//! Bursts: up to 64 packets on their way through the stages, and what is decided of each.
//!
//! Owns: the frames of its packets. A stage sees bytes and facts, and sets verdicts; it never has a frame in its hands, so
//! it cannot lose one. Refuses: a 65th packet, and a frame of another arena (handed back). Keeps true: bit *i* of the mask
//! of live packets is set as long as packet *i* has no verdict but `Next`.

use crate::frame::{Arena, Frame};
use crate::verdict::{PortId, Verdict};

/// Most packets of a burst: the bits of one word, and what one pass takes from a queue.
pub const BURST: usize = 64;

/// A frame and the valid bytes in it.
#[derive(Debug)]
pub struct Packet {
    /// The frame, owned.
    pub frame: Frame,
    /// First valid byte, from the start of the frame.
    pub start: u16,
    /// Valid bytes.
    pub len: u16,
    /// Where it came in.
    pub port: PortId,
}

/// What the stages found out about a packet: offsets count from the packet's first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Where the IP header starts; 0 when the packet was not parsed, or is not IP.
    pub l3: u16,
    /// Where the header behind it starts; 0 when there is none (a later fragment).
    pub l4: u16,
    /// 4, 6, or 0 for what is not IP.
    pub version: u8,
    /// IP protocol number of the header at `l4`.
    pub protocol: u8,
    /// Hash of the flow, the same for all its packets.
    pub hash: u32,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    raw: u32,
    start: u16,
    len: u16,
    port: PortId,
    verdict: Verdict,
    facts: Facts,
}

/// A burst. See the module.
pub struct Burst {
    arena: Arena,
    len: usize,
    live: u64,
    slots: [Slot; BURST],
}

impl Burst {
    /// An empty burst of packets in this arena.
    pub fn new(arena: Arena) -> Self {
        Self { arena, len: 0, live: 0, slots: [Slot::default(); BURST] }
    }

    /// Packets in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no packet in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Packets that it still takes.
    #[inline]
    pub fn room(&self) -> usize {
        BURST - self.len
    }

    /// Adds a packet.
    ///
    /// # Errors
    /// The packet itself, when the burst is full, or its frame is another arena's, or its range leaves the frame.
    #[inline]
    pub fn push(&mut self, packet: Packet) -> Result<(), Packet> {
        let end = usize::from(packet.start) + usize::from(packet.len);
        if self.len >= BURST
            || packet.frame.arena() != self.arena.tag()
            || end > self.arena.frame_size().bytes()
        {
            return Err(packet);
        }
        self.slots[self.len] = Slot {
            start: packet.start,
            len: packet.len,
            port: packet.port,
            raw: packet.frame.into_raw(),
            verdict: Verdict::Next,
            facts: Facts::default(),
        };
        self.live |= 1 << self.len;
        self.len += 1;
        Ok(())
    }

    /// Bytes of all its packets together.
    #[inline]
    pub fn total_bytes(&self) -> u64 {
        self.slots[..self.len].iter().map(|slot| u64::from(slot.len)).sum()
    }

    /// The packets that no stage has decided yet, as a mask: bit *i* is packet *i*.
    #[inline]
    pub fn live(&self) -> u64 {
        self.live
    }

    /// The numbers of the undecided packets, as they are now.
    #[inline]
    pub fn undecided(&self) -> Bits {
        Bits(self.live)
    }

    /// The bytes of packet `i`; empty when there is none.
    #[inline]
    pub fn bytes(&self, i: usize) -> &[u8] {
        let Some(slot) = self.slots[..self.len.min(BURST)].get(i) else { return &[] };
        // Borrowed from the slot, which owns the frame as long as the burst is borrowed.
        let frame = std::mem::ManuallyDrop::new(Frame::from_raw(slot.raw));
        let bytes = self.arena.bytes(&frame, slot.start, slot.len);
        // SAFETY: the bytes are this slot's frame's, and the burst, which owns it, stays borrowed as long as they are.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) }
    }

    /// The bytes of packet `i`, to change.
    #[inline]
    pub fn bytes_mut(&mut self, i: usize) -> &mut [u8] {
        let Some(slot) = self.slots[..self.len.min(BURST)].get(i) else { return &mut [] };
        let mut frame = std::mem::ManuallyDrop::new(Frame::from_raw(slot.raw));
        let bytes = self.arena.bytes_mut(&mut frame, slot.start, slot.len);
        // SAFETY: the bytes are this slot's frame's, and the burst stays borrowed for writing as long as they are.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Where packet `i` came in.
    #[inline]
    pub fn port(&self, i: usize) -> PortId {
        self.slots[i & (BURST - 1)].port
    }

    /// What the stages know of packet `i`.
    #[inline]
    pub fn facts(&self, i: usize) -> &Facts {
        &self.slots[i & (BURST - 1)].facts
    }

    /// As [`Self::facts`], to change.
    #[inline]
    pub fn facts_mut(&mut self, i: usize) -> &mut Facts {
        &mut self.slots[i & (BURST - 1)].facts
    }

    /// What is decided of packet `i`.
    #[inline]
    pub fn verdict(&self, i: usize) -> Verdict {
        self.slots[i & (BURST - 1)].verdict
    }

    /// Decides packet `i`; `Next` makes it live again.
    #[inline]
    pub fn decide(&mut self, i: usize, verdict: Verdict) {
        if i >= self.len {
            return;
        }
        self.slots[i].verdict = verdict;
        let bit = 1 << i;
        if verdict == Verdict::Next { self.live |= bit } else { self.live &= !bit }
    }

    /// Decides all live packets at once.
    #[inline]
    pub fn decide_all(&mut self, verdict: Verdict) {
        for i in self.undecided() {
            self.slots[i].verdict = verdict;
        }
        if verdict != Verdict::Next {
            self.live = 0;
        }
    }

    /// Leaves only these of the packets without a verdict to the next stage, until [`Self::widen`].
    ///
    /// For a worker whose packets go to different pipelines: the others are out of sight, not decided.
    #[inline]
    pub fn narrow(&mut self, mask: u64) {
        self.live &= mask;
    }

    /// Makes every packet whose verdict is `Next` live again.
    #[inline]
    pub fn widen(&mut self) {
        self.live = 0;
        for (i, slot) in self.slots[..self.len].iter().enumerate() {
            if slot.verdict == Verdict::Next {
                self.live |= 1 << i;
            }
        }
    }

    /// Takes all packets out, each with its verdict and what is known of it, in order.
    #[inline]
    pub fn drain(&mut self, mut each: impl FnMut(Packet, Verdict, &Facts)) {
        let len = std::mem::take(&mut self.len);
        self.live = 0;
        for slot in &self.slots[..len] {
            let frame = Frame::from_raw(slot.raw);
            each(
                Packet { frame, start: slot.start, len: slot.len, port: slot.port },
                slot.verdict,
                &slot.facts,
            );
        }
    }
}

#[cfg(debug_assertions)]
impl Drop for Burst {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.len != 0 {
            panic!("a burst was dropped with {} packets: their pool has lost them", self.len);
        }
    }
}

/// The numbers of the set bits of a word, ascending.
#[derive(Clone, Copy, Debug)]
pub struct Bits(pub u64);

impl Iterator for Bits {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let i = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameSize;
    use crate::pool::Pool;
    use crate::verdict::DropReason;

    fn pool() -> Pool {
        Pool::heap(FrameSize::K2, 128, 1).unwrap().remove(0)
    }

    fn packet(pool: &mut Pool, len: u16) -> Packet {
        Packet { frame: pool.alloc().unwrap(), start: 256, len, port: PortId(1) }
    }

    #[test]
    fn takes_64_packets_and_hands_the_next_one_back() {
        let mut pool = pool();
        let mut burst = Burst::new(pool.arena().clone());
        for _ in 0..64 {
            burst.push(packet(&mut pool, 60)).unwrap();
        }
        let refused = burst.push(packet(&mut pool, 60)).unwrap_err();
        pool.free(refused.frame);
        assert_eq!(burst.live(), u64::MAX);
        burst.drain(|packet, _, _| pool.free(packet.frame));
        assert_eq!(pool.available(), 128);
        assert_eq!(pool.audit(0, 0).leaked, 0);
    }

    #[test]
    fn refuses_frames_of_another_arena_and_ranges_that_leave_the_frame() {
        let (mut ours, mut theirs) = (pool(), pool());
        let mut burst = Burst::new(ours.arena().clone());
        let refused = burst.push(packet(&mut theirs, 60)).unwrap_err();
        theirs.free(refused.frame);
        let refused = burst.push(packet(&mut ours, 1793)).unwrap_err();
        ours.free(refused.frame);
    }

    #[test]
    fn verdicts_steer_which_packets_the_next_stage_sees() {
        let mut pool = pool();
        let mut burst = Burst::new(pool.arena().clone());
        for i in 0..4 {
            burst.push(packet(&mut pool, 60 + i)).unwrap();
        }
        burst.decide(1, Verdict::Drop(DropReason::NoRoute));
        assert_eq!(burst.undecided().collect::<Vec<_>>(), [0, 2, 3]);
        burst.narrow(0b0100);
        burst.decide_all(Verdict::Punt);
        burst.widen();
        assert_eq!(burst.undecided().collect::<Vec<_>>(), [0, 3]);
        burst.bytes_mut(3)[0] = 7;
        assert_eq!((burst.bytes(3)[0], burst.bytes(3).len(), burst.bytes(4).len()), (7, 63, 0));
        let mut verdicts = Vec::new();
        burst.drain(|packet, verdict, _| {
            verdicts.push(verdict);
            pool.free(packet.frame);
        });
        assert_eq!(
            verdicts,
            [Verdict::Next, Verdict::Drop(DropReason::NoRoute), Verdict::Punt, Verdict::Next]
        );
    }
}
