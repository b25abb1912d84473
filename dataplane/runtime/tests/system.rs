//! Watches, signals and children, on every Io that is over the kernel; a simulation says that it has none.

mod every;

use every::on_every_io;
use rustix::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;
use zsync_runtime::{
    Child, Driver, ErrorKind, Io, PipeReader, ReadFlags, Signal, Signals, WatchFlags, Watches,
};

fn is_unsupported(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::System(error) if error.raw_os_error() == libc::EOPNOTSUPP)
}

async fn what_happens_in_a_directory_is_told<D: Driver>(io: Io<D>) {
    if D::SIMULATED {
        let error = Watches::new(&io).unwrap_err();
        assert!(is_unsupported(error.kind()) && error.to_string().starts_with("make watches"), "{error}");
        return;
    }
    let kind = std::any::type_name::<D>().rsplit(':').next().unwrap();
    let folder = std::env::temp_dir().join(format!("w-{kind}-{}", std::process::id()));
    io.make_directory(&folder).unwrap();
    let watches = Watches::new(&io).unwrap();
    let what = WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE;
    let watch = watches.add(&folder, what).unwrap();
    let late = io.timeout(Duration::from_millis(5), watches.next()).await;
    assert!(late.is_err(), "nothing has happened");
    let [one, two] = ["one", "a longer name"].map(|name| folder.join(name));
    std::fs::write(&one, b"").unwrap();
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
    if D::SIMULATED {
        let error = Signals::new(&io, &[Signal::USR1]).unwrap_err();
        assert!(is_unsupported(error.kind()) && error.operation() == "listen to", "{error}");
        return;
    }
    use nix::sys::signal::{SigSet, Signal as Kind, raise};
    let mut mask = SigSet::empty();
    mask.add(Kind::SIGUSR1);
    mask.add(Kind::SIGUSR2);
    mask.thread_block().unwrap();
    let signals = Signals::new(&io, &[Signal::USR1, Signal::USR2]).unwrap();
    assert!(io.timeout(Duration::from_millis(5), signals.next()).await.is_err());
    for (kind, expected) in [(Kind::SIGUSR2, Signal::USR2), (Kind::SIGUSR1, Signal::USR1)] {
        // To this thread, as the others of a test do not block it.
        raise(kind).unwrap();
        raise(kind).unwrap();
        let received = signals.next().await.unwrap();
        assert_eq!((received.signal, received.process), (expected, std::process::id()));
        assert!(io.timeout(Duration::from_millis(5), signals.next()).await.is_err(), "two are one");
    }
}

async fn children_are_waited_for_and_signalled<D: Driver>(io: Io<D>) {
    let mut command = Command::new("sh");
    if D::SIMULATED {
        let error = Child::spawn(&io, &mut command).unwrap_err();
        assert!(is_unsupported(error.kind()) && error.to_string().starts_with("start sh"), "{error}");
        return;
    }
    let mut child = Child::spawn(&io, command.args(["-c", "sleep 0.05; exit 3"])).unwrap();
    let late = io.timeout(Duration::from_millis(5), child.wait()).await;
    assert!(late.is_err(), "it runs");
    assert_eq!(child.wait().await.unwrap().code(), Some(3));
    assert_eq!(child.wait().await.unwrap().code(), Some(3), "again");
    child.signal(Signal::TERM).unwrap_err();

    let mut sleeps = Child::spawn(&io, Command::new("sleep").arg("100")).unwrap();
    sleeps.signal(Signal::TERM).unwrap();
    assert_eq!(sleeps.wait().await.unwrap().signal(), Some(libc::SIGTERM));

    let dropped = Child::spawn(&io, Command::new("sleep").arg("100")).unwrap();
    let process = format!("/proc/{}", dropped.process.id());
    assert!(std::path::Path::new(&process).exists());
    drop(dropped);
    assert!(!std::path::Path::new(&process).exists(), "it is left behind");

    let error = Child::spawn(&io, &mut Command::new("/no/such/program")).unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}

/// What a child says, which is for an Io over the kernel alone.
async fn its_output_is_read<D: Driver<Descriptor: From<OwnedFd>>>(io: Io<D>) {
    let mut command = Command::new("sh");
    command.args(["-c", "printf one; sleep 0.02; printf two"]).stdout(Stdio::piped());
    let mut child = Child::spawn(&io, &mut command).unwrap();
    let output = PipeReader::adopt(&io, child.process.stdout.take().unwrap().into()).unwrap();
    let mut all = Vec::new();
    loop {
        match output.read(Vec::with_capacity(9)).await.unwrap() {
            part if part.is_empty() => break,
            part => all.extend(part),
        }
    }
    assert_eq!(all, b"onetwo");
    assert!(child.wait().await.unwrap().success());
}

#[test]
fn the_output_of_a_child_is_read() {
    zsync_runtime::BlockingIo::new().unwrap().run(async |io| its_output_is_read(io).await);
    zsync_runtime::PoolIo::new().unwrap().run(async |io| its_output_is_read(io).await);
    zsync_runtime::UringIo::new().unwrap().run(async |io| its_output_is_read(io).await);
}

on_every_io!(what_happens_in_a_directory_is_told, signals_are_read, children_are_waited_for_and_signalled,);
