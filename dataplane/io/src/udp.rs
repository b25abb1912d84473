//! UDP: a socket whose datagrams are packets, where the kernel does what is below: IP, routes, neighbours, any device.
//!
//! Owns: a socket that somebody else (the control process) opened and bound, and what one message brought until all of it is
//! packets. A datagram comes behind headers that the device writes, so that pipelines see what they see elsewhere; of a frame that
//! leaves, the headers say where it goes, and the kernel writes its own. Refuses: frames that are no whole UDP from the socket's
//! port, and what the kernel refuses (both stay with the caller, and are [unfit](Device::unfit)). Keeps true: it never holds a frame between
//! two calls; what the kernel meets with one message stops no other.
//!
//! A call carries many: the kernel joins datagrams of one sender (`UDP_GRO`) and takes runs of them apart (`UDP_SEGMENT`), so the
//! way through it is paid once for up to 64. What a burst sends is one call. An empty socket is not asked again for a few passes, as
//! with TUN; with a ring (`ringed.rs`) it is asked when something has come.
//!
//! A frame's flow label and its "don't fragment" are not the datagram's: the kernel has its own. What a killed process had taken and
//! not yet made packets of, 64 KiB at most (a ring's buffers, with one), is lost like what it had in its hands.

mod calls;
mod held;
mod message;
mod ringed;
mod run;
mod sender;

use crate::device::{Device, DeviceCounters};
use crate::uring::{Shape, UringError};
use calls::Calls;
use held::{Held, LONGEST};
use message::Envelope;
use ringed::Ringed;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use sender::{PARTS, Sender};
use std::net::SocketAddr;
use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::frame::HEADROOM;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;

/// Most messages for one burst: of those that are refused there may be as many as somebody likes to send.
const READS: usize = BURST;

/// Passes that an empty socket is left alone for: a call that brings nothing costs some 200 ns.
const REST: u32 = 8;
/// Packets with which a pass has enough to do: another call could bring more than there is room for.
const ENOUGH: usize = BURST / 2;

/// A socket. See the module.
#[derive(Debug)]
pub struct Udp {
    socket: OwnedFd,
    /// What it is bound to.
    local: SocketAddr,
    port: PortId,
    mac: [u8; 6],
    held: Held,
    /// The way by io_uring, where there is one.
    ring: Option<Ringed>,
    /// Nothing more is taken from the socket.
    closed: bool,
    resting: u32,
    sender: Sender,
    envelopes: Box<[Envelope]>,
    counters: DeviceCounters,
}

impl Udp {
    /// By a socket that is bound to `local`. Datagrams look as if a station had sent them to `mac`, the port's address.
    pub fn new(socket: OwnedFd, local: SocketAddr, port: PortId, mac: [u8; 6]) -> Self {
        let (sender, counters) = (Sender::new(local.port()), DeviceCounters::default());
        let held = Held::new(vec![0; LONGEST].into());
        let envelopes = (0..PARTS).map(|_| Envelope::new()).collect();
        Self {
            socket,
            local,
            port,
            mac,
            held,
            ring: None,
            closed: false,
            resting: 0,
            sender,
            envelopes,
            counters,
        }
    }

    /// Goes by `ring` from now on, which was made for the socket. The thread that uses the device next is the ring's only user.
    ///
    /// # Errors
    /// The ring is not as `shape` says, which is counted; the device goes by system calls, as before.
    pub fn go_by(&mut self, ring: OwnedFd, shape: Shape) -> Result<(), UringError> {
        let opened = Ringed::open(ring, shape, self.local.is_ipv6());
        self.counters.rings_lost += u64::from(opened.is_err());
        self.ring = Some(opened?);
        // A ring's messages bring their own bytes.
        self.held = Held::new(Box::default());
        Ok(())
    }

    /// Its ring's descriptor.
    pub fn ring(&self) -> Option<BorrowedFd<'_>> {
        self.ring.as_ref().map(AsFd::as_fd)
    }

    /// Takes a message from the kernel; whether there was one.
    fn receive(&mut self) -> bool {
        if let Some(ring) = &mut self.ring {
            return ring.receive(&mut self.held, self.closed, &mut self.counters);
        }
        if self.closed {
            return false;
        }
        match message::receive(self.socket.as_fd(), self.held.buffer()) {
            Ok(message) => self.held.fill(message),
            Err(error) => {
                // Any other says that there is nothing, or what an earlier message has met; in a later pass there may be more.
                self.counters.rx_refused += u64::from(error == message::REFUSED);
                return false;
            }
        }
        true
    }

    /// A ring that cannot be used is none, once what it brought is packets: a system call is as good, if dearer.
    fn enable(&mut self) {
        if let Some(ring) = self.ring.as_mut().filter(|_| !self.closed)
            && ring.enable().is_err()
            && !ring.pending()
            && self.held.is_empty()
        {
            self.ring = None;
            self.held = Held::new(vec![0; LONGEST].into());
            self.counters.rings_lost += 1;
        }
    }

    /// Makes packets of what is held, as far as there is room; whether all of it is packets now.
    fn unpack(&mut self, pool: &mut Pool, burst: &mut Burst) -> bool {
        let longest = pool.arena().frame_size().longest_packet();
        while !self.held.is_empty() {
            let len = self.held.next_len();
            if len > longest {
                self.counters.rx_refused += 1;
                self.held.skip();
                continue;
            }
            if burst.room() == 0 {
                return false;
            }
            let Some(mut frame) = pool.alloc() else {
                self.counters.fill_starved += 1;
                return false;
            };
            let (start, len) = (HEADROOM as u16, len as u16);
            let place = pool.arena().bytes_mut(&mut frame, start, len);
            if !self.held.write(place, self.mac, self.local.port()) {
                self.counters.rx_refused += 1;
                pool.free(frame);
                continue;
            }
            if let Err(packet) = burst.push(Packet { frame, start, len, port: self.port }) {
                pool.free(packet.frame);
            }
        }
        true
    }
}

impl Device for Udp {
    fn rx_burst(&mut self, pool: &mut Pool, burst: &mut Burst) -> usize {
        self.enable();
        if self.resting > 0 {
            self.resting -= 1;
            return 0;
        }
        let before = burst.len();
        for _ in 0..READS {
            let more = self.unpack(pool, burst) && burst.room() > 0 && burst.len() < before + ENOUGH;
            if !more || !self.receive() {
                break;
            }
        }
        let came = burst.len() - before;
        if came == 0 && self.held.is_empty() && self.ring.is_none() {
            self.resting = REST;
        }
        came
    }

    fn tx_burst(&mut self, pool: &mut Pool, packets: &mut Vec<Packet>) -> usize {
        self.enable();
        let Self { socket, local, sender, envelopes, counters, ring, closed, .. } = self;
        match ring {
            // A receiver that could not be ended would receive for nobody within the call.
            Some(ring) if !*closed && !ring.is_lost() => sender.transmit(pool, packets, counters, ring),
            _ => {
                let mut calls = Calls { socket: socket.as_fd(), v6: local.is_ipv6(), envelopes };
                sender.transmit(pool, packets, counters, &mut calls)
            }
        }
    }

    fn close(&mut self) {
        self.closed = true;
        if let Some(ring) = &mut self.ring {
            ring.close();
        }
    }

    fn pending(&self) -> bool {
        !self.held.is_empty() || self.ring.as_ref().is_some_and(Ringed::pending)
    }

    fn unfit(&self) -> usize {
        self.sender.unfit()
    }

    fn waitable(&self) -> Option<BorrowedFd<'_>> {
        // A ring's own descriptor wakes nobody for what the kernel leaves to the next call (io_uring/io_uring.c, `io_req_local_work_add`); what
        // has come is in the socket until then.
        Some(self.socket.as_fd())
    }

    fn counters(&self) -> &DeviceCounters {
        &self.counters
    }
}

#[cfg(test)]
mod tests;
