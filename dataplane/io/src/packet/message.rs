//! The two system calls of a packet socket, `recvmmsg` and `sendmmsg`, with what goes beside a frame.
//!
//! Owns nothing. Refuses nothing but what the kernel does, and frames that had no room (their length is 0). Keeps true: a call gets
//! pointers to memory that outlives it, with the lengths of that memory; what the kernel writes beside a frame is read as bytes, within
//! the length that it said. Kernel source: net/packet/af_packet.c (`packet_recvmsg`, `packet_snd`).

#![allow(unsafe_code)]

use super::held::{SLOT, SLOTS};
use crate::virtio::HEADER_LEN;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use zsync_packet::burst::BURST;

/// Bytes of a `struct cmsghdr`: a length of the machine's width, a level, a type.
const HEADER: usize = size_of::<libc::cmsghdr>();
/// Bytes of a `struct tpacket_auxdata`: status, length, length that was taken, two offsets, tag, the tag's protocol.
const AUXILIARY: usize = size_of::<libc::tpacket_auxdata>();
/// Room for one of it.
const ROOM: usize = (HEADER + AUXILIARY).next_multiple_of(8);

/// No frame needs anything done to it by the kernel.
static PLAIN: [u8; HEADER_LEN] = [0; HEADER_LEN];

/// What came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// Bytes of virtio's header and the frame; 0: it was longer than its room.
    pub len: usize,
    /// The VLAN tag that the kernel has taken off, as it was on the wire.
    pub tag: Option<[u8; 4]>,
}

/// What the kernel writes beside a frame.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Beside([u8; ROOM]);

impl Beside {
    /// The tag, if the first `len` bytes tell of one.
    fn tag(&self, len: usize) -> Option<[u8; 4]> {
        let said = self.0.get(..len)?;
        let level = i32::from_ne_bytes(*said.get(HEADER - 8..)?.first_chunk()?);
        let kind = i32::from_ne_bytes(*said.get(HEADER - 4..)?.first_chunk()?);
        let data = said.get(HEADER..HEADER + AUXILIARY)?;
        let status = u32::from_ne_bytes(*data.first_chunk()?);
        if (level, kind) != (libc::SOL_PACKET, libc::PACKET_AUXDATA)
            || status & libc::TP_STATUS_VLAN_VALID == 0
        {
            return None;
        }
        let number = |at| Some(u16::from_ne_bytes(*data.get(at..)?.first_chunk()?));
        let [a, b] = number(16)?.to_be_bytes();
        // Before Linux 3.14 nothing was said of it: 802.1Q.
        let has_protocol = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
        let [c, d] = if has_protocol { number(18)?.to_be_bytes() } else { [0x81, 0x00] };
        Some([c, d, a, b])
    }
}

/// Takes frames from the socket, without waiting, as many as `came` has room for, each to its [`SLOT`] of `buffer`; how many.
///
/// # Errors
/// `EAGAIN`: there is none. `EINVAL`: there was one that virtio's header has no word for. Any other: what the netdev met, or a
/// signal; the next call may bring one.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], came: &mut [Came]) -> Result<usize, Errno> {
    // SAFETY: all-zero bytes are valid structures of these: numbers and null pointers.
    let (mut parts, mut headers): ([libc::iovec; SLOTS], [libc::mmsghdr; SLOTS]) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let mut beside = [Beside([0; ROOM]); SLOTS];
    let mut want = 0;
    let rooms = buffer.chunks_exact_mut(SLOT).take(came.len());
    for (((room, part), header), beside) in rooms.zip(&mut parts).zip(&mut headers).zip(&mut beside) {
        *part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = beside.0.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = ROOM as _;
        want += 1;
    }
    // SAFETY: the first `want` headers point to parts, rooms and ancillary data that are local or borrowed for longer than the
    // call, for writing, and their lengths are said.
    let result = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            want,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    let count = usize::try_from(result).map_err(|_| last())?;
    for ((came, header), beside) in came.iter_mut().zip(&headers).zip(&beside).take(count) {
        let is_whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
        came.len = if is_whole { header.msg_len as usize } else { 0 };
        came.tag = beside.tag(header.msg_hdr.msg_controllen.min(ROOM));
    }
    Ok(count)
}

/// Sends frames as they are, the first [`BURST`] of them, without waiting; how many have gone.
///
/// # Errors
/// For the first: `EAGAIN`, `ENOBUFS`: not now. Any other: the kernel does not send this (`EMSGSIZE`: it is longer than the netdev's).
pub fn send<'f>(socket: BorrowedFd<'_>, frames: impl Iterator<Item = &'f [u8]>) -> Result<usize, Errno> {
    // SAFETY: all-zero bytes are valid structures of these: numbers and null pointers.
    let (mut parts, mut headers): ([[libc::iovec; 2]; BURST], [libc::mmsghdr; BURST]) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let mut count = 0;
    let part =
        |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    for ((frame, parts), header) in frames.zip(&mut parts).zip(&mut headers) {
        *parts = [part(&PLAIN), part(frame)];
        header.msg_hdr.msg_iov = parts.as_mut_ptr();
        header.msg_hdr.msg_iovlen = parts.len() as _;
        count += 1;
    }
    // SAFETY: the first `count` headers point to parts that are local, and these to frames that are borrowed for longer than the
    // call, which only reads them; their lengths are said.
    let result =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) };
    usize::try_from(result).map_err(|_| last())
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u32, tci: u16, protocol: u16, kind: i32) -> Beside {
        let mut beside = Beside([0; ROOM]);
        beside.0[..size_of::<usize>()].copy_from_slice(&(HEADER + AUXILIARY).to_ne_bytes());
        beside.0[HEADER - 8..HEADER - 4].copy_from_slice(&libc::SOL_PACKET.to_ne_bytes());
        beside.0[HEADER - 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        beside.0[HEADER..HEADER + 4].copy_from_slice(&status.to_ne_bytes());
        beside.0[HEADER + 16..HEADER + 18].copy_from_slice(&tci.to_ne_bytes());
        beside.0[HEADER + 18..HEADER + 20].copy_from_slice(&protocol.to_ne_bytes());
        beside
    }

    #[test]
    fn a_tag_that_was_taken_off_is_as_it_was_on_the_wire() {
        assert_eq!(std::mem::offset_of!(libc::tpacket_auxdata, tp_vlan_tci), 16);
        assert_eq!(std::mem::offset_of!(libc::tpacket_auxdata, tp_vlan_tpid), 18);
        let (valid, both) = (libc::TP_STATUS_VLAN_VALID, 0x50);
        assert_eq!(both, valid | libc::TP_STATUS_VLAN_TPID_VALID);
        let tag = |status, kind| said(status, 0x6064, 0x88a8, kind).tag(HEADER + AUXILIARY);
        assert_eq!(tag(both, libc::PACKET_AUXDATA), Some([0x88, 0xa8, 0x60, 0x64]));
        assert_eq!(tag(valid, libc::PACKET_AUXDATA), Some([0x81, 0x00, 0x60, 0x64]));
        assert_eq!(tag(1, libc::PACKET_AUXDATA), None);
        assert_eq!(tag(both, libc::PACKET_STATISTICS), None);
        for len in 0..HEADER + AUXILIARY {
            assert_eq!(said(both, 1, 1, libc::PACKET_AUXDATA).tag(len), None, "{len}");
        }
    }
}
