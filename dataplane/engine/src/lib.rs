//! The worker loop, and the sandboxed process around it.
//!
//! ```text
//!   main ── setup ── sandbox ── manager ──orders──▶ worker 0..n  (one core each)
//!              ▲                   ▲    ◀─answers──
//!    descriptors from control      └─ control, or the next one
//! ```

pub mod exchange;
pub mod idle;
pub mod manager;
pub mod punt;
pub mod replay;
pub mod sandbox;
pub mod setup;
pub mod worker;
