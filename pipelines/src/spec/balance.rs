//! `[balance.NAME]`: which traffic is spread over which backends, and how it gets there.
//!
//! Plain values, every name resolved. Keeps true, once checked: there is a virtual address, a service and a backend; no
//! backend stands twice; whatever a way to forward needs is there ([`BalanceSpec::faults`] says what is not).

pub(crate) mod table;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::{Prefix, Protocol};
use crate::tables::maglev;

/// Most backends of one `balance` stage: more would not have ten entries each in the smallest table that is usual.
pub const MAX_BACKENDS: usize = 2048;
/// Most virtual addresses of one `balance` stage.
pub const MAX_VIPS: usize = 256;
/// Destination port of GUE (IANA).
pub const GUE_PORT: u16 = 6080;

/// Traffic to some virtual addresses, and who serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceSpec {
    /// The virtual addresses, of either family; 1..=[`MAX_VIPS`].
    pub vips: Vec<IpAddr>,
    /// What is served at each of them; never empty. The rest of their traffic goes on to the next stage.
    pub services: Vec<Ports>,
    /// How a packet gets to its backend.
    pub forward: Forward,
    /// Who serves; 1..=[`MAX_BACKENDS`], each once.
    pub backends: Vec<Backend>,
    /// Where the outer headers of a tunnel come from, at most one prefix of each family: the bits behind the prefix are
    /// the flow's, so that whoever spreads by addresses spreads flows.
    pub sources: Vec<Prefix>,
    /// Where backends take GUE.
    pub gue_port: u16,
    /// Number of the kernel's routing table by which backends are reached.
    pub route_table: u32,
    /// Entries of the Maglev table: a prime, at least a hundred for each backend to be even.
    pub entries: u32,
    /// Connections that a worker remembers.
    pub connections: u32,
    /// How long an idle TCP connection is remembered.
    pub tcp_idle: Duration,
    /// How long an idle UDP flow is remembered.
    pub udp_idle: Duration,
    /// Balancers with the same seed choose alike. Who must fear that somebody aims flows at one backend draws it at random.
    pub seed: u64,
    /// How it is found out which backends work; all are taken to when nothing is said.
    pub health: Option<Health>,
}

/// Who serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// The port that it serves at, where that is another than the client's packets go to; with `nat` alone.
    pub port: Option<u16>,
    /// Its share of the flows beside the others'; 0 takes no new ones.
    pub weight: u16,
    /// It takes no new flows, and keeps those that it has.
    pub drain: bool,
}

impl Backend {
    /// Who it is, on every machine and after every reload; never 0.
    #[must_use]
    pub fn identity(&self) -> u64 {
        let identity = maglev::identity(self.to_string().as_bytes());
        // State keeps 48 bits of it, of which none may all be 0.
        if identity << 16 == 0 { 1 } else { identity }
    }
}

impl fmt::Display for Backend {
    /// Address, and port if it has one: what an operator calls it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// How a packet gets to its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forward {
    /// Its destination becomes the backend; answers come back this way.
    Nat,
    /// In a frame to the backend's MAC address, unchanged; the backend has the virtual address, and answers by itself.
    Direct,
    /// In another IP header (RFC 2003, RFC 2473, RFC 4213).
    Ipip,
    /// In UDP (draft-ietf-intarea-gue-09 §2.2, variant 1), so that networks spread flows by the source port.
    Gue,
}

impl Forward {
    /// The words that a configuration may choose from.
    pub const WORDS: &'static [&'static str] = &["nat", "direct", "ipip", "gue"];

    /// The word that a configuration has for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Direct => "direct",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
        }
    }

    pub(crate) fn of_word(word: &str) -> Option<Self> {
        [Self::Nat, Self::Direct, Self::Ipip, Self::Gue].into_iter().find(|forward| forward.word() == word)
    }

    /// Whether packets get another header in front.
    #[must_use]
    pub fn is_tunnel(self) -> bool {
        matches!(self, Self::Ipip | Self::Gue)
    }
}

/// A transport protocol and ports of it, as in `tcp/443` or `udp/5000-5999`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ports {
    protocol: Protocol,
    first: u16,
    last: u16,
}

/// Why a text is not [`Ports`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortsError {
    /// What stands before the `/` is not `tcp` or `udp`.
    #[error("the protocol must be tcp or udp")]
    Protocol,
    /// What stands after the `/` is neither a port nor a range of ports.
    #[error("a port is a number from 1 to 65535, and a range goes up, as in 8000-8099")]
    Range,
}

impl Ports {
    /// The transport protocol.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// First and last port, 1..=65535.
    #[must_use]
    pub fn range(&self) -> std::ops::RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl FromStr for Ports {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<Self, PortsError> {
        let (protocol, ports) = text.split_once('/').ok_or(PortsError::Protocol)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(PortsError::Protocol),
        };
        let port = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|port: &u16| digits && *port > 0).ok_or(PortsError::Range)
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last) = (port(first)?, port(last)?);
        if first > last { Err(PortsError::Range) } else { Ok(Self { protocol, first, last }) }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        match (self.first, self.last) {
            (first, last) if first == last => write!(f, "{protocol}/{first}"),
            (first, last) => write!(f, "{protocol}/{first}-{last}"),
        }
    }
}

impl TryFrom<String> for Ports {
    type Error = PortsError;

    fn try_from(text: String) -> Result<Self, PortsError> {
        text.parse()
    }
}

impl From<Ports> for String {
    fn from(ports: Ports) -> String {
        ports.to_string()
    }
}

/// How it is found out whether a backend works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is tried.
    pub probe: Probe,
    /// The port that is tried, where it is not the one that serves; never with [`Probe::Icmp`].
    pub port: Option<u16>,
    /// From one attempt to the next: 100 ms..=1 h.
    pub interval: Duration,
    /// An attempt that takes longer has failed; at most `interval`.
    pub timeout: Duration,
    /// Successes in a row that bring a backend up: 1..=100.
    pub rise: u32,
    /// Failures in a row that take a backend down: 1..=100.
    pub fall: u32,
}

/// An attempt to find out whether a backend works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// A TCP connection is accepted.
    Tcp,
    /// A GET is answered with a status in a range.
    Http {
        /// What is asked for: begins with `/`.
        path: String,
        /// Whom it is asked of (the `Host` field); the backend's address when nothing is said.
        host: Option<String>,
        /// Lowest and highest status that will do.
        status: (u16, u16),
    },
    /// An echo comes back.
    Icmp,
}

impl BalanceSpec {
    /// What is missing or contradicts itself, in words; empty when all is well.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for backend in &self.backends {
            if !seen.insert((backend.address, backend.port)) {
                faults.push(format!("backend {backend} stands twice; give it one weight"));
            }
            if backend.port.is_some() && self.forward != Forward::Nat {
                faults.push(format!(
                    "backend {backend} has a port, and with forward = \"{}\" packets keep the port that the client chose; \
                     leave it out, or use \"nat\"",
                    self.forward.word()
                ));
            }
            let family = |other: &IpAddr| other.is_ipv4() == backend.address.is_ipv4();
            if self.forward.is_tunnel() && !self.sources.iter().any(|source| family(&source.addr())) {
                faults.push(format!(
                    "backend {backend} is reached through a tunnel that has no source of its family; add one to `source`"
                ));
            }
            if self.forward == Forward::Nat && !self.vips.iter().any(family) {
                faults.push(format!(
                    "backend {backend} has no virtual address of its family, and nat translates within one"
                ));
            }
            if self.vips.contains(&backend.address) {
                faults.push(format!(
                    "backend {backend} is itself a virtual address: packets would go in a circle"
                ));
            }
        }
        for vip in &self.vips {
            let served = |backend: &Backend| backend.address.is_ipv4() == vip.is_ipv4();
            if self.forward == Forward::Nat && !self.backends.iter().any(served) {
                faults.push(format!(
                    "virtual address {vip} has no backend of its family, and nat translates within one"
                ));
            }
        }
        let icmp = self.health.as_ref().is_some_and(|health| health.probe == Probe::Icmp);
        if icmp && self.health.as_ref().is_some_and(|health| health.port.is_some()) {
            faults.push("an echo has no port; leave `port` out of `health`".to_owned());
        }
        if self.health.as_ref().is_some_and(|health| health.timeout > health.interval) {
            faults.push("a check may not take longer than until the next; lower `timeout`".to_owned());
        }
        if !maglev::is_prime(self.entries) || self.entries as usize <= self.backends.len() {
            faults.push(format!(
                "{} entries: it must be a prime above the number of backends, as 65537",
                self.entries
            ));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_one_or_a_range() {
        for text in ["tcp/443", "udp/5000-5999", "tcp/1-65535"] {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), text);
        }
        assert_eq!("tcp/80-80".parse::<Ports>().unwrap().to_string(), "tcp/80");
        for text in ["tcp/", "tcp/0", "tcp/2-1", "udp/1-", "udp/-1", "tcp/+1", "tcp/65536", "tcp/1-2-3"] {
            assert_eq!(text.parse::<Ports>(), Err(PortsError::Range), "{text}");
        }
        for text in ["443", "icmp/1", "TCP/1"] {
            assert_eq!(text.parse::<Ports>(), Err(PortsError::Protocol), "{text}");
        }
    }

    fn spec(forward: Forward, vip: &str, backends: &[&str]) -> BalanceSpec {
        let backend = |text: &&str| {
            let end: Option<SocketAddr> = text.parse().ok();
            let address = end.map_or_else(|| text.parse().unwrap(), |end| end.ip());
            Backend { address, port: end.map(|end| end.port()), weight: 1, drain: false }
        };
        BalanceSpec {
            vips: vec![vip.parse().unwrap()],
            services: vec!["tcp/443".parse().unwrap()],
            forward,
            backends: backends.iter().map(backend).collect(),
            sources: Vec::new(),
            gue_port: GUE_PORT,
            route_table: 254,
            entries: maglev::SIZE,
            connections: 1024,
            tcp_idle: Duration::from_secs(900),
            udp_idle: Duration::from_secs(300),
            seed: 0,
            health: None,
        }
    }

    #[test]
    fn what_contradicts_itself_is_said() {
        use Forward::{Direct, Gue, Ipip, Nat};
        let faults = |forward, vip, backends: &[&str]| spec(forward, vip, backends).faults().len();
        assert_eq!(faults(Nat, "192.0.2.1", &["10.0.0.1:8443", "10.0.0.2"]), 0);
        assert_eq!(faults(Direct, "192.0.2.1", &["10.0.0.1", "2001:db8::1"]), 0);
        assert_eq!(faults(Direct, "192.0.2.1", &["10.0.0.1:1"]), 1);
        assert_eq!(faults(Direct, "192.0.2.1", &["10.0.0.1", "10.0.0.1"]), 1);
        assert_eq!(faults(Direct, "192.0.2.1", &["192.0.2.1"]), 1);
        assert_eq!(faults(Ipip, "192.0.2.1", &["10.0.0.1"]), 1);
        assert_eq!(faults(Gue, "192.0.2.1", &["2001:db8::1"]), 1);
        assert_eq!(faults(Nat, "192.0.2.1", &["2001:db8::1"]), 2);
        let mut tunnel = spec(Gue, "192.0.2.1", &["2001:db8::1"]);
        tunnel.sources.push("2001:db8:f::/64".parse().unwrap());
        assert_eq!(tunnel.faults().len(), 0);
        tunnel.entries = 65_536;
        assert_eq!(tunnel.faults().len(), 1);
    }

    #[test]
    fn a_backend_is_who_it_is_by_address_and_port_alone() {
        let one = Backend { address: "10.0.0.1".parse().unwrap(), port: Some(443), weight: 1, drain: false };
        assert_eq!(one.to_string(), "10.0.0.1:443");
        assert_eq!(one.identity(), 728_105_931_175_191_601);
        assert_eq!(Backend { weight: 7, drain: true, ..one.clone() }.identity(), one.identity());
        assert_ne!(Backend { port: None, ..one.clone() }.identity(), one.identity());
        assert_eq!(
            Backend { port: Some(1), address: "2001:db8::1".parse().unwrap(), ..one }.to_string(),
            "[2001:db8::1]:1"
        );
    }
}
