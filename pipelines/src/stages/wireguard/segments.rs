//! The longest TCP segment that fits into a tunnel.
//!
//! Owns nothing. Keeps true: only what a SYN says is lowered, and its checksum with it.

use zsync_packet::header::{TcpMut, protocol};

/// Lowers what a TCP SYN says of the longest segment to what fits into the tunnel.
#[inline]
pub(super) fn clamp(packet: &mut [u8], mtu: usize) {
    const SYN: u8 = 0x02;
    let at = match packet.first().map(|first| first >> 4) {
        Some(4) if packet.get(9) == Some(&protocol::TCP) && packet[6] & 0x1f == 0 && packet[7] == 0 => {
            usize::from(packet[0] & 0xf) * 4
        }
        Some(6) if packet.get(6) == Some(&protocol::TCP) => 40,
        _ => return,
    };
    if packet.get(at + 13).is_none_or(|flags| flags & SYN == 0) {
        return;
    }
    let headers = if packet[0] >> 4 == 4 { 40 } else { 60 };
    if let Some(Ok(mut segment)) = packet.get_mut(at..).map(TcpMut::parse) {
        segment.clamp_max_segment_size((mtu.saturating_sub(headers)) as u16);
    }
}
