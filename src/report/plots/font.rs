//! The font of all plots: its outlines, and text widths.

use std::sync::{LazyLock, Once};

use ab_glyph::{Font, FontRef, PxScale, ScaleFont};
use plotters::style::{FontStyle, register_font};

/// The family of all text: the bundled font in PNG, the viewer's own in SVG.
pub(crate) const FONT: &str = "sans-serif";
static FONT_FILE: &[u8] = include_bytes!("../../../assets/fonts/DejaVuSans-subset.ttf");
static PARSED_FONT: LazyLock<FontRef<'static>> =
    LazyLock::new(|| FontRef::try_from_slice(FONT_FILE).expect("the bundled font parses"));

/// Registers the font with plotters, which measures text with it.
pub(super) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let registered = register_font(FONT, FontStyle::Normal, FONT_FILE);
        assert!(registered.is_ok(), "the bundled font parses");
    });
}

/// The font size in plotters is the line height: this many em.
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
    let available = width - text_width("…", size);
    let kept = glyphs(text, size).take_while(|(_, x, advance)| f64::from(x + advance) <= available).count();
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
