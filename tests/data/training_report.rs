//! The report of a training run: figures, page, and replacing an older one.

use std::path::Path;

use wmic::Array;
use wmic::data::{Dataset, FeatureValues, Features};
use wmic::metrics::evaluation::{Evaluation, SeedPredictions, Subject, evaluate};
use wmic::metrics::thresholds::Threshold;
use wmic::nn::FeatureKind;
use wmic::nn::front_ends::spectrum::Scale;
use wmic::predict::evaluator::SplitPredictions;
use wmic::predict::trained::Split;
use wmic::report::pages::training::write;
use wmic::report::plots::examples::Examples;
use wmic::run::config::{Config, Notes};
use wmic::run::run_dir::{Environment, RunRecord};
use wmic::run::state::EpochRow;

const FILES: [&str; 4] = ["classes.png", "learning_curves.png", "report.html", "seeds.png"];

fn record(seeds: &[u64]) -> RunRecord {
    RunRecord {
        config: Config { seeds: seeds.to_vec(), ..Config::of("att", "/data/<b>set</b>").unwrap() },
        run: Environment {
            version: "0.1.0".into(),
            adapter: "<script>alert(1)</script> & Co".into(),
            backend: "Vulkan".into(),
            driver: "1.2".into(),
            parameters: 55_336,
            data: "00ff".into(),
            splits: "00ff".into(),
            strong: None,
            notes: None,
            train_clips: 90,
            val_clips: 10,
            test_clips: 20,
        },
    }
}

/// Each seed trains for `epochs(seed)` and is best half-way.
fn rows(seeds: &[u64], epochs: impl Fn(u64) -> usize) -> Vec<EpochRow> {
    let last = seeds.iter().map(|&s| epochs(s)).max().unwrap_or(0);
    let row = |epoch: usize, seed: u64| EpochRow {
        epoch,
        seed,
        train_loss: 0.7 / (1.0 + epoch as f32),
        val_loss: 0.6 + 0.001 * seed as f32,
        val_f1_pn: Some(0.5 + 0.4 * epoch as f64 / last as f64),
        train_accuracy: None,
        val_accuracy: None,
        best: epoch <= epochs(seed) / 2,
    };
    let running =
        |epoch: usize| seeds.iter().filter(|&&s| epoch < epochs(s)).map(|&s| row(epoch, s)).collect::<Vec<_>>();
    (0..last).flat_map(running).collect()
}

/// 60 clips; where `labelled(class)` is false, nothing is known of the class.
fn evaluation(seeds: &[u64], classes: &[&str], labelled: impl Fn(usize) -> bool) -> Evaluation {
    let k = classes.len();
    let targets = Array::from_fn([60, k], |i| f32::from((i / k).is_multiple_of(3)));
    let observed = Array::from_fn([60, k], |i| labelled(i % k));
    let noise = |i: usize, seed: u64| ((i as u64 * 7919 + seed * 104_729 + 13) % 1000) as f32 / 1000.0;
    let p: Vec<_> = seeds.iter().map(|&s| Array::from_fn([60, k], |i| 0.3 * targets[i] + 0.7 * noise(i, s))).collect();
    let subject = Subject {
        model: "att".into(),
        parameters: 55_336,
        dataset: "<b>set</b>".into(),
        split: "test".into(),
        device: "llvmpipe".into(),
        threshold: Threshold::default(),
        single_label: false,
    };
    evaluated(subject, classes, &targets, &observed, seeds, &p)
}

/// The evaluation of these probabilities of each seed, at a threshold of 0.5.
fn evaluated(
    subject: Subject,
    classes: &[&str],
    targets: &Array<f32>,
    observed: &Array<bool>,
    seeds: &[u64],
    p: &[Array<f32>],
) -> Evaluation {
    let thresholds = vec![0.5; classes.len()];
    let of_seed = |(&seed, probabilities)| SeedPredictions {
        seed,
        best_epoch: 4,
        probabilities,
        observed,
        thresholds: &thresholds,
    };
    let seeds: Vec<_> = seeds.iter().zip(p).map(of_seed).collect();
    evaluate(subject, &classes.iter().map(|c| c.to_string()).collect::<Vec<_>>(), targets, &seeds)
}

fn picture(folder: &Path, name: &str) -> image::RgbImage {
    image::open(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}")).into_rgb8()
}

/// Pixels of exactly this colour.
fn pixels(image: &image::RgbImage, rgb: [u8; 3]) -> usize {
    image.pixels().filter(|p| p.0 == rgb).count()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_report_has_the_results() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = "<i onclick='x'>\"&{{style}}\u{1b}[2J";
    let seeds = [3, 5, 8, 9];
    let e = evaluation(&seeds, &["piano", hostile, "silence"], |k| k != 2);
    write(folder.path(), &record(&seeds), &rows(&seeds, |s| 10 + s as usize), &e, None).unwrap();
    assert_eq!(names(folder.path()), FILES);

    let curves = picture(folder.path(), "learning_curves.png");
    let bars = picture(folder.path(), "classes.png");
    let boxes = picture(folder.path(), "seeds.png");
    assert!([&curves, &bars, &boxes].iter().all(|image| image.width() == 2160), "twice the logical width");
    assert!(pixels(&curves, [0, 114, 178]) > 1000 && pixels(&curves, [213, 94, 0]) > 2000, "both means");
    assert!(pixels(&bars, [86, 180, 233]) > 20_000, "a bar for each class with labels");
    let (boxed, ensemble) = (pixels(&boxes, [204, 226, 239]), pixels(&boxes, [213, 94, 0]));
    assert!(boxed > 200 && ensemble > 300, "boxes ({boxed}) and the ensemble ({ensemble})");

    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert_eq!(page.matches("<svg ").count(), 2 * 3, "the pictures are in it, wide and narrow");
    let percent = |v: Option<f64>| format!("{:.3}", v.unwrap()).replacen("0.", ".", 1);
    for (mean, std) in [(e.mean.map, e.std.map), (e.mean.f1_pn, e.std.f1_pn), (e.mean.f1_pos, e.std.f1_pos)] {
        assert!(page.contains(&format!("<b>{} <small>± {}</small></b>", percent(mean), percent(std))));
    }
    assert!(page.contains(&format!("<td>{}</td>", percent(e.ensemble.f1_pn))), "the ensemble's score");
    let piano = &e.per_class[0].1;
    assert!(page.contains(&format!("data-v=\"{}\"", piano.f1_pn.unwrap())), "a class's score");
    assert!(piano.f1_pn_std.is_some_and(|std| std > 0.0), "and its deviation");
    assert!(page.contains("<dt>lr</dt><dd>0.0005</dd>"), "the settings");
    for file in ["test.json", "metrics.jsonl", "model.safetensors", "seeds.png"] {
        assert!(page.contains(&format!("href=\"{file}\"")), "a link to {file}");
    }

    for forbidden in ["<b>set", "<i ", "<script>alert", "\u{1b}", "<link", "src=\"http", "href=\"http", "url("] {
        assert!(!page.contains(forbidden), "{forbidden:?} is in the page");
    }
    assert!(page.contains("<h1>att on &lt;b&gt;set&lt;/b&gt;</h1>"));
    assert!(page.contains("&lt;i onclick=&#39;x&#39;&gt;&quot;&amp;{{style}}"), "escaped and not expanded");
}

#[test]
fn a_seed_a_class_or_a_score_may_be_alone_or_missing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let one = evaluation(&[7], &["piano"], |_| true);
    write(at, &record(&[7]), &rows(&[7], |_| 1), &one, None).unwrap();
    let page = || std::fs::read_to_string(at.join("report.html")).unwrap();
    assert!(page().contains(" · seed 7 · ") && !page().contains("ensemble") && !page().contains('±'));
    assert_eq!(pixels(&picture(at, "seeds.png"), [204, 226, 239]), 0, "one seed has points, no box");
    assert!(pixels(&picture(at, "learning_curves.png"), [213, 94, 0]) > 50, "one epoch is a dot");

    let mut unlabelled = rows(&[7, 8], |_| 3);
    unlabelled.iter_mut().for_each(|row| row.val_f1_pn = None);
    write(at, &record(&[7, 8]), &unlabelled, &evaluation(&[7, 8], &["piano", "flute"], |_| false), None).unwrap();
    assert_eq!(page().matches("no labels").count(), 2 * (1 + 5 + 2), "of F1 over epochs, five scores, two classes");
    // No row at all: a run whose metrics are gone.
    write(at, &record(&[7]), &[], &evaluation(&[7], &[], |_| true), None).unwrap();
    assert_eq!(names(at), FILES, "older reports are replaced");
}

#[test]
fn many_seeds_epochs_and_classes_stay_small() {
    let folder = tempfile::tempdir().unwrap();
    let seeds: Vec<u64> = (0..1000).collect();
    let names: Vec<String> = (0..300).map(|k| format!("class {k}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let e = evaluation(&seeds, &names, |k| k % 7 != 0);
    let mut rows = rows(&seeds, |s| 1 + (s % 100) as usize);
    rows[0].train_loss = f32::INFINITY;
    rows[1].val_loss = 1e9;
    write(folder.path(), &record(&seeds), &rows, &e, None).unwrap();
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
    assert!(size("report.html") < 2 << 20, "{} bytes", size("report.html"));
    assert_eq!(picture(folder.path(), "classes.png").height(), 2 * (78 + 300 * 22 + 42));

    let long: Vec<EpochRow> = self::rows(&[1], |_| 500_000);
    write(folder.path(), &record(&[1]), &long, &evaluation(&[1], &["piano"], |_| true), None).unwrap();
    assert!(size("report.html") < 200 << 10, "{} bytes", size("report.html"));
}

#[test]
fn a_report_that_cannot_be_written_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // A folder in the place of the page: it cannot be replaced by a file.
    std::fs::create_dir_all(at.join("report.html/in the way")).unwrap();
    let e = evaluation(&[0], &["piano"], |_| true);
    let error = write(at, &record(&[0]), &rows(&[0], |_| 4), &e, None).unwrap_err().to_string();
    assert!(error.contains("report.html: ") && !error.contains('\n'), "{error}");
    assert_eq!(names(at), FILES, "no temporary file is left");
    FILES.iter().filter(|name| name.ends_with(".png")).for_each(|name| drop(picture(at, name)));

    let gone = at.join("gone");
    let error = write(&gone, &record(&[0]), &rows(&[0], |_| 4), &e, None).unwrap_err().to_string();
    assert!(error.contains("learning_curves.png: "), "{error}");
    assert!(!gone.exists());
}

/// 600 clips of `classes.len()` classes; the last has none, the first two are often confused with each other.
fn single_label(seeds: &[u64], classes: &[&str]) -> Evaluation {
    let k = classes.len();
    let truth = |clip: usize| clip * clip % 97 % (k - 1).max(1);
    let targets = Array::from_fn([600, k], |i| f32::from(truth(i / k) == i % k));
    let observed = Array::from_fn([600, k], |_| true);
    let answer = |clip: usize, seed: u64| match ((clip as u64 * 7919 + seed * 13) % 1000, truth(clip)) {
        (0..300, 0 | 1) => 1 - truth(clip),
        (n @ 0..150, _) => n as usize % k,
        (_, right) => right,
    };
    let p: Vec<_> = seeds
        .iter()
        .map(|&s| Array::from_fn([600, k], |i| if answer(i / k, s) == i % k { 0.6 } else { 0.01 }))
        .collect();
    let subject = Subject {
        model: "aacnn".into(),
        parameters: 63_040_083,
        dataset: "orchestra".into(),
        split: "test".into(),
        device: "llvmpipe".into(),
        threshold: Threshold::default(),
        single_label: true,
    };
    evaluated(subject, classes, &targets, &observed, seeds, &p)
}

const ORCHESTRA: [&str; 19] = [
    "banjo",
    "bass clarinet",
    "bassoon",
    "cello",
    "clarinet",
    "contrabassoon",
    "cor anglais",
    "double bass",
    "flute",
    "french horn",
    "guitar",
    "mandolin",
    "oboe",
    "saxophone",
    "trombone",
    "trumpet",
    "tuba",
    "viola",
    "<violin>",
];

#[test]
fn single_label_models_are_reported_with_a_confusion_matrix() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let seeds = [0, 1, 2];
    let e = single_label(&seeds, &ORCHESTRA);
    let mut rows = rows(&seeds, |s| 10 + s as usize);
    rows.iter_mut().for_each(|row| row.val_accuracy = row.val_f1_pn.take());
    rows.iter_mut().for_each(|row| row.train_accuracy = row.val_accuracy.map(|accuracy| accuracy + 0.125));
    let splits = "sample_key,class,split\na@0,<violin>,train\nb@0,<violin>,train\nc@0,tuba,test\nd@0,tuba,validation\n";
    std::fs::write(at.join("splits.csv"), splits).unwrap();
    write(at, &record(&seeds), &rows, &e, None).unwrap();
    assert_eq!(
        names(at),
        ["classes.png", "confusion.png", "learning_curves.png", "report.html", "seeds.png", "splits.csv"]
    );
    let matrix = picture(at, "confusion.png");
    assert_eq!(matrix.width(), 2160);
    let confusion = e.confusion.as_ref().unwrap();
    // Hits are darker blue for higher recall; a cell has about 40 x 29 logical pixels, minus its text.
    for (k, row) in confusion.iter().enumerate().take(18) {
        let share = row[k] as f64 / row.iter().sum::<u64>() as f64;
        let cell = [0, 114, 178].map(|c| 255.0 + share * (f64::from(c) - 255.0));
        let alike = |p: &&image::Rgb<u8>| p.0.iter().zip(cell).all(|(&a, b)| (f64::from(a) - b).abs() <= 2.0);
        assert!(matrix.pixels().filter(alike).count() > 3000, "{}: {cell:?}", ORCHESTRA[k]);
    }
    let page = std::fs::read_to_string(at.join("report.html")).unwrap();
    assert_eq!(page.matches("<svg ").count(), 2 * 4, "the pictures are in it, wide and narrow");
    for words in [
        "Confusion matrix, test split, ensemble of 3 seeds",
        "Accuracy",
        "<span>accuracy</span>",
        "<span>f1_macro</span>",
        "The prediction is the most probable class.",
        "misclassified",
        "href=\"confusion.png\"",
    ] {
        assert!(page.contains(words), "{words}");
    }
    for words in ["f1_pn", "threshold of", "<violin>"] {
        assert!(!page.contains(words), "{words}");
    }
    // AACNN's Table I: clips of each class in training, validation and test.
    for cells in [["&lt;violin&gt;", "2", "0", "0"], ["tuba", "0", "1", "1"]] {
        let row = |line: &str| cells.iter().all(|cell| line.contains(&format!(">{cell}</")));
        assert!(page.lines().any(row), "{cells:?}");
    }
    // Its Fig. 2: accuracy on training clips beside that on validation clips.
    let curves = page.split("<svg ").nth(1).unwrap();
    assert_eq!(curves.matches("training").count(), 2, "the loss and the accuracy");
    // The SVG has every count as a text of its own.
    let matrix = page.rfind("<div class=\"wide\"").unwrap()..page.rfind("<div class=\"narrow\"").unwrap();
    let texts: Vec<&str> = page[matrix].split("<text").filter_map(|t| t.split('>').nth(1)).collect();
    let shown = |clips: u64| texts.iter().any(|t| t.trim_end_matches("</text").trim() == clips.to_string());
    assert!(confusion.iter().flatten().all(|&clips| clips == 0 || shown(clips)), "{texts:?}");
}

#[test]
fn confusions_of_one_or_of_many_classes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let one = ["flute"];
    write(at, &record(&[7]), &rows(&[7], |_| 2), &single_label(&[7], &one), None).unwrap();
    let page = || std::fs::read_to_string(at.join("report.html")).unwrap();
    assert!(page().contains("Confusion matrix, test split, seed 7"));
    let names: Vec<String> = (0..300).map(|k| format!("class {k}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    write(at, &record(&[7]), &rows(&[7], |_| 2), &single_label(&[7], &names), None).unwrap();
    assert!(page().contains("(largest 200 of 300 classes)"));
    assert_eq!(picture(at, "confusion.png").width(), 2160);
    assert!(std::fs::metadata(at.join("report.html")).unwrap().len() < 2 << 20);
}

#[test]
fn an_epoch_has_accuracy_only_if_there_is_one() {
    let mut row = rows(&[3], |_| 2).remove(0);
    let of_labels = serde_json::to_string(&row).unwrap();
    assert!(of_labels.contains("\"val_f1_pn\":0.5") && !of_labels.contains("accuracy"), "{of_labels}");
    assert_eq!(serde_json::from_str::<EpochRow>(&of_labels).unwrap(), row, "rows of older runs are read");
    (row.val_f1_pn, row.val_accuracy) = (None, Some(0.75));
    let single_label = serde_json::to_string(&row).unwrap();
    assert!(single_label.contains("\"val_f1_pn\":null,\"val_accuracy\":0.75"), "{single_label}");
    assert_eq!(serde_json::from_str::<EpochRow>(&single_label).unwrap(), row);
}

/// Clips of one second at (87, 252): clip i sounds in bin 10 i.
fn notes(classes: &[&str], of_clip: &[usize]) -> Dataset {
    let (n, k) = (of_clip.len(), classes.len());
    let loud = |i: usize| i % 252 == i / (87 * 252) * 10;
    Dataset {
        path: "/data/notes".into(),
        classes: classes.iter().map(|c| c.to_string()).collect(),
        keys: (0..n).map(|i| format!("{}/<{i}>.wav@1.00", classes[of_clip[i]])).collect(),
        features: Features {
            values: FeatureValues::F32(
                (0..n * 87 * 252).map(|i| if loud(i) { 5.0 } else { -1.0 }).collect::<Vec<_>>().into(),
            ),
            instances: 87,
            width: 252,
            lengths: vec![87; n],
            spectrum: None,
        },
        targets: (0..n * k).map(|i| f32::from(of_clip[i / k] == i % k)).collect(),
        observed: vec![true; n * k],
        strong: None,
        mixer: None,
        train: vec![],
        validation: None,
        test: (0..n as u32).collect(),
        drawn: None,
        word_vectors: vec![],
        warnings: vec![],
    }
}

/// Each clip is predicted as a class with some probability; the others get the rest.
fn predictions(data: &Dataset, answers: &[(usize, f32)]) -> SplitPredictions {
    let (n, k) = (data.keys.len(), data.classes.len());
    let p = Array::from_fn([n, k], |i| match answers[i / k] {
        (class, p) if class == i % k => p,
        (_, p) => (1.0 - p) / (k - 1) as f32,
    });
    let other = p.map(|p| p);
    let observed = Array::from_fn([n, k], |_| true);
    let targets = Array::new([n, k], data.targets.clone());
    SplitPredictions { split: Split::Test, targets, seeds: vec![(p, observed.clone()), (other, observed)] }
}

#[test]
fn examples_are_a_typical_correct_and_the_most_confident_wrong_prediction() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let classes = ["<banjo>", "cello", "flute", "tuba"];
    // Banjo: three right, of which clip 2 is in the middle, and two wrong; cello: one wrong; flute: one right; tuba:
    // none.
    let data = notes(&classes, &[0, 0, 0, 0, 0, 1, 2]);
    let answers = predictions(&data, &[(0, 0.5), (0, 0.9), (0, 0.7), (1, 0.6), (2, 0.8), (2, 0.9), (2, 1.0)]);
    let settings = Notes { input: FeatureKind::Cqt, scale: Scale::Log, ..Notes::default() };
    let examples = Examples::new(&data, &data.test, &answers, &settings);
    let e = single_label(&[0], &ORCHESTRA);
    write(at, &record(&[0]), &rows(&[0], |_| 2), &e, Some(&examples)).unwrap();

    let page = std::fs::read_to_string(at.join("report.html")).unwrap();
    let tiles: Vec<&str> = page[page.find("<ul class=\"examples\">").unwrap()..].split("<li>").skip(1).collect();
    let expected = [
        ("&lt;banjo&gt;", "right", "correct, 0.70", 2),
        ("&lt;banjo&gt;", "wrong", "predicted as flute, 0.80", 4),
        ("cello", "wrong", "predicted as flute, 0.90", 5),
        ("flute", "right", "correct, 1.00", 6),
    ];
    assert_eq!(tiles.len(), expected.len());
    for (tile, (class, sort, answer, clip)) in tiles.iter().zip(expected) {
        for words in [
            format!(">{class}</b>"),
            format!("<span class=\"{sort}\" title=\"{answer}\">{answer}</span>"),
            format!("alt=\"Spectrum of 1.00 s, &lt;{clip}&gt;.wav\" src=\"data:image/png"),
        ] {
            assert!(tile.contains(&words), "{words} is not in {tile}");
        }
    }
    assert!(page.contains("href=\"examples.png\"") && !page.contains("<banjo>"));

    let image = picture(at, "examples.png");
    assert_eq!((image.width(), names(at).len()), (2160, 6));
    // The lowest spectrum but one sounds in bin 20: of 236 rows from 192 down, 252 - 20.5 parts of 252.
    let row = 192 + (236.0 * (1.0 - 20.5 / 252.0)) as u32;
    let brightest =
        (192..192 + 236).max_by_key(|&y| image.get_pixel(300, y).0.map(u32::from).iter().sum::<u32>()).unwrap();
    assert!(brightest.abs_diff(row) <= 1, "{brightest} of {row}");
    assert!(pixels(&image, [0, 0, 4]) > 300_000, "what is quiet");

    // Magnitudes are shown as logarithms: a thousandth is far from nothing.
    let mut quiet = notes(&["a", "b"], &[0]);
    quiet.features.values =
        FeatureValues::F32((0..87 * 252).map(|i| [0.0, 0.001, 1.0][i % 252 / 84]).collect::<Vec<_>>().into());
    let answers = predictions(&quiet, &[(0, 0.9)]);
    let of_magnitudes = Examples::new(&quiet, &[0], &answers, &Notes { scale: Scale::Magnitude, ..settings });
    of_magnitudes.save(&at.join("examples.png")).unwrap();
    // ln(0.0011 / 0.0001) / ln(1.0001 / 0.0001) of 255 is level 66.
    let middle = picture(at, "examples.png").get_pixel(300, 192 + 118).0;
    assert!(middle.iter().zip([84u8, 19, 125]).all(|(&a, b)| a.abs_diff(b) <= 4), "{middle:?}");
}

#[test]
fn examples_are_of_twenty_classes_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let classes: Vec<String> = (0..30).map(|k| format!("class {k}")).collect();
    let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
    let of_clip: Vec<usize> = (0..60).map(|i| i / 2).collect();
    let data = notes(&classes, &of_clip);
    let answers: Vec<(usize, f32)> = (0..60).map(|i| if i % 2 == 0 { (i / 2, 0.5) } else { (0, 0.5) }).collect();
    let examples = Examples::new(&data, &data.test, &predictions(&data, &answers), &Notes::default());
    write(folder.path(), &record(&[7]), &rows(&[7], |_| 2), &single_label(&[7], &classes), Some(&examples)).unwrap();
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("(first 20 of 30 classes)"));
    // Of the first, class 0 is the right answer to both.
    assert_eq!(page.matches("alt=\"Spectrum of ").count(), 39);
    assert_eq!(picture(folder.path(), "examples.png").width(), 2160);
}
