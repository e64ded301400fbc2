//! Learning curves, epoch by epoch: the loss on training and validation clips, and F1 on validation clips, or accuracy
//! on both.

use std::collections::HashMap;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::metrics::scores::quantile;
use crate::report::plots::axis::Axis;
use crate::report::plots::figure::{
    self, Drawn, FAINT_INK, Figure, GRID, INK, PALETTE, is_narrow, margin, text, text_width,
};
use crate::run::state::EpochRow;

const TOP: i32 = 8;
/// Height of a panel's heading and legend; if they are one below the other.
const HEADING: i32 = 34;
const TALL_HEADING: i32 = 58;
const PANEL: i32 = 300;
const X_AXIS: i32 = 50;
const Y_AXIS: i32 = 44;
const GAP: i32 = 36;
const SMALL: f64 = 11.0;
const TRAINING: RGBColor = PALETTE[0];
const VALIDATION: RGBColor = PALETTE[5];
/// Maximum number of seeds with a line each; beyond it a band is drawn.
const MAX_LINES: usize = 12;
/// Quantiles of the band.
const BAND: [f64; 2] = [0.05, 0.95];
/// Maximum number of columns; more epochs share them.
const COLUMNS: usize = 450;
/// Ratio of largest to smallest loss from which on the axis is logarithmic.
const LOG_FROM: f64 = 20.0;

/// An epoch (from 1) and a value.
type Point = (f64, f64);

pub(crate) struct LearningCurves {
    title: String,
    epochs: Axis,
    panels: Vec<Panel>,
}

struct Panel {
    name: &'static str,
    /// `None` without values.
    axis: Option<Axis>,
    curves: Vec<Curves>,
}

/// One quantity for all seeds.
struct Curves {
    name: &'static str,
    colour: RGBColor,
    lines: Vec<Vec<Point>>,
    /// Instead of lines: epoch, lower and upper end.
    band: Vec<(f64, f64, f64)>,
    /// While at least half of the seeds are training.
    mean: Vec<Point>,
    /// Each seed's best epoch.
    best: Vec<Point>,
}

impl LearningCurves {
    /// From `rows` in the order of epochs.
    pub fn new(title: &str, rows: &[EpochRow]) -> LearningCurves {
        let last = rows.iter().map(|row| row.epoch + 1).max().unwrap_or(1);
        // A single epoch is centred.
        let (low, high) = if last > 1 { (1.0, last as f64) } else { (0.0, 2.0) };
        // Epochs are whole.
        let most = ((high - low) as usize + 1).min(8);
        let train_loss = |row: &EpochRow| Some(f64::from(row.train_loss));
        let val_loss = |row: &EpochRow| Some(f64::from(row.val_loss));
        let loss = [
            Curves::new("training", TRAINING, rows, &train_loss, false),
            Curves::new("validation", VALIDATION, rows, &val_loss, true),
        ];
        let one_class = rows.iter().any(|row| row.val_accuracy.is_some());
        let name = if one_class { "Accuracy" } else { "F1 (f1_pn)" };
        let score = |row: &EpochRow| if one_class { row.val_accuracy } else { row.val_f1_pn };
        let trained = rows.iter().any(|row| row.train_accuracy.is_some());
        let training = trained.then(|| Curves::new("training", TRAINING, rows, &|row| row.train_accuracy, false));
        let validation = Curves::new("validation", VALIDATION, rows, &score, true);
        let scores = training.into_iter().chain([validation]).collect();
        let panels = vec![Panel::new("Loss", loss.into(), true), Panel::new(name, scores, false)];
        LearningCurves { title: title.into(), epochs: Axis::between(low, high, most), panels }
    }

    /// The losses alone.
    pub(crate) fn without_scores(mut self) -> LearningCurves {
        self.panels.truncate(1);
        self
    }

    /// Writes a PNG, atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        figure::save(self, path)
    }

    fn panel<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        panel: &Panel,
        [left, right]: [i32; 2],
        above: i32,
        width: i32,
    ) -> Drawn<DB> {
        let top = above + heading(width);
        let bottom = top + PANEL;
        let small = |h, v| text(SMALL, FAINT_INK).pos(Pos::new(h, v));
        area.draw(&Text::new(panel.name, (left, above + 4), text(15.0, INK)))?;
        match is_narrow(width) {
            true => self.legend(area, panel, left, above + 36)?,
            false => self.legend(area, panel, left + text_width(panel.name, 15.0) as i32 + 26, above + 11)?,
        }
        let x = |epoch: f64| left + (self.epochs.at(epoch) * f64::from(right - left)).round() as i32;
        for (epoch, name) in self.epochs.ticks.iter().filter(|(epoch, _)| *epoch >= 1.0) {
            area.draw(&PathElement::new(vec![(x(*epoch), bottom), (x(*epoch), bottom + 4)], FAINT_INK))?;
            area.draw(&Text::new(name.clone(), (x(*epoch), bottom + 8), small(HPos::Center, VPos::Top)))?;
        }
        area.draw(&Text::new("epoch", ((left + right) / 2, bottom + 26), small(HPos::Center, VPos::Top)))?;
        let Some(axis) = &panel.axis else {
            let middle = ((left + right) / 2, (top + bottom) / 2);
            return area.draw(&Text::new("no labels", middle, small(HPos::Center, VPos::Center)));
        };
        let y = |value: f64| bottom - (axis.at(value) * f64::from(PANEL)).round() as i32;
        for (value, name) in &axis.ticks {
            area.draw(&PathElement::new(vec![(left, y(*value)), (right, y(*value))], GRID))?;
            area.draw(&Text::new(name.clone(), (left - 8, y(*value)), small(HPos::Right, VPos::Center)))?;
        }
        area.draw(&PathElement::new(vec![(left, bottom), (right, bottom)], FAINT_INK))?;
        let place = |(epoch, value): &Point| (x(*epoch), y(*value));
        for curves in &panel.curves {
            let upper = curves.band.iter().map(|(epoch, _, high)| (x(*epoch), y(*high)));
            let lower = curves.band.iter().rev().map(|(epoch, low, _)| (x(*epoch), y(*low)));
            if curves.band.len() > 1 {
                area.draw(&Polygon::new(upper.chain(lower).collect::<Vec<_>>(), curves.colour.mix(0.2).filled()))?;
            }
            for line in &curves.lines {
                area.draw(&PathElement::new(line.iter().map(place).collect::<Vec<_>>(), curves.colour.mix(0.4)))?;
            }
        }
        for curves in &panel.curves {
            let mean: Vec<_> = curves.mean.iter().map(place).collect();
            match mean[..] {
                [only] => area.draw(&Circle::new(only, 3, curves.colour.filled()))?,
                _ => area.draw(&PathElement::new(mean, curves.colour.stroke_width(2)))?,
            }
            // Opacity that still shows where most marks are.
            let shade = (15.0 / curves.best.len() as f64).clamp(0.04, 0.6);
            for best in &curves.best {
                let (x, y) = place(best);
                if curves.band.is_empty() {
                    area.draw(&Circle::new((x, y), 4, WHITE.filled()))?;
                    area.draw(&Circle::new((x, y), 3, curves.colour.filled()))?;
                } else {
                    let tick = vec![(x, bottom - 9), (x, bottom - 1)];
                    area.draw(&PathElement::new(tick, curves.colour.mix(shade)))?;
                }
            }
        }
        Ok(())
    }

    fn legend<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        panel: &Panel,
        mut x: i32,
        y: i32,
    ) -> Drawn<DB> {
        let style = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Left, VPos::Center));
        let draw_label = |label: &str, x: &mut i32| {
            let drawn = area.draw(&Text::new(label.to_owned(), (*x, y), style.clone()));
            *x += text_width(label, SMALL) as i32 + 20;
            drawn
        };
        for curves in &panel.curves {
            area.draw(&PathElement::new(vec![(x, y), (x + 20, y)], curves.colour.stroke_width(2)))?;
            x += 26;
            draw_label(curves.name, &mut x)?;
        }
        let Some(last) = panel.curves.last().filter(|_| panel.axis.is_some()) else { return Ok(()) };
        if last.band.is_empty() {
            area.draw(&Circle::new((x + 3, y), 3, last.colour.filled()))?;
            x += 12;
            return draw_label("best epoch", &mut x);
        }
        area.draw(&Rectangle::new([(x, y - 5), (x + 20, y + 5)], last.colour.mix(0.2).filled()))?;
        x += 26;
        draw_label("90 % of the seeds", &mut x)?;
        area.draw(&PathElement::new(vec![(x, y - 4), (x, y + 4)], last.colour))?;
        x += 6;
        draw_label("best epochs", &mut x)
    }
}

impl Panel {
    fn new(name: &'static str, curves: Vec<Curves>, may_be_log: bool) -> Panel {
        let points = || curves.iter().flat_map(|c| c.lines.iter().chain([&c.mean, &c.best])).flatten().map(|p| p.1);
        let ends = curves.iter().flat_map(|c| &c.band).flat_map(|b| [b.1, b.2]);
        let (low, high) = points().chain(ends).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let axis = (low <= high).then(|| match may_be_log && low > 0.0 && high > LOG_FROM * low {
            true => Axis::log(low / 1.1, high * 1.1),
            false => Axis::around(low, high, 7),
        });
        Panel { name, axis, curves }
    }
}

impl Curves {
    fn new(
        name: &'static str,
        colour: RGBColor,
        rows: &[EpochRow],
        value: &dyn Fn(&EpochRow) -> Option<f64>,
        mark_best: bool,
    ) -> Curves {
        let point = |row: &EpochRow| value(row).filter(|v| v.is_finite()).map(|v| ((row.epoch + 1) as f64, v));
        let mut numbers = HashMap::new();
        let mut lines: Vec<Vec<Point>> = vec![];
        let mut best = vec![];
        for row in rows {
            let next = numbers.len();
            let seed = *numbers.entry(row.seed).or_insert(next);
            lines.resize(numbers.len(), vec![]);
            best.resize(numbers.len(), None);
            lines[seed].extend(point(row));
            best[seed] = point(row).filter(|_| row.best && mark_best).or(best[seed]);
        }
        let seeds = lines.len();
        let (mut mean, mut band) = (vec![], vec![]);
        for epoch in rows.chunk_by(|a, b| a.epoch == b.epoch) {
            let mut values: Vec<f64> = epoch.iter().filter_map(|row| Some(point(row)?.1)).collect();
            let x = (epoch[0].epoch + 1) as f64;
            if values.is_empty() {
                continue;
            }
            values.sort_by(f64::total_cmp);
            if seeds > MAX_LINES {
                band.push((x, quantile(&values, BAND[0]), quantile(&values, BAND[1])));
            }
            // A mean over the last few seeds would jump whenever one stops.
            if 2 * values.len() >= seeds {
                mean.push((x, values.iter().sum::<f64>() / values.len() as f64));
            }
        }
        let per_column = band.len().div_ceil(COLUMNS).max(1);
        let band = band.chunks(per_column).map(|chunk| {
            let ends = chunk.iter().fold((f64::MAX, f64::MIN), |(low, high), b| (low.min(b.1), high.max(b.2)));
            (chunk[chunk.len() / 2].0, ends.0, ends.1)
        });
        // For one seed the mean is its line.
        lines.truncate(if (2..=MAX_LINES).contains(&seeds) { seeds } else { 0 });
        lines.iter_mut().for_each(|line| *line = thinned(line));
        let best = best.into_iter().flatten().collect();
        Curves { name, colour, lines, band: band.collect(), mean: thinned(&mean), best }
    }
}

/// At most two points per column of the picture: the minimum and the maximum, so that no peak is lost.
fn thinned(line: &[Point]) -> Vec<Point> {
    if line.len() <= 2 * COLUMNS {
        return line.to_vec();
    }
    let extremes = |chunk: &[Point]| {
        let order = |a: &&Point, b: &&Point| a.1.total_cmp(&b.1);
        let mut ends: Vec<Point> =
            chunk.iter().min_by(order).into_iter().chain(chunk.iter().max_by(order)).copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends
    };
    line.chunks(line.len().div_ceil(COLUMNS)).flat_map(extremes).collect()
}

fn heading(width: i32) -> i32 {
    if is_narrow(width) { TALL_HEADING } else { HEADING }
}

impl Figure for LearningCurves {
    fn title(&self) -> &str {
        &self.title
    }

    fn height(&self, width: i32) -> i32 {
        let lines = if is_narrow(width) { self.panels.len() as i32 } else { 1 };
        TOP + lines * (heading(width) + PANEL + X_AXIS) + 12
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, width: i32) -> Drawn<DB> {
        let margin = margin(width);
        let columns = if is_narrow(width) { 1 } else { self.panels.len() as i32 };
        let each = (width - 2 * margin - GAP * (columns - 1)) / columns;
        for (i, panel) in self.panels.iter().enumerate() {
            let (column, line) = if is_narrow(width) { (0, i as i32) } else { (i as i32, 0) };
            let left = margin + column * (each + GAP);
            let top = TOP + line * (heading(width) + PANEL + X_AXIS);
            self.panel(area, panel, [left + Y_AXIS, left + each], top, width)?;
        }
        Ok(())
    }
}
