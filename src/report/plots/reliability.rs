//! Reliability diagram: how often classes are present for each predicted probability, before and after calibration.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::metrics::calibration::{Bin, Reliability};
use crate::report::numbers::score;
use crate::report::plots::axis::Axis;
use crate::report::plots::figure::{self, Drawn, FAINT_INK, Figure, GRID, INK, PALETTE, text};

const WIDTH: i32 = 1080;
const MARGIN: i32 = 30;
const TITLE: i32 = 78;
const PANEL: i32 = 300;
/// Bars of the numbers of clips below the diagram.
const COUNTS: i32 = 60;
const GAP: i32 = 14;
const X_AXIS: i32 = 50;
const Y_AXIS: i32 = 44;
const SMALL: f64 = 11.0;
const COLOURS: [RGBColor; 2] = [PALETTE[5], PALETTE[0]];

pub struct ReliabilityDiagram<'a> {
    title: String,
    reliability: &'a Reliability,
    axis: Axis,
}

impl<'a> ReliabilityDiagram<'a> {
    pub fn new(title: &str, reliability: &'a Reliability) -> ReliabilityDiagram<'a> {
        ReliabilityDiagram { title: title.into(), reliability, axis: Axis::between(0.0, 1.0, 6) }
    }

    /// Writes a PNG, atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        figure::save(self, path)
    }

    fn x(&self, value: f64) -> i32 {
        let left = MARGIN + Y_AXIS;
        left + (self.axis.at(value) * f64::from(WIDTH - MARGIN - left)).round() as i32
    }

    fn y(&self, value: f64) -> i32 {
        TITLE + PANEL - (self.axis.at(value) * f64::from(PANEL)).round() as i32
    }
}

impl Figure for ReliabilityDiagram<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH as u32, (TITLE + PANEL + GAP + COUNTS + X_AXIS) as u32)
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        let small = |h, v| text(SMALL, FAINT_INK).pos(Pos::new(h, v));
        area.draw(&Text::new(self.title.as_str(), (MARGIN, 18), text(18.0, INK)))?;
        let r = self.reliability;
        let series = [("before calibration", &r.before, r.error_before), ("after", &r.after, r.error_after)];
        let mut left = MARGIN;
        for ((name, _, error), colour) in series.iter().zip(COLOURS) {
            let label = format!("{name}, expected error {}", score(Some(*error)));
            area.draw(&PathElement::new(vec![(left, 56), (left + 18, 56)], colour.stroke_width(2)))?;
            area.draw(&Text::new(label.clone(), (left + 24, 56), small(HPos::Left, VPos::Center)))?;
            left += figure::text_width(&label, SMALL) as i32 + 60;
        }
        let bottom = TITLE + PANEL + GAP + COUNTS;
        for (value, name) in &self.axis.ticks {
            let (x, y) = (self.x(*value), self.y(*value));
            area.draw(&PathElement::new(vec![(self.x(0.0), y), (self.x(1.0), y)], GRID))?;
            area.draw(&Text::new(name.clone(), (self.x(0.0) - 8, y), small(HPos::Right, VPos::Center)))?;
            area.draw(&Text::new(name.clone(), (x, bottom + 8), small(HPos::Center, VPos::Top)))?;
        }
        let label = "predicted probability; above: fraction of the labels that are present, below: number of labels";
        area.draw(&Text::new(label, ((self.x(0.0) + self.x(1.0)) / 2, bottom + 26), small(HPos::Center, VPos::Top)))?;
        let diagonal = vec![(self.x(0.0), self.y(0.0)), (self.x(1.0), self.y(1.0))];
        area.draw(&PathElement::new(diagonal, FAINT_INK))?;
        let most = r.before.iter().chain(&r.after).map(|bin| bin.count).max().unwrap_or(0).max(1);
        for (i, ((_, bins, _), colour)) in series.iter().zip(COLOURS).enumerate() {
            let filled = || bins.iter().filter(|bin| bin.count > 0);
            let point = |bin: &Bin| (self.x(bin.probability), self.y(bin.present));
            area.draw(&PathElement::new(filled().map(point).collect::<Vec<_>>(), colour.stroke_width(2)))?;
            for bin in filled() {
                area.draw(&Circle::new(point(bin), 4, colour.filled()))?;
            }
            // Two bars side by side in each bin.
            let half = 0.4 / bins.len() as f64;
            for (k, bin) in bins.iter().enumerate() {
                let start = (k as f64 + 0.1) / bins.len() as f64 + i as f64 * half;
                let height = (bin.count as f64 / most as f64 * f64::from(COUNTS)).round() as i32;
                let bar = [(self.x(start), bottom - height), (self.x(start + half) - 1, bottom)];
                area.draw(&Rectangle::new(bar, colour.mix(0.6).filled()))?;
            }
        }
        area.draw(&PathElement::new(vec![(self.x(0.0), bottom), (self.x(1.0), bottom)], FAINT_INK))
    }
}
