//! Which addresses are the host's own.

use std::net::IpAddr;

use crate::tables::fib::{Adjacency, Fib};

/// The addresses that the kernel takes packets for itself at, as its routes have them; none, when there are no routes.
#[derive(Clone, Debug, Default)]
pub struct Own {
    fib: Option<Fib>,
}

impl Own {
    /// By these routes.
    pub fn of(fib: Option<Fib>) -> Self {
        Self { fib }
    }

    /// Whether an address is one of them.
    #[cold]
    pub fn has(&self, address: IpAddr) -> bool {
        let Some(fib) = &self.fib else { return false };
        let route = match address {
            IpAddr::V4(address) => fib.route4(address.to_bits()),
            IpAddr::V6(address) => fib.route6(&address.octets()),
        };
        matches!(fib.adjacency(route, 0), Adjacency::Local | Adjacency::Deliver { .. })
    }
}
