//! As `simulation`, of what stays on a host: datagrams at a path, watches, signals and children, each interrupted again and again, in many
//! simulations; and a writer that is killed anywhere.

mod seeds;

use seeds::{Part, Trace, interrupted, same_each_time};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use zsync_runtime::{
    Child, Driver, Either, File, Io, OpenOptions, ReadFlags, Signal, Signals, SimIo, SimProcess, Streams,
    UnixDatagram, WatchFlags, Watches, either, yield_now,
};

const OPTIONS: OpenOptions = OpenOptions { read: true, write: true, create: true, truncate: true };

/// What a wait gives that is dropped now and then before it has anything.
async fn persistent<D: Driver, T>(io: &Io<D>, wait: impl AsyncFn() -> T) -> T {
    loop {
        if io.tasks().random().is_multiple_of(2) {
            let patience = Duration::from_nanos(io.tasks().random() % 30_000);
            if let Ok(done) = io.timeout(patience, wait()).await {
                return done;
            }
        } else if let Either::First(done) = either(wait(), yield_now()).await {
            return done;
        }
    }
}

/// All that is sent to a path comes, in its order, however often who waits for it gives up.
async fn datagrams<D: Driver>(io: Io<D>, trace: Trace) {
    let path = Path::new("/datagrams");
    let here = UnixDatagram::bind(&io, path).unwrap();
    let there = UnixDatagram::to(&io, path).unwrap();
    let count = 30 + io.tasks().random() % 30;
    let sends = io.spawn(async move {
        for number in 0..count {
            there.send(number.to_be_bytes().to_vec(), Vec::new()).await.unwrap();
        }
    });
    for number in 0..count {
        let (bytes, _) = persistent(&io, || here.receive(Vec::with_capacity(16))).await.unwrap();
        assert_eq!(bytes, number.to_be_bytes());
        trace.note(&io, number);
    }
    sends.await.unwrap();
}

/// All that is made is told, in its order.
async fn files<D: Driver>(io: Io<D>, trace: Trace) {
    let folder = Path::new("/folder");
    io.make_directory(folder).unwrap();
    let watches = Watches::new(&io).unwrap();
    watches.add(folder, WatchFlags::CREATE | WatchFlags::CLOSE_WRITE).unwrap();
    let inner = io.clone();
    let writes = io.spawn(async move {
        for number in 0..20 {
            let file = File::open(&inner, &folder.join(number.to_string()), OPTIONS).unwrap();
            file.write(0, vec![1]).await.unwrap();
        }
    });
    for number in 0..20 {
        for what in [ReadFlags::CREATE, ReadFlags::CLOSE_WRITE] {
            let event = persistent(&io, || watches.next()).await.unwrap();
            assert_eq!((event.what, &*event.name), (what, number.to_string().as_ref()));
            trace.note(&io, u64::from(what.bits()));
        }
    }
    writes.await.unwrap();
}

/// Gives back what it reads, and ends with 3 when it is told to.
async fn mirror(process: SimProcess) -> u8 {
    let SimProcess { io, input, output, .. } = process;
    let signals = Signals::new(&io, &[Signal::TERM]).unwrap();
    loop {
        match either(input.read(Vec::with_capacity(7)), signals.next()).await {
            Either::First(part) if part.as_ref().is_ok_and(Vec::is_empty) => return 0,
            Either::First(part) => match output.write(part.unwrap()).await {
                Ok(_) => {}
                Err(_) => return 1,
            },
            Either::Second(_) => return 3,
        }
    }
}

/// Children that end in all ways there are; each end is a signal, and of those that come together one.
async fn children<D: Driver>(io: Io<D>, trace: Trace) {
    let signals = Signals::new(&io, &[Signal::CHILD]).unwrap();
    for _ in 0..8 {
        let streams = Streams { input: true, output: true, errors: false };
        let mut child = Child::spawn_with(&io, &mut Command::new("mirror"), streams).unwrap();
        let (input, output) = (child.input.take().unwrap(), child.output.take().unwrap());
        let _ = input.write(vec![1; 20]).await;
        // Not nothing: who asks again and again without waiting lets nothing happen.
        let wait = 1 + io.tasks().random() % 100_000;
        let _ = io.timeout(Duration::from_nanos(wait), output.read(Vec::with_capacity(30))).await;
        let expected = match io.tasks().random() % 5 {
            0 => {
                child.signal(Signal::KILL).unwrap();
                [9, 9]
            }
            1 => {
                child.signal(Signal::TERM).unwrap();
                // It may not listen yet.
                [15, 3 << 8]
            }
            2 => {
                drop(input);
                [0, 0]
            }
            3 => {
                drop(output);
                io.sleep(Duration::from_micros(100)).await.unwrap();
                drop(input);
                [0, 1 << 8]
            }
            _ => {
                drop(child);
                assert_eq!(persistent(&io, || signals.next()).await.unwrap().signal, Signal::CHILD);
                continue;
            }
        };
        while io.timeout(Duration::from_nanos(wait), child.wait()).await.is_err() {}
        let ended = std::os::unix::process::ExitStatusExt::into_raw(child.wait().await.unwrap());
        assert!(expected.contains(&ended), "{ended}: {expected:?}");
        assert_eq!(persistent(&io, || signals.next()).await.unwrap().process, child.id());
        trace.note(&io, ended as u64);
    }
}

fn simulate(seed: u64) -> u64 {
    let io = SimIo::new(seed).unwrap();
    io.program("mirror", mirror);
    interrupted(&io, seed, |io, trace| {
        [
            Box::pin(datagrams(io.clone(), trace.clone())) as Part,
            Box::pin(files(io.clone(), trace.clone())) as Part,
            Box::pin(children(io.clone(), trace.clone())) as Part,
        ]
    })
}

#[test]
fn nothing_leaks_and_a_seed_does_the_same_each_time() {
    same_each_time(simulate);
}

/// Writes a file anew, so that there is one at any moment: the old one or the new one, and whole.
async fn writer(process: SimProcess) -> u8 {
    let io = process.io;
    for round in 1..4_u8 {
        let new = File::open(&io, Path::new("/new"), OPTIONS).unwrap();
        new.write(0, vec![round; 100]).await.unwrap();
        new.sync(true).await.unwrap();
        io.rename(Path::new("/new"), Path::new("/kept")).unwrap();
    }
    0
}

#[test]
fn a_writer_that_is_killed_at_any_await_and_loses_power_leaves_a_whole_file() {
    let mut left = [0; 4];
    for seed in 0..300 {
        let io = SimIo::new(seed).unwrap();
        io.program("writer", writer);
        let round = io.run(async |io| {
            let file = File::open(&io, Path::new("/kept"), OPTIONS).unwrap();
            file.write(0, vec![0; 100]).await.unwrap();
            file.sync(true).await.unwrap();
            let mut child = Child::spawn(&io, &mut Command::new("writer")).unwrap();
            let wait = Duration::from_nanos(io.tasks().random() % 70_000);
            if io.timeout(wait, child.wait()).await.is_err() {
                child.signal(Signal::KILL).unwrap();
            }
            io.lose_power();
            let kept = File::open(&io, Path::new("/kept"), OpenOptions::default()).unwrap();
            let bytes = kept.read(0, Vec::with_capacity(200)).await.unwrap();
            assert!(bytes.len() == 100 && bytes.iter().all(|byte| *byte == bytes[0]), "{bytes:?}");
            bytes[0]
        });
        left[usize::from(round)] += 1;
    }
    assert!(left.iter().all(|count| *count > 5), "{left:?}");
}
