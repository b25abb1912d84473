//! Multiple loss ratio search (RFC 9971): several goals, such as NDR and PDR, in one search.
//!
//! A goal is met at a load when its trials, weighed by their durations, say so; the search narrows an interval with short
//! trials and wide steps first, and lets long trials only confirm. All goals share all trials. Owns the choice of loads,
//! which RFC 9971 leaves open (§4.1.3); it is the Controller there, and its caller the Manager and the Measurer (§4.9).
//!
//! Keeps true: the result of each goal is classified from all trials of the search, so that of two goals which differ in
//! their loss ratio only, the laxer one never has the lower bound below the other's.
//!
//! Departs from RFC 9971 on purpose where the generator is weak. A trial in which it fell short is no trial of the device
//! and is not classified; §4.9.1 recommends to count what it did not send as lost. And the bound that is published is what
//! it sent at the load; the load, where it differs, stands beside it ([`GoalResult::lower`]). Short trials come before
//! full-length ones unless a goal's initial duration is its last; §5.5 recommends one duration where results are to be
//! explained with ease.
//!
//! Leaves to the caller: to warm the device up, as each trial counts, the first ones too; the pauses around a trial (RFC
//! 2544 §23); to say whether loads are of one direction or the sum (§4.5.2).

mod classify;
mod goal;
mod narrow;
mod result;

pub use goal::Goal;
pub use result::{GoalResult, MlrResult};

use crate::run::{Ending, Limits, Run, SearchError, Watch};
use crate::trial::Trial;
use classify::ROUNDS;
use narrow::Search;

/// Packets that a goal's loss ratio must allow to be lost in a short trial: fewer of them tell no ratio, and one lossy trial
/// can decide a load for good.
const LOST_PACKETS: f64 = 50.0;

/// Searches for every goal.
///
/// # Errors
/// Settings that make no sense; a trial that failed or contradicts itself. That the generator was too weak, the time too
/// short, or the caller impatient is no error: the goals' results say so.
pub fn search<T: Trial>(
    trial: &mut T,
    goals: &[Goal],
    limits: Limits,
    watch: Watch<'_>,
) -> Result<MlrResult, SearchError<T::Error>> {
    if goals.is_empty() || !goals.iter().all(Goal::is_sound) {
        return Err(SearchError::Setting(
            "a goal needs 0 <= loss ratio < 1, 0 <= exceed ratio < 1, 1e-6 <= width < 1, 0 < initial <= final <= sum",
        ));
    }
    // Every goal judges every trial, so the least loss ratio above 0 sets the count for all.
    let ratios = goals.iter().map(|goal| goal.loss_ratio).filter(|&ratio| ratio > 0.0);
    let packets = LOST_PACKETS / ratios.fold(f64::INFINITY, f64::min);
    let mut search = Search { run: Run::new(trial, limits, watch)?, loads: vec![], packets };
    let mut endings = vec![Ending::Complete; goals.len()];
    let mut from = 0;
    // A later goal's trials can move an earlier goal's bounds, so goals are narrowed until none asks for a trial.
    loop {
        let trials = search.run.records.len();
        for (goal, ending) in goals.iter().zip(&mut endings) {
            *ending = search.pursue(goal, from)?;
        }
        if search.run.records.len() == trials {
            break;
        }
        from = ROUNDS - 1;
    }
    let results = goals.iter().zip(endings).map(|(goal, ending)| search.result(goal, ending)).collect();
    let widths: Vec<_> = goals.iter().map(|g| format!("{} {:.2} %", g.name, g.width * 100.0)).collect();
    let rule = format!(
        "It stops when every goal's bounds are within its width ({}, of the upper bound) by trials of its final duration \
         (RFC 9971).",
        widths.join(", ")
    );
    Ok(MlrResult { goals: results, trials: search.run.records, spent: search.run.spent, rule })
}
