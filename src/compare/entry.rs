//! An entry of an experiment: a model with its own settings, and those of the pre-training of its front end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::core::error::{Error, Result};
use crate::core::files::absolute;
use crate::core::toml::one_line;
use crate::features::front_end::FrontEnd;
use crate::metrics::scores::Task;
use crate::nn;
use crate::run::config::{Config, Pretraining};
use crate::run::pretraining::needs_labels;

/// Settings that all entries of a comparison share, so that an entry cannot set them.
const COMMON: [&str; 2] = ["dataset", "seeds"];

/// One of the models that are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Distinct within its experiment.
    pub label: String,
    /// Scores reported in its paper, by metric.
    pub reported: BTreeMap<String, f64>,
    /// Keys of [`Config`], `model` among them.
    settings: toml::Table,
    /// Of the pre-training of its front end: `objective`, and keys of [`Config`] and [`Pretraining`].
    pretrain: Option<toml::Table>,
    /// Which of the pre-trained front ends it is on.
    pub front_end: usize,
}

/// What the entries that pre-train their front ends share.
#[derive(Clone, Debug)]
pub struct Sounds {
    /// Audio files, folders and patterns, for entries without their own.
    pub sounds: Vec<PathBuf>,
    /// A table of their words and tags.
    pub labels: Option<PathBuf>,
    /// Front ends of each entry.
    pub front_ends: usize,
}

impl Entry {
    pub(super) fn new(mut table: toml::Table) -> Result<Entry, String> {
        let label = match table.remove("label") {
            Some(toml::Value::String(label)) => label,
            Some(other) => return Err(format!("label must be a string, not {other}")),
            None => return Err("has no label".into()),
        };
        let of = |reason: String| format!("({label}) {reason}");
        let reported: BTreeMap<String, f64> = match table.remove("reported") {
            Some(value) => {
                value.try_into().map_err(|e: toml::de::Error| of(format!("reported: {}", one_line(&e.to_string()))))?
            }
            None => BTreeMap::new(),
        };
        let model = match table.get("model") {
            Some(toml::Value::String(name)) => nn::find(name).ok(),
            Some(other) => return Err(of(format!("model must be a string, not {other}"))),
            None => return Err(of("has no model".into())),
        };
        // An unknown model is reported later.
        let known: Vec<&str> = model.iter().flat_map(|m| Task::of(m.single_label).metrics()).map(|m| m.name).collect();
        if let Some(name) = reported.keys().find(|name| model.is_some() && !known.contains(&name.as_str())) {
            return Err(of(format!("reported has unknown metric {name}; metrics are {}", known.join(", "))));
        }
        let pretrain = match table.remove("pretrain") {
            None => None,
            Some(toml::Value::Table(of)) => {
                // Until they are there.
                let front_end = table.entry("front_end").or_insert_with(|| toml::Table::new().into());
                if let toml::Value::Table(front_end) = front_end
                    && front_end.insert("weights".into(), "random".into()).is_some()
                {
                    return Err(format!("({label}) has a table pretrain, so front_end has no weights"));
                }
                Some(of)
            }
            Some(other) => return Err(format!("({label}) pretrain must be a table, not {other}")),
        };
        if let Some(key) = COMMON.iter().find(|key| table.contains_key(**key)) {
            return Err(of(format!("sets {key}, which must be the same for all entries")));
        }
        let entry = Entry { label: label.clone(), reported, settings: table, pretrain, front_end: 0 };
        match entry.folder().is_empty() {
            true => Err(of("has a label without a letter or a digit".into())),
            false => Ok(entry),
        }
    }

    /// The name of its run's directory: "+ mixup" is `mixup`, "FC_T" is `fc-t`.
    pub fn folder(&self) -> String {
        let words = self.label.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
    }

    /// The protocol of its model's paper, overridden by its own settings.
    ///
    /// # Errors
    /// `Usage`: an unknown model or key, a value of another type.
    pub fn config(&self, dataset: &Path) -> Result<Config> {
        Config::of_table(self.model(), dataset, self.settings.clone())
    }

    /// It on each of `n` front ends, if it pre-trains its own; else itself.
    pub(super) fn on_front_ends(&self, n: usize) -> Vec<Entry> {
        match self.pretrain.is_some() && n > 1 {
            true => {
                let label = |i: usize| format!("{}, front end {}", self.label, i + 1);
                (0..n).map(|i| Entry { label: label(i), front_end: i, ..self.clone() }).collect()
            }
            false => vec![self.clone()],
        }
    }

    /// The settings of the pre-training of its front end, for its own settings `config`; `None` without one.
    ///
    /// # Errors
    /// `Usage` for settings that are wrong, and without sounds.
    pub(super) fn pretraining(&self, config: &Config, given: &Sounds) -> Result<Option<Config>> {
        self.pretrain.as_ref().map(|table| pretraining(table, config, given)).transpose()
    }

    /// Whether it names the weights of its front end.
    pub(super) fn has_weights(&self) -> bool {
        let front_end = self.settings.get("front_end").and_then(toml::Value::as_table);
        front_end.is_some_and(|front_end| front_end.contains_key("weights"))
    }

    pub(super) fn model(&self) -> &str {
        self.settings["model"].as_str().expect("checked when it was read")
    }
}

/// The settings of a pre-training by its `table`, for the front end of `config`.
fn pretraining(table: &toml::Table, config: &Config, given: &Sounds) -> Result<Config> {
    let mut table = table.clone();
    let objective = match table.remove("objective") {
        Some(toml::Value::String(name)) if nn::find(&name).is_ok_and(nn::is_objective) => name,
        other => {
            let got = other.map_or("none".into(), |other| other.to_string());
            return Err(Error::Usage(format!("pretrain needs an objective, as wmic pretrain has them, got {got}")));
        }
    };
    let of_sounds = ["sounds", "labels", "words", "head"].into_iter();
    let of_sounds: toml::Table = of_sounds.filter_map(|key| Some((key.into(), table.remove(key)?))).collect();
    table.insert("pretrain".into(), of_sounds.into());
    let mut of = Config::of_table(&objective, Path::new(""), table)?;
    let mut pretrain = of.pretrain.take().unwrap_or_default();
    if pretrain.sounds.is_empty() {
        pretrain.sounds = given.sounds.clone();
        if needs_labels(&objective) {
            pretrain.labels = pretrain.labels.or(given.labels.clone());
        }
    }
    let Pretraining { sounds, labels, words, .. } = &mut pretrain;
    let mut paths = sounds.iter_mut().chain(labels).chain(words);
    paths.try_for_each(|path| absolute(path).map(|absolute| *path = absolute))?;
    of.dataset = match pretrain.sounds.first() {
        Some(first) => first.clone(),
        None => return Err(Error::Usage("pre-trains its front end: give `pretrain_sounds`".into())),
    };
    // Seen before other entries are worked on.
    match &pretrain.labels {
        None if needs_labels(&objective) => {
            let reason = "needs a table of the sounds' words and tags: give `pretrain_labels`";
            return Err(Error::Usage(format!("{objective} {reason}")));
        }
        Some(missing) if !missing.exists() => return Err(Error::data(missing, "does not exist")),
        _ => {}
    }
    pretrain.width = config.front_end.as_ref().map(FrontEnd::width).unwrap_or_default();
    (of.pretrain, of.cache) = (Some(pretrain), config.cache.clone());
    of.seeds = (0..given.front_ends as u64).collect();
    of.validate()?;
    Ok(of)
}
