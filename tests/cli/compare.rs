//! Comparisons: experiments as files, the statistics against scipy and numpy, and `wmic compare` from a dataset to its
//! report.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::{Shared, copy, end, json, rejected, rewrite, send, start, stdout, wait_for, wmic};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use wmic::Array;
use wmic::compare::comparison::{ComparedRun, Comparison};
use wmic::compare::experiment::{BUILT_IN, Experiment};
use wmic::compare::test_predictions::{About, TestPredictions};
use wmic::data::{Dataset, FeatureValues, Features};
use wmic::metrics::evaluation::{SeedPredictions, Subject, evaluate};
use wmic::metrics::scores::Task;
use wmic::metrics::significance::{Bootstrap, RESAMPLES, SeedPrediction, followed, holm, paired_t};
use wmic::metrics::thresholds::Threshold;
use wmic::report::tables::table::Style;
use wmic::run::given::Given;
use wmic::run::settings::find;

#[test]
fn built_in_experiments_name_known_models() {
    for (name, _) in BUILT_IN {
        let experiment = Experiment::find(name).unwrap();
        assert_eq!(experiment.name, name);
        assert!(experiment.entries.len() >= 4 && experiment.paper.is_some() && experiment.found.is_some(), "{name}");
        for entry in &experiment.entries {
            entry.config(Path::new("data")).unwrap_or_else(|e| panic!("{name}, {}: {e}", entry.label));
        }
    }
}

#[test]
fn an_entry_overlays_the_protocol_of_its_model() {
    let text = "title = 'x'\n[[entry]]\nlabel = 'FC_T'\nmodel = 'fc-t'\nlr = 0.25\npatience = 3";
    let experiment = Experiment::parse(Path::new("x.toml"), text).unwrap();
    let config = experiment.entries[0].config(Path::new("data")).unwrap();
    assert_eq!((config.lr, config.patience, config.epochs, config.dropout), (0.25, Some(3), 100, 0.5));
    assert_eq!((experiment.entries[0].folder().as_str(), experiment.seeds), ("fc-t", 1));
}

/// musicnn's features need no weights: those that are given are for the other entries.
#[test]
fn entries_on_musicnn_have_their_own_front_end() {
    let musicnn = "title = 'x'\n[[entry]]\nlabel = 'A'\nmodel = 'att'\ninput = 'musicnn'\n";
    let vggish = "[[entry]]\nlabel = 'B'\nmodel = 'att'\n";
    let mut given = Given::default();
    given.push(find("front_end.weights").unwrap(), "random".into());
    let configs =
        |text: &str| Experiment::parse(Path::new("x.toml"), text).unwrap().configs(Path::new("data"), None, &given);
    let both = configs(&format!("{musicnn}{vggish}")).unwrap();
    assert!(both[0].front_end.is_none() && both[1].front_end.is_some());
    assert_eq!((both[0].epochs, both[1].epochs), (20, 250), "the protocol of each input");
    let error = configs(musicnn).unwrap_err().to_string();
    assert!(error.contains("the entries have their own front ends: remove `front_end.weights`"), "{error}");
}

#[test]
fn experiments_that_make_no_sense_are_one_line() {
    let entry = "[[entry]]\nlabel = 'A'\nmodel = 'att'\n";
    let cases = [
        ("title = 'x'\n", "x.toml: has no [[entry]]"),
        (entry, "x.toml"),
        ("title = 'x'\nodd = 1\n", "x.toml:2: unknown field `odd`"),
        (
            "title = 'x'\nmetric = 'f1'\n",
            "x.toml:2: unknown variant `f1`, expected one of `f1_pn`, `f1_pos`, `accuracy`",
        ),
        ("title = 'x'\n[[entry]]\nmodel = 'att'", "x.toml: entry 1: has no label"),
        ("title = 'x'\n[[entry]]\nlabel = 7", "entry 1: label must be a string, not 7"),
        ("title = 'x'\n[[entry]]\nlabel = '+'\nmodel = 'att'", "without a letter or a digit"),
        ("title = 'x'\n[[entry]]\nlabel = 'A'", "x.toml: entry 1: (A) has no model"),
        ("title = 'x'\n[[entry]]\nlabel = 'A'\nmodel = 'att'\nseeds = [1]", "(A) sets seeds, which must be the same"),
        (
            "title = 'x'\n[[entry]]\nlabel = 'A'\nmodel = 'att'\nreported = { f1 = 1.0 }",
            "(A) reported has unknown metric f1",
        ),
        ("title = 'x'\nseeds = 0\n[[entry]]\nlabel = 'A'\nmodel = 'att'", "seeds must be at least 1"),
        (
            "title = 'x'\n[[entry]]\nlabel = 'A'\nmodel = 'att'\n[[entry]]\nlabel = '+ a'\nmodel = 'fc'",
            "same folder name",
        ),
        ("title = 'x'\nmetric = 'accuracy'\n[[entry]]\nlabel = 'A'\nmodel = 'att'", "metric accuracy does not apply"),
        ("title = 'x'\nmetric = 'f1_pn'\n[[entry]]\nlabel = 'A'\nmodel = 'aacnn'", "metric f1_pn does not apply"),
        (
            "title = 'x'\n[[entry]]\nlabel = 'A'\nmodel = 'aacnn'\nreported = { f1_pn = 1.0 }",
            "(A) reported has unknown metric f1_pn; metrics are accuracy, f1_macro",
        ),
        (
            "title = 'x'\n[[entry]]\nlabel = 'A'\nmodel = 'aacnn'\n[[entry]]\nlabel = 'B'\nmodel = 'fc'",
            "one of \"A\" and \"B\" is single-label",
        ),
        ("title = ", "x.toml:1: "),
    ];
    for (text, why) in cases {
        let error = Experiment::parse(Path::new("x.toml"), text).unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains('\n'), "{text}: {error}");
    }
    let of = |keys: &str| {
        let text = format!("title = 'x'\n[[entry]]\nlabel = 'A'\n{keys}");
        let experiment = Experiment::parse(Path::new("x.toml"), &text).unwrap();
        let entry = &experiment.entries[0];
        experiment.error(entry, &entry.config(Path::new("data")).unwrap_err()).to_string()
    };
    assert!(of("model = 'lute'").starts_with("x.toml: entry A: unknown model lute; known models: att"));
    assert!(of("model = 'att'\nlearning_rate = 1").contains("unknown field `learning_rate`"));
    let kind = of("model = 'att'\nepochs = 'ten'");
    assert!(kind.contains("invalid type") && kind.contains("epochs") && !kind.contains('\n'), "{kind}");
}

#[derive(serde::Deserialize)]
struct Golden {
    t: Vec<GoldenT>,
    p: Vec<Vec<Vec<Vec<f32>>>>,
    y: Vec<Vec<f32>>,
    mask: Vec<Vec<u8>>,
    times: Vec<Vec<u32>>,
    bootstrap: BTreeMap<String, GoldenBootstrap>,
}

#[derive(serde::Deserialize)]
struct GoldenT {
    differences: Vec<f64>,
    low: f64,
    high: f64,
    p: f64,
}

#[derive(serde::Deserialize)]
struct GoldenBootstrap {
    low: f64,
    high: f64,
    deviation: f64,
    scores: Vec<[f64; 2]>,
}

struct SplitPredictions {
    runs: Vec<Vec<SeedPrediction>>,
    targets: Array<f32>,
    observed: Array<bool>,
}

fn golden() -> (Golden, SplitPredictions) {
    let g: Golden = serde_json::from_str(include_str!("../golden/significance.json")).unwrap();
    let shape = [g.y.len(), g.y[0].len()];
    let array = |p: &Vec<Vec<f32>>| Array::new(shape, p.concat());
    let answer = |p: &Vec<Vec<f32>>| SeedPrediction { probabilities: array(p), thresholds: vec![0.5; shape[1]] };
    let answers = SplitPredictions {
        runs: g.p.iter().map(|seeds| seeds.iter().map(answer).collect()).collect(),
        targets: array(&g.y),
        observed: Array::new(shape, g.mask.concat().iter().map(|m| *m == 1).collect()),
    };
    (g, answers)
}

#[test]
fn paired_t_as_scipy() {
    for want in golden().0.t {
        let got = paired_t(&want.differences).unwrap();
        for (name, got, want) in [("low", got.low, want.low), ("high", got.high, want.high), ("p", got.p, want.p)] {
            assert!((got - want).abs() < 1e-9 * want.abs().max(1.0), "{name}: {got} instead of {want}");
        }
    }
    assert_eq!(paired_t(&[0.1]), None, "one seed tells nothing");
    let same = paired_t(&[0.0; 4]).unwrap();
    assert_eq!((same.low, same.high, same.p), (0.0, 0.0, 1.0));
    let always = paired_t(&[0.5; 4]).unwrap();
    assert_eq!((always.low, always.high, always.p), (0.5, 0.5, 0.0));
}

#[test]
fn holm_by_hand() {
    let close = |got: Vec<f64>, want: &[f64]| {
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12) && got.len() == want.len(), "{got:?}");
    };
    // .005 * 4, .01 * 3, .03 * 2, and .04 at least the one before it.
    close(holm(&[0.01, 0.04, 0.03, 0.005]), &[0.03, 0.06, 0.06, 0.02]);
    close(holm(&[0.6, 0.7]), &[1.0, 1.0]);
    close(holm(&[]), &[]);
}

#[test]
fn resampled_scores_as_scikit_learn() {
    let (g, SplitPredictions { runs, targets, observed }) = golden();
    let draws =
        Bootstrap::of_draws(Task::MultiLabel, &runs, &targets, &observed, g.times.len(), &|i| g.times[i].clone());
    for (m, name) in followed(Task::MultiLabel).iter().enumerate() {
        for (i, want) in g.bootstrap[*name].scores.iter().enumerate() {
            for (run, want) in want.iter().enumerate() {
                let got = draws.scores(i, run)[m].unwrap();
                assert!((got - want).abs() < 1e-12, "{name} of run {run}, resample {i}: {got} instead of {want}");
            }
        }
    }
}

#[test]
fn a_known_difference_is_found_and_none_is_not() {
    let (g, SplitPredictions { mut runs, targets, observed }) = golden();
    runs.push(runs[0].clone());
    let bootstrap = Bootstrap::new(Task::MultiLabel, &runs, &targets, &observed, RESAMPLES);
    for (m, name) in followed(Task::MultiLabel).iter().enumerate() {
        let (got, want) = (bootstrap.test(0, 1, m).unwrap(), &g.bootstrap[*name]);
        for (got, want_end) in [(got.low, want.low), (got.high, want.high)] {
            // A 2.5 % quantile of 2000 draws scatters by 0.06 deviations.
            assert!((got - want_end).abs() < 0.25 * want.deviation, "{name}: {got} instead of {want_end}");
        }
        // No resample reverses it.
        assert!(got.p <= 2.0 * 3.0 / 2001.0, "{name}: {}", got.p);
        let turned = bootstrap.test(1, 0, m).unwrap();
        assert!((turned.low + got.high).abs() < 1e-12 && turned.p == got.p, "{name}");
        let none = bootstrap.test(0, 2, m).unwrap();
        assert_eq!((none.low, none.high, none.p), (0.0, 0.0, 1.0), "{name}");
    }
    // Halving probabilities and thresholds changes nothing.
    let mut halved = runs[0].clone();
    for answer in &mut halved {
        *answer = SeedPrediction { probabilities: answer.probabilities.map(|p| p / 2.0), thresholds: vec![0.25; 4] };
    }
    let halves = Bootstrap::new(Task::MultiLabel, &[runs[0].clone(), halved], &targets, &observed, 10);
    assert!((0..10).all(|i| halves.scores(i, 0) == halves.scores(i, 1)));
    let unlabelled = Array::from_fn(observed.shape().clone(), |_| false);
    let nothing = Bootstrap::new(Task::MultiLabel, &runs, &targets, &unlabelled, 10);
    assert_eq!((nothing.test(0, 1, 0), nothing.scores(0, 0)), (None, &[None; 3][..]));
}

/// Predictions for 14 clips of 5 classes, and their classes. No clip is of the last two, of which the first is
/// predicted once.
const ANSWERED: [(usize, usize); 14] =
    [(0, 0), (0, 0), (2, 0), (3, 0), (2, 1), (2, 1), (1, 1), (2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (2, 0), (1, 1)];
const TIMES: [u32; 14] = [2, 0, 1, 1, 0, 0, 0, 3, 1, 0, 2, 1, 2, 1];

#[test]
fn resampled_single_label_predictions_as_scikit_learn() {
    let targets = Array::from_fn([14, 5], |i| f32::from(ANSWERED[i / 5].1 == i % 5));
    let observed = Array::from_fn([14, 5], |_| true);
    // None of them reaches the threshold.
    let probabilities = Array::from_fn([14, 5], |i| if ANSWERED[i / 5].0 == i % 5 { 0.4 } else { 0.1 });
    let answer = SeedPrediction { probabilities, thresholds: vec![0.5; 5] };
    assert_eq!(followed(Task::SingleLabel), ["accuracy", "f1_macro"]);
    let close = |got: &[Option<f64>], want: [f64; 2]| {
        assert!(got.iter().zip(want).all(|(a, b)| (a.unwrap() - b).abs() < 1e-12) && got.len() == 2, "{got:?}");
    };
    close(&answer.scores(Task::SingleLabel, &targets, &observed), [0.6428571428571429, 0.6360989810771469]);
    let runs = [vec![answer]];
    let draws = Bootstrap::of_draws(Task::SingleLabel, &runs, &targets, &observed, 1, &|_| TIMES.to_vec());
    close(draws.scores(0, 0), [0.7142857142857143, 0.722753346080306]);
}

#[test]
fn aacnn21_is_table_ii() {
    let x = Experiment::find("aacnn21").unwrap();
    assert_eq!((x.metric.name(), x.seeds, x.entries.len()), ("accuracy", 3, 10));
    let folders: Vec<String> = x.entries.iter().map(|entry| entry.folder()).collect();
    assert_eq!((folders[0].as_str(), folders[9].as_str()), ("stft-0", "cqt-100"));
    for entry in &x.entries {
        let of = |name: &str| entry.reported[name];
        assert_eq!(of("accuracy"), of("micro_f1"), "{}", entry.label);
        // Of means over three runs, to four digits.
        let harmonic = 2.0 * of("precision") * of("recall") / (of("precision") + of("recall"));
        assert!((harmonic - of("f1_macro")).abs() < 2e-4, "{}: {harmonic}", entry.label);
    }
}

#[test]
fn single_label_models_have_accuracy_and_no_thresholds() {
    let text = "title = 'x'\n[[entry]]\nlabel = 'A'\nmodel = 'aacnn'";
    let x = Experiment::parse(Path::new("x.toml"), text).unwrap();
    assert_eq!((x.metric.name(), x.metric.class_name()), ("accuracy", "f1_pos"));
    let mut config = x.entries[0].config(Path::new("data")).unwrap();
    config.validate().unwrap();
    for level in ["tuned", "0.4"] {
        config.threshold = level.parse().unwrap();
        let error = config.validate().unwrap_err().to_string();
        assert_eq!(error, "aacnn is single-label and has no thresholds: remove `threshold`");
    }
    let rejection = "aacnn is single-label and has no thresholds: remove --threshold";
    // Even if the value equals the default of others.
    rejected(&["train", "no-such-folder", "--model", "aacnn", "--threshold", "0.5"], rejection);
}

/// 120 clips of 15 classes; the i-th of the ten entries errs in 4 i to 4 i + 8 clips.
fn single_label() -> Comparison {
    let (n, k) = (120, 15);
    let classes: Vec<String> = (0..k).map(|class| format!("instrument {class}")).collect();
    let truth = |clip: usize| clip * 7 % k;
    let targets = Array::from_fn([n, k], |i| f32::from(truth(i / k) == i % k));
    let observed = Array::from_fn([n, k], |_| true);
    let data = Dataset {
        path: "orchestra".into(),
        classes: classes.clone(),
        keys: (0..n).map(|clip| format!("clip{clip}")).collect(),
        features: Features {
            values: FeatureValues::U8(vec![0; n].into()),
            instances: 1,
            width: 1,
            lengths: vec![1; n],
            spectrum: None,
        },
        targets: targets.data().to_vec(),
        observed: observed.data().to_vec(),
        strong: None,
        mixer: None,
        train: vec![],
        validation: None,
        test: (0..n as u32).collect(),
        drawn: None,
        word_vectors: vec![],
        warnings: vec![],
    };
    let experiment = Experiment::find("aacnn21").unwrap();
    let (mut entries, mut predictions) = (vec![], vec![]);
    for (i, entry) in experiment.entries.iter().enumerate() {
        let answer = |clip: usize, seed: usize| match (clip * 53 + seed * 17) % n < 4 * i + 4 * seed {
            true => (truth(clip) + 1 + clip % 3) % k,
            false => truth(clip),
        };
        let p = |seed| Array::from_fn([n, k], |i| if answer(i / k, seed) == i % k { 0.4f32 } else { 0.01 });
        let probabilities: Vec<Array<f32>> = (0..3).map(p).collect();
        let subject = Subject {
            model: "aacnn".into(),
            parameters: 63_040_083,
            dataset: "orchestra".into(),
            split: "test".into(),
            device: "llvmpipe".into(),
            threshold: Threshold::default(),
            single_label: true,
        };
        let thresholds = vec![0.5; k];
        let of_seed = |(seed, probabilities)| SeedPredictions {
            seed,
            best_epoch: 0,
            probabilities,
            observed: &observed,
            thresholds: &thresholds,
        };
        let seeds: Vec<_> = (0..).zip(&probabilities).map(of_seed).collect();
        let evaluation = evaluate(subject, &classes, &targets, &seeds);
        let (label, folder, reported) = (entry.label.clone(), entry.folder(), entry.reported.clone());
        let settings = entry.config(Path::new("orchestra")).unwrap();
        entries.push(ComparedRun { label, folder, reported, settings, evaluation });
        let about = About {
            seeds: vec![0, 1, 2],
            clips: data.keys.clone(),
            classes: classes.clone(),
            thresholds: vec![thresholds.clone(); 3],
        };
        predictions.push(TestPredictions { about, probabilities });
    }
    Comparison::new(experiment, entries, vec![], &predictions, &data).unwrap()
}

#[test]
fn single_label_models_are_compared_by_accuracy() {
    let c = single_label();
    assert_eq!((c.pairs.len(), c.compared().map(|m| m.name)[0]), (45, "accuracy"));
    let d = c.difference(0, 9, 0).unwrap();
    let means = [0, 9].map(|i: usize| c.entries[i].evaluation.mean.accuracy.unwrap());
    assert!((d.difference.unwrap() - (means[0] - means[1])).abs() < 1e-12 && d.clips.unwrap().p_holm < 0.05, "{d:?}");
    for pair in &c.pairs {
        let tested: Vec<&str> = pair.differences.iter().filter(|d| d.clips.is_some()).map(|d| d.metric).collect();
        assert_eq!(tested, followed(Task::SingleLabel), "{} and {}", pair.a, pair.b);
    }
    let text = wmic::report::tables::comparison::text(&c, Style::PLAIN);
    let heads: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heads, ["accuracy", "precision", "recall", "micro_f1", "f1_macro"]);
    assert!(text.contains("\naccuracy against STFT 0 %: ") && text.contains("\nf1_macro against STFT 0 %: "), "{text}");
    let boxed = wmic::report::tables::comparison::text(&c, Style { borders: true, colour: false, width: Some(80) });
    assert!(boxed.lines().all(|line| line.chars().count() <= 80), "{boxed}");

    let folder = tempfile::tempdir().unwrap();
    wmic::report::comparison::write(folder.path(), &c).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let page = read("report.html");
    // Table II is shown next to the results.
    for words in [
        "paper .951",
        "paper .850",
        "paper .868",
        "paper .859",
        "f1_pos of each class and entry",
        "notes.attention",
        ">accuracy</h3>",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert!(
        page.contains("accuracy: fraction of correct predictions;") && !page.contains("f1_pn:"),
        "what the scores mean"
    );
    assert!(read("scores.csv").contains("STFT 25 %,0,accuracy,") && !read("scores.csv").contains("f1_pn"));
    assert!(read("classes.csv").starts_with("entry,class,f1_pn,f1_pn_std,f1_pos,f1_pos_std,"));
    for name in ["scores.png", "classes.png"] {
        assert_eq!(image::open(folder.path().join(name)).unwrap().width(), 2160, "{name}");
    }
}

const EXPERIMENT: &str = "title = 'Two small models'\nfound = 'FC_T <is> below.'\nseeds = 2\n\
    [[entry]]\nlabel = 'FC_T'\nmodel = 'fc-t'\nlr = 2e-3\nreported = { f1_pn = 0.797 }\n\
    [[entry]]\nlabel = 'ATT, partial BCE'\nmodel = 'att'\nloss = 'partial-bce'\n";
const FOLDERS: [&str; 2] = ["fc-t", "att-partial-bce"];
const EPOCHS: &str = "20";

fn args<'a>(shared: &Shared, words: &'a mut Vec<String>, out: &str, more: &[&str]) -> Vec<&'a str> {
    let (data, experiment) = (shared.at("data"), shared.at("two.toml"));
    let given = ["compare", &data, "--experiment", &experiment, "--epochs", EPOCHS, "--out", out];
    *words = given.iter().chain(more).map(|word| word.to_string()).collect();
    words.iter().map(String::as_str).collect()
}

/// A dataset, an experiment, and its comparison, which the tests do not change.
fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let shared = Shared::new();
        wmic(&["synth", &shared.at("data"), "--clips", "80"]).assert().success();
        std::fs::write(shared.at("two.toml"), EXPERIMENT).unwrap();
        wmic(&args(&shared, &mut vec![], &shared.at("out"), &[])).assert().success();
        shared
    })
}

/// Every file below a folder, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(folder: &Path, root: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, root, into),
                false => drop(into.insert(path.strip_prefix(root).unwrap().into(), std::fs::read(&path).unwrap())),
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(folder, folder, &mut all);
    all
}

#[track_caller]
fn assert_same(a: &str, b: &str) {
    let (a, mut b) = (files(Path::new(a)), files(Path::new(b)));
    // What another test is writing into the shared comparison at this moment.
    b.retain(|name, _| !name.to_string_lossy().starts_with(".wmic-"));
    assert!(a.keys().eq(b.keys()), "{:?} and {:?}", a.keys(), b.keys());
    for (name, bytes) in &a {
        assert!(*bytes == b[name], "{} differs", name.display());
    }
}

#[cfg(unix)]
#[test]
fn a_comparison_killed_and_interrupted_ends_in_the_same_bytes() {
    let shared = shared();
    let out = shared.at("killed");
    let (second, mut words) = (Path::new(&out).join(FOLDERS[1]), vec![]);
    let args = args(shared, &mut words, &out, &[]);
    let mut child = start(&args);
    wait_for(&second.join("run.toml"));
    child.kill().unwrap();
    assert_eq!(end(child).0, None, "SIGKILL ends it in the middle of the second entry");
    let first = files(&Path::new(&out).join(FOLDERS[0]));
    assert!(!second.join("report.html").exists() && !Path::new(&out).join("report.html").exists());

    let mut child = start(&args);
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let (mut line, mut rest) = (String::new(), String::new());
    while !line.contains("epoch") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it trains");
    }
    send("-INT", &child);
    said.read_to_string(&mut rest).unwrap();
    let code = end(child).0;
    // The rest may have finished before the signal arrives.
    assert!(code == Some(130) && rest.contains("the same command") || code == Some(0), "{code:?}: {rest}");

    let done = wmic(&args).assert().success();
    let said = String::from_utf8(done.get_output().stderr.clone()).unwrap();
    assert!(!said.contains("1/2 FC_T: starting") && !said.contains("1/2 FC_T: resuming"), "{said}");
    assert!(first == files(&Path::new(&out).join(FOLDERS[0])), "a finished run is taken as it is");
    assert_same(&out, &shared.at("out"));
}

#[test]
fn the_report_agrees_with_the_runs() {
    let shared = shared();
    let out = PathBuf::from(shared.at("out"));
    let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(text("experiment.toml"), EXPERIMENT);
    let all: Value = serde_json::from_str(&text("compare.json")).unwrap();
    let tests = FOLDERS.map(|folder| serde_json::from_str::<Value>(&text(&format!("{folder}/test.json"))).unwrap());
    let labels = ["FC_T", "ATT, partial BCE"];
    assert_eq!(all["entries"].as_array().unwrap().len(), 2);
    for ((entry, test), label) in all["entries"].as_array().unwrap().iter().zip(&tests).zip(labels) {
        assert_eq!((&entry["evaluation"], entry["label"].as_str()), (test, Some(label)));
        assert_eq!(entry["settings"]["epochs"].to_string(), EPOCHS);
    }
    assert_eq!(all["entries"][0]["reported"]["f1_pn"], 0.797);

    let mut rows = csv::Reader::from_path(out.join("scores.csv")).unwrap();
    let mut seen = 0;
    for row in rows.records().map(Result::unwrap) {
        let entry = labels.iter().position(|label| *label == &row[0]).unwrap();
        let seed: usize = row[1].parse().unwrap();
        assert_eq!(tests[entry]["per_seed"][seed][&row[2]].as_f64(), row[3].parse().ok(), "{row:?}");
        seen += 1;
    }
    assert_eq!(seen, 2 * 2 * 8, "entries, seeds and metrics");
    let mut rows = csv::Reader::from_path(out.join("classes.csv")).unwrap();
    let names = rows.headers().unwrap().clone();
    for row in rows.records().map(Result::unwrap) {
        let entry = labels.iter().position(|label| *label == &row[0]).unwrap();
        for (name, value) in names.iter().zip(&row).skip(2) {
            assert_eq!(tests[entry]["per_class"][&row[1]][name].as_f64(), value.parse().ok(), "{name} of {row:?}");
        }
    }

    assert_eq!(all["pairs"].as_array().unwrap().len(), 1);
    for d in all["pairs"][0]["differences"].as_array().unwrap() {
        let name = d["metric"].as_str().unwrap();
        let [a, b] = [&tests[0], &tests[1]].map(|test| test["mean"][name].as_f64().unwrap());
        assert!((d["difference"].as_f64().unwrap() - (a - b)).abs() < 1e-12, "{name}");
        assert_eq!(d["seeds"]["p"], d["seeds"]["p_holm"], "one pair needs no correction");
        assert_eq!(d["clips"].is_object(), followed(Task::MultiLabel).contains(&name), "{name}");
    }

    let page = text("report.html");
    for words in ["Two small models", "FC_T &lt;is&gt; below.", "fc-t/report.html", "paper .797", "partial-bce"] {
        assert!(page.contains(words), "{words}");
    }
    let score = |test: &Value| format!("{:.3}", test["mean"]["f1_pn"].as_f64().unwrap()).replacen("0.", ".", 1);
    assert!(tests.iter().all(|test| page.contains(&score(test))), "scores of both");
    assert!(["src=\"http", "href=\"http"].iter().all(|link| !page.contains(link)), "the page needs nothing else");
    for name in ["scores.png", "classes.png"] {
        let picture = image::open(out.join(name)).unwrap().into_rgb8();
        assert!(picture.width() == 2160 && picture.height() > 400, "{name}");
        for colour in [[0, 114, 178], [230, 159, 0]] {
            assert!(picture.pixels().any(|p| p.0 == colour), "{name}: each entry has its colour");
        }
    }
}

#[test]
fn finished_comparisons_are_reported_again_and_others_rejected() {
    let shared = shared();
    let (out, mut words) = (shared.at("out"), vec![]);
    let before = files(Path::new(&out));
    let again = stdout(&args(shared, &mut words, &out, &[]));
    assert!(again.contains("f1_pn against ") && again.contains("map against "), "{again}");
    assert!(!again.contains("One seed each"), "{again}");
    let written: Value = serde_json::from_slice(&before[Path::new("compare.json")]).unwrap();
    assert_eq!(json(&args(shared, &mut words, &out, &["--json"])), written);
    assert!(before == files(Path::new(&out)), "the same bytes");

    let fc_t = format!("{out}/fc-t was started with seeds [0, 1], not [0, 1, 2]");
    rejected(&args(shared, &mut words, &out, &["--seeds", "3"]), &fc_t);
    rejected(
        &args(shared, &mut words, &out, &["--frontend-weights", "random", "--width", "1/8"]),
        "does not record its front end, which was not random",
    );
    let data = shared.at("other-data");
    wmic(&["synth", &data, "--clips", "80", "--seed", "1"]).assert().success();
    let experiment = shared.at("two.toml");
    let other = ["compare", &data, "--experiment", &experiment, "--epochs", EPOCHS, "--out", &out];
    rejected(&other, "is not the dataset that");
    rejected(&args(shared, &mut words, &shared.at("data"), &[]), "is not empty and not a comparison");
    assert!(before == files(Path::new(&out)), "nothing was written");

    let damaged = shared.at("damaged");
    copy(&out, &damaged);
    copy(format!("{out}/fc-t"), format!("{damaged}/keep"));
    let predictions = "test_predictions.safetensors";
    std::fs::copy(format!("{out}/{}/{predictions}", FOLDERS[1]), format!("{damaged}/fc-t/{predictions}")).unwrap();
    let args = args(shared, &mut words, &damaged, &[]);
    wmic(&args).assert().code(2).stderr(contains("does not belong to the test.json beside it; remove it"));
    std::fs::remove_file(format!("{damaged}/fc-t/{predictions}")).unwrap();
    wmic(&args).assert().success();
    assert!(files(&Path::new(&damaged).join("fc-t")) == files(&Path::new(&out).join("fc-t")), "made again, the same");
}

#[test]
fn an_experiment_sets_its_f1() {
    let shared = shared();
    let (data, by_present, out) = (shared.at("data"), shared.at("by-present.toml"), shared.at("by-present"));
    std::fs::write(&by_present, format!("metric = 'f1_pos'\n{EXPERIMENT}")).unwrap();
    copy(shared.at("out"), &out);
    let said = stdout(&["compare", &data, "--experiment", &by_present, "--epochs", EPOCHS, "--out", &out]);
    let heads: Vec<&str> = said.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heads, ["f1_pos", "micro_f1", "map", "precision", "recall"]);
    assert!(said.contains("f1_pos against ") && !said.contains("f1_pn against "), "{said}");
    let page = std::fs::read_to_string(format!("{out}/report.html")).unwrap();
    let table = &page[page.find("f1_pos of each class and entry").unwrap()..];
    let tests = FOLDERS.map(|folder| {
        serde_json::from_slice::<Value>(&std::fs::read(format!("{out}/{folder}/test.json")).unwrap()).unwrap()
    });
    let mean = |class: &str| -> f64 {
        let of = |test: &Value| test["per_class"][class]["f1_pos"].as_f64().unwrap();
        tests.iter().map(of).sum()
    };
    let classes: Vec<&String> = tests[0]["per_class"].as_object().unwrap().keys().collect();
    for a in &classes {
        for b in &classes {
            let place = |class: &str| table.find(&format!("<td title=\"{}\">", class.replace('_', " "))).unwrap();
            assert!(mean(a) <= mean(b) || place(a) < place(b), "{a} before {b}");
        }
    }
}

#[test]
fn what_diverges_is_left_out_and_named() {
    let shared = shared();
    let (data, huge) = (shared.at("data"), shared.at("huge.safetensors"));
    let (three, two) = (shared.at("three.toml"), shared.at("one-diverges.toml"));
    let (out, alone) = (shared.at("three"), shared.at("one-diverges"));
    wmic(&["export", &format!("{}/fc-t", shared.at("out")), "--seed", "0", &huge]).assert().success();
    // Weights that overflow within a step.
    rewrite(Path::new(&huge), &|_| (), 1e30);
    let (head, entries) = EXPERIMENT.split_at(EXPERIMENT.find("[[entry]]").unwrap());
    let bad = format!("[[entry]]\nlabel = 'Huge'\nmodel = 'fc-t'\ninit = '{huge}'\n");
    std::fs::write(&three, format!("{head}{bad}{entries}")).unwrap();
    // Finished runs in `out` are reused.
    copy(shared.at("out"), &out);
    std::fs::remove_file(format!("{out}/report.html")).unwrap();
    let named = contains("wmic: skipped: Huge: seed 0 diverged (NaN loss) in step 1 of epoch 1");
    for round in ["started", "resumed"] {
        let args = ["compare", &data, "--experiment", &three, "--epochs", EPOCHS, "--out", &out];
        wmic(&args).assert().code(1).stderr(named.clone()).stdout(contains("f1_pn against "));
        let all: Value = serde_json::from_slice(&std::fs::read(format!("{out}/compare.json")).unwrap()).unwrap();
        let before: Value = serde_json::from_slice(&std::fs::read(shared.at("out/compare.json")).unwrap()).unwrap();
        assert_eq!((&all["entries"], &all["pairs"]), (&before["entries"], &before["pairs"]), "{round}");
        assert_eq!((all["left_out"].as_array().unwrap().len(), &before["left_out"]), (1, &Value::Array(vec![])));
        let page = std::fs::read_to_string(format!("{out}/report.html")).unwrap();
        assert!(page.contains("Huge: seed 0 diverged (NaN loss)"), "{round}");
    }
    std::fs::write(&two, format!("title = 'x'\n[[entry]]\nlabel = 'FC_T'\nmodel = 'fc-t'\n{bad}")).unwrap();
    let args = ["compare", &data, "--experiment", &two, "--epochs", "1", "--out", &alone];
    wmic(&args).assert().code(1).stderr(named).stdout("");
    assert!(Path::new(&alone).join("fc-t/test.json").exists() && !Path::new(&alone).join("report.html").exists());
}

#[test]
fn nothing_is_trained_before_all_is_known() {
    let shared = shared();
    let (data, bad, out) = (shared.at("data"), shared.at("bad.toml"), shared.at("never"));
    let with = |entry: &str| {
        std::fs::write(&bad, format!("{EXPERIMENT}[[entry]]\nlabel = 'third'\n{entry}")).unwrap();
        ["compare", &data, "--experiment", &bad, "--out", &out]
    };
    rejected(&with("model = 'lute'"), "bad.toml: entry third: unknown model lute");
    rejected(&with("model = 'att'\nlr = -1.0"), "bad.toml: entry third: --lr must be at least 0");
    rejected(&with("model = 'att-tf'"), "bad.toml: entry third: att-tf needs VGGish weights");
    rejected(&["compare", &data, "--experiment", "ismir18"], "unknown experiment ismir18; use aacnn21, ismir19");
    rejected(&["compare", &data, "--experiment", "no.toml"], "no.toml: ");
    // VGGish options apply to the entries that use it, and are rejected if none does.
    let options = ["--frontend-weights", "random", "--width", "1/8", "--train-frontend", "all"];
    let both = ["compare", &data, "--experiment", &bad, "--out", &out];
    let entries =
        "title = 'x'\n[[entry]]\nlabel = 'third'\nmodel = 'sr16'\n[[entry]]\nlabel = 'fourth'\nmodel = 'att-tf'";
    std::fs::write(&bad, entries).unwrap();
    rejected(&[&both[..], &options].concat(), "has no audio/");
    std::fs::write(&bad, "title = 'x'\n[[entry]]\nlabel = 'third'\nmodel = 'sr16'").unwrap();
    let vggish = "entry third: sr16 does not use VGGish: remove --frontend-weights";
    rejected(&[&both[..], &options].concat(), vggish);
    assert!(!Path::new(&out).exists());
}

#[test]
fn one_seed_and_force() {
    let shared = shared();
    let (out, mut words) = (shared.at("forced"), vec![]);
    let one = ["--seeds", "1", "--epochs", "1"];
    let run = |words: &mut Vec<String>, more: &[&str]| {
        let mut args = args(shared, words, &out, &[]);
        args.retain(|word| *word != "--epochs" && *word != EPOCHS);
        args.extend(more);
        let done = wmic(&args).assert().success();
        String::from_utf8(done.get_output().stdout.clone()).unwrap()
    };
    assert!(run(&mut words, &one).contains("One seed each: no significance over seeds"));
    let page = std::fs::read_to_string(Path::new(&out).join("report.html")).unwrap();
    assert!(page.contains("With one seed each there is no test over seeds"));
    let anew = run(&mut words, &["--seeds", "2", "--epochs", "1", "--force"]);
    assert!(!anew.contains("One seed each"), "{anew}");
    let has = predicate::str::contains("seeds = [0, 1]").or(predicate::str::contains("seeds = [\n    0,\n    1,"));
    assert!(has.eval(&std::fs::read_to_string(Path::new(&out).join("fc-t/run.toml")).unwrap()));
}

#[test]
fn an_entry_that_runs_out_of_memory_is_left_out_and_the_next_gets_a_new_device() {
    use wmic::compare::entries::each;
    use wmic::gpu::Gpu;
    let work = |fault: &'static str| {
        let open = || Gpu::open(None);
        each(&["large", "small"], &open().unwrap(), &open, &mut |gpu, i| {
            if i == 0 {
                gpu.fail(fault);
            }
            gpu.run(|_| ())?;
            Ok(Some(i))
        })
    };
    let entries = work("out of memory; try fewer `seeds` or a smaller `batch`").unwrap().unwrap();
    assert_eq!(entries.ended, [(1, 1)]);
    assert_eq!(entries.left_out, ["large: GPU: out of memory; try fewer `seeds` or a smaller `batch`"]);
    // Other errors may affect the other entries, too.
    assert_eq!(work("the device was lost").unwrap_err().to_string(), "large: GPU: the device was lost");
}
