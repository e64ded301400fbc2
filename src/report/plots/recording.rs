//! A recording as a picture: a bar per instrument that is present, over the spectrogram. As in fig. 4 of Gururani,
//! Sharma and Lerch, "An attention mechanism for musical instrument recognition" (ISMIR 2019).

use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::element::BitMapElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::core::array::Array;
use crate::core::numbers::{self, duration};
use crate::core::text::in_words;
use crate::predict::recognition::Instrument;
use crate::report::plots::figure::{self, Drawn, FAINT_INK, Figure, INK, PALETTE, WIDE, fitted, text, text_width};
use crate::report::plots::hidpi::SCALE;
use crate::report::plots::spectrogram::{
    BAR, FEW_PATHS, GlimpseMark, PATH, PATH_EDGE, Picture, colour_map, hz_ticks, pixels,
};
use crate::report::tables::table::printable;
use crate::{Error, Result};

const MARGIN: i32 = 30;
const TITLE: i32 = 84;
/// Height of an instrument's bar, of one with frequency bands, of the space below it, and of the line there that marks
/// when it plays.
const BAR_HEIGHT: i32 = 15;
const MAP_HEIGHT: i32 = 28;
const SPACE: i32 = 12;
const LINE: i32 = 3;
/// Height of the spectrogram, and of one of several rows.
const SPECTROGRAM: i32 = 260;
const LOW_SPECTROGRAM: i32 = 96;
const TIME_AXIS: i32 = 34;
const LEGEND: i32 = 42;
/// Margin for the probability and its spread.
const FIGURES: i32 = 92;
const LABEL: f64 = 13.0;
const SMALL: f64 = 11.0;
/// Colour behind the bars, and of the lines below them.
const TRACK: RGBColor = RGBColor(236, 239, 242);
const PLAYS: RGBColor = PALETTE[5];
/// Outline of true segments.
const TRUE: RGBColor = INK;
/// Maximum number of rows.
const MAX_ROWS: f64 = 30.0;

/// Writes the picture to `path`, a PNG.
pub fn plot(picture: &Picture, path: &Path) -> Result<()> {
    if path.extension().is_none_or(|e| e != "png") {
        return Err(Error::Usage(format!("{}: a picture of a recording is written as .png", path.display())));
    }
    let names = picture.bars().into_iter().map(|i| text_width(&printable(&in_words(&i.name)), LABEL));
    let labels = names.fold(44.0, f64::max).min(220.0).ceil() as i32 + 14;
    let duration = picture.recognition.duration;
    let (rows, levels) = (rows(duration), picture.levels());
    let seconds = rows.first().map_or(duration, |row| row.end - row.start);
    let part = |part| PartFigure { picture, levels: &levels, labels, seconds, several: rows.len() > 1, part };
    let mut parts = vec![part(Part::Title)];
    parts.extend(rows.iter().cloned().map(|row| part(Part::Row(row))));
    parts.push(part(Part::Legend));
    figure::save_png(&parts, Some(&palette()), path)
}

/// The rows of a picture of so many seconds: start and end. One row up to a minute; a minute each up to half an hour;
/// beyond that 2, 5, 10, 15, 30, 60 minutes or twice that and so on, so that there are at most 30 rows. Only the last
/// one is shorter.
pub fn rows(duration: f64) -> Vec<Range<f64>> {
    let minutes = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0].into_iter().chain((0..30).map(|e| 60.0 * f64::from(1 << e)));
    let each = minutes.map(|m| 60.0 * m).find(|each| duration <= MAX_ROWS * each).unwrap_or(duration);
    let count = (duration / each).ceil().max(1.0) as usize;
    (0..count).map(|i| i as f64 * each..((i + 1) as f64 * each).min(duration)).collect()
}

/// A part of the picture, as wide as all others; they are one below the other.
struct PartFigure<'a> {
    picture: &'a Picture<'a>,
    /// The spectrogram's.
    levels: &'a Array<u8>,
    /// Width of the column of names.
    labels: i32,
    /// A full row.
    seconds: f64,
    several: bool,
    part: Part,
}

enum Part {
    Title,
    /// Start and end, seconds.
    Row(Range<f64>),
    Legend,
}

impl PartFigure<'_> {
    /// Both ends of the time axis.
    fn span(&self) -> (i32, i32) {
        (MARGIN + self.labels, WIDE - MARGIN - FIGURES)
    }

    /// Where a time is in its row.
    fn x(&self, row: &Range<f64>, seconds: f64) -> i32 {
        let (left, right) = self.span();
        let share = (seconds.clamp(row.start, row.end) - row.start) / self.seconds;
        left + (share * f64::from(right - left)).round() as i32
    }

    /// Width of a row in pixels of the file.
    fn pixels(&self, row: &Range<f64>) -> usize {
        ((self.x(row, row.end) - self.span().0).max(1) * SCALE) as usize
    }

    fn bar_height(&self) -> i32 {
        if self.picture.has_maps() { MAP_HEIGHT } else { BAR_HEIGHT }
    }

    /// The instruments with a bar in a row: those that play or should play there, if there are several rows.
    fn bars(&self, row: &Range<f64>) -> Vec<&Instrument> {
        let mut bars = self.picture.bars();
        let inside = |start: f64, end: f64| start < row.end && end > row.start;
        bars.retain(|i| {
            !self.several
                || i.segments.iter().any(|s| inside(s.start, s.end))
                || self.picture.true_times(i).iter().any(|&(start, end)| inside(start, end))
        });
        bars
    }

    /// Height of the bars of a row.
    fn bars_height(&self, row: &Range<f64>) -> i32 {
        // Without any, a sentence says so; one is enough.
        let count = self.bars(row).len().max(usize::from(!self.several));
        count as i32 * (self.bar_height() + SPACE)
    }

    fn spectrogram_height(&self) -> i32 {
        if self.several { LOW_SPECTROGRAM } else { SPECTROGRAM }
    }

    fn title_lines<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        let r = self.picture.recognition;
        let name = r.file.file_name().unwrap_or(r.file.as_os_str()).to_string_lossy();
        let seconds = duration(r.duration);
        let room = f64::from(WIDE - 2 * MARGIN) - text_width(&seconds, 15.0) - 14.0;
        let name = fitted(&printable(&name), 20.0, room);
        let after = MARGIN + text_width(&name, 20.0) as i32 + 14;
        let seeds = numbers::of(r.seeds.len(), "seed", "seeds");
        area.draw(&Text::new(name, (MARGIN, 22), text(20.0, INK)))?;
        area.draw(&Text::new(seconds, (after, 26), text(15.0, FAINT_INK)))?;
        let model = format!("{}, {seeds}", fitted(&printable(&r.model), SMALL, 400.0));
        area.draw(&Text::new(model, (MARGIN, 48), text(SMALL, FAINT_INK)))?;
        let summary = fitted(&printable(&r.summary()), LABEL, f64::from(WIDE - 2 * MARGIN));
        area.draw(&Text::new(summary, (MARGIN, 66), text(LABEL, INK)))
    }

    fn row<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, row: &Range<f64>) -> Drawn<DB> {
        let (left, right) = self.span();
        let (bars, height) = (self.bars(row), self.bar_height());
        let mut top = SPACE;
        if bars.is_empty() && !self.several {
            let none = fitted(&printable(&self.picture.none()), LABEL, f64::from(right - left));
            area.draw(&Text::new(none, (left, top + 2), text(LABEL, FAINT_INK)))?;
        }
        for instrument in bars {
            let middle = top + height / 2;
            let at = |h| Pos::new(h, VPos::Center);
            let name = fitted(&printable(&in_words(&instrument.name)), LABEL, f64::from(self.labels - 14));
            area.draw(&Text::new(name, (left - 12, middle), text(LABEL, INK).pos(at(HPos::Right))))?;
            let bar = self.picture.bar(instrument, row.clone(), self.pixels(row));
            let rows: Vec<Vec<[u8; 3]>> = bar.iter().map(|row| row.iter().map(|&v| tint(v)).collect()).collect();
            area.draw(&bitmap((left, top), &rows, height))?;
            let inside = |start: f64, end: f64| start < row.end && end > row.start;
            for (start, end) in self.picture.true_times(instrument).into_iter().filter(|t| inside(t.0, t.1)) {
                let (start, end) = (self.x(row, start), self.x(row, end));
                area.draw(&Rectangle::new([(start, top), ((end - 1).max(start), top + height - 1)], TRUE))?;
            }
            for s in instrument.segments.iter().filter(|s| inside(s.start, s.end)) {
                let (start, end) = (self.x(row, s.start), self.x(row, s.end));
                let line = [(start, top + height + 2), ((end - 1).max(start), top + height + 1 + LINE)];
                area.draw(&Rectangle::new(line, PLAYS.filled()))?;
            }
            let p = format!("{:.2}", instrument.probability);
            let after = right + 14 + text_width(&p, LABEL) as i32;
            area.draw(&Text::new(p, (right + 10, middle), text(LABEL, INK).pos(at(HPos::Left))))?;
            if let Some(spread) = instrument.spread {
                let style = text(SMALL, FAINT_INK).pos(at(HPos::Left));
                area.draw(&Text::new(format!("± {spread:.2}"), (after, middle), style))?;
            }
            top += height + SPACE;
        }
        self.spectrogram(area, row, top)
    }

    fn spectrogram<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, row: &Range<f64>, top: i32) -> Drawn<DB> {
        let (left, duration, height) = (self.span().0, self.picture.recognition.duration, self.spectrogram_height());
        let (wide, high) = (self.pixels(row), (height * SCALE) as usize);
        let map = colour_map();
        // Of several rows in logical pixels, a quarter of the file's: an hour is a tenth of the size.
        let coarse = if self.several { SCALE as usize } else { 1 };
        let levels = pixels(self.levels, row.start / duration..row.end / duration, wide / coarse, high / coarse);
        let line = |levels: &[u8]| levels.iter().flat_map(|level| map[usize::from(*level)].repeat(coarse)).collect();
        let lines = levels.chunks_exact(wide / coarse).map(line).map(|line: Vec<u8>| line.repeat(coarse));
        let colours = lines.collect::<Vec<_>>().concat();
        let bitmap = BitMapElement::<_>::with_owned_buffer((left, top), (wide as u32, high as u32), colours);
        area.draw(&bitmap.expect("three bytes per pixel"))?;
        self.paths(area, row, top)?;
        let small = |h, v| text(SMALL, FAINT_INK).pos(Pos::new(h, v));
        let apart = f64::from(SPECTROGRAM) * 0.05 / f64::from(height);
        for (share, name) in hz_ticks(self.picture.band_hz, apart) {
            let y = top + height - (share * f64::from(height)).round() as i32;
            area.draw(&Rectangle::new([(left - 5, y), (left - 1, y)], FAINT_INK.filled()))?;
            area.draw(&Text::new(name, (left - 8, y), small(HPos::Right, VPos::Center)))?;
        }
        let bottom = top + height;
        for (seconds, name) in self.picture.time_ticks(row.start..row.start + self.seconds, 11) {
            if seconds <= row.end * 1.0001 {
                let x = self.x(row, seconds).min(self.span().1 - 1);
                area.draw(&Rectangle::new([(x, bottom), (x, bottom + 4)], FAINT_INK.filled()))?;
                area.draw(&Text::new(name, (x, bottom + 8), small(HPos::Center, VPos::Top)))?;
            }
        }
        Ok(())
    }

    /// Glimpse paths: lines between glimpses, with the patches of the first and the last outlined.
    fn paths<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, row: &Range<f64>, top: i32) -> Drawn<DB> {
        let (left, right) = self.span();
        let (duration, height) = (self.picture.recognition.duration, self.spectrogram_height());
        let place = |(x, y): (f64, f64)| {
            let y = top + ((1.0 - y).clamp(0.0, 1.0) * f64::from(height - 1)).round() as i32;
            (self.x(row, x * duration).clamp(left, right - 1), y)
        };
        let mut paths = self.picture.paths();
        // A path that goes on in the next row ends here, and begins there.
        let here = |mark: &GlimpseMark| row.contains(&(mark.at.0 * duration).min(duration.next_down()));
        paths.iter_mut().for_each(|path| path.retain(here));
        for path in &paths {
            let [first, .., last] = path.as_slice() else { continue };
            let few = paths.len() <= FEW_PATHS;
            for (mark, (w, h)) in
                [first, last].iter().flat_map(|mark| self.picture.patches().into_iter().map(move |size| (mark, size)))
            {
                let (x, y) = mark.at;
                let corners = [place((x - w / 2.0, y + h / 2.0)), place((x + w / 2.0, y - h / 2.0))];
                if few {
                    area.draw(&Rectangle::new(corners, PATH.mix(0.75 * mark.weight())))?;
                }
            }
            for (from, to) in path.iter().zip(&path[1..]) {
                let line = vec![place(from.at), place(to.at)];
                area.draw(&PathElement::new(line.clone(), PATH_EDGE.mix(0.8).stroke_width(4)))?;
                area.draw(&PathElement::new(line, PATH.stroke_width(2)))?;
            }
            for mark in path {
                let radius = (4.0 * mark.weight()).round() as i32;
                area.draw(&Circle::new(place(mark.at), radius + 1, PATH_EDGE.filled()))?;
                area.draw(&Circle::new(place(mark.at), radius, PATH.filled()))?;
            }
            for (mark, name) in [(first, "1".to_owned()), (last, path.len().to_string())] {
                if few {
                    self.number(area, top, place(mark.at), &name)?;
                }
            }
        }
        Ok(())
    }

    /// The number of a glimpse at `at`, beside and above it if there is space.
    fn number<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        top: i32,
        at: (i32, i32),
        name: &str,
    ) -> Drawn<DB> {
        let (side, anchor) = if at.0 + 40 < self.span().1 { (6, HPos::Left) } else { (-6, HPos::Right) };
        let at = (at.0 + side, if at.1 > top + 24 { at.1 - 11 } else { at.1 + 11 });
        let pos = Pos::new(anchor, VPos::Center);
        for (dx, dy) in [(-1, 0), (1, 0), (0, -1), (0, 1)] {
            let style = text(LABEL, PATH_EDGE).pos(pos);
            area.draw(&Text::new(name.to_owned(), (at.0 + dx, at.1 + dy), style))?;
        }
        area.draw(&Text::new(name.to_owned(), at, text(LABEL, PATH).pos(pos)))
    }

    fn legend<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, top: i32) -> Drawn<DB> {
        const SWATCH: i32 = 72;
        let middle = top + 6;
        let mut x = self.span().0;
        let style = text(SMALL, FAINT_INK).pos(Pos::new(HPos::Left, VPos::Center));
        let ramp = |n: i32| (0..n * SCALE).map(move |i| i as f32 / (n * SCALE - 1) as f32);
        let draw_label = |label: &str, x: &mut i32| {
            let drawn = area.draw(&Text::new(label.to_owned(), (*x, middle), style.clone()));
            *x += text_width(label, SMALL) as i32;
            drawn
        };
        let [none, most] = self.picture.ends();
        draw_label(&format!("{}: {none}", self.picture.shown()), &mut x)?;
        area.draw(&bitmap((x + 8, middle - 5), &[ramp(SWATCH).map(tint).collect()], 11))?;
        x += SWATCH + 16;
        draw_label(most, &mut x)?;
        x += 36;
        area.draw(&Rectangle::new([(x, middle - 1), (x + 32, middle - 2 + LINE)], PLAYS.filled()))?;
        x += 40;
        draw_label("plays", &mut x)?;
        if self.picture.truth.is_some() {
            x += 36;
            area.draw(&Rectangle::new([(x, middle - 5), (x + 32, middle + 5)], TRUE))?;
            x += 40;
            draw_label("truth", &mut x)?;
        }
        x += 36;
        draw_label(&format!("{}: quiet", self.picture.spectrum), &mut x)?;
        let map = colour_map();
        area.draw(&bitmap((x + 8, middle - 5), &[ramp(SWATCH).map(|v| map[(v * 255.0) as usize]).collect()], 11))?;
        x += SWATCH + 16;
        draw_label("loud", &mut x)?;
        if self.picture.paths().is_empty() {
            return Ok(());
        }
        x += 36;
        area.draw(&Rectangle::new([(x - 6, middle - 7), (x + 40, middle + 7)], PATH_EDGE.filled()))?;
        area.draw(&PathElement::new(vec![(x, middle), (x + 34, middle)], PATH.stroke_width(2)))?;
        for (dx, order) in [(0, 0.0), (34, 1.0)] {
            let radius = (4.0 * GlimpseMark { at: (0.0, 0.0), order }.weight()).round() as i32;
            area.draw(&Circle::new((x + dx, middle), radius, PATH.filled()))?;
        }
        x += 48;
        draw_label(&format!("glimpses, first to last{}", self.picture.seed_label()), &mut x)
    }
}

impl Figure for PartFigure<'_> {
    fn height(&self, _: i32) -> i32 {
        match &self.part {
            Part::Title => TITLE,
            Part::Row(row) => SPACE + self.bars_height(row) + self.spectrogram_height() + TIME_AXIS,
            Part::Legend => LEGEND,
        }
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, _: i32) -> Drawn<DB> {
        match &self.part {
            Part::Title => self.title_lines(area),
            Part::Row(row) => self.row(area, row),
            Part::Legend => self.legend(area, 2),
        }
    }
}

/// The colours of the picture: of the spectrogram, the bars, text and lines, the segments and the glimpses. An hour is
/// less than half of the size that it has in all colours.
fn palette() -> [[u8; 3]; 256] {
    let share = |i: usize, n: usize| i as f32 / (n - 1) as f32;
    let map = colour_map();
    let mut colours: Vec<[u8; 3]> = (0..144).map(|i| map[(share(i, 144) * 255.0).round() as usize]).collect();
    colours.extend((0..48).map(|i| tint(share(i, 48))));
    colours.extend((0..46).map(|i| [(share(i, 46) * 255.0).round() as u8; 3]));
    colours.extend((0..15).map(|i| blend(PATH_EDGE, PATH, share(i, 15))));
    colours.extend([INK, FAINT_INK, PLAYS].map(|c| [c.0, c.1, c.2]));
    colours.try_into().expect("256 colours")
}

/// The bars' colour at a value, blended with the track.
fn tint(value: f32) -> [u8; 3] {
    blend(TRACK, BAR, value.clamp(0.0, 1.0))
}

fn blend(from: RGBColor, to: RGBColor, share: f32) -> [u8; 3] {
    let mixed = |from: u8, to: u8| (f32::from(from) * (1.0 - share) + f32::from(to) * share).round() as u8;
    [mixed(from.0, to.0), mixed(from.1, to.1), mixed(from.2, to.2)]
}

/// A bitmap at `at` of rows of colours, in pixels of the file, scaled to a height of `height` logical pixels, a
/// multiple of the number of rows.
fn bitmap(at: (i32, i32), rows: &[Vec<[u8; 3]>], height: i32) -> BitMapElement<'static, (i32, i32)> {
    let (width, height) = (rows[0].len(), (height * SCALE) as usize);
    let each = height / rows.len();
    let colours = rows.iter().flat_map(|row| row.concat().repeat(each)).collect();
    BitMapElement::with_owned_buffer(at, (width as u32, height as u32), colours).expect("three bytes per pixel")
}
