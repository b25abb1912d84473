use super::*;
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
        // A child is neither cancelled nor late because who joins it is shielded, or in time.
        let (region, inner) = (Canceller::default(), tasks.clone());
        let state = cancellable(&region, async {
            let child = inner.spawn(async { (is_cancelled(), yield_now().await) });
            child.await.unwrap()
        });
        assert_eq!(state.await, (false, Ok(())));
        assert!(!is_cancelled());
    });
}

#[test]
fn a_child_may_wake_and_abort_who_joins_it() {
    let bench = Bench::new();
    // It wakes who joins it, and waits.
    let waker = Rc::new(RefCell::new(None::<Waker>));
    let (wakes, tasks) = (waker.clone(), bench.tasks.clone());
    let woken = bench.tasks.spawn(async move {
        let mut polls = 0;
        let mut child = tasks.spawn(async move {
            wakes.take().unwrap().wake();
            yield_now().await.unwrap();
        });
        poll_fn(|cx| {
            polls += 1;
            waker.replace(Some(cx.waker().clone()));
            Pin::new(&mut child).poll(cx)
        })
        .await
        .unwrap();
        polls
    });
    bench.settle();
    assert!(result(woken).unwrap() >= 2);
    // It aborts who joins it, which ends with that poll.
    let parent = Rc::new(RefCell::new(None::<Handle<()>>));
    let (aborts, tasks) = (parent.clone(), bench.tasks.clone());
    let child_ended = Rc::new(Cell::new(false));
    let ended = child_ended.clone();
    let joiner = bench.tasks.spawn(async move {
        tasks
            .spawn(async move {
                aborts.borrow().as_ref().unwrap().abort();
                ended.set(true);
            })
            .await
            .unwrap();
        pending::<()>().await;
    });
    parent.replace(Some(joiner));
    bench.settle();
    assert!(child_ended.get());
    assert!(matches!(result(parent.take().unwrap()), Err(Ended::Aborted)));
}
