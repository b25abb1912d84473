//! The tasks of one thread: which are ready, which are of which scope, and whose turn it is.
//!
//! Owns: all tasks, timers and scopes of the executor. Refuses: a pass within a pass. Keeps true: each task that was woken is
//! polled, in the order in which they were woken; a pass has so many polls at most, so that a task that always yields lets all
//! others have their turns, timers and operations included; nothing is allocated by waking, and by spawning only until there is memory for as
//! many tasks of that size as run at a time.

mod ends;
mod turn;

use super::dump::{Overrun, Overruns};
use super::scopes::{ScopeId, Scopes};
use super::waker::{Entered, Word};
use super::{ALIVE, Block, Ended, Handle, MAX_TASKS, Memory, Pointer, QUEUED, RUNNING, WOKEN};
use crate::remote::{Remote, Seat};
use crate::time::Instant;
use crate::wheel::Wheel;
use std::any::Any;
use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

/// Tasks on the stack at a time, each dropped or spawned by what the one ahead of it does. Deeper ones end, or begin, at their turns: so
/// tasks in tasks need no more of the stack than that, however deep they are (`tests/deep.rs`).
const LEVELS: u32 = 32;
/// No slot.
const NONE: u32 = u32::MAX;

/// A task's place, by which its wakers find it.
struct Slot {
    /// Of the task that is there, or of the next one.
    word: Word,
    task: Option<Pointer>,
    next_free: u32,
}

/// What a pass found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Tasks that were polled.
    pub polled: u32,
    /// Whether there are more that are ready.
    pub more: bool,
}

/// See the module.
pub struct Tasks {
    memory: Memory,
    slots: RefCell<Vec<Slot>>,
    free: Cell<u32>,
    /// The list of tasks that are ready.
    first: Cell<Option<Pointer>>,
    last: Cell<Option<Pointer>>,
    alive: Cell<u32>,
    /// The task that is polled now.
    current: Cell<Option<Pointer>>,
    /// Whether that was woken meanwhile, by what it polled itself. (Else its flags say so.)
    woken: Cell<bool>,
    /// Whether what is polled now has been cancelled, and is not shielded.
    cancelled: Cell<bool>,
    /// Until when what is polled now has time.
    deadline: Cell<Instant>,
    eager: Cell<bool>,
    turn: Cell<usize>,
    random: Cell<u64>,
    /// Polls that this pass has left.
    left: Cell<u32>,
    /// Whether a task that is next may have its turn within the poll of who waits for its end.
    hands_over: Cell<bool>,
    /// Of [`LEVELS`].
    level: Cell<u32>,
    /// The clock, as it was when this pass began.
    now: Cell<Instant>,
    pass: Cell<bool>,
    closed: Cell<bool>,
    /// How long a poll may take without being noted.
    watch: Cell<Option<Duration>>,
    overruns: RefCell<Overruns>,
    wheel: RefCell<Wheel>,
    /// Wakers of timers that have fired; kept for its memory.
    due: Cell<Vec<Waker>>,
    scopes: RefCell<Scopes>,
    seat: Seat,
}

impl Tasks {
    /// No task, at this time. None when there are as many executors as a process can have, 4,096.
    #[must_use]
    pub fn new(now: Instant) -> Option<Rc<Self>> {
        Some(Self::seated(Seat::silent()?, now))
    }

    /// No task, at this time, in this seat.
    pub(crate) fn seated(seat: Seat, now: Instant) -> Rc<Self> {
        // What a former executor of that number was told.
        seat.remote().drain(|_| ());
        Rc::new(Self {
            memory: Memory::new(),
            slots: RefCell::default(),
            free: Cell::new(NONE),
            first: Cell::new(None),
            last: Cell::new(None),
            alive: Cell::new(0),
            current: Cell::new(None),
            woken: Cell::new(false),
            cancelled: Cell::new(false),
            deadline: Cell::new(Instant::NEVER),
            eager: Cell::new(false),
            turn: Cell::new(0),
            random: Cell::new(now.as_nanos()),
            left: Cell::new(0),
            hands_over: Cell::new(false),
            level: Cell::new(0),
            now: Cell::new(now),
            pass: Cell::new(false),
            closed: Cell::new(false),
            watch: Cell::new(None),
            overruns: RefCell::default(),
            wheel: RefCell::new(Wheel::new(now)),
            due: Cell::default(),
            scopes: RefCell::new(Scopes::new()),
            seat,
        })
    }

    /// Its number in wakers.
    pub(super) fn number(&self) -> u16 {
        self.seat.number()
    }

    /// Where other threads wake its tasks.
    #[must_use]
    pub fn remote(&self) -> &'static Remote {
        self.seat.remote()
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn alive(&self) -> u32 {
        self.alive.get()
    }

    /// The task that is polled now.
    pub(super) fn running(&self) -> Option<Word> {
        self.current.get().map(|task| task.head().word)
    }

    /// Whether a task waits for its turn.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.first.get().is_some()
    }

    /// The clock, as it was when this pass began.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    pub(crate) fn wheel(&self) -> &RefCell<Wheel> {
        &self.wheel
    }

    pub(crate) fn scopes(&self) -> &RefCell<Scopes> {
        &self.scopes
    }

    /// Until when what is polled now has time; [`Instant::NEVER`] for no limit.
    pub(crate) fn deadline(&self) -> &Cell<Instant> {
        &self.deadline
    }

    /// Counts up: for those who take turns.
    pub(crate) fn next_turn(&self) -> usize {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        turn
    }

    /// Another number each time, for jitter and the like: the same ones for the same seed. (SplitMix64.)
    #[must_use]
    pub fn random(&self) -> u64 {
        self.random.set(self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut number = self.random.get();
        number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ number >> 31
    }

    /// Where [`Tasks::random`] begins.
    pub fn seed(&self, seed: u64) {
        self.random.set(seed);
    }

    pub(crate) fn cancelled(&self) -> &Cell<bool> {
        &self.cancelled
    }

    /// The clock was read anew, within a pass.
    pub fn set_now(&self, now: Instant) {
        self.now.set(now);
    }

    /// Whether a task that is spawned is polled at once.
    pub(crate) fn set_eager(&self, eager: bool) {
        self.eager.set(eager);
    }

    /// When the next timer is due.
    #[must_use]
    pub fn next_timer(&self) -> Option<Instant> {
        self.wheel.borrow().next()
    }

    /// A new task, which is ready, of this scope.
    ///
    /// # Panics
    /// When there are 2²⁴ tasks already.
    #[inline]
    #[track_caller]
    pub(crate) fn spawn_in<F: Future + 'static>(
        self: &Rc<Self>,
        scope: ScopeId,
        future: F,
    ) -> Handle<F::Output> {
        let spawned = (Location::caller(), self.now.get());
        let task = self.occupy(|word| Block::place(&self.memory, word, scope, spawned, future));
        self.alive.set(self.alive.get() + 1);
        if scope != ScopeId::ROOT {
            self.scopes.borrow_mut().adopt(scope, task);
        }
        if self.closed.get() {
            self.end(task);
        } else if self.eager.get() && self.pass.get() && self.level.get() < LEVELS {
            let level = self.level.get();
            self.level.set(level + 1);
            self.run_within::<false>(task);
            self.level.set(level);
        } else {
            self.make_ready(task);
        }
        Handle::new(self.clone(), task)
    }

    /// A task that is of no scope: it runs until it ends, or its executor does.
    #[track_caller]
    pub fn spawn<F: Future + 'static>(self: &Rc<Self>, future: F) -> Handle<F::Output> {
        self.spawn_in(ScopeId::ROOT, future)
    }

    /// Puts a task into a slot, whose word it has. (`place` runs nobody's code.)
    #[inline]
    fn occupy(&self, place: impl FnOnce(Word) -> Pointer) -> Pointer {
        let mut slots = self.slots.borrow_mut();
        let number = self.free.get() as usize;
        if number >= slots.len() {
            assert!(slots.len() < MAX_TASKS, "an executor has {MAX_TASKS} tasks at most");
            let word = Word::new(self.number(), 0, slots.len() as u32);
            let task = place(word);
            slots.push(Slot { word, task: Some(task), next_free: NONE });
            return task;
        }
        let slot = &mut slots[number];
        self.free.set(slot.next_free);
        let task = place(slot.word);
        slot.task = Some(task);
        task
    }

    /// Wakes the task of this word, if that is still there.
    #[inline]
    pub(super) fn wake(&self, word: Word) {
        if self.current.get().is_some_and(|current| current.head().word == word) {
            return self.woken.set(true);
        }
        if let Some(task) = self.of_word(word) {
            self.make_ready(task);
        }
    }

    /// All tasks that have not ended.
    pub(super) fn all(&self) -> Vec<Pointer> {
        self.slots.borrow().iter().filter_map(|slot| slot.task).collect()
    }

    /// The task of this word, if that is still there.
    pub(super) fn of_word(&self, word: Word) -> Option<Pointer> {
        self.slots.borrow().get(word.slot()).filter(|slot| slot.word == word)?.task
    }

    fn wake_all(&self) {
        self.all().into_iter().for_each(|task| self.make_ready(task));
    }

    #[inline]
    fn make_ready(&self, task: Pointer) {
        let head = task.head();
        let flags = head.flags.get();
        if flags & RUNNING != 0 {
            head.flags.set(flags | WOKEN);
        } else if flags & (QUEUED | ALIVE) == ALIVE {
            self.push(task, flags);
        }
    }

    /// Puts a task that has these flags into the ready list, at its end.
    #[inline]
    fn push(&self, task: Pointer, flags: u8) {
        let head = task.head();
        head.flags.set(flags | QUEUED);
        head.next.set(None);
        match self.last.replace(Some(task)) {
            Some(last) => last.head().next.set(Some(task)),
            None => self.first.set(Some(task)),
        }
    }

    fn pop(&self) -> Option<Pointer> {
        let task = self.first.get()?;
        // What it has there is overwritten when it is in the list again.
        let next = task.head().next.get();
        self.first.set(next);
        if next.is_none() {
            self.last.set(None);
        }
        Some(task)
    }

    /// Does this as what this thread runs: a task of ours that it wakes is ready at once, without a detour by the inbox and the bell.
    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = Entered::new(self);
        work()
    }

    /// One pass at this time: timers that are due, wakes from other threads, then tasks that are ready, `budget` polls at most.
    ///
    /// # Panics
    /// When called within a pass.
    pub fn pass(&self, now: Instant, budget: u32) -> Pass {
        self.take_turns::<false>(now, budget)
    }

    /// As [`Tasks::pass`], and no task has more than one turn: what is woken meanwhile, as one is that yields, waits for the next. For
    /// those who have other work between two rounds.
    ///
    /// # Panics
    /// When called within a pass.
    pub fn round(&self, now: Instant, budget: u32) -> Pass {
        self.take_turns::<true>(now, budget)
    }

    /// `ONCE`: those that are ready at the beginning, and no others.
    #[inline]
    fn take_turns<const ONCE: bool>(&self, now: Instant, budget: u32) -> Pass {
        let _entered = Entered::new(self);
        assert!(!self.pass.replace(true), "a pass within a pass");
        self.now.set(now);
        // Waking, as dropping, may run anybody's code: not while the wheel is borrowed.
        let mut due = self.due.take();
        self.wheel.borrow_mut().advance(now, |waker| due.push(waker));
        due.drain(..).for_each(Waker::wake);
        self.due.set(due);
        if self.remote().drain(|word| self.wake(word)) {
            self.wake_all();
        }
        self.left.set(budget);
        self.hands_over.set(!ONCE);
        // It stays in the list until it is popped, whatever becomes of it.
        let (last, over) = (self.last.get(), Cell::new(false));
        let turns = || {
            while self.left.get() > 0
                && !over.get()
                && let Some(task) = self.pop()
            {
                self.left.set(self.left.get() - 1);
                over.set(ONCE && Some(task) == last);
                match self.watch.get() {
                    None => self.run::<false>(task),
                    Some(limit) => self.run_watched(task, limit),
                }
            }
        };
        // Once for many polls, and again for those behind one that panics.
        while let Err(panic) = catch_unwind(AssertUnwindSafe(turns)) {
            self.panicked(panic);
        }
        self.hands_over.set(false);
        self.pass.set(false);
        Pass { polled: budget - self.left.get(), more: self.has_ready() }
    }

    /// The task that was being polled has panicked.
    #[cold]
    fn panicked(&self, panic: Box<dyn Any + Send>) {
        self.cancelled.set(false);
        self.deadline.set(Instant::NEVER);
        let Some(task) = self.current.take() else {
            self.pass.set(false);
            self.hands_over.set(false);
            self.level.set(0);
            resume_unwind(panic)
        };
        // SAFETY: it was being polled, so it is alive, and RUNNING still says that its body is in use.
        unsafe { (task.head().vtable.end)(task, Ended::Panicked(panic)) };
        self.ended(task);
    }

    /// Polls a task, and notes it if it takes longer.
    #[cold]
    fn run_watched(&self, task: Pointer, limit: Duration) {
        let (id, spawned, at) = (task.head().word.bits(), task.head().spawned, Instant::monotonic());
        self.run::<false>(task);
        let took = Instant::monotonic() - at;
        if took > limit {
            self.overruns.borrow_mut().note(Overrun { id, spawned, at, took });
        }
    }

    /// From now on polls that take longer than `limit` are noted, for [`Tasks::dump`]; each costs two looks at the clock then. None: no more.
    pub fn watch(&self, limit: Option<Duration>) {
        self.watch.set(limit);
    }

    pub(super) fn overruns(&self) -> Ref<'_, Overruns> {
        self.overruns.borrow()
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("number", &self.number())
            .field("alive", &self.alive)
            .field("ready", &self.has_ready())
            .field("now", &self.now)
            .finish()
    }
}
