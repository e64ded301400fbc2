//! Recognitions as regions of REAPER (Region/Marker Manager > Options > Import regions/markers; columns as it exports
//! them, times as minutes and seconds).

use std::io::{self, Write};

use crate::output::format::Format;
use crate::predict::recognition::Recognition;

pub const FORMAT: Format = Format {
    name: "reaper",
    about: "Regions of REAPER, for a single recording or a file each",
    extension: "csv",
    collected: false,
    head: "#,Name,Start,End,Length\n",
    several: None,
    unsupported: |_| None,
    write: |out, recognition, _| write(out, recognition),
};

/// Writes a region per segment, in order of time, named "piano 0.93" with its confidence. A recording that is
/// unreliable has one over its whole length that says so.
pub fn write(out: &mut dyn Write, recognition: &Recognition) -> io::Result<()> {
    let mut out = ::csv::Writer::from_writer(out);
    let mut number = 0;
    let mut region = |name: &str, start: f64, end: f64| {
        number += 1;
        // A line end within quotes is more than REAPER's reader knows.
        let name = name.replace(char::is_control, " ");
        out.write_record([&format!("R{number}"), &name, &clock(start), &clock(end), &clock(end - start)])
    };
    if recognition.is_unreliable() {
        region("unreliable: unlike the training clips", 0.0, recognition.duration)?;
    }
    for (name, segment) in recognition.segments() {
        region(&format!("{name} {:.2}", segment.confidence), segment.start, segment.end)?;
    }
    out.flush()
}

/// Seconds as minutes, seconds and milliseconds, "1:02.345".
fn clock(seconds: f64) -> String {
    let milliseconds = (seconds.max(0.0) * 1e3).round() as u64;
    format!("{}:{:02}.{:03}", milliseconds / 60_000, milliseconds / 1_000 % 60, milliseconds % 1_000)
}
