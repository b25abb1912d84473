//! Receiving: one queue, in bursts, each packet with a time and whose time it is.
//!
//! Owns: the socket and its frames. A packet's bytes are there during the call that shows it, no longer.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::{
    clock,
    error::XskError,
    options::Options,
    sink::{Action, Sink},
    socket::{Memory, Socket, once_free},
};

/// Bytes of the time that the program puts in front of a packet.
const STAMP: usize = 8;

/// When a packet came, in nanoseconds of CLOCK_MONOTONIC ([`clock::now`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The kernel's XDP program saw it then, in the driver (or in the stack, see [`Sink::is_native`]). It is software's
    /// time, not the NIC's.
    Kernel(u64),
    /// Its burst was read then.
    Read(u64),
}

impl Arrival {
    /// The nanoseconds, whosever they are.
    pub fn nanoseconds(self) -> u64 {
        match self {
            Self::Kernel(time) | Self::Read(time) => time,
        }
    }
}

/// Receives from one queue of a [`Sink`]'s device. It holds no reference: when the sink is dropped, nothing comes any more.
pub struct Receiver {
    socket: Socket,
    device: String,
    queue: u32,
    is_stamped: bool,
    received: u64,
}

impl Receiver {
    /// Binds a socket to `queue` and has the program steer to it.
    ///
    /// # Errors
    /// A sink that only counts; options that cannot be; no such queue, or it is taken; missing capabilities.
    pub fn open(sink: &mut Sink, queue: u32, options: &Options) -> Result<Self, XskError> {
        if sink.action() == Action::Count {
            return Err(XskError::Option {
                what: "the sink's action",
                value: "Count".to_owned(),
                limit: "Receive or ReceiveStamped",
            });
        }
        let device = sink.device().to_owned();
        let frames = 2 * options.ring;
        let socket = once_free(|| {
            let mut memory = Memory::new(&device, queue, options, frames)?;
            Socket::bind(&mut memory, frames as usize, &device, queue, options)
        })?;
        let is_stamped = sink.action() == Action::ReceiveStamped;
        let mut receiver = Self { socket, device, queue, is_stamped, received: 0 };
        receiver.refill()?;
        sink.steer(queue, &receiver.socket.fd())?;
        Ok(receiver)
    }

    /// Whether the driver writes into the frames themselves. If not, the kernel copies each packet.
    pub fn is_zero_copy(&self) -> bool {
        self.socket.is_zero_copy()
    }

    /// Shows up to 64 packets that are there to `each`; how many. Never waits.
    ///
    /// # Errors
    /// The device went down or away.
    pub fn receive(&mut self, mut each: impl FnMut(&[u8], Arrival)) -> Result<usize, XskError> {
        let is_stamped = self.is_stamped;
        let mut read = None;
        let count = self.socket.receive(|data| {
            if let Some((stamp, packet)) = data.split_first_chunk::<STAMP>().filter(|_| is_stamped) {
                each(packet, Arrival::Kernel(u64::from_ne_bytes(*stamp)));
            } else {
                each(data, Arrival::Read(*read.get_or_insert_with(clock::now)));
            }
        });
        self.received += count as u64;
        if count > 0 {
            self.refill()?;
        }
        Ok(count)
    }

    /// As [`Self::receive`], and sleeps up to `limit` when nothing is there.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn wait(&mut self, limit: Duration, mut each: impl FnMut(&[u8], Arrival)) -> Result<usize, XskError> {
        let count = self.receive(&mut each)?;
        if count > 0 {
            return Ok(count);
        }
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        // A signal ends it early, with nothing.
        let _ = poll(&mut [PollFd::from_borrowed_fd(self.socket.fd(), PollFlags::IN)], Some(&limit));
        self.receive(each)
    }

    /// Packets received so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Packets that were steered here and found no free frame, or no room in the ring.
    pub fn missed(&self) -> u64 {
        self.socket.missed()
    }

    fn refill(&mut self) -> Result<(), XskError> {
        self.socket.refill().map_err(|errno| XskError::Socket {
            device: self.device.clone(),
            queue: self.queue,
            what: "receiving",
            source: errno.into(),
        })
    }
}
