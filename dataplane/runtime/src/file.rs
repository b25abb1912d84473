//! Files, over any driver.

use crate::calls::{Advice, Calls, Metadata, OpenOptions};
use crate::driver::{Driver, Flight, Operation, Source};
use crate::error::{Error, ErrorKind};
use crate::io::{Io, operate};
use crate::trace::At;
use std::ffi::OsString;
use std::panic::Location;
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
    #[track_caller]
    pub fn read(&self, at: u64, buffer: Vec<u8>) -> impl Future<Output = Result<Vec<u8>, Error>> {
        let line = Location::caller();
        async move { Ok(self.operate(line, Operation::Read(at), buffer).await?.0.buffer) }
    }

    /// Writes all of the buffer from the file's byte `at` on; it comes back.
    ///
    /// # Errors
    /// It was cancelled; or as pwrite(2).
    #[track_caller]
    pub fn write(&self, at: u64, mut buffer: Vec<u8>) -> impl Future<Output = Result<Vec<u8>, Error>> {
        let line = Location::caller();
        async move {
            let mut written = 0;
            while written < buffer.len() {
                let operation = Operation::Write { at: at + written as u64, from: written };
                let (flight, length) = self.operate(line, operation, buffer).await?;
                if length == 0 {
                    return Err(Error::new("write", self.path.display(), ErrorKind::Ended));
                }
                buffer = flight.buffer;
                written += length;
            }
            Ok(buffer)
        }
    }

    /// As [`File::read`], into several buffers, one after the other.
    ///
    /// # Errors
    /// It was cancelled; or as preadv(2).
    #[track_caller]
    pub fn read_vectored(
        &self,
        at: u64,
        buffers: Vec<Vec<u8>>,
    ) -> impl Future<Output = Result<Vec<Vec<u8>>, Error>> {
        let line = Location::caller();
        async move {
            let mut flight = Flight::new(Operation::ReadVectored(at), &self.source, Vec::new());
            flight.buffers = buffers;
            Ok(self.fly(line, flight).await?.0.buffers)
        }
    }

    /// Writes the buffers, one behind the other, from the file's byte `at` on; how many bytes were written, if not all.
    ///
    /// # Errors
    /// It was cancelled; or as pwritev(2). EINVAL: more than 1,024 buffers.
    #[track_caller]
    pub fn write_vectored(
        &self,
        at: u64,
        buffers: Vec<Vec<u8>>,
    ) -> impl Future<Output = Result<(usize, Vec<Vec<u8>>), Error>> {
        let line = Location::caller();
        async move {
            let mut flight = Flight::new(Operation::WriteVectored(at), &self.source, Vec::new());
            flight.buffers = buffers;
            let (flight, length) = self.fly(line, flight).await?;
            Ok((length, flight.buffers))
        }
    }

    /// Cuts it, or lengthens it by zeros.
    ///
    /// # Errors
    /// As ftruncate(2).
    pub fn truncate(&self, length: u64) -> Result<(), Error> {
        let cut = self.io.driver().calls().truncate(self.source.descriptor(), length);
        cut.map_err(|error| Error::system("truncate", self.path.display(), error))
    }

    /// Says how a range will be used; length 0: to its end.
    ///
    /// # Errors
    /// As posix_fadvise(2).
    pub fn advise(&self, at: u64, length: u64, advice: Advice) -> Result<(), Error> {
        let advised = self.io.driver().calls().advise(self.source.descriptor(), at, length, advice);
        advised.map_err(|error| Error::system("advise about", self.path.display(), error))
    }

    /// What was written is on the disk; with the file's times, or its data alone.
    ///
    /// # Errors
    /// It was cancelled; or as fsync(2).
    #[track_caller]
    pub fn sync(&self, data: bool) -> impl Future<Output = Result<(), Error>> {
        let line = Location::caller();
        async move { self.operate(line, Operation::Sync { data }, Vec::new()).await.map(|_| ()) }
    }

    pub(crate) fn around(io: &Io<D>, name: &str, descriptor: D::Descriptor) -> Self {
        Self { io: io.clone(), path: name.into(), source: Source::new(descriptor) }
    }

    pub(crate) fn io(&self) -> &Io<D> {
        &self.io
    }

    pub(crate) fn source(&self) -> &Rc<Source<D>> {
        &self.source
    }

    pub(crate) async fn operate(
        &self,
        line: At,
        operation: Operation,
        buffer: Vec<u8>,
    ) -> Result<(Box<Flight<D>>, usize), Error> {
        self.fly(line, Flight::new(operation, &self.source, buffer)).await
    }

    pub(crate) async fn fly(
        &self,
        line: At,
        flight: Box<Flight<D>>,
    ) -> Result<(Box<Flight<D>>, usize), Error> {
        let operation = flight.operation;
        let flight = operate(&self.io, line, flight).await;
        match flight.result {
            Ok(length) => Ok((flight, length)),
            Err(error) => Err(Error::system(operation.name(), self.path.display(), error)),
        }
    }
}

/// What is at paths. (Each may wait for a disk, and is done on the calling thread.)
impl<D: Driver> Io<D> {
    /// What is at a path; of a link, what it names.
    ///
    /// # Errors
    /// As stat(2).
    pub fn metadata(&self, path: &Path) -> Result<Metadata, Error> {
        let asked = self.driver().calls().metadata(path);
        asked.map_err(|error| Error::system("look at", path.display(), error))
    }

    /// Gives a file another name, in place of what has that name.
    ///
    /// # Errors
    /// As rename(2).
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let renamed = self.driver().calls().rename(from, to);
        renamed.map_err(|error| {
            Error::system("rename", format_args!("{} to {}", from.display(), to.display()), error)
        })
    }

    /// Takes a file away.
    ///
    /// # Errors
    /// As unlink(2).
    pub fn remove_file(&self, path: &Path) -> Result<(), Error> {
        let removed = self.driver().calls().remove(path, false);
        removed.map_err(|error| Error::system("remove", path.display(), error))
    }

    /// Takes an empty directory away.
    ///
    /// # Errors
    /// As rmdir(2).
    pub fn remove_directory(&self, path: &Path) -> Result<(), Error> {
        let removed = self.driver().calls().remove(path, true);
        removed.map_err(|error| Error::system("remove", path.display(), error))
    }

    /// Makes a directory, its owner's alone.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn make_directory(&self, path: &Path) -> Result<(), Error> {
        let made = self.driver().calls().make_directory(path);
        made.map_err(|error| Error::system("make the directory", path.display(), error))
    }

    /// The names in a directory, in their order.
    ///
    /// # Errors
    /// As open(2) or getdents(2).
    pub fn names(&self, directory: &Path) -> Result<Vec<OsString>, Error> {
        let read = self.driver().calls().names(directory);
        read.map_err(|error| Error::system("read the directory", directory.display(), error))
    }
}
