//! Experiments: the models of a paper's figure, each with its own settings, as a readable TOML file
//! (`assets/experiments`).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::compare::entry::{Entry, Sounds};
use crate::core::error::{Error, Result};
use crate::core::files::absolute;
use crate::core::toml::{parse_toml, read_toml_text};
use crate::features::front_end::Source;
use crate::metrics::scores::{ClassMetrics, Task};
use crate::nn;
use crate::run::config::Config;
use crate::run::given::Given;
use crate::run::settings::BUNDLED;

/// Built-in experiments, by name.
pub const BUILT_IN: [(&str, &str); 6] = [
    ("aacnn21", include_str!("../../assets/experiments/aacnn21.toml")),
    ("ismir19", include_str!("../../assets/experiments/ismir19.toml")),
    ("partial20", include_str!("../../assets/experiments/partial20.toml")),
    ("repr21", include_str!("../../assets/experiments/repr21.toml")),
    ("visual20-det", include_str!("../../assets/experiments/visual20-det.toml")),
    ("visual20-sto", include_str!("../../assets/experiments/visual20-sto.toml")),
];

const WEIGHTS: &str = "front_end.weights";

/// The main score of an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MainMetric {
    /// F1, mean of present and absent.
    F1Pn,
    /// F1 of present.
    F1Pos,
    /// Single-label models.
    Accuracy,
}

impl MainMetric {
    pub fn name(self) -> &'static str {
        match self {
            MainMetric::F1Pn => "f1_pn",
            MainMetric::F1Pos => "f1_pos",
            MainMetric::Accuracy => "accuracy",
        }
    }

    /// The F1 by which the classes are compared.
    pub fn class_name(self) -> &'static str {
        match self {
            MainMetric::F1Pn => "f1_pn",
            MainMetric::F1Pos | MainMetric::Accuracy => "f1_pos",
        }
    }

    /// The task of the entries.
    pub fn task(self) -> Task {
        Task::of(self == MainMetric::Accuracy)
    }

    /// [`MainMetric::class_name`] of a class: mean over the seeds, and standard deviation if `test.json` has it.
    pub(crate) fn of_class(self, class: &ClassMetrics) -> (Option<f64>, Option<f64>) {
        match self {
            MainMetric::F1Pn => (class.f1_pn, class.f1_pn_std),
            MainMetric::F1Pos | MainMetric::Accuracy => (class.f1_pos, class.f1_pos_std),
        }
    }
}

/// Entries to be trained and compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Experiment {
    /// Name of a built-in experiment, else the file's name without extension.
    pub name: String,
    pub title: String,
    /// Where it was published.
    pub paper: Option<String>,
    /// Its findings.
    pub found: Option<String>,
    pub metric: MainMetric,
    /// Default number of seeds per entry.
    #[serde(skip)]
    pub seeds: usize,
    #[serde(skip)]
    pub entries: Vec<Entry>,
    /// Content of the file.
    #[serde(skip)]
    pub text: String,
    /// For messages.
    #[serde(skip)]
    source: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    paper: Option<String>,
    found: Option<String>,
    metric: Option<MainMetric>,
    #[serde(default = "one")]
    seeds: usize,
    #[serde(default)]
    entry: Vec<toml::Table>,
}

fn one() -> usize {
    1
}

impl Experiment {
    /// A built-in experiment by its name, or the one in a file.
    ///
    /// # Errors
    /// `Usage` for a name that is neither, and as [`Experiment::parse`].
    pub fn find(name: &str) -> Result<Experiment> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Experiment::parse(Path::new(name), text);
        }
        let path = Path::new(name);
        if path.extension().is_none_or(|e| e != "toml") {
            let known = BUILT_IN.map(|(name, _)| name).join(", ");
            return Err(Error::Usage(format!("unknown experiment {name}; use {known}, or a FILE.toml")));
        }
        Experiment::parse(path, &read_toml_text(path)?)
    }

    /// Parses an experiment; `source` gives its name and is used in messages. Whether its models exist is checked when
    /// their [settings](Entry::config) are read.
    ///
    /// # Errors
    /// `Data`, naming the source and the entry: not TOML, an unknown key or metric, no entries, two of the same name,
    /// single-label and multi-label models, a metric that does not apply.
    pub fn parse(source: &Path, text: &str) -> Result<Experiment> {
        let File { title, paper, found, metric, seeds, entry } = parse_toml(source, text)?;
        let fail = |reason: String| Error::data(source, reason);
        if entry.is_empty() {
            return Err(fail("has no [[entry]]".into()));
        }
        if seeds == 0 {
            return Err(fail("seeds must be at least 1".into()));
        }
        let mut entries: Vec<Entry> = vec![];
        for (i, table) in entry.into_iter().enumerate() {
            let entry = Entry::new(table).map_err(|reason| fail(format!("entry {}: {reason}", i + 1)))?;
            if let Some(other) = entries.iter().find(|other| other.folder() == entry.folder()) {
                let (one, two) = (&other.label, &entry.label);
                return Err(fail(format!("entries {one:?} and {two:?} have labels that give the same folder name")));
            }
            entries.push(entry);
        }
        let metric = main_metric(metric, &entries).map_err(fail)?;
        let name = source.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let tidy = |text: Option<String>| text.map(|text| text.trim().to_owned());
        let (paper, found, source) = (tidy(paper), tidy(found), source.to_owned());
        Ok(Experiment { name, title, paper, found, metric, seeds, entries, text: text.to_owned(), source })
    }

    /// Where a comparison is written if nothing else is said: runs/compare-EXPERIMENT-DATASET.
    ///
    /// # Errors
    /// `Io` if the path of the dataset cannot be resolved.
    pub fn default_path(&self, dataset: &Path) -> Result<PathBuf> {
        let dataset = absolute(dataset)?;
        let dataset = dataset.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(PathBuf::from("runs").join(format!("compare-{}-{dataset}", self.name)))
    }

    /// With `n` entries for each that pre-trains its front end, on one of so many.
    pub fn with_front_ends(mut self, n: usize) -> Experiment {
        self.entries = self.entries.iter().flat_map(|entry| entry.on_front_ends(n)).collect();
        self
    }

    /// The settings of the pre-training of each entry's front end, for its own settings `configs`; `None` for entries
    /// without.
    ///
    /// # Errors
    /// `Data`, naming the entry: settings that are wrong, no sounds.
    pub fn pretrainings(&self, configs: &[Config], given: &Sounds) -> Result<Vec<Option<Config>>> {
        let each =
            |(entry, config): (&Entry, &Config)| entry.pretraining(config, given).map_err(|e| self.error(entry, &e));
        self.entries.iter().zip(configs).map(each).collect()
    }

    /// The settings of each entry, before its data are loaded: its own, overridden by those `given` that its model has.
    /// `seeds`: in place of the experiment's number of them.
    ///
    /// # Errors
    /// `Data`, naming the entry: settings that are wrong or contradict each other, missing initial weights, splits
    /// other than the first entry's.
    pub fn configs(&self, dataset: &Path, seeds: Option<&[u64]>, given: &Given) -> Result<Vec<Config>> {
        let dataset = absolute(dataset)?;
        let of_file = |entry: &Entry| entry.config(&dataset).map_err(|e| self.error(entry, &e));
        let mut configs = self.entries.iter().map(of_file).collect::<Result<Vec<Config>>>()?;
        let models = configs.iter().map(Config::model).collect::<Result<Vec<_>>>()?;
        // An entry has its own front end if it has weights, or takes features that need none of the user.
        let takes_weights = |(entry, config): (&Entry, &Config)| {
            let config = given.restrict_to(config.model()?, &models).apply_to(config);
            let config = config.map_err(|e| self.error(entry, &e))?;
            Ok(config.needs_weights()? && !entry.has_weights())
        };
        let takes_weights = self.entries.iter().zip(&configs).map(takes_weights).collect::<Result<Vec<bool>>>()?;
        if given.has(WEIGHTS) && models.iter().any(|model| model.needs_vggish()) && !takes_weights.contains(&true) {
            return Err(Error::Usage(format!("the entries have their own front ends: remove `{WEIGHTS}`")));
        }
        let complete = |config: &mut Config, takes_weights: bool| {
            let mut given = given.restrict_to(config.model()?, &models);
            if config.model()?.needs_vggish() && !takes_weights {
                given = given.without(WEIGHTS);
            }
            if config.front_end.as_ref().is_some_and(|of| matches!(of.weights, Source::Stored(_))) {
                // They have one of their own.
                given = given.without("width");
            }
            *config = given.apply_to(config)?;
            config.seeds = seeds.map_or_else(|| (0..self.seeds as u64).collect(), <[u64]>::to_vec);
            if let Some(missing) = config.init.as_ref().filter(|init| *init != Path::new(BUNDLED) && !init.exists()) {
                return Err(Error::data(missing, "does not exist: no initial weights"));
            }
            config.validate()
        };
        for ((config, entry), takes_weights) in configs.iter_mut().zip(&self.entries).zip(takes_weights) {
            complete(config, takes_weights).map_err(|e| self.error(entry, &e))?;
        }
        // Otherwise one entry would be tested on another's training clips.
        let mut split_configs = configs.iter().map(Config::split_config);
        let first = split_configs.next().expect("an experiment has entries");
        if let Some(i) = split_configs.position(|split_config| split_config != first) {
            let other = Error::Usage("has other splits than the first entry (`notes.split_by`, `val_fraction`)".into());
            return Err(self.error(&self.entries[i + 1], &other));
        }
        Ok(configs)
    }

    /// An error of an entry's settings, naming the experiment and the entry.
    pub fn error(&self, entry: &Entry, error: &Error) -> Error {
        Error::data(&self.source, format!("entry {}: {error}", entry.label))
    }
}

/// The `given` metric, if it applies to the entries' task; without one, the task's default. Unknown models are ignored
/// here and reported later.
fn main_metric(given: Option<MainMetric>, entries: &[Entry]) -> Result<MainMetric, String> {
    let task = |entry: &Entry| nn::find(entry.model()).ok().map(|model| Task::of(model.single_label));
    let mut tasks: Vec<(&Entry, Task)> = entries.iter().filter_map(|entry| Some((entry, task(entry)?))).collect();
    tasks.dedup_by_key(|(_, task)| *task);
    match (given, &tasks[..]) {
        (_, [(one, _), (two, _), ..]) => Err(format!(
            "one of {:?} and {:?} is single-label, the other multi-label; they cannot be compared",
            one.label, two.label
        )),
        (Some(metric), [(_, task)]) if metric.task() != *task => {
            Err(format!("metric {} does not apply to these models", metric.name()))
        }
        (Some(metric), _) => Ok(metric),
        (None, [(_, Task::SingleLabel)]) => Ok(MainMetric::Accuracy),
        (None, _) => Ok(MainMetric::F1Pn),
    }
}
