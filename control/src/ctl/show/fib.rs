//! Forwarding tables as text.
//!
//! Owns: the columns. Refuses nothing.

use super::{View, cut};
use crate::api::{Fib, RouteRow, RouteTarget};
use crate::ctl::table::Table;

impl View {
    pub(super) fn fib(self, fib: &Fib) -> String {
        let mut tables = Table::new(&[">TABLE", ">EPOCH", ">ROUTES", "USED"]);
        for table in &fib.tables {
            let usage = table.usage.iter().map(|usage| {
                let retired =
                    if usage.retired > 0 { format!("+{}", self.count(usage.retired)) } else { String::new() };
                format!("{} {}{retired}/{}", usage.what, self.count(usage.used), self.count(usage.limit))
            });
            let usage = usage.collect::<Vec<_>>().join(", ");
            let numbers = [u64::from(table.table), table.epoch, table.routes].map(|n| n.to_string());
            tables.row(numbers.into_iter().chain([usage]));
        }
        let mut routes = Table::new(&["PREFIX", "TARGET"]);
        for route in &fib.routes {
            routes.row([route.prefix.clone(), target(route)]);
        }
        let rest = cut(fib.routes.len(), fib.matched, "route", "name a prefix");
        self.sections([Some(&tables), (!routes.is_empty()).then_some(&routes)], &rest)
    }
}

/// `wan via 192.0.2.1 (02:00:00:00:00:01)`, hops by commas, weights where they differ.
fn target(route: &RouteRow) -> String {
    if route.target != RouteTarget::Forward {
        return route.target.as_str().to_owned();
    }
    let weighed = route.hops.windows(2).any(|pair| pair[0].weight != pair[1].weight);
    let hop = |hop: &crate::api::HopRow| {
        let via = hop.gateway.as_ref().map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let mac = hop.mac.as_deref().unwrap_or("unresolved");
        let weight = if weighed { format!(" weight {}", hop.weight) } else { String::new() };
        format!("{}{via} ({mac}){weight}", hop.port)
    };
    route.hops.iter().map(hop).collect::<Vec<_>>().join(", ")
}
