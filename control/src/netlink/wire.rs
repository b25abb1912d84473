//! Netlink's framing: messages in a datagram, attributes in a message, and requests put together. Host byte order.
//!
//! Invariant: nothing here panics or reads past a length, whatever the bytes; a truncated tail ends the iteration.

/// `struct nlmsghdr` and what it heads (uapi/linux/netlink.h).
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) port: u32,
    pub(super) body: &'a [u8],
}

pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLMSG_OVERRUN: u16 = 4;

pub(super) const NLM_F_REQUEST: u16 = 0x01;
pub(super) const NLM_F_MULTI: u16 = 0x02;
pub(super) const NLM_F_ACK: u16 = 0x04;
pub(super) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(super) const NLM_F_REPLACE: u16 = 0x100;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_APPEND: u16 = 0x800;

const HEADER: usize = 16;

fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// The messages of a datagram.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let body = bytes.get(HEADER..length)?;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            port: u32_at(bytes, 12)?,
            body,
        };
        bytes = bytes.get(aligned(length)..).unwrap_or(&[]);
        Some(message)
    })
}

/// The attributes that begin at `offset`: the number without its flags, and the value.
pub(super) fn attributes(bytes: &[u8], offset: usize) -> impl Iterator<Item = (u16, &[u8])> {
    const NLA_TYPE_MASK: u16 = 0x3fff;
    let mut bytes = bytes.get(aligned(offset)..).unwrap_or(&[]);
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let value = bytes.get(4..length)?;
        let number = u16_at(bytes, 2)? & NLA_TYPE_MASK;
        bytes = bytes.get(aligned(length)..).unwrap_or(&[]);
        Some((number, value))
    })
}

pub(super) fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

pub(super) fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk().map(|b| i32::from_ne_bytes(*b))
}

/// A string without its NUL.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A request: a message to be.
#[derive(Clone, Debug)]
pub(super) struct Request(Vec<u8>);

impl Request {
    pub(super) fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(body);
        Self(bytes).padded()
    }

    pub(super) fn attribute(mut self, number: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&number.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.padded()
    }

    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }

    fn padded(mut self) -> Self {
        self.0.resize(aligned(self.0.len()), 0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_reads_back() {
        let bytes =
            Request::new(18, NLM_F_DUMP, &[1; 16]).attribute(3, b"eth0\0").attribute(4, &[9; 4]).finish(7);
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].kind, all[0].flags, all[0].sequence), (18, NLM_F_DUMP | NLM_F_REQUEST, 7));
        let attributes: Vec<_> = attributes(all[0].body, 16).collect();
        assert_eq!(attributes, [(3, b"eth0\0".as_slice()), (4, [9; 4].as_slice())]);
        assert_eq!(text(attributes[0].1), "eth0");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                for kind in [message.kind, 16, 20, 24, 28, 104] {
                    let _ = super::super::decode::event(&Message { kind, ..message });
                }
            }
            for kind in [16, 17, 20, 24, 25, 28, 104] {
                let message = Message { kind, flags: 0, sequence: 0, port: 0, body: &bytes };
                let _ = super::super::decode::event(&message);
            }
        }
    }
}
