//! Latency by percentile: the further right, the rarer; the higher, the slower.
//!
//! The axis is logarithmic in 1 / (1 - q), so that 99 % and 99.9 % lie as far apart as 90 % and 99 %. The slowest packet
//! (q = 1) would be infinitely far: it stands at the right end, as "max".

use super::Size;
use super::canvas::{Anchor, Axis, Canvas, extent};
use crate::curve::LatencyCurve;
use crate::figure::{logarithmic, short, time};

const PLOT: f64 = 260.0;

/// The plot; `None` when no curve has a point that can be drawn. `order` has the names of the series as the outcome has them:
/// it decides the colours.
pub fn plot(curves: &[LatencyCurve], order: &[&str], size: Size) -> Option<String> {
    let drawn: Vec<_> =
        curves.iter().map(|curve| (curve, curve.sound())).filter(|(_, p)| !p.is_empty()).collect();
    let all = || drawn.iter().flat_map(|(_, points)| points);
    let rarity = |quantile: f64| 1.0 / (1.0 - quantile);
    let most = all().map(|p| p.quantile).filter(|&q| q < 1.0).map(rarity).fold(10.0, f64::max);
    let nines = (most * 0.999).log10().ceil() as i32;
    let has_maximum = all().any(|p| p.quantile >= 1.0);
    let (least, slowest) = all()
        .fold((f64::INFINITY, 0.0), |(l, h): (f64, f64), p| (l.min(p.nanoseconds), h.max(p.nanoseconds)));
    if drawn.is_empty() {
        return None;
    }

    let mut canvas = Canvas::new(size, 0.0);
    let left = 62.0;
    // One thing at several rates: then rates are told apart, not things.
    let alone = drawn.iter().all(|(curve, _)| curve.series == drawn[0].0.series);
    let style = |series: &str, index: usize| if alone { index } else { style(series, order, index) };
    let names: Vec<(usize, String)> =
        drawn.iter().enumerate().map(|(i, (curve, _))| (style(&curve.series, i), named(curve))).collect();
    let top = canvas.legend(left, &names) + 12.0;
    canvas.height = top + PLOT + 46.0;
    let right = canvas.width - 22.0;
    let end = 10f64.powi(nines) * if has_maximum { 4.0 } else { 1.0 };
    let x = Axis { low: 1.0, high: end, from: left, to: right, is_logarithmic: true };
    let y = Axis { low: least / 1.3, high: slowest * 1.3, from: top + PLOT, to: top, is_logarithmic: true };

    for tick in logarithmic(y.low, y.high, 8) {
        let at = y.place(tick);
        canvas.line("grid", [left, at, right, at]);
        canvas.text("tick", left - 8.0, at + 4.0, Anchor::End, &time(tick));
    }
    let mut free = f64::NEG_INFINITY;
    let quantiles =
        (1..=nines).map(|n| (10f64.powi(n), format!("{} %", short(100.0 - 100.0 / 10f64.powi(n)))));
    let mut ticks = vec![(1.0, "0 %".to_owned()), (2.0, "50 %".to_owned())];
    ticks.extend(quantiles);
    if has_maximum {
        ticks.push((end, "max".to_owned()));
    }
    for (value, label) in ticks {
        let at = x.place(value);
        canvas.line("grid", [at, top, at, top + PLOT]);
        // A label that would run into the one before is left out, and so is one that would run into "max"; its line stays.
        let until = if has_maximum && value < end { right - extent("max") } else { f64::INFINITY };
        if at - extent(&label) / 2.0 > free && at + extent(&label) / 2.0 < until {
            canvas.text("tick", at, top + PLOT + 17.0, Anchor::Middle, &label);
            free = at + extent(&label) / 2.0 - 1.0;
        }
    }
    canvas.line("frame", [left, top + PLOT, right, top + PLOT]);
    canvas.text(
        "axis",
        (left + right) / 2.0,
        top + PLOT + 38.0,
        Anchor::Middle,
        "of packets took no longer than",
    );

    let mut told = vec![];
    for (index, (curve, points)) in drawn.iter().enumerate() {
        let style = style(&curve.series, index);
        let place = |quantile: f64| x.place(if quantile >= 1.0 { end } else { rarity(quantile) });
        let at: Vec<(f64, f64)> =
            points.iter().map(|p| (place(p.quantile), y.place(p.nanoseconds))).collect();
        canvas.path(style, &at);
        for (point, (px, py)) in points.iter().zip(&at) {
            let quantile = short(point.quantile * 100.0);
            let line = format!("{}: {quantile} %: {}", curve.series, spoken(point.nanoseconds));
            canvas.mark(style, *px, *py, &line);
        }
        if let Some(last) = points.last() {
            let quantile = short(last.quantile * 100.0);
            told.push(format!("{}: {quantile} % within {}", curve.series, spoken(last.nanoseconds)));
        }
    }
    Some(canvas.finish(size, "Latency by percentile", &told.join("; ")))
}

fn spoken(nanoseconds: f64) -> String {
    let unit = crate::figure::Unit::suiting(nanoseconds, "ns");
    format!("{} {}", unit.text(nanoseconds), unit.name)
}

fn named(curve: &LatencyCurve) -> String {
    match curve.offered {
        Some(rate) => {
            let unit = crate::figure::Unit::suiting(rate, "packets/s");
            format!("{} at {} {}", curve.series, unit.text(rate), unit.name)
        }
        None => curve.series.clone(),
    }
}

/// The colour of a series is that of its place in the outcome; a stranger to the outcome takes one after them.
pub(super) fn style(series: &str, order: &[&str], index: usize) -> usize {
    order.iter().position(|name| *name == series).unwrap_or(order.len() + index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::Percentile;

    fn curve(points: &[(f64, f64)]) -> LatencyCurve {
        let points =
            points.iter().map(|&(quantile, nanoseconds)| Percentile { quantile, nanoseconds }).collect();
        LatencyCurve { series: "zsync".to_owned(), points, ..LatencyCurve::default() }
    }

    #[test]
    fn percentiles_have_ticks_by_nines_and_the_slowest_packet_its_own() {
        let svg = plot(&[curve(&[(0.5, 1e3), (0.999, 2e4), (1.0, 1e6)])], &["zsync"], Size::Wide).unwrap();
        for label in ["50 %", "90 %", "99 %", "99.9 %", "max", "1 µs", "100 µs", "1 ms"] {
            assert!(svg.contains(&format!(">{label}</text>")), "{label}: {svg}");
        }
        assert!(!svg.contains("99.99 %") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn where_labels_have_no_room_the_slowest_packet_keeps_its_own() {
        let svg =
            plot(&[curve(&[(0.5, 1e3), (0.99999, 2e4), (1.0, 1e6)])], &["zsync"], Size::Narrow).unwrap();
        assert!(svg.contains(">max</text>") && !svg.contains(">99.999 %</text>"), "{svg}");
    }

    #[test]
    fn one_point_is_drawn_and_none_is_no_plot() {
        assert!(plot(&[curve(&[(0.0, 5.0)])], &[], Size::Narrow).unwrap().contains("<circle"));
        assert_eq!(plot(&[curve(&[(0.5, f64::NAN)])], &[], Size::Wide), None);
        assert_eq!(plot(&[], &[], Size::Wide), None);
    }
}
