//! Keeps a data plane alive: starts it, watches it, starts its successor over the same descriptors.
//!
//! While none runs, packets wait in the RX rings. A port whose `grace` runs out falls back as its `failover` says: its
//! sockets leave the XSKMAP, and the XDP program passes packets to the kernel, or drops them.

use super::adoption;
use super::core::Daemon;
use super::dataplane::{Dataplane, Event};
use crate::api::{Answer, ApiError, Code, Restarted};
use crate::xdp::Hook;
use anyhow::Result;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};
use zsync_protocol::message::{FromDataplane, ToDataplane};
use zsync_protocol::shm::sealed_bytes;

/// How often things are looked at that do not announce themselves: heartbeats, memory to be freed.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// A worker whose heart has not beaten for so long hangs. A pass takes microseconds, but a busy host may not run a thread
/// for a while: ten times the longest that was seen here.
const HANG: Duration = Duration::from_secs(2);
/// A data plane that has not started within this never will.
const START: Duration = Duration::from_secs(20);
/// The longest wait between two attempts to start one that cannot start.
const SLOWEST_RETRY: Duration = Duration::from_secs(5);

/// What the data plane is doing, and which ports have gone without it.
#[derive(Debug)]
pub(super) struct Phase {
    pub kind: Kind,
    /// Ports that have fallen back, by number.
    pub fallen: Vec<u16>,
    /// When to try again to start one.
    pub retry: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first one has not started yet.
    Starting { since: Instant },
    /// Packets flow.
    Running { since: Instant },
    /// There was one, and it died (or was stopped) then.
    Gone { since: Instant },
}

impl Phase {
    pub(super) fn starting() -> Self {
        Self { kind: Kind::Starting { since: Instant::now() }, fallen: Vec::new(), retry: None }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.kind, Kind::Running { .. })
    }
}

impl Daemon {
    /// Starts a data plane, over the state of a predecessor when this installation has had one.
    pub(super) fn start_dataplane(&mut self) {
        self.phase.retry = None;
        match self.launch(self.launched) {
            Ok(dataplane) => {
                tracing::info!(pid = dataplane.pid, takeover = self.launched, "data plane started");
                self.launched = true;
                self.dataplane = Some(dataplane);
            }
            Err(error) => {
                tracing::error!("the data plane cannot be started: {error:#}");
                if let Some((_, reply)) = self.restart_waiter.take() {
                    let _ = reply.send(Err(ApiError::new(Code::Refused, format!("{error:#}"))));
                }
                self.failures += 1;
                self.retry_later();
            }
        }
    }

    fn launch(&mut self, takeover: bool) -> Result<Dataplane> {
        self.epoch += 1;
        self.states.prepare(&self.config.spec, self.installation.layout.workers.len(), true)?;
        self.states.forget(&self.config.spec);
        self.follow_backends();
        let rings = self.installation.rings();
        let mut dataplane = Dataplane::start(&self.options.dataplane())?;
        let told = || -> Result<()> {
            // Who adopts it later must know which process it is; before it has anything, so that the two cannot differ.
            adoption::note_process(&self.options.run_dir, dataplane.pid)?;
            for (message, fds) in self.installation.messages(takeover) {
                dataplane.tell(&message, &fds)?;
            }
            for (message, _inherited) in &rings {
                dataplane.tell(message, &[])?;
            }
            for table in &self.routes {
                let (message, fd) = table.message(self.epoch);
                dataplane.tell(&message, &[fd])?;
            }
            for (message, fd) in self.states.messages() {
                dataplane.tell(message, &[fd])?;
            }
            let (message, fd) = self.snapshot_message()?;
            dataplane.tell(&message, &[fd.as_fd()])?;
            dataplane.tell(&ToDataplane::Start, &[])
        };
        if let Err(error) = told() {
            dataplane.end_and_reap();
            return Err(error);
        }
        self.states.note_sent();
        Ok(dataplane)
    }

    fn snapshot_message(&self) -> Result<(ToDataplane, rustix::fd::OwnedFd)> {
        let bytes = self.config.spec.to_bytes();
        let fd = sealed_bytes("zsync-config", &bytes)?;
        Ok((ToDataplane::Snapshot { epoch: self.epoch, len: bytes.len() as u64 }, fd))
    }

    /// Gives the running data plane the configuration anew, as the next epoch.
    pub(super) fn send_snapshot(&mut self) {
        self.epoch += 1;
        match self.states.unsent() {
            Ok(states) => states.iter().for_each(|(message, fd)| self.tell(message, &[fd.as_fd()])),
            Err(error) => tracing::error!("the memory of stages cannot be handed over: {error:#}"),
        }
        match self.snapshot_message() {
            Ok((message, fd)) => self.tell(&message, &[fd.as_fd()]),
            Err(error) => tracing::error!("the configuration cannot be handed over: {error:#}"),
        }
    }

    /// Gives the running data plane the FIBs anew, as the next epoch.
    pub(super) fn send_fibs(&mut self) {
        self.epoch += 1;
        let messages: Vec<_> = self
            .routes
            .iter()
            .filter_map(|table| {
                let (message, fd) = table.message(self.epoch);
                Some((message, fd.try_clone_to_owned().ok()?))
            })
            .collect();
        for (message, fd) in messages {
            self.tell(&message, &[fd.as_fd()]);
        }
    }

    /// Tells the data plane something, if there is one; one that does not listen is ended.
    pub(super) fn tell(&mut self, message: &ToDataplane, fds: &[BorrowedFd<'_>]) {
        let Some(dataplane) = &mut self.dataplane else { return };
        if let Err(error) = dataplane.tell(message, fds) {
            tracing::error!(pid = dataplane.pid, "the data plane does not listen and is ended: {error:#}");
            dataplane.end();
        }
    }

    pub(super) fn on_dataplane(&mut self, event: Event) {
        match event {
            Event::Said(message, _) => self.on_message(message),
            Event::Misbehaved(what) => {
                if let Some(dataplane) = &mut self.dataplane {
                    tracing::error!(
                        pid = dataplane.pid,
                        "the data plane sent what it must not, and is ended: {what}"
                    );
                    // Its successor starts when it has ended: two over one memory would be worse than none.
                    dataplane.end();
                }
            }
            Event::Ended(how) => self.on_end(how),
        }
    }

    fn on_message(&mut self, message: FromDataplane) {
        match message {
            FromDataplane::Ready { sandboxed, .. } => self.sandboxed = sandboxed,
            FromDataplane::Started => self.on_started(),
            FromDataplane::Adopted { epoch } => self.on_adopted(epoch),
            FromDataplane::Audit { id, workers } => {
                if let Some(reply) = self.audits.remove(&id) {
                    let _ = reply.send(Ok(self.ledger(&workers)));
                }
            }
            FromDataplane::Tasks { id, worker, tasks, left_out, late } => {
                self.hear_tasks(id, worker, tasks, left_out, late);
            }
            FromDataplane::TasksEnd { id } => self.end_tasks(id),
            FromDataplane::Failed { what } => tracing::error!("the data plane says: {what}"),
            FromDataplane::Replayed(_) | FromDataplane::ReplayEnd | FromDataplane::Stopped => {}
        }
    }

    fn on_started(&mut self) {
        if let Err(error) = self.installation.steer_to_sockets() {
            tracing::error!("packets cannot be steered to the data plane: {error:#}");
        }
        let gap = match self.phase.kind {
            Kind::Gone { since } | Kind::Starting { since } => since.elapsed(),
            Kind::Running { .. } => Duration::ZERO,
        };
        tracing::info!(microseconds = gap.as_micros() as u64, "packets flow");
        self.failures = 0;
        self.phase = Phase { kind: Kind::Running { since: Instant::now() }, fallen: Vec::new(), retry: None };
        let epoch = self.epoch;
        self.on_adopted(epoch);
        if let Some((since, reply)) = self.restart_waiter.take() {
            let pid = self.dataplane.as_ref().map_or(0, |d| d.pid);
            let gap_us = Some(since.elapsed().as_micros() as u64);
            let _ = reply.send(Ok(Answer::Restarted(Restarted { pid, gap_us })));
        }
    }

    /// All workers have left the epochs before this one.
    fn on_adopted(&mut self, epoch: u64) {
        let (done, waiting) = self.waiters.drain(..).partition(|waiter| waiter.epoch <= epoch);
        self.waiters = waiting;
        let done: Vec<super::core::Waiter> = done;
        for mut waiter in done {
            if let Answer::Applied(applied) = &mut waiter.answer {
                applied.adopted_us = Some(waiter.since.elapsed().as_micros() as u64);
            }
            let _ = waiter.reply.send(Ok(waiter.answer));
        }
    }

    /// The data plane is gone.
    fn on_end(&mut self, how: String) {
        let gone = Instant::now();
        let pid = self.dataplane.take().map(|dataplane| dataplane.pid);
        tracing::warn!(pid, "the data plane ended: {how}");
        self.last_exit = Some(how);
        self.leave_unanswered();
        match self.phase.kind {
            Kind::Running { since } => {
                self.failures = 0;
                // One that dies as soon as it runs gets the patience of one that cannot start.
                if since.elapsed() < Duration::from_millis(50) {
                    self.failures = 1;
                }
                self.phase.kind = Kind::Gone { since: gone };
            }
            Kind::Gone { .. } | Kind::Starting { .. } => self.failures += 1,
        }
        if self.options.no_respawn && self.restart_waiter.is_none() {
            tracing::warn!("no successor is started (--no-respawn)");
            return;
        }
        if self.failures == 0 {
            self.restarts += 1;
            self.start_dataplane();
        } else {
            self.retry_later();
        }
    }

    fn retry_later(&mut self) {
        let wait = Duration::from_millis(20) * 2u32.pow(self.failures.min(8));
        self.phase.retry = Some(Instant::now() + wait.min(SLOWEST_RETRY));
    }

    /// When something is due that does not announce itself.
    pub(super) fn deadline(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let grace = match self.phase.kind {
            Kind::Gone { since } => self
                .installation
                .ports
                .iter()
                .filter(|port| !self.phase.fallen.contains(&port.spec.id.0))
                .map(|port| since + port.spec.grace)
                .min(),
            _ => None,
        };
        let confirm = self.unconfirmed.as_ref().map(|unconfirmed| unconfirmed.deadline);
        [grace, confirm, self.phase.retry].into_iter().flatten().min().unwrap_or(far)
    }

    pub(super) async fn on_time(&mut self) {
        let now = Instant::now();
        self.next_tick = now + TICK;
        self.fall_back(now);
        if self.phase.retry.is_some_and(|retry| retry <= now) {
            self.restarts += u64::from(self.launched);
            self.start_dataplane();
        }
        self.check_hearts(now);
        self.free_memory();
        self.captures.look(&self.config.spec, &self.states);
        self.blocks.look(&self.config.spec, &self.states);
        if self.unconfirmed.as_ref().is_some_and(|unconfirmed| unconfirmed.deadline <= now) {
            self.take_back().await;
        }
    }

    /// Ports whose grace has run out go without the data plane.
    fn fall_back(&mut self, now: Instant) {
        let Kind::Gone { since } = self.phase.kind else { return };
        for port in &mut self.installation.ports {
            let number = port.spec.id.0;
            if self.phase.fallen.contains(&number) || now < since + port.spec.grace {
                continue;
            }
            let Some(ingress) = &mut port.ingress else {
                // Its packets wait in the kernel, which drops what is too much.
                self.phase.fallen.push(number);
                continue;
            };
            match ingress.clear_sockets() {
                Ok(()) => tracing::warn!(
                    port = port.spec.name,
                    failover = if port.spec.failover == zsync_pipelines::spec::Failover::Open {
                        "open: the kernel takes its packets"
                    } else {
                        "closed: its packets are dropped"
                    },
                    "no data plane within grace"
                ),
                Err(error) => tracing::error!(port = port.spec.name, %error, "it cannot fall back"),
            }
            self.phase.fallen.push(number);
        }
    }

    fn check_hearts(&mut self, now: Instant) {
        let Some(dataplane) = &mut self.dataplane else { return };
        let hung = match self.phase.kind {
            Kind::Running { since } if now.duration_since(since) > HANG => {
                let clock = monotonic();
                self.installation
                    .stats
                    .iter()
                    .position(|worker| clock.saturating_sub(worker.heartbeat()) > HANG.as_nanos() as u64)
                    .map(|worker| format!("worker {worker} has not beaten its heart for {HANG:?}"))
            }
            Kind::Running { .. } => None,
            _ => (now.duration_since(dataplane.since) > START)
                .then(|| format!("it has not started within {START:?}")),
        };
        if let Some(why) = hung {
            tracing::error!(pid = dataplane.pid, "the data plane hangs and is ended: {why}");
            dataplane.end();
        }
    }

    /// What the FIB no longer uses may be used again once every worker has ended its pass.
    fn free_memory(&mut self) {
        let passes: Option<Vec<u64>> = self
            .dataplane
            .is_some()
            .then(|| self.installation.stats.iter().map(|worker| worker.passes()).collect());
        for table in &mut self.routes {
            table.reclaim(passes.as_deref());
        }
    }

    /// Starts the data plane anew over the same descriptors.
    pub(super) async fn restart_dataplane(&mut self, reply: super::core::ReplyTo) {
        let since = Instant::now();
        self.restart_waiter = Some((since, reply));
        if self.dataplane.is_some() {
            self.stop_dataplane().await;
        }
        if matches!(self.phase.kind, Kind::Running { .. }) {
            self.phase.kind = Kind::Gone { since };
        }
        self.restarts += 1;
        self.start_dataplane();
    }

    /// Ends the data plane in order: it sends what it has.
    pub(super) async fn stop_dataplane(&mut self) {
        self.tell(&ToDataplane::Stop, &[]);
        if let Some(mut dataplane) = self.dataplane.take() {
            let how = dataplane.ended(Duration::from_secs(2)).await;
            tracing::info!(pid = dataplane.pid, "the data plane was stopped: {how}");
            self.last_exit = Some(how);
        }
        self.leave_unanswered();
    }

    /// Whoever has asked something of a data plane that is gone hears that.
    fn leave_unanswered(&mut self) {
        let asked = self.tasks_asked.drain().map(|(id, asked)| (id, asked.reply));
        for (_, reply) in self.audits.drain().chain(asked) {
            let error = ApiError::new(Code::Unavailable, "the data plane ended before it answered");
            let _ = reply.send(Err(error));
        }
    }

    /// Ends everything: the kernel has its ports back, and nothing of ours is left.
    pub(super) async fn stop(mut self) {
        for port in &mut self.installation.ports {
            let _ = port.ingress.as_mut().map(Hook::clear_sockets);
        }
        self.stop_dataplane().await;
        self.blocks.finish(&self.config.spec, &self.states);
        let Self { installation, options, paths, .. } = self;
        installation.close(&paths);
        for file in [adoption::PROCESS, "dataplane.sock"] {
            let _ = std::fs::remove_file(options.run_dir.join(file));
        }
        // Only if nothing of anybody else's is in it.
        let _ = std::fs::remove_dir(&options.bpffs);
        tracing::info!("stopped; the kernel has the ports");
    }
}

/// The workers' clock, in nanoseconds.
pub(super) fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
