//! The HTTP server and client of the examples, on every Io.

mod beside;
mod every;

#[path = "../examples/client.rs"]
mod client;
#[path = "../examples/http.rs"]
mod http;

use beside::beside;
use client::{Client, Failure};
use every::on_every_io;
use http::{Limits, Request, Response};
use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::time::Duration;
use zsync_runtime::sync::pool::PoolLimits;
use zsync_runtime::{Driver, Io, SocketOption, TcpListener, TcpStream};

const LIMITS: Limits = Limits { header: 300, body: 100, connections: 2, idle: Duration::from_millis(200) };
/// More than a connection has under way.
const LARGE: usize = 8 << 20;

fn page(request: &Request) -> Response {
    match (request.method.as_str(), request.target.as_str()) {
        ("GET" | "HEAD", "/") => Response::new(200, "here"),
        (_, "/") => Response { allow: Some("GET, HEAD"), ..Response::new(405, []) },
        ("POST", "/echo") => Response::new(200, &request.body[..]),
        ("GET", "/large") => Response::new(200, vec![b'x'; LARGE]),
        _ => Response::new(404, []),
    }
}

async fn server<D: Driver>(io: Io<D>, tell: Sender<SocketAddr>) {
    let options = [SocketOption::ReuseAddress(true), SocketOption::SendBuffer(64 << 10)];
    let listener = TcpListener::bind_with(&io, "[::1]:0".parse().unwrap(), 64, &options).unwrap();
    tell.send(listener.address().unwrap()).unwrap();
    http::serve(&io, &listener, LIMITS, page, usize::MAX).await.unwrap();
}

/// Sends this at once, and reads to the end.
async fn exchange<D: Driver>(io: &Io<D>, to: SocketAddr, request: &str) -> String {
    let stream = TcpStream::connect(io, to).await.unwrap();
    stream.write(request.as_bytes().to_vec()).await.unwrap();
    let mut all = Vec::new();
    loop {
        let part = io.timeout(Duration::from_secs(5), stream.read(Vec::with_capacity(999))).await;
        match part.expect("an answer, or an end").unwrap() {
            part if part.is_empty() => return String::from_utf8(all).unwrap(),
            part => all.extend(part),
        }
    }
}

async fn a_connection_is_kept_for_requests_one_behind_the_other<D: Driver>(io: Io<D>) {
    let to = beside!(io, D, server);
    let all = exchange(
        &io,
        to,
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nhost:a\r\nContent-Length: 3\r\n\r\nabc\
         HEAD / HTTP/1.1\r\nHost: a\r\n\r\nPUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nnever read",
    )
    .await;
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere\
        HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
        HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\
        HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n";
    assert_eq!(all, expected);
}

async fn bad_requests_are_refused_and_the_connection_ends<D: Driver>(io: Io<D>) {
    let to = beside!(io, D, server);
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(300));
    let endless = "z".repeat(400);
    let cases = [
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
        ("nothing\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nx\r\n\r\n", 400),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", 400),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", 413),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (&long, 431),
        (&endless, 431),
    ];
    for (request, status) in cases {
        let answer = exchange(&io, to, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer:?}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer:?}");
    }
}

async fn a_body_that_waits_is_asked_for<D: Driver>(io: Io<D>) {
    let to = beside!(io, D, server);
    let stream = TcpStream::connect(&io, to).await.unwrap();
    let head = b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    stream.write(head.to_vec()).await.unwrap();
    let answer = stream.read(Vec::with_capacity(999)).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write(b"ab".to_vec()).await.unwrap();
    assert!(stream.read(Vec::with_capacity(999)).await.unwrap().ends_with(b"\r\n\r\nab"));
}

async fn who_says_or_reads_nothing_is_left_and_others_get_their_turn<D: Driver>(io: Io<D>) {
    let to = beside!(io, D, server);
    // As many as there may be; where connections are served one by one, they wait for each other.
    let silent = TcpStream::connect(&io, to).await.unwrap();
    silent.write(b"GET / HT".to_vec()).await.unwrap();
    let deaf = TcpStream::connect_with(&io, to, &[SocketOption::ReceiveBuffer(4096)]).await.unwrap();
    deaf.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()).await.unwrap();
    let begin = io.now();
    let answer = exchange(&io, to, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.ends_with("here"));
    let waited = io.now().since(begin);
    assert!(waited >= LIMITS.idle / 2, "it had its turn at once: {waited:?}");
    assert!(silent.read(Vec::with_capacity(9)).await.unwrap().is_empty(), "it was left");
    let mut come = 0;
    while let Ok(part) = deaf.read(Vec::with_capacity(1 << 20)).await
        && !part.is_empty()
    {
        come += part.len();
    }
    assert!(come < LARGE, "all was sent to who does not read");
}

fn limits(items: u32) -> PoolLimits {
    PoolLimits { items, idle: Duration::from_millis(100), wait: Duration::from_secs(5) }
}

async fn a_client_uses_its_connection_again<D: Driver>(io: Io<D>) {
    let to = beside!(io, D, server);
    let client = Client::new(&io, to, limits(1), Duration::from_secs(5));
    for _ in 0..5 {
        assert_eq!(client.get("/").await.unwrap(), (200, b"here".to_vec()));
        assert_eq!((client.pool.idle(), client.pool.busy()), (1, 0));
    }
    assert_eq!(client.get("/none").await.unwrap().0, 404);
    let (status, large) = client.get("/large").await.unwrap();
    assert_eq!((status, large.len()), (200, LARGE));
    // Nobody uses it: it goes.
    io.sleep(Duration::from_millis(150)).await.unwrap();
    assert_eq!((client.pool.expire(), client.pool.idle()), (1, 0));
    assert_eq!(client.get("/").await.unwrap().0, 200);
}

/// Closes each connection behind its first answer, and says so to none; and answers every other one with nonsense.
async fn bad_server<D: Driver>(io: Io<D>, tell: Sender<SocketAddr>) {
    let listener = TcpListener::bind(&io, "127.0.0.1:0".parse().unwrap()).unwrap();
    tell.send(listener.address().unwrap()).unwrap();
    for number in 0_u32.. {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(Vec::with_capacity(999)).await;
        let answer =
            if number % 2 == 1 { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" } else { "what?\r\n\r\n" };
        let _ = stream.write(answer.into()).await;
    }
}

async fn a_client_tests_its_connections_and_tries_again<D: Driver>(io: Io<D>) {
    let to = beside!(io, D, bad_server);
    let client = Client::new(&io, to, limits(2), Duration::from_secs(5));
    for _ in 0..3 {
        assert_eq!(client.get("/").await.unwrap(), (200, b"ok".to_vec()));
        io.sleep(Duration::from_millis(20)).await.unwrap();
    }
}

async fn silent_server<D: Driver>(io: Io<D>, tell: Sender<SocketAddr>) {
    let listener = TcpListener::bind(&io, "127.0.0.1:0".parse().unwrap()).unwrap();
    tell.send(listener.address().unwrap()).unwrap();
    let mut kept = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        kept.push(stream);
    }
}

async fn a_client_does_not_wait_for_good<D: Driver>(io: Io<D>) {
    let to = beside!(io, D, silent_server);
    let client = Client::new(&io, to, limits(1), Duration::from_millis(50));
    assert!(matches!(client.get("/").await.unwrap_err(), Failure::Late(_)));
    assert_eq!((client.pool.idle(), client.pool.busy()), (0, 0), "half an answer is nobody's");

    let nobody = TcpListener::bind(&io, "127.0.0.1:0".parse().unwrap()).unwrap().address().unwrap();
    let client = Client::new(&io, nobody, limits(1), Duration::from_secs(5));
    assert!(matches!(client.get("/").await.unwrap_err(), Failure::Pool(_)));
}

on_every_io!(
    a_connection_is_kept_for_requests_one_behind_the_other,
    bad_requests_are_refused_and_the_connection_ends,
    a_body_that_waits_is_asked_for,
    who_says_or_reads_nothing_is_left_and_others_get_their_turn,
    a_client_uses_its_connection_again,
    a_client_tests_its_connections_and_tries_again,
    a_client_does_not_wait_for_good,
);
