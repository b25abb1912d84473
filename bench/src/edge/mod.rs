//! The edge: clocks per packet of its stages, alone and together, each beside what it must not cost.
//!
//! Stages are those that a configuration compiles to, behind the ones that they need. A burst of 32 packets is written, the
//! stages ahead work on it, and only then is the time taken: as in a worker, packets are in the caches, and what tables have of
//! their flows is where a million others have left it. Flows, destinations and rules are drawn at random.

mod bed;
pub mod case;
pub mod costs;
mod traffic;
