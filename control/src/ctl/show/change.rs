//! Configurations as text: those there were, and what another one changes.
//!
//! Owns: the columns. Refuses nothing; what comes from a file or a kernel is shown without control characters.

use super::View;
use crate::api::{Applied, HistoryRow, Plan};
use crate::ctl::table::Table;
use crate::ctl::text::{long, printable, short, when};
use std::fmt::Write as _;
use zsync_pipelines::spec::{Change, Effect, Mark};

impl View {
    pub(super) fn history(self, rows: &[HistoryRow]) -> String {
        let mut table = Table::new(&[">NUMBER", "STATE", "ACCEPTED", ">UID", "HASH", "FILE"]);
        for row in rows {
            table.row([
                row.number.to_string(),
                row.state.as_str().to_owned(),
                when(row.time, self.now),
                row.by_uid.to_string(),
                row.hash.chars().take(12).collect(),
                row.file.clone(),
            ]);
        }
        self.sections([Some(&table)], "")
    }

    pub(super) fn plan(self, plan: &Plan) -> String {
        format!("{}{}\n", self.changes(&plan.changes), printable(&plan.summary))
    }

    pub(super) fn applied(self, applied: &Applied) -> String {
        let mut text = self.changes(&applied.changes);
        let _ = write!(text, "configuration {} is in force, epoch {}", applied.number, applied.epoch);
        if let Some(us) = applied.adopted_us {
            let _ = write!(text, ", adopted by every worker after {}", short(us));
        }
        text.push_str(if applied.respawned { "; the data plane was started again\n" } else { "\n" });
        if let Some(ms) = applied.confirm_ms {
            let _ = writeln!(text, "taken back in {} unless `zsyncctl confirm` comes first", long(ms));
        }
        text
    }

    fn changes(self, changes: &[Change]) -> String {
        let mut text = String::new();
        for change in changes {
            let code = match change.mark {
                Mark::Added => "32",
                Mark::Removed => "31",
                Mark::Changed => "33",
            };
            let line = printable(&change.to_string());
            let line = if self.colour { format!("\x1b[{code}m{line}\x1b[0m") } else { line };
            let effect = match &change.effect {
                Effect::Live => String::new(),
                effect => format!("  ({})", printable(&effect.to_string())),
            };
            let _ = writeln!(text, "{line}{effect}");
        }
        text
    }
}
