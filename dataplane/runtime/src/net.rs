//! Sockets, over any driver.
//!
//! Buffers are given away and come back: with the result, or not at all when it is an error. What is received fills a buffer's
//! capacity, from its beginning.

use crate::calls::{Calls, Details, Half, SocketKind, SocketOption};
use crate::driver::{Driver, Flight, Operation, Source};
use crate::error::{Error, ErrorKind};
use crate::io::{Io, operate};
use crate::trace::At;
use std::fmt;
use std::net::SocketAddr;
use std::panic::Location;
use std::rc::Rc;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// What all sockets have.
pub(crate) struct Socket<D: Driver> {
    pub(crate) io: Io<D>,
    pub(crate) source: Rc<Source<D>>,
}

impl<D: Driver> Socket<D> {
    fn new(
        io: &Io<D>,
        kind: SocketKind,
        address: SocketAddr,
        options: &[SocketOption],
    ) -> Result<Self, Error> {
        let made = io.driver().calls().socket(kind, address.is_ipv6());
        let descriptor = made.map_err(|error| Error::system("make a socket for", address, error))?;
        let socket = Self::around(io, descriptor);
        options.iter().try_for_each(|option| socket.set(*option))?;
        Ok(socket)
    }

    fn bind(&self, address: SocketAddr) -> Result<(), Error> {
        let bound = self.io.driver().calls().bind(self.source.descriptor(), address);
        bound.map_err(|error| Error::system("bind to", address, error))
    }

    fn address(&self) -> Result<SocketAddr, Error> {
        let address = self.io.driver().calls().local_address(self.source.descriptor());
        address.map_err(|error| Error::system("ask for the address of", self, error))
    }

    fn set(&self, option: SocketOption) -> Result<(), Error> {
        let set = self.io.driver().calls().set_option(self.source.descriptor(), option);
        set.map_err(|error| Error::system("set", format_args!("{option:?} {self}"), error))
    }

    /// Around a descriptor.
    pub(crate) fn around(io: &Io<D>, descriptor: D::Descriptor) -> Self {
        Self { io: io.clone(), source: Source::new(descriptor) }
    }

    /// Ends one half of it, or both.
    pub(crate) fn shut(&self, half: Half) -> Result<(), Error> {
        let shut = self.io.driver().calls().shutdown(self.source.descriptor(), half);
        shut.map_err(|error| Error::system("shut down", self, error))
    }

    /// All of the buffer, one part after the other.
    pub(crate) async fn write(&self, line: At, mut buffer: Vec<u8>) -> Result<Vec<u8>, Error> {
        let mut written = 0;
        while written < buffer.len() {
            let (flight, length) = self.operate(line, Operation::Send(written), buffer, None).await?;
            buffer = flight.buffer;
            written += length;
        }
        Ok(buffer)
    }

    /// Does this, and gives back the flight and how many bytes; or the error, about the socket.
    pub(crate) async fn operate(
        &self,
        line: At,
        operation: Operation,
        buffer: Vec<u8>,
        address: Option<SocketAddr>,
    ) -> Result<(Box<Flight<D>>, usize), Error> {
        self.operate_with(line, operation, buffer, address, Details::default()).await
    }

    /// As above, with what goes with a datagram.
    async fn operate_with(
        &self,
        line: At,
        operation: Operation,
        buffer: Vec<u8>,
        address: Option<SocketAddr>,
        details: Details,
    ) -> Result<(Box<Flight<D>>, usize), Error> {
        let mut flight = Flight::new(operation, &self.source, buffer);
        (flight.address, flight.details) = (address, details);
        self.fly(line, flight).await
    }

    pub(crate) async fn fly(
        &self,
        line: At,
        flight: Box<Flight<D>>,
    ) -> Result<(Box<Flight<D>>, usize), Error> {
        let (operation, address) = (flight.operation, flight.address);
        let flight = operate(&self.io, line, flight).await;
        match flight.result {
            Ok(length) => Ok((flight, length)),
            Err(error) => match address.filter(|_| !operation.takes()) {
                Some(address) => {
                    Err(Error::system(operation.name(), format_args!("{self} to {address}"), error))
                }
                None => Err(Error::system(operation.name(), self, error)),
            },
        }
    }
}

impl<D: Driver> fmt::Display for Socket<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.io.driver().calls().local_address(self.source.descriptor()) {
            Ok(address) => write!(f, "at the socket {address}"),
            Err(_) => write!(f, "at a socket"),
        }
    }
}

impl<D: Driver> fmt::Debug for Socket<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// Datagrams.
#[derive(Debug)]
pub struct UdpSocket<D: Driver>(Socket<D>);

impl<D: Driver> UdpSocket<D> {
    /// One that receives what comes to this address; port 0 for any.
    ///
    /// # Errors
    /// As socket(2) and bind(2).
    pub fn bind(io: &Io<D>, address: SocketAddr) -> Result<Self, Error> {
        Self::bind_with(io, address, &[])
    }

    /// As [`UdpSocket::bind`], with options that are set before.
    ///
    /// # Errors
    /// As socket(2), setsockopt(2) and bind(2).
    pub fn bind_with(io: &Io<D>, address: SocketAddr, options: &[SocketOption]) -> Result<Self, Error> {
        let socket = Socket::new(io, SocketKind::Udp, address, options)?;
        socket.bind(address)?;
        Ok(Self(socket))
    }

    /// Where it is.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn address(&self) -> Result<SocketAddr, Error> {
        self.0.address()
    }

    /// Sets an option.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set(&self, option: SocketOption) -> Result<(), Error> {
        self.0.set(option)
    }

    /// The next datagram, as far as the buffer's capacity reaches, and where it is from. None is lost by dropping this.
    ///
    /// # Errors
    /// It was cancelled; or as recvfrom(2).
    #[track_caller]
    pub fn receive(&self, buffer: Vec<u8>) -> impl Future<Output = Result<(SocketAddr, Vec<u8>), Error>> {
        let line = Location::caller();
        async move {
            let (from, _, buffer) = self.receive_by(line, Operation::ReceiveFrom, buffer).await?;
            Ok((from, buffer))
        }
    }

    /// As [`UdpSocket::receive`], with what came with it, as far as the socket's options ask for it. (What a [`UdpSocket::receive`] that
    /// was dropped has taken, of that nothing more is known.)
    ///
    /// # Errors
    /// It was cancelled; or as recvmsg(2).
    #[track_caller]
    pub fn receive_with(
        &self,
        buffer: Vec<u8>,
    ) -> impl Future<Output = Result<(SocketAddr, Details, Vec<u8>), Error>> {
        self.receive_by(Location::caller(), Operation::ReceiveMessage, buffer)
    }

    async fn receive_by(
        &self,
        line: At,
        operation: Operation,
        buffer: Vec<u8>,
    ) -> Result<(SocketAddr, Details, Vec<u8>), Error> {
        let (flight, _) = self.0.operate(line, operation, buffer, None).await?;
        match flight.address {
            Some(address) => Ok((address, flight.details, flight.buffer)),
            None => Err(Error::new("receive", &self.0, ErrorKind::Ended)),
        }
    }

    /// Sends the buffer as one datagram; it comes back.
    ///
    /// # Errors
    /// It was cancelled; or as sendto(2).
    #[track_caller]
    pub fn send(&self, buffer: Vec<u8>, to: SocketAddr) -> impl Future<Output = Result<Vec<u8>, Error>> {
        self.send_with(buffer, to, Details::default())
    }

    /// As [`UdpSocket::send`], as the details say; with a segment, as several datagrams.
    ///
    /// # Errors
    /// It was cancelled; or as sendmsg(2). EINVAL: the details are not of the address's family, or it would be too
    /// many datagrams. EMSGSIZE: it is longer than a datagram may be.
    #[track_caller]
    pub fn send_with(
        &self,
        buffer: Vec<u8>,
        to: SocketAddr,
        details: Details,
    ) -> impl Future<Output = Result<Vec<u8>, Error>> {
        let line = Location::caller();
        async move {
            let (flight, _) =
                self.0.operate_with(line, Operation::Send(0), buffer, Some(to), details).await?;
            Ok(flight.buffer)
        }
    }
}

/// Connections to come.
#[derive(Debug)]
pub struct TcpListener<D: Driver>(Socket<D>);

impl<D: Driver> TcpListener<D> {
    /// One that listens at this address; port 0 for any. The address may be in use by connections of one before (SO_REUSEADDR).
    ///
    /// # Errors
    /// As socket(2), bind(2) and listen(2).
    pub fn bind(io: &Io<D>, address: SocketAddr) -> Result<Self, Error> {
        Self::bind_with(io, address, BACKLOG, &[SocketOption::ReuseAddress(true)])
    }

    /// As [`TcpListener::bind`], where so many connections may wait to be accepted (net.core.somaxconn is the most; what comes
    /// then is not answered, and a simulation refuses it), and with these options, which its connections have from it.
    ///
    /// # Errors
    /// As socket(2), setsockopt(2), bind(2) and listen(2).
    pub fn bind_with(
        io: &Io<D>,
        address: SocketAddr,
        backlog: u32,
        options: &[SocketOption],
    ) -> Result<Self, Error> {
        let socket = Socket::new(io, SocketKind::Tcp, address, options)?;
        socket.bind(address)?;
        let listens = io.driver().calls().listen(socket.source.descriptor(), backlog);
        listens.map_err(|error| Error::system("listen at", address, error))?;
        Ok(Self(socket))
    }

    /// Where it is.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn address(&self) -> Result<SocketAddr, Error> {
        self.0.address()
    }

    /// The next connection, and where it is from. None is lost by dropping this.
    ///
    /// # Errors
    /// It was cancelled; or as accept(2).
    #[track_caller]
    pub fn accept(&self) -> impl Future<Output = Result<(TcpStream<D>, SocketAddr), Error>> {
        let line = Location::caller();
        async move {
            let (mut flight, _) = self.0.operate(line, Operation::Accept, Vec::new(), None).await?;
            match (flight.accepted.take(), flight.address) {
                (Some(accepted), Some(from)) => Ok((TcpStream(Socket::around(&self.0.io, accepted)), from)),
                _ => Err(Error::new("accept", &self.0, ErrorKind::Ended)),
            }
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct TcpStream<D: Driver>(Socket<D>);

impl<D: Driver> TcpStream<D> {
    /// One to this address.
    ///
    /// # Errors
    /// It was cancelled; or as socket(2) and connect(2).
    #[track_caller]
    pub fn connect(io: &Io<D>, to: SocketAddr) -> impl Future<Output = Result<Self, Error>> {
        Self::connect_with(io, to, &[])
    }

    /// As [`TcpStream::connect`], with options that are set before.
    ///
    /// # Errors
    /// It was cancelled; or as socket(2), setsockopt(2) and connect(2).
    #[track_caller]
    pub fn connect_with(
        io: &Io<D>,
        to: SocketAddr,
        options: &[SocketOption],
    ) -> impl Future<Output = Result<Self, Error>> {
        let line = Location::caller();
        async move {
            let socket = Socket::new(io, SocketKind::Tcp, to, options)?;
            socket.operate(line, Operation::Connect, Vec::new(), Some(to)).await?;
            Ok(Self(socket))
        }
    }

    /// Sets an option.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set(&self, option: SocketOption) -> Result<(), Error> {
        self.0.set(option)
    }

    /// What has come, as far as the buffer's capacity reaches; nothing when the other end is done. No byte is lost by dropping
    /// this.
    ///
    /// # Errors
    /// It was cancelled; or as recv(2).
    #[track_caller]
    pub fn read(&self, buffer: Vec<u8>) -> impl Future<Output = Result<Vec<u8>, Error>> {
        let line = Location::caller();
        async move { Ok(self.0.operate(line, Operation::Receive, buffer, None).await?.0.buffer) }
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

    /// Says that nothing more is written.
    ///
    /// # Errors
    /// As shutdown(2).
    pub fn shutdown(&self) -> Result<(), Error> {
        self.shut(Half::Write)
    }

    /// Ends one half of it, or both. Of what is not read any more, the other end is not told; what came is still there to be
    /// read, then comes the end.
    ///
    /// # Errors
    /// As shutdown(2).
    pub fn shut(&self, half: Half) -> Result<(), Error> {
        self.0.shut(half)
    }

    pub(crate) fn socket(&self) -> &Socket<D> {
        &self.0
    }
}
