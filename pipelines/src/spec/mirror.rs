//! What the stage `mirror` is told.

use super::model::PortId;
use serde::{Deserialize, Serialize};

/// `[mirror.NAME]`: copies of packets go to a port or into a capture file; the packets themselves go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorSpec {
    /// Where the copies go.
    pub to: MirrorTo,
    /// Of how many packets one is copied, on average and at random; 1 is all.
    pub one_in: u32,
    /// Only packets with this mark; none: whatever their mark.
    pub mark: Option<u32>,
    /// Most bytes of a packet that are copied.
    pub snap: u32,
}

/// Where copies go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MirrorTo {
    /// They leave by this port.
    Port(PortId),
    /// Into this file, which the control process writes.
    File {
        /// An absolute path.
        path: String,
        /// Bytes that may wait for the control process, for each worker.
        ring: u32,
    },
}
