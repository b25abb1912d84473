//! Null: a device that receives as many packets as are wanted, and whose sent frames are free at once.
//!
//! It measures everything around a device: what a loop over two of them costs is the engine's own. Frames come straight
//! from the pool and go straight back, so it never holds one.
//!
//! Owns: the packets that it gives. Refuses: nothing but a packet that no frame of the pool holds. Keeps true:
//! received = what the limit allowed; sent = what it was given.

use crate::device::{Arrived, Device, DeviceCounters};
use std::os::fd::BorrowedFd;
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::frame::{Frame, HEADROOM};
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;

/// See the module.
#[derive(Debug)]
pub struct Null {
    port: PortId,
    templates: Templates,
    limit: u64,
    received: u64,
    sent: u64,
    counters: DeviceCounters,
}

#[derive(Debug)]
enum Templates {
    /// In the frames already: only the length is told.
    Printed(u16),
    /// Copied into each frame, in turn.
    Copied { packets: Vec<Box<[u8]>>, next: usize },
    /// One packet, copied into each frame; and what is sent, copied out to the same place.
    Through { packet: Box<[u8]>, sink: Box<[u8]> },
}

impl Null {
    /// A device that writes `packet` now into every free frame of `pool`, and hands frames out without touching them: for
    /// pipelines that leave the bytes alone. Keep to one length and one packet per pool.
    ///
    /// `None` when the packet is longer than a frame of the pool holds.
    pub fn printed(port: PortId, pool: &mut Pool, packet: &[u8]) -> Option<Self> {
        if packet.len() > pool.arena().frame_size().longest_packet() {
            return None;
        }
        let len = packet.len() as u16;
        let mut frames: Vec<Frame> = std::iter::from_fn(|| pool.alloc()).collect();
        for frame in &mut frames {
            pool.arena().bytes_mut(frame, HEADROOM as u16, len).copy_from_slice(packet);
        }
        // Backwards, so that the pool's stack is as it was.
        frames.into_iter().rev().for_each(|frame| pool.free(frame));
        Some(Self::new(port, Templates::Printed(len)))
    }

    /// A device that copies one of `packets` after the other into the frames that it hands out: for pipelines that rewrite
    /// them. A packet that is longer than a frame is counted as refused.
    pub fn copied(port: PortId, packets: impl IntoIterator<Item = Box<[u8]>>) -> Self {
        Self::new(port, Templates::Copied { packets: packets.into_iter().collect(), next: 0 })
    }

    /// A device that copies `packet` into every frame that it hands out, and as many bytes out of every frame that it is
    /// given to send: what DPDK's `net_null` does with `copy=1` (drivers/net/null/rte_eth_null.c), so that the two compare.
    ///
    /// `None` when the packet is longer than a frame of the pool holds.
    pub fn through(port: PortId, pool: &Pool, packet: &[u8]) -> Option<Self> {
        let fits = packet.len() <= pool.arena().frame_size().longest_packet();
        let templates = Templates::Through { packet: packet.into(), sink: vec![0; packet.len()].into() };
        fits.then(|| Self::new(port, templates))
    }

    fn new(port: PortId, templates: Templates) -> Self {
        let counters = DeviceCounters::default();
        Self { port, templates, limit: u64::MAX, received: 0, sent: 0, counters }
    }

    /// The same, giving `packets` packets and then no more.
    #[must_use]
    pub fn limited(mut self, packets: u64) -> Self {
        self.limit = packets;
        self
    }

    /// Adds the next packet to `burst`. How many came: one, or none when it had to be refused; `None` when the pool is empty.
    #[inline]
    fn copy(&mut self, pool: &mut Pool, burst: &mut Burst) -> Option<usize> {
        let Templates::Copied { packets, next } = &mut self.templates else { return None };
        let Some(mut frame) = pool.alloc() else {
            self.counters.fill_starved += 1;
            return None;
        };
        let packet: &[u8] = packets.get(*next).map_or(&[], |packet| packet);
        *next = if *next + 1 < packets.len() { *next + 1 } else { 0 };
        let len = u16::try_from(packet.len()).unwrap_or(u16::MAX);
        let bytes = pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len);
        let refused = if bytes.len() == packet.len() {
            bytes.copy_from_slice(packet);
            burst.push(Packet { frame, start: HEADROOM as u16, len, port: self.port }).err().map(|p| p.frame)
        } else {
            Some(frame)
        };
        let Some(frame) = refused else { return Some(1) };
        self.counters.rx_refused += 1;
        pool.free(frame);
        Some(0)
    }

    /// Packets that it gave.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Packets that it was given.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether it has given all packets that its limit allows.
    pub fn finished(&self) -> bool {
        self.received >= self.limit
    }
}

impl Device for Null {
    #[inline]
    fn complete(&mut self, _pool: &mut Pool) -> usize {
        0
    }

    #[inline]
    fn rx_burst(&mut self, pool: &mut Pool, burst: &mut Burst) -> usize {
        let left = usize::try_from(self.limit.saturating_sub(self.received)).unwrap_or(usize::MAX);
        let want = burst.room().min(left);
        let came = match &self.templates {
            &Templates::Printed(len) => {
                let came = burst.extend_from(pool, want, self.port, HEADROOM as u16, len);
                self.counters.fill_starved += u64::from(came < want);
                came
            }
            Templates::Through { packet, .. } => {
                let new = burst.len();
                let len = packet.len() as u16;
                let came = burst.extend_from(pool, want, self.port, HEADROOM as u16, len);
                for i in new..new + came {
                    copy(burst.bytes_mut(i), packet);
                }
                self.counters.fill_starved += u64::from(came < want);
                came
            }
            Templates::Copied { .. } => (0..want).map_while(|_| self.copy(pool, burst)).sum(),
        };
        self.received += came as u64;
        came
    }

    #[inline]
    fn tx_burst(&mut self, pool: &mut Pool, packets: &mut Vec<Packet>) -> usize {
        let sent = packets.len();
        if let Templates::Through { sink, .. } = &mut self.templates {
            for packet in &*packets {
                copy(sink, pool.arena().bytes(&packet.frame, packet.start, packet.len));
                // Each copy is looked at, so each is made.
                std::hint::black_box(&mut *sink);
            }
        }
        pool.free_many(packets.drain(..).map(|packet| packet.frame));
        self.sent += sent as u64;
        sent
    }

    #[inline]
    fn flush(&mut self, _now: u64, _force: bool) {}

    fn waitable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    #[inline]
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

/// Copies what both have room for: whole cache lines in place, without the call that a length known only now would take.
#[inline]
fn copy(to: &mut [u8], from: &[u8]) {
    let len = to.len().min(from.len());
    let (to_lines, to_rest) = to[..len].as_chunks_mut::<64>();
    let (from_lines, from_rest) = from[..len].as_chunks::<64>();
    to_lines.iter_mut().zip(from_lines).for_each(|(to, from)| *to = *from);
    if !to_rest.is_empty() {
        to_rest.copy_from_slice(from_rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_packet::frame::FrameSize;

    fn pass(device: &mut Null, pool: &mut Pool, burst: &mut Burst, each: impl Fn(&[u8])) -> usize {
        let mut out = Vec::new();
        let came = device.rx_burst(pool, burst);
        (0..came).for_each(|i| each(burst.bytes(i)));
        burst.drain(|packet, _, _| out.push(packet));
        assert_eq!(device.tx_burst(pool, &mut out), came);
        came
    }

    #[test]
    fn gives_the_printed_packet_up_to_the_limit() {
        let mut pool = Pool::heap(FrameSize::K2, 100, 1).unwrap().remove(0);
        let mut burst = Burst::new(pool.arena().clone());
        let mut device = Null::printed(PortId(1), &mut pool, &[7; 60]).unwrap().limited(130);
        assert!(Null::printed(PortId(1), &mut pool, &[7; 1793]).is_none());
        let mut came = Vec::new();
        while !device.finished() {
            came.push(pass(&mut device, &mut pool, &mut burst, |bytes| assert_eq!(bytes, [7; 60])));
        }
        assert_eq!(came, [64, 64, 2]);
        assert_eq!((device.received(), device.sent()), (130, 130));
        assert_eq!(pool.available(), 100);
        assert_eq!(pool.audit(0, 0).leaked, 0);
    }

    #[test]
    fn copies_its_packets_in_turn_and_counts_those_that_are_too_long() {
        let mut pool = Pool::heap(FrameSize::K2, 10, 1).unwrap().remove(0);
        let mut burst = Burst::new(pool.arena().clone());
        let packets = [vec![1; 60], vec![2; 5000], vec![3; 1792]].map(Vec::into_boxed_slice);
        let mut device = Null::copied(PortId(1), packets).limited(2);
        let came = pass(&mut device, &mut pool, &mut burst, |bytes| {
            assert!(matches!((bytes.len(), bytes[0]), (60, 1) | (1792, 3)));
        });
        assert_eq!((came, device.counters().rx_refused), (1, 1));
        assert_eq!(pass(&mut device, &mut pool, &mut burst, |bytes| assert_eq!(bytes, [3; 1792])), 1);
        assert_eq!(pool.audit(0, 0).leaked, 0);
    }

    #[test]
    fn what_goes_through_is_copied_in_and_out() {
        let mut pool = Pool::heap(FrameSize::K2, 10, 1).unwrap().remove(0);
        let mut burst = Burst::new(pool.arena().clone());
        assert!(Null::through(PortId(1), &pool, &[7; 1793]).is_none());
        // Less than a cache line, one, and more.
        for len in [0, 60, 64, 200, 1792] {
            let packet: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut device = Null::through(PortId(1), &pool, &packet).unwrap().limited(13);
            let came = device.rx_burst(&mut pool, &mut burst);
            assert_eq!((came, device.counters().fill_starved), (10, 1));
            for i in 0..came {
                assert_eq!((burst.bytes(i), burst.port(i)), (&packet[..], PortId(1)));
                burst.bytes_mut(i).fill(i as u8);
            }
            let mut out = Vec::new();
            burst.drain_into(&mut out);
            assert_eq!(device.tx_burst(&mut pool, &mut out), 10);
            let Templates::Through { sink, .. } = &device.templates else { panic!("another kind") };
            assert_eq!(sink[..], vec![9; len][..]);
            // The frames hold what the last ones wrote, and get the packet once more.
            let came = pass(&mut device, &mut pool, &mut burst, |bytes| assert_eq!(bytes, packet));
            assert_eq!((came, device.finished()), (3, true));
            assert_eq!((device.received(), device.sent()), (13, 13));
        }
        assert_eq!(pool.audit(0, 0).leaked, 0);
    }

    #[test]
    fn an_empty_pool_starves_it() {
        let mut pool = Pool::heap(FrameSize::K2, 10, 1).unwrap().remove(0);
        let mut burst = Burst::new(pool.arena().clone());
        let mut device = Null::printed(PortId(1), &mut pool, &[7; 60]).unwrap();
        assert_eq!(pass(&mut device, &mut pool, &mut burst, |_| {}), 10);
        assert_eq!(device.counters().fill_starved, 1);
    }
}
