//! What a packet costs a TUN device and a packet socket: by system calls, as the devices here have it, and by requests of io_uring.
//!
//! `cargo bench -p zsync-io --bench requests` (root). In one thread and a network namespace of its own, each way with a device of its own:
//! so many packets wait and are received, or so many are sent. Each figure is a median of rounds in which the ways take turns:
//! nanoseconds of the thread's processor time a packet, and how many times as fast as by the first way.

use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::io::{IoSlice, read, write, writev};
use rustix::io_uring::{IoringOp, IoringRecvFlags, IoringSqeFlags, io_uring_ptr, io_uring_sqe};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::io::Error;
use zsync_io::uring::{Shape, Uring, buffer_of, goes_on};
use zsync_protocol::ring::{self, RingLayout, RingPlan};

const ROUNDS: usize = 25;
/// Packets of a round. A TUN device keeps as many.
const PACKETS: usize = 1024;
/// Bytes of an IP packet, and packets that are there at once.
const LENS: [usize; 2] = [60, 1500];
const COUNTS: [usize; 3] = [1, 4, SENT];
/// Packets of one call at most, as the devices have it.
const SENT: usize = 64;
const RECEIVED: usize = 32;
/// Bytes ahead of each packet (`struct virtio_net_hdr`), and of a message of the longest kind.
const AHEAD: usize = 10;
const LONGEST: usize = 1 << 16;
/// Room for what the kernel says beside a frame (`PACKET_AUXDATA`).
const BESIDE: usize = 40;
/// The receiver among requests, and a type of frames that nobody listens to but who asks for it.
const RECEIVER: u64 = u64::MAX;
const ETHER_TYPE: u16 = 0x88b5;

const RING: RingPlan<'_> = RingPlan {
    submissions: 128,
    completions: 256,
    buffers: RECEIVED as u32,
    operations: &[IoringOp::ReadMultishot, IoringOp::Write, IoringOp::Recvmsg, IoringOp::Send],
};

/// A TUN device, or an Ethernet device with a packet socket.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Tun,
    Packet,
}

/// A device by which packets go one way or the other.
struct Bench {
    kind: Kind,
    /// Where they are received and sent: the TUN device's queue, or the socket.
    near: OwnedFd,
    /// The other end of the device.
    far: OwnedFd,
    ring: Uring,
    receives: bool,
    /// What the receiver is told of a message.
    header: Box<libc::msghdr>,
    /// A packet, with what is ahead of it.
    message: Vec<u8>,
    buffers: Vec<Vec<u8>>,
    /// What calls point to, and what the kernel says beside messages.
    headers: Vec<libc::mmsghdr>,
    parts: Vec<[libc::iovec; 2]>,
    beside: Vec<[u64; BESIDE / 8]>,
}

/// The thread's processor time, in nanoseconds.
fn now() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn checked(result: i32, what: &str) -> i32 {
    assert!(result >= 0, "{what}: {} (root is needed)", Error::last_os_error());
    result
}

/// A queue of a new device that is up.
fn open_device(name: &str, kind: Kind) -> OwnedFd {
    let flags =
        libc::IFF_NO_PI | libc::IFF_VNET_HDR | if kind == Kind::Tun { libc::IFF_TUN } else { libc::IFF_TAP };
    // SAFETY: paths end with a zero; the requests here read and write a `struct ifreq` at most, which is local.
    unsafe {
        let how = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let queue = OwnedFd::from_raw_fd(checked(libc::open(c"/dev/net/tun".as_ptr(), how), "/dev/net/tun"));
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte as libc::c_char);
        request.ifr_ifru.ifru_flags = flags as i16;
        checked(libc::ioctl(queue.as_raw_fd(), libc::TUNSETIFF, &mut request), "TUNSETIFF");
        let socket =
            OwnedFd::from_raw_fd(checked(libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0), "a socket"));
        request.ifr_ifru.ifru_metric = PACKETS as i32;
        checked(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFTXQLEN, &mut request), "the queue's length");
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_NOARP) as i16;
        checked(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &mut request), "up");
        queue
    }
}

/// A packet socket as the control process opens it, for frames of one type or for none.
fn open_socket(name: &str, ether_type: u16) -> OwnedFd {
    let (room, one) = (64 << 20, 1);
    // SAFETY: each pointer is of a local, whose length is said; the name ends with a zero.
    unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK;
        let socket = OwnedFd::from_raw_fd(checked(libc::socket(libc::AF_PACKET, kind, 0), "a packet socket"));
        for (level, option, value) in [
            (libc::SOL_PACKET, libc::PACKET_VNET_HDR, one),
            (libc::SOL_PACKET, libc::PACKET_AUXDATA, one),
            (libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, one),
            (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, room),
            (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, room),
        ] {
            let set = libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), 4);
            checked(set, "an option");
        }
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ether_type.to_be();
        let name = std::ffi::CString::new(name).expect("a name");
        address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
        let len = size_of::<libc::sockaddr_ll>() as u32;
        checked(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len), "binding");
        socket
    }
}

/// An IP packet to nobody.
fn packet(len: usize) -> Vec<u8> {
    let [high, low] = (len as u16).to_be_bytes();
    let ip = [0x45, 0, high, low, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 2, 10, 8, 0, 1];
    ip.into_iter().chain(std::iter::repeat(7)).take(len).collect()
}

/// A message of these parts.
fn header_of(parts: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: all-zero bytes are a valid structure of this kind: numbers and null pointers.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (parts.as_mut_ptr(), parts.len());
    header
}

fn part(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

impl Bench {
    fn new(kind: Kind, name: &str, len: usize) -> Self {
        let queue = open_device(name, kind);
        let ahead = [vec![0; AHEAD], vec![2; 12], ETHER_TYPE.to_be_bytes().to_vec()];
        let (near, far, ahead) = match kind {
            Kind::Tun => (queue, open_socket(name, 0), ahead[0].clone()),
            Kind::Packet => (open_socket(name, ETHER_TYPE), queue, ahead.concat()),
        };
        let (ring, layout) = ring::create(near.as_fd(), RING).expect("a ring");
        let RingLayout { submissions, completions, buffers, submission, completion } = layout;
        let shape = Shape { submissions, completions, buffers, submission, completion };
        let mut ring = Uring::open(ring, shape, LONGEST).expect("the ring");
        ring.enable().expect("a ring of this thread");
        let mut header = Box::new(header_of(&mut []));
        header.msg_controllen = BESIDE;
        let (message, buffers) = ([ahead, packet(len)].concat(), vec![vec![0; LONGEST]; RECEIVED]);
        let headers = (0..SENT).map(|_| libc::mmsghdr { msg_hdr: header_of(&mut []), msg_len: 0 }).collect();
        let (parts, beside) = (vec![[part(&[]); 2]; SENT], vec![[0; BESIDE / 8]; RECEIVED]);
        Self { headers, parts, beside, kind, near, far, ring, receives: false, header, message, buffers }
    }

    /// Lets packets come to the near end.
    fn feed(&self, count: usize) {
        (0..count).for_each(|_| _ = write(&self.far, &self.message).expect("room"));
    }

    /// Takes away what has come to the far end.
    fn drain(&self) {
        if self.kind == Kind::Packet {
            while read(&self.far, &mut [0; 2048]).is_ok() {}
        }
    }

    fn request(&mut self, operation: IoringOp, number: u64, change: impl FnOnce(&mut io_uring_sqe)) {
        let mut request = io_uring_sqe { opcode: operation, ..io_uring_sqe::default() };
        request.user_data.u64_ = number;
        change(&mut request);
        // SAFETY: what requests point to here is the bench's, or waited for before it goes.
        assert!(unsafe { self.ring.push(request) }, "there is room");
    }

    fn read_each(&mut self, count: usize) {
        for _ in 0..count {
            read(&self.near, &mut *self.buffers[0]).expect("a packet");
            black_box(&self.buffers);
        }
    }

    fn receive_mmsg(&mut self, count: usize) {
        let mut came = 0;
        while came < count {
            for (n, (header, beside)) in
                self.headers.iter_mut().zip(&mut self.beside).enumerate().take(RECEIVED)
            {
                self.parts[n][0] = part(&self.buffers[n]);
                header.msg_hdr = header_of(&mut self.parts[n][..1]);
                header.msg_hdr.msg_control = beside.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = BESIDE;
            }
            let (most, flags) = (RECEIVED as u32, libc::MSG_DONTWAIT);
            let (socket, none) = (self.near.as_raw_fd(), std::ptr::null_mut());
            // SAFETY: all of it is the bench's, and its lengths are said.
            let result = unsafe { libc::recvmmsg(socket, self.headers.as_mut_ptr(), most, flags, none) };
            came += checked(result, "receiving") as usize;
            black_box(&self.buffers);
        }
    }

    fn receive_multishot(&mut self, count: usize) {
        let mut came = 0;
        while came < count {
            if !self.receives {
                let header = io_uring_ptr::new((&raw mut *self.header).cast());
                let operation =
                    if self.kind == Kind::Tun { IoringOp::ReadMultishot } else { IoringOp::Recvmsg };
                self.request(operation, RECEIVER, |request| {
                    request.flags = IoringSqeFlags::BUFFER_SELECT;
                    if operation == IoringOp::Recvmsg {
                        request.ioprio.recv_flags = IoringRecvFlags::MULTISHOT;
                        request.addr_or_splice_off_in.addr = header;
                        request.len.len = 1;
                    }
                });
                self.receives = true;
            }
            assert_eq!(self.ring.enter(0), Ok(0));
            while let Some(completion) = self.ring.complete() {
                self.receives = goes_on(&completion);
                let Some(number) = buffer_of(&completion) else { continue };
                let buffer = self.ring.take(number).expect("a buffer of ours");
                black_box(&buffer);
                self.ring.give(number, buffer);
                came += 1;
            }
        }
    }

    /// Each packet is copied behind what goes ahead of it.
    fn write_copies(&mut self, count: usize) {
        let (packet, place) = (&self.message[AHEAD..], &mut self.buffers[0][..self.message.len()]);
        for _ in 0..count {
            place[AHEAD..].copy_from_slice(packet);
            write(&self.near, &*place).expect("room");
        }
    }

    fn write_parts(&mut self, count: usize) {
        let (ahead, packet) = self.message.split_at(AHEAD);
        let parts = [IoSlice::new(ahead), IoSlice::new(packet)];
        (0..count).for_each(|_| _ = writev(&self.near, &parts).expect("room"));
    }

    fn send_mmsg(&mut self, count: usize) {
        let (ahead, packet) = self.message.split_at(AHEAD);
        for (header, parts) in self.headers.iter_mut().zip(&mut self.parts).take(count) {
            *parts = [part(ahead), part(packet)];
            header.msg_hdr = header_of(parts);
        }
        let (socket, flags) = (self.near.as_raw_fd(), libc::MSG_DONTWAIT);
        // SAFETY: all of it is the bench's, and its lengths are said.
        let result = unsafe { libc::sendmmsg(socket, self.headers.as_mut_ptr(), count as u32, flags) };
        assert_eq!(checked(result, "sending"), count as i32);
    }

    fn send_requests(&mut self, count: usize) {
        let operation = if self.kind == Kind::Tun { IoringOp::Write } else { IoringOp::Send };
        let (at, len) = (io_uring_ptr::new(self.message.as_mut_ptr().cast()), self.message.len() as u32);
        for number in 0..count {
            self.request(operation, number as u64, |request| {
                request.addr_or_splice_off_in.addr = at;
                request.len.len = len;
            });
        }
        assert_eq!(self.ring.enter(count as u32), Ok(0));
        let done = std::iter::from_fn(|| self.ring.complete()).filter(|completion| completion.result > 0);
        assert_eq!(done.count(), count);
    }
}

type Way = (&'static str, fn(&mut Bench, usize));

/// What is measured: of what, whether it comes, and the ways.
const CASES: [(Kind, bool, &str, &[Way]); 4] = [
    (
        Kind::Tun,
        true,
        "read from a TUN device",
        &[("read", Bench::read_each), ("ring", Bench::receive_multishot)],
    ),
    (
        Kind::Tun,
        false,
        "written to a TUN device",
        &[("write", Bench::write_copies), ("writev", Bench::write_parts), ("ring", Bench::send_requests)],
    ),
    (
        Kind::Packet,
        true,
        "received by a packet socket",
        &[("recvmmsg", Bench::receive_mmsg), ("ring", Bench::receive_multishot)],
    ),
    (
        Kind::Packet,
        false,
        "sent by a packet socket",
        &[("sendmmsg", Bench::send_mmsg), ("ring", Bench::send_requests)],
    ),
];

fn median(costs: &mut [f64]) -> f64 {
    costs.sort_by(f64::total_cmp);
    costs.get(costs.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One way's devices are measured: nanoseconds a packet.
fn measure(bench: &mut Bench, way: fn(&mut Bench, usize), comes: bool, count: usize, clock: f64) -> f64 {
    let mut spent = 0;
    for _ in 0..PACKETS / count {
        bench.feed(if comes { count } else { 0 });
        let start = now();
        way(bench, count);
        spent += now() - start;
        bench.drain();
    }
    spent as f64 / PACKETS as f64 - clock / count as f64
}

fn main() {
    // SAFETY: it takes a number, and nothing else here knows of the namespace before.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNET) }, "a network namespace");
    let looks = (0..PACKETS).map(|_| -(now() as f64 - now() as f64));
    let clock = median(&mut looks.collect::<Vec<_>>());
    // A ring keeps its device for a while after it was closed, and the device its name.
    let mut names = (0..).map(|number| format!("bench{number}"));
    for (kind, comes, what, ways) in CASES {
        for len in LENS {
            let open = |_: &Way| Bench::new(kind, &names.next().unwrap_or_default(), len);
            let mut benches: Vec<Bench> = ways.iter().map(open).collect();
            for count in COUNTS {
                println!("{what}, {len} bytes, {count} at once:");
                let mut costs = vec![Vec::new(); ways.len()];
                for turn in (0..ROUNDS * ways.len()).map(|n| (n + n / ways.len()) % ways.len()) {
                    costs[turn].push(measure(&mut benches[turn], ways[turn].1, comes, count, clock));
                }
                let mut first = f64::NAN;
                for ((name, _), costs) in ways.iter().zip(&mut costs) {
                    let cost = median(costs);
                    first = if first.is_nan() { cost } else { first };
                    println!("  {name:<12} {cost:>7.1} ns  {:>5.2}", first / cost);
                }
            }
        }
    }
}
