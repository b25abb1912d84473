//! Which segments are in the window of a TCP connection, and what they tell of it.
//!
//! Guido van Rooij, "Real Stateful TCP Packet Filtering in IP Filter" (SANE 2000), with the bounds that
//! nf_conntrack_proto_tcp.c uses (`tcp_in_window`, Linux 6.1): a segment need only touch the window, so that
//! retransmissions and what crosses the right edge still pass.
//!
//! ```text
//!   I    sequence            ≤ sender.max_end                            it may send as much
//!   II   end                 ≥ sender.end − receiver.max_win             not older than a window
//!   III  acknowledged        ≤ receiver.end                              only what was sent
//!   IV   acknowledged        ≥ receiver.end − max(sender.max_win, 66000) not older than a window
//! ```
//!
//! *Acknowledged* is the right edge of the last SACK block, where there is one. All numbers wrap.

use super::segment::{Kind, Segment};
use super::states::State;
use super::tcp::Connection;
use zsync_packet::header::TcpFlags;

/// The least that is taken for a window when an acknowledgement is judged too old (`MAXACKWINCONST`), in bytes.
const LEAST_ACK_WINDOW: u32 = 66_000;

/// What is known of the numbers that one end sends and takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The highest sequence number that it sent, plus one.
    pub end: u32,
    /// The highest that its peer lets it send, plus one.
    pub max_end: u32,
    /// The largest window that it offered; 0: nothing is known of it yet.
    pub max_win: u32,
    /// The highest acknowledgement that it sent, where [`Side::ACKED`] says so.
    pub max_ack: u32,
    /// The shift of its window.
    pub scale: u8,
    /// The flags below.
    pub flags: u8,
}

impl Side {
    /// It offered to scale its window.
    pub const SCALES: u8 = 1;
    /// It takes selective acknowledgements.
    pub const SELECTIVE: u8 = 2;
    /// It sent the first FIN.
    pub const CLOSED_FIRST: u8 = 4;
    /// What it sends is not held against its window: the connection was picked up without its handshake.
    pub const LIBERAL: u8 = 8;
    /// It sent data that was not acknowledged yet.
    pub const UNACKNOWLEDGED: u8 = 16;
    /// `max_ack` is set.
    pub const ACKED: u8 = 32;

    #[inline]
    pub(super) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Nothing is known of it any more but that it is not to be judged.
    pub(super) fn forget(&mut self) {
        *self = Self { flags: self.flags & Self::LIBERAL, ..Self::default() };
    }

    /// Takes scale and SACK over from the options of a SYN.
    pub(super) fn agree(&mut self, segment: &Segment<'_>) {
        if segment.options.is_empty() {
            return;
        }
        let (scale, selective) = segment.agreement();
        self.scale = scale.unwrap_or(0);
        self.flags = self.flags & Self::LIBERAL
            | if scale.is_some() { Self::SCALES } else { 0 }
            | if selective { Self::SELECTIVE } else { 0 };
    }
}

/// What comes of holding a segment against the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// In the window; what it tells is noted.
    In,
    /// Outside, by so little, or so late, that it passes and changes nothing.
    Ignored,
    /// Outside.
    Out,
}

/// Whether `a` comes before `b`.
#[inline]
pub(super) fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Whether `a` comes after `b`.
#[inline]
pub(super) fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

impl Connection {
    /// Holds a segment of the initiator, or (`reply`) of the responder, against the window, and notes what it tells.
    #[inline]
    pub(super) fn fit(&mut self, reply: bool, kind: Kind, segment: &Segment<'_>, liberal: bool) -> Fit {
        let (sender, receiver) = self.ends(reply);
        let (mut sequence, mut end) = (segment.sequence, segment.end);
        let mut ack = segment.acknowledgement;
        let mut sack = if receiver.is(Side::SELECTIVE) { segment.selective(ack) } else { ack };
        let mut window = u32::from(segment.window);
        let syn = segment.has(TcpFlags::SYN);

        if sender.max_win == 0 {
            if syn {
                sender.begin(receiver, reply, segment);
                if !segment.has(TcpFlags::ACK) {
                    return Fit::In; // both open at once
                }
            } else {
                // In the middle of a connection: this segment is all that is known.
                sender.end = end;
                sender.max_win = (window << sender.scale).max(1);
                sender.max_end = end.wrapping_add(sender.max_win);
                if receiver.max_win == 0 {
                    (receiver.end, receiver.max_end) = (sack, sack);
                } else if sack == receiver.end.wrapping_add(1) {
                    receiver.end = sack; // most likely the answer to a keep-alive
                }
            }
        } else if syn && after(end, sender.end) && matches!(self.state, State::SynSent | State::SynReceived) {
            // A SYN again, with a later number or other options: it begins anew (RFC 9293 §3.4.3).
            let (sender, receiver) = self.ends(reply);
            sender.begin(receiver, reply, segment);
            if reply && !segment.has(TcpFlags::ACK) {
                return Fit::In;
            }
        }

        let state = self.state;
        let (sender, receiver) = self.ends(reply);
        let rst = segment.has(TcpFlags::RST);
        let acks = segment.has(TcpFlags::ACK);
        if !acks || (rst && ack == 0) {
            // Nothing acknowledged, or by one of those who set ACK and nothing else on RST: as if all were.
            (ack, sack) = (receiver.end, receiver.end);
        }
        if rst && sequence == 0 && state == State::SynSent {
            (sequence, end) = (sender.end, sender.end); // it answers a SYN
        }

        let ack_window = sender.max_win.max(LEAST_ACK_WINDOW);
        let fresh_ack = after(sack, receiver.end.wrapping_sub(ack_window).wrapping_sub(1));
        let fresh = after(end, sender.end.wrapping_sub(receiver.max_win).wrapping_sub(1));
        let sent = before(sack, receiver.end.wrapping_add(1));
        let misfit = |fit, sender: &Side| if liberal || sender.is(Side::LIBERAL) { Fit::In } else { fit };
        if !before(sequence, sender.max_end.wrapping_add(1)) {
            let over = end.wrapping_sub(sender.max_end).wrapping_add(1);
            if receiver.max_win != 0 && fresh && fresh_ack && sent && over <= receiver.max_win {
                // More than its peer's window, as some send. Should the peer acknowledge it, that must fit.
                sender.end = end;
                sender.flags |= Side::UNACKNOWLEDGED;
                return misfit(Fit::Ignored, sender);
            }
            return misfit(Fit::Out, sender);
        }
        if !sent {
            return misfit(Fit::Out, sender);
        }
        if (receiver.max_win != 0 && !fresh) || !fresh_ack {
            return misfit(Fit::Ignored, sender);
        }

        if !syn {
            window <<= sender.scale;
        }
        sender.max_win = sender.max_win.max(window.wrapping_add(sack.wrapping_sub(ack)));
        if after(end, sender.end) {
            sender.end = end;
            sender.flags |= Side::UNACKNOWLEDGED;
        }
        if acks && (!sender.is(Side::ACKED) || after(ack, sender.max_ack)) {
            sender.max_ack = ack;
            sender.flags |= Side::ACKED;
        }
        if receiver.max_win != 0 && after(end, sender.max_end) {
            receiver.max_win = receiver.max_win.wrapping_add(end.wrapping_sub(sender.max_end));
        }
        let limit = sack.wrapping_add(window);
        if after(limit, receiver.max_end.wrapping_sub(1)) {
            receiver.max_end = limit.wrapping_add(u32::from(window == 0));
        }
        if ack == receiver.end {
            receiver.flags &= !Side::UNACKNOWLEDGED;
        }
        if kind == Kind::Ack {
            self.last.repeats(reply, sequence, ack, end, segment.window);
        }
        Fit::In
    }
}

impl Side {
    /// Begins with a SYN, or a SYN and ACK.
    fn begin(&mut self, receiver: &mut Self, reply: bool, segment: &Segment<'_>) {
        (self.end, self.max_end) = (segment.end, segment.end);
        self.max_win = u32::from(segment.window).max(1);
        self.agree(segment);
        // Windows are scaled when both ends say so (RFC 7323 §2.2).
        if reply && !(self.is(Self::SCALES) && receiver.is(Self::SCALES)) {
            (self.scale, receiver.scale) = (0, 0);
        }
    }
}
