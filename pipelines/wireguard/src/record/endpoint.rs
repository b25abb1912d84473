//! Where a peer is: the words of a record that say so.
//!
//! Keeps true: who reads while it changes reads the one or the other, or that nobody knows. Calls back are counted by whoever else maps
//! the memory, and heeded by the owner, so nobody writes what the other one writes.

use super::Record;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const TURNS: usize = 7;
const REMOTE: usize = 8;
const PORT: usize = 10;
const LOCAL: usize = 11;
pub(super) const CALLS: usize = 28;
pub(super) const HEEDED: usize = 29;

/// Where a peer is, and where it reaches us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The peer's.
    pub remote: SocketAddr,
    /// Ours; unspecified: not known yet.
    pub local: IpAddr,
}

impl Endpoint {
    /// Of a peer from which nothing has come yet.
    pub(crate) fn unheard(remote: SocketAddr) -> Self {
        let local = if remote.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        Self { remote, local }
    }
}

impl Record<'_> {
    /// Where the peer is; `None`: nobody knows.
    #[inline]
    pub fn endpoint(&self) -> Option<Endpoint> {
        loop {
            let before = self.0[TURNS].load(Acquire);
            let port = self.0[PORT].load(Acquire);
            let address = |at: usize| {
                let high = u128::from(self.0[at].load(Acquire));
                Ipv6Addr::from_bits(high << 64 | u128::from(self.0[at + 1].load(Acquire))).to_canonical()
            };
            let (remote, local) = (address(REMOTE), address(LOCAL));
            if before & 1 == 0 && self.0[TURNS].load(Acquire) == before {
                let known = Endpoint { remote: SocketAddr::new(remote, port as u16), local };
                return (port != 0).then_some(known);
            }
            if before & 1 == 1 && self.0[TURNS].load(Acquire) == before {
                // Its writer was killed in between, or is at it: nobody waits for that.
                return None;
            }
        }
    }

    /// Says where the peer is, if that has changed.
    #[inline]
    pub fn set_endpoint(&self, endpoint: Endpoint) {
        if self.endpoint() == Some(endpoint) {
            return;
        }
        let turn = self.0[TURNS].load(Relaxed) | 1;
        self.0[TURNS].store(turn, Release);
        for (at, address) in [(REMOTE, endpoint.remote.ip()), (LOCAL, endpoint.local)] {
            let bits = match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
                IpAddr::V6(v6) => v6.to_bits(),
            };
            self.0[at].store((bits >> 64) as u64, Release);
            self.0[at + 1].store(bits as u64, Release);
        }
        self.0[PORT].store(u64::from(endpoint.remote.port()), Release);
        self.0[TURNS].store(turn.wrapping_add(1), Release);
    }

    /// Asks the worker that owns the record to say again that the peer is where it is configured to be, wherever it has gone since. For
    /// who does not own it.
    pub fn call_back(&self) {
        self.0[CALLS].fetch_add(1, Release);
    }

    /// Whether that was asked for, and is not done yet.
    #[inline]
    pub fn is_called_back(&self) -> bool {
        self.0[CALLS].load(Acquire) != self.0[HEEDED].load(Relaxed)
    }

    /// Does it: the peer is at `configured`, if that is anywhere.
    pub(crate) fn heed(&self, configured: Option<SocketAddr>) {
        let calls = self.0[CALLS].load(Acquire);
        if let Some(remote) = configured {
            self.set_endpoint(Endpoint::unheard(remote));
        }
        self.0[HEEDED].store(calls, Release);
    }

    /// After its writer has died: half of an endpoint is none.
    pub(super) fn mend_endpoint(&self) {
        let turns = self.0[TURNS].load(Relaxed);
        if turns & 1 == 1 {
            self.0[PORT].store(0, Release);
            self.0[TURNS].store(turns.wrapping_add(1), Release);
        }
    }
}
