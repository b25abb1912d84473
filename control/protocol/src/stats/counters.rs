//! What a worker counts, and the words that it takes.
//!
//! Owns: the names, the order and the number of the counters. Keeps true: packets are conserved: see [`Counters::balance`].

use crate::message::MAX_PORTS;

/// Reasons that there is room for: one per value of `DropReason`.
pub const MAX_REASONS: usize = 64;
/// Stages that there is room for.
pub const MAX_STAGES: usize = 64;
/// Counters of a port: see [`PortCounter`].
pub const PORT_COUNTERS: usize = 12;
/// Counters of a stage: see [`StageCounter`].
pub const STAGE_COUNTERS: usize = 2;

/// Words of the scalars, and where the others begin.
pub(super) const DROPS: usize = Counters::SCALARS.len();
pub(super) const PORTS: usize = DROPS + MAX_REASONS;
pub(super) const STAGES: usize = PORTS + MAX_PORTS * PORT_COUNTERS;
/// Words of all counters, in whole pairs of cache lines.
pub(super) const COPY: usize = (STAGES + MAX_STAGES * STAGE_COUNTERS).next_multiple_of(16);

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of one worker. Each only grows, and outlives the process that counted.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
            /// Packets dropped, by `DropReason as u8`.
            pub drops: [u64; MAX_REASONS],
            /// Per port, by [`PortCounter`].
            pub ports: [[u64; PORT_COUNTERS]; MAX_PORTS],
            /// Per stage, by [`StageCounter`].
            pub stages: [[u64; STAGE_COUNTERS]; MAX_STAGES],
            /// Ports below this number may have changed: all that [`WorkerStats::publish`](super::WorkerStats::publish) copies. Not itself shared.
            pub ports_in_use: usize,
            /// Stages below this number may have changed, likewise.
            pub stages_in_use: usize,
        }

        impl Counters {
            /// The names of the scalar counters, in the order of their words.
            pub const SCALARS: &'static [&'static str] = &[$(stringify!($name)),*];

            /// The scalar counters, in the order of [`Counters::SCALARS`].
            pub fn scalars(&self) -> [u64; DROPS] {
                [$(self.$name),*]
            }

            pub(super) fn from_scalars(scalars: &[u64; DROPS]) -> Self {
                let [$($name),*] = *scalars;
                Self {
                    $($name,)*
                    drops: [0; MAX_REASONS],
                    ports: [[0; PORT_COUNTERS]; MAX_PORTS],
                    stages: [[0; STAGE_COUNTERS]; MAX_STAGES],
                    ports_in_use: 0,
                    stages_in_use: 0,
                }
            }
        }
    };
}

counters! {
    /// Passes of the loop.
    passes,
    /// Passes that found nothing to do.
    polls_empty,
    /// Times that the worker blocked and was woken.
    wakeups,
    /// Packets received from devices.
    rx_packets,
    /// Their bytes.
    rx_bytes,
    /// Packets placed in TX rings.
    tx_packets,
    /// Their bytes.
    tx_bytes,
    /// Packets given to the kernel.
    punted,
    /// Packets that ended in a stage, which answers for them.
    consumed,
    /// Packets that a stage made.
    generated,
    /// Packets given to another worker.
    handed_over,
    /// Packets received from another worker.
    taken_over,
    /// Packets that a worker had in its hands when it died: received, and neither sent, dropped, punted nor consumed.
    lost_in_crash,
    /// Frames whose owner could not be told; 0, or a defect.
    frames_leaked,
    /// Frames that the kernel completed twice; refused.
    frames_double_completed,
    /// Frames found with another owner than the one that gave them up; 0, or a defect.
    frames_misplaced,
    /// Frames taken back from a predecessor that died.
    frames_reclaimed,
    /// Times that the pool had no frame to give.
    pool_empty,
    /// Snapshots adopted.
    snapshots,
    /// Nanoseconds spent in passes that found something to do.
    busy_ns,
    /// Nanoseconds spent blocked.
    blocked_ns,
}

/// Index into [`Counters::ports`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum PortCounter {
    /// Packets received.
    RxPackets = 0,
    /// Their bytes.
    RxBytes = 1,
    /// Packets placed in the TX ring.
    TxPackets = 2,
    /// Their bytes.
    TxBytes = 3,
    /// Packets dropped because the TX ring was full.
    TxRingFull = 4,
    /// Times that the fill ring could not be topped up.
    FillStarved = 5,
    /// Descriptors from the kernel that were refused.
    BadDescriptors = 6,
    /// System calls that told the kernel to send or receive.
    Kicks = 7,
    /// Packets that a device had received and could not use.
    RxRefused = 8,
    /// Packets of a TUN or TAP device that stood for several, which they were cut into.
    Split = 9,
    /// Packets to a TUN or TAP device that stand for several.
    Merged = 10,
    /// Io_urings that were no use to the data plane that runs: their queues go by system calls. The only one that begins anew with each.
    RingsLost = 11,
}

/// Index into [`Counters::stages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum StageCounter {
    /// Packets processed.
    Packets = 0,
    /// Of these, dropped.
    Drops = 1,
}

impl Default for Counters {
    fn default() -> Self {
        Self::from_scalars(&[0; DROPS])
    }
}

impl Counters {
    /// Packets that came in and have not gone out: `rx + generated + taken over − (tx + Σ drops + punted + consumed + handed
    /// over + lost in a crash)`. At a pass boundary this is the number of packets that stages hold: 0 when none does, and
    /// never negative.
    #[must_use]
    pub fn balance(&self) -> i128 {
        let sum = |terms: &[u64]| terms.iter().map(|t| i128::from(*t)).sum::<i128>();
        let came = sum(&[self.rx_packets, self.generated, self.taken_over]);
        let gone = sum(&[self.tx_packets, self.punted, self.consumed, self.handed_over, self.lost_in_crash]);
        came - gone - sum(&self.drops)
    }

    /// Packets dropped, for any reason.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }
}

impl Counters {
    /// From one copy in shared memory.
    pub(super) fn from_words(words: &[u64; COPY]) -> Self {
        let mut scalars = [0; DROPS];
        scalars.copy_from_slice(&words[..DROPS]);
        let mut counters = Self::from_scalars(&scalars);
        counters.drops.copy_from_slice(&words[DROPS..PORTS]);
        counters.ports.as_flattened_mut().copy_from_slice(&words[PORTS..STAGES]);
        counters
            .stages
            .as_flattened_mut()
            .copy_from_slice(&words[STAGES..STAGES + MAX_STAGES * STAGE_COUNTERS]);
        counters
    }
}
