//! From words to a [`PacketText`], and what is wrong with them.
//!
//! Keeps true: every error names the column that it is about, shows it, and says what may stand there; reading takes time in
//! proportion to the text.

use super::{LONGEST, PacketText, TAGS};
use std::net::{IpAddr, SocketAddr};
use zsync_packet::header::{TcpFlags, VlanTag, protocol};

/// How a packet is written, for errors.
const FORM: &str = "write it like `tcp 10.1.0.5:40000 -> 10.2.0.1:443`, `udp [2001:db8::1]:53 -> [2001:db8::2]:53`, \
                    `icmp 10.1.0.5 -> 10.2.0.1` or `47 10.1.0.5 -> 10.2.0.1`; then, if wanted, in=lan flags=syn,ack seq=1 ack=1 ttl=64 \
                    dscp=46 ecn=1 vlan=7 size=100 id=9 frag=1480+ df type=3/1 echo-id=7, and for an ICMP error \
                    `about` and the packet that it is about";

/// The keys that there are, for errors.
const KEYS: &str = "in, flags, seq, ack, ttl, dscp, ecn, vlan, size, id, frag, df, type, echo-id or about";

/// Numbers of IPv6 extension headers (IANA's registry), which need more than a number.
const EXTENSIONS: [u8; 8] = [0, 43, 44, 51, 60, 135, 139, 140];

/// Text beyond this is not shown again, bytes.
const SHOWN: usize = 400;

const NAMES: [(&str, TcpFlags); 8] = [
    ("fin", TcpFlags::FIN),
    ("syn", TcpFlags::SYN),
    ("rst", TcpFlags::RST),
    ("psh", TcpFlags::PSH),
    ("ack", TcpFlags::ACK),
    ("urg", TcpFlags::URG),
    ("ece", TcpFlags::ECE),
    ("cwr", TcpFlags::CWR),
];

/// The words for these flags.
pub(in super::super) fn flags(flags: TcpFlags) -> String {
    let set = NAMES.iter().filter(|(_, flag)| flags.contains(*flag)).map(|(name, _)| *name);
    let set: Vec<&str> = set.collect();
    if set.is_empty() { "none".to_owned() } else { set.join(",") }
}

/// A word, and where it starts, in bytes.
#[derive(Clone, Copy)]
struct Word<'t> {
    at: usize,
    text: &'t str,
}

/// What is wrong, and with what.
struct Wrong<'t> {
    word: Word<'t>,
    what: String,
}

impl<'t> Word<'t> {
    fn wrong<T>(self, what: impl Into<String>) -> Result<T, Wrong<'t>> {
        Err(Wrong { word: self, what: what.into() })
    }
}

/// Reads the words.
pub(super) fn parse(text: &str) -> Result<PacketText, String> {
    let words = words(text);
    read(text, &words, true).map_err(|wrong| show(text, &wrong))
}

fn words(text: &str) -> Vec<Word<'_>> {
    let start = text.as_ptr().addr();
    text.split_whitespace().map(|word| Word { at: word.as_ptr().addr() - start, text: word }).collect()
}

/// The error with its place.
fn show(text: &str, Wrong { word, what }: &Wrong<'_>) -> String {
    let column = text.get(..word.at).map_or(0, |ahead| ahead.chars().count());
    let of = if word.text.is_empty() { "the end".to_owned() } else { format!("`{}`", cut(word.text)) };
    let mut shown = format!("--packet, column {}, {of}: {what}\n", column + 1);
    if text.len() <= SHOWN && !text.contains(char::is_control) {
        let marks = "^".repeat(word.text.chars().count().max(1));
        shown.push_str(&format!("    {text}\n    {}{marks}\n", " ".repeat(column)));
    }
    shown + FORM
}

fn cut(text: &str) -> String {
    if text.chars().count() <= 60 { text.to_owned() } else { text.chars().take(60).chain(['…']).collect() }
}

fn read<'t>(text: &'t str, words: &[Word<'t>], may_quote: bool) -> Result<PacketText, Wrong<'t>> {
    // What is missing is missing behind the last word.
    let behind = words.last().map_or(text.len(), |word| word.at + word.text.len());
    let end = Word { at: behind, text: "" };
    let mut left = words.iter().copied();
    let mut next = |what: &str| left.next().ok_or_else(|| Wrong { word: end, what: what.to_owned() });
    let kind = next("tcp, udp, icmp or the number of a protocol is missing")?;
    let number = protocol_of(kind)?;
    let from = next("the sender is missing: an address, for tcp and udp with a port")?;
    let (source, source_port) = place(from)?;
    let arrow = next("`->` and the receiver are missing")?;
    if arrow.text != "->" {
        return arrow.wrong("`->` belongs here, between sender and receiver");
    }
    let to = next("the receiver is missing: an address, for tcp and udp with a port")?;
    let (destination, destination_port) = place(to)?;
    if source.is_ipv4() != destination.is_ipv4() {
        let (there, here) = if source.is_ipv4() { (4, 6) } else { (6, 4) };
        return to.wrong(format!("an IPv{there} address as the sender's is expected, not an IPv{here} one"));
    }
    let number = number.unwrap_or(if source.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 });
    if source.is_ipv6() && EXTENSIONS.contains(&number) {
        return kind.wrong(format!("{number} is an extension header of IPv6, which no packet is of"));
    }
    let mut packet = PacketText {
        protocol: number,
        source,
        destination,
        ports: (1, 1),
        flags: None,
        sequence: None,
        acknowledgement: None,
        icmp: None,
        ttl: 64,
        dscp: 0,
        ecn: 0,
        dont_fragment: false,
        id: 0,
        fragment: None,
        tags: Vec::new(),
        size: None,
        input: None,
        about: None,
    };
    options(&mut packet, text, words.get(4..).unwrap_or(&[]), may_quote)?;
    let has_ports = matches!(number, protocol::TCP | protocol::UDP) && !packet.is_later();
    for (word, port) in [(from, source_port), (to, destination_port)] {
        match port {
            None if has_ports => {
                return word.wrong(format!("{} needs a port, as in `{}`", kind.text, with_port(word.text)));
            }
            Some(_) if packet.is_later() => {
                return word.wrong("a later fragment has no ports: write the address alone");
            }
            Some(_) if !has_ports => {
                return word.wrong(format!("{} has no ports: write the address alone", kind.text));
            }
            _ => {}
        }
    }
    if let (true, Some(source), Some(destination)) = (has_ports, source_port, destination_port) {
        packet.ports = (source, destination);
    }
    Ok(packet)
}

fn with_port(address: &str) -> String {
    if address.contains(':') { format!("[{address}]:443") } else { format!("{address}:443") }
}

/// The protocol's number; none for ICMP, which depends on the addresses.
fn protocol_of(word: Word<'_>) -> Result<Option<u8>, Wrong<'_>> {
    Ok(match word.text {
        "tcp" => Some(protocol::TCP),
        "udp" => Some(protocol::UDP),
        "icmp" | "icmpv6" => None,
        other => match other.parse() {
            Ok(number) if digits(other) => Some(number),
            _ => return word.wrong("tcp, udp, icmp or the number of a protocol, 0 to 255, is expected"),
        },
    })
}

/// An address, with or without a port.
fn place(word: Word<'_>) -> Result<(IpAddr, Option<u16>), Wrong<'_>> {
    if let Ok(end) = word.text.parse::<SocketAddr>() {
        return Ok((end.ip(), Some(end.port())));
    }
    match word.text.parse::<IpAddr>() {
        Ok(address) => Ok((address, None)),
        Err(_) => word.wrong(
            "an address is expected, or one with a port from 0 to 65535: 10.1.0.5, 10.1.0.5:443, 2001:db8::1 or [2001:db8::1]:443",
        ),
    }
}

fn options<'t>(
    packet: &mut PacketText,
    text: &'t str,
    words: &[Word<'t>],
    may_quote: bool,
) -> Result<(), Wrong<'t>> {
    let mut seen: Vec<&str> = Vec::new();
    for (n, word) in words.iter().copied().enumerate() {
        if word.text == "about" {
            if !may_quote || !is_icmp(packet) {
                return word.wrong("only an ICMP error is about another packet, and that one about none");
            }
            let is_error = match packet.icmp {
                Some((kind, _)) if packet.source.is_ipv4() => matches!(kind, 3 | 5 | 11 | 12),
                Some((kind, _)) => matches!(kind, 1..=4),
                None => false,
            };
            if !is_error || packet.fragment.is_some() {
                return word.wrong(
                    "ahead of it the type of a whole error is expected: type=3, 5, 11 or 12, with IPv6 type=1, 2, 3 or 4",
                );
            }
            let quoted = words.get(n + 1..).unwrap_or(&[]);
            let about = read(text, quoted, false)?;
            if about.source.is_ipv4() != packet.source.is_ipv4() {
                return word.wrong("an ICMP error is about a packet of its own family");
            }
            if about.size.is_some_and(|size| size > 1200) {
                return word
                    .wrong("of a packet that an error is about, at most 1200 bytes of payload are said");
            }
            packet.about = Some(Box::new(about));
            return Ok(());
        }
        let (key, value) = word.text.split_once('=').unwrap_or((word.text, ""));
        if seen.contains(&key) {
            return word.wrong(format!("`{key}` is said twice"));
        }
        seen.push(key);
        option(packet, word, key, value)?;
    }
    Ok(())
}

fn option<'t>(
    packet: &mut PacketText,
    word: Word<'t>,
    key: &'t str,
    value: &'t str,
) -> Result<(), Wrong<'t>> {
    // The place of the value, for what is wrong with it.
    let of = |text: &'t str| Word { at: word.at + (text.as_ptr().addr() - word.text.as_ptr().addr()), text };
    let here = if value.is_empty() { word } else { of(value) };
    let number = |most: u32| match value.parse::<u32>() {
        Ok(number) if number <= most && digits(value) => Ok(number),
        _ => here.wrong(format!("{key} is a number from 0 to {most}")),
    };
    let only = |fits: bool, whose: &str| if fits { Ok(()) } else { word.wrong(format!("{key} is {whose}")) };
    let is_tcp = packet.protocol == protocol::TCP;
    match key {
        "in" if value.is_empty() => return word.wrong("in is the name of a port, as in `in=lan`"),
        "in" => packet.input = Some(value.to_owned()),
        "flags" => {
            only(is_tcp, "for tcp")?;
            let mut flags = TcpFlags(0);
            for flag in value.split(',').filter(|flag| *flag != "none") {
                let Some((_, known)) = NAMES.iter().find(|(name, _)| *name == flag) else {
                    let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
                    let here = if flag.is_empty() { word } else { of(flag) };
                    return here
                        .wrong(format!("flags are {} or none, with commas between", names.join(", ")));
                };
                flags = flags.union(*known);
            }
            packet.flags = Some(flags);
        }
        "seq" | "ack" => {
            only(is_tcp, "for tcp")?;
            let number = Some(number(u32::MAX)?);
            if key == "seq" { packet.sequence = number } else { packet.acknowledgement = number }
        }
        "ttl" => packet.ttl = number(255)? as u8,
        "dscp" => packet.dscp = number(63)? as u8,
        "ecn" => packet.ecn = number(3)? as u8,
        "size" => packet.size = Some(number(LONGEST as u32)? as usize),
        "id" => packet.id = number(if packet.source.is_ipv4() { 0xffff } else { u32::MAX })?,
        "df" => {
            only(word.text == "df", "a word alone")?;
            only(packet.source.is_ipv4(), "for IPv4: nobody fragments IPv6 on its way")?;
            packet.dont_fragment = true;
        }
        "frag" => packet.fragment = Some(fragment(here, value)?),
        "type" => {
            only(is_icmp(packet), "for icmp")?;
            let (kind, code) = value.split_once('/').unwrap_or((value, "0"));
            let byte = |text: &str| text.parse::<u8>().ok().filter(|_| digits(text));
            match (byte(kind), byte(code)) {
                (Some(kind), Some(code)) => packet.icmp = Some((kind, code)),
                _ => {
                    return here
                        .wrong("type is a number from 0 to 255, or two for type and code: `type=3/1`");
                }
            }
        }
        "echo-id" => {
            only(is_icmp(packet), "for icmp")?;
            packet.ports.0 = number(0xffff)? as u16;
            packet.ports.1 = packet.ports.0;
        }
        "vlan" => packet.tags = tags(word, value, of)?,
        _ => return word.wrong(format!("{KEYS} is expected")),
    }
    Ok(())
}

fn is_icmp(packet: &PacketText) -> bool {
    packet.protocol == if packet.source.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 }
}

/// `1480+`: where a fragment lies, and whether more of its datagram follows.
fn fragment<'t>(here: Word<'t>, value: &str) -> Result<(u16, bool), Wrong<'t>> {
    let (offset, more) = value.strip_suffix('+').map_or((value, false), |offset| (offset, true));
    match offset.parse::<u16>() {
        Ok(offset) if digits(value.trim_end_matches('+')) && offset.is_multiple_of(8) => Ok((offset, more)),
        _ => here.wrong(
            "frag is where the fragment starts in its datagram, a multiple of 8 up to 65528, with a `+` when more follows: `frag=0+`",
        ),
    }
}

/// `7`, `100,7`, `802.1ad:100,7/5`: tags, outermost first, each a VLAN and perhaps its priority.
fn tags<'t>(
    word: Word<'t>,
    value: &'t str,
    of: impl Fn(&'t str) -> Word<'t>,
) -> Result<Vec<VlanTag>, Wrong<'t>> {
    let mut tags = Vec::new();
    for text in value.split(',') {
        let (provider, rest) = text.strip_prefix("802.1ad:").map_or((false, text), |rest| (true, rest));
        let (id, priority) = rest.split_once('/').unwrap_or((rest, "0"));
        let number = |text: &str, most: u16| text.parse().ok().filter(|n| *n <= most && digits(text));
        let (Some(id), Some(priority)) = (number(id, 4094), number(priority, 7)) else {
            let here = if text.is_empty() { word } else { of(text) };
            return here.wrong(
                "vlan is a VLAN from 0 to 4094, perhaps with a priority from 0 to 7, `7/5`, and `802.1ad:` ahead of a provider's; \
                 two with a comma between, the outer one first",
            );
        };
        let plain = if provider { VlanTag::provider(id) } else { VlanTag::new(id) };
        tags.push(VlanTag { tci: plain.tci | priority << 13, ..plain });
    }
    if tags.len() > TAGS { word.wrong(format!("at most {TAGS} tags")) } else { Ok(tags) }
}

/// Neither a sign nor nothing.
fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
