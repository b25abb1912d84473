//! Whether anybody listens: the part of the bell without a descriptor, which loom turns over.

use super::atomic::{AtomicU32, Ordering::SeqCst, fence};

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
/// Somebody rang and writes, or has written.
const RUNG: u32 = 2;

#[derive(Debug)]
pub(super) struct State(AtomicU32);

impl State {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(AWAKE))
    }

    pub(super) fn listen(&self) {
        self.0.store(ASLEEP, SeqCst);
        // What was put in before a ring that saw AWAKE is seen by a look after this.
        fence(SeqCst);
    }

    /// True: it was rung.
    pub(super) fn ignore(&self) -> bool {
        self.0.swap(AWAKE, SeqCst) == RUNG
    }

    /// True: somebody listens, and whoever got this wakes them.
    pub(super) fn ring(&self) -> bool {
        // What was put in comes before the look at the state.
        fence(SeqCst);
        self.0.load(SeqCst) == ASLEEP && self.0.compare_exchange(ASLEEP, RUNG, SeqCst, SeqCst).is_ok()
    }
}
