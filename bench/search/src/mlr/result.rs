//! What a search found: of one goal, and of all.

use super::goal::Goal;
use crate::run::Ending;
use crate::trial::{Rate, Record};
use std::fmt;
use std::time::Duration;

/// What was found of one goal.
#[derive(Clone, Debug, PartialEq)]
pub struct GoalResult {
    /// The goal.
    pub goal: Goal,
    /// [`Ending::Complete`] makes the result regular (RFC 9971 §4.8.4); anything else is the reason why it is irregular.
    pub ending: Ending,
    /// Packets per second that the generator reached, at the least, in the trials at `lower_load`: never above what was
    /// offered. Up to [`TOLERANCE`](crate::trial::TOLERANCE) below `lower_load`.
    pub lower: Option<f64>,
    /// Relevant Lower Bound (§4.8.2), packets per second, as a Trial Load: what was asked for. The greatest load that met the
    /// goal, below the upper bound. Where no load missed the goal, RFC 9971 knows no such bound: the result is irregular.
    pub lower_load: Option<f64>,
    /// Relevant Upper Bound (§4.8.1), packets per second: the least load that missed it.
    pub upper: Option<f64>,
    /// Conditional Throughput (§4.8.3), packets per second: what the device forwarded at the lower bound. It is reckoned
    /// from `lower`, where RFC 9971 takes the load.
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
        let (mut lower, upper) = (bound(self.lower), bound(self.upper));
        if let Some(load) = self.lower_load.filter(|_| self.lower != self.lower_load) {
            lower = format!("{lower} at a load of {}", Rate(load));
        }
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
        self.goals.iter().try_for_each(|result| writeln!(f, "goal {}", result.goal))?;
        writeln!(f, "{} trials, {:.1} s. {}", self.trials.len(), self.spent.as_secs_f64(), self.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_stands_beside_what_was_sent_at_it_where_they_differ() {
        let (ending, rate) = (Ending::Complete, Some(1e6));
        let sent = GoalResult {
            goal: Goal::ndr(),
            ending,
            lower: rate,
            lower_load: rate,
            upper: Some(1.004e6),
            conditional_throughput: rate,
        };
        let ends = "(upper bound 1.0040 Mpps, conditional throughput 1.0000 Mpps)";
        assert_eq!(sent.to_string(), format!("NDR: 1.0000 Mpps {ends}"));
        let short = GoalResult { lower: Some(995e3), ..sent };
        assert_eq!(short.to_string(), format!("NDR: 995.000 kpps at a load of 1.0000 Mpps {ends}"));
    }
}
