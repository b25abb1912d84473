//! The same packets through every device give the same bytes: here capture files and memory. (AF_XDP, which needs root and a
//! network namespace, is compared with the same replay by the whole-process tests.)

#[allow(dead_code)]
mod memory_support;

use memory_support::lab::{A, B, C, D, PORTS};
use memory_support::{RINGS, Rig, check, snapshot, wire};
use std::collections::VecDeque;
use zsync_engine::replay::{ReplayError, replay};
use zsync_engine::worker::Output;
use zsync_io::memory::Config;
use zsync_packet::frame::FrameSize;
use zsync_packet::header::corpus;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::{DropReason, PortId};

/// A classic capture, little endian, microseconds.
fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file: Vec<u8> =
        [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65535, 1].into_iter().flat_map(u32::to_le_bytes).collect();
    for (second, packet) in packets.iter().enumerate() {
        let len = packet.len() as u32;
        file.extend([second as u32, 0, len, len].into_iter().flat_map(u32::to_le_bytes));
        file.extend(packet);
    }
    file
}

/// The packets of a capture that a replay wrote.
fn packets(mut file: &[u8]) -> Vec<Vec<u8>> {
    file = &file[24..];
    let mut packets = Vec::new();
    while let Some((header, rest)) = file.split_first_chunk::<16>() {
        let (packet, rest) = rest.split_at(u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize);
        packets.push(packet.to_vec());
        file = rest;
    }
    packets
}

/// What leaves by each port when a host sends `packets` to `input`, `at_once` at a time, over memory devices.
fn over_memory(input: PortId, packets: &[Vec<u8>], at_once: usize, config: Config) -> Vec<Vec<Vec<u8>>> {
    let ports = [A, B, C, D];
    let of = |port| if port == input { packets.to_vec() } else { vec![vec![0]] };
    let (queues, mut hosts): (Vec<_>, Vec<_>) =
        ports.into_iter().map(|port| wire(port, config, of(port))).unzip();
    let mut outputs: Vec<Output> = (0..ports.len()).map(Output::Own).collect();
    outputs.resize(usize::from(PORTS), Output::Nowhere);
    let pool = Pool::heap(FrameSize::K2, 1024, 1).unwrap().remove(0);
    let mut worker = Rig::new(1).worker(pool, queues, outputs, snapshot());
    hosts.iter_mut().for_each(|host| host.kept = Some(VecDeque::new()));
    let (mut sent, mut quiet) = (0, 0);
    while quiet < 4 {
        let mut moved = 0;
        if sent < packets.len() {
            let some = hosts[usize::from(input.0)].send(at_once.min(packets.len() - sent));
            (sent, moved) = (sent + some, some);
        }
        // The clock stands, as a replay's does: how many ICMP errors are sent depends on the time.
        moved += worker.pass(0);
        moved += hosts.iter_mut().map(|host| host.receive()).sum::<usize>();
        quiet = if moved == 0 { quiet + 1 } else { 0 };
    }
    check(&worker, 1024);
    assert_eq!(worker.counters().drops[DropReason::TxRingFull as usize], 0, "the hosts keep up");
    hosts.into_iter().map(|host| host.kept.unwrap().into()).collect()
}

#[test]
fn captures_and_memory_give_the_same_bytes() {
    let all: Vec<Vec<u8>> = corpus::all().filter(|packet| !packet.is_empty()).collect();
    let all: Vec<Vec<u8>> = (0..all.len()).map(|i| all[i * 7919 % all.len()].clone()).collect();
    let file = capture(&all);
    for input in [A, B, C] {
        let replayed = replay(snapshot(), PORTS, input, &file[..]).unwrap();
        assert_eq!(replayed.counters.rx_packets as usize, all.len());
        assert_eq!(replayed.counters.balance(), 0);
        let again = replay(snapshot(), PORTS, input, &file[..]).unwrap();
        assert_eq!(replayed.captures, again.captures, "every time");
        let sent: Vec<Vec<Vec<u8>>> = replayed.captures.iter().map(|file| packets(file)).collect();
        assert!(input == B || sent.iter().map(Vec::len).sum::<usize>() > 1000);
        // Bursts of one, of an odd number, full ones: and rings that are longer, and shorter.
        for (at_once, rx) in [(1, 128), (7, 64), (48, 128), (64, 256)] {
            let memory = over_memory(input, &all, at_once, Config { rx, tx: 256, ..RINGS });
            assert_eq!(memory[..], sent[..4], "{at_once} packets at a time");
        }
    }
}

#[test]
fn a_replay_says_why_it_cannot() {
    let whole = capture(&[vec![1; 60], vec![2; 60]]);
    let error = replay(snapshot(), PORTS, C, &b"no capture at all, but long"[..]).unwrap_err();
    assert!(
        matches!(error, ReplayError::Capture(_)) && error.to_string().contains("no classic pcap"),
        "{error}"
    );
    let error = replay(snapshot(), PORTS, C, &whole[..whole.len() - 1]).unwrap_err();
    assert!(error.to_string().contains("record 2"), "{error}");
    let nothing = replay(snapshot(), PORTS, C, &capture(&[])[..]).unwrap();
    assert!(nothing.captures.iter().all(|file| packets(file).is_empty()));
    // From a port that is not there, nothing comes.
    let nobody = replay(snapshot(), PORTS, PortId(PORTS), &whole[..]).unwrap();
    assert_eq!(nobody.counters.rx_packets, 0);
}
