//! Pipes, and files that are sent through them without being read.

use crate::calls::Calls;
use crate::driver::{Driver, Flight, Operation};
use crate::error::{Error, ErrorKind};
use crate::file::File;
use crate::io::Io;
use crate::net::TcpStream;
use rustix::fd::OwnedFd;
use rustix::io::ioctl_fionbio;
use std::panic::Location;

/// Bytes that go through a pipe at a time: as many as one has room for (pipe(7)).
const PART: usize = 64 << 10;

/// The end of a pipe that is read from.
#[derive(Debug)]
pub struct PipeReader<D: Driver>(File<D>);

/// The end of a pipe that is written to. When it is dropped, the other end's bytes end.
#[derive(Debug)]
pub struct PipeWriter<D: Driver>(File<D>);

/// A pipe: what is written to the one is read from the other.
///
/// # Errors
/// As pipe(2).
pub fn pipe<D: Driver>(io: &Io<D>) -> Result<(PipeReader<D>, PipeWriter<D>), Error> {
    let made = io.driver().calls().pipe();
    let (reads, writes) = made.map_err(|error| Error::system("make", "a pipe", error))?;
    Ok((PipeReader::around(io, reads), PipeWriter::around(io, writes)))
}

/// Never makes anybody wait from now on; so does every copy of it.
fn adopt<D>(io: &Io<D>, descriptor: OwnedFd) -> Result<File<D>, Error>
where
    D: Driver<Descriptor: From<OwnedFd>>,
{
    let adopted = ioctl_fionbio(&descriptor, true);
    adopted.map_err(|error| Error::system("adopt", "a pipe", error))?;
    Ok(File::around(io, "a pipe", descriptor.into()))
}

impl<D: Driver<Descriptor: From<OwnedFd>>> PipeReader<D> {
    /// One that came from elsewhere: a child's output, or what was passed. Any descriptor that can be waited for will do.
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn adopt(io: &Io<D>, descriptor: OwnedFd) -> Result<Self, Error> {
        adopt(io, descriptor).map(Self)
    }
}

impl<D: Driver<Descriptor: From<OwnedFd>>> PipeWriter<D> {
    /// As [`PipeReader::adopt`]: a child's input, for one.
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn adopt(io: &Io<D>, descriptor: OwnedFd) -> Result<Self, Error> {
        adopt(io, descriptor).map(Self)
    }
}

impl<D: Driver> PipeReader<D> {
    pub(crate) fn around(io: &Io<D>, descriptor: D::Descriptor) -> Self {
        Self(File::around(io, "a pipe", descriptor))
    }

    /// What has come, as far as the buffer's capacity reaches; nothing when nobody writes any more. No byte is lost by dropping
    /// this.
    ///
    /// # Errors
    /// It was cancelled; or as read(2).
    #[track_caller]
    pub fn read(&self, buffer: Vec<u8>) -> impl Future<Output = Result<Vec<u8>, Error>> {
        let line = Location::caller();
        async move { Ok(self.0.operate(line, Operation::ReadNext, buffer).await?.0.buffer) }
    }
}

impl<D: Driver> PipeWriter<D> {
    pub(crate) fn around(io: &Io<D>, descriptor: D::Descriptor) -> Self {
        Self(File::around(io, "a pipe", descriptor))
    }

    /// Writes all of the buffer, which comes back. Dropped meanwhile, it may have written a part.
    ///
    /// # Errors
    /// It was cancelled; or as write(2). EPIPE: nobody reads any more.
    #[track_caller]
    pub fn write(&self, mut buffer: Vec<u8>) -> impl Future<Output = Result<Vec<u8>, Error>> {
        let line = Location::caller();
        async move {
            let mut written = 0;
            while written < buffer.len() {
                let (flight, length) = self.0.operate(line, Operation::WriteNext(written), buffer).await?;
                buffer = flight.buffer;
                written += length;
            }
            Ok(buffer)
        }
    }
}

impl<D: Driver> TcpStream<D> {
    /// Sends a file's bytes from `at` on, `length` at most; how many there were. They do not pass through this process: the
    /// kernel takes them through a pipe (splice(2)). Dropped meanwhile, it may have sent a part. (A simulation reads and writes.)
    ///
    /// # Errors
    /// It was cancelled; or as pipe(2), splice(2) and send(2).
    #[track_caller]
    pub fn send_file(
        &self,
        file: &File<D>,
        at: u64,
        length: u64,
    ) -> impl Future<Output = Result<u64, Error>> {
        let line = Location::caller();
        async move {
            let socket = self.socket();
            let mut sent = 0;
            if D::SIMULATED {
                while sent < length {
                    let most = usize::try_from(length - sent).unwrap_or(PART).min(PART);
                    let mut part = file.read(at + sent, Vec::with_capacity(most)).await?;
                    part.truncate(most);
                    if part.is_empty() {
                        break;
                    }
                    sent += self.write(part).await?.len() as u64;
                }
                return Ok(sent);
            }
            let (reads, writes) = pipe(&socket.io)?;
            while sent < length {
                let most = usize::try_from(length - sent).unwrap_or(PART).min(PART);
                let splice = Operation::Splice { at: Some(at + sent), length: most };
                let mut flight = Flight::new(splice, writes.0.source(), Vec::new());
                flight.other = Some(file.source().clone());
                let mut waiting = file.fly(line, flight).await?.1;
                if waiting == 0 {
                    break;
                }
                while waiting > 0 {
                    let splice = Operation::Splice { at: None, length: waiting };
                    let mut flight = Flight::new(splice, &socket.source, Vec::new());
                    flight.other = Some(reads.0.source().clone());
                    let length = socket.fly(line, flight).await?.1;
                    if length == 0 {
                        return Err(Error::new("send a file", socket, ErrorKind::Ended));
                    }
                    waiting -= length;
                    sent += length as u64;
                }
            }
            Ok(sent)
        }
    }
}
