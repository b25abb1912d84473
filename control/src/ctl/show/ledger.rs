//! The ledger as text: whose the frames are, and what has become of the packets.
//!
//! Owns: the columns. Refuses nothing.

use super::View;
use crate::api::{Ledger, LedgerRow};
use crate::ctl::table::Table;
use crate::ctl::text::separated;

impl View {
    pub(super) fn ledger(self, ledger: &Ledger) -> String {
        let mut table = Table::new(&[
            "WORKER",
            ">POOL",
            ">FILL",
            ">RX",
            ">BURST",
            ">TX",
            ">COMPLETION",
            ">HELD",
            ">REMOTE",
            ">MISPLACED",
            ">LEAKED",
        ]);
        let mut row = |name: String, row: &LedgerRow| {
            let owners =
                [row.pool, row.fill, row.rx, row.burst, row.tx, row.completion, row.held, row.remote];
            let all = owners.into_iter().chain([row.misplaced, row.leaked]);
            // Always to the last frame: sums of rounded numbers prove nothing.
            table.row(std::iter::once(name).chain(all.map(separated)));
        };
        for worker in &ledger.workers {
            row(worker.worker.map_or_else(|| "-".to_owned(), |n| n.to_string()), worker);
        }
        row("all".to_owned(), &ledger.total);
        let packets = &ledger.rx_equals;
        let side = |terms: &[(&str, u64)]| {
            let always = 1; // the first term is shown also when it is 0
            let shown = (0..).zip(terms).filter(|(at, (_, n))| *at < always || *n > 0);
            shown.map(|(_, (name, n))| format!("{} {name}", separated(*n))).collect::<Vec<_>>().join(" + ")
        };
        let came = side(&[("rx", packets.rx), ("generated", packets.generated)]);
        let went = side(&[
            ("tx", packets.tx),
            ("drops", packets.drops),
            ("punted", packets.punted),
            ("consumed", packets.consumed),
            ("lost in crashes", packets.lost_in_crash),
        ]);
        let word = |exact: bool| if exact { "exact" } else { "NOT EXACT" };
        let rest = format!(
            "frames: {}, {}\npackets: {came} {} {went}, {}\n",
            separated(ledger.frames),
            word(ledger.exact),
            if packets.exact { "=" } else { "≠" },
            word(packets.exact),
        );
        self.sections([Some(&table)], &rest)
    }
}
