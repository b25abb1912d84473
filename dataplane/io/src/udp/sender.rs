//! What leaves: packets become runs, and runs become messages.
//!
//! Owns: whether the kernel is still asked to take runs apart. Refuses what is no datagram of the socket's, and what the kernel does not
//! send alone either: both stay in front, and nobody waits behind them. Keeps true: no packet is sent twice, none is lost, and
//! those that are left keep their order, whatever the kernel says. Where one call takes several messages, those behind one that was
//! refused, or that there was no room for, may leave before it.
//!
//! A kernel that refuses a run may mean the run (a device without checksum offload, segments longer than its packets) or the way. So
//! its first packet goes alone; if that goes, runs are left be for a while.

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

/// Packets of one call, and so the most messages: those of a run, at least.
pub const PARTS: usize = SEGMENTS;

/// What became of a message.
pub type Answer = Result<(), Errno>;

/// What sends.
pub trait Kernel {
    /// Sends a message for each of `runs`, which has so many of the `parts` as it has datagrams, and adds an answer for each. How many
    /// system calls that took.
    fn send(&mut self, runs: &[Run], parts: &[IoSlice<'_>], answers: &mut Vec<Answer>) -> u64;
}

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
    /// Those of one call, and what the kernel says of each. They have room for [`PARTS`].
    runs: Vec<Run>,
    answers: Vec<Answer>,
    /// What the kernel says of one that goes alone, while those are looked at.
    answer: Vec<Answer>,
}

impl Sender {
    /// For a socket that is bound to this port.
    pub fn new(port: u16) -> Self {
        let (runs, answers) = (Vec::with_capacity(PARTS), Vec::with_capacity(PARTS));
        Self { port, singly: [0; WAYS], alone: 0, unfit: 0, runs, answers, answer: Vec::with_capacity(1) }
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
        kernel: &mut impl Kernel,
    ) -> usize {
        (self.unfit, self.alone) = (0, 0);
        // Up to `unfit` they are refused, from there to `at` they have left.
        let (mut at, mut full) = (0, false);
        while !full && let Some(rest) = packets.get(at..).filter(|rest| !rest.is_empty()) {
            counters.kicks += self.call(pool, rest, kernel);
            if self.runs.is_empty() {
                // The first one is no datagram.
                self.refuse(packets, &mut at, 0);
            }
            // How far behind `at` the next run is: what lies between is to be tried again, or waits.
            let mut behind = 0;
            for i in 0..self.runs.len() {
                let (Some(run), Some(answer)) = (self.runs.get(i), self.answers.get(i)) else { break };
                let (count, way) = (run.count, way_of(run.way.to.ip()));
                let answer = match *answer {
                    Err(errno) if count > 1 && !is_full(errno) => {
                        // The run may be at fault, or the way: one alone tells.
                        let alone = self.send_alone(pool, packets.get(at + behind), kernel, counters);
                        if alone.is_ok() {
                            counters.kick_errors += 1;
                            self.singly[way] = SINGLY;
                        }
                        alone.map(|()| 1)
                    }
                    answer => answer.map(|()| count),
                };
                match answer {
                    Ok(sent) => {
                        if let Some(between) = packets.get_mut(at..at + behind + sent) {
                            between.rotate_right(sent);
                        }
                        (at, behind) = (at + sent, behind + count - sent);
                    }
                    Err(errno) if is_full(errno) => (full, behind) = (true, behind + count),
                    // Nobody waits behind what is refused.
                    Err(_) => {
                        self.refuse(packets, &mut at, behind);
                        // The way: for the others of the run, too.
                        self.alone += count - 1;
                        behind += count - 1;
                    }
                }
            }
        }
        pool.free_many(packets.drain(self.unfit..at).map(|packet| packet.frame));
        at - self.unfit
    }

    /// Puts the packet that lies `behind` others that wait from `at` on to those that are refused.
    fn refuse(&mut self, packets: &mut [Packet], at: &mut usize, behind: usize) {
        if let Some(between) = packets.get_mut(*at..=*at + behind) {
            between.rotate_right(1);
            packets.swap(self.unfit, *at);
        }
        (self.unfit, *at) = (self.unfit + 1, *at + 1);
    }

    /// Sends of `packets`, from the first on, what one call takes; what became of it is in `runs` and `answers`. How many
    /// system calls that took.
    fn call(&mut self, pool: &Pool, packets: &[Packet], kernel: &mut impl Kernel) -> u64 {
        self.runs.clear();
        self.answers.clear();
        let mut parts = [IoSlice::new(&[]); PARTS];
        let mut ended = true;
        for (slot, packet) in parts.iter_mut().zip(packets) {
            let Some(datagram) = Datagram::of(bytes(pool, packet), self.port) else { break };
            let joins = !ended && self.runs.last_mut().is_some_and(|run| run.takes(&datagram));
            if !joins {
                let singly = &mut self.singly[way_of(datagram.way.to.ip())];
                ended = *singly > 0 || self.alone > 0;
                *singly = singly.saturating_sub(1);
                self.alone = self.alone.saturating_sub(1);
                self.runs.push(Run::new(&datagram));
            }
            *slot = IoSlice::new(bytes(pool, packet).get(datagram.payload).unwrap_or(&[]));
        }
        if self.runs.is_empty() {
            return 0;
        }
        let count: usize = self.runs.iter().map(|run| run.count).sum();
        kernel.send(&self.runs, parts.get(..count).unwrap_or(&[]), &mut self.answers)
    }

    /// Sends one packet of a run that was refused.
    #[cold]
    fn send_alone(
        &mut self,
        pool: &Pool,
        packet: Option<&Packet>,
        kernel: &mut impl Kernel,
        counters: &mut DeviceCounters,
    ) -> Answer {
        let frame = packet.map_or(&[][..], |packet| bytes(pool, packet));
        let datagram = Datagram::of(frame, self.port).ok_or(Errno::INVAL)?;
        let part = IoSlice::new(frame.get(datagram.payload.clone()).unwrap_or(&[]));
        counters.kicks += kernel.send(&[Run::new(&datagram)], &[part], &mut self.answer);
        self.answer.pop().unwrap_or(Err(Errno::INVAL))
    }
}

/// Whether it says that there is no room now.
pub fn is_full(errno: Errno) -> bool {
    matches!(errno, Errno::AGAIN | Errno::NOBUFS)
}

/// A destination's place among [`WAYS`].
fn way_of(to: IpAddr) -> usize {
    let fold = |octets: &[u8]| octets.iter().fold(0_u8, |sum, octet| sum.rotate_left(3) ^ octet);
    usize::from(match to {
        IpAddr::V4(to) => fold(&to.octets()),
        IpAddr::V6(to) => fold(&to.octets()),
    }) % WAYS
}

fn bytes<'p>(pool: &'p Pool, packet: &'p Packet) -> &'p [u8] {
    pool.arena().bytes(&packet.frame, packet.start, packet.len)
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

    /// A kernel that answers each message by its parts.
    struct Answering<F>(F);

    impl<F: FnMut(&[IoSlice<'_>]) -> Answer> Kernel for Answering<F> {
        fn send(&mut self, runs: &[Run], parts: &[IoSlice<'_>], answers: &mut Vec<Answer>) -> u64 {
            assert!((1..=PARTS).contains(&runs.len()));
            assert_eq!(parts.len(), runs.iter().map(|run| run.count).sum());
            let mut parts = parts;
            for run in runs {
                let own;
                (own, parts) = parts.split_at(run.count);
                answers.push((self.0)(own));
            }
            1
        }
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
            let count = sender.transmit(&mut pool, &mut packets, &mut counters, &mut Answering(|parts: &[IoSlice<'_>]| {
                match answers.next().unwrap_or(0) {
                    0 => {
                        sent.extend(parts.iter().map(|part| part[0]));
                        Ok(())
                    }
                    error => {
                        full |= error == libc::EAGAIN || error == libc::ENOBUFS;
                        Err(Errno::from_raw_os_error(error))
                    }
                }
            }));
            let left: Vec<u8> = packets.iter().map(|packet| number(&pool, packet)).collect();
            let (refused, waiting) = left.split_at(sender.unfit());
            prop_assert_eq!(count, sent.len());
            prop_assert!(full || waiting.is_empty(), "nothing waits but for room: {:?}", waiting);
            prop_assert!(waiting.is_sorted());
            prop_assert!(sent.iter().all(|n| !strangers[usize::from(*n)]));
            let mut all = [&sent[..], refused, waiting].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lens.len() as u8).collect::<Vec<_>>());
            pool.free_many(packets.into_iter().map(|packet| packet.frame));
            prop_assert_eq!(pool.available(), 128);
        }
    }

    proptest! {
        /// A kernel that has no room has none for what is behind, either: all of that waits, and nothing overtakes anything.
        #[test]
        fn what_there_is_no_room_for_is_not_overtaken(
            lens in prop::collection::vec(prop::sample::select(&[60_usize, 100, 1000]), 1..128),
            strangers in prop::collection::vec(prop::bool::weighted(0.1), 128),
            room in 0..100,
            full in prop::sample::select(&[libc::EAGAIN, libc::ENOBUFS]),
        ) {
            let mut pool = Pool::heap(FrameSize::K2, 128, 1).unwrap().remove(0);
            let mut packets: Vec<Packet> = lens.iter().zip(&strangers).enumerate()
                .map(|(n, (len, stranger))| packet(&mut pool, PORT ^ u16::from(*stranger), *len, n as u8)).collect();
            let (mut counters, mut room, mut sent) = (DeviceCounters::default(), room, Vec::new());
            let mut sender = Sender::new(PORT);
            sender.transmit(&mut pool, &mut packets, &mut counters, &mut Answering(|parts: &[IoSlice<'_>]| {
                room -= 1;
                if room < 0 {
                    return Err(Errno::from_raw_os_error(full));
                }
                sent.extend(parts.iter().map(|part| part[0]));
                Ok(())
            }));
            let left: Vec<u8> = packets.iter().map(|packet| number(&pool, packet)).collect();
            let (refused, waiting) = left.split_at(sender.unfit());
            prop_assert!(sent.is_sorted() && refused.is_sorted() && waiting.is_sorted());
            prop_assert!(waiting.iter().all(|n| sent.last() < Some(n) && refused.last() < Some(n)));
            pool.free_many(packets.into_iter().map(|packet| packet.frame));
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
            let mut kernel = Answering(|parts: &[IoSlice<'_>]| {
                most = most.max(parts.len());
                if parts.len() > 1 { Err(Errno::IO) } else { Ok(()) }
            });
            sender.transmit(&mut pool, &mut packets, &mut counters, &mut kernel);
            assert!(packets.is_empty());
            longest.push(most);
        }
        let tried: Vec<usize> = (0..longest.len()).filter(|n| longest[*n] > 1).collect();
        assert_eq!((tried, counters.kick_errors), (vec![0, usize::from(SINGLY) / 8], 2));
    }
}
