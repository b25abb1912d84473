//! A flow table whose writer is killed, at every instruction.
//!
//! A child process makes one change to a table in shared memory, one instruction at a time (ptrace). Whenever an instruction
//! has changed the memory, a copy is what a successor would find there: it must be able to go on, with the table as it was
//! before the change or as it is after it, every flow whole, and all counts right. And so where the successor is killed as it
//! finishes the change.

mod stepping;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering::Relaxed;
use stepping::{copy, fill, shared, step_through, words};
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::region::Region;
use zsync_pipelines::tables::flow::{FlowId, FlowSpace, Flows, Limits, Refused, State, bit};

const SPACE: FlowSpace = FlowSpace { flows: 8, translations: 4 };
const NOW: u64 = 1000;
const WEAK: State = State { bits: bit::WEAK, last: 1, cold: [1; 4] };
const HALF_OPEN: State = State { bits: bit::COUNTED, last: 2, cold: [2; 4] };
const STRONG: State = State { bits: bit::REPLIED | bit::ASSURED, last: 3, cold: [3; 4] };

fn open(region: Region) -> Flows {
    Flows::open(region, SPACE, HashKey::from_seed(5)).unwrap()
}

fn key(n: u16) -> FlowKey {
    // Two sources.
    FlowKey::v4((Ipv4Addr::new(10, 0, 0, (n % 2) as u8), n), (Ipv4Addr::new(10, 9, 9, 9), 80), 6)
}

fn outside(n: u16) -> FlowKey {
    FlowKey::v4((Ipv4Addr::new(10, 9, 9, 9), 80), (Ipv4Addr::new(192, 0, 2, 1), n), 6)
}

/// What is done to the table.
#[derive(Clone, Copy, Debug)]
enum Change {
    Add(u16, State, u64),
    Remove(u16),
    Translate(u16, u16),
    Settle(u16, State),
    Sweep(u64),
    Recover,
}

fn find(flows: &Flows, n: u16) -> Option<FlowId> {
    flows.find(&key(n), flows.hash(&key(n))).map(|(id, _)| id)
}

fn add(flows: &Flows, n: u16, state: &State, life: u64, per_source: u32) -> Result<FlowId, Refused> {
    let limits = Limits { half_open: 3, per_source };
    flows.create(&key(n), flows.hash(&key(n)), state, (NOW, life), &limits, |_| 0)
}

fn carry_out(flows: &Flows, change: Change) {
    match change {
        Change::Add(n, state, life) => _ = add(flows, n, &state, life, 0),
        Change::Remove(n) => find(flows, n).into_iter().for_each(|id| flows.remove(id)),
        Change::Translate(n, to) => {
            find(flows, n).into_iter().for_each(|id| _ = flows.translate(id, &outside(to)));
        }
        Change::Settle(n, state) => find(flows, n).into_iter().for_each(|id| flows.settle(id, state.bits)),
        Change::Sweep(now) => flows.sweep(SPACE.flows, now),
        Change::Recover => flows.recover(),
    }
}

/// Flows by their original key: the key of the answers, and the bits.
type Content = BTreeMap<[u64; 5], ([u64; 5], u64)>;

/// The table's flows, after checking all that must hold of them.
fn content(flows: &Flows) -> Content {
    let mut content = Content::new();
    let (mut weak, mut half_open, mut sources) = (0, 0, BTreeMap::new());
    for id in (0..SPACE.flows).map(FlowId) {
        let hot = flows.hot(id).unwrap();
        // A record that could not be freed at once, since a number is free twice, has a time that was over long ago.
        if hot.life() <= 1 {
            continue;
        }
        let (original, reply) = (flows.original(id), flows.reply_key(id));
        assert_eq!(flows.find(&original, flows.hash(&original)), Some((id, false)));
        assert_eq!(flows.find(&reply, flows.hash(&reply)), Some((id, true)));
        let bits = hot.bits();
        weak += u32::from(bits & bit::WEAK != 0);
        half_open += u32::from(bits & bit::HALF_OPEN != 0);
        *sources.entry(original.source()).or_insert(0) += 1;
        let state = [WEAK, HALF_OPEN, STRONG].into_iter().find(|state| state.last == hot.last()).unwrap();
        assert_eq!(flows.cold(id).unwrap().each_ref().map(|word| word.load(Relaxed)), state.cold);
        assert_eq!(content.insert(original.words(), (reply.words(), bits)), None);
    }
    let counts = flows.counts();
    assert_eq!((counts.weak, counts.half_open), (weak, half_open));
    content
}

/// The counts of sources, which only show in what is refused: by adding to copies of the table.
fn check_sources(memory: &[u64], content: &Content) {
    for probe in [1000, 1001] {
        let source = key(probe).source();
        let count =
            content.keys().filter(|words| FlowKey::from_words(**words).source() == source).count() as u32;
        let try_one = |limit| add(&open(copy(memory)), probe, &WEAK, NOW + 9, limit);
        assert_ne!(try_one(count + 1), Err(Refused::Source), "{count} too many counted");
        assert!(count == 0 || try_one(count) == Err(Refused::Source), "{count} too few counted");
    }
}

/// What a successor makes of this memory.
fn succeed(memory: &[u64]) -> Content {
    let region = copy(memory);
    let flows = open(region.clone());
    flows.recover();
    let content = content(&flows);
    check_sources(&words(&region), &content);
    // All memory is of use again, at the latest when all of it has been in use once.
    for last in [false, false, true] {
        for _ in 0..2 {
            flows.sweep(SPACE.flows, u64::MAX);
        }
        let added: BTreeSet<FlowId> =
            (500..508).filter_map(|n| add(&flows, n, &STRONG, NOW + 9, 0).ok()).collect();
        let translate = |(n, id): (usize, &FlowId)| flows.translate(*id, &outside(500 + n as u16)).is_ok();
        let translated = added.iter().enumerate().filter(|pair| translate(*pair)).count();
        assert!(!last || (added.len(), translated) == (8, 4), "{added:?}, {translated} translated");
    }
    content
}

fn all_of(first: &Content, second: &Content) -> Content {
    first.iter().chain(second).map(|(key, value)| (*key, *value)).collect()
}

/// Kills the writer at every instruction of every change; where `again` says so, also the successor that finishes it.
fn kill_everywhere(changes: &[Change], again: impl Fn(usize) -> bool) {
    let region = shared(SPACE.bytes().next_multiple_of(4096));
    let flows = open(region.clone());
    let recovery = shared(region.len());
    let recovering = open(recovery.clone());
    let mut kills = 0;
    for (n, change) in changes.iter().enumerate() {
        let before = content(&flows);
        let mut found = Vec::new();
        step_through(
            &region,
            || carry_out(&flows, *change),
            |memory| {
                found.push((memory.to_vec(), succeed(memory)));
            },
        );
        let after = content(&flows);
        // A flow that made room may be gone before the new one is there; but no flow is any other than before or after.
        let (either, both) =
            (all_of(&before, &after), |key| before.get(key).filter(|flow| after.get(key) == Some(flow)));
        let whole = |content: &Content| {
            content.iter().all(|(key, flow)| before.get(key) == Some(flow) || after.get(key) == Some(flow))
                && either.keys().all(|key| both(key).is_none() || content.contains_key(key))
        };
        for (memory, content) in &found {
            assert!(whole(content), "{change:?}: {content:?}");
            if again(n) {
                fill(&recovery, memory);
                step_through(
                    &recovery,
                    || carry_out(&recovering, Change::Recover),
                    |memory| {
                        kills += 1;
                        assert_eq!(&succeed(memory), content, "{change:?}");
                    },
                );
            }
        }
        kills += found.len();
    }
    assert!(kills > changes.len());
}

#[test]
fn a_writer_killed_at_any_instruction_leaves_every_flow_whole_or_not_there() {
    use Change::{Add, Recover, Remove, Settle, Sweep, Translate};
    let late = NOW + 500;
    let mut changes = vec![
        Recover,
        Add(1, WEAK, late),
        Add(2, HALF_OPEN, late),
        Add(3, STRONG, late),
        Translate(1, 7001),
        Translate(3, 7003),
        Settle(2, STRONG),
        Settle(1, HALF_OPEN),
        Settle(1, STRONG),
        Remove(3),
        Add(4, WEAK, NOW + 10),
        Translate(4, 7003),
        Sweep(NOW + 20),
        Translate(2, 7003),
    ];
    // More than there is room for, half-open ones beyond their limit, all in the end.
    changes.extend((10..18).map(|n| Add(n, if n % 2 == 0 { WEAK } else { HALF_OPEN }, late + u64::from(n))));
    changes.extend((20..24).map(|n| Add(n, HALF_OPEN, late)));
    changes.extend((24..30).map(|n| Settle(n - 4, STRONG)));
    changes.extend((30..34).map(|n| Add(n, STRONG, late)));
    changes.extend([Remove(1), Sweep(late + 100), Add(40, WEAK, late)]);
    kill_everywhere(&changes, |_| false);
}

#[test]
fn a_successor_killed_as_it_finishes_a_change_leaves_it_to_be_finished() {
    use Change::{Add, Remove, Settle, Translate};
    let late = NOW + 500;
    let changes = [
        Add(1, HALF_OPEN, late),
        Translate(1, 7001),
        Settle(1, STRONG),
        Add(2, WEAK, late),
        Remove(1),
        Remove(2),
    ];
    kill_everywhere(&changes, |_| true);
}
