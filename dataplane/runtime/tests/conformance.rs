//! What every Io does alike: each case is written once, and run over each of them.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use zsync_runtime::{
    BlockingIo, Driver, Either, ErrorKind, File, Io, OpenOptions, PoolIo, SimIo, SocketOption, TcpListener,
    TcpStream, UdpSocket, Uring, UringIo, either, yield_now,
};

const LOCAL: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

fn local() -> [SocketAddr; 2] {
    LOCAL.map(|address| address.parse().unwrap())
}

async fn datagrams_come_whole_in_order_and_with_their_senders<D: Driver>(io: Io<D>) {
    for address in local() {
        let [here, there] = [UdpSocket::bind(&io, address).unwrap(), UdpSocket::bind(&io, address).unwrap()];
        for number in 0..10_u8 {
            let sent = here.send(vec![number; usize::from(number)], there.address().unwrap()).await.unwrap();
            assert_eq!(sent.len(), usize::from(number), "the buffer comes back");
        }
        let mut buffer = Vec::with_capacity(64);
        for number in 0..10_u8 {
            let (from, received) = there.receive(buffer).await.unwrap();
            assert_eq!(from, here.address().unwrap());
            assert_eq!(received, vec![number; usize::from(number)]);
            buffer = received;
        }
    }
}

async fn a_datagram_longer_than_the_buffer_is_cut<D: Driver>(io: Io<D>) {
    let [here, there] = local().map(|_| UdpSocket::bind(&io, local()[0]).unwrap());
    here.send(vec![1; 100], there.address().unwrap()).await.unwrap();
    here.send(vec![2; 5], there.address().unwrap()).await.unwrap();
    let buffer = Vec::with_capacity(10);
    let room = buffer.capacity();
    assert_eq!(there.receive(buffer).await.unwrap().1, vec![1; room]);
    assert_eq!(there.receive(Vec::with_capacity(10)).await.unwrap().1, vec![2; 5]);
}

async fn a_stream_carries_bytes_to_its_end<D: Driver>(io: Io<D>) {
    for address in local() {
        let listener = TcpListener::bind(&io, address).unwrap();
        let client = TcpStream::connect(&io, listener.address().unwrap()).await.unwrap();
        client.set(SocketOption::NoDelay(true)).unwrap();
        let (server, from) = listener.accept().await.unwrap();
        assert_eq!(from.ip(), address.ip());
        client.write(b"there".to_vec()).await.unwrap();
        client.shutdown().unwrap();
        let mut all = Vec::new();
        loop {
            let part = server.read(Vec::with_capacity(2)).await.unwrap();
            if part.is_empty() {
                break;
            }
            all.extend(part);
        }
        assert_eq!(all, b"there");
        server.write(b"and back".to_vec()).await.unwrap();
        drop(server);
        assert_eq!(client.read(Vec::with_capacity(100)).await.unwrap(), b"and back");
        assert!(client.read(Vec::with_capacity(100)).await.unwrap().is_empty());
    }
}

async fn an_error_names_the_operation_and_the_address<D: Driver>(io: Io<D>) {
    let nobody = {
        let listener = TcpListener::bind(&io, local()[0]).unwrap();
        listener.address().unwrap()
    };
    let error = TcpStream::connect(&io, nobody).await.unwrap_err();
    assert_eq!(error.operation(), "connect");
    assert!(error.to_string().contains(&nobody.to_string()), "{error}");
    assert!(matches!(error.kind(), ErrorKind::System(errno) if errno.raw_os_error() == 111), "{error}");

    let taken = UdpSocket::bind(&io, local()[0]).unwrap();
    let error = UdpSocket::bind(&io, taken.address().unwrap()).unwrap_err();
    assert_eq!(error.operation(), "bind to");
}

async fn a_file_keeps_what_is_written<D: Driver>(io: Io<D>) {
    let path = folder().join(format!("kept-{:x}", io.now().as_nanos()));
    let options = OpenOptions { read: true, write: true, create: true, truncate: true };
    let file = File::open(&io, &path, options).unwrap();
    assert!(file.is_empty().unwrap());
    file.write(0, b"0123456789".to_vec()).await.unwrap();
    file.write(5, b"abc".to_vec()).await.unwrap();
    file.sync(true).await.unwrap();
    file.sync(false).await.unwrap();
    assert_eq!(file.len().unwrap(), 10);
    assert_eq!(file.read(3, Vec::with_capacity(4)).await.unwrap(), b"34ab");
    assert!(file.read(10, Vec::with_capacity(4)).await.unwrap().is_empty());
    // Of a simulation, there is none.
    let _ = std::fs::remove_file(&path);

    let missing = folder().join("not-kept-at-all");
    let error = File::open(&io, &missing, OpenOptions { read: true, ..OpenOptions::default() }).unwrap_err();
    assert!(error.to_string().contains("kept-"), "{error}");
}

async fn a_receive_that_is_late_is_over_and_loses_nothing<D: Driver>(io: Io<D>) {
    let [here, there] = local().map(|_| UdpSocket::bind(&io, local()[0]).unwrap());
    let begin = io.now();
    let late = io.timeout(Duration::from_millis(20), there.receive(Vec::with_capacity(10))).await;
    assert!(late.is_err());
    let passed = io.now().since(begin);
    assert!(passed >= Duration::from_millis(20), "{passed:?}");
    here.send(vec![7], there.address().unwrap()).await.unwrap();
    let soon = io.timeout(Duration::from_secs(5), there.receive(Vec::with_capacity(10))).await;
    assert_eq!(soon.unwrap().unwrap().1, [7]);
}

async fn what_is_cancelled_begins_nothing<D: Driver>(io: Io<D>) {
    let inner = io.clone();
    let [here, there] = local().map(|_| UdpSocket::bind(&io, local()[0]).unwrap());
    let to = there.address().unwrap();
    let canceller = zsync_runtime::Canceller::default();
    canceller.cancel();
    let error = zsync_runtime::cancellable(&canceller, here.send(vec![1], to)).await.unwrap_err();
    assert!(error.is_cancelled());
    assert_eq!(
        zsync_runtime::cancellable(&canceller, inner.sleep(Duration::from_secs(100))).await.ok(),
        None
    );
    // In a shield it does.
    zsync_runtime::cancellable(&canceller, zsync_runtime::shield(here.send(vec![2], to))).await.unwrap();
    assert_eq!(there.receive(Vec::with_capacity(10)).await.unwrap().1, [2]);
}

async fn tasks_end_before_their_scope<D: Driver>(io: Io<D>) {
    let sum = io
        .scope(async |scope| {
            let parts: Vec<_> = (0..10_u64).map(|number| scope.spawn(async move { number })).collect();
            let mut sum = 0;
            for part in parts {
                sum += part.await.unwrap();
            }
            sum
        })
        .await;
    assert_eq!(sum, 45);
}

async fn a_panic_is_its_tasks_alone<D: Driver>(io: Io<D>) {
    let bad = io.spawn(async { panic!("as it must") });
    let good = io.spawn(async { 1 });
    assert!(bad.await.unwrap_err().to_string().contains("as it must"));
    assert_eq!(good.await.unwrap(), 1);
}

async fn a_sleep_is_as_long_as_it_says<D: Driver>(io: Io<D>) {
    for millis in [0, 1, 15] {
        let begin = io.now();
        io.sleep(Duration::from_millis(millis)).await.unwrap();
        assert!(io.now().since(begin) >= Duration::from_millis(millis));
    }
    io.sleep_until(zsync_runtime::Instant::ZERO).await.unwrap();
}

/// Cases of what only an Io that suspends can do: to wait here while others run.
mod suspending {
    use super::*;

    pub async fn a_receive_that_is_dropped_again_and_again_loses_no_datagram<D: Driver>(io: Io<D>) {
        let [here, there] = local().map(|_| UdpSocket::bind(&io, local()[0]).unwrap());
        let to = there.address().unwrap();
        let inner = io.clone();
        let sender = io.spawn(async move {
            for number in 0..2000_u32 {
                here.send(number.to_be_bytes().to_vec(), to).await.unwrap();
                if number % 7 == 0 {
                    inner.sleep(Duration::from_micros(u64::from(number % 5) * 50)).await.unwrap();
                }
            }
        });
        let mut drops = 0;
        for number in 0..2000_u32 {
            let received = loop {
                // Each wait is dropped after one turn of the others, if nothing has come.
                match either(there.receive(Vec::with_capacity(16)), yield_now()).await {
                    Either::First(received) => break received.unwrap().1,
                    Either::Second(_) => drops += 1,
                }
            };
            assert_eq!(received, number.to_be_bytes(), "lost or out of order");
        }
        sender.await.unwrap();
        assert!(drops > 100, "only {drops} waits were dropped");
    }

    pub async fn a_read_that_is_dropped_again_and_again_loses_no_byte<D: Driver>(io: Io<D>) {
        let listener = TcpListener::bind(&io, local()[0]).unwrap();
        let client = TcpStream::connect(&io, listener.address().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let writer = io.spawn(async move {
            for number in 0..5000_u32 {
                client.write(number.to_be_bytes().to_vec()).await.unwrap();
            }
        });
        let mut all = Vec::new();
        loop {
            match either(server.read(Vec::with_capacity(13)), yield_now()).await {
                Either::First(part) => match part.unwrap() {
                    part if part.is_empty() => break,
                    part => all.extend(part),
                },
                Either::Second(_) => {}
            }
        }
        writer.await.unwrap();
        let expected: Vec<u8> = (0..5000_u32).flat_map(u32::to_be_bytes).collect();
        assert_eq!(all, expected);
    }

    pub async fn an_accept_that_is_dropped_again_and_again_loses_no_connection<D: Driver>(io: Io<D>) {
        let listener = TcpListener::bind(&io, local()[1]).unwrap();
        let to = listener.address().unwrap();
        let inner = io.clone();
        let clients = io.spawn(async move {
            for number in 0..50_u8 {
                let stream = TcpStream::connect(&inner, to).await.unwrap();
                stream.write(vec![number]).await.unwrap();
            }
        });
        for number in 0..50_u8 {
            let stream = loop {
                if let Either::First(accepted) = either(listener.accept(), yield_now()).await {
                    break accepted.unwrap().0;
                }
            };
            assert_eq!(stream.read(Vec::with_capacity(8)).await.unwrap(), [number]);
        }
        clients.await.unwrap();
    }

    /// What came to one who left is not kept from another who waits already: of datagrams, connections and bytes.
    pub async fn who_waits_beside_one_that_is_dropped_gets_what_that_one_had<D: Driver>(io: Io<D>) {
        /// Both wait; one thing comes, to the first of them, who is dropped before it looks.
        async fn second<D: Driver, T>(io: &Io<D>, wait: impl AsyncFn() -> T, send: impl AsyncFnOnce()) -> T {
            let mut first = Box::pin(wait());
            let mut second = Box::pin(wait());
            for waits in [&mut first, &mut second] {
                let begun = poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())).await;
                assert!(begun, "nothing has come yet");
            }
            send().await;
            io.sleep(Duration::from_millis(5)).await.unwrap();
            drop(first);
            io.timeout(Duration::from_secs(5), second).await.expect("it was left in the stash")
        }
        let [here, there] = local().map(|_| UdpSocket::bind(&io, local()[0]).unwrap());
        let to = there.address().unwrap();
        let receive = async || there.receive(Vec::with_capacity(8)).await.unwrap().1;
        let send = async || _ = here.send(vec![7], to).await.unwrap();
        assert_eq!(second(&io, receive, send).await, [7]);

        let listener = TcpListener::bind(&io, local()[0]).unwrap();
        let to = listener.address().unwrap();
        let clients = RefCell::new(Vec::new());
        let connect = async || {
            let client = TcpStream::connect(&io, to).await.unwrap();
            clients.borrow_mut().push(client);
        };
        let accept = async || listener.accept().await.unwrap().0;
        let server = second(&io, accept, connect).await;

        let client = clients.into_inner().remove(0);
        let read = async || server.read(Vec::with_capacity(8)).await.unwrap();
        let write = async || client.write(vec![1, 2, 3]).await.unwrap();
        assert_eq!(second(&io, read, async || _ = write().await).await, [1, 2, 3]);
        // And what comes later comes behind.
        client.write(vec![4]).await.unwrap();
        assert_eq!(server.read(Vec::with_capacity(8)).await.unwrap(), [4]);
    }

    pub async fn a_parked_operation_is_cancelled_and_its_datagram_is_the_next_ones<D: Driver>(io: Io<D>) {
        let [here, there] = local().map(|_| UdpSocket::bind(&io, local()[0]).unwrap());
        let there = Rc::new(there);
        let waits = {
            let there = there.clone();
            io.spawn(async move { there.receive(Vec::with_capacity(10)).await })
        };
        io.sleep(Duration::from_millis(1)).await.unwrap();
        waits.cancel();
        assert!(waits.await.unwrap().unwrap_err().is_cancelled());
        here.send(vec![3], there.address().unwrap()).await.unwrap();
        assert_eq!(there.receive(Vec::with_capacity(10)).await.unwrap().1, [3]);
    }

    pub async fn hundreds_of_connections_echo_at_a_time<D: Driver>(io: Io<D>) {
        const COUNT: u16 = 200;
        let listener = TcpListener::bind(&io, local()[0]).unwrap();
        let to = listener.address().unwrap();
        let server = io.spawn({
            let io = io.clone();
            async move {
                io.scope(async |scope| {
                    for _ in 0..COUNT {
                        let (stream, _) = listener.accept().await.unwrap();
                        drop(scope.spawn(async move {
                            let mut buffer = Vec::with_capacity(64);
                            loop {
                                buffer = stream.read(buffer).await.unwrap();
                                if buffer.is_empty() {
                                    break;
                                }
                                buffer = stream.write(buffer).await.unwrap();
                            }
                        }));
                    }
                    scope.wait().await.unwrap();
                })
                .await;
            }
        });
        let clients: Vec<_> = (0..COUNT)
            .map(|number| {
                let io = io.clone();
                io.clone().spawn(async move {
                    let stream = TcpStream::connect(&io, to).await.unwrap();
                    for round in 0..5 {
                        let message = [number.to_be_bytes(), [round, 0]].concat();
                        stream.write(message.clone()).await.unwrap();
                        let mut back = Vec::new();
                        while back.len() < message.len() {
                            back.extend(stream.read(Vec::with_capacity(64)).await.unwrap());
                        }
                        assert_eq!(back, message);
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        server.await.unwrap();
    }

    pub async fn a_timer_fires_beside_a_task_that_always_yields<D: Driver>(io: Io<D>) {
        let busy = io.spawn(async { while yield_now().await.is_ok() {} });
        let begin = io.now();
        io.sleep(Duration::from_millis(10)).await.unwrap();
        let passed = io.now().since(begin);
        assert!(passed >= Duration::from_millis(10), "{passed:?}");
        busy.cancel();
        busy.await.unwrap();
    }

    pub async fn a_timer_fires_beside_a_socket_that_always_has_something<D: Driver>(io: Io<D>) {
        let socket = UdpSocket::bind(&io, local()[0]).unwrap();
        let to = socket.address().unwrap();
        let inner = io.clone();
        let timer = io.spawn(async move { inner.sleep(Duration::from_millis(1)).await });
        let mut rounds = 0;
        while !timer.is_finished() {
            rounds += 1;
            assert!(rounds < 1_000_000, "the timer has no turn");
            socket.send(vec![1], to).await.unwrap();
            socket.receive(Vec::with_capacity(8)).await.unwrap();
        }
        timer.await.unwrap().unwrap();
    }

    pub async fn what_is_under_way_at_the_end_is_waited_for<D: Driver>(io: Io<D>) {
        for _ in 0..100 {
            let socket = UdpSocket::bind(&io, local()[0]).unwrap();
            drop(io.spawn(async move { socket.receive(Vec::with_capacity(100)).await }));
        }
        yield_now().await.unwrap();
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// Runs the cases over one Io.
macro_rules! over {
    ($name:ident, $io:expr, $($case:ident),* $(,)?) => {
        mod $name {
            use super::*;

            $(
                #[test]
                fn $case() {
                    $io.run(async |io| super::$case(io).await);
                }
            )*
        }
    };
}

macro_rules! suspending_cases {
    ($name:ident, $io:expr) => {
        mod $name {
            use super::*;

            suspending_cases!(
                $io,
                a_receive_that_is_dropped_again_and_again_loses_no_datagram,
                a_read_that_is_dropped_again_and_again_loses_no_byte,
                an_accept_that_is_dropped_again_and_again_loses_no_connection,
                who_waits_beside_one_that_is_dropped_gets_what_that_one_had,
                a_parked_operation_is_cancelled_and_its_datagram_is_the_next_ones,
                hundreds_of_connections_echo_at_a_time,
                a_timer_fires_beside_a_task_that_always_yields,
                a_timer_fires_beside_a_socket_that_always_has_something,
                what_is_under_way_at_the_end_is_waited_for,
            );
        }
    };
    ($io:expr, $($case:ident),* $(,)?) => {
        $(
            #[test]
            fn $case() {
                $io.run(async |io| super::suspending::$case(io).await);
            }
        )*
    };
}

macro_rules! all_cases {
    ($name:ident, $io:expr) => {
        over!(
            $name,
            $io,
            datagrams_come_whole_in_order_and_with_their_senders,
            a_datagram_longer_than_the_buffer_is_cut,
            a_stream_carries_bytes_to_its_end,
            an_error_names_the_operation_and_the_address,
            a_file_keeps_what_is_written,
            a_receive_that_is_late_is_over_and_loses_nothing,
            what_is_cancelled_begins_nothing,
            tasks_end_before_their_scope,
            a_panic_is_its_tasks_alone,
            a_sleep_is_as_long_as_it_says,
        );
    };
}

all_cases!(blocking, BlockingIo::new().unwrap());
all_cases!(pool, PoolIo::new().unwrap());
suspending_cases!(pool_suspending, PoolIo::new().unwrap());
all_cases!(uring, UringIo::new().unwrap());
suspending_cases!(uring_suspending, UringIo::new().unwrap());
all_cases!(uring_by_readiness, UringIo::without(&Uring::OPERATIONS).unwrap());
suspending_cases!(uring_by_readiness_suspending, UringIo::without(&Uring::OPERATIONS).unwrap());
all_cases!(simulated, SimIo::new(1).unwrap());
suspending_cases!(simulated_suspending, SimIo::new(2).unwrap());

#[test]
fn a_ring_says_what_it_does_without() {
    assert_eq!(UringIo::new().unwrap().driver().fallen_back(), [""; 0]);
    let without = ["fsync", "recv", "recv", "nothing of this name"];
    assert_eq!(UringIo::without(&without).unwrap().driver().fallen_back(), ["recv", "fsync"]);
    assert_eq!(UringIo::without(&Uring::OPERATIONS).unwrap().driver().fallen_back(), Uring::OPERATIONS);
}
