//! Text tables: aligned columns, two spaces between, no lines.

use super::text::printable;

/// A table. Cells that are missing are empty, and columns without a cell are left out,
/// unless there are no rows at all.
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

struct Column {
    heading: &'static str,
    right: bool,
}

impl Table {
    /// `headings` in order; those that begin with `>` are of columns that are aligned to the right.
    pub(super) fn new(headings: &[&'static str]) -> Self {
        let column = |heading: &&'static str| match heading.strip_prefix('>') {
            Some(heading) => Column { heading, right: true },
            None => Column { heading, right: false },
        };
        Self { columns: headings.iter().map(column).collect(), rows: Vec::new() }
    }

    pub(super) fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell.into())).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table, a line for each row. The headings are bold when `colour` is asked for.
    pub(super) fn render(&self, colour: bool) -> String {
        let cell = |row: &'_ [String], at: usize| row.get(at).cloned().unwrap_or_default();
        let width = |at: usize| self.rows.iter().map(|row| cell(row, at).chars().count()).max().unwrap_or(0);
        let shown: Vec<(usize, &Column, usize)> = (0..)
            .zip(&self.columns)
            .map(|(at, column)| (at, column, width(at)))
            .filter(|(_, _, width)| *width > 0 || self.rows.is_empty())
            .map(|(at, column, width)| (at, column, width.max(column.heading.chars().count())))
            .collect();
        let line = |text: &dyn Fn(usize, &Column) -> String| {
            let cells = shown.iter().map(|(at, column, width)| {
                let text = text(*at, column);
                if column.right { format!("{text:>width$}") } else { format!("{text:<width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let heading = line(&|_, column| column.heading.to_owned());
        let mut text = if colour { format!("\x1b[1m{heading}\x1b[0m\n") } else { format!("{heading}\n") };
        for row in &self.rows {
            text.push_str(&line(&|at, _| cell(row, at)));
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let mut table = Table::new(&["NAME", ">COUNT", "NOTE", "LAST"]);
        table.row(["wan", "7", "", "é"]);
        table.row(["a\u{1b}longer", "12345678"]);
        let text = "NAME         COUNT  LAST\nwan              7  é\na\u{fffd}longer  12345678\n";
        assert_eq!(table.render(false), text);
        assert!(table.render(true).starts_with("\x1b[1mNAME         COUNT  LAST\x1b[0m\n"));
    }
}
