//! What the kernel tells: links, addresses, next-hop objects, neighbours (routes: see `route`), each as a plain value.

use super::{Route, Via};
use std::net::IpAddr;

/// One thing that the kernel said, in a dump or by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A link exists like this.
    Link(Link),
    /// The link of this index is gone.
    LinkGone(u32),
    /// An address exists like this.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A route was added or exists.
    Route(Route, Origin),
    /// A route, or these hops of it, are gone.
    RouteGone(Route),
    /// A next-hop object exists like this.
    NextHop(NextHop),
    /// The next-hop object of this id is gone.
    NextHopGone(u32),
    /// A neighbour exists like this.
    Neighbour(Neighbour),
    /// A neighbour is gone.
    NeighbourGone(Neighbour),
}

/// How a route came: where it stands among routes of the same prefix and metric follows from that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Listed by a dump: behind the ones listed before it.
    Dump,
    /// New, in front of its equals (`NLM_F_CREATE` alone, "prepend").
    First,
    /// New, behind its equals (`NLM_F_APPEND`).
    Last,
    /// In place of the first of its equals (`NLM_F_REPLACE`).
    Replace,
}

/// A network device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Its index in this namespace.
    pub ifindex: u32,
    /// Its name in this namespace.
    pub name: String,
    /// Its hardware address, if that is an Ethernet one.
    pub mac: Option<[u8; 6]>,
    /// Bytes of layer 3.
    pub mtu: u32,
    /// `IFF_*` (uapi/linux/if.h).
    pub flags: u32,
    /// `IFLA_INFO_KIND`: "veth", "bond", "vlan"…; `None` for hardware.
    pub kind: Option<String>,
    /// The bond, bridge or VRF that it belongs to.
    pub master: Option<u32>,
    /// `IFLA_LINK`: the veth's peer or the VLAN's lower device, an index in the namespace of `link_netnsid`.
    pub link: Option<u32>,
    /// The namespace of `link` by the id that this namespace gives it; `None`: this namespace.
    pub link_netnsid: Option<i32>,
    /// The id of the XDP program attached, in whichever mode.
    pub xdp_program: Option<u32>,
}

const IFF_UP: u32 = 1;
const IFF_NOARP: u32 = 1 << 7;
const IFF_PROMISC: u32 = 1 << 8;
const IFF_LOWER_UP: u32 = 1 << 16;

impl Link {
    /// Whether the administrator wants it up.
    pub fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }

    /// Whether somebody has set it promiscuous by its flags; who asks by a socket is not told here (`dev_get_flags`, net/core/dev.c).
    pub fn is_promiscuous(&self) -> bool {
        self.flags & IFF_PROMISC != 0
    }

    /// Whether it has no neighbours to tell apart: a TUN device, and a TAP device where nobody asks for neighbours. The kernel calls the
    /// kind of both "tun".
    pub fn is_bare(&self) -> bool {
        self.flags & IFF_NOARP != 0 && (self.mac.is_none() || self.kind.as_deref() == Some("tun"))
    }

    /// Whether it is up and has a carrier.
    pub fn is_running(&self) -> bool {
        self.flags & (IFF_UP | IFF_LOWER_UP) == IFF_UP | IFF_LOWER_UP
    }
}

/// An address of this host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address {
    /// The link that has it.
    pub ifindex: u32,
    /// The address itself (on a point-to-point link: the local one).
    pub ip: IpAddr,
    /// The length of its prefix.
    pub prefix_length: u8,
    /// How good a source it is.
    pub standing: Standing,
}

/// How good a source of packets an address is: the lesser, the better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Standing {
    /// Good anywhere.
    #[default]
    Global,
    /// Good in one organisation (`fc00::/7`, site scope).
    Site,
    /// Made for a while (RFC 8981), or second to another one of its prefix (`IFA_F_SECONDARY`).
    Second,
    /// About to go (RFC 4862 §5.5.4).
    Deprecated,
    /// Not to be used off its link, or not yet known to be this host's alone.
    Unfit,
}

/// A next-hop object (`ip nexthop`). Those for bridges (`fdb`) are not told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NextHop {
    /// Its id.
    pub id: u32,
    /// Where it leads.
    pub group: NextHopGroup,
}

/// Where a next-hop object leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NextHopGroup {
    /// By itself: [`Via::Hops`] with one hop, or [`Via::Nowhere`] for a blackhole.
    Single(Via),
    /// To one of these objects, by weight (1..=65536).
    Members(Vec<(u32, u32)>),
}

/// An entry of the ARP or ND table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// The link that it is on.
    pub ifindex: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC, when the kernel has one.
    pub mac: Option<[u8; 6]>,
    /// `NUD_*` (uapi/linux/neighbour.h).
    pub state: u16,
}

impl Neighbour {
    /// Nobody has answered yet.
    pub const INCOMPLETE: u16 = 0x01;
    /// Answered lately.
    pub const REACHABLE: u16 = 0x02;
    /// Answered once; to be asked again when used.
    pub const STALE: u16 = 0x04;
    /// Used while stale; about to be asked again.
    pub const DELAY: u16 = 0x08;
    /// Being asked again.
    pub const PROBE: u16 = 0x10;
    /// Did not answer.
    pub const FAILED: u16 = 0x20;
    /// The link needs no resolution.
    pub const NOARP: u16 = 0x40;
    /// Set by the administrator.
    pub const PERMANENT: u16 = 0x80;

    /// The MAC to send to, if the kernel would send to it (`NUD_VALID` of include/net/neighbour.h).
    pub fn usable(&self) -> Option<[u8; 6]> {
        const VALID: u16 = Neighbour::REACHABLE
            | Neighbour::STALE
            | Neighbour::DELAY
            | Neighbour::PROBE
            | Neighbour::NOARP
            | Neighbour::PERMANENT;
        if self.state & VALID != 0 { self.mac } else { None }
    }
}
