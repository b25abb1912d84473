//! The answer to `show ledger`: frames by their owners, as the workers count them, and packets by what became of them.

use super::core::{Daemon, ReplyTo};
use crate::api::{Answer, ApiError, Code, Ledger, LedgerRow, RxEquals};
use zsync_protocol::message::{ToDataplane, WorkerAudit};
use zsync_protocol::stats;

impl Daemon {
    /// The workers count their frames themselves, at a pass boundary.
    pub(super) fn ask_ledger(&mut self, reply: ReplyTo) {
        if !self.phase.is_running() {
            let error =
                ApiError::new(Code::Unavailable, "no data plane is running that could count its frames");
            let _ = reply.send(Err(error));
            return;
        }
        let id = self.next_audit;
        self.next_audit = self.next_audit.wrapping_add(1);
        self.audits.insert(id, reply);
        self.tell(&ToDataplane::Audit { id }, &[]);
    }

    /// The answer to `show ledger`, from what the workers counted.
    pub(super) fn ledger(&self, audits: &[WorkerAudit]) -> Answer {
        let workers: Vec<LedgerRow> = audits.iter().map(ledger_row).collect();
        let mut total = LedgerRow::default();
        for row in &workers {
            total.pool += row.pool;
            total.fill += row.fill;
            total.rx += row.rx;
            total.burst += row.burst;
            total.tx += row.tx;
            total.completion += row.completion;
            total.held += row.held;
            total.remote += row.remote;
            total.misplaced += row.misplaced;
            total.leaked += row.leaked;
        }
        let frames = u64::from(self.installation.layout.frames);
        let owned = total.pool
            + total.fill
            + total.rx
            + total.burst
            + total.tx
            + total.completion
            + total.held
            + total.remote;
        let published = self.published();
        let sum = |of: fn(&stats::Counters) -> u64| published.iter().map(of).sum::<u64>();
        let rx_equals = RxEquals {
            rx: sum(|c| c.rx_packets),
            generated: sum(|c| c.generated),
            tx: sum(|c| c.tx_packets),
            drops: sum(stats::Counters::dropped),
            punted: sum(|c| c.punted),
            consumed: sum(|c| c.consumed),
            lost_in_crash: sum(|c| c.lost_in_crash),
            // Those that have come and not gone wait for their time.
            exact: published.iter().map(stats::Counters::balance).sum::<i128>() == i128::from(total.held),
        };
        let exact = owned == frames && total.leaked == 0 && total.misplaced == 0;
        Answer::Ledger(Ledger { frames, workers, total, exact, rx_equals })
    }
}

fn ledger_row(audit: &WorkerAudit) -> LedgerRow {
    LedgerRow {
        worker: Some(audit.worker.into()),
        pool: audit.pool.into(),
        fill: audit.fill.into(),
        rx: audit.rx.into(),
        burst: audit.burst.into(),
        tx: audit.tx.into(),
        completion: audit.completion.into(),
        held: audit.held.into(),
        remote: audit.remote.into(),
        misplaced: audit.misplaced,
        leaked: audit.leaked.into(),
    }
}

pub(super) fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}
