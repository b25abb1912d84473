//! Packet templates: the headers that all packets of a stream share, and where in them lies what varies.
//!
//! Ethernet, up to two VLAN tags, an IP tunnel or none (VXLAN, GRE, IP in IP), IPv4 or IPv6, and UDP, TCP or an ICMP echo
//! request. A [`Template`] writes its headers for any size with lengths and checksums that are right for a payload of
//! zeros; [`Checks`] brings the checksums along when something else is written (RFC 1624), without reading the payload.
//!
//! Refuses: addresses of two families in one header, a DSCP, VLAN id, VNI or flow label with too many bits, more than two
//! tags, sizes that do not hold the headers. Keeps true: every header begins at an even offset, so each change counts
//! alike for all checksums. VXLAN's UDP checksum is zero (RFC 7348 §5; RFC 6935 allows it over IPv6).

use core::net::IpAddr;

use zsync_packet::checksum::{Delta, Sum};
use zsync_packet::header::build::{Ipv4Spec, Ipv6Spec, TcpSpec, emit_ethernet, icmp, icmpv6, udp};
use zsync_packet::header::tcp::TcpFlags;
use zsync_packet::header::{Mac, VlanTag, ether_type, protocol};

/// The UDP port of VXLAN (RFC 7348 §8).
pub const VXLAN_PORT: u16 = 4789;
/// The most bytes that headers can take: two tags, IPv6, VXLAN, Ethernet, IPv6, TCP.
pub const MOST_HEADERS: usize = 22 + 40 + 16 + 14 + 40 + 20;
/// The IP protocol number of GRE.
pub(crate) const GRE: u8 = 47;

/// An IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Who sends it.
    pub source: IpAddr,
    /// Whom it is for; of the same family.
    pub destination: IpAddr,
    /// Hops left.
    pub ttl: u8,
    /// The class of service, 0 to 63 (RFC 2474).
    pub dscp: u8,
    /// Below 2^20; IPv6 alone has it.
    pub flow_label: u32,
}

impl Ip {
    /// TTL 64, all else zero.
    pub fn new(source: IpAddr, destination: IpAddr) -> Self {
        Self { source, destination, ttl: 64, dscp: 0, flow_label: 0 }
    }

    fn check(&self) -> Result<(), TemplateError> {
        if self.source.is_ipv4() != self.destination.is_ipv4() {
            return Err(TemplateError::Families(self.source, self.destination));
        }
        if self.dscp > 63 {
            return Err(TemplateError::Bits { field: "DSCP", value: self.dscp.into(), most: 63 });
        }
        bits("flow label", self.flow_label, 20)
    }

    fn header_len(&self) -> usize {
        if self.source.is_ipv4() { 20 } else { 40 }
    }

    fn ether_type(&self) -> u16 {
        if self.source.is_ipv4() { ether_type::IPV4 } else { ether_type::IPV6 }
    }

    /// What a header in front of this one calls it.
    fn protocol(&self) -> u8 {
        if self.source.is_ipv4() { protocol::IPIP } else { protocol::IPV6 }
    }

    /// The packet around `payload`, and the addresses' sum.
    fn packet(&self, next: u8, payload: impl FnOnce(Sum) -> Vec<u8>) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut spec = Ipv4Spec::new(source, destination, next);
                (spec.ttl, spec.tos, spec.dont_fragment) = (self.ttl, self.dscp << 2, true);
                spec.packet(&payload(spec.address_sum()))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut spec = Ipv6Spec::new(source, destination, next);
                (spec.hop_limit, spec.traffic_class, spec.flow_label) =
                    (self.ttl, self.dscp << 2, self.flow_label);
                spec.packet(&payload(spec.address_sum()))
            }
            // `check` has refused it.
            _ => Vec::new(),
        }
    }
}

/// What carries the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram.
    Udp {
        /// The sender's port.
        source: u16,
        /// The receiver's port.
        destination: u16,
        /// Whether it has a checksum; over IPv6 it always does (RFC 8200 §8.1).
        checksum: bool,
    },
    /// A segment without options.
    Tcp {
        /// The sender's port.
        source: u16,
        /// The receiver's port.
        destination: u16,
        /// The control bits.
        flags: TcpFlags,
    },
    /// An echo request of the family's ICMP.
    Echo {
        /// The identifier, which tells flows apart.
        id: u16,
    },
}

/// What lies between two IP headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// UDP, VXLAN (RFC 7348) and an Ethernet header with the outer one's addresses.
    Vxlan {
        /// The network, below 2^24.
        vni: u32,
        /// The outer UDP source port.
        source_port: u16,
    },
    /// GRE (RFC 2784), with a key (RFC 2890) or none.
    Gre {
        /// The key.
        key: Option<u32>,
    },
    /// One IP header in another (RFC 2003, 2473, 4213), of any two families.
    IpIp,
}

/// All headers of a packet, from the outside in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    /// The Ethernet source.
    pub source: Mac,
    /// The Ethernet destination.
    pub destination: Mac,
    /// VLAN tags, outermost first; two at most.
    pub tags: Vec<VlanTag>,
    /// The tunnel and the IP header around it.
    pub tunnel: Option<(Ip, Tunnel)>,
    /// The (inner) IP header.
    pub ip: Ip,
    /// What it carries.
    pub transport: Transport,
}

/// A field that can vary from flow to flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    missing_docs,
    reason = "they are called as the headers' fields are; Outer is the tunnel's IP header"
)]
pub enum Field {
    SourceMac,
    DestinationMac,
    /// The outer of two tags, or the only one.
    Vlan,
    /// The second tag.
    InnerVlan,
    Source,
    Destination,
    Ttl,
    Dscp,
    /// IPv6 alone has it.
    FlowLabel,
    SourcePort,
    DestinationPort,
    /// The identifier of an echo request.
    EchoId,
    OuterSource,
    OuterDestination,
    OuterTtl,
    OuterDscp,
    /// Of VXLAN.
    OuterSourcePort,
    Vni,
    GreKey,
}

/// Where a field lies: some bits of a window of 2, 4, 6 or 16 bytes, at an even offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The window's first byte, from the start of the packet.
    pub offset: usize,
    /// The window's bytes.
    pub width: usize,
    /// Bits of the window behind the field.
    pub shift: u32,
    /// Bits of the field.
    pub bits: u32,
    /// Which checksums cover it.
    pub covers: Covers,
}

/// Which checksums a field counts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Covers {
    /// The tunnel's IPv4 header checksum.
    pub outer: bool,
    /// The (inner) IPv4 header checksum.
    pub ip: bool,
    /// The checksum of UDP, TCP or ICMP.
    pub transport: bool,
}

/// Why headers cannot be put together, or not be as long as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// IPv4 and IPv6 in one header.
    #[error("{0} and {1} are of two families: one IP header has addresses of one")]
    Families(IpAddr, IpAddr),
    /// A number that its field cannot hold.
    #[error("{field} {value} is too large: at most {most}")]
    Bits {
        /// Which.
        field: &'static str,
        /// What was asked.
        value: u32,
        /// What there can be.
        most: u32,
    },
    /// Too many VLAN tags.
    #[error("{0} VLAN tags are too many: at most 2")]
    Tags(usize),
    /// A packet shorter than its headers, or than what must follow them.
    #[error("packets of {size} bytes (with FCS) are too short for these headers: at least {least}")]
    Short {
        /// What was asked, in bytes with FCS.
        size: usize,
        /// What is needed, in bytes with FCS.
        least: usize,
    },
}

fn bits(field: &'static str, value: u32, bits: u32) -> Result<(), TemplateError> {
    let most = (1 << bits) - 1;
    if value > most { Err(TemplateError::Bits { field, value, most }) } else { Ok(()) }
}

/// A checksum field: where, and whether zero says "none" there (UDP).
#[derive(Clone, Copy, Debug)]
struct Check {
    offset: usize,
    udp: bool,
    /// How often a longer payload's length counts: in the pseudo-header, in UDP's own field.
    lengths: u8,
}

/// Changes under way, for the three checksums that a packet can have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checks {
    outer: Delta,
    ip: Delta,
    transport: Delta,
}

impl Checks {
    /// Counts a change of bytes that `covers` says about.
    #[inline]
    pub fn count(&mut self, covers: Covers, delta: Delta) {
        if covers.outer {
            self.outer = self.outer + delta;
        }
        if covers.ip {
            self.ip = self.ip + delta;
        }
        if covers.transport {
            self.transport = self.transport + delta;
        }
    }

    /// Counts a change of the payload.
    #[inline]
    pub fn payload(&mut self, delta: Delta) {
        self.transport = self.transport + delta;
    }
}

/// The headers, ready to be copied.
#[derive(Clone, Debug)]
pub struct Template {
    image: Vec<u8>,
    places: Vec<(Field, Place)>,
    /// 16-bit lengths, which grow with the payload.
    lengths: Vec<usize>,
    outer: Option<Check>,
    ip: Option<Check>,
    transport: Option<Check>,
}

impl Template {
    /// Builds the headers.
    ///
    /// # Errors
    /// See [`TemplateError`]; never [`TemplateError::Short`].
    pub fn new(layers: &Layers) -> Result<Self, TemplateError> {
        layers.ip.check()?;
        if layers.tags.len() > 2 {
            return Err(TemplateError::Tags(layers.tags.len()));
        }
        if let Some((outer, tunnel)) = &layers.tunnel {
            outer.check()?;
            if let Tunnel::Vxlan { vni, .. } = tunnel {
                bits("VNI", *vni, 24)?;
            }
        }
        let mut template = Self {
            image: image(layers),
            places: Vec::with_capacity(16),
            lengths: Vec::with_capacity(4),
            outer: None,
            ip: None,
            transport: None,
        };
        template.map(layers);
        Ok(template)
    }

    /// How long the headers are.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.image.len()
    }

    /// The headers with the checksums of an empty payload.
    pub fn image(&self) -> &[u8] {
        &self.image
    }

    /// Where a field lies; `None` where there is none of it.
    pub fn place(&self, field: Field) -> Option<Place> {
        self.places.iter().find(|(found, _)| *found == field).map(|(_, place)| *place)
    }

    /// Every field that can vary.
    pub fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        self.places.iter().map(|(field, _)| *field)
    }

    /// Whether the payload is covered by a checksum.
    #[inline]
    pub fn covers_payload(&self) -> bool {
        self.transport.is_some()
    }

    /// Checks that packets of `size` bytes (with FCS) hold the headers and `payload` bytes.
    ///
    /// # Errors
    /// [`TemplateError::Short`] with the least size.
    pub fn check_size(&self, size: usize, payload: usize) -> Result<(), TemplateError> {
        let least = (self.image.len() + payload + crate::size::FCS).max(crate::size::SHORTEST.into());
        if size < least { Err(TemplateError::Short { size, least }) } else { Ok(()) }
    }

    /// Writes the headers in front of the rest of `packet`, which counts as payload.
    ///
    /// Returns false, and writes nothing, when the headers do not fit.
    #[inline]
    pub fn emit(&self, packet: &mut [u8], checks: &mut Checks) -> bool {
        let Some(payload) = packet.len().checked_sub(self.image.len()) else { return false };
        packet[..self.image.len()].copy_from_slice(&self.image);
        // Sizes are 16 bits wide, so a length can be.
        let longer = payload as u16;
        for at in &self.lengths {
            let field = &mut packet[*at..*at + 2];
            let length = u16::from_be_bytes([field[0], field[1]]).wrapping_add(longer);
            field.copy_from_slice(&length.to_be_bytes());
        }
        // A sum does not mind where in it a word lies, and so no old and new length is needed, only the difference.
        let delta = Delta::of_u16(0, longer);
        for (check, sum) in [
            (self.outer, &mut checks.outer),
            (self.ip, &mut checks.ip),
            (self.transport, &mut checks.transport),
        ] {
            for _ in 0..check.map_or(0, |check| check.lengths) {
                *sum = *sum + delta;
            }
        }
        true
    }

    /// Brings the checksums of a packet that [`Template::emit`] began up to date with `checks`.
    #[inline]
    pub fn seal(&self, packet: &mut [u8], checks: &Checks) {
        for (check, delta) in
            [(self.outer, checks.outer), (self.ip, checks.ip), (self.transport, checks.transport)]
        {
            if let Some(check) = check
                && let Some(field) = packet.get_mut(check.offset..check.offset + 2)
            {
                let old = u16::from_be_bytes([field[0], field[1]]);
                let new = if check.udp { delta.apply_udp(old) } else { delta.apply(old) };
                field.copy_from_slice(&new.to_be_bytes());
            }
        }
    }

    fn add(&mut self, field: Field, offset: usize, width: usize, (shift, bits): (u32, u32), covers: Covers) {
        self.places.push((field, Place { offset, width, shift, bits, covers }));
    }

    /// Notes where everything lies in the image.
    fn map(&mut self, layers: &Layers) {
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

/// All headers around nothing.
fn image(layers: &Layers) -> Vec<u8> {
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

#[cfg(test)]
mod tests;
