//! Frames: the chunks that the packet arena is cut into, and who owns one.
//!
//! A [`Frame`] *is* the right to its bytes: it is neither `Copy` nor `Clone`, its number is private, and there is one per
//! number at any time. Frames come from a [`crate::pool::Pool`] and go back to it, or to a ring of the kernel; both consume
//! them. So reading and writing a frame's bytes needs no lock and no `unsafe` at the caller.
//!
//! Refuses: an arena that is not whole frames; ranges outside of a frame (an empty slice, never a panic).
//! Keeps true: no two frames of one arena have the same number; a frame of another arena is told by its tag.

use crate::region::Region;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// Bytes left free before a received packet, so that tunnels prepend in place. It is the kernel's own
/// `XDP_PACKET_HEADROOM` (include/uapi/linux/bpf.h), which AF_XDP leaves before the packet in every frame.
pub const HEADROOM: usize = 256;

/// Frames an arena may have: what the 24 bits of a frame's number can tell apart (32 GiB of 2 KiB frames).
pub const MAX_FRAMES: u32 = 1 << 24;

/// The exclusive right to one frame of an arena.
///
/// Dropping one leaks its frame: the ledger then shows it, and builds with debug assertions panic.
#[must_use = "a frame that is dropped is lost to its pool"]
pub struct Frame {
    /// Arena tag in the upper 8 bits, number in the lower 24.
    raw: u32,
}

impl Frame {
    /// Only the ledger makes frames, when it moves a number from the pool or the kernel to the worker.
    pub(crate) fn from_parts(arena: u8, number: u32) -> Self {
        debug_assert!(number < MAX_FRAMES);
        Self { raw: u32::from(arena) << 24 | number }
    }

    pub(crate) fn from_raw(raw: u32) -> Self {
        Self { raw }
    }

    /// Gives the ownership up; whoever keeps the number keeps the frame.
    pub(crate) fn into_raw(self) -> u32 {
        let raw = self.raw;
        std::mem::forget(self);
        raw
    }

    pub(crate) fn number(&self) -> u32 {
        self.raw & (MAX_FRAMES - 1)
    }

    pub(crate) fn arena(&self) -> u8 {
        (self.raw >> 24) as u8
    }
}

#[cfg(debug_assertions)]
impl Drop for Frame {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("frame {} was dropped: its pool has lost it", self.number());
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}:{})", self.arena(), self.number())
    }
}

/// Size of a frame: what AF_XDP allows in aligned mode on 4 KiB pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameSize {
    /// 2048 bytes: packets up to 1792 bytes.
    K2,
    /// 4096 bytes: packets up to 3840 bytes.
    K4,
}

impl FrameSize {
    /// The size of that many bytes.
    pub fn from_bytes(bytes: u32) -> Option<Self> {
        match bytes {
            2048 => Some(Self::K2),
            4096 => Some(Self::K4),
            _ => None,
        }
    }

    /// In bytes.
    pub const fn bytes(self) -> usize {
        1 << self.shift()
    }

    /// Longest packet that a frame holds behind its headroom, in bytes.
    pub const fn longest_packet(self) -> usize {
        self.bytes() - HEADROOM
    }

    const fn shift(self) -> u32 {
        match self {
            Self::K2 => 11,
            Self::K4 => 12,
        }
    }
}

/// The memory that frames lie in. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Arena {
    region: Region,
    size: FrameSize,
    frames: u32,
    tag: u8,
}

/// Why memory cannot be an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArenaError {
    /// Too few or too many frames.
    #[error("{frames} frames: an arena has 1 to {MAX_FRAMES}")]
    Frames {
        /// What was asked for.
        frames: u32,
    },
    /// The memory is shorter than the frames.
    #[error("{len} bytes of memory hold fewer than {frames} frames of {size} bytes")]
    TooShort {
        /// Bytes there are.
        len: usize,
        /// Frames asked for.
        frames: u32,
        /// Bytes of a frame.
        size: usize,
    },
    /// The ledger's memory is shorter than a byte per frame and its header.
    #[error("{len} bytes of ledger are too few for {frames} frames: {need} are needed")]
    LedgerTooShort {
        /// Bytes there are.
        len: usize,
        /// Frames of the arena.
        frames: u32,
        /// Bytes needed.
        need: usize,
    },
    /// More workers than an owner byte can name, or more than there are frames.
    #[error("{workers} workers: an arena of {frames} frames serves 1 to {limit}")]
    Workers {
        /// What was asked for.
        workers: usize,
        /// Frames of the arena.
        frames: u32,
        /// The limit.
        limit: usize,
    },
}

impl Arena {
    /// Cuts `region` into `frames` frames.
    pub(crate) fn new(region: Region, size: FrameSize, frames: u32) -> Result<Self, ArenaError> {
        static TAG: AtomicU8 = AtomicU8::new(0);
        if frames == 0 || frames > MAX_FRAMES {
            return Err(ArenaError::Frames { frames });
        }
        if region.len() < frames as usize * size.bytes() {
            return Err(ArenaError::TooShort { len: region.len(), frames, size: size.bytes() });
        }
        Ok(Self { region, size, frames, tag: TAG.fetch_add(1, Ordering::Relaxed) })
    }

    /// Frames in it.
    #[inline]
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Bytes of each.
    #[inline]
    pub fn frame_size(&self) -> FrameSize {
        self.size
    }

    /// The memory itself, for whoever registers it with the kernel.
    pub fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn tag(&self) -> u8 {
        self.tag
    }

    /// Address of byte 0 of the frame, counted from the start of the arena: what AF_XDP calls a UMEM address.
    #[inline]
    pub fn address(&self, frame: &Frame) -> u64 {
        u64::from(frame.number()) << self.size.shift()
    }

    /// The number of the frame that holds this UMEM address, and the offset in it; `None` when it is outside.
    #[inline]
    pub fn locate(&self, address: u64) -> Option<(u32, u16)> {
        let number = address >> self.size.shift();
        if number >= u64::from(self.frames) {
            return None;
        }
        Some((number as u32, (address & (self.size.bytes() as u64 - 1)) as u16))
    }

    /// `len` bytes of the frame from byte `start`; empty when that is not inside of a frame of this arena.
    #[inline]
    pub fn bytes<'a>(&'a self, frame: &'a Frame, start: u16, len: u16) -> &'a [u8] {
        if !self.holds(frame, start, len) {
            return &[];
        }
        // SAFETY: in range (checked), and `frame` is borrowed: nobody else has its bytes, nobody writes them meanwhile.
        unsafe { std::slice::from_raw_parts(self.at(frame.number(), start), usize::from(len)) }
    }

    /// As [`Self::bytes`], to write.
    #[inline]
    pub fn bytes_mut<'a>(&'a self, frame: &'a mut Frame, start: u16, len: u16) -> &'a mut [u8] {
        if !self.holds(frame, start, len) {
            return &mut [];
        }
        // SAFETY: in range (checked), and `frame` is borrowed for writing: these bytes are its owner's alone.
        unsafe { std::slice::from_raw_parts_mut(self.at(frame.number(), start), usize::from(len)) }
    }

    #[inline]
    fn holds(&self, frame: &Frame, start: u16, len: u16) -> bool {
        frame.arena() == self.tag
            && frame.number() < self.frames
            && usize::from(start) + usize::from(len) <= self.size.bytes()
    }

    /// Where byte `start` of frame `number` lies. `number < self.frames` and `start <= size` are the caller's to keep.
    #[inline]
    fn at(&self, number: u32, start: u16) -> *mut u8 {
        let offset = ((number as usize) << self.size.shift()) + usize::from(start);
        debug_assert!(offset <= self.region.len());
        // SAFETY: numbers of frames with this arena's tag are below `frames` (the ledger checks when it makes one), and
        // `start` is at most a frame, so the offset is inside of the region.
        unsafe { self.region.base().as_ptr().add(offset) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_which_frame_and_where_in_it() {
        let arena = Arena::new(Region::heap(8 * 2048), FrameSize::K2, 8).unwrap();
        assert_eq!(arena.locate(3 * 2048 + 256), Some((3, 256)));
        assert_eq!(arena.locate(8 * 2048), None);
        assert_eq!(arena.locate(u64::MAX), None);
        let frame = Frame::from_parts(arena.tag(), 5);
        assert_eq!(arena.address(&frame), 5 * 2048);
        let _ = frame.into_raw();
    }

    #[test]
    fn ranges_outside_of_a_frame_and_frames_of_other_arenas_are_empty() {
        let arena = Arena::new(Region::heap(2 * 4096), FrameSize::K4, 2).unwrap();
        let other = Arena::new(Region::heap(2 * 4096), FrameSize::K4, 2).unwrap();
        let mut frame = Frame::from_parts(arena.tag(), 1);
        arena.bytes_mut(&mut frame, 4000, 96).fill(9);
        assert_eq!(arena.bytes(&frame, 4000, 96), [9; 96]);
        assert!(arena.bytes(&frame, 4000, 97).is_empty());
        assert!(arena.bytes(&frame, u16::MAX, u16::MAX).is_empty());
        assert!(other.bytes(&frame, 0, 64).is_empty());
        let _ = frame.into_raw();
    }

    #[test]
    fn refuses_memory_that_is_too_short() {
        let error = Arena::new(Region::heap(4096), FrameSize::K2, 3).unwrap_err();
        assert_eq!(error.to_string(), "4096 bytes of memory hold fewer than 3 frames of 2048 bytes");
        assert!(Arena::new(Region::heap(4096), FrameSize::K2, 0).is_err());
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "its pool has lost it")]
    fn dropping_a_frame_is_noticed() {
        drop(Frame::from_parts(0, 1));
    }
}
