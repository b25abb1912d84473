//! What never waits: making sockets, setting options, opening files.

use crate::time::Instant;
use rustix::fs::inotify::WatchFlags;
use rustix::io::Errno;
use rustix::process::Signal;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// A kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
    /// Datagrams on this host (unix(7)), which are not lost.
    UnixDatagram,
    /// A stream on this host.
    UnixStream,
}

/// What can be set on a socket (socket(7), ip(7), ipv6(7), udp(7), tcp(7)). Where IPv4 and IPv6 have options of their own, it is that of
/// the socket's family. In a simulation those say so that mean something there; it takes the others and does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOption {
    /// SO_REUSEADDR. Datagram sockets share an address if all have it; of those, one gets what is not multicast. (Simulated.)
    ReuseAddress(bool),
    /// SO_REUSEPORT: sockets share an address, and what comes is spread over them.
    ReusePort(bool),
    /// IPV6_V6ONLY: no IPv4 by mapped addresses. Before it is bound.
    OnlyV6(bool),
    /// SO_BROADCAST; without it, to send to a broadcast address is EACCES. (Simulated, for 255.255.255.255 and 127.255.255.255.)
    Broadcast(bool),
    /// SO_RCVBUF, in bytes.
    ReceiveBuffer(usize),
    /// SO_SNDBUF, in bytes.
    SendBuffer(usize),
    /// IP_TOS or IPV6_TCLASS, of all that is sent. (Simulated.)
    TrafficClass(u8),
    /// IP_RECVTOS or IPV6_RECVTCLASS: [`Details::traffic_class`] is told of what comes. (Simulated.)
    ReceiveTrafficClass(bool),
    /// IP_PKTINFO or IPV6_RECVPKTINFO: [`Details::local`] and [`Details::interface`] are told of what comes. (Simulated.)
    ReceivePacketInfo(bool),
    /// UDP_GRO: datagrams that came together from one sender are received as one buffer, and [`Details::segment`] says where they
    /// part. (Simulated: those that wait are joined.)
    ReceiveSegments(bool),
    /// IP_ADD_MEMBERSHIP or IPV6_ADD_MEMBERSHIP: what is sent to this group on this interface is received, interface 0 being what the
    /// routes say. (Simulated.)
    Join(IpAddr, u32),
    /// The opposite of [`SocketOption::Join`], with the same interface. (Simulated.)
    Leave(IpAddr, u32),
    /// IP_MULTICAST_IF or IPV6_MULTICAST_IF: the interface by which multicast leaves.
    MulticastInterface(u32),
    /// IP_MULTICAST_LOOP or IPV6_MULTICAST_LOOP: this host receives it too, as it does where nothing is set. (Simulated.)
    MulticastLoop(bool),
    /// IP_MULTICAST_TTL or IPV6_MULTICAST_HOPS; 1 where nothing is set.
    MulticastHops(u8),
    /// TCP_NODELAY.
    NoDelay(bool),
    /// SO_KEEPALIVE, at the kernel's times.
    KeepAlive(bool),
    /// SO_KEEPALIVE, with TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT.
    KeepAliveAfter {
        /// Nothing came for so long: from 1 s to 32,767 s, in whole seconds.
        idle: Duration,
        /// Between probes; as above.
        interval: Duration,
        /// Without an answer to so many, the connection is broken: from 1 to 127.
        probes: u32,
    },
    /// TCP_FASTOPEN, of a listener: so many connections may be pending whose first bytes came with their SYN. Takes effect where
    /// net.ipv4.tcp_fastopen has the bit 2.
    FastOpen(u32),
    /// TCP_FASTOPEN_CONNECT, before connecting: to connect is then no wait, and the first bytes go with the SYN to whom the
    /// kernel has a cookie for; an error to connect is told when they are written.
    FastOpenConnect(bool),
}

/// What goes with a datagram, or has come with it, besides its bytes and its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The address of this host that it is sent from; or that it came to (a group's, if it was sent to one), if the socket
    /// has [`SocketOption::ReceivePacketInfo`].
    pub local: Option<IpAddr>,
    /// The interface by which it leaves, 0 being what the routes say; or has come, as above.
    pub interface: u32,
    /// IP's TOS or traffic class, instead of the socket's; or as it came, if the socket has
    /// [`SocketOption::ReceiveTrafficClass`].
    pub traffic_class: Option<u8>,
    /// UDP_SEGMENT: the buffer is several datagrams of so many bytes, the last of which may be shorter: 64 at most (128
    /// since Linux 6.9), and as many bytes together as one datagram may have. Received, with [`SocketOption::ReceiveSegments`]: it is several that came.
    pub segment: Option<u16>,
}

/// Which half of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// What comes.
    Read,
    /// What goes.
    Write,
    /// Both.
    Both,
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

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Bytes of a file.
    pub length: u64,
    /// Whether it is a directory.
    pub directory: bool,
    /// Who may do what: the lowest twelve bits of the mode. (Simulated: 0o600, or 0o700.)
    pub permissions: u32,
    /// When it was last written to, since 1970. (Simulated: nothing.)
    pub modified: Duration,
}

/// How a range of a file will be used (posix_fadvise(2)). A simulation takes it and does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// From its beginning to its end: more is read ahead.
    Sequential,
    /// Here and there: nothing is.
    Random,
    /// Soon: it is read ahead now.
    Soon,
    /// Not again: what is on the disk goes from memory.
    NotAgain,
}

/// Which of a child's standard streams are pipes, whose other ends are here; the others are as its command says. (Simulated: they lead
/// nowhere.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// What it reads.
    pub input: bool,
    /// What it says.
    pub output: bool,
    /// What it complains of.
    pub errors: bool,
}

/// A child that was started.
#[derive(Debug)]
pub struct Started<D> {
    /// Its number.
    pub process: u32,
    /// What it is known by here, which can be read from when it has ended.
    pub descriptor: D,
    /// Where its input is written to.
    pub input: Option<D>,
    /// Where its output is read from.
    pub output: Option<D>,
    /// Where its errors are read from.
    pub errors: Option<D>,
}

/// Who makes these calls: the kernel, or a simulation. Those about files may wait for a
/// disk; so they are for a program's beginning and end, and for when the next operation waits for the same disk anyway.
pub trait Calls<D> {
    /// Time.
    fn clock(&self) -> Instant;

    /// A socket; `ipv6` matters to those of the network.
    ///
    /// # Errors
    /// As socket(2).
    fn socket(&self, kind: SocketKind, ipv6: bool) -> Result<D, Errno>;

    /// # Errors
    /// As bind(2).
    fn bind(&self, socket: &D, address: SocketAddr) -> Result<(), Errno>;

    /// A socket of this host, at this path, which has at most 108 bytes.
    ///
    /// # Errors
    /// As bind(2). EADDRINUSE: something is there, if only what a server that is gone has left.
    fn bind_unix(&self, socket: &D, path: &Path) -> Result<(), Errno>;

    /// Connects to a socket of this host.
    ///
    /// # Errors
    /// As connect(2). EAGAIN: as many as may wait to be accepted there do.
    fn connect_unix(&self, socket: &D, path: &Path) -> Result<(), Errno>;

    /// Two sockets of this host, connected.
    ///
    /// # Errors
    /// As socketpair(2).
    fn pair(&self, kind: SocketKind) -> Result<(D, D), Errno>;

    /// What is written to the second is read from the first.
    ///
    /// # Errors
    /// As pipe(2).
    fn pipe(&self) -> Result<(D, D), Errno>;

    /// # Errors
    /// As listen(2).
    fn listen(&self, socket: &D, backlog: u32) -> Result<(), Errno>;

    /// # Errors
    /// As getsockname(2).
    fn local_address(&self, socket: &D) -> Result<SocketAddr, Errno>;

    /// # Errors
    /// As setsockopt(2).
    fn set_option(&self, socket: &D, option: SocketOption) -> Result<(), Errno>;

    /// Nothing more is read, or written.
    ///
    /// # Errors
    /// As shutdown(2).
    fn shutdown(&self, socket: &D, half: Half) -> Result<(), Errno>;

    /// # Errors
    /// As open(2).
    fn open(&self, path: &Path, options: OpenOptions) -> Result<D, Errno>;

    /// Bytes of a file.
    ///
    /// # Errors
    /// As fstat(2).
    fn len(&self, file: &D) -> Result<u64, Errno>;

    /// Cuts a file, or lengthens it by zeros.
    ///
    /// # Errors
    /// As ftruncate(2).
    fn truncate(&self, file: &D, length: u64) -> Result<(), Errno>;

    /// How a range of a file will be used; length 0: to its end.
    ///
    /// # Errors
    /// As posix_fadvise(2).
    fn advise(&self, file: &D, at: u64, length: u64, advice: Advice) -> Result<(), Errno>;

    /// What is at a path; of a link, what it names.
    ///
    /// # Errors
    /// As stat(2).
    fn metadata(&self, path: &Path) -> Result<Metadata, Errno>;

    /// Gives a file another name, in place of what has that name. (A simulation has it on the disk at once, as it has what follows.)
    ///
    /// # Errors
    /// As rename(2).
    fn rename(&self, from: &Path, to: &Path) -> Result<(), Errno>;

    /// Takes a file away, or a directory that is empty.
    ///
    /// # Errors
    /// As unlink(2) or rmdir(2).
    fn remove(&self, path: &Path, directory: bool) -> Result<(), Errno>;

    /// Makes a directory, its owner's alone.
    ///
    /// # Errors
    /// As mkdir(2).
    fn make_directory(&self, path: &Path) -> Result<(), Errno>;

    /// The names in a directory, in their order.
    ///
    /// # Errors
    /// As open(2) or getdents(2).
    fn names(&self, directory: &Path) -> Result<Vec<OsString>, Errno>;

    /// What happens to files, to be read ([`Watches`](crate::Watches)).
    ///
    /// # Errors
    /// As inotify_init1(2).
    fn watches(&self) -> Result<D, Errno>;

    /// Watches what is at a path.
    ///
    /// # Errors
    /// As inotify_add_watch(2).
    fn watch(&self, watches: &D, path: &Path, events: WatchFlags) -> Result<i32, Errno>;

    /// Watches it no more.
    ///
    /// # Errors
    /// As inotify_rm_watch(2).
    fn unwatch(&self, watches: &D, watch: i32) -> Result<(), Errno>;

    /// Signals, to be read ([`Signals`](crate::Signals)).
    ///
    /// # Errors
    /// As signalfd(2).
    fn signals(&self, signals: &[Signal]) -> Result<D, Errno>;

    /// Sends a signal to the thread, or of a simulation to the program, that calls this.
    ///
    /// # Errors
    /// As raise(3).
    fn raise(&self, signal: Signal) -> Result<(), Errno>;

    /// Starts a child ([`Child`](crate::Child)).
    ///
    /// # Errors
    /// As pipe(2), fork(2), execve(2) and pidfd_open(2).
    fn start(&self, command: &mut Command, streams: Streams) -> Result<Started<D>, Errno>;

    /// How a child ended, if it has. Told once.
    ///
    /// # Errors
    /// As waitid(2).
    fn ended(&self, child: &D) -> Result<Option<ExitStatus>, Errno>;

    /// Kills a child whose end was not told, and waits for it.
    fn end(&self, child: &D);

    /// Sends a signal to a child.
    ///
    /// # Errors
    /// As pidfd_send_signal(2).
    fn signal(&self, child: &D, signal: Signal) -> Result<(), Errno>;
}
