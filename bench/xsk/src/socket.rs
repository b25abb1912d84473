//! One AF_XDP socket on one queue, through xsk-rs: its rings, its frames, and every `unsafe` of this crate.
//!
//! Owns: the frames. Keeps true, which is what xsk-rs asks of its callers: a frame's descriptor is at any time in exactly
//! one place (the free list, a ring of the kernel's, or a local of one function here), and it never leaves this file.
//! A packet is touched only while its frame is in a local.
//!
//! Kernel source for what is relied on: net/xdp/xsk.c (`__xsk_generic_xmit`, `xsk_rcv`), Documentation/networking/af_xdp.rst.
#![expect(unsafe_code, reason = "xsk-rs leaves the ownership of frames to its caller")]

use std::{
    error::Error,
    io,
    num::NonZeroU32,
    os::fd::{AsRawFd, BorrowedFd},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{SendFlags, send, sockopt, xdp::XdpOptionsFlags},
};
use xsk_rs::{
    CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue, Umem,
    config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig},
};

use crate::{
    error::{AttachedProgram, XskError},
    options::{BURST, Options},
};

/// include/uapi/linux/if_xdp.h, Linux 6.17: packets that one `sendto` may send in copy mode, 32 unless told.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// How long a queue that is taken may be about to be free.
const RELEASE: Duration = Duration::from_secs(1);
/// Bytes of an Ethernet header: a shorter frame is none.
const SHORTEST: usize = 14;

/// The frames of one socket, or of two that pass them to each other.
pub(crate) struct Memory {
    umem: Umem,
    frames: Vec<FrameDesc>,
}

impl Memory {
    pub(crate) fn new(device: &str, queue: u32, options: &Options, frames: u32) -> Result<Self, XskError> {
        let ring = queue_size(options.ring)?;
        let config = UmemConfig::builder()
            .fill_queue_size(ring)
            .comp_queue_size(ring)
            .build()
            .map_err(|e| socket_error(device, queue, "the UMEM's layout", &e))?;
        let frames = NonZeroU32::new(frames).unwrap_or(NonZeroU32::MIN);
        let (umem, frames) = Umem::new(config, frames, false)
            .map_err(|e| socket_error(device, queue, "registering a UMEM (it takes CAP_IPC_LOCK)", &e))?;
        Ok(Self { umem, frames })
    }

    /// `count` of the frames that no socket has yet.
    fn take(&mut self, count: usize) -> Vec<FrameDesc> {
        self.frames.split_off(self.frames.len().saturating_sub(count))
    }
}

/// See the module.
pub(crate) struct Socket {
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    completion: CompQueue,
    umem: Umem,
    free: Vec<FrameDesc>,
    zero_copy: bool,
    ring: u32,
    /// Packets that the device refused: completed, and not sent.
    refused: u64,
}

/// What the kernel made of a kick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kick {
    /// It took what it takes at once.
    Done,
    /// It has more to send, and stopped for now: no memory, the device is full, or its budget is spent.
    Again,
}

impl Socket {
    /// Binds: zero-copy if the driver can, else by copy. `frames` of `memory` become its own.
    pub(crate) fn bind(
        memory: &mut Memory,
        frames: usize,
        device: &str,
        queue: u32,
        options: &Options,
    ) -> Result<Self, XskError> {
        let ring = queue_size(options.ring)?;
        // Neither XDP_ZEROCOPY nor XDP_COPY: the kernel tries the one and falls back to the other (`xp_assign_dev`).
        let config = SocketConfig::builder()
            .rx_queue_size(ring)
            .tx_queue_size(ring)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let interface: Interface =
            device.parse().map_err(|_| XskError::NoDevice { device: device.to_owned() })?;
        // SAFETY: the flag that a shared UMEM asks for, INHIBIT_PROG_LOAD, is set.
        let opened = unsafe { xsk_rs::Socket::new(config, &memory.umem, &interface, queue) };
        let (tx, rx, rings) = opened.map_err(|error| match os_error(&error) {
            Some(libc::EBUSY) => XskError::QueueTaken {
                device: device.to_owned(),
                queue,
                program: AttachedProgram::of(device),
            },
            Some(libc::ENODEV) => XskError::NoDevice { device: device.to_owned() },
            _ => socket_error(device, queue, "binding an AF_XDP socket", &error),
        })?;
        let Some((fill, completion)) = rings else {
            return Err(XskError::QueueTaken { device: device.to_owned(), queue, program: None });
        };
        let mut socket = Self {
            tx,
            rx,
            fill,
            completion,
            umem: memory.umem.clone(),
            free: memory.take(frames),
            zero_copy: false,
            ring: options.ring,
            refused: 0,
        };
        let said = sockopt::xdp_options(socket.fd())
            .map_err(|e| socket_error(device, queue, "asking for the mode", &io::Error::from(e)))?;
        socket.zero_copy = said.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY);
        socket.raise_budget();
        Ok(socket)
    }

    pub(crate) fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the queue, which is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.tx.fd().as_raw_fd()) }
    }

    /// One system call for all of the ring, in copy mode. Kernels before 6.17 do not know it: they take more calls.
    fn raise_budget(&self) {
        let budget = self.ring;
        // SAFETY: the pointer is valid for the length given beside it.
        unsafe {
            libc::setsockopt(
                self.tx.fd().as_raw_fd(),
                libc::SOL_XDP,
                XDP_MAX_TX_SKB_BUDGET,
                (&raw const budget).cast(),
                size_of_val(&budget) as libc::socklen_t,
            );
        }
    }

    /// Has `fill` write up to `most` packets (a burst at most) and puts them into the TX ring; how many. `fill` gets a
    /// frame with whatever is in it, and says how long its packet is; 0 is none, and no more.
    pub(crate) fn send(&mut self, most: usize, mut fill: impl FnMut(&mut [u8]) -> usize) -> usize {
        let room = self.tx.nb_free(BURST as u32) as usize;
        let first = self.free.len() - most.min(room).min(BURST).min(self.free.len());
        let mut count = 0;
        for desc in &mut self.free[first..] {
            // SAFETY: a frame of this UMEM, and from the free list: nobody else has it.
            let mut data = unsafe { self.umem.data_mut(desc) };
            data.cursor().set_pos(usize::MAX);
            let length = fill(data.contents_mut());
            if length < SHORTEST {
                break;
            }
            data.cursor().set_pos(length);
            count += 1;
        }
        // SAFETY: frames of this UMEM; those that the kernel takes leave the free list below.
        let taken = unsafe { self.tx.produce(&self.free[first..first + count]) };
        self.free.drain(first..first + taken);
        taken
    }

    /// Frames whose packets the kernel is done with become free; how many.
    pub(crate) fn reclaim(&mut self) -> usize {
        let mut done = [FrameDesc::default(); BURST];
        let mut all = 0;
        loop {
            // SAFETY: they are of this socket's UMEM: the kernel returns what `send` handed to it.
            let count = unsafe { self.completion.consume(&mut done) };
            self.free.extend_from_slice(&done[..count]);
            all += count;
            if count < BURST {
                return all;
            }
        }
    }

    /// Tells the kernel that there is something to send, if it wants to be told.
    pub(crate) fn kick(&mut self) -> Result<Kick, Errno> {
        if !self.tx.needs_wakeup() {
            return Ok(Kick::Done);
        }
        match send(self.fd(), &[], SendFlags::DONTWAIT) {
            Ok(_) => Ok(Kick::Done),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => Ok(Kick::Again),
            Err(Errno::BUSY) => {
                // In copy mode this is one packet that the device dropped, and the end of the call.
                self.refused += 1;
                Ok(Kick::Again)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Packets in the TX ring that the kernel has not taken yet.
    pub(crate) fn pending(&mut self) -> u32 {
        self.ring - self.tx.nb_free_exact()
    }

    /// Packets that were refused so far: dropped by the device, or their descriptors found invalid.
    pub(crate) fn refused(&self) -> u64 {
        self.refused + self.tx.fd().xdp_statistics().map_or(0, |s| s.tx_invalid_descs())
    }

    /// Packets that came in and found no free frame, or no room in the ring.
    pub(crate) fn missed(&self) -> u64 {
        self.rx
            .fd()
            .xdp_statistics()
            // Not rx_fill_ring_empty_descs: what finds no frame is in rx_dropped, too (net/xdp/xsk.c, `__xsk_rcv`).
            .map_or(0, |s| s.rx_dropped() + s.rx_ring_full())
    }

    /// Gives the kernel frames to receive into.
    pub(crate) fn refill(&mut self) -> Result<(), Errno> {
        while !self.free.is_empty() {
            let room = self.fill.nb_free(BURST as u32) as usize;
            let first = self.free.len() - room.min(BURST).min(self.free.len());
            // SAFETY: frames of this UMEM; those that the kernel takes leave the free list here.
            let taken = unsafe { self.fill.produce(&self.free[first..]) };
            self.free.truncate(self.free.len() - taken);
            if taken == 0 {
                break;
            }
        }
        if self.fill.needs_wakeup() {
            match rustix::net::recv(self.fd(), &mut [0u8; 0][..], rustix::net::RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::BUSY | Errno::NOBUFS) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Shows up to a burst of received packets to `each`; how many.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(&[u8])) -> usize {
        let mut burst = [FrameDesc::default(); BURST];
        // SAFETY: they are of this socket's UMEM: the kernel returns what `refill` handed to it.
        let count = unsafe { self.rx.consume(&mut burst) };
        for desc in &burst[..count] {
            // SAFETY: a frame of this UMEM that the kernel has just given back.
            each(unsafe { self.umem.data(desc) }.contents());
        }
        self.free.extend_from_slice(&burst[..count]);
        count
    }

    /// Moves up to a burst of received packets into the TX ring of `out`, which has the same memory. `amend` may change a
    /// packet, and says whether it goes on. How many came in, and how many went on.
    pub(crate) fn forward(
        &mut self,
        out: &mut Self,
        mut amend: impl FnMut(&mut [u8]) -> bool,
    ) -> (usize, usize) {
        let room = out.tx.nb_free(BURST as u32) as usize;
        let mut burst = [FrameDesc::default(); BURST];
        // SAFETY: as in `receive`. Not more than fit the other ring: the rest waits where it is.
        let count = unsafe { self.rx.consume(&mut burst[..room.min(BURST)]) };
        let mut kept = 0;
        for at in 0..count {
            // SAFETY: as in `receive`; the frame is in `burst` alone.
            let goes_on = amend(unsafe { self.umem.data_mut(&mut burst[at]) }.contents_mut());
            if goes_on {
                burst.swap(kept, at);
                kept += 1;
            }
        }
        // SAFETY: `out` has the same memory: both come from `Forwarder::open`, which makes one.
        let taken = unsafe { out.tx.produce(&burst[..kept]) };
        self.free.extend_from_slice(&burst[taken..count]);
        (count, taken)
    }

    /// As [`Self::reclaim`], but the frames go back to where their packets came from.
    pub(crate) fn reclaim_to(&mut self, source: &mut Self) {
        self.reclaim();
        source.free.append(&mut self.free);
    }
}

/// Tries `open` anew for a while as long as the queue is taken: the kernel lets go of a closed socket's queue a little
/// later, from a work queue (net/xdp/xsk_buff_pool.c, `xp_put_pool`).
pub(crate) fn once_free<T>(mut open: impl FnMut() -> Result<T, XskError>) -> Result<T, XskError> {
    let end = Instant::now() + RELEASE;
    loop {
        match open() {
            Err(XskError::QueueTaken { .. }) if Instant::now() < end => sleep(Duration::from_millis(20)),
            result => return result,
        }
    }
}

fn queue_size(ring: u32) -> Result<QueueSize, XskError> {
    // xsk-rs takes zero for a power of two in some versions.
    QueueSize::new(ring).ok().filter(|_| (64..=1 << 15).contains(&ring)).ok_or_else(|| XskError::Option {
        what: "ring",
        value: ring.to_string(),
        limit: "a power of two from 64 to 32768",
    })
}

fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error();
        }
        cause = error.source();
    }
    None
}

fn socket_error(device: &str, queue: u32, what: &'static str, error: &(dyn Error + 'static)) -> XskError {
    let source =
        os_error(error).map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error);
    XskError::Socket { device: device.to_owned(), queue, what, source }
}
