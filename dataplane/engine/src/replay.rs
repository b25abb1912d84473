//! Replay: what a snapshot makes of a capture, without a network.
//!
//! Owns nothing for longer than a call. Runs a worker over capture files, one per port: the packets of one port come from a
//! file, and what leaves by each port is written to another. The same capture under the same snapshot gives the same bytes,
//! whatever the time of day: packets are stamped with their place in the file. Refuses: captures that [`PcapError`] says
//! why. To try a configuration on recorded traffic, and to compare other devices with.

use crate::exchange::Mailbox;
use crate::worker::{Output, Parts, Queue, Worker};
use std::io::{self, Read};
use zsync_io::pcap::{Pace, Pcap, PcapError, Reader, Stamps, Writer};
use zsync_packet::frame::{ArenaError, FrameSize};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::PortId;
use zsync_pipelines::snapshot::Snapshot;
use zsync_protocol::stats::{Counters, StatsError, StatsLayout, WorkerStats};
use zsync_runtime::Seat;

/// Frames that a replay works with: enough for a burst to leave while the next one is read.
const FRAMES: u32 = 256;

/// Why a replay did not happen, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The capture is none.
    #[error("the capture cannot be replayed: {0}")]
    Capture(#[from] PcapError),
    /// The capture is damaged.
    #[error("the capture cannot be replayed to its end: {what}")]
    Damaged {
        /// Which record, and how.
        what: String,
    },
    /// No memory to work with.
    #[error("the frames of a replay: {0}")]
    Arena(#[from] ArenaError),
    /// No counters to work with.
    #[error("the counters of a replay: {0}")]
    Stats(#[from] StatsError),
    /// No descriptors to work with.
    #[error("the wake-up event of a replay: {0}")]
    Event(#[from] io::Error),
}

/// What came of a replay.
#[derive(Debug)]
pub struct Replayed {
    /// What left by each port, by its number: a capture, with times that count the packets.
    pub captures: Vec<Vec<u8>>,
    /// What the worker counted. Packets for the kernel are dropped as `punt-failed`: there is none.
    pub counters: Counters,
}

/// Runs the packets of `capture`, as if they came in at `input`, one of the `ports` ports of `snapshot`.
///
/// # Errors
/// The capture is none, or is damaged: what came before the damage is not told.
pub fn replay(
    snapshot: Snapshot,
    ports: u16,
    input: PortId,
    capture: impl Read,
) -> Result<Replayed, ReplayError> {
    let mut capture = Some(Reader::new(capture, Pace::AsFast)?);
    let pool = Pool::heap(FrameSize::K4, FRAMES, 1)?.remove(0);
    let region = Region::heap(StatsLayout::bytes(1));
    StatsLayout::format(&region, 1)?;
    let mut queues = Vec::new();
    for port in (0..ports).map(PortId) {
        let reader = if port == input { capture.take() } else { None };
        let writer = Writer::new(Vec::new(), Stamps::Count)?;
        queues.push(Queue::new(Pcap::new(port, reader, Some(writer)), port));
    }
    let mailbox = Mailbox::new(Seat::new().map_err(io::Error::other)?.remote().bell());
    let parts = Parts {
        pool,
        queues,
        outputs: (0..usize::from(ports)).map(Output::Own).collect(),
        peers: vec![mailbox.clone()],
        mailbox,
        stats: WorkerStats::open(&region, 0)?,
        punt: None,
    };
    let mut worker = Worker::new(parts, Box::new(snapshot));
    while !worker.queues().iter().all(|queue| queue.device.finished()) {
        // A clock that stands: nothing may depend on it.
        worker.pass(0);
    }
    // With such a clock, what was to leave later has not left yet.
    worker.send_waiting(0);
    let mut captures = Vec::new();
    for queue in worker.queues() {
        let device = std::mem::replace(&mut queue.device, Pcap::new(queue.port, None, None));
        if let Some(error) = device.error() {
            return Err(ReplayError::Damaged { what: error.to_string() });
        }
        let (_, writer) = device.into_parts();
        captures.push(writer.map_or(Ok(Vec::new()), Writer::finish)?);
    }
    Ok(Replayed { captures, counters: worker.counters().clone() })
}
