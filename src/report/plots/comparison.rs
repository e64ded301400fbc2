//! Comparison of runs as in figs. 2 and 3 of Gururani, Sharma and Lerch, "An attention mechanism for musical instrument
//! recognition" (ISMIR 2019): box plots of the scores over the seeds, and F1 of each class as bars. Both are
//! horizontal, so that names are legible.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::compare::comparison::Comparison;
use crate::core::text::in_words;
use crate::metrics::scores::{Metric, Task};
use crate::report::plots::axis::Axis;
use crate::report::plots::box_plot::{self, BoxPlot};
use crate::report::plots::class_bars::error_bar;
use crate::report::plots::figure::{
    Drawn, FAINT_INK, Figure, GRID, INK, PALETTE, fitted, flow, is_narrow, margin, text, text_width,
};
use crate::report::tables::table::printable;

const TOP: i32 = 6;
/// Height of a line of a legend.
const LEGEND: i32 = 24;
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
pub(crate) struct ScoreBoxes<'a> {
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

    fn panel<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        panel: &ScorePanel,
        [left, right]: [i32; 2],
        top: i32,
    ) -> Drawn<DB> {
        let bottom = top + self.comparison.entries.len() as i32 * BOX_ROW;
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
            BoxPlot { values, colour: colour(i), half: HALF }.draw(area, x, row(top, i))?;
        }
        Ok(())
    }

    fn labels(&self, width: i32) -> i32 {
        self.labels.min(if is_narrow(width) { 120 } else { 214 })
    }

    /// Entries of the legend and their positions: x and the line.
    fn legend(&self, width: i32) -> Vec<(&'static str, (i32, i32))> {
        let labels = box_plot::legend(self.comparison.seeds());
        let left = margin(width) + if is_narrow(width) { 0 } else { self.labels };
        let places = flow(labels.iter().map(|label| box_plot::entry_width(label)), [left, width - margin(width)]);
        labels.into_iter().zip(places).collect()
    }

    /// The first rows of the panels.
    fn top(&self, width: i32) -> i32 {
        TOP + (self.legend(width).last().map_or(0, |entry| entry.1.1) + 1) * LEGEND + HEADING
    }

    /// From the rows of a panel to those of the one below.
    fn panel_height(&self) -> i32 {
        self.comparison.entries.len() as i32 * BOX_ROW + AXIS + HEADING
    }
}

/// The middle of the i-th entry's boxes.
fn row(top: i32, i: usize) -> i32 {
    top + i as i32 * BOX_ROW + BOX_ROW / 2
}

impl Figure for ScoreBoxes<'_> {
    fn title(&self) -> &str {
        &self.title
    }

    fn height(&self, width: i32) -> i32 {
        let below = if is_narrow(width) { PANELS as i32 } else { 1 };
        self.top(width) - HEADING + below * self.panel_height() + 8
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, width: i32) -> Drawn<DB> {
        for (i, (label, (x, line))) in self.legend(width).into_iter().enumerate() {
            box_plot::draw_entry(area, (x, TOP + line * LEGEND + LEGEND / 2), (i, label), FAINT_INK)?;
        }
        let labels = self.labels(width);
        let first = margin(width) + labels;
        let across = width - margin(width) - first;
        let gaps = PANEL_GAP * (PANELS as i32 - 1);
        let each = if is_narrow(width) { across - 12 } else { (across - gaps) / PANELS as i32 };
        for (p, panel) in self.panels.iter().enumerate() {
            let (column, line) = if is_narrow(width) { (0, p as i32) } else { (p as i32, 0) };
            let top = self.top(width) + line * self.panel_height();
            let left = first + column * (each + PANEL_GAP);
            if column == 0 {
                for (i, entry) in self.comparison.entries.iter().enumerate() {
                    name(area, &entry.label, first - 14, row(top, i), labels - 14)?;
                }
            }
            self.panel(area, panel, [left, left + each], top)?;
        }
        Ok(())
    }
}

const BAR: i32 = 8;
const CLASS_GAP: i32 = 12;
/// Number of classes from which on there are two columns.
const WIDE_FROM: usize = 9;
/// Maximum number of bars in a readable figure; the table has them all.
const MAX_BARS: usize = 1200;

/// The experiment's F1 of each class, a bar per entry with the standard deviation over its seeds; the best class first.
pub(crate) struct InstrumentBars<'a> {
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
            names: label_width(classes.iter().map(|c| c.name), 130.0),
            classes,
            axis: Axis::between(0.0, 1.0, 6),
        }
    }

    fn columns(&self, width: i32) -> usize {
        1 + usize::from(self.classes.len() >= WIDE_FROM && !is_narrow(width))
    }

    /// Classes in a column.
    fn rows(&self, width: i32) -> usize {
        self.classes.len().div_ceil(self.columns(width))
    }

    fn group(&self) -> i32 {
        self.labels.len() as i32 * BAR + CLASS_GAP
    }

    /// Layout of the legend: position and line of each entry.
    fn legend(&self, width: i32) -> Vec<(i32, i32)> {
        let widths = self.labels.iter().map(|label| 18 + text_width(&printable(label), LABEL).ceil() as i32 + 26);
        flow(widths, [margin(width), width - margin(width)])
    }

    fn top(&self, width: i32) -> i32 {
        TOP + (self.legend(width).last().map_or(0, |at| at.1) + 1) * LEGEND + 4
    }

    fn column<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        classes: &[Instrument],
        [start, width]: [i32; 2],
        [top, bottom]: [i32; 2],
    ) -> Drawn<DB> {
        let left = start + self.names;
        let x = |value: f64| left + (self.axis.at(value) * f64::from(width - self.names)).round() as i32;
        for (value, name) in &self.axis.ticks {
            area.draw(&PathElement::new(vec![(x(*value), top), (x(*value), bottom)], GRID))?;
            let style = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Center, VPos::Top));
            area.draw(&Text::new(name.clone(), (x(*value), bottom + 8), style))?;
        }
        for (i, class) in classes.iter().enumerate() {
            let first = top + i as i32 * self.group() + CLASS_GAP / 2;
            name(area, &in_words(class.name), left - 10, first + self.labels.len() as i32 * BAR / 2, self.names - 14)?;
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
    fn title(&self) -> &str {
        &self.title
    }

    fn height(&self, width: i32) -> i32 {
        self.top(width) + self.rows(width) as i32 * self.group() + AXIS + 8
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, width: i32) -> Drawn<DB> {
        for (i, (label, (x, line))) in self.labels.iter().zip(self.legend(width)).enumerate() {
            let y = TOP + line * LEGEND + LEGEND / 2;
            area.draw(&Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour(i).filled()))?;
            let style = text(LABEL, INK).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(printable(label), (x + 18, y), style))?;
        }
        let columns = self.columns(width) as i32;
        let across = (width - 2 * margin(width) - (columns - 1) * PANEL_GAP) / columns;
        let starts = (0..).map(|i| margin(width) + i * (across + PANEL_GAP));
        let top = self.top(width);
        let bottom = top + self.rows(width) as i32 * self.group();
        let parts = self.classes.chunks(self.rows(width).max(1));
        parts.zip(starts).try_for_each(|(classes, start)| self.column(area, classes, [start, across], [top, bottom]))
    }
}
