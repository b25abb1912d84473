//! `ping`, and what it says.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Namespace;

/// The outcome of some echo requests.
#[derive(Debug, Clone)]
pub struct Ping {
    /// Requests sent.
    pub sent: u32,
    /// Replies received.
    pub received: u32,
    /// The time of each reply, in order.
    pub times: Vec<Duration>,
    /// All that `ping` wrote: errors that routers sent, too.
    pub text: String,
}

impl Ping {
    /// Whether each request was answered, once.
    #[must_use]
    pub fn all(&self) -> bool {
        self.sent > 0 && self.received == self.sent && !self.text.contains("DUP!")
    }

    /// The median time of the replies.
    #[must_use]
    pub fn median(&self) -> Option<Duration> {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }
}

/// `count` echo requests to `target`, 20 ms apart, each given a second.
///
/// # Errors
/// When `ping` cannot run.
pub fn ping(namespace: &Namespace, target: IpAddr, count: u32) -> Result<Ping> {
    ping_with(namespace, target, count, &["-i", "0.02"])
}

/// As [`ping`](fn@ping), with more options for `ping`.
///
/// # Errors
/// When `ping` cannot run.
pub fn ping_with(namespace: &Namespace, target: IpAddr, count: u32, options: &[&str]) -> Result<Ping> {
    let mut command = Command::new("ping");
    command.args(["-n", "-W", "1", "-c", &count.to_string()]).args(options).arg(target.to_string());
    // It ends with 1 when replies are missing: that is an outcome, not an error.
    let output = namespace.run(|| command.output().context("cannot run ping (package iputils-ping)"))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    parse(&text).with_context(|| format!("ping {target}: {text}"))
}

fn parse(text: &str) -> Option<Ping> {
    let summary = text.lines().find(|line| line.contains("packets transmitted"))?;
    let number_before = |what: &str| {
        let words: Vec<_> = summary.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let at = words.iter().position(|word| *word == what)?;
        words[..at].iter().rev().find_map(|word| word.parse().ok())
    };
    let time = |line: &str| {
        let text = line.split_once("time=")?.1.split_once(' ')?.0;
        text.parse::<f64>().ok().map(|ms| Duration::from_secs_f64(ms / 1000.0))
    };
    Some(Ping {
        sent: number_before("transmitted")?,
        received: number_before("received")?,
        times: text.lines().filter(|line| line.contains("bytes from")).filter_map(time).collect(),
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_ping_writes() {
        let text = "PING 10.2.0.2 (10.2.0.2) 56(84) bytes of data.\n\
                    64 bytes from 10.2.0.2: icmp_seq=1 ttl=63 time=0.052 ms\n\
                    From 10.1.0.1 icmp_seq=2 Time to live exceeded\n\n\
                    --- 10.2.0.2 ping statistics ---\n\
                    2 packets transmitted, 1 received, +1 errors, 50% packet loss, time 20ms\n";
        let ping = parse(text).unwrap();
        assert_eq!((ping.sent, ping.received), (2, 1));
        assert_eq!(ping.times, [Duration::from_micros(52)]);
        assert_eq!(ping.median(), Some(Duration::from_micros(52)));
        assert!(!ping.all());
        assert!(parse("ping: connect: Network is unreachable").is_none());
    }
}
