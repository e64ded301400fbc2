//! Recognitions as CSV: a row per file and instrument, the most probable first.

use std::io::{self, Write};

use crate::output::format::{Format, Frame};
use crate::predict::recognition::Recognition;

pub const FORMAT: Format = Format {
    name: "csv",
    about: "A row per recording and instrument",
    extension: "csv",
    collected: true,
    head: "file,instrument,probability,spread,threshold,present,segments,unreliable\n",
    several: Some(Frame { before: "", between: "", after: "" }),
    unsupported: |_| None,
    write: |out, recognition, _| rows(out, recognition),
};

/// The rows of a recording. `spread` is empty for one seed, `threshold` for single-label models;
/// `segments` are seconds, as in "0.00-3.84;5.76-10.00"; `unreliable` is empty where it is not known.
fn rows(out: &mut dyn Write, recognition: &Recognition) -> io::Result<()> {
    let mut out = ::csv::Writer::from_writer(out);
    let file = recognition.file.to_string_lossy();
    for i in recognition.ranked() {
        let segments: Vec<String> = i.segments.iter().map(|s| format!("{:.2}-{:.2}", s.start, s.end)).collect();
        out.write_record([
            &*file,
            &i.name,
            &format!("{:.4}", i.probability),
            &i.spread.map(|s| format!("{s:.4}")).unwrap_or_default(),
            &i.threshold.map(|t| format!("{t:.4}")).unwrap_or_default(),
            &i.present.to_string(),
            &segments.join(";"),
            &recognition.distance.map(|_| recognition.is_unreliable().to_string()).unwrap_or_default(),
        ])?;
    }
    out.flush()
}
