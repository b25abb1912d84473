//! What translations are made of: pairs of prefixes, external addresses and their ports, and who has which.

mod block;
mod endpoint;
mod log;
mod mapping;
mod peers;
mod pool;
mod ports;
mod prefix;
mod sweep;
mod translations;
mod view;

pub use block::{Block, ClientBlocks, MAX_BLOCKS};
pub use endpoint::Endpoint;
pub use log::{BlockEvent, BlockLog, BlockReader};
pub use mapping::{Mapping, Mappings};
pub use peers::Peers;
pub use pool::Pool;
pub use ports::{Blocks, Ports, probes};
pub use prefix::{PairError, PrefixPair, Range};
pub use translations::{NatLayout, NoPort, Translations};
pub use view::NatView;
