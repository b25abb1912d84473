//! The flow table: one worker's connections, in shared memory that outlives the worker.
//!
//! ```text
//!   header │ index │ records 64 B │ cold 32 B │ marks │ sources │ rings of new flows │ translations 64 B
//! ```
//!
//! A flow has the key that its initiator sends, and the key that the answers arrive with: the reverse, unless a stage
//! [translated](Flows::translate) it. Both directions of a flow have the same hash, so one place in the index finds both; a
//! translated flow has a second place, for its answers.
//!
//! Owns: the layout, and who is evicted when there is no room. Refuses: memory that another layout or another secret has
//! written; a flow beyond a limit, or for which room could only be made at the cost of a better one. Keeps true: after a kill
//! at any instruction, and [`recover`](Flows::recover), a flow is there whole, or not at all, and what is counted is right: a
//! change that takes several stores is announced in the header first, and what was announced can be finished by another.
//! Zeroed memory is an empty table. One writer, any readers. No private state: clones share everything.
//!
//! # Who goes first
//!
//! 1. what has expired,
//! 2. the *weak*: not answered, half open, or closing,
//! 3. only when no flow of the whole table is weak: the one of 64 that was not seen for longest.
//!
//! So a flood of packets that nobody answers evicts itself. Half-open TCP connections have a limit of their own besides;
//! beyond it the oldest of them goes.

mod counts;
mod evict;
mod layout;
mod record;
mod recover;
mod ring;
mod shards;
mod sources;
mod table;
mod view;

pub use counts::{Counts, Limits, Refused};
pub use layout::{FlowSpace, OpenError};
pub use record::{FlowId, Hot, State, bit};
pub use shards::Shards;
pub use table::Flows;
pub use view::{FlowView, Shown};

#[cfg(test)]
mod tests;
