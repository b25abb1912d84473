//! One trial: what was asked, what the generator reached, what came back.

use std::fmt;
use std::time::Duration;

/// How far the generator may miss the asked rate before the trial is no measurement of the device.
pub const TOLERANCE: f64 = 0.01;

/// What makes trials: a generator, a device and a receiver.
pub trait Trial {
    /// Why a trial could not be run.
    type Error;

    /// Offers `rate` packets per second for `duration`, waits for stragglers, and counts. RFC 2544 §23 wants 2 s before it
    /// for routes and addresses to settle, 2 s for stragglers, and 5 s after it for the device to rest: whoever waits for
    /// less says so in the report.
    ///
    /// # Errors
    /// The trial could not be run. A generator that falls short is no error: [`Measured::offered`] says so.
    fn run(&mut self, rate: f64, duration: Duration) -> Result<Measured, Self::Error>;
}

/// Quantiles of the latency of a trial's packets, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// The least.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The 99.9th percentile.
    pub p999: u64,
    /// The greatest.
    pub max: u64,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, p50, p90, p99, p999, max } = self;
        write!(f, "{min}/{p50}/{p90}/{p99}/{p999}/{max} ns (min/p50/p90/p99/p99.9/max)")
    }
}

/// What a trial measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Packets per second that the search asked for.
    pub asked: f64,
    /// Packets per second that the generator reached.
    pub offered: f64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that came back; duplicates not counted.
    pub received: u64,
    /// For how long the generator sent.
    pub duration: Duration,
    /// Of the packets that came back, where it was measured.
    pub latency: Option<Latency>,
}

impl Measured {
    /// Lost packets over sent ones, 0 to 1; 1 when nothing was sent.
    pub fn loss_ratio(&self) -> f64 {
        match self.sent {
            0 => 1.0,
            sent => sent.saturating_sub(self.received) as f64 / sent as f64,
        }
    }

    /// Received packets per second (RFC 2285 §3.6.1, forwarding rate).
    pub fn forwarding_rate(&self) -> f64 {
        self.received as f64 / self.duration.as_secs_f64()
    }

    /// The offered rate, or what the count of sent packets admits, where that is less: a generator's claim is not enough.
    pub fn reached(&self) -> f64 {
        // The last packet may be due on the trial's end, so one is forgiven.
        self.offered.min((self.sent + 1) as f64 / self.duration.as_secs_f64())
    }

    /// Whether the generator fell short by more than [`TOLERANCE`].
    pub fn is_short(&self) -> bool {
        self.reached() < self.asked * (1.0 - TOLERANCE)
    }
}

/// A trial, as results list it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// What was measured.
    pub measured: Measured,
    /// Lost over sent packets.
    pub loss_ratio: f64,
    /// Whether the generator fell short, so that this trial says nothing of the device.
    pub short: bool,
}

impl From<Measured> for Record {
    fn from(measured: Measured) -> Self {
        Self { measured, loss_ratio: measured.loss_ratio(), short: measured.is_short() }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { asked, offered, duration, .. } = self.measured;
        let [asked, offered] = [asked, offered].map(Rate);
        let loss = self.loss_ratio * 100.0;
        write!(f, "{asked} for {:.3} s: offered {offered}, loss {loss:.4} %", duration.as_secs_f64())?;
        f.write_str(if self.short { " (the generator fell short: not counted)" } else { "" })
    }
}

/// Packets per second, written with a prefix that suits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Scaled(self.0, "pps").fmt(f)
    }
}

/// A number of some unit, such as `pps`, written with a prefix that suits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled(pub f64, pub &'static str);

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self(number, unit) = self;
        match number {
            number if number >= 1e6 => write!(f, "{:.4} M{unit}", number / 1e6),
            number if number >= 1e3 => write!(f, "{:.3} k{unit}", number / 1e3),
            number => write!(f, "{number:.1} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_the_count_contradicts_is_short() {
        let duration = Duration::from_secs(2);
        let mut measured = Measured {
            asked: 1e6,
            offered: 1e6,
            sent: 1_999_999,
            received: 1_999_999,
            duration,
            latency: None,
        };
        assert!(!measured.is_short());
        measured.sent = 1_900_000;
        assert!(measured.is_short());
        assert_eq!(measured.loss_ratio(), 0.0);
        assert!(Record::from(measured).to_string().contains("fell short"));
    }
}
