//! Benchmarks of several adapters as grouped bars: time per training step, and fraction of the measured peak per op.

use std::collections::BTreeSet;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::bench::comparison::{Comparison, OpRow, StepRow};
use crate::bench::results::fastest;
use crate::core::numbers::{duration, percent};
use crate::report::plots::axis::Axis;
use crate::report::plots::figure::{
    self, Drawn, FAINT_INK, Figure, GRID, INK, PALETTE, WIDE, fitted, text, text_width,
};

const MARGIN: i32 = 28;
/// Margin right of the axis for the values at the ends of the bars.
const FIGURES: i32 = 84;
const BAR: i32 = 13;
const GROUP_GAP: i32 = 12;
const HEADING: i32 = 52;
const AXIS: i32 = 34;
const LEGEND_LINE: i32 = 22;
const LABEL: f64 = 13.0;
const SMALL: f64 = 11.0;
/// Most groups of a readable plot; the table has all.
const MAX_GROUPS: usize = 60;

impl Comparison {
    /// Draws the comparison into `path`, PNG or SVG by its extension.
    pub fn plot(&self, path: &Path) -> Result<()> {
        figure::save(&ComparisonFigure::new(self), path)
    }
}

struct ComparisonFigure<'a> {
    adapters: &'a [String],
    panels: Vec<Panel>,
    /// Width of the column of group labels.
    labels: i32,
    /// Legend of the peers' marks, if there are any.
    peer: Option<String>,
}

struct Panel {
    title: String,
    axis: Axis,
    groups: Vec<Group>,
}

struct Group {
    label: String,
    /// One per adapter that has it: adapter, value, its text, and the peer's value.
    bars: Vec<(usize, f64, String, Option<f64>)>,
}

impl Panel {
    fn new(title: &str, axis: fn(&[f64]) -> Axis, mut groups: Vec<Group>) -> Option<Panel> {
        groups.retain(|g| !g.bars.is_empty());
        let total = groups.len();
        groups.truncate(MAX_GROUPS);
        let values: Vec<f64> = groups.iter().flat_map(|g| &g.bars).flat_map(|b| [Some(b.1), b.3]).flatten().collect();
        let cut = if total > MAX_GROUPS { format!(" (first {MAX_GROUPS} of {total})") } else { String::new() };
        (total > 0).then(|| Panel { title: format!("{title}{cut}"), axis: axis(&values), groups })
    }

    fn height(&self) -> i32 {
        HEADING + self.groups.iter().map(|g| g.bars.len() as i32 * BAR + GROUP_GAP).sum::<i32>() + AXIS
    }
}

impl<'a> ComparisonFigure<'a> {
    fn new(c: &'a Comparison) -> Self {
        let step_group = |row: &StepRow| Group {
            label: row.label(),
            bars: (0..c.adapters.len())
                .filter_map(|i| {
                    let seconds = row.ms[i]? / 1e3;
                    Some((i, seconds, duration(seconds), fastest(&row.peers[i]).map(|p| p.ms_per_step / 1e3)))
                })
                .collect(),
        };
        let op_group = |row: &OpRow| Group {
            label: row.op.clone(),
            bars: (0..c.adapters.len())
                .filter_map(|i| row.share_of_peak[i].map(|s| (i, s, percent(s), None)))
                .collect(),
        };
        let steps = c.steps.iter().map(step_group).collect();
        let ops = c.ops.iter().map(op_group).collect();
        let panels: Vec<Panel> = [
            Panel::new("Time per training step, log scale (shorter is better)", Axis::log_seconds, steps),
            Panel::new(
                "Kernels: share of the measured peak, geometric mean per op (longer is better)",
                Axis::percent,
                ops,
            ),
        ]
        .into_iter()
        .flatten()
        .collect();
        let groups = || panels.iter().flat_map(|p| &p.groups);
        let widest = groups().map(|g| text_width(&g.label, LABEL)).fold(0.0, f64::max);
        let peers = c.steps.iter().flat_map(|s| &s.peers).filter_map(|peers| Some(fastest(peers)?.name.as_str()));
        let peers: BTreeSet<&str> = peers.collect();
        let names = || peers.iter().copied().collect::<Vec<_>>().join(", ");
        let peer = (!peers.is_empty()).then(|| format!("{} on the same machine", names()));
        ComparisonFigure { adapters: &c.adapters, labels: widest.min(260.0).ceil() as i32 + 12, peer, panels }
    }

    fn legend_height(&self) -> i32 {
        (self.adapters.len() as i32 + i32::from(self.peer.is_some())) * LEGEND_LINE
    }

    fn legend<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, mut y: i32) -> Drawn<DB> {
        let left = Pos::new(HPos::Left, VPos::Center);
        for (i, name) in self.adapters.iter().enumerate() {
            area.draw(&Rectangle::new([(MARGIN, y - 6), (MARGIN + 12, y + 6)], colour(i).filled()))?;
            let name = fitted(name, LABEL, f64::from(WIDE - 2 * MARGIN - 22));
            area.draw(&Text::new(name, (MARGIN + 22, y), text(LABEL, INK).pos(left)))?;
            y += LEGEND_LINE;
        }
        if let Some(name) = &self.peer {
            area.draw(&Rectangle::new([(MARGIN + 5, y - 7), (MARGIN + 7, y + 7)], INK.filled()))?;
            let name = fitted(name, LABEL, f64::from(WIDE - 2 * MARGIN - 22));
            area.draw(&Text::new(name, (MARGIN + 22, y), text(LABEL, INK).pos(left)))?;
        }
        Ok(())
    }

    fn panel<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, panel: &Panel, top: i32) -> Drawn<DB> {
        let left = MARGIN + self.labels;
        let x = |value: f64| left + (panel.axis.at(value) * f64::from(WIDE - MARGIN - FIGURES - left)).round() as i32;
        let bars_top = top + HEADING;
        let bottom = top + panel.height() - AXIS;
        area.draw(&Text::new(panel.title.clone(), (MARGIN, top + 20), text(15.0, INK)))?;
        for (value, name) in &panel.axis.ticks {
            let grid = [(x(*value), bars_top - 4), (x(*value), bottom)];
            area.draw(&PathElement::new(grid.to_vec(), GRID))?;
            let centred = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Center, VPos::Top));
            area.draw(&Text::new(name.clone(), (x(*value), bottom + 6), centred))?;
        }
        let mut y = bars_top + GROUP_GAP / 2;
        for group in &panel.groups {
            let middle = y + group.bars.len() as i32 * BAR / 2;
            let right = text(LABEL, INK).pos(Pos::new(HPos::Right, VPos::Center));
            let label = fitted(&group.label, LABEL, f64::from(self.labels - 12));
            area.draw(&Text::new(label, (left - 12, middle), right))?;
            for (adapter, value, figure, peer) in &group.bars {
                let end = x(*value).max(left + 1);
                area.draw(&Rectangle::new([(left, y), (end, y + BAR - 3)], colour(*adapter).filled()))?;
                // The value is right of the peer's mark if they would overlap.
                let (mut figure_x, figure_width) = (end + 6, text_width(figure, SMALL) as i32);
                if let Some(peer) = peer.map(x) {
                    area.draw(&Rectangle::new([(peer - 1, y - 1), (peer + 1, y + BAR - 2)], INK.filled()))?;
                    let struck = end - 2..figure_x + figure_width + 4;
                    figure_x = if struck.contains(&peer) { peer + 7 } else { figure_x };
                }
                // White behind the value, so that no grid line crosses it.
                let behind = [(figure_x - 2, y), (figure_x + figure_width + 2, y + BAR - 2)];
                area.draw(&Rectangle::new(behind, WHITE.filled()))?;
                let style = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Left, VPos::Center));
                area.draw(&Text::new(figure.clone(), (figure_x, y + BAR / 2 - 1), style))?;
                y += BAR;
            }
            y += GROUP_GAP;
        }
        area.draw(&PathElement::new(vec![(left, bars_top - 4), (left, bottom)], FAINT_INK))
    }
}

fn colour(adapter: usize) -> RGBColor {
    PALETTE[adapter % PALETTE.len()]
}

impl Figure for ComparisonFigure<'_> {
    fn title(&self) -> &str {
        "wmic benchmark"
    }

    fn height(&self, _: i32) -> i32 {
        self.legend_height() + self.panels.iter().map(Panel::height).sum::<i32>() + MARGIN + 14
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, _: i32) -> Drawn<DB> {
        let mut y = 22;
        self.legend(area, y)?;
        y += self.legend_height() - 8;
        for panel in &self.panels {
            self.panel(area, panel, y)?;
            y += panel.height();
        }
        Ok(())
    }
}
