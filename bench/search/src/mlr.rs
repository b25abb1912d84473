//! Multiple loss ratio search (RFC 9971): several goals, such as NDR and PDR, in one search.
//!
//! A goal is met at a load when its trials, weighed by their durations, say so; the search narrows an interval with short
//! trials and wide steps first, and lets long trials only confirm. All goals share all trials. Owns the choice of loads.
//!
//! Keeps true: the result of each goal is classified from all trials of the search, so that of two goals which differ in
//! their loss ratio only, the laxer one never has the lower bound below the other's.

use crate::run::{Attempt, Ending, Limits, Run, SearchError, Watch};
use crate::trial::{Measured, Rate, Record, Trial};
use std::fmt;
use std::time::Duration;

/// Rounds of a goal: each halves the width, and lengthens the trials, on the way to the goal's own.
const ROUNDS: u32 = 3;
/// Packets that a goal's loss ratio must allow to be lost in a short trial: fewer of them tell no ratio, and one lossy trial
/// can decide a load for good.
const LOST_PACKETS: f64 = 50.0;

/// What is searched for (RFC 9971, Search Goal attributes).
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// Its name in the report.
    pub name: &'static str,
    /// Goal Loss Ratio, 0 up to (not including) 1: a trial above it is a high-loss trial.
    pub loss_ratio: f64,
    /// Goal Initial Trial Duration: of the first trials.
    pub initial: Duration,
    /// Goal Final Trial Duration: trials at least this long are full-length ones.
    pub last: Duration,
    /// Goal Duration Sum: for how long full-length trials decide a load.
    pub sum: Duration,
    /// Goal Exceed Ratio, 0 up to (not including) 1: the part of that time which may be of high loss.
    pub exceed_ratio: f64,
    /// Goal Width, relative: (upper − lower) / upper, above 0 and below 1.
    pub width: f64,
}

impl Goal {
    /// The non-drop rate: no packet lost in 30 s, to 0.5 %.
    pub const fn ndr() -> Self {
        let (initial, last) = (Duration::from_secs(1), Duration::from_secs(30));
        Self { name: "NDR", loss_ratio: 0.0, initial, last, sum: last, exceed_ratio: 0.0, width: 0.005 }
    }

    /// The partial drop rate: at most 0.5 % of the packets lost in 30 s, to 0.5 %.
    pub const fn pdr() -> Self {
        Self { name: "PDR", loss_ratio: 0.005, ..Self::ndr() }
    }

    fn is_sound(&self) -> bool {
        (0.0..1.0).contains(&self.loss_ratio)
            && (0.0..1.0).contains(&self.exceed_ratio)
            && self.width >= 1e-6
            && self.width < 1.0
            && !self.initial.is_zero()
            && self.initial <= self.last
            && self.last <= self.sum
    }
}

/// How a load stands to a goal (RFC 9971, Load Classification).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    Undecided,
}

/// A goal as one round sees it.
struct Target {
    loss_ratio: f64,
    exceed_ratio: f64,
    duration: f64,
    longest: f64,
    sum: f64,
    width: f64,
}

impl Target {
    fn of(goal: &Goal, round: u32) -> Self {
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

    /// RFC 9971, appendix with the load classification code.
    fn classify(&self, trials: &[Noted]) -> Class {
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

    /// Conditional Throughput at a load (RFC 9971): its rate less the loss ratio that the goal's share of the time kept.
    fn conditional_throughput(&self, rate: f64, trials: &[Noted]) -> f64 {
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

/// What was found of one goal.
#[derive(Clone, Debug, PartialEq)]
pub struct GoalResult {
    /// The goal.
    pub goal: Goal,
    /// [`Ending::Complete`] makes the result regular; anything else is the reason why it is irregular.
    pub ending: Ending,
    /// Relevant Lower Bound, packets per second: the greatest load that met the goal, and never above what was offered.
    pub lower: Option<f64>,
    /// Relevant Upper Bound, packets per second: the least load that missed it.
    pub upper: Option<f64>,
    /// Conditional Throughput, packets per second: what the device forwarded at the lower bound.
    pub conditional_throughput: Option<f64>,
}

impl GoalResult {
    /// Whether both bounds are known and as near as the goal wants them.
    pub fn is_regular(&self) -> bool {
        self.ending == Ending::Complete
    }
}

impl fmt::Display for GoalResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.goal.name;
        let bound = |bound: Option<f64>| bound.map_or("unknown".to_owned(), |rate| Rate(rate).to_string());
        let (lower, upper) = (bound(self.lower), bound(self.upper));
        match self.ending {
            Ending::Complete => write!(f, "{name}: {lower} (upper bound {upper}")?,
            why => write!(f, "{name}: irregular, {why} (lower bound {lower}, upper bound {upper}")?,
        }
        write!(f, ", conditional throughput {})", bound(self.conditional_throughput))
    }
}

/// What was found of all goals.
#[derive(Clone, Debug, PartialEq)]
pub struct MlrResult {
    /// One for each goal, in their order.
    pub goals: Vec<GoalResult>,
    /// Every trial, in order.
    pub trials: Vec<Record>,
    /// Sum of the trials' durations.
    pub spent: Duration,
    /// The stopping rule, as a sentence.
    pub rule: String,
}

impl fmt::Display for MlrResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.goals.iter().try_for_each(|goal| writeln!(f, "{goal}"))?;
        writeln!(f, "{} trials, {:.1} s. {}", self.trials.len(), self.spent.as_secs_f64(), self.rule)
    }
}

/// A trial, and for how long it was meant to be: no trial lasts to the nanosecond, and RFC 9971 classifies by intent.
#[derive(Clone, Copy)]
struct Noted {
    seconds: f64,
    measured: Measured,
}

/// Trials at one load.
struct Load {
    rate: f64,
    trials: Vec<Noted>,
}

struct Search<'a, T> {
    run: Run<'a, T>,
    loads: Vec<Load>,
    /// Packets that a trial needs for any goal, unless it is a full-length one.
    packets: f64,
}

/// Searches for every goal.
///
/// # Errors
/// Settings that make no sense; a trial that failed or contradicts itself. That the generator was too weak, the time too
/// short, or the caller impatient is no error: the goals' results say so.
pub fn search<T: Trial>(
    trial: &mut T,
    goals: &[Goal],
    limits: Limits,
    watch: Watch<'_>,
) -> Result<MlrResult, SearchError<T::Error>> {
    if goals.is_empty() || !goals.iter().all(Goal::is_sound) {
        return Err(SearchError::Setting(
            "a goal needs 0 <= loss ratio < 1, 0 <= exceed ratio < 1, 1e-6 <= width < 1, 0 < initial <= final <= sum",
        ));
    }
    // Every goal judges every trial, so the least loss ratio above 0 sets the count for all.
    let ratios = goals.iter().map(|goal| goal.loss_ratio).filter(|&ratio| ratio > 0.0);
    let packets = LOST_PACKETS / ratios.fold(f64::INFINITY, f64::min);
    let mut search = Search { run: Run::new(trial, limits, watch)?, loads: vec![], packets };
    let mut endings = vec![Ending::Complete; goals.len()];
    let mut from = 0;
    // A later goal's trials can move an earlier goal's bounds, so goals are narrowed until none asks for a trial.
    loop {
        let trials = search.run.records.len();
        for (goal, ending) in goals.iter().zip(&mut endings) {
            *ending = search.pursue(goal, from)?;
        }
        if search.run.records.len() == trials {
            break;
        }
        from = ROUNDS - 1;
    }
    let results = goals.iter().zip(endings).map(|(goal, ending)| search.result(goal, ending)).collect();
    let widths: Vec<_> = goals.iter().map(|g| format!("{} {:.2} %", g.name, g.width * 100.0)).collect();
    let rule = format!(
        "It stops when every goal's bounds are within its width ({}) by trials of its final duration (RFC 9971).",
        widths.join(", ")
    );
    Ok(MlrResult { goals: results, trials: search.run.records, spent: search.run.spent, rule })
}

impl<T: Trial> Search<'_, T> {
    fn pursue(&mut self, goal: &Goal, from: u32) -> Result<Ending, SearchError<T::Error>> {
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

    fn result(&self, goal: &Goal, ending: Ending) -> GoalResult {
        let target = Target::of(goal, ROUNDS - 1);
        let (lower, upper) = self.bounds(&target);
        GoalResult {
            goal: goal.clone(),
            ending,
            lower: lower.map(|rate| self.offered(rate)),
            upper,
            conditional_throughput: lower
                .map(|rate| target.conditional_throughput(self.offered(rate), self.trials(rate))),
        }
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
}
