//! Training is bit-identical whether all of a dataset is on the GPU or only a window.

use std::sync::Arc;

use wmic::Error;
use wmic::data::{Dataset, FeatureValues, synth};
use wmic::features::device_dataset::DeviceDataset;
use wmic::gpu::Gpu;
use wmic::ops::sample::Order;
use wmic::run::augmentation::Augmentation;
use wmic::run::config::Config;
use wmic::run::splits::splits;
use wmic::run::state::State;
use wmic::train::learner::{EpochSums, Learner};

#[test]
fn training_is_bit_identical_for_any_window() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    synth(dir.path(), 240, 5).unwrap();
    let bytes = Dataset::load(dir.path()).unwrap();
    let FeatureValues::U8(values) = &bytes.features.values else { panic!("synthetic features are bytes") };
    let mut floats = bytes.clone();
    floats.features.values =
        FeatureValues::F32(values.iter().map(|v| f32::from(*v) / 255.0).collect::<Vec<_>>().into());
    // A last batch of another size; 2 seeds, so that a step needs up to 60 clips.
    let plain = Config { seeds: vec![3, 1 << 40], batch: 30, ..Config::of("att", dir.path()).unwrap() };
    // Three times as many: each clip has a partner for either.
    let both = Config { augment: vec![Augmentation::Mixup, Augmentation::Concat], ..plain.clone() };

    for (data, config, step) in [(&bytes, &plain, 60), (&floats, &plain, 60), (&bytes, &both, 180)] {
        let whole = DeviceDataset::of_dataset(&gpu, data).unwrap();
        // A window streams from the dataset in memory, not from a copy.
        let users = || match &data.features.values {
            FeatureValues::U8(values) => Arc::strong_count(values),
            FeatureValues::F32(values) => Arc::strong_count(values),
            FeatureValues::F16(_) => unreachable!("made above"),
        };
        let alone = users();
        let window = DeviceDataset::with_dims(&gpu, data, whole.dims.windowed(step)).unwrap();
        assert_eq!(users(), alone + 1);
        drop(window);
        let train = |slots: usize| -> wmic::Result<(State, Vec<EpochSums>)> {
            let corpus = DeviceDataset::with_dims(&gpu, data, whole.dims.windowed(slots))?;
            let splits = splits(config, data)?;
            let mut learner = Learner::new(&gpu, config, &corpus, &[], &splits, Order::Shuffled)?;
            let mut sums = vec![];
            for _ in 0..3 {
                assert!(learner.train(&|| false, &mut |_| {})?);
                sums.push(learner.validate()?);
            }
            Ok((learner.state()?, sums))
        };
        let resident = train(whole.dims.clips).unwrap();
        for slots in [step, step + 70, whole.dims.clips - 1] {
            assert!(train(slots).unwrap() == resident, "a window of {slots} clips changes the result");
        }
        match train(step - 1) {
            Err(Error::Limit { need, have, .. }) => assert!(need > have),
            other => panic!("{} clips do not hold a step's {step}, but: {:?}", step - 1, other.map(|_| ())),
        }
    }
}
