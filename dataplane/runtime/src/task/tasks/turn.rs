//! A task's turn: one poll, from the ready list, within the poll of another, or only to see where it waits.
//!
//! Keeps true: a future is polled while RUNNING says so, and by one at a time; what runs, whether it is cancelled and until when it has
//! time, is as it was when a turn within another's is over.

use super::Tasks;
use crate::task::waker::with_current;
use crate::task::{ABORTED, ALIVE, CANCELLED, Ended, Pointer, QUEUED, RUNNING, WOKEN};
use crate::time::Instant;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::task::Context;

impl Tasks {
    /// What is polled now waits for the end of this task. If that is next, and this pass has a turn for it, it has it now: who waits
    /// need not be polled again for what is there already. It comes no earlier than it would; who waits goes on ahead of what it woke or
    /// spawned. Not in a round, not while somebody takes the time of polls, and not within such a turn, so that the stack does not grow
    /// with who waits for whom.
    #[inline]
    pub(in crate::task) fn hand_over(&self, task: Pointer) {
        let left = self.left.get();
        if self.first.get() == Some(task)
            && left > 0
            && self.hands_over.get()
            && self.watch.get().is_none()
            && with_current(|tasks| ptr::eq(tasks, self)) == Some(true)
        {
            self.left.set(left - 1);
            self.pop();
            self.run_within::<false>(task);
        }
    }

    /// Polls a task within the poll of another, or within none. `LOOK`: only to see where it waits.
    pub(in crate::task) fn run_within<const LOOK: bool>(&self, task: Pointer) {
        let before = (self.current.take(), self.woken.get(), self.cancelled.get(), self.deadline.get());
        let hands_over = self.hands_over.replace(false);
        self.deadline.set(Instant::NEVER);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run::<LOOK>(task))) {
            self.panicked(panic);
        }
        let (current, woken, cancelled, deadline) = before;
        self.current.set(current);
        self.woken.set(woken);
        self.cancelled.set(cancelled);
        self.deadline.set(deadline);
        self.hands_over.set(hands_over);
    }

    /// Polls a task that was taken from the ready list, or is new, or is looked at.
    #[inline(always)]
    pub(super) fn run<const LOOK: bool>(&self, task: Pointer) {
        let head = task.head();
        let flags = head.flags.get() & !QUEUED;
        if flags & (ALIVE | RUNNING | ABORTED) != ALIVE {
            return self.pass_over(task, flags);
        }
        head.flags.set(flags | RUNNING);
        if !LOOK {
            head.polled.set(self.now.get());
        }
        self.woken.set(false);
        self.cancelled.set(flags & CANCELLED != 0);
        // Dropping one is nothing, behind a call that says so.
        let waker = ManuallyDrop::new(head.word.waker());
        self.current.set(Some(task));
        // SAFETY: it is alive and nobody used its body; RUNNING says from here on that it is in use.
        let ended = unsafe { (head.vtable.poll)(task, &mut Context::from_waker(&waker)) };
        self.current.set(None);
        self.cancelled.set(false);
        if ended {
            return self.ended(task);
        }
        let flags = head.flags.get();
        if flags & ABORTED != 0 {
            // SAFETY: as above.
            unsafe { (head.vtable.end)(task, Ended::Aborted) };
            return self.ended(task);
        }
        if self.woken.get() || flags & WOKEN != 0 {
            self.push(task, flags & !(RUNNING | WOKEN));
        } else {
            head.flags.set(flags & !RUNNING);
        }
    }

    /// What was in the ready list has ended meanwhile; or it is being dropped, and asks for turns as it is; or it is to end here.
    #[inline(never)]
    fn pass_over(&self, task: Pointer, flags: u8) {
        task.head().flags.set(flags);
        if flags & (ALIVE | RUNNING) == ALIVE {
            return self.end(task);
        }
        self.free_unless_held(task);
    }

    /// Whether what is polled now was aborted meanwhile.
    pub(in crate::task) fn is_aborted(&self) -> bool {
        self.current.get().is_some_and(|task| task.is(ABORTED))
    }
}
