//! The place of `veth-route`: three network namespaces in a row, joined by veth.
//!
//! ```text
//!   source                  router                      sink
//!   ┌────────────┐         ┌──────────────────┐        ┌────────────┐
//!   │  10.1.0.2  │── veth ─┤ left       right ├─ veth ─│  10.2.0.2  │  rx_packets
//!   └────────────┘         └──────────────────┘        └────────────┘
//!    generator              the forwarder               counts
//! ```
//!
//! Lies in an [enclosure](crate::enclosure), so its names are its own. Keeps true: every neighbour is known for good, so
//! that nothing but the traffic is on the wires.

use crate::enclosure::execute;
use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use zsync_ends::Enter;
use zsync_ends::source::What;
use zsync_traffic::profile::Profile;

/// MAC addresses: the source's, the router's to the left and to the right, and what the router
/// takes for the sink's: another one, so that a packet ends right behind the counter that it is counted by.
pub const MACS: [[u8; 6]; 4] =
    [[2, 0, 0, 0, 1, 2], [2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 2, 1], [2, 0, 0, 0, 2, 2]];
/// The router's devices.
pub const PORTS: [&str; 2] = ["left", "right"];

const SET_UP: &str = "
    netns add source
    netns add router
    netns add sink
    -n source link add eth0 address 02:00:00:00:01:02 numtxqueues 1 numrxqueues 1 type veth peer name left \
        address 02:00:00:00:01:01 numtxqueues 1 numrxqueues 1 netns router
    -n sink link add eth0 address 02:00:00:00:02:09 numtxqueues 1 numrxqueues 1 type veth peer name right \
        address 02:00:00:00:02:01 numtxqueues 1 numrxqueues 1 netns router
    -n source addr add 10.1.0.2/24 dev eth0
    -n router addr add 10.1.0.1/24 dev left
    -n router addr add 10.2.0.1/24 dev right
    -n sink addr add 10.2.0.2/24 dev eth0
    -n source link set eth0 up
    -n sink link set eth0 up
    -n router link set left up
    -n router link set right up
    -n router neigh replace 10.1.0.2 lladdr 02:00:00:00:01:02 dev left nud permanent
    -n router neigh replace 10.2.0.2 lladdr 02:00:00:00:02:02 dev right nud permanent";

/// What trials send from the source to the sink, as a profile's pairs.
pub const PROFILE: &[(&str, &str)] = &[
    ("src-mac", "02:00:00:00:01:02"),
    ("dst-mac", "02:00:00:00:01:01"),
    ("src", "10.1.0.2"),
    ("dst", "10.2.0.2"),
    ("sport", "1024..2023"),
    ("flows", "1000"),
];

/// What opens connections from the source to the sink: ports tell 10 million apart.
pub const CONNECTIONS: &[(&str, &str)] = &[
    ("src-mac", "02:00:00:00:01:02"),
    ("dst-mac", "02:00:00:00:01:01"),
    ("src", "10.1.0.2"),
    ("dst", "10.2.0.2"),
    ("sport", "1024..65535"),
    ("dport", "1..1000"),
];

/// A namespace of the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Where packets come from.
    Source,
    /// Where they are forwarded.
    Router,
    /// Where they go to.
    Sink,
    /// One of another place, of this name.
    Named(&'static str),
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Router => "router",
            Self::Sink => "sink",
            Self::Named(name) => name,
        }
    }

    /// Moves the calling thread into the namespace, for the rest of its life. A process that it starts then is there too,
    /// and shares everything else: `ip netns exec` would give it a mount namespace of its own.
    ///
    /// # Errors
    /// There is no such namespace, or it is not permitted.
    pub fn enter(self) -> Result<()> {
        let file = File::open(format!("/run/netns/{}", self.name())).context("the namespace is gone")?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("entering namespace {}", self.name()))
    }

    /// Runs `work` in a thread that is in the namespace.
    ///
    /// # Errors
    /// Those of [`Self::enter`] and of `work`.
    pub fn run<T: Send>(self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().and_then(|()| work()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a command there to its end; what it printed.
    ///
    /// # Errors
    /// It cannot be run, or failed.
    pub fn execute(self, command: &str) -> Result<String> {
        let mut words = command.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        self.run(|| execute(&mut command))
    }

    /// The number of its device `name`.
    ///
    /// # Errors
    /// There is no such device.
    pub fn ifindex(self, name: &str) -> Result<u32> {
        let links: serde_json::Value =
            serde_json::from_str(&self.execute(&format!("ip -j link show dev {name}"))?)?;
        let index = links[0]["ifindex"].as_u64().and_then(|index| index.try_into().ok());
        index.with_context(|| format!("{name} has no number"))
    }

    /// Packets that its device `name` has received.
    ///
    /// # Errors
    /// There is no such device.
    pub fn received(self, name: &str) -> Result<u64> {
        let links = self.execute(&format!("ip -s -j link show dev {name}"))?;
        let links: serde_json::Value = serde_json::from_str(&links)?;
        links[0]["stats64"]["rx"]["packets"].as_u64().with_context(|| format!("{name} has no counters"))
    }
}

/// The packets of [`PROFILE`], of 64 bytes, and up to 65,536 flows.
///
/// # Errors
/// None, unless the profile above is wrong.
pub fn packets(flows: u32) -> Result<What> {
    let kept = PROFILE.iter().filter(|(key, _)| !["sport", "flows"].contains(key));
    let text: String = kept.map(|(key, value)| format!("{key}={value} ")).collect();
    let ports = flows.clamp(1, 65_536) - 1;
    let profile: Profile = format!("{text} sport=0..{ports} flows={flows}").parse()?;
    Ok(What::Stream { content: Arc::new(profile.content), seed: profile.seed })
}

/// What a thread does to be in that part.
pub fn enter(part: Part) -> Enter {
    Arc::new(move || part.enter())
}

/// Builds the place.
///
/// # Errors
/// What `ip` or `ethtool` refuses.
pub fn build() -> Result<()> {
    // Another benchmark of this run has built it, and left it as it was.
    if std::path::Path::new("/run/netns/sink").exists() {
        return Ok(());
    }
    lay_out(SET_UP, &[Part::Source, Part::Sink], &[Part::Router])?;
    // A veth drops what an XDP program sends into it, unless its end has a NAPI: GRO gives it one.
    for (part, device) in [(Part::Router, "left"), (Part::Router, "right"), (Part::Sink, "eth0")] {
        part.execute(&format!("ethtool -K {device} gro on"))?;
    }
    Ok(())
}

/// Runs `ip` once for each line of `set_up`, which makes these hosts and routers, and lets the routers forward.
///
/// # Errors
/// What `ip` refuses.
pub fn lay_out(set_up: &str, hosts: &[Part], routers: &[Part]) -> Result<()> {
    for line in set_up.lines().map(str::trim).filter(|line| !line.is_empty()) {
        execute(Command::new("ip").args(line.split_whitespace()))?;
    }
    // Or neighbour discovery would be among what is counted.
    for part in hosts.iter().chain(routers) {
        part.run(|| Ok(std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?))?;
    }
    for part in routers {
        part.run(|| Ok(std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_have_the_addresses_that_the_generator_uses() {
        for mac in MACS {
            let text = mac.map(|byte| format!("{byte:02x}")).join(":");
            assert!(SET_UP.contains(&text), "{text}");
        }
    }
}
