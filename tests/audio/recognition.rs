//! Output of a recognition: segments, formats, the table, the picture and the page.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};
use wmic::Array;
use wmic::nn::FeatureKind;
use wmic::nn::front_ends::log_mel::band_hz;
use wmic::output::format::{Detail, Series};
use wmic::output::{FORMATS, audacity, csv, elan, find, jams, json, mirex, reaper};
use wmic::predict::recognition::{self, Glimpse, Instrument, Recognition, Segment};
use wmic::predict::timeline::{Segmentation, frame_counts, resample};
use wmic::predict::truth::Truth;
use wmic::report::pages::recording::write_page;
use wmic::report::plots::recording::plot;
use wmic::report::plots::spectrogram::Picture;
use wmic::report::tables::recording::table;
use wmic::report::tables::table::Style;

const PLAIN: Segmentation = Segmentation { min_duration: 0.3, median: 0.0 };

/// The segments at a threshold.
fn segments(activity: &[f32], cell: f64, threshold: f32, duration: f64) -> Vec<Segment> {
    PLAIN.above(activity, cell, duration, [threshold; 2])
}

/// Start and end of the segments at a threshold of 0.5, in milliseconds.
fn spans(activity: &[f32], cell: f64, duration: f64) -> Vec<(i64, i64)> {
    let ms = |s: f64| (s * 1000.0).round() as i64;
    segments(activity, cell, 0.5, duration).iter().map(|s| (ms(s.start), ms(s.end))).collect()
}

/// A curve that is 1 from the first to before the second cell of each pair, and 0 in the others.
fn on(runs: &[(usize, usize)], n: usize) -> Vec<f32> {
    (0..n).map(|i| f32::from(runs.iter().any(|&(first, end)| (first..end).contains(&i)))).collect()
}

#[test]
fn runs_become_segments() {
    let activity = [0.1, 0.5, 0.9, 0.4, 0.7];
    let found = segments(&activity, 1.0, 0.5, 10.0);
    assert_eq!((found.len(), found[0].start, found[0].end), (2, 1.0, 3.0), "a cell at the threshold plays");
    assert!((found[0].confidence - 0.7).abs() < 1e-6, "{found:?}");
    assert_eq!(segments(&activity, 1.0, 0.95, 10.0), []);
    assert_eq!(segments(&[], 1.0, 0.5, 10.0), []);
    assert_eq!(spans(&[1.0; 11], 0.96, 10.0), [(0, 10_000)], "cut at the end");
    assert_eq!(spans(&[1.0; 99], 1.0, 2.5), [(0, 2500)], "cells beyond the end do not count");
}

#[test]
fn gaps_are_bridged_and_blips_dropped() {
    assert_eq!(spans(&on(&[(0, 5), (9, 14)], 20), 0.1, 2.0), [(0, 1400)], "0.4 s of silence");
    assert_eq!(spans(&on(&[(0, 5), (10, 15)], 20), 0.1, 2.0), [(0, 500), (1000, 1500)], "0.5 s of silence");
    assert_eq!(spans(&on(&[(2, 4), (10, 13)], 20), 0.1, 2.0), [(1000, 1300)], "0.2 s and 0.3 s");
    assert_eq!(spans(&on(&[(2, 4), (6, 8)], 20), 0.1, 2.0), [(200, 800)], "bridged before blips are dropped");
    assert_eq!(spans(&on(&[(0, 2)], 2), 0.1, 0.2), [(0, 200)], "all of a recording");
    assert_eq!(spans(&on(&[(0, 1), (10, 11)], 11), 0.96, 9.7), [(0, 960)], "of the last cell the recording has 0.1 s");
    assert_eq!(spans(&on(&[(10, 11)], 11), 0.96, 9.7), [(9600, 9700)], "all there is of an instrument");
    let bridged = segments(&[1.0, 0.25, 1.0], 0.4, 0.5, 2.0);
    assert_eq!((bridged.len(), bridged[0].confidence), (1, 0.75), "the mean includes the gap");
}

#[test]
fn segments_start_at_the_upper_threshold_and_last_to_the_lower_one() {
    let activity = [0.1, 0.5, 0.9, 0.4, 0.1, 0.1, 0.5, 0.5, 0.1];
    let found = PLAIN.above(&activity, 1.0, 9.0, [0.4, 0.8]);
    assert_eq!(found.iter().map(|s| (s.start, s.end)).collect::<Vec<_>>(), [(1.0, 4.0)]);
}

#[test]
fn a_present_instrument_has_a_segment_however_low_its_activity() {
    for scale in [1.0, 0.01] {
        let activity: Vec<f32> = [0.1, 0.2, 1.0, 0.7, 0.1, 0.65, 0.3].iter().map(|a| a * scale).collect();
        let found = PLAIN.of_present(&activity, 1.0, 7.0);
        assert_eq!(found.iter().map(|s| (s.start, s.end)).collect::<Vec<_>>(), [(2.0, 4.0), (5.0, 6.0)]);
        // The median removes lone cells, unless nothing else is left.
        let smooth = Segmentation { median: 3.0, ..PLAIN };
        assert_eq!(smooth.of_present(&activity, 1.0, 7.0).len(), 1);
        let blip: Vec<f32> = [0.0, 0.0, 1.0, 0.0, 0.0].iter().map(|a| a * scale).collect();
        assert_eq!(smooth.of_present(&blip, 1.0, 5.0).iter().map(|s| s.start).collect::<Vec<_>>(), [2.0]);
    }
}

#[test]
fn frames_are_counted() {
    let estimated = |spans: &[(f64, f64)]| -> Vec<Segment> {
        spans.iter().map(|&(start, end)| Segment { start, end, confidence: 1.0 }).collect()
    };
    let counts = |e: &[(f64, f64)], t: &[(f64, f64)], duration| {
        let c = frame_counts(&estimated(e), t, duration);
        (c.tp, c.fp, c.fn_, c.tn)
    };
    assert_eq!(counts(&[(0.0, 4.0)], &[(2.0, 6.0)], 10.0), (2, 2, 2, 4));
    assert_eq!(counts(&[(0.5, 1.4)], &[(0.0, 2.0)], 2.0), (1, 0, 1, 0), "half a frame is enough, 0.4 s are not");
    let shuffled = [(0.6, 0.9), (0.0, 0.4), (0.1, 0.4)];
    assert_eq!(counts(&shuffled, &[(0.1, 0.45), (0.1, 0.45)], 1.0), (0, 1, 0, 0), "overlaps count once");
    assert_eq!(counts(&[(2.0, 2.2)], &[(2.0, 99.0)], 2.4), (1, 0, 0, 2), "the last frame has 0.4 s");
    let pooled = frame_counts(&estimated(&[(0.0, 1.0)]), &[(0.0, 1.0)], 1.0) + frame_counts(&[], &[(0.0, 2.0)], 2.0);
    assert_eq!(pooled.f1_pos(), Some(0.5), "one hit, two misses");
}

#[test]
fn curves_are_resampled_by_their_means() {
    assert_eq!(resample(&[0.0, 1.0], 1.0, 0.0..2.0, 4), [0.0, 0.0, 1.0, 1.0]);
    assert_eq!(resample(&[0.0, 1.0, 1.0, 0.0], 0.5, 0.0..2.0, 2), [0.5, 0.5]);
    assert_eq!(resample(&[0.0, 1.0, 1.0, 0.0], 0.5, 1.0..2.0, 2), [1.0, 0.0], "a part");
    assert_eq!(resample(&[1.0], 1.0, 0.0..2.0, 2), [1.0, 0.0], "a curve that ends early");
}

pub const HOSTILE: &str = "<b>a\t\"drum\"\n&,'";

pub fn instrument(name: &str, probability: f64, spans: &[(f64, f64)]) -> Instrument {
    let segment = |&(start, end): &(f64, f64)| Segment { start, end, confidence: 0.875 };
    let present = probability >= 0.5;
    Instrument {
        present,
        name: name.into(),
        probability,
        spread: Some(0.0625),
        threshold: Some(0.5),
        activity: vec![0.25, 1.0],
        attention: Some(vec![0.5, 1.0]),
        attention_map: None,
        segments: spans.iter().map(segment).collect(),
    }
}

pub fn recognition(file: impl AsRef<Path>) -> Recognition {
    Recognition {
        file: file.as_ref().into(),
        duration: 10.0,
        condition: wmic::audio::Condition::default(),
        distance: None,
        model: "att".into(),
        seeds: vec![0, 7],
        cell: 5.0,
        instruments: vec![
            instrument("flute", 0.25, &[]),
            instrument(HOSTILE, 0.75, &[(2.0, 6.0 * 0.96)]),
            instrument("piano", 0.9375, &[(0.0, 3.84), (5.0, 10.0)]),
        ],
        paths: vec![],
        bands: vec![],
        patches: vec![],
        tags: vec![],
    }
}

fn written(write: impl Fn(&mut dyn Write) -> io::Result<()>) -> String {
    let mut out = vec![];
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn json_has_everything() {
    let r = recognition("a b.ogg");
    let text = written(|out| json::write_line(out, &r, Detail::default()));
    assert!(text.starts_with(
        r#"{"file":"a b.ogg","duration":10.0,"model":"att","seeds":[0,7],"summary":"Piano 0.0-3.8, 5.0-10.0 s; "#
    ));
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    let second = json!({
        "name": HOSTILE, "probability": 0.75, "spread": 0.0625, "threshold": 0.5, "present": true,
        "segments": [{ "start": 2.0, "end": 5.76, "confidence": 0.875 }],
    });
    assert_eq!(value["instruments"][1], second);
    assert_eq!(value["instruments"][2]["present"], false);

    let mut one_seed = r.clone();
    one_seed.instruments.iter_mut().for_each(|i| (i.spread, i.attention) = (None, None));
    let all = Detail { activity: true, attention: true, ..Detail::default() };
    let text = written(|out| json::write(out, &one_seed, all));
    assert!(text.lines().count() > 20 && text.contains("\"spread\": null") && text.contains("\"attention\": null"));
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["cell"], &value["instruments"][0]["activity"]), (&json!(5.0), &json!([0.25, 1.0])));
}

#[test]
fn json_lists_the_paths_of_models_that_have_some() {
    let mut r = recognition("a.ogg");
    assert!(!written(|out| json::write(out, &r, Detail::default())).contains("paths"));
    let glimpses = [0.0, 10.5, 63.0].map(|band| Glimpse { time: 7.25, band });
    r.paths = vec![recognition::Path { seed: 7, start: 4.8, glimpses: glimpses.into() }];
    let value: Value = serde_json::from_str(&written(|out| json::write(out, &r, Detail::default()))).unwrap();
    let hz = band_hz();
    let glimpse = |hz: f64| json!({ "time": 7.25, "hz": hz.round() });
    let listed = [hz[0], (hz[10] + hz[11]) / 2.0, hz[63]].map(glimpse);
    assert_eq!(value["paths"], json!([{ "seed": 7, "start": 4.8, "glimpses": listed }]));
}

/// Result of a single-label model.
fn one_at_a_time() -> Recognition {
    let mut r = recognition("solo.ogg");
    for i in &mut r.instruments {
        (i.threshold, i.attention, i.present) = (None, None, !i.segments.is_empty());
    }
    r
}

#[test]
fn single_label_models_have_no_thresholds() {
    let r = one_at_a_time();
    assert!(r.single_label() && !recognition("a.ogg").single_label());
    let value: Value = serde_json::from_str(&written(|out| json::write(out, &r, Detail::default()))).unwrap();
    assert!(value["instruments"].as_array().unwrap().iter().all(|i| i["threshold"] == Value::Null), "{value}");
    let rows = written(|out| (csv::FORMAT.write)(out, &r, Detail::default()));
    assert!(rows.starts_with("solo.ogg,piano,0.9375,0.0625,,true,"), "{rows}");
    let jams = written(|out| jams::write(out, &r));
    assert!(
        !jams.contains("threshold") && !jams.contains("activity") && jams.contains("is the most probable"),
        "{jams}"
    );
}

#[test]
fn csv_has_a_row_per_instrument() {
    let mut r = recognition("a,b.ogg");
    r.instruments[0].spread = None;
    let text = written(|out| {
        let mut series = Series::new(&csv::FORMAT);
        series.write(out, &r, Detail::default())?;
        series.write(out, &r, Detail::default())?;
        series.end(out)
    });
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let header = "file,instrument,probability,spread,threshold,present,segments,unreliable";
    assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>().join(","), header);
    let rows: Vec<Vec<String>> = reader.records().map(|r| r.unwrap().iter().map(String::from).collect()).collect();
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[0], ["a,b.ogg", "piano", "0.9375", "0.0625", "0.5000", "true", "0.00-3.84;5.00-10.00", ""]);
    assert_eq!(rows[1][1], HOSTILE);
    r.distance = Some(1.25);
    let marked = written(|out| csv::FORMAT.write_alone(out, &r, Detail::default()));
    let mut marked = ::csv::Reader::from_reader(marked.as_bytes());
    assert!(marked.records().all(|row| &row.unwrap()[7] == "true"));
    assert_eq!(rows[2][1..], ["flute", "0.2500", "", "0.5000", "false", "", ""]);
}

#[test]
fn several_recordings_are_one_json_array() {
    let of = |files: &[&str]| -> Value {
        let text = written(|out| {
            let mut series = Series::new(&json::FORMAT);
            files.iter().try_for_each(|file| series.write(out, &recognition(file), Detail::default()))?;
            series.end(out)
        });
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(of(&[]), json!([]));
    let names: Vec<Value> = of(&["a.ogg", "b.ogg"]).as_array().unwrap().iter().map(|r| r["file"].clone()).collect();
    assert_eq!(names, ["a.ogg", "b.ogg"]);
    assert!(FORMATS.iter().all(|format| find(format.name).is_some_and(|found| found.name == format.name)));
    assert!(find("table").is_none());
}

/// Dots of keys are their own: `song.1` and `song.2` were both called `song`.
#[test]
fn only_the_extension_of_an_audio_file_is_removed_from_its_name() {
    for (file, name) in [
        ("song.1", "song.1"),
        ("music/song.1.wav", "song.1"),
        ("song.FLAC", "song"),
        ("a/clip.wav@4.80", "clip.wav@4.80"),
        ("000_1.5", "000_1.5"),
        (".wav", ".wav"),
    ] {
        assert_eq!(recognition(file).name(), name);
    }
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("truth.csv");
    std::fs::write(&table, "sample_key,instrument,start_s,end_s\nsong.1,piano,0,10\n").unwrap();
    let mut truth = Truth::read(&table).unwrap();
    truth.compare(&recognition("song.2"));
    assert_eq!(truth.summary(), "none of 1 recordings is in the table of ground-truth times", "it is another one's");
    truth.compare(&recognition("x/song.1"));
    truth.compare(&recognition("y/song.1.wav"));
    let summary = truth.summary();
    assert!(
        summary.contains("over 1 recording, 1 without ground truth skipped, 1 with a duplicate name skipped"),
        "{summary}"
    );
}

#[test]
fn agreement_with_the_truth_is_counted_by_instrument() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("times.csv");
    let rows = "sample_key,instrument,start_s,end_s\na,piano,0,4\na,flute,1,3\na,theremin,0,9\n";
    std::fs::write(&table, rows).unwrap();
    let mut truth = Truth::read(&table).unwrap();
    let r = recognition("a.ogg");
    truth.compare(&r);
    let agreement = truth.agreement();
    let counts = |name: &str| {
        let (_, c) = agreement.frames.iter().find(|(of, _)| of == name).unwrap();
        [c.tp, c.fp, c.fn_, c.tn]
    };
    // Found: 0 to 3.84 s and 5 to 10 s; true: 0 to 4 s. The other instrument is found from 2 to 5.76 s.
    assert_eq!((counts("piano"), counts("flute"), counts(HOSTILE)), ([4, 5, 0, 1], [0, 0, 2, 8], [0, 4, 0, 6]));
    assert_eq!((agreement.segments.correct, agreement.segments.reference, agreement.segments.estimated), (4, 6, 13));
    // The onset is exact, the offset within 0.2 s.
    assert_eq!((agreement.events.correct, agreement.events.reference, agreement.events.estimated), (1, 2, 3));
    assert_eq!(agreement.unknown_instruments.iter().collect::<Vec<_>>(), ["theremin"]);
    let summary = truth.summary();
    assert!(summary.contains("not classes of the model: 1 instrument of the ground truth (theremin)"), "{summary}");
    let table =
        wmic::report::tables::truth::table(truth.agreement(), Style { width: Some(80), colour: false, borders: false });
    assert!(table.contains("flute") && table.lines().count() == 4, "{table}");
    assert_eq!(truth.times(&r, "flute"), [(1.0, 3.0)]);
}

#[test]
fn a_table_of_own_labels_is_a_ground_truth() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("labels.csv");
    let write = |text: &str| std::fs::write(&table, text).unwrap();
    write("file;instrument;present;start;end\nlive/a.wav;Piano;1;0;4\nb\\a;flute;1;1,5;3\nc.wav;piano;0;;\n");
    let truth = Truth::read(&table).unwrap();
    let times = |file: &str, instrument: &str| truth.times(&recognition(file), instrument).to_vec();
    assert_eq!(times("./in/live/a.flac", "piano"), [(0.0, 4.0)]);
    assert_eq!(times("b/a.ogg", "flute"), [(1.5, 3.0)]);
    assert!(times("b/a.ogg", "piano").is_empty() && times("other/a.wav", "piano").is_empty(), "other recordings'");
    for (text, words) in [
        ("file,start,end\na,0,1\n", "labels.csv:1: has no column instrument"),
        ("file,instrument,start,end\na,piano,3,1\n", "labels.csv:2: "),
    ] {
        write(text);
        let error = Truth::read(&table).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn attention_to_frequency_is_a_map() {
    let mut r = recognition("a.ogg");
    r.bands = vec![[125.0, 900.4], [900.4, 7500.0]];
    r.instruments.iter_mut().for_each(|i| i.attention_map = Some(Array::new([2, 2], vec![0.5, 0.25, 1.0, 0.0])));
    let value = |detail| -> Value { serde_json::from_str(&written(|out| json::write(out, &r, detail))).unwrap() };
    let all = value(Detail { activity: true, attention: true, ..Detail::default() });
    assert_eq!(all["bands"], json!([[125.0, 900.0], [900.0, 7500.0]]));
    assert_eq!(all["instruments"][0]["attention_map"], json!([[0.5, 0.25], [1.0, 0.0]]), "cells, then bands");
    let some = value(Detail::default());
    assert!(some.get("bands").is_none() && some["instruments"][0].get("attention_map").is_none());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let (spectrogram, band_hz) = spectrogram();
    let picture = Picture {
        recognition: &r,
        spectrum: SPECTRUM,
        spectrogram: &spectrogram,
        band_hz: &band_hz,
        attention: true,
        truth: None,
    };
    let bar = picture.bar(&r.instruments[0], 0.0..10.0, 4);
    assert_eq!(bar, [[0.25, 0.25, 0.0, 0.0], [0.5, 0.5, 1.0, 1.0]], "the highest band on top");
    plot(&picture, &path).unwrap();
    let image = image::open(&path).unwrap().into_rgb8();
    let full = image.pixels().filter(|p| p.0 == [0, 114, 178]).count();
    // A quarter of the two bars' 28 logical pixels is as full as can be; the legend adds a little.
    assert!(full > 2 * 14 * 2 * 700, "{full}");
    write_page(folder.path().join("a.html"), &picture, true).unwrap();
    let page = std::fs::read_to_string(folder.path().join("a.html")).unwrap();
    assert!(page.contains("<figure class=\"picture maps attention\">") && page.contains("data-attention checked"));
    assert!(
        page.contains("attention by frequency: none") && page.contains("activity × probability: 0"),
        "both are there"
    );
}

#[test]
fn audacity_gets_labels_in_order() {
    let r = recognition("a.ogg");
    let text = written(|out| audacity::write(out, &r));
    let name = "<b>a \"drum\" &,'";
    let expected =
        format!("0.000000\t3.840000\tpiano 0.88\n2.000000\t5.760000\t{name} 0.88\n5.000000\t10.000000\tpiano 0.88\n");
    assert_eq!(text, expected);
}

#[test]
fn reaper_gets_regions_and_elan_tiers() {
    let mut r = recognition("a.ogg");
    let piano = r.instruments.iter_mut().find(|i| i.name == "piano").unwrap();
    piano.segments[0].end = 63.8404;
    let text = written(|out| reaper::FORMAT.write_alone(out, &r, Detail::default()));
    let first = "#,Name,Start,End,Length\nR1,piano 0.88,0:00.000,1:03.840,1:03.840\nR2,\"<b>a \"\"drum\"\" &,' 0.88\",";
    assert!(text.starts_with(first), "{text}");
    assert!(text.ends_with("0:02.000,0:05.760,0:03.760\nR3,piano 0.88,0:05.000,0:10.000,0:05.000\n"), "{text}");
    let text = written(|out| elan::FORMAT.write_alone(out, &r, Detail::default()));
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines[0], ["Tier", "Begin Time", "End Time", "Annotation"]);
    assert_eq!((&lines[1][..], lines.len()), (&["piano", "0.000", "63.840", "0.88"][..], 4));
    assert!(lines.iter().all(|fields| fields.len() == 4), "a tab in a name parts no fields: {text}");
}

#[test]
fn mirex_gets_the_confidences_of_its_labels() {
    let mut r = recognition("music/a, b.ogg");
    let refused = mirex::FORMAT.write_alone(&mut vec![], &r, Detail::default()).unwrap_err().to_string();
    assert!(refused.contains("does not know accordion"), "{refused}");
    let labels: Vec<&str> = mirex::FORMAT.head.trim_end().split(',').skip(1).collect();
    let names = |known: &[&str]| -> Vec<String> { known.iter().map(|name| name.to_string()).collect() };
    let unsupported = |known: &[&str]| (mirex::FORMAT.unsupported)(&names(known));
    assert_eq!(unsupported(&labels), None);
    assert!(unsupported(&labels[..19]).unwrap().contains("does not know voice"));
    let model = r.instruments[0].clone();
    // In any order, and with others.
    r.instruments = labels
        .iter()
        .rev()
        .enumerate()
        .map(|(i, name)| Instrument { name: (*name).into(), probability: i as f64 / 64.0, ..model.clone() })
        .chain([Instrument { name: "harp".into(), ..model.clone() }])
        .collect();
    let text = written(|out| mirex::FORMAT.write_alone(out, &r, Detail::default()));
    let mut rows = ::csv::Reader::from_reader(text.as_bytes());
    assert_eq!(rows.headers().unwrap().iter().skip(1).collect::<Vec<_>>(), labels);
    let row = rows.records().next().unwrap().unwrap();
    assert_eq!((&row[0], &row[1], &row[20], row.len()), ("a, b.ogg", "0.296875", "0.000000", 21));
}

/// Only JSON and CSV said so. MIREX's table has no place for it.
#[test]
fn every_format_marks_what_is_unreliable() {
    let mut r = recognition("a.ogg");
    let formats = || FORMATS.iter().filter(|format| format.name != mirex::FORMAT.name);
    let marked = |r: &Recognition| -> Vec<String> {
        formats().map(|f| written(|out| f.write_alone(out, r, Detail::default()))).collect()
    };
    let unmarked = marked(&r);
    r.distance = Some(0.5);
    let reliable = marked(&r);
    r.distance = Some(1.5);
    for ((format, before), (reliable, now)) in formats().zip(unmarked).zip(reliable.into_iter().zip(marked(&r))) {
        let is_marked = |text: &str| {
            text.contains("unreliable: unlike")
                || text.contains("\"unreliable\":true")
                || text.contains("\"unreliable\": true")
                || text.contains(",true\n")
        };
        assert!(is_marked(&now) && !is_marked(&reliable) && !is_marked(&before), "{}: {now}", format.name);
    }
}

#[test]
fn jams_is_complete() {
    let r = recognition("music/a.ogg");
    let jams: Value = serde_json::from_str(&written(|out| jams::write(out, &r))).unwrap();
    assert_eq!((&jams["file_metadata"]["duration"], &jams["file_metadata"]["title"]), (&json!(10.0), &json!("a")));
    assert_eq!(jams["sandbox"]["file"], "music/a.ogg");
    let [clip, playing] = jams["annotations"].as_array().unwrap().as_slice() else { panic!("two annotations") };
    let tag = |value: &str, t, d, p| json!({ "time": t, "duration": d, "value": value, "confidence": p });
    assert_eq!(clip["data"], json!([tag("piano", 0.0, 10.0, 0.9375), tag(HOSTILE, 0.0, 10.0, 0.75)]));
    let segments = [tag("piano", 0.0, 3.84, 0.875), tag(HOSTILE, 2.0, 3.76, 0.875), tag("piano", 5.0, 5.0, 0.875)];
    assert_eq!(playing["data"], json!(segments));
    for annotation in [clip, playing] {
        assert_eq!((&annotation["namespace"], &annotation["duration"]), (&json!("tag_open"), &json!(10.0)));
        let about = &annotation["annotation_metadata"];
        assert!(about["curator"]["email"].is_string() && about["annotator"]["seeds"] == json!([0, 7]), "{about}");
        for text in ["version", "corpus", "annotation_tools", "annotation_rules", "validation", "data_source"] {
            assert!(about[text].is_string(), "{text}");
        }
    }
}

#[test]
fn the_table_fits_its_terminal() {
    let mut r = recognition("a\x1b[2J.ogg");
    let wide = Style { borders: true, colour: false, width: Some(80) };
    r.instruments[0].name = "an instrument of a long name".into();
    r.duration = 3600.0;
    r.file = format!("{}/end.ogg", "folder".repeat(20)).into();
    let text = table(&r, 2, wide);
    assert_eq!(text.lines().count(), 2 + 4 + 2, "two rows, none wrapped:\n{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    assert!(text.starts_with('…') && text.contains("/end.ogg  1 h 00 min\n"), "{text}");
    assert!(table(&r, 9, wide).lines().all(|l| l.chars().count() <= 80), "{text}");

    let text = table(&recognition("a\x1b[2J.ogg"), 9, Style::PLAIN);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "a\u{fffd}[2J.ogg  10.0 s");
    assert!(lines[3].starts_with("piano ") && lines[3].contains("0.94  0.06  ✓") && !text.contains('\x1b'), "{text}");
    assert!(lines[3].ends_with(&("▃".repeat(20) + &"█".repeat(20))), "activity over time:\n{text}");
    assert!(lines[5].starts_with("flute ") && !lines[5].contains('✓'), "{text}");
}

pub const SPECTRUM: &str = "mel spectrogram";

pub fn spectrogram() -> (Array<f32>, Vec<f64>) {
    let bands = 64;
    (
        Array::from_fn([100, bands], |i| ((i / bands) as f32 / 5.0).sin()),
        (1..=bands).map(|i| 115.0 * i as f64).collect(),
    )
}

#[test]
fn the_picture_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let (spectrogram, band_hz) = spectrogram();
    let draw = |r: &Recognition| {
        plot(
            &Picture {
                recognition: r,
                spectrum: SPECTRUM,
                spectrogram: &spectrogram,
                band_hz: &band_hz,
                attention: true,
                truth: None,
            },
            &path,
        )
        .unwrap();
        image::open(&path).unwrap().into_rgb8()
    };
    let mut r = recognition("a.ogg");
    let two = draw(&r);
    let count = |image: &image::RgbImage, rgb: [u8; 3]| image.pixels().filter(|p| p.0 == rgb).count();
    assert_eq!(two.width(), 2160, "twice the logical width");
    assert!(count(&two, [0, 114, 178]) > 10_000, "attention");
    assert!(count(&two, [213, 94, 0]) > 1000, "lines where instruments play");
    assert!(count(&two, [0, 0, 4]) > 1000 && count(&two, [252, 253, 191]) > 1000, "quiet and loud");
    assert!(count(&two, [34, 34, 34]) > 300, "text");
    (r.instruments[0].probability, r.instruments[0].present) = (0.6, true);
    assert_eq!(draw(&r).height() - two.height(), 54, "a row per present instrument");
    r.instruments.iter_mut().for_each(|i| (i.probability, i.present) = (0.0, false));
    assert!(count(&draw(&r), [110, 110, 110]) > 300, "a note that there are none");

    let empty = Array::zeros([0, 64]);
    plot(
        &Picture {
            recognition: &r,
            spectrum: SPECTRUM,
            spectrogram: &empty,
            band_hz: &[],
            attention: true,
            truth: None,
        },
        &path,
    )
    .unwrap();
    let nan = Array::new([1, 1], vec![f32::NAN]);
    let picture = Picture {
        recognition: &r,
        spectrum: SPECTRUM,
        spectrogram: &nan,
        band_hz: &[440.0],
        attention: true,
        truth: None,
    };
    plot(&picture, &path).unwrap();
    let error = plot(&picture, &folder.path().join("a.svg")).unwrap_err().to_string();
    assert!(error.ends_with("a picture of a recording is written as .png"), "{error}");
}

#[test]
fn bands_that_are_smaller_than_pixels_are_averaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    // Two bands for each of 520 rows, one of them silent.
    let stripes = Array::from_fn([50, 1040], |i| (i % 2) as f32);
    let r = one_at_a_time();
    let picture = Picture {
        recognition: &r,
        spectrum: "STFT",
        spectrogram: &stripes,
        band_hz: &[],
        attention: true,
        truth: None,
    };
    plot(&picture, &path).unwrap();
    let image = image::open(&path).unwrap().into_rgb8();
    let of = |rgb: [u8; 3]| image.pixels().filter(|p| p.0 == rgb).count();
    let (dark, bright) = (of([0, 0, 4]), of([252, 253, 191]));
    assert!(dark < 1000 && bright < 1000, "no stripe is left, but in the legend: {dark}, {bright}");
    let half_way = |p: &&image::Rgb<u8>| p.0.iter().zip([184u8, 55, 121]).all(|(a, b)| a.abs_diff(b) <= 2);
    let n = image.pixels().filter(half_way).count();
    assert!(n > 700_000, "half-way between the colours: {n}");
}

#[test]
fn frequencies_at_equal_distances_have_round_names() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let ticks = |input: FeatureKind| -> Vec<(f64, String)> {
        let hz = (input.spectrogram().band_hz)();
        let quiet = Array::zeros([87, hz.len()]);
        let r = one_at_a_time();
        let picture = Picture {
            recognition: &r,
            spectrum: input.spectrogram().name,
            spectrogram: &quiet,
            band_hz: &hz,
            attention: true,
            truth: None,
        };
        write_page(&page, &picture, true).unwrap();
        let page = std::fs::read_to_string(&page).unwrap();
        let name = if input == FeatureKind::Stft { "STFT" } else { "Constant-Q transform" };
        assert!(page.contains(&format!("<img alt=\"{name}\"")));
        let spans = page.split("<span style=\"bottom:").skip(1).map(|s| s.split_once("%\">").unwrap());
        spans.map(|(at, rest)| (at.parse().unwrap(), rest.split('<').next().unwrap().to_owned())).collect()
    };
    let stft = ticks(FeatureKind::Stft);
    assert_eq!(stft.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["0", "5k", "10k", "15k", "20k Hz"]);
    // Bin 0 is in the middle of the lowest of 1025 bands, 20 kHz at 20000 / 22050 of the way from there to the middle
    // of the highest.
    let expected = 100.0 * (20_000.0 / 22_050.0 * 1024.0 + 0.5) / 1025.0;
    assert!(stft[0].0 < 0.1 && (stft[4].0 - expected).abs() < 0.01, "{stft:?}");
    let cqt = ticks(FeatureKind::Cqt);
    let octaves = ["31", "62", "125", "250", "500", "1k", "2k", "4k Hz"];
    assert_eq!(cqt.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), octaves);
    let steps: Vec<f64> = cqt[1..].windows(2).map(|w| w[1].0 - w[0].0).collect();
    assert!(steps.iter().all(|step| (step - 100.0 / 7.0).abs() < 0.05), "an octave is an octave: {steps:?}");
}
