//! Who owns each frame: one byte per frame, beside the arena, written at each hand-over.
//!
//! The byte says what kind of owner has the frame and which worker answers for it. It lies in shared memory, so that it
//! outlives the process: whoever takes over after a `kill -9` reads there which frames the dead process held and which the
//! kernel still has.
//!
//! ```text
//!              alloc              give(Tx)              kernel sends, completes
//!    ┌──────┐ ───────▶ ┌───────┐ ─────────▶ ┌──────────────────────────────────┐
//!    │ Pool │          │ Burst │            │ Tx: TX ring, kernel, completions │
//!    └──────┘ ◀─────── └───────┘ ◀───────── └──────────────────────────────────┘
//!       │       free     ▲   │                take(Tx)
//!       │ give(Fill)     │   │ hand_over(worker)      ┌────────┐ adopt
//!       ▼                │   └──────────────────────▶ │ Remote │ ──────▶ Burst or Pool of that worker
//!    ┌─────────────────────────────────┐               └────────┘
//!    │ Fill: fill ring, kernel, RX ring│ take(Fill) ──▶ Burst
//!    └─────────────────────────────────┘        hold ┌──────┐ adopt
//!                                Burst ────────────▶ │ Held │ ──────▶ Burst
//!                                                    └──────┘
//! ```
//!
//! Owns: the bytes of one worker's frames, and the marks of submissions in flight. Refuses: a frame that is not where
//! the kernel says it comes from (counted as misplaced, never used). Keeps true: every frame has exactly one owner; a
//! [`Frame`] exists for a number only while its byte says `Burst`, `Held` or `Remote`.
//!
//! **A submission is marked before it is made.** A ring's producer index and the owner bytes cannot be written in one
//! instruction. So a device writes the descriptors, then the *mark* (the producer index to be), then the bytes, then the
//! index. After a crash, `mark != index` says that the descriptors between them never reached the kernel.

use crate::frame::{ArenaError, Frame};
use crate::region::Region;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Workers that an owner byte can name.
pub const MAX_WORKERS: usize = 32;
/// Marks that the ledger's header has room for: a fill ring and a TX ring for each of 256 queues.
pub const MAX_MARKS: usize = 512;

const HEADER: usize = 4096;
const MARKS_AT: usize = 1024;

/// What kind of owner a frame has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Owner {
    /// Free, in the worker's pool.
    Pool = 0,
    /// With the kernel to receive into: in the fill ring, inside the kernel, or in the RX ring.
    Fill = 1,
    /// In the worker's hands.
    Burst = 2,
    /// With the kernel to send: in the TX ring, inside the kernel, or in the completion ring.
    Tx = 3,
    /// Kept by the worker for later.
    Held = 4,
    /// On its way to this worker, from another.
    Remote = 5,
}

impl Owner {
    /// Kinds of owners.
    pub const KINDS: usize = 6;

    fn byte(self, worker: u8) -> u8 {
        worker << 3 | self as u8
    }
}

/// Memory that the ledger of `frames` frames takes, in bytes.
pub const fn ledger_bytes(frames: u32) -> usize {
    (HEADER + frames as usize).next_multiple_of(4096)
}

/// The slice of the arena that is `worker`'s home, of `workers` in all; the last one's takes the remainder.
pub fn home_slice(frames: u32, workers: usize, worker: usize) -> std::ops::Range<u32> {
    let slice = frames / workers.max(1) as u32;
    let start = worker as u32 * slice;
    if worker + 1 >= workers { start..frames } else { start..start + slice }
}

/// Writes into a fresh ledger that `worker`'s frames `numbers` are with the kernel to receive into: for the control
/// process, which fills the rings of the sockets that it opens.
///
/// # Errors
/// The memory is too short for that frame.
pub fn write_filled(
    ledger: &Region,
    worker: u8,
    numbers: impl IntoIterator<Item = u32>,
) -> Result<(), ArenaError> {
    for number in numbers {
        let at = HEADER + number as usize;
        let Some([byte]) = ledger.u8s(at, 1) else {
            return Err(ArenaError::LedgerTooShort { len: ledger.len(), frames: number, need: at + 1 });
        };
        byte.store(Owner::Fill.byte(worker), Ordering::Release);
    }
    Ok(())
}

/// A frame was not where the kernel, or another worker, said that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misplaced {
    /// The frame's number.
    pub number: u32,
    /// What the ledger says of it: owner kind in the lower 3 bits, worker in the upper 5.
    pub owner: u8,
}

/// One worker's hand on the ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    region: Region,
    frames: u32,
    worker: u8,
    arena: u8,
}

impl Ledger {
    /// The hand of `worker` on the ledger in `region`.
    ///
    /// The caller (the pool set) makes one per worker number and memory, so two hands never claim the same frame.
    pub(crate) fn new(region: Region, frames: u32, worker: u8, arena: u8) -> Result<Self, ArenaError> {
        let need = ledger_bytes(frames);
        if region.len() < need {
            return Err(ArenaError::LedgerTooShort { len: region.len(), frames, need });
        }
        Ok(Self { region, frames, worker, arena })
    }

    pub(crate) fn worker(&self) -> u8 {
        self.worker
    }

    /// All owner bytes, in order of frame numbers.
    #[inline]
    pub(crate) fn bytes(&self) -> &[AtomicU8] {
        self.region.u8s(HEADER, self.frames as usize).unwrap_or(&[])
    }

    pub(crate) fn mark(&self, mark: usize) -> Option<&AtomicU32> {
        if mark >= MAX_MARKS {
            return None;
        }
        self.region.u32s(MARKS_AT + mark * 4, 1)?.first()
    }

    /// Writes the owner of a frame that the caller owns.
    #[inline]
    pub(crate) fn set(&self, frame: &Frame, owner: Owner) {
        self.set_for(frame, owner, self.worker);
    }

    /// What is needed to hand over many frames, looked up once.
    #[inline]
    pub(crate) fn owners(&self) -> Owners<'_> {
        Owners { bytes: self.bytes(), worker: self.worker, arena: self.arena }
    }

    #[inline]
    pub(crate) fn set_for(&self, frame: &Frame, owner: Owner, worker: u8) {
        if let Some(byte) = self.bytes().get(frame.number() as usize) {
            byte.store(owner.byte(worker), Ordering::Release);
        }
    }

    /// Turns a number into the frame, if this worker's `from` is where it is; it is in the worker's hands then.
    #[inline]
    pub(crate) fn claim(&mut self, number: u32, from: Owner) -> Result<Frame, Misplaced> {
        self.owners().claim(number, from)
    }

    /// Writes the owner of a number that nobody has as a frame: start-up and recovery only.
    pub(crate) fn assign(&mut self, number: u32, owner: Owner) {
        if let Some(byte) = self.bytes().get(number as usize) {
            byte.store(owner.byte(self.worker), Ordering::Release);
        }
    }

    /// The owner of a number, when this worker answers for it.
    pub(crate) fn owner(&self, number: u32) -> Option<Owner> {
        let byte = self.bytes().get(number as usize)?.load(Ordering::Acquire);
        if byte >> 3 != self.worker {
            return None;
        }
        match byte & 7 {
            0 => Some(Owner::Pool),
            1 => Some(Owner::Fill),
            2 => Some(Owner::Burst),
            3 => Some(Owner::Tx),
            4 => Some(Owner::Held),
            5 => Some(Owner::Remote),
            _ => None,
        }
    }

    /// How many frames this worker answers for, by kind of owner.
    pub(crate) fn census(&self) -> [u32; Owner::KINDS] {
        let mut counts = [0; Owner::KINDS];
        for byte in self.bytes() {
            let byte = byte.load(Ordering::Relaxed);
            if byte >> 3 == self.worker
                && let Some(count) = counts.get_mut(usize::from(byte & 7))
            {
                *count += 1;
            }
        }
        counts
    }
}

/// A ledger's owner bytes, for a burst of hand-overs. Borrowed from the one [`Ledger`] hand of its worker: nobody else
/// claims that worker's frames meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Owners<'a> {
    bytes: &'a [AtomicU8],
    worker: u8,
    arena: u8,
}

impl Owners<'_> {
    /// As [`Ledger::claim`].
    #[inline]
    pub(crate) fn claim(&self, number: u32, from: Owner) -> Result<Frame, Misplaced> {
        let Some(byte) = self.bytes.get(number as usize) else {
            return Err(Misplaced { number, owner: u8::MAX });
        };
        let owner = byte.load(Ordering::Relaxed);
        if owner != from.byte(self.worker) {
            return Err(Misplaced { number, owner });
        }
        byte.store(Owner::Burst.byte(self.worker), Ordering::Release);
        Ok(Frame::from_parts(self.arena, number))
    }

    /// As [`Ledger::set`].
    #[inline]
    pub(crate) fn set(&self, frame: &Frame, owner: Owner) {
        if let Some(byte) = self.bytes.get(frame.number() as usize) {
            byte.store(owner.byte(self.worker), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(worker: u8) -> Ledger {
        Ledger::new(Region::heap(ledger_bytes(8)), 8, worker, 3).unwrap()
    }

    #[test]
    fn a_frame_is_claimed_once_and_only_from_where_it_is() {
        let mut ledger = ledger(2);
        ledger.assign(4, Owner::Fill);
        assert_eq!(ledger.claim(4, Owner::Tx).unwrap_err(), Misplaced { number: 4, owner: 2 << 3 | 1 });
        let frame = ledger.claim(4, Owner::Fill).unwrap();
        assert!(ledger.claim(4, Owner::Fill).is_err(), "it is in the worker's hands already");
        assert!(ledger.claim(8, Owner::Fill).is_err(), "there is no frame 8");
        assert_eq!(ledger.census()[Owner::Burst as usize], 1);
        let _ = frame.into_raw();
    }

    #[test]
    fn another_workers_frames_are_not_ours() {
        let region = Region::heap(ledger_bytes(8));
        let mut one = Ledger::new(region.clone(), 8, 1, 0).unwrap();
        let mut two = Ledger::new(region, 8, 2, 0).unwrap();
        one.assign(0, Owner::Fill);
        assert!(two.claim(0, Owner::Fill).is_err());
        assert_eq!(two.owner(0), None);
        assert_eq!(one.owner(0), Some(Owner::Fill));
    }

    #[test]
    fn refuses_memory_that_is_too_short() {
        let error = Ledger::new(Region::heap(4096), 8, 0, 0).unwrap_err();
        assert_eq!(error, ArenaError::LedgerTooShort { len: 4096, frames: 8, need: 8192 });
    }
}
