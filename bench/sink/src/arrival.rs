//! Arrivals: what a run sends, and what is said of a packet that arrived.
//!
//! Owns: the words between whoever receives and the sink. Refuses: to parse; a packet's bytes stay with the receiver.

use crate::sequence::Window;

/// What a run sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The run's number, which its packets carry.
    pub run: u32,
    /// Flows, numbered from 0.
    pub flows: u32,
    /// How much of each flow is remembered; see [`Window::bytes_per_flow`].
    pub window: Window,
}

/// Who wrote down when a packet arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    /// The device. Its clock is not the system's: the caller converts.
    Hardware = 0,
    /// The kernel, when it took the packet from the driver.
    Kernel = 1,
    /// The program, when it saw the packet.
    User = 2,
}

impl Source {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Hardware, Self::Kernel, Self::User];

    /// As a report calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Kernel => "kernel",
            Self::User => "user",
        }
    }
}

/// A packet that arrived whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The run that it says it belongs to.
    pub run: u32,
    /// Its flow.
    pub flow: u32,
    /// Its number in the flow, from 0 to `u64::MAX - 1`.
    pub sequence: u64,
    /// When the schedule wanted it to depart, by the sender's clock.
    pub departed_ns: u64,
    /// When it did depart, by the sender's clock.
    pub sent_ns: u64,
    /// When it arrived, by this host's clock.
    pub arrived_ns: u64,
    /// Who says so.
    pub source: Source,
    /// Its length.
    pub bytes: u32,
}
