//! Test clips of single notes as the model sees them: of each class one that it knows and one that it takes for
//! another.

use std::io::{self, Write};
use std::path::Path;

use plotters::coord::Shift;
use plotters::element::BitMapElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::core::array::Array;
use crate::data::Dataset;
use crate::metrics::scores::predicted_class;
use crate::nn::front_ends::spectrum::{OFFSET, Scale};
use crate::predict::evaluator::SplitPredictions;
use crate::report::pages::html::{Escaped, Image};
use crate::report::pages::recording::{capitalised, png};
use crate::report::plots::figure::{self, Drawn, FAINT_INK, Figure, INK, PALETTE, fitted, text, text_width};
use crate::report::plots::hidpi::SCALE;
use crate::report::plots::spectrogram::{colour_map, hz_ticks, levels, pixels};
use crate::report::tables::table::printable;
use crate::run::config::Notes;

const WIDTH: i32 = 1080;
const MARGIN: i32 = 30;
const TITLE: i32 = 76;
/// Entry for the frequencies left of the first column.
const HZ: i32 = 40;
const COLUMNS: i32 = 5;
const GAP: i32 = 16;
/// Width and height of a spectrum.
const SPECTRUM: (i32, i32) = ((WIDTH - 2 * MARGIN - HZ - (COLUMNS - 1) * GAP) / COLUMNS, 118);
/// From one row of tiles to the next: a spectrum, the class above it, and answer and clip below.
const ROW: i32 = 20 + SPECTRUM.1 + 54;
const LABEL: f64 = 13.0;
const SMALL: f64 = 11.0;
const RIGHT: RGBColor = PALETTE[0];
const WRONG: RGBColor = PALETTE[5];
/// Shares of the height that parts two frequencies at least.
const APART: f64 = 0.2;
/// Classes on a picture; more make no page to look at.
const MAX_CLASSES: usize = 20;

/// Clips in the order of their classes, at most two of each.
pub struct Examples {
    title: String,
    /// What is to be seen, in words.
    about: String,
    tiles: Vec<Tile>,
    /// Position on the frequency axis and name.
    hz: Vec<(f64, String)>,
}

struct Tile {
    class: String,
    /// The answer, and its probability.
    predicted: String,
    probability: f64,
    right: bool,
    /// Which second of which file.
    clip: String,
    /// (frames, bins)
    levels: Array<u8>,
}

impl Examples {
    /// `answers` to `clips` of `data`, in their order; several seeds answer by their mean probability.
    ///
    /// Of each class that has any, two clips are shown: of those that were predicted correctly the one whose answer has
    /// the middle probability, a typical one; of those that were taken for another the one whose answer is the surest,
    /// from which most is to be learnt. Of equals it is the first.
    pub fn new(data: &Dataset, clips: &[u32], answers: &SplitPredictions, notes: &Notes) -> Examples {
        let k = data.classes.len();
        let n = answers.seeds.len() as f64;
        let mean =
            Array::from_fn([clips.len(), k], |i| answers.seeds.iter().map(|(p, _)| f64::from(p[i])).sum::<f64>() / n);
        let classes: Vec<(usize, Vec<usize>)> = (0..k)
            .map(|class| {
                (class, (0..clips.len()).filter(|&i| answers.targets.row(i)[class] >= 0.5).collect::<Vec<_>>())
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
                    class: data.classes[*class].clone(),
                    predicted: data.classes[predicted_class_of(i)].clone(),
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
            title: format!("Examples: test clips of one second as the model sees them{cut}"),
            about: format!(
                "{}, each in its own range from quiet to loud; of each class a typical right answer, and the surest wrong one",
                capitalised(notes.input.spectrogram().name)
            ),
            tiles,
            hz: hz_ticks(&(notes.input.spectrogram().band_hz)(), APART),
        }
    }
}

/// A clip's key in words, without the folder of its class: the time first, which is not cut off where there is little
/// room.
fn named(key: &str) -> String {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    match name.rsplit_once('@') {
        Some((file, time)) => format!("{time} s, {file}"),
        None => name.to_owned(),
    }
}

/// What `scale` has made of magnitudes, as logarithms.
fn logarithm(input: Array<f32>, scale: Scale) -> Array<f32> {
    match scale {
        Scale::Log => input,
        Scale::Magnitude => input.map(|v| (v + OFFSET).ln()),
    }
}

impl Tile {
    fn caption(&self) -> String {
        match self.right {
            true => format!("right, {:.2}", self.probability),
            false => format!("taken for {}, {:.2}", self.predicted, self.probability),
        }
    }
}

impl Examples {
    /// Writes a PNG, whole or not at all.
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
            // As it is, since a page may be shown at any size; but no more rows than there will be pixels.
            let (width, height) = (tile.levels.dims()[0], tile.levels.dims()[1].min(2 * SPECTRUM.1 as usize));
            let image = png(width, height, &pixels(&tile.levels, width, height), &colour_map(), None)?;
            write!(out, "<li><b title=\"{name}\">{name}</b><div class=\"spectrum\">")?;
            write!(out, "<img alt=\"Spectrum of {clip}\" src=\"{}\">", Image(&image))?;
            for (share, hz) in &self.hz {
                write!(out, "<i style=\"bottom:{:.1}%\">{hz}</i>", 100.0 * share)?;
            }
            writeln!(
                out,
                "</div><span class=\"{class}\" title=\"{caption}\">{caption}</span><small title=\"{clip}\">{clip}</small></li>"
            )?;
        }
        writeln!(out, "</ul>\n<p class=\"note\"><a href=\"{file}\">{file}</a></p></section>")
    }

    fn tile<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, i: usize, tile: &Tile) -> Drawn<DB> {
        let (row, column) = (i as i32 / COLUMNS, i as i32 % COLUMNS);
        let (left, top) = (MARGIN + HZ + column * (SPECTRUM.0 + GAP), TITLE + row * ROW);
        let room = f64::from(SPECTRUM.0);
        let words = |words: &str, size| fitted(&printable(words), size, room);
        area.draw(&Text::new(words(&tile.class, LABEL), (left, top), text(LABEL, INK)))?;
        let top = top + 20;
        let (width, height) = ((SPECTRUM.0 * SCALE) as usize, (SPECTRUM.1 * SCALE) as usize);
        let map = colour_map();
        let rgb = pixels(&tile.levels, width, height).into_iter().flat_map(|level| map[usize::from(level)]).collect();
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
        area.draw(&Text::new(words(&tile.clip, SMALL), (left, bottom + 24), text(SMALL, FAINT_INK)))
    }
}

impl Figure for Examples {
    fn size(&self) -> (u32, u32) {
        let rows = self.tiles.len().div_ceil(COLUMNS as usize) as i32;
        (WIDTH as u32, (TITLE + rows * ROW + MARGIN - 14) as u32)
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        let room = f64::from(WIDTH - 2 * MARGIN);
        area.draw(&Text::new(fitted(&self.title, 18.0, room), (MARGIN, 18), text(18.0, INK)))?;
        area.draw(&Text::new(fitted(&self.about, SMALL, room), (MARGIN, 46), text(SMALL, FAINT_INK)))?;
        self.tiles.iter().enumerate().try_for_each(|(i, tile)| self.tile(area, i, tile))
    }
}
