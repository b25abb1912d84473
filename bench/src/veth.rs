//! `veth-route`: 60-byte UDP packets at full rate through a router between two veth pairs, counted at the far end.
//!
//! The generator has core 0 (and on it runs what the kernel does for the receiver), the forwarder the last core. The
//! forwarders take turns, A B C A B C, each started anew for its round.

use crate::forwarder::{Forwarder, Kind};
use crate::generator::{Generator, Traffic};
use crate::place::{self, MACS, Part};
use crate::report::{Rate, Ratio, Report};
use anyhow::{Result, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From the generator's first packet to the start of the measurement.
const WARM_UP: Duration = Duration::from_millis(500);
/// What starting and ending a forwarder takes, about; for the time that a run is said to take.
const OVERHEAD: Duration = Duration::from_millis(2500);
/// Bytes of a frame, without its check sequence.
const SIZE: usize = 60;
const FLOWS: u32 = 1000;
const GENERATOR_CORE: usize = 0;

/// Runs it, in an enclosure.
///
/// # Errors
/// The place cannot be built, or the generator not be loaded. A peer that does not forward is a note, zsync a failure.
pub fn route(rounds: usize, budget: Duration) -> Result<Report> {
    let mut report = Report::new("veth-route");
    ensure!(report.machine.cores >= 2, "it takes two cores: one for the generator, one for the forwarder");
    place::build()?;
    let turns = (3 * rounds) as u32;
    let round = (budget / turns).saturating_sub(WARM_UP + OVERHEAD).max(Duration::from_secs(1));
    let generator = Arc::new(Part::Source.run(|| {
        Generator::load(&Traffic {
            ifindex: Part::Source.ifindex("eth0")?,
            source_mac: MACS[0],
            destination_mac: MACS[1],
            source: SocketAddr::from(([10, 1, 0, 2], 1024)),
            destination: SocketAddr::from(([10, 2, 0, 2], 9)),
            size: SIZE,
            flows: FLOWS,
        })
    })?);
    let mut rates = [Kind::Zsync, Kind::Testpmd, Kind::Kernel]
        .map(|kind| (kind, Rate { name: kind.name().to_owned(), samples: vec![] }));
    let mut absent = Vec::new();
    for _ in 0..rounds {
        for (kind, rate) in &mut rates {
            if absent.contains(kind) {
                continue;
            }
            match measure(*kind, &generator, round) {
                Ok(sample) => rate.samples.push(sample),
                Err(error) => {
                    absent.push(*kind);
                    let why = format!("no {}: {error:#}", kind.name());
                    if *kind == Kind::Zsync { report.failure = Some(why) } else { report.notes.push(why) }
                }
            }
        }
    }
    let [(_, ours), others @ ..] = rates;
    let compared = others.iter().map(|(_, theirs)| Ratio::of(&ours, theirs));
    report.ratios.extend(compared.filter(|ratio| !ratio.samples.is_empty()));
    report.rates.push(ours);
    report.rates.extend(others.into_iter().map(|(_, rate)| rate));
    report.rates.retain(|rate| !rate.samples.is_empty());
    report.notes.push(format!(
        "{SIZE}-byte UDP, {FLOWS} flows, packets per second of wall time at the far end, {:.1} s a round; \
         kernel forwarding is a reference: it neither copies packets nor leaves the generator's core",
        round.as_secs_f64()
    ));
    Ok(report)
}

/// One round: packets per second at the far end.
fn measure(kind: Kind, generator: &Arc<Generator>, round: Duration) -> Result<f64> {
    let forwarder = Forwarder::start(kind)?;
    let running = generator
        .spawn(GENERATOR_CORE, WARM_UP + round + Duration::from_millis(300), || Part::Source.enter());
    std::thread::sleep(WARM_UP);
    let look = || -> Result<_> { Ok((Instant::now(), Part::Sink.received("eth0")?)) };
    let (from, before) = look()?;
    std::thread::sleep(round);
    let (to, after) = look()?;
    let generated = running.finish()?;
    drop(forwarder);
    ensure!(after > before, "none of {generated} packets came through");
    Ok((after - before) as f64 / (to - from).as_secs_f64())
}
