//! Scopes: tasks end before what spawned them goes on.
//!
//! ```
//! # use zsync_runtime::{Executor, scope};
//! # let executor = Executor::new().unwrap();
//! # executor.run(async |tasks| {
//! let sum = scope(&tasks, async |scope| {
//!     let left = scope.spawn(async { 1 });
//!     let right = scope.spawn(async { 2 });
//!     left.await.unwrap() + right.await.unwrap()
//! })
//! .await;
//! assert_eq!(sum, 3);
//! # });
//! ```
//!
//! Keeps true: when [`scope`] returns, none of its tasks is left: what still runs when its body returns is cancelled and waited
//! for, also when it takes its time, and also when who waits is cancelled. A scope whose future is dropped drops its tasks, the
//! youngest first; one that is being polled at this moment as soon as it waits, and one that is very deep at its next turn, as
//! [`Handle::abort`] says.

use crate::cancel::{Cancelled, is_cancelled};
use crate::task::{Handle, ScopeId, Tasks};
use crate::trace::Site;
use std::rc::Rc;
use std::task::Poll;

/// Tasks that end with what spawned them; see [`scope`].
#[derive(Debug)]
pub struct Scope {
    tasks: Rc<Tasks>,
    id: ScopeId,
}

/// Runs `body`, cancels the tasks that it spawned and that still run, waits for them, and gives what it returned.
#[track_caller]
pub fn scope<T>(tasks: &Rc<Tasks>, body: impl AsyncFnOnce(&Scope) -> T) -> impl Future<Output = T> {
    let site = Site::here("the tasks of a scope that is left");
    async move {
        let scope = Scope { tasks: tasks.clone(), id: tasks.open_scope() };
        let result = body(&scope).await;
        scope.cancel();
        site.poll_fn(|cx| tasks.poll_empty(scope.id, cx)).await;
        result
    }
}

impl Scope {
    /// A task of this scope. It is ready, and polled later.
    #[track_caller]
    pub fn spawn<F: Future + 'static>(&self, future: F) -> Handle<F::Output> {
        self.tasks.spawn_in(self.id, future)
    }

    /// Asks all of its tasks to come to their ends, and those that are spawned from now on.
    pub fn cancel(&self) {
        self.tasks.cancel_scope(self.id);
    }

    /// Waits until all of its tasks have ended.
    ///
    /// # Errors
    /// Who waits was cancelled; its tasks run on until the scope is left.
    #[track_caller]
    pub fn wait(&self) -> impl Future<Output = Result<(), Cancelled>> {
        Site::here("the tasks of a scope").poll_fn(|cx| match self.tasks.poll_empty(self.id, cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending if is_cancelled() => Poll::Ready(Err(Cancelled)),
            Poll::Pending => Poll::Pending,
        })
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.tasks.leave_scope(self.id);
    }
}
