//! Training and evaluation.

use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wmic::data::FeatureScale;
use wmic::features::front_end::Source;
use wmic::gpu::Precision;
use wmic::metrics::thresholds::Threshold;
use wmic::predict::run_evaluation::RunEvaluation;
use wmic::predict::trained::Split;
use wmic::run::clips::{Labels, Loading, load_clips};
use wmic::run::given::Given;
use wmic::run::options::option;
use wmic::run::setting;
use wmic::run::settings::SETTINGS;
use wmic::{Config, Dataset, End, Event, Gpu, Outcome, RunDir, Session, report};

use crate::caller::Caller;
use crate::module::{parsed, text};

/// What is trained, and where it is kept.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainOptions {
    dataset: Option<PathBuf>,
    model: Option<String>,
    seeds: Option<Vec<u64>>,
    config: Option<PathBuf>,
    out: Option<PathBuf>,
    force: bool,
    resume: Option<PathBuf>,
    device: Option<String>,
    /// By the names of the command line's options, with underscores.
    options: Keywords,
}

/// The settings that were given by keyword.
pub type Keywords = Map<String, Value>;

/// # Errors
/// ValueError for an unknown setting, and for a value of another type.
pub fn given(keywords: &Keywords) -> PyResult<Given> {
    let mut given = Given::default();
    for (name, value) in keywords {
        let setting = SETTINGS.iter().find(|setting| option(setting.key).replace('-', "_") == *name);
        let Some(setting) = setting else {
            let reason = format!("unknown option {name:?}: wmic.options() lists them");
            return Err(PyValueError::new_err(reason));
        };
        let wrong = |reason: String| PyValueError::new_err(format!("`{name}`: {reason}"));
        let parsed = |value: &Value| match value {
            Value::String(text) => setting.parse(text).map_err(wrong),
            other => setting.parse(&other.to_string()).map_err(wrong),
        };
        match (&setting.value, value) {
            (_, Value::Null) => {}
            (setting::Value::Names(_), Value::Array(items)) => {
                let items = items.iter().map(parsed).collect::<PyResult<Vec<toml::Value>>>()?;
                given.push(setting, items.into());
            }
            (setting::Value::Names(_), one) => given.push(setting, vec![parsed(one)?].into()),
            (_, one) => given.push(setting, parsed(one)?),
        }
    }
    Ok(given)
}

impl TrainOptions {
    fn new_run(&self, given: &Given) -> wmic::Result<Config> {
        let (model, dataset) = (self.model.as_deref(), self.dataset.as_deref());
        given.new_run((model, dataset), self.config.as_deref(), self.seeds.clone())
    }
}

/// (options, progress) -> JSON: {path, evaluation}.
pub fn train(arguments: &Bound<PyTuple>) -> PyResult<Py<PyAny>> {
    let (options, progress): (String, Option<Py<PyAny>>) = arguments.extract()?;
    let (py, caller, options) = (arguments.py(), Caller::new(progress), parsed::<TrainOptions>(&options)?);
    let given = given(&options.options)?;
    let outcome = py.detach(|| trained(&options, &given, &caller));
    text(py, &caller.completed(outcome)?)
}

fn trained(options: &TrainOptions, given: &Given, caller: &Caller) -> wmic::Result<Option<Value>> {
    let (mut config, out, run) = match &options.resume {
        Some(path) => {
            let run = RunDir::reopen(path)?;
            let mut config = run.recogniser_record()?.config;
            config.dataset = options.dataset.clone().unwrap_or(config.dataset);
            (given.relocate(&config)?, path.clone(), Some(run))
        }
        None => {
            let config = options.new_run(given)?;
            let out = options.out.clone().unwrap_or_else(|| RunDir::default_path(&config));
            RunDir::vacant(&out, options.force, &config)?;
            (config, out, None)
        }
    };
    let gpu = Gpu::open(options.device.as_deref())?;
    if run.is_none() {
        config.tuning = caller.kept_tuning(&gpu);
    }
    let Some(data) = clips(&gpu, &mut config, Labels::Required, caller)? else { return Ok(None) };
    let session = match run {
        Some(run) => Session::resume(&gpu, &config, &data, run)?,
        None => Session::begin(&gpu, &config, &data, &out, options.force)?,
    };
    let outcome = conduct(session, &data, caller)?;
    Ok(outcome.map(|outcome| json!({ "path": outcome.run.path(), "evaluation": outcome.evaluation })))
}

/// Trains a run to its end, evaluates it and writes its report. `None` if it was stopped.
pub fn conduct(mut session: Session, data: &Dataset, caller: &Caller) -> wmic::Result<Option<Outcome>> {
    let epochs = session.config().epochs;
    let mut epoch = session.epochs_done();
    let end = session.train(&|| caller.is_stopped(), &mut |event| match event {
        Event::Epoch { rows, clips_per_s } => {
            epoch += 1;
            let info = json!({ "rows": rows, "clips_per_s": clips_per_s });
            caller.report("epochs", epoch, epochs, &info);
        }
        Event::Grown { done, of } => caller.report("forests", done, of, &Value::Null),
        _ => {}
    })?;
    if end == End::Interrupted {
        return Ok(None);
    }
    let outcome = session.finish()?;
    report::write(&outcome, data)?;
    Ok(Some(outcome))
}

/// On what a run is evaluated, and how.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EvaluateOptions {
    run: PathBuf,
    dataset: PathBuf,
    features: Option<PathBuf>,
    feature_scale: Option<FeatureScale>,
    frontend_weights: Option<Source>,
    split: Split,
    threshold: Option<Threshold>,
    arithmetic: Option<Precision>,
    force: bool,
    device: Option<String>,
}

/// (options, progress) -> JSON: {evaluation, notes}.
pub fn evaluate(arguments: &Bound<PyTuple>) -> PyResult<Py<PyAny>> {
    let (options, progress): (String, Option<Py<PyAny>>) = arguments.extract()?;
    let (py, caller, options) = (arguments.py(), Caller::new(progress), parsed::<EvaluateOptions>(&options)?);
    let evaluated = py.detach(|| {
        let EvaluateOptions {
            run,
            dataset,
            features,
            feature_scale,
            frontend_weights,
            split,
            threshold,
            arithmetic: precision,
            force,
            device,
        } = options;
        let run = RunDir::open(&run)?;
        let gpu = Gpu::open(device.as_deref())?;
        let mut notes: Vec<String> = vec![];
        let front_end = frontend_weights;
        let evaluation =
            RunEvaluation { dataset, features, feature_scale, front_end, split, threshold, precision, force };
        let mut load = |config: &mut Config| clips(&gpu, config, Labels::Any, &caller);
        let evaluation = evaluation.of(&gpu, &run, &mut load, &mut |line| notes.push(line.into()))?;
        Ok(evaluation.map(|evaluation| json!({ "evaluation": evaluation, "notes": notes })))
    });
    text(py, &caller.completed(evaluated)?)
}

/// Loads the clips of a run, see [`load_clips`].
pub fn clips(gpu: &Gpu, config: &mut Config, labels: Labels, caller: &Caller) -> wmic::Result<Option<Dataset>> {
    load_clips(gpu, config, labels, &|| caller.is_stopped(), &mut |event| match event {
        Loading::Files { done, of } => caller.report("files", done, of, &Value::Null),
        Loading::Notes { done, of } => caller.report("notes", done, of, &Value::Null),
        Loading::Fault(line) => caller.report("fault", 0, 0, &json!(line)),
    })
}
