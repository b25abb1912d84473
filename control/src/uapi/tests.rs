use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use zsync_pipelines::spec::wireguard::uapi::{Errno, LINES};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("zsync-uapi-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn socket(&self, tunnel: &str) -> PathBuf {
        self.0.join(format!("{tunnel}.sock"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Sockets, and a daemon that shows its tunnel's name, refuses changes of the port, and takes all others.
fn serve(folder: &Folder, limits: Limits) -> Sockets {
    let (to, mut calls) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(Call { tunnel, request, reply }) = calls.recv().await {
            let _ = reply.send(match request {
                Request::Get => Ok(Zeroizing::new(format!("name={tunnel}\n"))),
                Request::Set(change) if change.listen_port.is_some() => {
                    Err(Refusal::whole(Errno::InUse, "it is another's"))
                }
                Request::Set(_) => Ok(Zeroizing::default()),
            });
        }
    });
    Sockets::new(Some(&folder.0), to).with_limits(limits)
}

/// Sends this, and reads until the other end has said so many times how it went, or is gone.
async fn ask(path: &Path, text: &str, answers: usize) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let _ = stream.write_all(text.as_bytes()).await;
    hear(&mut stream, answers).await
}

async fn hear(stream: &mut UnixStream, answers: usize) -> String {
    let mut heard = String::new();
    let mut chunk = [0; 4096];
    while heard.matches("errno=").count() < answers || !heard.ends_with("\n\n") {
        match stream.read(&mut chunk).await {
            Ok(len @ 1..) => heard.push_str(std::str::from_utf8(&chunk[..len]).unwrap()),
            _ => break,
        }
    }
    heard
}

#[test]
fn requests_are_answered_in_order_on_sockets_of_root_alone() {
    run(async {
        let folder = Folder::new("order");
        let mut sockets = serve(&folder, Limits::default());
        sockets.follow(["a", "b"].into_iter());
        assert_eq!((mode(&folder.0), mode(&folder.socket("a"))), (0o700, 0o600));
        let heard = ask(&folder.socket("a"), "get=1\n\nset=1\nlisten_port=5\n\nset=1\n\nget=1\n\n", 4).await;
        assert_eq!(heard, "name=a\nerrno=0\n\nerrno=-98\n\nerrno=0\n\nname=a\nerrno=0\n\n");
        // A mistake is told once the request has come to its end, and the next one is another.
        let heard =
            ask(&folder.socket("b"), "set=1\nwhat=1\nlisten_port=5\n\nget=1\n\nhelp\n\nget=1\n\n", 4).await;
        assert_eq!(heard, "errno=-22\n\nname=b\nerrno=0\n\nerrno=-71\n\nname=b\nerrno=0\n\n");
        let long = format!("set=1\nprivate_key={}\n\nget=1\n\n", "a".repeat(100_000));
        assert_eq!(ask(&folder.socket("b"), &long, 2).await, "errno=-90\n\nname=b\nerrno=0\n\n");
        let counts = |tunnel| sockets.refused(tunnel).into_iter().collect::<Vec<_>>();
        let count = |why: &str| (why.to_owned(), 1);
        assert_eq!(counts("a"), [count("port-in-use")]);
        assert_eq!(counts("b"), [count("invalid"), count("protocol"), count("too-long")]);
        assert_eq!(counts("c"), []);
    });
}

#[test]
fn clients_wait_for_nobody_who_is_slow_or_silent() {
    run(async {
        let folder = Folder::new("slow");
        let limits = Limits {
            connections: 2,
            idle: Duration::from_millis(300),
            transfer: Duration::from_millis(300),
            ..Limits::default()
        };
        let mut sockets = serve(&folder, limits);
        sockets.follow(["a"].into_iter());
        let path = folder.socket("a");
        let mut silent = UnixStream::connect(&path).await.unwrap();
        let mut slow = UnixStream::connect(&path).await.unwrap();
        slow.write_all(b"set=1\nreplace_pe").await.unwrap();
        // There is no seat until one of them has been given up.
        assert_eq!(ask(&path, "get=1\n\n", 1).await, "name=a\nerrno=0\n\n");
        assert_eq!(hear(&mut slow, 1).await, "errno=-5\n\n");
        assert_eq!(hear(&mut silent, 1).await, "");

        // Who goes within a request has asked for nothing.
        let mut half = UnixStream::connect(&path).await.unwrap();
        half.write_all(b"set=1\nlisten_port=5\n").await.unwrap();
        half.shutdown().await.unwrap();
        assert_eq!(hear(&mut half, 1).await, "");
        assert_eq!(sockets.refused("a"), [("failed".to_owned(), 1), ("unfinished".to_owned(), 1)].into());
        assert_eq!(ask(&path, "get=1\n\n", 1).await, "name=a\nerrno=0\n\n");
    });
}

#[test]
fn lines_without_end_are_refused() {
    run(async {
        let folder = Folder::new("endless");
        let mut sockets = serve(&folder, Limits::default());
        sockets.follow(["a"].into_iter());
        let stream = UnixStream::connect(&folder.socket("a")).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let sender = tokio::spawn(async move {
            let lines = "x=1\n".repeat(1024);
            let mut sent = 0;
            while write.write_all(lines.as_bytes()).await.is_ok() {
                sent += 1024;
            }
            sent
        });
        let mut heard = Vec::new();
        let _ = read.read_to_end(&mut heard).await;
        assert_eq!(String::from_utf8(heard).unwrap(), "errno=-71\n\n", "the first mistake is told");
        let sent = sender.await.unwrap();
        assert!((LINES..LINES + (1 << 20)).contains(&sent), "{sent}");
    });
}

#[test]
fn sockets_come_and_go_with_their_tunnels_and_others_are_left_alone() {
    run(async {
        let folder = Folder::new("follow");
        let mut sockets = serve(&folder, Limits::default());
        fs::create_dir_all(&folder.0).unwrap();
        // Of a process that is gone.
        drop(UnixListener::bind(folder.socket("dead")).unwrap());
        let live = UnixListener::bind(folder.socket("live")).unwrap();
        fs::write(folder.socket("file"), "what").unwrap();
        let all = ["dead", "live", "file"];
        sockets.follow(all.into_iter());
        assert_eq!(ask(&folder.socket("dead"), "get=1\n\n", 1).await, "name=dead\nerrno=0\n\n");
        live.set_nonblocking(true).unwrap();
        assert!(live.accept().is_ok(), "it still listens, and was asked whether it does");
        assert_eq!(fs::read_to_string(folder.socket("file")).unwrap(), "what");

        // Once the other one has gone, the path is taken.
        drop(live);
        sockets.follow(all.into_iter());
        assert!(std::os::unix::net::UnixStream::connect(folder.socket("live")).is_err(), "too soon");
        tokio::time::sleep(Duration::from_millis(1100)).await;
        sockets.follow(all.into_iter());
        assert_eq!(ask(&folder.socket("live"), "get=1\n\n", 1).await, "name=live\nerrno=0\n\n");

        let mut open = UnixStream::connect(&folder.socket("dead")).await.unwrap();
        sockets.follow(["live"].into_iter());
        assert!(!folder.socket("dead").exists() && folder.socket("file").exists());
        assert_eq!(hear(&mut open, 1).await, "", "its connections end");
        drop(sockets);
        assert!(!folder.socket("live").exists());

        let (to, _calls) = mpsc::channel(1);
        Sockets::new(None, to).follow(all.into_iter());
        assert!(!folder.socket("live").exists());
    });
}
