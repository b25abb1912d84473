//! An HTTP client that keeps its connections: `cargo run -p zsync-runtime --example client uring 127.0.0.1:8080 /`.
//!
//! Connections are kept in a pool, tested before they are used again, and dropped when nobody uses them. A GET that fails is tried
//! again, by another connection: the server may have closed the one that was kept just as it was used.

#[cfg(not(test))]
mod chosen;

use std::net::SocketAddr;
use std::time::Duration;
use zsync_runtime::sync::pool::{Factory, Lent, Pool, PoolError, PoolLimits};
use zsync_runtime::{Backoff, Driver, Either, Elapsed, Error, Io, TcpStream, either, retry, yield_now};

/// Most bytes of an answer's header.
const HEAD: usize = 64 << 10;
/// Bytes of an answer at most.
const LONGEST: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] Error),
    /// No connection was to be had.
    #[error(transparent)]
    Pool(#[from] PoolError<Error>),
    /// It took too long, all in all.
    #[error(transparent)]
    Late(#[from] Elapsed),
    /// What came is of no use.
    #[error("the server's answer is no HTTP/1.1 that this client knows, or too long")]
    Malformed,
}

/// Connections to one server.
pub struct Connections<D: Driver> {
    io: Io<D>,
    server: SocketAddr,
}

impl<D: Driver> Factory for Connections<D> {
    type Item = TcpStream<D>;
    type Error = Error;

    async fn open(&self) -> Result<TcpStream<D>, Error> {
        TcpStream::connect(&self.io, self.server).await
    }

    /// Between two requests a server has nothing to say: the end of the connection, or something that nobody asked for.
    async fn is_healthy(&self, stream: &mut TcpStream<D>) -> bool {
        let look = stream.read(Vec::with_capacity(1));
        if D::SUSPENDS {
            matches!(either(look, yield_now()).await, Either::Second(_))
        } else {
            self.io.timeout(Duration::from_micros(1), look).await.is_err()
        }
    }
}

/// A client of one server.
pub struct Client<D: Driver> {
    io: Io<D>,
    server: SocketAddr,
    /// Its connections.
    pub pool: Pool<Connections<D>>,
    /// For a request, its repetitions included.
    patience: Duration,
}

impl<D: Driver> Client<D> {
    /// One that has no connection yet.
    pub fn new(io: &Io<D>, server: SocketAddr, limits: PoolLimits, patience: Duration) -> Self {
        let connections = Connections { io: io.clone(), server };
        Self { io: io.clone(), server, pool: Pool::new(io.tasks(), connections, limits), patience }
    }

    /// Status and body.
    pub async fn get(&self, path: &str) -> Result<(u16, Vec<u8>), Failure> {
        let second = Duration::from_secs(1);
        let backoff = Backoff { first: Duration::from_millis(5), longest: second, attempts: 3 };
        let answer = retry(self.io.tasks(), backoff, async |_| self.attempt(path).await);
        self.io.timeout(self.patience, answer).await?
    }

    async fn attempt(&self, path: &str) -> Result<(u16, Vec<u8>), Failure> {
        let mut used = Used { stream: Some(self.pool.checkout().await?), keep: false };
        let stream = used.stream.as_ref().ok_or(Failure::Malformed)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.server);
        stream.write(request.into_bytes()).await?;
        let (answer, keep) = read_answer(stream).await?;
        used.keep = keep;
        Ok(answer)
    }
}

/// A connection that goes back to the pool only if all went well: who drops a request in the middle must not leave half an answer to
/// the next.
struct Used<D: Driver> {
    stream: Option<Lent<Connections<D>>>,
    keep: bool,
}

impl<D: Driver> Drop for Used<D> {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take().filter(|_| !self.keep) {
            stream.discard();
        }
    }
}

/// Status and body, and whether the connection can be used again.
async fn read_answer<D: Driver>(stream: &TcpStream<D>) -> Result<((u16, Vec<u8>), bool), Failure> {
    let mut come = Vec::new();
    let mut buffer = Vec::with_capacity(16 << 10);
    let (mut head, mut whole) = (None, usize::MAX);
    while come.len() < whole {
        buffer = stream.read(buffer).await?;
        come.extend_from_slice(&buffer);
        if buffer.is_empty() || come.len() > LONGEST {
            return Err(Failure::Malformed);
        }
        if head.is_none()
            && let Some(end) = come.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let (status, length, keep) = parse(&come[..end]).ok_or(Failure::Malformed)?;
            whole =
                length.checked_add(end + 4).filter(|whole| *whole <= LONGEST).ok_or(Failure::Malformed)?;
            head = Some((status, end + 4, keep));
        }
        if head.is_none() && come.len() > HEAD {
            return Err(Failure::Malformed);
        }
    }
    let (status, begin, keep) = head.ok_or(Failure::Malformed)?;
    // More than was asked for is for nobody.
    Ok(((status, come[begin..whole].to_vec()), keep && come.len() == whole))
}

/// Status, length of the body, and whether the connection is kept.
fn parse(head: &[u8]) -> Option<(u16, usize, bool)> {
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let (mut length, mut keep) = (None, true);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let digits = value.bytes().all(|byte| byte.is_ascii_digit());
                let said = value.parse().ok().filter(|_| digits)?;
                if length.replace(said).is_some_and(|other| other != said) {
                    return None;
                }
            }
            "connection" => keep &= !value.eq_ignore_ascii_case("close"),
            "transfer-encoding" => return None,
            _ => {}
        }
    }
    Some((status, length?, keep))
}

#[cfg(not(test))]
async fn run<D: Driver>(io: Io<D>) -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(2);
    let (Some(server), path) = (arguments.next(), arguments.next()) else {
        return Err("the second argument is the server: 127.0.0.1:8080".into());
    };
    let limits = PoolLimits { items: 4, idle: Duration::from_secs(30), wait: Duration::from_secs(5) };
    let client = Client::new(&io, server.parse()?, limits, Duration::from_secs(10));
    for _ in 0..3 {
        let (status, body) = client.get(path.as_deref().unwrap_or("/")).await?;
        println!("{status}: {} bytes; connections kept: {}", body.len(), client.pool.idle());
    }
    Ok(())
}

#[cfg(not(test))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    chosen::run_on_chosen!(run)
}
