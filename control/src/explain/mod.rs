//! What a packet would meet: asked by people, answered by the stages themselves.
//!
//! Owns nothing that lives: the snapshot is compiled anew, the routes are read where the workers read them, and what stages
//! keep is a private copy of theirs. So nothing that is found here changes anything for a packet. Refuses packets that cannot
//! be read; a capture beyond [`MOST`] packets is answered so far.

mod packet;

pub use packet::PacketText;

use crate::api::{Explain, ExplainedPacket, ExplainedStep};
use crate::daemon::mirror;
use crate::netlink::links_now;
use std::collections::HashMap;
use std::net::IpAddr;
use zsync_packet::burst::{Burst, Packet};
use zsync_packet::flow::HashKey;
use zsync_packet::frame::{FrameSize, HEADROOM};
use zsync_packet::pool::Pool;
use zsync_packet::verdict::{PortId, Verdict};
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{PortFacts, Snapshot};
use zsync_pipelines::spec::Spec;
use zsync_pipelines::stage::{Cx, EXTRA, Extra};
use zsync_pipelines::tables::fib::{Adjacency, Fib};
use zsync_pipelines::trace::{Step, Trace, trace};

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
/// now, and stages that have seen nothing yet.
///
/// # Errors
/// As [`explain`]; and what of the kernel could not be read.
pub fn offline(spec: &Spec, question: &Explain) -> Result<Vec<ExplainedPacket>, String> {
    let words = |error: anyhow::Error| format!("{error:#}");
    let links = links_now().map_err(|error| error.to_string())?;
    let mut numbers = HashMap::new();
    let mut ports = vec![PortFacts { mtu: 1500, ..PortFacts::default() }; spec.ports.len()];
    for port in &spec.ports {
        let Some(link) = links.iter().find(|link| link.name == port.netdev) else { continue };
        numbers.insert(link.ifindex, port.id.0);
        if let Some(facts) = ports.get_mut(usize::from(port.id.0)) {
            (facts.mac, facts.mtu) = (link.mac.unwrap_or_default(), link.mtu);
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

/// Explains each packet under `spec`, as if it came in at the port called `input`; without a name, at the port that its
/// source is routed to, or else the first that has a pipeline. `now` is the time of the workers' clock, nanoseconds.
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
        let port = match input {
            Some(name) => {
                spec.port(name).map(|port| port.id.0).ok_or_else(|| format!("there is no port `{name}`"))?
            }
            None => guess(spec, with, subject).ok_or("no port is the input of a pipeline")?,
        };
        let mac = with.ports.get(usize::from(port)).map_or([0; 6], |port| port.mac);
        let bytes = match subject {
            Subject::Text(text) => text.frame(mac),
            Subject::Frame(bytes) => bytes.clone(),
        };
        let mut worker = 0;
        let found = loop {
            let Some(trace) = one(&mut snapshot, &mut pool, &mut extra, PortId(port), &bytes, now) else {
                return Err(format!("a packet of {} bytes does not fit a frame", bytes.len()));
            };
            match trace.verdict {
                // It belongs to another worker: what that one would say is the answer.
                Verdict::Worker(owner, _) if usize::from(owner) != worker => {
                    worker = usize::from(owner);
                    snapshot.assign(worker);
                }
                _ => break trace,
            }
        };
        if worker != 0 {
            snapshot.assign(0);
        }
        explained.push(in_words(spec, port, worker, &found));
    }
    Ok(explained)
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
    let routed = match subject {
        Subject::Text(text) => with.fibs.values().find_map(|fib| port_towards(fib, text.source())),
        Subject::Frame(_) => None,
    };
    let takes = |port: &u16| spec.ports.iter().any(|p| p.id.0 == *port && spec.pipeline_of(p.id).is_some());
    routed.filter(takes).or_else(|| {
        let first = spec.pipelines.first()?.inputs.first()?;
        Some(first.0)
    })
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

fn in_words(spec: &Spec, port: u16, worker: usize, trace: &Trace) -> ExplainedPacket {
    let name = |id: u16| {
        spec.ports
            .iter()
            .find(|port| port.id.0 == id)
            .map_or_else(|| format!("port {id}"), |p| p.name.clone())
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
        Verdict::Worker(worker, _) => format!("to worker {worker}, which owns its flow"),
    };
    let step = |step: &Step| ExplainedStep {
        pipeline: step.pipeline.clone(),
        stage: step.stage.clone(),
        matched: step.matched.clone(),
        changed: step.changed.clone(),
        verdict: step.verdict.map(verdict),
    };
    ExplainedPacket {
        input: name(port),
        worker: worker as u32,
        steps: trace.steps.iter().map(step).collect(),
        verdict: verdict(trace.verdict),
    }
}
