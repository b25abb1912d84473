//! What stages keep beyond a reload and a crash: flows, mappings, allowances, counters.
//!
//! ```text
//!   page 0: magic, version, sizes │ what all workers share │ worker 0's shard │ worker 1's shard │ …     (whole pages each)
//! ```
//!
//! Each stage with a memory has one region, known by the stage's label; control makes it, the data plane maps it, and the
//! tables in it say themselves how they stay consistent. Owns: the division of the region. Refuses: a region of another
//! version or division: such a stage starts with nothing. Keeps true: a shard is written by its worker alone; a label with the
//! same sizes is the same memory under the next configuration and in the next process.

use crate::plan::{Work, plan};
use crate::spec::wireguard::ends;
use crate::spec::{Spec, StageSpec};
use crate::stages::balance;
use crate::stages::mirror::Mirror;
use crate::stages::reassemble::Reassemble;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use zsync_packet::region::{PAGE, Region};
use zsync_wireguard::book::Book;

/// Version of everything that lies in regions: changes with any change to the layout of a table.
pub const VERSION: u64 = 1;

const MAGIC: u64 = u64::from_le_bytes(*b"zsstate\0");

/// Bytes that a stage keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Those that all workers see.
    pub shared: usize,
    /// Those of each worker.
    pub each: usize,
}

impl StateSize {
    /// Bytes of the region for this many workers.
    pub fn bytes(self, workers: usize) -> usize {
        PAGE + pages(self.shared) + workers * pages(self.each)
    }
}

const fn pages(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE)
}

/// A stage's memory. Cloning shares it.
#[derive(Clone, Debug)]
pub struct State {
    region: Region,
    size: StateSize,
    workers: usize,
    /// By worker: whether this process has looked at the shard.
    visited: Arc<[AtomicBool]>,
}

/// Why a region is not a stage's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It is too short.
    #[error("{len} bytes of state are too few: {want} are needed")]
    TooShort {
        /// Bytes there are.
        len: usize,
        /// Bytes needed.
        want: usize,
    },
    /// Another version, or another division, is in it.
    #[error("the state was laid out by another version or for other sizes")]
    Other,
}

impl State {
    /// The memory in this region, for `workers` workers; a region of zeros is made one.
    ///
    /// # Errors
    /// It is too short, or has something else in it.
    pub fn open(region: Region, size: StateSize, workers: usize) -> Result<Self, StateError> {
        let want = size.bytes(workers);
        if region.len() < want {
            return Err(StateError::TooShort { len: region.len(), want });
        }
        let head = region.u64s(0, 5).ok_or(StateError::TooShort { len: region.len(), want })?;
        let says = [MAGIC, VERSION, size.shared as u64, size.each as u64, workers as u64];
        if head[0].load(Acquire) == 0 {
            head.iter().zip(says).skip(1).for_each(|(word, value)| word.store(value, Relaxed));
            head[0].store(MAGIC, Release);
        }
        if head.iter().zip(says).any(|(word, value)| word.load(Relaxed) != value) {
            return Err(StateError::Other);
        }
        Ok(Self { region, size, workers, visited: (0..workers).map(|_| AtomicBool::new(false)).collect() })
    }

    /// Memory of this process alone: for tests, replays, and programs that run workers themselves.
    pub fn heap(size: StateSize, workers: usize) -> Self {
        let visited = (0..workers).map(|_| AtomicBool::new(false)).collect();
        Self { region: Region::heap(size.bytes(workers)), size, workers, visited }
    }

    /// Touches every page, so that nobody has to wait for one later.
    pub fn populate(&self) {
        for page in (0..self.region.len()).step_by(PAGE) {
            if let Some([word]) = self.region.u64s(page, 1) {
                std::hint::black_box(word.load(Relaxed));
            }
        }
    }

    /// Whether nobody has asked this for the worker yet, of all that share this memory in this process: the worker's first
    /// stage over it, which finds it as a process has left it that may have been killed.
    pub fn is_first(&self, worker: usize) -> bool {
        self.visited.get(worker).is_some_and(|visited| !visited.swap(true, Relaxed))
    }

    /// How many workers have a shard.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// What all workers share.
    pub fn shared(&self) -> Option<Region> {
        self.region.part(PAGE..PAGE + self.size.shared)
    }

    /// A worker's own.
    pub fn shard(&self, worker: usize) -> Option<Region> {
        if worker >= self.workers {
            return None;
        }
        let from = PAGE + pages(self.size.shared) + worker * pages(self.size.each);
        self.region.part(from..from + self.size.each)
    }
}

/// What the stages of a configuration keep, by label, with `workers` workers.
pub fn needs(spec: &Spec, workers: usize) -> BTreeMap<String, StateSize> {
    let places = plan(spec, workers).into_iter().flatten();
    let needed = places.filter_map(|place| match place.work {
        Work::Stage(stage) => Some((stage.state_label(place.label).into_owned(), size(stage, workers)?)),
        Work::Parse | Work::Inspect | Work::Owner => None,
    });
    needed.collect()
}

/// Takes what is in `from` over into `to`, the empty memory that the stage of this label has for other sizes, if its kind can: for who
/// has seen the process end that wrote it. Whether it did.
pub fn carry(spec: &Spec, label: &str, from: &State, to: &State) -> bool {
    let is_tunnel = ends(spec).into_values().any(|end| end.label() == label);
    match (from.shared(), to.shared()) {
        (Some(from), Some(to)) if is_tunnel => {
            Book::carry_all(&from, &to);
            true
        }
        _ => false,
    }
}

/// What a stage keeps; nothing, for most.
pub fn size(stage: &StageSpec, workers: usize) -> Option<StateSize> {
    match stage {
        StageSpec::Filter(_) => Some(crate::stages::filter::state_size()),
        StageSpec::Balance(spec) => Some(balance::size(spec)),
        StageSpec::Nat(nat) => crate::stages::nat::size(nat),
        StageSpec::Track(spec) => Some(StateSize { shared: 0, each: spec.space(workers).bytes() }),
        StageSpec::Patch { .. }
        | StageSpec::Route { .. }
        | StageSpec::MacSwap
        | StageSpec::Drop
        | StageSpec::Punt
        | StageSpec::Encap(_)
        | StageSpec::Decap(_)
        | StageSpec::Vlan(_) => None,
        StageSpec::Police(spec) => Some(StateSize { shared: spec.state_bytes(), each: 0 }),
        StageSpec::Shape(spec) => Some(StateSize { shared: spec.state_bytes(), each: 0 }),
        StageSpec::Reassemble(spec) => Some(Reassemble::size(spec)),
        StageSpec::Mirror(spec) => Mirror::size(spec),
        StageSpec::WireguardOpen(spec) | StageSpec::WireguardSeal(spec) => {
            Some(StateSize { shared: Book::bytes(spec.max_peers), each: 0 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: StateSize = StateSize { shared: 100, each: 5000 };

    #[test]
    fn parts_are_apart_and_found_again() {
        let region = Region::heap(SIZE.bytes(3));
        let state = State::open(region.clone(), SIZE, 3).unwrap();
        let mut parts = vec![state.shared().unwrap()];
        parts.extend((0..3).map(|worker| state.shard(worker).unwrap()));
        assert!(state.shard(3).is_none());
        for (n, part) in parts.iter().enumerate() {
            part.u8s(0, part.len()).unwrap().iter().for_each(|byte| byte.store(n as u8 + 1, Relaxed));
        }
        let again = State::open(region, SIZE, 3).unwrap();
        assert_eq!(again.shared().unwrap().len(), 100);
        let shard = again.shard(1).unwrap();
        assert!(shard.len() == 5000 && shard.u8s(0, 5000).unwrap().iter().all(|b| b.load(Relaxed) == 3));
    }

    #[test]
    fn what_was_divided_otherwise_is_refused() {
        let region = Region::heap(SIZE.bytes(3));
        State::open(region.clone(), SIZE, 3).unwrap();
        assert!(matches!(State::open(region.clone(), SIZE, 2), Err(StateError::Other)));
        assert!(matches!(
            State::open(region.clone(), StateSize { each: 4999, ..SIZE }, 3),
            Err(StateError::Other)
        ));
        assert!(matches!(State::open(region, SIZE, 4), Err(StateError::TooShort { .. })));
    }
}
