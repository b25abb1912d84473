//! Children, on every Io; in a simulation they run programs that do what the real ones do.

mod every;

use every::on_every_io;
use std::future::{Ready, ready};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;
use zsync_runtime::{
    Child, Driver, Either, ErrorKind, Io, PipeReader, Signal, Signals, SimIo, SimProcess, Streams, either,
};

const ENDS: &str = "sleep 0.05; exit 3";
const SAYS: &str = "printf one; sleep 0.02; printf two; printf no >&2";
const TRAPS: &str = "trap 'exit 7' TERM; printf ready; while :; do sleep 0.01; done";
const OUTPUT: Streams = Streams { input: false, output: true, errors: false };

/// What the shell does with the scripts above.
async fn shell(process: SimProcess) -> u8 {
    let SimProcess { io, arguments, output, errors, .. } = process;
    let wait = async |millis| io.sleep(Duration::from_millis(millis)).await.unwrap();
    match arguments[1].to_str().unwrap() {
        ENDS => {
            wait(50).await;
            3
        }
        SAYS => {
            output.write(b"one".to_vec()).await.unwrap();
            wait(20).await;
            output.write(b"two".to_vec()).await.unwrap();
            errors.write(b"no".to_vec()).await.unwrap();
            0
        }
        TRAPS => {
            let signals = Signals::new(&io, &[Signal::TERM]).unwrap();
            output.write(b"ready".to_vec()).await.unwrap();
            signals.next().await.unwrap();
            7
        }
        script => panic!("sh: {script}: not simulated"),
    }
}

async fn sleep(process: SimProcess) -> u8 {
    let seconds = process.arguments[0].to_str().unwrap().parse().unwrap();
    process.io.sleep(Duration::from_secs(seconds)).await.unwrap();
    0
}

async fn cat(process: SimProcess) -> u8 {
    loop {
        match process.input.read(Vec::with_capacity(4096)).await.unwrap() {
            part if part.is_empty() => return 0,
            part => process.output.write(part).await.map(drop).unwrap(),
        }
    }
}

fn simulation(seed: u64) -> SimIo {
    let io = SimIo::new(seed).unwrap();
    io.program("sh", shell);
    io.program("sleep", sleep);
    io.program("cat", cat);
    io
}

fn script(text: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", text]);
    command
}

async fn all_of<D: Driver>(output: &PipeReader<D>) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match output.read(Vec::with_capacity(9)).await.unwrap() {
            part if part.is_empty() => return all,
            part => all.extend(part),
        }
    }
}

fn errno(kind: ErrorKind) -> Option<i32> {
    if let ErrorKind::System(error) = kind { Some(error.raw_os_error()) } else { None }
}

async fn they_are_waited_for_and_signalled<D: Driver>(io: Io<D>) {
    let mut child = Child::spawn(&io, &mut script(ENDS)).unwrap();
    let late = io.timeout(Duration::from_millis(5), child.wait()).await;
    assert!(late.is_err(), "it runs");
    assert_eq!(child.wait().await.unwrap().code(), Some(3));
    assert_eq!(child.wait().await.unwrap().code(), Some(3), "again");
    let error = child.signal(Signal::TERM).unwrap_err();
    assert_eq!((error.operation(), errno(error.kind())), ("signal", Some(libc::ESRCH)), "{error}");
    assert!(error.to_string().contains(&format!("the child {}", child.id())), "{error}");

    for signal in [Signal::TERM, Signal::KILL, Signal::SEGV] {
        let mut sleeps = Child::spawn(&io, Command::new("sleep").arg("100")).unwrap();
        sleeps.signal(Signal::CONT).unwrap();
        sleeps.signal(signal).unwrap();
        assert_eq!(sleeps.wait().await.unwrap().signal(), Some(signal.as_raw()));
    }
    let error = Child::spawn(&io, &mut Command::new("/no/such/program")).unwrap_err();
    assert_eq!((error.operation(), errno(error.kind())), ("start", Some(libc::ENOENT)), "{error}");
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}

async fn what_they_say_is_read<D: Driver>(io: Io<D>) {
    let streams = Streams { errors: true, ..OUTPUT };
    let mut child = Child::spawn_with(&io, &mut script(SAYS), streams).unwrap();
    assert!(child.input.is_none());
    assert_eq!(all_of(child.output.as_ref().unwrap()).await, b"onetwo");
    assert_eq!(all_of(child.errors.as_ref().unwrap()).await, b"no");
    assert!(child.wait().await.unwrap().success());
}

async fn what_is_written_to_them_comes_back<D: Driver>(io: Io<D>) {
    let streams = Streams { input: true, ..OUTPUT };
    let mut child = Child::spawn_with(&io, &mut Command::new("cat"), streams).unwrap();
    for word in [&b"there"[..], b"and", b"back"] {
        child.input.as_ref().unwrap().write(word.to_vec()).await.unwrap();
        assert_eq!(child.output.as_ref().unwrap().read(Vec::with_capacity(9)).await.unwrap(), word);
    }
    child.input = None;
    assert!(all_of(child.output.as_ref().unwrap()).await.is_empty());
    assert!(child.wait().await.unwrap().success());
}

async fn who_listens_to_a_signal_ends_as_it_likes<D: Driver>(io: Io<D>) {
    let mut child = Child::spawn_with(&io, &mut script(TRAPS), OUTPUT).unwrap();
    let ready = child.output.as_ref().unwrap().read(Vec::with_capacity(9)).await.unwrap();
    assert_eq!(ready, b"ready");
    child.signal(Signal::TERM).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(7));
}

async fn one_that_is_dropped_ends<D: Driver>(io: Io<D>) {
    let mut child = Child::spawn_with(&io, Command::new("sleep").arg("100"), OUTPUT).unwrap();
    let output = child.output.take().unwrap();
    drop(child);
    let ended = io.timeout(Duration::from_secs(5), all_of(&output)).await;
    assert!(ended.expect("it is left behind").is_empty());
}

on_every_io!(in super::simulation(7);
    they_are_waited_for_and_signalled,
    what_they_say_is_read,
    what_is_written_to_them_comes_back,
    who_listens_to_a_signal_ends_as_it_likes,
    one_that_is_dropped_ends,
);

/// (Of a real one, it is told to whichever thread does not block SIGCHLD.)
#[test]
fn the_end_of_a_simulated_one_is_a_signal_and_a_panic_is_its_own() {
    let io = simulation(1);
    io.run(async |io| {
        let signals = Signals::new(&io, &[Signal::CHILD]).unwrap();
        let mut child = Child::spawn(&io, &mut script("something else")).unwrap();
        let told = signals.next().await.unwrap();
        assert_eq!((told.signal, told.process), (Signal::CHILD, child.id()));
        assert_eq!(child.wait().await.unwrap().code(), Some(101));
        let error = child.signal(Signal::STOP).unwrap_err();
        assert_eq!(errno(error.kind()), Some(libc::ESRCH), "{error}");
        let sleeps = Child::spawn(&io, Command::new("sleep").arg("1")).unwrap();
        let error = sleeps.signal(Signal::STOP).unwrap_err();
        assert_eq!(errno(error.kind()), Some(libc::EOPNOTSUPP), "{error}");
    });
    io.settle();
    assert_eq!(io.open_descriptors(), 0);
}

/// It has begun when it is started: what it opens and how it fails is its own affair from then on, from its function's first line on.
#[test]
fn a_simulated_one_that_fails_at_once_does_not_fail_its_parent() {
    let io = simulation(1);
    io.program("opens", |process| {
        let opened = Signals::new(&process.io, &[Signal::TERM]).is_ok();
        ready(u8::from(opened))
    });
    io.program("panics", |_| -> Ready<u8> { panic!("as it must") });
    io.run(async |io| {
        let mut panics = Child::spawn(&io, &mut Command::new("panics")).unwrap();
        assert_eq!(panics.wait().await.unwrap().code(), Some(101));
        // Beside the first: itself and three streams.
        for (most, opened) in [(5, 0), (6, 1)] {
            io.limit_descriptors(most);
            let mut opens = Child::spawn(&io, &mut Command::new("opens")).unwrap();
            assert_eq!(opens.wait().await.unwrap().code(), Some(opened));
        }
        io.limit_descriptors(4);
        let error = Child::spawn(&io, &mut Command::new("opens")).unwrap_err();
        assert!(error.is_exhaustion() && error.operation() == "start", "{error}");
        assert_eq!(io.tasks().alive(), 1, "it runs on");
    });
    io.settle();
    assert_eq!(io.open_descriptors(), 0);
}

/// (As by a process that does not block it.)
#[test]
fn the_end_of_a_simulated_one_is_not_kept_for_a_child_that_does_not_listen() {
    let io = simulation(1);
    io.program("parent", async |process| {
        let io = process.io;
        Child::spawn(&io, &mut script(ENDS)).unwrap().wait().await.unwrap();
        let signals = Signals::new(&io, &[Signal::CHILD]).unwrap();
        let none = io.timeout(Duration::from_secs(1), signals.next()).await.is_err();
        Child::spawn(&io, &mut script(ENDS)).unwrap().wait().await.unwrap();
        let told = io.timeout(Duration::from_secs(1), signals.next()).await.is_ok();
        u8::from(none) + u8::from(told)
    });
    io.run(async |io| {
        let mut parent = Child::spawn(&io, &mut Command::new("parent")).unwrap();
        assert_eq!(parent.wait().await.unwrap().code(), Some(2));
    });
}

/// Killed before its first poll, after its last, and anywhere between: its output ends, and it has one end.
#[test]
fn a_simulated_one_can_be_killed_at_any_moment() {
    let mut ends = [0, 0];
    for seed in 0..200 {
        let io = simulation(seed);
        let killed = io.run(async |io| {
            let mut child = Child::spawn_with(&io, &mut script(SAYS), OUTPUT).unwrap();
            let wait = Duration::from_nanos(io.tasks().random() % 25_000_000);
            if let Either::First(_) = either(io.sleep(wait), all_of(child.output.as_ref().unwrap())).await {
                child.signal(Signal::KILL).unwrap();
            }
            let said = all_of(child.output.as_ref().unwrap()).await;
            assert!(b"onetwo".ends_with(&said) || b"one".ends_with(&said), "{said:?}");
            child.wait().await.unwrap().signal() == Some(libc::SIGKILL)
        });
        ends[usize::from(killed)] += 1;
        assert_eq!(io.tasks().alive(), 0);
        io.settle();
        assert_eq!(io.open_descriptors(), 0);
    }
    assert!(ends.iter().all(|count| *count > 20), "{ends:?}");
}
