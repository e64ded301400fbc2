//! The table of settings of a training run.

use std::ops::Bound::{Excluded, Included, Unbounded};

use toml::Value as Toml;

use crate::core::names::names;
use crate::data::{FeatureScale, SplitBy, Unlisted};
use crate::features::front_end::Source;
use crate::features::scaling::Scaling;
use crate::gpu::Precision;
use crate::metrics::thresholds::Threshold;
use crate::nn::front_ends::kind::{self, FeatureKind};
use crate::nn::front_ends::spectrum::Scale;
use crate::nn::front_ends::vggish::{TrainFrontEnd, Width};
use crate::nn::model::{Norm, Schedule};
use crate::nn::{Model, Optimiser, Select};
use crate::ops::attention_pool::Pooling;
use crate::ops::masked_bce::{FocalAlpha, Loss, LossMean};
use crate::run::augmentation::Augmentation;
use crate::run::setting::{
    self, Group, OnResume, Setting, Value, all, as_toml, networks, on_embeddings, on_feature_maps, on_instances,
    on_log_mel, on_mixtures, setting, single_note, uses_vggish, with_attention, with_dropout, with_front_ends,
    with_known_labels, with_mixed_clips, with_norm, with_thresholds, with_width,
};

/// In the place of a path of initial weights: the model that is a part of wmic. Without another choice, a model that
/// can be on musicnn's features then is.
pub const BUNDLED: &str = "bundled";
/// Maximum batch size.
const MAX_BATCH: f64 = 65_536.0;

/// Every setting of training but the dataset, the model and the seeds, in the order of help texts.
pub const SETTINGS: &[Setting] = &[
    setting("epochs", Group::Optimisation, Value::Count("N"), networks, "Number of epochs")
        .within(Included(1.0), Unbounded),
    setting("batch", Group::Optimisation, Value::Count("CLIPS"), networks, "Batch size in clips")
        .within(Included(1.0), Included(MAX_BATCH)),
    setting("lr", Group::Optimisation, Value::Number, networks, "Learning rate").within(Included(0.0), Excluded(1e6)),
    setting(
        "schedule",
        Group::Optimisation,
        Value::Name(names::<Schedule>),
        networks,
        "How the learning rate changes. one-cycle: from a 25th to it over three tenths of the steps, then down to \
         almost 0 (with adam and adamw)",
    ),
    setting("optimiser", Group::Optimisation, Value::Name(names::<Optimiser>), networks, "Optimiser"),
    setting(
        "weight_decay",
        Group::Optimisation,
        Value::Number,
        networks,
        "Weight decay: L2, added to the gradient; with adamw decoupled from it; 0 with adagrad",
    )
    .within(Included(0.0), Excluded(1e6)),
    setting(
        "precision",
        Group::Optimisation,
        Value::Name(names::<Precision>),
        networks,
        "Precision of the operands of matrix products and convolutions; sums, weights and all else are f32 in any \
         case. f16, on adapters that have it, is for GPUs",
    ),
    setting("dropout", Group::Model, Value::Number, with_dropout, "Dropout probability, 0 to below 1")
        .within(Included(0.0), Excluded(1.0)),
    setting(
        "pooling",
        Group::Model,
        Value::Name(names::<Pooling>),
        with_attention,
        "How attention logits become weights: sigmoid, normalised to sum 1, or softmax",
    ),
    setting(
        "norm",
        Group::Model,
        Value::Name(names::<Norm>),
        with_norm,
        "Normalisation of embedded instances: group, per clip and group of columns; or batch",
    ),
    setting(
        "loss",
        Group::Loss,
        Value::Name(names::<Loss>),
        networks,
        "bce: binary cross-entropy of known labels; partial-bce: weighted by clip (ISMIR 2019, Eq. 4); focal: \
               down-weights well-classified labels; cross-entropy: for single-label models",
    ),
    setting(
        "loss_mean",
        Group::Loss,
        Value::Name(names::<LossMean>),
        with_known_labels,
        "Reduction of bce and focal: mean over all known labels of a batch, or over those of each clip and then over \
         clips",
    ),
    setting(
        "alpha",
        Group::Loss,
        Value::Number,
        networks,
        "alpha of partial-bce's g(p) = alpha p^gamma + beta, p the fraction of known labels",
    )
    .within(Excluded(-1e6), Excluded(1e6))
    .needing("loss", Some("partial-bce")),
    setting("beta", Group::Loss, Value::Number, networks, "beta of partial-bce")
        .within(Excluded(-1e6), Excluded(1e6))
        .needing("loss", Some("partial-bce")),
    setting("gamma", Group::Loss, Value::Number, networks, "gamma of partial-bce")
        .within(Excluded(-1e6), Excluded(1e6))
        .needing("loss", Some("partial-bce")),
    setting(
        "focal_gamma",
        Group::Loss,
        Value::Number,
        networks,
        "gamma of the focal loss, 0 to below 100: higher values down-weight well-classified labels more",
    )
    .within(Included(0.0), Excluded(100.0))
    .needing("loss", Some("focal")),
    setting(
        "focal_alpha",
        Group::Loss,
        Value::Text("X|inverse-frequency|inverse-class-frequency", |text| text.parse::<FocalAlpha>().and_then(as_toml)),
        networks,
        "alpha of the focal loss, 0 to 1: weight of positive labels (negatives get 1 - alpha); inverse-frequency: \
               per class, the fraction of negatives among its known training labels; inverse-class-frequency: 1 / \
               fraction of positives, normalised to 1 over the classes",
    )
    .within(Included(0.0), Included(1.0))
    .needing("loss", Some("focal")),
    setting(
        "strong_weight",
        Group::Loss,
        Value::Number,
        on_instances,
        "Weight of the loss of instances whose labels are known from times, beside that of clips; 0: times are not \
         used [default: 0.5 where there are times]",
    )
    .within(Included(0.0), Excluded(1e6)),
    setting(
        "augment",
        Group::Optimisation,
        Value::Names(names::<Augmentation>),
        with_mixed_clips,
        "Augmentation of training clips. mixup: weighted sum with another clip; concat: half of them get another clip \
               appended; both: mixup first [default: none]",
    ),
    setting(
        "mixup_alpha",
        Group::Optimisation,
        Value::Number,
        networks,
        "alpha of mixup, above 0 to 1: weights are drawn from Beta(alpha, alpha), near 0 and 1 for a small alpha",
    )
    .within(Excluded(0.0), Included(1.0))
    .needing("augment", Some("mixup")),
    setting(
        "spec_augment.freq_mask",
        Group::Optimisation,
        Value::Count("BANDS"),
        on_log_mel,
        "SpecAugment: at most this many mel bands of a training clip are masked",
    )
    .within(Included(0.0), Included(64.0)),
    setting(
        "spec_augment.time_mask",
        Group::Optimisation,
        Value::Count("FRAMES"),
        on_log_mel,
        "SpecAugment: at most this many frames of 10 ms of a training clip are masked",
    )
    .within(Included(0.0), Included(1e6)),
    setting(
        "spec_augment.level_shift",
        Group::Optimisation,
        Value::Number,
        on_log_mel,
        "A random number from minus to plus this is added to the log-mel spectrogram of a training clip",
    )
    .within(Included(0.0), Included(100.0)),
    setting(
        "inputs.standardise",
        Group::Model,
        Value::Text("true|false", |text| text.parse::<bool>().map(Toml::Boolean).map_err(|e| e.to_string())),
        on_embeddings,
        "Whether embeddings are standardised with the mean and deviation of each value over the training clips, and \
         clipped to ±6",
    ),
    setting(
        "inputs.dropout",
        Group::Model,
        Value::Number,
        on_embeddings,
        "Dropout probability of the model's inputs, 0 to below 1",
    )
    .within(Included(0.0), Excluded(1.0)),
    setting(
        "inputs.noise",
        Group::Optimisation,
        Value::Number,
        on_embeddings,
        "Standard deviation of normal noise that is added to the model's inputs in training",
    )
    .within(Included(0.0), Included(100.0)),
    setting(
        "select",
        Group::Optimisation,
        Value::Name(names::<Select>),
        networks,
        "Which epoch's weights are saved: lowest validation loss, or highest validation F1 (accuracy for single-label \
               models)",
    ),
    setting(
        "patience",
        Group::Optimisation,
        Value::Text("EPOCHS|none", |text| match text {
            "none" => Ok("none".into()),
            text => text.parse::<u32>().map(|n| i64::from(n).into()).map_err(|_| "neither a number nor none".into()),
        }),
        networks,
        "Stop a seed after this many epochs without improvement; none: never",
    )
    .within(Included(1.0), Unbounded),
    setting(
        "threshold",
        Group::Optimisation,
        Value::Text("P|tuned|precision:P", |text| text.parse::<Threshold>().and_then(as_toml)),
        with_thresholds,
        "Decision threshold for tests and predictions: a number, tuned (per seed and class, on the validation clips), \
         or the lowest with this precision there; epochs are always compared at 0.5",
    ),
    setting(
        "val_fraction",
        Group::Data,
        Value::Number,
        all,
        "Fraction of the training clips held out for validation, drawn per seed (for aacnn once for all seeds); 0 for \
         rf, which trains on all",
    )
    .within(Included(0.0), Excluded(1.0)),
    setting(
        "val_keys",
        Group::Data,
        Value::Path("FILE"),
        all,
        "Validation clips of all seeds instead: a file with keys of the training split, one per line",
    )
    .on_resume(OnResume::Moves),
    setting(
        "input",
        Group::FrontEnd,
        Value::Name(kind::of_embeddings),
        with_front_ends,
        "Features that the model takes: VGGish's embeddings, musicnn's, whose weights wmic contains, or YAMNet's, \
         after `wmic weights add`",
    ),
    setting(
        "front_end.weights",
        Group::FrontEnd,
        Value::PathOr("FILE|vggish|random|random-glorot", |text| {
            match text.parse::<Source>().map_err(|e| e.to_string())? {
                Source::File(_) => setting::path(text),
                random => as_toml(random),
            }
        }),
        uses_vggish,
        "VGGish weights for audio models: a safetensors file with torchvggish's names; vggish, those of `wmic weights \
         add`; or random (He's; random:SEED) or random-glorot. YAMNet's are those of `wmic weights add`, unless a file \
         (safetensors or its own) is given",
    )
    .on_resume(OnResume::Moves),
    setting(
        "width",
        Group::FrontEnd,
        Value::Text("W", |text| text.parse::<Width>().map_err(|e| e.to_string()).and_then(as_toml)),
        with_width,
        "Width of VGGish or aacnn as a fraction of its channels: 1, 1/2, 1/4 or 1/8 [default: that of the weights, \
         else 1]",
    ),
    setting(
        "train_front_end",
        Group::FrontEnd,
        Value::Name(names::<TrainFrontEnd>),
        on_feature_maps,
        "Part of VGGish trained with the model (att-tf models)",
    ),
    setting(
        "front_end.pca",
        Group::FrontEnd,
        Value::Path("FILE.npz"),
        uses_vggish,
        "PCA of VGGish's embeddings, an npz with pca_eigen_vectors and pca_means [default: the PCA in the weights \
         file]",
    ),
    setting(
        "front_end.scaling",
        Group::FrontEnd,
        Value::Name(names::<Scaling>),
        uses_vggish,
        "How VGGish's embeddings become inputs: their PCA in 8 bits as in OpenMIC-2018, or each dimension from its \
         minimum to its maximum over the training split (over all files without one) [default: pca8 if there is a PCA, \
         else minmax]",
    ),
    setting(
        "unlisted",
        Group::Data,
        Value::Name(names::<Unlisted>),
        all,
        "Instruments that the labels of a recording do not mention, with labels.csv or annotation files: unknown, or \
         absent [default: unknown with labels.csv, absent with JAMS and label tracks]",
    ),
    setting(
        "times",
        Group::Data,
        Value::Path("FILE.csv"),
        on_instances,
        "Times of the dataset's labels, for `strong_weight`: a table of sample_key,instrument,start_s,end_s (seconds)",
    )
    .on_resume(OnResume::Moves),
    setting(
        "mix",
        Group::Data,
        Value::Path("NOTES"),
        on_mixtures,
        "Train on mixtures of isolated notes, too, new ones in each epoch: a folder of audio files for each class, as \
         for wmic mix",
    )
    .on_resume(OnResume::Moves),
    setting(
        "mix_clips",
        Group::Data,
        Value::Count("N"),
        on_mixtures,
        "Mixtures of an epoch; as many more as `val_fraction` says, of held-out notes, are added to the validation \
         clips [default: 2000]",
    )
    .needing("mix", None)
    .within(Included(1.0), Included(100_000.0)),
    setting(
        "mix_seconds",
        Group::Data,
        Value::Number,
        on_mixtures,
        "Length of a mixture in seconds, 1 to 10 [default: 10]",
    )
    .needing("mix", None)
    .within(Included(1.0), Included(10.0)),
    setting(
        "features",
        Group::Data,
        Value::Path("FILE.npz"),
        all,
        "Features to use with the dataset's labels: an archive of extracted ones",
    )
    .on_resume(OnResume::Moves),
    setting(
        "feature_scale",
        Group::Data,
        Value::Name(names::<FeatureScale>),
        all,
        "Scale of features stored as floats, where their file does not record it: unit, inputs of 0 to 1, or byte, \
         8-bit codes of 0 to 255",
    )
    .on_resume(OnResume::Free),
    setting(
        "cache",
        Group::Data,
        Value::Path("DIR"),
        all,
        "Cache folder for extracted features [default: wmic in the user's cache directory]",
    )
    .on_resume(OnResume::Free),
    setting(
        "init",
        Group::Model,
        Value::PathOr("RUN|WEIGHTS.safetensors|bundled|normal|he", |text| match text {
            BUNDLED | "normal" | "he" => Ok(text.into()),
            file => setting::path(file),
        }),
        networks,
        "Initial weights: of a run of the same model, or of that model in a file of `wmic bundle` or in the bundled \
         model, which is then on musicnn unless another `input` is given; also on other classes (equal names keep \
         their weights, others start anew); or a file (PyTorch names and shapes, as exported); for aacnn also an \
         initialisation: normal, as in the paper, or he (write ./he for a file of that name) [default: random]",
    ),
    setting("notes.input", Group::Notes, Value::Name(kind::of_notes), single_note, "Input spectrum of aacnn"),
    setting(
        "notes.attention",
        Group::Model,
        Value::Name(|| &["0", "25", "50", "75", "100"]),
        single_note,
        "Percentage of attention filters in the last two blocks of aacnn",
    ),
    setting(
        "notes.scale",
        Group::Notes,
        Value::Name(names::<Scale>),
        single_note,
        "Scale of spectra of notes: magnitudes, or log magnitudes standardised per second",
    ),
    setting(
        "notes.split_by",
        Group::Notes,
        Value::Name(names::<SplitBy>),
        single_note,
        "Unit of the split (aacnn): a file, so that no recording is in both training and test; or a one-second \
         segment, as in the paper",
    ),
];

/// Adds the input that goes with the settings in `given`, if there is a choice: musicnn's for [`BUNDLED`].
pub(super) fn choose_input(model: &Model, given: &mut toml::Table) {
    let is_chosen = ["input", "front_end"].iter().any(|key| given.contains_key(*key));
    let is_bundled = given.get("init").and_then(Toml::as_str) == Some(BUNDLED);
    if is_bundled && !is_chosen && model.inputs.len() > 1 && model.inputs.contains(&FeatureKind::Musicnn) {
        given.insert("input".into(), FeatureKind::Musicnn.name().into());
    }
}

/// The setting with this key of `run.toml`.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}
