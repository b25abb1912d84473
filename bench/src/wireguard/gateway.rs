//! Gateways: an end of a tunnel in one of the two namespaces, of zsync or of another.
//!
//! Keeps true: all of them have keys that were made for the run, in files that nobody else reads; all run on the same core; when
//! one is dropped, its device and all that it attached are gone.

use crate::enclosure::execute;
use crate::forwarder::Zsync;
use crate::machine::measured_core;
use crate::wireguard::place::{GATEWAYS, MTU, NETWORKS, OUTSIDE};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where keys and logs are; in the enclosure's own `/run`.
const FOLDER: &str = "/run/zsync-bench-wireguard";
/// How long one may take to come up or to go.
const PATIENCE: Duration = Duration::from_secs(15);
const PORT: u16 = 51_820;

/// Whose gateway it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `zsync-control` and `zsync-dataplane`, beside this program, over AF_XDP on both sides.
    Zsync,
    /// The same, with a UDP socket outside and a TUN device inside, as the programs below have them.
    ZsyncUdp,
    /// WireGuard in Go.
    WireguardGo,
    /// WireGuard in Rust.
    Boringtun,
    /// The kernel's module.
    Kernel,
}

impl Kind {
    /// As a report names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zsync => "zsync",
            Self::ZsyncUdp => "zsync-udp",
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun-cli",
            Self::Kernel => "kernel",
        }
    }

    /// Whether it is zsync's.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Zsync | Self::ZsyncUdp)
    }

    /// How many times as fast zsync is to be.
    pub fn limit(self) -> Option<f64> {
        match self {
            Self::WireguardGo => Some(3.0),
            Self::Boringtun => Some(5.0),
            Self::Zsync | Self::ZsyncUdp | Self::Kernel => None,
        }
    }

    /// Why it is not here, if it is not.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Zsync | Self::ZsyncUdp => None,
            Self::Kernel => {
                let made = GATEWAYS[0].execute("ip link add wg-probe type wireguard");
                let gone = made.and_then(|_| GATEWAYS[0].execute("ip link del wg-probe"));
                gone.err().map(|_| "this kernel has no WireGuard".to_owned())
            }
            Self::WireguardGo | Self::Boringtun => {
                program(self.name()).err().map(|error| format!("{error:#}"))
            }
        }
    }
}

/// A peer's program, in the path or where cargo installs.
pub fn program(name: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(cargo.map(|cargo| cargo.join("bin")));
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("there is no {name}: `scripts/setup` installs it"))
}

/// Both ends' keys.
pub struct Keys {
    /// Files with the private ones.
    pub files: [PathBuf; 2],
    /// The public ones.
    pub public: [String; 2],
}

impl Keys {
    /// Makes new ones.
    ///
    /// # Errors
    /// There is no `wg`.
    pub fn make() -> Result<Self> {
        let folder = Path::new(FOLDER);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let pair = |name: &str| -> Result<(PathBuf, String)> {
            let file = folder.join(name);
            let script = "umask 077; wg genkey > \"$0\" && wg pubkey < \"$0\"";
            let public = execute(Command::new("sh").args(["-c", script]).arg(&file))
                .context("wg is needed (Debian has it in the package wireguard-tools)")?;
            Ok((file, public.trim().to_owned()))
        };
        let [near, far] = [pair("near.key")?, pair("far.key")?];
        Ok(Self { files: [near.0, far.0], public: [near.1, far.1] })
    }
}

/// One that is up. Dropping it takes it down.
pub enum Gateway {
    /// zsync's processes.
    Zsync(Zsync),
    /// A program with a TUN device.
    Program(Child),
    /// The kernel's device, in the namespace of this number.
    Device(usize),
}

impl Gateway {
    /// Starts the near one (0) or the far one (1) on the measured core; `core`: on that one instead. `ring`: of zsync's, how many
    /// packets may wait at a port, if not as many as by default.
    ///
    /// # Errors
    /// It is not there, or does not come up.
    pub fn start(
        kind: Kind,
        end: usize,
        keys: &Keys,
        core: Option<usize>,
        ring: Option<u32>,
    ) -> Result<Self> {
        let core = core.unwrap_or_else(measured_core);
        match kind {
            Kind::Zsync | Kind::ZsyncUdp => {
                let folder = format!("/run/zsync-bench-{}", device(end));
                let by_socket = kind == Kind::ZsyncUdp;
                let configuration =
                    if by_socket { by_udp(end, keys, core) } else { configuration(end, keys, core, ring) };
                let zsync = Zsync::start_in(GATEWAYS[end], Path::new(&folder), &configuration)?;
                if by_socket {
                    // What is for the other network, and what comes out of the tunnel, goes into the device.
                    let device = device(end);
                    for route in [NETWORKS[1 - end], "default table 100"] {
                        GATEWAYS[end].execute(&format!("ip route replace {route} dev {device}"))?;
                    }
                }
                Ok(Self::Zsync(zsync))
            }
            Kind::WireguardGo | Kind::Boringtun => {
                let mut command = Command::new(program(kind.name())?);
                command.arg("--foreground").arg(device(end)).env("WG_PROCESS_FOREGROUND", "1");
                if kind == Kind::Boringtun {
                    command.arg("--disable-drop-privileges");
                }
                let log = File::create(Path::new(FOLDER).join(format!("{}.log", device(end))))?;
                command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
                let child = GATEWAYS[end].run(|| {
                    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: core });
                    ensure!(pinned, "a process cannot be pinned to core {core}");
                    command.spawn().with_context(|| format!("{} cannot be started", kind.name()))
                })?;
                let mut gateway = Self::Program(child);
                gateway.set_up(kind, end, keys)?;
                Ok(gateway)
            }
            Kind::Kernel => {
                GATEWAYS[end].execute(&format!("ip link add {} type wireguard", device(end)))?;
                let mut gateway = Self::Device(end);
                gateway.set_up(kind, end, keys)?;
                Ok(gateway)
            }
        }
    }

    /// Bytes that it has sent to its peer (`tx`), or got from it (`rx`).
    ///
    /// # Errors
    /// It does not say.
    pub fn bytes(&self, way: &str) -> Result<u64> {
        let Self::Zsync(zsync) = self else { bail!("only zsync is asked") };
        let shown = zsync.ask(&["show", "wireguard"])?;
        find(&shown, &format!("{way}-bytes")).with_context(|| format!("no {way} bytes in {shown}"))
    }

    /// Tells a device what its tunnel is, once it is there.
    fn set_up(&mut self, kind: Kind, end: usize, keys: &Keys) -> Result<()> {
        let (part, device, other) = (GATEWAYS[end], device(end), 1 - end);
        let start = Instant::now();
        while part.execute(&format!("wg show {device}")).is_err() {
            if let Self::Program(child) = self
                && let Some(status) = child.try_wait()?
            {
                bail!("{} ended with {status}", kind.name());
            }
            ensure!(start.elapsed() < PATIENCE, "{} has no device after {PATIENCE:?}", kind.name());
            std::thread::sleep(Duration::from_millis(20));
        }
        part.execute(&format!(
            "wg set {device} listen-port {PORT} private-key {} peer {} endpoint {}:{PORT} allowed-ips {}",
            keys.files[end].display(),
            keys.public[other],
            OUTSIDE[other],
            NETWORKS[other]
        ))?;
        part.execute(&format!("ip link set {device} mtu {MTU} up"))?;
        part.execute(&format!("ip route replace {} dev {device}", NETWORKS[other]))?;
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        match self {
            Self::Zsync(_) => {}
            Self::Program(child) => {
                let _ = kill_process(Pid::from_child(child), Signal::TERM);
                let start = Instant::now();
                while let Ok(None) = child.try_wait() {
                    if start.elapsed() > Duration::from_secs(3) {
                        let _ = child.kill();
                        let _ = child.wait();
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            Self::Device(end) => {
                let _ = GATEWAYS[*end].execute(&format!("ip link del {}", device(*end)));
            }
        }
    }
}

/// The first number of that name, however deep.
fn find(value: &serde_json::Value, name: &str) -> Option<u64> {
    match value {
        serde_json::Value::Object(fields) => fields
            .get(name)
            .and_then(serde_json::Value::as_u64)
            .or_else(|| fields.values().find_map(|value| find(value, name))),
        serde_json::Value::Array(items) => items.iter().find_map(|value| find(value, name)),
        _ => None,
    }
}

/// The device of an end's tunnel. Both are in one mount namespace, and so are their sockets.
fn device(end: usize) -> &'static str {
    ["wg-near", "wg-far"][end]
}

/// The configuration of one of zsync's ends, with one worker on `core`.
fn configuration(end: usize, keys: &Keys, core: usize, ring: Option<u32>) -> String {
    let other = 1 - end;
    let ring = ring.map_or_else(String::new, |ring| format!("ring-size = {ring}\n"));
    format!(
        "[engine]\nworkers = [{core}]\n[port.inside]\nnetdev = \"inside\"\n{ring}[port.outside]\nnetdev = \"outside\"\n{ring}\
         [pipeline.from-inside]\ninput = [\"inside\"]\nstages = [\"wireguard-seal.site\", \"route.main\"]\n\
         [pipeline.from-outside]\ninput = [\"outside\"]\nstages = [\"wireguard-open.site\", \"route.main\"]\n\
         [route.main]\ntable = 254\n[wireguard.site]\nprivate-key-file = \"{}\"\nlisten-port = {PORT}\nmtu = {MTU}\n\
         peers = [{{ public-key = \"{}\", endpoint = \"{}:{PORT}\", allowed-ips = [\"{}\"] }}]\n",
        keys.files[end].display(),
        keys.public[other],
        OUTSIDE[other],
        NETWORKS[other]
    )
}

/// The same, with a UDP socket outside and a TUN device inside.
fn by_udp(end: usize, keys: &Keys, core: usize) -> String {
    let other = 1 - end;
    format!(
        "[engine]\nworkers = [{core}]\n[port.outer]\ndevice = \"udp\"\nlisten = \"0.0.0.0:{PORT}\"\n\
         [port.host]\ndevice = \"tun\"\nnetdev = \"{}\"\nmtu = {MTU}\n\
         [pipeline.in]\ninput = [\"outer\"]\nstages = [\"wireguard-open.site\", \"route.inside\"]\n\
         [pipeline.out]\ninput = [\"host\"]\nstages = [\"wireguard-seal.site\", \"drop\"]\n\
         [route.inside]\ntable = 100\n[wireguard.site]\nprivate-key-file = \"{}\"\nlisten-port = {PORT}\nmtu = {MTU}\n\
         to = {{ port = \"outer\" }}\n\
         peers = [{{ public-key = \"{}\", endpoint = \"{}:{PORT}\", allowed-ips = [\"{}\"] }}]\n",
        device(end),
        keys.files[end].display(),
        keys.public[other],
        OUTSIDE[other],
        NETWORKS[other]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_of_both_ends_are_valid() {
        let public =
            ["xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="];
        let keys = Keys { files: ["/a", "/b"].map(PathBuf::from), public: public.map(str::to_owned) };
        let by_xdp =
            [(0, None), (1, None), (0, Some(1024))].map(|(end, ring)| configuration(end, &keys, 1, ring));
        for text in by_xdp.into_iter().chain([0, 1].map(|end| by_udp(end, &keys, 1))) {
            let parsed = zsync_pipelines::spec::parse(&text, "benchmark").unwrap();
            assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
        }
    }
}
