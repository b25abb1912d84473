//! The server: connections, each a task of its own, each request of them handed to the daemon.
//!
//! Invariant: whatever a client does (sends half a line, reads nothing, goes away, comes a thousand times), the others are
//! served; and a request that its peer may not make never reaches the daemon.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::MAX_LINE;
use super::access::{Credentials, Groups, Peer, Role};
use super::answer::Answer;
use super::error::{ApiError, Code};
use super::line::{LineError, next_line};
use super::reply::Reply;
use super::request::Request;
use super::socket::{BindError, Bound};

/// A request on its way to the daemon.
#[derive(Debug)]
pub struct Call {
    /// What is asked for; its peer may ask for it.
    pub request: Request,
    /// Who asks.
    pub who: Peer,
    /// Where the answer goes. Nobody may be waiting any more.
    pub reply: oneshot::Sender<Result<Answer, ApiError>>,
}

/// How much clients get.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Of these, at most so many of peers that may only look: they cannot keep administrators out.
    pub readers: usize,
    /// How long a connection may be quiet between requests.
    pub idle: Duration,
    /// How long a request may take to arrive once it has begun, and an answer to be taken.
    pub transfer: Duration,
    /// How long the daemon may take for an answer.
    pub answer: Duration,
    /// The longest request, bytes.
    pub line: usize,
}

/// The longest request of a peer that may only look: there may be many of them, and their requests lie in memory.
const READERS_LINE: usize = 16 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            readers: 48,
            idle: Duration::from_secs(300),
            transfer: Duration::from_secs(10),
            answer: Duration::from_secs(120),
            line: MAX_LINE,
        }
    }
}

/// A socket that listens. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct Server {
    bound: Bound,
    listener: UnixListener,
    limits: Limits,
}

impl Server {
    /// Listens at `path`, for root and the members of `groups`. Within a tokio runtime.
    ///
    /// # Errors
    /// Somebody listens there already, or the kernel refuses: the error says what and why.
    pub fn bind(path: &Path, groups: &Groups) -> Result<Self, BindError> {
        let (bound, listener) = Bound::new(path, groups)?;
        let listener = UnixListener::from_std(listener).map_err(|error| BindError::Refused {
            path: path.to_owned(),
            what: "wait for connections",
            error,
        })?;
        Ok(Self { bound, listener, limits: Limits::default() })
    }

    /// The same, with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.bound.path
    }

    /// Sets the file's permissions anew, after the groups were changed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn permit(&self, groups: &Groups) -> io::Result<()> {
        self.bound.permit(groups)
    }

    /// Serves until it is dropped, which ends all connections, or until nobody receives `calls` any more. `role` is asked once
    /// for each connection: [`Groups::role`], or what a test likes.
    pub async fn serve(
        &self,
        calls: mpsc::Sender<Call>,
        role: impl Fn(Credentials) -> Option<Role> + Send + Sync + 'static,
    ) {
        let all = Arc::new(Semaphore::new(self.limits.connections));
        let readers = Arc::new(Semaphore::new(self.limits.readers));
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                () = calls.closed() => return,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of descriptors or memory: the connection waits in the backlog, so accept would fail at once again.
                        tracing::warn!(%error, "API: cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let Some(who) = credentials(&stream) else { continue };
            let Some(role) = role(who) else {
                tracing::info!(uid = who.uid, pid = who.pid, "API: refused");
                turn_away(stream, forbidden_to_all(who.uid));
                continue;
            };
            let seat = Arc::clone(&all).try_acquire_owned();
            let reader = (role == Role::Reader).then(|| Arc::clone(&readers).try_acquire_owned()).transpose();
            let (Ok(seat), Ok(reader)) = (seat, reader) else {
                turn_away(stream, busy(&self.limits));
                continue;
            };
            let peer = Peer { uid: who.uid, pid: who.pid, role };
            let connection = Connection { peer, calls: calls.clone(), limits: self.limits };
            connections.spawn(async move {
                connection.run(stream).await;
                drop((seat, reader));
            });
        }
    }
}

fn credentials(stream: &UnixStream) -> Option<Credentials> {
    let who = stream.peer_cred().ok()?;
    Some(Credentials { uid: who.uid(), gid: who.gid(), pid: who.pid() })
}

/// Says why, without waiting: a fresh socket has room for a line.
fn turn_away(stream: UnixStream, error: ApiError) {
    // Not by tokio's `try_write`: it does not try before the event loop has seen the socket writable.
    let _ = stream.into_std().and_then(|mut stream| stream.write(&Reply::line(None, Err(error))));
}

fn forbidden_to_all(uid: u32) -> ApiError {
    ApiError::new(Code::Forbidden, format!("user {uid} may not use this API")).remedy(
        "use root, or an account in the group that `control.admin-group` or `control.read-group` names",
    )
}

fn busy(limits: &Limits) -> ApiError {
    let (connections, readers) = (limits.connections, limits.readers);
    let message = format!("the API serves {connections} connections, {readers} of them to read");
    ApiError::new(Code::Busy, message).remedy("close some, or come again")
}

/// One connection.
struct Connection {
    peer: Peer,
    calls: mpsc::Sender<Call>,
    limits: Limits,
}

impl Connection {
    async fn run(self, stream: UnixStream) {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        let most = match self.peer.role {
            Role::Reader => self.limits.line.min(READERS_LINE),
            _ => self.limits.line,
        };
        let limits = (self.limits.idle, self.limits.transfer, most);
        loop {
            let (reply, last) = match next_line(&mut read, limits).await {
                Ok(Some(line)) => (self.reply_to(&line).await, false),
                Ok(None) | Err(LineError::Gone) => return,
                Err(LineError::TooLong) => {
                    let message = format!("a request has at most {most} bytes");
                    (Reply::line(None, Err(ApiError::new(Code::TooLarge, message))), true)
                }
                Err(LineError::Slow) => {
                    let message = format!("the request did not arrive within {:?}", self.limits.transfer);
                    (Reply::line(None, Err(ApiError::new(Code::Timeout, message))), true)
                }
            };
            let written = timeout(self.limits.transfer, write.write_all(&reply)).await;
            if last || !matches!(written, Ok(Ok(()))) {
                return;
            }
        }
    }

    async fn reply_to(&self, line: &[u8]) -> Vec<u8> {
        match Request::read(line) {
            Ok((id, request)) => Reply::line(Some(id), self.call(request).await),
            Err((id, error)) => Reply::line(id, Err(error)),
        }
    }

    async fn call(&self, request: Request) -> Result<Answer, ApiError> {
        let method = request.method();
        if self.peer.role < Role::Admin && !request.only_looks() {
            let message = format!("user {} may look, but `{method}` changes things", self.peer.uid);
            return Err(ApiError::new(Code::Forbidden, message)
                .remedy("use root, or an account in the group that `control.admin-group` names"));
        }
        let (reply, answer) = oneshot::channel();
        let call = Call { request, who: self.peer, reply };
        let exchange = async {
            let unavailable = || ApiError::new(Code::Unavailable, "zsync-control is ending");
            self.calls.send(call).await.map_err(|_| unavailable())?;
            answer.await.map_err(|_| ApiError::new(Code::Internal, format!("`{method}` was given up")))?
        };
        timeout(self.limits.answer, exchange).await.unwrap_or_else(|_| {
            let message = format!("`{method}` has taken {:?} and may still be done", self.limits.answer);
            Err(ApiError::new(Code::Timeout, message).remedy("look at `zsyncctl status`"))
        })
    }
}
