//! The spread of scores over the seeds as box plots, as in fig. 2 of Gururani, Sharma and Lerch, "An attention
//! mechanism for musical instrument recognition" (ISMIR 2019), but horizontal.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::core::numbers::score;
use crate::metrics::evaluation::Evaluation;
use crate::metrics::scores::Metric;
use crate::report::plots::axis::Axis;
use crate::report::plots::box_plot::{self, BoxPlot};
use crate::report::plots::figure::{
    self, Drawn, FAINT_INK, Figure, GRID, INK, PALETTE, flow, is_narrow, margin, text, text_width,
};

const TOP: i32 = 6;
/// Height of a line of the legend.
const LEGEND: i32 = 22;
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

pub(crate) struct SeedBoxes {
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

    fn row<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        row: &Row,
        axis: &Axis,
        y: i32,
        [left, right]: [i32; 2],
    ) -> Drawn<DB> {
        let x = |value: f64| left + (axis.at(value) * f64::from(right - left)).round() as i32;
        BoxPlot { values: &row.values, colour: BOX, half: HALF }.draw(area, x, y)?;
        match row.ensemble.map(x) {
            Some(at) => diamond(area, (at, y)),
            None => Ok(()),
        }
    }

    /// Entries of the legend and their positions: x and the line.
    fn legend(&self, width: i32) -> Vec<(&'static str, (i32, i32))> {
        let mut labels = box_plot::legend(self.seeds);
        labels.extend((self.seeds > 1).then_some("ensemble of all seeds"));
        let left = if is_narrow(width) { margin(width) } else { span(width)[0] };
        let places = flow(labels.iter().map(|label| box_plot::entry_width(label)), [left, width - margin(width)]);
        labels.into_iter().zip(places).collect()
    }

    /// Above the boxes.
    fn top(&self, width: i32) -> i32 {
        TOP + (self.legend(width).last().map_or(0, |entry| entry.1.1) + 1) * LEGEND + 8
    }
}

fn diamond<DB: DrawingBackend>(area: &DrawingArea<DB, Shift>, (x, y): (i32, i32)) -> Drawn<DB> {
    let around = |r: i32| vec![(x - r, y), (x, y - r), (x + r, y), (x, y + r)];
    area.draw(&Polygon::new(around(7), WHITE.filled()))?;
    area.draw(&Polygon::new(around(5), ENSEMBLE.filled()))
}

/// Both ends of the axis.
fn span(width: i32) -> [i32; 2] {
    let (labels, figures) = if is_narrow(width) { (78, 92) } else { (LABELS, FIGURES) };
    [margin(width) + labels, width - margin(width) - figures]
}

impl Figure for SeedBoxes {
    fn title(&self) -> &str {
        &self.title
    }

    fn height(&self, width: i32) -> i32 {
        self.top(width) + self.rows.len() as i32 * ROW + AXIS + 10
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, width: i32) -> Drawn<DB> {
        for (i, (label, (x, line))) in self.legend(width).into_iter().enumerate() {
            let y = TOP + line * LEGEND + LEGEND / 2;
            if i < 2 {
                box_plot::draw_entry(area, (x, y), (i, label), BOX)?;
            } else {
                diamond(area, (x + box_plot::MARK - 12, y))?;
                let style = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Left, VPos::Center));
                area.draw(&Text::new(label, (x + box_plot::MARK, y), style))?;
            }
        }
        let [left, right] = span(width);
        let top = self.top(width);
        let bottom = top + self.rows.len() as i32 * ROW;
        let every = if is_narrow(width) { 2 } else { 1 };
        for (value, name) in self.axis.iter().flat_map(|axis| &axis.ticks).step_by(every) {
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
                Some(axis) if mean.is_some() => self.row(area, row, axis, y, [left, right])?,
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
