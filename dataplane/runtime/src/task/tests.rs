use super::*;
use crate::time::Instant;
use crate::{Cancelled, Canceller, cancellable, is_cancelled, scope, shield, yield_now};
use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

mod ends;
mod turn;

/// An executor whose time the test makes.
pub(super) struct Bench {
    tasks: Rc<Tasks>,
    now: Cell<u64>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self { tasks: Tasks::new(Instant::ZERO).unwrap(), now: Cell::new(0) }
    }

    /// Passes until nothing is ready.
    fn settle(&self) {
        while self.tasks.pass(Instant::from_nanos(self.now.get()), 3).more {}
    }

    /// Runs a task and all others until that one has ended, a microsecond a pass.
    #[track_caller]
    pub(super) fn run<T: 'static>(&self, main: impl AsyncFnOnce(Rc<Tasks>) -> T + 'static) -> T {
        let tasks = self.tasks.clone();
        let main = self.tasks.spawn(async move { main(tasks).await });
        while !main.is_finished() {
            self.now.set(self.now.get() + 1000);
            self.tasks.pass(Instant::from_nanos(self.now.get()), 64);
        }
        main.into_result()
    }

    pub(super) fn tasks(&self) -> &Rc<Tasks> {
        &self.tasks
    }

    fn pass_time(&self, span: Duration) {
        self.now.set(self.now.get() + span.as_nanos() as u64);
        self.settle();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.tasks.close();
        assert_eq!(self.tasks.alive(), 0);
    }
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn say(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    fn said(&self) -> Vec<String> {
        self.0.take()
    }

    /// Says so when it is dropped.
    fn until_drop(&self, what: &str) -> Said {
        Said(self.clone(), what.into())
    }
}

struct Said(Log, String);

impl Drop for Said {
    fn drop(&mut self) {
        self.0.say(self.1.clone());
    }
}

/// What a finished task gave.
fn result<T>(mut handle: Handle<T>) -> Result<T, Ended> {
    assert!(handle.is_finished());
    match Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it has ended"),
    }
}

#[test]
fn tasks_take_turns_in_the_order_in_which_they_were_woken() {
    let bench = Bench::new();
    let log = Log::default();
    for name in ["a", "b", "c"] {
        let log = log.clone();
        drop(bench.tasks.spawn(async move {
            for turn in 0..3 {
                log.say(format!("{name}{turn}"));
                yield_now().await.unwrap();
            }
        }));
    }
    bench.settle();
    assert_eq!(log.said(), ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]);
}

#[test]
fn a_handle_gives_what_its_task_returned() {
    let bench = Bench::new();
    let inner = bench.tasks.spawn(async { vec![1, 2, 3] });
    let outer = bench.tasks.spawn(async move { inner.await.unwrap().len() });
    bench.settle();
    assert_eq!(result(outer).unwrap(), 3);
}

#[test]
fn a_panic_ends_its_task_alone() {
    let bench = Bench::new();
    let log = Log::default();
    let said = log.until_drop("dropped");
    let bad = bench.tasks.spawn(async move {
        let _said = said;
        yield_now().await.unwrap();
        panic!("broken {}", 7);
    });
    let good = bench.tasks.spawn(async {
        for _ in 0..10 {
            yield_now().await.unwrap();
        }
        1
    });
    bench.settle();
    assert_eq!(result(bad).unwrap_err().to_string(), "the task panicked: broken 7");
    assert_eq!(result(good).unwrap(), 1);
    assert_eq!(log.said(), ["dropped"]);
}

#[test]
fn a_drop_that_panics_is_the_tasks_end() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("in a drop");
        }
    }
    let bench = Bench::new();
    let bad = Bad;
    let waits = bench.tasks.spawn(async move {
        let _bad = bad;
        pending::<()>().await;
    });
    bench.settle();
    waits.abort();
    assert_eq!(result(waits).unwrap_err().to_string(), "the task panicked: in a drop");
}

#[test]
fn an_abort_drops_at_once_and_one_of_oneself_at_the_next_wait() {
    let bench = Bench::new();
    let log = Log::default();
    let said = log.until_drop("waiting one");
    let waits = bench.tasks.spawn(async move {
        let _said = said;
        pending::<()>().await;
    });
    bench.settle();
    waits.abort();
    assert_eq!(log.said(), ["waiting one"]);
    assert!(matches!(result(waits), Err(Ended::Aborted)));

    let own: Rc<RefCell<Option<Handle<()>>>> = Rc::default();
    let (inner, log_2) = (own.clone(), log.clone());
    *own.borrow_mut() = Some(bench.tasks.spawn(async move {
        let _said = log_2.until_drop("own");
        inner.borrow().as_ref().unwrap().abort();
        log_2.say("still here");
        yield_now().await.unwrap();
        log_2.say("never");
    }));
    bench.settle();
    assert_eq!(log.said(), ["still here", "own"]);
    let own = own.take().unwrap();
    assert!(matches!(result(own), Err(Ended::Aborted)));
}

#[test]
fn a_drop_may_abort_what_is_being_dropped() {
    struct Again(Rc<RefCell<Option<Handle<()>>>>);
    impl Drop for Again {
        fn drop(&mut self) {
            self.0.borrow().as_ref().unwrap().abort();
        }
    }
    let bench = Bench::new();
    let own: Rc<RefCell<Option<Handle<()>>>> = Rc::default();
    let again = Again(own.clone());
    *own.borrow_mut() = Some(bench.tasks.spawn(async move {
        let _again = again;
        pending::<()>().await;
    }));
    bench.settle();
    own.borrow().as_ref().unwrap().abort();
    assert!(own.borrow().as_ref().unwrap().is_finished());
}

#[test]
fn a_waker_of_a_task_that_is_gone_wakes_nothing() {
    let bench = Bench::new();
    let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
    let keeper = kept.clone();
    drop(bench.tasks.spawn(async move {
        poll_fn(|cx| {
            *keeper.borrow_mut() = Some(cx.waker().clone());
            Poll::Ready(())
        })
        .await;
    }));
    bench.settle();
    let polls = Rc::new(Cell::new(0));
    let counter = polls.clone();
    // In the same slot.
    let next = bench.tasks.spawn(poll_fn(move |_| {
        counter.set(counter.get() + 1);
        Poll::<()>::Pending
    }));
    bench.settle();
    kept.take().unwrap().wake();
    bench.settle();
    assert_eq!(polls.get(), 1);
    drop(next);
}

#[test]
fn other_threads_wake_tasks_even_when_they_are_more_than_an_inbox_holds() {
    let bench = Bench::new();
    let wakers = Rc::new(RefCell::new(Vec::new()));
    let handles: Vec<_> = (0..1000)
        .map(|_| {
            let wakers = wakers.clone();
            let mut first = true;
            bench.tasks.spawn(poll_fn(move |cx| {
                if mem::take(&mut first) {
                    wakers.borrow_mut().push(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(())
            }))
        })
        .collect();
    bench.settle();
    let wakers = wakers.take();
    thread::spawn(move || wakers.into_iter().for_each(Waker::wake)).join().unwrap();
    assert!(handles.iter().all(|handle| !handle.is_finished()));
    bench.settle();
    assert!(handles.iter().all(Handle::is_finished));
}

#[test]
fn a_waker_may_outlive_its_executor() {
    let waker = Arc::new(std::sync::Mutex::new(None));
    {
        let bench = Bench::new();
        let slot = waker.clone();
        drop(bench.tasks.spawn(poll_fn(move |cx| {
            *slot.lock().unwrap() = Some(cx.waker().clone());
            Poll::<()>::Pending
        })));
        bench.settle();
    }
    let waker: Waker = waker.lock().unwrap().take().unwrap();
    waker.wake_by_ref();
    // One that may have the same number.
    let _next = Bench::new();
    thread::spawn(move || waker.wake()).join().unwrap();
}

#[test]
fn what_is_spawned_while_all_is_dropped_is_dropped() {
    struct Spawns(Rc<Tasks>, Log);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let said = self.1.until_drop("spawned too late");
            drop(self.0.spawn(async move {
                let _said = said;
                pending::<()>().await;
            }));
        }
    }
    let log = Log::default();
    {
        let bench = Bench::new();
        let spawns = Spawns(bench.tasks.clone(), log.clone());
        drop(bench.tasks.spawn(async move {
            let _spawns = spawns;
            pending::<()>().await;
        }));
        bench.settle();
    }
    assert_eq!(log.said(), ["spawned too late"]);
}

#[test]
fn a_handle_may_outlive_its_executor() {
    let handle = {
        let bench = Bench::new();
        let handle = bench.tasks.spawn(async { String::from("kept") });
        bench.settle();
        handle
    };
    assert_eq!(result(handle).unwrap(), "kept");
}

#[test]
fn a_task_of_any_size_and_alignment_is_where_it_may_be() {
    #[repr(align(256))]
    struct Aligned(u8);
    let bench = Bench::new();
    let large = [7_u8; 50_000];
    let large = bench.tasks.spawn(async move {
        yield_now().await.unwrap();
        large.iter().map(|byte| u64::from(*byte)).sum::<u64>()
    });
    let aligned = Aligned(3);
    let aligned = bench.tasks.spawn(async move {
        yield_now().await.unwrap();
        (&raw const aligned).addr() % 256 + usize::from(aligned.0)
    });
    bench.settle();
    assert_eq!(result(large).unwrap(), 350_000);
    assert_eq!(result(aligned).unwrap(), 3);
}

#[test]
fn in_a_round_each_has_one_turn_whoever_yields() {
    let bench = Bench::new();
    let turns = Rc::new(Cell::new(0));
    for _ in 0..3 {
        let turns = turns.clone();
        bench.tasks.spawn(async move {
            loop {
                turns.set(turns.get() + 1);
                yield_now().await.unwrap();
            }
        });
    }
    assert_eq!(bench.tasks.round(Instant::ZERO, 100), Pass { polled: 3, more: true });
    assert_eq!(bench.tasks.round(Instant::ZERO, 2), Pass { polled: 2, more: true });
    // The third one's turn comes first now.
    assert_eq!(bench.tasks.round(Instant::ZERO, 100), Pass { polled: 3, more: true });
    assert_eq!(turns.get(), 8);
    assert_eq!(bench.tasks.pass(Instant::ZERO, 100).polled, 100);
}

#[test]
fn a_round_ends_with_who_was_last_also_if_that_is_gone() {
    let bench = Bench::new();
    let waits = bench.tasks.spawn(async { yield_now().await });
    let dropped = bench.tasks.spawn(pending::<()>());
    dropped.abort();
    drop(dropped);
    assert_eq!(bench.tasks.round(Instant::ZERO, 100).polled, 2);
    assert_eq!(bench.tasks.round(Instant::ZERO, 100), Pass { polled: 1, more: false });
    assert!(waits.is_finished());
    assert_eq!(bench.tasks.round(Instant::ZERO, 100), Pass { polled: 0, more: false });
}
