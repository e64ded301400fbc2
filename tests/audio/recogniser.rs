//! A trained run as a library user has it: in memory, shared between threads, used repeatedly.

use std::path::Path;

use wmic::audio::{Depth, Level, decode, write_wav};
use wmic::core::random::Stream;
use wmic::features::device_dataset::DeviceDataset;
use wmic::features::feature_config::FeatureConfig;
use wmic::features::front_end::{FrontEnd, Source};
use wmic::features::runner::FrontEndRunner;
use wmic::gpu::Gpu;
use wmic::metrics::thresholds::Threshold;
use wmic::nn::FeatureKind;
use wmic::nn::front_ends::kind::SpectrogramFrames;
use wmic::nn::front_ends::vggish::Width;
use wmic::predict::predictor::{Detail, Predictor, layout};
use wmic::predict::recogniser::{Aggregate, Options, Recognised, Recogniser, recognise_clips};
use wmic::predict::recognition::Instrument;
use wmic::predict::trained::{Network, Trained, TrainedModel};
use wmic::run::config::Config;
use wmic::run::weights::{About, Block};

pub const SR: u32 = 16_000;
const SEEDS: [u64; 2] = [1, 2];

/// Untrained, on a VGGish of an eighth of the channels.
pub fn trained(model: &str) -> Trained {
    let front_end = FrontEnd::new(Source::Random(0), Width::Eighth);
    with(Config { front_end: Some(front_end), ..Config::of(model, "none").unwrap() })
}

/// Untrained, of the test's seeds.
pub fn with(config: Config) -> Trained {
    let config = Config { seeds: SEEDS.into(), ..config };
    let classes: Vec<String> = (0..20).map(|k| format!("class {k}")).collect();
    let feature_config =
        FeatureConfig { front_end: config.front_end.clone(), ..FeatureConfig::of(config.kind().unwrap()) };
    let kind = feature_config.kind;
    let (instances, width) = (kind.instances(kind.samples()), feature_config.instance_len());
    let layout = layout(&config, instances, width, classes.len()).unwrap();
    let block = |seed: u64| {
        let (trained, stats) = layout.initial(seed);
        Block { trained, stats }
    };
    let blocks = SEEDS.map(block).into();
    let about = About {
        version: "test".into(),
        model: config.model.clone(),
        classes,
        instances,
        width,
        input: "x".into(),
        seeds: SEEDS.into(),
        best_epochs: vec![0; 2],
        thresholds: None,
        calibrations: None,
        precision_thresholds: None,
    };
    Trained { config, about, calibrated: true, model: TrainedModel::Network(Network { layout, blocks }), domain: None }
}

/// A glide with some noise, never repeating.
pub fn sound(seconds: f64) -> Vec<f32> {
    let at = |i: usize| {
        let t = i as f64 / f64::from(SR);
        ((300.0 + 40.0 * t) * t * std::f64::consts::TAU).sin() as f32 / 2.0 + (i * 7919 % 101) as f32 / 2020.0
    };
    (0..(seconds * f64::from(SR)) as usize).map(at).collect()
}

#[test]
fn runs_and_recognisers_go_where_threads_go() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Trained>();
    shared::<Gpu>();
    sent::<Predictor>();
    sent::<Recogniser>();
}

#[test]
fn samples_in_memory_are_recognised_as_their_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wav");
    let samples = sound(23.0);
    write_wav(&path, SR, &samples, Depth::Float32).unwrap();
    assert_eq!(decode(&path, 60.0).unwrap().samples, samples);
    let gpu = Gpu::open(None).unwrap();
    let mut recogniser = Recogniser::new(&gpu, trained("att-tf"), Options::default()).unwrap();
    drop(gpu);
    let by_file = recogniser.recognise_file(&path).unwrap().recognition;
    let in_memory = recogniser.recognise(&samples, SR).unwrap().recognition;
    assert_eq!((in_memory.file.as_path(), by_file.file.as_path()), (Path::new("samples"), path.as_path()));
    assert_eq!((&in_memory.instruments, in_memory.duration), (&by_file.instruments, by_file.duration));
    let map = by_file.instruments[0].attention_map.as_ref().unwrap();
    assert_eq!((map.dims(), by_file.bands.len()), (&[by_file.instruments[0].activity.len(), 4][..], 4));
    assert!(map.data().iter().all(|v| (0.0..=1.0).contains(v)) && map.data().contains(&1.0));
    assert_eq!((by_file.bands[0][0], by_file.bands[3][1]), (125.0, 7500.0));

    for (samples, sr, why) in [
        (&[][..], SR, "contain no audio"),
        (&[0.0, f32::NAN][..], SR, "sample 1 is NaN"),
        (&[0.0][..], 0, "sample rate of 0 Hz"),
    ] {
        let error = recogniser.recognise(samples, sr).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert!(recogniser.recognise_file("no-such.wav").is_err());
    assert_eq!(recogniser.recognise(&samples, SR).unwrap().recognition.instruments, by_file.instruments, "as before");
}

/// White noise of this RMS level in dB of full scale.
pub fn hiss(seconds: f64, level: f64) -> Vec<f32> {
    let mut stream = Stream::new(5, 0);
    let scale = 10f64.powf(level / 20.0) * 3f64.sqrt();
    (0..(seconds * f64::from(SR)) as usize).map(|_| (scale * stream.uniform(1.0)) as f32).collect()
}

/// Plucked twice a second: 12 dB quieter on average than its peaks say.
fn plucked(seconds: f64) -> Vec<f32> {
    let half = SR as usize / 2;
    let decay = |i: usize| (-8.0 * (i % half) as f32 / half as f32).exp();
    sound(seconds).into_iter().enumerate().map(|(i, v)| v * decay(i)).collect()
}

#[test]
fn what_is_much_quieter_than_the_rest_decides_nothing() {
    let gpu = Gpu::open(None).unwrap();
    for model in ["att-tf", "fc-tf", "sr16"] {
        let mut recogniser = Recogniser::new(&gpu, trained(model), Options::default()).unwrap();
        let mut recognise = |parts: &[&[f32]]| recogniser.recognise(&parts.concat(), SR).unwrap().recognition;
        let (clip, noise) = (plucked(6.0), hiss(20.0, -70.0));
        let (alone, before, after) = (recognise(&[&clip]), recognise(&[&noise, &clip]), recognise(&[&clip, &noise]));
        assert!(alone.instruments.iter().any(|i| i.activity.iter().any(|a| *a > 0.0)));
        for (with_hiss, alone) in after.instruments.iter().zip(&alone.instruments) {
            assert_eq!(with_hiss.probability, alone.probability, "{model}");
            assert!(with_hiss.segments.iter().all(|s| s.end <= 6.72), "{model}: {:?}", with_hiss.segments);
            let end = (6.72 / after.cell).round() as usize;
            assert!(with_hiss.activity[end..].iter().all(|a| *a == 0.0), "{model}");
        }
        let start = (19.2 / before.cell).round() as usize;
        let silent = |i: &Instrument| i.activity[..start].iter().all(|a| *a == 0.0);
        assert!(before.instruments.iter().all(silent), "{model}");
        assert!(before.instruments.iter().any(|i| i.activity.iter().any(|a| *a > 0.0)), "{model}");
        // A gate of its own: what is 80 dB below is louder than one at 90 dB, and -70 dB of full scale is no silence.
        let options = Options { gate: Some(90.0), keep_unreliable: true, ..Options::default() };
        let mut all = Recogniser::new(&gpu, trained(model), options).unwrap();
        let loud = all.recognise(&[clip, noise].concat(), SR).unwrap().recognition;
        assert!(loud.instruments.iter().any(|i| i.activity.last().is_some_and(|a| *a > 0.0)), "{model}");
    }
}

#[test]
fn in_silence_nothing_plays() {
    let gpu = Gpu::open(None).unwrap();
    let silences = [vec![0.0; 400_000], vec![0.25; 400_000], hiss(25.0, -85.0)];
    for model in ["att", "fc-tf", "sr16"] {
        let mut run = trained(model);
        // At this threshold anything else would be present.
        run.set_threshold(Threshold::Fixed(0.0)).unwrap();
        let mut recogniser = Recogniser::new(&gpu, run, Options { spectrogram: true, ..Options::default() }).unwrap();
        for silence in &silences {
            let Recognised { recognition, spectrogram, .. } = recogniser.recognise(silence, SR).unwrap();
            for i in &recognition.instruments {
                assert_eq!((i.probability, i.present, i.segments.len()), (0.0, false, 0), "{model}");
                assert!(i.activity.iter().all(|a| *a == 0.0), "{model}");
            }
            assert!(recognition.condition.warnings.iter().any(|line| line.starts_with("is silent")), "{model}");
            let spectrogram = spectrogram.unwrap();
            assert!(spectrogram.dims()[0] > 2000 / 2 && spectrogram.data().iter().all(|v| *v == spectrogram[0]));
        }
    }
}

/// Excerpts in which an instrument surely plays, among many in which it may, do not make a long recording certain.
#[test]
fn probabilities_do_not_grow_with_the_length_of_a_recording() {
    let gpu = Gpu::open(None).unwrap();
    let probabilities = |aggregate, seconds: usize| -> Vec<f64> {
        let options = Options { hop: Some(9.6), aggregate: Some(aggregate), ..Options::default() };
        let mut recogniser = Recogniser::new(&gpu, trained("att-tf"), options).unwrap();
        let once = sound(9.6);
        let samples: Vec<f32> = once.iter().copied().cycle().take(once.len() * seconds / 10).collect();
        recogniser.recognise(&samples, SR).unwrap().recognition.instruments.iter().map(|i| i.probability).collect()
    };
    let (short, long) = (probabilities(Aggregate::Power, 10), probabilities(Aggregate::Power, 120));
    assert!(short.iter().zip(&long).all(|(a, b)| (a - b).abs() < 0.02), "{short:?} {long:?}");
}

/// Maps stay on the GPU, where the padding of a short excerpt must be zero as in stored features: fc-tf reads all of
/// it. musicnn's depend on the level, which is that of the whole excerpt.
#[test]
fn features_that_stay_on_the_gpu_are_those_that_are_read() {
    let gpu = Gpu::open(None).unwrap();
    let options = Options { hop: Some(10.0), ..Options::default() };
    let musicnn = || with(Config { input: Some(FeatureKind::Musicnn), ..Config::of("att", "none").unwrap() });
    let maps = || trained("fc-tf");
    let runs: [(&dyn Fn() -> Trained, f64); 4] = [(&maps, 10.0), (&maps, 3.3), (&musicnn, 10.0), (&musicnn, 3.3)];
    for (run, seconds) in runs {
        let (run, samples) = (run(), sound(seconds));
        let mut feature_config = run.feature_config().unwrap();
        let weights = feature_config.load().unwrap();
        let runner = FrontEndRunner::new(&gpu, &feature_config, weights.as_ref(), SpectrogramFrames::None).unwrap();
        let mut normalised = wmic::audio::Clip { sr: SR, samples: samples.clone() };
        match feature_config.kind.format().level {
            Level::Rms(level) => normalised.normalise_rms(level),
            _ => normalised.normalise_peak(),
        };
        let features = runner.features(&runner.extractor.run(&[&normalised.samples]).unwrap()).unwrap();
        let mut read = vec![];
        let mut each = |recognition| {
            read.push(recognition);
            Ok(())
        };
        recognise_clips(&gpu, &run, &["a".into()], &features, &options, &mut each).unwrap();
        let read = read.remove(0);
        let stayed = Recogniser::new(&gpu, run, options).unwrap().recognise(&samples, SR).unwrap();
        let probabilities = |r: &wmic::predict::recognition::Recognition| -> Vec<f64> {
            r.instruments.iter().map(|i| i.probability).collect()
        };
        assert_eq!(probabilities(&stayed.recognition), probabilities(&read), "{seconds} s");
    }
}

/// musicnn's convolutions look beyond the end of an excerpt, YAMNet's and VGGish's patches do not.
#[test]
fn features_of_an_excerpt_do_not_depend_on_the_others_of_its_batch() {
    let gpu = Gpu::open(None).unwrap();
    let config = FeatureConfig::of(FeatureKind::Musicnn);
    let runner = FrontEndRunner::new(&gpu, &config, None, SpectrogramFrames::All).unwrap();
    let excerpts = [3.3, 10.0, 2.0, 5.0, 0.01, 4.9, 7.4].map(sound);
    let together = runner.extractor.run(&excerpts.each_ref().map(Vec::as_slice)).unwrap();
    for (excerpt, extract) in excerpts.iter().zip(&together) {
        assert_eq!(runner.extractor.run(&[excerpt]).unwrap()[0], *extract, "{} samples", excerpt.len());
    }
}

/// Independent of the batch and of its other clips.
#[test]
fn clips_are_predicted_alike_in_batches_of_all_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let gpu = Gpu::open(None).unwrap();
    wmic::data::synth(folder.path(), 40, 3).unwrap();
    let data = wmic::data::Dataset::load(folder.path()).unwrap();
    let run = trained("att");
    let TrainedModel::Network(network) = &run.model else { unreachable!() };
    let config = Config { batch: 8, ..run.config.clone() };
    let corpus = DeviceDataset::of_dataset(&gpu, &data).unwrap();
    let mut predictor = Predictor::new(&gpu, &config, &network.blocks, &corpus, &[], Detail::Positions).unwrap();
    let all: Vec<u32> = (0..21).collect();
    let whole = predictor.predict(&[all.clone(), all.clone()]).unwrap();
    for some in [&all[3..4], &all[5..7], &all[5..10], &all[..16]] {
        let part = predictor.predict(&[some.to_vec(), some.to_vec()]).unwrap();
        for r in 0..2 {
            for (i, &clip) in some.iter().enumerate() {
                assert_eq!(part.probabilities[r].row(i), whole.probabilities[r].row(clip as usize));
            }
            let places = |p: &wmic::predict::predictor::Predictions, at: usize| {
                p.instances.as_ref().unwrap().gates[r].data()[at * 200..(at + 1) * 200].to_vec()
            };
            assert_eq!(places(&part, 0), places(&whole, some[0] as usize));
        }
    }
}
