//! The messages between control and the data plane, and what makes one acceptable.
//!
//! Owns: the message types and their limits. Refuses (see [`MessageError`]): messages that are too long, unknown, cut,
//! followed by more bytes, of another version, with the wrong number of descriptors, or with a field out of its range.
//! Keeps true: a decoded message is within every limit below.
//!
//! Order, from control: `Hello`, then `Port`s, `Queue`s, `Packet`s, `Tun`s, `Udp`s, `Ring`s, `Punt`, `Fib`s and a `Snapshot`, then `Start`; later more of
//! those, and `Audit`, `Tasks`, `Replay` or `Stop` at any time. From the data plane: `Ready` once it is sandboxed, `Started`, and
//! answers. [`VERSION`] changes with any change to a type here; the tag and the version of `Hello` stay where they are, so
//! that any two versions can at least tell each other apart.

use crate::ring::{MAX_ENTRIES, RingLayout};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

mod answer;
mod codec;
mod layout;
mod tasks;

pub use answer::{FromDataplane, WorkerAudit};
use codec::within;
pub use codec::{Message, MessageError, decode, encode};
pub use layout::{Idle, Layout, TunOffload, WorkerPlan};
pub use tasks::{Doing, MAX_PLACE, MAX_WAITS, PART, WorkerTask};

pub use crate::fd::MAX_FDS;

/// Version of the messages.
pub const VERSION: u32 = 6;
/// Longest message, bytes. The longest real one is [`PART`] tasks, under 14 KiB.
pub const MAX_MESSAGE: usize = 16 << 10;
/// Most workers of one data plane.
pub const MAX_WORKERS: usize = 128;
/// Most ports of one data plane: what the counters have room for.
pub const MAX_PORTS: usize = 64;
/// Most entries of an AF_XDP ring. The kernel would take more; no NIC ring is larger than a quarter of this.
pub const MAX_RING: u32 = 1 << 15;
/// Longest label of a stage, bytes: a kind and a name.
pub const MAX_LABEL: usize = 64;
/// Longest text in a message, bytes.
pub const MAX_TEXT: usize = 1024;

/// What control says to the data plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToDataplane {
    /// The first message. Descriptors: arena, ledger, counters (all as [`crate::shm::Memory`] makes them) and a listening
    /// Unix socket, on which a later control process knocks.
    Hello {
        /// [`VERSION`] of the sender.
        version: u32,
        /// What the process is made of.
        layout: Layout,
    },
    /// A configured port: a netdev, or a UDP socket, which has none.
    Port {
        /// Its number, below [`MAX_PORTS`]: the index of its counters.
        id: u16,
        /// Name of the netdev; empty where there is none.
        name: String,
        /// Index of the netdev in control's network namespace; 0 where there is none.
        ifindex: u32,
        /// Its address.
        mac: [u8; 6],
        /// Its MTU, bytes of a packet without the Ethernet header.
        mtu: u32,
        /// Packets arrive with checksums that the sending stack left to a NIC, as they do on veth: complete them.
        partial_checksums: bool,
        /// The IPv4 address that packets of its own come from, if it has one.
        v4: Option<Ipv4Addr>,
        /// The same for IPv6.
        v6: Option<Ipv6Addr>,
    },
    /// A NIC queue of a port, and who serves it. Descriptor: the bound AF_XDP socket, its fill ring filled.
    Queue {
        /// Number of the port.
        port: u16,
        /// NIC queue.
        queue: u16,
        /// Worker that serves it.
        worker: u8,
        /// Entries of the RX ring.
        rx: u32,
        /// Entries of the TX ring.
        tx: u32,
        /// Entries of the fill ring.
        fill: u32,
        /// Entries of the completion ring.
        completion: u32,
        /// The driver reads and writes the arena itself; the kernel copies otherwise.
        zero_copy: bool,
        /// The socket has preferred busy polling on.
        busy_poll: bool,
    },
    /// A queue of a port without AF_XDP, and who serves it. Descriptor: a packet socket, bound to the port's netdev, non-blocking, with a
    /// header of virtio ahead of each frame (`PACKET_VNET_HDR`) and the VLAN tag beside it (`PACKET_AUXDATA`).
    Packet {
        /// Number of the port.
        port: u16,
        /// Number of the queue.
        queue: u16,
        /// Worker that serves it.
        worker: u8,
    },
    /// A queue of a port that is a TUN or TAP device, and who serves it. Descriptor: the queue, non-blocking, without packet
    /// information.
    Tun {
        /// Number of the port.
        port: u16,
        /// Number of the queue.
        queue: u16,
        /// Worker that serves it.
        worker: u8,
        /// What is ahead of each packet, and what one may stand for.
        offload: TunOffload,
        /// It carries Ethernet frames: a TAP device.
        frames: bool,
    },
    /// A queue of a port that is a UDP socket, and who serves it. Descriptor: the socket, bound; it tells of the addresses and classes of
    /// what it receives, and joins datagrams (`UDP_GRO`).
    Udp {
        /// Number of the port.
        port: u16,
        /// Number of the queue.
        queue: u16,
        /// Worker that serves it.
        worker: u8,
        /// What it is bound to.
        local: SocketAddr,
    },
    /// The io_uring of a queue that came before, disabled, as [`crate::ring::create`] makes it for the queue's descriptor. The kernel
    /// passes no ring by a message (net/core/scm.c, `scm_fp_copy`): the process was born with it. So a successor gets another.
    Ring {
        /// Number of the port.
        port: u16,
        /// Number of the queue.
        queue: u16,
        /// The ring's descriptor in this process.
        fd: i32,
        /// Where its parts lie.
        layout: RingLayout,
    },
    /// Where packets for the kernel go. Descriptor: a TUN device's queue.
    Punt,
    /// A forwarding table. Descriptor: its memory, which control goes on writing.
    Fib {
        /// Epoch of the snapshot that it belongs to.
        epoch: u64,
        /// Number of the table, as stages name it.
        table: u32,
        /// Length of the memory, bytes.
        len: u64,
    },
    /// What a stage keeps beyond a reload and a crash. Descriptor: its memory, zeroed at first, for as many workers as there
    /// are. Comes before the snapshot whose stage it is for.
    State {
        /// The stage's label.
        label: String,
        /// Bytes that all workers share.
        shared: u64,
        /// Bytes of each worker.
        each: u64,
        /// Length of the memory, bytes.
        len: u64,
    },
    /// A compiled config to adopt. Descriptor: its bytes, as [`crate::shm::sealed_bytes`] makes them.
    Snapshot {
        /// Its number, larger than that of the one before.
        epoch: u64,
        /// Length of the bytes.
        len: u64,
    },
    /// All is there: read packets.
    Start,
    /// Count the frames by owner.
    Audit {
        /// Comes back in the answer.
        id: u32,
    },
    /// From a control process that adopts this data plane: send back everything that you were given, with descriptors.
    Replay,
    /// Stop the workers and exit.
    Stop,
    /// Tell what the workers' tasks do. The first question also begins to count polls that take too long.
    Tasks {
        /// Comes back in the answer.
        id: u32,
    },
}

impl Message for ToDataplane {
    const KINDS: &'static [&'static str] = &[
        "Hello", "Port", "Queue", "Packet", "Tun", "Udp", "Ring", "Punt", "Fib", "State", "Snapshot",
        "Start", "Audit", "Replay", "Stop", "Tasks",
    ];

    fn kind(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::Port { .. } => "Port",
            Self::Queue { .. } => "Queue",
            Self::Packet { .. } => "Packet",
            Self::Tun { .. } => "Tun",
            Self::Udp { .. } => "Udp",
            Self::Ring { .. } => "Ring",
            Self::Punt => "Punt",
            Self::Fib { .. } => "Fib",
            Self::State { .. } => "State",
            Self::Snapshot { .. } => "Snapshot",
            Self::Start => "Start",
            Self::Audit { .. } => "Audit",
            Self::Replay => "Replay",
            Self::Stop => "Stop",
            Self::Tasks { .. } => "Tasks",
        }
    }

    fn descriptors(&self) -> usize {
        match self {
            Self::Hello { .. } => 4,
            Self::Queue { .. }
            | Self::Packet { .. }
            | Self::Tun { .. }
            | Self::Udp { .. }
            | Self::Punt
            | Self::Fib { .. }
            | Self::State { .. }
            | Self::Snapshot { .. } => 1,
            Self::Port { .. } | Self::Ring { .. } | Self::Start | Self::Replay | Self::Stop => 0,
            Self::Audit { .. } | Self::Tasks { .. } => 0,
        }
    }

    fn check(&self) -> Result<(), MessageError> {
        let kind = self.kind();
        let port = |id: u16| within(kind, "port", id, usize::from(id) < MAX_PORTS, "below 64");
        match self {
            Self::Hello { version, layout } => {
                if *version != VERSION {
                    return Err(MessageError::Version { theirs: *version });
                }
                let count = layout.workers.len();
                within(
                    kind,
                    "frame_size",
                    layout.frame_size,
                    [2048, 4096].contains(&layout.frame_size),
                    "2048 or 4096",
                )?;
                within(kind, "frames", layout.frames, layout.frames > 0, "at least 1")?;
                within(kind, "workers", count, (1..=MAX_WORKERS).contains(&count), "1 to 128")?;
                within(kind, "uid", layout.uid, layout.uid != 0, "other than root's")?;
                within(kind, "gid", layout.gid, layout.gid != 0, "other than root's")
            }
            Self::Port { id, name, ifindex, mtu, .. } => {
                port(*id)?;
                // dev_valid_name, net/core/dev.c
                let plain = name.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
                let named = plain && (1..16).contains(&name.len()) && name != "." && name != "..";
                let none = name.is_empty() && *ifindex == 0;
                within(
                    kind,
                    "name",
                    format_args!("{name:?}"),
                    named || none,
                    "a netdev's name: 1 to 15 visible characters",
                )?;
                within(kind, "ifindex", ifindex, *ifindex != 0 || none, "other than 0")?;
                within(kind, "mtu", mtu, (68..=65_535).contains(mtu), "68 to 65535")
            }
            Self::Queue { port: id, worker, rx, tx, fill, completion, .. } => {
                port(*id)?;
                within(kind, "worker", worker, usize::from(*worker) < MAX_WORKERS, "below 128")?;
                for (field, size) in [("rx", rx), ("tx", tx), ("fill", fill), ("completion", completion)] {
                    let fits = size.is_power_of_two() && *size <= MAX_RING;
                    within(kind, field, size, fits, "a power of two of at most 32768")?;
                }
                Ok(())
            }
            Self::Packet { port: id, worker, .. }
            | Self::Tun { port: id, worker, .. }
            | Self::Udp { port: id, worker, .. } => {
                port(*id)?;
                within(kind, "worker", worker, usize::from(*worker) < MAX_WORKERS, "below 128")
            }
            Self::Ring { port: id, fd, layout, .. } => {
                port(*id)?;
                within(kind, "fd", fd, *fd > 2, "above 2")?;
                let RingLayout { submissions, completions, buffers, .. } = layout;
                let entries =
                    [("submissions", submissions), ("completions", completions), ("buffers", buffers)];
                for (field, count) in entries {
                    let fits = count.is_power_of_two() && *count <= MAX_ENTRIES;
                    within(kind, field, count, fits, "a power of two of at most 32768")?;
                }
                Ok(())
            }
            Self::State { label, shared, each, len } => {
                let fits = (1..=MAX_LABEL).contains(&label.len());
                within(kind, "label", label.len(), fits, "1 to 64 bytes")?;
                let most = isize::MAX as u64;
                let sum = shared.checked_add(*each).filter(|sum| sum <= len);
                within(
                    kind,
                    "shared + each",
                    format_args!("{shared} + {each}"),
                    sum.is_some(),
                    "at most len",
                )?;
                within(kind, "len", len, (1..=most).contains(len), "a length of memory")
            }
            Self::Fib { len, .. } | Self::Snapshot { len, .. } => {
                within(kind, "len", len, (1..=isize::MAX as u64).contains(len), "a length of memory")
            }
            Self::Punt | Self::Start | Self::Replay | Self::Stop => Ok(()),
            Self::Audit { .. } | Self::Tasks { .. } => Ok(()),
        }
    }

    fn screen(tag: u32, rest: &[u8]) -> Result<(), MessageError> {
        let version = (tag == 0).then(|| postcard::take_from_bytes::<u32>(rest));
        match version {
            Some(Ok((theirs, _))) if theirs != VERSION => Err(MessageError::Version { theirs }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
