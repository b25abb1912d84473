//! What the stages `encap` and `decap` are told.

use super::canonical::{Rows, Text as Shown, one, port_name, word};
use super::datum::{Datum, Fields, Placed};
use super::findings::Findings;
use super::keys::{Key, Reach};
use super::kind::{Kind, Text};
use super::model::{PortId, Spec, StageSpec};
use super::names::Names;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use zsync_packet::header::vxlan;

/// A tunnel between two ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// What is between the outer IP header and what the tunnel carries.
    pub carrier: Carrier,
    /// Our end.
    pub local: IpAddr,
    /// The other end; of the same family.
    pub remote: IpAddr,
}

/// What is between the outer IP header and what the tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Carrier {
    /// UDP and VXLAN (RFC 7348); it carries Ethernet frames.
    Vxlan {
        /// Network identifier, 24 bits.
        vni: u32,
        /// UDP port.
        port: u16,
    },
    /// GRE (RFC 2784, RFC 2890); it carries IP packets.
    Gre {
        /// Tells tunnels between the same ends apart.
        key: Option<u32>,
    },
    /// Nothing: IP in IP, of either family in either (RFC 2003, 2473, 4213).
    Ip,
}

impl std::fmt::Display for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.carrier {
            Carrier::Vxlan { vni, port } => write!(f, "VXLAN {vni} (UDP port {port})")?,
            Carrier::Gre { key: Some(key) } => write!(f, "GRE {key}")?,
            Carrier::Gre { key: None } => f.write_str("GRE")?,
            Carrier::Ip => f.write_str("IP in IP")?,
        }
        write!(f, " between {} and {}", self.local, self.remote)
    }
}

impl Carrier {
    /// Whether the tunnel carries Ethernet frames, and not IP packets.
    #[must_use]
    pub fn carries_frames(&self) -> bool {
        matches!(self, Self::Vxlan { .. })
    }
}

/// `[encap.NAME]`: packets go into a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncapSpec {
    /// Which.
    pub tunnel: Tunnel,
    /// Hops of the outer packet: 1..=255. A `route` behind takes one off.
    pub ttl: u8,
    /// DSCP of the outer packet, 0..=63; none: the inner packet's.
    pub dscp: Option<u8>,
    /// Whether the outer UDP header has a checksum; none: over IPv6 alone (RFC 7348 §5, RFC 8200 §8.1).
    pub checksum: Option<bool>,
    /// Longest outer packet, in bytes; none: what every port can send.
    pub mtu: Option<u32>,
}

/// `[decap.NAME]`: packets come out of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecapSpec {
    /// Which.
    pub tunnel: Tunnel,
    /// The port that inner frames leave by; none: their IP packets go on to the next stage.
    pub to: Option<PortId>,
    /// Whether tunnel packets to our end that are of no tunnel known here are dropped, and not left to the next stage.
    pub strict: bool,
}

const CARRIER: Kind = Kind::Either(&[
    Kind::Word(&["gre", "ipip"]),
    Kind::OneKey(&[
        ("vxlan", &Kind::Whole { min: 0, max: vxlan::MAX_VNI as u64 }),
        ("gre", &Kind::Whole { min: 0, max: u32::MAX as u64 }),
    ]),
]);

const TUNNEL: Key = Key {
    name: "tunnel",
    kind: CARRIER,
    default: None,
    reach: Reach::Live,
    about: "What is between the two IP headers: { vxlan = 100 } with its network identifier, \"gre\" or { gre = 7 } with \
            its key, \"ipip\" for nothing. VXLAN carries whole frames, the others IP packets.",
};
const LOCAL: Key = Key {
    name: "local",
    kind: Kind::Text(Text::Address),
    default: None,
    reach: Reach::Live,
    about: "The address of this end of the tunnel.",
};
const REMOTE: Key = Key {
    name: "remote",
    kind: Kind::Text(Text::Address),
    default: None,
    reach: Reach::Live,
    about: "The address of the other end, of the same family.",
};
const PORT: Key = Key {
    name: "udp-port",
    kind: Kind::Whole { min: 1, max: 65_535 },
    default: Some("4789"),
    reach: Reach::Live,
    about: "The UDP port that VXLAN packets go to; of no use to other tunnels.",
};

/// The keys of `[encap.NAME]`.
pub(crate) const ENCAP: &[Key] = &[
    TUNNEL,
    LOCAL,
    REMOTE,
    PORT,
    Key {
        name: "ttl",
        kind: Kind::Whole { min: 1, max: 255 },
        default: Some("64"),
        reach: Reach::Live,
        about: "Hops that outer packets may take.",
    },
    Key {
        name: "dscp",
        kind: Kind::Either(&[Kind::Word(&["inner"]), Kind::Whole { min: 0, max: 63 }]),
        default: Some("\"inner\""),
        reach: Reach::Live,
        about: "The code point of outer packets. \"inner\": that of the packet inside.",
    },
    Key {
        name: "udp-checksum",
        kind: Kind::Word(&["auto", "always", "never"]),
        default: Some("\"auto\""),
        reach: Reach::Live,
        about: "Whether outer UDP headers have a checksum. \"auto\": over IPv6 alone.",
    },
    Key {
        name: "mtu",
        kind: Kind::Either(&[Kind::Word(&["auto"]), Kind::Whole { min: 576, max: 65_535 }]),
        default: Some("\"auto\""),
        reach: Reach::Live,
        about: "Longest outer packet in bytes. \"auto\": what every port can send.",
    },
];

/// The keys of `[decap.NAME]`.
pub(crate) const DECAP: &[Key] = &[
    TUNNEL,
    LOCAL,
    REMOTE,
    PORT,
    Key {
        name: "to",
        kind: Kind::Either(&[Kind::OneKey(&[("port", &Kind::Text(Text::Port))]), Kind::Word(&["next"])]),
        default: Some("\"next\""),
        reach: Reach::Live,
        about: "Where what comes out of the tunnel goes: the frames of a VXLAN leave by { port = \"lan\" }; \"next\": its IP \
                packets go on to the next stage.",
    },
    Key {
        name: "unknown",
        kind: Kind::Word(&["pass", "drop"]),
        default: Some("\"pass\""),
        reach: Reach::Live,
        about: "What becomes of tunnel packets to this end from elsewhere, or of another network or key: on to the next \
                stage, or dropped.",
    },
];

fn tunnel(fields: &Fields, path: &str, out: &mut Findings<'_>) -> Tunnel {
    let carrier = match fields.at("tunnel").map(|tunnel| &tunnel.value) {
        Some(Datum::OneKey("vxlan", vni)) => Carrier::Vxlan {
            vni: vni.value.number().unwrap_or(0),
            port: u16::try_from(fields.number("udp-port")).unwrap_or(vxlan::PORT),
        },
        Some(Datum::OneKey("gre", key)) => Carrier::Gre { key: key.value.number() },
        Some(Datum::Word("gre")) => Carrier::Gre { key: None },
        _ => Carrier::Ip,
    };
    let address = |key: &str| fields.at(key).and_then(|text| text.value.text().parse::<IpAddr>().ok());
    let none = IpAddr::from([0, 0, 0, 0]);
    let (local, remote) = (address("local"), address("remote"));
    for (key, end) in [("local", local), ("remote", remote)] {
        if let (Some(end), Some(placed)) = (end, fields.at(key))
            && (end.is_unspecified() || end.is_multicast())
        {
            out.error(&placed.span, format!("`{path}.{key}`: {end} is the address of no station"))
                .expected("the address of one station");
        }
    }
    if let (Some(local), Some(remote), Some(placed)) = (local, remote, fields.at("remote")) {
        if local.is_ipv4() != remote.is_ipv4() {
            out.error(&placed.span, format!("`{path}`: {local} and {remote} are of two families"))
                .help("the ends of a tunnel are both IPv4 or both IPv6; what it carries may be either");
        } else if local == remote {
            out.error(&placed.span, format!("`{path}`: both ends are {local}"))
                .help("`local` is an address of this router, `remote` one of another");
        }
    }
    Tunnel { carrier, local: local.unwrap_or(none), remote: remote.unwrap_or(none) }
}

pub(crate) fn encap(fields: &Fields, path: &str, _: &Names, out: &mut Findings<'_>) -> StageSpec {
    let number = |key: &str| fields.at(key).and_then(|value| value.value.number());
    StageSpec::Encap(EncapSpec {
        tunnel: tunnel(fields, path, out),
        ttl: number("ttl").and_then(|ttl| u8::try_from(ttl).ok()).unwrap_or(64),
        dscp: number("dscp").and_then(|dscp| u8::try_from(dscp).ok()),
        checksum: match fields.text("udp-checksum").as_str() {
            "always" => Some(true),
            "never" => Some(false),
            _ => None,
        },
        mtu: number("mtu"),
    })
}

pub(crate) fn decap(fields: &Fields, path: &str, names: &Names, out: &mut Findings<'_>) -> StageSpec {
    let tunnel = tunnel(fields, path, out);
    let to = match fields.at("to") {
        Some(Placed { value: Datum::OneKey("port", name), span }) => {
            let port = names.ports.known(name.value.text(), &name.span, out);
            if !tunnel.carrier.carries_frames() {
                out.warning(span, format!("`{path}.to`: only a VXLAN carries frames that a port can send"))
                    .help("take it out: the IP packets go on to the next stage, `route` for one");
            }
            port.filter(|_| tunnel.carrier.carries_frames())
        }
        _ => None,
    };
    StageSpec::Decap(DecapSpec { tunnel, to, strict: fields.text("unknown") == "drop" })
}

fn tunnel_rows(tunnel: &Tunnel) -> Rows {
    let (carrier, port) = match tunnel.carrier {
        Carrier::Vxlan { vni, port } => (Shown::One(format!("{{ vxlan = {vni} }}")), port),
        Carrier::Gre { key: Some(key) } => (Shown::One(format!("{{ gre = {key} }}")), vxlan::PORT),
        Carrier::Gre { key: None } => (word("gre"), vxlan::PORT),
        Carrier::Ip => (word("ipip"), vxlan::PORT),
    };
    vec![
        ("tunnel", carrier),
        ("local", word(tunnel.local)),
        ("remote", word(tunnel.remote)),
        ("udp-port", one(port)),
    ]
}

impl EncapSpec {
    /// The section's canonical rows.
    pub(crate) fn rows(&self) -> Rows {
        let mut rows = tunnel_rows(&self.tunnel);
        let checksum = match self.checksum {
            None => "auto",
            Some(true) => "always",
            Some(false) => "never",
        };
        rows.extend([
            ("ttl", one(self.ttl)),
            ("dscp", self.dscp.map_or_else(|| word("inner"), one)),
            ("udp-checksum", word(checksum)),
            ("mtu", self.mtu.map_or_else(|| word("auto"), one)),
        ]);
        rows
    }
}

impl DecapSpec {
    /// The section's canonical rows.
    pub(crate) fn rows(&self, spec: &Spec) -> Rows {
        let mut rows = tunnel_rows(&self.tunnel);
        let to = match self.to {
            Some(port) => Shown::One(format!("{{ port = {} }}", port_name(spec, port))),
            None => word("next"),
        };
        rows.extend([("to", to), ("unknown", word(if self.strict { "drop" } else { "pass" }))]);
        rows
    }
}
