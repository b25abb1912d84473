//! Verification of batches of Ed25519 signatures (RFC 8032 §5.1.7), with a verdict for each.
//!
//! Owns: what is asked of a signature, and the choice of who answers. Refuses: what dalek's `verify_strict` refuses, and nothing
//! else. That is: a number s that is not below L, a key or a point R that are no points or of small order, an R that is not
//! encoded as RFC 8032 says, and all for which s B = R + k A does not hold as it stands, without a cofactor. A key whose y is
//! p or more is taken as y - p, as dalek does. Keeps true: all backends give the same verdicts, so that all who look at a
//! signature agree on it ("Taming the many EdDSAs", Chalkias, Garillot and Nikolaenko, 2020).
//!
//! **Variable time.** Keys, signatures and messages are public here: branches and addresses depend on them. Nothing in this
//! module may be used on what is secret. How long a group takes also depends on its longest message, and a little on k, which
//! whoever signs can choose by trying: at worst, the chain of doublings is twice as long.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod lanes;
#[cfg(not(target_arch = "x86_64"))]
#[path = "ed25519/none.rs"]
mod lanes;
mod one;

use lanes::{Lanes, WIDTH};

/// Signatures from which on the lanes are quicker than one after the other: a group takes about as long with one as with eight,
/// 1.07 times as long as dalek takes for one (Zen 4, `--bench ed25519`).
const WORTH: usize = 2;

/// L, the order of the base point, is 2^252 and this (RFC 8032 §5.1).
const ORDER_LOW: u128 = 27_742_317_777_372_353_535_851_937_790_883_648_493;
/// L, the lowest byte first.
const ORDER: [u8; 32] = {
    let (low, high) = (ORDER_LOW.to_le_bytes(), (1_u128 << 124).to_le_bytes());
    let (mut order, mut n) = ([0; 32], 0);
    while n < 16 {
        (order[n], order[n + 16]) = (low[n], high[n]);
        n += 1;
    }
    order
};

/// A question: is this the signature of the message, by this key?
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// The encoded point A.
    pub key: &'a [u8; 32],
    /// The encoded point R and the number s, the lowest byte first.
    pub signature: &'a [u8; 64],
    /// Of any length.
    pub message: &'a [u8],
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// One after the other, by dalek.
    Dalek,
    /// Eight at once, with AVX-512 IFMA. It leaves nothing to the others: few signatures are done in a group that is not full.
    Ifma,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Dalek, Self::Ifma];

    /// Whether this processor has what it needs.
    pub fn is_available(self) -> bool {
        match self {
            Self::Dalek => true,
            Self::Ifma => Lanes::is_available(),
        }
    }
}

/// Answers batches of questions.
#[derive(Clone, Debug)]
pub struct Verifier {
    lanes: Option<Lanes>,
    /// Signatures from which on the lanes are used.
    worth: usize,
}

impl Verifier {
    /// With the best of what this processor has, for each batch. The first of a process computes tables, for some milliseconds.
    pub fn new() -> Self {
        Self { lanes: Lanes::new(), worth: WORTH }
    }

    /// With this backend for all batches: for tests and measurements. `None`: the processor does not have it.
    pub fn with(backend: Backend) -> Option<Self> {
        backend
            .is_available()
            .then(|| Self { lanes: Lanes::new().filter(|_| backend == Backend::Ifma), worth: 1 })
    }

    /// Answers all `checks`, any number of them, each in its place in `verdicts`. No allocation.
    ///
    /// # Panics
    ///
    /// If `verdicts` has another length than `checks`.
    pub fn verify(&self, checks: &[Check<'_>], verdicts: &mut [bool]) {
        assert_eq!(checks.len(), verdicts.len(), "as many verdicts as checks");
        if let Some(lanes) = self.lanes {
            return self.verify_groups(lanes, checks, verdicts);
        }
        for (check, verdict) in checks.iter().zip(verdicts) {
            *verdict = one::verify(check);
        }
    }

    /// Answers what is wrong at sight, and gathers the others in groups.
    fn verify_groups(&self, lanes: Lanes, checks: &[Check<'_>], verdicts: &mut [bool]) {
        let (mut group, mut count) = ([0; WIDTH], 0);
        for (n, check) in checks.iter().enumerate() {
            verdicts[n] = false;
            if is_plausible(check.signature) {
                group[count] = n;
                count += 1;
            }
            if count == WIDTH || (n + 1 == checks.len() && count >= self.worth) {
                // Lanes that are left over do one more time what the first does.
                let all: [_; WIDTH] =
                    std::array::from_fn(|lane| &checks[group[if lane < count { lane } else { 0 }]]);
                let right = lanes.verify(&all);
                for (lane, n) in group[..count].iter().enumerate() {
                    verdicts[*n] = right & 1 << lane != 0;
                }
                count = 0;
            }
        }
        for n in &group[..count] {
            verdicts[*n] = one::verify(&checks[*n]);
        }
    }
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether R has a y below p = 2^255 - 19, and s is below L.
fn is_plausible(signature: &[u8; 64]) -> bool {
    let (point, number) = signature.split_at(32);
    let is_least =
        point[0] < 0xed || point[31] & 0x7f != 0x7f || point[1..31].iter().any(|byte| *byte != 0xff);
    is_least && number.iter().rev().lt(ORDER.iter().rev())
}
