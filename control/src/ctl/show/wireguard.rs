//! Ends of WireGuard and their peers as text.

use super::{View, cut};
use crate::api::Wireguard;
use crate::ctl::table::Table;
use crate::ctl::text::when;

impl View {
    pub(super) fn wireguard(self, answer: &Wireguard) -> String {
        let mut ends = Table::new(&["NAME", "PUBLIC KEY", ">PORT", ">PEERS", ">LIMIT"]);
        for end in &answer.ends {
            ends.row([
                end.name.clone(),
                end.public_key.clone().unwrap_or_else(|| "-".to_owned()),
                end.listen_port.to_string(),
                self.count(end.peers),
                self.count(end.limit),
            ]);
        }
        let mut counts = Table::new(&["NAME", "HANDSHAKES", ">COUNT"]);
        for end in &answer.ends {
            for (what, count) in &end.counts {
                counts.row([end.name.clone(), what.clone(), self.count(*count)]);
            }
        }
        let mut refused = Table::new(&["NAME", "REFUSED OF WG", ">COUNT"]);
        for end in &answer.ends {
            for (why, count) in &end.refused {
                refused.row([end.name.clone(), why.clone(), self.count(*count)]);
            }
        }
        let mut peers =
            Table::new(&["NAME", "PEER", "ENDPOINT", "LAST HANDSHAKE", ">RECEIVED", ">SENT", "ALLOWED IPS"]);
        for peer in &answer.peers {
            let none = || "-".to_owned();
            peers.row([
                peer.name.clone(),
                peer.public_key.clone(),
                peer.endpoint.clone().unwrap_or_else(none),
                peer.handshake_ms.map_or_else(none, |ms| when(ms, self.now)),
                self.count(peer.rx_bytes),
                self.count(peer.tx_bytes),
                peer.allowed_ips.join(", "),
            ]);
        }
        let rest = cut(answer.peers.len(), answer.matched, "peer", "name an end");
        self.sections([Some(&ends), Some(&peers), Some(&counts), Some(&refused)], &rest)
    }
}
