//! Descriptors run out. A program of its own with one test, for their limit is a process's.

#[path = "../examples/http.rs"]
mod http;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::time::Duration;
use zsync_runtime::{BlockingIo, Driver, ErrorKind, Io, PoolIo, SimIo, TcpListener, TcpStream, UringIo};

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Takes all descriptors there are, with a limit that does not make that long.
fn take_all() -> Vec<OwnedFd> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(200), ..limit }).unwrap();
    std::iter::from_fn(|| open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()).collect()
}

/// `limit` leaves none; given what it gave, `give` one.
async fn a_connection_that_cannot_be_accepted_waits<D: Driver, T>(
    io: Io<D>,
    limit: impl FnOnce() -> T,
    give: impl FnOnce(&mut T),
) {
    let listener = TcpListener::bind(&io, local()).unwrap();
    let to = listener.address().unwrap();
    let client = TcpStream::connect(&io, to).await.unwrap();
    client.write(b"patient".to_vec()).await.unwrap();
    let mut all = limit();
    for _ in 0..3 {
        let error = listener.accept().await.unwrap_err();
        assert!(error.is_exhaustion() && error.operation() == "accept", "{error}");
        assert!(matches!(error.kind(), ErrorKind::System(errno) if errno.raw_os_error() == libc::EMFILE));
    }
    let error = TcpStream::connect(&io, to).await.unwrap_err();
    assert!(error.is_exhaustion() && error.operation() == "make a socket for", "{error}");
    give(&mut all);
    let (server, from) = listener.accept().await.unwrap();
    assert!(from.ip().is_loopback());
    assert_eq!(server.read(Vec::with_capacity(9)).await.unwrap(), b"patient");
}

/// The server of the examples goes on when there are some again.
async fn a_server_without_descriptors_goes_on<D: Driver>(io: Io<D>) {
    let listener = TcpListener::bind(&io, local()).unwrap();
    let to = listener.address().unwrap();
    let limits = http::Limits { header: 999, body: 0, connections: 9, idle: Duration::from_secs(5) };
    let client = TcpStream::connect(&io, to).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec();
    client.write(request).await.unwrap();
    let all = take_all();
    let serving = {
        let io = io.clone();
        io.clone().spawn(async move {
            http::serve(&io, &listener, limits, |request| http::Response::new(200, &*request.target), 1).await
        })
    };
    io.sleep(Duration::from_millis(50)).await.unwrap();
    assert!(!serving.is_finished(), "it gave up");
    drop(all);
    let answer = client.read(Vec::with_capacity(999)).await.unwrap();
    assert!(answer.ends_with(b"\r\n\r\n/"));
    drop(client);
    assert_eq!(serving.await.unwrap().unwrap(), 1);
}

#[test]
fn descriptors_run_out_and_come_back() {
    let before = getrlimit(Resource::Nofile);
    /// The kernel's.
    async fn waits<D: Driver>(io: Io<D>) {
        a_connection_that_cannot_be_accepted_waits(io, take_all, |all| drop(all.pop())).await;
    }
    BlockingIo::new().unwrap().run(async |io| waits(io).await);
    PoolIo::new().unwrap().run(async |io| waits(io).await);
    UringIo::new().unwrap().run(async |io| waits(io).await);
    SimIo::new(1).unwrap().run(async |io| {
        let (inner, again) = (io.clone(), io.clone());
        let limit = move || inner.limit_descriptors(2);
        a_connection_that_cannot_be_accepted_waits(io, limit, move |()| again.limit_descriptors(3)).await;
    });
    PoolIo::new().unwrap().run(async |io| a_server_without_descriptors_goes_on(io).await);
    UringIo::new().unwrap().run(async |io| a_server_without_descriptors_goes_on(io).await);
    setrlimit(Resource::Nofile, before).unwrap();
}
