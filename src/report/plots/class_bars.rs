//! F1 of each class as a bar, the best first, with the standard deviation over the seeds.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::core::numbers::score;
use crate::core::text::in_words;
use crate::report::plots::axis::Axis;
use crate::report::plots::figure::{
    self, Drawn, FAINT_INK, Figure, GRID, INK, PALETTE, fitted, is_narrow, margin, text, text_width,
};
use crate::report::tables::table::printable;

/// Height of the headings.
const TOP: i32 = 34;
const ROW: i32 = 22;
const BAR: i32 = 14;
const AXIS: i32 = 34;
/// Margin for the score, its deviation, and the clips; without the clips on a narrow screen.
const FIGURES: i32 = 224;
const FEW_FIGURES: i32 = 98;
const LABEL: f64 = 13.0;
const SMALL: f64 = 11.0;
/// Maximum number of classes in a readable figure; the page's table has them all.
const MAX_CLASSES: usize = 400;

/// A class with its mean F1 over the seeds.
pub(crate) struct ClassBar<'a> {
    pub name: &'a str,
    /// `None` without labelled clips.
    pub f1: Option<f64>,
    /// Standard deviation over the seeds; `None` for one.
    pub std: Option<f64>,
    pub positives: u64,
    pub observed: u64,
}

pub(crate) struct ClassBars<'a> {
    title: String,
    classes: Vec<ClassBar<'a>>,
    /// Name of the F1.
    metric: &'static str,
    /// Over all classes.
    mean: Option<f64>,
    axis: Axis,
    /// Width of the column of names.
    labels: i32,
}

impl<'a> ClassBars<'a> {
    /// Classes in any order with their `metric`, an F1, and the mean of it.
    pub fn new(title: &str, metric: &'static str, mut classes: Vec<ClassBar<'a>>, mean: Option<f64>) -> ClassBars<'a> {
        classes.sort_by(|a, b| b.f1.unwrap_or(-1.0).total_cmp(&a.f1.unwrap_or(-1.0)));
        let total = classes.len();
        classes.truncate(MAX_CLASSES);
        let cut = if total > MAX_CLASSES { format!(" (best {MAX_CLASSES} of {total})") } else { String::new() };
        let widest = classes.iter().map(|c| text_width(&printable(&in_words(c.name)), LABEL)).fold(44.0, f64::max);
        let labels = widest.ceil() as i32 + 12;
        ClassBars { title: format!("{title}{cut}"), classes, metric, mean, axis: Axis::between(0.0, 1.0, 6), labels }
    }

    /// Writes a PNG, atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        figure::save(self, path)
    }

    /// Width of the column of names.
    fn labels(&self, width: i32) -> i32 {
        self.labels.min(if is_narrow(width) { 112 } else { 252 })
    }

    fn x(&self, value: f64, width: i32) -> i32 {
        let left = margin(width) + self.labels(width);
        let figures = if is_narrow(width) { FEW_FIGURES } else { FIGURES };
        left + (self.axis.at(value) * f64::from(width - margin(width) - figures - left)).round() as i32
    }

    fn bar<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        class: &ClassBar,
        top: i32,
        width: i32,
    ) -> Drawn<DB> {
        let x = |value| self.x(value, width);
        let (left, right, middle) = (x(0.0), x(1.0), top + BAR / 2);
        let at = |h| Pos::new(h, VPos::Center);
        let name = fitted(&printable(&in_words(class.name)), LABEL, f64::from(self.labels(width) - 12));
        area.draw(&Text::new(name, (left - 10, middle), text(LABEL, INK).pos(at(HPos::Right))))?;
        let faint = |h| text(SMALL, FAINT_INK).pos(at(h));
        let Some(f1) = class.f1 else {
            return area.draw(&Text::new("no labels", (left + 8, middle), faint(HPos::Left)));
        };
        let end = x(f1).max(left + 1);
        area.draw(&Rectangle::new([(left, top), (end, top + BAR - 1)], PALETTE[4].filled()))?;
        if let Some(std) = class.std {
            error_bar(area, [x(f1 - std), x(f1 + std)], middle, 3)?;
        }
        area.draw(&Text::new(score(Some(f1)), (right + 16, middle), text(LABEL, INK).pos(at(HPos::Left))))?;
        if class.std.is_some() {
            let std = format!("± {}", score(class.std));
            area.draw(&Text::new(std, (right + 56, middle), faint(HPos::Left)))?;
        }
        if is_narrow(width) {
            return Ok(());
        }
        let clips = format!("{} / {}", class.positives, class.observed - class.positives.min(class.observed));
        area.draw(&Text::new(clips, (width - margin(width), middle), faint(HPos::Right)))
    }
}

/// A horizontal error bar at `y`, with ends of half height `half`.
pub(crate) fn error_bar<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    ends: [i32; 2],
    y: i32,
    half: i32,
) -> Drawn<DB> {
    area.draw(&PathElement::new(ends.map(|x| (x, y)).to_vec(), INK))?;
    ends.iter().try_for_each(|&x| area.draw(&PathElement::new(vec![(x, y - half), (x, y + half)], INK)))
}

impl Figure for ClassBars<'_> {
    fn title(&self) -> &str {
        &self.title
    }

    fn height(&self, _: i32) -> i32 {
        TOP + self.classes.len() as i32 * ROW + AXIS + 8
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, width: i32) -> Drawn<DB> {
        let small = |h, v| text(SMALL, FAINT_INK).pos(Pos::new(h, v));
        let x = |value| self.x(value, width);
        let bottom = TOP + self.classes.len() as i32 * ROW;
        for (value, name) in &self.axis.ticks {
            let x = x(*value);
            area.draw(&PathElement::new(vec![(x, TOP - 6), (x, bottom)], GRID))?;
            area.draw(&Text::new(name.clone(), (x, bottom + 8), small(HPos::Center, VPos::Top)))?;
        }
        let heading = TOP - 17;
        area.draw(&Text::new(self.metric, (x(1.0) + 16, heading), small(HPos::Left, VPos::Center)))?;
        if !is_narrow(width) {
            let right = (width - margin(width), heading);
            area.draw(&Text::new("clips with / without", right, small(HPos::Right, VPos::Center)))?;
        }
        for (i, class) in self.classes.iter().enumerate() {
            self.bar(area, class, TOP + i as i32 * ROW + (ROW - BAR) / 2, width)?;
        }
        if let Some(mean) = self.mean {
            let at = x(mean);
            area.draw(&PathElement::new(vec![(at, TOP - 6), (at, bottom)], PALETTE[5]))?;
            let name = format!("mean {}", score(Some(mean)));
            // Where it would run into the heading of the scores it ends at its line.
            let anchor = if x(1.0) - at < 36 { HPos::Right } else { HPos::Center };
            area.draw(&Text::new(name, (at, heading), text(SMALL, PALETTE[5]).pos(Pos::new(anchor, VPos::Center))))?;
        }
        area.draw(&PathElement::new(vec![(x(0.0), TOP - 6), (x(0.0), bottom)], FAINT_INK))
    }
}
