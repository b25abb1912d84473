//! What texts mean, by what they are texts of.

use super::Text;
use crate::spec::address::{Prefix, PrefixError, Service};
use crate::spec::datum::Datum;
use std::net::{IpAddr, SocketAddr};

impl Text {
    /// The text's meaning, or what is wrong with it and a better text.
    pub(super) fn read(self, text: &str) -> Result<Datum, (String, Option<String>)> {
        match self {
            Text::Account => {
                let mut bytes = text.bytes();
                let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
                let rest =
                    bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
                if first && rest && text.len() <= 32 {
                    return Ok(Datum::Text(text.to_owned()));
                }
                Err(("is not an account name".to_owned(), None))
            }
            // As dev_valid_name() in net/core/dev.c has it.
            Text::Netdev => {
                let odd = |c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace();
                let problem = match text {
                    "" => "names no device",
                    "." | ".." => "cannot name a device",
                    _ if text.len() > 15 => "is too long for a device: the kernel's limit is 15 bytes",
                    _ if text.contains(odd) => "has a character that no device name has",
                    _ => return Ok(Datum::Text(text.to_owned())),
                };
                Err((problem.to_owned(), None))
            }
            Text::Port | Text::Stage | Text::Phrase(_) => Ok(Datum::Text(text.to_owned())),
            Text::Prefix => match text.parse::<Prefix>() {
                Ok(prefix) => Ok(Datum::Prefix(prefix)),
                Err(PrefixError::NoLength(addr)) => {
                    let len = if addr.is_ipv4() { 32 } else { 128 };
                    Err(("has no length".to_owned(), Some(format!("{addr}/{len}"))))
                }
                Err(PrefixError::HostBits(masked)) => {
                    let problem = format!("has bits set past its {} leading bits", masked.len());
                    Err((problem, Some(masked.to_string())))
                }
                Err(error) => Err((format!("is not a prefix: {error}"), None)),
            },
            Text::Service => match text.parse::<Service>() {
                Ok(service) => Ok(Datum::Service(service)),
                Err(error) => Err((format!("is not a service: {error}"), None)),
            },
            Text::Form(form) => match (form.problem)(text) {
                None => Ok(Datum::Text(text.to_owned())),
                Some(problem) => Err((problem, None)),
            },
            Text::Path => match text {
                "" => Err(("names no file".to_owned(), None)),
                _ if is_path(text) => Ok(Datum::Text(text.to_owned())),
                _ => Err(("cannot be the path of a file".to_owned(), None)),
            },
            Text::Symbol if is_symbol(text) => Ok(Datum::Text(text.to_owned())),
            Text::Symbol => Err(("cannot name a function".to_owned(), None)),
            Text::PathAndSymbol => match text.rsplit_once(':') {
                Some((path, symbol)) if is_path(path) && is_symbol(symbol) => {
                    Ok(Datum::Text(text.to_owned()))
                }
                Some(_) => Err(("does not name a file and a program in it".to_owned(), None)),
                None => Err(("names no program in the file".to_owned(), None)),
            },
            Text::Checked { wrong, .. } => match wrong(text) {
                None => Ok(Datum::Text(text.to_owned())),
                Some(problem) => Err((problem, None)),
            },
            Text::Address => match text.parse::<IpAddr>() {
                Ok(address) => Ok(Datum::Text(address.to_string())),
                Err(_) => {
                    let bare = text.split('/').next().filter(|bare| bare.parse::<IpAddr>().is_ok());
                    Err(("is not an IP address".to_owned(), bare.map(str::to_owned)))
                }
            },
            Text::AbsolutePath if text.starts_with('/') && !text.ends_with('/') && !text.contains('\0') => {
                Ok(Datum::Text(text.to_owned()))
            }
            Text::AbsolutePath => Err(("is not the path of a file from the root on".to_owned(), None)),
            Text::Hosts => match Prefix::of_hosts(text) {
                Ok(prefix) => Ok(Datum::Prefix(prefix)),
                Err(_) => Text::Prefix.read(text),
            },
            Text::Services => match services(text) {
                Some((first, last)) => Ok(Datum::Text(show_services(first, last))),
                None => Err(("is not a protocol and its ports".to_owned(), None)),
            },
            Text::Socket => match text.parse::<SocketAddr>() {
                Ok(socket) if socket.port() != 0 => Ok(Datum::Text(socket.to_string())),
                _ => Err(("is not an address and a port".to_owned(), None)),
            },
            Text::Ports => match port_range(text) {
                Some((first, last)) => Ok(Datum::Text(format!("{first}-{last}"))),
                None => Err(("is not a range of ports".to_owned(), None)),
            },
        }
    }

    pub(super) fn expected(self) -> &'static str {
        match self {
            Text::Account => "the name of an account: small letters, digits, `-` and `_`, at most 32",
            Text::Netdev => "the name of a network device, like \"eth1\"",
            Text::Port => "the name of a port",
            Text::Stage => "the name of a stage, like \"route.main\" or \"drop\"",
            Text::Prefix => "an IP prefix like \"192.0.2.0/24\" or \"2001:db8::/32\"",
            Text::Service => "a service like \"udp/53\" or \"tcp/443\"",
            Text::Phrase(what) => what,
            Text::Form(form) => form.expected,
            Text::Path => "the path of a file, from the configuration's folder or from the root",
            Text::Symbol => "the name of a function in the file",
            Text::PathAndSymbol => "a file and a program in it, like \"ddos.o:scrub\"",
            Text::Checked { expected, .. } => expected,
            Text::Address => "an IP address like \"192.0.2.1\" or \"2001:db8::1\"",
            Text::AbsolutePath => "the path of a file, like \"/var/lib/zsync/edge.pcap\"",
            Text::Hosts => "an IP address or a prefix, like \"192.0.2.1\" or \"2001:db8::/32\"",
            Text::Services => "services like \"tcp/443\" or \"udp/8000-8099\"",
            Text::Socket => "an address and a port, like \"192.0.2.1:443\" or \"[2001:db8::1]:443\"",
            Text::Ports => "ports from 1 to 65535, like \"1024-65535\"",
        }
    }
}

/// A protocol and its first port, and the last one: of `tcp/443`, or `udp/8000-8099`.
pub(crate) fn services(text: &str) -> Option<(Service, u16)> {
    let (first, last) = text.split_once('-').map_or((text, None), |(first, last)| (first, Some(last)));
    let first: Service = first.parse().ok()?;
    let last = match last {
        None => first.port(),
        Some(last) => port(last)?,
    };
    (last >= first.port()).then_some((first, last))
}

/// What [`services`] reads.
pub(crate) fn show_services(first: Service, last: u16) -> String {
    if last == first.port() { first.to_string() } else { format!("{first}-{last}") }
}

/// The ports of `1024-65535`.
pub(crate) fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// A path as the kernel takes it (PATH_MAX of include/uapi/linux/limits.h).
fn is_path(text: &str) -> bool {
    !text.is_empty() && text.len() < 4096 && !text.contains(char::is_control)
}

/// A name as C has it; longer ones than any compiler makes are none.
pub(super) fn is_symbol(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.len() <= 128
}
