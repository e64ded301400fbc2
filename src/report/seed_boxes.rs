//! The spread of scores over the seeds as box plots, as in fig. 2 of Gururani, Sharma and Lerch, "An attention mechanism for
//! musical instrument recognition" (ISMIR 2019), lying.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::numbers::score;
use super::plot::{self, Drawn, FAINT_INK, Figure, GRID, INK, PALETTE, fitted, text, text_width};
use crate::Result;
use crate::train::{Evaluation, Scores};

const WIDTH: i32 = 1080;
const MARGIN: i32 = 30;
const TITLE: i32 = 50;
const LEGEND: i32 = 30;
const ROW: i32 = 58;
/// Half the height of a box, and of the cloud of points.
const HALF: i32 = 14;
const AXIS: i32 = 34;
const LABELS: i32 = 86;
const FIGURES: i32 = 110;
const LABEL: f64 = 13.0;
const SMALL: f64 = 11.0;
const BOX: RGBColor = PALETTE[0];
const ENSEMBLE: RGBColor = PALETTE[5];
/// Seeds up to which each has a point; of more only the outliers.
const MAX_POINTS: usize = 100;

/// Name and value.
type Metric = (&'static str, fn(&Scores) -> Option<f64>);

pub struct SeedBoxes {
    title: String,
    seeds: usize,
    rows: Vec<Row>,
    /// `None` when no score is defined.
    axis: Option<Axis>,
}

struct Row {
    name: &'static str,
    /// Ascending.
    values: Vec<f64>,
    figures: [Option<f64>; 2],
    /// Of several seeds.
    ensemble: Option<f64>,
}

impl SeedBoxes {
    pub fn new(title: &str, e: &Evaluation) -> SeedBoxes {
        let metrics: [Metric; 5] = [
            ("map", |s| s.map),
            ("f1_pn", |s| s.f1_pn),
            ("f1_pos", |s| s.f1_pos),
            ("precision", |s| s.precision),
            ("recall", |s| s.recall),
        ];
        let seeds = e.per_seed.len();
        let rows: Vec<Row> = metrics
            .into_iter()
            .map(|(name, of)| {
                let mut values: Vec<f64> = e.per_seed.iter().filter_map(|s| of(&s.scores)).collect();
                values.sort_by(f64::total_cmp);
                let ensemble = of(&e.ensemble).filter(|_| seeds > 1);
                Row { name, values, figures: [of(&e.mean), of(&e.std)], ensemble }
            })
            .collect();
        let all = rows.iter().flat_map(|row| row.values.iter().copied().chain(row.ensemble));
        let (low, high) = all.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        // Not so near that a spread of nothing looks like one.
        let pad = (0.05 - (high - low)).max(0.0) / 2.0;
        let axis = (low <= high).then(|| Axis::around((low - pad).max(0.0), (high + pad).min(1.0), 9));
        SeedBoxes { title: title.into(), seeds, rows, axis }
    }

    /// Writes a PNG, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        plot::save(self, path)
    }

    fn row<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, row: &Row, axis: &Axis, y: i32) -> Drawn<DB> {
        let (left, right) = span();
        let x = |value: f64| left + (axis.at(value) * f64::from(right - left)).round() as i32;
        let v = &row.values;
        let mut shown: Vec<f64> = v.clone();
        if v.len() > 1 {
            let [q1, median, q3] = [0.25, 0.5, 0.75].map(|q| quantile(v, q));
            let reach = 1.5 * (q3 - q1);
            let inside = |value: &&f64| (q1 - reach..=q3 + reach).contains(*value);
            let low = v.iter().find(inside).unwrap_or(&q1).min(q1);
            let high = v.iter().rev().find(inside).unwrap_or(&q3).max(q3);
            let whisker = [low, high];
            for (from, to) in [(whisker[0], q1), (q3, whisker[1])] {
                area.draw(&PathElement::new(vec![(x(from), y), (x(to), y)], BOX.stroke_width(1)))?;
            }
            for end in whisker {
                area.draw(&PathElement::new(vec![(x(end), y - HALF / 2), (x(end), y + HALF / 2)], BOX))?;
            }
            let corners = [(x(q1), y - HALF), (x(q3), y + HALF)];
            area.draw(&Rectangle::new(corners, WHITE.filled()))?;
            area.draw(&Rectangle::new(corners, BOX.mix(0.2).filled()))?;
            area.draw(&Rectangle::new(corners, BOX.stroke_width(1)))?;
            area.draw(&Rectangle::new([(x(median) - 1, y - HALF), (x(median) + 1, y + HALF)], BOX.filled()))?;
            if v.len() > MAX_POINTS {
                shown.retain(|value| !inside(&value));
            }
        }
        for (i, value) in shown.iter().enumerate() {
            // Steps of the golden ratio leave no two neighbours at one height.
            let turn = if v.len() > 1 { (i as f64 * 0.618_034).fract() - 0.5 } else { 0.0 };
            let at = (x(*value), y + (turn * f64::from(2 * HALF - 8)).round() as i32);
            area.draw(&Circle::new(at, 4, WHITE.filled()))?;
            area.draw(&Circle::new(at, 3, INK.mix(0.75).filled()))?;
        }
        match row.ensemble.map(x) {
            Some(at) => diamond(area, (at, y)),
            None => Ok(()),
        }
    }

    fn legend<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, y: i32) -> Drawn<DB> {
        let style = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Left, VPos::Center));
        let mut x = span().0;
        let say = |words: &str, x: &mut i32| {
            let drawn = area.draw(&Text::new(words.to_owned(), (*x, y), style.clone()));
            *x += text_width(words, SMALL) as i32 + 24;
            drawn
        };
        area.draw(&Circle::new((x + 3, y), 3, INK.mix(0.75).filled()))?;
        x += 12;
        say(if self.seeds > MAX_POINTS { "a seed outside the whiskers" } else { "a seed" }, &mut x)?;
        if self.seeds == 1 {
            return Ok(());
        }
        area.draw(&Rectangle::new([(x, y - 5), (x + 18, y + 5)], BOX.mix(0.2).filled()))?;
        area.draw(&Rectangle::new([(x, y - 5), (x + 18, y + 5)], BOX.stroke_width(1)))?;
        area.draw(&Rectangle::new([(x + 8, y - 5), (x + 10, y + 5)], BOX.filled()))?;
        x += 25;
        say("quartiles and median; whiskers to 1.5 times the box", &mut x)?;
        diamond(area, (x + 5, y))?;
        x += 16;
        say("all seeds as an ensemble", &mut x)
    }
}

fn diamond<DB: DrawingBackend>(area: &DrawingArea<DB, Shift>, (x, y): (i32, i32)) -> Drawn<DB> {
    let around = |r: i32| vec![(x - r, y), (x, y - r), (x + r, y), (x, y + r)];
    area.draw(&Polygon::new(around(7), WHITE.filled()))?;
    area.draw(&Polygon::new(around(5), ENSEMBLE.filled()))
}

/// Both ends of the axis.
fn span() -> (i32, i32) {
    (MARGIN + LABELS, WIDTH - MARGIN - FIGURES)
}

impl Figure for SeedBoxes {
    fn size(&self) -> (u32, u32) {
        (WIDTH as u32, (TITLE + LEGEND + self.rows.len() as i32 * ROW + AXIS + 10) as u32)
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        let title = fitted(&self.title, 18.0, f64::from(WIDTH - 2 * MARGIN));
        area.draw(&Text::new(title, (MARGIN, 18), text(18.0, INK)))?;
        self.legend(area, TITLE + LEGEND / 2 - 4)?;
        let (left, right) = span();
        let (top, bottom) = (TITLE + LEGEND, TITLE + LEGEND + self.rows.len() as i32 * ROW);
        for (value, name) in self.axis.iter().flat_map(|axis| &axis.ticks) {
            let at = self.axis.as_ref().map_or(0.0, |axis| axis.at(*value));
            let x = left + (at * f64::from(right - left)).round() as i32;
            area.draw(&PathElement::new(vec![(x, top), (x, bottom)], GRID))?;
            let style = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Center, VPos::Top));
            area.draw(&Text::new(name.clone(), (x, bottom + 8), style))?;
        }
        for (i, row) in self.rows.iter().enumerate() {
            let y = top + i as i32 * ROW + ROW / 2;
            let at = |h| Pos::new(h, VPos::Center);
            area.draw(&Text::new(row.name, (left - 14, y), text(LABEL, INK).pos(at(HPos::Right))))?;
            let faint = text(SMALL, FAINT_INK).pos(at(HPos::Left));
            let [mean, std] = row.figures;
            match &self.axis {
                Some(axis) if mean.is_some() => self.row(area, row, axis, y)?,
                _ => area.draw(&Text::new("no labels", (left + 6, y), faint.clone()))?,
            }
            area.draw(&Text::new(score(mean), (right + 16, y), text(LABEL, INK).pos(at(HPos::Left))))?;
            if std.is_some() {
                let after = right + 22 + text_width(&score(mean), LABEL) as i32;
                area.draw(&Text::new(format!("± {}", score(std)), (after, y), faint))?;
            }
        }
        Ok(())
    }
}

/// The `q`-quantile (0 to 1) of ascending `values`, between two of them where it falls there. Panics without values.
pub(super) fn quantile(values: &[f64], q: f64) -> f64 {
    let at = q * (values.len() - 1) as f64;
    let (below, above) = (values[at.floor() as usize], values[at.ceil() as usize]);
    below + (above - below) * at.fract()
}
