//! What can be asked: the methods, their parameters, and what a line must look like.
//!
//! Refuses what it does not know, down to the last key, and says which name was probably meant. Nothing that a peer sends
//! makes it panic.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::{ApiError, Code, quoted};
use super::reply::json_line;
use crate::explain::{PacketText, Subject};

/// A request. In JSON a method and its parameters: `{"method":"show","params":{"what":"ports"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "kebab-case")]
pub enum Request {
    /// How the whole is.
    Status,
    /// Tables of values.
    Show(Show),
    /// What applying a configuration would change.
    Plan(Source),
    /// Puts a configuration in force, wholly or not at all.
    Apply(Source),
    /// Keeps a configuration that was applied with `confirm-ms`.
    Confirm,
    /// Puts an earlier configuration in force.
    Rollback(Rollback),
    /// What packets would meet, without sending any.
    Explain(Explain),
    /// Starts the data plane anew over the same sockets, as after an upgrade of its binary.
    RestartDataplane,
    /// Lets a backend take no new flows, or take them again.
    Drain(Drain),
}

/// Parameters of `show`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Show {
    /// Which table.
    pub what: What,
    /// With `fib`: routes within this prefix or, for an address, those that cover it; see
    /// [`RouteFilter`](super::RouteFilter).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// With `fib`, `filters`, `flows`, `mappings` and `wireguard`: the most rows to answer with, 0 to [`Show::most`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// With `filters`, `flows`, `mappings` and `wireguard`: this stage alone, or this end as `wireguard.NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// With `flows` and `mappings`: those that have an end at this address, or within this prefix.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl Show {
    /// Rows in an answer, unless told otherwise.
    pub const ROWS: u32 = 1000;
    /// The most routes in an answer.
    pub const MAX_ROUTES: u32 = 100_000;
    /// The most rows of anything else in an answer: what takes some ten milliseconds to write down.
    pub const MAX_ROWS: u32 = 10_000;

    /// The most rows that may be asked for.
    #[must_use]
    pub fn most(&self) -> u32 {
        if self.what == What::Fib { Self::MAX_ROUTES } else { Self::MAX_ROWS }
    }

    /// The most rows to answer with.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.limit.unwrap_or(Self::ROWS).min(self.most()) as usize
    }

    /// Whether what is asked for goes together, and can be read.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), String> {
        let Self { what, prefix, limit, stage, address } = self;
        let goes = |given: bool, key: &str, tables: &[What]| {
            if !given || tables.contains(what) {
                return Ok(());
            }
            let tables: Vec<String> = tables.iter().map(|what| format!("`{}`", what.name())).collect();
            Err(format!("`{key}` goes with {} alone", tables.join(", ")))
        };
        goes(prefix.is_some(), "prefix", &[What::Fib])?;
        let of_stages = [What::Filters, What::Flows, What::Mappings, What::Wireguard];
        let long = [What::Fib, What::Filters, What::Flows, What::Mappings, What::Wireguard];
        goes(limit.is_some(), "limit", &long)?;
        goes(stage.is_some(), "stage", &of_stages)?;
        goes(address.is_some(), "match", &[What::Flows, What::Mappings])?;
        if limit.is_some_and(|limit| limit > self.most()) {
            return Err(format!("`limit` is at most {}", self.most()));
        }
        for (key, text) in [("prefix", prefix), ("match", address)] {
            if let Some(text) = text {
                super::RouteFilter::parse(text).map_err(|what| format!("`{key}`: {what}"))?;
            }
        }
        Ok(())
    }
}

/// Which table `show` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Ports: modes, packets, drops by cause
    #[default]
    Ports,
    /// Workers: cores, state, load
    Workers,
    /// Counters: totals, drops by reason, stages
    Counters,
    /// Rules of filters: what those with `count` have counted
    Filters,
    /// Connections: both directions, translations, states, and how full their tables are
    Flows,
    /// Translations: who is seen as whom, and the use of public addresses
    Mappings,
    /// Ends of WireGuard: peers, where they are, last handshakes, transfer
    Wireguard,
    /// Backends of balancers: state, flows, last check
    Backends,
    /// Forwarding tables: how full, and routes
    Fib,
    /// XDP programs of the operator's own: packets by verdict
    Xdp,
    /// Frames by owner, and what became of the packets
    Ledger,
    /// Tasks: what waits beside the workers' packets, and for how long
    Tasks,
    /// Configurations that were accepted
    History,
}

impl What {
    const NAMES: &[&str] = &[
        "ports",
        "workers",
        "counters",
        "filters",
        "flows",
        "mappings",
        "wireguard",
        "backends",
        "fib",
        "xdp",
        "ledger",
        "tasks",
        "history",
    ];

    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.get(self as usize).copied().unwrap_or_default()
    }
}

/// Parameters of `plan` and `apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Source {
    /// The text of the configuration.
    pub config: String,
    /// What diagnostics and the history call it.
    pub file: String,
    /// With `apply`: milliseconds after which it is taken back unless it is confirmed, [`Source::CONFIRM_MS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_ms: Option<u64>,
}

impl Source {
    /// How long a configuration may wait to be confirmed, milliseconds: a second to a day.
    pub const CONFIRM_MS: std::ops::RangeInclusive<u64> = 1000..=86_400_000;
}

/// Parameters of `rollback`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rollback {
    /// Number of the configuration; without it, the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// Parameters of `drain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Drain {
    /// The backend: its address, and its port where it has one.
    pub backend: String,
    /// The stage; without it, all that have the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// It takes flows again.
    #[serde(default)]
    pub undo: bool,
}

/// Parameters of `explain`: a packet in words, or frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Explain {
    /// A packet: see [`PacketText`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet: Option<String>,
    /// Frames, from their Ethernet header on, as digits of base 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<Vec<String>>,
    /// The port that they come in at; without it, the one that the packet's source is routed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
}

impl Explain {
    /// What it asks about.
    ///
    /// # Errors
    /// There is nothing, or it cannot be read.
    pub fn subjects(&self) -> Result<Vec<Subject>, String> {
        let mut subjects = Vec::new();
        if let Some(text) = &self.packet {
            subjects.push(Subject::Text(PacketText::parse(text)?));
        }
        for frame in self.frames.iter().flatten() {
            let digits = frame.as_bytes().as_chunks::<2>();
            let byte = |pair: &[u8; 2]| {
                let text = std::str::from_utf8(pair).ok()?;
                // A sign is no digit.
                u8::from_str_radix(text, 16).ok().filter(|_| text.bytes().all(|digit| digit != b'+'))
            };
            let bytes = digits.0.iter().map(byte).collect::<Option<Vec<u8>>>();
            let bytes = bytes.filter(|_| digits.1.is_empty());
            subjects.push(Subject::Frame(
                bytes.ok_or("`frames`: a frame is no even number of digits of base 16")?,
            ));
        }
        if subjects.is_empty() { Err("neither `packet` nor `frames`".to_owned()) } else { Ok(subjects) }
    }
}

/// The methods and their parameters.
const METHODS: &[(&str, &[&str])] = &[
    ("status", &[]),
    ("show", &["what", "prefix", "limit", "stage", "match"]),
    ("plan", &["config", "file"]),
    ("apply", &["config", "file", "confirm-ms"]),
    ("confirm", &[]),
    ("rollback", &["to"]),
    ("explain", &["packet", "frames", "input"]),
    ("restart-dataplane", &[]),
    ("drain", &["backend", "stage", "undo"]),
];

impl Request {
    /// The method's name.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Show(_) => "show",
            Self::Plan(_) => "plan",
            Self::Apply(_) => "apply",
            Self::Confirm => "confirm",
            Self::Rollback(_) => "rollback",
            Self::Explain(_) => "explain",
            Self::RestartDataplane => "restart-dataplane",
            Self::Drain(_) => "drain",
        }
    }

    /// Whether it leaves everything as it is.
    #[must_use]
    pub fn only_looks(&self) -> bool {
        matches!(self, Self::Status | Self::Show(_) | Self::Plan(_) | Self::Explain(_))
    }

    /// The line that asks for this, with its line break.
    #[must_use]
    pub fn line(&self, id: u64) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line<'r> {
            id: u64,
            #[serde(flatten)]
            request: &'r Request,
        }
        json_line(&Line { id, request: self })
    }

    /// Reads a line, with or without its line break.
    ///
    /// # Errors
    /// What is wrong with it, and the request's id where that could be read.
    pub fn read(line: &[u8]) -> Result<(u64, Self), (Option<u64>, ApiError)> {
        let malformed = |message: String| ApiError::new(Code::Malformed, message).remedy(EXAMPLE);
        let value: Value = serde_json::from_slice(line)
            .map_err(|e| (None, malformed(format!("the line is no JSON: {e}"))))?;
        let Value::Object(mut object) = value else {
            return Err((None, malformed("the line is no JSON object".to_owned())));
        };
        let id = match object.remove("id") {
            Some(Value::Number(id)) => id.as_u64(),
            _ => None,
        };
        let Some(id) = id else {
            return Err((None, malformed("`id` is missing, or no whole number of 64 bits".to_owned())));
        };
        Self::read_object(object).map(|request| (id, request)).map_err(|error| (Some(id), error))
    }

    fn read_object(mut object: Map<String, Value>) -> Result<Self, ApiError> {
        let Some(Value::String(method)) = object.remove("method") else {
            let message = "`method` is missing, or no text";
            return Err(ApiError::new(Code::Malformed, message).remedy(EXAMPLE));
        };
        let params = match object.remove("params") {
            Some(Value::Object(params)) => params,
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err(ApiError::new(Code::BadParams, "`params` is no JSON object")),
        };
        if let Some(key) = object.keys().next() {
            let message = format!("a request has no `{}`", quoted(key));
            return Err(ApiError::unknown(Code::Malformed, message, key, &["id", "method", "params"]));
        }
        let Some((_, known)) = METHODS.iter().find(|(name, _)| *name == method) else {
            let names: Vec<&str> = METHODS.iter().map(|(name, _)| *name).collect();
            let message = format!("there is no method `{}`", quoted(&method));
            return Err(ApiError::unknown(Code::UnknownMethod, message, &method, &names));
        };
        if let Some(key) = params.keys().find(|key| !known.contains(&key.as_str())) {
            let message = format!("`{method}` has no parameter `{}`", quoted(key));
            return Err(ApiError::unknown(Code::BadParams, message, key, known));
        }
        if let (Some(Value::String(what)), "show") = (params.get("what"), method.as_str())
            && !What::NAMES.contains(&what.as_str())
        {
            let message = format!("`show` knows no `{}`", quoted(what));
            return Err(ApiError::unknown(Code::BadParams, message, what, What::NAMES));
        }
        let mut tagged = Map::new();
        if !known.is_empty() {
            tagged.insert("params".to_owned(), Value::Object(params));
        }
        let bad = |what: String| ApiError::new(Code::BadParams, format!("`{method}`: {what}"));
        tagged.insert("method".to_owned(), Value::String(method.clone()));
        let request: Self = serde_json::from_value(Value::Object(tagged)).map_err(|e| bad(e.to_string()))?;
        request.check().map_err(bad)?;
        Ok(request)
    }

    /// Ranges.
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Show(show) => show.check(),
            Self::Explain(explain) => explain.subjects().map(|_| ()),
            Self::Apply(Source { confirm_ms: Some(ms), .. }) if !Source::CONFIRM_MS.contains(ms) => {
                let (least, most) = Source::CONFIRM_MS.into_inner();
                Err(format!("`confirm-ms` is {least} to {most}, not {ms}"))
            }
            _ => Ok(()),
        }
    }
}

const EXAMPLE: &str = r#"write one line like {"id": 1, "method": "show", "params": {"what": "ports"}}"#;

#[cfg(test)]
mod tests;
