//! WireGuard in a lab: zsync's section, and other programs at the other end, told what to do by `wg`.
//!
//! The client's network is behind zsync; the peer is in the server's namespace, its own network behind it. Keeps true: a
//! program that is not there is a test skipped, and in CI one failed.

use std::fmt::{Display, Formatter};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;
use serde_json::Value;

use crate::config::router;
use crate::lab::skip;
use crate::process::{Process, hurry};
use crate::{Control, Lab, Namespace, ping, wait_for};

pub mod caller;
pub mod stream;
pub mod watch;

/// Addresses inside of the tunnel, at the other end; the client is behind ours.
pub const INNER: [&str; 2] = ["10.8.0.2", "fd08::2"];
/// What is behind the other end.
pub const BEHIND: &str = "\"10.8.0.0/24\", \"fd08::/64\"";
/// What is behind ours, as `wg` has it.
pub const OURS: &str = "10.1.0.0/24,fd01::/64";
/// Our port, and the other end's.
pub const PORTS: [u16; 2] = [51820, 51821];

/// A key pair: the file with the private one, and the public one as text.
#[derive(Debug)]
pub struct Pair {
    /// The private key.
    pub file: PathBuf,
    /// The public key.
    pub public: String,
}

impl Pair {
    /// A new one, by `wg genkey`.
    ///
    /// # Errors
    /// When `wg` is not there.
    pub fn generate(folder: &Path, name: &str) -> Result<Self> {
        let file = folder.join(name);
        let script = "umask 077; wg genkey > \"$0\" && wg pubkey < \"$0\"";
        let output = Command::new("sh").args(["-c", script]).arg(&file).output()?;
        ensure!(output.status.success(), "wg genkey (package wireguard-tools): {output:?}");
        Ok(Self { file, public: String::from_utf8(output.stdout)?.trim().to_owned() })
    }

    /// The file's name, as text.
    ///
    /// # Errors
    /// It is no text.
    pub fn path(&self) -> Result<&str> {
        self.file.to_str().context("a path that is no text")
    }

    /// The private key, as text.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn private(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.file)?.trim().to_owned())
    }
}

/// Who else speaks WireGuard without a kernel's help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// wireguard-go.
    Go,
    /// boringtun-cli.
    Boringtun,
}

impl Program {
    /// Where it is: in the path, or where `cargo install` puts programs.
    fn path(self) -> Option<PathBuf> {
        let name = match self {
            Self::Go => "wireguard-go",
            Self::Boringtun => "boringtun-cli",
        };
        let var = |name| std::env::var_os(name).map(PathBuf::from);
        let cargo = var("CARGO_HOME").or_else(|| Some(var("HOME")?.join(".cargo")));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(cargo.map(|cargo| cargo.join("bin")));
        folders.map(|folder| folder.join(name)).find(|file| file.is_file())
    }

    /// Whether it is there; where it is not, the test says that it is skipped.
    ///
    /// # Panics
    /// In CI, where it must be there.
    #[must_use]
    pub fn is_there(self) -> bool {
        let there = self.path().is_some();
        if !there {
            skip(&format!("{self:?} is not installed (scripts/setup)"));
        }
        there
    }
}

/// Another program as the peer.
#[derive(Debug)]
pub struct Peer<'lab> {
    namespace: &'lab Namespace,
    device: String,
    process: Process,
    /// Who it is.
    pub keys: Pair,
}

impl<'lab> Peer<'lab> {
    /// In the server's namespace, with the addresses [`INNER`] and the second of [`PORTS`].
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(lab: &'lab Lab, program: Program) -> Result<Self> {
        Self::start_at(lab, &lab.server, program, "wg0", INNER, PORTS[1])
    }

    /// In `namespace`, as `device`, with the inner addresses `inner` and the UDP port `port`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_at(
        lab: &Lab,
        namespace: &'lab Namespace,
        program: Program,
        device: &str,
        inner: [&str; 2],
        port: u16,
    ) -> Result<Self> {
        let keys = Pair::generate(lab.folder(), &format!("{device}.key"))?;
        let mut command = Command::new(program.path().context("it is not installed (scripts/setup)")?);
        match program {
            Program::Go => command.args(["--foreground", device]).env("WG_PROCESS_FOREGROUND", "1"),
            Program::Boringtun => command.args(["--foreground", "--disable-drop-privileges", device]),
        };
        let process = Process::start(namespace, &mut command, &lab.folder().join(format!("{device}.log")))?;
        // The test's own threads hurry too, and what it waits for must not be its starving.
        hurry(process.pid());
        let peer = Self { namespace, device: device.to_owned(), process, keys };
        let show = format!("show {device}");
        wait_for("the peer's device", Duration::from_secs(10), || peer.wg(&show).ok())?;
        peer.set(&format!("listen-port {port} private-key {}", peer.keys.file.display()))?;
        namespace.ip(&format!("addr add {}/24 dev {device}", inner[0]))?;
        namespace.ip(&format!("addr add {}/64 dev {device} nodad", inner[1]))?;
        namespace.ip(&format!("link set {device} mtu 1420 up"))?;
        for route in OURS.split(',') {
            let family = if route.contains(':') { "-6 " } else { "" };
            namespace.ip(&format!("{family}route replace {route} dev {device}"))?;
        }
        Ok(peer)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// `wg WORDS`.
    ///
    /// # Errors
    /// What it said.
    pub fn wg(&self, words: &str) -> Result<String> {
        self.namespace.output(Command::new("wg").args(words.split_whitespace()))
    }

    /// `wg set` its device.
    ///
    /// # Errors
    /// What `wg` said.
    pub fn set(&self, words: &str) -> Result<()> {
        self.wg(&format!("set {} {words}", self.device)).map(drop)
    }

    /// `wg show` its device.
    ///
    /// # Errors
    /// What `wg` said.
    pub fn show(&self, what: &str) -> Result<String> {
        self.wg(&format!("show {} {what}", self.device))
    }

    /// It knows us by this key, and where we are if `endpoint` says so.
    ///
    /// # Errors
    /// What `wg` said.
    pub fn knows(&self, ours: &str, endpoint: Option<&str>, more: &str) -> Result<()> {
        let endpoint = endpoint.map(|at| format!("endpoint {at}")).unwrap_or_default();
        self.set(&format!("peer {ours} {endpoint} allowed-ips {OURS} {more}"))
    }

    /// Waits until it has had a handshake later than `before` (as [`Self::handshake`] says); when that was.
    ///
    /// # Errors
    /// There is none within `limit`.
    pub fn wait_handshake(&self, before: u64, limit: Duration) -> Result<u64> {
        wait_for("a handshake", limit, || self.handshake().ok().filter(|at| *at > before))
    }

    /// When its last handshake was, in seconds since 1970; 0: never. For who has one peer.
    ///
    /// # Errors
    /// What `wg` said.
    pub fn handshake(&self) -> Result<u64> {
        let text = self.show("latest-handshakes")?;
        let word = text.split_whitespace().nth(1).with_context(|| format!("{text:?}"))?;
        Ok(word.parse()?)
    }
}

/// Our section: who we are, more lines, and the peers.
#[must_use]
pub fn config_of(ours: &Pair, lines: &str, peers: &[String]) -> String {
    let stages = router("")
        .replace("[\"route.main\"]", "[\"wireguard-open.site\", \"wireguard-seal.site\", \"route.main\"]");
    assert!(stages.contains("wireguard-open"), "{stages}");
    let port =
        if lines.contains("listen-port") { String::new() } else { format!("listen-port = {}\n", PORTS[0]) };
    format!(
        "{stages}\n[wireguard.site]\nprivate-key-file = \"{}\"\n{port}{lines}\npeers = [{}]\n",
        ours.file.display(),
        peers.join(", "),
    )
}

/// A peer in our section; `allowed` and `more` as TOML has them.
#[must_use]
pub fn peer_of(theirs: &str, endpoint: Option<&str>, allowed: &str, more: &str) -> String {
    let endpoint = endpoint.map(|at| format!("endpoint = \"{at}\",")).unwrap_or_default();
    format!("{{ public-key = \"{theirs}\", {endpoint} allowed-ips = [{allowed}] {more} }}")
}

/// Our side with one peer: the client's network and the other end's, between them a tunnel.
#[must_use]
pub fn config(ours: &Pair, theirs: &Pair, endpoint: Option<&str>, more: &str) -> String {
    config_of(ours, "", &[peer_of(&theirs.public, endpoint, BEHIND, more)])
}

/// Where we say that the peer of that key is.
///
/// # Errors
/// Control does not answer, or knows no such peer.
pub fn endpoint_of(control: &Control<'_>, theirs: &str) -> Result<Option<SocketAddr>> {
    let peer = shown(control, theirs)?;
    Ok(peer["endpoint"].as_str().map(str::parse).transpose()?)
}

/// What `zsyncctl show wireguard` says of the peer of that key.
///
/// # Errors
/// Control does not answer, or knows no such peer.
pub fn shown(control: &Control<'_>, theirs: &str) -> Result<Value> {
    let answer = control.ctl(&["show", "wireguard"])?;
    let peers = answer["peers"].as_array().with_context(|| format!("{answer}"))?;
    let peer = peers.iter().find(|peer| peer["public-key"] == theirs);
    peer.cloned().with_context(|| format!("no peer {theirs} in {answer}"))
}

/// Echo requests of the client to the other end, in both families.
///
/// # Errors
/// One is not answered.
pub fn talk(lab: &Lab) -> Result<()> {
    for inner in INNER {
        let outcome = ping(&lab.client, inner.parse()?, 10)?;
        ensure!(outcome.all(), "{inner}: {outcome:?}");
    }
    Ok(())
}

/// An address and a port, as one writes them.
#[derive(Debug)]
pub struct At<'a>(pub &'a str, pub u16);

impl Display for At<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self.0.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, self.1).fmt(f),
            Err(_) => write!(f, "{}:{}", self.0, self.1),
        }
    }
}
