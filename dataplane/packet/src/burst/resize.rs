//! Packets that grow and shrink where they lie: headers in front, bytes behind, another input.
//!
//! Refuses what leaves the frame, or would leave nothing of the packet. Keeps true: a packet's range lies in its frame, so
//! every later access is in bounds. What stages know of the packet ([`Facts`](super::Facts), key) is for the caller to correct.

use super::{BURST, Burst};
use crate::verdict::PortId;

impl Burst {
    /// Free bytes ahead of packet `i`: how far [`Self::prepend`] can go.
    #[inline]
    pub fn headroom(&self, i: usize) -> usize {
        if i < self.len.min(BURST) { usize::from(self.starts[i]) } else { 0 }
    }

    /// Adds `count` bytes at the front of packet `i`, as they lie there, and gives the whole packet. Nothing happens, and
    /// nothing is given, when the headroom is shorter.
    #[inline]
    pub fn prepend(&mut self, i: usize, count: usize) -> Option<&mut [u8]> {
        if i >= self.len.min(BURST) || count > usize::from(self.starts[i]) {
            return None;
        }
        // Below 4096, which no frame exceeds.
        self.starts[i] -= count as u16;
        self.lens[i] += count as u16;
        Some(self.bytes_mut(i))
    }

    /// Takes `count` bytes off the front of packet `i`. False, and nothing happens, when the packet has no more than these.
    #[inline]
    pub fn trim_front(&mut self, i: usize, count: usize) -> bool {
        if i >= self.len.min(BURST) || count >= usize::from(self.lens[i]) {
            return false;
        }
        self.starts[i] += count as u16;
        self.lens[i] -= count as u16;
        true
    }

    /// Makes packet `i` end after `len` bytes: cuts it, or adds bytes as they lie there. False, and nothing happens, when
    /// the frame ends before, or `len` is 0.
    #[inline]
    pub fn set_len(&mut self, i: usize, len: usize) -> bool {
        if i >= self.len.min(BURST)
            || len == 0
            || usize::from(self.starts[i]) + len > self.arena.frame_size().bytes()
        {
            return false;
        }
        self.lens[i] = len as u16;
        true
    }

    /// Lets packet `i` have come in at `port`.
    #[inline]
    pub fn set_port(&mut self, i: usize, port: PortId) {
        self.ports[i & (BURST - 1)] = port;
    }
}

#[cfg(test)]
mod tests {
    use crate::burst::{Burst, Packet};
    use crate::frame::{FrameSize, HEADROOM};
    use crate::pool::Pool;
    use crate::verdict::PortId;

    fn with_packet(len: u16, test: impl FnOnce(&mut Burst)) {
        let mut pool = Pool::heap(FrameSize::K2, 4, 1).unwrap().remove(0);
        let mut burst = Burst::new(pool.arena().clone());
        let frame = pool.alloc().unwrap();
        burst.push(Packet { frame, start: HEADROOM as u16, len, port: PortId(0) }).unwrap();
        burst.bytes_mut(0).fill(7);
        test(&mut burst);
        burst.free_into(&mut pool);
        assert_eq!(pool.audit(0, 0).pool, 4);
    }

    #[test]
    fn a_packet_grows_at_its_front_as_far_as_there_is_room() {
        with_packet(100, |burst| {
            let bytes = burst.prepend(0, 8).unwrap();
            bytes[..8].fill(9);
            assert_eq!((bytes.len(), bytes[8], burst.headroom(0)), (108, 7, HEADROOM - 8));
            assert!(burst.prepend(0, HEADROOM - 7).is_none());
            assert_eq!(burst.bytes(0).len(), 108);
            assert!(burst.trim_front(0, 8));
            assert_eq!(burst.bytes(0), [7; 100]);
            assert!(burst.prepend(0, HEADROOM).is_some());
            assert!(burst.prepend(1, 0).is_none(), "no such packet");
        });
    }

    #[test]
    fn nothing_is_left_outside_of_the_frame_and_something_is_left_of_the_packet() {
        with_packet(100, |burst| {
            assert!(!burst.trim_front(0, 100));
            assert!(!burst.set_len(0, 0));
            assert!(!burst.set_len(0, 2048 - HEADROOM + 1));
            assert!(burst.set_len(0, 2048 - HEADROOM));
            assert!(burst.trim_front(0, 2048 - HEADROOM - 1));
            assert_eq!(burst.bytes(0).len(), 1);
            assert!(!burst.set_len(0, 2) && !burst.set_len(7, 1) && !burst.trim_front(7, 1));
        });
    }
}
