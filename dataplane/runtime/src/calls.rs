//! What never waits: making sockets, setting options, opening files.

use crate::time::Instant;
use rustix::io::Errno;
use std::net::SocketAddr;
use std::path::Path;

/// A kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
}

/// What can be set on a socket (socket(7), ip(7), tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOption {
    /// SO_REUSEADDR.
    ReuseAddress(bool),
    /// SO_BROADCAST.
    Broadcast(bool),
    /// SO_RCVBUF, in bytes.
    ReceiveBuffer(usize),
    /// SO_SNDBUF, in bytes.
    SendBuffer(usize),
    /// TCP_NODELAY.
    NoDelay(bool),
    /// SO_KEEPALIVE.
    KeepAlive(bool),
    /// IP_TOS or IPV6_TCLASS, as the socket is.
    TrafficClass(u8),
}

/// How a file is opened (open(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Makes it when it is not there, readable and writable by its owner alone.
    pub create: bool,
    /// Empties it.
    pub truncate: bool,
}

/// Who makes these calls: the kernel, or a simulation.
pub trait Calls<D> {
    /// Time.
    fn clock(&self) -> Instant;

    /// A socket, of IPv4 or IPv6.
    ///
    /// # Errors
    /// As socket(2).
    fn socket(&self, kind: SocketKind, ipv6: bool) -> Result<D, Errno>;

    /// # Errors
    /// As bind(2).
    fn bind(&self, socket: &D, address: SocketAddr) -> Result<(), Errno>;

    /// # Errors
    /// As listen(2).
    fn listen(&self, socket: &D, backlog: u32) -> Result<(), Errno>;

    /// # Errors
    /// As getsockname(2).
    fn local_address(&self, socket: &D) -> Result<SocketAddr, Errno>;

    /// # Errors
    /// As setsockopt(2).
    fn set_option(&self, socket: &D, option: SocketOption) -> Result<(), Errno>;

    /// Nothing more is written.
    ///
    /// # Errors
    /// As shutdown(2).
    fn shutdown(&self, socket: &D) -> Result<(), Errno>;

    /// # Errors
    /// As open(2).
    fn open(&self, path: &Path, options: OpenOptions) -> Result<D, Errno>;

    /// Bytes of a file.
    ///
    /// # Errors
    /// As fstat(2).
    fn len(&self, file: &D) -> Result<u64, Errno>;
}
