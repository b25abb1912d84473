//! Who waits for a task, and may end it.

use super::{ABORTED, ALIVE, CANCELLED, HANDLE, Pointer, RUNNING, TAKEN, Tasks, reason};
use crate::cancel::is_cancelled;
use crate::trace::Site;
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Why a task has no result.
pub enum Ended {
    /// It was aborted.
    Aborted,
    /// It panicked, with this.
    Panicked(Box<dyn Any + Send>),
    /// Who waits for it was cancelled meanwhile. The task goes on, and can be waited for again.
    Cancelled,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted => write!(f, "the task was aborted"),
            Self::Panicked(panic) => write!(f, "the task panicked: {}", reason(&**panic)),
            Self::Cancelled => write!(f, "who waited for the task was cancelled"),
        }
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for Ended {}

/// A task that was spawned. Waiting for it gives its result, or why there is none; if its turn is the next one anyway, it may have it
/// within the poll of who waits for it. So, polling a handle may run the other task's code: whoever polls it holds no borrow then of
/// what both look at, as a `RefCell` has. Dropping the handle leaves the task to its scope.
pub struct Handle<T> {
    tasks: Rc<Tasks>,
    task: Pointer,
    result: PhantomData<T>,
}

impl<T> Handle<T> {
    /// `task` was placed with HANDLE set, and its future's output is a `T`.
    pub(super) fn new(tasks: Rc<Tasks>, task: Pointer) -> Self {
        Self { tasks, task, result: PhantomData }
    }

    /// Whether it has come to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !self.task.is(ALIVE)
    }

    /// Asks it to come to its end: from now on what it waits for, as far as it is this crate's, ends with
    /// [`crate::Cancelled`], and it is woken to see that. It goes on until it returns.
    pub fn cancel(&self) {
        self.tasks.cancel(self.task);
    }

    /// Drops its future, now; or, when it is being polled at this moment, as soon as it waits. (It is, too, while another one has its
    /// turn within it: it does not go on from the join of that one.) Tasks that are dropped by the drops of tasks,
    /// as those of its scopes are and those of theirs, end at their next turns if they are more than 32 levels down. What a drop does
    /// cannot wait for anything: where it matters, [`Handle::cancel`] and wait.
    pub fn abort(&self) {
        self.tasks.abort(self.task);
    }

    /// The result of a task that has ended and that nobody else could abort.
    ///
    /// # Panics
    /// With what it panicked with.
    pub(crate) fn into_result(mut self) -> T {
        match self.take() {
            Ok(result) => result,
            Err(Ended::Panicked(panic)) => resume_unwind(panic),
            Err(why) => unreachable!("nobody else has its handle: {why}"),
        }
    }

    fn take(&mut self) -> Result<T, Ended> {
        let mut result = MaybeUninit::<Result<T, Ended>>::uninit();
        // SAFETY: HANDLE keeps the block; the task has ended, and its output is a `T`.
        unsafe { (self.task.head().vtable.take)(self.task, result.as_mut_ptr().cast()) };
        self.task.head().set(TAKEN);
        // SAFETY: it was just written.
        unsafe { result.assume_init() }
    }
}

impl<T> Future for Handle<T> {
    type Output = Result<T, Ended>;

    /// # Panics
    /// When it is polled again after it gave the result.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let head = self.task.head();
        if !head.has(ALIVE) {
            return Poll::Ready(self.take());
        }
        if is_cancelled() {
            return Poll::Ready(Err(Ended::Cancelled));
        }
        self.tasks.hand_over(self.task);
        if !head.has(ALIVE) {
            // Who was aborted by that, or with a scope that was dropped by it, ends here.
            return if self.tasks.is_aborted() { Poll::Pending } else { Poll::Ready(self.take()) };
        }
        let site = Site { what: "the end of a task", at: head.spawned };
        site.poll(|| {
            let joiner = head.joiner.take().filter(|joiner| joiner.will_wake(cx.waker()));
            head.joiner.set(Some(joiner.unwrap_or_else(|| cx.waker().clone())));
            Poll::Pending
        })
    }
}

// It holds no `T`.
impl<T> Unpin for Handle<T> {}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        if self.task.is(ALIVE) {
            drop(self.task.head().joiner.take());
        }
        self.tasks.let_go(self.task, HANDLE);
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.task.head();
        f.debug_struct("Handle")
            .field("alive", &head.has(ALIVE))
            .field("cancelled", &head.has(CANCELLED))
            .field("running", &head.has(RUNNING))
            .field("aborted", &head.has(ABORTED))
            .finish()
    }
}
