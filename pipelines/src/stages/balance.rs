//! `balance`: flows to virtual addresses, spread over backends.
//!
//! A flow's first packet gets a backend by Maglev, and a record; the others follow the record, whatever has become of the
//! set of backends since. Owns: the connections and the roll of this worker's part of the state. Refuses: flows for which no backend
//! is up, and packets that are too big for the way to the backend or whose time to live is over, both of which it answers. What is for no service it leaves to the
//! next stage. Keeps true: a flow that carries data changes its backend only when that one is forgotten, or, for what opens
//! anew (TCP SYN, any UDP), is down; an ICMP error goes to the backend of the flow that it is about.
//!
//! What came through a tunnel's or NAT's door goes on to the next stage, which routes it; what goes to a MAC address leaves at once.

mod outer;
pub mod owner;
mod pool;
mod service;
mod translate;

use zsync_packet::burst::{BURST, Bits, Burst, Fragment};
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::header::{
    EthernetMut, Icmp, Icmpv6, Ipv4, Ipv4Mut, Ipv6, Ipv6Mut, TcpFlags, icmp, protocol,
};
use zsync_packet::region::Region;
use zsync_packet::verdict::{DropReason, Verdict};

use crate::snapshot::PortFacts;
use crate::spec::balance::{BalanceSpec, Forward};
use crate::stage::{Chore, Cx, Stage};
use crate::stages::answer::{self, Answer};
use crate::stages::route::rewrite;
use crate::state::{State, StateSize};
use crate::tables::backends::{Roll, States, Ticket};
use crate::tables::connections::{Connections, Patience, Phase};
use crate::tables::fib::Fib;
use crate::tables::flow::{FlowId, Flows, Shards};
use pool::{Pool, Way};
use service::{Is, Services};

/// Records that a slice of the sweep looks at: a million in less than two seconds, about a microsecond each time.
const SWEEP: u32 = 64;

/// What a `balance` stage keeps: what control says of the backends, for all workers; each worker's backends and connections.
pub fn size(spec: &BalanceSpec) -> StateSize {
    StateSize { shared: States::bytes(), each: Roll::bytes() + Connections::bytes(remembered(spec)) }
}

/// What control says of the backends of the stage with this memory.
pub fn states(state: &State) -> Option<States> {
    States::open(state.shared()?)
}

/// The backends that a worker's flows go to, and how many, of the stage with this memory.
pub fn roll(state: &State, worker: usize) -> Option<Roll> {
    Roll::open(state.shard(worker)?.part(0..Roll::bytes())?)
}

/// Where a worker's connections are, in the memory of its stage.
fn connections(state: &State, worker: usize) -> Option<Region> {
    let shard = state.shard(worker)?;
    shard.part(Roll::bytes()..shard.len())
}

/// Connections that the stage itself remembers: with NAT, tracking does.
fn remembered(spec: &BalanceSpec) -> usize {
    if spec.forward == Forward::Nat { 1 } else { spec.connections as usize }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Balance {
    services: Services,
    forward: Forward,
    pool: Pool,
    connections: Connections,
    state: State,
    /// The flows of the `track` stage ahead, and this worker's, for NAT.
    tracked: Option<Shards>,
    flows: Option<Flows>,
    ports: Vec<PortFacts>,
    /// Which backend a flow gets: the same on every machine with the same seed.
    choice: HashKey,
    sweep: Sweep,
    /// Tells outer packets apart.
    sent: u16,
}

/// A round of the sweep.
#[derive(Clone, Debug)]
struct Sweep {
    next: u32,
    /// Flows by place of the roll.
    counts: Box<[u32]>,
}

impl Balance {
    /// A stage for `spec` over its memory of [`size`]. Backends are reached by `fib`; `ports` by number; hashes are under
    /// `hash_key`. It is the first worker's until it is [assigned](Stage::assign). With NAT it does nothing unless it knows
    /// [who tracks](Self::behind). `None`: the memory is too short for the spec, or the spec has
    /// [faults](BalanceSpec::faults).
    pub fn new(
        spec: &BalanceSpec,
        state: State,
        fib: Fib,
        ports: Vec<PortFacts>,
        hash_key: HashKey,
    ) -> Option<Self> {
        let patience =
            Patience { tcp: spec.tcp_idle.as_nanos() as u64, udp: spec.udp_idle.as_nanos() as u64 };
        let connections = connections(&state, 0)?;
        let pool = Pool::new(spec, roll(&state, 0)?, states(&state)?, fib, ports.clone())?;
        let counts = vec![0; pool.places()].into_boxed_slice();
        Some(Self {
            services: Services::new(&spec.vips, &spec.services),
            forward: spec.forward,
            pool,
            connections: Connections::open(&connections, remembered(spec), hash_key, patience)?,
            state,
            tracked: None,
            flows: None,
            ports,
            choice: HashKey::from_seed(spec.seed),
            sweep: Sweep { next: 0, counts },
            sent: 0,
        })
    }

    /// Lets NAT use the flows of the `track` stage ahead.
    #[must_use]
    pub fn behind(mut self, tracked: Shards) -> Self {
        self.tracked = Some(tracked);
        self.assign(0);
        self
    }
}

impl Stage for Balance {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        self.pool.begin();
        if self.forward == Forward::Nat {
            return self.translate(burst);
        }
        let mut served = [(0u8, 0u64); BURST];
        let (mut count, mut icmp) = (0, 0u64);
        for i in burst.undecided() {
            let key = burst.key(i);
            match self.services.look(key, burst.facts(i).fragment) {
                Is::Other => {}
                Is::Icmp => icmp |= 1 << i,
                Is::Served => {
                    let hash = self.connections.hash(key);
                    self.connections.prefetch(hash);
                    if let Some(slot) = served.get_mut(count) {
                        *slot = (i as u8, hash);
                        count += 1;
                    }
                }
            }
        }
        // Each step for all packets: their cache misses overlap.
        let served = served.get(..count).unwrap_or_default();
        for &(_, hash) in served {
            self.connections.fetch(hash);
        }
        for &(i, hash) in served {
            let i = usize::from(i);
            burst.facts_mut(i).hash = (hash >> 32) as u32;
            match self.backend(burst, i, hash, cx.now) {
                Some(ticket) => self.send(burst, i, ticket, cx),
                None => burst.decide(i, Verdict::Drop(DropReason::NoBackend)),
            }
        }
        for i in Bits(icmp) {
            self.follow_error(burst, i, cx);
        }
    }

    fn assign(&mut self, worker: usize) {
        // A worker that is not there has no memory, and gets no packets.
        if let (Some(roll), Some(region)) = (roll(&self.state, worker), connections(&self.state, worker))
            && let Some(connections) = self.connections.elsewhere(&region)
        {
            self.pool.assign(roll);
            self.connections = connections;
        }
        self.flows = self.tracked.as_ref().and_then(|tracked| tracked.worker(worker));
    }

    fn explain(&self, burst: &Burst, i: usize, now: u64, out: &mut Vec<String>) {
        if self.forward == Forward::Nat {
            return self.explain_tracked(burst, i, out);
        }
        let about = quoted(burst, i).map(|key| key.reversed());
        let key = match (self.services.look(burst.key(i), burst.facts(i).fragment), &about) {
            (Is::Served, _) => burst.key(i),
            (Is::Icmp, Some(key)) if self.services.look(key, Fragment::Whole) == Is::Served => {
                out.push("an ICMP error about a flow to a service: it goes where the flow goes".to_owned());
                key
            }
            _ => return out.push("no service of this balancer".to_owned()),
        };
        let known = self.connections.find(key, self.connections.hash(key), now);
        let (ticket, how) = match known {
            Some(number) => (Some(self.connections.ticket(number)), "remembered"),
            None => (self.pool.choose(key.hash(&self.choice), key.version() == 4), "by Maglev"),
        };
        match ticket.and_then(|ticket| self.pool.target(ticket)) {
            Some(target) => {
                let port = target.who.port.map_or(String::new(), |port| format!(" port {port}"));
                let down = if target.down { ", which is down" } else { "" };
                let way = match self.forward {
                    Forward::Direct => ", by its MAC address",
                    _ => ", in a tunnel",
                };
                out.push(format!("backend {}{port}, {how}{way}{down}", target.who.address));
            }
            None => out.push("no backend is up, or none was taken up yet".to_owned()),
        }
    }

    fn chore(&self) -> Option<Chore> {
        Some(Chore::sliced("backends to be looked at, and their flows"))
    }

    fn tend(&mut self, now: u64) -> bool {
        if self.pool.tend() {
            return true;
        }
        let Sweep { next, counts } = &mut self.sweep;
        *next = self.connections.sweep(*next, SWEEP, now, |ticket| {
            if let Some(count) = counts.get_mut(ticket.place()) {
                *count += 1;
            }
        });
        if *next == 0 {
            for (place, count) in counts.iter_mut().enumerate() {
                self.pool.roll().set_flows(place, u64::from(std::mem::take(count)));
            }
        }
        false
    }
}

impl Balance {
    /// As [`Stage::explain`], where a flow's translation says which backend it has.
    fn explain_tracked(&self, burst: &Burst, i: usize, out: &mut Vec<String>) {
        let known = FlowId::from_fact(burst.facts(i).flow).zip(self.flows.as_ref());
        let original = known.map(|(id, flows)| flows.original(id));
        let key = original.as_ref().unwrap_or(burst.key(i));
        if self.services.look(key, Fragment::Whole) != Is::Served {
            return out.push("no service of this balancer".to_owned());
        }
        let Some((id, flows)) = known else {
            return out.push("for a service, but of no connection: it stays as it is".to_owned());
        };
        if let Some(answers) = flows.translation(id) {
            let (address, port) = (answers.source(), answers.source_port());
            return out.push(format!("backend {address} port {port}, of its connection, by NAT"));
        }
        let ticket = self.pool.choose(key.hash(&self.choice), key.version() == 4);
        out.push(match ticket.and_then(|ticket| self.pool.target(ticket)) {
            Some(target) => {
                let port = target.who.port.map_or(String::new(), |port| format!(" port {port}"));
                format!("backend {}{port}, by Maglev, by NAT", target.who.address)
            }
            None => "no backend is up, or none was taken up yet".to_owned(),
        });
    }

    /// The backend of packet `i`, remembered for its flow's next ones.
    #[inline]
    fn backend(&mut self, burst: &Burst, i: usize, hash: u64, now: u64) -> Option<Ticket> {
        let key = burst.key(i);
        let tcp = key.protocol() == protocol::TCP;
        let flags = if tcp { flags_of(burst, i) } else { TcpFlags(0) };
        let opens = !tcp || (flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK));
        let Some(number) = self.connections.find(key, hash, now) else {
            return self.first(key, hash, tcp, flags, now);
        };
        let phase = self.connections.phase(number);
        let mut ticket = self.connections.ticket(number);
        let again = tcp && opens && phase <= Phase::Closing;
        let lost = match self.pool.target(ticket) {
            Some(target) => opens && target.down,
            None => true,
        };
        if again || lost {
            ticket = self.pool.choose(key.hash(&self.choice), key.version() == 4)?;
            self.connections.redirect(number, ticket);
        }
        let phase = match phase {
            _ if again => Phase::Opening,
            _ if flags.contains(TcpFlags::RST) => Phase::Closed,
            _ if flags.contains(TcpFlags::FIN) => phase.min(Phase::Closing),
            Phase::Opening if tcp && opens => Phase::Opening,
            Phase::Opening => Phase::Flowing,
            _ => phase,
        };
        self.connections.touch(number, tcp, phase, now);
        Some(ticket)
    }

    #[cold]
    fn first(&mut self, key: &FlowKey, hash: u64, tcp: bool, flags: TcpFlags, now: u64) -> Option<Ticket> {
        let ticket = self.pool.choose(key.hash(&self.choice), key.version() == 4)?;
        // A fragment without ports is of no flow, and what only ends one needs no record.
        let of_a_flow = key.destination_port() != 0;
        if of_a_flow && !flags.intersects(TcpFlags::RST.union(TcpFlags::FIN)) {
            let _ = self.connections.insert(key, hash, ticket, tcp, now);
        }
        Some(ticket)
    }

    /// An ICMP error about a flow of a service goes where the flow goes; other ICMP is not ours.
    #[cold]
    fn follow_error(&mut self, burst: &mut Burst, i: usize, cx: &mut Cx<'_>) {
        let Some(key) = quoted(burst, i).map(|key| key.reversed()) else { return };
        if self.services.look(&key, Fragment::Whole) != Is::Served {
            return;
        }
        let hash = self.connections.hash(&key);
        burst.facts_mut(i).hash = (hash >> 32) as u32;
        let known = self.connections.find(&key, hash, cx.now).map(|number| self.connections.ticket(number));
        let known = known.filter(|ticket| self.pool.target(*ticket).is_some());
        match known.or_else(|| self.pool.choose(key.hash(&self.choice), key.version() == 4)) {
            Some(ticket) => self.send(burst, i, ticket, cx),
            None => burst.decide(i, Verdict::Drop(DropReason::NoBackend)),
        }
    }

    /// Sends packet `i` on its way to a backend.
    #[inline]
    fn send(&mut self, burst: &mut Burst, i: usize, ticket: Ticket, cx: &mut Cx<'_>) {
        let way = self.pool.way(ticket, cx.now);
        if let (Forward::Direct, Way::Out { port, mac, .. }) = (self.forward, way)
            && let Some(output) = self.ports.get(usize::from(port.0))
            && rewrite::plain(burst, i, output, mac).is_some()
        {
            return burst.decide(i, Verdict::Transmit(port));
        }
        let Some(target) = self.pool.target(ticket) else {
            return burst.decide(i, Verdict::Drop(DropReason::NoBackend));
        };
        let room = match way {
            Way::Out { mtu, .. } => mtu - (target.outer.map_or(0, |outer| outer.overhead()) as u32).min(mtu),
            Way::Kernel | Way::None => u32::MAX,
        };
        let fragmentable = target.outer.is_some_and(|outer| outer.destination.is_ipv4());
        if let Err((answer, reason)) = age(burst, i, room, fragmentable) {
            let verdict = match (answer, self.ports.get(usize::from(burst.port(i).0))) {
                (Some(answer), Some(port)) => answer::reply(burst, i, answer, port, reason, cx),
                _ => Verdict::Drop(reason),
            };
            return burst.decide(i, verdict);
        }
        let verdict = match (self.forward, way, target.outer) {
            (Forward::Direct, Way::Out { port, mac, .. }, _) => {
                let from = self.ports.get(usize::from(port.0)).map(|facts| facts.mac);
                match (EthernetMut::parse(burst.bytes_mut(i)), from) {
                    (Ok(mut frame), Some(from)) => {
                        frame.set_destination(mac);
                        frame.set_source(from);
                        Verdict::Transmit(port)
                    }
                    _ => Verdict::Drop(DropReason::NoSuchPort),
                }
            }
            (_, _, Some(outer)) => {
                let hash = burst.facts(i).hash;
                self.sent = self.sent.wrapping_add(1);
                match outer.wrap(burst, i, hash, self.sent) {
                    Ok(()) => Verdict::Next,
                    Err(reason) => Verdict::Drop(reason),
                }
            }
            _ => Verdict::Drop(DropReason::Unreachable),
        };
        burst.decide(i, verdict);
    }
}

/// The flags of packet `i`, which is of TCP; none if its header is not in it.
#[inline]
fn flags_of(burst: &Burst, i: usize) -> TcpFlags {
    let l4 = usize::from(burst.facts(i).l4);
    if l4 == 0 {
        return TcpFlags(0);
    }
    TcpFlags(burst.bytes(i).get(l4 + 13).copied().unwrap_or(0))
}

/// The flow of the packet that packet `i` is about; none if it is no ICMP error. (A redirect is none: it is for the router
/// that it is sent to.)
fn quoted(burst: &Burst, i: usize) -> Option<FlowKey> {
    let facts = burst.facts(i);
    let message = burst.bytes(i).get(usize::from(facts.l4)..).filter(|_| facts.l4 != 0)?;
    match (facts.version, facts.protocol) {
        (4, protocol::ICMP) => {
            let message = Icmp::parse(message).ok().filter(|message| message.kind() != icmp::REDIRECT)?;
            Some(FlowKey::of_ipv4(&Ipv4::parse_quoted(message.quoted()?).ok()?))
        }
        (6, protocol::ICMPV6) => {
            let inner = Ipv6::parse_quoted(Icmpv6::parse(message).ok()?.quoted()?).ok()?;
            FlowKey::of_ipv6(&inner).ok()
        }
        _ => None,
    }
}

/// Ages packet `i`, unless its time is over or it is longer than `room`: then what its sender is told. With `fragmentable`,
/// a packet that may be fragmented may be longer, for its outer header may be, too.
#[inline]
fn age(
    burst: &mut Burst,
    i: usize,
    room: u32,
    fragmentable: bool,
) -> Result<(), (Option<Answer>, DropReason)> {
    let facts = *burst.facts(i);
    let truncated = (None, DropReason::IpTruncated);
    let packet = burst.bytes_mut(i).get_mut(usize::from(facts.l3)..).ok_or(truncated)?;
    let too_big = (Some(Answer::TooBig { mtu: room }), DropReason::TooBig);
    let over = (Some(Answer::TimeExceeded), DropReason::TtlExpired);
    if facts.version == 4 {
        let ip = Ipv4::parse(packet).map_err(|_| truncated)?;
        if ip.ttl() <= 1 {
            return Err(over);
        }
        if u32::from(ip.total_len()) > room && (ip.dont_fragment() || !fragmentable) {
            return Err(too_big);
        }
        let _ = Ipv4Mut::parse(packet).map_err(|_| truncated)?.decrement_ttl();
    } else {
        let ip = Ipv6::parse(packet).map_err(|_| truncated)?;
        if ip.hop_limit() <= 1 {
            return Err(over);
        }
        if u32::from(ip.payload_len()) + 40 > room {
            return Err(too_big);
        }
        let _ = Ipv6Mut::parse(packet).map_err(|_| truncated)?.decrement_hop_limit();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
