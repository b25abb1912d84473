//! Changing the configuration: planned, applied as a whole or not at all, confirmed or taken back.

use super::adoption::{identity, mirror, port_numbers};
use super::core::{Config, Daemon, ReplyTo, Unconfirmed, Waiter, tables_of};
use super::history::{Entry, Objects};
use super::installation::{Installation, Wanted};
use super::supervisor::{Kind, Phase};
use crate::api::{Answer, ApiError, Applied, Call, Code, Confirmed, Plan, Request, Rollback, Source};
use crate::keys;
use crate::programs::Programs;
use crate::xdp::Hook;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use zsync_pipelines::spec::wireguard::keep_room;
use zsync_pipelines::spec::{self, Change, Diagnostic, Effect, Parsed, Spec};
use zsync_wireguard::key::Secret;

/// What a configuration comes of that is not read from files.
pub(super) struct Past {
    /// It has the programs and lists that this one had.
    pub entry: Entry,
    /// Keys that are not read anew, by path.
    pub keys: BTreeMap<String, Secret>,
}

impl Daemon {
    /// Deals with a request.
    pub(super) async fn answer(&mut self, call: Call) {
        let Call { request, who, reply } = call;
        match request {
            Request::Plan(source) => {
                let _ = reply.send(self.plan(&source, who.uid));
            }
            Request::Apply(source) => self.apply(source, who.uid, reply).await,
            Request::Rollback(rollback) => self.rollback(rollback, who.uid, reply).await,
            Request::Confirm => {
                let _ = reply.send(self.confirm());
            }
            Request::RestartDataplane if self.restart_waiter.is_some() => {
                let _ = reply.send(Err(ApiError::new(Code::Busy, "it is being restarted already")));
            }
            Request::RestartDataplane => self.restart_dataplane(reply).await,
            Request::Drain(drain) => {
                let _ = reply.send(self.drain(&drain));
            }
            Request::Status => {
                let _ = reply.send(Ok(self.status()));
            }
            Request::Show(show) => self.show(&show, reply),
            Request::Explain(explain) => {
                let _ = reply.send(self.explain(&explain));
            }
        }
    }

    fn plan(&self, source: &Source, uid: u32) -> Result<Answer, ApiError> {
        let (mut parsed, _) = keys::parse(&source.config, &source.file, |_| None)
            .map_err(|errors| ApiError::invalid_config(for_eyes_of(uid, errors)))?;
        keep_room(&mut parsed, &self.config.spec);
        let Parsed { spec, warnings, .. } = parsed;
        let refused = |error| ApiError::new(Code::Refused, error);
        let programs = Programs::read(&spec, &source.file).map_err(|error| refused(format!("{error:#}")))?;
        let checked = programs.verify(&self.config.programs, &self.paths.scratch());
        checked.map_err(|error| refused(error.to_string()))?;
        let mut changes = spec::diff(&self.config.spec, &spec);
        changes.extend(programs.replaced(&self.config.programs));
        let summary = summary(&changes);
        Ok(Answer::Plan(Plan { changes, warnings, summary }))
    }

    async fn apply(&mut self, source: Source, uid: u32, reply: ReplyTo) {
        self.apply_with(source, None, uid, reply).await;
    }

    /// Puts a configuration in force; with what an entry of the history had in its files, when it comes of one.
    pub(super) async fn apply_with(&mut self, source: Source, past: Option<Past>, uid: u32, reply: ReplyTo) {
        let (past, known) = past.map(|Past { entry, keys }| (entry, keys)).unzip();
        let kept = |path: &str| past.as_ref().and_then(|entry| self.history.object(entry, path));
        let known = known.unwrap_or_default();
        let (mut parsed, lists) = match keys::parse_knowing(&source.config, &source.file, kept, &known) {
            Ok(read) => read,
            Err(errors) => {
                let _ = reply.send(Err(ApiError::invalid_config(for_eyes_of(uid, errors))));
                return;
            }
        };
        keep_room(&mut parsed, &self.config.spec);
        let programs = match &past {
            Some(entry) => self.programs_of(&parsed.spec, entry),
            None => Programs::read(&parsed.spec, &source.file),
        };
        let programs = match programs {
            Ok(programs) => programs,
            Err(error) => {
                let error = ApiError::new(Code::Refused, format!("{error:#}"));
                let _ = reply.send(Err(error.remedy("nothing has changed")));
                return;
            }
        };
        // What is not confirmed itself is nothing to go back to.
        let previous = self.unconfirmed.as_ref().map_or(self.config.entry.number, |u| u.previous);
        let mut objects = programs.contents(&parsed.spec);
        objects.extend(lists.contents());
        let entry = match self.history.add(&source.config, &source.file, uid, &objects) {
            Ok(entry) => entry,
            Err(error) => {
                let _ = reply.send(Err(ApiError::new(Code::Refused, format!("{error:#}"))));
                return;
            }
        };
        let confirm = source.confirm_ms.map(Duration::from_millis);
        self.change(entry, parsed, programs, confirm.map(|wait| (wait, previous)), reply).await;
    }

    fn programs_of(&self, spec: &Spec, entry: &Entry) -> Result<Programs> {
        Programs::recall(spec, &entry.file, |path| self.history.object(entry, path))
    }

    async fn rollback(&mut self, rollback: Rollback, uid: u32, reply: ReplyTo) {
        let found = match rollback.to {
            Some(number) => self.history.find(Some(number)).cloned(),
            None => self
                .history
                .entries()
                .iter()
                .rev()
                .find(|entry| {
                    entry.number < self.config.entry.number && !self.reverted.contains(&entry.number)
                })
                .cloned(),
        };
        let Some(entry) = found else {
            let message = match rollback.to {
                Some(number) => format!("there is no configuration {number} in the history"),
                None => "there is no configuration before this one".to_owned(),
            };
            let _ =
                reply.send(Err(ApiError::new(Code::NotFound, message).remedy("see `zsyncctl show history`")));
            return;
        };
        let text = match self.history.text(&entry) {
            Ok(text) => text,
            Err(error) => {
                let _ = reply.send(Err(ApiError::new(Code::NotFound, format!("{error:#}"))));
                return;
            }
        };
        let source = Source {
            config: text,
            file: format!("{} (number {})", entry.file, entry.number),
            confirm_ms: None,
        };
        let past = Past { entry, keys: BTreeMap::new() };
        self.apply_with(source, Some(past), uid, reply).await;
    }

    fn confirm(&mut self) -> Result<Answer, ApiError> {
        match self.unconfirmed.take() {
            Some(_) => Ok(Answer::Confirmed(Confirmed { number: self.config.entry.number })),
            None => Err(ApiError::new(Code::Conflict, "no configuration waits to be confirmed")),
        }
    }

    /// Nobody confirmed the configuration in force: the one before it comes back.
    pub(super) async fn take_back(&mut self) {
        let Some(Unconfirmed { previous, .. }) = self.unconfirmed.take() else { return };
        let number = self.config.entry.number;
        tracing::warn!(number, previous, "nobody confirmed the configuration: it is taken back");
        let back = async {
            let entry =
                self.history.find(Some(previous)).context("the one before is not in the history")?.clone();
            let text = self.history.text(&entry)?;
            let (mut parsed, lists) =
                keys::parse(&text, &entry.file, |path| self.history.object(&entry, path))
                    .map_err(|_| anyhow::anyhow!("configuration {previous} is not valid any more"))?;
            keep_room(&mut parsed, &self.config.spec);
            // Newest again, so that a restart finds it.
            let programs = self.programs_of(&parsed.spec, &entry)?;
            let mut objects = programs.contents(&parsed.spec);
            objects.extend(lists.contents());
            let entry = self.history.add(&text, &entry.file, entry.uid, &objects)?;
            let changes = spec::diff(&self.config.spec, &parsed.spec);
            self.put_in_force(Config { entry, spec: parsed.spec, programs }, &changes).await
        };
        match back.await {
            Ok(_) => self.reverted.push(number),
            Err(error) => tracing::error!("it could not be taken back: {error:#}"),
        }
    }

    async fn change(
        &mut self,
        entry: Entry,
        parsed: Parsed,
        programs: Programs,
        confirm: Option<(Duration, u64)>,
        reply: ReplyTo,
    ) {
        let since = Instant::now();
        let mut changes = spec::diff(&self.config.spec, &parsed.spec);
        changes.extend(programs.replaced(&self.config.programs));
        let number = entry.number;
        let config = Config { entry, spec: parsed.spec, programs };
        let respawned = match self.put_in_force(config, &changes).await {
            Ok(respawned) => respawned,
            Err(error) => {
                // What is in force must be the newest again, so that a restart finds it.
                if number != self.config.entry.number {
                    self.reverted.push(number);
                }
                self.restore_newest();
                let error = ApiError::new(Code::Refused, format!("{error:#}")).remedy(match self.fatal {
                    None => "the configuration before is in force again",
                    Some(_) => "zsync-control ends, and must be started anew",
                });
                let _ = reply.send(Err(error));
                return;
            }
        };
        self.unconfirmed =
            confirm.map(|(wait, previous)| Unconfirmed { deadline: Instant::now() + wait, previous });
        let answer = Answer::Applied(Applied {
            number,
            epoch: self.epoch,
            adopted_us: None,
            respawned,
            changes,
            warnings: parsed.warnings,
            confirm_ms: confirm.map(|(wait, _)| wait.as_millis() as u64),
        });
        if self.dataplane.is_some() {
            self.waiters.push(Waiter { epoch: self.epoch, since, reply, answer });
        } else {
            let _ = reply.send(Ok(answer));
        }
    }

    pub(super) fn restore_newest(&mut self) {
        let entry = self.config.entry.clone();
        let kept = self.history.objects(&entry);
        let mut objects: Objects<'_> =
            kept.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        objects.extend(self.config.programs.contents(&self.config.spec));
        if let Ok(text) = self.history.text(&entry)
            && let Ok(entry) = self.history.add(&text, &entry.file, entry.uid, &objects)
        {
            self.config.entry = entry;
        }
    }

    /// Puts a configuration in force, which differs by these changes from the one that is. On error that one is in force
    /// again. Returns whether the data plane was started anew for it.
    pub(super) async fn put_in_force(&mut self, config: Config, changes: &[Change]) -> Result<bool> {
        self.blocks.finish(&self.config.spec, &self.states);
        // A netdev that went away is opened anew, whatever the configuration says.
        let gone = |routes: &super::routes::Routes| {
            let mut ports = self.installation.ports.iter().filter(|port| port.ifindex != 0);
            ports.any(|port| routes.netlink().mirror().link(port.ifindex).is_none())
        };
        let gone = self.routes.first().is_some_and(gone);
        let live = !gone && changes.iter().all(|change| change.effect == Effect::Live);
        if live {
            self.put_in_force_live(config).await?;
        } else {
            self.rebuild(config).await?;
        }
        Ok(!live)
    }

    /// Steering, block lists, grace, pipelines: no packet notices.
    async fn put_in_force_live(&mut self, config: Config) -> Result<()> {
        // All of them before any is put in force: wholly or not at all.
        config.programs.verify(&self.config.programs, &self.paths.scratch())?;
        let mut fresh = None;
        if tables_of(&config.spec) != tables_of(&self.config.spec)
            || config.spec.vlans != self.config.spec.vlans
        {
            let ports = port_numbers(&self.installation, &config.spec);
            fresh = Some(mirror(&config.spec, &ports).await?);
        }
        let workers = self.installation.layout.workers.len();
        let still = self.dataplane.is_none();
        let applied = self.installation.apply_live(config.wanted(), &self.paths);
        // Last of what may fail: memory that was replaced cannot be had back.
        if let Err(error) = applied.and_then(|()| self.states.prepare(&config.spec, workers, still)) {
            if let Err(error) = self.installation.apply_live(self.config.wanted(), &self.paths) {
                tracing::error!("the steering before could not be restored: {error:#}");
            }
            return Err(error);
        }
        if let Some(fresh) = fresh {
            self.routes = fresh;
            self.send_fibs();
            self.follow_ports();
        }
        self.config = config;
        self.tell_local_addresses();
        self.send_snapshot();
        self.states.forget(&self.config.spec);
        self.follow_backends();
        Ok(())
    }

    /// Ports, queues, rings, workers: everything is opened anew, while the kernel (or nobody, on ports that fail closed)
    /// takes the packets.
    async fn rebuild(&mut self, config: Config) -> Result<()> {
        self.installation.check(config.wanted(), &self.config.programs, &self.paths)?;
        identity(&config.spec.engine.user)?;
        let mut cleared = Ok(());
        for port in &mut self.installation.ports {
            cleared = cleared.and_then(|()| port.ingress.as_mut().map_or(Ok(()), Hook::clear_sockets));
        }
        if let Err(error) = cleared {
            // What came to the ports that were cleared goes to the data plane again.
            self.installation.steer_to_sockets()?;
            return Err(error.into());
        }
        self.stop_dataplane().await;
        self.blocks.finish(&self.config.spec, &self.states);
        let before = self.config.clone();
        match self.reopen(config.wanted()).await {
            Ok(()) => self.config = config,
            Err(error) => {
                let error = error.context("nothing has changed");
                if let Err(worse) = self.reopen(before.wanted()).await {
                    let worse =
                        worse.context("neither the new configuration nor the one before can be put in force");
                    self.fatal = Some(worse);
                    return Err(error.context("the one before cannot be put in force again either"));
                }
                self.begin_anew();
                return Err(error);
            }
        }
        self.begin_anew();
        Ok(())
    }

    fn begin_anew(&mut self) {
        self.tell_local_addresses();
        // What they are told is said when it starts.
        self.look_at_ports();
        self.phase =
            Phase { kind: Kind::Starting { since: Instant::now() }, fallen: Vec::new(), retry: None };
        self.launched = false;
        self.start_dataplane();
    }

    /// Opens what `spec` asks for in the place of what is open. The programs of ports that stay are adopted from their
    /// pins, so that their filters never lapse.
    async fn reopen(&mut self, wanted: Wanted<'_>) -> Result<()> {
        let spec = wanted.spec;
        let identity = identity(&spec.engine.user)?;
        let mut kept = self.installation.release(spec)?;
        // What stages keep is found by hashes under the old secret.
        let secret = self.installation.layout.secret;
        self.installation = match Installation::open(wanted, &self.paths, identity, secret, &mut kept) {
            Ok(opened) => opened,
            Err(error) => {
                self.installation.take_back(kept);
                return Err(error);
            }
        };
        let ports = port_numbers(&self.installation, spec);
        self.routes = mirror(spec, &ports).await?;
        Ok(())
    }
}

/// What is wrong, without what stands in files that only root may perhaps read, unless root asks.
fn for_eyes_of(uid: u32, errors: Vec<Diagnostic>) -> Vec<Diagnostic> {
    if uid == 0 { errors } else { errors.into_iter().map(Diagnostic::discreet).collect() }
}

fn summary(changes: &[Change]) -> String {
    let Some(worst) = changes.iter().map(|change| &change.effect).max() else {
        return "nothing would change".to_owned();
    };
    let what = match worst {
        Effect::Live => "no packet notices",
        _ => "sockets are opened anew: for some milliseconds packets go by each port's failover",
    };
    format!("{} change{}; {what}", changes.len(), if changes.len() == 1 { "" } else { "s" })
}
