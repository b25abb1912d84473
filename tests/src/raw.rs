//! Whole Ethernet frames, sent and received as they are (`AF_PACKET`).

use std::mem::size_of;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

use crate::Namespace;

/// include/uapi/linux/if_ether.h
const ETH_P_ALL: u16 = 3;

/// A socket on one device, for everything that passes there in either direction.
#[derive(Debug)]
pub struct RawSocket {
    socket: OwnedFd,
}

/// `struct sockaddr_ll` (include/uapi/linux/if_packet.h).
#[repr(C)]
struct LinkAddress {
    family: u16,
    /// Big-endian.
    protocol: u16,
    ifindex: i32,
    hatype: u16,
    pkttype: u8,
    halen: u8,
    addr: [u8; 8],
}

// SAFETY: the pointer is to all of a live `sockaddr_ll`, with its length.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        f(std::ptr::from_ref(self).cast(), size_of::<Self>() as SocketAddrLen)
    }
}

impl RawSocket {
    /// On a device of a namespace.
    ///
    /// # Errors
    /// When there is no such device, or not permitted.
    pub fn open(namespace: &Namespace, device: &str) -> Result<Self> {
        let ifindex = i32::try_from(namespace.ifindex(device)?)?;
        let protocol = Protocol::from_raw(u32::from(ETH_P_ALL.to_be()).try_into()?);
        let socket = namespace.run(|| {
            Ok(socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?)
        })?;
        let address = LinkAddress {
            family: AddressFamily::PACKET.as_raw(),
            protocol: ETH_P_ALL.to_be(),
            ifindex,
            hatype: 0,
            pkttype: 0,
            halen: 0,
            addr: [0; 8],
        };
        bind(&socket, &address)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_millis(20)))?;
        Ok(Self { socket })
    }

    /// Sends a frame, from its destination address on.
    ///
    /// # Errors
    /// When the device does not take it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        send(&self.socket, frame, SendFlags::empty())?;
        Ok(())
    }

    /// The next frame; none after `limit`. A VLAN tag is not in it: the kernel takes the outermost one off.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn receive(&self, limit: Duration) -> Result<Option<Vec<u8>>> {
        let start = Instant::now();
        let mut buffer = vec![0; 1 << 16];
        while start.elapsed() < limit {
            match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((length, _)) => {
                    buffer.truncate(length);
                    return Ok(Some(buffer));
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}
