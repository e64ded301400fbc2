//! A confusion matrix as a heat map: a row per true class, a column per predicted class.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::metrics::scores::{Confusion, counts_of};
use crate::report::numbers::{count, score};
use crate::report::plots::figure::{self, Drawn, FAINT_INK, Figure, GRID, INK, PALETTE, fitted, text, text_width};
use crate::report::tables::table::printable;

const WIDTH: i32 = 1080;
const MARGIN: i32 = 30;
const TITLE: i32 = 50;
const LEGEND: i32 = 48;
/// Margin for the recall and the clips of a class.
const FIGURES: i32 = 116;
const LABEL: f64 = 13.0;
const SMALL: f64 = 11.0;
/// Margin for the longest name, in pixels.
const LONGEST: f64 = 160.0;
/// Maximum width and height of a cell.
const CELL: (i32, i32) = (90, 30);
/// Cells lower than this have no names and numbers.
const LEGIBLE: i32 = 12;
/// Maximum number of classes in a readable figure: those with most clips are shown.
const MAX_CLASSES: usize = 200;
const RIGHT: RGBColor = PALETTE[0];
const WRONG: RGBColor = PALETTE[5];
/// Fraction from which on the text of a cell is light.
const DARK: f64 = 0.75;
/// Minimum opacity of non-zero cells.
const FAINTEST: f64 = 0.08;

pub struct ConfusionMatrix {
    title: String,
    /// Names of rows and columns.
    names: Vec<String>,
    rows: Vec<Row>,
    /// Margin for the names, beside the rows and above the columns.
    labels: i32,
    /// Width and height of a cell.
    cell: (i32, i32),
}

struct Row {
    clips: u64,
    recall: Option<f64>,
    /// Clips by predicted class.
    answers: Vec<u64>,
}

impl ConfusionMatrix {
    /// From `classes` and the matrix in their order. Panics if the sizes do not match.
    pub fn new(title: &str, classes: &[&str], confusion: &Confusion) -> ConfusionMatrix {
        assert_eq!(confusion.len(), classes.len(), "rows of the confusion matrix");
        let counts = counts_of(confusion);
        let mut shown: Vec<usize> = (0..classes.len()).collect();
        shown.sort_by_key(|&k| std::cmp::Reverse(counts[k].positives()));
        shown.truncate(MAX_CLASSES);
        shown.sort_unstable();
        let (all, most) = (classes.len(), shown.len());
        let cut = if all > most { format!(" (largest {most} of {all} classes)") } else { String::new() };
        let row = |&k: &usize| Row {
            clips: counts[k].positives(),
            recall: counts[k].recall_pos(),
            answers: shown.iter().map(|&answer| confusion[k][answer]).collect(),
        };
        let names: Vec<String> = shown.iter().map(|&k| fitted(&printable(classes[k]), LABEL, LONGEST)).collect();
        let widest = names.iter().map(|name| text_width(name, LABEL)).fold(60.0, f64::max);
        let labels = widest.ceil() as i32 + 12;
        let room = (WIDTH - 2 * MARGIN - labels - FIGURES) / most.max(1) as i32;
        let width = room.clamp(1, CELL.0);
        let cell = (width, width.min(CELL.1));
        ConfusionMatrix { title: format!("{title}{cut}"), rows: shown.iter().map(row).collect(), names, labels, cell }
    }

    /// Writes a PNG, atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        figure::save(self, path)
    }

    /// Where the first cell begins.
    fn origin(&self) -> (i32, i32) {
        (MARGIN + self.labels, TITLE + LEGEND + self.labels)
    }

    /// Upper left corner of a cell.
    fn corner(&self, row: usize, column: usize) -> (i32, i32) {
        let (left, top) = self.origin();
        (left + column as i32 * self.cell.0, top + row as i32 * self.cell.1)
    }

    /// The meaning of the colours.
    fn legend<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, y: i32) -> Drawn<DB> {
        const STEPS: i32 = 20;
        const STEP: i32 = 5;
        let style = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Left, VPos::Center));
        let mut x = MARGIN;
        for (label, colour) in [("correct", RIGHT), ("misclassified", WRONG)] {
            area.draw(&Text::new(label, (x, y), text(SMALL, INK).pos(Pos::new(HPos::Left, VPos::Center))))?;
            x += text_width(label, SMALL).ceil() as i32 + 10;
            area.draw(&Text::new("0", (x, y), style.clone()))?;
            x += 12;
            for i in 0..STEPS {
                let at = [(x + i * STEP, y - 6), (x + (i + 1) * STEP - 1, y + 5)];
                area.draw(&Rectangle::new(at, colour.mix(f64::from(i + 1) / f64::from(STEPS)).filled()))?;
            }
            x += STEPS * STEP + 6;
            area.draw(&Text::new("1", (x, y), style.clone()))?;
            x += 34;
        }
        area.draw(&Text::new("fraction of the clips of a class; numbers: clips", (x, y), style))
    }

    fn row<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, k: usize, row: &Row) -> Drawn<DB> {
        let ((left, top), (width, height)) = (self.corner(k, 0), self.cell);
        let middle = top + height / 2;
        let legible = height >= LEGIBLE;
        let at = |h| Pos::new(h, VPos::Center);
        if legible {
            area.draw(&Text::new(self.names[k].clone(), (left - 10, middle), text(LABEL, INK).pos(at(HPos::Right))))?;
        }
        for (column, &clips) in row.answers.iter().enumerate().filter(|(_, clips)| **clips > 0) {
            let (x, y) = self.corner(k, column);
            let share = clips as f64 / row.clips as f64;
            let colour = if column == k { RIGHT } else { WRONG };
            // The last pixels belong to the grid, if there is one.
            let gap = i32::from(self.has_grid());
            let cell = [(x + gap, y + gap), (x + width - 1, y + height - 1)];
            area.draw(&Rectangle::new(cell, colour.mix(share.max(FAINTEST)).filled()))?;
            let figure = count(clips);
            if legible && text_width(&figure, SMALL) <= f64::from(width - 4) {
                let ink = if share > DARK { WHITE } else { INK };
                area.draw(&Text::new(figure, (x + width / 2, middle), text(SMALL, ink).pos(at(HPos::Center))))?;
            }
        }
        if !legible {
            return Ok(());
        }
        let right = self.corner(k, self.names.len()).0;
        let recall = row.recall.map_or("–".into(), |v| score(Some(v)));
        area.draw(&Text::new(recall, (right + 16, middle), text(LABEL, INK).pos(at(HPos::Left))))?;
        let clips = text(SMALL, FAINT_INK).pos(at(HPos::Right));
        area.draw(&Text::new(count(row.clips), (right + FIGURES, middle), clips))
    }

    fn has_grid(&self) -> bool {
        self.cell.1 >= LEGIBLE
    }

    fn grid<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        let k = self.names.len();
        let ((left, top), (right, bottom)) = (self.origin(), self.corner(k, k));
        let inner = if self.has_grid() { 1 } else { k.max(1) };
        for i in (0..=k).step_by(inner) {
            let (x, y) = self.corner(i, i);
            area.draw(&PathElement::new(vec![(x, top), (x, bottom)], GRID))?;
            area.draw(&PathElement::new(vec![(left, y), (right, y)], GRID))?;
        }
        Ok(())
    }
}

impl Figure for ConfusionMatrix {
    fn size(&self) -> (u32, u32) {
        (WIDTH as u32, (self.corner(self.names.len(), 0).1 + MARGIN) as u32)
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        let title = fitted(&self.title, 18.0, f64::from(WIDTH - 2 * MARGIN));
        area.draw(&Text::new(title, (MARGIN, 18), text(18.0, INK)))?;
        self.legend(area, TITLE + 8)?;
        let ((left, top), (right, _)) = (self.origin(), self.corner(0, self.names.len()));
        let heading = |h| text(SMALL, FAINT_INK).pos(Pos::new(h, VPos::Center));
        area.draw(&Text::new("class", (left - 10, top - 10), heading(HPos::Right)))?;
        area.draw(&Text::new("recall", (right + 16, top - 10), heading(HPos::Left)))?;
        area.draw(&Text::new("clips", (right + FIGURES, top - 10), heading(HPos::Right)))?;
        area.draw(&Text::new("predicted as", (left - 10, top - self.labels / 2), heading(HPos::Right)))?;
        if self.has_grid() {
            let style = text(LABEL, INK).pos(Pos::new(HPos::Left, VPos::Center)).transform(FontTransform::Rotate270);
            for (k, name) in self.names.iter().enumerate() {
                let at = (self.corner(0, k).0 + self.cell.0 / 2, top - 10);
                area.draw(&Text::new(name.clone(), at, style.clone()))?;
            }
        }
        self.grid(area)?;
        self.rows.iter().enumerate().try_for_each(|(k, row)| self.row(area, k, row))
    }
}
