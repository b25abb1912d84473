//! The way by system calls: what a burst sends is one `sendmmsg`, as long as the kernel refuses nothing.
//!
//! Owns nothing: the envelopes are the device's, so that none is made anew for a call. Refuses nothing but what the kernel does. Keeps
//! true: messages leave in their order, and none behind one that there is no room for. Kernel source: net/socket.c (`__sys_sendmmsg`
//! stops at a message that is refused, and says why if it is the first of a call).

#![allow(unsafe_code)]

use super::message::Envelope;
use super::run::Run;
use super::sender::{Answer, Kernel, PARTS, is_full};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use std::io::IoSlice;
use std::mem::MaybeUninit;

/// See the module.
pub struct Calls<'a> {
    /// The socket, and whether it is of IPv6.
    pub socket: BorrowedFd<'a>,
    pub v6: bool,
    /// [`PARTS`] of them.
    pub envelopes: &'a mut [Envelope],
}

impl Kernel for Calls<'_> {
    fn send(&mut self, runs: &[Run], parts: &[IoSlice<'_>], answers: &mut Vec<Answer>) -> u64 {
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; PARTS];
        let (mut rest, mut count) = (parts, 0);
        for ((run, envelope), header) in runs.iter().zip(&mut *self.envelopes).zip(&mut headers) {
            let Some((own, behind)) = rest.split_at_checked(run.count) else { break };
            rest = behind;
            // SAFETY: it leads to the envelope's own header, which is written.
            let msg_hdr = unsafe { *envelope.seal(self.v6, &run.way, own, run.segment_len()) };
            header.write(libc::mmsghdr { msg_hdr, msg_len: 0 });
            count += 1;
        }
        let (mut done, mut calls) = (0, 0);
        while let Some(waiting) = headers.get_mut(done..count).filter(|waiting| !waiting.is_empty()) {
            // SAFETY: these headers are written; envelopes and parts (an `IoSlice` is an `iovec`) outlive the call, which only reads
            // them, and their lengths are said.
            let result = unsafe {
                let first = waiting.as_mut_ptr().cast();
                libc::sendmmsg(self.socket.as_raw_fd(), first, waiting.len() as _, libc::MSG_DONTWAIT as _)
            };
            calls += 1;
            let Ok(gone) = usize::try_from(result) else {
                let error = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
                let without = if is_full(error) { waiting.len() } else { 1 };
                answers.extend((0..without).map(|_| Err(error)));
                done += without;
                continue;
            };
            answers.extend((0..gone).map(|_| Ok(())));
            done += gone;
        }
        calls
    }
}
