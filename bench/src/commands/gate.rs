//! `gate`, and `stage`, which the gate runs under callgrind.

use anyhow::{Result, ensure};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use zsync_bench::gate::{self, Baseline, Build};
use zsync_bench::interrupt;
use zsync_bench::memory;
use zsync_bench::stages::callgrind;
use zsync_bench::stages::case::{Case, Kind, MOST_ROUTES};
use zsync_bench::watch::{Interrupted, Watch};
use zsync_report::spread::Spread;

#[derive(Args)]
pub struct Stage {
    /// What is done: pool, checksum, header-v4, lookup-v4, drop, patch, parse-v4, route-v4, pipeline-v4, worker-patch, …
    name: Kind,
    /// How many packets, rounded up to whole rounds.
    #[arg(long, default_value_t = callgrind::PACKETS)]
    packets: u64,
    /// Packets at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=64))]
    burst: u8,
    /// Routes in the table.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=MOST_ROUTES as i64))]
    table: u32,
    /// New destinations for every round, all over the table.
    #[arg(long)]
    cold: bool,
}

#[derive(Args)]
pub struct Gate {
    /// Only the cases whose names contain one of these.
    names: Vec<String>,
    /// Writes the baseline instead of comparing with it.
    #[arg(long)]
    update: bool,
    /// The baseline's file.
    #[arg(long, default_value = gate::BASELINE)]
    baseline: PathBuf,
    /// Also that zsync forwards at least as fast in memory as testpmd beside it (timed, so not in CI).
    #[arg(long)]
    ratios: bool,
}

/// Does one stage's work, once.
pub fn stage(what: &Stage) -> Result<()> {
    let (burst, table) = (usize::from(what.burst), what.table as usize);
    let case = Case { kind: what.name, burst, table, cold: what.cold };
    println!("{case}: {} packets", callgrind::once(case, what.packets)?);
    Ok(())
}

/// Lets the build through, or does not.
pub fn pass(what: &Gate) -> Result<ExitCode> {
    let watch = Watch::new("gate");
    match judge(what, &watch) {
        Err(_) if watch.is_cancelled() => {
            watch.clear();
            println!("interrupted: nothing more is counted or compared, and no baseline written");
            Ok(ExitCode::from(interrupt::STATUS))
        }
        outcome => outcome,
    }
}

fn judge(what: &Gate, watch: &Watch) -> Result<ExitCode> {
    let cases = gate::choose(&what.names)?;
    let whole = what.names.is_empty();
    let mut failed = false;
    match skipped(what)? {
        Some(why) => println!("SKIPPED: instructions: {why}"),
        None => {
            let counted = gate::count(&cases, watch)?;
            watch.clear();
            for (name, count) in &counted {
                println!("{name:28} {count:9.2} instructions/packet");
            }
            if what.update {
                let mut baseline = Baseline { build: Build::this(), instructions: counted };
                if !whole {
                    let known = Baseline::read(&what.baseline)?;
                    ensure!(
                        known.build == baseline.build,
                        "the baseline is of another build: update all of it, without names"
                    );
                    for (name, count) in known.instructions {
                        baseline.instructions.entry(name).or_insert(count);
                    }
                }
                baseline.write(&what.baseline)?;
                println!("wrote {}", what.baseline.display());
            } else {
                let baseline = Baseline::read(&what.baseline)?;
                let findings = gate::compare(&baseline.instructions, &counted, whole);
                findings.iter().for_each(|finding| println!("{finding}"));
                failed |= findings.iter().any(|finding| finding.fails());
            }
        }
    }
    let frugal = gate::frugal(watch);
    watch.clear();
    match frugal {
        Err(error) if watch.is_cancelled() => return Err(error),
        Ok(packets) => println!("no allocation, and balanced books, over {packets} packets through workers"),
        Err(error) => {
            println!("FAILED {error:#}");
            failed = true;
        }
    }
    if what.ratios {
        let report = memory::patch(5, Duration::from_secs(1), watch)?;
        watch.clear();
        print!("{report}");
        ensure!(!watch.is_cancelled(), Interrupted);
        match report.ratios.first().and_then(|ratio| Spread::of(&ratio.samples)).map(|spread| spread.median) {
            Some(ratio) if ratio < LEAST_RATIO => {
                println!("FAILED {}: {ratio:.2}, at least {LEAST_RATIO} is expected", report.name);
                failed = true;
            }
            Some(_) => {}
            None => println!("SKIPPED: ratios: there is no testpmd"),
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// zsync forwards between null devices at more than twice testpmd's rate (`bench/RESULTS.md`): half of that is no noise.
const LEAST_RATIO: f64 = 1.0;

/// Why instructions cannot be compared here; in CI that is an error.
fn skipped(what: &Gate) -> Result<Option<String>> {
    let why = match callgrind::missing() {
        Some(why) => Some(why),
        None if what.update => None,
        None => {
            let (baseline, this) = (Baseline::read(&what.baseline)?.build, Build::this());
            let other = || format!("the baseline is of another build ({baseline}; this program is {this})");
            (baseline != this).then(other)
        }
    };
    if let Some(why) = &why {
        let ci = std::env::var("CI").as_deref() == Ok("true");
        ensure!(
            !ci && !what.update,
            "{why}: build it as the baseline says, or `zsync-bench gate --update` with this build and commit"
        );
    }
    Ok(why)
}
