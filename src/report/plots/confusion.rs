//! A confusion matrix as a heat map: a row per true class, a column per predicted class.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::core::numbers::{count, score};
use crate::core::text::in_words;
use crate::metrics::scores::{Confusion, counts_of};
use crate::report::plots::figure::{
    self, Drawn, FAINT_INK, Figure, GRID, INK, PALETTE, fitted, flow, is_narrow, margin, text, text_width,
};
use crate::report::tables::table::printable;

const TOP: i32 = 6;
/// Height of a line of the legend.
const LEGEND: i32 = 22;
/// Margin for the recall and the clips of a class, which a narrow screen does not show.
const FIGURES: i32 = 116;
const LABEL: f64 = 13.0;
const SMALL: f64 = 11.0;
/// Margin for the longest name, in pixels.
const LONGEST: f64 = 160.0;
/// Maximum width and height of a cell.
const CELL: (i32, i32) = (90, 30);
/// Cells lower than this have no names and numbers.
const LEGIBLE: i32 = 10;
/// Maximum number of classes in a readable figure: those with most clips are shown.
const MAX_CLASSES: usize = 200;
const RIGHT: RGBColor = PALETTE[0];
const WRONG: RGBColor = PALETTE[5];
/// Entries of the legend, the length of their colours, and what they are fractions of.
const LEGENDS: [(&str, RGBColor); 2] = [("correct", RIGHT), ("misclassified", WRONG)];
const RAMP: i32 = 100;
const ABOUT: &str = "fraction of the clips of a class; numbers: clips";
/// Fraction from which on the text of a cell is light.
const DARK: f64 = 0.75;
/// Minimum opacity of non-zero cells.
const FAINTEST: f64 = 0.08;

pub(crate) struct ConfusionMatrix {
    title: String,
    /// Names of rows and columns.
    names: Vec<String>,
    rows: Vec<Row>,
}

/// Where everything is at a width.
struct Layout {
    /// Where the first cell begins.
    origin: (i32, i32),
    /// Width and height of a cell.
    cell: (i32, i32),
    /// Em of the names.
    label: f64,
    /// Margin for the names, beside the rows and above the columns.
    labels: i32,
    /// Positions of the legend: x and the line.
    legend: Vec<(i32, i32)>,
    narrow: bool,
}

impl Layout {
    /// Upper left corner of a cell.
    fn corner(&self, row: usize, column: usize) -> (i32, i32) {
        let (left, top) = self.origin;
        (left + column as i32 * self.cell.0, top + row as i32 * self.cell.1)
    }

    fn is_legible(&self) -> bool {
        self.cell.1 >= LEGIBLE
    }
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
        let names = shown.iter().map(|&k| printable(&in_words(classes[k]))).collect();
        ConfusionMatrix { title: format!("{title}{cut}"), rows: shown.iter().map(row).collect(), names }
    }

    fn layout(&self, width: i32) -> Layout {
        let narrow = is_narrow(width);
        let (label, longest, figures) = if narrow { (SMALL, 96.0, 0) } else { (LABEL, LONGEST, FIGURES) };
        let widest = self.names.iter().map(|name| text_width(name, label)).fold(60.0, f64::max);
        let labels = widest.min(longest).ceil() as i32 + 12;
        let room = (width - 2 * margin(width) - labels - figures) / self.names.len().max(1) as i32;
        let across = room.clamp(1, CELL.0);
        let widths = LEGENDS.map(|(name, _)| text_width(name, SMALL).ceil() as i32 + RAMP + 60);
        let about = text_width(ABOUT, SMALL).ceil() as i32;
        let legend = flow(widths.into_iter().chain([about]), [margin(width), width - margin(width)]);
        let lines = legend.last().map_or(0, |at| at.1) + 1;
        let origin = (margin(width) + labels, TOP + lines * LEGEND + 14 + labels);
        Layout { origin, cell: (across, across.min(CELL.1)), label, labels, legend, narrow }
    }

    /// Writes a PNG, atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        figure::save(self, path)
    }

    /// The meaning of the colours.
    fn legend<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, layout: &Layout) -> Drawn<DB> {
        const STEPS: i32 = 20;
        const STEP: i32 = RAMP / STEPS;
        let style = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Left, VPos::Center));
        let place = |(x, line): (i32, i32)| (x, TOP + line * LEGEND + LEGEND / 2);
        for ((label, colour), at) in LEGENDS.into_iter().zip(&layout.legend) {
            let (mut x, y) = place(*at);
            area.draw(&Text::new(label, (x, y), text(SMALL, INK).pos(Pos::new(HPos::Left, VPos::Center))))?;
            x += text_width(label, SMALL).ceil() as i32 + 10;
            area.draw(&Text::new("0", (x, y), style.clone()))?;
            x += 12;
            for i in 0..STEPS {
                let at = [(x + i * STEP, y - 6), (x + (i + 1) * STEP - 1, y + 5)];
                area.draw(&Rectangle::new(at, colour.mix(f64::from(i + 1) / f64::from(STEPS)).filled()))?;
            }
            area.draw(&Text::new("1", (x + RAMP + 6, y), style.clone()))?;
        }
        area.draw(&Text::new(ABOUT, place(layout.legend[LEGENDS.len()]), style))
    }

    fn row<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        layout: &Layout,
        k: usize,
        row: &Row,
    ) -> Drawn<DB> {
        let ((left, top), (width, height)) = (layout.corner(k, 0), layout.cell);
        let middle = top + height / 2;
        let legible = layout.is_legible();
        let at = |h| Pos::new(h, VPos::Center);
        if legible {
            let style = text(layout.label, INK).pos(at(HPos::Right));
            area.draw(&Text::new(self.name(layout, k), (left - 10, middle), style))?;
        }
        for (column, &clips) in row.answers.iter().enumerate().filter(|(_, clips)| **clips > 0) {
            let (x, y) = layout.corner(k, column);
            let share = clips as f64 / row.clips as f64;
            let colour = if column == k { RIGHT } else { WRONG };
            // The last pixels belong to the grid, if there is one.
            let gap = i32::from(legible);
            let cell = [(x + gap, y + gap), (x + width - 1, y + height - 1)];
            area.draw(&Rectangle::new(cell, colour.mix(share.max(FAINTEST)).filled()))?;
            let figure = count(clips);
            if legible && text_width(&figure, SMALL) <= f64::from(width - 4) {
                let ink = if share > DARK { WHITE } else { INK };
                area.draw(&Text::new(figure, (x + width / 2, middle), text(SMALL, ink).pos(at(HPos::Center))))?;
            }
        }
        if !legible || layout.narrow {
            return Ok(());
        }
        let right = layout.corner(k, self.names.len()).0;
        let recall = row.recall.map_or("–".into(), |v| score(Some(v)));
        area.draw(&Text::new(recall, (right + 16, middle), text(LABEL, INK).pos(at(HPos::Left))))?;
        let clips = text(SMALL, FAINT_INK).pos(at(HPos::Right));
        area.draw(&Text::new(count(row.clips), (right + FIGURES, middle), clips))
    }

    fn name(&self, layout: &Layout, k: usize) -> String {
        fitted(&self.names[k], layout.label, f64::from(layout.labels - 12))
    }

    fn grid<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, layout: &Layout) -> Drawn<DB> {
        let k = self.names.len();
        let ((left, top), (right, bottom)) = (layout.origin, layout.corner(k, k));
        let inner = if layout.is_legible() { 1 } else { k.max(1) };
        for i in (0..=k).step_by(inner) {
            let (x, y) = layout.corner(i, i);
            area.draw(&PathElement::new(vec![(x, top), (x, bottom)], GRID))?;
            area.draw(&PathElement::new(vec![(left, y), (right, y)], GRID))?;
        }
        Ok(())
    }
}

impl Figure for ConfusionMatrix {
    fn title(&self) -> &str {
        &self.title
    }

    fn height(&self, width: i32) -> i32 {
        self.layout(width).corner(self.names.len(), 0).1 + margin(width)
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, width: i32) -> Drawn<DB> {
        let layout = &self.layout(width);
        self.legend(area, layout)?;
        let ((left, top), (right, _)) = (layout.origin, layout.corner(0, self.names.len()));
        let heading = |h| text(SMALL, FAINT_INK).pos(Pos::new(h, VPos::Center));
        area.draw(&Text::new("class", (left - 10, top - 10), heading(HPos::Right)))?;
        if !layout.narrow {
            area.draw(&Text::new("recall", (right + 16, top - 10), heading(HPos::Left)))?;
            area.draw(&Text::new("clips", (right + FIGURES, top - 10), heading(HPos::Right)))?;
        }
        area.draw(&Text::new("predicted as", (left - 10, top - layout.labels / 2), heading(HPos::Right)))?;
        if layout.is_legible() {
            let pos = Pos::new(HPos::Left, VPos::Center);
            let style = text(layout.label, INK).pos(pos).transform(FontTransform::Rotate270);
            for k in 0..self.names.len() {
                let at = (layout.corner(0, k).0 + layout.cell.0 / 2, top - 10);
                area.draw(&Text::new(self.name(layout, k), at, style.clone()))?;
            }
        }
        self.grid(area, layout)?;
        self.rows.iter().enumerate().try_for_each(|(k, row)| self.row(area, layout, k, row))
    }
}
