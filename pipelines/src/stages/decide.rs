//! `drop` and `punt`: the same answer for every packet.

use crate::stage::{Cx, Stage};
use zsync_packet::burst::Burst;
use zsync_packet::verdict::{DropReason, Verdict};

/// Decides about every packet that reaches it.
#[derive(Clone, Copy, Debug)]
pub struct Decide {
    verdict: Verdict,
}

impl Decide {
    /// Drops everything, as configured.
    pub const DROP: Self = Self { verdict: Verdict::Drop(DropReason::Configured) };
    /// Gives everything to the kernel.
    pub const PUNT: Self = Self { verdict: Verdict::Punt };
}

impl Stage for Decide {
    #[inline]
    fn process(&mut self, burst: &mut Burst, _: &mut Cx<'_>) {
        burst.decide_all(self.verdict);
    }

    fn explain(&self, _: &Burst, _: usize, _: u64, out: &mut Vec<String>) {
        out.push("every packet, as configured".to_owned());
    }
}

#[cfg(test)]
mod tests;
