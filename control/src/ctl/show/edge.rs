//! Rules, connections and translations as text.

use super::{View, cut};
use crate::api::{Filters, Flows, Mappings};
use crate::ctl::table::Table;
use crate::ctl::text::{long, separated};

impl View {
    pub(super) fn filters(self, filters: &Filters) -> String {
        let mut stages = Table::new(&["PIPELINE", "STAGE", ">PACKETS", ">DROPS", ">RULES", "DEFAULT"]);
        for row in &filters.stages {
            stages.row([
                row.pipeline.clone(),
                row.stage.clone(),
                self.count(row.packets),
                self.count(row.drops),
                row.rules.to_string(),
                row.default.clone(),
            ]);
        }
        let mut rules = Table::new(&["STAGE", ">RULE", "COUNT", ">PACKETS", ">BYTES", "TEXT"]);
        for row in &filters.rules {
            let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| self.count(n));
            rules.row([
                row.stage.clone(),
                row.rule.to_string(),
                row.count.clone().unwrap_or_else(|| "-".to_owned()),
                number(row.packets),
                number(row.bytes),
                row.text.clone(),
            ]);
        }
        let rest = cut(filters.rules.len(), filters.matched, "rule", "name a --stage");
        self.sections([Some(&stages), Some(&rules)], &rest)
    }

    pub(super) fn flows(self, flows: &Flows) -> String {
        let mut tables = Table::new(&[
            "STAGE",
            ">FLOWS",
            ">LIMIT",
            ">WEAK",
            ">HALF OPEN",
            ">TRANSLATED",
            "SINCE ITS START",
        ]);
        for table in &flows.tables {
            let events: Vec<String> =
                table.events.iter().map(|(event, n)| format!("{} {event}", self.count(*n))).collect();
            let counts = [table.flows, table.limit, table.weak, table.half_open, table.translated];
            let counts = counts.map(|n| self.count(n));
            tables.row([table.stage.clone()].into_iter().chain(counts).chain([events.join(", ")]));
        }
        let mut rows = Table::new(&[
            "STAGE",
            ">WORKER",
            "PROTOCOL",
            "FROM",
            "TO",
            "ANSWERED FROM",
            "ANSWERED TO",
            "STATE",
            "TRANSLATED",
            ">MARK",
            ">AGE",
            ">ENDS IN",
        ]);
        for flow in &flows.flows {
            rows.row([
                flow.stage.clone(),
                flow.worker.to_string(),
                flow.protocol.clone(),
                flow.from.clone(),
                flow.to.clone(),
                flow.reply_from.clone(),
                flow.reply_to.clone(),
                flow.state.clone(),
                flow.translated.clone().unwrap_or_default(),
                if flow.mark == 0 { String::new() } else { flow.mark.to_string() },
                flow.age_ms.map(long).unwrap_or_default(),
                long(flow.expires_ms),
            ]);
        }
        let rest = cut(flows.flows.len(), flows.matched, "connection", "name an address with --match");
        self.sections([Some(&tables), Some(&rows)], &rest)
    }

    pub(super) fn mappings(self, mappings: &Mappings) -> String {
        let mut tables = Table::new(&["STAGE", ">MAPPINGS", ">LIMIT", ">BLOCK OF PORTS", ">LOG LOST"]);
        for table in &mappings.tables {
            let or_none = |n: u64| if n == 0 { String::new() } else { self.count(n) };
            tables.row([
                table.stage.clone(),
                self.count(table.mappings),
                self.count(table.limit),
                or_none(table.block.into()),
                or_none(table.log_lost),
            ]);
        }
        let mut addresses = Table::new(&["STAGE", "ADDRESS", ">MAPPINGS", ">BLOCKS", ">OF"]);
        for row in &mappings.addresses {
            let number = |n: Option<u64>| n.map(|n| self.count(n)).unwrap_or_default();
            let counts = [self.count(row.mappings), number(row.blocks), number(row.blocks_limit)];
            addresses.row([row.stage.clone(), row.address.clone()].into_iter().chain(counts));
        }
        let mut rows = Table::new(&["STAGE", ">WORKER", "PROTOCOL", "INSIDE", "OUTSIDE", ">FLOWS"]);
        for row in &mappings.mappings {
            rows.row([
                row.stage.clone(),
                row.worker.to_string(),
                row.protocol.clone(),
                row.internal.clone(),
                row.external.clone(),
                self.count(row.flows),
            ]);
        }
        let mut rest =
            cut(mappings.mappings.len(), mappings.matched, "mapping", "name an address with --match");
        let known = mappings.addresses_matched;
        if known > mappings.addresses.len() as u64 {
            let (shown, known) = (separated(mappings.addresses.len() as u64), separated(known));
            rest = format!("{shown} of {known} addresses are shown; see --limit\n{rest}");
        }
        self.sections([Some(&tables), Some(&addresses), Some(&rows)], &rest)
    }
}
