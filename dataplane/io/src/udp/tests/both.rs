//! What is true by system calls and by a ring alike, and of an empty socket by calls.

use super::*;
use std::net::{Ipv4Addr, Ipv6Addr};

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
        assert_eq!(ours.udp.counters().kicks, 1, "41, 20 and 3 packets in one message each");
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
    assert_eq!((ours.udp.counters().kicks, ours.udp.counters().kick_errors), (3, 1), "one run was tried");
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
