//! A PNG backend for plotters at twice the resolution: figures are drawn in logical pixels, files have four times as
//! many. It draws text itself, because plotters' bitmap text ignores side bearings and kerning and is misplaced.

use plotters::prelude::*;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind};

use crate::report::plots::font::{EM, rasterise, text_width};

pub(crate) const SCALE: i32 = 2;

pub(crate) struct HiDpi<'a>(BitMapBackend<'a>);

impl<'a> HiDpi<'a> {
    /// Draws into `rgb`, 3 bytes for each of [`pixels`]. `size` in logical pixels.
    pub fn new(rgb: &'a mut [u8], size: [i32; 2]) -> Self {
        let [width, height] = pixels(size);
        HiDpi(BitMapBackend::with_buffer(rgb, (width, height)))
    }
}

/// Width and height of the bitmap of a figure of `size` logical pixels.
pub fn pixels(size: [i32; 2]) -> [u32; 2] {
    size.map(|length| (length * SCALE) as u32)
}

type Drawn<'a> = Result<(), DrawingErrorKind<<BitMapBackend<'a> as DrawingBackend>::ErrorType>>;

fn scaled((x, y): BackendCoord) -> BackendCoord {
    (x * SCALE, y * SCALE)
}

fn stroke(style: &impl BackendStyle) -> ShapeStyle {
    let BackendColor { alpha, rgb: (r, g, b) } = style.color();
    ShapeStyle { color: RGBAColor(r, g, b, alpha), filled: false, stroke_width: style.stroke_width() * SCALE as u32 }
}

impl<'a> DrawingBackend for HiDpi<'a> {
    type ErrorType = <BitMapBackend<'a> as DrawingBackend>::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        let (w, h) = self.0.get_size();
        (w / SCALE as u32, h / SCALE as u32)
    }

    fn ensure_prepared(&mut self) -> Drawn<'a> {
        self.0.ensure_prepared()
    }

    fn present(&mut self) -> Drawn<'a> {
        self.0.present()
    }

    fn draw_pixel(&mut self, at: BackendCoord, color: BackendColor) -> Drawn<'a> {
        self.draw_rect(at, at, &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn<'a> {
        // A horizontal or vertical line is a rectangle: crisp, and of exact width.
        if from.0 != to.0 && from.1 != to.1 {
            return self.0.draw_path([scaled(from), scaled(to)], &stroke(style));
        }
        let (low, high) = ((from.0.min(to.0), from.1.min(to.1)), (from.0.max(to.0), from.1.max(to.1)));
        let wide = style.stroke_width().max(1) as i32 - 1;
        let (before, after) = (wide / 2, wide - wide / 2);
        let (across, along) = if from.0 == to.0 { ((before, 0), (after, 0)) } else { ((0, before), (0, after)) };
        self.draw_rect((low.0 - across.0, low.1 - across.1), (high.0 + along.0, high.1 + along.1), &style.color(), true)
    }

    fn draw_rect<S: BackendStyle>(&mut self, a: BackendCoord, b: BackendCoord, style: &S, fill: bool) -> Drawn<'a> {
        let (a, b) = (scaled(a), scaled(b));
        self.0.draw_rect(a, (b.0 + SCALE - 1, b.1 + SCALE - 1), &stroke(style), fill)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn<'a> {
        self.0.draw_path(path.into_iter().map(scaled), &stroke(style))
    }

    fn draw_circle<S: BackendStyle>(&mut self, at: BackendCoord, radius: u32, style: &S, fill: bool) -> Drawn<'a> {
        self.0.draw_circle(scaled(at), radius * SCALE as u32, &stroke(style), fill)
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn<'a> {
        self.0.fill_polygon(path.into_iter().map(scaled), &stroke(style))
    }

    /// `size` and `rgb` are in pixels of the file: bitmaps are not rescaled.
    fn blit_bitmap(&mut self, at: BackendCoord, size: (u32, u32), rgb: &[u8]) -> Drawn<'a> {
        self.0.blit_bitmap(scaled(at), size, rgb)
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, at: BackendCoord) -> Drawn<'a> {
        let em = style.size() / EM * f64::from(SCALE);
        let dx = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => -text_width(text, em) / 2.0,
            HPos::Right => -text_width(text, em),
        };
        // The same baselines as the SVG backend: 0.76 em, and half an x-height (0.55 em) up or down.
        let dy = em
            * match style.anchor().v_pos {
                VPos::Top => 0.76,
                VPos::Center => 0.27,
                VPos::Bottom => -0.27,
            };
        let (x0, y0) = scaled(at);
        let color = style.color();
        let mut drawn = Ok(());
        rasterise(text, em, |x, y, coverage| {
            let (x, y) = style.transform().transform(x + dx.round() as i32, y + dy.round() as i32);
            let dot = BackendColor { alpha: color.alpha * f64::from(coverage).min(1.0), ..color };
            if drawn.is_ok() {
                drawn = self.0.draw_pixel((x0 + x, y0 + y), dot);
            }
        });
        drawn
    }
}
