//! What a queue with a [header](crate::virtio) ahead of each packet reads and writes.
//!
//! Owns: room for one packet of the kernel's, up to 64 KiB, allocated once, of which what has not come out yet waits there for the
//! next call; and the table of runs. Refuses a packet that its header does not fit (counted, nothing of it comes out). Keeps true: packets
//! come out in the order in which the kernel gave them; what has not come out was not received: nobody counts it, and it goes with the process.

use super::{LINK, Link, Placed, bytes_of, ip_of};
use crate::device::DeviceCounters;
use crate::virtio::frame::{TAG, Whole};
use crate::virtio::merge::{HEADERS, Run, Runs};
use crate::virtio::{HEADER_LEN, Header};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, IoSlice};
use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::pool::Pool;

/// Longest packet of the kernel's, with Ethernet and two tags: IPv6 says the length of what is behind its header, in 16 bits.
const LONGEST: usize = LINK + 2 * TAG + 40 + u16::MAX as usize;

/// See the module.
#[derive(Debug)]
pub(super) struct Offload {
    buffer: Box<[u8]>,
    /// Bytes of the packet in it, and how far that was cut.
    waiting: Option<(usize, Whole)>,
    runs: Runs,
    /// A packet that is written alone, behind a header that says nothing. The copy costs a third of what a second part does to the kernel
    /// (`cargo bench -p zsync-io --bench requests`).
    alone: Box<[u8]>,
}

impl Offload {
    /// `udp` as [`super::Tun::with_header`] has it.
    pub(super) fn new(udp: bool) -> Self {
        let room = || vec![0; HEADER_LEN + LONGEST].into();
        Self { buffer: room(), waiting: None, runs: Runs::new(udp), alone: room() }
    }

    /// Whether a part of what was read is to be cut yet.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Adds one packet to `burst`; whether there may be more.
    pub(super) fn receive(
        &mut self,
        queue: &OwnedFd,
        link: Link,
        pool: &mut Pool,
        burst: &mut Burst,
        counters: &mut DeviceCounters,
    ) -> bool {
        if self.waiting.is_none() {
            match rustix::io::read(queue, &mut *self.buffer) {
                Ok(len) => self.waiting = self.look(len, link, link.longest(pool), counters),
                Err(Errno::INTR) => {}
                // The kernel has no header for what was there, and has dropped it (`tun_put_user`).
                Err(Errno::INVAL) => counters.rx_refused += 1,
                // Nothing is there, or the device is down: it has nothing until it is up.
                Err(_) => return false,
            }
        }
        let Some((len, cut)) = &mut self.waiting else { return true };
        let packet = self.buffer.get(HEADER_LEN..HEADER_LEN + *len).unwrap_or_default();
        let placed = link.place(pool, burst, |body| cut.next(packet, body));
        if placed != Placed::Starved && (placed != Placed::There || cut.is_done()) {
            self.waiting = None;
        }
        placed.count(counters)
    }

    /// What was read, if its header fits it.
    fn look(
        &self,
        len: usize,
        link: Link,
        longest: usize,
        counters: &mut DeviceCounters,
    ) -> Option<(usize, Whole)> {
        let make = if link.frames { Whole::frame } else { Whole::packet };
        let read = self.buffer.get(..len).and_then(|read| read.split_first_chunk());
        let cut = read.and_then(|(header, bytes)| make(Header::parse(header), bytes, longest));
        match &cut {
            Some(cut) => counters.split += u64::from(cut.is_split()),
            None => counters.rx_refused += 1,
        }
        Some((len.checked_sub(HEADER_LEN)?, cut?))
    }

    /// Writes up to [`BURST`] packets, as few as they can be; those that the kernel has not taken, as a mask.
    pub(super) fn send(
        &mut self,
        queue: &OwnedFd,
        link: Link,
        pool: &Pool,
        packets: &[Packet],
        counters: &mut DeviceCounters,
    ) -> u64 {
        let mut frames: [&[u8]; BURST] = [&[]; BURST];
        frames.iter_mut().zip(packets).for_each(|(frame, packet)| *frame = bytes_of(pool, packet));
        let frames = frames.get(..packets.len()).unwrap_or(&frames);
        let mut all: [&[u8]; BURST] = [&[]; BURST];
        all.iter_mut().zip(frames).for_each(|(ip, frame)| *ip = ip_of(frame));
        let all = all.get(..packets.len()).unwrap_or(&all);
        let Self { runs, alone, .. } = self;
        runs.find(all);
        let mut stay = 0;
        for run in runs.iter() {
            if run.count() > 1
                && let Some(ahead) = ahead(link, runs, run, frames)
                && write_run(queue, ahead, runs, run, all)
            {
                counters.merged += 1;
                continue;
            }
            // Alone, or because the kernel did not take them together.
            for i in runs.members(run) {
                let bytes = link.to_write(frames.get(i).copied().unwrap_or_default());
                if !write_alone(queue, alone, bytes) {
                    stay |= 1 << i;
                }
            }
        }
        stay
    }
}

/// Writes a packet, by way of `room`, which begins with a header that says nothing; whether it is one, and the kernel has taken it.
fn write_alone(queue: &OwnedFd, room: &mut [u8], bytes: &[u8]) -> bool {
    let Some(place) = room.get_mut(..HEADER_LEN + bytes.len()).filter(|_| !bytes.is_empty()) else {
        return false;
    };
    place[HEADER_LEN..].copy_from_slice(bytes);
    rustix::io::retry_on_intr(|| rustix::io::write(queue, &*place)).is_ok()
}

/// What is written ahead of the IP header of a run: the Ethernet header, if that is written at all. `None`: they differ in it.
fn ahead<'a>(link: Link, runs: &Runs, run: &Run, frames: &[&'a [u8]]) -> Option<&'a [u8]> {
    if !link.frames {
        return Some(&[]);
    }
    let of = |i: usize| frames.get(i)?.get(..LINK);
    let first = of(run.first())?;
    runs.members(run).all(|i| of(i) == Some(first)).then_some(first)
}

/// Writes a run as one packet: headers of its own, behind what is `ahead`, and the payloads from where they lie.
fn write_run(queue: &OwnedFd, ahead: &[u8], runs: &Runs, run: &Run, all: &[&[u8]]) -> bool {
    let mut headers = [0; HEADERS];
    let head = all.get(run.first()).copied().unwrap_or_default();
    let Some((header, len)) = run.write_headers(head, &mut headers) else { return false };
    let header = header.ahead(ahead.len() as u16).to_bytes();
    let mut parts = [IoSlice::new(&[]); BURST + 3];
    let own = [&header[..], ahead, headers.get(..len).unwrap_or_default()];
    let mut count = 0;
    for (part, bytes) in parts.iter_mut().zip(own.into_iter().chain(runs.payloads(run, all))) {
        *part = IoSlice::new(bytes);
        count += 1;
    }
    let parts = parts.get(..count).unwrap_or_default();
    rustix::io::retry_on_intr(|| rustix::io::writev(queue, parts)).is_ok()
}
