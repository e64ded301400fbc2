//! All settings of a training run. Written to `run.toml`; settings files have the same keys.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::core::files::absolute;
use crate::core::names::named;
use crate::core::toml::{read_toml, value_error};
use crate::data::{Excerpts, FeatureScale, SplitBy, SplitConfig, Unlisted};
use crate::features::audio_files::Clips;
use crate::features::front_end::FrontEnd;
use crate::gpu::Precision;
use crate::metrics::thresholds::Threshold;
use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::front_ends::spectrum::Scale;
use crate::nn::front_ends::vggish::{TrainFrontEnd, Width};
use crate::nn::model::{AacnnConfig, Head, Initialisation, Norm, Schedule};
use crate::nn::{self, ModelConfig};
pub use crate::nn::{Optimiser, Select};
use crate::ops::attention_pool::Pooling;
use crate::ops::masked_bce::{FocalAlpha, Loss, LossMean};
use crate::ops::sample::Order;
use crate::ops::spec_augment::SpecAugment;
use crate::ops::standardise_columns::Preparation;
use crate::run::augmentation::Augmentation;
use crate::run::setting::{Setting, find, insert, merge, on_instances, remove};
use crate::run::settings::{self, SETTINGS};
use crate::run::tuning::Tuning;

/// Settings of models on single notes, and of their data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notes {
    /// Input spectrum.
    pub input: FeatureKind,
    /// Percentage of attention filters.
    pub attention: u32,
    /// Width as a fraction of the published number of filters.
    pub width: Width,
    pub scale: Scale,
    pub init: Initialisation,
    pub split_by: SplitBy,
}

impl Default for Notes {
    fn default() -> Notes {
        Notes {
            input: FeatureKind::Stft,
            attention: 0,
            width: Width::default(),
            scale: Scale::default(),
            init: Initialisation::default(),
            split_by: SplitBy::default(),
        }
    }
}

/// Settings of pre-training VGGish, and of its data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pretraining {
    /// Audio files, folders and patterns.
    pub sounds: Vec<PathBuf>,
    /// A table of the words and tags of the sounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Vectors of the words; `None`: wmic's own, of ten qualities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<PathBuf>,
    /// Of VGGish.
    pub width: Width,
    pub head: Head,
}

/// A training run. Units: epochs count from 0, batch in clips, probabilities in [0, 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub dataset: PathBuf,
    pub model: String,
    /// One replica per seed.
    pub seeds: Vec<u64>,
    pub epochs: usize,
    /// Batch size in clips.
    pub batch: usize,
    pub lr: f64,
    /// How it changes; older runs do not have it.
    #[serde(default)]
    pub schedule: Schedule,
    pub optimiser: Optimiser,
    /// Weight decay: L2, added to the gradient, or AdamW's.
    pub weight_decay: f64,
    pub dropout: f64,
    pub loss: Loss,
    /// Of cross-entropy and focal loss; older runs do not have it and used the batch.
    #[serde(default)]
    pub loss_mean: LossMean,
    /// How attention logits become weights.
    pub pooling: Pooling,
    /// Normalisation, of models with a choice.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub norm: Option<Norm>,
    /// Of the partial BCE's g(p) = alpha p^gamma + beta.
    pub alpha: f64,
    pub beta: f64,
    pub gamma: f64,
    /// Focusing parameter of the focal loss.
    pub focal_gamma: f64,
    /// Weight of positive labels in the focal loss.
    pub focal_alpha: FocalAlpha,
    pub augment: Vec<Augmentation>,
    /// Of models on log-mel patches.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub spec_augment: Option<SpecAugment>,
    /// Of models on embeddings; older runs do not have it and are not standardised.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inputs: Option<Preparation>,
    /// Weight of the loss of instances with known labels; `None`: [`STRONG_WEIGHT`] where there are any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub strong_weight: Option<f64>,
    /// Of mixup's Beta(alpha, alpha).
    pub mixup_alpha: f64,
    pub select: Select,
    /// Stop a seed after this many epochs without improvement; `none`: never.
    #[serde(with = "crate::run::patience")]
    pub patience: Option<usize>,
    /// Decision threshold for tests and predictions; epochs are compared at 0.5.
    pub threshold: Threshold,
    /// Fraction of the training split held out for validation, drawn per seed.
    pub val_fraction: f64,
    /// Alternatively, a file with the keys of the validation clips of all seeds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub val_keys: Option<PathBuf>,
    /// Kind of the model's input, of models with a choice; `None`: the first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub input: Option<FeatureKind>,
    /// Front end of the model's input, where known; required for models on feature maps.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub front_end: Option<FrontEnd>,
    /// Part of the front end trained with the model.
    pub train_front_end: TrainFrontEnd,
    /// Features to use in place of those in the dataset's folder.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub features: Option<PathBuf>,
    /// What holds for instruments that labels do not mention, in a folder with `labels.csv` or annotation files.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unlisted: Option<Unlisted>,
    /// A table of the times of the dataset's labels.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub times: Option<PathBuf>,
    /// A folder of isolated notes, of which mixtures are made to train on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mix: Option<PathBuf>,
    /// Mixtures of an epoch; `None`: [`MIX_CLIPS`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mix_clips: Option<usize>,
    /// Seconds of a mixture; `None`: as long as an excerpt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mix_seconds: Option<f64>,
    /// Scale of features stored as floats, if their file does not record it; `None` for integers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub feature_scale: Option<FeatureScale>,
    /// Cache folder for extracted features.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cache: Option<PathBuf>,
    /// Of models on single notes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub notes: Option<Notes>,
    /// Of objectives of pre-training.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pretrain: Option<Pretraining>,
    /// Initial weights instead of random ones.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub init: Option<PathBuf>,
    /// Of the operands of matrix products; older runs do not have it.
    #[serde(default)]
    pub precision: Precision,
    /// The measured tilings that its plans use, in place of the kernels' own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tuning: Option<Tuning>,
}

/// Default weight of the loss of instances.
pub const STRONG_WEIGHT: f64 = 0.5;
/// Default number of mixtures of an epoch.
pub const MIX_CLIPS: usize = 2_000;
/// Maximum number of seeds of a run.
pub const MAX_SEEDS: usize = 1000;

/// `text` on a settings file, which has the keys themselves: the backquotes of those that the user gave stand for
/// options.
fn unquoted(text: String) -> String {
    SETTINGS.iter().fold(text, |text, Setting { key, .. }| text.replace(&format!("`{key}`"), key))
}

impl Config {
    /// The training protocol of the model's paper.
    pub fn of(model: &str, dataset: impl Into<PathBuf>) -> Result<Config> {
        Config::on(model, dataset, None)
    }

    /// The training protocol on a kind of features; `None`: the model's first.
    pub fn on(model: &str, dataset: impl Into<PathBuf>, input: Option<FeatureKind>) -> Result<Config> {
        let found = nn::find(model)?;
        let protocol = found.protocol_on(input);
        Ok(Config {
            dataset: dataset.into(),
            model: model.into(),
            seeds: vec![0],
            epochs: protocol.epochs,
            batch: protocol.batch,
            lr: protocol.lr,
            schedule: protocol.schedule,
            optimiser: protocol.optimiser,
            weight_decay: protocol.weight_decay,
            dropout: protocol.dropout,
            loss: protocol.loss,
            loss_mean: protocol.loss_mean,
            pooling: Pooling::Sigmoid,
            norm: protocol.norm,
            alpha: 1.0,
            beta: 0.0,
            gamma: -1.0,
            focal_gamma: 2.0,
            focal_alpha: protocol.focal_alpha,
            augment: vec![],
            spec_augment: protocol.spec_augment,
            inputs: protocol.inputs,
            strong_weight: None,
            unlisted: None,
            times: None,
            mix: None,
            mix_clips: None,
            mix_seconds: None,
            mixup_alpha: 0.2,
            select: protocol.select,
            patience: protocol.patience,
            threshold: Threshold::default(),
            val_fraction: protocol.val_fraction,
            val_keys: None,
            input,
            front_end: None,
            train_front_end: TrainFrontEnd::None,
            features: None,
            feature_scale: None,
            cache: None,
            notes: found.is_single_note().then(Notes::default),
            pretrain: nn::is_objective(found).then(Pretraining::default),
            init: None,
            precision: Precision::F32,
            tuning: None,
        })
    }

    /// The settings in `given`, with the keys of `run.toml`, and the protocol of the model's paper for the rest.
    /// `model` and `dataset` take precedence over those of the table.
    ///
    /// # Errors
    /// `Usage` for an unknown model or key, and for a value of another type.
    pub fn of_table(model: &str, dataset: &Path, mut given: toml::Table) -> Result<Config> {
        ["model", "dataset"].iter().for_each(|key| drop(given.remove(*key)));
        Config::of(model, dataset)?.with(given)
    }

    /// Settings from a TOML file, which may have any of them, e.g. the `run.toml` of a run; the others have the
    /// defaults of the model. `model` and `dataset` take precedence over the file's; without either, the model is att.
    ///
    /// # Errors
    /// `Data` for a file that is not TOML, has unknown settings or values of another type, and if there is no dataset.
    pub fn read(path: &Path, model: Option<&str>, dataset: Option<&Path>) -> Result<Config> {
        let mut given: toml::Table = read_toml(path)?;
        // A run.toml also records its environment, and what was measured there.
        ["run", "tuning"].iter().for_each(|key| drop(given.remove(*key)));
        let named = |key: &str| match given.get(key) {
            None => Ok(None),
            Some(toml::Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(Error::data(path, format!("{key} must be a string, not {other}"))),
        };
        let (named_model, named_dataset) = (named("model")?, named("dataset")?);
        let model = model.map(str::to_owned).or(named_model).unwrap_or_else(|| "att".into());
        let dataset = dataset.map(Path::to_owned).or(named_dataset.map(PathBuf::from));
        let dataset = dataset.ok_or_else(|| Error::data(path, "has no dataset, and none is given"))?;
        let config = Config::of_table(&model, &absolute(&dataset)?, given);
        config.and_then(|config| config.check_supported().map(|()| config)).map_err(|e| match e {
            Error::Usage(reason) if nn::find(&model).is_ok() => Error::data(path, unquoted(reason)),
            other => other,
        })
    }

    /// These settings, overridden by those in `given`, with the keys of `run.toml`. The bundled model as initialisation
    /// brings its input (see [`BUNDLED`](settings::BUNDLED)), another input its own defaults, and Adagrad sets the
    /// weight decay to 0 unless that is given, too; new weights of the front end, or a new width, discard the recorded
    /// properties of the former ones.
    ///
    /// # Errors
    /// As [`Config::of_table`].
    pub fn with(&self, mut given: toml::Table) -> Result<Config> {
        let mut table = self.table()?;
        if self.input.is_none() {
            settings::choose_input(self.model()?, &mut given);
        }
        if let Some(input) = given.get("input").and_then(toml::Value::as_str).and_then(named) {
            let protocol = |input| Config::on(&self.model, &self.dataset, input)?.table();
            let before = protocol(self.input)?;
            let chosen = protocol(Some(input))?.into_iter().filter(|(key, _)| table.get(key) == before.get(key));
            chosen.collect::<Vec<_>>().into_iter().for_each(|(key, value)| drop(table.insert(key, value)));
        }
        if given.get("optimiser").and_then(toml::Value::as_str) == Some("adagrad") {
            table.insert("weight_decay".into(), 0.0.into());
        }
        if let (Some(toml::Value::Table(known)), Some(toml::Value::Table(other))) =
            (table.get_mut("front_end"), given.get("front_end"))
        {
            ["fingerprint", "range"].iter().for_each(|key| drop(known.remove(*key)));
            if other.contains_key("weights") {
                known.retain(|key, _| key == "width");
            }
        }
        merge(&mut table, given);
        let front_end = table.get("front_end").and_then(toml::Value::as_table);
        if front_end.is_some_and(|front_end| !front_end.contains_key("weights")) {
            return Err(Error::Usage(
                "`width`, `front_end.pca` and `front_end.scaling` need `front_end.weights`: a file, or random".into(),
            ));
        }
        // A run is resumed and evaluated in other folders than it was started in.
        for setting @ Setting { key, .. } in SETTINGS.iter().filter(|setting| setting.is_path()) {
            if let Some(toml::Value::String(path)) = find(&table, key) {
                let absolute = setting.parse(path).map_err(|e| Error::Usage(format!("`{key}`: {e}")))?;
                insert(&mut table, key, absolute);
            }
        }
        table.try_into().map_err(|e: toml::de::Error| Error::Usage(value_error(&e)))
    }

    /// The files and folders that a run reads besides its dataset and the cache, with their keys.
    pub(super) fn inputs(&self) -> Result<Vec<(&'static str, PathBuf)>> {
        let table = self.table()?;
        let path = |setting: &Setting| Some((setting.key, find(&table, setting.key)?.as_str()?.into()));
        Ok(SETTINGS.iter().filter(|setting| setting.is_path() && setting.key != "cache").filter_map(path).collect())
    }

    /// The entry of the model.
    ///
    /// # Errors
    /// `Usage` for an unknown one.
    pub fn model(&self) -> Result<&'static nn::Model> {
        nn::find(&self.model)
    }

    /// The error for a setting that the model does not support; `None` if it does.
    pub fn unsupported(&self, key: &str) -> Option<Error> {
        let (model, setting) = (self.model().ok()?, settings::find(key)?);
        (setting.unsupported)(model).map(|reason| setting.unsupported_error(model, reason))
    }

    /// # Errors
    /// `Usage`, naming the first setting that the model does not support.
    pub(super) fn check_supported(&self) -> Result<()> {
        let model = self.model()?;
        let (table, defaults) = (self.table()?, Config::of(model.name, &self.dataset)?.table()?);
        let error = |setting: &Setting| Some(setting.unsupported_error(model, (setting.unsupported)(model)?));
        SETTINGS.iter().filter(|setting| setting.is_set(model, &table, &defaults)).find_map(error).map_or(Ok(()), Err)
    }

    /// Whether this key of `run.toml` applies to the model; most do not apply to a forest.
    pub(crate) fn has_setting(&self, key: &str) -> bool {
        let mut mine = SETTINGS.iter().filter(|s| s.key.split('.').next() == Some(key)).peekable();
        let Ok(model) = self.model() else { return true };
        !model.is_forest() || mine.peek().is_none() || mine.any(|setting| (setting.unsupported)(model).is_none())
    }

    /// As a TOML table.
    pub fn table(&self) -> Result<toml::Table> {
        toml::Table::try_from(self).map_err(|e| Error::Usage(format!("settings cannot be written as TOML: {e}")))
    }

    /// Adds missing settings to a table, from the protocol of the model.
    pub fn complete(table: &mut toml::Table, model: &str, dataset: &Path) -> Result<()> {
        for (key, value) in Config::of(model, dataset)?.table()? {
            table.entry(key).or_insert(value);
        }
        Ok(())
    }

    /// The first key in which `other` differs, with both values. Paths of data and weights are ignored: their
    /// fingerprints show whether they are the same.
    pub fn differs(&self, other: &Config) -> Result<Option<(String, String, String)>> {
        let table = |config: &Config| {
            let mut table = config.table()?;
            ["dataset", "tuning"].iter().for_each(|key| drop(table.remove(*key)));
            SETTINGS.iter().filter(|setting| setting.is_place()).for_each(|setting| remove(&mut table, setting.key));
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

    /// The configuration of the model, for `classes` classes.
    pub fn settings(&self, classes: usize) -> ModelConfig {
        let width = match &self.pretrain {
            Some(pretrain) => pretrain.width,
            None => self.front_end.as_ref().map(FrontEnd::width).unwrap_or_default(),
        };
        let head = self.pretrain.as_ref().map(|pretrain| pretrain.head).unwrap_or_default();
        let Config { dropout, pooling, train_front_end, .. } = *self;
        let Notes { attention, width: filters, init, .. } = self.notes.unwrap_or_default();
        let aacnn = AacnnConfig { attention, width: filters, init };
        let norm = self.norm.unwrap_or_default();
        let inputs = self.inputs.unwrap_or(Preparation::OFF);
        ModelConfig { classes, dropout, pooling, width, train_front_end, norm, head, aacnn, inputs }
    }

    /// The order of the other patches of pairs that should differ, in pre-training with negatives.
    pub(crate) fn negatives(&self) -> Option<Order> {
        self.pretrain.as_ref().filter(|pretrain| pretrain.head.negatives).map(|_| Order::Partners(0))
    }

    /// Weight of the loss of instances on a dataset with labels of instances (`strong`) or without: 0 if they are not
    /// trained on.
    pub(crate) fn weight_of_instances(&self, strong: bool) -> f64 {
        let usable = strong && self.augment.is_empty() && self.model().is_ok_and(|model| on_instances(model).is_none());
        if usable { self.strong_weight.unwrap_or(STRONG_WEIGHT) } else { 0.0 }
    }

    /// The numbers of mixtures of held-out notes, for validation, and of those to train on in an epoch.
    pub(crate) fn mixtures(&self) -> [usize; 2] {
        let clips = self.mix.as_ref().map_or(0, |_| self.mix_clips.unwrap_or(MIX_CLIPS));
        [(clips as f64 * self.val_fraction).ceil() as usize, clips]
    }

    /// Input kind of the model.
    pub fn kind(&self) -> Result<FeatureKind> {
        let chosen = self.input.unwrap_or(self.notes.unwrap_or_default().input);
        Ok(nn::find(&self.model)?.input(self.train_front_end, chosen))
    }

    /// Whether a network whose weights are not a part of wmic computes the model's input, or is trained with it.
    pub fn needs_weights(&self) -> Result<bool> {
        Ok(nn::find(&self.model)?.needs_vggish() && self.input.is_none_or(|kind| kind.row().weights.is_some()))
    }

    /// How recordings become clips.
    pub fn clips(&self) -> Result<Clips> {
        let kind = self.kind()?;
        let excerpts = Excerpts {
            window: kind.window(),
            instance: kind.row().seconds,
            strong: kind.has_patches(),
            validation: self.val_fraction,
        };
        Ok(Clips { notes: self.split_config(), excerpts })
    }

    /// How segments of single notes are split; `None` for models on clips.
    pub(crate) fn split_config(&self) -> Option<SplitConfig> {
        self.notes.map(|notes| SplitConfig { by: notes.split_by, validation: self.val_fraction })
    }

    /// # Errors
    /// `Shape` if the model takes instances of another width.
    pub(crate) fn accepts(&self, width: usize) -> Result<()> {
        let model = nn::find(&self.model)?;
        let expected = self.kind()?.instance_len(self.settings(1).width);
        match width == expected {
            true => Ok(()),
            false => Err(Error::shape(model.name, format!("instances of {expected} values"), width.to_string())),
        }
    }

    /// Whether the model uses VGGish and trains this part of it.
    pub fn trains(&self, part: TrainFrontEnd) -> Result<bool> {
        Ok(nn::find(&self.model)?.trains_vggish() && self.train_front_end == part)
    }
}
