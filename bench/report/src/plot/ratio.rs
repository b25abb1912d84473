//! Ratios around 1: every pair a dot, from minimum to maximum a line, the median a mark. The axis is logarithmic, so that
//! twice as good and half as good lie equally far from 1.

use super::Size;
use super::canvas::{Anchor, Axis, Canvas, extent, shortened};
use crate::figure::{digits, logarithmic, short};
use crate::outcome::Ratio;
use crate::page::escape;
use std::fmt::Write;

const ROW: f64 = 54.0;

/// Width of a [`strip`], in pixels.
pub const STRIP: f64 = 240.0;

/// Both ends of an axis that has room for all `ratios` and 1.
pub fn span<'a>(ratios: impl IntoIterator<Item = &'a Ratio>) -> (f64, f64) {
    let (low, high) = ratios.into_iter().fold((0.9, 1.1), |(low, high): (f64, f64), ratio| {
        (low.min(ratio.spread.minimum), high.max(ratio.spread.maximum))
    });
    let margin = (high / low).powf(0.06);
    (low / margin, high * margin)
}

/// Ours against each peer, a row each; `None` when there are none.
pub fn plot(ratios: &[Ratio], size: Size) -> Option<String> {
    if ratios.is_empty() {
        return None;
    }
    let (low, high) = span(ratios);
    let mut canvas = Canvas::new(size, ratios.len() as f64 * ROW + 42.0);
    let (left, right, bottom) = (8.0, canvas.width - 8.0, ratios.len() as f64 * ROW);
    let x = Axis { low, high, from: left, to: right, is_logarithmic: true };
    let mut free = f64::NEG_INFINITY;
    for tick in logarithmic(low, high, if size == Size::Wide { 9 } else { 6 }) {
        let (at, label) = (x.place(tick), format!("{}×", short(tick)));
        canvas.line("grid", [at, 24.0, at, bottom + 4.0]);
        if at - extent(&label) / 2.0 > free {
            canvas.text("tick", at, bottom + 18.0, Anchor::Middle, &label);
            free = at + extent(&label) / 2.0;
        }
    }
    canvas.line("one", [x.place(1.0), 24.0, x.place(1.0), bottom + 4.0]);
    canvas.text("axis", left, bottom + 37.0, Anchor::Start, "← peer is better");
    canvas.text("axis", right, bottom + 37.0, Anchor::End, "zsync is better →");
    let mut told = vec![];
    for (row, ratio) in ratios.iter().enumerate() {
        let (top, spread) = (row as f64 * ROW, ratio.spread);
        let figures =
            format!("{} ({} to {})", digits(spread.median), digits(spread.minimum), digits(spread.maximum));
        let room = ((right - left - extent(&figures)) / 7.5) as usize;
        let name = shortened(&format!("against {}", ratio.peer), room);
        canvas.text("label", left, top + 16.0, Anchor::Start, &name);
        canvas.text("label figure", right, top + 16.0, Anchor::End, &figures);
        let (y, standing) = (top + 38.0, ratio.standing().word());
        canvas.line(&format!("whisker {standing}"), [x.place(spread.minimum), y, x.place(spread.maximum), y]);
        for sample in &ratio.samples {
            canvas.dot(&format!("sample {standing}"), x.place(*sample), y, 4.0);
        }
        let median = x.place(spread.median);
        canvas.line(&format!("median {standing}"), [median, y - 10.0, median, y + 10.0]);
        told.push(format!("against {}: {figures}, {standing}", ratio.peer));
    }
    Some(canvas.finish(size, "Ratio, pair by pair", &told.join("; ")))
}

/// A ratio by itself on an axis from `low` to `high`, for a row of a table: no text but the title.
pub fn strip(ratio: &Ratio, (low, high): (f64, f64)) -> String {
    let x = Axis { low, high, from: 6.0, to: STRIP - 6.0, is_logarithmic: true };
    let (spread, standing) = (ratio.spread, ratio.standing().word());
    let [least, median, greatest] =
        [spread.minimum, spread.median, spread.maximum].map(|value| x.place(value));
    let one = x.place(1.0);
    let mut out =
        format!(r#"<svg class="strip" viewBox="0 0 {STRIP} 26" width="{STRIP}" height="26" role="img">"#);
    let _ = write!(
        out,
        "<title>Ratio {} against {}, {standing}</title>",
        digits(spread.median),
        escape(&ratio.peer)
    );
    let _ = write!(out, r#"<line class="one" x1="{one:.1}" y1="0" x2="{one:.1}" y2="26"/>"#);
    let _ = write!(
        out,
        r#"<line class="whisker {standing}" x1="{least:.1}" y1="13" x2="{greatest:.1}" y2="13"/>"#
    );
    let _ = write!(out, r#"<circle class="middle {standing}" cx="{median:.1}" cy="13" r="5.5"/></svg>"#);
    out
}

/// The ticks that belong to [`strip`]s of this axis.
pub fn scale((low, high): (f64, f64)) -> String {
    let x = Axis { low, high, from: 6.0, to: STRIP - 6.0, is_logarithmic: true };
    let mut out = format!(
        r#"<svg class="strip" viewBox="0 0 {STRIP} 18" width="{STRIP}" height="18" aria-hidden="true">"#
    );
    let mut free = f64::NEG_INFINITY;
    let mut ticks = logarithmic(low, high, 6);
    if !ticks.iter().any(|tick| (tick - 1.0).abs() < 1e-9) {
        ticks = vec![1.0];
    }
    for tick in ticks {
        let (label, at) = (format!("{}×", short(tick)), x.place(tick));
        let half = extent(&label) / 2.0;
        let middle = at.clamp(half, STRIP - half);
        if middle - half > free {
            let _ = write!(
                out,
                r#"<text class="tick" x="{middle:.1}" y="13" text-anchor="middle">{label}</text>"#
            );
            free = middle + half;
        }
    }
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spread::Spread;

    fn ratio(samples: &[f64]) -> Ratio {
        let spread = Spread::of(samples).unwrap();
        Ratio { peer: "<testpmd>".to_owned(), spread, samples: samples.to_vec() }
    }

    #[test]
    fn every_pair_is_a_dot_and_the_axis_has_one() {
        let svg = plot(&[ratio(&[2.2, 2.3, 2.4]), ratio(&[0.8, 0.85])], Size::Wide).unwrap();
        assert_eq!(
            (svg.matches("class=\"sample ahead\"").count(), svg.matches("class=\"sample behind\"").count()),
            (3, 2)
        );
        assert!(svg.contains(">1×</text>") && svg.contains("2.30 (2.20 to 2.40)"), "{svg}");
        assert!(svg.contains("against &lt;testpmd&gt;") && !svg.contains("<testpmd"), "{svg}");
        assert_eq!(plot(&[], Size::Wide), None);
    }

    #[test]
    fn twice_as_good_and_half_as_good_lie_equally_far_from_one() {
        let (low, high) = span(&[ratio(&[0.5]), ratio(&[2.0])]);
        assert!((low * high - 1.0).abs() < 1e-9, "{low} {high}");
        assert!(scale((low, high)).contains(">1×<"));
        assert!(strip(&ratio(&[0.5]), (low, high)).contains("whisker behind"));
    }
}
