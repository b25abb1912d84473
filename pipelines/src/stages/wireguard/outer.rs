//! The headers around a WireGuard message: Ethernet, IP, UDP.
//!
//! Owns nothing. Keeps true: the outer packet is whole but for the UDP checksum, which over IPv6 comes when all is sealed, and over
//! IPv4 is none, for every message is authenticated. The flow label is a hash of the inner flow (RFC 6438), so IPv6 networks
//! spread a tunnel's flows; over IPv4 a tunnel is one flow, for its ports are how a peer is found.

use super::Shared;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use zsync_packet::burst::{Burst, Facts};
use zsync_packet::checksum::Sum;
use zsync_packet::flow::FlowKey;
use zsync_packet::header::build::{Ipv4Spec, Ipv6Spec};
use zsync_packet::header::{UdpMut, ether_type, ethernet, ipv4, ipv6, protocol, udp};
use zsync_packet::verdict::Verdict;
use zsync_wireguard::record::Endpoint;

/// Hops of outer packets.
const HOPS: u8 = 64;
/// Bytes of the headers over IPv6.
const LONGEST: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN + udp::HEADER_LEN;

/// Both ends of an outer packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    V4(Ipv4Addr, Ipv4Addr, u16),
    V6(Ipv6Addr, Ipv6Addr, u16),
}

impl Ends {
    /// From us to where a peer is; `None`: we have no address to send from. Where it reached us is what it hears from, as long as that
    /// address is ours.
    pub(super) fn to(shared: &Shared, endpoint: Endpoint) -> Option<Self> {
        let Endpoint { remote, local } = endpoint;
        let strange = local.is_unspecified() || local.is_ipv4() != remote.is_ipv4();
        let local = if strange || !shared.is_local(local) { own(shared, remote)? } else { local };
        match (local, remote) {
            (IpAddr::V4(local), SocketAddr::V4(remote)) => Some(Self::V4(local, *remote.ip(), remote.port())),
            (IpAddr::V6(local), SocketAddr::V6(remote)) => Some(Self::V6(local, *remote.ip(), remote.port())),
            _ => None,
        }
    }

    /// Bytes of Ethernet, IP and UDP headers.
    #[inline]
    pub(super) fn len(&self) -> usize {
        let ip = if matches!(self, Self::V4(..)) { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        ethernet::HEADER_LEN + ip + udp::HEADER_LEN
    }

    /// Writes them at the front of `bytes`: see [`Outer::write`].
    pub(super) fn write(&self, bytes: &mut [u8], port: u16, tos: u8, flow: u32, number: u16) -> bool {
        Outer::new(*self, port).write(bytes, tos, flow, number)
    }

    /// Writes the UDP checksum where there must be one (RFC 8200 §8.1), once all is sealed. By a socket the kernel writes it.
    #[inline]
    pub(super) fn finish(&self, shared: &Shared, bytes: &mut [u8]) {
        if let Self::V6(from, to, _) = self
            && shared.settings.to.is_none()
            && let Some(datagram) = bytes.get_mut(ethernet::HEADER_LEN + ipv6::HEADER_LEN..)
            && let Ok(mut datagram) = UdpMut::parse(datagram)
        {
            datagram.fill_checksum(Sum::addresses_v6(*from, *to));
        }
    }

    /// From here on packet `i` is the outer one: it leaves by the tunnel's socket, or a stage behind says by what.
    #[inline]
    pub(super) fn know(&self, shared: &Shared, burst: &mut Burst, i: usize) {
        let port = shared.settings.port;
        let known = *burst.facts(i);
        let (version, key) = match *self {
            Self::V4(from, to, at) => (4, FlowKey::v4((from, port), (to, at), protocol::UDP)),
            Self::V6(from, to, at) => (6, FlowKey::v6((from, port), (to, at), protocol::UDP)),
        };
        *burst.facts_mut(i) = Facts {
            l3: ethernet::HEADER_LEN as u16,
            l4: (self.len() - udp::HEADER_LEN) as u16,
            version,
            protocol: protocol::UDP,
            mark: known.mark,
            delay: known.delay,
            ..Facts::default()
        };
        burst.set_key(i, key);
        if let Some(port) = shared.settings.to {
            burst.decide(i, Verdict::Transmit(port));
        }
    }
}

/// The headers of all packets to a peer, but for what is a packet's own: made once a burst.
#[derive(Clone, Copy)]
pub(super) struct Outer {
    bytes: [u8; LONGEST],
    v6: bool,
    /// Of the IPv4 header, without what is a packet's own.
    sum: u32,
}

impl Outer {
    /// From our `port`.
    pub(super) fn new(ends: Ends, port: u16) -> Self {
        let mut bytes = [0; LONGEST];
        let (ether, ip) = match ends {
            Ends::V4(..) => (ether_type::IPV4, ipv4::HEADER_LEN),
            Ends::V6(..) => (ether_type::IPV6, ipv6::HEADER_LEN),
        };
        // Whoever sends it on writes the stations.
        bytes[12..14].copy_from_slice(&ether.to_be_bytes());
        let packet = &mut bytes[ethernet::HEADER_LEN..];
        // There is room for either; lengths and checksum come with the packet.
        let to = match ends {
            Ends::V4(from, to, at) => {
                let spec = Ipv4Spec { ttl: HOPS, ..Ipv4Spec::new(from, to, protocol::UDP) };
                let _ = spec.emit(packet, 0);
                packet[2..4].fill(0);
                packet[10..12].fill(0);
                at
            }
            Ends::V6(from, to, at) => {
                let spec = Ipv6Spec { hop_limit: HOPS, ..Ipv6Spec::new(from, to, protocol::UDP) };
                let _ = spec.emit(packet, 0);
                at
            }
        };
        let words = packet[..ipv4::HEADER_LEN].as_chunks::<2>().0;
        let sum = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
        packet[ip..ip + 2].copy_from_slice(&port.to_be_bytes());
        packet[ip + 2..ip + 4].copy_from_slice(&to.to_be_bytes());
        Self { bytes, v6: matches!(ends, Ends::V6(..)), sum }
    }

    /// Writes them at the front of `bytes`, for all that is behind. An IPv4 packet may be taken apart
    /// on its way, as the kernel's may: nobody inside would hear that it was too long; `number` identifies it. False: it is longer than
    /// IP can say.
    #[inline]
    pub(super) fn write(&self, bytes: &mut [u8], tos: u8, flow: u32, number: u16) -> bool {
        let Some(len) = bytes.len().checked_sub(ethernet::HEADER_LEN).and_then(|len| u16::try_from(len).ok())
        else {
            return false;
        };
        if self.v6 {
            let Some(header) = bytes.first_chunk_mut::<LONGEST>() else { return false };
            *header = self.bytes;
            let class = 6 << 28 | u32::from(tos) << 20 | flow & 0x000f_ffff;
            header[14..18].copy_from_slice(&class.to_be_bytes());
            let payload = (len - ipv6::HEADER_LEN as u16).to_be_bytes();
            header[18..20].copy_from_slice(&payload);
            header[58..60].copy_from_slice(&payload);
        } else {
            const V4: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + udp::HEADER_LEN;
            let (Some(header), Some(known)) = (bytes.first_chunk_mut::<V4>(), self.bytes.first_chunk::<V4>())
            else {
                return false;
            };
            *header = *known;
            header[15] = tos;
            header[16..18].copy_from_slice(&len.to_be_bytes());
            header[18..20].copy_from_slice(&number.to_be_bytes());
            header[38..40].copy_from_slice(&(len - ipv4::HEADER_LEN as u16).to_be_bytes());
            // At most 13 words of 16 bits: two folds are enough (RFC 1071).
            let sum = self.sum + u32::from(tos) + u32::from(len) + u32::from(number);
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = (sum & 0xffff) + (sum >> 16);
            header[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        }
        true
    }
}

/// The address that we send to `remote` from: a configured one, or that of the port which the kernel's route says. By a socket the
/// kernel chooses, which is what the unspecified one asks of it.
#[cold]
fn own(shared: &Shared, remote: SocketAddr) -> Option<IpAddr> {
    let family = |address: &&IpAddr| address.is_ipv4() == remote.is_ipv4();
    if let Some(configured) = shared.settings.local.iter().find(family) {
        return Some(*configured);
    }
    if shared.settings.to.is_some() {
        return Some(match remote {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        });
    }
    let fib = shared.with.fib.as_ref()?;
    let route = match remote.ip() {
        IpAddr::V4(v4) => fib.route4(v4.to_bits()),
        IpAddr::V6(v6) => fib.route6(&v6.octets()),
    };
    let port = shared.with.ports.get(usize::from(fib.tables().output(route, 0)?))?;
    match remote {
        SocketAddr::V4(_) => port.v4.map(IpAddr::V4),
        SocketAddr::V6(_) => port.v6.map(IpAddr::V6),
    }
}
