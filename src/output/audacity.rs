//! Recognitions as a label track of Audacity (File > Import > Labels; manual.audacityteam.org, "Importing and Exporting
//! Labels").

use std::io::{self, Write};

use crate::output::format::Format;
use crate::predict::recognition::Recognition;

pub const FORMAT: Format = Format {
    name: "audacity",
    about: "An Audacity label track, for a single recording or a file each",
    extension: "txt",
    collected: false,
    head: "",
    several: None,
    unsupported: |_| None,
    write: |out, recognition, _| write(out, recognition),
};

/// Writes a line per segment, in order of time: start and end in seconds and "piano 0.93", between tabs.
/// The number is the segment's confidence. A recording that is unreliable has a remark (a label in
/// parentheses) over its whole length that says so.
pub fn write(out: &mut dyn Write, recognition: &Recognition) -> io::Result<()> {
    if recognition.is_unreliable() {
        writeln!(out, "{:.6}\t{:.6}\t(unreliable: unlike the training clips)", 0.0, recognition.duration)?;
    }
    for (name, s) in recognition.segments() {
        // Tabs and line ends part fields and labels; the format has no way to quote them.
        let name = name.replace(char::is_control, " ");
        writeln!(out, "{:.6}\t{:.6}\t{name} {:.2}", s.start, s.end, s.confidence)?;
    }
    Ok(())
}
