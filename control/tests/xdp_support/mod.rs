//! What the XDP tests share: a place of their own in the kernel, and packets.
//!
//! A test runs in a network namespace and a mount namespace of its own thread, with a BPF file system mounted in the
//! latter. Both end with the thread, also when it panics, and take devices, links and pins along.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use rustix::{
    mount::{MountPropagationFlags, mount_change},
    net::{
        AddressFamily, SocketFlags, SocketType, bind, socket_with,
        sockopt::{
            set_xdp_rx_ring_size, set_xdp_umem_completion_ring_size, set_xdp_umem_fill_ring_size,
            set_xdp_umem_reg,
        },
        xdp::{SocketAddrXdp, SocketAddrXdpFlags, XdpUmemReg, XdpUmemRegFlags},
    },
    thread::{UnshareFlags, unshare_unsafe},
};
use zsync_control::xdp::{Counters, IpPrefix, PortSteering, Steer, XdpReason, mount_bpffs_if_missing};

pub(crate) const US: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A thread's own namespaces, with a veth pair (`port`, `peer`), both up, and a BPF file system.
pub(crate) struct Sandbox {
    bpffs: PathBuf,
    pub(crate) port: u32,
    pub(crate) peer: u32,
}

/// Runs `test` in a [`Sandbox`]. Without root, says so and skips; in CI that is a failure.
pub(crate) fn in_sandbox(test: impl FnOnce(&Sandbox) + Send + 'static) {
    let outcome = thread::spawn(|| {
        let Some(sandbox) = Sandbox::enter() else { return };
        test(&sandbox);
    })
    .join();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

impl Sandbox {
    fn enter() -> Option<Self> {
        // SAFETY: neither flag moves this thread's memory or descriptors.
        if let Err(error) = unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) } {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot make namespaces: {error}");
            eprintln!("SKIPPED: cannot make namespaces: {error}");
            return None;
        }
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let bpffs = std::env::temp_dir().join(format!("zsync-xdp-{}-{thread}", std::process::id()));
        let mut sandbox = Self { bpffs, port: 0, peer: 0 };
        assert!(mount_bpffs_if_missing(&sandbox.bpffs).unwrap(), "nothing was mounted there");
        assert!(!mount_bpffs_if_missing(&sandbox.bpffs).unwrap(), "mounted twice");
        for device in ["port", "peer"] {
            // Or the kernel's own neighbour discovery would be among what is counted.
            let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
            if device == "port" {
                ip(
                    "link add port address 02:00:00:00:00:01 type veth peer name peer address 02:00:00:00:00:02",
                );
            }
            ip(&format!("link set {device} up"));
        }
        sandbox.port = ifindex("port");
        sandbox.peer = ifindex("peer");
        Some(sandbox)
    }

    /// Where a port is pinned; does not exist.
    pub(crate) fn pins(&self) -> PathBuf {
        self.bpffs.join("zsync").join("port")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.bpffs, rustix::mount::UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.bpffs);
    }
}

pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}: {status}");
}

/// sysfs shows the namespace that it was mounted in: ask `ip`.
fn ifindex(device: &str) -> u32 {
    let output = Command::new("ip").args(["-o", "link", "show", device]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(':').next().unwrap().parse().unwrap()
}

/// Sends frames out of `device`, past the stack.
pub(crate) struct Injector {
    socket: OwnedFd,
    ifindex: u32,
}

impl Injector {
    pub(crate) fn new(ifindex: u32) -> Self {
        // SAFETY: no pointers; the descriptor is new and ours.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        Self { socket, ifindex }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: self.ifindex as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0; 8],
        };
        // SAFETY: both pointers are valid for the lengths given beside them.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }
}

#[repr(align(4096))]
#[derive(Clone)]
struct Page([u8; 4096]);

/// A bound AF_XDP socket that nobody drains.
pub(crate) struct Xsk {
    socket: OwnedFd,
    _umem: Vec<Page>,
}

impl Xsk {
    pub(crate) fn bind(ifindex: u32, queue: u32) -> Self {
        let umem = vec![Page([0; 4096]); 16];
        let socket = socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None).unwrap();
        let region = XdpUmemReg {
            addr: umem.as_ptr() as u64,
            len: size_of_val(&umem[..]) as u64,
            chunk_size: 4096,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        set_xdp_umem_reg(&socket, region).unwrap();
        set_xdp_umem_fill_ring_size(&socket, 16).unwrap();
        set_xdp_umem_completion_ring_size(&socket, 16).unwrap();
        set_xdp_rx_ring_size(&socket, 16).unwrap();
        bind(&socket, &SocketAddrXdp::new(SocketAddrXdpFlags::XDP_COPY, ifindex, queue)).unwrap();
        Self { socket, _umem: umem }
    }
}

impl AsFd for Xsk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

pub(crate) fn steering(steer: Steer) -> PortSteering {
    PortSteering { layer3: true, fallback_open: true, steer, block: vec![] }
}

pub(crate) fn prefix(text: &str) -> IpPrefix {
    let (addr, len) = text.split_once('/').unwrap();
    IpPrefix { addr: addr.parse().unwrap(), len: len.parse().unwrap() }
}

/// The reasons that counted something between two readings.
pub(crate) fn counted(before: &Counters, after: &Counters) -> Vec<(XdpReason, u64, u64)> {
    XdpReason::ALL
        .into_iter()
        .map(|r| (r, after.of(r).packets - before.of(r).packets, after.of(r).bytes - before.of(r).bytes))
        .filter(|(_, packets, _)| *packets != 0)
        .collect()
}

pub(crate) fn ethernet(destination: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &PEER, &ethertype.to_be_bytes(), payload].concat()
}

pub(crate) fn tag(tpid: u16, vlan: u16, frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &tpid.to_be_bytes(), &vlan.to_be_bytes(), &frame[12..]].concat()
}

/// `fragment` is the 16-bit flags and offset field.
pub(crate) fn ipv4(source: &str, destination: &str, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let source: Ipv4Addr = source.parse().unwrap();
    let destination: Ipv4Addr = destination.parse().unwrap();
    let length = (20 + payload.len() as u16).to_be_bytes();
    let fragment = fragment.to_be_bytes();
    let start = [0x45, 0, length[0], length[1], 0, 0, fragment[0], fragment[1], 64, protocol, 0, 0];
    let packet = [&start[..], &source.octets(), &destination.octets(), payload].concat();
    ethernet(US, 0x0800, &packet)
}

pub(crate) fn ipv6(source: &str, destination: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let source: Ipv6Addr = source.parse().unwrap();
    let destination: Ipv6Addr = destination.parse().unwrap();
    let length = (payload.len() as u16).to_be_bytes();
    let start = [0x60, 0, 0, 0, length[0], length[1], next, 64];
    let packet = [&start[..], &source.octets(), &destination.octets(), payload].concat();
    ethernet(US, 0x86dd, &packet)
}

pub(crate) fn udp(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes(), 12u16.to_be_bytes(), [0, 0], *b"zs", *b"yn"].concat()
}

pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
