//! The header ahead of each packet of a TUN device that was opened with `IFF_VNET_HDR`, and of a packet socket with
//! `PACKET_VNET_HDR`: `struct virtio_net_hdr` (include/uapi/linux/virtio_net.h; virtio 1.2 §5.1.6).
//!
//! Owns the layout: 10 bytes, numbers in the machine's own order, as a device has them to which nobody said `TUNSETVNETLE`
//! (drivers/net/tun_vnet.h), and as a packet socket always has (net/packet/af_packet.c, `vio_le`). Refuses nothing: whether the
//! numbers fit their packet is asked where they are used: [`split`], [`frame`] and [`merge`].

pub mod frame;
pub mod merge;
pub mod split;

/// Bytes of the header: `TUNSETVNETHDRSZ` must have been told so, where the device is not new.
pub const HEADER_LEN: usize = 10;

/// The checksum from `start` on is not filled in: its field has the sum of the pseudo-header.
pub const NEEDS_CHECKSUM: u8 = 1;
/// The checksums were found right.
pub const DATA_VALID: u8 = 2;

/// Kinds of packets that are more than one: `gso` without [`GSO_ECN`].
pub const GSO_NONE: u8 = 0;
/// A TCP segment over IPv4 that is to be cut.
pub const GSO_TCP_V4: u8 = 1;
/// The same over IPv6.
pub const GSO_TCP_V6: u8 = 4;
/// UDP datagrams of one flow, behind one header.
pub const GSO_UDP: u8 = 5;
/// Beside a kind of TCP: the first segment says that the congestion window was reduced.
pub const GSO_ECN: u8 = 0x80;

/// What the header says of the packet behind it. Offsets count from the packet's first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// [`NEEDS_CHECKSUM`], [`DATA_VALID`].
    pub flags: u8,
    /// [`GSO_NONE`] and its like.
    pub gso: u8,
    /// Bytes of all headers. The kernel gives more where its own buffer begins with more (`virtio_net_hdr_from_skb`).
    pub headers: u16,
    /// Bytes of payload in each piece but the last.
    pub size: u16,
    /// Where the sum begins.
    pub start: u16,
    /// Where its field is, counted from `start`.
    pub offset: u16,
}

impl Header {
    /// The same of a packet without the first `link` bytes.
    ///
    /// # Errors
    /// `None`: it speaks of those.
    pub fn behind(self, link: u16) -> Option<Self> {
        let less = |number: u16, is_said: bool| if is_said { number.checked_sub(link) } else { Some(number) };
        let headers = less(self.headers, self.gso != GSO_NONE)?;
        Some(Self { headers, start: less(self.start, self.flags & NEEDS_CHECKSUM != 0)?, ..self })
    }

    /// The same of a packet with `link` bytes more ahead of it; the opposite of [`Self::behind`], for a header that says all its numbers.
    pub fn ahead(self, link: u16) -> Self {
        Self { headers: self.headers.saturating_add(link), start: self.start.saturating_add(link), ..self }
    }

    /// From the device's bytes.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Self {
        let [flags, gso, a, b, c, d, e, f, g, h] = *bytes;
        let number = |a, b| u16::from_ne_bytes([a, b]);
        let (headers, size) = (number(a, b), number(c, d));
        Self { flags, gso, headers, size, start: number(e, f), offset: number(g, h) }
    }

    /// As the device has it.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [a, b] = self.headers.to_ne_bytes();
        let [c, d] = self.size.to_ne_bytes();
        let [e, f] = self.start.to_ne_bytes();
        let [g, h] = self.offset.to_ne_bytes();
        [self.flags, self.gso, a, b, c, d, e, f, g, h]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lie_as_the_machine_has_them() {
        let header =
            Header { flags: 1, gso: GSO_TCP_V6 | GSO_ECN, headers: 60, size: 1440, start: 40, offset: 16 };
        let bytes = header.to_bytes();
        assert_eq!((bytes[0], bytes[1]), (1, 0x84));
        assert_eq!([&bytes[2..4], &bytes[4..6]].concat(), [60_u16, 1440].map(u16::to_ne_bytes).concat());
        assert_eq!(Header::parse(&bytes), header);
        let behind = Header { headers: 46, start: 26, ..header };
        assert_eq!((header.behind(14), header.behind(41)), (Some(behind), None));
        assert_eq!(behind.ahead(14), header);
        assert_eq!(Header::default().behind(14), Some(Header::default()));
        assert_eq!(Header::default().to_bytes(), [0; HEADER_LEN]);
    }
}
