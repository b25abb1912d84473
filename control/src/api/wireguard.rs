//! What the daemon answers of ends of WireGuard and their peers. Nothing in it is secret.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::answer::row;

row! {
    /// Ends of WireGuard.
    Wireguard {
        /// The ends, by name.
        ends: Vec<WireguardEnd>,
        /// Their peers, in the order of the configuration, at most as many as were asked for.
        peers: Vec<WireguardPeer>,
        /// How many peers they have.
        matched: u64,
    }
    /// An end of WireGuard.
    WireguardEnd {
        /// Its name.
        name: String,
        /// Its public key.
        #[serde(skip_serializing_if = "Option::is_none")]
        public_key: Option<String>,
        /// Its UDP port.
        listen_port: u16,
        /// How many peers it has.
        peers: u64,
        /// Memory for so many.
        limit: u64,
        /// Messages of handshakes by what became of them (`done`, `initiated`, `forged`, `unknown`, `not-authentic`, `replayed`,
        /// `overload`, `cookies`), packets that have waited for a session in vain (`given-up`), and packets for peers of whom nobody knows where
        /// they are (`no-endpoint`); those that there were.
        #[serde(default)]
        counts: BTreeMap<String, u64>,
        /// Requests of `wg` that were refused since its socket is there, by why (`invalid`, `not-supported`, `port-in-use`, `no-space`, `busy`,
        /// `protocol`, `too-long`, `no-tunnel`, `failed`, `unfinished`).
        #[serde(default)]
        refused: BTreeMap<String, u64>,
    }
    /// A peer.
    WireguardPeer {
        /// The end whose peer it is.
        name: String,
        /// Who it is.
        public_key: String,
        /// Where it is: where it was last, or else where the configuration says.
        #[serde(skip_serializing_if = "Option::is_none")]
        endpoint: Option<String>,
        /// What is behind it.
        allowed_ips: Vec<String>,
        /// When the last handshake was done, in milliseconds of Unix time; none: never.
        #[serde(skip_serializing_if = "Option::is_none")]
        handshake_ms: Option<u64>,
        /// Bytes that came from it, as they were on the way but for IP and UDP headers.
        rx_bytes: u64,
        /// Bytes that were sent to it.
        tx_bytes: u64,
        /// Seconds of silence after which something is sent; 0: never.
        keepalive_s: u16,
        /// Whether there is a preshared key.
        preshared: bool,
    }
}
