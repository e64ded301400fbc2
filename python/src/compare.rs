//! Comparisons, as a whole or in parts that other processes train.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use serde::Deserialize;
use serde_json::{Value, json};
use wmic::compare::entry::Sounds;
use wmic::compare::experiment::Experiment;
use wmic::compare::runs::Runs;
use wmic::run::clips::Labels;
use wmic::run::given::Given;
use wmic::{Config, Dataset, Error, Gpu, RunDir, Session, report};

use crate::caller::Caller;
use crate::module::{parsed, text};
use crate::runs::{Keywords, clips, conduct, given};

/// What is compared, and where it is kept.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompareOptions {
    experiment: String,
    dataset: PathBuf,
    seeds: Option<Vec<u64>>,
    out: Option<PathBuf>,
    force: bool,
    device: Option<String>,
    options: Keywords,
}

/// A comparison that is to be carried out.
struct Job {
    experiment: Experiment,
    configs: Vec<Config>,
    out: PathBuf,
    force: bool,
    gpu: Gpu,
}

impl Job {
    fn new(options: &CompareOptions, given: &Given, caller: &Caller) -> wmic::Result<Job> {
        let experiment = Experiment::find(&options.experiment)?;
        let configs = experiment.configs(&options.dataset, options.seeds.as_deref(), given)?;
        let none = Sounds { sounds: vec![], labels: None, front_ends: 1 };
        experiment.pretrainings(&configs, &none)?;
        let out = options.out.clone().map_or_else(|| experiment.default_path(&options.dataset), Ok)?;
        let gpu = Gpu::open(options.device.as_deref())?;
        let tuning = caller.kept_tuning(&gpu);
        let configs = configs.into_iter().map(|config| Config { tuning: tuning.clone(), ..config }).collect();
        Ok(Job { experiment, configs, out, force: options.force, gpu })
    }

    /// `None` if it was stopped.
    fn runs(&self, caller: &Caller) -> wmic::Result<Option<Runs>> {
        let configs = self.configs.iter().map(|config| (config.clone(), None)).collect();
        let mut pretrain = |_: &Gpu, _: &Config, _: &Path| {
            Err(Error::Usage("entries that pre-train their front end need the command: wmic compare".into()))
        };
        let mut load = |gpu: &Gpu, config: &mut Config| clips(gpu, config, Labels::Required, caller);
        let experiment = self.experiment.clone();
        Runs::prepare(&self.gpu, experiment, configs, &self.out, self.force, &mut pretrain, &mut load)
    }

    /// An entry's settings with some of the seeds, and its clips. `None` if it was stopped.
    fn entry(&self, entry: usize, seeds: &[u64], caller: &Caller) -> wmic::Result<Option<(Config, Dataset)>> {
        let mut config = Config { seeds: seeds.to_vec(), ..self.configs[entry].clone() };
        let data = clips(&self.gpu, &mut config, Labels::Required, caller)?;
        Ok(data.map(|data| (config, data)))
    }
}

/// Calls `work` with the comparison of the JSON `options`.
fn with_job<T: serde::Serialize + Send>(
    py: Python,
    (options, progress): (&str, Option<Py<PyAny>>),
    work: impl FnOnce(&Job, &Caller) -> wmic::Result<Option<T>> + Send,
) -> PyResult<Py<PyAny>> {
    let options: CompareOptions = parsed(options)?;
    let (given, caller) = (given(&options.options)?, Caller::new(progress));
    let done = py.detach(|| work(&Job::new(&options, &given, &caller)?, &caller));
    text(py, &caller.completed(done)?)
}

/// (options, progress) -> JSON: {path, comparison, skipped}.
pub fn compare(arguments: &Bound<PyTuple>) -> PyResult<Py<PyAny>> {
    let (options, progress): (String, Option<Py<PyAny>>) = arguments.extract()?;
    with_job(arguments.py(), (&options, progress), |job, caller| {
        let Some(runs) = job.runs(caller)? else { return Ok(None) };
        let open = || Ok(job.gpu.clone());
        let mut train = |_: usize, session: Session, data: &Dataset| conduct(session, data, caller);
        let Some(entries) = runs.train(&job.gpu, &open, &mut train, &mut |_| {})? else { return Ok(None) };
        let skipped = entries.left_out.clone();
        let comparison = runs.compare(&job.gpu, entries)?;
        if let Some(comparison) = &comparison {
            report::comparison::write(&job.out, comparison)?;
        }
        Ok(Some(json!({ "path": job.out, "comparison": comparison, "skipped": skipped })))
    })
}

/// (options, progress) -> JSON: {path, entries: [{entry, label, folder, seeds, ended}]}, all data checked.
pub fn entries(arguments: &Bound<PyTuple>) -> PyResult<Py<PyAny>> {
    let (options, progress): (String, Option<Py<PyAny>>) = arguments.extract()?;
    with_job(arguments.py(), (&options, progress), |job, caller| {
        let Some(runs) = job.runs(caller)? else { return Ok(None) };
        let entries = runs.entries().map(|(entry, folder, ended)| {
            let (label, seeds) = (&job.experiment.entries[entry].label, &job.configs[entry].seeds);
            json!({ "entry": entry, "label": label, "folder": folder, "seeds": seeds, "ended": ended })
        });
        Ok(Some(json!({ "path": job.out, "entries": entries.collect::<Vec<Value>>() })))
    })
}

/// (options, entry, seeds, folder, progress) -> JSON: null. Trains some of the seeds of an entry, or goes on with that.
pub fn block(arguments: &Bound<PyTuple>) -> PyResult<Py<PyAny>> {
    type Given = (String, usize, Vec<u64>, PathBuf, Option<Py<PyAny>>);
    let (options, entry, seeds, folder, progress): Given = arguments.extract()?;
    with_job(arguments.py(), (&options, progress), |job, caller| {
        let Some((config, data)) = job.entry(entry, &seeds, caller)? else { return Ok(None) };
        let session = match RunDir::open(&folder) {
            Ok(run) if run.has_ended() => return Ok(Some(())),
            Ok(_) => Session::resume(&job.gpu, &config, &data, RunDir::reopen(&folder)?)?,
            Err(_) => Session::begin(&job.gpu, &config, &data, &folder, false)?,
        };
        Ok(conduct(session, &data, caller)?.map(drop))
    })
}

/// (options, entry, seeds, folders, folder) -> JSON: null. Makes one run of the blocks of an entry.
pub fn join(arguments: &Bound<PyTuple>) -> PyResult<Py<PyAny>> {
    let (options, entry, seeds, folders, folder): (String, usize, Vec<u64>, Vec<PathBuf>, PathBuf) =
        arguments.extract()?;
    with_job(arguments.py(), (&options, None), |job, caller| {
        let Some((config, data)) = job.entry(entry, &seeds, caller)? else { return Ok(None) };
        let blocks = folders.iter().map(|folder| RunDir::open(folder)).collect::<wmic::Result<Vec<_>>>()?;
        let session = Session::of_blocks(&job.gpu, &config, &data, (&folder, true), &blocks)?;
        Ok(conduct(session, &data, caller)?.map(drop))
    })
}
