//! `[wireguard.NAME]` as TOML: its keys, how they become a [`WireguardSpec`], and what several tables say together.

use super::{KeyFile, PeerSpec, WireguardSpec};
use crate::spec::datum::{Datum, Fields, Placed};
use crate::spec::decode::{Document, Entry};
use crate::spec::findings::Findings;
use crate::spec::keys::{ABSENT, Key, Reach};
use crate::spec::kind::{Form, Kind, Text};
use crate::spec::model::Pipeline;
use crate::spec::names::Names;
use crate::spec::quantity::parse_duration;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use zsync_wireguard::index::MAX_PEERS;
use zsync_wireguard::key::{PublicKey, Secret};

/// Memory for at least so many peers, where nothing is said.
const FEWEST: u32 = 64;
/// What IPv6 asks of every link (RFC 8200 §5).
const IPV6_MTU: u32 = 1280;

const fn key(name: &'static str, kind: Kind, default: Option<&'static str>, about: &'static str) -> Key {
    Key { name, kind, default, reach: Reach::Live, about }
}

static PUBLIC_KEY: Form = Form {
    expected: "a public key: 44 characters of base64, as `wg pubkey` writes them",
    pattern: "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$",
    problem: |text| text.parse::<PublicKey>().err().map(|_| "is not a key".to_owned()),
};

static ENDPOINT: Form = Form {
    expected: "an address and a port, like \"192.0.2.1:51820\" or \"[2001:db8::1]:51820\"",
    pattern: "^[][0-9a-fA-F:.]+:[0-9]{1,5}$",
    problem: endpoint_problem,
};

static KEEPALIVE: Form = Form {
    expected: "\"off\", or whole seconds from \"1s\" to \"65535s\"",
    pattern: "^(off|[0-9]+ *(s|m|h))$",
    problem: |text| keepalive(text).err(),
};

const PEER: &[Key] = &[
    key("public-key", Kind::Text(Text::Form(&PUBLIC_KEY)), None, "Who the peer is."),
    key(
        "preshared-key-file",
        Kind::Text(Text::Path),
        ABSENT,
        "A file with a key that both ends have besides, as `wg genpsk` writes it. A relative path is seen from this file's \
         folder.",
    ),
    key(
        "endpoint",
        Kind::Text(Text::Form(&ENDPOINT)),
        ABSENT,
        "Where the peer is, until it says otherwise; if absent, it has to speak first.",
    ),
    key(
        "allowed-ips",
        Kind::List { of: &Kind::Text(Text::Hosts), min: 0, max: 65_536 },
        Some("[]"),
        "The addresses behind the peer: what is sent to them goes to it, and it may send from no others.",
    ),
    key(
        "keepalive",
        Kind::Text(Text::Form(&KEEPALIVE)),
        Some("\"off\""),
        "How long this end is silent at most, so that a NAT on the way remembers it.",
    ),
];

/// The keys of `[wireguard.NAME]`.
pub(crate) const KEYS: &[Key] = &[
    key(
        "private-key-file",
        Kind::Text(Text::Path),
        None,
        "A file with the private key of this end, as `wg genkey` writes it, that root alone may read. A relative path is \
         seen from this file's folder.",
    ),
    key("listen-port", Kind::Whole { min: 1, max: 65_535 }, Some("51820"), "The UDP port of this end."),
    key(
        "local",
        Kind::List { of: &Kind::Text(Text::Address), min: 0, max: 2 },
        Some("[]"),
        "The addresses of this end, one of each family at most; if empty, the host's own.",
    ),
    key(
        "to",
        Kind::Either(&[Kind::OneKey(&[("port", &Kind::Text(Text::Port))]), Kind::Word(&["next"])]),
        Some("\"next\""),
        "Where all goes that this end says: { port = \"outer\" } leaves by the UDP socket that this port is, by the kernel's \
         routes; \"next\": sealed packets go on to the next stage, `route` for one.",
    ),
    key(
        "mtu",
        Kind::Whole { min: 576, max: 9000 },
        Some("1420"),
        "Longest packet inside, in bytes; outside it has 60 more over IPv4, 80 over IPv6.",
    ),
    key(
        "max-peers",
        Kind::Either(&[Kind::Word(&["auto"]), Kind::Whole { min: 1, max: MAX_PEERS as u64 }]),
        Some("\"auto\""),
        "Peers that there is memory for. \"auto\": the next power of two of twice the peers, at least 64; a running end keeps what \
         it has while its peers fit. Where there is more, sessions go on.",
    ),
    key(
        "dscp",
        Kind::Either(&[Kind::Word(&["inner"]), Kind::Whole { min: 0, max: 63 }]),
        Some("\"inner\""),
        "The code point of outer packets. \"inner\": that of the packet inside.",
    ),
    key(
        "peers",
        Kind::List { of: &Kind::Table(PEER), min: 0, max: MAX_PEERS as usize },
        Some("[]"),
        "Who may speak with this end.",
    ),
];

pub(super) fn endpoint_problem(text: &str) -> Option<String> {
    match text.parse::<SocketAddr>() {
        Ok(socket) if socket.port() == 0 => Some("has no port".to_owned()),
        Ok(socket) if !is_station(socket.ip()) => Some("is the address of no station".to_owned()),
        Ok(SocketAddr::V6(socket)) if socket.scope_id() != 0 => {
            Some("names a network device: routes say which way a peer is".to_owned())
        }
        Ok(_) => None,
        Err(_) if text.parse::<IpAddr>().is_ok() => Some("has no port".to_owned()),
        Err(_) => {
            let name = text.rsplit_once(':').map_or(text, |(name, _)| name);
            let is_name = name.contains(|c: char| c.is_ascii_alphabetic()) && !name.contains([':', '[', ' ']);
            Some(if is_name {
                format!(
                    "has a name, and names are not resolved here: write the address that `getent ahosts {name}` says"
                )
            } else {
                "is not an address and a port".to_owned()
            })
        }
    }
}

/// Whether an address is that of one station.
pub(super) fn is_station(address: IpAddr) -> bool {
    let broadcast = IpAddr::from([255; 4]);
    !address.is_unspecified() && !address.is_multicast() && address != broadcast
}

/// Seconds of a text like `25s`; 0 of `off`.
fn keepalive(text: &str) -> Result<u16, String> {
    if text == "off" {
        return Ok(0);
    }
    let period = parse_duration(text).map_err(|error| format!("is not a duration: {error}"))?;
    if period.subsec_millis() != 0 {
        return Err("is not a whole number of seconds".to_owned());
    }
    match u16::try_from(period.as_secs()) {
        Ok(0) => Err("is too short".to_owned()),
        Ok(seconds) => Ok(seconds),
        Err(_) => Err("is too long".to_owned()),
    }
}

/// Reads the table called `path`.
pub(crate) fn build(fields: &Fields, path: &str, names: &Names, out: &mut Findings<'_>) -> WireguardSpec {
    let number = |key: &str| fields.at(key).and_then(|value| value.value.number());
    let short = |key: &str| number(key).and_then(|number| u16::try_from(number).ok());
    let items = fields.items("peers");
    let peers: Vec<PeerSpec> =
        items.iter().filter_map(|item| peer(item.value.fields()?, &format!("{path}.peers"), out)).collect();
    distinct(items, path, out);
    for (item, peer) in items.iter().zip(&peers).filter(|(_, peer)| peer.allowed_ips.is_empty()) {
        out.warning(&item.span, format!("`{path}.peers`: {} has no `allowed-ips`", peer.public_key))
            .label("nothing goes to this peer, and nothing from it is taken");
    }
    let mtu = short("mtu").unwrap_or(1420);
    if let Some(placed) = fields.at("mtu").filter(|_| u32::from(mtu) < IPV6_MTU) {
        out.warning(&placed.span, format!("`{path}.mtu`: IPv6 needs {IPV6_MTU} bytes"))
            .help("packets of IPv6 that are longer are answered with \"packet too big\", which hosts need not heed below that");
    }
    let auto = (items.len() as u32).saturating_mul(2).next_power_of_two().clamp(FEWEST, MAX_PEERS);
    let max_peers = number("max-peers").unwrap_or(auto);
    if let Some(placed) = fields.at("max-peers").filter(|_| (max_peers as usize) < items.len()) {
        out.error(&placed.span, format!("`{path}.max-peers`: there are {} peers", items.len()))
            .expected(format!("\"auto\", or at least {}", items.len()));
    }
    WireguardSpec {
        name: path.split_once('.').map_or(path, |(_, name)| name).to_owned(),
        private_key: key_file(fields, "private-key-file", path, out)
            .unwrap_or_else(|| KeyFile::unread(String::new())),
        listen_port: short("listen-port").unwrap_or(super::PORT),
        local: local(fields, path, out),
        to: to(fields).and_then(|name| names.ports.known(name.value.text(), &name.span, out)),
        mtu,
        max_peers,
        dscp: number("dscp").and_then(|dscp| u8::try_from(dscp).ok()),
        peers,
    }
}

fn peer(fields: &Fields, path: &str, out: &mut Findings<'_>) -> Option<PeerSpec> {
    Some(PeerSpec {
        public_key: fields.text("public-key").parse().ok()?,
        preshared: key_file(fields, "preshared-key-file", path, out),
        endpoint: fields.at("endpoint").and_then(|endpoint| endpoint.value.text().parse().ok()),
        allowed_ips: fields.at("allowed-ips").map(|prefixes| prefixes.value.prefixes()).unwrap_or_default(),
        keepalive: keepalive(&fields.text("keepalive")).unwrap_or(0),
    })
}

/// The file that a key names. Who writes the key itself there is told without showing it once more.
fn key_file(fields: &Fields, key: &str, path: &str, out: &mut Findings<'_>) -> Option<KeyFile> {
    let placed = fields.at(key)?;
    let text = placed.value.text();
    if text.parse::<Secret>().is_ok() {
        out.error(
            &placed.span,
            format!("`{path}.{key}` is a key, not the path of a file with the key in it"),
        )
        .hide_line()
        .expected("the path of a file, from the configuration's folder or from the root")
        .help(
            "write it into a file that only root may read; who could read it here knows it: make another one",
        );
    }
    Some(KeyFile::unread(text))
}

/// The name of the port that this end sends by.
fn to(fields: &Fields) -> Option<&Placed<Datum>> {
    match &fields.at("to")?.value {
        Datum::OneKey("port", name) => Some(name),
        _ => None,
    }
}

fn local(fields: &Fields, path: &str, out: &mut Findings<'_>) -> Vec<IpAddr> {
    let mut local: Vec<IpAddr> = Vec::new();
    for item in fields.items("local") {
        let Ok(address) = item.value.text().parse::<IpAddr>() else { continue };
        if !is_station(address) {
            out.error(&item.span, format!("`{path}.local`: {address} is the address of no station"))
                .expected("an address of this host; [] for all of its own");
        } else if let Some(other) = local.iter().find(|other| other.is_ipv4() == address.is_ipv4()) {
            out.error(&item.span, format!("`{path}.local`: {other} and {address} are of one family"))
                .expected("one address of each family at most")
                .help("[] takes all of the host's own");
        }
        local.push(address);
    }
    local
}

/// No key and no prefix is of two peers. `wg` lets the last one win.
fn distinct(peers: &[Placed<Datum>], path: &str, out: &mut Findings<'_>) {
    let mut keys = HashMap::new();
    let mut prefixes = HashMap::new();
    for (n, fields) in peers.iter().enumerate().filter_map(|(n, peer)| Some((n, peer.value.fields()?))) {
        if let Some(key) = fields.at("public-key") {
            // One key has several texts that mean it, so it is compared by its bytes.
            let Ok(public) = key.value.text().parse::<PublicKey>() else { continue };
            if let Some(first) = keys.insert(public, key.span.start) {
                let line = out.line(first);
                out.error(&key.span, format!("`{path}.peers` has {public} twice"))
                    .label(format!("also in line {line}"))
                    .help("give the peer all its `allowed-ips` in one table");
            }
        }
        for item in fields.items("allowed-ips") {
            let Datum::Prefix(prefix) = item.value else { continue };
            match prefixes.insert(prefix, (n, item.span.start)) {
                Some((other, first)) if other != n => {
                    let line = out.line(first);
                    out.error(&item.span, format!("`{path}.peers`: {prefix} is behind two peers"))
                        .label(format!("also in line {line}"))
                        .help("packets to an address go to one peer; of two prefixes the longer one wins");
                }
                _ => {}
            }
        }
    }
}

/// Whether the port that an end sends by is a socket, and the one that its peers send to.
fn check_to(document: &Document, entry: &Entry, out: &mut Findings<'_>) {
    let (Some(name), listens) = (to(&entry.fields), entry.fields.number("listen-port")) else { return };
    let path = format!("wireguard.{}.to", entry.name.value);
    let text = name.value.text();
    let port = document.entries("port").find(|port| port.name.value == text);
    if port.is_none_or(|port| port.fields.text("device") != "udp") {
        out.error(&name.span, format!("`{path}`: port \"{text}\" is no UDP socket"))
            .expected("a port with device = \"udp\"")
            .help("\"next\" and a `route` behind send by other ports");
        return;
    }
    if let Some(socket) = socket(document, text).filter(|socket| u32::from(socket.port()) != listens) {
        let message = format!(
            "`{path}`: port \"{text}\" listens at UDP port {}, and this end at {listens}",
            socket.port()
        );
        out.error(&name.span, message).help(format!("listen-port = {}, or another `listen`", socket.port()));
    }
}

/// What the port of this name is bound to.
fn socket(document: &Document, name: &str) -> Option<SocketAddr> {
    let port = document.entries("port").find(|port| port.name.value == name)?;
    port.fields.at("listen")?.value.text().parse().ok()
}

/// Whether what tables and pipelines say goes together: no two ends want the same packets, and what is opened is sealed too.
pub(crate) fn check(document: &Document, pipelines: &[Pipeline], out: &mut Findings<'_>) {
    let mut ends: Vec<(u32, Vec<String>, &str, usize)> = Vec::new();
    for entry in document.entries("wireguard") {
        let (name, fields) = (entry.name.value.as_str(), &entry.fields);
        check_to(document, entry, out);
        let mut local: Vec<String> =
            fields.items("local").iter().map(|item| item.value.text().to_owned()).collect();
        if local.is_empty() {
            let own =
                to(fields).and_then(|name| socket(document, name.value.text())).map(|socket| socket.ip());
            local.extend(own.filter(|own| !own.is_unspecified()).map(|own| own.to_string()));
        }
        let port = fields.number("listen-port");
        let meets = |other: &[String]| {
            local.is_empty() || other.is_empty() || local.iter().any(|address| other.contains(address))
        };
        if let Some((.., other, place)) = ends.iter().find(|(at, of, ..)| *at == port && meets(of)) {
            let line = out.line(*place);
            out.error(
                &entry.name.span,
                format!("[wireguard.{name}] and [wireguard.{other}] both listen at UDP port {port}"),
            )
            .label(format!("the other is in line {line}"))
            .help("give each its own `listen-port`, or `local` addresses of its own");
        }
        ends.push((port, local, name, entry.name.span.start));

        let named = |kind: &str| {
            let label = format!("{kind}.{name}");
            pipelines.iter().flat_map(|pipeline| &pipeline.stages).any(|stage| stage.label == label)
        };
        let half = match (named("wireguard-open"), named("wireguard-seal")) {
            (true, false) => Some(("opened", "sealed", "seal", "nothing is sent to its peers")),
            (false, true) => {
                Some(("sealed", "opened", "open", "nothing that comes from its peers is understood"))
            }
            _ => None,
        };
        if let Some((does, lacks, stage, so)) = half {
            out.warning(&entry.name.span, format!("[wireguard.{name}] is {does} and never {lacks}"))
                .label(so)
                .help(format!(
                    "name \"wireguard-{stage}.{name}\" in the pipeline of such packets, ahead of `route`"
                ));
        }
    }
}
