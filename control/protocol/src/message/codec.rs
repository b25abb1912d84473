//! Messages to bytes and back, and each way in which bytes are no message.
//!
//! Owns: the encoding (postcard: a varint tag, then the fields) and its errors. Keeps true: [`encode`] refuses to build what
//! [`decode`] would refuse, and decoding any bytes neither panics nor allocates more than about a mebibyte.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{MAX_MESSAGE, VERSION};

/// Why a message was not encoded or not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Longer than [`MAX_MESSAGE`].
    #[error("a message of {len} bytes is longer than the limit of {MAX_MESSAGE}")]
    Oversize {
        /// Its length, bytes.
        len: usize,
    },
    /// No message at all, or one that ends inside its tag.
    #[error("the message has no readable tag")]
    NoTag,
    /// A tag that this version does not know.
    #[error("message tag {tag} is unknown: version {VERSION} knows tags 0 to {last}")]
    Unknown {
        /// The tag.
        tag: u32,
        /// The last one that is known.
        last: usize,
    },
    /// The peer speaks another version.
    #[error(
        "the peer speaks version {theirs} of the protocol, this process version {VERSION}: start both from one build"
    )]
    Version {
        /// The peer's version.
        theirs: u32,
    },
    /// The message ends inside a field.
    #[error("message {kind} is cut short")]
    Truncated {
        /// Name of the message.
        kind: &'static str,
    },
    /// A field holds bytes that its type does not have.
    #[error("message {kind} is malformed: {source}")]
    Malformed {
        /// Name of the message.
        kind: &'static str,
        /// What the decoder said.
        source: postcard::Error,
    },
    /// Bytes after the end.
    #[error("message {kind} is followed by {extra} more bytes")]
    Trailing {
        /// Name of the message.
        kind: &'static str,
        /// How many.
        extra: usize,
    },
    /// More or fewer descriptors than the message carries.
    #[error("message {kind} came with {have} descriptors and carries {want}")]
    Descriptors {
        /// Name of the message.
        kind: &'static str,
        /// How many came.
        have: usize,
        /// How many belong.
        want: usize,
    },
    /// A field out of its range.
    #[error("message {kind}: {field} is {value}, and must be {range}")]
    Field {
        /// Name of the message.
        kind: &'static str,
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
}

/// A message of one direction: [`ToDataplane`](super::ToDataplane) or [`FromDataplane`](super::FromDataplane).
pub trait Message: Serialize + DeserializeOwned {
    /// The names of the messages, indexed by tag.
    const KINDS: &'static [&'static str];

    /// Name of this message.
    fn kind(&self) -> &'static str;

    /// How many descriptors it carries.
    fn descriptors(&self) -> usize;

    /// Whether every field is in its range.
    ///
    /// # Errors
    /// [`MessageError::Field`] for the first that is not.
    fn check(&self) -> Result<(), MessageError>;

    /// Refuses, before anything is decoded, what another version sent.
    #[doc(hidden)]
    fn screen(tag: u32, rest: &[u8]) -> Result<(), MessageError>;
}

/// A field's range: `holds`, or the error that says so.
pub(super) fn within(
    kind: &'static str,
    field: &'static str,
    value: impl std::fmt::Display,
    holds: bool,
    range: &'static str,
) -> Result<(), MessageError> {
    if holds { Ok(()) } else { Err(MessageError::Field { kind, field, value: value.to_string(), range }) }
}

/// The tag of a message, known to `M`, and the bytes after it.
pub(super) fn tag_of<M: Message>(bytes: &[u8]) -> Result<(u32, &[u8]), MessageError> {
    let (tag, rest) = postcard::take_from_bytes::<u32>(bytes).map_err(|_| MessageError::NoTag)?;
    if tag as usize >= M::KINDS.len() {
        return Err(MessageError::Unknown { tag, last: M::KINDS.len() - 1 });
    }
    Ok((tag, rest))
}

/// Replaces the content of `into` with the encoded message.
///
/// # Errors
/// [`MessageError::Field`] or [`MessageError::Oversize`] for a message that the peer would refuse.
pub fn encode<M: Message>(message: &M, into: &mut Vec<u8>) -> Result<(), MessageError> {
    message.check()?;
    into.clear();
    postcard::to_io(message, &mut *into)
        .map_err(|source| MessageError::Malformed { kind: message.kind(), source })?;
    if into.len() > MAX_MESSAGE { Err(MessageError::Oversize { len: into.len() }) } else { Ok(()) }
}

/// The message in `bytes`, which came with `descriptors` descriptors.
///
/// # Errors
/// Each [`MessageError`]: the bytes are a peer's, and are trusted with nothing.
pub fn decode<M: Message>(bytes: &[u8], descriptors: usize) -> Result<M, MessageError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(MessageError::Oversize { len: bytes.len() });
    }
    let (tag, rest) = tag_of::<M>(bytes)?;
    M::screen(tag, rest)?;
    let kind = M::KINDS.get(tag as usize).copied().unwrap_or("?");
    let (message, rest) = postcard::take_from_bytes::<M>(bytes).map_err(|source| match source {
        postcard::Error::DeserializeUnexpectedEnd => MessageError::Truncated { kind },
        source => MessageError::Malformed { kind, source },
    })?;
    if !rest.is_empty() {
        return Err(MessageError::Trailing { kind, extra: rest.len() });
    }
    let want = message.descriptors();
    if descriptors != want {
        return Err(MessageError::Descriptors { kind, have: descriptors, want });
    }
    message.check()?;
    Ok(message)
}
