use super::{Factory, Pool, PoolError, PoolLimits};
use crate::sync::harness::{at_every_await, run};
use crate::{Cancelled, Tasks, yield_now};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const LIMITS: PoolLimits =
    PoolLimits { items: 2, idle: Duration::from_millis(100), wait: Duration::from_millis(50) };

/// What the pool's things share: counts.
#[derive(Default)]
struct World {
    opened: Cell<u32>,
    alive: Cell<u32>,
    down: Cell<bool>,
    sick: Cell<Option<u32>>,
}

struct Thing(u32, Rc<World>);

impl Drop for Thing {
    fn drop(&mut self) {
        self.1.alive.set(self.1.alive.get() - 1);
    }
}

struct Things(Rc<World>);

impl Factory for Things {
    type Item = Thing;
    type Error = &'static str;

    async fn open(&self) -> Result<Thing, &'static str> {
        yield_now().await.map_err(|_| "cancelled")?;
        if self.0.down.get() {
            return Err("down");
        }
        self.0.opened.set(self.0.opened.get() + 1);
        self.0.alive.set(self.0.alive.get() + 1);
        assert!(self.0.alive.get() <= LIMITS.items);
        Ok(Thing(self.0.opened.get(), self.0.clone()))
    }

    async fn is_healthy(&self, thing: &mut Thing) -> bool {
        yield_now().await == Ok(()) && self.0.sick.get() != Some(thing.0)
    }
}

fn pool(tasks: &Rc<Tasks>) -> (Pool<Things>, Rc<World>) {
    let world: Rc<World> = Rc::default();
    (Pool::new(tasks, Things(world.clone()), LIMITS), world)
}

#[test]
fn things_are_used_again_while_they_are_healthy_and_not_idle_for_long() {
    run(async |tasks| {
        let (pool, world) = pool(&tasks);
        let first = pool.checkout().await.unwrap();
        let second = pool.checkout().await.unwrap();
        assert_eq!((first.0, second.0, pool.busy()), (1, 2, 2));
        drop(first);
        drop(second);
        assert_eq!((pool.idle(), pool.busy()), (2, 0));
        // The last one back is the first one out.
        world.sick.set(Some(2));
        assert_eq!(pool.checkout().await.unwrap().0, 1);
        assert_eq!((world.alive.get(), pool.idle()), (1, 1));
        tasks.sleep(LIMITS.idle / 2).await.unwrap();
        assert_eq!(pool.expire(), 0);
        tasks.sleep(LIMITS.idle).await.unwrap();
        assert_eq!((pool.expire(), world.alive.get()), (1, 0));
        let third = pool.checkout().await.unwrap();
        assert_eq!(third.0, 3);
        third.discard();
        assert_eq!((pool.idle(), world.alive.get()), (0, 0));
    });
}

#[test]
fn who_waits_gets_one_in_its_turn_or_learns_that_it_took_too_long() {
    run(async |tasks| {
        let (pool, world) = pool(&tasks);
        let held = (pool.checkout().await.unwrap(), pool.checkout().await.unwrap());
        let waits: Vec<_> = (0..3)
            .map(|_| {
                let pool = pool.clone();
                tasks.spawn(async move { pool.checkout().await.map(|thing| thing.0) })
            })
            .collect();
        tasks.sleep(LIMITS.wait / 2).await.unwrap();
        drop(held.0);
        for wait in waits {
            assert_eq!(wait.await.unwrap(), Ok(1));
        }
        let _more = pool.checkout().await.unwrap();
        let error = pool.checkout().await.err().unwrap();
        assert_eq!(error, PoolError::TimedOut { items: 2, wait: LIMITS.wait });
        assert_eq!(world.opened.get(), 2);
    });
}

#[test]
fn what_cannot_be_opened_leaves_its_place_and_a_closed_pool_drops_what_comes_back() {
    run(async |tasks| {
        let (pool, world) = pool(&tasks);
        world.down.set(true);
        for _ in 0..3 {
            assert_eq!(pool.checkout().await.err(), Some(PoolError::Open("down")));
        }
        world.down.set(false);
        let held = pool.checkout().await.unwrap();
        drop(pool.checkout().await.unwrap());
        let _other = pool.checkout().await.unwrap();
        let waiting = pool.clone();
        let waits = tasks.spawn(async move { waiting.checkout().await.err() });
        yield_now().await.unwrap();
        pool.close();
        assert_eq!(waits.await.unwrap(), Some(PoolError::Closed));
        drop(held);
        assert_eq!((pool.idle(), world.alive.get()), (0, 1));
    });
}

#[test]
fn an_interrupted_checkout_loses_no_place() {
    at_every_await(3, async |tasks, interruption| {
        let (pool, world) = pool(&tasks);
        let held = (pool.checkout().await.unwrap(), pool.checkout().await.unwrap());
        let victim = pool.clone();
        let victim = tasks.spawn(async move {
            let checkouts = interruption.of(async {
                let first = victim.checkout().await.map_err(|_| Cancelled)?;
                yield_now().await?;
                first.discard();
                drop(victim.checkout().await.map_err(|_| Cancelled)?);
                Ok::<_, Cancelled>(())
            });
            checkouts.await.is_some()
        });
        let others: Vec<_> = (0..3)
            .map(|_| {
                let pool = pool.clone();
                tasks.spawn(async move {
                    let _thing = pool.checkout().await.unwrap();
                    yield_now().await.unwrap();
                })
            })
            .collect();
        yield_now().await.unwrap();
        drop(held);
        for other in others {
            other.await.unwrap();
        }
        let through = victim.await.unwrap();
        assert_eq!(pool.busy(), 0);
        assert_eq!(pool.idle(), world.alive.get() as usize);
        through
    });
}
