//! `patch`: a wire between ports. What comes in at one goes out at another, every byte as it was.

use crate::stage::{Cx, Stage};
use zsync_packet::burst::Burst;
use zsync_packet::verdict::{DropReason, PortId, Verdict};

/// Output by input.
#[derive(Clone, Debug)]
pub struct Patch {
    outputs: Vec<Verdict>,
}

impl Patch {
    /// `outputs[port]` is where the packets of `port` go; a port without one drops them.
    pub fn new(outputs: impl IntoIterator<Item = Option<PortId>>) -> Self {
        let verdict =
            |to: Option<PortId>| to.map_or(Verdict::Drop(DropReason::NoSuchPort), Verdict::Transmit);
        Self { outputs: outputs.into_iter().map(verdict).collect() }
    }
}

impl Stage for Patch {
    #[inline]
    fn process(&mut self, burst: &mut Burst, _: &Cx) {
        for i in burst.undecided() {
            let output = self.outputs.get(usize::from(burst.port(i).0));
            burst.decide(i, output.copied().unwrap_or(Verdict::Drop(DropReason::NoSuchPort)));
        }
    }
}

#[cfg(test)]
mod tests;
