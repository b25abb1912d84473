//! A packet, said in words: `tcp 10.1.0.5:40000 -> 10.2.0.1:443 flags=syn`.
//!
//! Refuses what it does not know, with what it does: nothing is guessed. Keeps true: the frame that comes of it is a valid one,
//! checksums and all, to the address that it is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use zsync_packet::checksum::Sum;
use zsync_packet::header::build::{self, Ipv4Spec, Ipv6Spec, TcpSpec};
use zsync_packet::header::{Mac, TcpFlags, VlanTag, ether_type, protocol};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketText {
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    /// Ports, or an echo's identifier.
    ports: (u16, u16),
    flags: TcpFlags,
    ttl: u8,
    dscp: u8,
    vlan: Option<u16>,
    /// Bytes of payload.
    size: usize,
}

/// How a packet is written, for errors.
const FORM: &str = "write it like `tcp 10.1.0.5:40000 -> 10.2.0.1:443`, `udp [2001:db8::1]:53 -> [2001:db8::2]:53` or `icmp 10.1.0.5 -> 10.2.0.1`; \
                    then, if wanted, flags=syn,ack ttl=64 dscp=0 vlan=7 size=100";

impl PacketText {
    /// Reads the words.
    ///
    /// # Errors
    /// What is wrong, and how it is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: String| format!("{what}: {FORM}");
        let mut words = text.split_whitespace();
        let (Some(kind), Some(from), Some("->"), Some(to)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(wrong(format!("`{text}` is no packet")));
        };
        let (source, source_port) =
            end(from).ok_or_else(|| wrong(format!("`{from}` is no address, nor one with a port")))?;
        let (destination, destination_port) =
            end(to).ok_or_else(|| wrong(format!("`{to}` is no address, nor one with a port")))?;
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(wrong("one address is IPv4, the other IPv6".to_owned()));
        }
        let number = match (kind, source.is_ipv4()) {
            ("tcp", _) => protocol::TCP,
            ("udp", _) => protocol::UDP,
            ("icmp" | "icmpv6", true) => protocol::ICMP,
            ("icmp" | "icmpv6", false) => protocol::ICMPV6,
            (other, _) => other
                .parse()
                .map_err(|_| wrong(format!("`{other}` is neither tcp, udp, icmp nor a protocol's number")))?,
        };
        let has_ports = matches!(number, protocol::TCP | protocol::UDP);
        let ports = match (has_ports, source_port, destination_port) {
            (true, Some(from), Some(to)) => (from, to),
            (true, ..) => return Err(wrong(format!("{kind} needs a port at both ends"))),
            (false, None, None) => (1, 1),
            (false, ..) => return Err(wrong(format!("{kind} has no ports"))),
        };
        let flags = TcpFlags::SYN;
        let mut packet = Self {
            protocol: number,
            source,
            destination,
            ports,
            flags,
            ttl: 64,
            dscp: 0,
            vlan: None,
            size: 32,
        };
        for word in words {
            packet.option(word).map_err(wrong)?;
        }
        Ok(packet)
    }

    fn option(&mut self, word: &str) -> Result<(), String> {
        let Some((key, value)) = word.split_once('=') else {
            return Err(format!("`{word}` is no KEY=VALUE"));
        };
        let number = |most: u16| {
            let number = value.parse::<u16>().ok().filter(|number| *number <= most);
            number.ok_or_else(|| format!("`{word}`: a number up to {most} is expected"))
        };
        match key {
            "flags" => {
                self.flags = TcpFlags(0);
                for flag in value.split(',').filter(|flag| *flag != "none") {
                    let flag = match flag {
                        "syn" => TcpFlags::SYN,
                        "ack" => TcpFlags::ACK,
                        "fin" => TcpFlags::FIN,
                        "rst" => TcpFlags::RST,
                        "psh" => TcpFlags::PSH,
                        "urg" => TcpFlags::URG,
                        _ => {
                            return Err(format!("`{flag}` is no flag: syn, ack, fin, rst, psh, urg or none"));
                        }
                    };
                    self.flags = self.flags.union(flag);
                }
            }
            "ttl" => self.ttl = number(255)? as u8,
            "dscp" => self.dscp = number(63)? as u8,
            "vlan" => self.vlan = Some(number(4094)?),
            "size" => self.size = usize::from(number(1400)?),
            _ => return Err(format!("there is no `{key}`: flags, ttl, dscp, vlan or size")),
        }
        Ok(())
    }

    /// Who sends it.
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// The packet in an Ethernet frame to `mac`.
    pub fn frame(&self, mac: Mac) -> Vec<u8> {
        let payload = vec![0; self.size];
        let (packet, kind) = match (self.source, self.destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => (self.v4(from, to, &payload), ether_type::IPV4),
            (IpAddr::V6(from), IpAddr::V6(to)) => (self.v6(from, to, &payload), ether_type::IPV6),
            _ => (Vec::new(), 0),
        };
        let tags: Vec<VlanTag> = self.vlan.map(VlanTag::new).into_iter().collect();
        // A station of nobody's: locally administered.
        build::padded(build::ethernet(mac, [0x02, 0, 0, 0, 0, 1], &tags, kind, &packet))
    }

    fn v4(&self, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
        let ip = Ipv4Spec { ttl: self.ttl, tos: self.dscp << 2, ..Ipv4Spec::new(from, to, self.protocol) };
        let transport = match self.protocol {
            protocol::ICMP => build::icmp(8, 0, self.echo(), payload),
            _ => self.transport(ip.address_sum(), payload),
        };
        ip.packet(&transport)
    }

    fn v6(&self, from: Ipv6Addr, to: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
        let ip = Ipv6Spec {
            hop_limit: self.ttl,
            traffic_class: self.dscp << 2,
            ..Ipv6Spec::new(from, to, self.protocol)
        };
        let transport = match self.protocol {
            protocol::ICMPV6 => build::icmpv6(ip.address_sum(), 128, 0, self.echo(), payload),
            _ => self.transport(ip.address_sum(), payload),
        };
        ip.packet(&transport)
    }

    fn transport(&self, addresses: Sum, payload: &[u8]) -> Vec<u8> {
        match self.protocol {
            protocol::TCP => {
                TcpSpec::new(self.ports.0, self.ports.1, self.flags).segment(addresses, &payload[..0])
            }
            protocol::UDP => build::udp(addresses, self.ports.0, self.ports.1, payload),
            _ => payload.to_vec(),
        }
    }

    fn echo(&self) -> [u8; 4] {
        let [a, b] = self.ports.0.to_be_bytes();
        [a, b, 0, 1]
    }
}

/// An address, with or without a port.
fn end(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(end) = text.parse::<SocketAddr>() {
        return Some((end.ip(), Some(end.port())));
    }
    text.parse::<IpAddr>().ok().map(|address| (address, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_packet::flow::FlowKey;
    use zsync_packet::header::Ethernet;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    fn key(text: &str) -> String {
        let frame = PacketText::parse(text).unwrap().frame(MAC);
        let frame = Ethernet::parse(&frame).unwrap();
        assert_eq!(frame.destination(), MAC);
        format!("{:?}", FlowKey::of(frame.payload()).unwrap())
    }

    #[test]
    fn words_become_the_packet_that_they_say() {
        assert_eq!(
            key("tcp 10.1.0.5:40000 -> 10.2.0.1:443 flags=syn,ack"),
            "protocol 6: 10.1.0.5:40000 -> 10.2.0.1:443"
        );
        assert_eq!(
            key("udp [2001:db8::1]:53 -> [2001:db8::2]:5353 size=9"),
            "protocol 17: [2001:db8::1]:53 -> [2001:db8::2]:5353"
        );
        assert_eq!(key("icmp 10.1.0.5 -> 10.2.0.1"), "protocol 1: 10.1.0.5:1 -> 10.2.0.1:1");
        assert_eq!(key("icmp 2001:db8::1 -> 2001:db8::2"), "protocol 58: [2001:db8::1]:1 -> [2001:db8::2]:1");
        assert_eq!(key("47 10.1.0.5 -> 10.2.0.1"), "protocol 47: 10.1.0.5:0 -> 10.2.0.1:0");
        let tagged = PacketText::parse("udp 10.0.0.1:1 -> 10.0.0.2:2 vlan=7").unwrap().frame(MAC);
        assert_eq!(Ethernet::parse(&tagged).unwrap().outer_tag().map(|tag| tag.tci), Some(7));
    }

    #[test]
    fn what_is_no_packet_is_refused_with_how_it_is_written() {
        for text in [
            "",
            "tcp",
            "tcp 10.1.0.5:40000 10.2.0.1:443",
            "tcp 10.1.0.5 -> 10.2.0.1",
            "icmp 10.1.0.5:1 -> 10.2.0.1:2",
            "udp 10.0.0.1:1 -> [::1]:2",
            "tpc 10.0.0.1:1 -> 10.0.0.2:2",
            "udp 10.0.0.1:1 -> 10.0.0.2:65536",
            "udp 10.0.0.1:1 -> 10.0.0.2:2 ttl=256",
            "udp 10.0.0.1:1 -> 10.0.0.2:2 colour=red",
            "tcp 10.0.0.1:1 -> 10.0.0.2:2 flags=sin",
        ] {
            let error = PacketText::parse(text).unwrap_err();
            assert!(error.contains("write it like"), "{error}");
        }
    }
}
