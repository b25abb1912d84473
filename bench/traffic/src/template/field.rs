//! Fields: what can vary from flow to flow, where it lies, and which checksums it counts for.

use zsync_packet::checksum::Delta;

/// A field that can vary from flow to flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    missing_docs,
    reason = "they are called as the headers' fields are; Outer is the tunnel's IP header"
)]
pub enum Field {
    SourceMac,
    DestinationMac,
    /// The outer of two tags, or the only one.
    Vlan,
    /// The second tag.
    InnerVlan,
    Source,
    Destination,
    Ttl,
    Dscp,
    /// IPv6 alone has it.
    FlowLabel,
    SourcePort,
    DestinationPort,
    /// The identifier of an echo request.
    EchoId,
    OuterSource,
    OuterDestination,
    OuterTtl,
    OuterDscp,
    /// Of VXLAN.
    OuterSourcePort,
    Vni,
    GreKey,
}

/// Where a field lies: some bits of a window of 2, 4, 6 or 16 bytes, at an even offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The window's first byte, from the start of the packet.
    pub offset: usize,
    /// The window's bytes.
    pub width: usize,
    /// Bits of the window behind the field.
    pub shift: u32,
    /// Bits of the field.
    pub bits: u32,
    /// Which checksums cover it.
    pub covers: Covers,
}

/// Which checksums a field counts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Covers {
    /// The tunnel's IPv4 header checksum.
    pub outer: bool,
    /// The (inner) IPv4 header checksum.
    pub ip: bool,
    /// The checksum of UDP, TCP or ICMP.
    pub transport: bool,
}

/// Changes under way, for the three checksums that a packet can have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checks {
    pub(super) outer: Delta,
    pub(super) ip: Delta,
    pub(super) transport: Delta,
}

impl Checks {
    /// Counts a change of bytes that `covers` says about.
    #[inline]
    pub fn count(&mut self, covers: Covers, delta: Delta) {
        if covers.outer {
            self.outer = self.outer + delta;
        }
        if covers.ip {
            self.ip = self.ip + delta;
        }
        if covers.transport {
            self.transport = self.transport + delta;
        }
    }

    /// Counts a change of the payload.
    #[inline]
    pub fn payload(&mut self, delta: Delta) {
        self.transport = self.transport + delta;
    }
}
