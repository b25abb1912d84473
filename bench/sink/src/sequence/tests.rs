use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn noted<const WORDS: usize>(sequences: &[u64]) -> (Track<WORDS>, Vec<Seen>) {
    let mut track = Track::EMPTY;
    let seen = sequences.iter().map(|&sequence| track.note(sequence)).collect();
    (track, seen)
}

#[test]
fn a_late_packet_is_no_longer_missing() {
    let mut track = Track::<1>::EMPTY;
    for sequence in [0, 1, 4] {
        track.note(sequence);
    }
    assert_eq!(track.counts.missing(), 2);
    assert_eq!(track.note(2), Seen::Late { offset: 1 });
    assert_eq!(track.counts.missing(), 1);
    let books = track.counts.close(0, 6).unwrap();
    assert_eq!((books.lost, books.counts.reordered), (2, 1), "3, and 5 of which nobody heard");
}

#[test]
fn each_packet_of_a_run_that_four_overtook_is_reordered_by_four() {
    let (track, seen) = noted::<1>(&[0, 1, 2, 6, 7, 8, 9, 3, 4, 5, 10]);
    assert_eq!(seen[7..10], [Seen::Late { offset: 4 }; 3]);
    assert_eq!(track.counts.reordered, 3);
    assert_eq!(track.counts.missing(), 0);
}

#[test]
fn a_packet_at_the_window_s_edge_is_told_and_one_behind_it_is_too_old() {
    let (track, seen) = noted::<16>(&[1, 1024, 0, 1]);
    assert_eq!(seen[2..], [Seen::TooOld, Seen::Duplicate]);
    assert_eq!((track.counts.too_old, track.counts.duplicated), (1, 1));
    let (_, seen) = noted::<16>(&[1023, 0]);
    assert_eq!(seen[1], Seen::Late { offset: 1 });
}

#[test]
fn a_packet_from_before_the_window_is_never_a_duplicate() {
    let (track, seen) = noted::<1>(&[0, 500, 0, 0]);
    assert_eq!(seen[2..], [Seen::TooOld; 2]);
    assert_eq!(track.counts.duplicated, 0);
}

#[test]
fn the_greatest_sequences_and_those_around_32_bits_count_like_others() {
    for base in [u64::from(u32::MAX) - 2, u64::MAX - 6] {
        let (track, seen) = noted::<1>(&[base, base + 3, base + 1, base + 3, base + 5]);
        let (late, first) = (Seen::Late { offset: 1 }, |skipped| Seen::First { skipped });
        let expected = [first(base), first(2), late, Seen::Duplicate, first(1)];
        assert_eq!(seen, expected);
        assert_eq!(track.counts.known, base + 6);
    }
    let mut tracks = Tracks::new(Window::Narrow, 1).unwrap();
    let mut variation = Variation::new().unwrap();
    assert_eq!(tracks.note(0, u64::MAX, 0, &mut variation), None, "its number of packets would not fit");
    assert_eq!(tracks.note(0, u64::MAX - 1, 0, &mut variation), Some(Seen::First { skipped: u64::MAX - 1 }));
    assert_eq!(tracks.note(1, 0, 0, &mut variation), None, "no such flow");
}

#[test]
fn books_do_not_close_over_a_packet_that_was_never_sent() {
    let (track, _) = noted::<1>(&[0, 7]);
    let error = track.counts.close(3, 7).unwrap_err();
    assert_eq!(error, BooksError::NeverSent { flow: 3, sequence: 7, sent: 7 });
    assert_eq!(track.counts.close(3, 8).unwrap().lost, 6);
    assert_eq!(Counts::default().close(0, 0).unwrap().lost, 0);
}

#[test]
fn a_flow_takes_the_memory_that_its_window_says() {
    assert_eq!(Window::Narrow.bytes_per_flow(), 64);
    assert_eq!(Window::Wide.bytes_per_flow(), 192);
}

/// What a set of all sequences ever seen says, with the same window.
fn oracle(window: u64, sequences: &[u64]) -> (Vec<Seen>, Counts) {
    let (mut all, mut counts) = (BTreeSet::new(), Counts::default());
    let seen = sequences.iter().map(|&sequence| {
        if sequence + window < counts.known {
            counts.too_old += 1;
            return Seen::TooOld;
        }
        let greater = all.range(sequence + 1..).count();
        if !all.insert(sequence) {
            counts.duplicated += 1;
            return Seen::Duplicate;
        }
        counts.received += 1;
        if greater == 0 {
            let skipped = sequence - counts.known;
            counts.known = sequence + 1;
            return Seen::First { skipped };
        }
        counts.reordered += 1;
        Seen::Late { offset: greater as u16 }
    });
    (seen.collect(), counts)
}

proptest! {
    #[test]
    fn any_arrivals_count_as_a_set_of_all_sequences_counts_them(
        base in 0u64..1 << 40,
        steps in prop::collection::vec((prop_oneof![8 => -40i64..60, 2 => -90i64..90, 1 => -1300i64..1300], any::<bool>()), 1..400),
    ) {
        let mut at = base as i64;
        let sequences: Vec<u64> = steps
            .iter()
            .map(|&(step, stay)| {
                let sequence = (at + step).max(0);
                at = if stay { at + 1 } else { sequence };
                sequence as u64
            })
            .collect();
        let (narrow, seen) = noted::<1>(&sequences);
        prop_assert_eq!((seen, narrow.counts), oracle(64, &sequences));
        let (wide, seen) = noted::<16>(&sequences);
        prop_assert_eq!((seen, wide.counts), oracle(1024, &sequences));
    }
}
