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

    #[inline]
    fn output(&self, port: PortId) -> Verdict {
        self.outputs.get(usize::from(port.0)).copied().unwrap_or(Verdict::Drop(DropReason::NoSuchPort))
    }
}

impl Stage for Patch {
    #[inline]
    fn process(&mut self, burst: &mut Burst, _: &mut Cx<'_>) {
        // As a rule: a burst is what one queue received.
        if let Some(port) = burst.common_port() {
            burst.decide_all(self.output(port));
            return;
        }
        for i in burst.undecided() {
            burst.decide(i, self.output(burst.port(i)));
        }
    }

    fn explain(&self, burst: &Burst, i: usize, _: u64, out: &mut Vec<String>) {
        out.push(match self.output(burst.port(i)) {
            Verdict::Transmit(_) => "the wire of the port that it came in at".to_owned(),
            _ => "no wire begins at the port that it came in at".to_owned(),
        });
    }
}

#[cfg(test)]
mod tests;
