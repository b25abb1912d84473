//! Time, chance, and what is about to happen.
//!
//! Keeps true: things happen in the order of their times, and those of one time in the order in which they were planned.

use super::disk::Disk;
use super::net::{Arrival, Effects, Net};
use super::notices::Notices;
use super::processes::Processes;
use super::{FILE, Faults, KINDS, OTHER, Reply, Request};
use crate::calls::Half;
use crate::driver::{Operation, Wait};
use crate::time::Instant;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Between an operation's decision and its landing, at most.
const LANDING: u64 = 20_000;
/// What a datagram, or bytes, are under way at least.
const HOP: u64 = 5_000;
/// What a pass takes.
const PASS: Duration = Duration::from_micros(1);

/// What is about to happen.
pub(super) enum Event {
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
    pub(super) notices: Notices,
    pub(super) processes: Processes,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Instant::from_nanos(1_000_000_000),
            random: seed,
            planned: 0,
            events: BTreeMap::new(),
            faults: Faults::default(),
            net: Net::default(),
            disk: Disk::default(),
            notices: Notices::default(),
            processes: Processes::new(),
        }
    }

    /// Goes on to the next thing that happens, `wait` at most. False: it may wait for good, and nothing will ever happen.
    pub(super) fn go_on(&mut self, wait: Wait) -> bool {
        let next = self.events.first_key_value().map(|((at, _), _)| *at);
        let until = match (wait, next) {
            (Wait::No, _) => self.now + PASS,
            (Wait::Until(Instant::NEVER), None) => return false,
            (Wait::Until(until), next) => until.min(next.unwrap_or(until)),
        };
        self.now = self.now.max(until);
        true
    }

    /// What happens next, if its time has come.
    pub(super) fn next(&mut self) -> Option<Event> {
        let now = self.now;
        Some(self.events.first_entry().filter(|first| first.key().0 <= now)?.remove())
    }

    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let effects = self.net.arrive(arrival);
        self.take(effects);
    }

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
        self.net.open() + self.disk.open_files() + self.notices.open()
    }

    pub(super) fn step_clock(&mut self, by: Duration) {
        self.now = self.now + by;
    }

    pub(super) fn close(&mut self, number: u32) {
        match number % KINDS {
            FILE => self.on_disk(|disk| disk.close(number)),
            OTHER => self.notices.close(number),
            _ => {
                let effects = self.net.close(number);
                self.take(effects);
            }
        }
    }

    /// Does something with the disk; who watches it is told.
    pub(super) fn on_disk<T>(&mut self, work: impl FnOnce(&mut Disk) -> T) -> T {
        let done = work(&mut self.disk);
        let happened = self.disk.happened();
        for watches in self.notices.all_watches() {
            happened.iter().for_each(|happening| watches.tell(happening));
        }
        if !happened.is_empty() {
            self.tell();
        }
        done
    }

    /// Answers who waits for what can be read now: events, signals, a child's end.
    pub(super) fn tell(&mut self) {
        for (flight, reply) in self.notices.answer(&mut self.processes) {
            self.land_soon(flight, reply);
        }
    }

    pub(super) fn connect_unix(&mut self, socket: u32, path: &Path) -> Result<(), Errno> {
        let to = self.disk.socket(path)?;
        let effects = self.net.connect_unix(socket, to)?;
        self.take(effects);
        Ok(())
    }

    /// A connection could not be accepted: the next one has it.
    pub(super) fn put_back(&mut self, listener: u32, child: u32) {
        let effects = self.net.put_back(listener, child);
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
        let is_datagram = matches!(request.operation, Operation::Send(_)) && request.address.is_some();
        match on % KINDS {
            FILE => {
                let reply = self.on_disk(|disk| disk.answer(on, &request));
                self.land_soon(flight, reply);
            }
            OTHER => {
                self.notices.request(on, flight, request);
                self.tell();
            }
            _ if is_datagram && self.below(1_000_000) < u64::from(self.faults.exhaustion) => {
                self.land_soon(flight, Reply::Failed(Errno::NOBUFS));
            }
            _ => {
                let effects = self.net.request(on, flight, request);
                self.take(effects);
            }
        }
    }

    pub(super) fn cancel(&mut self, flight: u32) {
        if self.net.cancel(flight) || self.notices.cancel(flight) {
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
            } else if self.faults.partition {
                self.net.block(arrival);
            } else {
                let at = self.net.in_order(&arrival, at);
                self.plan(at, Event::Arrives(arrival));
            }
        }
    }
}
