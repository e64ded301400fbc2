//! Horizontal box plots with their points, as in fig. 2 of Gururani, Sharma and Lerch, "An attention mechanism for
//! musical instrument recognition" (ISMIR 2019).

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::metrics::scores::quantile;
use crate::report::plots::figure::{Drawn, FAINT_INK, INK, text, text_width};

/// Maximum number of values with a point each; beyond it only outliers have one.
const MAX_POINTS: usize = 100;
const SMALL: f64 = 11.0;

pub(crate) struct BoxPlot<'a> {
    /// Ascending.
    pub values: &'a [f64],
    pub colour: RGBColor,
    /// Half the height of the box and of the points' spread.
    pub half: i32,
}

impl BoxPlot<'_> {
    /// Draws quartiles, median, whiskers to 1.5 times the box, and points around the line `y`; one value is a point.
    pub fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, x: impl Fn(f64) -> i32, y: i32) -> Drawn<DB> {
        let BoxPlot { values: v, colour, half } = *self;
        let mut shown: Vec<f64> = v.to_vec();
        if v.len() > 1 {
            let [q1, median, q3] = [0.25, 0.5, 0.75].map(|q| quantile(v, q));
            let reach = 1.5 * (q3 - q1);
            let inside = |value: &&f64| (q1 - reach..=q3 + reach).contains(*value);
            let low = v.iter().find(inside).unwrap_or(&q1).min(q1);
            let high = v.iter().rev().find(inside).unwrap_or(&q3).max(q3);
            let whisker = [low, high];
            for (from, to) in [(whisker[0], q1), (q3, whisker[1])] {
                area.draw(&PathElement::new(vec![(x(from), y), (x(to), y)], colour.stroke_width(1)))?;
            }
            for end in whisker {
                area.draw(&PathElement::new(vec![(x(end), y - half / 2), (x(end), y + half / 2)], colour))?;
            }
            let corners = [(x(q1), y - half), (x(q3), y + half)];
            area.draw(&Rectangle::new(corners, WHITE.filled()))?;
            area.draw(&Rectangle::new(corners, colour.mix(0.2).filled()))?;
            area.draw(&Rectangle::new(corners, colour.stroke_width(1)))?;
            area.draw(&Rectangle::new([(x(median) - 1, y - half), (x(median) + 1, y + half)], colour.filled()))?;
            if v.len() > MAX_POINTS {
                shown.retain(|value| !inside(&value));
            }
        }
        for (i, value) in shown.iter().enumerate() {
            // Steps of the golden ratio keep neighbours at different heights.
            let turn = if v.len() > 1 { (i as f64 * 0.618_034).fract() - 0.5 } else { 0.0 };
            let at = (x(*value), y + (turn * f64::from(2 * half - 8)).round() as i32);
            area.draw(&Circle::new(at, 4, WHITE.filled()))?;
            area.draw(&Circle::new(at, 3, INK.mix(0.75).filled()))?;
        }
        Ok(())
    }
}

/// The entries of a legend.
pub fn legend(seeds: usize) -> Vec<&'static str> {
    let point = if seeds > MAX_POINTS { "a seed outside the whiskers" } else { "a seed" };
    if seeds == 1 { vec![point] } else { vec![point, "quartiles and median; whiskers to 1.5 times the box"] }
}

/// Width of a mark of the legend, with the space after it, and of the space after an entry.
pub(crate) const MARK: i32 = 25;
const AFTER: i32 = 24;

/// Width of an entry of a legend.
pub(crate) fn entry_width(label: &str) -> i32 {
    MARK + text_width(label, SMALL) as i32 + AFTER
}

/// Draws the entry `i` of the legend with its mark at `at`.
pub(crate) fn draw_entry<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    (x, y): (i32, i32),
    (i, label): (usize, &str),
    colour: RGBColor,
) -> Drawn<DB> {
    if i == 0 {
        area.draw(&Circle::new((x + MARK - 10, y), 3, INK.mix(0.75).filled()))?;
    } else {
        area.draw(&Rectangle::new([(x, y - 5), (x + 18, y + 5)], colour.mix(0.2).filled()))?;
        area.draw(&Rectangle::new([(x, y - 5), (x + 18, y + 5)], colour.stroke_width(1)))?;
        area.draw(&Rectangle::new([(x + 8, y - 5), (x + 10, y + 5)], colour.filled()))?;
    }
    let style = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(label.to_owned(), (x + MARK, y), style))
}
