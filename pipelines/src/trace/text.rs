//! A packet, said in words: `tcp 10.1.0.5:40000 -> 10.2.0.1:443 flags=syn`.
//!
//! Refuses what it does not know, with its place, and what would be right there: nothing is guessed. Keeps true: the frame that
//! comes of it is a valid one, checksums and all, to the address that it is told; what [`describe`](super::describe::describe)
//! says of that frame are words for the same frame.

mod words;

pub(super) use words::flags;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zsync_packet::checksum::Sum;
use zsync_packet::flow::FlowKey;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};
use zsync_packet::header::{Ethernet, Mac, TcpFlags, VlanTag, ether_type, ethernet, protocol};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketText {
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    /// Ports, or an echo's identifier.
    ports: (u16, u16),
    flags: Option<TcpFlags>,
    sequence: Option<u32>,
    acknowledgement: Option<u32>,
    /// Type and code of ICMP; none: an echo request.
    icmp: Option<(u8, u8)>,
    ttl: u8,
    dscp: u8,
    ecn: u8,
    dont_fragment: bool,
    /// Which datagram a fragment is of.
    id: u32,
    /// Where in its datagram it lies, in bytes, and whether more follows.
    fragment: Option<(u16, bool)>,
    /// Outermost first.
    tags: Vec<VlanTag>,
    /// Bytes of payload.
    size: Option<usize>,
    /// The name of the port that it comes in at.
    input: Option<String>,
    /// The packet that an ICMP error is about.
    about: Option<Box<PacketText>>,
}

/// Bytes of payload, unless told otherwise; TCP has none.
pub(super) const SIZE: usize = 32;
/// Most bytes of payload: with all headers it fits a frame.
pub(super) const LONGEST: usize = 3600;

impl PacketText {
    /// Reads the words.
    ///
    /// # Errors
    /// What is wrong, where, and how it is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        words::parse(text)
    }

    /// Who sends it.
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// The port that it is said to come in at.
    pub fn input(&self) -> Option<&str> {
        self.input.as_deref()
    }

    /// Its flow, as far as it says it itself; of TCP alone, and not of what opens or resets a connection.
    pub fn continues(&self) -> Option<FlowKey> {
        let opens = TcpFlags::SYN.union(TcpFlags::RST);
        let may = self.protocol == protocol::TCP
            && self.fragment.is_none()
            && self.flags.is_none_or(|flags| !flags.intersects(opens));
        let frame = may.then(|| self.frame([0; 6]))?;
        FlowKey::of(Ethernet::parse(&frame).ok()?.payload()).ok()
    }

    /// Makes it the next segment of a connection whose sender's next number is `sequence`, and that expects `acknowledgement`:
    /// what was not said. Says what that was; nothing when all was said.
    pub fn continue_with(&mut self, sequence: u32, acknowledgement: u32) -> Option<String> {
        let mut taken = Vec::new();
        if self.flags.is_none() {
            self.flags = Some(TcpFlags::ACK);
            taken.push("flags=ack".to_owned());
        }
        if self.sequence.is_none() {
            self.sequence = Some(sequence);
            taken.push(format!("seq={sequence}"));
        }
        if self.acknowledgement.is_none() {
            self.acknowledgement = Some(acknowledgement);
            taken.push(format!("ack={acknowledgement}"));
        }
        (!taken.is_empty()).then(|| format!("{}: as its flow goes on", taken.join(" ")))
    }

    /// The packet in an Ethernet frame to `mac`.
    pub fn frame(&self, mac: Mac) -> Vec<u8> {
        let kind = if self.source.is_ipv4() { ether_type::IPV4 } else { ether_type::IPV6 };
        // A station of nobody's: locally administered.
        let station = [0x02, 0, 0, 0, 0, 1];
        build::padded(build::ethernet(mac, station, &self.tags, kind, &self.packet()))
    }

    /// From its IP header on.
    fn packet(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => self.v4(from, to),
            (IpAddr::V6(from), IpAddr::V6(to)) => self.v6(from, to),
            _ => Vec::new(),
        }
    }

    fn v4(&self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let (fragment_offset, more_fragments) = self.fragment.unwrap_or_default();
        let ip = Ipv4Spec {
            ttl: self.ttl,
            tos: self.dscp << 2 | self.ecn,
            identification: self.id as u16,
            dont_fragment: self.dont_fragment,
            more_fragments,
            fragment_offset,
            ..Ipv4Spec::new(from, to, self.protocol)
        };
        ip.packet(&self.transport(ip.address_sum()))
    }

    fn v6(&self, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
        let (hop_limit, traffic_class) = (self.ttl, self.dscp << 2 | self.ecn);
        let first = if self.fragment.is_some() { protocol::FRAGMENT } else { self.protocol };
        let ip = Ipv6Spec { hop_limit, traffic_class, ..Ipv6Spec::new(from, to, first) };
        let transport = self.transport(ip.address_sum());
        match self.fragment {
            Some((offset, more)) => {
                ip.packet(&[build::fragment(self.protocol, offset, more, self.id), transport].concat())
            }
            None => ip.packet(&transport),
        }
    }

    fn transport(&self, addresses: Sum) -> Vec<u8> {
        let mut payload = match &self.about {
            Some(about) => about.packet(),
            None => vec![0; self.size()],
        };
        if let Some((_, true)) = self.fragment {
            // All but the last fragment of a datagram are multiples of 8 bytes.
            let header = if self.protocol == protocol::TCP && !self.is_later() { 20 } else { 0 };
            payload.resize((header + payload.len()).next_multiple_of(8) - header, 0);
        }
        if self.is_later() {
            return payload;
        }
        match self.protocol {
            protocol::TCP => {
                let header = TcpSpec::new(self.ports.0, self.ports.1, self.flags.unwrap_or(TcpFlags::SYN));
                let (sequence, acknowledgement) =
                    (self.sequence.unwrap_or(0), self.acknowledgement.unwrap_or(0));
                TcpSpec { sequence, acknowledgement, ..header }.segment(addresses, &payload)
            }
            protocol::UDP => build::udp(addresses, self.ports.0, self.ports.1, &payload),
            protocol::ICMP if self.source.is_ipv4() => {
                let (kind, code) = self.icmp.unwrap_or((8, 0));
                build::icmp(kind, code, self.icmp_word(), &payload)
            }
            protocol::ICMPV6 if self.source.is_ipv6() => {
                let (kind, code) = self.icmp.unwrap_or((128, 0));
                build::icmpv6(addresses, kind, code, self.icmp_word(), &payload)
            }
            _ => payload,
        }
    }

    fn size(&self) -> usize {
        let unsaid = if self.protocol == protocol::TCP && !self.is_later() { 0 } else { SIZE };
        self.size.unwrap_or(unsaid)
    }

    /// It has no transport header.
    fn is_later(&self) -> bool {
        self.fragment.is_some_and(|(offset, _)| offset != 0)
    }

    /// The second word of an ICMP header: an echo's identifier and number, and nothing for others.
    fn icmp_word(&self) -> [u8; 4] {
        let echo = match self.icmp {
            None => true,
            Some((kind, _)) if self.source.is_ipv4() => matches!(kind, 0 | 8),
            Some((kind, _)) => matches!(kind, 128 | 129),
        };
        let [a, b] = self.ports.0.to_be_bytes();
        if echo { [a, b, 0, 1] } else { [0; 4] }
    }
}

/// Tags that a packet may have: what the parser takes.
pub(super) const TAGS: usize = ethernet::MAX_TAGS;

#[cfg(test)]
mod tests;
