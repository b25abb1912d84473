//! What goes wrong, on every Io: cancellations that are cancelled, panics with operations under way, a queue that is full.

mod every;

use every::on_every_io;
use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use zsync_runtime::{
    Driver, ErrorKind, Faults, File, Instant, Io, OpenOptions, ReadFlags, SimIo, UdpSocket, WatchEvent,
    WatchFlags, Watches, both, shield,
};

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Asked to end twice, then dropped before it has: its clean-up goes as far as it went, and what comes is the next one's.
async fn a_cancellation_is_cancelled<D: Driver>(io: Io<D>) {
    if !D::SUSPENDS {
        return;
    }
    let [here, there] = [0, 1].map(|_| UdpSocket::bind(&io, local()).unwrap());
    let (to, there) = (there.address().unwrap(), Rc::new(there));
    let steps = Rc::new(Cell::new(0));
    let waits = io.spawn({
        let (io, there, steps) = (io.clone(), there.clone(), steps.clone());
        async move {
            let cancelled = there.receive(Vec::with_capacity(9)).await;
            assert!(cancelled.unwrap_err().is_cancelled());
            steps.set(1);
            shield(io.sleep(Duration::from_secs(100))).await.unwrap();
            steps.set(2);
        }
    });
    io.sleep(Duration::from_millis(1)).await.unwrap();
    waits.cancel();
    waits.cancel();
    io.sleep(Duration::from_millis(1)).await.unwrap();
    waits.cancel();
    io.sleep(Duration::from_millis(1)).await.unwrap();
    assert_eq!((steps.get(), waits.is_finished()), (1, false), "it is cleaning up");
    waits.abort();
    waits.await.unwrap_err();
    assert_eq!(steps.get(), 1);

    let dropped = io.spawn({
        let there = there.clone();
        async move { there.receive(Vec::with_capacity(9)).await.map(drop) }
    });
    io.sleep(Duration::from_millis(1)).await.unwrap();
    dropped.cancel();
    dropped.abort();
    here.send(vec![7], to).await.unwrap();
    assert_eq!(there.receive(Vec::with_capacity(9)).await.unwrap().1, [7]);
}

async fn a_panic_beside_an_operation_under_way_loses_nothing<D: Driver>(io: Io<D>) {
    if !D::SUSPENDS {
        return;
    }
    let [here, there] = [0, 1].map(|_| UdpSocket::bind(&io, local()).unwrap());
    let (to, there) = (there.address().unwrap(), Rc::new(there));
    let panics = io.spawn({
        let (io, there) = (io.clone(), there.clone());
        async move {
            let late = async {
                io.sleep(Duration::from_millis(1)).await.unwrap();
                panic!("as it must")
            };
            let _: (_, ()) = both(there.receive(Vec::with_capacity(9)), late).await;
        }
    });
    assert!(panics.await.unwrap_err().to_string().contains("as it must"));
    here.send(vec![7], to).await.unwrap();
    assert_eq!(there.receive(Vec::with_capacity(9)).await.unwrap().1, [7]);
}

/// Whoever reads too late is told that something is missing, and goes on.
async fn events_that_come_too_fast_are_lost_and_that_is_told<D: Driver>(io: Io<D>) {
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = if D::SIMULATED { 16_384 } else { limit.trim().parse().unwrap() };
    let kind = std::any::type_name::<D>().rsplit(':').next().unwrap();
    let folder = format!("f-{kind}-{}-{:x}", std::process::id(), io.now().as_nanos());
    let folder = std::env::temp_dir().join(folder);
    io.make_directory(&folder).unwrap();
    let paths = ["one", "two"].map(|name| folder.join(name));
    let options = OpenOptions { write: true, create: true, ..OpenOptions::default() };
    let files = [0, 1].map(|at| File::open(&io, &paths[at], options).unwrap());
    let watches = Watches::new(&io).unwrap();
    watches.add(&folder, WatchFlags::MODIFY).unwrap();
    for _ in 0..limit / 2 {
        files.iter().for_each(|file| file.truncate(0).unwrap());
    }
    // In a full queue it is not the same as the last one.
    files[1].truncate(0).unwrap();
    // (As many are read at a time as have room, which are these.)
    let name = |event: WatchEvent| event.name.into_string().unwrap();
    assert_eq!(name(watches.next().await.unwrap()), "one");
    // There is room again, and is none before the overflow has been told.
    for _ in 0..limit / 2 {
        files.iter().for_each(|file| file.truncate(0).unwrap());
    }
    for number in 1..limit {
        let event = watches.next().await.unwrap();
        assert_eq!((event.what, &*event.name), (ReadFlags::MODIFY, ["one", "two"][number % 2].as_ref()));
    }
    let event = watches.next().await.unwrap();
    assert_eq!((event.watch, event.what, &*event.name), (-1, ReadFlags::QUEUE_OVERFLOW, "".as_ref()));
    let mut behind = 0;
    while let Ok(event) = io.timeout(Duration::from_millis(2), watches.next()).await {
        assert_eq!(name(event.unwrap()), ["one", "two"][behind % 2]);
        behind += 1;
    }
    // 4,096 bytes of events of 32, less the place that the overflow takes.
    assert_eq!(behind, 127);
    files[1].truncate(0).unwrap();
    assert_eq!(watches.next().await.unwrap().name, "two");
    paths.iter().for_each(|path| io.remove_file(path).unwrap());
    io.remove_directory(&folder).unwrap();
}

on_every_io!(
    a_cancellation_is_cancelled,
    a_panic_beside_an_operation_under_way_loses_nothing,
    events_that_come_too_fast_are_lost_and_that_is_told,
);

#[test]
fn a_clock_that_steps_fires_all_that_is_due_in_its_order_and_nothing_else() {
    SimIo::new(1).unwrap().run(async |io| {
        let fired = Rc::new(Cell::new(0));
        let sleeps: Vec<_> = [1, 10, 3600, 7200, 10_000]
            .map(|seconds| {
                let (inner, fired) = (io.clone(), fired.clone());
                io.spawn(async move {
                    inner.sleep(Duration::from_secs(seconds)).await.unwrap();
                    fired.set(fired.get() * 10 + 1 + seconds / 3600);
                })
            })
            .into();
        io.sleep(Duration::from_millis(1)).await.unwrap();
        io.step_clock(Duration::from_secs(8000));
        assert_eq!(fired.get(), 0, "not within this poll");
        io.sleep_until(Instant::ZERO).await.unwrap();
        io.sleep(Duration::from_millis(1)).await.unwrap();
        assert_eq!(fired.get(), 1123);
        assert!(!sleeps[4].is_finished());
    });
}

#[test]
fn a_send_without_memory_names_itself_and_can_be_tried_again() {
    SimIo::new(1).unwrap().run(async |io| {
        let [here, there] = [0, 1].map(|_| UdpSocket::bind(&io, local()).unwrap());
        io.set_faults(Faults { exhaustion: 1_000_000, ..Faults::default() });
        let error = here.send(vec![1], there.address().unwrap()).await.unwrap_err();
        assert!(error.is_exhaustion() && error.operation() == "send", "{error}");
        assert!(matches!(error.kind(), ErrorKind::System(errno) if errno.raw_os_error() == libc::ENOBUFS));
        io.set_faults(Faults::default());
        here.send(vec![2], there.address().unwrap()).await.unwrap();
        assert_eq!(there.receive(Vec::with_capacity(9)).await.unwrap().1, [2]);
    });
}

/// What waits for a connection when descriptors run out is told; the connection waits for the next one, who may be waiting already.
#[test]
fn a_simulated_accept_that_waits_can_run_out_of_descriptors() {
    let io = SimIo::new(1).unwrap();
    io.run(async |io| {
        let listener = zsync_runtime::TcpListener::bind(&io, local()).unwrap();
        let to = listener.address().unwrap();
        let [mut accepts, mut second] = [0; 2].map(|_| Box::pin(listener.accept()));
        for accepts in [&mut accepts, &mut second] {
            assert!(poll_fn(|cx| Poll::Ready(accepts.as_mut().poll(cx).is_pending())).await);
        }
        let _client = zsync_runtime::TcpStream::connect(&io, to).await.unwrap();
        io.limit_descriptors(2);
        let error = accepts.await.unwrap_err();
        assert!(error.is_exhaustion() && error.operation() == "accept", "{error}");
        io.limit_descriptors(3);
        second.await.unwrap();
    });
    io.settle();
    assert_eq!(io.open_descriptors(), 0);
}

/// A simulation is gone with its last [`Io`], whatever is still under way in it.
#[test]
fn a_simulation_that_is_dropped_with_operations_under_way_leaves_nothing() {
    let mine = Rc::new(());
    let io = SimIo::new(1).unwrap();
    let its = mine.clone();
    io.program("keeper", move |_| {
        let _its = its.clone();
        async { 0 }
    });
    io.run(async |io| {
        let socket = UdpSocket::bind(&io, local()).unwrap();
        let mut receives = Box::pin(socket.receive(Vec::with_capacity(9)));
        assert!(poll_fn(|cx| Poll::Ready(receives.as_mut().poll(cx).is_pending())).await);
    });
    assert_eq!((io.open_descriptors(), Rc::strong_count(&mine)), (1, 2), "it is under way");
    drop(io);
    assert_eq!(Rc::strong_count(&mine), 1);
}
