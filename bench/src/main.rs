//! `zsync-bench`: see the library.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zsync_bench::allocations::Counting;
use zsync_bench::gate::{self, Baseline, Build};
use zsync_bench::generator::{Generator, Traffic};
use zsync_bench::hugepages::HugePages;
use zsync_bench::peers::{self, PEERS, Peer, State};
use zsync_bench::report::{Report, Spread};
use zsync_bench::stages::case::{Case, Kind, MOST_ROUTES};
use zsync_bench::stages::{callgrind, costs};
use zsync_bench::{acl, enclosure, fib, memory, veth};
use zsync_report::outcome::Outcome;

/// Counts for the gate; a counter of the thread's own costs the others nothing that they measure: they do not allocate.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Measures zsync, beside its peers, on this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Lists the benchmarks.
    List,
    /// Runs benchmarks, one after the other.
    Run(Run),
    /// Runs one benchmark beside one of its peers only.
    Compare(Compare),
    /// Lists what zsync is compared with, and whether it is installed.
    Peers {
        /// Installs what is missing, as `scripts/setup --bench` does. Needs root.
        #[arg(long)]
        install: bool,
    },
    /// Makes a page of what `--json` printed: the files *.json and *.jsonl of a folder.
    Report {
        /// The folder.
        folder: PathBuf,
        /// The page; without it a table is printed.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Sends UDP packets as fast as one core can, by the kernel itself. Needs root.
    Generate(Generate),
    /// Does one stage's work on so many packets, once, and measures nothing: to be run under callgrind.
    Stage(Stage),
    /// Fails when a packet costs more instructions than the baseline says, a worker allocates, or its books do not balance.
    Gate(Gate),
}

#[derive(Args)]
struct Run {
    /// Their names.
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args)]
struct Compare {
    /// The benchmark's name.
    name: String,
    /// The peer's, as `zsync-bench peers` lists it.
    #[arg(long)]
    peer: String,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args)]
struct Settings {
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

#[derive(Args)]
struct Stage {
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
struct Gate {
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

#[derive(Args)]
struct Generate {
    /// Device that the packets leave by.
    #[arg(long)]
    netdev: String,
    /// MAC address of the next hop.
    #[arg(long, value_parser = mac)]
    dst_mac: [u8; 6],
    /// Source address and port of the first flow.
    #[arg(long, value_name = "ADDRESS:PORT")]
    src: SocketAddr,
    /// Destination address and port.
    #[arg(long, value_name = "ADDRESS:PORT")]
    dst: SocketAddr,
    /// Bytes of a frame, without its check sequence.
    #[arg(long, default_value_t = 60)]
    size: usize,
    /// How many flows, by source port.
    #[arg(long, default_value_t = 1)]
    flows: u32,
    /// For how long.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Core to send from.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
}

/// A benchmark: its name, what it measures, and how to run it for a time in so many rounds.
struct Benchmark {
    name: &'static str,
    about: &'static str,
    rounds: u32,
    run: fn(rounds: usize, budget: Duration) -> Result<Report>,
}

const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "memory-patch",
        about: "the worker between two null devices, port to port; beside testpmd in io mode",
        rounds: 15,
        run: |rounds, budget| memory::patch(rounds, budget / (2 * rounds as u32)),
    },
    Benchmark {
        name: "memory-macswap",
        about: "the same with MAC addresses swapped and every packet copied in and out; beside testpmd in macswap mode",
        rounds: 15,
        run: |rounds, budget| memory::macswap(rounds, budget / (2 * rounds as u32)),
    },
    Benchmark {
        name: "memory-route",
        about: "the worker between two null devices, routing IPv4 and IPv6 by 1, 1 k and 100 k prefixes",
        rounds: 7,
        run: |rounds, budget| {
            memory::route(rounds, budget / ((2 * memory::ROUTES.len() as u32 + 1) * rounds as u32))
        },
    },
    Benchmark {
        name: "fib",
        about: "lookups in the FIB, 64 at a time, 1 k and 100 k routes of both families; beside dpdk-test-fib",
        rounds: 5,
        run: fib::run,
    },
    Benchmark {
        name: "acl",
        about: "dpdk-test-acl with 100, 1 k and 10 k rules, for a filter stage to come",
        rounds: 5,
        run: acl::run,
    },
    Benchmark {
        name: "veth-route",
        about: "a router between two veth pairs at full rate; beside testpmd on af_xdp and the kernel. Needs root",
        rounds: 3,
        run: veth::route,
    },
    Benchmark {
        name: "veth-track",
        about: "as veth-route, the kernel tracking 65,536 connections; for a stage to come. Needs root",
        rounds: 3,
        run: veth::track,
    },
    Benchmark {
        name: "veth-nat",
        about: "as veth-route, the kernel masquerading; for a stage to come. Needs root",
        rounds: 3,
        run: veth::nat,
    },
    Benchmark {
        name: "veth-filter",
        about: "as veth-route, the kernel with 1,000 rules of nftables; for a stage to come. Needs root",
        rounds: 3,
        run: veth::filter,
    },
];

fn main() -> ExitCode {
    let outcome = match Arguments::parse().action {
        Action::List => {
            BENCHMARKS.iter().for_each(|b| println!("{:14}  {}", b.name, b.about));
            costs::BENCHMARKS.iter().for_each(|(name, about, _)| println!("{name:14}  {about}"));
            Ok(ExitCode::SUCCESS)
        }
        Action::Run(what) => run(&what.names, None, &what.settings),
        Action::Compare(what) => compare(&what),
        Action::Report { folder, html } => show(&folder, html.as_deref()).map(|()| ExitCode::SUCCESS),
        Action::Peers { install } => show_peers(install).map(|()| ExitCode::SUCCESS),
        Action::Generate(what) => generate(&what).map(|()| ExitCode::SUCCESS),
        Action::Stage(what) => stage(&what).map(|()| ExitCode::SUCCESS),
        Action::Gate(what) => pass(&what),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("zsync-bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn show(folder: &Path, page: Option<&Path>) -> Result<()> {
    let outcomes = zsync_report::folder::read(folder)?;
    ensure!(!outcomes.is_empty(), "{} has no file *.json or *.jsonl", folder.display());
    match page {
        Some(path) => write_page(path, &outcomes),
        None => {
            print!("{}", zsync_report::table::table(&outcomes));
            Ok(())
        }
    }
}

fn write_page(path: &Path, outcomes: &[Outcome]) -> Result<()> {
    let page = zsync_report::page::html("zsync beside its peers", outcomes);
    std::fs::write(path, page).with_context(|| path.display().to_string())
}

/// As it was called, to be called again.
fn command_line() -> String {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    format!("zsync-bench {}", arguments.join(" "))
}

fn show_peers(install: bool) -> Result<()> {
    if install {
        match peers::install()?.join(" ") {
            none if none.is_empty() => println!("every peer is there"),
            packages => println!("installed {packages}"),
        }
    }
    print!("{}", peers::list());
    Ok(())
}

fn compare(what: &Compare) -> Result<ExitCode> {
    find(&what.name)?;
    let peer = peers::find(&what.name, &what.peer)?;
    if peer.state() == State::Missing {
        bail!("there is no {}: `zsync-bench peers --install`, or the package {}", peer.name, peer.package);
    }
    run(std::slice::from_ref(&what.name), Some(peer), &what.settings)
}

fn run(names: &[String], peer: Option<&Peer>, what: &Settings) -> Result<ExitCode> {
    let (alone, others): (Vec<_>, Vec<_>) = names.iter().partition(|name| costs::find(name).is_some());
    let chosen = others.into_iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?;
    if !enclosure::is_inside() {
        for (name, plan) in alone.into_iter().filter_map(|name| Some((name, costs::find(name)?))) {
            let budget = Duration::try_from_secs_f64(what.seconds)?;
            let costs = costs::run(plan, what.rounds.unwrap_or(7) as usize, budget, what.large)?;
            let outcomes = costs.outcomes(name, &command_line());
            if what.json {
                outcomes.iter().for_each(|outcome| println!("{}", outcome.to_json()));
            } else {
                print!("{costs}");
            }
        }
    }
    if chosen.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if enclosure::is_inside() {
        enclosure::furnish()?;
    } else if enclosure::is_possible() {
        // Out here, where they can be given back whatever becomes of the inner process. The peer says if there are none.
        let _pages = HugePages::reserve().inspect_err(|error| eprintln!("zsync-bench: {error:#}"));
        return enclosure::run();
    }
    let mut shown = Vec::new();
    for benchmark in chosen {
        let rounds = what.rounds.unwrap_or(benchmark.rounds);
        let (rounds, budget) = (rounds as usize, Duration::try_from_secs_f64(what.seconds)?);
        let mut report = match peer {
            // The others have one peer each.
            Some(peer) if benchmark.name == "veth-route" => veth::route_beside(peer.name, rounds, budget)?,
            _ => (benchmark.run)(rounds, budget)?,
        };
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
    }
    Ok(ExitCode::SUCCESS)
}

fn find(name: &str) -> Result<&'static Benchmark> {
    match BENCHMARKS.iter().find(|benchmark| benchmark.name == name) {
        Some(benchmark) => Ok(benchmark),
        None => bail!("there is no benchmark {name}: `zsync-bench list` shows those that there are"),
    }
}

fn stage(what: &Stage) -> Result<()> {
    let (burst, table) = (usize::from(what.burst), what.table as usize);
    let case = Case { kind: what.name, burst, table, cold: what.cold };
    println!("{case}: {} packets", callgrind::once(case, what.packets)?);
    Ok(())
}

fn pass(what: &Gate) -> Result<ExitCode> {
    let cases = gate::choose(&what.names)?;
    let whole = what.names.is_empty();
    let mut failed = false;
    match skipped(what)? {
        Some(why) => println!("SKIPPED: instructions: {why}"),
        None => {
            let counted = gate::count(&cases)?;
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
    match gate::frugal() {
        Ok(packets) => println!("no allocation, and balanced books, over {packets} packets through workers"),
        Err(error) => {
            println!("FAILED {error:#}");
            failed = true;
        }
    }
    if what.ratios {
        let report = memory::patch(5, Duration::from_secs(1))?;
        print!("{report}");
        match report.ratios.first().map(|ratio| Spread::of(&ratio.samples).median) {
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

fn generate(what: &Generate) -> Result<()> {
    let output = enclosure::execute(Command::new("ip").args(["-j", "link", "show", "dev", &what.netdev]))?;
    let links: serde_json::Value = serde_json::from_str(&output)?;
    let ifindex = links[0]["ifindex"].as_u64().and_then(|index| index.try_into().ok());
    let generator = Arc::new(Generator::load(&Traffic {
        ifindex: ifindex.with_context(|| format!("there is no device {}", what.netdev))?,
        source_mac: links[0]["address"]
            .as_str()
            .and_then(|text| mac(text).ok())
            .unwrap_or([2, 0, 0, 0, 0, 1]),
        destination_mac: what.dst_mac,
        source: what.src,
        destination: what.dst,
        size: what.size,
        flows: what.flows,
    })?);
    let start = Instant::now();
    let running = generator.spawn(what.cpu, Duration::try_from_secs_f64(what.seconds)?, || Ok(()));
    let made = running.join()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{made} frames in {seconds:.2} s: {:.2} M/s", made as f64 / seconds / 1e6);
    Ok(())
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>();
    let mac = bytes.ok().and_then(|bytes| bytes.try_into().ok());
    mac.ok_or_else(|| format!("{text} is not six bytes in hexadecimal, as in 02:00:00:00:00:01"))
}
