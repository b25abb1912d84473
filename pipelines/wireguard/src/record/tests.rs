use super::*;
use crate::key::Secret;
use zsync_packet::region::Region;

fn region() -> Region {
    Region::heap(RECORD_BYTES)
}

fn keys(seed: u8) -> Keys {
    Keys { sending: Secret::new([seed; 32]), receiving: Secret::new([seed | 0x80; 32]) }
}

fn indices(record: &Record<'_>) -> [Option<u32>; 3] {
    [Role::Current, Role::Previous, Role::Next].map(|role| record.session(role).and_then(|room| room.index()))
}

#[test]
fn sessions_take_their_places_as_the_kernels_do() {
    let region = region();
    let record = Record::over(region.u64s(0, RECORD_WORDS).unwrap()).unwrap();
    assert_eq!(indices(&record), [None; 3]);
    record.install(&keys(1), 11, 91, true, 5);
    assert_eq!(indices(&record), [Some(11), None, None]);
    let room = record.session(Role::Current).unwrap();
    assert_eq!((room.remote(), room.since(), room.is_ours()), (91, 5, true));
    assert_eq!((room.sending(), room.receiving()), ([1; 32], [0x81; 32]));
    record.install(&keys(2), 12, 92, true, 6);
    assert_eq!(indices(&record), [Some(12), Some(11), None]);
    record.install(&keys(3), 13, 93, false, 7);
    assert_eq!(indices(&record), [Some(12), None, Some(13)]);
    record.install(&keys(4), 14, 94, false, 8);
    assert_eq!(indices(&record), [Some(12), None, Some(14)], "one that was never used");
    record.promote();
    assert_eq!(indices(&record), [Some(14), Some(12), None]);
    record.install(&keys(5), 15, 95, false, 9);
    record.install(&keys(6), 16, 96, true, 10);
    assert_eq!(indices(&record), [Some(16), Some(15), None]);
    assert_eq!(record.by_index(15).map(|(role, _)| role), Some(Role::Previous));
    assert!(record.by_index(12).is_none());
    record.end_all();
    assert_eq!(indices(&record), [None; 3]);
    // No key is left anywhere.
    let words = region.u64s(ROOMS_AT * 8, RECORD_WORDS - ROOMS_AT).unwrap();
    assert!(words.iter().all(|word| word.load(Relaxed) == 0));
}

#[test]
fn an_endpoint_of_either_family_comes_back() {
    let region = region();
    let record = Record::over(region.u64s(0, RECORD_WORDS).unwrap()).unwrap();
    assert_eq!(record.endpoint(), None);
    for (remote, local) in
        [("192.0.2.1:51820", "198.51.100.1"), ("[2001:db8::1]:7", "2001:db8::2"), ("192.0.2.1:9", "::")]
    {
        let endpoint = Endpoint { remote: remote.parse().unwrap(), local: local.parse().unwrap() };
        record.set_endpoint(endpoint);
        assert_eq!(record.endpoint(), Some(endpoint));
    }
}

#[test]
fn counters_go_on_behind_all_that_were_given_out() {
    let region = region();
    let record = Record::over(region.u64s(0, RECORD_WORDS).unwrap()).unwrap();
    record.install(&keys(1), 1, 2, true, 0);
    let room = record.session(Role::Current).unwrap();
    assert_eq!(room.take_counters(1, 64, 1 << 60), Some(0));
    assert_eq!(room.take_counters(1, 1, 1 << 60), Some(64));
    record.take_over();
    assert!(room.take_counters(1, 1, 1 << 60).unwrap() > 64);
    assert_eq!(room.take_counters(1, 2, room.next_counter() + 1), None);
    assert!(room.take_counters(1, 1, room.next_counter() + 1).is_some());
}

#[test]
fn stamps_come_back() {
    let region = region();
    let record = Record::over(region.u64s(0, RECORD_WORDS).unwrap()).unwrap();
    let stamp = crate::noise::stamp(1_700_000_000_123_456_789);
    record.set_stamp(&stamp);
    assert_eq!(record.stamp(), stamp);
}

/// Killed after any of its stores, a change of sessions leaves sessions that are whole, and none that was not there.
#[test]
fn a_record_is_whole_after_every_store() {
    let all = [keys(1), keys(2), keys(3), keys(4)];
    let region = region();
    let words = region.u64s(0, RECORD_WORDS).unwrap();
    let record = Record::over(words).unwrap();
    let whole = |what: &str| {
        for role in [Role::Current, Role::Previous, Role::Next] {
            if let Some(room) = record.session(role) {
                let index = room.index().unwrap();
                let keys = &all[index as usize - 1];
                assert_eq!(room.sending(), *keys.sending.expose(), "{what}: session {index}");
                assert_eq!(room.remote(), index + 100, "{what}");
            }
        }
    };
    for (n, (keys, ours)) in all.iter().zip([true, false, true, false]).enumerate() {
        let index = n as u32 + 1;
        record.install(keys, index, index + 100, ours, 0);
        whole("installed");
        if n == 1 {
            record.promote();
            whole("promoted");
        }
        record.take_over();
        whole("taken over");
    }
}
