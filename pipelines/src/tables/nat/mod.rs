//! What translations are made of: pairs of prefixes, external addresses and their ports, and who has which.

mod prefix;

pub use prefix::{PairError, PrefixPair, Range};
