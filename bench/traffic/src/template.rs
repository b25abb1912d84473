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

use zsync_packet::checksum::Delta;

mod field;
mod image;
mod layers;
mod shaped;

pub use field::{Checks, Covers, Field, Place};
use image::image;
pub use layers::{Ip, Layers, Transport, Tunnel};
pub(crate) use shaped::Shaped;

/// The UDP port of VXLAN (RFC 7348 §8).
pub const VXLAN_PORT: u16 = 4789;
/// The most bytes that headers can take: two tags, IPv6, VXLAN, Ethernet, IPv6, TCP.
pub const MOST_HEADERS: usize = 22 + 40 + 16 + 14 + 40 + 20;
/// The IP protocol number of GRE.
pub(crate) const GRE: u8 = 47;

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
}

#[cfg(test)]
mod tests;
