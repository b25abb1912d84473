//! What translations are made of: pairs of prefixes, external addresses and their ports, and who has which.

mod endpoint;
mod log;
mod ports;
mod prefix;

pub use endpoint::Endpoint;
pub use log::{BlockEvent, BlockLog, BlockReader};
pub use ports::{Blocks, Ports, probes};
pub use prefix::{PairError, PrefixPair, Range};
