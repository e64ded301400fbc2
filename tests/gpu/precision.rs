//! Matrix products and convolutions with operands in half precision.

use wmic::Dataset;
use wmic::data::synth;
use wmic::gpu::{Gpu, Precision};
use wmic::run::config::Config;
use wmic::run::state::EpochRow;
use wmic::train::trainer::{Event, Trainer};

use super::training::run_dir;

/// The rows of the last epoch, of two seeds.
fn train(gpu: &Gpu, data: &Dataset, precision: Precision) -> Vec<EpochRow> {
    let folder = tempfile::tempdir().unwrap();
    let config =
        Config { seeds: vec![0, 1], epochs: 4, batch: 50, precision, ..Config::of("att", &data.path).unwrap() };
    let run = run_dir(&folder.path().join("run"), &config);
    let mut rows = vec![];
    let mut take = |event: Event| {
        if let Event::Epoch { rows: latest, .. } = event {
            rows = latest.to_vec();
        }
    };
    Trainer::new(gpu, &config, data).unwrap().train(&run, &|| false, &mut take).unwrap();
    rows
}

/// Without scaling of the loss: what gradients lose below 6e-8 does not matter here.
#[test]
fn training_in_half_precision_learns_as_in_single() {
    let gpu = Gpu::open(None).unwrap();
    if gpu.adapter().precisions().len() == 1 {
        eprintln!("{} has no half precision", gpu.adapter().name);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    synth(folder.path(), 200, 5).unwrap();
    let data = Dataset::load(folder.path()).unwrap();
    let [single, half] = [Precision::F32, Precision::F16].map(|precision| train(&gpu, &data, precision));
    for (a, b) in single.iter().zip(&half) {
        assert_ne!(a.train_loss, b.train_loss, "operands are rounded");
        for (a, b) in [(a.train_loss, b.train_loss), (a.val_loss, b.val_loss)] {
            assert!((a - b).abs() < 0.01 * a, "{b} in half precision, {a} in single");
        }
    }
}

#[test]
fn an_adapter_without_half_precision_says_so() {
    let mut adapter = Gpu::open(None).unwrap().adapter().clone();
    adapter.features.insert("f16", false);
    let error = adapter.target_of(Precision::F16).unwrap_err().to_string();
    assert_eq!(error, format!("GPU: {} has no half-precision arithmetic (f16): use f32", adapter.name));
    assert_eq!(adapter.target_of(Precision::F32).unwrap(), adapter.target());
}
