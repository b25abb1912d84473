//! What waits beside a worker's packets: it has its turns and its time, and a worker with nothing to do is not woken for it more often than for
//! itself.

#[allow(dead_code)]
mod memory_support;

use memory_support::{Rig, check};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};
use zsync_engine::exchange::{Answer, Order};
use zsync_engine::runner::Runner;
use zsync_engine::worker::{Output, Queue};
use zsync_io::memory::Null;
use zsync_packet::flow::HashKey;
use zsync_packet::frame::FrameSize;
use zsync_packet::pool::Pool;
use zsync_packet::region::Region;
use zsync_packet::verdict::PortId;
use zsync_pipelines::compile::{Resources, compile};
use zsync_pipelines::snapshot::{PortFacts, Snapshot};
use zsync_pipelines::spec::parse;
use zsync_pipelines::tables::fib::{FibLayout, FibWriter};
use zsync_protocol::message::Idle;
use zsync_protocol::stats::WorkerStats;
use zsync_runtime::yield_now;

const FRAMES: u32 = 1024;
const MS: u64 = 1_000_000;

/// A router with these stages ahead of its routes.
fn snapshot(stages: &str, epoch: u64) -> Snapshot {
    let text = format!(
        "[port.a]\nnetdev = \"eth1\"\n[port.b]\nnetdev = \"eth2\"\n[pipeline.edge]\ninput = [\"a\", \"b\"]\n\
         stages = [{stages} \"route\"]\n"
    );
    let spec = parse(&text, "tasks.toml").unwrap().spec;
    let fib = FibWriter::create(Region::heap(FibLayout::SMALL.bytes()), FibLayout::SMALL).unwrap();
    let with = Resources {
        ports: vec![PortFacts { mtu: 1500, ..PortFacts::default() }; 2],
        fibs: BTreeMap::from([(254, fib.reader())]),
        hash_key: HashKey::from_seed(1),
        workers: 1,
        states: BTreeMap::new(),
    };
    let mut snapshot = compile(&spec, epoch, &with).unwrap();
    snapshot.assign(0);
    snapshot
}

/// A worker that packets come to without end, and what runs it.
fn loaded(rig: &mut Rig, stages: &str) -> Runner<Null> {
    let pool = Pool::heap(FrameSize::K2, FRAMES, 1).unwrap().remove(0);
    let device = Null::copied(PortId(0), [vec![0x5a; 60].into_boxed_slice()]);
    let worker =
        rig.worker(pool, vec![Queue::new(device, PortId(0))], vec![Output::Own(0)], snapshot(stages, 1));
    Runner::new(worker, rig.seats.remove(0), 0)
}

#[test]
fn a_task_that_is_always_ready_has_a_turn_a_pass_and_starves_neither_timers_nor_packets() {
    let mut runner = loaded(&mut Rig::new(1), "");
    let (turns, fired) = (Rc::new(Cell::new(0u64)), Rc::new(RefCell::new(Vec::new())));
    let tasks = runner.tasks().clone();
    for _ in 0..1000 {
        tasks.spawn(pending::<()>());
    }
    let counted = turns.clone();
    tasks.spawn(async move {
        while yield_now().await.is_ok() {
            counted.set(counted.get() + 1);
        }
    });
    let (clock, noted) = (tasks.clone(), fired.clone());
    tasks.spawn(async move {
        while clock.sleep(Duration::from_millis(10)).await.is_ok() {
            noted.borrow_mut().push(clock.now().as_nanos());
        }
    });
    let passes = 100_000;
    for now in 1..=passes {
        assert!(runner.pass(now * 1000) > 0);
    }
    // At first they wait for those that were spawned with them.
    assert!((passes - 100..=passes).contains(&turns.get()), "{}", turns.get());
    let fired = fired.borrow();
    assert!(fired.len() >= 9, "{fired:?}");
    for pair in fired.windows(2) {
        assert!((10 * MS..=11 * MS).contains(&(pair[1] - pair[0])), "{fired:?}");
    }
    check(&runner.worker(), FRAMES);
}

#[test]
fn chores_keep_their_period_and_end_with_their_snapshot() {
    let mut rig = Rig::new(1);
    let mut runner = loaded(&mut rig, "\"track\",");
    let tasks = runner.tasks().clone();
    let (mut slices, mut due, mut now) = (0, None, 0);
    let mut run = |runner: &mut Runner<Null>, until: u64| {
        slices = 0;
        while now < until {
            now += 10_000;
            runner.pass(now);
            let next = tasks.next_timer();
            slices += u64::from(next != std::mem::replace(&mut due, next));
        }
        slices
    };
    let slices = run(&mut runner, 100 * MS);
    assert!((950..1050).contains(&slices), "{slices} slices in 100 ms");
    // The snapshot's own, and one for its connections.
    assert_eq!(runner.tasks().alive(), 2);
    let dump = runner.tasks().dump().to_string();
    assert!(dump.contains("flows to be forgotten"), "{dump}");
    let adopt = |stages, epoch| Order::Adopt(Box::new(snapshot(stages, epoch)));
    // Where there are no chores, there is no task either.
    for (epoch, stages, alive) in [(2, "", 0), (3, "\"track\",", 2), (4, "\"track\",", 2), (5, "", 0)] {
        rig.mailboxes[0].order(adopt(stages, epoch)).unwrap();
        run(&mut runner, 100 * MS + epoch * MS);
        assert!(matches!(rig.mailboxes[0].answers.pop(), Some(Answer::Retired(_))));
        assert_eq!(runner.tasks().alive(), alive, "{stages}");
    }
    check(&runner.worker(), FRAMES);
}

/// A worker without packets on a thread of its own, whose tasks `begin` spawns.
fn idle<T: Send + 'static>(
    begin: impl FnOnce(&Runner<Null>) -> T + Send + 'static,
) -> (Rig, thread::JoinHandle<()>, T) {
    let mut rig = Rig::new(1);
    let pool = Pool::heap(FrameSize::K2, FRAMES, 1).unwrap().remove(0);
    let worker = rig.worker(pool, Vec::new(), Vec::new(), snapshot("\"track\",", 1));
    let seat = rig.seats.remove(0);
    let (tell, told) = mpsc::sync_channel(1);
    let start = Instant::now();
    let thread = thread::spawn(move || {
        let clock = || start.elapsed().as_nanos() as u64;
        let runner = Runner::new(worker, seat, clock());
        tell.send(begin(&runner)).unwrap();
        runner.run(Idle::Block, clock);
    });
    let told = told.recv().unwrap();
    (rig, thread, told)
}

fn end(rig: &Rig, thread: thread::JoinHandle<()>) {
    rig.mailboxes[0].order(Order::Stop).unwrap();
    thread.join().unwrap();
}

#[test]
fn each_question_about_tasks_has_its_answer() {
    let mut rig = Rig::new(1);
    let mut runner = loaded(&mut rig, "\"track\",");
    runner.pass(MS);
    for _ in 0..3 {
        rig.mailboxes[0].order(Order::Tasks).unwrap();
    }
    runner.pass(2 * MS);
    for _ in 0..3 {
        let Some(Answer::Tasks(dump)) = rig.mailboxes[0].answers.pop() else {
            panic!("an answer is missing")
        };
        assert_eq!(dump.tasks.len(), 2);
    }
    assert!(rig.mailboxes[0].answers.pop().is_none());
    check(&runner.worker(), FRAMES);
}

#[test]
fn who_rests_is_not_woken_for_its_chores() {
    let (rig, thread, ()) = idle(|_| ());
    thread::sleep(Duration::from_millis(500));
    let counters = WorkerStats::open(&rig.stats, 0).unwrap().read().unwrap();
    // About 16.8 ms apart, and not 100 µs.
    assert!((10..250).contains(&counters.wakeups), "{} times in half a second", counters.wakeups);
    end(&rig, thread);
}

#[test]
fn a_wake_from_another_thread_ends_the_rest() {
    let (rig, thread, (waker, heard)) = idle(|runner| {
        let (tell, heard) = mpsc::sync_channel(1);
        let (lend, waker) = mpsc::sync_channel(1);
        let mut lent = false;
        runner.tasks().spawn(poll_fn(move |cx| {
            match std::mem::replace(&mut lent, true) {
                false => lend.send(cx.waker().clone()).unwrap(),
                true => tell.send(()).unwrap(),
            }
            Poll::<()>::Pending
        }));
        (waker, heard)
    });
    let waker = waker.recv().unwrap();
    let mut quickest = Duration::MAX;
    for round in 0..20 {
        // It blocks meanwhile, most of the time.
        thread::sleep(Duration::from_millis(2));
        let start = Instant::now();
        waker.wake_by_ref();
        heard.recv_timeout(Duration::from_secs(10)).unwrap();
        // The first may fall where the rest ends by itself; all others begin 2 ms behind such an end, if nobody ends it.
        if round > 0 {
            quickest = quickest.min(start.elapsed());
        }
    }
    // A rest that nobody ends takes some milliseconds.
    assert!(quickest < Duration::from_millis(1), "{quickest:?}");
    end(&rig, thread);
}
