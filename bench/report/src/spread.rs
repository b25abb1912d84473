//! Minimum, median and maximum of samples.

use serde::Serialize;

/// Where samples lie. All of them are finite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub minimum: f64,
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// The greatest.
    pub maximum: f64,
}

impl Spread {
    /// Of those samples that are numbers; `None` when there are none.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.iter().copied().filter(|sample| sample.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&minimum, &maximum) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let upper = sorted[middle];
        let lower = if sorted.len().is_multiple_of(2) { sorted[middle - 1] } else { upper };
        // Halves before the sum: the sum of two may be more than a number can be.
        Some(Self { minimum, median: (lower / 2.0 + upper / 2.0).clamp(minimum, maximum), maximum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_median_is_the_middle_one_or_the_mean_of_the_middle_two() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { minimum: 1.0, median: 2.0, maximum: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(&[f64::NAN, 7.0]).unwrap().maximum, 7.0);
        assert_eq!(Spread::of(&[f64::INFINITY]), None);
        assert_eq!(Spread::of(&[]), None);
    }

    proptest! {
        #[test]
        fn as_many_samples_lie_below_the_median_as_above(samples in prop::collection::vec(-1e300..1e300, 1..50)) {
            let spread = Spread::of(&samples).unwrap();
            let below = samples.iter().filter(|&&sample| sample < spread.median).count();
            let above = samples.iter().filter(|&&sample| sample > spread.median).count();
            prop_assert!(below <= samples.len() / 2 && above <= samples.len() / 2);
            prop_assert!(spread.minimum <= spread.median && spread.median <= spread.maximum);
        }
    }
}
