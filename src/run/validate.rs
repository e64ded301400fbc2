//! Validation of settings, individually and together.

use crate::core::error::{Error, Result};
use crate::features::front_end::FrontEnd;
use crate::nn::front_ends::network::Network;
use crate::nn::model::{ATTENTION, Schedule};
use crate::nn::models::pretraining::{DENOISE_ADD, DENOISE_MUL, TEXTUAL};
use crate::nn::{self, Optimiser};
use crate::ops::masked_bce::Loss;
use crate::run::augmentation::Augmentation;
use crate::run::config::{Config, MAX_SEEDS, Pretraining};
use crate::run::given;
use crate::run::pretraining::needs_labels;

/// Maximum of epochs times seeds.
const MAX_ROWS: usize = 500_000;

impl Config {
    /// # Errors
    /// `Usage`, naming the first setting that is out of range or conflicts with the model or other settings.
    pub fn validate(&self) -> Result<()> {
        let model = self.model()?;
        if self.seeds.is_empty() {
            return Err(Error::Usage("`seeds` must be at least 1".into()));
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
            return Err(Error::Usage(format!(
                "seed {large} is too large: run.toml can store seeds up to {}",
                i64::MAX
            )));
        }
        if let Some(twice) = seeds.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::Usage(format!("seed {} is listed twice", twice[0])));
        }
        // Every saved state contains a row of history for each.
        if self.epochs.saturating_mul(self.seeds.len()) > MAX_ROWS {
            let (most, seeds) = (MAX_ROWS / self.seeds.len(), self.seeds.len());
            return Err(Error::Usage(format!(
                "`epochs` must be at most {most} for {seeds} seeds, got {}",
                self.epochs
            )));
        }
        self.validate_notes()?;
        self.validate_input()?;
        self.validate_loss()?;
        self.validate_pretraining()?;
        given::check(self)?;
        if model.trains_vggish() && self.front_end.is_none() && self.features.is_none() {
            return Err(Error::Usage(format!(
                "{} needs VGGish weights: `front_end.weights` FILE or random",
                model.name
            )));
        }
        if self.val_fraction == 0.0 && !model.is_forest() {
            return Err(Error::Usage(format!("`val_fraction` must be above 0: {} needs validation clips", model.name)));
        }
        if self.val_keys.is_some() && self.val_fraction != model.protocol.val_fraction {
            return Err(Error::Usage(
                "`val_fraction` and `val_keys` both choose the validation clips: remove one of them".into(),
            ));
        }
        let of_labels = matches!(self.loss, Loss::Bce | Loss::Focal);
        if !of_labels && self.loss_mean != model.protocol.loss_mean {
            return Err(Error::Usage("`loss_mean` needs `loss` bce or focal".into()));
        }
        if self.strong_weight.is_some_and(|weight| weight > 0.0) && !self.augment.is_empty() {
            return Err(Error::Usage("mixed clips have no times: remove `augment` or `strong_weight`".into()));
        }
        if model.fixed_instances && self.mix_seconds.is_some() {
            return Err(Error::Usage(format!("{} takes clips of one length: remove `mix_seconds`", model.name)));
        }
        let mut augment = self.augment.clone();
        augment.sort_unstable();
        if augment.windows(2).any(|w| w[0] == w[1]) {
            return Err(Error::Usage("an augmentation is listed twice".into()));
        }
        if augment.contains(&Augmentation::Concat) && model.fixed_instances {
            return Err(Error::Usage(format!("{} takes clips of one length: remove `augment` concat", model.name)));
        }
        Ok(())
    }

    /// # Errors
    /// `Usage` for an objective of pre-training, which is no model of instruments.
    pub fn check_recogniser(&self) -> Result<()> {
        match nn::is_objective(self.model()?) {
            true => Err(Error::Usage(format!(
                "{} is an objective of pre-training, not a model that recognises instruments",
                self.model
            ))),
            false => Ok(()),
        }
    }

    /// Settings that only objectives of pre-training have.
    fn validate_pretraining(&self) -> Result<()> {
        match (&self.pretrain, nn::is_objective(self.model()?)) {
            (Some(_), false) => {
                let reason = "is not an objective of pre-training: remove the table pretrain";
                Err(Error::Usage(format!("{} {reason}", self.model)))
            }
            (None, true) => {
                let reason = "is an objective of pre-training: the table pretrain is missing";
                Err(Error::Usage(format!("{} {reason}", self.model)))
            }
            (Some(Pretraining { labels, words, head, .. }), true) => {
                let textual = self.model == TEXTUAL;
                let denoises = [DENOISE_ADD, DENOISE_MUL].contains(&self.model.as_str());
                let unused = [
                    ("negatives", head.negatives && !textual),
                    ("absolute", head.absolute && !denoises),
                    ("words", words.is_some() && !textual),
                    ("labels", labels.is_some() && !needs_labels(&self.model)),
                ];
                match unused.iter().find(|(_, given)| *given) {
                    Some((key, _)) => Err(Error::Usage(format!("{} does not use `{key}`: remove it", self.model))),
                    None => Ok(()),
                }
            }
            (None, false) => Ok(()),
        }
    }

    /// The kind of the model's input is one that it takes, and has the settings of its front end.
    fn validate_input(&self) -> Result<()> {
        let (model, Some(input)) = (self.model()?, self.input) else { return Ok(()) };
        if !model.inputs.contains(&input) {
            return Err(Error::Usage(format!("{} does not take {input} features: remove `input`", model.name)));
        }
        match &self.front_end {
            Some(_) if !self.needs_weights()? => {
                Err(Error::Usage(format!("{input} features need no weights: remove `front_end.weights`")))
            }
            Some(FrontEnd { width, pca, scaling, .. })
                if input.network() != Some(Network::Vggish)
                    && (width.is_some() || pca.is_some() || scaling.is_some()) =>
            {
                let reason = "`width`, `front_end.pca` and `front_end.scaling` are VGGish's: remove them";
                Err(Error::Usage(format!("{input} features are not VGGish's; {reason}")))
            }
            _ => Ok(()),
        }
    }

    /// Settings of single notes, and settings that only they have.
    fn validate_notes(&self) -> Result<()> {
        let model = self.model()?;
        let reject = |reason: &str| Err(Error::Usage(format!("{} {reason}", self.model)));
        match (self.notes, model.is_single_note()) {
            (Some(notes), true) if !ATTENTION.contains(&notes.attention) => {
                let known = "attention must be 0, 25, 50, 75 or 100 percent";
                Err(Error::Usage(format!("{known}, not {}", notes.attention)))
            }
            (Some(notes), true) if !model.inputs.contains(&notes.input) => {
                let known: Vec<&str> = model.inputs.iter().map(|kind| kind.name()).collect();
                reject(&format!("takes {}, not {}", known.join(" or "), notes.input))
            }
            (Some(_), false) => reject("is not a single-note model: remove the table notes"),
            (None, true) => reject("is a single-note model: the table notes is missing"),
            (Some(_), true) | (None, false) => Ok(()),
        }
    }

    /// The loss is that of the model's labels, and the optimiser has what is asked of it.
    fn validate_loss(&self) -> Result<()> {
        let reject = |reason: &str| Err(Error::Usage(format!("{} {reason}", self.model)));
        match (self.model()?.single_label, self.loss == Loss::CrossEntropy) {
            (true, false) => return reject("is a single-label model: its loss is cross-entropy, remove `loss`"),
            (false, true) => return reject("is a multi-label model: cross-entropy is for single-label models"),
            _ => {}
        }
        if self.optimiser == Optimiser::Adagrad && self.weight_decay != 0.0 {
            return Err(Error::Usage("adagrad has no weight decay here: `weight_decay` 0, or `optimiser` adam".into()));
        }
        if self.schedule == Schedule::OneCycle && self.optimiser.moments() != 2 {
            return Err(Error::Usage("the one-cycle `schedule` needs `optimiser` adam or adamw".into()));
        }
        Ok(())
    }
}
