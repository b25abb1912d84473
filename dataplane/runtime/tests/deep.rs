//! Tasks in tasks in tasks: what spawns, wakes, cancels and drops them needs no stack for each.
//!
//! Each test has a thread of its own, whose stack is too small for a frame of each level.

use std::pin::Pin;
use std::thread;
use std::time::Duration;
use zsync_runtime::{Driver, Io, yield_now};

const DEPTH: u32 = 10_000;
/// Bytes; 26 for each level.
const STACK: usize = 256 << 10;

/// Runs `test` with little stack.
fn confined(test: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(STACK).spawn(test).unwrap().join().unwrap();
}

/// Each level waits for a task in a scope of its own, the last one for `span`. How many levels there were.
fn nest<D: Driver>(io: Io<D>, depth: u32, span: Duration) -> Pin<Box<dyn Future<Output = u32>>> {
    Box::pin(async move {
        if depth == 0 {
            // By the tasks' own clock, which a driver does not block.
            let _ = io.tasks().sleep(span).await;
            return 0;
        }
        io.scope(async |scope| scope.spawn(nest(io.clone(), depth - 1, span)).await.unwrap_or(0) + 1).await
    })
}

/// Long enough for all levels to have begun.
async fn begun() {
    for _ in 0..2 * DEPTH {
        yield_now().await.unwrap();
    }
}

async fn ends_by_itself<D: Driver>(io: Io<D>) {
    assert_eq!(nest(io, DEPTH, Duration::from_millis(1)).await, DEPTH);
}

async fn is_cancelled<D: Driver>(io: Io<D>) {
    let root = io.spawn(nest(io.clone(), DEPTH, Duration::from_secs(3600)));
    begun().await;
    root.cancel();
    // Each level learns of it where it waits.
    assert_eq!(root.await.unwrap(), 1);
}

async fn is_aborted<D: Driver>(io: Io<D>) {
    let root = io.spawn(nest(io.clone(), DEPTH, Duration::from_secs(3600)));
    begun().await;
    root.abort();
    assert!(root.await.is_err());
}

async fn is_dropped<D: Driver>(io: Io<D>) {
    drop(io.spawn(nest(io.clone(), DEPTH, Duration::from_secs(3600))));
    begun().await;
}

macro_rules! confined {
    ($($name:ident: $io:expr;)*) => {
        $(mod $name {
            use super::*;
            confined!(@each $io, ends_by_itself, is_cancelled, is_aborted, is_dropped);
        })*
    };
    (@each $io:expr, $($case:ident),*) => {
        $(#[test]
        fn $case() {
            confined(|| $io.unwrap().run(async |io| super::$case(io).await));
        })*
    };
}

confined! {
    uring: zsync_runtime::UringIo::new();
    pool: zsync_runtime::PoolIo::new();
    blocking: zsync_runtime::BlockingIo::new();
    simulated: zsync_runtime::SimIo::new(1);
}
