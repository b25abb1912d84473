//! The log of port blocks: a line for each block that a client of a `nat` stage takes or gives back.
//!
//! Who had which port of which address when is told by these lines (RFC 6888 §4, RFC 7422). Owns nothing: how far the log is
//! lies beside it in the stages' memory, so that the next control process goes on where this one ended. Looked at ten times a
//! second: what comes in between waits in the rings, and what finds no room there is lost, which is told. Keeps true: a look is
//! bounded work; a worker with much to tell does not keep others from being heard.

use super::states::States;
use crate::calendar;
use rustix::time::{ClockId, clock_gettime};
use zsync_pipelines::spec::{NatSpec, Spec, StageSpec};
use zsync_pipelines::stages::nat;
use zsync_pipelines::tables::nat::{BlockEvent, BlockLog};

/// Lines of one look: some milliseconds' work.
const AT_ONCE: usize = 1000;
/// Looks of a last one, before memory is let go: more than the rings of a stage hold, for most.
const LOOKS: usize = 100;

/// See the module.
#[derive(Debug, Default)]
pub struct Blocks {
    /// Whose turn it is to be heard first.
    turn: usize,
}

/// One worker's ring.
struct Ring<'s> {
    stage: &'s str,
    worker: usize,
    log: BlockLog,
}

impl Blocks {
    /// Writes what waits in the rings of the `nat` stages of `spec`, as much as one look may. Returns how many lines.
    pub fn look(&mut self, spec: &Spec, states: &States) -> usize {
        let rings: Vec<Ring<'_>> = rings(spec, states).collect();
        if rings.is_empty() {
            return 0;
        }
        let epoch = epoch();
        let mut left = AT_ONCE;
        for place in 0..rings.len() {
            let Some(Ring { stage, worker, log }) = rings.get((self.turn + place) % rings.len()) else {
                continue;
            };
            let pipeline = if log.written() == log.told() { String::new() } else { pipelines(spec, stage) };
            let lost = log.tell(left, |event| {
                left -= 1;
                write(&pipeline, stage, &event, epoch);
            });
            if lost > 0 {
                tracing::warn!(
                    pipeline,
                    stage,
                    worker,
                    entries = lost,
                    "the log of port blocks lost entries: blocks changed hands faster than they could be told"
                );
            }
        }
        self.turn = (self.turn + 1) % rings.len();
        AT_ONCE - left
    }

    /// Writes what waits, before the memory that it waits in is let go.
    pub fn finish(&mut self, spec: &Spec, states: &States) {
        for _ in 0..LOOKS {
            if self.look(spec, states) < AT_ONCE {
                return;
            }
        }
    }
}

/// The `nat` stages of a configuration, by label; those that several pipelines name come once.
pub(super) fn nats(spec: &Spec) -> impl Iterator<Item = (&str, &NatSpec)> {
    let stages = spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let all: std::collections::BTreeMap<&str, &NatSpec> = stages
        .filter_map(|stage| match &stage.spec {
            StageSpec::Nat(nat) => Some((stage.label.as_str(), nat)),
            _ => None,
        })
        .collect();
    all.into_iter()
}

fn rings<'s>(spec: &'s Spec, states: &States) -> impl Iterator<Item = Ring<'s>> {
    nats(spec).flat_map(|(stage, nat)| {
        let state = states.state(stage);
        let workers = 0..state.map_or(0, |state| state.workers());
        workers.filter_map(move |worker| {
            let log = nat::view(nat, state?, worker)?.log()?.clone();
            Some(Ring { stage, worker, log })
        })
    })
}

/// The pipelines that have a stage.
fn pipelines(spec: &Spec, stage: &str) -> String {
    let has = spec.pipelines.iter().filter(|pipeline| pipeline.stages.iter().any(|s| s.label == stage));
    has.map(|pipeline| pipeline.name.as_str()).collect::<Vec<_>>().join(",")
}

/// The real time at which the workers' clock was 0, in nanoseconds.
fn epoch() -> u64 {
    let nanoseconds = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    };
    nanoseconds(ClockId::Realtime).saturating_sub(nanoseconds(ClockId::Monotonic))
}

fn write(pipeline: &str, stage: &str, event: &BlockEvent, epoch: u64) {
    let at = calendar::exact(epoch.saturating_add(event.at) / 1_000_000);
    let (client, address, first) = (event.client, event.external, event.first);
    let last = first.saturating_add(event.count.saturating_sub(1));
    // Two messages, not a field: whoever reads the log looks for the one or the other.
    if event.allocated {
        tracing::info!(pipeline, stage, at, %client, %address, first, last, "port block taken");
    } else {
        tracing::info!(pipeline, stage, at, %client, %address, first, last, "port block returned");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Log {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    impl Log {
        fn of(&self, act: impl FnOnce()) -> Vec<String> {
            let subscriber = tracing_subscriber::fmt()
                .with_writer(self.clone())
                .with_ansi(false)
                .without_time()
                .with_target(false)
                .finish();
            tracing::subscriber::with_default(subscriber, act);
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
        }
    }

    const CONFIG: &str = "[port.wan]\nnetdev = \"eth1\"\n[port.lan]\nnetdev = \"eth2\"\n\
        [pipeline.edge]\ninput = [\"wan\"]\nstages = [\"nat.out\", \"route\"]\n\
        [pipeline.guests]\ninput = [\"lan\"]\nstages = [\"nat.out\", \"route\"]\n\
        [nat.out]\nmasquerade = { output = \"wan\" }\nblock = 64\nmappings = 1024\n";

    fn event(n: u16) -> BlockEvent {
        let client = if n.is_multiple_of(2) { "10.0.0.7".parse() } else { "fd00::7".parse() };
        let external = if n.is_multiple_of(2) { "203.0.113.1".parse() } else { "2001:db8::1".parse() };
        BlockEvent {
            at: 0,
            client: client.unwrap(),
            external: external.unwrap(),
            first: 1024 + n % 900 * 64,
            count: 64,
            allocated: n < 3,
        }
    }

    #[test]
    fn each_block_gets_a_line_once_and_what_was_lost_is_told() {
        let spec = zsync_pipelines::spec::parse(CONFIG, "edge.toml").unwrap().spec;
        let mut states = States::default();
        states.prepare(&spec, 2, true).unwrap();
        let rings: Vec<Ring<'_>> = rings(&spec, &states).collect();
        assert_eq!(rings.iter().map(|ring| ring.worker).collect::<Vec<_>>(), [0, 1]);
        let (log, mut blocks) = (Log::default(), Blocks::default());
        assert_eq!(blocks.look(&spec, &states), 0);
        rings[1].log.write(&event(2));
        rings[1].log.write(&event(3));
        let lines = log.of(|| assert_eq!(blocks.look(&spec, &states), 2));
        assert_eq!(lines.len(), 2, "{lines:?}");
        let fields = "client=10.0.0.7 address=203.0.113.1 first=1152 last=1215";
        let begins = "INFO port block taken pipeline=\"edge,guests\" stage=\"nat.out\" at=\"";
        assert!(lines[0].trim_start().starts_with(begins), "{lines:?}");
        assert!(lines[0].ends_with(fields), "{lines:?}");
        assert!(lines[1].contains("port block returned"), "{lines:?}");
        assert!(lines[1].ends_with("client=fd00::7 address=2001:db8::1 first=1216 last=1279"), "{lines:?}");
        // Another control process, over the same memory.
        assert_eq!(log.of(|| assert_eq!(Blocks::default().look(&spec, &states), 0)), Vec::<String>::new());
        // The ring has room for 256.
        (0..300).for_each(|n| rings[0].log.write(&event(n)));
        let lines = log.of(|| assert_eq!(blocks.look(&spec, &states), 256));
        assert_eq!(lines.len(), 257);
        assert!(lines.iter().any(|line| line.contains("WARN") && line.contains("entries=44")), "{lines:?}");
    }

    #[test]
    fn a_look_is_bounded_and_the_next_one_goes_on() {
        let config = CONFIG.replace("mappings = 1024", "mappings = 65536");
        let spec = zsync_pipelines::spec::parse(&config, "edge.toml").unwrap().spec;
        let mut states = States::default();
        states.prepare(&spec, 2, true).unwrap();
        let rings: Vec<Ring<'_>> = rings(&spec, &states).collect();
        (0..1500).for_each(|n| rings[0].log.write(&event(n)));
        (0..10).for_each(|n| rings[1].log.write(&event(n)));
        let mut blocks = Blocks::default();
        assert_eq!(blocks.look(&spec, &states), AT_ONCE);
        // The other worker is heard first now.
        assert_eq!((rings[0].log.told(), rings[1].log.told()), (AT_ONCE as u64, 0));
        assert_eq!(blocks.look(&spec, &states), 510);
        blocks.finish(&spec, &states);
        assert_eq!((rings[0].log.told(), rings[1].log.told()), (1500, 10));
    }
}
