//! In place of the lanes, for processors that have none.

use super::Check;

/// Signatures in a group, if there were any.
pub(super) const WIDTH: usize = 8;

/// There is none of these.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lanes {}

impl Lanes {
    /// It is not.
    pub(super) fn is_available() -> bool {
        false
    }

    /// `None`.
    pub(super) fn new() -> Option<Self> {
        None
    }

    /// Nobody has what this is asked of.
    pub(super) fn verify(self, _checks: &[&Check<'_>; WIDTH]) -> u8 {
        match self {}
    }
}
