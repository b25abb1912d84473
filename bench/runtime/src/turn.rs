//! A contestant in a process of its own, where no other one's threads, rings or memory disturb it.
//!
//! It reads a line for each turn, `EXERCISE NANOSECONDS [FAR END]`, and answers `at ADDRESS` once it can be reached, if the
//! exercise has it reached; and then `gave VALUE ALLOCATIONS`, `done` when the far end has the figure, `none` when it has no such thing,
//! or `failed WHY`. It ends with its input.

use crate::contestant::{Compio, Contestant, Glommio, Monoio, Ours, Smol, Tokio};
use crate::exercise::Exercise;
use crate::network::{self, Listening};
use crate::tasks::{self, Sample};
use anyhow::{Context, Result};
use std::io::{BufRead, stdin};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use zsync_report::figures::OURS;

/// What is asked for in a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) exercise: Exercise,
    pub(crate) time: Duration,
    /// Where one-way datagrams go.
    pub(crate) far: Option<SocketAddr>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Answer {
    Gave(Sample),
    /// The far end has the figure.
    Done,
    /// The contestant has no such thing.
    None,
}

type Turn = fn(Asked, Listening) -> Result<Answer>;

/// By name, ours first; the one that ratios are printed to second.
pub(crate) const CONTESTANTS: [(&str, Turn); 6] = [
    (OURS, turn::<Ours>),
    ("tokio", turn::<Tokio>),
    ("monoio", turn::<Monoio>),
    ("glommio", turn::<Glommio>),
    ("compio", turn::<Compio>),
    ("smol", turn::<Smol>),
];

fn turn<C: Contestant>(asked: Asked, listening: Listening) -> Result<Answer> {
    let Asked { exercise, time, far } = asked;
    C::run(async move |c| match exercise {
        Exercise::UdpEcho(_) | Exercise::UdpSend(_) | Exercise::TcpEcho | Exercise::Dropped => {
            network::serve(c, exercise, time, far, listening).await
        }
        Exercise::EchoGroups | Exercise::SendGroups => {
            network::serve(c, exercise, time, far, listening).await
        }
        _ => Ok(tasks::measure(c, exercise, time).await.map_or(Answer::None, Answer::Gave)),
    })?
}

/// A line that asks.
pub(crate) fn ask(asked: Asked) -> String {
    let number = Exercise::ALL.iter().position(|exercise| *exercise == asked.exercise).unwrap_or_default();
    let far = asked.far.map_or(String::new(), |far| format!(" {far}"));
    format!("{number} {}{far}", asked.time.as_nanos())
}

fn asked(line: &str) -> Option<Asked> {
    let mut words = line.split(' ');
    let exercise = *Exercise::ALL.get(words.next()?.parse::<usize>().ok()?)?;
    let time = Duration::from_nanos(words.next()?.parse().ok()?);
    let far = words.next().map(str::parse).transpose().ok()?;
    Some(Asked { exercise, time, far })
}

fn answer(answer: Answer) -> String {
    match answer {
        Answer::Gave(Sample { value, allocations }) => format!("gave {value} {allocations}"),
        Answer::Done => "done".to_owned(),
        Answer::None => "none".to_owned(),
    }
}

/// What a line says that is neither where it is nor a failure.
pub(crate) fn answered(line: &str) -> Option<Answer> {
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["gave", value, allocations] => {
            let (value, allocations) = (value.parse().ok()?, allocations.parse().ok()?);
            Some(Answer::Gave(Sample { value, allocations }))
        }
        ["done"] => Some(Answer::Done),
        ["none"] => Some(Answer::None),
        _ => None,
    }
}

/// Is this contestant, on this core, until standard input ends.
///
/// # Errors
/// There is no such contestant, or it was asked for something else than a turn.
pub fn serve(name: &str, core: usize) -> Result<()> {
    let contestant = CONTESTANTS.iter().find(|(known, _)| *known == name);
    let (_, turn) = contestant.with_context(|| format!("no contestant is called {name}"))?;
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
    for line in stdin().lock().lines() {
        let line = line?;
        let asked = asked(&line).with_context(|| format!("this is no turn: {line}"))?;
        let listening: Listening = Rc::new(|address| println!("at {address}"));
        // What panics in a contestant is that contestant's failure.
        let came = catch_unwind(AssertUnwindSafe(|| turn(asked, listening)));
        match came {
            Ok(Ok(came)) => println!("{}", answer(came)),
            Ok(Err(why)) => println!("failed {}", format!("{why:#}").replace('\n', " ")),
            Err(_) => println!("failed it panicked"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exercise::DROPS;
    use crate::far::{Datagrams, echo_streams};
    use std::sync::mpsc::channel;
    use std::thread;

    /// What a contestant gives in a turn, and the rate that the far end saw.
    fn play(turn: Turn, exercise: Exercise) -> (Answer, Option<f64>) {
        let time = exercise.least() * 3;
        let mut datagrams = Datagrams::bind().unwrap();
        let far = Some(datagrams.address().unwrap());
        let (told, heard) = channel();
        thread::scope(|scope| {
            let contestant = scope.spawn(move || {
                let listening: Listening = Rc::new(move |address| told.send(address).unwrap());
                turn(Asked { exercise, time, far }, listening).unwrap()
            });
            let rate = match exercise {
                Exercise::UdpEcho(_) | Exercise::EchoGroups => 'echo: {
                    let tasks = if let Exercise::UdpEcho(tasks) = exercise { tasks } else { 1 };
                    // Who has no groups says nothing.
                    let Ok(server) = heard.recv() else { break 'echo None };
                    let rate = datagrams.echo(server, time).unwrap();
                    while !contestant.is_finished() {
                        datagrams.finish(server, tasks).unwrap();
                        thread::sleep(Duration::from_millis(10));
                    }
                    Some(rate)
                }
                Exercise::SendGroups if heard.recv().is_err() => None,
                Exercise::UdpSend(_) | Exercise::SendGroups => Some(datagrams.count().unwrap()),
                Exercise::TcpEcho => Some(echo_streams(heard.recv().unwrap(), time).unwrap()),
                _ => None,
            };
            (contestant.join().unwrap(), rate.map(|rate| rate.rate))
        })
    }

    #[test]
    fn everybody_does_every_exercise() {
        for (name, turn) in CONTESTANTS {
            for exercise in Exercise::ALL {
                match play(turn, exercise) {
                    (Answer::Done, Some(rate)) => assert!(rate > 0.0, "{name}, {exercise:?}"),
                    (Answer::None, None) if matches!(name, "monoio" | "glommio") => {
                        assert_ne!((name, exercise), ("glommio", Exercise::Abort));
                        let cannot = [Exercise::Abort, Exercise::EchoGroups, Exercise::SendGroups];
                        assert!(cannot.contains(&exercise), "{name}, {exercise:?}");
                    }
                    (Answer::Gave(Sample { value, .. }), None) if exercise == Exercise::Dropped => {
                        let keeps = matches!(name, OURS | "tokio" | "smol");
                        assert_eq!(value == f64::from(DROPS), keeps, "{name}: {value}");
                    }
                    (Answer::Gave(sample), None) => assert!(sample.value > 0.0, "{name}, {exercise:?}"),
                    wrong => panic!("{name}, {exercise:?}: {wrong:?}"),
                }
            }
        }
    }

    #[test]
    fn what_is_asked_and_answered_arrives_as_it_left() {
        for (number, exercise) in Exercise::ALL.into_iter().enumerate() {
            let far = (number % 2 == 0).then(|| "127.0.0.1:53".parse().unwrap());
            let sent = Asked { exercise, time: Duration::from_nanos(17), far };
            let came = asked(&ask(sent)).unwrap();
            assert_eq!((came.exercise, came.time, came.far), (exercise, sent.time, far));
        }
        for sent in [Answer::Gave(Sample { value: 0.1, allocations: 1.5 }), Answer::Done, Answer::None] {
            assert_eq!(answered(&answer(sent)), Some(sent));
        }
        assert!(asked("99 1").is_none() && asked("0").is_none() && asked("0 1 nowhere").is_none());
        assert!(answered("at 127.0.0.1:1").is_none() && answered("gave 1").is_none());
    }
}
