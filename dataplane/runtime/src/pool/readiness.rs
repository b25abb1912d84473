//! Who waits for which descriptor to become ready (epoll(7)).
//!
//! Keeps true: a descriptor is watched while somebody waits for it, for what they wait for; so a closed one never is.

use crate::remote::span;
use crate::time::Instant;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Descriptors that are looked at in one turn.
const EVENTS: usize = 64;
/// The bell's, among the events.
const BELL: u64 = u64::MAX;

#[derive(Debug)]
struct Watch {
    descriptor: Arc<OwnedFd>,
    /// Flights, oldest first: for input, and for output.
    waits: [VecDeque<u32>; 2],
    /// What epoll knows.
    watched: EventFlags,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Readiness {
    epoll: OwnedFd,
    watches: HashMap<u64, Watch>,
    /// Where each flight waits.
    places: HashMap<u32, u64>,
}

fn name(descriptor: &OwnedFd) -> u64 {
    descriptor.as_raw_fd() as u64
}

impl Readiness {
    pub(super) fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, watches: HashMap::new(), places: HashMap::new() })
    }

    /// The bell is heard while it waits.
    pub(super) fn watch_bell(&mut self, bell: BorrowedFd<'_>) -> Result<(), Errno> {
        epoll::add(&self.epoll, bell, EventData::new_u64(BELL), EventFlags::IN)
    }

    /// Whether anybody waits for a descriptor's input, or output.
    pub(super) fn is_waited_for(&self, descriptor: &OwnedFd, input: bool) -> bool {
        let watch = self.watches.get(&name(descriptor));
        watch.is_some_and(|watch| !watch.waits[usize::from(!input)].is_empty())
    }

    /// A flight waits.
    pub(super) fn add(&mut self, number: u32, descriptor: &Arc<OwnedFd>, input: bool) -> Result<(), Errno> {
        let place = name(descriptor);
        let made = || Watch {
            descriptor: descriptor.clone(),
            waits: Default::default(),
            watched: EventFlags::empty(),
        };
        let watch = self.watches.entry(place).or_insert_with(made);
        watch.waits[usize::from(!input)].push_back(number);
        self.places.insert(number, place);
        self.watch(place).inspect_err(|_| {
            self.remove(number);
        })
    }

    /// The flight that has waited longest.
    pub(super) fn first(&self, place: u64, input: bool) -> Option<u32> {
        self.watches.get(&place)?.waits[usize::from(!input)].front().copied()
    }

    /// A flight does not wait any more; false when it did not.
    pub(super) fn remove(&mut self, number: u32) -> bool {
        let Some(place) = self.places.remove(&number) else { return false };
        if let Some(watch) = self.watches.get_mut(&place) {
            for waits in &mut watch.waits {
                waits.retain(|other| *other != number);
            }
        }
        let _ = self.watch(place);
        true
    }

    /// Tells epoll what is waited for.
    pub(super) fn watch(&mut self, place: u64) -> Result<(), Errno> {
        let Some(watch) = self.watches.get_mut(&place) else { return Ok(()) };
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, !watch.waits[0].is_empty());
        wanted.set(EventFlags::OUT, !watch.waits[1].is_empty());
        if wanted == watch.watched {
            if wanted.is_empty() {
                // It was refused before it was watched.
                self.watches.remove(&place);
            }
            return Ok(());
        }
        let (descriptor, data) = (watch.descriptor.as_fd(), EventData::new_u64(place));
        if wanted.is_empty() {
            let deleted = epoll::delete(&self.epoll, descriptor);
            self.watches.remove(&place);
            return deleted;
        }
        if watch.watched.is_empty() {
            epoll::add(&self.epoll, descriptor, data, wanted)?;
        } else {
            epoll::modify(&self.epoll, descriptor, data, wanted)?;
        }
        watch.watched = wanted;
        Ok(())
    }

    /// Waits until then, if at all. The descriptors that are ready, and whether the bell was rung.
    pub(super) fn wait(&mut self, until: Option<Instant>) -> (Vec<u64>, bool) {
        let wait = span(until.unwrap_or(Instant::ZERO), Instant::monotonic());
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS];
        // Interrupted: its caller comes again.
        let count = epoll::wait(&self.epoll, &mut events, wait.as_ref()).unwrap_or(0);
        let places = events[..count].iter().map(|event| event.data.u64());
        let ready: Vec<u64> = places.filter(|place| *place != BELL).collect();
        let rung = ready.len() < count;
        (ready, rung)
    }
}
