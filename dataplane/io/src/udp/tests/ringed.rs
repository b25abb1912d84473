//! What only the way by a ring has: buffers that run out, an end to receiving, and rings that are no use.

use super::*;

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
    assert_eq!(bench.udp.counters().rings_lost, 1);
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
    assert!(bench.udp.ring.is_none() && bench.udp.counters().rings_lost == 1);
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
    assert_eq!(bench.udp.counters().rings_lost, 1);
    UdpSocket::bind("127.0.0.2:0").unwrap().send_to(b"hello", local).unwrap();
    assert_eq!(bench.receive_all(1)[0].3, b"hello");
}
