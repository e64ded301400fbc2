//! The definition of an output format.

use std::io::{self, Write};

use crate::predict::recognition::Recognition;

/// An output format for recognition results.
pub struct Format {
    /// Its name as an option value.
    pub name: &'static str,
    /// One line for help texts.
    pub about: &'static str,
    /// Extension of its files.
    pub extension: &'static str,
    /// In a folder of results all recordings share a file, to which they are appended; else each has its own.
    pub collected: bool,
    /// Written before the first recording, also in a file with a single one.
    pub head: &'static str,
    /// How several recordings share an output; `None` if each needs its own file.
    pub several: Option<Frame>,
    /// The reason if it has no place for the answers of a model of these classes.
    pub unsupported: fn(&[String]) -> Option<String>,
    pub write: fn(&mut dyn Write, &Recognition, Detail) -> io::Result<()>,
}

/// Text before, between and after several recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub before: &'static str,
    pub between: &'static str,
    pub after: &'static str,
}

/// Optional output, in formats that support it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// `cell` (seconds) and the activity curve of each instrument.
    pub activity: bool,
    /// `cell` and the attention curve of each instrument; null for models without attention. For models that also
    /// attend to frequency, the map over both, and its bands.
    pub attention: bool,
    /// Tags of the recording, which must have been determined.
    pub tags: bool,
}

impl Format {
    /// Writes a single recording to an output.
    pub fn write_alone(&self, out: &mut dyn Write, recognition: &Recognition, detail: Detail) -> io::Result<()> {
        out.write_all(self.head.as_bytes())?;
        (self.write)(out, recognition, detail)
    }
}

/// Recordings that share an output, one after the other.
pub struct Series {
    format: &'static Format,
    frame: Frame,
    written: usize,
}

impl Series {
    pub fn new(format: &'static Format) -> Series {
        Series { format, frame: format.several.unwrap_or_default(), written: 0 }
    }

    pub fn write(&mut self, out: &mut dyn Write, recognition: &Recognition, detail: Detail) -> io::Result<()> {
        match self.written {
            0 => write!(out, "{}{}", self.frame.before, self.format.head)?,
            _ => out.write_all(self.frame.between.as_bytes())?,
        }
        self.written += 1;
        (self.format.write)(out, recognition, detail)
    }

    /// After the last recording.
    pub fn end(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.written == 0 {
            out.write_all(self.frame.before.trim_end().as_bytes())?;
        }
        out.write_all(self.frame.after.as_bytes())
    }
}
