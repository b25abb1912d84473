//! The device over a pair of sockets that keep messages apart, as a TUN device does.

use super::*;
use crate::virtio;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use zsync_packet::frame::FrameSize;
use zsync_packet::header::build::{Ipv4Spec, TcpSpec};
use zsync_packet::header::{TcpFlags, protocol};
use zsync_packet::verdict::Verdict;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0];

struct Bench {
    tun: Tun,
    /// What the kernel's side is.
    host: OwnedFd,
    pool: Pool,
    burst: Burst,
}

fn bench() -> Bench {
    bench_with(|ours| Tun::new(ours, PortId(3), MAC, 1500))
}

fn bench_with(open: impl FnOnce(OwnedFd) -> Tun) -> Bench {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (ours, host) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let pool = Pool::heap(FrameSize::K2, 256, 1).unwrap().remove(0);
    let burst = Burst::new(pool.arena().clone());
    Bench { tun: open(ours), host, pool, burst }
}

/// An IP packet of this version, as far as a device looks at it.
fn packet(version: u8, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
    bytes[0] = version << 4;
    bytes
}

impl Bench {
    fn receive(&mut self) -> usize {
        // An empty device rests for a few passes.
        (0..=REST).map(|_| self.tun.rx_burst(&mut self.pool, &mut self.burst)).sum()
    }

    fn taken(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        (0..self.burst.len()).for_each(|i| self.burst.decide(i, Verdict::Transmit(PortId(3))));
        self.burst.drain_into(&mut packets);
        packets
    }
}

#[test]
fn packets_come_as_frames_and_go_as_packets() {
    let mut bench = bench();
    for (version, len) in [(4, 20), (6, 40), (4, 1500)] {
        rustix::io::write(&bench.host, &packet(version, len)).unwrap();
    }
    assert_eq!(bench.receive(), 3);
    for (i, (kind, len)) in [([8, 0], 20), ([0x86, 0xdd], 40), ([8, 0], 1500)].into_iter().enumerate() {
        let bytes = bench.burst.bytes(i);
        assert_eq!((&bytes[..6], &bytes[12..14], bytes.len()), (&MAC[..], &kind[..], 14 + len));
        assert_eq!(bytes[6] & 1, 0, "a station's address");
        assert_eq!(bench.burst.port(i), PortId(3));
    }
    let mut packets = bench.taken();
    assert_eq!(bench.tun.tx_burst(&mut bench.pool, &mut packets), 3);
    assert!(packets.is_empty());
    assert_eq!(bench.pool.available(), 256, "every frame is back");
    let mut read = [0; 2000];
    for (version, len) in [(4, 20), (6, 40), (4, 1500)] {
        assert_eq!(rustix::io::read(&bench.host, &mut read).unwrap(), len);
        assert_eq!(read[..len], packet(version, len));
    }
}

#[test]
fn an_empty_device_rests_and_is_asked_again() {
    let mut bench = bench();
    assert_eq!(bench.tun.rx_burst(&mut bench.pool, &mut bench.burst), 0);
    rustix::io::write(&bench.host, &packet(4, 20)).unwrap();
    let passes = (1..).find(|_| bench.tun.rx_burst(&mut bench.pool, &mut bench.burst) == 1).unwrap();
    assert_eq!(passes, REST + 1);
    bench.burst.free_into(&mut bench.pool);
}

#[test]
fn what_is_no_ip_is_counted_and_its_frame_comes_back() {
    let mut bench = bench();
    for bytes in [&[0x00_u8, 1, 2][..], &[0xf5; 60]] {
        rustix::io::write(&bench.host, bytes).unwrap();
    }
    assert_eq!(bench.receive(), 0);
    assert_eq!((bench.tun.counters().rx_refused, bench.pool.available()), (2, 256));
}

#[test]
fn a_burst_takes_what_it_has_room_for_and_the_rest_waits() {
    let mut bench = bench();
    for n in 0..BURST + 5 {
        rustix::io::write(&bench.host, &packet(4, 20 + n)).unwrap();
    }
    assert_eq!(bench.tun.rx_burst(&mut bench.pool, &mut bench.burst), BURST);
    bench.burst.free_into(&mut bench.pool);
    assert_eq!(bench.tun.rx_burst(&mut bench.pool, &mut bench.burst), 5);
    assert_eq!(bench.burst.bytes(4).len(), 14 + 20 + BURST + 4);
    bench.burst.free_into(&mut bench.pool);
    assert_eq!(bench.pool.available(), 256);
}

#[test]
fn frames_of_something_else_stay_and_hold_nobody_up() {
    let mut bench = bench();
    for _ in 0..3 {
        rustix::io::write(&bench.host, &packet(4, 60)).unwrap();
    }
    assert_eq!(bench.receive(), 3);
    bench.burst.bytes_mut(1)[12..14].copy_from_slice(&[8, 6]);
    let mut packets = bench.taken();
    assert_eq!(bench.tun.tx_burst(&mut bench.pool, &mut packets), 2);
    assert_eq!((packets.len(), bench.pool.available()), (1, 255));
    let bytes = bench.pool.arena().bytes(&packets[0].frame, packets[0].start, packets[0].len);
    assert_eq!(bytes[12..14], [8, 6], "the one that is no IP");
    bench.pool.free(packets.remove(0).frame);
}

#[test]
fn without_frames_nothing_is_read() {
    let mut bench = bench();
    let held: Vec<_> = std::iter::from_fn(|| bench.pool.alloc()).collect();
    rustix::io::write(&bench.host, &packet(4, 20)).unwrap();
    assert_eq!(bench.receive(), 0);
    assert!(bench.tun.counters().fill_starved > 0);
    held.into_iter().for_each(|frame| bench.pool.free(frame));
    assert_eq!(bench.receive(), 1, "the packet has waited");
    bench.burst.free_into(&mut bench.pool);
}

/// A device with a header ahead of each packet.
fn offloading() -> Bench {
    bench_with(|ours| Tun::with_header(ours, PortId(3), MAC, 1500, true))
}

/// What the kernel gives for this much of a stream, with the header that says so.
fn stands_for_many(len: usize) -> Vec<u8> {
    let spec = Ipv4Spec::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), protocol::TCP);
    let body: Vec<u8> = (0..len).map(|n| (n / 3) as u8).collect();
    let segment = TcpSpec::new(1, 2, TcpFlags::ACK).segment(spec.address_sum(), &body);
    let mut packet = spec.packet(&segment);
    let sum = spec.address_sum().with_u16(6).with_u16(segment.len() as u16);
    packet[36..38].copy_from_slice(&(!sum.finish()).to_be_bytes());
    let header = virtio::Header { flags: 1, gso: 1, headers: 40, size: 1000, start: 20, offset: 16 };
    [&header.to_bytes()[..], &packet].concat()
}

#[test]
fn one_read_is_many_packets_and_one_write_is_all_of_them() {
    let mut bench = offloading();
    let whole = stands_for_many(30_500);
    rustix::io::write(&bench.host, &whole).unwrap();
    rustix::io::write(&bench.host, &[&[0; 10][..], &packet(6, 40)].concat()).unwrap();
    assert_eq!(bench.receive(), 32);
    assert_eq!((bench.burst.bytes(0).len(), bench.burst.bytes(30).len()), (14 + 1040, 14 + 540));
    let mut packets = bench.taken();
    assert_eq!(bench.tun.tx_burst(&mut bench.pool, &mut packets), 32);
    let mut read = [0; 65_000];
    let len = rustix::io::read(&bench.host, &mut read).unwrap();
    assert!(read[..len] == whole, "what was cut is whole again, header and all");
    let len = rustix::io::read(&bench.host, &mut read).unwrap();
    assert_eq!(read[..len], [&[0; 10][..], &packet(6, 40)].concat());
    let counters = bench.tun.counters();
    assert_eq!((counters.split, counters.merged, counters.rx_refused), (1, 1, 0));
    assert_eq!(bench.pool.available(), 256, "every frame is back");
}

#[test]
fn what_a_burst_has_no_room_for_waits_in_the_device() {
    let mut bench = offloading();
    rustix::io::write(&bench.host, &stands_for_many(60_000)).unwrap();
    rustix::io::write(&bench.host, &stands_for_many(60_000)).unwrap();
    assert_eq!(bench.tun.rx_burst(&mut bench.pool, &mut bench.burst), BURST);
    let sequence = |burst: &Burst, i| u32::from_be_bytes(burst.bytes(i)[38..42].try_into().unwrap());
    assert_eq!([0, 59, 60, 63].map(|i| sequence(&bench.burst, i)), [0, 59_000, 0, 3000]);
    bench.burst.free_into(&mut bench.pool);
    // No frame, and nothing is lost by it.
    let mut held: Vec<_> = std::iter::from_fn(|| bench.pool.alloc()).collect();
    assert_eq!(bench.receive(), 0);
    held.drain(..3).for_each(|frame| bench.pool.free(frame));
    assert_eq!(bench.receive(), 3);
    assert_eq!(sequence(&bench.burst, 0), 4000);
    bench.burst.free_into(&mut bench.pool);
    held.into_iter().for_each(|frame| bench.pool.free(frame));
    assert_eq!(bench.receive(), 53);
    assert_eq!(sequence(&bench.burst, 0), 7000);
    bench.burst.free_into(&mut bench.pool);
    assert_eq!((bench.tun.counters().split, bench.pool.available()), (2, 256));
}

#[test]
fn lies_are_counted_and_nothing_of_them_arrives() {
    let mut bench = offloading();
    let mut lie = stands_for_many(3000);
    lie[4..6].fill(0);
    for bytes in [&lie[..], &[0; 10], &[1, 2, 3], &[0; 40], &[&[0; 10][..], &packet(4, 1501)].concat()] {
        rustix::io::write(&bench.host, bytes).unwrap();
    }
    assert_eq!(bench.receive(), 0);
    assert_eq!((bench.tun.counters().rx_refused, bench.pool.available()), (5, 256));
}

#[test]
fn what_the_kernel_does_not_take_together_is_offered_alone() {
    let mut bench = offloading();
    rustix::io::write(&bench.host, &stands_for_many(3000)).unwrap();
    assert_eq!(bench.receive(), 3);
    let mut packets = bench.taken();
    drop(std::mem::replace(&mut bench.host, rustix::io::dup(&bench.tun.queue).unwrap()));
    assert_eq!(bench.tun.tx_burst(&mut bench.pool, &mut packets), 0, "nobody is there");
    assert_eq!((packets.len(), bench.tun.counters().merged), (3, 0));
    packets.drain(..).for_each(|packet| bench.pool.free(packet.frame));
}

/// A TAP device, with a header ahead of each frame.
fn of_frames() -> Bench {
    bench_with(|ours| Tun::with_header(ours, PortId(3), MAC, 1500, true).of_frames())
}

/// An Ethernet header, with these tags.
fn link(station: u8, tags: &[u8], kind: [u8; 2]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, station, 2, 0, 0, 0, 0, 9][..], tags, &kind].concat()
}

#[test]
fn frames_of_any_kind_come_and_go_as_they_are() {
    let bare = bench_with(|ours| Tun::new(ours, PortId(3), MAC, 1500).of_frames());
    for (mut bench, ahead) in [(bare, &[][..]), (of_frames(), &[0; 10][..])] {
        let frames = [
            [link(1, &[], [8, 6]), vec![7; 46]].concat(),
            [link(1, &[0x81, 0, 0, 7], [8, 0]), packet(4, 1500)].concat(),
            [link(1, &[], [0x86, 0xdd]), packet(6, 40)].concat(),
            link(1, &[], [0x88, 0xcc]),
        ];
        for frame in &frames {
            rustix::io::write(&bench.host, &[ahead, frame].concat()).unwrap();
        }
        rustix::io::write(&bench.host, &[ahead, &frames[3][..13]].concat()).unwrap();
        assert_eq!(bench.receive(), 4);
        assert_eq!(bench.tun.counters().rx_refused, 1, "no whole Ethernet header");
        for (i, frame) in frames.iter().enumerate() {
            assert_eq!(bench.burst.bytes(i), frame);
        }
        let mut packets = bench.taken();
        assert_eq!(bench.tun.tx_burst(&mut bench.pool, &mut packets), 4);
        let mut read = [0; 2000];
        for frame in &frames {
            let len = rustix::io::read(&bench.host, &mut read).unwrap();
            assert_eq!(read[..len], [ahead, frame].concat());
        }
        assert_eq!(bench.pool.available(), 256, "every frame is back");
    }
}

/// [`stands_for_many`] behind an Ethernet header.
fn framed(len: usize, station: u8, tags: &[u8]) -> Vec<u8> {
    let whole = stands_for_many(len);
    let (header, ip) = whole.split_first_chunk().unwrap();
    let link = link(station, tags, [8, 0]);
    [&virtio::Header::parse(header).ahead(link.len() as u16).to_bytes()[..], &link, ip].concat()
}

#[test]
fn frames_that_stand_for_many_are_cut_behind_their_ethernet_header_and_joined_again() {
    let mut bench = of_frames();
    let whole = framed(3500, 1, &[]);
    rustix::io::write(&bench.host, &whole).unwrap();
    assert_eq!(bench.receive(), 4);
    assert_eq!((bench.burst.bytes(0).len(), bench.burst.bytes(3).len()), (14 + 1040, 14 + 540));
    assert_eq!(bench.burst.bytes(3)[..14], link(1, &[], [8, 0]));
    let mut packets = bench.taken();
    assert_eq!(bench.tun.tx_burst(&mut bench.pool, &mut packets), 4);
    let mut read = [0; 65_000];
    let len = rustix::io::read(&bench.host, &mut read).unwrap();
    assert!(read[..len] == whole, "what was cut is whole again, headers and all");
    // With a tag it is cut behind that, and leaves as it is.
    rustix::io::write(&bench.host, &framed(3500, 1, &[0x81, 0, 0, 7])).unwrap();
    assert_eq!(bench.receive(), 4);
    assert_eq!(bench.burst.bytes(0).len(), 18 + 1040);
    let mut packets = bench.taken();
    assert_eq!(bench.tun.tx_burst(&mut bench.pool, &mut packets), 4);
    let lens: Vec<_> = (0..4).map(|_| rustix::io::read(&bench.host, &mut read).unwrap()).collect();
    assert_eq!(lens, [1068, 1068, 1068, 568]);
    let counters = bench.tun.counters();
    assert_eq!((counters.split, counters.merged, bench.pool.available()), (2, 1, 256));
}

#[test]
fn frames_to_two_stations_do_not_become_one() {
    let mut bench = of_frames();
    rustix::io::write(&bench.host, &framed(3000, 1, &[])).unwrap();
    assert_eq!(bench.receive(), 3);
    bench.burst.bytes_mut(1)[5] = 2;
    let mut packets = bench.taken();
    assert_eq!(bench.tun.tx_burst(&mut bench.pool, &mut packets), 3);
    let mut read = [0; 65_000];
    for station in [1, 2, 1] {
        assert_eq!(rustix::io::read(&bench.host, &mut read).unwrap(), 10 + 14 + 1040);
        assert_eq!(read[15], station);
    }
    assert_eq!(bench.tun.counters().merged, 0);
}
