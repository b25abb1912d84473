//! A running data plane, looked at from outside.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;
use zsync_tests::config::ROUTER;
use zsync_tests::{Control, Shape, in_lab, ping};

/// The sets of capabilities (Documentation/filesystems/proc.rst).
const CAPABILITIES: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

fn status_of(folder: &str) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(format!("{folder}/status"))?;
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    Ok(pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
}

/// A thread that may do nothing.
fn check_thread(folder: &str) -> Result<()> {
    let status = status_of(folder)?;
    let field =
        |name: &str| status.get(name).map(String::as_str).with_context(|| format!("{folder}: no {name}"));
    for ids in ["Uid", "Gid"] {
        let is_root = field(ids)?.split_whitespace().any(|id| id == "0");
        ensure!(!is_root, "{folder}: {ids} {}", field(ids)?);
    }
    ensure!(field("Groups")?.is_empty(), "{folder}: supplementary groups {}", field("Groups")?);
    for set in CAPABILITIES {
        let bits = u64::from_str_radix(field(set)?, 16)?;
        ensure!(bits == 0, "{folder}: {set} is {bits:#x}");
    }
    ensure!(field("NoNewPrivs")? == "1", "{folder}: NoNewPrivs {}", field("NoNewPrivs")?);
    ensure!(field("Seccomp")? == "2", "{folder}: Seccomp {}, wanted 2, which is a filter", field("Seccomp")?);
    Ok(())
}

/// What each descriptor leads to.
fn descriptors(pid: Pid) -> Result<Vec<PathBuf>> {
    let folder = format!("/proc/{}/fd", pid.as_raw_nonzero());
    fs::read_dir(folder)?.map(|entry| Ok(fs::read_link(entry?.path())?)).collect()
}

fn check(control: &Control<'_>) -> Result<()> {
    let pid = control.dataplane()?;
    let folder = format!("/proc/{}", pid.as_raw_nonzero());
    check_thread(&folder)?;
    let mut threads = 0;
    for thread in fs::read_dir(format!("{folder}/task"))? {
        check_thread(&thread?.path().to_string_lossy())?;
        threads += 1;
    }
    ensure!(threads >= 2, "a main thread and a worker at least, not {threads}");

    for link in descriptors(pid)? {
        let text = link.to_string_lossy();
        // Memory, sockets, the punt device, what wakes it; the null device and the log.
        let known =
            ["/memfd:", "socket:[", "anon_inode:", "pipe:["].iter().any(|kind| text.starts_with(kind))
                || text == "/dev/net/tun"
                || text == "/dev/null"
                || text.ends_with("/control.log");
        ensure!(known, "the data plane has {text} open: {:?}", descriptors(pid)?);
        let dangerous =
            ["bpf", "inotify", "pidfd", "perf", "userfaultfd"].iter().any(|kind| text.contains(kind));
        ensure!(!dangerous, "the data plane has {text} open: {:?}", descriptors(pid)?);
    }
    let cwd = fs::read_link(format!("{folder}/cwd"))?;
    ensure!(cwd.as_os_str() == "/", "its working directory is {}", cwd.display());
    let limits = fs::read_to_string(format!("{folder}/limits"))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("no core limit")?;
    ensure!(core.split_whitespace().nth(4) == Some("0"), "it may write its memory to a file: {core}");
    let environment = fs::read(format!("{folder}/environ"))?;
    ensure!(environment.is_empty(), "its environment: {}", String::from_utf8_lossy(&environment));
    Ok(())
}

#[test]
fn the_data_plane_has_no_privilege() {
    in_lab(Shape::router().queues(2), |lab| {
        let mut control = Control::start(lab, ROUTER)?;
        ensure!(ping(&lab.client, lab.server_addresses[0], 3)?.all(), "no way");
        check(&control)?;
        let killed = control.kill9_dataplane()?;
        control.wait_successor(killed)?;
        check(&control).context("the successor of one that was killed")
    });
}
