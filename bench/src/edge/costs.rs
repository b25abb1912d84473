//! Costs: every case in turn, round by round, and what came of it beside its limit.
//!
//! A sample is the least of many short runs; what else the machine does makes runs longer and never shorter. Keeps true: in
//! each round every case has its turn; memory that only one case needs is taken while its family's cases are measured.

use crate::edge::bed::{self, BURST, Bed, Lookups};
use crate::edge::case::{CASES, Case, REWRITE, REWRITE_LIMIT, ROUTE, ROUTES, Timed};
use crate::stages::costs::{Cost, Costs};
use crate::traffic::Family::{V4, V6};
use crate::traffic::{Seeded, Table};
use crate::watch::{Interrupted, Rounds, Watch};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// Runs of a sample, at least.
const RUNS: usize = 20;

enum Work {
    Bed(Box<Bed>),
    Lookups(Lookups),
}

/// Measures all cases in about `time`.
///
/// # Errors
/// A case that cannot be set up or goes wrong.
pub(crate) fn run(rounds: usize, time: Duration, watch: &Watch, costs: &mut Costs) -> Result<()> {
    measure(CASES, ROUTES, rounds, time, watch, costs)
}

fn measure(
    cases: &[Case],
    routes: usize,
    rounds: usize,
    time: Duration,
    watch: &Watch,
    costs: &mut Costs,
) -> Result<()> {
    let nothing = bed::nothing();
    let turn = time / (cases.len() * rounds).max(1) as u32;
    let (mut done, total) = (0, cases.len() * rounds);
    for family in [V4, V6] {
        let cases: Vec<&Case> = cases.iter().filter(|case| case.family == family).collect();
        if cases.is_empty() || watch.is_cancelled() {
            continue;
        }
        watch.step(done, total, &format!("setting up {}", family.name()));
        let table = Table::random(family, routes, &mut Seeded::new(1))?;
        let mut works = Vec::new();
        for case in cases {
            watch.step(done, total, &format!("setting up {}", case.name));
            let work = match case.timed {
                Timed::Lookup => Ok(Work::Lookups(Lookups::new(case, &table))),
                _ => Bed::new(case, &table).map(|bed| Work::Bed(Box::new(bed))),
            };
            match work {
                Ok(work) => works.push((case, work, Vec::new())),
                Err(error) => costs.notes.push(format!("no figure of {}: {error:#}", case.name)),
            }
        }
        let Rounds { done: whole, note } = watch.rounds(rounds, Duration::MAX, |round| {
            for (case, work, samples) in &mut works {
                watch.step(done, total, &format!("round {} of {rounds}, {}", round + 1, case.name));
                let least = least(turn, watch, work).with_context(|| case.name.to_owned())?;
                samples.push((least - nothing).max(0.0));
                done += 1;
            }
            Ok(())
        })?;
        costs.notes.extend(note.map(|note| format!("{}: {note}", family.name())));
        for (case, _, mut samples) in works {
            samples.truncate(whole);
            costs.costs.push(Cost { name: case.name.to_owned(), budget: None, limit: case.limit, samples });
            costs.costs.extend(rewrite(case, &costs.costs));
        }
    }
    costs.notes.push(format!(
        "bursts of {BURST} packets of 64 bytes (IPv6: 64 to 74), of random flows, destinations and rules; a round's figure is that of \
         its shortest run of 64 bursts, and the limit holds for the least; {nothing:.1} clocks a packet of timing are taken off"
    ));
    Ok(())
}

/// What is left of routing without its lookups, once both are there.
fn rewrite(case: &Case, costs: &[Cost]) -> Option<Cost> {
    let [route, lookup] = ROUTE.map(|name| costs.iter().find(|cost| cost.name == name));
    let (route, lookup) = (route.filter(|_| case.name == ROUTE[0])?, lookup?);
    let samples = route.samples.iter().zip(&lookup.samples).map(|(route, lookup)| route - lookup).collect();
    Some(Cost { name: REWRITE.to_owned(), budget: None, limit: Some(REWRITE_LIMIT), samples })
}

/// The least clocks per packet of as many runs as the time allows.
fn least(turn: Duration, watch: &Watch, work: &mut Work) -> Result<f64> {
    let (start, mut runs, mut least) = (Instant::now(), 0, f64::MAX);
    while runs < RUNS || start.elapsed() < turn {
        if watch.is_cancelled() {
            return Err(Interrupted.into());
        }
        let clocks = match work {
            Work::Bed(bed) => bed.run()?,
            Work::Lookups(lookups) => lookups.run()?,
        };
        least = least.min(clocks);
        runs += 1;
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::case::Packets;
    use crate::stages::costs::Plan;

    /// The case with as few flows and rules as show that it works.
    fn small(case: &Case) -> Case {
        let packets = match case.packets {
            Packets::Ruled(_) => Packets::Ruled(20),
            Packets::Tcp(_) => Packets::Tcp(100),
            Packets::Udp(_) => Packets::Udp(100),
            Packets::Translated(_) => Packets::Translated(100),
            Packets::Balanced(_) => Packets::Balanced(100),
            Packets::Sources(sources) => Packets::Sources(sources.min(100)),
            Packets::Routed => Packets::Routed,
        };
        Case { packets, ..*case }
    }

    #[test]
    fn packets_of_every_case_come_through_and_rewriting_is_what_is_left_of_routing() {
        let cases: Vec<Case> = CASES.iter().map(small).collect();
        let mut costs =
            crate::stages::costs::run(Plan::Stages(|_| false), 1, Duration::ZERO, false, &Watch::silent())
                .unwrap();
        measure(&cases, 1000, 2, Duration::ZERO, &Watch::silent(), &mut costs).unwrap();
        assert_eq!(costs.costs.len(), CASES.len() + 1, "{:?}", costs.notes);
        assert!(costs.costs.iter().all(|cost| cost.samples.len() == 2));
        let text = costs.to_string();
        assert!(text.contains(REWRITE) && text.contains("limit"), "{text}");
    }
}
