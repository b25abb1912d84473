//! Who the backends of a `balance` stage are and how they do, in shared memory.
//!
//! Owns two tables. The *roll* is the worker's: a place for each backend that it has, or that flows still go to, with all
//! that is needed to reach it, so that a backend which left the configuration keeps its flows, and a place means the same
//! after a reload or a crash. The *states* are control's: whether a backend is up, or drained by hand. Each word has one
//! writer, so nothing is locked. Refuses: more than [`MAX_BACKENDS`] of either. Keeps true: a place names one backend as
//! long as its words have that backend's identity, and whoever keeps a place keeps 48 bits of identity beside it
//! ([`Ticket`]); so a place that was given away is recognised.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use zsync_packet::region::Region;

use crate::spec::balance::MAX_BACKENDS;

/// Words of a place of the roll.
const PLACE: usize = 8;
/// Words of a state.
const STATE: usize = 2;
/// Twice as many as a configuration has: those that left keep theirs while flows go to them.
pub(crate) const PLACES: usize = 2 * MAX_BACKENDS;

const HAS_PORT: u64 = 1 << 16;
const IS_V4: u64 = 1 << 17;

/// A backend and its place, in one word: what a flow remembers. 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub u64);

impl Ticket {
    /// The backend with this identity, in this place.
    #[inline]
    pub fn new(identity: u64, place: u16) -> Self {
        Self(identity & !0xffff | u64::from(place))
    }

    /// Its place.
    #[inline]
    pub fn place(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// Whether it is this backend, wherever.
    #[inline]
    pub fn is(self, identity: u64) -> bool {
        (self.0 ^ identity) >> 16 == 0
    }
}

/// A backend of the roll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Who it is, of [`Backend::identity`](crate::spec::balance::Backend::identity).
    pub identity: u64,
    /// Its address.
    pub address: IpAddr,
    /// The port that it serves at, where that is another than the client's packets go to.
    pub port: Option<u16>,
}

/// The roll of a worker. See the module.
#[derive(Clone, Debug)]
pub struct Roll(Region);

impl Roll {
    /// Bytes that it takes.
    pub const fn bytes() -> usize {
        PLACES * PLACE * 8
    }

    /// The roll in this memory, which is zeroed or was a roll before; `None` when it is too short.
    pub fn open(region: Region) -> Option<Self> {
        region.u64s(0, PLACES * PLACE)?;
        Some(Self(region))
    }

    /// Every backend of the roll and its place.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Enrolled)> {
        (0..PLACES).filter_map(|place| Some((place as u16, self.at(place)?)))
    }

    /// The backend in a place.
    pub fn at(&self, place: usize) -> Option<Enrolled> {
        let [identity, hi, lo, port, ..] = self.words(place)?;
        let identity = identity.load(Acquire);
        let (hi, lo, port) = (hi.load(Relaxed), lo.load(Relaxed), port.load(Relaxed));
        let address = Ipv6Addr::from_bits(u128::from(hi) << 64 | u128::from(lo));
        let address = match address.to_ipv4_mapped() {
            Some(v4) if port & IS_V4 != 0 => v4.into(),
            _ => address.into(),
        };
        let port = (port & HAS_PORT != 0).then_some(port as u16);
        (identity != 0).then_some(Enrolled { identity, address, port })
    }

    /// Flows that go to the backend in a place, as last counted.
    pub fn flows(&self, place: usize) -> u64 {
        self.words(place).map_or(0, |words| words[4].load(Relaxed))
    }

    /// Sets [`Self::flows`].
    pub fn set_flows(&self, place: usize, flows: u64) {
        if let Some(words) = self.words(place) {
            words[4].store(flows, Relaxed);
        }
    }

    /// The place of a backend: the one that it has, else a free one, else that of somebody who is not `wanted` and has no
    /// flows. `None`: there is none of these.
    pub fn enrol(&self, backend: &Enrolled, wanted: impl Fn(u64) -> bool) -> Option<u16> {
        let (mut free, mut idle) = (None, None);
        for place in 0..PLACES {
            match self.identity(place) {
                identity if identity == backend.identity => return Some(place as u16),
                0 if free.is_none() => free = Some(place),
                0 => {}
                identity if idle.is_none() && self.flows(place) == 0 && !wanted(identity) => {
                    idle = Some(place)
                }
                _ => {}
            }
        }
        let place = free.or(idle)?;
        let [identity, hi, lo, port, flows, ..] = self.words(place)?;
        // Nobody's while it is written; who is killed here leaves a free place.
        identity.store(0, Release);
        let (address, family) = match backend.address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped().to_bits(), IS_V4),
            IpAddr::V6(v6) => (v6.to_bits(), 0),
        };
        hi.store((address >> 64) as u64, Release);
        lo.store(address as u64, Release);
        port.store(family | backend.port.map_or(0, |port| HAS_PORT | u64::from(port)), Release);
        flows.store(0, Release);
        identity.store(backend.identity, Release);
        Some(place as u16)
    }

    fn identity(&self, place: usize) -> u64 {
        self.words(place).map_or(0, |words| words[0].load(Relaxed))
    }

    fn words(&self, place: usize) -> Option<&[AtomicU64; PLACE]> {
        if place >= PLACES {
            return None;
        }
        self.0.u64s(place * PLACE * 8, PLACE)?.first_chunk()
    }
}

/// How a backend does, as control sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// Its checks fail.
    pub down: bool,
    /// The operator takes new flows from it.
    pub drained: bool,
}

impl State {
    fn word(self) -> u64 {
        u64::from(self.down) | u64::from(self.drained) << 1
    }

    fn of(word: u64) -> Self {
        Self { down: word & 1 != 0, drained: word & 2 != 0 }
    }
}

/// The states. See the module.
#[derive(Clone, Debug)]
pub struct States(Region);

impl States {
    /// Bytes that they take.
    pub const fn bytes() -> usize {
        8 + PLACES * STATE * 8
    }

    /// The states in this memory, which is zeroed or had states before; `None` when it is too short.
    pub fn open(region: Region) -> Option<Self> {
        region.u64s(0, 1 + PLACES * STATE)?;
        Some(Self(region))
    }

    /// A number that changes with every change.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.0.u64s(0, 1).and_then(<[_]>::first).map_or(0, |changes| changes.load(Acquire))
    }

    /// How a backend does; as nobody said otherwise, it is up.
    pub fn of(&self, identity: u64) -> State {
        for [who, state] in self.places(identity) {
            match who.load(Acquire) {
                who if who == identity => return State::of(state.load(Relaxed)),
                0 => break,
                _ => {}
            }
        }
        State::default()
    }

    /// Says how a backend does. False when there is no room; `wanted` says whose state is still asked for.
    pub fn set(&self, identity: u64, state: State, wanted: impl Fn(u64) -> bool) -> bool {
        let mut found = None;
        for place in self.places(identity) {
            let who = place[0].load(Relaxed);
            if who == identity {
                found = Some(place);
                break;
            }
            if found.is_none() && (who == 0 || !wanted(who)) {
                found = Some(place);
            }
            if who == 0 {
                break;
            }
        }
        let Some([who, word]) = found else { return false };
        if who.load(Relaxed) != identity {
            // Nobody's state while it is written.
            who.store(u64::MAX, Relaxed);
            word.store(state.word(), Release);
            who.store(identity, Release);
        } else if word.load(Relaxed) == state.word() {
            return true;
        } else {
            word.store(state.word(), Relaxed);
        }
        if let Some(changes) = self.0.u64s(0, 1).and_then(<[_]>::first) {
            changes.store(changes.load(Relaxed).wrapping_add(1), Release);
        }
        true
    }

    fn places(&self, identity: u64) -> impl Iterator<Item = &[AtomicU64; STATE]> {
        let places = self.0.u64s(8, PLACES * STATE).unwrap_or_default().as_chunks().0;
        probe(identity).filter_map(|place| places.get(place))
    }
}

/// Every place, in the order in which a backend looks for its own. A place in use is never free again, so who comes to a
/// free one has passed all that could be its own. (A writer that was killed may leave one free; then a backend has a
/// second place behind it, which the flows that remember it go on to use.)
fn probe(identity: u64) -> impl Iterator<Item = usize> {
    let home = (identity >> 32) as usize % PLACES;
    (home..PLACES).chain(0..home)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(number: u64) -> Enrolled {
        let last = number as u8;
        let v4 = number.is_multiple_of(2);
        let address = if v4 { IpAddr::from([10, 0, 0, last]) } else { "2001:db8::1".parse().unwrap() };
        let identity = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Enrolled { identity, address, port: number.is_multiple_of(3).then_some(8443) }
    }

    #[test]
    fn a_place_is_kept_whatever_comes_and_goes() {
        let region = Region::heap(Roll::bytes());
        let roll = Roll::open(region.clone()).unwrap();
        let places: Vec<_> = (1..=6).map(|n| roll.enrol(&backend(n), |_| true).unwrap()).collect();
        let again = Roll::open(region).unwrap();
        for (n, place) in (1..=6).zip(&places) {
            assert_eq!(again.at(usize::from(*place)), Some(backend(n)));
            assert_eq!(again.enrol(&backend(n), |_| false), Some(*place));
            assert!(Ticket::new(backend(n).identity, *place).is(backend(n).identity));
            assert_eq!(Ticket::new(backend(n).identity, *place).place(), usize::from(*place));
        }
        assert_eq!(again.iter().count(), 6);
        assert!(!Ticket::new(backend(1).identity, 0).is(backend(2).identity));
    }

    #[test]
    fn a_full_roll_gives_away_the_places_of_those_who_left_and_have_no_flows() {
        let roll = Roll::open(Region::heap(Roll::bytes())).unwrap();
        for n in 1..=PLACES as u64 {
            roll.enrol(&backend(n), |_| true).unwrap();
        }
        let new = backend(70_000);
        assert_eq!(roll.enrol(&new, |_| true), None, "all are wanted");
        let place = |n| (0..PLACES).find(|&place| roll.at(place) == Some(backend(n))).unwrap();
        let (busy, left) = (place(7), place(8));
        roll.set_flows(busy, 1);
        let wanted = |identity| ![backend(7).identity, backend(8).identity].contains(&identity);
        assert_eq!(roll.enrol(&new, wanted), Some(left as u16));
        assert_eq!((roll.at(left), roll.flows(left), roll.flows(busy)), (Some(new), 0, 1));
        assert_eq!(roll.enrol(&backend(8), wanted), None, "who has flows keeps the place");
    }

    #[test]
    fn states_are_as_said_and_up_until_then() {
        let states = States::open(Region::heap(States::bytes())).unwrap();
        assert_eq!((states.of(7), states.changes()), (State::default(), 0));
        let down = State { down: true, drained: false };
        assert!(states.set(7, down, |_| true));
        assert!(states.set(8, State { drained: true, ..down }, |_| true));
        let changes = states.changes();
        assert!(states.set(7, down, |_| true), "nothing new");
        assert_eq!((states.of(7), states.of(8).drained, states.changes()), (down, true, changes));
        (100..100 + PLACES as u64 - 2).for_each(|n| assert!(states.set(n, down, |_| true)));
        assert!(!states.set(1 << 40, down, |_| true));
        assert!(states.set(1 << 40, down, |who| who != 8));
        assert_eq!((states.of(8), states.of(1 << 40), states.of(7)), (State::default(), down, down));
    }

    #[test]
    fn too_little_memory_is_refused() {
        assert!(Roll::open(Region::heap(Roll::bytes()).part(0..Roll::bytes() - 1).unwrap()).is_none());
        assert!(States::open(Region::heap(States::bytes()).part(0..States::bytes() - 1).unwrap()).is_none());
    }
}
