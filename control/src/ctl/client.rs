//! A connection to the daemon.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::api::{Answer, ApiError, Reply, Request, group_name};

/// How long connecting and sending may take.
const SEND: Duration = Duration::from_secs(10);
/// How long an answer may take: longer than the daemon gives itself.
const ANSWER: Duration = Duration::from_secs(130);
/// The longest answer, bytes: 100,000 routes over many hops take less.
const LONGEST: u64 = 256 << 20;

/// Nobody answers: why, and what to do about it.
#[derive(Debug)]
pub(super) struct Unreachable {
    pub(super) message: String,
    pub(super) remedy: Option<String>,
}

/// A connection; requests go one by one.
#[derive(Debug)]
pub(super) struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
    id: u64,
}

impl Client {
    pub(super) fn connect(path: &Path) -> Result<Self, Unreachable> {
        let stream = open(path).map_err(|error| diagnose(path, &error))?;
        Ok(Self { path: path.to_owned(), stream: BufReader::new(stream), id: 0 })
    }

    /// Asks, and waits for the answer: the daemon's, or its refusal.
    pub(super) fn ask(&mut self, request: &Request) -> Result<Result<Answer, ApiError>, Unreachable> {
        self.id += 1;
        let sent = self.stream.get_mut().write_all(&request.line(self.id));
        // The daemon turns peers away with a line and closes: sending fails, and the line says why.
        let mut line = Vec::new();
        let received = self.stream.by_ref().take(LONGEST).read_until(b'\n', &mut line);
        if line.last() != Some(&b'\n') {
            let error = sent.err().or(received.err()).unwrap_or_else(|| ErrorKind::UnexpectedEof.into());
            return Err(self.broken(&error));
        }
        let reply: Reply = serde_json::from_slice(&line).map_err(|error| Unreachable {
            message: format!("{}: the answer is none that this zsyncctl knows: {error}", self.path.display()),
            remedy: Some("use the zsyncctl that came with the daemon".to_owned()),
        })?;
        if reply.id.is_some_and(|id| id != self.id) {
            let message = format!("{}: an answer to another request", self.path.display());
            return Err(Unreachable { message, remedy: None });
        }
        Ok(reply.into_result())
    }

    fn broken(&self, error: &io::Error) -> Unreachable {
        let what = match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("no answer within {} s", ANSWER.as_secs()),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                "zsync-control has ended the connection".to_owned()
            }
            _ => error.to_string(),
        };
        Unreachable {
            message: format!("{}: {what}", self.path.display()),
            remedy: Some("look at the log of zsync-control".to_owned()),
        }
    }
}

/// By hand, since std can set no time limit before it connects, and a daemon that hangs lets us wait there.
fn open(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(SEND))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER))?;
    connect(&socket, &address)?;
    Ok(UnixStream::from(socket))
}

/// Why connecting has failed, as far as one can see from here.
fn diagnose(path: &Path, error: &io::Error) -> Unreachable {
    const START: &str = "start zsync-control, or name its socket with --socket";
    let shown = path.display();
    let (message, remedy) = match error.kind() {
        ErrorKind::NotFound => {
            (format!("zsync-control is not running: there is no socket {shown}"), Some(START.to_owned()))
        }
        ErrorKind::ConnectionRefused => match std::fs::symlink_metadata(path) {
            Ok(file) if !file.file_type().is_socket() => {
                (format!("{shown} is no socket"), Some("name the daemon's with --socket".to_owned()))
            }
            _ => (
                format!("zsync-control is not running: nobody listens on {shown}, which it left behind"),
                Some(START.to_owned()),
            ),
        },
        ErrorKind::PermissionDenied => denied(path),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => (
            format!("zsync-control hangs: it has accepted no connection on {shown} for {} s", SEND.as_secs()),
            Some("look at its log".to_owned()),
        ),
        _ => (format!("cannot connect to {shown}: {error}"), None),
    };
    Unreachable { message, remedy }
}

fn denied(path: &Path) -> (String, Option<String>) {
    let uid = rustix::process::geteuid().as_raw();
    let message = format!("user {uid} may not use {}", path.display());
    let remedy = match std::fs::symlink_metadata(path) {
        Ok(file) if file.gid() != 0 => {
            let group = group_name(file.gid()).unwrap_or_else(|| file.gid().to_string());
            format!(
                "use sudo, or ask for membership of the group {group} (`usermod -aG {group} USER`, then log in anew)"
            )
        }
        _ => "use sudo".to_owned(),
    };
    (message, Some(remedy))
}
