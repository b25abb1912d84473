//! Profiles: a stream and its pace, written as `key=value` pairs on a command line or one a line in a file.
//!
//! ```
//! let profile: zsync_traffic::profile::Profile =
//!     "dst=10.2.0.1+1x1000 sport=1024..2023 size=imix flows=1000000 choice=zipf:1.1 rate=10M shape=poisson".parse()?;
//! assert_eq!(profile.content.flows, 1_000_000);
//! # Ok::<(), zsync_traffic::profile::ProfileErrors>(())
//! ```
//!
//! | key | value | without it |
//! |---|---|---|
//! | `src-mac` `dst-mac` | sweep of MAC addresses | 02:00:00:00:00:01, …:02 |
//! | `vlan` `inner-vlan` | sweep of 0 to 4095; both: the outer one is 802.1ad | untagged |
//! | `src` `dst` | sweep of addresses of one family | 198.18.0.1, 198.19.0.1 (RFC 2544 §C.2.2) |
//! | `ttl` `dscp` `flow-label` | sweep | 64, 0, 0 |
//! | `proto` | `udp` `tcp` `icmp` | udp |
//! | `sport` `dport` | sweep, UDP and TCP | 1024, 9 (discard) |
//! | `flags` | `syn,ack` or others, TCP | ack |
//! | `udp-checksum` | `on` `off`; off over IPv4 alone | on |
//! | `echo-id` | sweep, ICMP | 1 |
//! | `tunnel` | `vxlan` `gre` `ipip` | none |
//! | `outer-src` `outer-dst` `outer-ttl` `outer-dscp` | sweep; the addresses must be given | ttl 64, dscp 0 |
//! | `outer-sport` `vni` | sweep, VXLAN | 49152, 1 |
//! | `gre-key` | sweep, GRE | no key |
//! | `size` | see [`crate::size`]; with FCS | 64 |
//! | `flows` `choice` | see [`crate::flows`] | 1, round-robin |
//! | `rate` `shape` | packets/s, with `k` or `M`; see [`crate::pace`] | 1000, constant |
//! | `run` `seed` | numbers | 1, 1 |
//!
//! A sweep is `V`, `V+STEPxCOUNT`, `V..W`, `random:V..W`, or `V,W,X` (see [`crate::sweep`]); sweeps are nested in the
//! order that they are written in. `#` starts a comment. All errors are told at once.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use zsync_packet::header::{Mac, TcpFlags, VlanTag};

use crate::flows::Choice;
use crate::pace::{Pace, Shape};
use crate::size::Sizes;
use crate::stream::{Content, Stream};
use crate::sweep::Values;
use crate::template::{Field, Ip, Layers, Transport, Tunnel};

/// What is sent, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The packets.
    pub content: Content,
    /// Packets/s.
    pub rate: u64,
    /// How they lie in time.
    pub shape: Shape,
    /// Where all that looks random comes from.
    pub seed: u64,
}

/// One thing that is wrong with a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileError {
    /// The key, or the word that has none; empty for the whole.
    pub key: String,
    /// What is wrong, and what was expected.
    pub problem: String,
}

/// All that is wrong with a profile, one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ProfileErrors(pub Vec<ProfileError>);

impl fmt::Display for ProfileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, ProfileError { key, problem })| {
            let (line, colon) = (if at == 0 { "" } else { "\n" }, if key.is_empty() { "" } else { ": " });
            write!(f, "{line}{key}{colon}{problem}")
        })
    }
}

const SWEPT: [(&str, Field); 19] = [
    ("src-mac", Field::SourceMac),
    ("dst-mac", Field::DestinationMac),
    ("vlan", Field::Vlan),
    ("inner-vlan", Field::InnerVlan),
    ("src", Field::Source),
    ("dst", Field::Destination),
    ("ttl", Field::Ttl),
    ("dscp", Field::Dscp),
    ("flow-label", Field::FlowLabel),
    ("sport", Field::SourcePort),
    ("dport", Field::DestinationPort),
    ("echo-id", Field::EchoId),
    ("outer-src", Field::OuterSource),
    ("outer-dst", Field::OuterDestination),
    ("outer-ttl", Field::OuterTtl),
    ("outer-dscp", Field::OuterDscp),
    ("outer-sport", Field::OuterSourcePort),
    ("vni", Field::Vni),
    ("gre-key", Field::GreKey),
];
const OTHERS: [&str; 11] =
    ["proto", "flags", "udp-checksum", "tunnel", "size", "flows", "choice", "rate", "shape", "run", "seed"];

/// The pairs of a text, and what went wrong so far.
struct Pairs<'a> {
    pairs: Vec<(&'a str, &'a str)>,
    errors: Vec<ProfileError>,
}

impl<'a> Pairs<'a> {
    fn new(text: &'a str) -> Self {
        let mut read = Self { pairs: Vec::new(), errors: Vec::new() };
        let words =
            text.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
        for word in words {
            match word.split_once('=') {
                None => read.wrong(word, "no pair: expected key=value, without blanks"),
                Some((key, _)) if read.pairs.iter().any(|(known, _)| *known == key) => {
                    read.wrong(key, "given twice");
                }
                Some((key, _)) if !OTHERS.contains(&key) && SWEPT.iter().all(|(name, _)| *name != key) => {
                    let names = SWEPT.iter().map(|(name, _)| *name).chain(OTHERS).collect::<Vec<_>>();
                    read.wrong(key, format!("no such key: there are {}", names.join(" ")));
                }
                Some(pair) => read.pairs.push(pair),
            }
        }
        read
    }

    fn wrong(&mut self, key: &str, problem: impl Into<String>) {
        self.errors.push(ProfileError { key: key.into(), problem: problem.into() });
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    /// The value of a key, read by `read`, or `default`.
    fn value<T, E: fmt::Display>(&mut self, key: &str, default: T, read: impl Fn(&str) -> Result<T, E>) -> T {
        let Some(text) = self.text(key) else { return default };
        read(text).unwrap_or_else(|error| {
            self.wrong(key, error.to_string());
            default
        })
    }

    fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, key: &str, default: T) -> T {
        self.value(key, default, str::parse)
    }

    /// The values of a swept field.
    fn sweep(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Option<u128>,
        expected: &str,
    ) -> Option<Values> {
        let text = self.text(key)?;
        let values = values(text, read);
        if values.is_none() {
            self.wrong(
                key,
                format!("`{text}` is no sweep of it: expected V, V+STEPxCOUNT, V..W, random:V..W or V,W,X, where V is {expected}"),
            );
        }
        values
    }
}

/// Reads a sweep.
fn values(text: &str, read: impl Fn(&str) -> Option<u128>) -> Option<Values> {
    if let Some((low, high)) =
        text.strip_prefix("random:").map(|range| range.split_once("..")).unwrap_or(None)
    {
        return Some(Values::Random(read(low)?, read(high)?));
    }
    if let Some((start, end)) = text.split_once("..") {
        let (start, end) = (read(start)?, read(end)?);
        let count = u32::try_from(end.checked_sub(start)?.checked_add(1)?).ok()?;
        return Some(Values::Step { start, step: 1, count });
    }
    if let Some((start, rest)) = text.split_once('+') {
        let (step, count) = rest.split_once('x')?;
        return Some(Values::Step {
            start: read(start)?,
            step: step.parse().ok()?,
            count: count.parse().ok()?,
        });
    }
    if text.contains(',') {
        return Some(Values::List(text.split(',').map(read).collect::<Option<_>>()?));
    }
    read(text).map(Values::Fixed)
}

fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn mac(text: &str) -> Option<u128> {
    let mut bytes: Mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte =
            parts.next().filter(|part| part.len() == 2).and_then(|part| u8::from_str_radix(part, 16).ok())?;
    }
    parts.next().is_none().then(|| bytes.iter().fold(0, |word, byte| word << 8 | u128::from(*byte)))
}

fn address_number(text: &str, v6: bool) -> Option<u128> {
    match text.parse().ok()? {
        IpAddr::V4(address) => (!v6).then_some(address.to_bits().into()),
        IpAddr::V6(address) => v6.then_some(address.to_bits()),
    }
}

/// Which family a sweep of addresses is of: colons are IPv6's.
fn is_v6(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.trim_start_matches("random:").contains(':'))
}

/// A rate: a number, with `k` or `M`.
fn rate(text: &str) -> Result<u64, String> {
    let (digits, unit) = match (text.strip_suffix('k'), text.strip_suffix('M')) {
        (Some(digits), _) => (digits, 1000),
        (None, Some(digits)) => (digits, 1_000_000),
        (None, None) => (text, 1),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    number.ok_or_else(|| format!("`{text}` is no rate: expected packets/s as 1500000, 1500k or 2M"))
}

fn flags(text: &str) -> Result<TcpFlags, String> {
    text.split(',').try_fold(TcpFlags(0), |flags, name| {
        let flag = match name {
            "fin" => TcpFlags::FIN,
            "syn" => TcpFlags::SYN,
            "rst" => TcpFlags::RST,
            "psh" => TcpFlags::PSH,
            "ack" => TcpFlags::ACK,
            "urg" => TcpFlags::URG,
            "ece" => TcpFlags::ECE,
            "cwr" => TcpFlags::CWR,
            _ => {
                return Err(format!(
                    "`{name}` is no flag: expected fin syn rst psh ack urg ece cwr, with commas"
                ));
            }
        };
        Ok(flags.union(flag))
    })
}

/// What the sweeps of a text start with, for the template.
struct Swept(Vec<(Field, Values)>);

impl Swept {
    fn read(pairs: &mut Pairs<'_>) -> Self {
        let v6 = |pairs: &Pairs<'_>, keys: [&str; 2]| is_v6(keys.iter().find_map(|key| pairs.text(key)));
        let (inner, outer) = (v6(pairs, ["src", "dst"]), v6(pairs, ["outer-src", "outer-dst"]));
        // In the order of the text, because the first one turns fastest.
        let keys: Vec<&str> = pairs.pairs.iter().map(|(key, _)| *key).collect();
        let mut swept = Vec::new();
        for (name, field) in keys.iter().filter_map(|key| SWEPT.iter().find(|(name, _)| name == key)) {
            let address =
                |v6: bool| if v6 { "an IPv6 address as its pair's" } else { "an IPv4 address as its pair's" };
            let values = match field {
                Field::SourceMac | Field::DestinationMac => pairs.sweep(name, mac, "02:00:00:00:00:01"),
                Field::Source | Field::Destination => {
                    pairs.sweep(name, |text| address_number(text, inner), address(inner))
                }
                Field::OuterSource | Field::OuterDestination => {
                    pairs.sweep(name, |text| address_number(text, outer), address(outer))
                }
                _ => pairs.sweep(name, number, "a number"),
            };
            swept.extend(values.map(|values| (*field, values)));
        }
        Self(swept)
    }

    fn has(&self, field: Field) -> bool {
        self.0.iter().any(|(known, _)| *known == field)
    }

    /// The first value of a field as far as `T` can hold it; the sweep says so when it does not fit.
    fn first<T: TryFrom<u128>>(&self, field: Field, default: T) -> T {
        let values = self.0.iter().find(|(known, _)| *known == field).map(|(_, values)| values.first());
        values.and_then(|value| T::try_from(value).ok()).unwrap_or(default)
    }

    fn mac(&self, field: Field, default: u64) -> Mac {
        let bytes = self.first(field, default).to_be_bytes();
        [bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
    }

    fn ip(&self, fields: [Field; 4], text: Option<&str>, defaults: [IpAddr; 2]) -> Ip {
        let [source, destination, ttl, dscp] = fields;
        let v6 = is_v6(text);
        let address = |field, default: IpAddr| {
            let default = match default {
                IpAddr::V4(address) if v6 => address.to_ipv6_mapped().into(),
                other => other,
            };
            match default {
                IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(self.first(field, address.to_bits()))),
                IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(self.first(field, address.to_bits()))),
            }
        };
        let mut ip = Ip::new(address(source, defaults[0]), address(destination, defaults[1]));
        // Too large ones are the sweep's to refuse.
        (ip.ttl, ip.dscp) = (self.first(ttl, 64), self.first(dscp, 0).min(63));
        ip
    }
}

impl FromStr for Profile {
    type Err = ProfileErrors;

    fn from_str(text: &str) -> Result<Self, ProfileErrors> {
        let mut pairs = Pairs::new(text);
        let swept = Swept::read(&mut pairs);
        let layers = layers(&mut pairs, &swept);
        let content = Content {
            layers,
            // A value that never changes costs less in the template, but must have been fit for its field.
            sweeps: swept.0,
            sizes: pairs.parsed("size", Sizes::Fixed(64)),
            flows: pairs.parsed("flows", 1),
            choice: pairs.parsed("choice", Choice::RoundRobin),
            run: pairs.parsed("run", 1),
        };
        let mut profile = Self {
            content,
            rate: pairs.value("rate", 1000, rate),
            shape: pairs.parsed("shape", Shape::Constant),
            seed: pairs.parsed("seed", 1),
        };
        if let Err(error) = Pace::new(profile.shape, profile.rate, 0) {
            pairs.wrong("rate, shape", error.to_string());
        }
        // What is wrong with a part would only be told again by the whole.
        if pairs.errors.is_empty()
            && let Err(error) = Stream::new(&profile.content, profile.seed)
        {
            pairs.wrong("", error.to_string());
        }
        profile.content.sweeps.retain(|(_, values)| !matches!(values, Values::Fixed(_)));
        if pairs.errors.is_empty() { Ok(profile) } else { Err(ProfileErrors(pairs.errors)) }
    }
}

fn layers(pairs: &mut Pairs<'_>, swept: &Swept) -> Layers {
    let outermost = |id| if swept.has(Field::InnerVlan) { VlanTag::provider(id) } else { VlanTag::new(id) };
    let mut tags = Vec::new();
    if swept.has(Field::Vlan) {
        tags.push(outermost(swept.first(Field::Vlan, 0u16) & 0xfff));
    }
    if swept.has(Field::InnerVlan) {
        tags.push(VlanTag::new(swept.first(Field::InnerVlan, 0u16) & 0xfff));
        if !swept.has(Field::Vlan) {
            pairs.wrong("inner-vlan", "a tag within none: vlan must be given too");
        }
    }
    let defaults = [Ipv4Addr::new(198, 18, 0, 1).into(), Ipv4Addr::new(198, 19, 0, 1).into()];
    let fields = [Field::Source, Field::Destination, Field::Ttl, Field::Dscp];
    let mut ip = swept.ip(fields, pairs.text("src").or(pairs.text("dst")), defaults);
    if ip.source.is_ipv6() {
        for (field, key) in [(Field::Source, "src"), (Field::Destination, "dst")] {
            if !swept.has(field) && pairs.text(key).is_none() {
                pairs.wrong(key, "IPv6 needs both src and dst");
            }
        }
        ip.flow_label = swept.first(Field::FlowLabel, 0u32) & 0x000f_ffff;
    }
    let (source, destination) =
        (swept.first(Field::SourcePort, 1024), swept.first(Field::DestinationPort, 9));
    let flags = pairs.value("flags", TcpFlags::ACK, flags);
    let checksum = pairs.value("udp-checksum", true, |text| match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("`{text}`: expected on or off")),
    });
    let transport =
        pairs.value("proto", Transport::Udp { source, destination, checksum }, |text| match text {
            "udp" => Ok(Transport::Udp { source, destination, checksum }),
            "tcp" => Ok(Transport::Tcp { source, destination, flags }),
            "icmp" => Ok(Transport::Echo { id: swept.first(Field::EchoId, 1) }),
            _ => Err(format!("`{text}` is no protocol: expected udp, tcp or icmp")),
        });
    for (key, fits) in [
        ("flags", matches!(transport, Transport::Tcp { .. })),
        ("udp-checksum", matches!(transport, Transport::Udp { .. })),
    ] {
        if pairs.text(key).is_some() && !fits {
            pairs.wrong(key, "not of this proto");
        }
    }
    if !checksum && ip.source.is_ipv6() {
        pairs.wrong("udp-checksum", "UDP over IPv6 must have one (RFC 8200 §8.1)");
    }
    let tunnel = pairs.value("tunnel", None, |text| match text {
        "vxlan" => {
            let (vni, source_port) =
                (swept.first(Field::Vni, 1u32), swept.first(Field::OuterSourcePort, 49152));
            Ok(Some(Tunnel::Vxlan { vni: vni & 0x00ff_ffff, source_port }))
        }
        "gre" => {
            Ok(Some(Tunnel::Gre { key: swept.has(Field::GreKey).then(|| swept.first(Field::GreKey, 0)) }))
        }
        "ipip" => Ok(Some(Tunnel::IpIp)),
        _ => Err(format!("`{text}` is no tunnel: expected vxlan, gre or ipip")),
    });
    let tunnel = tunnel.map(|tunnel| {
        for key in ["outer-src", "outer-dst"] {
            if pairs.text(key).is_none() {
                pairs.wrong(key, "a tunnel needs both outer-src and outer-dst");
            }
        }
        let fields = [Field::OuterSource, Field::OuterDestination, Field::OuterTtl, Field::OuterDscp];
        (swept.ip(fields, pairs.text("outer-src").or(pairs.text("outer-dst")), defaults), tunnel)
    });
    Layers {
        source: swept.mac(Field::SourceMac, 0x0200_0000_0001),
        destination: swept.mac(Field::DestinationMac, 0x0200_0000_0002),
        tags,
        tunnel,
        ip,
        transport,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Class, classify};

    fn errors(text: &str) -> Vec<String> {
        text.parse::<Profile>().unwrap_err().0.into_iter().map(|error| error.key).collect()
    }

    #[test]
    fn nothing_said_is_a_small_udp_stream() {
        let profile: Profile = "".parse().unwrap();
        assert_eq!((profile.rate, profile.shape, profile.content.flows), (1000, Shape::Constant, 1));
        let mut packet = [0; 60];
        Stream::new(&profile.content, profile.seed).unwrap().write(0, 0, &mut packet).unwrap();
        assert_eq!(packet[..14], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
        assert_eq!(
            (&packet[26..34], &packet[34..38]),
            (&[198, 18, 0, 1, 198, 19, 0, 1][..], &[4, 0, 0, 9][..])
        );
    }

    #[test]
    fn everything_can_be_said() {
        let text = "src-mac=02:00:00:00:00:aa vlan=100..199 inner-vlan=7 # two tags\n src=2001:db8::1+1x10 dst=2001:db8::ff
            ttl=3 dscp=46 flow-label=random:1..0xfffff proto=tcp sport=1,2,3 dport=443 flags=syn,ack
            tunnel=vxlan outer-src=10.0.0.1 outer-dst=10.0.0.2 outer-ttl=9 outer-dscp=1 outer-sport=5 vni=77
            size=imix flows=3000 choice=zipf:1.1 rate=2M shape=burst:32 run=9 seed=4 dst-mac=02:00:00:00:00:bb";
        assert_eq!(errors(text), [""]);
        let profile: Profile = text.replace("imix", "200..1518").parse().unwrap();
        assert_eq!((profile.rate, profile.seed, profile.content.run), (2_000_000, 4, 9));
        assert_eq!(profile.shape, Shape::Burst { packets: 32, peak: None });
        let fields: Vec<Field> = profile.content.sweeps.iter().map(|(field, _)| *field).collect();
        assert_eq!(fields, [Field::Vlan, Field::Source, Field::FlowLabel, Field::SourcePort]);
        assert_eq!(profile.content.sweeps[0].1, Values::Step { start: 100, step: 1, count: 100 });
        assert_eq!(profile.content.sweeps[2].1, Values::Random(1, 0xfffff));
        assert_eq!(profile.content.sweeps[3].1, Values::List(vec![1, 2, 3]));
        let layers = &profile.content.layers;
        assert_eq!(layers.tags, [VlanTag::provider(100), VlanTag::new(7)]);
        assert_eq!(
            (layers.ip.ttl, layers.ip.dscp, layers.source[5], layers.destination[5]),
            (3, 46, 0xaa, 0xbb)
        );
        let flags = TcpFlags::SYN.union(TcpFlags::ACK);
        assert_eq!(layers.transport, Transport::Tcp { source: 1, destination: 443, flags });
        let (outer, tunnel) = layers.tunnel.unwrap();
        assert_eq!(tunnel, Tunnel::Vxlan { vni: 77, source_port: 5 });
        assert_eq!((outer.ttl, outer.dscp, outer.source), (9, 1, [10, 0, 0, 1].into()));
        let mut packet = [0; 1514];
        let len = Stream::new(&profile.content, 4).unwrap().write(0, 0, &mut packet).unwrap();
        assert!(matches!(classify(&packet[..len], 0), Class::Probe(_)));
    }

    #[test]
    fn random_addresses_of_both_families_are_read() {
        for (text, v6) in [
            ("dst=random:10.0.0.0..10.255.255.255", false),
            ("src=2001:db8::1 dst=random:2001:db8::..2001:db8::ffff", true),
            ("src=random:2001:db8::..2001:db8::ffff dst=2001:db8::1 size=84", true),
        ] {
            let profile = format!("size=128 {text}").replace("size=128 src=random", "src=random");
            assert_eq!(profile.parse::<Profile>().unwrap().content.layers.ip.source.is_ipv6(), v6, "{text}");
        }
    }

    #[test]
    fn all_errors_are_told_at_once_with_what_was_expected() {
        let text = "size=63 rate=fast flows=x choice=some shape=odd nonsense word=1 vlan=a src=::1 size=64 proto=sctp";
        let told = text.parse::<Profile>().unwrap_err();
        let mut keys: Vec<&str> = told.0.iter().map(|error| error.key.as_str()).collect();
        keys.sort_unstable();
        let expected =
            ["choice", "dst", "flows", "nonsense", "proto", "rate", "shape", "size", "size", "vlan", "word"];
        assert_eq!(keys, expected);
        assert_eq!(told.to_string().lines().count(), 11);
        assert!(told.to_string().contains("proto: `sctp` is no protocol: expected udp, tcp or icmp"));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        assert_eq!(errors("inner-vlan=5"), ["inner-vlan"]);
        assert_eq!(errors("tunnel=gre"), ["outer-src", "outer-dst"]);
        assert_eq!(errors("flags=syn"), ["flags"]);
        assert_eq!(errors("src=::1 dst=::2 udp-checksum=off size=100"), ["udp-checksum"]);
        assert_eq!(errors("src=10.0.0.1 dst=::2"), ["dst"]);
        assert_eq!(errors("vni=4"), [""]);
        assert_eq!(errors("vlan=4096"), [""]);
        assert_eq!(errors("dscp=64"), [""]);
        assert_eq!(errors("flows=2"), [""]);
        assert_eq!(errors("rate=201M"), ["rate, shape"]);
        assert_eq!(errors("proto=tcp size=64"), [""]);
        assert_eq!(errors("sport=5..4"), ["sport"]);
    }
}
