//! The demonstration: a router between two namespaces, real traffic through it, and both of its processes killed.
//!
//! Read `story` first: it is what is shown, in order. `guard` is the outer process, which removes everything
//! afterwards, however the story ended; `account` narrates and keeps the table; `load` is the traffic at full rate; `wireguard` the gateway.

mod account;
mod guard;
mod load;
mod story;
mod wireguard;

use std::process::ExitCode;

/// Runs the demonstration; success only if everything in the table held.
#[must_use]
pub fn main() -> ExitCode {
    if guard::is_inside() { story::main() } else { guard::main() }
}
