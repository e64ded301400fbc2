//! Common parts of all plots: the palette, and writing a figure as PNG (at twice the resolution) or SVG.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::core::files::write_atomic;
use crate::report::plots::font::{EM, FONT, register};
use crate::report::plots::hidpi::{HiDpi, pixels};
use crate::{Error, Result};

pub use crate::report::plots::font::{fitted, text_width};

/// Colours that are distinguishable under all common colour-vision deficiencies (Okabe and Ito, 2008), without its
/// yellow and black, which are poor for bars and lines on white.
pub const PALETTE: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];
pub const INK: RGBColor = RGBColor(34, 34, 34);
pub const FAINT_INK: RGBColor = RGBColor(110, 110, 110);
pub const GRID: RGBColor = RGBColor(228, 228, 228);

/// Something that can be drawn with any backend.
pub trait Figure {
    /// Width and height in logical pixels.
    fn size(&self) -> (u32, u32);
    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Drawn<DB>;
}

pub type Drawn<DB> = std::result::Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// Writes `figure` to `path`, atomically. The extension decides: `.png` or `.svg`.
pub fn save(figure: &impl Figure, path: &Path) -> Result<()> {
    register();
    match path.extension().and_then(|e| e.to_str()) {
        Some("png") => {
            let [width, height] = pixels(figure.size());
            let mut rgb = vec![0; (width * height * 3) as usize];
            paint(figure, HiDpi::new(&mut rgb, figure.size()), path)?;
            write_atomic(path, |out| {
                let mut encoder = png::Encoder::new(out, width, height);
                encoder.set_color(png::ColorType::Rgb);
                encoder.set_depth(png::BitDepth::Eight);
                let mut writer = encoder.write_header()?;
                writer.write_image_data(&rgb)?;
                Ok(writer.finish()?)
            })
        }
        Some("svg") => {
            let text = svg(figure)?;
            write_atomic(path, |out| out.write_all(text.as_bytes()))
        }
        _ => Err(Error::Usage(format!("{}: a plot is written as .png or .svg", path.display()))),
    }
}

/// `figure` as the text of an SVG element.
pub fn svg(figure: &impl Figure) -> Result<String> {
    register();
    let mut text = String::new();
    paint(figure, SVGBackend::with_string(&mut text, figure.size()), Path::new("a figure"))?;
    Ok(text)
}

fn paint<DB: DrawingBackend>(figure: &impl Figure, backend: DB, path: &Path) -> Result<()> {
    let area = backend.into_drawing_area();
    let drawn = area.fill(&WHITE).and_then(|_| figure.draw(&area)).and_then(|_| area.present());
    drawn.map_err(|e| Error::io(path)(std::io::Error::other(e.to_string())))
}

/// A text style with an em of `size` logical pixels.
pub fn text(size: f64, colour: RGBColor) -> TextStyle<'static> {
    TextStyle { color: colour.to_backend_color(), ..TextStyle::from((FONT, size * EM).into_font()) }
}
