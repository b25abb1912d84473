//! TUN: one queue of a device that the host's own IP packets come by, and go by.
//!
//! Owns: a descriptor that somebody else (the control process) opened, without packet information and non-blocking. A packet is
//! read into a frame behind room for an Ethernet header, which the device writes, so that pipelines see what they see elsewhere; and
//! it is written from the frame without that header. With a [header of the kernel's](crate::virtio) ahead of each packet, what is read may
//! stand for many packets, which come out as these, and what is written as one may be many (`tun/offload.rs`). Refuses: frames of anything
//! but IP, and what the kernel refuses (both stay with the caller); packets that are longer than the port's. Keeps true: it never holds
//! a frame between two calls.
//!
//! Each read and write is a system call here, so an empty device is not asked again for a few passes: a worker that polls other
//! devices does not pay for it, and one that blocks is woken up by the descriptor. Kernel sources for what is relied on:
//! drivers/net/tun.c (`tun_do_read`, `tun_get_user`).

use crate::device::{Arrived, Device, DeviceCounters};
use offload::Offload;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::frame::HEADROOM;
use zsync_packet::header::ethernet;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;

mod offload;

/// Passes that an empty device is left alone for: a read that brings nothing costs some 200 ns.
const REST: u32 = 8;

/// Most reads for one burst, of packets that are refused among others.
const READS: usize = 2 * BURST;

/// Bytes of the header that the device writes ahead of a packet.
const LINK: usize = ethernet::HEADER_LEN;

/// One queue of a TUN device. See the module.
#[derive(Debug)]
pub struct Tun {
    queue: OwnedFd,
    link: Link,
    offload: Option<Box<Offload>>,
    resting: u32,
    counters: DeviceCounters,
}

impl Tun {
    /// By a queue's descriptor, of bare packets. Packets of up to `mtu` bytes look as if a station had sent them to `mac`, the
    /// port's address.
    pub fn new(queue: OwnedFd, port: PortId, mac: [u8; 6], mtu: u16) -> Self {
        let (link, counters) = (Link { port, mac, mtu }, DeviceCounters::default());
        Self { queue, link, offload: None, resting: 0, counters }
    }

    /// As [`Self::new`], with a [header](crate::virtio) ahead of each packet. `udp`: the kernel takes datagrams that stand for several.
    pub fn with_header(queue: OwnedFd, port: PortId, mac: [u8; 6], mtu: u16, udp: bool) -> Self {
        Self { offload: Some(Box::new(Offload::new(udp))), ..Self::new(queue, port, mac, mtu) }
    }

    /// Adds one packet to `burst`; whether there may be more.
    fn receive(&mut self, pool: &mut Pool, burst: &mut Burst) -> bool {
        let Self { queue, link, offload, counters, .. } = self;
        if let Some(offload) = offload {
            return offload.receive(queue, *link, pool, burst, counters);
        }
        let mut more = true;
        let placed = link.place(pool, burst, |body| match rustix::io::read(&*queue, &mut *body) {
            Ok(len) => Some(len),
            Err(Errno::INTR) => None,
            // Nothing is there, or the device is down: it has nothing until it is up.
            Err(_) => {
                more = false;
                None
            }
        });
        placed.count(counters) && more
    }

    /// Writes one bare packet; whether the kernel has taken it.
    fn send(&self, pool: &Pool, packet: &Packet) -> bool {
        let ip = ip_of(pool, packet);
        !ip.is_empty() && rustix::io::retry_on_intr(|| rustix::io::write(&self.queue, ip)).is_ok()
    }
}

/// What packets of the device look like in a frame.
#[derive(Clone, Copy, Debug)]
struct Link {
    port: PortId,
    mac: [u8; 6],
    mtu: u16,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placed {
    /// It is in the burst.
    There,
    /// There is none.
    Starved,
    /// There was nothing to put into it.
    Empty,
    /// What was put into it is no IP.
    Strange,
}

impl Placed {
    /// Counts what went wrong; whether another packet may follow.
    fn count(self, counters: &mut DeviceCounters) -> bool {
        counters.fill_starved += u64::from(self == Self::Starved);
        counters.rx_refused += u64::from(self == Self::Strange);
        self != Self::Starved
    }
}

impl Link {
    /// Bytes that a packet may have: what the port and a frame have room for.
    fn longest(&self, pool: &Pool) -> usize {
        (pool.arena().frame_size().longest_packet() - LINK).min(self.mtu.into())
    }

    /// Has `fill` write a packet into a frame, and puts that into `burst` behind an Ethernet header.
    fn place(
        &self,
        pool: &mut Pool,
        burst: &mut Burst,
        fill: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Placed {
        let longest = self.longest(pool);
        let Some(mut frame) = pool.alloc() else { return Placed::Starved };
        let start = HEADROOM as u16;
        let room = pool.arena().bytes_mut(&mut frame, start, (LINK + longest) as u16);
        let filled = room.split_first_chunk_mut::<LINK>().and_then(|(head, body)| {
            let len = fill(body)?.min(body.len());
            let kind = match body.first().map(|first| first >> 4) {
                Some(4) if len > 0 => [0x08, 0x00],
                Some(6) if len > 0 => [0x86, 0xdd],
                _ => return Some(None),
            };
            let [a, b, c, d, e, f] = self.mac;
            *head = [a, b, c, d, e, f, a, b, c, d, e, f ^ 1, kind[0], kind[1]];
            Some(Some(LINK + len))
        });
        let Some(Some(len)) = filled else {
            pool.free(frame);
            return if filled.is_some() { Placed::Strange } else { Placed::Empty };
        };
        if let Err(packet) = burst.push(Packet { frame, start, len: len as u16, port: self.port }) {
            pool.free(packet.frame);
        }
        Placed::There
    }
}

/// The packet behind the Ethernet header; nothing, if it is no IP.
fn ip_of<'a>(pool: &'a Pool, packet: &'a Packet) -> &'a [u8] {
    let bytes = pool.arena().bytes(&packet.frame, packet.start, packet.len);
    match bytes.split_first_chunk::<LINK>() {
        Some(([.., 0x08, 0x00] | [.., 0x86, 0xdd], ip)) => ip,
        _ => &[],
    }
}

impl Device for Tun {
    fn complete(&mut self, _pool: &mut Pool) -> usize {
        0
    }

    fn rx_burst(&mut self, pool: &mut Pool, burst: &mut Burst) -> usize {
        if self.resting > 0 {
            self.resting -= 1;
            return 0;
        }
        let before = burst.len();
        for _ in 0..READS {
            if burst.room() == 0 || !self.receive(pool, burst) {
                break;
            }
        }
        let came = burst.len() - before;
        if came == 0 && !self.pending() {
            self.resting = REST;
        }
        came
    }

    fn tx_burst(&mut self, pool: &mut Pool, packets: &mut Vec<Packet>) -> usize {
        // Nobody waits behind what is refused.
        let mut refused = 0;
        for from in (0..packets.len()).step_by(BURST) {
            let to = packets.len().min(from + BURST);
            let of = &packets[from..to];
            let stay = match &mut self.offload {
                Some(offload) => offload.send(&self.queue, pool, of, &mut self.counters),
                None => {
                    (0..).zip(of).filter(|(_, p)| !self.send(pool, p)).fold(0, |stay, (i, _)| stay | 1 << i)
                }
            };
            for i in (from..to).filter(|i| stay >> (i - from) & 1 == 1) {
                packets.swap(refused, i);
                refused += 1;
            }
        }
        let sent = packets.len() - refused;
        pool.free_many(packets.drain(refused..).map(|packet| packet.frame));
        sent
    }

    fn pending(&self) -> bool {
        self.offload.as_ref().is_some_and(|offload| offload.is_waiting())
    }

    fn flush(&mut self, _now: u64, _force: bool) {}

    fn waitable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.queue.as_fd())
    }

    fn unflushed(&self) -> bool {
        false
    }

    fn arrived(&self) -> Arrived {
        Arrived::default()
    }

    fn counters(&self) -> &DeviceCounters {
        &self.counters
    }
}

#[cfg(test)]
mod tests;
