//! Encoding of PNG files, row by row.

use std::io::{self, Write};

/// How a byte or three are a pixel.
pub(crate) enum Colours<'a> {
    Rgb,
    /// A byte is an index into the palette, and its opacity into `alpha`, if given.
    Indexed {
        palette: &'a [[u8; 3]; 256],
        alpha: Option<&'a [u8]>,
    },
}

/// Writes a PNG of `width` x `height` pixels, whose rows `pixels` writes, in any number of pieces.
pub fn write(
    out: impl Write,
    [width, height]: [u32; 2],
    colours: &Colours,
    pixels: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut encoder = png::Encoder::new(out, width, height);
    encoder.set_depth(png::BitDepth::Eight);
    match colours {
        Colours::Rgb => {
            encoder.set_color(png::ColorType::Rgb);
            // Spectrograms are 40 % smaller.
            encoder.set_adaptive_filter(png::AdaptiveFilterType::Adaptive);
        }
        Colours::Indexed { palette, alpha } => {
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_palette(palette.concat());
            alpha.iter().for_each(|alpha| encoder.set_trns(*alpha));
        }
    }
    let mut writer = encoder.write_header()?;
    let mut rows = writer.stream_writer()?;
    pixels(&mut rows)?;
    rows.finish()?;
    Ok(writer.finish()?)
}

/// `levels` (height, width) as a PNG whose level i has the colour `palette[i]`, and the opacity `alpha[i]`.
pub(crate) fn indexed(
    width: usize,
    height: usize,
    levels: &[u8],
    palette: &[[u8; 3]; 256],
    alpha: Option<&[u8]>,
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    let colours = Colours::Indexed { palette, alpha };
    write(&mut bytes, [width as u32, height as u32], &colours, |out| out.write_all(levels))?;
    Ok(bytes)
}
