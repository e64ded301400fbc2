//! `wmic compare`

use std::fs::File;
use std::path::{Path, PathBuf};

use super::clips::{Labels, load_clips};
use super::common::read_evaluation;
use super::output::{note, one_line, print, print_json};
use super::settings::{SeedArgs, SettingArgs};
use super::train::{self, Messages};
use super::{Device, Status};
use wmic::compare::comparison::{ComparedRun, Comparison};
use wmic::compare::entries::{self, Entries};
use wmic::compare::experiment::{Entry, Experiment};
use wmic::compare::test_predictions::TestPredictions;
use wmic::core::files::{absolute, create_directories, is_leftover, try_lock_directory, write_atomic};
use wmic::data::{Dataset, FeatureScale, SplitBy};
use wmic::features::front_end::FrontEnd;
use wmic::gpu::Gpu;
use wmic::metrics::evaluation::Evaluation;
use wmic::nn::Kind;
use wmic::nn::front_ends::spectrum::Scale;
use wmic::nn::front_ends::vggish::TrainFrontEnd;
use wmic::report::tables;
use wmic::report::tables::evaluation::summary;
use wmic::report::tables::table::{Style, printable};
use wmic::run::config::Config;
use wmic::run::front_end::Use;
use wmic::run::run_dir::RunDir;
use wmic::train::session::{Outcome, Session, same_data};
use wmic::{Error, Result, report};

/// Train every model of an experiment with its own protocol, and compare them
///
/// Each model is trained in its own run directory below --out, as by `wmic train`. Called again with the same arguments
/// after an interruption, it reuses finished runs and resumes the others, with bit-identical results. A report then
/// shows scores, spreads and which differences are significant. A model that cannot be trained (it diverges, or needs
/// more memory than available) is skipped and listed, and the exit status is 1.
#[derive(clap::Args)]
pub struct Args {
    /// Dataset, as for `wmic train`
    dataset: PathBuf,
    /// aacnn21, ismir19, partial20, visual20-det, visual20-sto, or a file like those in assets/experiments
    #[arg(long, value_name = "NAME|FILE.toml")]
    experiment: String,
    #[command(flatten)]
    seeds: SeedArgs,
    #[command(flatten)]
    settings: SettingArgs,
    /// Directory to write [default: runs/compare-EXPERIMENT-DATASET]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Train again, replacing the runs in --out
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: Device,
    /// Print compare.json to stdout instead of tables
    #[arg(long)]
    json: bool,
}

/// Copy of the experiment's file; it marks the directory as a comparison.
const EXPERIMENT: &str = "experiment.toml";

/// An entry of the experiment and the state of its run.
struct PendingRun {
    entry: Entry,
    /// Complete, with the front end of its features.
    config: Config,
    run: PathBuf,
    stage: RunState,
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

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let experiment = Experiment::find(&self.experiment)?;
        let configs = self.configs(&experiment)?;
        let out = self.out(&experiment, &configs[0]);
        let gpu = self.device.open()?;
        let mut loaded = LoadedDatasets::default();
        let (_lock, tasks) = create_directories(&out, || {
            let lock = lock(&out)?;
            self.same_experiment(&experiment, &out)?;
            let tasks = self.tasks(&gpu, &experiment, configs, &out, &mut loaded)?;
            write_atomic(out.join(EXPERIMENT), |file| file.write_all(experiment.text.as_bytes()))?;
            Ok((lock, tasks))
        })?;
        let Some(tasks) = tasks else { return Ok(Status::Interrupted) };
        let labels: Vec<String> = tasks.iter().map(|task| printable(&task.entry.label)).collect();
        let open = || self.device.open();
        let worked = entries::each(&labels, &gpu, &open, &mut |gpu, i| self.work(gpu, &tasks, i, &loaded))?;
        let Some(Entries { ended, left_out }) = worked else { return Ok(Status::Interrupted) };
        let ended: Vec<(&PendingRun, Evaluation)> = ended.into_iter().map(|(i, scores)| (&tasks[i], scores)).collect();
        // The first device may have run out of memory.
        let gpu = if left_out.is_empty() { gpu } else { self.device.open()? };
        if left_out.is_empty() || ended.len() > 1 {
            self.report(&gpu, experiment, ended, left_out.clone(), &loaded, &out)?;
        }
        left_out.iter().for_each(|reason| note(&format!("wmic: skipped: {}", one_line(reason))));
        Ok(if left_out.is_empty() { Status::Done } else { Status::Failed })
    }

    /// An edited experiment may be resumed; another one would overwrite the report of the first.
    fn same_experiment(&self, experiment: &Experiment, out: &Path) -> Result<()> {
        let path = out.join(EXPERIMENT);
        if self.force || !path.is_file() {
            return Ok(());
        }
        match Experiment::find(&path.to_string_lossy()) {
            Ok(before) if before.title == experiment.title => Ok(()),
            _ => {
                let out = out.display();
                Err(Error::Usage(format!(
                    "{out} contains another experiment; choose another --out, or replace it with --force"
                )))
            }
        }
    }

    /// The settings of each entry, before its data are loaded.
    fn configs(&self, experiment: &Experiment) -> Result<Vec<Config>> {
        let dataset = absolute(&self.dataset)?;
        let of_files = |entry: &Entry| entry.config(&dataset).map_err(|e| experiment.error(entry, &e));
        let mut configs = experiment.entries.iter().map(of_files).collect::<Result<Vec<Config>>>()?;
        let models = configs.iter().map(Config::model).collect::<Result<Vec<_>>>()?;
        let complete = |config: &mut Config| {
            *config = self.settings.given.restrict_to(config.model()?, &models).apply_to(config)?;
            config.seeds = self.seeds.given().unwrap_or_else(|| (0..experiment.seeds as u64).collect());
            config.init = config.init.as_deref().map(absolute).transpose()?;
            if let Some(missing) = config.init.as_ref().filter(|init| !init.is_file()) {
                return Err(Error::data(missing, "is not a file: no initial weights"));
            }
            config.validate()
        };
        for (config, entry) in configs.iter_mut().zip(&experiment.entries) {
            complete(config).map_err(|e| experiment.error(entry, &e))?;
        }
        // Otherwise one entry would be tested on another's training clips.
        let mut split_configs = configs.iter().map(Config::split_config);
        let first = split_configs.next().expect("an experiment has entries");
        if let Some(i) = split_configs.position(|split_config| split_config != first) {
            let other = Error::Usage("has other splits than the first entry (split_by, val_fraction)".into());
            return Err(experiment.error(&experiment.entries[i + 1], &other));
        }
        Ok(configs)
    }

    fn out(&self, experiment: &Experiment, config: &Config) -> PathBuf {
        let dataset = config.dataset.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let name = format!("compare-{}-{dataset}", experiment.name);
        self.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(name))
    }

    /// The runs to train. All settings and data are checked here, before anything is trained. `None` if the user
    /// interrupted.
    fn tasks(
        &self,
        gpu: &Gpu,
        experiment: &Experiment,
        configs: Vec<Config>,
        out: &Path,
        loaded: &mut LoadedDatasets,
    ) -> Result<Option<Vec<PendingRun>>> {
        let mut tasks = vec![];
        for (entry, mut config) in experiment.entries.iter().zip(configs) {
            let wrong = |e: Error| experiment.error(entry, &e);
            let Some(data) = loaded.load(gpu, &mut config).map_err(wrong)? else { return Ok(None) };
            let clips = &loaded.sets[data].2;
            config.accepts(clips.features.width).map_err(wrong)?;
            let run = out.join(entry.folder());
            let stage = if self.force { RunState::New } else { stage(&run, &config, clips)? };
            if stage == RunState::New {
                RunDir::vacant(&run, self.force)?;
            }
            tasks.push(PendingRun { entry: entry.clone(), config, run, stage, data });
        }
        Ok(Some(tasks))
    }

    /// Trains the i-th entry, unless it has ended. `None` if the user interrupted.
    fn work(&self, gpu: &Gpu, tasks: &[PendingRun], i: usize, loaded: &LoadedDatasets) -> Result<Option<Evaluation>> {
        let PendingRun { entry, config, run, stage, data } = &tasks[i];
        let data = &loaded.sets[*data].2;
        let label = printable(&entry.label);
        let title = format!("{}/{} {label}", i + 1, tasks.len());
        // A forest has no epochs; it counts as one.
        let epochs = |t: &PendingRun| if t.config.has_setting("epochs") { t.config.epochs } else { 1 };
        let total: usize = tasks.iter().map(epochs).sum();
        let before: usize = tasks[..i].iter().map(epochs).sum();
        let overall =
            |epochs: usize| format!("{title}, {:.0} % of all", (before + epochs) as f64 / total as f64 * 100.0);
        let messages = Messages { resume: "the same command".into(), overall: &overall };
        let evaluation = match stage {
            RunState::Ended => {
                let run = RunDir::open(run)?;
                let evaluation = read_evaluation(&run)?;
                // Saved now, so that they survive an interruption as the run does.
                TestPredictions::of(gpu, &run, data, &evaluation)?;
                evaluation
            }
            RunState::Begun | RunState::New => {
                note(&format!("{title}: {}", if *stage == RunState::New { "starting" } else { "resuming" }));
                let session = match stage {
                    RunState::New => Session::begin(gpu, config, data, run, self.force)?,
                    _ => Session::resume(gpu, config, data, RunDir::reopen(run)?)?,
                };
                let Some(outcome) = train::conduct(session, data, &messages)? else { return Ok(None) };
                let Outcome { run, record, predictions, thresholds, .. } = &outcome;
                TestPredictions::store(run, data, &record.config.seeds, predictions, thresholds)?;
                outcome.evaluation
            }
        };
        note(&format!("{title}: {}", summary(&evaluation)));
        Ok(Some(evaluation))
    }

    fn report(
        &self,
        gpu: &Gpu,
        experiment: Experiment,
        ended: Vec<(&PendingRun, Evaluation)>,
        left_out: Vec<String>,
        loaded: &LoadedDatasets,
        out: &Path,
    ) -> anyhow::Result<()> {
        let (mut runs, mut predictions) = (vec![], vec![]);
        let first = &loaded.sets[ended[0].0.data].2;
        for (task, evaluation) in ended {
            let PendingRun { entry, config, run, data, .. } = task;
            predictions.push(TestPredictions::of(gpu, &RunDir::open(run)?, &loaded.sets[*data].2, &evaluation)?);
            let (folder, Entry { label, reported, .. }) = (entry.folder(), entry.clone());
            runs.push(ComparedRun { label, folder, reported, settings: config.clone(), evaluation });
        }
        let comparison = Comparison::new(experiment, runs, left_out, &predictions, first)?;
        report::comparison::write(out, &comparison)?;
        if self.json {
            print_json(&comparison)?;
        } else {
            let page = out.join(report::comparison::REPORT);
            let text = tables::comparison::text(&comparison, Style::of_stdout());
            print(&format!("{text}\nsaved in {}; report: {}\n", out.display(), page.display()))?;
        }
        Ok(())
    }
}

/// Locks the directory, which must be empty or a comparison.
fn lock(out: &Path) -> Result<Option<File>> {
    let lock = try_lock_directory(out, "another process is writing a comparison there")?;
    let foreign = std::fs::read_dir(out).map_err(Error::io(out))?.flatten().any(|e| !is_leftover(&e.path()));
    match foreign && !out.join(EXPERIMENT).is_file() {
        false => Ok(lock),
        true => {
            let out = out.display();
            Err(Error::Usage(format!("{out} is not empty and not a comparison; choose another --out")))
        }
    }
}

/// What determines the dataset of an entry.
#[derive(PartialEq)]
struct DatasetKey {
    kind: Kind,
    /// The settings of single notes that affect features and splits.
    notes: Option<(Scale, SplitBy)>,
    val_fraction: Option<f64>,
    front_end: Option<FrontEnd>,
    train_front_end: TrainFrontEnd,
    features: Option<PathBuf>,
    feature_scale: Option<FeatureScale>,
    cache: Option<PathBuf>,
}

/// Datasets, each with its key and the front end of its features.
#[derive(Default)]
struct LoadedDatasets {
    sets: Vec<(DatasetKey, Option<FrontEnd>, Dataset)>,
}

impl LoadedDatasets {
    /// Loads the clips of `config`, unless an entry before had the same ones, and completes it. `None` if the user
    /// interrupted.
    fn load(&mut self, gpu: &Gpu, config: &mut Config) -> Result<Option<usize>> {
        let key = DatasetKey {
            kind: config.kind()?,
            notes: config.notes.map(|notes| (notes.scale, notes.split_by)),
            val_fraction: config.split_config().map(|split_config| split_config.validation),
            front_end: config.front_end.clone(),
            train_front_end: config.train_front_end,
            features: config.features.clone(),
            feature_scale: config.feature_scale,
            cache: config.cache.clone(),
        };
        if let Some(i) = self.sets.iter().position(|set| set.0 == key) {
            config.front_end = self.sets[i].1.clone();
            return Ok(Some(i));
        }
        let Some(data) = load_clips(gpu, config, Labels::Required, Use::Training)? else { return Ok(None) };
        self.sets.push((key, config.front_end.clone(), data));
        Ok(Some(self.sets.len() - 1))
    }
}

/// The state of the run of an entry.
///
/// # Errors
/// `Usage` if it has other settings, `Data` if it was begun with other data.
fn stage(path: &Path, config: &Config, data: &Dataset) -> Result<RunState> {
    let Ok(run) = RunDir::open(path) else { return Ok(RunState::New) };
    let record = run.record()?;
    let choices = "another --out, or --force to train everything again";
    if let Some((key, of_run, asked)) = record.config.differs(config)? {
        let path = path.display();
        return Err(Error::Usage(format!("{path} was started with {key} {of_run}, not {asked}; choose {choices}")));
    }
    same_data(&run, &record.run, data)?;
    Ok(if run.has_ended() { RunState::Ended } else { RunState::Begun })
}
