//! Listings as Docker lays them out: capitals on top, columns three spaces apart.

use crate::terminal::clean;

const GAP: usize = 3;

/// A listing under way.
#[derive(Debug)]
pub(crate) struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heads: &[&'static str]) -> Self {
        Self {
            heads: heads.to_vec(),
            rows: Vec::new(),
        }
    }

    /// One cell for each head.
    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        debug_assert_eq!(N, self.heads.len());
        self.rows
            .push(cells.iter().map(|cell| clean(cell).into_owned()).collect());
    }

    /// The text, with a line end after each row and no spaces before it.
    pub(crate) fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.heads[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let heads: Vec<String> = self.heads.iter().map(|head| (*head).to_owned()).collect();
        let mut out = String::new();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                // Not with a width in a format: one beyond 65,535, as of many ports, panics there.
                let blank = width + GAP - cell.chars().count();
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', blank));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn columns_line_up_also_with_umlauts_and_empty_cells() {
        let mut table = Table::new(&["HOST", "TARGET", "STATE"]);
        table.row(["münchen.example", "web:80", ""]);
        table.row(["a.example", "", "ready 2/2"]);
        expect![[r#"
            HOST              TARGET   STATE
            münchen.example   web:80
            a.example                  ready 2/2
        "#]]
        .assert_eq(&table.render());
    }

    #[test]
    fn a_cell_may_be_very_long() {
        let mut table = Table::new(&["PORTS", "NAMES"]);
        table.row([&"x".repeat(300_000), "web"]);
        assert!(table.render().ends_with("x   web\n"));
    }

    #[test]
    fn an_empty_listing_still_has_its_heads() {
        assert_eq!(Table::new(&["A", "B"]).render(), "A   B\n");
    }
}
