//! A recording as a picture: a bar per instrument that is present, over the spectrogram. As in fig. 4 of Gururani,
//! Sharma and Lerch, "An attention mechanism for musical instrument recognition" (ISMIR 2019).

use std::path::Path;

use plotters::coord::Shift;
use plotters::element::BitMapElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::numbers::duration;
use crate::report::plots::figure::{self, Drawn, FAINT_INK, Figure, INK, PALETTE, fitted, text, text_width};
use crate::report::plots::hidpi::SCALE;
use crate::report::plots::spectrogram::{BAR, FEW_PATHS, GlimpseMark, PATH, PATH_EDGE, Picture, colour_map, pixels};
use crate::report::tables::table::printable;
use crate::{Error, Result};

const WIDTH: i32 = 1080;
const MARGIN: i32 = 30;
const TITLE: i32 = 66;
/// Height of an instrument's bar, of one with frequency bands, of the space below it, and of the line there that marks
/// when it plays.
const BAR_HEIGHT: i32 = 15;
const MAP_HEIGHT: i32 = 28;
const SPACE: i32 = 12;
const LINE: i32 = 3;
const SPECTROGRAM: i32 = 260;
const TIME_AXIS: i32 = 34;
const LEGEND: i32 = 26;
/// Margin for the probability and its spread.
const FIGURES: i32 = 92;
const LABEL: f64 = 13.0;
const SMALL: f64 = 11.0;
/// Colour behind the bars, and of the lines below them.
const TRACK: RGBColor = RGBColor(236, 239, 242);
const PLAYS: RGBColor = PALETTE[5];
/// Outline of true segments.
const TRUE: RGBColor = INK;

/// Writes the picture to `path`, a PNG.
pub fn plot(picture: &Picture, path: &Path) -> Result<()> {
    if path.extension().is_none_or(|e| e != "png") {
        return Err(Error::Usage(format!("{}: a picture of a recording is written as .png", path.display())));
    }
    let widest = picture.bars().iter().map(|i| text_width(&printable(&i.name), LABEL)).fold(44.0, f64::max);
    figure::save(&RecordingFigure { picture, labels: widest.min(220.0).ceil() as i32 + 14 }, path)
}

struct RecordingFigure<'a> {
    picture: &'a Picture<'a>,
    /// Width of the column of names.
    labels: i32,
}

impl RecordingFigure<'_> {
    /// Both ends of the time axis.
    fn span(&self) -> (i32, i32) {
        (MARGIN + self.labels, WIDTH - MARGIN - FIGURES)
    }

    fn x(&self, share: f64) -> i32 {
        let (left, right) = self.span();
        left + (share.clamp(0.0, 1.0) * f64::from(right - left)).round() as i32
    }

    /// Width of the time axis in pixels of the file.
    fn pixels(&self) -> usize {
        let (left, right) = self.span();
        ((right - left) * SCALE) as usize
    }

    fn bar_height(&self) -> i32 {
        if self.picture.has_maps() { MAP_HEIGHT } else { BAR_HEIGHT }
    }

    fn rows(&self) -> i32 {
        self.picture.bars().len().max(1) as i32 * (self.bar_height() + SPACE)
    }

    fn title<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        let r = self.picture.recognition;
        let name = r.file.file_name().unwrap_or(r.file.as_os_str()).to_string_lossy();
        let seconds = duration(r.duration);
        let room = f64::from(WIDTH - 2 * MARGIN) - text_width(&seconds, 15.0) - 14.0;
        let name = fitted(&printable(&name), 20.0, room);
        let after = MARGIN + text_width(&name, 20.0) as i32 + 14;
        let seeds = if r.seeds.len() == 1 { "1 seed".into() } else { format!("{} seeds", r.seeds.len()) };
        area.draw(&Text::new(name, (MARGIN, 22), text(20.0, INK)))?;
        area.draw(&Text::new(seconds, (after, 26), text(15.0, FAINT_INK)))?;
        let model = format!("{}, {seeds}", fitted(&printable(&r.model), SMALL, 400.0));
        area.draw(&Text::new(model, (MARGIN, 48), text(SMALL, FAINT_INK)))
    }

    fn bars<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, mut top: i32) -> Drawn<DB> {
        let r = self.picture.recognition;
        let (left, right) = self.span();
        let (bars, height) = (self.picture.bars(), self.bar_height());
        if bars.is_empty() {
            let none = fitted(&printable(&self.picture.none()), LABEL, f64::from(right - left));
            area.draw(&Text::new(none, (left, top + 2), text(LABEL, FAINT_INK)))?;
        }
        for instrument in bars {
            let middle = top + height / 2;
            let at = |h| Pos::new(h, VPos::Center);
            let name = fitted(&printable(&instrument.name), LABEL, f64::from(self.labels - 14));
            area.draw(&Text::new(name, (left - 12, middle), text(LABEL, INK).pos(at(HPos::Right))))?;
            let bar = self.picture.bar(instrument, self.pixels());
            let rows: Vec<Vec<[u8; 3]>> = bar.iter().map(|row| row.iter().map(|&v| tint(v)).collect()).collect();
            area.draw(&bitmap((left, top), &rows, height))?;
            for (start, end) in self.picture.true_times(instrument) {
                let (start, end) = (self.x(start / r.duration), self.x(end / r.duration));
                area.draw(&Rectangle::new([(start, top), ((end - 1).max(start), top + height - 1)], TRUE))?;
            }
            for s in &instrument.segments {
                let (start, end) = (self.x(s.start / r.duration), self.x(s.end / r.duration));
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
        Ok(())
    }

    fn spectrogram<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, top: i32) -> Drawn<DB> {
        let (left, right) = self.span();
        let size = (self.pixels(), (SPECTROGRAM * SCALE) as usize);
        area.draw(
            &BitMapElement::<_>::with_owned_buffer(
                (left, top),
                (size.0 as u32, size.1 as u32),
                self.pixel_colours(size),
            )
            .expect("three bytes per pixel"),
        )?;
        self.paths(area, top)?;
        let small = |h, v| text(SMALL, FAINT_INK).pos(Pos::new(h, v));
        for (share, name) in self.picture.hz_ticks() {
            let y = top + SPECTROGRAM - (share * f64::from(SPECTROGRAM)).round() as i32;
            area.draw(&Rectangle::new([(left - 5, y), (left - 1, y)], FAINT_INK.filled()))?;
            area.draw(&Text::new(name, (left - 9, y), small(HPos::Right, VPos::Center)))?;
        }
        let bottom = top + SPECTROGRAM;
        for (share, name) in self.picture.time_ticks(11) {
            let x = self.x(share).min(right - 1);
            area.draw(&Rectangle::new([(x, bottom), (x, bottom + 4)], FAINT_INK.filled()))?;
            area.draw(&Text::new(name, (x, bottom + 8), small(HPos::Center, VPos::Top)))?;
        }
        Ok(())
    }

    /// Glimpse paths: lines between glimpses, with the patches of the first and the last outlined.
    fn paths<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, top: i32) -> Drawn<DB> {
        let (left, right) = self.span();
        let place = |(x, y): (f64, f64)| {
            let y = top + ((1.0 - y).clamp(0.0, 1.0) * f64::from(SPECTROGRAM - 1)).round() as i32;
            (self.x(x).clamp(left, right - 1), y)
        };
        let paths = self.picture.paths();
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

    /// The spectrogram in RGB.
    fn pixel_colours(&self, (width, height): (usize, usize)) -> Vec<u8> {
        let map = colour_map();
        pixels(&self.picture.levels(), width, height).into_iter().flat_map(|level| map[usize::from(level)]).collect()
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

impl Figure for RecordingFigure<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH as u32, (TITLE + self.rows() + 6 + SPECTROGRAM + TIME_AXIS + LEGEND + 16) as u32)
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        self.title(area)?;
        self.bars(area, TITLE + 8)?;
        let top = TITLE + self.rows() + 12;
        self.spectrogram(area, top)?;
        self.legend(area, top + SPECTROGRAM + TIME_AXIS)
    }
}

/// The bars' colour at a value, blended with the track.
fn tint(value: f32) -> [u8; 3] {
    let v = value.clamp(0.0, 1.0);
    let mixed = |track: u8, bar: u8| (f32::from(track) * (1.0 - v) + f32::from(bar) * v).round() as u8;
    [mixed(TRACK.0, BAR.0), mixed(TRACK.1, BAR.1), mixed(TRACK.2, BAR.2)]
}

/// A bitmap at `at` of rows of colours, in pixels of the file, scaled to a height of `height` logical pixels, a
/// multiple of the number of rows.
fn bitmap(at: (i32, i32), rows: &[Vec<[u8; 3]>], height: i32) -> BitMapElement<'static, (i32, i32)> {
    let (width, height) = (rows[0].len(), (height * SCALE) as usize);
    let each = height / rows.len();
    let colours = rows.iter().flat_map(|row| row.concat().repeat(each)).collect();
    BitMapElement::with_owned_buffer(at, (width as u32, height as u32), colours).expect("three bytes per pixel")
}
