//! What a stage does, with every name resolved; and what follows from that for its pipeline.
//!
//! Owns nothing. Keeps true: who asks what a stage needs asks here, so that a new kind of stage says all of it in one place.

use super::{Layer, PortId};
use crate::spec::balance::BalanceSpec;
use crate::spec::mirror::MirrorSpec;
use crate::spec::nat::NatSpec;
use crate::spec::police::PoliceSpec;
use crate::spec::reassemble::ReassembleSpec;
use crate::spec::shape::ShapeSpec;
use crate::spec::tunnel::{DecapSpec, EncapSpec};
use crate::spec::vlan::VlanSpec;
use crate::spec::wireguard::WireguardSpec;
use crate::tables::meter::subject::Per;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What a stage does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StageSpec {
    /// Sends each packet out of the port that belongs to its input.
    Patch {
        /// Output by input's [`PortId`]; as long as there are ports.
        map: Vec<Option<PortId>>,
    },
    /// Forwards by the kernel's routes.
    Route {
        /// Number of the kernel's routing table.
        table: u32,
        /// Marks whose packets go by another table, and its number; in order of the marks, each once.
        by_mark: Vec<(u32, u32)>,
    },
    /// Decides by rules which packets go on.
    Filter(crate::spec::filter::FilterSpec),
    /// Spreads flows to virtual addresses over backends.
    Balance(Box<BalanceSpec>),
    /// Translates addresses and ports.
    Nat(NatSpec),
    /// Says which connection each packet belongs to.
    Track(crate::spec::track::TrackSpec),
    /// Drops every packet.
    Drop,
    /// Gives every packet to the kernel.
    Punt,
    /// Lets source and destination MAC address change places.
    MacSwap,
    /// Drops or marks what is beyond a rate.
    Police(PoliceSpec),
    /// Lets what is beyond a rate wait.
    Shape(ShapeSpec),
    /// Lets fragments be treated as their first one is.
    Reassemble(ReassembleSpec),
    /// Puts packets into a tunnel.
    Encap(EncapSpec),
    /// Takes packets out of a tunnel.
    Decap(DecapSpec),
    /// Puts VLAN tags on, takes them off or changes them.
    Vlan(VlanSpec),
    /// Copies packets to a port or into a file.
    Mirror(MirrorSpec),
    /// Opens what peers of WireGuard have sealed.
    WireguardOpen(WireguardSpec),
    /// Seals for peers of WireGuard.
    WireguardSeal(WireguardSpec),
}

impl StageSpec {
    /// The pipelines, by place, that it may send packets to.
    pub fn gotos(&self) -> Vec<usize> {
        match self {
            Self::Filter(filter) => filter.gotos(),
            _ => Vec::new(),
        }
    }

    /// The kernel's routing tables that it looks up in; some perhaps twice.
    pub fn routing_tables(&self) -> Vec<u32> {
        match self {
            Self::Route { table, by_mark } => {
                by_mark.iter().map(|(_, table)| *table).chain([*table]).collect()
            }
            Self::Nat(nat) => vec![nat.table],
            Self::Balance(balance) => vec![balance.route_table],
            _ => Vec::new(),
        }
    }

    /// Whether it looks at the transport, so that packets must be parsed as far as that.
    #[must_use]
    pub fn is_deep(&self) -> bool {
        match self {
            Self::Patch { .. }
            | Self::Route { .. }
            | Self::Drop
            | Self::Punt
            | Self::MacSwap
            | Self::Encap(_)
            | Self::Vlan(_)
            | Self::Mirror(_)
            | Self::WireguardSeal(_) => false,
            Self::Police(PoliceSpec { per, .. }) | Self::Shape(ShapeSpec { per, .. }) => *per != Per::All,
            _ => true,
        }
    }

    /// What it works on; nothing for one that takes whatever comes.
    #[must_use]
    pub fn layer(&self) -> Option<Layer> {
        match self {
            Self::Patch { .. } => Some(Layer::L2),
            Self::Encap(encap) if encap.tunnel.carrier.carries_frames() => Some(Layer::L2),
            Self::Vlan(_) | Self::Mirror(_) => None,
            _ => Some(Layer::L3),
        }
    }

    /// Whether it asks for the state of a packet's connection, so that `track` must stand ahead.
    #[must_use]
    pub fn wants_states(&self) -> bool {
        match self {
            Self::Nat(nat) => nat.needs_flows(),
            Self::Filter(filter) => filter.rules.iter().any(|rule| rule.state != 0),
            Self::Balance(balance) => balance.forward == crate::spec::balance::Forward::Nat,
            _ => false,
        }
    }

    /// Whether it keeps something of flows, so that both directions of one must come to the same worker.
    #[must_use]
    pub fn keeps_flows(&self) -> bool {
        self.is_track() || self.wants_states() || matches!(self, Self::Balance(_))
    }

    /// Whether it counts packets, so that each must come to it once: a packet that goes to its flow's owner runs through the
    /// pipeline again.
    #[must_use]
    pub fn counts(&self) -> bool {
        matches!(self, Self::Police(_) | Self::Shape(_))
    }

    /// Whether fragments must have the ports of their first one.
    #[must_use]
    pub fn wants_whole_packets(&self) -> bool {
        self.is_deep() && !matches!(self, Self::Reassemble(_) | Self::Decap(_) | Self::WireguardOpen(_))
    }

    /// What its memory is known by, and its table: its own label, but for stages that share both.
    #[must_use]
    pub fn state_label<'l>(&self, own_label: &'l str) -> Cow<'l, str> {
        match self {
            Self::WireguardOpen(spec) | Self::WireguardSeal(spec) => spec.label().into(),
            _ => own_label.into(),
        }
    }

    /// Whether it tracks connections.
    #[must_use]
    pub fn is_track(&self) -> bool {
        matches!(self, Self::Track(_))
    }
}
