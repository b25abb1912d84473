//! The examples, each one source file, on every Io.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use zsync_runtime::{BlockingIo, Driver, File, Io, OpenOptions, PoolIo, SimIo, TcpListener, UringIo};

#[path = "../examples/copy.rs"]
mod copy;
#[path = "../examples/echo.rs"]
mod echo;

const CLIENTS: u32 = 3;
const LINES: u32 = 50;

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A server, and clients that are tasks beside it; without that, on a thread each.
async fn echoes<D: Driver>(io: Io<D>) {
    let listener = TcpListener::bind(&io, local()).unwrap();
    let to = listener.address().unwrap();
    let mut threads = Vec::new();
    for _ in 0..CLIENTS {
        if D::SUSPENDS {
            let client = io.clone();
            drop(io.spawn(async move { echo::talk(&client, to, LINES).await.unwrap() }));
        } else {
            threads.push(thread::spawn(move || {
                BlockingIo::new().unwrap().run(async move |io| echo::talk(&io, to, LINES).await.unwrap());
            }));
        }
    }
    let echoed = echo::serve(&io, &listener, CLIENTS as usize).await.unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let lines: usize = (0..LINES).map(|number| format!("line {number}\n").len()).sum();
    assert_eq!(echoed, u64::from(CLIENTS) * lines as u64);
}

/// Copies files of lengths around that of a part.
async fn copies<D: Driver>(io: Io<D>) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for length in [0, 1, 131_071, 131_072, 131_073, 500_000] {
        let [from, to]: [PathBuf; 2] =
            ["from", "to"].map(|name| folder.join(format!("{name}-{length}-{:x}", io.now().as_nanos())));
        let bytes: Vec<u8> = (0..length).map(|at| (at * 31 % 251) as u8).collect();
        let options = OpenOptions { write: true, create: true, ..OpenOptions::default() };
        File::open(&io, &from, options).unwrap().write(0, bytes.clone()).await.unwrap();
        assert_eq!(copy::copy(&io, &from, &to).await.unwrap(), length as u64);
        let copied = File::open(&io, &to, OpenOptions { read: true, ..OpenOptions::default() }).unwrap();
        assert_eq!(copied.len().unwrap(), length as u64);
        let mut read = Vec::new();
        while read.len() < length {
            let part = copied.read(read.len() as u64, Vec::with_capacity(100_000)).await.unwrap();
            assert!(!part.is_empty());
            read.extend(part);
        }
        assert_eq!(read, bytes);
        // Of a simulation, there are none.
        let _ = (std::fs::remove_file(&from), std::fs::remove_file(&to));
    }
}

macro_rules! on {
    ($name:ident, $io:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn it_echoes() {
                $io.run(async |io| echoes(io).await);
            }

            #[test]
            fn it_copies() {
                $io.run(async |io| copies(io).await);
            }
        }
    };
}

on!(blocking, BlockingIo::new().unwrap());
on!(pool, PoolIo::new().unwrap());
on!(uring, UringIo::new().unwrap());
on!(simulated, SimIo::new(9).unwrap());
