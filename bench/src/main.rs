//! `zsync-bench`: see the library.
#![forbid(unsafe_code)]

mod commands;

use clap::{Parser, Subcommand};
use commands::gate::{self, Gate, Stage};
use commands::generate::{self, Generate};
use commands::receive::{self, Receive};
use commands::run::{self, Compare, Run};
use commands::search::{self, Search};
use commands::{benchmarks, peers, report};
use std::path::PathBuf;
use std::process::ExitCode;
use zsync_allocations::Counting;
use zsync_bench::folder;
use zsync_bench::runtime::Contestant;

/// Counts for the gate; a counter of the thread's own costs the others nothing that they measure: they do not allocate.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Exit status when nobody reads what is printed: 128 and the number of SIGPIPE, as shells have it.
const UNREAD: i32 = 141;

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
    /// Sends packets, from one core or several, at a rate or as fast as they go. Needs root.
    Generate(Box<Generate>),
    /// Receives what `generate` sends: loss, order, damage and latency, with a line each second. Needs root.
    Receive(Box<Receive>),
    /// Searches for what a device carries: rates without loss, latency, bursts, recovery. Needs root.
    Search(Box<Search>),
    /// Does one stage's work on so many packets, once, and measures nothing: to be run under callgrind.
    Stage(Stage),
    /// Is one of the runtimes that `run runtime` compares, for that.
    #[command(hide = true)]
    Contestant(Contestant),
    /// Fails when a packet costs more instructions than the baseline says, a worker allocates, or its books do not balance.
    Gate(Gate),
}

fn main() -> ExitCode {
    end_with_the_reader();
    let outcome = match Arguments::parse().action {
        Action::List => {
            benchmarks::list();
            Ok(ExitCode::SUCCESS)
        }
        Action::Run(what) => run::run(&what),
        Action::Compare(what) => run::compare(&what),
        Action::Report { folder, html } => report::show(&folder, html.as_deref()).map(success),
        Action::Peers { install } => peers::show(install).map(success),
        Action::Generate(what) => generate::generate(&what),
        Action::Receive(what) => receive::receive(&what),
        Action::Search(what) => search::search(&what),
        Action::Stage(what) => gate::stage(&what).map(success),
        Action::Contestant(what) => what.serve().map(success),
        Action::Gate(what) => gate::pass(&what),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("zsync-bench: {error:#}");
        ExitCode::FAILURE
    })
}

/// A reader of standard output that goes away (`| head`) ends the program without a word, as it ends others by SIGPIPE. That
/// signal is ignored in Rust's programs, and `print!` panics instead.
fn end_with_the_reader() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to stdout") && text.contains("Broken pipe") {
            folder::remove_all();
            std::process::exit(UNREAD);
        }
        report(panic);
    }));
}

fn success((): ()) -> ExitCode {
    ExitCode::SUCCESS
}
