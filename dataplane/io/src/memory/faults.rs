//! Faults: what a wire and a kernel get wrong on request, by dice that fall the same way for the same seed.
//!
//! Owns: the rates, the dice, and the count of every fault that was injected: a test adds them up against what the device
//! and the ledger saw. Keeps true: a fault that could not happen (nothing to swap, no room for a second copy) is not counted.

/// How often each thing goes wrong, in a million; [`Faults::ALWAYS`] is every time, 0 is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Where the dice start.
    pub seed: u64,
    /// Per `tx_burst`: the TX ring says that it is full.
    pub tx_full: u32,
    /// Per `rx_burst`: fewer packets are given than are there, possibly none.
    pub short_read: u32,
    /// Per packet: it never arrives.
    pub loss: u32,
    /// Per packet: it arrives twice.
    pub duplicate: u32,
    /// Per packet: one of the up to seven behind it overtakes it.
    pub reorder: u32,
    /// Per packet: one bit is flipped.
    pub corrupt: u32,
    /// Per packet: its end is missing.
    pub truncate: u32,
    /// Per completion: an address outside of the arena is completed, too.
    pub foreign_completion: u32,
    /// Per completion: a frame that lies in the fill ring is completed, too.
    pub unsent_completion: u32,
    /// Per completion: it comes a second time.
    pub repeated_completion: u32,
    /// Per received packet: a descriptor that points outside of the arena comes, too.
    pub foreign_descriptor: u32,
    /// Per received packet: its descriptor comes a second time, when the kernel no longer has the frame.
    pub repeated_descriptor: u32,
    /// Per received packet: its length leaves the frame. The packet is lost.
    pub too_long: u32,
}

impl Faults {
    /// The rate of what happens every time.
    pub const ALWAYS: u32 = 1_000_000;

    /// Everything goes wrong equally often, `rate` in a million.
    pub fn all(seed: u64, rate: u32) -> Self {
        Self {
            seed,
            tx_full: rate,
            short_read: rate,
            loss: rate,
            duplicate: rate,
            reorder: rate,
            corrupt: rate,
            truncate: rate,
            foreign_completion: rate,
            unsent_completion: rate,
            repeated_completion: rate,
            foreign_descriptor: rate,
            repeated_descriptor: rate,
            too_long: rate,
        }
    }
}

/// How often each fault of [`Faults`] was injected at one end. The wire's are counted by the sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Calls of `tx_burst` that took nothing.
    pub tx_full: u64,
    /// Calls of `rx_burst` that gave fewer packets than were there.
    pub short_read: u64,
    /// Packets that were lost on the wire.
    pub lost: u64,
    /// Second copies on the wire.
    pub duplicated: u64,
    /// Packets that were overtaken.
    pub reordered: u64,
    /// Packets, copies not counted, with a flipped bit.
    pub corrupted: u64,
    /// Packets, copies not counted, without their end.
    pub truncated: u64,
    /// Completions of addresses outside of the arena: the device's `bad_descriptors`.
    pub foreign_completions: u64,
    /// Completions of frames in the fill ring: the device's `double_completed`.
    pub unsent_completions: u64,
    /// Second completions: the device's `double_completed`.
    pub repeated_completions: u64,
    /// RX descriptors that point outside of the arena: the device's `bad_descriptors`.
    pub foreign_descriptors: u64,
    /// RX descriptors of frames that the kernel no longer has: the device's `bad_descriptors`.
    pub repeated_descriptors: u64,
    /// RX descriptors that leave their frame: the device's `bad_descriptors`, and a packet lost.
    pub too_long: u64,
}

impl Injected {
    /// What the device's `bad_descriptors` has to be, once it has seen everything.
    pub fn bad_descriptors(&self) -> u64 {
        self.foreign_completions + self.foreign_descriptors + self.repeated_descriptors + self.too_long
    }

    /// What the device's `double_completed` has to be, once it has seen everything.
    pub fn double_completed(&self) -> u64 {
        self.unsent_completions + self.repeated_completions
    }
}

/// Random numbers (SplitMix64: Steele, Lea and Flood, OOPSLA 2014): a word of state, and good enough for dice.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when that is 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    /// Whether what happens `rate` times in a million happens now. A rate of 0 does not move the dice.
    #[inline]
    pub(super) fn strike(&mut self, rate: u32) -> bool {
        rate != 0 && self.below(Faults::ALWAYS as usize) < rate as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_falls_the_same_way_and_rates_are_kept() {
        let (mut one, mut two) = (Dice::new(7), Dice::new(7));
        assert!((0..100).all(|_| one.next() == two.next()));
        let hits = (0..100_000).filter(|_| one.strike(250_000)).count();
        assert!((24_000..26_000).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| one.strike(Faults::ALWAYS) && !one.strike(0)));
        assert_eq!(one.below(0), 0);
    }
}
