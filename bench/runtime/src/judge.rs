//! What ours is to reach, and beside whom.
//!
//! Keeps true: the best of the others is that of each round; where an exercise is done by one task and by many, each runtime
//! counts with the way that suits it better.

use crate::exercise::Exercise;
use zsync_report::figures::{Figures, OURS, Row};
use zsync_report::limit::{Asked, Limit};
use zsync_report::outcome::Direction;
use zsync_report::spread::Spread;

/// What is asked of ours alone, in the exercise's unit.
const ALONE: [(Exercise, f64); 8] = [
    (Exercise::Yield(1), 15.0),
    (Exercise::Yield(1000), 15.0),
    (Exercise::Spawn(1), 60.0),
    (Exercise::Spawn(1000), 60.0),
    (Exercise::Message, 35.0),
    (Exercise::Abort, 40.0),
    (Exercise::Timers, 45.0),
    (Exercise::Alarm, 11.0),
];
/// How many times as fast as the best of the others ours is to be, at the best of these. Groups are for themselves: each datagram by a call
/// of its own is another way to use a socket.
const BESIDE: [(&[Exercise], f64); 5] = [
    (&[Exercise::UdpEcho(1), Exercise::UdpEcho(32)], 1.2),
    (&[Exercise::EchoGroups], 1.2),
    (&[Exercise::UdpSend(1), Exercise::UdpSend(32)], 1.2),
    (&[Exercise::SendGroups], 1.2),
    (&[Exercise::TcpEcho], 1.0),
];

/// How ours stands to the best of the others, round by round; each with the best of its rows.
fn beside_best(rows: &[&Row], direction: Direction) -> Vec<f64> {
    let better = |a: f64, b: f64| if direction == Direction::More { a.max(b) } else { a.min(b) };
    let best = |round: usize, is_ours: bool| {
        let series = rows.iter().flat_map(|row| &row.series);
        let samples = series.filter(|series| (series.name == OURS) == is_ours);
        samples.filter_map(|series| series.samples.get(round).copied()).reduce(better)
    };
    let ratio = |round| {
        let (ours, theirs) = (best(round, true)?, best(round, false)?);
        Some(if direction == Direction::More { ours / theirs } else { theirs / ours })
    };
    (0..).map_while(ratio).collect()
}

fn limit(what: &str, of: String, figure: Option<f64>, asked: Asked) -> Limit {
    Limit {
        what: what.to_owned(),
        of,
        figure: figure.ok_or_else(|| "nobody to compare with".to_owned()),
        asked,
    }
}

/// The limits of these figures.
pub(crate) fn limits(figures: &Figures) -> Vec<Limit> {
    let row = |exercise: Exercise| {
        let (group, name) = exercise.labels();
        figures.rows.iter().find(|row| row.group == group && row.name == name)
    };
    let unit = figures.unit;
    let mut limits = Vec::new();
    for (exercise, most) in ALONE {
        let Some(row) = row(exercise) else { continue };
        limits.push(limit(unit, row.title(), row.median(OURS), Asked::AtMost(most)));
    }
    let best = "times as fast as the best of the others";
    for (exercise, _) in ALONE {
        // A timer cannot be earlier than the time that it was set for.
        let Some(row) = row(exercise).filter(|_| exercise != Exercise::Alarm) else { continue };
        let ratio = Spread::of(&beside_best(&[row], figures.direction)).map(|spread| spread.median);
        limits.push(limit(best, row.title(), ratio, Asked::AtLeast(1.0)));
    }
    for (exercises, least) in BESIDE {
        let rows: Vec<&Row> = exercises.iter().filter_map(|exercise| row(*exercise)).collect();
        let Some(first) = rows.first() else { continue };
        let ratio = Spread::of(&beside_best(&rows, figures.direction)).map(|spread| spread.median);
        limits.push(limit(best, first.title(), ratio, Asked::AtLeast(least)));
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_report::outcome::Series;

    fn row(exercise: Exercise, samples: &[(&str, &[f64])]) -> Row {
        let (group, name) = exercise.labels();
        let series = samples.iter().map(|&(name, samples)| Series::new(name, samples)).collect();
        Row { group: group.to_owned(), name, burst: 0, series }
    }

    fn figures(exercise: Exercise, rows: Vec<Row>) -> Figures {
        Figures { rows, ..Figures::new(exercise.unit(), exercise.direction(), "") }
    }

    #[test]
    fn ours_is_judged_alone_and_beside_the_best_of_each_round() {
        let samples: [(&str, &[f64]); 3] =
            [(OURS, &[10.0, 20.0, 12.0]), ("tokio", &[39.0, 40.0, 39.0]), ("glommio", &[30.0, 60.0, 9.0])];
        let limits = limits(&figures(Exercise::Yield(1), vec![row(Exercise::Yield(1), &samples)]));
        // 3, 2 and 0.75 times.
        assert_eq!(limits.iter().map(|limit| limit.figure.clone()).collect::<Vec<_>>(), [Ok(12.0), Ok(2.0)]);
        assert_eq!(limits[0].asked, Asked::AtMost(15.0));
    }

    #[test]
    fn each_counts_with_the_way_that_suits_it() {
        let one = row(Exercise::UdpEcho(1), &[(OURS, &[2e5]), ("tokio", &[3e5]), ("monoio", &[1e5])]);
        let many = row(Exercise::UdpEcho(32), &[(OURS, &[6e5]), ("tokio", &[2e5]), ("monoio", &[4e5])]);
        let limits = limits(&figures(Exercise::UdpEcho(1), vec![one, many]));
        assert_eq!((limits.len(), limits[0].figure.clone()), (1, Ok(1.5)));
    }

    #[test]
    fn nobody_beside_it_is_neither_held_nor_missed() {
        let alone = row(Exercise::TcpEcho, &[(OURS, &[2e5])]);
        let limits = limits(&figures(Exercise::TcpEcho, vec![alone]));
        assert_eq!(limits[0].is_held(), None);
    }
}
