//! All settings of a training run. Written to `run.toml`; settings files have the same keys.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::core::names::names;
use crate::core::toml::one_line;
use crate::data::{Excerpts, FeatureScale, SplitBy, SplitConfig, Unlisted};
use crate::features::audio_files::Clips;
use crate::features::front_end::{FrontEnd, Source};
use crate::features::scaling::Scaling;
use crate::metrics::thresholds::Level;
use crate::nn::front_ends::kind::{self, Kind};
use crate::nn::front_ends::spectrum::Scale;
use crate::nn::front_ends::vggish::{TrainFrontEnd, Width};
use crate::nn::models::aacnn::{Initialisation, Network};
use crate::nn::{self, ModelConfig};
pub use crate::nn::{Optimiser, Select};
use crate::ops::attention_pool::Pooling;
use crate::ops::masked_bce::{FocalAlpha, Loss, LossMean};
use crate::ops::sample::Order;
use crate::run::settings::{
    self, Setting, Value, all, as_toml, merge, networks, on_feature_maps, on_instances, setting, single_note,
    uses_vggish, with_attention, with_dropout, with_known_labels, with_mixed_clips, with_thresholds, with_width,
};

/// Augmentation of training clips. Validation and test clips are not augmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augmentation {
    /// Each clip becomes a weighted sum with another clip.
    Mixup,
    /// Half of the clips get another clip appended; after mixup.
    Concat,
}

impl Augmentation {
    /// How its partners are drawn.
    pub fn partners(self) -> Order {
        Order::Partners(self as u32)
    }
}

/// Settings of models on single notes, and of their data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notes {
    /// Input spectrum.
    pub input: Kind,
    /// One of [`ATTENTION`].
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
            input: Kind::Stft,
            attention: 0,
            width: Width::default(),
            scale: Scale::default(),
            init: Initialisation::default(),
            split_by: SplitBy::default(),
        }
    }
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
    pub optimiser: Optimiser,
    /// Weight decay (L2, added to the gradient).
    pub weight_decay: f64,
    pub dropout: f64,
    pub loss: Loss,
    /// Of cross-entropy and focal loss; older runs do not have it and used the batch.
    #[serde(default)]
    pub loss_mean: LossMean,
    /// How attention logits become weights.
    pub pooling: Pooling,
    /// Of the partial BCE's g(p) = alpha p^gamma + beta.
    pub alpha: f64,
    pub beta: f64,
    pub gamma: f64,
    /// Focusing parameter of the focal loss.
    pub focal_gamma: f64,
    /// Weight of positive labels in the focal loss.
    pub focal_alpha: FocalAlpha,
    pub augment: Vec<Augmentation>,
    /// Weight of the loss of instances with known labels; `None`: [`STRONG_WEIGHT`] where there are any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub strong_weight: Option<f64>,
    /// Of mixup's Beta(alpha, alpha).
    pub mixup_alpha: f64,
    pub select: Select,
    /// Stop a seed after this many epochs without improvement; `none`: never.
    #[serde(with = "patience")]
    pub patience: Option<usize>,
    /// Decision threshold for tests and predictions; epochs are compared at 0.5.
    pub threshold: Level,
    /// Fraction of the training split held out for validation, drawn per seed.
    pub val_fraction: f64,
    /// Alternatively, a file with the keys of the validation clips of all seeds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub val_keys: Option<PathBuf>,
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
    /// Scale of features stored as floats, if the file does not record it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub feature_scale: Option<FeatureScale>,
    /// Cache folder for extracted features.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cache: Option<PathBuf>,
    /// Of models on single notes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub notes: Option<Notes>,
    /// Initial weights instead of random ones.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub init: Option<PathBuf>,
}

/// Default weight of the loss of instances.
pub const STRONG_WEIGHT: f64 = 0.5;
/// Keys of settings that are paths of data.
const PLACES: [&str; 4] = ["dataset", "features", "cache", "times"];
/// Maximum number of seeds of a run.
pub const MAX_SEEDS: usize = 1000;

/// `none`: no early stopping.
mod patience {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Patience;

    pub fn serialize<S: Serializer>(value: &Option<usize>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map_or(Patience::None, Patience::Epochs).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
        Ok(match Patience::deserialize(deserializer)? {
            Patience::Epochs(epochs) => Some(epochs),
            Patience::None => None,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", expecting = "patience must be a number of epochs, or \"none\"")]
enum Patience {
    None,
    #[serde(untagged)]
    Epochs(usize),
}

/// Every setting of training but the dataset, the model and the seeds, in the order of help texts.
pub const SETTINGS: &[Setting] = &[
    setting(
        "epochs",
        Value::Count("N"),
        networks,
        "Number of epochs",
    ),
    setting(
        "batch",
        Value::Count("CLIPS"),
        networks,
        "Batch size in clips",
    ),
    setting(
        "lr",
        Value::Number(Some((0.0, 1e6))),
        networks,
        "Learning rate",
    ),
    setting(
        "optimiser",
        Value::Name(names::<Optimiser>),
        networks,
        "Optimiser",
    ),
    setting(
        "weight_decay",
        Value::Number(Some((0.0, 1e6))),
        networks,
        "Weight decay (L2, added to the gradient); 0 with adagrad",
    ),
    setting(
        "dropout",
        Value::Number(Some((0.0, 1.0))),
        with_dropout,
        "Dropout probability, 0 to below 1",
    ),
    setting(
        "pooling",
        Value::Name(names::<Pooling>),
        with_attention,
        "How attention logits become weights: sigmoid, normalised to sum 1, or softmax",
    ),
    setting(
        "loss",
        Value::Name(names::<Loss>),
        networks,
        "bce: binary cross-entropy of known labels; partial-bce: weighted by clip (ISMIR 2019, Eq. 4); focal: \
               down-weights well-classified labels; cross-entropy: for single-label models",
    ),
    setting(
        "loss_mean",
        Value::Name(names::<LossMean>),
        with_known_labels,
        "Reduction of bce and focal: mean over all known labels of a batch, or over those of each clip and then over clips",
    ),
    setting(
        "alpha",
        Value::Number(Some((-1e6, 1e6))),
        networks,
        "alpha of partial-bce's g(p) = alpha p^gamma + beta, p the fraction of known labels",
    )
    .needing("loss", "partial-bce"),
    setting(
        "beta",
        Value::Number(Some((-1e6, 1e6))),
        networks,
        "beta of partial-bce",
    )
    .needing("loss", "partial-bce"),
    setting(
        "gamma",
        Value::Number(Some((-1e6, 1e6))),
        networks,
        "gamma of partial-bce",
    )
    .needing("loss", "partial-bce"),
    setting(
        "focal_gamma",
        Value::Number(Some((0.0, 100.0))),
        networks,
        "gamma of the focal loss, 0 to below 100: higher values down-weight well-classified labels more",
    )
    .needing("loss", "focal"),
    setting(
        "focal_alpha",
        Value::Text("X|inverse-frequency|inverse-class-frequency", |text| text.parse::<FocalAlpha>().and_then(as_toml)),
        networks,
        "alpha of the focal loss, 0 to 1: weight of positive labels (negatives get 1 - alpha); inverse-frequency: \
               per class, the fraction of negatives among its known training labels; inverse-class-frequency: 1 / fraction of \
               positives, normalised to 1 over the classes",
    )
    .needing("loss", "focal"),
    setting(
        "strong_weight",
        Value::Number(Some((0.0, 1e6))),
        on_instances,
        "Weight of the loss of instances whose labels are known from times, beside that of clips; 0: times are not used \
               [default: 0.5 where there are times]",
    ),
    setting(
        "augment",
        Value::Names(names::<Augmentation>),
        with_mixed_clips,
        "Augmentation of training clips. mixup: weighted sum with another clip; concat: half of them get another clip \
               appended; both: mixup first [default: none]",
    ),
    setting(
        "mixup_alpha",
        Value::Number(None),
        networks,
        "alpha of mixup, above 0 to 1: weights are drawn from Beta(alpha, alpha), near 0 and 1 for a small alpha",
    )
    .needing("augment", "mixup"),
    setting(
        "select",
        Value::Name(names::<Select>),
        networks,
        "Which epoch's weights are saved: lowest validation loss, or highest validation F1 (accuracy for single-label \
               models)",
    ),
    setting(
        "patience",
        Value::Text("EPOCHS|none", |text| match text {
            "none" => Ok("none".into()),
            text => text.parse::<u32>().map(|n| i64::from(n).into()).map_err(|_| "neither a number nor none".into()),
        }),
        networks,
        "Stop a seed after this many epochs without improvement; none: never",
    ),
    setting(
        "threshold",
        Value::Text("P|tuned", |text| text.parse::<Level>().and_then(as_toml)),
        with_thresholds,
        "Decision threshold for the test, and later for eval and predict: a number, or tuned (per seed and class, on the \
               validation clips). Epochs are always compared at 0.5",
    ),
    setting(
        "val_fraction",
        Value::Number(None),
        all,
        "Fraction of the training clips held out for validation, drawn per seed (for aacnn once, see --split-by); 0 for rf, \
               which trains on all",
    ),
    setting(
        "val_keys",
        Value::Path("FILE"),
        all,
        "Validation clips of all seeds instead: a file with keys of the training split, one per line",
    ),
    setting(
        "front_end.weights",
        Value::Text("FILE|random", |text| match text.parse::<Source>().map_err(|e| e.to_string())? {
            Source::File(_) => settings::path(text),
            random => as_toml(random),
        }),
        uses_vggish,
        "VGGish weights for audio models: a safetensors file with torchvggish's names, or random (random:SEED)",
    ),
    setting(
        "width",
        Value::Text("W", |text| text.parse::<Width>().map_err(|e| e.to_string()).and_then(as_toml)),
        with_width,
        "Width of VGGish or aacnn as a fraction of its channels: 1, 1/2, 1/4 or 1/8 [default: 1]",
    ),
    setting(
        "train_front_end",
        Value::Name(names::<TrainFrontEnd>),
        on_feature_maps,
        "Part of VGGish trained with the model (att-tf models)",
    ),
    setting(
        "front_end.pca",
        Value::Path("FILE.npz"),
        uses_vggish,
        "PCA of VGGish's embeddings, an npz with pca_eigen_vectors and pca_means [default: the PCA in the weights file]",
    ),
    setting(
        "front_end.scaling",
        Value::Name(names::<Scaling>),
        uses_vggish,
        "How VGGish's embeddings become inputs: their PCA in 8 bits, or each dimension from its minimum to its maximum over the \
               training split [default: pca8 if there is a PCA, else minmax]",
    ),
    setting(
        "unlisted",
        Value::Name(names::<Unlisted>),
        all,
        "Instruments that the labels of a recording do not mention, with labels.csv or annotation files: unknown, or absent \
               [default: unknown with labels.csv, absent with JAMS and label tracks]",
    ),
    setting(
        "times",
        Value::Path("FILE.csv"),
        on_instances,
        "Times of the dataset's labels, for --strong-weight: a table of sample_key,instrument,start_s,end_s (seconds)",
    ),
    setting(
        "features",
        Value::Path("FILE.npz"),
        all,
        "Features to use with the dataset's labels, as `wmic features` writes them",
    ),
    setting(
        "feature_scale",
        Value::Name(names::<FeatureScale>),
        all,
        "Scale of features stored as floats: inputs of 0 to 1, or 8-bit codes of 0 to 255 [default: as recorded in the file, \
               else codes if any is above 1]",
    ),
    setting(
        "cache",
        Value::Path("DIR"),
        all,
        "Cache folder for extracted features [default: wmic in the user's cache directory]",
    ),
    setting(
        "init",
        Value::Text("RUN|WEIGHTS.safetensors|normal|he", |text| match text {
            "normal" | "he" => Ok(text.into()),
            file => settings::path(file),
        }),
        networks,
        "Initial weights: of a run of the same model, also on other classes (equal names keep their weights, others start anew), \
               or a file (PyTorch names and shapes, as `wmic export` writes); for aacnn also an initialisation: normal, as \
               in the paper, or he (write ./he for a file of that name) [default: random]",
    ),
    setting(
        "notes.input",
        Value::Name(kind::of_notes),
        single_note,
        "Input spectrum of aacnn",
    ),
    setting(
        "notes.attention",
        Value::Name(|| &["0", "25", "50", "75", "100"]),
        single_note,
        "Percentage of attention filters in the last two blocks of aacnn",
    ),
    setting(
        "notes.scale",
        Value::Name(names::<Scale>),
        single_note,
        "Magnitudes, or log magnitudes standardised per second (aacnn)",
    ),
    setting(
        "notes.split_by",
        Value::Name(names::<SplitBy>),
        single_note,
        "Unit of the split (aacnn): a file, so that no recording is in both training and test; or a one-second segment, as \
               in the paper",
    ),
];

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
            loss_mean: protocol.loss_mean,
            pooling: Pooling::Sigmoid,
            alpha: 1.0,
            beta: 0.0,
            gamma: -1.0,
            focal_gamma: 2.0,
            focal_alpha: protocol.focal_alpha,
            augment: vec![],
            strong_weight: None,
            unlisted: None,
            times: None,
            mixup_alpha: 0.2,
            select: protocol.select,
            patience: protocol.patience,
            threshold: Level::default(),
            val_fraction: protocol.val_fraction,
            val_keys: None,
            front_end: None,
            train_front_end: TrainFrontEnd::None,
            features: None,
            feature_scale: None,
            cache: None,
            notes: found.is_single_note().then(Notes::default),
            init: None,
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

    /// These settings, overridden by those in `given`, with the keys of `run.toml`. Adagrad sets the weight decay to 0
    /// unless that is given, too; new weights of the front end, or a new width, discard the recorded properties of the
    /// former ones.
    ///
    /// # Errors
    /// As [`Config::of_table`].
    pub fn with(&self, given: toml::Table) -> Result<Config> {
        let mut table = self.table()?;
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
                "`width`, `pca` and `scaling` need `front_end.weights`: a file, or random".into(),
            ));
        }
        table.try_into().map_err(|e: toml::de::Error| Error::Usage(one_line(&e.to_string())))
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
        let (model, setting) = (self.model().ok()?, SETTINGS.iter().find(|setting| setting.key == key)?);
        (setting.unsupported)(model).map(|reason| setting.unsupported_error(model, reason))
    }

    /// Whether this key of `run.toml` applies to the model; most do not apply to a forest.
    pub fn has_setting(&self, key: &str) -> bool {
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

    /// The configuration of the model, for `classes` classes.
    pub fn settings(&self, classes: usize) -> ModelConfig {
        let width = self.front_end.as_ref().map(|f| f.width).unwrap_or_default();
        let Config { dropout, pooling, train_front_end, .. } = *self;
        let Notes { attention, width: filters, init, .. } = self.notes.unwrap_or_default();
        let aacnn = Network { attention, width: filters, init };
        ModelConfig { classes, dropout, pooling, width, train_front_end, aacnn }
    }

    /// Weight of the loss of instances on a dataset with labels of instances (`strong`) or without: 0 if they are not trained on.
    pub fn weight_of_instances(&self, strong: bool) -> f64 {
        let usable = strong && self.augment.is_empty() && self.model().is_ok_and(|model| on_instances(model).is_none());
        if usable { self.strong_weight.unwrap_or(STRONG_WEIGHT) } else { 0.0 }
    }

    /// Input kind of the model.
    pub fn kind(&self) -> Result<Kind> {
        Ok(nn::find(&self.model)?.input(self.train_front_end, self.notes.unwrap_or_default().input))
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
    pub fn split_config(&self) -> Option<SplitConfig> {
        self.notes.map(|notes| SplitConfig { by: notes.split_by, validation: self.val_fraction })
    }

    /// # Errors
    /// `Shape` if the model takes instances of another width.
    pub fn accepts(&self, width: usize) -> Result<()> {
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
