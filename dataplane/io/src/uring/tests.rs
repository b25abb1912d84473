//! Rings over UDP sockets of the loopback device, made as the control process makes them.

use super::*;
use rustix::io_uring::{IoringOp, IoringRecvFlags, io_uring_ptr};
use rustix::net::SendFlags;
use std::io::IoSlice;
use std::net::UdpSocket;
use std::thread;
use zsync_protocol::ring::{RingLayout, RingPlan, create};

/// What the control process said, in this crate's words.
pub(crate) fn shape(layout: RingLayout) -> Shape {
    let RingLayout { submissions, completions, buffers, submission, completion } = layout;
    Shape { submissions, completions, buffers, submission, completion }
}

const OPERATIONS: [IoringOp; 2] = [IoringOp::Recvmsg, IoringOp::Sendmsg];

/// A socket that sends to itself, and a ring for it with 8 submissions, 8 completions and 4 buffers.
fn ring() -> (UdpSocket, Uring) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(socket.local_addr().unwrap()).unwrap();
    let plan = RingPlan { submissions: 8, completions: 8, buffers: 4, operations: &OPERATIONS };
    let (ring, layout) = create(socket.as_fd(), plan).unwrap();
    (socket, Uring::open(ring, shape(layout), 256).unwrap())
}

/// A request without memory of its own.
fn request(operation: IoringOp, number: u64) -> io_uring_sqe {
    let mut request = io_uring_sqe { opcode: operation, ..io_uring_sqe::default() };
    request.user_data.u64_ = number;
    request
}

/// A message that says nothing of itself, and lives for good.
fn header(parts: &'static [IoSlice<'static>]) -> io_uring_ptr {
    // SAFETY: all-zero bytes are a valid `msghdr`.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = parts.as_ptr().cast_mut().cast();
    header.msg_iovlen = parts.len() as _;
    io_uring_ptr::new(std::ptr::from_mut(Box::leak(Box::new(header))).cast())
}

fn send(number: u64) -> io_uring_sqe {
    let mut request = request(IoringOp::Sendmsg, number);
    request.addr_or_splice_off_in.addr = header(Box::leak(Box::new([IoSlice::new(b"message")])));
    request.len.len = 1;
    request.op_flags.send_flags = SendFlags::DONTWAIT;
    request
}

fn receive() -> io_uring_sqe {
    let mut request = request(IoringOp::Recvmsg, u64::MAX);
    request.flags = IoringSqeFlags::BUFFER_SELECT;
    request.ioprio.recv_flags = IoringRecvFlags::MULTISHOT;
    request.addr_or_splice_off_in.addr = header(&[]);
    request.len.len = 1;
    request
}

/// What one request comes to, after `change` to it.
fn answer(ring: &mut Uring, request: io_uring_sqe, change: impl FnOnce(&mut io_uring_sqe)) -> i32 {
    let at = (ring.submissions.index_after(0) & ring.mask) as usize;
    // SAFETY: what it points to lives for good.
    assert!(unsafe { ring.push(request) });
    // SAFETY: the request that was just written, which the kernel does not look at before `enter`.
    change(unsafe { ring.requests.base().cast::<io_uring_sqe>().add(at).as_mut() });
    assert_eq!(ring.enter(1), Ok(0));
    let completion = ring.complete().unwrap();
    assert_eq!(completion.request, request.user_data.u64_());
    completion.result
}

#[test]
fn nothing_but_the_operations_and_the_file_of_the_plan_is_to_be_had() {
    let (_socket, mut ring) = ring();
    ring.enable().unwrap();
    assert_eq!(answer(&mut ring, send(1), |_| ()), 7);
    for operation in [IoringOp::Nop, IoringOp::Openat, IoringOp::Socket, IoringOp::Recv, IoringOp::UringCmd] {
        assert_eq!(answer(&mut ring, request(operation, 2), |_| ()), -libc::EACCES, "{operation:?}");
    }
    // Another file: by its descriptor, and by another number of the ring's.
    let by_descriptor = answer(&mut ring, send(3), |request| request.flags = IoringSqeFlags::empty());
    assert_eq!(by_descriptor, -libc::EACCES);
    assert_eq!(answer(&mut ring, send(4), |request| request.fd = 1), -libc::EBADF);
    let linked = |request: &mut io_uring_sqe| request.flags |= IoringSqeFlags::IO_LINK;
    assert_eq!(answer(&mut ring, send(5), linked), -libc::EACCES);
    // Nor can it be given other files, or lose its restrictions.
    for register in [IoringRegisterOp::UnregisterFiles, IoringRegisterOp::RegisterRestrictions] {
        // SAFETY: this registers no memory.
        let refused = unsafe { io_uring_register(&ring.ring, register, null(), 0) };
        assert_eq!(refused, Err(Errno::ACCESS), "{register:?}");
    }
}

#[test]
fn one_thread_uses_it_and_nobody_before_it_is_enabled() {
    let (_socket, mut ring) = ring();
    assert_eq!(ring.enter(0), Err(Errno::BADFD));
    thread::scope(|scope| scope.spawn(|| ring.enable().unwrap()).join().unwrap());
    // SAFETY: what it points to lives for good.
    assert!(unsafe { ring.push(send(1)) });
    assert_eq!(ring.enter(0), Err(Errno::EXIST));
    assert_eq!((ring.room(), ring.waiting()), (8, 0), "it is as if it had never been pushed");
}

#[test]
fn more_completions_than_there_is_room_for_wait_in_the_kernel_and_none_is_lost() {
    let (_socket, mut ring) = ring();
    ring.enable().unwrap();
    for round in 0..3 {
        for n in 0..8 {
            // SAFETY: what it points to lives for good.
            assert!(unsafe { ring.push(send(round * 8 + n)) });
        }
        // SAFETY: as above.
        assert!(!unsafe { ring.push(send(99)) }, "there is room for 8");
        assert_eq!(ring.enter(0), Ok(0));
    }
    assert!(ring.is_due());
    let mut came = Vec::new();
    while came.len() < 24 {
        while let Some(completion) = ring.complete() {
            assert_eq!(completion.result, 7);
            came.push(completion.request);
        }
        assert!(ring.is_due() || came.len() == 24, "{came:?}");
        assert_eq!(ring.enter(0), Ok(0));
    }
    assert_eq!((came, ring.is_due()), ((0..24).collect(), false));
}

#[test]
fn buffers_are_filled_until_none_is_left_and_the_rest_stays_in_the_socket() {
    let (socket, mut ring) = ring();
    ring.enable().unwrap();
    (0..6).for_each(|_| assert_eq!(socket.send(b"message").unwrap(), 7));
    // SAFETY: what it points to lives for good.
    assert!(unsafe { ring.push(receive()) });
    assert_eq!(ring.enter(1), Ok(0));
    let mut numbers = Vec::new();
    let last = loop {
        let completion = ring.complete().unwrap();
        let Some(number) = buffer_of(&completion) else { break completion };
        assert!(goes_on(&completion) && completion.result == 16 + 7);
        numbers.push(number);
    };
    assert_eq!((last.result, goes_on(&last), ring.complete()), (-libc::ENOBUFS, false, None));
    assert_eq!(numbers, [0, 1, 2, 3]);
    for number in numbers {
        let buffer = ring.take(number).unwrap();
        assert_eq!(buffer[16..23], *b"message");
        assert!(ring.take(number).is_none(), "it is here already");
        ring.give(number, buffer);
    }
    assert!(ring.take(4).is_none(), "there is none of that number");
    // SAFETY: as above.
    assert!(unsafe { ring.push(receive()) });
    assert_eq!(ring.enter(2), Ok(0));
    assert_eq!(std::iter::from_fn(|| ring.complete()).filter_map(|c| buffer_of(&c)).count(), 2);
}

#[test]
fn nothing_is_written_for_a_thread_that_has_ended() {
    let (socket, mut ring) = ring();
    thread::scope(|scope| {
        let user = scope.spawn(|| {
            ring.enable().unwrap();
            // SAFETY: what it points to lives for good.
            assert!(unsafe { ring.push(receive()) });
            assert_eq!(ring.enter(0), Ok(0));
            // The kernel has work, which it would do at the next call.
            (0..2).for_each(|_| assert_eq!(socket.send(b"message").unwrap(), 7));
            assert!(ring.is_due());
        });
        user.join().unwrap();
    });
    // The ring is open, and its buffers are there.
    (0..3).for_each(|_| assert_eq!(socket.send(b"message").unwrap(), 7));
    socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let mut bytes = [0; 8];
    (0..5).for_each(|_| assert_eq!(socket.recv(&mut bytes).unwrap(), 7, "it stays in the socket"));
    for number in 0..4 {
        assert!(ring.take(number).unwrap().iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_ring_that_is_not_as_was_said_is_refused() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let plan = RingPlan { submissions: 8, completions: 8, buffers: 4, operations: &OPERATIONS };
    let opened = |change: fn(&mut Shape)| {
        let (ring, layout) = create(socket.as_fd(), plan).unwrap();
        let mut shape = shape(layout);
        change(&mut shape);
        Uring::open(ring, shape, 256).err()
    };
    assert_eq!(opened(|_| ()), None);
    let wrong: [fn(&mut Shape); 5] = [
        |shape: &mut Shape| shape.submissions = 7,
        |shape: &mut Shape| shape.completions = 0,
        |shape: &mut Shape| shape.buffers = 3,
        |shape: &mut Shape| shape.buffers = 1 << 16,
        |shape: &mut Shape| shape.submission[3] = 2,
    ];
    for (n, change) in wrong.into_iter().enumerate() {
        assert!(opened(change).is_some(), "{n}");
    }
}
