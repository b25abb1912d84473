//! A channel that keeps message bounds and carries descriptors.
//!
//! Owns: one end of a Unix `SOCK_SEQPACKET` socket. Refuses: messages that were cut (`MSG_TRUNC`), descriptors that were
//! cut (`MSG_CTRUNC`), more than [`MAX_FDS`] of them, and empty messages (they would read as the end of the stream).
//! Keeps true: a received descriptor is close-on-exec and owned by exactly one value; those of a refused message are closed.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};

/// Most descriptors that one message may carry.
pub const MAX_FDS: usize = 8;

/// Why a channel did not take or give a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The peer closed its end, or died.
    #[error("the peer closed the channel")]
    Closed,
    /// A non-blocking channel has nothing to receive, or no room to send. Wait for readiness and call again.
    #[error("the channel would block")]
    WouldBlock,
    /// The message did not fit into the receiver's memory; its rest is lost.
    #[error("a message is longer than the {limit} bytes that the receiver allows")]
    Truncated {
        /// Size of the receiver's memory, bytes.
        limit: usize,
    },
    /// More descriptors than one message may carry; all of them were closed.
    #[error(
        "a message carries more than {MAX_FDS} descriptors, or this process is at its limit of open files (RLIMIT_NOFILE)"
    )]
    TooManyDescriptors,
    /// An empty message cannot be told from the end of the stream.
    #[error("an empty message cannot be sent")]
    Empty,
    /// The descriptor given to [`Channel::from_fd`] is something else.
    #[error("the descriptor is not a Unix SOCK_SEQPACKET socket")]
    NotAChannel,
    /// The system call failed otherwise.
    #[error("{call} on the channel failed: {source}")]
    System {
        /// Name of the system call.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ChannelError {
    fn system(call: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::AGAIN => Self::WouldBlock,
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Closed,
            other => Self::System { call, source: other.into() },
        }
    }
}

impl From<ChannelError> for io::Error {
    /// Keeps the kinds that readiness loops look at: `WouldBlock` and `UnexpectedEof`.
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::WouldBlock => Self::from(io::ErrorKind::WouldBlock),
            ChannelError::Closed => Self::new(io::ErrorKind::UnexpectedEof, error),
            ChannelError::System { source, .. } => source,
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}

/// What [`Channel::recv`] got.
#[derive(Debug)]
pub struct Received {
    /// Bytes written at the front of the caller's memory; at least 1.
    pub len: usize,
    /// The descriptors that came along, close-on-exec, in the order in which they were sent.
    pub fds: Vec<OwnedFd>,
}

/// One end of a channel; dropping it closes it.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Two ends that talk to each other, blocking and close-on-exec.
    ///
    /// # Errors
    /// [`ChannelError::System`], when the process is out of descriptors.
    pub fn pair() -> Result<(Self, Self), ChannelError> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| ChannelError::system("socketpair", e))?;
        Ok((Self { socket: a }, Self { socket: b }))
    }

    /// An end that was inherited, accepted or received.
    ///
    /// # Errors
    /// [`ChannelError::NotAChannel`] for any other kind of descriptor.
    pub fn from_fd(socket: OwnedFd) -> Result<Self, ChannelError> {
        let unix = sockopt::socket_domain(&socket).is_ok_and(|d| d == AddressFamily::UNIX);
        let packets = sockopt::socket_type(&socket).is_ok_and(|t| t == SocketType::SEQPACKET);
        if unix && packets { Ok(Self { socket }) } else { Err(ChannelError::NotAChannel) }
    }

    /// With `true`, calls that would wait return [`ChannelError::WouldBlock`] instead.
    ///
    /// # Errors
    /// [`ChannelError::System`].
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<(), ChannelError> {
        let mut flags = fcntl_getfl(&self.socket).map_err(|e| ChannelError::system("fcntl", e))?;
        flags.set(OFlags::NONBLOCK, nonblocking);
        fcntl_setfl(&self.socket, flags).map_err(|e| ChannelError::system("fcntl", e))
    }

    /// Sends `bytes` as one message, with `fds`; the peer gets all of it or nothing.
    ///
    /// # Errors
    /// [`ChannelError::Empty`], [`ChannelError::TooManyDescriptors`], [`ChannelError::Closed`],
    /// [`ChannelError::WouldBlock`], or what the kernel said.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        if bytes.is_empty() {
            return Err(ChannelError::Empty);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fits =
            fds.len() <= MAX_FDS && (fds.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(fds)));
        if !fits {
            return Err(ChannelError::TooManyDescriptors);
        }
        retry_on_intr(|| sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL))
            .map(|_whole| ())
            .map_err(|e| ChannelError::system("sendmsg", e))
    }

    /// Receives one message into `buf`.
    ///
    /// # Errors
    /// [`ChannelError::Closed`] at the end of the stream, [`ChannelError::WouldBlock`], [`ChannelError::Truncated`] and
    /// [`ChannelError::TooManyDescriptors`] for a message that came incomplete (it is consumed, and its descriptors are
    /// closed), or what the kernel said.
    pub fn recv(&self, buf: &mut [u8]) -> Result<Received, ChannelError> {
        let limit = buf.len();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = retry_on_intr(|| {
            recvmsg(&self.socket, &mut [IoSliceMut::new(buf)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })
        .map_err(|e| ChannelError::system("recvmsg", e))?;
        let mut fds = Vec::new();
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = part {
                fds.extend(rights);
            }
        }
        // The padding of the control space can hold one descriptor more than it was asked for.
        if message.flags.contains(ReturnFlags::CTRUNC) || fds.len() > MAX_FDS {
            return Err(ChannelError::TooManyDescriptors);
        }
        if message.flags.contains(ReturnFlags::TRUNC) {
            return Err(ChannelError::Truncated { limit });
        }
        if message.bytes == 0 {
            return Err(ChannelError::Closed);
        }
        Ok(Received { len: message.bytes, fds })
    }

    /// Who is at the other end: see [`peer_credentials`].
    ///
    /// # Errors
    /// What the kernel said.
    pub fn peer(&self) -> io::Result<Credentials> {
        peer_credentials(self.as_fd())
    }

    /// The socket itself, to pass it on.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

/// Who connected a Unix socket (of a socket pair: who made it), as the kernel recorded it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Process id; 0 when the peer lives in a process namespace that this one cannot see.
    pub pid: i32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// The peer of a connected Unix socket (`SO_PEERCRED`, unix(7)).
///
/// # Errors
/// What the kernel said: the descriptor is no connected Unix socket.
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    // rustix types the process id as never zero, which it is for a peer outside our process namespace.
    let mut raw = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `raw` and `len` outlive the call, and `len` is the size of `raw`, all of whose bit patterns are valid.
    let rc = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut raw).cast(),
            &raw mut len,
        )
    };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Credentials { pid: raw.pid, uid: raw.uid, gid: raw.gid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::{FdFlags, fcntl_getfd};
    use std::io::{Read, Write};

    #[test]
    fn descriptors_arrive_open_in_order_and_close_on_exec() {
        let (a, b) = Channel::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        a.send(b"take this", &[writer.as_fd(), reader.as_fd()]).unwrap();
        drop(writer);
        let mut buf = [0; 64];
        let mut got = b.recv(&mut buf).unwrap();
        assert_eq!(&buf[..got.len], b"take this");
        assert_eq!(got.fds.len(), 2);
        for fd in &got.fds {
            assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
        }
        let mut writer = std::fs::File::from(got.fds.remove(0));
        writer.write_all(b"x").unwrap();
        drop(writer);
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "x");
    }

    #[test]
    fn messages_keep_their_bounds_and_the_end_is_told() {
        let (a, b) = Channel::pair().unwrap();
        a.send(b"one", &[]).unwrap();
        a.send(b"two!", &[]).unwrap();
        drop(a);
        let mut buf = [0; 64];
        assert_eq!(b.recv(&mut buf).unwrap().len, 3);
        assert_eq!(b.recv(&mut buf).unwrap().len, 4);
        assert!(matches!(b.recv(&mut buf), Err(ChannelError::Closed)));
        assert!(matches!(b.send(b"x", &[]), Err(ChannelError::Closed)));
    }

    #[test]
    fn a_peer_that_leaves_messages_unread_is_closed_too() {
        let (a, b) = Channel::pair().unwrap();
        b.send(b"unread", &[]).unwrap();
        drop(a);
        assert!(matches!(b.recv(&mut [0; 8]), Err(ChannelError::Closed)));
    }

    #[test]
    fn a_cut_message_is_an_error_and_the_next_one_is_whole() {
        let (a, b) = Channel::pair().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        a.send(&[7; 65], &[writer.as_fd()]).unwrap();
        a.send(b"next", &[]).unwrap();
        drop(writer);
        let mut buf = [0; 64];
        assert!(matches!(b.recv(&mut buf), Err(ChannelError::Truncated { limit: 64 })));
        assert_eq!(b.recv(&mut buf).unwrap().len, 4);
        let mut rest = Vec::new();
        assert_eq!(
            (&reader).read_to_end(&mut rest).unwrap(),
            0,
            "the descriptor of the refused message is closed"
        );
    }

    #[test]
    fn too_many_descriptors_are_refused_on_both_sides() {
        let (a, b) = Channel::pair().unwrap();
        let (_reader, writer) = io::pipe().unwrap();
        let many = [writer.as_fd(); MAX_FDS + 2];
        assert!(matches!(a.send(b"x", &many[..=MAX_FDS]), Err(ChannelError::TooManyDescriptors)));
        // A hostile peer does not ask our `send`.
        for count in [MAX_FDS + 1, MAX_FDS + 2] {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 2))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&many[..count])));
            sendmsg(&a, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty()).unwrap();
            assert!(
                matches!(b.recv(&mut [0; 8]), Err(ChannelError::TooManyDescriptors)),
                "{count} descriptors"
            );
        }
        a.send(b"x", &many[..MAX_FDS]).unwrap();
        assert_eq!(b.recv(&mut [0; 8]).unwrap().fds.len(), MAX_FDS);
    }

    #[test]
    fn a_nonblocking_channel_says_so() {
        let (a, b) = Channel::pair().unwrap();
        b.set_nonblocking(true).unwrap();
        let error = b.recv(&mut [0; 8]).unwrap_err();
        assert!(matches!(error, ChannelError::WouldBlock));
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::WouldBlock);
        a.set_nonblocking(true).unwrap();
        let full = (0..100_000).find_map(|_| a.send(&[0; 4096], &[]).err()).unwrap();
        assert!(matches!(full, ChannelError::WouldBlock));
        assert!(matches!(a.send(b"", &[]), Err(ChannelError::Empty)));
    }

    #[test]
    fn only_seqpacket_sockets_are_channels_and_the_peer_is_known() {
        let (reader, _writer) = io::pipe().unwrap();
        assert!(matches!(Channel::from_fd(reader.into()), Err(ChannelError::NotAChannel)));
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(matches!(Channel::from_fd(stream.into()), Err(ChannelError::NotAChannel)));
        let (a, _b) = Channel::pair().unwrap();
        let a = Channel::from_fd(a.into_fd()).unwrap();
        let peer = a.peer().unwrap();
        assert_eq!(peer.pid, std::process::id() as i32);
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
    }
}
