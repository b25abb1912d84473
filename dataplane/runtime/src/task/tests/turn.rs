//! Turns within the turns of who joins.

use super::*;
use crate::timeout;
use std::cell::Cell;

/// In which order a task and the one that it spawns and joins are polled, with another one in between or not.
fn polls(between: bool, look: impl FnOnce(&Bench)) -> Vec<String> {
    let bench = Bench::new();
    let log = Log::default();
    let (tasks, said) = (bench.tasks.clone(), log.clone());
    let joiner = bench.tasks.spawn(async move {
        let log = said.clone();
        if between {
            drop(tasks.spawn(async move { log.say("other") }));
        }
        let log = said.clone();
        let mut child = tasks.spawn(async move { log.say("child") });
        poll_fn(|cx| {
            said.say("joins");
            Pin::new(&mut child).poll(cx)
        })
        .await
        .unwrap();
    });
    look(&bench);
    assert!(joiner.is_finished());
    log.said()
}

#[test]
fn who_is_next_has_its_turn_within_who_joins_it() {
    assert_eq!(polls(false, Bench::settle), ["joins", "child"]);
    assert_eq!(polls(true, Bench::settle), ["joins", "other", "child", "joins"], "another one was first");
}

#[test]
fn in_a_round_nobody_is_handed_a_turn() {
    let rounds = |bench: &Bench| while bench.tasks.round(Instant::ZERO, 3).more {};
    assert_eq!(polls(false, rounds), ["joins", "child", "joins"]);
}

#[test]
fn who_joins_again_and_again_leaves_a_pass_its_end() {
    let bench = Bench::new();
    let (tasks, count) = (bench.tasks.clone(), Rc::new(Cell::new(0)));
    let joined = count.clone();
    drop(bench.tasks.spawn(async move {
        loop {
            tasks.spawn(async {}).await.unwrap();
            joined.set(joined.get() + 1);
        }
    }));
    for pass in 1..=10 {
        let came = bench.tasks.pass(Instant::ZERO, 10);
        assert_eq!((came.polled, came.more), (10, true), "pass {pass}");
        assert!(count.get() <= 10 * pass, "{} joins in {pass} passes of 10 polls", count.get());
    }
    // Another one's turn is not put off by that.
    let other = bench.tasks.spawn(async {});
    bench.tasks.pass(Instant::ZERO, 10);
    assert!(other.is_finished());
}

#[test]
fn the_stack_does_not_grow_with_who_waits_for_whom() {
    fn nest(tasks: Rc<Tasks>, depth: u32) -> Pin<Box<dyn Future<Output = u32>>> {
        Box::pin(async move {
            match depth {
                0 => 0,
                _ => tasks.spawn(nest(tasks.clone(), depth - 1)).await.unwrap() + 1,
            }
        })
    }
    let bench = Bench::new();
    assert_eq!(bench.run(async |tasks| nest(tasks, 100_000).await), 100_000);
}

#[test]
fn a_turn_that_is_handed_over_is_its_own() {
    let bench = Bench::new();
    bench.run(async |tasks| {
        let panics = tasks.spawn(async { panic!("it does") });
        assert!(matches!(panics.await, Err(Ended::Panicked(_))), "who joins goes on");
    });
    // Within a joiner that is cancelled and has little time, a child is not and has any; afterwards the joiner is as it was.
    let (tasks, log) = (bench.tasks.clone(), Log::default());
    let said = log.clone();
    let joiner = bench.tasks.spawn(async move {
        let say =
            async |who: &str| said.say(format!("{who}: {}, {:?}", is_cancelled(), tasks.deadline().get()));
        let (child_tasks, child_said) = (tasks.clone(), said.clone());
        let child = tasks.spawn(async move {
            child_said.say(format!("child: {}, {:?}", is_cancelled(), child_tasks.deadline().get()));
        });
        timeout(&tasks, Duration::from_nanos(7), async {
            say("ahead").await;
            shield(child).await.unwrap();
            say("behind").await;
        })
        .await
        .unwrap();
        say("late").await;
    });
    joiner.cancel();
    // Two turns: it was handed over.
    bench.tasks.pass(Instant::ZERO, 2);
    let never = format!("{:?}", Instant::NEVER);
    let expected = [
        "ahead: true, Instant(7)".into(),
        format!("child: false, {never}"),
        "behind: true, Instant(7)".into(),
        format!("late: true, {never}"),
    ];
    assert_eq!(log.said(), expected);
}

#[test]
fn a_child_may_wake_who_joins_it() {
    let bench = Bench::new();
    let waker = Rc::new(RefCell::new(None::<Waker>));
    let (wakes, tasks) = (waker.clone(), bench.tasks.clone());
    let polls = Rc::new(Cell::new(0));
    let counter = polls.clone();
    drop(bench.tasks.spawn(async move {
        let mut child = tasks.spawn(async move {
            wakes.take().unwrap().wake();
            pending::<()>().await;
        });
        poll_fn(|cx| {
            counter.set(counter.get() + 1);
            waker.replace(Some(cx.waker().clone()));
            Pin::new(&mut child).poll(cx)
        })
        .await
        .unwrap();
    }));
    bench.settle();
    assert_eq!(polls.get(), 2, "once by itself, and once because its child woke it");
}

/// Aborted itself, or with a scope that it is in.
#[test]
fn who_is_aborted_within_a_join_does_not_go_on_from_there() {
    for of_scope in [false, true] {
        let bench = Bench::new();
        let log = Log::default();
        let aborted: Rc<RefCell<Option<Handle<()>>>> = Rc::default();
        let (aborts, tasks, said) = (aborted.clone(), bench.tasks.clone(), log.clone());
        let joiner = async move {
            let _said = said.until_drop("joiner dropped");
            let inner = said.clone();
            let child = tasks.spawn(async move {
                aborts.borrow().as_ref().unwrap().abort();
                inner.say("child goes on");
                inner.until_drop("result dropped")
            });
            drop(child.await);
            said.say("joiner goes on");
        };
        let tasks = bench.tasks.clone();
        aborted.replace(Some(if of_scope {
            bench.tasks.spawn(async move {
                scope(&tasks, async |scope| {
                    // It has a turn of its own, so that it can hand one over.
                    drop(scope.spawn(joiner));
                    pending::<()>().await;
                })
                .await;
            })
        } else {
            bench.tasks.spawn(joiner)
        }));
        bench.settle();
        assert_eq!(
            log.said(),
            ["child goes on", "result dropped", "joiner dropped"],
            "of a scope: {of_scope}"
        );
        assert!(matches!(result(aborted.take().unwrap()), Err(Ended::Aborted)));
        assert_eq!(bench.tasks.alive(), 0);
    }
}
