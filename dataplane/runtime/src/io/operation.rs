//! Waiting for one operation.
//!
//! Keeps true: what takes something from a source first takes what is in its stash, in order; a wait that is cancelled gives
//! back its buffer, when the kernel has let go of it; and one that has succeeded has, cancelled or not.

use super::Io;
use crate::cancel::is_cancelled;
use crate::driver::{Begun, Driver, Flight, Source};
use crate::sync::Wait;
use crate::trace::{At, Site};
use rustix::io::Errno;
use std::rc::Rc;
use std::task::{Context, Poll};

/// An operation from its beginning to its end. Dropped while it flies, it is forgotten.
struct Waiting<'a, D: Driver> {
    io: &'a Io<D>,
    state: State<D>,
}

enum State<D: Driver> {
    Ready(Box<Flight<D>>),
    Flies { number: u32, cancelled: bool },
    Over,
}

/// Waits, for who waits at this line: does what the flight says, and gives it back with its result. Cancelled, that is [`Errno::CANCELED`].
pub(crate) async fn operate<D: Driver>(io: &Io<D>, at: At, flight: Box<Flight<D>>) -> Box<Flight<D>> {
    let site = Site { what: flight.operation.name(), at };
    let source = flight.source.clone();
    let takes = flight.operation.takes();
    let mut waiting = Waiting { io, state: State::Ready(flight) };
    if takes && source.has_orphans() {
        let mut wait = Wait::new(source.landed());
        let landed = site.poll_fn(|cx| {
            loop {
                if !source.has_orphans() || is_cancelled() {
                    return Poll::Ready(());
                }
                // Of several, one has landed.
                if wait.poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        });
        landed.await;
    }
    site.poll_fn(|cx| waiting.poll(cx, takes.then_some(&source))).await
}

impl<D: Driver> Waiting<'_, D> {
    fn poll(&mut self, cx: &Context<'_>, stash: Option<&Rc<Source<D>>>) -> Poll<Box<Flight<D>>> {
        loop {
            if let State::Ready(_) = self.state {
                let State::Ready(mut flight) = std::mem::replace(&mut self.state, State::Over) else {
                    unreachable!()
                };
                if is_cancelled() {
                    flight.result = Err(Errno::CANCELED);
                    return Poll::Ready(flight);
                }
                if let Some(source) = stash
                    && self.take_kept(source, &mut flight)
                {
                    return Poll::Ready(flight);
                }
                match self.io.driver.begin(&self.io.tasks, flight) {
                    Begun::Landed(flight) => return Poll::Ready(flight),
                    Begun::Flies(number) => self.state = State::Flies { number, cancelled: false },
                    Begun::Late(flight) => {
                        // Whoever set the deadline sees that it is over, and drops this.
                        self.state = State::Ready(flight);
                        return Poll::Pending;
                    }
                }
            }
            let State::Flies { number, cancelled } = &mut self.state else {
                unreachable!("polled after it was ready")
            };
            if is_cancelled() && !*cancelled {
                *cancelled = true;
                self.io.driver.cancel(*number);
            }
            let cancelled = *cancelled;
            let Poll::Ready(mut flight) = self.io.driver.poll_landed(*number, cx.waker()) else {
                return Poll::Pending;
            };
            self.state = State::Over;
            match (stash, flight.result) {
                // It was called back, for something is kept; or another one has that already.
                (Some(_), Err(Errno::CANCELED)) if !cancelled => {
                    flight.result = Ok(0);
                    self.state = State::Ready(flight);
                    continue;
                }
                // What is kept came before.
                (Some(source), Ok(_)) if !source.stash().borrow().is_empty() => {
                    let own = flight.give_up();
                    source.stash().borrow_mut().push_back(own);
                    self.take_kept(source, &mut flight);
                }
                _ => {}
            }
            return Poll::Ready(flight);
        }
    }

    /// As [`from_stash`]; who waits for what is left is called back.
    fn take_kept(&self, source: &Rc<Source<D>>, flight: &mut Flight<D>) -> bool {
        let found = from_stash(source, flight);
        if found && !source.stash().borrow().is_empty() {
            self.io.driver.call_back(source);
        }
        found
    }
}

/// Fills a flight with what was taken before, if there is anything.
fn from_stash<D: Driver>(source: &Source<D>, flight: &mut Flight<D>) -> bool {
    let mut stash = source.stash().borrow_mut();
    let Some(kept) = stash.front_mut() else { return false };
    if let Err(error) = kept.result {
        flight.result = Err(error);
        stash.pop_front();
        return true;
    }
    flight.address = kept.address;
    flight.accepted = kept.accepted.take();
    flight.details = kept.details;
    flight.passed = std::mem::take(&mut kept.passed);
    let room = flight.buffer.capacity();
    flight.buffer.clear();
    let taken = kept.buffer.len().min(room);
    flight.buffer.extend_from_slice(&kept.buffer[..taken]);
    flight.result = Ok(taken);
    // The rest of a datagram is gone, as it always is; of a stream it is next.
    if taken < kept.buffer.len() && kept.operation.takes_bytes() {
        kept.buffer.drain(..taken);
    } else {
        stash.pop_front();
    }
    true
}

impl<D: Driver> Drop for Waiting<'_, D> {
    fn drop(&mut self) {
        if let State::Flies { number, .. } = self.state {
            self.io.driver.forget(number);
        }
    }
}
