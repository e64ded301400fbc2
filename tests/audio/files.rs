//! Reading and writing audio files: real recordings against libsndfile's samples, round trips, invalid files.

use std::fs;
use std::path::{Path, PathBuf};

use wmic::Error;
use wmic::audio::{Clip, Depth, PASS_BAND, Resampler, decode, open, resample, write_wav};

const MINUTE: f64 = 60.0;

/// Real recordings, if available.
fn data(what: &str) -> Option<PathBuf> {
    let found = std::env::var_os("WMIC_DATA").map(|dir| Path::new(&dir).join(what)).filter(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: WMIC_DATA holds no {what}");
    }
    found
}

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// The reason that `Error::Data` gives, which names the file and is one line.
#[track_caller]
fn reason(result: Result<Clip, Error>) -> String {
    match result.map(|clip| clip.samples.len()) {
        Err(Error::Data { reason, .. }) => {
            assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
            reason
        }
        other => panic!("{other:?} is not a data error"),
    }
}

/// A tone of 440 Hz and some of its overtones.
fn tone(sr: u32, len: usize) -> Vec<f32> {
    let partial = |i: usize, h: f64| (std::f64::consts::TAU * 440.0 * h * i as f64 / f64::from(sr)).sin() / h;
    (0..len).map(|i| (0.4 * (partial(i, 1.0) + partial(i, 2.0) + partial(i, 5.0))) as f32).collect()
}

fn wav(channels: u16, sr: u32, bits: u16, float: bool, frames: &[f32]) -> Vec<u8> {
    let sample_format = if float { hound::SampleFormat::Float } else { hound::SampleFormat::Int };
    let spec = hound::WavSpec { channels, sample_rate: sr, bits_per_sample: bits, sample_format };
    let mut bytes = std::io::Cursor::new(vec![]);
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    let full = (1i64 << (bits - 1)) as f64;
    for &v in frames {
        match float {
            true => writer.write_sample(v).unwrap(),
            false => writer.write_sample((f64::from(v) * full).round().clamp(-full, full - 1.0) as i32).unwrap(),
        }
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

#[test]
fn every_wav_depth_comes_back() {
    let samples = tone(22_050, 5000);
    let dir = tempfile::tempdir().unwrap();
    for (depth, step) in [
        (Depth::Int8, 1.0 / 128.0),
        (Depth::Int16, 1.0 / 32_768.0),
        (Depth::Int24, 1.0 / 8_388_608.0),
        (Depth::Int32, 1e-7),
        (Depth::Float32, 0.0),
    ] {
        let path = dir.path().join(format!("{depth:?}.wav"));
        write_wav(&path, 22_050, &samples, depth).unwrap();
        let clip = decode(&path, MINUTE).unwrap();
        assert_eq!((clip.sr, clip.samples.len()), (22_050, samples.len()), "{depth:?}");
        let worst = clip.samples.iter().zip(&samples).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(f64::from(worst) <= step * 0.5001 + 1e-7 * f64::from(u8::from(step > 0.0)), "{depth:?}: {worst}");
    }
}

#[test]
fn integers_clip_and_do_not_wrap() {
    let (_dir, path) = file("loud.wav", b"");
    write_wav(&path, 8000, &[1.5, -1.5, 0.0], Depth::Int16).unwrap();
    assert_eq!(decode(&path, MINUTE).unwrap().samples, [32_767.0 / 32_768.0, -1.0, 0.0]);
}

#[test]
fn channels_are_averaged() {
    let frames: Vec<f32> = (0..2000).flat_map(|i| [0.5, -0.25, i as f32 / 4000.0]).collect();
    let (_dir, path) = file("three.wav", &wav(3, 44_100, 32, true, &frames));
    let clip = decode(&path, MINUTE).unwrap();
    assert_eq!(clip.samples.len(), 2000);
    for (i, v) in clip.samples.iter().enumerate() {
        assert!((v - (0.25 + i as f32 / 4000.0) / 3.0).abs() < 1e-7);
    }
}

#[test]
fn blocks_are_bounded_and_make_up_the_whole() {
    let samples = tone(16_000, 200_000);
    let (_dir, path) = file("long.wav", &wav(1, 16_000, 32, true, &samples));
    let mut decoder = open(&path).unwrap();
    assert_eq!(decoder.sr(), 16_000);
    let mut all = vec![];
    while let Some(block) = decoder.next_block().unwrap() {
        assert!((1..=65_536).contains(&block.len()));
        all.extend_from_slice(block);
    }
    assert_eq!(all, samples);
    assert!(reason(decode(&path, 10.0)).contains("longer than the 10 s"));
}

#[test]
fn short_silent_and_constant_files_are_what_they_are() {
    for (name, samples) in [("short", tone(16_000, 160)), ("silence", vec![0.0; 3000]), ("dc", vec![0.75; 3000])] {
        let (_dir, path) = file(&format!("{name}.wav"), &wav(1, 16_000, 32, true, &samples));
        let mut clip = decode(&path, MINUTE).unwrap();
        assert_eq!(clip.samples, samples, "{name}");
        clip.normalise_peak();
        assert!(clip.samples.iter().all(|v| v.is_finite() && v.abs() <= 1.0), "{name}");
    }
}

#[test]
fn a_wrong_extension_does_not_matter() {
    let samples = tone(16_000, 4000);
    for name in ["tone.mp3", "tone.flac", "tone", "tone.txt"] {
        let (_dir, path) = file(name, &wav(1, 16_000, 32, true, &samples));
        assert_eq!(decode(&path, MINUTE).unwrap().samples, samples, "{name}");
    }
}

#[test]
fn files_without_audio_give_one_clear_line() {
    let text = "Dear archivist, this is not a recording.\n".repeat(500);
    let mut random = wmic::core::random::Stream::new(3, 0);
    let noise: Vec<u8> = (0..20_000).map(|_| (random.uniform(128.0) + 128.0) as u8).collect();
    for (name, bytes, why) in [
        ("empty.wav", &b""[..], "is empty"),
        ("letter.mp3", text.as_bytes(), "not an audio file"),
        ("noise.bin", &noise, ""),
        ("noise.mp3", &noise, ""),
        ("header.wav", &b"RIFF\x24\0\0\0WAVE"[..], ""),
    ] {
        let (_dir, path) = file(name, bytes);
        let reason = reason(decode(&path, MINUTE));
        assert!(reason.contains(why), "{name}: {reason}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(reason(decode(dir.path(), MINUTE)).contains("is a folder; a file is expected"));
    assert!(matches!(open(dir.path().join("nowhere.wav")), Err(Error::Io { .. })));
}

#[test]
fn impossible_headers_are_rejected() {
    for (sr, fine) in [(1, false), (0, false), (999, false), (1000, true), (768_000, true), (u32::MAX, false)] {
        let mut bytes = wav(1, 16_000, 16, false, &tone(16_000, 2000));
        bytes[24..28].copy_from_slice(&sr.to_le_bytes());
        let (_dir, path) = file("rate.wav", &bytes);
        match fine {
            true => assert_eq!(decode(&path, MINUTE).unwrap().sr, sr),
            false => drop(reason(decode(&path, MINUTE))),
        }
    }
    for channels in [0u16, 65, 1000, u16::MAX] {
        let mut bytes = wav(1, 16_000, 16, false, &tone(16_000, 2000));
        bytes[22..24].copy_from_slice(&channels.to_le_bytes());
        bytes[32..34].copy_from_slice(&(channels.wrapping_mul(2)).to_le_bytes());
        let (_dir, path) = file("channels.wav", &bytes);
        reason(decode(&path, MINUTE));
    }
}

#[test]
fn in_band_sines_survive_resampling() {
    for (from, to) in [(44_100, 16_000), (48_000, 16_000), (16_000, 22_050), (22_050, 44_100), (44_101, 16_000)] {
        let nyquist = f64::from(from.min(to)) / 2.0;
        for share in [0.01, 0.3, 0.7, 0.9, PASS_BAND] {
            let hz = share * nyquist;
            let sine = |sr: u32, len: usize| -> Vec<f64> {
                (0..len).map(|i| (std::f64::consts::TAU * hz * i as f64 / f64::from(sr)).sin()).collect()
            };
            let input: Vec<f32> = sine(from, from as usize).iter().map(|v| *v as f32).collect();
            let got = resample(&input, from, to).unwrap();
            assert_eq!(got.len(), to as usize);
            let want = sine(to, got.len());
            // The sine starts and stops abruptly, unlike a band-limited signal.
            let inner = got.len() / 5..got.len() * 4 / 5;
            let error: f64 = inner.clone().map(|i| (f64::from(got[i]) - want[i]).powi(2)).sum::<f64>();
            let decibels = 10.0 * (error / inner.len() as f64 / 0.5).log10();
            assert!(decibels < -80.0, "{from} to {to} Hz, {hz} Hz: {decibels:.1} dB");
        }
    }
}

#[test]
fn out_of_band_sines_vanish() {
    let hz = 8400.0;
    let input: Vec<f32> =
        (0..44_100).map(|i| (std::f64::consts::TAU * hz * f64::from(i) / 44_100.0).sin() as f32).collect();
    let got = resample(&input, 44_100, 16_000).unwrap();
    let inner = &got[3200..12_800];
    let power: f64 = inner.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / inner.len() as f64;
    assert!(10.0 * (power / 0.5).log10() < -80.0, "{power}");
}

#[test]
fn a_stream_is_resampled_as_the_whole() {
    let samples = tone(44_100, 30_001);
    let whole = resample(&samples, 44_100, 16_000).unwrap();
    assert_eq!(whole.len(), (30_001u64 * 16_000).div_ceil(44_100) as usize);
    let (mut parts, mut resampler) = (vec![], Resampler::new(44_100, 16_000).unwrap());
    for block in samples.chunks(777) {
        resampler.push(block, &mut parts);
    }
    resampler.finish(&mut parts);
    assert_eq!(parts, whole);
    assert_eq!(resample(&samples, 44_100, 44_100).unwrap(), samples);
    assert!(resample(&[], 8000, 16_000).unwrap().is_empty());
    assert_eq!(resample(&[1.0], 1, 16_000).unwrap().len(), 16_000);
    assert!(matches!(Resampler::new(0, 16_000), Err(Error::Usage(_))));
}

#[test]
fn a_real_clip_has_libsndfiles_samples() {
    let Some(path) = data("openmic-one/audio/000/000046_3840.ogg") else { return };
    let golden: serde_json::Value = serde_json::from_str(include_str!("../golden/clip.json")).unwrap();
    let clip = decode(&path, MINUTE).unwrap();
    assert_eq!(u64::from(clip.sr), golden["sr"].as_u64().unwrap());
    assert_eq!(clip.samples.len() as u64, golden["len"].as_u64().unwrap());
    let step = golden["step"].as_u64().unwrap() as usize;
    let samples = golden["samples"].as_array().unwrap();
    assert_eq!(samples.len(), clip.samples.len().div_ceil(step));
    for (i, want) in samples.iter().enumerate() {
        let (got, want) = (f64::from(clip.samples[i * step]), want.as_f64().unwrap());
        assert!((got - want).abs() <= 3e-4, "sample {} is {got}, libsndfile has {want}", i * step);
    }
    let power: f64 = clip.samples.iter().map(|v| f64::from(*v).powi(2)).sum();
    let want = golden["power"].as_f64().unwrap();
    assert!((power - want).abs() <= 1e-3 * want, "power {power}, libsndfile has {want}");
    let at_16k = resample(&clip.samples, clip.sr, 16_000).unwrap();
    assert_eq!((at_16k.len(), wmic::nn::front_ends::log_mel::frames(at_16k.len())), (160_000, 998));
    assert_eq!(wmic::nn::front_ends::log_mel::VGGISH.patches(at_16k.len()), 10);
}

#[test]
fn every_orchestra_sample_decodes() {
    let Some(dir) = data("orchestra") else { return };
    let (mut decoded, mut seconds) = (0, 0.0);
    for class in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
        for path in fs::read_dir(class).unwrap().map(|e| e.unwrap().path()) {
            let clip = decode(&path, 2.0 * MINUTE).unwrap_or_else(|e| panic!("{e}"));
            assert!(clip.duration() > 0.1 && clip.samples.iter().any(|v| *v != 0.0), "{}", path.display());
            decoded += 1;
            seconds += clip.duration().floor();
        }
    }
    // None has a tag with its length, which is that of the frames.
    assert_eq!((decoded, seconds), (675, 1900.0));
}
