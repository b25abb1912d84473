//! What two hosts say to each other: a line of JSON each, over TCP, and raw numbers behind a line that announces them.
//!
//! The host that sends (the driver) asks, the one that reads (the far end) answers, except for the time: there the far end
//! asks, since its clock is the one that all is told by. Nothing secret is said and nobody proves who he is: whoever reaches
//! the far end's address can have it count on the port that it was started for, and nothing else.
//!
//! Refuses: lines above 64 MiB, and numbers beyond the flows that there can be.

use crate::far::Seen;
use crate::order::Went;
use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Goes up when the words change.
pub const VERSION: u32 = 2;
/// Bytes of a line at most. A curve of latencies takes some 10 KiB.
const LONGEST: u64 = 1 << 26;
/// How long the other host may be silent.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asked by the driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// The first line.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// Which boot of which host, and which of its clocks: equal only where both ends read the same clock.
        clock: String,
    },
    /// Expect a trial's packets.
    Begin {
        /// Its number.
        run: u32,
        /// Its flows.
        flows: u32,
        /// Where its packets have their marks; none: all packets are taken.
        marks: Option<u8>,
        /// Arrivals that are to be written down at most; `None`: none are.
        log: Option<u64>,
        /// Whether every packet is to be read, or counted only.
        read: bool,
    },
    /// How many have come?
    Counted,
    /// A line for a reader.
    Line {
        /// Nanoseconds since the last one.
        took_ns: u64,
    },
    /// The trial is over. As many 8-byte little-endian numbers as there are flows follow: packets sent of each.
    End {
        /// How it went, phase by phase.
        phases: Vec<(u64, u64, u64, u64)>,
        /// Flows whose numbers follow.
        flows: u32,
        /// Steps of the driver's clock: when, and by how much.
        steps: Vec<(u64, i64)>,
    },
    /// The driver's answer to [`Answer::Time`].
    Time {
        /// When the question was heard, nanoseconds of the driver's clock.
        heard_ns: u64,
        /// When this was said.
        answered_ns: u64,
    },
}

/// Answered by the far end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Done.
    Done,
    /// What is the time? A question in between.
    Time,
    /// So many packets.
    Counted(u64),
    /// A line.
    Line(String),
    /// The trial's result.
    Seen(Box<Seen>),
    /// It cannot be done.
    Failed(String),
}

/// Both directions of a connection.
pub struct Channel {
    from: BufReader<TcpStream>,
    to: TcpStream,
}

impl Channel {
    /// Over a connection.
    ///
    /// # Errors
    /// The connection's.
    pub fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        // A host that has gone without a word is noticed: the port is not lent to it for ever.
        rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
        rustix::net::sockopt::set_tcp_keepidle(&stream, PATIENCE)?;
        rustix::net::sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(5))?;
        rustix::net::sockopt::set_tcp_keepcnt(&stream, 3)?;
        rustix::net::sockopt::set_tcp_user_timeout(&stream, PATIENCE.as_millis() as u32)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { from: BufReader::new(stream.try_clone()?), to: stream })
    }

    /// Says a line.
    ///
    /// # Errors
    /// The other host is gone.
    pub fn say(&mut self, what: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        self.to.write_all(&line).context("the other host is gone")
    }

    /// Hears a line; `None` when the other host has hung up.
    ///
    /// # Errors
    /// It is silent for [`PATIENCE`], or says what nobody understands.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let mut line = Vec::new();
        self.from.by_ref().take(LONGEST).read_until(b'\n', &mut line).context("the other host is silent")?;
        if line.is_empty() {
            return Ok(None);
        }
        ensure!(line.ends_with(b"\n"), "the other host said more than {LONGEST} bytes, or broke off");
        serde_json::from_slice(&line)
            .map(Some)
            .context("the other host said what this one does not understand")
    }

    /// Waits for a line as long as it takes: for the far end, between two orders.
    ///
    /// # Errors
    /// The connection's.
    pub fn wait(&mut self) -> Result<bool> {
        loop {
            match self.from.fill_buf() {
                Ok(bytes) => return Ok(!bytes.is_empty()),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => bail!(error),
            }
        }
    }

    /// Says numbers.
    ///
    /// # Errors
    /// As of [`Self::say`].
    pub fn say_numbers(&mut self, numbers: &[u64]) -> Result<()> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.to.write_all(&bytes).context("the other host is gone")
    }

    /// Hears so many numbers.
    ///
    /// # Errors
    /// The other host broke off.
    pub fn hear_numbers(&mut self, count: u32) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            let mut bytes = [0; 8];
            self.from.read_exact(&mut bytes).context("the other host broke off")?;
            numbers.push(u64::from_le_bytes(bytes));
        }
        Ok(numbers)
    }
}

/// A phase in words.
pub(crate) fn words(went: &Went) -> (u64, u64, u64, u64) {
    (went.asked, went.packets, went.from_ns, went.to_ns)
}

/// A phase from words.
pub(crate) fn went((asked, packets, from_ns, to_ns): (u64, u64, u64, u64)) -> Went {
    Went { asked, packets, from_ns, to_ns }
}

/// Which clock this process reads: the boot, and the time namespace, which moves `CLOCK_MONOTONIC`.
pub fn clock() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/time").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn both() -> (Channel, Channel) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Channel::new(listener.accept().unwrap().0).unwrap(), Channel::new(there).unwrap())
    }

    #[test]
    fn what_is_said_is_heard_numbers_behind_their_line() {
        let (mut here, mut there) = both();
        let end = Ask::End { phases: vec![(4, 3, 2, 1)], flows: 3, steps: vec![(9, -9)] };
        here.say(&end).unwrap();
        here.say_numbers(&[1, u64::MAX, 3]).unwrap();
        here.say(&Ask::Counted).unwrap();
        assert_eq!(there.hear::<Ask>().unwrap(), Some(end));
        assert_eq!(there.hear_numbers(3).unwrap(), [1, u64::MAX, 3]);
        assert!(there.wait().unwrap());
        assert_eq!(there.hear::<Ask>().unwrap(), Some(Ask::Counted));
        drop(here);
        assert!(!there.wait().unwrap());
        assert_eq!(there.hear::<Ask>().unwrap(), None);
    }

    #[test]
    fn what_is_no_word_of_ours_or_breaks_off_is_an_error() {
        let (mut here, mut there) = both();
        here.to.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        let error = there.hear::<Ask>().unwrap_err().to_string();
        assert!(error.contains("does not understand"), "{error}");
        here.to.write_all(b"{\"begin\"").unwrap();
        drop(here);
        let error = there.hear::<Ask>().unwrap_err().to_string();
        assert!(error.contains("broke off"), "{error}");
    }
}
