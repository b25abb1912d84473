//! Runs, and what the other way makes of them: cut again, they are what they were.

use super::*;
use crate::virtio::split::Cut;
use proptest::prelude::*;
use std::collections::BTreeMap;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};
use zsync_packet::header::{Ipv4Mut, Ipv6Mut, TcpMut, UdpMut};

/// A flow of either family and protocol.
#[derive(Clone, Copy, Debug)]
struct Flow {
    is_v6: bool,
    is_tcp: bool,
    port: u16,
    options: usize,
}

fn flow() -> impl Strategy<Value = Flow> {
    let options = prop::sample::select(vec![0, 12, 40]);
    (any::<bool>(), any::<bool>(), 1000..1003_u16, options).prop_map(|(is_v6, is_tcp, port, options)| Flow {
        is_v6,
        is_tcp,
        port,
        options,
    })
}

impl Flow {
    fn ip(self, identification: u16, upper: impl Fn(Sum) -> Vec<u8>) -> Vec<u8> {
        let protocol = if self.is_tcp { protocol::TCP } else { protocol::UDP };
        if self.is_v6 {
            let spec = Ipv6Spec::new("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap(), protocol);
            return spec.packet(&upper(spec.address_sum()));
        }
        let mut spec = Ipv4Spec::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), protocol);
        spec.identification = identification;
        spec.packet(&upper(spec.address_sum()))
    }

    /// One of its packets.
    fn packet(self, number: u16, sequence: u32, flags: TcpFlags, payload: &[u8]) -> Vec<u8> {
        self.ip(number, |addresses| match self.is_tcp {
            true => {
                let options = (0..self.options).map(|n| if n % 12 == 0 { 1 } else { n as u8 }).collect();
                let spec = TcpSpec {
                    sequence,
                    acknowledgement: 7,
                    window: 512,
                    options,
                    ..TcpSpec::new(self.port, 80, flags)
                };
                spec.segment(addresses, payload)
            }
            false => build::udp(addresses, self.port, 80, payload),
        })
    }

    /// Consecutive packets of these lengths.
    fn stream(self, sequence: u32, sizes: &[usize]) -> Vec<Vec<u8>> {
        let mut at = 0;
        let packets = (0..).zip(sizes).map(|(i, size)| {
            let payload: Vec<u8> = (at..at + size).map(|n| (n * 7 + n / 251) as u8).collect();
            at += size;
            let number = u32::wrapping_add(sequence, (at - size) as u32);
            self.packet(u16::wrapping_add(sequence as u16, i), number, TcpFlags::ACK, &payload)
        });
        packets.collect()
    }
}

/// Fills all checksums of a packet in.
fn mend(packet: &mut [u8]) {
    fn upper(protocol: u8, addresses: Sum, bytes: &mut [u8]) {
        if protocol == protocol::TCP {
            let _ = TcpMut::parse(bytes).map(|mut tcp| tcp.fill_checksum(addresses));
        } else {
            let _ = UdpMut::parse(bytes).map(|mut udp| udp.fill_checksum(addresses));
        }
    }
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        let header = usize::from(packet[0] & 0xf) * 4;
        if let Some(sum) = packet.get(..header).map(checksum::of) {
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        if let Ok(mut ip) = Ipv4Mut::parse(packet) {
            let (protocol, sum) = (ip.view().protocol(), ip.view().address_sum());
            upper(protocol, sum, ip.payload_mut());
        }
    } else if let Ok(mut ip) = Ipv6Mut::parse(packet) {
        let (protocol, sum) = (ip.view().next_header(), ip.view().address_sum());
        upper(protocol, sum, ip.payload_mut());
    }
}

/// What is written for these packets, and how the kernel would cut it; and the number of writes.
fn through(packets: &[Vec<u8>]) -> (Vec<Vec<u8>>, usize) {
    let all: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    let mut runs = Runs::new(true);
    runs.find(&all);
    let (mut out, mut writes) = (Vec::new(), 0);
    for run in runs.iter() {
        writes += 1;
        let mut headers = [0; HEADERS];
        match run.write_headers(all[run.first()], &mut headers) {
            None => {
                assert_eq!(run.count(), 1);
                out.extend(runs.members(run).map(|i| all[i].to_vec()));
            }
            Some((header, len)) => {
                let body = runs.payloads(run, &all).flatten().copied();
                let whole: Vec<u8> = headers[..len].iter().copied().chain(body).collect();
                assert!(whole.len() <= LONGEST);
                let mut cut = Cut::new(&header, &whole, 2048).unwrap();
                let mut room = [0; 2048];
                while let Some(len) = cut.next(&whole, &mut room) {
                    out.push(room[..len].to_vec());
                }
                assert!(cut.is_done() && cut.is_split());
            }
        }
    }
    (out, writes)
}

/// What a packet may not overtake: packets of the same flow, or all.
fn key(packet: &[u8]) -> Option<Vec<u8>> {
    let part = look(packet, true)?;
    let at = usize::from(part.transport);
    let addresses = if at == 20 { 12..20 } else { 8..40 };
    Some([&packet[addresses], &packet[at..at + 4], &[u8::from(part.is_tcp)]].concat())
}

/// The packets by flow, and where in all of them those of no flow are.
fn by_flow(packets: &[Vec<u8>]) -> Vec<BTreeMap<Vec<u8>, Vec<&[u8]>>> {
    let mut spans = vec![BTreeMap::<_, Vec<_>>::new()];
    for packet in packets {
        let key = key(packet);
        let is_barrier = key.is_none();
        // What is behind the length that its header says is no part of it.
        let number = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        let packet = match packet[0] >> 4 {
            _ if is_barrier => packet,
            4 => &packet[..number(2)],
            _ => &packet[..40 + number(4)],
        };
        spans.last_mut().unwrap().entry(key.unwrap_or_default()).or_default().push(packet);
        if is_barrier {
            spans.push(BTreeMap::new());
        }
    }
    spans
}

#[test]
fn a_stream_leaves_in_one_write() {
    for is_v6 in [false, true] {
        for is_tcp in [false, true] {
            let flow = Flow { is_v6, is_tcp, port: 9, options: 12 };
            // Numbers that wrap on the way, and a last one that is shorter and odd.
            let packets = flow.stream(u32::MAX - 3000, &[1000, 1000, 1000, 1000, 333]);
            assert_eq!(through(&packets), (packets.clone(), 1));
            let longer = flow.stream(1, &[100, 100, 101]);
            assert_eq!(through(&longer), (longer.clone(), 2), "a longer one begins anew");
        }
    }
}

#[test]
fn flows_that_take_turns_are_told_apart() {
    let flows = [(false, true), (true, true), (false, false), (true, false)]
        .map(|(is_v6, is_tcp)| Flow { is_v6, is_tcp, port: 7, options: 0 }.stream(1, &[500; 16]));
    let packets: Vec<_> = (0..16).flat_map(|n| flows.each_ref().map(|flow| flow[n].clone())).collect();
    let (out, writes) = through(&packets);
    assert_eq!((writes, out), (4, flows.concat()));
}

#[test]
fn a_wrong_checksum_is_not_made_right() {
    for is_v6 in [false, true] {
        for is_tcp in [false, true] {
            let flow = Flow { is_v6, is_tcp, port: 9, options: 0 };
            for wrong in 0..4 {
                let mut packets = flow.stream(1, &[100; 4]);
                *packets[wrong].last_mut().unwrap() ^= 1;
                let (out, writes) = through(&packets);
                assert_eq!((out, writes), (packets, [2, 3, 3, 2][wrong]));
            }
        }
    }
    let mut packets = Flow { is_v6: false, is_tcp: true, port: 9, options: 0 }.stream(1, &[100; 3]);
    packets[1][10] ^= 1;
    assert_eq!(through(&packets), (packets.clone(), 3), "that of an IPv4 header");
}

#[test]
fn flags_stand_where_segmentation_leaves_them() {
    let flow = Flow { is_v6: false, is_tcp: true, port: 9, options: 0 };
    let cases = [
        // Pushed at the end; then the next begins anew.
        (vec![0x10, 0x10, 0x18, 0x10], 2),
        (vec![0x10, 0x10, 0x19], 1),
        // The window was reduced: first only.
        (vec![0x90, 0x10, 0x10], 1),
        (vec![0x10, 0x90, 0x10], 2),
        (vec![0x50, 0x50, 0x10], 2),
        // Urgent data, resets and openings go alone.
        (vec![0x10, 0x30, 0x10], 3),
        (vec![0x10, 0x14, 0x10], 3),
        (vec![0x02, 0x10, 0x10], 2),
        (vec![0x08, 0x10], 2),
    ];
    for (flags, expected) in cases {
        let packets: Vec<_> = (0..)
            .zip(&flags)
            .map(|(i, flags)| flow.packet(i, 100 * u32::from(i), TcpFlags(*flags), &[i as u8; 100]))
            .collect();
        assert_eq!(through(&packets), (packets.clone(), expected), "{flags:x?}");
    }
}

#[test]
fn what_ends_a_run() {
    let tcp = Flow { is_v6: false, is_tcp: true, port: 9, options: 0 };
    let packets = tcp.stream(1, &[100, 100, 100, 100]);
    let acknowledgement = tcp.packet(9, 201, TcpFlags::ACK, &[]);
    let ping = Ipv4Spec::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), protocol::ICMP)
        .packet(&build::icmp(8, 0, [0; 4], b"hello"));
    for between in [acknowledgement, ping] {
        let mut packets = packets.clone();
        packets.insert(2, between);
        assert_eq!(through(&packets), (packets.clone(), 3));
    }
    // A datagram without a checksum has none afterwards, and a run has room for 64 KiB.
    let udp = Flow { is_v6: false, is_tcp: false, port: 9, options: 0 };
    let mut packets = udp.stream(1, &[50; 3]);
    packets.iter_mut().for_each(|packet| packet[26..28].fill(0));
    assert_eq!(through(&packets), (packets.clone(), 3));
    let packets = udp.stream(1, &[1472; 46]);
    let (out, writes) = through(&packets);
    assert_eq!((out, writes), (packets, 2), "44 datagrams of 1,472 bytes are less than 64 KiB, 45 are more");
    let mut runs = Runs::new(false);
    let packets = udp.stream(1, &[50; 3]);
    runs.find(&packets.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert_eq!(runs.iter().count(), 3, "a kernel that does not know of datagrams");
}

#[test]
fn padding_of_a_frame_is_no_payload() {
    let mut packets = Flow { is_v6: false, is_tcp: true, port: 9, options: 0 }.stream(1, &[10, 2]);
    let expected = packets.clone();
    packets[1].extend([0xee; 4]);
    assert_eq!(through(&packets), (expected, 1));
}

/// Something done to one packet of a stream.
#[derive(Clone, Debug)]
enum Change {
    /// A bit of its headers is another, and the checksums are right for it, or not.
    Bit(prop::sample::Index, u8, bool),
    Lost,
    Twice,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (any::<prop::sample::Index>(), 0..8_u8, any::<bool>()).prop_map(|(at, bit, mended)| Change::Bit(at, bit, mended)),
        1 => Just(Change::Lost),
        1 => Just(Change::Twice),
    ]
}

proptest! {
    /// Any bursts, merged and cut again, are what they were: per flow, byte for byte, in order.
    #[test]
    fn cut_again_they_are_what_they_were(
        flows in prop::collection::vec((flow(), any::<u32>(), 1..300_usize, 1..20_usize, 0..300_usize), 1..5),
        changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 0..6),
        order in any::<u64>(),
    ) {
        let mut streams: Vec<Vec<Vec<u8>>> = flows
            .iter()
            .map(|(flow, sequence, size, count, last)| {
                let sizes: Vec<usize> = std::iter::repeat_n(*size, *count).chain([*last]).collect();
                flow.stream(*sequence, &sizes)
            })
            .collect();
        // They take turns, by the bits of `order`.
        streams.iter_mut().for_each(|stream| stream.reverse());
        let mut packets = Vec::new();
        let mut turn = order;
        while streams.iter().any(|stream| !stream.is_empty()) && packets.len() < 60 {
            let mut left: Vec<_> = streams.iter_mut().filter(|stream| !stream.is_empty()).collect();
            let which = turn as usize % left.len();
            turn = turn.rotate_right(3);
            packets.extend(left[which].pop());
        }
        for (which, change) in changes {
            if packets.is_empty() {
                break;
            }
            let i = which.index(packets.len());
            match change {
                Change::Lost => drop(packets.remove(i)),
                Change::Twice => packets.insert(i, packets[i].clone()),
                Change::Bit(at, bit, mended) => {
                    let packet = &mut packets[i];
                    let at = at.index(packet.len().min(64));
                    packet[at] ^= 1 << bit;
                    if mended {
                        mend(packet);
                    }
                }
            }
        }
        let (out, writes) = through(&packets);
        prop_assert!(writes <= packets.len());
        prop_assert_eq!(by_flow(&out), by_flow(&packets));
    }

    /// What the kernel leaves uncut comes together again as it was.
    #[test]
    fn what_was_cut_comes_together(
        flow in flow(), sequence in any::<u32>(), size in 1..1400_usize, count in 1..40_usize, last in 1..1400_usize, flags in 0..16_u8,
    ) {
        let count = count.min(60_000 / size);
        let sizes: Vec<usize> = std::iter::repeat_n(size, count).chain([last.min(size)]).collect();
        let mut packets = flow.stream(sequence, &sizes);
        if flow.is_tcp {
            // First and last have what only they have.
            let at = if flow.is_v6 { 40 } else { 20 } + 13;
            let [first, closing] = [TcpFlags::CWR.0 * (flags & 1), (flags >> 1 & 1) | (flags & 4) << 1];
            packets[0][at] |= first;
            packets[count][at] |= closing;
            packets.iter_mut().for_each(|packet| mend(packet));
        }
        prop_assert_eq!(through(&packets), (packets.clone(), 1));
    }
}
