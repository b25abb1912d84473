//! The device over sockets of the loopback device, which takes runs apart and joins datagrams as a NIC's driver would: what its tests
//! by system calls and by a ring are made with.

#![allow(unsafe_code)]

use super::*;
use rustix::fd::AsRawFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;
use zsync_packet::frame::FrameSize;
use zsync_packet::header::build::{ethernet, udp_packet};
use zsync_packet::header::{Ethernet, Ipv4, Ipv6, Udp as View, ether_type};
use zsync_packet::verdict::Verdict;
use zsync_protocol::ring::{self, create};

mod both;
mod ringed;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0];

fn set(socket: &impl AsFd, level: i32, option: i32, value: i32) {
    let len = size_of::<i32>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the pointer and the length are those of `value`, which lives until the call returns.
    let result = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), len) };
    assert_eq!(result, 0, "option {option} of level {level}");
}

/// A socket as the control process opens it.
fn open(local: &str) -> (OwnedFd, SocketAddr) {
    let local: SocketAddr = local.parse().unwrap();
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
    if local.is_ipv6() {
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0);
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1);
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1);
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT);
    }
    set(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1);
    set(&socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1);
    set(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT);
    set(&socket, libc::SOL_UDP, libc::UDP_GRO, 1);
    bind(&socket, &local).unwrap();
    let bound = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
    (socket, bound)
}

/// The way that a device goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Calls,
    Ring,
}

/// A ring for a socket, as the control process makes one.
fn ring(socket: &OwnedFd) -> (OwnedFd, Shape) {
    let (ring, layout) = create(socket.as_fd(), ring::UDP).unwrap();
    (ring, crate::uring::tests::shape(layout))
}

struct Bench {
    udp: Udp,
    local: SocketAddr,
    pool: Pool,
    burst: Burst,
}

fn over(by: By, socket: OwnedFd, local: SocketAddr) -> Bench {
    let pool = Pool::heap(FrameSize::K2, 256, 1).unwrap().remove(0);
    let burst = Burst::new(pool.arena().clone());
    let ring = (by == By::Ring).then(|| ring(&socket));
    let mut udp = Udp::new(socket, local, PortId(3), MAC);
    if let Some((ring, shape)) = ring {
        udp.go_by(ring, shape).unwrap();
    }
    Bench { udp, local, pool, burst }
}

fn bench(by: By, local: &str) -> Bench {
    let (socket, local) = open(local);
    over(by, socket, local)
}

/// What a packet says of itself: source, destination, class, payload.
fn said(packet: &[u8]) -> (SocketAddr, SocketAddr, u8, Vec<u8>) {
    let frame = Ethernet::parse(packet).unwrap();
    assert_eq!((frame.destination(), frame.is_group()), (MAC, false));
    let (from, to, tos, transport): (IpAddr, IpAddr, _, _) = if frame.ether_type() == ether_type::IPV4 {
        let ip = Ipv4::parse(frame.payload()).unwrap();
        (ip.source().into(), ip.destination().into(), ip.dscp() << 2 | ip.ecn(), ip.payload())
    } else {
        let ip = Ipv6::parse(frame.payload()).unwrap();
        (ip.source().into(), ip.destination().into(), ip.dscp() << 2 | ip.ecn(), ip.payload())
    };
    let udp = View::parse(transport).unwrap();
    let ends = (SocketAddr::new(from, udp.source_port()), SocketAddr::new(to, udp.destination_port()));
    (ends.0, ends.1, tos, udp.payload().to_vec())
}

impl Bench {
    /// Receives until something has come, and takes it out of the burst.
    fn receive(&mut self) -> Vec<Packet> {
        for _ in 0..2000 {
            if self.udp.rx_burst(&mut self.pool, &mut self.burst) > 0 {
                (0..self.burst.len()).for_each(|i| self.burst.decide(i, Verdict::Transmit(PortId(3))));
                let mut packets = Vec::new();
                self.burst.drain_into(&mut packets);
                return packets;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Vec::new()
    }

    /// The same, `count` packets in all.
    fn receive_all(&mut self, count: usize) -> Vec<(SocketAddr, SocketAddr, u8, Vec<u8>)> {
        let mut all = Vec::new();
        while all.len() < count {
            let packets = self.receive();
            assert!(!packets.is_empty(), "{} of {count} came", all.len());
            all.extend(packets.iter().map(|packet| said(self.bytes(packet))));
            self.pool.free_many(packets.into_iter().map(|packet| packet.frame));
        }
        all
    }

    fn bytes<'p>(&'p self, packet: &'p Packet) -> &'p [u8] {
        self.pool.arena().bytes(&packet.frame, packet.start, packet.len)
    }

    /// A frame that holds a datagram.
    fn packet(&mut self, from: SocketAddr, to: SocketAddr, tos: u8, payload: &[u8]) -> Packet {
        let mut ip = udp_packet(from, to, payload).unwrap();
        match from {
            SocketAddr::V4(_) => ip[1] = tos,
            SocketAddr::V6(_) => (ip[0], ip[1]) = (6 << 4 | tos >> 4, tos << 4),
        }
        let kind = if from.is_ipv4() { ether_type::IPV4 } else { ether_type::IPV6 };
        let bytes = ethernet([4; 6], [6; 6], &[], kind, &ip);
        let mut frame = self.pool.alloc().unwrap();
        let (start, len) = (HEADROOM as u16, bytes.len() as u16);
        self.pool.arena().bytes_mut(&mut frame, start, len).copy_from_slice(&bytes);
        Packet { frame, start, len, port: PortId(0) }
    }

    fn send(&mut self, packets: &mut Vec<Packet>) -> usize {
        self.udp.tx_burst(&mut self.pool, packets)
    }
}

fn payloads(lens: &[usize]) -> Vec<Vec<u8>> {
    lens.iter()
        .enumerate()
        .map(|(n, len)| (0..*len).map(|byte| (byte * 7 + n * 31) as u8).collect())
        .collect()
}
