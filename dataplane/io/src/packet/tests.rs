//! The device over a pair of sockets that keep messages apart, as a packet socket does.

use super::*;
use crate::virtio::{HEADER_LEN, Header};
use held::SLOTS;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use zsync_packet::frame::FrameSize;
use zsync_packet::verdict::Verdict;

struct Bench {
    device: PacketSocket,
    /// What the kernel's side is.
    host: OwnedFd,
    pool: Pool,
    burst: Burst,
}

fn bench() -> Bench {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (ours, host) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let pool = Pool::heap(FrameSize::K2, 256, 1).unwrap().remove(0);
    let burst = Burst::new(pool.arena().clone());
    Bench { device: PacketSocket::new(ours, PortId(3)), host, pool, burst }
}

fn frame(len: usize) -> Vec<u8> {
    (0..len).map(|n| n as u8).collect()
}

impl Bench {
    /// The kernel has this frame for us.
    fn give(&self, frame: &[u8]) {
        rustix::io::write(&self.host, &[&[0; HEADER_LEN][..], frame].concat()).unwrap();
    }

    fn receive(&mut self) -> usize {
        // An empty device rests for a few passes.
        (0..=REST).map(|_| self.device.rx_burst(&mut self.pool, &mut self.burst)).sum()
    }

    fn taken(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        (0..self.burst.len()).for_each(|i| self.burst.decide(i, Verdict::Transmit(PortId(3))));
        self.burst.drain_into(&mut packets);
        packets
    }

    /// What we have sent.
    fn sent(&self) -> Option<Vec<u8>> {
        let mut read = [0xee; 3000];
        let len = rustix::io::read(&self.host, &mut read).ok()?;
        assert_eq!(read[..HEADER_LEN], [0; HEADER_LEN]);
        Some(read[HEADER_LEN..len].to_vec())
    }
}

#[test]
fn frames_come_and_go_as_they_are() {
    let mut bench = bench();
    let lens = [14, 60, 1514, 1600];
    lens.iter().for_each(|len| bench.give(&frame(*len)));
    assert_eq!(bench.receive(), 4);
    for (i, len) in lens.iter().enumerate() {
        assert_eq!((bench.burst.bytes(i), bench.burst.port(i)), (&frame(*len)[..], PortId(3)));
    }
    let mut packets = bench.taken();
    assert_eq!(bench.device.tx_burst(&mut bench.pool, &mut packets), 4);
    assert!(packets.is_empty());
    lens.iter().for_each(|len| assert_eq!(bench.sent(), Some(frame(*len))));
    assert_eq!(
        (bench.pool.available(), bench.device.counters().kicks),
        (256, 1),
        "every frame is back, in one call"
    );
}

#[test]
fn what_a_burst_has_no_room_for_waits_and_order_is_kept() {
    let mut bench = bench();
    let count = BURST + SLOTS / 2;
    (0..count).for_each(|n| bench.give(&frame(60 + n)));
    assert_eq!(bench.device.rx_burst(&mut bench.pool, &mut bench.burst), BURST);
    (0..BURST).for_each(|n| assert_eq!(bench.burst.bytes(n).len(), 60 + n));
    bench.burst.free_into(&mut bench.pool);
    // No frame, and nothing is lost by it.
    let held: Vec<_> = std::iter::from_fn(|| bench.pool.alloc()).collect();
    assert_eq!(bench.receive(), 0);
    assert!(bench.device.pending() && bench.device.counters().fill_starved > 0);
    held.into_iter().for_each(|frame| bench.pool.free(frame));
    assert_eq!(bench.device.rx_burst(&mut bench.pool, &mut bench.burst), SLOTS / 2);
    (0..SLOTS / 2).for_each(|n| assert_eq!(bench.burst.bytes(n).len(), 60 + BURST + n));
    bench.burst.free_into(&mut bench.pool);
    assert_eq!((bench.pool.available(), bench.device.pending()), (256, false));
}

#[test]
fn an_empty_socket_rests_and_is_asked_again() {
    let mut bench = bench();
    assert_eq!(bench.device.rx_burst(&mut bench.pool, &mut bench.burst), 0);
    bench.give(&frame(60));
    let passes = (1..).find(|_| bench.device.rx_burst(&mut bench.pool, &mut bench.burst) == 1).unwrap();
    assert_eq!(passes, REST + 1);
    bench.burst.free_into(&mut bench.pool);
}

#[test]
fn what_no_frame_of_ours_holds_is_counted_and_others_arrive() {
    let mut bench = bench();
    let longest = FrameSize::K2.longest_packet();
    let lie = Header { gso: 1, size: 0, headers: 40, ..Header::default() };
    for bytes in [frame(longest + 1), frame(13), frame(longest), Vec::new()] {
        bench.give(&bytes);
    }
    rustix::io::write(&bench.host, &[&lie.to_bytes()[..], &frame(2000)].concat()).unwrap();
    rustix::io::write(&bench.host, &[0; 3]).unwrap();
    bench.give(&frame(60));
    assert_eq!(bench.receive(), 2);
    assert_eq!((bench.burst.bytes(0).len(), bench.burst.bytes(1).len()), (longest, 60));
    assert_eq!(bench.device.counters().rx_refused, 5);
    bench.burst.free_into(&mut bench.pool);
    assert_eq!(bench.pool.available(), 256);
}

#[test]
fn what_is_not_sent_now_stays_and_what_never_will_is_unfit() {
    let mut bench = bench();
    (0..BURST).for_each(|n| bench.give(&frame(60 + n)));
    assert_eq!(bench.receive(), BURST);
    let mut packets = bench.taken();
    // The kernel's side takes no more than its buffer holds.
    rustix::net::sockopt::set_socket_send_buffer_size(&bench.device.socket, 4096).unwrap();
    let sent = bench.device.tx_burst(&mut bench.pool, &mut packets);
    assert!(sent > 0 && sent < BURST, "{sent}");
    assert_eq!((packets.len(), bench.device.unfit()), (BURST - sent, 0));
    for n in 0..sent {
        assert_eq!(bench.sent().unwrap().len(), 60 + n);
    }
    assert_eq!(bench.sent(), None);
    drop(std::mem::replace(&mut bench.host, rustix::io::dup(&bench.device.socket).unwrap()));
    let left = packets.len();
    assert_eq!(bench.device.tx_burst(&mut bench.pool, &mut packets), 0, "nobody is there");
    assert_eq!((packets.len(), bench.device.unfit()), (left, left));
    packets.drain(..).for_each(|packet| bench.pool.free(packet.frame));
    assert_eq!(bench.pool.available(), 256);
}

/// A socket of UDP keeps errors for the next call, as a packet socket does: that of the datagram before, which nobody took.
#[test]
fn an_error_of_before_is_no_refusal_of_what_is_sent_now() {
    let mut bench = bench();
    let host = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = host.local_addr().unwrap();
    drop(host);
    let ours = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    ours.connect(address).unwrap();
    bench.device = PacketSocket::new(ours.into(), PortId(3));
    let mut packets: Vec<Packet> = (0..2)
        .map(|n| Packet { frame: bench.pool.alloc().unwrap(), start: 0, len: 60 + n, port: PortId(3) })
        .collect();
    let second = packets.split_off(1);
    assert_eq!(bench.device.tx_burst(&mut bench.pool, &mut packets), 1);
    let host = std::net::UdpSocket::bind(address).unwrap();
    let mut packets = second;
    assert_eq!((bench.device.tx_burst(&mut bench.pool, &mut packets), bench.device.unfit()), (1, 0));
    assert_eq!(host.recv(&mut [0; 100]).unwrap(), HEADER_LEN + 61);
    assert_eq!((bench.device.counters().kicks, bench.pool.available()), (3, 256));
}
