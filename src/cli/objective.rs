//! What training minimises, over which examples: options that `wmic train` and `wmic plan` share.

use wmic::ops::masked_bce::{FocalAlpha, Loss};
use wmic::run::config::{Augmentation, Config};

#[derive(clap::Args)]
pub struct ObjectiveArgs {
    /// bce: mean over all known labels of a batch; partial-bce: weighted by clip (ISMIR 2019, Eq. 4); focal: what is already right
    /// counts less; cross-entropy: of models that name one class per clip [default: the model's own: focal for sr16-fl, cross-entropy for
    /// aacnn, else bce]
    #[arg(long, value_enum)]
    pub loss: Option<Loss>,
    /// alpha of partial-bce's g(p) = alpha p^gamma + beta, p the share of known labels [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub alpha: Option<f64>,
    /// beta of partial-bce [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub beta: Option<f64>,
    /// gamma of partial-bce [default: -1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub gamma: Option<f64>,
    /// gamma of the focal loss, 0 to below 100: the higher, the less counts what is already right [default: 2]
    #[arg(long, value_name = "X")]
    pub focal_gamma: Option<f64>,
    /// alpha of the focal loss, 0 to 1: what positive labels weigh, negative ones weigh 1 - alpha; inverse-frequency: for each class
    /// the share of negatives among its known training labels [default: 0.75; inverse-frequency for sr16-fl]
    #[arg(long, value_name = "X|inverse-frequency")]
    pub focal_alpha: Option<FocalAlpha>,
    /// What is done to training clips. mixup: each becomes a weighted sum of itself and another; concat: half of them are followed by
    /// another; both: mixed clips are followed by another [default: nothing]
    #[arg(long, value_enum, value_name = "mixup,concat", value_delimiter = ',')]
    pub augment: Option<Vec<Augmentation>>,
    /// alpha of mixup, above 0 to 1: weights are drawn from Beta(alpha, alpha), near 0 and 1 for a small alpha [default: 0.2]
    #[arg(long, value_name = "X")]
    pub mixup_alpha: Option<f64>,
}

impl ObjectiveArgs {
    /// Puts what was given into `config`.
    pub fn overlay(&self, config: &mut Config) {
        config.loss = self.loss.unwrap_or(config.loss);
        config.alpha = self.alpha.unwrap_or(config.alpha);
        config.beta = self.beta.unwrap_or(config.beta);
        config.gamma = self.gamma.unwrap_or(config.gamma);
        config.focal_gamma = self.focal_gamma.unwrap_or(config.focal_gamma);
        config.focal_alpha = self.focal_alpha.unwrap_or(config.focal_alpha);
        config.augment = self.augment.clone().unwrap_or(std::mem::take(&mut config.augment));
        config.mixup_alpha = self.mixup_alpha.unwrap_or(config.mixup_alpha);
    }
}
