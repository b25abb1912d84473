//! What the data plane says to control.
//!
//! Owns: these messages. Refuses: rows and texts beyond the limits of [the module](super), and what was replayed that would be refused itself.

use super::codec::{Message, MessageError, tag_of, within};
use super::{MAX_TEXT, MAX_WORKERS, PART, ToDataplane, WorkerTask};
use serde::{Deserialize, Serialize};

/// What the data plane says to control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromDataplane {
    /// Alive, and (when true) in its sandbox; nothing has been read yet.
    Ready {
        /// The process, as it sees itself.
        pid: u32,
        /// All steps of the sandbox were taken and verified.
        sandboxed: bool,
    },
    /// The workers run.
    Started,
    /// Every worker has left all earlier epochs: their memory may go.
    Adopted {
        /// Epoch of the snapshot that all workers use.
        epoch: u64,
    },
    /// The frames by owner, worker by worker.
    Audit {
        /// Of the question.
        id: u32,
        /// One entry per worker.
        workers: Vec<WorkerAudit>,
    },
    /// One message that was received earlier, and its descriptors.
    Replayed(ToDataplane),
    /// All were sent.
    ReplayEnd,
    /// The process cannot go on and will exit.
    Failed {
        /// What happened and what to do about it; see [`FromDataplane::failed`].
        what: String,
    },
    /// The workers have stopped; the process exits.
    Stopped,
    /// Tasks of one worker, at most [`PART`], as a tree: each behind the one that it is below of. There may be several of a worker.
    Tasks {
        /// Of the question.
        id: u32,
        /// Number of the worker.
        worker: u8,
        /// The next of its tasks.
        tasks: Vec<WorkerTask>,
        /// How many it has that are in none of its messages.
        left_out: u32,
        /// How many polls took too long since that is counted.
        late: u64,
    },
    /// Those were all tasks.
    TasksEnd {
        /// Of the question.
        id: u32,
    },
}

/// The frames of one worker by owner, at a pass boundary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerAudit {
    /// Number of the worker.
    pub worker: u8,
    /// Free, in the worker's pool.
    pub pool: u32,
    /// In a fill ring, or with the NIC.
    pub fill: u32,
    /// In an RX ring.
    pub rx: u32,
    /// In a burst.
    pub burst: u32,
    /// In a TX ring, or with the NIC.
    pub tx: u32,
    /// In a completion ring.
    pub completion: u32,
    /// Held by a stage.
    pub held: u32,
    /// On the way home from another worker.
    pub remote: u32,
    /// Times that a frame was found with another owner than the one that gave it up.
    pub misplaced: u64,
    /// Frames whose owner is none of these: 0, or a defect.
    pub leaked: u32,
}

impl FromDataplane {
    /// A [`FromDataplane::Failed`] that fits: `what`, cut to [`MAX_TEXT`] bytes.
    pub fn failed(what: impl std::fmt::Display) -> Self {
        let mut what = what.to_string();
        what.truncate(what.floor_char_boundary(MAX_TEXT));
        Self::Failed { what }
    }
}

impl Message for FromDataplane {
    const KINDS: &'static [&'static str] = &[
        "Ready",
        "Started",
        "Adopted",
        "Audit",
        "Replayed",
        "ReplayEnd",
        "Failed",
        "Stopped",
        "Tasks",
        "TasksEnd",
    ];

    fn kind(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "Ready",
            Self::Started => "Started",
            Self::Adopted { .. } => "Adopted",
            Self::Audit { .. } => "Audit",
            Self::Replayed(_) => "Replayed",
            Self::ReplayEnd => "ReplayEnd",
            Self::Failed { .. } => "Failed",
            Self::Stopped => "Stopped",
            Self::Tasks { .. } => "Tasks",
            Self::TasksEnd { .. } => "TasksEnd",
        }
    }

    fn descriptors(&self) -> usize {
        if let Self::Replayed(message) = self { message.descriptors() } else { 0 }
    }

    fn check(&self) -> Result<(), MessageError> {
        let kind = self.kind();
        match self {
            Self::Replayed(message) => message.check(),
            Self::Audit { workers, .. } => {
                within(kind, "workers", workers.len(), workers.len() <= MAX_WORKERS, "at most 128")
            }
            Self::Tasks { worker, tasks, .. } => {
                within(kind, "worker", worker, usize::from(*worker) < MAX_WORKERS, "below 128")?;
                within(kind, "tasks", tasks.len(), tasks.len() <= PART, "at most 16")?;
                tasks.iter().try_for_each(|task| task.check(kind))
            }
            Self::Failed { what } => {
                within(kind, "what", what.len(), what.len() <= MAX_TEXT, "at most 1024 bytes")
            }
            _ => Ok(()),
        }
    }

    fn screen(tag: u32, rest: &[u8]) -> Result<(), MessageError> {
        if tag != 4 {
            return Ok(());
        }
        let (tag, rest) = tag_of::<ToDataplane>(rest)?;
        ToDataplane::screen(tag, rest)
    }
}
