//! Which front end the features of a run come from: features of another one look the same, and make confident nonsense.

use std::path::{Path, PathBuf};

use crate::core::error::{Error, Result};
use crate::data::npz_note;
use crate::features::feature_config::FeatureConfig;
use crate::features::front_end::{FrontEnd, Source};
use crate::features::scaling::Scaling;
use crate::nn::front_ends::vggish::Width;
use crate::run::config::Config;

/// Whose features are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A new run's, which records their front end.
    Training,
    /// Input of a trained run, which must have been made as the run's own features were.
    Input,
}

impl Config {
    /// Checks that the features in the file or folder `features` are those that the model takes, of the front end in
    /// the settings, and adds their front end to these. What features were made with is recorded in the archives that
    /// `wmic features` writes.
    ///
    /// # Errors
    /// `Data` for features of another kind or front end, or of an unknown one if the settings' is known; `Usage` and
    /// `Checkpoint` for weights that are missing or cannot have made them.
    pub fn check_features(&mut self, features: &Path, purpose: Use) -> Result<()> {
        let kind = self.kind()?;
        let fail = |reason: String| Err(Error::data(features, reason));
        let made_with = match features.is_file() && npz_note(features)?.is_some() {
            true => FeatureConfig::of_npz(features)?,
            false => return self.check_unrecorded(features),
        };
        if made_with.kind != kind {
            return fail(format!(
                "has {:?} features, but {} takes {:?}",
                made_with.kind.name(),
                self.model,
                kind.name()
            ));
        }
        let needs_weights = kind.row().weights.is_some();
        match (&self.front_end, &made_with.front_end) {
            (Some(_), None) if needs_weights => self.check_unrecorded(features),
            (Some(FrontEnd { width: Some(asked), .. }), Some(made)) if *asked != made.width() => {
                fail(format!("was extracted at `width` {}, not {asked}", made.width()))
            }
            (Some(asked), Some(made)) if asked.fingerprint.is_some() && asked.fingerprint != made.fingerprint => {
                fail("was extracted with weights other than the run's".into())
            }
            (Some(asked), Some(made)) if asked.last_relu.is_some_and(|relu| relu != made.has_last_relu()) => {
                let (made, asked) = if made.has_last_relu() { ("with", "without") } else { ("without", "with") };
                fail(format!("was extracted {made} VGGish's last ReLU, but the run's features {asked} it"))
            }
            (Some(asked), Some(made)) if kind.row().embedding && is_scaled_otherwise(asked, made) => fail(
                "has embeddings with another `front_end.scaling`, or another minimum and maximum, than requested"
                    .into(),
            ),
            (Some(asked), Some(made)) if asked.fingerprint.is_none() => {
                // Given again: the same weights, possibly at another path.
                let front_end = FrontEnd { weights: asked.weights.clone(), ..made.clone() };
                front_end.load()?;
                self.front_end = Some(front_end);
                Ok(())
            }
            (None, Some(made)) if purpose == Use::Input && needs_weights => match &made.weights {
                random if random.is_random() => {
                    fail(format!("was extracted with {random} VGGish weights, which did not make the run's features"))
                }
                weights => fail(format!(
                    "was extracted with {weights}, but the run does not record what its features were made with; if \
                     they were made with the same weights, give these: `front_end.weights` FILE"
                )),
            },
            (None, Some(made)) => {
                self.front_end = Some(made.clone());
                Ok(())
            }
            // Log-mel patches do not depend on VGGish's weights.
            (Some(asked), None) if asked.fingerprint.is_none() => {
                let mut front_end = asked.clone();
                front_end.pin()?;
                self.front_end = Some(front_end);
                Ok(())
            }
            (None, None) if kind.is_single_note() && made_with.scale != self.notes.unwrap_or_default().scale => {
                fail("was extracted with another `notes.scale`".into())
            }
            (None, None) if !self.needs_weights()? => Ok(()),
            (None, None) => {
                Err(Error::Usage(format!("{} needs VGGish weights: `front_end.weights` FILE or random", self.model)))
            }
            _ => Ok(()),
        }
    }

    /// Features that do not record their front end, such as OpenMIC's own embeddings.
    fn check_unrecorded(&mut self, features: &Path) -> Result<()> {
        if self.front_end.as_ref().is_some_and(|f| f.fingerprint.is_some()) {
            let reason = "does not record its front end; this run was trained on features with a known one";
            return Err(Error::data(features, reason));
        }
        if !self.kind()?.row().published {
            return Err(Error::data(features, "does not record its front end; extract the features again"));
        }
        match &mut self.front_end {
            Some(FrontEnd { weights, .. }) if weights.is_random() => Err(Error::data(
                features,
                format!("does not record its front end, which was not {weights}: remove `front_end.weights`"),
            )),
            // The user gives the front end; its weights are recorded from now on.
            Some(front_end) => front_end.pin().map(drop),
            None => Ok(()),
        }
    }

    /// Says where the weights of a trained run's front end are now; or what they are, with `width` and `pca`, if the
    /// run does not record its front end.
    ///
    /// # Errors
    /// `Usage` for a run without VGGish, random weights for features that do not record their front end, and a `width`
    /// or `pca` for those that do; `Checkpoint` for other weights than the run's.
    pub fn locate_front_end(&mut self, weights: &Source, width: Option<Width>, pca: Option<&PathBuf>) -> Result<()> {
        if !self.needs_weights()? {
            return Err(Error::Usage(format!("{} does not use VGGish: remove `front_end.weights`", self.model)));
        }
        match &mut self.front_end {
            Some(_) if width.is_some() || pca.is_some() => Err(Error::Usage(
                "the run records the width and PCA of its front end: remove `width` and `front_end.pca`".into(),
            )),
            Some(front_end) => {
                front_end.weights = weights.clone();
                front_end.load().map(drop)
            }
            None if weights.is_random() => Err(Error::Usage(format!(
                "the run does not record the front end of its features, which was not {weights}: give the VGGish \
                 weights that they were made with, `front_end.weights` FILE"
            ))),
            none => {
                let front_end = FrontEnd::new(weights.clone(), width);
                *none = Some(FrontEnd { pca: pca.cloned(), scaling: Some(Scaling::Pca8), ..front_end });
                Ok(())
            }
        }
    }
}

/// Whether features have another scaling than the front end of a run, or the options.
fn is_scaled_otherwise(asked: &FrontEnd, made: &FrontEnd) -> bool {
    let decided = asked.fingerprint.is_some() || asked.scaling.is_some();
    decided && asked.scaling() != made.scaling() || asked.range.is_some() && asked.range != made.range
}
