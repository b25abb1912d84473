//! Which addresses are the host's own.

use std::net::IpAddr;

use crate::tables::fib::{Adjacency, Fib, FibTables};

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

    /// The routes that say so, to look up in: taken once a burst.
    #[inline]
    pub fn tables(&self) -> Option<FibTables<'_>> {
        self.fib.as_ref().map(Fib::tables)
    }

    /// Whether an address is one of them.
    #[cold]
    pub fn has(&self, address: IpAddr) -> bool {
        self.tables().is_some_and(|tables| is_local(&tables, address))
    }
}

/// Whether an address is the host's own, by these routes.
#[inline]
pub fn is_local(tables: &FibTables<'_>, address: IpAddr) -> bool {
    let route = match address {
        IpAddr::V4(address) => tables.route4(address.to_bits()),
        IpAddr::V6(address) => tables.route6(&address.octets()),
    };
    matches!(tables.adjacency(route, 0), Adjacency::Local | Adjacency::Deliver { .. })
}
