use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A second way to say what the table is: the paper's Figure 4 with turns sorted by time, over plain lists.
fn oracle(size: u32, members: &[Member]) -> Vec<Option<u64>> {
    let mut lists: BTreeMap<u64, (u64, Vec<usize>, u64)> = BTreeMap::new();
    for member in members.iter().filter(|member| member.weight > 0) {
        let offset = mix(member.identity ^ 0x6f66_6673) % u64::from(size);
        let skip = mix(member.identity ^ 0x736b_6970) % (u64::from(size) - 1) + 1;
        let order =
            (0..u64::from(size)).map(|j| ((offset + j * skip) % u64::from(size)) as usize).rev().collect();
        lists.insert(member.identity, (u64::from(member.weight), order, 0));
    }
    let mut entries = vec![None; size as usize];
    if lists.is_empty() {
        return entries;
    }
    for _ in 0..size {
        let (&who, _) = lists
            .iter()
            .min_by_key(|(who, (weight, _, turns))| {
                ((1 << 40) / weight / 2 + turns * ((1 << 40) / weight), **who)
            })
            .unwrap();
        let (_, order, turns) = lists.get_mut(&who).unwrap();
        *turns += 1;
        let best = loop {
            let liked = order.pop().unwrap();
            if entries[liked].is_none() {
                break liked;
            }
        };
        entries[best] = Some(who);
    }
    entries
}

fn members(weights: &[u16]) -> Vec<Member> {
    let name = |place: usize| identity(format!("10.0.{}.{}:443", place / 256, place % 256).as_bytes());
    let member = |(place, &weight)| Member { identity: name(place), weight, value: place as u16 };
    weights.iter().enumerate().map(member).collect()
}

/// Who has each entry.
fn entries(table: &Maglev, members: &[Member]) -> Vec<Option<u64>> {
    let who: BTreeMap<u16, u64> = members.iter().map(|member| (member.value, member.identity)).collect();
    table.tables[table.current].iter().map(|value| who.get(value).copied()).collect()
}

fn shares(entries: &[Option<u64>]) -> BTreeMap<u64, usize> {
    let mut shares = BTreeMap::new();
    entries.iter().flatten().for_each(|who| *shares.entry(*who).or_default() += 1);
    shares
}

/// Entries that changed hands between two backends that are in both tables with a weight.
fn moved(before: &[Option<u64>], after: &[Option<u64>], gone: u64) -> usize {
    let pairs = before.iter().zip(after);
    pairs.filter(|(before, after)| before != after && **before != Some(gone) && **after != Some(gone)).count()
}

fn weights() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(prop_oneof![1 => Just(0), 4 => 1..=8u16, 1 => 1..=u16::MAX], 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_table_is_what_the_paper_says(weights in weights(), size in prop::sample::select(vec![13u32, 101, 997])) {
        let members = members(&weights);
        let table = Maglev::of(size, &members).unwrap();
        prop_assert_eq!(entries(&table, &members), oracle(size, &members));
    }

    #[test]
    fn neither_the_order_nor_the_values_nor_the_slices_nor_the_past_matter(
        weights in weights(), past in weights(), turn in 0..12usize, slice in 1..5000usize,
    ) {
        let members = members(&weights);
        let table = Maglev::of(997, &members).unwrap();
        let mut others = members.clone();
        others.rotate_left(turn % members.len().max(1));
        others.iter_mut().for_each(|member| member.value += 300);
        let mut other = Maglev::new(997, 12).unwrap();
        other.begin(self::members(&past));
        other.advance(slice);
        other.begin(others.iter().copied());
        while !other.advance(slice) {}
        prop_assert_eq!(entries(&table, &members), entries(&other, &others));
    }

    #[test]
    fn a_backend_has_its_weights_share_to_one_entry(weights in weights()) {
        let members = members(&weights);
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        let shares = shares(&entries(&Maglev::of(4093, &members).unwrap(), &members));
        for member in &members {
            let share = *shares.get(&member.identity).unwrap_or(&0) as f64;
            let fair = if total > 0.0 { f64::from(member.weight) / total * 4093.0 } else { 0.0 };
            // Rounding moves each by half an entry; one who has most of the weight pays, or is paid, for all the others.
            prop_assert!((share - fair).abs() <= 1.0 + weights.len() as f64 / 2.0, "{share} for {fair}");
        }
    }

    #[test]
    fn who_goes_moves_few_entries_of_the_others(weights in prop::collection::vec(1..=8u16, 2..60), goes in 0..60usize) {
        let mut members = members(&weights);
        let goes = goes % members.len();
        let before = entries(&Maglev::of(SIZE, &members).unwrap(), &members);
        members[goes].weight = 0;
        let after = entries(&Maglev::of(SIZE, &members).unwrap(), &members);
        prop_assert!(!after.contains(&Some(members[goes].identity)), "a drained backend has entries");
        let moved = moved(&before, &after, members[goes].identity) as f64 / f64::from(SIZE);
        prop_assert!(moved <= 0.02, "{:.2} % of the entries moved between the others", moved * 100.0);
    }

    #[test]
    fn a_new_weight_moves_little_but_what_it_says(from in 1..=8u16, to in 1..=8u16, others in 1..30usize) {
        let mut weights = vec![4; others];
        weights.push(from);
        let before = members(&weights);
        weights[others] = to;
        let after = members(&weights);
        let was = entries(&Maglev::of(SIZE, &before).unwrap(), &before);
        let is = entries(&Maglev::of(SIZE, &after).unwrap(), &after);
        let moved = moved(&was, &is, before[others].identity) as f64 / f64::from(SIZE);
        prop_assert!(moved <= 0.03, "{:.2} % of the entries moved between the others", moved * 100.0);
    }
}

#[test]
fn a_thousand_backends_have_equal_shares_and_losing_one_moves_little() {
    let mut members = members(&[1; 1000]);
    let before = entries(&Maglev::of(SIZE, &members).unwrap(), &members);
    let shares = shares(&before);
    assert!(shares.values().all(|share| [65, 66].contains(share)));
    members[500].weight = 0;
    let after = entries(&Maglev::of(SIZE, &members).unwrap(), &members);
    let moved = moved(&before, &after, members[500].identity) as f64 / f64::from(SIZE);
    assert!(moved < 0.01, "{:.2} % moved", moved * 100.0);
}

#[test]
fn hashes_find_backends_by_their_shares() {
    let members = members(&[1, 2, 0, 5]);
    let table = Maglev::of(SIZE, &members).unwrap();
    let mut found = [0u32; 4];
    (0..80_000u64).for_each(|flow| found[usize::from(table.find(mix(flow)).unwrap())] += 1);
    for (found, fair) in found.iter().zip([10_000, 20_000, 0, 50_000]) {
        assert!(found.abs_diff(fair) <= 500, "{found} of {fair}");
    }
}

#[test]
fn no_backend_no_answer() {
    for none in [&[][..], &[0, 0]] {
        let mut table = Maglev::of(101, &members(&[1, 1])).unwrap();
        table.begin(members(none));
        assert!(table.find(7).is_some(), "the old table serves until the new one is there");
        assert!(table.advance(1));
        assert_eq!((table.find(0), table.find(u64::MAX)), (None, None));
    }
}

#[test]
fn a_copy_has_as_much_room() {
    let all = members(&[1, 1, 1, 1]);
    let mut table = Maglev::new(997, 4).unwrap();
    table.begin(all[..1].iter().copied());
    let mut copy = table.clone();
    copy.begin(all.iter().copied());
    while !copy.advance(100) {}
    assert_eq!(entries(&copy, &all), oracle(997, &all));
}

#[test]
fn sizes_that_cannot_work_are_refused() {
    assert!(Maglev::new(SIZE, 1000).is_some() && Maglev::new(MAX_SIZE, MAX_MEMBERS).is_some());
    assert!([0, 1, 4, 65_535, 65_536, 655_371, 1_000_003].iter().all(|&size| Maglev::new(size, 1).is_none()));
    assert!(Maglev::new(13, 14).is_none());
}

#[test]
fn an_identity_is_the_same_everywhere() {
    assert_eq!(identity(b"10.0.0.1:443"), 728_105_931_175_191_601);
}
