use super::*;
use crate::spec::vlan::VlanTag as Tag;
use crate::stages::fixture::{IN, MAC_IN, Seen, ports, run_and_make, v4};
use crate::stages::parse::Parse;
use proptest::prelude::*;
use zsync_packet::header::{build, corpus, ether_type};

fn tag(id: u16, priority: u8, provider: bool) -> Tag {
    Tag { id, priority, provider }
}

fn spec(of: Option<u16>, action: VlanAction) -> VlanSpec {
    VlanSpec { of, action, priority: None, provider: false }
}

fn frame(tags: &[VlanTag]) -> Vec<u8> {
    build::ethernet(MAC_IN, corpus::MACS.0, tags, ether_type::IPV4, &v4([10, 1, 0, 2], [10, 2, 0, 2])[14..])
}

fn run(spec: VlanSpec, frame: &[u8]) -> Seen {
    run_and_make(&mut [&mut Vlan::new(spec)], IN, &[frame], 0).0.remove(0)
}

fn act(of: Option<u16>, action: VlanAction, frame: &[u8]) -> (Verdict, Vec<u8>) {
    let seen = run(spec(of, action), frame);
    (seen.verdict, seen.bytes)
}

const CUSTOMER: VlanTag = VlanTag::new(5);
const PROVIDER: VlanTag = VlanTag::provider(100);

#[test]
fn a_tag_is_put_on_up_to_two() {
    let push = |tag| VlanAction::Push(tag);
    assert_eq!(act(None, push(tag(5, 0, false)), &frame(&[])), (Verdict::Next, frame(&[CUSTOMER])));
    assert_eq!(
        act(None, push(tag(100, 0, true)), &frame(&[CUSTOMER])),
        (Verdict::Next, frame(&[PROVIDER, CUSTOMER]))
    );
    let with_priority = VlanTag { tpid: 0x8100, tci: 0xc005 };
    assert_eq!(act(None, push(tag(5, 6, false)), &frame(&[])).1, frame(&[with_priority]));
    for (full, reason) in [
        (frame(&[PROVIDER, CUSTOMER]), DropReason::VlanTooDeep),
        (frame(&[CUSTOMER; 3]), DropReason::VlanTooDeep),
        (frame(&[])[..13].to_vec(), DropReason::EthernetTruncated),
        (frame(&[CUSTOMER])[..17].to_vec(), DropReason::EthernetTruncated),
    ] {
        assert_eq!(act(None, push(tag(9, 0, false)), &full), (Verdict::Drop(reason), full));
    }
}

#[test]
fn the_outer_tag_comes_off_and_is_known() {
    let seen = run(spec(None, VlanAction::Pop), &frame(&[PROVIDER, CUSTOMER]));
    assert_eq!((seen.verdict, seen.bytes, seen.facts.vlan), (Verdict::Next, frame(&[CUSTOMER]), 100));
    let seen = run(spec(None, VlanAction::Pop), &frame(&[]));
    assert_eq!((seen.verdict, seen.bytes, seen.facts.vlan), (Verdict::Next, frame(&[]), 0));
}

#[test]
fn id_and_priority_are_rewritten_each_alone_or_both() {
    let was = VlanTag { tpid: 0x88a8, tci: 0xb064 };
    let rewrite = |id, priority| act(None, VlanAction::Rewrite { id, priority }, &frame(&[was, CUSTOMER])).1;
    let now = |tci| frame(&[VlanTag { tci, ..was }, CUSTOMER]);
    assert_eq!(rewrite(Some(7), None), now(0xb007));
    assert_eq!(rewrite(None, Some(1)), now(0x3064));
    assert_eq!(rewrite(Some(4094), Some(7)), now(0xfffe));
    let action = VlanAction::Rewrite { id: Some(7), priority: None };
    assert_eq!(act(None, action, &frame(&[])), (Verdict::Next, frame(&[])));
}

#[test]
fn only_the_vlan_that_it_is_for() {
    for action in [
        VlanAction::Pop,
        VlanAction::Push(tag(1, 0, false)),
        VlanAction::Rewrite { id: Some(1), priority: None },
    ] {
        for other in [frame(&[]), frame(&[PROVIDER]), frame(&[PROVIDER, CUSTOMER])] {
            assert_eq!(act(Some(5), action, &other), (Verdict::Next, other));
        }
        assert_ne!(act(Some(5), action, &frame(&[CUSTOMER])).1, frame(&[CUSTOMER]));
    }
}

#[test]
fn what_is_known_of_a_parsed_packet_moves_along() {
    let (mut parse, mut push, mut pop) = (
        Parse::new(ports(), true),
        Vlan::new(spec(None, VlanAction::Push(tag(5, 0, false)))),
        Vlan::new(spec(None, VlanAction::Pop)),
    );
    let seen = run_and_make(&mut [&mut parse, &mut push], IN, &[frame(&[])], 0).0.remove(0);
    assert_eq!((seen.facts.l3, seen.facts.l4), (18, 38));
    let seen = run_and_make(&mut [&mut parse, &mut push, &mut pop], IN, &[frame(&[])], 0).0.remove(0);
    assert_eq!((seen.facts.l3, seen.facts.l4, seen.facts.vlan, seen.bytes), (14, 34, 5, frame(&[])));
    // And the other way round: a tag that came off is no obstacle to the parser.
    let seen = run_and_make(&mut [&mut pop, &mut parse], IN, &[frame(&[CUSTOMER])], 0).0.remove(0);
    assert_eq!((seen.verdict, seen.facts.l3, seen.facts.vlan), (Verdict::Next, 14, 5));
}

proptest! {
    #[test]
    fn push_then_pop_changes_nothing(
        frame in prop::collection::vec(any::<u8>(), 0..100), id in 1u16..4095, priority in 0u8..8, provider: bool,
    ) {
        let push = spec(None, VlanAction::Push(tag(id, priority, provider)));
        let pop = spec(None, VlanAction::Pop);
        prop_assume!(!frame.is_empty());
        let mut stages = (Vlan::new(push), Vlan::new(pop));
        let seen = run_and_make(&mut [&mut stages.0, &mut stages.1], IN, &[&frame], 0).0.remove(0);
        prop_assert_eq!(seen.bytes, frame);
    }
}
