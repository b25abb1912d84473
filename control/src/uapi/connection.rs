//! One connection: requests come, answers go, one after the other.

use super::refused::{Refused, UNFINISHED, why};
use super::{Call, Outcome};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use zeroize::Zeroizing;
use zsync_pipelines::spec::wireguard::uapi::{Errno, LINE, Reader, Refusal, Request, ending};

/// How much clients of a tunnel get.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more wait.
    pub connections: usize,
    /// How long a connection may be quiet between requests.
    pub idle: Duration,
    /// How long a request may take to arrive once it has begun, and an answer to be taken.
    pub transfer: Duration,
    /// How long the daemon may take for an answer.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16,
            idle: Duration::from_secs(30),
            transfer: Duration::from_secs(10),
            answer: Duration::from_secs(120),
        }
    }
}

/// Bytes that are read together.
const CHUNK: usize = 8192;

/// Why there is no request.
enum Ended {
    /// The stream ended or failed, or was quiet for too long, between two requests.
    Gone,
    /// The same, within a request.
    Half,
    /// A request was begun and did not arrive in time.
    Slow,
    /// Lines without end.
    Endless(Refusal),
}

/// See the module. What it reads may be keys, so it is wiped.
pub(super) struct Connection {
    tunnel: String,
    calls: mpsc::Sender<Call>,
    limits: Limits,
    refused: Refused,
    chunk: Zeroizing<Vec<u8>>,
    /// What of it is still to be looked at.
    at: usize,
    end: usize,
    /// A line that came in parts; of one that is too long, as much as shows that.
    line: Zeroizing<Vec<u8>>,
}

impl Connection {
    pub(super) fn new(tunnel: String, calls: mpsc::Sender<Call>, limits: Limits, refused: Refused) -> Self {
        let chunk = Zeroizing::new(vec![0; CHUNK]);
        // Never longer than this, so keys are not moved to and fro.
        let line = Zeroizing::new(Vec::with_capacity(LINE + 1));
        Self { tunnel, calls, limits, refused, chunk, at: 0, end: 0, line }
    }

    /// Serves until the other end goes, or does what nobody need wait for.
    pub(super) async fn run(mut self, mut stream: UnixStream) {
        loop {
            let (outcome, last) = match self.request(&mut stream).await {
                Ok(Ok(request)) => (self.call(request).await, false),
                Ok(Err(refusal)) => (Err(refusal), false),
                Err(Ended::Gone) => return,
                Err(Ended::Half) => {
                    self.refused.count(UNFINISHED);
                    tracing::warn!(tunnel = self.tunnel, "half a request of `wg`: nothing has changed");
                    return;
                }
                Err(Ended::Slow) => {
                    let what = format!("the request did not arrive within {:?}", self.limits.transfer);
                    (Err(Refusal::whole(Errno::Io, what)), true)
                }
                Err(Ended::Endless(refusal)) => (Err(refusal), true),
            };
            let (text, errno) = match outcome {
                Ok(text) => (text, None),
                Err(refusal) => {
                    self.refused.count(why(refusal.errno));
                    let errno = refusal.errno as i32;
                    tracing::warn!(tunnel = self.tunnel, errno, "a request of `wg` is refused: {refusal}");
                    (Zeroizing::default(), Some(refusal.errno))
                }
            };
            let write = async {
                stream.write_all(text.as_bytes()).await?;
                stream.write_all(ending(errno).as_bytes()).await
            };
            let written = timeout(self.limits.transfer, write).await;
            if last || !matches!(written, Ok(Ok(()))) {
                return;
            }
        }
    }

    async fn call(&self, request: Request) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let call = Call { tunnel: self.tunnel.clone(), request, reply };
        let ends = |_| Refusal::whole(Errno::Io, "zsync-control is ending");
        let exchange = async {
            self.calls.send(call).await.map_err(|error| ends(error.to_string()))?;
            answer.await.map_err(|error| ends(error.to_string()))?
        };
        timeout(self.limits.answer, exchange).await.unwrap_or_else(|_| {
            let what = format!("it has taken {:?} and may still be done", self.limits.answer);
            Err(Refusal::whole(Errno::Io, what))
        })
    }

    /// The next request, or what is wrong with it.
    async fn request(&mut self, stream: &mut UnixStream) -> Result<Result<Request, Refusal>, Ended> {
        if self.at == self.end {
            match timeout(self.limits.idle, self.fill(stream)).await {
                Ok(Ok(1..)) => {}
                _ => return Err(Ended::Gone),
            }
        }
        let patience = self.limits.transfer;
        timeout(patience, self.lines(stream)).await.unwrap_or(Err(Ended::Slow))
    }

    async fn lines(&mut self, stream: &mut UnixStream) -> Result<Result<Request, Refusal>, Ended> {
        let mut reader = Reader::default();
        self.line.clear();
        loop {
            let bytes = &self.chunk[self.at..self.end];
            let found = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..found.unwrap_or(bytes.len())];
            let room = (LINE + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            self.at = found.map_or(self.end, |at| self.at + at + 1);
            if found.is_some() {
                let read = reader.line(&self.line);
                wipe(&mut self.line);
                match (read, reader.refusal()) {
                    (Some(read), _) => return Ok(read),
                    (None, Some(refusal)) if reader.is_endless() => {
                        return Err(Ended::Endless(refusal.clone()));
                    }
                    (None, _) => {}
                }
            } else if !matches!(self.fill(stream).await, Ok(1..)) {
                let gone = reader.is_new() && self.line.is_empty();
                return Err(if gone { Ended::Gone } else { Ended::Half });
            }
        }
    }

    /// Reads on. 0: the stream has come to its end.
    async fn fill(&mut self, stream: &mut UnixStream) -> io::Result<usize> {
        (self.at, self.end) = (0, 0);
        self.end = stream.read(&mut self.chunk).await?;
        Ok(self.end)
    }
}

/// Forgets what is in it, not only how long that is.
fn wipe(line: &mut Zeroizing<Vec<u8>>) {
    line.fill(0);
    line.clear();
}
