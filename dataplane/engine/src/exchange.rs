//! What passes between threads: packets from worker to worker, orders and answers between the manager and a worker.
//!
//! Owns: bounded queues, no locks. Refuses: what does not fit (the sender keeps it, and counts). Keeps true: a packet in a
//! queue is on the ledger as `Remote`, of the worker that it goes to.

use crossbeam_queue::ArrayQueue;
use std::sync::Arc;
use zsync_packet::burst::{Facts, Packet};
use zsync_packet::flow::FlowKey;
use zsync_packet::pool::Audit;
use zsync_packet::verdict::PortId;
use zsync_pipelines::snapshot::Snapshot;
use zsync_runtime::{Bell, Dump};

/// Packets that may wait for a worker: 16 bursts, some hundred microseconds of its time.
pub const HANDOVERS: usize = 1024;

/// A packet on its way to the worker that has the queue it leaves by, or that owns its flow.
#[derive(Debug)]
pub struct Handover {
    /// The packet.
    pub packet: Packet,
    /// What is to be done with it.
    pub errand: Errand,
}

/// What a worker is to do with a packet from another one.
#[derive(Clone, Copy, Debug)]
pub enum Errand {
    /// Let it leave by this port.
    Leave(PortId),
    /// Let it go on through the pipelines, behind the stage that found out who owns its flow.
    GoOn {
        /// The number of that stage.
        stage: u8,
        /// Of the snapshot that has the stage. Under another one, the packet starts again, from the port where it came in.
        epoch: u64,
        /// What is known of it.
        facts: Facts,
        /// Its flow.
        key: FlowKey,
        /// How often it was handed over, this time too.
        hops: u8,
    },
}

/// What a worker is told, at a pass boundary.
#[derive(Debug)]
pub enum Order {
    /// Use this snapshot from now on.
    Adopt(Box<Snapshot>),
    /// Count your frames.
    Audit,
    /// Tell what your tasks do. (Who runs the worker answers: see [`crate::runner`].)
    Tasks,
    /// Deal with what the devices have, then receive no more from them; packets from other workers still come.
    Drain,
    /// All workers have drained: send what you have, and end.
    Stop,
}

/// What a worker answers.
#[derive(Debug)]
pub enum Answer {
    /// The snapshot that was in use before: the manager frees it, so that the worker need not.
    Retired(Box<Snapshot>),
    /// The worker's frames, and how many of them lie in its RX and completion rings.
    Audited {
        /// By owner.
        audit: Audit,
        /// In RX rings, counted as `fill`.
        rx: u32,
        /// In completion rings, counted as `tx`.
        completion: u32,
    },
    /// The worker's tasks, as many as are told.
    Tasks(Box<Dump>),
    /// The worker receives no more.
    Drained,
    /// The last word.
    Stopped,
}

/// Everything that leads to one worker.
#[derive(Debug)]
pub struct Mailbox {
    /// Packets from other workers.
    pub handovers: ArrayQueue<Handover>,
    /// Orders from the manager.
    pub orders: ArrayQueue<Order>,
    /// Answers to the manager.
    pub answers: ArrayQueue<Answer>,
    /// Wakes the worker.
    pub bell: &'static Bell,
}

impl Mailbox {
    /// An empty one, whose worker this bell wakes: that of its tasks.
    pub fn new(bell: &'static Bell) -> Arc<Self> {
        Arc::new(Self {
            handovers: ArrayQueue::new(HANDOVERS),
            orders: ArrayQueue::new(16),
            answers: ArrayQueue::new(64),
            bell,
        })
    }

    /// Leaves an order, and wakes the worker. Gives it back when too many wait.
    pub fn order(&self, order: Order) -> Result<(), Order> {
        self.orders.push(order)?;
        self.bell.ring();
        Ok(())
    }
}
