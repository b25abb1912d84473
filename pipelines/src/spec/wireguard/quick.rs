//! Files of `wg-quick` (its manual, and `config.c` of wireguard-tools), read, and said as a section `[wireguard.NAME]`.
//!
//! Keys are of any case, `#` begins a comment, blanks do not count. Refuses what `wg` refuses, and two peers with one key or one
//! prefix, of which `wg` lets the last win; all mistakes at once, each with its line. What has no meaning here is kept, with why.

use super::{KeyFile, PeerSpec};
use crate::spec::address::{Prefix, PrefixError};
use crate::spec::canonical::quoted;
use crate::spec::nearest;
use crate::spec::tun::{self, TunAddress};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use zsync_wireguard::key::{PublicKey, Secret};

/// The longest file that is read, bytes.
pub const LARGEST: usize = 16 << 20;

/// A file of `wg-quick`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quick {
    /// Who this end is.
    pub private_key: Secret,
    /// Its UDP port; none: any.
    pub listen_port: Option<u16>,
    /// Longest packet inside, bytes.
    pub mtu: Option<u16>,
    /// Addresses of the host inside.
    pub addresses: Vec<TunAddress>,
    /// The peers, in the order of the file.
    pub peers: Vec<QuickPeer>,
    /// What has no meaning here.
    pub unused: Vec<Unused>,
}

/// A peer of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuickPeer {
    /// Line of its `[Peer]`, from 1.
    pub line: usize,
    /// Who it is.
    pub public_key: PublicKey,
    /// What is mixed into handshakes with it.
    pub preshared: Option<Secret>,
    /// Where it is.
    pub endpoint: Option<Endpoint>,
    /// What is behind it, without bits past the length.
    pub allowed_ips: Vec<Prefix>,
    /// Seconds; 0: never.
    pub keepalive: u16,
}

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// At an address and a port.
    At(SocketAddr),
    /// At a port of a host that has a name.
    Named(String, u16),
}

/// A line that has no meaning here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// From 1.
    pub line: usize,
    /// The line without its comment.
    pub text: String,
    /// Why it has none.
    pub why: &'static str,
}

/// A mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// What is wrong; never a key.
    pub what: String,
}

/// Keys of `[Interface]` that mean nothing here, and why.
const UNUSED: &[(&str, &str)] = &[
    ("DNS", "the host resolves names as it does"),
    (
        "Table",
        "routes are the kernel's, and `route` forwards by them: say there which ports lead to the peers' networks",
    ),
    ("FwMark", "outer packets leave by a port, and by the routes of the stage `route`"),
    ("PreUp", "no commands are run"),
    ("PostUp", "no commands are run"),
    ("PreDown", "no commands are run"),
    ("PostDown", "no commands are run"),
    ("SaveConfig", "what is applied is what the configuration says"),
];
const INTERFACE: [&str; 4] = ["PrivateKey", "ListenPort", "MTU", "Address"];
const PEER: [&str; 5] = ["PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    Nothing,
    Interface,
    Peer,
    /// A section that there is not: its lines are not looked at.
    Unknown,
}

/// A peer while its lines are read.
#[derive(Default)]
struct Draft {
    line: usize,
    public_key: Option<PublicKey>,
    /// Whether its key stood there, right or wrong.
    named: bool,
    preshared: Option<Secret>,
    endpoint: Option<Endpoint>,
    allowed_ips: Vec<(usize, Prefix)>,
    keepalive: u16,
}

/// Reads a file.
///
/// # Errors
/// Everything that is wrong with it, in the order of its lines.
pub fn read(text: &str) -> Result<Quick, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    if text.len() > LARGEST {
        let what = format!("the file has {} bytes, and {LARGEST} is the limit", text.len());
        return Err(vec![Mistake { line: 1, what }]);
    }
    let mut place = In::Nothing;
    let (mut private_key, mut listen_port, mut mtu) = (None, None, None);
    let mut addresses = Vec::new();
    let (mut interface, mut has_key) = (None, false);
    let mut drafts: Vec<Draft> = Vec::new();
    let mut unused = Vec::new();
    for (n, whole) in text.lines().enumerate() {
        let line = n + 1;
        let said = whole.split('#').next().unwrap_or_default().trim();
        let mut wrong = |what: String| mistakes.push(Mistake { line, what });
        if said.is_empty() {
            continue;
        }
        if said.starts_with('[') {
            place = match said.to_ascii_lowercase().as_str() {
                "[interface]" => {
                    if let Some(first) = interface.replace(line) {
                        wrong(format!("a second [Interface]; the first is in line {first}"));
                    }
                    In::Interface
                }
                "[peer]" => {
                    drafts.push(Draft { line, ..Draft::default() });
                    In::Peer
                }
                _ => {
                    wrong(format!("there is no section {}: [Interface] or [Peer]", shown(said)));
                    In::Unknown
                }
            };
            continue;
        }
        let Some((key, value)) = said.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
            // It may be a key that has lost what stood before it.
            wrong("neither a section nor `Key = value`".to_owned());
            continue;
        };
        let is = |name: &str| key.eq_ignore_ascii_case(name);
        match place {
            In::Nothing => wrong(format!("`{}` stands ahead of [Interface] and [Peer]", shown(key))),
            In::Unknown => {}
            In::Interface if is("PrivateKey") => {
                has_key = true;
                match value.parse::<Secret>() {
                    Ok(secret) if secret != Secret::new([0; 32]) => private_key = Some(secret),
                    _ => wrong(
                        "`PrivateKey` is not a key: 44 characters of base64 (it is not shown)".to_owned(),
                    ),
                }
            }
            In::Interface if is("ListenPort") => match value.parse::<u16>() {
                Ok(port) => listen_port = Some(port).filter(|port| *port != 0),
                Err(_) => wrong(format!("`ListenPort`: \"{}\" is no number up to 65535", shown(value))),
            },
            In::Interface if is("MTU") => match value.parse::<u16>() {
                Ok(bytes) if (576..=9000).contains(&bytes) => mtu = Some(bytes),
                _ => wrong(format!("`MTU`: \"{}\" is no number from 576 to 9000", shown(value))),
            },
            In::Interface if is("Address") => {
                for item in value.split(',').map(str::trim).filter(|item| !item.is_empty()) {
                    match TunAddress::parse(item) {
                        Some(address) if addresses.contains(&address) => {}
                        Some(address) => addresses.push(address),
                        None => wrong(format!("`Address`: \"{}\" is no address of a host", shown(item))),
                    }
                }
            }
            In::Interface => match UNUSED.iter().find(|(name, _)| is(name)) {
                Some((_, why)) => unused.push(Unused { line, text: shown(said), why }),
                None => {
                    let known = INTERFACE.into_iter().chain(UNUSED.iter().map(|(name, _)| *name));
                    wrong(unknown(key, "[Interface]", known, &PEER));
                }
            },
            In::Peer => {
                let Some(draft) = drafts.last_mut() else { continue };
                if let Err(what) = draft.set(key, value, line) {
                    wrong(what);
                }
            }
        }
    }
    let at = interface.unwrap_or(1);
    match interface {
        None => mistakes.push(Mistake { line: at, what: "there is no [Interface]".to_owned() }),
        Some(_) if !has_key => {
            mistakes.push(Mistake { line: at, what: "[Interface] has no `PrivateKey`".to_owned() });
        }
        Some(_) => {}
    }
    distinct(&drafts, &mut mistakes);
    mistakes.sort_by_key(|mistake| mistake.line);
    match private_key {
        Some(private_key) if mistakes.is_empty() => {
            let peers = drafts.into_iter().filter_map(Draft::done).collect();
            Ok(Quick { private_key, listen_port, mtu, addresses, peers, unused })
        }
        _ => Err(mistakes),
    }
}

impl Draft {
    fn set(&mut self, key: &str, value: &str, line: usize) -> Result<(), String> {
        let is = |name: &str| key.eq_ignore_ascii_case(name);
        if is("PublicKey") {
            self.named = true;
            let key = value.parse().map_err(|_| {
                format!("`PublicKey`: \"{}\" is not a key: 44 characters of base64", shown(value))
            })?;
            self.public_key = Some(key);
        } else if is("PresharedKey") {
            let secret: Secret = value.parse().map_err(|_| {
                "`PresharedKey` is not a key: 44 characters of base64 (it is not shown)".to_owned()
            })?;
            // All zeros mean none.
            self.preshared = Some(secret).filter(|secret| *secret != Secret::new([0; 32]));
        } else if is("Endpoint") {
            self.endpoint =
                Some(endpoint(value).map_err(|what| format!("`Endpoint`: \"{}\" {what}", shown(value)))?);
        } else if is("PersistentKeepalive") {
            self.keepalive = match value {
                _ if value.eq_ignore_ascii_case("off") => 0,
                _ => value.parse().map_err(|_| {
                    format!(
                        "`PersistentKeepalive`: \"{}\" is neither \"off\" nor a number up to 65535",
                        shown(value)
                    )
                })?,
            };
        } else if is("AllowedIPs") {
            for item in value.split(',').map(str::trim).filter(|item| !item.is_empty()) {
                let prefix = prefix(item).ok_or_else(|| {
                    format!("`AllowedIPs`: \"{}\" is neither an IP address nor a prefix", shown(item))
                })?;
                if !self.allowed_ips.iter().any(|(_, other)| *other == prefix) {
                    self.allowed_ips.push((line, prefix));
                }
            }
        } else {
            let of_interface = INTERFACE.iter().chain(UNUSED.iter().map(|(name, _)| name)).copied();
            return Err(unknown(key, "[Peer]", PEER.into_iter(), &of_interface.collect::<Vec<_>>()));
        }
        Ok(())
    }

    fn done(self) -> Option<QuickPeer> {
        Some(QuickPeer {
            line: self.line,
            public_key: self.public_key?,
            preshared: self.preshared,
            endpoint: self.endpoint,
            allowed_ips: self.allowed_ips.into_iter().map(|(_, prefix)| prefix).collect(),
            keepalive: self.keepalive,
        })
    }
}

/// A prefix as `wg` reads it: an address alone is its own, and bits past the length do not count.
fn prefix(text: &str) -> Option<Prefix> {
    match Prefix::of_hosts(text) {
        Ok(prefix) | Err(PrefixError::HostBits(prefix)) => Some(prefix),
        Err(_) => None,
    }
}

fn endpoint(text: &str) -> Result<Endpoint, &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or("has no port from 1 to 65535")?;
    if host.contains('%') {
        return Err("names a network device: routes say which way a peer is");
    }
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address: Option<IpAddr> = inner.map_or_else(|| host.parse().ok(), |host| host.parse().ok());
    match address {
        Some(address) if address.is_ipv6() && inner.is_none() => Err("needs brackets: [2001:db8::1]:51820"),
        Some(address) if super::table::is_station(address) => {
            Ok(Endpoint::At(SocketAddr::new(address, port)))
        }
        Some(_) => Err("is the address of no station"),
        None if is_host(host) => Ok(Endpoint::Named(host.to_owned(), port)),
        None => Err("is not an address or a name, and a port"),
    }
}

/// Whether a resolver can be asked for it (RFC 1123 §2.1, and the underscore that many use).
fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

/// No key and no prefix is of two peers, and each has a key.
fn distinct(drafts: &[Draft], mistakes: &mut Vec<Mistake>) {
    let mut keys = HashMap::new();
    let mut prefixes = HashMap::new();
    for (n, draft) in drafts.iter().enumerate() {
        let mut wrong = |line: usize, what: String| mistakes.push(Mistake { line, what });
        match draft.public_key {
            None if !draft.named => wrong(draft.line, "[Peer] has no `PublicKey`".to_owned()),
            None => {}
            Some(key) => {
                if let Some(first) = keys.insert(key, draft.line) {
                    wrong(draft.line, format!("{key} is a peer twice, in line {first} too"));
                }
            }
        }
        for (line, prefix) in &draft.allowed_ips {
            if let Some((_, first)) = prefixes.insert(*prefix, (n, *line)).filter(|(other, _)| *other != n) {
                wrong(
                    *line,
                    format!(
                        "{prefix} is behind two peers, that of line {first} too; `wg` lets the last one have it"
                    ),
                );
            }
        }
    }
}

fn unknown<'k>(key: &str, section: &str, known: impl Iterator<Item = &'k str>, other: &[&str]) -> String {
    let shown = shown(key);
    if other.iter().any(|name| key.eq_ignore_ascii_case(name)) {
        return format!("`{shown}` does not belong into {section}");
    }
    let lower = key.to_ascii_lowercase();
    let known: Vec<(String, &str)> = known.map(|name| (name.to_ascii_lowercase(), name)).collect();
    let near = nearest(&lower, known.iter().map(|(lower, _)| lower.as_str()));
    let near = near.and_then(|near| known.iter().find(|(lower, _)| lower == near));
    let meant = near.map_or(String::new(), |(_, name)| format!("; did you mean `{name}`?"));
    format!("unknown key `{shown}` in {section}{meant}")
}

/// Text without what a terminal or a comment would not take, and not too long.
fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut shown: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}

impl Quick {
    /// The section as TOML. `key_file` says where a key is: the private one, or the preshared one of a peer, by place;
    /// `resolve` says where a host is.
    ///
    /// # Errors
    /// The hosts that are nowhere, by the lines of their peers.
    pub fn to_toml(
        &self,
        name: &str,
        key_file: &dyn Fn(Option<usize>) -> String,
        resolve: &mut dyn FnMut(&str, u16) -> Result<SocketAddr, String>,
    ) -> Result<String, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut out = format!("[wireguard.{name}]\nprivate-key-file = {}\n", quoted(key_file(None)));
        match self.listen_port {
            Some(port) => _ = writeln!(out, "listen-port = {port}"),
            None => out.push_str("# The file has no port, which lets `wg` choose one; here it is always the same.\nlisten-port = 51820\n"),
        }
        if let Some(mtu) = self.mtu {
            let _ = writeln!(out, "mtu = {mtu}");
        }
        out.push_str(if self.peers.is_empty() { "peers = []\n" } else { "peers = [\n" });
        for (n, peer) in self.peers.iter().enumerate() {
            let endpoint = match &peer.endpoint {
                None => None,
                Some(Endpoint::At(socket)) => Some(*socket),
                Some(Endpoint::Named(host, port)) => match resolve(host, *port) {
                    Ok(socket) => {
                        let _ = writeln!(
                            out,
                            "    # {host} was {} when this was imported; names are not resolved again.",
                            socket.ip()
                        );
                        Some(socket)
                    }
                    Err(what) => {
                        let what = format!("the endpoint {host} of this peer: {what}");
                        mistakes.push(Mistake { line: peer.line, what });
                        None
                    }
                },
            };
            let peer = PeerSpec {
                public_key: peer.public_key,
                preshared: peer.preshared.as_ref().map(|_| KeyFile::unread(key_file(Some(n)))),
                endpoint,
                allowed_ips: peer.allowed_ips.clone(),
                keepalive: peer.keepalive,
            };
            let _ = writeln!(out, "    {},", peer.text());
        }
        if !self.peers.is_empty() {
            out.push_str("]\n");
        }
        self.write_device(name, &mut out);
        if !self.unused.is_empty() {
            out.push_str("# What has no meaning here:\n");
        }
        for Unused { line, text, why } in &self.unused {
            let _ = writeln!(out, "#   line {line}, {text}: {why}");
        }
        if mistakes.is_empty() { Ok(out) } else { Err(mistakes) }
    }

    /// The device by which the host itself is inside, if it has addresses there.
    fn write_device(&self, name: &str, out: &mut String) {
        /// Bytes of the name of a device of the kernel's (IFNAMSIZ, with a NUL).
        const NETDEV: usize = 15;
        if self.addresses.is_empty() {
            return;
        }
        let netdev = name.get(..NETDEV).unwrap_or(name);
        let addresses: Vec<String> = self.addresses.iter().map(quoted).collect();
        let _ = writeln!(out, "\n[port.{name}]\ndevice = \"tun\"\nnetdev = {}", quoted(netdev));
        let _ = writeln!(out, "addresses = [{}]", addresses.join(", "));
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu >= tun::LEAST) {
            let _ = writeln!(out, "mtu = {mtu}");
        }
        let _ = writeln!(
            out,
            "\n[pipeline.{name}]   # what the host has for the peers: `ip route add … dev {netdev}`\ninput = [{}]\nstages = [{}, \"route\"]",
            quoted(name),
            quoted(format!("wireguard-seal.{name}"))
        );
    }
}
