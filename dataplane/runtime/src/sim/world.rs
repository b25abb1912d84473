//! Time, chance, and what is about to happen.
//!
//! Keeps true: things happen in the order of their times, and those of one time in the order in which they were planned.

use super::disk::Disk;
use super::net::{Arrival, Effects, Net};
use super::{Faults, Reply, Request, Sim, SimDescriptor};
use crate::calls::Half;
use crate::driver::{Flight, Source, Wait};
use crate::flights::{Flights, Landed};
use crate::task::Tasks;
use crate::time::Instant;
use rustix::io::Errno;
use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// Between an operation's decision and its landing, at most.
const LANDING: u64 = 20_000;
/// What a datagram, or bytes, are under way at least.
const HOP: u64 = 5_000;
/// What a pass takes.
const PASS: Duration = Duration::from_micros(1);

/// All that there is.
pub(super) struct World {
    flights: RefCell<Flights<Sim>>,
    state: RefCell<State>,
    me: Weak<World>,
}

/// What is about to happen.
enum Event {
    Lands(u32, Reply),
    Arrives(Arrival),
}

pub(super) struct State {
    now: Instant,
    random: u64,
    planned: u64,
    events: BTreeMap<(Instant, u64), Event>,
    faults: Faults,
    net: Net,
    pub(super) disk: Disk,
}

impl World {
    pub(super) fn new(seed: u64) -> Rc<Self> {
        let state = State {
            now: Instant::from_nanos(1_000_000_000),
            random: seed,
            planned: 0,
            events: BTreeMap::new(),
            faults: Faults::default(),
            net: Net::default(),
            disk: Disk::default(),
        };
        Rc::new_cyclic(|me| Self {
            flights: RefCell::new(Flights::new()),
            state: RefCell::new(state),
            me: me.clone(),
        })
    }

    pub(super) fn flights(&self) -> RefMut<'_, Flights<Sim>> {
        self.flights.borrow_mut()
    }

    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// Goes on to the next thing that happens, `wait` at most, and lets it happen.
    ///
    /// # Panics
    /// When it may wait for good, and nothing will ever happen.
    pub(super) fn advance(&self, tasks: &Tasks, wait: Wait) {
        {
            let mut state = self.state();
            let next = state.events.first_key_value().map(|((at, _), _)| *at);
            let until = match (wait, next) {
                (Wait::No, _) => state.now + PASS,
                (Wait::Until(Instant::NEVER), None) => {
                    panic!("{} tasks wait for what will never happen", tasks.alive())
                }
                (Wait::Until(until), next) => until.min(next.unwrap_or(until)),
            };
            state.now = state.now.max(until);
        }
        while self.happen() {}
    }

    /// Goes on to the next thing that happens; false when there is none.
    pub(super) fn go_on(&self) -> bool {
        let next = self.state().events.first_key_value().map(|((at, _), _)| *at);
        if let Some(next) = next {
            let mut state = self.state();
            state.now = state.now.max(next);
        }
        self.happen()
    }

    /// Lets one thing happen whose time has come, if there is one.
    fn happen(&self) -> bool {
        let mut state = self.state();
        let now = state.now;
        let Some(first) = state.events.first_entry().filter(|first| first.key().0 <= now) else {
            return false;
        };
        match first.remove() {
            Event::Arrives(arrival) => {
                let effects = state.net.arrive(arrival);
                state.take(effects);
            }
            Event::Lands(number, reply) => {
                drop(state);
                self.land(number, reply);
            }
        }
        true
    }

    fn land(&self, number: u32, reply: Reply) {
        let world = self.me.upgrade();
        let landed = self.flights().land(number, |flight| {
            flight.result = match reply {
                Reply::Done(length) => Ok(length),
                Reply::Failed(error) => Err(error),
                Reply::Bytes(bytes) => Ok(fill(flight, &bytes)),
                Reply::Datagram(from, details, bytes) => {
                    (flight.address, flight.details) = (Some(from), details);
                    Ok(fill(flight, &bytes))
                }
                Reply::Accepted(number, from) => {
                    flight.accepted = world.map(|world| SimDescriptor { world, number });
                    flight.address = Some(from);
                    Ok(0)
                }
            };
        });
        self.done(landed);
    }

    pub(super) fn done(&self, landed: Landed<Sim>) {
        if let Some(source) = landed.done() {
            self.call_back(&source);
        }
    }

    pub(super) fn call_back(&self, source: &Rc<Source<Sim>>) {
        let taker = self.flights().taker(source);
        if let Some(taker) = taker {
            self.state().cancel(taker);
        }
    }
}

/// As many bytes as there is room for.
fn fill(flight: &mut Flight<Sim>, bytes: &[u8]) -> usize {
    let mut rest = bytes;
    for buffer in std::iter::once(&mut flight.buffer).chain(&mut flight.buffers) {
        buffer.clear();
        let part = rest.split_off(..rest.len().min(buffer.capacity())).unwrap_or(&[]);
        buffer.extend_from_slice(part);
    }
    bytes.len() - rest.len()
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("flights", &self.flights).finish_non_exhaustive()
    }
}

impl State {
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// A number below this one, which is not 0. (SplitMix64.)
    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.random;
        number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (number ^ number >> 31) % end
    }

    fn plan(&mut self, at: Instant, event: Event) {
        self.planned += 1;
        self.events.insert((at, self.planned), event);
    }

    fn land_soon(&mut self, number: u32, reply: Reply) {
        let at = self.now + Duration::from_nanos(self.below(LANDING));
        self.plan(at, Event::Lands(number, reply));
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
        if !faults.partition {
            let blocked = self.net.unblock();
            self.send_all(blocked);
        }
    }

    /// Sockets and files that are open.
    pub(super) fn open(&self) -> usize {
        self.net.open() + self.disk.open_files()
    }

    pub(super) fn close(&mut self, number: u32) {
        if number % 2 == 1 {
            return self.disk.close(number);
        }
        let effects = self.net.close(number);
        self.take(effects);
    }

    pub(super) fn net(&mut self) -> &mut Net {
        &mut self.net
    }

    pub(super) fn shut_down(&mut self, socket: u32, half: Half) -> Result<(), Errno> {
        let effects = self.net.shut_down(socket, half)?;
        self.take(effects);
        Ok(())
    }

    /// Decides what becomes of a request, or lets it wait at its socket.
    pub(super) fn begin(&mut self, flight: u32, on: u32, request: Request) {
        if on % 2 == 1 {
            let reply = self.disk.answer(on, &request);
            return self.land_soon(flight, reply);
        }
        let effects = self.net.request(on, flight, request);
        self.take(effects);
    }

    pub(super) fn cancel(&mut self, flight: u32) {
        if self.net.cancel(flight) {
            self.land_soon(flight, Reply::Failed(Errno::CANCELED));
        }
    }

    fn take(&mut self, effects: Effects) {
        for (flight, reply) in effects.answers {
            self.land_soon(flight, reply);
        }
        self.send_all(effects.sent);
    }

    /// Sends things on their way, as the faults have it.
    fn send_all(&mut self, sent: Vec<Arrival>) {
        let jitter = u64::try_from(self.faults.jitter.as_nanos()).unwrap_or(u64::MAX - 1) + 1;
        for arrival in sent {
            let at = self.now + Duration::from_nanos(HOP + self.below(jitter));
            if let Arrival::Datagram { .. } = arrival {
                if self.faults.partition || self.below(1_000_000) < u64::from(self.faults.loss) {
                    continue;
                }
                if self.below(1_000_000) < u64::from(self.faults.duplication) {
                    let again = at + Duration::from_nanos(self.below(jitter));
                    self.plan(again, Event::Arrives(arrival.clone()));
                }
                self.plan(at, Event::Arrives(arrival));
            } else if self.faults.partition && !self.net.is_local(&arrival) {
                self.net.block(arrival);
            } else {
                let at = self.net.in_order(&arrival, at);
                self.plan(at, Event::Arrives(arrival));
            }
        }
    }
}
