//! Profiles: a stream and its pace, written as `key=value` pairs on a command line or one a line in a file.
//!
//! ```
//! let profile: zsync_traffic::profile::Profile =
//!     "dst=10.2.0.1+1x1000 sport=1024..2023 size=imix flows=1000000 choice=zipf:1.1 rate=10M shape=poisson".parse()?;
//! assert_eq!(profile.content.flows, 1_000_000);
//! # Ok::<(), zsync_traffic::profile::ProfileErrors>(())
//! ```
//!
//! | key | value | without it |
//! |---|---|---|
//! | `src-mac` `dst-mac` | sweep of MAC addresses | 02:00:00:00:00:01, …:02 |
//! | `vlan` `inner-vlan` | sweep of 0 to 4095; both: the outer one is 802.1ad | untagged |
//! | `src` `dst` | sweep of addresses of one family | 198.18.0.1, 198.19.0.1 (RFC 2544 §C.2.2) |
//! | `ttl` `dscp` `flow-label` | sweep | 64, 0, 0 |
//! | `proto` | `udp` `tcp` `icmp` | udp |
//! | `sport` `dport` | sweep, UDP and TCP | 1024, 9 (discard) |
//! | `flags` | `syn,ack` or others, TCP | ack |
//! | `udp-checksum` | `on` `off`; off over IPv4 alone | on |
//! | `echo-id` | sweep, ICMP | 1 |
//! | `tunnel` | `vxlan` `gre` `ipip` | none |
//! | `outer-src` `outer-dst` `outer-ttl` `outer-dscp` | sweep; the addresses must be given | ttl 64, dscp 0 |
//! | `outer-sport` `vni` | sweep, VXLAN | 49152, 1 |
//! | `gre-key` | sweep, GRE | no key |
//! | `size` | see [`crate::size`]; with FCS | 64 |
//! | `flows` `choice` | see [`crate::flows`] | 1, round-robin |
//! | `rate` `shape` | packets/s, with `k` or `M`; see [`crate::pace`] | 1000, constant |
//! | `run` `seed` | numbers | 1, 1 |
//!
//! A sweep is `V`, `V+STEPxCOUNT`, `V..W`, `random:V..W`, or `V,W,X` (see [`crate::sweep`]); sweeps are nested in the
//! order that they are written in. `#` starts a comment. All errors are told at once.

use core::fmt;
use core::str::FromStr;

use crate::flows::Choice;
use crate::pace::{Pace, Shape};
use crate::size::Sizes;
use crate::stream::{Content, Stream};
use crate::sweep::Values;

mod layers;
mod pairs;
mod swept;

use layers::layers;
use pairs::Pairs;
use swept::Swept;

/// What is sent, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The packets.
    pub content: Content,
    /// Packets/s.
    pub rate: u64,
    /// How they lie in time.
    pub shape: Shape,
    /// Where all that looks random comes from.
    pub seed: u64,
}

/// One thing that is wrong with a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileError {
    /// The key, or the word that has none; empty for the whole.
    pub key: String,
    /// What is wrong, and what was expected.
    pub problem: String,
}

/// All that is wrong with a profile, one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ProfileErrors(pub Vec<ProfileError>);

impl fmt::Display for ProfileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, ProfileError { key, problem })| {
            let (line, colon) = (if at == 0 { "" } else { "\n" }, if key.is_empty() { "" } else { ": " });
            write!(f, "{line}{key}{colon}{problem}")
        })
    }
}

/// A rate: a number, with `k` or `M`.
fn rate(text: &str) -> Result<u64, String> {
    let (digits, unit) = match (text.strip_suffix('k'), text.strip_suffix('M')) {
        (Some(digits), _) => (digits, 1000),
        (None, Some(digits)) => (digits, 1_000_000),
        (None, None) => (text, 1),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    number.ok_or_else(|| format!("`{text}` is no rate: expected packets/s as 1500000, 1500k or 2M"))
}

impl FromStr for Profile {
    type Err = ProfileErrors;

    fn from_str(text: &str) -> Result<Self, ProfileErrors> {
        let mut pairs = Pairs::new(text);
        let swept = Swept::read(&mut pairs);
        let layers = layers(&mut pairs, &swept);
        let content = Content {
            layers,
            // A value that never changes costs less in the template, but must have been fit for its field.
            sweeps: swept.0,
            sizes: pairs.parsed("size", Sizes::Fixed(64)),
            flows: pairs.parsed("flows", 1),
            choice: pairs.parsed("choice", Choice::RoundRobin),
            run: pairs.parsed("run", 1),
        };
        let mut profile = Self {
            content,
            rate: pairs.value("rate", 1000, rate),
            shape: pairs.parsed("shape", Shape::Constant),
            seed: pairs.parsed("seed", 1),
        };
        if let Err(error) = Pace::new(profile.shape, profile.rate, 0) {
            pairs.wrong("rate, shape", error.to_string());
        }
        // What is wrong with a part would only be told again by the whole.
        if pairs.errors.is_empty()
            && let Err(error) = Stream::new(&profile.content, profile.seed)
        {
            pairs.wrong("", error.to_string());
        }
        profile.content.sweeps.retain(|(_, values)| !matches!(values, Values::Fixed(_)));
        if pairs.errors.is_empty() { Ok(profile) } else { Err(ProfileErrors(pairs.errors)) }
    }
}

#[cfg(test)]
mod tests;
