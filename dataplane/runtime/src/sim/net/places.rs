//! Who is where: what sockets are bound to, and whose what is sent to an address is.

use super::udp::is_broadcast;
use super::{Net, Socket, What};
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first port that is given out.
const EPHEMERAL: u16 = 32_768;

/// The address that is any of a family.
fn unspecified(ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

impl Net {
    pub(in crate::sim) fn bind(&mut self, number: u32, mut address: SocketAddr) -> Result<(), Errno> {
        let socket = self.socket(number)?;
        if socket.local.is_some() || socket.ipv6 != address.is_ipv6() {
            return Err(Errno::INVAL);
        }
        let (datagrams, shares) = match &socket.what {
            What::Udp(udp) => (true, udp.shares),
            _ => (false, false),
        };
        if address.port() != 0 {
            let other = self.bound.get(&(true, address)).and_then(|other| self.sockets.get(other));
            let shared = matches!(other, Some(Socket { what: What::Udp(udp), .. }) if udp.shares && shares);
            if datagrams && other.is_some() && !shared {
                return Err(Errno::ADDRINUSE);
            }
        } else {
            // As many as there are, then they are all taken.
            let ports =
                (0..u16::MAX - EPHEMERAL).map(|step| EPHEMERAL + (self.port + step) % (u16::MAX - EPHEMERAL));
            let free = ports.map(|port| SocketAddr::new(address.ip(), port));
            let mut free = free.filter(|address| {
                ![true, false].map(|kind| self.bound.contains_key(&(kind, *address))).contains(&true)
            });
            address = free.next().ok_or(Errno::ADDRINUSE)?;
            self.port = (address.port() - EPHEMERAL + 1) % (u16::MAX - EPHEMERAL);
        }
        if datagrams {
            self.bound.insert((true, address), number);
        }
        self.socket(number)?.local = Some(address);
        Ok(())
    }

    /// Binds what is not bound, to any port.
    pub(super) fn bind_any(&mut self, number: u32) -> Result<SocketAddr, Errno> {
        let socket = self.socket(number)?;
        if let Some(local) = socket.local {
            return Ok(local);
        }
        let ip: IpAddr = if socket.ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        self.bind(number, SocketAddr::new(ip, 0))?;
        self.local_address(number)
    }

    pub(in crate::sim) fn local_address(&mut self, number: u32) -> Result<SocketAddr, Errno> {
        let socket = self.socket(number)?;
        if matches!(socket.what, What::Unix(_) | What::Listener { local: true, .. }) {
            return Err(Errno::AFNOSUPPORT);
        }
        Ok(socket.local.unwrap_or(SocketAddr::new(unspecified(socket.ipv6), 0)))
    }

    /// Who is at this address.
    pub(super) fn at(&self, datagrams: bool, address: SocketAddr) -> Option<u32> {
        let any = SocketAddr::new(unspecified(address.is_ipv6()), address.port());
        self.bound.get(&(datagrams, address)).or_else(|| self.bound.get(&(datagrams, any))).copied()
    }

    /// Whose a datagram to this address is: one socket's, or that of all who hear a group or broadcast.
    pub(super) fn hearers(&self, to: SocketAddr) -> Vec<u32> {
        if !to.ip().is_multicast() && !is_broadcast(to.ip()) {
            return self.at(true, to).into_iter().collect();
        }
        let hears = |socket: &Socket| match (&socket.what, socket.local) {
            (What::Udp(udp), Some(local)) => udp.hears(local, to),
            _ => false,
        };
        self.sockets.iter().filter(|(_, socket)| hears(socket)).map(|(number, _)| *number).collect()
    }
}
