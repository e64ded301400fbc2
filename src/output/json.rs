//! Recognitions as JSON: an object to read, or one per line (JSON Lines).

use std::io::{self, Write};

use serde::Serialize;

use crate::core::array::Array;
use crate::output::format::{Detail, Format, Frame};
use crate::predict::recognition::{self, Recognition};

pub const FORMAT: Format = Format {
    name: "json",
    about: "An array with an object per recording",
    extension: "json",
    collected: false,
    head: "",
    several: Some(Frame { before: "[\n", between: ",\n", after: "]\n" }),
    unsupported: |_| None,
    write,
};

pub const LINES: Format = Format {
    name: "jsonl",
    about: "An object per line, as soon as the recording is done",
    extension: "jsonl",
    collected: true,
    head: "",
    several: Some(Frame { before: "", between: "", after: "" }),
    unsupported: |_| None,
    write: write_line,
};

/// Writes an indented object and a newline: file, duration (s), warnings (problems of the file; omitted if there are
/// none), distance from the training clips and unreliable (omitted where they are not known), model, seeds, a summary
/// in a sentence, and the instruments, the most probable first, each with name, probability, spread (null for one
/// seed), threshold (null for single-label models), present, and segments (start, end, confidence). Recurrent attention
/// models add their glimpse paths: seed, start of the excerpt, and glimpses (time, hz). With attention, models that
/// attend to frequency add `bands` (Hz) and `attention_map` (cells, bands). Tags, if there are any, follow with name
/// and probability, the most probable first.
pub fn write(out: &mut dyn Write, recognition: &Recognition, detail: Detail) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &object(recognition, detail))?;
    writeln!(out)
}

/// As [`write()`], on one line.
pub fn write_line(out: &mut dyn Write, recognition: &Recognition, detail: Detail) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &object(recognition, detail))?;
    writeln!(out)
}

#[derive(Serialize)]
struct Object<'a> {
    file: std::borrow::Cow<'a, str>,
    duration: f64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    /// From the training clips, where it is known; above 1 the recording is unreliable.
    #[serde(skip_serializing_if = "Option::is_none")]
    distance: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreliable: Option<bool>,
    model: &'a str,
    seeds: &'a [u64],
    /// [`Recognition::summary`].
    summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cell: Option<f64>,
    /// Hz, both ends of each band of the attention maps, the lowest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    bands: Option<Vec<[f64; 2]>>,
    instruments: Vec<Instrument<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<Path>,
}

#[derive(Serialize)]
struct Tag {
    name: &'static str,
    probability: f64,
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
    /// Omitted unless requested; then possibly null.
    #[serde(skip_serializing_if = "Option::is_none")]
    activity: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attention: Option<Option<&'a [f32]>>,
    /// A row for each cell, a value for each band.
    #[serde(skip_serializing_if = "Option::is_none")]
    attention_map: Option<Vec<&'a [f32]>>,
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
        warnings: &r.condition.warnings,
        distance: r.distance.map(micro),
        unreliable: r.distance.map(|_| r.is_unreliable()),
        model: &r.model,
        seeds: &r.seeds,
        summary: r.summary(),
        cell: (detail.activity || detail.attention).then_some(r.cell),
        bands: (detail.attention && !r.bands.is_empty())
            .then(|| r.bands.iter().map(|band| band.map(f64::round)).collect()),
        instruments: r.ranked().into_iter().map(|i| instrument(i, detail)).collect(),
        tags: r.ranked_tags().into_iter().map(tag).collect(),
        paths: r.paths.iter().map(path).collect(),
    }
}

fn tag(recognition::Tag { name, probability }: recognition::Tag) -> Tag {
    Tag { name, probability: micro(probability) }
}

fn path(p: &recognition::Path) -> Path {
    let glimpse = |g: &recognition::Glimpse| Glimpse { time: micro(g.time), hz: g.hz().round() };
    Path { seed: p.seed, start: micro(p.start), glimpses: p.glimpses.iter().map(glimpse).collect() }
}

fn instrument(i: &recognition::Instrument, detail: Detail) -> Instrument<'_> {
    let segment = |s: &recognition::Segment| Segment {
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
        attention_map: i.attention_map.as_ref().filter(|_| detail.attention).map(rows),
    }
}

fn rows(map: &Array<f32>) -> Vec<&[f32]> {
    (0..map.dims()[0]).map(|cell| map.row(cell)).collect()
}

/// `value` to six decimals: 6 * 0.96 then reads 5.76, not 5.760000000000001.
pub(crate) fn micro(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
