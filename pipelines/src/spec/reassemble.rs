//! What the stage `reassemble` is told.

use super::canonical::{Rows, one, word};
use super::datum::Fields;
use super::findings::Findings;
use super::keys::{Key, Reach};
use super::kind::Kind;
use super::model::StageSpec;
use super::names::Names;
use super::quantity::show_duration;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `[reassemble.NAME]`: fragments are treated as their first one is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReassembleSpec {
    /// Datagrams in fragments that a worker follows at a time.
    pub datagrams: u32,
    /// How long a datagram may take to arrive.
    pub timeout: Duration,
}

/// The keys of `[reassemble.NAME]`.
pub(crate) const REASSEMBLE: &[Key] = &[
    Key {
        name: "datagrams",
        kind: Kind::Whole { min: 64, max: 1_048_576 },
        default: Some("4096"),
        reach: Reach::Live,
        about: "Datagrams in fragments that each worker follows at a time. One more takes the place of an old one.",
    },
    Key {
        name: "timeout",
        kind: Kind::Period { min: Duration::from_millis(100), max: Duration::from_secs(120) },
        // As net.ipv4.ipfrag_time has it.
        default: Some("\"30s\""),
        reach: Reach::Live,
        about: "How long the fragments of a datagram may take to arrive.",
    },
];

pub(crate) fn reassemble(fields: &Fields, _: &str, _: &Names, _: &mut Findings<'_>) -> StageSpec {
    let (datagrams, timeout) = (fields.number("datagrams"), fields.period("timeout"));
    StageSpec::Reassemble(ReassembleSpec { datagrams, timeout })
}

impl ReassembleSpec {
    /// The section's canonical rows.
    pub(crate) fn rows(&self) -> Rows {
        vec![("datagrams", one(self.datagrams)), ("timeout", word(show_duration(self.timeout)))]
    }
}
