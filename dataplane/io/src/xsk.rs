//! AF_XDP: one socket, one queue of a netdev, four rings.
//!
//! Owns: the rings of a socket that somebody else (the control process) opened, bound and filled; the mapping of them; the
//! decision when the kernel is woken up. Refuses: descriptors that name no frame of ours, leave their frame, or name a
//! frame that the kernel did not have (counted, never used). Keeps true: every frame in a ring is on the ledger as `Fill`
//! or `Tx`, marked before it is submitted, so that a successor finds them all (see [`zsync_packet::ledger`]).
//!
//! Kernel sources for what is relied on: net/xdp/xsk.c (`xsk_sendmsg`, `__xsk_generic_xmit`), net/xdp/xsk_queue.h,
//! include/uapi/linux/if_xdp.h.

use crate::device::{Arrived, Device, DeviceCounters};
use crate::mapping::map;
use crate::ring::{Consumer, Descriptor, Producer, RingOffsets};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{RecvFlags, SendFlags};
use std::sync::atomic::{AtomicU32, Ordering};
use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::frame::{Arena, Frame};
use zsync_packet::ledger::Owner;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;

/// Packets that wait before the kernel is woken up to send. A wake-up costs a system call (~100 ns), a packet on the copy
/// path some 300 ns: at 32 the call is lost in the noise. It is also what the kernel sends for one call by default
/// (`TX_BATCH_SIZE`, net/xdp/xsk.c).
pub const KICK_AT: u32 = 32;
/// Nanoseconds that a packet waits for company before it is sent alone: well under what a wake-up from idle takes.
pub const KICK_AFTER: u64 = 20_000;

/// Wake-ups in a row for one flush: enough for eight bursts where a call sends 32 packets.
const KICKS: u32 = 16;

/// What the rings of a socket are like, as its opener made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XskConfig {
    /// The port that its queue belongs to.
    pub port: PortId,
    /// Entries of the RX ring.
    pub rx: u32,
    /// Entries of the TX ring.
    pub tx: u32,
    /// Entries of the fill ring.
    pub fill: u32,
    /// Entries of the completion ring.
    pub completion: u32,
    /// Number of the fill ring's mark on the ledger; the TX ring's is the next one.
    pub mark: usize,
    /// The socket prefers busy polling: the kernel's NAPI runs when we ask, not on interrupts.
    pub busy_poll: bool,
}

/// Why a socket's rings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum XskError {
    /// A system call on the socket failed.
    #[error("port {port}: {what} of its AF_XDP socket failed: {errno}")]
    Socket {
        /// The port's number.
        port: u16,
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel's offsets do not fit the sizes in the configuration.
    #[error("port {port}: its {ring} ring does not have {size} entries, as the control process said")]
    Ring {
        /// The port's number.
        port: u16,
        /// Which ring.
        ring: &'static str,
        /// Entries expected.
        size: u32,
    },
    /// The ledger has no room for its marks.
    #[error("port {port}: mark {mark} is beyond the ledger's")]
    Mark {
        /// The port's number.
        port: u16,
        /// The mark's number.
        mark: usize,
    },
}

/// One AF_XDP socket. See the module.
pub struct Xsk {
    socket: OwnedFd,
    config: XskConfig,
    rx: Consumer<Descriptor>,
    tx: Producer<Descriptor>,
    fill: Producer<u64>,
    completion: Consumer<u64>,
    /// Submitted since the kernel was last woken up, and when the first of them was.
    waiting: u32,
    waiting_since: u64,
    /// The pool was empty when the fill ring had room.
    fill_short: bool,
    /// Packets in the RX ring whose first lines were asked for already.
    expected: u32,
    /// Frames on their way between pool and ring, within a call; has room for a burst.
    moving: Vec<Frame>,
    counters: DeviceCounters,
}

impl Xsk {
    /// Maps the rings of a socket that is bound already.
    ///
    /// # Errors
    /// It is no such socket, or its rings are not as `config` says.
    pub fn open(socket: OwnedFd, config: XskConfig) -> Result<Self, XskError> {
        let port = config.port.0;
        let failed = |what| move |errno| XskError::Socket { port, what, errno };
        let wrong = |ring, size| XskError::Ring { port, ring, size };
        let offsets = sockopt::xdp_mmap_offsets(&socket).map_err(failed("asking for the ring offsets"))?;
        let place = |of: &rustix::net::xdp::XdpRingOffset| RingOffsets {
            producer: of.producer as usize,
            consumer: of.consumer as usize,
            flags: of.flags.unwrap_or(of.producer) as usize,
            entries: of.desc as usize,
        };
        let descriptors = |offset: RingOffsets, size: u32, page, what| {
            let len = offset.entries + size as usize * size_of::<Descriptor>();
            map(socket.as_fd(), len, page).map_err(failed(what))
        };
        let addresses = |offset: RingOffsets, size: u32, page, what| {
            let len = offset.entries + size as usize * size_of::<u64>();
            map(socket.as_fd(), len, page).map_err(failed(what))
        };
        let (rx, tx) = (place(&offsets.rx), place(&offsets.tx));
        let (fill, completion) = (place(&offsets.fr), place(&offsets.cr));
        let rx_memory = descriptors(rx, config.rx, 0, "mapping the RX ring")?;
        let tx_memory = descriptors(tx, config.tx, libc::XDP_PGOFF_TX_RING as u64, "mapping the TX ring")?;
        let fill_memory =
            addresses(fill, config.fill, libc::XDP_UMEM_PGOFF_FILL_RING, "mapping the fill ring")?;
        let completion_memory = addresses(
            completion,
            config.completion,
            libc::XDP_UMEM_PGOFF_COMPLETION_RING,
            "mapping the completion ring",
        )?;
        Ok(Self {
            rx: Consumer::new(rx_memory, rx, config.rx).ok_or(wrong("RX", config.rx))?,
            tx: Producer::new(tx_memory, tx, config.tx).ok_or(wrong("TX", config.tx))?,
            fill: Producer::new(fill_memory, fill, config.fill).ok_or(wrong("fill", config.fill))?,
            completion: Consumer::new(completion_memory, completion, config.completion)
                .ok_or(wrong("completion", config.completion))?,
            socket,
            config,
            waiting: 0,
            waiting_since: 0,
            // A predecessor may have left the ring dry.
            fill_short: true,
            expected: 0,
            moving: Vec::with_capacity(BURST),
            counters: DeviceCounters::default(),
        })
    }

    /// During a takeover: tells `pool` which frames lie in the rings, whatever the dead owner had come to.
    ///
    /// What it had taken from a ring without releasing it is the ring's still; what it had marked and written without
    /// submitting it never reached the kernel.
    ///
    /// # Errors
    /// The ledger has no such mark.
    pub fn recover(&mut self, pool: &mut Pool) -> Result<(), XskError> {
        let (fill_mark, tx_mark) = (self.load_mark(pool, 0)?, self.load_mark(pool, 1)?);
        let arena = pool.arena().clone();
        let mut found = |address: u64, owner| {
            if let Some((number, _)) = arena.locate(address) {
                pool.found(number, owner);
            }
        };
        let (_, unsubmitted) = self.fill.leftovers(fill_mark);
        unsubmitted.into_iter().for_each(|address| found(address, Owner::Burst));
        let (_, unsubmitted) = self.tx.leftovers(tx_mark);
        unsubmitted.into_iter().for_each(|descriptor| found(descriptor.address, Owner::Burst));
        for ahead in 0..self.rx.peek(self.config.rx) {
            found(self.rx.read(ahead).address, Owner::Fill);
        }
        for ahead in 0..self.completion.peek(self.config.completion) {
            found(self.completion.read(ahead), Owner::Tx);
        }
        // What the marks told is in the ledger now. Left as they are, they would tell it again after the next crash.
        set_mark(pool.mark(self.config.mark), self.fill.index_after(0));
        set_mark(pool.mark(self.config.mark + 1), self.tx.index_after(0));
        // The dead owner may have submitted packets without waking the kernel up.
        self.waiting = self.tx.pending();
        Ok(())
    }

    fn load_mark(&self, pool: &Pool, which: usize) -> Result<u32, XskError> {
        let mark = self.config.mark + which;
        let word = pool.mark(mark).ok_or(XskError::Mark { port: self.config.port.0, mark })?;
        Ok(word.load(Ordering::Acquire))
    }

    /// Gives the kernel frames to receive into: with those in the RX ring, as many as the fill ring has entries. More would
    /// hold no more packets, and would all go round through the caches.
    fn refill(&mut self, pool: &mut Pool, want: u32) {
        let with_kernel = self.fill.index_after(0).wrapping_sub(self.rx.index());
        let room = self.fill.reserve(want).min(self.config.fill.saturating_sub(with_kernel));
        // The ring may have room for more than this.
        self.fill_short = room == want;
        if room == 0 {
            return;
        }
        let moving = &mut self.moving;
        let count = pool.alloc_many(room as usize, |frame| moving.push(frame)) as u32;
        for (ahead, frame) in moving.iter().enumerate() {
            self.fill.write(ahead as u32, pool.arena().address(frame));
        }
        if count < room {
            self.counters.fill_starved += 1;
            self.fill_short = true;
        }
        set_mark(pool.mark(self.config.mark), self.fill.index_after(count));
        pool.give_many(self.moving.drain(..), Owner::Fill);
        self.fill.submit(count);
        self.fill.expect(BURST as u32);
    }

    /// Takes the frame of a received descriptor, if it is one of ours and the packet lies inside of it.
    fn receive(&mut self, pool: &mut Pool, descriptor: Descriptor) -> Option<Packet> {
        let arena = pool.arena();
        let size = arena.frame_size().bytes() as u64;
        let Some((number, start)) = arena.locate(descriptor.address) else {
            self.counters.bad_descriptors += 1;
            return None;
        };
        let Ok(frame) = pool.take(number, Owner::Fill) else {
            self.counters.bad_descriptors += 1;
            return None;
        };
        // A packet in several frames (`XDP_PKT_CONTD`) is never asked for, so an option is a descriptor gone wrong.
        if u64::from(start) + u64::from(descriptor.len) > size || descriptor.options != 0 {
            self.counters.bad_descriptors += 1;
            pool.free(frame);
            return None;
        }
        Some(Packet { frame, start, len: descriptor.len as u16, port: self.config.port })
    }

    /// Has the first lines of packets that wait in the RX ring come nearer, a burst at most: the next one's come while this
    /// one is worked on and sent.
    fn expect(&mut self, pool: &Pool) {
        let there = self.rx.peek(BURST as u32);
        for ahead in self.expected..there {
            prefetch(pool.arena(), self.rx.read(ahead).address);
        }
        self.expected = self.expected.max(there);
    }

    #[cold]
    fn kick(&mut self) {
        self.counters.kicks += 1;
        match rustix::net::send(&self.socket, &[], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            // The kernel sends a bounded number for one call; what is left needs another.
            Ok(_) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS) => self.waiting = self.tx.pending(),
            Err(_) => {
                self.counters.kick_errors += 1;
                self.waiting = 0;
            }
        }
    }

    /// Runs the kernel's side of the RX queue: a fill ring that wants it, or busy polling.
    fn poll_kernel(&mut self) {
        self.counters.kicks += 1;
        let _ = rustix::net::recv(&self.socket, &mut [0u8; 0], RecvFlags::DONTWAIT);
    }
}

/// Has the line at a UMEM address come into the second-level cache, while others are asked for: another core wrote it. (Frames are
/// a power of two apart, so a burst of first lines does not fit the first level's sets; nor would much more than a burst
/// fit the second's, so it is one that is asked for ahead.)
#[inline]
fn prefetch(arena: &Arena, address: u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and it faults at no address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(
            arena.region().base().as_ptr().wrapping_add(address as usize).cast(),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (arena, address);
}

fn set_mark(mark: Option<&AtomicU32>, index: u32) {
    if let Some(mark) = mark {
        mark.store(index, Ordering::Release);
    }
}

impl Device for Xsk {
    fn complete(&mut self, pool: &mut Pool) -> usize {
        let count = self.completion.peek(BURST as u32);
        if count == 0 {
            return 0;
        }
        for ahead in 0..count {
            let number = pool.arena().locate(self.completion.read(ahead)).map(|(number, _)| number);
            match number.map(|number| pool.take(number, Owner::Tx)) {
                Some(Ok(frame)) => self.moving.push(frame),
                Some(Err(_)) => self.counters.double_completed += 1,
                None => self.counters.bad_descriptors += 1,
            }
        }
        self.completion.release(count);
        // Not before: a frame that is free may be given away again at once, by another worker too, and must then not be found
        // in this ring by a successor.
        let came = self.moving.len();
        pool.free_many(self.moving.drain(..));
        came
    }

    fn rx_burst(&mut self, pool: &mut Pool, burst: &mut Burst) -> usize {
        let count = self.rx.peek(burst.room() as u32);
        if count == 0 {
            // A fill ring that ran dry while the pool was empty gets nothing back by receiving.
            if self.fill_short {
                self.refill(pool, BURST as u32);
            }
            if self.config.busy_poll || self.fill.needs_wakeup() {
                self.poll_kernel();
            }
            return 0;
        }
        self.expect(pool);
        let mut received = 0;
        for ahead in 0..count {
            let descriptor = self.rx.read(ahead);
            let Some(packet) = self.receive(pool, descriptor) else { continue };
            match burst.push(packet) {
                Ok(()) => received += 1,
                Err(packet) => {
                    self.counters.rx_refused += 1;
                    pool.free(packet.frame);
                }
            }
        }
        self.rx.release(count);
        self.expected -= count;
        self.refill(pool, BURST as u32);
        self.expect(pool);
        received
    }

    fn tx_burst(&mut self, pool: &mut Pool, packets: &mut Vec<Packet>) -> usize {
        let room = self.tx.reserve(packets.len() as u32);
        if room == 0 {
            // Nothing moves before the kernel takes some, and an earlier wake-up may have failed.
            self.waiting = self.tx.pending();
            return 0;
        }
        for (ahead, packet) in packets.iter().take(room as usize).enumerate() {
            let address = pool.arena().address(&packet.frame) + u64::from(packet.start);
            let len = u32::from(packet.len);
            self.tx.write(ahead as u32, Descriptor { address, len, options: 0 });
        }
        set_mark(pool.mark(self.config.mark + 1), self.tx.index_after(room));
        pool.give_many(packets.drain(..room as usize).map(|packet| packet.frame), Owner::Tx);
        self.tx.submit(room);
        self.waiting += room;
        room as usize
    }

    fn flush(&mut self, now: u64, force: bool) {
        if self.waiting == 0 {
            self.waiting_since = now;
            return;
        }
        let due = force || self.waiting >= KICK_AT || now.saturating_sub(self.waiting_since) >= KICK_AFTER;
        if !due {
            return;
        }
        if self.tx.needs_wakeup() {
            // One call sends a bounded number (32 before Linux 6.17): again, for as long as the kernel takes some.
            for _ in 0..KICKS {
                let before = self.tx.pending();
                self.kick();
                if self.waiting == 0 || self.waiting >= before {
                    break;
                }
            }
        } else {
            // The driver is at work, and may be about to rest: look again until it has taken everything.
            self.waiting = self.tx.pending();
        }
        self.waiting_since = now;
    }

    fn waitable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn unflushed(&self) -> bool {
        self.waiting != 0
    }

    fn arrived(&self) -> Arrived {
        Arrived { rx: self.rx.pending(), completion: self.completion.pending() }
    }

    fn counters(&self) -> &DeviceCounters {
        &self.counters
    }
}
