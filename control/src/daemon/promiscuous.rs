//! Ports whose netdev takes frames for any station.
//!
//! Owns: a note in the run directory for each netdev that we made so, by its index, with its name; the flag itself is the kernel's
//! (`IFF_PROMISC`). So it stays while either process is replaced, and a successor knows what is to be taken back. The kernel has one such flag: who
//! takes it away while it is wanted (`ip link set … promisc off`) has it set again. A socket that asks for it would do the same as
//! long as somebody holds it, but the data plane would have to, and could send by any netdev with it. Keeps true: the ports of a wire are
//! promiscuous, whatever is said of them; a netdev that was promiscuous before is left so.

use super::installation::{OpenPort, Paths};
use crate::netlink::{Link, links_now, make_promiscuous};
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use zsync_pipelines::spec::Spec;

impl Paths {
    /// The folder of the notes.
    fn promiscuous(&self) -> PathBuf {
        self.run.join("promiscuous")
    }
}

/// The netdevs of these ports that are to be promiscuous, by their indices.
pub(super) fn wanted(spec: &Spec, ports: &[OpenPort]) -> BTreeSet<u32> {
    // A device of our own has the host alone at its other end, a UDP socket no device.
    let taken = ports.iter().filter(|port| port.spec.is_taken());
    let wants = |port: &&OpenPort| port.spec.promiscuous || spec.is_wire(port.spec.id);
    taken.filter(wants).map(|port| port.ifindex).collect()
}

/// Makes these netdevs promiscuous that are not, and takes it back from others that we made so. The names of the former.
///
/// # Errors
/// The kernel or the run directory refused, with the netdev; then none is promiscuous that was not.
pub(super) fn settle(paths: &Paths, wanted: &BTreeSet<u32>) -> Result<Vec<String>> {
    let folder = paths.promiscuous();
    let noted = notes(&folder)?;
    if wanted.is_empty() && noted.is_empty() {
        return Ok(Vec::new());
    }
    let links = links_now().context("asking which netdevs are promiscuous")?;
    let link = |ifindex: &u32| links.iter().find(|link| link.ifindex == *ifindex);
    let mut fresh = Vec::new();
    for link in wanted.iter().filter_map(link).filter(|link| !link.is_promiscuous()) {
        // First the note: of a netdev that is noted and is not so yet nothing is to be taken back, which does no harm.
        let made = note(&folder, link).and_then(|()| Ok(make_promiscuous(link.ifindex, true)?));
        fresh.push(link);
        if let Err(error) = made {
            for link in fresh {
                take_back(&folder, link.ifindex, Some(link));
            }
            return Err(error.context(format!("making {} promiscuous", link.name)));
        }
    }
    let made = fresh.into_iter().map(|link| link.name.clone()).collect();
    for ifindex in noted.difference(wanted) {
        take_back(&folder, *ifindex, link(ifindex));
    }
    if wanted.is_empty() {
        // Only if nothing is left noted.
        let _ = fs::remove_dir(&folder);
    }
    Ok(made)
}

/// The netdevs that we made promiscuous.
fn notes(folder: &Path) -> Result<BTreeSet<u32>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.with_context(|| format!("reading {}", folder.display()))?,
    };
    let index = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    Ok(entries.filter_map(index).collect())
}

fn note(folder: &Path, link: &Link) -> Result<()> {
    let file = folder.join(link.ifindex.to_string());
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&file, &link.name));
    written.with_context(|| format!("writing {}", file.display()))
}

/// Has a netdev be as it was, if it is still there: another may have its index by now. What cannot be taken back stays noted.
fn take_back(folder: &Path, ifindex: u32, link: Option<&Link>) {
    let file = folder.join(ifindex.to_string());
    let noted = fs::read_to_string(&file).unwrap_or_default();
    let same = link.filter(|link| link.name == noted);
    let cleared = same.map_or(Ok(()), |link| make_promiscuous(link.ifindex, false));
    match cleared {
        Ok(()) => drop(fs::remove_file(file)),
        Err(error) => tracing::error!(ifindex, "a netdev is left promiscuous: {error}"),
    }
}
