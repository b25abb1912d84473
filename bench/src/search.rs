//! What a device under test can carry: searches over both ends of its wire, with a line for each trial.
//!
//! Owns: the order of the searches, since latency, bursts and recovery are at parts of what the first ones find; and what
//! is kept of their trials for tables and pages. Keeps true: the generator's own reach is measured first, and a result above
//! it is none.

mod parts;

use crate::watch::Watch;
use anyhow::{Result, anyhow, ensure};
use parts::At;
use std::cell::RefCell;
use std::fmt;
use std::time::Duration;
use zsync_ends::order::{Phase, Rate};
use zsync_ends::pair::{Look, Pair};
use zsync_report::curve::{LatencyCurve, LossCurve, Trial};
use zsync_report::outcome::Ndr;
use zsync_search::mlr::{self, Goal};
use zsync_search::run::{Ending, Limits, Watch as Reins};
use zsync_search::trial::{Rate as Scaled, Record};
use zsync_search::{mrr, rfc2544};

/// One kind of search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Rates without loss, and with at most 0.5 % (MLRsearch, RFC 9971).
    Ndr,
    /// Throughput by halving (RFC 2544 section 26.1).
    Rfc2544,
    /// What comes through when all is sent that can be.
    Mrr,
    /// Latency at 10, 50 and 90 % of the rate without loss.
    Latency,
    /// The longest burst without loss (RFC 2544 section 26.4, RFC 9004).
    BackToBack,
    /// How long loss goes on after an overload (RFC 2544 section 26.5).
    Recovery,
    /// How long nothing comes while the device is reset (RFC 6201).
    Reset,
    /// How many connections a second are opened (after RFC 9693); see [`crate::connections`].
    ConnectionRate,
    /// How many connections the device's table holds, and the rate before.
    TableCapacity,
}

impl Kind {
    /// Whether it is a search for connections, and not for packets.
    pub fn is_of_connections(self) -> bool {
        matches!(self, Self::ConnectionRate | Self::TableCapacity)
    }
}

impl Kind {
    /// As the command line names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndr => "ndr",
            Self::Rfc2544 => "rfc2544",
            Self::Mrr => "mrr",
            Self::Latency => "latency",
            Self::BackToBack => "back-to-back",
            Self::Recovery => "recovery",
            Self::Reset => "reset",
            Self::ConnectionRate => "connection-rate",
            Self::TableCapacity => "table-capacity",
        }
    }
}

/// How searches go.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which ones, in any order; what one needs of another is searched for too.
    pub kinds: Vec<Kind>,
    /// The goals of [`Kind::Ndr`]; the first one is the rate that others are parts of.
    pub goals: Vec<Goal>,
    /// Least rate that is tried, packets per second.
    pub minimum: f64,
    /// Greatest rate; `None` takes what the generator reaches.
    pub maximum: Option<f64>,
    /// Of each trial but those of the goals.
    pub trial: Duration,
    /// How often what is repeated is repeated.
    pub repeats: u32,
    /// Sum of durations that no single search passes.
    pub time: Duration,
}

impl Plan {
    /// Goals that take little time: trials of that length, three of each load, of which one may lose packets. A hiccup of a
    /// machine that does other things besides is not the device's capacity then. It is coarse: bounds within 3 %.
    pub fn quick(trial: Duration) -> Self {
        let of = |goal: Goal| Goal {
            initial: trial,
            last: trial,
            sum: trial * 3,
            exceed_ratio: 0.34,
            width: 0.03,
            ..goal
        };
        Self {
            kinds: vec![Kind::Ndr],
            goals: vec![of(Goal::ndr()), of(Goal::pdr())],
            minimum: 1000.0,
            maximum: None,
            trial,
            repeats: 3,
            time: trial * 60,
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Of each search, in words, with its stopping rule.
    pub texts: Vec<String>,
    /// The first goal's rate, and its loss ratio.
    pub ndr: Option<Ndr>,
    /// The second goal's rate, where it is regular.
    pub pdr: Option<f64>,
    /// Why the first goal's result is irregular, if it is.
    pub irregular: Option<String>,
    /// Received packets per second at the greatest rate, trial by trial.
    pub mrr: Vec<f64>,
    /// Every trial that measured the device: what was lost at which rate.
    pub trials: Vec<Trial>,
    /// Latency by percentile, rate by rate.
    pub latency: Vec<LatencyCurve>,
    /// Searches that failed, and why.
    pub failed: Vec<String>,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// Whether it was interrupted.
    pub interrupted: bool,
}

impl Findings {
    /// Loss by offered rate, of a series of that name.
    pub fn loss(&self, series: &str) -> LossCurve {
        LossCurve { series: series.to_owned(), trials: self.trials.clone() }
    }

    fn keep(&mut self, records: &[Record]) {
        let measured = records.iter().filter(|record| !record.short).map(|record| &record.measured);
        self.trials.extend(measured.map(|measured| Trial {
            offered: measured.offered,
            received: measured.forwarding_rate(),
            loss: measured.loss_ratio(),
        }));
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.texts.iter().try_for_each(|text| writeln!(f, "{}", text.trim_end()))?;
        self.failed.iter().try_for_each(|why| writeln!(f, "FAILED: {why}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

/// A watch's eyes on a trial: the live line is its line.
pub struct Eyes<'a>(pub &'a Watch);

impl Look for Eyes<'_> {
    fn line(&self, line: &str) {
        self.0.say(line);
    }

    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// What a pair's far end is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Count.
    Counts,
    /// Count what a sender sent that ends a burst at the packet.
    Bursts,
    /// Read some of the packets, as many as [`SAMPLES`], and count the others.
    Samples,
    /// Read all of them.
    All,
}

impl Wanted {
    /// Whether packets are to be read.
    pub fn reads(self) -> bool {
        matches!(self, Self::Samples | Self::All)
    }
}

/// Packets per second that are read where not all have to be.
pub const SAMPLES: u64 = 2000;

/// Makes a pair of both ends.
pub type Ends<'a> = dyn FnMut(Wanted) -> Result<Pair<'a>> + 'a;

/// What is to be done to reset the device under test.
pub type ResetAct<'a> = dyn FnMut() -> Result<()> + 'a;

/// Runs the searches of a plan. `each` is told of every trial.
///
/// # Errors
/// Ends that cannot be opened; a trial that failed, or was spoiled by this side; a reset without `act`.
pub fn run(
    plan: &Plan,
    ends: &mut Ends<'_>,
    mut act: Option<&mut ResetAct<'_>>,
    watch: &Watch,
    each: &dyn Fn(&Record),
) -> Result<Findings> {
    let wants = |kind: Kind| plan.kinds.contains(&kind);
    let mut found = Findings::default();
    let done = RefCell::new(0);
    let cancelled = || watch.is_cancelled();
    let progress = |record: &Record| {
        *done.borrow_mut() += 1;
        each(record);
    };
    let reins = Reins { cancelled: &cancelled, progress: &progress };
    // One pair at a time: a device has room for one far end.
    let mut counting = ends(Wanted::Counts)?;
    counting.readable = Some(0);
    let (maximum, note) = match plan.maximum {
        Some(maximum) => (maximum, None),
        None => {
            let reach = reach(&mut counting, plan.trial)?;
            let text = Scaled(reach);
            (reach, Some(format!("the greatest rate is what the generator reached by itself: {text}")))
        }
    };
    found.notes.extend(note);
    ensure!(
        maximum > plan.minimum,
        "the greatest rate, {}, is not above the least one, {}: lower --min-rate",
        Scaled(maximum),
        Scaled(plan.minimum)
    );
    let limits = Limits { minimum: plan.minimum, maximum, time: plan.time };
    let needs_ndr = [Kind::Ndr, Kind::Latency, Kind::BackToBack, Kind::Recovery, Kind::Reset].map(wants);
    if needs_ndr.contains(&true) && !wants(Kind::Rfc2544) || wants(Kind::Ndr) {
        let result = mlr::search(&mut counting, &plan.goals, limits, reins)?;
        found.keep(&result.trials);
        if let Some(first) = result.goals.first() {
            found.pdr = result.goals.get(1).filter(|goal| goal.is_regular()).and_then(|goal| goal.lower);
            found.ndr = first.lower.map(|rate| Ndr { rate, loss_limit: first.goal.loss_ratio });
            found.irregular = (!first.is_regular()).then(|| first.ending.to_string());
        }
        found.texts.push(result.to_string());
    }
    if wants(Kind::Rfc2544) {
        let settings = rfc2544::Settings { duration: plan.trial, ..rfc2544::Settings::default() };
        match rfc2544::throughput(&mut counting, settings, limits, reins) {
            Ok(result) => {
                found.keep(&result.trials);
                if found.ndr.is_none() {
                    found.ndr = result.lower.map(|rate| Ndr { rate, loss_limit: settings.loss_ratio });
                    found.irregular = (result.ending != Ending::Complete).then(|| result.ending.to_string());
                }
                found.texts.push(result.to_string());
            }
            Err(error) => found.failed.push(format!("rfc2544: {error:#}")),
        }
    }
    if wants(Kind::Mrr) {
        match mrr::measure(&mut counting, plan.repeats, plan.trial, limits, reins) {
            Ok(result) => {
                found.keep(&result.trials);
                found.mrr.clone_from(&result.received);
                found.texts.push(result.to_string());
            }
            Err(error) => found.failed.push(format!("mrr: {error:#}")),
        }
    }
    found.notes.extend(counting.verdicts.iter().cloned());
    let throughput = found.ndr.map(|ndr| ndr.rate);
    let rest = [Kind::BackToBack, Kind::Latency, Kind::Recovery, Kind::Reset];
    // A device has room for one far end.
    drop(counting);
    for kind in rest.into_iter().filter(|&kind| wants(kind)) {
        if watch.is_cancelled() {
            break;
        }
        let Some(throughput) = throughput else {
            found
                .notes
                .push(format!("{}: no rate without loss was found, of which it is at a part", kind.name()));
            continue;
        };
        let at = At { plan, throughput, maximum };
        let done = match kind {
            Kind::BackToBack => ends(Wanted::Bursts).and_then(|mut pair| at.bursts(&mut pair, &cancelled)),
            Kind::Latency => {
                ends(Wanted::Samples).and_then(|pair| at.latency(pair, limits, reins, &mut found))
            }
            Kind::Recovery => ends(Wanted::All).and_then(|mut pair| at.recovery(&mut pair)),
            _ => match act.as_mut() {
                Some(act) => ends(Wanted::All).and_then(|mut pair| at.reset(&mut pair, act)),
                None => Err(anyhow!("nobody said what resets the device")),
            },
        };
        match done {
            Ok(text) => found.texts.push(text),
            // What was found before is worth telling.
            Err(error) => found.failed.push(format!("{}: {error:#}", kind.name())),
        }
    }
    found.interrupted = watch.is_cancelled();
    Ok(found)
}

/// What the generator reaches by itself, packets per second.
pub(crate) fn reach(pair: &mut Pair<'_>, trial: Duration) -> Result<f64> {
    let (sent, _) = pair.run(vec![Phase { rate: Rate::Full, duration: trial }], None, None)?;
    let rate = sent.rate();
    ensure!(rate > 0.0, "the generator sent nothing: is the device up?");
    Ok(rate)
}
