//! Many simulations of a program, and what happened in each.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use zsync_runtime::{Driver, Io, SimIo};

/// Seeds that are tried; `ZSYNC_LONG=1`: 100,000.
fn seeds() -> u64 {
    if std::env::var("ZSYNC_LONG").is_ok_and(|long| long == "1") { 100_000 } else { 1_000 }
}

/// What happened, as a number.
#[derive(Clone, Default)]
pub struct Trace(Rc<Cell<u64>>);

impl Trace {
    pub fn note<D: Driver>(&self, io: &Io<D>, what: u64) {
        let mixed =
            self.0.get().rotate_left(5) ^ io.now().as_nanos() ^ what.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0.set(mixed.wrapping_mul(0xff51_afd7_ed55_8ccd));
    }

    /// The number, when nothing runs any more and nothing is left.
    fn end(&self, io: &SimIo, seed: u64) -> u64 {
        assert_eq!(io.tasks().alive(), 0, "seed {seed}: a task is left");
        io.settle();
        assert_eq!(io.open_descriptors(), 0, "seed {seed}: a descriptor is left");
        self.0.get()
    }
}

/// A part of a program.
pub type Part = Pin<Box<dyn Future<Output = ()>>>;

/// Runs parts of a program side by side in a simulation, and then the last one of them again, which is interrupted somewhere; what happened, as a number.
pub fn interrupted(io: &SimIo, seed: u64, parts: impl Fn(SimIo, Trace) -> [Part; 3] + 'static) -> u64 {
    let trace = Trace::default();
    let noted = trace.clone();
    io.run(async move |io| {
        for part in parts(io.clone(), noted.clone()).map(|part| io.spawn(part)) {
            part.await.unwrap();
        }
        let [_, _, last] = parts(io.clone(), noted.clone());
        let left = io.spawn(last);
        io.sleep(Duration::from_nanos(io.tasks().random() % 500_000)).await.unwrap();
        left.abort();
        noted.note(&io, 1);
    });
    trace.end(io, seed)
}

/// Tries a program, which gives the number of what happened in it: a seed does the same each time, and others do not.
pub fn same_each_time(simulate: impl Fn(u64) -> u64) {
    let mut different = 0;
    let mut last = 0;
    for seed in 0..seeds() {
        let trace = simulate(seed);
        if seed % 10 == 0 {
            assert_eq!(simulate(seed), trace, "seed {seed} does not do the same again");
        }
        different += u64::from(trace != last);
        last = trace;
    }
    assert!(different >= seeds() - 1, "chance has no say");
}
