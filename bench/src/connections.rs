//! What a device's table of connections takes: how many a second, and how many in all (after RFC 9693).
//!
//! Owns the order of the searches: the capacity is searched for at half of the rate that connections can be opened at.
//! Keeps true: a result that the generator limited says so.

use crate::search::Kind;
use crate::watch::Watch;
use anyhow::{Result, ensure};
use std::fmt;
use std::time::Duration;
use zsync_ends::connections::Opener;
use zsync_search::connections::{Attempt, Connections, Established, Filling, capacity, establishment_rate};
use zsync_search::run::{Ending, Limits, SearchError};
use zsync_search::trial::Scaled;

/// Where a search for a rate stops, (upper − lower) / upper: siitperf's.
const RESOLUTION: f64 = 0.025;
/// Of the rate that connections can be opened at, what the table is filled at.
const FILLING: f64 = 0.5;
/// Connections of the first trial of a capacity.
const FIRST: u64 = 64;
/// Trials that take longer than this may outlast connections: the kernel's live for 30 s (`nf_conntrack_udp_timeout`).
const LONG: Duration = Duration::from_secs(25);

/// How the searches go.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which ones; those that are none of connections do not count.
    pub kinds: Vec<Kind>,
    /// Connections that each trial of the rate opens. They must fit the table.
    pub count: u64,
    /// The most connections that are tried for the capacity.
    pub most: u64,
    /// Least rate that is tried, connections per second.
    pub minimum: f64,
    /// Greatest rate; `None` takes what the generator reaches.
    pub maximum: Option<f64>,
    /// Sum of the durations of all phases 1 that no search passes.
    pub time: Duration,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Of each search, in words, with its stopping rule.
    pub texts: Vec<String>,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// Connections per second at which all were opened.
    pub rate: Option<f64>,
    /// Why that is no measurement of the device, if it is none.
    pub irregular_rate: Option<String>,
    /// Connections that fitted.
    pub capacity: Option<u64>,
    /// Why that is not the table's capacity, if it is not.
    pub irregular_capacity: Option<String>,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.texts.iter().try_for_each(|text| writeln!(f, "{}", text.trim_end()))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

/// Runs the searches of a plan. `each` is told of every trial.
///
/// # Errors
/// A trial that failed; a rate that is needed and was not found.
pub fn run(plan: &Plan, opener: &mut Opener<'_>, watch: &Watch, each: &dyn Fn(&Attempt)) -> Result<Findings> {
    let mut found = Findings::default();
    let cancelled = || watch.is_cancelled();
    let (maximum, note) = match plan.maximum {
        Some(maximum) => (maximum, None),
        None => {
            let reach = opener.reach(plan.count)?;
            let text = Scaled(reach, "cps");
            (reach, Some(format!("the greatest rate is what the generator reached by itself: {text}")))
        }
    };
    found.notes.extend(note);
    ensure!(
        maximum > plan.minimum,
        "the greatest rate, {}, is not above the least one, {}: lower --min-rate",
        Scaled(maximum, "cps"),
        Scaled(plan.minimum, "cps")
    );
    let limits = Limits { minimum: plan.minimum, maximum, time: plan.time };
    let mut device = Told { opener, each, phase1: None };
    let result =
        establishment_rate(&mut device, plan.count, RESOLUTION, limits, &cancelled).map_err(in_words)?;
    note_long(&result.trials, &mut found.notes);
    found.irregular_rate = (result.ending != Ending::Complete).then(|| result.ending.to_string());
    if let Ending::BelowMinimum(_) = result.ending {
        let advice = "if that many do not fit the table, lower --connections; else lower --min-rate";
        found.notes.push(format!("not even the least rate opened {} connections: {advice}", plan.count));
    }
    found.rate = result.lower;
    found.texts.push(result.to_string());
    if plan.kinds.contains(&Kind::TableCapacity) && !watch.is_cancelled() {
        let Some(rate) = found.rate else {
            found.irregular_capacity = Some("no rate was found to fill the table at".to_owned());
            return Ok(found);
        };
        let filling = Filling {
            first: FIRST.min(plan.most),
            most: plan.most,
            rate: (rate * FILLING).max(1.0),
            time: plan.time,
        };
        let result = capacity(&mut device, filling, &cancelled).map_err(in_words)?;
        note_long(&result.trials, &mut found.notes);
        found.irregular_capacity = (result.ending != Ending::Complete).then(|| match result.ending {
            Ending::AboveMaximum(most) => format!("all of {most:.0} connections fitted, the most tried"),
            ending => ending.to_string(),
        });
        found.capacity = result.fitted;
        found.texts.push(result.to_string());
    }
    Ok(found)
}

fn note_long(trials: &[Attempt], notes: &mut Vec<String>) {
    let longest = trials.iter().map(|trial| trial.phase1.duration).max().unwrap_or_default();
    let note = format!("trials took up to {longest:.0?}: the device must keep idle connections for longer");
    notes.extend((longest > LONG).then_some(note));
}

/// An error of a search as one of the program; the trial's own keeps its causes.
fn in_words(error: SearchError<anyhow::Error>) -> anyhow::Error {
    match error {
        SearchError::Trial { rate, error } => {
            error.context(format!("the trial at {} failed", Scaled(rate, "cps")))
        }
        error => anyhow::anyhow!("{error}"),
    }
}

/// Tells of each trial.
struct Told<'a, 'b> {
    opener: &'a mut Opener<'b>,
    each: &'a dyn Fn(&Attempt),
    phase1: Option<(f64, Established)>,
}

impl Connections for Told<'_, '_> {
    type Error = anyhow::Error;

    fn clear(&mut self) -> Result<()> {
        self.opener.clear()
    }

    fn establish(&mut self, count: u64, rate: f64) -> Result<Established> {
        let phase1 = self.opener.establish(count, rate)?;
        self.phase1 = Some((rate, phase1));
        Ok(phase1)
    }

    fn validate(&mut self, count: u64) -> Result<u64> {
        let valid = self.opener.validate(count)?;
        if let Some((rate, phase1)) = self.phase1.take() {
            (self.each)(&Attempt { count, rate, phase1, valid });
        }
        Ok(valid)
    }
}
