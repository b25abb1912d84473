//! Sockets of this host (unix(7)): streams and datagrams that are not lost, and descriptors that are passed with them.
//!
//! What is at a path stays there when its socket is gone; who binds next takes it away before ([`Io::remove_file`]).

use crate::calls::{Calls, Half, SocketKind};
use crate::driver::{Driver, Flight, Operation};
use crate::error::{Error, ErrorKind};
use crate::io::Io;
use crate::net::Socket;
use crate::trace::At;
use rustix::fd::OwnedFd;
use std::panic::Location;
use std::path::Path;

/// One of a kind; `operation` says what it is for, at which path.
fn make<D: Driver>(io: &Io<D>, kind: SocketKind, path: &Path) -> Result<Socket<D>, Error> {
    let made = io.driver().calls().socket(kind, false);
    let descriptor = made.map_err(|error| Error::system("make a socket for", path.display(), error))?;
    Ok(Socket::around(io, descriptor))
}

fn bound<D: Driver>(io: &Io<D>, kind: SocketKind, path: &Path) -> Result<Socket<D>, Error> {
    let socket = make(io, kind, path)?;
    let bound = io.driver().calls().bind_unix(socket.source.descriptor(), path);
    bound.map_err(|error| Error::system("bind to", path.display(), error))?;
    Ok(socket)
}

fn connect<D: Driver>(socket: &Socket<D>, path: &Path) -> Result<(), Error> {
    let connected = socket.io.driver().calls().connect_unix(socket.source.descriptor(), path);
    connected.map_err(|error| Error::system("connect", path.display(), error))
}

fn pair<D: Driver>(io: &Io<D>, kind: SocketKind) -> Result<(Socket<D>, Socket<D>), Error> {
    let made = io.driver().calls().pair(kind);
    let (one, two) = made.map_err(|error| Error::system("make", "a pair of sockets", error))?;
    Ok((Socket::around(io, one), Socket::around(io, two)))
}

/// Sends once, with descriptors.
async fn send<D: Driver>(
    socket: &Socket<D>,
    line: At,
    buffer: Vec<u8>,
    passed: Vec<OwnedFd>,
) -> Result<(Vec<u8>, usize), Error> {
    let mut flight = Flight::new(Operation::Send(0), &socket.source, buffer);
    flight.passed = passed;
    let (flight, length) = socket.fly(line, flight).await?;
    Ok((flight.buffer, length))
}

/// Connections to come, at a path.
#[derive(Debug)]
pub struct UnixListener<D: Driver>(Socket<D>);

impl<D: Driver> UnixListener<D> {
    /// One that listens at this path, of 108 bytes at most, where nothing is yet.
    ///
    /// # Errors
    /// As socket(2), bind(2) and listen(2).
    pub fn bind(io: &Io<D>, path: &Path) -> Result<Self, Error> {
        let socket = bound(io, SocketKind::UnixStream, path)?;
        let listens = io.driver().calls().listen(socket.source.descriptor(), 1024);
        listens.map_err(|error| Error::system("listen at", path.display(), error))?;
        Ok(Self(socket))
    }

    /// The next connection. None is lost by dropping this.
    ///
    /// # Errors
    /// It was cancelled; or as accept(2).
    #[track_caller]
    pub fn accept(&self) -> impl Future<Output = Result<UnixStream<D>, Error>> {
        let line = Location::caller();
        async move {
            let (mut flight, _) = self.0.operate(line, Operation::Accept, Vec::new(), None).await?;
            match flight.accepted.take() {
                Some(accepted) => Ok(UnixStream(Socket::around(&self.0.io, accepted))),
                None => Err(Error::new("accept", &self.0, ErrorKind::Ended)),
            }
        }
    }
}

/// A connection on this host.
#[derive(Debug)]
pub struct UnixStream<D: Driver>(Socket<D>);

impl<D: Driver> UnixStream<D> {
    /// One to who listens at this path. It waits for nothing.
    ///
    /// # Errors
    /// As socket(2) and connect(2). EAGAIN: as many as may wait to be accepted there do.
    pub fn connect(io: &Io<D>, path: &Path) -> Result<Self, Error> {
        let socket = make(io, SocketKind::UnixStream, path)?;
        connect(&socket, path)?;
        Ok(Self(socket))
    }

    /// Both ends of one.
    ///
    /// # Errors
    /// As socketpair(2).
    pub fn pair(io: &Io<D>) -> Result<(Self, Self), Error> {
        let (one, two) = pair(io, SocketKind::UnixStream)?;
        Ok((Self(one), Self(two)))
    }

    /// What has come, as far as the buffer's capacity reaches; nothing when the other end is done. No byte is lost by dropping
    /// this. Descriptors that were passed are closed.
    ///
    /// # Errors
    /// It was cancelled; or as recv(2).
    #[track_caller]
    pub fn read(&self, buffer: Vec<u8>) -> impl Future<Output = Result<Vec<u8>, Error>> {
        let line = Location::caller();
        async move { Ok(self.0.operate(line, Operation::Receive, buffer, None).await?.0.buffer) }
    }

    /// As [`UnixStream::read`], with the descriptors that were passed with these bytes.
    ///
    /// # Errors
    /// It was cancelled; or as recvmsg(2).
    #[track_caller]
    pub fn read_passed(
        &self,
        buffer: Vec<u8>,
    ) -> impl Future<Output = Result<(Vec<u8>, Vec<OwnedFd>), Error>> {
        let line = Location::caller();
        async move {
            let (flight, _) = self.0.operate(line, Operation::ReceivePassed, buffer, None).await?;
            Ok((flight.buffer, flight.passed))
        }
    }

    /// Writes all of the buffer, which comes back. Dropped meanwhile, it may have written a part.
    ///
    /// # Errors
    /// It was cancelled; or as send(2).
    #[track_caller]
    pub fn write(&self, buffer: Vec<u8>) -> impl Future<Output = Result<Vec<u8>, Error>> {
        let line = Location::caller();
        async move { self.0.write(line, buffer).await }
    }

    /// Writes the buffer's beginning, a byte at least, and passes descriptors with it, 16 at most; how many bytes were written. They
    /// are closed here.
    ///
    /// # Errors
    /// It was cancelled; or as sendmsg(2). EINVAL: more descriptors than that.
    #[track_caller]
    pub fn write_passing(
        &self,
        buffer: Vec<u8>,
        passed: Vec<OwnedFd>,
    ) -> impl Future<Output = Result<(Vec<u8>, usize), Error>> {
        let line = Location::caller();
        async move { send(&self.0, line, buffer, passed).await }
    }

    /// Ends one half of it, or both.
    ///
    /// # Errors
    /// As shutdown(2).
    pub fn shut(&self, half: Half) -> Result<(), Error> {
        self.0.shut(half)
    }
}

/// Datagrams on this host: whole, in order, and none is lost as long as both ends are there; who sends waits for room. To a path 11 may
/// wait to be received (net.unix.max_dgram_qlen, and one more), in a pair as many as the sender's buffer holds (net.core.wmem_default).
/// Where the other end of a pair is gone, what it sent can be received until something is sent to it: that is ECONNREFUSED, and what was
/// not received yet is lost. To be answered, both ends connect.
#[derive(Debug)]
pub struct UnixDatagram<D: Driver>(Socket<D>);

impl<D: Driver> UnixDatagram<D> {
    /// One that receives what is sent to this path.
    ///
    /// # Errors
    /// As socket(2) and bind(2).
    pub fn bind(io: &Io<D>, path: &Path) -> Result<Self, Error> {
        Ok(Self(bound(io, SocketKind::UnixDatagram, path)?))
    }

    /// One that sends to this path.
    ///
    /// # Errors
    /// As socket(2) and connect(2).
    pub fn to(io: &Io<D>, path: &Path) -> Result<Self, Error> {
        let socket = make(io, SocketKind::UnixDatagram, path)?;
        connect(&socket, path)?;
        Ok(Self(socket))
    }

    /// Two that send to each other.
    ///
    /// # Errors
    /// As socketpair(2).
    pub fn pair(io: &Io<D>) -> Result<(Self, Self), Error> {
        let (one, two) = pair(io, SocketKind::UnixDatagram)?;
        Ok((Self(one), Self(two)))
    }

    /// The next datagram, as far as the buffer's capacity reaches, with the descriptors that were passed. None is lost by dropping
    /// this.
    ///
    /// # Errors
    /// It was cancelled; or as recvmsg(2).
    #[track_caller]
    pub fn receive(&self, buffer: Vec<u8>) -> impl Future<Output = Result<(Vec<u8>, Vec<OwnedFd>), Error>> {
        let line = Location::caller();
        async move {
            let (flight, _) = self.0.operate(line, Operation::ReceiveMessage, buffer, None).await?;
            Ok((flight.buffer, flight.passed))
        }
    }

    /// Sends the buffer as one, with descriptors, 16 at most; the buffer comes back, and they are closed here.
    ///
    /// # Errors
    /// It was cancelled; or as sendmsg(2). EINVAL: more descriptors than that.
    #[track_caller]
    pub fn send(
        &self,
        buffer: Vec<u8>,
        passed: Vec<OwnedFd>,
    ) -> impl Future<Output = Result<Vec<u8>, Error>> {
        let line = Location::caller();
        async move { Ok(send(&self.0, line, buffer, passed).await?.0) }
    }
}
