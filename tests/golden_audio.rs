//! The spectrogram, mel and log-mel references against librosa, and VGGish's front end (reference and kernels) against numpy.

mod common;

use common::Golden;
use wmic::Array;
use wmic::audio::logmel::{self, SCALE, STFT};
use wmic::audio::mel::{MelBank, MelConfig};
use wmic::gpu::Gpu;
use wmic::graph::{Draft, Graph, Mode, Op, Spec, Tensor};
use wmic::ops::mel::{Mel, Scale};
use wmic::ops::stft::{Framing, Hann, Spectrum, Stft};

/// Of values on a logarithmic scale (dB or nepers): the golden values are f32, and so are our filter weights.
const TOLERANCE: f64 = 1e-4;

#[track_caller]
fn assert_close(name: &str, got: &[f64], want: &Array<f64>) {
    assert_eq!(got.len(), want.data().len(), "{name}");
    let far = |(a, b): (&f64, &f64)| (a - b).abs();
    let worst = got.iter().zip(want.data()).map(far).fold(0.0, |worst: f64, e| if e > worst { e } else { worst });
    assert!(got.iter().all(|v| v.is_finite()) && worst <= TOLERANCE, "{name} is off by {worst}");
}

fn reference(x: &Array<f64>, stft: Stft, config: &MelConfig, scale: Scale) -> Array<f64> {
    let bank = MelBank::new(config).unwrap();
    let table = |values: Vec<f64>, dims: &[usize]| Array::new(wmic::Shape::new(dims), values);
    let bands = table(bank.bands().as_flattened().iter().map(|v| f64::from(*v)).collect(), &[bank.bands().len(), 3]);
    let weights = table(bank.weights().iter().map(|v| f64::from(*v)).collect(), &[bank.weights().len()]);
    let spectrogram = stft.reference(std::slice::from_ref(x)).remove(0);
    Mel { scale }.reference(&[spectrogram, bands, weights]).remove(0)
}

#[test]
fn mel_spectrograms_are_librosas() {
    let golden = Golden::open("audio.safetensors");
    let stft = |n_fft, hop_length, win_length, framing, spectrum| Stft {
        n_fft,
        hop_length,
        win_length,
        window: Hann::Periodic,
        framing,
        spectrum,
        max_frames: None,
    };
    use Framing::{CentredReflect, Frame};
    use Spectrum::{Magnitude, Power};
    let sets = [
        ("slaney", stft(2048, 512, 2048, CentredReflect, Power), MelConfig::slaney(22_050, 2048)),
        (
            "htk",
            stft(1024, 256, 800, Frame, Magnitude),
            MelConfig { n_mels: 40, fmin: 50.0, fmax: 7000.0, ..MelConfig::htk(16_000, 1024) },
        ),
        (
            "slaney_narrow",
            stft(4096, 1024, 3000, CentredReflect, Magnitude),
            MelConfig { n_mels: 60, fmin: 80.0, fmax: 16_000.0, normalised: false, ..MelConfig::slaney(44_100, 4096) },
        ),
        (
            "htk_normalised",
            stft(256, 64, 256, CentredReflect, Power),
            MelConfig { n_mels: 24, normalised: true, ..MelConfig::htk(8000, 256) },
        ),
    ];
    for (name, stft, config) in sets {
        let tensor = |what: &str| golden.tensor(&format!("{name}.{what}"));
        let x = tensor("x");
        let mel = reference(&x, stft, &config, Scale::Linear);
        assert_eq!(mel.dims(), tensor("mel").dims(), "{name}");
        let log = |a: &Array<f64>| a.map(|v| (v + 1e-10).ln());
        assert_close(&format!("{name}, ln"), log(&mel).data(), &log(&tensor("mel")));
        let db = reference(&x, stft, &config, Scale::Decibels { reference: 1.0, amin: 1e-10 });
        assert_close(&format!("{name}, dB"), db.data(), &tensor("db"));
    }
}

#[test]
fn vggishs_log_mel_is_numpys() {
    let golden = Golden::open("audio.safetensors");
    let (x, want) = (golden.tensor("vggish.x"), golden.tensor("vggish.log_mel"));
    let got = reference(&x, STFT, &MelConfig::vggish(), SCALE);
    assert_eq!(got.dims(), want.dims());
    assert_close("reference", got.data(), &want);
}

fn on_gpu(x: &Array<f64>, build: impl FnOnce(&mut Graph, Tensor) -> Tensor) -> (Vec<usize>, Vec<f64>) {
    let gpu = Gpu::open(None).expect("an adapter (software Vulkan will do)");
    let mut graph = Graph::new(Mode::Eval);
    let samples = graph.input("samples", Spec::f32(x.shape().clone()));
    let y = build(&mut graph, samples);
    let draft = Draft::new(&graph, gpu.adapter().target(), 1, &[y], &[]).unwrap();
    let samples: Vec<f32> = x.data().iter().map(|v| *v as f32).collect();
    let plan = draft.realise(&gpu, &[("samples", gpu.upload("samples", &samples).unwrap())]).unwrap();
    gpu.run(|s| s.replay(&[&plan.recording], 1)).unwrap();
    let values = plan.read::<f32>(&gpu, y).unwrap().iter().map(|v| f64::from(*v)).collect();
    (graph.shape(y).dims().to_vec(), values)
}

#[test]
fn kernels_give_vggishs_log_mel_whole_and_in_patches() {
    let golden = Golden::open("audio.safetensors");
    let (x, want) = (golden.tensor("vggish.x"), golden.tensor("vggish.log_mel"));
    let (dims, got) = on_gpu(&x, |g, samples| logmel::log_mel(g, samples).unwrap());
    assert_eq!(dims, [1, 98, 64]);
    assert_close("kernels", &got, &want);

    // Two clips of one patch each, of which the second is the first one's sound turned upside down.
    let both: Vec<f64> = x.data().iter().copied().chain(x.data().iter().map(|v| -v)).collect();
    let both = Array::new([2, 16_000], both);
    let (dims, got) = on_gpu(&both, |g, samples| logmel::log_mel_patches(g, samples).unwrap());
    assert_eq!(dims, [2, 1, 96, 64]);
    let patch = Array::new([96, 64], want.data()[..96 * 64].to_vec());
    assert_close("first clip", &got[..96 * 64], &patch);
    assert_close("second clip", &got[96 * 64..], &patch);
}

#[test]
fn clips_too_short_are_refused_while_building() {
    let mut g = Graph::new(Mode::Eval);
    let short = g.input("a", Spec::f32([1, 399]));
    let window = g.input("b", Spec::f32([1, 15_599]));
    assert!(logmel::log_mel(&mut g, short).is_err() && logmel::log_mel_patches(&mut g, window).is_err());
    let y = logmel::log_mel(&mut g, window).unwrap();
    assert_eq!(g.shape(y).dims(), [1, 95, 64]);
    assert_eq!((logmel::frames(160_000), logmel::patches(160_000), logmel::frames(399)), (998, 10, 0));
}

#[test]
fn mel_banks_out_of_range_are_refused() {
    let base = MelConfig::htk(16_000, 512);
    for bad in [
        MelConfig { fmax: 8001.0, ..base },
        MelConfig { fmin: 300.0, fmax: 300.0, ..base },
        MelConfig { fmin: f64::NAN, ..base },
        MelConfig { n_mels: 0, ..base },
    ] {
        assert!(matches!(MelBank::new(&bad), Err(wmic::Error::Usage(_))), "{bad:?}");
    }
}
