//! What the rules see of a packet, as words.
//!
//! Owns: where each field lies in the words of a key. A key is eight words whatever the family, so that those of a burst lie
//! in one array; an IPv4 key leaves the last three unused.

use std::net::IpAddr;

use zsync_packet::burst::BURST;

/// A packet's words: [`META`], [`PORTS`], [`MARK`], [`SETS`], then its addresses.
pub type Key = [u64; 8];

/// Protocol (bits 0–7), TCP flags (8–15), DSCP (16–21), state (22–26, one bit each), fragment (27–29, one bit each), whether
/// its ports are known (30), VLAN (31–42) and whether there is one (43), input port (44–59), whether ICMP type and code are
/// known (60).
pub const META: usize = 0;
/// Source port in the low half, destination port in the high half; of ICMP type and code in the place of the latter.
pub const PORTS: usize = 1;
/// The mark, 32 bits.
pub const MARK: usize = 2;
/// Which sets the addresses are in: a bit for each set and direction that rules ask for.
pub const SETS: usize = 3;
/// IPv4: source in the high half, destination in the low. IPv6: two words each, source first.
pub const ADDRESS: usize = 4;

/// Fields of [`META`]: first bit and bits.
pub(crate) const PROTOCOL: (u32, u32) = (0, 8);
pub(crate) const FLAGS: (u32, u32) = (8, 8);
pub(crate) const DSCP: (u32, u32) = (16, 6);
pub(crate) const STATE: (u32, u32) = (22, 5);
pub(crate) const FRAGMENT: (u32, u32) = (27, 3);
pub(crate) const TRANSPORT: u32 = 30;
pub(crate) const VLAN: (u32, u32) = (31, 13);
pub(crate) const TAGGED: u16 = 1 << 12;
pub(crate) const INPUT: (u32, u32) = (44, 16);
pub(crate) const TYPED: u32 = 60;

/// What is known of a packet's connection; numbers as in `FlowState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// No stage tracks it.
    #[default]
    Untracked = 0,
    /// The first of its connection.
    New = 1,
    /// Of a connection that is there.
    Established = 2,
    /// About one that is there, or expected by it.
    Related = 3,
    /// Of none that could be.
    Invalid = 4,
}

/// A set of [`State`]s, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct States(pub u8);

impl States {
    /// All of them.
    pub const ALL: Self = Self(0b1_1111);

    /// This one alone.
    pub const fn one(state: State) -> Self {
        Self(1 << state as u8)
    }

    /// These and those.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `state` is one of them.
    pub const fn contains(self, state: State) -> bool {
        self.0 & (1 << state as u8) != 0
    }
}

/// What the rules see of a packet, by name. [`Subject::key`] has it as words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Who sends; of the same family as `destination`.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// IP protocol number of the upper protocol.
    pub protocol: u8,
    /// Source and destination port, when the protocol has them and they are known.
    pub ports: Option<(u16, u16)>,
    /// ICMP type and code, when it is ICMP of the packet's family and they are known.
    pub icmp: Option<(u8, u8)>,
    /// TCP's control bits; 0 for other protocols.
    pub tcp_flags: u8,
    /// The upper six bits of the type of service, or traffic class.
    pub dscp: u8,
    /// The outermost VLAN's number.
    pub vlan: Option<u16>,
    /// As earlier rules set it.
    pub mark: u32,
    /// 0 for a whole packet, 1 for a first fragment, 2 for a later one.
    pub fragment: u8,
    /// What is known of its connection.
    pub state: State,
    /// Number of the port where it came in.
    pub input: u16,
}

impl Subject {
    /// The words, but for [`SETS`], which the classifier fills in.
    pub fn key(&self) -> Key {
        let mut key = Key::default();
        let vlan = self.vlan.map_or(0, |id| (id & 0xfff) | TAGGED);
        key[META] = u64::from(self.protocol) << PROTOCOL.0
            | u64::from(self.tcp_flags) << FLAGS.0
            | u64::from(self.dscp & 0x3f) << DSCP.0
            | 1 << (STATE.0 + self.state as u32)
            | 1 << (FRAGMENT.0 + u32::from(self.fragment.min(2)))
            | u64::from(self.ports.is_some()) << TRANSPORT
            | u64::from(self.ports.is_none() && self.icmp.is_some()) << TYPED
            | u64::from(vlan) << VLAN.0
            | u64::from(self.input) << INPUT.0;
        key[PORTS] = match (self.ports, self.icmp) {
            (Some((source, destination)), _) => u64::from(source) | u64::from(destination) << 32,
            (None, Some((kind, code))) => u64::from(u16::from_be_bytes([kind, code])) << 32,
            (None, None) => 0,
        };
        key[MARK] = u64::from(self.mark);
        let words = |address: IpAddr| match address {
            IpAddr::V4(v4) => (0, u64::from(v4.to_bits())),
            IpAddr::V6(v6) => ((v6.to_bits() >> 64) as u64, v6.to_bits() as u64),
        };
        let (source, destination) = (words(self.source), words(self.destination));
        match self.source {
            IpAddr::V4(_) => key[ADDRESS] = source.1 << 32 | destination.1,
            IpAddr::V6(_) => {
                [key[4], key[5], key[6], key[7]] = [source.0, source.1, destination.0, destination.1];
            }
        }
        key
    }
}

/// The keys of a burst, by the packets' numbers.
#[derive(Clone, Debug)]
pub struct Keys(pub [Key; BURST]);

impl Default for Keys {
    fn default() -> Self {
        Self([Key::default(); BURST])
    }
}
