//! A wire with an end in the host: a TAP device that is patched to a cable.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use zsync_tests::{Control, Lab, Shape, in_lab, ping, wait_for};

const CONFIG: &str = "
[port.host]
device = \"tap\"
netdev = \"host0\"
addresses = [\"10.2.0.9/24\", \"fd02::9/64\"]

[port.lan]
netdev = \"eth2\"

[port.wan]
netdev = \"eth1\"

[pipeline.router]
input = [\"wan\"]
stages = [\"route\"]

[pipeline.wire]
input = [\"host\", \"lan\"]
stages = [\"patch.wire\"]

[patch.wire]
pairs = [[\"host\", \"lan\"]]
";

/// Bytes of a stream.
const STREAM: usize = 2_000_000;

/// One stream from the host to the server, and back.
fn streams(lab: &Lab, to: &str) -> Result<()> {
    let to: IpAddr = to.parse()?;
    let listener = lab.server.run(move || Ok(TcpListener::bind(SocketAddr::new(to, 0))?))?;
    let target = listener.local_addr()?;
    let sent: Vec<u8> = (0..STREAM as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| -> Result<()> {
            let (mut connection, _) = listener.accept()?;
            connection.set_read_timeout(Some(Duration::from_secs(20)))?;
            let mut bytes = vec![0; STREAM];
            connection.read_exact(&mut bytes)?;
            connection.write_all(&bytes)?;
            Ok(())
        });
        let mut connection =
            lab.router.run(|| Ok(TcpStream::connect_timeout(&target, Duration::from_secs(5))?))?;
        connection.set_read_timeout(Some(Duration::from_secs(20)))?;
        connection.write_all(&sent)?;
        let mut back = vec![0; STREAM];
        connection.read_exact(&mut back)?;
        ensure!(back == sent, "{to}: the bytes that came back are others");
        echo.join().map_err(|_| anyhow::anyhow!("the echo has panicked"))?
    })
}

/// What is shown of the TAP device.
fn host_row(control: &Control<'_>) -> Result<Value> {
    let ports = control.ctl(&["show", "ports"])?;
    let row = ports.as_array().into_iter().flatten().find(|row| row["name"] == "host");
    row.cloned().with_context(|| format!("{ports}"))
}

#[test]
fn the_host_is_a_station_at_its_end_of_a_wire() {
    in_lab(Shape::router(), |lab| {
        // The host has its own end instead of the cable's, and is the server's router.
        lab.router.ip("addr flush dev eth2")?;
        lab.server.ip("route replace default via 10.2.0.9")?;
        lab.server.ip("-6 route replace default via fd02::9")?;
        let mut control = Control::start(lab, CONFIG)?;
        // Who asks for whom is answered beyond the wire.
        let talk = || -> Result<()> {
            for target in ["10.2.0.2", "fd02::2"] {
                lab.router.ip("neigh flush all")?;
                let outcome = ping(&lab.router, target.parse()?, 5)?;
                ensure!(outcome.all(), "{target}: {outcome:?}");
            }
            for own in ["10.2.0.9", "fd02::9"] {
                let outcome = ping(&lab.server, own.parse()?, 5)?;
                ensure!(outcome.all(), "{own}: {outcome:?}");
            }
            // What is routed to a station beyond the wire goes by the host, which asks for it.
            for target in lab.server_addresses {
                let outcome = ping(&lab.client, target, 5)?;
                ensure!(outcome.all(), "{target}, routed: {outcome:?}");
            }
            Ok(())
        };
        talk()?;
        for target in ["10.2.0.2", "fd02::2"] {
            streams(lab, target)?;
        }
        let row = host_row(&control)?;
        let count = |name: &str| row[name].as_u64().unwrap_or(0);
        ensure!(row["mode"] == "tap" && row["offload"] == "tcp-udp", "{row}");
        ensure!(count("split") > 30 && count("merged") > 30 && row["drops"]["rx-refused"] == 0, "{row}");

        let old = control.kill9_dataplane()?;
        control.wait_successor(old)?;
        talk()?;
        control.kill9()?;
        talk()?;
        control.revive()?;
        control.wait_ready()?;
        talk()?;
        // Routed, the host is alone there and asks nobody; patched again, it asks.
        let flags = || lab.router.ip("-o link show dev host0");
        ensure!(!flags()?.contains("NOARP"), "{}", flags()?);
        let routed = CONFIG.replace("\"patch.wire\"]", "\"route\"]");
        control.apply(&routed.replace("[patch.wire]\npairs = [[\"host\", \"lan\"]]\n", ""), &[])?;
        ensure!(flags()?.contains("NOARP"), "{}", flags()?);
        // The FIB has it as a link without neighbours then: what is for hosts behind it is sent, and not punted.
        lab.router.ip("route add 10.77.0.0/24 dev host0")?;
        let sent = || Ok::<_, anyhow::Error>(host_row(&control)?["tx"]["packets"].as_u64().unwrap_or(0));
        wait_for("packets to a host behind the device", Duration::from_secs(5), || {
            let before = sent().ok()?;
            ping(&lab.client, [10, 77, 0, 1].into(), 2).ok()?;
            (sent().ok()? >= before + 2).then_some(())
        })?;
        control.apply(CONFIG, &[])?;
        let own = lab.router.ip("-6 addr show dev host0 scope link")?;
        ensure!(own.contains("fe80::"), "no address of the link: {own}");
        talk()?;
        control.balanced()?;
        control.stop()?;
        ensure!(lab.router.ip("link show host0").is_err(), "the device is left behind");
        Ok(())
    });
}
