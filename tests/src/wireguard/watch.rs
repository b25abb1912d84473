//! WireGuard's messages as they pass on a device.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use zsync_packet::header::{Ethernet, Ipv4, Ipv6, Udp, ether_type, protocol};
use zsync_wireguard::message::Message;

use crate::Namespace;
use crate::raw::RawSocket;

/// A message that passed.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// From where to where.
    pub ends: (SocketAddr, SocketAddr),
    /// All of it.
    pub bytes: Vec<u8>,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first of a handshake.
    Initiation,
    /// The second of a handshake.
    Response,
    /// A cookie.
    Cookie,
    /// Data, and how many bytes they are, padding among them; 0: it says that somebody is there.
    Data(usize),
}

impl Seen {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Some(match Message::parse(&self.bytes).ok()? {
            Message::Initiation(_) => Kind::Initiation,
            Message::Response(_) => Kind::Response,
            Message::CookieReply(_) => Kind::Cookie,
            Message::Data { .. } => Kind::Data(self.bytes.len().saturating_sub(32)),
        })
    }
}

/// Looks at what passes, in either direction.
#[derive(Debug)]
pub struct Watch(RawSocket);

impl Watch {
    /// On a device.
    ///
    /// # Errors
    /// There is none, or it may not be looked at.
    pub fn open(namespace: &Namespace, device: &str) -> Result<Self> {
        RawSocket::open(namespace, device).map(Self)
    }

    /// The messages that pass from now on until `enough` says so, or for `limit`; what passed before is left out only by whoever
    /// opens the watch later.
    ///
    /// # Errors
    /// The device is gone.
    pub fn until(&self, limit: Duration, mut enough: impl FnMut(&Seen) -> bool) -> Result<Vec<Seen>> {
        let (start, mut seen) = (Instant::now(), Vec::new());
        while let Some(left) = limit.checked_sub(start.elapsed()) {
            let Some(frame) = self.0.receive(left)? else { break };
            if let Some((ends, bytes)) = datagram(&frame) {
                let one = Seen { at: Instant::now(), ends, bytes };
                if one.kind().is_some() {
                    let last = enough(&one);
                    seen.push(one);
                    if last {
                        break;
                    }
                }
            }
        }
        Ok(seen)
    }

    /// All messages that pass within `limit`.
    ///
    /// # Errors
    /// The device is gone.
    pub fn all(&self, limit: Duration) -> Result<Vec<Seen>> {
        self.until(limit, |_| false)
    }
}

/// Both ends and the payload of a frame's UDP datagram.
fn datagram(frame: &[u8]) -> Option<((SocketAddr, SocketAddr), Vec<u8>)> {
    let frame = Ethernet::parse(frame).ok()?;
    let (from, to, number, payload) = match frame.ether_type() {
        ether_type::IPV4 => {
            let ip = Ipv4::parse(frame.payload()).ok()?;
            (ip.source().into(), ip.destination().into(), ip.protocol(), ip.payload())
        }
        ether_type::IPV6 => {
            let ip = Ipv6::parse(frame.payload()).ok()?;
            (ip.source().into(), ip.destination().into(), ip.next_header(), ip.payload())
        }
        _ => return None,
    };
    let udp = (number == protocol::UDP).then(|| Udp::parse(payload).ok())??;
    let ends = (SocketAddr::new(from, udp.source_port()), SocketAddr::new(to, udp.destination_port()));
    Some((ends, udp.payload().to_vec()))
}
