//! What other commands name: scripts, packages, profiles, benches, tests. They are looked for, not run.

use crate::command::Command;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What there is in the repository.
pub struct Names {
    root: PathBuf,
    packages: BTreeSet<String>,
    /// Also of `#[test]` functions' files, and `benches` without their ending.
    tests: BTreeSet<String>,
    files: BTreeSet<String>,
    workspace: String,
}

/// Options of cargo that have a value.
const VALUED: &[&str] =
    &["-p", "--package", "--bench", "--test", "--bin", "--profile", "--cargo-profile", "--manifest-path"];

impl Names {
    pub fn read(root: &Path) -> Self {
        let mut names = Self {
            root: root.to_owned(),
            packages: BTreeSet::new(),
            tests: BTreeSet::new(),
            files: BTreeSet::new(),
            workspace: fs::read_to_string(root.join("Cargo.toml")).unwrap(),
        };
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                match () {
                    () if name.starts_with('.') || name.starts_with("target") => {}
                    () if path.is_dir() && !path.is_symlink() => folders.push(path),
                    () if name == "Cargo.toml" => {
                        let text = fs::read_to_string(&path).unwrap();
                        names.packages.extend(text.lines().filter_map(|line| {
                            Some(line.strip_prefix("name = \"")?.strip_suffix('"')?.to_owned())
                        }));
                    }
                    () if name.ends_with(".rs") => {
                        let text = fs::read_to_string(&path).unwrap();
                        names.tests.extend(tests(&text).map(str::to_owned));
                        names.files.insert(path.to_string_lossy().into_owned());
                    }
                    () => {}
                }
            }
        }
        names
    }

    /// What the command names and is not there.
    pub fn missing(&self, command: &Command) -> Option<String> {
        let words = &command.words[1..];
        if command.words[0] != "cargo" {
            let is_there = self.root.join(&command.words[0]).is_file();
            let tests = words.iter().filter(|word| !word.starts_with('-'));
            return (!is_there)
                .then(|| "there is no such script".to_owned())
                .or_else(|| tests.into_iter().find_map(|name| self.no_test(name)));
        }
        let mut plain = Vec::new();
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let is_valued = VALUED.contains(&word);
            let value = if is_valued { words.next().unwrap_or_default() } else { "" };
            let file = |folder: &str| {
                let ends = [format!("/{folder}/{value}.rs"), format!("/{folder}/{value}/main.rs")];
                self.files.iter().any(|path| ends.iter().any(|end| path.ends_with(end)))
            };
            let is_there = match word {
                "-p" | "--package" => self.packages.contains(value),
                "--bench" => file("benches"),
                "--test" => file("tests"),
                "--profile" | "--cargo-profile" => {
                    matches!(value, "release" | "dev")
                        || self.workspace.contains(&format!("[profile.{value}]"))
                }
                "--manifest-path" => self.root.join(value).is_file(),
                _ => true,
            };
            if !is_there {
                return Some(format!("there is no {word} {value}"));
            }
            if !is_valued && !word.starts_with('-') {
                plain.push(word);
            }
        }
        let names = match plain[..] {
            ["test", ref names @ ..] | ["nextest", "run", ref names @ ..] => names,
            _ => &[],
        };
        names.iter().find_map(|name| self.no_test(name))
    }

    fn no_test(&self, name: &str) -> Option<String> {
        (!self.tests.iter().any(|test| test.contains(name)))
            .then(|| format!("no test's name contains {name}"))
    }
}

/// The names of a source file's tests: functions that are marked as such, and those that are tests by each device.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    let marked = text.split("#[test]").skip(1).filter_map(|rest| rest.split_once("fn ")?.1.split('(').next());
    let listed = text.split("by_each_device!(").skip(1).filter_map(|rest| rest.split(')').next());
    marked.chain(listed.flat_map(|names| names.split(',').map(str::trim).filter(|name| !name.is_empty())))
}

#[test]
fn what_is_not_there_is_told() {
    let names = Names::read(&crate::root());
    let missing = |text: &str| names.missing(&Command::parse("", text).unwrap()).unwrap_or_default();
    for (text, part) in [
        ("scripts/none", "no such script"),
        ("scripts/test no_test_has_this_very_name_so_far_x9", "no test's name"),
        ("cargo nextest run -p zsync-none", "-p zsync-none"),
        ("cargo test -p zsync-bench no_test_has_this_very_name_so_far_x9", "no test's name"),
        ("cargo bench -p zsync-pipelines --bench none", "--bench none"),
        ("cargo build --profile none", "--profile none"),
    ] {
        // This file has the name in it, but no test of that name.
        assert!(missing(text).contains(part), "{text}: {}", missing(text));
    }
    assert_eq!(missing("scripts/test what_is_not_there_is_told"), "");
    assert_eq!(missing("cargo bench -p zsync-pipelines --bench fib"), "");
}
