//! Why a data plane cannot be set up.
//!
//! Owns nothing. Keeps true: each says which port, queue, worker or memory it is about, as far as there is one.

use rustix::io::Errno;
use zsync_io::uring::UringError;
use zsync_io::xsk::XskError;
use zsync_packet::frame::ArenaError;
use zsync_pipelines::compile::CompileError;
use zsync_pipelines::state::StateError;
use zsync_pipelines::tables::fib::FibError;
use zsync_protocol::fd::ChannelError;
use zsync_protocol::message::{MessageError, VERSION};
use zsync_protocol::shm::MemoryError;
use zsync_protocol::stats::StatsError;
use zsync_runtime::ExecutorError;

/// Why the data plane cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Control hung up, or sent what it must not.
    #[error("the channel to control: {0}")]
    Channel(#[from] ChannelError),
    /// As above.
    #[error("a message from control: {0}")]
    Message(#[from] MessageError),
    /// There is none for a worker's tasks.
    #[error("a worker's tasks: {0}")]
    Executor(#[from] ExecutorError),
    /// A message came too early, twice, or too late.
    #[error("control sent {what} {when}")]
    Order {
        /// The message.
        what: &'static str,
        /// What is wrong about it.
        when: &'static str,
    },
    /// Another version of the protocol.
    #[error("control speaks version {theirs} of the protocol, this data plane {VERSION}: upgrade both")]
    Version {
        /// Control's.
        theirs: u32,
    },
    /// A frame size that there is not.
    #[error("frames of {bytes} bytes: 2048 or 4096 are possible")]
    FrameSize {
        /// What was asked for.
        bytes: u32,
    },
    /// A queue of a worker or port that does not exist.
    #[error("queue {queue} of port {port} is for worker {worker}: there is no such port or worker")]
    Queue {
        /// The port's number.
        port: u16,
        /// The NIC queue.
        queue: u16,
        /// The worker's number.
        worker: u8,
    },
    /// Memory that cannot be mapped.
    #[error("{what}: {source}")]
    Memory {
        /// Which memory.
        what: &'static str,
        /// What is wrong with it.
        source: MemoryError,
    },
    /// The arena.
    #[error("packet memory: {0}")]
    Arena(#[from] ArenaError),
    /// The counters.
    #[error("the counters' memory: {0}")]
    Stats(#[from] StatsError),
    /// A socket.
    #[error(transparent)]
    Xsk(#[from] XskError),
    /// A queue's ring.
    #[error(transparent)]
    Ring(#[from] UringError),
    /// The FIB.
    #[error("routing table {table}: {source}")]
    Fib {
        /// The kernel's number of the table.
        table: u32,
        /// What is wrong with it.
        source: FibError,
    },
    /// What a stage keeps.
    #[error("the memory of stage {label}: {source}")]
    State {
        /// The stage's label.
        label: String,
        /// What is wrong with it.
        source: StateError,
    },
    /// The configuration.
    #[error("the configuration of epoch {epoch}: {what}")]
    Snapshot {
        /// Its number.
        epoch: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A system call.
    #[error("{what}: {errno}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
}

impl From<CompileError> for SetupError {
    fn from(error: CompileError) -> Self {
        Self::Snapshot { epoch: 0, what: error.to_string() }
    }
}
