//! The page: one HTML file that needs nothing else, neither network nor script.
//!
//! Keeps true: no text of an outcome becomes markup; what is not valid is shown, struck out, with the reason, and counts
//! nowhere; what is claimed of a comparison (ahead, level, behind) is claimed by the rule that stands on the page.

mod section;
mod summary;

use crate::outcome::Outcome;
use section::section;
use summary::summary;

/// Allows nothing but what is in the file: no script, no address is ever asked.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page about `outcomes`, in their order, under `title`.
pub fn html(title: &str, outcomes: &[Outcome]) -> String {
    let (shown, css) = (escape(title), include_str!("page.css"));
    let sections: String =
        outcomes.iter().enumerate().map(|(index, outcome)| section(index, outcome)).collect();
    let summary = summary(outcomes);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{shown}</title>\n<style>\n{css}</style>\n</head>\n\
         <body>\n<main>\n<h1>{shown}</h1>\n{summary}{sections}</main>\n</body>\n</html>\n"
    )
}

/// Text that is no markup, in content and in quoted attributes. Control characters, which HTML has no place for, and those
/// that turn the direction of what follows, become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{LatencyCurve, LossCurve, Percentile, Trial};
    use crate::outcome::{Absent, Direction, Series};
    use proptest::prelude::*;

    fn hostile(text: &str) -> Outcome {
        let own = || text.to_owned();
        let mut outcome = Outcome::new(text, text, Direction::More, Series::new(text, [2.0, 3.0]));
        outcome.peers.push(Series::new(text, [1.0, 1.0]));
        outcome.absent.push(Absent { name: own(), reason: own() });
        outcome.latency.push(LatencyCurve {
            series: own(),
            points: vec![Percentile { quantile: 0.5, nanoseconds: 3.0 }],
            ..LatencyCurve::default()
        });
        let trials = vec![Trial { offered: 1.0, received: 1.0, loss: 0.0 }];
        outcome.loss.push(LossCurve { series: own(), trials });
        (outcome.notes, outcome.invalid) = (vec![own()], vec![own()]);
        (outcome.title, outcome.command, outcome.commit, outcome.date) = (own(), own(), own(), own());
        (outcome.machine.kernel, outcome.machine.processor) = (own(), own());
        (outcome.machine.driver, outcome.machine.mode) = (Some(own()), Some(own()));
        outcome
    }

    /// The names of the elements, in their order, and whatever is between `<` and `>` that is none.
    fn elements(html: &str) -> Vec<&str> {
        let name =
            |rest: &'_ str| rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '/').unwrap_or(rest.len());
        html.split('<').skip(1).map(|rest| &rest[..name(rest)]).collect()
    }

    #[test]
    fn no_name_becomes_markup() {
        let plain = html("x", &[hostile("x")]);
        for text in
            ["<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "</style></svg></pre>", "' & \""]
        {
            let page = html(text, &[hostile(text)]);
            assert_eq!(elements(&page), elements(&plain), "{text}");
            assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        }
        assert_eq!(escape("a\u{0}b\u{202e}c\n"), "a\u{fffd}b\u{fffd}c\n");
    }

    #[test]
    fn nothing_is_asked_of_another_place() {
        let page = html("x", &[hostile("x")]);
        for word in ["http://", "https://", "url(", "@import", "src=", "<link", "<script"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn a_page_of_nothing_says_so() {
        assert!(html("x", &[]).contains("There is nothing here"));
    }

    #[test]
    fn what_is_not_valid_is_struck_out_with_the_reason_and_counts_nowhere() {
        let mut outcome = hostile("x");
        outcome.invalid = vec!["the generator was the limit".to_owned()];
        let page = html("x", &[outcome.clone()]);
        assert!(page.contains("<s>") && page.contains("the generator was the limit"), "{page}");
        assert!(page.contains("1 not valid") && !page.contains("1 ahead"), "{page}");
        outcome.invalid.clear();
        let page = html("x", &[outcome]);
        assert!(page.contains("1 ahead") && !page.contains("<s>") && !page.contains("1 not valid"), "{page}");
    }

    proptest! {
        #[test]
        fn elements_never_depend_on_texts(text in "[<>&\"'/a-z!= \u{0}-\u{1f}-]{1,30}") {
            let (page, plain) = (html(&text, &[hostile(&text)]), html("x", &[hostile("x")]));
            prop_assert_eq!(elements(&page), elements(&plain));
        }
    }
}
