//! AF_XDP for the traffic generator and the sink, through the crate xsk-rs (libxdp): an implementation that shares no code
//! with the engine's, so that a mistake in the one does not hide in the other.
//!
//! Owns: [`Transmitter`], [`Receiver`] and [`Duplex`], one (device, queue) each; [`Sink`], the XDP program of the far end,
//! which counts or steers; [`Forwarder`], xsk-rs as a data plane to compare with. Each is for one thread; see
//! [`spawn_pinned`].
//!
//! Refuses: to share a device or a queue with somebody else; the error says whose it is. libxdp's own program is never
//! loaded.
#![deny(unsafe_code)]

pub mod clock;
mod duplex;
mod error;
mod forwarder;
mod options;
mod pace;
mod receiver;
mod sink;
mod socket;
mod thread;
mod transmitter;

pub use duplex::Duplex;
pub use error::{AttachedProgram, XskError};
pub use forwarder::{Forwarded, Forwarder, Side};
pub use options::{BURST, Options};
pub use pace::Pace;
pub use receiver::{Arrival, Receiver};
pub use sink::{Action, Counts, Match, Sink};
pub use thread::spawn_pinned;
pub use transmitter::{Handed, Rate, Sent, Transmitter, Until};
