//! The runs of an experiment, one per entry: checked, begun or resumed, trained one after the other, and compared.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::compare::comparison::{ComparedRun, Comparison};
use crate::compare::entries::{self, Entries};
use crate::compare::entry::Entry;
use crate::compare::experiment::Experiment;
use crate::compare::test_predictions::TestPredictions;
use crate::core::error::{Error, Result};
use crate::core::files::{create_directories, is_leftover, try_lock_directory, write_atomic};
use crate::data::{Dataset, FeatureScale, has_class_map};
use crate::features::front_end::{FrontEnd, Source};
use crate::gpu::Gpu;
use crate::metrics::evaluation::Evaluation;
use crate::nn::FeatureKind;
use crate::run::config::Config;
use crate::run::run_dir::RunDir;
use crate::run::setting::remove;
use crate::run::settings::SETTINGS;
use crate::train::session::{Outcome, Session, same_data};

/// Copy of the experiment's file; it marks the directory as a comparison.
const EXPERIMENT: &str = "experiment.toml";
/// Folder of the runs of pre-training.
const PRETRAINED: &str = "pretrained";

/// The runs of an experiment in a directory, which is locked until this is dropped.
pub struct Runs {
    experiment: Experiment,
    runs: Vec<PendingRun>,
    datasets: Datasets,
    /// Skipped entries: label and reason.
    left_out: Vec<String>,
    /// Whether runs are replaced.
    force: bool,
    _lock: Option<File>,
}

/// An entry of the experiment and the state of its run.
struct PendingRun {
    entry: Entry,
    /// Complete, with the front end of its features.
    config: Config,
    path: PathBuf,
    state: RunState,
    /// Index into the loaded datasets.
    data: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RunState {
    New,
    /// Interrupted.
    Begun,
    Ended,
}

/// What happens to an entry, by its index.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    Starts {
        entry: usize,
    },
    Resumes {
        entry: usize,
    },
    /// Trained and evaluated, now or by an earlier call.
    Ended {
        entry: usize,
        evaluation: &'a Evaluation,
    },
}

/// Pre-trains with these settings in a folder of the given one, if that is not done; gives each seed's front end,
/// `None` to stop.
pub type Pretrain<'a> = dyn FnMut(&Gpu, &Config, &Path) -> Result<Option<Vec<PathBuf>>> + 'a;

/// Loads the clips of a run and completes its settings; `None` to stop.
pub(crate) type Load<'a> = dyn FnMut(&Gpu, &mut Config) -> Result<Option<Dataset>> + 'a;

/// Trains the run of an entry to its end, and writes its report; `None` to stop.
pub type Train<'a> = dyn FnMut(usize, Session, &Dataset) -> Result<Option<Outcome>> + 'a;

impl Runs {
    /// Checks all settings and data of the `experiment`, before anything is trained but the front ends of its entries.
    /// `configs`: of its entries and of their pre-training, see [`Experiment::configs`] and
    /// [`Experiment::pretrainings`]. Runs are in folders of `out`; those of an earlier call with the same settings are
    /// continued, or with `force` replaced; pre-trained front ends are reused. An entry that names weights which the
    /// user has not added is skipped, and one whose front end cannot be trained. `None` if `pretrain` or `load`
    /// stopped.
    ///
    /// # Errors
    /// `Usage` if `out` has anything but this comparison, or runs of other settings; `Data`, naming the entry, if its
    /// data are damaged or of another kind, or have changed since.
    pub fn prepare(
        gpu: &Gpu,
        experiment: Experiment,
        configs: Vec<(Config, Option<Config>)>,
        out: &Path,
        force: bool,
        pretrain: &mut Pretrain,
        load: &mut Load,
    ) -> Result<Option<Runs>> {
        create_directories(out, || {
            let lock = lock(out)?;
            if !force {
                same_experiment(&experiment, out)?;
            }
            let mut datasets = Datasets::default();
            let (mut runs, mut left_out) = (vec![], vec![]);
            for (entry, (mut config, pretraining)) in experiment.entries.iter().zip(configs) {
                let missing = || config.front_end.as_ref().and_then(FrontEnd::missing);
                if let Some(reason) = entry.has_weights().then(missing).flatten() {
                    left_out.push(format!("{}: {reason}", entry.label));
                    continue;
                }
                let wrong = |e: Error| experiment.error(entry, &e);
                if let Some(pretraining) = pretraining {
                    let files = match pretrain(gpu, &pretraining, &out.join(PRETRAINED)) {
                        // As an entry that cannot be trained, see `entries::each`.
                        Err(error @ (Error::Diverged { .. } | Error::Limit { .. })) => {
                            left_out.push(format!("{}: {error}", entry.label));
                            continue;
                        }
                        files => files.map_err(wrong)?,
                    };
                    let Some(files) = files else { return Ok(None) };
                    let front_end = config.front_end.as_mut().expect("an entry that pre-trains has a front end");
                    front_end.weights = Source::File(files[entry.front_end].clone());
                }
                let Some(data) = datasets.load(gpu, &mut config, load).map_err(wrong)? else { return Ok(None) };
                let clips = datasets.of(data);
                config.accepts(clips.features.width).map_err(wrong)?;
                let path = out.join(entry.folder());
                let state = if force { RunState::New } else { state(&path, &config, clips)? };
                if state == RunState::New {
                    RunDir::vacant(&path, force, &config)?;
                }
                runs.push(PendingRun { entry: entry.clone(), config, path, state, data });
            }
            write_atomic(out.join(EXPERIMENT), |file| file.write_all(experiment.text.as_bytes()))?;
            Ok(Some(Runs { experiment, runs, datasets, left_out, force, _lock: lock }))
        })
    }

    /// The entries: their indices in the experiment, their folders, and whether their runs have ended.
    pub fn entries(&self) -> impl Iterator<Item = (usize, &Path, bool)> {
        self.runs.iter().map(|run| {
            let of = self.experiment.entries.iter().position(|entry| entry.label == run.entry.label);
            (of.expect("an entry of the experiment"), run.path.as_path(), run.state == RunState::Ended)
        })
    }

    /// Labels of the entries.
    pub fn labels(&self) -> Vec<&str> {
        self.runs.iter().map(|run| run.entry.label.as_str()).collect()
    }

    /// Epochs of the entries. A forest has none; it counts as one.
    pub fn epochs(&self) -> Vec<usize> {
        let epochs = |config: &Config| if config.has_setting("epochs") { config.epochs } else { 1 };
        self.runs.iter().map(|run| epochs(&run.config)).collect()
    }

    /// Trains the entries that have not ended, in order, see [`entries::each`]; those that it gives as skipped include
    /// the ones without weights. `None` if `train` stopped.
    ///
    /// # Errors
    /// The first error that is not of one entry alone, with its label.
    pub fn train(
        &self,
        gpu: &Gpu,
        open: &dyn Fn() -> Result<Gpu>,
        train: &mut Train,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<Entries<Evaluation>>> {
        let entries =
            entries::each(&self.labels(), gpu, open, &mut |gpu, i| self.train_entry(gpu, i, train, progress))?;
        Ok(entries.map(|Entries { ended, left_out }| Entries {
            ended,
            left_out: self.left_out.iter().cloned().chain(left_out).collect(),
        }))
    }

    fn train_entry(
        &self,
        gpu: &Gpu,
        i: usize,
        train: &mut Train,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<Evaluation>> {
        let PendingRun { config, path, state, data, .. } = &self.runs[i];
        let data = self.datasets.of(*data);
        let session = match state {
            RunState::Ended => {
                let run = RunDir::open(path)?;
                let evaluation = run.evaluation()?;
                // Saved now, so that they survive an interruption as the run does.
                TestPredictions::of(gpu, &run, data, &evaluation)?;
                progress(Progress::Ended { entry: i, evaluation: &evaluation });
                return Ok(Some(evaluation));
            }
            RunState::New => {
                progress(Progress::Starts { entry: i });
                Session::begin(gpu, config, data, path, self.force)?
            }
            RunState::Begun => {
                progress(Progress::Resumes { entry: i });
                Session::resume(gpu, config, data, RunDir::reopen(path)?)?
            }
        };
        let Some(outcome) = train(i, session, data)? else { return Ok(None) };
        let Outcome { run, record, predictions, thresholds, evaluation, .. } = outcome;
        TestPredictions::store(&run, data, &record.config.seeds, &predictions, &thresholds)?;
        progress(Progress::Ended { entry: i, evaluation: &evaluation });
        Ok(Some(evaluation))
    }

    /// Compares the entries that have ended; `None` if some were skipped and less than two are left.
    ///
    /// # Errors
    /// As [`Comparison::new`]; `Checkpoint` for damaged files of a run.
    pub fn compare(self, gpu: &Gpu, entries: Entries<Evaluation>) -> Result<Option<Comparison>> {
        let Entries { ended, left_out } = entries;
        if !left_out.is_empty() && ended.len() < 2 {
            return Ok(None);
        }
        let (mut runs, mut predictions) = (vec![], vec![]);
        let first = self.datasets.of(self.runs[ended[0].0].data);
        for (i, evaluation) in ended {
            let PendingRun { entry, config, path, data, .. } = &self.runs[i];
            predictions.push(TestPredictions::of(gpu, &RunDir::open(path)?, self.datasets.of(*data), &evaluation)?);
            let (folder, Entry { label, reported, .. }) = (entry.folder(), entry.clone());
            runs.push(ComparedRun { label, folder, reported, settings: config.clone(), evaluation });
        }
        Comparison::new(self.experiment, runs, left_out, &predictions, first).map(Some)
    }
}

/// Locks the directory, which must be empty or a comparison.
fn lock(out: &Path) -> Result<Option<File>> {
    let lock = try_lock_directory(out, "another process is writing a comparison there")?;
    let foreign = std::fs::read_dir(out)
        .map_err(Error::io(out))?
        .flatten()
        .any(|e| !is_leftover(&e.path()) && e.file_name() != PRETRAINED);
    match foreign && !out.join(EXPERIMENT).is_file() {
        false => Ok(lock),
        true => {
            let out = out.display();
            Err(Error::Usage(format!("{out} is not empty and not a comparison; choose another `out`")))
        }
    }
}

/// An edited experiment may be resumed; another one would overwrite the report of the first.
fn same_experiment(experiment: &Experiment, out: &Path) -> Result<()> {
    let path = out.join(EXPERIMENT);
    if !path.is_file() {
        return Ok(());
    }
    match Experiment::find(&path.to_string_lossy()) {
        Ok(before) if before.title == experiment.title => Ok(()),
        _ => {
            let out = out.display();
            Err(Error::Usage(format!(
                "{out} contains another experiment; choose another `out`, or replace it with `force`"
            )))
        }
    }
}

/// The state of the run of an entry.
///
/// # Errors
/// `Usage` if it has other settings, `Data` if it was begun with other data.
fn state(path: &Path, config: &Config, data: &Dataset) -> Result<RunState> {
    let Ok(run) = RunDir::open(path) else { return Ok(RunState::New) };
    let record = run.record()?;
    let choices = "another `out`, or `force` to train everything again";
    if let Some((key, of_run, asked)) = record.config.differs(config)? {
        let path = path.display();
        return Err(Error::Usage(format!("{path} was started with {key} {of_run}, not {asked}; choose {choices}")));
    }
    same_data(&run, &record.run, data)?;
    Ok(if run.has_ended() { RunState::Ended } else { RunState::Begun })
}

/// What determines the dataset of an entry: the kind of its features, and its settings but for those of training.
#[derive(PartialEq)]
struct DatasetKey(FeatureKind, toml::Table);

impl DatasetKey {
    fn of(config: &Config) -> Result<DatasetKey> {
        let mut table = config.table()?;
        let model = config.model()?;
        // The last is the `init` of single notes.
        ["model", "seeds", "notes.init"].iter().for_each(|path| remove(&mut table, path));
        let of_training = SETTINGS.iter().filter(|setting| !setting.changes_clips(model));
        of_training.for_each(|setting| remove(&mut table, setting.path(model, None)));
        if config.notes.is_none() && has_class_map(&config.dataset) {
            // Each seed draws its own.
            remove(&mut table, "val_fraction");
        }
        Ok(DatasetKey(config.kind()?, table))
    }
}

/// A loaded dataset, and the settings that loading it has completed.
struct Loaded {
    key: DatasetKey,
    front_end: Option<FrontEnd>,
    feature_scale: Option<FeatureScale>,
    data: Dataset,
}

#[derive(Default)]
struct Datasets(Vec<Loaded>);

impl Datasets {
    fn of(&self, index: usize) -> &Dataset {
        &self.0[index].data
    }

    /// Loads the clips of `config`, unless an entry before had the same ones, and completes it. `None` if `load`
    /// stopped.
    fn load(&mut self, gpu: &Gpu, config: &mut Config, load: &mut Load) -> Result<Option<usize>> {
        let key = DatasetKey::of(config)?;
        if let Some(i) = self.0.iter().position(|set| set.key == key) {
            (config.front_end, config.feature_scale) = (self.0[i].front_end.clone(), self.0[i].feature_scale);
            return Ok(Some(i));
        }
        let Some(data) = load(gpu, config)? else { return Ok(None) };
        let (front_end, feature_scale) = (config.front_end.clone(), config.feature_scale);
        self.0.push(Loaded { key, front_end, feature_scale, data });
        Ok(Some(self.0.len() - 1))
    }
}
