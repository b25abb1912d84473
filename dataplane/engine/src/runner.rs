//! What runs on a core: a worker's packets, and the tasks beside them.
//!
//! ```text
//!   ┌──────────────── one pass, one clock read ───────────────┐
//!   │ the worker's pass → tasks that are ready, a turn each   │ → nothing to do? block until a packet, a wake, a timer
//!   └─────────────────────────────────────────────────────────┘
//! ```
//!
//! Owns: the worker, and the executor of its tasks. Keeps true: nobody has borrowed the worker between two turns, so its pass can; when no
//! task is ready and no timer due, tasks cost a pass three comparisons; a task that is always ready has one turn a
//! pass; a snapshot's tasks end before the first turn under the next one.

use crate::chores;
use crate::exchange::Answer;
use crate::idle::{LONGEST, SPIN, park};
use crate::worker::{Told, Worker};
use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;
use zsync_io::device::Device;
use zsync_protocol::message::Idle;
use zsync_protocol::stats::WorkerState;
use zsync_runtime::{Executor, Handle, Instant, Seat, Tasks};

/// Polls in a pass at most. A poll that does little takes about 10 ns, a pass of full bursts a microsecond at least: then
/// tasks, however many are ready, have a part of the core and not all of it.
const BUDGET: u32 = 16;
/// Tasks that are told of at most: packets wait for as many microseconds.
const TOLD: usize = 256;
/// A poll that takes longer is noted, from when somebody first asks what the tasks do: looking at the clock around each is for
/// those who ask.
const LATE: Duration = Duration::from_micros(200);

/// See the module.
pub struct Runner<D: Device + 'static> {
    worker: Rc<RefCell<Worker<D>>>,
    executor: Executor,
    /// The task of the snapshot's chores.
    chores: Handle<()>,
    /// When the next timer is due.
    due: u64,
}

impl<D: Device + 'static> Runner<D> {
    /// A worker, and an executor in this seat, at `now` (nanoseconds of the clock that the passes tell).
    pub fn new(worker: Worker<D>, seat: Seat, now: u64) -> Self {
        let executor = Executor::seated(seat, Instant::from_nanos(now));
        let worker = Rc::new(RefCell::new(worker));
        let tasks = executor.tasks();
        let chores = tasks.spawn(chores::tend(worker.clone(), tasks.clone()));
        Self { worker, executor, chores, due: u64::MAX }
    }

    /// The worker. Not to be kept over a pass.
    ///
    /// # Panics
    /// When it is borrowed already.
    pub fn worker(&self) -> RefMut<'_, Worker<D>> {
        self.worker.borrow_mut()
    }

    /// The tasks beside it.
    pub fn tasks(&self) -> &Rc<Tasks> {
        self.executor.tasks()
    }

    /// One pass. Returns how many packets and completions it dealt with.
    #[inline]
    pub fn pass(&mut self, now: u64) -> usize {
        let (work, told) = {
            let mut worker = self.worker.borrow_mut();
            (worker.pass(now), worker.told())
        };
        if told != Told::default() {
            self.heed(told, now);
        }
        if self.is_busy() || now >= self.due {
            self.take_turns(now);
        }
        work
    }

    /// Whether a task waits for its turn.
    #[inline]
    fn is_busy(&self) -> bool {
        let tasks = self.executor.tasks();
        tasks.has_ready() || tasks.remote().has_words()
    }

    fn take_turns(&mut self, now: u64) {
        let tasks = self.executor.tasks();
        tasks.round(Instant::from_nanos(now), BUDGET);
        self.due = tasks.next_timer().map_or(u64::MAX, Instant::as_nanos);
    }

    #[cold]
    fn heed(&mut self, told: Told, now: u64) {
        let tasks = self.executor.tasks();
        if told.snapshot {
            // Its children end with it.
            self.chores.abort();
            self.chores = tasks.spawn(chores::tend(self.worker.clone(), tasks.clone()));
        }
        if told.tasks > 0 {
            tasks.watch(Some(LATE));
            tasks.set_now(Instant::from_nanos(now));
            let dump = tasks.dump_some(TOLD);
            // Each question has its answer, and all of them one look.
            for _ in 0..told.tasks {
                self.worker.borrow().answer(Answer::Tasks(Box::new(dump.clone())));
            }
            // To be looked at may have changed it.
            self.due = now;
        }
    }

    /// Runs until the worker is ordered to stop. `clock` tells monotonic nanoseconds.
    pub fn run(mut self, idle: Idle, clock: impl Fn() -> u64) {
        self.worker().set_state(WorkerState::Running);
        let spin = match idle {
            Idle::Spin => u64::MAX,
            Idle::Adaptive => SPIN,
            Idle::Block => 0,
        };
        let mut now = clock();
        let mut idle_since = now;
        while !self.worker().is_stopping() {
            let work = self.pass(now);
            let before = now;
            now = clock();
            if work > 0 {
                self.worker().note_busy(now.saturating_sub(before));
                idle_since = now;
                continue;
            }
            self.worker().note_idle();
            let limit = self.rest(now);
            if now.saturating_sub(idle_since) >= spin && limit > 0 {
                now = self.park(now, limit, &clock);
                idle_since = if idle == Idle::Block { now } else { now.saturating_sub(SPIN / 2) };
            }
        }
        self.worker().set_state(WorkerState::Stopped);
    }

    /// For how many nanoseconds there is nothing to do, as far as anybody knows.
    fn rest(&self, now: u64) -> u64 {
        let due = self.due.saturating_sub(now);
        if self.is_busy() { 0 } else { self.worker.borrow().rest(now).min(due).min(LONGEST) }
    }

    fn park(&mut self, now: u64, limit: u64, clock: &impl Fn() -> u64) -> u64 {
        let mut worker = self.worker.borrow_mut();
        worker.begin_rest(now);
        let remote = self.executor.tasks().remote();
        park(remote.bell(), worker.waitables(), limit, || worker.has_mail() || remote.has_words());
        let woken = clock();
        worker.end_rest(now, woken);
        woken
    }
}
