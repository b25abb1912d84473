//! Child processes, by pidfd (pidfd_open(2)): waited for like anything else, and signalled without a race with whoever gets the number
//! next. Not in a simulation: EOPNOTSUPP.

use crate::calls::Calls;
use crate::driver::{Driver, Flight, Operation, Source};
use crate::error::Error;
use crate::io::{Io, operate};
use rustix::io::Errno;
use rustix::process::Signal;
use std::panic::Location;
use std::process::{Child as Process, Command, ExitStatus};
use std::rc::Rc;

/// A child. Dropped, it is killed and waited for, which SIGKILL makes soon; so none is left behind, but what may not be killed, as it has become
/// another user's. It begins with the signals blocked that its parent's thread has blocked (see [`Signals`](crate::Signals)): such
/// a signal does nothing to it until it unblocks it, SIGKILL excepted. Where SIGCHLD is ignored nobody's end can be waited for.
#[derive(Debug)]
pub struct Child<D: Driver> {
    io: Io<D>,
    /// Its ends of pipes are here (`stdin`, `stdout`, `stderr`), for [`PipeReader::adopt`](crate::PipeReader::adopt).
    pub process: Process,
    source: Rc<Source<D>>,
}

impl<D: Driver> Child<D> {
    /// Starts a program. (The calling thread waits until the kernel has it.)
    ///
    /// # Errors
    /// As fork(2), execve(2) and pidfd_open(2). EOPNOTSUPP: in a simulation, where nothing is started.
    pub fn spawn(io: &Io<D>, command: &mut Command) -> Result<Self, Error> {
        let name = command.get_program().to_owned();
        let failed = |error| Error::system("start", name.display(), error);
        if D::SIMULATED {
            return Err(failed(Errno::OPNOTSUPP));
        }
        let started = command.spawn();
        let mut process =
            started.map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        match io.driver().calls().child(process.id()) {
            Ok(descriptor) => Ok(Self { io: io.clone(), process, source: Source::new(descriptor) }),
            Err(error) => {
                // It is ours and was not waited for, so its number is nobody else's.
                let _ = (process.kill(), process.wait());
                Err(failed(error))
            }
        }
    }

    /// How it ended, when it has. Once it has been told, it is told again.
    ///
    /// # Errors
    /// It was cancelled; or as waitpid(2).
    #[track_caller]
    pub fn wait(&mut self) -> impl Future<Output = Result<ExitStatus, Error>> {
        let line = Location::caller();
        async move {
            loop {
                let ended = self.process.try_wait();
                match ended.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)) {
                    Ok(Some(status)) => return Ok(status),
                    Ok(None) => {}
                    Err(error) => return Err(self.error("wait for", error)),
                }
                let flight =
                    operate(&self.io, line, Flight::new(Operation::Readable, &self.source, Vec::new())).await;
                flight.result.map_err(|error| self.error("wait for", error))?;
            }
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// As pidfd_send_signal(2). ESRCH: it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let sent = self.io.driver().calls().signal(self.source.descriptor(), signal);
        sent.map_err(|error| self.error("signal", error))
    }

    fn error(&self, operation: &'static str, error: Errno) -> Error {
        Error::system(operation, format_args!("the child {}", self.process.id()), error)
    }
}

impl<D: Driver> Drop for Child<D> {
    fn drop(&mut self) {
        // One that has become another user's cannot be killed, and may run for long.
        let _ = match self.process.kill() {
            Ok(()) => self.process.wait().map(Some),
            Err(_) => self.process.try_wait(),
        };
    }
}
