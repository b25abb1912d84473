//! Operations under way, by number, for the drivers that have any.
//!
//! Keeps true: a flight lands once, and its number is free again only when it was taken, or has landed without an owner.
//! Wakers and flights come out to be woken and dropped by the caller, when nothing is borrowed.

use crate::driver::{Driver, Flight, Source};
use std::fmt;
use std::mem::replace;
use std::rc::Rc;
use std::task::{Poll, Waker};

enum State<D: Driver> {
    Free,
    /// It is under way.
    Flies {
        flight: Box<Flight<D>>,
        waker: Option<Waker>,
    },
    /// It is under way, and nobody waits for it.
    Orphan(Box<Flight<D>>),
    Landed(Box<Flight<D>>),
}

/// See the module.
pub(crate) struct Flights<D: Driver> {
    states: Vec<State<D>>,
    free: Vec<u32>,
    flying: usize,
}

/// What a landing leaves to do.
pub(crate) struct Landed<D: Driver> {
    waker: Option<Waker>,
    orphan: Option<Box<Flight<D>>>,
}

impl<D: Driver> Landed<D> {
    /// Nothing.
    pub(crate) fn nothing() -> Self {
        Self { waker: None, orphan: None }
    }

    /// Wakes who waits, or keeps what an orphan brought: then of this source, whose next one who waits is to be
    /// [called back](Driver::call_back).
    #[must_use = "who waits for what was kept has to be called back"]
    pub(crate) fn done(self) -> Option<Rc<Source<D>>> {
        if let Some(waker) = self.waker {
            waker.wake();
        }
        self.orphan.and_then(|orphan| (*orphan).land_orphan())
    }
}

impl<D: Driver> Flights<D> {
    pub(crate) fn new() -> Self {
        Self { states: Vec::new(), free: Vec::new(), flying: 0 }
    }

    /// How many are under way.
    pub(crate) fn flying(&self) -> usize {
        self.flying
    }

    /// A number for a flight.
    pub(crate) fn put(&mut self, flight: Box<Flight<D>>) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.states.push(State::Free);
            (self.states.len() - 1) as u32
        });
        self.states[number as usize] = State::Flies { flight, waker: None };
        self.flying += 1;
        number
    }

    /// One that is under way, whoever waits for it.
    pub(crate) fn flight(&mut self, number: u32) -> Option<&mut Flight<D>> {
        match self.states.get_mut(number as usize)? {
            State::Flies { flight, .. } | State::Orphan(flight) => Some(flight),
            State::Free | State::Landed(_) => None,
        }
    }

    /// One that would take something from this source, and whose owner waits.
    pub(crate) fn taker(&self, source: &Rc<Source<D>>) -> Option<u32> {
        let takes = |flight: &Flight<D>| flight.operation.takes() && Rc::ptr_eq(&flight.source, source);
        let is_it = |state: &State<D>| matches!(state, State::Flies { flight, .. } if takes(flight));
        self.states.iter().position(is_it).map(|number| number as u32)
    }

    /// One that never left.
    pub(crate) fn take_back(&mut self, number: u32) -> Box<Flight<D>> {
        self.flying -= 1;
        match self.release(number) {
            State::Flies { flight, .. } => flight,
            _ => unreachable!("it was just put"),
        }
    }

    fn release(&mut self, number: u32) -> State<D> {
        self.free.push(number);
        replace(&mut self.states[number as usize], State::Free)
    }

    /// It has landed; `settle` writes what became of it. One that is not under way is nobody's.
    pub(crate) fn land(&mut self, number: u32, settle: impl FnOnce(&mut Flight<D>)) -> Landed<D> {
        let Some(state) = self.states.get_mut(number as usize) else { return Landed::nothing() };
        match replace(state, State::Free) {
            State::Flies { mut flight, waker } => {
                settle(&mut flight);
                *state = State::Landed(flight);
                self.flying -= 1;
                Landed { waker, orphan: None }
            }
            State::Orphan(mut flight) => {
                settle(&mut flight);
                self.flying -= 1;
                self.free.push(number);
                Landed { waker: None, orphan: Some(flight) }
            }
            other => {
                *state = other;
                Landed::nothing()
            }
        }
    }

    /// The flight, if it has landed; else it waits with this waker, and an old one comes back.
    pub(crate) fn poll(&mut self, number: u32, waker: &Waker) -> (Poll<Box<Flight<D>>>, Option<Waker>) {
        match &mut self.states[number as usize] {
            State::Flies { waker: known, .. } => {
                let same = known.as_ref().is_some_and(|known| known.will_wake(waker));
                (Poll::Pending, if same { None } else { known.replace(waker.clone()) })
            }
            State::Landed(_) => match self.release(number) {
                State::Landed(flight) => (Poll::Ready(flight), None),
                _ => unreachable!("it has landed"),
            },
            _ => unreachable!("its owner polls it"),
        }
    }

    /// Its owner is gone. With its waker when it is still under way.
    pub(crate) fn forget(&mut self, number: u32) -> Result<Landed<D>, Option<Waker>> {
        match replace(&mut self.states[number as usize], State::Free) {
            State::Flies { flight, waker } => {
                flight.orphan();
                self.states[number as usize] = State::Orphan(flight);
                Err(waker)
            }
            State::Landed(flight) => {
                self.free.push(number);
                flight.orphan();
                Ok(Landed { waker: None, orphan: Some(flight) })
            }
            _ => unreachable!("its owner forgets it"),
        }
    }
}

impl<D: Driver> fmt::Debug for Flights<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("known", &self.states.len()).field("flying", &self.flying).finish()
    }
}
