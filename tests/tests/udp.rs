//! A port that is a UDP socket: a WireGuard gateway whose outer side is one, and whose inner side is a device of the host's own. By
//! system calls, and by io_uring.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use zsync_tests::binary::binary;
use zsync_tests::process::Process;
use zsync_tests::wireguard::stream::{datagrams, tcp};
use zsync_tests::wireguard::{
    At, BEHIND, INNER, OURS, PORTS, Pair, Peer, Program, endpoint_of, peer_of, talk,
};
use zsync_tests::{Control, Lab, Namespace, Shape, in_lab, wait_for};

/// Inside, at our end.
const CLIENT: [&str; 2] = ["10.1.0.2", "fd01::2"];

/// A gateway by the socket `listen`, between its peers and the device `device` of its host, whose kernel has what is for the peers go
/// by that, and gets by it what comes from them (table 100).
fn gateway(listen: &str, device: &str, keys: &Pair, lines: &str, peer: &str) -> String {
    let port = listen.rsplit(':').next().unwrap_or_default();
    format!(
        "[port.outer]\ndevice = \"udp\"\nlisten = \"{listen}\"\n{lines}\n\n[port.host]\ndevice = \"tun\"\nnetdev = \"{device}\"\n\n\
         [pipeline.in]\ninput = [\"outer\"]\nstages = [\"wireguard-open.site\", \"route.inside\"]\n\n\
         [pipeline.out]\ninput = [\"host\"]\nstages = [\"wireguard-seal.site\", \"drop\"]\n\n[route.inside]\ntable = 100\n\n\
         [wireguard.site]\nprivate-key-file = \"{}\"\nlisten-port = {port}\nto = {{ port = \"outer\" }}\npeers = [{peer}]\n",
        keys.file.display()
    )
}

/// What is for `networks` goes into the device, and so does what comes out of the tunnel.
fn by_device(host: &Namespace, device: &str, networks: &str) -> Result<()> {
    wait_for("the device", Duration::from_secs(20), || host.ip(&format!("link show {device} up")).ok())?;
    for network in networks.split(',') {
        let family = if network.contains(':') { "-6 " } else { "" };
        host.ip(&format!("{family}route replace {network} dev {device}"))?;
    }
    host.ip(&format!("route replace default dev {device} table 100"))?;
    host.ip(&format!("-6 route replace default dev {device} table 100"))?;
    Ok(())
}

const NETWORKS: &str = "10.8.0.0/24,fd08::/64";

fn at(address: &str, port: u16) -> Result<SocketAddr> {
    Ok(SocketAddr::new(address.parse()?, port))
}

/// Known bytes both ways, in both families.
fn compare(lab: &Lab, seed: u64) -> Result<()> {
    for (inner, client) in INNER.into_iter().zip(CLIENT) {
        for (from, to, address) in [(&lab.client, &lab.server, inner), (&lab.server, &lab.client, client)] {
            let say = || format!("to {address}");
            tcp(from, to, at(address, 7000)?, 4 << 20, seed).with_context(say)?;
            datagrams(from, to, at(address, 7000)?, (0..1372).step_by(9), seed).with_context(say)?;
        }
    }
    Ok(())
}

/// Packets of a port, both ways, and what its sockets are called.
fn of_port(control: &Control<'_>, name: &str) -> Result<([u64; 2], String)> {
    let ports = control.ctl(&["show", "ports"])?;
    let rows = ports["ports"].as_array().or(ports.as_array()).with_context(|| format!("{ports}"))?;
    let port = rows.iter().find(|row| row["name"] == name).with_context(|| format!("{ports}"))?;
    let packets = ["rx", "tx"].map(|way| port[way]["packets"].as_u64().unwrap_or(0));
    Ok((packets, port["mode"].as_str().unwrap_or_default().to_owned()))
}

/// The way that the socket goes: what the configuration says of it, and what `show ports` says.
#[derive(Clone, Copy)]
struct Way {
    asked: &'static str,
    said: &'static str,
}

const CALLS: Way = Way { asked: "io-uring = false", said: "udp" };
const RING: Way = Way { asked: "io-uring = true", said: "udp-ring" };

fn with_wireguard_go(way: Way, shape: Shape, listen: &str, [ours, theirs]: [&str; 2]) {
    if !Program::Go.is_there() {
        return;
    }
    in_lab(shape, |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let peer = Peer::start(lab, Program::Go)?;
        let (here, there) = (At(ours, PORTS[0]).to_string(), At(theirs, PORTS[1]).to_string());
        peer.knows(&keys.public, Some(&here), "")?;
        let theirs = peer_of(&peer.keys.public, Some(&there), BEHIND, "");
        let control = Control::start(lab, &gateway(listen, "wg0", &keys, way.asked, &theirs))?;
        by_device(&lab.router, "wg0", NETWORKS)?;
        talk(lab)?;
        compare(lab, 5)?;
        // It hears us from the address that it sends to, and we say where it is.
        ensure!(peer.show("endpoints")?.contains(ours), "{}", peer.show("endpoints")?);
        ensure!(endpoint_of(&control, &peer.keys.public)? == Some(there.parse()?), "the peer is elsewhere");
        let ([rx, tx], mode) = of_port(&control, "outer")?;
        ensure!(rx > 3000 && tx > 3000 && mode == way.said, "{rx} came and {tx} went by the {mode} port");
        let books = control.balanced()?;
        for reason in ["wireguard-forged", "device-refused", "tx-ring-full"] {
            ensure!(books.counts.dropped(reason) == 0, "{reason}: {books:?}");
        }
        Ok(())
    });
}

#[test]
fn wireguard_go_hears_a_socket_of_both_families_over_ipv4() {
    with_wireguard_go(CALLS, Shape::router(), "[::]:51820", ["10.2.0.1", "10.2.0.2"]);
}

#[test]
fn wireguard_go_hears_a_ring_of_both_families_over_ipv4() {
    with_wireguard_go(RING, Shape::router(), "[::]:51820", ["10.2.0.1", "10.2.0.2"]);
}

#[test]
fn wireguard_go_hears_a_ring_of_both_families_over_ipv6() {
    with_wireguard_go(RING, Shape::router(), "[::]:51820", ["fd02::1", "fd02::2"]);
}

#[test]
fn wireguard_go_hears_a_socket_of_both_families_over_ipv6() {
    with_wireguard_go(CALLS, Shape::router(), "[::]:51820", ["fd02::1", "fd02::2"]);
}

#[test]
fn wireguard_go_hears_a_socket_of_one_address() {
    with_wireguard_go(RING, Shape::router(), "10.2.0.1:51820", ["10.2.0.1", "10.2.0.2"]);
}

/// The longest messages take 1480 and 1500 bytes: the kernels at both ends cut them, and put them together.
#[test]
fn messages_that_come_in_pieces_are_opened() {
    with_wireguard_go(CALLS, Shape::router().server_mtu(1300), "[::]:51820", ["10.2.0.1", "10.2.0.2"]);
    with_wireguard_go(RING, Shape::router().server_mtu(1300), "[::]:51820", ["fd02::1", "fd02::2"]);
}

/// Another zsync, in the server's namespace.
struct Other(#[allow(dead_code, reason = "it ends when this is dropped")] Process);

impl Other {
    fn start(lab: &Lab, config: &str) -> Result<Self> {
        let folder: PathBuf = lab.folder().join("other");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("zsync.toml");
        std::fs::write(&file, config)?;
        let mut command = Command::new(binary("zsync-control")?);
        let mut option = |name: &str, path: &Path| _ = command.arg(name).arg(path);
        option("--config", &file);
        option("--run-dir", &folder.join("run"));
        option("--wireguard-dir", &folder.join("wireguard"));
        option("--state-dir", &folder.join("state"));
        option("--bpffs", &folder.join("bpffs"));
        option("--dataplane", &binary("zsync-dataplane")?);
        Ok(Self(Process::start(&lab.server, &mut command, &lab.folder().join("other.log"))?))
    }
}

#[test]
fn two_gateways_of_ours_and_every_crash_under_traffic() {
    two_gateways(CALLS);
}

#[test]
fn two_gateways_by_rings_and_every_crash_under_traffic() {
    two_gateways(RING);
}

fn two_gateways(way: Way) {
    in_lab(Shape::router(), |lab| {
        let (keys, theirs) =
            (Pair::generate(lab.folder(), "ours.key")?, Pair::generate(lab.folder(), "theirs.key")?);
        // Several workers, each with a socket of its own at the same address.
        let peer = peer_of(&theirs.public, Some("[fd02::2]:51821"), BEHIND, "");
        let lines = format!("queues = 2\n{}", way.asked);
        let text = format!("[engine]\nworkers = 2\n{}", gateway("[::]:51820", "wg0", &keys, &lines, &peer));
        let behind = OURS.split(',').map(|network| format!("\"{network}\"")).collect::<Vec<_>>().join(", ");
        let other =
            gateway("[::]:51821", "wg1", &theirs, way.asked, &peer_of(&keys.public, None, &behind, ""));
        let mut control = Control::start(lab, &text)?;
        let _other = Other::start(lab, &other)?;
        by_device(&lab.router, "wg0", NETWORKS)?;
        by_device(&lab.server, "wg1", OURS)?;
        for (family, inner) in [("24", INNER[0]), ("64 nodad", INNER[1])] {
            let (length, more) = family.split_once(' ').unwrap_or((family, ""));
            lab.server.ip(&format!("addr add {inner}/{length} dev wg1 {more}"))?;
        }
        talk(lab)?;
        compare(lab, 3)?;
        let ([rx, tx], mode) = of_port(&control, "outer")?;
        ensure!(rx > 3000 && tx > 3000 && mode == way.said, "{rx} came and {tx} went by the {mode} socket");

        // Streams both ways go on through the deaths of the data plane, of control, and of the socket's neighbours.
        thread::scope(|scope| -> Result<()> {
            let streams = scope.spawn(|| -> Result<()> {
                (0..6).try_for_each(|n| {
                    tcp(&lab.client, &lab.server, at(INNER[n % 2], 7100)?, 24 << 20, n as u64)
                })
            });
            for _ in 0..3 {
                thread::sleep(Duration::from_millis(300));
                let old = control.kill9_dataplane()?;
                control.wait_successor(old)?;
            }
            control.kill9()?;
            thread::sleep(Duration::from_millis(300));
            control.revive()?;
            control.wait_ready()?;
            streams.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        control.balanced()?;
        // The next control process is told which way the data plane goes.
        ensure!(of_port(&control, "outer")?.1 == way.said, "{:?}", of_port(&control, "outer")?);

        // Another number of queues opens the sockets anew, and so does another address; each is the way at once.
        for text in [
            text.replace("queues = 2", "queues = 1"),
            text.replace("listen = \"[::]:51820\"\nqueues = 2", "listen = \"[fd02::1]:51820\""),
        ] {
            control.apply(&text, &[])?;
            control.wait_ready()?;
            talk(lab)?;
        }
        // Another way takes the socket along.
        let other = if way.said == RING.said { CALLS } else { RING };
        control.apply(&text.replace(way.asked, other.asked), &[])?;
        control.wait_ready()?;
        talk(lab)?;
        ensure!(of_port(&control, "outer")?.1 == other.said, "{:?}", of_port(&control, "outer")?);
        control.balanced()?;
        control.stop()?;
        ensure!(
            lab.router.output(Command::new("ss").args(["-Huln", "sport", "=", ":51820"]))?.trim().is_empty(),
            "a socket is left"
        );
        Ok(())
    });
}

#[test]
fn an_address_that_is_taken_is_said() {
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        let peer = peer_of("TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=", None, BEHIND, "");
        let _taken = lab.router.run(|| Ok(std::net::UdpSocket::bind("[::]:51820")?))?;
        for (listen, word) in [("[::]:51820", "ss -ulpn"), ("192.0.2.1:51820", "no address of this host")] {
            let text = gateway(listen, "wg0", &keys, "", &peer);
            let refusal = Control::refused(lab, &text, &[])?;
            ensure!(refusal.said.contains("port outer") && refusal.said.contains(word), "{}", refusal.said);
        }
        // Who runs is left alone for it: neither stopped nor opened anew.
        let control = Control::start(lab, &gateway("[::]:51821", "wg0", &keys, RING.asked, &peer))?;
        let before = control.dataplane()?;
        let Err(refused) = control.apply(&gateway("[::]:51820", "wg0", &keys, RING.asked, &peer), &[]) else {
            bail!("an address that is taken was put in force");
        };
        let said = format!("{refused:#}");
        ensure!(said.contains("port outer") && said.contains("ss -ulpn"), "{said}");
        ensure!(
            control.dataplane()? == before && of_port(&control, "outer")?.1 == RING.said,
            "it was started anew"
        );
        Ok(())
    });
}
