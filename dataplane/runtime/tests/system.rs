//! Watches and signals, on every Io.

mod every;

use every::on_every_io;
use std::time::Duration;
use zsync_runtime::{Driver, File, Io, OpenOptions, ReadFlags, Signal, Signals, WatchFlags, Watches};

async fn what_happens_in_a_directory_is_told<D: Driver>(io: Io<D>) {
    let kind = std::any::type_name::<D>().rsplit(':').next().unwrap();
    let folder = std::env::temp_dir().join(format!("w-{kind}-{}", std::process::id()));
    io.make_directory(&folder).unwrap();
    let watches = Watches::new(&io).unwrap();
    let what = WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE;
    let watch = watches.add(&folder, what).unwrap();
    let late = io.timeout(Duration::from_millis(5), watches.next()).await;
    assert!(late.is_err(), "nothing has happened");
    let [one, two] = ["one", "a longer name"].map(|name| folder.join(name));
    File::open(&io, &one, OpenOptions { write: true, create: true, ..OpenOptions::default() }).unwrap();
    io.rename(&one, &two).unwrap();
    io.remove_file(&two).unwrap();
    watches.remove(watch).unwrap();
    let expected = [
        (ReadFlags::CREATE, "one"),
        (ReadFlags::MOVED_FROM, "one"),
        (ReadFlags::MOVED_TO, "a longer name"),
        (ReadFlags::DELETE, "a longer name"),
        (ReadFlags::IGNORED, ""),
    ];
    let mut cookies = Vec::new();
    for (what, name) in expected {
        let event = watches.next().await.unwrap();
        assert_eq!((event.watch, event.what, &*event.name), (watch, what, name.as_ref()));
        cookies.push(event.cookie);
    }
    assert!(cookies[1] == cookies[2] && cookies[1] != cookies[0], "{cookies:?}");
    io.remove_directory(&folder).unwrap();
    let error = watches.add(&folder, what).unwrap_err();
    assert!(error.to_string().contains("w-"), "{error}");
}

async fn signals_are_read<D: Driver>(io: Io<D>) {
    use nix::sys::signal::{SigSet, Signal as Kind};
    let mut mask = SigSet::empty();
    mask.add(Kind::SIGUSR1);
    mask.add(Kind::SIGUSR2);
    mask.thread_block().unwrap();
    let signals = Signals::new(&io, &[Signal::USR1, Signal::USR2]).unwrap();
    assert!(io.timeout(Duration::from_millis(5), signals.next()).await.is_err());
    let this = if D::SIMULATED { 1 } else { std::process::id() };
    for signal in [Signal::USR2, Signal::USR1] {
        io.raise(signal).unwrap();
        io.raise(signal).unwrap();
        let received = signals.next().await.unwrap();
        assert_eq!((received.signal, received.process), (signal, this));
        assert!(io.timeout(Duration::from_millis(5), signals.next()).await.is_err(), "two are one");
    }
}

on_every_io!(what_happens_in_a_directory_is_told, signals_are_read);
