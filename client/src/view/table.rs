//! Tables: a line of headings, columns as wide as their widest cell, figures to the right.

use super::paint::{Paint, Tone};

/// One cell. Its text must be harmless already.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(crate) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::new(Tone::Plain, text)
    }
}

/// To which side a column's cells go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A table under construction.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// With these headings.
    pub(crate) fn new(columns: &[(&'static str, Side)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with one cell per column.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "one cell per column");
        self.rows.push(cells);
    }

    /// The text, each line with its end.
    pub(crate) fn render(&self, paint: Paint) -> String {
        let headings = self.columns.iter().map(|(heading, _)| Cell::new(Tone::Dim, *heading)).collect();
        let lines: Vec<&Vec<Cell>> = std::iter::once(&headings).chain(&self.rows).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| lines.iter().map(|cells| width(&cells[column].text)).max().unwrap_or(0))
            .collect();
        lines.iter().map(|cells| self.line(cells, &widths, paint)).collect()
    }

    fn line(&self, cells: &[Cell], widths: &[usize], paint: Paint) -> String {
        let mut line = String::new();
        let last = cells.iter().rposition(|cell| !cell.text.is_empty());
        for (column, cell) in cells.iter().enumerate().take(last.map_or(0, |last| last + 1)) {
            let gap = " ".repeat(widths[column] - width(&cell.text));
            let painted = paint.tone(cell.tone, &cell.text);
            if column > 0 {
                line.push_str("  ");
            }
            match self.columns[column].1 {
                Side::Right => line.extend([gap, painted]),
                // Nothing follows the last cell: no blanks at the end of a line.
                Side::Left if Some(column) == last => line.push_str(&painted),
                Side::Left => line.extend([painted, gap]),
            }
        }
        line.push('\n');
        line
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let mut table = Table::new(&[("SHARD", Side::Left), ("ROWS", Side::Right), ("NOTE", Side::Left)]);
        table.row(vec!["chat-pg-01".into(), Cell::new(Tone::Good, "1,000"), "ok".into()]);
        table.row(vec!["b".into(), "7".into(), "".into()]);
        let expected = "\
SHARD        ROWS  NOTE
chat-pg-01  1,000  ok
b               7
";
        assert_eq!(table.render(Paint::PLAIN), expected);
        let painted = table.render(Paint::new(true));
        assert!(painted.contains("chat-pg-01  \x1b[32m1,000\x1b[0m  ok\n"), "{painted:?}");
    }
}
