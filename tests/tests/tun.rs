//! A port that is a TUN device, or a TAP device that is routed: the host's own packets, between it and hosts behind the other ports.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;
use zsync_tests::config::router;
use zsync_tests::wireguard::{BEHIND, Pair, config_of, peer_of};
use zsync_tests::{Control, Lab, Shape, by_own_device, in_lab, ping, wait_for};

/// Addresses that the host has on the device.
const OWN: [&str; 2] = ["10.9.0.1", "fd09::1"];
/// Bytes of a stream.
const STREAM: usize = 3_000_000;

by_own_device!(
    the_host_talks_by_a_device_of_ours_and_its_routes_outlive_everything,
    packets_that_stand_for_several_come_and_go_by_a_device,
    a_packet_is_not_sent_back_into_the_device_that_it_came_from,
    two_workers_share_a_device_by_a_queue_each,
);

/// A router with a third port, which is a device of the host's own, of this kind.
fn config(kind: &str, device: &str) -> String {
    config_with(kind, device, "")
}

/// With these lines for each port.
fn config_with(kind: &str, device: &str, lines: &str) -> String {
    // Tracked, for else XDP leaves to the kernel at once what is for its own addresses.
    let text = router(lines)
        .replace("input = [\"wan\", \"lan\"]", "input = [\"wan\", \"lan\", \"host\"]")
        .replace("[\"route.main\"]", "[\"track\", \"route.main\"]");
    format!(
        "{text}\n[port.host]\ndevice = \"{kind}\"\nnetdev = \"{device}\"\naddresses = [\"{}/24\", \"{}/64\"]\n{lines}\n",
        OWN[0], OWN[1]
    )
}

/// What the host sends itself to the client and the server leaves by the device.
fn by_device(lab: &Lab, device: &str) -> Result<()> {
    for (family, networks, source) in
        [("", ["10.1.0.0/24", "10.2.0.0/24"], OWN[0]), ("-6 ", ["fd01::/64", "fd02::/64"], OWN[1])]
    {
        for network in networks {
            let route = format!("{family}route replace {network} dev {device} src {source} table 100");
            lab.router.ip(&route).with_context(|| route.clone())?;
        }
        lab.router.ip(&format!("{family}rule add iif lo lookup 100 pref 10"))?;
    }
    Ok(())
}

/// The client and the server reach the addresses of the device by us.
fn by_us(lab: &Lab) -> Result<()> {
    for (from, gateway) in [(&lab.client, ["10.1.0.1", "fd01::1"]), (&lab.server, ["10.2.0.1", "fd02::1"])] {
        from.ip(&format!("route replace 10.9.0.0/24 via {}", gateway[0]))?;
        from.ip(&format!("-6 route replace fd09::/64 via {}", gateway[1]))?;
    }
    Ok(())
}

/// Bytes that anybody can tell from others.
fn stream() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(STREAM).collect()
}

/// One stream from the client to the host, and back; what comes is what was sent.
fn streams(lab: &Lab, from: IpAddr, to: IpAddr) -> Result<()> {
    let listener = lab.router.run(move || Ok(TcpListener::bind(SocketAddr::new(to, 0))?))?;
    let target = listener.local_addr()?;
    let echo = std::thread::spawn(move || -> Result<()> {
        let (mut connection, _) = listener.accept()?;
        connection.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut bytes = vec![0; STREAM];
        connection.read_exact(&mut bytes)?;
        connection.write_all(&bytes)?;
        Ok(())
    });
    let mut connection = lab.client.connect(from, target)?;
    connection.set_read_timeout(Some(Duration::from_secs(20)))?;
    connection.write_all(&stream())?;
    let mut back = vec![0; STREAM];
    connection.read_exact(&mut back)?;
    ensure!(back == stream(), "{from} to {to}: the bytes that came back are others");
    echo.join().map_err(|_| anyhow::anyhow!("the echo has panicked"))?
}

fn the_host_talks_by_a_device_of_ours_and_its_routes_outlive_everything(kind: &str) {
    in_lab(Shape::router(), |lab| {
        by_us(lab)?;
        let text = config(kind, "host0");
        let mut control = Control::start(lab, &text)?;
        by_device(lab, "host0")?;
        let talk = || -> Result<()> {
            for own in OWN {
                let outcome = ping(&lab.client, own.parse()?, 5)?;
                ensure!(outcome.all(), "{own}: {outcome:?}");
            }
            for target in ["10.1.0.2", "10.2.0.2", "fd01::2", "fd02::2"] {
                let outcome = ping(&lab.router, target.parse()?, 5)?;
                ensure!(outcome.all(), "{target}: {outcome:?}");
            }
            Ok(())
        };
        talk()?;
        for (from, own) in lab.client_addresses.into_iter().zip(OWN) {
            streams(lab, from, own.parse()?)?;
        }
        let of_port = |control: &Control<'_>| -> Result<[u64; 2]> {
            let port = device_row(control)?;
            ensure!(port["mode"] == kind && port["kind"] == kind && port["xdp"] == "none", "{port}");
            Ok(["rx", "tx"].map(|way| port[way]["packets"].as_u64().unwrap_or(0)))
        };
        let [rx, tx] = of_port(&control)?;
        ensure!(rx > 1000 && tx > 1000, "{rx} came and {tx} went by the device");
        control.balanced()?;

        // A data plane that dies, a control process that does, sockets that are opened anew: the device and its routes stay.
        let old = control.kill9_dataplane()?;
        control.wait_successor(old)?;
        talk()?;
        control.kill9()?;
        talk()?;
        control.revive()?;
        control.wait_ready()?;
        talk()?;
        let smaller = text.replace("netdev = \"eth1\"\n", "netdev = \"eth1\"\nring-size = 1024\n");
        ensure!(smaller != text, "{text}");
        control.apply(&smaller, &[])?;
        talk()?;
        // An address that is taken away is gone, and another one is there.
        control.apply(&smaller.replace("10.9.0.1/24", "10.9.0.7/24"), &[])?;
        let outcome = ping(&lab.client, "10.9.0.7".parse()?, 5)?;
        ensure!(outcome.all(), "{outcome:?}");
        ensure!(ping(&lab.client, OWN[0].parse()?, 2)?.received == 0, "the old address answers");
        control.balanced()?;
        control.stop()?;
        ensure!(lab.router.ip("link show host0").is_err(), "the device is left behind");
        Ok(())
    });
}

/// Datagrams of one length from the client to the host, a few at a time: each comes as it was sent, in order.
fn datagrams(lab: &Lab, to: IpAddr) -> Result<()> {
    let socket = lab.router.run(move || Ok(UdpSocket::bind(SocketAddr::new(to, 0))?))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let target = socket.local_addr()?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let sender = lab.client.run(move || Ok(UdpSocket::bind(any)?))?;
    for round in 0..50_u8 {
        let sent: Vec<_> = (0..32_u8).map(|n| [[round, n]; 500].concat()).collect();
        for datagram in &sent {
            sender.send_to(datagram, target)?;
        }
        for datagram in &sent {
            let mut bytes = [0; 2000];
            let len = socket.recv(&mut bytes).with_context(|| format!("{to}, round {round}"))?;
            ensure!(bytes[..len] == datagram[..], "{to}, round {round}: another datagram came");
        }
    }
    Ok(())
}

/// What `show ports` says of the device.
fn device_row(control: &Control<'_>) -> Result<Value> {
    let ports = control.ctl(&["show", "ports"])?;
    let rows = ports["ports"].as_array().or(ports.as_array()).context("no ports are shown")?;
    rows.iter().find(|row| row["name"] == "host").cloned().with_context(|| format!("{ports}"))
}

fn packets_that_stand_for_several_come_and_go_by_a_device(kind: &str) {
    in_lab(Shape::router(), |lab| {
        by_us(lab)?;
        let mut control = Control::start(lab, &config(kind, "host0"))?;
        by_device(lab, "host0")?;
        let mut before = [0; 2];
        let mut check = |control: &Control<'_>| -> Result<()> {
            for (from, own) in lab.client_addresses.into_iter().zip(OWN) {
                streams(lab, from, own.parse()?)?;
                datagrams(lab, own.parse()?)?;
                let row = device_row(control)?;
                let now = ["split", "merged"].map(|count| row[count].as_u64().unwrap_or(0));
                // Twice 3 MB, in packets that would be 4,000: the kernel cuts none of what it sends, and takes what comes in few.
                ensure!(row["offload"] == "tcp-udp" && row["drops"]["rx-refused"] == 0, "{row}");
                ensure!(
                    now[0] > before[0] + 30 && now[1] > before[1] + 30,
                    "{own}: {before:?}, then {now:?}: {row}"
                );
                before = now;
            }
            Ok(())
        };
        check(&control)?;
        // The form of the device is known to who comes after a crash of either process.
        let old = control.kill9_dataplane()?;
        control.wait_successor(old)?;
        check(&control)?;
        control.kill9()?;
        control.revive()?;
        control.wait_ready()?;
        check(&control)?;
        control.balanced()?;
        Ok(())
    });
}

fn a_packet_is_not_sent_back_into_the_device_that_it_came_from(kind: &str) {
    in_lab(Shape::router(), |lab| {
        let control = Control::start(lab, &config(kind, "host0"))?;
        // Both the host and we send there by the device.
        lab.router.ip("route add 10.77.0.0/24 dev host0")?;
        let outcome = ping(&lab.router, "10.77.0.1".parse()?, 3)?;
        let counters = control.ctl(&["show", "counters"])?;
        ensure!(outcome.received == 0 && outcome.text.contains("Unreachable"), "{outcome:?}: {counters}");
        control.balanced()?;
        Ok(())
    });
}

/// A stream from each of these to the host, all at a time.
fn streams_of(lab: &Lab, clients: &[IpAddr]) -> Result<()> {
    std::thread::scope(|scope| {
        let start =
            |from: IpAddr| scope.spawn(move || streams(lab, from, OWN[usize::from(from.is_ipv6())].parse()?));
        let running: Vec<_> = clients.iter().copied().map(start).collect();
        let mut ends = running.into_iter().map(|one| one.join());
        ends.try_for_each(|end| end.map_err(|_| anyhow::anyhow!("a stream has panicked"))?)
    })
}

fn two_workers_share_a_device_by_a_queue_each(kind: &str) {
    in_lab(Shape::router().queues(2), |lab| {
        by_us(lab)?;
        let one = config(kind, "host0");
        let two = format!("[engine]\nworkers = 2\n{}", config_with(kind, "host0", "queues = 2"));
        let mut control = Control::start(lab, &two)?;
        by_device(lab, "host0")?;
        // A pair of addresses has one owner among the workers, who writes to the device by its queue.
        let clients = lab.more_clients(8)?;
        let talk = || streams_of(lab, &clients);
        talk()?;
        let workers = control.ctl(&["show", "workers"])?;
        let rows = workers.as_array().context("no workers are shown")?;
        let busy =
            |row: &Value| ["rx", "tx"].iter().all(|way| row[way].as_u64().is_some_and(|count| count > 100));
        ensure!(rows.len() == 2 && rows.iter().all(busy), "{workers}");
        let old = control.kill9_dataplane()?;
        control.wait_successor(old)?;
        talk()?;
        control.kill9()?;
        control.revive()?;
        control.wait_ready()?;
        talk()?;
        control.balanced()?;
        // A queue less, and one more: the device is the same.
        for text in [&one, &two] {
            control.apply(text, &[])?;
            talk()?;
        }
        control.balanced()?;
        Ok(())
    });
}

#[test]
fn who_cannot_be_reached_through_a_tunnel_is_said_to_the_host() {
    in_lab(Shape::router(), |lab| {
        let keys = Pair::generate(lab.folder(), "ours.key")?;
        // Of whom nobody knows where it is.
        let peer = peer_of("TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=", None, BEHIND, "");
        let text = config_of(&keys, "", &[peer])
            .replace("input = [\"wan\", \"lan\"]", "input = [\"wan\", \"lan\", \"host\"]");
        let device = "[port.host]\ndevice = \"tun\"\nnetdev = \"wg0\"\n";
        let addresses = format!("addresses = [\"{}/24\", \"{}/64\"]\n", OWN[0], OWN[1]);
        let control = Control::start(lab, &format!("{text}\n{device}{addresses}"))?;
        for route in ["10.8.0.0/24", "10.77.0.0/24", "fd08::/64", "fd77::/64"] {
            let family = if route.contains(':') { "-6 " } else { "" };
            lab.router.ip(&format!("{family}route replace {route} dev wg0"))?;
        }
        // A peer that is nowhere, and addresses that are no peer's.
        for (target, word) in [
            ("10.8.0.2", "Destination Host Unreachable"),
            ("10.77.0.1", "Destination Host Unreachable"),
            ("fd08::2", "Address unreachable"),
            ("fd77::1", "Address unreachable"),
        ] {
            let target: IpAddr = target.parse()?;
            let mut last = None;
            let told = wait_for("the sender to be told", Duration::from_secs(10), || {
                let outcome = ping(&lab.router, target, 2).ok()?;
                let is_told = outcome.received == 0 && outcome.text.contains(word);
                last = Some(outcome);
                is_told.then_some(())
            });
            told.with_context(|| format!("{target}: {last:?}"))?;
        }
        let shown = control.ctl(&["show", "wireguard"])?;
        ensure!(shown["ends"][0]["counts"]["no-endpoint"].as_u64() >= Some(4), "{shown}");
        control.balanced()?;
        Ok(())
    });
}
