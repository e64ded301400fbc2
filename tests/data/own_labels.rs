//! Labels of the user's own recordings: tables, JAMS, label tracks, splits, excerpts and times.

use std::fs;

use tempfile::TempDir;
use wmic::data::{AudioSet, Dataset, Excerpts, FeatureValues, Features, Unlisted, instance};

/// A folder with empty recordings, and a table.
fn folder(recordings: &[&str], files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in recordings.iter().map(|name| (*name, "")).chain(files.iter().copied()) {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// The labels of a set: file, class, present.
fn labels(set: &AudioSet) -> Vec<(&str, &str, bool)> {
    let k = set.classes.len();
    let known = (0..set.observed.len()).filter(|&i| set.observed[i]);
    known.map(|i| (set.keys[i / k].as_str(), set.classes[i % k].as_str(), set.targets[i] == 1.0)).collect()
}

#[test]
fn a_table_is_read_however_it_was_saved() {
    let expected = vec![("a.wav", "flute", true), ("b/c.ogg", "flute", false), ("b/c.ogg", "mallet_percussion", true)];
    for table in [
        "file,instrument,present\na.wav,flute,1\nb/c.ogg,Flute,0\nb/c.ogg,Mallet \
         Percussion,1\na.wav,mallet-percussion,\n",
        "\u{feff}FILE;Instrument;Present\r\n\"a.wav\";\"flute\";1\r\nb\\c.ogg;FLUTE;0\r\n\r\nb\\c.ogg;mallet \
         percussion;1\r\n",
        "sample_key\tlabel\tpresent\tnotes\na\tflute\ttrue\tnice\nb/c\tflute\t0.0\t\n\
         ./b/c.ogg\tmallet_percussion\t1.0\t\n",
        // A column per instrument.
        "file,flute,mallet percussion\na.wav,1,\nb/c.ogg,0,1\n",
    ] {
        let folder = folder(&["a.wav", "b/c.ogg"], &[("labels.csv", table)]);
        let set = AudioSet::load(folder.path()).unwrap_or_else(|e| panic!("{table}: {e}"));
        assert_eq!(labels(&set), expected, "{table}");
    }
    // Without the column present a row says that the instrument plays.
    let folder = folder(&["a.wav"], &[("labels.csv", "file,instrument\na.wav,flute\na.wav,oboe\na.wav,oboe\n")]);
    let set = AudioSet::load(folder.path()).unwrap();
    assert_eq!(labels(&set), [("a.wav", "flute", true), ("a.wav", "oboe", true)]);
    assert_eq!(set.warnings, ["1 line repeats another and is skipped"]);
}

#[test]
fn what_is_wrong_with_a_table_is_told_with_its_line() {
    for (table, words) in [
        ("file,present\na.wav,1\n", ":1: has no column instrument; file,instrument,present"),
        ("song,instrument\na.wav,flute\n", ":1: has no column file"),
        ("file,instrumnt\na.wav,flute\n", ":2: \"flute\" in column instrumnt is not 1, 0 or empty"),
        ("file,instrument,present\na.wav,flute,1\na.wav,flute,0\n", "absent in a.wav, but present by line 2"),
        ("file,instrument,present\na.wav,flute,maybe\n", ":2: present is \"maybe\""),
        ("file,instrument,start,end\na.wav,flute,2,1\n", ":2: 2 to 1 s: the end is before the start"),
        ("file,instrument,start,end\na.wav,flute,-1,1\n", ":2: -1 to 1 s: a time is negative"),
        ("file,instrument,start,end\na.wav,flute,nan,1\n", ":2: NaN to 1 s are not times"),
        ("file,instrument,start,end\na.wav,flute,0,1e300\n", ":2: 0e0 to 1e300 s are longer than a year"),
        ("file,instrument,start,end\na.wav,flute,1,\n", ":2: \"1\" to \"\" are not times"),
        ("file,instrument,present,start,end\na.wav,flute,0,1,2\n", ":2: says that the instrument is absent"),
        ("file,instrument\na.wav\n", ":2: has 1 fields, but the first line has 2"),
        ("file,instrument\n,flute\n", ":2: names no file"),
        ("file,instrument,present\na.wav,,1\n", ":2: names no instrument"),
        ("file,instrument,file\na.wav,flute,b.wav\n", ":1: has two columns \"file\""),
        ("file,instrument,split\na.wav,flute,dev\n", ":2: split \"dev\" is not train, validation or test"),
        ("file,instrument,split\na.wav,flute,train\na.wav,oboe,test\n", ":3: a.wav is in another split than in line 2"),
        (
            "file,instrument,group,split\na.wav,flute,X,train\nb.wav,oboe,X,test\n",
            ":3: group X is in another split than in line 2",
        ),
        ("file,instrument,presnt\na.wav,flute,1\nb.wav,flute,0\n", ":1: has no column present; if presnt, of 1 and 0,"),
        ("file,instrument\nz.wav,flute\n", "names no file that exists (z.wav, line 2)"),
        ("file,instrument\n", "has no labels"),
    ] {
        let folder = folder(&["a.wav", "b.wav"], &[("labels.csv", table)]);
        let message = AudioSet::load(folder.path()).unwrap_err().to_string();
        assert!(message.contains(words) && message.contains("labels.csv"), "{words:?} is not in: {message}");
    }
    // A folder in its place was ignored.
    let no_file = folder(&["a.wav"], &[("labels.csv/b.csv", "")]);
    assert!(AudioSet::load(no_file.path()).unwrap_err().to_string().contains("labels.csv: "));
    let latin = folder(&["a.wav"], &[]);
    fs::write(latin.path().join("labels.csv"), b"file,instrument\na.wav,fl\xfbte\n").unwrap();
    let message = AudioSet::load(latin.path()).unwrap_err().to_string();
    assert!(message.contains("labels.csv:2: is not UTF-8 text"), "{message}");
    let some = folder(&["a.wav", "b.wav"], &[("labels.csv", "file,instrument\na.wav,flute\nz.wav,flute\n")]);
    let warnings = AudioSet::load(some.path()).unwrap().warnings;
    assert!(warnings[0].contains(": 1 file does not exist") && warnings[0].contains("(z.wav, line 3)"), "{warnings:?}");
    assert_eq!(warnings[1], "1 audio file has no labels and is unused");
}

#[test]
fn annotation_files_are_labels_of_all_instruments() {
    let jams = r#"{"file_metadata": {"duration": 20.0}, "annotations": [
        {"namespace": "beat", "data": []},
        {"namespace": "tag_open", "data": [{"time": 0.0, "duration": 20.0, "value": "Oboe", "confidence": 0.9}]},
        {"namespace": "segment_open", "data": [{"time": 10.0, "duration": 5.0, "value": "flute",
            "confidence": null}]}]}"#;
    let track = "1,000000\t2.5\tFlute\r\n\\\t100.0\t200.0\r\n0\t20\tpiano 0.93\r\n0\t20\t(unreliable: a remark)\n";
    let set = folder(
        &["a.wav", "b/a.ogg", "c.wav"],
        &[("a.jams", jams), ("b/a.txt", track), ("readme.txt", "hello"), ("c.txt", "words of a song\n")],
    );
    let loaded = AudioSet::load(set.path()).unwrap();
    let present: Vec<_> = labels(&loaded).into_iter().filter(|l| l.2).map(|l| (l.0, l.1)).collect();
    assert_eq!(present, [("a.wav", "flute"), ("a.wav", "oboe"), ("b/a.ogg", "flute"), ("b/a.ogg", "piano")]);
    assert!(loaded.observed.iter().all(|known| *known), "a track can only say that an instrument is absent by silence");
    let unknown = AudioSet::load_with(set.path(), Some(Unlisted::Unknown)).unwrap();
    assert_eq!(labels(&unknown).len(), 4);
    for (name, text, words) in [
        ("a.txt", "0\t1\n", "a.txt:1: \"0\\t1\" is not a label"),
        ("a.txt", "0\t1\tflute\n3\t2\tflute\n", "a.txt:2: 3 to 2 s: the end is before the start"),
        ("a.jams", "{\"annotations\": []}", "a.jams: has no annotation in the namespaces tag_open and segment_open"),
        ("a.jams", "{", "a.jams:1: is not a JAMS file"),
    ] {
        let folder = folder(&["a.wav"], &[(name, text)]);
        let message = AudioSet::load(folder.path()).unwrap_err().to_string();
        assert!(message.contains(words), "{words:?} is not in: {message}");
    }
}

/// `rows` excerpts of up to ten instances, with features of no interest.
fn features(lengths: &[u32]) -> Features {
    let values = FeatureValues::U8(vec![0; lengths.len() * 10].into());
    Features { values, instances: 10, width: 1, lengths: lengths.into(), spectrum: None }
}

const HOW: Excerpts = Excerpts { window: 10.0, instance: 0.96, strong: true, validation: 0.15 };

/// The excerpts of the recordings of a set, of so many instances each.
fn excerpts(set: &AudioSet, lengths: &[&[u32]], how: Excerpts) -> wmic::Result<Dataset> {
    let rows: Vec<(u32, f64)> =
        (0..).zip(lengths).flat_map(|(file, of)| (0..of.len()).map(move |i| (file, 10.0 * i as f64))).collect();
    let keys = rows.iter().map(|(file, start)| format!("{file}@{start}")).collect();
    set.with_excerpts(features(&lengths.concat()), keys, &rows, how)
}

#[test]
fn splits_have_whole_groups_and_every_class() {
    let mut table = "file,instrument,present,group\n".to_owned();
    let names: Vec<String> = (0..60).map(|i| format!("{i:02}.wav")).collect();
    for (i, name) in names.iter().enumerate() {
        let instrument = if i % 12 < 2 { "harp" } else { "piano" };
        table += &format!("{name},{instrument},1,album {}\n", i / 2);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let folder = folder(&names, &[("labels.csv", &table)]);
    let set = AudioSet::load(folder.path()).unwrap();
    let data = excerpts(&set, &vec![&[10u32, 10][..]; 60], HOW).unwrap();
    let albums = |clips: &[u32]| clips.iter().map(|clip| clip / 4).collect::<std::collections::BTreeSet<u32>>();
    let validation = data.validation.as_ref().unwrap();
    let splits = [&data.train, validation, &data.test].map(|clips| albums(clips));
    assert_eq!(splits.iter().map(|albums| albums.len()).collect::<Vec<_>>(), [22, 4, 4]);
    assert!(
        splits[0].is_disjoint(&splits[1]) && splits[0].is_disjoint(&splits[2]) && splits[1].is_disjoint(&splits[2])
    );
    // Albums 0, 6, 12 ... have the harp.
    assert!(splits.iter().all(|albums| albums.iter().any(|album| album % 6 == 0)), "{splits:?}");
    assert_eq!(excerpts(&set, &vec![&[10u32, 10][..]; 60], HOW).unwrap(), data);
    // Keys of validation clips replace the drawn ones.
    let keys = folder.path().join("keys.txt");
    fs::write(&keys, "0@0\n").unwrap();
    let fixed = data.clone().with_validation_keys(&keys);
    match data.test.contains(&0) {
        true => assert!(fixed.is_err()),
        false => assert_eq!(fixed.unwrap().validation, Some(vec![0])),
    }
    // A recording's key names its excerpts.
    let long = excerpts(&set, &vec![&[10u32, 10][..]; 60], HOW).unwrap();
    let learnt = long.train.iter().find(|clip| **clip % 2 == 0).unwrap();
    let recording = long.keys[*learnt as usize].rsplit_once('@').unwrap().0;
    fs::write(&keys, recording).unwrap();
    let fixed = long.clone().with_validation_keys(&keys).unwrap();
    assert_eq!(fixed.validation, Some(vec![*learnt, learnt + 1]), "{recording}");
    assert_eq!(fixed.fingerprint(), long.fingerprint(), "the clips are the same");
    assert_ne!(fixed.splits_fingerprint(), long.splits_fingerprint());
    // Splits of the table are kept.
    let given = "file,instrument,split\n00.wav,harp,train\n01.wav,harp,val\n02.wav,harp,test\n03.wav,harp,\n";
    fs::write(folder.path().join("labels.csv"), given).unwrap();
    let set = AudioSet::load(folder.path()).unwrap();
    let data = excerpts(&set, &[&[10], &[10], &[10], &[10]], HOW).unwrap();
    assert_eq!((&data.train[..], data.validation, &data.test[..]), (&[0u32][..], Some(vec![1]), &[2u32][..]));
    assert!(data.warnings.iter().any(|w| w.contains("1 clip is in no split")), "{:?}", data.warnings);
}

#[test]
fn times_tell_what_plays_in_excerpts_and_instances() {
    let table = "file,instrument,present,start,end\n\
                 a.wav,flute,,2.0,4.8\na.wav,flute,,12.1,12.2\na.wav,oboe,0,,\na.wav,harp,1,,\na.wav,tuba,1,9.9,10.1\n\
                 b.wav,flute,1,0,99\nc.wav,harp,1,,\n";
    let folder = folder(&["a.wav", "b.wav", "c.wav"], &[("labels.csv", table)]);
    let set = AudioSet::load(folder.path()).unwrap();
    let data = excerpts(&set, &[&[10, 6, 2], &[10], &[10]], Excerpts { validation: 0.0, ..HOW }).unwrap();
    assert_eq!(data.classes, ["flute", "harp", "oboe", "tuba"]);
    let state = |clip: usize| -> Vec<Option<bool>> {
        (clip * 4..clip * 4 + 4).map(|i| data.observed[i].then_some(data.targets[i] == 1.0)).collect()
    };
    // The rest of two instances is too short to be sure that the harp of the whole is in it.
    assert_eq!(state(0), [Some(true), Some(true), Some(false), None]);
    assert_eq!(state(1), [Some(true), Some(true), Some(false), None]);
    assert_eq!(state(2), [Some(false), None, Some(false), Some(false)]);
    let strong = data.strong.as_ref().unwrap();
    let of = |clip: usize, class: usize| -> Vec<u8> { (0..10).map(|t| strong[(clip * 10 + t) * 4 + class]).collect() };
    let [u, a, p] = [instance::UNKNOWN, instance::ABSENT, instance::PRESENT];
    // Instances begin at 0, .96, 1.92, 2.88, 3.84, 4.8 s.
    assert_eq!(of(0, 0), [a, a, p, p, p, a, a, a, a, a]);
    // A short sound inside an instance; padding is unknown.
    assert_eq!(of(1, 0), [a, a, p, a, a, a, u, u, u, u]);
    assert_eq!((of(0, 1), of(0, 2)), (vec![u; 10], vec![a; 10]));
    assert_eq!(of(3, 0), [p; 10]);
    assert_eq!(of(4, 0), [u; 10]);
    let beyond = "b.wav has times up to 99 s, but ends at about 10 s; they are cut there";
    assert!(data.warnings.iter().any(|w| w == beyond), "{:?}", data.warnings);
    assert!(data.warnings.iter().any(|w| w.contains("1 label without times is of a recording longer than 10 s")));
}

/// The table that `wmic predict --truth` takes.
#[test]
fn a_table_of_times_adds_labels_of_instances() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    wmic::data::synth(&path, 60, 3).unwrap();
    let data = Dataset::load(&path).unwrap();
    let (k, t) = (data.classes.len(), data.features.instances);
    let known = |clip: usize, present: bool| {
        (0..k).find(|class| data.observed[clip * k + class] && (data.targets[clip * k + class] == 1.0) == present)
    };
    let (clip, present, absent) =
        (0..60).find_map(|clip| Some((clip, known(clip, true)?, known(clip, false)?))).expect("a clip with both");
    let table = |rows: &str| {
        let file = root.path().join("times.csv");
        fs::write(&file, format!("sample_key,instrument,start_s,end_s\n{rows}")).unwrap();
        data.clone().with_times(&file, 0.96)
    };
    let (key, names) = (&data.keys[clip], &data.classes);
    let rows = format!("{key},{},0.96,2.88\n{key},{},0,1\nnone,{},0,1\n", names[present], names[absent], names[0]);
    let timed = table(&rows).unwrap();
    let strong = timed.strong.as_ref().unwrap();
    let of = |class: usize| -> Vec<u8> { (0..t).map(|i| strong[(clip * t + i) * k + class]).collect() };
    assert_eq!(of(present)[..4], [instance::ABSENT, instance::PRESENT, instance::PRESENT, instance::ABSENT]);
    assert!(of(absent).iter().all(|code| *code == instance::UNKNOWN), "contradicts the clip's label");
    assert!(timed.warnings.iter().any(|w| w.starts_with("1 label says absent where ")), "{:?}", timed.warnings);
    assert!(
        timed.warnings.iter().any(|w| w.contains("times of 1 clip not in") && w.contains("(none)")),
        "{:?}",
        timed.warnings
    );
    assert_eq!((timed.fingerprint(), data.strong_fingerprint()), (data.fingerprint(), None));
    assert!(table("x,flute,0,1\n").unwrap_err().to_string().contains("has no times of the dataset's clips"));
    assert!(table("x,flute,,\n").unwrap_err().to_string().contains("has no times"));
}
