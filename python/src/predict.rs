//! Models and their results.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyTuple};
use serde::Deserialize;
use wmic::data::FeatureScale;
use wmic::features::audio_files::ExtractionJob;
use wmic::features::front_end::Source;
use wmic::gpu::Precision;
use wmic::metrics::thresholds::Threshold;
use wmic::nn::front_ends::vggish::Width;
use wmic::output::format::Detail;
use wmic::output::{jams, json};
use wmic::predict::bundled::Parts;
use wmic::predict::mixture::Mixture;
use wmic::predict::models::Models;
use wmic::predict::recogniser::{Aggregate, Options, Segmentation, recognise_clips};
use wmic::predict::recognition::Recognition;
use wmic::{Error, Gpu, Recogniser};

use crate::caller::{Caller, raised};
use crate::module::{callable, parsed};

/// Options of `load`, those of `wmic predict`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadOptions {
    device: Option<String>,
    frontend: Option<Parts>,
    frontend_weights: Option<Source>,
    width: Option<Width>,
    pca: Option<PathBuf>,
    threshold: Option<Threshold>,
    arithmetic: Option<Precision>,
    calibrate: bool,
    hop: Option<f64>,
    aggregate: Option<Aggregate>,
    gate: Option<f32>,
    keep_unreliable: bool,
    min_duration: Option<f64>,
    median: Option<f64>,
}

/// Trained models on a GPU.
struct Model {
    gpu: Gpu,
    mixture: Mixture,
    options: Options,
    /// Made for the first recording: features can be predicted without a front end.
    recogniser: Mutex<Option<Recogniser>>,
}

impl Model {
    fn new(runs: &[PathBuf], given: LoadOptions, caller: &Caller) -> wmic::Result<Model> {
        let mut models = Models::load(runs, given.frontend)?;
        if let Some(weights) = &given.frontend_weights {
            models.locate_front_end(weights, given.width, given.pca.as_ref())?;
        }
        let mut mixture = models.mixture;
        given.threshold.map_or(Ok(()), |level| mixture.set_threshold(level))?;
        mixture.set_calibrated(given.calibrate);
        let usual = Segmentation::default();
        let segmentation = Segmentation {
            min_duration: given.min_duration.unwrap_or(usual.min_duration),
            median: given.median.unwrap_or(usual.median),
        };
        let options = Options {
            hop: given.hop,
            aggregate: given.aggregate,
            gate: given.gate,
            keep_unreliable: given.keep_unreliable,
            segmentation,
            spectrogram: false,
        };
        mixture.models().try_for_each(|model| options.check(model))?;
        let gpu = Gpu::open(given.device.as_deref())?;
        mixture.set_kernels(caller.kept_tuning(&gpu).as_ref(), given.arithmetic);
        Ok(Model { gpu, mixture, options, recogniser: Mutex::new(None) })
    }

    fn with_recogniser<T>(&self, work: impl FnOnce(&mut Recogniser) -> wmic::Result<T>) -> wmic::Result<T> {
        // A call that panicked has left it half-used.
        let mut recogniser = self.recogniser.lock().unwrap_or_else(|poisoned| {
            self.recogniser.clear_poison();
            let mut recogniser = poisoned.into_inner();
            *recogniser = None;
            recogniser
        });
        match &mut *recogniser {
            Some(recogniser) => work(recogniser),
            none => work(none.insert(Recogniser::new(&self.gpu, self.mixture.clone(), self.options)?)),
        }
    }
}

/// (runs, options) -> {name, classes, device, and functions of the model}.
pub fn load(arguments: &Bound<PyTuple>) -> PyResult<Py<PyAny>> {
    let (runs, options): (Vec<PathBuf>, String) = arguments.extract()?;
    let (py, options, caller) = (arguments.py(), parsed(&options)?, Caller::new(None));
    let model = py.detach(|| Model::new(&runs, options, &caller));
    let model = Arc::new(caller.result(model)?);
    let native = PyDict::new(py);
    native.set_item("name", &model.mixture.name)?;
    native.set_item("classes", &model.mixture.leader().about.classes)?;
    native.set_item("device", &model.gpu.adapter().name)?;
    let of = model.clone();
    native.set_item("files", callable(py, c"files", move |arguments| files(&of, arguments))?)?;
    let of = model.clone();
    native.set_item("samples", callable(py, c"samples", move |arguments| samples(&of, arguments))?)?;
    let of = model.clone();
    native.set_item("features", callable(py, c"features", move |arguments| features(&of, arguments))?)?;
    native.set_item("embed", callable(py, c"embed", move |arguments| embed(&model, arguments))?)?;
    Ok(native.into_any().unbind())
}

/// (paths, skip, progress) -> [result, or the text of an error if those are skipped].
fn files(model: &Model, arguments: &Bound<PyTuple>) -> PyResult<Py<PyAny>> {
    let (paths, skip, progress): (Vec<PathBuf>, bool, Option<Py<PyAny>>) = arguments.extract()?;
    let (py, caller) = (arguments.py(), Caller::new(progress));
    let results = py.detach(|| {
        model.with_recogniser(|recogniser| {
            let mut results: Vec<Result<Recognition, String>> = vec![];
            let all = recogniser.recognise_files(&paths, &|| caller.is_stopped(), &mut |n, recognised| {
                results.push(match recognised {
                    Ok(recognised) => Ok(recognised.recognition),
                    Err(error @ (Error::Data { .. } | Error::Io { .. })) if skip => Err(error.to_string()),
                    Err(error) => return Err(error),
                });
                caller.report("recordings", n + 1, paths.len(), &serde_json::Value::Null);
                Ok(())
            })?;
            Ok(all.then_some(results))
        })
    });
    let list = PyList::empty(py);
    for result in caller.completed(results)? {
        match result {
            Ok(recognition) => list.append(result_of(py, &recognition)?)?,
            Err(error) => list.append(error)?,
        }
    }
    Ok(list.into_any().unbind())
}

/// (f32 samples, sr) -> result.
fn samples(model: &Model, arguments: &Bound<PyTuple>) -> PyResult<Py<PyAny>> {
    let (samples, sr): (Bound<PyBytes>, u32) = arguments.extract()?;
    let samples = samples.as_bytes().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (py, samples) = (arguments.py(), samples.collect::<Vec<f32>>());
    let recognised = py.detach(|| model.with_recogniser(|recogniser| recogniser.recognise(&samples, sr)));
    Ok(result_of(py, &recognised.map_err(raised)?.recognition)?.into_any().unbind())
}

/// How features are read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeatureOptions {
    feature_scale: Option<FeatureScale>,
}

/// (file of features, options) -> [result].
fn features(model: &Model, arguments: &Bound<PyTuple>) -> PyResult<Py<PyAny>> {
    let (path, options): (PathBuf, String) = arguments.extract()?;
    let (py, FeatureOptions { feature_scale: scale }) = (arguments.py(), parsed(&options)?);
    let results = py.detach(|| {
        let (trained, mut results) = (model.mixture.leader(), vec![]);
        if model.mixture.models().count() > 1 {
            let reason = "has features of one kind: several models, as the bundled one has, need audio";
            return Err(Error::data(&path, reason));
        }
        let (keys, features, _) = trained.load_features(&path, scale)?;
        recognise_clips(&model.gpu, trained, &keys, &features, &model.options, &mut |recognition| {
            results.push(recognition);
            Ok(())
        })?;
        Ok(results)
    });
    let list = PyList::empty(py);
    for recognition in results.map_err(raised)? {
        list.append(result_of(py, &recognition)?)?;
    }
    Ok(list.into_any().unbind())
}

/// (path) -> (f32 of the first model's features, values of an instance).
fn embed(model: &Model, arguments: &Bound<PyTuple>) -> PyResult<Py<PyAny>> {
    let (path,): (PathBuf,) = arguments.extract()?;
    let (py, caller) = (arguments.py(), Caller::new(None));
    let features = py.detach(|| {
        let mut feature_config = model.mixture.leader().feature_config()?;
        let weights = feature_config.load()?;
        let mut job = ExtractionJob {
            gpu: &model.gpu,
            feature_config: &feature_config,
            weights: weights.as_ref(),
            stop: &|| caller.is_stopped(),
            progress: &mut |_| {},
        };
        job.recording(&path)
    });
    let features = caller.completed(features)?;
    let width = features.dims()[1];
    let bytes = array(py, features.data(), |v: &f32| v.to_le_bytes());
    Ok((bytes, width).into_pyobject(py)?.into_any().unbind())
}

/// The fields of a result.
fn result_of<'py>(py: Python<'py>, r: &Recognition) -> PyResult<Bound<'py, PyDict>> {
    let of = |value: fn(&wmic::predict::recognition::Instrument) -> f64| {
        let values: Vec<f64> = r.instruments.iter().map(value).collect();
        array(py, &values, |v| v.to_le_bytes())
    };
    let fields = PyDict::new(py);
    fields.set_item("file", &r.file)?;
    fields.set_item("duration", r.duration)?;
    fields.set_item("model", &r.model)?;
    fields.set_item("seeds", &r.seeds)?;
    fields.set_item("warnings", &r.condition.warnings)?;
    fields.set_item("distance", r.distance)?;
    fields.set_item("summary", r.summary())?;
    fields.set_item("classes", r.instruments.iter().map(|i| i.name.as_str()).collect::<Vec<_>>())?;
    fields.set_item("probabilities", of(|i| i.probability))?;
    fields.set_item("spread", of(|i| i.spread.unwrap_or(f64::NAN)))?;
    fields.set_item("thresholds", of(|i| i.threshold.unwrap_or(f64::NAN)))?;
    fields.set_item("present", array(py, &r.instruments, |i| [u8::from(i.present)]))?;
    let mut segments: Vec<(&str, f64, f64, f64)> = vec![];
    for instrument in r.ranked() {
        segments.extend(instrument.segments.iter().map(|s| (instrument.name.as_str(), s.start, s.end, s.confidence)));
    }
    segments.sort_by(|a, b| a.1.total_cmp(&b.1));
    fields.set_item("segments", segments)?;
    fields.set_item("cell", r.cell)?;
    let by_cell = |of: fn(&wmic::predict::recognition::Instrument) -> Option<&[f32]>| {
        let rows: Option<Vec<&[f32]>> = r.instruments.iter().map(of).collect();
        rows.map(|rows| {
            let cells = rows.first().map_or(0, |row| row.len());
            let values: Vec<f32> = (0..cells).flat_map(|cell| rows.iter().map(move |row| row[cell])).collect();
            array(py, &values, |v| v.to_le_bytes())
        })
    };
    fields.set_item("timeline", by_cell(|i| Some(&i.activity)))?;
    fields.set_item("attention", by_cell(|i| i.attention.as_deref()))?;
    let written = |write: &dyn Fn(&mut Vec<u8>) -> std::io::Result<()>| {
        let mut text = vec![];
        write(&mut text).map_err(|source| raised(Error::io("memory")(source)))?;
        Ok::<String, PyErr>(String::from_utf8_lossy(&text).into_owned())
    };
    fields.set_item("json", written(&|out| json::write_line(out, r, Detail::default()))?)?;
    fields.set_item("jams", written(&|out| jams::write(out, r))?)?;
    Ok(fields)
}

/// Little-endian bytes that numpy can use as they are, and write to.
fn array<'py, T, const N: usize>(
    py: Python<'py>,
    values: &[T],
    bytes: impl Fn(&T) -> [u8; N],
) -> Bound<'py, PyByteArray> {
    PyByteArray::new(py, &values.iter().flat_map(bytes).collect::<Vec<u8>>())
}
