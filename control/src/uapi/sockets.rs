//! Which sockets there are: one for each tunnel of the configuration in force.

use super::connection::{Connection, Limits};
use super::{Call, Refused};
use crate::api::Bound;
use rustix::process::geteuid;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long until a socket that could not be had is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest name that `wg` takes (IFNAMSIZ).
const LONGEST_NAME: usize = 15;

/// The sockets. Dropping them removes their files and ends all connections.
#[derive(Debug)]
pub struct Sockets {
    folder: Option<PathBuf>,
    calls: mpsc::Sender<Call>,
    limits: Limits,
    served: BTreeMap<String, Served>,
    /// What was said of sockets that cannot be had.
    missing: BTreeMap<String, String>,
    next_try: Instant,
}

#[derive(Debug)]
struct Served {
    _bound: Bound,
    refused: Refused,
    /// Ends with the value.
    _task: JoinSet<()>,
}

impl Sockets {
    /// None yet; in `folder` if there is one, else none ever.
    #[must_use]
    pub fn new(folder: Option<&Path>, calls: mpsc::Sender<Call>) -> Self {
        Self {
            folder: folder.map(Path::to_owned),
            calls,
            limits: Limits::default(),
            served: BTreeMap::new(),
            missing: BTreeMap::new(),
            next_try: Instant::now(),
        }
    }

    /// The same, with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Requests to a tunnel that were refused, by reason.
    #[must_use]
    pub fn refused(&self, tunnel: &str) -> BTreeMap<String, u64> {
        self.served.get(tunnel).map(|served| served.refused.counts()).unwrap_or_default()
    }

    /// Serves these tunnels and no others. One whose socket is somebody else's is named in the log, and tried again later. Within a tokio
    /// runtime.
    pub fn follow<'n>(&mut self, tunnels: impl Iterator<Item = &'n str> + Clone) {
        let Some(folder) = &self.folder else { return };
        let stays = |name: &String| tunnels.clone().any(|tunnel| tunnel == name);
        self.served.retain(|name, _| stays(name));
        self.missing.retain(|name, _| stays(name));
        let now = Instant::now();
        for name in tunnels.clone() {
            if self.served.contains_key(name) || self.missing.contains_key(name) && now < self.next_try {
                continue;
            }
            let path = folder.join(format!("{name}.sock"));
            match serve(&path, name, &self.calls, self.limits) {
                Ok(served) => {
                    self.missing.remove(name);
                    self.served.insert(name.to_owned(), served);
                    if name.len() > LONGEST_NAME {
                        tracing::warn!(
                            tunnel = name,
                            "`wg` takes names of at most {LONGEST_NAME} characters"
                        );
                    }
                }
                Err(error) => {
                    if self.missing.get(name) != Some(&error) {
                        tracing::error!(
                            tunnel = name,
                            "`wg` cannot be served: {error}; this is tried again, and nothing else of the tunnel depends on it"
                        );
                    }
                    self.missing.insert(name.to_owned(), error);
                    self.next_try = now + AGAIN;
                }
            }
        }
    }
}

fn serve(path: &Path, name: &str, calls: &mpsc::Sender<Call>, limits: Limits) -> Result<Served, String> {
    let (bound, listener) = Bound::private(path).map_err(|error| error.to_string())?;
    let listener = UnixListener::from_std(listener).map_err(|error| error.to_string())?;
    let mut task = JoinSet::new();
    let refused = Refused::default();
    task.spawn(accept(listener, name.to_owned(), calls.clone(), limits, refused.clone()));
    Ok(Served { _bound: bound, refused, _task: task })
}

/// Serves until it is dropped. Who comes when there are too many waits in the backlog.
async fn accept(
    listener: UnixListener,
    tunnel: String,
    calls: mpsc::Sender<Call>,
    limits: Limits,
    refused: Refused,
) {
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= limits.connections {
            connections.join_next().await;
        }
        let stream = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors or memory: the connection waits in the backlog, so accept would fail at once again.
                    tracing::warn!(tunnel, %error, "cannot accept a connection of `wg`");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let Ok(who) = stream.peer_cred() else { continue };
        if who.uid() != 0 && who.uid() != geteuid().as_raw() {
            tracing::warn!(tunnel, uid = who.uid(), pid = who.pid(), "not root: `wg` is refused");
            continue;
        }
        connections
            .spawn(Connection::new(tunnel.clone(), calls.clone(), limits, refused.clone()).run(stream));
    }
}
