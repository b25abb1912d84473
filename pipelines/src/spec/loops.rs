//! Pipelines that would send packets round in circles.
//!
//! A packet goes from one pipeline to another by a goto alone: a route stage decides, whatever table its mark chose. So packets
//! can go round only where gotos do, and those are refused, even where no packet may ever match all of their rules: which
//! packets do is more than a reader of the configuration can see. So is a chain of more pipelines than a packet may pass.

use std::ops::Range;

use super::findings::Findings;
use super::model::Pipeline;
use crate::snapshot::MAX_GOTOS;

/// Reports the first round, else the longest chain, if it is too long. `places` are those of the pipelines' names.
pub(super) fn refuse(pipelines: &[Pipeline], places: &[Range<usize>], out: &mut Findings<'_>) {
    let gotos: Vec<Vec<usize>> = pipelines
        .iter()
        .map(|pipeline| pipeline.stages.iter().flat_map(|stage| stage.spec.gotos()).collect())
        .collect();
    let name = |place: &usize| pipelines.get(*place).map_or("", |pipeline| pipeline.name.as_str());
    let place = |chain: &[usize]| chain.first().and_then(|first| places.get(*first)).cloned().unwrap_or(0..0);
    match longest(&gotos) {
        Err(round) => {
            let ways: Vec<String> =
                round.iter().chain(round.first()).map(|place| format!("\"{}\"", name(place))).collect();
            out.error(&place(&round), format!("packets could go round in circles: {}", ways.join(" to ")))
                .label("a goto leads back here")
                .help("let one of these gotos go to a pipeline from which no goto leads back");
        }
        Ok(chain) if chain.len() > MAX_GOTOS + 1 => {
            let first =
                format!("pipeline \"{}\" begins a chain of {} gotos", name(&chain[0]), chain.len() - 1);
            out.error(&place(&chain), first).expected(format!("at most {MAX_GOTOS} one after the other"));
        }
        Ok(_) => {}
    }
}

/// The longest chain of gotos (all places that a packet may pass), or the places of a round. Places that do not exist lead
/// nowhere.
fn longest(gotos: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    // The longest chain from each place, once it is known.
    let mut chains: Vec<Option<Vec<usize>>> = vec![None; gotos.len()];
    for start in 0..gotos.len() {
        // The way here, each place with how many of its gotos have been followed.
        let mut way: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((here, followed)) = way.last_mut() {
            let here = *here;
            let next = gotos.get(here).and_then(|all| all.get(*followed)).copied();
            *followed += 1;
            match next {
                Some(next) if next >= gotos.len() || chains.get(next).is_some_and(Option::is_some) => {}
                Some(next) => match way.iter().position(|(place, _)| *place == next) {
                    Some(begin) => return Err(way.iter().skip(begin).map(|(place, _)| *place).collect()),
                    None => way.push((next, 0)),
                },
                None => {
                    let after =
                        gotos.get(here).into_iter().flatten().filter_map(|next| chains.get(*next)?.as_ref());
                    let rest = after.max_by_key(|chain| chain.len()).cloned().unwrap_or_default();
                    if let Some(chain) = chains.get_mut(here) {
                        *chain = Some([vec![here], rest].concat());
                    }
                    way.pop();
                }
            }
        }
    }
    Ok(chains.into_iter().flatten().max_by_key(Vec::len).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rounds_and_chains() {
        assert_eq!(longest(&[]), Ok(vec![]));
        assert_eq!(longest(&[vec![0]]), Err(vec![0]));
        assert_eq!(longest(&[vec![1], vec![2], vec![]]), Ok(vec![0, 1, 2]));
        assert_eq!(longest(&[vec![1], vec![2], vec![3, 1], vec![]]), Err(vec![1, 2]));
        // Two ways to one place are no round.
        assert_eq!(longest(&[vec![1, 2], vec![3], vec![3], vec![]]).map(|chain| chain.len()), Ok(3));
        assert_eq!(longest(&[vec![9]]), Ok(vec![0]));
        let line: Vec<Vec<usize>> = (1..=5000).map(|next| vec![next]).collect();
        assert_eq!(longest(&line).map(|chain| chain.len()), Ok(5000));
    }

    proptest! {
        #[test]
        fn a_round_is_found_if_there_is_one(
            gotos in prop::collection::vec(prop::collection::vec(0usize..7, 0..3), 1..7),
        ) {
            // What can be reached, by brute force.
            let count = gotos.len();
            let mut reach = vec![vec![false; count]; count];
            for (from, to) in gotos.iter().enumerate() {
                to.iter().filter(|to| **to < count).for_each(|to| reach[from][*to] = true);
            }
            for by in 0..count {
                for from in 0..count {
                    for to in 0..count {
                        reach[from][to] |= reach[from][by] && reach[by][to];
                    }
                }
            }
            let goes = |from: usize, to: usize| gotos[from].contains(&to);
            match longest(&gotos) {
                Err(round) => {
                    prop_assert!(round.windows(2).all(|pair| goes(pair[0], pair[1])));
                    prop_assert!(goes(round[round.len() - 1], round[0]));
                }
                Ok(chain) => {
                    prop_assert!((0..count).all(|place| !reach[place][place]));
                    prop_assert!(chain.windows(2).all(|pair| goes(pair[0], pair[1])));
                    // None is longer: no place leads into its first, none is led to by its last.
                    prop_assert!((0..count).all(|place| !goes(place, chain[0])));
                    prop_assert!(gotos[chain[chain.len() - 1]].iter().all(|to| *to >= count));
                }
            }
        }
    }
}
