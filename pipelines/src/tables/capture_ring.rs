//! A ring of captured packets in a [`Region`]: a worker puts copies in, the control process takes them out.
//!
//! ```text
//!   head (bytes ever put in) │ tail (bytes ever taken out) │ lost │ records, one after the other, round and round
//!   record: length on the wire, captured length │ time in nanoseconds │ port │ bytes, padded to 8
//! ```
//!
//! One writer and one reader, in two processes. Refuses: a packet that finds no room, which is counted as lost; the writer
//! never waits. Keeps true: what lies between tail and head is whole records, for the head moves last. The reader trusts no
//! length that it finds: a writer that went mad gives wrong packets, never a read outside.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use zsync_packet::region::Region;
use zsync_packet::verdict::PortId;

/// Most bytes of a packet that are kept: none is longer than a frame.
pub const SNAP: usize = 4096;

const HEAD: usize = 0;
const TAIL: usize = 8;
const LOST: usize = 9;
/// Words ahead of the records: two cache lines, one that each side writes.
const AHEAD: usize = 16;
/// Words of a record ahead of its bytes.
const RECORD: usize = 3;

/// See the module.
#[derive(Clone, Debug)]
pub struct CaptureRing {
    region: Region,
    /// Words for records: a power of two.
    room: usize,
}

/// A packet that was captured; its bytes go into the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When, in nanoseconds of the monotonic clock.
    pub time: u64,
    /// Where it came in.
    pub port: PortId,
    /// Bytes that it had.
    pub wire_len: usize,
}

impl CaptureRing {
    /// Bytes of a region for at least `bytes` of records.
    pub fn bytes(bytes: usize) -> usize {
        (AHEAD + room(bytes)) * 8
    }

    /// The ring in `region`, made for as many `bytes`. `None` when the region is too short or misaligned. A zeroed region is
    /// an empty ring.
    pub fn open(region: Region, bytes: usize) -> Option<Self> {
        let room = room(bytes);
        region.u64s(0, AHEAD + room)?;
        Some(Self { region, room })
    }

    /// Puts a packet in, its first `snap` bytes at most. False, and it counts as lost, when there is no room. For the writer.
    pub fn put(&self, packet: &[u8], snap: usize, time: u64, port: PortId) -> bool {
        let kept = packet.get(..snap.min(SNAP)).unwrap_or(packet);
        let (Some(ahead), Some(records)) = self.parts() else { return false };
        let (head, tail) = (ahead[HEAD].load(Relaxed), ahead[TAIL].load(Acquire));
        let need = RECORD + kept.len().div_ceil(8);
        // A tail beyond the head was not written by our reader: then there is no room.
        let used = usize::try_from(head.wrapping_sub(tail)).unwrap_or(usize::MAX);
        if used > self.room || need > self.room - used {
            ahead[LOST].store(ahead[LOST].load(Relaxed).wrapping_add(1), Relaxed);
            return false;
        }
        let lengths = packet.len() as u64 | (kept.len() as u64) << 32;
        let words = [lengths, time, u64::from(port.0)].into_iter().chain(kept.chunks(8).map(|bytes| {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(padded)
        }));
        let mask = self.room - 1;
        for (n, word) in words.enumerate() {
            records[(head as usize).wrapping_add(n) & mask].store(word, Relaxed);
        }
        ahead[HEAD].store(head.wrapping_add(need as u64), Release);
        true
    }

    /// Takes the next packet out into `out`, which is emptied first. `None` when there is none. For the reader.
    pub fn take(&self, out: &mut Vec<u8>) -> Option<Captured> {
        out.clear();
        let (Some(ahead), Some(records)) = self.parts() else { return None };
        let (head, tail) = (ahead[HEAD].load(Acquire), ahead[TAIL].load(Relaxed));
        let mask = self.room - 1;
        let word = |n: usize| records[(tail as usize).wrapping_add(n) & mask].load(Relaxed);
        let waiting = usize::try_from(head.wrapping_sub(tail)).unwrap_or(usize::MAX);
        if waiting == 0 {
            return None;
        }
        let lengths = word(0);
        let kept = (lengths >> 32) as usize;
        let len = RECORD + kept.div_ceil(8);
        if waiting > self.room || waiting < RECORD || kept > SNAP || len > waiting {
            // Nothing that we wrote: on with what comes next.
            ahead[TAIL].store(head, Release);
            return None;
        }
        let captured =
            Captured { time: word(1), port: PortId(word(2) as u16), wire_len: lengths as u32 as usize };
        for n in 0..kept.div_ceil(8) {
            out.extend_from_slice(&word(RECORD + n).to_le_bytes());
        }
        out.truncate(kept);
        ahead[TAIL].store(tail.wrapping_add(len as u64), Release);
        Some(captured)
    }

    /// Packets that found no room, ever.
    pub fn lost(&self) -> u64 {
        self.parts().0.map_or(0, |ahead| ahead[LOST].load(Relaxed))
    }

    fn parts(&self) -> (Option<&[AtomicU64; AHEAD]>, Option<&[AtomicU64]>) {
        let ahead = self.region.u64s(0, AHEAD).and_then(<[AtomicU64]>::first_chunk);
        (ahead, self.region.u64s(AHEAD * 8, self.room))
    }
}

/// Words for records: room for one of the longest at least.
fn room(bytes: usize) -> usize {
    bytes.div_ceil(8).max(RECORD + SNAP / 8).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn ring(bytes: usize) -> CaptureRing {
        CaptureRing::open(Region::heap(CaptureRing::bytes(bytes)), bytes).unwrap()
    }

    #[test]
    fn what_goes_in_comes_out_in_order_and_cut_as_asked() {
        let (ring, mut out) = (ring(1 << 16), Vec::new());
        assert_eq!(ring.take(&mut out), None);
        let packet: Vec<u8> = (0..200).collect();
        assert!(ring.put(&packet, 96, 5, PortId(2)) && ring.put(&packet[..3], 96, 6, PortId(3)));
        let first = ring.take(&mut out);
        assert_eq!(first, Some(Captured { time: 5, port: PortId(2), wire_len: 200 }));
        assert_eq!(out, packet[..96]);
        let second = ring.take(&mut out);
        assert_eq!(second, Some(Captured { time: 6, port: PortId(3), wire_len: 3 }));
        assert_eq!((&out[..], ring.take(&mut out.clone()), ring.lost()), (&packet[..3], None, 0));
    }

    #[test]
    fn a_full_ring_counts_what_is_lost_and_goes_on() {
        let (ring, mut out) = (ring(0), Vec::new());
        let mut put = 0;
        while ring.put(&[7; 1000], SNAP, put, PortId(0)) {
            put += 1;
        }
        assert_eq!((put, ring.lost()), (8, 1));
        assert_eq!(ring.take(&mut out).map(|captured| captured.time), Some(0));
        assert!(ring.put(&[7; 1000], SNAP, 99, PortId(0)));
        assert!(!ring.put(&[7; 1000], SNAP, 100, PortId(0)));
        let times: Vec<u64> = std::iter::from_fn(|| ring.take(&mut out).map(|c| c.time)).collect();
        assert_eq!((times, ring.lost()), ((1..8).chain([99]).collect(), 2));
    }

    #[test]
    fn a_reader_believes_nothing() {
        let region = Region::heap(CaptureRing::bytes(0));
        let ring = CaptureRing::open(region.clone(), 0).unwrap();
        let words = region.u64s(0, AHEAD + 1).unwrap();
        for (head, lengths) in
            [(u64::MAX, 0), (1, 0), (50, 0xffff_ffff_0000_0000), (1 << 40, 8 << 32), (2, 8)]
        {
            words[TAIL].store(0, Relaxed);
            words[HEAD].store(head, Relaxed);
            words[AHEAD].store(lengths, Relaxed);
            assert_eq!(ring.take(&mut Vec::new()), None);
            assert_eq!(ring.take(&mut Vec::new()), None, "and it is over");
        }
        // A tail that is ahead of the head makes a writer that loses everything, and no more.
        words[TAIL].store(10, Relaxed);
        words[HEAD].store(0, Relaxed);
        assert!(!ring.put(&[1; 60], SNAP, 0, PortId(0)));
    }

    proptest! {
        /// Whatever is put in and taken out, in any order: a queue of the same size says the same.
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec(prop::option::of((1usize..3000, 1usize..3000)), 1..200)) {
            let (ring, mut out) = (ring(0), Vec::new());
            let mut model: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
            let words = |len: usize| RECORD + len.div_ceil(8);
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Some((len, snap)) => {
                        let packet = vec![n as u8; len];
                        let kept = len.min(snap);
                        let used: usize = model.iter().map(|(_, bytes)| words(bytes.len())).sum();
                        let fits = used + words(kept) <= room(0);
                        prop_assert_eq!(ring.put(&packet, snap, n as u64, PortId(0)), fits);
                        if fits {
                            model.push_back((n as u64, packet[..kept].to_vec()));
                        }
                    }
                    None => {
                        let taken = ring.take(&mut out).map(|captured| (captured.time, out.clone()));
                        prop_assert_eq!(taken, model.pop_front());
                    }
                }
            }
        }
    }
}
