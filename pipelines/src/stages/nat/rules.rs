//! The rules of a `nat` stage: for the first packet of a flow, what becomes of either end.
//!
//! Owns the compiled rules; state is asked through [`Translations`]. Refuses packets for which the rules want what cannot be
//! had, each with its reason: an untranslated packet never leaves where a translated one should. Keeps true: what is decided
//! depends on the packet's key, its input, the routes and the mappings alone.

use std::net::IpAddr;

use zsync_packet::flow::FlowKey;
use zsync_packet::header::protocol;
use zsync_packet::verdict::{DropReason, PortId};

use crate::spec::{Filtering, NatSpec, Prefix, Protocol};
use crate::tables::fib::Fib;
use crate::tables::nat::{Endpoint, PairError, Pool, PrefixPair, Range, Translations};

/// See the module.
#[derive(Clone, Debug)]
pub struct NatRules {
    pairs: Vec<(PrefixPair, Option<PortId>)>,
    forwards: Vec<Forward>,
    sources: Vec<SourceRule>,
    /// The addresses of the ports that masquerade: the host's own.
    own: Vec<IpAddr>,
    /// Addresses of pools, which are nobody's own.
    shared: Pool,
    filtering: Filtering,
    fib: Option<Fib>,
}

#[derive(Clone, Debug)]
struct Forward {
    /// None: any of the host's own.
    to: Option<IpAddr>,
    protocol: u8,
    ports: (u16, u16),
    target: IpAddr,
    target_port: u16,
}

#[derive(Clone, Debug)]
struct SourceRule {
    /// None: all.
    from: Vec<Range>,
    output: Option<PortId>,
    v4: Pool,
    v6: Pool,
}

/// The first packet of a flow.
#[derive(Clone, Copy, Debug)]
pub struct First<'a> {
    /// Its key.
    pub key: &'a FlowKey,
    /// Where it came in.
    pub input: PortId,
    /// Its ports are what tells its flow from others: not so for ICMP other than echoes, and for protocols without ports.
    pub has_ports: bool,
    /// When, in nanoseconds.
    pub now: u64,
}

/// How a destination was found to be an inside one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inward {
    /// By a rule.
    Rule,
    /// By somebody's mapping.
    Mapping,
}

impl NatRules {
    /// The rules of `spec`. `own` are the addresses of each port, by number; outputs are looked up in `fib`.
    ///
    /// # Errors
    /// A pair of prefixes that do not fit, with its place among the `static` and then the `prefix` ones.
    pub fn new(spec: &NatSpec, own: &[Vec<IpAddr>], fib: Option<Fib>) -> Result<Self, (usize, PairError)> {
        let port = |port: crate::spec::PortId| PortId(port.0);
        let exact =
            spec.fixed.iter().map(|pair| (PrefixPair::exact(pair.internal, pair.external), pair.output));
        let neutral =
            spec.prefix.iter().map(|pair| (PrefixPair::neutral(pair.internal, pair.external), pair.output));
        let mut pairs = Vec::new();
        for (place, (pair, output)) in exact.chain(neutral).enumerate() {
            pairs.push((pair.map_err(|error| (place, error))?, output.map(port)));
        }
        let ranges = |prefixes: &[Prefix]| prefixes.iter().map(|prefix| Range::of(*prefix)).collect();
        let family = |prefixes: &[Prefix], v4: bool| {
            Pool::new(prefixes.iter().copied().filter(|prefix| prefix.addr().is_ipv4() == v4))
        };
        let mut sources = Vec::new();
        for rule in &spec.snat {
            sources.push(SourceRule {
                from: ranges(&rule.from),
                output: rule.output.map(port),
                v4: family(&rule.to, true),
                v6: family(&rule.to, false),
            });
        }
        let mut all_own = Vec::new();
        for rule in &spec.masquerade {
            let addresses = own.get(usize::from(rule.output.0)).map_or(&[][..], Vec::as_slice);
            // The first of each family is the one that the kernel takes for what it sends itself.
            let first = |v4: bool| {
                addresses
                    .iter()
                    .find(|address| address.is_ipv4() == v4)
                    .map_or_else(Pool::default, |address| Pool::single(*address))
            };
            sources.push(SourceRule {
                from: ranges(&rule.from),
                output: Some(port(rule.output)),
                v4: first(true),
                v6: first(false),
            });
            all_own.extend_from_slice(addresses);
        }
        let forwards = spec.forward.iter().map(|forward| Forward {
            to: forward.to,
            protocol: match forward.service.protocol() {
                Protocol::Tcp => protocol::TCP,
                Protocol::Udp => protocol::UDP,
            },
            ports: (forward.service.port(), forward.last),
            target: forward.target,
            target_port: forward.target_port,
        });
        Ok(Self {
            pairs,
            forwards: forwards.collect(),
            sources,
            own: all_own,
            shared: Pool::new(spec.snat.iter().flat_map(|rule| rule.to.iter().copied())),
            filtering: spec.filtering,
            fib,
        })
    }

    /// Whether an address stands for others here.
    #[inline]
    pub fn ours(&self, address: IpAddr) -> bool {
        self.shared.contains(address)
            || self.own.contains(&address)
            || self.pairs.iter().any(|(pair, _)| pair.external().contains(address))
    }

    /// Whether this external end belongs to a rule, so that no mapping may have it.
    pub fn is_reserved(&self, external: &Endpoint) -> bool {
        self.forwarded(external).is_some()
            || self.pairs.iter().any(|(pair, _)| pair.external().contains(external.address()))
    }

    /// The key that the first packet of a flow leaves with; `None`: as it is.
    ///
    /// # Errors
    /// Why it cannot be let through.
    pub fn decide(
        &self,
        first: &First<'_>,
        state: Option<&Translations>,
    ) -> Result<Option<FlowKey>, DropReason> {
        let (source, destination) = (Endpoint::source(first.key), Endpoint::destination(first.key));
        // Nobody but us sends from there, and then the packet does not come in.
        if self.ours(source.address()) {
            return Err(DropReason::MartianSource);
        }
        let inward = self.inward(&source, &destination, first, state)?;
        let target = inward.map_or(destination, |(end, _)| end);
        let outward = self.outward(&source, &target, inward.map(|(_, how)| how), first, state)?;
        if inward.is_none() && outward.is_none() {
            return Ok(None);
        }
        let from = outward.unwrap_or(source);
        // An echo has its identifier as both ports.
        let echo = matches!(from.protocol(), protocol::ICMP | protocol::ICMPV6);
        Ok(Some(from.to(&if echo { target.with_port(from.port()) } else { target })))
    }

    /// In words, what a flow that begins with this packet meets. Asks, and changes nothing.
    pub fn explain(&self, first: &First<'_>, state: Option<&Translations>) -> String {
        let (source, destination) = (Endpoint::source(first.key), Endpoint::destination(first.key));
        if self.ours(source.address()) {
            return format!("{} stands for others: nobody sends from it", source.address());
        }
        if let Some(target) = self.forwarded(&destination) {
            return format!("a forward to {}, port {}", target.address(), target.port());
        }
        for (pair, _) in &self.pairs {
            if let Some(inside) = pair.inside(destination.address()) {
                return format!("{} stands for {inside}", destination.address());
            }
            if let Some(outside) = pair.outside(source.address()) {
                return format!("{} is {outside} outside", source.address());
            }
        }
        if self.ours(destination.address()) {
            return match state.and_then(|state| state.mappings.find_external(&destination)) {
                Some(mapping) => format!(
                    "an end of {}, port {}; filtering: {:?}",
                    mapping.internal.address(),
                    mapping.internal.port(),
                    self.filtering
                ),
                None => "an address that stands for others, and no mapping for this port".to_owned(),
            };
        }
        let output = self.output(destination.address());
        let from = |rule: &&SourceRule| {
            rule.from.is_empty() || rule.from.iter().any(|range| range.contains(source.address()))
        };
        let leaves = |rule: &&SourceRule| rule.output.is_none() || rule.output == output;
        let comes = |rule: &&SourceRule| rule.output != Some(first.input);
        match self.sources.iter().filter(from).filter(leaves).find(comes) {
            Some(_) => match state.and_then(|state| state.mappings.find_internal(&source, |_| true)) {
                Some(mapping) => format!(
                    "an address is shared; it has {}, port {}",
                    mapping.external.address(),
                    mapping.external.port()
                ),
                None => "an address is shared; it has no port yet".to_owned(),
            },
            None => "no rule".to_owned(),
        }
    }

    /// Where a destination leads, if it is one of ours.
    fn inward(
        &self,
        source: &Endpoint,
        destination: &Endpoint,
        first: &First<'_>,
        state: Option<&Translations>,
    ) -> Result<Option<(Endpoint, Inward)>, DropReason> {
        let address = destination.address();
        if let Some((pair, _)) = self.pairs.iter().find(|(pair, _)| pair.external().contains(address)) {
            let inside = pair.inside(address).ok_or(DropReason::NatPrefix)?;
            return Ok(Some((destination.with_address(inside), Inward::Rule)));
        }
        if let Some(target) = self.forwarded(destination) {
            return Ok(Some((target, Inward::Rule)));
        }
        let own = self.own.contains(&address);
        if !own && !self.shared.contains(address) {
            return Ok(None);
        }
        // What is for the host itself, or for nobody, is for the kernel where the address is the host's.
        let nobody = |reason| if own { Ok(None) } else { Err(reason) };
        // Echoes from outside are for the host: a mapping of an identifier is for the answers alone.
        let echo = matches!(destination.protocol(), protocol::ICMP | protocol::ICMPV6);
        let Some(state) = state.filter(|_| first.has_ports && !echo) else {
            return nobody(DropReason::NatNoMapping);
        };
        let Some(mapping) = state.mappings.find_external(destination) else {
            return nobody(DropReason::NatNoMapping);
        };
        let lets_in = match self.filtering {
            Filtering::Endpoint => true,
            Filtering::Address => {
                state.peers.as_ref().is_some_and(|peers| peers.contains(destination, source))
            }
            Filtering::AddressAndPort => false,
        };
        if !lets_in {
            return nobody(DropReason::NatFiltered);
        }
        Ok(state
            .internal(destination)
            .filter(|end| *end == mapping.internal)
            .map(|end| (end, Inward::Mapping)))
    }

    /// What a source is outside, if the packet goes there.
    fn outward(
        &self,
        source: &Endpoint,
        target: &Endpoint,
        inward: Option<Inward>,
        first: &First<'_>,
        state: Option<&Translations>,
    ) -> Result<Option<Endpoint>, DropReason> {
        let address = source.address();
        let mut output = None;
        let mut leaves_by =
            |port: Option<PortId>| *output.get_or_insert_with(|| self.output(target.address())) == port;
        // To one of ours: the answers must come back here. They do by themselves, unless both ends are on one port.
        let hairpin = match inward {
            None => false,
            Some(Inward::Mapping) => true,
            Some(Inward::Rule) => leaves_by(Some(first.input)),
        };
        if let Some((pair, port)) = self.pairs.iter().find(|(pair, _)| pair.internal().contains(address)) {
            let among_themselves = inward.is_none()
                && self.pairs.iter().any(|(pair, _)| pair.internal().contains(target.address()));
            let leaves = match port {
                Some(port) => leaves_by(Some(*port)),
                None => inward.is_none() && !among_themselves,
            };
            if hairpin || leaves {
                let outside = pair.outside(address).ok_or(DropReason::NatPrefix)?;
                return Ok(Some(source.with_address(outside)));
            }
            return Ok(None);
        }
        let Some(rule) = self.sources.iter().find(|rule| {
            let from = rule.from.is_empty() || rule.from.iter().any(|range| range.contains(address));
            from && rule.output != Some(first.input)
                && (hairpin
                    || match rule.output {
                        Some(port) => leaves_by(Some(port)),
                        None => inward.is_none(),
                    })
        }) else {
            return Ok(None);
        };
        let pool = if address.is_ipv4() { &rule.v4 } else { &rule.v6 };
        let Some(state) = state.filter(|_| first.has_ports) else {
            return Err(DropReason::NatUntranslatable);
        };
        let external = state
            .map(source, pool, first.now, |end| self.is_reserved(end))
            .map_err(|_| DropReason::NatNoPort)?;
        if let Some(peers) = &state.peers {
            peers.hold(&external, target, state.round());
        }
        Ok(Some(external))
    }

    /// Where a forward leads.
    fn forwarded(&self, destination: &Endpoint) -> Option<Endpoint> {
        let (address, port) = (destination.address(), destination.port());
        let forward = self.forwards.iter().find(|forward| {
            destination.protocol() == forward.protocol
                && (forward.ports.0..=forward.ports.1).contains(&port)
                && forward.target.is_ipv4() == address.is_ipv4()
                && match forward.to {
                    Some(to) => to == address,
                    None => self.own.contains(&address),
                }
        })?;
        let port = forward.target_port.wrapping_add(port - forward.ports.0);
        Some(destination.with_address(forward.target).with_port(port))
    }

    /// Whether an end is what a forward leads to.
    pub(super) fn is_target(&self, end: &Endpoint) -> bool {
        self.forwards.iter().any(|forward| {
            let span = forward.ports.1.saturating_sub(forward.ports.0);
            forward.target == end.address()
                && forward.protocol == end.protocol()
                && end.port().wrapping_sub(forward.target_port) <= span
        })
    }

    /// The internal address that a packet's owner is chosen by: for one from outside, the one that it leads to. `Err`: by this
    /// external port.
    pub(super) fn internal_side(&self, key: &FlowKey, input: PortId) -> Option<Result<IpAddr, u16>> {
        let (source, destination) = (Endpoint::source(key), Endpoint::destination(key));
        let to = destination.address();
        if let Some(inside) = self.pairs.iter().find_map(|(pair, _)| pair.inside(to)) {
            return Some(Ok(inside));
        }
        if let Some(target) = self.forwarded(&destination) {
            return Some(Ok(target.address()));
        }
        if self.own.contains(&to) || self.shared.contains(to) {
            return Some(Err(destination.port()));
        }
        let from = source.address();
        let paired = self.pairs.iter().any(|(pair, _)| pair.internal().contains(from));
        if paired || self.is_target(&source) {
            return Some(Ok(from));
        }
        let mut output = None;
        let shares = self.sources.iter().any(|rule| {
            (rule.from.is_empty() || rule.from.iter().any(|range| range.contains(from)))
                && rule.output != Some(input)
                && (rule.output.is_none() || *output.get_or_insert_with(|| self.output(to)) == rule.output)
        });
        shares.then_some(Ok(from))
    }

    /// What becomes of a packet of no flow, by the pairs of prefixes alone.
    ///
    /// # Errors
    /// Rules want more than that.
    pub fn decide_alone(&self, key: &FlowKey, input: PortId) -> Result<Option<FlowKey>, DropReason> {
        self.decide(&First { key, input, has_ports: false, now: 0 }, None)
    }

    /// What the packet that an error quotes was, by the pairs of prefixes alone: its source outside was inside, or its
    /// destination inside was outside.
    pub fn quoted_alone(&self, quoted: &FlowKey) -> Option<FlowKey> {
        let (source, destination) = (Endpoint::source(quoted), Endpoint::destination(quoted));
        let inside = self.pairs.iter().find_map(|(pair, _)| pair.inside(source.address()));
        let outside = self.pairs.iter().find_map(|(pair, _)| pair.outside(destination.address()));
        if inside.is_none() && outside.is_none() {
            return None;
        }
        let end = |end: Endpoint, address: Option<IpAddr>| address.map_or(end, |to| end.with_address(to));
        Some(end(source, inside).to(&end(destination, outside)))
    }

    /// The port that packets to `address` leave by.
    fn output(&self, address: IpAddr) -> Option<PortId> {
        let fib = self.fib.as_ref()?;
        let route = match address {
            IpAddr::V4(v4) => fib.route4(v4.to_bits()),
            IpAddr::V6(v6) => fib.route6(&v6.octets()),
        };
        fib.tables().output(route, 0).map(PortId)
    }
}
