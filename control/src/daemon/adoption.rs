//! How a control process begins: beside a data plane that outlived the one before, or from nothing.

use super::core::{Config, Daemon, tables_of};
use super::dataplane::{Dataplane, Event};
use super::history::History;
use super::installation::{Installation, Kept, Paths, Wanted};
use super::options::Options;
use super::routes::Routes;
use super::states::States;
use super::supervisor::{Kind, Phase};
use crate::api::Call;
use crate::lists::Lists;
use crate::netlink::links_now;
use crate::programs::Programs;
use anyhow::{Context as _, Result, anyhow, bail};
use rustix::fd::{AsFd, OwnedFd};
use std::collections::HashMap;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use zsync_pipelines::spec::wireguard::keep_room;
use zsync_pipelines::spec::{Parsed, Spec, diff};
use zsync_protocol::message::{FromDataplane, ToDataplane};
use zsync_protocol::shm::read_sealed;

/// How long a data plane may take to hand everything back. It takes milliseconds, unless it hangs.
const REPLAY: Duration = Duration::from_secs(3);
/// More messages than a data plane can have been given: 64 ports of 64 queues, and some.
const MOST: usize = 64 * 64 + 400;
/// How long the kernel may take to list its routes: a million take about two seconds.
const FIRST_SYNC: Duration = Duration::from_secs(30);

/// Takes over the running data plane, if there is one; else opens everything and starts one.
pub(super) async fn begin(
    options: Options,
    mut history: History,
    (mut parsed, programs, lists): (Parsed, Programs, Lists),
    text: String,
    file: String,
    calls: mpsc::Receiver<Call>,
) -> Result<Daemon> {
    let paths = Paths { run: options.run_dir.clone(), bpffs: options.bpffs.clone() };
    match adopt(&options, &paths).await {
        Ok(Some((dataplane, spec, installation, states, epoch))) => {
            let entry = history
                .newest()
                .cloned()
                .ok_or_else(|| anyhow!("the running data plane's configuration is not in the history"))?;
            let ports = port_numbers(&installation, &spec);
            let routes = mirror(&spec, &ports).await?;
            let running = Programs::recall(&spec, &entry.file, |path| history.object(&entry, path));
            let running = running.unwrap_or_else(|error| {
                tracing::warn!("XDP programs that run are not known any more: {error:#}");
                Programs::default()
            });
            let config = Config { entry, spec, programs: running };
            let mut daemon =
                Daemon::assemble(options, paths, history, config, installation, routes, epoch, calls);
            tracing::info!(pid = dataplane.pid, "the running data plane is adopted");
            daemon.states = states;
            daemon.dataplane = Some(dataplane);
            daemon.sandboxed = true;
            daemon.launched = true;
            daemon.phase =
                Phase { kind: Kind::Running { since: Instant::now() }, fallen: Vec::new(), retry: None };
            daemon.installation.steer_to_sockets()?;
            daemon.tell_local_addresses();
            daemon.send_fibs();
            daemon.follow_ports();
            daemon.follow_backends();
            keep_room(&mut parsed, &daemon.config.spec);
            let wanted = parsed.spec;
            let same_programs = daemon.config.programs.fingerprint() == programs.fingerprint();
            if daemon.config.spec != wanted || !same_programs {
                let mut objects = programs.contents(&wanted);
                objects.extend(lists.contents());
                let entry = daemon.history.add(&text, &file, 0, &objects)?;
                let number = entry.number;
                let changes = diff(&daemon.config.spec, &wanted);
                let config = Config { entry, spec: wanted, programs };
                if let Err(error) = daemon.put_in_force(config, &changes).await {
                    tracing::error!(
                        "the configuration asked for was refused; the one before stays: {error:#}"
                    );
                    daemon.reverted.push(number);
                    daemon.restore_newest();
                }
            } else {
                daemon.installation.finish(daemon.config.wanted(), &daemon.paths);
            }
            return Ok(daemon);
        }
        Ok(None) => {}
        Err(error) => tracing::warn!("the running data plane cannot be adopted, and is replaced: {error:#}"),
    }
    let wanted = parsed.spec;
    // Before anything is attached.
    programs.verify(&Programs::default(), &paths.scratch())?;
    let identity = identity(&wanted.engine.user)?;
    let asked = Wanted { spec: &wanted, programs: &programs };
    let installation = Installation::open(asked, &paths, identity, secret()?, &mut Kept::nothing(&wanted))?;
    let ports = port_numbers(&installation, &wanted);
    let routes = match mirror(&wanted, &ports).await {
        Ok(routes) => routes,
        Err(error) => {
            installation.close(&paths);
            return Err(error);
        }
    };
    let mut objects = programs.contents(&wanted);
    objects.extend(lists.contents());
    let entry = match history.add(&text, &file, 0, &objects) {
        Ok(entry) => entry,
        Err(error) => {
            installation.close(&paths);
            return Err(error);
        }
    };
    let config = Config { entry, spec: wanted, programs };
    let mut daemon = Daemon::assemble(options, paths, history, config, installation, routes, 0, calls);
    daemon.tell_local_addresses();
    // What they are told is said when it starts.
    daemon.look_at_ports();
    daemon.start_dataplane();
    Ok(daemon)
}

/// In the run directory: the id of the data plane's process.
pub(super) const PROCESS: &str = "dataplane.pid";

/// Writes down which process a later control will find. Over what is there, as wide as any id is: to truncate a file can
/// take a disk tens of milliseconds (blocks are freed, and discarded), and packets wait for the successor meanwhile.
pub(super) fn note_process(run_dir: &Path, pid: u32) -> std::io::Result<()> {
    let file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(run_dir.join(PROCESS))?;
    file.write_all_at(format!("{pid:<10}\n").as_bytes(), 0)
}

/// A running data plane, its configuration, what it was given, and the newest epoch of that.
type Adopted = (Dataplane, Spec, Installation, States, u64);

/// Knocks at the data plane of an earlier control process and gets everything back.
async fn adopt(options: &Options, paths: &Paths) -> Result<Option<Adopted>> {
    let file = options.run_dir.join(PROCESS);
    let Ok(text) = std::fs::read_to_string(&file) else { return Ok(None) };
    let pid: u32 = text.trim().parse().with_context(|| format!("{} names no process", file.display()))?;
    let Some(mut dataplane) = Dataplane::knock(&paths.knock(), pid)? else { return Ok(None) };
    let adopted = async {
        dataplane.tell(&ToDataplane::Replay, &[])?;
        let mut given = tokio::time::timeout(REPLAY, replay(&mut dataplane))
            .await
            .context("it did not hand back what it was given")??;
        let (spec, epoch) = running_spec(&given)?;
        let workers = given.iter().find_map(|(message, _)| match message {
            ToDataplane::Hello { layout, .. } => Some(layout.workers.len()),
            _ => None,
        });
        let states = States::adopt(&mut given, workers.unwrap_or(0))?;
        let installation = Installation::adopt(&spec, paths, given)?;
        // Its successors will be what it says: not somebody else.
        if (installation.layout.uid, installation.layout.gid) != identity(&spec.engine.user)? {
            bail!("it names another user than its configuration does");
        }
        Ok((spec, installation, states, epoch))
    };
    match adopted.await {
        Ok((spec, installation, states, epoch)) => Ok(Some((dataplane, spec, installation, states, epoch))),
        Err(error) => {
            // Two data planes over one memory would be worse than none for a moment.
            dataplane.end();
            dataplane.ended(REPLAY).await;
            Err(error)
        }
    }
}

async fn replay(dataplane: &mut Dataplane) -> Result<Vec<(ToDataplane, Vec<OwnedFd>)>> {
    let mut given = Vec::new();
    loop {
        match dataplane.next().await {
            Event::Said(FromDataplane::Replayed(message), fds) if given.len() < MOST => {
                given.push((message, fds))
            }
            Event::Said(FromDataplane::Replayed(_), _) => {
                bail!("it hands back more than it can have been given")
            }
            Event::Said(FromDataplane::ReplayEnd, _) => return Ok(given),
            Event::Said(..) => {}
            Event::Misbehaved(what) => bail!(what),
            Event::Ended(how) => bail!("it ended: {how}"),
        }
    }
}

/// The configuration that the data plane runs, and the newest epoch that it was given.
fn running_spec(given: &[(ToDataplane, Vec<OwnedFd>)]) -> Result<(Spec, u64)> {
    let mut spec = None;
    let mut newest = 0;
    for (message, fds) in given {
        match message {
            ToDataplane::Snapshot { epoch, len } => {
                let fd = fds.first().ok_or_else(|| anyhow!("its configuration came without descriptor"))?;
                let bytes = read_sealed(fd.as_fd(), *len as usize)?;
                spec = Some(Spec::from_bytes(&bytes)?);
                newest = newest.max(*epoch);
            }
            ToDataplane::Fib { epoch, .. } => newest = newest.max(*epoch),
            _ => {}
        }
    }
    Ok((spec.ok_or_else(|| anyhow!("it has no configuration"))?, newest))
}

/// Numbers of ports by index of their netdevs; of ports that are VLANs by that of the kernel's device for the VLAN. Without the host's end of
/// a wire: what is routed by that the host sends, for it asks who is beyond the wire.
pub(super) fn port_numbers(installation: &Installation, spec: &Spec) -> HashMap<u32, u16> {
    let mut numbers: HashMap<u32, u16> = installation
        .ports
        .iter()
        .filter(|port| port.ifindex != 0 && !spec.is_end_of_wire(port.spec.id))
        .map(|port| (port.ifindex, port.spec.id.0))
        .collect();
    let vlans = spec.vlans.iter().filter(|vlan| !spec.is_end_of_wire(spec.device_of(vlan.id)));
    let named = vlans.filter_map(|vlan| Some((vlan, vlan.netdev.as_deref()?)));
    let links = if spec.vlans.is_empty() { Vec::new() } else { links_now().unwrap_or_default() };
    for (vlan, netdev) in named {
        match links.iter().find(|link| link.name == netdev) {
            Some(link) if !numbers.contains_key(&link.ifindex) => {
                numbers.insert(link.ifindex, vlan.id.0);
            }
            Some(_) => tracing::error!(port = vlan.name, netdev, "the device is another port's already"),
            None => tracing::error!(
                port = vlan.name,
                netdev,
                "the device is not there, so no route leads to the port; `zsyncctl apply` looks again"
            ),
        }
    }
    numbers
}

/// The routing tables that a configuration uses, read from the kernel once.
pub(crate) async fn mirror(spec: &Spec, ports: &HashMap<u32, u16>) -> Result<Vec<Routes>> {
    let mut tables = tables_of(spec);
    if tables.is_empty() {
        // Links and addresses are followed in any case, by the mirror of the main table.
        tables.push(254);
    }
    let mut routes = Vec::new();
    for table in tables {
        let mut table = Routes::start(table, ports.clone())?;
        tokio::time::timeout(FIRST_SYNC, table.follow())
            .await
            .context("the kernel did not list its routes in time")??;
        routes.push(table);
    }
    Ok(routes)
}

/// User and group of the data plane.
pub(super) fn identity(user: &str) -> Result<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [name, _, uid, gid, ..] = fields[..]
            && name == user
        {
            let (uid, gid) = (uid.parse()?, gid.parse()?);
            if uid == 0 || gid == 0 {
                bail!("engine.user = \"{user}\" is root or in root's group: the data plane must be neither");
            }
            return Ok((uid, gid));
        }
    }
    bail!("engine.user = \"{user}\": there is no such user; make one with `useradd --system {user}`")
}

/// The key of this installation's hashes.
pub(super) fn secret() -> Result<[[u8; 32]; 2]> {
    let mut secret = [[0; 32]; 2];
    for half in &mut secret {
        let got = rustix::rand::getrandom(&mut half[..], rustix::rand::GetRandomFlags::empty())?;
        if got != half.len() {
            bail!("the kernel gave {got} random bytes instead of {}", half.len());
        }
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_noted_last_is_the_one_that_is_read() {
        let folder = std::env::temp_dir().join(format!("zsync-adoption-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for pid in [4_194_304, 17, u32::MAX, 1] {
            note_process(&folder, pid).unwrap();
            let text = std::fs::read_to_string(folder.join(PROCESS)).unwrap();
            assert_eq!(text.trim().parse(), Ok(pid), "{text:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
