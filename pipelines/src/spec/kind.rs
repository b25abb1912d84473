//! What a value in the configuration may be: one description, from which come its check, what an error says was
//! expected, and its JSON schema.

mod several;
mod text;

pub(crate) use text::{port_range, services, show_services};

use std::ops::Range;
use std::time::Duration;

use several::{by_name, by_number, list, one_key};
use toml::Spanned;
use toml::de::{DeString, DeValue};

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
mod tests;
