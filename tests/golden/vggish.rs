//! VGGish against PyTorch: the network, from audio to embeddings, torchvggish's weights, and the PCA in 8 bits.

use std::path::{Path, PathBuf};

use crate::formula::frac;
use crate::support::Golden;
use safetensors::SafeTensors;
use wmic::Array;
use wmic::features::extractor::Extractor;
use wmic::features::front_end::{FrontEnd, Source};
use wmic::features::scaling::PostProcess;
use wmic::gpu::{Buffer, Gpu};
use wmic::graph::{Draft, Graph, Mode, Spec};
use wmic::nn::front_ends::kind::{FeatureKind, Options, SpectrogramFrames};
use wmic::nn::front_ends::log_mel::{BANDS, PATCH_FRAMES, SR};
use wmic::nn::front_ends::spectrum::Scale;
use wmic::nn::front_ends::vggish::{self, EMBEDDING, Weights, Width};

/// Of f32 kernels, relative to the largest value.
const TOLERANCE: f64 = 1e-4;

#[track_caller]
fn assert_close(name: &str, got: &[f32], want: &Array<f64>) {
    assert_eq!(got.len(), want.data().len(), "{name}");
    let largest = want.data().iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(largest > 0.0, "{name} is all 0");
    for (i, (got, want)) in got.iter().zip(want.data()).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(error <= TOLERANCE * largest, "{name}[{i}] is {got}, PyTorch gives {want}");
    }
}

/// As `patches` in `tests/golden/vggish.py`.
fn patches(count: usize) -> Vec<f32> {
    (0..count * PATCH_FRAMES * BANDS).map(|i| (-4.5 + 6.5 * frac(i as u32, 2100)) as f32).collect()
}

#[test]
fn maps_and_embeddings_are_pytorchs_at_a_quarter_and_at_full_width() {
    let golden = Golden::open("vggish.safetensors");
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    for (name, width, count) in [("quarter", Width::Quarter, 3), ("full", Width::Full, 2)] {
        let mut g = Graph::new(Mode::Eval);
        let input = g.input("patches", Spec::f32([count, PATCH_FRAMES, BANDS]));
        let maps = vggish::convolutions(&mut g, input, width, Weights::Frozen).unwrap();
        let mut kept = vec![("maps", maps)];
        let layout = vggish::layout(width, vggish::INIT);
        for (what, last_relu) in [("linear", false), ("embeddings", true)] {
            let y = vggish::embeddings(&mut g, maps, width, Weights::Frozen, last_relu).unwrap();
            kept.push((what, y));
        }
        let tensors: Vec<_> = layout.params.iter().map(|p| (p.name.as_str(), p.shape.dims())).collect();
        let mut bound: Vec<(&str, Buffer)> = vec![("patches", gpu.upload("patches", &patches(count)).unwrap())];
        for ((tensor, _), values) in tensors.iter().zip(crate::formula::weights(&tensors)) {
            bound.push((tensor, gpu.upload(tensor, &values).unwrap()));
        }
        let tensors: Vec<_> = kept.iter().map(|(_, tensor)| *tensor).collect();
        let draft = Draft::new(&g, gpu.adapter().target(), 1, &tensors, &[]).unwrap();
        let plan = draft.realise(&gpu, &bound).unwrap();
        gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
        for (what, tensor) in kept {
            let what = format!("{name}.{what}");
            assert_close(&what, &plan.read::<f32>(&gpu, tensor).unwrap(), &golden.tensor(&what));
        }
    }
}

/// torchvggish's state dict at 1 / `divisor` of its width: the header is Python's, the values are the formula's.
fn state_dict(divisor: usize) -> (serde_json::Value, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/vggish-{divisor}.header.json"));
    let header: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let tensors = header.as_object().unwrap();
    let numbers = |v: &serde_json::Value| -> Vec<usize> {
        v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
    };
    let shapes: Vec<_> = tensors.values().map(|t| numbers(&t["shape"])).collect();
    let named: Vec<_> = tensors.keys().map(String::as_str).zip(shapes.iter().map(Vec::as_slice)).collect();
    let ends = tensors.values().map(|t| numbers(&t["data_offsets"])[1]);
    let mut data = vec![0; ends.max().unwrap()];
    for (tensor, values) in tensors.values().zip(crate::formula::weights(&named)) {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        data[numbers(&tensor["data_offsets"])[0]..][..bytes.len()].copy_from_slice(&bytes);
    }
    (header, data)
}

fn write(dir: &Path, header: &serde_json::Value, data: &[u8]) -> PathBuf {
    let header = header.to_string();
    let path = dir.join("vggish.safetensors");
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()).unwrap();
    path
}

/// As `sound` in `tests/golden/vggish.py`.
fn sound() -> Vec<f32> {
    use std::f64::consts::TAU;
    let sample = |i: u32| {
        let t = f64::from(i) / f64::from(SR);
        let tones = 0.04 * t * (TAU * (200.0 * t + 300.0 * t * t)).sin() + 0.2 * (TAU * 440.0 * t).sin();
        (tones + 0.02 * (2.0 * frac(i, 2200) - 1.0)) as f32
    };
    (0..10 * SR).map(sample).collect()
}

#[test]
fn audio_to_embeddings_equals_a_plain_chain() {
    let dir = tempfile::tempdir().unwrap();
    let golden = Golden::open("vggish.safetensors");
    let gpu = Gpu::open(None).unwrap();
    let (header, data) = state_dict(4);
    let weights = FrontEnd::new(Source::File(write(dir.path(), &header, &data)), Width::Quarter).load().unwrap();
    let sound = sound();
    let beginnings = [("10s", 160_000, 10), ("3.3s", 52_800, 3), ("0.5s", 8000, 1)];

    let extractor = |kind, samples| {
        let options = Options {
            width: Width::Quarter,
            scale: Scale::Magnitude,
            last_relu: true,
            spectrogram: SpectrogramFrames::None,
        };
        Extractor::new(&gpu, kind, options, Some(&weights), samples).unwrap()
    };
    let whole = extractor(FeatureKind::Vggish, sound.len());
    assert_eq!((whole.instances(), whole.instance_len()), (10, EMBEDDING));
    let extracts = whole.run(&beginnings.map(|(_, samples, _)| &sound[..samples])).unwrap();
    for ((name, _, instances), extract) in beginnings.into_iter().zip(extracts) {
        assert_eq!(extract.instances, instances, "{name}");
        let (valid, padding) = extract.features.split_at(instances * EMBEDDING);
        assert_close(name, valid, &golden.tensor(&format!("sound.{name}.embeddings")));
        assert!(padding.len() == (10 - instances) * EMBEDDING && padding.iter().all(|v| *v == 0.0), "{name}: padding");
    }
    // The shortest clip step by step.
    for (kind, what) in
        [(FeatureKind::LogMel, "logmel"), (FeatureKind::Maps, "maps"), (FeatureKind::Vggish, "embeddings")]
    {
        let extract = extractor(kind, 15_600).run(&[&sound[..8000]]).unwrap().remove(0);
        assert_eq!(extract.instances, 1);
        assert_close(what, &extract.features, &golden.tensor(&format!("sound.0.5s.{what}")));
    }
}

#[test]
fn a_state_dict_of_torchvggish_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let golden = Golden::open("vggish.safetensors");
    let gpu = Gpu::open(None).unwrap();
    let (header, data) = state_dict(8);
    let weights = FrontEnd::new(Source::File(write(dir.path(), &header, &data)), Width::Eighth).load().unwrap();
    let mut g = Graph::new(Mode::Eval);
    let input = g.input("patches", Spec::f32([2, PATCH_FRAMES, BANDS]));
    let maps = vggish::convolutions(&mut g, input, Width::Eighth, Weights::Frozen).unwrap();
    let y = vggish::embeddings(&mut g, maps, Width::Eighth, Weights::Frozen, true).unwrap();
    let mut bound = weights.upload(&gpu, "").unwrap();
    bound.push(("patches".into(), gpu.upload("patches", &patches(2)).unwrap()));
    let bound: Vec<_> = bound.iter().map(|(name, buffer)| (name.as_str(), buffer.clone())).collect();
    let plan = Draft::new(&g, gpu.adapter().target(), 1, &[y], &[]).unwrap().realise(&gpu, &bound).unwrap();
    gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
    let embeddings: Vec<f32> = plan.read(&gpu, y).unwrap();
    assert_close("embeddings", &embeddings, &golden.tensor("file.embeddings"));

    let stored: Vec<u8> =
        embeddings.chunks(EMBEDDING).flat_map(|e| weights.post_process.as_ref().unwrap().quantise(e)).collect();
    for (i, (got, want)) in stored.iter().zip(golden.tensor("file.bytes").data()).enumerate() {
        // The embeddings are f32 here: a value may be on the other side of a boundary.
        assert!((f64::from(*got) - want).abs() <= 1.0, "byte {i} is {got}, numpy gives {want}");
    }
}

#[test]
fn damaged_state_dicts_are_rejected_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let (header, data) = state_dict(8);
    let path = write(dir.path(), &header, &data);
    let load = |width| FrontEnd::new(Source::File(path.clone()), width).load();
    let rejected = |what: &str, width, said: &[&str]| {
        let error = load(width).err().unwrap_or_else(|| panic!("{what}: is loaded")).to_string();
        assert!(!error.contains('\n') && error.contains("vggish.safetensors"), "{what}: {error}");
        assert!(said.iter().all(|part| error.contains(part)), "{what}: {error}");
    };
    let known = load(Width::Eighth).unwrap().fingerprint();
    rejected("another width", Width::Quarter, &["features.0.weight", "`width` 1/4"]);

    // A tensor under another name is missing under its own.
    for (name, new, said) in [
        ("features.8.bias", "features.9.bias", "features.9.bias"),
        ("embeddings.4.weight", "pproc.other", "embeddings.4.weight"),
        ("pproc.pca_means", "pproc.mean", "pproc.pca_means"),
    ] {
        let text = header.to_string().replace(&format!("\"{name}\""), &format!("\"{new}\""));
        write(dir.path(), &serde_json::from_str(&text).unwrap(), &data);
        rejected(new, Width::Eighth, &[said]);
    }
    for name in ["features.11.weight", "embeddings.2.bias", "pproc.pca_eigen_vectors", "pproc.pca_means"] {
        let mut damaged = data.clone();
        let at = header[name]["data_offsets"][0].as_u64().unwrap() as usize;
        damaged[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        write(dir.path(), &header, &damaged);
        rejected(name, Width::Eighth, &[name, "NaN"]);
    }
    let mut halves = header.clone();
    halves["features.0.bias"]["dtype"] = "I32".into();
    write(dir.path(), &halves, &data);
    rejected("whole numbers", Width::Eighth, &["features.0.bias", "I32", "F32"]);
    write(dir.path(), &header, &data[..data.len() / 2]);
    rejected("half a file", Width::Eighth, &["safetensors"]);
    std::fs::write(&path, b"PK\x03\x04 a PyTorch archive").unwrap();
    rejected("a pickle in a zip", Width::Eighth, &["safetensors"]);

    // Weights that have changed since a run started with them.
    let mut other = data.clone();
    other[0] ^= 1;
    write(dir.path(), &header, &other);
    let changed = FrontEnd { fingerprint: Some(known), ..FrontEnd::new(Source::File(path.clone()), Width::Eighth) };
    assert!(changed.load().err().expect("changed weights").to_string().contains("weights other than"));
}

#[test]
fn the_pca_in_8_bits_is_numpys() {
    let Some(path) = std::env::var_os("WMIC_DATA").map(|dir| Path::new(&dir).join("vggish_pca_params.npz")) else {
        eprintln!("skipped: WMIC_DATA is not set");
        return;
    };
    if !path.is_file() {
        eprintln!("skipped: {} does not exist", path.display());
        return;
    }
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pca.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let want = file.tensor("bytes").unwrap();
    assert_eq!(want.shape(), [1000, EMBEDDING]);
    let pca = PostProcess::read(&path).unwrap();
    for (v, want) in want.data().chunks(EMBEDDING).enumerate() {
        let x: Vec<f32> = (0..EMBEDDING).map(|i| (0.5 * frac((v * EMBEDDING + i) as u32, 2300)) as f32).collect();
        assert_eq!(pca.quantise(&x), want, "vector {v}");
    }
}
