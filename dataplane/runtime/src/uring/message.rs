//! Messages (sendmsg(2), recvmsg(2)): bytes with an address and control messages, for the ring and for plain calls.
//!
//! Keeps true: a header points into its own message and into the bytes that were given with it; who gives it to the kernel keeps
//! both where they are until the kernel is done.

use super::address::RawAddress;
use super::control::Control;
use crate::calls::Details;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::mem::zeroed;
use std::net::SocketAddr;

/// What comes beside the bytes.
pub(crate) struct Received {
    pub(crate) from: Option<SocketAddr>,
    pub(crate) details: Details,
    pub(crate) passed: Vec<OwnedFd>,
}

/// See the module.
pub(super) struct Message {
    address: RawAddress,
    header: libc::msghdr,
    vector: libc::iovec,
    control: Control,
}

impl Message {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        // SAFETY: all zeros is a value of a msghdr and of an iovec: nothing.
        let (header, vector) = unsafe { (zeroed(), zeroed()) };
        Self { address: RawAddress::room(), header, vector, control: Control::new() }
    }

    fn header(&mut self, vector: libc::iovec) -> *mut libc::msghdr {
        self.vector = vector;
        self.header.msg_name = self.address.as_mut_ptr().cast();
        self.header.msg_namelen = self.address.length;
        self.header.msg_iov = &raw mut self.vector;
        self.header.msg_iovlen = 1;
        self.header.msg_control = self.control.as_mut_ptr();
        self.header.msg_controllen = self.control.length;
        &raw mut self.header
    }

    /// To receive into the buffer's room; with `all`, also what comes beside the bytes.
    pub(super) fn receiving(&mut self, buffer: &mut Vec<u8>, all: bool) -> *mut libc::msghdr {
        buffer.clear();
        self.address = RawAddress::room();
        if all {
            self.control.open();
        } else {
            self.control.clear();
        }
        self.header(libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.capacity() })
    }

    /// To send these bytes.
    ///
    /// # Errors
    /// EINVAL: the details are not of the address's family, or too many descriptors go along.
    pub(super) fn sending(
        &mut self,
        bytes: &[u8],
        to: Option<SocketAddr>,
        details: &Details,
        passed: &[OwnedFd],
    ) -> Result<*const libc::msghdr, Errno> {
        self.address = to.map_or_else(RawAddress::none, RawAddress::new);
        self.control.clear();
        if !self.control.put_passed(passed)
            || to.is_some_and(|to| !self.control.put_details(details, to.is_ipv6()))
        {
            return Err(Errno::INVAL);
        }
        Ok(self.header(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }))
    }

    /// What the kernel wrote beside the bytes.
    pub(super) fn received(&mut self) -> Received {
        self.address.length = self.header.msg_namelen;
        self.control.length = std::mem::replace(&mut self.header.msg_controllen, 0);
        // SAFETY: the kernel has just opened them, for us; and they are not looked at again.
        let passed = self.control.passed().map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect();
        Received { from: self.address.address(), details: self.control.details(), passed }
    }
}

/// What a call says.
fn result(returned: isize) -> Result<usize, Errno> {
    usize::try_from(returned)
        .map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// recvmsg(2).
///
/// # Errors
/// As the call.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<Received, Errno> {
    let mut message = Message::new();
    let header = message.receiving(buffer, true);
    // SAFETY: the header points to the message and to the buffer's room, which are there until it returns.
    let length = result(unsafe { libc::recvmsg(socket.as_raw_fd(), header, libc::MSG_CMSG_CLOEXEC) })?;
    // SAFETY: the kernel has written so many bytes at its beginning.
    unsafe { buffer.set_len(length.min(buffer.capacity())) };
    Ok(message.received())
}

/// sendmsg(2), of as many bytes as it says.
///
/// # Errors
/// As the call; EINVAL: the details are not of the address's family, or too many descriptors go along.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    to: Option<SocketAddr>,
    details: &Details,
    passed: &[OwnedFd],
) -> Result<usize, Errno> {
    let mut message = Message::new();
    let header = message.sending(bytes, to, details, passed)?;
    // SAFETY: the header points to the message and to the bytes, which are there until it returns.
    result(unsafe { libc::sendmsg(socket.as_raw_fd(), header, libc::MSG_NOSIGNAL) })
}
