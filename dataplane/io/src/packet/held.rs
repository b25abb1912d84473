//! What the kernel has given in one call: frames that become packets one by one, each of which may stand for several.
//!
//! Owns: room for [`SLOTS`] frames of the longest kind, made once. Refuses a frame that its header does not fit, or that is longer than
//! what it is to be written to; nothing of it comes out. Keeps true: a packet has the bytes that were on the wire, with its VLAN tag and
//! its checksums.

use super::message::{self, Beside, Came};
use crate::virtio::frame::{TAG, TAG_AT, Whole};
use crate::virtio::{HEADER_LEN, Header};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use zsync_packet::header::ethernet;

/// Frames that one call brings.
pub const SLOTS: usize = 32;
/// Longest frame of the kernel's: Ethernet with a second tag, and IPv6, which says the length of what is behind its header in 16 bits.
const LONGEST: usize = ethernet::HEADER_LEN + TAG + 40 + u16::MAX as usize;
/// Bytes of a frame's room: whole cache lines, and no power of two, or the fronts of all would share a few lines of the cache.
pub const SLOT: usize = (HEADER_LEN + LONGEST).next_multiple_of(64);

/// See the module.
#[derive(Debug)]
pub struct Held {
    bytes: Box<[u8]>,
    came: [Came; SLOTS],
    /// What the kernel says beside the frames, until that is read.
    beside: [Beside; SLOTS],
    /// The frame that is the next to come out, and how many there are.
    next: usize,
    count: usize,
    /// How far that one has come out.
    cut: Option<Whole>,
    /// Frames that were cut.
    split: u64,
}

impl Held {
    /// Nothing yet.
    pub fn new() -> Self {
        let bytes = vec![0; SLOTS * SLOT].into();
        let (came, beside) = ([Came::default(); SLOTS], [Beside::EMPTY; SLOTS]);
        Self { bytes, came, beside, next: 0, count: 0, cut: None, split: 0 }
    }

    /// Whether all that came is packets.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.next >= self.count
    }

    /// Takes up to `most` frames from the socket, once all that came before is packets; whether there may be more.
    ///
    /// # Errors
    /// The kernel's answer; then there are none.
    pub fn fill(&mut self, socket: BorrowedFd<'_>, most: usize) -> Result<bool, Errno> {
        (self.next, self.count, self.cut) = (0, 0, None);
        let most = most.min(SLOTS);
        let room = self.came.get_mut(..most).unwrap_or_default();
        self.count = message::receive(socket, &mut self.bytes, &mut self.beside, room)?;
        Ok(self.count == most)
    }

    /// Frames that were cut since this was asked last.
    pub fn take_split(&mut self) -> u64 {
        std::mem::take(&mut self.split)
    }

    /// Writes the next packet to the front of `place`; its length. `None`: it was refused, and the frame that it was of is gone.
    #[inline]
    pub fn write(&mut self, place: &mut [u8]) -> Option<usize> {
        let written = self.emit(place);
        if written.is_none() || self.cut.as_ref().is_none_or(Whole::is_done) {
            (self.next, self.cut) = (self.next + 1, None);
        }
        written
    }

    #[inline]
    fn emit(&mut self, place: &mut [u8]) -> Option<usize> {
        let Came { len, tag } = *self.came.get(self.next)?;
        let slot = self.bytes.get(self.next * SLOT..)?.get(..len)?;
        let (header, frame) = slot.split_first_chunk::<HEADER_LEN>()?;
        let ahead = tag.map_or(0, |_| TAG);
        let body = place.get_mut(ahead..)?;
        let cut = match &mut self.cut {
            Some(cut) => cut,
            none => {
                let cut = Whole::frame(Header::parse(header), frame, body.len())?;
                self.split += u64::from(cut.is_split());
                none.insert(cut)
            }
        };
        let len = cut.next(frame, body)?;
        if let Some(tag) = tag {
            place.copy_within(ahead..ahead + TAG_AT, 0);
            place.get_mut(TAG_AT..TAG_AT + TAG)?.copy_from_slice(&tag);
        }
        Some(ahead + len)
    }
}

#[cfg(test)]
mod tests;
