//! WireGuard on real traffic, wireguard-go at the other end.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use zsync_tests::config::router;
use zsync_tests::iperf::Iperf;
use zsync_tests::process::Process;
use zsync_tests::{Control, Lab, Shape, in_lab, ping, wait_for};

/// Addresses inside of the tunnel, at the other end; the client is behind ours.
const INNER: [&str; 2] = ["10.8.0.2", "fd08::2"];
/// Our port, and the other end's.
const PORTS: [u16; 2] = [51820, 51821];

/// A key pair: the file with the private one, and the public one as text.
struct Pair {
    file: PathBuf,
    public: String,
}

fn pair(folder: &Path, name: &str) -> Result<Pair> {
    let file = folder.join(name);
    let script = "umask 077; wg genkey > \"$0\" && wg pubkey < \"$0\"";
    let output =
        Command::new("sh").args(["-c", script]).arg(&file).output().context("package wireguard-tools")?;
    ensure!(output.status.success(), "wg genkey: {output:?}");
    Ok(Pair { file, public: String::from_utf8(output.stdout)?.trim().to_owned() })
}

/// wireguard-go in the server's namespace.
struct Peer<'lab> {
    lab: &'lab Lab,
    _process: Process,
    keys: Pair,
}

impl<'lab> Peer<'lab> {
    fn start(lab: &'lab Lab) -> Result<Self> {
        let keys = pair(lab.folder(), "peer.key")?;
        let mut command = Command::new("wireguard-go");
        command.args(["--foreground", "wg0"]).env("WG_PROCESS_FOREGROUND", "1");
        let process = Process::start(&lab.server, &mut command, &lab.folder().join("wireguard-go.log"))?;
        let peer = Self { lab, _process: process, keys };
        wait_for("wireguard-go's device", Duration::from_secs(10), || peer.wg("show wg0").ok())?;
        peer.wg(&format!("set wg0 listen-port {} private-key {}", PORTS[1], peer.keys.file.display()))?;
        lab.server.ip(&format!("addr add {}/24 dev wg0", INNER[0]))?;
        lab.server.ip(&format!("addr add {}/64 dev wg0 nodad", INNER[1]))?;
        lab.server.ip("link set wg0 mtu 1420 up")?;
        for route in ["10.1.0.0/24", "fd01::/64"] {
            let family = if route.contains(':') { "-6 " } else { "" };
            lab.server.ip(&format!("{family}route replace {route} dev wg0"))?;
        }
        Ok(peer)
    }

    fn wg(&self, words: &str) -> Result<String> {
        self.lab.server.output(Command::new("wg").args(words.split_whitespace()))
    }

    /// It knows us by this key, and where we are if `endpoint` says so.
    fn knows(&self, ours: &str, endpoint: Option<&str>, more: &str) -> Result<()> {
        let endpoint = endpoint.map(|at| format!("endpoint {at}")).unwrap_or_default();
        self.wg(&format!("set wg0 peer {ours} {endpoint} allowed-ips 10.1.0.0/24,fd01::/64 {more}")).map(drop)
    }
}

/// Our side: the client's network and the other end's, between them a tunnel.
fn config(ours: &Pair, theirs: &Pair, endpoint: Option<&str>, more: &str) -> String {
    let endpoint = endpoint.map(|at| format!("endpoint = \"{at}\",")).unwrap_or_default();
    let stages = router("")
        .replace("[\"route.main\"]", "[\"wireguard-open.site\", \"wireguard-seal.site\", \"route.main\"]");
    assert!(stages.contains("wireguard-open"), "{stages}");
    format!(
        "{stages}\n[wireguard.site]\nprivate-key-file = \"{}\"\nlisten-port = {}\npeers = [{{ public-key = \"{}\", {endpoint} \
         allowed-ips = [\"10.8.0.0/24\", \"fd08::/64\"] {more} }}]\n",
        ours.file.display(),
        PORTS[0],
        theirs.public
    )
}

fn talk(lab: &Lab) -> Result<()> {
    for inner in INNER {
        let outcome = ping(&lab.client, inner.parse()?, 10)?;
        ensure!(outcome.all(), "{inner}: {outcome:?}");
    }
    Ok(())
}

fn both_ways(ours: &str, theirs: &str) {
    in_lab(Shape::router(), |lab| {
        let keys = pair(lab.folder(), "ours.key")?;
        let peer = Peer::start(lab)?;
        peer.knows(&keys.public, None, "")?;
        let endpoint = SocketText(theirs, PORTS[1]).to_string();
        let control = Control::start(lab, &config(&keys, &peer.keys, Some(&endpoint), ""))?;
        talk(lab)?;
        let handshakes = peer.wg("show wg0 latest-handshakes")?;
        ensure!(!handshakes.trim().ends_with("\t0"), "{handshakes}");
        let endpoints = peer.wg("show wg0 endpoints")?;
        ensure!(endpoints.contains(ours), "{endpoints}");
        let iperf = Iperf::serve(lab)?;
        for inner in INNER {
            for direction in [&[][..], &["-R"]] {
                let tcp = iperf.run(inner.parse()?, &[&["-t", "1"], direction].concat())?;
                println!("{inner} {direction:?}: {tcp:?}");
                ensure!(tcp.bits_per_second > 20e6, "{tcp:?}");
            }
        }
        control.balanced()?;
        Ok(())
    });
}

/// An address and a port, as one writes them.
struct SocketText<'a>(&'a str, u16);

impl std::fmt::Display for SocketText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.contains(':') {
            write!(f, "[{}]:{}", self.0, self.1)
        } else {
            write!(f, "{}:{}", self.0, self.1)
        }
    }
}

#[test]
fn wireguard_go_is_reached_over_ipv4() {
    both_ways("10.2.0.1", "10.2.0.2");
}

#[test]
fn wireguard_go_is_reached_over_ipv6() {
    both_ways("fd02::1", "fd02::2");
}

#[test]
fn wireguard_go_begins_and_has_a_preshared_key() {
    in_lab(Shape::router(), |lab| {
        let keys = pair(lab.folder(), "ours.key")?;
        let preshared = pair(lab.folder(), "shared.key")?.file.display().to_string();
        let peer = Peer::start(lab)?;
        let with = format!("preshared-key {preshared}");
        peer.knows(&keys.public, Some("10.2.0.1:51820"), &with)?;
        let more = format!(", preshared-key-file = \"{preshared}\"");
        let control = Control::start(lab, &config(&keys, &peer.keys, None, &more))?;
        // Nobody knows where the peer is until it has said something.
        let outcome = ping(&lab.server, "10.1.0.2".parse()?, 10)?;
        ensure!(outcome.all(), "{outcome:?}");
        talk(lab)?;
        // With another preshared key nothing goes.
        let other = pair(lab.folder(), "other.key")?.file.display().to_string();
        peer.wg(&format!("set wg0 peer {} remove", keys.public))?;
        peer.knows(&keys.public, Some("10.2.0.1:51820"), &format!("preshared-key {other}"))?;
        let outcome = ping(&lab.server, "10.1.0.2".parse()?, 3)?;
        ensure!(outcome.received == 0, "{outcome:?}");
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn a_session_lives_on_when_the_data_plane_dies_and_when_it_is_reconfigured() {
    in_lab(Shape::router(), |lab| {
        let keys = pair(lab.folder(), "ours.key")?;
        let peer = Peer::start(lab)?;
        peer.knows(&keys.public, None, "")?;
        let text = config(&keys, &peer.keys, Some("10.2.0.2:51821"), "");
        let mut control = Control::start(lab, &text)?;
        talk(lab)?;
        let first = peer.wg("show wg0 latest-handshakes")?;
        for _ in 0..3 {
            let old = control.kill9_dataplane()?;
            control.wait_successor(old)?;
            talk(lab)?;
        }
        control.apply(&text.replace("peers = [", "mtu = 1400\npeers = ["), &[])?;
        talk(lab)?;
        control.kill9()?;
        talk(lab)?;
        control.revive()?;
        control.wait_ready()?;
        talk(lab)?;
        ensure!(peer.wg("show wg0 latest-handshakes")? == first, "there was another handshake");
        control.balanced()?;
        Ok(())
    });
}
