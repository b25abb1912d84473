//! `route`: IPv4 and IPv6 forwarding by the kernel's routes.
//!
//! Lookup, time to live, next hop, new MAC addresses. Owns nothing: the FIB is the control process's. Everything that a
//! router answers to (time exceeded, no route, too big) goes to the kernel, which answers as it always does, up to
//! [`ANSWERS`] a second; beyond that it is dropped and counted by its reason. Expects packets that [`super::parse`] let
//! pass; others it refuses as not IP.

use crate::snapshot::PortFacts;
use crate::stage::{Allowance, Cx, Stage};
use crate::tables::fib::{Adjacency, Fib, FibTables, Route as FibRoute};
use zsync_packet::burst::{BURST, Burst};
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::header::{EthernetMut, Ipv4, Ipv4Mut, Ipv6, Ipv6Mut, ethernet};
use zsync_packet::verdict::{DropReason, PortId, Verdict};

/// Packets a second, per worker, that go to the kernel only to be answered with an ICMP error. The kernel itself sends
/// no more than 1,000 a second by default (`icmp_msgs_per_sec`), so more would only cost the slow path.
pub const ANSWERS: u32 = 1000;

/// See the module.
#[derive(Clone, Debug)]
pub struct Route {
    fib: Fib,
    ports: Vec<PortFacts>,
    hash_key: HashKey,
    answers: Allowance,
}

impl Route {
    /// Routes by `fib`; `ports` by number; flows are spread over equal paths by their hash under `hash_key`.
    pub fn new(fib: Fib, ports: Vec<PortFacts>, hash_key: HashKey) -> Self {
        Self { fib, ports, hash_key, answers: Allowance::per_second(ANSWERS) }
    }
}

impl Stage for Route {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let mut v4 = Lookups::default();
        let mut v6 = Lookups::default();
        for i in burst.undecided() {
            let facts = *burst.facts(i);
            let packet = burst.bytes(i).get(usize::from(facts.l3)..).unwrap_or(&[]);
            match facts.version {
                4 => match packet.get(16..).and_then(<[u8]>::first_chunk::<4>) {
                    Some(address) => v4.add(i, u32::from_be_bytes(*address)),
                    None => burst.decide(i, Verdict::Drop(DropReason::IpTruncated)),
                },
                6 => match packet.get(24..).and_then(<[u8]>::first_chunk::<16>) {
                    Some(address) => v6.add(i, *address),
                    None => burst.decide(i, Verdict::Drop(DropReason::IpTruncated)),
                },
                _ => burst.decide(i, Verdict::Drop(DropReason::NotIp)),
            }
        }
        // All lookups of a burst together: their cache misses overlap.
        let mut routes = [FibRoute::NONE; BURST];
        let tables = self.fib.tables();
        let ways = Ways { tables, ports: &self.ports, hash_key: &self.hash_key };
        if v4.count > 0 {
            tables.routes4(&v4.addresses[..v4.count], &mut routes[..v4.count]);
            ways.forward(burst, cx, &v4.packets[..v4.count], &routes, &mut self.answers);
        }
        if v6.count > 0 {
            tables.routes6(&v6.addresses[..v6.count], &mut routes[..v6.count]);
            ways.forward(burst, cx, &v6.packets[..v6.count], &routes, &mut self.answers);
        }
    }
}

/// The packets of one family, and the addresses to look up.
struct Lookups<A> {
    packets: [u8; BURST],
    addresses: [A; BURST],
    count: usize,
}

impl<A: Copy + Default> Default for Lookups<A> {
    #[inline]
    fn default() -> Self {
        Self { packets: [0; BURST], addresses: [A::default(); BURST], count: 0 }
    }
}

impl<A> Lookups<A> {
    #[inline]
    fn add(&mut self, packet: usize, address: A) {
        if let (Some(number), Some(slot)) =
            (self.packets.get_mut(self.count), self.addresses.get_mut(self.count))
        {
            (*number, *slot) = (packet as u8, address);
            self.count += 1;
        }
    }
}

/// Where routes lead, for one burst.
struct Ways<'a> {
    tables: FibTables<'a>,
    ports: &'a [PortFacts],
    hash_key: &'a HashKey,
}

impl Ways<'_> {
    #[inline]
    fn forward(
        &self,
        burst: &mut Burst,
        cx: &Cx<'_>,
        packets: &[u8],
        routes: &[FibRoute; BURST],
        answers: &mut Allowance,
    ) {
        for (&i, &route) in packets.iter().zip(routes) {
            let i = usize::from(i);
            let hash = if route.is_multipath() { self.flow_hash(burst, i) } else { 0 };
            let verdict = match self.tables.adjacency(route, hash) {
                Adjacency::Forward { port, mac } => match self.ports.get(usize::from(port)) {
                    Some(facts) => rewrite(burst, i, facts, mac).map(|()| Verdict::Transmit(PortId(port))),
                    None => Err(Answer::None(DropReason::NoSuchPort)),
                },
                Adjacency::Kernel | Adjacency::Local => Ok(Verdict::Punt),
                Adjacency::NoRoute => Err(Answer::Icmp(DropReason::NoRoute)),
                Adjacency::Unreachable => Err(Answer::Icmp(DropReason::Unreachable)),
                Adjacency::Prohibit => Err(Answer::Icmp(DropReason::Prohibited)),
                Adjacency::Blackhole => Err(Answer::None(DropReason::Blackhole)),
            };
            burst.decide(
                i,
                match verdict {
                    Ok(verdict) => verdict,
                    Err(Answer::Kernel) => Verdict::Punt,
                    Err(Answer::Icmp(_)) if answers.take(cx.now) => Verdict::Punt,
                    Err(Answer::Icmp(reason) | Answer::None(reason)) => Verdict::Drop(reason),
                },
            );
        }
    }

    #[cold]
    fn flow_hash(&self, burst: &mut Burst, i: usize) -> u32 {
        let l3 = usize::from(burst.facts(i).l3);
        let packet = burst.bytes(i).get(l3..).unwrap_or(&[]);
        // Behind a chain of extension headers that cannot be walked, the addresses must do.
        let key = FlowKey::of(packet).or_else(|_| {
            Ipv6::parse(packet)
                .map(|ip| FlowKey::v6((ip.source(), 0), (ip.destination(), 0), ip.next_header()))
        });
        let hash = key.map_or(0, |key| (key.hash(self.hash_key) >> 32) as u32);
        burst.facts_mut(i).hash = hash;
        hash
    }
}

/// What the sender of a packet that cannot be forwarded gets.
enum Answer {
    /// An ICMP error, from the kernel.
    Icmp(DropReason),
    /// Nothing: the kernel sends the packet on, in parts (RFC 1812 §5.2.6), or as its options say.
    Kernel,
    /// Nothing.
    None(DropReason),
}

/// Ages the packet and gives it its new Ethernet addresses.
#[inline]
fn rewrite(burst: &mut Burst, i: usize, output: &PortFacts, mac: [u8; 6]) -> Result<(), Answer> {
    let facts = *burst.facts(i);
    let bytes = burst.bytes_mut(i);
    let l3 = usize::from(facts.l3);
    let Some(packet) = bytes.get_mut(l3..) else { return Err(Answer::None(DropReason::IpTruncated)) };
    match facts.version {
        4 => age_v4(packet, output)?,
        _ => age_v6(packet, output)?,
    }
    let mut frame = EthernetMut::parse(bytes).map_err(|_| Answer::None(DropReason::EthernetTruncated))?;
    frame.set_destination(mac);
    frame.set_source(output.mac);
    Ok(())
}

const _: () = assert!(ethernet::HEADER_LEN == 14, "a punted packet is cut at l3, behind the Ethernet header");

#[inline]
fn age_v4(packet: &mut [u8], output: &PortFacts) -> Result<(), Answer> {
    let ip = Ipv4::parse(packet).map_err(|_| Answer::None(DropReason::IpTruncated))?;
    if ip.has_options() {
        return Err(Answer::Kernel);
    }
    if ip.ttl() <= 1 {
        return Err(Answer::Icmp(DropReason::TtlExpired));
    }
    if u32::from(ip.total_len()) > output.mtu {
        let answer = if ip.dont_fragment() { Answer::Icmp(DropReason::TooBig) } else { Answer::Kernel };
        return Err(answer);
    }
    if let Ok(mut ip) = Ipv4Mut::parse(packet) {
        let _ = ip.decrement_ttl();
    }
    Ok(())
}

#[inline]
fn age_v6(packet: &mut [u8], output: &PortFacts) -> Result<(), Answer> {
    let ip = Ipv6::parse(packet).map_err(|_| Answer::None(DropReason::IpTruncated))?;
    if ip.hop_limit() <= 1 {
        return Err(Answer::Icmp(DropReason::TtlExpired));
    }
    if u32::from(ip.payload_len()) + 40 > output.mtu {
        return Err(Answer::Icmp(DropReason::TooBig));
    }
    if let Ok(mut ip) = Ipv6Mut::parse(packet) {
        let _ = ip.decrement_hop_limit();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
