//! Tunnels that get other memory while they run, which has room for more peers: sessions go on.

use super::*;
use std::collections::BTreeSet;

impl End {
    /// Other peers, and other memory for so many; the process stays.
    fn grow(&mut self, slots: u32, peers: &[u8], knows: bool) {
        (self.memory, self.slots) = (Region::heap(Book::bytes(slots)), slots);
        self.reload(peers, knows, false);
    }
}

/// Receivers and counters of data messages over IPv4.
fn nonces(frames: &[Vec<u8>]) -> Vec<(u32, u64)> {
    let of = |frame: &Vec<u8>| {
        let message = &frame[14 + 20 + 8..];
        (
            u32::from_le_bytes(message[4..8].try_into().unwrap()),
            u64::from_le_bytes(message[8..16].try_into().unwrap()),
        )
    };
    frames.iter().map(of).collect()
}

#[test]
fn sessions_live_over_growth_and_no_nonce_is_used_twice() {
    let (mut a, mut b) = connected(false);
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    let mut now = 2 * SECOND;
    let mut talk = |a: &mut End, b: &mut End, what: &str| {
        let there = a.inside(&vec![inner(1, 2, false, what.as_bytes()); 5], now);
        assert!(nonces(&there).into_iter().all(|nonce| seen.insert(nonce)), "{what}: {:?}", nonces(&there));
        assert_eq!(b.outside(&there, now).len(), 5, "{what}: {:?}", b.drops);
        let back = b.inside(&vec![inner(2, 1, true, what.as_bytes()); 3], now);
        assert!(nonces(&back).into_iter().all(|nonce| seen.insert(nonce)), "{what}");
        assert_eq!(a.outside(&back, now).len(), 3, "{what}: {:?}", a.drops);
        all.extend(there);
        // What has come once comes no more, in the new memory neither.
        assert_eq!(b.outside(&all, now).len(), 0, "{what}");
        now += SECOND / 10;
    };
    talk(&mut a, &mut b, "before");
    let slot = a.seal.tunnel().peers().slot(&private(2).public());
    a.grow(8, &[7, 6, 5, 4, 3, 2], true);
    talk(&mut a, &mut b, "grown");
    b.grow(16, &[3, 1, 4], false);
    talk(&mut a, &mut b, "both");
    // Twice, with nothing that happens in between.
    a.grow(16, &[9, 2], true);
    a.grow(32, &[8, 9, 2], true);
    talk(&mut a, &mut b, "twice");
    // Other memory of the same size: what lay between never got to the worker.
    a.grow(32, &[8, 9, 2], true);
    talk(&mut a, &mut b, "replaced");
    assert_eq!(a.seal.tunnel().peers().slot(&private(2).public()), slot);
    a.reload(&[2], true, true);
    talk(&mut a, &mut b, "crash");
    // As few as there may be: the place that the peer has is still there.
    a.grow(slot.unwrap() + 1, &[2], true);
    talk(&mut a, &mut b, "shrunk");
    assert_eq!(a.record(2, |record| record.fact(Fact::Initiated)) / SECOND, 1, "no other handshake");
    assert_eq!(a.seal.tunnel().book().counted(Count::Done), 1);
}

#[test]
fn handshakes_and_packets_that_wait_live_over_growth() {
    let (mut a, mut b) = (End::new(1, &[2], false, true), End::new(2, &[1], false, false));
    a.inside(&[inner(1, 2, false, b"first")], SECOND);
    a.tick(SECOND);
    let initiation = a.tick(SECOND + PACE);
    b.outside(&initiation, SECOND + PACE);
    let response = b.tick(SECOND + PACE);
    a.grow(8, &[3, 4, 5, 6, 2], true);
    a.outside(&response, SECOND + 2 * PACE);
    let waited = a.tick(SECOND + 3 * PACE);
    assert_eq!(b.outside(&waited, SECOND + 3 * PACE).len(), 1);
}

#[test]
fn who_leaves_while_it_grows_is_gone() {
    let (mut a, mut b) = connected(false);
    a.grow(8, &[3], true);
    assert_eq!(a.outside(&b.inside(&[inner(2, 1, false, b"x")], 2 * SECOND), 2 * SECOND).len(), 0);
    assert_eq!(a.dropped(DropReason::WireguardUnknown), 1);
    a.grow(16, &[3, 2], true);
    assert_eq!(a.outside(&b.inside(&[inner(2, 1, false, b"x")], 2 * SECOND), 2 * SECOND).len(), 0);
}
