//! `zsync-control`: the privileged process. See [`zsync_control::daemon`].

use clap::Parser as _;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};
use zsync_control::daemon::Daemon;
use zsync_control::daemon::options::Options;
use zsync_control::log::Lines;

fn main() -> ExitCode {
    let options = Options::parse();
    let lines = log();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(Daemon::run(options)),
        Err(error) => Err(error.into()),
    };
    // What it said last is worth a moment, but not more.
    if let Some(lines) = lines {
        lines.flush(Duration::from_secs(1));
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // As it is, over several lines if need be: it is for a person.
            eprintln!("zsync-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// To the journal when that is what reads our output, else to standard error, by a thread of its own. `ZSYNC_LOG` filters, as in `debug`.
fn log() -> Option<Lines> {
    let filter = EnvFilter::try_from_env("ZSYNC_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    if let Some(journal) = journal {
        registry.with(journal).init();
        return None;
    }
    let lines = Lines::to(std::io::stderr()).ok();
    let writer = lines.clone().map_or_else(|| BoxMakeWriter::new(std::io::stderr), BoxMakeWriter::new);
    let colour = std::io::stderr().is_terminal();
    registry.with(fmt::layer().with_writer(writer).with_ansi(colour)).init();
    lines
}
