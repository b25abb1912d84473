//! What the tests of the stages share: ports, packets to them, and a pool to run bursts from.
//!
//! Keeps true: after every run all frames are back in the pool; after [`run`] no stage changed a length or made a packet.

use crate::snapshot::PortFacts;
use crate::stage::{Cx, EXTRA, Extra, Spawned, Stage};
use zsync_packet::burst::{BURST, Burst, Facts, Packet};
use zsync_packet::flow::FlowKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec};
use zsync_packet::header::{Mac, corpus, ether_type};
use zsync_packet::pool::Pool;
use zsync_packet::verdict::{PortId, Verdict};

/// Where the test's packets come in.
pub(crate) const IN: PortId = PortId(0);
/// Where they leave.
pub(crate) const OUT: PortId = PortId(1);
/// The address of [`IN`].
pub(crate) const MAC_IN: Mac = corpus::MACS.1;
/// The address of [`OUT`].
pub(crate) const MAC_OUT: Mac = [0x02, 0, 0, 0, 1, 1];
/// The longest packet of [`OUT`], shorter than that of [`IN`].
pub(crate) const MTU_OUT: u32 = 1400;

/// A packet after the stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) verdict: Verdict,
    pub(crate) bytes: Vec<u8>,
    pub(crate) facts: Facts,
    pub(crate) key: FlowKey,
}

pub(crate) fn ports() -> Vec<PortFacts> {
    vec![
        PortFacts { mac: MAC_IN, mtu: 1500, complete_checksums: false, ..PortFacts::default() },
        PortFacts { mac: MAC_OUT, mtu: MTU_OUT, complete_checksums: false, ..PortFacts::default() },
    ]
}

/// Runs the packets through the stages, one after the other, as one burst that came in at `port`.
pub(crate) fn run<P: AsRef<[u8]>>(
    stages: &mut [&mut dyn Stage],
    port: PortId,
    packets: &[P],
    now: u64,
) -> Vec<Seen> {
    let (seen, made) = run_and_make(stages, port, packets, now);
    assert_eq!(made, []);
    seen.iter().zip(packets).for_each(|(seen, was)| assert_eq!(seen.bytes.len(), was.as_ref().len()));
    seen
}

/// [`run`] for stages that change lengths and make packets: the packets, and those that were made.
pub(crate) fn run_and_make<P: AsRef<[u8]>>(
    stages: &mut [&mut dyn Stage],
    port: PortId,
    packets: &[P],
    now: u64,
) -> (Vec<Seen>, Vec<Seen>) {
    let frames = (BURST + EXTRA) as u32;
    let mut pool = Pool::heap(FrameSize::K2, frames, 1).unwrap().remove(0);
    let mut burst = Burst::new(pool.arena().clone());
    let mut extra = Extra::new();
    for packet in packets {
        let (mut frame, packet) = (pool.alloc().unwrap(), packet.as_ref());
        let len = packet.len() as u16;
        pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(packet);
        burst.push(Packet { frame, start: HEADROOM as u16, len, port }).unwrap();
    }
    for stage in stages {
        stage.process(&mut burst, &mut Cx::new(now, &mut pool, &mut extra));
    }
    let (mut seen, mut made) = (Vec::new(), Vec::new());
    let keys: Vec<FlowKey> = (0..burst.len()).map(|i| *burst.key(i)).collect();
    burst.drain(|packet, verdict, facts| {
        let bytes = pool.arena().bytes(&packet.frame, packet.start, packet.len).to_vec();
        seen.push(Seen { verdict, bytes, facts: *facts, key: keys[seen.len()] });
        pool.free(packet.frame);
    });
    for Spawned { packet, verdict, delay, .. } in extra.drain() {
        let bytes = pool.arena().bytes(&packet.frame, packet.start, packet.len).to_vec();
        let facts = Facts { delay, ..Facts::default() };
        made.push(Seen { verdict, bytes, facts, key: FlowKey::NONE });
        pool.free(packet.frame);
    }
    let audit = pool.audit(0, 0);
    assert_eq!((audit.pool, audit.leaked, audit.misplaced), (frames, 0, 0));
    (seen, made)
}

/// [`run`] for one packet.
pub(crate) fn run_one(stages: &mut [&mut dyn Stage], packet: &[u8]) -> Seen {
    run(stages, IN, &[packet], 0).remove(0)
}

/// The corpus's valid packet of that name.
pub(crate) fn sample(name: &str) -> Vec<u8> {
    corpus::valid().into_iter().find(|sample| sample.name == name).expect("the corpus has it").bytes
}

/// An IPv4 packet to the port [`IN`].
pub(crate) fn on_v4(ip: &Ipv4Spec, payload: &[u8]) -> Vec<u8> {
    build::ethernet(MAC_IN, corpus::MACS.0, &[], ether_type::IPV4, &ip.packet(payload))
}

/// An IPv6 packet to the port [`IN`].
pub(crate) fn on_v6(ip: &Ipv6Spec, payload: &[u8]) -> Vec<u8> {
    build::ethernet(MAC_IN, corpus::MACS.0, &[], ether_type::IPV6, &ip.packet(payload))
}

/// An empty packet between two IPv4 addresses.
pub(crate) fn v4(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    on_v4(&Ipv4Spec::new(source.into(), destination.into(), 253), &[])
}

/// An empty packet between two IPv6 addresses.
pub(crate) fn v6(source: &str, destination: &str) -> Vec<u8> {
    on_v6(&Ipv6Spec::new(source.parse().unwrap(), destination.parse().unwrap(), 59), &[])
}
