//! YAMNet against TensorFlow Lite: the spectrogram, the embedding and the tags of three clips.

use std::f64::consts::TAU;
use std::path::Path;

use crate::formula::frac;
use crate::support::Golden;
use wmic::Array;
use wmic::features::front_end::{FrontEnd, Source};
use wmic::gpu::{Buffer, Gpu};
use wmic::graph::{Draft, Graph, Mode, Spec};
use wmic::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES, SR, log_mel_patches};
use wmic::nn::front_ends::yamnet::{LOG_MEL, embeddings, tags};

const CLIPS: usize = 3;
const SAMPLES: usize = 15_600;
/// Every so many frames are stored.
const STEP: usize = 19;
/// Of embeddings up to 2.4 and of probabilities.
const TOLERANCE: f64 = 1e-3;

/// As `sound` in `tests/golden/yamnet.py`.
fn sound(clip: usize) -> Vec<f32> {
    let sounds = [(220.0, 0.75, 0.1, 0.0005), (98.0, 0.5, 0.3, 0.05), (587.33, 0.25, 0.02, 0.001)];
    let (hz, beat, level, noise) = sounds[clip];
    let value = |i: usize| {
        let t = i as f64 / f64::from(SR);
        let tones: f64 = (1..9).map(f64::from).map(|h| (TAU * hz * h * t).sin() / h).sum();
        level * tones * (-3.0 * (t % beat)).exp() + noise * (2.0 * frac(i as u32, 3200 + clip as u32) - 1.0)
    };
    (0..SAMPLES).map(|i| value(i) as f32).collect()
}

#[track_caller]
fn assert_close(name: &str, got: &[f32], want: &Array<f64>) {
    assert_eq!(got.len(), want.data().len(), "{name}");
    let error = |(got, want): (&f32, &f64)| (f64::from(*got) - want).abs();
    let largest = got.iter().zip(want.data()).map(error).fold(0.0, f64::max);
    assert!(largest <= TOLERANCE, "{name} differs by {largest:.1e} from TensorFlow Lite's");
}

#[test]
fn embeddings_and_tags_are_tensorflow_lites() {
    let found = std::env::var_os("WMIC_DATA").map(|data| Path::new(&data).join("yamnet.tflite"));
    let Some(path) = found.filter(|path| path.is_file()) else {
        return println!("skipped: WMIC_DATA does not name a folder with yamnet.tflite");
    };
    let golden = Golden::open("yamnet.safetensors");
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    let mut g = Graph::new(Mode::Eval);
    let samples = g.input("samples", Spec::f32([CLIPS, SAMPLES]));
    let (patches, _) = log_mel_patches(&mut g, samples, LOG_MEL, false).unwrap();
    let embedding = embeddings(&mut g, patches).unwrap();
    let probabilities = tags(&mut g, embedding).unwrap();

    let weights = FrontEnd::new(Source::File(path), None).load().unwrap().upload(&gpu, "").unwrap();
    let mut bound: Vec<(&str, Buffer)> = weights.iter().map(|(name, of)| (name.as_str(), of.clone())).collect();
    let sounds: Vec<f32> = (0..CLIPS).flat_map(sound).collect();
    bound.push(("samples", gpu.upload("samples", &sounds).unwrap()));
    let draft = Draft::new(&g, gpu.adapter().target(), 1, &[patches, embedding, probabilities], &[]).unwrap();
    let plan = draft.realise(&gpu, &bound).unwrap();
    gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();

    let patches = plan.read::<f32>(&gpu, patches).unwrap();
    let every = |clip: &[f32]| clip.chunks(BANDS).step_by(STEP).flatten().copied().collect::<Vec<_>>();
    let stored: Vec<f32> = patches.chunks(PATCH_FRAMES * BANDS).flat_map(every).collect();
    assert_close("log_mel", &stored, &golden.tensor("log_mel"));
    assert_close("embedding", &plan.read(&gpu, embedding).unwrap(), &golden.tensor("embedding"));
    assert_close("tags", &plan.read(&gpu, probabilities).unwrap(), &golden.tensor("tags"));
}
