//! What plots are drawn on: an axis from values to pixels, lines, marks, text, a legend.

use super::Size;
use crate::page::escape;
use std::fmt::Write;

/// Pixels that a character takes at 12 pixels of height, a little too many.
const CHARACTER: f64 = 7.0;

/// Colours and shapes there are; a further series begins anew.
pub const STYLES: usize = 6;

/// From values to pixels.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub from: f64,
    pub to: f64,
    pub is_logarithmic: bool,
}

impl Axis {
    /// Where a value lies; values outside lie at the end.
    pub fn place(&self, value: f64) -> f64 {
        let (low, high, value) = if self.is_logarithmic {
            (self.low.ln(), self.high.ln(), value.ln())
        } else {
            (self.low, self.high, value)
        };
        let part = if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 };
        self.from + part * (self.to - self.from)
    }
}

/// Where text stands by its point.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// An SVG in the making.
pub struct Canvas {
    pub width: f64,
    pub height: f64,
    body: String,
}

impl Canvas {
    pub fn new(size: Size, height: f64) -> Self {
        Self { width: size.width(), height, body: String::new() }
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
        let _ = write!(
            self.body,
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        );
    }

    /// A line through points, in the colour of series `index`.
    pub fn path(&mut self, index: usize, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let style = index % STYLES;
        let _ = write!(self.body, r#"<polyline class="curve s{style}" points="{}"/>"#, points.join(" "));
    }

    /// The mark of series `index`, with a text that appears under the pointer.
    pub fn mark(&mut self, index: usize, x: f64, y: f64, told: &str) {
        let style = index % STYLES;
        let corners: &[(f64, f64)] = match style {
            1 => &[(-3.8, -3.8), (3.8, -3.8), (3.8, 3.8), (-3.8, 3.8)],
            2 => &[(0.0, -5.0), (4.8, 3.6), (-4.8, 3.6)],
            3 => &[(0.0, -5.4), (5.4, 0.0), (0.0, 5.4), (-5.4, 0.0)],
            4 => &[(0.0, 5.0), (4.8, -3.6), (-4.8, -3.6)],
            5 => &[(-5.0, -2.0), (5.0, -2.0), (5.0, 2.0), (-5.0, 2.0)],
            _ => &[],
        };
        let told = if told.is_empty() { String::new() } else { format!("<title>{}</title>", escape(told)) };
        let _ = if corners.is_empty() {
            write!(
                self.body,
                r#"<circle class="mark s{style}" cx="{x:.1}" cy="{y:.1}" r="4.2">{told}</circle>"#
            )
        } else {
            let points: Vec<String> =
                corners.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx, y + dy)).collect();
            write!(
                self.body,
                r#"<polygon class="mark s{style}" points="{}">{told}</polygon>"#,
                points.join(" ")
            )
        };
    }

    /// A dot with a class of its own.
    pub fn dot(&mut self, class: &str, x: f64, y: f64, radius: f64) {
        let _ = write!(self.body, r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius}"/>"#);
    }

    pub fn text(&mut self, class: &str, x: f64, y: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        let _ = write!(
            self.body,
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        );
    }

    /// Names of series with their marks, in as many rows as they take; the height that they took.
    pub fn legend(&mut self, left: f64, names: &[(usize, String)]) -> f64 {
        let (mut x, mut y) = (left, 12.0);
        let most = ((self.width - left - 24.0) / CHARACTER) as usize;
        for (index, name) in names {
            let name = shortened(name, most);
            let width = 34.0 + extent(&name);
            if x > left && x + width > self.width {
                (x, y) = (left, y + 20.0);
            }
            self.mark(*index, x + 6.0, y - 4.0, "");
            self.text("label", x + 17.0, y, Anchor::Start, &name);
            x += width;
        }
        y + 10.0
    }

    /// The whole, with its title and description.
    pub fn finish(self, size: Size, title: &str, description: &str) -> String {
        let Self { width, height, body } = self;
        format!(
            concat!(
                r#"<svg class="plot {}" viewBox="0 0 {} {}" width="{}" height="{}" role="img">"#,
                "<title>{}</title><desc>{}</desc>{}</svg>\n"
            ),
            size.class(),
            width,
            height,
            width,
            height,
            escape(title),
            escape(description),
            body
        )
    }
}

/// About how many pixels a label takes.
pub fn extent(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

/// A label of at most so many characters.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_keeps_order_and_never_leaves_its_ends() {
        let axis = Axis { low: 1.0, high: 100.0, from: 0.0, to: 200.0, is_logarithmic: true };
        assert!((axis.place(10.0) - 100.0).abs() < 1e-9);
        assert_eq!([axis.place(0.0), axis.place(1e9), axis.place(1.0)], [0.0, 200.0, 0.0]);
        let axis = Axis { low: 0.0, high: 0.0, from: 300.0, to: 10.0, is_logarithmic: false };
        assert_eq!(axis.place(0.0), 155.0);
    }

    #[test]
    fn a_legend_takes_more_rows_when_it_must_and_names_are_cut() {
        let mut canvas = Canvas::new(Size::Narrow, 100.0);
        let names: Vec<(usize, String)> = (0..3).map(|i| (i, "n".repeat(60))).collect();
        assert_eq!(canvas.legend(0.0, &names), 62.0);
        let names = [(0, "zsync".to_owned()), (1, "VPP".to_owned())];
        assert_eq!(canvas.legend(0.0, &names), 22.0);
        assert_eq!(shortened("abcdef", 4), "abc…");
    }
}
