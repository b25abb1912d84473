//! The bell and an inbox, in all orders in which two threads can come (loom).

use loom::sync::atomic;

// The same code over loom's atomics.
#[allow(clippy::duplicate_mod)]
#[path = "state.rs"]
mod state;

use loom::sync::{Arc, Mutex};
use loom::thread;
use state::State;

/// An inbox, and an eventfd, as loom knows them.
struct Modelled {
    inbox: Mutex<u32>,
    bell: State,
    written: Mutex<bool>,
}

impl Modelled {
    fn wake(&self) {
        *self.inbox.lock().unwrap() += 1;
        if self.bell.ring() {
            *self.written.lock().unwrap() = true;
        }
    }
}

/// Nobody sleeps while there is a word: either the look after `listen` finds it, or the descriptor becomes readable.
fn no_wake_is_lost(wakers: u32) {
    loom::model(move || {
        let end = Arc::new(Modelled { inbox: Mutex::new(0), bell: State::new(), written: Mutex::new(false) });
        let threads: Vec<_> = (0..wakers)
            .map(|_| {
                let end = end.clone();
                thread::spawn(move || end.wake())
            })
            .collect();
        end.bell.listen();
        let mut seen = std::mem::take(&mut *end.inbox.lock().unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let readable = *end.written.lock().unwrap();
        // What was not seen before the sleep ends it.
        assert!(seen == wakers || readable, "{seen} of {wakers} seen, and asleep for good");
        let rung = end.bell.ignore();
        assert!(rung == readable);
        seen += std::mem::take(&mut *end.inbox.lock().unwrap());
        assert_eq!(seen, wakers);
    });
}

#[test]
fn one_wake_is_not_lost() {
    no_wake_is_lost(1);
}

#[test]
fn two_wakes_are_not_lost() {
    no_wake_is_lost(2);
}
