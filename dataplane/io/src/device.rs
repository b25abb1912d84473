//! What a worker asks of a device: the endpoint behind one queue of a port.
//!
//! The worker is generic over it, so a call is static and there is one per burst, not one per packet. A device never
//! decides about packets and never loses a frame: what it cannot send stays with the caller, what it receives comes out of
//! the worker's [`Pool`], and every frame that it holds is on the ledger as `Fill` or `Tx`.

use std::os::fd::BorrowedFd;
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::pool::Pool;

/// The endpoint behind one queue. Bursts are of at most [`zsync_packet::burst::BURST`] packets. What is said here of frames
/// with the kernel is true of a device that has none there: each call of it copies.
pub trait Device {
    /// Takes what has been sent back into the pool. Returns how many frames came.
    fn complete(&mut self, _pool: &mut Pool) -> usize {
        0
    }

    /// Receives into the room that `burst` has, and gives the kernel new frames to receive into. Returns how many packets
    /// came.
    fn rx_burst(&mut self, pool: &mut Pool, burst: &mut Burst) -> usize;

    /// Sends from the front of `packets`, as many as there is room for, and removes those. Returns how many.
    ///
    /// What is left is the caller's still. Nothing needs to have left before [`Self::flush`].
    fn tx_burst(&mut self, pool: &mut Pool, packets: &mut Vec<Packet>) -> usize;

    /// Of the packets that the last [`Self::tx_burst`] left, how many can never leave by this device as they are: those at the
    /// front. The others had no room.
    fn unfit(&self) -> usize {
        0
    }

    /// Makes what was submitted leave: when enough is waiting, when the oldest has waited long enough at `now`
    /// (nanoseconds, monotonic), or at once when `force` says that nothing else will come soon.
    fn flush(&mut self, _now: u64, _force: bool) {}

    /// A descriptor that becomes readable when packets are there; `None` when there is nothing to wait on.
    fn waitable(&self) -> Option<BorrowedFd<'_>>;

    /// Whether the device has packets to send that have not been flushed.
    fn unflushed(&self) -> bool {
        false
    }

    /// Frames that lie in its RX and completion rings now: on the ledger they still count as `Fill` and `Tx`.
    fn arrived(&self) -> Arrived {
        Arrived::default()
    }

    /// Whether it holds what it has received already, of which [`Self::waitable`] tells nothing any more.
    fn pending(&self) -> bool {
        false
    }

    /// Takes no more from the kernel of what is left to a successor; what it holds itself it still gives out, while that is
    /// [pending](Self::pending).
    fn close(&mut self) {}

    /// What went wrong, and how often.
    fn counters(&self) -> &DeviceCounters;
}

/// Frames that the kernel has given back and the worker has not taken yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// In the RX ring.
    pub rx: u32,
    /// In the completion ring.
    pub completion: u32,
}

/// A device's own counters, since it was opened. Packets and bytes are counted by the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Descriptors from the kernel that named no frame of ours, left their frame, or named one that the kernel did not have.
    pub bad_descriptors: u64,
    /// Completions of frames that were not being sent: kernels have been seen to report one twice.
    pub double_completed: u64,
    /// Passes in which the fill ring wanted frames and the pool had none, and times that the kernel had no buffer of an io_uring left.
    pub fill_starved: u64,
    /// Wake-ups of the kernel to send (system calls).
    pub kicks: u64,
    /// Wake-ups that the kernel answered with an error other than "again".
    pub kick_errors: u64,
    /// Io_urings that were no use: the device goes by system calls since.
    pub rings_lost: u64,
    /// Packets received whose frame was lost on the way to the burst: bad descriptors do not count here.
    pub rx_refused: u64,
    /// Packets from the kernel that stood for several, which they were cut into.
    pub split: u64,
    /// Packets to the kernel that stand for several, which were sent in them.
    pub merged: u64,
}
