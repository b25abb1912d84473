//! Waiting until something about a mutex's value is so.
//!
//! Keeps true: who waits is in the line before it lets go of the value, so no notice is missed in between; a notice to one is
//! that one's until it has the value again: who is dropped or cancelled before that passes it on. For this reason a wait may end
//! without need (when a notice to all is passed on, for one), and who waits looks again: [`Condition::wait_while`] does.

use super::mutex::{Guard, Turn};
use super::{Wait, Waiters};
use crate::cancel::{Cancelled, poll_cancelled};
use crate::trace::Site;
use std::task::Poll;

/// See the module. Use it with one mutex.
#[derive(Debug)]
pub struct Condition {
    line: Waiters,
}

impl Default for Condition {
    fn default() -> Self {
        Self::new()
    }
}

impl Condition {
    /// Nobody waits.
    #[must_use]
    pub fn new() -> Self {
        Self { line: Waiters::new() }
    }

    /// Lets go of the value, waits for a notice, and then for the value.
    ///
    /// # Errors
    /// It was cancelled, and does not have the value any more.
    #[track_caller]
    pub fn wait<'a, T>(&self, guard: Guard<'a, T>) -> impl Future<Output = Result<Guard<'a, T>, Cancelled>> {
        let site = Site::here("a notice of a condition");
        async move {
            let mutex = guard.mutex();
            let mut guard = Some(guard);
            // The turn is dropped first, so that whoever gets the notice finds the value promised to nobody.
            let mut notice = Wait::new(&self.line);
            let mut turn = Turn::new(mutex);
            site.poll_fn(|cx| {
                if let Poll::Ready(cancelled) = poll_cancelled() {
                    return Poll::Ready(Err(cancelled));
                }
                if let Some(guard) = guard.take() {
                    let _waits = notice.poll(cx);
                    drop(guard);
                    return Poll::Pending;
                }
                if !notice.is_told() {
                    let _waits = notice.poll(cx);
                    return Poll::Pending;
                }
                let locked = turn.poll(cx);
                if let Poll::Ready(Ok(_)) = locked {
                    notice.take();
                }
                locked
            })
            .await
        }
    }

    /// Waits as long as `condition` says so of the value.
    ///
    /// # Errors
    /// It was cancelled, and does not have the value any more.
    #[track_caller]
    pub fn wait_while<'a, T>(
        &self,
        mut guard: Guard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> impl Future<Output = Result<Guard<'a, T>, Cancelled>> {
        Site::here("a condition").around(async move {
            while condition(&mut guard) {
                guard = self.wait(guard).await?;
            }
            Ok(guard)
        })
    }

    /// Tells the one who has waited longest. False: nobody waits, and the notice is nobody's.
    pub fn notify_one(&self) -> bool {
        self.line.tell_one()
    }

    /// Tells all who wait now.
    pub fn notify_all(&self) {
        self.line.tell_all();
    }
}

#[cfg(test)]
mod tests;
