//! A rule: what a packet must be to meet it.
//!
//! Everything that is left at its default is not asked for. Lists are alternatives: any of their entries will do.

use super::key::States;
use crate::spec::Prefix;

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The lowest.
    pub first: u16,
    /// The highest, not below `first`.
    pub last: u16,
}

/// A value of which only the bits in `mask` count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Masked<T> {
    /// What they must be.
    pub value: T,
    /// Those that count.
    pub mask: T,
}

/// Addresses that a rule asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// Any.
    #[default]
    Any,
    /// In one of these. A rule whose prefixes are all of one family is not for packets of the other.
    In(Vec<Prefix>),
    /// In the set of this number.
    Set(usize),
}

/// The outermost VLAN tag that a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vlan {
    /// None.
    Untagged,
    /// One, whatever its number.
    Tagged,
    /// The one with this number, 0..=4095.
    Id(u16),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For packets of IPv4.
    pub v4: bool,
    /// For packets of IPv6.
    pub v6: bool,
    /// The source address.
    pub from: Addresses,
    /// The destination address.
    pub to: Addresses,
    /// The source port. A packet whose ports are not known does not meet a rule that asks for them.
    pub from_ports: Vec<Ports>,
    /// The destination port.
    pub to_ports: Vec<Ports>,
    /// IP protocol numbers.
    pub protocols: Vec<u8>,
    /// ICMP type, and code. A packet where they are not known does not meet a rule that asks for them.
    pub icmp: Option<(u8, Option<u8>)>,
    /// TCP's control bits.
    pub tcp_flags: Masked<u8>,
    /// DSCPs, 0..=63.
    pub dscp: Vec<u8>,
    /// The VLAN.
    pub vlan: Vec<Vlan>,
    /// The mark, as it is when the rule is reached.
    pub mark: Masked<u32>,
    /// Whole packets, first fragments, later fragments: a bit each, from the lowest.
    pub fragments: u8,
    /// States of the connection.
    pub states: States,
    /// Numbers of the ports where the packet may come in.
    pub inputs: Vec<u16>,
    /// Whether no later rule is looked at once this one is met.
    pub ends: bool,
}

impl Default for Rule {
    /// What every packet meets.
    fn default() -> Self {
        Self {
            v4: true,
            v6: true,
            from: Addresses::Any,
            to: Addresses::Any,
            from_ports: Vec::new(),
            to_ports: Vec::new(),
            protocols: Vec::new(),
            icmp: None,
            tcp_flags: Masked::default(),
            dscp: Vec::new(),
            vlan: Vec::new(),
            mark: Masked::default(),
            fragments: 0b111,
            states: States::ALL,
            inputs: Vec::new(),
            ends: true,
        }
    }
}
