//! Who started a run, as a benchmark of a library of its own sees them.

/// Who started a run: is told how far it is, and may stop it.
pub trait Watch {
    /// `done` of `total` steps are behind it, and this one is under way.
    fn step(&self, done: usize, total: usize, what: &str);

    /// Whether the run is to stop: the round under way does not count then.
    fn is_cancelled(&self) -> bool;
}

/// Nobody who looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn step(&self, _done: usize, _total: usize, _what: &str) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}
