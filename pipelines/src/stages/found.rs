//! Found: what a look at the headers of an IP packet says, for all stages behind.
//!
//! Owns the facts that `parse` and `inspect` have in common: where headers begin, what is a fragment, whose flow it is, and the
//! reasons for which headers are refused. Refuses extension headers that cannot be walked. Keeps true: both stages say the same
//! of the same packet.

use zsync_packet::burst::{Burst, Fragment};
use zsync_packet::flow::FlowKey;
use zsync_packet::header::{HeaderError, Ipv4, Ipv6, ipv6};
use zsync_packet::verdict::DropReason;

/// What is known of a valid packet.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) l3: u16,
    pub(super) l4: u16,
    pub(super) version: u8,
    pub(super) protocol: u8,
    pub(super) fragment: Fragment,
    /// None if nobody asked for it.
    pub(super) key: FlowKey,
}

impl Found {
    /// Of a packet whose header begins at `l3`; the key, if `KEYED`.
    #[inline]
    pub(super) fn of_v4<const KEYED: bool>(ip: &Ipv4<'_>, l3: usize) -> Self {
        let key = if KEYED { FlowKey::of_ipv4(ip) } else { FlowKey::NONE };
        let fragment = part(ip.begins_transport(), ip.is_fragment());
        let l4 = if fragment == Fragment::Later { 0 } else { l3 + ip.header_len() };
        Self { l3: l3 as u16, l4: l4 as u16, version: 4, protocol: ip.protocol(), fragment, key }
    }

    /// The same for IPv6, its extension headers walked.
    ///
    /// # Errors
    /// They cannot be.
    #[inline]
    pub(super) fn of_v6(ip: &Ipv6<'_>, l3: usize) -> Result<Self, DropReason> {
        let upper = ip.upper().map_err(|_| DropReason::BadExtensionHeader)?;
        let key = FlowKey::of_ipv6_upper(ip, &upper);
        let fragment = part(upper.begins_transport(), upper.is_fragment());
        // What is behind the headers reaches to the packet's end.
        let behind = ip.payload().len().saturating_sub(upper.payload().len());
        let l4 = if fragment == Fragment::Later { 0 } else { l3 + ipv6::HEADER_LEN + behind };
        Ok(Self { l3: l3 as u16, l4: l4 as u16, version: 6, protocol: key.protocol(), fragment, key })
    }

    /// Lets later stages know it of packet `i`, with the key if it is `KEYED`. Its other facts stay: its tag, its mark.
    #[inline(always)]
    pub(super) fn tell<const KEYED: bool>(self, burst: &mut Burst, i: usize) {
        if KEYED {
            burst.set_key(i, self.key);
        }
        let facts = burst.facts_mut(i);
        (facts.l3, facts.l4) = (self.l3, self.l4);
        (facts.version, facts.protocol, facts.fragment) = (self.version, self.protocol, self.fragment);
    }

    /// For people.
    pub(super) fn in_words(&self, kind: &str) -> String {
        let part = match self.fragment {
            Fragment::Whole => "",
            Fragment::First => ", the first fragment of its datagram",
            Fragment::Later => ", a later fragment of its datagram, without ports",
        };
        format!("a {kind} IPv{} packet, from byte {} on{part}", self.version, self.l3)
    }
}

#[inline]
fn part(begins_transport: bool, is_fragment: bool) -> Fragment {
    match (begins_transport, is_fragment) {
        (true, false) => Fragment::Whole,
        (true, true) => Fragment::First,
        (false, _) => Fragment::Later,
    }
}

/// The reason to drop a frame whose Ethernet header is wrong.
pub(super) fn bad_ethernet(error: HeaderError) -> DropReason {
    match error {
        HeaderError::TooManyTags => DropReason::VlanTooDeep,
        _ => DropReason::EthernetTruncated,
    }
}

/// The reason to drop a packet whose IP header is wrong.
pub(super) fn bad_ip(error: HeaderError) -> DropReason {
    match error {
        HeaderError::BadVersion => DropReason::IpBadVersion,
        HeaderError::BadHeaderLength => DropReason::IpBadHeaderLength,
        HeaderError::BadTotalLength => DropReason::IpBadTotalLength,
        _ => DropReason::IpTruncated,
    }
}
