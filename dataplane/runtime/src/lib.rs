//! Work that waits, on one thread: tasks, scopes, cancellation, timers.
//!
//! Packets run to completion; protocols wait. What waits is a task here: a future on the thread of its executor, in memory that
//! tasks leave to each other, woken by a word. What it waits by is an [`Io`], which the caller passes: over it are sockets
//! ([`UdpSocket`], [`TcpStream`], [`UnixStream`]), [pipes](pipe()), [`File`]s, [`Watches`], [`Signals`] and [`Child`]ren. `examples/` shows them at work.

#![deny(unsafe_code)]

mod blocking;
mod calls;
mod cancel;
mod child;
mod combine;
mod driver;
mod error;
mod executor;
mod file;
mod flights;
mod io;
mod net;
mod pipe;
mod pool;
mod remote;
mod scope;
mod signals;
mod sim;
mod sleep;
pub mod sync;
mod system;
#[allow(unsafe_code)]
mod task;
mod time;
mod trace;
mod unix;
#[allow(unsafe_code)]
mod uring;
mod watches;
mod wheel;

pub use blocking::{Blocking, BlockingIo};
pub use calls::{
    Advice, Calls, Details, Half, Metadata, OpenOptions, SocketKind, SocketOption, Started, Streams,
};
pub use cancel::{Cancelled, Canceller, cancellable, check, is_cancelled, shield};
pub use child::Child;
pub use combine::{Backoff, Either, Elapsed, all, any, both, either, race, retry, timeout};
pub use driver::{Begun, Driver, Flight, Operation, Source, Wait};
pub use error::{Error, ErrorKind};
pub use executor::{Executor, ExecutorError};
pub use file::File;
pub use io::Io;
pub use net::{TcpListener, TcpStream, UdpSocket};
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use pool::{Pool, PoolIo};
pub use remote::{Bell, Remote, Seat};
pub use rustix::fs::inotify::{ReadFlags, WatchFlags};
pub use rustix::process::Signal;
pub use scope::{Scope, scope};
pub use signals::{SignalInfo, Signals};
pub use sim::{Faults, Sim, SimDescriptor, SimIo, SimProcess};
pub use sleep::{Sleep, yield_now};
pub use system::Kernel;
pub use task::{Doing, Dump, Ended, Handle, Overrun, Pass, TaskDump, Tasks};
pub use time::Instant;
pub use trace::{Frame, Site, traced};
pub use unix::{UnixDatagram, UnixListener, UnixStream};
pub use uring::{Uring, UringError, UringIo};
pub use watches::{WatchEvent, Watches};
