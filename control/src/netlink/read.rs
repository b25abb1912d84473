//! Reading: datagrams to events to the mirror, those of a dump told from those that the kernel sends by itself.
//!
//! Invariant: the answers of a dump are known by our port and its sequence number together; nothing else ends it.

use super::decode::{self, RTM_GETADDR, RTM_GETLINK, RTM_GETNEIGH, RTM_GETNEXTHOP, RTM_GETROUTE};
use super::model::Mirror;
use super::socket::{Received, Socket, refusal};
use super::watch::{Changes, Statistics};
use super::wire::{Message, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN, messages};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// The tables, in the order in which they are read: a route names a link and a next-hop object.
pub(super) const TABLES: [(u16, u8, usize); 9] = {
    const AF_UNSPEC: u8 = 0;
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    // The request, the family, and the length of the fixed part (ifinfomsg, ifaddrmsg, nhmsg, ndmsg, rtmsg).
    [
        (RTM_GETLINK, AF_UNSPEC, 16),
        (RTM_GETADDR, AF_INET, 8),
        (RTM_GETADDR, AF_INET6, 8),
        (RTM_GETNEXTHOP, AF_UNSPEC, 8),
        (RTM_GETNEIGH, AF_INET, 12),
        (RTM_GETNEIGH, AF_INET6, 12),
        (RTM_GETROUTE, AF_INET, 12),
        (RTM_GETROUTE, AF_INET6, 12),
        // Once more: an object whose route was told above may have come since.
        (RTM_GETNEXTHOP, AF_UNSPEC, 8),
    ]
};

/// Datagrams read before others get their turn.
const TURN: usize = 256;
/// Between a silent change and reading the tables: such changes come several at a time.
const SETTLE: Duration = Duration::from_millis(20);
/// A resync in progress.
#[derive(Debug)]
pub(super) struct Dump {
    pub(super) table: usize,
    pub(super) sequence: u32,
    pub(super) interrupted: bool,
    pub(super) retries: u32,
    pub(super) begun: Instant,
}

/// How a turn of reading ended.
pub(super) enum Turn {
    Drained,
    More,
    DumpedTable,
}

/// The parts of `Netlink` that reading needs, apart from the socket.
pub(super) struct Reader<'a> {
    pub(super) mirror: &'a mut Mirror,
    pub(super) dump: &'a mut Option<Dump>,
    pub(super) pending: &'a mut Changes,
    pub(super) statistics: &'a mut Statistics,
    pub(super) resync_at: &'a mut Option<Instant>,
}

impl Reader<'_> {
    pub(super) fn turn(&mut self, socket: &mut Socket) -> Result<Turn, Errno> {
        let port = socket.port;
        for _ in 0..TURN {
            match socket.receive()? {
                Received::Empty => return Ok(Turn::Drained),
                Received::Overrun => self.overrun(),
                Received::Datagram(datagram) => {
                    messages(datagram).for_each(|message| self.take(&message, port))
                }
            }
            if self.dump.as_ref().is_some_and(|dump| dump.sequence == 0) {
                return Ok(Turn::DumpedTable);
            }
        }
        Ok(Turn::More)
    }

    fn overrun(&mut self) {
        self.statistics.overruns += 1;
        tracing::warn!(
            overruns = self.statistics.overruns,
            "netlink receive buffer overrun: reading all tables again"
        );
        *self.resync_at = Some(Instant::now());
    }

    fn take(&mut self, message: &Message<'_>, port: u32) {
        // The kernel numbers its own messages after the request that caused them, whoever sent that one.
        let dump =
            self.dump.as_mut().filter(|dump| message.port == port && message.sequence == dump.sequence);
        match message.kind {
            NLMSG_DONE | NLMSG_ERROR => match dump {
                Some(dump) => {
                    if message.kind == NLMSG_ERROR
                        && let Some(error) = refusal(message)
                    {
                        // No next-hop objects, or no IPv6, in this kernel: then there are none.
                        tracing::debug!(table = dump.table, %error, "netlink dump refused");
                    }
                    dump.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                    dump.sequence = 0;
                }
                None if message.kind == NLMSG_ERROR => {
                    if let Some(error) = refusal(message) {
                        tracing::debug!(%error, "the kernel would not look for a neighbour");
                    }
                }
                None => {}
            },
            NLMSG_OVERRUN => self.overrun(),
            _ => {
                if let Some(dump) = dump {
                    dump.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                }
                let Some(event) = decode::event(message) else { return };
                self.statistics.events += 1;
                let effects = self.mirror.handle(event);
                self.pending.links |= effects.links;
                self.pending.addresses |= effects.addresses;
                self.pending.fib |= self.mirror.is_dirty();
                if effects.reread {
                    self.resync_at.get_or_insert_with(|| Instant::now() + SETTLE);
                }
            }
        }
    }
}
