//! What the stages `wireguard-open` and `wireguard-seal` of one section share: its peers, and a desk for each worker.
//!
//! Owns: the peers' records (in memory that outlives the process), cryptokey routing, the desks with handshakes on their way, and
//! packets that wait for one. Keeps true: a peer has one owner among the workers, who alone writes its record; what is for
//! another's peer goes there. The desks' locks are taken for handshakes, timers and packets without a session, never for a
//! packet that has one; and nobody waits for one, for each worker has its own.

mod in_words;
pub mod open;
mod outer;
mod screen;
pub mod seal;
mod segments;
mod waiting;

use crate::snapshot::PortFacts;
use crate::spec::Prefix;
use crate::stage::Cx;
use crate::stages::answer::{self, Answer};
use crate::stages::track::Own;
use crate::tables::cryptokey::Cryptokey;
use crate::tables::fib::{Fib, FibError};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{SystemTime, UNIX_EPOCH};
use waiting::Waiting;
use zsync_crypto::aead::Aead;
use zsync_packet::burst::Burst;
use zsync_packet::flow::HashKey;
use zsync_packet::region::Region;
use zsync_packet::verdict::{DropReason, PortId, Verdict};
use zsync_wireguard::book::{Book, Count, Peer, Peers, TooManyPeers};
use zsync_wireguard::desk::{Action, Desk, Entropy, Letter, system_entropy};
use zsync_wireguard::key::Secret;
use zsync_wireguard::noise::Identity;

/// What a section says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our private key.
    pub private: Secret,
    /// The UDP port that messages come to and from.
    pub port: u16,
    /// Our addresses outside; none: all that the host has.
    pub local: Vec<IpAddr>,
    /// The port with a UDP socket, by which all leaves that the tunnel says; none: it goes on to the next stage.
    pub to: Option<PortId>,
    /// Longest inner packet, in bytes.
    pub mtu: usize,
    /// DSCP of outer packets; none: the inner packet's.
    pub dscp: Option<u8>,
    /// Peers that there is memory for.
    pub slots: u32,
    /// The peers, and whose the inner addresses are.
    pub peers: Vec<(Peer, Vec<Prefix>)>,
}

/// What a tunnel is made with.
#[derive(Clone, Debug)]
pub struct With {
    /// The peers' memory, [`Book::bytes`]: that of the tunnel before where it has as many slots, else empty.
    pub memory: Region,
    /// How many workers there are.
    pub workers: usize,
    /// The secret of this boot.
    pub hash_key: HashKey,
    /// By port number.
    pub ports: Vec<PortFacts>,
    /// The kernel's main routes: whose addresses are ours, and which we send from.
    pub fib: Option<Fib>,
}

/// Why there is no tunnel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunnelError {
    /// Nobody has read the files with its keys.
    #[error("the files with its keys were not read")]
    NoKey,
    /// The memory is too short for the peers.
    #[error("the peers' memory is shorter than its settings say")]
    Memory,
    /// More peers than slots.
    #[error(transparent)]
    Peers(#[from] TooManyPeers),
    /// Too many prefixes.
    #[error("cryptokey routing: {0}")]
    Prefixes(#[from] FibError),
}

/// Where times since 1970 come from.
#[derive(Clone, Copy, Debug)]
pub enum Wall {
    /// The system's clock.
    System,
    /// Nanoseconds since 1970 when the monotonic clock said 0: for what must happen the same way again.
    Since(u64),
}

/// See the module. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Tunnel(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    with: With,
    own: Own,
    identity: Identity,
    book: Book,
    peers: Arc<Peers>,
    routing: Cryptokey,
    aead: Aead,
    wall: Wall,
    offices: Arc<[Mutex<Office>]>,
}

/// What a worker has of a tunnel beside the records.
#[derive(Default)]
struct Office {
    desk: Option<Desk>,
    waiting: Waiting,
    /// Instead of the system's, for the first desk.
    entropy: Option<Entropy>,
    /// Whom to wake when there is something to do.
    waker: Option<Waker>,
    /// A handshake was computed while packets waited for another: those come first, once.
    passed_over: bool,
}

impl std::fmt::Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Office")
            .field("desk", &self.desk)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

impl Tunnel {
    /// Of these settings. `before`: the tunnel of the configuration before, whose handshakes and waiting packets go on, if our
    /// key is still the same; and its sessions too where the memory is another, which has room for more peers or for fewer.
    ///
    /// # Errors
    /// The memory does not fit the settings, or there are too many peers or prefixes.
    pub fn new(settings: Settings, with: With, before: Option<&Self>) -> Result<Self, TunnelError> {
        let identity = Identity::new(settings.private.clone());
        let book = Book::open(with.memory.clone(), settings.slots, &with.hash_key, identity.public())
            .ok_or(TunnelError::Memory)?;
        let same = before.filter(|before| {
            before.0.identity.public() == identity.public() && before.0.offices.len() == with.workers
        });
        let wanted = settings.peers.iter().map(|(peer, _)| peer.clone()).collect();
        let peers = book.enrol(wanted, same.map(Self::peers))?;
        let mut prefixes = Vec::new();
        for (peer, own) in &settings.peers {
            if let Some(slot) = peers.slot(&peer.public) {
                prefixes.extend(own.iter().map(|prefix| (*prefix, slot)));
            }
        }
        let routing = Cryptokey::new(&prefixes)?;
        let offices = match same {
            Some(before) => Arc::clone(&before.0.offices),
            None => (0..with.workers).map(|_| Mutex::default()).collect(),
        };
        let own = Own::of(with.fib.clone());
        let wall = same.map_or(Wall::System, |before| before.0.wall);
        let aead = Aead::new();
        let peers = Arc::new(peers);
        Ok(Self(Arc::new(Shared {
            settings,
            with,
            own,
            identity,
            book,
            peers,
            routing,
            aead,
            wall,
            offices,
        })))
    }

    /// The same, with times and randomness that come again: for tests and simulations.
    pub fn repeatable(self, wall: Wall, mut entropy: impl FnMut(usize) -> Entropy) -> Self {
        let Shared { settings, with, own, identity, book, peers, routing, aead, offices, .. } = &*self.0;
        for (worker, office) in offices.iter().enumerate() {
            office.lock().unwrap_or_else(PoisonError::into_inner).entropy = Some(entropy(worker));
        }
        Self(Arc::new(Shared {
            settings: settings.clone(),
            with: with.clone(),
            own: own.clone(),
            identity: identity.clone(),
            book: book.clone(),
            peers: Arc::clone(peers),
            routing: routing.clone(),
            aead: aead.clone(),
            wall,
            offices: Arc::clone(offices),
        }))
    }

    /// The peers' records.
    pub fn book(&self) -> &Book {
        &self.0.book
    }

    /// The peers.
    pub fn peers(&self) -> &Peers {
        &self.0.peers
    }
}

impl Shared {
    fn unix(&self, now: u64) -> u64 {
        match self.wall {
            Wall::System => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
            }
            Wall::Since(epoch) => epoch + now,
        }
    }

    /// Which worker owns the peer in `slot`.
    #[inline]
    fn owner(&self, slot: u32) -> usize {
        // A division takes longer than all else that is done to find a peer.
        match self.offices.len() {
            0 | 1 => 0,
            workers => slot as usize % workers,
        }
    }

    /// The worker's own things, with a desk.
    fn office(&self, worker: usize, now: u64) -> Option<MutexGuard<'_, Office>> {
        let mut office = self.offices.get(worker)?.lock().unwrap_or_else(PoisonError::into_inner);
        let Office { desk, entropy, waiting, .. } = &mut *office;
        let workers = (worker, self.offices.len());
        let make = || {
            let entropy = entropy.take().unwrap_or_else(system_entropy);
            let (book, peers) = (self.book.clone(), Arc::clone(&self.peers));
            Desk::new(self.identity.clone(), book, peers, workers, &self.with.hash_key, entropy, now)
        };
        // What waits for a peer is for nobody else who gets its slot.
        let gone = |slot| self.give_up(waiting.drop_all(slot));
        desk.get_or_insert_with(make).adopt(&self.book, &self.peers, gone);
        Some(office)
    }

    /// So many packets have waited in vain.
    fn give_up(&self, packets: usize) {
        (0..packets).for_each(|_| self.book.count(Count::GivenUp));
    }

    /// Whether anybody knows where the peer in `slot` is.
    #[cold]
    fn is_somewhere(&self, slot: u32) -> bool {
        let record = self.peers.record(&self.book, slot);
        record.is_some_and(|record| record.endpoint().is_some())
            || self.peers.peer(slot).is_some_and(|peer| peer.endpoint.is_some())
    }

    /// Tells the sender of packet `i` that nobody knows where its peer is, as the kernel does (device.c, wg_xmit).
    #[cold]
    fn nowhere(&self, burst: &mut Burst, i: usize, ports: &[PortFacts], cx: &mut Cx<'_>) -> Verdict {
        const NO: DropReason = DropReason::WireguardNoSession;
        self.book.count(Count::Nowhere);
        match ports.get(usize::from(burst.port(i).0)) {
            Some(from) => answer::reply(burst, i, Answer::HostUnreachable, from, NO, cx),
            None => Verdict::Drop(NO),
        }
    }

    /// Puts a letter on another worker's desk, if it has one yet.
    fn forward(&self, to: usize, letter: Letter, now: u64) {
        if let Some(office) = self.offices.get(to) {
            let mut office = office.lock().unwrap_or_else(PoisonError::into_inner);
            office.change(|office| {
                if let Some(desk) = &mut office.desk {
                    desk.put(letter, now);
                }
            });
        }
    }

    /// Wakes `waker` from now on when the worker's desk has something to do.
    fn wake_with(&self, worker: usize, waker: &Waker) {
        if let Some(office) = self.offices.get(worker) {
            office.lock().unwrap_or_else(PoisonError::into_inner).waker = Some(waker.clone());
        }
    }

    /// Whether a datagram to this address is for us.
    fn is_local(&self, address: IpAddr) -> bool {
        let Settings { local, .. } = &self.settings;
        let has = |port: &PortFacts| {
            port.v4.map(IpAddr::V4) == Some(address) || port.v6.map(IpAddr::V6) == Some(address)
        };
        if local.is_empty() {
            self.with.ports.iter().any(has) || self.own.has(address)
        } else {
            local.contains(&address)
        }
    }
}

impl Office {
    fn poll(&mut self, now: u64, unix: u64) -> Option<Action> {
        self.desk.as_mut().and_then(|desk| desk.poll(now, unix))
    }

    /// Whether a handshake may be computed now.
    fn is_rested(&self, now: u64) -> bool {
        self.desk.as_ref().is_some_and(|desk| desk.is_rested(now))
    }

    /// Whether a message waits to be read, or to be sent.
    fn is_pressed(&self) -> bool {
        self.desk.as_ref().is_some_and(Desk::is_pressed)
    }

    /// Does this, and wakes who is to be woken if that left something to do where there was nothing. (In a flood there always is.)
    fn change<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        let idle = |office: &Self| (!office.is_pressed(), office.waiting.wants_nobody());
        let before = idle(self);
        let result = change(self);
        let after = idle(self);
        if (before.0 && !after.0 || before.1 && !after.1)
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
        result
    }
}

#[cfg(test)]
mod tests;
