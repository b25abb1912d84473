//! The WireGuard gateway of the examples, and wireguard-go in its place: the client's network behind it, the server a peer.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::account::{Account, Outcome};
use super::load;
use crate::config::WIREGUARD;
use crate::iperf::Iperf;
use crate::process::Process;
use crate::{Control, Lab, Namespace, ping, wait_for};

/// The server's address in the tunnel, and its network.
const INNER: &str = "10.8.0.2";
const NETWORK: &str = "10.8.0.0/24";
/// Behind the gateway.
const BEHIND: &str = "10.1.0.0/24";
/// The gateway and the server, where they are for one another.
const OUTER: [&str; 2] = ["10.2.0.1", "10.2.0.2"];
const PORT: u16 = 51820;
/// The example's first peer, and where it is.
const EXAMPLE: [&str; 2] = ["xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "192.0.2.2:51820"];
/// Seconds of iperf3, and how long the full rate is kept up.
const SECONDS: &str = "1";
const FULL: Duration = Duration::from_secs(2);

/// A private key's file, and the public key.
struct Keys {
    file: PathBuf,
    public: String,
}

/// What went through a gateway.
struct Through {
    /// Bits a second of TCP.
    tcp: f64,
    /// Packets a second that it sealed.
    sealed: f64,
}

/// The rows: zsync as the gateway, and wireguard-go as the same gateway.
pub fn rows(lab: &Lab, account: &mut Account) {
    account.now("start zsync-control with pipelines/examples/wireguard-gateway.toml; the server is its peer, by wireguard-go");
    match compared(lab) {
        Ok([ours, theirs]) => {
            let mbit = |through: &Through| format!("{:.0} Mbit/s", through.tcp / 1e6);
            let rate = |through: &Through| format!("{:.0} k packets/s sealed", through.sealed / 1e3);
            for (what, text, held) in [
                ("WireGuard, TCP", &mbit as &dyn Fn(&Through) -> String, ours.tcp > 0.0),
                ("WireGuard, full rate", &rate, ours.sealed > theirs.sealed),
            ] {
                let result = format!("{}; wireguard-go in its place {}", text(&ours), text(&theirs));
                account.row(what, Ok(Outcome { result, held }));
            }
        }
        Err(error) => account.row("WireGuard", Err(error)),
    }
}

fn compared(lab: &Lab) -> Result<[Through; 2]> {
    let (ours, theirs) = (keys(lab, "gateway.key")?, keys(lab, "peer.key")?);
    let _peer = Device::start(lab, &lab.server, "wgfar", &theirs, &ours, OUTER[0], BEHIND)?;
    lab.server.ip(&format!("addr add {INNER}/24 dev wgfar"))?;
    lab.server.ip(&format!("route replace {BEHIND} dev wgfar"))?;
    let zsync = {
        // The lab's first device is the client's, and the peer is the server.
        let text = WIREGUARD
            .replace("netdev = \"eth2\"", "netdev = \"LAN\"")
            .replace("netdev = \"eth1\"", "netdev = \"eth2\"")
            .replace("netdev = \"LAN\"", "netdev = \"eth1\"")
            .replace(EXAMPLE[0], &theirs.public)
            .replace(EXAMPLE[1], &format!("{}:{PORT}", OUTER[1]))
            .replace("\"gateway.key\"", &format!("\"{}\"", ours.file.display()));
        let mut control = Control::start(lab, &text)?;
        let through = measure(lab, Some(&control))?;
        control.stop()?;
        through
    };
    // A veth without an XDP program takes the generator's frames only so (veth.c, veth_xdp_xmit), and zsync's is gone.
    for device in ["eth1", "eth2"] {
        lab.router.output(Command::new("ethtool").args(["-K", device, "gro", "on"]))?;
    }
    let _gateway = Device::start(lab, &lab.router, "wgnear", &ours, &theirs, OUTER[1], NETWORK)?;
    lab.router.ip(&format!("route replace {NETWORK} dev wgnear"))?;
    Ok([zsync, measure(lab, None)?])
}

/// What goes through the gateway that is up.
fn measure(lab: &Lab, zsync: Option<&Control<'_>>) -> Result<Through> {
    let inner: IpAddr = INNER.parse()?;
    wait_for("the tunnel", Duration::from_secs(10), || ping(&lab.client, inner, 1).ok().filter(|p| p.all()))?;
    let tcp = Iperf::serve(lab)?.run(inner, &["-t", SECONDS])?.bits_per_second;
    // Not on the worker's core: one of the first two is free.
    let worker = zsync.and_then(|control| control.ctl(&["show", "workers"]).ok()?[0]["core"].as_u64());
    let sealed = load::full_rate(lab, inner, u64::from(worker == Some(0)), FULL)?.received;
    Ok(Through { tcp, sealed })
}

/// wireguard-go's device in a namespace, which goes when this is dropped.
struct Device {
    _process: Process,
}

impl Device {
    fn start(
        lab: &Lab,
        namespace: &Namespace,
        name: &str,
        own: &Keys,
        peer: &Keys,
        at: &str,
        allowed: &str,
    ) -> Result<Self> {
        let mut command = Command::new("wireguard-go");
        command.args(["--foreground", name]).env("WG_PROCESS_FOREGROUND", "1");
        let process = Process::start(namespace, &mut command, &lab.folder().join(format!("{name}.log")))?;
        let wg = |words: &str| namespace.output(Command::new("wg").args(words.split_whitespace()));
        wait_for("wireguard-go's device", Duration::from_secs(10), || wg(&format!("show {name}")).ok())?;
        let own_key = own.file.display();
        wg(&format!(
            "set {name} listen-port {PORT} private-key {own_key} peer {} endpoint {at}:{PORT} allowed-ips {allowed}",
            peer.public
        ))?;
        namespace.ip(&format!("link set {name} mtu 1420 up"))?;
        Ok(Self { _process: process })
    }
}

fn keys(lab: &Lab, name: &str) -> Result<Keys> {
    let file = lab.folder().join(name);
    let _ = fs::remove_file(&file);
    let script = "umask 077; wg genkey > \"$0\" && wg pubkey < \"$0\"";
    let output = Command::new("sh").args(["-c", script]).arg(&file).output()?;
    ensure!(output.status.success(), "wg genkey (package wireguard-tools): {output:?}");
    Ok(Keys { file, public: String::from_utf8(output.stdout)?.trim().to_owned() })
}
