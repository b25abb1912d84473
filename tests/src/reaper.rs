//! What a test that was itself killed left behind: found by the process id in the names, and removed.
//!
//! Refuses to touch what belongs to a process that lives.

use std::fs;
use std::path::Path;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, test_kill_process};

use crate::netns;

/// `zs<pid>-<number>`, the beginning of every name that a lab makes.
pub(crate) fn lab_name(number: u32) -> String {
    format!("zs{}-{number}", std::process::id())
}

/// Removes namespaces and folders of labs whose process is dead.
pub(crate) fn reap(folders: &Path) {
    for name in entries(Path::new(netns::NAMES)).filter(|name| is_dead(name)) {
        eprintln!("removing namespace {name} of a dead process");
        netns::remove(&name);
    }
    for name in entries(folders).filter(|name| is_dead(name)) {
        eprintln!("removing folder {name} of a dead process");
        remove_folder(&folders.join(name));
    }
}

/// Removes a lab's folder, which is a file system, with the BPF file systems in it: each control process that a test starts has one.
pub(crate) fn remove_folder(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    // The last ones may lie in the others.
    for mounted in mounts_below(&mounts, folder).rev() {
        let _ = unmount(mounted, UnmountFlags::DETACH);
    }
    match fs::remove_dir_all(folder) {
        Err(error) if folder.exists() => eprintln!("cannot remove {}: {error}", folder.display()),
        _ => {}
    }
}

/// Where something is mounted at `folder` and below it, in the order of `mounts` (proc(5): the second word of a line). Our own names have nothing that is
/// written otherwise there.
fn mounts_below<'m>(mounts: &'m str, folder: &Path) -> impl DoubleEndedIterator<Item = &'m Path> {
    let paths: Vec<_> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new).collect();
    let folder = folder.to_owned();
    paths.into_iter().filter(move |path| path.starts_with(&folder))
}

fn entries(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

fn is_dead(name: &str) -> bool {
    owner(name).is_some_and(|pid| test_kill_process(pid).is_err())
}

fn owner(name: &str) -> Option<Pid> {
    let (pid, number) = name.strip_prefix("zs")?.split_once('-')?;
    let number = number.split('-').next()?;
    number.parse::<u32>().ok()?;
    pid.parse().ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_mounted_at_a_folder_is_found_and_nothing_beside_it() {
        let mounts = "zsync /tmp/zs1-2 tmpfs rw 0 0\nbpf /tmp/zs1-2/bpffs bpf rw 0 0\nbpf /tmp/zs1-2/other/bpffs bpf rw 0 0\n\
                      bpf /tmp/zs1-20/bpffs bpf rw 0 0\nproc /proc proc rw 0 0\n";
        let found: Vec<_> = mounts_below(mounts, Path::new("/tmp/zs1-2")).collect();
        assert_eq!(found, ["/tmp/zs1-2", "/tmp/zs1-2/bpffs", "/tmp/zs1-2/other/bpffs"].map(Path::new));
    }

    #[test]
    fn only_names_of_labs_have_an_owner() {
        assert_eq!(owner("zs17-3-router"), Pid::from_raw(17));
        assert_eq!(owner("zs17-3"), Pid::from_raw(17));
        for name in ["zs17", "zs-3", "zsync-17-3", "zs17-router", "zsa-3", "default"] {
            assert_eq!(owner(name), None, "{name}");
        }
        assert!(!is_dead(&lab_name(1)));
    }
}
