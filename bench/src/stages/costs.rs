//! Costs: clocks per packet of the cases, by burst and by size of the table, with warm and with cold caches.
//!
//! Owns: the list of what is measured, budgets to compare with, a buffer that empties the caches. Refuses: machines without
//! a time stamp counter. Keeps true: in each round every case of a table has its turn, so that a busy moment of the machine
//! is one sample of each, and not all samples of one; a sample is the middle one of several sweeps.

use crate::machine::{self, measured_core};
use crate::outcome::COMMIT;
use crate::stages::case::{Case, KINDS, Kind, MOST_ROUTES};
use crate::stages::sample::{Eviction, Sweep, sample};
use crate::stages::work::{COLD_ROUND, HOT_ROUND, Work};
use crate::traffic::Family::{self, V4, V6};
use crate::traffic::{Seeded, Table};
use crate::watch::{Rounds, Watch};
use crate::{edge, tools, tsc, wireguard};
use anyhow::{Context, Result};
use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use zsync_packet::burst::BURST;
use zsync_report::machine::Machine;
use zsync_report::outcome::{Direction, Outcome, Series};
use zsync_report::spread::Spread;

/// Packets at a time, as they are varied.
const BURSTS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Routes, as they are varied; the last only when it is asked for.
const TABLES: [usize; 5] = [1, 1_000, 100_000, 1_000_000, MOST_ROUTES];
/// Routes where bursts are varied.
const USUAL: usize = 1_000;

/// What a benchmark measures.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// Of all cases of stages those that it says.
    Stages(fn(&Case) -> bool),
    /// The stages of the edge, beside their limits.
    Edge,
    /// The generator and the sink themselves.
    Tools,
    /// WireGuard's stages, beside the batch of crypto alone.
    Wireguard,
}

/// Benchmarks: name, what it measures, its plan.
pub const BENCHMARKS: [(&str, &str, Plan); 5] = [
    (
        "stages",
        "clocks per packet of each stage, by burst and by table, with warm and cold caches",
        Plan::Stages(|_| true),
    ),
    (
        "lookups",
        "clocks per lookup, by burst and by table, with warm and cold caches",
        Plan::Stages(|case| matches!(case.kind, Kind::Lookup(_))),
    ),
    (
        "edge",
        "clocks per packet of filter, track, nat, balance, police and the whole path, beside their limits",
        Plan::Edge,
    ),
    ("tools", "clocks per packet of the generator and the sink themselves", Plan::Tools),
    (
        "wireguard",
        "clocks per packet of WireGuard and routing over the seal alone, with 1 to 100,000 peers, and memory of a peer",
        Plan::Wireguard,
    ),
];

/// The plan of the benchmark of that name.
pub fn find(name: &str) -> Option<Plan> {
    BENCHMARKS.iter().find(|(known, ..)| *known == name).map(|(.., plan)| *plan)
}

/// Clocks that others take: low and high, and what they are.
pub type Budget = (u32, u32, &'static str);

/// What VPP's nodes take, in clocks per packet (as its documentation and benchmarks publish them, on other machines than
/// this one).
pub fn budget(kind: Kind) -> Option<Budget> {
    match kind {
        Kind::Parse(V4) => Some((20, 22, "VPP ip4-input")),
        Kind::Lookup(V4) => Some((29, 31, "VPP ip4-lookup")),
        Kind::Route(V4) => Some((54, 67, "VPP ip4-lookup and ip4-rewrite (25 to 36)")),
        Kind::Pipeline(V4) | Kind::WorkerRoute(V4) => {
            Some((132, 136, "VPP, whole IPv4 path, devices included"))
        }
        _ => None,
    }
}

/// The cost of one case.
#[derive(Clone, Debug)]
pub struct Cost {
    /// What was measured.
    pub name: String,
    /// What to compare it with.
    pub budget: Option<Budget>,
    /// Clocks per packet that the least of its samples must not exceed.
    pub limit: Option<u32>,
    /// Clocks per packet, round by round.
    pub samples: Vec<f64>,
}

/// What was measured, and where.
#[derive(Clone, Debug)]
pub struct Costs {
    /// The machine.
    pub machine: Machine,
    /// By case.
    pub costs: Vec<Cost>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// Every case there is, over tables of at most `most` routes.
fn all(most: usize) -> Vec<Case> {
    let kinds = KINDS.map(|(_, kind)| kind);
    let mut cases = Vec::new();
    for kind in kinds {
        let bursts = if kind.is_worker() { &[BURST][..] } else { &BURSTS };
        cases.extend(bursts.iter().map(|&burst| Case::hot(kind, burst, USUAL)));
        let tables = if kind.looks_up() { &TABLES[..] } else { &[USUAL] };
        for &table in tables.iter().filter(|&&table| table <= most) {
            let hot = Case::hot(kind, BURST, table);
            if !cases.contains(&hot) {
                cases.push(hot);
            }
            if kind.reads() && !kind.is_worker() {
                cases.push(Case { cold: true, ..hot });
            }
        }
    }
    cases
}

/// Measures what `plan` says, in about `time`; over tables of ten million routes too if `large`.
///
/// # Errors
/// No time stamp counter, or a case that cannot be set up or goes wrong.
pub fn run(plan: Plan, rounds: usize, time: Duration, large: bool, watch: &Watch) -> Result<Costs> {
    tsc::read().context("this processor has no time stamp counter")?;
    let mut costs = Costs { machine: machine::look(), costs: Vec::new(), notes: Vec::new() };
    if !core_affinity::set_for_current(core_affinity::CoreId { id: measured_core() }) {
        costs.notes.push(format!("not pinned: core {} was refused", measured_core()));
    }
    match plan {
        Plan::Stages(plan) => stages(plan, rounds, time, large, watch, &mut costs)?,
        Plan::Edge => edge::costs::run(rounds, time, watch, &mut costs)?,
        Plan::Tools => tools::run(rounds, time, watch, &mut costs)?,
        Plan::Wireguard => wireguard::costs::run(rounds, time, watch, &mut costs)?,
    }
    Ok(costs)
}

fn stages(
    plan: fn(&Case) -> bool,
    rounds: usize,
    time: Duration,
    large: bool,
    watch: &Watch,
    costs: &mut Costs,
) -> Result<()> {
    let most = if large { MOST_ROUTES } else { 1_000_000 };
    let cases: Vec<_> = all(most).into_iter().filter(plan).collect();
    let turn = time / (cases.len() * rounds).max(1) as u32;
    let mut eviction = Eviction::new();
    let mut measured: Vec<(Case, Vec<f64>)> = Vec::new();
    let (mut done, total) = (0, cases.len() * rounds);
    for family in [V4, V6] {
        // What looks nothing up is measured with the smallest table.
        for routes in TABLES {
            let over = |case: &&Case| case.kind.family() == family && case.routes() == routes;
            let cases: Vec<_> = cases.iter().filter(over).copied().collect();
            if cases.is_empty() {
                continue;
            }
            let (need, have) = (Table::bytes(family, routes), available());
            let mib = |bytes: usize| bytes >> 20;
            if have.is_some_and(|have| need > have) {
                let have = mib(have.unwrap_or(0));
                let (family, need) = (family.name(), mib(need));
                costs.notes.push(format!(
                    "no {family} table of {routes} routes: it takes {need} MiB, {have} MiB are free"
                ));
                continue;
            }
            if routes >= 1_000_000 {
                let (family, need) = (family.name(), mib(need));
                costs.notes.push(format!("{routes} {family} routes: at most {need} MiB"));
            }
            let table = format!("{} table of {routes}", family.name());
            watch.step(done, total, &table);
            if watch.is_cancelled() {
                costs.notes.push(format!("interrupted before the {table} routes"));
                continue;
            }
            let mut works = set_up(family, routes, &cases)?;
            let Rounds { done: whole, note } = watch.rounds(rounds, Duration::MAX, |round| {
                for (work, case, samples) in &mut works {
                    watch.step(done, total, &format!("{table}, round {} of {rounds}, {case}", round + 1));
                    samples.push(sample(turn, watch, || sweep(work, case.cold, &mut eviction))?);
                    done += 1;
                }
                Ok(())
            })?;
            costs.notes.extend(note.map(|note| format!("{table} routes: {note}")));
            measured.extend(works.into_iter().map(|(_, case, mut samples)| {
                samples.truncate(whole);
                (case, samples)
            }));
        }
    }
    measured.sort_by_key(|(case, _)| {
        let kind = KINDS.iter().position(|(_, kind)| *kind == case.kind);
        (kind, case.cold, case.table, case.burst)
    });
    costs.costs.extend(measured.into_iter().map(|(case, samples)| {
        let budget = budget(case.kind).filter(|_| case.burst == BURST);
        Cost { name: case.to_string(), budget, limit: None, samples }
    }));
    costs.notes.push(format!(
        "hot: {HOT_ROUND} packets of as many flows, written just before; cold: {COLD_ROUND} packets to random destinations \
         under the table's routes, after {} MiB of other memory were written",
        eviction.len() >> 20
    ));
    Ok(())
}

fn set_up(family: Family, routes: usize, cases: &[Case]) -> Result<Vec<(Work, Case, Vec<f64>)>> {
    let table = Arc::new(Table::random(family, routes, &mut Seeded::new(1))?);
    let set_up = |case: &Case| Ok((Work::over(*case, table.clone())?, *case, vec![]));
    cases.iter().map(set_up).collect()
}

/// Clocks per packet of every packet of the case, once.
fn sweep(work: &mut Work, cold: bool, eviction: &mut Eviction) -> Result<Sweep> {
    work.prepare()?;
    if cold {
        eviction.evict();
        work.touch();
    }
    let sweep = Sweep::of(work.round(), || work.measured());
    work.check()?;
    Ok(sweep)
}

/// Bytes that the kernel could give now (proc(5), `MemAvailable`).
fn available() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<usize>().ok().map(|kib| kib << 10)
}

impl Costs {
    /// As `--json` prints them, a line each; `benchmark` names them, `command` measures them again.
    pub fn outcomes(&self, benchmark: &str, command: &str) -> Vec<Outcome> {
        let outcome = |cost: &Cost| {
            let ours = Series::new("zsync", cost.samples.clone());
            Outcome {
                title: "what a packet costs in one place, in memory".to_owned(),
                command: command.to_owned(),
                machine: self.machine.with_devices("null", "in memory"),
                commit: COMMIT.to_owned(),
                notes: self.notes.clone(),
                ..Outcome::new(format!("{benchmark}: {}", cost.name), "clocks/packet", Direction::Less, ours)
            }
        };
        self.costs.iter().filter(|cost| !cost.samples.is_empty()).map(outcome).collect()
    }
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        let names = self.costs.iter().map(|cost| cost.name.chars().count());
        let width = names.max().unwrap_or(0).max(28);
        writeln!(
            f,
            "{:<width$} {:>8} {:>8} {:>8}  clocks/packet",
            "kind/burst/routes/caches", "median", "min", "max"
        )?;
        for cost in &self.costs {
            let Some(Spread { minimum, median, maximum }) = Spread::of(&cost.samples) else { continue };
            write!(f, "{:<width$} {median:>8.1} {minimum:>8.1} {maximum:>8.1}", cost.name)?;
            if let Some((low, high, whose)) = cost.budget {
                write!(f, "  {whose}: {low} to {high}")?;
            }
            if let Some(limit) = cost.limit {
                let held = if minimum <= f64::from(limit) { "held" } else { "NOT held" };
                write!(f, "  limit {limit}: {held}")?;
            }
            writeln!(f)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_or_a_table_is_varied_and_no_case_comes_twice() {
        let cases = all(MOST_ROUTES);
        let names: std::collections::BTreeSet<_> = cases.iter().map(Case::to_string).collect();
        assert_eq!(names.len(), cases.len());
        for name in
            ["route-v6/1/1000/hot", "route-v4/64/10000000/cold", "pool/64/1000/hot", "parse-v4/64/1000/cold"]
        {
            assert!(names.contains(name), "{name}");
        }
        assert!(all(1_000_000).iter().all(|case| case.table <= 1_000_000));
    }

    #[test]
    fn lookups_are_measured_hot_and_cold_and_printed_beside_their_budget() {
        let plan = |case: &Case| case.kind == Kind::Lookup(V4) && case.burst == BURST && case.table <= 1000;
        let costs = run(Plan::Stages(plan), 2, Duration::ZERO, false, &Watch::silent()).unwrap();
        assert_eq!(costs.costs.len(), 4);
        assert!(
            costs
                .costs
                .iter()
                .all(|cost| cost.samples.len() == 2 && cost.samples.iter().all(|&clocks| clocks > 0.0))
        );
        let text = costs.to_string();
        assert!(
            text.contains("lookup-v4/64/1000/cold") && text.contains("VPP ip4-lookup: 29 to 31"),
            "{text}"
        );
        assert_eq!(costs.outcomes("lookups", "")[3].unit, "clocks/packet");
    }

    #[test]
    fn what_was_interrupted_before_its_first_round_has_no_outcome_and_a_note() {
        let watch = Watch::silent();
        watch.cancel();
        let plan = |case: &Case| case.kind == Kind::Lookup(V4) && case.burst == BURST && case.table <= 1000;
        let costs = run(Plan::Stages(plan), 2, Duration::ZERO, false, &watch).unwrap();
        assert!(costs.outcomes("lookups", "").is_empty());
        assert!(costs.notes[0].starts_with("interrupted before the IPv4 table of "), "{:?}", costs.notes);
    }
}
