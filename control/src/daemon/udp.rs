//! Ports that are UDP sockets: opened and bound, one for each queue, for the data plane.
//!
//! Owns nothing: the sockets go to the [installation](super::installation), which keeps them while others are opened anew, so that
//! what has come waits there. Refuses: an address that is not the host's, or that another process has, said with the remedy.

use super::installation::{OpenPort, OpenQueue};
use super::ports::QueuePlan;
use super::sockets::{Copying, RELEASE};
use crate::netlink::{Link, PortCheck};
use crate::raw::set_option;
use crate::xdp::Mode as XdpMode;
use anyhow::{Result, anyhow};
use libc::{IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET, SOL_UDP};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use zsync_pipelines::spec::{Port, UdpSpec};
use zsync_protocol::message::ToDataplane;

/// The address that packets of such a port seem to be sent to. It is nobody's: the header that it stands in never leaves the host.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0];

/// Bytes that may wait in a socket, each way: some 10 ms of 5 Gbit/s, which a data plane takes to be started anew.
const BUFFER: i32 = 8 << 20;

/// The sockets of an installation's ports.
#[derive(Debug, Default)]
pub(super) struct Udps {
    /// One for each queue, by what they are bound to.
    pub open: BTreeMap<SocketAddr, Vec<OwnedFd>>,
    /// UDP ports at which a data plane that has ended had rings. The kernel takes rings apart after their last descriptor was closed
    /// (io_uring/io_uring.c, `io_ring_exit_work`), some 10 ms later, and until then their sockets are where they were.
    pub ringed: BTreeSet<u16>,
}

/// What is known of such a port ahead. Packets are as long as a frame holds.
pub(super) fn check(port: &Port, longest: u32) -> PortCheck {
    let link = Link { name: port.name.clone(), mtu: longest, ..Link::default() };
    PortCheck { link, warnings: Vec::new() }
}

/// Tries whether a port that is not open can be: nobody else has its address.
///
/// # Errors
/// What the kernel refused.
pub(super) fn try_address(udp: UdpSpec, count: usize) -> Result<()> {
    open_socket(udp.listen, count).map_err(|errno| refused(udp.listen, errno))?;
    Ok(())
}

fn refused(local: SocketAddr, errno: Errno) -> anyhow::Error {
    anyhow!("listening at UDP {local}: {errno}{}", remedy(errno))
}

/// Opens a port by the sockets that are open already, or else anew. With `ringed`, rings may still hold others at its address.
///
/// # Errors
/// What the kernel refused.
pub(super) fn open(
    port: &Port,
    udp: UdpSpec,
    longest: u32,
    plans: &[QueuePlan],
    open: Option<Vec<OwnedFd>>,
    ringed: bool,
) -> Result<(OpenPort, Vec<OpenQueue>, Vec<OwnedFd>)> {
    let local = udp.listen;
    let fds = match open.filter(|fds| fds.len() == plans.len()) {
        Some(fds) => fds,
        None => {
            if ringed {
                wait_until_free(local);
            }
            let opened: Result<Vec<_>, Errno> =
                plans.iter().map(|_| open_socket(local, plans.len())).collect();
            opened.map_err(|errno| refused(local, errno))?
        }
    };
    let queues = plans.iter().zip(&fds).map(|(plan, fd)| {
        let message =
            ToDataplane::Udp { port: port.id.0, queue: plan.queue as u16, worker: plan.worker, local };
        let (queue, worker) = (plan.queue, plan.worker);
        Ok(OpenQueue { message, port: port.id.0, queue, worker, socket: fd.try_clone()? })
    });
    let queues = queues.collect::<Result<_>>()?;
    Ok((opened(port, longest), queues, fds))
}

fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::ACCESS => {
            " (ports below 1024 take CAP_NET_BIND_SERVICE, or a lower net.ipv4.ip_unprivileged_port_start)"
        }
        Errno::ADDRINUSE => " (`ss -ulpn` says who has it)",
        Errno::ADDRNOTAVAIL => " (it is no address of this host: `ip address`)",
        Errno::AFNOSUPPORT => " (this host has no IPv6: \"0.0.0.0\" is IPv4 alone)",
        _ => "",
    }
}

/// Waits until nobody has this address, for [`RELEASE`] at most. A socket that shares it with none tells: one that shares it would be opened
/// beside those of a ring, which would take some of the packets along.
fn wait_until_free(local: SocketAddr) {
    let deadline = Instant::now() + RELEASE;
    while matches!(open_socket(local, 1), Err(Errno::ADDRINUSE)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A socket that says of each datagram where it was sent to and of which class, that joins datagrams, and whose packets may be taken
/// apart on their way, as the outer packets of tunnels may elsewhere. `[::]` is of both families.
fn open_socket(local: SocketAddr, count: usize) -> Result<OwnedFd, Errno> {
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    let mut options = vec![
        // The kernel spreads senders over the sockets of one address.
        (SOL_SOCKET, libc::SO_REUSEPORT, i32::from(count > 1)),
        (SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER),
        (SOL_SOCKET, libc::SO_SNDBUFFORCE, BUFFER),
        (SOL_UDP, libc::UDP_GRO, 1),
    ];
    let both = local.is_ipv6() && local.ip().is_unspecified();
    if local.is_ipv6() {
        options.extend([
            (IPPROTO_IPV6, libc::IPV6_V6ONLY, i32::from(!both)),
            (IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
            (IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1),
            (IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT),
        ]);
    }
    if local.is_ipv4() || both {
        options.extend([
            (IPPROTO_IP, libc::IP_PKTINFO, 1),
            (IPPROTO_IP, libc::IP_RECVTOS, 1),
            // Without DF, and no ICMP error, which anybody may forge, makes packets shorter. (IPv6 needs them: its routers cut nothing.)
            (IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT),
        ]);
    }
    for (level, option, value) in options {
        set_option(&socket, level, option, value)?;
    }
    bind(&socket, &local)?;
    Ok(socket)
}

/// The port of sockets that are open.
pub(super) fn opened(port: &Port, longest: u32) -> OpenPort {
    OpenPort {
        spec: port.clone(),
        ifindex: 0,
        mac: MAC,
        mtu: longest,
        v4: None,
        v6: None,
        kind: Some("udp".to_owned()),
        ingress: None,
        inherited: false,
        xdp: XdpMode::Generic,
        copying: Copying::Copy,
        ring: None,
        warnings: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_bound_is_said_with_the_remedy() {
        // Forcing a buffer's size takes a privilege.
        let Ok(socket) = open_socket(([127, 0, 0, 1], 0).into(), 1) else {
            eprintln!("SKIPPED: this needs CAP_NET_ADMIN");
            assert!(std::env::var_os("CI").is_none());
            return;
        };
        let taken = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
        for (local, errno) in [(taken, Errno::ADDRINUSE), (([240, 0, 0, 1], 1).into(), Errno::ADDRNOTAVAIL)] {
            let refused = open_socket(local, 1).unwrap_err();
            assert_eq!(refused, errno);
            assert!(remedy(refused).starts_with(" ("));
        }
    }

    #[test]
    fn an_address_is_free_when_nobody_is_there_who_would_share_it_either() {
        let Ok(shared) = open_socket(([127, 0, 0, 1], 0).into(), 2) else {
            eprintln!("SKIPPED: this needs CAP_NET_ADMIN");
            assert!(std::env::var_os("CI").is_none());
            return;
        };
        let local = SocketAddr::try_from(rustix::net::getsockname(&shared).unwrap()).unwrap();
        // As a ring that is taken apart lets go of its file.
        let ring = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(shared);
        });
        wait_until_free(local);
        open_socket(local, 1).unwrap();
        ring.join().unwrap();
    }

    #[test]
    fn several_queues_share_an_address() {
        let Ok(first) = open_socket(([127, 0, 0, 1], 0).into(), 2) else {
            eprintln!("SKIPPED: this needs CAP_NET_ADMIN");
            assert!(std::env::var_os("CI").is_none());
            return;
        };
        let local = SocketAddr::try_from(rustix::net::getsockname(&first).unwrap()).unwrap();
        open_socket(local, 2).unwrap();
    }
}
