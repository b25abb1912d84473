//! Interrupts: SIGINT and SIGTERM, counted. The first asks the program to come to an end by itself, with what it has; the
//! second ends it at once.
//!
//! In an [enclosure] they come through the pipe that is its standard input, a byte each, so that one that
//! comes before anybody listens is not lost. Keeps true: what comes twice for one key press (a terminal and `timeout` signal
//! the whole process group) counts once.

use crate::{enclosure, folder};
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Exit status of a run that was interrupted: 128 and the number of SIGINT, as shells have it.
pub const STATUS: u8 = 130;

/// What follows within this time is the same interrupt.
const SAME: Duration = Duration::from_millis(200);

static NUMBER: AtomicU32 = AtomicU32::new(0);
static LAST: Mutex<Option<Instant>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();
static HELD: AtomicBool = AtomicBool::new(false);

/// From now on interrupts are counted, and the second ends the process. More than once it does nothing.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let listening = signals();
        if let Err(error) = listening {
            eprintln!("zsync-bench: an interrupt will end this run without its figures: {error}");
        }
        if enclosure::is_inside() {
            std::thread::spawn(|| {
                let mut input = std::io::stdin().lock();
                while input.read(&mut [0]).is_ok_and(|bytes| bytes == 1) {
                    came();
                }
            });
        }
    });
}

/// Has a thread wait for the signals. They are caught when this returns.
fn signals() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let context = runtime.enter();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    drop(context);
    std::thread::Builder::new().name("interrupts".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    Some(()) = interrupt.recv() => came(),
                    Some(()) = terminate.recv() => came(),
                    else => return,
                }
            }
        });
    })?;
    Ok(())
}

/// From now on a second interrupt does not end this process, as its caller sees to that.
pub fn hold() {
    HELD.store(true, Ordering::Relaxed);
}

/// How many there were.
pub fn number() -> u32 {
    NUMBER.load(Ordering::Relaxed)
}

/// Waits for as long as `condition` holds, `time` at most. It is looked at when there is an interrupt, and at a [`wake`].
pub fn wait_while(time: Duration, condition: impl Fn() -> bool) {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    drop(CHANGED.wait_timeout_while(last, time, |_| condition()));
}

/// Has everybody who [waits](wait_while) look.
pub fn wake() {
    // With the lock, so that nobody is between looking and waiting.
    let _last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    CHANGED.notify_all();
}

fn came() {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    if last.is_some_and(|last| now.duration_since(last) < SAME) {
        return;
    }
    *last = Some(now);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed) + 1;
    CHANGED.notify_all();
    drop(last);
    if number > 1 && !HELD.load(Ordering::Relaxed) {
        folder::remove_all();
        std::process::exit(STATUS.into());
    }
}
