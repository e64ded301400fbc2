//! Recognitions in JAMS, the JSON annotated music specification (Humphrey et al., ISMIR 2014; jams.readthedocs.io).

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::output::format::Format;
use crate::output::json::micro;
use crate::predict::recognition::{Instrument, Recognition};

pub const FORMAT: Format = Format {
    name: "jams",
    about: "JAMS annotations (tag_open), for a single recording or a file each",
    extension: "jams",
    collected: false,
    head: "",
    several: None,
    unsupported: |_| None,
    write: |out, recognition, _| write(out, recognition),
};

/// The version of the specification that is written.
const SPECIFICATION: &str = "0.3.4";

/// Writes a JAMS file with two annotations in the namespace `tag_open`: each present instrument over the whole
/// recording, with its probability as confidence; and the segments in order of time, with theirs. `validation` says
/// whether the recording is unreliable, the sandbox of the file also why.
pub fn write(out: &mut dyn Write, recognition: &Recognition) -> io::Result<()> {
    let r = recognition;
    let present: Vec<&Instrument> = r.ranked().into_iter().filter(|i| i.present).collect();
    let clip = present.iter().map(|i| observation(0.0, r.duration, &i.name, i.probability)).collect();
    let segments = r.segments().into_iter().map(|(name, s)| observation(s.start, s.end, name, s.confidence)).collect();
    let (rules, segment_rules) = match r.single_label() {
        false => (
            "An instrument is present if its probability reaches its threshold; confidence is the probability.",
            "Segments in which an instrument plays; confidence is the mean activity.",
        ),
        true => (
            "An instrument is present if it is the most probable anywhere; confidence is its probability in the whole \
             recording.",
            "Segments in which an instrument is the most probable; confidence is its mean probability there.",
        ),
    };
    let jams = json!({
        "file_metadata": {
            "title": r.name(),
            "artist": "",
            "release": "",
            "duration": micro(r.duration),
            "identifiers": {},
            "jams_version": SPECIFICATION,
        },
        "annotations": [annotation(r, rules, clip), annotation(r, segment_rules, segments)],
        "sandbox": {
            "file": r.file.to_string_lossy(),
            "warnings": r.condition.warnings,
            "distance": r.distance,
            "unreliable": r.distance.map(|_| r.is_unreliable()),
        },
    });
    serde_json::to_writer_pretty(&mut *out, &jams)?;
    writeln!(out)
}

fn annotation(r: &Recognition, rules: &str, data: Vec<Value>) -> Value {
    let tool = concat!("wmic ", env!("CARGO_PKG_VERSION"));
    json!({
        "namespace": "tag_open",
        "time": 0.0,
        "duration": micro(r.duration),
        "data": data,
        "annotation_metadata": {
            "curator": { "name": "", "email": "" },
            "annotator": { "model": r.model, "seeds": r.seeds },
            "version": env!("CARGO_PKG_VERSION"),
            "corpus": "",
            "annotation_tools": tool,
            "annotation_rules": rules,
            "validation": if r.is_unreliable() { "unreliable: unlike the training clips" } else { "" },
            "data_source": "program",
        },
        "sandbox": {},
    })
}

/// `start` and `end` in seconds.
fn observation(start: f64, end: f64, value: &str, confidence: f64) -> Value {
    let (start, end) = (micro(start), micro(end));
    json!({ "time": start, "duration": micro(end - start), "value": value, "confidence": micro(confidence) })
}
