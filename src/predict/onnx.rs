//! A trained model as an ONNX model.

use std::path::Path;

use crate::core::error::{Error, Result};
use crate::graph::onnx::export::{Export, Input};
use crate::graph::{Graph, Mode, Spec};
use crate::nn::{self, Inputs};
use crate::predict::trained::{Trained, TrainedModel};

impl Trained {
    /// Writes one seed as an ONNX model of the classifier, for batches of any size, with an output `probabilities`
    /// (batch, K), and with attention its weights, `attention` (batch, T P, K). Probabilities are those before
    /// calibration. Inputs are `features` (batch, T, F), as the classifier has them, and, where clips can have fewer
    /// instances, `lengths`, i64 (batch): the valid ones.
    ///
    /// The metadata has the run's record of the model under the key `wmic`, and the classes, a line each, under
    /// `classes`.
    ///
    /// # Errors
    /// `Usage` for a forest, and `NoOnnx` for a model with an op that has no form in ONNX.
    pub fn export_onnx(&self, path: &Path, r: usize) -> Result<()> {
        let TrainedModel::Network(network) = &self.model else {
            let reason = format!("{} is no neural network: ONNX holds networks only", self.config.model);
            return Err(Error::Usage(reason));
        };
        let (about, model) = (self.about.of_seed(r), nn::find(&self.config.model)?);
        let mut g = Graph::new(Mode::Eval);
        let x = g.input("features", Spec::f32([1, about.instances, about.width]));
        let lengths = g.input("lengths", Spec::u32([1]));
        let clock = g.input("clock", Spec::u32([4]));
        let inputs = Inputs { x, lengths, clock, labels: None, partners: None, instances: None };
        let prediction = model.push(&mut g, inputs, self.config.settings(about.classes.len()))?;
        let block = &network.blocks[r];
        let positions = model.positions();
        let of_lengths = match positions {
            1 => "valid instances of each clip, at least 1".to_owned(),
            n => format!("valid instances of each clip, at least 1, times {n}, the positions of an instance"),
        };
        let doc = format!(
            "{} for {} classes, seed {}, trained by wmic {}. features: {}; probabilities: of each class, before \
             calibration.",
            about.model,
            about.classes.len(),
            about.seeds[0],
            about.version,
            about.input,
        );
        let record = serde_json::to_string(&about).map_err(|e| Error::Usage(format!("metadata: {e}")))?;
        // What is valid of a clip of one size: all of it, which is as many positions as any op counts.
        let all = Input { tensor: lengths, name: None, known: f32::MAX, doc: "" };
        let export = Export {
            graph: &g,
            weights: network.layout.unpack(&block.trained, &block.stats).into_iter().collect(),
            inputs: vec![
                Input { tensor: x, name: Some("features"), known: 0.0, doc: &about.input },
                match model.fixed_instances {
                    true => all,
                    false => Input { name: Some("lengths"), doc: &of_lengths, ..all },
                },
                // Of training: nothing is drawn in evaluation.
                Input { tensor: clock, name: None, known: 0.0, doc: "" },
            ],
            outputs: [("probabilities", prediction.probabilities)]
                .into_iter()
                .chain(prediction.attention.map(|attention| ("attention", attention)))
                .collect(),
            name: &about.model,
            doc,
            metadata: vec![("classes", about.classes.join("\n")), ("wmic", record)],
        };
        export.write(path)
    }
}
