//! Back-to-back frames (RFC 2544 §26.4, updated by RFC 9004): the longest burst at full rate without a loss, and the buffer
//! that it implies.
//!
//! Refuses a throughput that is not below the full rate, as RFC 9004 §6.1 does: no burst fills such a device's buffer.
//!
//! Keeps true: each search is a binary search of its own (§6.2, ETSI GS NFV-TST 009 §12.3.2), to a step of one packet; a
//! lossy burst is not tried again. On a link without a nominal speed, such as a virtual one, the full rate is the
//! generator's, and the buffer times are as good as that rate is.

use crate::run::{Ending, SearchError};
use crate::trial::{Rate, TOLERANCE};
use std::fmt;
use std::time::Duration;

/// RFC 2544 §26.4: at least 50 searches, whose mean is reported. RFC 9004 §6.3 leaves the number open, and wants it
/// reported.
pub const RFC2544_REPEATS: u32 = 50;
/// RFC 9004 §6.2: for how long at least nothing is sent, once a burst has come back, so that the device's buffers are empty.
/// Where they hold more than that, or bursts last longer, the pause must be longer too.
pub const PAUSE: Duration = Duration::from_secs(2);
/// RFC 9004 §6.2: how long the longest burst must be allowed to last.
pub const LONGEST: Duration = Duration::from_secs(30);

/// What sends bursts at full rate.
pub trait Bursts {
    /// Why it could not.
    type Error;

    /// Sends `packets` back to back, once the device's buffers are empty (see [`PAUSE`]), and counts what comes back.
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
    /// Packets per second of a full-rate burst: the line's (RFC 9004 §6.4, Max Theoretical Frame Rate). Where nobody knows it,
    /// the least that a burst must have to count; buffers are then reckoned by the rate that the bursts had.
    pub rate: f64,
    /// Packets per second of the device's throughput (§6.4, Measured Throughput), for the corrected buffer time; below
    /// `rate`.
    pub throughput: f64,
    /// The longest burst that is tried, packets, at least 1 and below `u64::MAX`.
    pub longest: u64,
    /// Searches.
    pub repeats: u32,
}

impl Settings {
    /// As RFC 9004 wants them: bursts of up to 30 s, 50 searches.
    pub fn rfc9004(rate: f64, throughput: f64) -> Self {
        let longest = (rate * LONGEST.as_secs_f64()) as u64;
        Self { rate, throughput, longest, repeats: RFC2544_REPEATS }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct BackToBack {
    /// What it was searched with.
    pub settings: Settings,
    /// How it ended: [`Ending::AboveMaximum`] when the longest burst passed still, with its length. RFC 9004 §6.2 wants such
    /// a search repeated with longer bursts.
    pub ending: Ending,
    /// Packets of the longest burst without a loss, search by search.
    pub longest: Vec<u64>,
    /// Packets per second that the bursts had: the median of all. The settings' rate when there was none.
    pub rate: f64,
    /// RFC 9004 §6.4: Implied DUT Buffer Time, the mean burst over the full rate.
    pub implied_buffer: Option<Duration>,
    /// RFC 9004 §6.4: Corrected DUT Buffer Time, less what the device forwarded during the burst.
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

    /// The standard deviation of the bursts (of a sample), packets; none below two finished searches.
    pub fn deviation(&self) -> Option<f64> {
        let mean = self.mean().filter(|_| self.longest.len() > 1)?;
        let squares: f64 = self.longest.iter().map(|&burst| (burst as f64 - mean).powi(2)).sum();
        Some((squares / (self.longest.len() - 1) as f64).sqrt())
    }

    /// RFC 9004 §7, Actual Buffer Time: how long the buffer lasts when packets come at `rate` per second instead of the full
    /// rate. None without a finished search, or for a rate that is none.
    pub fn buffer_at(&self, rate: f64) -> Option<Duration> {
        let corrected = self.corrected_buffer?.as_secs_f64();
        Duration::try_from_secs_f64(corrected * self.rate / rate).ok()
    }
}

impl fmt::Display for BackToBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.mean(), self.implied_buffer, self.corrected_buffer) {
            (Some(mean), Some(implied), Some(corrected)) => {
                let [implied, corrected] = [implied, corrected].map(|time| time.as_secs_f64() * 1e6);
                let (least, most) = (self.longest.iter().min(), self.longest.iter().max());
                let (least, most) = (least.copied().unwrap_or(0), most.copied().unwrap_or(0));
                write!(f, "back-to-back: {mean:.1} packets, mean of {} searches (", self.longest.len())?;
                write!(f, "least {least}, most {most}")?;
                if let Some(deviation) = self.deviation() {
                    write!(f, ", standard deviation {deviation:.1}")?;
                }
                write!(f, "); buffer {corrected:.3} us (implied {implied:.3} us)")?;
            }
            _ => f.write_str("back-to-back: unknown")?,
        }
        match self.ending {
            Ending::AboveMaximum(packets) => {
                write!(f, "; bursts of {packets:.0} packets pass still, so the search needs longer ones")?
            }
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
    let mut rates: Vec<f64> = bursts.iter().map(|burst| burst.rate).filter(|rate| rate.is_finite()).collect();
    rates.sort_by(f64::total_cmp);
    let mut result = BackToBack {
        settings,
        ending,
        longest,
        rate: rates.get(rates.len() / 2).copied().unwrap_or(rate),
        implied_buffer: None,
        corrected_buffer: None,
        bursts,
        rule: format!(
            "It stops when bursts of n pass and n + 1 fail (a step of 1 packet, from {most} on), {repeats} times \
             (RFC 9004 §6)."
        ),
    };
    // With the longest burst still passing, the buffer is at least this; the ending says so.
    if let Some(mean) = result.mean() {
        // By what the bursts had: a rate that is lower than that would make a longer buffer of the same packets.
        let implied = mean / result.rate;
        result.implied_buffer = Duration::try_from_secs_f64(implied).ok();
        let filled = (1.0 - throughput / result.rate).max(0.0);
        result.corrected_buffer = Duration::try_from_secs_f64(implied * filled).ok();
    }
    Ok(result)
}

impl fmt::Display for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets at {}: {} came back", self.sent, Rate(self.rate), self.received)
    }
}
