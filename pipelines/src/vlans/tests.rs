use super::*;
use crate::snapshot::{AnyStage, MAX_STAGES, Pipeline, Placed, Snapshot, StageCount};
use crate::spec::vlan::VlanTag as Tag;
use crate::stage::{Extra, Spawned};
use crate::stages::patch::Patch;
use zsync_packet::burst::Packet;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::build;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PipelineId;

// Ports: two with devices, VLAN 100 of the first, a provider's VLAN 200 of the first, and VLAN 7 in that.
const WAN: PortId = PortId(0);
const LAN: PortId = PortId(1);
const GUEST: PortId = PortId(2);
const CARRIER: PortId = PortId(3);
const INSIDE: PortId = PortId(4);

const CUSTOMER: VlanTag = VlanTag::new(100);
const PROVIDER: VlanTag = VlanTag::provider(200);
const SEVEN: VlanTag = VlanTag { tpid: ether_type::VLAN, tci: 0x6007 };

fn vlan(id: PortId, parent: PortId, tag: VlanTag) -> VlanPort {
    let tag = Tag { id: tag.id(), priority: tag.priority(), provider: tag.tpid == ether_type::QINQ };
    let (id, parent) = (crate::spec::PortId(id.0), crate::spec::PortId(parent.0));
    VlanPort { id, name: format!("v{}", tag.id), parent, tag, netdev: None }
}

fn vlans() -> Vlans {
    Vlans::new(5, &[vlan(GUEST, WAN, CUSTOMER), vlan(CARRIER, WAN, PROVIDER), vlan(INSIDE, CARRIER, SEVEN)])
}

/// Every port's packets through one wire, as `to` says.
fn snapshot(to: [Option<PortId>; 5]) -> Snapshot {
    let stage = AnyStage::Patch(Patch::new(to));
    let wire = Pipeline {
        name: "wire".to_owned(),
        stages: vec![Placed { label: "patch.wire".to_owned(), number: 0, stage }],
    };
    Snapshot { epoch: 1, pipelines: vec![wire], entry: vec![Some(PipelineId(0)); 5], vlans: vlans() }
}

fn frame(tags: &[VlanTag], payload: u8) -> Vec<u8> {
    build::ethernet([2; 6], [4; 6], tags, ether_type::ARP, &[payload; 46])
}

/// Sends the frames in at a port; what comes out, and how often a pipeline saw one.
fn send(snapshot: &mut Snapshot, port: PortId, frames: &[Vec<u8>]) -> (Vec<(Verdict, Vec<u8>)>, u64) {
    let mut pool = Pool::heap(FrameSize::K2, 64, 1).unwrap().remove(0);
    let mut burst = Burst::new(pool.arena().clone());
    for bytes in frames {
        let (mut frame, len) = (pool.alloc().unwrap(), bytes.len() as u16);
        pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(bytes);
        burst.push(Packet { frame, start: HEADROOM as u16, len, port }).unwrap();
    }
    let mut counts = [StageCount::default(); MAX_STAGES];
    snapshot.process(port, &mut burst, &mut Cx::at(1), &mut counts);
    assert_eq!(burst.live(), 0);
    let mut out = Vec::new();
    burst.drain(|packet, verdict, _| {
        out.push((verdict, pool.arena().bytes(&packet.frame, packet.start, packet.len).to_vec()));
        pool.free(packet.frame);
    });
    assert_eq!(pool.audit(0, 0).leaked, 0);
    (out, counts[0].packets)
}

#[test]
fn a_tag_says_which_port_it_is_and_comes_off() {
    let mut snapshot = snapshot([Some(LAN), None, Some(LAN), Some(LAN), Some(LAN)]);
    let frames = [
        frame(&[], 1),
        frame(&[CUSTOMER], 2),
        frame(&[PROVIDER], 3),
        frame(&[PROVIDER, SEVEN], 4),
        frame(&[VlanTag { tci: 0xe000, ..CUSTOMER }], 5),
        frame(&[VlanTag { tci: 0xf064, ..CUSTOMER }], 6),
    ];
    let (out, seen) = send(&mut snapshot, WAN, &frames);
    for (n, out) in out.iter().enumerate() {
        assert_eq!(*out, (Verdict::Transmit(LAN), frame(&[], n as u8 + 1)));
    }
    assert_eq!(seen, 6, "each once");
}

#[test]
fn a_vlan_that_is_no_port_is_refused_and_only_where_there_are_any() {
    let mut snapshot = snapshot([Some(LAN), Some(WAN), Some(LAN), Some(LAN), Some(LAN)]);
    let unknown = Verdict::Drop(DropReason::VlanUnknown);
    let truncated = Verdict::Drop(DropReason::EthernetTruncated);
    let frames = [
        frame(&[VlanTag::new(101)], 1),
        frame(&[VlanTag::provider(100)], 2),
        frame(&[VlanTag::new(200)], 3),
        frame(&[PROVIDER, VlanTag::new(8)], 4),
        frame(&[CUSTOMER], 5)[..15].to_vec(),
    ];
    let (out, _) = send(&mut snapshot, WAN, &frames);
    let verdicts: Vec<Verdict> = out.iter().map(|out| out.0).collect();
    assert_eq!(verdicts, [unknown, unknown, unknown, unknown, truncated]);
    // Another port's tags are its own business.
    let tagged = frame(&[VlanTag::new(9)], 1);
    let (out, _) = send(&mut snapshot, LAN, std::slice::from_ref(&tagged));
    assert_eq!(out, [(Verdict::Transmit(WAN), tagged)]);
}

#[test]
fn on_the_way_out_the_tag_goes_on_and_the_frame_leaves_by_the_device() {
    for (to, tags) in [(GUEST, &[CUSTOMER][..]), (CARRIER, &[PROVIDER]), (INSIDE, &[PROVIDER, SEVEN])] {
        let mut snapshot = snapshot([None, Some(to), None, None, None]);
        let (out, _) = send(&mut snapshot, LAN, &[frame(&[], 1), frame(&[], 2)]);
        assert_eq!(out, [1, 2].map(|n| (Verdict::Transmit(WAN), frame(tags, n))));
    }
    // From one VLAN of a device to another, and back to itself.
    let mut snapshot = snapshot([None, None, Some(INSIDE), None, Some(INSIDE)]);
    let (out, _) = send(&mut snapshot, WAN, &[frame(&[CUSTOMER], 1), frame(&[PROVIDER, SEVEN], 2)]);
    assert_eq!(out, [1, 2].map(|n| (Verdict::Transmit(WAN), frame(&[PROVIDER, SEVEN], n))));
}

#[test]
fn what_stages_made_is_tagged_too() {
    let mut pool = Pool::heap(FrameSize::K2, 8, 1).unwrap().remove(0);
    let (mut burst, mut extra) = (Burst::new(pool.arena().clone()), Extra::new());
    let mut cx = Cx::new(1, &mut pool, &mut extra);
    for (n, to) in [INSIDE, LAN, GUEST].into_iter().enumerate() {
        let bytes = frame(&[], 9);
        assert!(cx.spawn(n, LAN, bytes.len(), Verdict::Transmit(to), 0, |out| out.copy_from_slice(&bytes)));
    }
    vlans().transmit(&mut burst, &mut cx);
    let mut out = Vec::new();
    for Spawned { packet, verdict, .. } in extra.drain() {
        out.push((verdict, pool.arena().bytes(&packet.frame, packet.start, packet.len).to_vec()));
        pool.free(packet.frame);
    }
    assert_eq!(
        out,
        [
            (Verdict::Transmit(WAN), frame(&[PROVIDER, SEVEN], 9)),
            (Verdict::Transmit(LAN), frame(&[], 9)),
            (Verdict::Transmit(WAN), frame(&[CUSTOMER], 9)),
        ]
    );
}
