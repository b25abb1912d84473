//! The configuration: a TOML file in, a checked [`Spec`] or all its mistakes out.
//!
//! It owns the file's format. It reads no file, opens no device and asks no kernel: whether a device exists is for others
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
mod police;
mod quantity;
pub mod reassemble;
mod schema;
mod shape;
pub(crate) mod stage;
mod track;
pub mod tunnel;
pub mod vlan;

use toml::de::DeTable;

pub use address::{Prefix, PrefixError, Protocol, Service, ServiceError};
pub use diagnostic::{Diagnostic, Severity, Style, report};
pub use diff::{Change, Effect, Mark, diff};
pub use filter::{FilterAction, FilterAddresses, FilterRule, FilterSet, FilterSpec, FilterVlan};
pub use fingerprint::fingerprint;
pub use model::{
    Amount, Control, Engine, Failover, HugePages, Idle, Layer, Mode, Pipeline, Port, PortId, Spec, Stage,
    StageSpec, Steer, Workers, XdpProgram,
};
pub use nat::{Filtering, Forward, Masquerade, NatSpec, PairOfPrefixes, SourceNat};
pub use nearest::nearest;
pub use police::{MeterSpec, PoliceSpec, TargetSpec};
pub use quantity::{QuantityError, parse_duration, parse_rate, parse_size, show_duration, show_rate};
pub use schema::json_schema;
pub use shape::ShapeSpec;
pub use stage::bare;
pub use track::TrackSpec;

use findings::Findings;

/// A configuration without errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What it says.
    pub spec: Spec,
    /// What is probably not meant so, by place.
    pub warnings: Vec<Diagnostic>,
}

/// The largest source that is read, in bytes. A block list of 65,536 prefixes takes a third of it.
pub const MAX_SOURCE: usize = 8 << 20;

/// Reads a configuration. `file` is what diagnostics call it.
///
/// # Errors
/// Everything that is wrong, by place. Where the file is no TOML at all, names are not looked at, since the rest of the
/// file may be other than it seems.
pub fn parse(source: &str, file: &str) -> Result<Parsed, Vec<Diagnostic>> {
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
    let spec = build::build(&document, if names_hold { &mut out } else { &mut unheard });
    Ok(Parsed { spec, warnings: out.finish()? })
}
