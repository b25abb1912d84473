//! The configuration: a TOML file in, a checked [`Spec`] or all its mistakes out.
//!
//! It owns the file's format. It reads no file by itself, opens no device and asks no kernel: whether a device exists is for others
//! to find out. It refuses what it does not know, down to the last key, and reports everything that is wrong at once,
//! each with its place, what was expected and what was probably meant. No input makes it panic.
//!
//! ```
//! let source = r#"
//! [port.wan]
//! netdev = "eth1"
//! [port.lan]
//! netdev = "eth2"
//! [pipeline.forward]
//! input  = ["wan", "lna"]
//! stages = ["route"]
//! "#;
//! let errors = zsync_pipelines::spec::parse(source, "router.toml").unwrap_err();
//! assert!(errors[0].render(source).contains(r#"did you mean "lan"?"#));
//!
//! let parsed = zsync_pipelines::spec::parse(&source.replace("lna", "lan"), "router.toml").unwrap();
//! assert_eq!(parsed.spec.pipelines[0].inputs.len(), 2);
//! ```
//!
//! The way through: `decode` walks TOML's tree by the tables in `keys` and `stage` and checks each value by its `kind`;
//! `build` resolves names and checks what tables say together; both report to `findings`.

#![forbid(unsafe_code)]

mod address;
pub mod balance;
mod build;
mod canonical;
mod datum;
mod decode;
mod diagnostic;
mod diff;
mod filter;
mod findings;
mod fingerprint;
mod keys;
mod kind;
mod loops;
pub mod mirror;
mod model;
mod names;
mod nat;
mod nearest;
mod packet;
mod police;
mod quantity;
pub mod reassemble;
mod schema;
mod shape;
pub(crate) mod stage;
mod track;
mod tun;
pub mod tunnel;
mod udp;
mod unmet;
pub mod vlan;
pub mod wireguard;

use toml::de::DeTable;

pub use address::{Prefix, PrefixError, Protocol, Service, ServiceError};
pub use diagnostic::{Diagnostic, Severity, Style, report};
pub use diff::{Change, Effect, Mark, diff};
pub use filter::{
    FilterAction, FilterAddresses, FilterFile, FilterRule, FilterSet, FilterSpec, FilterVlan, Prefixes,
};
pub use fingerprint::fingerprint;
pub use model::{
    Amount, Control, Device, Engine, Failover, HugePages, Idle, Layer, Mode, NotASpec, Pipeline, Port,
    PortId, Spec, Stage, StageSpec, Steer, Workers, XdpProgram,
};
pub use nat::{Filtering, Forward, Masquerade, NatSpec, PairOfPrefixes, SourceNat};
pub use nearest::nearest;
pub use police::{MeterSpec, PoliceSpec, TargetSpec};
pub use quantity::{QuantityError, parse_duration, parse_rate, parse_size, show_duration, show_rate};
pub use schema::json_schema;
pub use shape::ShapeSpec;
pub use stage::bare;
pub use track::TrackSpec;
pub use tun::{TunAddress, TunSpec};
pub use udp::UdpSpec;
pub use unmet::unmet;

use findings::Findings;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// A configuration without errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What it says.
    pub spec: Spec,
    /// What is probably not meant so, by place.
    pub warnings: Vec<Diagnostic>,
    /// Where the rules of filters stand, bytes of the source, by the filter's label.
    pub rules: BTreeMap<String, Vec<Range<usize>>>,
    /// Where the keys of the ends of WireGuard stand, by name.
    pub keys: BTreeMap<String, wireguard::KeyPlaces>,
    /// The ends of WireGuard that have as much memory for peers as these take: see [`wireguard::keep_room`].
    pub roomy: BTreeSet<String>,
}

/// The largest source that is read, in bytes: 100,000 rules of 300 bytes and a few files' worth of the rest. While it is read
/// it takes some 25 times as much memory. Prefixes by the million have a file of their own.
pub const MAX_SOURCE: usize = 32 << 20;

/// A file that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFile {
    /// What diagnostics call it.
    pub name: String,
    /// What is in it.
    pub text: Arc<str>,
}

/// Reads a file that a configuration names, by the path that it has, or says why not.
pub type Reader<'r> = dyn FnMut(&str) -> Result<TextFile, String> + 'r;

/// Reads a configuration that names no files. `file` is what diagnostics call it.
///
/// # Errors
/// Everything that is wrong, by place. Where the file is no TOML at all, names are not looked at, since the rest of the
/// file may be other than it seems.
pub fn parse(source: &str, file: &str) -> Result<Parsed, Vec<Diagnostic>> {
    parse_with(source, file, &mut |_| Err("no files are read here".to_owned()))
}

/// As [`parse`]; the files that it names come by `read`.
///
/// # Errors
/// As [`parse`]; what is wrong in other files comes last.
pub fn parse_with(source: &str, file: &str, read: &mut Reader<'_>) -> Result<Parsed, Vec<Diagnostic>> {
    let mut out = Findings::new(source, file);
    if source.len() > MAX_SOURCE {
        out.error(&(0..0), format!("the file has {} bytes", source.len()))
            .expected(format!("at most {MAX_SOURCE}"));
        return Err(out.finish().err().unwrap_or_default());
    }
    let (tree, errors) = DeTable::parse_recoverable(source);
    let names_hold = out.syntax(&errors);
    let document = decode::decode(tree.get_ref(), &mut out);
    let mut unheard = Findings::new("", "");
    let spec = build::build(&document, read, if names_hold { &mut out } else { &mut unheard });
    let rules = document.entries("filter").map(|entry| {
        let places = entry.fields.items("rules").iter().map(|rule| rule.span.clone());
        (format!("filter.{}", entry.name.value), places.collect())
    });
    let rules = rules.collect();
    let ends = document.entries("wireguard");
    let keys = ends.map(|end| (end.name.value.clone(), wireguard::KeyPlaces::of(&end.fields))).collect();
    let roomy = document.entries("wireguard").filter(|end| end.fields.amount("max-peers") == Amount::Auto);
    let roomy = roomy.map(|end| end.name.value.clone()).collect();
    Ok(Parsed { spec, warnings: out.finish()?, rules, keys, roomy })
}
