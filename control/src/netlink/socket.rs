//! A netlink socket: asked in turn (`ask`), or left open for what the kernel tells by itself.
//!
//! Invariant: only datagrams that the kernel sent are returned, and never a part of one.

use super::wire::{Message, NLM_F_ACK, NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, Request, i32_at, messages};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A netlink socket that failed.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// It could not be made, or be bound to its groups.
    #[error("netlink socket: {what}: {source}")]
    Open {
        /// The step.
        what: &'static str,
        /// The kernel's word.
        source: Errno,
    },
    /// A request was refused.
    #[error("netlink request of type {kind}: {source}")]
    Refused {
        /// `RTM_*`, or the generic netlink family.
        kind: u16,
        /// The kernel's word.
        source: Errno,
    },
    /// Sending or receiving failed.
    #[error("netlink socket: {0}")]
    Io(#[from] Errno),
}

/// The kernel sends dumps in datagrams of at most 32 KiB, or the size of the largest read asked for, if smaller
/// (`netlink_dump`, net/netlink/af_netlink.c).
const DATAGRAM: usize = 64 << 10;

/// What a read found.
pub(super) enum Received<'a> {
    Datagram(&'a [u8]),
    /// Something was lost: the receive buffer was full.
    Overrun,
    /// Nothing is there.
    Empty,
}

#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
    /// The id that the kernel gave to this socket.
    pub(super) port: u32,
}

impl Socket {
    /// A non-blocking rtnetlink socket bound to `groups` (bit n−1 for RTNLGRP n), with a receive buffer of
    /// `receive_buffer` bytes, as far as the kernel permits.
    pub(super) fn watching(groups: u32, receive_buffer: usize) -> Result<Self, SocketError> {
        let socket = Self::open(None, SocketFlags::NONBLOCK, groups)?;
        // FORCE goes past net.core.rmem_max, and needs CAP_NET_ADMIN in the user namespace of the network namespace.
        sockopt::set_socket_recv_buffer_size_force(&socket.fd, receive_buffer)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket.fd, receive_buffer))
            .map_err(|source| SocketError::Open { what: "SO_RCVBUF", source })?;
        Ok(socket)
    }

    /// A blocking rtnetlink socket to ask with.
    pub(super) fn asking() -> Result<Self, SocketError> {
        Self::open(None, SocketFlags::empty(), 0)
    }

    /// A blocking generic netlink socket to ask with.
    pub(super) fn asking_generic() -> Result<Self, SocketError> {
        Self::open(Some(netlink::GENERIC), SocketFlags::empty(), 0)
    }

    fn open(
        protocol: Option<rustix::net::Protocol>,
        flags: SocketFlags,
        groups: u32,
    ) -> Result<Self, SocketError> {
        let step = |what| move |source| SocketError::Open { what, source };
        let flags = flags | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)
            .map_err(step("socket"))?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups)).map_err(step("bind"))?;
        let name = rustix::net::getsockname(&fd).map_err(step("getsockname"))?;
        let port = SocketAddrNetlink::try_from(name).map_err(step("getsockname"))?.pid();
        Ok(Self { fd, buffer: vec![0; DATAGRAM], sequence: 0, port })
    }

    /// Sends a request; the sequence number that its answers carry.
    pub(super) fn send(&mut self, request: Request) -> Result<u32, Errno> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let bytes = request.finish(self.sequence);
        rustix::net::sendto(&self.fd, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        Ok(self.sequence)
    }

    /// Reads one datagram of the kernel's.
    pub(super) fn receive(&mut self) -> Result<Received<'_>, Errno> {
        loop {
            let received = rustix::net::recvfrom(&self.fd, &mut self.buffer[..], RecvFlags::TRUNC);
            let (length, sender) = match received {
                Ok((_, length, sender)) => (length, sender),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(Received::Empty),
                Err(Errno::NOBUFS) => return Ok(Received::Overrun),
                Err(error) => return Err(error),
            };
            let kernel =
                sender.and_then(|s| SocketAddrNetlink::try_from(s).ok()).is_some_and(|s| s.pid() == 0);
            if !kernel {
                continue;
            }
            // A datagram cut short is one lost.
            return Ok(self.buffer.get(..length).map_or(Received::Overrun, Received::Datagram));
        }
    }

    /// Sends a request on a blocking socket and hands each answer to `each`, to the last one. Answers of a dump that
    /// raced with changes are whole messages, but perhaps not all.
    pub(super) fn ask(
        &mut self,
        kind: u16,
        request: Request,
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<(), SocketError> {
        let sequence = self.send(request)?;
        loop {
            let datagram = match self.receive()? {
                Received::Datagram(datagram) => datagram,
                Received::Overrun => return Err(SocketError::Io(Errno::NOBUFS)),
                Received::Empty => return Err(SocketError::Io(Errno::AGAIN)),
            };
            for message in messages(datagram).filter(|message| message.sequence == sequence) {
                match message.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        return match refusal(&message) {
                            None => Ok(()),
                            Some(source) => Err(SocketError::Refused { kind, source }),
                        };
                    }
                    _ => each(&message),
                }
            }
        }
    }

    /// Asks for everything of one kind.
    pub(super) fn ask_all(
        &mut self,
        kind: u16,
        body: &[u8],
        each: impl FnMut(&Message<'_>),
    ) -> Result<(), SocketError> {
        self.ask(kind, Request::new(kind, NLM_F_DUMP, body), each)
    }

    /// Asks for one thing; the answer comes before the acknowledgement.
    pub(super) fn ask_one(
        &mut self,
        kind: u16,
        request: impl FnOnce(u16) -> Request,
        each: impl FnMut(&Message<'_>),
    ) -> Result<(), SocketError> {
        self.ask(kind, request(NLM_F_ACK), each)
    }
}

/// What an `NLMSG_ERROR` says; `None`: it is an acknowledgement.
pub(super) fn refusal(message: &Message<'_>) -> Option<Errno> {
    match i32_at(message.body, 0) {
        Some(0) => None,
        Some(code) => Some(Errno::from_raw_os_error(code.saturating_neg())),
        None => Some(Errno::BADMSG),
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
