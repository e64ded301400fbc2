//! Confidences as a table for MIREX's task Audio Instrument Recognition (music-ir.org, 2026), whose labels are
//! OpenMIC-2018's.

use std::io::{self, Write};

use crate::output::format::{Format, Frame};
use crate::predict::recognition::Recognition;

pub const FORMAT: Format = Format {
    name: "mirex",
    about: "A row per recording with the confidences of MIREX's 20 labels",
    extension: "csv",
    collected: true,
    head: "filename,accordion,banjo,bass,cello,clarinet,cymbals,drums,flute,guitar,mallet_percussion,mandolin,organ,\
           piano,saxophone,synthesizer,trombone,trumpet,ukulele,violin,voice\n",
    several: Some(Frame { before: "", between: "", after: "" }),
    unsupported: |classes| labels().find(|label| classes.iter().all(|name| name != label)).map(unknown),
    write: |out, recognition, _| row(out, recognition),
};

fn labels() -> impl Iterator<Item = &'static str> {
    FORMAT.head.trim_end().split(',').skip(1)
}

fn unknown(label: &str) -> String {
    format!("MIREX's labels are OpenMIC-2018's 20 classes, and the model does not know {label}")
}

/// The row of a recording: its file's name, and the probability of each label.
///
/// # Errors
/// `InvalidData` for a model that does not know all labels.
fn row(out: &mut dyn Write, recognition: &Recognition) -> io::Result<()> {
    let file = recognition.file.file_name().unwrap_or_default().to_string_lossy();
    let mut record = vec![file.into_owned()];
    for label in labels() {
        let Some(instrument) = recognition.instruments.iter().find(|i| i.name == label) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, unknown(label)));
        };
        record.push(format!("{:.6}", instrument.probability));
    }
    let mut out = ::csv::Writer::from_writer(out);
    out.write_record(record)?;
    out.flush()
}
