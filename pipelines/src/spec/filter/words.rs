//! The small languages of a rule's values: ports, protocols, ICMP types, TCP flags, masked numbers.
//!
//! Each reader says what is wrong in words that go on after the text itself: `"80..x" is not …`.

use super::FLAGS;

/// Protocols that rules may call by name.
const PROTOCOLS: [(&str, u8); 12] = [
    ("icmp", 1),
    ("igmp", 2),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ospf", 89),
    ("sctp", 132),
    ("udplite", 136),
];

/// ICMP types by name; the type in IPv4, and in IPv6.
const TYPES: [(&str, Option<u8>, Option<u8>); 10] = [
    ("echo-request", Some(8), Some(128)),
    ("echo-reply", Some(0), Some(129)),
    ("destination-unreachable", Some(3), Some(1)),
    ("packet-too-big", None, Some(2)),
    ("time-exceeded", Some(11), Some(3)),
    ("parameter-problem", Some(12), Some(4)),
    ("router-solicitation", Some(10), Some(133)),
    ("router-advertisement", Some(9), Some(134)),
    ("neighbour-solicitation", None, Some(135)),
    ("neighbour-advertisement", None, Some(136)),
];

/// A whole number of digits alone.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// `80`, or `80..443` with both ends; `80-443` says the same.
pub(super) fn range(text: &str) -> Result<(u16, u16), (String, Option<String>)> {
    let (first, last) = text.split_once("..").or_else(|| text.split_once('-')).unwrap_or((text, text));
    let not = || ("is not a port or a range of ports".to_owned(), None);
    let (first, last): (u16, u16) = (number(first).ok_or_else(not)?, number(last).ok_or_else(not)?);
    if first > last {
        return Err(("runs backwards".to_owned(), Some(format!("\"{last}..{first}\""))));
    }
    Ok((first, last))
}

/// The protocol's number.
pub(super) fn protocol(text: &str) -> Option<u8> {
    PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number)
}

/// Names of protocols.
pub(super) fn protocols() -> impl Iterator<Item = &'static str> {
    PROTOCOLS.iter().map(|(name, _)| *name)
}

/// A protocol as a rule has it.
pub(super) fn protocol_text(protocol: u8) -> String {
    let known = PROTOCOLS.iter().find(|(_, number)| *number == protocol);
    known.map_or_else(|| protocol.to_string(), |(name, _)| format!("\"{name}\""))
}

/// `8`, `3/4` or a name.
pub(super) fn icmp(text: &str, v6: bool) -> Option<(u8, Option<u8>)> {
    if let Some((_, four, six)) = TYPES.iter().find(|(name, _, _)| *name == text) {
        return (if v6 { *six } else { *four }).map(|kind| (kind, None));
    }
    match text.split_once('/') {
        Some((kind, code)) => Some((number(kind)?, Some(number(code)?))),
        None => Some((number(text)?, None)),
    }
}

/// Names of ICMP types.
pub(super) fn types() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|(name, _, _)| *name)
}

/// `syn,!ack`: value and mask.
pub(super) fn flags(text: &str) -> Option<(u8, u8)> {
    let (mut value, mut mask) = (0, 0);
    for word in text.split(',') {
        let word = word.trim();
        let (name, on) = word.strip_prefix('!').map_or((word, true), |name| (name, false));
        let bit = 1 << FLAGS.iter().position(|flag| *flag == name)?;
        if mask & bit != 0 {
            return None;
        }
        mask |= bit;
        value |= if on { bit } else { 0 };
    }
    Some((value, mask))
}

/// `7`, `0x10`, or `0x10/0xf0`: value and mask.
pub(super) fn masked(text: &str) -> Option<(u32, u32)> {
    let hex = |text: &str| match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u32::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None => number(text),
    };
    match text.split_once('/') {
        Some((value, mask)) => Some((hex(value)?, hex(mask)?)),
        None => Some((hex(text)?, u32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_one_or_a_range() {
        assert_eq!(range("80"), Ok((80, 80)));
        assert_eq!(range("80..443"), Ok((80, 443)));
        assert_eq!(range("80-443"), Ok((80, 443)));
        assert_eq!(range("443..80").unwrap_err().1.as_deref(), Some("\"80..443\""));
        for text in ["", "..", "80..", "80..65536", "+80", "80--90", "-90", "http"] {
            assert!(range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn flags_are_on_or_off_and_named_once() {
        assert_eq!(flags("syn,!ack"), Some((0b10, 0b1_0010)));
        assert_eq!(flags("!fin, !syn"), Some((0, 0b11)));
        for text in ["", "syn,", "syn,!syn", "sin", "!!ack"] {
            assert_eq!(flags(text), None, "{text}");
        }
    }

    #[test]
    fn types_are_numbers_or_names_of_their_family() {
        assert_eq!(icmp("echo-request", false), Some((8, None)));
        assert_eq!(icmp("echo-request", true), Some((128, None)));
        assert_eq!(icmp("3/4", false), Some((3, Some(4))));
        assert_eq!(icmp("packet-too-big", false), None);
        assert_eq!(icmp("256", false), None);
    }

    #[test]
    fn marks_have_a_mask_or_count_as_a_whole() {
        assert_eq!(masked("7"), Some((7, u32::MAX)));
        assert_eq!(masked("0x10/0xf0"), Some((16, 0xf0)));
        for text in ["", "0x", "/", "7/", "-1", "4294967296", "0x+1"] {
            assert_eq!(masked(text), None, "{text}");
        }
    }
}
