//! Which crate may import which: the architecture, asserted.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use zsync_tests::netns::execute;

/// What each crate of the workspace may import of it, in code that ships. Not listed: nothing.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("zsync-packet", &[]),
    ("zsync-crypto", &[]),
    ("zsync-ebpf-common", &[]),
    ("zsync-ebpf-build", &[]),
    ("zsync-runtime", &[]),
    ("zsync-io", &["zsync-packet"]),
    ("zsync-pipelines", &["zsync-packet", "zsync-crypto", "zsync-wireguard"]),
    ("zsync-wireguard", &["zsync-packet", "zsync-crypto"]),
    ("zsync-protocol", &["zsync-packet"]),
    ("zsync-report", &[]),
    ("zsync-allocations", &[]),
    ("zsync-bench-crypto", &["zsync-crypto", "zsync-report"]),
    ("zsync-bench-runtime", &["zsync-allocations", "zsync-report", "zsync-runtime"]),
    ("zsync-search", &[]),
    ("zsync-sink", &[]),
    ("zsync-ends", &["zsync-bench-xsk", "zsync-packet", "zsync-search", "zsync-sink", "zsync-traffic"]),
    // The probe, which the generator inside of the kernel writes too.
    ("zsync-traffic", &["zsync-packet", "zsync-ebpf-common"]),
    // It shares no code with the engine's rings, on purpose; its XDP program is built as the others are.
    ("zsync-bench-xsk", &["zsync-ebpf-build"]),
    (
        "zsync-engine",
        &["zsync-packet", "zsync-io", "zsync-pipelines", "zsync-runtime", "zsync-protocol", "zsync-crypto"],
    ),
    (
        "zsync-control",
        &[
            "zsync-packet",
            "zsync-pipelines",
            "zsync-protocol",
            "zsync-wireguard",
            "zsync-ebpf-common",
            "zsync-ebpf-build",
        ],
    ),
];
/// Crates that stand above all others: they may import what they like.
const ABOVE: &[&str] = &["zsync-bench", "zsync-tests"];

/// Crates of others that only some of ours may import.
const CONFINED: &[(&str, &[&str])] = &[
    ("aya", &["zsync-control", "zsync-ebpf-common", "zsync-bench", "zsync-bench-xsk", "zsync-tests"]),
    ("tokio", &["zsync-control", "zsync-bench", "zsync-bench-runtime", "zsync-tests"]),
    ("rtnetlink", &["zsync-control"]),
    ("aws-lc-rs", &["zsync-bench-crypto"]),
    ("seccompiler", &["zsync-engine"]),
    ("landlock", &["zsync-engine"]),
];

/// What each crate of the workspace imports, in code that ships or builds what ships.
fn imports() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    let metadata: Value = serde_json::from_str(&execute(&mut command)?)?;
    let name = |value: &Value| value["name"].as_str().map(str::to_owned).context("a package without a name");
    metadata["packages"]
        .as_array()
        .context("no packages")?
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().context("no dependencies")?;
            let shipped = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
            Ok((name(package)?, shipped.map(name).collect::<Result<_>>()?))
        })
        .collect()
}

#[test]
fn crates_import_only_what_they_may() {
    let imports = imports().unwrap();
    assert!(imports.len() >= 9, "the workspace has more crates than {imports:?}");
    let mut wrong = Vec::new();
    for (name, dependencies) in &imports {
        let may = MAY_IMPORT.iter().find(|(other, _)| other == name).map(|(_, may)| *may);
        if may.is_none() && !ABOVE.contains(&name.as_str()) {
            wrong.push(format!("{name} is not in the table: say what it may import"));
        }
        for dependency in dependencies {
            let ours = imports.contains_key(dependency);
            if ours && may.is_some_and(|may| !may.contains(&dependency.as_str())) {
                wrong.push(format!("{name} must not import {dependency}"));
            }
            let confined = CONFINED.iter().find(|(other, _)| other == dependency);
            if confined.is_some_and(|(_, to)| !to.contains(&name.as_str())) {
                wrong.push(format!("{name} must not import {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nobody_imports_the_crates_above() {
    for (name, dependencies) in imports().unwrap() {
        for above in ABOVE {
            assert!(!dependencies.contains(*above), "{name} imports {above}");
        }
    }
}
