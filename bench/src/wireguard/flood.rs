//! `veth-flood`: what becomes of an established tunnel's packets while forged handshakes come as fast as the kernel makes them.
//!
//! The gateway that is flooded has a core to itself; the other end of the tunnel, its host and the flood share the other one. The
//! flood comes over the wire that the tunnel's packets come over. Keeps true: the share is of what the other end put onto that wire,
//! by what both ends say of their peer, so what the other end itself lost is not the flooded gateway's loss.

use crate::generator::Generator;
use crate::machine::measured_core;
use crate::place::enter;
use crate::watch::{Rounds, Watch};
use crate::wireguard::gateway::{Gateway, Keys, Kind};
use crate::wireguard::place::{self, GATEWAYS, MACS, OUTSIDE, RECEIVER, SENDER};
use crate::wireguard::traffic::{HOSTS, await_tunnel, returning};
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use zsync_bench_xsk::Options;
use zsync_ends::Port;
use zsync_ends::order::{Order, Phase, Rate};
use zsync_ends::sender::{NearEnd, Senders};
use zsync_packet::header::build;
use zsync_packet::header::ether_type;
use zsync_report::figures::{Figures, Row};
use zsync_report::limit::{Asked, Limit};
use zsync_report::outcome::{Direction, Series};
use zsync_report::spread::Spread;
use zsync_traffic::pace::Shape;
use zsync_wireguard::cookie::Jar;
use zsync_wireguard::key::{PublicKey, Secret};
use zsync_wireguard::noise::{Identity, stamp};

/// Packets a second in the tunnel.
const PACED: u64 = 20_000;
/// Packets that may wait at a port. With more, the frames of a full ring are in no cache of the core, and each costs a wait for memory.
const RING: u32 = 1024;
/// What must arrive of them, in percent.
const SHARE: f64 = 99.0;
const PORT: u16 = 51_820;
const PATIENCE: Duration = Duration::from_secs(20);
/// From the flood's first packet to the tunnel's.
const LEAD: Duration = Duration::from_millis(500);
/// Source ports of the flood.
const FLOWS: u32 = 1000;
/// From the last packet until all are counted.
const STRAGGLE: Duration = Duration::from_millis(500);

/// What floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flood {
    /// Nothing.
    None,
    /// Initiations whose first code is wrong.
    Forged,
    /// Initiations of a stranger who knows our public key: the first code is right.
    Stranger,
}

const FLOODS: [(Flood, &str); 3] = [
    (Flood::None, "no flood"),
    (Flood::Forged, "forged initiations without valid mac1"),
    (Flood::Stranger, "forged initiations with valid mac1"),
];

/// What one trial counted.
#[derive(Clone, Copy, Debug)]
struct Came {
    /// Percent of the tunnel's packets.
    share: f64,
    /// Handshake messages a second, that the flood made.
    flooded: f64,
}

/// Measures it in about `time`.
///
/// # Errors
/// The place cannot be built, or the tunnel does not come up.
pub fn run(rounds: usize, time: Duration, watch: &Watch) -> Result<Vec<Figures>> {
    ensure!(measured_core() > 0, "it takes two cores: one for the flooded gateway, one for all else");
    place::build()?;
    let keys = Keys::make()?;
    let total = rounds * FLOODS.len();
    let turn =
        (time / total.max(1) as u32).saturating_sub(Duration::from_secs(3)).max(Duration::from_secs(1));
    let mut samples = vec![Vec::new(); FLOODS.len()];
    let Rounds { done: whole, note } = watch.rounds(rounds, Duration::MAX, |round| {
        for (n, ((flood, name), samples)) in FLOODS.iter().zip(&mut samples).enumerate() {
            watch.step(round * FLOODS.len() + n, total, &format!("round {} of {rounds}, {name}", round + 1));
            samples.push(measure(*flood, &keys, turn, watch).context(*name)?);
        }
        Ok(())
    })?;
    let mut figures = Figures {
        unit: "percent",
        direction: Direction::More,
        about: "what arrives of an established tunnel's packets under a flood of forged handshakes",
        rows: vec![],
        bursts: vec![],
        slowest: vec![],
        limits: vec![],
        absent: vec![],
        notes: note.into_iter().collect(),
    };
    for ((_, name), came) in FLOODS.iter().zip(&mut samples) {
        came.truncate(whole);
        let median = |of: fn(&Came) -> f64| {
            Spread::of(&came.iter().map(of).collect::<Vec<_>>()).map_or(0.0, |spread| spread.median)
        };
        let shares: Vec<f64> = came.iter().map(|came| came.share).collect();
        let series = vec![Series::new("zsync", shares)];
        let row = Row { group: "opened packets".to_owned(), name: (*name).to_owned(), burst: 0, series };
        let figure = if came.is_empty() { Err("no round".to_owned()) } else { Ok(median(|came| came.share)) };
        let what = "percent of the tunnel's packets that arrive".to_owned();
        figures.limits.push(Limit { what, of: row.title(), figure, asked: Asked::AtLeast(SHARE) });
        figures.notes.push(format!("{name}: {:.0} thousand a second", median(|came| came.flooded) / 1e3));
        figures.rows.push(row);
    }
    figures.notes.push(format!(
        "{PACED} packets of 64 bytes a second in the tunnel, {:.1} s a round; rings of {RING} packets",
        turn.as_secs_f64()
    ));
    Ok(vec![figures])
}

fn measure(flood: Flood, keys: &Keys, turn: Duration, watch: &Watch) -> Result<Came> {
    let near = Gateway::start(Kind::Zsync, 0, keys, None, Some(RING))?;
    let far = Gateway::start(Kind::Zsync, 1, keys, Some(HOSTS), Some(RING))?;
    await_tunnel(PATIENCE, watch)?;
    let flooding = match flood {
        Flood::None => None,
        _ => {
            let generator = Arc::new(GATEWAYS[1].run(|| {
                Generator::of_frame(GATEWAYS[1].ifindex("outside")?, &frame(flood, &keys.public[0])?, FLOWS)
            })?);
            Some(generator.spawn(HOSTS, 2 * LEAD + turn + STRAGGLE, || GATEWAYS[1].enter()))
        }
    };
    let outcome = paced(&near, &far, turn, watch);
    let flooded = match flooding {
        Some(running) if outcome.is_err() => {
            running.abandon();
            0
        }
        Some(running) => running.join()?,
        None => 0,
    };
    Ok(Came { share: outcome?, flooded: flooded as f64 / (2 * LEAD + turn + STRAGGLE).as_secs_f64() })
}

/// Percent of the packets that the far end sealed that the near one passed on.
fn paced(near: &Gateway, far: &Gateway, turn: Duration, watch: &Watch) -> Result<f64> {
    watch.sleep(LEAD)?;
    let port = Port { device: "eth0".to_owned(), queue: 0, core: Some(HOSTS) };
    let senders = Senders::open(&[port], &Options::default(), &enter(RECEIVER))?;
    let order = Order {
        what: returning()?,
        run: 1,
        phases: vec![Phase { rate: Rate::Shaped(PACED, Shape::Constant), duration: turn }],
        packets: None,
        log: false,
        readable: None,
        patience: None,
    };
    let look = || -> Result<_> { Ok((far.bytes("tx")?, near.bytes("rx")?, SENDER.received("eth0")?)) };
    let before = look()?;
    let mut running = senders.start(&Arc::new(order))?;
    while running.wait(Duration::from_millis(50))?.is_none() {
        if watch.is_cancelled() {
            return Err(crate::watch::Interrupted.into());
        }
    }
    watch.sleep(STRAGGLE)?;
    let after = look()?;
    let (sealed, opened) = (after.0 - before.0, after.1 - before.1);
    ensure!(after.2 > before.2 && sealed > 0, "nothing came through the tunnel");
    Ok(100.0 * opened as f64 / sealed as f64)
}

/// An initiation to the near gateway.
fn frame(flood: Flood, to: &str) -> Result<Vec<u8>> {
    let to: PublicKey = to.parse().ok().context("a public key")?;
    let stranger = Identity::new(Secret::new([7; 32]));
    let begun = stranger.begin(&to, &Secret::new([0; 32]), 7, &stamp(1), Secret::new([9; 32]));
    let (_, mut message) = begun.map_err(|error| anyhow::anyhow!("no initiation: {error}"))?;
    if flood == Flood::Stranger {
        Jar::new(&to).sign(&mut message, 0);
    }
    let [near, far] =
        [0, 1].map(|end| -> Result<SocketAddr> { Ok(SocketAddr::new(OUTSIDE[end].parse()?, PORT)) });
    let (near, far) = (near?, far?);
    let from = SocketAddr::new(far.ip(), 1024);
    let mut packet = build::udp_packet(from, near, &message).context("ends of two families")?;
    // No checksum (RFC 768), so that the flows' ports need none either.
    packet[26..28].fill(0);
    Ok(build::ethernet(MACS[0], MACS[1], &[], ether_type::IPV4, &packet))
}
