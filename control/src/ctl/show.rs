//! Answers as text for people. Programs use `--json`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

mod change;
mod edge;
mod fib;
mod ledger;
mod tasks;
mod wireguard;

pub(super) use tasks::folded;

use super::table::Table;
use super::text::{count, long, printable, separated, short, when};
use crate::api::{
    Answer, BackendRow, Counters, ExplainedPacket, PortRow, SocketMode, Status, WorkerRow, XdpRow,
};

/// How to show it.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// All digits of numbers.
    pub exact: bool,
    /// ANSI colours, for a terminal.
    pub colour: bool,
    /// The time from which "ago" counts.
    pub now: SystemTime,
}

/// An answer as text that ends in a line break.
#[must_use]
pub fn render(answer: &Answer, view: View) -> String {
    match answer {
        Answer::Status(status) => view.status(status),
        Answer::Ports(ports) => view.ports(ports),
        Answer::Workers(workers) => view.workers(workers),
        Answer::Counters(counters) => view.counters(counters),
        Answer::Fib(fib) => view.fib(fib),
        Answer::Xdp(rows) => view.xdp(rows),
        Answer::Backends(rows) => view.backends(rows),
        Answer::Filters(filters) => view.filters(filters),
        Answer::Flows(flows) => view.flows(flows),
        Answer::Mappings(mappings) => view.mappings(mappings),
        Answer::Wireguard(answer) => view.wireguard(answer),
        Answer::Ledger(ledger) => view.ledger(ledger),
        Answer::Tasks(tasks) => view.tasks(tasks),
        Answer::History(rows) => view.history(rows),
        Answer::Drained(drained) => {
            let what = if drained.drained { "takes no new flows" } else { "takes new flows again" };
            format!("{} {what}, in {}\n", printable(&drained.backend), drained.stages.join(", "))
        }
        Answer::Plan(plan) => view.plan(plan),
        Answer::Applied(applied) => view.applied(applied),
        Answer::Explained(packets) => explained(packets),
        Answer::Confirmed(confirmed) => format!("configuration {} stays\n", confirmed.number),
        Answer::Restarted(restarted) => {
            let gap = restarted.gap_us.map(|us| format!(", {} without one", short(us))).unwrap_or_default();
            format!("the data plane is process {} now{gap}\n", restarted.pid)
        }
    }
}

/// Each packet: where it comes in, a line for each stage with what it matches and changes, and its end.
fn explained(packets: &[ExplainedPacket]) -> String {
    let mut text = String::new();
    for packet in packets {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "in at {}, worker {}", printable(&packet.input), packet.worker);
        for step in &packet.steps {
            let _ = write!(text, "  {}: {}", printable(&step.pipeline), printable(&step.stage));
            if let Some(verdict) = &step.verdict {
                let _ = write!(text, " — {}", printable(verdict));
            }
            text.push('\n');
            for line in step.matched.iter().chain(&step.changed) {
                let _ = writeln!(text, "      {}", printable(line));
            }
        }
        let _ = writeln!(text, "=> {}", printable(&packet.verdict));
    }
    text
}

impl View {
    fn count(self, n: u64) -> String {
        count(n, self.exact)
    }

    fn status(self, status: &Status) -> String {
        let Status { version, pid, config, dataplane, pending_confirm_ms } = status;
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<15}{}", printable(&value));
        };
        line("zsync-control", format!("{version}, process {pid}"));
        line("configuration", format!("{} from {}", config.number, config.file));
        line("", format!("accepted {}, hash {}", when(config.time, self.now), config.hash));
        if let Some(ms) = pending_confirm_ms {
            line("", format!("taken back in {} unless `zsyncctl confirm` comes first", long(*ms)));
        }
        let mut what = vec![dataplane.state.as_str().to_owned()];
        what.extend(dataplane.pid.map(|pid| format!("process {pid}")));
        what.extend(dataplane.uptime_ms.map(|ms| format!("up {}", long(ms))));
        if dataplane.pid.is_some() {
            what.push(if dataplane.sandboxed { "sandboxed" } else { "NOT SANDBOXED" }.to_owned());
        }
        line("data plane", what.join(", "));
        let restarts = match dataplane.restarts {
            0 => "never restarted".to_owned(),
            1 => "restarted once".to_owned(),
            n => format!("restarted {} times", separated(n)),
        };
        let last =
            dataplane.last_exit.as_ref().map(|last| format!(", last exit: {last}")).unwrap_or_default();
        line("", format!("{restarts}{last}"));
        text
    }

    fn ports(self, ports: &[PortRow]) -> String {
        let mut table = Table::new(&[
            "PORT",
            "NETDEV",
            "LINK",
            ">MTU",
            ">QUEUES",
            "SOCKETS",
            "XDP",
            "STATE",
            "PIPELINE",
            ">RX",
            ">TX",
            ">RX BYTES",
            ">TX BYTES",
            ">DROPS",
        ]);
        let mut causes = Table::new(&["PORT", "BY", "CAUSE", ">PACKETS", ">BYTES"]);
        let mut offloads = Table::new(&["PORT", "OFFLOAD", ">SPLIT", ">MERGED"]);
        let mut warnings = String::new();
        for port in ports {
            if matches!(port.mode, SocketMode::Tun | SocketMode::Tap) {
                let [split, merged] = [port.split, port.merged].map(|count| self.count(count));
                offloads.row([&port.name, port.offload.as_str(), &split, &merged]);
            }
            let link = if port.link_up { "up" } else { "down" };
            let kernel = &port.kernel;
            let kernel = [
                ("rx-dropped", kernel.rx_dropped),
                ("rx-invalid", kernel.rx_invalid),
                ("rx-ring-full", kernel.rx_ring_full),
                ("tx-invalid", kernel.tx_invalid),
                ("fill-ring-empty", kernel.fill_ring_empty),
            ];
            let drops: u64 = port.drops.values().chain([&kernel[0].1, &kernel[2].1]).sum();
            table.row([
                port.name.clone(),
                port.netdev.clone(),
                link.to_owned(),
                port.mtu.to_string(),
                port.queues.to_string(),
                port.mode.as_str().to_owned(),
                port.xdp.as_str().to_owned(),
                port.failover.as_str().to_owned(),
                port.pipeline.clone().unwrap_or_else(|| "-".to_owned()),
                self.count(port.rx.packets),
                self.count(port.tx.packets),
                self.count(port.rx.bytes),
                self.count(port.tx.bytes),
                self.count(drops),
            ]);
            let mut cause = |by: &str, cause: &str, packets: u64, bytes: String| {
                if packets > 0 {
                    causes.row([&port.name, by, cause, &self.count(packets), &bytes]);
                }
            };
            for (name, packets) in &port.drops {
                cause("engine", name, *packets, String::new());
            }
            for (name, packets) in kernel {
                cause("kernel", name, packets, String::new());
            }
            let by = if port.mode == SocketMode::Packet { "filter" } else { "xdp" };
            for (reason, flow) in &port.xdp_counters {
                cause(by, reason, flow.packets, self.count(flow.bytes));
            }
            for warning in &port.warnings {
                let word = if self.colour { "\x1b[1;33mwarning\x1b[0m" } else { "warning" };
                let _ = writeln!(warnings, "{word}: {}: {}", printable(&port.name), printable(warning));
            }
        }
        self.sections([Some(&table), Some(&offloads), Some(&causes)], &warnings)
    }

    fn workers(self, workers: &[WorkerRow]) -> String {
        let mut table = Table::new(&[
            ">WORKER", ">CORE", ">THREAD", "STATE", ">EPOCH", ">BEAT", ">BUSY", ">PASSES", ">WAKEUPS", ">RX",
            ">TX", ">PUNTED", ">DROPS", "QUEUES",
        ]);
        for worker in workers {
            let number = |n: Option<u32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
            table.row([
                worker.number.to_string(),
                number(worker.core),
                number(worker.thread),
                worker.state.as_str().to_owned(),
                worker.epoch.to_string(),
                worker.heartbeat_age_us.map_or_else(|| "-".to_owned(), short),
                worker.busy_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}%")),
                self.count(worker.passes),
                self.count(worker.wakeups),
                self.count(worker.rx),
                self.count(worker.tx),
                self.count(worker.punted),
                self.count(worker.drops),
                worker.queues.join(" "),
            ]);
        }
        self.sections([Some(&table)], "")
    }

    fn counters(self, counters: &Counters) -> String {
        let by_name = |heading: &'static str, map: &BTreeMap<String, u64>| {
            let mut table = Table::new(&[heading, ">COUNT"]);
            for (name, n) in map.iter().filter(|(_, n)| **n > 0) {
                table.row([name, &self.count(*n)]);
            }
            table
        };
        let (totals, drops) = (by_name("COUNTER", &counters.totals), by_name("DROP REASON", &counters.drops));
        let mut stages = Table::new(&["PIPELINE", "STAGE", ">PACKETS", ">DROPS"]);
        for row in &counters.stages {
            stages.row([&row.pipeline, &row.stage, &self.count(row.packets), &self.count(row.drops)]);
        }
        let balance = match counters.balance {
            0 => "every packet is accounted for\n".to_owned(),
            n => format!("{n} packets are on their way, or not accounted for\n"),
        };
        let shown = [&totals, &drops, &stages].map(|table| (!table.is_empty()).then_some(table));
        self.sections(shown, &balance)
    }

    fn xdp(self, rows: &[XdpRow]) -> String {
        let mut table = Table::new(&[
            "PORT",
            ">SLOT",
            "PROGRAM",
            ">ENTERED",
            ">PASSED ON",
            ">DROPPED",
            ">TO KERNEL",
            ">SENT BACK",
            ">REDIRECTED",
            ">ABORTED",
            ">NO VERDICT",
        ]);
        let mut warnings = String::new();
        for row in rows {
            let params: Vec<String> =
                row.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let label = [vec![format!("{}:{}", row.object, row.program)], params].concat().join(" ");
            let counts = [
                row.entered,
                row.passed_on,
                row.dropped,
                row.to_kernel,
                row.transmitted,
                row.redirected,
                row.aborted,
                row.no_verdict,
            ];
            let head = [row.port.clone(), row.slot.to_string(), label];
            table.row(head.into_iter().chain(counts.map(|n| self.count(n))));
            let mut warn = |what: String| {
                let word = if self.colour { "\x1b[1;33mwarning\x1b[0m" } else { "warning" };
                let _ = writeln!(
                    warnings,
                    "{word}: {}: {}: {what}",
                    printable(&row.port),
                    printable(&row.program)
                );
            };
            if row.entered > 0 && row.passed_on == 0 {
                let packets = self.count(row.entered);
                warn(format!(
                    "none of {packets} packets was passed on, so nothing behind it sees any; \
                     what is to go on must end in `return zsync_pass_on(ctx);`"
                ));
            }
            if row.not_entered > 0 {
                let packets = self.count(row.not_entered);
                warn(format!(
                    "{packets} packets were dropped: it could not be entered, as those before it used up 33 tail calls"
                ));
            }
            if row.no_verdict > 0 {
                warn(format!(
                    "{} packets were dropped: what it returned is no verdict",
                    self.count(row.no_verdict)
                ));
            }
        }
        self.sections([Some(&table)], &warnings)
    }

    fn backends(self, rows: &[BackendRow]) -> String {
        let mut table =
            Table::new(&["STAGE", "BACKEND", ">WEIGHT", "STATE", ">FLOWS", ">CHECKED", ">TOOK", "WHY"]);
        for row in rows {
            let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            table.row([
                row.stage.clone(),
                row.backend.clone(),
                row.weight.to_string(),
                row.state.as_str().to_owned(),
                or_none(row.flows.map(|flows| self.count(flows))),
                or_none(row.checked_ms.map(|ms| format!("{} ago", long(ms)))),
                or_none(row.check_us.map(short)),
                row.error.clone().unwrap_or_default(),
            ]);
        }
        self.sections([Some(&table)], "")
    }

    /// Tables and a last text, an empty line between two.
    fn sections<'t>(self, tables: impl IntoIterator<Item = Option<&'t Table>>, rest: &str) -> String {
        let tables = (0..).zip(tables).filter_map(|(at, table)| {
            // The first is shown also when it has no rows: its headings say what there is none of.
            table.filter(|table| at == 0 || !table.is_empty()).map(|table| table.render(self.colour))
        });
        let rest = (!rest.is_empty()).then(|| rest.to_owned());
        tables.chain(rest).collect::<Vec<_>>().join("\n")
    }
}

/// What is left out of an answer; nothing when it is whole.
fn cut(shown: usize, matched: u64, what: &str, remedy: &str) -> String {
    match matched {
        0 => format!("no {what} matches\n"),
        matches if matches > shown as u64 => {
            let (shown, matched) = (separated(shown as u64), separated(matched));
            format!("{shown} of {matched} {what}s are shown; see --limit, or {remedy}\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
