//! `zsync-bench`: see the library.
#![forbid(unsafe_code)]

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use std::time::Duration;
use zsync_bench::memory;
use zsync_bench::report::Report;

/// Measures zsync, beside its peers, on this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the benchmarks.
    List,
    /// Runs benchmarks, one after the other.
    Run {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
        /// JSON, one document a benchmark, with every sample.
        #[arg(long)]
        json: bool,
        /// About how long each takes, in seconds.
        #[arg(long, default_value_t = 50.0)]
        seconds: f64,
        /// How often each thing is measured.
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: u32,
    },
}

/// A benchmark: its name, what it measures, and how to run it for a time in so many rounds.
struct Benchmark {
    name: &'static str,
    about: &'static str,
    run: fn(rounds: usize, budget: Duration) -> Result<Report>,
}

const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "memory-patch",
        about: "the worker between two null devices, port to port; beside testpmd in io mode",
        run: |rounds, budget| memory::patch(rounds, budget / (2 * rounds as u32)),
    },
    Benchmark {
        name: "memory-route",
        about: "the worker between two null devices, routing IPv4 and IPv6 by 1, 1 k and 100 k prefixes",
        run: |rounds, budget| {
            memory::route(rounds, budget / ((2 * memory::ROUTES.len() as u32 + 1) * rounds as u32))
        },
    },
];

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zsync-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Command::List => BENCHMARKS.iter().for_each(|b| println!("{:14}  {}", b.name, b.about)),
        Command::Run { names, json, seconds, rounds } => {
            let chosen = names.iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?;
            for benchmark in chosen {
                let report = (benchmark.run)(*rounds as usize, Duration::try_from_secs_f64(*seconds)?)?;
                if *json { println!("{}", report.json()) } else { print!("{report}") }
            }
        }
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static Benchmark> {
    match BENCHMARKS.iter().find(|benchmark| benchmark.name == name) {
        Some(benchmark) => Ok(benchmark),
        None => bail!("there is no benchmark {name}: `zsync-bench list` shows those that there are"),
    }
}
