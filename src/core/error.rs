//! The one error type of the library. Each variant carries what a user needs to act: what, where, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::core::numbers::bytes;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An op was given tensors that do not fit together. Raised while a graph is built, never during a step.
    #[error("{op}: expected {expected}, got {got}")]
    Shape { op: &'static str, expected: String, got: String },

    /// A file that cannot be used as it is. `line` is 1-based, for text files.
    #[error("{}{}: {reason}", path.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
    Data { path: PathBuf, line: Option<u64>, reason: String },

    /// The names given for a kernel's bindings differ from those its WGSL declares.
    #[error("kernel {kernel}: {reason}")]
    Binding { kernel: String, reason: String },

    /// WGSL that does not parse or validate, with the source location.
    #[error("shader {file}: {reason}")]
    Shader { file: String, reason: String },

    /// A gradient is needed from an op that does not have one.
    #[error("{op} has no gradient, but one is needed by a trainable parameter below it")]
    NoGradient { op: &'static str },

    /// An op, or a variant of one, that has not been written in ONNX's operators.
    #[error("a model with {op} cannot be exported to ONNX")]
    NoOnnx { op: &'static str },

    /// More than this adapter supports, e.g. in a single allocation or dispatch. Raised before the start.
    #[error("{}; try {advice}", excess(what, unit, *need, *have))]
    Limit { what: String, unit: &'static str, need: u64, have: u64, advice: String },

    /// A weights or run-state file that does not fit its use.
    #[error("{}: {reason}", path.display())]
    Checkpoint { path: PathBuf, reason: String },

    /// The adapter that was asked for is not there.
    #[error("no adapter matches {wanted}; available: {available}")]
    NoAdapter { wanted: String, available: String },

    /// No adapter, a lost device, an out-of-memory or a validation error of the GPU.
    #[error("GPU: {0}")]
    Gpu(String),

    /// An invalid request (an unknown model, an option out of range).
    #[error("{0}")]
    Usage(String),

    /// Training diverged: the loss is not finite.
    #[error(
        "seed {seed} diverged (NaN loss) in step {} of epoch {}; try a lower `lr`{}",
        step + 1,
        epoch + 1,
        if *epoch == 0 { "" } else { " (the best weights so far are saved)" }
    )]
    /// `epoch` and `step` (of the epoch) count from 0; the message counts from 1.
    Diverged { seed: u64, epoch: usize, step: usize },

    /// The error of one entry of a comparison.
    #[error("{label}: {error}")]
    Entry { label: String, error: Box<Error> },

    /// A file could not be read or written.
    #[error("{}: {}", path.display(), plain(source))]
    Io { path: PathBuf, source: io::Error },
}

/// What went wrong with a file, without the number that the operating system has for it; what users meet most is told
/// in the same words on every system.
fn plain(error: &io::Error) -> String {
    match (error.get_ref(), error.kind()) {
        (None, io::ErrorKind::NotFound) => "does not exist".into(),
        (None, io::ErrorKind::PermissionDenied) => "permission denied".into(),
        _ => {
            let text = error.to_string();
            text.split(" (os error ").next().unwrap_or(&text).to_owned()
        }
    }
}

/// The unit of limits on memory.
pub(crate) const BYTES: &str = "bytes";

/// How far something exceeds an adapter's limit: "x needs 134 MiB, this adapter allows 128 MiB".
pub fn excess(what: &str, unit: &str, need: u64, have: u64) -> String {
    match unit {
        BYTES => format!("{what} needs {}, this adapter allows {}", bytes(need), bytes(have)),
        _ => format!("{what} needs {need} {unit}, this adapter allows {have}"),
    }
}

/// Prefix of GPU errors for a lack of memory.
pub(crate) const OUT_OF_MEMORY: &str = "out of memory";

impl Error {
    /// Whether the GPU ran out of memory. The device must then be opened again; smaller jobs may still run.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Error::Gpu(fault) if fault.starts_with(OUT_OF_MEMORY))
    }

    /// The limit is exceeded by what every replica, clip and instance needs a part of.
    pub(crate) fn limit(what: String, unit: &'static str, need: u64, have: u64) -> Self {
        let advice = "fewer `seeds`, a smaller `batch` or shorter clips".into();
        Error::Limit { what, unit, need, have, advice }
    }

    pub fn data(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Error::Data { path: path.as_ref().into(), line: None, reason: reason.into() }
    }

    pub(crate) fn data_at(path: impl AsRef<Path>, line: u64, reason: impl Into<String>) -> Self {
        Error::Data { path: path.as_ref().into(), line: Some(line), reason: reason.into() }
    }

    pub(crate) fn checkpoint(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Error::Checkpoint { path: path.as_ref().into(), reason: reason.into() }
    }

    /// For `map_err`: attaches the path that the failed call was about.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().into();
        move |source| Error::Io { path, source }
    }

    pub fn shape(op: &'static str, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Error::Shape { op, expected: expected.into(), got: got.into() }
    }
}
