//! How tasks end: by themselves, by being asked to, by being dropped, or with their executor.
//!
//! Owns nothing that is not the [tasks'](super). Keeps true: a task that has ended is in no scope and at no place any more before anybody is told; a future
//! is dropped while RUNNING says that it is in use, whatever its drop asks for; a block goes back when its last holder has left it.

use super::{Entered, LEVELS, Slot, Tasks};
use crate::task::{
    ABORTED, ALIVE, CANCELLED, Ended, HANDLE, HOLDERS, Pointer, QUEUED, RUNNING, ScopeId, TAKEN,
};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

impl Tasks {
    /// Asks a task to come to its end.
    pub(in crate::task) fn cancel(&self, task: Pointer) {
        if task.is(ALIVE) {
            task.head().set(CANCELLED);
            self.make_ready(task);
        }
    }

    /// Drops a task's future: now; or when its poll is over; or, with so many on the stack already, at its next turn. Whether it has
    /// ended; if not, nobody's code ran.
    pub(in crate::task) fn abort(&self, task: Pointer) -> bool {
        let head = task.head();
        let now = !head.has(RUNNING) && self.level.get() < LEVELS;
        if head.has(ALIVE) && now {
            self.end(task);
        } else if head.has(ALIVE) {
            head.set(ABORTED);
            self.make_ready(task);
            return false;
        }
        true
    }

    /// Drops the future of a task that is alive and neither polled nor dropped at this moment.
    pub(super) fn end(&self, task: Pointer) {
        let (head, level) = (task.head(), self.level.get());
        self.level.set(level + 1);
        // What its drop does may ask for the same.
        head.set(RUNNING);
        // SAFETY: it is alive and nobody used its body; RUNNING says from here on that it is in use.
        unsafe { (head.vtable.end)(task, Ended::Aborted) };
        self.level.set(level);
        self.ended(task);
    }

    /// A task's future is gone, and its result is there.
    pub(super) fn ended(&self, task: Pointer) {
        let head = task.head();
        // Its block is kept to the end of this.
        let handle = head.has(HANDLE);
        head.flags.set(head.flags.get() & (QUEUED | CANCELLED) | HANDLE);
        let word = head.word;
        if let Some(slot) = self.slots.borrow_mut().get_mut(word.slot()) {
            *slot = Slot { word: word.after(), task: None, next_free: self.free.get() };
            self.free.set(word.slot() as u32);
        }
        self.alive.set(self.alive.get() - 1);
        let leaver = match head.scope {
            ScopeId::ROOT => None,
            scope => self.scopes.borrow_mut().lose(scope, task),
        };
        match (head.joiner.take(), leaver) {
            (None, None) if handle => {}
            (joiner, leaver) => self.tell(task, handle, joiner, leaver),
        }
    }

    /// A task has ended: who does not wait for that lets it go, and who does is woken.
    #[inline(never)]
    fn tell(&self, task: Pointer, handle: bool, joiner: Option<Waker>, leaver: Option<Waker>) {
        if !handle {
            // Nobody is there whom a result that panics in its drop could concern.
            drop(catch_unwind(AssertUnwindSafe(|| self.let_go(task, HANDLE))));
        }
        // Last: who is woken may let the task go.
        joiner.into_iter().chain(leaver).for_each(Waker::wake);
    }

    /// One who kept a task no longer does.
    pub(in crate::task) fn let_go(&self, task: Pointer, holder: u8) {
        let head = task.head();
        let mut dropped = Ok(());
        if !head.has(ALIVE | TAKEN) {
            // SAFETY: it has ended, and the holder still keeps it; nobody else looks at its body after that.
            let drops = || unsafe { (head.vtable.drop)(task) };
            dropped = catch_unwind(AssertUnwindSafe(drops));
        }
        head.clear(holder);
        self.free_unless_held(task);
        // The block is back, and who drops the handle sees it.
        if let Err(panic) = dropped {
            resume_unwind(panic);
        }
    }

    pub(super) fn free_unless_held(&self, task: Pointer) {
        let head = task.head();
        if !head.has(HOLDERS) {
            // SAFETY: nobody keeps it; its body is empty, and the head has nothing to drop but a joiner, which is gone.
            unsafe { self.memory.give(task.0.cast(), head.vtable.class) };
        }
    }

    /// Drops all tasks, and those that are spawned by that. Afterwards whatever is spawned is dropped at once.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.drop_all();
    }

    /// Drops all tasks, and those that are spawned by that.
    pub(crate) fn drop_all(&self) {
        let _entered = Entered::new(self);
        let alive = |slot: &Slot| slot.task.filter(|task| !task.is(RUNNING));
        // Again, until a round finds none: a drop may spawn.
        loop {
            let count = self.slots.borrow().len();
            let mut any = false;
            for number in (0..count).rev() {
                let task = alive(&self.slots.borrow()[number]);
                if let Some(task) = task {
                    any = true;
                    // Whatever this is called by: there may be no turn any more.
                    self.end(task);
                }
            }
            if !any {
                break;
            }
        }
        while let Some(task) = self.pop() {
            task.head().clear(QUEUED);
            self.free_unless_held(task);
        }
    }
}

impl Drop for Tasks {
    /// A future that was pinned is dropped where it is, whoever forgot to close this.
    fn drop(&mut self) {
        self.close();
    }
}
