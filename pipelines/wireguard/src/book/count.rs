//! What is counted of an end, beside its peers' records: names and places.

/// What came of handshake messages, and of packets without a session, of all workers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Handshakes that were done.
    Done,
    /// Initiations that were sent.
    Initiated,
    /// Messages that were none, or whose first code was wrong.
    Forged,
    /// Of somebody who is no peer, or for a handshake that is not on its way.
    Unknown,
    /// Not authentic, for all that their first code is right.
    NotAuthentic,
    /// Initiations that came before, or too soon after another.
    Replayed,
    /// Dropped under load: too many of a source, or no room.
    Overload,
    /// Cookies that were sent.
    Cookies,
    /// Packets that have waited for a session, and did not get one.
    GivenUp,
    /// Packets for a peer of whom nobody knows where it is.
    Nowhere,
}

impl Count {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Initiated,
        Self::Forged,
        Self::Unknown,
        Self::NotAuthentic,
        Self::Replayed,
        Self::Overload,
        Self::Cookies,
        Self::GivenUp,
        Self::Nowhere,
    ];

    /// As it is shown: `not-authentic`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Initiated => "initiated",
            Self::Forged => "forged",
            Self::Unknown => "unknown",
            Self::NotAuthentic => "not-authentic",
            Self::Replayed => "replayed",
            Self::Overload => "overload",
            Self::Cookies => "cookies",
            Self::GivenUp => "given-up",
            Self::Nowhere => "no-endpoint",
        }
    }
}
