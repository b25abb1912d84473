//! The place of whole tunnels: two hosts, two gateways between them, and a wire between those.
//!
//! ```text
//!   sender          near                        far          receiver
//!   10.1.0.2 ─veth─ inside  outside ─ veth ─ outside  inside ─veth─ 10.2.0.2
//!                     192.0.2.1       192.0.2.2
//! ```
//!
//! Lies in an [enclosure](crate::enclosure). Keeps true: every neighbour is known for good; packets up to the hosts' MTU fit into
//! the tunnel, and sealed onto the wire, so nothing is cut. [`UNREAD`] is an address that the receiver's device counts and nobody reads.

use crate::place::{Part, lay_out};
use anyhow::Result;

/// Where traffic comes from.
pub const SENDER: Part = Part::Named("sender");
/// The gateways: the sender's, and the receiver's.
pub const GATEWAYS: [Part; 2] = [Part::Named("near"), Part::Named("far")];
/// Where traffic goes to.
pub const RECEIVER: Part = Part::Named("receiver");
/// The networks behind the gateways.
pub const NETWORKS: [&str; 2] = ["10.1.0.0/24", "10.2.0.0/24"];
/// The gateways' addresses on the wire.
pub const OUTSIDE: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
/// The receiver.
pub const READ: &str = "10.2.0.2";
/// As far as the gateways know the receiver too; its device takes such packets for another station's, and drops them once counted.
pub const UNREAD: &str = "10.2.0.3";
/// The longest packet inside: a host's usual one.
pub const MTU: usize = 1500;
/// What the near gateway and the far one have on the wire, and the near one towards the sender.
pub const MACS: [[u8; 6]; 3] = [[2, 0, 0, 0, 3, 1], [2, 0, 0, 0, 3, 2], [2, 0, 0, 0, 1, 1]];

const SET_UP: &str = "
    netns add sender
    netns add near
    netns add far
    netns add receiver
    -n sender link add eth0 address 02:00:00:00:01:02 numtxqueues 1 numrxqueues 1 type veth peer name inside \
        address 02:00:00:00:01:01 numtxqueues 1 numrxqueues 1 netns near
    -n near link add outside address 02:00:00:00:03:01 mtu 1600 numtxqueues 1 numrxqueues 1 type veth peer name outside \
        address 02:00:00:00:03:02 mtu 1600 numtxqueues 1 numrxqueues 1 netns far
    -n receiver link add eth0 address 02:00:00:00:02:02 numtxqueues 1 numrxqueues 1 type veth peer name inside \
        address 02:00:00:00:02:01 numtxqueues 1 numrxqueues 1 netns far
    -n sender addr add 10.1.0.2/24 dev eth0
    -n near addr add 10.1.0.1/24 dev inside
    -n near addr add 192.0.2.1/24 dev outside
    -n far addr add 192.0.2.2/24 dev outside
    -n far addr add 10.2.0.1/24 dev inside
    -n receiver addr add 10.2.0.2/24 dev eth0
    -n sender link set eth0 up
    -n near link set inside up
    -n near link set outside up
    -n far link set outside up
    -n far link set inside up
    -n receiver link set eth0 up
    -n sender route add default via 10.1.0.1
    -n receiver route add default via 10.2.0.1
    -n sender neigh replace 10.1.0.1 lladdr 02:00:00:00:01:01 dev eth0 nud permanent
    -n near neigh replace 10.1.0.2 lladdr 02:00:00:00:01:02 dev inside nud permanent
    -n near neigh replace 192.0.2.2 lladdr 02:00:00:00:03:02 dev outside nud permanent
    -n far neigh replace 192.0.2.1 lladdr 02:00:00:00:03:01 dev outside nud permanent
    -n far neigh replace 10.2.0.2 lladdr 02:00:00:00:02:02 dev inside nud permanent
    -n far neigh replace 10.2.0.3 lladdr 02:00:00:00:02:03 dev inside nud permanent
    -n receiver neigh replace 10.2.0.1 lladdr 02:00:00:00:02:01 dev eth0 nud permanent";

/// Builds the place, unless another benchmark of this run has.
///
/// # Errors
/// What `ip` refuses.
pub fn build() -> Result<()> {
    if std::path::Path::new("/run/netns/receiver").exists() {
        return Ok(());
    }
    lay_out(SET_UP, &[SENDER, RECEIVER], &GATEWAYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_have_the_addresses_that_the_rest_uses() {
        for mac in MACS {
            let text = mac.map(|byte| format!("{byte:02x}")).join(":");
            assert!(SET_UP.contains(&text), "{text}");
        }
        for address in OUTSIDE.into_iter().chain([READ, UNREAD]) {
            assert!(SET_UP.contains(address), "{address}");
        }
    }
}
