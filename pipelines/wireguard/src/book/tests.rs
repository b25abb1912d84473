use super::*;
use crate::noise::Keys;

fn peer(seed: u8) -> Peer {
    Peer {
        public: Secret::new([seed; 32]).public(),
        preshared: Secret::new([0; 32]),
        endpoint: None,
        keepalive: 0,
    }
}

fn book(slots: u32) -> Book {
    let region = Region::heap(Book::bytes(slots));
    Book::open(region, slots, &HashKey::from_seed(1), Secret::new([99; 32]).public()).unwrap()
}

/// As the worker that owns all slots does.
fn settled(book: &Book, peers: Vec<Peer>) -> Peers {
    let peers = book.enrol(peers, None).unwrap();
    (0..book.slots()).for_each(|slot| _ = book.settle(slot, &peers, true));
    peers
}

#[test]
fn who_stays_keeps_the_slot_and_the_sessions() {
    let book = book(4);
    let first = settled(&book, vec![peer(1), peer(2), peer(3)]);
    let two = first.slot(&peer(2).public).unwrap();
    let keys = Keys { sending: Secret::new([1; 32]), receiving: Secret::new([2; 32]) };
    first.slots().for_each(|slot| first.record(&book, slot).unwrap().install(&keys, 5 + slot, 6, true, 0));
    let second = book.enrol(vec![peer(4), peer(2)], None).unwrap();
    assert!(first.slots().all(|slot| first.record(&book, slot).is_some()), "nothing was written yet");
    (0..4).for_each(|slot| _ = book.settle(slot, &second, false));
    assert_eq!(second.slot(&peer(2).public), Some(two));
    assert!(second.record(&book, two).unwrap().by_index(5 + two).is_some());
    for gone in [1, 3] {
        assert!(first.record(&book, first.slot(&peer(gone).public).unwrap()).is_none());
    }
    let third = settled(&book, vec![peer(4), peer(2), peer(5), peer(6)]);
    let mut slots: Vec<_> = third.slots().collect();
    slots.sort_unstable();
    assert_eq!(slots, [0, 1, 2, 3]);
    for slot in third.slots().filter(|slot| *slot != two) {
        let record = third.record(&book, slot).unwrap();
        assert!((5..9).all(|index| record.by_index(index).is_none()), "sessions of who was there before");
    }
    let err = book.enrol((10..15).map(peer).collect(), None).unwrap_err();
    assert_eq!((err.peers, err.slots), (5, 4));
}

#[test]
fn in_other_memory_who_stays_has_the_slot_and_the_sessions_that_it_had() {
    let (small, big) = (book(2), book(4));
    let first = settled(&small, vec![peer(1), peer(2)]);
    let keys = Keys { sending: Secret::new([1; 32]), receiving: Secret::new([2; 32]) };
    let slot = first.slot(&peer(2).public).unwrap();
    let room = |book: &Book, peers: &Peers| {
        let record = peers.record(book, slot).unwrap();
        let room = record.by_index(7).unwrap().1;
        (room.sending(), room.receiving(), room.remote(), room.next_counter())
    };
    let record = first.record(&small, slot).unwrap();
    record.install(&keys, 7, 8, true, 0);
    record.by_index(7).unwrap().1.take_counters(7, 100, 1000).unwrap();
    small.count(Count::Done);
    let second = big.enrol(vec![peer(3), peer(2), peer(4)], Some(&first)).unwrap();
    assert_eq!(second.slot(&peer(2).public), Some(slot));
    // Of one that is not written yet either.
    let third = big.enrol(vec![peer(5), peer(3), peer(2)], Some(&second)).unwrap();
    assert_eq!(third.slot(&peer(2).public), Some(slot));
    assert_eq!(third.slot(&peer(3).public), second.slot(&peer(3).public));
    for at in 0..4 {
        assert_eq!(big.carry(at, &third, &small), at == slot, "{at}");
    }
    big.carry_counts(&small);
    assert_eq!(room(&big, &third), room(&small, &first));
    assert_eq!((room(&big, &third).3, big.counted(Count::Done)), (100, 1));

    // All that there is, without knowing whose.
    let again = book(3);
    Book::carry_all(&small.region, &again.region);
    let fourth = again.enrol(vec![peer(6), peer(2)], None).unwrap();
    assert_eq!((fourth.slot(&peer(2).public), room(&again, &fourth)), (Some(slot), room(&small, &first)));
    let one = book(1);
    Book::carry_all(&small.region, &one.region);
    assert_eq!(one.record(0).map(|record| record.tag()), small.record(0).map(|record| record.tag()));
}

#[test]
fn with_another_key_of_ours_nobody_is_known() {
    let region = Region::heap(Book::bytes(2));
    let secret = HashKey::from_seed(1);
    let of = |own: u8| Book::open(region.clone(), 2, &secret, Secret::new([own; 32]).public()).unwrap();
    let before = settled(&of(1), vec![peer(5)]);
    let after = settled(&of(2), vec![peer(5)]);
    let slot = after.slot(&peer(5).public).unwrap();
    assert!(after.record(&of(2), slot).is_some() && before.record(&of(1), 0).is_none());
    assert!(Book::open(Region::heap(4096), 2, &secret, peer(1).public).is_none());
}
