//! Whole models against PyTorch: probabilities, loss, every gradient, and ten steps of training.

use std::path::Path;

use crate::formula::frac;
use crate::support::{formula_block, learner};
use safetensors::SafeTensors;
use wmic::data::{Dataset, FeatureValues, Features};
use wmic::features::device_dataset::DeviceDataset;
use wmic::gpu::Gpu;
use wmic::ops::masked_bce::Loss;
use wmic::predict::predictor::{Detail, Predictor, layout};
use wmic::run::config::Config;
use wmic::train::learner::Learner;

/// As published, or derived from the publication.
const PARAMETERS: [(&str, usize); 6] =
    [("att", 55_336), ("fc", 986_772), ("fc-t", 52_116), ("rnn", 226_068), ("bilstm-att", 104_488), ("att-gn", 54_952)];
const CLASSES: usize = 20;
const INSTANCES: usize = 10;
const WIDTH: usize = 128;

fn dataset(clips: usize) -> Dataset {
    let bytes: Vec<u8> = (0..clips * INSTANCES * WIDTH).map(|i| (frac(i as u32, 1000) * 256.0) as u8).collect();
    let features = Features {
        values: FeatureValues::U8(bytes.into()),
        instances: INSTANCES,
        width: WIDTH,
        lengths: vec![INSTANCES as u32; clips],
        spectrum: None,
    };
    crate::support::dataset(features, CLASSES)
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

fn floats(file: &SafeTensors, name: &str) -> Vec<f64> {
    let bytes = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).data().to_vec();
    bytes.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
}

/// Errors relative to the largest entry, see the README of the golden files.
#[track_caller]
fn assert_close(what: &str, got: &[f32], want: &[f64], relative: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*g) - w).abs();
        assert!(error <= relative * largest + 1e-7, "{what}[{i}] is {g}, PyTorch gives {w}");
    }
}

fn config(model: &str, batch: usize) -> Config {
    // The settings of the golden files, for all models.
    let (loss, weight_decay) = (Loss::Bce, 1e-5);
    Config { dropout: 0.0, batch, loss, weight_decay, ..Config::of(model, "formula").unwrap() }
}

/// A step of training whose loss and gradients are compared with the tensors of this prefix.
fn first_step<'g>(gpu: &'g Gpu, config: &Config, data: &Dataset, file: &SafeTensors, prefix: &str) -> Learner<'g> {
    let mut learner = learner(gpu, config, data);
    learner.run_steps(1).unwrap();
    let tensor = |name: &str| floats(file, &format!("{prefix}{name}"));
    let what = |name: &str| format!("{} {prefix}{name}", config.model);
    assert_close(&what("loss"), &learner.latest_loss().unwrap(), &tensor("loss"), 2e-6);
    // PyTorch's own f32 gradients are within 2e-6 of its f64 ones.
    for (name, grad) in learner.latest_gradients().unwrap()[0].iter().filter(|(n, _)| !n.contains("running")) {
        let (name, grad) = (format!("grad.{name}"), grad.data());
        if file.tensor(&format!("{prefix}{name}")).is_ok() {
            assert_close(&what(&name), grad, &tensor(&name), 1e-5);
            continue;
        }
        let samples: Vec<f32> = grad.iter().step_by((grad.len() / 64) | 1).take(64).copied().collect();
        assert_close(&what(&name), &samples, &tensor(&format!("{name}.samples")), 1e-5);
        let norm = grad.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        assert_close(&what(&name), &[norm as f32], &tensor(&format!("{name}.norm_sum"))[..1], 1e-5);
    }
    learner
}

#[test]
fn models_have_the_published_numbers_of_parameters() {
    for (model, parameters) in PARAMETERS {
        let layout = layout(&config(model, 128), INSTANCES, WIDTH, CLASSES).unwrap();
        assert_eq!(layout.count(), parameters, "{model}");
    }
}

#[test]
fn the_formula_is_the_golden_files() {
    let h = |i, salt| (frac(i, salt) * 4_294_967_296.0) as u32;
    assert_eq!([0, 1, 2, 3].map(|i| h(i, 0)), [0, 1_753_845_952, 3_507_691_905, 1_408_362_973]);
    assert_eq!([0, 1, 2, 3].map(|i| h(i, 1000)), [4_221_991_534, 4_084_162_041, 3_707_174_499, 1_704_307_297]);
}

#[test]
fn models_predict_as_pytorch() {
    let gpu = Gpu::open(None).unwrap();
    let data = dataset(9);
    for (model, _) in PARAMETERS {
        let bytes = golden(&format!("{model}.safetensors"));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let config = config(model, 4);
        let block = formula_block(&layout(&config, INSTANCES, WIDTH, CLASSES).unwrap());
        let corpus = DeviceDataset::of_dataset(&gpu, &data).unwrap();
        let predictions = Predictor::new(&gpu, &config, &[block], &corpus, &[], Detail::Positions)
            .unwrap()
            .predict(std::slice::from_ref(&data.train))
            .unwrap();
        assert_close(&format!("{model} p"), predictions.probabilities[0].data(), &floats(&file, "p"), 2e-6);
        if let Some(instances) = predictions.instances {
            assert_close("attention", instances.attention[0].data(), &floats(&file, "attention"), 2e-6);
        }
    }
}

/// The padding holds other instances.
#[test]
fn rnn_predicts_at_the_last_valid_instance_as_pytorch_of_packed_clips() {
    let gpu = Gpu::open(None).unwrap();
    let bytes = golden("rnn.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut data = dataset(4);
    data.features.lengths = vec![10, 4, 1, 7];
    let config = config("rnn", 4);
    let block = formula_block(&layout(&config, INSTANCES, WIDTH, CLASSES).unwrap());
    let corpus = DeviceDataset::of_dataset(&gpu, &data).unwrap();
    let rows = std::slice::from_ref(&data.train);
    let predictions =
        Predictor::new(&gpu, &config, &[block], &corpus, &[], Detail::Clips).unwrap().predict(rows).unwrap();
    assert_close("p", predictions.probabilities[0].data(), &floats(&file, "ragged.p"), 2e-6);
}

#[test]
fn gradients_are_pytorchs() {
    let gpu = Gpu::open(None).unwrap();
    let data = dataset(9);
    for (model, _) in PARAMETERS {
        let bytes = golden(&format!("{model}.safetensors"));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let learner = first_step(&gpu, &config(model, 9), &data, &file, "");
        let (state, layout) = (learner.state().unwrap(), learner.layout());
        for (name, value) in layout.unpack(&state.params, &state.stats).iter().filter(|(n, _)| n.contains("running")) {
            assert_close(name, value.data(), &floats(&file, &format!("after.{name}")), 2e-6);
        }
    }
}

/// Which streams draw which masks, and which part of them belongs to which direction.
#[test]
fn gradients_of_bilstm_att_with_dropout_are_pytorchs() {
    let gpu = Gpu::open(None).unwrap();
    let bytes = golden("bilstm-att.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let config = Config { batch: 9, seeds: vec![5], loss: Loss::Bce, ..Config::of("bilstm-att", "formula").unwrap() };
    assert_eq!(config.dropout, 0.2);
    first_step(&gpu, &config, &dataset(9), &file, "dropout.");
}

#[test]
fn ten_training_steps_follow_pytorch() {
    let gpu = Gpu::open(None).unwrap();
    let trajectories: serde_json::Value = serde_json::from_slice(&golden("trajectory.json")).unwrap();
    let data = dataset(40);
    for t in trajectories.as_array().unwrap() {
        let model = t["model"].as_str().unwrap();
        let loss = if t["loss"] == "bce" { Loss::Bce } else { Loss::PartialBce };
        let config = Config { loss, ..config(model, 16) };
        assert_eq!((config.lr, config.weight_decay), (t["lr"].as_f64().unwrap(), t["weight_decay"].as_f64().unwrap()));
        let mut learner = learner(&gpu, &config, &data);
        for (step, want) in t["f64"]["loss"].as_array().unwrap().iter().enumerate() {
            learner.run_steps(1).unwrap();
            let (got, want) = (f64::from(learner.latest_loss().unwrap()[0]), want.as_f64().unwrap());
            // The limit is 1e-4; PyTorch's f32 is within 2e-7 of its f64.
            assert!((got - want).abs() <= 1e-5 * want, "{model} {loss:?} step {step}: loss {got}, PyTorch {want}");
        }
        let after = f64::from(learner.validate().unwrap().val_loss[0]);
        let want = t["f64"]["eval_loss_after"].as_f64().unwrap();
        assert!((after - want).abs() <= 1e-5 * want, "{model} {loss:?}: evaluation loss {after}, PyTorch {want}");
    }
}
