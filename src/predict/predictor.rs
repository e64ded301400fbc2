//! Predicts clips with trained weights: a plan, built once and replayed batch by batch.

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::shape::Shape;
use crate::features::device_dataset::{DeviceDataset, Dims};
use crate::gpu::{Buffer, Gpu, Pace};
use crate::graph::{Arenas, Draft, Graph, Layout, Mode, Plan, Spec, Tensor};
use crate::nn::{self, Inputs, Labels, Prediction};
use crate::ops::gather::Rows;
use crate::ops::sample::PADDING;
use crate::run::config::Config;
use crate::run::tuning::Tuning;
use crate::run::weights::Block;

/// Most bytes of a plan for several clips. Larger batches of large models are no faster.
const MEMORY: u64 = 128 << 20;

/// Predictions of each replica for each clip.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// Per replica, (N, K).
    pub probabilities: Vec<Array<f32>>,
    /// For models with attention.
    pub instances: Option<InstancePredictions>,
    /// Per replica, (N, J, 2): glimpse locations of recurrent attention models, time and frequency in
    /// [-1, 1]; empty for others.
    pub glimpses: Vec<Array<f32>>,
    /// For objectives of pre-training, see [`Prediction::learned`]: each tensor, per replica.
    pub learned: Vec<Vec<Array<f32>>>,
}

/// Outputs of attention models for each of the T P positions of a clip (P in each of its T instances).
#[derive(Clone, Debug)]
pub struct InstancePredictions {
    /// Per replica, (N, T P, K): sums to 1 over the valid positions.
    pub attention: Vec<Array<f32>>,
    /// Per replica, (N, T P, K): the probability at the position.
    pub scores: Vec<Array<f32>>,
    /// Per replica, (N, T P, K): the attention of the position before normalisation, 0 to 1.
    pub gates: Vec<Array<f32>>,
}

/// The parameters of the model of `config` for clips of T = `instances` instances of F = `width` values.
pub fn layout(config: &Config, instances: usize, width: usize, classes: usize) -> Result<Layout> {
    let mut g = Graph::new(Mode::Eval);
    let x = g.input("x", Spec::f32([1, instances, width]));
    let lengths = g.input("lengths", Spec::u32([1]));
    let clock = g.input("clock", Spec::u32([4]));
    nn::find(&config.model)?.push(
        &mut g,
        Inputs { x, lengths, clock, labels: None, partners: None, instances: None },
        config.settings(classes),
    )?;
    Ok(g.layout().clone())
}

/// Which outputs are read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The probabilities of clips.
    Clips,
    /// And the outputs at each position, or the glimpse locations.
    Positions,
}

/// A network on a GPU that predicts clips of one dataset: its weights are uploaded once, and a plan is replayed for
/// each batch.
pub struct Predictor {
    gpu: Gpu,
    config: Config,
    dataset: DeviceDataset,
    detail: Detail,
    replicas: usize,
    /// The weights by their names in graphs.
    weights: Vec<(String, Buffer)>,
    /// Largest batch size: the setting `batch`, or what has turned out to need less than [`MEMORY`].
    largest: usize,
    /// A plan for each batch size used, powers of two but for the largest.
    batches: Vec<Batch>,
}

/// A plan for `size` clips, and its outputs.
struct Batch {
    size: usize,
    /// u32 (R, size): which clips each replica predicts next.
    rows: Buffer,
    plan: Plan,
    pace: Pace,
    /// Probabilities, attention, scores, gates and glimpses, where there are any.
    outputs: Vec<Output>,
}

/// A tensor (size, ...) that is read back.
struct Output {
    tensor: Tensor,
    /// Its shape for one clip.
    dims: Vec<usize>,
}

impl Predictor {
    /// Uploads the weights `blocks`, one for each replica; `frozen` are those that the model's graph uses by name.
    /// `dataset` is shared, not copied: clips written to it later are predicted then.
    ///
    /// # Errors
    /// `Limit` or `Gpu` for too little memory.
    pub fn new(
        gpu: &Gpu,
        config: &Config,
        blocks: &[Block],
        dataset: &DeviceDataset,
        frozen: &[(String, Buffer)],
        detail: Detail,
    ) -> Result<Predictor> {
        let replicas = blocks.len();
        let [trained, stats] = [blocks[0].trained.len(), blocks[0].stats.len()];
        let arenas = Arenas::new(gpu, &Layout { params: vec![], trained, stats }, replicas, false)?;
        for (r, block) in blocks.iter().enumerate() {
            gpu.write(&arenas.params, r * trained, &block.trained)?;
            gpu.write(&arenas.stats, r * stats, &block.stats)?;
        }
        let mut weights = frozen.to_vec();
        weights.extend(arenas.named().map(|(name, buffer)| (name.to_owned(), buffer)));
        // Prediction draws no random numbers.
        weights.push(("clock".into(), gpu.buffer("clock", 4 * replicas)?));
        let (gpu, config, dataset) = (gpu.clone(), config.clone(), dataset.clone());
        let largest = config.batch;
        Ok(Predictor { gpu, config, dataset, detail, replicas, weights, largest, batches: vec![] })
    }

    /// Predicts the clips `rows[r]` of the dataset with replica r; the same number for all replicas.
    ///
    /// # Errors
    /// `Limit` when a batch does not fit; `Gpu` if the device fails, or a model returns NaN.
    pub fn predict(&mut self, rows: &[Vec<u32>]) -> Result<Predictions> {
        assert_eq!(rows.len(), self.replicas, "clips for each replica");
        let clips = rows[0].len();
        let at = self.batch_for(clips)?;
        let Batch { size, rows: input, plan, pace, outputs } = &mut self.batches[at];
        let size = *size;
        let mut collected: Vec<Vec<Vec<f32>>> = vec![vec![vec![]; self.replicas]; outputs.len()];
        for first in (0..clips).step_by(size) {
            let valid = size.min(clips - first);
            let taken = rows.iter().flat_map(|rows| {
                let padding = std::iter::repeat_n(&PADDING, size - valid);
                rows[first..first + valid].iter().chain(padding).copied()
            });
            let taken: Vec<u32> = taken.collect();
            self.dataset.upload(&self.gpu, taken.iter().copied())?;
            self.gpu.write(input, 0, &taken)?;
            pace.replay(&self.gpu, &[&plan.recording], 1, 1, &mut |_| Ok(()), &mut |_| true)?;
            for (output, collected) in outputs.iter().zip(&mut collected) {
                let values = plan.read::<f32>(&self.gpu, output.tensor)?;
                let each = values.len() / self.replicas;
                for (values, collected) in values.chunks_exact(each).zip(collected) {
                    collected.extend_from_slice(&values[..each / size * valid]);
                }
            }
        }
        let arrays = outputs.iter().zip(collected).map(|(output, collected)| {
            let shape = Shape::new([&[clips], output.dims.as_slice()].concat());
            collected.into_iter().map(|data| Array::new(shape.clone(), data)).collect()
        });
        let arrays = arrays.collect();
        let predictions = self.predictions(arrays, clips)?;
        if predictions.probabilities.iter().any(|p| p.data().iter().any(|v| v.is_nan())) {
            return Err(Error::Gpu("the model returned NaN; its weights or features are damaged".into()));
        }
        Ok(predictions)
    }

    /// Which plan is for so many clips; it is built if there is none.
    fn batch_for(&mut self, clips: usize) -> Result<usize> {
        loop {
            let size = clips.next_power_of_two().min(self.largest);
            if let Some(known) = self.batches.iter().position(|batch| batch.size == size) {
                return Ok(known);
            }
            match self.batch(size)? {
                Some(made) => self.batches.push(made),
                None => self.largest = size / 2,
            }
        }
    }

    /// Builds the plan for batches of `size` clips; `None` if it needs too much memory, and a smaller one will do.
    fn batch(&self, size: usize) -> Result<Option<Batch>> {
        self.dataset.max_steps(size * self.replicas)?;
        let (g, tensors) = graph(&self.config, self.dataset.dims, size, self.detail)?;
        let Config { tuning, precision, .. } = &self.config;
        let kernels = Tuning::kernels(tuning.as_ref(), self.gpu.adapter(), *precision)?;
        let draft = Draft::new(&g, kernels, self.replicas, &tensors, &[])?;
        if size > 1 && draft.memory().0 > MEMORY {
            return Ok(None);
        }
        draft.fits(&self.gpu)?;
        let rows = self.gpu.buffer("rows", size * self.replicas)?;
        let mut bound: Vec<(&str, Buffer)> =
            self.weights.iter().map(|(name, buffer)| (name.as_str(), buffer.clone())).collect();
        bound.extend(self.dataset.named());
        bound.push(("rows", rows.clone()));
        let plan = draft.realise(&self.gpu, &bound)?;
        let output = |tensor: Tensor| Output { tensor, dims: g.shape(tensor).dims()[1..].to_vec() };
        let outputs = tensors.into_iter().map(output).collect();
        Ok(Some(Batch { size, rows, plan, pace: Pace::default(), outputs }))
    }

    /// `arrays` in the order of [`outputs`], each per replica.
    fn predictions(&self, mut arrays: Vec<Vec<Array<f32>>>, clips: usize) -> Result<Predictions> {
        let mut rest = arrays.split_off(1);
        let probabilities = arrays.remove(0);
        let model = nn::find(&self.config.model)?;
        let learned = if nn::is_objective(model) { std::mem::take(&mut rest) } else { vec![] };
        let per_position = if model.has_attention { rest.len().min(3) } else { 0 };
        let steps = rest.split_off(per_position);
        let instances = match <[_; 3]>::try_from(rest) {
            Ok([attention, scores, gates]) => Some(InstancePredictions { attention, scores, gates }),
            Err(_) => None,
        };
        let count = steps.len();
        let path = |r: usize| Array::from_fn([clips, count, 2], |i| steps[i / 2 % count][r].row(i / 2 / count)[i % 2]);
        let glimpses = if count > 0 { (0..self.replicas).map(path).collect() } else { vec![] };
        Ok(Predictions { probabilities, instances, glimpses, learned })
    }
}

/// The graph that predicts `size` clips of a dataset, named by the input `rows`, and its outputs.
pub(crate) fn graph(config: &Config, dims: Dims, size: usize, detail: Detail) -> Result<(Graph, Vec<Tensor>)> {
    let model = nn::find(&config.model)?;
    config.accepts(dims.width)?;
    let mut g = Graph::new(Mode::Eval);
    let clock = g.input("clock", Spec::u32([4]));
    let rows = g.input("rows", Spec::u32([size]));
    let clips = dims.clips(&mut g);
    let taken = dims.gather(&mut g, clips, Rows::Given(rows), model.positions())?;
    let (x, lengths) = (taken.x, taken.lengths);
    let labels = Labels { target: taken.target, observed: taken.observed };
    let labels = nn::is_objective(model).then_some(labels);
    let inputs = Inputs { x, lengths, clock, labels, partners: None, instances: None };
    let prediction = model.push(&mut g, inputs, config.settings(dims.classes))?;
    let outputs = outputs(&prediction, detail);
    Ok((g, outputs))
}

/// Outputs that are read back, in order: probabilities; attention, scores and gates of attention models; glimpses of
/// others; what objectives of pre-training have learned.
fn outputs(prediction: &Prediction, detail: Detail) -> Vec<Tensor> {
    let mut outputs = vec![prediction.probabilities];
    if detail == Detail::Positions {
        outputs.extend(prediction.attention);
        outputs.extend(prediction.position_scores.into_iter().flat_map(|of| [of.scores, of.attention]));
        outputs.extend(prediction.glimpses.iter().chain(&prediction.learned));
    }
    outputs
}
