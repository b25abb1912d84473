//! What a datagram costs a UDP socket that is a device: by system calls, and by io_uring with so many buffers.
//!
//! `cargo bench -p zsync-io --bench udp`. Over the loopback device, in one thread: datagrams of 1,420 bytes are sent into the socket, and
//! then received, or sent to sockets of which nobody reads. Each figure is a median of rounds in which the ways take turns: nanoseconds
//! of the thread's processor time a datagram, and how many times as fast as by system calls.

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::time::{ClockId, clock_gettime};
use std::net::{SocketAddr, UdpSocket};
use zsync_io::device::Device;
use zsync_io::udp::Udp;
use zsync_io::uring::Shape;
use zsync_packet::burst::{BURST, Burst, Packet};
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::build::{ethernet, udp_packet};
use zsync_packet::header::ether_type;
use zsync_packet::pool::Pool;
use zsync_packet::verdict::PortId;
use zsync_protocol::ring::{self, RingPlan};

const ROUNDS: usize = 25;
/// Bytes of a datagram: what WireGuard makes of its largest packet, nearly.
const LEN: usize = 1_420;
/// Datagrams of a round: as many as wait in a socket's 8 MiB, in whole bursts.
const DATAGRAMS: usize = 32 * BURST;
/// Buffers of a ring.
const BUFFERS: [u32; 5] = [4, 8, 16, 32, 64];

/// A socket that takes joined datagrams, with these options.
fn open(options: &[(i32, i32, i32)]) -> (OwnedFd, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let local = socket.local_addr().expect("its address");
    socket.set_nonblocking(true).expect("a socket that does not wait");
    for (level, option, value) in options.iter().copied().chain([(libc::SOL_UDP, libc::UDP_GRO, 1)]) {
        let fd = socket.as_raw_fd();
        // SAFETY: the pointer and the length are those of `value`, which lives until the call returns.
        let result = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), 4) };
        assert_eq!(result, 0, "option {option} of level {level} (root is needed)");
    }
    (socket.into(), local)
}

/// A socket as the control process opens it.
fn open_port() -> (OwnedFd, SocketAddr) {
    open(&[
        (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20),
        (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 8 << 20),
        (libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        (libc::IPPROTO_IP, libc::IP_RECVTOS, 1),
    ])
}

/// A device, its frames, and how much of what it took.
struct Bench {
    name: String,
    udp: Udp,
    local: SocketAddr,
    pool: Pool,
    burst: Burst,
    /// Nanoseconds a datagram, by case.
    costs: [Vec<f64>; CASES.len()],
}

impl Bench {
    /// With a ring of so many buffers, or none.
    fn new(buffers: Option<u32>) -> Self {
        let (socket, local) = open_port();
        let ring = buffers.map(|buffers| {
            let plan = RingPlan { buffers, ..ring::UDP };
            let (ring, layout) = ring::create(socket.as_fd(), plan).expect("a ring");
            let ring::RingLayout { submissions, completions, buffers, submission, completion } = layout;
            (ring, Shape { submissions, completions, buffers, submission, completion })
        });
        let mut udp = Udp::new(socket, local, PortId(0), [2; 6]);
        if let Some((ring, shape)) = ring {
            udp.go_by(ring, shape).expect("the ring");
        }
        let name =
            buffers.map_or_else(|| "system calls".to_owned(), |count| format!("ring, {count} buffers"));
        let pool = Pool::heap(FrameSize::K2, 4 * BURST as u32, 1).expect("an arena").remove(0);
        let burst = Burst::new(pool.arena().clone());
        Self { name, udp, local, pool, burst, costs: Default::default() }
    }

    fn packet(&mut self, to: SocketAddr) -> Packet {
        let ip = udp_packet(self.local, to, &[7; LEN]).expect("a datagram");
        let bytes = ethernet([4; 6], [6; 6], &[], ether_type::IPV4, &ip);
        let mut frame = self.pool.alloc().expect("a frame");
        let (start, len) = (HEADROOM as u16, bytes.len() as u16);
        self.pool.arena().bytes_mut(&mut frame, start, len).copy_from_slice(&bytes);
        Packet { frame, start, len, port: PortId(0) }
    }

    /// Sends bursts to these, one datagram to each; what one cost.
    fn send(&mut self, to: &[SocketAddr]) -> f64 {
        let mut spent = 0;
        for _ in 0..DATAGRAMS / BURST {
            let mut packets: Vec<Packet> = to.iter().map(|to| self.packet(*to)).collect();
            let start = now();
            let sent = self.udp.tx_burst(&mut self.pool, &mut packets);
            spent += now() - start;
            assert_eq!((sent, packets.len()), (BURST, 0));
        }
        spent as f64 / DATAGRAMS as f64
    }

    /// Receives what waits in the socket; what one cost.
    fn receive(&mut self) -> f64 {
        let start = now();
        let mut came = 0;
        while came < DATAGRAMS {
            came += self.udp.rx_burst(&mut self.pool, &mut self.burst);
            self.burst.free_into(&mut self.pool);
        }
        (now() - start) as f64 / DATAGRAMS as f64
    }
}

/// The thread's processor time, in nanoseconds.
fn now() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

const CASES: [&str; 4] =
    ["received, each alone", "received, joined by the kernel", "sent, each to another", "sent, all to one"];

fn median(costs: &mut [f64]) -> f64 {
    costs.sort_by(f64::total_cmp);
    costs.get(costs.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() {
    let ways = std::iter::once(None).chain(BUFFERS.map(Some));
    let mut benches: Vec<Bench> = ways.map(Bench::new).collect();
    let far = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (_sockets, many): (Vec<OwnedFd>, Vec<SocketAddr>) = (0..BURST).map(|_| open(&[])).unzip();
    let one = vec![many[0]; BURST];
    // A device that sends runs, for those that receive.
    let mut sender = Bench::new(None);
    for _ in 0..ROUNDS {
        for bench in &mut benches {
            (0..DATAGRAMS).for_each(|_| _ = far.send_to(&[7; LEN], bench.local).expect("room"));
            let alone = bench.receive();
            sender.send(&vec![bench.local; BURST]);
            let joined = bench.receive();
            let costs = [alone, joined, bench.send(&many), bench.send(&one)];
            bench.costs.iter_mut().zip(costs).for_each(|(all, cost)| all.push(cost));
        }
    }
    for (case, name) in CASES.iter().enumerate() {
        println!("{name}:");
        let mut calls = f64::NAN;
        for bench in &mut benches {
            let cost = median(&mut bench.costs[case]);
            calls = if calls.is_nan() { cost } else { calls };
            println!("  {:<18} {cost:>7.1} ns  {:>5.2}", bench.name, calls / cost);
        }
    }
}
