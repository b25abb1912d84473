//! When something must be done for a peer: the paper's §6, and the kernel's `timers.c`.
//!
//! Owns: the protocol's times. Keeps nothing itself: what is due follows from when things happened last, which the peer's
//! record knows, so timers survive what the record survives, and cost nothing per packet but a store.

use crate::record::{Fact, Record, Role};

const SECOND: u64 = 1_000_000_000;

/// Messages after which a new handshake is begun.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// Counters from here on are neither sent nor taken.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// Nanoseconds after which who began a session begins another, if it sends.
pub const REKEY_AFTER_TIME: u64 = 120 * SECOND;
/// Nanoseconds after which a session is used no more.
pub const REJECT_AFTER_TIME: u64 = 180 * SECOND;
/// Nanoseconds for which a handshake is tried again.
pub const REKEY_ATTEMPT_TIME: u64 = 90 * SECOND;
/// Nanoseconds between two tries.
pub const REKEY_TIMEOUT: u64 = 5 * SECOND;
/// Nanoseconds after which what came is answered by an empty message, if there is nothing else to send.
pub const KEEPALIVE_TIMEOUT: u64 = 10 * SECOND;
/// Nanoseconds after which the keys of a peer with no new session are wiped.
pub const FORGET_AFTER: u64 = 3 * REJECT_AFTER_TIME;
/// Tries of both ends are kept apart by up to so many nanoseconds.
const JITTER: u64 = SECOND / 3;

/// What is due for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// A handshake.
    Handshake,
    /// An empty message.
    Keepalive,
    /// The handshake was tried long enough: what waits for it is dropped.
    GiveUp,
    /// All keys are to be wiped.
    Forget,
}

/// What is due at `now` for the peer of `record`; `trying`: a handshake of ours is on its way; `keepalive`: the configured
/// nanoseconds, or 0. `spread` is any number, the same for a peer for some seconds: it moves tries by up to a third of a second.
pub fn due(record: &Record<'_>, trying: bool, keepalive: u64, spread: u32, now: u64) -> Due {
    let fact = |fact| record.fact(fact);
    let past = |at: u64, after: u64| at != 0 && now.saturating_sub(at) >= after;
    let jitter = (u64::from(spread) * JITTER) >> 32;
    if trying && past(fact(Fact::Initiated), REKEY_TIMEOUT + jitter) {
        return if past(fact(Fact::InitiatedFirst), REKEY_ATTEMPT_TIME) {
            Due::GiveUp
        } else {
            Due::Handshake
        };
    }
    let current = record.session(Role::Current);
    if !trying {
        if past(fact(Fact::SentUnanswered), KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter) {
            return Due::Handshake;
        }
        if let Some(session) = current.filter(|session| session.is_ours()) {
            let since = session.since();
            let old = fact(Fact::Sent) >= since.saturating_add(REKEY_AFTER_TIME)
                || session.next_counter() >= REKEY_AFTER_MESSAGES;
            let last_minute = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT;
            let late = fact(Fact::Came) >= since.saturating_add(last_minute) && fact(Fact::LastMinute) == 0;
            if (old || late) && now.saturating_sub(since) < REJECT_AFTER_TIME {
                return Due::Handshake;
            }
        }
    }
    let sessions =
        [Role::Current, Role::Previous, Role::Next].map(|role| record.session(role).map(|room| room.since()));
    if let Some(youngest) = sessions.into_iter().flatten().max()
        && past(youngest.max(1), FORGET_AFTER)
    {
        return Due::Forget;
    }
    let usable = current.is_some_and(|session| now.saturating_sub(session.since()) < REJECT_AFTER_TIME);
    if usable && past(fact(Fact::CameUnanswered), KEEPALIVE_TIMEOUT) {
        return Due::Keepalive;
    }
    let last = fact(Fact::Sent).max(fact(Fact::Came));
    if keepalive > 0 && now.saturating_sub(last) >= keepalive {
        return match (usable, trying) {
            (true, _) => Due::Keepalive,
            (false, false) => Due::Handshake,
            (false, true) => Due::Nothing,
        };
    }
    Due::Nothing
}

/// Notes that data, or an empty message, was sent.
#[inline]
pub fn sent(record: &Record<'_>, data: bool, bytes: u64, now: u64) {
    record.set(Fact::Sent, now);
    record.set(Fact::CameUnanswered, 0);
    if data && record.fact(Fact::SentUnanswered) == 0 {
        record.set(Fact::SentUnanswered, now);
    }
    record.add(Fact::TxBytes, bytes);
}

/// Notes that data, an empty message, or a part of a handshake came, and was authentic.
#[inline]
pub fn came(record: &Record<'_>, data: bool, bytes: u64, now: u64) {
    record.set(Fact::Came, now);
    record.set(Fact::SentUnanswered, 0);
    if data && record.fact(Fact::CameUnanswered) == 0 {
        record.set(Fact::CameUnanswered, now);
    }
    record.add(Fact::RxBytes, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Secret;
    use crate::noise::Keys;
    use crate::record::{RECORD_BYTES, RECORD_WORDS};
    use zsync_packet::region::Region;

    const START: u64 = 1000 * SECOND;

    /// Runs `then` with a record that has a session since [`START`].
    fn with(ours: bool, then: impl FnOnce(&Record<'_>)) {
        let region = Region::heap(RECORD_BYTES);
        let record = Record::over(region.u64s(0, RECORD_WORDS).unwrap()).unwrap();
        let keys = Keys { sending: Secret::new([1; 32]), receiving: Secret::new([2; 32]) };
        record.install(&keys, 1, 2, ours, START);
        if !ours {
            record.promote();
        }
        record.set(Fact::Sent, START);
        record.set(Fact::Came, START);
        then(&record);
    }

    #[test]
    fn an_idle_session_is_left_alone_until_it_is_forgotten() {
        with(true, |record| {
            for seconds in [0, 10, 60, 119, 121, 170, 181, 400, 539] {
                assert_eq!(due(record, false, 0, 0, START + seconds * SECOND), Due::Nothing, "{seconds} s");
            }
            assert_eq!(due(record, false, 0, 0, START + FORGET_AFTER), Due::Forget);
        });
    }

    #[test]
    fn who_began_a_session_begins_the_next_when_it_sends() {
        for ours in [true, false] {
            with(ours, |record| {
                sent(record, false, 0, START + 119 * SECOND);
                assert_eq!(due(record, false, 0, 0, START + 119 * SECOND), Due::Nothing);
                sent(record, false, 0, START + 120 * SECOND);
                let expected = if ours { Due::Handshake } else { Due::Nothing };
                assert_eq!(due(record, false, 0, 0, START + 120 * SECOND), expected);
            });
        }
    }

    #[test]
    fn who_only_receives_begins_the_next_in_time_and_once() {
        with(true, |record| {
            came(record, false, 0, START + 164 * SECOND);
            assert_eq!(due(record, false, 0, 0, START + 164 * SECOND), Due::Nothing);
            came(record, false, 0, START + 165 * SECOND);
            assert_eq!(due(record, false, 0, 0, START + 165 * SECOND), Due::Handshake);
            record.set(Fact::LastMinute, 1);
            assert_eq!(due(record, false, 0, 0, START + 166 * SECOND), Due::Nothing);
        });
    }

    #[test]
    fn what_came_is_answered_within_ten_seconds() {
        with(true, |record| {
            came(record, true, 100, START + SECOND);
            came(record, true, 100, START + 5 * SECOND);
            assert_eq!(due(record, false, 0, 0, START + 10 * SECOND), Due::Nothing);
            assert_eq!(due(record, false, 0, 0, START + 11 * SECOND), Due::Keepalive);
            sent(record, false, 32, START + 11 * SECOND);
            assert_eq!(due(record, false, 0, 0, START + 60 * SECOND), Due::Nothing);
            assert_eq!((record.fact(Fact::RxBytes), record.fact(Fact::TxBytes)), (200, 32));
        });
    }

    #[test]
    fn silence_after_data_leads_to_a_handshake() {
        with(false, |record| {
            sent(record, true, 0, START + SECOND);
            sent(record, true, 0, START + 9 * SECOND);
            assert_eq!(due(record, false, 0, 0, START + 15 * SECOND), Due::Nothing);
            assert_eq!(due(record, false, 0, u32::MAX, START + 16 * SECOND), Due::Nothing, "spread");
            assert_eq!(due(record, false, 0, 0, START + 16 * SECOND), Due::Handshake);
            came(record, false, 0, START + 16 * SECOND);
            assert_eq!(due(record, false, 0, 0, START + 40 * SECOND), Due::Nothing);
        });
    }

    #[test]
    fn handshakes_are_tried_for_ninety_seconds() {
        with(true, |record| {
            record.set(Fact::InitiatedFirst, START);
            record.set(Fact::Initiated, START + 80 * SECOND);
            assert_eq!(due(record, true, 0, 0, START + 84 * SECOND), Due::Nothing);
            assert_eq!(due(record, true, 0, 0, START + 85 * SECOND), Due::Handshake);
            record.set(Fact::Initiated, START + 86 * SECOND);
            assert_eq!(due(record, true, 0, 0, START + 91 * SECOND), Due::GiveUp);
        });
    }

    #[test]
    fn a_configured_keepalive_needs_a_session_or_a_handshake() {
        with(true, |record| {
            let every = 25 * SECOND;
            assert_eq!(due(record, false, every, 0, START + 24 * SECOND), Due::Nothing);
            assert_eq!(due(record, false, every, 0, START + 25 * SECOND), Due::Keepalive);
            assert_eq!(
                due(record, false, every, 0, START + 200 * SECOND),
                Due::Handshake,
                "the session is too old"
            );
            record.end_all();
            assert_eq!(due(record, false, every, 0, START + 25 * SECOND), Due::Handshake);
            assert_eq!(due(record, true, every, 0, START + 25 * SECOND), Due::Nothing);
        });
    }
}
