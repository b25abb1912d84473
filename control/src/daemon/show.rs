//! What the daemon shows of itself, its ports and its workers. It only reads: shared memory, maps, its own records.

mod fib;

use super::core::{Daemon, ReplyTo};
use super::installation::{OpenPort, OpenQueue};
use super::ledger::clamp;
use super::packet;
use super::sockets::Copying;
use super::supervisor::Kind;
use crate::api::{
    Answer, ApiError, Code, ConfigInfo, Counters, DataplaneInfo, DataplaneState, Explain, FailoverState,
    Flow, HistoryRow, HistoryState, KernelDrops, Offload, PortRow, Show, SocketMode, StageRow, Status, What,
    WorkerCounters, WorkerRow, WorkerState, XdpMode, XdpRow,
};
use crate::xdp::{self, ChainVerdict, Hook};
use rustix::net::sockopt::xdp_statistics;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::time::Instant;
use zsync_packet::flow::HashKey;
use zsync_packet::verdict::DropReason;
use zsync_pipelines::compile::Resources;
use zsync_pipelines::plan::{Place, plan};
use zsync_pipelines::spec::{Device, Failover};
use zsync_protocol::message::{ToDataplane, TunOffload};
use zsync_protocol::stats::{self, PortCounter, StageCounter};

impl Daemon {
    /// The answer to `status`.
    pub(super) fn status(&self) -> Answer {
        let entry = &self.config.entry;
        let config = ConfigInfo {
            number: entry.number,
            time: entry.time,
            hash: entry.hash.clone(),
            file: entry.file.clone(),
        };
        let state = match self.phase.kind {
            Kind::Starting { .. } => DataplaneState::Starting,
            Kind::Running { .. } => DataplaneState::Running,
            Kind::Gone { .. } if self.phase.fallen.is_empty() => DataplaneState::Respawned,
            Kind::Gone { .. } => DataplaneState::FailedOver,
        };
        let dataplane = DataplaneInfo {
            pid: self.dataplane.as_ref().map(|d| d.pid),
            state,
            restarts: self.restarts,
            last_exit: self.last_exit.clone(),
            uptime_ms: self.dataplane.as_ref().map(|d| d.since.elapsed().as_millis() as u64),
            sandboxed: self.sandboxed && self.dataplane.is_some(),
        };
        let pending_confirm_ms = self
            .unconfirmed
            .as_ref()
            .map(|u| u.deadline.saturating_duration_since(Instant::now()).as_millis() as u64);
        Answer::Status(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            config,
            dataplane,
            pending_confirm_ms,
        })
    }

    /// Answers `show`.
    pub(super) fn show(&mut self, show: &Show, reply: ReplyTo) {
        let answer = match show.what {
            What::Ports => Ok(self.ports()),
            What::Workers => Ok(self.workers()),
            What::Counters => Ok(self.counters()),
            What::Backends => Ok(self.backends()),
            What::Filters => self.filters(show),
            What::Flows => return self.show_flows(show, reply),
            What::Mappings => return self.show_mappings(show, reply),
            What::Wireguard => return self.show_wireguard(show, reply),
            What::Fib => self.fib(show),
            What::Xdp => self.xdp(),
            What::History => Ok(self.past()),
            What::Ledger => return self.ask_ledger(reply),
            What::Tasks => return self.ask_tasks(reply),
        };
        let _ = reply.send(answer);
    }

    /// Answers `explain`: the configuration in force, over the routes of now and a copy of what stages keep.
    pub(super) fn explain(&self, explain: &Explain) -> Result<Answer, ApiError> {
        let bad = |what: String| ApiError::new(Code::BadParams, what);
        let subjects = explain.subjects().map_err(bad)?;
        let states =
            self.states.copies().map_err(|error| ApiError::new(Code::Refused, format!("{error:#}")))?;
        let layout = &self.installation.layout;
        let with = Resources {
            ports: self.installation.ports.iter().map(OpenPort::facts).collect(),
            fibs: self.routes.iter().map(|routes| (routes.table, routes.writer().reader())).collect(),
            hash_key: HashKey::from_bytes(&whole(&layout.secret)),
            workers: layout.workers.len(),
            states,
        };
        let now = clock_gettime(ClockId::Monotonic);
        let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
        crate::explain::explain(&self.config.spec, &with, explain.input.as_deref(), &subjects, now)
            .map(Answer::Explained)
            .map_err(bad)
    }

    pub(super) fn published(&self) -> Vec<stats::Counters> {
        self.installation.stats.iter().map(|worker| worker.read().unwrap_or_default()).collect()
    }

    fn ports(&mut self) -> Answer {
        let published = self.published();
        let phase = &self.phase;
        let gone = !phase.is_running();
        let mut rows = Vec::new();
        for port in &mut self.installation.ports {
            let number = usize::from(port.spec.id.0);
            let sum = |counter: PortCounter| {
                published.iter().filter_map(|c| c.ports.get(number)).map(|p| p[counter as usize]).sum::<u64>()
            };
            let sockets = self.installation.queues.iter().filter(|queue| usize::from(queue.port) == number);
            let (queues, lost) = (sockets.clone().count() as u64, sum(PortCounter::RingsLost));
            let failover = match (gone, phase.fallen.contains(&port.spec.id.0), port.spec.failover) {
                (false, ..) => FailoverState::Serving,
                _ if port.ingress.is_none() => FailoverState::Waiting,
                (true, false, _) => FailoverState::Waiting,
                (true, true, Failover::Open) => FailoverState::Open,
                (true, true, Failover::Closed) => FailoverState::Closed,
            };
            let link = self.routes.first().and_then(|r| r.netlink().mirror().link(port.ifindex));
            rows.push(PortRow {
                name: port.spec.name.clone(),
                netdev: port.spec.udp.map_or_else(|| port.spec.netdev.clone(), |udp| udp.listen.to_string()),
                ifindex: port.ifindex,
                mac: show_mac(port.mac),
                mtu: port.mtu,
                link_up: port.ifindex == 0 || link.is_some_and(crate::netlink::Link::is_running),
                driver: None,
                kind: port.kind.clone(),
                mode: match port.copying {
                    _ if matches!(port.ring, Some(Ok(()))) && lost < queues => SocketMode::UdpRing,
                    _ if port.spec.udp.is_some() => SocketMode::Udp,
                    _ if port.spec.device == Device::Tap => SocketMode::Tap,
                    _ if port.ingress.is_none() => SocketMode::Tun,
                    _ if port.has_packet_sockets() => SocketMode::Packet,
                    Copying::ZeroCopy => SocketMode::ZeroCopy,
                    Copying::Copy => SocketMode::Copy,
                },
                offload: match sockets.clone().next().map(|queue| &queue.message) {
                    Some(ToDataplane::Tun { offload: TunOffload::Tcp, .. }) => Offload::Tcp,
                    Some(ToDataplane::Tun { offload: TunOffload::TcpUdp, .. }) => Offload::TcpUdp,
                    _ => Offload::None,
                },
                split: sum(PortCounter::Split),
                merged: sum(PortCounter::Merged),
                xdp: match port.xdp {
                    _ if port.ingress.is_none() || port.has_packet_sockets() => XdpMode::None,
                    xdp::Mode::Generic => XdpMode::Generic,
                    xdp::Mode::Native | xdp::Mode::Offloaded => XdpMode::Native,
                },
                queues: queues as u32,
                failover,
                pipeline: self.config.spec.pipeline_of(port.spec.id).map(|p| p.name.clone()),
                rx: Flow { packets: sum(PortCounter::RxPackets), bytes: sum(PortCounter::RxBytes) },
                tx: Flow { packets: sum(PortCounter::TxPackets), bytes: sum(PortCounter::TxBytes) },
                drops: BTreeMap::from([
                    ("tx-ring-full".to_owned(), sum(PortCounter::TxRingFull)),
                    ("fill-starved".to_owned(), sum(PortCounter::FillStarved)),
                    ("bad-descriptors".to_owned(), sum(PortCounter::BadDescriptors)),
                    ("rx-refused".to_owned(), sum(PortCounter::RxRefused)),
                ]),
                kernel: kernel_drops(sockets),
                xdp_counters: xdp_counters(port),
                warnings: warnings(port, lost, queues),
            });
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        Answer::Ports(rows)
    }

    fn workers(&mut self) -> Answer {
        let now = Instant::now();
        let clock = clock_gettime(ClockId::Monotonic);
        let clock = clock.tv_sec as u64 * 1_000_000_000 + clock.tv_nsec as u64;
        let mut rows = Vec::new();
        for (number, worker) in self.installation.stats.iter().enumerate() {
            let counters = worker.read().unwrap_or_default();
            let number = number as u32;
            let before = self.load.insert(number, (now, counters.busy_ns));
            let busy_percent = before.and_then(|(then, busy)| {
                let passed = now.duration_since(then).as_nanos() as f64;
                (passed > 0.0).then(|| 100.0 * counters.busy_ns.saturating_sub(busy) as f64 / passed)
            });
            let queues = self.installation.queues.iter().filter(|queue| u32::from(queue.worker) == number);
            let name =
                |port: u16| self.installation.ports.get(usize::from(port)).map_or("?", |p| &p.spec.name);
            let plan = self.installation.layout.workers.get(number as usize);
            rows.push(WorkerRow {
                number,
                core: plan.and_then(|plan| plan.core),
                thread: Some(worker.thread()).filter(|thread| *thread != 0),
                state: match worker.state() {
                    Some(stats::WorkerState::Starting) => WorkerState::Starting,
                    Some(stats::WorkerState::Running) => WorkerState::Running,
                    Some(stats::WorkerState::Parked) => WorkerState::Parked,
                    Some(stats::WorkerState::Stopped) => WorkerState::Stopped,
                    None => WorkerState::Unknown,
                },
                epoch: worker.epoch(),
                heartbeat_age_us: clock.checked_sub(worker.heartbeat()).map(|age| age / 1000),
                passes: worker.passes(),
                busy_percent,
                blocked_ms: counters.blocked_ns / 1_000_000,
                wakeups: counters.wakeups,
                rx: counters.rx_packets,
                tx: counters.tx_packets,
                punted: counters.punted,
                drops: counters.dropped(),
                queues: queues.map(|queue| format!("{}:{}", name(queue.port), queue.queue)).collect(),
            });
        }
        Answer::Workers(rows)
    }

    fn counters(&self) -> Answer {
        let published = self.published();
        let workers: Vec<WorkerCounters> = published
            .iter()
            .enumerate()
            .map(|(number, counters)| WorkerCounters {
                number: number as u32,
                totals: totals(counters),
                drops: drops(counters),
                balance: clamp(counters.balance()),
            })
            .collect();
        let mut sum = Counters { workers, ..Counters::default() };
        for worker in &sum.workers {
            for (name, value) in &worker.totals {
                *sum.totals.entry(name.clone()).or_default() += value;
            }
            for (reason, value) in &worker.drops {
                *sum.drops.entry(reason.clone()).or_default() += value;
            }
            sum.balance += worker.balance;
        }
        sum.stages = self.stages(&published);
        Answer::Counters(sum)
    }

    /// The stages, in the order in which the compiler numbers them.
    pub(super) fn stages(&self, published: &[stats::Counters]) -> Vec<StageRow> {
        let mut rows = Vec::new();
        let plan = plan(&self.config.spec, self.installation.layout.workers.len());
        for (pipeline, places) in self.config.spec.pipelines.iter().zip(&plan) {
            for Place { label, .. } in places {
                let number = rows.len();
                let sum = |counter: StageCounter| {
                    published.iter().filter_map(|c| c.stages.get(number)).map(|s| s[counter as usize]).sum()
                };
                rows.push(StageRow {
                    pipeline: pipeline.name.clone(),
                    stage: (*label).to_owned(),
                    packets: sum(StageCounter::Packets),
                    drops: sum(StageCounter::Drops),
                });
            }
        }
        rows
    }

    /// The operator's programs: what runs, by the maps and pins, and what the configuration calls it.
    fn xdp(&self) -> Result<Answer, ApiError> {
        let mut rows = Vec::new();
        for port in &self.installation.ports {
            let failed = |error: xdp::XdpError| ApiError::new(Code::Internal, error.to_string());
            let Some(ingress) = port.ingress.as_ref().and_then(Hook::xdp) else { continue };
            let counts = ingress.chain_counts().map_err(failed)?;
            let images = self.config.programs.on(&port.spec);
            for (slot, (fingerprint, counts)) in (1..).zip(ingress.chain().into_iter().zip(counts)) {
                let known = images.iter().zip(&port.spec.xdp).find(|(i, _)| i.fingerprint() == fingerprint);
                let of = |verdict| counts.of(verdict);
                rows.push(XdpRow {
                    port: port.spec.name.clone(),
                    slot,
                    object: known.map_or("?".to_owned(), |(image, _)| image.path.display().to_string()),
                    program: known.map_or("?".to_owned(), |(_, program)| program.program.clone()),
                    params: known.map_or_else(BTreeMap::new, |(_, program)| program.params.clone()),
                    fingerprint,
                    entered: counts.entered(),
                    passed_on: of(ChainVerdict::PassedOn),
                    dropped: of(ChainVerdict::Dropped),
                    to_kernel: of(ChainVerdict::ToKernel),
                    transmitted: of(ChainVerdict::Transmitted),
                    redirected: of(ChainVerdict::Redirected),
                    aborted: of(ChainVerdict::Aborted),
                    no_verdict: of(ChainVerdict::NoVerdict),
                    not_entered: of(ChainVerdict::NoProgram),
                });
            }
        }
        rows.sort_by(|a, b| (&a.port, a.slot).cmp(&(&b.port, b.slot)));
        Ok(Answer::Xdp(rows))
    }

    fn past(&self) -> Answer {
        let running = self.config.entry.number;
        let row = |entry: &super::history::Entry| HistoryRow {
            number: entry.number,
            time: entry.time,
            hash: entry.hash.clone(),
            file: entry.file.clone(),
            by_uid: entry.uid,
            state: match entry.number == running {
                true if self.unconfirmed.is_some() => HistoryState::Pending,
                true => HistoryState::Running,
                false if self.reverted.contains(&entry.number) => HistoryState::Reverted,
                false => HistoryState::Superseded,
            },
        };
        Answer::History(self.history.entries().iter().rev().map(row).collect())
    }
}

fn totals(counters: &stats::Counters) -> BTreeMap<String, u64> {
    let names = stats::Counters::SCALARS.iter().map(|name| name.replace('_', "-"));
    names.zip(counters.scalars()).collect()
}

fn drops(counters: &stats::Counters) -> BTreeMap<String, u64> {
    DropReason::ALL
        .iter()
        .map(|reason| (reason.label().to_owned(), counters.drops[*reason as usize]))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn kernel_drops<'a>(queues: impl Iterator<Item = &'a OpenQueue>) -> KernelDrops {
    let mut sum = KernelDrops::default();
    for queue in queues {
        if let ToDataplane::Packet { .. } = queue.message {
            sum.rx_ring_full += packet::drops(&queue.socket);
        }
        let Ok(statistics) = xdp_statistics(&queue.socket) else { continue };
        sum.rx_dropped += statistics.rx_dropped;
        sum.rx_invalid += statistics.rx_invalid_descs;
        sum.tx_invalid += statistics.tx_invalid_descs;
        sum.rx_ring_full += statistics.rx_ring_full.unwrap_or(0);
        sum.fill_ring_empty += statistics.rx_fill_ring_empty_descs.unwrap_or(0);
        sum.tx_ring_empty += statistics.tx_ring_empty_descs.unwrap_or(0);
    }
    sum
}

/// What was found when the port was opened, and why it does not go the way that was asked for. Of its `queues`, so many have `lost` their rings.
fn warnings(port: &OpenPort, lost: u64, queues: u64) -> Vec<String> {
    let ring = match &port.ring {
        Some(Err(why)) => Some(format!("goes by system calls: {why}")),
        Some(Ok(())) if lost > 0 => Some(format!(
            "{lost} of its {queues} queues lost their io_uring and go by system calls: `zsyncctl restart-dataplane` makes others"
        )),
        _ => None,
    };
    port.warnings.iter().cloned().chain(ring).collect()
}

fn xdp_counters(port: &mut OpenPort) -> BTreeMap<String, Flow> {
    let Some(Ok(counters)) = port.ingress.as_mut().map(|ingress| ingress.counters()) else {
        return BTreeMap::new();
    };
    counters
        .iter()
        .map(|(reason, count)| {
            (reason.label().to_owned(), Flow { packets: count.packets, bytes: count.bytes })
        })
        .collect()
}

fn show_mac(mac: [u8; 6]) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// Both halves of the secret.
fn whole([a, b]: &[[u8; 32]; 2]) -> [u8; 64] {
    let mut whole = [0; 64];
    whole[..32].copy_from_slice(a);
    whole[32..].copy_from_slice(b);
    whole
}
