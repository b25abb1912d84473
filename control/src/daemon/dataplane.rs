//! The data plane process, as control sees it: started, spoken to, watched, ended.
//!
//! Owns: its pidfd and the channel to it. Refuses: messages that are unknown, too large or ill-formed: such a process is
//! not trusted with another packet. A data plane may be a child of this control process or of the one before; both are
//! watched by their pidfd, which cannot be confused with another process.

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use zsync_protocol::fd::{Channel, ChannelError};
use zsync_protocol::message::{FromDataplane, MAX_MESSAGE, ToDataplane, decode, encode};

/// How long the data plane may leave its channel full before it counts as hung.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a data plane did.
#[derive(Debug)]
pub enum Event {
    /// It said something, perhaps with descriptors.
    Said(FromDataplane, Vec<OwnedFd>),
    /// It sent what it must not, or its channel broke.
    Misbehaved(String),
    /// It has ended; how, if this process is its parent.
    Ended(String),
}

/// A data plane process. Dropping this leaves it running.
#[derive(Debug)]
pub struct Dataplane {
    /// Its process id.
    pub pid: u32,
    /// When it was started, or adopted.
    pub since: Instant,
    pidfd: AsyncFd<OwnedFd>,
    channel: AsyncFd<Channel>,
    child: Option<Child>,
    /// It is being ended, and what it says does not matter any more.
    silenced: bool,
    /// When it closed the channel. Kept here, because whoever waits for it begins anew many times a second.
    closed: Option<Instant>,
}

impl Dataplane {
    /// Starts `program`; it waits to be told what there is.
    ///
    /// # Errors
    /// The program cannot be started, or there are no descriptors left.
    pub fn start(program: &Path) -> Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        let child = Command::new(program)
            .stdin(Stdio::from(theirs.into_fd()))
            .stdout(Stdio::null())
            .env_clear()
            .current_dir("/")
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Self::with(child.id(), ours, Some(child))
    }

    /// Knocks at the data plane that an earlier control process started as `pid`; `None` when none is there.
    ///
    /// # Errors
    /// Somebody listens there, and it is not that process, or it cannot be watched.
    pub fn knock(path: &Path, pid: u32) -> Result<Option<Self>> {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        if rustix::net::connect(&socket, &SocketAddrUnix::new(path)?).is_err() {
            return Ok(None);
        }
        Self::with(pid, Channel::from_fd(socket)?, None).map(Some)
    }

    fn with(pid: u32, channel: Channel, child: Option<Child>) -> Result<Self> {
        channel.set_nonblocking(true)?;
        let id = Pid::from_raw(pid as i32).context("process id 0")?;
        let pidfd =
            pidfd_open(id, PidfdFlags::NONBLOCK).with_context(|| format!("watching process {pid}"))?;
        #[expect(
            deprecated,
            reason = "the replacement is unsafe; these have one descriptor as long as they live"
        )]
        let (pidfd, channel) = (
            AsyncFd::with_interest(pidfd, Interest::READABLE)?,
            AsyncFd::with_interest(channel, Interest::READABLE)?,
        );
        Ok(Self { pid, since: Instant::now(), pidfd, channel, child, silenced: false, closed: None })
    }

    /// Tells it something.
    ///
    /// # Errors
    /// It is gone, or has not listened for [`PATIENCE`].
    pub fn tell(&self, message: &ToDataplane, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut bytes = Vec::new();
        encode(message, &mut bytes)?;
        let channel = self.channel.get_ref();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match channel.send(&bytes, fds) {
                Ok(()) => return Ok(()),
                Err(ChannelError::WouldBlock) if Instant::now() < deadline => {
                    let mut poll_fds = [PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::OUT)];
                    let _ = poll(&mut poll_fds, Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }));
                }
                Err(error) => return Err(error).context("telling the data plane"),
            }
        }
    }

    /// Waits for what it does next. May be dropped at any await.
    pub async fn next(&mut self) -> Event {
        if self.silenced {
            let _ = self.pidfd.readable().await;
            return Event::Ended(self.reap());
        }
        if self.closed.is_none() {
            tokio::select! {
                biased;
                said = hear(&self.channel) => match said {
                    Err(Silence::Closed) => self.closed = Some(Instant::now()),
                    Err(Silence::Wrong(what)) => return Event::Misbehaved(what),
                    Ok((message, fds)) => return Event::Said(message, fds),
                },
                _ = self.pidfd.readable() => return Event::Ended(self.reap()),
            }
        }
        // It closes the channel when it ends. One that closes it and goes on obeys nobody.
        let until = self.closed.unwrap_or_else(Instant::now) + PATIENCE;
        match tokio::time::timeout_at(until.into(), self.pidfd.readable()).await {
            Ok(_) => Event::Ended(self.reap()),
            Err(_) => Event::Misbehaved("it closed the channel and did not end".to_owned()),
        }
    }

    /// Ends it at once; its end is then the only thing to wait for.
    pub fn end(&mut self) {
        self.silenced = true;
        self.kill();
    }

    /// Ends a child at once, and waits for it.
    pub fn end_and_reap(&mut self) {
        self.end();
        if self.child.is_some() {
            self.reap();
        }
    }

    fn kill(&self) {
        if let Err(errno) = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL)
            && errno != Errno::SRCH
        {
            tracing::error!(pid = self.pid, "the data plane cannot be ended: {errno} (CAP_KILL?)");
        }
    }

    /// Waits until it has ended, for at most `limit`, then ends it.
    pub async fn ended(&mut self, limit: Duration) -> String {
        if tokio::time::timeout(limit, self.pidfd.readable()).await.is_err() {
            self.kill();
            let _ = self.pidfd.readable().await;
        }
        self.reap()
    }

    fn reap(&mut self) -> String {
        match self.child.as_mut().map(Child::wait) {
            Some(Ok(status)) => status.to_string(),
            Some(Err(error)) => format!("ended: {error}"),
            None => "ended (it was another process's child)".to_owned(),
        }
    }
}

enum Silence {
    Closed,
    Wrong(String),
}

async fn hear(channel: &AsyncFd<Channel>) -> Result<(FromDataplane, Vec<OwnedFd>), Silence> {
    loop {
        let mut guard = channel.readable().await.map_err(|error| Silence::Wrong(error.to_string()))?;
        let mut buffer = [0; MAX_MESSAGE];
        match channel.get_ref().recv(&mut buffer) {
            Ok(received) => {
                let message = decode::<FromDataplane>(&buffer[..received.len], received.fds.len())
                    .map_err(|error| Silence::Wrong(error.to_string()))?;
                return Ok((message, received.fds));
            }
            Err(ChannelError::WouldBlock) => guard.clear_ready(),
            Err(ChannelError::Closed) => return Err(Silence::Closed),
            Err(error) => return Err(Silence::Wrong(error.to_string())),
        }
    }
}
