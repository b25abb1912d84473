//! `encap`: into a tunnel. VXLAN carries the whole frame, GRE and IP in IP carry its IP packet.
//!
//! The outer headers go into the headroom, and from then on they are the packet: a `route` behind finds the way to the other
//! end. Owns a counter for IPv4 identifications. Refuses: what is too long for the tunnel, which its sender is told when it
//! wants to be; packets whose hops are used up, for a tunnel of IP packets is a hop (RFC 2003 §3.1); frames without room ahead.
//!
//! Keeps true: the outer packet has the inner one's congestion bits (RFC 6040 §4.1, normal mode) and, unless configured
//! otherwise, its code point. A flow keeps its outer UDP port and flow label, so that it stays in order, and flows spread
//! (RFC 7348 §5, RFC 6438). A VXLAN packet is never fragmented by us (RFC 7348 §4.3); an IPv4 packet in GRE or IP may be,
//! outside, when the inner one allows it (RFC 2003 §3.1).

use crate::snapshot::PortFacts;
use crate::spec::tunnel::{Carrier, EncapSpec};
use crate::stage::{Cx, Stage};
use crate::stages::answer::{self, Answer};
use crate::stages::tunnel::{Inner, ip_of_frame};
use std::net::IpAddr;
use zsync_packet::burst::{Burst, Facts};
use zsync_packet::checksum::Sum;
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::header::build::{Ipv4Spec, Ipv6Spec};
use zsync_packet::header::{
    Ipv4Mut, Ipv6, Ipv6Mut, UdpMut, ether_type, ethernet, gre, ipv4, ipv6, protocol, udp, vxlan,
};
use zsync_packet::verdict::{DropReason, Verdict};

/// The ports that a flow's hash chooses from: the dynamic ones (RFC 7348 §5, RFC 6335 §6).
const FIRST_PORT: u16 = 49_152;

/// See the module.
#[derive(Clone, Debug)]
pub struct Encap {
    spec: EncapSpec,
    ports: Vec<PortFacts>,
    hash_key: HashKey,
    /// Longest outer packet, in bytes.
    mtu: usize,
    /// Bytes of the outer IP header, and of what is between it and the inner packet.
    overhead: (usize, usize),
    checksum: bool,
    identification: u16,
}

impl Encap {
    /// Into the tunnel of `spec`; `ports` by number, for answers and the longest packet; flows spread by their hash under
    /// `hash_key`.
    pub fn new(spec: EncapSpec, ports: Vec<PortFacts>, hash_key: HashKey) -> Self {
        let v6 = spec.tunnel.local.is_ipv6();
        let shortest = ports.iter().map(|port| port.mtu).filter(|mtu| *mtu > 0).min().unwrap_or(1500);
        let between = match spec.tunnel.carrier {
            Carrier::Vxlan { .. } => udp::HEADER_LEN + vxlan::HEADER_LEN,
            Carrier::Gre { key } => gre::header(0, key).1,
            Carrier::Ip => 0,
        };
        Self {
            mtu: spec.mtu.unwrap_or(shortest) as usize,
            overhead: (if v6 { ipv6::HEADER_LEN } else { ipv4::HEADER_LEN }, between),
            checksum: spec.checksum.unwrap_or(v6),
            spec,
            ports,
            hash_key,
            identification: 0,
        }
    }
}

impl Stage for Encap {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        for i in burst.undecided() {
            let wrapped = if self.spec.tunnel.carrier.carries_frames() {
                self.wrap_frame(burst, i, cx)
            } else {
                self.wrap_packet(burst, i, cx)
            };
            if let Err(verdict) = wrapped {
                burst.decide(i, verdict);
            }
        }
    }

    fn explain(&self, burst: &Burst, i: usize, _: u64, out: &mut Vec<String>) {
        let frames = self.spec.tunnel.carrier.carries_frames();
        let l3 = if frames { 0 } else { usize::from(burst.facts(i).l3) };
        let inside = burst.bytes(i).get(l3..).unwrap_or(&[]);
        let len = if frames { inside.len() } else { Inner::of(inside).map_or(0, |inner| inner.len) };
        let outer = len + self.overhead.0 + self.overhead.1;
        out.push(format!("into the tunnel {}", self.spec.tunnel));
        let what = if frames { "the frame" } else { "its IP packet" };
        out.push(format!(
            "{what} has {len} bytes, {outer} with the outer headers; at most {} are sent",
            self.mtu
        ));
    }
}

impl Encap {
    /// A frame into VXLAN.
    fn wrap_frame(&mut self, burst: &mut Burst, i: usize, cx: &mut Cx<'_>) -> Result<(), Verdict> {
        let frame = burst.bytes(i);
        let l3 = ip_of_frame(frame);
        let inner = l3.and_then(|l3| Inner::of(frame.get(l3..)?));
        let hash = self.frame_hash(frame, l3);
        let payload = self.overhead.1 + frame.len();
        if self.overhead.0 + payload > self.mtu {
            return Err(match (l3, inner) {
                (Some(l3), Some(Inner { whole: true, .. })) => {
                    burst.facts_mut(i).l3 = l3 as u16;
                    self.too_big(burst, i, l3, cx)
                }
                _ => Verdict::Drop(DropReason::TooBig),
            });
        }
        let tos = self.tos(inner.map_or(0, |inner| inner.tos));
        let ahead = ethernet::HEADER_LEN + self.overhead.0 + self.overhead.1;
        let from = self.station(burst, i)?;
        let bytes = burst.prepend(i, ahead).ok_or(Verdict::Drop(DropReason::NoHeadroom))?;
        // Whoever sends it on writes the destination.
        write_link(bytes, [0; 6], from, self.spec.tunnel.local);
        self.write_outer(bytes, tos, true, protocol::UDP, hash)?;
        let key = self.write_vxlan(bytes, payload, hash)?;
        self.know(burst, i, protocol::UDP, key);
        Ok(())
    }

    /// An IP packet into GRE or IP.
    fn wrap_packet(&mut self, burst: &mut Burst, i: usize, cx: &mut Cx<'_>) -> Result<(), Verdict> {
        let facts = *burst.facts(i);
        let l3 = usize::from(facts.l3);
        if facts.version == 0 || l3 < ethernet::HEADER_LEN {
            return Err(Verdict::Drop(DropReason::NotIp));
        }
        let packet = burst.bytes(i).get(l3..).unwrap_or(&[]);
        let inner = Inner::of(packet).ok_or(Verdict::Drop(DropReason::IpTruncated))?;
        let v6 = self.spec.tunnel.local.is_ipv6();
        let hash = if v6 { self.packet_hash(packet) } else { 0 };
        if inner.ttl <= 1 {
            let (from, otherwise) = (*self.port(burst, i)?, DropReason::TtlExpired);
            return Err(answer::reply(burst, i, Answer::TimeExceeded, &from, otherwise, cx));
        }
        // No router takes an IPv6 packet apart, the outer one neither.
        if inner.len + self.overhead.0 + self.overhead.1 > self.mtu && (inner.whole || v6) {
            return Err(self.too_big(burst, i, 0, cx));
        }
        let mac = self.station(burst, i)?;
        let ahead = ethernet::HEADER_LEN + self.overhead.0 + self.overhead.1;
        // Padding is the link's, not the tunnel's; the Ethernet header is not the tunnel's either.
        if !burst.set_len(i, l3 + inner.len) || !burst.trim_front(i, l3) {
            return Err(Verdict::Drop(DropReason::IpTruncated));
        }
        let bytes = burst.prepend(i, ahead).ok_or(Verdict::Drop(DropReason::NoHeadroom))?;
        age(bytes.get_mut(ahead..).unwrap_or_default());
        write_link(bytes, [0; 6], mac, self.spec.tunnel.local);
        let (ether, in_ip) = match facts.version {
            4 => (ether_type::IPV4, protocol::IPIP),
            _ => (ether_type::IPV6, protocol::IPV6),
        };
        let number = match self.spec.tunnel.carrier {
            Carrier::Gre { key } => {
                let (header, len) = gre::header(ether, key);
                let at = ethernet::HEADER_LEN + self.overhead.0;
                write(bytes, at, header.get(..len).unwrap_or(&[]))?;
                protocol::GRE
            }
            _ => in_ip,
        };
        self.write_outer(bytes, self.tos(inner.tos), inner.whole, number, hash)?;
        self.know(burst, i, number, (0, 0));
        Ok(())
    }

    /// Tells the sender how long its IP packets may be; `link` bytes of its frame are not of the packet.
    #[cold]
    fn too_big(&self, burst: &mut Burst, i: usize, link: usize, cx: &mut Cx<'_>) -> Verdict {
        let Ok(from) = self.port(burst, i).copied() else { return Verdict::Drop(DropReason::NoSuchPort) };
        let mtu = self.mtu.saturating_sub(self.overhead.0 + self.overhead.1 + link) as u32;
        answer::reply(burst, i, Answer::TooBig { mtu }, &from, DropReason::TooBig, cx)
    }

    fn port(&self, burst: &Burst, i: usize) -> Result<&PortFacts, Verdict> {
        self.ports.get(usize::from(burst.port(i).0)).ok_or(Verdict::Drop(DropReason::NoSuchPort))
    }

    /// Whom the outer packet is from: of what came out of another tunnel nobody, so that no answer quotes it on the wire.
    fn station(&self, burst: &Burst, i: usize) -> Result<[u8; 6], Verdict> {
        let mac = self.port(burst, i)?.mac;
        Ok(if burst.facts(i).tunnel > 0 { [0; 6] } else { mac })
    }

    fn tos(&self, inner: u8) -> u8 {
        match self.spec.dscp {
            Some(dscp) => dscp << 2 | inner & 3,
            None => inner,
        }
    }

    /// Writes the outer IP header for all that is behind it.
    fn write_outer(
        &mut self,
        bytes: &mut [u8],
        tos: u8,
        whole: bool,
        number: u8,
        hash: u32,
    ) -> Result<(), Verdict> {
        let packet = bytes.get_mut(ethernet::HEADER_LEN..).unwrap_or_default();
        let payload = packet.len().saturating_sub(self.overhead.0);
        let ttl = self.spec.ttl;
        let written = match (self.spec.tunnel.local, self.spec.tunnel.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                // Only what may be taken apart needs to be told from others (RFC 6864 §4).
                if !whole {
                    self.identification = self.identification.wrapping_add(1);
                }
                let identification = if whole { 0 } else { self.identification };
                let outer = Ipv4Spec {
                    tos,
                    ttl,
                    identification,
                    dont_fragment: whole,
                    ..Ipv4Spec::new(local, remote, number)
                };
                outer.emit(packet, payload)
            }
            (IpAddr::V6(local), IpAddr::V6(remote)) => {
                let (traffic_class, hop_limit, flow_label) = (tos, ttl, hash & 0x000f_ffff);
                Ipv6Spec { traffic_class, hop_limit, flow_label, ..Ipv6Spec::new(local, remote, number) }
                    .emit(packet, payload)
            }
            _ => return Err(Verdict::Drop(DropReason::TunnelUnknown)),
        };
        written.map(drop).map_err(|_| Verdict::Drop(DropReason::TooBig))
    }

    /// Writes UDP and VXLAN; gives the UDP ports.
    fn write_vxlan(&self, bytes: &mut [u8], payload: usize, hash: u32) -> Result<(u16, u16), Verdict> {
        let Carrier::Vxlan { vni, port } = self.spec.tunnel.carrier else {
            return Err(Verdict::Drop(DropReason::TunnelUnknown));
        };
        let source = FIRST_PORT | hash as u16 & 0x3fff;
        let len = u16::try_from(payload).map_err(|_| Verdict::Drop(DropReason::TooBig))?;
        let at = ethernet::HEADER_LEN + self.overhead.0;
        let [a, b] = source.to_be_bytes();
        let [c, d] = port.to_be_bytes();
        let [e, f] = len.to_be_bytes();
        write(bytes, at, &[a, b, c, d, e, f, 0, 0])?;
        write(bytes, at + udp::HEADER_LEN, &vxlan::header(vni))?;
        if self.checksum {
            let addresses = match (self.spec.tunnel.local, self.spec.tunnel.remote) {
                (IpAddr::V4(local), IpAddr::V4(remote)) => Sum::addresses_v4(local, remote),
                (IpAddr::V6(local), IpAddr::V6(remote)) => Sum::addresses_v6(local, remote),
                _ => Sum::ZERO,
            };
            if let Ok(mut udp) = UdpMut::parse(bytes.get_mut(at..).unwrap_or_default()) {
                udp.fill_checksum(addresses);
            }
        }
        Ok((source, port))
    }

    /// From here on the packet is the outer one.
    fn know(&self, burst: &mut Burst, i: usize, number: u8, ports: (u16, u16)) {
        let known = *burst.facts(i);
        let l4 = (ethernet::HEADER_LEN + self.overhead.0) as u16;
        let (version, key) = match (self.spec.tunnel.local, self.spec.tunnel.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                (4, FlowKey::v4((local, ports.0), (remote, ports.1), number))
            }
            (IpAddr::V6(local), IpAddr::V6(remote)) => {
                (6, FlowKey::v6((local, ports.0), (remote, ports.1), number))
            }
            _ => return,
        };
        *burst.facts_mut(i) = Facts {
            l3: ethernet::HEADER_LEN as u16,
            l4,
            version,
            protocol: number,
            mark: known.mark,
            delay: known.delay,
            ..Facts::default()
        };
        burst.set_key(i, key);
    }

    /// The hash of a frame's flow; of its stations when it has none.
    fn frame_hash(&self, frame: &[u8], l3: Option<usize>) -> u32 {
        match l3.and_then(|l3| frame.get(l3..)) {
            Some(packet) => self.packet_hash(packet),
            None => {
                let mut stations = [0; 16];
                let known = frame.len().min(ethernet::HEADER_LEN);
                stations[..known].copy_from_slice(&frame[..known]);
                let [a, b] =
                    [0, 8].map(|at| stations[at..].first_chunk().map_or(0, |word| u64::from_ne_bytes(*word)));
                (FlowKey::from_words([a, b, 0, 0, 0]).hash(&self.hash_key) >> 32) as u32
            }
        }
    }

    fn packet_hash(&self, packet: &[u8]) -> u32 {
        // Behind a chain of extension headers that cannot be walked, the addresses must do.
        let key = FlowKey::of(packet).or_else(|_| {
            Ipv6::parse(packet)
                .map(|ip| FlowKey::v6((ip.source(), 0), (ip.destination(), 0), ip.next_header()))
        });
        key.map_or(0, |key| (key.hash(&self.hash_key) >> 32) as u32)
    }
}

/// Takes a hop off a packet that has more than one.
fn age(packet: &mut [u8]) {
    if let Ok(mut ip) = Ipv4Mut::parse(packet) {
        let _ = ip.decrement_ttl();
    } else if let Ok(mut ip) = Ipv6Mut::parse(packet) {
        let _ = ip.decrement_hop_limit();
    }
}

/// Writes an Ethernet header for a packet of the family of `family`.
fn write_link(bytes: &mut [u8], to: [u8; 6], from: [u8; 6], family: IpAddr) {
    let kind = if family.is_ipv6() { ether_type::IPV6 } else { ether_type::IPV4 };
    if let Some(header) = bytes.first_chunk_mut::<{ ethernet::HEADER_LEN }>() {
        header[..6].copy_from_slice(&to);
        header[6..12].copy_from_slice(&from);
        header[12..].copy_from_slice(&kind.to_be_bytes());
    }
}

fn write(bytes: &mut [u8], at: usize, part: &[u8]) -> Result<(), Verdict> {
    let place = bytes.get_mut(at..at + part.len()).ok_or(Verdict::Drop(DropReason::NoHeadroom))?;
    place.copy_from_slice(part);
    Ok(())
}

#[cfg(test)]
mod tests;
