//! What `wg` asks of a tunnel: shown from the configuration and the memory that the workers write, or changed as `zsyncctl apply` changes it.
//!
//! Owns: nothing. Keeps true: a change is checked as a whole, is a configuration of the history like any other, and is answered once
//! the data plane has adopted it; keys go into files of the history's own before it names them, and leave them when nothing does; everything
//! that the change does not name is as it was, whatever has become of the files since.

mod back;

use super::change::Past;
use super::core::Daemon;
use super::looks::slices;
use super::wireguard::{book, look};
use crate::api::{Answer, ApiError, Applied, Code, Source};
use crate::keys;
use crate::uapi::{Call, Outcome, text};
use anyhow::{Context as _, Result, ensure};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use zeroize::Zeroizing;
use zsync_pipelines::spec::wireguard::uapi::{Change, Errno, Refusal, Request, Seen, show_end, show_peer};
use zsync_pipelines::spec::wireguard::{KeyFile, WireguardSpec, ends};
use zsync_wireguard::book::Book;
use zsync_wireguard::key::PublicKey;

/// Peers that are written before others have their turn.
const TOGETHER: usize = 256;

impl Daemon {
    /// The sockets are those of the tunnels in force.
    pub(super) fn serve_wg(&mut self) {
        let ends = ends(&self.config.spec);
        self.wg.follow(ends.keys().copied());
    }

    /// Deals with a request of `wg`.
    pub(super) async fn answer_wg(&mut self, call: Call) {
        let Call { tunnel, request, reply } = call;
        let Some(end) = ends(&self.config.spec).get(tunnel.as_str()).copied().cloned() else {
            let gone = Refusal::whole(Errno::NoDevice, "the tunnel has left the configuration");
            let _ = reply.send(Err(gone));
            return;
        };
        match request {
            Request::Get => {
                let book = book(&end, self.states.state(&end.label()));
                self.looks.send(reply, async { Ok(shown(end, book).await) });
            }
            Request::Set(change) => self.change_by_wg(&end, change, reply).await,
        }
    }

    async fn change_by_wg(&mut self, end: &WireguardSpec, change: Change, reply: oneshot::Sender<Outcome>) {
        let back = back::Back::of(&change, end);
        let mut new = change.apply(end);
        if new == *end {
            let book = book(end, self.states.state(&end.label()));
            tokio::spawn(async move {
                back.call(book).await.heeded().await;
                let _ = reply.send(Ok(Zeroizing::default()));
            });
            return;
        }
        let mut files = Vec::new();
        let source = self.admit(end, &new).and_then(|()| {
            self.changed(end, &mut new, &mut files)
                .map_err(|error| Refusal::whole(Errno::Io, format!("{error:#}")))
        });
        let source = match source {
            Ok(source) => source,
            Err(refusal) => {
                self.forget(&files);
                let _ = reply.send(Err(refusal));
                return;
            }
        };
        let (to, answer) = oneshot::channel();
        let past = Past { entry: self.config.entry.clone(), keys: keys::of(&self.config.spec) };
        self.apply_with(source, Some(past), 0, to).await;
        self.forget(&files);
        let (tunnel, peers) = (end.name.clone(), new.peers.len());
        // As it is now: a change may have given the records other memory.
        let book = ends(&self.config.spec)
            .get(tunnel.as_str())
            .and_then(|end| book(end, self.states.state(&end.label())));
        tokio::spawn(async move {
            let outcome = match answer.await {
                Ok(Ok(answer)) => {
                    if let Answer::Applied(Applied { number, .. }) = answer {
                        tracing::info!(tunnel, number, peers, "changed by `wg`");
                    }
                    // Not before: what was refused must have changed nothing.
                    back.call(book).await.heeded().await;
                    Ok(Zeroizing::default())
                }
                Ok(Err(error)) => Err(refusal(&error)),
                Err(_) => Err(Refusal::whole(Errno::Io, "it was given up")),
            };
            let _ = reply.send(outcome);
        });
    }

    /// What keeps a change from being tried.
    fn admit(&self, end: &WireguardSpec, new: &WireguardSpec) -> Result<(), Refusal> {
        if self.unconfirmed.is_some() {
            let what =
                "a configuration waits to be confirmed: `zsyncctl confirm` or `zsyncctl rollback` first";
            return Err(Refusal::whole(Errno::Busy, what));
        }
        let limit = zsync_wireguard::index::MAX_PEERS as usize;
        if new.peers.len() > limit {
            return Err(Refusal::whole(Errno::NoSpace, format!("a tunnel has at most {limit} peers")));
        }
        if new.listen_port != end.listen_port
            && let Some(other) = ends(&self.config.spec).into_values().find(|other| {
                other.name != end.name
                    && other.listen_port == new.listen_port
                    && meet(&end.hears_at(&self.config.spec), &other.hears_at(&self.config.spec))
            })
        {
            let what = format!("UDP port {} is that of [wireguard.{}]", new.listen_port, other.name);
            return Err(Refusal::whole(Errno::InUse, what));
        }
        Ok(())
    }

    /// The configuration in force with `new` in the place of `end`. Keys that are in no file get one, and its path goes to `files`.
    fn changed(
        &self,
        end: &WireguardSpec,
        new: &mut WireguardSpec,
        files: &mut Vec<PathBuf>,
    ) -> Result<Source> {
        let preshared = new.peers.iter_mut().filter_map(|peer| peer.preshared.as_mut());
        for KeyFile { path, secret } in preshared.chain([&mut new.private_key]) {
            let Some(secret) = secret.as_ref().filter(|_| path.is_empty()) else { continue };
            let folder = self.history.keys();
            let file = keys::write(&folder, &end.name, secret)
                .with_context(|| format!("keeping a key in {}", folder.display()))?;
            *path = file.to_str().context("the state's folder has a name that is no text")?.to_owned();
            files.push(file);
        }
        let entry = &self.config.entry;
        let config = text::changed(&self.history.text(entry)?, end, new)?;
        // The history finds them there.
        let is_named = |file: &PathBuf| file.to_str().is_some_and(|file| config.contains(file));
        ensure!(files.iter().all(is_named), "the state's folder has a name that TOML writes in another way");
        Ok(Source { config, file: text::name(&entry.file), confirm_ms: None })
    }

    /// Removes those keys that no configuration names after all.
    fn forget(&self, files: &[PathBuf]) {
        for file in files.iter().filter(|file| !self.history.names_key(file)) {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Whether two ends that have the same port would get the same packets, by where they hear.
fn meet(one: &[IpAddr], other: &[IpAddr]) -> bool {
    one.is_empty() || other.is_empty() || one.iter().any(|address| other.contains(address))
}

/// What the API would say, in the words that `wg` knows.
fn refusal(error: &ApiError) -> Refusal {
    let errno = match error.code {
        Code::InvalidConfig => Errno::Invalid,
        Code::Busy => Errno::Busy,
        _ => Errno::Io,
    };
    let room = error.diagnostics.iter().any(|found| found.message.contains("max-peers"));
    let errno = if room { Errno::NoSpace } else { errno };
    let what = match error.diagnostics.first() {
        Some(first) => first.message.clone(),
        None => error.message.clone(),
    };
    Refusal::whole(errno, what)
}

async fn shown(end: WireguardSpec, book: Option<Book>) -> Zeroizing<String> {
    let mut seen: HashMap<PublicKey, Seen> = HashMap::new();
    if let Some(book) = &book {
        slices(book.slots(), |slots| seen.extend(slots.filter_map(|slot| look(book, slot)))).await;
    }
    let mut out = Zeroizing::new(String::new());
    show_end(&end, &mut out);
    for peers in end.peers.chunks(TOGETHER) {
        for peer in peers {
            show_peer(peer, seen.get(&peer.public_key).copied().unwrap_or_default(), &mut out);
        }
        yield_now().await;
    }
    out
}
