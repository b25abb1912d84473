//! A contestant's process, as the run sees it.
//!
//! Keeps true: it ends when this is dropped; one that does not answer is not waited for.

use crate::exercise::Exercise;
use crate::far::{self, Datagrams, Rate};
use crate::tasks::Sample;
use crate::turn::{Answer, Asked, answered, ask};
use anyhow::{Context, Result, anyhow, bail};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How much longer than its turn a contestant may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it has to hear that it is over, until it is told again.
const WORD: Duration = Duration::from_millis(20);

/// See the module.
pub(crate) struct Side {
    child: Child,
    to: ChildStdin,
    from: Receiver<String>,
    /// A line that was received ahead of time.
    next: Option<String>,
}

/// What a turn gave.
pub(crate) enum Came {
    /// The contestant's own figure.
    Own(Sample),
    /// The far end's.
    Far(Rate),
    /// It has no such thing.
    Nothing,
}

impl Side {
    /// Starts it.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        // What is typed at the terminal is for this process, which ends that one.
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn();
        let mut child = started.with_context(|| format!("starting {command:?}"))?;
        let to = child.stdin.take().context("no standard input")?;
        let out = child.stdout.take().context("no standard output")?;
        let (sender, from) = channel();
        // A reader, so that an answer can be waited for with a limit. It ends with the process.
        thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            let _ = lines.into_iter().try_for_each(|line| sender.send(line));
        });
        Ok(Self { child, to, from, next: None })
    }

    fn line(&mut self, time: Duration) -> Result<String> {
        let next = self.next.take().map_or_else(|| self.from.recv_timeout(time + PATIENCE), Ok);
        let line = next.map_err(|error| match error {
            RecvTimeoutError::Timeout => anyhow!("it does not answer"),
            RecvTimeoutError::Disconnected => anyhow!("it has ended"),
        })?;
        match line.strip_prefix("failed ") {
            Some(why) => bail!("{why}"),
            None => Ok(line),
        }
    }

    /// Where it is; none: it has no such thing.
    fn address(&mut self, time: Duration) -> Result<Option<SocketAddr>> {
        let line = self.line(time)?;
        if answered(&line) == Some(Answer::None) {
            return Ok(None);
        }
        let address = line.strip_prefix("at ").and_then(|address| address.parse().ok());
        Ok(Some(address.with_context(|| format!("it does not say where it is but: {line}"))?))
    }

    /// Tells its tasks that it is over, until it says so itself.
    fn finish(&mut self, datagrams: &Datagrams, server: SocketAddr, tasks: u32) -> Result<()> {
        let begin = Instant::now();
        while self.next.is_none() && begin.elapsed() < PATIENCE {
            datagrams.finish(server, tasks)?;
            self.next = self.from.recv_timeout(WORD).ok();
        }
        Ok(())
    }

    /// A turn at this, with the far end on its core.
    ///
    /// # Errors
    /// What the contestant or the far end failed with.
    pub(crate) fn turn(&mut self, exercise: Exercise, time: Duration, core: usize) -> Result<Came> {
        let mut datagrams = Datagrams::bind()?;
        let sends = matches!(exercise, Exercise::UdpSend(_) | Exercise::SendGroups);
        let far = sends.then(|| datagrams.address()).transpose()?;
        writeln!(self.to, "{}", ask(Asked { exercise, time, far })).context("it has ended")?;
        let rate = match exercise {
            Exercise::UdpEcho(_) | Exercise::EchoGroups => {
                let tasks = if let Exercise::UdpEcho(tasks) = exercise { tasks } else { 1 };
                let Some(server) = self.address(time)? else { return Ok(Came::Nothing) };
                let rate = far::on_core(core, || datagrams.echo(server, time))?;
                self.finish(&datagrams, server, tasks)?;
                Some(rate)
            }
            Exercise::SendGroups if self.address(time)?.is_none() => return Ok(Came::Nothing),
            Exercise::UdpSend(_) | Exercise::SendGroups => Some(far::on_core(core, || datagrams.count())?),
            Exercise::TcpEcho => {
                let Some(server) = self.address(time)? else { return Ok(Came::Nothing) };
                Some(far::on_core(core, || far::echo_streams(server, time))?)
            }
            _ => None,
        };
        let line = self.line(time)?;
        match (answered(&line), rate) {
            (Some(Answer::Gave(sample)), None) => Ok(Came::Own(sample)),
            (Some(Answer::None), _) => Ok(Came::Nothing),
            (Some(Answer::Done), Some(rate)) => Ok(Came::Far(rate)),
            _ => bail!("this is no answer: {line}"),
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
