//! `Io`: what a program does its waiting by, passed by the caller.
//!
//! Code that waits is generic over the driver, and written once; who calls it chooses, at compile time, whether it runs by plain
//! system calls, threads, io_uring or in a simulation:
//!
//! ```
//! use zsync_runtime::{Driver, Error, Io, BlockingIo, UdpSocket};
//!
//! async fn echo<D: Driver>(io: &Io<D>, count: u32) -> Result<(), Error> {
//!     let socket = UdpSocket::bind(io, "127.0.0.1:0".parse().unwrap())?;
//!     let mut buffer = Vec::with_capacity(2048);
//!     for _ in 0..count {
//!         let (from, received) = socket.receive(buffer).await?;
//!         buffer = socket.send(received, from).await?;
//!     }
//!     Ok(())
//! }
//!
//! BlockingIo::new().unwrap().run(async |io| echo(&io, 0).await).unwrap();
//! ```

mod operation;

pub(crate) use operation::operate;

use crate::calls::Calls;
use crate::combine::in_time;
use crate::driver::{Driver, Wait};
use crate::executor::ExecutorError;
use crate::task::{Handle, Tasks};
use crate::{Cancelled, Elapsed, Instant, Scope, scope};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// Polls before operations and timers are looked at again: some microseconds' worth. (With 64, a look is a nanosecond of each poll.)
const BUDGET: u32 = 128;

/// See the module. A copy is another name for the same.
pub struct Io<D: Driver> {
    tasks: Rc<Tasks>,
    driver: Rc<D>,
}

impl<D: Driver> Clone for Io<D> {
    fn clone(&self) -> Self {
        Self { tasks: self.tasks.clone(), driver: self.driver.clone() }
    }
}

impl<D: Driver> Io<D> {
    /// Tasks over this driver, none yet. Where `random` begins, `seed` says.
    ///
    /// # Errors
    /// Too many executors in this process.
    pub fn over(driver: D, seed: u64) -> Result<Self, ExecutorError> {
        let tasks = Tasks::new(driver.calls().clock()).ok_or(ExecutorError::TooMany)?;
        tasks.seed(seed);
        tasks.set_eager(!D::SUSPENDS);
        Ok(Self { tasks, driver: Rc::new(driver) })
    }

    /// Another one over the same tasks.
    pub(crate) fn beside(tasks: &Rc<Tasks>, driver: D) -> Self {
        Self { tasks: tasks.clone(), driver: Rc::new(driver) }
    }

    /// Its tasks.
    #[must_use]
    pub fn tasks(&self) -> &Rc<Tasks> {
        &self.tasks
    }

    /// What does its waiting.
    #[must_use]
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// Time, read anew.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.driver.calls().clock()
    }

    /// Runs `main` and what it spawns until `main` has ended; all that still runs then is dropped.
    ///
    /// # Panics
    /// With what it panicked with. When called by a task.
    #[track_caller]
    pub fn run<T: 'static>(&self, main: impl AsyncFnOnce(Self) -> T + 'static) -> T {
        let io = self.clone();
        let main = self.tasks.spawn(async move { main(io).await });
        while !main.is_finished() {
            let pass = self.tasks.pass(self.driver.calls().clock(), BUDGET);
            let wait = match self.tasks.next_timer() {
                _ if pass.more || main.is_finished() => Wait::No,
                Some(due) => Wait::Until(due),
                None => Wait::Until(Instant::NEVER),
            };
            self.tasks.within(|| self.driver.turn(&self.tasks, wait));
        }
        self.tasks.drop_all();
        main.into_result()
    }

    /// A task that runs until it ends, or the [`run`](Self::run) does within which it is spawned; spawned outside of one, it has its turns
    /// within the next, and where none comes a task that has an Io of its own stays with it for good. With a driver that does not suspend it
    /// runs at once, as far as it can; or at its turn, if it is more than 32 levels down in tasks that spawn tasks.
    #[track_caller]
    pub fn spawn<F: Future + 'static>(&self, future: F) -> Handle<F::Output> {
        self.tasks.spawn(future)
    }

    /// Tasks that end before what spawned them goes on; see [`scope`](scope()).
    #[track_caller]
    pub fn scope<T>(&self, body: impl AsyncFnOnce(&Scope) -> T) -> impl Future<Output = T> {
        scope(&self.tasks, body)
    }

    /// Waits until then; what is past is over at once.
    ///
    /// # Errors
    /// It was cancelled.
    #[track_caller]
    pub fn sleep_until(&self, due: Instant) -> impl Future<Output = Result<(), Cancelled>> {
        let sleep = self.tasks.sleep_until(due);
        async move {
            crate::check()?;
            if !D::SUSPENDS {
                self.driver.sleep(&self.tasks, due);
            }
            sleep.await
        }
    }

    /// Waits so long, counted from when it is called. (The clock is read for that; [`Tasks::sleep`] counts from the beginning
    /// of the pass.)
    ///
    /// # Errors
    /// It was cancelled.
    #[track_caller]
    pub fn sleep(&self, span: Duration) -> impl Future<Output = Result<(), Cancelled>> {
        self.sleep_until(self.now() + span)
    }

    /// What a future gives, if it does within so long from when this is called; see [`timeout`](crate::timeout()).
    ///
    /// # Errors
    /// It did not.
    pub async fn timeout<F: Future>(&self, span: Duration, future: F) -> Result<F::Output, Elapsed> {
        in_time(&self.tasks, self.now() + span, span, future).await
    }
}

impl<D: Driver> fmt::Debug for Io<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Io").field(&self.tasks).finish()
    }
}
