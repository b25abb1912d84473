//! A port and a queue that are open.

use super::super::sockets::Copying;
use crate::xdp::{Hook, Mode as XdpMode};
use rustix::fd::OwnedFd;
use std::net::{Ipv4Addr, Ipv6Addr};
use zsync_pipelines::snapshot::PortFacts;
use zsync_pipelines::spec::Port;
use zsync_protocol::message::ToDataplane;

/// A configured port, open.
#[derive(Debug)]
pub struct OpenPort {
    /// Number and settings.
    pub spec: Port,
    /// Index of its netdev; 0: it has none.
    pub ifindex: u32,
    /// Its address.
    pub mac: [u8; 6],
    /// Its MTU.
    pub mtu: u32,
    /// The IPv4 address that packets of its own come from.
    pub v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub v6: Option<Ipv6Addr>,
    /// Its driver's kind: "veth", …
    pub kind: Option<String>,
    /// What takes its packets from the kernel; a TUN device and a UDP socket have none.
    pub ingress: Option<Hook>,
    /// Its program was attached before this installation: if that cannot be opened, the program stays.
    pub(in crate::daemon) inherited: bool,
    /// Where the program runs.
    pub xdp: XdpMode,
    /// How its sockets are bound.
    pub copying: Copying,
    /// Whether its queues go by io_uring, or why they do not; nothing where that was not asked for.
    pub ring: Option<Result<(), String>>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// A queue of a port, and its socket.
#[derive(Debug)]
pub struct OpenQueue {
    /// What the data plane is told of it.
    pub message: ToDataplane,
    /// Its port's number.
    pub port: u16,
    /// The NIC queue.
    pub queue: u32,
    /// Its worker.
    pub worker: u8,
    /// The socket.
    pub socket: OwnedFd,
}

impl OpenPort {
    /// Packet sockets.
    pub(in crate::daemon) fn has_packet_sockets(&self) -> bool {
        matches!(self.ingress, Some(Hook::Tap(_)))
    }

    /// Whether packets arrive with checksums that the sending stack left to a NIC. What comes by packet sockets says which, and the device
    /// completes those.
    fn has_partial_checksums(&self) -> bool {
        self.kind.as_deref() == Some("veth") && !self.has_packet_sockets()
    }

    /// What its stages know of it.
    pub fn facts(&self) -> PortFacts {
        PortFacts {
            mac: self.mac,
            mtu: self.mtu,
            v4: self.v4,
            v6: self.v6,
            complete_checksums: self.has_partial_checksums(),
            of_host: self.spec.tun.is_some(),
        }
    }

    /// What the data plane is told of it.
    pub fn message(&self) -> ToDataplane {
        ToDataplane::Port {
            id: self.spec.id.0,
            name: self.spec.netdev.clone(),
            ifindex: self.ifindex,
            mac: self.mac,
            mtu: self.mtu,
            v4: self.v4,
            v6: self.v6,
            partial_checksums: self.has_partial_checksums(),
        }
    }
}
