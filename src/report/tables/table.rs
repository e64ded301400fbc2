//! Tables: bordered and coloured on a terminal, plain columns in a pipe.

use std::io::IsTerminal;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, ContentLineStyle, LineStyle, TableStyle};

/// Style of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Borders and bars.
    pub borders: bool,
    pub colour: bool,
    /// Columns to fit in by wrapping; `None` never wraps.
    pub width: Option<u16>,
}

impl Style {
    /// For pipes and files: no border, no colour, one line per row.
    pub const PLAIN: Style = Style { borders: false, colour: false, width: None };

    /// The style for stdout: `PLAIN` unless it is a terminal; colour unless `NO_COLOR` is set or the terminal is
    /// dumb.
    pub fn of_stdout() -> Style {
        if !std::io::stdout().is_terminal() {
            return Style::PLAIN;
        }
        let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let width = comfy_table::Table::new().width().map(columns);
        Style { borders: true, colour: !set("NO_COLOR") && !dumb, width }
    }
}

/// The width of a terminal that reports this one: some report 0, which means that they do not know.
fn columns(reported: u16) -> u16 {
    if reported == 0 { 80 } else { reported }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows of text under a header, optionally with totals below.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
    totals: Vec<Vec<String>>,
    /// Row and column of cells in bold.
    bold: Vec<(usize, usize)>,
}

impl Table {
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = (S, Align)>) -> Self {
        let columns = columns.into_iter().map(|(name, a)| (name.into(), a)).collect();
        Table { columns, rows: vec![], totals: vec![], bold: vec![] }
    }

    /// Panics unless the row has one cell per column.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        let cells = self.cells(cells);
        self.rows.push(cells);
        self
    }

    /// Sets the cell in that column of the latest row in bold.
    pub(crate) fn embolden(&mut self, column: usize) {
        self.bold.push((self.rows.len() - 1, column));
    }

    /// A row in bold below all others. Panics unless it has one cell per column.
    pub fn total<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        let cells = self.cells(cells);
        self.totals.push(cells);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table in GitHub's Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let head: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let rule = |(_, align): &(String, Align)| if *align == Align::Left { "---|" } else { "---:|" };
        let rule: String = self.columns.iter().map(rule).collect();
        let totals = self.totals.iter().map(|row| {
            line(&row.iter().map(|c| if c.is_empty() { c.clone() } else { format!("**{c}**") }).collect::<Vec<_>>())
        });
        let rows: String = self.rows.iter().map(|row| line(row)).chain(totals).collect();
        format!("{}|{rule}\n{rows}", line(&head))
    }

    fn cells<S: Into<String>>(&self, cells: impl IntoIterator<Item = S>) -> Vec<String> {
        let cells: Vec<String> = cells.into_iter().map(|c| printable(&c.into())).collect();
        assert_eq!(cells.len(), self.columns.len(), "cells in a row");
        cells
    }

    /// The table as lines, each ended by a newline.
    pub fn render(&self, style: Style) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(if style.borders { BORDERED } else { TableStyle::new() });
        table.set_content_arrangement(match style.width {
            Some(_) => ContentArrangement::Dynamic,
            None => ContentArrangement::Disabled,
        });
        style.width.map(|w| table.set_width(w));
        if style.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        let bold = |cell: &String| Cell::new(cell).add_attribute(Attribute::Bold);
        table.set_header(self.columns.iter().map(|(name, _)| bold(name)).collect::<Vec<_>>());
        for (i, row) in self.rows.iter().enumerate() {
            let cell = |(j, text)| if self.bold.contains(&(i, j)) { bold(text) } else { coloured(text) };
            table.add_row(row.iter().enumerate().map(cell).collect::<Vec<_>>());
        }
        table.add_rows(self.totals.iter().map(|row| row.iter().map(bold).collect::<Vec<_>>()));
        let last = self.columns.len().saturating_sub(1);
        for (i, (column, (_, align))) in table.column_iter_mut().zip(&self.columns).enumerate() {
            column.set_cell_alignment(match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
            column.set_padding(if style.borders { (1, u16::from(i == last)) } else { (0, 2) });
        }
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

/// Bars, timelines and check results are coloured; other cells have the default colour.
fn coloured(cell: &String) -> Cell {
    let drawn = |what: &dyn Fn(char) -> bool| !cell.is_empty() && cell.chars().all(|c| c == SILENT || what(c));
    let colour = match cell.as_str() {
        "ok" | "✓" => Some(Color::Green),
        "FAILED" => Some(Color::Red),
        _ if drawn(&|c| BLOCKS.contains(&c)) => Some(Color::Cyan),
        _ if drawn(&|c| c == PLAYS) => Some(Color::Green),
        _ => None,
    };
    match colour {
        Some(colour) => Cell::new(cell).fg(colour),
        None => Cell::new(cell),
    }
}

/// Unicode block elements for bars and timelines.
const BLOCKS: std::ops::RangeInclusive<char> = '▀'..='▟';
/// Of timelines of when something plays.
pub(crate) const PLAYS: char = '━';
pub(crate) const SILENT: char = '·';
const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// A bar of length `fraction` (0 to 1) of `width` characters, in eighths of a character.
pub fn bar(fraction: f64, width: usize) -> String {
    let eighths = (fraction.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    let rest = (eighths % 8).checked_sub(1).map(|i| EIGHTHS[i]);
    std::iter::repeat_n('█', eighths / 8).chain(rest).collect()
}

/// A block per value of `curve`, as high as the value (0 to 1).
pub(crate) fn sparkline(curve: &[f32]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    curve.iter().map(|v| HEIGHTS[(v.clamp(0.0, 1.0) * 7.0).round() as usize]).collect()
}

/// `text` without control characters, which could control the terminal if an untrusted file is printed.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A frame with one blank between columns, in addition to the padding of the cells.
const BORDERED: TableStyle = TableStyle::new()
    .top_border(LineStyle::new('╭', '─', '─', '╮'))
    .header_lines(ContentLineStyle::none().left('│').right('│'))
    .header_separator(LineStyle::new('├', '─', '─', '┤'))
    .content_lines(ContentLineStyle::none().left('│').right('│'))
    .bottom_border(LineStyle::new('╰', '─', '─', '╯'));
