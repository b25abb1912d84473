//! One attempt to find out whether a backend works.
//!
//! Refuses nothing: whatever comes, or does not come, is a success or a failure in words. Keeps true: an attempt ends when
//! its time is over, reads at most [`LONGEST`] bytes, and leaves nothing open. It goes the way that the host's routes say.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zsync_pipelines::spec::balance::Probe;

use super::echo::echo;

/// Bytes that a status line may have; RFC 9112 §3 asks for 8,000 of a request line, and a status line is shorter.
const LONGEST: usize = 8000;

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// How.
    pub probe: Probe,
    /// At whom.
    pub address: IpAddr,
    /// At which port; means nothing to an echo.
    pub port: u16,
    /// How long at most.
    pub timeout: Duration,
}

impl Attempt {
    /// Tries; `nonce` tells this attempt from others.
    ///
    /// # Errors
    /// What kept it from succeeding, in words.
    pub async fn run(&self, nonce: u64) -> Result<(), String> {
        match tokio::time::timeout(self.timeout, self.tried(nonce)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {}", shown(self.timeout))),
        }
    }

    async fn tried(&self, nonce: u64) -> Result<(), String> {
        let words = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            _ => error.to_string(),
        };
        let end = SocketAddr::new(self.address, self.port);
        match &self.probe {
            Probe::Icmp => echo(self.address, nonce).await.map_err(words),
            Probe::Tcp => TcpStream::connect(end).await.map(drop).map_err(words),
            Probe::Http { path, host, status: (low, high) } => {
                let host = host.clone().unwrap_or_else(|| end.to_string());
                let mut stream = TcpStream::connect(end).await.map_err(words)?;
                stream.write_all(request(path, &host).as_bytes()).await.map_err(words)?;
                let line = status_line(&mut stream).await.map_err(words)?;
                match status(&line) {
                    Some(status) if (*low..=*high).contains(&status) => Ok(()),
                    Some(status) => Err(format!("HTTP status {status}, not {low}-{high}")),
                    None => Err("the answer is not HTTP".to_owned()),
                }
            }
        }
    }
}

fn shown(period: Duration) -> String {
    zsync_pipelines::spec::show_duration(period)
}

fn request(path: &str, host: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: zsync\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
}

/// What comes before the first line break.
async fn status_line(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut buffer = [0; 512];
    while line.len() < LONGEST && !line.contains(&b'\n') {
        match stream.read(&mut buffer).await? {
            0 => break,
            len => line.extend_from_slice(buffer.get(..len).unwrap_or_default()),
        }
    }
    line.truncate(line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len()));
    Ok(line)
}

/// The status of a status line (RFC 9112 §4).
fn status(line: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    let code = text.split(' ').nth(1)?.trim_end();
    (code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit())).then(|| code.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn attempt(probe: Probe, end: SocketAddr) -> Attempt {
        Attempt { probe, address: end.ip(), port: end.port(), timeout: Duration::from_secs(10) }
    }

    fn http(status: (u16, u16)) -> Probe {
        Probe::Http { path: "/healthz".to_owned(), host: Some("www.example.com".to_owned()), status }
    }

    #[test]
    fn a_status_is_read_from_its_line_alone() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503"), Some(503));
        for line in
            ["", "HTTP/1.1", "HTTP/1.1 20", "HTTP/1.1 2000 x", "HTTP/2 200", "SSH-2.0-x", "HTTP/1.1 -20"]
        {
            assert_eq!(status(line.as_bytes()), None, "{line}");
        }
    }

    /// A server that answers one request after the other, in two parts.
    async fn serve(listener: TcpListener, answer: &'static [u8]) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut asked).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let right = asked.starts_with(b"GET /healthz HTTP/1.1\r\nHost: www.example.com\r\n");
            let (first, rest) = answer.split_at(answer.len().min(5));
            let _ = stream.write_all(if right { first } else { b"?" }).await;
            let _ = stream.write_all(rest).await;
        }
    }

    #[test]
    fn http_is_asked_as_it_should_be_and_the_status_decides() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let answers: [(&[u8], Result<(), &str>); 5] = [
                (b"HTTP/1.1 204 No Content\r\n\r\n", Ok(())),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Ok(())),
                (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", Err("HTTP status 503, not 200-299")),
                (b"220 mail ready\r\n", Err("the answer is not HTTP")),
                (b"", Err("the answer is not HTTP")),
            ];
            for (answer, expected) in answers {
                block(async {
                    let listener = TcpListener::bind(bind).await.unwrap();
                    let end = listener.local_addr().unwrap();
                    let server = tokio::spawn(serve(listener, answer));
                    let result = attempt(http((200, 299)), end).run(1).await;
                    assert_eq!(
                        result.as_ref().map_err(String::as_str),
                        expected.as_ref().map(|&()| ()).map_err(|e| *e).as_ref().map(|_| &()).map_err(|e| *e)
                    );
                    assert_eq!(attempt(Probe::Tcp, end).run(1).await, Ok(()));
                    server.abort();
                });
            }
        }
    }

    #[test]
    fn who_does_not_listen_or_does_not_answer_has_failed() {
        block(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let end = listener.local_addr().unwrap();
            let silent = Attempt { timeout: Duration::from_millis(50), ..attempt(http((200, 399)), end) };
            assert_eq!(silent.run(1).await, Err("no answer within 50ms".to_owned()));
            drop(listener);
            assert_eq!(attempt(Probe::Tcp, end).run(1).await, Err("connection refused".to_owned()));
            assert_eq!(attempt(http((200, 399)), end).run(1).await, Err("connection refused".to_owned()));
        });
    }
}
