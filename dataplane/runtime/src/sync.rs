//! What tasks of one executor say to each other, and wait for each other by. All of it stays on the executor's thread.
//!
//! Keeps true, of everything here: who waits is served in the order in which it came; a wait that is dropped, or cancelled, loses
//! nothing, and what it was about to get goes to the next; and cancellation is seen before something is taken, never after.

pub mod barrier;
pub mod breaker;
pub mod broadcast;
pub mod condition;
pub mod limit;
pub mod mpsc;
pub mod mutex;
pub mod once;
pub mod oneshot;
pub mod pool;
pub mod semaphore;
pub mod stream;
mod waiters;
pub mod watch;

pub(crate) use waiters::{Wait, Waiters};

#[cfg(test)]
pub(crate) mod harness;
#[cfg(test)]
mod tests;
