//! Both ways by one socket: an end that answers, or waits for answers, on a queue that has room for one socket.
//!
//! Keeps true: receiving leaves frames enough for a whole TX ring, so that neither way starves the other.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::{
    error::XskError,
    options::Options,
    sink::{Action, Sink},
    transmitter::{Handed, Transmitter},
};

/// Sends by one queue of a [`Sink`]'s device, and receives from it. It holds no reference to the sink: when that is dropped,
/// nothing comes any more.
pub struct Duplex(Transmitter);

impl Duplex {
    /// Binds a socket to `queue` and has the program steer to it.
    ///
    /// # Errors
    /// A sink that does anything but [`Action::Receive`]; those of [`Transmitter::open`].
    pub fn open(sink: &mut Sink, queue: u32, options: &Options) -> Result<Self, XskError> {
        if sink.action() != Action::Receive {
            return Err(XskError::Option {
                what: "the sink's action",
                value: format!("{:?}", sink.action()),
                limit: "Receive",
            });
        }
        // The fill ring, the RX ring and the TX ring may all be full.
        let mut duplex = Self(Transmitter::with(sink.device(), queue, options, 3 * options.ring)?);
        duplex.0.refill()?;
        sink.steer(queue, &duplex.0.socket.fd())?;
        Ok(duplex)
    }

    /// As [`Transmitter::send`].
    ///
    /// # Errors
    /// The device went down or away.
    pub fn send(&mut self, most: usize, fill: impl FnMut(&mut [u8]) -> usize) -> Result<usize, XskError> {
        self.0.send(most, fill)
    }

    /// As [`Transmitter::drain`].
    ///
    /// # Errors
    /// The device went down or away.
    pub fn drain(&mut self, limit: Duration) -> Result<bool, XskError> {
        self.0.drain(limit)
    }

    /// What became of the packets sent so far.
    pub fn handed(&self) -> Handed {
        self.0.handed()
    }

    /// Shows up to 64 packets that are there to `each`; how many. Never waits.
    ///
    /// # Errors
    /// The device went down or away.
    pub fn receive(&mut self, each: impl FnMut(&[u8])) -> Result<usize, XskError> {
        let count = self.0.socket.receive(each);
        if count > 0 {
            self.0.refill()?;
        }
        Ok(count)
    }

    /// As [`Self::receive`], and sleeps up to `limit` when nothing is there.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn wait(&mut self, limit: Duration, mut each: impl FnMut(&[u8])) -> Result<usize, XskError> {
        let count = self.receive(&mut each)?;
        if count > 0 {
            return Ok(count);
        }
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        // A signal ends it early, with nothing.
        let _ = poll(&mut [PollFd::from_borrowed_fd(self.0.socket.fd(), PollFlags::IN)], Some(&limit));
        self.receive(each)
    }

    /// Packets that were steered here and found no free frame, or no room in the ring.
    pub fn missed(&self) -> u64 {
        self.0.socket.missed()
    }
}
