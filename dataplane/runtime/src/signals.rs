//! Signals that are read instead of handled (signalfd(2)).
//!
//! Who reads them blocks them before, in every thread of the process (pthread_sigmask(3), best ahead of the first spawn): a signal that
//! some thread does not block does there what it always does, and is not read. Of one kind that comes again before it is read, one is read.

use crate::calls::Calls;
use crate::driver::{Driver, Operation};
use crate::error::{Error, ErrorKind};
use crate::file::File;
use crate::io::Io;
use rustix::process::Signal;
use std::panic::Location;

/// sizeof(struct signalfd_siginfo).
const RECORD: usize = 128;

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalInfo {
    /// Which.
    pub signal: Signal,
    /// The process that sent it; 0: the kernel, or one that cannot be seen from here.
    pub process: u32,
}

impl<D: Driver> Io<D> {
    /// Sends a signal to the calling thread; of a simulation, to the program whose Io this is.
    ///
    /// # Errors
    /// As raise(3).
    pub fn raise(&self, signal: Signal) -> Result<(), Error> {
        let raised = self.driver().calls().raise(signal);
        raised.map_err(|error| Error::system("raise", format_args!("{signal:?}"), error))
    }
}

/// As the kernel writes it. Its first words are: number, errno, code, process.
pub(crate) fn encode(info: SignalInfo) -> Vec<u8> {
    let words = [info.signal.as_raw() as u32, 0, 0, info.process];
    let mut record: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    record.resize(RECORD, 0);
    record
}

/// See the module.
#[derive(Debug)]
pub struct Signals<D: Driver>(File<D>);

impl<D: Driver> Signals<D> {
    /// These.
    ///
    /// # Errors
    /// As signalfd(2). EINVAL: a real-time signal is among them.
    pub fn new(io: &Io<D>, signals: &[Signal]) -> Result<Self, Error> {
        let made = io.driver().calls().signals(signals);
        let descriptor =
            made.map_err(|error| Error::system("listen to", format_args!("{signals:?}"), error))?;
        Ok(Self(File::around(io, "signals", descriptor)))
    }

    /// The next one that is blocked and pending. None is lost by dropping this.
    ///
    /// # Errors
    /// It was cancelled; or as read(2).
    #[track_caller]
    pub fn next(&self) -> impl Future<Output = Result<SignalInfo, Error>> {
        let line = Location::caller();
        async move {
            let mut record = Vec::new();
            record.reserve_exact(RECORD);
            let (flight, _) = self.0.operate(line, Operation::ReadNext, record).await?;
            // Its first words: number, errno, code, process.
            let word =
                |at: usize| flight.buffer.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
            let signal = word(0).and_then(|number| Signal::from_named_raw(i32::try_from(number).ok()?));
            match (signal, word(12)) {
                (Some(signal), Some(process)) => Ok(SignalInfo { signal, process }),
                _ => Err(Error::new("read", "signals", ErrorKind::Ended)),
            }
        }
    }
}
