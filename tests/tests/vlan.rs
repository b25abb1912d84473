//! VLANs as ports of their own, on a real device: tagged frames come in by one port and leave by another.

use std::time::Duration;

use anyhow::{Result, ensure};
use zsync_tests::capture::Capture;
use zsync_tests::config::by;
use zsync_tests::raw::RawSocket;
use zsync_tests::{Control, Shape, by_each_device, in_lab, wait_for};

by_each_device!(each_vlan_is_a_port_and_tags_change_on_the_way);

/// Three VLANs of the client's cable, each to another side of the server's.
const CONFIG: &str = r#"
[port.trunk]
netdev = "eth1"
promiscuous = true
vlans = { guest = 100, carrier = { id = 200, tag = "802.1ad" }, inside = { id = 7, priority = 3, in = "carrier" } }

[port.far]
netdev = "eth2"
promiscuous = true
vlans = { blue = 300, red = { id = 301, priority = 5 } }

[pipeline.wires]
input  = ["guest", "inside", "blue", "red"]
stages = ["patch.wires"]

[patch.wires]
pairs = [["guest", "blue"], ["inside", "red"]]
"#;

fn frame(types: &[u8], payload: u8) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0x66, payload, 0x02, 0, 0, 0, 0x55, 1];
    frame.extend(types);
    frame.extend([0x88, 0xb5]);
    frame.extend([payload; 60]);
    frame
}

fn each_vlan_is_a_port_and_tags_change_on_the_way(device: &str) {
    in_lab(Shape::wire(), |lab| {
        let control = Control::start(lab, &by(device, CONFIG))?;
        const GUEST: &[u8] = &[0x81, 0x00, 0x00, 100];
        const INSIDE: &[u8] = &[0x88, 0xa8, 0x00, 200, 0x81, 0x00, 0x60, 7];
        const BLUE: &[u8] = &[0x81, 0x00, 0x01, 0x2c];
        const RED: &[u8] = &[0x81, 0x00, 0xa1, 0x2d];
        let [client, server] = [&lab.client, &lab.server].map(|host| RawSocket::open(host, "eth0"));
        let (client, server) = (client?, server?);
        let pass = |from: &RawSocket, to, sent: Vec<Vec<u8>>, wanted: Vec<Vec<u8>>| -> Result<()> {
            let capture = Capture::start(lab, to, "eth0", "")?;
            for frame in &sent {
                from.send(frame)?;
            }
            let came = || capture.frames().ok().filter(|got| wanted.iter().all(|frame| got.contains(frame)));
            let all = wait_for("every frame with its tag", Duration::from_secs(3), came);
            let got = capture.finish()?;
            ensure!(all.is_ok(), "wanted {wanted:02x?}, got {got:02x?}");
            ensure!(!got.iter().any(|frame| frame.get(5) == Some(&9)), "a VLAN that is no port got through");
            Ok(())
        };
        let unknown = frame(&[0x81, 0x00, 0x00, 101], 9);
        pass(
            &client,
            &lab.server,
            vec![unknown.clone(), frame(GUEST, 1), frame(INSIDE, 2)],
            vec![frame(BLUE, 1), frame(RED, 2)],
        )?;
        pass(
            &server,
            &lab.client,
            vec![unknown, frame(BLUE, 3), frame(RED, 4)],
            vec![frame(GUEST, 3), frame(INSIDE, 4)],
        )?;
        control.balanced()?;
        Ok(())
    });
}
