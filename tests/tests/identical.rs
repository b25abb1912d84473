//! The same packets give the same bytes, over whatever device they come: here capture files, AF_XDP, packet sockets, TUN and TAP devices,
//! of a whole zsync between two namespaces, or between the host's ends of its own devices. (Capture files and memory are compared by
//! `memory_replay` of `zsync-engine`.)
//!
//! Left out are packets whose fate is the kernel's: those that the XDP program leaves to it, and those that are punted. A TUN device
//! carries IP packets: with it frames of anything else are left out, and what is behind the Ethernet header is compared. Behind devices of the
//! host's own are no neighbours: what leaves by a TAP device is addressed to that.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use zsync_engine::replay::{Replayed, replay};
use zsync_packet::flow::HashKey;
use zsync_packet::header::{Ethernet, Ipv4, Ipv6, Mac, corpus, ether_type, protocol};
use zsync_packet::region::Region;
use zsync_packet::verdict::{DropReason, PortId};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{PortFacts, Snapshot};
use zsync_pipelines::spec::parse;
use zsync_pipelines::tables::fib::{Fib, FibLayout, FibWriter, Target};
use zsync_tests::capture::Capture;
use zsync_tests::config::{ROUTER, WIRE, by, is_own};
use zsync_tests::raw::RawSocket;
use zsync_tests::{Control, Lab, Namespace, Shape, by_each_device, by_own_device, in_lab, wait_for};

#[path = "identical/frames.rs"]
mod frames;

use frames::{candidates, capture, is_cut, packets};

by_own_device!(a_router_does_over_a_netdev_what_it_does_over_captures);

#[test]
fn a_wire_does_over_tap_what_it_does_over_captures() {
    a_wire_does_over_a_netdev_what_it_does_over_captures("tap");
}

by_each_device!(
    a_router_does_over_a_netdev_what_it_does_over_captures,
    a_wire_does_over_a_netdev_what_it_does_over_captures,
);

/// Ports of either configuration are numbered in the order of their names: `lan` or `left`, then `wan` or `right`.
const PORTS: u16 = 2;
/// The next hop of everything that is routed here: nobody's address, so that the server answers nothing.
const HOP: Mac = [0x02, 0, 0, 0, 0x88, 1];
/// Frames sent before zsync is waited for: fewer than a veth keeps (`VETH_RING_SIZE`, 256, in drivers/net/veth.c).
const AT_ONCE: usize = 128;
/// For tcpdump, whose buffer has room for a few frames only if each may be as long as can be.
const ROOMY: &str = "-s 2048 -B 16384";

/// What a TUN device's packets seem to be sent to.
const TUN: Mac = [2, 0, 0, 0, 0, 0];

/// Where frames are sent and captured: beyond the cables of the router, or at the host's ends of its own devices.
struct Ends<'l> {
    from: (&'l Namespace, &'static str),
    to: (&'l Namespace, &'static str),
    /// They are IP packets there, without Ethernet.
    bare: bool,
}

impl<'l> Ends<'l> {
    /// Before zsync starts: devices of its own take the places of the cables, and the kernel forwards nothing that comes by them.
    fn of(lab: &'l Lab, device: &str) -> Result<Self> {
        if !is_own(device) {
            return Ok(Self { from: (&lab.client, "eth0"), to: (&lab.server, "eth0"), bare: false });
        }
        for (key, netdev) in [("net/ipv4/ip_forward", "eth1"), ("net/ipv6/conf/all/forwarding", "eth2")] {
            lab.router.ip(&format!("link del {netdev}"))?;
            lab.router.sysctl(key, "0")?;
        }
        Ok(Self { from: (&lab.router, "eth1"), to: (&lab.router, "eth2"), bare: device == "tun" })
    }

    /// Of a frame what is seen there.
    fn seen<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        if self.bare { frame.get(14..).unwrap_or_default() } else { frame }
    }
}

/// The frame that a TUN device makes of the packet in this one; none, if it carries no such packet.
fn by_tun(frame: &[u8]) -> Option<Vec<u8>> {
    let (link, packet) = frame.split_at_checked(14)?;
    let is_ip = matches!((link[12], link[13], packet.first()? >> 4), (0x08, 0x00, 4) | (0x86, 0xdd, 6));
    is_ip.then(|| [&TUN[..], &[2, 0, 0, 0, 0, 1], &link[12..], packet].concat())
}

/// The packet of a frame, without what stands behind it.
fn said(frame: &[u8]) -> &[u8] {
    let packet = &frame[14..];
    let len = match packet.first().map(|first| first >> 4) {
        Some(4) => Ipv4::parse(packet).map_or(packet.len(), |ip| ip.total_len().into()),
        _ => Ipv6::parse(packet).map_or(packet.len(), |ip| 40 + usize::from(ip.payload_len())),
    };
    packet.get(..len).unwrap_or(packet)
}

/// What the kernel itself says at a new device (reports of multicast groups) it has said.
fn wait_until_quiet(control: &Control<'_>) -> Result<()> {
    let mut before = (Instant::now(), control.counts()?.rx());
    wait_for("the kernel to fall silent", Duration::from_secs(20), || {
        let now = control.counts().ok()?.rx();
        if now != before.1 {
            before = (Instant::now(), now);
        }
        (before.0.elapsed() > Duration::from_secs(3)).then_some(())
    })
}

fn a_router_does_over_a_netdev_what_it_does_over_captures(device: &str) {
    in_lab(Shape::router(), |lab| {
        let (v4, v6) = (corpus::V4.1, corpus::V6.1);
        let ends = Ends::of(lab, device)?;
        let mtu = format!("device = \"{device}\"\nmtu = 1500\n");
        let config = by(device, ROUTER);
        let control = if is_own(device) {
            let control = Control::start(lab, &config.replace(&format!("device = \"{device}\"\n"), &mtu))?;
            lab.router.ip(&format!("route add {v4}/32 dev eth2"))?;
            lab.router.ip(&format!("-6 route add {v6}/128 dev eth2"))?;
            wait_until_quiet(&control)?;
            control
        } else {
            lab.router.ip(&format!("neigh replace {v4} lladdr 02:00:00:00:88:01 dev eth2 nud permanent"))?;
            lab.router.ip("-6 neigh replace fd02::88 lladdr 02:00:00:00:88:01 dev eth2 nud permanent")?;
            lab.router.ip(&format!("-6 route add {v6}/128 via fd02::88"))?;
            Control::start(lab, &config)?
        };

        let [wan, lan] = match ends.bare {
            true => [TUN; 2],
            false => [lab.router.mac("eth1")?, lab.router.mac("eth2")?],
        };
        let snapshot = snapshot(device, ROUTER, [lan, wan], routes(device)?)?;
        let input = PortId(1);
        let mut frames = Vec::new();
        for mut frame in candidates() {
            // To the router's port; and what was flipped stays so.
            for (byte, (was, is)) in frame.iter_mut().zip(corpus::MACS.1.into_iter().zip(wan)) {
                *byte ^= was ^ is;
            }
            if ends.bare {
                let Some(packet) = by_tun(&frame) else { continue };
                frame = packet;
            }
            let shown = device != "uring-packet" || !is_cut(&frame);
            if shown && !is_kernels(&frame) && !is_punted(&snapshot, input, &frame)? {
                frames.push(frame);
            }
        }
        if is_own(device) {
            // Datagrams that are as the ones before may be one for the kernel, and for who captures there.
            let mut before = HashSet::new();
            frames.retain(|frame| before.insert((frame[12..14].to_vec(), said(frame).to_vec())));
        }
        // The routes of both families are in force when the first packets come out.
        let probes: Vec<_> = frames.iter().filter(|frame| frame.len() > 100).cloned().collect();
        let out = replay(snapshot.clone(), PORTS, input, &capture(&probes)[..])?.counters.tx_packets;
        let client = RawSocket::open(ends.from.0, ends.from.1)?;
        wait_for("the routes", Duration::from_secs(5), || {
            let before = control.counts().ok()?.tx();
            send(&control, &ends, &client, &probes).ok()?;
            (control.balanced().ok()?.counts.tx() - before == out).then_some(())
        })?;

        // Nobody else sends by a device of the host's own.
        let ours = |frame: &[u8]| is_own(device) || frame.starts_with(&[HOP, lan].concat());
        let replayed = compare(lab, &control, &ends, (snapshot, input, PortId(0)), &frames, ours)?;
        let reasons = DropReason::ALL.iter().filter(|reason| replayed.counters.drops[**reason as usize] > 0);
        let reasons: Vec<_> = reasons.map(|reason| reason.label()).collect();
        println!("{} frames, {} sent on, dropped as {reasons:?}", frames.len(), replayed.counters.tx_packets);
        // Cut tags are a reason, which packet sockets are not shown; and behind a TUN device there are no frames to be cut or misdirected.
        let least = match device {
            "xdp" => 10,
            "tun" => 6,
            _ => 9,
        };
        ensure!(replayed.counters.tx_packets > 900 && reasons.len() >= least, "too little to compare");
        Ok(())
    });
}

fn a_wire_does_over_a_netdev_what_it_does_over_captures(device: &str) {
    in_lab(Shape::wire(), |lab| {
        let ends = Ends::of(lab, device)?;
        let mut config = by(device, WIRE);
        if is_own(device) {
            // A wire says nothing of its own; and no XDP program is there that could drop packets while nobody serves it.
            lab.router.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
            config = config
                .lines()
                .filter(|line| !line.starts_with("failover"))
                .flat_map(|line| [line, "\n"])
                .collect();
        }
        let control = Control::start(lab, &config)?;
        let macs = [lab.router.mac("eth1")?, lab.router.mac("eth2")?];
        let snapshot = snapshot(device, WIRE, macs, BTreeMap::new())?;
        let frames: Vec<_> = candidates().into_iter().filter(|frame| !is_cut(frame)).collect();
        let own = ends.from.0.mac(ends.from.1)?;
        let ours = |frame: &[u8]| frame.get(6..12) != Some(&own);
        let replayed = compare(lab, &control, &ends, (snapshot, PortId(0), PortId(1)), &frames, ours)?;
        ensure!(replayed.counters.tx_packets as usize == frames.len(), "a wire lets everything through");
        Ok(())
    });
}

/// Sends `frames` from one end, and has them replayed: in at one port and out of another. What comes to the other, of
/// what is `ours`, and why packets are dropped is the same.
fn compare(
    lab: &Lab,
    control: &Control<'_>,
    ends: &Ends<'_>,
    (snapshot, input, output): (Snapshot, PortId, PortId),
    frames: &[Vec<u8>],
    ours: impl Fn(&[u8]) -> bool,
) -> Result<Replayed> {
    let replayed = replay(snapshot, PORTS, input, &capture(frames)[..])?;
    let wanted = packets(&replayed.captures[usize::from(output.0)]).context("the replay's capture")?;
    let wanted: Vec<_> = wanted.iter().map(|frame| ends.seen(frame).to_vec()).collect();
    ensure!(replayed.counters.rx_packets as usize == frames.len(), "{:?}", replayed.counters);

    let before = control.balanced()?.counts;
    let tap = Capture::start(lab, ends.to.0, ends.to.1, ROOMY)?;
    send(control, ends, &RawSocket::open(ends.from.0, ends.from.1)?, frames)?;
    let after = control.balanced()?.counts;
    let came = || -> Result<Vec<_>> {
        Ok(tap.frames()?.into_iter().filter(|frame| ours(frame)).collect::<Vec<_>>())
    };
    // Without all of them, what differs says more than what is missing.
    let _ = wait_for("every frame", Duration::from_secs(3), || {
        came().ok().filter(|came| came.len() >= wanted.len())
    });
    let got: Vec<_> = tap.finish()?.into_iter().filter(|frame| ours(frame)).collect();
    if let Some(number) = (0..wanted.len().max(got.len())).find(|i| wanted.get(*i) != got.get(*i)) {
        let [wanted_one, got_one] = [wanted.get(number), got.get(number)];
        let (wanted, got) = (wanted.len(), got.len());
        anyhow::bail!(
            "frame {number} of {wanted}, {got} of which came, is to be\n{wanted_one:02x?}, and is\n{got_one:02x?}"
        );
    }
    for reason in DropReason::ALL {
        let wanted = replayed.counters.drops[*reason as usize];
        let got = after.dropped(reason.label()) - before.dropped(reason.label());
        ensure!(got == wanted, "{}: {got} packets over the netdev, {wanted} over captures", reason.label());
    }
    ensure!(after.punted() == before.punted(), "none was to be punted: {after:?}");
    Ok(replayed)
}

/// Sends frames, no more at a time than fit between the one end and zsync.
fn send(control: &Control<'_>, ends: &Ends<'_>, client: &RawSocket, frames: &[Vec<u8>]) -> Result<()> {
    for frames in frames.chunks(AT_ONCE) {
        let before = control.counts()?.rx();
        for frame in frames {
            client.send(ends.seen(frame)).with_context(|| format!("a frame of {} bytes", frame.len()))?;
        }
        wait_for("zsync to receive what was sent", Duration::from_secs(3), || {
            (control.counts().ok()?.rx() >= before + frames.len() as u64).then_some(())
        })?;
    }
    Ok(())
}

/// The configuration, as the data plane compiles it for an MTU of 1500. Only with AF_XDP behind a veth somebody guesses which checksums were
/// left to a NIC: elsewhere the kernel says so, and those that are wrong stay so.
fn snapshot(device: &str, config: &str, macs: [Mac; 2], fibs: BTreeMap<u32, Fib>) -> Result<Snapshot> {
    let spec = parse(config, "example.toml").map_err(|found| anyhow::anyhow!("{found:?}"))?.spec;
    let ports = macs
        .map(|mac| PortFacts {
            mac,
            mtu: 1500,
            complete_checksums: device == "xdp",
            of_host: is_own(device),
            ..PortFacts::default()
        })
        .to_vec();
    let fibs = fibs.into_iter().collect();
    Ok(compile(
        &spec,
        1,
        &Resources { ports, fibs, hash_key: HashKey::from_seed(1), workers: 1, states: [].into() },
    )?)
}

/// The main table, as far as the frames need it.
fn routes(device: &str) -> Result<BTreeMap<u32, Fib>> {
    let mut fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL)?;
    for (address, length) in [(IpAddr::from(corpus::V4.1), 32), (IpAddr::from(corpus::V6.1), 128)] {
        let hop = fib.adjacency(0, address)?;
        if is_own(device) {
            fib.link(hop);
        } else {
            ensure!(fib.resolve(hop, HOP), "the next hop is new");
        }
        fib.insert(address, length, Target::Hops(vec![(hop, 1)]))?;
    }
    Ok([(254, fib.reader())].into())
}

/// Is this a packet that the XDP program of a routed port leaves to the kernel? Of the kernel's own addresses only the
/// loopback's is among those that frames here go to.
fn is_kernels(frame: &[u8]) -> bool {
    if frame[0] & 1 != 0 {
        return true;
    }
    let Ok(ethernet) = Ethernet::parse(frame) else { return false };
    let packet = ethernet.payload();
    match ethernet.ether_type() {
        ether_type::IPV4 => {
            packet.len() >= 20 && matches!(packet[0], 0x45..=0x4f) && matches!(packet[16], 224..=239)
        }
        ether_type::IPV6 => {
            packet.len() >= 40
                && packet[0] >> 4 == 6
                && (matches!(packet[24..26], [0xff, _] | [0xfe, 0x80..=0xbf])
                    || packet[24..40] == Ipv6Addr::LOCALHOST.octets()
                    || packet[6] == protocol::ICMPV6 && matches!(packet.get(40), Some(133..=137)))
        }
        _ => true,
    }
}

/// Does it want to go to the kernel, of which a replay has none?
fn is_punted(snapshot: &Snapshot, input: PortId, frame: &[u8]) -> Result<bool> {
    let alone = replay(snapshot.clone(), PORTS, input, &capture(&[frame.to_vec()])[..])?;
    Ok(alone.counters.drops[DropReason::PuntFailed as usize] > 0)
}
