//! The four messages: what they look like.
//!
//! Owns: offsets and lengths (the paper, §5.4). Refuses: unknown types, reserved bytes that are not zero, and any length but
//! a message's own. Keeps true: a parsed message has all of its fields.

use thiserror::Error;

/// Bytes of a handshake initiation.
pub const INITIATION_LEN: usize = 148;
/// Bytes of a handshake response.
pub const RESPONSE_LEN: usize = 92;
/// Bytes of a cookie reply.
pub const COOKIE_REPLY_LEN: usize = 64;
/// Bytes ahead of what is sealed in a data message.
pub const DATA_HEADER_LEN: usize = 16;
/// Bytes that a data message adds to what it carries: header and tag.
pub const OVERHEAD: usize = DATA_HEADER_LEN + 16;
/// What a data message carries is padded to a multiple of this many bytes.
pub const PADDING: usize = 16;
/// Bytes of the two message authentication codes that end initiations and responses.
pub const MACS_LEN: usize = 32;

/// The type and the reserved zeros, as one little-endian word.
const INITIATION: u32 = 1;
const RESPONSE: u32 = 2;
const COOKIE_REPLY: u32 = 3;
const DATA: u32 = 4;

/// A message, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The first message of a handshake.
    Initiation(&'a [u8; INITIATION_LEN]),
    /// The second.
    Response(&'a [u8; RESPONSE_LEN]),
    /// Instead of a response, when the responder has too much to do.
    CookieReply(&'a [u8; COOKIE_REPLY_LEN]),
    /// What is sent in a session.
    Data {
        /// The receiver's index of the session.
        receiver: u32,
        /// The sender's counter.
        counter: u64,
    },
}

/// Why a datagram is none of the messages.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// The first four bytes are no message's.
    #[error("no type of message")]
    Type,
    /// The length is not that of the type.
    #[error("not as long as a message of its type")]
    Length,
}

impl<'a> Message<'a> {
    /// Of a datagram's payload.
    ///
    /// # Errors
    /// It is none.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let kind = datagram.first_chunk().map(|word| u32::from_le_bytes(*word)).ok_or(Malformed::Length)?;
        match kind {
            DATA => match datagram.first_chunk::<{ OVERHEAD }>() {
                Some(header) => Ok(Self::Data {
                    receiver: word(header, 4),
                    counter: u64::from(word(header, 8)) | u64::from(word(header, 12)) << 32,
                }),
                None => Err(Malformed::Length),
            },
            INITIATION => datagram.try_into().map(Self::Initiation).map_err(|_| Malformed::Length),
            RESPONSE => datagram.try_into().map(Self::Response).map_err(|_| Malformed::Length),
            COOKIE_REPLY => datagram.try_into().map(Self::CookieReply).map_err(|_| Malformed::Length),
            _ => Err(Malformed::Type),
        }
    }
}

/// The 32-bit number at byte `at`; 0 where there is none.
#[inline]
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_le_bytes(*word))
}

/// Ahead of what is sealed: for the receiver's session `receiver`, with the sender's `counter`.
#[inline]
pub fn data_header(receiver: u32, counter: u64) -> [u8; DATA_HEADER_LEN] {
    let mut header = [0; DATA_HEADER_LEN];
    header[..4].copy_from_slice(&DATA.to_le_bytes());
    header[4..8].copy_from_slice(&receiver.to_le_bytes());
    header[8..].copy_from_slice(&counter.to_le_bytes());
    header
}

/// The nonce of a data message.
#[inline]
pub fn data_nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// How long what carries `len` bytes is padded to be sealed; never above `mtu`, unless `len` is.
#[inline]
pub fn padded(len: usize, mtu: usize) -> usize {
    len.next_multiple_of(PADDING).min(mtu).max(len)
}

/// An initiation of session `sender`, but for what the handshake and the codes fill in.
pub(crate) fn initiation(sender: u32) -> [u8; INITIATION_LEN] {
    let mut message = [0; INITIATION_LEN];
    message[..4].copy_from_slice(&INITIATION.to_le_bytes());
    message[4..8].copy_from_slice(&sender.to_le_bytes());
    message
}

/// A response of session `sender` to session `receiver`, in the same way.
pub(crate) fn response(sender: u32, receiver: u32) -> [u8; RESPONSE_LEN] {
    let mut message = [0; RESPONSE_LEN];
    message[..4].copy_from_slice(&RESPONSE.to_le_bytes());
    message[4..8].copy_from_slice(&sender.to_le_bytes());
    message[8..12].copy_from_slice(&receiver.to_le_bytes());
    message
}

/// A cookie reply to session `receiver`, in the same way.
pub(crate) fn cookie_reply(receiver: u32) -> [u8; COOKIE_REPLY_LEN] {
    let mut message = [0; COOKIE_REPLY_LEN];
    message[..4].copy_from_slice(&COOKIE_REPLY.to_le_bytes());
    message[4..8].copy_from_slice(&receiver.to_le_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_as_long_as_its_type_says() {
        for (kind, len) in [(1u8, INITIATION_LEN), (2, RESPONSE_LEN), (3, COOKIE_REPLY_LEN)] {
            let mut bytes = vec![0; len];
            bytes[0] = kind;
            assert!(Message::parse(&bytes).is_ok());
            assert_eq!(Message::parse(&bytes[..len - 1]), Err(Malformed::Length));
            bytes.push(0);
            assert_eq!(Message::parse(&bytes), Err(Malformed::Length));
        }
        let data = [&data_header(7, 1 << 40)[..], &[0; 16]].concat();
        assert_eq!(Message::parse(&data), Ok(Message::Data { receiver: 7, counter: 1 << 40 }));
        assert_eq!(Message::parse(&data[..31]), Err(Malformed::Length));
    }

    #[test]
    fn reserved_bytes_and_types_are_what_they_must_be() {
        for kind in [0, 5, 0xff, 0x0100_0004, 0x0001_0001] {
            let mut bytes = [0; INITIATION_LEN];
            bytes[..4].copy_from_slice(&u32::to_le_bytes(kind));
            assert_eq!(Message::parse(&bytes), Err(Malformed::Type), "{kind:#x}");
        }
        assert_eq!(Message::parse(&[4, 0, 0]), Err(Malformed::Length));
    }

    #[test]
    fn padding_fills_sixteen_and_stays_below_the_mtu() {
        for (len, mtu, expected) in
            [(0, 1420, 0), (1, 1420, 16), (1419, 1420, 1420), (1420, 1420, 1420), (1500, 1420, 1500)]
        {
            assert_eq!(padded(len, mtu), expected, "{len} of {mtu}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::parse(&bytes);
        }
    }
}
