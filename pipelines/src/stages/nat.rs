//! `nat`: addresses and ports are translated, IPv4 and IPv6 alike.
//!
//! Stands behind `track` and ahead of `route`. A flow is decided about once, at its first packet:
//!
//! 1. **The destination.** An external address of a `static` or `prefix` pair leads to its counterpart, a `forward` to its target,
//!    and an end that a client uses to that client, if the filtering lets the sender in (RFC 4787 §5). What else comes to an
//!    address of a pool is dropped; what else comes to an address of the host goes on to the kernel.
//! 2. **The source.** A pair's internal address becomes its counterpart; otherwise the first rule counts of `snat`, then of
//!    `masquerade`, whose `from` has the source, whose `output` is the port that the destination is routed by, and by which the
//!    packet did not come in. A client keeps one external end for each of its own, whomever it talks to (RFC 4787 §4.1, RFC 5382
//!    §4, RFC 5508 §3).
//! 3. **Hairpin** (RFC 4787 §6, RFC 5382 §7): a packet from inside to an end outside that leads inside again gets an external
//!    source, if the destination is a client's mapping, or lies behind the same port as the source.
//!
//! What follows is rewritten as the flow's keys say, without any lookup, and ICMP errors inside and out. With several workers,
//! the client that hairpins to another worker's client is seen with an end of that worker's ports.
//!
//! A packet that should be translated and cannot be is dropped, never let through as it is: `nat-no-port`,
//! `nat-untranslatable` (no ports, an authentication header), `nat-prefix`. Nobody may send *from* an address that stands for
//! others: `martian-source`.
//!
//! A port's address that changes takes its mappings and flows with it, within a few seconds; so does a pool's that is taken out.

pub mod owner;
pub mod rules;

use std::net::IpAddr;

use zsync_packet::burst::Burst;
use zsync_packet::facts::{Facts, FlowState, Fragment};
use zsync_packet::flow::{FlowKey, HashKey};
use zsync_packet::header::{Icmp, Icmpv6, Ipv4, Ipv6, protocol};
use zsync_packet::rewrite::{self, Untranslatable};
use zsync_packet::verdict::{DropReason, Verdict};

use crate::spec::{Filtering, NatSpec};
use crate::stage::{Chore, Cx, Stage};
use crate::state::{State, StateSize};
use crate::tables::fib::Fib;
use crate::tables::flow::{FlowId, Flows, Shards};
use crate::tables::nat::{NatLayout, NatView, PairError, Ports, Translations};
pub use owner::{Owners, of_host};
use rules::{First, NatRules};

/// Ports of a block by which workers share them out, where clients have no blocks.
const SHARE: u16 = 64;

/// See the module.
#[derive(Clone, Debug)]
pub struct Nat {
    rules: NatRules,
    memory: Memory,
    /// This worker's flows and mappings: none before it is [assigned](Stage::assign) one.
    flows: Option<Flows>,
    state: Option<Translations>,
    /// Whether it has begun to work on them.
    started: bool,
}

/// Where all workers' flows and mappings are.
#[derive(Clone, Debug)]
struct Memory {
    spec: NatSpec,
    flows: Option<Shards>,
    own: Option<State>,
    hash_key: HashKey,
}

impl Memory {
    fn flows_of(&self, worker: usize) -> Option<Flows> {
        self.flows.as_ref()?.worker(worker)
    }

    fn mappings_of(&self, worker: usize) -> Option<Translations> {
        let own = self.own.as_ref()?;
        let ports = ports(&self.spec, (worker as u8, own.workers() as u8));
        let per_client = self.spec.blocks_per_client;
        Translations::open(&own.shard(worker)?, layout(&self.spec), ports, per_client, self.hash_key.clone())
    }
}

/// What a `nat` stage works with, beside its configuration.
#[derive(Clone, Debug)]
pub struct NatResources<'a> {
    /// The addresses of each port, by number.
    pub own: &'a [Vec<IpAddr>],
    /// The routes of the table that the configuration names.
    pub fib: Option<Fib>,
    /// The flows of the `track` stage ahead; where only prefixes are paired, there need be none.
    pub flows: Option<Shards>,
    /// Memory of [`size`], where that says any.
    pub state: Option<State>,
    /// The secret of this boot.
    pub hash_key: HashKey,
}

/// Why a `nat` stage cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NatError {
    /// Two prefixes that cannot be translated into each other.
    #[error("pair {place} of `static` and `prefix`: {error}")]
    Pair {
        /// Which, counted from 0 over both lists.
        place: usize,
        /// What is wrong with it.
        error: PairError,
    },
    /// Another pipeline has the stage behind other flows.
    #[error(
        "the stage stands behind another `track` stage elsewhere: ends that it maps are held by flows of one"
    )]
    OtherFlows,
    /// No flows, or no memory of the right size, for what needs them.
    #[error(
        "the stage shares addresses, which takes a flow table and {bytes} bytes of memory of this layout"
    )]
    NoState {
        /// Bytes of memory that it takes.
        bytes: usize,
    },
}

/// What the memory of one worker must have room for; nothing when the stage only pairs prefixes.
pub fn layout(spec: &NatSpec) -> NatLayout {
    if !spec.needs_flows() {
        return NatLayout::default();
    }
    let blocks = if spec.block == 0 { 0 } else { (spec.mappings / 4).max(64) };
    NatLayout {
        mappings: spec.mappings,
        blocks,
        peers: if spec.filtering == Filtering::Address { spec.mappings } else { 0 },
        log: blocks.min(65_536),
    }
}

/// What the stage keeps: nothing when it only pairs prefixes.
pub fn size(spec: &NatSpec) -> Option<StateSize> {
    spec.needs_flows().then(|| StateSize { shared: 0, each: layout(spec).bytes() })
}

/// What a worker keeps, for whoever looks at it from another process; nothing when the stage only pairs prefixes.
pub fn view(spec: &NatSpec, state: &State, worker: usize) -> Option<NatView> {
    spec.needs_flows().then(|| NatView::open(&state.shard(worker)?, layout(spec)))?
}

/// How a worker of several shares external ports.
pub fn ports(spec: &NatSpec, (worker, workers): (u8, u8)) -> Ports {
    let size = if spec.block == 0 { SHARE } else { spec.block };
    Ports::new(size, spec.ports.0..=spec.ports.1, worker, workers)
}

impl Nat {
    /// The stage of this configuration, of no worker yet.
    ///
    /// # Errors
    /// Prefixes do not fit, or state is missing.
    pub fn new(spec: &NatSpec, with: NatResources<'_>) -> Result<Self, NatError> {
        let rules = NatRules::new(spec, with.own, with.fib)
            .map_err(|(place, error)| NatError::Pair { place, error })?;
        let NatResources { flows, state: own, hash_key, .. } = with;
        let memory = Memory { spec: spec.clone(), flows, own, hash_key };
        if spec.needs_flows() {
            let workers = memory.own.as_ref().map_or(1, State::workers);
            let opens = |worker| memory.flows_of(worker).is_some() && memory.mappings_of(worker).is_some();
            if !(0..workers).all(opens) {
                return Err(NatError::NoState { bytes: layout(spec).bytes() });
            }
        }
        Ok(Self { rules, memory, flows: None, state: None, started: false })
    }

    /// Which worker's a packet is, for the front of the pipeline; nothing to ask where only prefixes are paired.
    pub fn owners(&self) -> Option<Owners> {
        let Memory { spec, own, hash_key, .. } = &self.memory;
        let workers = own.as_ref()?.workers() as u8;
        Some(Owners::new(self.rules.clone(), ports(spec, (0, workers)), hash_key.clone(), workers))
    }

    /// Its mappings and blocks, to look at.
    pub fn state(&self) -> Option<&Translations> {
        self.state.as_ref()
    }

    /// The first thing that a worker does with its memory.
    #[inline]
    fn start(&mut self) {
        if let Some(state) = self.state.as_ref().filter(|_| !self.started) {
            state.start();
            self.started = true;
        }
    }

    /// The first packet of a flow, or one of a flow that no rule is about: the key that it leaves with.
    #[cold]
    fn open(
        &self,
        burst: &Burst,
        i: usize,
        id: FlowId,
        flows: &Flows,
        now: u64,
    ) -> Result<Option<FlowKey>, DropReason> {
        let (key, facts) = (burst.key(i), burst.facts(i));
        let first = First {
            key,
            input: burst.port(i),
            has_ports: has_ports(burst.bytes(i), facts, key),
            hash: facts.hash,
            now,
        };
        let Some(to) = self.rules.decide(&first, self.state.as_ref())? else { return Ok(None) };
        // Who is refused leaves no flow behind: `Track::settle` sees the packet dropped.
        flows.translate(id, &to.reversed()).map_err(|_| DropReason::NatNoPort)?;
        Ok(Some(to))
    }

    /// A packet of no flow.
    #[cold]
    fn alone(&self, burst: &mut Burst, i: usize) -> Result<(), DropReason> {
        let (facts, key) = (*burst.facts(i), *burst.key(i));
        if let Some(quoted) = quoted(burst.bytes(i), &facts)
            && let Some(to) = self.rules.quoted_alone(&quoted)
        {
            rewrite::translate_error(burst.bytes_mut(i), &facts, &to).map_err(reason)?;
            renew_key(burst, i);
            return Ok(());
        }
        let invalid = |reason| match (reason, facts.state) {
            (DropReason::NatUntranslatable, FlowState::Invalid) => DropReason::Invalid,
            (reason, _) => reason,
        };
        match self.rules.decide_alone(&key, burst.port(i)).map_err(invalid)? {
            Some(to) => write(burst, i, &facts, to),
            None => Ok(()),
        }
    }

    /// A packet of a flow.
    #[inline]
    fn follow(
        &self,
        burst: &mut Burst,
        i: usize,
        id: FlowId,
        flows: &Flows,
        now: u64,
    ) -> Result<(), DropReason> {
        let facts = *burst.facts(i);
        // A packet behind it may have taken its flow's place.
        let related = facts.state == FlowState::Related;
        let is_it = if related {
            quoted(burst.bytes(i), &facts).and_then(|quoted| flows.is_it(id, &quoted.reversed()))
        } else {
            flows.is_it(id, burst.key(i))
        };
        if is_it != Some(facts.reply) {
            return Err(if related { DropReason::IcmpUnrelated } else { DropReason::FlowTableFull });
        }
        let Some(reply) = flows.translation(id) else {
            if facts.state == FlowState::New
                && !facts.reply
                && let Some(to) = self.open(burst, i, id, flows, now)?
            {
                write(burst, i, &facts, to)?;
            }
            return Ok(());
        };
        if related {
            // It goes to whoever sent what it quotes.
            let to = if facts.reply { flows.original(id) } else { reply };
            rewrite::translate_error(burst.bytes_mut(i), &facts, &to).map_err(reason)?;
            renew_key(burst, i);
            return Ok(());
        }
        write(burst, i, &facts, if facts.reply { flows.original(id).reversed() } else { reply.reversed() })
    }
}

impl Stage for Nat {
    fn assign(&mut self, worker: usize) {
        (self.flows, self.state) = (self.memory.flows_of(worker), self.memory.mappings_of(worker));
        self.started = false;
    }

    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        self.start();
        if let Some(flows) = &self.flows {
            // All translations of a burst together: their cache misses overlap.
            for id in burst.undecided().filter_map(|i| FlowId::from_fact(burst.facts(i).flow)) {
                flows.prefetch_translation(id);
            }
        }
        for i in burst.undecided() {
            let id = FlowId::from_fact(burst.facts(i).flow);
            let done = match (id, &self.flows) {
                (Some(id), Some(flows)) => self.follow(burst, i, id, flows, cx.now),
                _ => self.alone(burst, i),
            };
            if let Err(reason) = done {
                burst.decide(i, Verdict::Drop(reason));
            }
        }
    }

    fn explain(&self, burst: &Burst, i: usize, now: u64, out: &mut Vec<String>) {
        let (key, facts) = (burst.key(i), burst.facts(i));
        if let Some((id, flows)) = FlowId::from_fact(facts.flow).zip(self.flows.as_ref())
            && let Some(reply) = flows.translation(id)
        {
            out.push(format!("flow {:?} answered by {reply:?}", flows.original(id)));
            return;
        }
        let first = First {
            key,
            input: burst.port(i),
            has_ports: has_ports(burst.bytes(i), facts, key),
            hash: facts.hash,
            now,
        };
        out.push(self.rules.explain(&first, self.state.as_ref()));
    }

    fn chore(&self) -> Option<Chore> {
        Some(Chore::sliced("mappings to be taken back"))
    }

    fn tend(&mut self, now: u64) -> bool {
        self.start();
        if let (Some(state), Some(flows)) = (&self.state, &self.flows) {
            let rules = &self.rules;
            state.slice(flows, now, |address| rules.ours(address), |external| rules.is_mapped(external));
        }
        false
    }
}

/// Whether a packet's ports tell its flow from others: an echo's identifier does, other ICMP has none.
fn has_ports(bytes: &[u8], facts: &Facts, key: &FlowKey) -> bool {
    let transport = || bytes.get(usize::from(facts.l4)..).filter(|_| facts.l4 != 0).unwrap_or(&[]);
    match key.protocol() {
        protocol::TCP | protocol::UDP | protocol::UDP_LITE | protocol::DCCP | protocol::SCTP => {
            facts.fragment == Fragment::Whole || (key.source_port(), key.destination_port()) != (0, 0)
        }
        protocol::ICMP => Icmp::parse(transport()).is_ok_and(|message| message.is_echo()),
        protocol::ICMPV6 => Icmpv6::parse(transport()).is_ok_and(|message| message.is_echo()),
        _ => false,
    }
}

/// The key of the packet that an ICMP error quotes.
pub(crate) fn quoted(bytes: &[u8], facts: &Facts) -> Option<FlowKey> {
    let message = bytes.get(usize::from(facts.l4)..).filter(|_| facts.l4 != 0)?;
    let quoted = match (facts.version, facts.protocol) {
        (4, protocol::ICMP) => Icmp::parse(message).ok()?.quoted()?,
        (6, protocol::ICMPV6) => Icmpv6::parse(message).ok()?.quoted()?,
        _ => return None,
    };
    match facts.version {
        4 => {
            let ip = Ipv4::parse_quoted(quoted).ok()?;
            let (from, to) = own_ports(ip.protocol(), ip.payload());
            Some(FlowKey::v4((ip.source(), from), (ip.destination(), to), ip.protocol()))
        }
        _ => {
            let ip = Ipv6::parse_quoted(quoted).ok()?;
            let (protocol, payload) = ip
                .upper()
                .map_or((protocol::NO_NEXT_HEADER, &[][..]), |upper| (upper.protocol(), upper.payload()));
            let (from, to) = own_ports(protocol, payload);
            Some(FlowKey::v6((ip.source(), from), (ip.destination(), to), protocol))
        }
    }
}

/// The ports that a transport header has, or twice the identifier of an echo, whether its packet is whole or not.
fn own_ports(protocol: u8, transport: &[u8]) -> (u16, u16) {
    let word = |at: usize| match transport.get(at..) {
        Some([a, b, ..]) => u16::from_be_bytes([*a, *b]),
        _ => 0,
    };
    match protocol {
        protocol::ICMP | protocol::ICMPV6 => (word(4), word(4)),
        _ => (word(0), word(2)),
    }
}

/// Rewrites a packet, whose key is to be `to`.
#[inline]
fn write(burst: &mut Burst, i: usize, facts: &Facts, to: FlowKey) -> Result<(), DropReason> {
    let bytes = burst.bytes_mut(i);
    let done = if facts.fragment == Fragment::First && (to.source_port(), to.destination_port()) == (0, 0) {
        // Nobody has put the datagram together, so its key has no ports: those that it has stay.
        let (from, at) = own_ports(facts.protocol, bytes.get(usize::from(facts.l4)..).unwrap_or(&[]));
        rewrite::translate(bytes, facts, &to.with_ports(from, at))
    } else {
        rewrite::translate(bytes, facts, &to)
    };
    done.map_err(reason)?;
    burst.set_key(i, to);
    Ok(())
}

/// The key of an error is that of its new addresses.
fn renew_key(burst: &mut Burst, i: usize) {
    let l3 = usize::from(burst.facts(i).l3);
    if let Some(Ok(key)) = burst.bytes(i).get(l3..).map(FlowKey::of) {
        burst.set_key(i, key);
    }
}

fn reason(error: Untranslatable) -> DropReason {
    match error {
        Untranslatable::Truncated => DropReason::TransportTruncated,
        _ => DropReason::NatUntranslatable,
    }
}

#[cfg(test)]
mod tests;
