//! A configuration that a fuzzer makes up: a spec, or mistakes that can be shown; and a spec is compiled, when it asks for memory
//! in reason, and takes packets.

use std::collections::{BTreeMap, BTreeSet};
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::PortId;
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{MAX_STAGES, PortFacts, StageCount};
use zsync_pipelines::spec::{self, Spec, StageSpec};
use zsync_pipelines::stage::{Cx, EXTRA, Extra};
use zsync_pipelines::state::{StateSize, needs};
use zsync_pipelines::tables::fib::{FibLayout, FibWriter};
use zsync_pipelines::trace::text::PacketText;
use zsync_pipelines::trace::trace;

/// Most bytes of state for which a configuration is compiled here: what it asks for is its author's to say, and what there is
/// of memory the machine's.
const MEMORY: usize = 64 << 20;

/// Runs one input.
pub(crate) fn run(source: &str) {
    match spec::parse(source, "fuzz.toml") {
        Ok(parsed) => {
            assert!(spec::diff(&parsed.spec, &parsed.spec).is_empty());
            for warning in &parsed.warnings {
                assert!(!warning.render(source).is_empty());
            }
            let shown = parsed.spec.to_toml();
            let again =
                spec::parse(&shown, "again.toml").unwrap_or_else(|errors| panic!("{shown}: {errors:?}"));
            assert!(spec::diff(&again.spec, &parsed.spec).is_empty(), "{shown}");
            for workers in [1, 2] {
                try_out(&parsed.spec, workers);
            }
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "refused without a reason");
            for mistake in mistakes {
                assert!(!mistake.render(source).is_empty());
            }
        }
    }
}

fn try_out(spec: &Spec, workers: usize) {
    let needs = needs(spec, workers);
    let bytes = |size: &StateSize| size.each.saturating_mul(workers).saturating_add(size.shared);
    if needs.values().map(bytes).fold(0usize, usize::saturating_add) > MEMORY {
        return;
    }
    let fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL)
        .expect("the region is new");
    let port = PortFacts { mac: [2; 6], mtu: 1500, v4: Some([192, 0, 2, 1].into()), ..PortFacts::default() };
    let with = Resources {
        ports: vec![port; spec.ports.len()],
        fibs: tables(spec).into_iter().map(|table| (table, fib.reader())).collect(),
        hash_key: HashKey::from_seed(3),
        workers,
        states: BTreeMap::new(),
    };
    // What does not fit together is refused in words; it does not panic.
    let mut snapshot = match compile(spec, 1, &with) {
        Ok(snapshot) => snapshot,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    snapshot.assign(0);
    let mut pool = Pool::heap(FrameSize::K2, 4 + EXTRA as u32, 1).expect("some frames").remove(0);
    let mut extra = Extra::new();
    let bytes = PacketText::parse("tcp 10.1.0.5:40000 -> 192.0.2.80:443").expect("a packet").frame([2; 6]);
    for port in 0..spec.ports.len() as u16 {
        for asked in [true, false] {
            let (mut frame, len) = (pool.alloc().expect("all frames are home"), bytes.len() as u16);
            pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(&bytes);
            let mut burst = Burst::new(pool.arena().clone());
            let packet = Packet { frame, start: HEADROOM as u16, len, port: PortId(port) };
            assert!(burst.push(packet).is_ok(), "a burst has room for one");
            let mut cx = Cx::new(1_000_000_000, &mut pool, &mut extra);
            if asked {
                let found = trace(&mut snapshot, PortId(port), &mut burst, &mut cx);
                assert!(!found.steps.is_empty());
            } else {
                let mut counts = [StageCount::default(); MAX_STAGES];
                snapshot.process(PortId(port), &mut burst, &mut cx, &mut counts);
            }
            assert_eq!(burst.live(), 0, "undecided");
            burst.free_into(&mut pool);
            extra.drain().for_each(|made| pool.free(made.packet.frame));
        }
    }
}

/// The kernel's tables that the stages ask.
fn tables(spec: &Spec) -> BTreeSet<u32> {
    let mut tables = BTreeSet::from([254]);
    for stage in spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages) {
        match &stage.spec {
            StageSpec::Route { table, by_mark } => {
                tables.insert(*table);
                tables.extend(by_mark.iter().map(|(_, table)| *table));
            }
            StageSpec::Nat(nat) => {
                tables.insert(nat.table);
            }
            StageSpec::Balance(balance) => {
                tables.insert(balance.route_table);
            }
            _ => {}
        }
    }
    tables
}
