//! A search goal: what is searched for (RFC 9971 §4.6).

use std::time::Duration;

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
