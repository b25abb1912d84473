//! The worker loop, and the sandboxed process around it.
//!
//! ```text
//!   main ── setup ── sandbox ── manager ──orders──▶ worker 0..n  (one core each)
//!              ▲                   ▲    ◀─answers──
//!    descriptors from control      └─ control, or the next one
//! ```

/// Writes a line to standard error, which is control's. It may be a pipe whose reader went away with control, or a file on
/// a full disk: no reason to stop forwarding, so unlike `eprintln!` this does not panic.
#[macro_export]
macro_rules! log {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
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
