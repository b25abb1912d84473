//! Weights made into member slots.
//!
//! Keeps true: every hop has a slot, all together are at most [`HOP_LIMIT`], and shares are as near to the weights as that allows.

use std::cmp::Ordering;

use super::hops::HOP_LIMIT;

/// Member slots for each weight (none 0, at most [`HOP_LIMIT`] of them): exact where the weights' sum, without their common
/// divisor, fits; else [`HOP_LIMIT`] slots by largest remainder, and at least one for each.
pub(super) fn shares(weights: &[u8]) -> Vec<u32> {
    let limit = HOP_LIMIT as u32;
    let divisor = weights.iter().fold(0, |a, b| gcd(a, u32::from(*b))).max(1);
    let exact: Vec<u32> = weights.iter().map(|weight| u32::from(*weight) / divisor).collect();
    let sum: u32 = exact.iter().sum();
    if sum <= limit { exact } else { apportion(&exact, limit) }
}

/// `limit` slots by largest remainder for these weights (none 0, no more of them than slots), and at least one for each.
pub(super) fn apportion(exact: &[u32], limit: u32) -> Vec<u32> {
    let sum: u32 = exact.iter().sum();
    let mut shares: Vec<u32> = exact.iter().map(|weight| (weight * limit / sum).max(1)).collect();
    // How far each is below its due, in 1/sum of a slot.
    let owed = |share: u32, weight: u32| i64::from(weight * limit) - i64::from(share) * i64::from(sum);
    for _ in 0..2 * HOP_LIMIT {
        let given: u32 = shares.iter().sum();
        let pairs = shares.iter_mut().zip(exact);
        let (change, one) = match given.cmp(&limit) {
            Ordering::Equal => break,
            Ordering::Less => (pairs.max_by_key(|(share, weight)| owed(**share, **weight)), 1),
            Ordering::Greater => {
                let givers = pairs.filter(|(share, _)| **share > 1);
                (givers.min_by_key(|(share, weight)| owed(**share, **weight)), -1)
            }
        };
        if let Some((share, _)) = change {
            *share = share.saturating_add_signed(one);
        }
    }
    shares
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_of_small_weights_are_exact() {
        assert_eq!(shares(&[1, 1]), [1, 1]);
        assert_eq!(shares(&[100, 50]), [2, 1]);
        assert_eq!(shares(&[255, 1]), [255, 1]);
        assert_eq!(shares(&[255; 256]), [1; 256]);
    }

    proptest! {
        #[test]
        fn shares_are_within_one_slot_of_the_weights(weights in prop::collection::vec(1u8..=255, 2..=HOP_LIMIT)) {
            let shares = shares(&weights);
            let total: u32 = shares.iter().sum();
            prop_assert!(total <= HOP_LIMIT as u32 && shares.iter().all(|share| *share > 0));
            let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let crowded = weights.iter().any(|weight| f64::from(*weight) * (HOP_LIMIT as f64) < sum);
            for (weight, share) in weights.iter().zip(&shares) {
                let due = f64::from(*weight) * f64::from(total) / sum;
                // Where some get a slot that they are not due, others give more than a fraction of one.
                prop_assert!(crowded || (due - f64::from(*share)).abs() < 1.0, "{weight}: {share} of {total}");
            }
        }
    }
}
