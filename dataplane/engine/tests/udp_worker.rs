//! A worker between two UDP sockets: what cannot leave by one is counted under its reason, and its frame comes home; a ring that is no use
//! is counted while it is.

#[allow(dead_code)]
mod memory_support;

use memory_support::{Rig, check};
use std::net::UdpSocket;
use zsync_engine::worker::{Output, Queue};
use zsync_io::udp::Udp;
use zsync_io::uring::Shape;
use zsync_packet::flow::HashKey;
use zsync_packet::frame::FrameSize;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::{DropReason, PortId};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{PortFacts, Snapshot};
use zsync_pipelines::spec::parse;
use zsync_protocol::stats::PortCounter;

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

/// Queues by these sockets, whose ports are numbered from 0 on.
fn queues(sockets: [UdpSocket; 2]) -> Vec<Queue<Udp>> {
    let queue = |(socket, port): (UdpSocket, _)| {
        let local = socket.local_addr().unwrap();
        Queue::new(Udp::new(socket.into(), local, PortId(port), MAC), PortId(port))
    };
    sockets.into_iter().zip(0..).map(queue).collect()
}

fn pool() -> Pool {
    Pool::heap(FrameSize::K2, FRAMES, 1).unwrap().remove(0)
}

fn outputs() -> Vec<Output> {
    vec![Output::Own(0), Output::Own(1)]
}

#[test]
fn what_a_socket_cannot_send_is_counted_and_comes_home() {
    let sockets = ["127.0.0.1:0", "127.0.0.1:0"].map(|local| UdpSocket::bind(local).unwrap());
    let locals = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    let mut worker = Rig::new(1).worker(pool(), queues(sockets), outputs(), snapshot());
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

#[test]
fn a_ring_that_is_no_use_is_counted_until_a_successor_has_another() {
    let rig = Rig::new(1);
    let lost = |queues| {
        let mut worker = rig.worker(pool(), queues, outputs(), snapshot());
        (1..5).for_each(|now| _ = worker.pass(now * 1_000_000));
        [0, 1].map(|port: usize| worker.counters().ports[port][PortCounter::RingsLost as usize])
    };
    let sockets = || [(), ()].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let mut first = queues(sockets());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let local = socket.local_addr().unwrap();
    let mut udp = Udp::new(socket.into(), local, PortId(1), MAC);
    let none = std::fs::File::open("/dev/null").unwrap().into();
    let shape = Shape { submissions: 1, completions: 1, buffers: 1, submission: [0; 4], completion: [0; 4] };
    udp.go_by(none, shape).unwrap_err();
    first[1] = Queue::new(udp, PortId(1));
    assert_eq!(lost(first), [0, 1]);
    assert_eq!(lost(queues(sockets())), [0, 0]);
}
