//! What a packet would meet: asked by people, answered by the stages themselves.
//!
//! Owns nothing that lives: the snapshot is compiled anew, the routes are read where the workers read them, and what stages
//! keep is a private copy of theirs. So nothing that is found here changes anything for a packet. Refuses packets that cannot
//! be read; a capture beyond [`MOST`] packets is answered so far.

pub use zsync_pipelines::trace::text::PacketText;

use crate::api::{Explain, ExplainedPacket, ExplainedStep};
use crate::daemon::mirror;
use crate::netlink::links_now;
use std::collections::HashMap;
use std::net::IpAddr;
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::header::{Ethernet, Ipv4, Ipv6, VlanTag, ether_type, ethernet};
use zsync_packet::pool::Pool;
use zsync_packet::verdict::{HERE, PortId, Verdict};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{AnyStage, PortFacts, Snapshot};
use zsync_pipelines::spec::wireguard::stand_in;
use zsync_pipelines::spec::{self, Spec};
use zsync_pipelines::stage::{Cx, EXTRA, Extra};
use zsync_pipelines::stages::vlan::wire;
use zsync_pipelines::tables::fib::{Adjacency, Fib};
use zsync_pipelines::trace::{Place, Step, Trace, trace};

/// Packets of a capture that are explained: more than anybody reads.
pub const MOST: usize = 1000;

/// A packet to explain.
#[derive(Clone, Debug)]
pub enum Subject {
    /// Said in words.
    Text(PacketText),
    /// A frame of a capture.
    Frame(Vec<u8>),
}

/// Explains under a configuration that is not in force: with the routes, neighbours and devices that this host's kernel has
/// now, and stages that have seen nothing yet. Secret keys that were not read need not be there.
///
/// # Errors
/// As [`explain`]; and what of the kernel could not be read.
pub fn offline(mut spec: Spec, question: &Explain) -> Result<Vec<ExplainedPacket>, String> {
    stand_in(&mut spec);
    let spec = &spec;
    let words = |error: anyhow::Error| format!("{error:#}");
    let links = links_now().map_err(|error| error.to_string())?;
    let mut numbers = HashMap::new();
    let mut ports = vec![PortFacts { mtu: 1500, ..PortFacts::default() }; spec.ports.len()];
    for port in &spec.ports {
        if let Some(facts) = ports.get_mut(usize::from(port.id.0)) {
            facts.of_host = port.tun.is_some();
        }
        let Some(link) = links.iter().find(|link| link.name == port.netdev) else { continue };
        numbers.insert(link.ifindex, port.id.0);
        if let Some(facts) = ports.get_mut(usize::from(port.id.0)) {
            (facts.mac, facts.mtu) = (link.mac.unwrap_or_default(), link.mtu);
        }
    }
    let devices = spec.vlans.iter().filter_map(|vlan| Some((vlan, vlan.netdev.as_deref()?)));
    for (vlan, netdev) in devices {
        if let Some(link) = links.iter().find(|link| link.name == netdev) {
            numbers.entry(link.ifindex).or_insert(vlan.id.0);
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let routes = runtime.block_on(mirror(spec, &numbers)).map_err(words)?;
    for (ifindex, port) in &numbers {
        if let (Some(first), Some(facts)) = (routes.first(), ports.get_mut(usize::from(*port))) {
            (facts.v4, facts.v6) = first.netlink().mirror().sources(*ifindex);
        }
    }
    let with = Resources {
        ports,
        fibs: routes.iter().map(|routes| (routes.table, routes.writer().reader())).collect(),
        hash_key: HashKey::from_seed(0),
        workers: 1,
        states: [].into(),
    };
    explain(spec, &with, question.input.as_deref(), &question.subjects()?, 1)
}

/// Explains each packet under `spec`, as if it came in at the port called `input`, or that it names itself; without a name, at
/// the port that its source is routed to, or else the first that has a pipeline. A port that is a VLAN gets its packets by the
/// port with the device, with its tag. `now` is the time of the workers' clock, nanoseconds.
///
/// # Errors
/// The configuration does not compile with what there is, no port fits, or there is no memory.
pub fn explain(
    spec: &Spec,
    with: &Resources,
    input: Option<&str>,
    subjects: &[Subject],
    now: u64,
) -> Result<Vec<ExplainedPacket>, String> {
    let mut snapshot = compile(spec, 0, with).map_err(|error| error.to_string())?;
    snapshot.assign(0);
    let mut pool =
        Pool::heap(FrameSize::K4, EXTRA as u32 + 2, 1).map_err(|error| error.to_string())?.remove(0);
    let mut extra = Extra::new();
    let mut explained = Vec::new();
    for subject in subjects.iter().take(MOST) {
        let mut subject = subject.clone();
        let continued = match &mut subject {
            Subject::Text(text) => go_on(&mut snapshot, with.workers, text, now),
            Subject::Frame(_) => None,
        };
        let (port, bytes) = arrival(spec, with, input, &subject)?;
        let mut worker = 0;
        let mut hops = 0;
        let mut found = loop {
            let Some(trace) = one(&mut snapshot, &mut pool, &mut extra, PortId(port), &bytes, now) else {
                return Err(format!("a packet of {} bytes does not fit a frame", bytes.len()));
            };
            match trace.verdict {
                // It belongs to another worker: what that one would say is the answer.
                Verdict::Worker(owner, _)
                    if owner != HERE && usize::from(owner) != worker && hops < with.workers =>
                {
                    worker = usize::from(owner);
                    hops += 1;
                    snapshot.assign(worker);
                }
                _ => break trace,
            }
        };
        if worker != 0 {
            snapshot.assign(0);
        }
        if let Some(step) = found.steps.first_mut() {
            step.matched.extend(continued);
        }
        explained.push(in_words(spec, worker, &found));
    }
    Ok(explained)
}

/// Makes a segment of a connection that is known the next one of it, where nothing else was said. Says what was taken from the
/// connection.
fn go_on(snapshot: &mut Snapshot, workers: usize, text: &mut PacketText, now: u64) -> Option<String> {
    let key = text.continues()?;
    let numbers = (0..workers).find_map(|worker| {
        snapshot.assign(worker);
        let mut stages = snapshot.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
        stages.find_map(|placed| match &placed.stage {
            AnyStage::Track(track) => track.numbers(&key, now),
            _ => None,
        })
    });
    snapshot.assign(0);
    let (sequence, acknowledgement) = numbers?;
    text.continue_with(sequence, acknowledgement)
}

/// The port with a device that the packet comes in at, and its frame there.
fn arrival(
    spec: &Spec,
    with: &Resources,
    input: Option<&str>,
    subject: &Subject,
) -> Result<(u16, Vec<u8>), String> {
    let own = match subject {
        Subject::Text(text) => text.input(),
        Subject::Frame(_) => None,
    };
    if let (Some(asked), Some(own)) = (input, own)
        && asked != own
    {
        return Err(format!("the packet says `in={own}`, and the question port `{asked}`"));
    }
    let port = match own.or(input) {
        Some(name) => named(spec, name)?,
        None => guess(spec, with, subject).ok_or("no port is the input of a pipeline")?,
    };
    let device = spec.device_of(spec::PortId(port)).0;
    let mac = with.ports.get(usize::from(device)).map_or([0; 6], |port| port.mac);
    let mut frame = match subject {
        Subject::Text(text) => text.frame(mac),
        Subject::Frame(bytes) => bytes.clone(),
    };
    let tags = tags(spec, port);
    let has: Vec<u16> = Ethernet::parse(&frame)
        .map(|frame| [frame.outer_tag(), frame.inner_tag()].into_iter().flatten().map(VlanTag::id).collect())
        .unwrap_or_default();
    let wanted: Vec<u16> = tags.iter().rev().map(|tag| tag.id()).collect();
    // A guess says where the packet is from, and not that it lacks a tag.
    let has_tags = has.starts_with(&wanted) || (own.or(input).is_none() && !has.is_empty());
    if !has_tags {
        for tag in tags {
            frame.splice(0..0, [0; ethernet::TAG_LEN]);
            ethernet::push_tag(&mut frame, tag)
                .map_err(|_| "a frame is shorter than an Ethernet header".to_owned())?;
        }
    }
    Ok((device, frame))
}

/// The tags of the VLANs that a port is one of, innermost first.
fn tags(spec: &Spec, port: u16) -> Vec<VlanTag> {
    let mut tags = Vec::new();
    let mut at = spec::PortId(port);
    // No VLAN is in itself: what the configuration holds is checked.
    while let Some(vlan) =
        spec.vlans.iter().find(|vlan| vlan.id == at).filter(|_| tags.len() < ethernet::MAX_TAGS)
    {
        tags.push(wire(vlan.tag));
        at = vlan.parent;
    }
    tags
}

/// The port of that name, with a device or as a VLAN of one.
fn named(spec: &Spec, name: &str) -> Result<u16, String> {
    let all = || {
        let vlans = spec.vlans.iter().map(|vlan| (vlan.name.as_str(), vlan.id.0));
        spec.ports.iter().map(|port| (port.name.as_str(), port.id.0)).chain(vlans)
    };
    all().find(|(known, _)| *known == name).map(|(_, id)| id).ok_or_else(|| {
        let names: Vec<&str> = all().map(|(name, _)| name).collect();
        format!("there is no port `{name}`; the ports are {}", names.join(", "))
    })
}

fn one(
    snapshot: &mut Snapshot,
    pool: &mut Pool,
    extra: &mut Extra,
    port: PortId,
    bytes: &[u8],
    now: u64,
) -> Option<Trace> {
    let len =
        u16::try_from(bytes.len()).ok().filter(|len| usize::from(*len) <= FrameSize::K4.longest_packet())?;
    let mut frame = pool.alloc()?;
    pool.arena().bytes_mut(&mut frame, HEADROOM as u16, len).copy_from_slice(bytes);
    let mut burst = Burst::new(pool.arena().clone());
    let packet = Packet { frame, start: HEADROOM as u16, len, port };
    if let Err(packet) = burst.push(packet) {
        pool.free(packet.frame);
        return None;
    }
    let found = trace(snapshot, port, &mut burst, &mut Cx::new(now, pool, extra));
    burst.free_into(pool);
    extra.drain().for_each(|made| pool.free(made.packet.frame));
    Some(found)
}

/// The port that packets to this one's source would leave by; else the first port with a pipeline.
fn guess(spec: &Spec, with: &Resources, subject: &Subject) -> Option<u16> {
    let source = match subject {
        Subject::Text(text) => Some(text.source()),
        Subject::Frame(bytes) => source(bytes),
    };
    let routed = source.and_then(|source| with.fibs.values().find_map(|fib| port_towards(fib, source)));
    let takes = |port: &u16| spec.pipeline_of(spec::PortId(*port)).is_some();
    routed.filter(takes).or_else(|| {
        let first = spec.pipelines.first()?.inputs.first()?;
        Some(first.0)
    })
}

/// Who sends a frame's packet.
fn source(frame: &[u8]) -> Option<IpAddr> {
    let frame = Ethernet::parse(frame).ok()?;
    match frame.ether_type() {
        ether_type::IPV4 => Ipv4::parse(frame.payload()).ok().map(|ip| ip.source().into()),
        ether_type::IPV6 => Ipv6::parse(frame.payload()).ok().map(|ip| ip.source().into()),
        _ => None,
    }
}

fn port_towards(fib: &Fib, address: IpAddr) -> Option<u16> {
    let route = match address {
        IpAddr::V4(address) => fib.route4(address.to_bits()),
        IpAddr::V6(address) => fib.route6(&address.octets()),
    };
    match fib.adjacency(route, 0) {
        Adjacency::Forward { port, .. } => Some(port),
        _ => None,
    }
}

fn in_words(spec: &Spec, worker: usize, trace: &Trace) -> ExplainedPacket {
    let name = |id: u16| match spec.port_name(spec::PortId(id)) {
        "" => format!("port {id}"),
        name => name.to_owned(),
    };
    let verdict = |verdict: Verdict| match verdict {
        Verdict::Next => "next".to_owned(),
        Verdict::Transmit(port) => format!("transmit by {}", name(port.0)),
        Verdict::Goto(to) => {
            let pipeline = spec.pipelines.get(usize::from(to.0));
            format!("goto {}", pipeline.map_or("?", |pipeline| &pipeline.name))
        }
        Verdict::Punt => "to the kernel".to_owned(),
        Verdict::Consume => "consumed".to_owned(),
        Verdict::Drop(reason) => format!("drop: {}", reason.label()),
        Verdict::Worker(HERE, _) => "back into the tunnel that it came out of".to_owned(),
        Verdict::Worker(worker, _) => format!("to worker {worker}, which owns its flow"),
    };
    let step = |step: &Step| {
        let mut changed = step.changed.clone();
        if let Place::In(port) = step.place
            && port != trace.port
        {
            changed.push(format!("it comes in at port {}", name(trace.port.0)));
        }
        changed.extend(step.made.iter().map(|(what, fate)| format!("makes {what}: {}", verdict(*fate))));
        ExplainedStep {
            pipeline: match &step.place {
                Place::In(port) | Place::Out(port) => format!("port {}", name(port.0)),
                Place::Pipeline(name) => name.clone(),
            },
            stage: step.stage.clone(),
            matched: step.matched.clone(),
            changed,
            verdict: step.verdict.map(verdict),
        }
    };
    ExplainedPacket {
        input: name(trace.port.0),
        worker: worker as u32,
        steps: trace.steps.iter().map(step).collect(),
        verdict: verdict(trace.verdict),
    }
}

#[cfg(test)]
mod tests;
