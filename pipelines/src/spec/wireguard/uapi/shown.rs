//! What `get=1` is answered: the tunnel, then peer by peer, in the order of wireguard-go's lines.

use super::hex;
use crate::spec::wireguard::{PeerSpec, WireguardSpec};
use std::fmt::Write as _;
use std::net::SocketAddr;
use zsync_wireguard::key::{KEY_LEN, Secret};

/// What is known of a peer beside what the configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Where it is; `None`: where the configuration says.
    pub endpoint: Option<SocketAddr>,
    /// When the last handshake was done, in nanoseconds since 1970; 0: never.
    pub handshake_ns: u64,
    /// Bytes that came.
    pub rx: u64,
    /// Bytes that were sent.
    pub tx: u64,
}

/// Bytes that the lines of a tunnel take at most, all but its peers'.
const END: usize = 256;
/// Bytes that the lines of a peer take at most, without those of its allowed IPs; and each of these.
const PEER: usize = 640;
const ALLOWED_IP: usize = 64;

/// How long the whole answer may become: whoever makes room for that moves no key to and fro.
pub(super) fn room(end: &WireguardSpec) -> usize {
    let peer = |peer: &PeerSpec| PEER + peer.allowed_ips.len() * ALLOWED_IP;
    END + end.peers.iter().map(peer).sum::<usize>()
}

/// The lines of a tunnel, the private key's among them; room for all its peers is made.
pub fn show_end(end: &WireguardSpec, out: &mut String) {
    out.reserve_exact(room(end));
    if let Some(secret) = &end.private_key.secret {
        key("private_key", secret.expose(), out);
    }
    let _ = writeln!(out, "listen_port={}", end.listen_port);
}

/// The lines of a peer.
pub fn show_peer(peer: &PeerSpec, seen: Seen, out: &mut String) {
    key("public_key", &peer.public_key.0, out);
    let none = [0; KEY_LEN];
    let preshared = peer.preshared.as_ref().and_then(|file| file.secret.as_ref()).map(Secret::expose);
    key("preshared_key", preshared.unwrap_or(&none), out);
    let _ = writeln!(out, "protocol_version=1");
    if let Some(endpoint) = seen.endpoint.or(peer.endpoint) {
        let _ = writeln!(out, "endpoint={endpoint}");
    }
    let Seen { handshake_ns, rx, tx, .. } = seen;
    let (seconds, rest) = (handshake_ns / 1_000_000_000, handshake_ns % 1_000_000_000);
    let _ = writeln!(out, "last_handshake_time_sec={seconds}\nlast_handshake_time_nsec={rest}");
    let _ = writeln!(out, "tx_bytes={tx}\nrx_bytes={rx}\npersistent_keepalive_interval={}", peer.keepalive);
    for prefix in &peer.allowed_ips {
        let _ = writeln!(out, "allowed_ip={prefix}");
    }
}

fn key(name: &str, bytes: &[u8; KEY_LEN], out: &mut String) {
    out.push_str(name);
    out.push('=');
    hex(bytes, out);
    out.push('\n');
}
