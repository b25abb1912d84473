//! The device over sockets of the loopback device, which takes runs apart and joins datagrams as a NIC's driver would: by system
//! calls, and by a ring.

#![allow(unsafe_code)]

use super::*;
use rustix::fd::AsRawFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;
use zsync_packet::frame::FrameSize;
use zsync_packet::header::build::{ethernet, udp_packet};
use zsync_packet::header::{Ethernet, Ipv4, Ipv6, Udp as View, ether_type};
use zsync_packet::verdict::Verdict;
use zsync_protocol::ring::{self, create};

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

/// Each of these both ways.
macro_rules! both_ways {
    ($($name:ident)*) => {
        mod by_calls {
            $(#[test] fn $name() { super::$name(super::By::Calls) })*
        }
        mod by_ring {
            $(#[test] fn $name() { super::$name(super::By::Ring) })*
        }
    };
}

both_ways! {
    datagrams_come_behind_headers_that_say_what_the_kernel_said
    a_run_leaves_as_one_message_and_comes_as_one_and_is_the_same_packets
    what_a_burst_has_no_room_for_waits_in_its_order
    without_frames_nothing_is_lost_and_what_no_frame_holds_is_counted
    what_can_never_leave_stays_in_front_and_holds_nobody_up
    an_unspecified_source_is_the_kernels_to_choose
    runs_that_the_kernel_does_not_take_apart_go_one_by_one
    nobody_at_the_other_end_stops_nothing
    a_successor_goes_on_with_the_same_socket
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

/// Each pair: a device's address, and one that a peer may have.
const FAMILIES: [(&str, &str); 4] = [
    ("127.0.0.1:0", "127.0.0.2:0"),
    ("0.0.0.0:0", "127.0.0.2:0"),
    ("[::]:0", "[::1]:0"),
    ("[::]:0", "127.0.0.3:0"),
];

/// Where a peer at `peer` reaches a device at `local`.
fn reached(local: SocketAddr, peer: SocketAddr) -> SocketAddr {
    let address: IpAddr = match (local.ip().is_unspecified(), peer.is_ipv4()) {
        (false, _) => local.ip(),
        (true, true) => Ipv4Addr::LOCALHOST.into(),
        (true, false) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(address, local.port())
}

fn datagrams_come_behind_headers_that_say_what_the_kernel_said(by: By) {
    for (local, peer) in FAMILIES {
        let mut bench = bench(by, local);
        let peer = UdpSocket::bind(peer).unwrap();
        let from = peer.local_addr().unwrap();
        let to = reached(bench.local, from);
        let (level, option) = match from {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        set(&peer, level, option, 0xb9);
        let sent = payloads(&[0, 1, 148, 1452, 1700]);
        sent.iter().for_each(|payload| assert_eq!(peer.send_to(payload, to).unwrap(), payload.len()));
        let came = bench.receive_all(sent.len());
        let expected: Vec<_> = sent.into_iter().map(|payload| (from, to, 0xb9, payload)).collect();
        assert_eq!(came, expected, "{local}");
        assert_eq!(bench.pool.available(), 256);
    }
}

fn a_run_leaves_as_one_message_and_comes_as_one_and_is_the_same_packets(by: By) {
    for (local, peer) in FAMILIES {
        let (mut ours, mut theirs) = (bench(by, local), bench(by, peer));
        let (to, from) = (theirs.local, reached(ours.local, theirs.local));
        // A whole burst; the last of a run is shorter; one way and length is followed by another.
        let lens: Vec<usize> = [vec![1452; 40], vec![700], vec![80; 20], vec![1452; 3]].concat();
        let sent = payloads(&lens);
        let mut packets: Vec<Packet> =
            sent.iter().map(|payload| ours.packet(from, to, 0x2e, payload)).collect();
        assert_eq!((ours.send(&mut packets), packets.len()), (lens.len(), 0));
        let calls = if by == By::Calls { 3 } else { 1 };
        assert_eq!(ours.udp.counters().kicks, calls, "41, 20 and 3 packets in one message each");
        assert_eq!((ours.udp.counters().kick_errors, ours.pool.available()), (0, 256));
        let came = theirs.receive_all(sent.len());
        let expected: Vec<_> = sent.into_iter().map(|payload| (from, to, 0x2e, payload)).collect();
        assert!(came == expected, "{local}: other packets came, or in another order");
    }
}

fn what_a_burst_has_no_room_for_waits_in_its_order(by: By) {
    let (mut ours, mut theirs) = (bench(by, "127.0.0.1:0"), bench(by, "127.0.0.2:0"));
    let sent = payloads(&[900; 150]);
    for payloads in sent.chunks(50) {
        let mut packets: Vec<Packet> =
            payloads.iter().map(|payload| ours.packet(ours.local, theirs.local, 0, payload)).collect();
        assert_eq!(ours.send(&mut packets), 50);
    }
    // Another stage has left little room.
    for _ in 0..BURST - 7 {
        let frame = theirs.pool.alloc().unwrap();
        theirs.burst.push(Packet { frame, start: 0, len: 1, port: PortId(0) }).unwrap();
    }
    assert_eq!(theirs.udp.rx_burst(&mut theirs.pool, &mut theirs.burst), 7);
    let mut came: Vec<Vec<u8>> = (BURST - 7..BURST).map(|i| said(theirs.burst.bytes(i)).3).collect();
    theirs.burst.free_into(&mut theirs.pool);
    came.extend(theirs.receive_all(143).into_iter().map(|(.., payload)| payload));
    assert!(came == sent);
}

fn without_frames_nothing_is_lost_and_what_no_frame_holds_is_counted(by: By) {
    let mut bench = bench(by, "127.0.0.1:0");
    let peer = UdpSocket::bind("127.0.0.2:0").unwrap();
    let frames: Vec<_> = std::iter::from_fn(|| bench.pool.alloc()).collect();
    peer.send_to(b"first", bench.local).unwrap();
    peer.send_to(&[7; 5000], bench.local).unwrap();
    peer.send_to(b"second", bench.local).unwrap();
    for _ in 0..20 {
        assert_eq!(bench.udp.rx_burst(&mut bench.pool, &mut bench.burst), 0);
    }
    assert!(bench.udp.counters().fill_starved > 1);
    frames.into_iter().for_each(|frame| bench.pool.free(frame));
    let came: Vec<Vec<u8>> = bench.receive_all(2).into_iter().map(|(.., payload)| payload).collect();
    assert_eq!(came, [b"first".to_vec(), b"second".to_vec()]);
    assert_eq!(bench.udp.counters().rx_refused, 1);
}

fn what_can_never_leave_stays_in_front_and_holds_nobody_up(by: By) {
    let (mut ours, mut theirs) = (bench(by, "127.0.0.1:0"), bench(by, "127.0.0.2:0"));
    let (from, to) = (ours.local, theirs.local);
    let stranger = SocketAddr::new(from.ip(), from.port() ^ 1);
    // A source that is nobody's here: the kernel does not send it.
    let nobody = SocketAddr::new([192, 0, 2, 1].into(), from.port());
    let mut packets = vec![
        ours.packet(from, to, 0, b"one"),
        ours.packet(stranger, to, 0, b"another port"),
        ours.packet(from, to, 0, b"two"),
        ours.packet(nobody, to, 0, b"no source"),
        ours.packet(from, to, 0, b"three"),
    ];
    assert_eq!((ours.send(&mut packets), packets.len(), ours.udp.unfit()), (3, 2, 2));
    let left: Vec<Vec<u8>> = packets.iter().map(|packet| said_anywhere(ours.bytes(packet))).collect();
    assert_eq!(left, [b"another port".to_vec(), b"no source".to_vec()]);
    let came: Vec<Vec<u8>> = theirs.receive_all(3).into_iter().map(|(.., payload)| payload).collect();
    assert_eq!(came, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    ours.pool.free_many(packets.into_iter().map(|packet| packet.frame));
    assert_eq!((ours.send(&mut Vec::new()), ours.udp.unfit()), (0, 0));
}

/// The payload of a packet to any station.
fn said_anywhere(packet: &[u8]) -> Vec<u8> {
    Ipv4::parse(&packet[14..]).unwrap().payload()[8..].to_vec()
}

fn an_unspecified_source_is_the_kernels_to_choose(by: By) {
    for (local, any, peer) in [
        ("0.0.0.0:0", "0.0.0.0", "127.0.0.2:0"),
        ("[::]:0", "::", "[::1]:0"),
        ("[::]:0", "0.0.0.0", "127.0.0.2:0"),
    ] {
        let (mut ours, mut theirs) = (bench(by, local), bench(by, peer));
        let from = SocketAddr::new(any.parse().unwrap(), ours.local.port());
        let mut packets = vec![ours.packet(from, theirs.local, 0, b"whence")];
        assert_eq!(ours.send(&mut packets), 1);
        let (from, to, _, payload) = theirs.receive_all(1).remove(0);
        assert_eq!((to, payload), (theirs.local, b"whence".to_vec()));
        assert!(from.ip().is_loopback() && from.port() == ours.local.port(), "{from}");
    }
}

fn runs_that_the_kernel_does_not_take_apart_go_one_by_one(by: By) {
    let (mut ours, mut theirs) = (bench(by, "127.0.0.1:0"), bench(by, "127.0.0.2:0"));
    // Without checksums of UDP it cuts nothing (net/ipv4/udp.c, `udp_send_skb`).
    set(&ours.udp.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
    let sent = payloads(&[1000; 8]);
    let mut packets: Vec<Packet> =
        sent.iter().map(|payload| ours.packet(ours.local, theirs.local, 0, payload)).collect();
    assert_eq!((ours.send(&mut packets), ours.udp.unfit()), (8, 0));
    let calls = if by == By::Calls { 9 } else { 3 };
    assert_eq!((ours.udp.counters().kicks, ours.udp.counters().kick_errors), (calls, 1), "one run was tried");
    let came: Vec<Vec<u8>> = theirs.receive_all(8).into_iter().map(|(.., payload)| payload).collect();
    assert!(came == sent);
}

fn nobody_at_the_other_end_stops_nothing(by: By) {
    let mut ours = bench(by, "127.0.0.1:0");
    let gone = UdpSocket::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let peer = UdpSocket::bind("127.0.0.2:0").unwrap();
    for _ in 0..5 {
        let mut packets = vec![ours.packet(ours.local, gone, 0, b"to nobody")];
        assert_eq!(ours.send(&mut packets), 1);
        peer.send_to(b"from somebody", ours.local).unwrap();
        assert_eq!(ours.receive_all(1)[0].3, b"from somebody");
    }
}

fn a_successor_goes_on_with_the_same_socket(by: By) {
    let (socket, local) = open("127.0.0.1:0");
    let kept = socket.try_clone().unwrap();
    let mut first = over(by, socket, local);
    let peer = UdpSocket::bind("127.0.0.2:0").unwrap();
    peer.send_to(b"one", local).unwrap();
    assert_eq!(first.receive_all(1)[0].3, b"one");
    drop(first);
    peer.send_to(b"meanwhile", local).unwrap();
    let mut second = over(by, kept, local);
    assert_eq!(second.receive_all(1)[0].3, b"meanwhile");
    let to = peer.local_addr().unwrap();
    let mut packets = vec![second.packet(local, to, 0, b"back")];
    assert_eq!(second.send(&mut packets), 1);
    let mut bytes = [0; 16];
    assert_eq!(peer.recv_from(&mut bytes).unwrap(), (4, local));
}

#[test]
fn an_empty_socket_rests_and_is_asked_again() {
    let mut bench = bench(By::Calls, "127.0.0.1:0");
    assert_eq!(bench.udp.rx_burst(&mut bench.pool, &mut bench.burst), 0);
    UdpSocket::bind("127.0.0.2:0").unwrap().send_to(b"hello", bench.local).unwrap();
    let passes = (1..).find(|_| bench.udp.rx_burst(&mut bench.pool, &mut bench.burst) == 1).unwrap();
    assert_eq!(passes, REST + 1);
    bench.burst.free_into(&mut bench.pool);
}

#[test]
fn who_sleeps_beside_an_armed_ring_is_woken_by_what_comes() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut bench = bench(By::Ring, "127.0.0.1:0");
    let peer = UdpSocket::bind("127.0.0.2:0").unwrap();
    for n in 0..3_u8 {
        // Armed, and nothing there.
        assert_eq!(bench.udp.rx_burst(&mut bench.pool, &mut bench.burst), 0);
        let woken = |bench: &Bench, ms: i64| {
            let mut polled = [PollFd::from_borrowed_fd(bench.udp.waitable().unwrap(), PollFlags::IN)];
            poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: ms * 1_000_000 })).unwrap()
        };
        assert_eq!((woken(&bench, 5), bench.udp.pending()), (0, false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                peer.send_to(&[n], bench.local).unwrap();
            });
            // It sleeps already, and has less than a second.
            assert_eq!(woken(&bench, 900), 1);
        });
        assert_eq!(bench.receive_all(1)[0].3, [n]);
    }
}

#[test]
fn when_all_buffers_wait_the_rest_stays_in_the_socket_and_comes_then() {
    let (socket, local) = open("127.0.0.1:0");
    let kept = socket.try_clone().unwrap();
    let mut bench = over(By::Ring, socket, local);
    // Each of another length, so that none are joined.
    let peer = UdpSocket::bind("127.0.0.2:0").unwrap();
    let sent = payloads(&(1..=40).collect::<Vec<_>>());
    let frames: Vec<_> = std::iter::from_fn(|| bench.pool.alloc()).collect();
    sent.iter().for_each(|payload| _ = peer.send_to(payload, local).unwrap());
    for _ in 0..3 {
        assert_eq!(bench.udp.rx_burst(&mut bench.pool, &mut bench.burst), 0);
    }
    assert!(bench.udp.pending());
    assert_eq!(bench.udp.counters().fill_starved, 3 + 1, "frames, and buffers once");
    let waiting = rustix::io::ioctl_fionread(&kept).unwrap();
    assert!(waiting > 0, "the kernel has {} buffers, and the socket the rest", ring::UDP.buffers);
    // Somebody takes the device out of service: what it has is given out, and the rest is a successor's.
    frames.into_iter().for_each(|frame| bench.pool.free(frame));
    bench.udp.close();
    let mut came = Vec::new();
    while bench.udp.pending() {
        let packets = bench.receive();
        came.extend(packets.iter().map(|packet| said(bench.bytes(packet)).3));
        bench.pool.free_many(packets.into_iter().map(|packet| packet.frame));
    }
    assert_eq!(came, sent[..came.len()]);
    assert_eq!(came.len(), ring::UDP.buffers as usize);
    drop(bench);
    let mut second = over(By::Ring, kept, local);
    came.extend(second.receive_all(sent.len() - came.len()).into_iter().map(|(.., payload)| payload));
    assert!(came == sent);
}

#[test]
fn what_comes_after_a_ring_was_closed_is_a_successors() {
    let (socket, local) = open("127.0.0.1:0");
    let kept = socket.try_clone().unwrap();
    let peer = UdpSocket::bind("127.0.0.2:0").unwrap();
    let to = peer.local_addr().unwrap();
    let mut bench = over(By::Ring, socket, local);
    // The kernel has work that it does when the thread calls, or ends.
    std::thread::spawn(move || {
        peer.send_to(b"before", local).unwrap();
        assert_eq!(bench.receive_all(1)[0].3, b"before");
        peer.send_to(b"at the end", local).unwrap();
        bench.udp.close();
        peer.send_to(b"after", local).unwrap();
        let mut packets = vec![bench.packet(local, to, 0, b"goodbye")];
        assert_eq!(bench.send(&mut packets), 1);
        let mut bytes = [0; 16];
        assert_eq!(peer.recv_from(&mut bytes).unwrap(), (7, local));
        peer.send_to(b"last", local).unwrap();
        let ring = bench.udp.ring.as_ref().unwrap();
        assert!(!bench.udp.pending() && !ring.is_due(), "the receiver goes on");
        // As of a process that ends with what it has.
        std::mem::forget(bench);
    })
    .join()
    .unwrap();
    let came = over(By::Ring, kept, local).receive_all(3);
    let came: Vec<_> = came.into_iter().map(|(.., payload)| payload).collect();
    assert_eq!(came, [b"at the end".to_vec(), b"after".to_vec(), b"last".to_vec()]);
}

#[test]
fn a_ring_of_another_thread_is_left_for_system_calls() {
    let (socket, local) = open("127.0.0.1:0");
    let (ring, shape) = ring(&socket);
    let other = ring.try_clone().unwrap();
    std::thread::spawn(move || crate::uring::Uring::open(other, shape, 64).unwrap().enable().unwrap())
        .join()
        .unwrap();
    let pool = Pool::heap(FrameSize::K2, 256, 1).unwrap().remove(0);
    let burst = Burst::new(pool.arena().clone());
    let mut udp = Udp::new(socket, local, PortId(3), MAC);
    udp.go_by(ring, shape).unwrap();
    let mut bench = Bench { udp, local, pool, burst };
    UdpSocket::bind("127.0.0.2:0").unwrap().send_to(b"hello", local).unwrap();
    assert_eq!(bench.receive_all(1)[0].3, b"hello");
    assert_eq!(bench.udp.counters().kick_errors, 1);
}

#[test]
fn a_ring_that_the_kernel_refuses_later_is_left_for_system_calls_and_what_it_brought_is_not_lost() {
    let mut bench = bench(By::Ring, "127.0.0.1:0");
    let peer = UdpSocket::bind("127.0.0.2:0").unwrap();
    let to = peer.local_addr().unwrap();
    // Another thread has enabled it; what came to that one is not looked at yet.
    let frames: Vec<_> = std::iter::from_fn(|| bench.pool.alloc()).collect();
    peer.send_to(b"first", bench.local).unwrap();
    peer.send_to(b"another", bench.local).unwrap();
    let mut bench = std::thread::spawn(move || {
        assert_eq!(bench.udp.rx_burst(&mut bench.pool, &mut bench.burst), 0);
        bench
    })
    .join()
    .unwrap();
    frames.into_iter().for_each(|frame| bench.pool.free(frame));
    let mut packets =
        vec![bench.packet(bench.local, to, 0, b"refused"), bench.packet(bench.local, to, 0, b"next")];
    assert_eq!(bench.send(&mut packets), 0);
    assert_eq!(bench.send(&mut packets), 2, "what was not sent is sent by calls");
    peer.send_to(b"third", bench.local).unwrap();
    let came: Vec<_> = bench.receive_all(3).into_iter().map(|(.., payload)| payload).collect();
    assert_eq!(came, [b"first".to_vec(), b"another".to_vec(), b"third".to_vec()]);
    assert!(bench.udp.ring.is_none() && bench.udp.counters().kick_errors == 1);
    let mut bytes = [0; 16];
    assert_eq!(peer.recv_from(&mut bytes).unwrap(), (7, bench.local));
}

#[test]
fn a_ring_that_is_not_as_was_said_leaves_the_device_with_system_calls() {
    let (socket, local) = open("127.0.0.1:0");
    let (_ring, shape) = ring(&socket);
    let mut bench = over(By::Calls, socket, local);
    let none = std::fs::File::open("/dev/null").unwrap().into();
    assert!(bench.udp.go_by(none, shape).is_err());
    UdpSocket::bind("127.0.0.2:0").unwrap().send_to(b"hello", local).unwrap();
    assert_eq!(bench.receive_all(1)[0].3, b"hello");
}
