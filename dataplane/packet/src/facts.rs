//! What the stages found out about a packet, beside its bytes.
//!
//! Owns nothing: plain values, one for each packet of a burst. Whoever moves a packet's front or changes its headers
//! corrects them. Keeps true: all zeros is what is known of a packet that nobody has looked at.

/// See the module. Offsets count from the packet's first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Where the IP header starts; 0 when the packet was not parsed, or is not IP.
    pub l3: u16,
    /// Where the transport header starts; 0 when there is none (a later fragment), or nobody has looked for it.
    pub l4: u16,
    /// Tag control information (IEEE 802.1Q §9.6: priority, drop eligibility, VLAN) of the VLAN that it came in by; 0
    /// when it had no tag.
    pub vlan: u16,
    /// 4, 6, or 0 for what is not IP.
    pub version: u8,
    /// IP protocol number of the header at `l4`, or of what the fragments make together.
    pub protocol: u8,
    /// Whether it is a part of a packet.
    pub fragment: Fragment,
    /// What connection tracking says of it.
    pub state: FlowState,
    /// It goes against the direction of its flow's first packet.
    pub reply: bool,
    /// It is now the answer to what it was, which goes no further; flow and key are still those of what it was.
    pub answered: bool,
    /// It came out of a tunnel: the number of the stage, plus one, behind which an answer to it goes on, into that tunnel; 0 when that
    /// leaves by the port that it came in by.
    pub tunnel: u8,
    /// Hash of the flow, the same for all its packets.
    pub hash: u32,
    /// The operator's mark: filters set it, later stages match it.
    pub mark: u32,
    /// Number of its flow in the tracking table of this worker, plus one; 0 when it has none.
    pub flow: u32,
    /// Nanoseconds that the worker is to keep it before it leaves.
    pub delay: u32,
}

const _: () = assert!(size_of::<Facts>() == 32, "cleared for every packet");

/// Whether a packet is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Fragment {
    /// It is.
    #[default]
    Whole,
    /// The part with the transport header.
    First,
    /// Any other part.
    Later,
}

/// What connection tracking says of a packet, as nf_conntrack does (include/uapi/linux/netfilter/nf_conntrack_common.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowState {
    /// Nothing: no tracking stage has seen it, or it is of a kind that is not tracked.
    #[default]
    Untracked,
    /// The first of its flow, or none was answered yet.
    New,
    /// Of a flow that was answered, or the answer itself.
    Established,
    /// Of no flow itself, but about one: an ICMP error.
    Related,
    /// It belongs to no flow that could be.
    Invalid,
}
