//! Reset and recovery times from what arrived, by both methods of RFC 6201.
//!
//! Owns the reckoning only: who resets the device, and how, is the caller's. Keeps true: packets that were lost outside of
//! the longest gap are told apart, not counted as time of the reset.

use std::fmt;
use std::time::Duration;
use thiserror::Error;

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
    /// Frame-loss method (RFC 6201): lost packets of the gap over the offered rate.
    pub by_loss: Duration,
    /// Time-stamp method (RFC 6201): from the last arrival before the gap (A) to the first after it (B). It is longer
    /// than the other by the time between two packets.
    pub by_time: Duration,
    /// Packets lost in the gap.
    pub lost: u64,
    /// Packets lost elsewhere, which are no part of the reset: above 0, the trial is a doubtful one.
    pub lost_elsewhere: u64,
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [loss, time] = [self.by_loss, self.by_time].map(|time| time.as_secs_f64());
        write!(f, "{loss:.6} s by loss ({} packets), {time:.6} s by time stamps", self.lost)?;
        match self.lost_elsewhere {
            0 => Ok(()),
            other => write!(f, "; {other} packets lost elsewhere"),
        }
    }
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
    match longest {
        Some(pair) if edges.is_some_and(|edges| edges <= gap(pair)) => Ok(Reset {
            by_loss: Duration::try_from_secs_f64(gap(pair) as f64 / rate)
                .map_err(|_| ResetError::Rate(rate))?,
            by_time: if gap(pair) == 0 { Duration::ZERO } else { pair[1].at.saturating_sub(pair[0].at) },
            lost: gap(pair),
            lost_elsewhere: lost - gap(pair),
        }),
        _ => Err(ResetError::OneSided { arrived: arrivals.len(), sent }),
    }
}

/// Reset times of repeated trials: RFC 6201 wants the mean, and the spread says what it is worth.
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
}

impl fmt::Display for Resets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((loss, time)) = self.mean() else { return f.write_str("reset: not measured\n") };
        let (loss, time) = (loss.as_secs_f64(), time.as_secs_f64());
        let count = self.trials.len();
        writeln!(
            f,
            "reset: {loss:.6} s by loss, {time:.6} s by time stamps, mean of {count} trials (RFC 6201)"
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
        let mean = Resets { trials: vec![reset; 3] }.mean();
        assert_eq!(mean, Some((Duration::from_millis(300), Duration::from_micros(300_100))));
    }

    #[test]
    fn no_loss_is_no_time_and_an_unseen_end_is_an_error() {
        assert_eq!(reset_time(&arrivals(|_| false), 10_000, 1e4).unwrap().by_time, Duration::ZERO);
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
