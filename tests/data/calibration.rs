//! Calibration: what it restores, what it leaves alone, and thresholds for a precision.

use proptest::prelude::*;
use wmic::core::random::Stream;
use wmic::metrics::calibration::{Calibration, expected_error, precision_thresholds, reliability};
use wmic::predict::ensemble::Fitted;

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// Labels drawn with the true probabilities of `n` clips, beside probabilities whose log-odds are distorted to 3 z + 1.
fn overconfident(n: usize) -> (Vec<(f32, bool)>, Vec<f64>) {
    let mut stream = Stream::new(7, 0);
    let mut uniform = || stream.uniform(0.5) + 0.5;
    let clip = |_| {
        let z = 4.0 * uniform() - 2.0;
        ((sigmoid(3.0 * z + 1.0) as f32, uniform() < sigmoid(z)), sigmoid(z))
    };
    (0..n).map(clip).unzip()
}

#[test]
fn distorted_probabilities_are_restored() {
    let (labelled, truth) = overconfident(20_000);
    let fit = Calibration::fit(&labelled, Calibration::IDENTITY);
    // The inverse of 3 z + 1 is (z - 1) / 3.
    assert!((fit.slope - 1.0 / 3.0).abs() < 0.02 && (fit.intercept + 1.0 / 3.0).abs() < 0.05, "{fit:?}");
    let worst = labelled.iter().zip(&truth).map(|((p, _), t)| (fit.apply(f64::from(*p)) - t).abs());
    assert!(worst.fold(0.0, f64::max) < 0.03);
    let error = |of: &dyn Fn(f64) -> f64| {
        let pairs: Vec<(f64, bool)> = labelled.iter().map(|(p, label)| (of(f64::from(*p)), *label)).collect();
        expected_error(&reliability(&pairs, 15))
    };
    let (before, after) = (error(&|p| p), error(&|p| fit.apply(p)));
    assert!(before > 0.1 && after < 0.015, "{before} to {after}");
}

#[test]
fn a_class_with_few_labels_takes_the_curve_of_all() {
    let (labelled, truth) = overconfident(2_000);
    let few: Vec<(f32, bool)> = labelled[..20].to_vec();
    let classes = [vec![], few, labelled.clone()];
    let [none, few, many] = Calibration::of_classes(&classes)[..] else { panic!("a curve for each class") };
    let off = |a: Calibration, b: Calibration| (a.slope - b.slope).abs().max((a.intercept - b.intercept).abs());
    assert_eq!(none, Calibration::fit(&classes.concat(), Calibration::IDENTITY));
    assert!(off(none, many) < 0.03 && off(none, few) < 0.3, "{none:?} {few:?} {many:?}");
    // On its own, a class of 20 labels is off by far more.
    let error = |fit: Calibration| {
        let each = labelled.iter().zip(&truth).map(|((p, _), t)| (fit.apply(f64::from(*p)) - t).abs());
        each.sum::<f64>() / truth.len() as f64
    };
    assert!(error(few) < 0.05, "{}", error(few));
    let reversed = [(0.1, true); 50].into_iter().chain([(0.9, false); 50]).collect::<Vec<_>>();
    assert_eq!(Calibration::fit(&reversed, many), many);
    assert_eq!(Calibration::fit(&[], Calibration::IDENTITY).apply(0.3), 0.3);
}

#[test]
fn a_wished_precision_is_reached_on_calibrated_probabilities() {
    // 0.9 0.9 0.6 0.6 0.1: the running means are .9 .9 .8 .75 .62. Less than 0.2 is never present.
    let thresholds = precision_thresholds(&[0.6, 0.1, 0.9, 0.6, 0.9].map(|p| (p, 1.0)));
    // For 0.5, 0.51 ... 0.99.
    assert_eq!(thresholds.len(), 50);
    for (wished, threshold) in [(0.95, 1.0), (0.85, 0.9), (0.8, 0.9), (0.75, 0.6), (0.6, 0.2), (0.5, 0.2)] {
        assert_eq!(thresholds[(wished * 100.0_f64).round() as usize - 50], threshold, "{wished}");
    }
    assert!(precision_thresholds(&[]).iter().all(|threshold| *threshold == 1.0));
    // A clip of three times the weight counts as three: (0.9 + 3 x 0.5) / 4.
    let thresholds = precision_thresholds(&[(0.9, 1.0), (0.5, 3.0)]);
    assert_eq!((thresholds[10], thresholds[11]), (0.5, 0.9));
}

/// A class of which no clip is certain has the threshold of all others: its best clips are named.
#[test]
fn thresholds_are_those_of_all_classes_together() {
    let clips = |positive: &[f32], negative: &[f32]| {
        let labelled = |of: &[f32], label: bool| of.iter().map(|p| (*p, label)).collect::<Vec<_>>();
        [labelled(positive, true), labelled(negative, false)].concat().repeat(20)
    };
    let classes = [clips(&[0.95, 0.9, 0.9], &[0.1, 0.05]), clips(&[0.45], &[0.4, 0.1, 0.1])];
    let fitted = Fitted::of_classes(&classes, None);
    let (first, second) = (&fitted.precision_thresholds[0], &fitted.precision_thresholds[1]);
    assert_eq!(first, second);
    assert!((0.2..0.5).contains(&first[10]), "{}", first[10]);
}

/// Two of five labelled clips have the class, one of eight recordings.
#[test]
fn a_prior_of_recordings_corrects_that_of_labelled_clips() {
    let clips =
        [vec![(0.8f32, true); 60], vec![(0.8, false); 20], vec![(0.2, true); 20], vec![(0.2, false); 100]].concat();
    let [labelled, corrected] =
        [None, Some(0.125)].map(|prior| Fitted::of_classes(std::slice::from_ref(&clips), prior));
    let odds = |fitted: &Fitted, p: f64| {
        let p = fitted.calibrations[0].apply(p);
        p / (1.0 - p)
    };
    // The odds of the fractions are 2/3 and 1/7; the curve's own fraction is a little more than 2/5.
    for p in [0.2, 0.8] {
        let ratio = odds(&corrected, p) / odds(&labelled, p);
        assert!((ratio - 1.5 / 7.0).abs() < 0.01, "{ratio}");
    }
    // Of the labelled clips at .8 three in four are right, of the recordings 60 x .3125 of 60 x .3125 + 20 x 1.458.
    assert!((labelled.calibrations[0].apply(0.8) - 0.75).abs() < 0.03);
    assert!((corrected.calibrations[0].apply(0.8) - 0.39).abs() < 0.03);
    assert!(labelled.precision_thresholds[0][10] < 0.8 && corrected.precision_thresholds[0][10] == 1.0);
    // Four clips that by chance are three of them present have the curve of all, and no correction of their own.
    let few = vec![(0.8, true), (0.8, true), (0.2, true), (0.2, false)];
    let both = Fitted::of_classes(&[clips, few], Some(0.125));
    let [many, few] = [0, 1].map(|class| both.calibrations[class].apply(0.8));
    assert!((many - few).abs() < 0.06, "{many} {few}");
    // Without clips of both kinds there is nothing to correct.
    let only = [vec![(0.5f32, true); 3]];
    assert_eq!(Fitted::of_classes(&only, Some(0.1)), Fitted::of_classes(&only, None));
}

#[test]
fn bins_by_hand() {
    let bins = reliability(&[(0.05, false), (0.15, true), (0.12, false), (1.0, true)], 10);
    assert_eq!(bins.iter().map(|bin| bin.count).collect::<Vec<_>>(), [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert!((bins[1].probability - 0.135).abs() < 1e-12 && bins[1].present == 0.5);
    // (1 x 0.05 + 2 x 0.365 + 1 x 0) / 4
    assert!((expected_error(&bins) - 0.195).abs() < 1e-12);
    assert_eq!(expected_error(&reliability(&[], 10)), 0.0);
}

proptest! {
    /// Whatever the labels: probabilities stay probabilities, in the same order.
    #[test]
    fn the_order_is_kept(labelled in prop::collection::vec((0.0..=1.0f32, any::<bool>()), 0..200)) {
        let fit = Calibration::fit(&labelled, Calibration::IDENTITY);
        let grid: Vec<f64> = (0..=100).map(|i| fit.apply(f64::from(i) / 100.0)).collect();
        prop_assert!(grid.iter().all(|p| (0.0..=1.0).contains(p)), "{:?}", fit);
        prop_assert!(grid.is_sorted(), "{:?}", fit);
    }
}
