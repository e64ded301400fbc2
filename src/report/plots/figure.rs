//! What all plots share: the font, the palette, and writing a figure as PNG (at twice the resolution) or SVG.

use std::path::Path;
use std::sync::{LazyLock, Once};

use ab_glyph::{Font, FontRef, PxScale, ScaleFont};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;

use crate::core::files::write_path_atomic;
use crate::report::plots::hidpi::HiDpi;
use crate::{Error, Result};

/// The family of all text: the bundled font in PNG, the viewer's own in SVG.
pub const FONT: &str = "sans-serif";
static FONT_FILE: &[u8] = include_bytes!("../../../assets/fonts/DejaVuSans-subset.ttf");
static PARSED_FONT: LazyLock<FontRef<'static>> =
    LazyLock::new(|| FontRef::try_from_slice(FONT_FILE).expect("the bundled font parses"));

/// Colours that stay apart under all common colour-vision deficiencies (Okabe and Ito, 2008), without its yellow and
/// black, which are poor for bars and lines on white.
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

/// Writes `figure` to `path`, whole or not at all. The extension decides: `.png` or `.svg`.
pub fn save(figure: &impl Figure, path: &Path) -> Result<()> {
    register();
    match path.extension().and_then(|e| e.to_str()) {
        Some("png") => write_path_atomic(path, |part| paint(figure, HiDpi::new(part, figure.size()), path)),
        Some("svg") => write_path_atomic(path, |part| paint(figure, SVGBackend::new(part, figure.size()), path)),
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

/// Tells plotters of the font, with which it measures text.
fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let registered = register_font(FONT, FontStyle::Normal, FONT_FILE);
        assert!(registered.is_ok(), "the bundled font parses");
    });
}

/// A text style with an em of `size` logical pixels.
pub fn text(size: f64, colour: RGBColor) -> TextStyle<'static> {
    TextStyle { color: colour.to_backend_color(), ..TextStyle::from((FONT, size * EM).into_font()) }
}

/// What plotters calls the size of a font is the height of its line: this many em.
pub(crate) const EM: f64 = 1.24;

/// Width of `text` at an em of `size`, in the same pixels.
pub fn text_width(text: &str, size: f64) -> f64 {
    glyphs(text, size).map(|(_, x, advance)| f64::from(x + advance)).last().unwrap_or(0.0)
}

/// `text` cut to at most `width` at an em of `size`, with an ellipsis where it was cut.
pub fn fitted(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.into();
    }
    let room = width - text_width("…", size);
    let kept = glyphs(text, size).take_while(|(_, x, advance)| f64::from(x + advance) <= room).count();
    text.chars().take(kept).chain(['…']).collect()
}

/// Coverage (0 to 1) of each pixel that `text` touches: calls `dot(x, y, coverage)` with x right from the start of the
/// text and y down from its baseline.
pub(crate) fn rasterise(text: &str, size: f64, mut dot: impl FnMut(i32, i32, f32)) {
    for (c, x, _) in glyphs(text, size) {
        let glyph = PARSED_FONT.glyph_id(c).with_scale_and_position(scale(size), ab_glyph::point(x, 0.0));
        if let Some(outline) = PARSED_FONT.outline_glyph(glyph) {
            let origin = outline.px_bounds().min;
            outline.draw(|dx, dy, coverage| dot(origin.x as i32 + dx as i32, origin.y as i32 + dy as i32, coverage));
        }
    }
}

/// Each character with its position and advance in pixels.
fn glyphs(text: &str, size: f64) -> impl Iterator<Item = (char, f32, f32)> {
    let font = PARSED_FONT.as_scaled(scale(size));
    let (mut x, mut previous) = (0.0, None);
    text.chars().map(move |c| {
        let id = font.glyph_id(c);
        x += previous.replace(id).map_or(0.0, |p| font.kern(p, id));
        let start = x;
        x += font.h_advance(id);
        (c, start, x - start)
    })
}

/// The scale at which the font's em is `size` pixels.
fn scale(size: f64) -> PxScale {
    let per_em = PARSED_FONT.units_per_em().expect("a TrueType font has an em");
    PxScale::from(size as f32 * PARSED_FONT.height_unscaled() / per_em)
}
