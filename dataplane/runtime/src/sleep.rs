//! Waiting for time to pass, and for one's next turn.

use crate::cancel::{Cancelled, poll_cancelled};
use crate::task::Tasks;
use crate::time::Instant;
use crate::trace::Site;
use crate::wheel::Timer;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Until a moment; see [`Tasks::sleep_until`].
#[derive(Debug)]
pub struct Sleep {
    tasks: Rc<Tasks>,
    due: Instant,
    timer: Option<Timer>,
    site: Site,
}

impl Tasks {
    /// Waits until `due`: not less, and at most 66 µs and a pass longer. What is past is over at once.
    #[track_caller]
    pub fn sleep_until(self: &Rc<Self>, due: Instant) -> Sleep {
        Sleep { tasks: self.clone(), due, timer: None, site: Site::here("time to pass") }
    }

    /// Waits so long, counted from the beginning of this pass.
    #[track_caller]
    pub fn sleep(self: &Rc<Self>, span: Duration) -> Sleep {
        self.sleep_until(self.now() + span)
    }
}

impl Sleep {
    /// When it ends.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Another end.
    pub fn reset(&mut self, due: Instant) {
        self.stop();
        self.due = due;
    }

    fn stop(&mut self) {
        if let Some(timer) = self.timer.take() {
            let waker = self.tasks.wheel().borrow_mut().cancel(timer);
            drop(waker);
        }
    }
}

impl Future for Sleep {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.as_mut().poll_shielded(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => match poll_cancelled() {
                Poll::Ready(cancelled) => {
                    self.stop();
                    Poll::Ready(Err(cancelled))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl Sleep {
    /// Ready when its time has come, cancelled or not.
    pub(crate) fn poll_shielded(self: Pin<&mut Self>, cx: &Context<'_>) -> Poll<()> {
        self.site.poll(|| self.poll_timer(cx))
    }

    fn poll_timer(mut self: Pin<&mut Self>, cx: &Context<'_>) -> Poll<()> {
        if self.tasks.now() >= self.due {
            self.stop();
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        match self.timer {
            None => {
                let timer = self.tasks.wheel().borrow_mut().insert(self.due, waker);
                self.timer = Some(timer);
            }
            Some(timer) => {
                let spare = self.tasks.wheel().borrow_mut().rewake(timer, waker);
                drop(spare);
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Lets all others that are ready have their turns.
///
/// # Errors
/// It was cancelled.
#[track_caller]
pub fn yield_now() -> impl Future<Output = Result<(), Cancelled>> {
    let mut yielded = false;
    Site::here("its turn").poll_fn(move |cx| {
        if let Poll::Ready(cancelled) = poll_cancelled() {
            return Poll::Ready(Err(cancelled));
        }
        if yielded {
            return Poll::Ready(Ok(()));
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}
