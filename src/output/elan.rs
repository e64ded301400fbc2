//! Recognitions as a table for ELAN (File > Import > CSV / Tab-delimited Text File): a tier per instrument.

use std::io::{self, Write};

use crate::output::format::Format;
use crate::predict::recognition::Recognition;

pub const FORMAT: Format = Format {
    name: "elan",
    about: "Tiers of ELAN between tabs, for a single recording or a file each",
    extension: "tsv",
    collected: false,
    head: "Tier\tBegin Time\tEnd Time\tAnnotation\n",
    several: None,
    unsupported: |_| None,
    write: |out, recognition, _| write(out, recognition),
};

/// Writes a line per segment, in order of time: the instrument, start and end in seconds, and its confidence. A
/// recording that is unreliable has a tier `remark`, which says so over its whole length.
pub fn write(out: &mut dyn Write, recognition: &Recognition) -> io::Result<()> {
    if recognition.is_unreliable() {
        writeln!(out, "remark\t0.000\t{:.3}\tunreliable: unlike the training clips", recognition.duration)?;
    }
    for (name, segment) in recognition.segments() {
        // Tabs and line ends part fields and annotations; the format has no way to quote them.
        let name = name.replace(char::is_control, " ");
        writeln!(out, "{name}\t{:.3}\t{:.3}\t{:.2}", segment.start, segment.end, segment.confidence)?;
    }
    Ok(())
}
