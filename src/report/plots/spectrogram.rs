//! Contents of the picture of a recording, shared by PNG and page.

use std::ops::Range;

use plotters::style::RGBColor;

use crate::Array;
use crate::core::numbers::{clock, three_digits};
use crate::core::text::in_words;
use crate::predict::recognition::{Glimpse, Instrument, Path, Recognition};
use crate::predict::timeline::resample;
use crate::predict::truth::Truth;
use crate::report::plots::axis::round_step;
use crate::report::plots::figure::PALETTE;

/// A recording to show: its result, over its spectrogram.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    pub recognition: &'a Recognition,
    /// Name of the spectrogram, as "mel spectrogram".
    pub spectrum: &'a str,
    /// Logarithmic (columns, bands), louder is larger; column i covers duration / columns seconds.
    pub spectrogram: &'a Array<f32>,
    /// Centre frequency of each band, Hz, rising.
    pub band_hz: &'a [f64],
    /// Whether the bars show attention, if the model has it, rather than the answer.
    pub attention: bool,
    /// Ground truth, if it is known.
    pub truth: Option<&'a Truth>,
}

/// A glimpse in the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GlimpseMark {
    /// Fractions of the width, from the left, and of the height, from the bottom.
    pub at: (f64, f64),
    /// 0 for the first of its path, 1 for the last.
    pub order: f64,
}

impl GlimpseMark {
    /// Size, from 0.5 to 1: later ones are larger, which shows the direction.
    pub fn weight(&self) -> f64 {
        0.5 + 0.5 * self.order
    }
}

/// The colour of paths, which does not occur in the colour map, and of their outline.
pub const PATH: RGBColor = RGBColor(120, 235, 255);
pub(crate) const PATH_EDGE: RGBColor = RGBColor(0, 0, 4);
/// Maximum number of paths with numbers and outlined patches.
pub(crate) const FEW_PATHS: usize = 2;

/// The bars' colour where attention or activity is 1; the value is its opacity.
pub(crate) const BAR: RGBColor = PALETTE[0];
/// Maximum number of instruments in a readable picture; tables have them all.
const MAX_BARS: usize = 40;

impl<'a> Picture<'a> {
    /// The present instruments, the most probable first, then those that the ground truth has besides.
    pub fn bars(&self) -> Vec<&'a Instrument> {
        let ranked = self.recognition.ranked();
        let present = ranked.iter().filter(|i| i.present);
        let missed = ranked.iter().filter(|i| !i.present && !self.true_times(i).is_empty());
        present.chain(missed).take(MAX_BARS).copied().collect()
    }

    /// When an instrument really plays: (start, end) in seconds, within the recording.
    pub(crate) fn true_times(&self, instrument: &Instrument) -> Vec<(f64, f64)> {
        let duration = self.recognition.duration;
        let times = self.truth.map_or(&[][..], |truth| truth.times(self.recognition, &instrument.name));
        times.iter().filter(|(start, _)| *start < duration).map(|&(start, end)| (start, end.min(duration))).collect()
    }

    /// What the bars show: attention, perhaps by frequency, if asked for and the model has it; else
    /// [`Instrument::answer`].
    pub fn shown(&self) -> &'static str {
        let has = |i: &Instrument| i.attention.is_some();
        match self.attention && self.recognition.instruments.iter().any(has) {
            true if self.has_maps() => "attention by frequency",
            true => "attention",
            false if self.recognition.single_label() => "probability",
            false => "activity × probability",
        }
    }

    /// Labels of the palest and the fullest colour of a bar.
    pub fn ends(&self) -> [&'static str; 2] {
        if self.attention { ["none", "most"] } else { ["0", "1"] }
    }

    /// Text instead of bars, if no instrument is present.
    pub fn none(&self) -> String {
        let why = match self.recognition.single_label() {
            true => "No instrument detected",
            false => "No instrument reaches its threshold",
        };
        let nearest = self.recognition.ranked().into_iter().find(|i| i.probability > 0.0);
        let nearest = nearest.map(|i| format!(" (most probable: {} {:.2})", in_words(&i.name), i.probability));
        why.to_owned() + &nearest.unwrap_or_default()
    }

    /// Whether the bars show frequency as well: the model attends to it.
    pub(crate) fn has_maps(&self) -> bool {
        self.attention && !self.recognition.bands.is_empty()
    }

    /// The same with bars of attention; `None` for a model without.
    pub(crate) fn with_attention(self) -> Option<Picture<'a>> {
        let has = self.recognition.instruments.iter().any(|i| i.attention.is_some());
        has.then_some(Picture { attention: true, ..self })
    }

    /// What the bar of `instrument` shows, 0 to 1, as `columns` values over `span` (seconds): one row, or one per
    /// frequency band, the highest first.
    pub fn bar(&self, instrument: &Instrument, span: Range<f64>, columns: usize) -> Vec<Vec<f32>> {
        let row = |curve: &[f32]| resample(curve, self.recognition.cell, span.clone(), columns);
        match &instrument.attention_map {
            Some(map) if self.attention => {
                let band = |band: usize| (0..map.dims()[0]).map(|cell| map.row(cell)[band]).collect::<Vec<f32>>();
                (0..map.dims()[1]).rev().map(|i| row(&band(i))).collect()
            }
            _ => {
                let attention = instrument.attention.as_ref().filter(|_| self.attention);
                vec![attention.map_or_else(|| row(&instrument.answer()), |attention| row(attention))]
            }
        }
    }

    pub fn columns(&self) -> usize {
        self.spectrogram.dims()[0]
    }

    pub fn bands(&self) -> usize {
        self.spectrogram.dims()[1]
    }

    /// The spectrogram as colours of `colour_map`, (columns, bands).
    pub fn levels(&self) -> Array<u8> {
        levels(self.spectrogram)
    }

    /// Glimpse paths of the first seed, per excerpt; paths of several seeds would hide each other.
    pub fn paths(&self) -> Vec<Vec<GlimpseMark>> {
        let r = self.recognition;
        let first = r.paths.first().map(|p| p.seed);
        let share = |g: &Glimpse| (g.time / r.duration, (g.band + 0.5) / self.bands() as f64);
        let path = |p: &Path| -> Vec<GlimpseMark> {
            let last = (p.glimpses.len().max(2) - 1) as f64;
            p.glimpses.iter().enumerate().map(|(j, g)| GlimpseMark { at: share(g), order: j as f64 / last }).collect()
        };
        r.paths.iter().filter(|p| Some(p.seed) == first).map(path).collect()
    }

    /// For several seeds, the label of the seed whose paths are shown.
    pub(crate) fn seed_label(&self) -> String {
        match *self.recognition.seeds {
            [first, _, ..] => format!(" (seed {first})"),
            _ => String::new(),
        }
    }

    /// Width and height of the patches of a glimpse, as fractions of the picture's.
    pub fn patches(&self) -> Vec<(f64, f64)> {
        let share = |[seconds, bands]: &[f64; 2]| (seconds / self.recognition.duration, bands / self.bands() as f64);
        self.recognition.patches.iter().map(share).collect()
    }

    /// Round times within `span`, seconds, and their names, at most `most`.
    pub(crate) fn time_ticks(&self, span: Range<f64>, most: usize) -> Vec<(f64, String)> {
        let length = span.end - span.start;
        let decades = (-3..2).flat_map(|e| [1.0, 2.0, 5.0].map(|s| s * 10f64.powi(e)));
        let minutes = [10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0];
        let hours = (0..20).map(|e| 3600.0 * f64::from(1 << e));
        let steps = decades.filter(|&s| s < 10.0).chain(minutes).chain(hours);
        let fits = |step: &f64| length / step <= (most - 1) as f64;
        let step = steps.into_iter().find(fits).unwrap_or(length);
        let first = (span.start / step - 1e-4).ceil();
        let ticks = (0..most).map(|i| (first + i as f64) * step).take_while(|&t| t <= span.end * 1.0001);
        ticks.map(|t| (t, clock(t, self.recognition.duration, step))).collect()
    }

    /// Positions on the frequency axis (0 at the bottom to 1) and their names.
    pub(crate) fn hz_ticks(&self) -> Vec<(f64, String)> {
        hz_ticks(self.band_hz, 0.05)
    }
}

/// A logarithmic spectrogram (columns, bands) as colours of `colour_map`. Outliers beyond the 5th and 99.8th
/// percentile are clipped, so that neither a click nor digital silence reduces the contrast of everything else.
pub fn levels(spectrogram: &Array<f32>) -> Array<u8> {
    let mut finite: Vec<f32> = spectrogram.data().iter().copied().filter(|v| v.is_finite()).collect();
    let mut percentile = |p: f64| match finite.len() {
        0 => 0.0,
        n => *finite.select_nth_unstable_by((p * n as f64) as usize, f32::total_cmp).1,
    };
    let (low, high) = (percentile(0.05), percentile(0.998));
    // A nearly constant spectrogram is shown as constant, not as noise.
    let range = (high - low).max(1.0);
    spectrogram.map(|v| ((v - low) / range * 255.0).round() as u8)
}

/// The columns `part` (fractions of all) of `levels` (columns, bands) as a picture, row by row from the highest band
/// down: interpolated between cells larger than a pixel, averaged over smaller ones.
pub fn pixels(levels: &Array<u8>, part: Range<f64>, width: usize, height: usize) -> Vec<u8> {
    let (columns, bands) = (levels.dims()[0], levels.dims()[1]);
    if columns == 0 || bands == 0 {
        return vec![0; width * height];
    }
    let mean = |cells: &[(usize, f32)], at: &dyn Fn(usize) -> f32| cells.iter().map(|&(i, w)| w * at(i)).sum::<f32>();
    let ys: Vec<_> = (0..height).rev().map(|y| weights(y, height, 0.0..1.0, bands)).collect();
    let xs: Vec<_> = (0..width).map(|x| weights(x, width, part.clone(), columns)).collect();
    let covered = xs[0][0].0..xs.last().and_then(|cells| cells.last()).map_or(0, |cell| cell.0 + 1);
    let column = |c: usize| ys.iter().map(|cells| mean(cells, &|b| f32::from(levels.row(c)[b]))).collect();
    let upright: Vec<Vec<f32>> = covered.clone().map(column).collect();
    let row = |y: usize| xs.iter().map(move |cells| (y, cells));
    let pixel = |(y, cells): (usize, &Vec<_>)| mean(cells, &|c| upright[c - covered.start][y]).round() as u8;
    (0..height).flat_map(row).map(pixel).collect()
}

/// The cells under pixel `i` of `pixels` that show the fraction `part` of `cells`, with weights that sum to 1.
fn weights(i: usize, pixels: usize, part: Range<f64>, cells: usize) -> Vec<(usize, f32)> {
    let first = part.start * cells as f64;
    let per_pixel = (part.end - part.start) * cells as f64 / pixels as f64;
    if per_pixel <= 1.0 {
        let at = (first + (i as f64 + 0.5) * per_pixel - 0.5).clamp(0.0, (cells - 1) as f64);
        let share = at.fract() as f32;
        return vec![(at as usize, 1.0 - share), ((at as usize + 1).min(cells - 1), share)];
    }
    let (start, end) = (first + i as f64 * per_pixel, (first + (i + 1) as f64 * per_pixel).min(cells as f64));
    let covered = start as usize..(end.ceil() as usize).min(cells);
    let share = |c: usize| (end.min((c + 1) as f64) - start.max(c as f64)).max(0.0) / (end - start);
    covered.map(|c| (c, share(c) as f32)).collect()
}

/// Positions on a frequency axis (0 at the bottom to 1) of bands with these centres, rising, and their names: the
/// octaves of 125 Hz, and the upper end; round numbers for equally spaced bands. No two are closer than `apart`.
pub(crate) fn hz_ticks(hz: &[f64], apart: f64) -> Vec<(f64, String)> {
    let [first, second, .., before, last] = *hz else { return vec![] };
    // Triangles of a mel bank reach to the next band's centre, so the outer ones end one band further out.
    let (bottom, top) = (2.0 * first - second, 2.0 * last - before);
    let mut edges = vec![bottom.max(0.0)];
    edges.extend(hz);
    edges.push(top);
    let place = |f: f64| {
        let above = edges.partition_point(|&e| e < f).clamp(1, edges.len() - 1);
        let (low, high) = (edges[above - 1], edges[above]);
        ((above as f64 - 1.0 + (f - low) / (high - low) - 0.5) / hz.len() as f64).clamp(0.0, 1.0)
    };
    let name = |f: f64| if f < 1000.0 { format!("{f:.0}") } else { three_digits(f / 1000.0).replace(".00", "") + "k" };
    let mut ticks: Vec<(f64, String)> = vec![];
    if ((last - before) / (second - first) - 1.0).abs() < 1e-3 {
        let most = (1.0 / apart.max(0.15)) as usize + 1;
        let step = round_step(last - first, most);
        let all = ((first / step).ceil() as u64..).map(|i| i as f64 * step).take_while(|&f| f <= last);
        let place = |f: f64| ((f - first) / (last - first) * (hz.len() - 1) as f64 + 0.5) / hz.len() as f64;
        ticks.extend(all.map(|f| (place(f), name(f).replace(".0k", "k"))));
    } else {
        let octaves = (-2..9).map(|e| 125.0 * 2f64.powi(e)).filter(|&f| f >= bottom * 0.97 && f <= top);
        for f in octaves {
            if ticks.last().is_none_or(|(at, _)| place(f) - at >= apart) {
                ticks.push((place(f), name(f)));
            }
        }
        if ticks.last().is_some_and(|(at, _)| *at <= 1.0 - apart) {
            ticks.push((1.0, name((top / 100.0).round() * 100.0).replace("0k", "k")));
        }
    }
    if let Some((_, highest)) = ticks.last_mut() {
        highest.push_str(" Hz");
    }
    ticks
}

/// Magma, a colour map whose lightness rises evenly (van der Walt and Smith, 2015; CC0), between 17 of its colours.
pub(crate) fn colour_map() -> [[u8; 3]; 256] {
    const MAGMA: [u32; 17] = [
        0x000004, 0x0a0822, 0x1d1147, 0x36106b, 0x51127c, 0x6a1c81, 0x832681, 0x9c2e7f, 0xb73779, 0xd0416f, 0xe75263,
        0xf56b5c, 0xfc8961, 0xfea772, 0xfec488, 0xfde2a3, 0xfcfdbf,
    ];
    std::array::from_fn(|level| {
        let (i, share) = (level * 16 / 255, (level * 16 % 255) as f32 / 255.0);
        let (low, high) = (MAGMA[i].to_be_bytes(), MAGMA[(i + 1).min(16)].to_be_bytes());
        std::array::from_fn(|c| {
            let (low, high) = (f32::from(low[c + 1]), f32::from(high[c + 1]));
            (low + (high - low) * share).round() as u8
        })
    })
}
