//! The devices of this process: AF_XDP sockets, packet sockets, TUN and TAP devices, and UDP sockets. A closed choice, so that a call is one branch per burst.

use rustix::fd::BorrowedFd;
use zsync_io::device::{Arrived, Device, DeviceCounters};
use zsync_io::packet::PacketSocket;
use zsync_io::tun::Tun;
use zsync_io::udp::Udp;
use zsync_io::xsk::Xsk;
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::pool::Pool;

/// A device that control has handed over.
#[allow(clippy::large_enum_variant, reason = "there is one for each queue, and nearly all are the large one")]
pub enum Endpoint {
    /// A queue of a NIC.
    Xsk(Xsk),
    /// A packet socket of a NIC.
    Packet(PacketSocket),
    /// A queue of a TUN or TAP device.
    Tun(Tun),
    /// A UDP socket.
    Udp(Udp),
}

macro_rules! each {
    ($self:ident, $device:ident => $call:expr) => {
        match $self {
            Self::Xsk($device) => $call,
            Self::Packet($device) => $call,
            Self::Tun($device) => $call,
            Self::Udp($device) => $call,
        }
    };
}

impl Device for Endpoint {
    #[inline]
    fn complete(&mut self, pool: &mut Pool) -> usize {
        each!(self, device => device.complete(pool))
    }

    #[inline]
    fn rx_burst(&mut self, pool: &mut Pool, burst: &mut Burst) -> usize {
        each!(self, device => device.rx_burst(pool, burst))
    }

    #[inline]
    fn tx_burst(&mut self, pool: &mut Pool, packets: &mut Vec<Packet>) -> usize {
        each!(self, device => device.tx_burst(pool, packets))
    }

    #[inline]
    fn unfit(&self) -> usize {
        each!(self, device => device.unfit())
    }

    #[inline]
    fn flush(&mut self, now: u64, force: bool) {
        each!(self, device => device.flush(now, force));
    }

    fn waitable(&self) -> Option<BorrowedFd<'_>> {
        each!(self, device => device.waitable())
    }

    #[inline]
    fn unflushed(&self) -> bool {
        each!(self, device => device.unflushed())
    }

    #[inline]
    fn pending(&self) -> bool {
        each!(self, device => device.pending())
    }

    fn arrived(&self) -> Arrived {
        each!(self, device => device.arrived())
    }

    #[inline]
    fn counters(&self) -> &DeviceCounters {
        each!(self, device => device.counters())
    }
}
