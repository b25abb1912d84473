//! `mirror`: copies of some packets to a port, or into a capture file. The packets themselves go on, unchanged.
//!
//! Owns the generator of its choices. Refuses nothing: a copy for which there is no frame, no room in the burst, or none in the
//! ring to the control process is not made; the ring counts these. Keeps true: of the packets that it may copy, each is copied
//! with a chance of one in `one-in`, whatever came before it, so that no pattern of traffic hides from it.
//!
//! A copy is what the packet is at this stage: ahead of NAT or behind it, with its tag or without.

use crate::spec::mirror::{MirrorSpec, MirrorTo};
use crate::stage::{Cx, Stage};
use crate::state::{State, StateSize};
use crate::tables::capture_ring::CaptureRing;
use zsync_packet::burst::Burst;
use zsync_packet::verdict::{PortId, Verdict};

/// See the module.
#[derive(Clone, Debug)]
pub struct Mirror {
    to: To,
    one_in: u32,
    mark: Option<u32>,
    snap: usize,
    /// Bytes of a ring.
    ring: usize,
    /// State of a generator (xorshift64*, Vigna 2016); never 0.
    random: u64,
    /// Packets to let pass ahead of the next copy.
    skip: u64,
}

#[derive(Clone, Debug)]
enum To {
    Port(PortId),
    /// The rings of all workers, and that of this one once it is known.
    Ring(Option<State>, Option<CaptureRing>),
}

impl Mirror {
    /// What the stage keeps, if anything: a ring for each worker.
    pub fn size(spec: &MirrorSpec) -> Option<StateSize> {
        let each = CaptureRing::bytes(spec.ring as usize);
        matches!(spec.to, MirrorTo::File(_)).then_some(StateSize { shared: 0, each })
    }

    /// As `spec` says; `seed` sets which packets are chosen; a mirror to a file has `state`.
    pub fn new(spec: &MirrorSpec, state: Option<State>, seed: u64) -> Self {
        let to = match &spec.to {
            MirrorTo::Port(port) => To::Port(PortId(port.0)),
            MirrorTo::File(_) => To::Ring(state, None),
        };
        let mut mirror = Self {
            to,
            one_in: spec.one_in.max(1),
            mark: spec.mark,
            snap: spec.snap.max(1) as usize,
            ring: spec.ring as usize,
            random: seed | 1,
            skip: 0,
        };
        mirror.skip = mirror.gap();
        mirror
    }

    /// Packets to let pass ahead of the next copy: geometrically distributed, so that each packet has the same chance, for one
    /// logarithm a copy.
    fn gap(&mut self) -> u64 {
        if self.one_in == 1 {
            return 0;
        }
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        // In (0, 1]: 53 bits are what a double holds.
        let uniform = (bits + 1) as f64 / (1u64 << 53) as f64;
        let stay = (1.0 - 1.0 / f64::from(self.one_in)).ln();
        (uniform.ln() / stay) as u64
    }
}

impl Stage for Mirror {
    #[inline]
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let live = burst.live();
        // Often no packet of a burst is copied.
        if self.mark.is_none() {
            let count = u64::from(live.count_ones());
            if self.skip >= count {
                self.skip -= count;
                return;
            }
        }
        for i in burst.undecided() {
            if self.mark.is_some_and(|mark| burst.facts(i).mark != mark) {
                continue;
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            self.skip = self.gap();
            let (packet, port) = (burst.bytes(i), burst.port(i));
            match &self.to {
                To::Port(to) => {
                    let len = packet.len().min(self.snap);
                    let copied = |copy: &mut [u8]| copy.copy_from_slice(&packet[..len]);
                    let _ = cx.spawn(i, port, len, Verdict::Transmit(*to), 0, copied);
                }
                To::Ring(_, Some(ring)) => {
                    ring.put(packet, self.snap, cx.now, port);
                }
                To::Ring(_, None) => {}
            }
        }
    }

    fn explain(&self, burst: &Burst, i: usize, _: u64, out: &mut Vec<String>) {
        if let Some(mark) = self.mark.filter(|mark| burst.facts(i).mark != *mark) {
            return out.push(format!("not copied: its mark is {:#x}, not {mark:#x}", burst.facts(i).mark));
        }
        let to = match self.to {
            To::Port(_) => "to a port",
            To::Ring(..) => "into the capture file",
        };
        let often = match self.one_in {
            1 => "every packet is copied".to_owned(),
            n => format!("one of {n} packets, at random, is copied"),
        };
        let len = burst.bytes(i).len();
        let cut = if len > self.snap { format!(", {} of its {len} bytes", self.snap) } else { String::new() };
        out.push(format!("{often} {to}{cut}"));
    }

    fn assign(&mut self, worker: usize) {
        // Workers choose apart from each other.
        self.random = self.random.wrapping_add((worker as u64) << 1).max(1);
        self.skip = self.gap();
        if let To::Ring(state, ring) = &mut self.to {
            let shard = state.as_ref().and_then(|state| state.shard(worker));
            *ring = shard.and_then(|shard| CaptureRing::open(shard, self.ring));
        }
    }
}

#[cfg(test)]
mod tests;
