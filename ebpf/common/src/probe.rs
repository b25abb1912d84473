//! The short probe of the traffic generators, as words: by it the far end of a measurement knows a packet.
//!
//! The layout is documented where it is read and written whole (the crate `zsync-traffic`); here is what the generator that
//! runs in the kernel writes too, so that there is one of it.

/// Bytes of a short probe.
pub const SHORT: usize = 18;
/// Nanoseconds that a short probe's clock counts in.
pub const SHORT_UNIT: u64 = 8;
/// What a short probe begins with.
pub const SHORT_MAGIC: [u8; 2] = [0x5a, 0x73];
/// What the payload of a packet begins with that is only load: counted by the far end, and read by nobody.
pub const LOAD_MAGIC: [u8; 2] = [0x5a, 0x9a];

/// Scatters a number: inputs that differ give outputs that differ, in about half of the bits (the finalizer of SplitMix64).
#[inline(always)]
pub fn mix(number: u64) -> u64 {
    let z = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// The first four bytes of a probe: the magic, and the check that is the top of `sum`.
#[inline(always)]
pub fn head(magic: [u8; 2], sum: u64) -> u32 {
    (magic[0] as u32) << 24 | (magic[1] as u32) << 16 | (sum >> 48) as u32
}

/// A time in 8 bits: 5 of exponent, 3 of mantissa and a hidden one above it; rounded down, up to 16 s.
#[inline(always)]
pub fn lateness(ns: u64) -> u8 {
    let exponent = (64 - ns.leading_zeros()).saturating_sub(4);
    match exponent {
        0 if ns < 8 => ns as u8,
        0..=30 => ((exponent + 1) << 3) as u8 | (ns >> exponent) as u8 & 7,
        _ => u8::MAX,
    }
}

/// What a short probe tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// The run's low bits.
    pub run: u16,
    /// The flow, below 2²⁴.
    pub flow: u32,
    /// The low bits of the sequence number in the flow.
    pub sequence: u32,
    /// When the packet was to leave, ns.
    pub intended: u64,
    /// When it left, ns.
    pub departed: u64,
}

impl Short {
    /// The probe of a payload of `len` bytes, in big-endian words: 4 bytes, 8 bytes, and the last 6 of 8 bytes.
    #[inline(always)]
    pub fn words(&self, len: u64) -> (u32, u64, u64) {
        let late = lateness(self.departed.saturating_sub(self.intended));
        let front = (self.run as u64) << 48
            | ((self.flow & 0x00ff_ffff) as u64) << 24
            | (late as u64) << 16
            | (self.sequence >> 16) as u64;
        let back = (self.sequence as u16 as u64) << 32 | (self.intended / SHORT_UNIT) as u32 as u64;
        (head(SHORT_MAGIC, mix(mix(len ^ front) ^ (1 << 48 | back))), front, back)
    }
}
