//! What zsync counted, as its API says it: read from JSON by name, so that a name that changes is noticed.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The sums of all workers.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// By name: `rx_packets`, `tx_packets`, `punted`, …
    totals: BTreeMap<String, u64>,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Packets that came in less those accounted for.
    pub balance: i64,
}

impl Counts {
    pub(crate) fn read(json: &Value) -> Result<Self> {
        let map = |key: &str| -> Result<BTreeMap<String, u64>> {
            let object = json[key].as_object().with_context(|| format!("no {key} in {json}"))?;
            object.iter().map(|(name, value)| Ok((normal(name), number(value)?))).collect()
        };
        Ok(Self {
            totals: map("totals")?,
            drops: map("drops")?,
            balance: json["balance"].as_i64().context("no balance")?,
        })
    }

    /// The total of that name.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn total(&self, name: &str) -> u64 {
        *self.totals.get(&normal(name)).unwrap_or_else(|| panic!("no total {name}: {:?}", self.totals.keys()))
    }

    /// Packets received.
    #[must_use]
    pub fn rx(&self) -> u64 {
        self.total("rx-packets")
    }

    /// Packets placed in TX rings.
    #[must_use]
    pub fn tx(&self) -> u64 {
        self.total("tx-packets")
    }

    /// Packets given to the kernel.
    #[must_use]
    pub fn punted(&self) -> u64 {
        self.total("punted")
    }

    /// Packets dropped for that reason.
    #[must_use]
    pub fn dropped(&self, reason: &str) -> u64 {
        self.drops.get(&normal(reason)).copied().unwrap_or(0)
    }

    /// Packets dropped for any reason.
    #[must_use]
    pub fn dropped_in_all(&self) -> u64 {
        self.drops.values().sum()
    }
}

/// Frames by owner, and packets by fate.
#[derive(Debug, Clone)]
pub struct Books {
    /// What the workers counted.
    pub counts: Counts,
    ledger: Value,
}

impl Books {
    pub(crate) fn read(ledger: &Value, counters: &Value) -> Result<Self> {
        Ok(Self { counts: Counts::read(counters)?, ledger: ledger.clone() })
    }

    /// # Errors
    /// What does not add up.
    pub(crate) fn check(&self) -> Result<()> {
        let Self { counts, ledger } = self;
        let owners = ["pool", "fill", "rx", "burst", "tx", "completion", "held", "remote"];
        let total = &ledger["total"];
        let frames = number(&ledger["frames"])?;
        let owned = owners.iter().map(|owner| number(&total[owner])).sum::<Result<u64>>()?;
        ensure!(frames > 0 && owned == frames, "{owned} of {frames} frames have an owner: {ledger}");
        for count in ["leaked", "misplaced"] {
            ensure!(number(&total[count])? == 0, "{count} frames: {ledger}");
        }
        for count in ["frames-leaked", "frames-double-completed", "frames-misplaced"] {
            ensure!(counts.total(count) == 0, "{count} is {}: {ledger}", counts.total(count));
        }
        ensure!(ledger["exact"] == true, "the ledger is not exact: {ledger}");

        let fate = |name: &str| number(&ledger["rx-equals"][name]);
        let (came, went) = (
            fate("rx")? + fate("generated")?,
            fate("tx")? + fate("drops")? + fate("punted")? + fate("consumed")? + fate("lost-in-crash")?,
        );
        ensure!(
            came == went && counts.balance == 0,
            "{came} packets came in and {went} are accounted for: {self:?}"
        );
        let drops = counts.dropped_in_all();
        ensure!(
            counts.total("handed-over") == counts.total("taken-over"),
            "packets between workers: {counts:?}"
        );
        let accounted =
            counts.tx() + drops + counts.punted() + counts.total("consumed") + counts.total("lost-in-crash");
        ensure!(
            counts.rx() + counts.total("generated") == accounted,
            "the counters do not add up: {counts:?}"
        );
        Ok(())
    }

    /// Packets that workers had in their hands when they died.
    #[must_use]
    pub fn lost_in_crashes(&self) -> u64 {
        self.counts.total("lost-in-crash")
    }
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("{value} is no count"))
}

/// Names are written with `-` in some places and with `_` in others.
fn normal(name: &str) -> String {
    name.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ledger() -> Value {
        json!({
            "frames": 10, "exact": true,
            "total": {"pool": 4, "fill": 5, "rx": 0, "burst": 0, "tx": 1, "completion": 0, "held": 0, "remote": 0,
                      "misplaced": 0, "leaked": 0},
            "rx-equals": {"rx": 9, "generated": 1, "tx": 5, "drops": 3, "punted": 1, "consumed": 0, "lost-in-crash": 1},
        })
    }

    fn counters() -> Value {
        json!({
            "totals": {"rx_packets": 9, "generated": 1, "tx_packets": 5, "punted": 1, "consumed": 0, "lost_in_crash": 1,
                       "handed_over": 2, "taken_over": 2, "frames_leaked": 0, "frames_double_completed": 0,
                       "frames_misplaced": 0},
            "drops": {"no-route": 2, "too-big": 1},
            "balance": 0,
        })
    }

    #[test]
    fn books_that_add_up_and_books_that_do_not() {
        let books = Books::read(&ledger(), &counters()).unwrap();
        books.check().unwrap();
        assert_eq!((books.lost_in_crashes(), books.counts.dropped("no_route")), (1, 2));
        for (path, value) in [
            ("/total/pool", 3),
            ("/total/leaked", 1),
            ("/total/misplaced", 1),
            ("/rx-equals/tx", 4),
            ("/rx-equals/drops", 4),
            ("/frames", 0),
        ] {
            let mut wrong = ledger();
            *wrong.pointer_mut(path).unwrap() = value.into();
            assert!(Books::read(&wrong, &counters()).unwrap().check().is_err(), "{path}");
        }
        for (path, value) in [
            ("/totals/rx_packets", 8),
            ("/totals/frames_leaked", 1),
            ("/totals/taken_over", 1),
            ("/drops/too-big", 0),
            ("/balance", 1),
        ] {
            let mut wrong = counters();
            *wrong.pointer_mut(path).unwrap() = value.into();
            assert!(Books::read(&ledger(), &wrong).unwrap().check().is_err(), "{path}");
        }
    }
}
