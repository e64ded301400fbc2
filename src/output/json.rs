//! Recognitions as JSON: an object to read, or one per line (JSON Lines).

use std::io::{self, Write};

use serde::Serialize;

use crate::predict::recognition::Recognition;

/// What else to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// `cell` (seconds) and the activity curve of each instrument.
    pub activity: bool,
    /// `cell` and the attention curve of each instrument; null for models without attention.
    pub attention: bool,
}

/// Writes an indented object and a newline: file, duration (s), model, seeds, and the instruments, the likeliest first,
/// each with name, probability, spread (null for one seed), threshold (null for models that name one at a time), present, and segments (start, end, confidence).
/// Models that look at one place after the other add their paths: seed, start of the excerpt, and glimpses (time, hz).
pub fn write(out: &mut dyn Write, recognition: &Recognition, detail: Detail) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &object(recognition, detail))?;
    writeln!(out)
}

/// As [`write`], on one line.
pub fn write_line(out: &mut dyn Write, recognition: &Recognition, detail: Detail) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &object(recognition, detail))?;
    writeln!(out)
}

#[derive(Serialize)]
struct Object<'a> {
    file: std::borrow::Cow<'a, str>,
    duration: f64,
    model: &'a str,
    seeds: &'a [u64],
    #[serde(skip_serializing_if = "Option::is_none")]
    cell: Option<f64>,
    instruments: Vec<Instrument<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<Path>,
}

#[derive(Serialize)]
struct Path {
    seed: u64,
    start: f64,
    glimpses: Vec<Glimpse>,
}

#[derive(Serialize)]
struct Glimpse {
    time: f64,
    hz: f64,
}

#[derive(Serialize)]
struct Instrument<'a> {
    name: &'a str,
    probability: f64,
    spread: Option<f64>,
    threshold: Option<f64>,
    present: bool,
    segments: Vec<Segment>,
    /// Left out unless asked for; then perhaps null.
    #[serde(skip_serializing_if = "Option::is_none")]
    activity: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attention: Option<Option<&'a [f32]>>,
}

#[derive(Serialize)]
struct Segment {
    start: f64,
    end: f64,
    confidence: f64,
}

fn object(r: &Recognition, detail: Detail) -> Object<'_> {
    Object {
        file: r.file.to_string_lossy(),
        duration: micro(r.duration),
        model: &r.model,
        seeds: &r.seeds,
        cell: (detail.activity || detail.attention).then_some(r.cell),
        instruments: r.ranked().into_iter().map(|i| instrument(i, detail)).collect(),
        paths: r.paths.iter().map(path).collect(),
    }
}

fn path(p: &crate::predict::recognition::Path) -> Path {
    let glimpse = |g: &crate::predict::recognition::Glimpse| Glimpse { time: micro(g.time), hz: g.hz().round() };
    Path { seed: p.seed, start: micro(p.start), glimpses: p.glimpses.iter().map(glimpse).collect() }
}

fn instrument(i: &crate::predict::recognition::Instrument, detail: Detail) -> Instrument<'_> {
    let segment = |s: &crate::predict::recognition::Segment| Segment {
        start: micro(s.start),
        end: micro(s.end),
        confidence: micro(s.confidence),
    };
    Instrument {
        name: &i.name,
        probability: micro(i.probability),
        spread: i.spread.map(micro),
        threshold: i.threshold.map(micro),
        present: i.present,
        segments: i.segments.iter().map(segment).collect(),
        activity: detail.activity.then_some(&i.activity),
        attention: detail.attention.then_some(i.attention.as_deref()),
    }
}

/// `value` to six decimals: 6 * 0.96 then reads 5.76, not 5.760000000000001.
pub(crate) fn micro(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
