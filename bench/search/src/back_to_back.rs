//! Back-to-back frames (RFC 2544 §26.4): the longest burst at full rate without a loss, and the buffer that it implies
//! (RFC 9004).

use crate::run::{Ending, SearchError};
use crate::trial::{Rate, TOLERANCE};
use std::fmt;
use std::time::Duration;

/// RFC 2544 §26.4: at least 50 searches, whose mean is reported.
pub const RFC2544_REPEATS: u32 = 50;

/// What sends bursts at full rate.
pub trait Bursts {
    /// Why it could not.
    type Error;

    /// Sends `packets` back to back, once the device's buffers are empty, and counts what comes back.
    ///
    /// # Errors
    /// The burst could not be sent.
    fn burst(&mut self, packets: u64) -> Result<Burst, Self::Error>;
}

/// One burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that came back.
    pub received: u64,
    /// Packets per second within the burst.
    pub rate: f64,
}

/// How the searches go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Packets per second of a full-rate burst: the line's (RFC 9004, Max Theoretical Frame Rate).
    pub rate: f64,
    /// Packets per second of the device's throughput, for the corrected buffer time; below `rate`.
    pub throughput: f64,
    /// The longest burst that is tried, packets, at least 1 and below `u64::MAX`.
    pub longest: u64,
    /// Searches.
    pub repeats: u32,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct BackToBack {
    /// How it ended: [`Ending::AboveMaximum`] when the longest burst passed still, with its length.
    pub ending: Ending,
    /// Packets of the longest burst without a loss, search by search.
    pub longest: Vec<u64>,
    /// RFC 9004: Implied DUT Buffer Time, the mean burst over the burst's rate.
    pub implied_buffer: Option<Duration>,
    /// RFC 9004: Corrected DUT Buffer Time, less what the device forwarded during the burst.
    pub corrected_buffer: Option<Duration>,
    /// Every burst, in order.
    pub bursts: Vec<Burst>,
    /// The stopping rule, as a sentence.
    pub rule: String,
}

impl BackToBack {
    /// The mean burst, packets; none without a finished search.
    pub fn mean(&self) -> Option<f64> {
        let count = self.longest.len();
        (count > 0).then(|| self.longest.iter().map(|&burst| burst as f64).sum::<f64>() / count as f64)
    }
}

impl fmt::Display for BackToBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.mean(), self.implied_buffer, self.corrected_buffer) {
            (Some(mean), Some(implied), Some(corrected)) => {
                let [implied, corrected] = [implied, corrected].map(|time| time.as_secs_f64() * 1e6);
                write!(
                    f,
                    "back-to-back: {mean:.1} packets; buffer {corrected:.3} us (implied {implied:.3} us)"
                )?;
            }
            _ => f.write_str("back-to-back: unknown")?,
        }
        match self.ending {
            Ending::AboveMaximum(packets) => write!(f, "; bursts of {packets:.0} packets pass still")?,
            ending => write!(f, "; {ending}")?,
        }
        writeln!(f, "; {} bursts. {}", self.bursts.len(), self.rule)
    }
}

/// Searches for the longest burst without a loss, as often as the settings say.
///
/// # Errors
/// Settings that make no sense; a burst that could not be sent, or of which more came back.
pub fn measure<B: Bursts>(
    device: &mut B,
    settings: Settings,
    cancelled: &dyn Fn() -> bool,
) -> Result<BackToBack, SearchError<B::Error>> {
    let Settings { rate, throughput, longest: most, repeats } = settings;
    if most == 0
        || most == u64::MAX
        || repeats == 0
        || !(throughput > 0.0 && throughput < rate && rate.is_finite())
    {
        return Err(SearchError::Setting("needs bursts, repeats, and 0 < throughput < rate"));
    }
    let (mut longest, mut bursts) = (vec![], vec![]);
    let mut ending = Ending::Complete;
    'repeats: for _ in 0..repeats {
        // A burst of `low` passed, one of `high` did not; what is beyond the longest is as good as failed.
        let (mut low, mut high) = (0, most + 1);
        let mut next = most;
        while high - low > 1 {
            if cancelled() {
                ending = Ending::Cancelled;
                break 'repeats;
            }
            let burst = device.burst(next).map_err(|error| SearchError::Trial { rate, error })?;
            bursts.push(burst);
            if burst.received > burst.sent {
                return Err(SearchError::MoreReceived { sent: burst.sent, received: burst.received });
            }
            // A slower burst is an easier one: it must not pass for a burst at full rate.
            if burst.sent < next || burst.rate.is_nan() || burst.rate < rate * (1.0 - TOLERANCE) {
                ending = Ending::Bottleneck { reached: burst.rate, asked: rate };
                break 'repeats;
            }
            match burst.received == burst.sent {
                true => low = next,
                false => high = next,
            }
            next = low + (high - low) / 2;
        }
        longest.push(low);
        if low == most {
            ending = Ending::AboveMaximum(most as f64);
        }
    }
    let mut result = BackToBack {
        ending,
        longest,
        implied_buffer: None,
        corrected_buffer: None,
        bursts,
        rule: format!("It stops when bursts of n pass and n + 1 fail, {repeats} times (RFC 2544 §26.4)."),
    };
    // With the longest burst still passing, the buffer is at least this; the ending says so.
    if let Some(mean) = result.mean() {
        let implied = mean / rate;
        result.implied_buffer = Duration::try_from_secs_f64(implied).ok();
        result.corrected_buffer = Duration::try_from_secs_f64(implied * (1.0 - throughput / rate)).ok();
    }
    Ok(result)
}

impl fmt::Display for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets at {}: {} came back", self.sent, Rate(self.rate), self.received)
    }
}
