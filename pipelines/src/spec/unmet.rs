//! Rules of filters that no packet can meet, because an earlier rule takes all of theirs.
//!
//! What the classifier knows of its rules, said with their places in the file. Takes about as long as to compile the filters, so
//! it is for who checks a configuration and not for who puts it in force. Finds rules that one other covers, not those that
//! only several together do; of a crowd of overlapping rules perhaps not all.

use std::collections::BTreeSet;

use super::findings::Findings;
use super::model::StageSpec;
use super::{Diagnostic, FilterSpec, Parsed, Spec};
use crate::stages::filter::Compiled;

/// Warnings of such rules in `parsed`, which was read from `source`, as diagnostics call it `file`; in the order of the file.
#[must_use]
pub fn unmet(parsed: &Parsed, source: &str, file: &str) -> Vec<Diagnostic> {
    let mut out = Findings::new(source, file);
    let mut seen = BTreeSet::new();
    let stages = parsed.spec.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    for stage in stages {
        let StageSpec::Filter(filter) = &stage.spec else { continue };
        if seen.insert(&stage.label) {
            warn(&parsed.spec, &stage.label, filter, parsed, &mut out);
        }
    }
    out.finish().unwrap_or_default()
}

fn warn(spec: &Spec, label: &str, filter: &FilterSpec, parsed: &Parsed, out: &mut Findings<'_>) {
    // Rules that need too much memory are another matter.
    let Ok(compiled) = Compiled::new(filter) else { return };
    let place = |rule: usize| parsed.rules.get(label)?.get(rule).cloned();
    for (rule, cover) in compiled.covered() {
        let (Some(at), Some(by), Some(text)) = (place(rule), place(cover), filter.rules.get(cover)) else {
            continue;
        };
        let line = out.line(by.start);
        out.warning(
            &at,
            format!(
                "no packet meets this rule of [{label}]: the one in line {line} takes all of its packets"
            ),
        )
        .label("never met")
        .help(format!("line {line} says {}", filter.rule_text(spec, text)));
    }
}
