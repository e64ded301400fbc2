//! Comparison of runs as in figs. 2 and 3 of Gururani, Sharma and Lerch, "An attention mechanism for musical instrument
//! recognition" (ISMIR 2019): box plots of the scores over the seeds, and F1 of each class as bars. Both are
//! horizontal, so that names are legible.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::compare::comparison::Comparison;
use crate::metrics::scores::{Metric, Task};
use crate::report::plots::axis::Axis;
use crate::report::plots::box_plot::{self, BoxPlot};
use crate::report::plots::class_bars::error_bar;
use crate::report::plots::figure::{Drawn, FAINT_INK, Figure, GRID, INK, PALETTE, fitted, text, text_width};
use crate::report::tables::table::printable;

const WIDTH: i32 = 1080;
const MARGIN: i32 = 30;
const TITLE: i32 = 50;
const LEGEND: i32 = 28;
const AXIS: i32 = 34;
const LABEL: f64 = 13.0;
const SMALL: f64 = 11.0;

/// Colour of the i-th entry, in both figures; the palette repeats in darker shades.
fn colour(i: usize) -> RGBColor {
    let (turn, base) = (i / PALETTE.len(), PALETTE[i % PALETTE.len()]);
    let darker = |c: u8| (f64::from(c) * 0.55f64.powi(turn.min(3) as i32)) as u8;
    RGBColor(darker(base.0), darker(base.1), darker(base.2))
}

/// Margin for the widest of `names` at the left of a panel.
fn label_width<'a>(names: impl Iterator<Item = &'a str>, most: f64) -> i32 {
    names.map(|name| text_width(&printable(name), LABEL)).fold(0.0, f64::max).min(most).ceil() as i32 + 14
}

fn title<DB: DrawingBackend>(area: &DrawingArea<DB, Shift>, title: &str) -> Drawn<DB> {
    let title = fitted(title, 18.0, f64::from(WIDTH - 2 * MARGIN));
    area.draw(&Text::new(title, (MARGIN, 18), text(18.0, INK)))
}

/// A name right-aligned at the left of a panel.
fn name<DB: DrawingBackend>(area: &DrawingArea<DB, Shift>, name: &str, right: i32, y: i32, width: i32) -> Drawn<DB> {
    let name = fitted(&printable(name), LABEL, f64::from(width));
    let style = text(LABEL, INK).pos(Pos::new(HPos::Right, VPos::Center));
    area.draw(&Text::new(name, (right, y), style))
}

const PANELS: usize = 5;
const PANEL_GAP: i32 = 48;
const BOX_ROW: i32 = 46;
const HALF: i32 = 13;
const HEADING: i32 = 24;

/// The panels of score boxes: precision, recall, F1 as in the paper's figure, F1 of present, and mean average
/// precision; for single-label models the accuracy first.
fn panels(task: Task) -> [&'static str; PANELS] {
    match task {
        Task::MultiLabel => ["precision", "recall", "f1_pn", "f1_pos", "map"],
        Task::SingleLabel => ["accuracy", "precision", "recall", "f1_macro", "map"],
    }
}

/// A panel per metric, with a box per entry over its seeds.
pub struct ScoreBoxes<'a> {
    title: String,
    comparison: &'a Comparison,
    labels: i32,
    panels: Vec<ScorePanel>,
}

struct ScorePanel {
    metric: Metric,
    /// Scores of each entry, ascending.
    values: Vec<Vec<f64>>,
    axis: Option<Axis>,
}

impl<'a> ScoreBoxes<'a> {
    pub fn new(title: &str, comparison: &'a Comparison) -> ScoreBoxes<'a> {
        let panel = |name: &str| {
            let metric = comparison.task().metric(name);
            let values: Vec<Vec<f64>> = comparison
                .entries
                .iter()
                .map(|entry| {
                    let seeds = &entry.evaluation.per_seed;
                    let mut values: Vec<f64> = seeds.iter().filter_map(|s| (metric.of)(&s.scores)).collect();
                    values.sort_by(f64::total_cmp);
                    values
                })
                .collect();
            let axis = Axis::of_scores(values.iter().flatten().copied(), 4);
            ScorePanel { metric, values, axis }
        };
        let labels = label_width(comparison.entries.iter().map(|e| e.label.as_str()), 200.0);
        ScoreBoxes { title: title.into(), comparison, labels, panels: panels(comparison.task()).map(panel).into() }
    }

    fn panel<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, panel: &ScorePanel, left: i32) -> Drawn<DB> {
        let (top, bottom) = (TITLE + LEGEND + HEADING, self.bottom());
        let right = left + self.panel_width();
        let heading = text(LABEL, INK).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(panel.metric.name, (left, top - 15), heading))?;
        let Some(axis) = &panel.axis else {
            let faint = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Left, VPos::Top));
            return area.draw(&Text::new("no labels", (left, top), faint));
        };
        let x = |value: f64| left + (axis.at(value) * f64::from(right - left)).round() as i32;
        for (value, name) in &axis.ticks {
            area.draw(&PathElement::new(vec![(x(*value), top), (x(*value), bottom)], GRID))?;
            let style = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Center, VPos::Top));
            area.draw(&Text::new(name.clone(), (x(*value), bottom + 8), style))?;
        }
        for (i, values) in panel.values.iter().enumerate() {
            BoxPlot { values, colour: colour(i), half: HALF }.draw(area, x, row(i))?;
        }
        Ok(())
    }

    fn panel_width(&self) -> i32 {
        let gaps = PANEL_GAP * (PANELS as i32 - 1);
        (WIDTH - 2 * MARGIN - self.labels - gaps) / PANELS as i32
    }

    fn bottom(&self) -> i32 {
        TITLE + LEGEND + HEADING + self.comparison.entries.len() as i32 * BOX_ROW
    }
}

/// The middle of the i-th entry's boxes.
fn row(i: usize) -> i32 {
    TITLE + LEGEND + HEADING + i as i32 * BOX_ROW + BOX_ROW / 2
}

impl Figure for ScoreBoxes<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH as u32, (self.bottom() + AXIS + 8) as u32)
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        title(area, &self.title)?;
        let first = MARGIN + self.labels;
        box_plot::legend(area, (first, TITLE + LEGEND / 2 - 6), self.comparison.seeds(), FAINT_INK)?;
        for (i, entry) in self.comparison.entries.iter().enumerate() {
            name(area, &entry.label, first - 14, row(i), self.labels - 14)?;
        }
        let lefts = (0..).map(|i| first + i * (self.panel_width() + PANEL_GAP));
        self.panels.iter().zip(lefts).try_for_each(|(panel, left)| self.panel(area, panel, left))
    }
}

const BAR: i32 = 8;
const CLASS_GAP: i32 = 12;
/// Number of classes from which on there are two columns.
const WIDE: usize = 9;
/// Maximum number of bars in a readable figure; the table has them all.
const MAX_BARS: usize = 1200;

/// The experiment's F1 of each class, a bar per entry with the standard deviation over its seeds; the best class first.
pub struct InstrumentBars<'a> {
    title: String,
    labels: Vec<&'a str>,
    classes: Vec<Instrument<'a>>,
    names: i32,
    axis: Axis,
}

struct Instrument<'a> {
    name: &'a str,
    /// Mean and standard deviation over the seeds, for each entry.
    f1: Vec<(Option<f64>, Option<f64>)>,
}

impl<'a> InstrumentBars<'a> {
    pub fn new(title: &str, comparison: &'a Comparison) -> InstrumentBars<'a> {
        let entries = &comparison.entries;
        let class = |k: usize| Instrument {
            name: &entries[0].evaluation.per_class[k].0,
            f1: entries
                .iter()
                .map(|entry| comparison.experiment.metric.of_class(&entry.evaluation.per_class[k].1))
                .collect(),
        };
        let mut classes: Vec<Instrument> = comparison.classes_best_first().into_iter().map(class).collect();
        let (total, most) = (classes.len(), (MAX_BARS / entries.len()).max(1));
        classes.truncate(most);
        let cut = if total > most { format!(" (best {most} of {total})") } else { String::new() };
        InstrumentBars {
            title: format!("{title}{cut}"),
            labels: entries.iter().map(|e| e.label.as_str()).collect(),
            names: label_width(classes.iter().map(|c| c.name), 140.0),
            classes,
            axis: Axis::between(0.0, 1.0, 6),
        }
    }

    fn columns(&self) -> usize {
        1 + usize::from(self.classes.len() >= WIDE)
    }

    /// Classes in a column.
    fn rows(&self) -> usize {
        self.classes.len().div_ceil(self.columns())
    }

    fn group(&self) -> i32 {
        self.labels.len() as i32 * BAR + CLASS_GAP
    }

    /// Layout of the legend: position and line of each entry.
    fn legend(&self) -> Vec<(i32, i32)> {
        let (mut x, mut line) = (MARGIN, 0);
        self.labels
            .iter()
            .map(|label| {
                let width = 18 + text_width(&printable(label), LABEL).ceil() as i32 + 26;
                if x > MARGIN && x + width > WIDTH - MARGIN {
                    (x, line) = (MARGIN, line + 1);
                }
                let at = (x, line);
                x += width;
                at
            })
            .collect()
    }

    fn top(&self) -> i32 {
        TITLE + (self.legend().last().map_or(0, |at| at.1) + 1) * LEGEND
    }

    fn column<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        classes: &[Instrument],
        start: i32,
        width: i32,
    ) -> Drawn<DB> {
        let (top, left) = (self.top(), start + self.names);
        let bottom = top + self.rows() as i32 * self.group();
        let x = |value: f64| left + (self.axis.at(value) * f64::from(width - self.names)).round() as i32;
        for (value, name) in &self.axis.ticks {
            area.draw(&PathElement::new(vec![(x(*value), top), (x(*value), bottom)], GRID))?;
            let style = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Center, VPos::Top));
            area.draw(&Text::new(name.clone(), (x(*value), bottom + 8), style))?;
        }
        for (i, class) in classes.iter().enumerate() {
            let first = top + i as i32 * self.group() + CLASS_GAP / 2;
            name(area, class.name, left - 10, first + self.labels.len() as i32 * BAR / 2, self.names - 14)?;
            for (j, (mean, std)) in class.f1.iter().enumerate() {
                let y = first + j as i32 * BAR;
                let Some(mean) = mean else { continue };
                let bar = [(left, y), (x(*mean).max(left + 1), y + BAR - 2)];
                area.draw(&Rectangle::new(bar, colour(j).filled()))?;
                if let Some(std) = std {
                    error_bar(area, [x(mean - std), x(mean + std)], y + BAR / 2 - 1, 2)?;
                }
            }
        }
        area.draw(&PathElement::new(vec![(left, top), (left, bottom)], FAINT_INK))
    }
}

impl Figure for InstrumentBars<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH as u32, (self.top() + self.rows() as i32 * self.group() + AXIS + 8) as u32)
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        title(area, &self.title)?;
        for (i, (label, (x, line))) in self.labels.iter().zip(self.legend()).enumerate() {
            let y = TITLE + line * LEGEND + LEGEND / 2 - 6;
            area.draw(&Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour(i).filled()))?;
            let style = text(LABEL, INK).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(printable(label), (x + 18, y), style))?;
        }
        let columns = self.columns() as i32;
        let width = (WIDTH - 2 * MARGIN - (columns - 1) * PANEL_GAP) / columns;
        let starts = (0..).map(|i| MARGIN + i * (width + PANEL_GAP));
        let parts = self.classes.chunks(self.rows().max(1));
        parts.zip(starts).try_for_each(|(classes, start)| self.column(area, classes, start, width))
    }
}
