//! What determines the features of a file; stored beside them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::data::npz_note;
use crate::features::front_end::{FrontEnd, Source};
use crate::features::scaling::{PostProcess, Range, Scaling};
use crate::features::weights::Weights;
use crate::nn::front_ends::kind::{FeatureKind, Options, SpectrogramFrames};
use crate::nn::front_ends::network::Network;
use crate::nn::front_ends::spectrum::Scale;
use crate::nn::front_ends::vggish::Width;

/// Number of the way in which sound becomes features. It increases with each change of decoding, resampling or
/// computing that changes features, so that cached ones are made anew.
const VERSION: u32 = 3;

/// Everything that determines the features of a file. Stored beside them, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureConfig {
    pub kind: FeatureKind,
    /// Of kinds made by a network whose weights are not a part of wmic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front_end: Option<FrontEnd>,
    /// Of spectra of notes; log-mel spectra have a fixed one.
    #[serde(default, skip_serializing_if = "Scale::is_magnitude")]
    pub scale: Scale,
}

impl FeatureConfig {
    /// Without VGGish's weights, with linear magnitudes.
    pub fn of(kind: FeatureKind) -> FeatureConfig {
        FeatureConfig { kind, front_end: None, scale: Scale::Magnitude }
    }

    /// Of the graph that computes its features.
    pub(crate) fn options(&self, spectrogram: SpectrogramFrames) -> Options {
        let last_relu = self.front_end.as_ref().is_none_or(FrontEnd::has_last_relu);
        Options { width: self.width(), scale: self.scale, last_relu, spectrogram }
    }

    /// The post-processing of embeddings that are stored in 8 bits.
    ///
    /// # Errors
    /// `Usage` for weights without one.
    pub(crate) fn post_process<'a>(&self, weights: Option<&'a Weights>) -> Result<Option<&'a PostProcess>> {
        let Some(weights) = weights.filter(|_| self.is_in_bytes()) else { return Ok(None) };
        let missing = || {
            let reason = "the VGGish weights have no PCA (pproc.*), which embeddings need; \
                          set `front_end.pca` to a FILE.npz, or `front_end.scaling` to minmax";
            Error::Usage(reason.into())
        };
        weights.post_process.as_ref().ok_or_else(missing).map(Some)
    }

    pub(super) fn width(&self) -> Width {
        self.front_end.as_ref().map(FrontEnd::width).unwrap_or_default()
    }

    /// Shape of an instance.
    pub fn instance(&self) -> Vec<usize> {
        self.kind.instance(self.width())
    }

    pub fn instance_len(&self) -> usize {
        self.kind.instance_len(self.width())
    }

    /// Whether its features are stored in 8 bits rather than 16.
    pub(crate) fn is_in_bytes(&self) -> bool {
        self.kind.row().embedding && !self.is_scaled()
    }

    /// Whether the spectrum of the sound is recorded beside its features, which do not contain it: those of networks.
    pub(crate) fn has_spectrum(&self) -> bool {
        self.kind.row().network
    }

    /// Whether its features are scaled by minimum and maximum.
    pub fn is_scaled(&self) -> bool {
        self.kind.row().embedding && self.front_end.as_ref().is_some_and(|f| f.scaling() == Scaling::Minmax)
    }

    /// The range by which embeddings are scaled, if it is known.
    pub fn range(&self) -> Option<&Range> {
        self.front_end.as_ref().and_then(|front_end| front_end.range.as_ref())
    }

    pub(crate) fn without_range(&self) -> FeatureConfig {
        let mut config = self.clone();
        config.front_end.iter_mut().for_each(|front_end| front_end.range = None);
        config
    }

    /// The configuration in the note of an archive of features.
    ///
    /// # Errors
    /// `Data` if it has none, or an unreadable one.
    pub(crate) fn of_npz(npz: &Path) -> Result<FeatureConfig> {
        let text = npz_note(npz)?.unwrap_or_default();
        serde_json::from_str(&text)
            .map_err(|_| Error::data(npz, "has an unreadable frontend.json; extract the features again"))
    }

    /// Independent of the paths of the weights, once they are fixed by their fingerprint. Includes a version, as
    /// another one may decode or compute differently.
    pub fn key(&self) -> String {
        let mut config = self.clone();
        if let Some(front_end) = config.front_end.as_mut().filter(|f| f.fingerprint.is_some()) {
            (front_end.weights, front_end.pca) = (Source::Random(0), None);
        }
        format!("{} {VERSION} {}", env!("CARGO_PKG_VERSION"), config.note())
    }

    pub fn note(&self) -> String {
        serde_json::to_string(self).expect("a configuration serialises")
    }

    /// Loads the weights and fixes them by their fingerprint.
    ///
    /// # Errors
    /// `Usage` for the weights of another network than the features'; those of [`FrontEnd::load`].
    pub fn load(&mut self) -> Result<Option<Weights>> {
        let Some(front_end) = &mut self.front_end else { return Ok(None) };
        let (kind, is_new) = (self.kind, front_end.fingerprint.is_none());
        let source = front_end.weights.clone();
        let check = |given: Network| match kind.network().filter(|needed| *needed != given) {
            Some(needed) => Err(Error::Usage(format!(
                "{kind} features need {}, but {source} are weights of {}",
                needed.title(),
                given.title()
            ))),
            None => Ok(()),
        };
        source.network().map_or(Ok(()), check)?;
        let weights = front_end.pin()?;
        check(weights.network)?;
        if is_new && self.kind.row().embedding {
            front_end.settle_scaling(&weights)?;
        }
        Ok(Some(weights))
    }
}
