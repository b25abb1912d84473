//! How a load stands to a goal: its classification and its conditional throughput (RFC 9971 §6, appendices A and B).
//!
//! Owns the arithmetic over the trials of one load. Keeps true: a load's class depends on its trials only, and not on their
//! order.

use super::goal::Goal;
use crate::trial::Measured;
use std::time::Duration;

/// Rounds of a goal: each halves the width, and lengthens the trials, on the way to the goal's own.
pub const ROUNDS: u32 = 3;

/// How a load stands to a goal (RFC 9971 §4.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Lower,
    Upper,
    Undecided,
}

/// A goal as one round sees it.
pub struct Target {
    pub loss_ratio: f64,
    pub exceed_ratio: f64,
    pub duration: f64,
    pub longest: f64,
    pub sum: f64,
    pub width: f64,
}

/// A trial, and for how long it was meant to be: no trial lasts to the nanosecond, and RFC 9971 classifies by intent
/// (§4.5.1). The Trial Effective Duration (§4.5.8) is the same.
#[derive(Clone, Copy)]
pub struct Noted {
    pub seconds: f64,
    pub measured: Measured,
}

impl Target {
    pub fn of(goal: &Goal, round: u32) -> Self {
        let left = ROUNDS - 1 - round;
        let part = f64::from(round) / f64::from(ROUNDS - 1);
        let between = |from: Duration, to: Duration| match left {
            0 => to.as_secs_f64(),
            _ => from.as_secs_f64() * (to.as_secs_f64() / from.as_secs_f64()).powf(part),
        };
        Self {
            loss_ratio: goal.loss_ratio,
            exceed_ratio: goal.exceed_ratio,
            duration: between(goal.initial, goal.last),
            longest: goal.last.as_secs_f64(),
            sum: between(goal.initial, goal.sum),
            width: (goal.width * f64::from(1 << left)).min(0.5),
        }
    }

    fn is_full(&self, trial: &Noted) -> bool {
        // Durations pass through floats: a nanosecond less is not short.
        trial.seconds >= self.duration - 1e-6
    }

    /// RFC 9971 §6.1 and appendix A.
    pub fn classify(&self, trials: &[Noted]) -> Class {
        let (mut full_low, mut full_high, mut short_low, mut short_high) = (0.0, 0.0, 0.0, 0.0);
        for trial in trials {
            let sum = match (self.is_full(trial), trial.measured.loss_ratio() > self.loss_ratio) {
                (true, false) => &mut full_low,
                (true, true) => &mut full_high,
                (false, false) => &mut short_low,
                (false, true) => &mut short_high,
            };
            *sum += trial.seconds;
        }
        // Short trials without loss prove nothing, but they excuse short trials with loss.
        let balance = short_low * self.exceed_ratio / (1.0 - self.exceed_ratio);
        let high = full_high + f64::max(0.0, short_high - balance);
        let whole = f64::max(full_low + high, self.sum);
        let allowed = whole * self.exceed_ratio;
        if whole - full_low <= allowed + 1e-6 {
            Class::Lower
        } else if high > allowed + 1e-6 {
            Class::Upper
        } else {
            Class::Undecided
        }
    }

    /// Conditional Throughput at a load (RFC 9971 §6.2 and appendix B): its rate less the loss ratio that the goal's share
    /// of the time kept.
    pub fn conditional_throughput(&self, rate: f64, trials: &[Noted]) -> f64 {
        let mut full: Vec<_> = trials.iter().filter(|trial| self.is_full(trial)).collect();
        full.sort_by(|a, b| a.measured.loss_ratio().total_cmp(&b.measured.loss_ratio()));
        let whole: f64 = full.iter().map(|trial| trial.seconds).sum();
        let mut remaining = whole.max(self.sum) * (1.0 - self.exceed_ratio);
        let mut loss_ratio = 1.0;
        for trial in full {
            loss_ratio = trial.measured.loss_ratio();
            remaining -= trial.seconds;
            if remaining <= 1e-6 {
                return rate * (1.0 - loss_ratio);
            }
        }
        // The trials were too few for the share: the time that is missing counts as lost.
        if remaining > 1e-6 { 0.0 } else { rate * (1.0 - loss_ratio) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(seconds: u64, lost: u64) -> Noted {
        let (received, duration) = (1000 - lost, Duration::from_secs(seconds));
        let measured = Measured { asked: 1e3, offered: 1e3, sent: 1000, received, duration, latency: None };
        Noted { seconds: seconds as f64, measured }
    }

    fn target(exceed_ratio: f64) -> Target {
        Target { loss_ratio: 0.0, exceed_ratio, duration: 2.0, longest: 2.0, sum: 6.0, width: 0.01 }
    }

    #[test]
    fn a_load_is_classified_by_the_durations_of_its_trials() {
        assert_eq!(target(0.5).classify(&[]), Class::Undecided);
        assert_eq!(target(0.5).classify(&[trial(2, 0)]), Class::Undecided);
        // Half of the duration sum without loss decides at an exceed ratio of one half; more than half with loss, too.
        assert_eq!(target(0.5).classify(&[trial(2, 0), trial(2, 0)]), Class::Lower);
        assert_eq!(target(0.5).classify(&[trial(2, 1), trial(2, 1)]), Class::Upper);
        // Without an exceed ratio, one lossy trial, even a short one, is enough, and no lossless short trial is.
        assert_eq!(target(0.0).classify(&[trial(1, 1), trial(2, 0)]), Class::Upper);
        assert_eq!(target(0.0).classify(&[trial(1, 0); 6]), Class::Undecided);
        assert_eq!(target(0.0).classify(&[trial(2, 0); 3]), Class::Lower);
        // Short lossless trials excuse short lossy ones.
        assert_eq!(target(0.5).classify(&[trial(1, 1); 4]), Class::Upper);
        let excused: Vec<_> = [[trial(1, 1); 4], [trial(1, 0); 4]].concat();
        assert_eq!(target(0.5).classify(&excused), Class::Undecided);
    }

    #[test]
    fn the_conditional_throughput_is_of_the_quantile_and_not_of_the_best_trial() {
        let trials = [trial(2, 0), trial(2, 10), trial(2, 500)];
        assert_eq!(target(0.5).conditional_throughput(1e3, &trials), 990.0);
        assert_eq!(target(0.0).conditional_throughput(1e3, &trials), 500.0);
        assert_eq!(target(0.0).conditional_throughput(1e3, &trials[..2]), 0.0);
    }

    /// Goals and trials of the example search in RFC 9971, appendix C. Its table calls the load a lower bound of the fourth
    /// goal at points 5 and 6, though the exceed ratios that it gives there, 42.9 % and 27.3 %, are above that goal's 20 %:
    /// by §6.1 and appendix A it is an upper bound, and so it is here.
    #[test]
    fn the_example_search_of_the_rfc_is_classified_as_its_appendix_a_has_it() {
        use Class::{Lower, Undecided, Upper};
        let goal = |last, sum, loss_ratio, exceed_ratio| {
            let [last, sum] = [last, sum].map(Duration::from_secs);
            Target::of(
                &Goal { loss_ratio, initial: last, last, sum, exceed_ratio, ..Goal::ndr() },
                ROUNDS - 1,
            )
        };
        let goals = [
            goal(60, 60, 0.0, 0.0),
            goal(60, 120, 0.0, 0.5),
            goal(1, 120, 0.005, 0.5),
            goal(60, 60, 0.005, 0.2),
        ];
        let points = [
            (vec![trial(1, 0); 59], [Undecided, Undecided, Undecided, Undecided]),
            (vec![trial(1, 10)], [Upper, Undecided, Undecided, Undecided]),
            (vec![trial(1, 10); 59], [Upper, Undecided, Undecided, Upper]),
            (vec![trial(1, 0)], [Upper, Undecided, Lower, Upper]),
            (vec![trial(60, 1)], [Upper, Undecided, Lower, Upper]),
            (vec![trial(60, 0)], [Upper, Lower, Lower, Upper]),
        ];
        let mut trials = vec![];
        for (point, (added, classes)) in points.into_iter().enumerate() {
            trials.extend(added);
            assert_eq!(goals.each_ref().map(|goal| goal.classify(&trials)), classes, "point {}", point + 1);
        }
        let throughput = goals.each_ref().map(|goal| goal.conditional_throughput(1e6, &trials));
        assert_eq!(throughput[1..], [1e6, 1e6, 999e3]);
    }
}
