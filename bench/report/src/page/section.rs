//! A section: one comparison, with all that is needed to doubt it.

use super::escape;
use crate::figure::{Unit, digits};
use crate::outcome::{Direction, FEW, Outcome, Series};
use crate::plot::{Size, latency, loss, ratio};
use crate::spread::Spread;
use std::fmt::Write;

pub fn section(index: usize, outcome: &Outcome) -> String {
    let problems = outcome.problems();
    let is_valid = problems.is_empty();
    let class = if is_valid { "" } else { " class=\"void\"" };
    let mut out = format!("<section id=\"c{}\"{class}>\n<h2>{}</h2>\n", index + 1, escape(&outcome.name));
    if !outcome.title.is_empty() {
        let _ = writeln!(out, "<p class=\"method\">{}</p>", escape(&outcome.title));
    }
    if !is_valid {
        let reasons: String =
            problems.iter().map(|problem| format!("<li>{}</li>", escape(problem))).collect();
        let _ = writeln!(
            out,
            "<div class=\"problem\"><b>This is no measurement.</b> Its figures are shown so that nothing is hidden, and \
             count nowhere.<ul>{reasons}</ul></div>"
        );
    }
    let ratios = outcome.ratios();
    if is_valid {
        both(&mut out, "Ratio, pair by pair", |size| ratio::plot(&ratios, size));
    }
    figures(&mut out, outcome, is_valid);
    let order: Vec<&str> = outcome.series().map(|series| series.name.as_str()).collect();
    // A search that is left open has trials all the same, each of which measured something.
    if is_valid || ratios.is_empty() {
        both(&mut out, "Loss by offered rate", |size| loss::plot(&outcome.loss, &order, size));
        both(&mut out, "Latency by percentile", |size| latency::plot(&outcome.latency, &order, size));
    }
    caveats(&mut out, outcome);
    if !outcome.command.is_empty() {
        let _ =
            writeln!(out, "<h3>Measure it again</h3>\n<pre><code>{}</code></pre>", escape(&outcome.command));
    }
    samples(&mut out, outcome, is_valid);
    let _ = writeln!(out, "<p class=\"on\">Measured on {}</p>\n</section>", conditions(outcome));
    out
}

/// A plot for wide and for narrow windows, of which the style shows one.
fn both(out: &mut String, heading: &str, plot: impl Fn(Size) -> Option<String>) {
    if let (Some(wide), Some(narrow)) = (plot(Size::Wide), plot(Size::Narrow)) {
        let _ = writeln!(out, "<h3>{heading}</h3>\n<figure>{wide}{narrow}</figure>");
    }
}

fn unit(outcome: &Outcome) -> Unit {
    let medians =
        outcome.series().filter_map(|series| Spread::of(&series.samples)).map(|spread| spread.median);
    Unit::suiting(medians.fold(0.0, f64::max), &outcome.unit)
}

/// Figures that are no measurement are struck out.
fn struck(text: &str, is_valid: bool) -> String {
    if is_valid { text.to_owned() } else { format!("<s>{text}</s>") }
}

fn figures(out: &mut String, outcome: &Outcome, is_valid: bool) {
    let unit = unit(outcome);
    let has_cpu = outcome.series().any(|series| series.cpu_ns_per_packet.is_some());
    let has_ndr = outcome.series().any(|series| series.ndr.is_some());
    let better = match outcome.direction {
        Direction::More => "more is better",
        Direction::Less => "less is better",
    };
    let _ = write!(
        out,
        "<h3>Figures</h3>\n<div class=\"scroll\"><table class=\"figures\">\n<thead><tr><th>{} <span class=\"range\">({better})\
         </span></th><th class=\"number\">Median</th><th class=\"number\">Least to greatest</th>\
         <th class=\"number\">Rounds</th>{}{}</tr></thead>\n<tbody>\n",
        escape(&unit.name),
        if has_cpu { "<th class=\"number\">CPU, ns/packet</th>" } else { "" },
        if has_ndr { "<th class=\"number\">No-drop rate</th>" } else { "" },
    );
    for series in outcome.series() {
        let Series { name, samples, cpu_ns_per_packet, ndr } = series;
        let spread = Spread::of(samples);
        // The label stands before the figure where a narrow window has no room for columns.
        let cell = |label: &str, text: String| {
            format!("<td class=\"number\" data-label=\"{label}\"><span>{text}</span></td>")
        };
        let figure = |label: &str, text: Option<String>| {
            cell(label, text.map_or("–".to_owned(), |text| struck(&text, is_valid)))
        };
        let mut row = format!("<tr><th scope=\"row\">{}</th>", escape(name));
        row += &figure("Median", spread.map(|s| unit.text(s.median)));
        row += &figure(
            "Least to greatest",
            spread.map(|s| format!("{} to {}", unit.text(s.minimum), unit.text(s.maximum))),
        );
        row += &cell("Rounds", samples.len().to_string());
        if has_cpu {
            row += &figure("CPU, ns/packet", cpu_ns_per_packet.map(digits));
        }
        if has_ndr {
            row += &figure(
                "No-drop rate",
                ndr.map(|ndr| {
                    let unit = Unit::suiting(ndr.rate, "packets/s");
                    format!(
                        "{} {} <span class=\"range\">{}</span>",
                        unit.text(ndr.rate),
                        unit.name,
                        ndr.limit()
                    )
                }),
            );
        }
        let _ = writeln!(out, "{row}</tr>");
    }
    out.push_str("</tbody>\n</table></div>\n");
    if has_cpu {
        out.push_str(
            "<p class=\"aside\">CPU time is of everything involved: the forwarder's threads and the kernel's softirq.</p>\n",
        );
    }
}

fn caveats(out: &mut String, outcome: &Outcome) {
    let mut items: Vec<String> = outcome.notes.iter().map(|note| escape(note)).collect();
    for ratio in outcome.ratios() {
        let pairs = ratio.samples.len();
        if pairs < FEW {
            let (peer, s) = (escape(&ratio.peer), if pairs == 1 { "" } else { "s" });
            items.push(format!("Only {pairs} pair{s} of rounds against {peer}: the spread says little."));
        }
    }
    items.extend(
        outcome
            .absent
            .iter()
            .map(|who| format!("{} was not measured: {}", escape(&who.name), escape(&who.reason))),
    );
    if !items.is_empty() {
        let _ = writeln!(
            out,
            "<h3>Caveats</h3>\n<ul class=\"caveats\"><li>{}</li></ul>",
            items.join("</li><li>")
        );
    }
}

fn samples(out: &mut String, outcome: &Outcome, is_valid: bool) {
    let unit = unit(outcome);
    let _ = write!(
        out,
        "<details><summary>All samples, in the order of the rounds</summary>\n<div class=\"scroll\"><table class=\"samples\">\n"
    );
    let row = |name: &str, samples: Vec<String>| {
        let cells: String =
            samples.iter().map(|s| format!("<td class=\"number\">{}</td>", struck(s, is_valid))).collect();
        format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escape(name))
    };
    for series in outcome.series() {
        let name = format!("{}, {}", series.name, unit.name);
        out.push_str(&row(&name, series.samples.iter().map(|&sample| unit.text(sample)).collect()));
    }
    for ratio in outcome.ratios() {
        let name = format!("ratio to {}", ratio.peer);
        out.push_str(&row(&name, ratio.samples.iter().map(|&sample| digits(sample)).collect()));
    }
    out.push_str("</table></div>\n</details>\n");
}

fn conditions(outcome: &Outcome) -> String {
    let mut text = escape(&outcome.machine.to_string());
    for (label, value) in [("commit", &outcome.commit), ("", &outcome.date)] {
        if !value.is_empty() {
            let _ = write!(text, "; {label} {}", escape(value));
        }
    }
    text + "."
}
