//! What a data plane is made of, as control tells it at its start.
//!
//! Owns nothing. Keeps true: the secret is in no log.

use serde::{Deserialize, Serialize};

/// What a data plane process is made of.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Size of a frame, bytes: 2048 or 4096.
    pub frame_size: u32,
    /// Frames in the arena.
    pub frames: u32,
    /// One entry per worker, 1 to [`MAX_WORKERS`](super::MAX_WORKERS).
    pub workers: Vec<WorkerPlan>,
    /// What a worker does when there is nothing to do.
    pub idle: Idle,
    /// User id to run as; not 0.
    pub uid: u32,
    /// Group id to run as; not 0.
    pub gid: u32,
    /// The ledger and the counters hold a predecessor's state, to be carried on from.
    pub takeover: bool,
    /// Random bytes that key the hashes of flows: the same for every data plane over the same state, and told to nobody
    /// else. (Two halves, because serde knows arrays of up to 32.)
    pub secret: [[u8; 32]; 2],
}

impl std::fmt::Debug for Layout {
    /// Without the secret: this ends up in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { frame_size, frames, workers, idle, uid, gid, takeover, secret: _ } = self;
        f.debug_struct("Layout")
            .field("frame_size", frame_size)
            .field("frames", frames)
            .field("workers", workers)
            .field("idle", idle)
            .field("uid", uid)
            .field("gid", gid)
            .field("takeover", takeover)
            .finish_non_exhaustive()
    }
}

/// Where a worker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerPlan {
    /// CPU to pin it to, or none to let the kernel choose.
    pub core: Option<u32>,
}

/// What a worker does when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Idle {
    /// Look again at once.
    Spin,
    /// Spin for a while, then block.
    Adaptive,
    /// Block.
    Block,
}

/// What the kernel leaves to who reads and writes a TUN or TAP device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TunOffload {
    /// Nothing: packets are bare, and whole.
    #[default]
    None,
    /// Ahead of each packet are 10 bytes of `struct virtio_net_hdr`; checksums may be missing, and TCP segments stand for
    /// several.
    Tcp,
    /// The same, and UDP datagrams stand for several.
    TcpUdp,
}
