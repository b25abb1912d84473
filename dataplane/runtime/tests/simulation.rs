//! A program that cancels, aborts and drops all the time, in many simulations: nothing leaks, nobody sleeps for good, and a seed
//! does the same each time.

mod seeds;

use seeds::{Part, Trace, interrupted, same_each_time};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use zsync_runtime::sync::mpsc;
use zsync_runtime::{
    Canceller, Driver, Either, Faults, File, Io, OpenOptions, SimIo, TcpListener, TcpStream, UdpSocket,
    cancellable, either, shield, yield_now,
};

fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Sends bytes over a connection whose both ends are interrupted again and again; all that were written arrive.
async fn stream<D: Driver>(io: Io<D>, trace: Trace) {
    let listener = TcpListener::bind(&io, local()).unwrap();
    let to = listener.address().unwrap();
    let count = 50 + io.tasks().random() % 100;
    let writer = io.spawn({
        let io = io.clone();
        async move {
            let stream = TcpStream::connect(&io, to).await.unwrap();
            for number in 0..count {
                stream.write(number.to_be_bytes().to_vec()).await.unwrap();
            }
        }
    });
    let (stream, _) = listener.accept().await.unwrap();
    let mut all = Vec::new();
    loop {
        let room = 1 + io.tasks().random() as usize % 40;
        let patience = Duration::from_nanos(io.tasks().random() % 30_000);
        let canceller = Canceller::default();
        let part = match io.tasks().random() % 3 {
            0 => match io.timeout(patience, stream.read(Vec::with_capacity(room))).await {
                Ok(part) => part,
                Err(_) => continue,
            },
            1 => match either(stream.read(Vec::with_capacity(room)), yield_now()).await {
                Either::First(part) => part,
                Either::Second(_) => continue,
            },
            _ => {
                let stop = canceller.clone();
                let timer = io.clone();
                let later = io.spawn(async move {
                    let _ = timer.sleep(patience).await;
                    stop.cancel();
                });
                let part = cancellable(&canceller, stream.read(Vec::with_capacity(room))).await;
                later.abort();
                match part {
                    Err(error) if error.is_cancelled() => continue,
                    part => part,
                }
            }
        };
        let part = part.unwrap();
        trace.note(&io, part.len() as u64);
        if part.is_empty() {
            break;
        }
        all.extend(part);
    }
    let expected: Vec<u8> = (0..count).flat_map(u64::to_be_bytes).collect();
    assert_eq!(all, expected);
    writer.await.unwrap();
}

/// Asks over a bad network until it is answered, under a task that may be cancelled.
async fn question<D: Driver>(io: Io<D>, server: SocketAddr, number: u64, trace: Trace) -> Option<u64> {
    let socket = UdpSocket::bind(&io, local()).unwrap();
    for _ in 0..200 {
        if socket.send(number.to_be_bytes().to_vec(), server).await.is_err() {
            break;
        }
        match io.timeout(Duration::from_millis(1), socket.receive(Vec::with_capacity(16))).await {
            Ok(Ok((_, answer))) => {
                let answer = u64::from_be_bytes(answer[..8].try_into().unwrap());
                trace.note(&io, answer);
                return Some(answer);
            }
            Ok(Err(_)) => break,
            Err(_) => {}
        }
    }
    // Cleans up, cancelled or not.
    let _ = shield(io.sleep(Duration::from_micros(io.tasks().random() % 50))).await;
    None
}

async fn questions<D: Driver>(io: Io<D>, trace: Trace) {
    let socket = UdpSocket::bind(&io, local()).unwrap();
    let server = socket.address().unwrap();
    let answers = io.spawn(async move {
        let mut buffer = Vec::with_capacity(16);
        while let Ok((from, asked)) = socket.receive(buffer).await {
            match socket.send(asked, from).await {
                Ok(back) => buffer = back,
                Err(_) => break,
            }
        }
    });
    let (inner, noted) = (io.clone(), trace.clone());
    io.scope(async |scope| {
        let (sender, mut results) = mpsc::channel(2);
        let mut asked = Vec::new();
        for number in 0..12_u64 {
            let (io, trace, sender) = (inner.clone(), noted.clone(), sender.clone());
            asked.push(scope.spawn(async move {
                if let Some(answer) = question(io, server, number, trace).await {
                    assert_eq!(answer, number);
                    let _ = sender.send(answer).await;
                }
            }));
        }
        drop(sender);
        for _ in 0..4 {
            inner.sleep(Duration::from_nanos(inner.tasks().random() % 2_000_000)).await.unwrap();
            let which = inner.tasks().random() as usize % asked.len();
            match inner.tasks().random() % 3 {
                0 => asked[which].cancel(),
                1 => asked[which].abort(),
                _ => drop(asked.swap_remove(which)),
            }
        }
        // Some are answered, and some are left behind for the scope's end.
        for _ in 0..inner.tasks().random() % 12 {
            match results.recv().await {
                Ok(Some(answer)) => noted.note(&inner, answer),
                _ => break,
            }
        }
    })
    .await;
    answers.cancel();
    answers.await.unwrap();
}

/// One simulation; what happened in it.
fn simulate(seed: u64) -> u64 {
    let io = SimIo::new(seed).unwrap();
    io.set_faults(Faults {
        loss: 100_000,
        duplication: 50_000,
        jitter: Duration::from_micros(100),
        ..Faults::default()
    });
    interrupted(&io, seed, |io, trace| {
        [
            Box::pin(stream(io.clone(), trace.clone())) as Part,
            Box::pin(questions(io.clone(), trace.clone())) as Part,
            Box::pin(stream(io.clone(), trace.clone())) as Part,
        ]
    })
}

#[test]
fn nothing_leaks_and_a_seed_does_the_same_each_time() {
    same_each_time(simulate);
}

#[test]
#[should_panic(expected = "2 tasks wait for what will never happen")]
fn who_waits_for_what_never_happens_is_found() {
    SimIo::new(1).unwrap().run(async |io| {
        let (_sender, mut receiver) = mpsc::channel::<u8>(1);
        io.spawn(async move { receiver.recv().await }).await.unwrap().unwrap();
    });
}

#[test]
fn a_partition_delays_bytes_and_loses_datagrams() {
    SimIo::new(3).unwrap().run(async |io| {
        let [here, there] = [0, 1].map(|_| UdpSocket::bind(&io, local()).unwrap());
        let listener = TcpListener::bind(&io, local()).unwrap();
        let client = TcpStream::connect(&io, listener.address().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        io.set_faults(Faults { partition: true, ..Faults::default() });
        here.send(vec![1], there.address().unwrap()).await.unwrap();
        client.write(vec![2]).await.unwrap();
        let second = Duration::from_secs(1);
        assert!(io.timeout(second, server.read(Vec::with_capacity(9))).await.is_err());
        io.set_faults(Faults::default());
        assert_eq!(server.read(Vec::with_capacity(9)).await.unwrap(), [2]);
        assert!(io.timeout(second, there.receive(Vec::with_capacity(9))).await.is_err());
    });
}

#[test]
fn a_sender_waits_for_a_peer_that_never_reads() {
    SimIo::new(4).unwrap().run(async |io| {
        let listener = TcpListener::bind(&io, local()).unwrap();
        let client = TcpStream::connect(&io, listener.address().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let much = vec![7; 200_000];
        assert!(io.timeout(Duration::from_secs(9), client.write(much)).await.is_err());
        let mut come = 0;
        while let Ok(Ok(part)) =
            io.timeout(Duration::from_secs(1), server.read(Vec::with_capacity(4096))).await
        {
            come += part.len();
        }
        assert!((65_536..200_000).contains(&come), "{come}");
    });
}

#[test]
fn a_power_failure_takes_what_was_not_synced() {
    SimIo::new(5).unwrap().run(async |io| {
        let options = OpenOptions { read: true, write: true, create: true, truncate: false };
        let file = File::open(&io, Path::new("/a"), options).unwrap();
        file.write(0, b"kept".to_vec()).await.unwrap();
        file.sync(true).await.unwrap();
        file.write(0, b"lost".to_vec()).await.unwrap();
        io.lose_power();
        assert_eq!(file.read(0, Vec::with_capacity(9)).await.unwrap(), b"kept");
    });
}
