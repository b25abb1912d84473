//! `route`: IPv4 and IPv6 forwarding by the kernel's routes.
//!
//! Table by mark, lookup, time to live, next hop, new MAC addresses, fragments. Owns nothing: the FIBs are the control
//! process's. What a router answers to (time exceeded, no route, too big) is [answered](super::answer) here, with the types and
//! codes of Linux, if the port that the packet came in by has an address; otherwise it goes to the kernel, which answers as it
//! always does, up to [`ANSWERS`] a second. Beyond these limits it is dropped and counted by its reason. Expects packets that
//! [`super::parse`] let pass; others it refuses as not IP.

use crate::snapshot::PortFacts;
use crate::stage::{Allowance, Cx, Stage};
use crate::stages::answer::{self, Answer, Arrived};
use crate::stages::fragment::fragment;
use crate::stages::tunnel::Inner;
use crate::tables::fib::{Adjacency, Fib, FibTables, Route as FibRoute};
use crate::tables::flow::Shards;
use std::net::IpAddr;
use zsync_packet::burst::{BURST, Bits, Burst};
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::header::{EthernetMut, Ipv4, Ipv6};
use zsync_packet::verdict::{DropReason, PortId, Verdict};

pub(super) mod rewrite;

use rewrite::{Fit, Refusal};

/// Packets a second, per worker, that go to the kernel only to be answered with an ICMP error. The kernel itself sends
/// no more than 1,000 a second by default (`icmp_msgs_per_sec`), so more would only cost the slow path.
pub const ANSWERS: u32 = 1000;

/// See the module.
#[derive(Clone, Debug)]
pub struct Route {
    fib: Fib,
    /// Tables of packets with a mark, in order of the marks.
    by_mark: Vec<(u32, Fib)>,
    ports: Vec<PortFacts>,
    hash_key: HashKey,
    answers: Allowance,
    arrived: Arrived,
}

impl Route {
    /// Routes by `fib`; `ports` by number; flows are spread over equal paths by their hash under `hash_key`.
    pub fn new(fib: Fib, ports: Vec<PortFacts>, hash_key: HashKey) -> Self {
        let answers = Allowance::per_second(ANSWERS);
        Self { fib, by_mark: Vec::new(), ports, hash_key, answers, arrived: Arrived::default() }
    }

    /// For packets that a stage ahead may have translated, whose flows are in these tables: who sent them is told of them as
    /// they came.
    #[must_use]
    pub fn behind(mut self, flows: Shards) -> Self {
        self.arrived = Arrived::new(flows);
        self
    }

    /// Routes packets that have one of these marks by the table beside it; a mark counts once.
    #[must_use]
    pub fn by_mark(mut self, mut tables: Vec<(u32, Fib)>) -> Self {
        tables.sort_by_key(|(mark, _)| *mark);
        tables.dedup_by_key(|(mark, _)| *mark);
        self.by_mark = tables;
        self
    }
}

impl Stage for Route {
    fn assign(&mut self, worker: usize) {
        self.arrived.assign(worker);
    }

    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let Self { fib, by_mark, ports, hash_key, answers, arrived } = self;
        let mut pass = Pass { ports, hash_key, answers, arrived };
        if by_mark.is_empty() {
            pass.route(fib, burst.live(), burst, cx);
            return;
        }
        // A round for each mark that occurs: the packets of a burst have one or two.
        let mut left = burst.live();
        while let Some(first) = Bits(left).next() {
            let mark = burst.facts(first).mark;
            let same = Bits(left).filter(|&i| burst.facts(i).mark == mark).fold(0, |mask, i| mask | 1 << i);
            let at = by_mark.binary_search_by_key(&mark, |(mark, _)| *mark);
            let table = at.ok().and_then(|at| by_mark.get(at)).map_or(&*fib, |(_, table)| table);
            pass.route(table, same, burst, cx);
            left &= !same;
        }
    }

    fn explain(&self, burst: &Burst, i: usize, _: u64, out: &mut Vec<String>) {
        let facts = burst.facts(i);
        let packet = burst.bytes(i).get(usize::from(facts.l3)..).unwrap_or(&[]);
        let address = match facts.version {
            4 => Ipv4::parse(packet).map(|ip| IpAddr::V4(ip.destination())),
            _ => Ipv6::parse(packet).map(|ip| IpAddr::V6(ip.destination())),
        };
        let Ok(address) = address else { return };
        let at = self.by_mark.binary_search_by_key(&facts.mark, |(mark, _)| *mark);
        let marked = at.ok().and_then(|at| self.by_mark.get(at));
        if marked.is_some() {
            out.push(format!("the table of mark {:#x}", facts.mark));
        }
        let tables = marked.map_or(&self.fib, |(_, table)| table).tables();
        let (route, len) = tables.explain(address);
        let hash = match route.is_multipath() {
            true if facts.flow != 0 => facts.hash,
            true => flow_hash(packet, &self.hash_key),
            false => 0,
        };
        let way = match tables.adjacency(route, hash) {
            Adjacency::NoRoute => {
                out.push(format!("no route to {address}"));
                return;
            }
            Adjacency::Forward { port, mac: [a, b, c, d, e, f] } => {
                let of = if route.is_multipath() { ", by its flow, of several hops" } else { "" };
                format!("port {port}, {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}{of}")
            }
            Adjacency::Kernel => "the kernel, which knows more of it or of the neighbour".to_owned(),
            Adjacency::Local => "an address of this host".to_owned(),
            Adjacency::Deliver { port } => format!("an address of this host, by port {port}"),
            Adjacency::Link { port } => format!("port {port}, a link without neighbours"),
            Adjacency::Blackhole => "blackhole".to_owned(),
            Adjacency::Unreachable => "unreachable".to_owned(),
            Adjacency::Prohibit => "prohibit".to_owned(),
        };
        out.push(format!("{}: {way}", prefix(address, len)));
        if let Adjacency::Forward { port, .. } | Adjacency::Link { port } = tables.adjacency(route, hash)
            && let Some(mtu) = self.ports.get(usize::from(port)).map(|port| port.mtu as usize)
            && let Some(len) = Inner::of(packet).map(|ip| ip.len).filter(|len| *len > mtu)
        {
            out.push(format!("its {len} bytes are more than the {mtu} that the port sends at once"));
        }
    }
}

/// What routing by any table takes.
struct Pass<'a> {
    ports: &'a [PortFacts],
    hash_key: &'a HashKey,
    answers: &'a mut Allowance,
    arrived: &'a Arrived,
}

impl Pass<'_> {
    /// Routes the packets of `mask` by `fib`.
    #[inline]
    fn route(&mut self, fib: &Fib, mask: u64, burst: &mut Burst, cx: &mut Cx<'_>) {
        let (mut left, tables) = (mask, fib.tables());
        let lookups = Lookups::of(burst, &mut left, 4, 16, u32::from_be_bytes);
        self.forward(&tables, burst, cx, &lookups, |tables, to, routes| tables.routes4(to, routes));
        if left != 0 {
            let lookups = Lookups::of(burst, &mut left, 6, 24, |address: [u8; 16]| address);
            self.forward(&tables, burst, cx, &lookups, |tables, to, routes| tables.routes6(to, routes));
        }
        for i in Bits(left) {
            burst.decide(i, Verdict::Drop(DropReason::NotIp));
        }
    }
}

/// The packets of one family, and the addresses to look up.
struct Lookups<A> {
    packets: [u8; BURST],
    addresses: [A; BURST],
    count: usize,
}

impl<A: Copy + Default> Lookups<A> {
    /// The destinations, `at` bytes from the IP header, of the packets of `mask` that are of this version, and are taken out of
    /// it; what is shorter is dropped.
    #[inline(always)]
    fn of<const N: usize>(
        burst: &mut Burst,
        mask: &mut u64,
        version: u8,
        at: usize,
        address: impl Fn([u8; N]) -> A,
    ) -> Self {
        let mut lookups = Self { packets: [0; BURST], addresses: [A::default(); BURST], count: 0 };
        for i in Bits(*mask) {
            let facts = burst.facts(i);
            if facts.version != version {
                continue;
            }
            *mask &= !(1 << i);
            let at = usize::from(facts.l3) + at;
            let Some(bytes) = burst.bytes(i).get(at..).and_then(<[u8]>::first_chunk) else {
                burst.decide(i, Verdict::Drop(DropReason::IpTruncated));
                continue;
            };
            let count = lookups.count & (BURST - 1);
            (lookups.packets[count], lookups.addresses[count]) = (i as u8, address(*bytes));
            lookups.count = count + 1;
        }
        lookups
    }
}

impl Pass<'_> {
    /// Sends the packets where their routes lead. All lookups of a burst together: their cache misses overlap.
    #[inline]
    fn forward<A>(
        &mut self,
        tables: &FibTables<'_>,
        burst: &mut Burst,
        cx: &mut Cx<'_>,
        lookups: &Lookups<A>,
        look_up: impl Fn(&FibTables<'_>, &[A], &mut [FibRoute]),
    ) {
        let count = lookups.count.min(BURST);
        if count == 0 {
            return;
        }
        let mut routes = [FibRoute::NONE; BURST];
        look_up(tables, &lookups.addresses[..count], &mut routes[..count]);
        for (&i, &route) in lookups.packets[..count].iter().zip(&routes) {
            let i = usize::from(i);
            let hash = if route.is_multipath() { self.spread(burst, i) } else { 0 };
            if let Some((port, mac)) = tables.neighbour(route, hash)
                && let Some(output) = self.ports.get(usize::from(port))
                && rewrite::plain(burst, i, output, mac).is_some()
            {
                burst.decide(i, Verdict::Transmit(PortId(port)));
                continue;
            }
            let verdict = self.other(tables.adjacency(route, hash), burst, i, cx);
            burst.decide(i, verdict);
        }
    }

    /// What becomes of a packet that is not simply sent.
    #[inline(never)]
    fn other(&mut self, adjacency: Adjacency, burst: &mut Burst, i: usize, cx: &mut Cx<'_>) -> Verdict {
        let verdict = match adjacency {
            Adjacency::Forward { port, mac } => match self.ports.get(usize::from(port)) {
                Some(facts) => self.send(burst, i, PortId(port), facts, mac, cx),
                None => Err(Refusal::Silent(DropReason::NoSuchPort)),
            },
            // RFC 4443 §3.1: never back by a link that has two ends, and its code 3.
            Adjacency::Link { port } if burst.port(i) == PortId(port) => {
                Err(Refusal::Icmp(DropReason::Unreachable, Answer::HostUnreachable))
            }
            Adjacency::Link { port } => match self.ports.get(usize::from(port)) {
                // The host is at its other end, and takes what is to the port's own address.
                Some(facts) => self.send(burst, i, PortId(port), facts, facts.mac, cx),
                None => Err(Refusal::Silent(DropReason::NoSuchPort)),
            },
            Adjacency::Deliver { port } => {
                if let Some(facts) = self.ports.get(usize::from(port))
                    && let Ok(mut frame) = EthernetMut::parse(burst.bytes_mut(i))
                {
                    frame.set_destination(facts.mac);
                }
                Ok(Verdict::Transmit(PortId(port)))
            }
            Adjacency::Kernel | Adjacency::Local => Ok(Verdict::Punt),
            Adjacency::NoRoute => Err(Refusal::Icmp(DropReason::NoRoute, Answer::NoRoute)),
            Adjacency::Unreachable => Err(Refusal::unreachable(burst.facts(i).version)),
            Adjacency::Prohibit => Err(Refusal::Icmp(DropReason::Prohibited, Answer::Prohibited)),
            Adjacency::Blackhole => Err(Refusal::Silent(DropReason::Blackhole)),
        };
        match verdict {
            Ok(verdict) => verdict,
            Err(Refusal::Kernel) => Verdict::Punt,
            Err(Refusal::Silent(reason)) => Verdict::Drop(reason),
            Err(Refusal::Icmp(reason, answer)) => self.answer(burst, i, reason, answer, cx),
        }
    }

    /// Sends a packet out of `port`, in parts if it must.
    fn send(
        &self,
        burst: &mut Burst,
        i: usize,
        port: PortId,
        output: &PortFacts,
        mac: [u8; 6],
        cx: &mut Cx<'_>,
    ) -> Result<Verdict, Refusal> {
        if let Fit::InParts = rewrite::any(burst, i, output, mac)? {
            fragment(burst, i, output.mtu as usize, port, cx).map_err(Refusal::Silent)?;
        }
        Ok(Verdict::Transmit(port))
    }

    /// Answers from the port's address, or lets the kernel do so.
    #[cold]
    fn answer(
        &mut self,
        burst: &mut Burst,
        i: usize,
        reason: DropReason,
        answer: Answer,
        cx: &mut Cx<'_>,
    ) -> Verdict {
        if !self.arrived.restore(burst, i) {
            return Verdict::Drop(reason);
        }
        let version = burst.facts(i).version;
        let tunnelled = burst.facts(i).tunnel > 0;
        let has_address =
            |port: &&PortFacts| if version == 4 { port.v4.is_some() } else { port.v6.is_some() };
        match self.ports.get(usize::from(burst.port(i).0)).filter(|port| tunnelled || has_address(port)) {
            Some(from) => answer::reply(burst, i, answer, from, reason, cx),
            // The kernel would answer what came sealed by its own routes, which may not lead into the tunnel.
            None if tunnelled => Verdict::Drop(reason),
            None if self.answers.take(cx.now) => Verdict::Punt,
            None => Verdict::Drop(reason),
        }
    }

    #[cold]
    fn spread(&self, burst: &mut Burst, i: usize) -> u32 {
        if burst.facts(i).flow != 0 {
            // Tracked: by the flow as it came in, so that a translation, which chose by it as well, makes no difference.
            return burst.facts(i).hash;
        }
        let l3 = usize::from(burst.facts(i).l3);
        let hash = flow_hash(burst.bytes(i).get(l3..).unwrap_or(&[]), self.hash_key);
        burst.facts_mut(i).hash = hash;
        hash
    }
}

/// What chooses one of several hops, the same for all packets of a flow, its fragments too.
fn flow_hash(packet: &[u8], hash_key: &HashKey) -> u32 {
    // Behind a chain of extension headers that cannot be walked, the addresses must do.
    let key = FlowKey::of(packet).or_else(|_| {
        Ipv6::parse(packet).map(|ip| FlowKey::v6((ip.source(), 0), (ip.destination(), 0), ip.next_header()))
    });
    key.map_or(0, |key| (key.hash(hash_key) >> 32) as u32)
}

/// The prefix of `len` bits that `address` is in.
pub(super) fn prefix(address: IpAddr, len: u8) -> String {
    let cut =
        |bits: u128, width: u8| bits & u128::MAX.checked_shl((width - len.min(width)).into()).unwrap_or(0);
    let network = match address {
        IpAddr::V4(address) => IpAddr::V4((cut(address.to_bits().into(), 32) as u32).into()),
        IpAddr::V6(address) => IpAddr::V6(cut(address.to_bits(), 128).into()),
    };
    format!("{network}/{len}")
}

#[cfg(test)]
mod tests;
