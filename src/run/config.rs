//! Everything that decides what a training run computes. Written to `run.toml`; the same keys are read from `--config`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::data::{Division, FeatureScale, SplitBy};
use crate::features::front_end::FrontEnd;
use crate::metrics::thresholds::Level;
use crate::nn::front_ends::kind::Kind;
use crate::nn::front_ends::spectrum::Scale;
use crate::nn::front_ends::vggish::{TrainFrontEnd, Width};
use crate::nn::models::aacnn::{ATTENTION, FirstValues, Network};
use crate::nn::{self, Settings};
pub use crate::nn::{Optimiser, Select};
use crate::ops::attention_pool::Pooling;
use crate::ops::masked_bce::{FocalAlpha, Loss};
use crate::ops::sample::Order;
use crate::run::run_dir::one_line;

/// What is done to the clips of a training step beside leaving them as they are. Validation and test clips stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Augmentation {
    /// Each clip becomes a weighted sum of itself and another.
    Mixup,
    /// Half of the clips are followed by another; after mixup.
    Concat,
}

impl Augmentation {
    /// How its partners are drawn.
    pub fn partners(self) -> Order {
        Order::Partners(self as u32)
    }
}

/// What is chosen of a model on single notes, and of the notes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notes {
    /// The spectrum that the model is fed.
    pub input: Kind,
    /// One of [`ATTENTION`].
    pub attention: u32,
    /// Share of the published filters.
    pub width: Width,
    pub scale: Scale,
    pub init: FirstValues,
    pub split_by: SplitBy,
}

impl Default for Notes {
    fn default() -> Notes {
        Notes {
            input: Kind::Stft,
            attention: 0,
            width: Width::default(),
            scale: Scale::default(),
            init: FirstValues::default(),
            split_by: SplitBy::default(),
        }
    }
}

/// A training run. Units: epochs count from 0, batch in clips, chances in [0, 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub dataset: PathBuf,
    pub model: String,
    /// One replica per seed.
    pub seeds: Vec<u64>,
    pub epochs: usize,
    /// Clips per step.
    pub batch: usize,
    pub lr: f64,
    #[serde(default)]
    pub optimiser: Optimiser,
    /// L2 decay, added to the gradient.
    pub weight_decay: f64,
    pub dropout: f64,
    pub loss: Loss,
    /// How instances are weighed against each other.
    #[serde(default)]
    pub pooling: Pooling,
    /// Of the partial BCE's g(p) = alpha p^gamma + beta.
    pub alpha: f64,
    pub beta: f64,
    pub gamma: f64,
    /// Of the focal loss: how much less what is already right counts.
    #[serde(default = "focal_gamma")]
    pub focal_gamma: f64,
    /// What its positive labels weigh.
    #[serde(default)]
    pub focal_alpha: FocalAlpha,
    #[serde(default)]
    pub augment: Vec<Augmentation>,
    /// Of mixup's Beta(alpha, alpha).
    #[serde(default = "mixup_alpha")]
    pub mixup_alpha: f64,
    pub select: Select,
    /// Stop a seed after this many epochs without a better one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patience: Option<usize>,
    /// From which probability on a class counts as present, in tests and predictions; epochs are compared at 0.5.
    #[serde(default)]
    pub threshold: Level,
    /// Share of the training split that is held out for validation, anew for each seed.
    pub val_fraction: f64,
    /// What turns sound into the model's input, where known; a model on maps cannot do without.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub front_end: Option<FrontEnd>,
    /// Which part of it is trained with the model.
    #[serde(default)]
    pub train_front_end: TrainFrontEnd,
    /// Features to use in place of those in the dataset's folder.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub features: Option<PathBuf>,
    /// What features that are stored as floats stand for, where they do not tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub feature_scale: Option<FeatureScale>,
    /// Where features made of sound are kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cache: Option<PathBuf>,
    /// Of models on single notes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub notes: Option<Notes>,
    /// Weights to start from instead of random ones.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub init: Option<PathBuf>,
}

fn focal_gamma() -> f64 {
    2.0
}

fn mixup_alpha() -> f64 {
    0.2
}

/// Keys of settings that say where something lies.
const PLACES: [&str; 3] = ["dataset", "features", "cache"];
/// Most seeds of a run.
pub const MAX_SEEDS: usize = 1000;
/// Most clips per step.
const MAX_BATCH: usize = 65_536;
/// Most epochs times seeds.
const MAX_ROWS: usize = 500_000;

/// What a forest can be told; all else is about networks.
const FOREST_KEYS: [&str; 9] =
    ["dataset", "model", "seeds", "threshold", "val_fraction", "front_end", "features", "feature_scale", "cache"];

impl Config {
    /// The training protocol of the model's paper.
    pub fn of(model: &str, dataset: impl Into<PathBuf>) -> Result<Config> {
        let found = nn::find(model)?;
        let protocol = found.protocol;
        Ok(Config {
            dataset: dataset.into(),
            model: model.into(),
            seeds: vec![0],
            epochs: protocol.epochs,
            batch: protocol.batch,
            lr: protocol.lr,
            optimiser: protocol.optimiser,
            weight_decay: protocol.weight_decay,
            dropout: protocol.dropout,
            loss: protocol.loss,
            pooling: Pooling::Sigmoid,
            alpha: 1.0,
            beta: 0.0,
            gamma: -1.0,
            focal_gamma: focal_gamma(),
            focal_alpha: protocol.focal_alpha,
            augment: vec![],
            mixup_alpha: mixup_alpha(),
            select: protocol.select,
            patience: protocol.patience,
            threshold: Level::default(),
            val_fraction: protocol.val_fraction,
            front_end: None,
            train_front_end: TrainFrontEnd::None,
            features: None,
            feature_scale: None,
            cache: None,
            notes: found.is_of_notes().then(Notes::default),
            init: None,
        })
    }

    /// The settings that `given` names by the keys of `run.toml`, and the protocol of the model's paper for the rest. `model` and
    /// `dataset` win over those of the table.
    ///
    /// # Errors
    /// `Usage` for an unknown model or key, and for a value of another kind.
    pub fn of_table(model: &str, dataset: &Path, mut given: toml::Table) -> Result<Config> {
        ["model", "dataset"].iter().for_each(|key| drop(given.remove(*key)));
        Config::complete(&mut given, model, dataset)?;
        given.try_into().map_err(|e: toml::de::Error| Error::Usage(one_line(&e.to_string())))
    }

    /// # Errors
    /// `Usage` for a setting of a loss or an augmentation that is not the one asked for.
    fn refuse_unused(&self) -> Result<()> {
        let of = Config::of(&self.model, &self.dataset)?;
        let partial = (self.alpha, self.beta, self.gamma) != (of.alpha, of.beta, of.gamma);
        let focal = (self.focal_gamma, self.focal_alpha) != (of.focal_gamma, of.focal_alpha);
        let unused = match self.loss {
            Loss::Bce | Loss::Focal | Loss::CrossEntropy if partial => "alpha, beta and gamma need --loss partial-bce",
            Loss::Bce | Loss::PartialBce | Loss::CrossEntropy if focal => {
                "focal-gamma and focal-alpha need --loss focal"
            }
            _ if self.mixup_alpha != of.mixup_alpha && !self.augment.contains(&Augmentation::Mixup) => {
                "mixup-alpha needs --augment mixup"
            }
            _ => return Ok(()),
        };
        Err(Error::Usage(unused.into()))
    }

    /// What single notes ask for, and what only they may be asked for.
    fn validate_notes(&self) -> Result<()> {
        let nn::Model { name, exclusive, inputs, .. } = *nn::find(&self.model)?;
        let refuse = |reason: &str| Err(Error::Usage(format!("{name} {reason}")));
        match self.notes {
            Some(notes) if exclusive && !ATTENTION.contains(&notes.attention) => {
                let known = "attention must be 0, 25, 50, 75 or 100 percent";
                return Err(Error::Usage(format!("{known}, not {}", notes.attention)));
            }
            Some(notes) if exclusive && !inputs.contains(&notes.input) => {
                let known: Vec<&str> = inputs.iter().map(|kind| kind.name()).collect();
                return refuse(&format!("takes {}, not {}", known.join(" or "), notes.input));
            }
            Some(_) if exclusive => {}
            Some(_) => {
                return refuse("is not for single notes: leave out the table notes");
            }
            None if exclusive => return refuse("is for single notes: its settings lack the table notes"),
            None => {}
        }
        match (exclusive, self.loss == Loss::CrossEntropy) {
            (true, false) => return refuse("names one class per clip: its loss is cross-entropy, leave out --loss"),
            (false, true) => {
                return refuse("says of each class whether it is present: cross-entropy is for models that name one");
            }
            _ => {}
        }
        if exclusive && !self.augment.is_empty() {
            return refuse("names one class per clip, which mixed clips have not: leave out --augment");
        }
        if self.optimiser == Optimiser::Adagrad && self.weight_decay != 0.0 {
            return Err(Error::Usage("adagrad has no weight decay here: --weight-decay 0, or --optimiser adam".into()));
        }
        Ok(())
    }

    /// # Errors
    /// `Usage`, naming the first option that is out of range.
    pub fn validate(&self) -> Result<()> {
        if nn::find(&self.model)?.is_forest() {
            let defaults = Config::of(&self.model, &self.dataset)?.table()?;
            let set = self.table()?.into_iter().find(|(key, v)| !self.has_setting(key) && defaults.get(key) != Some(v));
            if let Some((key, _)) = set {
                return Err(self.has_no(&key));
            }
        }
        let at_least_one = |name: &str, v: usize| match v {
            0 => Err(Error::Usage(format!("{name} must be at least 1"))),
            _ => Ok(()),
        };
        let within = |name: &str, v: f64, low: f64, high: f64| match v.is_finite() && low <= v && v < high {
            true => Ok(()),
            false => Err(Error::Usage(format!("{name} must be at least {low} and below {high}, got {v:?}"))),
        };
        at_least_one("seeds", self.seeds.len())?;
        at_least_one("epochs", self.epochs)?;
        // A row of history each, all of which every saved state holds.
        if self.epochs.saturating_mul(self.seeds.len()) > MAX_ROWS {
            let most = MAX_ROWS / self.seeds.len();
            return Err(Error::Usage(format!(
                "epochs must be at most {most} for {} seeds, got {}",
                self.seeds.len(),
                self.epochs
            )));
        }
        at_least_one("batch", self.batch)?;
        if self.batch > MAX_BATCH {
            return Err(Error::Usage(format!("batch must be at most {MAX_BATCH} clips, got {}", self.batch)));
        }
        at_least_one("patience", self.patience.unwrap_or(1))?;
        let model = nn::find(&self.model)?;
        if model.trains_vggish() && self.front_end.is_none() && self.features.is_none() {
            let model = &self.model;
            return Err(Error::Usage(format!(
                "{model} stands on VGGish: name its weights, --frontend-weights FILE or random"
            )));
        }
        if self.pooling != Pooling::Sigmoid && !nn::find(&self.model)?.attends {
            return Err(Error::Usage(format!("{} pools nothing by attention: leave out --pooling", self.model)));
        }
        self.validate_notes()?;
        if self.threshold != Level::default() && nn::find(&self.model)?.exclusive {
            return Err(self.has_no_threshold());
        }
        if !model.needs_vggish() && self.front_end.is_some() {
            let reason = "takes spectra and needs no VGGish: leave out --frontend-weights";
            return Err(Error::Usage(format!("{} {reason}", self.model)));
        }
        if !model.trains_vggish() && self.train_front_end != TrainFrontEnd::None {
            let what = if model.needs_vggish() { "embeddings" } else { "spectra" };
            return Err(Error::Usage(format!("{} takes {what} as they are: leave out --train-frontend", self.model)));
        }
        if self.dropout != 0.0 && nn::find(&self.model)?.protocol.dropout == 0.0 {
            return Err(Error::Usage(format!("{} has no dropout: leave out --dropout", self.model)));
        }
        within("lr", self.lr, 0.0, 1e6)?;
        within("weight-decay", self.weight_decay, 0.0, 1e6)?;
        within("dropout", self.dropout, 0.0, 1.0)?;
        if !(self.val_fraction > 0.0 && self.val_fraction < 1.0) {
            return Err(Error::Usage(format!("val-fraction must lie between 0 and 1, got {}", self.val_fraction)));
        }
        self.refuse_unused()?;
        for (name, v) in [("alpha", self.alpha), ("beta", self.beta), ("gamma", self.gamma)] {
            within(name, v, -1e6, 1e6)?;
        }
        within("focal-gamma", self.focal_gamma, 0.0, 100.0)?;
        if let FocalAlpha::Same(alpha) = self.focal_alpha
            && !(0.0..=1.0).contains(&alpha)
        {
            return Err(Error::Usage(format!("focal-alpha must lie between 0 and 1, got {alpha:?}")));
        }
        if !(self.mixup_alpha > 0.0 && self.mixup_alpha <= 1.0) {
            return Err(Error::Usage(format!("mixup-alpha must be above 0 and at most 1, got {:?}", self.mixup_alpha)));
        }
        let mut augment = self.augment.clone();
        augment.sort_unstable();
        if augment.windows(2).any(|w| w[0] == w[1]) {
            return Err(Error::Usage("an augmentation is listed twice".into()));
        }
        if augment.contains(&Augmentation::Concat) && nn::find(&self.model)?.fixed_instances {
            return Err(Error::Usage(format!("{} takes clips of one length: leave out --augment concat", self.model)));
        }
        if self.seeds.len() > MAX_SEEDS {
            return Err(Error::Usage(format!(
                "there are {} seeds; at most {MAX_SEEDS} train side by side",
                self.seeds.len()
            )));
        }
        let mut seeds = self.seeds.clone();
        seeds.sort_unstable();
        if let Some(large) = seeds.last().filter(|seed| i64::try_from(**seed).is_err()) {
            return Err(Error::Usage(format!("seed {large} is too large: run.toml holds seeds up to {}", i64::MAX)));
        }
        match seeds.windows(2).find(|w| w[0] == w[1]) {
            Some(twice) => Err(Error::Usage(format!("seed {} is listed twice", twice[0]))),
            None => Ok(()),
        }
    }

    /// Whether this key means something for this model: for a forest most do not.
    pub fn has_setting(&self, key: &str) -> bool {
        !nn::find(&self.model).is_ok_and(nn::Model::is_forest) || FOREST_KEYS.contains(&key)
    }

    /// The error of a setting that means nothing for this model.
    pub fn has_no(&self, key: &str) -> Error {
        let option = key.replace("front_end", "frontend").replace('_', "-");
        Error::Usage(format!("{} is no network: leave out --{option}", self.model))
    }

    /// The error of a threshold for a model that has none.
    pub fn has_no_threshold(&self) -> Error {
        Error::Usage(format!("{} names the most probable class of a clip: leave out --threshold", self.model))
    }

    /// As a TOML table.
    pub fn table(&self) -> Result<toml::Table> {
        toml::Table::try_from(self).map_err(|e| Error::Usage(format!("settings that TOML cannot hold: {e}")))
    }

    /// Adds to a table of settings what it leaves out, from the protocol of the model it names.
    pub fn complete(table: &mut toml::Table, model: &str, dataset: &Path) -> Result<()> {
        for (key, value) in Config::of(model, dataset)?.table()? {
            table.entry(key).or_insert(value);
        }
        Ok(())
    }

    /// The first key in which `other` is another run, with both values. Where data and weights lie makes no difference: that they
    /// are the same is known from their fingerprints.
    pub fn differs(&self, other: &Config) -> Result<Option<(String, String, String)>> {
        let table = |config: &Config| {
            let mut table = config.table()?;
            PLACES.iter().for_each(|key| drop(table.remove(*key)));
            if let Some(toml::Value::Table(front_end)) = table.get_mut("front_end")
                && front_end.contains_key("fingerprint")
            {
                front_end.remove("weights");
            }
            Ok::<_, Error>(table)
        };
        let (one, two) = (table(self)?, table(other)?);
        let Some(key) = one.keys().chain(two.keys()).find(|key| one.get(*key) != two.get(*key)) else {
            return Ok(None);
        };
        let value = |table: &toml::Table| table.get(key).map_or("none".into(), toml::Value::to_string);
        Ok(Some((key.replace('_', " "), value(&one), value(&two))))
    }

    /// What of the model these settings fix, for `classes` classes.
    pub fn settings(&self, classes: usize) -> Settings {
        let width = self.front_end.as_ref().map(|f| f.width).unwrap_or_default();
        let Config { dropout, pooling, train_front_end, .. } = *self;
        let Notes { attention, width: filters, init, .. } = self.notes.unwrap_or_default();
        let aacnn = Network { attention, width: filters, init };
        Settings { classes, dropout, pooling, width, train_front_end, aacnn }
    }

    /// What the model is fed.
    pub fn kind(&self) -> Result<Kind> {
        Ok(nn::find(&self.model)?.input(self.train_front_end, self.notes.unwrap_or_default().input))
    }

    /// How segments of single notes are divided; `None` for models on clips.
    pub fn division(&self) -> Option<Division> {
        self.notes.map(|notes| Division { by: notes.split_by, validation: self.val_fraction })
    }

    /// # Errors
    /// `Shape` for instances of another width than the model takes.
    pub fn accepts(&self, width: usize) -> Result<()> {
        let model = nn::find(&self.model)?;
        let expected = self.kind()?.instance_len(self.settings(1).width);
        match width == expected {
            true => Ok(()),
            false => Err(Error::shape(model.name, format!("instances of {expected} values"), width.to_string())),
        }
    }

    /// Whether the model stands on VGGish and trains this part of it.
    pub fn trains(&self, part: TrainFrontEnd) -> Result<bool> {
        Ok(nn::find(&self.model)?.trains_vggish() && self.train_front_end == part)
    }
}
