//! The worker loop, and the sandboxed process around it.
//!
//! ```text
//!   main ── setup ── sandbox ── manager ──orders──▶ worker 0..n  (one core each)
//!              ▲                   ▲    ◀─answers──
//!    descriptors from control      └─ control, or the next one
//! ```

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt;
use std::io::Write as _;

/// Writes a line to standard error, which is control's; see [`say`].
#[macro_export]
macro_rules! log {
    ($($words:tt)*) => {
        $crate::say(format_args!($($words)*))
    };
}

/// Writes a line to standard error, by one call. That may be a pipe that nobody reads, or whose reader went away with control, or a file on
/// a full disk: no reason to stop forwarding, nor to wait, so a line that cannot be written now is lost. (A pipe that has room for anything
/// has room for 4,096 bytes: pipe(7). A disk may take its time: what is in a hurry is done before it is told of.)
pub fn say(words: fmt::Arguments<'_>) {
    let stderr = std::io::stderr();
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut ready, Some(&now)).is_ok_and(|count| count > 0) {
        let _ = stderr.lock().write_all(format!("{words}\n").as_bytes());
    }
}

mod chores;
pub mod endpoint;
pub mod exchange;
pub mod idle;
pub mod manager;
mod parts;
pub mod punt;
pub mod replay;
pub mod runner;
pub mod sandbox;
pub mod setup;
mod told;
pub mod wheel;
pub mod worker;
