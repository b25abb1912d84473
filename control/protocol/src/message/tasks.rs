//! What a data plane says of the tasks of its workers.
//!
//! Owns: the rows, and their limits. Keeps true: a message of [`PART`] rows fits, whatever is in them.

use super::MessageError;
use super::codec::within;
use serde::{Deserialize, Serialize};

/// Most tasks in a message.
pub const PART: usize = 16;
/// Most waits of a task that are told.
pub const MAX_WAITS: usize = 6;
/// Longest place in the program, and longest wait, bytes.
pub const MAX_PLACE: usize = 120;

/// A task of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerTask {
    /// How many tasks it is below of.
    pub depth: u8,
    /// The line that spawned it: `file:line`.
    pub place: String,
    /// What it does.
    pub doing: Doing,
    /// For how long, microseconds.
    pub since_us: u64,
    /// What it waits for, and of how many others each is a part; parts behind what they are parts of.
    pub waits: Vec<(u8, String)>,
}

/// What a task does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doing {
    /// It runs.
    Runs,
    /// It waits for its turn.
    Ready,
    /// It waits for something else.
    #[default]
    Waits,
}

impl WorkerTask {
    /// One that fits: texts are cut to [`MAX_PLACE`] bytes, and the waits to [`MAX_WAITS`].
    pub fn new(
        depth: usize,
        place: String,
        (doing, since_us): (Doing, u64),
        waits: impl Iterator<Item = (usize, String)>,
    ) -> Self {
        let small = |depth: usize| u8::try_from(depth).unwrap_or(u8::MAX);
        let waits = waits.take(MAX_WAITS).map(|(depth, what)| (small(depth), cut(what))).collect();
        Self { depth: small(depth), place: cut(place), doing, since_us, waits }
    }

    pub(super) fn check(&self, kind: &'static str) -> Result<(), MessageError> {
        within(kind, "waits", self.waits.len(), self.waits.len() <= MAX_WAITS, "at most 6")?;
        let texts = self.waits.iter().map(|(_, what)| what).chain([&self.place]);
        let longest = texts.map(String::len).max().unwrap_or(0);
        within(kind, "place", longest, longest <= MAX_PLACE, "at most 120 bytes")
    }
}

/// The end of a text is what tells it from others: its line.
fn cut(mut text: String) -> String {
    if text.len() > MAX_PLACE {
        text.drain(..text.ceil_char_boundary(text.len() - MAX_PLACE));
    }
    text
}
