//! Recognition results in files: formats, a module each and an entry in the table; and folders of many results.

pub mod archive;
pub mod audacity;
pub mod csv;
pub mod elan;
pub mod format;
pub mod jams;
pub mod json;
pub mod mirex;
pub mod names;
pub mod reaper;

use format::Format;

/// All formats, in the order of help texts.
pub const FORMATS: &[Format] = &[
    json::FORMAT,
    json::LINES,
    csv::FORMAT,
    mirex::FORMAT,
    jams::FORMAT,
    audacity::FORMAT,
    reaper::FORMAT,
    elan::FORMAT,
];

/// The format of that name.
pub fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
