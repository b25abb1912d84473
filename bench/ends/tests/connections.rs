//! Connections through a device that keeps them in a table: its capacity and its rate are found as they are.

mod common;

use common::nat::{Full, Learnt, Nat};
use common::{here, in_namespace, ip, port, what};
use std::cell::Cell;
use std::time::Duration;
use zsync_bench_xsk::Options;
use zsync_ends::connections::{Opener, Side, connections_of};
use zsync_ends::counter::Marks;
use zsync_ends::pair::Blind;
use zsync_search::connections::{Connections, Filling, capacity, establishment_rate};
use zsync_search::run::{Ending, Limits};

const OPTIONS: Options = Options { ring: 8192, burst: 64 };
const V4: &str = "sport=1000..1999 dport=1..9 size=64";
const V6: &str = "src=2001:db8::1+1x300 dst=2001:db8::2 dport=7..70 size=96";

fn sides() -> [Side; 2] {
    let side = |device| Side { ports: vec![port(device, 0), port(device, 1)], enter: here() };
    [side("va"), side("vd")]
}

/// Runs `test` with both ends of such a device, by both queues of its wires, and the number of times that it was cleared.
fn through(nat: &Nat, profile: &str, test: impl FnOnce(&mut Opener<'_>, &Cell<u32>)) {
    through_by(sides(), nat, profile, test);
}

fn through_by(sides: [Side; 2], nat: &Nat, profile: &str, test: impl FnOnce(&mut Opener<'_>, &Cell<u32>)) {
    let cleared = Cell::new(0);
    let mut clear = || {
        cleared.set(cleared.get() + 1);
        *nat.learnt.lock().unwrap() = Learnt::default();
        Ok(())
    };
    let what = what(profile);
    let mut opener = Opener::open(sides, &OPTIONS, Marks::Probes, &what, &mut clear, &Blind).unwrap();
    test(&mut opener, &cleared);
}

#[test]
fn the_capacity_of_a_table_is_found_to_the_connection_whatever_it_does_when_full() {
    in_namespace(|| {
        for (full, room, profile) in
            [(Full::Refuses, 777, V4), (Full::Forgets, 300, V4), (Full::Refuses, 531, V6)]
        {
            let nat = Nat::start(room, full, None);
            through(&nat, profile, |opener, cleared| {
                let filling = Filling { first: 100, most: 5000, rate: 5000.0, time: Duration::from_secs(60) };
                let found = capacity(opener, filling, &|| false).unwrap();
                let expected = (Ending::Complete, Some(room as u64), Some(room as u64 + 1));
                assert_eq!((found.ending, found.fitted, found.failed), expected, "{profile}: {found}");
                // One that forgets has let every packet through in phase 1: it is phase 2 that tells.
                let over = found.trials.iter().filter(|trial| trial.count > room as u64 && !trial.short());
                for trial in over {
                    let all = full == Full::Forgets;
                    assert_eq!(trial.phase1.established == trial.count, all, "{trial}");
                    assert_eq!(trial.valid, room as u64, "{trial}");
                }
                assert!(cleared.get() as usize >= found.trials.len());
            });
            nat.end();
        }
    });
}

#[test]
fn the_rate_at_which_a_device_opens_connections_is_found_within_five_percent() {
    in_namespace(|| {
        const RATE: u64 = 3000;
        let nat = Nat::start(10_000, Full::Refuses, Some(RATE));
        // By one queue of each: of two, the device sees packets out of the order that they were to leave in.
        let mut sides = sides();
        sides.iter_mut().for_each(|side| side.ports.truncate(1));
        through_by(sides, &nat, V4, |opener, _| {
            let limits = Limits { minimum: 500.0, maximum: 12_000.0, time: Duration::from_secs(60) };
            let found = establishment_rate(opener, 1000, 0.02, limits, &|| false).unwrap();
            let rate = found.lower.unwrap();
            assert!((RATE as f64 * 0.95..=RATE as f64 * 1.05).contains(&rate), "{found}");
            assert_eq!(found.ending, Ending::Complete, "{found}");
        });
        nat.end();
    });
}

#[test]
fn a_run_sees_nothing_of_the_one_before_and_a_table_that_was_not_cleared_is_as_full_as_it_was() {
    in_namespace(|| {
        let nat = Nat::start(100, Full::Refuses, None);
        through(&nat, V4, |opener, _| {
            let phase1 = opener.establish(100, 5000.0).unwrap();
            assert_eq!((phase1.tried, phase1.established), (100, 100));
            assert_eq!(opener.validate(100).unwrap(), 100);
            // The same connections again are in the table already, 20 others find no room.
            let phase1 = opener.establish(120, 5000.0).unwrap();
            assert_eq!((phase1.tried, phase1.established), (120, 100));
            assert_eq!((opener.validate(120).unwrap(), opener.validate(120).unwrap()), (100, 100));
            opener.clear().unwrap();
            assert_eq!(opener.validate(120).unwrap(), 0, "nothing was opened since");
            let phase1 = opener.establish(7, 5000.0).unwrap();
            assert_eq!((phase1.tried, phase1.established, opener.validate(7).unwrap()), (7, 7, 7));
            assert!(phase1.offered <= 5000.0 && phase1.duration >= Duration::from_micros(1400));
            assert!(opener.reach(50).unwrap() > 0.0);
        });
        nat.end();
    });
}

#[test]
fn what_opens_no_connections_is_refused_with_what_does() {
    assert_eq!(connections_of(&what(V4)).unwrap(), 9000);
    assert_eq!(connections_of(&what("size=64")).unwrap(), 1);
    for (profile, why) in [
        ("proto=tcp size=128", "UDP, without tags"),
        ("vlan=5 size=128", "UDP, without tags"),
        ("vlan=1..9 flows=9 size=128", "UDP, without tags"),
        ("ttl=3..9 flows=7", "Ttl varies"),
        ("sport=random:1000..60000 flows=9", "give a range"),
    ] {
        let error = connections_of(&what(profile)).unwrap_err().to_string();
        assert!(error.contains(why), "{profile}: {error}");
    }
}

#[test]
fn a_port_that_is_down_is_an_error_and_no_capacity_of_zero() {
    in_namespace(|| {
        let mut clear = || Ok(());
        let what = what(V4);
        let mut opener = Opener::open(sides(), &OPTIONS, Marks::Probes, &what, &mut clear, &Blind).unwrap();
        ip("link set va down");
        let error = opener.establish(10, 1000.0).unwrap_err();
        assert!(format!("{error:#}").contains("va"), "{error:#}");
        drop(opener);
        let other = Side { ports: vec![port("nowhere", 0)], enter: here() };
        let [initiator, _] = sides();
        let mut clear = || Ok(());
        assert!(
            Opener::open([initiator, other], &OPTIONS, Marks::Probes, &what, &mut clear, &Blind).is_err()
        );
    });
}
