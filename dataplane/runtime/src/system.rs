//! The kernel's calls that do not wait, for the drivers that are over it.

use crate::driver::{OpenOptions, SocketKind, SocketOption};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_ip_tos, set_ipv6_tclass, set_socket_broadcast, set_socket_keepalive, set_socket_recv_buffer_size,
    set_socket_reuseaddr, set_socket_send_buffer_size, set_tcp_nodelay, socket_domain,
};
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, bind, getsockname, listen, shutdown, socket_with,
};
use std::net::SocketAddr;
use std::path::Path;

pub(crate) fn make_socket(kind: SocketKind, ipv6: bool) -> Result<OwnedFd, Errno> {
    let family = if ipv6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let kind = match kind {
        SocketKind::Udp => SocketType::DGRAM,
        SocketKind::Tcp => SocketType::STREAM,
    };
    socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

pub(crate) fn bind_socket(socket: &OwnedFd, address: SocketAddr) -> Result<(), Errno> {
    bind(socket, &address)
}

pub(crate) fn listen_socket(socket: &OwnedFd, backlog: u32) -> Result<(), Errno> {
    listen(socket, i32::try_from(backlog).unwrap_or(i32::MAX))
}

pub(crate) fn local_address(socket: &OwnedFd) -> Result<SocketAddr, Errno> {
    getsockname(socket)?.try_into()
}

pub(crate) fn set_option(socket: &OwnedFd, option: SocketOption) -> Result<(), Errno> {
    match option {
        SocketOption::ReuseAddress(on) => set_socket_reuseaddr(socket, on),
        SocketOption::Broadcast(on) => set_socket_broadcast(socket, on),
        SocketOption::ReceiveBuffer(bytes) => set_socket_recv_buffer_size(socket, bytes),
        SocketOption::SendBuffer(bytes) => set_socket_send_buffer_size(socket, bytes),
        SocketOption::NoDelay(on) => set_tcp_nodelay(socket, on),
        SocketOption::KeepAlive(on) => set_socket_keepalive(socket, on),
        SocketOption::TrafficClass(class) if socket_domain(socket)? == AddressFamily::INET6 => {
            set_ipv6_tclass(socket, u32::from(class))
        }
        SocketOption::TrafficClass(class) => set_ip_tos(socket, class),
    }
}

pub(crate) fn shutdown_socket(socket: &OwnedFd) -> Result<(), Errno> {
    shutdown(socket, Shutdown::Write)
}

pub(crate) fn open_file(path: &Path, options: OpenOptions) -> Result<OwnedFd, Errno> {
    let mut flags = match (options.read, options.write) {
        (true, true) => OFlags::RDWR,
        (_, false) => OFlags::RDONLY,
        (false, true) => OFlags::WRONLY,
    };
    flags |= OFlags::CLOEXEC;
    flags.set(OFlags::CREATE, options.create);
    flags.set(OFlags::TRUNC, options.truncate);
    open(path, flags, Mode::RUSR | Mode::WUSR)
}

pub(crate) fn file_len(file: &OwnedFd) -> Result<u64, Errno> {
    Ok(fstat(file)?.st_size as u64)
}
