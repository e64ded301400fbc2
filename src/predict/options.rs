//! How recordings are recognised.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::error::{Error, Result};
use crate::gpu::Precision;
use crate::nn::{self, FeatureKind};
use crate::predict::timeline::Segmentation;
use crate::predict::trained::Trained;

/// Minimum hop in seconds.
const MIN_HOP: f64 = 0.01;
/// Default of [`Options::gate`].
const GATE: f32 = 60.0;

/// How the probabilities of the excerpts are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregate {
    /// Power mean with exponent 4: near the maximum, but independent of the length of the recording.
    Power,
    /// Mean over the excerpts.
    Mean,
    /// Maximum over the excerpts: present if present in any, so false alarms grow with the length.
    Max,
    /// Mean weighted by each excerpt's attention, as if they were one bag.
    Attention,
}

/// Options of recognition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Hop between excerpts in seconds, from 0.01 (single notes: 0.5) to the length of an excerpt. `None`: that of
    /// the features, 4.8 to 10 (1).
    pub hop: Option<f64>,
    /// `None`: power, or mean for single-label models.
    pub aggregate: Option<Aggregate>,
    /// dB below the peak of a recording (its largest sample) at which its instances are silent, above 0. `None`: 60.
    /// Instances below -80 dB of full scale are silent in any case.
    pub gate: Option<f32>,
    /// Whether instruments of recordings that are unlike the training clips (see [`Recognition::is_unreliable`]) can be
    /// present.
    ///
    /// [`Recognition::is_unreliable`]: crate::predict::recognition::Recognition::is_unreliable
    pub keep_unreliable: bool,
    /// How activity becomes segments.
    pub segmentation: Segmentation,
    /// Whether to return a spectrogram.
    pub spectrogram: bool,
}

impl Options {
    pub(crate) fn gate(&self) -> f32 {
        self.gate.unwrap_or(GATE)
    }

    pub(crate) fn hop(&self, kind: FeatureKind) -> f64 {
        self.hop.unwrap_or(kind.row().hop)
    }

    /// All that determines the recognition of a recording, apart from the weights: these options and what the run says
    /// about its features and thresholds.
    ///
    /// # Errors
    /// `Usage` for an unknown model.
    pub fn settings(&self, trained: &Trained) -> Result<Map<String, Value>> {
        let Segmentation { min_duration, median } = self.segmentation;
        let settings = json!({
            "model": trained.about.model,
            "features": trained.feature_config().ok().map(|config| config.key()),
            "hop": self.hop(trained.config.kind()?),
            "aggregate": self.aggregate,
            "gate": self.gate(),
            "keep_unreliable": self.keep_unreliable,
            "threshold": trained.config.threshold,
            "calibrate": trained.calibrated,
            "min_duration": min_duration,
            "median": median,
        });
        let Value::Object(mut settings) = settings else { unreachable!("an object") };
        if trained.config.precision != Precision::F32 {
            settings.insert("precision".into(), json!(trained.config.precision));
        }
        Ok(settings)
    }

    /// Checks their ranges, and whether they apply to a model.
    ///
    /// # Errors
    /// `Usage`.
    pub fn check(&self, trained: &Trained) -> Result<()> {
        let model = nn::find(&trained.about.model)?;
        let (has_attention, kind) = (model.has_attention, trained.config.kind()?);
        let (hop, longest) = (self.hop(kind), kind.window());
        // Seconds that overlap more add no information.
        let shortest = if kind.is_single_note() { longest / 2.0 } else { MIN_HOP };
        if !(shortest..=longest).contains(&hop) {
            return Err(Error::Usage(format!("`hop` {hop} s is out of range: {shortest} to {longest} s")));
        }
        if !self.gate().is_finite() || self.gate() <= 0.0 {
            return Err(Error::Usage(format!("`gate` {} dB is out of range: above 0", self.gate())));
        }
        self.segmentation.check()?;
        if self.aggregate == Some(Aggregate::Attention) && !has_attention {
            return Err(Error::Usage(format!("{} has no attention: `aggregate` power, mean or max", model.name)));
        }
        Ok(())
    }
}
