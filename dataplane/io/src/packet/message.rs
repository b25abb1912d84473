//! The two system calls of a packet socket, `recvmmsg` and `sendmmsg`, with what goes beside a frame.
//!
//! Owns nothing. Refuses nothing but what the kernel does, and frames that had no room (their length is 0). Keeps true: nothing is
//! written for messages that a call has not; a call gets
//! pointers to memory that outlives it, with the lengths of that memory; what the kernel writes beside a frame is read as bytes, within
//! the length that it said. Kernel source: net/packet/af_packet.c (`packet_recvmsg`, `packet_snd`).

#![allow(unsafe_code)]

use super::held::{SLOT, SLOTS};
use crate::virtio::HEADER_LEN;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use std::mem::MaybeUninit;
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
#[derive(Clone, Copy, Debug)]
pub struct Beside([u8; ROOM]);

impl Beside {
    /// Nothing yet.
    pub const EMPTY: Self = Self([0; ROOM]);

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
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    beside: &mut [Beside; SLOTS],
    came: &mut [Came],
) -> Result<usize, Errno> {
    let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; SLOTS];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; SLOTS];
    let mut want = 0;
    let rooms = buffer.chunks_exact_mut(SLOT).take(came.len());
    for (((room, part), header), beside) in rooms.zip(&mut parts).zip(&mut headers).zip(&mut *beside) {
        let part = part.write(libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() });
        let header = header.write(message(std::slice::from_mut(part)));
        header.msg_hdr.msg_control = beside.0.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = ROOM as _;
        want += 1;
    }
    // SAFETY: the first `want` headers are written; they point to parts, rooms and ancillary data that are local or borrowed for
    // longer than the call, for writing, and their lengths are said.
    let result = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            want,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    let count = usize::try_from(result).map_err(|_| last())?;
    for ((came, header), beside) in came.iter_mut().zip(&headers).zip(beside).take(count) {
        // SAFETY: the kernel returns no more than the `want` that it was given, and these are written.
        let header = unsafe { header.assume_init_ref() };
        let is_whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
        came.len = if is_whole { header.msg_len as usize } else { 0 };
        came.tag = beside.tag(header.msg_hdr.msg_controllen.min(ROOM));
    }
    Ok(count)
}

/// What became of frames that were to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames, from the first on, that have gone or never will.
    pub done: usize,
    /// Those of them that the kernel does not send, a bit each, the first frame's the lowest.
    pub refused: u64,
    /// Frames that an earlier receive lost because virtio's header has no word for them (its `EINVAL`).
    pub unreadable: u64,
    /// System calls.
    pub calls: u64,
}

const _: () = assert!(BURST <= u64::BITS as usize);

/// Sends frames as they are, the first [`BURST`] of them, without waiting. What is behind the `done` ones is not sent now, for want of room.
///
/// A socket keeps an error that it met between two calls for the next one, whatever that asks for (`sock_alloc_send_pskb`): that of a netdev
/// that went down and up again, or of a frame that a receive stopped at (`do_recvmmsg`). So a frame is refused if it is so twice, or
/// is longer than the netdev's.
pub fn send<'f>(socket: BorrowedFd<'_>, frames: impl Iterator<Item = &'f [u8]>) -> Sent {
    let mut parts = [const { MaybeUninit::<[libc::iovec; 2]>::uninit() }; BURST];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BURST];
    let mut count = 0;
    let part =
        |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    for ((frame, parts), header) in frames.zip(&mut parts).zip(&mut headers) {
        header.write(message(parts.write([part(&PLAIN), part(frame)])));
        count += 1;
    }
    let mut sent = Sent::default();
    let mut before = None;
    while let Some(rest) = headers.get_mut(sent.done..count).filter(|rest| !rest.is_empty()) {
        sent.calls += 1;
        // SAFETY: these headers are written; they point to parts that are local, and these to frames that are borrowed for longer
        // than the call, which only reads them; their lengths are said.
        let result = unsafe {
            let first = rest.as_mut_ptr().cast();
            libc::sendmmsg(socket.as_raw_fd(), first, rest.len() as _, libc::MSG_DONTWAIT as _)
        };
        match usize::try_from(result).map_err(|_| last()) {
            Ok(gone) => {
                sent.unreadable += u64::from(before.take() == Some(Errno::INVAL));
                sent.done += gone;
            }
            Err(Errno::AGAIN | Errno::NOBUFS) => break,
            Err(Errno::INTR) => {}
            Err(error) if error != Errno::MSGSIZE && before.is_none() => before = Some(error),
            Err(_) => {
                before = None;
                sent.refused |= 1 << sent.done;
                sent.done += 1;
            }
        }
    }
    sent
}

/// A message of these parts, and nothing else.
fn message(parts: &mut [libc::iovec]) -> libc::mmsghdr {
    // SAFETY: all-zero bytes are a valid structure of this kind: numbers and null pointers.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = parts.as_mut_ptr();
    header.msg_hdr.msg_iovlen = parts.len() as _;
    header
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;

    fn said(status: u32, tci: u16, protocol: u16, kind: i32) -> Beside {
        let mut beside = Beside::EMPTY;
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

    /// A socket of UDP that may not cut what it sends has a longest frame, as a netdev has.
    #[test]
    fn frames_that_are_too_long_are_found_among_the_others_and_asked_for_once() {
        let host = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let ours = std::net::UdpSocket::bind("[::1]:0").unwrap();
        ours.connect(host.local_addr().unwrap()).unwrap();
        for (option, value) in [(libc::IPV6_MTU, 1280), (libc::IPV6_DONTFRAG, 1)] {
            // SAFETY: the option is a number, and its length is said.
            let result = unsafe {
                let value: *const i32 = &raw const value;
                libc::setsockopt(ours.as_raw_fd(), libc::IPPROTO_IPV6, option, value.cast(), 4)
            };
            assert_eq!(result, 0);
        }
        let lens = [1400, 60, 61, 1401, 1402, 62, 1403];
        let frames: Vec<Vec<u8>> = lens.iter().map(|len| vec![*len as u8; *len]).collect();
        let sent = send(ours.as_fd(), frames.iter().map(Vec::as_slice));
        // Each refusal ends a call, and a call that has sent something does not say why it went no further.
        assert_eq!(sent, Sent { done: 7, refused: 0b101_1001, unreadable: 0, calls: 6 });
        let mut read = [0; 2000];
        for len in [60, 61, 62] {
            assert_eq!(host.recv(&mut read).unwrap(), HEADER_LEN + len);
            assert_eq!(read[HEADER_LEN..HEADER_LEN + len], vec![len as u8; len]);
        }
        assert_eq!(send(ours.as_fd(), std::iter::empty()), Sent::default());
    }
}
