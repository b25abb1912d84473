//! `veth-wireguard`: whole tunnels, both ends of the same kind, beside one another.
//!
//! In each round everybody's tunnel is made anew and carries every load, one after the other. Hosts share one core, both gateways
//! the other. Keeps true: a figure that the hosts' core limited says so, for it is a limit of what was sent, and not of the tunnel.

use crate::machine::measured_core;
use crate::watch::{Rounds, Watch};
use crate::wireguard::gateway::{Gateway, Keys, Kind};
use crate::wireguard::place;
use crate::wireguard::traffic::{LOADS, Load, Through, await_tunnel, send};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use zsync_report::figures::{Figures, Row};
use zsync_report::limit::{Asked, Limit};
use zsync_report::outcome::{Absent, Direction, Series};
use zsync_report::spread::Spread;

const KINDS: [Kind; 5] = [Kind::Zsync, Kind::ZsyncUdp, Kind::WireguardGo, Kind::Boringtun, Kind::Kernel];
/// What bringing a tunnel up and down takes, about.
const OVERHEAD: Duration = Duration::from_secs(3);
/// A core this busy is the limit.
const BUSY: f64 = 0.9;
/// How long a tunnel may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);

/// One kind's tunnel, by load and round.
struct Turns {
    kind: Kind,
    came: [Vec<Through>; LOADS.len()],
}

/// Measures all of them in about `time`.
///
/// # Errors
/// The place cannot be built, or zsync carries nothing. Another who does not is absent.
pub fn run(rounds: usize, time: Duration, watch: &Watch) -> Result<Vec<Figures>> {
    ensure!(measured_core() > 0, "it takes two cores: one for the hosts, one for the gateways");
    place::build()?;
    let keys = Keys::make()?;
    let mut absent = Vec::new();
    let mut all: Vec<Turns> = Vec::new();
    for kind in KINDS {
        match kind.missing() {
            Some(reason) => absent.push(Absent { name: kind.name().to_owned(), reason }),
            None => all.push(Turns { kind, came: Default::default() }),
        }
    }
    let turns = (rounds * all.len()).max(1);
    let turn = (time / turns as u32).saturating_sub(OVERHEAD) / LOADS.len() as u32;
    let turn = turn.max(Duration::from_secs(1));
    let mut done = 0;
    let Rounds { done: whole, note } = watch.rounds(rounds, Duration::MAX, |round| {
        let mut gone = Vec::new();
        for Turns { kind, came } in &mut all {
            watch.step(done, turns, &format!("round {} of {rounds}, {}", round + 1, kind.name()));
            done += 1;
            match carry(*kind, &keys, turn, watch) {
                Ok(through) => came.iter_mut().zip(through).for_each(|(came, through)| came.push(through)),
                Err(error) if kind.is_ours() || watch.is_cancelled() => {
                    return Err(error);
                }
                Err(error) => gone.push((*kind, format!("{error:#}"))),
            }
        }
        all.retain(|turns| gone.iter().all(|(kind, _)| *kind != turns.kind));
        absent.extend(gone.into_iter().map(|(kind, reason)| Absent { name: kind.name().to_owned(), reason }));
        Ok(())
    })?;
    all.iter_mut().flat_map(|turns| &mut turns.came).for_each(|came| came.truncate(whole));
    let notes = vec![format!(
        "both ends of a tunnel are of one kind, and both on core {}; hosts on core 0; {:.1} s a load and round; hosts' MTU {}",
        measured_core(),
        turn.as_secs_f64(),
        place::MTU
    )];
    let mut figures = [
        figures("kpackets/s", "packets through a whole tunnel, both ends of one kind, at full rate"),
        figures("Mbit/s", "iperf3 through a whole tunnel, both ends of one kind"),
    ];
    for (n, load) in LOADS.into_iter().enumerate() {
        let figures = &mut figures[usize::from(!load.is_packets())];
        add(figures, load, n, &all);
    }
    if let Some(last) = figures.last_mut() {
        last.notes.extend(notes.into_iter().chain(note));
        last.absent = absent;
    }
    Ok(figures.into())
}

fn figures(unit: &'static str, about: &'static str) -> Figures {
    let direction = Direction::More;
    let (rows, limits, absent, notes) = (vec![], vec![], vec![], vec![]);
    Figures { unit, direction, about, rows, bursts: vec![], slowest: vec![], limits, absent, notes }
}

/// What came of the load with number `n`.
fn add(figures: &mut Figures, load: Load, n: usize, all: &[Turns]) {
    let rates = |turns: &Turns| turns.came[n].iter().map(|through| through.rate).collect::<Vec<_>>();
    let series = all.iter().map(|turns| Series::new(turns.kind.name(), rates(turns))).collect();
    let row = Row { group: "whole tunnel".to_owned(), name: load.name(), burst: 0, series };
    // Of zsync's two arrangements the one that suits the load, as whoever has such a load would choose.
    let median = |turns: &Turns| Spread::of(&rates(turns)).map_or(0.0, |spread| spread.median);
    let ours = all.iter().filter(|turns| turns.kind.is_ours());
    let Some(ours) = ours.max_by(|a, b| median(a).total_cmp(&median(b))) else { return };
    for theirs in all {
        let Some(asked) = theirs.kind.limit() else { continue };
        let what = format!("{}, times as fast as {}", ours.kind.name(), theirs.kind.name());
        let ratios: Vec<f64> =
            ours.came[n].iter().zip(&theirs.came[n]).map(|(ours, theirs)| ours.rate / theirs.rate).collect();
        let figure = Spread::of(&ratios).map(|spread| spread.median).ok_or_else(|| "no round".to_owned());
        figures.limits.push(Limit { what, of: row.title(), figure, asked: Asked::AtLeast(asked) });
    }
    figures.limits.sort_by(|a, b| a.what.cmp(&b.what));
    for turns in all {
        let median = |of: fn(&Through) -> f64| {
            Spread::of(&turns.came[n].iter().map(of).collect::<Vec<_>>()).map_or(0.0, |spread| spread.median)
        };
        let (lost, busy) = (median(|through| through.lost), median(|through| through.busy));
        let limit = if busy < BUSY { ": what was sent was the limit" } else { "" };
        figures.notes.push(format!(
            "{}, {}: {:.0} % of what was sent was lost, the gateways' core was busy for {:.0} %{limit}",
            load.name(),
            turns.kind.name(),
            100.0 * lost,
            100.0 * busy
        ));
    }
    figures.rows.push(row);
}

/// One tunnel, and all loads through it.
fn carry(kind: Kind, keys: &Keys, turn: Duration, watch: &Watch) -> Result<Vec<Through>> {
    let _near = Gateway::start(kind, 0, keys, None, None)?;
    let _far = Gateway::start(kind, 1, keys, None, None)?;
    await_tunnel(PATIENCE, watch)?;
    LOADS
        .into_iter()
        .map(|load| send(load, turn, measured_core(), watch).with_context(|| load.name()))
        .collect()
}
