//! Handshakes of a desk: initiations that it sends, opens and answers, responses and cookies that it takes.
//!
//! Keeps true: every message that is computed counts towards the desk's pace, and each that is refused has its reason counted.

use super::*;

impl Desk {
    /// Sends an initiation, unless the last one was just now, or nobody knows where the peer is. Whether it did.
    pub(super) fn initiate(&mut self, slot: u32, now: u64, unix: u64) -> bool {
        let Some(peer) = self.peers.peer(slot) else { return false };
        let Some(record) = self.peers.record(&self.book, slot) else { return false };
        let Some(endpoint) = self.may_begin(slot, now) else { return false };
        let again = self.trying.contains_key(&slot);
        // Where our own address has gone, a peer that does not answer is asked from another.
        let endpoint = if again { Endpoint::unheard(endpoint.remote) } else { endpoint };
        let mut entropy = Zeroizing::new([0; 32]);
        if now < self.rested || self.outbox.len() >= OUTBOX || !(self.entropy)(&mut *entropy) {
            return false;
        }
        // A clock that was put back does not make ours look old to the peer; and nobody is shown it exactly.
        let ours = (unix & !(STAMP_STEP - 1)).max(record.fact(Fact::OurStamp).saturating_add(STAMP_STEP));
        record.set(Fact::OurStamp, ours);
        let index = self.book.indices().hide(slot, record.next_generation() % GENERATIONS);
        let made =
            self.identity.begin(&peer.public, &peer.preshared, index, &stamp(ours), Secret::new(*entropy));
        self.rested = now + PACE;
        record.set(Fact::Initiated, now);
        if !again || record.fact(Fact::InitiatedFirst) == 0 {
            record.set(Fact::InitiatedFirst, now);
        }
        let Ok((begun, mut message)) = made else {
            self.book.count(Count::NotAuthentic);
            return false;
        };
        self.jars.entry(slot).or_insert_with(|| Jar::new(&peer.public)).sign(&mut message, now);
        timers::sent(&record, false, message.len() as u64, now);
        self.trying.insert(slot, Trying { begun, index });
        self.book.count(Count::Initiated);
        self.outbox.push_back(Action::Send(Written::new(&message), endpoint));
        true
    }

    /// Where the peer of this slot is, if a handshake with it may be begun: if it is somewhere, and the last one was not begun just now.
    pub(super) fn may_begin(&self, slot: u32, now: u64) -> Option<Endpoint> {
        let record = self.peers.record(&self.book, slot)?;
        let last = record.fact(Fact::Initiated);
        if last != 0 && now.saturating_sub(last) < REKEY_TIMEOUT {
            return None;
        }
        record.endpoint().or_else(|| self.peers.peer(slot)?.endpoint.map(Endpoint::unheard))
    }

    /// Does what a letter asks for.
    pub(super) fn read(&mut self, letter: Letter, now: u64, unix: u64) -> Option<Action> {
        match letter {
            Letter::Received(received, endpoint) => self.answer(*received, endpoint, now),
            Letter::Message(written, endpoint) => match Message::parse(written.bytes()) {
                Ok(Message::Initiation(message)) => self.open(message, endpoint, now),
                Ok(Message::Response(message)) => {
                    let slot = self.book.indices().find(word(message, 8)).0;
                    if !self.owns(slot) {
                        return self.forward(slot, Letter::Message(written, endpoint));
                    }
                    self.finish(slot, message, endpoint, now, unix)
                }
                Ok(Message::CookieReply(message)) => {
                    let slot = self.book.indices().find(word(message, 4)).0;
                    if !self.owns(slot) {
                        return self.forward(slot, Letter::Message(written, endpoint));
                    }
                    self.keep_cookie(slot, message, now);
                    None
                }
                Ok(Message::Data { .. }) | Err(_) => None,
            },
        }
    }

    pub(super) fn forward(&self, slot: u32, letter: Letter) -> Option<Action> {
        Some(Action::Forward(slot as usize % self.workers, letter))
    }

    /// Opens an initiation.
    fn open(&mut self, message: &[u8; INITIATION_LEN], endpoint: Endpoint, now: u64) -> Option<Action> {
        let mut entropy = Zeroizing::new([0; 32]);
        if !(self.entropy)(&mut *entropy) {
            self.book.count(Count::Overload);
            return None;
        }
        self.compute(now);
        let Ok(received) = self.identity.receive(message, Secret::new(*entropy)) else {
            self.book.count(Count::NotAuthentic);
            return None;
        };
        let Some(slot) = self.peers.slot(&received.peer) else {
            self.book.count(Count::Unknown);
            return None;
        };
        if self.owns(slot) {
            self.answer(received, endpoint, now)
        } else {
            self.forward(slot, Letter::Received(Box::new(received), endpoint))
        }
    }

    /// Answers an initiation of one of our peers.
    fn answer(&mut self, received: Received, endpoint: Endpoint, now: u64) -> Option<Action> {
        let (peer, record, slot) = self
            .peers
            .slot(&received.peer)
            .and_then(|slot| Some((self.peers.peer(slot)?, self.peers.record(&self.book, slot)?, slot)))?;
        let last = record.fact(Fact::WasInitiated);
        if received.stamp <= record.stamp() || (last != 0 && now.saturating_sub(last) < APART) {
            self.book.count(Count::Replayed);
            return None;
        }
        record.set_stamp(&received.stamp);
        record.set(Fact::WasInitiated, now);
        self.rested = now + PACE;
        let index = self.book.indices().hide(slot, record.next_generation() % GENERATIONS);
        let remote = received.index;
        let Ok((keys, mut message)) = received.respond(&peer.preshared, index) else {
            self.book.count(Count::NotAuthentic);
            return None;
        };
        self.jars.entry(slot).or_insert_with(|| Jar::new(&peer.public)).sign(&mut message, now);
        record.install(&keys, index, remote, false, now);
        record.set_endpoint(endpoint);
        timers::came(&record, false, INITIATION_LEN as u64, now);
        timers::sent(&record, false, message.len() as u64, now);
        Some(Action::Send(Written::new(&message), endpoint))
    }

    /// Ends a handshake of ours.
    fn finish(
        &mut self,
        slot: u32,
        message: &[u8; RESPONSE_LEN],
        endpoint: Endpoint,
        now: u64,
        unix: u64,
    ) -> Option<Action> {
        let index = word(message, 8);
        let trying = self.trying.get_mut(&slot).filter(|trying| trying.index == index);
        let (Some(trying), Some(record)) = (trying, self.peers.record(&self.book, slot)) else {
            self.book.count(Count::Unknown);
            return None;
        };
        self.rested = now + PACE;
        let Ok(keys) = trying.begun.finish(message) else {
            self.book.count(Count::NotAuthentic);
            return None;
        };
        self.trying.remove(&slot);
        record.install(&keys, index, word(message, 4), true, now);
        record.set_endpoint(endpoint);
        timers::came(&record, false, RESPONSE_LEN as u64, now);
        self.note_done(slot, unix);
        Some(Action::Ready { slot, ours: true })
    }

    /// The peer in `slot` has used the session that it began: what waits for a session may go.
    pub fn confirmed(&mut self, slot: u32, unix: u64) {
        self.trying.remove(&slot);
        self.note_done(slot, unix);
        if self.outbox.len() < OUTBOX {
            self.outbox.push_back(Action::Ready { slot, ours: false });
        }
    }

    fn note_done(&mut self, slot: u32, unix: u64) {
        self.book.count(Count::Done);
        if let Some(record) = self.peers.record(&self.book, slot) {
            record.set(Fact::Handshake, unix);
            record.set(Fact::InitiatedFirst, 0);
        }
    }

    fn keep_cookie(&mut self, slot: u32, message: &[u8; COOKIE_REPLY_LEN], now: u64) {
        let ours = self.trying.get(&slot).is_some_and(|trying| trying.index == word(message, 4));
        let answered = self
            .peers
            .record(&self.book, slot)
            .is_some_and(|record| record.by_index(word(message, 4)).is_some());
        if !ours && !answered {
            self.book.count(Count::Unknown);
            return;
        }
        if !self.jars.get_mut(&slot).is_some_and(|jar| jar.take(message, now)) {
            self.book.count(Count::NotAuthentic);
        }
    }
}
