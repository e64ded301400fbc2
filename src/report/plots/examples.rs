//! Single-note test clips as model input: for each class one correct and one wrong prediction.

use std::io::{self, Write};
use std::path::Path;

use plotters::coord::Shift;
use plotters::element::BitMapElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::core::array::Array;
use crate::core::text::{capitalised, in_words};
use crate::data::Dataset;
use crate::metrics::scores::predicted_class;
use crate::nn::front_ends::spectrum::{OFFSET, Scale};
use crate::predict::evaluator::SplitPredictions;
use crate::report::pages::html::{Escaped, Image};
use crate::report::plots::figure::{self, Drawn, FAINT_INK, Figure, INK, PALETTE, WIDE, fitted, text, text_width};
use crate::report::plots::hidpi::SCALE;
use crate::report::plots::png::indexed;
use crate::report::plots::spectrogram::{colour_map, hz_ticks, levels, pixels};
use crate::report::tables::table::printable;
use crate::run::config::Notes;

const MARGIN: i32 = 30;
const TOP: i32 = 32;
/// Margin for the frequencies left of the first column.
const HZ: i32 = 40;
const COLUMNS: i32 = 5;
const GAP: i32 = 16;
/// Width and height of a spectrum.
const SPECTRUM: (i32, i32) = ((WIDE - 2 * MARGIN - HZ - (COLUMNS - 1) * GAP) / COLUMNS, 118);
/// Distance between rows of tiles: a spectrum, the class above it, and prediction and clip below.
const ROW: i32 = 20 + SPECTRUM.1 + 54;
const LABEL: f64 = 13.0;
const SMALL: f64 = 11.0;
const RIGHT: RGBColor = PALETTE[0];
const WRONG: RGBColor = PALETTE[5];
/// Minimum distance of two frequencies, as a fraction of the height.
const APART: f64 = 0.2;
/// Maximum number of classes in the figure.
const MAX_CLASSES: usize = 20;

/// Clips in the order of their classes, at most two of each.
pub struct Examples {
    title: String,
    /// Description of the figure.
    about: String,
    tiles: Vec<Tile>,
    /// Position on the frequency axis and name.
    hz: Vec<(f64, String)>,
}

struct Tile {
    class: String,
    /// The predicted class, and its probability.
    predicted: String,
    probability: f64,
    right: bool,
    /// File and second.
    clip: String,
    /// (frames, bins)
    levels: Array<u8>,
}

impl Examples {
    /// `predictions` for `clips` of `data`, in their order; several seeds are averaged.
    ///
    /// For each class up to two clips are shown: the correct prediction with the median probability, a typical one, and
    /// the misclassified clip with the most confident prediction, the most informative one. Among equals, the first.
    pub fn new(data: &Dataset, clips: &[u32], predictions: &SplitPredictions, notes: &Notes) -> Examples {
        let k = data.classes.len();
        let n = predictions.seeds.len() as f64;
        let mean = Array::from_fn([clips.len(), k], |i| {
            predictions.seeds.iter().map(|(p, _)| f64::from(p[i])).sum::<f64>() / n
        });
        let classes: Vec<(usize, Vec<usize>)> = (0..k)
            .map(|class| {
                (class, (0..clips.len()).filter(|&i| predictions.targets.row(i)[class] >= 0.5).collect::<Vec<_>>())
            })
            .filter(|(_, of_class)| !of_class.is_empty())
            .collect();
        let mut tiles = vec![];
        for (class, of_class) in classes.iter().take(MAX_CLASSES) {
            let predicted_class_of = |i: usize| predicted_class(mean.row(i));
            let p = |i: usize| mean.row(i)[predicted_class_of(i)];
            let (mut right, mut wrong): (Vec<usize>, Vec<usize>) =
                of_class.iter().partition(|&&i| predicted_class_of(i) == *class);
            right.sort_by(|&a, &b| p(b).total_cmp(&p(a)));
            wrong.sort_by(|&a, &b| p(b).total_cmp(&p(a)));
            for &i in right.get(right.len() / 2).into_iter().chain(wrong.first()) {
                let key = &data.keys[clips[i] as usize];
                tiles.push(Tile {
                    class: in_words(&data.classes[*class]),
                    predicted: in_words(&data.classes[predicted_class_of(i)]),
                    probability: p(i),
                    right: predicted_class_of(i) == *class,
                    clip: named(key),
                    levels: levels(&logarithm(data.features.clip(clips[i] as usize), notes.scale)),
                });
            }
        }
        let cut = match classes.len() {
            all if all > MAX_CLASSES => format!(" (first {MAX_CLASSES} of {all} classes)"),
            _ => String::new(),
        };
        Examples {
            title: format!("Examples: one-second test clips as model input{cut}"),
            about: format!(
                "{}, each scaled to its own range; per class a typical correct prediction and the most confident wrong \
                 one",
                capitalised(notes.input.spectrogram().name)
            ),
            tiles,
            hz: hz_ticks(&(notes.input.spectrogram().band_hz)(), APART),
        }
    }
}

/// A clip's key as text, without the folder of its class: the time first, so that it is not truncated.
fn named(key: &str) -> String {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    match name.rsplit_once('@') {
        Some((file, time)) => format!("{time} s, {file}"),
        None => name.to_owned(),
    }
}

/// Log magnitudes, from an input of this scale.
fn logarithm(input: Array<f32>, scale: Scale) -> Array<f32> {
    match scale {
        Scale::Log => input,
        Scale::Magnitude => input.map(|v| (v + OFFSET).ln()),
    }
}

impl Tile {
    fn caption(&self) -> String {
        match self.right {
            true => format!("correct, {:.2}", self.probability),
            false => format!("predicted as {}, {:.2}", self.predicted, self.probability),
        }
    }
}

impl Examples {
    /// Writes a PNG, atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        figure::save(self, path)
    }

    /// Writes the same for a page, with a link to the picture's file.
    pub(crate) fn write(&self, out: &mut dyn Write, file: &str) -> io::Result<()> {
        writeln!(out, "<section class=\"card\"><h2>{}</h2>", Escaped(&self.title))?;
        writeln!(out, "<p class=\"note\">{}.</p>\n<ul class=\"examples\">", self.about)?;
        for tile in &self.tiles {
            let class = if tile.right { "right" } else { "wrong" };
            let (name, caption, clip) = (Escaped(&tile.class), tile.caption(), Escaped(&tile.clip));
            let caption = Escaped(&caption);
            // At its own resolution, since a page may be shown at any size, but without more rows than pixels.
            let (width, height) = (tile.levels.dims()[0], tile.levels.dims()[1].min(2 * SPECTRUM.1 as usize));
            let levels = pixels(&tile.levels, 0.0..1.0, width, height);
            let image = indexed(width, height, &levels, &colour_map(), None)?;
            write!(out, "<li><b title=\"{name}\">{name}</b><div class=\"spectrum\">")?;
            write!(out, "<img alt=\"Spectrum of {clip}\" src=\"{}\">", Image(&image))?;
            for (share, hz) in &self.hz {
                write!(out, "<i style=\"bottom:{:.1}%\">{hz}</i>", 100.0 * share)?;
            }
            writeln!(
                out,
                "</div><span class=\"{class}\" title=\"{caption}\">{caption}</span><small \
                 title=\"{clip}\">{clip}</small></li>"
            )?;
        }
        writeln!(out, "</ul>\n<p class=\"note\"><a href=\"{file}\">{file}</a></p></section>")
    }

    fn tile<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, i: usize, tile: &Tile) -> Drawn<DB> {
        let (row, column) = (i as i32 / COLUMNS, i as i32 % COLUMNS);
        let (left, top) = (MARGIN + HZ + column * (SPECTRUM.0 + GAP), TOP + row * ROW);
        let room = f64::from(SPECTRUM.0);
        let shortened = |text: &str, size| fitted(&printable(text), size, room);
        area.draw(&Text::new(shortened(&tile.class, LABEL), (left, top), text(LABEL, INK)))?;
        let top = top + 20;
        let (width, height) = ((SPECTRUM.0 * SCALE) as usize, (SPECTRUM.1 * SCALE) as usize);
        let map = colour_map();
        let levels = pixels(&tile.levels, 0.0..1.0, width, height);
        let rgb = levels.into_iter().flat_map(|level| map[usize::from(level)]).collect();
        let bitmap = BitMapElement::<_>::with_owned_buffer((left, top), (width as u32, height as u32), rgb);
        area.draw(&bitmap.expect("three bytes per pixel"))?;
        for (share, hz) in self.hz.iter().filter(|_| column == 0) {
            let y = top + SPECTRUM.1 - (share * f64::from(SPECTRUM.1)).round() as i32;
            let style = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Right, VPos::Center));
            area.draw(&Rectangle::new([(left - 5, y), (left - 1, y)], FAINT_INK.filled()))?;
            area.draw(&Text::new(hz.clone(), (left - 8, y), style))?;
        }
        let bottom = top + SPECTRUM.1;
        let (mark, colour) = if tile.right { ("✓", RIGHT) } else { ("✗", WRONG) };
        area.draw(&Text::new(mark, (left, bottom + 5), text(LABEL, colour)))?;
        let after = text_width(mark, LABEL) + 6.0;
        let caption = fitted(&printable(&tile.caption()), LABEL, room - after);
        area.draw(&Text::new(caption, (left + after as i32, bottom + 5), text(LABEL, INK)))?;
        area.draw(&Text::new(shortened(&tile.clip, SMALL), (left, bottom + 24), text(SMALL, FAINT_INK)))
    }
}

impl Figure for Examples {
    fn title(&self) -> &str {
        &self.title
    }

    fn height(&self, _: i32) -> i32 {
        let rows = self.tiles.len().div_ceil(COLUMNS as usize) as i32;
        TOP + rows * ROW + MARGIN - 14
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, width: i32) -> Drawn<DB> {
        let about = fitted(&self.about, SMALL, f64::from(width - 2 * MARGIN));
        area.draw(&Text::new(about, (MARGIN, 2), text(SMALL, FAINT_INK)))?;
        self.tiles.iter().enumerate().try_for_each(|(i, tile)| self.tile(area, i, tile))
    }
}
