//! What the stage `vlan` is told, and which VLANs are ports of their own.

use super::model::PortId;
use serde::{Deserialize, Serialize};

/// `[vlan.NAME]`: tags are put on, taken off or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanSpec {
    /// Only frames whose outer tag has this VLAN; none: all that the action can be done to.
    pub of: Option<u16>,
    /// What is done.
    pub action: VlanAction,
}

/// What is done to a frame's outer tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VlanAction {
    /// A tag is put ahead of the others.
    Push(VlanTag),
    /// It is taken off.
    Pop,
    /// It says something else.
    Rewrite {
        /// The VLAN, 1..=4094; none: as it was.
        id: Option<u16>,
        /// The priority, 0..=7; none: as it was.
        priority: Option<u8>,
    },
}

/// A tag to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanTag {
    /// The VLAN, 1..=4094.
    pub id: u16,
    /// The priority, 0..=7.
    pub priority: u8,
    /// The provider's tag (802.1ad), and not the customer's (802.1Q).
    pub provider: bool,
}

/// `[port.NAME]` with a `parent`: a VLAN of another port as a port of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanPort {
    /// Behind those of the ports with a device, in order of the names.
    pub id: PortId,
    /// Name in the configuration.
    pub name: String,
    /// The port whose frames with the tag are this port's; it may be a VLAN itself.
    pub parent: PortId,
    /// Which tag.
    pub tag: VlanTag,
    /// The kernel's device for the VLAN, whose addresses, routes and neighbours are this port's; none: it has none.
    pub netdev: Option<String>,
}
