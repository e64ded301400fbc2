//! Sounds that are no music: nothing is present in them.

use wmic::core::random::Stream;
use wmic::data::{Dataset, FeatureValues, Features};
use wmic::features::runner::FrontEndRunner;
use wmic::gpu::Gpu;
use wmic::metrics::thresholds::Threshold;
use wmic::nn::front_ends::kind::SpectrogramFrames;
use wmic::predict::recogniser::{Options, Recogniser, recognise_clips};
use wmic::predict::recognition::Recognition;
use wmic::predict::trained::Trained;

use crate::recogniser::{SR, hiss, trained};

/// A random melody in harmonic tones of random timbre that decay, 6 s.
fn melody(seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, 3);
    let mut draw = |low: f64, high: f64| low + (high - low) * (stream.uniform(0.5) + 0.5);
    let (mut samples, level, tilt) = (vec![0.0; 6 * SR as usize], draw(0.02, 0.3), draw(0.5, 2.0));
    let (each, decay) = (draw(0.15, 1.0), draw(0.5, 5.0));
    let mut start = 0.0;
    while start < 6.0 {
        let (pitch, length) = (110.0 * 2f64.powf((draw(0.0, 36.0)).floor() / 12.0), each * draw(0.5, 2.0));
        let first = (start * f64::from(SR)) as usize;
        for (i, sample) in samples.iter_mut().skip(first).take((length * f64::from(SR)) as usize).enumerate() {
            let t = i as f64 / f64::from(SR);
            let partials = (1..8).take_while(|k| f64::from(*k) * pitch < 7500.0);
            let tone: f64 = partials
                .map(|k| (std::f64::consts::TAU * f64::from(k) * pitch * t).sin() / f64::from(k).powf(tilt))
                .sum();
            *sample += (level * (-decay * t).exp() * tone) as f32;
        }
        start += length;
    }
    samples
}

/// A run whose training clips are melodies, and its front end.
fn fitted(gpu: &Gpu, model: &str) -> (Trained, FrontEndRunner) {
    let mut run = trained(model);
    run.set_threshold(Threshold::Fixed(0.0)).unwrap();
    let mut feature_config = run.feature_config().unwrap();
    let weights = feature_config.load().unwrap();
    let runner = FrontEndRunner::new(gpu, &feature_config, weights.as_ref(), SpectrogramFrames::Patches).unwrap();
    let sounds: Vec<Vec<f32>> = (0..64).map(melody).collect();
    let (mut values, mut spectrum, mut lengths) = (vec![], vec![], vec![]);
    for batch in sounds.chunks(runner.extractor.batch()) {
        let samples: Vec<&[f32]> = batch.iter().map(Vec::as_slice).collect();
        let features = runner.features(&runner.extractor.run(&samples).unwrap()).unwrap();
        let add = |of_batch, all: &mut Vec<f32>| {
            let FeatureValues::F32(of_batch) = of_batch else { panic!("features are floats") };
            all.extend_from_slice(&of_batch);
        };
        add(features.values, &mut values);
        features.spectrum.into_iter().for_each(|of_batch| add(of_batch, &mut spectrum));
        lengths.extend(features.lengths);
    }
    assert_eq!(!spectrum.is_empty(), model == "att-tf");
    let spectrum = (!spectrum.is_empty()).then(|| FeatureValues::F32(spectrum.into()));
    let (instances, width) = (runner.instances(), runner.instance_len());
    let data = Dataset {
        path: "none".into(),
        classes: run.about.classes.clone(),
        keys: (0..64).map(|i| i.to_string()).collect(),
        features: Features { values: FeatureValues::F32(values.into()), instances, width, lengths, spectrum },
        targets: vec![0.0; 64 * 20],
        observed: vec![false; 64 * 20],
        strong: None,
        mixer: None,
        train: (0..52).collect(),
        validation: Some((52..64).collect()),
        test: vec![],
        drawn: None,
        word_vectors: vec![],
        warnings: vec![],
    };
    run.fit_domain(&data).unwrap();
    assert!(run.domain.is_some());
    (run, runner)
}

/// Clicks at random times.
fn irregular_clicks(count: usize) -> Vec<f32> {
    let (mut stream, mut clicks) = (Stream::new(8, 0), vec![0.0; count]);
    (0..24).for_each(|_| clicks[((stream.uniform(0.5) + 0.5) * count as f64) as usize] = 0.7);
    clicks
}

/// Noise whose level changes at 4 Hz.
fn swelling_noise() -> Vec<f32> {
    let level = |i: usize| 1.0 + (4.0 * std::f64::consts::TAU * i as f64 / f64::from(SR)).sin() as f32;
    hiss(8.0, -20.0).into_iter().enumerate().map(|(i, v)| v * level(i)).collect()
}

/// Feature maps of a random VGGish do not show what a sound is like: these have its spectrum beside them.
#[test]
fn nothing_plays_in_feature_maps_of_noise() {
    let gpu = Gpu::open(None).unwrap();
    let (run, runner) = fitted(&gpu, "att-tf");
    let sounds = [melody(100), melody(101), irregular_clicks(8 * SR as usize), swelling_noise(), hiss(8.0, -30.0)];
    let samples = sounds.each_ref().map(Vec::as_slice);
    let mut features = runner.features(&runner.extractor.run(&samples).unwrap()).unwrap();
    let keys = samples.map(|samples| samples.len().to_string());
    let marked = |features: &Features| {
        let mut marked = vec![];
        let mut each = |r: Recognition| {
            marked.push(r.distance.map(|_| r.is_unreliable()));
            Ok(())
        };
        recognise_clips(&gpu, &run, &keys, features, &Options::default(), &mut each).unwrap();
        marked
    };
    assert_eq!(marked(&features), [false, false, true, true, true].map(Some));
    features.spectrum = None;
    assert_eq!(marked(&features), [None; 5], "their sound is not known");

    // From sound the spectrum comes from the front end, whose feature maps stay on the GPU.
    let mut recogniser = Recogniser::new(&gpu, run, Options::default()).unwrap();
    let mut is_marked = |samples| recogniser.recognise(samples, SR).unwrap().recognition.is_unreliable();
    assert_eq!([is_marked(samples[0]), is_marked(samples[2])], [false, true]);
}

#[test]
fn nothing_plays_in_noise_hum_and_clicks() {
    let gpu = Gpu::open(None).unwrap();
    let (run, _) = fitted(&gpu, "sr16");
    let mut recogniser = Recogniser::new(&gpu, run, Options::default()).unwrap();
    let mut recognise = |samples: &[f32]| recogniser.recognise(samples, SR).unwrap().recognition;
    let music: Vec<bool> = (100..106).map(|seed| recognise(&melody(seed)).is_unreliable()).collect();
    assert!(music.iter().filter(|unreliable| **unreliable).count() <= 1, "{music:?}");

    // Noise after music, as applause.
    let parts: Vec<Vec<f32>> = (100..105).map(melody).chain([hiss(14.4, -30.0)]).collect();
    let mixed = recognise(&parts.concat());
    // After the last excerpt with any of the music.
    let noise = ((mixed.duration - 14.4 + 10.0) / mixed.cell).ceil() as usize;
    assert!(!mixed.is_unreliable() && mixed.instruments.iter().any(|i| i.present), "{:?}", mixed.distance);
    assert!(mixed.instruments.iter().all(|i| i.activity[noise..].iter().all(|a| *a == 0.0)));
    let end = format!(" to {:.0} s", mixed.duration);
    let said = |line: &String| line.starts_with("has parts unlike the training clips") && line.ends_with(&end);
    assert!(mixed.condition.warnings.iter().any(said), "{:?}", mixed.condition.warnings);

    let count = 8 * SR as usize;
    let at = |i: usize| std::f64::consts::TAU * i as f64 / f64::from(SR);
    let hum = (0..count)
        .map(|i| (1..9).map(|k| (50.0 * f64::from(k) * at(i)).sin() / f64::from(k)).sum::<f64>() as f32 / 10.0);
    let clicks = (0..count).map(|i| if i % 7001 < 3 { 0.8 } else { 0.0 });
    // A one-pole low-pass at 500 Hz.
    let mut low = 0.0;
    let speech_shaped = hiss(8.0, -10.0).into_iter().map(|v| {
        low += 0.18 * (v - low);
        low
    });
    let noises = [
        ("silence", vec![0.0; count]),
        ("hiss", hiss(8.0, -30.0)),
        ("hum", hum.collect()),
        ("clicks", clicks.collect()),
        ("irregular clicks", irregular_clicks(count)),
        ("noise at 4 Hz", swelling_noise()),
        ("speech-shaped noise", speech_shaped.collect()),
    ];
    for (name, noise) in noises {
        let recognition = recognise(&noise);
        assert_eq!(recognition.is_unreliable(), name != "silence", "{name}: {:?}", recognition.distance);
        assert!(recognition.instruments.iter().all(|i| !i.present && i.segments.is_empty()), "{name}");
        let warned = recognition.condition.warnings.iter().any(|line| line.starts_with("is unreliable"));
        assert_eq!(warned, name != "silence", "{name}");
    }
}
