//! What people see of a recording: the sentence, the table, the rows of the picture, the page and the index.

use std::fs::read_to_string;
use std::path::Path;

use serde_json::Value;
use wmic::Array;
use wmic::predict::recognition::Recognition;
use wmic::report::pages::index;
use wmic::report::pages::recording::write_page;
use wmic::report::plots::recording::{plot, rows};
use wmic::report::plots::spectrogram::Picture;
use wmic::report::tables::recording::table;
use wmic::report::tables::table::Style;

use crate::recognition::{SPECTRUM, instrument, recognition, spectrogram};

fn picture<'a>(r: &'a Recognition, (spectrogram, band_hz): &'a (Array<f32>, Vec<f64>)) -> Picture<'a> {
    Picture { recognition: r, spectrum: SPECTRUM, spectrogram, band_hz, attention: false, truth: None }
}

/// Name, probability and segments of an instrument.
type Playing<'a> = (&'a str, f64, &'a [(f64, f64)]);

/// A recording of so many seconds with these instruments.
fn long(file: &str, duration: f64, instruments: &[Playing]) -> Recognition {
    let instruments = instruments.iter().map(|&(name, p, spans)| instrument(name, p, spans)).collect();
    let mut r = Recognition { duration, cell: 1.0, instruments, ..recognition(file) };
    r.instruments.iter_mut().for_each(|i| i.activity = vec![0.5; duration.ceil() as usize]);
    r
}

#[test]
fn a_sentence_says_what_plays_when() {
    let of = |duration, spans: &[(f64, f64)]| {
        long("a", duration, &[("mallet_percussion", 0.6, spans), ("flute", 0.5, &[(10.0, 35.0)])]).summary()
    };
    assert_eq!(of(200.0, &[(40.0, 80.0)]), "Mallet percussion 0:40-1:20; flute 0:10-0:35");
    assert_eq!(of(200.0, &[(0.0, 198.0)]), "Mallet percussion throughout; flute 0:10-0:35");
    assert_eq!(of(40.0, &[(0.25, 1.0), (2.0, 3.0)]), "Mallet percussion 0.2-1.0, 2.0-3.0 s; flute 10.0-35.0 s");
    // Three of many segments were listed, of every instrument.
    let every = |seconds: f64| -> Vec<(f64, f64)> {
        (0..30).map(|i| (f64::from(i) * seconds, f64::from(i) * seconds + 9.0)).collect()
    };
    let first = |duration, spans: &[(f64, f64)]| of(duration, spans).split(';').next().unwrap().to_owned();
    assert_eq!(first(4000.0, &every(100.0)), "Mallet percussion on and off 0:00:00-0:48:29, 4 min 30 s in all");
    assert_eq!(first(4000.0, &every(60.0)), "Mallet percussion 0:00:00-0:29:09", "pauses of less than 2 %");
    assert_eq!(first(305.0, &every(10.0)), "Mallet percussion throughout");
    let (spans, names) = (every(100.0), ["a", "b", "c", "d", "e", "f", "g"]);
    let all = names.map(|name| (name, 0.9, &spans[..]));
    assert!(
        long("a", 4000.0, &all)
            .summary()
            .ends_with("; d on and off 0:00:00-0:48:29, 4 min 30 s in all; also e, f and g")
    );
    assert!(long("a", 4000.0, &all[..5]).summary().ends_with(" in all; also e"));
    assert_eq!(long("a", 9.0, &[("flute", 0.1, &[])]).summary(), "No instrument");
}

/// Only the most probable ones were shown, present or not.
#[test]
fn present_instruments_are_never_hidden() {
    let mut r = long("a.wav", 90.0, &[("b_c", 0.9, &[]), ("d", 0.6, &[(1.0, 2.0)]), ("e", 0.5, &[(3.0, 4.0)])]);
    (r.instruments[0].present, r.instruments[0].threshold) = (false, Some(0.95));
    let names = |top| {
        let shown = table(&r, top, Style::PLAIN);
        assert_eq!(shown.lines().nth(1), Some("D 0:01-0:02; e 0:03-0:04"));
        shown.lines().skip(3).map(|line| line.split_whitespace().next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(0), ["d", "e"]);
    assert_eq!(names(2), ["d", "e"]);
    assert_eq!(names(3), ["d", "e", "b"], "present ones first");
}

#[test]
fn tables_of_recordings_fit_their_terminal() {
    let names: [&str; 3] = ["mallet_percussion", "a_very_long_name_of_an_instrument", "ud"];
    let r =
        long("a folder of recordings/with a long name.wav", 5000.0, &names.map(|name| (name, 0.9, &[(0.0, 1.0)][..])));
    for width in [36, 40, 48, 60, 64, 80, 120, 300] {
        let shown = table(&r, 1, Style { width: Some(width), borders: true, colour: false });
        let widest = shown.lines().skip(2).map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= usize::from(width), "{widest} of {width}:\n{shown}");
        assert_eq!(shown.lines().count(), 2 + 3 + names.len() + 1, "no row is wrapped at {width}:\n{shown}");
        assert_eq!(shown.contains('±'), width >= 60, "what is left out first:\n{shown}");
    }
}

#[test]
fn pictures_of_long_recordings_have_rows() {
    let count = |seconds| rows(seconds).len();
    assert_eq!([count(0.5), count(60.0), count(61.0), count(185.0), count(1800.0)], [1, 1, 2, 4, 30]);
    assert_eq!(
        [count(1801.0), count(3600.0), count(36_000.0), count(1e6)],
        [16, 30, 20, 18],
        "of 2, 2, 30 minutes and 16 hours"
    );
    let last = &rows(185.0)[3];
    assert_eq!((last.start, last.end), (180.0, 185.0));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let drawn = spectrogram();
    let image = |r: &Recognition| {
        plot(&picture(r, &drawn), &path).unwrap();
        image::open(&path).unwrap().into_rgb8()
    };
    let of = |duration| image(&long("a", duration, &[("flute", 1.0, &[(0.0, duration)])]));
    let (two, three, four) = (of(100.0), of(150.0), of(185.0));
    assert_eq!(four.height() - three.height(), three.height() - two.height(), "a row for each minute");
    // What plays only in the second minute has no bar in the others.
    let some = long("a", 185.0, &[("flute", 0.9, &[(0.0, 185.0)]), ("ud", 0.8, &[(70.0, 75.0)])]);
    assert_eq!(image(&some).height() - four.height(), 54);
    // 5 of 60 seconds in the last row.
    let blue = |image: &image::RgbImage| image.pixels().filter(|p| p.0 == [0, 114, 178]).count();
    let share = blue(&four) as f64 / blue(&three) as f64;
    assert!((share - 185.0 / 150.0).abs() < 0.01, "bars as long as the recording: {share}");
}

#[test]
fn the_page_holds_everything() {
    let folder = tempfile::tempdir().unwrap();
    let sound = folder.path().join("<i>\"&'{{style}}.WAV");
    std::fs::write(&sound, b"RIFF and so on").unwrap();
    let other = folder.path().join("b #1.aiff");
    std::fs::write(&other, b"FORM").unwrap();
    let path = folder.path().join("page.html");
    let drawn = spectrogram();
    let page = |file: &Path, embed| {
        write_page(&path, &picture(&recognition(file), &drawn), embed).unwrap();
        read_to_string(&path).unwrap()
    };
    let one = page(&sound, true);
    assert!(!one.contains("<b>") && !one.contains("<i>"), "names are escaped");
    assert!(one.contains("&lt;i&gt;&quot;&amp;&#39;{{style}}.WAV</h1>"), "and not expanded");
    assert!(one.contains("<p class=\"summary\">Piano 0.0-3.8, 5.0-10.0 s; &lt;b&gt;a"));
    assert!(one.contains("src=\"data:audio/wav;base64,UklGRiBhbmQgc28gb24=\""), "the sound is in it");
    assert_eq!(one.matches("src=\"data:image/png;base64,").count(), 2 * 2 + 1, "answers, attention and a spectrogram");
    assert!(one.contains("left:20.000%;width:37.600%"), "a segment on the time axis");
    assert!(one.contains("<td data-v=\"2\">2.0 s</td>"), "first onset");
    assert!(!one.contains("http://") && !one.contains("https://") && !one.contains("<link"), "nothing from outside");
    assert!(!page(&sound, false).contains("data:audio"), "or it is linked");
    assert!(page(&other, true).contains("<a href=\"b%20%231.aiff\">"), "what browsers do not play is linked");
    let gone = page(&folder.path().join("gone.ogg"), true);
    assert!(gone.contains("was not available") && !gone.contains("<audio "));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3, "no temporary file is left");
}

#[test]
fn an_index_has_every_recording_and_what_filters_need() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    let drawn = spectrogram();
    let add = |name: &str, r: &Recognition| index::add(&site, Path::new(name), &picture(r, &drawn));
    let hostile = recognition("</script><script>alert(1)//.wav");
    add("b/<script> #1", &hostile).unwrap();
    let spans = [(0.0, 20.0), (50.0, 65.5)];
    let mut two = long("a/x.wav", 90.0, &[("mallet_percussion", 0.75, &spans), ("ud", 0.25, &[])]);
    two.condition.warnings = vec!["is truncated after 90.00 s".into()];
    add("a/x", &two).unwrap();
    assert!(add("../x", &two).is_err() && add("", &two).is_err() && add("/x", &two).is_err());
    std::fs::write(site.join("recordings/own.html"), "<p>not ours").unwrap();
    std::fs::write(site.join("recordings/cut.html"), "<script type=\"application/json\" id=\"entry\">{\"file\":")
        .unwrap();
    let listed = || -> Value {
        let page = read_to_string(site.join("index.html")).unwrap();
        assert!(!page.contains("<script>alert"), "names do not end the data");
        let data = page.split_once("id=\"data\">").unwrap().1.split_once("</script>").unwrap().0;
        serde_json::from_str(data).unwrap()
    };
    assert_eq!(index::write(&site).unwrap(), 2);
    let rows = listed();
    assert_eq!(
        rows[0],
        serde_json::json!([
            "recordings/a/x.html",
            "a/x.wav",
            90.0,
            [["mallet percussion", 0.75, 35.5]],
            ["is truncated after 90.00 s"]
        ])
    );
    assert_eq!(rows[1][0], "recordings/b/%3Cscript%3E%20%231.html");
    assert_eq!(rows[1][1], "</script><script>alert(1)//.wav");
    assert!(site.join("recordings/b/<script> #1.html").is_file() || cfg!(windows));
    let page = read_to_string(site.join("recordings/a/x.html")).unwrap();
    assert!(page.contains("<a class=\"back\" href=\"../../index.html\">"));

    // A later run adds to it; a recording that is recognised again is there once.
    add("a/x", &Recognition { duration: 91.0, ..two.clone() }).unwrap();
    add("c", &two).unwrap();
    assert_eq!(index::write(&site).unwrap(), 3);
    let rows = listed();
    assert_eq!((&rows[0][2], rows.as_array().unwrap().len()), (&Value::from(91.0), 3));
    assert!(index::write(&folder.path().join("none")).is_err_and(|e| e.to_string().contains("none")));
}

#[test]
fn linked_sound_is_found_from_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let sound = folder.path().join("music").join("a b.wav");
    std::fs::create_dir_all(sound.parent().unwrap()).unwrap();
    std::fs::write(&sound, b"RIFF").unwrap();
    let r = recognition(&sound);
    let site = folder.path().join("site");
    index::add(&site, Path::new("x/y"), &picture(&r, &spectrogram())).unwrap();
    let page = read_to_string(site.join("recordings/x/y.html")).unwrap();
    assert!(page.contains("src=\"../../../music/a%20b.wav\""));
}
