//! All of the world: what is asked of it, and what time brings.
//!
//! Keeps true: nothing of the state is borrowed while anybody's code runs, be it woken or dropped.

use super::programs::Programs;
use super::state::{Event, State};
use super::{Reply, Sim, SimDescriptor};
use crate::driver::{Flight, Source, Wait};
use crate::flights::{Flights, Landed};
use crate::task::Tasks;
use crate::time::Instant;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::rc::{Rc, Weak};

/// All that there is.
pub(super) struct World {
    flights: RefCell<Flights<Sim>>,
    state: RefCell<State>,
    pub(super) programs: Programs,
    /// Things that are open, and how many may be.
    descriptors: Cell<(usize, usize)>,
    me: Weak<World>,
}

impl World {
    pub(super) fn new(seed: u64) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            flights: RefCell::new(Flights::new()),
            state: RefCell::new(State::new(seed)),
            programs: Programs::default(),
            descriptors: Cell::new((0, usize::MAX)),
            me: me.clone(),
        })
    }

    pub(super) fn flights(&self) -> RefMut<'_, Flights<Sim>> {
        self.flights.borrow_mut()
    }

    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    pub(super) fn limit_descriptors(&self, most: usize) {
        self.descriptors.set((self.descriptors.get().0, most));
    }

    /// Whether so many things more can be open. EMFILE: they cannot.
    pub(super) fn has_room(&self, more: usize) -> Result<(), Errno> {
        let (open, most) = self.descriptors.get();
        if open.saturating_add(more) <= most { Ok(()) } else { Err(Errno::MFILE) }
    }

    pub(super) fn opened(&self) {
        let (open, most) = self.descriptors.get();
        self.descriptors.set((open + 1, most));
    }

    pub(super) fn close(&self, number: u32) {
        let (open, most) = self.descriptors.get();
        self.descriptors.set((open - 1, most));
        self.state().close(number);
    }

    /// Goes on to the next thing that happens, `wait` at most, and lets it happen.
    ///
    /// # Panics
    /// When it may wait for good, and nothing will ever happen.
    pub(super) fn advance(&self, tasks: &Tasks, wait: Wait) {
        if !self.state().go_on(wait) {
            panic!("{} tasks wait for what will never happen", tasks.alive());
        }
        while self.happen() {}
    }

    /// Goes on to the next thing that happens; false when there is none.
    pub(super) fn go_on(&self) -> bool {
        self.state().go_on(Wait::Until(Instant::NEVER)) && self.happen()
    }

    /// Lets one thing happen whose time has come, if there is one.
    fn happen(&self) -> bool {
        let next = self.state().next();
        match next {
            Some(Event::Arrives(arrival)) => self.state().arrive(arrival),
            Some(Event::Lands(number, reply)) => self.land(number, reply),
            None => return false,
        }
        true
    }

    fn land(&self, number: u32, reply: Reply) {
        let (world, room) = (self.me.clone(), self.has_room(1));
        let landed = self.flights().land(number, |flight| {
            flight.result = match reply {
                Reply::Done(length) => Ok(length),
                Reply::Failed(error) => Err(error),
                Reply::Bytes(bytes) => Ok(fill(flight, &bytes)),
                Reply::Datagram(from, details, bytes) => {
                    (flight.address, flight.details) = (Some(from), details);
                    Ok(fill(flight, &bytes))
                }
                Reply::Message(bytes, passed) => {
                    flight.passed = if flight.operation.takes_passed() { passed } else { Vec::new() };
                    for descriptor in &flight.passed {
                        // As those that the kernel passes: no child has them.
                        let _ = fcntl_setfd(descriptor, FdFlags::CLOEXEC);
                    }
                    Ok(fill(flight, &bytes))
                }
                // It waits on; who waits for it, too, or is asked next finds it.
                Reply::Accepted(child, _) if room.is_err() => {
                    let listener = flight.source.descriptor().number;
                    self.state().put_back(listener, child);
                    room.map(|()| 0)
                }
                Reply::Accepted(number, from) => {
                    self.opened();
                    flight.accepted = Some(SimDescriptor { world, number });
                    flight.address = from;
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
