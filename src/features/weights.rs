//! The weights of VGGish, as files have them or drawn at random, and of YAMNet.

use std::path::Path;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::files::read_start;
use crate::core::hash::Fingerprint;
use crate::core::shape::Shape;
use crate::core::tensors::{File, floats, reject_extra};
use crate::core::tflite;
use crate::features::scaling::{PostProcess, Range};
use crate::features::yamnet::{self as yamnet_file, Parameter};
use crate::gpu::{Buffer, Gpu};
use crate::graph::Layout;
use crate::nn::front_ends::network::Network;
use crate::nn::front_ends::vggish::{self, EMBEDDING, Width};
use crate::nn::front_ends::yamnet;
use crate::nn::layers::WeightInit;

/// A network's parameters, VGGish's by torchvggish's names.
pub struct Weights {
    pub(super) network: Network,
    arrays: Vec<(String, Array<f32>)>,
    /// Of VGGish.
    pub(super) width: Option<Width>,
    /// If the weights contain one. For random weights it only rounds to 8 bits.
    pub post_process: Option<PostProcess>,
    /// Whether that is a PCA.
    pub(super) has_pca: bool,
    /// Minimum and maximum of each dimension, if the weights contain them.
    pub(super) range: Option<Range>,
    /// Whether they were trained with a ReLU after the last dense layer, if the file says.
    pub(super) last_relu: Option<bool>,
}

/// Of pre-training, stored with the weights.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct About {
    pub objective: String,
    pub width: Width,
    pub last_relu: bool,
    pub seed: u64,
}

fn yamnet_tensors(path: &Path, tensors: &SafeTensors) -> Result<Vec<Parameter>> {
    let known: Vec<_> = yamnet::layers().iter().flat_map(|layer| layer.parameters()).collect();
    reject_extra(path, tensors, &|name| known.iter().any(|(of, _)| of == name))?;
    let read = |(name, shape): (String, Vec<usize>)| {
        let values = floats(path, tensors, &name, &shape)?;
        Ok((name, shape, values))
    };
    known.into_iter().map(read).collect()
}

impl Weights {
    pub(super) fn random(width: Width, init: WeightInit, seed: u64) -> Weights {
        let layout = vggish::layout(width, init);
        let (trained, stats) = layout.initial(seed);
        Weights {
            network: Network::Vggish,
            arrays: layout.unpack(&trained, &stats),
            width: Some(width),
            post_process: Some(PostProcess::identity()),
            has_pca: false,
            range: None,
            last_relu: None,
        }
    }

    /// `width`: that of a VGGish in the file, if it is known.
    pub(super) fn read(path: &Path, width: Option<Width>) -> Result<Weights> {
        match tflite::is_tflite(&read_start(path, tflite::START)?) {
            true => Ok(Weights::of_yamnet(yamnet_file::read(path)?)),
            false => Weights::of(path, &File::read(path)?, width),
        }
    }

    /// `path` for messages.
    pub(super) fn of(path: &Path, file: &File, width: Option<Width>) -> Result<Weights> {
        let tensors = file.tensors();
        if Weights::network_of(&tensors) == Network::Yamnet {
            return Ok(Weights::of_yamnet(yamnet_tensors(path, &tensors)?));
        }
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
        let (network, width) = (Network::Vggish, Some(width));
        Ok(Weights { network, arrays, width, has_pca: post_process.is_some(), post_process, range, last_relu })
    }

    /// Whose the tensors of a file are, by their names; VGGish's if they are neither's.
    pub(super) fn network_of(tensors: &SafeTensors) -> Network {
        let is_yamnet = tensors.names().iter().any(|name| name.starts_with(yamnet::CONVOLUTIONS));
        if is_yamnet { Network::Yamnet } else { Network::Vggish }
    }

    fn of_yamnet(parameters: Vec<Parameter>) -> Weights {
        let array = |(name, shape, values): Parameter| (name, Array::new(Shape::new(shape), values));
        Weights {
            network: Network::Yamnet,
            arrays: parameters.into_iter().map(array).collect(),
            width: None,
            post_process: None,
            has_pca: false,
            range: None,
            last_relu: None,
        }
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

    /// The weights whose names begin with `prefix`.
    pub(crate) fn named(&self, prefix: &str) -> impl Iterator<Item = &(String, Array<f32>)> {
        self.arrays.iter().filter(move |(name, _)| name.starts_with(prefix))
    }

    /// The weights whose names begin with `prefix`, on the GPU.
    pub fn upload(&self, gpu: &Gpu, prefix: &str) -> Result<Vec<(String, Buffer)>> {
        self.named(prefix).map(|(name, array)| Ok((name.clone(), gpu.upload(name, array.data())?))).collect()
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
