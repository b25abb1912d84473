//! The backends of a stage, as a worker sees them: who may take a new flow, and where each is.
//!
//! Owns: the Maglev tables of those that take new flows, a cache of where backends are, and what must be known of every
//! place of the [`Roll`]. Refuses nothing: without a backend there is no answer. Keeps true: it takes up the roll when the worker first runs it, not when it is
//! made, because until then the worker's former configuration writes to the roll; a flow's ticket leads to the backend that
//! it was given for, or nowhere.

use std::net::IpAddr;

use zsync_packet::verdict::PortId;

use super::outer::Outer;
use crate::snapshot::PortFacts;
use crate::spec::balance::{BalanceSpec, Forward};
use crate::tables::backends::{Enrolled, PLACES, Roll, State, States, Ticket};
use crate::tables::fib::{Adjacency, Fib, Route};
use crate::tables::maglev::{Maglev, Member};

/// How long it is taken for granted where a backend is: a neighbour that moved is followed within a millisecond, and a
/// thousand backends cost a million lookups a second at most.
pub(super) const FRESH: u64 = 1_000_000;
/// Looks at entries of a table that is being filled, in one slice: about 20 µs.
const PROBES: usize = 1000;
/// Other hashes that are tried when a backend takes no new flows any more and its table is not filled yet.
const TRIES: u64 = 8;
const NOWHERE: u16 = u16::MAX;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    roll: Roll,
    states: States,
    members: Vec<Serving>,
    /// Theirs, sorted.
    identities: Vec<u64>,
    /// By family of the virtual address, where that matters; else both the same one.
    tables: Vec<Maglev>,
    /// Where in `targets` the backend of a place is.
    slots: Box<[u16]>,
    targets: Vec<Target>,
    /// Those that are down, sorted: usually nobody.
    down: Vec<(IpAddr, Option<u16>)>,
    /// What [`States::changes`] was.
    seen: u64,
    filling: bool,
    begun: bool,
    template: Template,
}

/// A backend of the configuration.
#[derive(Clone, Debug)]
struct Serving {
    who: Enrolled,
    weight: u16,
    place: u16,
    state: State,
}

impl Serving {
    fn takes_new(&self) -> bool {
        self.weight > 0 && self.state == State::default() && self.place != NOWHERE
    }
}

/// How a backend is reached, whoever it is.
#[derive(Clone, Debug)]
struct Template {
    spec: BalanceSpec,
    fib: Fib,
    /// Longest packet of each port.
    ports: Vec<PortFacts>,
}

/// A backend that flows go to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub who: Enrolled,
    /// Its checks fail.
    pub down: bool,
    /// The header that its packets get.
    pub outer: Option<Outer>,
    way: Way,
    known_at: u64,
}

/// Where a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Behind this port, with this MAC address, for IP packets up to `mtu`.
    Out { port: PortId, mac: [u8; 6], mtu: u32 },
    /// The kernel knows.
    Kernel,
    /// Nowhere.
    None,
}

impl Pool {
    pub fn new(
        spec: &BalanceSpec,
        roll: Roll,
        states: States,
        fib: Fib,
        ports: Vec<PortFacts>,
    ) -> Option<Self> {
        let members: Vec<_> = spec
            .backends
            .iter()
            .map(|backend| {
                let identity = backend.identity();
                Serving {
                    who: Enrolled { identity, address: backend.address, port: backend.port },
                    weight: if backend.drain { 0 } else { backend.weight },
                    place: NOWHERE,
                    state: states.of(identity),
                }
            })
            .collect();
        let families = if spec.forward == Forward::Nat { 2 } else { 1 };
        let table = || Maglev::new(spec.entries, members.len());
        let tables = (0..families).map(|_| table()).collect::<Option<_>>()?;
        let mut identities: Vec<u64> = members.iter().map(|member| member.who.identity).collect();
        identities.sort_unstable();
        let mut pool = Self {
            identities,
            seen: states.changes(),
            roll,
            states,
            members,
            tables,
            slots: vec![NOWHERE; PLACES].into_boxed_slice(),
            targets: Vec::with_capacity(PLACES),
            down: Vec::with_capacity(PLACES),
            filling: false,
            begun: false,
            template: Template { spec: spec.clone(), fib, ports },
        };
        pool.fill();
        while !pool.tables.iter_mut().all(|table| table.advance(usize::MAX)) {}
        pool.filling = false;
        Some(pool)
    }

    /// Takes up the roll, if that is not done, and what control has said since: some microseconds, when there is something. Ahead
    /// of a burst too: a worker that slept until then must not go by what was true before.
    #[inline]
    pub fn begin(&mut self) {
        if !self.begun {
            self.take_up();
        }
        if self.states.changes() != self.seen {
            self.follow();
        }
    }

    #[cold]
    fn follow(&mut self) {
        self.seen = self.states.changes();
        for member in &mut self.members {
            member.state = self.states.of(member.who.identity);
        }
        for target in &mut self.targets {
            target.down = self.states.of(target.who.identity).down;
        }
        self.note_down();
        self.fill();
    }

    #[cold]
    fn take_up(&mut self) {
        self.begun = true;
        let identities = &self.identities;
        for member in &mut self.members {
            member.place =
                self.roll.enrol(&member.who, |who| identities.binary_search(&who).is_ok()).unwrap_or(NOWHERE);
        }
        self.slots.fill(NOWHERE);
        self.targets.clear();
        for (place, who) in self.roll.iter() {
            if let Some(slot) = self.slots.get_mut(usize::from(place)) {
                *slot = self.targets.len() as u16;
                self.targets.push(self.template.target(who, self.states.of(who.identity)));
            }
        }
        self.note_down();
    }

    fn note_down(&mut self) {
        self.down.clear();
        let down = self.targets.iter().filter(|target| target.down);
        self.down.extend(down.map(|target| (target.who.address, target.who.port)));
        self.down.sort_unstable();
    }

    /// Whether the backend that is reached at this address and port is down.
    #[inline]
    pub fn is_down(&self, address: IpAddr, port: u16) -> bool {
        let is = |port| self.down.binary_search(&(address, port)).is_ok();
        !self.down.is_empty() && (is(None) || is(Some(port)))
    }

    /// A slice of what need not be done for each packet. True: there is more of it.
    pub fn tend(&mut self) -> bool {
        self.begin();
        if self.filling {
            self.filling = !self.tables.iter_mut().all(|table| table.advance(PROBES));
        }
        self.filling
    }

    fn fill(&mut self) {
        let by_family = self.tables.len() > 1;
        for (v4, table) in [false, true].into_iter().zip(&mut self.tables) {
            let serves = |member: &Serving| !by_family || member.who.address.is_ipv4() == v4;
            let members = self.members.iter().enumerate().map(|(number, member)| Member {
                identity: member.who.identity,
                weight: if serves(member) && member.state == State::default() { member.weight } else { 0 },
                value: number as u16,
            });
            table.begin(members);
        }
        self.filling = true;
    }

    /// A backend for a new flow of this hash, to a virtual address of this family.
    pub fn choose(&self, hash: u64, v4: bool) -> Option<Ticket> {
        let table = self.tables.get(usize::from(v4 && self.tables.len() > 1))?;
        let fits = |member: &Serving| {
            member.takes_new() && (self.tables.len() == 1 || member.who.address.is_ipv4() == v4)
        };
        let tried = (0..TRIES).find_map(|attempt| {
            let hash =
                hash.wrapping_add(attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15)).rotate_left(attempt as u32);
            self.members.get(usize::from(table.find(hash)?)).filter(|member| fits(member))
        });
        // Most have gone since the table was filled.
        let from = (hash >> 32) as usize % self.members.len().max(1);
        let any =
            || self.members.iter().cycle().skip(from).take(self.members.len()).find(|member| fits(member));
        let member = tried.or_else(any)?;
        Some(Ticket::new(member.who.identity, member.place))
    }

    /// The backend of a ticket, if it is still known.
    #[inline]
    pub fn target(&self, ticket: Ticket) -> Option<&Target> {
        let slot = *self.slots.get(ticket.place())?;
        self.targets.get(usize::from(slot)).filter(|target| ticket.is(target.who.identity))
    }

    /// Where the backend of a ticket is.
    #[inline]
    pub fn way(&mut self, ticket: Ticket, now: u64) -> Way {
        let slot = self.slots.get(ticket.place()).copied().unwrap_or(NOWHERE);
        let Some(target) = self.targets.get_mut(usize::from(slot)) else { return Way::None };
        if target.known_at == 0 || now.wrapping_sub(target.known_at) > FRESH {
            target.way = self.template.way(&target.who);
            target.known_at = now.max(1);
        }
        target.way
    }

    /// The places of the roll and who is there.
    pub fn places(&self) -> usize {
        self.slots.len()
    }

    pub fn roll(&self) -> &Roll {
        &self.roll
    }

    /// Goes on with the roll of another worker.
    pub fn assign(&mut self, roll: Roll) {
        (self.roll, self.begun) = (roll, false);
        // Here, where it is off the packet path: a copy of this has no room to spare.
        self.targets.clear();
        self.targets.reserve(PLACES);
        self.down.clear();
        self.down.reserve(PLACES);
    }
}

impl Template {
    fn target(&self, who: Enrolled, state: State) -> Target {
        let source = || {
            let family = |source: &&crate::spec::Prefix| source.addr().is_ipv4() == who.address.is_ipv4();
            self.spec.sources.iter().find(family).copied()
        };
        let outer = self.spec.forward.is_tunnel().then(source).flatten().map(|source| Outer {
            source,
            destination: who.address,
            gue: (self.spec.forward == Forward::Gue).then_some(self.spec.gue_port),
        });
        Target { who, down: state.down, outer, way: Way::None, known_at: 0 }
    }

    #[cold]
    fn way(&self, who: &Enrolled) -> Way {
        let tables = self.fib.tables();
        let route = match who.address {
            IpAddr::V4(v4) => tables.route4(v4.to_bits()),
            IpAddr::V6(v6) => tables.route6(&v6.octets()),
        };
        if route == Route::NONE {
            return Way::None;
        }
        match tables.adjacency(route, who.identity as u32) {
            Adjacency::Forward { port, mac } => match self.ports.get(usize::from(port)) {
                Some(facts) => Way::Out { port: PortId(port), mac, mtu: facts.mtu },
                None => Way::None,
            },
            Adjacency::Link { port } => match self.ports.get(usize::from(port)) {
                Some(facts) => Way::Out { port: PortId(port), mac: facts.mac, mtu: facts.mtu },
                None => Way::None,
            },
            Adjacency::Kernel | Adjacency::Local | Adjacency::Deliver { .. } => Way::Kernel,
            _ => Way::None,
        }
    }
}
