//! Socket options, as the kernel has them.

use crate::calls::SocketOption;
use nix::sys::socket::{SetSockOpt, sockopt};
use nix::{setsockopt_impl, sockopt_impl};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::sockopt as options;
use rustix::net::sockopt::{set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl};
use std::net::{IpAddr, Ipv4Addr};

sockopt_impl!(
    /// Of a listener; nix has that of who connects alone.
    TcpFastOpen,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_FASTOPEN,
    usize
);

/// One of nix's.
fn of_nix<O: SetSockOpt>(socket: BorrowedFd<'_>, option: O, value: &O::Val) -> Result<(), Errno> {
    option.set(&socket, value).map_err(|error| Errno::from_raw_os_error(error as i32))
}

/// Sets an option.
///
/// # Errors
/// As setsockopt(2).
pub(super) fn set(socket: BorrowedFd<'_>, option: SocketOption) -> Result<(), Errno> {
    let ipv6 = options::socket_domain(socket)? == AddressFamily::INET6;
    match option {
        SocketOption::ReuseAddress(on) => options::set_socket_reuseaddr(socket, on),
        SocketOption::ReusePort(on) => options::set_socket_reuseport(socket, on),
        SocketOption::OnlyV6(on) => options::set_ipv6_v6only(socket, on),
        SocketOption::Broadcast(on) => options::set_socket_broadcast(socket, on),
        SocketOption::ReceiveBuffer(bytes) => options::set_socket_recv_buffer_size(socket, bytes),
        SocketOption::SendBuffer(bytes) => options::set_socket_send_buffer_size(socket, bytes),
        SocketOption::TrafficClass(class) if ipv6 => options::set_ipv6_tclass(socket, class.into()),
        SocketOption::TrafficClass(class) => options::set_ip_tos(socket, class),
        SocketOption::ReceiveTrafficClass(on) if ipv6 => options::set_ipv6_recvtclass(socket, on),
        SocketOption::ReceiveTrafficClass(on) => options::set_ip_recvtos(socket, on),
        SocketOption::ReceivePacketInfo(on) if ipv6 => of_nix(socket, sockopt::Ipv6RecvPacketInfo, &on),
        SocketOption::ReceivePacketInfo(on) => of_nix(socket, sockopt::Ipv4PacketInfo, &on),
        SocketOption::ReceiveSegments(on) => of_nix(socket, sockopt::UdpGroSegment, &on),
        SocketOption::Join(IpAddr::V4(group), interface) => {
            options::set_ip_add_membership_with_ifindex(socket, &group, &Ipv4Addr::UNSPECIFIED, interface)
        }
        SocketOption::Join(IpAddr::V6(group), interface) => {
            options::set_ipv6_add_membership(socket, &group, interface)
        }
        SocketOption::Leave(IpAddr::V4(group), interface) => {
            options::set_ip_drop_membership_with_ifindex(socket, &group, &Ipv4Addr::UNSPECIFIED, interface)
        }
        SocketOption::Leave(IpAddr::V6(group), interface) => {
            options::set_ipv6_drop_membership(socket, &group, interface)
        }
        SocketOption::MulticastInterface(interface) if ipv6 => {
            options::set_ipv6_multicast_if(socket, interface)
        }
        SocketOption::MulticastInterface(interface) => {
            let (any, none) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED);
            options::set_ip_multicast_if_with_ifindex(socket, &any, &none, interface)
        }
        SocketOption::MulticastLoop(on) if ipv6 => options::set_ipv6_multicast_loop(socket, on),
        SocketOption::MulticastLoop(on) => options::set_ip_multicast_loop(socket, on),
        SocketOption::MulticastHops(hops) if ipv6 => options::set_ipv6_multicast_hops(socket, hops.into()),
        SocketOption::MulticastHops(hops) => options::set_ip_multicast_ttl(socket, hops.into()),
        SocketOption::NoDelay(on) => options::set_tcp_nodelay(socket, on),
        SocketOption::KeepAlive(on) => options::set_socket_keepalive(socket, on),
        SocketOption::KeepAliveAfter { idle, interval, probes } => {
            set_tcp_keepidle(socket, idle)?;
            set_tcp_keepintvl(socket, interval)?;
            set_tcp_keepcnt(socket, probes)?;
            options::set_socket_keepalive(socket, true)
        }
        SocketOption::FastOpen(pending) => of_nix(socket, TcpFastOpen, &(pending as usize)),
        SocketOption::FastOpenConnect(on) => of_nix(socket, sockopt::TcpFastOpenConnect, &on),
    }
}
