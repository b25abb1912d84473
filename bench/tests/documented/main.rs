//! What the documents say can be done: every figure has its command, and every command does what it is there for.
//!
//! Each command of zsync-bench is run, short (see `command`), once however often it is written down. Devices that a machine
//! need not have are those of a namespace (see `place`). Skipped where there is no root or no peer; with `CI=true` that is
//! a failure.

#[path = "../common/mod.rs"]
mod common;

mod command;
mod document;
mod named;
mod place;

use command::Command;
use document::Document;
use place::Place;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{self, Output};
use std::time::Instant;
use zsync_bench::folder::Folder;

const PROGRAM: &str = env!("CARGO_BIN_EXE_zsync-bench");
/// How often a command is run on a machine that is too busy for it.
const TRIES: u32 = 5;
/// Where figures stand.
const FIGURES: &[&str] = &["README.md", "bench/RESULTS.md", "bench/README.md"];
/// Where commands stand, too.
const OTHERS: &[&str] = &["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn documents(names: &[&str]) -> Vec<Document> {
    let read = |name: &&str| Some(Document::parse(name, &fs::read_to_string(root().join(name)).ok()?));
    names.iter().filter_map(read).collect()
}

/// All commands of all documents.
fn commands() -> Vec<Command> {
    documents(&[FIGURES, OTHERS].concat()).iter().flat_map(Document::commands).collect()
}

fn program(arguments: &[String]) -> process::Command {
    let mut command = process::Command::new(PROGRAM);
    command.args(arguments);
    command
}

/// Benchmarks, as `list` prints them.
fn benchmarks() -> Vec<String> {
    let output = program(&["list".to_owned()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
}

/// What a command is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Memory,
    Stages,
    Lookups,
    Veth,
    Ends,
    Search,
    Rest,
}

/// Which family it is of. Each is of one, so none is forgotten.
fn family(command: &Command) -> Family {
    match command.action() {
        "generate" | "receive" => Family::Ends,
        "search" => Family::Search,
        "run" | "compare" => match command.names().first().copied().unwrap_or_default() {
            name if name.starts_with("memory-") => Family::Memory,
            "stages" | "lookups" | "tools" | "wireguard" | "crypto" | "ed25519" | "runtime" => Family::Stages,
            "fib" | "acl" => Family::Lookups,
            _ => Family::Veth,
        },
        _ => Family::Rest,
    }
}

/// Runs the family's commands, each once.
fn run(of: Family) {
    let mut each: BTreeMap<Vec<String>, Command> = BTreeMap::new();
    for command in commands().into_iter().filter(Command::is_bench).filter(|command| family(command) == of) {
        let short = command.shortened();
        each.entry(short.words.clone()).or_insert(short);
    }
    assert!(!each.is_empty(), "no document has a command of {of:?}");
    for command in each.into_values() {
        if let Some(why) = obstacle(&command) {
            assert!(!common::is_ci(), "skipped in CI: {command}: {why}");
            eprintln!("SKIPPED: {command}: {why}");
            continue;
        }
        let _turn = common::turn();
        let start = Instant::now();
        let mut output = perform(&command);
        for _ in 1..TRIES {
            if !was_busy(&output) {
                break;
            }
            output = perform(&command);
        }
        eprintln!("{:5.1} s  {command}", start.elapsed().as_secs_f64());
        let [printed, said] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        if was_busy(&output) && !common::is_ci() {
            let last = said.lines().last().unwrap_or_default();
            eprintln!("SKIPPED: {command}: the machine is too busy: {last}");
            continue;
        }
        assert!(output.status.success(), "{command}: {}\n{printed}\n{said}", output.status);
        // These two list what there is.
        let is_list = matches!(command.action(), "list" | "peers") && !printed.is_empty();
        assert!(
            is_list || has_figure(&printed),
            "{command}: there is no figure in what it printed:\n{printed}\n{said}"
        );
    }
}

fn obstacle(command: &Command) -> Option<String> {
    let on_devices =
        ["--netdev", "--from", "--to", "--through"].iter().any(|name| command.option(name).is_some());
    let names = if matches!(command.action(), "run" | "compare") { command.names() } else { Vec::new() };
    let veth = names.iter().any(|name| name.starts_with("veth-") || name.starts_with("tun-"));
    let whole = ["veth-route", "veth-wireguard", "veth-flood"];
    let ours = names.iter().any(|name| whole.contains(name)) || command.option("--through") == Some("zsync");
    let of_each = names.iter().find_map(|name| common::obstacle(name, veth));
    of_each
        .or_else(|| common::obstacle("", on_devices || veth))
        .or_else(|| common::not_built().filter(|_| ours).map(|name| format!("{name} is not built")))
}

/// Whether it failed since others had the cores: it could not send, or not read, what it was to. It says so, which is what
/// it must do then; but that the command works is not seen by it.
fn was_busy(output: &Output) -> bool {
    let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    let reasons = ["the generator fell short", "the generator was the bottleneck", "NO MEASUREMENT"];
    output.status.code() == Some(1) && reasons.iter().any(|reason| text.contains(reason))
}

fn has_figure(printed: &str) -> bool {
    let number =
        |word: &str| word.trim_matches(|c: char| !c.is_ascii_digit()).replace(',', "").parse::<f64>();
    printed
        .split(|c: char| c.is_whitespace() || c == ':')
        .any(|word| number(word).is_ok_and(|number| number > 0.0))
}

/// Runs one, with all that it needs beside it.
fn perform(command: &Command) -> Output {
    let folder = Folder::make().unwrap();
    let inside = |words: &[String]| {
        let mut command = program(words);
        command.current_dir(folder.path());
        command
    };
    let arguments = |command: &Command| command.words[1..].to_vec();
    if let Some(path) = command.option("--pcap") {
        fs::write(folder.path().join(path), capture()).unwrap();
    }
    match command.action() {
        "report" => {
            let records = folder.path().join(command.names()[0]);
            fs::create_dir_all(&records).unwrap();
            let fill = Command::parse("", "zsync-bench run memory-patch --json").unwrap().shortened();
            let output = inside(&arguments(&fill)).output().unwrap();
            fs::write(records.join("memory.json"), output.stdout).unwrap();
            let mut output = inside(&arguments(command)).output().unwrap();
            // A page is what it makes then.
            if let Some(page) = command.option("--html") {
                output.stdout.extend(fs::read(folder.path().join(page)).unwrap());
            }
            output
        }
        "generate" if command.option("--netdev").is_some() => {
            let several = command.option("--netdev").is_some_and(|devices| devices.contains(','));
            let command = command.clone().with("--netdev", if several { "va,vc" } else { "va" });
            Place::make().run(&mut inside(&arguments(&command)))
        }
        "receive" => {
            let command = command.clone().with("--netdev", "vb");
            match command.option("--listen") {
                Some(_) => {
                    search_remote(&Command::parse("", "zsync-bench search").unwrap().shortened(), &command)
                }
                None => receive(&command),
            }
        }
        "search" if command.option("--remote").is_some() => {
            let lent = Command::parse("", "zsync-bench receive --netdev vb --listen x").unwrap();
            search_remote(command, &lent)
        }
        "search" if command.option("--from").is_some() => {
            let command = command.clone().with("--from", "va").with("--to", "vb");
            Place::make().run(&mut inside(&arguments(&command)))
        }
        _ => inside(&arguments(command)).output().unwrap(),
    }
}

/// A receiver, and a generator of the same packets beside it.
fn receive(command: &Command) -> Output {
    let place = Place::make();
    let mut receiver = place.start(&mut program(&command.clone().with("--seconds", "3").words[1..]));
    place.wait_for_receiver(&mut receiver);
    let profile = command.words.iter().filter(|word| !word.starts_with('-') && word.contains('=')).cloned();
    let words: Vec<String> =
        "generate --netdev va --seconds 1".split(' ').map(str::to_owned).chain(profile).collect();
    let sent = place.run(&mut program(&words));
    assert!(sent.status.success(), "{command}: {}", String::from_utf8_lossy(&sent.stderr));
    receiver.wait_with_output().unwrap()
}

/// A search whose far end another process lends.
fn search_remote(search: &Command, lent: &Command) -> Output {
    let place = Place::make();
    let mut lender = place.start(&mut program(&lent.clone().with("--listen", "127.0.0.1:0").words[1..]));
    // Kept open: it says more, later.
    let mut said = BufReader::new(lender.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let address = line.rsplit(' ').next().unwrap().trim();
    let output =
        place.run(&mut program(&search.clone().with("--from", "va").with("--remote", address).words[1..]));
    let ended = lender.try_wait().unwrap();
    lender.kill().unwrap();
    lender.wait().unwrap();
    said.read_to_string(&mut line).unwrap();
    assert!(ended.is_none(), "{lent}: it ended by itself: {line}");
    output
}

/// A capture of two packets, a millisecond apart.
fn capture() -> Vec<u8> {
    let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1];
    let packets = (0..2_u32).flat_map(|number| [0, 1000 * number, 60, 60].into_iter().chain([0; 15]));
    header.into_iter().chain(packets).flat_map(u32::to_le_bytes).collect()
}

#[test]
fn every_figure_has_its_command() {
    let found: Vec<String> = documents(FIGURES).iter().flat_map(Document::figures_without_commands).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_command_of_the_documents_is_one_that_the_program_knows() {
    let benchmarks = benchmarks();
    let commands: Vec<Command> = commands().into_iter().filter(Command::is_bench).collect();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        // What is wrong before `--help` is told instead of the help.
        let output = program(&[&command.words[1..], &["--help".to_owned()]].concat()).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        if matches!(command.action(), "run" | "compare") {
            let names = command.names();
            assert!(!names.is_empty(), "{command}: which benchmark?");
            let unknown = names.into_iter().find(|name| !benchmarks.iter().any(|known| known == name));
            assert_eq!(unknown, None, "{command}: there is no such benchmark");
        }
    }
}

#[test]
fn every_script_package_and_test_of_the_documents_is_there() {
    let others: Vec<Command> = commands().into_iter().filter(|command| !command.is_bench()).collect();
    assert!(!others.is_empty());
    let there = named::Names::read(&root());
    let wrong: Vec<String> =
        others.iter().filter_map(|command| Some(format!("{command}: {}", there.missing(command)?))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_measured_in_memory_can_be_measured_again() {
    run(Family::Memory);
}

#[test]
fn what_each_stage_costs_can_be_measured_again() {
    run(Family::Stages);
}

#[test]
fn what_lookups_and_the_classifier_cost_can_be_measured_again() {
    run(Family::Lookups);
}

#[test]
fn what_is_measured_over_veth_can_be_measured_again() {
    run(Family::Veth);
}

#[test]
fn packets_are_sent_and_received_as_it_is_written_down() {
    run(Family::Ends);
}

#[test]
fn searches_go_as_they_are_written_down() {
    run(Family::Search);
}

#[test]
fn all_other_commands_of_zsync_bench_do_what_they_are_there_for() {
    run(Family::Rest);
}
