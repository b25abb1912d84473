//! What stays on this host: pipes, sockets at paths, descriptors that are passed, files and their names; on every Io.

mod beside;
mod every;

use beside::beside;
use every::on_every_io;
use rustix::fd::OwnedFd;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;
use zsync_runtime::{
    Advice, Driver, Either, Error, ErrorKind, File, Half, Io, OpenOptions, TcpListener, TcpStream,
    UnixDatagram, UnixListener, UnixStream, either, pipe, yield_now,
};

const ALL: OpenOptions = OpenOptions { read: true, write: true, create: true, truncate: true };

fn errno(error: &Error) -> Option<i32> {
    if let ErrorKind::System(error) = error.kind() { Some(error.raw_os_error()) } else { None }
}

/// A directory of this case, which goes with it. Of a simulation, nothing is there.
struct Folder(PathBuf);

impl Folder {
    fn new<D: Driver>(io: &Io<D>) -> Self {
        let kind = std::any::type_name::<D>().rsplit(':').next().unwrap();
        let name = format!("h-{kind}-{}-{:x}", std::process::id(), io.now().as_nanos());
        let path = std::env::temp_dir().join(name);
        io.make_directory(&path).unwrap();
        Self(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn a_pipe_carries_bytes_to_its_end<D: Driver>(io: Io<D>) {
    let (reads, writes) = pipe(&io).unwrap();
    writes.write(b"through".to_vec()).await.unwrap();
    assert_eq!(reads.read(Vec::with_capacity(4)).await.unwrap(), b"thro");
    drop(writes);
    assert_eq!(reads.read(Vec::with_capacity(4)).await.unwrap(), b"ugh");
    assert!(reads.read(Vec::with_capacity(4)).await.unwrap().is_empty());

    let (reads, writes) = pipe(&io).unwrap();
    drop(reads);
    let error = writes.write(vec![1]).await.unwrap_err();
    assert_eq!((error.operation(), errno(&error)), ("write", Some(libc::EPIPE)), "{error}");
}

async fn a_read_of_a_pipe_that_is_late_or_dropped_loses_no_byte<D: Driver>(io: Io<D>) {
    let (reads, writes) = pipe(&io).unwrap();
    let late = io.timeout(Duration::from_millis(5), reads.read(Vec::with_capacity(9))).await;
    assert!(late.is_err());
    writes.write(vec![1]).await.unwrap();
    assert_eq!(reads.read(Vec::with_capacity(9)).await.unwrap(), [1]);
    if !D::SUSPENDS {
        return;
    }
    let writer = io.spawn(async move {
        for number in 0..3000_u32 {
            writes.write(number.to_be_bytes().to_vec()).await.unwrap();
        }
    });
    let mut all = Vec::new();
    loop {
        match either(reads.read(Vec::with_capacity(13)), yield_now()).await {
            Either::First(part) => match part.unwrap() {
                part if part.is_empty() => break,
                part => all.extend(part),
            },
            Either::Second(_) => {}
        }
    }
    writer.await.unwrap();
    assert_eq!(all, (0..3000_u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>());

    let (reads, writes) = pipe(&io).unwrap();
    let waits = io.spawn(async move { (reads.read(Vec::with_capacity(9)).await, reads) });
    io.sleep(Duration::from_millis(1)).await.unwrap();
    waits.cancel();
    let (cancelled, reads) = waits.await.unwrap();
    assert!(cancelled.unwrap_err().is_cancelled());
    writes.write(vec![2]).await.unwrap();
    assert_eq!(reads.read(Vec::with_capacity(9)).await.unwrap(), [2]);
}

async fn a_pipe_that_is_full_makes_the_writer_wait<D: Driver>(io: Io<D>) {
    let (reads, writes) = pipe(&io).unwrap();
    let much = vec![7; 200_000];
    assert!(io.timeout(Duration::from_millis(20), writes.write(much)).await.is_err());
    drop(writes);
    let mut come = 0;
    loop {
        match reads.read(Vec::with_capacity(4096)).await.unwrap().len() {
            0 => break,
            length => come += length,
        }
    }
    assert!((4096..200_000).contains(&come), "{come}");
}

async fn a_pair_talks_both_ways<D: Driver>(io: Io<D>) {
    let (one, two) = UnixStream::pair(&io).unwrap();
    one.write(b"there".to_vec()).await.unwrap();
    two.write(b"back".to_vec()).await.unwrap();
    assert_eq!(two.read(Vec::with_capacity(9)).await.unwrap(), b"there");
    assert_eq!(one.read(Vec::with_capacity(9)).await.unwrap(), b"back");
    one.shut(Half::Write).unwrap();
    assert!(two.read(Vec::with_capacity(9)).await.unwrap().is_empty());
    two.write(b"still".to_vec()).await.unwrap();
    drop(two);
    assert_eq!(one.read(Vec::with_capacity(9)).await.unwrap(), b"still");
    assert!(one.read(Vec::with_capacity(9)).await.unwrap().is_empty());
}

async fn who_listens_at_a_path_is_found<D: Driver>(io: Io<D>) {
    let folder = Folder::new(&io);
    let path = folder.at("s");
    let error = UnixStream::connect(&io, &path).unwrap_err();
    assert_eq!((error.operation(), errno(&error)), ("connect", Some(libc::ENOENT)), "{error}");
    let listener = UnixListener::bind(&io, &path).unwrap();
    let client = UnixStream::connect(&io, &path).unwrap();
    let server = listener.accept().await.unwrap();
    client.write(b"here".to_vec()).await.unwrap();
    assert_eq!(server.read(Vec::with_capacity(9)).await.unwrap(), b"here");
    let error = UnixListener::bind(&io, &path).unwrap_err();
    assert_eq!(errno(&error), Some(libc::EADDRINUSE), "{error}");
    drop(listener);
    let error = UnixStream::connect(&io, &path).unwrap_err();
    assert_eq!(errno(&error), Some(libc::ECONNREFUSED), "{error}");
    io.remove_file(&path).unwrap();
    let error = UnixListener::bind(&io, Path::new(&"x".repeat(109))).unwrap_err();
    assert_eq!((error.operation(), errno(&error)), ("bind to", Some(libc::ENAMETOOLONG)), "{error}");
    let error = UnixDatagram::to(&io, &folder.0).unwrap_err();
    assert_eq!((error.operation(), errno(&error)), ("connect", Some(libc::ECONNREFUSED)), "{error}");

    let [to, from] = [UnixDatagram::bind(&io, &path).unwrap(), UnixDatagram::to(&io, &path).unwrap()];
    for number in 0..5 {
        from.send(vec![number; usize::from(number)], Vec::new()).await.unwrap();
    }
    for number in 0..5 {
        assert_eq!(to.receive(Vec::with_capacity(9)).await.unwrap().0, vec![number; usize::from(number)]);
    }
}

/// An end of a pipe, whose other end says whether it works.
fn passable() -> (OwnedFd, std::fs::File) {
    let (reads, writes) = rustix::pipe::pipe().unwrap();
    (writes, reads.into())
}

async fn descriptors_are_passed<D: Driver>(io: Io<D>) {
    let (one, two) = UnixStream::pair(&io).unwrap();
    let (writes, mut reads) = passable();
    one.write_passing(b"takethis".to_vec(), vec![writes]).await.unwrap();
    let (bytes, passed) = two.read_passed(Vec::with_capacity(4)).await.unwrap();
    assert_eq!((&bytes[..], passed.len()), (&b"take"[..], 1));
    let (bytes, nothing) = two.read_passed(Vec::with_capacity(9)).await.unwrap();
    assert_eq!((&bytes[..], nothing.len()), (&b"this"[..], 0));
    for fd in passed {
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "a child would have it");
        std::fs::File::from(fd).write_all(b"by it").unwrap();
    }
    // All others are closed: there is an end.
    let mut come = String::new();
    reads.read_to_string(&mut come).unwrap();
    assert_eq!(come, "by it");

    // What is behind the bytes that fill a buffer comes with its own.
    one.write(b"head".to_vec()).await.unwrap();
    one.write_passing(b"body".to_vec(), vec![passable().0]).await.unwrap();
    for (expected, count) in [(b"head", 0), (b"body", 1)] {
        let (bytes, passed) = two.read_passed(Vec::with_capacity(4)).await.unwrap();
        assert_eq!((&bytes[..], passed.len()), (&expected[..], count));
    }

    // Who only reads bytes gets none, and none stays open.
    let (writes, mut reads) = passable();
    one.write_passing(vec![1], vec![writes]).await.unwrap();
    assert_eq!(two.read(Vec::with_capacity(9)).await.unwrap(), [1]);
    assert_eq!(reads.read(&mut [0; 9]).unwrap(), 0);

    let (one, two) = UnixDatagram::pair(&io).unwrap();
    let many: Vec<(OwnedFd, _)> = (0..16).map(|_| passable()).collect();
    let (passed, mut ends): (Vec<_>, Vec<_>) = many.into_iter().unzip();
    one.send(b"all of them".to_vec(), passed).await.unwrap();
    let (bytes, passed) = two.receive(Vec::with_capacity(20)).await.unwrap();
    assert_eq!((&bytes[..], passed.len()), (&b"all of them"[..], 16));
    drop(passed);
    for end in &mut ends {
        assert_eq!(end.read(&mut [0; 9]).unwrap(), 0);
    }
    let more = (0..17).map(|_| passable().0).collect();
    let error = one.send(vec![1], more).await.unwrap_err();
    assert_eq!(errno(&error), Some(libc::EINVAL), "{error}");
}

/// Of a pair, who sends has a buffer of its own, of which a poll leaves a quarter to be filled; of others, the receiver has few places.
async fn datagrams_wait_for_room<D: Driver>(io: Io<D>) {
    let folder = Folder::new(&io);
    let path = folder.at("s");
    let [to, from] = [UnixDatagram::bind(&io, &path).unwrap(), UnixDatagram::to(&io, &path).unwrap()];
    let (one, two) = UnixDatagram::pair(&io).unwrap();
    let buffer = std::fs::read_to_string("/proc/sys/net/core/wmem_default").unwrap();
    let buffer: usize = if D::SIMULATED { 212_992 } else { buffer.trim().parse().unwrap() };
    for (from, to, least, most) in [(from, to, 10, 30), (one, two, 50, buffer / 600)] {
        let mut sent = 0;
        let patience = Duration::from_millis(20);
        while io.timeout(patience, from.send(vec![1], Vec::new())).await.is_ok() {
            sent += 1;
        }
        assert!((least..most).contains(&sent), "{sent}");
        for _ in 0..sent {
            assert_eq!(to.receive(Vec::with_capacity(9)).await.unwrap().0, [1]);
        }
        // Its length counts, too.
        from.send(vec![2; buffer - 100], Vec::new()).await.unwrap();
        assert!(io.timeout(patience, from.send(vec![3], Vec::new())).await.is_err());
        assert_eq!(to.receive(Vec::with_capacity(buffer)).await.unwrap().0, vec![2; buffer - 100]);
        from.send(vec![3], Vec::new()).await.unwrap();
    }
}

async fn who_sends_to_what_is_gone_loses_what_came_from_there<D: Driver>(io: Io<D>) {
    let (one, two) = UnixDatagram::pair(&io).unwrap();
    for number in 0..2 {
        two.send(vec![number], Vec::new()).await.unwrap();
    }
    drop(two);
    assert_eq!(one.receive(Vec::with_capacity(9)).await.unwrap().0, [0]);
    for expected in [libc::ECONNREFUSED, libc::ENOTCONN] {
        let error = one.send(vec![2], Vec::new()).await.unwrap_err();
        assert_eq!((error.operation(), errno(&error)), ("send", Some(expected)), "{error}");
    }
    let late = io.timeout(Duration::from_millis(5), one.receive(Vec::with_capacity(9))).await;
    assert!(late.is_err(), "it is kept");
}

async fn files_are_written_and_read_in_parts<D: Driver>(io: Io<D>) {
    let folder = Folder::new(&io);
    let path = folder.at("parts");
    let file = File::open(&io, &path, ALL).unwrap();
    let parts = vec![b"one".to_vec(), Vec::new(), b"and two".to_vec()];
    let (written, back) = file.write_vectored(2, parts.clone()).await.unwrap();
    assert_eq!((written, back), (10, parts));
    let room =
        vec![Vec::with_capacity(5), Vec::with_capacity(4), Vec::with_capacity(9), Vec::with_capacity(9)];
    let read = file.read_vectored(0, room).await.unwrap();
    assert_eq!(read, [&b"\0\0one"[..], b"and ", b"two", b""]);
    file.advise(0, 0, Advice::Sequential).unwrap();
    file.advise(0, 5, Advice::NotAgain).unwrap();
    file.truncate(4).unwrap();
    assert_eq!((file.len().unwrap(), io.metadata(&path).unwrap().length), (4, 4));
    file.truncate(6).unwrap();
    assert_eq!(file.read(0, Vec::with_capacity(9)).await.unwrap(), b"\0\0on\0\0");
    let only = File::open(&io, &path, OpenOptions { read: true, ..OpenOptions::default() }).unwrap();
    let error = only.truncate(0).unwrap_err();
    assert_eq!((error.operation(), errno(&error)), ("truncate", Some(libc::EINVAL)), "{error}");
    let error = only.write_vectored(0, vec![vec![1]]).await.unwrap_err();
    assert_eq!((error.operation(), errno(&error)), ("write", Some(libc::EBADF)), "{error}");
}

async fn names_come_and_go<D: Driver>(io: Io<D>) {
    let folder = Folder::new(&io);
    let [one, two, inner] = ["one", "two", "inner"].map(|name| folder.at(name));
    let file = File::open(&io, &one, ALL).unwrap();
    file.write(0, b"kept".to_vec()).await.unwrap();
    File::open(&io, &two, ALL).unwrap();
    io.make_directory(&inner).unwrap();
    let error = io.make_directory(&inner).unwrap_err();
    assert_eq!(errno(&error), Some(libc::EEXIST), "{error}");
    assert_eq!(io.names(&folder.0).unwrap(), ["inner", "one", "two"]);
    let metadata = io.metadata(&one).unwrap();
    assert_eq!((metadata.length, metadata.directory, metadata.permissions), (4, false, 0o600));
    assert!(io.metadata(&inner).unwrap().directory);

    io.rename(&one, &two).unwrap();
    assert_eq!(io.metadata(&two).unwrap().length, 4);
    let error = io.metadata(&one).unwrap_err();
    assert!(error.to_string().contains("one") && errno(&error) == Some(libc::ENOENT), "{error}");
    let error = io.remove_directory(&folder.0).unwrap_err();
    assert_eq!(errno(&error), Some(libc::ENOTEMPTY), "{error}");
    io.remove_file(&two).unwrap();
    // It has no name any more, and is still open.
    assert_eq!(file.read(0, Vec::with_capacity(9)).await.unwrap(), b"kept");
    io.remove_directory(&inner).unwrap();
    io.remove_directory(&folder.0).unwrap();
    assert_eq!(errno(&io.names(&folder.0).unwrap_err()), Some(libc::ENOENT));
    assert_eq!(errno(&io.remove_file(&two).unwrap_err()), Some(libc::ENOENT));
    assert_eq!(errno(&io.rename(&two, &one).unwrap_err()), Some(libc::ENOENT));
}

/// Gives back all that came, when it has ended.
async fn mirror<D: Driver>(io: Io<D>, tell: Sender<SocketAddr>) {
    let listener = TcpListener::bind(&io, "[::1]:0".parse().unwrap()).unwrap();
    tell.send(listener.address().unwrap()).unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut all = Vec::new();
    loop {
        match stream.read(Vec::with_capacity(50_000)).await.unwrap() {
            part if part.is_empty() => break,
            part => all.extend(part),
        }
    }
    stream.write(all).await.unwrap();
}

async fn a_file_is_sent<D: Driver>(io: Io<D>) {
    let folder = Folder::new(&io);
    let file = File::open(&io, &folder.at("sent"), ALL).unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at * 31 % 251) as u8).collect();
    file.write(0, bytes.clone()).await.unwrap();
    for (at, length, whole) in
        [(0, 300_000, 300_000), (123_456, 100_000, 100_000), (299_990, 500, 10), (400_000, 9, 0)]
    {
        let to = beside!(io, D, mirror);
        let stream = TcpStream::connect(&io, to).await.unwrap();
        assert_eq!(stream.send_file(&file, at, length).await.unwrap(), whole);
        stream.shutdown().unwrap();
        let mut back = Vec::new();
        while back.len() < whole as usize {
            let part = stream.read(Vec::with_capacity(100_000)).await.unwrap();
            assert!(!part.is_empty(), "{} of {whole}", back.len());
            back.extend(part);
        }
        let at = at as usize;
        assert!(whole == 0 || back == bytes[at..at + whole as usize]);
    }
    // A peer that is gone.
    let listener = TcpListener::bind(&io, "127.0.0.1:0".parse().unwrap()).unwrap();
    let stream = TcpStream::connect(&io, listener.address().unwrap()).await.unwrap();
    drop(listener.accept().await.unwrap());
    let mut failed = Ok(0);
    for _ in 0..10 {
        failed = stream.send_file(&file, 0, 300_000).await;
        io.sleep(Duration::from_millis(1)).await.unwrap();
    }
    failed.unwrap_err();
}

on_every_io!(
    a_pipe_carries_bytes_to_its_end,
    a_read_of_a_pipe_that_is_late_or_dropped_loses_no_byte,
    a_pipe_that_is_full_makes_the_writer_wait,
    a_pair_talks_both_ways,
    who_listens_at_a_path_is_found,
    descriptors_are_passed,
    datagrams_wait_for_room,
    who_sends_to_what_is_gone_loses_what_came_from_there,
    files_are_written_and_read_in_parts,
    names_come_and_go,
    a_file_is_sent,
);
