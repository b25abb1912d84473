//! The gate: what must not become worse unseen.
//!
//! Three things that do not depend on how busy a machine is: instructions per packet of every gated case, against a
//! committed baseline; allocations of a worker's loop, of which there are none; and the ledger, which balances. Owns: the
//! baseline's file. Refuses: to compare counts of two builds (another compiler, profile, target or flags). Keeps true: what
//! fails is told by name, with what it was, what it is, and what to do.

use crate::stages::callgrind;
use crate::stages::case::{Case, KINDS, gated};
use crate::stages::work::Work;
use crate::watch::{Interrupted, Watch};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

/// A case may differ by this part of what it was …
const PART: f64 = 0.02;
/// … or by this many instructions per packet, whichever is more.
const INSTRUCTIONS: f64 = 1.0;
/// Packets that a worker forwards without an allocation.
const UNALLOCATED: u64 = 1_000_000;

/// The committed baseline.
pub const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.json");

/// What a program was built with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// As `rustc -V` says.
    pub rustc: String,
    /// Cargo's profile.
    pub profile: String,
    /// The triple.
    pub target: String,
    /// `RUSTFLAGS`, which may name a processor.
    pub flags: String,
}

impl Build {
    /// Of this program.
    pub fn this() -> Self {
        Self {
            rustc: env!("ZSYNC_BENCH_RUSTC").to_owned(),
            profile: env!("ZSYNC_BENCH_PROFILE").to_owned(),
            target: env!("ZSYNC_BENCH_TARGET").to_owned(),
            flags: env!("ZSYNC_BENCH_FLAGS").to_owned(),
        }
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, profile {}, {}", self.rustc, self.profile, self.target)?;
        if self.flags.is_empty() { Ok(()) } else { write!(f, ", {}", self.flags) }
    }
}

/// Instructions per packet, by case, of one build.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// What was counted.
    pub build: Build,
    /// By the case's name.
    pub instructions: BTreeMap<String, f64>,
}

impl Baseline {
    /// Reads one.
    ///
    /// # Errors
    /// The file cannot be read, or is not a baseline.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| {
            format!("the baseline {}: `zsync-bench gate --update` writes it", path.display())
        })?;
        Self::parse(&text).with_context(|| format!("{} is not a baseline", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let field = |name: &str| {
            value[name].as_str().map(str::to_owned).with_context(|| format!("`{name}` is missing"))
        };
        let build = Build {
            rustc: field("rustc")?,
            profile: field("profile")?,
            target: field("target")?,
            flags: field("flags")?,
        };
        let cases =
            value["instructions_per_packet"].as_object().context("`instructions_per_packet` is missing")?;
        let number = |(name, count): (&String, &Value)| {
            let count = count.as_f64().filter(|count| *count > 0.0);
            Ok((name.clone(), count.with_context(|| format!("{name} is not a count"))?))
        };
        Ok(Self { build, instructions: cases.iter().map(number).collect::<Result<_>>()? })
    }

    /// Writes it, so that a changed case is a changed line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let Build { rustc, profile, target, flags } = &self.build;
        let counts: BTreeMap<_, _> =
            self.instructions.iter().map(|(name, count)| (name, (count * 100.0).round() / 100.0)).collect();
        let value = json!({ "rustc": rustc, "profile": profile, "target": target, "flags": flags,
            "instructions_per_packet": counts });
        let text = serde_json::to_string_pretty(&value)? + "\n";
        fs::write(path, text).with_context(|| format!("the baseline {}", path.display()))
    }
}

/// What the gate says of one case.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Costs more than it did.
    Worse(String, f64, f64),
    /// Costs less than it did.
    Better(String, f64, f64),
    /// Is not in the baseline.
    Unknown(String, f64),
    /// Is in the baseline, and nowhere else.
    Gone(String),
}

impl Finding {
    /// Whether the gate fails by it.
    pub fn fails(&self) -> bool {
        !matches!(self, Self::Better(..))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UPDATE: &str = "`zsync-bench gate --update`, and commit the baseline";
        let percent = |was: f64, is: f64| 100.0 * (is - was) / was;
        match self {
            Self::Worse(name, was, is) => write!(
                f,
                "FAILED {name}: {is:.2} instructions per packet, was {was:.2} ({:+.1} %). If the change is meant: {UPDATE}",
                percent(*was, *is)
            ),
            Self::Better(name, was, is) => write!(
                f,
                "better {name}: {is:.2} instructions per packet, was {was:.2} ({:+.1} %). To hold it there: {UPDATE}",
                percent(*was, *is)
            ),
            Self::Unknown(name, is) => {
                write!(
                    f,
                    "FAILED {name}: {is:.2} instructions per packet, and not in the baseline. If it is new: {UPDATE}"
                )
            }
            Self::Gone(name) => {
                write!(
                    f,
                    "FAILED {name}: in the baseline, but there is no such case. If it was removed: {UPDATE}"
                )
            }
        }
    }
}

/// Compares what was counted with the baseline; `whole` if every case there is was counted.
pub fn compare(
    baseline: &BTreeMap<String, f64>,
    counted: &BTreeMap<String, f64>,
    whole: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, &is) in counted {
        match baseline.get(name) {
            None => findings.push(Finding::Unknown(name.clone(), is)),
            Some(&was) => {
                let room = (was * PART).max(INSTRUCTIONS);
                // Counts in the baseline are rounded to a hundredth.
                if is > was + room + 0.01 {
                    findings.push(Finding::Worse(name.clone(), was, is));
                } else if is < was - room - 0.01 {
                    findings.push(Finding::Better(name.clone(), was, is));
                }
            }
        }
    }
    if whole {
        let gone = baseline.keys().filter(|name| !counted.contains_key(*name));
        findings.extend(gone.cloned().map(Finding::Gone));
    }
    findings
}

/// The gated cases whose names contain one of these; all of them if there are none.
///
/// # Errors
/// A name that no case has.
pub fn choose(names: &[String]) -> Result<Vec<Case>> {
    let all = gated();
    for name in names {
        let has = |case: &Case| case.to_string().contains(name.as_str());
        let known = || all.iter().map(Case::to_string).collect::<Vec<_>>().join(", ");
        ensure!(all.iter().any(has), "there is no case {name} in the gate: there are {}", known());
    }
    let chosen =
        |case: &Case| names.is_empty() || names.iter().any(|name| case.to_string().contains(name.as_str()));
    Ok(all.iter().copied().filter(chosen).collect())
}

/// Counts these cases, as many at a time as there are cores: counts do not care who else is running.
///
/// # Errors
/// Valgrind is not there, or a case does not run under it; the run is to stop.
pub fn count(cases: &[Case], watch: &Watch) -> Result<BTreeMap<String, f64>> {
    let done = AtomicUsize::new(0);
    let next = Mutex::new(cases.iter().copied());
    let take = || next.lock().ok().and_then(|mut next| next.next());
    let work = || {
        let mut counted = Vec::new();
        while let Some(case) = take() {
            watch.step(done.load(Relaxed), cases.len(), &format!("instructions, {case}"));
            counted.push((case.to_string(), callgrind::instructions(case, watch)?));
            done.fetch_add(1, Relaxed);
        }
        anyhow::Ok(counted)
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut counted = BTreeMap::new();
        for thread in running {
            let part = thread.join().ok().context("a thread of the gate panicked")??;
            counted.extend(part);
        }
        Ok(counted)
    })
}

/// A worker of each kind forwards a million packets: without one allocation, and every frame and packet is accounted for.
/// Returns how many packets that were.
///
/// # Errors
/// It allocates, or the books do not balance; the run is to stop.
pub fn frugal(watch: &Watch) -> Result<u64> {
    let mut forwarded = 0;
    let workers: Vec<_> = KINDS.into_iter().filter(|(_, kind)| kind.is_worker()).collect();
    for (n, &(name, kind)) in workers.iter().enumerate() {
        watch.step(n, workers.len(), &format!("allocations, {name}"));
        ensure!(!watch.is_cancelled(), Interrupted);
        let mut work = Work::new(Case::hot(kind, zsync_packet::burst::BURST, 1000))?;
        let round = work.round() as u64;
        // A pass of each sort, and housekeeping.
        for _ in 0..1000 {
            work.measured();
        }
        work.prepare()?;
        let rounds = UNALLOCATED.div_ceil(round);
        let (allocations, ()) = zsync_allocations::during(|| (0..rounds).for_each(|_| work.measured()))?;
        ensure!(
            allocations == 0,
            "{name}: {allocations} allocations for {} packets: a worker's loop makes none",
            rounds * round
        );
        work.check_rounds(rounds)?;
        forwarded += rounds * round;
    }
    Ok(forwarded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, f64)]) -> BTreeMap<String, f64> {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn what_costs_more_fails_by_its_name_with_figures_and_a_remedy() {
        let findings =
            compare(&counts(&[("a", 100.0), ("b", 50.0)]), &counts(&[("a", 103.0), ("b", 50.9)]), true);
        assert_eq!(findings, [Finding::Worse("a".to_owned(), 100.0, 103.0)]);
        let text = findings[0].to_string();
        for part in ["FAILED a:", "103.00", "100.00", "+3.0 %", "gate --update"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(findings[0].fails());
    }

    #[test]
    fn two_percent_or_one_instruction_more_is_let_through() {
        let was = counts(&[("cheap", 3.0), ("dear", 1000.0)]);
        assert_eq!(compare(&was, &counts(&[("cheap", 4.0), ("dear", 1020.0)]), true), []);
        let findings = compare(&was, &counts(&[("cheap", 4.1), ("dear", 1021.0)]), true);
        assert_eq!(findings.iter().filter(|finding| finding.fails()).count(), 2);
    }

    #[test]
    fn what_costs_less_is_told_and_does_not_fail() {
        let findings = compare(&counts(&[("a", 100.0)]), &counts(&[("a", 90.0)]), true);
        assert_eq!(findings, [Finding::Better("a".to_owned(), 100.0, 90.0)]);
        assert!(!findings[0].fails());
    }

    #[test]
    fn a_case_without_a_baseline_and_a_baseline_without_a_case_fail() {
        let findings = compare(&counts(&[("old", 1.0)]), &counts(&[("new", 1.0)]), true);
        assert_eq!(findings, [Finding::Unknown("new".to_owned(), 1.0), Finding::Gone("old".to_owned())]);
        assert!(findings.iter().all(Finding::fails));
        // When only some were asked for, the others are not gone.
        assert_eq!(compare(&counts(&[("a", 9.0), ("b", 9.0)]), &counts(&[("a", 9.0)]), false), []);
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let path = std::env::temp_dir().join(format!("zsync-baseline-{}.json", std::process::id()));
        let baseline = Baseline { build: Build::this(), instructions: counts(&[("a", 12.34), ("b", 5.0)]) };
        baseline.write(&path).unwrap();
        let read = Baseline::read(&path);
        fs::remove_file(&path).unwrap();
        assert_eq!(read.unwrap(), baseline);
        assert!(Baseline::parse("{}").is_err());
        assert!(
            format!("{:#}", Baseline::read(Path::new("/nowhere")).unwrap_err()).contains("gate --update")
        );
    }

    #[test]
    fn the_committed_baseline_has_exactly_the_gated_cases() {
        let baseline = Baseline::read(Path::new(BASELINE)).unwrap();
        let counted = gated().iter().map(|case| (case.to_string(), 0.0)).collect();
        let wrong = |finding: &Finding| matches!(finding, Finding::Unknown(..) | Finding::Gone(_));
        let findings = compare(&baseline.instructions, &counted, true);
        assert!(!findings.iter().any(wrong), "{findings:?}");
    }

    #[test]
    fn cases_are_chosen_by_parts_of_their_names() {
        assert_eq!(choose(&[]).unwrap(), gated());
        let chosen = choose(&["lookup".to_owned()]).unwrap();
        assert_eq!(chosen.len(), 2);
        assert!(choose(&["nothing".to_owned()]).is_err());
    }

    #[test]
    fn a_program_that_does_not_count_its_allocations_is_not_let_through() {
        let error = frugal(&Watch::silent()).unwrap_err().to_string();
        assert!(error.contains("does not count"), "{error}");
    }
}
