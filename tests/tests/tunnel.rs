//! Tunnels on real traffic, the kernel at the other end.

use anyhow::{Result, ensure};
use zsync_tests::iperf::Iperf;
use zsync_tests::{Control, Lab, Shape, in_lab, ping};

/// The example, as it is shipped.
const GATEWAY: &str = include_str!("../../pipelines/examples/vxlan-gateway.toml");

/// The inner addresses: the client is on the port, the server in the kernel's tunnel.
const CLIENT: [&str; 2] = ["10.9.0.1", "fd09::1"];
const SERVER: [&str; 2] = ["10.9.0.2", "fd09::2"];

/// The example for the lab: frames of the client's cable go through the router to the server, which has the kernel's VXLAN.
fn gateway(lab: &Lab, ends: [&str; 2]) -> Result<String> {
    let family = if ends[0].contains(':') { "-6 " } else { "" };
    lab.server.ip(&format!(
        "{family}link add vx0 type vxlan id 100 local {} remote {} dstport 4789",
        ends[1], ends[0]
    ))?;
    for (host, device, addresses) in [(&lab.client, "eth0", CLIENT), (&lab.server, "vx0", SERVER)] {
        host.ip(&format!("link set {device} mtu 1430 up"))?;
        host.ip(&format!("addr add {}/24 dev {device}", addresses[0]))?;
        host.ip(&format!("addr add {}/64 dev {device} nodad", addresses[1]))?;
    }
    Ok(GATEWAY
        .replace("\"eth2\"", "\"swap\"")
        .replace("\"eth1\"", "\"eth2\"")
        .replace("\"swap\"", "\"eth1\"")
        .replace("192.0.2.1", ends[0])
        .replace("192.0.2.2", ends[1]))
}

fn hosts_talk_through(ends: [&str; 2]) {
    in_lab(Shape::router(), |lab| {
        let config = gateway(lab, ends)?;
        // A cable between stations of two networks: what the client's own kernel answers would hide what the tunnel does.
        lab.router.ip("addr flush dev eth1")?;
        let control = Control::start(lab, &config)?;
        for (client, server) in CLIENT.into_iter().zip(SERVER) {
            // The first packets are ARP and neighbour discovery: broadcasts, multicasts.
            for outcome in [ping(&lab.client, server.parse()?, 10)?, ping(&lab.server, client.parse()?, 10)?]
            {
                ensure!(outcome.all(), "{outcome:?}");
                ensure!(outcome.text.contains("ttl=64"), "a bridge does not age packets: {outcome:?}");
            }
        }
        let iperf = Iperf::serve(lab)?;
        for target in SERVER {
            for direction in [&[][..], &["-R"]] {
                let tcp = iperf.run(target.parse()?, &[&["-t", "1"], direction].concat())?;
                println!("{target} {direction:?}: {tcp:?}");
                ensure!(tcp.bits_per_second > 30e6, "{tcp:?}");
            }
        }
        let books = control.balanced()?;
        ensure!(books.counts.tx() > 5_000, "{books:?}");
        Ok(())
    });
}

#[test]
fn the_kernels_vxlan_is_the_other_end_over_ipv4() {
    hosts_talk_through(["10.2.0.1", "10.2.0.2"]);
}

#[test]
fn the_kernels_vxlan_is_the_other_end_over_ipv6() {
    hosts_talk_through(["fd02::1", "fd02::2"]);
}

#[test]
fn another_network_and_another_end_do_not_get_in() {
    in_lab(Shape::router(), |lab| {
        let config = gateway(lab, ["10.2.0.1", "10.2.0.2"])?;
        lab.router.ip("addr flush dev eth1")?;
        let control = Control::start(lab, &config.replace("vxlan = 100", "vxlan = 101"))?;
        let outcome = ping(&lab.client, SERVER[0].parse()?, 2)?;
        ensure!(outcome.received == 0, "{outcome:?}");
        control.balanced()?;
        Ok(())
    });
}
