//! Connections of a stateful device, such as a NAT (after RFC 9693): the maximum connection establishment rate, and the
//! capacity of the connection tracking table.
//!
//! A trial has two phases. In phase 1 each packet opens another connection of an empty table; in phase 2 each connection
//! carries one packet the other way. The order of the tests is the methodology's: first the establishment rate
//! ([`establishment_rate`]), then the capacity; and throughput, loss and latency ([`crate::mlr`], [`crate::latency`]) last,
//! as phase 2 of trials whose phase 1 fills the table at a rate safely below the first.
//!
//! Keeps true: a connection counts once it was established and, after all of them were, still passes packets the other way.
//! A table that forgets old connections for new ones is not larger for it.
//!
//! Claims no conformance to RFC 9693: the procedures are those of siitperf, the tester of the RFC's first author. The rate
//! of phase 2, a part alpha of phase 1's there, is the caller's; so are the port numbers of RFC 4814, time-outs of
//! connections that are longer than a trial, and the repetition of whole searches (10 times there). There is no tear-down
//! rate.

mod attempt;
mod by_rate;
mod capacity;
mod rate;

pub use attempt::Attempt;
pub use by_rate::{ByRate, CapacityByRate, Step, capacity_by_rate};
pub use capacity::{Capacity, Filling, capacity};
pub use rate::{EstablishmentRate, establishment_rate};

use crate::trial::Scaled;
use std::fmt;
use std::time::Duration;

/// What opens connections through a device.
pub trait Connections {
    /// Why it could not.
    type Error;

    /// Empties the device's table: each trial starts with an empty one.
    ///
    /// # Errors
    /// The table could not be emptied.
    fn clear(&mut self) -> Result<(), Self::Error>;

    /// Opens `count` connections, each another one, at `rate` per second: phase 1.
    ///
    /// # Errors
    /// The trial could not be run.
    fn establish(&mut self, count: u64, rate: f64) -> Result<Established, Self::Error>;

    /// Sends one packet the other way over each of the `count` connections, at a rate of its own: phase 2, as a validation
    /// of phase 1. Returns how many came through.
    ///
    /// # Errors
    /// The trial could not be run.
    fn validate(&mut self, count: u64) -> Result<u64, Self::Error>;
}

/// What phase 1 came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Established {
    /// Connections per second that the generator reached.
    pub offered: f64,
    /// Connections that it tried to open.
    pub tried: u64,
    /// Connections that came through.
    pub established: u64,
    /// How long it took.
    pub duration: Duration,
}

impl fmt::Display for Established {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offered, tried, established, .. } = *self;
        write!(f, "offered {}, {established} of {tried} established", Scaled(offered, "cps"))
    }
}
