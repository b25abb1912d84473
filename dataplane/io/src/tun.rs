//! TUN and TAP: one queue of a device that the host's own packets come by, and go by.
//!
//! Owns: a descriptor that somebody else (the control process) opened, without packet information and non-blocking. A TUN device has IP
//! packets: one is read into a frame behind room for an Ethernet header, which the device writes, so that pipelines see what they see
//! elsewhere; and it is written from the frame without that header. A TAP device has frames, which go as they are. With a
//! [header of the kernel's](crate::virtio) ahead of each packet, what is read may
//! stand for many packets, which come out as these, and what is written as one may be many (`tun/offload.rs`). Refuses: frames of anything
//! but IP at a TUN device, and what the kernel refuses (both stay with the caller); packets that are longer than the port's. Keeps true: it
//! never holds a frame between two calls.
//!
//! Each read and write is a system call here, so an empty device is not asked again for a few passes: a worker that polls other
//! devices does not pay for it, and one that blocks is woken up by the descriptor. Kernel sources for what is relied on:
//! drivers/net/tun.c (`tun_do_read`, `tun_get_user`).

use crate::device::{Arrived, Device, DeviceCounters};
use crate::virtio::frame::TAG;
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

/// Bytes of the header that a TUN device writes ahead of a packet, and that a TAP device has.
const LINK: usize = ethernet::HEADER_LEN;

/// One queue of a device. See the module.
#[derive(Debug)]
pub struct Tun {
    queue: OwnedFd,
    link: Link,
    offload: Option<Box<Offload>>,
    resting: u32,
    counters: DeviceCounters,
}

impl Tun {
    /// By a TUN queue's descriptor, of bare packets. Packets of up to `mtu` bytes look as if a station had sent them to `mac`, the
    /// port's address.
    pub fn new(queue: OwnedFd, port: PortId, mac: [u8; 6], mtu: u16) -> Self {
        let (link, counters) = (Link { port, mac, mtu, frames: false }, DeviceCounters::default());
        Self { queue, link, offload: None, resting: 0, counters }
    }

    /// As [`Self::new`], with a [header](crate::virtio) ahead of each packet. `udp`: the kernel takes datagrams that stand for several.
    pub fn with_header(queue: OwnedFd, port: PortId, mac: [u8; 6], mtu: u16, udp: bool) -> Self {
        Self { offload: Some(Box::new(Offload::new(udp))), ..Self::new(queue, port, mac, mtu) }
    }

    /// The same of a TAP device: its frames have Ethernet headers of their own, and two VLAN tags at most.
    #[must_use]
    pub fn of_frames(self) -> Self {
        Self { link: Link { frames: true, ..self.link }, ..self }
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

    /// Writes one packet without a header of virtio; whether the kernel has taken it.
    fn send(&self, pool: &Pool, packet: &Packet) -> bool {
        let bytes = self.link.to_write(bytes_of(pool, packet));
        !bytes.is_empty() && rustix::io::retry_on_intr(|| rustix::io::write(&self.queue, bytes)).is_ok()
    }
}

/// What packets of the device look like in a frame.
#[derive(Clone, Copy, Debug)]
struct Link {
    port: PortId,
    mac: [u8; 6],
    mtu: u16,
    /// They have Ethernet headers of their own: a TAP device.
    frames: bool,
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
    /// What was put into it is no IP, or no frame.
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
    /// Bytes that what the kernel has may have: what the port and a frame have room for.
    fn longest(&self, pool: &Pool) -> usize {
        let (ahead, tags) = if self.frames { (0, LINK + 2 * TAG) } else { (LINK, 0) };
        (pool.arena().frame_size().longest_packet() - ahead).min(usize::from(self.mtu) + tags)
    }

    /// Has `fill` write a packet into a frame, and puts that into `burst`, behind an Ethernet header.
    fn place(
        &self,
        pool: &mut Pool,
        burst: &mut Burst,
        fill: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Placed {
        let longest = self.longest(pool);
        let Some(mut frame) = pool.alloc() else { return Placed::Starved };
        let start = HEADROOM as u16;
        let ahead = if self.frames { 0 } else { LINK };
        let room = pool.arena().bytes_mut(&mut frame, start, (ahead + longest) as u16);
        let filled = if self.frames {
            fill(room).map(|len| (len >= LINK).then_some(len.min(longest)))
        } else {
            self.fill_ip(room, fill)
        };
        let Some(Some(len)) = filled else {
            pool.free(frame);
            return if filled.is_some() { Placed::Strange } else { Placed::Empty };
        };
        if let Err(packet) = burst.push(Packet { frame, start, len: len as u16, port: self.port }) {
            pool.free(packet.frame);
        }
        Placed::There
    }

    /// Has `fill` write an IP packet behind an Ethernet header; the length of both. `Some(None)`: it is none.
    fn fill_ip(
        &self,
        room: &mut [u8],
        fill: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<Option<usize>> {
        let (head, body) = room.split_first_chunk_mut::<LINK>()?;
        let len = fill(body)?.min(body.len());
        let kind = match body.first().map(|first| first >> 4) {
            Some(4) if len > 0 => [0x08, 0x00],
            Some(6) if len > 0 => [0x86, 0xdd],
            _ => return Some(None),
        };
        let [a, b, c, d, e, f] = self.mac;
        *head = [a, b, c, d, e, f, a, b, c, d, e, f ^ 1, kind[0], kind[1]];
        Some(Some(LINK + len))
    }

    /// What of a frame is written: nothing, if the device does not carry such frames.
    fn to_write(self, frame: &[u8]) -> &[u8] {
        if self.frames { frame } else { ip_of(frame) }
    }
}

fn bytes_of<'a>(pool: &'a Pool, packet: &'a Packet) -> &'a [u8] {
    pool.arena().bytes(&packet.frame, packet.start, packet.len)
}

/// The packet behind the Ethernet header; nothing, if it is no IP, or has a tag.
fn ip_of(frame: &[u8]) -> &[u8] {
    match frame.split_first_chunk::<LINK>() {
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
                Some(offload) => offload.send(&self.queue, self.link, pool, of, &mut self.counters),
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
