//! The forwarding tables, as the daemon shows them.
//!
//! Owns nothing: it reads what control has written. Refuses a prefix that is none.

use super::show_mac;
use crate::api::{
    Answer, ApiError, Code, Fib, FibTable, HopRow, RouteFilter, RouteRow, RouteTarget, Show, Usage,
};
use crate::daemon::core::Daemon;
use crate::netlink::NOBODY;
use zsync_pipelines::tables::fib::{self, FibWriter};

impl Daemon {
    pub(super) fn fib(&self, show: &Show) -> Result<Answer, ApiError> {
        let filter = match &show.prefix {
            Some(text) => {
                Some(RouteFilter::parse(text).map_err(|what| ApiError::new(Code::BadParams, what))?)
            }
            None => None,
        };
        let mut answer = Fib::default();
        for table in &self.routes {
            let writer = table.writer();
            let usage = writer.usage();
            let row = |what: &str, usage: fib::Usage| Usage {
                what: what.to_owned(),
                used: usage.used.into(),
                retired: usage.retired.into(),
                limit: usage.limit.into(),
            };
            answer.tables.push(FibTable {
                table: table.table,
                epoch: self.epoch,
                routes: (usage.v4_routes + usage.v6_routes) as u64,
                usage: vec![
                    row("v4-groups", usage.v4_groups),
                    row("v6-groups", usage.v6_groups),
                    row("next-hops", usage.next_hops),
                    row("members", usage.members),
                    row("adjacencies", usage.adjacencies),
                ],
            });
            let wanted =
                writer.iter().filter(|route| filter.is_none_or(|f| f.matches(route.prefix, route.len)));
            for route in wanted {
                answer.matched += 1;
                if answer.routes.len() < show.rows() {
                    answer.routes.push(self.route_row(writer, &route));
                }
            }
        }
        Ok(Answer::Fib(answer))
    }

    fn route_row(&self, writer: &FibWriter, route: &fib::FibRoute) -> RouteRow {
        let on_link = |(id, _): &(fib::AdjacencyId, u8)| {
            writer.adjacencies().any(|(found, _, gateway, _)| found == *id && gateway == NOBODY)
        };
        let (target, hops) = match &route.target {
            fib::Target::Hops(hops) if hops.iter().all(on_link) => (RouteTarget::Kernel, [].as_slice()),
            fib::Target::Hops(hops) => (RouteTarget::Forward, hops.as_slice()),
            fib::Target::Kernel => (RouteTarget::Kernel, [].as_slice()),
            fib::Target::Local => (RouteTarget::Local, [].as_slice()),
            fib::Target::Blackhole => (RouteTarget::Blackhole, [].as_slice()),
            fib::Target::Unreachable => (RouteTarget::Unreachable, [].as_slice()),
            fib::Target::Prohibit => (RouteTarget::Prohibit, [].as_slice()),
        };
        let hop = |(id, weight): &(fib::AdjacencyId, u8)| {
            let (_, port, gateway, adjacency) = writer.adjacencies().find(|(found, ..)| found == id)?;
            let name = self.installation.ports.get(usize::from(port)).map_or("?", |p| &p.spec.name);
            Some(HopRow {
                port: name.to_owned(),
                gateway: (gateway != route.prefix).then(|| gateway.to_string()),
                mac: match adjacency {
                    fib::Adjacency::Forward { mac, .. } => Some(show_mac(mac)),
                    _ => None,
                },
                weight: *weight,
            })
        };
        RouteRow {
            prefix: format!("{}/{}", route.prefix, route.len),
            target,
            hops: hops.iter().filter_map(hop).collect(),
        }
    }
}
