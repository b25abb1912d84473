use super::{OnceCell, OnceError};
use crate::sync::harness::{at_every_await, run};
use crate::yield_now;
use std::cell::Cell;
use std::rc::Rc;

#[test]
fn the_value_is_made_once_for_all() {
    run(async |tasks| {
        let cell = Rc::new(OnceCell::new());
        let made = Rc::new(Cell::new(0));
        let all: Vec<_> = (0..10)
            .map(|_| {
                let (cell, made) = (cell.clone(), made.clone());
                tasks.spawn(async move {
                    let make = async || {
                        yield_now().await.unwrap();
                        made.set(made.get() + 1);
                        made.get()
                    };
                    assert_eq!(cell.value_or_init(make).await, Ok(&1));
                })
            })
            .collect();
        for task in all {
            task.await.unwrap();
        }
        assert_eq!((made.get(), cell.value()), (1, Some(&1)));
        assert_eq!(cell.set(2), Err(2));
    });
}

#[test]
fn one_that_fails_or_panics_lets_the_next_try() {
    run(async |tasks| {
        let cell: Rc<OnceCell<u32>> = Rc::new(OnceCell::new());
        let inner = cell.clone();
        let fails = tasks.spawn(async move {
            let result = inner.value_or_try_init(async || {
                yield_now().await.unwrap();
                Err("not yet")
            });
            assert_eq!(result.await, Err(OnceError::Failed("not yet")));
        });
        let inner = cell.clone();
        let panics = tasks.spawn(async move {
            let _ = inner
                .value_or_init(async || {
                    yield_now().await.unwrap();
                    panic!("on purpose")
                })
                .await;
        });
        let inner = cell.clone();
        let makes = tasks.spawn(async move { inner.value_or_init(async || 7).await.copied() });
        fails.await.unwrap();
        assert_eq!(cell.value(), None);
        assert!(panics.await.is_err());
        assert_eq!(makes.await.unwrap(), Ok(7));
    });
}

#[test]
fn an_interrupted_initialiser_lets_the_next_try() {
    for victim_first in [true, false] {
        at_every_await(2, async move |tasks, interruption| {
            let cell: Rc<OnceCell<&str>> = Rc::new(OnceCell::new());
            let others = |text: &'static str| {
                let cell = cell.clone();
                tasks.spawn(async move {
                    let make = async || {
                        yield_now().await.unwrap();
                        yield_now().await.unwrap();
                        text
                    };
                    cell.value_or_init(make).await.copied().unwrap()
                })
            };
            let before = (!victim_first).then(|| others("before"));
            let victim = cell.clone();
            let victim = tasks.spawn(async move {
                let make = async || {
                    yield_now().await?;
                    yield_now().await?;
                    Ok::<_, crate::Cancelled>("victim")
                };
                let made = interruption.of(async {
                    let result = victim.value_or_try_init(make).await.map(|_| ());
                    // For one who only waits, there are more awaits than one.
                    yield_now().await?;
                    result.map_err(|_| crate::Cancelled)
                });
                made.await.is_some()
            });
            let after = others("after");
            let got = after.await.unwrap();
            let through = victim.await.unwrap();
            if let Some(before) = before {
                assert_eq!((before.await.unwrap(), got), ("before", "before"));
            } else if through {
                assert_eq!(got, "victim");
            }
            assert_eq!(cell.value(), Some(&got));
            through
        });
    }
}
