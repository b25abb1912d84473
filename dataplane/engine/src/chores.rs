//! What the stages of a snapshot do without packets, as tasks: one for the snapshot, and one of that for each stage that has a chore.
//!
//! Owns nothing. Keeps true: a task borrows the worker between two waits and never across one; a slice comes when its time has come, or
//! when the stage wakes its task. Where a worker has blocked and no packet has come since the slice before, slices come every [`LONGEST`], all
//! at the same times, so that a worker with nothing to do is woken for all of them at once.

use crate::idle::LONGEST;
use crate::worker::Worker;
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use zsync_io::device::Device;
use zsync_pipelines::stage::Chore;
use zsync_runtime::{Cancelled, Instant, Tasks, scope, traced};

/// Does what the worker's snapshot has to do, until it is dropped.
pub(crate) async fn tend<D: Device + 'static>(worker: Rc<RefCell<Worker<D>>>, tasks: Rc<Tasks>) {
    scope(&tasks, async |scope| {
        let chores: Vec<_> = worker.borrow().snapshot().chores().collect();
        for (number, chore) in chores {
            scope.spawn(keep_at(worker.clone(), tasks.clone(), number, chore));
        }
        // Each goes on for good, and they all end when this is cancelled or dropped.
        let _ = scope.wait().await;
    })
    .await;
}

/// One chore, slice by slice.
async fn keep_at<D: Device>(worker: Rc<RefCell<Worker<D>>>, tasks: Rc<Tasks>, number: usize, chore: Chore) {
    poll_fn(|cx| {
        worker.borrow_mut().wake_with(number, cx.waker());
        Poll::Ready(())
    })
    .await;
    let mut due = tasks.now().as_nanos();
    let (mut rests, mut packets) = (worker.borrow().rests(), worker.borrow().packets());
    loop {
        let now = tasks.now().as_nanos();
        let mut more = worker.borrow_mut().tend(number, now);
        let rested = std::mem::replace(&mut rests, worker.borrow().rests()) != rests;
        let busy = std::mem::replace(&mut packets, worker.borrow().packets()) != packets;
        let idle = rested && !busy && !more;
        if idle {
            // Slices are seldom now: with a second one, what sweeps by slices does not take twice as long for a round.
            more = worker.borrow_mut().tend(number, now);
        }
        due = if idle && !more {
            (now / LONGEST + 1) * LONGEST
        } else if due + chore.period > now {
            due + chore.period
        } else {
            now + chore.period
        };
        if traced(chore.what, pause(&tasks, due)).await.is_err() {
            return;
        }
    }
}

/// Until then, or until somebody wakes the task.
fn pause(tasks: &Rc<Tasks>, due: u64) -> impl Future<Output = Result<(), Cancelled>> {
    let mut sleep = tasks.sleep_until(Instant::from_nanos(due));
    let mut asleep = false;
    poll_fn(move |cx| match Pin::new(&mut sleep).poll(cx) {
        Poll::Pending if asleep => Poll::Ready(Ok(())),
        polled => {
            asleep = true;
            polled
        }
    })
}
