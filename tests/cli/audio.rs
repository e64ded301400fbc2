//! Audio on the command line: features, training on recordings, recognition; outputs, errors, interruptions.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::{
    Shared, assert_rejected, copy, end, has_keys, json, rejected, send, start, stdout, unread, wait_for, wmic,
};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use wmic::audio::{Depth, write_wav};
use wmic::data::{Dataset, FeatureValues, load_features, npz_note, synth_audio, write_npz};

/// Recordings of 10 s.
const CLIPS: usize = 20;
const EIGHTH: [&str; 4] = ["--frontend-weights", "random", "--width", "1/8"];

/// VGGish's embeddings of the shared recordings.
fn embeddings() -> String {
    static EMBEDDINGS: OnceLock<String> = OnceLock::new();
    let extract = || {
        let npz = shared().at("embeddings.npz");
        let made = wmic(&["features", &shared().data(), "--out", &npz]).args(EIGHTH).assert().success();
        made.stderr(contains("scaled to 0 to 1 by the minimum and maximum of the training split"));
        npz
    };
    EMBEDDINGS.get_or_init(extract).clone()
}

/// Recordings, their maps, and an ATT-TF trained on them; shared by all tests, which do not change them.
pub fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let shared = Shared::new();
        let (data, run, maps, cache) = (shared.data(), shared.run(), shared.at("maps.npz"), shared.at("cache"));
        synth_audio(Path::new(&data), CLIPS, 0).unwrap();
        wmic(&[&["features", &data, "--frontend", "maps", "--out", &maps], &EIGHTH[..]].concat()).assert().success();
        let args = ["train", &data, "--model", "att-tf", "--seeds", "2", "--epochs", "2", "--cache", &cache];
        wmic(&[&args, &EIGHTH[..], &["--out", &run]].concat()).assert().success();
        shared
    })
}

pub fn recording(i: usize) -> PathBuf {
    let mut files: Vec<_> =
        std::fs::read_dir(Path::new(&shared().data()).join("audio/000")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files[i].clone()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn tone(seconds: f64, sr: u32) -> Vec<f32> {
    let sample = |i: usize| (std::f64::consts::TAU * 440.0 * i as f64 / f64::from(sr)).sin() as f32 / 2.0;
    (0..(seconds * f64::from(sr)) as usize).map(sample).collect()
}

pub fn wav(folder: &Path, name: &str, samples: &[f32]) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_wav(&path, 16_000, samples, Depth::Float32).unwrap();
    path
}

/// Files without usable audio: truncated before the audio, not audio, an unsupported codec.
pub fn corrupt(folder: &Path) -> Vec<PathBuf> {
    let cut = wav(folder, "cut.wav", &tone(2.0, 16_000));
    std::fs::File::options().write(true).open(&cut).unwrap().set_len(30).unwrap();
    let letter = folder.join("letter.mp3");
    std::fs::write(&letter, "Dear archivist, this is no recording.\n".repeat(99)).unwrap();
    let codec = wav(folder, "codec.wav", &tone(1.0, 16_000));
    let mut bytes = std::fs::read(&codec).unwrap();
    bytes[20..22].copy_from_slice(&[0, 0x20]);
    std::fs::write(&codec, bytes).unwrap();
    vec![cut, letter, codec]
}

fn log_mel(sounds: &[&Path], out: &Path) -> assert_cmd::assert::Assert {
    let sounds: Vec<&str> = sounds.iter().map(|path| text(path)).collect();
    wmic(&[&["features", "--frontend", "logmel", "--out", text(out)], &sounds[..]].concat()).assert()
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn features_of_a_dataset_carry_its_labels() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    copy(shared().data(), &data);
    let make = [&["features", text(&data)], &EIGHTH[..]].concat();
    wmic(&make).assert().success().stderr(contains(format!("{CLIPS} excerpts of {CLIPS} files written to ")));
    let npz = data.join("openmic-2018.npz");
    let (keys, features, _) = load_features(&npz, &mut None).unwrap();
    assert_eq!((keys.len(), features.instances, features.width), (CLIPS, 10, 128));
    assert!(matches!(&features.values, FeatureValues::F16(_)), "random weights have no PCA");
    let note: Value = serde_json::from_str(&npz_note(&npz).unwrap().unwrap()).unwrap();
    assert_eq!((note["kind"].as_str(), note["front_end"]["width"].as_str()), (Some("vggish"), Some("1/8")));
    assert_eq!(names(folder.path()), ["data"], "nothing half-made stays");
    rejected(&make, "openmic-2018.npz exists; choose another --out, or --force to replace it");
    assert!(std::fs::read(&npz).unwrap() == std::fs::read(embeddings()).unwrap(), "the same sound, the same bytes");
    let (other, short) = (folder.path().join("other.npz"), wav(folder.path(), "short.wav", &tone(0.5, 16_000)));
    std::fs::write(&other, "something else").unwrap();
    let replace = ["features", text(&short), "--frontend", "logmel", "--out", text(&other), "--force"];
    wmic(&replace).assert().success();
    assert_eq!(load_features(&other, &mut None).unwrap().0.len(), 1);

    // The folder is now a dataset of features as well.
    let run = folder.path().join("run");
    wmic(&["train", text(&data), "--epochs", "1", "--out", text(&run)]).assert().success();
    let by_folder = json(&["eval", text(&run), text(&data), "--json"]);
    let by_file = json(&["eval", text(&run), &shared().data(), "--features", text(&npz), "--json"]);
    assert_eq!((&by_folder["mean"], &by_folder["per_class"]), (&by_file["mean"], &by_file["per_class"]));

    let numpy = "import sys, numpy; z = numpy.load(sys.argv[1]); \
                 print(z['X'].shape, z['X'].dtype, z['Y_true'].shape, z['Y_mask'].dtype, z['sample_key'].dtype.kind)";
    let python = std::env::var("WMIC_PYTHON").unwrap_or_else(|_| "python3".into());
    match std::process::Command::new(python).args(["-c", numpy, text(&npz)]).output() {
        Ok(said) if said.status.success() => {
            assert_eq!(
                String::from_utf8_lossy(&said.stdout).trim(),
                format!("({CLIPS}, 10, 128) float16 ({CLIPS}, 20) bool U")
            );
        }
        _ => eprintln!("skipped: no python3 with numpy"),
    }
}

#[test]
fn embeddings_without_a_pca_are_scaled_by_minimum_and_maximum() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let (data, npz) = (shared().data(), embeddings());
    let (keys, features, _) = load_features(&npz, &mut None).unwrap();
    let train = Dataset::load_with(&data, &npz, &mut None).unwrap().train;
    let (mut zeros, mut ones, mut all) = (0, 0, 0);
    for dimension in 0..128 {
        let of = |clip: usize| features.clip(clip).data().chunks(128).map(|e| e[dimension]).collect::<Vec<f32>>();
        let values: Vec<f32> = train.iter().flat_map(|&clip| of(clip as usize)).collect();
        let (min, max) = values.iter().fold((1.0f32, 0.0f32), |(low, high), v| (low.min(*v), high.max(*v)));
        assert!(min == 0.0 && (max == 1.0 || max == 0.0), "dimension {dimension}: {min} to {max}");
        let values: Vec<f32> = (0..keys.len()).flat_map(of).collect();
        assert!(values.iter().all(|v| (0.0..=1.0).contains(v)), "others are clipped");
        if max == 1.0 {
            zeros += values.iter().filter(|v| **v == 0.0).count();
            ones += values.iter().filter(|v| **v == 1.0).count();
            all += values.len();
        }
    }
    assert!(all > 0 && ones * 20 < all, "{zeros} zeros and {ones} ones of {all}");

    // Extracted during training, the result is bit-identical, and predictions from audio equal those from features.
    let train = |out: &str, with: &[&str]| {
        let args = ["train", &data, "--model", "fc-t", "--epochs", "1", "--out", out];
        wmic(&[&args, with].concat()).assert().success();
        std::fs::read(Path::new(out).join("model.safetensors")).unwrap()
    };
    let (run, cache) = (at("run"), at("cache"));
    let first = train(&run, &["--features", &npz]);
    assert!(train(&at("sound"), &[&EIGHTH[..], &["--cache", &cache]].concat()) == first);
    wmic(&["train", "--resume", &at("sound")]).assert().success();
    assert_eq!(names(Path::new(&cache)).len(), 1, "nothing is made twice");
    let recording = recording(0);
    let from_sound = json(&["predict", &run, text(&recording), "--hop", "10", "--format", "json"]);
    let from_features = json(&["predict", &run, &npz, "--format", "json"]);
    let key = recording.file_stem().unwrap().to_str().unwrap();
    let clip = keys.iter().position(|k| k == key).unwrap();
    for (one, two) in from_sound[0]["instruments"]
        .as_array()
        .unwrap()
        .iter()
        .zip(from_features[clip]["instruments"].as_array().unwrap())
    {
        assert_eq!((&one["name"], &one["probability"]), (&two["name"], &two["probability"]));
    }

    // Another minimum and maximum give other features.
    let other = at("other.npz");
    wmic(&[&["features", text(&recording), "--out", &other], &EIGHTH[..]].concat()).assert().success();
    rejected(&["predict", &run, &other], "with another --scaling");
    let pca8 = at("pca8.npz");
    let args = ["features", text(&recording), "--scaling", "pca8", "--out", &pca8];
    wmic(&[&args, &EIGHTH[..]].concat()).assert().success();
    rejected(&["predict", &run, &pca8], "with another --scaling");
}

#[test]
fn features_of_files_and_of_a_folder_per_class() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for class in ["oboe, \"d'amore\"", "<b>harp"] {
        (0..3).for_each(|i| drop(wav(&at("set").join(class), &format!("{i}.wav"), &tone(1.0 + f64::from(i), 16_000))));
    }
    log_mel(&[&at("set")], &at("set.npz")).success().stderr(contains("6 excerpts of 6 files"));
    let (keys, features, _) = load_features(at("set.npz"), &mut None).unwrap();
    assert_eq!((keys[0].as_str(), features.instances), ("<b>harp/0.wav", 10));
    assert_eq!(features.lengths, [1, 2, 3, 1, 2, 3]);
    let (set, run, cache) = (at("set"), at("run"), at("cache"));
    let train = ["train", text(&set), "--model", "att-tf", "--epochs", "1", "--cache", text(&cache)];
    wmic(&[&train, &EIGHTH[..], &["--out", text(&run), "--val-fraction", "0.4"]].concat()).assert().success();
    let heard = json(&["predict", text(&run), text(&at("set")), "--format", "json", "--html", text(&at("site"))]);
    let classes: Vec<&str> =
        heard[0]["instruments"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect();
    assert!(classes.contains(&"<b>harp") && classes.contains(&"oboe,_\"d'amore\""), "{classes:?}");
    let folders = ["<b>harp", "oboe, \"d'amore\""].map(|class| at("site/recordings").join(class));
    let pages = folders.iter().flat_map(|folder| names(folder).into_iter().map(|name| folder.join(name)));
    let pages: Vec<String> = pages.map(|page| std::fs::read_to_string(page).unwrap()).collect();
    assert_eq!(pages.len(), 6);
    assert!(pages.iter().all(|page| !page.contains("<b>harp") && page.contains("&lt;b&gt;harp")), "names are text");
    let rows = stdout(&["predict", text(&run), text(&at("set")), "--format", "csv"]);
    let mut reader = csv::Reader::from_reader(rows.as_bytes());
    assert_eq!(reader.records().map(|row| row.unwrap().len()).collect::<Vec<_>>(), [8; 12]);

    // 31 s in four excerpts of 10 s, the last one shorter, and a file in one.
    let (long, short) = (wav(folder.path(), "long.wav", &tone(31.0, 16_000)), wav(folder.path(), "s.wav", &[0.5]));
    log_mel(&[&long, &short, &long], &at("files.npz")).success().stderr(contains("5 excerpts of 2 files"));
    let (keys, features, _) = load_features(at("files.npz"), &mut None).unwrap();
    let starts: Vec<&str> = keys.iter().map(|key| key.strip_prefix(text(&long)).unwrap_or(key)).collect();
    assert_eq!(starts, ["@0.00", "@10.00", "@20.00", "@30.00", text(&short)]);
    assert_eq!(features.lengths, [10, 10, 10, 1, 1]);
}

#[test]
fn corrupt_files_are_listed_counted_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let bad = corrupt(folder.path());
    let out = folder.path().join("out.npz");
    let said = log_mel(&bad.iter().map(PathBuf::as_path).collect::<Vec<_>>(), &out);
    said.code(2).stdout("").stderr(contains("none of 3 audio files can be used: ").and(contains("\n").count(1)));
    assert!(!out.exists() && !folder.path().join("out.npz.partial").exists());

    let good = wav(folder.path(), "good.wav", &tone(1.0, 16_000));
    let listed = |said: assert_cmd::assert::Assert| {
        let left_out = |name: &str, why: &str| {
            contains(format!("skipped: {}", text(&folder.path().join(name)))).and(contains(why.to_owned()))
        };
        said.code(1)
            .stderr(left_out("cut.wav", "contains no audio"))
            .stderr(left_out("letter.mp3", "is not an audio file"))
            .stderr(left_out("codec.wav", "AC-3"));
    };
    listed(
        log_mel(&[folder.path()], &out)
            .stderr(contains("1 excerpt of 1 file written").and(contains("; 3 could not be decoded"))),
    );
    assert_eq!(load_features(&out, &mut None).unwrap().0, [text(&good)]);
    let heard = wmic(&["predict", &shared().run(), text(folder.path()), "--format", "jsonl"]).assert();
    assert_eq!(heard.get_output().stdout.iter().filter(|b| **b == b'\n').count(), 1);
    listed(heard);
    // An empty result is still a result.
    listed(
        wmic(
            &[&["predict", &shared().run(), "--format", "json"][..], &bad.iter().map(|p| text(p)).collect::<Vec<_>>()]
                .concat(),
        )
        .assert()
        .stdout("[]\n"),
    );
}

/// Warnings report missing or damaged parts, in JSON too; only loss in the middle of a file is a fault. Names need not
/// be UTF-8.
#[test]
#[cfg(unix)]
fn audio_of_damaged_files_is_used() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let cut = wav(folder.path(), "cut.wav", &tone(2.0, 16_000));
    std::fs::File::options().write(true).open(&cut).unwrap().set_len(60_000).unwrap();
    std::fs::write(folder.path().join("cover.jpg"), "").unwrap();
    for name in [&b"\xff.wav"[..], b"\xfe.wav"] {
        std::fs::copy(&cut, folder.path().join(std::ffi::OsStr::from_bytes(name))).unwrap();
    }
    let out = folder.path().join("out.npz");
    log_mel(&[folder.path()], &out)
        .success()
        .stderr(
            contains("warning: ")
                .and(contains("cut.wav: is truncated: "))
                .and(contains("skipped, without the extension")),
        )
        .stderr(contains("1 .jpg").and(contains("3 excerpts of 3 files")));
    let keys = load_features(&out, &mut None).unwrap().0;
    assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{keys:?}");

    let nan = wav(folder.path(), "nan.wav", &[&[f32::NAN], &tone(1.0, 16_000)[..]].concat());
    let heard = wmic(&["predict", &shared().run(), text(&nan), text(&cut), "--format", "jsonl"]).assert().code(1);
    let said: Vec<serde_json::Value> =
        heard.get_output().stdout.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let warning = |i: usize| said[i]["warnings"][0].as_str().unwrap().to_string();
    assert!(warning(0).contains("sample 0 of channel 1 is NaN"), "{}", warning(0));
    assert!(warning(1).starts_with("is truncated: "), "{}", warning(1));
    // The same from a pipe.
    let mut piped = wmic(&["predict", &shared().run(), "-", "--format", "jsonl"]);
    let piped = piped.write_stdin(std::fs::read(&cut).unwrap()).assert().success();
    let piped: serde_json::Value = serde_json::from_slice(&piped.get_output().stdout).unwrap();
    assert_eq!((&piped["file"], &piped["instruments"]), (&"-".into(), &said[1]["instruments"]));
}

/// Interrupted and killed, with damaged cache files in between; on a full disk; with other files in the cache.
#[test]
#[cfg(unix)]
fn an_interrupted_extraction_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let sounds = at("sounds");
    let lengths = [13.0, 7.0, 12.0, 25.0];
    let files = lengths.map(|seconds| wav(&sounds, &format!("{seconds}.wav"), &tone(seconds, 16_000)));
    for i in 0..20 {
        std::fs::hard_link(&files[i % 4], sounds.join(format!("0{i}.wav"))).unwrap();
    }
    corrupt(&sounds);
    let (whole, out, partial) = (at("whole.npz"), at("out.npz"), at("out.npz.partial"));
    log_mel(&[&sounds], &whole).code(1);
    let whole = std::fs::read(&whole).unwrap();
    let log = partial.join("done.jsonl");
    let args = ["features", "--frontend", "logmel", "--out", text(&out), text(&sounds)];
    let interrupt = |signal: &str, meanwhile: &dyn Fn()| {
        let child = start(&args);
        wait_for(&log);
        send("-STOP", &child);
        meanwhile();
        send(signal, &child);
        send("-CONT", &child);
        end(child)
    };
    let finish = |what: &str| {
        log_mel(&[&sounds], &out).code(1).stderr(contains("3 could not be decoded"));
        assert!(std::fs::read(&out).unwrap() == whole, "{what}");
        std::fs::remove_file(&out).unwrap();
    };
    let in_use = || rejected(&args, "out.npz.partial is in use: another process is extracting these features");
    let (code, stderr) = interrupt("-INT", &in_use);
    let said = "wmic: interrupted; the features extracted so far are saved, run the same command to continue";
    assert_eq!((code, stderr.lines().last()), (Some(130), Some(said)));
    let before = std::fs::metadata(&log).unwrap().len();
    assert!(before > 0);
    assert_eq!(interrupt("-KILL", &|| ()).0, None);
    assert!(std::fs::metadata(&log).unwrap().len() >= before, "what was done is kept");
    std::fs::File::options().write(true).open(&log).unwrap().set_len(before - 1).unwrap();
    finish("half a line");
    assert!(!partial.exists());

    for (was, is) in
        [("\"rows\":[{\"file\":2,", "\"rows\":[{\"file\":99999,"), ("\"instances\":10", "\"instances\":11")]
    {
        interrupt("-KILL", &|| ());
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.contains(was), "{text}");
        std::fs::write(&log, text.replacen(was, is, 3)).unwrap();
        finish(is);
    }
    std::fs::create_dir_all(partial.join("of others")).unwrap();
    let program = assert_cmd::cargo::cargo_bin("wmic");
    let script = format!("ulimit -f 4000; exec {} {}", program.display(), args.join(" "));
    let full = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let stderr = String::from_utf8(full.stderr).unwrap();
    assert_eq!(full.status.code(), Some(2), "{stderr}");
    assert!(stderr.starts_with("wmic: ") && stderr.lines().count() == 1, "{stderr}");
    std::fs::remove_file(partial.join("rows.bin")).unwrap();
    finish("a full disk, and lost rows");
    assert_eq!(names(&partial), ["of others"]);
}

#[test]
fn invalid_inputs_and_outputs_are_rejected_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let sound = text(&wav(folder.path(), "a.wav", &tone(0.3, 16_000))).to_owned();
    let second = text(&wav(folder.path(), "b.wav", &tone(0.3, 16_000))).to_owned();
    let run = shared().run();
    std::fs::create_dir(at("folder")).unwrap();
    std::fs::write(at("file"), "x").unwrap();
    for (options, why) in [
        (&["--out", &at("folder"), "--force"][..], "is a folder; --out takes a file"),
        (&["--out", &(at("folder") + "/"), "--force"], "is a folder; --out takes a file"),
        (&["--frontend", "logmel", "--out", &at("file/x.npz")], "file/x.npz.partial: "),
        (&["--frontend", "vggish"], "VGGish needs weights"),
        (&["--frontend", "vggish", "--frontend-weights", &sound], "a.wav: is not a valid safetensors file"),
        (&["--frontend", "maps", "--frontend-weights", &at("no-such")], "no-such: "),
        (
            &["--frontend", "maps", "--frontend-weights", &format!("{run}/model.safetensors")],
            "has an unexpected tensor",
        ),
        (
            &["--frontend", "maps", "--frontend-weights", "random", "--width", "1/3"],
            "unknown width 1/3; use 1, 1/2, 1/4 or 1/8",
        ),
        (&["--frontend", "logmel", "--width", "1/4"], "--width applies to features by VGGish only: remove it"),
        (&["--frontend", "logmel", "--frontend-weights", "random"], "--frontend-weights applies to features by VGGish"),
        (&["--frontend", "maps", "--pca", "none.npz"], "--pca applies to VGGish embeddings only: remove it"),
        (&["--frontend", "maps", "--no-last-relu"], "--no-last-relu applies to VGGish embeddings only"),
        (&["--frontend", "logmel", "--scaling", "minmax"], "--scaling applies to VGGish embeddings only"),
        (&["--frontend", "maps", "--scale", "log"], "--scale applies to spectra of single notes only"),
    ] {
        rejected(&[&["features", &sound], options].concat(), why);
    }
    if cfg!(unix) {
        rejected(&["features", &sound, "--frontend-weights", "/dev/zero"], "/dev/zero: is not a file");
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("labels.csv");
        crate::support::pipe(&fifo);
        for args in [
            &["features", &sound, "--frontend-weights", text(&fifo)][..],
            &["features", &sound, "--frontend-weights", "random", "--pca", text(&fifo)],
            &["predict", &sound, "--truth", text(&fifo)],
        ] {
            let mut command = wmic(args);
            command.timeout(std::time::Duration::from_secs(60));
            crate::support::assert_rejected(command, "labels.csv: is not a file");
        }
        rejected(
            &["features", "/dev/zero", "--frontend-weights", "random"],
            "/dev/zero: is neither a file nor a folder",
        );
    }
    for (options, why) in [
        (&["--hop", "10.5"][..], "hop 10.5 s is out of range: 0.01 to 10 s"),
        (&["--hop", "0"], "hop 0 s is out of range"),
        (&["--hop", "nan"], "hop NaN s is out of range"),
        (&["--threshold", "1.5"], "a number from 0 to 1, tuned, or precision:P"),
        (&["--format", "jams", &second], "2 recordings need one file each: --out DIR"),
        (&["--format", "audacity", &second], "2 recordings need one file each: --out DIR"),
        (
            &["--format", "table", "--out", &at("answers")],
            "--out needs --format json, jsonl, csv, mirex, jams, audacity, reaper or elan",
        ),
        (&["--format", "csv", "--out", &at("file")], "file: "),
        (&["--plot", &at("file")], "file: "),
        (&["--html", &at("file")], "file: "),
        (&["--html", &at("page.html"), &second], "2 recordings need a folder for their pages: --html DIR"),
        (&["--html", &at("none/page.html")], "none/page.html: "),
        (&[&at("folder")], "folder: contains no audio files"),
        (&[&at("none.wav")], "none.wav: does not exist"),
        (&["--width", "1/8"], "required arguments were not provided"),
        (&["--frontend-weights", "random:1"], "has weights other than those of the features or the run"),
    ] {
        rejected(&[&["predict", &run, &sound], options].concat(), why);
    }
    rejected(&["predict", &run, &shared().at("maps.npz"), "--plot", &at("plots")], "--plot needs audio, not features");
    for option in [["--hop", "2"], ["--aggregate", "max"], ["--gate", "5"], ["--shard", "1/2"]] {
        let why = format!("{} needs audio, not features: remove it", option[0]);
        rejected(&["predict", &run, &shared().at("maps.npz"), option[0], option[1]], &why);
    }
    rejected(
        &["predict", &run, &sound, "--feature-scale", "unit"],
        "--feature-scale needs features, not audio: remove it",
    );
    rejected(
        &["predict", &run, &shared().at("maps.npz"), &sound],
        "maps.npz: has features, which are recognised alone",
    );
}

#[test]
fn features_that_the_run_cannot_take_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let (run, data) = (shared().run(), shared().data());
    let (keys, features, _) = load_features(shared().at("maps.npz"), &mut None).unwrap();
    let note = npz_note(shared().at("maps.npz")).unwrap().unwrap();
    let altered = |name: &str, note: &str| {
        let path = folder.path().join(name);
        write_npz(&path, &keys, &features, &[6, 4, 64], None, Some(note)).unwrap();
        text(&path).to_owned()
    };
    let fingerprint = note.split("\"fingerprint\":\"").nth(1).unwrap()[..16].to_owned();
    let cases = [
        (altered("width.npz", &note.replace("1/8", "1/4")), "was extracted at --width 1/4, not 1/8"),
        (
            altered("kind.npz", &note.replace("\"maps\"", "\"logmel\"")),
            "has \"logmel\" features, but att-tf takes \"maps\"",
        ),
        (altered("other.npz", &note.replace(&fingerprint, "0123456789abcdef")), "was extracted with weights other"),
        (altered("relu.npz", &note.replace("\"last_relu\":true", "\"last_relu\":false")), "without VGGish's last ReLU"),
        (altered("json.npz", &note[..20]), "has an unreadable frontend.json"),
        (shared().at("data/class-map.json"), "is not a valid npz archive"),
    ];
    for (npz, why) in &cases {
        rejected(&["eval", &run, &data, "--features", npz], why);
    }
    cases[..5].iter().for_each(|(npz, why)| rejected(&["predict", &run, npz], why));
    let by_file = json(&["eval", &run, &data, "--features", &altered("same.npz", &note), "--json"]);
    let written = std::fs::read_to_string(Path::new(&run).join("test.json")).unwrap();
    assert_eq!(by_file["mean"], serde_json::from_str::<Value>(&written).unwrap()["mean"]);
    // Endless weight files named in an untrusted file are not read forever.
    let endless = altered("endless.npz", &note.replace("\"random\"", "\"/dev/zero\""));
    let new = text(&folder.path().join("run")).to_owned();
    if cfg!(unix) {
        let train = ["train", &data, "--features", &endless, "--model", "att-tf", "--epochs", "1", "--out", &new];
        rejected(&train, "/dev/zero: is not a file");
    }
}

/// Embeddings that do not record what they were made with, as OpenMIC's own: what is said of them must be possible, and
/// features that record it are another front end's until the user says otherwise.
#[test]
fn features_of_an_unknown_front_end_are_not_taken_for_any() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let (data, run, sound) = (at("data"), at("run"), text(&recording(0)).to_owned());
    wmic(&["synth", &data, "--clips", "40"]).assert().success();
    wmic(&["train", &data, "--epochs", "1", "--out", &run]).assert().success();
    let random = ["features", &sound, "--frontend-weights", "random", "--width", "1/8", "--out"];
    wmic(&[&random[..], &[&at("made.npz")]].concat()).assert().success();
    let made = "was extracted with random VGGish weights, which did not make the run's features";
    let weights = ["--frontend-weights", "random"];
    for (args, why) in [
        (&["predict", &run, &sound][..], "does not record the front end of its features; give the VGGish weights"),
        (&["predict", &run, &sound, weights[0], weights[1]], "the front end of its features, which was not random"),
        (&["predict", &run, &at("made.npz")], made),
        (&["predict", &run, &at("made.npz"), weights[0], weights[1]], "which was not random"),
        (&["eval", &run, &data, "--features", &at("made.npz")], made),
        (&["eval", &run, &data, weights[0], weights[1]], "which was not random"),
        (
            &["train", &data, "--out", &at("new"), weights[0], weights[1]],
            "does not record its front end, which was not",
        ),
        (&["eval", &shared().run(), &shared().data(), weights[0], "random:1"], "has weights other than those"),
        (&["predict", &run, &data, weights[0], &at("none.safetensors")], "none.safetensors"),
    ] {
        rejected(args, why);
    }
    // A note without a front end records nothing.
    let (keys, features, _) = load_features(at("made.npz"), &mut None).unwrap();
    write_npz(at("bare.npz"), &keys, &features, &[128], None, Some("{\"kind\":\"vggish\"}")).unwrap();
    let known = at("known");
    let train = ["train", &shared().data(), "--model", "att", "--epochs", "1", "--out", &known];
    wmic(&[&train[..], &["--cache", &shared().at("cache")], &EIGHTH].concat()).assert().success();
    rejected(&["predict", &known, &at("bare.npz")], "does not record its front end; this run was trained on features");
}

#[test]
fn every_part_of_the_front_end_can_be_trained() {
    let folder = tempfile::tempdir().unwrap();
    let (data, cache) = (shared().data(), shared().at("cache"));
    for part in ["dense", "all"] {
        let out = folder.path().join(part);
        let train = ["train", &data, "--model", "att-tf", "--train-frontend", part, "--epochs", "1", "--cache", &cache];
        wmic(&[&train, &EIGHTH[..], &["--batch", "8", "--out", text(&out)]].concat()).assert().success();
        let heard = json(&["predict", text(&out), text(&recording(0)), "--format", "json"]);
        assert_eq!(heard.as_array().unwrap().len(), 1);
    }
    wmic(&["eval", text(&folder.path().join("all")), &data]).assert().success();
    // Features from a file and those extracted during training give bit-identical results.
    let out = folder.path().join("file");
    let train = ["train", &data, "--model", "att-tf", "--seeds", "2", "--epochs", "2", "--out", text(&out)];
    wmic(&[&train, &["--features", &shared().at("maps.npz")][..]].concat()).assert().success();
    let model = |run: &Path| std::fs::read(run.join("model.safetensors")).unwrap();
    assert!(model(&out) == model(Path::new(&shared().run())));
    let mut without = wmic(&["train", &data, "--model", "att-tf"]);
    without.current_dir(&folder);
    assert_rejected(without, "att-tf needs VGGish weights: --frontend-weights FILE or random");
}

#[test]
#[cfg(unix)]
fn a_killed_audio_run_resumes_bit_identically() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let begin = |out: &str| {
        let (data, cache) = (shared().data(), shared().at("cache"));
        let args = ["train", &data, "--model", "att-tf", "--epochs", "4", "--cache", &cache, "--out", out];
        [&args, &EIGHTH[..]].concat().join("\n")
    };
    wmic(&begin(&at("whole")).split('\n').collect::<Vec<_>>()).assert().success();
    let child = start(&begin(&at("pieces")).split('\n').collect::<Vec<_>>());
    wait_for(&folder.path().join("pieces/run.toml"));
    send("-INT", &child);
    assert_eq!(end(child).0, Some(130));
    let child = start(&["train", "--resume", &at("pieces")]);
    std::thread::sleep(std::time::Duration::from_millis(700));
    send("-KILL", &child);
    end(child);
    wmic(&["train", "--resume", &at("pieces")]).assert().success();
    for file in names(&folder.path().join("whole")) {
        let read = |run: &str| std::fs::read(folder.path().join(run).join(&file)).unwrap();
        assert!(read("whole") == read("pieces"), "{file} differs");
    }
}

#[test]
fn recordings_of_any_length_are_analysed() {
    let folder = tempfile::tempdir().unwrap();
    let run = shared().run();
    let stereo = folder.path().join("31.wav");
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 44_100,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&stereo, spec).unwrap();
    for v in tone(31.0, 44_100) {
        [v, -v / 3.0].iter().for_each(|v| writer.write_sample((v * 32_767.0) as i16).unwrap());
    }
    writer.finalize().unwrap();
    let files = [
        (wav(folder.path(), "0.3.wav", &tone(0.3, 16_000)), 0.3),
        (wav(folder.path(), "10.wav", &tone(10.0, 16_000)), 10.0),
        (stereo, 31.0),
        (wav(folder.path(), "silence.wav", &[0.0; 48_000]), 3.0),
        (wav(folder.path(), "dc.wav", &[0.5; 48_000]), 3.0),
    ];
    let paths: Vec<&str> = files.iter().map(|(path, _)| text(path)).collect();
    for hop in ["4.8", "10"] {
        let args = ["predict", &run, "--format", "json", "--attention", "--threshold", "0", "--hop", hop];
        let heard = json(&[&args[..], &paths].concat());
        for (r, (path, seconds)) in heard.as_array().unwrap().iter().zip(&files) {
            assert_eq!((r["file"].as_str(), r["duration"].as_f64()), (path.to_str(), Some(*seconds)));
            let cells = (seconds / r["cell"].as_f64().unwrap()).ceil() as usize;
            for i in r["instruments"].as_array().unwrap() {
                let activity: Vec<f64> =
                    i["activity"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
                assert_eq!((activity.len(), i["attention"].as_array().unwrap().len()), (cells, cells));
                let segments = i["segments"].as_array().unwrap();
                if path.ends_with("silence.wav") || path.ends_with("dc.wav") {
                    assert!(activity.iter().all(|v| *v == 0.0) && segments.is_empty() && i["present"] == false);
                    continue;
                }
                // Excerpts of 10 s have 9.6 s of instances; activity has no gaps between them.
                assert!(activity.iter().all(|v| *v > 0.0 && *v <= 1.0), "hop {hop}, {seconds} s: {activity:?}");
                let time = |s: &Value, key: &str| s[key].as_f64().unwrap();
                assert!(i["present"] == true && !segments.is_empty(), "at the threshold 0");
                assert!(segments.iter().all(|s| time(s, "start") < time(s, "end") && time(s, "end") <= *seconds));
            }
        }
        assert_eq!(heard.as_array().unwrap().len(), files.len());
    }
    assert_eq!(json(&["predict", &run, &shared().data(), "--format", "json"]).as_array().unwrap().len(), CLIPS);
}

#[test]
fn results_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let run = shared().run();
    // Two files of the same name, and a third with the name that the second would get.
    for name in ["x/take.wav", "y/take.wav", "z/take-2.wav"] {
        wav(folder.path(), name, &tone(2.0, 16_000));
    }
    let sounds = ["x/take.wav", "y/take.wav", "z/take-2.wav"].map(|name| text(&at(name)).to_owned());
    for (format, extension) in [("json", "json"), ("jams", "jams"), ("audacity", "txt")] {
        let out = at(format);
        let args = ["predict", &run, "--format", format, "--threshold", "0", "--out", text(&out)];
        let renamed = contains("y/take.wav: written as take-2, because another recording has its name\n")
            .and(contains("z/take-2.wav: written as take-2-2, because another recording has its name\n"));
        wmic(&args).args(&sounds).assert().success().stdout("").stderr(renamed);
        let expected = ["take-2-2", "take-2", "take"].map(|name| format!("{name}.{extension}"));
        let mut all = [&expected[..], &["journal.jsonl".into()]].concat();
        all.sort();
        assert_eq!(names(&out), all);
        for name in expected {
            let written = std::fs::read_to_string(out.join(name)).unwrap();
            match format {
                "json" => has_keys(
                    &serde_json::from_str(&written).unwrap(),
                    &["file", "duration", "model", "seeds", "summary", "instruments"],
                ),
                "jams" => {
                    let jams: Value = serde_json::from_str(&written).unwrap();
                    assert_eq!(jams["annotations"][0]["data"].as_array().unwrap().len(), 20);
                }
                _ => assert!(written.lines().count() >= 20 && written.lines().all(|l| l.split('\t').count() == 3)),
            }
        }
    }
    let (one, tuned) = (text(&recording(0)).to_owned(), ["--threshold", "tuned", "--format", "json"]);
    let heard = &json(&[&["predict", &run, &one], &tuned[..]].concat())[0];
    let thresholds = std::fs::read_to_string(Path::new(&run).join("thresholds.json")).unwrap();
    let thresholds: Value = serde_json::from_str(&thresholds).unwrap();
    for i in heard["instruments"].as_array().unwrap() {
        let (said, kept) =
            (i["threshold"].as_f64().unwrap(), thresholds[i["name"].as_str().unwrap()].as_f64().unwrap());
        assert!((said - kept).abs() < 1e-6);
    }
    wmic(&["predict", &run, &one, "--aggregate", "attention"]).assert().success();
    let (plots, site) = (at("plots"), at("site"));
    let pictures = ["predict", &run, &sounds[0], &sounds[1], "--plot", text(&plots), "--html", text(&site)];
    wmic(&pictures).assert().success().stderr(contains("2 pages and their index written to "));
    assert_eq!(names(&plots), ["take-2.png", "take.png"]);
    assert!(names(&plots).iter().all(|name| std::fs::read(plots.join(name)).unwrap().starts_with(b"\x89PNG")));
    assert_eq!(names(&site.join("recordings")), ["take-2.html", "take.html"]);
    assert!(std::fs::read_to_string(site.join("index.html")).unwrap().starts_with("<!doctype html>"));

    let truth = Path::new(&shared().data()).join("activity.csv");
    let compared = wmic(&["predict", &run, &one, "--truth", text(&truth)]).assert().success();
    compared.stderr(contains("frames of 1 s: F1 ").and(contains(" over 1 recording")));
    for format in ["json", "audacity"] {
        assert_eq!(
            unread(&["predict", &run, &one, "--threshold", "0", "--format", format]),
            (Some(0), String::new()),
            "{format}"
        );
    }
}

#[test]
fn keys_keep_their_dots_in_file_names() {
    let folder = tempfile::tempdir().unwrap();
    let (npz, out) = (folder.path().join("two.npz"), folder.path().join("out"));
    let (_, features, _) = load_features(shared().at("maps.npz"), &mut None).unwrap();
    let note = npz_note(shared().at("maps.npz")).unwrap().unwrap();
    let keys: Vec<String> = (0..features.lengths.len()).map(|i| format!("song.{i}")).collect();
    write_npz(&npz, &keys, &features, &[6, 4, 64], None, Some(&note)).unwrap();
    assert_eq!(features.spectrum.as_ref().unwrap().len(), keys.len() * features.instances * 128);
    assert_eq!(load_features(&npz, &mut None).unwrap().1, features, "with its spectrum");
    let args = ["predict", &shared().run(), text(&npz), "--format", "json", "--out", text(&out)];
    wmic(&args).assert().success().stdout("").stderr(contains(format!("{} recordings, ", keys.len())));
    let mut expected: Vec<String> = keys.iter().map(|key| format!("{key}.json")).collect();
    expected.push("journal.jsonl".into());
    expected.sort();
    assert_eq!(names(&out), expected);
    let written: Value = serde_json::from_slice(&std::fs::read(out.join("song.7.json")).unwrap()).unwrap();
    assert_eq!(written["file"], "song.7");
    assert_eq!(json(&["predict", &shared().run(), text(&npz), "--json"]).as_array().unwrap().len(), keys.len());
}

#[test]
fn a_model_without_attention_cannot_aggregate_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let args = ["train", &shared().data(), "--features", &embeddings(), "--model", "fc", "--epochs", "1"];
    wmic(&[&args[..], &["--out", text(&out)]].concat()).assert().success();
    let sound = recording(1);
    let predict = ["predict", text(&out), text(&sound)];
    rejected(
        &[&predict[..], &["--aggregate", "attention"]].concat(),
        "fc has no attention: --aggregate power, mean or max",
    );
    let heard = &json(&[&predict[..], &["--format", "json", "--attention"]].concat())[0]["instruments"][0];
    assert!(heard["attention"].is_null() && heard["activity"].is_array());
}

#[test]
fn models_that_look_at_places_take_whole_spectrograms_and_show_their_paths() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let (data, run, cache) = (shared().data(), at("run"), shared().at("cache"));
    let train = ["train", &data, "--model", "ram16-gru", "--seeds", "2", "--epochs", "1", "--out", &run];
    rejected(
        &[&train[..], &["--frontend-weights", "random"]].concat(),
        "ram16-gru does not use VGGish: remove --frontend-weights",
    );
    rejected(
        &[&train[..], &["--train-frontend", "all"]].concat(),
        "ram16-gru does not train a front end: remove --train-frontend",
    );
    rejected(&[&train[..], &["--dropout", "0.5"]].concat(), "ram16-gru has no dropout: remove --dropout");
    let planned = json(&["plan", &data, "--model", "ram16-gru", "--json"]);
    wmic(&[&train[..], &["--cache", &cache]].concat()).assert().success();
    assert_eq!(planned["parameters_per_seed"], 337_815);
    assert_eq!(planned["memory_data"], CLIPS * (998 * 64 / 2 + 1 + 20) * 4);

    let short = wav(folder.path(), "short.wav", &tone(0.02, 16_000));
    let sounds = [text(&recording(0)).to_owned(), text(&short).to_owned()];
    let predict = ["predict", &run, &sounds[0], &sounds[1]];
    rejected(
        &[&predict[..], &["--frontend-weights", "random"]].concat(),
        "ram16-gru does not use VGGish: remove --frontend-weights",
    );
    let heard = json(&[&predict[..], &["--format", "json"]].concat());
    for (r, excerpts) in heard.as_array().unwrap().iter().zip([2, 1]) {
        let paths = r["paths"].as_array().unwrap();
        assert_eq!(paths.len(), 2 * excerpts, "a path for each seed and excerpt");
        for path in paths {
            let glimpses = path["glimpses"].as_array().unwrap();
            assert_eq!(glimpses.len(), 16);
            for g in glimpses {
                let (time, hz) = (g["time"].as_f64().unwrap(), g["hz"].as_f64().unwrap());
                assert!(time >= path["start"].as_f64().unwrap() && time <= r["duration"].as_f64().unwrap() + 0.01);
                assert!((100.0..7600.0).contains(&hz), "{hz} Hz");
            }
        }
    }
    let first = &heard[0]["paths"][0];
    assert_eq!((first["seed"].as_u64(), first["start"].as_f64()), (Some(0), Some(0.0)));
    assert!((first["glimpses"][0]["time"].as_f64().unwrap() - 4.99).abs() < 0.01, "it begins in the middle of 9.98 s");

    let (plots, page) = (at("plots"), at("page.html"));
    let pictures = ["predict", &run, &sounds[0], "--plot", &plots, "--html", &page];
    wmic(&pictures).assert().success().stderr(contains("page written to "));
    assert_eq!(names(Path::new(&plots)).len(), 1);
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("aria-label=\"Path of the glimpses\"").count(), 1);
    assert_eq!(page.matches("<circle ").count(), 2 * 16, "of one seed, in two excerpts");

    // The same features from a file.
    let npz = at("spectrogram.npz");
    wmic(&["features", &data, "--frontend", "spectrogram", "--out", &npz]).assert().success();
    let (_, features, _) = load_features(&npz, &mut None).unwrap();
    assert_eq!((features.instances, features.width), (998, 64));
    let again = at("again");
    let args = ["train", &data, "--model", "ram16-gru", "--seeds", "2", "--epochs", "1", "--features", &npz];
    wmic(&[&args[..], &["--out", &again]].concat()).assert().success();
    let weights = |run: &str| std::fs::read(Path::new(run).join("model.safetensors")).unwrap();
    assert!(weights(&run) == weights(&again));
    let clips = json(&["predict", &run, &npz, "--format", "json"]);
    assert_eq!((clips.as_array().unwrap().len(), clips[0]["duration"].as_f64()), (CLIPS, Some(9.98)));
}

/// musicnn's tags stand beside the instruments.
#[test]
fn recordings_are_tagged() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.wav");
    write_wav(&file, 16_000, &tone(3.5, 16_000), Depth::Int16).unwrap();
    let (run, file) = (&shared().run(), text(&file));
    let table = stdout(&["predict", "--tags", run, file, "--top", "3"]);
    let lines: Vec<&str> = table.lines().collect();
    let tags = lines.iter().position(|line| line.starts_with("tag ")).unwrap();
    assert!(lines.len() == tags + 4 && lines[0].ends_with("a.wav  3.50 s"), "{table}");
    let object: Value = serde_json::from_str(&stdout(&["predict", "--tags", run, file, "--format", "jsonl"])).unwrap();
    let tags = object["tags"].as_array().unwrap();
    let p = |tag: &Value| tag["probability"].as_f64().unwrap();
    assert!(tags.len() == 50 && tags.is_sorted_by(|a, b| p(a) >= p(b)));
    assert_eq!((&object["model"], object["instruments"].as_array().unwrap().len()), (&"att-tf".into(), 20));
    for format in ["csv", "jams"] {
        let why = format!("{format} has no place for tags: use --format json or jsonl");
        rejected(&["predict", "--tags", run, file, "--format", format], &why);
    }
}
