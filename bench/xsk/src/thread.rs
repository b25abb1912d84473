//! Threads of their own for queues, pinned.

use std::thread::JoinHandle;

use crate::error::XskError;

/// Runs `work` in a thread on `core`. The thread has the caller's network namespace; what `work` opens it opens there.
///
/// # Errors
/// From the thread: [`XskError::Core`], or what `work` returns.
pub fn spawn_pinned<T: Send + 'static>(
    core: usize,
    work: impl FnOnce() -> Result<T, XskError> + Send + 'static,
) -> JoinHandle<Result<T, XskError>> {
    std::thread::spawn(move || {
        if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
            return Err(XskError::Core(core));
        }
        work()
    })
}
