use super::*;

/// How often a worker looks at its desk while there is something to do.
const SLICE: u64 = 100_000;
/// Of a desk that speaks to all of them by itself.
const PEERS: u8 = 200;
/// It has room for more, so that these are looked at within 5 ms.
const ROOM: u32 = 8192;

fn crowd() -> End {
    let caller = |seed| Peer { keepalive: 25 * SECOND, ..peer(seed) };
    End::of_many(1, (2..2 + PEERS).map(caller).collect(), ROOM, 30 * SECOND)
}

/// Runs the desk from `from` on for `span`, and how often it sent something to each of the peers.
fn run(end: &mut End, from: u64, span: u64) -> Vec<u64> {
    let mut sent = vec![0; usize::from(PEERS)];
    for now in (from..from + span).step_by(SLICE as usize) {
        for action in end.polled(now) {
            if let Action::Send(_, to) = action {
                let to = (2..2 + PEERS).position(|seed| address(seed) == to.remote).unwrap();
                sent[to] += 1;
            }
        }
    }
    sent
}

#[test]
fn all_who_are_due_at_once_are_called_as_fast_as_the_pace_allows() {
    let mut end = crowd();
    let first = run(&mut end, 30 * SECOND, 420_000_000);
    assert!(first.iter().all(|sent| *sent == 1), "{first:?}");
    assert!(!end.desk.is_pressed());
    // Nobody answers: each is called again, five seconds later and up to a third of a second more.
    let calm = run(&mut end, 31 * SECOND, 3_900_000_000);
    assert!(calm.iter().all(|sent| *sent == 0), "{calm:?}");
    let again = run(&mut end, 34_900_000_000, SECOND);
    assert!(again.iter().all(|sent| *sent == 1), "{again:?}");
}

#[test]
fn who_is_due_leaves_room_for_packets_and_messages() {
    let mut end = crowd();
    let mut other = End::new(250, vec![peer(1)], 0);
    run(&mut end, 30 * SECOND, 20_000_000);
    let from = 30_020_000_000;
    assert!(end.desk.is_pressed());
    // Packets wait for the last of them, whose turn would be much later.
    let slot = u32::from(PEERS) - 1;
    let wait = (0..).find(|n| {
        let now = from + n * SLICE;
        end.polled(now);
        end.desk.want(slot, now, EPOCH + now)
    });
    assert!(wait.unwrap() * SLICE <= 2 * PACE, "{wait:?}");
    // A message is read, and found to be a stranger's.
    let from = 30_030_000_000;
    run(&mut end, from - SLICE, SLICE);
    other.desk.want(0, from, EPOCH + from);
    let initiation = other.sent(from).pop().unwrap();
    end.hear(&initiation, other.at, from);
    run(&mut end, from, 2 * PACE + SLICE);
    assert_eq!(end.counted(Count::Unknown), 1);
}

#[test]
fn a_desk_that_is_looked_at_seldom_reads_messages_too() {
    let mut end = crowd();
    let mut other = End::new(250, vec![peer(1)], 0);
    run(&mut end, 30 * SECOND, 20_000_000);
    let from = 30_020_000_000;
    other.desk.want(0, from, EPOCH + from);
    let initiation = other.sent(from).pop().unwrap();
    end.hear(&initiation, other.at, from);
    // Whoever may be called may be called at each look.
    (1..3).for_each(|look| drop(end.polled(from + look * 4 * PACE)));
    assert!(end.desk.is_pressed());
    assert_eq!(end.counted(Count::Unknown), 1);
}

#[test]
fn who_is_due_no_more_is_not_called() {
    let mut end = crowd();
    run(&mut end, 30 * SECOND, 10_000_000);
    assert!(end.desk.is_pressed());
    for slot in 0..u32::from(PEERS) {
        let record = end.desk.peers.record(&end.desk.book, slot).unwrap();
        record.set(Fact::Came, 30_010_000_000);
    }
    let sent = run(&mut end, 30_010_000_000, SECOND);
    assert!(sent.iter().all(|sent| *sent == 0), "{sent:?}");
    assert!(!end.desk.is_pressed());
}
