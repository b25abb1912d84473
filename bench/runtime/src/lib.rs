//! What tasks, timers, channels and sockets cost, beside other runtimes in the same run.
//!
//! ```text
//!   contestant  what every runtime is asked for; ours, tokio, monoio, glommio, compio, smol
//!   exercise    what is measured
//!   tasks       without sockets: the contestant's thread times itself, and counts its allocations
//!   network     the contestant's end of sockets
//!   far         their other end, on the other core
//!   turn, side  a contestant in a process of its own: what that does, and how the run sees it
//!   run         rounds: everybody has a turn at each exercise
//!   judge       what ours is to reach, and whether it does
//! ```
//!
//! Keeps true: in each round every contestant has its turn at an exercise right after the one before it, on the same core; all
//! do the same, which is written once. Refuses: to choose cores, and to print; the caller does.
#![forbid(unsafe_code)]

mod contestant;
mod exercise;
mod far;
mod judge;
mod network;
mod run;
mod side;
mod tasks;
mod turn;

pub use run::run;
pub use turn::serve;

use std::fmt;
use std::process::Command;
use std::time::Duration;

/// How a run is to be.
pub struct Settings<'a> {
    /// How often each thing is measured.
    pub rounds: usize,
    /// About how long all of it takes.
    pub time: Duration,
    /// How a process is started that calls [`serve`] for the contestant of this name.
    pub contestant: &'a dyn Fn(&str) -> Command,
    /// Where the far end of sockets runs: not where contestants do.
    pub far_core: usize,
}

impl fmt::Debug for Settings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("rounds", &self.rounds)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}
