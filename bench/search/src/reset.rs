//! Reset and recovery times from what arrived, by both methods of RFC 6201 §1.3 (which updates RFC 2544 §26.6).
//!
//! Owns the reckoning only. Who resets the device, and how, is the caller's: a restart of its process is a process reset
//! (§4.2.2), of its operating system an OS reset (§4.2.1); hardware resets (§4.1) and power (§4.3) take a hand. So are the
//! smallest packets at the throughput's rate, [`BEFORE`] without a loss, and forwarding state that needs no peer (§3).
//!
//! Keeps true: packets that were lost outside of the longest gap are told apart, not counted as time of the reset. RFC 6201's
//! frame-loss method counts them; [`Reset::by_all_loss`] is its time to the letter, the same where all loss is in one gap.

use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// RFC 6201 §4: for how long the device forwards before it is reset.
pub const BEFORE: Duration = Duration::from_secs(15);
/// RFC 6201 §4.3.1: how long power is interrupted at least; what is reported is the time less that. RFC 2544 had 10 s.
pub const POWER_INTERRUPTION: Duration = Duration::from_secs(15);

/// A packet that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its place among the sent packets, from 0.
    pub sequence: u64,
    /// When it arrived, from any zero.
    pub at: Duration,
}

/// Why no time can be told.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum ResetError {
    /// The rate is not above 0 and finite, or so low that the time is none.
    #[error("the offered rate of {0} packets/s is none")]
    Rate(f64),
    /// Nothing arrived after the gap, or nothing before it.
    #[error(
        "{arrived} of {sent} packets arrived, none before (or none after) the gap: send for longer than the reset lasts"
    )]
    OneSided {
        /// Packets that arrived.
        arrived: usize,
        /// Packets that were sent.
        sent: u64,
    },
    /// An arrival that was never sent.
    #[error("packet {sequence} arrived, of {sent} sent: the arrivals are another trial's")]
    NeverSent {
        /// Its number.
        sequence: u64,
        /// Packets that were sent.
        sent: u64,
    },
}

/// The time of one reset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reset {
    /// Lost packets of the gap over the offered rate.
    pub by_loss: Duration,
    /// Frame-loss method (RFC 6201 §1.3): all lost packets over the offered rate.
    pub by_all_loss: Duration,
    /// Time-stamp method (§1.3): from the last arrival before the gap (A) to the first after it (B). It is longer than the
    /// other by the time between two packets.
    pub by_time: Duration,
    /// Packets lost in the gap.
    pub lost: u64,
    /// Packets lost elsewhere, which are no part of the reset: above 0, the trial is a doubtful one.
    pub lost_elsewhere: u64,
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [loss, all, time] = [self.by_loss, self.by_all_loss, self.by_time].map(milliseconds);
        match (self.lost, self.lost_elsewhere) {
            (0, 0) => f.write_str("no loss"),
            (lost, 0) => write!(f, "{loss:.3} ms by loss ({lost} packets), {time:.3} ms by time stamps"),
            (lost, other) => write!(
                f,
                "{loss:.3} ms by loss ({lost} packets), {time:.3} ms by time stamps; {other} packets lost elsewhere \
                 ({all:.3} ms by all loss)"
            ),
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Reckons the reset time from the arrivals of one trial, in any order, of `sent` packets at `rate` packets per second.
/// Zero when nothing was lost.
///
/// # Errors
/// See [`ResetError`].
pub fn reset_time(arrivals: &[Arrival], sent: u64, rate: f64) -> Result<Reset, ResetError> {
    if !(rate > 0.0 && rate.is_finite()) {
        return Err(ResetError::Rate(rate));
    }
    let mut sorted = arrivals.to_vec();
    sorted.sort_unstable_by_key(|arrival| (arrival.sequence, arrival.at));
    sorted.dedup_by_key(|arrival| arrival.sequence);
    if let Some(&Arrival { sequence, .. }) = sorted.last().filter(|last| last.sequence >= sent) {
        return Err(ResetError::NeverSent { sequence, sent });
    }
    let lost = sent - sorted.len() as u64;
    let gap = |pair: &[Arrival]| pair[1].sequence - pair[0].sequence - 1;
    // Of equal gaps the first, which max_by_key would not give.
    let longest = sorted.windows(2).rev().max_by_key(|pair| gap(pair));
    // What is lost at either end has one time stamp only; if that is the most, the reset began or ended out of sight.
    let edges =
        sorted.first().zip(sorted.last()).map(|(first, last)| first.sequence.max(sent - 1 - last.sequence));
    let time =
        |lost: u64| Duration::try_from_secs_f64(lost as f64 / rate).map_err(|_| ResetError::Rate(rate));
    match longest {
        Some(pair) if edges.is_some_and(|edges| edges <= gap(pair)) => Ok(Reset {
            by_loss: time(gap(pair))?,
            by_all_loss: time(lost)?,
            by_time: if gap(pair) == 0 { Duration::ZERO } else { pair[1].at.saturating_sub(pair[0].at) },
            lost: gap(pair),
            lost_elsewhere: lost - gap(pair),
        }),
        _ => Err(ResetError::OneSided { arrived: arrivals.len(), sent }),
    }
}

/// Reset times of repeated trials of one kind of reset: RFC 6201 §1.4 wants the mean, and the spread says what it is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Resets {
    /// Trial by trial.
    pub trials: Vec<Reset>,
}

impl Resets {
    /// The means by loss and by time stamps; none without a trial.
    pub fn mean(&self) -> Option<(Duration, Duration)> {
        let count = u32::try_from(self.trials.len()).ok().filter(|&count| count > 0)?;
        let sum = |of: fn(&Reset) -> Duration| self.trials.iter().map(of).sum::<Duration>();
        Some((sum(|reset| reset.by_loss) / count, sum(|reset| reset.by_time) / count))
    }

    /// The mean of all packets lost in a trial, in the gap and elsewhere; none without a trial.
    pub fn mean_lost(&self) -> Option<f64> {
        let lost: u64 = self.trials.iter().map(|reset| reset.lost + reset.lost_elsewhere).sum();
        (!self.trials.is_empty()).then(|| lost as f64 / self.trials.len() as f64)
    }
}

impl fmt::Display for Resets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(((loss, time), lost)) = self.mean().zip(self.mean_lost()) else {
            return f.write_str("reset: not measured\n");
        };
        let (loss, time, count) = (milliseconds(loss), milliseconds(time), self.trials.len());
        writeln!(
            f,
            "reset: {loss:.3} ms by loss ({lost:.1} packets), {time:.3} ms by time stamps, mean of {count} trials \
             (RFC 6201)"
        )?;
        self.trials.iter().try_for_each(|reset| writeln!(f, "  {reset}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(lost: impl Fn(u64) -> bool) -> Vec<Arrival> {
        let at = |sequence| Duration::from_micros(500 + 100 * sequence);
        (0..10_000).filter(|&n| !lost(n)).map(|sequence| Arrival { sequence, at: at(sequence) }).collect()
    }

    #[test]
    fn both_methods_agree_but_for_the_time_between_two_packets() {
        let mut seen = arrivals(|n| (2000..5000).contains(&n) || n == 7000);
        seen.reverse();
        let reset = reset_time(&seen, 10_000, 10_000.0).unwrap();
        assert_eq!(reset.by_loss, Duration::from_millis(300));
        assert_eq!(reset.by_time, Duration::from_micros(300_100));
        assert_eq!((reset.lost, reset.lost_elsewhere), (3000, 1));
        // To the letter of RFC 6201 §1.3, each lost packet is time of the reset.
        assert_eq!(reset.by_all_loss, Duration::from_micros(300_100));
        assert_eq!(
            reset.to_string(),
            "300.000 ms by loss (3000 packets), 300.100 ms by time stamps; 1 packets lost elsewhere (300.100 ms by all loss)"
        );
        let mean = Resets { trials: vec![reset; 3] }.mean();
        assert_eq!(mean, Some((Duration::from_millis(300), Duration::from_micros(300_100))));
    }

    #[test]
    fn no_loss_is_no_time_and_an_unseen_end_is_an_error() {
        let reset = reset_time(&arrivals(|_| false), 10_000, 1e4).unwrap();
        assert_eq!((reset.by_time, reset.to_string().as_str()), (Duration::ZERO, "no loss"));
        for seen in [arrivals(|n| n > 4000), arrivals(|n| n < 4000), arrivals(|_| true)] {
            let error = reset_time(&seen, 10_000, 1e4).unwrap_err();
            assert!(matches!(error, ResetError::OneSided { .. }), "{error}");
        }
        assert_eq!(
            reset_time(&arrivals(|_| false), 10, 1e4),
            Err(ResetError::NeverSent { sequence: 9999, sent: 10 })
        );
        assert!(reset_time(&[], 0, f64::NAN).is_err());
        assert!(reset_time(&[], 0, 1.0).is_err());
    }
}
