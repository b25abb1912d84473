//! What is made of the results of a backend's checks: up or down, with hysteresis. No I/O, no clock.
//!
//! Keeps true: a backend goes down only after `fall` failures in a row, and comes up only after `rise` successes in a row; but
//! the first result about a backend that nothing is known of decides at once.

/// What is known of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    up: bool,
    /// Nothing was tried yet.
    fresh: bool,
    /// Results in a row that contradict `up`.
    against: u32,
}

impl Record {
    /// A backend that is taken to be up or down; with `fresh`, for want of anything better.
    pub fn new(up: bool, fresh: bool) -> Self {
        Self { up, fresh, against: 0 }
    }

    /// Whether it counts as up.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Results in a row that contradict what it counts as.
    pub fn against(&self) -> u32 {
        self.against
    }

    /// Takes a result into account. True: it has changed sides.
    pub fn note(&mut self, success: bool, rise: u32, fall: u32) -> bool {
        let needed = match (self.fresh, success) {
            (true, _) => 1,
            (false, true) => rise,
            (false, false) => fall,
        };
        self.fresh = false;
        if success == self.up {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < needed {
            return false;
        }
        (self.up, self.against) = (success, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the last results themselves.
        #[test]
        fn only_enough_results_in_a_row_change_sides(
            results in prop::collection::vec(prop::bool::weighted(0.6), 1..200), rise in 1..5u32, fall in 1..5u32,
        ) {
            let mut record = Record::new(true, true);
            let mut up = results[0];
            let mut since = 0;
            for (now, success) in results.iter().enumerate() {
                let changed = record.note(*success, rise, fall);
                if now == 0 {
                    prop_assert_eq!((record.is_up(), changed), (up, !up));
                    since = 1;
                    continue;
                }
                let needed = if up { fall } else { rise } as usize;
                let tail = &results[since..=now];
                let row = tail.iter().rev().take_while(|result| **result != up).count();
                prop_assert_eq!(changed, row >= needed, "{} of {}", row, needed);
                if changed {
                    up = !up;
                    since = now + 1;
                }
                prop_assert_eq!(record.is_up(), up);
            }
        }
    }

    #[test]
    fn what_was_known_before_is_not_thrown_over_by_one_result() {
        let mut record = Record::new(true, false);
        assert!(!record.note(false, 2, 3) && record.is_up());
        assert_eq!(record.against(), 1);
        let mut record = Record::new(false, false);
        assert!(!record.note(true, 2, 3) && record.note(true, 2, 3) && record.is_up());
    }
}
