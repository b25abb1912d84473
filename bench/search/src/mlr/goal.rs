//! A search goal: what is searched for (RFC 9971 §4.6).
//!
//! Refuses a duration sum below the final trial duration, which RFC 9971 §4.6.2 allows and does not recommend. The width is
//! always relative, and there always is one.

use std::fmt;
use std::time::Duration;

/// What is searched for (RFC 9971 §4.6.7, Search Goal).
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// Its name in the report.
    pub name: &'static str,
    /// Goal Loss Ratio (§4.6.3), 0 up to (not including) 1: a trial above it is a high-loss trial.
    pub loss_ratio: f64,
    /// Goal Initial Trial Duration (§4.6.6): of the first trials.
    pub initial: Duration,
    /// Goal Final Trial Duration (§4.6.1): trials at least this long are full-length ones. Best the same for all goals.
    pub last: Duration,
    /// Goal Duration Sum (§4.6.2): for how long full-length trials decide a load.
    pub sum: Duration,
    /// Goal Exceed Ratio (§4.6.4), 0 up to (not including) 1: the part of that time which may be of high loss.
    pub exceed_ratio: f64,
    /// Goal Width (§4.6.5), relative: (upper − lower) / upper, above 0 and below 1. Best not below the loss ratio, as a
    /// higher loss ratio may have the lower conditional throughput else.
    pub width: f64,
}

impl Goal {
    /// The non-drop rate: no packet lost in 30 s, to 0.5 %. As strict as RFC 2544 in all but the duration.
    pub const fn ndr() -> Self {
        let (initial, last) = (Duration::from_secs(1), Duration::from_secs(30));
        Self { name: "NDR", loss_ratio: 0.0, initial, last, sum: last, exceed_ratio: 0.0, width: 0.005 }
    }

    /// The partial drop rate: at most 0.5 % of the packets lost in 30 s, to 0.5 %.
    pub const fn pdr() -> Self {
        Self { name: "PDR", loss_ratio: 0.005, ..Self::ndr() }
    }

    /// The throughput of RFC 2544, as RFC 9971 §4.10.2 words it: no packet lost in 60 s.
    pub const fn rfc2544() -> Self {
        let last = Duration::from_secs(60);
        Self { name: "RFC 2544", last, sum: last, ..Self::ndr() }
    }

    /// The same goal, judged as the FD.io CSIT project judges its NDR and PDR: by trials of 1 s, 21 s of them, half of which
    /// may be of high loss. What it publishes compares with such results only.
    pub const fn csit(self) -> Self {
        let second = Duration::from_secs(1);
        Self { initial: second, last: second, sum: Duration::from_secs(21), exceed_ratio: 0.5, ..self }
    }

    pub(super) fn is_sound(&self) -> bool {
        (0.0..1.0).contains(&self.loss_ratio)
            && (0.0..1.0).contains(&self.exceed_ratio)
            && self.width >= 1e-6
            && self.width < 1.0
            && !self.initial.is_zero()
            && self.initial <= self.last
            && self.last <= self.sum
    }
}

impl fmt::Display for Goal {
    /// All attributes, which RFC 9971 §4.9.3 wants in each report.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A hundred times 0.07 is not quite 7.
        let percent = |part: f64| (part * 1e8).round() / 1e6;
        let [loss, exceed, width] = [self.loss_ratio, self.exceed_ratio, self.width].map(percent);
        let [initial, last, sum] = [self.initial, self.last, self.sum].map(|time| time.as_secs_f64());
        write!(
            f,
            "{}: loss ratio {loss} %, exceed ratio {exceed} %, trials of {initial} to {last} s, {sum} s of them, \
             width {width} % of the upper bound",
            self.name
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_names_each_of_its_attributes() {
        let says = "PDR: loss ratio 0.5 %, exceed ratio 50 %, trials of 1 to 1 s, \
                    21 s of them, width 0.5 % of the upper bound";
        assert_eq!(Goal::pdr().csit().to_string(), says);
        let odd = Goal { exceed_ratio: 0.07, ..Goal::ndr() };
        assert!(odd.to_string().contains("exceed ratio 7 %,"), "{odd}");
        let says = "RFC 2544: loss ratio 0 %, exceed ratio 0 %, trials of 1 to 60 s, \
                    60 s of them, width 0.5 % of the upper bound";
        assert_eq!(Goal::rfc2544().to_string(), says);
    }
}
