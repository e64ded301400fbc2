//! The lines of a journal.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::core::hash::Fingerprint;
use crate::output::json::micro;
use crate::predict::recognition::{Instrument, Recognition};

/// The first line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    /// All that determines the results, apart from the recordings.
    pub settings: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
}

/// A line for a recording.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    pub source: Source,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A recording as it was when its recognition began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Source {
    pub file: Name,
    /// Bytes, and nanoseconds since 1970; `None` for what is not a file.
    pub size: Option<u64>,
    pub modified: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub(super) enum Outcome {
    Done {
        /// Below the folder; `None` for the file of all recordings.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Name>,
        #[serde(flatten)]
        record: Record,
        #[serde(flatten)]
        result: Findings,
    },
    Failed {
        error: String,
    },
}

/// What was written for a recording: a file, or its part of the file of all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub bytes: u64,
    pub fingerprint: u64,
}

impl Record {
    pub fn of(bytes: &[u8]) -> Record {
        let mut fingerprint = Fingerprint::default();
        fingerprint.mix_bytes(bytes);
        Record { bytes: bytes.len() as u64, fingerprint: fingerprint.finish() }
    }
}

/// What the summary needs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Findings {
    /// Seconds.
    pub duration: f64,
    /// Seconds that each present instrument plays.
    pub present: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
}

/// A path: text, or its bytes if it is not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Name {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&Path> for Name {
    fn from(path: &Path) -> Name {
        match path.to_str() {
            Some(text) => Name::Text(text.into()),
            None => Name::Bytes(path.as_os_str().as_encoded_bytes().into()),
        }
    }
}

impl Name {
    pub fn path(&self) -> PathBuf {
        match self {
            Name::Text(text) => text.into(),
            #[cfg(unix)]
            Name::Bytes(bytes) => <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes).into(),
            #[cfg(not(unix))]
            Name::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned().into(),
        }
    }
}

impl Source {
    pub fn of(file: &Path) -> Source {
        let about = fs::metadata(file).ok().filter(|about| about.is_file());
        let nanoseconds = |about: &fs::Metadata| {
            let time = about.modified().ok()?;
            let since = match time.duration_since(UNIX_EPOCH) {
                Ok(after) => after.as_nanos() as i128,
                Err(before) => -(before.duration().as_nanos() as i128),
            };
            i64::try_from(since).ok()
        };
        Source {
            file: file.into(),
            size: about.as_ref().map(fs::Metadata::len),
            modified: about.as_ref().and_then(nanoseconds),
        }
    }

    /// Whether the file exists, so that an equal source has the same content, as far as size and time tell.
    pub fn is_file(&self) -> bool {
        self.size.is_some()
    }
}

impl Findings {
    pub fn of(r: &Recognition) -> Findings {
        let seconds = |i: &Instrument| i.segments.iter().map(|s| s.end - s.start).sum();
        let present = r.instruments.iter().filter(|i| i.present);
        Findings {
            duration: micro(r.duration),
            present: present.map(|i| (i.name.clone(), micro(seconds(i)))).collect(),
            warnings: r.condition.warnings.clone(),
            damaged: r.condition.damaged,
        }
    }
}
