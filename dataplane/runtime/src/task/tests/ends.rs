//! Tasks that end before they are done: by cancellation, and with their scopes.

use super::*;

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
                    // Until its parent waits for it.
                    yield_now().await.unwrap();
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

/// (Under valgrind: a future that is polled while it is dropped would be borrowed twice.)
#[test]
fn a_drop_may_wait_for_what_is_being_dropped_and_make_a_pass() {
    struct Joins(Rc<RefCell<Option<Handle<()>>>>, Rc<Tasks>, Log);
    impl Drop for Joins {
        fn drop(&mut self) {
            let mut own = self.0.take().unwrap();
            let joined = Pin::new(&mut own).poll(&mut Context::from_waker(Waker::noop()));
            self.2.say(format!("joined: {}", joined.is_ready()));
            if self.1.running().is_none() {
                self.2.say(format!("passed: {}", self.1.pass(Instant::ZERO, 9).polled));
            }
            self.0.replace(Some(own));
        }
    }
    for within in [true, false] {
        let bench = Bench::new();
        let (own, log) = (Rc::<RefCell<Option<Handle<()>>>>::default(), Log::default());
        let (kept, said) = (own.clone(), log.clone());
        let leaves = move |tasks: Rc<Tasks>| {
            let scope = tasks.open_scope();
            let joins = Joins(kept.clone(), tasks.clone(), said);
            kept.replace(Some(tasks.spawn_in(scope, async move {
                let _joins = joins;
                unreachable!("it never has a turn, but is in the ready list all the while");
            })));
            tasks.leave_scope(scope);
        };
        if within {
            bench.run(async |tasks| leaves(tasks));
            assert_eq!(log.said(), ["joined: false"]);
        } else {
            leaves(bench.tasks.clone());
            assert_eq!(log.said(), ["joined: false", "passed: 1"]);
        }
        assert!(matches!(result(own.take().unwrap()), Err(Ended::Aborted)));
    }
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

/// A result that panics in its drop: without a handle it concerns nobody, and else who drops that.
#[test]
fn a_result_that_panics_in_its_drop_is_not_the_executors_end() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("as it must");
        }
    }
    let bench = Bench::new();
    let tasks = bench.tasks.clone();
    let scoped = bench.tasks.spawn(async move {
        scope(&tasks, async |scope| {
            drop(scope.spawn(async {
                yield_now().await.unwrap();
                Bad
            }));
            scope.wait().await.unwrap();
        })
        .await;
        7
    });
    bench.settle();
    assert_eq!(result(scoped).unwrap(), 7, "the scope waits on");

    let held = bench.tasks.spawn(async { Bad });
    bench.settle();
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(held)));
    assert_eq!(reason(&*dropped.unwrap_err()), "as it must");
    let next = bench.tasks.spawn(async { 8 });
    bench.settle();
    assert_eq!((result(next).unwrap(), bench.tasks.alive()), (8, 0));
}

/// The task of this level and of those below it, 70 in all, each in a scope of the one above it, behind which it drops what `guard` gives.
fn nest<G: 'static>(
    tasks: Rc<Tasks>,
    level: u32,
    guard: Rc<dyn Fn(u32) -> G>,
) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        let _guard = guard(level);
        scope(&tasks, async |scope| {
            if level < 70 {
                drop(scope.spawn(nest(tasks.clone(), level + 1, guard)));
            }
            pending::<()>().await;
        })
        .await;
    })
}

#[test]
fn what_is_too_deep_for_the_stack_ends_at_its_turn() {
    let bench = Bench::new();
    let log = Log::default();
    let said = log.clone();
    let guard = Rc::new(move |level: u32| said.until_drop(&level.to_string()));
    let root = bench.tasks.spawn(nest(bench.tasks.clone(), 1, guard));
    bench.settle();
    assert_eq!(bench.tasks.alive(), 70);
    let levels = |from: u32, to: u32| (from..=to).rev().map(|level| level.to_string()).collect::<Vec<_>>();
    root.abort();
    assert!(root.is_finished());
    assert_eq!((log.said(), bench.tasks.alive()), (levels(1, 32), 38));
    assert_eq!(bench.tasks.pass(Instant::ZERO, 1), Pass { polled: 1, more: true });
    assert_eq!((log.said(), bench.tasks.alive()), (levels(33, 64), 6));
    bench.settle();
    assert_eq!((log.said(), bench.tasks.alive()), (levels(65, 70), 0));
}

#[test]
fn all_is_dropped_however_deep_it_is_asked_for() {
    struct Drops(Rc<Tasks>, Log, u32);
    impl Drop for Drops {
        fn drop(&mut self) {
            if self.2 == 32 {
                self.0.drop_all();
                self.1.say(format!("{} are left", self.0.alive()));
            }
        }
    }
    let bench = Bench::new();
    let log = Log::default();
    let (tasks, said) = (bench.tasks.clone(), log.clone());
    let guard = Rc::new(move |level| Drops(tasks.clone(), said.clone(), level));
    let root = bench.tasks.spawn(nest(bench.tasks.clone(), 1, guard));
    bench.settle();
    root.abort();
    assert_eq!((log.said(), bench.tasks.alive()), (vec!["32 are left".to_string()], 0));
}
