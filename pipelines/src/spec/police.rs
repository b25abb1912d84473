//! `[police.NAME]`: what a police stage is told, and what that comes to.

mod keys;
mod table;
mod text;

pub(crate) use keys::{BURST, OVERHEAD, PER, POLICE, RATE, SUBJECTS};
pub(crate) use table::{Table, police};
pub(crate) use text::{parse_per, rows, show_per};

use super::datum::Datum;
use super::decode::Document;
use super::findings::Findings;
use super::model::{Layer, Pipeline, StageSpec};
use super::nearest::nearest;
use super::shape::ShapeSpec;
use crate::stages::police::{Following, Police, Treatment};
use crate::tables::meter::adaptive::{Adaptive, Target};
use crate::tables::meter::any::Meter;
use crate::tables::meter::bucket::{Bucket, Rule};
use crate::tables::meter::pace::{Pace, Rate};
use crate::tables::meter::subject::{Per, Subjects};
use crate::tables::meter::tcm::{SrTcm, TrTcm};
use crate::tables::meter::window::{Limit, Window};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use zsync_packet::flow::HashKey;
use zsync_packet::region::Region;

/// How often an adaptive rate looks at what it follows. A few round trips of most paths, so that senders have answered.
const INTERVAL: Duration = Duration::from_millis(100);
/// A burst that is not told is what the rate brings in this time.
const BURST_TIME: Duration = Duration::from_millis(50);
/// The least burst of bytes: the longest packet of an Ethernet port with an MTU of 1,500. A shorter one would never let it pass.
pub(crate) const LEAST_BURST: u64 = 1514;

/// A `police` stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoliceSpec {
    /// What is metered, and how.
    pub meter: MeterSpec,
    /// Whose meter.
    pub per: Per,
    /// How many meters there are, when there are many.
    pub subjects: u32,
    /// Bytes that count for each packet besides its own: 0 to 255.
    pub overhead: u32,
    /// Whether packets come with colours.
    pub aware: bool,
    /// What is done with green, yellow and red packets.
    pub treatments: [Treatment; 3],
}

/// A meter. Bursts are in bytes or packets, as the rate counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MeterSpec {
    /// Token bucket.
    Token {
        /// What it fills at.
        rate: Rate,
        /// What it holds.
        burst: u64,
    },
    /// Leaky bucket.
    Leaky {
        /// What it leaks at.
        rate: Rate,
        /// Where its brim is.
        burst: u64,
    },
    /// RFC 2697.
    SrTcm {
        /// CIR.
        rate: Rate,
        /// CBS.
        burst: u64,
        /// EBS.
        excess: u64,
    },
    /// RFC 2698.
    TrTcm {
        /// CIR.
        rate: Rate,
        /// CBS.
        burst: u64,
        /// PIR.
        peak: Rate,
        /// PBS.
        peak_burst: u64,
    },
    /// What the rate brings in a window, in any window.
    Window {
        /// The limit, as a rate.
        rate: Rate,
        /// The window.
        window: Duration,
    },
    /// Token bucket whose rate follows a target.
    Adaptive {
        /// The rate's ceiling.
        rate: Rate,
        /// What it holds at the ceiling.
        burst: u64,
        /// The rate's floor, in the same unit a second.
        floor: u64,
        /// What it keeps to.
        target: TargetSpec,
        /// The label of the shaper that it follows.
        follow: String,
    },
}

/// What an adaptive rate keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetSpec {
    /// Mean wait in the shaper.
    Wait(Duration),
    /// Packets that the shaper dropped or marked, in a million.
    Loss(u32),
}

impl PoliceSpec {
    /// The meter, at its ceiling when it is adaptive. None for what the configuration refuses.
    #[must_use]
    pub fn meter(&self) -> Option<Meter> {
        let pace = |rate| Pace::new(rate, self.overhead);
        Some(match &self.meter {
            MeterSpec::Token { rate, burst } | MeterSpec::Adaptive { rate, burst, .. } => {
                Meter::Bucket(Bucket::new(pace(*rate)?, *burst, Rule::Token)?)
            }
            MeterSpec::Leaky { rate, burst } => {
                Meter::Bucket(Bucket::new(pace(*rate)?, *burst, Rule::Leaky)?)
            }
            MeterSpec::SrTcm { rate, burst, excess } => {
                Meter::SrTcm(SrTcm::new(pace(*rate)?, *burst, *excess)?)
            }
            MeterSpec::TrTcm { rate, burst, peak, peak_burst } => {
                Meter::TrTcm(TrTcm::new(pace(*rate)?, *burst, pace(*peak)?, *peak_burst)?)
            }
            MeterSpec::Window { rate, window } => {
                let limit = brings(*rate, *window);
                let limit = match rate {
                    Rate::Bits(_) => Limit::Bytes(limit),
                    Rate::Packets(_) => Limit::Packets(limit),
                };
                Meter::Window(Window::new(limit, nanoseconds(*window), self.overhead)?)
            }
        })
    }

    /// How the rate moves, and the label of the shaper that it follows; none when it stays.
    #[must_use]
    pub fn adaptive(&self) -> Option<(Adaptive, &str)> {
        let MeterSpec::Adaptive {
            rate: Rate::Bits(ceiling) | Rate::Packets(ceiling),
            floor,
            target,
            follow,
            ..
        } = &self.meter
        else {
            return None;
        };
        let target = match target {
            TargetSpec::Wait(wait) => Target::Wait(nanoseconds(*wait)),
            TargetSpec::Loss(parts) => Target::Loss(*parts),
        };
        Some((Adaptive::new(*floor, *ceiling, target, nanoseconds(INTERVAL))?, follow))
    }

    /// The stage, for `workers` workers that all work on `state`, the shapers that it follows having theirs in `shapers`. None
    /// when the memory is too short, or for what the configuration refuses.
    #[must_use]
    pub fn stage(
        &self,
        state: Region,
        shapers: Vec<Region>,
        workers: usize,
        hash_key: HashKey,
    ) -> Option<Police> {
        let meter = self.meter()?;
        let subjects = self.subjects as usize;
        let stage = Police::new(meter, self.per, subjects, state, workers, hash_key, self.treatments)?;
        let stage = if self.aware { stage.aware() } else { stage };
        Some(match self.adaptive() {
            Some((adaptive, _)) => stage.following(Following { adaptive, shapers }),
            None => stage,
        })
    }

    /// Bytes of state, in one region that all workers share.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.meter().map_or(0, |meter| Subjects::bytes(self.per, self.subjects as usize, meter.words()))
    }
}

/// Refuses adaptive meters that follow a shaper that no pipeline has, and meters of sources and flows where nobody looks for
/// those.
pub(crate) fn refuse_strangers(document: &Document, pipelines: &[Pipeline], out: &mut Findings<'_>) {
    for (entry, pipeline) in document.entries("pipeline").zip(pipelines) {
        if pipeline.layer() != Layer::L2 {
            continue;
        }
        for stage in &pipeline.stages {
            let (StageSpec::Police(PoliceSpec { per, .. }) | StageSpec::Shape(ShapeSpec { per, .. })) =
                &stage.spec
            else {
                continue;
            };
            let place = entry.fields.items("stages").iter().find(|item| item.value.text() == stage.label);
            if let (true, Some(place)) = (*per != Per::All, place) {
                let message = format!(
                    "[{}] tells sources or flows apart, and frames that are patched have none",
                    stage.label
                );
                out.error(&place.span, message).help("write per = \"all\", or route instead of `patch`");
            }
        }
    }
    let stages = || pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let shapers = || {
        stages().filter(|stage| matches!(stage.spec, StageSpec::Shape(_))).map(|stage| stage.label.as_str())
    };
    for entry in document.stages().filter(|entry| entry.section.name == "police") {
        let label = format!("police.{}", entry.name.value);
        let Some(Datum::OneKey("adaptive", settings)) = entry.fields.at("meter").map(|meter| &meter.value)
        else {
            continue;
        };
        let Some(follow) = settings.value.fields().and_then(|settings| settings.at("follow")) else {
            continue;
        };
        let shaper = follow.value.text();
        if stages().any(|stage| stage.label == label) && !shapers().any(|label| label == shaper) {
            out.error(
                &follow.span,
                format!("no pipeline has the shaper \"{shaper}\" that [{label}] follows"),
            )
            .suggest(nearest(shaper, shapers()).map(|label| format!("\"{label}\"")));
        }
    }
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn per_second(rate: Rate) -> u64 {
    let (Rate::Bits(count) | Rate::Packets(count)) = rate;
    count
}

/// What a rate brings in some time: bytes, or packets.
pub(crate) fn brings(rate: Rate, time: Duration) -> u64 {
    let (count, parts) = match rate {
        Rate::Bits(bits) => (bits, 8_000_000_000),
        Rate::Packets(packets) => (packets, 1_000_000_000),
    };
    u64::try_from(u128::from(count) * u128::from(nanoseconds(time)) / parts).unwrap_or(u64::MAX)
}

/// A burst that is not told, 64 KiB at least.
fn brought(rate: Rate) -> u64 {
    let least = match rate {
        Rate::Bits(_) => 1 << 16,
        Rate::Packets(_) => 1,
    };
    brings(rate, BURST_TIME).max(least)
}

#[cfg(test)]
mod tests;
