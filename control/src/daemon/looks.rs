//! Looking through tables of millions of entries, without keeping the daemon's loop from its work.
//!
//! Owns whose turn it is: one look at a time, in slices, after each of which all else that waits is dealt with. Refuses
//! nothing. Keeps true: a look whose asker has gone ends.

use super::core::ReplyTo;
use crate::api::Answer;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::yield_now;

/// Entries of a slice: a millisecond's work when each becomes a row of an answer, else much less.
const SLICE: u32 = 256;

/// See the module.
#[derive(Debug)]
pub struct Looks(Arc<Semaphore>);

impl Default for Looks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Looks {
    /// Answers with what `look` comes to, when it is its turn. Within a tokio runtime.
    pub fn answer(&self, reply: ReplyTo, look: impl Future<Output = Answer> + Send + 'static) {
        self.send(reply, async { Ok(look.await) });
    }

    /// The same, for who expects something else.
    pub fn send<T: Send + 'static>(
        &self,
        mut reply: oneshot::Sender<T>,
        look: impl Future<Output = T> + Send + 'static,
    ) {
        let turns = Arc::clone(&self.0);
        tokio::spawn(async move {
            let looked = async {
                // It is never closed.
                let _turn = turns.acquire().await;
                look.await
            };
            let answer = tokio::select! {
                () = reply.closed() => return,
                answer = looked => answer,
            };
            let _ = reply.send(answer);
        });
    }
}

/// All numbers below `end`, a slice at a time.
pub async fn slices(end: u32, mut each: impl FnMut(Range<u32>)) {
    for from in (0..end).step_by(SLICE as usize) {
        each(from..end.min(from.saturating_add(SLICE)));
        yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Confirmed;
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use tokio::sync::oneshot;

    fn run<T>(what: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(what)
    }

    #[test]
    fn slices_cover_everything_once_and_let_others_go_first() {
        run(async {
            let others = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&others);
            let other = tokio::spawn(async move {
                loop {
                    count.fetch_add(1, Relaxed);
                    yield_now().await;
                }
            });
            let (next, parts) = (Cell::new(0), Cell::new(0));
            slices(3 * SLICE + 1, |slice| {
                assert_eq!(slice.start, next.get());
                assert!(slice.end - slice.start <= SLICE);
                (next.set(slice.end), parts.set(parts.get() + 1)).0
            })
            .await;
            other.abort();
            assert_eq!((next.get(), parts.get()), (3 * SLICE + 1, 4));
            assert!(others.load(Relaxed) >= 3, "{others:?}");
            slices(0, |_| panic!("there is nothing")).await;
        });
    }

    #[test]
    fn one_looks_at_a_time_and_nobody_for_one_who_has_gone() {
        run(async {
            let looks = Looks::default();
            let busy = Arc::new(AtomicUsize::new(0));
            let look = |number: u64| {
                let busy = Arc::clone(&busy);
                async move {
                    assert_eq!(busy.fetch_add(1, Relaxed), 0, "two at a time");
                    for _ in 0..10 {
                        yield_now().await;
                    }
                    busy.fetch_sub(1, Relaxed);
                    Answer::Confirmed(Confirmed { number })
                }
            };
            let (gone, receiver) = oneshot::channel();
            drop(receiver);
            looks.answer(gone, async { panic!("for nobody") });
            let mut waiting = Vec::new();
            for number in 0..3 {
                let (reply, receiver) = oneshot::channel();
                looks.answer(reply, look(number));
                waiting.push(receiver);
            }
            for (number, receiver) in (0..).zip(waiting) {
                assert_eq!(receiver.await.unwrap(), Ok(Answer::Confirmed(Confirmed { number })));
            }
        });
    }
}
