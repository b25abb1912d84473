//! 60-byte UDP packets at full rate through a router between two veth pairs, counted at the far end: `veth-route`,
//! `veth-packet` without AF_XDP, and `veth-track`, `veth-nat` and `veth-filter`, beside the kernel with nftables doing the same.
//!
//! The generator has core 0 (and on it runs what the kernel does for the receiver), the forwarder the last core. The
//! forwarders take turns, A B C A B C, each started anew for its round. Keeps true: a rate that the generator limited is
//! called no measurement, and is in no ratio; the kernel's ways, which share the generator's core, are called references.

use crate::forwarder::{Forwarder, Kind};
use crate::generator::{Generator, Traffic};
use crate::kernel::Way;
use crate::live::{self, Live};
use crate::machine::{busy_time, measured_core};
use crate::place::{self, MACS, Part};
use crate::report::{Cost, Rate, Ratio, Report, Searched};
use crate::search::{self, Eyes, Findings, Plan, Wanted};
use crate::tally::Tally;
use crate::watch::Watch;
use anyhow::{Result, bail, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zsync_bench_xsk::Options;
use zsync_ends::Port;
use zsync_ends::counter::Marks;
use zsync_ends::far::FarEnd;
use zsync_ends::pair::Pair;
use zsync_ends::reader::{Manner, Reader};
use zsync_report::spread::Spread;
use zsync_traffic::pace::Shape;

/// From the generator's first packet to the start of the measurement.
const WARM_UP: Duration = Duration::from_millis(500);
/// What starting and ending a forwarder takes, about; for the time that a run is said to take.
const OVERHEAD: Duration = Duration::from_millis(2500);
/// Bytes of a frame, without its check sequence.
const SIZE: usize = 60;
const FLOWS: u32 = 1000;
/// Trials of a search are not shorter: the generator takes 18 ms to end.
const SHORTEST_TRIAL: Duration = Duration::from_millis(100);
/// As many as source ports tell apart.
const TRACKED_FLOWS: u32 = 65_536;
/// As many as one address has ports for, from 1024 on.
const TRANSLATED_FLOWS: u32 = 64_512;
const GENERATOR_CORE: usize = 0;
/// How much more than what came through must have been sent, for the forwarder to have been the limit.
const MARGIN: f64 = 1.05;

/// `veth-route`, in an enclosure.
///
/// # Errors
/// The place cannot be built, or the generator not be loaded. A peer that does not forward is a note, zsync a failure.
pub fn route(rounds: usize, budget: Duration, watch: &Watch) -> Result<Report> {
    let kinds = [Kind::Zsync, Kind::Testpmd, Kind::XskRs, Kind::Kernel, Kind::Redirect];
    compare(Report::new("veth-route"), &kinds, FLOWS, (rounds, budget), watch)
}

/// `veth-route` beside one peer, as [`PEERS`](crate::peers::PEERS) names it.
///
/// # Errors
/// Those of [`route`]; there is no such peer.
pub fn route_beside(peer: &str, rounds: usize, budget: Duration, watch: &Watch) -> Result<Report> {
    let kind = match peer {
        "dpdk-testpmd" => Kind::Testpmd,
        "kernel" => Kind::Kernel,
        "kernel-xdp" => Kind::Redirect,
        "xsk-rs" => Kind::XskRs,
        _ => bail!("veth-route has no peer {peer}"),
    };
    compare(Report::new("veth-route"), &[Kind::Zsync, kind], FLOWS, (rounds, budget), watch)
}

/// `veth-packet`: ports by packet sockets, beside ports by AF_XDP and the kernel.
///
/// # Errors
/// Those of [`route`].
pub fn packet(rounds: usize, budget: Duration, watch: &Watch) -> Result<Report> {
    let kinds = [Kind::Packets, Kind::Zsync, Kind::Kernel];
    compare(Report::new("veth-packet"), &kinds, FLOWS, (rounds, budget), watch)
}

/// `veth-track`: connection tracking, 65,536 flows.
///
/// # Errors
/// Those of [`route`].
pub fn track(rounds: usize, budget: Duration, watch: &Watch) -> Result<Report> {
    beside_nftables("veth-track", Way::Track, TRACKED_FLOWS, (rounds, budget), watch)
}

/// `veth-nat`: masquerading, 64,512 flows behind one address.
///
/// # Errors
/// Those of [`route`].
pub fn nat(rounds: usize, budget: Duration, watch: &Watch) -> Result<Report> {
    beside_nftables("veth-nat", Way::Masquerade, TRANSLATED_FLOWS, (rounds, budget), watch)
}

/// `veth-filter`: 1,000 rules that do not match, and one that does.
///
/// # Errors
/// Those of [`route`].
pub fn filter(rounds: usize, budget: Duration, watch: &Watch) -> Result<Report> {
    beside_nftables("veth-filter", Way::Filter, FLOWS, (rounds, budget), watch)
}

fn beside_nftables(
    name: &'static str,
    way: Way,
    flows: u32,
    limits: (usize, Duration),
    watch: &Watch,
) -> Result<Report> {
    compare(Report::new(name), &[Kind::Doing(way), Kind::Nftables(way)], flows, limits, watch)
}

/// What one forwarder did, round by round.
struct Turns {
    kind: Kind,
    rate: Rate,
    generated: Vec<f64>,
    tracked: Option<u64>,
    cost: Cost,
    gone: bool,
}

/// One round of one forwarder.
struct Sample {
    /// Packets per second at the far end.
    forwarded: f64,
    /// Frames per second that the generator made.
    generated: f64,
    /// Connections that the router tracked at the end, where it does.
    tracked: Option<u64>,
    /// Nanoseconds of processor time per packet: of all cores, and of the forwarder's.
    cost: [f64; 2],
}

fn compare(
    mut report: Report,
    kinds: &[Kind],
    flows: u32,
    (rounds, budget): (usize, Duration),
    watch: &Watch,
) -> Result<Report> {
    ensure!(report.machine.cores >= 2, "it takes two cores: one for the generator, one for the forwarder");
    place::build()?;
    let turns = (kinds.len() * rounds) as u32;
    let round = (budget / turns).saturating_sub(WARM_UP + OVERHEAD).max(Duration::from_secs(1));
    let generator = Arc::new(Part::Source.run(|| {
        Generator::load(&Traffic {
            ifindex: Part::Source.ifindex("eth0")?,
            source_mac: MACS[0],
            destination_mac: MACS[1],
            source: SocketAddr::from(([10, 1, 0, 2], 1024)),
            destination: SocketAddr::from(([10, 2, 0, 2], 9)),
            size: SIZE,
            flows,
        })
    })?);
    let mut all: Vec<Turns> = kinds.iter().map(|&kind| Turns::new(kind)).collect();
    let mut turn = 0;
    let done = watch.rounds(rounds, Duration::MAX, |number| {
        for turns in all.iter_mut().filter(|turns| !turns.gone) {
            let name = turns.kind.name();
            watch.step(turn, rounds * kinds.len(), &format!("round {} of {rounds}, {name}", number + 1));
            turn += 1;
            match measure(turns.kind, &generator, round, watch) {
                Ok(sample) => turns.take(&sample),
                Err(error) if watch.is_cancelled() => return Err(error),
                Err(error) => {
                    turns.gone = true;
                    let why = format!("no {}: {error:#}", turns.kind.name());
                    if turns.kind.is_ours() { report.failure = Some(why) } else { report.notes.push(why) }
                }
            }
        }
        Ok(())
    })?;
    report.notes.extend(done.note);
    // As long as the rounds took, all of them together.
    let trial = (budget / (40 * kinds.len() as u32)).clamp(SHORTEST_TRIAL, Duration::from_secs(1));
    let near = Live::new(Arc::clone(&generator), GENERATOR_CORE, place::enter(Part::Source));
    for (number, turns) in all.iter().enumerate().filter(|(_, turns)| !turns.gone) {
        if watch.is_cancelled() {
            break;
        }
        let name = turns.kind.name();
        watch.step(number, kinds.len(), &format!("rate without loss, {name}"));
        match search(turns.kind, &near, flows, trial, watch) {
            Ok(found) => {
                let aside = found.failed.iter().chain(found.notes.iter().skip(1));
                report.notes.extend(aside.map(|note| format!("{name}: {note}")));
                report.searched.push(Searched { name: name.to_owned(), found });
            }
            Err(_) if watch.is_cancelled() => break,
            Err(error) => {
                report.notes.push(format!("{name}: no search for the rate without loss: {error:#}"))
            }
        }
    }
    if let Some(first) = report.searched.first() {
        let rule = first.found.texts.first().cloned().unwrap_or_default();
        let rule = rule.lines().last().unwrap_or_default().to_owned();
        report.notes.push(format!(
            "NDR: trials of {:.2} s, three of each rate, of which one may lose packets. {rule}",
            trial.as_secs_f64()
        ));
    }
    all.iter_mut().for_each(|turns| turns.keep(done.done));
    all.retain(|turns| !turns.rate.samples.is_empty());
    for turns in &all {
        let median = |samples: &[f64]| Spread::of(samples).map_or(0.0, |spread| spread.median);
        let generated = median(&turns.generated);
        // The kernel forwards on the generator's core, in its time: the two are one there, and the sum is what is measured.
        let on_its_own_core = turns.kind.is_ours() || matches!(turns.kind, Kind::Testpmd | Kind::XskRs);
        if !on_its_own_core {
            report
                .notes
                .push(format!("{}: on the generator's core, in its time: a reference", turns.rate.name));
        } else if generated < MARGIN * median(&turns.rate.samples) {
            report.unmeasured.push(turns.rate.name.clone());
            report.notes.push(format!(
                "{}: no measurement, as the generator was the limit: it made {:.2} M frames/s",
                turns.rate.name,
                generated / 1e6
            ));
        }
    }
    if let Some((ours, others)) = all.split_first().filter(|(first, _)| first.kind.is_ours()) {
        let measured = |turns: &&Turns| !report.unmeasured.contains(&turns.rate.name);
        let compared = others.iter().filter(|_| measured(&ours)).filter(measured);
        report.ratios.extend(compared.map(|theirs| Ratio::of(&ours.rate, &theirs.rate)));
        let per_time = |turns: &Turns| Rate {
            name: format!("{}, by processor time", turns.rate.name),
            samples: turns.cost.whole.iter().map(|cost| 1e9 / cost).collect(),
        };
        report.ratios.extend(others.iter().map(|theirs| Ratio::of(&per_time(ours), &per_time(theirs))));
    }
    for Turns { rate, cost, tracked, .. } in all {
        let tracked = tracked.map(|count| format!("{}: {count} connections at the end", rate.name));
        report.notes.extend(tracked);
        report.rates.push(rate);
        report.costs.push(cost);
    }
    report.notes.push(format!(
        "{SIZE}-byte UDP, {flows} flows, packets per second of wall time at the far end, {:.1} s a round; processor time \
         is that of all cores, the generator's and other programs' included; the kernel's ways are references: they \
         neither copy packets nor leave the generator's core",
        round.as_secs_f64()
    ));
    Ok(report)
}

impl Turns {
    fn new(kind: Kind) -> Self {
        let name = kind.name().to_owned();
        let cost = Cost { name: name.clone(), ..Cost::default() };
        Self {
            kind,
            rate: Rate { name, samples: vec![] },
            generated: vec![],
            tracked: None,
            cost,
            gone: false,
        }
    }

    fn take(&mut self, sample: &Sample) {
        self.rate.samples.push(sample.forwarded);
        self.generated.push(sample.generated);
        self.tracked = sample.tracked.or(self.tracked);
        self.cost.whole.push(sample.cost[0]);
        self.cost.own.push(sample.cost[1]);
    }

    /// Drops what was measured after so many rounds.
    fn keep(&mut self, rounds: usize) {
        let Self { rate, generated, cost, .. } = self;
        for samples in [&mut rate.samples, generated, &mut cost.whole, &mut cost.own] {
            samples.truncate(rounds);
        }
    }
}

/// The rate without loss.
fn search(kind: Kind, near: &Live, flows: u32, trial: Duration, watch: &Watch) -> Result<Findings> {
    let _forwarder = Forwarder::start(kind)?;
    let (packets, eyes) = (place::packets(flows)?, Eyes(watch));
    let options = Options::default();
    let manner = Manner { marks: Marks::Probes, stamped: true, options };
    let quick = Plan::quick(trial);
    let plan = Plan {
        kinds: vec![search::Kind::Ndr, search::Kind::Latency],
        minimum: live::LEAST as f64,
        repeats: 1,
        ..quick
    };
    let mut ends = |wanted| {
        let far: Box<dyn FarEnd> = match wanted {
            Wanted::Counts => Box::new(Tally::default()),
            _ => Box::new(Reader::new(
                vec![Port { device: "eth0".to_owned(), queue: 0, core: Some(GENERATOR_CORE) }],
                manner,
                &place::enter(Part::Sink),
            )?),
        };
        Ok(Pair::new(near, far, packets.clone(), Shape::Constant, &eyes))
    };
    search::run(&plan, &mut ends, None, watch, &|_| ())
}

fn measure(kind: Kind, generator: &Arc<Generator>, round: Duration, watch: &Watch) -> Result<Sample> {
    let forwarder = Forwarder::start(kind)?;
    let start = Instant::now();
    let running = generator
        .spawn(GENERATOR_CORE, WARM_UP + round + Duration::from_millis(300), || Part::Source.enter());
    let look = || -> Result<_> { Ok((Instant::now(), Part::Sink.received("eth0")?, busy_time()?)) };
    let looks = || -> Result<_> {
        watch.sleep(WARM_UP)?;
        let first = look()?;
        watch.sleep(round)?;
        Ok((first, look()?))
    };
    let ((from, before, busy_before), (to, after, busy_after)) = match looks() {
        Ok(looks) => looks,
        Err(error) => {
            // A call is of seconds, and nobody wants what it makes.
            running.abandon();
            return Err(error);
        }
    };
    let generated = running.finish()?;
    let whole = start.elapsed().as_secs_f64();
    let tracked = if let Forwarder::Nftables(rules) = &forwarder { rules.tracked()? } else { None };
    drop(forwarder);
    ensure!(after > before, "none of {generated} packets came through");
    let packets = (after - before) as f64;
    let busy = |core: usize| -> f64 {
        let [before, after] = [&busy_before, &busy_after].map(|times| times.get(core).copied());
        after.zip(before).map_or(0.0, |(after, before)| after.saturating_sub(before).as_nanos() as f64)
    };
    Ok(Sample {
        forwarded: packets / (to - from).as_secs_f64(),
        generated: generated as f64 / whole,
        tracked,
        cost: [(0..busy_after.len()).map(busy).sum(), busy(measured_core())].map(|ns| ns / packets),
    })
}
