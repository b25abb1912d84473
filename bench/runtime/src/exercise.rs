//! What is measured.

use std::time::Duration;
use zsync_report::outcome::Direction;

/// A thing that is measured of every contestant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exercise {
    /// So many tasks let each other have their turns, again and again.
    Yield(u32),
    /// So many tasks are spawned and then waited for, again and again.
    Spawn(u32),
    /// Two tasks send each other a message by channels of one place.
    Message,
    /// Tasks that wait are ended.
    Abort,
    /// 100,000 timers are set and taken back.
    Timers,
    /// A timer of 10 ms beside a task that always yields.
    Alarm,
    /// So many tasks share a socket, each sending back what it received.
    UdpEcho(u32),
    /// So many tasks share a socket, each sending.
    UdpSend(u32),
    /// A task sends back groups of datagrams, each received and sent by one call.
    EchoGroups,
    /// A task sends groups of datagrams, each by one call.
    SendGroups,
    /// 64 connections with a task each, which sends back what it received.
    TcpEcho,
    /// A receive is dropped while it waits; is what comes then received by the next one?
    Dropped,
}

/// Timers that run at a time.
pub(crate) const TIMERS: usize = 100_000;
/// Tasks that are ended at a time.
pub(crate) const ABORTED: usize = 1000;
/// Datagrams of a group.
pub(crate) const BURST: usize = 32;
/// Connections of [`Exercise::TcpEcho`].
pub(crate) const CONNECTIONS: usize = 64;
/// How often [`Exercise::Dropped`] drops one.
pub(crate) const DROPS: u32 = 20;

use Exercise::{
    Abort, Alarm, Dropped, EchoGroups, Message, SendGroups, Spawn, TcpEcho, Timers, UdpEcho, UdpSend, Yield,
};

impl Exercise {
    /// In the order of a round.
    pub(crate) const ALL: [Self; 16] = [
        Yield(1),
        Yield(1000),
        Spawn(1),
        Spawn(1000),
        Message,
        Abort,
        Timers,
        Alarm,
        UdpEcho(1),
        UdpEcho(32),
        EchoGroups,
        UdpSend(1),
        UdpSend(32),
        SendGroups,
        TcpEcho,
        Dropped,
    ];

    /// What rows beside its own have in common, and what is its own.
    pub(crate) fn labels(self) -> (&'static str, String) {
        let tasks = |count: u32| format!("{count} task{}", if count == 1 { "" } else { "s" });
        match self {
            Yield(count) => ("a task is scheduled again", tasks(count)),
            Spawn(count) => ("a task is spawned and joined", format!("{count} at a time")),
            Message => ("a message by a channel of one place", "there and back".to_owned()),
            Abort => ("a task that waits is aborted", format!("{ABORTED} at a time")),
            Timers => ("a timer is set and taken back", format!("{TIMERS} at a time")),
            Alarm => ("a timer of 10 ms", "beside a task that always yields".to_owned()),
            UdpEcho(count) => ("UDP, round trips", tasks(count)),
            UdpSend(count) => ("UDP, one way", tasks(count)),
            EchoGroups => ("UDP, round trips", format!("groups of {BURST}")),
            SendGroups => ("UDP, one way", format!("groups of {BURST}")),
            TcpEcho => ("TCP, round trips", format!("{CONNECTIONS} connections")),
            Dropped => ("datagrams kept", format!("of {DROPS} behind a receive that was dropped")),
        }
    }

    /// The shortest turn that says something: with sockets, two threads must have a core by then, also on a busy machine.
    pub(crate) fn least(self) -> Duration {
        match self {
            UdpEcho(_) | UdpSend(_) | EchoGroups | SendGroups | TcpEcho => Duration::from_millis(100),
            _ => Duration::ZERO,
        }
    }

    /// Of its samples.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Alarm => "ms",
            UdpEcho(_) | EchoGroups | TcpEcho => "round trips/s",
            UdpSend(_) | SendGroups => "datagrams/s",
            Dropped => "datagrams",
            _ => "ns",
        }
    }

    /// Which way is better.
    pub(crate) fn direction(self) -> Direction {
        match self.unit() {
            "ns" | "ms" => Direction::Less,
            _ => Direction::More,
        }
    }
}
