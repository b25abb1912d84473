//! The connections of one phase as they came through the device, and a packet back over each.
//!
//! Keeps true: a connection counts once, however often its packets come; what is of another run, or damaged, does not count.
//! The way back is that of the packet that came, with all addresses and ports exchanged: what the device made of them is
//! what the other side knows.

use std::net::IpAddr;
use zsync_packet::header::build::{Ipv4Spec, Ipv6Spec, emit_ethernet};
use zsync_packet::header::{Ethernet, Ipv4, Ipv6, Mac, Udp, UdpMut, ether_type, protocol};
use zsync_traffic::probe::Probe;
use zsync_traffic::stream::{Class, classify};

/// Bytes of an Ethernet header without tags.
const ETHERNET: usize = 14;
/// Bytes of a UDP header.
const UDP: usize = 8;

/// Who sent a packet, and to whom, as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    macs: (Mac, Mac),
    addresses: (IpAddr, IpAddr),
    ports: (u16, u16),
}

impl Way {
    /// Of a packet; `None` where it is not UDP in IP in Ethernet, without tags or tunnels.
    fn of(packet: &[u8]) -> Option<Self> {
        let ethernet = Ethernet::parse(packet).ok().filter(|ethernet| ethernet.header_len() == ETHERNET)?;
        let macs = (ethernet.source(), ethernet.destination());
        let (addresses, next, inside) = match ethernet.ether_type() {
            ether_type::IPV4 => {
                let ip = Ipv4::parse(ethernet.payload()).ok()?;
                ((ip.source().into(), ip.destination().into()), ip.protocol(), ip.payload())
            }
            ether_type::IPV6 => {
                let ip = Ipv6::parse(ethernet.payload()).ok()?;
                ((ip.source().into(), ip.destination().into()), ip.next_header(), ip.payload())
            }
            _ => return None,
        };
        let udp = Udp::parse(inside).ok().filter(|_| next == protocol::UDP)?;
        Some(Self { macs, addresses, ports: (udp.source_port(), udp.destination_port()) })
    }

    /// Writes a packet of `length` bytes the other way into `frame`; its length, or 0 where there is no room.
    pub fn back(&self, probe: &Probe, length: usize, frame: &mut [u8]) -> usize {
        self.try_back(probe, length, frame).unwrap_or(0)
    }

    fn try_back(&self, probe: &Probe, length: usize, frame: &mut [u8]) -> Option<usize> {
        let ((to_mac, from_mac), (to_port, from_port)) = (self.macs, self.ports);
        let (kind, ip_length) =
            if self.addresses.0.is_ipv4() { (ether_type::IPV4, 20) } else { (ether_type::IPV6, 40) };
        let packet = frame.get_mut(..length)?;
        emit_ethernet(packet, to_mac, from_mac, &[], kind).ok()?;
        let ip = packet.get_mut(ETHERNET..)?;
        let datagram = ip.get_mut(ip_length..)?;
        let bytes = u16::try_from(datagram.len()).ok()?;
        let (head, payload) = datagram.split_at_mut_checked(UDP)?;
        head[..2].copy_from_slice(&from_port.to_be_bytes());
        head[2..4].copy_from_slice(&to_port.to_be_bytes());
        head[4..6].copy_from_slice(&bytes.to_be_bytes());
        if probe.write(payload) == 0 {
            return None;
        }
        let sum = match self.addresses {
            (IpAddr::V4(to), IpAddr::V4(from)) => {
                let spec = Ipv4Spec::new(from, to, protocol::UDP);
                spec.emit(ip, bytes.into()).ok()?;
                spec.address_sum()
            }
            (IpAddr::V6(to), IpAddr::V6(from)) => {
                let spec = Ipv6Spec::new(from, to, protocol::UDP);
                spec.emit(ip, bytes.into()).ok()?;
                spec.address_sum()
            }
            _ => return None,
        };
        UdpMut::parse(ip.get_mut(ip_length..)?).ok()?.fill_checksum(sum);
        Some(length)
    }
}

/// What came of one run.
#[derive(Debug, Default)]
pub(crate) struct Table {
    run: u32,
    ways: Vec<Option<Way>>,
    count: u64,
    /// Packets of the run that cannot be answered.
    strange: u64,
}

impl Table {
    /// Empty, for that many connections of a run.
    pub fn new(run: u32, connections: u32) -> Self {
        Self { run, ways: vec![None; connections as usize], count: 0, strange: 0 }
    }

    /// A packet came; `now` is the clock's.
    pub fn take(&mut self, packet: &[u8], now: u64) {
        let Class::Probe(probe) = classify(packet, now) else { return };
        let Some(place) = self.ways.get_mut(probe.flow as usize).filter(|_| probe.is_of(self.run)) else {
            return;
        };
        match Way::of(packet) {
            Some(way) if place.is_none() => {
                *place = Some(way);
                self.count += 1;
            }
            Some(_) => {}
            None => self.strange += 1,
        }
    }

    /// Connections that came.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Packets of the run that cannot be answered: tagged, in a tunnel, or no longer UDP.
    pub fn strange(&self) -> u64 {
        self.strange
    }

    /// Every `of`th of the connections that came, from the `part`th on, by number.
    pub fn share(&self, part: usize, of: usize) -> impl Iterator<Item = (u32, &Way)> {
        let came = (0..).zip(&self.ways).filter_map(|(flow, way)| Some((flow, way.as_ref()?)));
        came.skip(part).step_by(of.max(1))
    }
}
