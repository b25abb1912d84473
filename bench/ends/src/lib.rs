//! The two ends of a trial: who sends through the device under test, and who counts what comes out of it.
//!
//! ```text
//!   order     what one trial sends: packets, phases with their rates
//!   source    packets one after the other, as a profile or a capture has them
//!   sender    threads on their cores, a queue each, which send an order
//!   share     what one of them sends of it
//!   far       the far end, wherever it is: begin, count, end
//!   counter   a far end that counts in the driver, and no more
//!   reader    a far end that reads every packet: sequence, latency, damage
//!   memory    both ends on one thread, with nothing between: what a host can do at best
//!   books     what a reader's threads write down
//!   channel   what two hosts say to each other
//!   remote    a far end on another host, and the host that lends it
//!   pair      both ends: makes the trials of a search
//!   end       an end that sends and receives: threads with a socket for both
//!   table     the connections that came through a device, and a packet back over each
//!   connections  both ends of a device that keeps connections
//! ```
//!
//! Keeps true: what was sent is what was counted when it was handed over, never what was asked for; nothing is received
//! in one trial that an earlier one sent; a host's own losses are no losses of the device under test.
#![forbid(unsafe_code)]

mod books;
pub mod channel;
pub mod connections;
pub mod counter;
mod end;
pub mod far;
pub mod memory;
pub mod order;
pub mod pair;
pub mod reader;
pub mod remote;
pub mod sender;
mod share;
pub mod source;
mod table;

use std::sync::Arc;

/// The nice value that comes before all others (sched(7)).
const FIRST: i32 = -20;

/// What a thread does before all else, such as entering a network namespace.
pub type Enter = Arc<dyn Fn() -> anyhow::Result<()> + Send + Sync>;

/// A queue of a device, and the core that serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The device, as `ip link` names it.
    pub device: String,
    /// The queue, from 0.
    pub queue: u32,
    /// The core; `None` leaves the choice to the kernel.
    pub core: Option<usize>,
}

impl Port {
    /// Puts the calling thread on the port's core, ahead of whatever else runs there: an end that others hold up measures
    /// them.
    ///
    /// # Errors
    /// There is no such core.
    pub fn pin(&self) -> anyhow::Result<()> {
        // Not permitted, it is as any other thread, and what it does not reach is told.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), FIRST);
        let Some(core) = self.core else { return Ok(()) };
        let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: core });
        anyhow::ensure!(
            pinned,
            "{}, queue {}: the thread cannot be pinned to core {core}: `nproc` says how many there are",
            self.device,
            self.queue
        );
        Ok(())
    }
}
