//! The first screen: what was compared, on what, what came of it, and how to read it.

use super::escape;
use crate::figure::digits;
use crate::machine::Machine;
use crate::outcome::{LEVEL, Outcome, Ratio, Standing};
use crate::plot::ratio::{scale, span, strip};
use std::collections::BTreeSet;
use std::fmt::Write;

pub fn summary(outcomes: &[Outcome]) -> String {
    if outcomes.is_empty() {
        return "<p class=\"lede\">There is nothing here: no outcome was given.</p>\n".to_owned();
    }
    let mut out = format!("<p class=\"lede\">{}</p>\n", lede(outcomes));
    out.push_str(&facts(outcomes));
    let valid: Vec<Ratio> =
        outcomes.iter().filter(|o| o.problems().is_empty()).flat_map(Outcome::ratios).collect();
    let span = span(&valid);
    let _ = write!(
        out,
        "<table class=\"summary\">\n<thead><tr><th>Comparison</th><th>Against</th><th>zsync is</th>\
         <th class=\"number\">Ratio</th><th class=\"axis\">{}</th></tr></thead>\n<tbody>\n",
        scale(span)
    );
    outcomes.iter().enumerate().for_each(|(index, outcome)| rows(&mut out, index, outcome, span));
    let _ = write!(
        out,
        "</tbody>\n</table>\n\
         <p class=\"how\"><b>How to read this.</b> Both sides of a comparison run in turn, A B A B, in one run, and each pair of \
         rounds gives one ratio. The dot is the median of the ratios, the line goes from the smallest to the greatest. \
         <b>Above 1 zsync is better</b>, whether the unit is packets per second or nanoseconds. zsync is called <i>ahead</i> or \
         <i>behind</i> only if every pair says so and the median is more than {:.0} % away from 1; otherwise it is \
         <i>level</i>.</p>\n",
        LEVEL * 100.0
    );
    out
}

fn lede(outcomes: &[Outcome]) -> String {
    let mut peers: Vec<&str> = vec![];
    for peer in outcomes.iter().flat_map(|outcome| &outcome.peers) {
        if !peers.contains(&peer.name.as_str()) {
            peers.push(&peer.name);
        }
    }
    let standings: Vec<Standing> = outcomes
        .iter()
        .filter(|o| o.problems().is_empty())
        .flat_map(Outcome::ratios)
        .map(|ratio| ratio.standing())
        .collect();
    let count = |standing| standings.iter().filter(|&&s| s == standing).count();
    let invalid = outcomes.iter().filter(|o| !o.problems().is_empty()).count();
    let mut parts: Vec<String> = [Standing::Ahead, Standing::Level, Standing::Behind]
        .into_iter()
        .filter(|&standing| count(standing) > 0)
        .map(|s| format!("<span class=\"badge {0}\">{1} {0}</span>", s.word(), count(s)))
        .collect();
    if invalid > 0 {
        parts.push(format!("<span class=\"badge void\">{invalid} not valid</span>"));
    }
    let peers: Vec<String> = peers.iter().map(|peer| format!("<b>{}</b>", escape(peer))).collect();
    let named = match peers.as_slice() {
        [] => "zsync by itself".to_owned(),
        [one] => format!("zsync beside {one}"),
        [most @ .., last] => format!("zsync beside {} and {last}", most.join("; ")),
    };
    let benchmarks = if outcomes.len() == 1 {
        "One benchmark".to_owned()
    } else {
        format!("{} benchmarks", outcomes.len())
    };
    format!(
        "zsync is a program that forwards network packets past the kernel. {benchmarks} of {named}, each measured \
         in turn with it:</p>\n<p class=\"tally\">{}",
        parts.join(" ")
    )
}

/// What was measured on. One table row each, with every value that occurs, since runs may come from several machines.
fn facts(outcomes: &[Outcome]) -> String {
    let mut out = "<dl class=\"facts\">\n".to_owned();
    let mut fact = |name: &str, of: &dyn Fn(&Outcome) -> String| {
        let values: BTreeSet<String> = outcomes.iter().map(of).filter(|value| !value.is_empty()).collect();
        if !values.is_empty() {
            let values: Vec<String> = values.iter().map(|value| escape(value)).collect();
            let _ = writeln!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", values.join("<br>"));
        }
    };
    fact("Processor", &|o| processor(&o.machine));
    fact("Kernel", &|o| {
        if o.machine.kernel.is_empty() { String::new() } else { format!("Linux {}", o.machine.kernel) }
    });
    fact("Devices", &|o| o.machine.devices().unwrap_or_default());
    fact("Commit", &|o| o.commit.clone());
    fact("Date", &|o| o.date.clone());
    let loads: Vec<f64> = outcomes.iter().map(|outcome| outcome.machine.load).collect();
    let least = loads.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = loads.iter().copied().fold(0.0, f64::max);
    let load =
        if greatest - least < 0.05 { format!("{least:.1}") } else { format!("{least:.1} to {greatest:.1}") };
    let _ = writeln!(out, "<div><dt>Load when it began</dt><dd>{load}</dd></div>\n</dl>");
    out
}

fn processor(machine: &Machine) -> String {
    let cores = match machine.cores {
        0 => String::new(),
        1 => ", 1 core".to_owned(),
        cores => format!(", {cores} cores"),
    };
    let clock = machine.ghz.map(|ghz| format!(", TSC {ghz:.2} GHz")).unwrap_or_default();
    format!("{}{cores}{clock}", machine.processor)
}

fn rows(out: &mut String, index: usize, outcome: &Outcome, span: (f64, f64)) {
    let name = format!("<a href=\"#c{}\">{}</a>", index + 1, escape(&outcome.name));
    let problems = outcome.problems();
    if !problems.is_empty() {
        let _ = writeln!(
            out,
            "<tr class=\"void\"><th scope=\"row\"><s>{name}</s></th><td colspan=\"4\"><span class=\"badge void\">not valid\
             </span> {}</td></tr>",
            escape(&problems.join("; "))
        );
        return;
    }
    let ratios = outcome.ratios();
    if ratios.is_empty() {
        let absent: Vec<String> =
            outcome.absent.iter().map(|who| format!("{}: {}", who.name, who.reason)).collect();
        let why =
            if absent.is_empty() { "measured by itself".to_owned() } else { escape(&absent.join("; ")) };
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{name}</th><td colspan=\"4\"><span class=\"badge none\">no peer</span> {why}</td></tr>"
        );
    }
    for (row, ratio) in ratios.iter().enumerate() {
        let (word, spread) = (ratio.standing().word(), ratio.spread);
        let _ = writeln!(
            out,
            "<tr{}><th scope=\"row\">{name}</th><td>{}</td><td><span class=\"badge {word}\">{word}</span></td>\
             <td class=\"number\"><b>{}</b> <span class=\"range\">{} to {}</span></td><td class=\"axis\">{}</td></tr>",
            if row > 0 { " class=\"again\"" } else { "" },
            escape(&ratio.peer),
            digits(spread.median),
            digits(spread.minimum),
            digits(spread.maximum),
            strip(ratio, span)
        );
    }
}
