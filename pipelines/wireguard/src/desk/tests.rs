use super::*;
use crate::book::{Count, Peer};
use crate::key::PublicKey;
use crate::record::Role;
use crate::transport::{Receiving, Refused, sending};
use std::net::SocketAddr;
use zsync_packet::region::Region;

const SECOND: u64 = 1_000_000_000;
/// Nanoseconds since 1970 when the virtual clock says 0.
const EPOCH: u64 = 1_700_000_000 * SECOND;

/// One end: a desk, and what it works on.
struct End {
    private: Secret,
    at: SocketAddr,
    region: Region,
    slots: u32,
    peers: Vec<Peer>,
    desk: Desk,
    seed: u8,
}

fn entropy(seed: u8) -> Entropy {
    let mut state = u64::from(seed) << 32 | 0x9e37;
    Box::new(move |bytes| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
        true
    })
}

fn private(seed: u8) -> Secret {
    Secret::new([seed; 32])
}

fn address(seed: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, seed], 51820))
}

fn peer(seed: u8) -> Peer {
    Peer {
        public: private(seed).public(),
        preshared: Secret::new([7; 32]),
        endpoint: Some(address(seed)),
        keepalive: 0,
    }
}

impl End {
    fn new(seed: u8, peers: Vec<Peer>, now: u64) -> Self {
        Self::of_many(seed, peers, 4, now)
    }

    /// With room for so many peers.
    fn of_many(seed: u8, peers: Vec<Peer>, slots: u32, now: u64) -> Self {
        let region = Region::heap(Book::bytes(slots));
        let desk = Self::desk(seed, &region, slots, &peers, now);
        Self { private: private(seed), at: address(seed), region, slots, peers, desk, seed }
    }

    fn desk(seed: u8, region: &Region, slots: u32, peers: &[Peer], now: u64) -> Desk {
        let secret = HashKey::from_seed(u64::from(seed));
        let identity = Identity::new(private(seed));
        let book = Book::open(region.clone(), slots, &secret, identity.public()).unwrap();
        let peers = Arc::new(book.enrol(peers.to_vec(), None).unwrap());
        Desk::new(identity, book, peers, (0, 1), &secret, entropy(seed), now)
    }

    /// The process dies, and another takes its place.
    fn restart(&mut self, now: u64) {
        self.desk = Self::desk(self.seed, &self.region, self.slots, &self.peers, now);
    }

    fn slot(&self, of: u8) -> u32 {
        self.desk.peers.slot(&private(of).public()).unwrap()
    }

    fn counted(&self, count: Count) -> u64 {
        self.desk.book.counted(count)
    }

    fn has_session(&self, of: u8, now: u64) -> bool {
        let record = self.desk.peers.record(&self.desk.book, self.slot(of)).unwrap();
        sending(&record, now).is_some()
    }

    fn polled(&mut self, now: u64) -> Vec<Action> {
        std::iter::from_fn(|| self.desk.poll(now, EPOCH + now)).collect()
    }

    fn sent(&mut self, now: u64) -> Vec<Written> {
        let sent = |action| match action {
            Action::Send(written, _) => Some(written),
            _ => None,
        };
        self.polled(now).into_iter().filter_map(sent).collect()
    }

    fn hear(&mut self, written: &Written, from: SocketAddr, now: u64) {
        let _ = self.desk.handle_input(written.bytes(), Endpoint { remote: from, local: self.at.ip() }, now);
    }

    /// Somebody sends a first message in the session that the peer began.
    fn use_next(&mut self, of: u8) {
        let record = self.desk.peers.record(&self.desk.book, self.slot(of)).unwrap();
        let index = record.session(Role::Next).unwrap().index().unwrap();
        let found = Receiving::find(&self.desk.book, &self.desk.peers, index, 0).unwrap();
        assert_eq!(found.take(0), Ok(true));
        assert_eq!(found.take(0), Err(Refused::Replayed));
        self.desk.confirmed(self.slot(of), EPOCH);
    }
}

fn pair() -> (End, End) {
    (End::new(1, vec![peer(2)], 0), End::new(2, vec![peer(1)], 0))
}

/// `a` wants a session with `b`, and gets one.
fn shake(a: &mut End, b: &mut End, now: u64) {
    let slot = a.slot(b.seed);
    a.desk.want(slot, now, EPOCH + now);
    let initiation = a.sent(now).pop().unwrap();
    b.hear(&initiation, a.at, now);
    let response = b.sent(now).pop().unwrap();
    // Each computes one handshake at a time.
    let later = now + PACE;
    a.hear(&response, b.at, later);
    assert!(
        a.polled(later)
            .iter()
            .any(|action| matches!(action, Action::Ready { slot: ready, .. } if *ready == slot))
    );
}

#[test]
fn a_handshake_leads_to_the_same_session_on_both_sides() {
    let (mut a, mut b) = pair();
    shake(&mut a, &mut b, SECOND);
    assert!(
        a.has_session(2, SECOND) && !b.has_session(1, SECOND),
        "the answering side waits for the first message"
    );
    b.use_next(1);
    assert!(b.has_session(1, SECOND));
    assert!(b.polled(SECOND).iter().any(|action| matches!(action, Action::Ready { .. })));
    let (ours, theirs) =
        (a.desk.peers.record(&a.desk.book, 0).unwrap(), b.desk.peers.record(&b.desk.book, 0).unwrap());
    let (ours, theirs) = (ours.session(Role::Current).unwrap(), theirs.session(Role::Current).unwrap());
    assert_eq!((ours.sending(), ours.receiving()), (theirs.receiving(), theirs.sending()));
    assert_eq!((Some(ours.remote()), ours.index()), (theirs.index(), Some(theirs.remote())));
    assert_eq!((a.counted(Count::Done), b.counted(Count::Done)), (1, 1));
}

#[test]
fn both_may_begin_at_once() {
    let (mut a, mut b) = pair();
    a.desk.want(0, SECOND, EPOCH);
    b.desk.want(0, SECOND, EPOCH);
    let (first, second) = (a.sent(SECOND).pop().unwrap(), b.sent(SECOND).pop().unwrap());
    let mut now = SECOND + PACE;
    a.hear(&second, b.at, now);
    b.hear(&first, a.at, now);
    let (to_b, to_a) = (a.sent(now).pop().unwrap(), b.sent(now).pop().unwrap());
    now += PACE;
    a.hear(&to_a, b.at, now);
    b.hear(&to_b, a.at, now);
    a.polled(now);
    b.polled(now);
    assert!(a.has_session(2, now) && b.has_session(1, now));
}

#[test]
fn an_initiation_that_came_before_is_dropped() {
    let (mut a, mut b) = pair();
    a.desk.want(0, SECOND, EPOCH);
    let initiation = a.sent(SECOND).pop().unwrap();
    b.hear(&initiation, a.at, SECOND);
    assert_eq!(b.sent(SECOND).len(), 1);
    b.hear(&initiation, a.at, 2 * SECOND);
    assert_eq!((b.sent(2 * SECOND).len(), b.counted(Count::Replayed)), (0, 1));
    b.restart(3 * SECOND);
    b.hear(&initiation, a.at, 3 * SECOND);
    assert_eq!((b.sent(3 * SECOND).len(), b.counted(Count::Replayed)), (0, 2), "after a crash, too");
}

#[test]
fn a_clock_that_was_put_back_does_not_make_an_initiation_old() {
    let (mut a, mut b) = pair();
    for (n, unix) in [EPOCH, EPOCH - 1000 * SECOND, EPOCH + SECOND].into_iter().enumerate() {
        let now = (n as u64 + 1) * 10 * SECOND;
        a.desk.trying.clear();
        a.desk.want(0, now, unix);
        let initiation = a.sent(now).pop().unwrap();
        b.hear(&initiation, a.at, now);
        assert_eq!(b.sent(now).len(), 1, "{n}");
    }
}

#[test]
fn tries_are_five_seconds_apart_and_end_after_ninety() {
    let (mut a, _) = pair();
    a.desk.want(0, SECOND, EPOCH);
    let (mut sent, mut gave_up) = (Vec::new(), None);
    for tick in 10..1300 {
        let now = tick * SECOND / 10;
        for action in a.polled(now) {
            match action {
                Action::Send(..) => sent.push(now),
                Action::GiveUp(_) => gave_up = Some(now),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!((16..=19).contains(&sent.len()), "{sent:?}");
    assert!(sent.windows(2).all(|pair| (5 * SECOND..6 * SECOND).contains(&(pair[1] - pair[0]))), "{sent:?}");
    assert!((90..98).contains(&(gave_up.unwrap() / SECOND)));
}

#[test]
fn forged_and_foreign_messages_are_counted_and_not_answered() {
    let (mut a, mut b) = pair();
    a.desk.want(0, SECOND, EPOCH);
    let whole = a.sent(SECOND).pop().unwrap();
    let mut spoiled = whole;
    spoiled.bytes[40] ^= 1;
    b.hear(&spoiled, a.at, SECOND);
    assert_eq!(b.counted(Count::Forged), 1);
    // With codes that are right.
    Jar::new(&private(2).public()).sign(&mut spoiled.bytes, SECOND);
    b.hear(&spoiled, a.at, SECOND);
    assert_eq!((b.sent(SECOND).len(), b.counted(Count::NotAuthentic)), (0, 1));
    let mut stranger = End::new(3, vec![peer(2)], 0);
    stranger.desk.want(0, SECOND, EPOCH);
    b.hear(&stranger.sent(SECOND)[0], stranger.at, 2 * SECOND);
    assert_eq!((b.sent(2 * SECOND).len(), b.counted(Count::Unknown)), (0, 1));
    for bytes in [&[][..], &[1; 40], &[4; 32], &[0; 148]] {
        let taken = b.desk.handle_input(bytes, Endpoint { remote: a.at, local: b.at.ip() }, 3 * SECOND);
        assert_eq!(taken, Err(Rejected::Forged));
    }
    assert_eq!((b.sent(3 * SECOND).len(), b.counted(Count::Forged)), (0, 5));
}

#[test]
fn under_load_a_sender_must_show_that_it_is_there() {
    let (mut a, mut b) = pair();
    a.desk.want(0, SECOND, EPOCH);
    let initiation = a.sent(SECOND).pop().unwrap();
    // Messages with a right first code, more than are taken.
    for n in 0..100u8 {
        let mut flood = [n; INITIATION_LEN];
        flood[..4].copy_from_slice(&1u32.to_le_bytes());
        Jar::new(&private(2).public()).sign(&mut flood, SECOND);
        let _ = b.desk.handle_input(&flood, Endpoint { remote: address(200), local: b.at.ip() }, SECOND);
    }
    let answers = b.sent(SECOND);
    assert!(b.desk.inbox.len() <= BUSY + 1 && answers.len() > 50, "{} cookies", answers.len());
    assert!(answers.iter().all(|answer| answer.bytes().len() == COOKIE_REPLY_LEN));
    // Who asks for a session gets a cookie, and comes back with it.
    b.hear(&initiation, a.at, SECOND);
    let cookie = b.sent(SECOND).pop().unwrap();
    a.hear(&cookie, b.at, SECOND + 1);
    a.polled(SECOND + PACE);
    let later = SECOND + 7 * SECOND;
    let again = a.sent(later).pop().unwrap();
    b.desk.busy_until = later + SECOND;
    b.hear(&again, a.at, later);
    // Behind those that came first.
    let mut answers = Vec::new();
    for step in 0..200 {
        answers.extend(b.sent(later + step * PACE));
    }
    assert!(
        answers.iter().any(|answer| answer.bytes().len() == RESPONSE_LEN),
        "{}",
        b.counted(Count::Overload)
    );
}

#[test]
fn one_source_gets_only_so_much_under_load() {
    let (_, mut b) = pair();
    b.desk.busy_until = u64::MAX;
    let mut jar = Jar::new(&private(2).public());
    let endpoint = Endpoint { remote: address(9), local: b.at.ip() };
    let mut message = [1; INITIATION_LEN];
    message[..4].copy_from_slice(&1u32.to_le_bytes());
    jar.sign(&mut message, SECOND);
    b.desk.handle_input(&message, endpoint, SECOND).unwrap();
    let cookie = b.sent(SECOND).pop().unwrap();
    assert!(jar.take(cookie.bytes().try_into().unwrap(), SECOND));
    jar.sign(&mut message, SECOND);
    let taken = (0..50).filter(|_| b.desk.handle_input(&message, endpoint, SECOND).is_ok()).count();
    assert_eq!(taken, 5);
    assert_eq!((b.desk.inbox.len(), b.counted(Count::Overload)), (5, 45));
}

#[test]
fn queues_are_bounded() {
    let (_, mut b) = pair();
    let mut message = [1; INITIATION_LEN];
    message[..4].copy_from_slice(&1u32.to_le_bytes());
    Jar::new(&private(2).public()).sign(&mut message, SECOND);
    for n in 0..10_000u32 {
        let endpoint = Endpoint { remote: (n.to_be_bytes(), 5).into(), local: b.at.ip() };
        let _ = b.desk.handle_input(&message, endpoint, SECOND);
    }
    assert!(b.desk.inbox.len() <= INBOX && b.desk.outbox.len() <= OUTBOX);
    assert!(b.counted(Count::Overload) > 9000);
}

#[test]
fn sessions_outlive_the_process() {
    let (mut a, mut b) = pair();
    shake(&mut a, &mut b, SECOND);
    b.use_next(1);
    let before = {
        let record = b.desk.peers.record(&b.desk.book, 0).unwrap();
        let room = sending(&record, SECOND).unwrap();
        room.take_counters(room.index().unwrap(), 64, 1 << 60).unwrap() + 64
    };
    b.restart(2 * SECOND);
    let record = b.desk.peers.record(&b.desk.book, 0).unwrap();
    let room = sending(&record, 2 * SECOND).unwrap();
    assert!(room.next_counter() > before);
    assert_eq!(record.endpoint().unwrap().remote, a.at);
}

#[test]
fn what_is_for_another_worker_is_forwarded() {
    let peers: Vec<_> = [2, 3, 4].map(peer).into();
    let mut a = End::new(1, peers.clone(), 0);
    let (book, enrolled, secret) = (a.desk.book.clone(), Arc::clone(&a.desk.peers), HashKey::from_seed(1));
    let mut desks: Vec<_> = (0..2)
        .map(|worker| {
            let identity = Identity::new(a.private.clone());
            Desk::new(identity, book.clone(), Arc::clone(&enrolled), (worker, 2), &secret, entropy(5), 0)
        })
        .collect();
    for seed in [2, 3, 4] {
        let slot = a.slot(seed);
        let (owner, other) = (slot as usize % 2, 1 - slot as usize % 2);
        let mut them = End::new(seed, vec![peer(1)], 0);
        let now = u64::from(seed) * SECOND;
        them.desk.want(0, now, EPOCH);
        let initiation = them.sent(now).pop().unwrap();
        let endpoint = Endpoint { remote: them.at, local: a.at.ip() };
        desks[other].handle_input(initiation.bytes(), endpoint, now).unwrap();
        let Some(Action::Forward(to, letter)) = desks[other].poll(now, EPOCH) else {
            panic!("not forwarded")
        };
        assert_eq!(to, owner);
        desks[owner].put(letter, now);
        let Some(Action::Send(response, _)) = desks[owner].poll(now, EPOCH) else { panic!("not answered") };
        them.hear(&response, a.at, now + PACE);
        assert!(them.polled(now + PACE).iter().any(|action| matches!(action, Action::Ready { .. })));
    }
    a.polled(0);
}

#[test]
fn a_peer_that_leaves_is_forgotten() {
    let (mut a, mut b) = pair();
    shake(&mut a, &mut b, SECOND);
    let index =
        a.desk.peers.record(&a.desk.book, 0).unwrap().session(Role::Current).unwrap().index().unwrap();
    let peers = Arc::new(a.desk.book.enrol(Vec::new(), None).unwrap());
    let mut gone = Vec::new();
    let book = a.desk.book.clone();
    a.desk.adopt(&book, &peers, |slot| gone.push(slot));
    assert_eq!(gone, [0]);
    assert!(matches!(Receiving::find(&a.desk.book, &peers, index, SECOND), Err(Refused::Unknown)));
    b.desk.want(0, 10 * SECOND, EPOCH + SECOND);
    let initiation = b.sent(10 * SECOND).pop().unwrap();
    a.hear(&initiation, b.at, 10 * SECOND);
    assert_eq!((a.sent(10 * SECOND).len(), a.counted(Count::Unknown)), (0, 1));
    let _: PublicKey = private(1).public();
}

#[test]
fn a_peer_that_has_moved_is_called_back() {
    let (mut a, mut b) = pair();
    shake(&mut a, &mut b, SECOND);
    fn record(end: &End) -> crate::record::Record<'_> {
        end.desk.peers.record(&end.desk.book, 0).unwrap()
    }
    let elsewhere = Endpoint { remote: "198.51.100.7:999".parse().unwrap(), local: a.at.ip() };
    record(&a).set_endpoint(elsewhere);
    a.polled(2 * SECOND);
    assert_eq!(record(&a).endpoint(), Some(elsewhere), "nobody has called");
    record(&a).call_back();
    assert!(record(&a).is_called_back());
    a.polled(3 * SECOND);
    assert_eq!(record(&a).endpoint(), Some(Endpoint::unheard(address(2))));
    assert!(!record(&a).is_called_back() && a.has_session(2, 3 * SECOND), "its session goes on");
    // Once: it may go elsewhere again.
    record(&a).set_endpoint(elsewhere);
    a.polled(4 * SECOND);
    assert_eq!(record(&a).endpoint(), Some(elsewhere));
    // A call that a process did not heed, the next one does.
    record(&a).call_back();
    a.restart(5 * SECOND);
    a.polled(6 * SECOND);
    assert_eq!(record(&a).endpoint().map(|endpoint| endpoint.remote), Some(address(2)));
}

mod looks;
