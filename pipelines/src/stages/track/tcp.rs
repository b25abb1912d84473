//! A TCP connection, as tracking follows it: a segment in, what becomes of the connection out.
//!
//! What nf_conntrack_proto_tcp.c does (`nf_conntrack_tcp_packet`, Linux 6.1), step by step, so that a policy that was written
//! for the kernel means the same here. Owns the value [`Connection`] and its packing into the words of a flow's record.
//! Not as the kernel: checksums of segments are not verified (that is the ends' own business, and the NIC's), and that a
//! segment repeats the one before it is seen by 16 bits of a hash, not by all its fields.

use super::segment::{Kind, Segment};
use super::states::{State, Step, step};
use super::timeouts::TcpTimeouts;
use super::window::{Fit, Side, before};

/// How strictly TCP is tracked. The kernel's `nf_conntrack_tcp_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpRules {
    /// A connection is picked up in its midst, when its handshake was not seen.
    pub loose: bool,
    /// Segments outside the window pass, too.
    pub liberal: bool,
    /// Segments are held against the window at all.
    pub windows: bool,
    /// How often the same segment may come again before the timeout is cut to that of retransmissions.
    pub max_retransmits: u8,
    /// How long connections live without a segment.
    pub timeouts: TcpTimeouts,
}

/// What tracking has noted of a flow of any protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The responder answered.
    pub reply: bool,
    /// Both ends mean it: not to be evicted lightly.
    pub assured: bool,
}

/// What comes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It belongs to the connection, which lives this long from now on (nanoseconds).
    Accept(u64),
    /// It belongs to the connection, whose time runs on as it did.
    Keep,
    /// It belongs to the connection, and ends it.
    End,
    /// It opens a new connection between the same ends: this one is over.
    Reopen,
    /// It belongs to no connection that could be here.
    Invalid,
    /// As `Invalid`, and the connection's time is cut to this (nanoseconds).
    InvalidCut(u64),
}

/// What is remembered of the segment before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Its kind.
    pub kind: Kind,
    /// Whether the responder sent it.
    pub reply: bool,
    /// The number behind its last byte; of an ACK, or of a segment that was let pass only.
    pub end: u32,
    /// Its window, or 16 bits that tell whether the next ACK is the same again.
    pub print: u16,
    /// Its window was not 0.
    pub open: bool,
    /// The window's shift that it asked for; of a SYN that was let pass only.
    pub scale: u8,
    /// The flags below.
    pub flags: u8,
    /// How often the same ACK came again; 3 at most.
    pub retransmits: u8,
}

impl Default for Last {
    fn default() -> Self {
        let kind = Kind::None;
        Self { kind, reply: false, end: 0, print: 0, open: false, scale: 0, flags: 0, retransmits: 0 }
    }
}

impl Last {
    /// The SYN that was let pass offers to scale; as [`Side::SCALES`].
    const SCALES: u8 = Side::SCALES;
    /// It takes selective acknowledgements; as [`Side::SELECTIVE`].
    const SELECTIVE: u8 = Side::SELECTIVE;
    /// The answer to it may be a challenge (RFC 5961 §4), which acknowledges no FIN.
    const CHALLENGE: u8 = 4;
    /// Both ends open at once.
    const BOTH_OPEN: u8 = 8;

    /// Notes an ACK, and whether it is the one before again.
    #[inline]
    pub(super) fn repeats(&mut self, reply: bool, sequence: u32, ack: u32, end: u32, window: u16) {
        let mixed = sequence.wrapping_mul(0x9e37_79b1)
            ^ ack.wrapping_mul(0x85eb_ca6b)
            ^ u32::from(window).wrapping_mul(0xc2b2_ae35);
        let print = (mixed >> 16) as u16;
        if self.reply == reply && self.print == print && self.end == end {
            self.retransmits = (self.retransmits + 1).min(3);
        } else {
            (self.reply, self.print, self.end) = (reply, print, end);
            self.retransmits = 0;
        }
        self.open = window != 0;
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Where it is.
    pub state: State,
    /// What is known of the initiator, and of the responder.
    pub sides: [Side; 2],
    /// The segment before.
    pub last: Last,
}

impl Connection {
    /// The connection that the first segment begins, for [`Self::segment`] to be told of it; `None` where it begins none.
    pub fn open(segment: &Segment<'_>, rules: &TcpRules) -> Option<Self> {
        let mut initiator =
            Side { end: segment.end, max_win: u32::from(segment.window).max(1), ..Side::default() };
        initiator.max_end = initiator.end;
        let mut responder = Side::default();
        match step(false, segment.kind(), State::None) {
            Step::To(State::SynSent) => initiator.agree(segment),
            Step::To(_) if rules.loose => {
                initiator.max_end = initiator.end.wrapping_add(initiator.max_win);
                // The scale is not known, nor will it be.
                initiator.flags = Side::SELECTIVE | Side::LIBERAL;
                responder.flags = initiator.flags;
            }
            _ => return None,
        }
        Some(Self { state: State::None, sides: [initiator, responder], last: Last::default() })
    }

    /// Who sends, and who receives.
    #[inline]
    pub(super) fn ends(&mut self, reply: bool) -> (&mut Side, &mut Side) {
        let [initiator, responder] = &mut self.sides;
        if reply { (responder, initiator) } else { (initiator, responder) }
    }

    /// A segment of the initiator, or (`reply`) of the responder. `left` is how long the flow would live on (nanoseconds).
    #[inline]
    pub fn segment(
        &mut self,
        reply: bool,
        segment: &Segment<'_>,
        rules: &TcpRules,
        seen: &mut Seen,
        left: u64,
    ) -> Outcome {
        let kind = segment.kind();
        let mut old = self.state;
        let mut new = match step(reply, kind, old) {
            Step::To(state) => state,
            Step::Ignore => match self.ignore(reply, kind, segment) {
                // The answer to a SYN that was let pass: both ends know more than was known here.
                true => {
                    old = State::SynSent;
                    State::SynReceived
                }
                false => return Outcome::Keep,
            },
            Step::Invalid => return Outcome::Invalid,
        };
        let mut judged = rules.windows;
        match new {
            State::SynSent if old as u8 >= State::TimeWait as u8 => {
                let [initiator, responder] = &self.sides;
                let closed = (initiator.flags | responder.flags) & Side::CLOSED_FIRST != 0;
                if closed || (self.last.reply == reply && self.last.kind == Kind::Rst) {
                    return Outcome::Reopen; // RFC 9293 §3.6.1
                }
                match self.ignore(reply, kind, segment) {
                    true => (old, new) = (State::SynSent, State::SynReceived),
                    false => return Outcome::Keep,
                }
            }
            State::TimeWait
                if old == State::LastAck
                    && kind == Kind::Ack
                    && self.last.reply != reply
                    && self.last.kind == Kind::Syn
                    && self.last.flags & Last::CHALLENGE != 0 =>
            {
                self.last.flags &= !Last::CHALLENGE;
                return Outcome::Keep;
            }
            State::SynSent2 => self.last.flags |= Last::BOTH_OPEN,
            State::SynReceived if reply && kind == Kind::Ack && self.last.flags & Last::BOTH_OPEN != 0 => {
                new = State::Established;
            }
            State::Close if kind == Kind::Rst => match self.reset(reply, segment, *seen) {
                Reset::Believed => judged = false,
                Reset::Judged => {}
                Reset::Doubted => new = old,
                Reset::Refused => return Outcome::Invalid,
            },
            _ => {}
        }
        if judged {
            match self.fit(reply, kind, segment, rules.liberal) {
                Fit::In => {}
                Fit::Ignored => return Outcome::Keep,
                Fit::Out => return self.out(reply, kind, rules, *seen, left),
            }
        }
        (self.last.kind, self.last.reply) = (kind, reply);
        self.state = new;
        if old != new && new == State::FinWait {
            self.ends(reply).0.flags |= Side::CLOSED_FIRST;
        }
        let mut life = self.life(kind, rules);
        if !seen.reply {
            if kind == Kind::Rst {
                // Nobody is there, or nobody wants to: nothing that could be called a connection.
                return Outcome::End;
            }
            if kind == Kind::Syn && old == State::SynSent {
                // A SYN again keeps nothing alive, else one that tries for ever would.
                return Outcome::Keep;
            }
            if new == State::Established {
                life = life.min(rules.timeouts.unacknowledged);
            }
        } else if !seen.assured
            && matches!(old, State::SynReceived | State::Established)
            && new == State::Established
        {
            seen.assured = true;
        }
        Outcome::Accept(life)
    }

    /// Notes a segment that is let pass. True if it answers a SYN that was let pass before, and with that sets right what is
    /// known here.
    #[cold]
    fn ignore(&mut self, reply: bool, kind: Kind, segment: &Segment<'_>) -> bool {
        let last = self.last;
        if kind == Kind::SynAck
            && last.kind == Kind::Syn
            && last.reply != reply
            && segment.acknowledgement == last.end
        {
            self.last.flags &= !Last::CHALLENGE;
            let (sender, receiver) = self.ends(reply);
            *receiver = Side {
                end: last.end,
                max_end: last.end,
                max_win: u32::from(last.print).max(1),
                max_ack: receiver.max_ack,
                scale: last.scale,
                flags: last.flags & (Last::SCALES | Last::SELECTIVE),
            };
            sender.forget();
            return true;
        }
        let both_open = last.flags & Last::BOTH_OPEN;
        self.last =
            Last { kind, reply, end: segment.end, print: segment.window, open: segment.window != 0, ..last };
        if kind == Kind::Syn && !reply {
            let (scale, selective) = segment.agreement();
            self.last.scale = scale.unwrap_or(0);
            self.last.flags = both_open
                | if scale.is_some() { Last::SCALES } else { 0 }
                | if selective { Last::SELECTIVE } else { 0 }
                | if self.state == State::LastAck { Last::CHALLENGE } else { 0 };
        }
        if self.state == State::SynSent && kind == Kind::Ack && reply {
            // A challenge; the RST that answers it is known by this number. The responder's own is not known yet.
            let responder = &mut self.sides[1];
            responder.max_ack = segment.acknowledgement;
            responder.flags &= !Side::ACKED;
        }
        false
    }

    /// Whether a RST is to be believed.
    #[cold]
    fn reset(&self, reply: bool, segment: &Segment<'_>, seen: Seen) -> Reset {
        if self.state.is_closing() {
            // The ends may long have been used again: what is known is out of date.
            return Reset::Believed;
        }
        let last = &self.last;
        let peer = &self.sides[usize::from(!reply)];
        let mut verdict = Reset::Judged;
        if peer.is(Side::ACKED) && last.kind != Kind::Syn {
            let established = self.state == State::Established && seen.assured;
            let sequence = segment.sequence;
            if sequence == 0 && !established {
                return Reset::Judged; // it answers a SYN that was let pass
            }
            if before(sequence, peer.max_ack) {
                return Reset::Refused;
            }
            if !established || sequence == peer.max_ack {
                return Reset::Judged;
            }
            if last.kind == Kind::Ack && last.reply == reply && sequence == last.end {
                return Reset::Judged; // right behind the data before
            }
            // Not the very number: the peer may challenge it (RFC 5961 §3.2).
            verdict = Reset::Doubted;
        }
        let let_pass = (seen.reply && last.kind == Kind::Syn) || (!seen.assured && last.kind == Kind::Ack);
        if let_pass && segment.acknowledgement == last.end {
            return Reset::Believed; // to a SYN or ACK that was let pass
        }
        if self.state == State::SynSent
            && last.kind == Kind::Ack
            && last.reply
            && segment.sequence == self.sides[1].max_ack
        {
            return Reset::Believed; // to a challenge
        }
        verdict
    }

    /// A segment outside the window. When both ends want to be done, the connection is not kept for days.
    #[cold]
    fn out(&mut self, reply: bool, kind: Kind, rules: &TcpRules, seen: Seen, left: u64) -> Outcome {
        if !seen.assured || !matches!(kind, Kind::Fin | Kind::Rst) {
            return Outcome::Invalid;
        }
        if self.last.reply != reply && matches!(self.last.kind, Kind::Fin | Kind::Rst) {
            let cut = rules.timeouts.unacknowledged;
            if left >= 120_000_000_000 && left > cut {
                return Outcome::InvalidCut(cut);
            }
        } else {
            (self.last.kind, self.last.reply) = (kind, reply);
        }
        Outcome::Invalid
    }

    /// How long it lives after a segment that belongs to it.
    #[inline]
    fn life(&self, kind: Kind, rules: &TcpRules) -> u64 {
        let timeouts = &rules.timeouts;
        let full = timeouts.of(self.state);
        let [initiator, responder] = &self.sides;
        if self.last.retransmits >= rules.max_retransmits && full > timeouts.retransmission {
            timeouts.retransmission
        } else if kind == Kind::Rst {
            timeouts.close
        } else if (initiator.flags | responder.flags) & Side::UNACKNOWLEDGED != 0 {
            full.min(timeouts.unacknowledged)
        } else if rules.windows && !self.last.open {
            full.min(timeouts.retransmission)
        } else {
            full
        }
    }
}

/// What is thought of a RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reset {
    /// It ends the connection, wherever it lies.
    Believed,
    /// It ends the connection if it is in the window.
    Judged,
    /// It passes if it is in the window, and the connection lives on.
    Doubted,
    /// It is forged, or late.
    Refused,
}

/// A connection in the words of a flow's record: what is hot in 40 bits, where the segment before ended, and the sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// State, flags, scales and the segment before; the bits from [`Packed::BITS`] up are zero.
    pub bits: u64,
    /// [`Last::end`].
    pub last_end: u32,
    /// Of each side: `end` and `max_end`, then `max_win` and `max_ack`, the first in the low half.
    pub sides: [u64; 4],
}

impl Packed {
    /// How many bits of [`Packed::bits`] are used.
    pub const BITS: u32 = 56;
}

impl Connection {
    /// Packs it.
    #[inline]
    pub fn pack(&self) -> Packed {
        let [a, b] = &self.sides;
        let last = &self.last;
        let side = |side: &Side| u64::from(side.flags & 63) | u64::from(side.scale & 15) << 6;
        let bits = u64::from(self.state as u8)
            | u64::from(last.kind as u8) << 4
            | u64::from(last.reply) << 7
            | side(a) << 8
            | side(b) << 18
            | u64::from(last.flags & 15) << 28
            | u64::from(last.print) << 32
            | u64::from(last.scale & 15) << 48
            | u64::from(last.retransmits & 3) << 52
            | u64::from(last.open) << 54;
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let sides = [
            pair(a.end, a.max_end),
            pair(a.max_win, a.max_ack),
            pair(b.end, b.max_end),
            pair(b.max_win, b.max_ack),
        ];
        Packed { bits, last_end: last.end, sides }
    }

    /// Unpacks it; any bits make some connection.
    #[inline]
    pub fn unpack(packed: &Packed) -> Self {
        let bits = packed.bits;
        let [a0, a1, b0, b1] = packed.sides;
        let side = |first: u64, second: u64, bits: u64| Side {
            end: first as u32,
            max_end: (first >> 32) as u32,
            max_win: second as u32,
            max_ack: (second >> 32) as u32,
            scale: (bits >> 6 & 15) as u8,
            flags: (bits & 63) as u8,
        };
        Self {
            state: State::from_number((bits & 15) as u8),
            sides: [side(a0, a1, bits >> 8), side(b0, b1, bits >> 18)],
            last: Last {
                kind: Kind::from_number((bits >> 4 & 7) as u8),
                reply: bits >> 7 & 1 != 0,
                end: packed.last_end,
                print: (bits >> 32) as u16,
                open: bits >> 54 & 1 != 0,
                scale: (bits >> 48 & 15) as u8,
                flags: (bits >> 28 & 15) as u8,
                retransmits: (bits >> 52 & 3) as u8,
            },
        }
    }
}

#[cfg(test)]
mod tests;
