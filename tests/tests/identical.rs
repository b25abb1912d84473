//! The same packets give the same bytes, over whatever device they come: here capture files, AF_XDP and packet sockets, of
//! a whole zsync between two namespaces. (Capture files and memory are compared by `memory_replay` of `zsync-engine`.)
//!
//! Left out are packets whose fate is the kernel's: those that the XDP program leaves to it, and those that are punted.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zsync_engine::replay::{Replayed, replay};
use zsync_packet::checksum::Sum;
use zsync_packet::flow::HashKey;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};
use zsync_packet::header::{Ethernet, Mac, TcpFlags, corpus, ether_type, icmp, icmpv6, protocol};
use zsync_packet::region::Region;
use zsync_packet::verdict::{DropReason, PortId};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{PortFacts, Snapshot};
use zsync_pipelines::spec::parse;
use zsync_pipelines::tables::fib::{Fib, FibLayout, FibWriter, Target};
use zsync_tests::capture::Capture;
use zsync_tests::config::{ROUTER, WIRE, by};
use zsync_tests::raw::RawSocket;
use zsync_tests::{Control, Lab, Shape, by_each_device, in_lab, wait_for};

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

fn a_router_does_over_a_netdev_what_it_does_over_captures(device: &str) {
    in_lab(Shape::router(), |lab| {
        let (v4, v6) = (corpus::V4.1, corpus::V6.1);
        lab.router.ip(&format!("neigh replace {v4} lladdr 02:00:00:00:88:01 dev eth2 nud permanent"))?;
        lab.router.ip("-6 neigh replace fd02::88 lladdr 02:00:00:00:88:01 dev eth2 nud permanent")?;
        lab.router.ip(&format!("-6 route add {v6}/128 via fd02::88"))?;
        let control = Control::start(lab, &by(device, ROUTER))?;

        let [wan, lan] = [lab.router.mac("eth1")?, lab.router.mac("eth2")?];
        let snapshot = snapshot(device, ROUTER, [lan, wan], routes()?)?;
        let input = PortId(1);
        let mut frames = Vec::new();
        for mut frame in candidates() {
            // To the router's port; and what was flipped stays so.
            for (byte, (was, is)) in frame.iter_mut().zip(corpus::MACS.1.into_iter().zip(wan)) {
                *byte ^= was ^ is;
            }
            let shown = device == "xdp" || !is_cut(&frame);
            if shown && !is_kernels(&frame) && !is_punted(&snapshot, input, &frame)? {
                frames.push(frame);
            }
        }
        // The routes of both families are in force when the first packets come out.
        let probes: Vec<_> = frames.iter().filter(|frame| frame.len() > 100).cloned().collect();
        let out = replay(snapshot.clone(), PORTS, input, &capture(&probes)[..])?.counters.tx_packets;
        let client = RawSocket::open(&lab.client, "eth0")?;
        wait_for("the routes", Duration::from_secs(5), || {
            let before = control.counts().ok()?.tx();
            send(&control, &client, &probes).ok()?;
            (control.balanced().ok()?.counts.tx() - before == out).then_some(())
        })?;

        let ours = |frame: &[u8]| frame.starts_with(&[HOP, lan].concat());
        let replayed = compare(lab, &control, (snapshot, input, PortId(0)), &frames, ours)?;
        let reasons = DropReason::ALL.iter().filter(|reason| replayed.counters.drops[**reason as usize] > 0);
        let reasons: Vec<_> = reasons.map(|reason| reason.label()).collect();
        println!("{} frames, {} sent on, dropped as {reasons:?}", frames.len(), replayed.counters.tx_packets);
        // Cut tags are a reason, which packet sockets are not shown.
        let least = if device == "xdp" { 10 } else { 9 };
        ensure!(replayed.counters.tx_packets > 1000 && reasons.len() >= least, "too little to compare");
        Ok(())
    });
}

fn a_wire_does_over_a_netdev_what_it_does_over_captures(device: &str) {
    in_lab(Shape::wire(), |lab| {
        let control = Control::start(lab, &by(device, WIRE))?;
        let macs = [lab.router.mac("eth1")?, lab.router.mac("eth2")?];
        let snapshot = snapshot(device, WIRE, macs, BTreeMap::new())?;
        let frames: Vec<_> = candidates().into_iter().filter(|frame| !is_cut(frame)).collect();
        let own = lab.client.mac("eth0")?;
        let ours = |frame: &[u8]| frame.get(6..12) != Some(&own);
        let replayed = compare(lab, &control, (snapshot, PortId(0), PortId(1)), &frames, ours)?;
        ensure!(replayed.counters.tx_packets as usize == frames.len(), "a wire lets everything through");
        Ok(())
    });
}

/// Sends `frames` from the client, and has them replayed: in at one port and out of another. What comes to the server, of
/// what is `ours`, and why packets are dropped is the same.
fn compare(
    lab: &Lab,
    control: &Control<'_>,
    (snapshot, input, output): (Snapshot, PortId, PortId),
    frames: &[Vec<u8>],
    ours: impl Fn(&[u8]) -> bool,
) -> Result<Replayed> {
    let replayed = replay(snapshot, PORTS, input, &capture(frames)[..])?;
    let wanted = packets(&replayed.captures[usize::from(output.0)]).context("the replay's capture")?;
    ensure!(replayed.counters.rx_packets as usize == frames.len(), "{:?}", replayed.counters);

    let before = control.balanced()?.counts;
    let tap = Capture::start(lab, &lab.server, "eth0", ROOMY)?;
    send(control, &RawSocket::open(&lab.client, "eth0")?, frames)?;
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

/// Sends frames, no more at a time than fit between the client and zsync.
fn send(control: &Control<'_>, client: &RawSocket, frames: &[Vec<u8>]) -> Result<()> {
    for frames in frames.chunks(AT_ONCE) {
        let before = control.counts()?.rx();
        for frame in frames {
            client.send(frame).with_context(|| format!("a frame of {} bytes", frame.len()))?;
        }
        wait_for("zsync to receive what was sent", Duration::from_secs(3), || {
            (control.counts().ok()?.rx() >= before + frames.len() as u64).then_some(())
        })?;
    }
    Ok(())
}

/// The configuration, as the data plane compiles it for veths with an MTU of 1500. Behind a packet socket nobody guesses which checksums were
/// left to a NIC: the kernel says so, and those that are wrong stay so.
fn snapshot(device: &str, config: &str, macs: [Mac; 2], fibs: BTreeMap<u32, Fib>) -> Result<Snapshot> {
    let spec = parse(config, "example.toml").map_err(|found| anyhow::anyhow!("{found:?}"))?.spec;
    let ports = macs
        .map(|mac| PortFacts { mac, mtu: 1500, complete_checksums: device == "xdp", ..PortFacts::default() })
        .to_vec();
    let fibs = fibs.into_iter().collect();
    Ok(compile(
        &spec,
        1,
        &Resources { ports, fibs, hash_key: HashKey::from_seed(1), workers: 1, states: [].into() },
    )?)
}

/// The main table, as far as the frames need it.
fn routes() -> Result<BTreeMap<u32, Fib>> {
    let mut fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL)?;
    for (address, length) in [(IpAddr::from(corpus::V4.1), 32), (IpAddr::from(corpus::V6.1), 128)] {
        let hop = fib.adjacency(0, address)?;
        ensure!(fib.resolve(hop, HOP), "the next hop is new");
        fib.insert(address, length, Target::Hops(vec![(hop, 1)]))?;
    }
    Ok([(254, fib.reader())].into())
}

/// Is its tag cut off? The kernel shows such a frame to nobody, tcpdump or packet sockets (net/core/skbuff.c, `skb_vlan_untag`).
fn is_cut(frame: &[u8]) -> bool {
    frame.len() < 20 && matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8])
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

/// Frames of every shape, valid and damaged, that a veth with an MTU of 1500 takes.
fn candidates() -> Vec<Vec<u8>> {
    let mut frames: Vec<_> = corpus::valid().into_iter().map(|sample| sample.bytes).collect();
    for length in (0..=1452).step_by(33).chain([1472]) {
        let payload: Vec<u8> = (0..length).map(|byte| (byte as u8).wrapping_mul(65)).collect();
        frames.extend(of_v4(&payload).into_iter().chain(of_v6(&payload[..length.min(1440)])));
    }
    frames.extend(refused());
    // A prime, so that truncations and flips of every place are among them.
    frames.extend(corpus::all().step_by(17));
    frames.retain(|frame| (14..=1514).contains(&frame.len()));
    frames
}

/// Whole packets that no router may send on: martian addresses, and a length that is less than the header's.
fn refused() -> Vec<Vec<u8>> {
    let frame = |kind, packet: &[u8]| build::ethernet(corpus::MACS.1, corpus::MACS.0, &[], kind, packet);
    let mut frames = Vec::new();
    for martian in [[0, 0, 0, 1], [127, 9, 9, 9], [240, 0, 0, 1]].map(Ipv4Addr::from) {
        for (from, to) in [(martian, corpus::V4.1), (corpus::V4.0, martian)] {
            frames.push(frame(ether_type::IPV4, &Ipv4Spec::new(from, to, protocol::UDP).packet(&[0; 30])));
        }
    }
    for martian in [Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST.to_ipv6_mapped()] {
        for (from, to) in [(martian, corpus::V6.1), (corpus::V6.0, martian)] {
            frames.push(frame(ether_type::IPV6, &Ipv6Spec::new(from, to, protocol::UDP).packet(&[0; 30])));
        }
    }
    let mut short = Ipv4Spec::new(corpus::V4.0, corpus::V4.1, protocol::UDP).packet(&[0; 30]);
    short[2..4].copy_from_slice(&19u16.to_be_bytes());
    frames.push(frame(ether_type::IPV4, &short));
    frames
}

/// UDP (also with a partial checksum, or in a fragment), TCP and ICMP in IPv4, with all kinds of header fields.
fn of_v4(payload: &[u8]) -> Vec<Vec<u8>> {
    let number = payload.len();
    let ip = |protocol| Ipv4Spec {
        ttl: [2, 64, 128, 255][number % 4],
        tos: (number * 7) as u8,
        identification: number as u16,
        dont_fragment: number % 2 == 1,
        ..Ipv4Spec::new(corpus::V4.0, corpus::V4.1, protocol)
    };
    let sum = ip(protocol::UDP).address_sum();
    let udp = build::udp(sum, 1000 + number as u16, 9, payload);
    let part = Ipv4Spec { dont_fragment: false, more_fragments: true, ..ip(protocol::UDP) };
    let later = Ipv4Spec { fragment_offset: 1480, more_fragments: false, ..part.clone() };
    // Only PSH keeps the server's GRO from holding a segment back, behind later packets.
    let tcp = TcpSpec::new(2000, 9, TcpFlags::ACK.union(TcpFlags::PSH));
    let tcp = tcp.segment(sum, &payload[..number.min(1460)]);
    let echo = build::icmp(icmp::ECHO_REQUEST, 0, [0, 1, 0, number as u8], payload);
    let partial = partial(udp.clone(), sum);
    let packets = [
        ip(protocol::UDP).packet(&udp),
        ip(protocol::UDP).packet(&partial),
        part.packet(&udp),
        later.packet(&udp),
        ip(protocol::TCP).packet(&tcp),
        ip(protocol::ICMP).packet(&echo),
    ];
    let frame =
        |packet: Vec<u8>| build::ethernet(corpus::MACS.1, corpus::MACS.0, &[], ether_type::IPV4, &packet);
    packets.map(|packet| build::padded(frame(packet))).to_vec()
}

/// The same in IPv6.
fn of_v6(payload: &[u8]) -> Vec<Vec<u8>> {
    let number = payload.len();
    let ip = |next_header| Ipv6Spec {
        hop_limit: [2, 64, 128, 255][number % 4],
        traffic_class: (number * 7) as u8,
        flow_label: number as u32 * 601,
        ..Ipv6Spec::new(corpus::V6.0, corpus::V6.1, next_header)
    };
    let sum = ip(protocol::UDP).address_sum();
    let udp = build::udp(sum, 1000 + number as u16, 9, payload);
    let part = [&build::fragment(protocol::UDP, 0, true, number as u32)[..], &udp].concat();
    let tcp = TcpSpec::new(2000, 9, TcpFlags::ACK.union(TcpFlags::PSH));
    let tcp = tcp.segment(sum, &payload[..number.min(1440)]);
    let echo = build::icmpv6(sum, icmpv6::ECHO_REQUEST, 0, [0, 1, 0, number as u8], payload);
    let partial = partial(udp.clone(), sum);
    let packets = [
        ip(protocol::UDP).packet(&udp),
        ip(protocol::UDP).packet(&partial),
        ip(protocol::FRAGMENT).packet(&part),
        ip(protocol::TCP).packet(&tcp),
        ip(protocol::ICMPV6).packet(&echo),
    ];
    let frame =
        |packet: Vec<u8>| build::ethernet(corpus::MACS.1, corpus::MACS.0, &[], ether_type::IPV6, &packet);
    packets.map(|packet| build::padded(frame(packet))).to_vec()
}

/// A datagram whose checksum is left to the NIC: the field holds the pseudo-header's sum.
fn partial(mut datagram: Vec<u8>, addresses: Sum) -> Vec<u8> {
    let pseudo = !(addresses + Sum::of(&[0, protocol::UDP, datagram[4], datagram[5]])).finish();
    datagram[6..8].copy_from_slice(&pseudo.to_be_bytes());
    datagram
}

/// A classic capture, little endian, microseconds.
fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file: Vec<u8> =
        [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65535, 1].into_iter().flat_map(u32::to_le_bytes).collect();
    for frame in frames {
        let length = frame.len() as u32;
        file.extend([0, 0, length, length].into_iter().flat_map(u32::to_le_bytes));
        file.extend(frame);
    }
    file
}

/// The packets of a capture that a replay wrote; none if it is cut.
fn packets(file: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = file.get(24..)?;
    let mut packets = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<16>() {
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let (packet, next) = tail.split_at_checked(length)?;
        packets.push(packet.to_vec());
        rest = next;
    }
    Some(packets)
}
