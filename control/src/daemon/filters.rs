//! What `show filters` shows: rules, and what those with `count` have counted.
//!
//! Only reads.

use super::core::Daemon;
use super::flows::{is_asked, known};
use crate::api::{Answer, ApiError, FilterStage, Filters, RuleRow, Show};
use zsync_pipelines::spec::{FilterAction, FilterSpec, Spec, StageSpec};
use zsync_pipelines::stages::filter::Counted;

impl Daemon {
    /// The answer to `show filters`.
    pub(super) fn filters(&self, show: &Show) -> Result<Answer, ApiError> {
        let spec = &self.config.spec;
        let filters = filters(spec);
        known(show, "filter", filters.iter().map(|(label, _)| *label))?;
        let mut answer = Filters::default();
        let entered = self.stages(&self.published());
        for (label, filter) in filters.into_iter().filter(|(label, _)| is_asked(show, label)) {
            answer.stages.extend(entered.iter().filter(|row| row.stage == label).map(|row| FilterStage {
                pipeline: row.pipeline.clone(),
                stage: row.stage.clone(),
                packets: row.packets,
                drops: row.drops,
                rules: filter.rules.len() as u64,
                default: default_word(filter).to_owned(),
            }));
            let counted = self.states.state(label).map(Counted::read).unwrap_or_default();
            let left = show.rows().saturating_sub(answer.rules.len());
            answer.matched += filter.rules.len() as u64;
            answer.rules.extend(rules(spec, label, filter, &counted, left));
        }
        Ok(Answer::Filters(answer))
    }
}

/// The `filter` stages of a configuration, each once, in its order.
fn filters(spec: &Spec) -> Vec<(&str, &FilterSpec)> {
    let mut filters: Vec<(&str, &FilterSpec)> = Vec::new();
    for stage in spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages) {
        if let StageSpec::Filter(filter) = &stage.spec
            && !filters.iter().any(|(label, _)| *label == stage.label)
        {
            filters.push((&stage.label, filter));
        }
    }
    filters
}

/// At most `most` rules, in order. When they are not all, those that count come before others.
fn rules(spec: &Spec, label: &str, filter: &FilterSpec, counted: &Counted, most: usize) -> Vec<RuleRow> {
    let counts = |place: &usize| filter.rules.get(*place).is_some_and(|rule| rule.count.is_some());
    let all = 0..filter.rules.len();
    let mut places: Vec<usize> = if all.len() <= most {
        all.collect()
    } else {
        all.clone().filter(counts).chain(all.filter(|place| !counts(place))).take(most).collect()
    };
    places.sort_unstable();
    let row = |place: usize| {
        let rule = filter.rules.get(place)?;
        let name = rule.count.and_then(|count| filter.counters.get(usize::from(count)));
        let sums = name.map(|name| counted.of(name));
        Some(RuleRow {
            stage: label.to_owned(),
            rule: place as u32 + 1,
            text: filter.rule_text(spec, rule),
            count: name.cloned(),
            packets: sums.map(|(packets, _)| packets),
            bytes: sums.map(|(_, bytes)| bytes),
        })
    };
    places.into_iter().filter_map(row).collect()
}

fn default_word(filter: &FilterSpec) -> &'static str {
    match filter.default {
        FilterAction::Accept => "accept",
        FilterAction::Reject => "reject",
        FilterAction::Drop => "drop",
        FilterAction::Goto(_) => "goto",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;
    use zsync_pipelines::spec::parse;
    use zsync_pipelines::stages::filter::state_size;
    use zsync_pipelines::state::State;

    const CONFIG: &str = "[port.wan]\nnetdev = \"eth1\"\n[port.lan]\nnetdev = \"eth2\"\n[pipeline.p]\ninput = [\"wan\"]\n\
        stages = [\"filter.edge\", \"route\"]\n[pipeline.q]\ninput = [\"lan\"]\nstages = [\"filter.edge\", \"drop\"]\n\
        [filter.edge]\ndefault = \"drop\"\nrules = [\n\
        { accept = true, input = \"wan\", to-port = 1, protocol = \"tcp\" },\n\
        { accept = true, to-port = 2, protocol = \"tcp\" },\n\
        { count = \"web\", to-port = 443, protocol = \"tcp\" },\n\
        { accept = true, to-port = 4, protocol = \"tcp\" },\n]\n";

    #[test]
    fn rules_come_with_their_places_and_counts_and_those_that_count_first() {
        let spec = parse(CONFIG, "f.toml").map_err(|errors| format!("{errors:?}")).unwrap().spec;
        let all = filters(&spec);
        assert_eq!(all.iter().map(|(label, _)| *label).collect::<Vec<_>>(), ["filter.edge"]);
        let state = State::heap(state_size(), 1);
        let nothing = Counted::read(&state);
        let filter = all[0].1;
        let rows = rules(&spec, "filter.edge", filter, &nothing, 10);
        assert_eq!(rows.iter().map(|row| row.rule).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(rows[0].text, "{ accept = true, to-port = 1, protocol = \"tcp\", input = \"wan\" }");
        assert_eq!((&rows[2].count, rows[2].packets, rows[2].bytes), (&Some("web".into()), Some(0), Some(0)));
        assert_eq!((&rows[3].count, rows[3].packets), (&None, None));
        // As a worker leaves it that has met the rule three times: name, packets, bytes.
        let shard = state.shard(0).unwrap();
        let name = "web".bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        shard.u64s(0, 3).unwrap().iter().zip([name, 3, 300]).for_each(|(word, n)| word.store(n, Relaxed));
        let cut = rules(&spec, "filter.edge", filter, &Counted::read(&state), 2);
        assert_eq!(cut.iter().map(|row| row.rule).collect::<Vec<_>>(), [1, 3]);
        assert_eq!((cut[1].packets, cut[1].bytes), (Some(3), Some(300)));
    }
}
