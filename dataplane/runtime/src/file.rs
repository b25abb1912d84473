//! Files, over any driver.

use crate::calls::{Calls, OpenOptions};
use crate::driver::{Driver, Flight, Operation, Source};
use crate::error::{Error, ErrorKind};
use crate::io::{Io, operate};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// An open file. Buffers are given away and come back, as those of sockets.
#[derive(Debug)]
pub struct File<D: Driver> {
    io: Io<D>,
    path: PathBuf,
    source: Rc<Source<D>>,
}

impl<D: Driver> File<D> {
    /// Opens a file. (That may wait for a disk; it is done on the calling thread.)
    ///
    /// # Errors
    /// As open(2).
    pub fn open(io: &Io<D>, path: &Path, options: OpenOptions) -> Result<Self, Error> {
        let opened = io.driver().calls().open(path, options);
        let descriptor = opened.map_err(|error| Error::system("open", path.display(), error))?;
        Ok(Self { io: io.clone(), path: path.into(), source: Source::new(descriptor) })
    }

    /// Its length, in bytes.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn len(&self) -> Result<u64, Error> {
        let length = self.io.driver().calls().len(self.source.descriptor());
        length.map_err(|error| Error::system("ask for the length of", self.path.display(), error))
    }

    /// Whether it has no byte.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// The bytes from this one on, as far as the buffer's capacity reaches; none at the file's end.
    ///
    /// # Errors
    /// It was cancelled; or as pread(2).
    pub async fn read(&self, at: u64, buffer: Vec<u8>) -> Result<Vec<u8>, Error> {
        Ok(self.operate(Operation::Read(at), buffer).await?.0.buffer)
    }

    /// Writes all of the buffer from the file's byte `at` on; it comes back.
    ///
    /// # Errors
    /// It was cancelled; or as pwrite(2).
    pub async fn write(&self, at: u64, mut buffer: Vec<u8>) -> Result<Vec<u8>, Error> {
        let mut written = 0;
        while written < buffer.len() {
            let operation = Operation::Write { at: at + written as u64, from: written };
            let (flight, length) = self.operate(operation, buffer).await?;
            if length == 0 {
                return Err(Error::new("write", self.path.display(), ErrorKind::Ended));
            }
            buffer = flight.buffer;
            written += length;
        }
        Ok(buffer)
    }

    /// What was written is on the disk; with the file's times, or its data alone.
    ///
    /// # Errors
    /// It was cancelled; or as fsync(2).
    pub async fn sync(&self, data: bool) -> Result<(), Error> {
        self.operate(Operation::Sync { data }, Vec::new()).await.map(|_| ())
    }

    async fn operate(&self, operation: Operation, buffer: Vec<u8>) -> Result<(Box<Flight<D>>, usize), Error> {
        let flight = operate(&self.io, Flight::new(operation, &self.source, buffer)).await;
        match flight.result {
            Ok(length) => Ok((flight, length)),
            Err(error) => Err(Error::system(operation.name(), self.path.display(), error)),
        }
    }
}
