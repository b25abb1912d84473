//! `zsyncctl`: the commands, what they print and how they exit.
//!
//! Owns nothing: it is a client of the API socket with its caller's privileges. Answers go to standard output, all else to
//! standard error. Exit status: 0 done; 1 refused, or a configuration with errors; 2 wrong usage; 3 no daemon answers.

#![forbid(unsafe_code)]

mod args;
mod check;
mod client;
mod explain;
mod output;
mod show;
mod table;
mod text;
mod wireguard;

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use zsync_pipelines::spec::{MAX_SOURCE, Style, json_schema, parse, report};

use crate::api::{Answer, ApiError, Drain, Request, Rollback, Show, Source, What};
use args::{Args, Command};
use client::Client;
use output::{Failure, Sent, print};
use show::folded;
pub use show::{View, render};

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(failure) => failure.tell(),
    }
}

fn run(args: &Args) -> Result<ExitCode, Failure> {
    let request = match &args.command {
        Command::Check { files } => return check::check(files, args.json),
        Command::Wireguard { what } => return wireguard::run(what),
        Command::Schema => return print(&pretty(&json_schema())).map(|()| ExitCode::SUCCESS),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "zsyncctl", &mut script);
            return print(&String::from_utf8_lossy(&script)).map(|()| ExitCode::SUCCESS);
        }
        Command::Plan { file } => return changing(args, file, Request::Plan),
        Command::Apply { file, confirm } => {
            let confirm_ms = confirm.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            return changing(args, file, |source| Request::Apply(Source { confirm_ms, ..source }));
        }
        Command::Status { watch } => return watched(args, &Request::Status, watch.every()),
        Command::Show { what, prefix, limit, stage, address, folded, watch } => {
            let (prefix, stage) = match (what, prefix, stage) {
                (What::Wireguard, Some(name), None) => (None, Some(format!("wireguard.{name}"))),
                (_, prefix, stage) => (prefix.clone(), stage.clone()),
            };
            let show = Show { what: *what, prefix, limit: *limit, stage, address: address.clone() };
            if let Err(message) = show.check() {
                Args::command().error(clap::error::ErrorKind::ArgumentConflict, message).exit();
            }
            if *folded {
                return folded_tasks(args, show);
            }
            return watched(args, &Request::Show(show), watch.every());
        }
        Command::Explain { packet, pcap, input, config } => {
            let question = explain::question(packet.as_ref(), pcap.as_deref(), input.as_ref())?;
            match config {
                Some(config) => return explain::alone(args, config, &question),
                None => Request::Explain(question),
            }
        }
        Command::Confirm => Request::Confirm,
        Command::Rollback { to } => Request::Rollback(Rollback { to: *to }),
        Command::RestartDataplane => Request::RestartDataplane,
        Command::Drain { backend, stage, undo } => {
            Request::Drain(Drain { backend: backend.clone(), stage: stage.clone(), undo: *undo })
        }
    };
    watched(args, &request, None)
}

/// Asks for tasks, and prints them as programs that draw flame graphs take them.
fn folded_tasks(args: &Args, show: Show) -> Result<ExitCode, Failure> {
    if show.what != What::Tasks {
        let message = "`--folded` goes with `tasks` alone";
        Args::command().error(clap::error::ErrorKind::ArgumentConflict, message).exit();
    }
    match Client::connect(&args.socket)?.ask(&Request::Show(show))?? {
        Answer::Tasks(tasks) => print(&folded(&tasks)).map(|()| ExitCode::SUCCESS),
        other => print(&render(&other, view(args))).map(|()| ExitCode::SUCCESS),
    }
}

/// Asks once, or again and again until it is interrupted.
fn watched(args: &Args, request: &Request, every: Option<Duration>) -> Result<ExitCode, Failure> {
    let mut client = Client::connect(&args.socket)?;
    let view = view(args);
    let clear = every.is_some() && !args.json && std::io::stdout().is_terminal();
    loop {
        let answer = client.ask(request)??;
        let text = match (args.json, every) {
            (true, None) => pretty(&answer),
            // One line for each, for programs that follow.
            (true, Some(_)) => format!("{}\n", serde_json::to_string(&answer).unwrap_or_default()),
            (false, _) => render(&answer, view),
        };
        print(&if clear { format!("\x1b[H\x1b[2J{text}") } else { text })?;
        let Some(every) = every else { return Ok(ExitCode::SUCCESS) };
        if !clear && !args.json {
            print("\n")?;
        }
        std::thread::sleep(every);
    }
}

/// Sends a file. What is wrong with it is shown under the name that the user gave it.
fn changing(args: &Args, file: &Path, request: impl Fn(Source) -> Request) -> Result<ExitCode, Failure> {
    let (name, config) = read(file)?;
    if config.len() > MAX_SOURCE {
        let found = parse(&config, &name).err().unwrap_or_default();
        return Err(Failure::Refused(
            Box::new(ApiError::invalid_config(found)),
            Some(Sent { name, text: config }),
        ));
    }
    // The history is of use only with a path that holds in every folder.
    let file = std::path::absolute(file).map_or_else(|_| name.clone(), |path| path.display().to_string());
    let file = if name == STDIN { STDIN.to_owned() } else { file };
    let request = request(Source { config: config.clone(), file, confirm_ms: None });
    let mut answer = match Client::connect(&args.socket)?.ask(&request)? {
        Ok(answer) => answer,
        Err(error) => return Err(Failure::Refused(Box::new(error), Some(Sent { name, text: config }))),
    };
    if args.json {
        return print(&pretty(&answer)).map(|()| ExitCode::SUCCESS);
    }
    if let Answer::Plan(crate::api::Plan { warnings, .. })
    | Answer::Applied(crate::api::Applied { warnings, .. }) = &mut answer
    {
        warnings.iter_mut().for_each(|warning| warning.file.clone_from(&name));
        let style = output::style(&std::io::stderr());
        let _ = std::io::stderr().write_all(report(warnings, &config, style).as_bytes());
    }
    print(&render(&answer, view(args))).map(|()| ExitCode::SUCCESS)
}

const STDIN: &str = "<stdin>";

/// A file's name and text; `-` is standard input. Reads little more than a configuration may be long.
fn read(file: &Path) -> Result<(String, String), Failure> {
    let name = if file == Path::new("-") { STDIN.to_owned() } else { file.display().to_string() };
    let mut bytes = Vec::new();
    let most = MAX_SOURCE as u64 + 1;
    let read = if name == STDIN {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::File(format!("{name}: {error}")))?;
    let text = String::from_utf8(bytes).or_else(|error| {
        // The cut may have gone through a character.
        let (at, bytes) = (error.utf8_error().valid_up_to(), error.into_bytes());
        if bytes.len() <= MAX_SOURCE {
            return Err(Failure::File(format!("{name}: byte {at} begins no UTF-8 character")));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    })?;
    Ok((name, text))
}

fn view(args: &Args) -> View {
    let colour = output::style(&std::io::stdout()) == Style::Ansi;
    View { exact: args.exact, colour, now: std::time::SystemTime::now() }
}

fn pretty(value: &impl serde::Serialize) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default())
}
