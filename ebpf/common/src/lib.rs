//! Keys, values and counter indices of the maps that the XDP programs and the control process share.
//!
//! Owns: the layout. Every type is `repr(C)`, has no padding, is valid for every bit pattern, and its size is asserted
//! here, for both sides are compiled from this file and by different compilers. Addresses and port numbers are in network
//! byte order (arrays of bytes), so that a key is what lies in the packet.
//!
//! Refuses: code, but for the [probe] that two generators write. What a field means to the program is said here; what is done about it is in `zsync_ingress`.
//!
//! The only `unsafe` is the feature `user`: `aya::Pod` for these types, which holds by the invariant above.
#![no_std]

pub mod probe;

/// Names of the maps, as the loader and the pins see them (at most 15 bytes, the kernel's `BPF_OBJ_NAME_LEN`).
pub mod map {
    /// Array of one [`PortConfig`](super::PortConfig).
    pub const PORT: &str = "PORT";
    /// AF_XDP sockets by receive queue.
    pub const XSKS: &str = "XSKS";
    /// Per-CPU array of [`Count`](super::Count), by [`XdpReason`](super::XdpReason).
    pub const COUNTERS: &str = "COUNTERS";
    /// IPv4 source prefixes to drop (LPM trie).
    pub const BLOCK4: &str = "BLOCK4";
    /// IPv6 source prefixes to drop (LPM trie).
    pub const BLOCK6: &str = "BLOCK6";
    /// The kernel's own IPv4 addresses on this host (hash).
    pub const LOCAL4: &str = "LOCAL4";
    /// The kernel's own IPv6 addresses on this host (hash).
    pub const LOCAL6: &str = "LOCAL6";
    /// IPv4 destination prefixes that are ours (LPM trie).
    pub const STEER4: &str = "STEER4";
    /// IPv6 destination prefixes that are ours (LPM trie).
    pub const STEER6: &str = "STEER6";
    /// Protocols and destination ports that are ours (hash of [`PortKey`](super::PortKey)).
    pub const PORTS: &str = "PORTS";

    /// Whether packet sockets take packets: array of one `u32`, 1 or 0.
    pub const TAKING: &str = "TAKING";
    /// What the filter of packet sockets did with a packet, for the classifier behind it: per-CPU array of one `u32`.
    pub const SEEN: &str = "SEEN";

    /// Every map of the programs of a port with packet sockets.
    pub const TAPPED: [&str; 11] =
        [PORT, TAKING, SEEN, COUNTERS, BLOCK4, BLOCK6, LOCAL4, LOCAL6, STEER4, STEER6, PORTS];

    /// Every map of `zsync_ingress`: what is pinned, and what a new version of the program takes over.
    pub const ALL: [&str; 10] = [PORT, XSKS, COUNTERS, BLOCK4, BLOCK6, LOCAL4, LOCAL6, STEER4, STEER6, PORTS];

    /// The operator's programs (program array), by cell.
    pub const CHAIN: &str = "CHAIN";
    /// Array of one [`ChainOrder`](super::ChainOrder).
    pub const CHAIN_ORDER: &str = "CHAIN_ORDER";
    /// Per-CPU array of packets, by [`chain_count`](super::chain_count).
    pub const CHAIN_COUNTS: &str = "CHAIN_COUNTS";

    /// The maps that `zsync_ingress` has besides when a chain of the operator's programs runs ahead of it.
    pub const CHAINED: [&str; 3] = [CHAIN, CHAIN_ORDER, CHAIN_COUNTS];

    /// The generator's one [`Template`](super::Template).
    pub const TEMPLATE: &str = "TEMPLATE";
    /// Of the generator: a [`super::Pace`] for each CPU.
    pub const PACE: &str = "PACE";
    /// The generator's per-CPU sequence number (`u64`).
    pub const SEQUENCE: &str = "SEQUENCE";
}

/// Queues that one port may have: the entries of `XSKS`. Above what today's NICs offer; 8 bytes each.
pub const MAX_QUEUES: u32 = 1024;
/// Entries of each block list. The trie allocates as it grows, so the limit costs nothing by itself.
pub const MAX_BLOCK: u32 = 1 << 20;
/// Entries of each list of steered prefixes.
pub const MAX_STEER: u32 = 1 << 16;
/// Entries of `PORTS` (allocated at load).
pub const MAX_PORTS: u32 = 4096;
/// Entries of each set of local addresses (allocated at load).
pub const MAX_LOCAL: u32 = 4096;

/// What one port's program does: bits of [`flag`], and the verdict when no socket takes the packet.
///
/// 8 bytes at an 8-byte boundary, written by one map update and read by one load: a packet sees one config or the next.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortConfig {
    /// Bits of [`flag`].
    pub flags: u32,
    /// The XDP action while `XSKS` has no socket for the queue: [`FALLBACK_OPEN`] or [`FALLBACK_CLOSED`].
    pub fallback: u32,
}

/// Fail open: `XDP_PASS`, the kernel takes the traffic.
pub const FALLBACK_OPEN: u32 = 2;
/// Fail closed: `XDP_DROP`.
pub const FALLBACK_CLOSED: u32 = 1;

/// Bits of [`PortConfig::flags`]. Without any, everything is passed to the kernel.
pub mod flag {
    /// All traffic is ours (after the block lists and, with [`L3`], after the kernel's share).
    pub const STEER_ALL: u32 = 1 << 0;
    /// The pipeline routes: what a router's kernel must see (ARP, neighbour discovery, multicast, its own addresses)
    /// is passed to it. Without this bit the pipeline bridges, and takes frames as they are.
    pub const L3: u32 = 1 << 1;
    /// Destinations in `STEER4` and `STEER6` are ours.
    pub const STEER_PREFIXES: u32 = 1 << 2;
    /// Protocols and destination ports in `PORTS` are ours, also on a local address.
    pub const STEER_PORTS: u32 = 1 << 3;
    /// `BLOCK4` or `BLOCK6` has entries; without this bit they are not looked up.
    pub const HAS_BLOCK: u32 = 1 << 4;
    /// `LOCAL4` or `LOCAL6` has entries.
    pub const HAS_LOCAL: u32 = 1 << 5;
}

/// Key of `PORTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortKey {
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero: the kernel hashes the key's bytes.
    pub zero: u8,
    /// Destination port, network byte order.
    pub port: [u8; 2],
}

impl PortKey {
    /// The key of `port` (host byte order) of an IP protocol.
    pub const fn new(protocol: u8, port: u16) -> Self {
        Self { protocol, zero: 0, port: port.to_be_bytes() }
    }
}

/// One counter of one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on, without the frame check sequence.
    pub bytes: u64,
}

/// Where `zsync_ingress` sent a packet, and why. Each packet counts under exactly one, so the sum is what came in.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum XdpReason {
    /// To the AF_XDP socket of its queue.
    Redirected = 0,
    /// Ours, but the queue has no socket: to the kernel.
    FallbackOpen,
    /// Ours, but the queue has no socket: dropped.
    FallbackClosed,
    /// The source address is on a block list: dropped.
    DroppedBlocked,
    /// Neither IPv4 nor IPv6 (ARP is the usual one): to the kernel.
    PassedNotIp,
    /// Multicast or broadcast, of the Ethernet or the IP destination: to the kernel.
    PassedMulticast,
    /// An IPv6 link-local destination: to the kernel.
    PassedLinkLocal,
    /// Neighbour discovery (ICMPv6 133 to 137): to the kernel.
    PassedNeighbour,
    /// One of the kernel's own addresses: to the kernel.
    PassedLocal,
    /// Not among the steered prefixes or ports: to the kernel.
    PassedNotSteered,
    /// A fragment where ports decide: to the kernel, whole.
    PassedFragment,
    /// A header that is cut off or contradicts itself, where it was needed to decide: to the kernel, which counts it.
    PassedMalformed,
}

impl XdpReason {
    /// All of them, in the order of their indices.
    pub const ALL: [Self; 12] = [
        Self::Redirected,
        Self::FallbackOpen,
        Self::FallbackClosed,
        Self::DroppedBlocked,
        Self::PassedNotIp,
        Self::PassedMulticast,
        Self::PassedLinkLocal,
        Self::PassedNeighbour,
        Self::PassedLocal,
        Self::PassedNotSteered,
        Self::PassedFragment,
        Self::PassedMalformed,
    ];

    /// The metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Redirected => "redirected",
            Self::FallbackOpen => "fallback_open",
            Self::FallbackClosed => "fallback_closed",
            Self::DroppedBlocked => "dropped_blocked",
            Self::PassedNotIp => "passed_not_ip",
            Self::PassedMulticast => "passed_multicast",
            Self::PassedLinkLocal => "passed_link_local",
            Self::PassedNeighbour => "passed_neighbour",
            Self::PassedLocal => "passed_local",
            Self::PassedNotSteered => "passed_not_steered",
            Self::PassedFragment => "passed_fragment",
            Self::PassedMalformed => "passed_malformed",
        }
    }
}

/// The most programs of one port's chain.
pub const CHAIN_SLOTS: usize = 8;
/// Places for programs: twice the slots, so that a whole new chain fits in beside the one that runs.
pub const CHAIN_CELLS: u8 = 16;
/// What a program returns to hand the packet on to the next one: no XDP action. The crate `zsync-xdp` and the header
/// `zsync_xdp.h` have it too.
pub const PASS_ON: u32 = 0x7a73;
/// What stands for the verdict of a program that could not be entered.
pub const NO_PROGRAM: u32 = 0x7a00;

/// Which programs of a chain run, in which order.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainOrder {
    /// The cells in their order, four bits each, the first one lowest; how many they are in the highest four bits. One load
    /// reads it and one map update writes it: a packet meets the old chain or the new one.
    pub cells: u64,
    /// [`NO_PROGRAM`]. It is read from here because a constant would be known: to the compiler and to the verifier, which take
    /// a tail call for one that fails, and would leave out what is done with any other verdict.
    pub no_program: u32,
    /// Zero.
    pub zero: u32,
}

impl ChainOrder {
    const LENGTH_AT: u32 = 60;

    /// The order of at most [`CHAIN_SLOTS`] cells, each below [`CHAIN_CELLS`]; what is beyond is left out.
    pub fn of(cells: &[u8]) -> Self {
        let cells = cells.get(..CHAIN_SLOTS).unwrap_or(cells);
        let length = (cells.len() as u64) << Self::LENGTH_AT;
        let packed = (0u32..)
            .zip(cells)
            .fold(length, |word, (slot, cell)| word | u64::from(cell % CHAIN_CELLS) << (slot * 4));
        Self { cells: packed, no_program: NO_PROGRAM, zero: 0 }
    }

    /// How many cells there are: 0 to 15, of which the program uses [`CHAIN_SLOTS`].
    pub fn length(self) -> u32 {
        (self.cells >> Self::LENGTH_AT) as u32
    }

    /// The cell of a slot below [`CHAIN_SLOTS`].
    pub fn cell(self, slot: u32) -> u8 {
        (self.cells >> (slot % 16 * 4) & 15) as u8
    }
}

/// What a program of the chain did with a packet. Each packet that enters one counts under exactly one.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChainVerdict {
    /// `XDP_ABORTED`.
    Aborted = 0,
    /// `XDP_DROP`.
    Dropped,
    /// `XDP_PASS`: to the kernel, past the rest of the chain and past zsync.
    ToKernel,
    /// `XDP_TX`.
    Transmitted,
    /// `XDP_REDIRECT`.
    Redirected,
    /// [`PASS_ON`].
    PassedOn,
    /// A number that is no verdict: the packet is dropped as by `XDP_ABORTED`.
    NoVerdict,
    /// The program could not be entered, mostly because others have used up the kernel's 33 tail calls: the packet is dropped,
    /// as it must not go on unseen.
    NoProgram,
}

impl ChainVerdict {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Aborted,
        Self::Dropped,
        Self::ToKernel,
        Self::Transmitted,
        Self::Redirected,
        Self::PassedOn,
        Self::NoVerdict,
        Self::NoProgram,
    ];
}

/// Where a cell's packets of one verdict are counted in `CHAIN_COUNTS`, which has [`CHAIN_COUNTERS`] entries.
pub const fn chain_count(cell: u8, verdict: ChainVerdict) -> u32 {
    (cell % CHAIN_CELLS) as u32 * ChainVerdict::ALL.len() as u32 + verdict as u32
}

/// Entries of `CHAIN_COUNTS`.
pub const CHAIN_COUNTERS: u32 = CHAIN_CELLS as u32 * ChainVerdict::ALL.len() as u32;

/// Bytes of a [`Template`]'s headers, at most.
pub const TEMPLATE_BYTES: usize = 128;

/// What `zsync_generator` writes over the start of each frame, and which fields it varies.
///
/// Packet `n` (counted per CPU) gets the template's source port plus `n % flows`, and its IPv4 destination, or the last
/// four bytes of its IPv6 destination, plus `n % destinations`; the checksums follow incrementally (RFC 1624).
/// A field at offset 0 is left alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// The device that the packets leave by.
    pub ifindex: u32,
    /// Bytes of `bytes` to write: a multiple of 8, at most [`TEMPLATE_BYTES`], at most the frame.
    pub length: u32,
    /// How many source ports; 0 counts as 1.
    pub flows: u32,
    /// How many destinations; 0 counts as 1.
    pub destinations: u32,
    /// Offset of the UDP or TCP source port (2 bytes).
    pub source_port_at: u32,
    /// Offset of the 4 destination bytes that vary; even.
    pub destination_at: u32,
    /// Offset of the IPv4 header checksum; 0 for IPv6.
    pub ip_checksum_at: u32,
    /// Offset of the transport checksum; 0 when the template has none (UDP over IPv4).
    pub l4_checksum_at: u32,
    /// Offset of the payload, which has a mark or a probe; 0 for none.
    pub payload_at: u32,
    /// Bytes of the payload.
    pub payload_bytes: u32,
    /// The headers of packet 0.
    pub bytes: [u8; TEMPLATE_BYTES],
}

/// When `zsync_generator` lets its packets go, on one CPU: evenly, to the nanosecond on average.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Packets per second; 0 lets them go at once.
    pub rate: u64,
    /// Whole nanoseconds from packet to packet, and the rest of the division by `rate`.
    pub whole: u64,
    /// See `whole`.
    pub part: u64,
    /// How many nanoseconds late packets may be: what is later moves the schedule instead of being made up for.
    pub patience: u64,
    /// When the next one is due, by `bpf_ktime_get_ns`; 0 before the first one.
    pub next: u64,
    /// What is left over of the parts, below `rate`.
    pub rest: u64,
    /// Every so many packets one has a probe; 0: none has. All others are load.
    pub sample: u64,
    /// The probes' run.
    pub run: u64,
    /// Packets so far.
    pub made: u64,
    /// When the first one went.
    pub first: u64,
    /// When the last one went.
    pub last: u64,
}

impl Pace {
    /// Of so many packets a second.
    pub fn of(rate: u64, patience: u64) -> Self {
        const SECOND: u64 = 1_000_000_000;
        let (whole, part) = (SECOND.checked_div(rate).unwrap_or(0), SECOND.checked_rem(rate).unwrap_or(0));
        Self { rate, whole, part, patience, ..Self::default() }
    }
}

const _: () = {
    assert!(size_of::<Pace>() == 88);
    assert!(size_of::<PortConfig>() == 8 && align_of::<PortConfig>() == 8);
    assert!(size_of::<PortKey>() == 4 && align_of::<PortKey>() == 1);
    assert!(size_of::<Count>() == 16);
    assert!(size_of::<ChainOrder>() == 16 && align_of::<ChainOrder>() == 8);
    assert!(size_of::<Template>() == 40 + TEMPLATE_BYTES);
    let mut i = 0;
    while i < XdpReason::ALL.len() {
        assert!(XdpReason::ALL[i] as usize == i);
        i += 1;
    }
    i = 0;
    while i < ChainVerdict::ALL.len() {
        assert!(ChainVerdict::ALL[i] as usize == i);
        i += 1;
    }
};

#[cfg(feature = "user")]
mod pod {
    use aya::Pod;

    use super::{ChainOrder, Count, Pace, PortConfig, PortKey, Template};

    // SAFETY: `repr(C)` of integers and byte arrays, without padding (sizes asserted above): any bytes are a value.
    unsafe impl Pod for PortConfig {}
    // SAFETY: as above.
    unsafe impl Pod for PortKey {}
    // SAFETY: as above.
    unsafe impl Pod for Count {}
    // SAFETY: as above.
    unsafe impl Pod for ChainOrder {}
    // SAFETY: as above.
    unsafe impl Pod for Pace {}
    // SAFETY: as above.
    unsafe impl Pod for Template {}
}
