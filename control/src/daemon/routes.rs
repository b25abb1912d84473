//! A routing table of the kernel, mirrored into a FIB in shared memory.
//!
//! Owns: the memory, the writer, the netlink mirror. What was unlinked is used again only when every worker has finished
//! the pass in which it might have read it: the workers' pass counts, which they publish, tell when.

use crate::netlink::{Changes, MirroredFib, Netlink, NetlinkError, Options, PortId};
use anyhow::{Context as _, Result};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use zsync_pipelines::tables::fib::{FibLayout, FibWriter};
use zsync_protocol::message::ToDataplane;
use zsync_protocol::shm::{Huge, Memory};

/// How often routes that did not fit are tried again.
const RETRY: Duration = Duration::from_secs(5);

/// One table. See the module.
#[derive(Debug)]
pub struct Routes {
    /// The kernel's number of it.
    pub table: u32,
    memory: Memory,
    /// The same memory, which cannot be mapped for writing by this descriptor: the data plane's.
    for_readers: OwnedFd,
    netlink: Netlink,
    fib: MirroredFib,
    stamp: u64,
    /// The stamp that the workers' pass counts are waited for, and the counts when it was set.
    waiting: Option<(u64, Vec<u64>)>,
    /// When routes that the FIB had no room for were last tried again.
    retried: Instant,
}

impl Routes {
    /// An empty FIB, and the mirror that will fill it. `ports`: numbers of ports by index of their netdevs.
    ///
    /// # Errors
    /// No memory, or no netlink.
    pub fn start(table: u32, ports: HashMap<u32, PortId>) -> Result<Self> {
        let layout = FibLayout::default();
        let memory = Memory::create("zsync-fib", layout.bytes(), Huge::Never)?;
        let for_readers = open_for_reading(&memory.fd)?;
        let writer = FibWriter::create(memory.region.clone(), layout)?;
        let netlink = Netlink::start(ports, Options { table, ..Options::default() })?;
        Ok(Self {
            table,
            memory,
            for_readers,
            netlink,
            fib: MirroredFib::new(writer),
            stamp: 0,
            waiting: None,
            retried: Instant::now(),
        })
    }

    /// What the data plane is told of it.
    pub fn message(&self, epoch: u64) -> (ToDataplane, rustix::fd::BorrowedFd<'_>) {
        let len = self.memory.region.len() as u64;
        (ToDataplane::Fib { epoch, table: self.table, len }, self.for_readers.as_fd())
    }

    /// Waits for the kernel to change something, and changes the FIB with it. May be dropped at any await.
    ///
    /// # Errors
    /// Netlink failed for good.
    pub async fn follow(&mut self) -> Result<Changes, NetlinkError> {
        let changes = self.netlink.next_changes().await?;
        let applied = self.netlink.apply(&mut self.fib);
        if applied.refused > 0 {
            tracing::error!(
                table = self.table,
                refused = applied.refused,
                "routes do not fit the FIB: their packets follow shorter prefixes; see `zsyncctl show fib`"
            );
        }
        Ok(changes)
    }

    /// Addresses of this host.
    pub fn local_addresses(&self) -> BTreeSet<IpAddr> {
        self.netlink.mirror().local_addresses()
    }

    /// The mirror, for links.
    pub fn netlink(&self) -> &Netlink {
        &self.netlink
    }

    /// The writer, for looking.
    pub fn writer(&self) -> &FibWriter {
        self.fib.writer()
    }

    /// Housekeeping: `passes` are the workers' pass counts, or `None` when no worker runs.
    pub fn reclaim(&mut self, passes: Option<&[u64]>) {
        let Some(now) = passes else {
            self.waiting = None;
            self.fib.writer_mut().reclaim(u64::MAX);
            return;
        };
        match &self.waiting {
            Some((stamp, then)) => {
                let passed = then.len() == now.len() && then.iter().zip(now).all(|(then, now)| now > then);
                if passed {
                    self.fib.writer_mut().reclaim(*stamp);
                    // Each refused route is tried anew, and logged if it is refused again: not too often.
                    if self.retried.elapsed() > RETRY {
                        self.retried = Instant::now();
                        self.netlink.retry_refused();
                    }
                    self.waiting = None;
                } else if then.len() != now.len() || then.iter().zip(now).any(|(then, now)| now < then) {
                    // Another data plane counts: what the one before read, nobody reads any more.
                    self.waiting = None;
                }
            }
            None => {
                self.stamp += 1;
                self.fib.writer_mut().set_stamp(self.stamp);
                self.waiting = Some((self.stamp, now.to_vec()));
            }
        }
    }
}

/// Another description of the same file, for reading alone.
fn open_for_reading(file: &OwnedFd) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("opening the FIB's memory for readers by {path}"))
}
