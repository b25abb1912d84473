//! `run` and `compare`: benchmarks, one after the other, and what came of each.

use crate::commands::benchmarks;
use crate::commands::report::write_page;
use anyhow::{Result, bail};
use clap::Args;
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use zsync_bench::hugepages::HugePages;
use zsync_bench::measured::Measured;
use zsync_bench::peers::{self, PEERS, Peer, State};
use zsync_bench::stages::costs::{self, Plan};
use zsync_bench::watch::Watch;
use zsync_bench::{crypto, enclosure, interrupt, runtime, veth, wireguard};
use zsync_report::outcome::Outcome;

#[derive(Args)]
pub struct Run {
    /// Their names.
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args)]
pub struct Compare {
    /// The benchmark's name.
    name: String,
    /// The peer's, as `zsync-bench peers` lists it.
    #[arg(long)]
    peer: String,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args)]
pub struct Settings {
    /// JSON, a line for each thing that was compared, with every sample; above 1, `ratio.median` says that zsync is better.
    #[arg(long)]
    json: bool,
    /// Also a page for a browser, in this file, written anew after each benchmark.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// About how long each takes, in seconds.
    #[arg(long, default_value_t = 50.0)]
    seconds: f64,
    /// How often each thing is measured; without it, as the benchmark finds good.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// `stages` and `lookups`: also tables of 10 million routes, where there is memory for them.
    #[arg(long)]
    large: bool,
}

/// Runs it beside the one peer.
pub fn compare(what: &Compare) -> Result<ExitCode> {
    if Alone::find(&what.name).is_some() || wireguard::find(&what.name).is_some() {
        bail!("{0} is measured beside all of its peers at once: `zsync-bench run {0}`", what.name);
    }
    benchmarks::find(&what.name)?;
    let peer = peers::find(&what.name, &what.peer)?;
    if peer.state() == State::Missing {
        bail!("there is no {}: `zsync-bench peers --install`, or the package {}", peer.name, peer.package);
    }
    measure(std::slice::from_ref(&what.name), Some(peer), &what.settings)
}

/// Runs them beside all of their peers.
pub fn run(what: &Run) -> Result<ExitCode> {
    measure(&what.names, None, &what.settings)
}

fn measure(names: &[String], peer: Option<&Peer>, what: &Settings) -> Result<ExitCode> {
    let (alone, others): (Vec<_>, Vec<_>) = names.iter().partition(|name| Alone::find(name).is_some());
    let (tunnels, others): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|name| wireguard::find(name).is_some());
    let order = [&alone[..], &tunnels[..], &others[..]].concat();
    let chosen = others.into_iter().map(|name| benchmarks::find(name)).collect::<Result<Vec<_>>>()?;
    let mut shown = Vec::new();
    if !enclosure::is_inside() {
        for (name, plan) in alone.into_iter().filter_map(|name| Some((name, Alone::find(name)?))) {
            let watch = Watch::new(name);
            // Who measures in memory stays on one core, and whoever comes behind it has all of them again.
            let cores = sched_getaffinity(None)?;
            let measured = plan.measure(name, what, &watch);
            sched_setaffinity(None, &cores)?;
            let (text, outcomes) = measured?;
            if what.json {
                outcomes.iter().for_each(|outcome| println!("{}", outcome.to_json()));
            } else {
                print!("{text}");
            }
            shown.extend(outcomes);
            // The inner process would write it anew, without these.
            if let Some(path) = what.html.as_ref().filter(|_| chosen.is_empty() && tunnels.is_empty()) {
                write_page(path, &shown)?;
            }
            if watch.is_cancelled() {
                return Ok(interrupted(&order, name));
            }
        }
        if what.html.is_some() && !(chosen.is_empty() && tunnels.is_empty()) && !shown.is_empty() {
            eprintln!("zsync-bench: the page has the comparisons; run the others by themselves for theirs");
        }
    }
    if chosen.is_empty() && tunnels.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if enclosure::is_inside() {
        enclosure::furnish()?;
    } else if enclosure::is_possible() {
        interrupt::listen();
        interrupt::hold();
        // Out here, where they can be given back whatever becomes of the inner process. The peer says if there are none.
        let _pages = HugePages::reserve().inspect_err(|error| eprintln!("zsync-bench: {error:#}"));
        return enclosure::run();
    }
    for (name, subject) in tunnels.into_iter().filter_map(|name| Some((name, wireguard::find(name)?))) {
        let watch = Watch::new(name);
        let (rounds, time) = (what.rounds.unwrap_or(5) as usize, Duration::try_from_secs_f64(what.seconds)?);
        let measured = wireguard::run(subject, rounds, time, &watch)?;
        watch.clear();
        let outcomes = measured.outcomes(name, &command_line());
        if what.json {
            outcomes.iter().for_each(|outcome| println!("{}", outcome.to_json()));
        } else {
            print!("{measured}");
        }
        shown.extend(outcomes);
        if let Some(path) = &what.html {
            write_page(path, &shown)?;
        }
        if watch.is_cancelled() {
            return Ok(interrupted(&order, name));
        }
    }
    for benchmark in chosen {
        let rounds = what.rounds.unwrap_or(benchmark.rounds);
        let (rounds, budget) = (rounds as usize, Duration::try_from_secs_f64(what.seconds)?);
        let watch = Watch::new(benchmark.name);
        let mut report = match peer {
            // The others have one peer each.
            Some(peer) if benchmark.name == "veth-route" => {
                veth::route_beside(peer.name, rounds, budget, &watch)?
            }
            _ => (benchmark.run)(rounds, budget, &watch)?,
        };
        watch.clear();
        let missing = PEERS.iter().filter(|peer| peer.benchmarks.contains(&benchmark.name));
        report.notes.extend(missing.filter(|peer| peer.state() == State::Missing).map(|peer| {
            format!(
                "{} is missing: `zsync-bench peers --install`, or the package {}",
                peer.name, peer.package
            )
        }));
        let outcomes = report.outcomes(benchmark.about, &command_line());
        if what.json {
            outcomes.iter().for_each(|outcome| println!("{}", outcome.to_json()));
        } else {
            print!("{report}")
        }
        shown.extend(outcomes);
        if let Some(path) = &what.html {
            write_page(path, &shown)?;
        }
        if let Some(why) = report.failure {
            bail!("{}: {why}", report.name);
        }
        if watch.is_cancelled() {
            return Ok(interrupted(&order, benchmark.name));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is measured in this very process, and needs neither devices nor root.
enum Alone {
    Costs(Plan),
    Crypto(crypto::Subject),
    Runtime,
}

impl Alone {
    fn find(name: &str) -> Option<Self> {
        let costs = || costs::find(name).map(Self::Costs);
        let crypto = || crypto::find(name).map(Self::Crypto);
        costs().or_else(crypto).or_else(|| (name == runtime::BENCHMARK.0).then_some(Self::Runtime))
    }

    /// As it is printed, as a table and as outcomes.
    fn measure(&self, name: &str, what: &Settings, watch: &Watch) -> Result<(String, Vec<Outcome>)> {
        let (rounds, time) = (what.rounds.unwrap_or(7) as usize, Duration::try_from_secs_f64(what.seconds)?);
        let shown = |measured: &Measured| (measured.to_string(), measured.outcomes(name, &command_line()));
        let shown = match self {
            Self::Costs(plan) => {
                let costs = costs::run(*plan, rounds, time, what.large, watch)?;
                (costs.to_string(), costs.outcomes(name, &command_line()))
            }
            Self::Crypto(subject) => shown(&crypto::run(*subject, rounds, time, watch)?),
            Self::Runtime => shown(&runtime::run(rounds, time, watch)?),
        };
        watch.clear();
        Ok(shown)
    }
}

/// Says which benchmarks come after the one that was interrupted.
fn interrupted(order: &[&String], last: &str) -> ExitCode {
    let rest: Vec<&str> =
        order.iter().map(|name| name.as_str()).skip_while(|name| *name != last).skip(1).collect();
    if !rest.is_empty() {
        eprintln!("zsync-bench: interrupted, so not run: {}", rest.join(", "));
    }
    ExitCode::from(interrupt::STATUS)
}

/// As it was called, to be called again.
pub fn command_line() -> String {
    let quoted = |argument: std::ffi::OsString| {
        let word = argument.to_string_lossy().into_owned();
        let is_plain = |c: char| c.is_alphanumeric() || "-_=.,:/+@%".contains(c);
        if !word.is_empty() && word.chars().all(is_plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let arguments: Vec<String> = std::env::args_os().skip(1).map(quoted).collect();
    format!("zsync-bench {}", arguments.join(" "))
}
