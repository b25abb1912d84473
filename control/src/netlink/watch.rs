//! The mirror kept in step with the kernel: one socket for what the kernel tells and for the dumps, so that both arrive in
//! the order in which they happened.
//!
//! It subscribes before it dumps; what the kernel changes without telling, or told while the receive buffer was full, is
//! dumped again. Invariant: every await may be dropped at any time; nothing is held across one but what `self` holds.

use super::decode::RTM_NEWNEIGH;
use super::install::Applied;
use super::model::Mirror;
use super::probe::Prober;
use super::read::{Dump, Reader, TABLES, Turn};
use super::sink::{FibSink, PortId};
use super::socket::{Socket, SocketError};
use super::wire::{NLM_F_CREATE, NLM_F_DUMP, Request};
use rustix::io::Errno;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What the mirror follows, and with how much room.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The routing table behind the local one; 254 is main.
    pub table: u32,
    /// Bytes of receive buffer. A message about a route takes about 1 KiB of it, whatever its length.
    pub receive_buffer: usize,
}

impl Default for Options {
    /// The main table, and room for some 16,000 messages: a burst of a routing daemon.
    fn default() -> Self {
        Self { table: 254, receive_buffer: 16 << 20 }
    }
}

/// The mirror cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The event loop would not take the socket.
    #[error("netlink socket: cannot wait for it: {0}")]
    Register(#[from] std::io::Error),
}

/// What happened since the last time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// A link came, went or changed: [`Mirror::links`].
    pub links: bool,
    /// An address of this host came or went: [`Mirror::local_addresses`].
    pub addresses: bool,
    /// The FIB is to be told something: [`Netlink::apply`].
    pub fib: bool,
    /// The kernel's tables have been read from end to end.
    pub synced: bool,
}

impl Changes {
    fn any(self) -> bool {
        self != Self::default()
    }
}

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Times that the kernel had more to tell than the receive buffer holds.
    pub overruns: u64,
    /// Times that all tables were read, the first included.
    pub resyncs: u64,
    /// Things that a resync found to be gone.
    pub dropped: u64,
    /// Things that the kernel told.
    pub events: u64,
    /// Neighbours that the kernel was asked to resolve or to look after.
    pub probes: u64,
    /// Entries that the FIB refused.
    pub refused: u64,
}

/// Bits of RTNLGRP_LINK 1, NEIGH 3, IPV4_IFADDR 5, IPV4_ROUTE 7, IPV6_IFADDR 9, IPV6_ROUTE 11, NEXTHOP 32.
const GROUPS: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 31;

/// A dump that changes interrupted is done again so many times, then a while later.
const RETRIES: u32 = 3;

/// The kernel's tables, followed. Made and used inside one tokio runtime and one network namespace.
#[derive(Debug)]
pub struct Netlink {
    socket: AsyncFd<Socket>,
    mirror: Mirror,
    prober: Prober,
    dump: Option<Dump>,
    /// When to read all tables again.
    resync_at: Option<Instant>,
    /// Not before this, so that reading takes a small part of the time however often it is called for.
    rest_until: Instant,
    synced: bool,
    pending: Changes,
    statistics: Statistics,
}

impl Netlink {
    /// Subscribes in the calling thread's network namespace, and begins to read the tables. `ports`: the links that are
    /// ports of ours, by interface index.
    pub fn start(ports: HashMap<u32, PortId>, options: Options) -> Result<Self, NetlinkError> {
        let socket = Socket::watching(GROUPS, options.receive_buffer)?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe; a `Socket` has one descriptor for as long as it lives"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        let mut netlink = Self {
            socket,
            mirror: Mirror::new(options.table, ports),
            prober: Prober::default(),
            dump: None,
            resync_at: None,
            rest_until: Instant::now(),
            synced: false,
            pending: Changes::default(),
            statistics: Statistics::default(),
        };
        netlink.begin_dump(Instant::now(), 0)?;
        Ok(netlink)
    }

    /// Waits until something changed, and says what. Nothing is told before the tables have been read once. May be
    /// dropped at any await and called again.
    pub async fn next_changes(&mut self) -> Result<Changes, NetlinkError> {
        loop {
            let now = Instant::now();
            self.run_timers(now)?;
            if self.synced && self.pending.any() {
                return Ok(std::mem::take(&mut self.pending));
            }
            let deadline = [self.prober.deadline(), self.resync_due()].into_iter().flatten().min();
            let far = now + Duration::from_secs(3600);
            tokio::select! {
                guard = self.socket.readable_mut() => {
                    let mut guard = guard?;
                    let socket = guard.get_inner_mut();
                    let mut reader = Reader {
                        mirror: &mut self.mirror,
                        dump: &mut self.dump,
                        pending: &mut self.pending,
                        statistics: &mut self.statistics,
                        resync_at: &mut self.resync_at,
                    };
                    match reader.turn(socket).map_err(SocketError::from)? {
                        Turn::Drained => guard.clear_ready(),
                        Turn::More => {}
                        Turn::DumpedTable => drop(guard),
                    }
                    self.advance_dump()?;
                }
                () = tokio::time::sleep_until(deadline.unwrap_or(far).into()) => {}
            }
        }
    }

    /// Tells `sink` what changed. Nothing, before the tables have been read once.
    pub fn apply<S: FibSink>(&mut self, sink: &mut S) -> Applied {
        if !self.synced || !self.mirror.is_dirty() {
            return Applied::default();
        }
        let applied = self.mirror.sync(sink);
        self.statistics.refused += applied.refused as u64;
        self.prober.wake(Instant::now());
        applied
    }

    /// From now on these links are ports of ours; [`apply`](Self::apply) then says what that changes.
    pub fn set_ports(&mut self, ports: HashMap<u32, PortId>) {
        self.mirror.set_ports(ports);
        self.pending.fib = true;
    }

    /// The FIB has room again (it has reclaimed what was removed): what it refused is to be tried again.
    pub fn retry_refused(&mut self) {
        self.pending.fib |= self.mirror.retry_refused();
    }

    /// Reads all tables again.
    pub fn resync(&mut self) {
        self.resync_at = Some(Instant::now());
    }

    /// What the kernel has, as last told.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Counts since the start.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    fn resync_due(&self) -> Option<Instant> {
        self.resync_at.filter(|_| self.dump.is_none()).map(|at| at.max(self.rest_until))
    }

    fn run_timers(&mut self, now: Instant) -> Result<(), SocketError> {
        if self.resync_due().is_some_and(|due| due <= now) {
            self.resync_at = None;
            self.begin_dump(now, 0)?;
        }
        for (ifindex, ip) in self.prober.due(now, &self.mirror) {
            self.statistics.probes += 1;
            // A refusal comes as a message; a full send queue is met again at the next round.
            match self.socket.get_mut().send(use_neighbour(ifindex, ip)) {
                Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn begin_dump(&mut self, now: Instant, retries: u32) -> Result<(), SocketError> {
        self.mirror.begin_resync();
        self.dump = Some(Dump { table: 0, sequence: 0, interrupted: false, retries, begun: now });
        self.ask_table()
    }

    fn ask_table(&mut self) -> Result<(), SocketError> {
        let Some(dump) = &mut self.dump else { return Ok(()) };
        let Some((kind, family, length)) = TABLES.get(dump.table) else { return Ok(()) };
        let mut body = [0; 16];
        body[0] = *family;
        let request = Request::new(*kind, NLM_F_DUMP, &body[..*length]);
        dump.sequence = self.socket.get_mut().send(request)?;
        Ok(())
    }

    /// Goes on with the dump when a table has been read: its sequence number is then 0.
    fn advance_dump(&mut self) -> Result<(), SocketError> {
        let Some(dump) = &mut self.dump else { return Ok(()) };
        if dump.sequence != 0 {
            return Ok(());
        }
        dump.table += 1;
        if dump.table < TABLES.len() {
            return self.ask_table();
        }
        let now = Instant::now();
        if dump.interrupted && dump.retries < RETRIES {
            let retries = dump.retries + 1;
            return self.begin_dump(now, retries);
        }
        let (took, interrupted) = (now - dump.begun, dump.interrupted);
        self.dump = None;
        let dropped = self.mirror.end_resync();
        self.statistics.resyncs += 1;
        self.statistics.dropped += dropped as u64;
        self.rest_until = now + took * 4;
        if interrupted {
            self.resync_at.get_or_insert(now + Duration::from_secs(1));
        }
        self.synced = true;
        self.pending.synced = true;
        self.pending.fib |= self.mirror.is_dirty();
        // What went unsaid may concern those as well.
        self.pending.links |= dropped > 0;
        self.pending.addresses |= dropped > 0;
        tracing::debug!(?took, dropped, interrupted, "netlink tables read");
        Ok(())
    }
}

/// `RTM_NEWNEIGH` with `NTF_USE`: the kernel makes the entry if there is none, and treats it as if it had a packet for it.
fn use_neighbour(ifindex: u32, ip: IpAddr) -> Request {
    const NTF_USE: u8 = 1;
    const NDA_DST: u16 = 1;
    const NUD_NONE: u16 = 0;
    let mut body = [0; 12];
    body[0] = if ip.is_ipv4() { 2 } else { 10 };
    body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    body[8..10].copy_from_slice(&NUD_NONE.to_ne_bytes());
    body[10] = NTF_USE;
    let request = Request::new(RTM_NEWNEIGH, NLM_F_CREATE, &body);
    match ip {
        IpAddr::V4(ip) => request.attribute(NDA_DST, &ip.octets()),
        IpAddr::V6(ip) => request.attribute(NDA_DST, &ip.octets()),
    }
}
