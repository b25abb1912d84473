//! A port that is a TUN or TAP device: the kernel's own packets come by it, and what is for the kernel goes by it.
//!
//! Owns: its settings, and what a port of this kind cannot have. Refuses, with the key at fault: what belongs to a NIC (XDP programs, …);
//! of a TUN device what belongs to Ethernet (VLANs, patches, …); VLANs of a TAP device whose IP packets are routed, for such a device has
//! the host alone at its other end, and is not asked for stations.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::datum::{Datum, Fields, Placed};
use super::decode::{Document, defaults};
use super::diff::{Change, Effect, Mark};
use super::findings::Findings;
use super::keys::{Key, Reach};
use super::kind::{Kind, Text};
use super::mirror::{MirrorSpec, MirrorTo};
use super::model::{Device, Layer, Spec, StageSpec};
use super::tunnel::DecapSpec;

/// MTU of a TUN device where none is told: what fits a tunnel of WireGuard over IPv6 on Ethernet.
pub const MTU: u32 = 1420;

/// Least MTU: what IPv6 asks of any link (RFC 8200 §5).
pub(crate) const LEAST: u16 = 1280;

/// The same of a TAP device: Ethernet's.
const FRAME_MTU: u32 = 1500;

/// The settings of a TUN or TAP device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunSpec {
    /// Longest IP packet, in bytes: 1280..=9000.
    pub mtu: u32,
    /// Addresses of the host on it, with the network that is reached by it.
    pub addresses: Vec<TunAddress>,
}

/// An address of the host, and how many of its leading bits name the network that it is in: `10.9.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TunAddress {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network: up to 32 or 128.
    pub length: u8,
}

impl fmt::Display for TunAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl TunAddress {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address.parse::<IpAddr>().ok()?, Some(length.parse::<u8>().ok()?)),
            None => (text.parse().ok()?, None),
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(most);
        let usable = !address.is_unspecified() && !address.is_multicast();
        (length <= most && usable).then_some(Self { address, length })
    }
}

fn wrong(text: &str) -> Option<String> {
    TunAddress::parse(text)
        .is_none()
        .then(|| "that is no address of a host with the length of its network".to_owned())
}

pub(crate) const MTU_KEY: Key = Key {
    name: "mtu",
    kind: Kind::Either(&[Kind::Word(&["auto"]), Kind::Whole { min: LEAST as u64, max: 9000 }]),
    default: Some("\"auto\""),
    reach: Reach::Sockets,
    about: "Longest IP packet of a TUN or TAP device, in bytes. \"auto\": 1420 of TUN, 1500 of TAP; that of another device is the \
            kernel's.",
};

pub(crate) const ADDRESSES: Key = Key {
    name: "addresses",
    kind: Kind::List {
        of: &Kind::Text(Text::Checked {
            expected: "an address and the length of its network, like \"10.9.0.1/24\"",
            wrong,
        }),
        min: 0,
        max: 64,
    },
    default: Some("[]"),
    reach: Reach::Live,
    about: "Addresses that the host gets on a TUN or TAP device; those of another device are the kernel's.",
};

/// Keys that say something of a NIC, or of Ethernet, which is the last.
const FOREIGN: [&str; 10] = [
    "steer",
    "block",
    "xdp",
    "failover",
    "mode",
    "ring-size",
    "busy-poll",
    "replace",
    "promiscuous",
    "vlans",
];

/// The TUN or TAP device of a port's section, if it has one.
pub(crate) fn tun(name: &str, fields: &Fields, out: &mut Findings<'_>) -> Option<TunSpec> {
    let device = fields.word("device");
    let (own, strange, mtu): (_, &[&str], _) = match device {
        Device::Tun => (Some("TUN"), &FOREIGN, MTU),
        Device::Tap => (Some("TAP"), &FOREIGN[..FOREIGN.len() - 1], FRAME_MTU),
        Device::Udp => return None,
        _ => (None, &["mtu", "addresses"], MTU),
    };
    for (key, given) in given(fields, strange) {
        let message = match own {
            Some(kind) => format!("port \"{name}\" is a {kind} device, which has no `{key}`"),
            None => format!("port \"{name}\" is a device of the kernel's, whose `{key}` it has itself"),
        };
        let help = match (own.is_some(), key) {
            (true, _) => "leave it out".to_owned(),
            (false, "mtu") => format!("`ip link set {} mtu …`, or device = \"tun\"", fields.text("netdev")),
            (false, _) => format!("`ip address add … dev {}`, or device = \"tun\"", fields.text("netdev")),
        };
        out.error(&given.span, message).help(help);
    }
    let address = |datum: &Datum| TunAddress::parse(datum.text());
    own.is_some().then(|| TunSpec {
        mtu: fields.at("mtu").and_then(|mtu| mtu.value.number()).unwrap_or(mtu),
        addresses: fields.items("addresses").iter().filter_map(|item| address(&item.value)).collect(),
    })
}

/// Those of `keys` that say something else than they do by default, and what.
pub(crate) fn given<'f>(
    fields: &'f Fields,
    keys: &'static [&'static str],
) -> impl Iterator<Item = (&'static str, &'f Placed<Datum>)> {
    let plain = defaults("port");
    keys.iter().filter_map(move |key| {
        let default = plain.at(key).map(|default| &default.value);
        Some((*key, fields.at(key).filter(|given| default != Some(&given.value))?))
    })
}

/// Adds the TAP devices that become wires, and those that are none any more. Whether the host asks for neighbours there is another, and
/// so are the routes by them: they are opened anew.
pub(crate) fn turned(old: &Spec, new: &Spec, changes: &mut BTreeMap<String, Vec<Change>>) {
    for is in new.ports.iter().filter(|port| port.device == Device::Tap) {
        let was = old.port(&is.name).filter(|was| was.device == Device::Tap).map(|was| old.is_wire(was.id));
        let detail = match (was, new.is_wire(is.id)) {
            (Some(false), true) => "routed → a wire",
            (Some(true), false) => "a wire → routed",
            _ => continue,
        };
        let path = format!("port.{}", is.name);
        changes.entry(path.clone()).or_default().push(Change {
            mark: Mark::Changed,
            path,
            detail: detail.to_owned(),
            effect: Effect::Reopen(is.name.clone()),
        });
    }
}

/// Refuses frames on ports that have none, and VLANs where nobody sends any.
pub(crate) fn no_frames(spec: &Spec, document: &Document, out: &mut Findings<'_>) {
    let bare = |name: &str| match spec.port(name)? {
        port if port.device == Device::Tun => Some(("a TUN device", "a TUN device carries IP packets")),
        port if port.udp.is_some() => Some(("a UDP socket", "a UDP socket carries datagrams")),
        _ => None,
    };
    let is_tap = |name: &str| spec.port(name).is_some_and(|port| port.device == Device::Tap);
    for entry in document.entries("pipeline") {
        let Some(this) = spec.pipelines.iter().find(|pipeline| pipeline.name == entry.name.value) else {
            continue;
        };
        for input in entry.fields.items("input") {
            if let (Layer::L2, Some((_, carries))) = (this.layer(), bare(input.value.text())) {
                let message = format!(
                    "pipeline \"{}\" takes frames, and \"{}\" has none",
                    this.name,
                    input.value.text()
                );
                out.error(&input.span, message).help(format!("{carries}: route them"));
            }
            let name = input.value.text();
            let vlan = spec.vlans.iter().find(|vlan| vlan.name == name).map(|vlan| spec.device_of(vlan.id));
            let tap = vlan.map(|id| spec.port_name(id)).filter(|device| is_tap(device));
            if let (Layer::L3, Some(device)) = (this.layer(), tap) {
                let message = format!(
                    "pipeline \"{}\" takes IP packets from \"{name}\", a VLAN of \"{device}\", which is a TAP device",
                    this.name
                );
                out.error(&input.span, message).help("patch its frames, or route a TAP device without VLANs");
            }
            if this.layer() == Layer::L3 && spec.port(name).is_some_and(|port| spec.is_end_of_wire(port.id)) {
                let message = format!(
                    "pipeline \"{}\" takes IP packets from \"{name}\", a TAP device that another pipeline takes frames from",
                    this.name
                );
                out.error(&input.span, message).help("a TAP device is routed, or a wire: have one for each");
            }
        }
        for (stage, placed) in this.stages.iter().zip(entry.fields.items("stages")) {
            let outputs: Vec<_> = match &stage.spec {
                StageSpec::Patch { map } => map.iter().flatten().copied().collect(),
                StageSpec::Mirror(MirrorSpec { to: MirrorTo::Port(to), .. }) => vec![*to],
                StageSpec::Decap(DecapSpec { to: Some(to), .. }) => vec![*to],
                _ => Vec::new(),
            };
            for output in outputs.into_iter().map(|id| spec.port_name(id)) {
                if let Some((what, carries)) = bare(output) {
                    let message =
                        format!("[{}] sends frames to \"{output}\", {what}, which has none", stage.label);
                    out.error(&placed.span, message).help(carries);
                }
            }
        }
    }
}
