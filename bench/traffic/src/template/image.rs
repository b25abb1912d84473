//! The image: all headers of a packet as bytes, and the map of what lies where in it.

use zsync_packet::checksum::Sum;
use zsync_packet::header::build::{TcpSpec, emit_ethernet, icmp, icmpv6, udp};
use zsync_packet::header::{VlanTag, protocol};

use super::{Check, Covers, Field, GRE, Ip, Layers, Place, Template, Transport, Tunnel, VXLAN_PORT};

/// All headers around nothing.
pub(super) fn image(layers: &Layers) -> Vec<u8> {
    let ethernet = |tags: &[VlanTag], ip: &Ip, payload: Vec<u8>| {
        let mut bytes = vec![0; 14 + 4 * tags.len()];
        // It has the room that it needs.
        let _ = emit_ethernet(&mut bytes, layers.destination, layers.source, tags, ip.ether_type());
        bytes.extend(payload);
        bytes
    };
    let v4 = layers.ip.source.is_ipv4();
    let (next, inner): (u8, Box<dyn FnOnce(Sum) -> Vec<u8>>) = match layers.transport {
        Transport::Udp { source, destination, checksum } => (
            protocol::UDP,
            Box::new(move |sum| {
                let mut bytes = udp(sum, source, destination, &[]);
                if v4 && !checksum {
                    bytes[6..8].fill(0);
                }
                bytes
            }),
        ),
        Transport::Tcp { source, destination, flags } => {
            (protocol::TCP, Box::new(move |sum| TcpSpec::new(source, destination, flags).segment(sum, &[])))
        }
        Transport::Echo { id } => {
            let [high, low] = id.to_be_bytes();
            let word = [high, low, 0, 0];
            if v4 {
                (protocol::ICMP, Box::new(move |_| icmp(8, 0, word, &[])))
            } else {
                (protocol::ICMPV6, Box::new(move |sum| icmpv6(sum, 128, 0, word, &[])))
            }
        }
    };
    let ip = layers.ip.packet(next, inner);
    let Some((outer, tunnel)) = &layers.tunnel else { return ethernet(&layers.tags, &layers.ip, ip) };
    let carried = match *tunnel {
        Tunnel::IpIp => outer.packet(layers.ip.protocol(), |_| ip),
        Tunnel::Gre { key } => outer.packet(GRE, |_| {
            let [high, low] = layers.ip.ether_type().to_be_bytes();
            let mut bytes = vec![if key.is_some() { 0x20 } else { 0 }, 0, high, low];
            bytes.extend(key.iter().flat_map(|key| key.to_be_bytes()));
            bytes.extend(ip);
            bytes
        }),
        Tunnel::Vxlan { vni, source_port } => outer.packet(protocol::UDP, |sum| {
            let mut payload = vec![0x08, 0, 0, 0];
            payload.extend((vni << 8).to_be_bytes());
            payload.extend(ethernet(&[], &layers.ip, ip));
            let mut bytes = udp(sum, source_port, VXLAN_PORT, &payload);
            bytes[6..8].fill(0);
            bytes
        }),
    };
    ethernet(&layers.tags, outer, carried)
}

impl Template {
    fn add(&mut self, field: Field, offset: usize, width: usize, (shift, bits): (u32, u32), covers: Covers) {
        self.places.push((field, Place { offset, width, shift, bits, covers }));
    }

    /// Notes where everything lies in the image.
    pub(super) fn map(&mut self, layers: &Layers) {
        let none = Covers::default();
        self.add(Field::DestinationMac, 0, 6, (0, 48), none);
        self.add(Field::SourceMac, 6, 6, (0, 48), none);
        for (at, field) in [Field::Vlan, Field::InnerVlan].into_iter().enumerate().take(layers.tags.len()) {
            self.add(field, 14 + 4 * at, 2, (0, 12), none);
        }
        let mut at = 14 + 4 * layers.tags.len();
        if let Some((outer, tunnel)) = &layers.tunnel {
            let fields = [Field::OuterSource, Field::OuterDestination, Field::OuterTtl, Field::OuterDscp];
            let covers = Covers { outer: outer.source.is_ipv4(), ..none };
            self.outer = self.map_ip(outer, at, fields, covers, covers);
            at += outer.header_len();
            match tunnel {
                Tunnel::Vxlan { .. } => {
                    self.add(Field::OuterSourcePort, at, 2, (0, 16), none);
                    self.lengths.push(at + 4);
                    self.add(Field::Vni, at + 12, 4, (8, 24), none);
                    at += 16 + 14;
                }
                Tunnel::Gre { key } => {
                    if key.is_some() {
                        self.add(Field::GreKey, at + 4, 4, (0, 32), none);
                        at += 4;
                    }
                    at += 4;
                }
                Tunnel::IpIp => {}
            }
        }
        let v4 = layers.ip.source.is_ipv4();
        let transport = match layers.transport {
            Transport::Udp { checksum, .. } => (checksum || !v4).then_some((6, true, 2)),
            Transport::Tcp { .. } => Some((16, false, 1)),
            // ICMP for IPv4 has no pseudo-header.
            Transport::Echo { .. } => Some((2, false, u8::from(!v4))),
        };
        let has = transport.is_some();
        let pseudo = has && !(v4 && matches!(layers.transport, Transport::Echo { .. }));
        let fields = [Field::Source, Field::Destination, Field::Ttl, Field::Dscp];
        let header = Covers { ip: v4, ..none };
        self.ip = self.map_ip(&layers.ip, at, fields, header, Covers { transport: pseudo, ..header });
        if !v4 {
            self.add(Field::FlowLabel, at, 4, (0, 20), none);
        }
        at += layers.ip.header_len();
        self.transport = transport.map(|(offset, udp, lengths)| Check { offset: at + offset, udp, lengths });
        let covers = Covers { transport: has, ..none };
        match layers.transport {
            Transport::Echo { .. } => self.add(Field::EchoId, at + 4, 2, (0, 16), covers),
            Transport::Udp { .. } | Transport::Tcp { .. } => {
                self.add(Field::SourcePort, at, 2, (0, 16), covers);
                self.add(Field::DestinationPort, at + 2, 2, (0, 16), covers);
            }
        }
        if matches!(layers.transport, Transport::Udp { .. }) {
            self.lengths.push(at + 4);
        }
    }

    fn map_ip(
        &mut self,
        ip: &Ip,
        at: usize,
        fields: [Field; 4],
        header: Covers,
        addresses: Covers,
    ) -> Option<Check> {
        let [source, destination, ttl, dscp] = fields;
        if ip.source.is_ipv4() {
            self.add(source, at + 12, 4, (0, 32), addresses);
            self.add(destination, at + 16, 4, (0, 32), addresses);
            self.add(ttl, at + 8, 2, (8, 8), header);
            self.add(dscp, at, 2, (2, 6), header);
            self.lengths.push(at + 2);
            Some(Check { offset: at + 10, udp: false, lengths: 1 })
        } else {
            self.add(source, at + 8, 16, (0, 128), addresses);
            self.add(destination, at + 24, 16, (0, 128), addresses);
            self.add(ttl, at + 6, 2, (0, 8), header);
            self.add(dscp, at, 2, (6, 6), header);
            self.lengths.push(at + 4);
            None
        }
    }
}
