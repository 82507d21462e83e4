//! A table for a terminal: aligned, and no wider than it may be.

/// On which side a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    heading: &'static str,
    align: Align,
    /// How narrow it may be made where the table is too wide.
    least: Option<usize>,
}

/// Rows, each with lines below it.
pub(super) struct Table<'a> {
    columns: &'a [Column],
    lines: Vec<Line>,
}

enum Line {
    Row(Vec<String>),
    Note(String),
}

const BETWEEN: usize = 2;

// === impl Column ===

impl Column {
    pub(super) const fn new(heading: &'static str, align: Align) -> Self {
        Self {
            heading,
            align,
            least: None,
        }
    }

    /// One whose cells are cut in their middle where there is no room, to no less than `least` characters.
    pub(super) const fn shrinking(heading: &'static str, align: Align, least: usize) -> Self {
        Self {
            heading,
            align,
            least: Some(least),
        }
    }
}

// === impl Table ===

impl<'a> Table<'a> {
    pub(super) fn new(columns: &'a [Column]) -> Self {
        let lines = Vec::new();
        Self { columns, lines }
    }

    /// A row with a cell for each column.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.lines.push(Line::Row(cells));
    }

    /// A line below the last row, cut where the table ends.
    pub(super) fn note(&mut self, text: String) {
        self.lines.push(Line::Note(text));
    }

    /// The text, no line of it wider than `width` characters.
    pub(super) fn draw(&self, width: usize) -> String {
        let widths = self.widths(width);
        let headings: Vec<String> = self
            .columns
            .iter()
            .map(|column| column.heading.to_owned())
            .collect();
        let mut text = self.draw_row(&headings, &widths);
        for line in &self.lines {
            match line {
                Line::Row(cells) => text.push_str(&self.draw_row(cells, &widths)),
                Line::Note(note) => {
                    let one_line = note.split_whitespace().collect::<Vec<_>>().join(" ");
                    let room = width.saturating_sub(BETWEEN);
                    let cut = if one_line.chars().count() > room {
                        let start: String = one_line.chars().take(room.saturating_sub(1)).collect();
                        format!("{start}…")
                    } else {
                        one_line
                    };
                    text.push_str(&format!("{:BETWEEN$}{cut}\n", ""));
                }
            }
        }
        text
    }

    fn draw_row(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, column), width) in cells.iter().zip(self.columns).zip(widths) {
            if !line.is_empty() {
                line.push_str(&" ".repeat(BETWEEN));
            }
            let cell = cut_middle(cell, *width);
            match column.align {
                Align::Left => line.push_str(&format!("{cell:<width$}")),
                Align::Right => line.push_str(&format!("{cell:>width$}")),
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }

    fn widths(&self, most: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .map(|column| column.heading.chars().count())
            .collect();
        for line in &self.lines {
            if let Line::Row(cells) = line {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = (*width).max(cell.chars().count());
                }
            }
        }
        let between = BETWEEN * widths.len().saturating_sub(1);
        loop {
            let sum: usize = widths.iter().sum::<usize>() + between;
            let over = sum.saturating_sub(most);
            // The widest that may be narrower.
            let shrinks =
                |(at, width): &(usize, usize)| self.columns[*at].least.is_some_and(|least| *width > least);
            let widest = widths
                .iter()
                .copied()
                .enumerate()
                .filter(shrinks)
                .max_by_key(|(_, width)| *width);
            let Some((at, width)) = widest.filter(|_| over > 0) else {
                return widths;
            };
            widths[at] = width - 1;
        }
    }
}

/// The text, cut in its middle: names differ at their ends.
fn cut_middle(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (start, end) = (kept.div_ceil(2), kept / 2);
    let mut cut: String = text.chars().take(start).collect();
    cut.push('…');
    cut.extend(text.chars().skip(length - end));
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_in_their_middle() {
        assert_eq!(cut_middle("orders", 6), "orders");
        assert_eq!(cut_middle("orders-of-europe", 9), "orde…rope");
        assert_eq!(cut_middle("über-alles", 4), "üb…s");
    }

    #[test]
    fn only_columns_that_may_be_narrower_are() {
        let columns = [
            Column::shrinking("NAME", Align::Left, 5),
            Column::new("NUMBER", Align::Right),
        ];
        let mut table = Table::new(&columns);
        table.row(vec!["abcdefghijklmnop".to_owned(), "1234567890".to_owned()]);
        table.note("a note that is cut, for it is long".to_owned());
        assert_eq!(
            table.draw(20),
            "NAME          NUMBER\nabcd…nop  1234567890\n  a note that is cu…\n"
        );
    }
}
