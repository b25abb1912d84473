//! TUN: one queue of a device that the host's own IP packets come by, and go by.
//!
//! Owns: a descriptor that somebody else (the control process) opened, without packet information and non-blocking. A packet is
//! read into a frame behind room for an Ethernet header, which the device writes, so that pipelines see what they see elsewhere; and
//! it is written from the frame without that header. Refuses: frames of anything but IP, and what the kernel refuses (both stay with
//! the caller). Keeps true: it never holds a frame between two calls.
//!
//! Each packet is a system call here, so an empty device is not asked again for a few passes: a worker that polls other
//! devices does not pay for it, and one that blocks is woken up by the descriptor. Kernel sources for what is relied on:
//! drivers/net/tun.c (`tun_do_read`, `tun_get_user`).

use crate::device::{Arrived, Device, DeviceCounters};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::frame::HEADROOM;
use zsync_packet::header::ethernet;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;

/// Passes that an empty device is left alone for: a read that brings nothing costs some 200 ns.
const REST: u32 = 8;

/// Bytes of the header that the device writes ahead of a packet.
const LINK: usize = ethernet::HEADER_LEN;

/// One queue of a TUN device. See the module.
#[derive(Debug)]
pub struct Tun {
    queue: OwnedFd,
    port: PortId,
    mac: [u8; 6],
    mtu: u16,
    resting: u32,
    counters: DeviceCounters,
}

impl Tun {
    /// By a queue's descriptor. Packets of up to `mtu` bytes look as if a station had sent them to `mac`, the port's address.
    pub fn new(queue: OwnedFd, port: PortId, mac: [u8; 6], mtu: u16) -> Self {
        Self { queue, port, mac, mtu, resting: 0, counters: DeviceCounters::default() }
    }

    /// Reads one packet into `burst`; whether there may be more.
    fn receive(&mut self, pool: &mut Pool, burst: &mut Burst) -> bool {
        let Some(mut frame) = pool.alloc() else {
            self.counters.fill_starved += 1;
            return false;
        };
        let longest = pool.arena().frame_size().longest_packet().min(LINK + usize::from(self.mtu));
        let start = HEADROOM as u16;
        let room = pool.arena().bytes_mut(&mut frame, start, longest as u16);
        let Some((head, body)) = room.split_first_chunk_mut::<LINK>() else {
            pool.free(frame);
            return false;
        };
        let len = match rustix::io::read(&self.queue, &mut *body) {
            Ok(len) => len.min(body.len()),
            Err(Errno::INTR) => {
                pool.free(frame);
                return true;
            }
            // Nothing is there, or the device is down: it has nothing until it is up.
            Err(_) => {
                pool.free(frame);
                return false;
            }
        };
        let kind = match body.first().map(|first| first >> 4) {
            Some(4) if len > 0 => [0x08, 0x00],
            Some(6) if len > 0 => [0x86, 0xdd],
            _ => {
                self.counters.rx_refused += 1;
                pool.free(frame);
                return true;
            }
        };
        let [a, b, c, d, e, f] = self.mac;
        *head = [a, b, c, d, e, f, a, b, c, d, e, f ^ 1, kind[0], kind[1]];
        let packet = Packet { frame, start, len: (LINK + len) as u16, port: self.port };
        if let Err(packet) = burst.push(packet) {
            pool.free(packet.frame);
        }
        true
    }

    /// Writes one packet; whether the kernel has taken it.
    fn send(&self, pool: &Pool, packet: &Packet) -> bool {
        let bytes = pool.arena().bytes(&packet.frame, packet.start, packet.len);
        match bytes.split_first_chunk::<LINK>() {
            Some(([.., 0x08, 0x00] | [.., 0x86, 0xdd], ip)) => {
                rustix::io::retry_on_intr(|| rustix::io::write(&self.queue, ip)).is_ok()
            }
            _ => false,
        }
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
        while burst.room() > 0 && self.receive(pool, burst) {}
        let came = burst.len() - before;
        if came == 0 {
            self.resting = REST;
        }
        came
    }

    fn tx_burst(&mut self, pool: &mut Pool, packets: &mut Vec<Packet>) -> usize {
        // Nobody waits behind what is refused.
        let mut refused = 0;
        for i in 0..packets.len() {
            if !self.send(pool, &packets[i]) {
                packets.swap(refused, i);
                refused += 1;
            }
        }
        let sent = packets.len() - refused;
        pool.free_many(packets.drain(refused..).map(|packet| packet.frame));
        sent
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
