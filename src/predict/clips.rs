//! Predicts clips with a trained model.

use crate::core::error::{Error, Result};
use crate::data::Features;
use crate::features::device_dataset::DeviceDataset;
use crate::gpu::Gpu;
use crate::nn;
use crate::predict::forest::{self, Forest};
use crate::predict::predictor::{Detail, Predictions, Predictor};
use crate::predict::trained::{Trained, TrainedModel};
use crate::run::network;
use crate::run::weights::About;

/// A trained model and clips to predict. Clips and weights are uploaded once.
pub(crate) enum ClipPredictor<'a> {
    Network(Box<Predictor>),
    /// The forests of all seeds, which run on the CPU.
    Forest(&'a [Forest], &'a Features),
}

impl<'a> ClipPredictor<'a> {
    /// Uploads the clips of `features`.
    ///
    /// # Errors
    /// `Shape` when they do not have the shape of the training clips; `Limit` or `Gpu` for too little memory;
    /// `Checkpoint` for front-end weights that are missing or have changed.
    pub fn new(gpu: &Gpu, trained: &'a Trained, features: &'a Features, detail: Detail) -> Result<ClipPredictor<'a>> {
        accept(&trained.about, features.instances, features.width)?;
        match &trained.model {
            TrainedModel::Network(_) => {
                let dataset = DeviceDataset::unlabelled(gpu, features, trained.about.classes.len())?;
                Ok(ClipPredictor::Network(Box::new(trained.predictor(gpu, &dataset, detail)?)))
            }
            TrainedModel::Forest(forests) => Ok(ClipPredictor::Forest(forests, features)),
        }
    }

    /// Predicts the clips `rows[r]` with seed r; the same number for all seeds.
    pub fn predict(&mut self, rows: &[Vec<u32>]) -> Result<Predictions> {
        match self {
            ClipPredictor::Network(predictor) => predictor.predict(rows),
            ClipPredictor::Forest(forests, features) => Ok(forest::predict(forests, features, rows)),
        }
    }
}

impl Trained {
    /// Prepares a network to predict the clips of `dataset`, which is shared, not copied.
    ///
    /// # Errors
    /// `Shape` when the clips do not have the shape of the training clips; `Limit` or `Gpu` for too little memory;
    /// `Checkpoint` for front-end weights that are missing or have changed; `Usage` for a forest, which does not
    /// run on a GPU.
    pub fn predictor(&self, gpu: &Gpu, dataset: &DeviceDataset, detail: Detail) -> Result<Predictor> {
        let TrainedModel::Network(network) = &self.model else {
            return Err(Error::Usage(format!("{} is not a neural network and runs on the CPU", self.about.model)));
        };
        accept(&self.about, dataset.dims.instances, dataset.dims.width)?;
        let frozen = network::frozen(gpu, &self.config)?;
        Predictor::new(gpu, &self.config, &network.blocks, dataset, &frozen, detail)
    }
}

/// # Errors
/// `Shape` when clips of this many instances and values do not match the training clips.
pub(crate) fn accept(about: &About, instances: usize, width: usize) -> Result<()> {
    let model = nn::find(&about.model)?;
    if width != about.width || (model.fixed_instances && instances != about.instances) {
        let expected =
            format!("clips of {} instances of {} values, as it was trained on", about.instances, about.width);
        return Err(Error::shape(model.name, expected, format!("{instances} of {width}")));
    }
    Ok(())
}
