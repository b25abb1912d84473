use super::*;
use zsync_packet::checksum::Sum;
use zsync_packet::header::TcpFlags;
use zsync_packet::header::build::TcpSpec;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 24 * 3600 * SECOND;
const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const SYNACK: TcpFlags = SYN.union(ACK);
const FINACK: TcpFlags = TcpFlags::FIN.union(ACK);
const RST: TcpFlags = TcpFlags::RST;
const RSTACK: TcpFlags = RST.union(ACK);

/// `loose`, nothing liberal, the kernel's timeouts.
fn rules() -> TcpRules {
    TcpRules {
        loose: true,
        liberal: false,
        windows: true,
        max_retransmits: 3,
        timeouts: TcpTimeouts::default(),
    }
}

/// A connection under test, and what tracking noted of it.
struct Talk {
    connection: Connection,
    seen: Seen,
    rules: TcpRules,
}

/// A segment, as a test writes it.
#[derive(Clone, Debug)]
struct Say {
    reply: bool,
    spec: TcpSpec,
    payload: usize,
}

/// Of the initiator.
fn out(flags: TcpFlags, sequence: u32, acknowledgement: u32) -> Say {
    let spec = TcpSpec { sequence, acknowledgement, ..TcpSpec::new(1000, 80, flags) };
    Say { reply: false, spec: TcpSpec { window: 1000, ..spec }, payload: 0 }
}

/// Of the responder.
fn back(flags: TcpFlags, sequence: u32, acknowledgement: u32) -> Say {
    Say { reply: true, ..out(flags, sequence, acknowledgement) }
}

impl Say {
    fn data(self, payload: usize) -> Self {
        Self { payload, ..self }
    }

    fn window(mut self, window: u16) -> Self {
        self.spec.window = window;
        self
    }

    fn options(mut self, options: &[u8]) -> Self {
        self.spec.options = options.to_vec();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        self.spec.segment(Sum::default(), &vec![0; self.payload])
    }
}

impl Talk {
    fn open(say: &Say) -> Option<Self> {
        Self::open_under(rules(), say)
    }

    fn open_under(rules: TcpRules, say: &Say) -> Option<Self> {
        let bytes = say.bytes();
        let segment = Segment::parse(&bytes).unwrap();
        let connection = Connection::open(&segment, &rules)?;
        let mut talk = Self { connection, seen: Seen::default(), rules };
        assert!(matches!(talk.say(say), Outcome::Accept(_)));
        Some(talk)
    }

    fn say(&mut self, say: &Say) -> Outcome {
        self.say_with(say, DAY)
    }

    fn say_with(&mut self, say: &Say, left: u64) -> Outcome {
        let bytes = say.bytes();
        let segment = Segment::parse(&bytes).unwrap();
        // Through the words of a record every time, so that nothing is kept elsewhere.
        let packed = self.connection.pack();
        assert_eq!(packed.bits >> Packed::BITS, 0);
        self.connection = Connection::unpack(&packed);
        let outcome = self.connection.segment(say.reply, &segment, &self.rules, &mut self.seen, left);
        if !matches!(outcome, Outcome::Invalid | Outcome::InvalidCut(_) | Outcome::Reopen) {
            self.seen.reply |= say.reply;
        }
        outcome
    }

    fn state(&self) -> State {
        self.connection.state
    }

    /// A connection whose ends' next numbers are 101 and 501, windows of 1000 unscaled.
    fn established() -> Self {
        let mut talk = Self::open(&out(SYN, 100, 0)).unwrap();
        assert_eq!(talk.say(&back(SYNACK, 500, 101)), Outcome::Accept(60 * SECOND));
        assert_eq!(talk.say(&out(ACK, 101, 501)), Outcome::Accept(5 * DAY));
        assert_eq!((talk.state(), talk.seen.assured), (State::Established, true));
        talk
    }
}

#[test]
fn a_connection_from_syn_to_time_wait_has_the_kernels_timeouts() {
    let mut talk = Talk::open(&out(SYN, 100, 0)).unwrap();
    assert_eq!(talk.state(), State::SynSent);
    for (say, state, seconds) in [
        (back(SYNACK, 500, 101), State::SynReceived, 60),
        (out(ACK, 101, 501), State::Established, 432_000),
        (out(ACK, 101, 501).data(10), State::Established, 300),
        (back(ACK, 501, 111), State::Established, 432_000),
        (out(FINACK, 111, 501), State::FinWait, 120),
        (back(ACK, 501, 112), State::CloseWait, 60),
        (back(FINACK, 501, 112), State::LastAck, 30),
        (out(ACK, 112, 502), State::TimeWait, 120),
    ] {
        assert_eq!(talk.say(&say), Outcome::Accept(seconds * SECOND), "{say:?}");
        assert_eq!(talk.state(), state, "{say:?}");
    }
}

#[test]
fn a_syn_again_keeps_nothing_alive() {
    let mut talk = Talk::open(&out(SYN, 100, 0)).unwrap();
    assert_eq!(talk.say(&out(SYN, 100, 0)), Outcome::Keep);
    assert_eq!(talk.state(), State::SynSent);
}

#[test]
fn a_refused_connection_is_over_at_once() {
    let mut talk = Talk::open(&out(SYN, 100, 0)).unwrap();
    assert_eq!(talk.say(&back(RSTACK, 0, 101)), Outcome::End);
}

#[test]
fn data_outside_the_window_is_invalid_on_either_side() {
    let mut talk = Talk::established();
    // The responder offered 1000 bytes from 101 on.
    assert!(matches!(talk.say(&out(ACK, 1101, 501)), Outcome::Accept(_)), "at the right edge");
    let mut talk = Talk::established();
    assert_eq!(talk.say(&out(ACK, 1102, 501)), Outcome::Keep, "one too many: let pass");
    let mut talk = Talk::established();
    assert_eq!(talk.say(&out(ACK, 5000, 501)), Outcome::Invalid);
    assert_eq!(talk.say(&out(ACK, 101, 502)), Outcome::Invalid, "acknowledges what was never sent");
    assert_eq!(talk.say(&back(ACK, 5000, 101)), Outcome::Invalid);
    assert_eq!(talk.say(&back(ACK, 501, 102)), Outcome::Invalid);
    // Too old: let pass, but not believed.
    assert_eq!(talk.say(&out(ACK, 101u32.wrapping_sub(1002), 501)), Outcome::Keep);
    assert!(matches!(talk.say(&out(ACK, 101u32.wrapping_sub(1000), 501)), Outcome::Accept(_)));
    assert_eq!(talk.say(&out(ACK, 101, 501u32.wrapping_sub(66_001))), Outcome::Keep);
    assert!(matches!(talk.say(&out(ACK, 101, 501u32.wrapping_sub(66_000))), Outcome::Accept(_)));
}

#[test]
fn liberal_rules_or_none_at_all_let_everything_in_state_pass() {
    for rules in [TcpRules { liberal: true, ..rules() }, TcpRules { windows: false, ..rules() }] {
        let mut talk = Talk { rules, ..Talk::established() };
        assert!(matches!(talk.say(&out(ACK, 500_000, 700_000)), Outcome::Accept(_)));
        assert_eq!(talk.say(&back(SYN, 1, 0)), Outcome::Invalid, "states count nevertheless");
    }
}

#[test]
fn windows_are_scaled_when_both_ends_say_so() {
    const SCALE: &[u8] = &[1, 3, 3, 4];
    for (answer, inside, outside) in [(SCALE, 101 + 16_000, 101 + 40_000), (&[][..], 101 + 1000, 101 + 2100)]
    {
        let open = |say: &Say| {
            let mut talk = Talk::open(&out(SYN, 100, 0).options(SCALE)).unwrap();
            talk.say(&back(SYNACK, 500, 101).options(answer));
            talk.say(&out(ACK, 101, 501));
            talk.say(&back(ACK, 501, 101));
            talk.say(say)
        };
        assert!(matches!(open(&out(ACK, inside, 501)), Outcome::Accept(_)), "{answer:?}");
        assert_eq!(open(&out(ACK, outside, 501)), Outcome::Invalid, "{answer:?}");
    }
}

#[test]
fn what_a_sack_block_acknowledges_must_have_been_sent() {
    let permitted: &[u8] = &[1, 1, 4, 2];
    let mut talk = Talk::open(&out(SYN, 100, 0).options(permitted)).unwrap();
    talk.say(&back(SYNACK, 500, 101).options(permitted));
    talk.say(&out(ACK, 101, 501));
    talk.say(&out(ACK, 201, 501).data(100));
    let block = |right: u32| [&[1, 1, 5, 10][..], &201u32.to_be_bytes(), &right.to_be_bytes()].concat();
    assert_eq!(talk.say(&back(ACK, 501, 101).options(&block(302))), Outcome::Invalid);
    assert!(matches!(talk.say(&back(ACK, 501, 101).options(&block(301))), Outcome::Accept(_)));
}

#[test]
fn numbers_wrap() {
    let isn = u32::MAX - 5;
    let mut talk = Talk::open(&out(SYN, isn, 0)).unwrap();
    talk.say(&back(SYNACK, isn, isn.wrapping_add(1)));
    talk.say(&out(ACK, isn.wrapping_add(1), isn.wrapping_add(1)));
    let mut sequence = isn.wrapping_add(1);
    for _ in 0..10 {
        let say = out(ACK, sequence, isn.wrapping_add(1)).data(3);
        assert!(matches!(talk.say(&say), Outcome::Accept(_)));
        sequence = sequence.wrapping_add(3);
        assert_eq!(talk.say(&back(ACK, isn.wrapping_add(1), sequence)), Outcome::Accept(5 * DAY));
    }
    assert_eq!(talk.say(&out(ACK, sequence.wrapping_add(5000), isn.wrapping_add(1))), Outcome::Invalid);
}

#[test]
fn only_the_very_next_number_resets_an_open_connection() {
    // The responder acknowledged up to 101.
    for (sequence, outcome, state) in [
        (101, Outcome::Accept(10 * SECOND), State::Close),
        (100, Outcome::Invalid, State::Established),
        // In the window, but not the next: the responder may challenge it.
        (102, Outcome::Accept(10 * SECOND), State::Established),
        (50_000, Outcome::Invalid, State::Established),
    ] {
        let mut talk = Talk::established();
        talk.say(&back(ACK, 501, 101));
        assert_eq!(talk.say(&out(RST, sequence, 0)), outcome, "{sequence}");
        assert_eq!(talk.state(), state, "{sequence}");
    }
    // Right behind the data that the same end just sent.
    let mut talk = Talk::established();
    talk.say(&out(ACK, 101, 501).data(50));
    assert_eq!(talk.say(&out(RST, 151, 0)), Outcome::Accept(10 * SECOND));
    assert_eq!(talk.state(), State::Close);
    // The connection is on its way out: whatever.
    let mut talk = Talk::established();
    talk.say(&out(FINACK, 101, 501));
    assert_eq!(talk.say(&back(RST, 77, 0)), Outcome::Accept(10 * SECOND));
}

#[test]
fn a_connection_is_picked_up_in_its_midst_only_if_loose() {
    let midst = out(ACK, 7000, 9000).data(20);
    assert!(Talk::open_under(TcpRules { loose: false, ..rules() }, &midst).is_none());
    assert!(Talk::open(&out(FINACK, 1, 1)).is_none());
    assert!(Talk::open(&out(RST, 1, 1)).is_none());
    assert!(Talk::open(&out(SYNACK, 1, 1)).is_none());

    let bytes = midst.bytes();
    let segment = Segment::parse(&bytes).unwrap();
    let connection = Connection::open(&segment, &rules()).unwrap();
    let mut talk = Talk { connection, seen: Seen::default(), rules: rules() };
    // Nobody answered yet: not for days.
    assert_eq!(talk.say(&midst), Outcome::Accept(300 * SECOND));
    assert_eq!(talk.state(), State::Established);
    assert!(matches!(talk.say(&back(ACK, 9000, 7020)), Outcome::Accept(_)));
    assert!(!talk.seen.assured);
    assert!(matches!(talk.say(&out(ACK, 7020, 9000)), Outcome::Accept(_)));
    assert!(talk.seen.assured);
    // A scale that nobody here knows: nothing is held against the window.
    assert!(matches!(talk.say(&out(ACK, 700_000, 9000)), Outcome::Accept(_)));
}

#[test]
fn both_ends_may_open_at_once() {
    let mut talk = Talk::open(&out(SYN, 100, 0)).unwrap();
    assert_eq!(talk.say(&back(SYN, 500, 0)), Outcome::Keep, "its first two minutes still run");
    assert_eq!(talk.state(), State::SynSent2);
    assert!(matches!(talk.say(&out(SYNACK, 100, 501)), Outcome::Accept(_)));
    assert_eq!(talk.state(), State::SynReceived);
    assert!(matches!(talk.say(&back(SYNACK, 500, 101)), Outcome::Keep));
    assert!(matches!(talk.say(&back(ACK, 501, 101)), Outcome::Accept(_)));
    assert_eq!(talk.state(), State::Established);
}

#[test]
fn a_syn_in_time_wait_reopens_from_either_end() {
    for say in [out(SYN, 90_000, 0), back(SYN, 90_000, 0)] {
        let mut talk = Talk::established();
        talk.say(&out(FINACK, 101, 501));
        talk.say(&back(FINACK, 501, 102));
        talk.say(&out(ACK, 102, 502));
        assert_eq!(talk.state(), State::TimeWait);
        assert_eq!(talk.say(&say), Outcome::Reopen, "{say:?}");
    }
    // After RST, only from the end that sent it.
    let mut talk = Talk::established();
    talk.say(&out(ACK, 101, 501).data(1));
    talk.say(&back(ACK, 501, 102));
    assert!(matches!(talk.say(&out(RST, 102, 0)), Outcome::Accept(_)));
    assert_eq!(talk.state(), State::Close);
    assert_eq!(talk.say(&back(SYN, 1, 0)), Outcome::Invalid);
    assert_eq!(talk.say(&out(SYN, 90_000, 0)), Outcome::Reopen);
}

#[test]
fn a_syn_in_an_open_connection_is_let_pass_and_its_answer_sets_things_right() {
    // The initiator forgot the connection and begins again; the responder has forgotten it, too.
    let mut talk = Talk::established();
    assert_eq!(talk.say(&out(SYN, 40_000, 0).window(2000)), Outcome::Keep);
    assert_eq!(talk.state(), State::Established);
    assert_eq!(talk.say(&back(SYNACK, 80_000, 40_001)), Outcome::Accept(60 * SECOND));
    assert_eq!(talk.state(), State::SynReceived);
    assert!(matches!(talk.say(&out(ACK, 40_001, 80_001)), Outcome::Accept(_)));
    assert!(matches!(talk.say(&back(ACK, 80_001, 40_001).data(1900)), Outcome::Accept(_)));

    // The responder has not: its challenge, and the RST that this earns.
    let mut talk = Talk::established();
    talk.say(&out(SYN, 40_000, 0));
    assert!(matches!(talk.say(&back(ACK, 501, 101)), Outcome::Accept(_)));
    assert!(matches!(talk.say(&out(RST, 101, 0)), Outcome::Accept(_)));
    assert_eq!(talk.state(), State::Close);
}

#[test]
fn a_challenge_in_answer_to_a_syn_acknowledges_no_fin() {
    let mut talk = Talk::established();
    talk.say(&out(FINACK, 101, 501));
    talk.say(&back(FINACK, 501, 102));
    assert_eq!(talk.state(), State::LastAck);
    assert_eq!(talk.say(&out(SYN, 40_000, 0)), Outcome::Keep);
    assert_eq!(talk.say(&back(ACK, 502, 102)), Outcome::Keep);
    assert_eq!(talk.state(), State::LastAck);
}

#[test]
fn the_ack_of_half_a_connection_and_the_rst_that_it_earns_clear_the_way() {
    let mut talk = Talk::open(&out(SYN, 100, 0)).unwrap();
    assert_eq!(talk.say(&back(ACK, 7000, 3000)), Outcome::Keep);
    assert_eq!(talk.state(), State::SynSent);
    // Its number is the one that the challenge acknowledged.
    assert!(matches!(talk.say(&out(RST, 3000, 0)), Outcome::Accept(_) | Outcome::End));
    assert_eq!(talk.state(), State::Close);
}

#[test]
fn the_same_ack_again_and_again_cuts_the_timeout() {
    let mut talk = Talk::established();
    let say = back(ACK, 501, 101);
    let lives: Vec<Outcome> = (0..5).map(|_| talk.say(&say)).collect();
    let (full, cut) = (Outcome::Accept(5 * DAY), Outcome::Accept(300 * SECOND));
    assert_eq!(lives, [full, full, full, cut, cut]);
    assert_eq!(talk.say(&back(ACK, 501, 101).window(1001)), full);
}

#[test]
fn a_closed_window_and_unacknowledged_data_cut_the_timeout() {
    let mut talk = Talk::established();
    assert_eq!(talk.say(&back(ACK, 501, 101).window(0)), Outcome::Accept(300 * SECOND));
    assert_eq!(talk.say(&back(ACK, 501, 101)), Outcome::Accept(5 * DAY));
    assert_eq!(talk.say(&back(ACK, 501, 101).data(9)), Outcome::Accept(300 * SECOND));
    assert_eq!(talk.say(&out(ACK, 101, 505)), Outcome::Accept(300 * SECOND), "in part");
    assert_eq!(talk.say(&out(ACK, 101, 510)), Outcome::Accept(5 * DAY));
}

#[test]
fn when_both_ends_reset_outside_the_window_the_time_is_cut() {
    let mut talk = Talk::established();
    assert_eq!(talk.say(&out(FINACK, 50_000, 501)), Outcome::Invalid);
    assert_eq!(talk.say(&back(FINACK, 50_000, 101)), Outcome::InvalidCut(300 * SECOND));
    assert_eq!(talk.say_with(&back(FINACK, 50_000, 101), 100 * SECOND), Outcome::Invalid);
}
