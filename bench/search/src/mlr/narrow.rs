//! The loads of a search: which is tried next, and for how long.

use super::classify::{Class, Noted, ROUNDS, Target};
use super::goal::Goal;
use super::result::GoalResult;
use crate::run::{Attempt, Ending, Limits, Run, SearchError};
use crate::trial::Trial;
use std::time::Duration;

/// Trials at one load.
pub struct Load {
    rate: f64,
    trials: Vec<Noted>,
}

pub struct Search<'a, T> {
    pub run: Run<'a, T>,
    pub loads: Vec<Load>,
    /// Packets that a trial needs for any goal, unless it is a full-length one.
    pub packets: f64,
}

impl<T: Trial> Search<'_, T> {
    pub fn pursue(&mut self, goal: &Goal, from: u32) -> Result<Ending, SearchError<T::Error>> {
        let mut hints = (None, None);
        for round in from..ROUNDS {
            let target = Target::of(goal, round);
            let ending = self.narrow(&target, hints)?;
            // A short trial that met the goal at the maximum, or missed it at the minimum, is for longer ones to confirm.
            let inner = matches!(ending, Ending::TimeLimit(_) | Ending::Cancelled);
            if inner || round == ROUNDS - 1 {
                return Ok(ending);
            }
            hints = self.bounds(&target);
        }
        Ok(Ending::Complete)
    }

    /// Tries loads until the target's bounds are near enough, or cannot be.
    fn narrow(
        &mut self,
        target: &Target,
        (low_hint, high_hint): (Option<f64>, Option<f64>),
    ) -> Result<Ending, SearchError<T::Error>> {
        let Limits { minimum, maximum, .. } = self.run.limits;
        let (mut up, mut down) = (target.width, target.width);
        loop {
            let candidate = match self.bounds(target) {
                (Some(low), Some(high)) if (high - low) / high <= target.width => {
                    return Ok(Ending::Complete);
                }
                (Some(low), _) if low >= maximum => return Ok(self.run.above(low)),
                (Some(low), high) => {
                    // Small steps up first: the device's capacity is mostly just above what it forwarded under overload.
                    let step = low / (1.0 - up);
                    up = (up * 2.0).min(0.5);
                    let hint = high_hint.filter(|&hint| hint > low);
                    high.map_or(hint.unwrap_or(step), |high| (low * high).sqrt().min(step))
                }
                (None, Some(high)) if high <= minimum => return Ok(Ending::BelowMinimum(high)),
                (None, Some(high)) => {
                    let step = high * (1.0 - down);
                    down = (down * 2.0).min(0.5);
                    let forwarded = self.forwarded(high).map_or(step, |rate| rate.min(step));
                    low_hint.filter(|&hint| hint < high).unwrap_or(forwarded)
                }
                (None, None) => low_hint.or(high_hint).unwrap_or(self.run.ceiling),
            };
            let low = self.bounds(target).0;
            let mut rate = candidate.clamp(minimum, maximum);
            loop {
                rate = rate.min(self.run.ceiling);
                if rate < minimum {
                    return Ok(self.run.bottleneck(self.run.ceiling));
                }
                if low.is_some_and(|low| low >= rate) {
                    return Ok(self.run.above(self.offered(low.unwrap_or(rate))));
                }
                if self.class(target, rate) != Class::Undecided {
                    break;
                }
                let duration = self.seconds(target, rate);
                match self.run.attempt(rate, Duration::from_secs_f64(duration))? {
                    Attempt::Ended(ending) => return Ok(ending),
                    Attempt::Short => (),
                    Attempt::Measured(measured) => self.note(rate, Noted { seconds: duration, measured }),
                }
            }
        }
    }

    /// How long a trial for the target is at that rate: long enough for its packets to tell a loss ratio.
    fn seconds(&self, target: &Target, rate: f64) -> f64 {
        match target.duration.max(self.packets / rate) {
            // Where little is saved by a short trial, a full-length one counts for the last round too.
            seconds if seconds > target.longest / 2.0 => target.longest,
            seconds => seconds,
        }
    }

    fn note(&mut self, rate: f64, trial: Noted) {
        match self.loads.iter_mut().find(|load| load.rate == rate) {
            Some(load) => load.trials.push(trial),
            None => self.loads.push(Load { rate, trials: vec![trial] }),
        }
    }

    fn trials(&self, rate: f64) -> &[Noted] {
        self.loads.iter().find(|load| load.rate == rate).map_or(&[], |load| &load.trials)
    }

    fn class(&self, target: &Target, rate: f64) -> Class {
        target.classify(self.trials(rate))
    }

    /// The Relevant Upper Bound is the least upper bound; the Relevant Lower Bound the greatest lower bound below it.
    fn bounds(&self, target: &Target) -> (Option<f64>, Option<f64>) {
        let of = |class| {
            let loads = self.loads.iter().filter(move |load| target.classify(&load.trials) == class);
            loads.map(|load| load.rate)
        };
        let upper = of(Class::Upper).min_by(f64::total_cmp);
        let lower = of(Class::Lower).filter(|&rate| upper.is_none_or(|upper| rate < upper));
        (lower.max_by(f64::total_cmp), upper)
    }

    /// What the device forwarded at that load: under overload, a guess of its capacity.
    fn forwarded(&self, rate: f64) -> Option<f64> {
        self.trials(rate).last().map(|trial| trial.measured.forwarding_rate())
    }

    /// The least that was offered in trials at that load.
    fn offered(&self, rate: f64) -> f64 {
        self.trials(rate).iter().map(|trial| trial.measured.reached()).fold(rate, f64::min)
    }

    pub fn result(&self, goal: &Goal, ending: Ending) -> GoalResult {
        let target = Target::of(goal, ROUNDS - 1);
        let (lower, upper) = self.bounds(&target);
        GoalResult {
            goal: goal.clone(),
            ending,
            lower: lower.map(|rate| self.offered(rate)),
            lower_load: lower,
            upper,
            conditional_throughput: lower
                .map(|rate| target.conditional_throughput(self.offered(rate), self.trials(rate))),
        }
    }
}
