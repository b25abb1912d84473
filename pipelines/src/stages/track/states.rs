//! The states of a TCP connection, and which segment leads from which to which.
//!
//! Owns the table that nf_conntrack_proto_tcp.c calls `tcp_conntracks`, as of Linux 6.1. A state is a guess at what both ends
//! know, made in the middle: segments pass here that may be lost behind here.

use super::segment::Kind;

/// The state of a connection. The numbers lie in shared memory, and are nf_conntrack's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not seen yet.
    #[default]
    None = 0,
    /// The initiator sent SYN.
    SynSent = 1,
    /// The responder sent SYN and ACK.
    SynReceived = 2,
    /// The initiator acknowledged.
    Established = 3,
    /// One end sent FIN.
    FinWait = 4,
    /// It was acknowledged.
    CloseWait = 5,
    /// The other end sent FIN, too.
    LastAck = 6,
    /// It was acknowledged, too.
    TimeWait = 7,
    /// Reset.
    Close = 8,
    /// The responder sent SYN alone: both open at once.
    SynSent2 = 9,
}

impl State {
    /// Every state, in order of its number.
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::LastAck,
        Self::TimeWait,
        Self::Close,
        Self::SynSent2,
    ];

    /// The state with this number; [`State::None`] for numbers that none has.
    #[inline]
    pub fn from_number(number: u8) -> Self {
        *Self::ALL.get(usize::from(number)).unwrap_or(&Self::None)
    }

    /// Its name, as `zsyncctl` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SynSent => "syn-sent",
            Self::SynReceived => "syn-received",
            Self::Established => "established",
            Self::FinWait => "fin-wait",
            Self::CloseWait => "close-wait",
            Self::LastAck => "last-ack",
            Self::TimeWait => "time-wait",
            Self::Close => "close",
            Self::SynSent2 => "syn-sent-2",
        }
    }

    /// Whether the connection is on its way out: it may be evicted (`tcp_can_early_drop`).
    #[inline]
    pub fn is_closing(self) -> bool {
        matches!(self, Self::FinWait | Self::CloseWait | Self::LastAck | Self::TimeWait | Self::Close)
    }

    /// Whether the handshake is under way.
    #[inline]
    pub fn is_embryonic(self) -> bool {
        matches!(self, Self::SynSent | Self::SynReceived | Self::SynSent2)
    }
}

/// What a segment does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes to this state, if the segment is in the window.
    To(State),
    /// The segment passes and changes nothing: who is out of step, the ends or we, the answer will tell.
    Ignore,
    /// No such segment in this state.
    Invalid,
}

/// What a segment of `kind`, sent by the initiator or (`reply`) the responder, does in `state`.
#[inline]
pub fn step(reply: bool, kind: Kind, state: State) -> Step {
    STEPS[usize::from(reply)][kind as usize][state as usize]
}

const STEPS: [[[Step; 10]; 6]; 2] = {
    const IV: Step = Step::Invalid;
    const IG: Step = Step::Ignore;
    const SS: Step = Step::To(State::SynSent);
    const SR: Step = Step::To(State::SynReceived);
    const ES: Step = Step::To(State::Established);
    const FW: Step = Step::To(State::FinWait);
    const CW: Step = Step::To(State::CloseWait);
    const LA: Step = Step::To(State::LastAck);
    const TW: Step = Step::To(State::TimeWait);
    const CL: Step = Step::To(State::Close);
    const S2: Step = Step::To(State::SynSent2);
    // The same from both ends.
    const FIN: [Step; 10] = [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV];
    const RST: [Step; 10] = [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL];
    const NONE: [Step; 10] = [IV; 10];
    [
        // By the initiator, in state
        //   None SS  SR  ES  FW  CW  LA  TW  CL  S2
        [
            // A SYN in an open connection is a mistake, or the connection is long dead: the responder will tell.
            [SS, SS, IG, IG, IG, IG, IG, SS, SS, S2],
            // Only an initiator whose SYN met one answers it with SYN and ACK.
            [IV, IV, SR, IV, IV, IV, IV, IV, IV, SR],
            FIN,
            [ES, IV, ES, ES, CW, CW, TW, TW, CL, IV],
            RST,
            NONE,
        ],
        // By the responder.
        [
            [IV, S2, IV, IV, IV, IV, IV, SS, IV, S2],
            [IV, SR, IG, IG, IG, IG, IG, IG, IG, SR],
            FIN,
            // An ACK that answers a SYN: the responder holds half a connection, and will reset it.
            [IV, IG, SR, ES, CW, CW, TW, TW, CL, IG],
            RST,
            NONE,
        ],
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as the kernel's source prints it, in its own letters.
    const KERNEL: &str = "
        original syn    sSS sSS sIG sIG sIG sIG sIG sSS sSS sS2
        original synack sIV sIV sSR sIV sIV sIV sIV sIV sIV sSR
        original fin    sIV sIV sFW sFW sLA sLA sLA sTW sCL sIV
        original ack    sES sIV sES sES sCW sCW sTW sTW sCL sIV
        original rst    sIV sCL sCL sCL sCL sCL sCL sCL sCL sCL
        original none   sIV sIV sIV sIV sIV sIV sIV sIV sIV sIV
        reply    syn    sIV sS2 sIV sIV sIV sIV sIV sSS sIV sS2
        reply    synack sIV sSR sIG sIG sIG sIG sIG sIG sIG sSR
        reply    fin    sIV sIV sFW sFW sLA sLA sLA sTW sCL sIV
        reply    ack    sIV sIG sSR sES sCW sCW sTW sTW sCL sIG
        reply    rst    sIV sCL sCL sCL sCL sCL sCL sCL sCL sCL
        reply    none   sIV sIV sIV sIV sIV sIV sIV sIV sIV sIV";

    #[test]
    fn every_direction_kind_and_state_leads_where_nf_conntrack_says() {
        let mut seen = 0;
        for line in KERNEL.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let kind = match words[1] {
                "syn" => Kind::Syn,
                "synack" => Kind::SynAck,
                "fin" => Kind::Fin,
                "ack" => Kind::Ack,
                "rst" => Kind::Rst,
                _ => Kind::None,
            };
            for (state, word) in State::ALL.iter().zip(&words[2..]) {
                let expected = match *word {
                    "sIV" => Step::Invalid,
                    "sIG" => Step::Ignore,
                    "sSS" => Step::To(State::SynSent),
                    "sSR" => Step::To(State::SynReceived),
                    "sES" => Step::To(State::Established),
                    "sFW" => Step::To(State::FinWait),
                    "sCW" => Step::To(State::CloseWait),
                    "sLA" => Step::To(State::LastAck),
                    "sTW" => Step::To(State::TimeWait),
                    "sCL" => Step::To(State::Close),
                    "sS2" => Step::To(State::SynSent2),
                    other => panic!("{other}"),
                };
                assert_eq!(step(words[0] == "reply", kind, *state), expected, "{line}: {state:?}");
                seen += 1;
            }
        }
        assert_eq!(seen, 120);
    }

    #[test]
    fn numbers_are_places() {
        for (place, state) in State::ALL.iter().enumerate() {
            assert_eq!(*state as usize, place);
            assert_eq!(State::from_number(place as u8), *state);
        }
        assert_eq!(State::from_number(200), State::None);
    }
}
