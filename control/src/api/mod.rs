//! The API of the control process: one JSON object a line over a Unix socket, answered by one a line, in order.
//!
//! ```text
//! → {"id": 1, "method": "show", "params": {"what": "ports"}}
//! ← {"id":1,"ok":{"ports":[{"name":"wan",…}]}}
//! → {"id": 2, "method": "aply", "params": {}}
//! ← {"id":2,"error":{"code":"unknown-method","message":"there is no method `aply`","remedy":"did you mean `apply`?"}}
//! ```
//!
//! Owns: what a request and an answer look like ([`Request`], [`Answer`], [`ApiError`]), who may ask for what ([`Role`]),
//! and the socket ([`Server`]). It knows nothing of ports and packets: each request that its peer may make goes to the
//! daemon as a [`Call`], one at a time for each connection.
//!
//! Refuses: peers that are in neither group, requests longer than [`MAX_LINE`], parameters that it does not know, and
//! clients that take their time.

#![forbid(unsafe_code)]

mod access;
mod answer;
mod edge;
mod error;
mod fib;
mod filter;
mod ledger;
mod line;
mod reply;
mod request;
mod server;
mod socket;
mod tasks;
#[cfg(test)]
mod tests;
mod wireguard;
mod word;

pub use access::{Credentials, Groups, Peer, Role, group_name};
pub use answer::{
    Answer, Applied, BackendRow, ConfigInfo, Confirmed, Counters, DataplaneInfo, Drained, ExplainedPacket,
    ExplainedStep, Flow, HistoryRow, KernelDrops, Plan, PortRow, Restarted, StageRow, Status, WorkerCounters,
    WorkerRow, XdpRow,
};
pub use edge::{
    AddressRow, FilterStage, Filters, FlowRow, FlowTable, Flows, MappingRow, MappingTable, Mappings, RuleRow,
};
pub use error::{ApiError, Code};
pub use fib::{Fib, FibTable, HopRow, RouteRow, Usage};
pub use filter::RouteFilter;
pub use ledger::{Ledger, LedgerRow, RxEquals};
pub use reply::{Outcome, Reply};
pub use request::{Drain, Explain, Request, Rollback, Show, Source, What};
pub use server::{Call, Limits, Server};
pub use socket::BindError;
pub(crate) use socket::Bound;
pub use tasks::{TaskRow, TaskWait, Tasks, WorkerTasks};
pub use wireguard::{Wireguard, WireguardEnd, WireguardPeer};
pub use word::{
    BackendState, DataplaneState, FailoverState, HistoryState, Offload, RouteTarget, SocketMode, WorkerState,
    XdpMode,
};

/// Where the socket is, unless told otherwise.
pub const SOCKET: &str = "/run/zsync/api.sock";

/// The longest request, bytes. The largest configuration fits, with its line breaks and quotes escaped, unless every other
/// character is one. Peers that may only look have a third of it.
pub const MAX_LINE: usize = 48 << 20;
