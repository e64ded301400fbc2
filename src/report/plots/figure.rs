//! Common parts of all plots: the palette, and writing a figure as PNG (at twice the resolution) or SVG.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::core::files::write_atomic;
use crate::report::plots::font::{EM, FONT, register};
use crate::report::plots::hidpi::{HiDpi, pixels};
use crate::report::plots::png::{self, Colours};
use crate::report::tables::table::printable;
use crate::{Error, Result};

pub use crate::report::plots::font::{fitted, text_width};

/// Colours that are distinguishable under all common colour-vision deficiencies (Okabe and Ito, 2008), without its
/// yellow and black, which are poor for bars and lines on white.
pub(crate) const PALETTE: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];
pub(crate) const INK: RGBColor = RGBColor(34, 34, 34);
pub(crate) const FAINT_INK: RGBColor = RGBColor(110, 110, 110);
pub(crate) const GRID: RGBColor = RGBColor(228, 228, 228);

/// Widths in logical pixels: of files and of pages, and of pages on a narrow screen.
pub(crate) const WIDE: i32 = 1080;
pub const NARROW: i32 = 360;
/// Height of a title.
const TITLE: i32 = 44;

/// Something that can be drawn with any backend, as wide as requested.
pub(crate) trait Figure {
    /// Drawn above the figure in files; pages have it as text. Empty for none.
    fn title(&self) -> &str {
        ""
    }

    /// Height in logical pixels at a width.
    fn height(&self, width: i32) -> i32;

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, width: i32) -> Drawn<DB>;
}

pub type Drawn<DB> = std::result::Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// Margin on both sides.
pub fn margin(width: i32) -> i32 {
    if is_narrow(width) { 8 } else { 30 }
}

/// Whether panels are one below the other.
pub(crate) fn is_narrow(width: i32) -> bool {
    width < 600
}

/// Positions of labels of these widths from left to right, and on the next line where there is no room: x and the
/// number of the line.
pub(crate) fn flow(widths: impl IntoIterator<Item = i32>, [left, right]: [i32; 2]) -> Vec<(i32, i32)> {
    let (mut x, mut line) = (left, 0);
    let place = |width: i32| {
        if x > left && x + width > right {
            (x, line) = (left, line + 1);
        }
        let at = (x, line);
        x += width;
        at
    };
    widths.into_iter().map(place).collect()
}

/// Writes `figure` to `path`, atomically. The extension decides: `.png` or `.svg`.
pub fn save(figure: &impl Figure, path: &Path) -> Result<()> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("png") => save_png(std::slice::from_ref(figure), None, path),
        Some("svg") => {
            let text = draw_svg(figure, WIDE, true)?;
            write_atomic(path, |out| out.write_all(text.as_bytes()))
        }
        _ => Err(Error::Usage(format!("{}: a plot is written as .png or .svg", path.display()))),
    }
}

/// Writes figures, one below the other, as a PNG to `path`, atomically: in the nearest colours of a palette, if one is
/// given. Only one figure is in memory at a time.
pub(crate) fn save_png<F: Figure>(figures: &[F], palette: Option<&[[u8; 3]; 256]>, path: &Path) -> Result<()> {
    register();
    let height = figures.iter().map(|figure| full_height(figure, WIDE, true)).sum();
    let colours = palette.map_or(Colours::Rgb, |palette| Colours::Indexed { palette, alpha: None });
    let mut known = HashMap::new();
    write_atomic(path, |out| {
        png::write(out, pixels([WIDE, height]), &colours, |out| {
            figures.iter().try_for_each(|figure| {
                let size = [WIDE, full_height(figure, WIDE, true)];
                let [width, height] = pixels(size);
                let mut rgb = vec![0; (width * height * 3) as usize];
                paint(figure, HiDpi::new(&mut rgb, size), WIDE, true)?;
                match palette {
                    Some(palette) => out.write_all(&nearest(&rgb, palette, &mut known)),
                    None => out.write_all(&rgb),
                }
            })
        })
    })
}

/// The nearest colour of the palette for each pixel; the first of equals. `known`: for the colours seen so far.
fn nearest(rgb: &[u8], palette: &[[u8; 3]; 256], known: &mut HashMap<[u8; 3], u8>) -> Vec<u8> {
    let (pixels, _) = rgb.as_chunks::<3>();
    let distance = |a: &[u8; 3], b: &[u8; 3]| (0..3).map(|c| i32::from(a[c].abs_diff(b[c])).pow(2)).sum::<i32>();
    let find = |pixel: &[u8; 3]| (0..=255).min_by_key(|&i: &u8| distance(pixel, &palette[usize::from(i)])).unwrap_or(0);
    let mut latest = ([0; 3], find(&[0; 3]));
    let index = |pixel: &[u8; 3]| {
        if latest.0 != *pixel {
            latest = (*pixel, *known.entry(*pixel).or_insert_with(|| find(pixel)));
        }
        latest.1
    };
    pixels.iter().map(index).collect()
}

/// `figure` without its title as the text of an SVG element, `width` logical pixels wide.
pub fn svg(figure: &impl Figure, width: i32) -> Result<String> {
    draw_svg(figure, width, false)
}

fn draw_svg(figure: &impl Figure, width: i32, titled: bool) -> Result<String> {
    register();
    let mut text = String::new();
    let size = (width as u32, full_height(figure, width, titled) as u32);
    paint(figure, SVGBackend::with_string(&mut text, size), width, titled).map_err(Error::io("a figure"))?;
    Ok(text)
}

fn full_height(figure: &impl Figure, width: i32, titled: bool) -> i32 {
    let title = if titled && !figure.title().is_empty() { TITLE } else { 0 };
    title + figure.height(width)
}

fn paint<DB: DrawingBackend>(figure: &impl Figure, backend: DB, width: i32, titled: bool) -> io::Result<()> {
    let area = backend.into_drawing_area();
    let draw = || {
        area.fill(&WHITE)?;
        if titled && !figure.title().is_empty() {
            let title = fitted(&printable(figure.title()), 18.0, f64::from(width - 2 * margin(width)));
            area.draw(&Text::new(title, (margin(width), 18), text(18.0, INK)))?;
            let (_, below) = area.split_vertically(TITLE);
            figure.draw(&below, width)?;
        } else {
            figure.draw(&area, width)?;
        }
        area.present()
    };
    draw().map_err(|e: DrawingAreaErrorKind<DB::ErrorType>| io::Error::other(e.to_string()))
}

/// A text style with an em of `size` logical pixels.
pub fn text(size: f64, colour: RGBColor) -> TextStyle<'static> {
    TextStyle { color: colour.to_backend_color(), ..TextStyle::from((FONT, size * EM).into_font()) }
}
