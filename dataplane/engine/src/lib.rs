//! The worker loop, and the sandboxed process around it.

pub mod exchange;
pub mod idle;
pub mod punt;
pub mod worker;
