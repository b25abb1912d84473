//! What becomes of a packet, and why.
//!
//! A stage answers with a [`Verdict`]; the worker carries it out. A [`DropReason`] is the index of a counter and the label
//! of a metric, so its numbers are part of the shared-memory layout: append, never renumber.

/// A port's number: its place among the configured ports in order of their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PortId(pub u16);

/// A pipeline's number: its place in the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PipelineId(pub u16);

/// In the place of a worker's number: the worker that has the packet.
pub const HERE: u8 = u8::MAX;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// On to the next stage.
    #[default]
    Next,
    /// Out of this port.
    Transmit(PortId),
    /// To the first stage of another pipeline.
    Goto(PipelineId),
    /// To the kernel, which answers, resolves or delivers it.
    Punt,
    /// Nowhere; counted by reason.
    Drop(DropReason),
    /// To this worker, which owns the packet's flow: there it goes on behind the stage of this number. [`HERE`] is the worker that has it:
    /// so an answer goes back into the tunnel that its packet came out of.
    Worker(u8, u8),
    /// Nowhere: a stage has taken all that it needs of it.
    Consume,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $label:literal;)+) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl DropReason {
            /// Every reason, in order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The label of this reason in counters and metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

reasons! {
    /// Shorter than an Ethernet header, or a tag without its type.
    EthernetTruncated = 0, "ethernet-truncated";
    /// More VLAN tags than are parsed.
    VlanTooDeep = 1, "vlan-too-deep";
    /// The destination MAC is another station's.
    NotForThisPort = 2, "not-for-this-port";
    /// Neither IPv4 nor IPv6, at a stage that takes nothing else.
    NotIp = 3, "not-ip";
    /// Shorter than the fixed IP header, or than the length that the header claims.
    IpTruncated = 4, "ip-truncated";
    /// The version field contradicts the EtherType (RFC 1812 §5.2.2).
    IpBadVersion = 5, "ip-bad-version";
    /// IPv4 header length below 20 bytes or beyond the packet.
    IpBadHeaderLength = 6, "ip-bad-header-length";
    /// IPv4 total length below the header length.
    IpBadTotalLength = 7, "ip-bad-total-length";
    /// IPv4 header checksum wrong.
    IpBadChecksum = 8, "ip-bad-checksum";
    /// A source that no packet may have: multicast, loopback, class E, unspecified (RFC 1812 §5.3.7, RFC 4291 §2.5).
    MartianSource = 9, "martian-source";
    /// A destination that is never forwarded: loopback, this network, class E, unspecified.
    MartianDestination = 10, "martian-destination";
    /// A broken or too long chain of IPv6 extension headers.
    BadExtensionHeader = 11, "bad-extension-header";
    /// No route to the destination.
    NoRoute = 12, "no-route";
    /// The route says blackhole.
    Blackhole = 13, "blackhole";
    /// The route says unreachable.
    Unreachable = 14, "unreachable";
    /// The route says prohibit.
    Prohibited = 15, "prohibited";
    /// A `drop` stage, as configured.
    Configured = 16, "configured";
    /// The port's TX ring had no room.
    TxRingFull = 17, "tx-ring-full";
    /// The port is not there (it left the configuration, or its queue belongs to nobody).
    NoSuchPort = 18, "no-such-port";
    /// No pipeline takes packets from this port.
    NoPipeline = 19, "no-pipeline";
    /// The ring to the worker that owns the output queue was full.
    HandoverFull = 20, "handover-full";
    /// The kernel took the punted packet too slowly, or there is no punt device.
    PuntFailed = 21, "punt-failed";
    /// The last stage left the packet undecided, or gotos went round in a circle.
    Undecided = 22, "undecided";
    /// Longer than the output port's MTU, and not to be fragmented here.
    TooBig = 23, "too-big";
    /// The worker's share of punts per second is used up.
    PuntLimited = 24, "punt-limited";
    /// It has a VLAN tag, and the port is not a VLAN's.
    VlanTagged = 25, "vlan-tagged";
    /// Time to live, or hop limit, used up.
    TtlExpired = 26, "ttl-expired";
    /// A filter's rule, or its default, says drop.
    Filtered = 27, "filtered";
    /// A filter's rule says reject, and no answer could be sent: its rate is used up, or the packet allows none (RFC 1122 §3.2.2).
    Rejected = 28, "rejected";
    /// No connection that it could belong to: outside the window, a wrong flag, an answer to nothing.
    Invalid = 29, "invalid-state";
    /// No room for another flow, and none that may be evicted.
    FlowTableFull = 30, "flow-table-full";
    /// Its source has as many flows as one may have.
    SourceLimit = 31, "source-limit";
    /// As many half-open connections as there may be.
    SynLimit = 32, "syn-limit";
    /// No external port left for it.
    NatNoPort = 33, "nat-no-port";
    /// To an external address, and no mapping or forward is there for it.
    NatNoMapping = 34, "nat-no-mapping";
    /// A mapping is there, but its filtering does not let this sender in (RFC 4787 §5).
    NatFiltered = 35, "nat-filtered";
    /// A fragment that overlaps another (RFC 5722).
    FragmentOverlap = 36, "fragment-overlap";
    /// A fragment whose first fragment did not come in time.
    FragmentTimeout = 37, "fragment-timeout";
    /// As many datagrams in fragments as there may be.
    FragmentTableFull = 38, "fragment-table-full";
    /// A fragment that cannot be one: too small, beyond 65,535 bytes, of a wrong length.
    FragmentMalformed = 39, "fragment-malformed";
    /// Beyond its rate.
    Policed = 40, "policed";
    /// It would have to wait longer than its shaper may hold it.
    ShapeFull = 41, "shape-full";
    /// No backend is up.
    NoBackend = 42, "no-backend";
    /// No room ahead of the packet for another header.
    NoHeadroom = 43, "no-headroom";
    /// What a tunnel carries is cut or not a packet.
    TunnelMalformed = 44, "tunnel-malformed";
    /// A tunnel packet from a peer, or for a network, that is not configured.
    TunnelUnknown = 45, "tunnel-unknown";
    /// A VLAN that is no port.
    VlanUnknown = 46, "vlan-unknown";
    /// An ICMP error about a packet of no flow that is known.
    IcmpUnrelated = 47, "icmp-unrelated";
    /// No free frame for a copy, an answer or a fragment.
    NoFrame = 48, "no-frame";
    /// Shorter than its transport header.
    TransportTruncated = 49, "transport-truncated";
    /// TCP flags that no connection has.
    TcpInvalid = 50, "tcp-invalid";
    /// An address that a translation between prefixes cannot map (RFC 6296).
    NatPrefix = 51, "nat-prefix";
    /// A kind of packet that a translation cannot carry.
    NatUntranslatable = 52, "nat-untranslatable";
    /// To WireGuard's port, and no message of it, or one that was not made for us.
    WireguardForged = 53, "wireguard-forged";
    /// A WireGuard message of no session that is there.
    WireguardUnknown = 54, "wireguard-unknown";
    /// A WireGuard message that came before, or too late.
    WireguardReplayed = 55, "wireguard-replayed";
    /// A WireGuard message whose session has come to its end.
    WireguardExpired = 56, "wireguard-expired";
    /// What came in a WireGuard session has a source that is not the peer's.
    WireguardSource = 57, "wireguard-source";
    /// No session with the peer, and no room to wait for one; or the handshake was tried for too long.
    WireguardNoSession = 58, "wireguard-no-session";
    /// More handshake messages than are taken under load.
    WireguardOverload = 59, "wireguard-overload";
    /// The device that it was to leave by cannot send it: by a UDP socket, it is no datagram from the socket's port, or the kernel
    /// has no way there.
    DeviceRefused = 60, "device-refused";
}

impl DropReason {
    /// Counters that the shared-memory layout reserves for reasons.
    pub const SLOTS: usize = 64;

    /// The reason with this number.
    pub fn from_number(number: usize) -> Option<Self> {
        Self::ALL.get(number).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places_and_labels_are_unique() {
        for (place, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
            assert_eq!(DropReason::from_number(place), Some(*reason));
        }
        let mut labels: Vec<_> = DropReason::ALL.iter().map(|r| r.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), DropReason::ALL.len());
        assert!(labels.len() <= DropReason::SLOTS);
        assert_eq!(size_of::<Verdict>(), 4);
    }
}
