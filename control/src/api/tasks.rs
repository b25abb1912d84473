//! What the daemon answers of the tasks beside the workers' packets.

use serde::{Deserialize, Serialize};

use super::answer::row;

row! {
    /// What waits beside the packets.
    Tasks {
        /// By number.
        workers: Vec<WorkerTasks>,
    }
    /// The tasks of a worker.
    WorkerTasks {
        /// Its number.
        worker: u32,
        /// As a tree: each behind the one that it is below of, and ends with.
        tasks: Vec<TaskRow>,
        /// Tasks that it has beside those.
        left_out: u64,
        /// Polls of tasks that held packets up for more than 200 µs, since somebody first asked for this worker's tasks.
        late_polls: u64,
    }
    /// A task.
    TaskRow {
        /// How many tasks it is below of.
        depth: u32,
        /// The line of the program that spawned it, as `file:line`.
        task: String,
        /// `waits`, `ready` or `runs`.
        state: String,
        /// For how long, microseconds.
        since_us: u64,
        /// What it waits for: parts behind what they are parts of.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        waits: Vec<TaskWait>,
    }
    /// Something that a task waits for.
    TaskWait {
        /// Of how many others it is a part.
        depth: u32,
        /// What, and the line that waits.
        what: String,
    }
}
