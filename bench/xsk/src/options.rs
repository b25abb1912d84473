//! What a socket is opened with.

/// Most packets of a burst.
pub const BURST: usize = 64;

/// Options of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Entries of each of the four rings: a power of two, 64 to 32768. A frame of 4096 bytes is made for each entry that
    /// can have one, and pinned.
    pub ring: u32,
    /// Packets that are handed over at a time: 1 to [`BURST`].
    pub burst: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring: 2048, burst: BURST }
    }
}
