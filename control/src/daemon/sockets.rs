//! AF_XDP sockets: opened, given the arena, their fill rings filled, bound. The data plane then maps their rings.
//!
//! Each port registers the arena as its UMEM once, at its first queue, and the port's other queues share it
//! (`XDP_SHARED_UMEM`). All UMEMs are the same memory, so a frame goes from any port to any other without a copy, while each
//! port has the mode that its own driver can: one that must copy does not take zero-copy from the others.
//!
//! Zero-copy is asked for first; what the driver said when it refused is kept for the operator.

use crate::raw;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, SocketAddrXdpWithSharedUmem, XdpUmemReg, XdpUmemRegFlags,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::ops::Range;
use std::time::{Duration, Instant};
use zsync_packet::frame::ArenaError;
use zsync_packet::ledger::write_filled;
use zsync_packet::region::Region;
use zsync_protocol::fill::prefill;
use zsync_protocol::shm::MemoryError;

/// Packets that one wake-up sends in copy mode, where the kernel allows it: the largest burst, twice.
const TX_BUDGET: u32 = 128;
/// Preferred busy polling: how long the kernel may poll for one call, and for how many packets.
const BUSY_POLL_MICROSECONDS: u32 = 20;
const BUSY_POLL_BUDGET: u32 = 64;

/// How long the kernel may take to let go of a queue, or an address, whose socket was closed. Milliseconds, unless the host is busy.
pub(super) const RELEASE: Duration = Duration::from_secs(1);

/// What a queue's socket is to be like.
#[derive(Clone, Debug)]
pub struct SocketPlan<'a> {
    /// The netdev, for errors.
    pub netdev: &'a str,
    /// Its index.
    pub ifindex: u32,
    /// The NIC queue.
    pub queue: u32,
    /// Entries of the RX and TX rings.
    pub ring: u32,
    /// Entries of the fill and completion rings.
    pub fill: u32,
    /// The worker that it is for.
    pub worker: u8,
    /// The frames that its fill ring gets.
    pub frames: Range<u32>,
    /// Whether to ask for preferred busy polling.
    pub busy_poll: bool,
}

/// The memory that all sockets receive into.
#[derive(Clone, Debug)]
pub struct SharedMemory<'a> {
    /// The arena.
    pub arena: &'a Region,
    /// The ledger.
    pub ledger: &'a Region,
    /// Bytes of a frame.
    pub frame_size: u32,
    /// Frames of the arena.
    pub frames: u32,
}

/// How a socket is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// The driver reads and writes frames itself.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A call failed.
    #[error("{netdev}, queue {queue}: {what}: {errno}{}", remedy(*errno))]
    Call {
        /// The netdev.
        netdev: String,
        /// Its queue.
        queue: u32,
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The fill ring.
    #[error("{netdev}, queue {queue}: filling the fill ring: {source}")]
    Fill {
        /// The netdev.
        netdev: String,
        /// Its queue.
        queue: u32,
        /// What is wrong.
        source: MemoryError,
    },
    /// The ledger.
    #[error("the ledger: {0}")]
    Ledger(#[from] ArenaError),
}

fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::BUSY => " (another AF_XDP socket is bound to this queue: end its process)",
        Errno::PERM => " (CAP_NET_RAW is missing)",
        Errno::NOBUFS => " (locked memory: CAP_IPC_LOCK is missing, or the cgroup's memory is used up)",
        Errno::OPNOTSUPP => " (the driver cannot do this: use mode = \"copy\" or \"auto\")",
        Errno::INVAL => {
            " (no such queue, or the netdev is down or has several buffers a packet: check queues and MTU)"
        }
        _ => "",
    }
}

/// Opens and binds one socket. `share` is the port's first socket, if this is not it.
///
/// The kernel lets go of a queue some time after the last descriptor of its socket was closed (`xp_release_deferred`,
/// net/xdp/xsk_buff_pool.c), so a busy queue is asked for again for [`RELEASE`].
///
/// # Errors
/// What the kernel refused, for which queue, and the remedy where one is known.
pub fn open(
    plan: &SocketPlan<'_>,
    memory: &SharedMemory<'_>,
    share: Option<BorrowedFd<'_>>,
    copying: Copying,
) -> Result<OwnedFd, OpenError> {
    let deadline = Instant::now() + RELEASE;
    loop {
        match try_open(plan, memory, share, copying) {
            Err(OpenError::Call { errno: Errno::BUSY, .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            opened => return opened,
        }
    }
}

fn try_open(
    plan: &SocketPlan<'_>,
    memory: &SharedMemory<'_>,
    share: Option<BorrowedFd<'_>>,
    copying: Copying,
) -> Result<OwnedFd, OpenError> {
    let failed = |what: &'static str| {
        move |errno| OpenError::Call { netdev: plan.netdev.to_owned(), queue: plan.queue, what, errno }
    };
    let socket = rustix::net::socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .map_err(failed("opening an AF_XDP socket"))?;
    if share.is_none() {
        let umem = XdpUmemReg {
            addr: memory.arena.base().as_ptr() as u64,
            len: u64::from(memory.frames) * u64::from(memory.frame_size),
            chunk_size: memory.frame_size,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        sockopt::set_xdp_umem_reg(&socket, umem).map_err(failed("registering packet memory"))?;
    }
    sockopt::set_xdp_umem_fill_ring_size(&socket, plan.fill).map_err(failed("sizing the fill ring"))?;
    sockopt::set_xdp_umem_completion_ring_size(&socket, plan.fill)
        .map_err(failed("sizing the completion ring"))?;
    sockopt::set_xdp_rx_ring_size(&socket, plan.ring).map_err(failed("sizing the RX ring"))?;
    sockopt::set_xdp_tx_ring_size(&socket, plan.ring).map_err(failed("sizing the TX ring"))?;
    // An older kernel sends 32 a call; the worker then calls twice.
    let _ = raw::set_tx_budget(&socket, TX_BUDGET.min(plan.ring));
    if plan.busy_poll {
        raw::prefer_busy_poll(&socket, BUSY_POLL_MICROSECONDS, BUSY_POLL_BUDGET)
            .map_err(failed("asking for preferred busy polling"))?;
    }
    let addresses = plan.frames.clone().map(|frame| u64::from(frame) * u64::from(memory.frame_size));
    prefill(socket.as_fd(), plan.fill, addresses).map_err(|source| OpenError::Fill {
        netdev: plan.netdev.to_owned(),
        queue: plan.queue,
        source,
    })?;
    bind(&socket, plan, share, copying).map_err(failed(match copying {
        Copying::ZeroCopy => "binding in zero-copy mode",
        Copying::Copy => "binding in copy mode",
    }))?;
    write_filled(memory.ledger, plan.worker, plan.frames.clone())?;
    Ok(socket)
}

fn bind(
    socket: &OwnedFd,
    plan: &SocketPlan<'_>,
    share: Option<BorrowedFd<'_>>,
    copying: Copying,
) -> Result<(), Errno> {
    let Some(first) = share else {
        let mode = match copying {
            Copying::ZeroCopy => SocketAddrXdpFlags::XDP_ZEROCOPY,
            Copying::Copy => SocketAddrXdpFlags::XDP_COPY,
        };
        let flags = mode | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
        return rustix::net::bind(socket, &SocketAddrXdp::new(flags, plan.ifindex, plan.queue));
    };
    // The mode is the first socket's: the kernel takes no other flag here.
    let address = SocketAddrXdpWithSharedUmem {
        addr: SocketAddrXdp::new(SocketAddrXdpFlags::XDP_SHARED_UMEM, plan.ifindex, plan.queue),
        shared_umem_fd: first,
    };
    rustix::net::bind(socket, &address)
}
