//! What a worker is made of, and how each packet leaves its hands: to a queue, to a worker, to the kernel, into the wheel, home.
//!
//! Owns: the devices, the pool, the ways to other workers and to the kernel. Refuses nothing: a packet that cannot go on is
//! counted by its reason. Keeps true: whatever is told to become of a packet, its frame is then somewhere on the ledger, and
//! one counter has counted it, or it is leaving by a queue, whose sending counts it.

use crate::exchange::{Errand, Handover, Mailbox};
use crate::punt::Punt;
use crate::wheel::Wheel;
use std::sync::Arc;
use zsync_io::device::DeviceCounters;
use zsync_packet::burst::{BURST, Packet};
use zsync_packet::pool::Pool;
use zsync_packet::verdict::{DropReason, PortId, Verdict};
use zsync_pipelines::stage::EXTRA;
use zsync_protocol::stats::{Counters, WorkerStats};

/// Most packets that leave by one queue between two calls of its device: those of a burst, those that stages made out of it,
/// and as many that another worker sent.
const LEAVING: usize = 2 * BURST + EXTRA;
/// One queue of a port, and the device behind it.
pub struct Queue<D> {
    /// Where packets come from and go to.
    pub device: D,
    /// The port it belongs to.
    pub port: PortId,
    /// Packets that leave by it in this pass.
    pub(crate) leaving: Vec<Packet>,
    /// The device's counters when they were last added to ours.
    pub(crate) counted: DeviceCounters,
}

impl<D> Queue<D> {
    /// A queue of `port` with this device.
    pub fn new(device: D, port: PortId) -> Self {
        Self { device, port, leaving: Vec::with_capacity(LEAVING), counted: DeviceCounters::default() }
    }
}

/// How packets leave by a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Not at all: no such port.
    #[default]
    Nowhere,
    /// By this queue of the worker's own.
    Own(usize),
    /// By a queue of this worker.
    Peer(u8),
}

/// What a worker is made of.
pub struct Parts<D> {
    /// Its frames.
    pub pool: Pool,
    /// Its queues.
    pub queues: Vec<Queue<D>>,
    /// By port number.
    pub outputs: Vec<Output>,
    /// What leads to it.
    pub mailbox: Arc<Mailbox>,
    /// The mailboxes of all workers, by number; its own among them.
    pub peers: Vec<Arc<Mailbox>>,
    /// Where it publishes.
    pub stats: WorkerStats,
    /// The way to the kernel, if there is one.
    pub punt: Option<Punt>,
}

impl<D> Parts<D> {
    #[inline]
    pub(crate) fn output(&self, port: PortId) -> Output {
        self.outputs.get(usize::from(port.0)).copied().unwrap_or_default()
    }

    /// Carries one packet's verdict out; `l3` is where its IP header starts, 0 when nobody has looked.
    #[inline]
    pub(crate) fn carry_out(
        &mut self,
        counters: &mut Counters,
        packet: Packet,
        verdict: Verdict,
        l3: u16,
        now: u64,
    ) {
        let done = match verdict {
            Verdict::Transmit(port) => match self.output(port) {
                Output::Own(queue) => match self.queues.get_mut(queue) {
                    Some(queue) => {
                        queue.leaving.push(packet);
                        return;
                    }
                    None => Err(DropReason::NoSuchPort),
                },
                Output::Peer(worker) => {
                    return self.hand_over(counters, worker, packet, Errand::Leave(port));
                }
                Output::Nowhere => Err(DropReason::NoSuchPort),
            },
            Verdict::Punt => {
                let bytes = self.pool.arena().bytes(&packet.frame, packet.start, packet.len);
                match &mut self.punt {
                    Some(punt) if punt.is_from_kernel(packet.port, bytes) => Err(DropReason::PuntFailed),
                    Some(punt) => punt.give(ip_packet(bytes, l3), now),
                    None => Err(DropReason::PuntFailed),
                }
            }
            Verdict::Drop(reason) => Err(reason),
            Verdict::Consume => {
                counters.consumed += 1;
                return self.pool.free(packet.frame);
            }
            // A snapshot leaves no packet without a decision; and what a stage makes is nobody else's.
            Verdict::Next | Verdict::Goto(_) | Verdict::Worker(..) => Err(DropReason::Undecided),
        };
        match done {
            Ok(()) => counters.punted += 1,
            Err(reason) => counters.drops[reason as usize] += 1,
        }
        self.pool.free(packet.frame);
    }

    /// Carries one packet's verdict out, now or, for one that is to leave later, then: drops it when too many wait.
    #[inline]
    pub(crate) fn send_off(
        &mut self,
        wheel: &mut Wheel,
        counters: &mut Counters,
        packet: Packet,
        verdict: Verdict,
        (delay, l3): (u32, u16),
        now: u64,
    ) {
        let Verdict::Transmit(output) = verdict else {
            return self.carry_out(counters, packet, verdict, l3, now);
        };
        if delay == 0 {
            return self.carry_out(counters, packet, verdict, l3, now);
        }
        if let Err(packet) = wheel.hold(&self.pool, packet, output, now, u64::from(delay)) {
            counters.drops[DropReason::ShapeFull as usize] += 1;
            self.pool.free(packet.frame);
        }
    }

    /// Puts a packet on its way to another worker; drops it when too many wait there.
    pub(crate) fn hand_over(&mut self, counters: &mut Counters, worker: u8, packet: Packet, errand: Errand) {
        let Self { pool, peers, .. } = self;
        let Some(peer) = peers.get(usize::from(worker)) else {
            counters.drops[DropReason::HandoverFull as usize] += 1;
            return pool.free(packet.frame);
        };
        pool.hand_over(&packet.frame, worker);
        match peer.handovers.push(Handover { packet, errand }) {
            Ok(()) => {
                counters.handed_over += 1;
                peer.bell.ring();
            }
            Err(Handover { packet, .. }) => {
                pool.adopt(&packet.frame);
                counters.drops[DropReason::HandoverFull as usize] += 1;
                pool.free(packet.frame);
            }
        }
    }
}

/// The IP packet in a frame: from where the parser found it, or behind a plain Ethernet header.
fn ip_packet(bytes: &[u8], l3: u16) -> &[u8] {
    match (l3, bytes.get(12..14)) {
        (0, Some([0x08, 0x00] | [0x86, 0xdd])) => bytes.get(14..).unwrap_or(&[]),
        (0, _) => &[],
        (l3, _) => bytes.get(usize::from(l3)..).unwrap_or(&[]),
    }
}
