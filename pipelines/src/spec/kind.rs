//! What a value in the configuration may be: one description, from which come its check, what an error says was
//! expected, and its JSON schema.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::address::{Prefix, PrefixError, Service};
use super::datum::{Datum, Placed};
use super::decode::read;
use super::findings::Findings;
use super::keys::Key;
use super::nearest::nearest;
use super::quantity::{parse_duration, parse_size, show_duration};

/// The form of a value.
#[derive(Debug)]
pub(crate) enum Kind {
    /// True or false.
    Switch,
    /// A whole number.
    Whole { min: u64, max: u64 },
    /// A power of two.
    PowerOfTwo { min: u64, max: u64 },
    /// One of a few sizes in bytes, as a number or as text like `2KiB`.
    Size(&'static [u64]),
    /// One of a few words.
    Word(&'static [&'static str]),
    /// Text like `250ms`.
    Period { min: Duration, max: Duration },
    /// Other text.
    Text(Text),
    /// A list without repetitions.
    List { of: &'static Kind, min: usize, max: usize },
    /// Names of ports, each with a value.
    ByPort(&'static Kind),
    /// Names that the configuration makes up (identifiers of C), each with a value; at most so many.
    ByName(&'static Kind, usize),
    /// Numbers within these bounds, each with a value.
    ByNumber { min: u64, max: u64, of: &'static Kind },
    /// A table with exactly one of some keys.
    OneKey(&'static [(&'static str, &'static Kind)]),
    /// A table with some of these keys.
    Table(&'static [Key]),
    /// Whichever of these fits the value's type; no two may take the same type.
    Either(&'static [Kind]),
}

/// What a text means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Text {
    /// A user or a group.
    Account,
    /// A network device, as the kernel names them.
    Netdev,
    /// A port; whether it exists is seen later.
    Port,
    /// A stage, `kind` or `kind.name`; whether it exists is seen later.
    Stage,
    /// An IP prefix.
    Prefix,
    /// A protocol and its port.
    Service,
    /// A file.
    Path,
    /// A function or a variable of an object file.
    Symbol,
    /// A file and a function in it, `ddos.o:scrub`.
    PathAndSymbol,
    /// What this says; whoever builds from it reads it.
    Phrase(&'static str),
    /// Any other: what would be right, and what is wrong with a text.
    Checked { expected: &'static str, wrong: fn(&str) -> Option<String> },
    /// An IP address.
    Address,
    /// A file, from the root on.
    AbsolutePath,
    /// An IP prefix, or an address alone.
    Hosts,
    /// A protocol and its ports.
    Services,
    /// An address and a port.
    Socket,
    /// Ports, from one to another.
    Ports,
    /// A form of its own.
    Form(&'static Form),
}

/// A form that a text may have, and that whoever reads it takes apart.
#[derive(Debug)]
pub(crate) struct Form {
    /// What would be right, as an error says it.
    pub(crate) expected: &'static str,
    /// For the schema.
    pub(crate) pattern: &'static str,
    /// What is wrong with a text, going on after it; nothing when it is right.
    pub(crate) problem: fn(&str) -> Option<String>,
}

impl Kind {
    /// The value, if it is right; else the mistakes are in `out`. `path` names the key in messages.
    pub(crate) fn check(
        &self,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        out: &mut Findings<'_>,
    ) -> Option<Placed<Datum>> {
        let span = value.span();
        let at = At { span: &span, path, whole: self };
        let datum = self.check_at(value.get_ref(), at, out)?;
        Some(Placed::new(datum, span))
    }

    fn check_at(&self, value: &DeValue<'_>, at: At<'_>, out: &mut Findings<'_>) -> Option<Datum> {
        match (self, value) {
            (Kind::Either(forms), value) if self.takes(value) => {
                forms.iter().find(|form| form.takes(value))?.check_at(value, at, out)
            }
            (Kind::Switch, DeValue::Boolean(on)) => Some(Datum::Switch(*on)),
            (Kind::Whole { .. } | Kind::PowerOfTwo { .. } | Kind::Size(_), DeValue::Integer(number)) => {
                let exact = u64::from_str_radix(number.as_str(), number.radix()).ok();
                self.number(exact, &number.to_string(), at, out)
            }
            (Kind::Size(_), DeValue::String(text)) => match parse_size(text) {
                Ok(bytes) => self.number(Some(bytes), text, at, out),
                Err(error) => at.wrong(out, format!(": \"{text}\" is not a size: {error}"), None),
            },
            (Kind::Word(words), DeValue::String(text)) => match words.iter().find(|word| *word == text) {
                Some(word) => Some(Datum::Word(word)),
                None => {
                    let meant = nearest(text, words.iter().copied());
                    at.wrong(out, format!(" cannot be \"{text}\""), meant.map(|word| format!("\"{word}\"")))
                }
            },
            (Kind::Period { min, max }, DeValue::String(text)) => match parse_duration(text) {
                Ok(period) if period < *min => at.wrong(out, format!(": \"{text}\" is too short"), None),
                Ok(period) if period > *max => at.wrong(out, format!(": \"{text}\" is too long"), None),
                Ok(period) => Some(Datum::Period(period)),
                Err(error) => at.wrong(out, format!(": \"{text}\" is not a duration: {error}"), None),
            },
            (Kind::Text(meaning), DeValue::String(text)) => match meaning.read(text) {
                Ok(datum) => Some(datum),
                Err((problem, better)) => {
                    at.wrong(out, format!(": \"{text}\" {problem}"), better.map(|text| format!("\"{text}\"")))
                }
            },
            (Kind::List { of, min, max }, DeValue::Array(items)) => {
                list(items.iter(), of, (*min, *max), at, out)
            }
            (Kind::ByPort(of), DeValue::Table(table)) => {
                let entry = |(port, value): (&Spanned<DeString<'_>>, _)| {
                    let value = of.check(value, at.path, out)?;
                    Some((Placed::new(port.get_ref().to_string(), port.span()), value))
                };
                let mut values: Vec<_> = table.iter().filter_map(entry).collect();
                values.sort_by_key(|(port, _)| port.span.start);
                Some(Datum::ByPort(values))
            }
            (Kind::ByName(of, max), DeValue::Table(table)) => by_name(table, of, *max, at, out),
            (Kind::ByNumber { min, max, of }, DeValue::Table(table)) => {
                by_number(table, (*min, *max), of, at, out)
            }
            (Kind::OneKey(keys), DeValue::Table(table)) => one_key(table, keys, at, out),
            (Kind::Table(keys), DeValue::Table(table)) => {
                let (fields, sound) = read(keys, table, at.path, at.span, out);
                sound.then_some(Datum::Table(fields))
            }
            _ => at.wrong(out, format!(" cannot be {}", a_type(value)), None),
        }
    }

    /// Whether a value of this type can be right at all.
    fn takes(&self, value: &DeValue<'_>) -> bool {
        match self {
            Kind::Switch => value.is_bool(),
            Kind::Whole { .. } | Kind::PowerOfTwo { .. } => value.is_integer(),
            Kind::Size(_) => value.is_integer() || value.is_str(),
            Kind::Word(_) | Kind::Period { .. } | Kind::Text(_) => value.is_str(),
            Kind::List { .. } => value.is_array(),
            Kind::ByPort(_) | Kind::ByName(..) | Kind::ByNumber { .. } | Kind::OneKey(_) | Kind::Table(_) => {
                value.is_table()
            }
            Kind::Either(forms) => forms.iter().any(|form| form.takes(value)),
        }
    }

    fn number(
        &self,
        number: Option<u64>,
        written: &str,
        at: At<'_>,
        out: &mut Findings<'_>,
    ) -> Option<Datum> {
        let number = number.unwrap_or(u64::MAX);
        let (fits, better) = match self {
            Kind::Whole { min, max } => ((*min..=*max).contains(&number), None),
            Kind::PowerOfTwo { min, max } => {
                let within = (*min..=*max).contains(&number);
                (within && number.is_power_of_two(), within.then(|| number.next_power_of_two().to_string()))
            }
            Kind::Size(sizes) => (sizes.contains(&number), None),
            _ => (false, None),
        };
        if fits {
            Some(Datum::Number(number))
        } else {
            at.wrong(out, format!(" cannot be {written}"), better)
        }
    }

    /// What would be right, as an error says it.
    pub(crate) fn expected(&self) -> String {
        match self {
            Kind::Switch => "true or false".to_owned(),
            Kind::Whole { min, max } => format!("a number from {min} to {max}"),
            Kind::PowerOfTwo { min, max } => format!("a power of two from {min} to {max}"),
            Kind::Size(sizes) => {
                let sizes: Vec<String> = sizes.iter().map(u64::to_string).collect();
                format!("{} bytes", one_of(&sizes))
            }
            Kind::Word(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                one_of(&words)
            }
            Kind::Period { min, max } => {
                format!("a duration from {} to {}, like \"250ms\"", show_duration(*min), show_duration(*max))
            }
            Kind::Text(meaning) => meaning.expected().to_owned(),
            Kind::List { of, min, max } if min == max => format!("a list of {max}, each {}", of.expected()),
            Kind::List { of, min, max } => format!("a list of {min} to {max}, each {}", of.expected()),
            Kind::ByPort(of) => format!("a table that gives ports {}", of.expected()),
            Kind::ByName(of, max) => {
                format!("a table that gives at most {max} names a value, each {}", of.expected())
            }
            Kind::ByNumber { min, max, of } => {
                format!(
                    "a table whose keys are numbers from {min} to {max}, and each value {}",
                    of.expected()
                )
            }
            Kind::OneKey(keys) => {
                let keys: Vec<String> = keys.iter().map(|(name, _)| format!("{{ {name} = … }}")).collect();
                one_of(&keys)
            }
            Kind::Table(keys) => {
                let keys: Vec<String> = keys.iter().map(|key| format!("`{}`", key.name)).collect();
                format!("a table with keys out of {}", keys.join(", "))
            }
            Kind::Either(forms) => {
                let forms: Vec<String> = forms.iter().map(Kind::expected).collect();
                forms.join(", or ")
            }
        }
    }
}

impl Text {
    /// The text's meaning, or what is wrong with it and a better text.
    fn read(self, text: &str) -> Result<Datum, (String, Option<String>)> {
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

    fn expected(self) -> &'static str {
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

/// Where a value stands, and what would be right there.
#[derive(Clone, Copy)]
struct At<'k> {
    span: &'k Range<usize>,
    path: &'k str,
    whole: &'k Kind,
}

impl At<'_> {
    /// Reports the value; `problem` goes on after the key's name.
    fn wrong(self, out: &mut Findings<'_>, problem: String, better: Option<String>) -> Option<Datum> {
        let message = format!("`{}`{problem}", self.path);
        out.error(self.span, message).expected(self.whole.expected()).suggest(better);
        None
    }
}

fn list<'v>(
    items: impl ExactSizeIterator<Item = &'v Spanned<DeValue<'v>>>,
    of: &Kind,
    (min, max): (usize, usize),
    at: At<'_>,
    out: &mut Findings<'_>,
) -> Option<Datum> {
    let count = items.len();
    if !(min..=max).contains(&count) {
        let problem = match count {
            0 => " is empty".to_owned(),
            1 => " has 1 entry".to_owned(),
            _ => format!(" has {count} entries"),
        };
        at.wrong(out, problem, None);
    }
    let mut kept: Vec<Placed<Datum>> = Vec::new();
    let mut seen: HashMap<Datum, usize> = HashMap::new();
    // A list far beyond its limit would only repeat its mistakes.
    for item in items.take(max) {
        let before = out.errors();
        let Some(item) = of.check(item, at.path, out) else { continue };
        if out.errors() > before || matches!(of, Kind::Table(_)) {
            // Only a part of what was written: not to be compared. Or tables, of which two may well say the same.
            kept.push(item);
        } else if let Some(first) = seen.get(&item.value) {
            let line = out.line(*first);
            let text = out.text(&item.span);
            out.error(&item.span, format!("`{}` has {text} twice", at.path))
                .label(format!("also in line {line}"));
        } else {
            seen.insert(item.value.clone(), item.span.start);
            kept.push(item);
        }
    }
    // What is right goes on, so that mistakes in what it names are found too.
    Some(Datum::List(kept))
}

/// A path as the kernel takes it (PATH_MAX of include/uapi/linux/limits.h).
fn is_path(text: &str) -> bool {
    !text.is_empty() && text.len() < 4096 && !text.contains(char::is_control)
}

/// A name as C has it; longer ones than any compiler makes are none.
fn is_symbol(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.len() <= 128
}

fn by_name(table: &DeTable<'_>, of: &Kind, max: usize, at: At<'_>, out: &mut Findings<'_>) -> Option<Datum> {
    if table.len() > max {
        return at.wrong(out, format!(" has {} entries", table.len()), None);
    }
    let mut values = Vec::new();
    for (name, value) in table {
        let text: &str = name.get_ref();
        if !is_symbol(text) {
            out.error(&name.span(), format!("`{}`: \"{text}\" cannot name a variable", at.path))
                .expected("letters, digits and `_`, and no digit first");
            continue;
        }
        let value = of.check(value, &format!("{}.{text}", at.path), out);
        values.extend(value.map(|value| (Placed::new(text.to_owned(), name.span()), value)));
    }
    values.sort_by(|(a, _), (b, _)| a.value.cmp(&b.value));
    Some(Datum::ByName(values))
}

fn by_number(
    table: &DeTable<'_>,
    (min, max): (u64, u64),
    of: &Kind,
    at: At<'_>,
    out: &mut Findings<'_>,
) -> Option<Datum> {
    let mut keys: Vec<(&Spanned<DeString<'_>>, _)> = table.iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    let mut values: Vec<(Placed<u64>, Placed<Datum>)> = Vec::new();
    for (key, value) in keys {
        let (text, span): (&str, _) = (key.get_ref(), key.span());
        let digits = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
        let number = u64::from_str_radix(digits.0, digits.1).ok();
        match number.filter(|number| !text.starts_with('+') && (min..=max).contains(number)) {
            None => {
                let problem = format!("`{}` has the key \"{text}\"", at.path);
                out.error(&span, problem).expected(at.whole.expected());
            }
            Some(number) => {
                if let Some((first, _)) = values.iter().find(|(other, _)| other.value == number) {
                    let line = out.line(first.span.start);
                    out.error(&span, format!("`{}` has {number} twice", at.path))
                        .label(format!("also in line {line}"));
                    continue;
                }
                let value = of.check(value, &format!("{}.{text}", at.path), out);
                values.extend(value.map(|value| (Placed::new(number, span), value)));
            }
        }
    }
    Some(Datum::ByNumber(values))
}

fn one_key(
    table: &DeTable<'_>,
    keys: &'static [(&'static str, &'static Kind)],
    at: At<'_>,
    out: &mut Findings<'_>,
) -> Option<Datum> {
    let mut chosen = None;
    let mut unknown = false;
    for (key, value) in table {
        let name: &str = key.get_ref();
        if let Some((known, kind)) = keys.iter().find(|(known, _)| *known == name) {
            let value = kind.check(value, &format!("{}.{name}", at.path), out);
            chosen = value.map(|value| Datum::OneKey(known, Box::new(value)));
        } else {
            unknown = true;
            out.error(&key.span(), format!("unknown key `{name}` in `{}`", at.path))
                .expected(at.whole.expected())
                .suggest(nearest(name, keys.iter().map(|(known, _)| *known)).map(str::to_owned));
        }
    }
    match table.len() {
        1 => chosen,
        _ if unknown => None,
        0 => at.wrong(out, " is empty".to_owned(), None),
        _ => at.wrong(out, " takes one of these keys, not several".to_owned(), None),
    }
}

/// What a value is, in an error.
pub(crate) fn a_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// `a`, `a or b`, `one of a, b, c`.
pub(crate) fn one_of(names: &[String]) -> String {
    match names {
        [a, b] => format!("{a} or {b}"),
        [one] => one.clone(),
        _ => format!("one of {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::keys::{ABSENT, Reach};

    const KEYS: &[Key] = &[
        Key {
            name: "from",
            kind: Kind::Text(Text::Prefix),
            default: ABSENT,
            reach: Reach::Live,
            about: "Source.",
        },
        Key { name: "accept", kind: Kind::Switch, default: None, reach: Reach::Live, about: "Action." },
        Key {
            name: "times",
            kind: Kind::Whole { min: 1, max: 9 },
            default: Some("3"),
            reach: Reach::Live,
            about: "N.",
        },
    ];
    static RULES: Kind = Kind::List { of: &Kind::Table(KEYS), min: 1, max: 3 };

    fn check(text: &str) -> (Option<Datum>, usize) {
        let mut out = Findings::new(text, "");
        let value = DeValue::parse(text).unwrap();
        (RULES.check(&value, "filter.edge.rules", &mut out).map(|placed| placed.value), out.errors())
    }

    #[test]
    fn a_list_of_tables_has_each_with_its_keys_and_defaults() {
        let (rules, errors) =
            check("[{ accept = true, from = \"10.0.0.0/8\" }, { accept = true }, { accept = true }]");
        let rules = rules.unwrap();
        assert_eq!((rules.items().len(), errors), (3, 0));
        let fields = rules.items()[0].value.fields().unwrap();
        assert!(fields.switch("accept") && fields.at("from").is_some() && fields.number("times") == 3);
        assert!(rules.items()[1].value.fields().unwrap().at("from").is_none());
    }

    #[test]
    fn every_mistake_in_a_table_is_told() {
        assert_eq!(
            check("[{ from = \"10.0.0.1/8\", times = 0, acept = true }]").1,
            4,
            "two values, a key, and one that is missing"
        );
        assert_eq!(check("[]").1, 1);
        assert_eq!(check("[true]").1, 1);
    }
}
