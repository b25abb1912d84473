//! Shapes: how departures lie in time, and their text.

use core::fmt;
use core::str::FromStr;

use super::{PaceError, SECOND};

/// How departures lie in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As evenly as nanoseconds let them.
    Constant,
    /// With exponential gaps: packets know nothing of one another.
    Poisson,
    /// In bursts, at the rate on average.
    Burst {
        /// Packets of a burst, at least 1.
        packets: u32,
        /// The rate within a burst in packets/s; `None`: all at once.
        peak: Option<u64>,
    },
    /// The rate changes evenly up (or down) to another, and then stays.
    Ramp {
        /// The rate to end with, in packets/s.
        to: u64,
        /// How long that takes, in ns.
        over: u64,
    },
}

impl FromStr for Shape {
    type Err = PaceError;

    fn from_str(text: &str) -> Result<Self, PaceError> {
        let syntax = || PaceError::Syntax(text.into());
        let number = |text: &str| text.parse::<u64>().map_err(|_| syntax());
        match text.trim().split_once(':') {
            None if text.trim() == "constant" => Ok(Self::Constant),
            None if text.trim() == "poisson" => Ok(Self::Poisson),
            Some(("burst", rest)) => {
                let (packets, peak) = rest.split_once('@').map_or((rest, None), |(n, peak)| (n, Some(peak)));
                let packets = packets.parse().map_err(|_| syntax())?;
                Ok(Self::Burst { packets, peak: peak.map(number).transpose()? })
            }
            Some(("ramp", rest)) => {
                let (to, over) = rest.split_once('@').ok_or_else(syntax)?;
                let (over, unit) = match (over.strip_suffix("ms"), over.strip_suffix('s')) {
                    (Some(over), _) => (over, SECOND / 1000),
                    (None, Some(over)) => (over, SECOND),
                    (None, None) => return Err(syntax()),
                };
                Ok(Self::Ramp {
                    to: number(to)?,
                    over: number(over)?.checked_mul(unit).ok_or(PaceError::Ramp)?,
                })
            }
            _ => Err(syntax()),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => f.write_str("constant"),
            Self::Poisson => f.write_str("poisson"),
            Self::Burst { packets, peak: None } => write!(f, "burst:{packets}"),
            Self::Burst { packets, peak: Some(peak) } => write!(f, "burst:{packets}@{peak}"),
            Self::Ramp { to, over } if over % SECOND == 0 => write!(f, "ramp:{to}@{}s", over / SECOND),
            Self::Ramp { to, over } => write!(f, "ramp:{to}@{}ms", over / 1_000_000),
        }
    }
}
