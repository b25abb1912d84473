//! What leaves: packets become runs, and runs become messages.
//!
//! Owns: whether the kernel is still asked to take runs apart. Refuses what is no datagram of the socket's, and what the kernel does not
//! send alone either: both stay in front, and nobody waits behind them. Keeps true: no packet is sent twice, none is lost, and
//! those that are left keep their order, whatever the kernel says.
//!
//! A kernel that refuses a run may mean the run (a device without checksum offload, segments longer than its packets) or the way. So
//! its first packet goes alone; if that goes, runs are left be for a while.

use super::message::Way;
use super::run::{Datagram, Run, SEGMENTS};
use crate::device::DeviceCounters;
use rustix::io::Errno;
use std::io::IoSlice;
use std::net::IpAddr;
use zsync_packet::burst::Packet;
use zsync_packet::pool::Pool;

/// Messages that go one by one after a run was refused, before the kernel is asked again: devices and routes change.
pub const SINGLY: u16 = 4096;

/// Destinations that are told apart there: one with a narrow way leaves the others their runs.
const WAYS: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Sender {
    /// The socket's.
    port: u16,
    /// Messages that still go one by one, by their destinations' hashes.
    singly: [u16; WAYS],
    /// Packets ahead for which no run is tried any more: one of theirs was refused, and its first packet alone, too.
    alone: usize,
    unfit: usize,
}

impl Sender {
    /// For a socket that is bound to this port.
    pub fn new(port: u16) -> Self {
        Self { port, singly: [0; WAYS], alone: 0, unfit: 0 }
    }

    /// Packets that the last [`Self::transmit`] left in front because they can never leave.
    pub fn unfit(&self) -> usize {
        self.unfit
    }

    /// Sends from the front of `packets`, by `kernel`, as [`Device::tx_burst`](crate::device::Device::tx_burst) says.
    pub fn transmit(
        &mut self,
        pool: &mut Pool,
        packets: &mut Vec<Packet>,
        counters: &mut DeviceCounters,
        mut kernel: impl Kernel,
    ) -> usize {
        (self.unfit, self.alone) = (0, 0);
        let mut at = 0;
        while let Some(rest) = packets.get(at..).filter(|rest| !rest.is_empty()) {
            match self.send(pool, rest, counters, &mut kernel) {
                Ok(sent) => at += sent,
                Err(Errno::AGAIN | Errno::NOBUFS) => break,
                // Nobody waits behind what is refused.
                Err(_) => {
                    packets.swap(self.unfit, at);
                    (self.unfit, at) = (self.unfit + 1, at + 1);
                }
            }
        }
        pool.free_many(packets.drain(self.unfit..at).map(|packet| packet.frame));
        at - self.unfit
    }

    /// Sends as many of `packets` as make a run, from the first on; how many.
    fn send(
        &mut self,
        pool: &Pool,
        packets: &[Packet],
        counters: &mut DeviceCounters,
        kernel: &mut impl Kernel,
    ) -> Result<usize, Errno> {
        let datagram = |packet| Datagram::of(bytes(pool, packet), self.port);
        let (Some(packet), rest) = (packets.first(), packets.iter().skip(1)) else { return Ok(0) };
        let first = datagram(packet).ok_or(Errno::INVAL)?;
        let mut run = Run::new(&first);
        let mut parts = [IoSlice::new(&[]); SEGMENTS];
        parts[0] = part(pool, packet, first);
        let singly = &mut self.singly[way_of(run.way.to.ip())];
        if *singly == 0 && self.alone == 0 {
            for (slot, packet) in parts.iter_mut().skip(1).zip(rest) {
                let Some(next) = datagram(packet).filter(|next| run.takes(next)) else { break };
                *slot = part(pool, packet, next);
            }
        }
        *singly = singly.saturating_sub(1);
        self.alone = self.alone.saturating_sub(1);
        counters.kicks += 1;
        if run.count > 1 {
            match kernel(&run.way, &parts[..run.count], u16::try_from(run.segment).ok()) {
                Ok(()) => return Ok(run.count),
                Err(full @ (Errno::AGAIN | Errno::NOBUFS)) => return Err(full),
                // The run may be at fault, or the way: one alone tells.
                Err(_) => counters.kicks += 1,
            }
        }
        kernel(&run.way, &parts[..1], None).inspect_err(|_| {
            // The way: for the others of the run, too.
            self.alone = self.alone.max(run.count - 1);
        })?;
        if run.count > 1 {
            counters.kick_errors += 1;
            *singly = SINGLY;
        }
        Ok(1)
    }
}

/// A destination's place among [`WAYS`].
fn way_of(to: IpAddr) -> usize {
    let fold = |octets: &[u8]| octets.iter().fold(0_u8, |sum, octet| sum.rotate_left(3) ^ octet);
    usize::from(match to {
        IpAddr::V4(to) => fold(&to.octets()),
        IpAddr::V6(to) => fold(&to.octets()),
    }) % WAYS
}

/// What sends: a way, the parts of a message, and the length of its segments if it has several.
pub trait Kernel: FnMut(&Way, &[IoSlice<'_>], Option<u16>) -> Result<(), Errno> {}

impl<F: FnMut(&Way, &[IoSlice<'_>], Option<u16>) -> Result<(), Errno>> Kernel for F {}

fn bytes<'p>(pool: &'p Pool, packet: &'p Packet) -> &'p [u8] {
    pool.arena().bytes(&packet.frame, packet.start, packet.len)
}

fn part<'p>(pool: &'p Pool, packet: &'p Packet, datagram: Datagram) -> IoSlice<'p> {
    IoSlice::new(bytes(pool, packet).get(datagram.payload).unwrap_or(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zsync_packet::frame::FrameSize;
    use zsync_packet::header::build::{ethernet, udp_packet};
    use zsync_packet::header::ether_type;
    use zsync_packet::verdict::PortId;

    const PORT: u16 = 51_820;

    fn packet(pool: &mut Pool, port: u16, len: usize, n: u8) -> Packet {
        let (from, to) = (([192, 0, 2, 1], port).into(), ([192, 0, 2, 2], 9).into());
        let bytes =
            ethernet([2; 6], [4; 6], &[], ether_type::IPV4, &udp_packet(from, to, &vec![n; len]).unwrap());
        let mut frame = pool.alloc().unwrap();
        pool.arena().bytes_mut(&mut frame, 256, bytes.len() as u16).copy_from_slice(&bytes);
        Packet { frame, start: 256, len: bytes.len() as u16, port: PortId(0) }
    }

    /// The number that a packet's payload is full of.
    fn number(pool: &Pool, packet: &Packet) -> u8 {
        bytes(pool, packet)[42]
    }

    proptest! {
        /// Whatever the kernel answers: a packet has left, or it is there still, and each kind in its order.
        #[test]
        fn nothing_is_lost_and_nothing_leaves_twice(
            lens in prop::collection::vec(prop::sample::select(&[60_usize, 100, 1000]), 1..64),
            strangers in prop::collection::vec(prop::bool::weighted(0.1), 64),
            answers in prop::collection::vec(prop::sample::select(&[0, 0, 0, 0, libc::EIO, libc::EINVAL, libc::EMSGSIZE,
                libc::ENETUNREACH, libc::EPERM, libc::EAGAIN, libc::ENOBUFS]), 300),
        ) {
            let mut pool = Pool::heap(FrameSize::K2, 128, 1).unwrap().remove(0);
            let mut sender = Sender::new(PORT);
            let mut packets: Vec<Packet> = lens.iter().zip(&strangers).enumerate()
                .map(|(n, (len, stranger))| packet(&mut pool, PORT ^ u16::from(*stranger), *len, n as u8)).collect();
            let (mut counters, mut answers) = (DeviceCounters::default(), answers.into_iter());
            let mut sent: Vec<u8> = Vec::new();
            let mut full = false;
            let count = sender.transmit(&mut pool, &mut packets, &mut counters, |_, parts, segment| {
                assert_eq!(segment.is_some(), parts.len() > 1);
                match answers.next().unwrap_or(0) {
                    0 => {
                        sent.extend(parts.iter().map(|part| part[0]));
                        Ok(())
                    }
                    error => {
                        full = error == libc::EAGAIN || error == libc::ENOBUFS;
                        Err(Errno::from_raw_os_error(error))
                    }
                }
            });
            let left: Vec<u8> = packets.iter().map(|packet| number(&pool, packet)).collect();
            let (refused, waiting) = left.split_at(sender.unfit());
            prop_assert_eq!(count, sent.len());
            prop_assert!(full || waiting.is_empty(), "nothing waits but for room: {:?}", waiting);
            prop_assert!([&sent[..], refused, waiting].iter().all(|part| part.is_sorted()));
            prop_assert!(sent.iter().all(|n| !strangers[usize::from(*n)]));
            prop_assert!(waiting.iter().all(|n| sent.last() < Some(n) && refused.last() < Some(n)));
            let mut all = [&sent[..], refused, waiting].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lens.len() as u8).collect::<Vec<_>>());
            pool.free_many(packets.into_iter().map(|packet| packet.frame));
            prop_assert_eq!(pool.available(), 128);
        }
    }

    #[test]
    fn runs_are_left_be_for_a_while_after_one_was_refused_and_tried_again_then() {
        let mut pool = Pool::heap(FrameSize::K2, 128, 1).unwrap().remove(0);
        let (mut sender, mut counters) = (Sender::new(PORT), DeviceCounters::default());
        let mut longest = Vec::new();
        for _ in 0..=usize::from(SINGLY) / 8 + 1 {
            let mut packets: Vec<Packet> = (0..8).map(|n| packet(&mut pool, PORT, 100, n)).collect();
            let mut most = 0;
            sender.transmit(&mut pool, &mut packets, &mut counters, |_, parts, _| {
                most = most.max(parts.len());
                if parts.len() > 1 { Err(Errno::IO) } else { Ok(()) }
            });
            assert!(packets.is_empty());
            longest.push(most);
        }
        let tried: Vec<usize> = (0..longest.len()).filter(|n| longest[*n] > 1).collect();
        assert_eq!((tried, counters.kick_errors), (vec![0, usize::from(SINGLY) / 8], 2));
    }
}
