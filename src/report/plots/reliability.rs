//! Reliability diagram: how often classes are present for each predicted probability, before and after calibration.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::core::numbers::score;
use crate::metrics::calibration::{Bin, Reliability};
use crate::report::plots::axis::Axis;
use crate::report::plots::figure::{self, Drawn, FAINT_INK, Figure, GRID, PALETTE, flow, is_narrow, margin, text};

const TOP: i32 = 6;
/// Height of a line of the legend.
const LEGEND: i32 = 20;
const PANEL: i32 = 300;
/// Bars of the numbers of clips below the diagram.
const COUNTS: i32 = 60;
const GAP: i32 = 14;
const X_AXIS: i32 = 50;
const Y_AXIS: i32 = 44;
const SMALL: f64 = 11.0;
const COLOURS: [RGBColor; 2] = [PALETTE[5], PALETTE[0]];

pub(crate) struct ReliabilityDiagram<'a> {
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

    fn x(&self, value: f64, width: i32) -> i32 {
        let left = margin(width) + Y_AXIS;
        left + (self.axis.at(value) * f64::from(width - margin(width) - left)).round() as i32
    }

    fn y(&self, value: f64, width: i32) -> i32 {
        self.top(width) + PANEL - (self.axis.at(value) * f64::from(PANEL)).round() as i32
    }

    /// Names, bins and errors of both curves.
    fn series(&self) -> [(String, &'a [Bin]); 2] {
        let r = self.reliability;
        let label = |name: &str, error| format!("{name}, expected error {}", score(Some(error)));
        [(label("before calibration", r.error_before), &r.before), (label("after", r.error_after), &r.after)]
    }

    fn legend(&self, width: i32) -> Vec<(i32, i32)> {
        let widths = self.series().map(|(label, _)| figure::text_width(&label, SMALL) as i32 + 60);
        flow(widths, [margin(width), width])
    }

    /// Above the diagram.
    fn top(&self, width: i32) -> i32 {
        TOP + (self.legend(width)[1].1 + 1) * LEGEND + 12
    }
}

impl Figure for ReliabilityDiagram<'_> {
    fn title(&self) -> &str {
        &self.title
    }

    fn height(&self, width: i32) -> i32 {
        self.top(width) + PANEL + GAP + COUNTS + X_AXIS + if is_narrow(width) { 16 } else { 0 }
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, width: i32) -> Drawn<DB> {
        let (x, y) = (|value| self.x(value, width), |value| self.y(value, width));
        let small = |h, v| text(SMALL, FAINT_INK).pos(Pos::new(h, v));
        let series = self.series();
        for (((label, _), colour), (left, line)) in series.iter().zip(COLOURS).zip(self.legend(width)) {
            let y = TOP + line * LEGEND + LEGEND / 2;
            area.draw(&PathElement::new(vec![(left, y), (left + 18, y)], colour.stroke_width(2)))?;
            area.draw(&Text::new(label.clone(), (left + 24, y), small(HPos::Left, VPos::Center)))?;
        }
        let bottom = self.top(width) + PANEL + GAP + COUNTS;
        for (value, name) in &self.axis.ticks {
            let y = y(*value);
            area.draw(&PathElement::new(vec![(x(0.0), y), (x(1.0), y)], GRID))?;
            area.draw(&Text::new(name.clone(), (x(0.0) - 8, y), small(HPos::Right, VPos::Center)))?;
            area.draw(&Text::new(name.clone(), (x(*value), bottom + 8), small(HPos::Center, VPos::Top)))?;
        }
        let lines: &[&str] = match is_narrow(width) {
            true => &["predicted probability", "above: fraction present, below: number of labels"],
            false => {
                &["predicted probability; above: fraction of the labels that are present, below: number of labels"]
            }
        };
        for (label, y) in lines.iter().zip([26, 42]) {
            let middle = ((x(0.0) + x(1.0)) / 2, bottom + y);
            area.draw(&Text::new(*label, middle, small(HPos::Center, VPos::Top)))?;
        }
        let diagonal = vec![(x(0.0), y(0.0)), (x(1.0), y(1.0))];
        area.draw(&PathElement::new(diagonal, FAINT_INK))?;
        let most = series.iter().flat_map(|(_, bins)| *bins).map(|bin| bin.count).max().unwrap_or(0).max(1);
        for (i, ((_, bins), colour)) in series.iter().zip(COLOURS).enumerate() {
            let filled = || bins.iter().filter(|bin| bin.count > 0);
            let point = |bin: &Bin| (x(bin.probability), y(bin.present));
            area.draw(&PathElement::new(filled().map(point).collect::<Vec<_>>(), colour.stroke_width(2)))?;
            for bin in filled() {
                area.draw(&Circle::new(point(bin), 4, colour.filled()))?;
            }
            // Two bars side by side in each bin.
            let half = 0.4 / bins.len() as f64;
            for (k, bin) in bins.iter().enumerate() {
                let start = (k as f64 + 0.1) / bins.len() as f64 + i as f64 * half;
                let height = (bin.count as f64 / most as f64 * f64::from(COUNTS)).round() as i32;
                let bar = [(x(start), bottom - height), (x(start + half) - 1, bottom)];
                area.draw(&Rectangle::new(bar, colour.mix(0.6).filled()))?;
            }
        }
        area.draw(&PathElement::new(vec![(x(0.0), bottom), (x(1.0), bottom)], FAINT_INK))
    }
}
