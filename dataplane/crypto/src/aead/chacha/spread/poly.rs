//! Poly1305 of several messages at a time (RFC 8439 §2.5), in the processor's integer unit.
//!
//! Owns: the sums of messages, each a number of three 64-bit limbs; a multiplication by r takes four wide products.
//! Each of these waits for the one before it, so several messages are summed side by side, and their waiting overlaps.
//! Not in vectors: the integer unit has nothing else to do while these make key stream.
//!
//! Keeps true: between blocks a sum is below 2^130 + 2^64; no branch depends on it.

/// A block of a message. In AEAD all blocks are whole: RFC 8439 §2.8 pads with zeros.
pub(super) type Block = [u8; 16];

/// The sum of one message so far, and its key.
#[derive(Clone, Copy)]
pub(super) struct Poly {
    h: [u64; 3],
    r: [u64; 2],
    s: [u64; 2],
}

#[inline(always)]
fn halves(block: &Block) -> [u64; 2] {
    let whole = u128::from_le_bytes(*block);
    [whole as u64, (whole >> 64) as u64]
}

impl Poly {
    /// An empty sum with this one-time key: r, of which some bits are cleared, and s.
    #[inline(always)]
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let [low, high] = key.as_chunks::<16>().0 else { unreachable!("32 bytes are two blocks") };
        let r = halves(low);
        Self { h: [0; 3], r: [r[0] & 0x0fff_fffc_0fff_ffff, r[1] & 0x0fff_fffc_0fff_fffc], s: halves(high) }
    }

    /// One more block: h = (h + block + 2^128) r mod 2^130 - 5.
    #[inline(always)]
    pub(super) fn add(&mut self, block: &Block) {
        let ([h0, h1, h2], [r0, r1], [m0, m1]) = (self.h, self.r.map(u128::from), halves(block));
        let low = u128::from(h0) + u128::from(m0);
        let middle = u128::from(h1) + u128::from(m1) + (low >> 64);
        let (h0, h1) = (u128::from(low as u64), u128::from(middle as u64));
        let h2 = h2 + (middle >> 64) as u64 + 1;
        // r1 is a multiple of 4, and 2^130 is 5: what r1 carries over 2^128 comes back as 5/4 of it.
        let s1 = self.r[1] + (self.r[1] >> 2);
        // None overflows: r0, r1 < 2^60, s1 < 2^61, h2 < 8.
        let low = h0 * r0 + h1 * u128::from(s1);
        let middle = h0 * r1 + h1 * r0 + u128::from(h2 * s1) + (low >> 64);
        let high = h2 * self.r[0] + (middle >> 64) as u64;
        // Bits from 2^130 up, times five.
        let back = u128::from((high >> 2) + (high & !3));
        let low = u128::from(low as u64) + back;
        let middle = u128::from(middle as u64) + (low >> 64);
        self.h = [low as u64, middle as u64, (high & 3) + (middle >> 64) as u64];
    }

    /// The tag: h mod 2^130 - 5, plus s.
    #[inline(always)]
    pub(super) fn tag(&self) -> Block {
        let [h0, h1, h2] = self.h;
        let low = u128::from(h0) + 5;
        let middle = u128::from(h1) + (low >> 64);
        let high = h2 + (middle >> 64) as u64;
        // All ones when h + 5 reached 2^130: then that, without the bit, is the rest of the division.
        let reached = (high >> 2).wrapping_neg();
        let h0 = (h0 & !reached) | (low as u64 & reached);
        let h1 = (h1 & !reached) | (middle as u64 & reached);
        let whole = u128::from(h0) | u128::from(h1) << 64;
        let s = u128::from(self.s[0]) | u128::from(self.s[1]) << 64;
        whole.wrapping_add(s).to_le_bytes()
    }
}
