//! Which Io an example runs on: its first argument says.

/// Runs `$main`, an `async fn<D: Driver>(Io<D>) -> T`, on the Io that the first argument names.
macro_rules! run_on_chosen {
    ($main:expr) => {
        match std::env::args().nth(1).as_deref() {
            Some("blocking") => zsync_runtime::BlockingIo::new()?.run($main),
            Some("pool") => zsync_runtime::PoolIo::new()?.run($main),
            Some("uring") => zsync_runtime::UringIo::new()?.run($main),
            Some("sim") => zsync_runtime::SimIo::new(1)?.run($main),
            _ => return Err("the first argument is the Io: blocking, pool, uring or sim".into()),
        }
    };
}
pub(crate) use run_on_chosen;
