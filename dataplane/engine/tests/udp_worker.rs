//! A worker between two UDP sockets: what cannot leave by one is counted under its reason, and its frame comes home.

#[allow(dead_code)]
mod memory_support;

use memory_support::{Rig, check};
use std::net::UdpSocket;
use zsync_engine::worker::{Output, Queue};
use zsync_io::udp::Udp;
use zsync_packet::flow::HashKey;
use zsync_packet::frame::FrameSize;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::{DropReason, PortId};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{PortFacts, Snapshot};
use zsync_pipelines::spec::parse;

const FRAMES: u32 = 64;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0];

/// Whatever comes by one goes by the other.
fn snapshot() -> Snapshot {
    let text = "[port.a]\nnetdev = \"a\"\n[port.b]\nnetdev = \"b\"\n[pipeline.wire]\ninput = [\"a\", \"b\"]\n\
                stages = [\"patch.wire\"]\n[patch.wire]\npairs = [[\"a\", \"b\"]]\n";
    let ports = vec![PortFacts { mac: MAC, mtu: 1500, ..PortFacts::default() }; 2];
    let (hash_key, states) = (HashKey::from_seed(1), [].into());
    let with = Resources { ports, fibs: [].into(), hash_key, workers: 1, states };
    let mut snapshot = compile(&parse(text, "udp.toml").unwrap().spec, 1, &with).unwrap();
    snapshot.assign(0);
    snapshot
}

#[test]
fn what_a_socket_cannot_send_is_counted_and_comes_home() {
    let sockets = ["127.0.0.1:0", "127.0.0.1:0"].map(|local| UdpSocket::bind(local).unwrap());
    let locals = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    let queues = sockets.into_iter().zip(locals).zip(0..).map(|((socket, local), port)| {
        Queue::new(Udp::new(socket.into(), local, PortId(port), MAC), PortId(port))
    });
    let pool = Pool::heap(FrameSize::K2, FRAMES, 1).unwrap().remove(0);
    let outputs = vec![Output::Own(0), Output::Own(1)];
    let mut worker = Rig::new(1).worker(pool, queues.collect(), outputs, snapshot());
    // They have another source port than the socket that they are to leave by.
    let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
    for n in 0..5 {
        stranger.send_to(&[n; 100], locals[0]).unwrap();
    }
    for now in 1..100 {
        worker.pass(now * 1_000_000);
    }
    let drops = &worker.counters().drops;
    assert_eq!(drops[DropReason::DeviceRefused as usize], 5);
    assert_eq!(drops[DropReason::TxRingFull as usize], 0, "there was room");
    check(&worker, FRAMES);
}
