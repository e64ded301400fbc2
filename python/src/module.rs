//! The module `wmic._native` and its functions.

use std::cell::RefCell;
use std::ffi::CStr;
use std::ptr;

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyModule, PyTuple};
use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
use serde_json::{Map, Value, json};
use wmic::Gpu;
use wmic::check::{Row, list};
use wmic::gpu::{adapters, preferred};
use wmic::run::options::option;
use wmic::run::settings::SETTINGS;

use crate::caller::{Caller, DeviceError, raised};
use crate::{compare, predict, runs};

/// A function of the module: its arguments, to a Python object.
pub type Function = fn(&Bound<PyTuple>) -> PyResult<Py<PyAny>>;

const FUNCTIONS: [(&CStr, Function); 10] = [
    (c"load", predict::load),
    (c"train", runs::train),
    (c"evaluate", runs::evaluate),
    (c"compare", compare::compare),
    (c"compare_entries", compare::entries),
    (c"compare_block", compare::block),
    (c"compare_join", compare::join),
    (c"options", options),
    (c"devices", devices),
    (c"check", check),
];

static mut DEFINITION: ffi::PyModuleDef = ffi::PyModuleDef {
    m_base: ffi::PyModuleDef_HEAD_INIT,
    m_name: c"wmic._native".as_ptr(),
    m_doc: ptr::null(),
    m_size: -1,
    m_methods: ptr::null_mut(),
    m_slots: ptr::null_mut(),
    m_traverse: None,
    m_clear: None,
    m_free: None,
};

/// Called by Python's import.
///
/// # Safety
/// As Python calls it, with the GIL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PyInit__native() -> *mut ffi::PyObject {
    // SAFETY: imports hold the GIL, and the definition is used here alone.
    let (py, module) = unsafe { (Python::assume_attached(), ffi::PyModule_Create(&raw mut DEFINITION)) };
    // SAFETY: a new reference, or null with an exception set.
    let module = unsafe { Bound::from_owned_ptr_or_err(py, module) };
    match module.and_then(|module| filled(&module.cast_into::<PyModule>()?)) {
        Ok(module) => module.into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

fn filled<'py>(module: &Bound<'py, PyModule>) -> PyResult<Bound<'py, PyModule>> {
    for (name, function) in FUNCTIONS {
        module.add(name.to_str().expect("a name in ASCII"), callable(module.py(), name, function)?)?;
    }
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("DeviceError", module.py().get_type::<DeviceError>())?;
    Ok(module.clone())
}

/// A Python function.
pub fn callable<'py>(
    py: Python<'py>,
    name: &'static CStr,
    function: impl Fn(&Bound<PyTuple>) -> PyResult<Py<PyAny>> + Send + Sync + 'static,
) -> PyResult<Bound<'py, PyCFunction>> {
    PyCFunction::new_closure(py, Some(name), None, move |arguments, _| function(arguments))
}

/// The options of a call, from an object.
///
/// # Errors
/// ValueError for a value of another type, with its name, and for an unknown option.
pub fn parsed<T: DeserializeOwned>(json: &str) -> PyResult<T> {
    let wrong = |error: serde_json::Error| PyValueError::new_err(error.to_string());
    let options: Map<String, Value> = serde_json::from_str(json).map_err(wrong)?;
    let option = RefCell::new(String::new());
    let options = options.into_iter().inspect(|(name, _)| option.borrow_mut().clone_from(name));
    T::deserialize(MapDeserializer::new(options)).map_err(|error: serde_json::Error| {
        let mut reason = error.to_string();
        for (name, words) in [("f32", "a number"), ("f64", "a number"), ("u64", "a whole number, 0 or above")] {
            reason = reason.replace(&format!("expected {name}"), &format!("expected {words}"));
        }
        PyValueError::new_err(format!("`{}`: {reason}", option.borrow()))
    })
}

/// JSON text, as a Python string.
pub fn text(py: Python, value: &impl serde::Serialize) -> PyResult<Py<PyAny>> {
    let text = serde_json::to_string(value).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(text.into_pyobject(py)?.into_any().unbind())
}

/// () -> JSON: what can be set in a training, by keyword.
fn options(arguments: &Bound<PyTuple>) -> PyResult<Py<PyAny>> {
    let options = SETTINGS.iter().map(|setting| {
        let name = option(setting.key).replace('-', "_");
        json!({ "name": name, "about": setting.help, "default": setting.default(), "group": setting.group.title() })
    });
    text(arguments.py(), &options.collect::<Vec<Value>>())
}

/// () -> JSON: the adapters.
fn devices(arguments: &Bound<PyTuple>) -> PyResult<Py<PyAny>> {
    let py = arguments.py();
    let adapters = py.detach(adapters).map_err(raised)?;
    let used = preferred(&adapters).map(|adapter| adapter.index);
    let each = adapters.iter().map(|adapter| {
        let mut each = json!(adapter);
        each["used"] = (Some(adapter.index) == used).into();
        each
    });
    text(py, &each.collect::<Vec<Value>>())
}

/// (op, device, progress) -> JSON: the outcome of each check.
fn check(arguments: &Bound<PyTuple>) -> PyResult<Py<PyAny>> {
    let (op, device, progress): (Option<String>, Option<String>, Option<Py<PyAny>>) = arguments.extract()?;
    let (py, caller) = (arguments.py(), Caller::new(progress));
    let rows = py.detach(|| {
        let ops = wmic::ops::select(op.as_deref())?;
        let gpu = Gpu::open(device.as_deref())?;
        let checks = list(&ops, gpu.adapter())?;
        let mut rows = vec![];
        for (i, check) in checks.iter().enumerate() {
            if caller.is_stopped() {
                break;
            }
            rows.extend(check.run(&gpu).map(Row::from));
            caller.report("checks", i + 1, checks.len(), &Value::Null);
        }
        Ok(rows)
    });
    text(py, &caller.result(rows)?)
}
