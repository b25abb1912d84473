//! The kernel's calls, for the drivers that make them themselves: those that do not wait, and one attempt at those that may.

mod option;

use crate::calls::{Calls, Half, OpenOptions, SocketKind, SocketOption};
use crate::driver::{Driver, Flight, Operation};
use crate::time::Instant;
use crate::uring::message;
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fdatasync, fstat, fsync, open};
use rustix::io::{Errno, pread, pwrite};
use rustix::net::sockopt::socket_error;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, acceptfrom_with, bind, connect,
    getsockname, listen, recv, send, shutdown, socket_with,
};
use std::net::SocketAddr;
use std::path::Path;

/// The kernel.
#[derive(Clone, Copy, Debug)]
pub struct Kernel;

impl<D: AsFd + From<OwnedFd>> Calls<D> for Kernel {
    fn clock(&self) -> Instant {
        Instant::monotonic()
    }

    fn socket(&self, kind: SocketKind, ipv6: bool) -> Result<D, Errno> {
        let family = if ipv6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let kind = match kind {
            SocketKind::Udp => SocketType::DGRAM,
            SocketKind::Tcp => SocketType::STREAM,
        };
        socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None).map(D::from)
    }

    fn bind(&self, socket: &D, address: SocketAddr) -> Result<(), Errno> {
        bind(socket, &address)
    }

    fn listen(&self, socket: &D, backlog: u32) -> Result<(), Errno> {
        listen(socket, i32::try_from(backlog).unwrap_or(i32::MAX))
    }

    fn local_address(&self, socket: &D) -> Result<SocketAddr, Errno> {
        getsockname(socket)?.try_into()
    }

    fn set_option(&self, socket: &D, option: SocketOption) -> Result<(), Errno> {
        option::set(socket.as_fd(), option)
    }

    fn shutdown(&self, socket: &D, half: Half) -> Result<(), Errno> {
        let how = match half {
            Half::Read => Shutdown::Read,
            Half::Write => Shutdown::Write,
            Half::Both => Shutdown::Both,
        };
        shutdown(socket, how)
    }

    fn open(&self, path: &Path, options: OpenOptions) -> Result<D, Errno> {
        let mut flags = match (options.read, options.write) {
            (true, true) => OFlags::RDWR,
            (_, false) => OFlags::RDONLY,
            (false, true) => OFlags::WRONLY,
        };
        flags |= OFlags::CLOEXEC;
        flags.set(OFlags::CREATE, options.create);
        flags.set(OFlags::TRUNC, options.truncate);
        open(path, flags, Mode::RUSR | Mode::WUSR).map(D::from)
    }

    fn len(&self, file: &D) -> Result<u64, Errno> {
        Ok(fstat(file)?.st_size as u64)
    }
}

/// One attempt at an operation of a socket, or the whole of a file's. `again`: it was begun before, and its descriptor has
/// become ready since.
///
/// # Errors
/// As the call; [`Errno::AGAIN`] when it would have to wait.
pub(crate) fn attempt<D>(flight: &mut Flight<D>, again: bool) -> Result<usize, Errno>
where
    D: Driver,
    D::Descriptor: AsFd + From<OwnedFd>,
{
    let descriptor = flight.source.descriptor().as_fd();
    let buffer = &mut flight.buffer;
    match flight.operation {
        Operation::Accept => {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (accepted, address) = acceptfrom_with(descriptor, flags)?;
            flight.accepted = Some(accepted.into());
            flight.address = address.and_then(|address| address.try_into().ok());
            Ok(0)
        }
        Operation::Connect if again => socket_error(descriptor)?.map(|()| 0),
        Operation::Connect => {
            let address = flight.address.ok_or(Errno::DESTADDRREQ)?;
            match connect(descriptor, &address) {
                Err(Errno::INPROGRESS) => Err(Errno::AGAIN),
                result => result.map(|()| 0),
            }
        }
        Operation::Receive => {
            buffer.clear();
            recv(descriptor, spare_capacity(buffer), RecvFlags::empty())
                .map(|(_, length)| length.min(buffer.len()))
        }
        Operation::ReceiveFrom => {
            (flight.address, flight.details) = message::receive(descriptor, buffer)?;
            Ok(buffer.len())
        }
        Operation::Send(from) => match flight.address {
            Some(address) => message::send(descriptor, &buffer[from..], address, &flight.details),
            None => send(descriptor, &buffer[from..], SendFlags::NOSIGNAL),
        },
        operation => do_with_file(operation, descriptor, buffer),
    }
}

/// An operation of a file. It may wait for a disk.
///
/// # Errors
/// As the call.
pub(crate) fn do_with_file(
    operation: Operation,
    file: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
) -> Result<usize, Errno> {
    match operation {
        Operation::Read(at) => {
            buffer.clear();
            pread(file, spare_capacity(buffer), at)
        }
        Operation::Write { at, from } => pwrite(file, &buffer[from..], at),
        Operation::Sync { data: true } => fdatasync(file).map(|()| 0),
        Operation::Sync { data: false } => fsync(file).map(|()| 0),
        _ => Err(Errno::INVAL),
    }
}
