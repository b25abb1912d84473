//! One direction of a wire: packets' bytes on the way, and the empty buffers that they travel in.
//!
//! Owns: a fixed number of buffers, each as long as the longest frame; they go round between the sender and the receiver,
//! so nothing is allocated per packet. Refuses: a packet more than fit. Keeps true: there is one sender and one receiver,
//! so what the sender found free stays free until it uses it.

use crossbeam_queue::ArrayQueue;
use std::sync::Arc;
use zsync_packet::frame::FrameSize;

/// Room for one packet, and how much of it is used.
#[derive(Debug)]
pub(super) struct Buffer {
    room: Box<[u8]>,
    len: usize,
}

impl Buffer {
    fn new() -> Self {
        Self { room: vec![0; FrameSize::K4.bytes()].into_boxed_slice(), len: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.room[..self.len]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.room[..self.len]
    }

    /// Takes a copy of `bytes`, which come from a frame, so they fit.
    pub(super) fn copy_from(&mut self, bytes: &[u8]) {
        self.len = bytes.len().min(self.room.len());
        self.room[..self.len].copy_from_slice(&bytes[..self.len]);
    }

    /// Cuts what is longer than `len` off.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

#[derive(Clone, Debug)]
pub(super) struct Wire {
    flying: Arc<ArrayQueue<Buffer>>,
    blank: Arc<ArrayQueue<Buffer>>,
}

impl Wire {
    /// A wire on which `wire` packets lie, and buffers for `tx` more that wait to be sent.
    pub(super) fn new(wire: u32, tx: u32) -> Self {
        // One more than can be in the two places is with the receiver, while it copies.
        let buffers = wire as usize + tx as usize + 1;
        let blank = ArrayQueue::new(buffers);
        for _ in 0..buffers {
            let _ = blank.push(Buffer::new());
        }
        Self { flying: Arc::new(ArrayQueue::new(wire as usize)), blank: Arc::new(blank) }
    }

    /// Packets that still fit on it.
    pub(super) fn room(&self) -> usize {
        self.flying.capacity() - self.flying.len()
    }

    /// Packets on it.
    pub(super) fn len(&self) -> usize {
        self.flying.len()
    }

    /// An empty buffer, for the sender.
    pub(super) fn blank(&self) -> Option<Buffer> {
        self.blank.pop()
    }

    /// Empty buffers.
    pub(super) fn blanks(&self) -> usize {
        self.blank.len()
    }

    /// The buffer is empty again.
    pub(super) fn recycle(&self, buffer: Buffer) {
        // There is room for every buffer that exists.
        let _ = self.blank.push(buffer);
    }

    /// Puts a packet on the wire; says whether it fitted.
    pub(super) fn put(&self, buffer: Buffer) -> bool {
        match self.flying.push(buffer) {
            Ok(()) => true,
            Err(buffer) => {
                self.recycle(buffer);
                false
            }
        }
    }

    /// Takes the next packet off the wire.
    pub(super) fn take(&self) -> Option<Buffer> {
        self.flying.pop()
    }
}
