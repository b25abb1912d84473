//! `[wireguard.NAME]`: who this end of WireGuard is, and who its peers are; two kinds of stages are told by it.
//!
//! Keeps true, once checked: a public key is one peer's, and so is a prefix; there is memory for all peers. Keys that are
//! secret stand in files, which this reads none of: see [`KeyFile`].

mod files;
mod key_file;
pub mod quick;
mod room;
mod table;
#[cfg(test)]
mod tests;
pub mod uapi;

use super::address::Prefix;
use super::canonical::{Rows, Text as Written, many, one, port_name, quoted, word};
use super::model::{PortId, Spec};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use zsync_wireguard::key::PublicKey;

pub use super::names::is_name;
pub(crate) use files::replaced;
pub use files::{KeyFault, KeyPlaces, ends, read_keys, stand_in};
pub use key_file::KeyFile;
pub use room::keep_room;
pub(crate) use table::{KEYS, build, check};

/// The UDP port that WireGuard has where nothing is said.
pub const PORT: u16 = 51_820;

/// An end of WireGuard: what the stages `wireguard-open.NAME` and `wireguard-seal.NAME` are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireguardSpec {
    /// NAME.
    pub name: String,
    /// Who we are.
    pub private_key: KeyFile,
    /// Our UDP port.
    pub listen_port: u16,
    /// Our addresses, at most one of each family; none: see [`WireguardSpec::hears_at`].
    pub local: Vec<IpAddr>,
    /// The port with the UDP socket by which all that this end says leaves; none: it goes on to the next stage.
    pub to: Option<PortId>,
    /// Longest packet inside, bytes: 576..=9000.
    pub mtu: u16,
    /// Peers that there is memory for: 1..=262144, and no fewer than there are.
    pub max_peers: u32,
    /// DSCP of outer packets, 0..=63; none: the inner packet's.
    pub dscp: Option<u8>,
    /// The peers, in the order of the file.
    pub peers: Vec<PeerSpec>,
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSpec {
    /// Who it is.
    #[serde(with = "public_key")]
    pub public_key: PublicKey,
    /// What is mixed into every handshake with it.
    pub preshared: Option<KeyFile>,
    /// Where it is, until it says otherwise.
    pub endpoint: Option<SocketAddr>,
    /// What comes from it, and what goes to it.
    pub allowed_ips: Vec<Prefix>,
    /// Seconds of silence after which something is sent; 0: never.
    pub keepalive: u16,
}

impl WireguardSpec {
    /// What the memory of both stages is known by, and the section's header.
    #[must_use]
    pub fn label(&self) -> String {
        format!("wireguard.{}", self.name)
    }

    /// The addresses that messages to this end come to: its own, or that of its socket. None: any that the host has.
    #[must_use]
    pub fn hears_at(&self, spec: &Spec) -> Vec<IpAddr> {
        let port = |to: PortId| spec.ports.get(usize::from(to.0))?.udp.map(|udp| udp.listen.ip());
        let socket = self.to.and_then(port).filter(|socket| !socket.is_unspecified());
        if self.local.is_empty() { socket.into_iter().collect() } else { self.local.clone() }
    }

    /// The section's canonical rows.
    pub(crate) fn rows(&self, spec: &Spec) -> Rows {
        let port = |port| Written::One(format!("{{ port = {} }}", port_name(spec, port)));
        vec![
            ("private-key-file", word(&self.private_key.path)),
            ("listen-port", one(self.listen_port)),
            ("local", many(self.local.iter().map(quoted).collect())),
            ("to", self.to.map_or_else(|| word("next"), port)),
            ("mtu", one(self.mtu)),
            ("max-peers", one(self.max_peers)),
            ("dscp", self.dscp.map_or_else(|| word("inner"), one)),
            ("peers", many(self.peers.iter().map(PeerSpec::text).collect())),
        ]
    }
}

impl PeerSpec {
    /// The peer as TOML, in one line.
    #[must_use]
    pub fn text(&self) -> String {
        let mut keys = vec![format!("public-key = {}", quoted(self.public_key))];
        if let Some(file) = &self.preshared {
            keys.push(format!("preshared-key-file = {}", quoted(&file.path)));
        }
        keys.extend(self.endpoint.map(|endpoint| format!("endpoint = {}", quoted(endpoint))));
        keys.push(format!("allowed-ips = {}", many(self.allowed_ips.iter().map(quoted).collect())));
        keys.push(format!("keepalive = {}", keepalive_text(self.keepalive)));
        format!("{{ {} }}", keys.join(", "))
    }
}

/// The TOML text of a keepalive interval in seconds; 0: `"off"`.
fn keepalive_text(seconds: u16) -> Written {
    if seconds == 0 { word("off") } else { word(format_args!("{seconds}s")) }
}

/// A public key as people read it where people read, else as its bytes.
mod public_key {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use zsync_wireguard::key::PublicKey;

    pub(super) fn serialize<S: Serializer>(key: &PublicKey, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(key) } else { key.0.serialize(to) }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PublicKey, D::Error> {
        if from.is_human_readable() {
            String::deserialize(from)?.parse().map_err(D::Error::custom)
        } else {
            <[u8; 32]>::deserialize(from).map(PublicKey)
        }
    }
}
