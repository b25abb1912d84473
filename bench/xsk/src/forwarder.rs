//! Forwarding between two devices: what xsk-rs does as a router's data plane, for comparison with zsync's.
//!
//! Owns: one memory for both devices, so that a packet is not copied here, and both devices' programs. Does what a router
//! has to and no more: new MAC addresses, TTL or hop limit one less with the IPv4 checksum kept up (RFC 1624), and no
//! table: what comes in by the one device goes out by the other. Drops what is not IP, and what would be at TTL 0.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{
    error::XskError,
    options::Options,
    sink::{Action, Match, Sink},
    socket::{Memory, Socket, once_free},
};

const ETHERNET: usize = 14;
/// Kicks for one burst: enough where a call sends 32 packets.
const KICKS: u32 = 8;

/// One side of a forwarder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The device, in this thread's network namespace.
    pub device: String,
    /// Its queue, from 0.
    pub queue: u32,
    /// Source address of what leaves by it.
    pub source: [u8; 6],
    /// Destination address of what leaves by it: the next hop's.
    pub destination: [u8; 6],
}

/// What was forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Packets that came in, both ways.
    pub received: u64,
    /// Packets that were handed to the other device.
    pub sent: u64,
    /// Of those, refused by the device.
    pub refused: u64,
}

/// A forwarder between two devices. See the module.
pub struct Forwarder {
    sockets: [Socket; 2],
    sides: [Side; 2],
    _programs: [Sink; 2],
    counts: Forwarded,
}

impl Forwarder {
    /// Takes both devices whole.
    ///
    /// # Errors
    /// Those of [`Sink::attach`] and [`crate::Receiver::open`].
    pub fn open(sides: [Side; 2], options: &Options) -> Result<Self, XskError> {
        once_free(|| Self::try_open(&sides, options))
    }

    fn try_open(sides: &[Side; 2], options: &Options) -> Result<Self, XskError> {
        let [a, b] = sides;
        // Per side: a fill ring and an RX ring full, and as many under way.
        let frames = 3 * options.ring;
        let mut memory = Memory::new(&a.device, a.queue, options, 2 * frames)?;
        let mut open = |side: &Side| -> Result<(Socket, Sink), XskError> {
            let mut program = Sink::attach(&side.device, Action::Receive, Match::All)?;
            let mut socket = Socket::bind(&mut memory, frames as usize, &side.device, side.queue, options)?;
            socket.refill().map_err(|errno| failed(side, errno))?;
            program.steer(side.queue, &socket.fd())?;
            Ok((socket, program))
        };
        let (a, b) = (open(a)?, open(b)?);
        Ok(Self {
            sockets: [a.0, b.0],
            sides: sides.clone(),
            _programs: [a.1, b.1],
            counts: Forwarded::default(),
        })
    }

    /// Forwards until `stop`, spinning: a core of its own.
    ///
    /// # Errors
    /// A device went down or away.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<Forwarded, XskError> {
        while !stop.load(Ordering::Relaxed) {
            self.turn()?;
        }
        Ok(self.counts())
    }

    /// One burst each way; how many packets came in.
    ///
    /// # Errors
    /// A device went down or away.
    pub fn turn(&mut self) -> Result<usize, XskError> {
        let [a, b] = &mut self.sockets;
        let [side_a, side_b] = &self.sides;
        let forth = step(a, b, side_a, side_b, &mut self.counts)?;
        let back = step(b, a, side_b, side_a, &mut self.counts)?;
        Ok(forth + back)
    }

    /// The counts so far.
    pub fn counts(&self) -> Forwarded {
        let refused = self.sockets.iter().map(Socket::refused).sum();
        Forwarded { refused, ..self.counts }
    }

    /// Whether the drivers of the two devices work on the frames themselves.
    pub fn is_zero_copy(&self) -> [bool; 2] {
        [self.sockets[0].is_zero_copy(), self.sockets[1].is_zero_copy()]
    }
}

fn step(
    from: &mut Socket,
    to: &mut Socket,
    came_by: &Side,
    leaves_by: &Side,
    counts: &mut Forwarded,
) -> Result<usize, XskError> {
    let (received, sent) = from.forward(to, |packet| amend(packet, leaves_by));
    counts.received += received as u64;
    counts.sent += sent as u64;
    let mut kicks = 0;
    while to.pending() > 0 && kicks < KICKS {
        to.kick().map_err(|errno| failed(leaves_by, errno))?;
        kicks += 1;
        if to.is_zero_copy() {
            break;
        }
    }
    to.reclaim_to(from);
    from.refill().map_err(|errno| failed(came_by, errno))?;
    Ok(received)
}

fn failed(side: &Side, errno: rustix::io::Errno) -> XskError {
    XskError::Socket {
        device: side.device.clone(),
        queue: side.queue,
        what: "forwarding",
        source: errno.into(),
    }
}

/// What a router does to a packet; false when it has to be dropped.
fn amend(packet: &mut [u8], side: &Side) -> bool {
    let Some((ethernet, ip)) = packet.split_first_chunk_mut::<ETHERNET>() else { return false };
    let goes_on = match [ethernet[12], ethernet[13]] {
        [0x08, 0x00] => {
            let Some(header) = ip.first_chunk_mut::<20>() else { return false };
            let old = u16::from_be_bytes([header[8], header[9]]);
            let is_alive = header[0] >> 4 == 4 && header[8] > 1;
            header[8] = header[8].saturating_sub(1);
            let new = u16::from_be_bytes([header[8], header[9]]);
            let sum =
                u32::from(!u16::from_be_bytes([header[10], header[11]])) + u32::from(!old) + u32::from(new);
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = (sum & 0xffff) + (sum >> 16);
            [header[10], header[11]] = (!(sum as u16)).to_be_bytes();
            is_alive
        }
        [0x86, 0xdd] => {
            let Some(header) = ip.first_chunk_mut::<40>() else { return false };
            let is_alive = header[0] >> 4 == 6 && header[7] > 1;
            header[7] = header[7].saturating_sub(1);
            is_alive
        }
        _ => false,
    };
    ethernet[..6].copy_from_slice(&side.destination);
    ethernet[6..12].copy_from_slice(&side.source);
    goes_on
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn side() -> Side {
        Side { device: "x".into(), queue: 0, source: [1; 6], destination: [2; 6] }
    }

    /// The one's complement sum of RFC 1071: 0xffff over a header with its checksum.
    fn sum(header: &[u8]) -> u32 {
        let sum: u32 = header.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        (sum & 0xffff) + (sum >> 16)
    }

    proptest! {
        #[test]
        fn the_ipv4_checksum_stays_right(mut header in any::<[u8; 20]>(), ttl in 2u8..) {
            header[0] = 0x45;
            header[8] = ttl;
            header[10..12].fill(0);
            let checksum = !(sum(&header) as u16);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            let mut packet = [&[0; 12][..], &[8, 0], &header].concat();
            prop_assert!(amend(&mut packet, &side()));
            prop_assert_eq!(&packet[..12], &[2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]);
            prop_assert_eq!(packet[22], ttl - 1);
            prop_assert_eq!(sum(&packet[14..]), 0xffff);
        }

        #[test]
        fn no_packet_makes_it_panic(mut packet in prop::collection::vec(any::<u8>(), 0..80)) {
            amend(&mut packet, &side());
        }
    }

    #[test]
    fn the_last_hop_and_what_is_not_ip_are_dropped() {
        let mut v6 = [&[0; 12][..], &[0x86, 0xdd, 0x60], &[0; 6], &[2], &[0; 32]].concat();
        assert!(amend(&mut v6, &side()));
        assert_eq!(v6[21], 1);
        assert!(!amend(&mut v6, &side()));
        let mut arp = [&[0; 12][..], &[0x08, 0x06], &[0; 46]].concat();
        assert!(!amend(&mut arp, &side()));
    }
}
