//! A packet turned, where it lies, into what its sender is told of it: an ICMP error or a TCP reset.
//!
//! Owns the rules of RFC 792, 1122 §3.2.2, 1812 §4.3.2, 4443 §2.4 and 9293 §3.5.2. Refuses what none may be sent for: ICMP
//! errors and ICMP of unknown kinds, resets for resets, later fragments, whatever went to or came from a group or nobody. So
//! **answers to answers do not go on**. Keeps true: an answer is no longer than 576 bytes (IPv4) or 1280 (IPv6), all its
//! checksums are right, and it leaves by the port that the packet came in by, for the station that sent it: no route is asked,
//! which somebody who forges addresses could choose. But what came out of a tunnel is answered from its destination, and the answer goes to
//! the stage that seals for that tunnel, past all others; where there is none, nothing is answered at all. How many leave a second, [`Limits`] says.
//!
//! The quoted packet is as it lies there, so a stage asks for the answer before it changes the packet, and undoes what
//! [others](Arrived) have translated.

mod arrived;
mod draft;
mod limits;
mod told;

pub use arrived::Arrived;
pub use limits::Limits;

use crate::snapshot::PortFacts;
use crate::stage::Cx;
use draft::Draft;
use limits::Class;
use told::Told;
use zsync_packet::burst::Burst;
use zsync_packet::header::{icmp, icmpv6};
use zsync_packet::verdict::{DropReason, HERE, Verdict};

/// What the sender of a packet is told. The numbers are ICMP's type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Its time to live, or hop limit, was used up here: 11/0; ICMPv6 3/0.
    TimeExceeded,
    /// There is no route to its destination: 3/0; ICMPv6 1/0.
    NoRoute,
    /// Its destination cannot be reached: 3/1; ICMPv6 1/3.
    HostUnreachable,
    /// Nobody listens there: 3/3; ICMPv6 1/4.
    PortUnreachable,
    /// Somebody forbade it: 3/13; ICMPv6 1/1.
    Prohibited,
    /// It is longer than what fits further on, and may not be taken apart: 3/4; ICMPv6 2/0.
    TooBig {
        /// The longest IP packet that fits, in bytes; never said to be under 1280 for IPv6 (RFC 8200 §5).
        mtu: u32,
    },
    /// A field of its header is wrong: 12/0; ICMPv6 4/0.
    BadHeader {
        /// Where, in bytes from the IP header's first.
        pointer: u8,
    },
    /// Its connection is refused: a TCP reset. Nothing but TCP gets one.
    Reset,
}

/// Longest IPv6 packet that carries an error: what every link takes (RFC 4443 §2.4(c)).
const LONGEST_V6: usize = 1280;

/// Turns packet `i` into its [answer](zsync_packet::burst::Facts::answered), and says what is to become of it:
/// [`Verdict::Transmit`] by the port that it came in by, [`Verdict::Worker`] back into a tunnel, or [`Verdict::Drop`] for `otherwise` when it may have no answer, or too
/// many were sent lately.
///
/// An ICMP error comes from the address of `from`, the port that the packet came in by; where that has none of its family,
/// from the packet's destination, as an in-line filter answers. A reset always comes from the destination. `from` also bounds
/// an IPv4 error by its MTU.
#[cold]
pub fn reply(
    burst: &mut Burst,
    i: usize,
    answer: Answer,
    from: &PortFacts,
    otherwise: DropReason,
    cx: &mut Cx<'_>,
) -> Verdict {
    let port = burst.port(i);
    let l3 = usize::from(burst.facts(i).l3);
    let Some(told) = Told::of(burst.bytes(i), l3, answer) else { return Verdict::Drop(otherwise) };
    // An answer by the port would show on the wire what came sealed.
    let (back, nobody) = (burst.facts(i).tunnel, burst.bytes(i).get(6..12) == Some(&[0; 6]));
    if nobody && back == 0 {
        return Verdict::Drop(otherwise);
    }
    let now = cx.now;
    let identification = match cx.limits() {
        Some(limits) => match limits.take(now, answer.class(), told.sender()) {
            Some(identification) => identification,
            None => return Verdict::Drop(otherwise),
        },
        None => 0,
    };
    // The other end of a tunnel takes from it what it sends there, and hardly the port's address.
    let own = if back > 0 { &PortFacts { v4: None, v6: None, ..*from } } else { from };
    let Some(draft) = Draft::of(&told, answer, own, identification) else { return Verdict::Drop(otherwise) };
    match draft.put(burst, i, l3) {
        Some(()) if back > 0 => {
            // As what comes out of a tunnel: to us, from no station.
            if let Some(stations) = burst.bytes_mut(i).first_chunk_mut::<12>() {
                stations[..6].copy_from_slice(&from.mac);
                stations[6..].fill(0);
            }
            Verdict::Worker(HERE, back - 1)
        }
        Some(()) => Verdict::Transmit(port),
        None => Verdict::Drop(DropReason::NoHeadroom),
    }
}

impl Answer {
    /// The stations that forward ask to be told sizes, and clients wait for resets: neither may be starved by other errors.
    fn class(self) -> Class {
        match self {
            Self::TooBig { .. } => Class::Size,
            Self::Reset => Class::Reset,
            _ => Class::Error,
        }
    }

    /// Type and code, and the word behind the checksum; `None` for a reset.
    fn icmp(self) -> Option<(u8, u8, [u8; 4])> {
        Some(match self {
            Self::TimeExceeded => (icmp::TIME_EXCEEDED, 0, [0; 4]),
            Self::NoRoute => (icmp::UNREACHABLE, 0, [0; 4]),
            Self::HostUnreachable => (icmp::UNREACHABLE, 1, [0; 4]),
            Self::PortUnreachable => (icmp::UNREACHABLE, 3, [0; 4]),
            Self::Prohibited => (icmp::UNREACHABLE, 13, [0; 4]),
            Self::TooBig { mtu } => {
                let [a, b] = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
                (icmp::UNREACHABLE, 4, [0, 0, a, b])
            }
            Self::BadHeader { pointer } => (icmp::PARAMETER_PROBLEM, 0, [pointer, 0, 0, 0]),
            Self::Reset => return None,
        })
    }

    /// As [`Self::icmp`], for ICMPv6.
    fn icmpv6(self) -> Option<(u8, u8, [u8; 4])> {
        Some(match self {
            Self::TimeExceeded => (icmpv6::TIME_EXCEEDED, 0, [0; 4]),
            Self::NoRoute => (icmpv6::UNREACHABLE, 0, [0; 4]),
            Self::HostUnreachable => (icmpv6::UNREACHABLE, 3, [0; 4]),
            Self::PortUnreachable => (icmpv6::UNREACHABLE, 4, [0; 4]),
            Self::Prohibited => (icmpv6::UNREACHABLE, 1, [0; 4]),
            Self::TooBig { mtu } => (icmpv6::PACKET_TOO_BIG, 0, mtu.max(LONGEST_V6 as u32).to_be_bytes()),
            Self::BadHeader { pointer } => (icmpv6::PARAMETER_PROBLEM, 0, [0, 0, 0, pointer]),
            Self::Reset => return None,
        })
    }
}

#[cfg(test)]
mod tests;
