//! An executor on a thread of its own: it runs tasks, and sleeps while none is ready.

use crate::remote::Seat;
use crate::task::Tasks;
use crate::time::Instant;
use rustix::io::Errno;
use std::fmt;
use std::rc::Rc;

/// Tasks that are polled before the clock and the kernel are looked at again: some microseconds' worth.
const BUDGET: u32 = 64;

/// Why an executor cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// As many as wakers can name.
    #[error(
        "4096 executors run in this process, the most that it can have: end one, or run its tasks on another"
    )]
    TooMany,
    /// No descriptor for the bell, or for epoll.
    #[error("the executor has no descriptor (eventfd, epoll) to be woken by: {0}")]
    Bell(Errno),
}

/// See the module. It is dropped with its tasks.
pub struct Executor {
    tasks: Rc<Tasks>,
}

impl Executor {
    /// None of its tasks exists yet.
    ///
    /// # Errors
    /// Too many, or no descriptor.
    pub fn new() -> Result<Self, ExecutorError> {
        Ok(Self::seated(Seat::new()?, Instant::monotonic()))
    }

    /// In a seat that was made before, at this time of whatever clock its passes will tell. Its caller makes the passes
    /// ([`Tasks::round`]), or calls [`Executor::run`] where the clock is CLOCK_MONOTONIC.
    #[must_use]
    pub fn seated(seat: Seat, now: Instant) -> Self {
        Self { tasks: Tasks::seated(seat, now) }
    }

    /// Its tasks.
    #[must_use]
    pub fn tasks(&self) -> &Rc<Tasks> {
        &self.tasks
    }

    /// Runs a task and all others until that one has ended. The others stay where they are, for the next call.
    ///
    /// # Panics
    /// With what the task panicked with. When called by a task.
    #[track_caller]
    pub fn run<T: 'static>(&self, main: impl AsyncFnOnce(Rc<Tasks>) -> T + 'static) -> T {
        let tasks = self.tasks.clone();
        let main = self.tasks.spawn(async move { main(tasks).await });
        while !main.is_finished() {
            let pass = self.tasks.pass(Instant::monotonic(), BUDGET);
            if !pass.more && !main.is_finished() {
                self.tasks.remote().sleep(self.tasks.next_timer().unwrap_or(Instant::NEVER));
            }
        }
        main.into_result()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.tasks.close();
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Executor").field(&self.tasks).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Overrun;
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::time::Duration;

    #[test]
    fn while_somebody_watches_a_task_has_its_turn_for_itself() {
        let executor = Executor::new().unwrap();
        executor.run(async |tasks| {
            for (watch, expected) in [(None, 1), (Some(Duration::from_secs(1)), 2)] {
                tasks.watch(watch);
                let (mut child, polls) = (tasks.spawn(async {}), Cell::new(0));
                poll_fn(|cx| {
                    polls.set(polls.get() + 1);
                    Pin::new(&mut child).poll(cx)
                })
                .await
                .unwrap();
                assert_eq!(polls.get(), expected, "{watch:?}");
            }
        });
    }

    #[test]
    fn polls_that_take_too_long_are_noted_while_somebody_watches() {
        let executor = Executor::new().unwrap();
        executor.run(async |tasks| {
            let slow = async || std::thread::sleep(Duration::from_millis(5));
            tasks.spawn(slow()).await.unwrap();
            assert_eq!(tasks.dump().overrun, 0, "nobody watched");
            tasks.watch(Some(Duration::from_millis(2)));
            let line = line!() + 2;
            for _ in 0..100 {
                tasks.spawn(slow()).await.unwrap();
            }
            tasks.watch(None);
            tasks.spawn(slow()).await.unwrap();
            let dump = tasks.dump();
            // Others may be slow on a machine that others use, too.
            assert!(dump.overrun >= 100, "{dump}");
            assert_eq!(dump.overruns.len(), 64);
            let of_slow = |overrun: &&Overrun| overrun.spawned.line() == line;
            assert!(dump.overruns.iter().filter(of_slow).count() > 32, "{dump}");
            assert!(
                dump.overruns.iter().filter(of_slow).all(|overrun| overrun.took >= Duration::from_millis(5))
            );
        });
    }
}
