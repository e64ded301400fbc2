//! The spectrogram, mel and log-mel references and the constant-Q kernels against librosa, and VGGish's front end
//! (reference and kernels) against numpy.

use std::f64::consts::{FRAC_PI_2, TAU};

use crate::support::Golden;
use wmic::Array;
use wmic::gpu::Gpu;
use wmic::graph::{Draft, Graph, Mode, Op, Spec, Tensor};
use wmic::nn::front_ends::cqt::cqt;
use wmic::nn::front_ends::log_mel::{self, SCALE, STFT, VGGISH};
use wmic::nn::front_ends::spectrum;
use wmic::ops::filters::mel::{MelBank, MelConfig};
use wmic::ops::filters::wavelet::Cqt;
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
    Mel { scale, patches: None }.reference(&[spectrogram, bands, weights]).remove(0)
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
    let (dims, got) = on_gpu(&x, |g, samples| log_mel::log_mel(g, samples).unwrap());
    assert_eq!(dims, [1, 98, 64]);
    assert_close("kernels", &got, &want);

    // Two clips of one patch each, of which the second is the first one negated.
    let both: Vec<f64> = x.data().iter().copied().chain(x.data().iter().map(|v| -v)).collect();
    let both = Array::new([2, 16_000], both);
    let (dims, got) = on_gpu(&both, |g, samples| log_mel::log_mel_patches(g, samples, VGGISH, true).unwrap().0);
    assert_eq!(dims, [2, 1, 96, 64]);
    let patch = Array::new([96, 64], want.data()[..96 * 64].to_vec());
    assert_close("first clip", &got[..96 * 64], &patch);
    assert_close("second clip", &got[96 * 64..], &patch);
    let (dims, got) =
        on_gpu(&both, |g, samples| log_mel::log_mel_patches(g, samples, VGGISH, true).unwrap().1.unwrap());
    assert_eq!(dims, [2, 98, 64]);
    assert_close("beside patches", &got[98 * 64..], &want);
}

#[test]
fn clips_too_short_are_rejected_while_building() {
    let mut g = Graph::new(Mode::Eval);
    let short = g.input("a", Spec::f32([1, 399]));
    let window = g.input("b", Spec::f32([1, 15_599]));
    assert!(
        log_mel::log_mel(&mut g, short).is_err() && log_mel::log_mel_patches(&mut g, window, VGGISH, false).is_err()
    );
    let y = log_mel::log_mel(&mut g, window).unwrap();
    assert_eq!(g.shape(y).dims(), [1, 95, 64]);
    assert_eq!((log_mel::frames(160_000), VGGISH.patches(160_000), log_mel::frames(399)), (998, 10, 0));
}

#[test]
fn mel_banks_out_of_range_are_rejected() {
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

/// A second of sines of amplitude 0.2 with phases 0, 1, 2, ..., 50 ms to fade in and out.
fn sines(sr: u32, hz: &[f64]) -> Vec<f64> {
    let sample = |t: f64| {
        let fade = (FRAC_PI_2 * (t.min(1.0 - t) / 0.05).min(1.0)).sin().powi(2);
        fade * hz.iter().zip(0..).map(|(hz, i)| 0.2 * (TAU * hz * t + f64::from(i)).sin()).sum::<f64>()
    };
    (0..sr).map(|i| sample(f64::from(i) / f64::from(sr))).collect()
}

/// A second from 40 to 4000 Hz, exponentially.
fn sweep(sr: u32) -> Vec<f64> {
    let phase = |t: f64| TAU * 40.0 * (100f64.powf(t) - 1.0) / 100f64.ln();
    (0..sr).map(|i| 0.5 * phase(f64::from(i) / f64::from(sr)).sin()).collect()
}

const TONES: [f64; 5] = [55.0, 123.4, 440.0, 1000.3, 2793.8];
/// Every so many of AACNN21's frames are in the golden files.
const STFT_STEP: usize = 12;
const CQT_STEP: usize = 6;

#[test]
fn aacnns_stft_is_librosas() {
    let want = Golden::open("spectra.safetensors").tensor("stft");
    let sound: Vec<f64> = sweep(spectrum::SR).iter().zip(sines(spectrum::SR, &TONES)).map(|(a, b)| a + b).collect();
    let (dims, got) = on_gpu(&Array::new([1, sound.len()], sound), |g, samples| {
        wmic::ops::stft::stft(g, samples, spectrum::STFT).unwrap()
    });
    assert_eq!(dims, [1, 87, 1025]);
    let largest = want.data().iter().copied().fold(0.0, f64::max);
    let rows = got.chunks(1025).step_by(STFT_STEP).zip(want.data().chunks(1025));
    let worst = rows.flat_map(|(a, b)| a.iter().zip(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest;
    println!("stft: off by at most {worst:.1e} of the largest magnitude");
    assert!(worst <= 1e-4, "{worst}");
}

/// Median relative error over the values of `want` within `decibels` of its largest, and the correlation of all values.
fn agreement(got: &[f64], want: &[f64], decibels: f64) -> (f64, f64) {
    let least = want.iter().copied().fold(0.0, f64::max) * 10f64.powf(-decibels / 20.0);
    let loud = got.iter().zip(want).filter(|(_, want)| **want > least);
    let mut errors: Vec<f64> = loud.map(|(got, want)| (got - want).abs() / want).collect();
    errors.sort_by(f64::total_cmp);
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (a, b) = (mean(got), mean(want));
    let sum = |f: &dyn Fn(f64, f64) -> f64| got.iter().zip(want).map(|(x, y)| f(x - a, y - b)).sum::<f64>();
    let correlation = sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
    (errors[errors.len() / 2], correlation)
}

/// Compares with librosa's default result, and more strictly with that of its complete filters: the default
/// drops values that matter far below the largest magnitude.
#[track_caller]
fn assert_librosas_cqt(golden: &Golden, name: &str, samples: Vec<f64>, config: &Cqt) {
    let (dims, got) = on_gpu(&Array::new([1, samples.len()], samples.clone()), |g, x| cqt(g, x, config).unwrap());
    assert_eq!(dims, [1, config.frames(samples.len()), config.n_bins], "{name}");
    let got: Vec<f64> = got.chunks(config.n_bins).step_by(CQT_STEP).flatten().copied().collect();
    for (kind, decibels, most, least) in [("default", 40.0, 0.01, 0.999), ("whole", 60.0, 5e-4, 0.999_99)] {
        let want = golden.tensor(&format!("{name}.{kind}"));
        assert_eq!(got.len(), want.data().len(), "{name}");
        let (median, correlation) = agreement(&got, want.data(), decibels);
        let (below, _) = agreement(&got, want.data(), 60.0);
        println!(
            "{name}, {kind}: median error {median:.1e} (within 60 dB {below:.1e}), 1 - correlation {:.1e}",
            1.0 - correlation
        );
        assert!(median <= most, "{name}, {kind}: {median}");
        assert!(correlation >= least, "{name}, {kind}: {correlation}");
    }
}

/// 24 bins per octave, and a hop that allows no halved rate.
const NARROW: Cqt = Cqt { sr: 22_050, hop_length: 441, fmin: 55.0, bins_per_octave: 24, n_bins: 60 };

#[test]
fn constant_q_magnitudes_are_librosas() {
    let golden = Golden::open("spectra.safetensors");
    assert_librosas_cqt(&golden, "sines", sines(spectrum::SR, &TONES), &spectrum::CQT);
    assert_librosas_cqt(&golden, "sweep", sweep(spectrum::SR), &spectrum::CQT);
    assert_librosas_cqt(&golden, "narrow", sines(NARROW.sr, &[60.0, 123.4, 250.0]), &NARROW);
}

#[test]
fn constant_q_magnitudes_of_notes_are_librosas() {
    let orchestra = std::env::var_os("WMIC_DATA").map(|data| std::path::Path::new(&data).join("orchestra"));
    let Some(orchestra) = orchestra.filter(|folder| folder.is_dir()) else {
        return println!("skipped: WMIC_DATA does not name a folder with orchestra");
    };
    let golden = Golden::open("notes.safetensors");
    let names = [
        "banjo/banjo_A3_very-long_forte_normal.mp3",
        "bass-clarinet/bass-clarinet_A2_15_fortissimo_normal.mp3",
        "flute/flute_A4_15_forte_normal.mp3",
    ];
    for (i, name) in names.iter().enumerate() {
        let clip = wmic::audio::decode(orchestra.join(name), 60.0).unwrap();
        assert_eq!(clip.sr, spectrum::SR, "{name}");
        let samples: Vec<f64> = clip.samples[..44_100].iter().map(|v| f64::from(*v)).collect();
        let want = golden.tensor(&format!("{i}.samples"));
        let apart = samples.iter().step_by(441).zip(want.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{name}: samples of the two decoders differ by up to {apart:.1e}");
        assert!(apart <= 1e-4, "{name}: decoded samples are {apart} apart");
        assert_librosas_cqt(&golden, &i.to_string(), samples, &spectrum::CQT);
    }
}

#[test]
fn the_gain_at_a_bins_frequency_is_that_of_its_filter() {
    // Any octaves: a sine of amplitude a gives a sqrt(L) / 2 at its own bin, at whatever rate that bin is computed.
    for (sr, hop_length, bins_per_octave, n_bins) in [(16_000, 96, 5, 23), (8000, 125, 7, 30), (44_100, 1024, 12, 1)] {
        let config = Cqt { sr, hop_length, fmin: 110.0, bins_per_octave, n_bins };
        let hz = config.bin_hz();
        let samples = |hz: f64| (0..2 * sr).map(move |i| 0.5 * (TAU * hz * f64::from(i) / f64::from(sr)).sin());
        let all: Vec<f64> = hz.iter().flat_map(|hz| samples(*hz)).collect();
        let (dims, got) = on_gpu(&Array::new([n_bins, 2 * sr as usize], all), |g, x| cqt(g, x, &config).unwrap());
        assert_eq!(dims, [n_bins, 1 + 2 * sr as usize / hop_length, n_bins]);
        let square = 2f64.powf(2.0 / bins_per_octave as f64);
        for (k, hz) in hz.iter().enumerate() {
            let length = f64::from(sr) / hz * (square + 1.0) / (square - 1.0);
            let value = got[(k * dims[1] + dims[1] / 2) * n_bins + k];
            let want = 0.25 * length.sqrt();
            // Observed 1e-4 at most.
            assert!((value - want).abs() <= 2e-4 * want, "{config:?}, bin {k}: {value}, not {want}");
        }
    }
}

#[test]
fn halving_has_its_documented_pass_and_stop_bands() {
    // The responses to an impulse on an even and on an odd sample are the even and the odd points of the filter.
    const MIDDLE: usize = 64;
    let mut impulses = vec![0.0; 4 * MIDDLE];
    (impulses[MIDDLE], impulses[2 * MIDDLE + MIDDLE + 1]) = (1.0, 1.0);
    let (dims, got) = on_gpu(&Array::new([2, 2 * MIDDLE], impulses), |g, x| wmic::ops::halve::halve(g, x).unwrap());
    assert_eq!(dims, [2, MIDDLE]);
    let points: Vec<(f64, f64)> =
        (0..MIDDLE).flat_map(|n| [(got[n], 2.0 * n as f64 - 64.0), (got[MIDDLE + n], 2.0 * n as f64 - 65.0)]).collect();
    // At a frequency relative to the new Nyquist frequency.
    let response = |share: f64| points.iter().map(|(v, d)| v * (FRAC_PI_2 * share * d).cos()).sum::<f64>();
    let worst = |low: f64, high: f64, want: f64| {
        (0..=1000).map(|i| (response(low + (high - low) * f64::from(i) / 1000.0) - want).abs()).fold(0.0, f64::max)
    };
    assert!((response(0.0) - 1.0).abs() < 1e-6, "{}", response(0.0));
    let (passed, stopped) = (worst(0.0, 0.8, 1.0), 20.0 * worst(1.2, 2.0, 0.0).log10());
    println!("halve: pass band within {passed:.1e} of 1, stop band at {stopped:.1} dB");
    assert!(passed <= 2e-5 && stopped <= -94.0, "{passed}, {stopped} dB");
}

#[test]
fn constant_q_transforms_out_of_range_are_rejected() {
    let base = spectrum::CQT;
    let rejected = |config: Cqt| {
        let mut g = Graph::new(Mode::Eval);
        let samples = g.input("samples", Spec::f32([1, 44_100]));
        matches!(cqt(&mut g, samples, &config), Err(wmic::Error::Usage(_)))
    };
    assert!(!rejected(base) && !rejected(Cqt { n_bins: 338, ..base }));
    for bad in [
        Cqt { n_bins: 339, ..base },
        Cqt { n_bins: 0, ..base },
        Cqt { n_bins: usize::MAX, ..base },
        Cqt { hop_length: 0, ..base },
        Cqt { bins_per_octave: 0, ..base },
        Cqt { fmin: 0.0, ..base },
        Cqt { fmin: f64::NAN, ..base },
        Cqt { fmin: f64::INFINITY, ..base },
        // Filters of minutes.
        Cqt { fmin: 1e-3, ..base },
        Cqt { fmin: 0.5, hop_length: 511, ..base },
        Cqt { sr: 0, ..base },
    ] {
        assert!(rejected(bad), "{bad:?}");
    }
    let mut g = Graph::new(Mode::Eval);
    let samples = g.input("samples", Spec::f32([1, 0]));
    assert!(cqt(&mut g, samples, &base).is_err());
}
