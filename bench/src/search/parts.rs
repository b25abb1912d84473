//! Searches at parts of a rate that was found before: bursts, latency, recovery, reset.

use super::{Findings, Plan, ResetAct, SAMPLES};
use anyhow::Result;
use zsync_ends::pair::Pair;
use zsync_report::curve::{LatencyCurve, Percentile};
use zsync_search::run::{Limits, Watch as Reins};
use zsync_search::{back_to_back, latency, recovery, reset};

/// Packets per second that tell a reset to 50 µs.
const RESET_RATE: f64 = 20_000.0;
/// Part of what the sender reaches that counts as its full rate in bursts.
const REACHED: f64 = 0.8;

/// Searches at parts of a rate.
pub(super) struct At<'a> {
    pub plan: &'a Plan,
    pub throughput: f64,
    pub maximum: f64,
}

impl At<'_> {
    pub fn bursts(&self, pair: &mut Pair<'_>, cancelled: &dyn Fn() -> bool) -> Result<String> {
        // Bursts of a few packets never quite reach what a trial does, and a slower one would end the search.
        let rate = (super::reach(pair, self.plan.trial)? * REACHED).min(self.maximum);
        let settings = back_to_back::Settings {
            rate,
            throughput: self.throughput.min(rate * 0.999),
            longest: (rate * self.plan.trial.as_secs_f64()) as u64,
            repeats: self.plan.repeats,
        };
        Ok(back_to_back::measure(pair, settings, cancelled)?.to_string())
    }

    pub fn latency(
        &self,
        mut pair: Pair<'_>,
        limits: Limits,
        reins: Reins<'_>,
        found: &mut Findings,
    ) -> Result<String> {
        pair.readable = Some(SAMPLES);
        // A reader that lost packets of its own has no latency to tell, and says so.
        pair.lenient = true;
        // A late packet is late: its latency counts from when it was to leave.
        pair.patience = None;
        let times = (self.plan.repeats, self.plan.trial);
        let result = latency::measure(&mut pair, self.throughput, &latency::PARTS, times, limits, reins);
        found.latency.extend(pair.timed.iter().map(|timed| {
            LatencyCurve {
                series: String::new(),
                offered: Some(timed.offered),
                packets: Some(timed.packets),
                points: timed
                    .curve
                    .iter()
                    .map(|&(quantile, time)| Percentile { quantile, nanoseconds: time as f64 })
                    .collect(),
            }
        }));
        found.notes.extend(pair.verdicts.iter().map(|verdict| format!("latency: {verdict}")));
        Ok(result?.to_string())
    }

    pub fn recovery(&self, pair: &mut Pair<'_>) -> Result<String> {
        let (count, duration) = (self.plan.repeats, self.plan.trial);
        Ok(recovery::measure_within(pair, self.throughput, self.maximum, count, duration)?.to_string())
    }

    pub fn reset(&self, pair: &mut Pair<'_>, act: &mut ResetAct<'_>) -> Result<String> {
        pair.patience = None;
        let mut trials = Vec::new();
        for _ in 0..self.plan.repeats {
            // Half of what the device carries, so that only the reset is to blame, and no more than any host reads.
            trials.push(pair.reset((self.throughput / 2.0).min(RESET_RATE), self.plan.trial, act)?);
        }
        Ok(reset::Resets { trials }.to_string())
    }
}
