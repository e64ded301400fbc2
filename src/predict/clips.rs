//! A trained run and the clips that it is asked about.

use crate::core::error::{Error, Result};
use crate::data::Features;
use crate::features::device_dataset::DeviceDataset;
use crate::gpu::Gpu;
use crate::nn;
use crate::predict::forest::{self, Forest};
use crate::predict::predictor::{Detail, Predictions, Predictor};
use crate::predict::trained::{Fitted, Trained};
use crate::run::network;
use crate::run::weights::About;

/// A trained run and the clips that it is asked about, as often as one likes: they are uploaded once, and so are its
/// weights.
pub enum ClipPredictor<'a> {
    Network(Box<Predictor>),
    /// The forests of all seeds, which work on the CPU.
    Forest(&'a [Forest], &'a Features),
}

impl<'a> ClipPredictor<'a> {
    /// Uploads the clips of `features`.
    ///
    /// # Errors
    /// `Shape` when they are not what the model was trained on; `Limit` or `Gpu` when memory does not suffice;
    /// `Checkpoint` for weights of the front end that are missing or others.
    pub fn new(gpu: &Gpu, trained: &'a Trained, features: &'a Features, detail: Detail) -> Result<ClipPredictor<'a>> {
        accept(&trained.about, features.instances, features.width)?;
        match &trained.fitted {
            Fitted::Network(_) => {
                let corpus = DeviceDataset::unlabelled(gpu, features, trained.about.classes.len())?;
                Ok(ClipPredictor::Network(Box::new(trained.predictor(gpu, &corpus, detail)?)))
            }
            Fitted::Forest(forests) => Ok(ClipPredictor::Forest(forests, features)),
        }
    }

    /// Predicts the clips `rows[r]` with seed r; all seeds have as many clips.
    pub fn predict(&mut self, rows: &[Vec<u32>]) -> Result<Predictions> {
        match self {
            ClipPredictor::Network(predictor) => predictor.predict(rows),
            ClipPredictor::Forest(forests, features) => Ok(forest::predict(forests, features, rows)),
        }
    }
}

impl Trained {
    /// Readies a network to predict the clips of `corpus`, which is shared, not copied.
    ///
    /// # Errors
    /// As [`ClipPredictor::new`]; `Usage` for a forest, which does not work on a GPU.
    pub fn predictor(&self, gpu: &Gpu, corpus: &DeviceDataset, detail: Detail) -> Result<Predictor> {
        let Fitted::Network(network) = &self.fitted else {
            return Err(Error::Usage(format!("{} is no network and works on the CPU", self.about.model)));
        };
        accept(&self.about, corpus.dims.instances, corpus.dims.width)?;
        let frozen = network::frozen(gpu, &self.config)?;
        Predictor::new(gpu, &self.config, &network.blocks, corpus, &frozen, detail)
    }
}

/// # Errors
/// `Shape` when clips of so many instances of so many values are not what the model was trained on.
fn accept(about: &About, instances: usize, width: usize) -> Result<()> {
    let model = nn::find(&about.model)?;
    if width != about.width || (model.fixed_instances && instances != about.instances) {
        let expected =
            format!("clips of {} instances of {} values, as it was trained on", about.instances, about.width);
        return Err(Error::shape(model.name, expected, format!("{instances} of {width}")));
    }
    Ok(())
}
