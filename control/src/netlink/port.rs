//! Whether a netdev can be a port, and if not, what to do about it.
//!
//! Asked once when control starts, over a socket of its own, in the calling thread's network namespace. Refused: what
//! cannot work. Warned of: what works badly, or only once something else has been done.

use super::decode::{self, RTM_GETLINK};
use super::event::Link;
use super::socket::{Socket, SocketError};

/// Why a netdev cannot be a port.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// There is none of this name.
    #[error("netdev `{name}` does not exist in this network namespace{}", did_you_mean(.nearest))]
    Missing {
        /// The name asked for.
        name: String,
        /// Names that exist and look like it, the likeliest first.
        nearest: Vec<String>,
    },
    /// A bond has no queues of its own.
    #[error("netdev `{name}` is a bond: XDP sockets bind to the netdevs below it; {}", bind_those(.slaves))]
    Bond {
        /// The bond.
        name: String,
        /// The netdevs that it is made of.
        slaves: Vec<String>,
    },
    /// A VLAN device has no queues of its own.
    #[error("netdev `{name}` is a VLAN device: name the netdev below it{} as the port; tags are parsed by zsync", lower.as_ref().map(|l| format!(", `{l}`,")).unwrap_or_default())]
    Vlan {
        /// The VLAN device.
        name: String,
        /// The netdev that carries it, when it is in this namespace.
        lower: Option<String>,
    },
    /// Its packets do not fit into a frame.
    #[error(
        "netdev `{name}` has an MTU of {mtu} bytes, a frame holds {limit}: `ip link set {name} mtu {limit}`, or larger frames"
    )]
    Mtu {
        /// The netdev.
        name: String,
        /// Its MTU in bytes.
        mtu: u32,
        /// The largest that fits.
        limit: u32,
    },
    /// Another XDP program is attached, and only one can be.
    #[error(
        "netdev `{name}` already has XDP program {program} attached: `bpftool prog show id {program}` tells whose it is; detach it, or ask to replace it"
    )]
    Occupied {
        /// The netdev.
        name: String,
        /// The id of the program.
        program: u32,
    },
    /// It is no Ethernet.
    #[error("netdev `{name}` ({kind}) has no Ethernet address: only Ethernet netdevs can be ports")]
    NotEthernet {
        /// The netdev.
        name: String,
        /// Its kind, as the kernel names it.
        kind: String,
    },
    /// A device of that name is there, and is not of the kind that the port is.
    #[error(
        "netdev `{name}` ({kind}) is there and is no {wanted} device: give the port's device another name"
    )]
    OtherKind {
        /// The netdev.
        name: String,
        /// Its kind, as the kernel names it, or "TUN" or "TAP".
        kind: String,
        /// "TUN" or "TAP".
        wanted: &'static str,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

/// What works, but perhaps not as hoped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortWarning {
    /// It is down: nothing comes or goes.
    Down(String),
    /// It is up but has no carrier.
    NoCarrier(String),
    /// It belongs to a bridge, a bond or a VRF, which will miss the packets that zsync takes.
    Enslaved {
        /// The netdev.
        name: String,
        /// What it belongs to.
        master: String,
    },
}

impl std::fmt::Display for PortWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Down(name) => write!(f, "netdev `{name}` is down: `ip link set {name} up`"),
            Self::NoCarrier(name) => {
                write!(f, "netdev `{name}` has no carrier: check the cable, or the far end of a veth")
            }
            Self::Enslaved { name, master } => {
                write!(
                    f,
                    "netdev `{name}` belongs to `{master}`, which will not see the packets that zsync takes"
                )
            }
        }
    }
}

/// A netdev that can be a port.
#[derive(Clone, Debug)]
pub struct PortCheck {
    /// The netdev.
    pub link: Link,
    /// What should be told to the operator.
    pub warnings: Vec<PortWarning>,
}

/// All links of the calling thread's network namespace, asked now (blocks for a moment).
pub fn links_now() -> Result<Vec<Link>, SocketError> {
    let mut links = Vec::new();
    Socket::asking()?.ask_all(RTM_GETLINK, &[0; 16], |message| links.extend(decode::link(message.body)))?;
    Ok(links)
}

/// Whether the netdev `name` can be a port. `mtu_limit`: the largest MTU whose packets fit, in bytes, if there is one.
/// `own_program`: says which attached program is ours (from an earlier run, pinned) and may stay.
pub fn check_port(
    name: &str,
    mtu_limit: Option<u32>,
    own_program: impl FnOnce(u32) -> bool,
) -> Result<PortCheck, PortError> {
    examine(&links_now()?, name, mtu_limit, own_program)
}

fn examine(
    links: &[Link],
    name: &str,
    mtu_limit: Option<u32>,
    own_program: impl FnOnce(u32) -> bool,
) -> Result<PortCheck, PortError> {
    let Some(link) = links.iter().find(|link| link.name == name) else {
        return Err(PortError::Missing { name: name.to_owned(), nearest: nearest_names(name, links) });
    };
    let name = || name.to_owned();
    let named = |index| links.iter().find(|link| Some(link.ifindex) == index).map(|link| link.name.clone());
    match link.kind.as_deref() {
        Some("bond" | "team") => {
            let slaves =
                links.iter().filter(|l| l.master == Some(link.ifindex)).map(|l| l.name.clone()).collect();
            return Err(PortError::Bond { name: name(), slaves });
        }
        Some("vlan") => {
            return Err(PortError::Vlan {
                name: name(),
                lower: named(link.link.filter(|_| link.link_netnsid.is_none())),
            });
        }
        _ => {}
    }
    if link.mac.is_none() || link.mac == Some([0; 6]) {
        let kind = link.kind.clone().unwrap_or_else(|| "no kind".to_owned());
        return Err(PortError::NotEthernet { name: name(), kind });
    }
    if let Some(limit) = mtu_limit.filter(|limit| link.mtu > *limit) {
        return Err(PortError::Mtu { name: name(), mtu: link.mtu, limit });
    }
    if let Some(program) = link.xdp_program.filter(|program| !own_program(*program)) {
        return Err(PortError::Occupied { name: name(), program });
    }
    let mut warnings = Vec::new();
    if !link.is_up() {
        warnings.push(PortWarning::Down(name()));
    } else if !link.is_running() {
        warnings.push(PortWarning::NoCarrier(name()));
    }
    if let Some(master) = link.master {
        let master = named(Some(master)).unwrap_or_else(|| format!("link {master}"));
        warnings.push(PortWarning::Enslaved { name: name(), master });
    }
    Ok(PortCheck { link: link.clone(), warnings })
}

/// At most three names within two edits, or that begin or end alike; loopback is never meant.
fn nearest_names(name: &str, links: &[Link]) -> Vec<String> {
    let candidates = links.iter().map(|link| &link.name).filter(|other| *other != "lo");
    let mut near: Vec<(usize, &String)> = candidates
        .map(|other| (edits(name, other), other))
        .filter(|(distance, other)| {
            *distance <= 2 || other.contains(name) || (!other.is_empty() && name.contains(other.as_str()))
        })
        .collect();
    near.sort();
    near.into_iter().take(3).map(|(_, name)| name.clone()).collect()
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut last = i + 1;
        row[0] = last;
        for (right, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            last = (diagonal + usize::from(left != *right)).min(above + 1).min(last + 1);
            (diagonal, *cell) = (above, last);
        }
    }
    row.last().copied().unwrap_or(0)
}

fn did_you_mean(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", quoted(names)) }
}

fn bind_those(slaves: &[String]) -> String {
    if slaves.is_empty() { "it has none".to_owned() } else { format!("make ports of {}", quoted(slaves)) }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(ifindex: u32, name: &str, kind: Option<&str>) -> Link {
        let kind = kind.map(str::to_owned);
        Link {
            ifindex,
            name: name.into(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            flags: 0x1_0001,
            kind,
            ..Link::default()
        }
    }

    #[test]
    fn every_refusal_names_the_port_and_the_remedy() {
        let links = [
            link(1, "eth0", None),
            Link { master: Some(3), ..link(2, "eth1", None) },
            link(3, "bond0", Some("bond")),
            Link { link: Some(1), ..link(4, "eth0.5", Some("vlan")) },
            Link { xdp_program: Some(77), ..link(5, "eth5", None) },
            Link { flags: 0, ..link(6, "idle", None) },
            Link { mac: None, ..link(7, "tun0", Some("tun")) },
        ];
        let refused = |name, limit| examine(&links, name, limit, |id| id == 78).unwrap_err().to_string();
        assert_eq!(
            refused("eht0", None),
            "netdev `eht0` does not exist in this network namespace; did you mean `eth0`?"
        );
        assert!(refused("bond0", None).contains("make ports of `eth1`"));
        assert!(refused("eth0.5", None).contains("below it, `eth0`,"));
        assert!(refused("eth0", Some(1400)).contains("`ip link set eth0 mtu 1400`"));
        assert!(refused("eth5", None).contains("XDP program 77"));
        assert!(refused("tun0", None).contains("only Ethernet"));
        assert!(examine(&links, "eth5", None, |id| id == 77).is_ok());
        let warnings = |name| examine(&links, name, Some(1500), |_| false).unwrap().warnings;
        assert!(warnings("eth0").is_empty());
        assert!(matches!(warnings("idle")[..], [PortWarning::Down(_)]));
        assert_eq!(
            warnings("eth1")[0].to_string(),
            "netdev `eth1` belongs to `bond0`, which will not see the packets that zsync takes"
        );
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(
            (edits("", ""), edits("ab", ""), edits("", "ab"), edits("eth0", "eth1"), edits("eth10", "eth0")),
            (0, 2, 2, 1, 1)
        );
    }
}
