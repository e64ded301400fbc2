//! Metrics against hand-worked examples, scikit-learn, and their invariants.

use std::f64::consts::LN_2;

use proptest::prelude::*;
use wmic::Array;
use wmic::metrics::counts::Counts;
use wmic::metrics::evaluation::{Evaluation, SeedPredictions, Subject, evaluate};
use wmic::metrics::scores::{ClassMetrics, Scores, Task, mean, ranking, score, score_single_label, scores_of, std_dev};
use wmic::metrics::thresholds::Threshold;

fn close(got: Option<f64>, want: Option<f64>) -> bool {
    match (got, want) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-12,
        (a, b) => a == b,
    }
}

#[track_caller]
fn assert_close(got: Option<f64>, want: Option<f64>, what: &str) {
    assert!(close(got, want), "{what}: {got:?} instead of {want:?}");
}

#[test]
fn counts_by_hand() {
    let c = Counts { tp: 3, fp: 1, fn_: 2, tn: 4 };
    assert_close(c.f1_pos(), Some(6.0 / 9.0), "f1_pos");
    assert_close(c.f1_pn(), Some((6.0 / 9.0 + 8.0 / 11.0) / 2.0), "f1_pn");
    assert_close(c.precision(), Some((3.0 / 4.0 + 4.0 / 6.0) / 2.0), "precision");
    assert_close(c.recall(), Some((3.0 / 5.0 + 4.0 / 5.0) / 2.0), "recall");
    assert_eq!((c.positives(), c.observed()), (5, 10));

    let never_present = Counts { tn: 4, ..Counts::default() };
    assert_eq!((never_present.f1_pos(), never_present.f1_pn()), (Some(0.0), Some(0.5)));
    assert_eq!(Counts::default().f1_pn(), None);
}

#[test]
fn ranking_by_hand() {
    // Thresholds 0.9 (hit), 0.5 (hit and miss tied), 0.1 (miss).
    let (ap, auc) = ranking(&mut [(0.1, false), (0.5, true), (0.9, true), (0.5, false)]);
    assert_close(ap, Some(0.5 * 1.0 + 0.5 * 2.0 / 3.0), "ap");
    assert_close(auc, Some((2.0 + 1.5) / 4.0), "auc");
    assert_eq!(ranking(&mut [(0.3, false)]), (None, None));
    assert_eq!(ranking(&mut [(0.3, true)]), (Some(1.0), None));
    assert_eq!(ranking(&mut []), (None, None));
}

#[test]
fn spread_by_hand() {
    let values = [Some(1.0), None, Some(2.0), Some(3.0)];
    assert_close(mean(values), Some(2.0), "mean");
    assert_close(std_dev(values), Some(1.0), "standard deviation");
    assert_eq!((std_dev([Some(1.0)]), mean([None])), (None, None));
}

#[test]
fn loss_is_over_observed_entries_and_clamped() {
    let p = Array::new([2, 2], vec![0.5, 1.0, 0.25, 0.75]);
    let y = Array::new([2, 2], vec![1.0, 0.0, 0.0, 1.0]);
    let loss = |seen: [bool; 4]| score(&p, &y, &Array::new([2, 2], seen.into())).0.loss;
    assert_close(loss([true, false, false, false]), Some(LN_2), "one entry");
    assert_close(loss([true, true, false, false]), Some((LN_2 + 100.0) / 2.0), "ln 0 counts as -100");
    assert_eq!(loss([false; 4]), None);
}

const HALF: &[f64] = &[0.5; 20];

fn seed<'a>(seed: u64, p: &'a Array<f32>, observed: &'a Array<bool>) -> SeedPredictions<'a> {
    SeedPredictions { seed, best_epoch: 7, probabilities: p, observed, thresholds: &HALF[..p.shape().last()] }
}

fn subject() -> Subject {
    let text = String::from;
    Subject {
        model: text("att"),
        parameters: 55336,
        dataset: text("d"),
        split: text("test"),
        device: text("g"),
        threshold: Threshold::default(),
        single_label: false,
    }
}

#[test]
fn seeds_ensemble_and_json() {
    let classes = ["violin", "cello"].map(String::from);
    let y = Array::new([2, 2], vec![1.0, 0.0, 0.0, 1.0]);
    let all = Array::new([2, 2], vec![true; 4]);
    let right = Array::new([2, 2], vec![0.9, 0.2, 0.4, 0.8]);
    let wrong = Array::new([2, 2], vec![0.3, 0.6, 0.7, 0.4]);
    let e = evaluate(subject(), &classes, &y, &[seed(3, &right, &all), seed(5, &wrong, &all)]);
    assert_eq!((e.per_seed[0].scores.f1_pn, e.per_seed[1].scores.f1_pn), (Some(1.0), Some(0.0)));
    assert_close(e.mean.f1_pn, Some(0.5), "mean over seeds");
    assert_close(e.std.f1_pn, Some(0.5f64.sqrt()), "sample deviation");
    assert_close(e.per_class[0].1.f1_pn, Some(0.5), "class mean over seeds");
    // Means are 0.6, 0.4, 0.55, 0.6: only clip 1, violin, is wrong.
    assert_close(e.ensemble.f1_pn, Some((1.0 / 3.0 + 1.0) / 2.0), "ensemble");
    assert_close(e.ensemble.map, Some(1.0), "ensemble ranks right");

    let json = serde_json::to_string(&e).unwrap();
    let start = r#"{"model":"att","parameters":55336,"dataset":"d","split":"test","device":"g","threshold":0.5,"#;
    assert!(json.starts_with(&format!(r#"{start}"per_seed":[{{"seed":3,"best_epoch":7,"loss":"#)), "{json}");
    assert!(json.find("violin") < json.find("cello"), "class order is kept: {json}");
    assert_eq!(serde_json::from_str::<Evaluation>(&json).unwrap(), e);
    assert_eq!(evaluate(subject(), &classes, &y, &[seed(3, &right, &all)]).std.f1_pn, None);
}

#[test]
fn each_seed_counts_only_its_own_validation_clips() {
    let y = Array::new([3, 1], vec![1.0, 0.0, 1.0]);
    let (a, b) = (Array::new([3, 1], vec![0.9, 0.9, 0.0]), Array::new([3, 1], vec![0.0, 0.1, 0.0]));
    let (first, second) = (Array::new([3, 1], vec![true, true, false]), Array::new([3, 1], vec![false, true, false]));
    let e = evaluate(subject(), &["flute".into()], &y, &[seed(0, &a, &first), seed(1, &b, &second)]);
    assert_eq!((e.per_seed[0].scores.auc, e.per_seed[1].scores.auc), (Some(0.5), None));
    // Clip 0 is the first seed's alone (0.9), clip 1 is shared (0.5), clip 2 is nobody's.
    assert_eq!((e.ensemble.auc, e.per_class[0].1.observed, e.per_class[0].1.positives), (Some(1.0), 2, 1));
}

#[derive(serde::Deserialize)]
struct Golden {
    p: Vec<Vec<f64>>,
    y: Vec<Vec<f32>>,
    mask: Vec<Vec<u8>>,
    per_class: Vec<GoldenClass>,
    mean: std::collections::HashMap<String, f64>,
    f1_micro: f64,
}

#[derive(serde::Deserialize)]
struct GoldenClass {
    f1_pn: Option<f64>,
    f1_pos: Option<f64>,
    precision: Option<f64>,
    recall: Option<f64>,
    ap: Option<f64>,
    auc: Option<f64>,
    tp: u64,
    fp: u64,
    #[serde(rename = "fn")]
    fn_: u64,
    tn: u64,
}

#[test]
fn as_scikit_learn() {
    let g: Golden = serde_json::from_str(include_str!("../golden/metrics.json")).unwrap();
    let shape = [g.p.len(), g.per_class.len()];
    let observed = Array::new(shape, g.mask.concat().iter().map(|&m| m == 1).collect());
    let (scores, classes) = score(&Array::new(shape, g.p.concat()), &Array::new(shape, g.y.concat()), &observed);
    for (k, (got, want)) in classes.iter().zip(&g.per_class).enumerate() {
        let counts = Counts { tp: want.tp, fp: want.fp, fn_: want.fn_, tn: want.tn };
        let named = [
            ("f1_pn", got.f1_pn, want.f1_pn),
            ("f1_pos", got.f1_pos, want.f1_pos),
            ("precision", got.precision, want.precision),
            ("recall", got.recall, want.recall),
            ("ap", got.ap, want.ap),
            ("auc", got.auc, want.auc),
            ("f1_pn of counts", counts.f1_pn(), want.f1_pn),
            ("recall of counts", counts.recall(), want.recall),
        ];
        for (name, got, want) in named {
            assert_close(got, want, &format!("{name} of class {k}"));
        }
        assert_eq!((got.positives, got.observed), (counts.positives(), counts.observed()), "class {k}");
    }
    let means = [
        ("f1_pn", scores.f1_pn),
        ("f1_pos", scores.f1_pos),
        ("precision", scores.precision),
        ("recall", scores.recall),
        ("ap", scores.map),
        ("auc", scores.auc),
    ];
    for (name, got) in means {
        assert_close(got, Some(g.mean[name]), name);
    }
    assert_close(scores.micro_f1, Some(g.f1_micro), "micro F1");
}

/// One class: (probability in sixteenths, positive, observed) per clip.
fn clips() -> impl Strategy<Value = Vec<(u8, bool, bool)>> {
    prop::collection::vec((0..=16u8, any::<bool>(), any::<bool>()), 1..40)
}

fn score_clips(clips: &[(u8, bool, bool)], p: impl Fn(u8) -> f64) -> ClassMetrics {
    let shape = [clips.len(), 1];
    let p = Array::new(shape, clips.iter().map(|c| p(c.0)).collect());
    let y = Array::new(shape, clips.iter().map(|c| f32::from(c.1)).collect());
    score(&p, &y, &Array::new(shape, clips.iter().map(|c| c.2).collect())).1[0]
}

fn sixteenths(v: u8) -> f64 {
    f64::from(v) / 16.0
}

proptest! {
    #[test]
    fn reversing_the_scores_mirrors_auc(clips in clips()) {
        let (m, mirrored) = (score_clips(&clips, sixteenths), score_clips(&clips, |v| 1.0 - sixteenths(v)));
        prop_assert!(close(mirrored.auc, m.auc.map(|a| 1.0 - a)), "{:?} {:?}", m.auc, mirrored.auc);
    }

    #[test]
    fn a_monotone_map_keeps_the_ranking(clips in clips()) {
        let (m, squared) = (score_clips(&clips, sixteenths), score_clips(&clips, |v| sixteenths(v).powi(2)));
        prop_assert_eq!((m.ap, m.auc), (squared.ap, squared.auc));
    }

    #[test]
    fn order_of_clips_does_not_matter((a, b) in clips().prop_flat_map(|c| (Just(c.clone()), Just(c).prop_shuffle()))) {
        prop_assert_eq!(score_clips(&a, sixteenths), score_clips(&b, sixteenths));
    }

    #[test]
    fn unobserved_clips_do_not_matter(clips in clips()) {
        let seen: Vec<_> = clips.iter().copied().filter(|c| c.2).collect();
        prop_assert_eq!(score_clips(&clips, sixteenths), score_clips(&seen, sixteenths));
    }

    #[test]
    fn metrics_are_between_0_and_1(clips in clips()) {
        let m = score_clips(&clips, sixteenths);
        for v in [m.f1_pn, m.f1_pos, m.ap, m.auc, m.precision, m.recall].into_iter().flatten() {
            prop_assert!((0.0..=1.0 + 1e-12).contains(&v), "{:?}", m);
        }
        prop_assert_eq!(m.ap.is_some(), m.positives > 0);
        prop_assert_eq!(m.auc.is_some(), m.positives > 0 && m.positives < m.observed);
        prop_assert_eq!(m.f1_pn.is_some(), m.observed > 0);
    }
}

/// 14 clips of 5 classes. No clip is of the last two, of which the first is predicted once; two classes tie for a clip,
/// and one clip has probability 0 for its class.
const ONE_CLASS: [([f64; 5], usize); 14] = [
    ([0.65, 0.29, 0.04, 0.0, 0.02], 0),
    ([0.4, 0.06, 0.4, 0.14, 0.0], 0),
    ([0.39, 0.07, 0.47, 0.07, 0.0], 0),
    ([0.42, 0.0, 0.01, 0.55, 0.02], 0),
    ([0.26, 0.12, 0.48, 0.14, 0.0], 1),
    ([0.17, 0.36, 0.44, 0.03, 0.0], 1),
    ([0.01, 0.63, 0.06, 0.27, 0.03], 1),
    ([0.44, 0.01, 0.53, 0.01, 0.01], 2),
    ([0.03, 0.33, 0.46, 0.18, 0.0], 2),
    ([0.18, 0.12, 0.47, 0.22, 0.01], 2),
    ([0.34, 0.01, 0.44, 0.2, 0.01], 2),
    ([0.06, 0.13, 0.52, 0.29, 0.0], 2),
    ([0.0, 0.2, 0.62, 0.15, 0.03], 0),
    ([0.02, 0.78, 0.11, 0.07, 0.02], 1),
];

fn single_label() -> (Array<f64>, Array<f32>) {
    let p = Array::new([14, 5], ONE_CLASS.iter().flat_map(|clip| clip.0).collect());
    (p, Array::from_fn([14, 5], |i| f32::from(ONE_CLASS[i / 5].1 == i % 5)))
}

/// As `accuracy_score`, `precision_score`, `recall_score`, `f1_score`, `average_precision_score` and `roc_auc_score` of
/// scikit-learn. Precision and F1 are over the labels that occur or are predicted, recall over those that occur.
#[test]
fn single_label_as_scikit_learn() {
    let (p, y) = single_label();
    let (scores, classes, confusion) = score_single_label(&p, &y, &Array::from_fn([14, 5], |_| true));
    assert_eq!(confusion, [[2, 0, 2, 1, 0], [0, 2, 2, 0, 0], [0, 0, 5, 0, 0], [0; 5], [0; 5]]);
    let want = [
        ("accuracy", 0.6428571428571429),
        ("f1_macro", 0.6360989810771469),
        ("precision", 0.6388888888888888),
        ("recall", 0.6333333333333333),
        ("micro_f1", 0.6428571428571429),
        ("map", 0.7115343915343916),
        ("auc", 0.7921296296296297),
        // ln 0 counts as -100.
        ("loss", 7.903566501703315),
    ];
    for (metric, (name, want)) in Task::SingleLabel.metrics().iter().zip(want) {
        assert_eq!(metric.name, name, "the most telling first");
        assert_close((metric.of)(&scores), Some(want), name);
    }
    assert_close(scores.f1_pos, Some(0.48809523809523814), "mean F1");
    assert_eq!(scores.f1_pn, None);
    let want = [
        (Some(1.0), Some(0.4), Some(0.5714285714285714), Some(0.7147619047619047), Some(0.7333333333333334)),
        (Some(1.0), Some(0.5), Some(0.6666666666666666), Some(0.8611111111111112), Some(0.8875)),
        (
            Some(0.5555555555555556),
            Some(1.0),
            Some(0.7142857142857143),
            Some(0.5587301587301587),
            Some(0.7555555555555555),
        ),
        (Some(0.0), None, Some(0.0), None, None),
        (None, None, None, None, None),
    ];
    for (k, (m, (precision, recall, f1, ap, auc))) in classes.iter().zip(want).enumerate() {
        let named = [(m.precision, precision), (m.recall, recall), (m.f1_pos, f1), (m.ap, ap), (m.auc, auc)];
        named.iter().for_each(|(got, want)| assert_close(*got, *want, &format!("class {k}")));
        assert_eq!((m.positives, m.observed, m.f1_pn), ([5, 4, 5, 0, 0][k], 14, None), "class {k}");
    }
}

#[test]
fn single_label_edge_cases() {
    assert_eq!(scores_of(&vec![]), Scores::default());
    assert_eq!(scores_of(&vec![vec![0; 2]; 2]), Scores::default(), "no clips, no scores");
    let always_wrong = scores_of(&vec![vec![0, 3], vec![2, 0]]);
    assert_eq!((always_wrong.accuracy, always_wrong.f1_macro), (Some(0.0), Some(0.0)), "0/0 is 0");
    // Partially labelled clips and clips without a class are skipped.
    let (p, y) = single_label();
    let y = Array::from_fn([14, 5], |i| if i / 5 == 3 { 0.0 } else { y[i] });
    let observed = Array::from_fn([14, 5], |i| i / 5 != 12 && i != 4);
    let (scores, classes, confusion) = score_single_label(&p, &y, &observed);
    assert_eq!(confusion[0], [1, 0, 1, 0, 0]);
    assert_eq!((scores.accuracy, classes[0].observed), (Some(8.0 / 11.0), 11));
}

#[test]
fn single_label_seeds_as_an_ensemble() {
    let classes = ["oboe", "horn"].map(String::from);
    let y = Array::new([2, 2], vec![1.0, 0.0, 0.0, 1.0]);
    let all = Array::new([2, 2], vec![true; 4]);
    // All below one half, and above it: thresholds do not matter.
    let (a, b) = (Array::new([2, 2], vec![0.45, 0.4, 0.9, 0.8]), Array::new([2, 2], vec![0.1, 0.3, 0.1, 0.7]));
    let subject = || Subject { single_label: true, ..subject() };
    let e = evaluate(subject(), &classes, &y, &[seed(3, &a, &all), seed(5, &b, &all)]);
    assert_eq!((e.per_seed[0].scores.accuracy, e.per_seed[1].scores.accuracy), (Some(0.5), Some(0.5)));
    // Means are 0.275 and 0.35, 0.5 and 0.75.
    assert_eq!(e.confusion, Some(vec![vec![0, 1], vec![0, 1]]));
    assert_eq!((e.ensemble.accuracy, e.mean.accuracy, e.std.accuracy), (Some(0.5), Some(0.5), Some(0.0)));
    // Seeds 3 and 5 have F1 2/3 and 0 of the oboe.
    assert_close(e.per_class[0].1.f1_pos, Some(1.0 / 3.0), "mean over seeds");
    assert_close(e.per_class[0].1.f1_pos_std, Some(0.5f64.sqrt() * 2.0 / 3.0), "deviation");
    let json = serde_json::to_string(&e).unwrap();
    assert!(json.contains(r#""exclusive":true"#) && json.contains(r#""confusion":[[0,1],[0,1]]"#), "{json}");
    assert_eq!(serde_json::from_str::<Evaluation>(&json).unwrap(), e);
    let one = evaluate(subject(), &classes, &y, &[seed(3, &a, &all)]);
    assert_eq!((one.confusion, one.std.accuracy), (Some(vec![vec![1, 0], vec![1, 0]]), None));
    // Multi-label results have no additional keys.
    let labels = serde_json::to_string(&evaluate(
        Subject { single_label: false, ..subject() },
        &classes,
        &y,
        &[seed(3, &a, &all)],
    ));
    let labels = labels.unwrap();
    assert!(
        ["exclusive", "confusion", "accuracy", "f1_macro", "f1_pos_std"].iter().all(|key| !labels.contains(key)),
        "{labels}"
    );
}
