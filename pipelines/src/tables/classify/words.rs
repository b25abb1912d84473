//! Keys from what a stage has at hand, a field at a time: [`Subject::key`](super::Subject::key) without the detour.

pub use super::key::{ADDRESS, Key, MARK, META, PORTS, SETS};
use super::key::{DSCP, FLAGS, FRAGMENT, INPUT, PROTOCOL, STATE, State, TAGGED, TRANSPORT, TYPED, VLAN};

/// Bit of [`META`]: the ports are known.
pub const HAS_PORTS: u64 = 1 << TRANSPORT;
/// Bit of [`META`]: ICMP type and code are known.
pub const IS_TYPED: u64 = 1 << TYPED;

/// The part of [`META`] that a packet's facts say: IP protocol, state and fragment (by their numbers, 0..=4 and 0..=2), the tag
/// control information of its VLAN (0 for none), and the number of the port where it came in.
#[inline]
pub fn meta(protocol: u8, state: u8, fragment: u8, tag: u16, input: u16) -> u64 {
    let vlan = if tag == 0 { 0 } else { tag & 0xfff | TAGGED };
    u64::from(protocol) << PROTOCOL.0
        | 1 << (STATE.0 + u32::from(state & 7))
        | 1 << (FRAGMENT.0 + u32::from(fragment & 3))
        | u64::from(vlan) << VLAN.0
        | u64::from(input) << INPUT.0
}

/// The part of [`META`] that only its bytes say.
#[inline]
pub fn packet(tcp_flags: u8, dscp: u8) -> u64 {
    u64::from(tcp_flags) << FLAGS.0 | u64::from(dscp & 0x3f) << DSCP.0
}

/// The key with another mark.
#[inline]
pub fn with_mark(mut key: Key, mark: u32) -> Key {
    key[MARK] = u64::from(mark);
    key
}

/// The state of this number.
pub fn state(number: u8) -> State {
    match number {
        1 => State::New,
        2 => State::Established,
        3 => State::Related,
        4 => State::Invalid,
        _ => State::Untracked,
    }
}
