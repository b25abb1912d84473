//! `decap`: out of a tunnel. What comes from the tunnel's other end, to ours, is taken out of its outer headers; all else goes
//! on to the next stage, or is dropped as [`DropReason::TunnelUnknown`] when it is of the tunnel's kind and the stage is
//! strict.
//!
//! An inner IP packet goes on as if it had come in by the port that the outer one came in by: it is parsed anew, with all that
//! `parse` refuses. An inner frame leaves by the port that the tunnel is bridged to, if there is one.
//!
//! Owns nothing. Refuses: wrong checksums (zero is none: RFC 6935 §5 allows it over IPv6 too), what is cut off, and packets that met
//! congestion which they cannot be marked with (RFC 6040 §4.2). Outer fragments are left to the next stage: the other end
//! is to send packets that fit.

use crate::snapshot::PortFacts;
use crate::spec::tunnel::{Carrier, DecapSpec};
use crate::stage::{Cx, Stage};
use crate::stages::parse::Parse;
use crate::stages::tunnel::{Inner, ecn_out, ip_of_frame, set_ecn};
use std::net::IpAddr;
use zsync_packet::burst::{Burst, Facts, Fragment};
use zsync_packet::checksum::Sum;
use zsync_packet::header::{Gre, Ipv4, Ipv6, Udp, Vxlan, ether_type, ethernet, protocol};
use zsync_packet::verdict::{DropReason, PortId, Verdict};

/// See the module.
#[derive(Clone, Debug)]
pub struct Decap {
    spec: DecapSpec,
    ports: Vec<PortFacts>,
    parse: Parse,
}

impl Decap {
    /// Out of the tunnel of `spec`; `ports` by number.
    pub fn new(spec: DecapSpec, ports: Vec<PortFacts>) -> Self {
        Self { parse: Parse::new(ports.clone(), true), spec, ports }
    }
}

impl Stage for Decap {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let mut opened = false;
        for i in burst.undecided() {
            match self.look(burst.bytes(i), burst.facts(i)) {
                Look::Other => {}
                Look::Inside { at, len, ecn } => match self.open(burst, i, at, len, ecn) {
                    Ok(Some(to)) => burst.decide(i, Verdict::Transmit(to)),
                    Ok(None) => opened = true,
                    Err(reason) => burst.decide(i, Verdict::Drop(reason)),
                },
                Look::Refused(reason) => burst.decide(i, Verdict::Drop(reason)),
            }
        }
        if opened {
            // Of the undecided packets those that were opened are not parsed.
            self.parse.process(burst, cx);
        }
    }

    fn explain(&self, burst: &Burst, i: usize, _: u64, out: &mut Vec<String>) {
        let tunnel = &self.spec.tunnel;
        out.push(match self.look(burst.bytes(i), burst.facts(i)) {
            Look::Other => {
                format!("none of the packets of the tunnel {tunnel}: it stays as it is")
            }
            Look::Inside { len, .. } => {
                let to = if self.spec.to.is_some() {
                    ", which leave by the port that it is bridged to"
                } else {
                    ""
                };
                format!("from the tunnel {tunnel}: {len} bytes are inside{to}")
            }
            Look::Refused(DropReason::TunnelUnknown) => {
                format!("of the kind of the tunnel {tunnel}, to its end, and not of it")
            }
            Look::Refused(_) => format!("from the tunnel {tunnel}, but malformed"),
        });
    }
}

/// What a packet is to the tunnel.
enum Look {
    /// None of its packets.
    Other,
    /// What is inside starts at byte `at` and has `len` bytes; the outer header had these congestion bits.
    Inside {
        at: usize,
        len: usize,
        ecn: u8,
    },
    Refused(DropReason),
}

/// An outer packet between the tunnel's ends.
struct Outer<'a> {
    protocol: u8,
    payload: &'a [u8],
    addresses: Sum,
    ecn: u8,
    from_remote: bool,
}

impl Decap {
    fn look(&self, bytes: &[u8], facts: &Facts) -> Look {
        if facts.fragment != Fragment::Whole {
            return Look::Other;
        }
        let packet = bytes.get(usize::from(facts.l3)..).unwrap_or(&[]);
        let Some(outer) = self.outer(packet, facts.version) else { return Look::Other };
        let unknown = if self.spec.strict { Look::Refused(DropReason::TunnelUnknown) } else { Look::Other };
        let malformed = Look::Refused(DropReason::TunnelMalformed);
        let inside = match self.spec.tunnel.carrier {
            Carrier::Vxlan { vni, port } => {
                if outer.protocol != protocol::UDP {
                    return Look::Other;
                }
                let Ok(udp) = Udp::parse(outer.payload) else { return Look::Other };
                if udp.destination_port() != port {
                    return Look::Other;
                }
                if !outer.from_remote {
                    return unknown;
                }
                let Ok(header) = Vxlan::parse(udp.payload()) else { return malformed };
                if header.vni() != vni {
                    return unknown;
                }
                if udp.verify_checksum(outer.addresses).is_err() {
                    return malformed;
                }
                header.payload()
            }
            Carrier::Gre { key } => {
                if outer.protocol != protocol::GRE {
                    return Look::Other;
                }
                if !outer.from_remote {
                    return unknown;
                }
                let Ok(header) = Gre::parse(outer.payload) else { return malformed };
                let of_kind = matches!(header.protocol(), ether_type::IPV4 | ether_type::IPV6);
                if header.key() != key || !of_kind {
                    return unknown;
                }
                if header.verify_checksum().is_err() {
                    return malformed;
                }
                header.payload()
            }
            Carrier::Ip => {
                if !matches!(outer.protocol, protocol::IPIP | protocol::IPV6) {
                    return Look::Other;
                }
                if !outer.from_remote {
                    return unknown;
                }
                outer.payload
            }
        };
        // What is inside is a part of the frame.
        let Some(at) = inside.as_ptr().addr().checked_sub(bytes.as_ptr().addr()) else { return malformed };
        Look::Inside { at, len: inside.len(), ecn: outer.ecn }
    }

    /// The outer packet, if it is to our end.
    fn outer<'a>(&self, packet: &'a [u8], version: u8) -> Option<Outer<'a>> {
        match (self.spec.tunnel.local, self.spec.tunnel.remote, version) {
            (IpAddr::V4(local), IpAddr::V4(remote), 4) => {
                let ip = Ipv4::parse(packet).ok().filter(|ip| ip.destination() == local)?;
                Some(Outer {
                    protocol: ip.protocol(),
                    payload: ip.payload(),
                    addresses: ip.address_sum(),
                    ecn: ip.ecn(),
                    from_remote: ip.source() == remote,
                })
            }
            (IpAddr::V6(local), IpAddr::V6(remote), 6) => {
                let ip = Ipv6::parse(packet).ok().filter(|ip| ip.destination() == local)?;
                let upper = ip.upper().ok().filter(|upper| !upper.is_fragment())?;
                Some(Outer {
                    protocol: upper.protocol(),
                    payload: upper.payload(),
                    addresses: ip.address_sum(),
                    ecn: ip.ecn(),
                    from_remote: ip.source() == remote,
                })
            }
            _ => None,
        }
    }

    /// Leaves what is inside; gives the port that it leaves by, if that is known.
    fn open(
        &self,
        burst: &mut Burst,
        i: usize,
        at: usize,
        len: usize,
        ecn: u8,
    ) -> Result<Option<PortId>, DropReason> {
        const MALFORMED: DropReason = DropReason::TunnelMalformed;
        let mac = self.ports.get(usize::from(burst.port(i).0)).ok_or(DropReason::NoSuchPort)?.mac;
        let inside = burst.bytes(i).get(at..at + len).ok_or(MALFORMED)?;
        let frames = self.spec.tunnel.carrier.carries_frames();
        if frames && len < ethernet::HEADER_LEN {
            return Err(MALFORMED);
        }
        let l3 = if frames { ip_of_frame(inside) } else { Some(0) };
        let inner = l3.and_then(|l3| Inner::of(inside.get(l3..)?));
        if !frames && inner.is_none() {
            return Err(MALFORMED);
        }
        let version = inside.first().map_or(0, |first| first >> 4);
        let group = inside.first().is_some_and(|first| first & 1 != 0);
        if let (Some(l3), Some(inner)) = (l3, inner) {
            let marked = ecn_out(inner.tos & 3, ecn).ok_or(MALFORMED)?;
            if marked != inner.tos & 3 {
                set_ecn(burst.bytes_mut(i).get_mut(at + l3..).unwrap_or_default(), marked);
            }
        }
        if !burst.set_len(i, at + len) || !burst.trim_front(i, at) {
            return Err(MALFORMED);
        }
        if frames {
            if let Some(to) = self.spec.to {
                *burst.facts_mut(i) = Facts { mark: burst.facts(i).mark, ..Facts::default() };
                return Ok(Some(PortId(to.0)));
            }
            // The tunnel's end is a station of the inner network, and all that is sent into the tunnel is for it.
            if !group && let Some(to) = burst.bytes_mut(i).get_mut(..6) {
                to.copy_from_slice(&mac);
            }
            // A station behind another tunnel, which went through that one unread, is none of the port's: nobody is told anything there.
            if burst.facts(i).tunnel > 0
                && let Some(from) = burst.bytes_mut(i).get_mut(6..12)
            {
                from.fill(0);
            }
        } else {
            // There was an Ethernet header ahead of the outer packet, and more.
            let bytes = burst.prepend(i, ethernet::HEADER_LEN).ok_or(DropReason::NoHeadroom)?;
            let kind = if version == 4 { ether_type::IPV4 } else { ether_type::IPV6 };
            if let Some(header) = bytes.first_chunk_mut::<{ ethernet::HEADER_LEN }>() {
                header[..6].copy_from_slice(&mac);
                header[6..12].fill(0);
                header[12..].copy_from_slice(&kind.to_be_bytes());
            }
        }
        let known = *burst.facts(i);
        *burst.facts_mut(i) = Facts { vlan: known.vlan, mark: known.mark, ..Facts::default() };
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
