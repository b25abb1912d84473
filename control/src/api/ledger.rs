//! What the daemon answers of the frames, and of what became of the packets.
//!
//! Owns: the rows and their names, as for all [answers](super::Answer); it refuses nothing.

use serde::{Deserialize, Serialize};

use super::answer::row;

row! {
    /// Where every frame is.
    Ledger {
        /// Frames of the arena.
        frames: u64,
        /// Row by row, by worker.
        workers: Vec<LedgerRow>,
        /// Their sum.
        total: LedgerRow,
        /// The owners' frames sum up to the arena, and none is leaked or misplaced.
        exact: bool,
        /// What became of the packets.
        rx_equals: RxEquals,
    }
    /// The frames of one worker by owner, at a pass boundary.
    LedgerRow {
        /// Number of the worker; none for a sum.
        #[serde(skip_serializing_if = "Option::is_none")]
        worker: Option<u32>,
        /// Free, in its pool.
        pool: u64,
        /// In a fill ring, or with the NIC.
        fill: u64,
        /// In an RX ring.
        rx: u64,
        /// In a burst.
        burst: u64,
        /// In a TX ring, or with the NIC.
        tx: u64,
        /// In a completion ring.
        completion: u64,
        /// Held by a stage.
        held: u64,
        /// On the way home from another worker.
        remote: u64,
        /// Times that a frame was found with another owner than the one that gave it up.
        misplaced: u64,
        /// Frames that nobody owns.
        leaked: u64,
    }
    /// rx + generated = tx + drops + punted + consumed + lost in crashes. What passes between workers cancels out.
    RxEquals {
        /// Packets received from devices.
        rx: u64,
        /// Packets that a stage made.
        generated: u64,
        /// Packets placed in TX rings.
        tx: u64,
        /// Packets dropped, for any reason.
        drops: u64,
        /// Packets given to the kernel.
        punted: u64,
        /// Packets that ended in a stage.
        consumed: u64,
        /// Packets that a worker had in its hands when it died.
        lost_in_crash: u64,
        /// Both sides are equal.
        exact: bool,
    }
}
