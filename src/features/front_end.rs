//! VGGish as a front end: its weights and width, and the post-processing of its embeddings.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::hash::Fingerprint;
use crate::core::tensors::{File, floats};
use crate::features::scaling::{PostProcess, Range, Scaling};
use crate::features::weight_store;
use crate::gpu::{Buffer, Gpu};
use crate::graph::Layout;
use crate::nn::front_ends::vggish::{self, EMBEDDING, Width};
use crate::nn::layers::WeightInit;

/// Source of VGGish's weights. As text: a path; `vggish`; `random` or `random-glorot`, both also with `:SEED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// He's, drawn with this seed; the same for all replicas.
    Random(u64),
    /// As `Random`, but Glorot's (uniform).
    RandomGlorot(u64),
    /// Those that the user has added, see [`weight_store`].
    Stored,
    /// A safetensors file with the names of torchvggish's state dict.
    File(PathBuf),
}

impl Source {
    pub(crate) fn is_random(&self) -> bool {
        matches!(self, Source::Random(_) | Source::RandomGlorot(_))
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
            (weight_store::VGGISH, "0") => Ok(Source::Stored),
            _ => Ok(Source::File(text.into())),
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
            Source::Stored => f.write_str(weight_store::VGGISH),
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

    /// Reads or draws the weights.
    ///
    /// # Errors
    /// `Checkpoint` for a file that is damaged, of another width or of another network, one that was trained with
    /// another end, and one that has changed since the fingerprint was taken.
    pub fn load(&self) -> Result<Weights> {
        let mut weights = match &self.weights {
            Source::Random(seed) => Weights::random(self.width(), vggish::INIT, *seed),
            Source::RandomGlorot(seed) => Weights::random(self.width(), WeightInit::XavierUniform, *seed),
            Source::Stored => Weights::read(&weight_store::vggish()?, self.width)?,
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
            self.width = Some(self.load()?.width);
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
        self.width = Some(weights.width);
        self.last_relu = self.last_relu.or(weights.last_relu).or(Some(true));
        Ok(weights)
    }
}

/// VGGish's parameters, by torchvggish's names.
pub struct Weights {
    arrays: Vec<(String, Array<f32>)>,
    width: Width,
    /// If the weights contain one. For random weights it only rounds to 8 bits.
    pub post_process: Option<PostProcess>,
    /// Whether that is a PCA.
    has_pca: bool,
    /// Minimum and maximum of each dimension, if the weights contain them.
    range: Option<Range>,
    /// Whether they were trained with a ReLU after the last dense layer, if the file says.
    last_relu: Option<bool>,
}

/// Of pre-training, stored with the weights.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct About {
    pub objective: String,
    pub width: Width,
    pub last_relu: bool,
    pub seed: u64,
}

impl Weights {
    fn random(width: Width, init: WeightInit, seed: u64) -> Weights {
        let layout = vggish::layout(width, init);
        let (trained, stats) = layout.initial(seed);
        Weights {
            arrays: layout.unpack(&trained, &stats),
            width,
            post_process: Some(PostProcess::identity()),
            has_pca: false,
            range: None,
            last_relu: None,
        }
    }

    /// `width`: that of the file, if it is known.
    fn read(path: &Path, width: Option<Width>) -> Result<Weights> {
        Weights::of(path, &File::read(path)?, width)
    }

    /// `path` for messages.
    pub(super) fn of(path: &Path, file: &File, width: Option<Width>) -> Result<Weights> {
        let tensors = file.tensors();
        // Of every width.
        let known = vggish::layout(width.unwrap_or_default(), vggish::INIT);
        let known = |name: &str| known.params.iter().any(|p| p.name == name) || name.starts_with("pproc.");
        if let Some(extra) = tensors.names().iter().find(|name| !known(name)) {
            return Err(Error::checkpoint(
                path,
                format!("has an unexpected tensor {extra} (torchvggish's names are expected)"),
            ));
        }
        // Files of others have no metadata of ours.
        let about = file.has_about().then(|| file.about::<About>(path)).transpose()?;
        let width = match (width, about.as_ref().map(|about| about.width)) {
            (Some(asked), Some(made)) if asked != made => {
                return Err(Error::checkpoint(path, format!("is a VGGish of `width` {made}, not {asked}")));
            }
            (asked, made) => {
                // The first layer has 64 channels at full width.
                let first = tensors.tensor("features.0.bias").ok().and_then(|bias| bias.shape().first().copied());
                asked.or(made).or(Width::with_channels(first.unwrap_or(0), 64)).unwrap_or_default()
            }
        };
        let layout = vggish::layout(width, vggish::INIT);
        let read = |name: &str, shape: &[usize]| floats(path, &tensors, name, shape);
        let hint = |e: Error| match e {
            Error::Checkpoint { reason, .. } => Error::checkpoint(
                path,
                format!(
                    "{} (a VGGish of `width` {width} is expected)",
                    reason.replace(": weights of another model?", "")
                ),
            ),
            other => other,
        };
        let arrays = layout.params.iter().map(|p| {
            let values = read(&p.name, p.shape.dims()).map_err(hint)?;
            Ok((p.name.clone(), Array::new(p.shape.clone(), values)))
        });
        let arrays = arrays.collect::<Result<_>>()?;
        // torchvggish stores the mean as a column.
        let flat = tensors.tensor("pproc.pca_means").is_ok_and(|mean| mean.shape() == [EMBEDDING]);
        let post_process = match tensors.names().iter().any(|name| name.starts_with("pproc.pca")) {
            false => None,
            true => Some(PostProcess {
                matrix: read("pproc.pca_eigen_vectors", &[EMBEDDING, EMBEDDING])?.into_iter().map(f64::from).collect(),
                mean: read("pproc.pca_means", if flat { &[EMBEDDING] } else { &[EMBEDDING, 1] })?
                    .into_iter()
                    .map(f64::from)
                    .collect(),
            }),
        };
        let range = match tensors.names().iter().any(|name| ["pproc.min", "pproc.max"].contains(name)) {
            false => None,
            true => {
                let [min, max] = ["pproc.min", "pproc.max"].map(|name| read(name, &[EMBEDDING]));
                Some(Range::new(min?, max?).map_err(|reason| Error::checkpoint(path, format!("pproc.min {reason}")))?)
            }
        };
        let last_relu = about.map(|about| about.last_relu);
        Ok(Weights { arrays, width, has_pca: post_process.is_some(), post_process, range, last_relu })
    }

    pub fn get(&self, name: &str) -> Option<&Array<f32>> {
        self.arrays.iter().find(|(n, _)| n == name).map(|(_, array)| array)
    }

    /// FNV-1a of all values.
    pub fn fingerprint(&self) -> String {
        let mut fingerprint = Fingerprint::default();
        let mut mix = |word: u64| fingerprint.mix(word);
        self.arrays.iter().flat_map(|(_, a)| a.data()).for_each(|v| mix(v.to_bits().into()));
        let post_process = self.post_process.iter();
        post_process.flat_map(|p| p.matrix.iter().chain(&p.mean)).for_each(|v| mix(v.to_bits()));
        format!("{:016x}", fingerprint.finish())
    }

    /// The weights whose names begin with `prefix`, on the GPU.
    pub fn upload(&self, gpu: &Gpu, prefix: &str) -> Result<Vec<(String, Buffer)>> {
        let chosen = self.arrays.iter().filter(|(name, _)| name.starts_with(prefix));
        chosen.map(|(name, array)| Ok((name.clone(), gpu.upload(name, array.data())?))).collect()
    }

    /// Replaces the initial values of the parameters that a model shares with VGGish.
    pub fn overlay(&self, layout: &Layout, trained: &mut [f32]) {
        for p in layout.params.iter().filter(|p| p.trainable) {
            if let Some(array) = self.get(&p.name) {
                trained[p.offset..p.offset + array.data().len()].copy_from_slice(array.data());
            }
        }
    }
}
