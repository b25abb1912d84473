//! The whole pipeline under arbitrary packets: what the fuzz target runs, and what the tests replay its corpus through.
//!
//! An input is a list of packets: a byte that chooses the port, two of length (little endian), the packet. With [`REPAIR`]
//! set in the byte, the IPv4 header checksum is made right before the packet is sent: a fuzzer does not guess sums.
//! Keeps true, or panics: [`check`].

use crate::lab::{A, B, C, D, Lab, Outcome, PORTS, Way, mtu, port_mac};
use std::cell::RefCell;
use zsync_packet::checksum;
use zsync_packet::header::{Ethernet, Ipv4, Ipv6};
use zsync_packet::verdict::{DropReason, PortId, Verdict};

thread_local! {
    static LAB: RefCell<Lab> = RefCell::new(Lab::new());
}

/// Bit of a packet's first byte: its header checksum is to be made right.
pub(crate) const REPAIR: u8 = 0x80;

/// Runs one input.
pub(crate) fn run(input: &[u8]) {
    let mut packets: Vec<(PortId, Vec<u8>)> = Vec::new();
    let mut rest = input;
    while let Some((&[choice, low, high], behind)) = rest.split_first_chunk::<3>() {
        let len = usize::from(u16::from_le_bytes([low, high]) % 1793).min(behind.len());
        let (packet, behind) = behind.split_at(len);
        let mut packet = packet.to_vec();
        if choice & REPAIR != 0 {
            repair(&mut packet);
        }
        packets.push((PortId(u16::from(choice & !REPAIR) % PORTS), packet));
        rest = behind;
    }
    LAB.with_borrow_mut(|lab| {
        // A burst is of one port, as a queue is.
        for burst in packets.chunk_by(|(port, _), (next, _)| port == next) {
            let Some(&(port, _)) = burst.first() else { continue };
            let bytes: Vec<&[u8]> = burst.iter().map(|(_, bytes)| &bytes[..]).collect();
            for (input, outcome) in bytes.iter().zip(lab.process(port, &bytes)) {
                check(port, input, &outcome);
            }
        }
    });
}

/// Makes the header checksum right, if the packet has such a header behind an untagged Ethernet header.
fn repair(packet: &mut [u8]) {
    if let Some([0x45..=0x4f, ..]) = packet.get(14..34) {
        let end = 14 + usize::from(packet[14] & 0xf) * 4;
        packet[24..26].fill(0);
        if let Some(header) = packet.get(14..end) {
            let checksum = checksum::of(header).to_be_bytes();
            packet[24..26].copy_from_slice(&checksum);
        }
    }
}

/// An input of one port's packets: what [`run`] takes apart again.
pub(crate) fn encode(port: PortId, packets: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut input = Vec::new();
    for packet in packets {
        let packet = &packet.as_ref()[..packet.as_ref().len().min(1792)];
        input.push(port.0 as u8 | REPAIR);
        input.extend((packet.len() as u16).to_le_bytes());
        input.extend(packet);
    }
    input
}

/// What must hold of every packet, whatever is in it.
pub(crate) fn check(port: PortId, input: &[u8], outcome: &Outcome) {
    let output = &outcome.bytes;
    let cut =
        matches!(outcome.verdict, Verdict::Transmit(to) if to == A || to == B) && output.len() < input.len();
    assert!(cut || input.len() == output.len(), "a stage changed a length");
    if port == C || port == D {
        assert_eq!(outcome.verdict, Verdict::Transmit(if port == C { D } else { C }));
        assert_eq!(input, output, "a wire changed a packet");
        return;
    }
    if port != A && port != B {
        assert_eq!(outcome.verdict, Verdict::Drop(DropReason::NoPipeline));
        return;
    }
    match outcome.verdict {
        Verdict::Transmit(to) => forwarded(port, to, input, output),
        Verdict::Drop(DropReason::Undecided | DropReason::NoPipeline | DropReason::NoSuchPort) => {
            panic!("{:?}: not what a route answers", outcome.verdict)
        }
        Verdict::Drop(_) | Verdict::Punt => unchanged_but(port, input, output, &[]),
        other => panic!("{other:?} of port {}", port.0),
    }
}

fn forwarded(port: PortId, to: PortId, input: &[u8], output: &[u8]) {
    assert!(to == A || to == B, "no route leads to port {}", to.0);
    let (before, after) = (Ethernet::parse(input).unwrap(), Ethernet::parse(output).unwrap());
    assert_eq!(before.destination(), port_mac(port));
    assert_eq!(after.source(), port_mac(to));
    let neighbours = crate::lab::ROUTES.iter().filter_map(|(.., way)| match way {
        Way::Hops(hops) => Some(*hops),
        _ => None,
    });
    let sent = (to.0, after.destination());
    assert!(neighbours.flatten().any(|hop| *hop == sent), "no neighbour has that MAC behind that port");
    match input[14] >> 4 {
        4 => {
            let (before, after) =
                (Ipv4::parse(before.payload()).unwrap(), Ipv4::parse(after.payload()).unwrap());
            assert!(before.ttl() > 1 && !before.has_options());
            assert_eq!(after.ttl(), before.ttl() - 1);
            assert!(before.verify_checksum().is_ok() && after.verify_checksum().is_ok());
            assert!(u32::from(after.total_len()) <= mtu(to));
            if u32::from(before.total_len()) > mtu(to) {
                // The first part of it.
                assert!(!before.dont_fragment() && after.more_fragments());
                assert_eq!(before.fragment_offset(), after.fragment_offset());
                assert_eq!(output.len(), 14 + usize::from(after.total_len()));
                let input = &input[..output.len()];
                unchanged_but(port, input, output, &[0..12, 16..18, 20..21, 22..23, 24..26]);
            } else {
                assert_eq!(input.len(), output.len());
                unchanged_but(port, input, output, &[0..12, 22..23, 24..26]);
            }
        }
        6 => {
            let (before, after) =
                (Ipv6::parse(before.payload()).unwrap(), Ipv6::parse(after.payload()).unwrap());
            assert!(before.hop_limit() > 1);
            assert_eq!(after.hop_limit(), before.hop_limit() - 1);
            unchanged_but(port, input, output, &[0..12, 21..22]);
        }
        version => panic!("forwarded IP version {version}"),
    }
}

/// Outside of `except`, and of a checksum that was completed, the bytes are as they were.
fn unchanged_but(port: PortId, input: &[u8], output: &[u8], except: &[std::ops::Range<usize>]) {
    let changed: Vec<usize> = (0..input.len())
        .filter(|i| input[*i] != output[*i] && !except.iter().any(|range| range.contains(i)))
        .collect();
    let (Some(&first), Some(&last)) = (changed.first(), changed.last()) else { return };
    assert!(port == B, "bytes {changed:?} changed");
    assert!(first >= 14 + 20 + 6 && last <= first + 1, "more changed than one checksum: {changed:?}");
}
