//! The common case: an ACK, in the window, of a connection that is open both ways.
//!
//! Does to the packed words what [`Connection::segment`](super::tcp::Connection::segment) does to the value, without unpacking
//! them; that both agree is tested, not argued. Refuses everything else, and then has changed nothing.

use super::segment::Segment;
use super::states::State;
use super::tcp::{Packed, TcpRules};
use super::window::{LEAST_ACK_WINDOW, Side, after, before};
use zsync_packet::header::TcpFlags;

/// Where the bits of a segment's sender lie in [`Packed::bits`], by whether it is the responder.
const SIDES: [u32; 2] = [8, 18];
const KIND_ACK: u64 = 3 << 4;
const REPLY: u64 = 1 << 7;
const PRINT: u32 = 32;
const RETRANSMITS: u32 = 52;
const OPEN: u64 = 1 << 54;
/// What is known of the segment before, but for its end: kind, direction, print, retransmissions, and whether it was open.
const LAST: u64 = 7 << 4 | REPLY | 0xffff << PRINT | 3 << RETRANSMITS | OPEN;

/// Takes such a segment of the initiator, or (`reply`) of the responder, in. How long the connection lives from now on, in
/// nanoseconds; `None` if it is none such.
#[inline]
pub(super) fn quick(
    packed: &mut Packed,
    reply: bool,
    segment: &Segment<'_>,
    rules: &TcpRules,
) -> Option<u64> {
    let bits = packed.bits;
    let telling = TcpFlags::FIN.0 | TcpFlags::SYN.0 | TcpFlags::RST.0 | TcpFlags::ACK.0;
    let common = bits & 15 == State::Established as u64
        && segment.flags.0 & telling == TcpFlags::ACK.0
        && rules.windows
        && segment.tells_no_blocks();
    if !common {
        return None;
    }
    let side = usize::from(reply);
    let (at, other) = (SIDES[side], SIDES[1 - side]);
    let [a0, a1, b0, b1] = packed.sides;
    let (sender, receiver) = if reply { ((b0, b1), (a0, a1)) } else { ((a0, a1), (b0, b1)) };
    let (mut end, max_end) = (sender.0 as u32, (sender.0 >> 32) as u32);
    let (mut max_win, mut max_ack) = (sender.1 as u32, (sender.1 >> 32) as u32);
    let (peer_end, mut peer_max_end) = (receiver.0 as u32, (receiver.0 >> 32) as u32);
    let mut peer_max_win = receiver.1 as u32;

    let (sequence, ack) = (segment.sequence, segment.acknowledgement);
    let ack_window = max_win.max(LEAST_ACK_WINDOW);
    let fits = (max_win != 0)
        & (peer_max_win != 0)
        & (bits >> at & u64::from(Side::ACKED) != 0)
        & before(sequence, max_end.wrapping_add(1))
        & after(segment.end, end.wrapping_sub(peer_max_win).wrapping_sub(1))
        & before(ack, peer_end.wrapping_add(1))
        & after(ack, peer_end.wrapping_sub(ack_window).wrapping_sub(1));
    if !fits {
        return None;
    }

    let mut new = bits & !LAST | KIND_ACK | if reply { REPLY } else { 0 };
    let unacknowledged = u64::from(Side::UNACKNOWLEDGED);
    let window = u32::from(segment.window) << (bits >> (at + 6) & 15);
    max_win = max_win.max(window);
    if after(segment.end, end) {
        end = segment.end;
        new |= unacknowledged << at;
    }
    if after(ack, max_ack) {
        max_ack = ack;
    }
    if after(segment.end, max_end) {
        peer_max_win = peer_max_win.wrapping_add(segment.end.wrapping_sub(max_end));
    }
    let limit = ack.wrapping_add(window);
    if after(limit, peer_max_end.wrapping_sub(1)) {
        peer_max_end = limit.wrapping_add(u32::from(window == 0));
    }
    if ack == peer_end {
        new &= !(unacknowledged << other);
    }
    let print = segment.print();
    let again =
        (bits & REPLY != 0) == reply && (bits >> PRINT) as u16 == print && packed.last_end == segment.end;
    let retransmits = if again { ((bits >> RETRANSMITS & 3) + 1).min(3) } else { 0 };
    let open = segment.window != 0;
    new |= u64::from(print) << PRINT | retransmits << RETRANSMITS | if open { OPEN } else { 0 };

    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let sender = (pair(end, max_end), pair(max_win, max_ack));
    let receiver = (pair(peer_end, peer_max_end), receiver.1 >> 32 << 32 | u64::from(peer_max_win));
    let ((a0, a1), (b0, b1)) = if reply { (receiver, sender) } else { (sender, receiver) };
    *packed = Packed { bits: new, last_end: segment.end, sides: [a0, a1, b0, b1] };

    let timeouts = &rules.timeouts;
    let pending = new & (unacknowledged << SIDES[0] | unacknowledged << SIDES[1]) != 0;
    let mut life = timeouts.established;
    if retransmits >= u64::from(rules.max_retransmits) && life > timeouts.retransmission {
        return Some(timeouts.retransmission);
    }
    if pending {
        life = life.min(timeouts.unacknowledged);
    } else if !open {
        life = life.min(timeouts.retransmission);
    }
    Some(life)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::track::tcp::{Connection, Outcome, Seen};
    use crate::stages::track::timeouts::TcpTimeouts;
    use proptest::prelude::*;
    use zsync_packet::checksum::Sum;
    use zsync_packet::header::build::TcpSpec;

    proptest! {
        /// Around some number, everything near enough to matter: wherever the quick way takes a segment, the long way does,
        /// with the same outcome and the same words.
        #[test]
        fn the_quick_way_leads_where_the_long_way_does(
            base in any::<u32>(),
            near in prop::collection::vec(0u32..3000, 8),
            (bits, state) in (0u64..1 << Packed::BITS, 0u64..12),
            (reply, flags, window, payload) in (any::<bool>(), any::<u8>(), any::<u16>(), 0usize..600),
            (options, again, zero) in (0usize..4, any::<bool>(), 0u8..8),
        ) {
            let at = |n: usize| base.wrapping_add(near[n]).wrapping_sub(1500);
            let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
            let state = if state > 9 { 3 } else { state };
            let win = |n: usize, bit: u8| if zero == bit { 0 } else { near[n] };
            let mut packed = Packed {
                bits: bits & !15 | state,
                last_end: at(0),
                sides: [pair(at(1), at(2)), pair(win(3, 1), at(4)), pair(at(4), at(5)), pair(win(6, 2), at(1))],
            };
            packed = Connection::unpack(&packed).pack();
            let options = [&[][..], &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2], &[1, 1, 4, 2], &[1, 1, 5, 10, 0, 0, 0, 0, 0, 0, 0, 0]][options];
            let flags = TcpFlags(if flags < 200 { 0x10 } else { flags });
            let spec = TcpSpec {
                sequence: at(7),
                acknowledgement: at(0),
                window: if window < 2000 { 0 } else { window },
                options: options.to_vec(),
                ..TcpSpec::new(1, 2, flags)
            };
            let bytes = spec.segment(Sum::default(), &vec![0; payload]);
            let Ok(segment) = Segment::parse(&bytes) else { return Ok(()) };
            if again {
                // The segment before was the same.
                packed.last_end = segment.end;
                packed.bits = packed.bits & !(0xffff << PRINT | REPLY)
                    | u64::from(segment.print()) << PRINT | if reply { REPLY } else { 0 };
            }
            for liberal in [false, true] {
                let rules = TcpRules { loose: true, liberal, windows: true, max_retransmits: 3, timeouts: TcpTimeouts::default() };
                let mut quickly = packed;
                let life = quick(&mut quickly, reply, &segment, &rules);
                let mut connection = Connection::unpack(&packed);
                let mut seen = Seen { reply: true, assured: true };
                let outcome = connection.segment(reply, &segment, &rules, &mut seen, u64::MAX);
                match life {
                    Some(life) => prop_assert_eq!((outcome, connection.pack()), (Outcome::Accept(life), quickly)),
                    None => prop_assert_eq!(quickly, packed),
                }
            }
        }
    }

    #[test]
    fn data_and_acks_of_an_open_connection_go_the_quick_way() {
        let rules = TcpRules {
            loose: true,
            liberal: false,
            windows: true,
            max_retransmits: 3,
            timeouts: TcpTimeouts::default(),
        };
        let segment = |flags, sequence, acknowledgement| {
            let spec = TcpSpec { sequence, acknowledgement, ..TcpSpec::new(1, 2, TcpFlags(flags)) };
            spec.segment(Sum::default(), b"data")
        };
        let syn = segment(2, 100, 0);
        let syn = Segment::parse(&syn[..20]).unwrap();
        let mut connection = Connection::open(&syn, &rules).unwrap();
        let mut seen = Seen::default();
        connection.segment(false, &syn, &rules, &mut seen, 0);
        let synack = segment(0x12, 500, 101);
        connection.segment(true, &Segment::parse(&synack[..20]).unwrap(), &rules, &mut seen, 0);
        seen.reply = true;
        let ack = segment(0x10, 101, 501);
        connection.segment(false, &Segment::parse(&ack[..20]).unwrap(), &rules, &mut seen, 0);
        let mut packed = connection.pack();
        for n in 0..100 {
            let (there, back) =
                (segment(0x18, 101 + n * 4, 501 + n * 4), segment(0x10, 501 + n * 4, 105 + n * 4));
            assert!(quick(&mut packed, false, &Segment::parse(&there).unwrap(), &rules).is_some());
            assert!(quick(&mut packed, true, &Segment::parse(&back).unwrap(), &rules).is_some());
        }
    }
}
