//! Recordings to excerpts: positions, contents, order and memory independent of the threads; expansion of
//! folders and patterns.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use wmic::Error;
use wmic::audio::{Depth, Excerpt, Item, Windowing, audio_files, decode, ingest, resample, write_wav};
use wmic::nn::FeatureKind;
use wmic::nn::front_ends::log_mel;

fn windowing(window: f64, hop: impl Into<Option<f64>>) -> Windowing {
    Windowing { window, hop: hop.into(), format: FeatureKind::Vggish.format(), align_last: false }
}

/// Noise, so that no two parts are equal.
fn noise(len: usize) -> Vec<f32> {
    let mut random = wmic::core::random::Stream::new(5, 0);
    (0..len).map(|_| random.uniform(0.5) as f32).collect()
}

fn wav(dir: &Path, name: &str, sr: u32, samples: &[f32]) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_wav(&path, sr, samples, Depth::Float32).unwrap();
    path
}

/// Excerpts and duration of one file.
fn whole(path: &Path, windowing: Windowing) -> (Vec<Excerpt>, f64) {
    let (mut excerpts, mut end) = (vec![], None);
    for (index, item) in ingest(vec![path.into()], windowing).unwrap() {
        assert_eq!(index, 0);
        assert!(end.is_none(), "something follows the end");
        match item {
            Item::Excerpt(excerpt) => excerpts.push(excerpt),
            Item::End { duration, condition } if condition.is_whole() => end = Some(duration),
            other => panic!("{other:?}"),
        }
    }
    (excerpts, end.expect("an end"))
}

fn starts(path: &Path, windowing: Windowing) -> Vec<f64> {
    whole(path, windowing).0.iter().map(|e| e.start).collect()
}

/// Peak memory of this process, in MB.
#[cfg(target_os = "linux")]
fn peak_megabytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1e3
}

#[test]
fn an_excerpt_is_what_the_same_seconds_as_a_file_give() {
    let dir = tempfile::tempdir().unwrap();
    let samples = noise(44_100 * 25);
    let (excerpts, duration) = whole(&wav(dir.path(), "long.wav", 44_100, &samples), windowing(10.0, 5.0));
    assert_eq!(duration, 25.0);
    assert_eq!(excerpts.iter().map(|e| e.start).collect::<Vec<_>>(), [0.0, 5.0, 10.0, 15.0, 20.0]);
    for excerpt in excerpts {
        let from = (excerpt.start * 44_100.0) as usize;
        let part = wav(dir.path(), "part.wav", 44_100, &samples[from..samples.len().min(from + 441_000)]);
        let mut clip = decode(part, 60.0).unwrap();
        clip.normalise_peak();
        assert!(excerpt.samples == resample(&clip.samples, 44_100, log_mel::SR).unwrap(), "at {} s", excerpt.start);
    }
}

#[test]
fn every_second_is_covered_without_redundant_excerpts() {
    let dir = tempfile::tempdir().unwrap();
    let seconds = |s: f64| wav(dir.path(), "a.wav", 8000, &noise((s * 8000.0) as usize));
    assert_eq!(starts(&seconds(3.0), windowing(10.0, 5.0)), [0.0], "shorter than a window");
    assert_eq!(starts(&seconds(2.0), windowing(10.0, 5.0)), [0.0], "even than half a hop");
    assert_eq!(starts(&seconds(10.0), windowing(10.0, 5.0)), [0.0, 5.0]);
    assert_eq!(starts(&seconds(12.0), windowing(10.0, 5.0)), [0.0, 5.0], "2 s that are covered already");
    assert_eq!(starts(&seconds(12.5), windowing(10.0, 5.0)), [0.0, 5.0, 10.0], "half a hop");
    assert_eq!(starts(&seconds(10.0), windowing(10.0, 10.0)), [0.0]);
    assert_eq!(
        starts(&seconds(10.25), windowing(10.0, 10.0)),
        [0.0, 10.0],
        "a quarter of a second that is not covered"
    );
    let (excerpts, duration) = whole(&seconds(25.0), windowing(10.0, None));
    assert_eq!((excerpts.len(), excerpts[0].samples.len(), duration), (1, 160_000, 10.0), "the first only");
    let (excerpts, duration) = whole(&seconds(4.0), windowing(10.0, None));
    assert_eq!((excerpts.len(), excerpts[0].samples.len(), duration), (1, 64_000, 4.0));
    let (silent, _) = whole(&wav(dir.path(), "b.wav", 8000, &[0.0; 4000]), windowing(10.0, 5.0));
    assert_eq!(silent, [Excerpt { start: 0.0, samples: vec![0.0; 8000], scale: 1.0 }]);
}

#[test]
fn starts_do_not_drift() {
    // A pulse every 0.7 s of ten minutes; each excerpt begins with one.
    let dir = tempfile::tempdir().unwrap();
    let mut samples = vec![0.0; 44_100 * 600];
    let pulse = |k: usize| (k as f64 * 0.7 * 44_100.0).round() as usize;
    (0..858).map(pulse).for_each(|at| samples[at] = 1.0);
    let (excerpts, _) = whole(&wav(dir.path(), "a.wav", 44_100, &samples), windowing(0.7, 0.7));
    assert_eq!(excerpts.len(), 858);
    for (k, excerpt) in excerpts.iter().enumerate() {
        assert!((excerpt.start - k as f64 * 0.7).abs() < 1e-9);
        assert!(excerpt.samples.len() <= 11_200);
        let loudest = (0..excerpt.samples.len()).max_by(|&a, &b| excerpt.samples[a].total_cmp(&excerpt.samples[b]));
        assert_eq!(loudest, Some(0), "excerpt {k}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// At 16 kHz nothing is resampled, so the excerpts can be compared with the recording.
    #[test]
    fn excerpts_cover_the_recording(samples in 1usize..60_000, window in 0.05..2.0f64, share in 0.05..=1.0f64) {
        let dir = tempfile::tempdir().unwrap();
        let (sr, hop) = (16_000.0, (share * window).max(0.01));
        // Constant, so that scaling to a peak of 1 has no effect.
        let path = wav(dir.path(), "a.wav", 16_000, &vec![1.0; samples]);
        let (excerpts, duration) = whole(&path, windowing(window, hop));
        prop_assert_eq!(duration, samples as f64 / sr);
        let mut covered = 0;
        for (k, excerpt) in excerpts.iter().enumerate() {
            let start = (k as f64 * hop * sr).round() as usize;
            prop_assert!(start <= covered + 1, "a gap before excerpt {}", k);
            prop_assert!(excerpt.samples.len() == (samples - start).min((window * sr).round() as usize)
                || start == covered + 1, "excerpt {}", k);
            covered = covered.max(start.min(covered) + excerpt.samples.len());
        }
        // A rest of at most 2 % of a window, as from lossy codecs, is not an excerpt.
        let spare = if samples as f64 > window * sr { (0.02 * (window * sr).round()) as usize } else { 0 };
        prop_assert!(covered <= samples && samples - covered <= spare, "{} of {} samples", covered, samples);
    }
}

#[test]
fn files_are_in_order_and_independent_of_bad_ones() {
    let dir = tempfile::tempdir().unwrap();
    // Long and short in turn, so that the threads finish in another order.
    let mut files: Vec<PathBuf> = (0..40)
        .map(|i| wav(dir.path(), &format!("{i:02}.wav"), 8000, &noise(if i % 2 == 0 { 8000 * 30 } else { 800 + i })))
        .collect();
    let long = fs::read(&files[0]).unwrap();
    fs::write(&files[4], &long[..long.len() * 3 / 4]).unwrap();
    fs::write(&files[7], "Dear archivist").unwrap();
    files[11] = dir.path().join("missing.wav");
    let expected = |i: usize| match i {
        // Truncated: the available part.
        4 => (4, false),
        7 | 11 => (0, true),
        i if i % 2 == 0 => (6, false),
        _ => (1, false),
    };
    let (mut at, mut excerpts) = (0, 0);
    for (index, item) in ingest(files.clone(), windowing(10.0, 5.0)).unwrap() {
        assert_eq!(index, at);
        let failed = match item {
            Item::Excerpt(_) => {
                excerpts += 1;
                continue;
            }
            Item::Failed(error) => {
                let line = error.to_string();
                assert!(line.starts_with(files[index].to_str().unwrap()) && !line.contains('\n'), "{line}");
                true
            }
            Item::End { duration, condition } => {
                assert_eq!(condition.is_whole(), index != 4, "{condition:?}");
                let whole = if index % 2 == 0 { 30.0 } else { (800 + index) as f64 / 8000.0 };
                assert!(if index == 4 { (22.4..22.5).contains(&duration) } else { duration == whole }, "{duration}");
                false
            }
        };
        assert_eq!((excerpts, failed), expected(index), "file {index}");
        (at, excerpts) = (at + 1, 0);
    }
    assert_eq!(at, 40);
    assert_eq!(ingest(vec![], windowing(10.0, None)).unwrap().count(), 0);
}

#[test]
fn windowings_out_of_range_are_rejected() {
    for (window, hop) in [(0.0, None), (-1.0, None), (f64::NAN, None), (1e9, None), (10.0, Some(10.1))] {
        assert!(matches!(ingest(vec![], windowing(window, hop)), Err(Error::Usage(_))), "{window} {hop:?}");
    }
    for hop in [0.0, -1.0, f64::NAN] {
        assert!(matches!(ingest(vec![], windowing(10.0, hop)), Err(Error::Usage(_))), "{hop}");
    }
}

#[test]
fn stopping_early_ends_the_threads() {
    let dir = tempfile::tempdir().unwrap();
    let path = wav(dir.path(), "a.wav", 8000, &noise(8000 * 120));
    let begin = Instant::now();
    for taken in [0, 1, 30] {
        let mut ingest = ingest(vec![path.clone(); 1000], windowing(10.0, 5.0)).unwrap();
        assert_eq!(ingest.by_ref().take(taken).count(), taken);
        drop(ingest); // joins them
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

/// In a process of its own, as the memory of the other tests would count too.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_bounded() {
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    let output =
        alone.args(["--ignored", "--exact", "--nocapture", "ingest::neither_an_hour_nor_many_files_fill_the_memory"]);
    let output = output.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "{}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "run by memory_is_bounded"]
fn neither_an_hour_nor_many_files_fill_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let hour = dir.path().join("hour.wav");
    let spec =
        hound::WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(&hour, spec).unwrap();
    let second: Vec<i16> = noise(8000).iter().map(|v| (v * 32_767.0) as i16).collect();
    (0..3600).for_each(|_| second.iter().for_each(|&v| writer.write_sample(v).unwrap()));
    writer.finalize().unwrap();
    let begin = Instant::now();
    let mut excerpts = 0;
    for (_, item) in ingest(vec![hour.clone()], windowing(10.0, 5.0)).unwrap() {
        match item {
            Item::Excerpt(excerpt) => {
                assert_eq!(excerpt.start, f64::from(excerpts) * 5.0);
                excerpts += 1;
            }
            Item::End { duration, .. } => assert_eq!(duration, 3600.0),
            Item::Failed(error) => panic!("{error}"),
        }
    }
    assert_eq!(excerpts, 720);
    println!("an hour in {:.2?}, {:.0} MB at the peak", begin.elapsed(), peak_megabytes());
    // A thousand first excerpts take 0.6 MB each, if the threads do not wait.
    let clips = ingest(vec![hour; 1000], windowing(10.0, None)).unwrap();
    for (i, (_, item)) in clips.enumerate() {
        assert!(!matches!(item, Item::Failed(_)));
        if i == 0 {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    println!("a thousand clips, {:.0} MB at the peak", peak_megabytes());
    assert!(peak_megabytes() < 60.0, "{} MB; as floats the hour alone takes 115 MB", peak_megabytes());
}

// ---- which files -------------------------------------------------------------------------------

#[test]
fn folders_patterns_and_files_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in
        ["b/2.flac", "b/1.WAV", "b/deep/er/3.mp3", "b/cover.jpg", "b/.hidden.wav", "b/.git/4.wav", "a.ogg", "odd.dat"]
    {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), "").unwrap();
    }
    fs::write(at("take[1].wav"), "").unwrap();
    fs::write(at("take1.wav"), "").unwrap();
    let find = |names: &[&str]| {
        let found = audio_files(&names.iter().map(|n| at(n)).collect::<Vec<_>>());
        let shorten = |p: &PathBuf| p.strip_prefix(dir.path()).unwrap().to_str().unwrap().replace('\\', "/");
        found.map(|found| found.files.iter().map(shorten).collect::<Vec<_>>())
    };
    assert_eq!(find(&["b"]).unwrap(), ["b/1.WAV", "b/2.flac", "b/deep/er/3.mp3"], "sorted, hidden files skipped");
    assert_eq!(
        find(&["odd.dat", "b", "a.ogg", "b/2.flac"]).unwrap(),
        ["odd.dat", "b/1.WAV", "b/2.flac", "b/deep/er/3.mp3", "a.ogg"]
    );
    assert_eq!(find(&["b/*"]).unwrap(), ["b/1.WAV", "b/2.flac"]);
    assert_eq!(find(&["./b//?.fl*"]).unwrap(), ["b/2.flac"]);
    assert_eq!(find(&["**/*.mp3"]).unwrap(), ["b/deep/er/3.mp3"]);
    assert_eq!(find(&["take[1].wav"]).unwrap(), ["take[1].wav"], "the file of that name, not what the pattern matches");
    assert_eq!(find(&["take[12].wav"]).unwrap(), ["take1.wav"]);
    for (name, why) in [
        ("c", "does not exist"),
        ("c/*.wav", "matches no audio file"),
        ("b/*.jpg", "matches no audio file"),
        ("b/.git/5*", "matches no audio file"),
        ("b/[", "is neither a file nor a pattern"),
    ] {
        let line = find(&["b", name]).unwrap_err().to_string();
        assert!(line.starts_with(at(name).to_str().unwrap()) && line.contains(why) && !line.contains('\n'), "{line}");
    }
    fs::create_dir(at("empty")).unwrap();
    assert!(find(&["empty"]).unwrap_err().to_string().contains("contains no audio files (wav, "));
}

#[cfg(unix)]
#[test]
fn links_may_form_cycles() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("a/1.wav"), "").unwrap();
    for name in ["a/up", "a/again"] {
        symlink(dir.path(), dir.path().join(name)).unwrap();
    }
    symlink("nowhere", dir.path().join("a/2.wav")).unwrap();
    for path in [dir.path().to_path_buf(), dir.path().join("**/*.wav"), dir.path().join("a/u?")] {
        match audio_files(std::slice::from_ref(&path)) {
            Ok(found) => assert_eq!(found.files, [dir.path().join("a/1.wav")]),
            Err(error) => assert!(path.ends_with("u?"), "{error}"),
        }
    }
}

/// One locked folder stopped the work on a whole archive.
#[cfg(unix)]
#[test]
fn a_closed_folder_is_one_failure() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(dir.path().join("1.wav"), "").unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&closed).is_ok() {
        println!("skipped: this user may read every folder");
        return;
    }
    let found = audio_files(&[dir.path().into()]).unwrap();
    assert_eq!(found.files, [dir.path().join("1.wav"), closed.clone()]);
    assert!(decode(&closed, 1.0).unwrap_err().to_string().contains("closed: permission denied"));
    assert!(audio_files(&[closed]).is_err());
}

#[test]
fn real_recordings_give_what_decoding_them_whole_gives() {
    let Some(root) = std::env::var_os("WMIC_DATA") else {
        println!("skipped: WMIC_DATA does not name the folder with openmic-gm and orchestra");
        return;
    };
    let files = audio_files(&["openmic-gm", "orchestra"].map(|set| Path::new(&root).join(set))).unwrap().files;
    assert_eq!(files.len(), 300 + 675);
    let begin = Instant::now();
    let mut finished = 0;
    for (index, item) in ingest(files.clone(), windowing(10.0, None)).unwrap() {
        match item {
            Item::Excerpt(excerpt) if index % 50 == 0 => {
                let mut clip = decode(&files[index], 120.0).unwrap();
                clip.samples.truncate(10 * clip.sr as usize);
                clip.normalise_peak();
                assert!(excerpt.samples == resample(&clip.samples, clip.sr, log_mel::SR).unwrap(), "file {index}");
            }
            Item::Excerpt(_) => {}
            Item::End { .. } => finished += 1,
            Item::Failed(error) => panic!("{error}"),
        }
    }
    assert_eq!(finished, files.len());
    println!("{finished} files in {:.2?}", begin.elapsed());
}

#[test]
fn the_end_of_a_recording_is_covered_by_an_excerpt_of_its_last_window() {
    let folder = tempfile::tempdir().unwrap();
    let sr = 44_100;
    let path = folder.path().join("ramp.wav");
    let samples: Vec<f32> = (0..sr * 23 / 10).map(|i| i as f32 / (4 * sr) as f32).collect();
    let starts = |samples: &[f32], hop: f64, align_last: bool| -> Vec<(f64, f32, usize)> {
        wmic::audio::write_wav(&path, sr as u32, samples, wmic::audio::Depth::Float32).unwrap();
        let windowing = Windowing { window: 1.0, hop: Some(hop), format: FeatureKind::Stft.format(), align_last };
        let excerpts = ingest(vec![path.clone()], windowing).unwrap().filter_map(|(_, item)| match item {
            Item::Excerpt(e) => Some((e.start, e.samples[0], e.samples.len())),
            _ => None,
        });
        excerpts.collect()
    };
    // An excerpt of the ramp begins with the value start / 4 s.
    let expected = |starts: &[f64]| starts.iter().map(|&s| (s, (s / 4.0) as f32, sr)).collect::<Vec<_>>();
    let close = |got: Vec<(f64, f32, usize)>, want: &[f64]| {
        assert_eq!(got.len(), want.len(), "{got:?}");
        for (got, want) in got.iter().zip(expected(want)) {
            assert!((got.0 - want.0).abs() < 1e-9 && (got.1 - want.1).abs() < 1e-5 && got.2 == want.2, "{got:?}");
        }
    };
    close(starts(&samples, 1.0, true), &[0.0, 1.0, 1.3]);
    close(starts(&samples, 1.0, false), &[0.0, 1.0]);
    close(starts(&samples, 0.5, true), &[0.0, 0.5, 1.0, 1.3]);
    close(starts(&samples[..2 * sr], 1.0, true), &[0.0, 1.0]);
    close(starts(&samples[..sr - 1], 1.0, true), &[]);
}
