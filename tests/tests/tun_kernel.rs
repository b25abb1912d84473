//! What a TUN device merges and splits, beside what the kernel does: it forwards what we merged, cut by itself or by us.

use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use zsync_control::raw;
use zsync_io::device::Device;
use zsync_io::tun::Tun;
use zsync_io::virtio;
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::checksum::Sum;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};
use zsync_packet::header::{Ipv4Mut, Ipv6Mut, TcpFlags, protocol};
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;
use zsync_tests::{Lab, Shape, in_lab};

const SOURCES: [&str; 2] = ["10.7.0.2", "fd07::2"];
const TARGETS: [&str; 2] = ["10.8.0.2", "fd08::2"];

/// A device of the router's, and what is reached by it.
fn device(lab: &Lab, name: &str, networks: [&str; 2], offload: bool) -> Result<Tun> {
    let queue = lab.router.run(|| {
        if !offload {
            let queue = raw::open_tun(name)?;
            ensure!(!raw::has_header(&queue)?, "{name} has a header");
            return Ok(queue);
        }
        let queue = raw::open_tun_queue(name, false, false)?;
        raw::set_header_len(&queue, virtio::HEADER_LEN as i32)?;
        raw::take_offload(&queue, true)?;
        ensure!(raw::has_header(&queue)?, "{name} has no header");
        Ok(queue)
    })?;
    lab.router.ip(&format!("link set {name} up"))?;
    for (family, network) in ["", "-6 "].into_iter().zip(networks) {
        lab.router.ip(&format!("{family}route add {network} dev {name}"))?;
    }
    let open = if offload {
        |queue| Tun::with_header(queue, PortId(0), [2; 6], 1500, true)
    } else {
        |queue| Tun::new(queue, PortId(0), [2; 6], 1500)
    };
    Ok(open(queue))
}

/// A flow's packets: of one length but the last, which is shorter and odd.
fn flow(is_v6: bool, is_tcp: bool) -> Vec<Vec<u8>> {
    let number = if is_tcp { protocol::TCP } else { protocol::UDP };
    let upper = |addresses: Sum, i: u16| {
        let payload = vec![i as u8; if i == 39 { 333 } else { 1000 }];
        let flags = TcpFlags(if i == 39 {
            0x18
        } else if i == 0 {
            0x90
        } else {
            0x10
        });
        let sequence = u32::MAX.wrapping_add(1000 * u32::from(i)).wrapping_sub(5000);
        match is_tcp {
            true => TcpSpec {
                sequence,
                options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
                ..TcpSpec::new(1, 2, flags)
            }
            .segment(addresses, &payload),
            false => build::udp(addresses, 3, 4, &payload),
        }
    };
    let one = |i: u16| {
        if is_v6 {
            let [source, target] = [SOURCES[1], TARGETS[1]].map(|text| text.parse().expect("an address"));
            let spec = Ipv6Spec::new(source, target, number);
            return spec.packet(&upper(spec.address_sum(), i));
        }
        let [source, target] = [SOURCES[0], TARGETS[0]].map(|text| text.parse().expect("an address"));
        let mut spec = Ipv4Spec::new(source, target, number);
        spec.identification = i.wrapping_sub(3);
        spec.packet(&upper(spec.address_sum(), i))
    };
    (0..40).map(one).collect()
}

/// As a router leaves it.
fn forwarded(mut packet: Vec<u8>) -> Vec<u8> {
    if let Ok(mut ip) = Ipv4Mut::parse(&mut packet) {
        ip.decrement_ttl();
    } else if let Ok(mut ip) = Ipv6Mut::parse(&mut packet) {
        ip.decrement_hop_limit();
    }
    packet
}

#[test]
fn the_kernel_takes_what_is_merged_and_cuts_it_as_we_do() {
    in_lab(Shape::router(), |lab| {
        for (family, on) in [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")] {
            lab.router.sysctl(&format!("net/{family}"), on)?;
        }
        for offload in [true, false] {
            let mut near = device(lab, "near", ["10.7.0.0/24", "fd07::/64"], true)?;
            let mut far = device(lab, "far", ["10.8.0.0/24", "fd08::/64"], offload)?;
            let mut pool = Pool::heap(FrameSize::K2, 512, 1)?.remove(0);
            let mut burst = Burst::new(pool.arena().clone());
            for (is_v6, is_tcp) in [(false, true), (true, true), (false, false), (true, false)] {
                let packets = flow(is_v6, is_tcp);
                let merged = near.counters().merged;
                let mut leaving = Vec::new();
                for packet in &packets {
                    let mut frame = pool.alloc().expect("a frame");
                    let (start, len) = (HEADROOM as u16, 14 + packet.len() as u16);
                    let bytes = pool.arena().bytes_mut(&mut frame, start, len);
                    bytes[12..14].copy_from_slice(if is_v6 { &[0x86, 0xdd] } else { &[8, 0] });
                    bytes[14..].copy_from_slice(packet);
                    leaving.push(Packet { frame, start, len, port: PortId(0) });
                }
                ensure!(near.tx_burst(&mut pool, &mut leaving) == packets.len(), "the kernel took fewer");
                ensure!(near.counters().merged == merged + 1, "not one write");
                let split = far.counters().split;
                let (mut came, start) = (Vec::new(), Instant::now());
                while came.len() < packets.len() && start.elapsed() < Duration::from_secs(5) {
                    far.rx_burst(&mut pool, &mut burst);
                    let ours =
                        |bytes: &&[u8]| matches!(bytes.get(14 + if is_v6 { 6 } else { 9 }), Some(6 | 17));
                    came.extend(
                        (0..burst.len())
                            .map(|i| burst.bytes(i))
                            .filter(ours)
                            .map(|bytes| bytes[14..].to_vec()),
                    );
                    burst.free_into(&mut pool);
                }
                let expected: Vec<_> = packets.into_iter().map(forwarded).collect();
                let what = format!("IPv6 {is_v6}, TCP {is_tcp}, offload {offload}: {} came", came.len());
                ensure!(came == expected, "{what}, and not as they were sent");
                ensure!(far.counters().split == split + u64::from(offload), "{what}: {:?}", far.counters());
                ensure!(far.counters().rx_refused == 0, "{what}: {:?}", far.counters());
            }
            ensure!(pool.available() == 512, "frames are missing");
        }
        Ok(())
    });
}
