//! Training as a whole: models learn, and results are reproducible.

use std::path::Path;

use wmic::data::{Dataset, FeatureValues, instance, synth};
use wmic::features::device_dataset::{DeviceDataset, Dims};
use wmic::gpu::{Gpu, Target};
use wmic::nn::FeatureKind;
use wmic::ops::masked_bce::{FocalAlpha, Loss, inverse_frequency};
use wmic::ops::sample::Order;
use wmic::ops::standardise_columns::Preparation;
use wmic::predict::predictor::{Detail, Predictor, layout};
use wmic::predict::trained::{Split, Trained, TrainedModel};
use wmic::run::augmentation::Augmentation;
use wmic::run::config::{Config, Select};
use wmic::run::run_dir::{Environment, RunDir, RunRecord};
use wmic::run::splits::splits;
use wmic::run::state::{EpochRow, Progress};
use wmic::run::weights::{Block, ModelFile, export, import};
use wmic::train::graphs::Graphs;
use wmic::train::learner::Learner;
use wmic::train::outline::Extent;
use wmic::train::trainer::{End, Event, Trainer};
use wmic::{Error, Result};

fn of_clips(clips: usize, dir: &Path) -> Dataset {
    synth(dir, clips, 5).unwrap();
    Dataset::load(dir).unwrap()
}

fn small(dir: &Path) -> Dataset {
    of_clips(240, dir)
}

fn config(model: &str, data: &Dataset, seeds: &[u64]) -> Config {
    Config { seeds: seeds.to_vec(), epochs: 3, batch: 50, ..Config::of(model, &data.path).unwrap() }
}

/// Everything that is done to inputs, in training or always.
const PREPARED: Preparation = Preparation { standardise: true, dropout: 0.2, noise: 0.1 };

/// The same with each seed's own alpha, standardised inputs, and clips mixed and joined.
fn augmented(model: &str, data: &Dataset, seeds: &[u64]) -> Config {
    let augment = match model {
        "fc" => vec![Augmentation::Mixup],
        _ => vec![Augmentation::Mixup, Augmentation::Concat],
    };
    let (loss, focal_alpha) = (Loss::Focal, FocalAlpha::InverseFrequency);
    Config { loss, focal_alpha, augment, inputs: Some(PREPARED), ..config(model, data, seeds) }
}

pub(super) fn run_dir(dir: &Path, config: &Config) -> RunDir {
    let nothing = Environment {
        version: "test".into(),
        adapter: "test".into(),
        backend: "test".into(),
        driver: "test".into(),
        parameters: 0,
        data: "test".into(),
        splits: String::new(),
        strong: None,
        replaces: vec![],
        notes: None,
        train_clips: 0,
        val_clips: 0,
        test_clips: 0,
    };
    RunDir::create(dir, false, &RunRecord { config: config.clone(), run: nothing }).unwrap()
}

/// Trains to the end; returns the run directory's rows and best weights.
fn train(gpu: &Gpu, config: &Config, data: &Dataset, dir: &Path) -> (Vec<EpochRow>, Vec<Block>) {
    let run = run_dir(dir, config);
    let mut rows = vec![];
    let mut trainer = Trainer::new(gpu, config, data).unwrap();
    let end = trainer.train(&run, &|| false, &mut |event| {
        if let Event::Epoch { rows: new, .. } = event {
            rows.extend(new.to_vec());
        }
    });
    assert_eq!(end.unwrap(), End::Finished);
    (rows, trainer.best_weights().unwrap())
}

#[test]
fn a_replica_among_three_is_the_same_seed_alone() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    // Two steps an epoch, the second of a partial batch.
    let data = of_clips(120, &dir.path().join("data"));
    let models = ["att", "fc", "fc-t", "rnn", "bilstm-att", "att-gn"];
    for (model, loss) in models.into_iter().zip([Loss::Bce, Loss::PartialBce].into_iter().cycle()) {
        let of = |seeds: &[u64]| {
            let config = config(model, &data, seeds);
            // Each seed has other training clips, and so other statistics.
            let inputs = if model == "fc-t" { Some(PREPARED) } else { config.inputs };
            Config { loss, epochs: 2, inputs, ..config }
        };
        let at = |name: &str| dir.path().join(format!("{model}-{name}"));
        let (rows, together) = train(&gpu, &of(&[3, 11, 1 << 40]), &data, &at("together"));
        for (r, seed) in [(0, 3), (2, 1 << 40)] {
            let (alone_rows, alone) = train(&gpu, &of(&[seed]), &data, &at(&seed.to_string()));
            assert_eq!(alone[0], together[r], "{model} {loss:?}: weights of seed {seed}");
            let mine: Vec<_> = rows.iter().filter(|row| row.seed == seed).cloned().collect();
            assert_eq!(alone_rows, mine, "{model} {loss:?}: losses of seed {seed}");
        }
        assert_ne!(together[0], together[1], "{model}: seeds differ");
    }
}

/// On musicnn's features: the parameters of three layers of 128 with batch norm, and of the attention. The statistics
/// are those of the seed's training clips, and no part of training.
#[test]
fn inputs_are_standardised_by_the_training_clips() {
    let musicnn = Config::on("att", "x", Some(FeatureKind::Musicnn)).unwrap();
    assert_eq!(musicnn.inputs, Some(PREPARED));
    assert_eq!(layout(&musicnn, 20, 1506, 20).unwrap().count(), 231_848);
    assert_eq!(layout(&Config::of("att", "x").unwrap(), 10, 128, 20).unwrap().count(), 55_336);

    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    let data = of_clips(120, &dir.path().join("data"));
    let config = Config { epochs: 1, inputs: Some(PREPARED), ..config("att", &data, &[3, 4]) };
    let (_, blocks) = train(&gpu, &config, &data, &dir.path().join("run"));
    let FeatureValues::U8(values) = &data.features.values else { panic!("bytes expected") };
    let parts = layout(&config, 10, 128, 20).unwrap();
    for ((clips, _), block) in splits(&config, &data).unwrap().iter().zip(&blocks) {
        let named = parts.unpack(&block.trained, &block.stats);
        let of = |name: &str| named.iter().find(|(n, _)| n == name).unwrap().1.data();
        let (mean, deviation) = (of("inputs.mean"), of("inputs.deviation"));
        for c in [0, 77, 127] {
            let of_clip = |clip: u32| (clip as usize * 10..).take(data.features.lengths[clip as usize] as usize);
            let column: Vec<f64> = clips
                .iter()
                .flat_map(|clip| of_clip(*clip))
                .map(|row| f64::from(values[row * 128 + c]) / 255.0)
                .collect();
            let n = column.len() as f64;
            let expected = column.iter().sum::<f64>() / n;
            let variance = column.iter().map(|v| (v - expected).powi(2)).sum::<f64>() / n;
            assert!((f64::from(mean[c]) - expected).abs() < 1e-6, "{c}");
            assert!((f64::from(deviation[c]) - variance.sqrt()).abs() < 1e-6, "{c}");
        }
    }
    assert_ne!(blocks[0].stats, blocks[1].stats);
}

/// The synthetic dataset with times: the instances of a present instrument that its ground truth names.
fn timed(dir: &Path) -> Dataset {
    let mut data = small(dir);
    let (k, t) = (data.classes.len(), data.features.instances);
    let codes = (0..data.keys.len() * t * k).map(|i| {
        let entry = i / (t * k) * k + i % k;
        match (data.observed[entry], data.targets[entry] >= 0.5) {
            (false, _) => instance::UNKNOWN,
            (true, false) => instance::ABSENT,
            (true, true) => [instance::PRESENT, instance::ABSENT, instance::UNKNOWN][i / k % 3],
        }
    });
    data.strong = Some(std::sync::Arc::new(codes.collect()));
    data
}

#[test]
fn labels_of_instances_are_trained_on_bit_equal_over_replicas_and_not_with_weight_0() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    let data = timed(&dir.path().join("data"));
    let weak = Dataset { strong: None, ..data.clone() };
    let train = |name: &str, seeds: &[u64], strong_weight: Option<f64>, data: &Dataset| {
        let config = Config { strong_weight, epochs: 2, ..config("bilstm-att", data, seeds) };
        train(&gpu, &config, data, &dir.path().join(name))
    };
    let (_, together) = train("together", &[3, 1 << 40], None, &data);
    let (_, alone) = train("alone", &[1 << 40], Some(0.5), &data);
    assert_eq!(alone[0], together[1]);
    let (without_rows, without) = train("weak", &[3], None, &weak);
    assert_ne!(without[0], together[0]);
    assert_eq!(train("zero", &[3], Some(0.0), &data), (without_rows, without));
    let asked = Config { strong_weight: Some(0.5), ..config("att", &weak, &[3]) };
    let refused = Trainer::new(&gpu, &asked, &weak).err().unwrap().to_string();
    assert!(refused.contains("has no labels with times, which `strong_weight` needs"), "{refused}");
}

/// Models that take all instances of a clip keep the padding.
#[test]
fn short_clips_are_trained_on_without_their_padding_to_the_same_losses() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    let mut data = timed(&dir.path().join("data"));
    let stored = data.features.instances;
    data.features.lengths.iter_mut().for_each(|length| *length = (*length).min(4));
    for (model, instances) in [("att", 4), ("bilstm-att", 4), ("fc", stored)] {
        // Which values are dropped depends on their place in the batch.
        let config = Config { loss: Loss::Bce, dropout: 0.0, ..config(model, &data, &[7]) };
        let dims = Extent::of_clips(&gpu, &config, &data).unwrap().dims;
        assert_eq!([dims.instances, dims.stored], [instances, stored], "{model}");
        let splits = splits(&config, &data).unwrap();
        let whole = Dims::new(&data.features, data.classes.len(), gpu.max_binding());
        let losses = [dims, Dims { strong: true, ..whole }].map(|dims| {
            let corpus = DeviceDataset::with_dims(&gpu, &data, dims).unwrap();
            let mut learner = Learner::new(&gpu, &config, &corpus, &[], &splits, Order::Shuffled).unwrap();
            assert!(learner.train(&|| false, &mut |_| {}).unwrap());
            let sums = learner.validate().unwrap();
            [sums.train_loss[0], sums.val_loss[0]]
        });
        for (cut, whole) in losses[0].iter().zip(losses[1]) {
            assert!((cut / whole - 1.0).abs() < 1e-5, "{model}: {losses:?}");
        }
    }
}

/// Of the loss that a step minimises: the slope by one bias of the classifier is that of the clips plus the weighted
/// one of the instances, which for a class is (p - y) averaged over all known labels.
#[test]
fn the_gradient_is_that_of_clips_plus_that_of_instances() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    let data = timed(&dir.path().join("data"));
    let corpus = DeviceDataset::of_dataset(&gpu, &data).unwrap();
    let (k, t, clips) = (data.classes.len(), data.features.instances, 12);
    let split = [((0..clips as u32).collect::<Vec<u32>>(), vec![clips as u32])];
    let step = |weight: f64| {
        let config = Config {
            strong_weight: Some(weight),
            loss: Loss::Bce,
            dropout: 0.0,
            lr: 0.0,
            batch: clips,
            ..config("bilstm-att", &data, &[7])
        };
        let mut learner = Learner::new(&gpu, &config, &corpus, &[], &split, Order::InOrder).unwrap();
        learner.run_steps(1).unwrap();
        let gradient = learner.latest_gradients().unwrap().swap_remove(0);
        let bias = gradient.into_iter().find(|(name, _)| name == "cla.bias").unwrap().1;
        (bias, learner.best_weights().unwrap(), config)
    };
    let ((none, blocks, config), (with, ..)) = (step(0.0), step(2.0));
    let mut predictor = Predictor::new(&gpu, &config, &blocks, &corpus, &[], Detail::Positions).unwrap();
    // A prediction is submitted at a measured pace: dispatch by dispatch at first, then together.
    let mut predict = || {
        let before = gpu.submissions();
        let predictions = predictor.predict(&[split[0].0.clone()]).unwrap();
        (gpu.submissions() - before, predictions)
    };
    let ((first, predictions), (then, _)) = (predict(), predict());
    assert!(first > then, "{first} submissions, then {then}");
    let scores = predictions.instances.unwrap().scores.swap_remove(0);
    let codes = &data.strong.as_ref().unwrap()[..clips * t * k];
    let known = codes.iter().filter(|code| **code != instance::UNKNOWN).count() as f64;
    for class in 0..k {
        let slope = |i: usize| match codes[i] {
            instance::UNKNOWN => 0.0,
            code => f64::from(scores.data()[i]) - f64::from(u8::from(code == instance::PRESENT)),
        };
        let want: f64 = (0..clips * t).map(|row| slope(row * k + class)).sum::<f64>() * 2.0 / known;
        let got = f64::from(with[class] - none[class]);
        assert!((got - want).abs() < 1e-5, "class {class}: {got}, not {want}");
    }
}

#[test]
fn augmented_replicas_are_the_same_seeds_alone() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    let data = small(&dir.path().join("data"));
    for model in ["att", "fc"] {
        let train = |seeds: &[u64]| {
            let at = dir.path().join(format!("{model}-{seeds:?}"));
            train(&gpu, &augmented(model, &data, seeds), &data, &at)
        };
        let (rows, together) = train(&[3, 1 << 40]);
        for (r, seed) in [3, 1 << 40].into_iter().enumerate() {
            let (alone_rows, alone) = train(&[seed]);
            assert_eq!(alone[0], together[r], "{model}: weights of seed {seed}");
            let mine: Vec<_> = rows.iter().filter(|row| row.seed == seed).cloned().collect();
            assert_eq!(alone_rows, mine, "{model}: losses of seed {seed}");
        }
    }
}

/// With a rate of zero a run's losses are those of its initial weights.
#[test]
fn validation_and_test_clips_are_never_augmented() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    let data = small(&dir.path().join("data"));
    let still = Config { lr: 0.0, weight_decay: 0.0, dropout: 0.0, ..config("fc-t", &data, &[0, 1]) };
    let losses_and_scores = |name: &str, augment: &[Augmentation]| {
        let at = dir.path().join(name);
        let (rows, _) = train(&gpu, &Config { augment: augment.to_vec(), ..still.clone() }, &data, &at);
        let scores = Trained::load(&RunDir::open(&at).unwrap()).unwrap().evaluate(&gpu, &data, Split::Test).unwrap();
        let of = |loss: fn(&EpochRow) -> f32| rows.iter().map(loss).collect::<Vec<f32>>();
        (of(|row| row.train_loss), of(|row| row.val_loss), scores)
    };
    let (train_loss, val_loss, scores) = losses_and_scores("plain", &[]);
    for augment in [[Augmentation::Mixup].as_slice(), &[Augmentation::Concat]] {
        let (augmented_loss, same_loss, same_scores) = losses_and_scores(&format!("{augment:?}"), augment);
        assert_eq!((same_loss, same_scores), (val_loss.clone(), scores.clone()), "{augment:?}");
        assert!(augmented_loss.iter().zip(&train_loss).all(|(a, b)| a != b), "{augment:?} changes training clips");
    }
}

#[test]
fn augmentation_costs_its_own_kernel_calls_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    let data = small(dir.path());
    let corpus = DeviceDataset::of_dataset(&gpu, &data).unwrap();
    let calls = |augment: Vec<Augmentation>, loss: Loss| {
        let config = Config { augment, loss, ..config("att", &data, &[0]) };
        let graphs = Graphs::new(&config, corpus.dims, 100, 20, Order::Shuffled).unwrap();
        graphs.drafts(Target::PORTABLE, 1).unwrap().map(|draft| draft.dispatches())
    };
    let [step, update, validation] = calls(vec![], Loss::Bce);
    // The focal loss and attention pooling are two calls each, forward and backward.
    assert_eq!(calls(vec![], Loss::Focal), [(step.0 + 1, step.1 + 1), update, validation]);
    // The partners' features with labels, and three calls that combine them with the clips.
    let one = (step.0 + 4, step.1);
    assert_eq!(calls(vec![Augmentation::Mixup], Loss::Bce), [one, update, validation]);
    assert_eq!(calls(vec![Augmentation::Concat], Loss::Bce), [one, update, validation]);
    let both = vec![Augmentation::Concat, Augmentation::Mixup];
    assert_eq!(calls(both, Loss::Focal), [(step.0 + 9, step.1 + 1), update, validation]);
}

/// On a GPU a dispatch that depends on the one before costs some microseconds, whatever it does.
#[test]
fn a_step_takes_few_dispatches() {
    let dir = tempfile::tempdir().unwrap();
    let data = small(dir.path());
    let dims = Dims::new(&data.features, data.classes.len(), u64::MAX);
    for (model, most) in [("att", 20), ("fc", 11), ("fc-t", 13), ("rnn", 37), ("bilstm-att", 16)] {
        let graphs = Graphs::new(&config(model, &data, &[0]), dims, 100, 20, Order::Shuffled).unwrap();
        let [step, update, _] = graphs.drafts(Target::PORTABLE, 1).unwrap().map(|draft| draft.dispatches());
        let all = step.0 + step.1 + update.0;
        assert!(all <= most, "{model}: {all} dispatches a step");
    }
}

/// Barriers between dispatches that use different ranges of a buffer keep them apart for nothing.
#[test]
fn dispatches_wait_for_little_more_than_what_they_read() {
    let dir = tempfile::tempdir().unwrap();
    let data = small(dir.path());
    let dims = Dims::new(&data.features, data.classes.len(), u64::MAX);
    for (model, needed, most) in
        [("att", 18, 18), ("fc", 9, 9), ("fc-t", 11, 11), ("rnn", 27, 34), ("bilstm-att", 11, 12)]
    {
        let graphs = Graphs::new(&config(model, &data, &[0]), dims, 100, 20, Order::Shuffled).unwrap();
        let [step, ..] = graphs.drafts(Target::PORTABLE, 1).unwrap();
        let barriers = step.barriers().unwrap();
        assert!(barriers.needed <= needed && barriers.placed <= most, "{model}: {barriers:?}");
        assert!(barriers.needed <= barriers.placed, "{model}: {barriers:?}");
    }
}

/// Against the definition, from the probabilities of the initial weights and the labels as they are in the dataset.
#[test]
fn the_focal_loss_weighs_classes_by_each_seeds_training_clips() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    let data = small(&dir.path().join("data"));
    let still = Config { lr: 0.0, weight_decay: 0.0, epochs: 1, ..augmented("fc-t", &data, &[2, 9]) };
    let (rows, blocks) = train(&gpu, &still, &data, &dir.path().join("run"));
    let corpus = DeviceDataset::of_dataset(&gpu, &data).unwrap();
    let splits = splits(&still, &data).unwrap();
    let classes = data.classes.len();
    let known = |clip: u32, k: usize| {
        let at = clip as usize * classes + k;
        data.observed[at].then(|| data.targets[at] >= 0.5)
    };
    let validation: Vec<Vec<u32>> = splits.iter().map(|split| split.1.clone()).collect();
    let predictions =
        Predictor::new(&gpu, &still, &blocks, &corpus, &[], Detail::Clips).unwrap().predict(&validation).unwrap();
    let mut alphas = vec![];
    for (r, (train, val)) in splits.iter().enumerate() {
        let count = |k: usize, label: bool| train.iter().filter(|clip| known(**clip, k) == Some(label)).count() as u32;
        let alpha: Vec<f64> = (0..classes).map(|k| inverse_frequency(count(k, true), count(k, false))).collect();
        let entries = val.iter().enumerate().flat_map(|(i, clip)| (0..classes).map(move |k| (i, *clip, k)));
        let losses: Vec<f64> = entries
            .filter_map(|(i, clip, k)| {
                let p = f64::from(predictions.probabilities[r].row(i)[k]);
                Some(match known(clip, k)? {
                    true => -alpha[k] * (1.0 - p).powi(2) * p.ln(),
                    false => -(1.0 - alpha[k]) * p.powi(2) * (1.0 - p).ln(),
                })
            })
            .collect();
        let (got, want) = (f64::from(rows[r].val_loss), losses.iter().sum::<f64>() / losses.len() as f64);
        assert!((got - want).abs() < 1e-5 * want, "seed {r}: a loss of {got}, by definition {want}");
        alphas.push(alpha);
    }
    assert_ne!(alphas[0], alphas[1], "seeds train on other clips");
}

#[test]
fn two_runs_write_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    let data = small(&dir.path().join("data"));
    let config = config("att", &data, &[0, 1]);
    for name in ["a", "b"] {
        train(&gpu, &config, &data, &dir.path().join(name));
    }
    for file in ["model.safetensors", "state.safetensors", "metrics.jsonl", "run.toml"] {
        let read = |name: &str| std::fs::read(dir.path().join(name).join(file)).unwrap();
        assert!(read("a") == read("b"), "{file} differs");
    }
}

/// Stops after every few steps, in the middle of epochs, and resumes from the saved state.
#[test]
fn a_run_resumed_repeatedly_is_bit_identical() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    let data = small(&dir.path().join("data"));
    for (name, config) in [("plain", config("att", &data, &[4, 5])), ("augmented", augmented("fc-t", &data, &[4, 5]))] {
        let config = Config { patience: Some(2), ..config };
        let at = |kind: &str| dir.path().join(format!("{name}-{kind}"));
        train(&gpu, &config, &data, &at("whole"));
        let run = run_dir(&at("pieces"), &config);
        let mut pieces = 0;
        loop {
            let (asked, submissions) = (std::cell::Cell::new(0), 1 + pieces % 2);
            let stop = || asked.replace(asked.get() + 1) >= submissions;
            let mut trainer = Trainer::new(&gpu, &config, &data).unwrap();
            trainer.resume(&run).unwrap();
            pieces += 1;
            if trainer.train(&run, &stop, &mut |_| {}).unwrap() == End::Finished {
                break;
            }
            assert!(pieces < 100, "the run does not get on");
        }
        assert!(pieces > 3, "the run was interrupted: {pieces} pieces");
        for file in ["model.safetensors", "state.safetensors", "metrics.jsonl"] {
            let read = |kind: &str| std::fs::read(at(kind).join(file)).unwrap();
            assert!(read("whole") == read("pieces"), "{name}: {file} differs");
        }
    }
}

#[test]
fn a_seed_that_has_stopped_early_keeps_its_weights_while_others_continue() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    let data = small(&dir.path().join("data"));
    let of = |seeds: &[u64]| Config {
        epochs: 30,
        patience: Some(2),
        lr: 3e-3,
        select: Select::ValF1,
        ..config("fc-t", &data, seeds)
    };
    let seeds = [0, 1, 2];
    let (rows, together) = train(&gpu, &of(&seeds), &data, &dir.path().join("together"));
    let ends: Vec<usize> = seeds
        .iter()
        .enumerate()
        .map(|(r, seed)| {
            let (alone_rows, alone) = train(&gpu, &of(&[*seed]), &data, &dir.path().join(seed.to_string()));
            assert_eq!(alone[0], together[r], "seed {seed}");
            alone_rows.len()
        })
        .collect();
    assert_eq!(rows.len(), ends.iter().sum::<usize>(), "each seed has the epochs that it has alone");
    assert_eq!(rows.last().unwrap().epoch + 1, *ends.iter().max().unwrap(), "the run ends with its last seed");
    assert!(ends.iter().max() != ends.iter().min() && *ends.iter().min().unwrap() < 30, "seeds stop apart: {ends:?}");
}

#[test]
fn every_model_learns_the_synthetic_task() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    synth(dir.path().join("data"), 1200, 0).unwrap();
    let data = Dataset::load(dir.path().join("data")).unwrap();
    // Chance is 0.5, a linear model of the mean reaches 0.87; fc must learn every position of an instance separately.
    for (model, epochs, lr, least) in [("att", 8, 3e-3, 0.88), ("fc-t", 10, 3e-3, 0.85), ("fc", 8, 1e-3, 0.59)] {
        let config = Config { epochs, lr, ..Config::of(model, &data.path).unwrap() };
        train(&gpu, &config, &data, &dir.path().join(model));
        let trained = Trained::load(&RunDir::open(&dir.path().join(model)).unwrap()).unwrap();
        let evaluation = trained.evaluate(&gpu, &data, Split::Test).unwrap();
        assert_eq!(evaluation.per_seed.len(), 1);
        let map = evaluation.mean.map.unwrap();
        assert!(map > least, "{model} reaches a test map of {map}");
    }
}

#[test]
fn exported_weights_start_a_run_and_another_models_are_rejected() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None)?;
    let data = small(&dir.path().join("data"));
    let (_, blocks) = train(&gpu, &config("att", &data, &[7]), &data, &dir.path().join("run"));
    let trained = Trained::load(&RunDir::open(&dir.path().join("run"))?)?;
    let file = dir.path().join("seed7.safetensors");
    trained.export(&file, 0)?;
    let TrainedModel::Network(network) = &trained.model else { panic!("att is a network") };
    assert_eq!(import(&file, &network.layout)?, blocks[0]);

    let tuned = Config { init: Some(file.clone()), lr: 0.0, weight_decay: 0.0, ..config("att", &data, &[1, 2]) };
    let (_, same) = train(&gpu, &tuned, &data, &dir.path().join("tuned"));
    assert!(
        same.iter().all(|b| b.trained == blocks[0].trained),
        "with a rate of zero the weights stay those of --init"
    );

    let other = Config { init: Some(file), ..config("fc-t", &data, &[0]) };
    let error = Trainer::new(&gpu, &other, &data).err().expect("weights of another model").to_string();
    assert!(error.contains("weights of another model"), "{error}");
    let layout = wmic::predict::predictor::layout(&Config::of("fc", "x").unwrap(), 10, 128, 20)?;
    assert!(matches!(
        ModelFile::open(&dir.path().join("run/model.safetensors"))?.blocks(&layout),
        Err(Error::Checkpoint { .. })
    ));
    Ok(())
}

#[test]
fn a_diverged_run_stops_and_keeps_the_best_weights() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    let data = small(&dir.path().join("data"));
    let config = Config { epochs: 50, lr: 1e5, ..config("fc", &data, &[0, 1]) };
    let run = run_dir(&dir.path().join("run"), &config);
    // Weights that overflow: 1e38 times anything above 3 is infinite.
    let layout = wmic::predict::predictor::layout(&Config::of("fc", "x").unwrap(), 10, 128, 20).unwrap();
    let (mut trained, stats) = layout.initial(0);
    trained.iter_mut().for_each(|w| *w *= 1e30);
    let file = dir.path().join("huge.safetensors");
    let about = wmic::run::weights::About {
        version: "test".into(),
        model: "fc".into(),
        classes: data.classes.clone(),
        instances: 10,
        width: 128,
        input: "x / 255".into(),
        seeds: vec![0],
        best_epochs: vec![0],
        thresholds: None,
        calibrations: None,
        precision_thresholds: None,
    };
    export(&file, &layout, &Block { trained, stats }, &about).unwrap();
    let config = Config { init: Some(file), ..config };
    let mut trainer = Trainer::new(&gpu, &config, &data).unwrap();
    match trainer.train(&run, &|| false, &mut |_| {}) {
        Err(Error::Diverged { epoch: 0, step: 0, .. }) => {}
        other => panic!("expected a divergence in the first step, got {other:?}"),
    }
    assert!(!run.model().exists(), "no epoch ended, so no weights are the best ones");
}

/// NaN must reach the loss through every kernel of every model, or a run would continue with invalid weights.
#[test]
fn a_nan_in_any_parameter_is_seen_in_the_losses() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    let data = of_clips(60, &dir.path().join("data"));
    let corpus = DeviceDataset::of_dataset(&gpu, &data).unwrap();
    for model in ["att", "fc", "fc-t"] {
        let config = config(model, &data, &[1]);
        let splits = splits(&config, &data).unwrap();
        let mut learner = Learner::new(&gpu, &config, &corpus, &[], &splits, Order::Shuffled).unwrap();
        let clean = learner.state().unwrap();
        let params = learner.layout().params.clone();
        for p in &params {
            let mut poisoned = clean.clone();
            let block = if p.trainable { &mut poisoned.params } else { &mut poisoned.stats };
            block[p.offset] = f32::NAN;
            learner.restore(&poisoned).unwrap();
            assert!(learner.train(&|| false, &mut |_| {}).unwrap());
            let sums = learner.validate().unwrap();
            assert!(
                !sums.val_loss[0].is_finite(),
                "{model}: a NaN in {} leaves a loss of {}",
                p.name,
                sums.val_loss[0]
            );
            assert!(
                !p.trainable || !sums.train_loss[0].is_finite(),
                "{model}: the training loss hides a NaN in {}",
                p.name
            );
        }
    }
}

#[test]
fn a_resumed_learner_keeps_the_step_of_divergence() {
    let dir = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    let data = small(&dir.path().join("data"));
    let config = config("fc-t", &data, &[4, 5]);
    let corpus = DeviceDataset::of_dataset(&gpu, &data).unwrap();
    let splits = splits(&config, &data).unwrap();
    let learner = || Learner::new(&gpu, &config, &corpus, &[], &splits, Order::Shuffled).unwrap();
    let mut first = learner();
    let sound = first.best_weights().unwrap();
    let mut damaged = sound.clone();
    damaged[1].trained[0] = f32::NAN;
    first.set_weights(&damaged).unwrap();
    assert!(first.train(&|| false, &mut |_| {}).unwrap());
    first.set_weights(&sound).unwrap();

    let run = run_dir(&dir.path().join("run"), &config);
    let progress = Progress {
        epochs: 1,
        history: [4, 5]
            .map(|seed| EpochRow {
                epoch: 0,
                seed,
                train_loss: 0.0,
                val_loss: 0.0,
                val_f1_pn: None,
                train_accuracy: None,
                val_accuracy: None,
                best: true,
            })
            .into(),
    };
    run.save_state(&first.state().unwrap(), &progress).unwrap();
    let (state, _) = run.load_state(&config.seeds, first.steps_per_epoch()).unwrap().unwrap();
    let mut second = learner();
    second.restore(&state).unwrap();
    assert_eq!(second.validate().unwrap().diverged, [None, Some(0)]);
    assert_eq!(second.validate().unwrap().diverged, first.validate().unwrap().diverged);
}

#[test]
fn patience_can_be_turned_off_and_is_recorded_in_run_toml() {
    let dir = tempfile::tempdir().unwrap();
    let aacnn = Config::of("aacnn", "x").unwrap();
    assert_eq!(aacnn.patience, Some(30));
    let never = Config::of_table("aacnn", Path::new("x"), toml::toml! { patience = "none" }).unwrap();
    assert_eq!(never, Config { patience: None, ..aacnn.clone() });
    for config in [aacnn, never] {
        let run = run_dir(&dir.path().join(format!("{:?}", config.patience)), &config);
        let text = std::fs::read_to_string(run.path().join("run.toml")).unwrap();
        let said = config.patience.map_or("patience = \"none\"".into(), |epochs| format!("patience = {epochs}"));
        assert!(text.lines().any(|line| line == said), "{text}");
        assert_eq!(run.record().unwrap().config, config);
        // As runs without patience were written by earlier versions.
        let older: String = text.lines().filter(|line| *line != said).map(|line| line.to_owned() + "\n").collect();
        std::fs::write(run.path().join("run.toml"), older).unwrap();
        assert_eq!(run.record().unwrap().config.patience, None);
    }
}

#[test]
fn validation_clips_can_be_given_by_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    let data = small(&dir.path().join("data"));
    let keys = dir.path().join("keys.txt");
    let chosen = data.train[3..9].to_vec();
    let lines: Vec<&str> = chosen.iter().map(|&clip| data.keys[clip as usize].as_str()).collect();
    std::fs::write(&keys, lines.join("\n")).unwrap();
    let config = Config { val_keys: Some(keys.clone()), ..config("att", &data, &[4, 5]) };
    let data = data.with_validation_keys(&keys).unwrap();
    let splits = splits(&config, &data).unwrap();
    assert_eq!(splits[0], splits[1], "the same for all seeds");
    assert_eq!(splits[0].1, chosen);
    assert!(splits[0].0.iter().all(|clip| !chosen.contains(clip)));
}
