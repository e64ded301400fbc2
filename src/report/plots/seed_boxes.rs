//! The spread of scores over the seeds as box plots, as in fig. 2 of Gururani, Sharma and Lerch, "An attention
//! mechanism for musical instrument recognition" (ISMIR 2019), but horizontal.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::metrics::evaluation::Evaluation;
use crate::metrics::scores::Metric;
use crate::report::numbers::score;
use crate::report::plots::axis::Axis;
use crate::report::plots::box_plot::{self, BoxPlot};
use crate::report::plots::figure::{self, Drawn, FAINT_INK, Figure, GRID, INK, PALETTE, fitted, text, text_width};

const WIDTH: i32 = 1080;
const MARGIN: i32 = 30;
const TITLE: i32 = 50;
const LEGEND: i32 = 30;
const ROW: i32 = 58;
/// Half the height of a box.
const HALF: i32 = 14;
const AXIS: i32 = 34;
const LABELS: i32 = 86;
const FIGURES: i32 = 110;
const LABEL: f64 = 13.0;
const SMALL: f64 = 11.0;
/// Number of metrics shown.
const SHOWN: usize = 5;
const BOX: RGBColor = PALETTE[0];
const ENSEMBLE: RGBColor = PALETTE[5];

pub struct SeedBoxes {
    title: String,
    seeds: usize,
    rows: Vec<Row>,
    /// `None` if no score is defined.
    axis: Option<Axis>,
}

struct Row {
    name: &'static str,
    /// Ascending.
    values: Vec<f64>,
    figures: [Option<f64>; 2],
    /// Score of the ensemble, for several seeds.
    ensemble: Option<f64>,
}

impl SeedBoxes {
    pub fn new(title: &str, e: &Evaluation) -> SeedBoxes {
        let seeds = e.per_seed.len();
        let rows: Vec<Row> = e.subject.task().metrics()[..SHOWN]
            .iter()
            .map(|Metric { name, of, .. }| {
                let mut values: Vec<f64> = e.per_seed.iter().filter_map(|s| of(&s.scores)).collect();
                values.sort_by(f64::total_cmp);
                let ensemble = of(&e.ensemble).filter(|_| seeds > 1);
                Row { name, values, figures: [of(&e.mean), of(&e.std)], ensemble }
            })
            .collect();
        let all = rows.iter().flat_map(|row| row.values.iter().copied().chain(row.ensemble));
        let axis = Axis::of_scores(all, 9);
        SeedBoxes { title: title.into(), seeds, rows, axis }
    }

    /// Writes a PNG, atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        figure::save(self, path)
    }

    fn row<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, row: &Row, axis: &Axis, y: i32) -> Drawn<DB> {
        let (left, right) = span();
        let x = |value: f64| left + (axis.at(value) * f64::from(right - left)).round() as i32;
        BoxPlot { values: &row.values, colour: BOX, half: HALF }.draw(area, x, y)?;
        match row.ensemble.map(x) {
            Some(at) => diamond(area, (at, y)),
            None => Ok(()),
        }
    }

    fn legend<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, y: i32) -> Drawn<DB> {
        let style = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Left, VPos::Center));
        let mut x = box_plot::legend(area, (span().0, y), self.seeds, BOX)?;
        if self.seeds == 1 {
            return Ok(());
        }
        diamond(area, (x + 5, y))?;
        x += 16;
        area.draw(&Text::new("ensemble of all seeds", (x, y), style))
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
