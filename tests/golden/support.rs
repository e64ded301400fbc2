//! Golden tensors for tests (see tests/golden/README.md).

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use wmic::Array;
use wmic::data::{Dataset, Features};
use wmic::features::device_dataset::DeviceDataset;
use wmic::gpu::Gpu;
use wmic::graph::{Layout, Op};
use wmic::ops::sample::Order;
use wmic::run::config::Config;
use wmic::run::weights::Block;
use wmic::train::learner::Learner;

use crate::formula::{frac, weights};

/// A file of `tests/golden/`.
pub struct Golden(Vec<u8>);

impl Golden {
    pub fn open(file: &str) -> Golden {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
        Golden(std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    /// The f32 tensor of this name, in f64.
    pub fn tensor(&self, name: &str) -> Array<f64> {
        let file = SafeTensors::deserialize(&self.0).expect("a safetensors file");
        let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
        let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into());
        Array::new(wmic::Shape::new(tensor.shape()), values.collect())
    }
}

/// The gradient of sum(dy y) by input `i`, y the first output: central differences of the reference.
pub fn gradient(op: &dyn Op, x: &[Array<f64>], i: usize, dy: &Array<f64>) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let value = |at: usize, step: f64| -> f64 {
        let mut x = x.to_vec();
        x[i][at] += step;
        op.reference(&x)[0].data().iter().zip(dy.data()).map(|(y, dy)| y * dy).sum()
    };
    (0..x[i].data().len()).map(|at| (value(at, STEP) - value(at, -STEP)) / (2.0 * STEP)).collect()
}

/// A dataset of these features with the formula's labels of `classes` classes; all clips are for training.
pub fn dataset(features: Features, classes: usize) -> Dataset {
    let clips = features.lengths.len();
    let entries = || (0..clips * classes).map(|i| i as u32);
    Dataset {
        path: "formula".into(),
        classes: (0..classes).map(|k| format!("class {k}")).collect(),
        keys: (0..clips).map(|i| i.to_string()).collect(),
        features,
        targets: entries().map(|i| f32::from(frac(i, 1001) < 0.4)).collect(),
        observed: entries().map(|i| frac(i, 1002) < 0.3).collect(),
        strong: None,
        mixer: None,
        train: (0..clips as u32).collect(),
        validation: None,
        test: vec![],
        drawn: None,
        word_vectors: vec![],
        warnings: vec![],
    }
}

/// The formula's weights of a model.
pub fn formula_block(layout: &Layout) -> Block {
    let tensors: Vec<_> = layout.params.iter().map(|p| (p.name.as_str(), p.shape.dims())).collect();
    block(layout, weights(&tensors))
}

/// The values of a model's parameters, in the order of its layout, as a block.
pub fn block(layout: &Layout, values: Vec<Vec<f32>>) -> Block {
    let mut block = Block { trained: vec![0.0; layout.trained], stats: vec![0.0; layout.stats] };
    for (p, values) in layout.params.iter().zip(values) {
        let into = if p.trainable { &mut block.trained } else { &mut block.stats };
        into[p.offset..p.offset + values.len()].copy_from_slice(&values);
    }
    block
}

/// Compares with PyTorch's tensor; `relative` to its largest value.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &Array<f64>, relative: f64) {
    assert_eq!(got.len(), want.data().len(), "{what}");
    let largest = want.data().iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want.data()).enumerate() {
        let error = (f64::from(*g) - w).abs();
        assert!(error <= relative * largest + 1e-7, "{what}[{i}] is {g}, PyTorch gives {w} (largest {largest})");
    }
}

/// A learner on the whole dataset in its order, with the formula's weights.
pub fn learner<'g>(gpu: &'g Gpu, config: &Config, data: &Dataset) -> Learner<'g> {
    let corpus = DeviceDataset::of_dataset(gpu, data).unwrap();
    let split = (data.train.clone(), data.train.clone());
    let mut learner = Learner::new(gpu, config, &corpus, &[], &[split], Order::InOrder).unwrap();
    let block = formula_block(learner.layout());
    learner.set_weights(&[block]).unwrap();
    learner
}
