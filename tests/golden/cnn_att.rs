//! `cnn-att` against PyTorch on clips of 2, 1, 3 and 2 patches: probabilities, attention, loss, gradients, and steps of
//! gradient descent and of AdamW with a one-cycle learning rate.

use crate::formula::frac;
use crate::support::{Golden, assert_close, formula_block, learner};
use wmic::data::{Dataset, FeatureValues, Features};
use wmic::features::device_dataset::DeviceDataset;
use wmic::gpu::Gpu;
use wmic::nn;
use wmic::nn::Optimiser;
use wmic::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES};
use wmic::nn::model::Schedule;
use wmic::ops::spec_augment::SpecAugment;
use wmic::predict::predictor::{Detail, Predictor, layout};
use wmic::run::config::Config;

const CLASSES: usize = 20;
const PARAMETERS: usize = 467_864;
const WIDTH: usize = PATCH_FRAMES * BANDS;
const LENGTHS: [u32; 4] = [2, 1, 3, 2];

/// Of f32 kernels, relative to the largest value of a tensor; gradients pass nine layers and sum over thousands of
/// positions.
const PREDICTIONS: f64 = 1e-5;
const GRADIENTS: f64 = 1e-4;

/// The patches of `clips` in `tests/golden/visual.py`, followed by other ones: of `instances`, those beyond a clip's
/// length are loud noise.
fn dataset(instances: usize) -> Dataset {
    let value = |i: usize| {
        let (clip, patch, value) = (i / (instances * WIDTH), i / WIDTH % instances, i % WIDTH);
        let frac = frac(((clip * 3 + patch) * WIDTH + value) as u32, 2400);
        match patch < LENGTHS[clip] as usize {
            true => (-4.5 + 6.5 * frac) as f32,
            false => (100.0 * frac) as f32,
        }
    };
    let values: Vec<f32> = (0..LENGTHS.len() * instances * WIDTH).map(value).collect();
    let values = FeatureValues::F32(values.into());
    let features = Features { values, instances, width: WIDTH, lengths: LENGTHS.to_vec(), spectrum: None };
    crate::support::dataset(features, CLASSES)
}

/// The golden file's settings: those of the model without what is random, on one batch.
fn config() -> Config {
    let paper = Config::of("cnn-att", "formula").unwrap();
    Config { dropout: 0.0, spec_augment: Some(SpecAugment::OFF), batch: LENGTHS.len(), ..paper }
}

/// Probabilities and attention of each clip, whose features have room for so many patches.
fn predict(gpu: &Gpu, instances: usize, batch: usize, rows: &[u32]) -> (Vec<f32>, Vec<f32>) {
    let (config, data) = (Config { batch, ..config() }, dataset(instances));
    let layout = layout(&config, instances, WIDTH, CLASSES).unwrap();
    assert_eq!(layout.count(), PARAMETERS);
    let corpus = DeviceDataset::of_dataset(gpu, &data).unwrap();
    let predictor = Predictor::new(gpu, &config, &[formula_block(&layout)], &corpus, &[], Detail::Positions);
    let predictions = predictor.unwrap().predict(&[rows.to_vec()]).unwrap();
    let attention = predictions.instances.unwrap().attention;
    (predictions.probabilities[0].data().to_vec(), attention[0].data().to_vec())
}

#[test]
fn cnn_att_predicts_as_pytorch_and_padding_changes_nothing() {
    let golden = Golden::open("cnn-att.safetensors");
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    let (together, attention) = predict(&gpu, 3, 4, &[0, 1, 2, 3]);
    assert_close("p", &together, &golden.tensor("p"), PREDICTIONS);
    assert_close("attention", &attention, &golden.tensor("attention"), PREDICTIONS);
    let (padded, _) = predict(&gpu, 5, 1, &[1]);
    assert_eq!(padded, together[CLASSES..2 * CLASSES], "the clip of one patch, alone and before noise");
    assert_eq!(nn::find("cnn-att").unwrap().positions(), 2);
}

#[test]
fn cnn_att_learns_as_pytorch() {
    let golden = Golden::open("cnn-att.safetensors");
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    let data = dataset(3);
    let mut one = learner(&gpu, &config(), &data);
    one.run_steps(1).unwrap();
    assert_close("loss", &one.latest_loss().unwrap(), &golden.tensor("loss"), PREDICTIONS);
    let state = one.state().unwrap();
    for (name, value) in one.layout().unpack(&state.params, &state.stats) {
        if name.contains("running") {
            assert_close(&name, value.data(), &golden.tensor(&format!("running.{name}")), PREDICTIONS);
        }
    }
    for (name, grad) in one.latest_gradients().unwrap()[0].iter().filter(|(name, _)| !name.contains("running")) {
        let (name, grad) = (format!("grad.{name}"), grad.data());
        if grad.len() <= 200 {
            assert_close(&name, grad, &golden.tensor(&name), GRADIENTS);
            continue;
        }
        let samples: Vec<f32> = grad.iter().step_by((grad.len() / 64) | 1).take(64).copied().collect();
        assert_close(&name, &samples, &golden.tensor(&format!("{name}.samples")), GRADIENTS);
        let sum = |f: fn(f64) -> f64| grad.iter().map(|v| f(f64::from(*v))).sum::<f64>();
        let norm_sum = [sum(|v| v * v).sqrt() as f32, sum(|v| v) as f32];
        assert_close(&name, &norm_sum, &golden.tensor(&format!("{name}.norm_sum")), GRADIENTS);
    }
}

/// A batch of three clips and one of one in turn.
#[test]
fn steps_of_cnn_att_follow_pytorch() {
    let golden = Golden::open("cnn-att.safetensors");
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    let data = dataset(3);
    let steps = |name: &str, config: Config, count: usize| {
        let mut learner = learner(&gpu, &Config { batch: 3, epochs: 5, ..config }, &data);
        for (step, want) in golden.tensor(&format!("{name}.steps")).data().iter().take(count).enumerate() {
            learner.run_steps(1).unwrap();
            let got = f64::from(learner.latest_loss().unwrap()[0]);
            assert!((got - want).abs() <= 1e-5 * want, "{name}, step {step}: loss {got}, PyTorch {want}");
        }
    };
    // Not all ten: PyTorch's own f32 parts from its f64 as early, by 1.2e-5 in the seventh step of gradient descent
    // (later up to 1.6e-4) and by 9e-5 in the fourth of Adam (later up to 9e-4). The losses are not chaotic: in f64,
    // weights that are off by 6e-8 change none of them by more than 2e-8.
    let sgd = Config { optimiser: Optimiser::Sgd, schedule: Schedule::Constant, lr: 0.01, ..config() };
    steps("sgd", sgd, 6);
    steps("cycle", Config { lr: 5e-4, ..config() }, 3);
}

/// Dropout, masks, levels and the learning rate are functions of seed and step.
#[test]
fn cnn_att_goes_on_from_a_saved_state_to_the_same_bits() {
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    let data = dataset(3);
    let config = Config { batch: 2, epochs: 3, ..Config::of("cnn-att", "formula").unwrap() };
    let trained = |config: &Config, steps: usize| {
        let mut learner = learner(&gpu, config, &data);
        learner.run_steps(steps).unwrap();
        learner
    };
    let whole = trained(&config, 3).state().unwrap();
    let mut rest = learner(&gpu, &config, &data);
    rest.restore(&trained(&config, 1).state().unwrap()).unwrap();
    rest.run_steps(2).unwrap();
    assert!(whole == rest.state().unwrap());
    let plain = trained(&Config { spec_augment: Some(SpecAugment::OFF), ..config }, 3).state().unwrap();
    assert!(whole.params != plain.params, "SpecAugment changes training clips");
}
