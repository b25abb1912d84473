use super::{AcquireError, Permit, Semaphore};
use crate::sync::harness::{at_every_await, poll, run};
use crate::yield_now;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

type Acquire<'a> = Pin<Box<dyn Future<Output = Result<Permit, AcquireError>> + 'a>>;

#[test]
fn no_more_are_held_than_there_are_and_who_came_first_is_first() {
    run(async |tasks| {
        let semaphore = Semaphore::new(3);
        let (held, order) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
        let all: Vec<_> = (0..30_u32)
            .map(|number| {
                let (semaphore, held, order) = (semaphore.clone(), held.clone(), order.clone());
                tasks.spawn(async move {
                    let permit = semaphore.acquire(number % 3 + 1).await.unwrap();
                    order.borrow_mut().push(number);
                    held.set(held.get() + permit.permits());
                    assert!(held.get() <= 3);
                    yield_now().await.unwrap();
                    held.set(held.get() - permit.permits());
                })
            })
            .collect();
        for task in all {
            task.await.unwrap();
        }
        assert_eq!(order.take(), (0..30).collect::<Vec<_>>());
        assert_eq!(semaphore.free(), 3);
    });
}

#[test]
fn a_large_wish_is_not_overtaken_and_lets_others_by_when_it_goes() {
    let semaphore = Semaphore::new(2);
    let held = semaphore.try_acquire(1).unwrap();
    let mut large = Box::pin(semaphore.acquire(2));
    let mut small = Box::pin(semaphore.acquire(1));
    assert!(poll(&mut large).is_pending());
    assert!(poll(&mut small).is_pending());
    assert_eq!(semaphore.try_acquire(1).unwrap_err(), AcquireError::Busy { asked: 1, free: 1 });
    drop(large);
    assert!(matches!(poll(&mut small), Poll::Ready(Ok(_))));
    drop(held);
}

#[test]
fn closing_sends_away_who_waits_and_loses_no_permit() {
    let semaphore = Semaphore::new(2);
    let held = semaphore.try_acquire(2).unwrap();
    let mut seen = Box::pin(semaphore.acquire(1));
    let mut dropped = Box::pin(semaphore.acquire(2));
    assert!(poll(&mut seen).is_pending() && poll(&mut dropped).is_pending());
    semaphore.close();
    assert!(matches!(poll(&mut seen), Poll::Ready(Err(AcquireError::Closed))));
    drop((seen, dropped));
    assert_eq!(semaphore.try_acquire(1).unwrap_err(), AcquireError::Closed);
    drop(held);
    assert_eq!(semaphore.free(), 2);
}

#[test]
fn more_than_there_are_is_refused_at_once() {
    let semaphore = Semaphore::new(2);
    let error = semaphore.try_acquire(3).unwrap_err();
    assert_eq!(error, AcquireError::TooMany { asked: 3, total: 2 });
    assert_eq!(error.to_string(), "3 permits are more than the semaphore has, 2: ask for fewer");
    assert!(matches!(poll(&mut Box::pin(semaphore.acquire(3))), Poll::Ready(Err(e)) if e == error));
}

#[test]
fn an_interrupted_wait_gives_back_what_it_was_given() {
    at_every_await(1, async |tasks, interruption| {
        let semaphore = Semaphore::new(2);
        let held = semaphore.acquire(2).await.unwrap();
        let victim = semaphore.clone();
        let victim = tasks.spawn(async move {
            let taken = interruption.of(async {
                let permit = victim.acquire(2).await?;
                yield_now().await?;
                drop(permit);
                victim.acquire(1).await
            });
            taken.await.is_some()
        });
        let others: Vec<_> = [1, 2, 1]
            .into_iter()
            .map(|permits| {
                let semaphore = semaphore.clone();
                tasks.spawn(async move { drop(semaphore.acquire(permits).await.unwrap()) })
            })
            .collect();
        yield_now().await.unwrap();
        drop(held);
        for other in others {
            other.await.unwrap();
        }
        let through = victim.await.unwrap();
        assert_eq!(semaphore.free(), 2);
        through
    });
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(u32),
    Poll(usize),
    Leave(usize),
    Give(usize),
    Try(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..5_u32).prop_map(Step::Ask),
        (0..8_usize).prop_map(Step::Poll),
        (0..8_usize).prop_map(Step::Leave),
        (0..8_usize).prop_map(Step::Give),
        (0..5_u32).prop_map(Step::Try),
    ];
    prop::collection::vec(step, 0..100)
}

/// What a semaphore does, said simply: a line of wishes, and a number.
struct Model {
    free: u32,
    line: VecDeque<(usize, u32)>,
    given: Vec<(usize, u32)>,
}

impl Model {
    fn serve(&mut self) {
        while let Some(&(who, wants)) = self.line.front()
            && wants <= self.free
        {
            self.free -= wants;
            self.given.push((who, wants));
            self.line.pop_front();
        }
    }

    /// Whether `who` has been given what it wants.
    fn collect(&mut self, who: usize) -> Option<u32> {
        let at = self.given.iter().position(|&(given, _)| given == who)?;
        Some(self.given.remove(at).1)
    }
}

proptest! {
    #[test]
    fn a_semaphore_does_what_its_model_does(steps in steps()) {
        let semaphore = Semaphore::new(4);
        let mut model = Model { free: 4, line: VecDeque::new(), given: Vec::new() };
        let mut waits: Vec<(usize, Acquire<'_>)> = Vec::new();
        let mut held: Vec<Permit> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Ask(permits) => {
                    let mut wait: Acquire<'_> = Box::pin(semaphore.acquire(permits));
                    model.line.push_back((number, permits));
                    model.serve();
                    match poll(&mut wait) {
                        Poll::Ready(permit) => {
                            prop_assert_eq!(model.collect(number), Some(permits));
                            held.push(permit.unwrap());
                        }
                        Poll::Pending => {
                            prop_assert_eq!(model.collect(number), None);
                            waits.push((number, wait));
                        }
                    }
                }
                Step::Poll(which) if which < waits.len() => {
                    let (who, mut wait) = waits.remove(which);
                    match poll(&mut wait) {
                        Poll::Ready(permit) => {
                            let permit = permit.unwrap();
                            prop_assert_eq!(model.collect(who), Some(permit.permits()));
                            held.push(permit);
                        }
                        Poll::Pending => {
                            prop_assert_eq!(model.collect(who), None);
                            waits.insert(which, (who, wait));
                        }
                    }
                }
                Step::Leave(which) if which < waits.len() => {
                    let (who, wait) = waits.remove(which);
                    drop(wait);
                    model.free += model.collect(who).unwrap_or(0);
                    model.line.retain(|&(waits, _)| waits != who);
                    model.serve();
                }
                Step::Give(which) if which < held.len() => {
                    model.free += held.remove(which).permits();
                    model.serve();
                }
                Step::Try(permits) => {
                    let free = model.line.is_empty() && permits <= model.free;
                    let taken = semaphore.try_acquire(permits);
                    prop_assert_eq!(taken.is_ok(), free);
                    if let Ok(permit) = taken {
                        model.free -= permits;
                        held.push(permit);
                    }
                }
                _ => {}
            }
            prop_assert_eq!(semaphore.free(), model.free);
        }
        drop(waits);
        drop(held);
        prop_assert_eq!(semaphore.free(), 4);
    }
}
