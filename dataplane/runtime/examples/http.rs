//! A small HTTP/1.1 server (RFC 9110, RFC 9112): `cargo run -p zsync-runtime --example http uring` (or `pool`, `blocking`: then one
//! connection at a time; or `sim`, where its own client is the only one).
//!
//! A connection is kept while its requests are good and come in time. Refused, with an answer: what is no HTTP (400), bodies that
//! are too long (413), headers that are (431), and transfer codings (501). Without an answer: who sends or reads nothing for too long.

#[cfg(not(test))]
mod chosen;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use zsync_runtime::sync::semaphore::Semaphore;
use zsync_runtime::{Driver, Error, Io, TcpListener, TcpStream, yield_now};

/// Parts that are read behind an answer that was the last, at most.
const DRAINED: usize = 256;

/// What one client may take.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Bytes of a request line and its headers.
    pub header: usize,
    /// Bytes of a body.
    pub body: usize,
    /// Connections at a time; more wait to be accepted.
    pub connections: u32,
    /// For a whole request to come, and for an answer to be read.
    pub idle: Duration,
}

/// What is asked.
pub struct Request {
    /// As it came: GET, and so on.
    pub method: String,
    /// The path, and what is behind it.
    pub target: String,
    /// As long as Content-Length says.
    pub body: Vec<u8>,
    close: bool,
}

/// What is answered.
pub struct Response {
    /// Of three digits.
    pub status: u16,
    /// The methods there are, for 405.
    pub allow: Option<&'static str>,
    /// Content-Length is its length.
    pub body: Vec<u8>,
}

impl Response {
    /// One without other methods.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, allow: None, body: body.into() }
    }

    fn bytes(&self, close: bool, head_only: bool) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            413 => "Content Too Large",
            431 => "Request Header Fields Too Large",
            _ => "Not Implemented",
        };
        let mut head =
            format!("HTTP/1.1 {} {reason}\r\nContent-Length: {}\r\n", self.status, self.body.len());
        if let Some(allow) = self.allow {
            head += &format!("Allow: {allow}\r\n");
        }
        head += if close { "Connection: close\r\n\r\n" } else { "\r\n" };
        let body = if head_only { &[][..] } else { &self.body };
        [head.as_bytes(), body].concat()
    }
}

/// Why a request is not answered as it asks.
enum Refusal {
    /// The other end is done, or gone.
    Gone,
    Status(u16),
}

/// A request line and its headers.
struct Head {
    request: Request,
    length: usize,
    expects_continue: bool,
}

fn parse(head: &[u8]) -> Result<Head, u16> {
    let head = std::str::from_utf8(head).map_err(|_| 400_u16)?;
    // Who ends lines by less than we do would see other headers (RFC 9110, 5.5).
    let is_control = |byte: u8| byte < b' ' && byte != b'\t' || byte == 0x7f;
    if head.split("\r\n").any(|line| line.bytes().any(is_control)) {
        return Err(400);
    }
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or("").split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(400);
    };
    if method.is_empty() || target.is_empty() || !["HTTP/1.0", "HTTP/1.1"].contains(&version) {
        return Err(400);
    }
    let old = version == "HTTP/1.0";
    let (mut length, mut hosts, mut close, mut expects_continue) = (None, 0, old, false);
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(400_u16)?;
        // A name ends at its colon: who sees a space there differently sees another request (RFC 9112, 5.1).
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(400);
        }
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "connection" => {
                close |= value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"));
            }
            "expect" => expects_continue = value.eq_ignore_ascii_case("100-continue"),
            "transfer-encoding" => return Err(501),
            "content-length" => {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let said = if digits { value.parse().unwrap_or(usize::MAX) } else { return Err(400) };
                if length.is_some_and(|length| length != said) {
                    return Err(400);
                }
                length = Some(said);
            }
            _ => {}
        }
    }
    if hosts > 1 || hosts == 0 && !old {
        return Err(400);
    }
    let request = Request { method: method.into(), target: target.into(), body: Vec::new(), close };
    Ok(Head { request, length: length.unwrap_or(0), expects_continue })
}

/// Adds what comes next to what has come.
async fn read_more<D: Driver>(stream: &TcpStream<D>, come: &mut Vec<u8>) -> Result<(), Refusal> {
    let part = stream.read(Vec::with_capacity(4096)).await.map_err(|_| Refusal::Gone)?;
    come.extend_from_slice(&part);
    if part.is_empty() { Err(Refusal::Gone) } else { Ok(()) }
}

/// The next request; what has come behind it stays.
async fn read_request<D: Driver>(
    stream: &TcpStream<D>,
    come: &mut Vec<u8>,
    limits: &Limits,
) -> Result<Request, Refusal> {
    let end = loop {
        let end = come.windows(4).position(|four| four == b"\r\n\r\n");
        if end.unwrap_or(come.len()) > limits.header {
            return Err(Refusal::Status(431));
        }
        match end {
            Some(end) => break end,
            None => read_more(stream, come).await?,
        }
    };
    let Head { mut request, length, expects_continue } = parse(&come[..end]).map_err(Refusal::Status)?;
    if length > limits.body {
        return Err(Refusal::Status(413));
    }
    come.drain(..end + 4);
    if expects_continue && come.len() < length {
        let go_on = stream.write(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()).await;
        go_on.map_err(|_| Refusal::Gone)?;
    }
    while come.len() < length {
        read_more(stream, come).await?;
    }
    request.body = come.drain(..length).collect();
    Ok(request)
}

/// Serves one connection; how many answers were written.
async fn connection<D: Driver>(
    io: Io<D>,
    stream: TcpStream<D>,
    limits: Limits,
    answer: fn(&Request) -> Response,
) -> u64 {
    let mut come = Vec::new();
    for answered in 0.. {
        let request = io.timeout(limits.idle, read_request(&stream, &mut come, &limits)).await;
        let (response, close) = match request {
            Ok(Ok(request)) => {
                let head_only = request.method == "HEAD";
                (answer(&request).bytes(request.close, head_only), request.close)
            }
            Ok(Err(Refusal::Status(status))) => (Response::new(status, []).bytes(true, false), true),
            Ok(Err(Refusal::Gone)) | Err(_) => return answered,
        };
        // Who does not read its answer in time does not get it.
        let written = io.timeout(limits.idle, stream.write(response)).await;
        if !matches!(written, Ok(Ok(_))) {
            return answered;
        }
        if close {
            // What still comes is read for a while: to close over it would take the answer from the other end (RFC 9112, 9.6).
            let _ = stream.shutdown();
            let drain = async {
                for _ in 0..DRAINED {
                    if read_more(&stream, &mut Vec::new()).await.is_err() || yield_now().await.is_err() {
                        break;
                    }
                }
            };
            let _ = io.timeout(limits.idle, drain).await;
            return answered + 1;
        }
    }
    unreachable!("a connection has fewer requests")
}

/// Serves so many connections; how many answers were written.
pub async fn serve<D: Driver>(
    io: &Io<D>,
    listener: &TcpListener<D>,
    limits: Limits,
    answer: fn(&Request) -> Response,
    connections: usize,
) -> Result<u64, Error> {
    let permits = Semaphore::new(limits.connections);
    let (answered, mut accepted) = (Rc::new(Cell::new(0_u64)), 0);
    io.scope(async |scope| {
        while accepted < connections {
            let Ok(permit) = permits.acquire(1).await else { break };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                // Too many descriptors are open: others are closed soon.
                Err(error) if error.is_exhaustion() => {
                    let _ = io.sleep(Duration::from_millis(10)).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            accepted += 1;
            let (io, answered) = (io.clone(), answered.clone());
            // Nobody keeps its handle, or there would be one for each connection that ever was.
            drop(scope.spawn(async move {
                let _permit = permit;
                let count = connection(io, stream, limits, answer).await;
                answered.set(answered.get() + count);
            }));
        }
        let _ = scope.wait().await;
        Ok(())
    })
    .await?;
    Ok(answered.get())
}

#[cfg(not(test))]
fn page(request: &Request) -> Response {
    match (request.target.as_str(), request.method.as_str()) {
        ("/", "GET" | "HEAD") => Response::new(200, "It works.\n"),
        ("/", _) => Response { allow: Some("GET, HEAD"), ..Response::new(405, []) },
        ("/echo", "POST") => Response::new(200, &request.body[..]),
        ("/echo", _) => Response { allow: Some("POST"), ..Response::new(405, []) },
        _ => Response::new(404, []),
    }
}

#[cfg(not(test))]
async fn run<D: Driver>(io: Io<D>) -> Result<(), Error> {
    let listener = TcpListener::bind(&io, "127.0.0.1:0".parse().expect("an address"))?;
    let to = listener.address()?;
    println!("serving http://{to}/");
    let limits = Limits { header: 8 << 10, body: 1 << 20, connections: 1000, idle: Duration::from_secs(10) };
    if D::SIMULATED {
        let client = io.clone();
        let asking = io.spawn(async move {
            let stream = TcpStream::connect(&client, to).await?;
            stream.write(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".to_vec()).await?;
            stream.read(Vec::with_capacity(4096)).await
        });
        serve(&io, &listener, limits, page, 1).await?;
        let answer = asking.await.expect("it asks")?;
        println!("{}", String::from_utf8_lossy(&answer));
        return Ok(());
    }
    serve(&io, &listener, limits, page, usize::MAX).await.map(|_| ())
}

#[cfg(not(test))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    chosen::run_on_chosen!(run)?;
    Ok(())
}
