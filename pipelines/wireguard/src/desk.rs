//! A worker's desk: where handshakes are done, and where the timers of its peers are looked at.
//!
//! Owns: handshakes on their way, cookies of peers, the queue of messages that came, and what is to be sent. Refuses: messages
//! that do not authenticate, with a reason each; under load, all whose sender has not shown that it gets what is sent to it.
//! Keeps true: one handshake is computed at a time, and no other for [`PACE`], so packets wait for at most one of them; all
//! queues are bounded; the sessions themselves are in the peers' records.
//!
//! A worker owns the peers of every slot that is its number, modulo the workers. What it gets for another's peer goes to that one's desk.

use crate::book::{Book, Count, Peers};
use crate::cookie::{Gate, Jar, Pass};
use crate::index::GENERATIONS;
use crate::key::Secret;
use crate::load::Sources;
use crate::message::{COOKIE_REPLY_LEN, INITIATION_LEN, Message, RESPONSE_LEN, word};
use crate::noise::{Begun, Identity, Received, stamp};
use crate::record::{Endpoint, Fact};
use crate::timers::{self, REKEY_TIMEOUT};
use looks::Looks;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use zeroize::Zeroizing;
use zsync_packet::flow::HashKey;

/// Messages that wait to be looked at.
const INBOX: usize = 256;
/// With more than this many waiting there is too much to do, and for a second after that.
const BUSY: usize = 32;
const BUSY_FOR: u64 = 1_000_000_000;
/// What waits to be sent.
const OUTBOX: usize = 256;
/// Nanoseconds between two handshakes, which take some 200,000 each.
pub const PACE: u64 = 500_000;
/// Initiations of a peer that come sooner than this after the one before are dropped: the kernel's INITIATIONS_PER_SECOND.
const APART: u64 = 1_000_000_000 / 50;
/// Stamps are told to so many nanoseconds, as the kernel rounds them, so that they do not tell whose clock it is.
const STAMP_STEP: u64 = 1 << 24;
/// Handshakes a second that are computed before there is too much to do, even if none waits.
const MANY: u64 = 200;

/// Where random bytes come from; false: there were none.
pub type Entropy = Box<dyn FnMut(&mut [u8]) -> bool + Send>;

/// The system's.
pub fn system_entropy() -> Entropy {
    Box::new(|bytes| {
        let flags = rustix::rand::GetRandomFlags::empty();
        matches!(rustix::rand::getrandom(&mut *bytes, flags), Ok(len) if len == bytes.len())
    })
}

/// A handshake message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    bytes: [u8; INITIATION_LEN],
    len: usize,
}

impl Written {
    fn new(message: &[u8]) -> Self {
        let mut bytes = [0; INITIATION_LEN];
        let len = message.len().min(INITIATION_LEN);
        bytes[..len].copy_from_slice(&message[..len]);
        Self { bytes, len }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What the stage around the desk is to do.
#[derive(Debug)]
pub enum Action {
    /// Send a handshake message.
    Send(Written, Endpoint),
    /// The peer in this slot can be sent to: what waited for that goes now; or, if it is to hear from us, an empty message.
    Ready {
        /// Which.
        slot: u32,
        /// The session is one that we began: the peer uses it once it has heard from us.
        ours: bool,
    },
    /// Send the peer in this slot an empty message.
    Keepalive(u32),
    /// Drop what waits for the peer in this slot.
    GiveUp(u32),
    /// Put this on the desk of another worker.
    Forward(usize, Letter),
}

/// What comes to a desk.
#[derive(Debug)]
pub enum Letter {
    /// A message whose first code is right.
    Message(Written, Endpoint),
    /// An initiation of one of our peers, opened by another worker.
    Received(Box<Received>, Endpoint),
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It is none, or its first code is wrong.
    Forged,
    /// There is too much to do.
    Overload,
}

struct Trying {
    begun: Begun,
    index: u32,
}

/// See the module.
pub struct Desk {
    identity: Identity,
    book: Book,
    peers: Arc<Peers>,
    worker: usize,
    workers: usize,
    gate: Gate,
    /// The gate's secrets are secret; else nothing is taken, for lack of random bytes.
    good: bool,
    sources: Sources,
    /// Handshakes that were computed since, and since when.
    computed: (u64, u64),
    trying: HashMap<u32, Trying>,
    jars: HashMap<u32, Jar>,
    inbox: VecDeque<Letter>,
    outbox: VecDeque<Action>,
    entropy: Entropy,
    busy_until: u64,
    /// No handshake is computed before.
    rested: u64,
    looks: Looks,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl Desk {
    /// The desk of `worker`, one of `workers`, at `now` (nanoseconds of a monotonic clock). Takes the records of its peers over from whoever wrote them
    /// before.
    pub fn new(
        identity: Identity,
        book: Book,
        peers: Arc<Peers>,
        (worker, workers): (usize, usize),
        secret: &HashKey,
        mut entropy: Entropy,
        now: u64,
    ) -> Self {
        let mut good = true;
        let mut random = || {
            let mut bytes = Zeroizing::new([0; 32]);
            good &= entropy(&mut *bytes);
            Secret::new(*bytes)
        };
        let secrets = [random(), random()];
        let gate = Gate::new(&identity.public(), now, secrets);
        let workers = workers.max(1);
        for slot in (0..book.slots()).filter(|slot| *slot as usize % workers == worker) {
            book.settle(slot, &peers, true);
            if let Some(record) = peers.record(&book, slot) {
                record.take_over();
            }
        }
        Self {
            identity,
            book,
            peers,
            worker,
            workers,
            gate,
            good,
            sources: Sources::new(secret),
            computed: (0, now),
            trying: HashMap::new(),
            jars: HashMap::new(),
            inbox: VecDeque::with_capacity(INBOX),
            outbox: VecDeque::with_capacity(OUTBOX),
            entropy,
            busy_until: 0,
            rested: 0,
            looks: Looks::from(now),
        }
    }

    /// Goes on with the peers of another configuration, whose records are in `book`: what those have that stay is taken there. `gone` hears of
    /// each of its slots whose peer is another now, or nobody.
    pub fn adopt(&mut self, book: &Book, peers: &Arc<Peers>, mut gone: impl FnMut(u32)) {
        if Arc::ptr_eq(&self.peers, peers) {
            return;
        }
        // Whose handshake is due is found again within a round.
        self.looks.due.clear();
        let before = std::mem::replace(&mut self.peers, Arc::clone(peers));
        let moves = !book.is_over_same(&self.book);
        let from = std::mem::replace(&mut self.book, book.clone());
        if moves && self.worker == 0 {
            book.carry_counts(&from);
        }
        for slot in
            (0..book.slots().max(from.slots())).filter(|slot| *slot as usize % self.workers == self.worker)
        {
            let (was, is) = (before.peer(slot), peers.peer(slot));
            let stays = moves && book.carry(slot, peers, &from);
            if !stays && book.settle(slot, peers, moves)
                || was.map(|peer| peer.public) != is.map(|peer| peer.public)
            {
                self.trying.remove(&slot);
                self.jars.remove(&slot);
                gone(slot);
            }
            // Who was configured to be somewhere else is there from now on.
            if let Some(remote) = is.and_then(|peer| peer.endpoint)
                && was.is_some_and(|was| was.endpoint != Some(remote))
                && let Some(record) = peers.record(book, slot)
            {
                record.set_endpoint(Endpoint::unheard(remote));
            }
        }
    }

    /// Whether the peer of this slot is this worker's.
    #[inline]
    pub fn owns(&self, slot: u32) -> bool {
        slot as usize % self.workers == self.worker
    }

    /// Takes a handshake message that came from `endpoint.remote` to `endpoint.local`. Only its codes are checked now.
    ///
    /// # Errors
    /// It is not taken; it is counted.
    pub fn handle_input(&mut self, message: &[u8], endpoint: Endpoint, now: u64) -> Result<(), Rejected> {
        let taken = self.admit(message, endpoint, now);
        match taken {
            Err(Rejected::Forged) => self.book.count(Count::Forged),
            Err(Rejected::Overload) => self.book.count(Count::Overload),
            Ok(()) => {}
        }
        taken
    }

    fn admit(&mut self, message: &[u8], endpoint: Endpoint, now: u64) -> Result<(), Rejected> {
        let letter = Letter::Message(Written::new(message), endpoint);
        let loaded = now < self.busy_until;
        if !self.good {
            return Err(Rejected::Overload);
        }
        match Message::parse(message) {
            Ok(Message::Initiation(_) | Message::Response(_)) => {
                if self.gate.is_stale(now) {
                    let mut bytes = Zeroizing::new([0; 32]);
                    if (self.entropy)(&mut *bytes) {
                        self.gate.renew(now, Secret::new(*bytes));
                    }
                }
                match self.gate.check(message, endpoint.remote) {
                    Pass::No => Err(Rejected::Forged),
                    Pass::Known if loaded => self.reply_with_cookie(message, endpoint),
                    Pass::Reachable if loaded && !self.sources.take(endpoint.remote.ip(), now) => {
                        Err(Rejected::Overload)
                    }
                    Pass::Known | Pass::Reachable => self.queue(letter, now),
                }
            }
            // It has no code of its own: only what answers us is looked at.
            Ok(Message::CookieReply(reply)) if self.awaits(word(reply, 4)) => self.queue(letter, now),
            Ok(Message::CookieReply(_)) => Err(Rejected::Forged),
            Ok(Message::Data { .. }) | Err(_) => Err(Rejected::Forged),
        }
    }

    /// Whether a handshake message of ours had this index; of another worker's peers: whether there is such a peer.
    fn awaits(&self, index: u32) -> bool {
        let slot = self.book.indices().find(index).0;
        let Some(record) = self.peers.record(&self.book, slot) else { return false };
        !self.owns(slot)
            || self.trying.get(&slot).is_some_and(|trying| trying.index == index)
            || record.by_index(index).is_some()
    }

    /// Notes that a handshake is computed: none is, for a while; and many of them are too much to do.
    fn compute(&mut self, now: u64) {
        self.rested = now + PACE;
        if now.saturating_sub(self.computed.1) >= BUSY_FOR {
            self.computed = (0, now);
        }
        self.computed.0 += 1;
        if self.computed.0 > MANY {
            self.busy_until = now + BUSY_FOR;
        }
    }

    /// Takes what another worker has forwarded.
    pub fn put(&mut self, letter: Letter, now: u64) {
        if self.queue(letter, now).is_err() {
            self.book.count(Count::Overload);
        }
    }

    fn queue(&mut self, letter: Letter, now: u64) -> Result<(), Rejected> {
        if self.inbox.len() >= INBOX {
            return Err(Rejected::Overload);
        }
        self.inbox.push_back(letter);
        if self.inbox.len() > BUSY {
            self.busy_until = now + BUSY_FOR;
        }
        Ok(())
    }

    fn reply_with_cookie(&mut self, message: &[u8], endpoint: Endpoint) -> Result<(), Rejected> {
        let mut nonce = [0; 24];
        if self.outbox.len() >= OUTBOX || !(self.entropy)(&mut nonce) {
            return Err(Rejected::Overload);
        }
        let reply = self.gate.reply(message, endpoint.remote, &nonce);
        self.book.count(Count::Cookies);
        self.outbox.push_back(Action::Send(Written::new(&reply), endpoint));
        Ok(())
    }

    /// Packets wait for a session with the peer in this slot: one is made, if none is on its way.
    /// False: that could not be begun now.
    pub fn want(&mut self, slot: u32, now: u64, unix: u64) -> bool {
        self.trying.contains_key(&slot) || self.initiate(slot, now, unix)
    }

    /// Whether a handshake may be computed now.
    pub fn is_rested(&self, now: u64) -> bool {
        now >= self.rested
    }

    /// Whether a message waits to be read, or to be sent, or a handshake to be begun. (What else timers ask for, [`Desk::poll`] finds out.)
    pub fn is_pressed(&self) -> bool {
        !self.inbox.is_empty() || !self.outbox.is_empty() || !self.looks.due.is_empty()
    }

    /// What is to be done next, if anything. `unix`: nanoseconds since 1970. Called until there is nothing.
    pub fn poll(&mut self, now: u64, unix: u64) -> Option<Action> {
        loop {
            if let Some(action) = self.outbox.pop_front() {
                return Some(action);
            }
            let turn = self.is_rested(now) && (self.inbox.is_empty() || !self.looks.had_turn);
            if turn && self.begin_due(now, unix) {
                continue;
            }
            if self.is_rested(now)
                && let Some(letter) = self.inbox.pop_front()
            {
                self.looks.had_turn = false;
                if let Some(action) = self.read(letter, now, unix) {
                    return Some(action);
                }
            } else if !self.look(now) {
                return None;
            }
        }
    }
}

mod handshake;
mod looks;
#[cfg(test)]
mod tests;
