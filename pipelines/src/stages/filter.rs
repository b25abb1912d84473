//! `filter`: rules decide which packets go on.
//!
//! Owns its counters, in the stage's state, and how far it is from each rule's next sample. Expects packets that were parsed as
//! far as their transport; others it drops as not IP. Keeps true: the first rule that a packet meets counts, and rules that
//! end nothing are followed by those behind them, for the mark that they gave it.
//!
//! Packets whose connection's state alone decides, because the first rules ask for nothing else, are not classified.

mod compiled;
mod counters;

pub use compiled::Compiled;
pub use counters::{COUNTERS, Counted, state_size};

use std::sync::Arc;

use compiled::{Action, End};
use counters::Counters;
use zsync_packet::burst::{BURST, Bits, Burst, FlowState, Fragment};
use zsync_packet::header::protocol;
use zsync_packet::verdict::{DropReason, Verdict};

use crate::snapshot::PortFacts;
use crate::stage::{Cx, Stage};
use crate::stages::answer::{Answer, reply};
use crate::state::State;
use crate::tables::classify::{Keys, Subject, words};

/// See the module.
#[derive(Clone, Debug)]
pub struct Filter {
    compiled: Arc<Compiled>,
    state: Option<State>,
    counters: Counters,
    /// For each rule that samples, packets until the next one that meets it.
    waits: Vec<u32>,
    ports: Vec<PortFacts>,
}

impl Filter {
    /// By these rules; what is counted lies in `state`, or in memory of this process alone; `ports` by number.
    pub fn new(compiled: Arc<Compiled>, state: Option<State>, ports: Vec<PortFacts>) -> Self {
        let waits = vec![0; compiled.samples];
        let counters = Counters::open(None, &compiled.counters);
        Self { compiled, state, counters, waits, ports }
    }

    /// What its rules were made into.
    pub fn compiled(&self) -> &Arc<Compiled> {
        &self.compiled
    }

    /// What was counted by a name, by this worker: packets and bytes.
    pub fn count(&self, name: &str) -> Option<(u64, u64)> {
        self.counters.read(name)
    }

    /// What the rules see of packet `i`.
    fn subject(burst: &Burst, i: usize) -> Subject {
        let (facts, key) = (burst.facts(i), burst.key(i));
        let seen = Seen::of(burst, i);
        Subject {
            source: key.source(),
            destination: key.destination(),
            protocol: facts.protocol,
            ports: seen.has_ports.then(|| (key.source_port(), key.destination_port())),
            icmp: seen.icmp,
            tcp_flags: seen.tcp_flags,
            dscp: seen.dscp,
            vlan: (facts.vlan != 0).then_some(facts.vlan & 0xfff),
            mark: facts.mark,
            fragment: facts.fragment as u8,
            state: words::state(facts.state as u8),
            input: burst.port(i).0,
        }
    }

    /// Does what a rule says to packet `i`, and returns whether the rules behind it are to be asked.
    #[inline]
    fn act(&mut self, burst: &mut Burst, i: usize, action: Action, cx: &mut Cx<'_>) -> bool {
        if let Some(sample) = action.sample
            && let Some(wait) = self.waits.get_mut(usize::from(sample.place))
        {
            if *wait > 0 {
                *wait -= 1;
                return true;
            }
            *wait = sample.one_in.saturating_sub(1);
        }
        if let Some(counter) = action.count {
            self.counters.add(counter, burst.bytes(i).len());
        }
        if let Some((value, mask)) = action.mark {
            let facts = burst.facts_mut(i);
            facts.mark = (facts.mark & !mask) | value;
        }
        match action.end {
            End::Next => return true,
            End::Accept => {}
            End::Decide(verdict) => burst.decide(i, verdict),
            End::Reject => self.reject(burst, i, cx),
        }
        false
    }

    /// Tells the packet's sender that it was refused.
    #[cold]
    fn reject(&self, burst: &mut Burst, i: usize, cx: &mut Cx<'_>) {
        let answer = match burst.facts(i).protocol {
            protocol::TCP => Answer::Reset,
            protocol::UDP | protocol::UDP_LITE => Answer::PortUnreachable,
            _ => Answer::Prohibited,
        };
        let verdict = match self.ports.get(usize::from(burst.port(i).0)) {
            Some(port) => reply(burst, i, answer, port, DropReason::Rejected, cx),
            None => Verdict::Drop(DropReason::Rejected),
        };
        burst.decide(i, verdict);
    }
}

impl Stage for Filter {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let compiled = Arc::clone(&self.compiled);
        let mut waiting = burst.live();
        if compiled.decides_by_state {
            for i in Bits(waiting) {
                if let Some(place) = compiled.by_state[burst.facts(i).state as usize & 7] {
                    waiting &= !(1 << i);
                    if let Some(action) = compiled.actions.get(place as usize) {
                        self.act(burst, i, *action, cx);
                    }
                }
            }
        }
        if waiting == 0 {
            return;
        }
        let mut keys = Keys::default();
        let (mut v4, mut v6) = (Numbers::default(), Numbers::default());
        let bytes = compiled.classifier.asks_packet();
        for i in Bits(waiting) {
            match burst.key(i).version() {
                4 => v4.add(i),
                6 => v6.add(i),
                _ => {
                    burst.decide(i, Verdict::Drop(DropReason::NotIp));
                    continue;
                }
            }
            keys.0[i & (BURST - 1)] = key(burst, i, bytes);
        }
        compiled.classifier.look_up_sets(&mut keys, v4.all(), v6.all());
        let (mut from, mut found) = ([0u32; BURST], [0u32; BURST]);
        loop {
            compiled.classifier.classify_from(&keys, v4.all(), v6.all(), &from, &mut found);
            let (mut more4, mut more6) = (Numbers::default(), Numbers::default());
            for (packets, more) in [(&v4, &mut more4), (&v6, &mut more6)] {
                for &packet in packets.all() {
                    let i = usize::from(packet) & (BURST - 1);
                    let action = compiled.actions.get(found[i] as usize).copied().unwrap_or(compiled.default);
                    if self.act(burst, i, action, cx) {
                        from[i] = found[i].saturating_add(1);
                        keys.0[i] = words::with_mark(keys.0[i], burst.facts(i).mark);
                        more.add(i);
                    }
                }
            }
            if more4.all().is_empty() && more6.all().is_empty() {
                return;
            }
            (v4, v6) = (more4, more6);
        }
    }

    fn assign(&mut self, worker: usize) {
        let shard = self.state.as_ref().and_then(|state| state.shard(worker));
        self.counters = Counters::open(shard, &self.compiled.counters);
    }

    fn explain(&self, burst: &Burst, i: usize, _: u64, out: &mut Vec<String>) {
        let mut subject = Self::subject(burst, i);
        let mut from = 0;
        while let Some(place) = self.compiled.classifier.first(&subject, from) {
            let text = self.compiled.text(place);
            let action = self.compiled.actions.get(place).copied().unwrap_or(self.compiled.default);
            out.push(format!("rule {}: {text}", place + 1));
            // Whether a sample is due is the worker's to say.
            if action.end != End::Next && action.sample.is_none() {
                return;
            }
            if let (Some((value, mask)), None) = (action.mark, action.sample) {
                subject.mark = (subject.mark & !mask) | value;
            }
            from = place + 1;
        }
        out.push(format!("no further rule: {}", self.compiled.default_text()));
    }
}

/// What lies in the packet's bytes, or follows from its facts.
struct Seen {
    has_ports: bool,
    icmp: Option<(u8, u8)>,
    tcp_flags: u8,
    dscp: u8,
}

impl Seen {
    #[inline]
    fn of(burst: &Burst, i: usize) -> Self {
        let (facts, bytes) = (burst.facts(i), burst.bytes(i));
        let begins = facts.l4 != 0 && facts.fragment != Fragment::Later;
        let transport = if begins { bytes.get(usize::from(facts.l4)..).unwrap_or(&[]) } else { &[] };
        let is_icmp = (facts.version, facts.protocol) == (4, protocol::ICMP)
            || (facts.version, facts.protocol) == (6, protocol::ICMPV6);
        let icmp = transport.first_chunk::<2>().filter(|_| is_icmp).map(|[kind, code]| (*kind, *code));
        let tcp_flags = transport.get(13).copied().filter(|_| facts.protocol == protocol::TCP).unwrap_or(0);
        let dscp =
            match (facts.version, bytes.get(usize::from(facts.l3)..).and_then(<[u8]>::first_chunk::<2>)) {
                (4, Some([_, class])) => class >> 2,
                (_, Some([first, second])) => (first & 0xf) << 2 | second >> 6,
                (_, None) => 0,
            };
        Self { has_ports: has_ports(burst, i), icmp, tcp_flags, dscp }
    }
}

/// Whether the ports in the packet's key are its own: a later fragment has them only from its first.
#[inline]
fn has_ports(burst: &Burst, i: usize) -> bool {
    let (facts, key) = (burst.facts(i), burst.key(i));
    let known = facts.fragment == Fragment::Whole || key.source_port() != 0 || key.destination_port() != 0;
    known
        && matches!(
            facts.protocol,
            protocol::TCP | protocol::UDP | protocol::UDP_LITE | protocol::DCCP | protocol::SCTP
        )
}

/// The words of packet `i`; without what only its bytes say, unless somebody asks.
#[inline]
fn key(burst: &Burst, i: usize, bytes: bool) -> words::Key {
    let (facts, flow) = (burst.facts(i), burst.key(i));
    let ports = has_ports(burst, i);
    let mut meta =
        words::meta(facts.protocol, facts.state as u8, facts.fragment as u8, facts.vlan, burst.port(i).0);
    let [source_hi, source_lo, destination_hi, destination_lo, rest] = flow.words();
    let mut key = words::Key::default();
    if ports {
        meta |= words::HAS_PORTS;
        key[words::PORTS] = rest & 0xffff | (rest >> 16 & 0xffff) << 32;
    }
    if bytes {
        let seen = Seen::of(burst, i);
        meta |= words::packet(seen.tcp_flags, seen.dscp);
        if let Some((kind, code)) = seen.icmp {
            meta |= words::IS_TYPED;
            key[words::PORTS] = u64::from(u16::from_be_bytes([kind, code])) << 32;
        }
    }
    key[words::META] = meta;
    key[words::MARK] = u64::from(facts.mark);
    if flow.version() == 4 {
        // Mapped addresses (RFC 4291 §2.5.5.2): the lower half of the lower word.
        key[words::ADDRESS] = u64::from_be(source_lo) << 32 | u64::from_be(destination_lo) & 0xffff_ffff;
    } else {
        let [.., a, b, c, d] = &mut key;
        (*a, *b) = (u64::from_be(source_hi), u64::from_be(source_lo));
        (*c, *d) = (u64::from_be(destination_hi), u64::from_be(destination_lo));
    }
    key
}

const _: () =
    assert!(FlowState::Invalid as u8 == 4 && Fragment::Later as u8 == 2, "as the classifier has them");

/// Numbers of packets.
struct Numbers {
    numbers: [u8; BURST],
    count: usize,
}

impl Default for Numbers {
    #[inline]
    fn default() -> Self {
        Self { numbers: [0; BURST], count: 0 }
    }
}

impl Numbers {
    #[inline]
    fn add(&mut self, packet: usize) {
        if let Some(slot) = self.numbers.get_mut(self.count) {
            *slot = packet as u8;
            self.count += 1;
        }
    }

    #[inline]
    fn all(&self) -> &[u8] {
        self.numbers.get(..self.count).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests;
