//! What the daemon answers: plain values, shared by server and clients.
//!
//! Invariant: a field, once published, keeps its name and meaning; new ones are optional to a reader. Counters only grow
//! while the data plane's shared memory lives, so a reader makes rates by taking differences.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zsync_pipelines::spec::{Change, Diagnostic};

use super::edge::{Filters, Flows, Mappings};
use super::fib::Fib;
use super::ledger::Ledger;
use super::tasks::Tasks;
use super::wireguard::Wireguard;
use super::word::{
    BackendState, DataplaneState, FailoverState, HistoryState, Offload, SocketMode, WorkerState, XdpMode,
};

/// The answer to a request, under the name of its kind: `{"ports":[…]}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To `status`.
    Status(Status),
    /// To `show ports`, by name.
    Ports(Vec<PortRow>),
    /// To `show workers`, by number.
    Workers(Vec<WorkerRow>),
    /// To `show counters`.
    Counters(Counters),
    /// To `show fib`.
    Fib(Fib),
    /// To `show xdp`: by port, in the order of its chain.
    Xdp(Vec<XdpRow>),
    /// To `show ledger`.
    Ledger(Ledger),
    /// To `show tasks`.
    Tasks(Tasks),
    /// To `show backends`, by stage.
    Backends(Vec<BackendRow>),
    /// To `show filters`.
    Filters(Filters),
    /// To `show flows`.
    Flows(Flows),
    /// To `show mappings`.
    Mappings(Mappings),
    /// To `show wireguard`.
    Wireguard(Wireguard),
    /// To `show history`, the newest first.
    History(Vec<HistoryRow>),
    /// To `plan`.
    Plan(Plan),
    /// To `apply` and `rollback`.
    Applied(Applied),
    /// To `confirm`.
    Confirmed(Confirmed),
    /// To `explain`, a packet after the other.
    Explained(Vec<ExplainedPacket>),
    /// To `restart-dataplane`.
    Restarted(Restarted),
    /// To `drain`.
    Drained(Drained),
}

/// Structs of answers: kebab-case in JSON.
macro_rules! row {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field:meta])* $key:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
            #[serde(rename_all = "kebab-case")]
            pub struct $name { $($(#[$field])* pub $key: $type,)* }
        )*
    };
}

pub(super) use row;

row! {
    /// What a packet would meet.
    ExplainedPacket {
        /// The port that it comes in at.
        input: String,
        /// The worker that would deal with it.
        worker: u32,
        /// The stages that it meets.
        steps: Vec<ExplainedStep>,
        /// What becomes of it.
        verdict: String,
    }
    /// A stage that a packet would meet.
    ExplainedStep {
        /// Its pipeline.
        pipeline: String,
        /// Its label.
        stage: String,
        /// What the packet matches there, and what the stage knows of it.
        matched: Vec<String>,
        /// What the stage changes.
        changed: Vec<String>,
        /// What it decides; nothing when the packet goes on.
        #[serde(skip_serializing_if = "Option::is_none")]
        verdict: Option<String>,
    }
    /// How the whole is.
    Status {
        /// Version of zsync-control.
        version: String,
        /// Its process.
        pid: u32,
        /// The configuration in force.
        config: ConfigInfo,
        /// The data plane.
        dataplane: DataplaneInfo,
        /// Milliseconds until the configuration is taken back, unless it is confirmed.
        #[serde(skip_serializing_if = "Option::is_none")]
        pending_confirm_ms: Option<u64>,
    }
    /// A configuration.
    ConfigInfo {
        /// Its number; each accepted configuration gets the next.
        number: u64,
        /// When it was accepted, milliseconds of Unix time.
        time: u64,
        /// `zsync_pipelines::spec::fingerprint` of its text, and of the object files that it names.
        hash: String,
        /// Where it came from, as the client named it.
        file: String,
    }
    /// The data plane.
    DataplaneInfo {
        /// Its process; none between two.
        pid: Option<u32>,
        /// What it does.
        state: DataplaneState,
        /// Times that it was started again since control started.
        restarts: u64,
        /// How the one before ended.
        last_exit: Option<String>,
        /// Milliseconds since it was started.
        uptime_ms: Option<u64>,
        /// It says that all steps of its sandbox were taken and verified.
        sandboxed: bool,
    }
    /// Packets and their bytes.
    Flow {
        /// Packets.
        packets: u64,
        /// Their bytes.
        bytes: u64,
    }
    /// A port.
    PortRow {
        /// Name in the configuration.
        name: String,
        /// The kernel's network device; of a UDP socket, what it listens at.
        netdev: String,
        /// Its index; 0: it is no device.
        ifindex: u32,
        /// Its address, `02:00:00:00:00:01`.
        mac: String,
        /// Its MTU, bytes.
        mtu: u32,
        /// There is a carrier.
        link_up: bool,
        /// Its driver, as ethtool says.
        driver: Option<String>,
        /// Its kind of virtual device, as rtnetlink says: `veth`.
        kind: Option<String>,
        /// How its sockets are bound.
        mode: SocketMode,
        /// What the kernel leaves to us, if it is a TUN or TAP device.
        offload: Offload,
        /// Packets of a TUN or TAP device that stood for several, which they were cut into.
        split: u64,
        /// Packets to a TUN or TAP device that stood for several.
        merged: u64,
        /// Where its XDP program runs.
        xdp: XdpMode,
        /// Queues that are served.
        queues: u32,
        /// Who has its packets now.
        failover: FailoverState,
        /// The pipeline that its packets enter.
        pipeline: Option<String>,
        /// Received by the data plane.
        rx: Flow,
        /// Placed in TX rings.
        tx: Flow,
        /// Dropped at the port, by cause: `tx-ring-full`.
        drops: BTreeMap<String, u64>,
        /// What the kernel counts for its sockets, all queues together.
        kernel: KernelDrops,
        /// What its XDP program counts, or the filter of its packet sockets, by reason.
        xdp_counters: BTreeMap<String, Flow>,
        /// What is probably not meant so: a name, the limit, the remedy.
        warnings: Vec<String>,
    }
    /// `struct xdp_statistics`, include/uapi/linux/if_xdp.h.
    KernelDrops {
        /// Packets dropped for other reasons.
        rx_dropped: u64,
        /// Fill descriptors that the kernel refused.
        rx_invalid: u64,
        /// Packets dropped because the RX ring was full; of packet sockets, their buffer.
        rx_ring_full: u64,
        /// Times that the fill ring was empty.
        fill_ring_empty: u64,
        /// TX descriptors that the kernel refused.
        tx_invalid: u64,
        /// Times that the kernel found the TX ring empty.
        tx_ring_empty: u64,
    }
    /// A worker.
    WorkerRow {
        /// Its number.
        number: u32,
        /// The CPU that it is pinned to.
        core: Option<u32>,
        /// Its thread.
        thread: Option<u32>,
        /// What it does.
        state: WorkerState,
        /// Epoch of the snapshot that it uses.
        epoch: u64,
        /// Microseconds since its last heartbeat. Rests while it is parked.
        heartbeat_age_us: Option<u64>,
        /// Passes.
        passes: u64,
        /// Share of the time since the last request that it spent in passes that found something to do, percent.
        busy_percent: Option<f64>,
        /// Milliseconds spent blocked, since the start.
        blocked_ms: u64,
        /// Times that it blocked and was woken.
        wakeups: u64,
        /// Packets received.
        rx: u64,
        /// Packets placed in TX rings.
        tx: u64,
        /// Packets given to the kernel.
        punted: u64,
        /// Packets dropped.
        drops: u64,
        /// The queues that it serves, `wan:0`.
        queues: Vec<String>,
    }
    /// What the workers count.
    Counters {
        /// Sums of all workers, by name.
        totals: BTreeMap<String, u64>,
        /// Packets dropped, by `DropReason`; those that are 0 may be left out.
        drops: BTreeMap<String, u64>,
        /// In the order of the configuration.
        stages: Vec<StageRow>,
        /// Packets that came in less those that are accounted for: 0 at a pass boundary.
        balance: i64,
        /// The same for each worker.
        #[serde(default)]
        workers: Vec<WorkerCounters>,
    }
    /// What one worker counts.
    WorkerCounters {
        /// Its number.
        number: u32,
        /// By name.
        totals: BTreeMap<String, u64>,
        /// Packets dropped, by `DropReason`.
        drops: BTreeMap<String, u64>,
        /// As for all.
        balance: i64,
    }
    /// What a stage counts.
    StageRow {
        /// Its pipeline.
        pipeline: String,
        /// The stage, as the configuration names it.
        stage: String,
        /// Packets that entered it.
        packets: u64,
        /// Of these, dropped by it.
        drops: u64,
    }
    /// A backend of a `balance` stage.
    BackendRow {
        /// The stage, as the configuration names it.
        stage: String,
        /// Its address, and its port where it has one.
        backend: String,
        /// Its share beside the others'.
        weight: u32,
        /// Whether it gets flows.
        state: BackendState,
        /// Flows that go to it, counted within the last seconds; none with NAT, where tracking knows them.
        flows: Option<u64>,
        /// Milliseconds since its last check; none if there was none.
        checked_ms: Option<u64>,
        /// How long that took, microseconds.
        check_us: Option<u64>,
        /// Why it failed.
        error: Option<String>,
    }
    /// What `drain` did.
    Drained {
        /// The backend.
        backend: String,
        /// The stages that have it.
        stages: Vec<String>,
        /// It takes no new flows; else it takes them again.
        drained: bool,
    }
    /// An XDP program of the operator's. Packets count from when it came to its place in the chain; a new version of it, and a
    /// change of its place, go on counting. `entered` is the sum of the others.
    XdpRow {
        /// The port.
        port: String,
        /// Its place in the port's chain, from 1.
        slot: u32,
        /// The object file.
        object: String,
        /// The program in it.
        program: String,
        /// The values of its variables that the configuration gives.
        params: BTreeMap<String, u64>,
        /// The same for the same file's contents, program and parameters.
        fingerprint: String,
        /// Packets that came to it.
        entered: u64,
        /// Of these: passed on to the next program or, by the last one, to zsync.
        passed_on: u64,
        /// Dropped (`XDP_DROP`).
        dropped: u64,
        /// Given to the kernel, past zsync (`XDP_PASS`).
        to_kernel: u64,
        /// Sent back out of the port (`XDP_TX`).
        transmitted: u64,
        /// Sent to another device, CPU or socket (`XDP_REDIRECT`).
        redirected: u64,
        /// Dropped as an error of the program (`XDP_ABORTED`).
        aborted: u64,
        /// Dropped, because what the program returned is no verdict.
        no_verdict: u64,
        /// Dropped, because the program could not be entered: programs before it have used up the kernel's 33 tail calls.
        not_entered: u64,
    }
    /// What `apply` would do.
    Plan {
        /// By path; empty when nothing would change.
        changes: Vec<Change>,
        /// What is probably not meant so.
        warnings: Vec<Diagnostic>,
        /// One sentence.
        summary: String,
    }
    /// What `apply` or `rollback` did.
    Applied {
        /// Number of the configuration in force.
        number: u64,
        /// Epoch of its snapshot.
        epoch: u64,
        /// Microseconds until the last worker had adopted it.
        adopted_us: Option<u64>,
        /// The data plane was started again.
        respawned: bool,
        /// What is different.
        changes: Vec<Change>,
        /// What is probably not meant so.
        #[serde(default)]
        warnings: Vec<Diagnostic>,
        /// Milliseconds until it is taken back, unless it is confirmed.
        #[serde(skip_serializing_if = "Option::is_none")]
        confirm_ms: Option<u64>,
    }
    /// What `confirm` did.
    Confirmed {
        /// Number of the configuration that stays.
        number: u64,
    }
    /// What `restart-dataplane` did.
    Restarted {
        /// The new process.
        pid: u32,
        /// Microseconds from the stop of the old one to the first pass of the new one.
        gap_us: Option<u64>,
    }
    /// A configuration that was accepted once.
    HistoryRow {
        /// Its number.
        number: u64,
        /// When, milliseconds of Unix time.
        time: u64,
        /// `zsync_pipelines::spec::fingerprint` of its text, and of the object files that it names.
        hash: String,
        /// Where it came from, as the client named it.
        file: String,
        /// User who applied it.
        by_uid: u32,
        /// What became of it.
        state: HistoryState,
    }
}
