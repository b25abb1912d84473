//! What forwards between the two devices of the router, one after the other: zsync, testpmd, the kernel in several ways.
//!
//! Keeps true: while one of them is up, the others have left the devices alone; what a dropped one had attached is gone.

use crate::kernel::{Redirect, Rules, Way, unmatched};
use crate::machine::measured_core;
use crate::place::{MACS, PORTS, Part};
use crate::testpmd::Testpmd;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zsync_bench_xsk::{Options, Side};

/// Where zsync's files are; in the enclosure's own `/run`.
const FOLDER: &str = "/run/zsync-bench";
/// How long one may take to come up or to go.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `zsync-control` and `zsync-dataplane`, beside this program.
    Zsync,
    /// The same, by packet sockets.
    Packets,
    /// The same, doing what nftables does in the other's way.
    Doing(Way),
    /// testpmd on two `af_xdp` devices, rewriting MAC addresses.
    Testpmd,
    /// The kernel's own IPv4 forwarding.
    Kernel,
    /// The same, with rules of nftables.
    Nftables(Way),
    /// An XDP program that redirects to the other device.
    Redirect,
    /// AF_XDP through xsk-rs: a forwarder without a table, of nobody's engine.
    XskRs,
}

impl Kind {
    /// As a report names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zsync => "zsync",
            Self::Packets => "zsync, packet sockets",
            Self::Doing(Way::Track) => "zsync, track and filter",
            Self::Doing(Way::Masquerade) => "zsync, masquerade",
            Self::Doing(Way::Filter) => "zsync, 1,000 rules",
            Self::Testpmd => "testpmd af_xdp",
            Self::Kernel => "kernel forwarding",
            Self::Nftables(Way::Track) => "kernel, conntrack",
            Self::Nftables(Way::Masquerade) => "kernel, masquerade",
            Self::Nftables(Way::Filter) => "kernel, 1,000 nftables rules",
            Self::Redirect => "kernel, XDP redirect",
            Self::XskRs => "xsk-rs",
        }
    }

    /// Whether it is ours.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Zsync | Self::Packets | Self::Doing(_))
    }
}

/// One that is up. Dropping it takes it down.
pub enum Forwarder {
    /// See [`Kind::Zsync`].
    Zsync(Zsync),
    /// See [`Kind::Testpmd`].
    Testpmd(Testpmd),
    /// Nothing to hold.
    Kernel,
    /// See [`Kind::Nftables`].
    Nftables(Rules),
    /// See [`Kind::Redirect`].
    Redirect(Redirect),
    /// See [`Kind::XskRs`].
    XskRs(XskRs),
}

impl Forwarder {
    /// Starts one, and waits until it forwards.
    ///
    /// # Errors
    /// It is not there, does not start, or another program is still attached.
    pub fn start(kind: Kind) -> Result<Self> {
        wait_until_free()?;
        Ok(match kind {
            Kind::Zsync => Self::Zsync(Zsync::start("xdp", None)?),
            Kind::Packets => Self::Zsync(Zsync::start("uring-packet", None)?),
            Kind::Doing(way) => Self::Zsync(Zsync::start("xdp", Some(way))?),
            Kind::Testpmd => Self::Testpmd(testpmd()?),
            Kind::Kernel => Self::Kernel,
            Kind::Nftables(way) => Self::Nftables(Rules::set(way)?),
            Kind::Redirect => Self::Redirect(Redirect::attach()?),
            Kind::XskRs => Self::XskRs(XskRs::start()?),
        })
    }
}

fn testpmd() -> Result<Testpmd> {
    let [left, right] = [0, 1].map(|n| format!("--vdev=net_af_xdp{n},iface={},start_queue=0", PORTS[n]));
    let [_, _, _, sink] = MACS;
    let peer = format!("--eth-peer=1,{}", sink.map(|byte| format!("{byte:02x}")).join(":"));
    let eal = ["--in-memory", "--no-pci", &left, &right];
    let mut testpmd = Part::Router.run(|| Testpmd::start(&eal, &["--forward-mode=mac", &peer]))?;
    testpmd.forward(true)?;
    Ok(testpmd)
}

/// xsk-rs at work, in a thread on the measured core.
pub struct XskRs {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl XskRs {
    fn start() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (opened, open) = channel();
        let thread = std::thread::spawn(move || {
            let core = measured_core();
            let start = || -> Result<zsync_bench_xsk::Forwarder> {
                Part::Router.enter()?;
                let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: core });
                ensure!(pinned, "a thread cannot be pinned to core {core}");
                let side = |port: usize, source: usize, destination: usize| Side {
                    device: PORTS[port].to_owned(),
                    queue: 0,
                    source: MACS[source],
                    destination: MACS[destination],
                };
                Ok(zsync_bench_xsk::Forwarder::open([side(0, 1, 0), side(1, 2, 3)], &Options::default())?)
            };
            let mut forwarder = match start() {
                Ok(forwarder) => forwarder,
                // Told to whoever waits for it.
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return Ok(());
                }
            };
            let _ = opened.send(Ok(()));
            forwarder.run(&stopped)?;
            Ok(())
        });
        let this = Self { stop, thread: Some(thread) };
        open.recv().context("xsk-rs ended early")??;
        Ok(this)
    }
}

impl Drop for XskRs {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("xsk-rs: {error:#}");
        }
    }
}

/// Waits until no XDP program is on the router's devices.
fn wait_until_free() -> Result<()> {
    let start = Instant::now();
    loop {
        let links = Part::Router.execute("ip -j link show")?;
        if !links.contains("\"xdp\"") {
            return Ok(());
        }
        ensure!(start.elapsed() < PATIENCE, "an XDP program stays on the router's devices");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running zsync.
pub struct Zsync {
    control: Child,
    folder: PathBuf,
}

impl Zsync {
    fn start(device: &str, way: Option<Way>) -> Result<Self> {
        Self::start_in(Part::Router, Path::new(FOLDER), &configuration(measured_core(), device, way))
    }

    /// One in that namespace, with this configuration; its files are in `folder`, which is its own.
    ///
    /// # Errors
    /// It is not built, or does not come to forward.
    pub fn start_in(part: Part, folder: &Path, configuration: &str) -> Result<Self> {
        let (control, dataplane) = (beside("zsync-control")?, beside("zsync-dataplane")?);
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder)?;
        let config = folder.join("config.toml");
        fs::write(&config, configuration)?;
        let log = fs::File::create(folder.join("log"))?;
        let mut command = Command::new(control);
        command
            .arg("--config")
            .arg(config)
            .arg("--run-dir")
            .arg(folder.join("run"))
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("--bpffs")
            .arg(folder.join("bpffs"))
            .arg("--dataplane")
            .arg(dataplane)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let control = part.run(|| command.spawn().context("zsync-control cannot be started"))?;
        let mut zsync = Self { control, folder: folder.to_owned() };
        zsync.wait_until_running()?;
        Ok(zsync)
    }

    /// The API says when it forwards.
    fn wait_until_running(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.control.try_wait()? {
                bail!("zsync-control ended with {status}: {}", self.said());
            }
            if self.is_running().unwrap_or(false) {
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "zsync does not forward after {PATIENCE:?}: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the data plane is running, as `zsyncctl` hears it.
    fn is_running(&self) -> Result<bool> {
        let status = self.ask(&["status"])?;
        let dataplane = &status["status"]["dataplane"];
        Ok(dataplane["state"] == "running" && dataplane["pid"].is_u64())
    }

    /// What `zsyncctl` answers to these words.
    ///
    /// # Errors
    /// It is not built, or does not answer.
    pub fn ask(&self, words: &[&str]) -> Result<serde_json::Value> {
        let output = Command::new(beside("zsyncctl")?)
            .arg("--socket")
            .arg(self.folder.join("run/api.sock"))
            .args(words)
            .arg("--json")
            .output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The end of its log.
    fn said(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join(" / ")
    }
}

impl Drop for Zsync {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.control), Signal::TERM);
        let start = Instant::now();
        while let Ok(None) = self.control.try_wait() {
            if start.elapsed() > PATIENCE {
                eprintln!("zsync-control did not heed SIGTERM, and is killed: {}", self.said());
                let _ = self.control.kill();
                let _ = self.control.wait();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Whatever is still pinned goes with its file system.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.join("bpffs")).output();
    }
}

/// Where a program of zsync is: beside this one.
fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(
        path.is_file(),
        "there is no {}: build it (`cargo build --release --workspace --bins`)",
        path.display()
    );
    Ok(path)
}

/// A router between the two devices, whose packets `device` takes, with one worker on `core`, and what nftables has in its way.
fn configuration(core: usize, device: &str, way: Option<Way>) -> String {
    let [left, right] = PORTS;
    let (stages, tables) = match way {
        None => ("", String::new()),
        Some(Way::Track) => (
            "\"track.all\", \"filter.forward\", ",
            format!(
                "[track.all]\ncapacity = 262144\n[filter.forward]\ndefault = \"drop\"\nrules = [\n\
                 {{ accept = true, input = \"{left}\", state = [\"new\", \"established\", \"related\"] }},\n\
                 {{ accept = true, state = [\"established\", \"related\"] }}\n]\n"
            ),
        ),
        Some(Way::Masquerade) => (
            "\"track.all\", \"nat.out\", ",
            format!("[track.all]\ncapacity = 262144\n[nat.out]\nmasquerade = [{{ output = \"{right}\" }}]\n"),
        ),
        Some(Way::Filter) => ("\"filter.forward\", ", filter()),
    };
    format!(
        "[engine]\nworkers = [{core}]\nidle = \"spin\"\n\
         [port.{left}]\nnetdev = \"{left}\"\ndevice = \"{device}\"\n\
         [port.{right}]\nnetdev = \"{right}\"\ndevice = \"{device}\"\n\
         [pipeline.forward]\ninput = [\"{left}\", \"{right}\"]\nstages = [{stages}\"route.main\"]\n\
         [route.main]\ntable = 254\n{tables}"
    )
}

/// The rules of [`Way::Filter`].
fn filter() -> String {
    let rule = |(from, port): (String, u32)| {
        format!("{{ drop = true, from = \"{from}/32\", to-port = {port}, protocol = \"udp\" }},\n")
    };
    let rules: String = unmatched().map(rule).collect();
    format!("[filter.forward]\ndefault = \"drop\"\nrules = [\n{rules}{{ accept = true }}\n]\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configurations_are_valid_and_have_the_rules_of_the_kernel_s() {
        let ways = [None, Some(Way::Track), Some(Way::Masquerade), Some(Way::Filter)];
        for (device, way) in ways.map(|way| ("xdp", way)).into_iter().chain([("uring-packet", None)]) {
            let parsed = zsync_pipelines::spec::parse(&configuration(1, device, way), "benchmark").unwrap();
            assert_eq!(parsed.spec.ports.len(), 2);
            assert!(parsed.warnings.is_empty(), "{way:?}: {:?}", parsed.warnings);
        }
        assert_eq!(filter().matches("from = ").count(), 999);
        assert!(filter().contains("from = \"192.168.3.231/32\", to-port = 999,"));
    }
}
