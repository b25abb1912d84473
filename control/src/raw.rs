//! The few kernel calls that no safe crate wraps: TUN and TAP devices, options of sockets, the queues of a NIC, files that stay in memory.
//!
//! Each function is one call with its own structure, checked by the compiler for size, and nothing outlives it but what is said to.

#![allow(unsafe_code)]

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::c_int;

/// `XDP_MAX_TX_SKB_BUDGET` (include/uapi/linux/if_xdp.h, Linux 6.17): packets that one `sendto` sends in copy mode.
const XDP_MAX_TX_SKB_BUDGET: c_int = 9;
/// `SO_PREFER_BUSY_POLL` and `SO_BUSY_POLL_BUDGET` (include/uapi/asm-generic/socket.h).
const SO_PREFER_BUSY_POLL: c_int = 69;
const SO_BUSY_POLL_BUDGET: c_int = 70;

/// Sets an option of a socket that is a number.
///
/// # Errors
/// What the kernel answers.
pub fn set_option(socket: impl AsFd, level: c_int, option: c_int, value: c_int) -> Result<(), Errno> {
    // SAFETY: the pointer and the length are those of `value`, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(last()) }
}

/// Binds a packet socket to all protocols of a netdev: from then on it receives.
///
/// # Errors
/// There is no such netdev.
pub fn bind_packet(socket: impl AsFd, ifindex: u32) -> Result<(), Errno> {
    // SAFETY: all-zero bytes are a valid `sockaddr_ll`: numbers and a byte array.
    let mut name: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    name.sll_family = libc::AF_PACKET as libc::c_ushort;
    name.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    name.sll_ifindex = ifindex as c_int;
    // SAFETY: the pointer and the length are those of `name`, which lives until the call returns.
    let result = unsafe {
        libc::bind(
            socket.as_fd().as_raw_fd(),
            (&raw const name).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(last()) }
}

/// Reads an option of a socket that is `N` numbers.
///
/// # Errors
/// What the kernel answers; `EINVAL` where it has fewer.
pub fn numbers<const N: usize>(socket: impl AsFd, level: c_int, option: c_int) -> Result<[c_int; N], Errno> {
    let mut numbers = [0; N];
    let mut len = size_of_val(&numbers) as libc::socklen_t;
    // SAFETY: the pointer and the length are those of `numbers`, which lives until the call returns; any bits are numbers.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, option, numbers.as_mut_ptr().cast(), &raw mut len)
    };
    match result {
        0 if len as usize == size_of_val(&numbers) => Ok(numbers),
        0 => Err(Errno::INVAL),
        _ => Err(last()),
    }
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Lets one wake-up send `packets` packets in copy mode.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 6.17: it sends 32 then.
pub fn set_tx_budget(socket: impl AsFd, packets: u32) -> Result<(), Errno> {
    set_option(socket, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, packets as c_int)
}

/// The kernel's NAPI of this queue runs when the socket asks, `budget` packets at a time.
///
/// # Errors
/// What the kernel answers.
pub fn prefer_busy_poll(socket: impl AsFd, microseconds: u32, budget: u32) -> Result<(), Errno> {
    set_option(&socket, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL, microseconds as c_int)?;
    set_option(&socket, libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, budget as c_int)
}

/// Opens a TUN device `name` that carries bare IP packets, non-blocking. It goes when its last descriptor is closed.
///
/// # Errors
/// No `/dev/net/tun`, no CAP_NET_ADMIN, or the name is taken.
pub fn open_tun(name: &str) -> Result<OwnedFd, Errno> {
    open_tun_with(name, libc::IFF_TUN)
}

/// Opens a queue of a TUN device, or of a TAP device, which has `frames`, with a header of virtio ahead of each packet; one more, if the
/// device may have `several`. It goes when its last descriptor is closed, unless somebody has made it to stay.
///
/// # Errors
/// As [`open_tun`]; `EINVAL` where there is a device of that name that has another number of queues, or is none of that kind.
pub fn open_tun_queue(name: &str, frames: bool, several: bool) -> Result<OwnedFd, Errno> {
    let kind = if frames { libc::IFF_TAP } else { libc::IFF_TUN };
    open_tun_with(name, kind | libc::IFF_VNET_HDR | if several { libc::IFF_MULTI_QUEUE } else { 0 })
}

fn open_tun_with(name: &str, kind: c_int) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let tun = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    let mut request = request_for(name);
    request.ifr_ifru.ifru_flags = (kind | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives until the call returns.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 { Err(last()) } else { Ok(tun) }
}

/// Whether a queue of a TUN or TAP device has a header of virtio ahead of each packet.
///
/// # Errors
/// It is no such queue.
pub fn has_header(queue: impl AsFd) -> Result<bool, Errno> {
    let mut request = request_for("");
    // SAFETY: TUNGETIFF writes one `ifreq`, which lives until the call returns.
    let result = unsafe { libc::ioctl(queue.as_fd().as_raw_fd(), libc::TUNGETIFF, &raw mut request) };
    if result < 0 {
        return Err(last());
    }
    // SAFETY: the kernel has written the flags, and any bits are flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(c_int::from(flags) & libc::IFF_VNET_HDR != 0)
}

/// Has the kernel put `len` bytes of virtio's header ahead of the packets of a device whose queue was opened with one.
///
/// # Errors
/// A length that the kernel does not know.
pub fn set_header_len(queue: impl AsFd, len: c_int) -> Result<(), Errno> {
    // SAFETY: TUNSETVNETHDRSZ reads one `int`, which lives until the call returns.
    let result = unsafe { libc::ioctl(queue.as_fd().as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) };
    if result < 0 { Err(last()) } else { Ok(()) }
}

/// Has the kernel leave to who reads a device what it can: missing checksums, and TCP segments that stand for several; with `udp`
/// datagrams too.
///
/// # Errors
/// `EINVAL`: the kernel does not know of `udp` (before Linux 6.2), and nothing has changed.
pub fn take_offload(queue: impl AsFd, udp: bool) -> Result<(), Errno> {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let all = if udp { tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6 } else { tcp };
    // SAFETY: TUNSETOFFLOAD takes its argument as a number.
    let result =
        unsafe { libc::ioctl(queue.as_fd().as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(all)) };
    if result < 0 { Err(last()) } else { Ok(()) }
}

fn request_for(netdev: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid `ifreq`: a union of plain data and a byte array.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(netdev.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn any_socket() -> Result<OwnedFd, Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

/// Keeps a file's first bytes in memory, as long as this process lives.
///
/// # Errors
/// ENOMEM, EPERM: more than RLIMIT_MEMLOCK, without CAP_IPC_LOCK.
pub fn keep_in_memory(file: impl AsFd, length: usize) -> Result<(), Errno> {
    use rustix::mm::{MapFlags, ProtFlags, mlock, mmap, munmap};
    // SAFETY: a new mapping, where the kernel puts it; nobody is told where, so nothing reads it, whatever becomes of the file.
    unsafe {
        let at = mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, file.as_fd(), 0)?;
        mlock(at, length).inspect_err(|_| {
            let _ = munmap(at, length);
        })
    }
}

/// Brings a netdev up.
///
/// # Errors
/// There is none of that name, or CAP_NET_ADMIN is missing.
pub fn set_up(netdev: &str) -> Result<(), Errno> {
    let socket = any_socket()?;
    let mut request = request_for(netdev);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    if result < 0 { Err(last()) } else { Ok(()) }
}

/// Gives a netdev an IPv4 address, and no network with it.
///
/// # Errors
/// There is none of that name, or CAP_NET_ADMIN is missing.
pub fn set_address(netdev: &str, address: std::net::Ipv4Addr) -> Result<(), Errno> {
    let socket = any_socket()?;
    let mut request = request_for(netdev);
    let [a, b, c, d] = address.octets().map(|byte| byte as libc::c_char);
    request.ifr_ifru.ifru_addr = libc::sockaddr {
        sa_family: libc::AF_INET as u16,
        sa_data: [0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    // SAFETY: SIOCSIFADDR reads one `ifreq`, which lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &raw mut request) };
    if result < 0 { Err(last()) } else { Ok(()) }
}

/// `struct ethtool_channels` of include/uapi/linux/ethtool.h.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

const _: () = assert!(size_of::<Channels>() == 36);

/// Receive queues that a netdev uses now; `None` when its driver does not say.
pub fn rx_queues(netdev: &str) -> Option<u32> {
    const ETHTOOL_GCHANNELS: u32 = 0x3c;
    let socket = any_socket().ok()?;
    let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
    let mut request = request_for(netdev);
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    // SAFETY: SIOCETHTOOL follows `ifru_data` to one `ethtool_channels`, as the command says; both live until it returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    let queues = channels.combined.saturating_add(channels.rx);
    (result == 0 && queues > 0).then_some(queues)
}
