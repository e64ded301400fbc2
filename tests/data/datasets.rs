//! Datasets: valid ones, errors and their messages; malicious files cause neither panics nor memory use.

use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wmic::core::files::{write_atomic, write_dir_atomic};
use wmic::data::{
    AudioSet, Dataset, FeatureScale, FeatureValues, Features, load_features, npz_note, synth, validation_split,
    write_npz,
};
use wmic::run::config::Config;
use wmic::run::given::Given;
use wmic::run::settings::SETTINGS;
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

// ---- memory use of a piece of code -------------------------------------------------------------------------------

/// Counts the allocated bytes of the current thread, and their peak.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let held = HELD.get() + change;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `f` and returns its result and the peak of its allocated bytes.
fn peak_of<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = f();
    (result, (PEAK.get() - before) as usize)
}

// ---- fixtures ----------------------------------------------------------------------------------

const WIDTH: usize = 128;
const KEYS: [&str; 4] = ["000001_0", "000002_3840", "000003_7680", "000004_0"];

fn npy_with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16 + 1).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.push(b'\n');
    bytes.extend(data);
    bytes
}

fn npy(dtype: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|d| format!("{d}, ")).collect();
    npy_with_header(&format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}"), data)
}

/// Numbers as elements of a numpy dtype.
fn encode(dtype: &str, values: &[f64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|&v| match dtype {
            "|u1" | "|b1" => vec![v as u8],
            "<u2" => (v as u16).to_le_bytes().to_vec(),
            "<i4" => (v as i32).to_le_bytes().to_vec(),
            "<i8" => (v as i64).to_le_bytes().to_vec(),
            ">i8" => (v as i64).to_be_bytes().to_vec(),
            "<f2" => half::f16::from_f64(v).to_le_bytes().to_vec(),
            "<f4" => (v as f32).to_le_bytes().to_vec(),
            "<f8" => v.to_le_bytes().to_vec(),
            other => panic!("no fixture for {other}"),
        })
        .collect()
}

/// Fixed-width unicode as numpy stores it.
fn unicode(keys: &[&str]) -> Vec<u8> {
    let width = keys.iter().map(|k| k.chars().count()).max().unwrap_or(1);
    let units = keys.iter().flat_map(|k| k.chars().chain(std::iter::repeat('\0')).take(width));
    npy(&format!("<U{width}"), &[keys.len()], &units.flat_map(|c| (c as u32).to_le_bytes()).collect::<Vec<_>>())
}

/// An object array of strings in the opcodes of numpy's pickles: protocols 2 and 3 name globals in lines, 4 and 5 by
/// the stack.
fn pickled(protocol: u8, module: &str, keys: &[&str]) -> Vec<u8> {
    let mut out = vec![0x80, protocol];
    let framed = protocol >= 4;
    let string = |out: &mut Vec<u8>, text: &str| {
        if framed {
            out.extend([0x8c, text.len() as u8]);
        } else {
            out.push(b'X');
            out.extend((text.len() as u32).to_le_bytes());
        }
        out.extend(text.as_bytes());
        if framed {
            out.push(0x94);
        }
    };
    let global = |out: &mut Vec<u8>, module: &str, name: &str| {
        if framed {
            string(out, module);
            string(out, name);
            out.extend([0x93, 0x94]);
        } else {
            out.extend(format!("c{module}\n{name}\n").as_bytes());
        }
    };
    if framed {
        out.push(0x95);
        out.extend(1000u64.to_le_bytes());
    }
    global(&mut out, module, "_reconstruct");
    global(&mut out, "numpy", "ndarray");
    out.extend(b"K\x00\x85");
    if protocol == 2 {
        global(&mut out, "_codecs", "encode");
        string(&mut out, "b");
        string(&mut out, "latin1");
        out.extend(b"\x86R");
    } else {
        out.extend(b"C\x01b");
    }
    out.extend(b"\x87R(K\x01K");
    out.extend([keys.len() as u8, 0x85]);
    global(&mut out, "numpy", "dtype");
    string(&mut out, "O8");
    out.extend(b"\x89\x88\x87R(K\x03");
    string(&mut out, "|");
    out.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89](");
    keys.iter().for_each(|key| string(&mut out, key));
    out.extend(b"etb.");
    out
}

fn zipped(members: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in members {
        zip.start_file(format!("{name}.npy"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A small dataset of 4 clips, 2 instances and 3 classes, correct until a test changes a part of it.
#[derive(Clone)]
struct Fixture {
    members: Vec<(&'static str, Vec<u8>)>,
    compression: CompressionMethod,
    /// Every other file, by its path in the dataset.
    files: Vec<(&'static str, Vec<u8>)>,
}

/// X in 0..=255 with both ends in it.
fn x_values() -> Vec<f64> {
    (0..4 * 2 * WIDTH).map(|i| (i * 7 % 256) as f64).collect()
}

impl Fixture {
    fn new() -> Fixture {
        let relevance: Vec<f64> = (0..12).map(|i| if i % 2 == 0 { 0.9 } else { 0.2 }).collect();
        Fixture {
            members: vec![
                ("X", npy("<i8", &[4, 2, WIDTH], &encode("<i8", &x_values()))),
                ("Y_true", npy("<f8", &[4, 3], &encode("<f8", &relevance))),
                ("Y_mask", npy("|b1", &[4, 3], &[1; 12])),
                ("sample_key", npy("|O", &[4], &pickled(3, "numpy.core.multiarray", &KEYS))),
            ],
            compression: CompressionMethod::Stored,
            files: vec![
                ("class-map.json", br#"{"banjo": 1, "accordion": 0, "voice": 2}"#.to_vec()),
                ("partitions/split01_train.csv", b"000002_3840\n000001_0\n".to_vec()),
                ("partitions/split01_test.csv", b"000003_7680\n000004_0\n".to_vec()),
            ],
        }
    }

    /// The same clips as JSON features and a label table.
    fn json() -> Fixture {
        let mut fixture = Fixture::new();
        fixture.members.clear();
        let row = |v: usize| format!("[{}]", vec![v.to_string(); WIDTH].join(","));
        fixture.set("vggish/000/000001_0.json", format!(r#"{{"time": [0.0], "features": [{}]}}"#, row(7)));
        fixture
            .set("vggish/000/000002_3840.json", format!(r#"{{"features": [{}, {}, {}]}}"#, row(1), row(2), row(255)));
        fixture.set("vggish/000003_7680.json", format!(r#"{{"features": [{}, {}]}}"#, row(3), row(4)));
        let table = "sample_key,instrument,relevance,num_responses\n000001_0,banjo,0.5,3\n000001_0,voice,0.49,3\n\
                     000002_3840,banjo,0.1,3\n000003_7680,voice,1,3\n000099_0,voice,1,3\n";
        fixture.set("openmic-2018-aggregated-labels.csv", table);
        fixture.set("partitions/split01_test.csv", "000003_7680\n");
        fixture
    }

    fn set(&mut self, name: &'static str, bytes: impl Into<Vec<u8>>) {
        self.files.retain(|f| f.0 != name);
        self.files.push((name, bytes.into()));
    }

    fn remove(&mut self, name: &str) {
        self.files.retain(|f| f.0 != name);
        self.members.retain(|m| m.0 != name);
    }

    fn member(&mut self, name: &str, bytes: Vec<u8>) {
        self.members.iter_mut().find(|m| m.0 == name).unwrap().1 = bytes;
    }

    /// Changes X at (clip 1, instance 0, value 5).
    fn x_with(&mut self, dtype: &str, value: f64) {
        let mut values = x_values();
        values[2 * WIDTH + 5] = value;
        self.member("X", npy(dtype, &[4, 2, WIDTH], &encode(dtype, &values)));
    }

    fn npz(&self) -> Vec<u8> {
        zipped(&self.members, self.compression)
    }

    fn write(&self, root: &Path) {
        let mut fixture = self.clone();
        if !self.members.is_empty() && !self.files.iter().any(|f| f.0 == "openmic-2018.npz") {
            fixture.set("openmic-2018.npz", self.npz());
        }
        for (name, bytes) in &fixture.files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    fn load(&self) -> wmic::Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        Dataset::load(folder.path())
    }

    /// Of which floats are 8-bit codes.
    fn load_codes(&self) -> wmic::Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        Dataset::load_labelled(folder.path(), &mut Some(FeatureScale::Byte))
    }
}

/// Loads a dataset after `change` and checks that the error is one line with all of `words`.
#[track_caller]
fn rejected(mut fixture: Fixture, change: impl FnOnce(&mut Fixture), words: &[&str]) {
    change(&mut fixture);
    let message = fixture.load().expect_err("this dataset must be rejected").to_string();
    assert!(!message.contains('\n'), "more than one line: {message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

// ---- valid datasets ----------------------------------------------------------------------------

#[test]
fn the_official_layout_loads() {
    let data = Fixture::new().load().unwrap();
    assert_eq!(data.classes, ["accordion", "banjo", "voice"]);
    assert_eq!(data.keys, KEYS);
    assert_eq!((data.features.instances, data.features.width), (2, WIDTH));
    assert_eq!(data.features.lengths, [2; 4]);
    assert_eq!(data.features.values, FeatureValues::U8(x_values().iter().map(|&v| v as u8).collect::<Vec<_>>().into()));
    assert_eq!(data.targets, [1., 0., 1., 0., 1., 0., 1., 0., 1., 0., 1., 0.]);
    assert_eq!(data.observed, [true; 12]);
    assert_eq!(data.train, [1, 0], "in the order of the split file");
    assert_eq!(data.test, [2, 3]);
    assert_eq!(data.warnings, Vec::<String>::new());
}

#[test]
fn every_number_type_gives_the_same_features_compressed_or_not() {
    let expected = Fixture::new().load().unwrap();
    for dtype in ["<i8", "|u1", "<i4", "<u2", "<f4", "<f8", ">i8"] {
        for compression in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let mut fixture = Fixture { compression, ..Fixture::new() };
            fixture.member("X", npy(dtype, &[4, 2, WIDTH], &encode(dtype, &x_values())));
            assert_eq!(fixture.load_codes().unwrap().features, expected.features, "{dtype} {compression}");
        }
    }
    for dtype in ["<i8", "<f4", "|u1"] {
        let mut fixture = Fixture::new();
        fixture.member("Y_mask", npy(dtype, &[4, 3], &encode(dtype, &[1.0; 12])));
        fixture
            .member("Y_true", npy(dtype, &[4, 3], &encode(dtype, &[1., 0., 1., 0., 1., 0., 1., 0., 1., 0., 1., 0.])));
        let data = fixture.load().unwrap();
        assert_eq!((data.observed, &data.targets[..4]), (vec![true; 12], &[1.0, 0.0, 1.0, 0.0][..]), "{dtype}");
    }
}

/// The features of `values`, (1 or 4 clips, 2, 128), of a dtype.
fn features_of(dtype: &str, values: &[f64], scale: Option<FeatureScale>) -> wmic::Result<(Features, Option<String>)> {
    features_and_scale(dtype, values, scale).0
}

/// And the scale that is known then.
fn features_and_scale(
    dtype: &str,
    values: &[f64],
    mut scale: Option<FeatureScale>,
) -> (wmic::Result<(Features, Option<String>)>, Option<FeatureScale>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npz");
    let x = npy(dtype, &[values.len() / (2 * WIDTH), 2, WIDTH], &encode(dtype, values));
    fs::write(&path, zipped(&[("X", x)], CompressionMethod::Stored)).unwrap();
    (load_features(&path, &mut scale).map(|(_, features, remark)| (features, remark)), scale)
}

#[test]
fn a_clip_has_the_same_features_alone_and_beside_loud_ones() {
    let quiet: Vec<f64> = (0..2 * WIDTH).map(|i| (i % 2) as f64).collect();
    let beside = |loud: f64| [quiet.clone(), vec![loud; 6 * WIDTH]].concat();
    let first = |features: Features| features.clip(0);
    for (dtype, scale) in
        [("|u1", None), ("<i8", None), ("<f4", Some(FeatureScale::Byte)), ("<f8", Some(FeatureScale::Byte))]
    {
        let alone = features_of(dtype, &quiet, scale).unwrap();
        let among = features_of(dtype, &beside(255.0), scale).unwrap();
        assert_eq!(first(alone.0), first(among.0), "{dtype}");
        assert_eq!(among.1.is_some(), dtype.contains('f'), "only floats need a word");
    }
    let alone = features_of("<f4", &quiet, Some(FeatureScale::Unit)).unwrap();
    assert_eq!(first(alone.0).data(), quiet.iter().map(|v| *v as f32).collect::<Vec<_>>());
    assert!(alone.1.unwrap().contains("taken as inputs of 0 to 1"));

    // What is recorded is the scale of floats; one that does not apply is not ignored silently.
    assert_eq!(features_and_scale("<f4", &beside(255.0), Some(FeatureScale::Byte)).1, Some(FeatureScale::Byte));
    assert_eq!(features_and_scale("<i8", &beside(255.0), None).1, None);
    let (contradicted, used) = features_and_scale("<i8", &quiet, Some(FeatureScale::Unit));
    assert_eq!(used, None, "integers say nothing about the scale of floats");
    let remark = contradicted.unwrap().1.unwrap();
    assert!(remark.contains("8-bit codes") && remark.contains("not taken as inputs"), "{remark}");

    // Floats of unknown scale are rejected, whatever their values.
    for values in [quiet.clone(), beside(1.01), beside(255.0)] {
        let message = features_of("<f4", &values, None).unwrap_err().to_string();
        assert!(message.contains("has floats") && message.contains("`feature_scale` unit or byte"), "{message}");
    }
    let message = features_of("<f4", &beside(1.5), Some(FeatureScale::Unit)).unwrap_err().to_string();
    assert!(message.contains("has 1.5"), "{message}");
    // With a record of their front end floats are inputs; codes that were made floats are not taken for them.
    let noted = |dtype: &str, values: &[f64], scale| {
        let x = npy(dtype, &[1, 2, WIDTH], &encode(dtype, values));
        let members = [("X", x), ("frontend.json", npy("|u1", &[2], b"{}"))];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features.npz");
        fs::write(&path, zipped(&members, CompressionMethod::Stored)).unwrap();
        load_features(&path, &mut { scale }).map(|(_, features, _)| match features.values {
            FeatureValues::U8(bytes) => bytes.iter().map(|byte| f32::from(*byte) / 255.0).collect::<Vec<f32>>(),
            FeatureValues::F32(values) => values.to_vec(),
            FeatureValues::F16(map) => {
                let halves = map.bytes().chunks(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]));
                halves.map(half::f16::to_f32).collect()
            }
        })
    };
    for dtype in ["<f2", "<f4"] {
        let read = noted(dtype, &vec![0.5; 2 * WIDTH], None).unwrap();
        assert!(read.iter().all(|v| *v == 0.5), "{dtype}");
        for (value, said) in [(255.0, "has 255"), (f64::NAN, "NaN"), (f64::INFINITY, "inf"), (-7.0, "-7")] {
            let mut values = vec![0.5; 2 * WIDTH];
            values[WIDTH + 3] = value;
            let message = noted(dtype, &values, None).unwrap_err().to_string();
            assert!(message.contains(said) && message.contains("features.npz"), "{dtype} {value}: {message}");
            assert!(dtype != "<f2" || message.contains("X.npy of row 0, instance 1"), "{message}");
        }
    }
    let codes = noted("<f4", &vec![51.0; 2 * WIDTH], Some(FeatureScale::Byte)).unwrap();
    assert!(codes.iter().all(|v| *v == 0.2), "codes by the option");
    let json = |text: &str| {
        let mut fixture = Fixture::json();
        let row = |v: &str| format!("{{\"features\": [[{}]]}}", vec![v; WIDTH].join(","));
        fixture.remove("vggish/000/000002_3840.json");
        fixture.set("vggish/000/000001_0.json", row(text));
        fixture.set("vggish/000003_7680.json", row("0"));
        fixture.set("partitions/split01_train.csv", "000001_0\n");
        fixture.load()
    };
    assert_eq!(json("1").unwrap().features.clip(0).data(), [1.0 / 255.0; WIDTH]);
    assert!(json("1.0").unwrap_err().to_string().contains("`feature_scale`"));
}

#[test]
fn a_resumed_run_takes_moved_files_and_a_scale_that_it_does_not_record() {
    let config = Config { features: Some("old.npz".into()), ..Config::of("att", "data").unwrap() };
    let moved = |key: &str, value: &str| {
        let mut given = Given::default();
        given.push(SETTINGS.iter().find(|setting| setting.key == key).unwrap(), value.into());
        given.relocate(&config).map_err(|e| e.to_string())
    };
    assert_eq!(moved("feature_scale", "unit").unwrap().feature_scale, Some(FeatureScale::Unit));
    assert_eq!(moved("features", "/new.npz").unwrap().features, Some("/new.npz".into()));
    assert_eq!(moved("cache", "/cache").unwrap().cache, Some("/cache".into()));
    assert!(moved("times", "/times.csv").unwrap_err().starts_with("the run was started without `times`"));
    assert!(moved("loss", "focal").unwrap_err().starts_with("`loss` cannot be used with `resume`"));
}

#[test]
fn float_features_have_the_given_scale() {
    let float = |values: &[f64], scale| match features_of("<f8", values, scale).unwrap().0.values {
        FeatureValues::F32(values) => values.to_vec(),
        _ => panic!("floats expected"),
    };
    let scaled: Vec<f64> = x_values().iter().map(|v| v / 255.0).collect();
    assert_eq!(
        float(&scaled, Some(FeatureScale::Unit)),
        scaled.iter().map(|&v| v as f32).collect::<Vec<_>>(),
        "0..1 stays"
    );
    let fractional: Vec<f64> = x_values().iter().map(|v| (v - 0.5).max(0.0)).collect();
    for (got, want) in float(&fractional, Some(FeatureScale::Byte)).iter().zip(&fractional) {
        assert!((f64::from(*got) - want / 255.0).abs() < 1e-7, "{got} is not {want} / 255");
    }
}

#[test]
fn keys_load_from_objects_unicode_and_bytes() {
    let mut members: Vec<Vec<u8>> = Vec::new();
    for protocol in 2..=5 {
        for module in ["numpy.core.multiarray", "numpy._core.multiarray"] {
            members.push(npy("|O", &[4], &pickled(protocol, module, &KEYS)));
        }
    }
    members.push(unicode(&KEYS));
    let bytes: Vec<u8> = KEYS.iter().flat_map(|k| k.bytes().chain(std::iter::repeat(0)).take(16)).collect();
    members.push(npy("|S16", &[4], &bytes));
    for member in members {
        let mut fixture = Fixture::new();
        fixture.member("sample_key", member);
        assert_eq!(fixture.load().unwrap().keys, KEYS);
    }
}

#[test]
fn split_files_load_under_all_their_names() {
    let (train, test) = ("sample_key\r\n000002_3840\r\n\r\n000001_0\r\n", "\u{feff}sample_key\n000003_7680\n000004_0");
    for (train_name, test_name) in [
        ("partitions/split01_train.csv", "partitions/split01_test.csv"),
        ("partitions/train01.txt", "partitions/test01.txt"),
        ("split01_train.csv", "split01_test.csv"),
        ("train01.txt", "test01.txt"),
    ] {
        let mut fixture = Fixture::new();
        fixture.remove("partitions/split01_train.csv");
        fixture.remove("partitions/split01_test.csv");
        fixture.set(train_name, train);
        fixture.set(test_name, test);
        let data = fixture.load().unwrap();
        assert_eq!((data.train, data.test), (vec![1, 0], vec![2, 3]), "{train_name}");
    }
}

#[test]
fn the_parent_of_the_dataset_folder_is_found_too() {
    let folder = tempfile::tempdir().unwrap();
    Fixture::new().write(&folder.path().join("openmic-2018"));
    assert_eq!(Dataset::load(folder.path()).unwrap().path, folder.path().join("openmic-2018"));
    assert_eq!(load_features(folder.path(), &mut None).unwrap().0, KEYS);
}

#[test]
fn json_features_and_a_label_table_replace_the_npz() {
    let data = Fixture::json().load().unwrap();
    assert_eq!(data.keys, KEYS[..3]);
    assert_eq!((data.features.instances, &data.features.lengths[..]), (3, &[1, 3, 2][..]));
    let FeatureValues::U8(values) = &data.features.values else { panic!("bytes expected") };
    let levels: Vec<u8> = values.chunks(WIDTH).map(|row| row[WIDTH - 1]).collect();
    assert_eq!(levels, [7, 0, 0, 1, 2, 255, 3, 4, 0], "shorter clips are padded with zeros");
    assert_eq!(data.targets, [0., 1., 0., 0., 0., 0., 0., 0., 1.]);
    assert_eq!(data.observed, [false, true, true, false, true, false, false, false, true]);
    assert_eq!(data.warnings[0], "1 label belongs to a clip without features");
}

#[test]
fn features_load_without_labels_or_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("features.npz");
    fs::write(&path, zipped(&Fixture::new().members[..1], CompressionMethod::Deflated)).unwrap();
    let (keys, features, _) = load_features(&path, &mut None).unwrap();
    assert_eq!(keys, ["0", "1", "2", "3"]);
    assert_eq!(features, Fixture::new().load().unwrap().features);

    fs::write(&path, Fixture::new().npz()).unwrap();
    assert_eq!(load_features(&path, &mut None).unwrap().0, KEYS);

    Fixture::json().write(&folder.path().join("set"));
    assert_eq!(load_features(folder.path().join("set"), &mut None).unwrap().0, KEYS[..3]);
    let message = load_features(folder.path().join("none"), &mut None).unwrap_err().to_string();
    assert!(
        message.contains("does not exist; an npz file, or a folder with openmic-2018.npz or vggish/ is expected"),
        "{message}"
    );
}

#[test]
fn oddities_are_warnings_with_counts() {
    let mut fixture = Fixture::new();
    fixture.set("partitions/split01_train.csv", "000001_0\nx1\nx2\nx3\nx4\n");
    fixture.member("Y_true", npy("<f8", &[4, 3], &encode("<f8", &[1., 0., 0., 0., 0., 0., 1., 0., 0., 0., 1., 0.])));
    fixture.member("Y_mask", npy("|b1", &[4, 3], &[1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]));
    let data = fixture.load().unwrap();
    assert_eq!(data.train, [0]);
    assert_eq!(
        data.warnings,
        [
            "4 keys of the train split have no features (x1, x2, x3, ...)",
            "1 clip is in no split and is unused (000002_3840)",
            "2 classes have no positive in the train split (banjo, voice)",
            "2 classes have no negative in the train split (accordion, voice)",
            "1 class has no positive in the test split (voice)",
        ]
    );
}

// ---- errors --------------------------------------------------------------------------------------------------------

#[test]
fn folders_that_are_not_datasets_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| Dataset::load(path).unwrap_err().to_string();
    let missing = message(&folder.path().join("none"));
    assert!(
        missing.contains("none: does not exist; a folder in the layout of OpenMIC-2018 is expected: class-map.json"),
        "{missing}"
    );
    let empty = message(folder.path());
    assert!(empty.contains("is not a dataset: it has no class-map.json; a folder in the layout"), "{empty}");
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(message(&file).contains("is not a folder"), "{}", message(&file));
    rejected(Fixture::new(), |f| f.members.clear(), &["has neither openmic-2018.npz nor vggish/"]);
    rejected(
        Fixture::new(),
        |f| f.remove("partitions/split01_test.csv"),
        &["has no test split; partitions/split01_test.csv"],
    );
}

#[test]
fn damaged_archives_are_rejected() {
    let npz = "openmic-2018.npz";
    rejected(Fixture::new(), |f| f.set(npz, "PK, or not"), &["openmic-2018.npz: is not a valid npz archive"]);
    rejected(Fixture::new(), |f| f.set(npz, ""), &["is not a valid npz archive"]);
    let whole = Fixture::new().npz();
    rejected(Fixture::new(), |f| f.set(npz, &whole[..whole.len() / 2]), &["is not a valid npz archive", "download"]);
    let mut flipped = whole.clone();
    flipped[2000] ^= 1; // within the values of X: only the checksum can tell
    rejected(Fixture::new(), |f| f.set(npz, flipped), &["X.npy is damaged or truncated", "checksum"]);
    for name in ["X", "Y_true", "Y_mask", "sample_key"] {
        rejected(Fixture::new(), |f| f.remove(name), &[&format!("has no array {name} (it has ")]);
        rejected(Fixture::new(), |f| f.member(name, vec![]), &[name, "is not a valid npy array"]);
        rejected(
            Fixture::new(),
            |f| f.member(name, vec![b'x'; 999]),
            &[name, "does not start with the npy magic string"],
        );
    }
    let short = encode("<i8", &x_values()[..1000]);
    rejected(
        Fixture::new(),
        |f| f.member("X", npy("<i8", &[4, 2, WIDTH], &short)),
        &["X.npy has a header for 8192 bytes", "8000 bytes of data"],
    );
}

#[test]
fn features_of_the_wrong_kind_are_rejected() {
    let x = |dtype: &'static str, shape: &'static [usize]| {
        move |f: &mut Fixture| f.member("X", npy(dtype, shape, &encode(dtype, &vec![1.0; shape.iter().product()])))
    };
    rejected(Fixture::new(), x("|u1", &[4, 256]), &["X.npy has shape [4, 256]; (clips, instances, 128) is expected"]);
    rejected(Fixture::new(), x("|u1", &[4, 2, 64]), &["X.npy has shape [4, 2, 64]"]);
    rejected(Fixture::new(), x("|u1", &[3, 2, 128]), &["X.npy has 3 clips, but there are 4 keys"]);
    rejected(Fixture::new(), x("|u1", &[4, 0, 128]), &["X.npy has 4 clips of 0 instances"]);
    let clip = "clip \"000002_3840\" (row 1), instance 0, value 5";
    rejected(Fixture::new(), |f| f.x_with("<f4", f64::NAN), &[clip, "NaN is outside the feature range 0..255"]);
    rejected(Fixture::new(), |f| f.x_with("<f8", f64::INFINITY), &[clip, "inf is outside"]);
    rejected(Fixture::new(), |f| f.x_with("<f8", 255.5), &[clip, "255.5 is outside"]);
    rejected(Fixture::new(), |f| f.x_with("<i8", 256.0), &[clip, "256 is outside"]);
    rejected(Fixture::new(), |f| f.x_with("<i4", -1.0), &[clip, "-1 is outside"]);
    let complex = npy("<c8", &[4, 2, WIDTH], &[0; 4 * 2 * WIDTH * 8]);
    rejected(Fixture::new(), |f| f.member("X", complex), &["X.npy has dtype <c8"]);
    let fortran = "{'descr': '|u1', 'fortran_order': True, 'shape': (4, 2, 128), }";
    let fortran = npy_with_header(fortran, &[0; 1024]);
    rejected(
        Fixture::new(),
        |f| f.member("X", fortran),
        &["X.npy is in Fortran order; save it again through np.ascontiguousarray"],
    );
    let record = "{'descr': [('a', '<i8')], 'fortran_order': False, 'shape': (4, 2, 128), }";
    rejected(Fixture::new(), |f| f.member("X", npy_with_header(record, &[0; 8192])), &["X.npy is a structured array"]);
}

#[test]
fn labels_that_do_not_fit_are_rejected() {
    let zeros = |rows: usize, columns: usize| npy("|u1", &[rows, columns], &vec![0; rows * columns]);
    for name in ["Y_true", "Y_mask"] {
        let words = [name, "has shape [4, 2], but there are 4 clips and the class map has 3 classes"];
        rejected(Fixture::new(), |f| f.member(name, zeros(4, 2)), &words);
        rejected(Fixture::new(), |f| f.member(name, zeros(5, 3)), &[name, "has shape [5, 3]"]);
    }
    rejected(Fixture::new(), |f| f.member("Y_mask", zeros(4, 3)), &["the train split has no known label"]);
    let relevance = |value: f64| {
        let mut values = vec![0.0; 12];
        values[7] = value;
        move |f: &mut Fixture| f.member("Y_true", npy("<f8", &[4, 3], &encode("<f8", &values)))
    };
    rejected(
        Fixture::new(),
        relevance(2.0),
        &["Y_true.npy of clip \"000003_7680\" (row 2), class 1: 2 is not in 0..1"],
    );
    rejected(Fixture::new(), relevance(f64::NAN), &["clip \"000003_7680\" (row 2) is NaN where it counts as observed"]);
    let mask = npy("|u1", &[4, 3], &[1, 1, 1, 1, 7, 1, 1, 1, 1, 1, 1, 1]);
    rejected(
        Fixture::new(),
        |f| f.member("Y_mask", mask),
        &["Y_mask.npy of clip \"000002_3840\" (row 1), class 1: 7 is not 0 or 1"],
    );
}

#[test]
fn class_maps_that_are_not_bijections_are_rejected() {
    for (map, words) in [
        (r#"{"a": 0, "b": 0, "c": 1}"#, "has index 0; the 3 classes need the indices 0 to 2, each once"),
        (r#"{"a": 0, "b": 1, "c": 3}"#, "class \"c\" has index 3"),
        ("{}", "has no classes"),
        ("{\"a\": 0,\n\"b\": -1}", "class-map.json:2: is not a class map"),
        ("[\"a\"]", "class-map.json:1: is not a class map"),
    ] {
        rejected(Fixture::new(), |f| f.set("class-map.json", map), &["class-map.json", words]);
    }
}

#[test]
fn inconsistent_splits_are_rejected() {
    let (train, test) = ("partitions/split01_train.csv", "partitions/split01_test.csv");
    let both = "split01_test.csv:2: key 000001_0 is in the train split as well";
    rejected(Fixture::new(), |f| f.set(test, "000003_7680\n000001_0\n"), &[both]);
    rejected(
        Fixture::new(),
        |f| f.set(train, "000001_0\n\n000001_0\n"),
        &["split01_train.csv:3: key 000001_0 occurs twice"],
    );
    rejected(
        Fixture::new(),
        |f| f.set(test, "a\nb\n"),
        &["split01_test.csv: the test split is empty: none of its 2 keys has features"],
    );
    rejected(Fixture::new(), |f| f.set(train, ""), &["the train split is empty"]);
    rejected(
        Fixture::new(),
        |f| f.set(train, "a,b\n"),
        &["split01_train.csv:1: one clip key per line is expected, not \"a,b\""],
    );
    rejected(Fixture::new(), |f| f.set(train, b"a\n\xff\n".to_vec()), &["split01_train.csv:2: is not UTF-8 text"]);
}

#[test]
fn keys_that_are_not_distinct_plain_strings_are_rejected() {
    let keys = |f: &mut Fixture, keys: &[&str]| f.member("sample_key", unicode(keys));
    rejected(Fixture::new(), |f| keys(f, &["a", "b", "a", "c"]), &["the key \"a\" occurs twice (row 2)"]);
    rejected(Fixture::new(), |f| keys(f, &["a", "", "b", "c"]), &["the key of clip 1 is empty"]);
    let numbers = npy("<i8", &[4], &[0; 32]);
    rejected(
        Fixture::new(),
        |f| f.member("sample_key", numbers),
        &["sample_key.npy has dtype <i8; strings are expected"],
    );
    let object = |pickle: &[u8]| npy("|O", &[4], pickle);
    let reason = |pickle: &[u8], words: &str| {
        let expected = ["sample_key.npy is a pickle that is not accepted", words, "only plain strings are"];
        rejected(Fixture::new(), |f| f.member("sample_key", object(pickle)), &expected);
    };
    reason(b"\x80\x03cposix\nsystem\nX\x02\0\0\0id\x85R.", "it names the global posix.system");
    reason(b"\x80\x04\x8c\x08builtins\x94\x8c\x04eval\x94\x93\x8c\x011\x85R.", "it names the global builtins.eval");
    reason(b"\x80\x02(S'id'\nios\nsystem\n.", "pickle opcode 0x53");
    reason(b"\x80\x02(ios\nsystem\n.", "pickle opcode 0x69");
    reason(b"\x80\x03](X\x01\0\0\0aK\x01e.", "it has something other than plain strings");
    reason(b"\x80\x03]2a.", "pickle opcode 0x32");
    reason(b"\x80\x03K\x01.", "it has no list of strings");
    reason(&pickled(3, "numpy.core.multiarray", &KEYS)[..90], "it ends too early");
    reason(b"", "it ends too early");
    let three = object(&pickled(3, "numpy.core.multiarray", &KEYS[..3]));
    rejected(
        Fixture::new(),
        |f| f.member("sample_key", three),
        &["sample_key.npy has 3 strings, but its header says 4"],
    );
}

#[test]
fn malformed_json_and_csv_are_rejected_with_their_line() {
    let json = |text: &str, words: &[&str]| {
        rejected(Fixture::json(), |f| f.set("vggish/000/000001_0.json", text), &[&["000001_0.json"], words].concat());
    };
    json("{\"features\": [\n[1, 2,\n}", &["000001_0.json:3: is not a feature file"]);
    json("{}", &["missing field `features`"]);
    json(r#"{"features": [[1, 2]]}"#, &["instance 0 has 2 values instead of 128"]);
    json(r#"{"features": []}"#, &["has no instances"]);
    json(&"[".repeat(100_000), &["is not a feature file"]);
    let row = vec!["256"; WIDTH].join(",");
    json(&format!(r#"{{"features": [[{row}]]}}"#), &["instance 0, value 0: 256 is outside the feature range"]);
    rejected(Fixture::json(), |f| f.set("vggish/001/000001_0.json", "{}"), &["is the same clip as"]);

    let table = "openmic-2018-aggregated-labels.csv";
    let csv = |text: &str, words: &str| rejected(Fixture::json(), |f| f.set(table, text), &[words]);
    csv("sample_key,instrument\n", "labels.csv:1: has no column relevance");
    csv("sample_key,instrument,relevance\n000001_0,banjo\n", "labels.csv:2: is not a label table");
    csv(
        "sample_key,instrument,relevance\n000001_0,banjo,1\n000001_0,kazoo,1\n",
        "labels.csv:3: instrument \"kazoo\" is not in the class map",
    );
    csv(
        "sample_key,instrument,relevance\n000001_0,banjo,yes\n",
        "labels.csv:2: relevance \"yes\" is not a number in 0..1",
    );
    csv("sample_key,instrument,relevance\n000001_0,banjo,NaN\n", "relevance \"NaN\" is not a number in 0..1");
    csv(
        "sample_key,instrument,relevance\n000001_0,banjo,1\n000001_0,banjo,0\n",
        "labels.csv:3: banjo of clip 000001_0 is listed twice",
    );
}

// ---- labels and features from different sources ------------------------------------------------

/// Features of one instance with the number of each clip.
fn numbered(numbers: &[u8]) -> Features {
    let values: Vec<u8> = numbers.iter().flat_map(|&n| [n; WIDTH]).collect();
    Features {
        values: FeatureValues::U8(values.into()),
        instances: 1,
        width: WIDTH,
        lengths: vec![1; numbers.len()],
        spectrum: None,
    }
}

fn strings(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|k| k.to_string()).collect()
}

#[test]
fn splits_may_be_empty_where_nothing_is_trained() {
    let mut fixture = Fixture::new();
    fixture.set("partitions/split01_test.csv", "a\nb\n");
    let lenient = |fixture: &Fixture| {
        let folder = tempfile::tempdir().unwrap();
        fixture.write(folder.path());
        Dataset::load_labelled(folder.path(), &mut None)
    };
    let data = lenient(&fixture).unwrap();
    assert_eq!((&data.train[..], &data.test[..]), (&[1, 0][..], &[][..]));
    assert!(
        data.warnings[0].ends_with("the test split is empty: none of its 2 keys has features"),
        "{:?}",
        data.warnings
    );
    assert!(!data.warnings.iter().any(|w| w.contains("in the test split")), "{:?}", data.warnings);
    let message = data.check_splits().unwrap_err().to_string();
    assert!(message.contains("the test split has no clip; it cannot be used"), "{message}");

    fixture.remove("partitions/split01_test.csv");
    assert!(lenient(&fixture).unwrap().test.is_empty());
    fixture.member("Y_mask", npy("|b1", &[4, 3], &[0; 12]));
    let message = lenient(&fixture).unwrap_err().to_string();
    assert!(message.contains("has no known label"), "{message}");
    let whole = Fixture::new();
    assert_eq!(lenient(&whole).unwrap().check_splits().ok(), Some(()));
}

#[test]
fn features_of_another_file_are_joined_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let (set, npz) = (folder.path().join("set"), folder.path().join("features.npz"));
    let mut fixture = Fixture::json();
    fixture.files.retain(|f| !f.0.starts_with("vggish"));
    fixture.write(&set);
    // In another order, one clip missing, one that nobody labelled.
    let keys = strings(&["000003_7680", "new", "000001_0"]);
    write_npz(&npz, &keys, &numbered(&[3, 9, 1]), &[128], None, None).unwrap();
    let other = folder.path().join("other.npz");
    write_npz(&other, &strings(&["a", "b", "c"]), &numbered(&[3, 9, 1]), &[128], None, None).unwrap();
    let message = Dataset::load_with(&set, &other, &mut None).unwrap_err().to_string();
    assert!(message.contains("other.npz: has features of other clips: none has a label in "), "{message}");
    let data = Dataset::load_with(&set, &npz, &mut None).unwrap();
    assert_eq!((&data.keys, &data.features), (&keys, &numbered(&[3, 9, 1])));
    assert_eq!(data.targets, [0., 0., 1., 0., 0., 0., 0., 1., 0.]);
    assert_eq!(data.observed, [false, false, true, false, false, false, false, true, true]);
    assert_eq!((&data.train[..], &data.test[..]), (&[2][..], &[0][..]));
    assert_eq!(
        data.warnings[..3],
        [
            "2 labels belong to clips without features",
            "1 key of the train split has no features (000002_3840)",
            "1 clip is in no split and is unused (new)"
        ]
    );

    // Labels of the folder's own npz.
    let set = folder.path().join("official");
    Fixture::new().write(&set);
    let data = Dataset::load_with(&set, &npz, &mut None).unwrap();
    assert_eq!(data.targets, [1., 0., 1., 0., 0., 0., 1., 0., 1.]);
    assert_eq!(data.observed, [true, true, true, false, false, false, true, true, true]);
    assert_eq!(data.warnings[0], "2 clips have no features and are skipped (000002_3840, 000004_0)");

    // Labels of the given npz, where the folder has none.
    fs::remove_file(set.join("openmic-2018.npz")).unwrap();
    let message = Dataset::load_with(&set, &npz, &mut None).unwrap_err().to_string();
    assert!(message.contains("features.npz: has no array Y_mask"), "{message}");
    let (targets, observed) = (vec![0., 1., 0., 0., 0., 0., 1., 0., 0.], vec![true; 9]);
    write_npz(&npz, &keys, &numbered(&[3, 9, 1]), &[128], Some((&targets, &observed)), None).unwrap();
    let data = Dataset::load_with(&set, &npz, &mut None).unwrap();
    assert_eq!((data.targets, data.observed), (targets, observed));

    fs::write(&npz, zipped(&Fixture::new().members[..1], CompressionMethod::Stored)).unwrap();
    let message = Dataset::load_with(&set, &npz, &mut None).unwrap_err().to_string();
    assert!(message.contains("has no array sample_key, so its features cannot be joined"), "{message}");
}

#[test]
fn written_archives_come_back_and_are_numpys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    let keys = strings(&["violin/\u{e9}tude 1.wav", "b"]);
    let bytes: Vec<u8> =
        (0..6 * WIDTH).map(|i| if (1..3).contains(&(i / WIDTH)) { 0 } else { (i % 251) as u8 }).collect();
    let features = Features {
        values: FeatureValues::U8(bytes.into()),
        instances: 3,
        width: WIDTH,
        lengths: vec![1, 3],
        spectrum: None,
    };
    let (targets, observed) = ([1., 0., 0., 1.], [true, true, false, true]);
    let note = "{\"front\": \"end \u{266b}\"}";
    write_npz(&path, &keys, &features, &[128], Some((&targets, &observed)), Some(note)).unwrap();
    assert_eq!(load_features(&path, &mut None).unwrap(), (keys.clone(), features.clone(), None), "lengths included");
    assert_eq!(npz_note(&path).unwrap().as_deref(), Some(note));
    let first = fs::read(&path).unwrap();
    write_npz(&path, &keys, &features, &[128], Some((&targets, &observed)), Some(note)).unwrap();
    assert!(first == fs::read(&path).unwrap(), "the same bytes again");

    let script = "import sys, numpy as np\n\
        with np.load(sys.argv[1], allow_pickle=False) as z:\n\
        \x20   for k in sorted(z.files): print(k, z[k].dtype, z[k].shape, z[k].ravel()[-2:].tolist())";
    // WMIC_PYTHON names a Python with numpy, where the usual one has none.
    let python = std::env::var("WMIC_PYTHON").unwrap_or_else(|_| "python3".into());
    let numpy = std::process::Command::new(python).args(["-c", script]).arg(&path).output();
    match numpy.map(|out| (out.status.success(), String::from_utf8(out.stdout).unwrap())) {
        Ok((true, text)) => assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "X int64 (2, 3, 128) [13, 14]",
                "Y_mask bool (2, 2) [False, True]",
                "Y_true float64 (2, 2) [0.5, 1.0]",
                "frontend.json uint8 (20,) [34, 125]",
                "lengths int64 (2,) [1, 3]",
                "sample_key <U18 (2,) ['violin/\u{e9}tude 1.wav', 'b']",
            ]
        ),
        _ => println!("skipped: no Python with numpy"),
    }

    let floats: Vec<f32> = (0..2 * WIDTH).map(|i| i as f32 / 256.0).collect();
    let features = Features {
        values: FeatureValues::F32(floats.into()),
        instances: 1,
        width: WIDTH,
        lengths: vec![1; 2],
        spectrum: None,
    };
    write_npz(&path, &keys, &features, &[128], None, None).unwrap();
    let (known, read, remark) = load_features(&path, &mut Some(FeatureScale::Unit)).unwrap();
    assert_eq!((known, read, remark.is_some()), (keys.clone(), features.clone(), true));
    assert_eq!(npz_note(&path).unwrap(), None);
    let long = "x".repeat(1025);
    for bad in [&["a"][..], &["a", ""], &["a", &long]] {
        assert!(matches!(write_npz(&path, &strings(bad), &features, &[128], None, None), Err(wmic::Error::Usage(_))));
    }

    for (member, words) in [
        (npy("<i8", &[3], &encode("<i8", &[1., 1., 1.])), "lengths.npy has shape [3], but X has 4 clips"),
        (npy("<i8", &[4], &encode("<i8", &[1., 0., 1., 1.])), "lengths.npy of row 1: 0 is not a length of 1 to 2"),
        (npy("<f8", &[4], &encode("<f8", &[1., 2., 1.5, 1.])), "row 2: 1.5 is not a length"),
    ] {
        rejected(Fixture::new(), |f| f.members.push(("lengths", member)), &[words]);
    }
}

// ---- audio files -------------------------------------------------------------------------------

fn touch(root: &Path, names: &[&str]) {
    for path in names.iter().map(|name| root.join(name)) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
}

/// A label table and splits for audio files.
fn audio_fixture() -> Fixture {
    let mut fixture = Fixture::json();
    fixture.files.retain(|f| !f.0.starts_with("vggish"));
    for name in ["audio/000/000001_0.ogg", "audio/000/000002_3840.flac", "audio/000003_7680.mp3", "audio/README.txt"] {
        fixture.set(name, "");
    }
    fixture
}

#[test]
fn audio_files_in_the_official_layout_are_a_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("openmic-2018");
    audio_fixture().write(&root);
    let set = AudioSet::load(folder.path()).unwrap();
    assert_eq!((&set.path, &set.keys[..]), (&root, &strings(&KEYS[..3])[..]));
    let expected = ["000/000001_0.ogg", "000/000002_3840.flac", "000003_7680.mp3"].map(|f| root.join("audio").join(f));
    assert_eq!(set.files, expected);
    assert_eq!(set.observed, [false, true, true, false, true, false, false, false, true]);
    assert_eq!((&set.train[..], &set.test[..]), (&[1, 0][..], &[2][..]));
    assert_eq!(set.warnings, ["1 label belongs to a clip without audio"]);
    set.check_splits().unwrap();

    // The second file could not be decoded, and the third was ready first.
    let data = set.with_features(numbered(&[3, 1]), &[2, 0]).unwrap();
    assert_eq!(
        (&data.keys[..], &data.train[..], &data.test[..]),
        (&strings(&[KEYS[2], KEYS[0]])[..], &[1][..], &[0][..])
    );
    assert_eq!((&data.targets[..], data.classes.len()), (&[0., 0., 1., 0., 1., 0.][..], 3));
    assert_eq!(data.warnings[..2], [set.warnings[0].as_str(), "1 clip has no features and is skipped (000002_3840)"]);
    assert!(set.with_features(numbered(&[3]), &[2]).unwrap().check_splits().is_err(), "no training clip is left");
    for rows in [&[0, 0][..], &[0, 3], &[0]] {
        assert!(matches!(set.with_features(numbered(&[1, 2]), rows), Err(wmic::Error::Usage(_))), "{rows:?}");
    }
}

#[test]
fn inconsistent_audio_datasets_are_rejected() {
    let rejected = |change: &dyn Fn(&mut Fixture), words: &str| {
        let (folder, mut fixture) = (tempfile::tempdir().unwrap(), audio_fixture());
        change(&mut fixture);
        fixture.write(folder.path());
        let message = AudioSet::load(folder.path()).unwrap_err().to_string();
        assert!(message.contains(words) && !message.contains('\n'), "{words:?} is not in: {message}");
    };
    rejected(&|f| f.set("audio/001/000001_0.mp3", ""), "000001_0.mp3: is the same clip as");
    rejected(
        &|f| f.set("class-map.json", r#"{"banjo": 0, "kazoo": 1}"#),
        "instrument \"voice\" is not in the class map",
    );
    rejected(
        &|f| f.remove("openmic-2018-aggregated-labels.csv"),
        "has no audio/ with openmic-2018-aggregated-labels.csv",
    );
    rejected(&|f| f.files.retain(|f| !f.0.starts_with("audio")), "has no audio/ with");
    rejected(&|f| f.files.retain(|f| !f.0.starts_with("audio/0")), "audio: contains no audio files");
    rejected(
        &|f| f.set("openmic-2018-aggregated-labels.csv", "sample_key,instrument,relevance\n"),
        "has no known label",
    );
    rejected(&|f| f.set("partitions/split01_test.csv", "000001_0\n"), "key 000001_0 is in the train split as well");

    let (folder, mut fixture) = (tempfile::tempdir().unwrap(), audio_fixture());
    fixture.set("partitions/split01_test.csv", "x\n");
    fixture.write(folder.path());
    let set = AudioSet::load(folder.path()).unwrap();
    assert!(set.warnings[1].contains("the test split is empty: none of its 1 keys has audio"), "{:?}", set.warnings);
    assert!(set.check_splits().unwrap_err().to_string().contains("the test split has no clip"));
    let message = AudioSet::load(folder.path().join("none")).unwrap_err().to_string();
    assert!(message.contains("none: does not exist"), "{message}");
}

#[test]
fn a_folder_per_class_is_a_set() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    touch(root, &["flute/b.wav", "flute/deep/a.mp3", "oboe/b.wav", "tuba/notes.txt", "loose.wav", ".git/x.wav"]);
    let many: Vec<String> = (0..26).map(|i| format!("cello/{i:02}.ogg")).collect();
    touch(root, &many.iter().map(|m| m.as_str()).collect::<Vec<_>>());
    let set = AudioSet::load(root).unwrap();
    assert_eq!(set.classes, ["cello", "flute", "oboe"]);
    assert_eq!(set.keys[..26], many);
    assert_eq!(set.keys[26..], strings(&["flute/b.wav", "flute/deep/a.mp3", "oboe/b.wav"]));
    assert_eq!(set.files, set.keys.iter().map(|key| root.join(key)).collect::<Vec<PathBuf>>());
    assert_eq!(set.observed, vec![true; 29 * 3]);
    assert_eq!((&set.targets[..3], &set.targets[28 * 3..]), (&[1., 0., 0.][..], &[0., 0., 1.][..]));
    let of = |split: &[u32], class: &str| split.iter().filter(|&&i| set.keys[i as usize].starts_with(class)).count();
    assert_eq!(["cello", "flute", "oboe"].map(|c| (of(&set.train, c), of(&set.test, c))), [(23, 3), (1, 1), (1, 0)]);
    assert_eq!(
        set.warnings,
        ["folder tuba contains no audio files and is not a class", "1 audio file is in no class folder and is unused"]
    );
    // Always the same, whatever other classes there are.
    assert_eq!(AudioSet::load(root).unwrap(), set);
    // Named as in tables of labels; each class has one folder, and a name.
    fs::rename(root.join("oboe"), root.join("Oboe d-Amore")).unwrap();
    assert_eq!(AudioSet::load(root).unwrap().classes, ["cello", "flute", "oboe_d_amore"]);
    // Where case counts in names of files.
    let twice = cfg!(target_os = "linux").then_some(("Flute", "two folders of the class flute (Flute, flute); put"));
    for (name, why) in twice.into_iter().chain([("a;b", "semicolon")]) {
        fs::rename(root.join("Oboe d-Amore"), root.join(name)).unwrap();
        let message = AudioSet::load(root).unwrap_err().to_string();
        assert!(message.contains(why), "{message}");
        fs::rename(root.join(name), root.join("Oboe d-Amore")).unwrap();
    }
    fs::rename(root.join("Oboe d-Amore"), root.join("oboe")).unwrap();
    fs::remove_dir_all(root.join("oboe")).unwrap();
    let fewer = AudioSet::load(root).unwrap();
    assert_eq!(fewer.test, set.test);
    fs::remove_dir_all(root.join("flute")).unwrap();
    let message = AudioSet::load(root).unwrap_err().to_string();
    assert!(
        message.contains("has audio files in one folder only (cello); a folder for each of two or more"),
        "{message}"
    );
    fs::remove_dir_all(root.join("cello")).unwrap();
    assert!(AudioSet::load(root).unwrap_err().to_string().contains("has no folder with audio files"));
}

#[test]
fn real_audio_files_are_datasets() {
    let Some(root) = std::env::var_os("WMIC_DATA").map(PathBuf::from) else {
        println!("skipped: WMIC_DATA does not name the folder with openmic-gm, openmic-one and orchestra");
        return;
    };
    let set = AudioSet::load(root.join("openmic-gm")).unwrap();
    assert_eq!((set.keys.len(), set.train.len(), set.test.len(), set.classes.len()), (300, 240, 60, 20));
    set.check_splits().unwrap();
    let one = AudioSet::load(root.join("openmic-one")).unwrap();
    assert_eq!((one.keys.len(), one.train.len(), one.test.len()), (1, 1, 0));
    let orchestra = AudioSet::load(root.join("orchestra")).unwrap();
    assert_eq!((orchestra.keys.len(), orchestra.classes.len()), (675, 15));
    assert_eq!((orchestra.train.len(), orchestra.test.len()), (600, 75), "40 and 5 of each");
    for set in [set, one, orchestra] {
        println!("{}: {:?}", set.path.display(), set.warnings);
    }
}

// ---- limits ------------------------------------------------------------------------------------

#[test]
fn zip_bombs_and_absurd_shapes_cost_no_memory() {
    let deflated = CompressionMethod::Deflated;
    let mut bombs = Vec::new();
    let mut fixture = Fixture { compression: deflated, ..Fixture::new() };
    // 100 MB of zeros behind the header of a small array, then behind a header that agrees with them.
    fixture.member("X", npy("|u1", &[4, 2, WIDTH], &vec![0; 100_000_000]));
    bombs.push((fixture.npz(), "this looks like a zip bomb"));
    let rows = 100_000_000 / WIDTH;
    bombs.push((
        zipped(&[("X", npy("|u1", &[1, rows, WIDTH], &vec![0; rows * WIDTH]))], deflated),
        "this looks like a zip bomb",
    ));
    bombs.push((
        zipped(&[("sample_key", npy("|O", &[4], &vec![b'('; 1_000_000]))], deflated),
        "has 1000000 bytes for 4 strings",
    ));
    for shape in [
        &[usize::MAX, 2, WIDTH][..],
        &[1 << 40, 1 << 40, WIDTH],
        &[4, 99_999_999_999, WIDTH],
        &[1_000_000_000, 10, WIDTH],
    ] {
        bombs.push((zipped(&[("X", npy("<i8", shape, &[0; 64]))], deflated), "X.npy has a"));
    }
    let hex = "{'descr': '<i8', 'fortran_order': False, 'shape': (0xffffffffffffffff, 0xffffffffffffffff, 128), }";
    bombs.push((zipped(&[("X", npy_with_header(hex, &[]))], deflated), "impossible shape"));
    bombs.push((zipped(&[("X", npy_with_header(&"(".repeat(4000), &[]))], deflated), "structured array"));
    let mut long_header = b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec();
    long_header.extend([b' '; 100]);
    bombs.push((zipped(&[("X", long_header)], deflated), "does not start with the npy magic string"));

    let folder = tempfile::tempdir().unwrap();
    for (bytes, words) in bombs {
        let path = folder.path().join("bomb.npz");
        fs::write(&path, bytes).unwrap();
        let (result, peak) = peak_of(|| load_features(&path, &mut None));
        let message = result.unwrap_err().to_string();
        assert!(message.contains(words), "{words:?} is not in: {message}");
        assert!(peak < 4 << 20, "{peak} bytes for: {message}");
    }
}

#[test]
fn twenty_thousand_clips_of_int64_load_within_seconds_and_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set");
    synth(&path, 20_000, 1).unwrap();
    let start = Instant::now();
    let (data, peak) = peak_of(|| Dataset::load(&path).unwrap());
    let elapsed = start.elapsed();
    println!("20 000 clips: {elapsed:.2?}, {:.0} MB at the peak", peak as f64 / 1e6);
    assert_eq!((data.keys.len(), data.train.len(), data.test.len()), (20_000, 15_000, 5_000));
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    assert!(peak < 100_000_000, "{peak} bytes; X alone takes 25.6 MB as bytes and 204.8 MB in the file");
}

// ---- splits, synthetic data, files -------------------------------------------------------------

#[test]
fn validation_splits_are_deterministic_and_of_one_size() {
    let train: Vec<u32> = (0..200).rev().collect();
    let (rest, validation) = validation_split(&train, 0.15, 3).unwrap();
    assert_eq!((rest.len(), validation.len()), (170, 30));
    assert_eq!(validation_split(&train, 0.15, 3).unwrap(), (rest.clone(), validation.clone()));
    assert!(rest.is_sorted_by(|a, b| a > b) && validation.is_sorted_by(|a, b| a > b), "the order of train is kept");
    let mut all = [rest, validation.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..200).collect::<Vec<u32>>());
    let mut hits = vec![0; 200];
    for seed in 0..200 {
        let (_, validation) = validation_split(&train, 0.15, seed).unwrap();
        assert_eq!(validation.len(), 30, "seed {seed}");
        validation.iter().for_each(|&i| hits[i as usize] += 1);
    }
    assert!(hits.iter().all(|&n| (8..=60).contains(&n)), "30 of 200 on average: {hits:?}");

    for (clips, fraction, words) in [
        (200, 0.0, "between 0 and 1"),
        (200, 1.0, "between 0 and 1"),
        (200, f64::NAN, "between 0 and 1"),
        (3, 0.1, "leaves 3 to train on and 0 to validate with"),
        (3, 0.99, "leaves 0 to train on and 3 to validate with"),
        (0, 0.5, "0 clips"),
    ] {
        let message = validation_split(&train[..clips], fraction, 0).unwrap_err().to_string();
        assert!(message.contains(words), "{words:?} is not in: {message}");
    }
}

#[test]
fn a_file_of_keys_names_the_validation_split() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("val.txt");
    let with = |text: &str| {
        fs::write(&file, text).unwrap();
        Fixture::new().load().unwrap().with_validation_keys(&file)
    };
    let data = with("sample_key\r\n000001_0\r\n").unwrap();
    assert_eq!((data.train, data.validation, data.test), (vec![1], Some(vec![0]), vec![2, 3]));
    for (text, words) in [
        ("000009_0\n", ":1: key 000009_0 is not one of the dataset's clips"),
        ("000001_0\n000004_0\n", ":2: key 000004_0 is in the test split"),
        ("000001_0\n000001_0\n", ":2: key 000001_0 occurs twice"),
        ("000001_0 000002_3840\n", "one key per line"),
        ("", "has no validation clip"),
        ("000001_0\n000002_3840\n", "leaves none for training"),
    ] {
        let message = with(text).unwrap_err().to_string();
        assert!(message.contains(words) && message.contains("val.txt"), "{words:?} is not in: {message}");
    }
    let mut unsplit = Fixture::new();
    unsplit.set("partitions/split01_train.csv", "000002_3840\n");
    fs::write(&file, "000001_0\n").unwrap();
    let message = unsplit.load().unwrap().with_validation_keys(&file).unwrap_err().to_string();
    assert!(message.contains("in no split"), "{message}");
    fs::remove_file(&file).unwrap();
    assert!(Fixture::new().load().unwrap().with_validation_keys(&file).is_err());
}

fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(contents(&path)),
            false => files.push((path.file_name().unwrap().to_str().unwrap().to_string(), fs::read(path).unwrap())),
        }
    }
    files.sort();
    files
}

#[test]
fn synthetic_data_is_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    synth(at("a"), 400, 7).unwrap();
    synth(at("b"), 400, 7).unwrap();
    synth(at("c"), 400, 8).unwrap();
    assert!(contents(&at("a")) == contents(&at("b")), "the same seed writes the same bytes");
    assert!(contents(&at("a")) != contents(&at("c")));

    let data = Dataset::load(at("a")).unwrap();
    assert_eq!((data.keys.len(), data.train.len(), data.test.len(), data.classes.len()), (400, 300, 100, 20));
    assert_eq!(data.warnings, Vec::<String>::new());
    let observed = data.observed.iter().filter(|&&o| o).count();
    let positive = (0..data.observed.len()).filter(|&i| data.observed[i] && data.targets[i] == 1.0).count();
    assert!((0.13..0.17).contains(&(observed as f64 / 8000.0)), "{observed} of 8000 labels are known");
    assert!((0.4..0.6).contains(&(positive as f64 / observed as f64)), "{positive} of {observed} are positive");

    // Known positives show in one to three instances, known negatives in none; there are one to four classes a clip.
    let activity = fs::read_to_string(at("a").join("activity.csv")).unwrap();
    let rows: Vec<Vec<&str>> = activity.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let mut shown = vec![0; 8000];
    for row in &rows {
        let clip = data.keys.iter().position(|k| k == row[0]).unwrap();
        shown[clip * 20 + data.classes.iter().position(|c| c == row[1]).unwrap()] += 1;
        assert!(row[2].parse::<usize>().unwrap() < 10);
    }
    assert!(shown.chunks(20).all(|clip| (1..=4).contains(&clip.iter().filter(|&&n| n > 0).count())));
    for (i, &n) in shown.iter().enumerate() {
        assert!(n <= 3 && (!data.observed[i] || (data.targets[i] == 1.0) == (n > 0)), "entry {i} shows {n} times");
    }

    // The label table says the same as the npz.
    let table = fs::read_to_string(at("a").join("openmic-2018-aggregated-labels.csv")).unwrap();
    assert_eq!(table.lines().count() - 1, observed);

    // The keys are a pickle that a general reader understands.
    let mut zip = zip::ZipArchive::new(fs::File::open(at("a").join("openmic-2018.npz")).unwrap()).unwrap();
    let mut member = Vec::new();
    io::Read::read_to_end(&mut zip.by_name("sample_key.npy").unwrap(), &mut member).unwrap();
    let options = serde_pickle::DeOptions::new().replace_unresolved_globals();
    let value = serde_pickle::value_from_slice(&member[128..], options).expect("a valid pickle");
    assert!(format!("{value:?}").contains(&data.keys[399]), "{value:?}");

    let message = synth(at("a"), 400, 7).unwrap_err().to_string();
    assert!(message.contains("already exists"), "{message}");
    let message = synth(at("d"), 3, 7).unwrap_err().to_string();
    assert!(message.contains("3 clips were requested; 20 to 500000 are allowed"), "{message}");
    assert!(!at("d").exists());
}

#[test]
fn a_failed_write_leaves_everything_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    write_atomic(&path, |w| w.write_all(b"good")).unwrap();
    let full = |w: &mut dyn Write| {
        w.write_all(&[0; 1 << 20])?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    };
    let message = write_atomic(&path, full).unwrap_err().to_string();
    assert!(message.contains("weights: "), "{message}");
    assert_eq!(fs::read(&path).unwrap(), b"good");

    let new = folder.path().join("new");
    let failed = write_dir_atomic(&new, |dir| {
        fs::write(dir.join("part"), "x").unwrap();
        Err(wmic::Error::Usage("stopped".into()))
    });
    assert_eq!(failed.unwrap_err().to_string(), "stopped");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing but the old file");

    fs::create_dir(&new).unwrap();
    write_dir_atomic(&new, |dir| write_atomic(dir.join("whole"), |w| w.write_all(b"y"))).unwrap();
    assert_eq!(fs::read(new.join("whole")).unwrap(), b"y", "an empty directory may be replaced");
}

#[cfg(unix)]
#[test]
fn what_a_killed_process_has_left_of_a_directory_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new");
    let mut unfinished = PathBuf::new();
    write_dir_atomic(&new, |dir| {
        unfinished = dir.into();
        Ok(())
    })
    .unwrap();
    let others = folder.path().join(".wmic-others");
    for left in [&unfinished, &others] {
        fs::create_dir(left).unwrap();
        fs::write(left.join("part"), "x").unwrap();
    }
    write_dir_atomic(&new, |dir| {
        assert!(!unfinished.exists() && others.join("part").exists());
        write_dir_atomic(&new, |_| Ok(())).unwrap();
        assert!(dir.exists(), "somebody is still filling it");
        Ok(())
    })
    .unwrap();
}

// ---- mutated files -----------------------------------------------------------------------------

/// Overwrites, removes or duplicates ranges of `bytes`.
fn mutate(mut bytes: Vec<u8>, edits: &[(usize, u8, u8)]) -> Vec<u8> {
    for &(position, kind, value) in edits {
        let at = position % bytes.len().max(1);
        match kind % 5 {
            0 | 1 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b = value),
            2 => bytes.iter_mut().skip(at).take(8).for_each(|b| *b = value),
            3 => bytes.truncate(at),
            _ => {
                let tail = bytes[at..].to_vec();
                bytes.extend(tail);
            }
        }
    }
    bytes
}

fn edits() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
    prop::collection::vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..4)
}

/// Loads a fixture within 16 MB; it may fail.
fn survives(fixture: &Fixture) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    fixture.write(folder.path());
    let (result, peak) = peak_of(|| Dataset::load(folder.path()));
    prop_assert!(peak < 16 << 20, "{peak} bytes");
    if let Err(e) = result {
        prop_assert!(!e.to_string().contains('\n'), "more than one line: {e}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_archives_are_survived(edits in edits(), deflate: bool) {
        let compression = if deflate { CompressionMethod::Deflated } else { CompressionMethod::Stored };
        let mut fixture = Fixture { compression, ..Fixture::new() };
        fixture.set("openmic-2018.npz", mutate(fixture.npz(), &edits));
        survives(&fixture)?;
    }

    /// The archive is valid, so the mutation reaches the array reader.
    #[test]
    fn mutated_arrays_are_survived(edits in edits(), which in 0..4usize, near in 0..200usize) {
        let mut fixture = Fixture::new();
        let edits: Vec<_> = edits.iter().map(|&(p, k, v)| if p % 2 == 0 { (near, k, v) } else { (p, k, v) }).collect();
        let bytes = fixture.members[which].1.clone();
        fixture.members[which].1 = mutate(bytes, &edits);
        survives(&fixture)?;
    }

    #[test]
    fn mutated_text_files_are_survived(edits in edits(), which in any::<prop::sample::Index>()) {
        let mut fixture = Fixture::json();
        let file = which.index(fixture.files.len());
        let bytes = fixture.files[file].1.clone();
        fixture.files[file].1 = mutate(bytes, &edits);
        survives(&fixture)?;
    }
}

// ---- real data ---------------------------------------------------------------------------------

#[test]
fn real_datasets_load() {
    let Some(root) = std::env::var_os("WMIC_DATA") else {
        println!("skipped: WMIC_DATA does not name the folder with openmic-audioset and openmic-one");
        return;
    };
    let root = Path::new(&root);
    let data = Dataset::load(root.join("openmic-audioset")).unwrap();
    assert_eq!((data.keys.len(), data.train.len(), data.test.len()), (4999, 2602, 2397));
    assert_eq!((data.classes.len(), data.features.instances), (20, 10));
    assert!(matches!(data.features.values, FeatureValues::U8(_)));

    // One clip with features: it can be predicted on, but there is nothing to test.
    let one = root.join("openmic-one");
    let (keys, features, _) = load_features(&one, &mut None).unwrap();
    assert_eq!((keys, features.lengths.clone()), (vec!["000046_3840".to_string()], vec![10]));
    let FeatureValues::U8(values) = &features.values else { panic!("bytes expected") };
    assert_eq!(values[..6], [173, 16, 162, 107, 197, 53]);
    let message = Dataset::load(&one).unwrap_err().to_string();
    assert!(message.contains("the test split is empty: none of its 5085 keys has features"), "{message}");

    // With a second copy of the clip to test on, it is a dataset.
    let folder = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new();
    fixture.members.clear();
    let clip = fs::read(one.join("vggish/000/000046_3840.json")).unwrap();
    fixture.set("vggish/000/000046_3840.json", clip.clone());
    fixture.set("vggish/000/copy.json", clip);
    fixture.set("class-map.json", fs::read(one.join("class-map.json")).unwrap());
    let table = fs::read_to_string(one.join("openmic-2018-aggregated-labels.csv")).unwrap();
    fixture.set("openmic-2018-aggregated-labels.csv", format!("{}\ncopy,flute,0.9,3\n", table.trim_end()));
    fixture.set("partitions/split01_train.csv", fs::read(one.join("partitions/split01_train.csv")).unwrap());
    fixture.set("partitions/split01_test.csv", "copy\n");
    fixture.write(folder.path());
    let data = Dataset::load(folder.path()).unwrap();
    assert_eq!((data.train, data.test), (vec![0], vec![1]));
    let known: Vec<&str> = (0..20).filter(|&k| data.observed[k]).map(|k| data.classes[k].as_str()).collect();
    assert_eq!(known, ["clarinet", "flute", "trumpet"]);
    assert_eq!(
        data.warnings[0],
        "14914 keys of the train split have no features (000135_483840, 000139_119040, 000141_153600, ...)"
    );
}

#[test]
fn single_label_models_take_only_single_label_data() {
    let mut data = Dataset {
        path: "notes".into(),
        classes: ["oboe", "horn"].map(String::from).into(),
        keys: ["a", "b"].map(String::from).into(),
        features: Features {
            values: FeatureValues::U8(vec![0; 2].into()),
            instances: 1,
            width: 1,
            lengths: vec![1; 2],
            spectrum: None,
        },
        targets: vec![1.0, 0.0, 0.0, 1.0],
        observed: vec![true; 4],
        strong: None,
        mixer: None,
        train: vec![0],
        validation: None,
        test: vec![1],
        drawn: None,
        word_vectors: vec![],
        warnings: vec![],
    };
    data.check_single_label("aacnn").unwrap();
    let rejected = |data: &Dataset| data.check_single_label("aacnn").unwrap_err().to_string();
    data.targets[2] = 1.0;
    assert_eq!(rejected(&data), "notes: clip b has 2 classes, but aacnn is a single-label model");
    data.targets[2..].fill(0.0);
    assert!(rejected(&data).contains("clip b has 0 classes"));
    data.observed[0] = false;
    assert!(rejected(&data).contains("clip a has unknown labels"));
}
