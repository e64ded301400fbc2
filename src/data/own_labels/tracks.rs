//! Annotation files beside recordings: JAMS, and label tracks of Audacity.

use super::labels::{Statement, read_text, segment};
use crate::core::error::{Error, Result};
use crate::core::files::read_start;
use crate::data::names::{normalised, shorten};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The annotation file of a recording, if there is one: `song.jams`, or a label track `song.txt`.
pub(super) fn beside(recording: &Path) -> Option<PathBuf> {
    let [jams, track] = ["jams", "txt"].map(|extension| recording.with_extension(extension));
    [jams].into_iter().find(|path| path.is_file()).or_else(|| Some(track).filter(|path| is_track(path)))
}

/// Whether a text file begins as a label track: with two times, and not with the words of a song.
fn is_track(path: &Path) -> bool {
    let start = read_start(path, 1 << 10).unwrap_or_default();
    let text = String::from_utf8_lossy(&start);
    let line = text.trim_start_matches('\u{feff}').lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let mut fields = line.split('\t').map(time);
    [fields.next(), fields.next()].iter().all(|field| matches!(field, Some(Some(_))))
}

/// Some languages of Audacity have a decimal comma.
fn time(text: &str) -> Option<f64> {
    text.trim().replace(',', ".").parse().ok()
}

/// Reads an annotation file. `name`: that of its recording.
///
/// # Errors
/// `Data`, with the line if there are any, for a damaged one, or one without annotations of instruments.
pub(super) fn read(path: &Path, name: &str) -> Result<Vec<Statement>> {
    let text = read_text(path)?;
    match path.extension().is_some_and(|extension| extension == "jams") {
        true => read_jams(path, &text, name),
        false => read_track(path, &text, name),
    }
}

fn statement(name: &str, instrument: &str, times: Option<[f64; 2]>, line: u64) -> Result<Statement, String> {
    let instrument = Some(normalised(instrument)?);
    Ok(Statement { name: name.into(), instrument, present: Some(true), times, group: None, part: None, line })
}

/// Lines of start, end and label, between tabs; lines that begin with a backslash have frequencies. Labels in
/// parentheses are remarks.
fn read_track(path: &Path, text: &str, name: &str) -> Result<Vec<Statement>> {
    let mut statements = vec![];
    for (line, text) in (1..).zip(text.lines()) {
        if text.trim().is_empty() || text.starts_with('\\') {
            continue;
        }
        let fail = |reason: String| Error::data_at(path, line, reason);
        let fields: Vec<&str> = text.splitn(3, '\t').collect();
        let (Some(start), Some(end), Some(label)) =
            (fields.first().and_then(|f| time(f)), fields.get(1).and_then(|f| time(f)), fields.get(2))
        else {
            let text = shorten(text);
            return Err(fail(format!("{text:?} is not a label: start, end (seconds) and instrument between tabs")));
        };
        let times = segment(start, end).map_err(fail)?;
        if !(label.starts_with('(') && label.trim_end().ends_with(')')) {
            statements.push(statement(name, without_score(label), Some(times), line).map_err(fail)?);
        }
    }
    Ok(statements)
}

/// A label without the confidence that `wmic predict` writes behind it.
fn without_score(label: &str) -> &str {
    let is_score = |text: &str| text.contains('.') && text.parse().is_ok_and(|score| (0.0..=1.0).contains(&score));
    match label.trim().rsplit_once(' ') {
        Some((instrument, score)) if is_score(score) => instrument,
        _ => label,
    }
}

#[derive(Deserialize)]
struct Jams {
    annotations: Vec<Annotation>,
    #[serde(default)]
    file_metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    duration: Option<f64>,
}

#[derive(Deserialize)]
struct Annotation {
    namespace: String,
    data: serde_json::Value,
}

#[derive(Deserialize)]
struct Observation {
    time: f64,
    duration: f64,
    value: serde_json::Value,
}

/// Namespaces whose values are names of instruments.
const NAMESPACES: [&str; 2] = ["tag_open", "segment_open"];

/// Observations of the namespaces `tag_open` and `segment_open`. One over the whole recording tells nothing about
/// times.
fn read_jams(path: &Path, text: &str, name: &str) -> Result<Vec<Statement>> {
    let fail = |reason: String| Error::data(path, reason);
    let jams: Jams = serde_json::from_str(text)
        .map_err(|e| Error::data_at(path, e.line() as u64, format!("is not a JAMS file ({e})")))?;
    let mut statements = vec![];
    let mut found = false;
    for annotation in jams.annotations.into_iter().filter(|a| NAMESPACES.contains(&a.namespace.as_str())) {
        found = true;
        let data: Vec<Observation> = serde_json::from_value(annotation.data)
            .map_err(|e| fail(format!("has an annotation that is not a list of time, duration and value ({e})")))?;
        for Observation { time, duration, value } in data {
            let value =
                value.as_str().ok_or_else(|| fail("has a value that is not the name of an instrument".into()))?;
            let times = segment(time, time + duration).map_err(fail)?;
            let whole = time == 0.0 && jams.file_metadata.duration.is_some_and(|all| duration >= all - 1e-3);
            statements.push(statement(name, value, (!whole).then_some(times), 0).map_err(fail)?);
        }
    }
    match found {
        true => Ok(statements),
        false => Err(fail(format!("has no annotation in the namespaces {}", NAMESPACES.join(" and ")))),
    }
}
