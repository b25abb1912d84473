//! How many requests of a tunnel were refused, and why: since its socket is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use zsync_pipelines::spec::wireguard::uapi::Errno;

/// What is counted for a request that never came to its end.
pub(super) const UNFINISHED: &str = "unfinished";

/// See the module. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Refused(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Refused {
    /// Counts one more.
    pub(super) fn count(&self, why: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
    }

    /// By reason, those that there were.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect()
    }
}

/// A reason, as it is shown.
pub(super) const fn why(errno: Errno) -> &'static str {
    match errno {
        Errno::Io => "failed",
        Errno::Busy => "busy",
        Errno::NoDevice => "no-tunnel",
        Errno::Invalid => "invalid",
        Errno::NoSpace => "no-space",
        Errno::Protocol => "protocol",
        Errno::TooLong => "too-long",
        Errno::NotSupported => "not-supported",
        Errno::InUse => "port-in-use",
    }
}
