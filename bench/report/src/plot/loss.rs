//! Loss by offered rate. The axis of losses is logarithmic, with no loss at all below a gap: nought has no logarithm, and it
//! is the difference that matters most.

use super::Size;
use super::canvas::{Anchor, Axis, Canvas, STYLES, extent};
use super::latency::style;
use crate::curve::LossCurve;
use crate::figure::{Unit, linear, logarithmic, per_cent, short};

const PLOT: f64 = 230.0;
/// Height of the band that is no loss at all.
const GAP: f64 = 44.0;
/// Between series that lose nothing: they would hide one another.
const STEP: f64 = 7.0;

/// The plot; `None` when no curve has a trial that can be drawn. `order` as of [`super::latency::plot`].
pub fn plot(curves: &[LossCurve], order: &[&str], size: Size) -> Option<String> {
    let drawn: Vec<_> =
        curves.iter().map(|curve| (curve, curve.sound())).filter(|(_, t)| !t.is_empty()).collect();
    if drawn.is_empty() {
        return None;
    }
    let all = || drawn.iter().flat_map(|(_, trials)| trials);
    let fastest = all().map(|trial| trial.offered).fold(1.0, f64::max);
    let least = all().map(|trial| trial.loss).filter(|&loss| loss > 0.0).fold(0.1, f64::min);
    // Below one in a thousand million nobody has counted enough packets.
    let lowest = 10f64.powf(least.log10().floor()).max(1e-9);

    let mut canvas = Canvas::new(size, 0.0);
    let left = 66.0;
    let names: Vec<(usize, String)> = drawn
        .iter()
        .enumerate()
        .map(|(i, (curve, _))| (style(&curve.series, order, i), curve.series.clone()))
        .collect();
    let top = canvas.legend(left, &names) + 12.0;
    let bottom = top + PLOT;
    canvas.height = bottom + 46.0;
    let right = canvas.width - 22.0;
    let unit = Unit::suiting(fastest, "packets/s");
    let x = Axis { low: 0.0, high: fastest * 1.03, from: left, to: right, is_logarithmic: false };
    let y = Axis { low: lowest, high: 1.0, from: bottom - GAP, to: top, is_logarithmic: true };
    let height = |index: usize, loss: f64| match loss > 0.0 {
        true => y.place(loss),
        false => bottom - 4.0 - STEP * (index % STYLES) as f64,
    };

    for tick in logarithmic(lowest, 1.0, 7) {
        let at = y.place(tick);
        canvas.line("grid", [left, at, right, at]);
        canvas.text("tick", left - 8.0, at + 4.0, Anchor::End, &per_cent(tick));
    }
    canvas.text("tick", left - 8.0, bottom - 5.0, Anchor::End, "no loss");
    canvas.line("break", [left, bottom - GAP, left, bottom]);
    let mut free = f64::NEG_INFINITY;
    for tick in linear(0.0, x.high / unit.divisor, 8) {
        let (at, label) = (x.place(tick * unit.divisor), short(tick));
        canvas.line("grid", [at, bottom, at, bottom + 4.0]);
        if at - extent(&label) / 2.0 > free {
            canvas.text("tick", at, bottom + 19.0, Anchor::Middle, &label);
            free = at + extent(&label) / 2.0;
        }
    }
    canvas.line("frame", [left, bottom, right, bottom]);
    let caption = format!("offered, {}", unit.name);
    canvas.text("axis", (left + right) / 2.0, bottom + 38.0, Anchor::Middle, &caption);

    let mut told = vec![];
    for (index, (curve, trials)) in drawn.iter().enumerate() {
        let style = style(&curve.series, order, index);
        let at: Vec<(f64, f64)> =
            trials.iter().map(|t| (x.place(t.offered), height(index, t.loss))).collect();
        canvas.path(style, &at);
        for (trial, (px, py)) in trials.iter().zip(&at) {
            let rate = unit.text(trial.offered);
            let line = format!("{}: {rate} {}: loss {}", curve.series, unit.name, per_cent(trial.loss));
            canvas.mark(style, *px, *py, &line);
        }
        let clean = trials.iter().take_while(|trial| trial.loss == 0.0).last();
        told.push(match clean {
            Some(trial) => {
                format!("{}: no loss up to {} {}", curve.series, unit.text(trial.offered), unit.name)
            }
            None => format!("{}: loss at every rate", curve.series),
        });
    }
    Some(canvas.finish(size, "Loss by offered rate", &told.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::Trial;
    use std::collections::HashSet;

    fn curve(trials: &[(f64, f64)]) -> LossCurve {
        let trials =
            trials.iter().map(|&(offered, loss)| Trial { offered, received: offered, loss }).collect();
        LossCurve { series: "zsync".to_owned(), trials }
    }

    #[test]
    fn no_loss_lies_below_every_loss() {
        let svg = plot(&[curve(&[(1e6, 0.0), (2e6, 2e-5), (3e6, 0.3)])], &["zsync"], Size::Wide).unwrap();
        for label in ["no loss", "0.001 %", "100 %", "offered, M packets/s"] {
            assert!(svg.contains(&format!(">{label}</text>")), "{label}: {svg}");
        }
        let marks: Vec<f64> = svg
            .split("class=\"mark s0\"")
            .skip(2)
            .map(|rest| rest.split("cy=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!(marks.len() == 3 && marks[0] > marks[1] && marks[1] > marks[2], "{marks:?}");
        assert!(svg.contains("zsync: no loss up to 1.00 M packets/s"));
    }

    #[test]
    fn series_that_lose_nothing_do_not_hide_one_another() {
        let svg = plot(&[curve(&[(1e6, 0.0)]), curve(&[(1e6, 0.0)])], &[], Size::Wide).unwrap();
        let lines: HashSet<&str> = svg
            .split("<polyline")
            .skip(1)
            .map(|l| l.split("points=\"").nth(1).unwrap().split('"').next().unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{svg}");
    }

    #[test]
    fn all_lost_and_nothing_lost_are_plots_and_no_trial_is_none() {
        assert!(plot(&[curve(&[(0.0, 1.0)])], &[], Size::Narrow).unwrap().contains("loss at every rate"));
        assert!(!plot(&[curve(&[(1e6, 0.0)])], &[], Size::Narrow).unwrap().contains("NaN"));
        assert_eq!(plot(&[curve(&[])], &[], Size::Wide), None);
    }
}
