//! The kernel's calls, for the drivers that make them themselves: those that do not wait, and one attempt at those that may.

mod child;
mod option;

use crate::calls::{
    Advice, Calls, Details, Half, Metadata, OpenOptions, SocketKind, SocketOption, Started, Streams,
};
use crate::driver::{Driver, Flight, Operation};
use crate::time::Instant;
use crate::uring::message;
use nix::sys::signal::{SigSet, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{self, WatchFlags};
use rustix::fs::{
    Advice as KernelAdvice, FileType, Mode, OFlags, fadvise, fdatasync, fstat, fsync, ftruncate, mkdir, open,
    rename, rmdir, stat, unlink,
};
use rustix::io::{Errno, pread, pwrite, pwritev, read, write};
use rustix::net::sockopt::socket_error;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with,
    bind, connect, getsockname, listen, recv, recvfrom, send, sendto, shutdown, socket_with, socketpair,
};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use rustix::process::{Signal, WaitIdOptions, pidfd_send_signal};
use std::ffi::OsString;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// Those that are made here stay here, and never make anybody wait.
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// The kernel.
#[derive(Clone, Copy, Debug)]
pub struct Kernel;

impl<D: AsFd + From<OwnedFd>> Calls<D> for Kernel {
    fn clock(&self) -> Instant {
        Instant::monotonic()
    }

    fn socket(&self, kind: SocketKind, ipv6: bool) -> Result<D, Errno> {
        let family = if ipv6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let (family, kind) = match kind {
            SocketKind::Udp => (family, SocketType::DGRAM),
            SocketKind::Tcp => (family, SocketType::STREAM),
            SocketKind::UnixDatagram => (AddressFamily::UNIX, SocketType::DGRAM),
            SocketKind::UnixStream => (AddressFamily::UNIX, SocketType::STREAM),
        };
        socket_with(family, kind, FLAGS, None).map(D::from)
    }

    fn bind(&self, socket: &D, address: SocketAddr) -> Result<(), Errno> {
        bind(socket, &address)
    }

    fn bind_unix(&self, socket: &D, path: &Path) -> Result<(), Errno> {
        bind(socket, &SocketAddrUnix::new(path)?)
    }

    fn connect_unix(&self, socket: &D, path: &Path) -> Result<(), Errno> {
        connect(socket, &SocketAddrUnix::new(path)?)
    }

    fn pair(&self, kind: SocketKind) -> Result<(D, D), Errno> {
        let kind = if kind == SocketKind::UnixDatagram { SocketType::DGRAM } else { SocketType::STREAM };
        let (one, two) = socketpair(AddressFamily::UNIX, kind, FLAGS, None)?;
        Ok((one.into(), two.into()))
    }

    fn pipe(&self) -> Result<(D, D), Errno> {
        let (reads, writes) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok((reads.into(), writes.into()))
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

    fn truncate(&self, file: &D, length: u64) -> Result<(), Errno> {
        ftruncate(file, length)
    }

    fn advise(&self, file: &D, at: u64, length: u64, advice: Advice) -> Result<(), Errno> {
        let advice = match advice {
            Advice::Sequential => KernelAdvice::Sequential,
            Advice::Random => KernelAdvice::Random,
            Advice::Soon => KernelAdvice::WillNeed,
            Advice::NotAgain => KernelAdvice::DontNeed,
        };
        fadvise(file, at, NonZeroU64::new(length), advice)
    }

    fn metadata(&self, path: &Path) -> Result<Metadata, Errno> {
        let stat = stat(path)?;
        let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
        Ok(Metadata {
            length: stat.st_size as u64,
            directory: FileType::from_raw_mode(stat.st_mode).is_dir(),
            permissions: stat.st_mode & 0o7777,
            modified: seconds + Duration::from_nanos(stat.st_mtime_nsec as u64),
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Errno> {
        rename(from, to)
    }

    fn remove(&self, path: &Path, directory: bool) -> Result<(), Errno> {
        if directory { rmdir(path) } else { unlink(path) }
    }

    fn make_directory(&self, path: &Path) -> Result<(), Errno> {
        mkdir(path, Mode::RWXU)
    }

    fn names(&self, directory: &Path) -> Result<Vec<OsString>, Errno> {
        let of_io = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let entries = std::fs::read_dir(directory).map_err(of_io)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()).map_err(of_io));
        let mut names: Vec<OsString> = names.collect::<Result<_, _>>()?;
        names.sort();
        Ok(names)
    }

    fn watches(&self) -> Result<D, Errno> {
        inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map(D::from)
    }

    fn watch(&self, watches: &D, path: &Path, events: WatchFlags) -> Result<i32, Errno> {
        inotify::add_watch(watches, path, events)
    }

    fn unwatch(&self, watches: &D, watch: i32) -> Result<(), Errno> {
        inotify::remove_watch(watches, watch)
    }

    fn signals(&self, signals: &[Signal]) -> Result<D, Errno> {
        let of_nix = |error: nix::Error| Errno::from_raw_os_error(error as i32);
        let mut set = SigSet::empty();
        for signal in signals {
            set.add(signal.as_raw().try_into().map_err(of_nix)?);
        }
        let made = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        Ok(OwnedFd::from(made.map_err(of_nix)?).into())
    }

    fn raise(&self, signal: Signal) -> Result<(), Errno> {
        let of_nix = |error: nix::Error| Errno::from_raw_os_error(error as i32);
        raise(signal.as_raw().try_into().map_err(of_nix)?).map_err(of_nix)
    }

    fn start(&self, command: &mut Command, streams: Streams) -> Result<Started<D>, Errno> {
        child::start(command, streams)
    }

    fn ended(&self, child: &D) -> Result<Option<ExitStatus>, Errno> {
        child::ended(child.as_fd(), WaitIdOptions::NOHANG)
    }

    fn end(&self, child: &D) {
        // One that has become another user's cannot be killed, and may run for long.
        let killed = pidfd_send_signal(child, Signal::KILL).is_ok();
        let waits = if killed { WaitIdOptions::empty() } else { WaitIdOptions::NOHANG };
        let _ = child::ended(child.as_fd(), waits);
    }

    fn signal(&self, child: &D, signal: Signal) -> Result<(), Errno> {
        pidfd_send_signal(child, signal)
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
    let plain = flight.is_plain();
    let descriptor = flight.source.descriptor().as_fd();
    let buffer = &mut flight.buffer;
    match flight.operation {
        Operation::Accept => {
            let (accepted, address) = acceptfrom_with(descriptor, FLAGS)?;
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
            buffer.clear();
            let (_, length, address) = recvfrom(descriptor, spare_capacity(buffer), RecvFlags::empty())?;
            flight.address = address.and_then(|address| address.try_into().ok());
            Ok(length.min(buffer.len()))
        }
        Operation::ReceiveMessage | Operation::ReceivePassed => {
            let received = message::receive(descriptor, buffer)?;
            (flight.address, flight.details, flight.passed) =
                (received.from, received.details, received.passed);
            Ok(buffer.len())
        }
        Operation::Send(from) if plain => send(descriptor, &buffer[from..], SendFlags::NOSIGNAL),
        Operation::Send(from)
            if flight.details == Details::default()
                && let Some(to) = flight.address =>
        {
            sendto(descriptor, &buffer[from..], SendFlags::NOSIGNAL, &to)
        }
        Operation::Send(from) => {
            message::send(descriptor, &buffer[from..], flight.address, &flight.details, &flight.passed)
        }
        Operation::ReadNext => {
            buffer.clear();
            read(descriptor, spare_capacity(buffer))
        }
        Operation::WriteNext(from) => write(descriptor, &buffer[from..]),
        Operation::Readable if again => Ok(0),
        Operation::Readable => Err(Errno::AGAIN),
        Operation::Splice { at: None, length } => {
            let from = flight.other.as_ref().ok_or(Errno::INVAL)?.descriptor();
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            splice(from, None, descriptor, None, length, flags)
        }
        operation => {
            let other = flight.other.as_ref().map(|other| other.descriptor().as_fd());
            do_with_file(operation, descriptor, other, buffer, &mut flight.buffers)
        }
    }
}

/// An operation of a file. It may wait for a disk.
///
/// # Errors
/// As the call.
pub(crate) fn do_with_file(
    operation: Operation,
    file: BorrowedFd<'_>,
    other: Option<BorrowedFd<'_>>,
    buffer: &mut Vec<u8>,
    buffers: &mut [Vec<u8>],
) -> Result<usize, Errno> {
    match operation {
        Operation::Read(at) => {
            buffer.clear();
            pread(file, spare_capacity(buffer), at)
        }
        Operation::Write { at, from } => pwrite(file, &buffer[from..], at),
        // preadv(2) wants bytes that are there already; a read each is as right, and ends where one ends early.
        Operation::ReadVectored(mut at) => {
            let begin = at;
            buffers.iter_mut().for_each(Vec::clear);
            for buffer in buffers {
                let length = pread(file, spare_capacity(buffer), at)?;
                at += length as u64;
                if buffer.len() < buffer.capacity() {
                    break;
                }
            }
            Ok((at - begin) as usize)
        }
        Operation::WriteVectored(at) => {
            let slices: Vec<IoSlice<'_>> = buffers.iter().map(|buffer| IoSlice::new(buffer)).collect();
            pwritev(file, &slices, at)
        }
        Operation::Splice { at: Some(mut at), length } => {
            splice(other.ok_or(Errno::INVAL)?, Some(&mut at), file, None, length, SpliceFlags::MOVE)
        }
        Operation::Sync { data: true } => fdatasync(file).map(|()| 0),
        Operation::Sync { data: false } => fsync(file).map(|()| 0),
        _ => Err(Errno::INVAL),
    }
}
