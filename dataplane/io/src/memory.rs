//! Memory: two devices wired back to back, with the faults of a wire and of a kernel on request; and [`Null`] devices.
//!
//! ```text
//!   worker │ device        kernel model                    wire                    kernel model        device │ worker
//!          │ tx_burst ──▶ TX ring ──(flush)──▶ bytes ═════════════▶ bytes ──▶ frame of the fill ring          │
//!          │ complete ◀── completion ring                                          └─▶ RX ring ──▶ rx_burst   │
//! ```
//!
//! As in the kernel's copy mode, a packet's bytes are copied out of the frame that is sent and into a frame that the other
//! side gave to receive into. So the two ends may have pools of one arena or of two, and belong to one worker or to two.
//!
//! Owns: four bounded rings per end, and the bytes on the wire. Refuses: what a worker must refuse from a real kernel,
//! with the same checks: descriptors outside of the arena, beyond their frame, or of frames that the kernel does not have.
//! Keeps true: every frame in a ring is on the ledger as `Fill` or `Tx`; without faults no packet is lost, since what does
//! not fit on the wire waits in the TX ring. With faults, once nothing is on the way,
//! `received = sent − lost + duplicated − too_long − rx_refused`, of which the last two are the receiver's counts.

#![forbid(unsafe_code)]

pub mod faults;
mod kernel;
pub mod null;
mod wire;

pub use faults::{Faults, Injected};
pub use null::Null;

use crate::device::{Arrived, Device, DeviceCounters};
use kernel::{Descriptor, Kernel};
use std::os::fd::BorrowedFd;
use wire::Wire;
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::ledger::Owner;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;

/// Packets that wait before a flush sends them, as for AF_XDP sockets.
pub const KICK_AT: usize = 32;
/// Nanoseconds that a packet waits for company before a flush sends it alone, as for AF_XDP sockets.
pub const KICK_AFTER: u64 = 20_000;

/// Sizes of the rings of each end, in entries, at least 1; and its faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Frames given to receive into.
    pub fill: u32,
    /// Received packets; as many more lie on the wire before the sender has to wait.
    pub rx: u32,
    /// Packets to be sent.
    pub tx: u32,
    /// Sent frames.
    pub completion: u32,
    /// What goes wrong. The second end has the first one's seed plus one.
    pub faults: Faults,
}

impl Default for Config {
    fn default() -> Self {
        Self { fill: 256, rx: 256, tx: 256, completion: 256, faults: Faults::default() }
    }
}

/// One end of a pair. See the module.
#[derive(Debug)]
pub struct Memory {
    port: PortId,
    kernel: Kernel,
    waiting_since: Option<u64>,
    sent: u64,
    received: u64,
    counters: DeviceCounters,
}

/// Two devices: what one sends, the other receives, as packets of its own port of `ports`.
///
/// All memory that they will ever use is allocated here: a frame's worth of bytes for each packet that fits in the TX
/// rings and on the wire.
pub fn pair(ports: [PortId; 2], config: Config) -> (Memory, Memory) {
    let sane = |size: u32| size.max(1);
    let config = Config {
        fill: sane(config.fill),
        rx: sane(config.rx),
        tx: sane(config.tx),
        completion: sane(config.completion),
        ..config
    };
    let (there, back) = (Wire::new(config.rx, config.tx), Wire::new(config.rx, config.tx));
    let second =
        Config { faults: Faults { seed: config.faults.seed.wrapping_add(1), ..config.faults }, ..config };
    (
        Memory::new(ports[0], Kernel::new(config, there.clone(), back.clone())),
        Memory::new(ports[1], Kernel::new(second, back, there)),
    )
}

impl Memory {
    fn new(port: PortId, kernel: Kernel) -> Self {
        Self { port, kernel, waiting_since: None, sent: 0, received: 0, counters: DeviceCounters::default() }
    }

    /// Packets that [`Device::tx_burst`] took.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Packets that [`Device::rx_burst`] gave.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The faults that were injected at this end so far.
    pub fn injected(&self) -> &Injected {
        self.kernel.injected()
    }

    /// Changes what goes wrong from here on; the seed is taken only at the start.
    pub fn set_faults(&mut self, faults: Faults) {
        self.kernel.set_faults(faults);
    }

    /// Packets that this end sent and the other has not taken from the wire.
    pub fn on_the_way(&self) -> usize {
        self.kernel.unsent() + self.kernel.on_wire()
    }

    fn refill(&mut self, pool: &mut Pool) {
        for _ in 0..self.kernel.fill_room() {
            let Some(frame) = pool.alloc() else {
                self.counters.fill_starved += 1;
                return;
            };
            let address = pool.arena().address(&frame);
            pool.give(frame, Owner::Fill);
            self.kernel.fill(address);
        }
    }

    /// The packet that a descriptor names: the checks are those for a real kernel's.
    fn accept(&mut self, pool: &mut Pool, descriptor: Descriptor) -> Option<Packet> {
        let size = pool.arena().frame_size().bytes() as u64;
        let taken = pool.arena().locate(descriptor.address).and_then(|(number, start)| {
            let frame = pool.take(number, Owner::Fill).ok()?;
            Some((frame, start))
        });
        let Some((frame, start)) = taken else {
            self.counters.bad_descriptors += 1;
            return None;
        };
        if u64::from(start) + u64::from(descriptor.len) > size {
            self.counters.bad_descriptors += 1;
            pool.free(frame);
            return None;
        }
        Some(Packet { frame, start, len: descriptor.len as u16, port: self.port })
    }
}

impl Device for Memory {
    fn complete(&mut self, pool: &mut Pool) -> usize {
        let mut came = 0;
        while let Some(address) = self.kernel.take_completion() {
            match pool.arena().locate(address).map(|(number, _)| pool.take(number, Owner::Tx)) {
                Some(Ok(frame)) => {
                    pool.free(frame);
                    came += 1;
                }
                Some(Err(_)) => self.counters.double_completed += 1,
                None => self.counters.bad_descriptors += 1,
            }
        }
        came
    }

    fn rx_burst(&mut self, pool: &mut Pool, burst: &mut Burst) -> usize {
        self.counters.rx_refused += self.kernel.receive(pool);
        let mut came = 0;
        let most = self.kernel.most_to_read(burst.room());
        while (came < most || self.kernel.repeats())
            && let Some(descriptor) = self.kernel.take_received()
        {
            let Some(packet) = self.accept(pool, descriptor) else { continue };
            match burst.push(packet) {
                Ok(()) => came += 1,
                Err(packet) => {
                    self.counters.rx_refused += 1;
                    pool.free(packet.frame);
                }
            }
        }
        self.refill(pool);
        self.received += came as u64;
        came
    }

    fn tx_burst(&mut self, pool: &mut Pool, packets: &mut Vec<Packet>) -> usize {
        let taken = self.kernel.most_to_submit(packets.len());
        for packet in packets.drain(..taken) {
            let arena = pool.arena();
            let address = arena.address(&packet.frame);
            self.kernel.submit(address, arena.bytes(&packet.frame, packet.start, packet.len));
            pool.give(packet.frame, Owner::Tx);
        }
        self.sent += taken as u64;
        taken
    }

    fn flush(&mut self, now: u64, force: bool) {
        if self.kernel.unsent() == 0 {
            self.waiting_since = None;
            return;
        }
        let since = *self.waiting_since.get_or_insert(now);
        if force || self.kernel.unsent() >= KICK_AT || now.saturating_sub(since) >= KICK_AFTER {
            self.counters.kicks += 1;
            self.kernel.transmit();
            self.waiting_since = None;
        }
    }

    fn waitable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn unflushed(&self) -> bool {
        self.kernel.unsent() != 0
    }

    fn arrived(&self) -> Arrived {
        self.kernel.arrived()
    }

    fn counters(&self) -> &DeviceCounters {
        &self.counters
    }
}

#[cfg(test)]
mod tests;
