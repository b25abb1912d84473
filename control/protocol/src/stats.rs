//! Counters in shared memory: written by a worker, read by anyone, whole after a crash.
//!
//! ```text
//! page 0          magic, version, bytes a worker, workers
//! per worker      header   heartbeat, passes, state, epoch, thread, core, published
//!                 copy 0   the counters after an even number of publications
//!                 copy 1   the counters after an odd number
//! ```
//!
//! Owns: the layout, and the order of stores in it. Refuses: memory of another version or size. Keeps true: the copy that
//! `published & 1` names is whole at every instruction. The writer fills the other copy and then stores `published + 1`, so
//! a worker that dies half way leaves the last publication as it was, and its successor carries on from there
//! ([`WorkerStats::read`], then [`WorkerStats::publish`]). A reader takes part in nothing: it looks at `published` before and
//! after, and reads again when the writer lapped it.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use zsync_packet::region::{PAGE, Region};

use crate::message::{MAX_PORTS, MAX_WORKERS};

mod counters;

use counters::{COPY, DROPS, PORTS, STAGES};
pub use counters::{
    Counters, MAX_REASONS, MAX_STAGES, PORT_COUNTERS, PortCounter, STAGE_COUNTERS, StageCounter,
};

/// Version of the layout; changes with any change to a counter.
pub const VERSION: u64 = 3;

const MAGIC: u64 = u64::from_le_bytes(*b"zsstats\0");
const WORD: usize = size_of::<u64>();
/// Words of a worker's header: two cache lines, so that prefetching its neighbour shares nothing with the counters.
const HEADER: usize = 16;
/// Bytes of one worker: whole pages, so that two workers share no cache line and no page.
const WORKER: usize = ((HEADER + 2 * COPY) * WORD).next_multiple_of(PAGE);

// Version 3 is this long. A new counter changes `VERSION` and this number together.
const _: () = assert!(VERSION == 3 && DROPS == 21 && COPY == 992 && WORKER == 16_384);
const _: () = assert!(PUBLISHED < HEADER);

const HEARTBEAT: usize = 0;
const PASSES: usize = 1;
const STATE: usize = 2;
const EPOCH: usize = 3;
const THREAD: usize = 4;
const CORE: usize = 5;
const PUBLISHED: usize = 8;

/// How often a reader looks again when it is lapped. A reading takes about a microsecond and a worker publishes every
/// hundred: a second look is rare, and a writer that scribbles on its count cannot keep a reader here.
const LOOKS: usize = 64;

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum WorkerState {
    /// Not in its loop yet.
    Starting = 0,
    /// In its loop.
    Running = 1,
    /// Blocked until something arrives; its heartbeat rests.
    Parked = 2,
    /// Out of its loop, for good.
    Stopped = 3,
}

/// Why memory does not hold counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// The memory is too short for what it is to hold.
    #[error("counters of {workers} workers take {want} bytes and the memory has {have}")]
    TooShort {
        /// Workers.
        workers: usize,
        /// Length needed, bytes.
        want: usize,
        /// Length of the memory, bytes.
        have: usize,
    },
    /// The memory holds something else, or was never formatted.
    #[error("the memory does not begin as counters do")]
    NotStats,
    /// Another version laid it out.
    #[error(
        "the counters are of version {version} with {worker_bytes} bytes a worker; this process knows version {VERSION} with {WORKER}"
    )]
    Version {
        /// Its version.
        version: u64,
        /// Its size of a worker, bytes.
        worker_bytes: u64,
    },
    /// There is no such worker.
    #[error("there is no worker {worker}: the memory holds {workers}")]
    NoWorker {
        /// The worker asked for.
        worker: usize,
        /// Workers that there are.
        workers: u64,
    },
    /// More workers than [`MAX_WORKERS`], or none.
    #[error("{workers} workers are not 1 to {MAX_WORKERS}")]
    Workers {
        /// What was asked for.
        workers: usize,
    },
}

/// The layout of the whole memory.
#[derive(Debug)]
pub struct StatsLayout;

impl StatsLayout {
    /// Length of the memory for `workers` workers, bytes.
    #[must_use]
    pub const fn bytes(workers: usize) -> usize {
        PAGE + workers * WORKER
    }

    /// Makes zeroed memory into counters that are all zero. Done once, by whoever created the memory.
    ///
    /// # Errors
    /// [`StatsError::TooShort`], [`StatsError::Workers`].
    pub fn format(region: &Region, workers: usize) -> Result<(), StatsError> {
        if !(1..=MAX_WORKERS).contains(&workers) {
            return Err(StatsError::Workers { workers });
        }
        let (want, have) = (Self::bytes(workers), region.len());
        let too_short = StatsError::TooShort { workers, want, have };
        let Some([magic, version, bytes, count]) = region.u64s(0, 4).filter(|_| have >= want) else {
            return Err(too_short);
        };
        version.store(VERSION, Relaxed);
        bytes.store(WORKER as u64, Relaxed);
        count.store(workers as u64, Relaxed);
        magic.store(MAGIC, Release);
        Ok(())
    }

    /// How many workers the memory holds.
    ///
    /// # Errors
    /// [`StatsError::NotStats`], [`StatsError::Version`], and [`StatsError::TooShort`] when it cannot hold that many.
    pub fn workers(region: &Region) -> Result<usize, StatsError> {
        let Some([magic, version, bytes, count]) = region.u64s(0, 4) else {
            return Err(StatsError::NotStats);
        };
        if magic.load(Acquire) != MAGIC {
            return Err(StatsError::NotStats);
        }
        let (version, worker_bytes) = (version.load(Relaxed), bytes.load(Relaxed));
        if version != VERSION || worker_bytes != WORKER as u64 {
            return Err(StatsError::Version { version, worker_bytes });
        }
        let workers = usize::try_from(count.load(Relaxed)).unwrap_or(usize::MAX);
        if !(1..=MAX_WORKERS).contains(&workers) {
            return Err(StatsError::Workers { workers });
        }
        let (want, have) = (Self::bytes(workers), region.len());
        if have < want { Err(StatsError::TooShort { workers, want, have }) } else { Ok(workers) }
    }
}

/// The counters of one worker in shared memory. Any number of readers; one writer, which is the worker.
#[derive(Debug)]
pub struct WorkerStats {
    words: Region,
    /// Publications that must still copy every port and stage, because the copies may differ beyond those in use.
    whole: u8,
    in_use: (usize, usize),
}

impl WorkerStats {
    /// The counters of `worker`.
    ///
    /// # Errors
    /// Those of [`StatsLayout::workers`], and [`StatsError::NoWorker`].
    pub fn open(region: &Region, worker: usize) -> Result<Self, StatsError> {
        let workers = StatsLayout::workers(region)?;
        let none = StatsError::NoWorker { worker, workers: workers as u64 };
        if worker >= workers {
            return Err(none);
        }
        let start = PAGE + worker * WORKER;
        let words = region.part(start..start + WORKER).ok_or(none)?;
        Ok(Self { words, whole: 2, in_use: (0, 0) })
    }

    /// Publishes `counters`; for the worker alone. Copies the scalars, the drops, and the ports and stages in use: some
    /// hundreds of plain stores, no system call.
    pub fn publish(&mut self, counters: &Counters) {
        let in_use = (counters.ports_in_use.min(MAX_PORTS), counters.stages_in_use.min(MAX_STAGES));
        if in_use != self.in_use {
            (self.in_use, self.whole) = (in_use, 2);
        }
        let (ports, stages) = if self.whole > 0 { (MAX_PORTS, MAX_STAGES) } else { in_use };
        self.whole = self.whole.saturating_sub(1);

        let published = self.published().load(Relaxed);
        // Orders the stores below after the store of `published` by which the copy became the stale one: a reader that sees
        // any of them also sees that it was lapped.
        fence(Release);
        let copy = self.copy(published.wrapping_add(1));
        let put = |at: usize, values: &[u64]| {
            for (word, value) in copy.iter().skip(at).zip(values) {
                word.store(*value, Relaxed);
            }
        };
        put(0, &counters.scalars());
        put(DROPS, &counters.drops);
        put(PORTS, counters.ports.get(..ports).unwrap_or_default().as_flattened());
        put(STAGES, counters.stages.get(..stages).unwrap_or_default().as_flattened());
        self.published().store(published.wrapping_add(1), Release);
    }

    /// The counters as they were last published, all of one moment. `None` when the writer lapped the reader many times in a
    /// row, which a worker that publishes as it should does not.
    #[must_use]
    pub fn read(&self) -> Option<Counters> {
        let mut words = [0; COPY];
        for _ in 0..LOOKS {
            let before = self.published().load(Acquire);
            for (value, word) in words.iter_mut().zip(self.copy(before)) {
                *value = word.load(Relaxed);
            }
            fence(Acquire);
            if self.published().load(Relaxed) == before {
                return Some(Counters::from_words(&words));
            }
            std::hint::spin_loop();
        }
        None
    }

    /// How often the counters were published.
    #[must_use]
    pub fn publications(&self) -> u64 {
        self.published().load(Relaxed)
    }

    /// The worker is alive at `now` (nanoseconds of CLOCK_MONOTONIC), after `passes` passes.
    #[inline]
    pub fn beat(&self, now: u64, passes: u64) {
        self.head(PASSES).store(passes, Relaxed);
        self.head(HEARTBEAT).store(now, Release);
    }

    /// When the worker last said that it is alive, nanoseconds of CLOCK_MONOTONIC; 0 for never.
    #[must_use]
    pub fn heartbeat(&self) -> u64 {
        self.head(HEARTBEAT).load(Acquire)
    }

    /// Passes at the last heartbeat.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.head(PASSES).load(Relaxed)
    }

    /// Says what the worker is doing.
    #[inline]
    pub fn set_state(&self, state: WorkerState) {
        self.head(STATE).store(state as u64, Release);
    }

    /// What the worker is doing; `None` when the word holds no state.
    #[must_use]
    pub fn state(&self) -> Option<WorkerState> {
        [WorkerState::Starting, WorkerState::Running, WorkerState::Parked, WorkerState::Stopped]
            .into_iter()
            .find(|state| *state as u64 == self.head(STATE).load(Acquire))
    }

    /// Says which snapshot the worker uses from here on, and that it has left all earlier ones.
    #[inline]
    pub fn set_epoch(&self, epoch: u64) {
        self.head(EPOCH).store(epoch, Release);
    }

    /// Epoch of the snapshot in use; 0 for none yet.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.head(EPOCH).load(Acquire)
    }

    /// Says which thread runs the worker, and on which CPU (`None`: not pinned).
    pub fn set_thread(&self, thread: u32, core: Option<u32>) {
        self.head(THREAD).store(u64::from(thread), Relaxed);
        self.head(CORE).store(core.map_or(0, |core| u64::from(core) + 1), Relaxed);
    }

    /// Thread id of the worker; 0 before it runs.
    #[must_use]
    pub fn thread(&self) -> u32 {
        self.head(THREAD).load(Relaxed) as u32
    }

    /// CPU that the worker is pinned to.
    #[must_use]
    pub fn core(&self) -> Option<u32> {
        let word = self.head(CORE).load(Relaxed);
        word.checked_sub(1).and_then(|core| u32::try_from(core).ok())
    }

    fn published(&self) -> &AtomicU64 {
        self.head(PUBLISHED)
    }

    fn head(&self, index: usize) -> &AtomicU64 {
        &self.words(0, HEADER)[index]
    }

    fn copy(&self, published: u64) -> &[AtomicU64] {
        self.words(HEADER + (published & 1) as usize * COPY, COPY)
    }

    /// `count` words from word `at`, which lie within `WORKER` bytes of a page-aligned region by the constants above.
    fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        self.words.u64s(at * WORD, count).expect("`open` checked that a worker's words are there")
    }
}

#[cfg(test)]
mod tests;
