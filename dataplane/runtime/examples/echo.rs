//! An echo server: every connection gets back what it sends, until it ends.
//!
//! `cargo run -p zsync-runtime --example echo uring` (or `pool`, `blocking`: then one connection at a time; or `sim`, where
//! its own client is the only one).

#[cfg(not(test))]
mod chosen;

use std::net::SocketAddr;
use zsync_runtime::{Driver, Error, Io, TcpListener, TcpStream};

/// Echoes until the other end is done.
async fn echo<D: Driver>(stream: TcpStream<D>) -> Result<u64, Error> {
    let mut echoed = 0;
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        buffer = stream.read(buffer).await?;
        if buffer.is_empty() {
            return Ok(echoed);
        }
        echoed += buffer.len() as u64;
        buffer = stream.write(buffer).await?;
    }
}

/// Serves so many connections, each by a task of its own; the bytes that were echoed.
pub async fn serve<D: Driver>(
    io: &Io<D>,
    listener: &TcpListener<D>,
    connections: usize,
) -> Result<u64, Error> {
    io.scope(async |scope| {
        let mut served = Vec::new();
        for _ in 0..connections {
            let (stream, _) = listener.accept().await?;
            served.push(scope.spawn(echo(stream)));
        }
        let mut echoed = 0;
        for connection in served {
            // A connection that broke is none of the others' business.
            echoed += connection.await.ok().and_then(Result::ok).unwrap_or(0);
        }
        Ok(echoed)
    })
    .await
}

/// Sends lines and compares what comes back.
pub async fn talk<D: Driver>(io: &Io<D>, to: SocketAddr, lines: u32) -> Result<(), Error> {
    let stream = TcpStream::connect(io, to).await?;
    for number in 0..lines {
        let line = format!("line {number}\n").into_bytes();
        let line = stream.write(line).await?;
        let mut back = Vec::new();
        while back.len() < line.len() {
            let part = stream.read(Vec::with_capacity(1024)).await?;
            assert!(!part.is_empty(), "the server is gone");
            back.extend(part);
        }
        assert_eq!(back, line);
    }
    Ok(())
}

#[cfg(not(test))]
async fn run<D: Driver>(io: Io<D>) -> Result<u64, Error> {
    let listener = TcpListener::bind(&io, SocketAddr::from(([127, 0, 0, 1], 0)))?;
    println!("echoing at {}", listener.address()?);
    if D::SUSPENDS {
        // One of its own to begin with.
        let (client, to) = (io.clone(), listener.address()?);
        let talking = io.spawn(async move { talk(&client, to, 3).await });
        let echoed = serve(&io, &listener, 1).await?;
        let _ = talking.await;
        println!("{echoed} bytes echoed to a client of its own");
    }
    if D::SIMULATED {
        return Ok(0);
    }
    serve(&io, &listener, usize::MAX).await
}

#[cfg(not(test))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    chosen::run_on_chosen!(run)?;
    Ok(())
}
