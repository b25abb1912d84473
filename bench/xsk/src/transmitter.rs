//! Sending: one queue, in bursts, as fast as it goes or evenly paced.
//!
//! Keeps true: every packet is accounted for: handed to the kernel, completed by it, refused by the device. What was
//! reached is measured, never taken from what was asked for.
//!
//! A veth takes packets and drops them unless its peer has an XDP program or GRO on: count at the far end.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::{
    clock,
    error::XskError,
    options::{BURST, Options},
    pace::Pace,
    socket::{Kick, Memory, Socket, once_free},
};

/// Kicks in a row without a packet taken before the frames that are done are looked for again.
const KICKS: u32 = 8;

/// Sends by one queue of a device. See the module.
pub struct Transmitter {
    pub(crate) socket: Socket,
    device: String,
    queue: u32,
    burst: usize,
    handed: u64,
    completed: u64,
}

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As fast as it goes.
    Full,
    /// Packets per second, evenly spaced: 10⁻³ to 10⁹.
    PerSecond(f64),
}

/// When a run ends: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Until<'a> {
    /// Packets.
    pub packets: u64,
    /// A time of [`clock::now`].
    pub time: u64,
    /// Somebody sets it. It is looked at between bursts; when paced, at least every 100 ms.
    pub stop: Option<&'a AtomicBool>,
}

impl Until<'_> {
    /// After that many packets.
    pub fn packets(packets: u64) -> Self {
        Self { packets, time: u64::MAX, stop: None }
    }

    /// After that time.
    pub fn elapsed(time: Duration) -> Self {
        Self { packets: u64::MAX, time: clock::now() + time.as_nanos() as u64, stop: None }
    }
}

/// What became of a transmitter's packets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// Put into the TX ring.
    pub handed: u64,
    /// Returned by the kernel, sent or not. The rest is still with the kernel.
    pub completed: u64,
    /// Of those, the ones that the device refused.
    pub refused: u64,
}

/// One run of [`Transmitter::send_until`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sent {
    /// Packets handed to the kernel in this run.
    pub packets: u64,
    /// Of those, refused by the device.
    pub refused: u64,
    /// When the first was handed over, nanoseconds of [`clock::now`].
    pub first: u64,
    /// When the last was handed over.
    pub last: u64,
}

impl Sent {
    /// Packets per second that were reached: intervals between the first and the last, over their time. `None` below two
    /// packets.
    pub fn rate(&self) -> Option<f64> {
        Some(1e9 / self.mean_interval()?)
    }

    /// Nanoseconds from packet to packet, on average. `None` below two packets, or when all left in one burst.
    pub fn mean_interval(&self) -> Option<f64> {
        let time = self.last.saturating_sub(self.first);
        (self.packets > 1 && time > 0).then(|| time as f64 / (self.packets - 1) as f64)
    }
}

impl Transmitter {
    /// Binds a socket to `queue` of `device`, a name in this thread's network namespace.
    ///
    /// # Errors
    /// Options that cannot be, no such device or queue, a queue that stays taken for a second, missing capabilities.
    pub fn open(device: &str, queue: u32, options: &Options) -> Result<Self, XskError> {
        Self::with(device, queue, options, options.ring)
    }

    /// As [`Self::open`], with so many frames.
    pub(crate) fn with(device: &str, queue: u32, options: &Options, frames: u32) -> Result<Self, XskError> {
        if !(1..=BURST).contains(&options.burst) {
            return Err(XskError::Option {
                what: "burst",
                value: options.burst.to_string(),
                limit: "1 to 64",
            });
        }
        let socket = once_free(|| {
            let mut memory = Memory::new(device, queue, options, frames)?;
            Socket::bind(&mut memory, frames as usize, device, queue, options)
        })?;
        Ok(Self { socket, device: device.to_owned(), queue, burst: options.burst, handed: 0, completed: 0 })
    }

    /// Whether the driver sends from the frames themselves. If not, the kernel copies each.
    pub fn is_zero_copy(&self) -> bool {
        self.socket.is_zero_copy()
    }

    /// The account so far.
    pub fn handed(&self) -> Handed {
        Handed { handed: self.handed, completed: self.completed, refused: self.socket.refused() }
    }

    /// Hands one burst of up to `most` packets to the kernel; how many it took, which can be none while all frames are
    /// under way. `fill` writes a packet into a frame (whose old bytes are still there) and says its length; less than an
    /// Ethernet header (14 bytes) ends the burst.
    ///
    /// # Errors
    /// The device went down or away.
    pub fn send(&mut self, most: usize, fill: impl FnMut(&mut [u8]) -> usize) -> Result<usize, XskError> {
        self.completed += self.socket.reclaim() as u64;
        let count = self.socket.send(most.min(self.burst), fill);
        self.handed += count as u64;
        self.push()?;
        Ok(count)
    }

    /// Sends until `until`, or until `fill` (see [`Self::send`]) has no more; then waits up to a second for the kernel to
    /// be done.
    ///
    /// # Errors
    /// A rate that cannot be; the device went down or away.
    pub fn send_until(
        &mut self,
        rate: Rate,
        until: Until<'_>,
        mut fill: impl FnMut(&mut [u8]) -> usize,
    ) -> Result<Sent, XskError> {
        let mut pace = match rate {
            Rate::Full => None,
            Rate::PerSecond(rate) => Some(Pace::new(rate, clock::now()).ok_or_else(|| XskError::Option {
                what: "rate",
                value: rate.to_string(),
                limit: "0.001 to 1e9 packets per second",
            })?),
        };
        let refused = self.socket.refused();
        let mut sent = Sent::default();
        let mut is_over = false;
        while !is_over && sent.packets < until.packets {
            let now = clock::now();
            if now >= until.time || until.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                break;
            }
            let due = pace.as_mut().map_or(u64::MAX, |pace| pace.due(now)).min(until.packets - sent.packets);
            if due == 0 {
                // Never long: `stop` wants to be seen.
                let next = pace.as_ref().map_or(now, Pace::next);
                clock::wait_until(next.min(until.time).min(now + 100_000_000));
                continue;
            }
            let count = self.send(due.min(BURST as u64) as usize, |frame| {
                let length = fill(frame);
                is_over |= length < 14;
                length
            })? as u64;
            if count > 0 {
                if sent.packets == 0 {
                    sent.first = now;
                }
                sent.last = now;
                sent.packets += count;
                if let Some(pace) = &mut pace {
                    pace.sent(count);
                }
            }
        }
        self.drain(Duration::from_secs(1))?;
        if rate == Rate::Full && sent.packets > 0 {
            // The last burst's time belongs to it, and so does what was still in the ring.
            sent.last = clock::now();
        }
        sent.refused = self.socket.refused() - refused;
        Ok(sent)
    }

    /// Waits until the kernel is done with everything that it was handed; false when that takes longer than `limit`.
    ///
    /// # Errors
    /// The device went down or away.
    pub fn drain(&mut self, limit: Duration) -> Result<bool, XskError> {
        let end = clock::now() + limit.as_nanos() as u64;
        loop {
            self.completed += self.socket.reclaim() as u64;
            if self.completed == self.handed {
                return Ok(true);
            }
            if clock::now() >= end {
                return Ok(false);
            }
            self.push()?;
            std::thread::yield_now();
        }
    }

    /// Gives the kernel frames to receive into.
    pub(crate) fn refill(&mut self) -> Result<(), XskError> {
        self.socket.refill().map_err(|errno| XskError::Socket {
            device: self.device.clone(),
            queue: self.queue,
            what: "receiving",
            source: errno.into(),
        })
    }

    /// Kicks until the kernel has taken everything, or takes no more for now.
    fn push(&mut self) -> Result<(), XskError> {
        let mut pending = self.socket.pending();
        let mut idle = 0;
        while pending > 0 && idle < KICKS {
            let kick = self.socket.kick().map_err(|errno| XskError::Socket {
                device: self.device.clone(),
                queue: self.queue,
                what: "sending",
                source: errno.into(),
            })?;
            if self.socket.is_zero_copy() && kick == Kick::Done {
                // The driver sends in its own time.
                break;
            }
            let left = self.socket.pending();
            idle = if left < pending { 0 } else { idle + 1 };
            pending = left;
        }
        Ok(())
    }
}
