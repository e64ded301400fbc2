//! Who waits for a long call: errors as exceptions, progress, and Ctrl-C.

use std::ffi::CString;
use std::io::ErrorKind;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pyo3::create_exception;
use pyo3::exceptions::{
    PyFileNotFoundError, PyKeyboardInterrupt, PyOSError, PyPermissionError, PyUserWarning, PyValueError,
};
use pyo3::prelude::*;
use serde_json::Value;
use wmic::run::options::{option, rename};
use wmic::run::tuning::Tuning;
use wmic::{Error, Gpu};

create_exception!(
    wmic,
    DeviceError,
    PyOSError,
    "There is no such GPU, or it has failed. What was computed on it is lost: load the model again."
);

/// Signals are looked for this often.
const EVERY: Duration = Duration::from_millis(50);

/// The caller of a function that takes long.
pub struct Caller {
    /// Called with what is counted, the number done and that of all, and JSON.
    progress: Option<Py<PyAny>>,
    state: Mutex<State>,
}

struct State {
    checked: Instant,
    /// What ends the call: KeyboardInterrupt, or an exception of `progress`.
    raised: Option<PyErr>,
}

impl Caller {
    pub fn new(progress: Option<Py<PyAny>>) -> Caller {
        Caller { progress, state: Mutex::new(State { checked: Instant::now(), raised: None }) }
    }

    /// Whether the call is to end. The lock is never held while the GIL is waited for.
    pub fn is_stopped(&self) -> bool {
        let mut state = self.state.lock().expect("not poisoned");
        if state.raised.is_some() || state.checked.elapsed() < EVERY {
            return state.raised.is_some();
        }
        state.checked = Instant::now();
        drop(state);
        self.keep(Python::attach(|py| py.check_signals()))
    }

    pub fn report(&self, what: &str, done: usize, of: usize, info: &Value) {
        let has_raised = self.state.lock().expect("not poisoned").raised.is_some();
        if let Some(progress) = self.progress.as_ref().filter(|_| !has_raised) {
            let call = |py: Python| progress.call1(py, (what, done, of, info.to_string())).map(drop);
            self.keep(Python::attach(call));
        }
    }

    /// The tilings that `wmic tune` keeps for the GPU, for new runs and predictions; a damaged file is warned of.
    pub fn kept_tuning(&self, gpu: &Gpu) -> Option<Tuning> {
        Tuning::usable(gpu.adapter(), &mut |line| {
            let text = CString::new(line.trim_start_matches("warning: ").replace('\0', " ")).expect("without NUL");
            self.keep(Python::attach(|py| PyErr::warn(py, &py.get_type::<PyUserWarning>(), &text, 1)));
        })
    }

    /// Keeps an exception, and returns whether there has been any.
    fn keep(&self, result: PyResult<()>) -> bool {
        let mut state = self.state.lock().expect("not poisoned");
        if let (None, Err(error)) = (&state.raised, result) {
            state.raised = Some(error);
        }
        state.raised.is_some()
    }

    /// The end of the call: what has ended it early, else its own result.
    pub fn result<T>(self, result: wmic::Result<T>) -> PyResult<T> {
        match self.state.into_inner().expect("not poisoned").raised {
            Some(error) => Err(error),
            None => result.map_err(raised),
        }
    }

    /// As [`Caller::result`], of a task that has no result if it was stopped.
    pub fn completed<T>(self, result: wmic::Result<Option<T>>) -> PyResult<T> {
        self.result(result)?.ok_or_else(|| PyKeyboardInterrupt::new_err(()))
    }
}

/// An error as an exception, with keyword arguments in place of the settings that the library names.
pub fn raised(error: Error) -> PyErr {
    let mut cause = &error;
    while let Error::Entry { error, .. } = cause {
        cause = error;
    }
    let is_of_run = matches!(cause, Error::Checkpoint { .. });
    let keyword = |key: &str| format!("`{}`", option(key).replace('-', "_"));
    let text = if is_of_run { error.to_string() } else { rename(error.to_string(), &keyword) };
    match cause {
        Error::Io { source, .. } => match source.kind() {
            ErrorKind::NotFound => PyFileNotFoundError::new_err(text),
            ErrorKind::PermissionDenied => PyPermissionError::new_err(text),
            _ => PyOSError::new_err(text),
        },
        Error::Gpu(_) | Error::NoAdapter { .. } => DeviceError::new_err(text),
        _ => PyValueError::new_err(text),
    }
}
