//! VGGish and YAMNet as front ends: where their weights come from, VGGish's width, and the post-processing of its
//! embeddings.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::features::scaling::{PostProcess, Range, Scaling};
use crate::features::weight_store;
use crate::features::weights::Weights;
use crate::nn::front_ends::kind::FeatureKind;
use crate::nn::front_ends::network::Network;
use crate::nn::front_ends::vggish::{self, Width};
use crate::nn::layers::WeightInit;

/// Source of a network's weights. As text: a path; `vggish` or `yamnet`; `random` or `random-glorot` for VGGish's, both
/// also with `:SEED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// He's, drawn with this seed; the same for all replicas.
    Random(u64),
    /// As `Random`, but Glorot's (uniform).
    RandomGlorot(u64),
    /// Those that the user has added, see [`weight_store`].
    Stored(Network),
    /// A safetensors file, of VGGish with the names of torchvggish's state dict; or YAMNet's own.
    File(PathBuf),
}

impl Source {
    pub(crate) fn is_random(&self) -> bool {
        matches!(self, Source::Random(_) | Source::RandomGlorot(_))
    }

    /// Whose weights they are, if that is known without a look at a file.
    pub(super) fn network(&self) -> Option<Network> {
        match self {
            Source::Random(_) | Source::RandomGlorot(_) => Some(Network::Vggish),
            Source::Stored(network) => Some(*network),
            Source::File(_) => None,
        }
    }
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Source> {
        let seed =
            |seed: &str| seed.parse().map_err(|_| Error::Usage(format!("{text} needs a whole number as its seed")));
        match text.split_once(':').unwrap_or((text, "0")) {
            ("random", of) => Ok(Source::Random(seed(of)?)),
            ("random-glorot", of) => Ok(Source::RandomGlorot(seed(of)?)),
            _ => {
                let stored = Network::ALL.into_iter().find(|network| network.name() == text);
                Ok(stored.map_or_else(|| Source::File(text.into()), Source::Stored))
            }
        }
    }
}

impl TryFrom<String> for Source {
    type Error = Error;

    fn try_from(text: String) -> Result<Source> {
        text.parse()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Source::Random(0) => f.write_str("random"),
            Source::Random(seed) => write!(f, "random:{seed}"),
            Source::RandomGlorot(0) => f.write_str("random-glorot"),
            Source::RandomGlorot(seed) => write!(f, "random-glorot:{seed}"),
            Source::Stored(network) => f.write_str(network.name()),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl From<Source> for String {
    fn from(source: Source) -> String {
        source.to_string()
    }
}

/// Everything that determines the output of a front end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrontEnd {
    pub weights: Source,
    /// Of VGGish. `None`: as the weights were trained, and full if they do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<Width>,
    /// ReLU after the last dense layer, as in the release of 2017, used for OpenMIC's features. `None`: as the weights
    /// were trained, and with it if they do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_relu: Option<bool>,
    /// An npz with the PCA of the embeddings, instead of the one in the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pca: Option<PathBuf>,
    /// Scaling of embeddings; `None`: [`Scaling::Pca8`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// Of [`Scaling::Minmax`], once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// FNV-1a of all weights, in hex, once they have been loaded: a resumed run must use the same front end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

impl FrontEnd {
    pub fn new(weights: Source, width: impl Into<Option<Width>>) -> FrontEnd {
        FrontEnd {
            weights,
            width: width.into(),
            last_relu: None,
            pca: None,
            scaling: None,
            range: None,
            fingerprint: None,
        }
    }

    /// That of features whose weights the user has added, which need not be given: YAMNet's.
    pub fn of_stored(kind: FeatureKind) -> Option<FrontEnd> {
        let network = kind.network().filter(|network| *network == Network::Yamnet);
        network.map(|network| FrontEnd::new(Source::Stored(network), None))
    }

    /// Why they are not there, if they are weights that the user has to add.
    pub(crate) fn missing(&self) -> Option<Error> {
        match self.weights {
            Source::Stored(network) => weight_store::file(network).err(),
            _ => None,
        }
    }

    /// Reads or draws the weights.
    ///
    /// # Errors
    /// `Checkpoint` for a file that is damaged, of another width or of another network, one that was trained with
    /// another end, and one that has changed since the fingerprint was taken.
    pub fn load(&self) -> Result<Weights> {
        let mut weights = match &self.weights {
            Source::Random(seed) => Weights::random(self.width(), vggish::INIT, *seed),
            Source::RandomGlorot(seed) => Weights::random(self.width(), WeightInit::XavierUniform, *seed),
            Source::Stored(network) => weight_store::read(*network, self.width)?,
            Source::File(path) => Weights::read(path, self.width)?,
        };
        if let Some(pca) = &self.pca {
            weights.post_process = Some(PostProcess::read(pca)?);
            weights.has_pca = true;
        }
        let wrong = |reason: &str| Err(Error::checkpoint(Path::new(&self.weights.to_string()), reason));
        match (self.last_relu, weights.last_relu) {
            (Some(true), Some(false)) => return wrong("was trained without VGGish's last ReLU"),
            (Some(false), Some(true)) => return wrong("was trained with VGGish's last ReLU"),
            _ => {}
        }
        match &self.fingerprint {
            Some(known) if *known != weights.fingerprint() => {
                wrong("has weights other than those of the features or the run")
            }
            _ => Ok(weights),
        }
    }

    /// Once the weights have been loaded.
    pub fn width(&self) -> Width {
        self.width.unwrap_or_default()
    }

    /// Whether VGGish ends with a ReLU, once the weights have been loaded.
    pub(crate) fn has_last_relu(&self) -> bool {
        self.last_relu.unwrap_or(true)
    }

    pub fn scaling(&self) -> Scaling {
        self.scaling.unwrap_or_default()
    }

    /// Chooses the scaling before the first embeddings are computed with these weights: as requested, else by the PCA,
    /// and without one by minimum and maximum, which the weights may contain.
    ///
    /// # Errors
    /// `Usage` for an unused or a missing PCA.
    pub(crate) fn settle_scaling(&mut self, weights: &Weights) -> Result<()> {
        if self.scaling.is_none() && !weights.has_pca {
            self.scaling = Some(Scaling::Minmax);
        }
        if self.scaling() == Scaling::Minmax {
            if self.pca.is_some() {
                return Err(Error::Usage("`front_end.pca` is for `front_end.scaling` pca8: remove one of them".into()));
            }
            self.range = self.range.take().or_else(|| weights.range.clone());
        }
        Ok(())
    }

    /// Reads the width from the weights, for a plan that does not load them.
    ///
    /// # Errors
    /// As [`FrontEnd::load`], of a file.
    pub(crate) fn settle_width(&mut self) -> Result<()> {
        if self.width.is_none() && !self.weights.is_random() {
            self.width = self.load()?.width;
        }
        Ok(())
    }

    /// Loads the weights, and fixes them by their fingerprint, their width and the network's end.
    ///
    /// # Errors
    /// As [`FrontEnd::load`].
    pub(crate) fn pin(&mut self) -> Result<Weights> {
        let weights = self.load()?;
        self.fingerprint = Some(weights.fingerprint());
        if weights.network == Network::Vggish {
            self.width = weights.width;
            self.last_relu = self.last_relu.or(weights.last_relu).or(Some(true));
        }
        Ok(weights)
    }
}
