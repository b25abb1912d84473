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

/// An executor whose time the test makes.
struct Bench {
    tasks: Rc<Tasks>,
    now: Cell<u64>,
}

impl Bench {
    fn new() -> Self {
        Self { tasks: Tasks::new(Instant::ZERO).unwrap(), now: Cell::new(0) }
    }

    /// Passes until nothing is ready.
    fn settle(&self) {
        while self.tasks.pass(Instant::from_nanos(self.now.get()), 3).more {}
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
fn cancellation_goes_through_nested_calls_and_cleans_up_in_order() {
    async fn inner(tasks: Rc<Tasks>, log: Log) -> Result<(), Cancelled> {
        let _said = log.until_drop("inner cleaned up");
        tasks.sleep(Duration::from_secs(1000)).await
    }
    async fn outer(tasks: Rc<Tasks>, log: Log) -> Result<(), Cancelled> {
        let result = inner(tasks.clone(), log.clone()).await;
        log.say(format!("outer saw {result:?}"));
        // Again and again.
        assert_eq!(yield_now().await, Err(Cancelled));
        shield(tasks.sleep(Duration::from_millis(5))).await?;
        log.say("outer cleaned up");
        result
    }
    let bench = Bench::new();
    let log = Log::default();
    let task = bench.tasks.spawn(outer(bench.tasks.clone(), log.clone()));
    bench.settle();
    task.cancel();
    bench.settle();
    assert_eq!(log.said(), ["inner cleaned up", "outer saw Err(Cancelled)"]);
    bench.pass_time(Duration::from_millis(6));
    assert_eq!(log.said(), ["outer cleaned up"]);
    assert_eq!(result(task).unwrap(), Err(Cancelled));
}

#[test]
fn a_part_is_cancelled_without_the_rest() {
    let bench = Bench::new();
    let canceller = Canceller::default();
    let (part, tasks) = (canceller.clone(), bench.tasks.clone());
    let task = bench.tasks.spawn(async move {
        let first = cancellable(&part, tasks.sleep(Duration::from_secs(9))).await;
        (first, is_cancelled(), yield_now().await)
    });
    bench.settle();
    canceller.cancel();
    bench.settle();
    assert_eq!(result(task).unwrap(), (Err(Cancelled), false, Ok(())));
}

#[test]
fn a_part_that_cancels_itself_sees_it_at_its_next_wait() {
    let bench = Bench::new();
    let tasks = bench.tasks.clone();
    let task = bench.tasks.spawn(async move {
        let canceller = Canceller::default();
        cancellable(&canceller, async {
            canceller.cancel();
            tasks.sleep(Duration::from_secs(9)).await
        })
        .await
    });
    bench.settle();
    assert_eq!(result(task).unwrap(), Err(Cancelled));
}

#[test]
fn leaving_a_scope_cancels_and_joins_what_it_still_has() {
    let bench = Bench::new();
    let log = Log::default();
    let (tasks, said) = (bench.tasks.clone(), log.clone());
    let task = bench.tasks.spawn(async move {
        scope(&tasks, async |scope| {
            for name in ["first", "second"] {
                let (tasks, said) = (tasks.clone(), said.clone());
                drop(scope.spawn(async move {
                    let result = tasks.sleep(Duration::from_secs(1)).await;
                    let _ = shield(tasks.sleep(Duration::from_millis(3))).await;
                    said.say(format!("{name}: {result:?}"));
                }));
            }
            yield_now().await.unwrap();
            said.say("body");
        })
        .await;
        said.say("left");
    });
    bench.settle();
    assert_eq!(log.said(), ["body"]);
    // Also when who leaves is cancelled meanwhile.
    task.cancel();
    bench.settle();
    assert!(log.said().is_empty());
    bench.pass_time(Duration::from_millis(4));
    assert_eq!(log.said(), ["second: Err(Cancelled)", "first: Err(Cancelled)", "left"]);
}

#[test]
fn a_scope_that_is_dropped_drops_its_tasks_and_theirs() {
    let bench = Bench::new();
    let log = Log::default();
    let (tasks, said) = (bench.tasks.clone(), log.clone());
    let task = bench.tasks.spawn(async move {
        scope(&tasks, async |outer| {
            let older = said.until_drop("older");
            drop(outer.spawn(async move {
                let _older = older;
                pending::<()>().await;
            }));
            let (tasks_2, said_2) = (tasks.clone(), said.clone());
            drop(outer.spawn(async move {
                let _said = said_2.until_drop("younger");
                scope(&tasks_2, async |inner| {
                    let grandchild = said_2.until_drop("grandchild");
                    let _ = inner
                        .spawn(async move {
                            let _grandchild = grandchild;
                            pending::<()>().await;
                        })
                        .await;
                })
                .await;
            }));
            pending::<()>().await;
        })
        .await;
    });
    bench.settle();
    assert_eq!(bench.tasks.alive(), 4);
    task.abort();
    assert_eq!(log.said(), ["grandchild", "younger", "older"]);
    assert_eq!(bench.tasks.alive(), 0);
}

/// Also tasks that nobody has a handle of, in memory of their own, which goes back at once (valgrind sees who reads it then).
#[test]
fn a_scope_that_is_dropped_reads_nothing_of_what_is_gone() {
    let bench = Bench::new();
    let tasks = bench.tasks.clone();
    let task = bench.tasks.spawn(async move {
        scope(&tasks, async |scope| {
            for _ in 0..3 {
                let large = [1_u8; 20_000];
                drop(scope.spawn(async move {
                    pending::<()>().await;
                    assert_eq!(large[19_999], 1);
                }));
            }
            pending::<()>().await;
        })
        .await;
    });
    bench.settle();
    assert_eq!(bench.tasks.alive(), 4);
    task.abort();
    assert_eq!(bench.tasks.alive(), 0);
}

#[test]
fn a_child_may_abort_its_parent_and_so_itself() {
    let bench = Bench::new();
    let parent: Rc<RefCell<Option<Handle<()>>>> = Rc::default();
    let (handle, tasks) = (parent.clone(), bench.tasks.clone());
    *parent.borrow_mut() = Some(bench.tasks.spawn(async move {
        scope(&tasks, async |scope| {
            let _ = scope
                .spawn(async move {
                    handle.borrow().as_ref().unwrap().abort();
                    yield_now().await.unwrap();
                    unreachable!("it was aborted with its parent");
                })
                .await;
        })
        .await;
    }));
    bench.settle();
    assert_eq!(bench.tasks.alive(), 0);
    // Its scope's number is free again, and no task is left in it.
    let tasks = bench.tasks.clone();
    let next = bench
        .tasks
        .spawn(async move { scope(&tasks, async |scope| scope.spawn(async { 5 }).await.unwrap()).await });
    bench.settle();
    assert_eq!(result(next).unwrap(), 5);
}

#[test]
fn who_is_spawned_in_a_cancelled_scope_is_cancelled() {
    let bench = Bench::new();
    let tasks = bench.tasks.clone();
    let task = bench.tasks.spawn(async move {
        scope(&tasks, async |scope| {
            scope.cancel();
            scope.spawn(async { yield_now().await }).await.unwrap()
        })
        .await
    });
    bench.settle();
    assert_eq!(result(task).unwrap(), Err(Cancelled));
}

#[test]
fn waiting_for_a_task_can_be_cancelled_and_the_task_goes_on() {
    let bench = Bench::new();
    let tasks = bench.tasks.clone();
    let mut slow = bench.tasks.spawn(async move { tasks.sleep(Duration::from_millis(5)).await });
    let waits = bench.tasks.spawn(async move {
        let first = (&mut slow).await;
        (matches!(first, Err(Ended::Cancelled)), shield(slow).await.is_ok())
    });
    bench.settle();
    waits.cancel();
    bench.pass_time(Duration::from_millis(6));
    assert_eq!(result(waits).unwrap(), (true, true));
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
