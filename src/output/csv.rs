//! Recognitions as CSV: a row per file and instrument, the likeliest first.

use std::io::{self, Write};

use crate::predict::recognition::Recognition;

/// Writes the names of the columns, once before all [`rows`].
pub fn header(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "file,instrument,probability,spread,threshold,present,segments")
}

/// Writes the rows of a recording. `spread` is empty for one seed, `threshold` for models that name one instrument at a time; `segments` are seconds, as in "0.00-3.84;5.76-10.00".
pub fn rows(out: &mut dyn Write, recognition: &Recognition) -> io::Result<()> {
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
        ])?;
    }
    out.flush()
}
