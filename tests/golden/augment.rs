//! Mixup, concatenation and SpecAugment against plain Python, all nine pairs of absent, unknown and present among the
//! labels.

use crate::support::Golden;
use wmic::Array;
use wmic::graph::Op;
use wmic::ops::concat::Concat;
use wmic::ops::mixup::Mixup;
use wmic::ops::spec_augment::{Augment, SpecAugment};

const POSITIONS: usize = 3;

/// Clock, clips, partners.
fn inputs(g: &Golden) -> Vec<Array<f64>> {
    let names = ["clock", "x", "lengths", "target", "observed", "x2", "lengths2", "target2", "observed2"];
    names.map(|name| g.tensor(name)).into()
}

/// Compares outputs with `case.NAME`, up to the rounding of the file to f32.
#[track_caller]
fn assert_same(g: &Golden, case: &str, names: &[&str], got: &[Array<f64>]) {
    assert_eq!(names.len(), got.len(), "{case}: outputs");
    for (name, got) in names.iter().zip(got) {
        let want = g.tensor(&format!("{case}.{name}"));
        assert_eq!(got.dims(), want.dims(), "{case} {name}");
        for (i, (got, want)) in got.data().iter().zip(want.data()).enumerate() {
            assert!((got - want).abs() <= 1e-7, "{case} {name}[{i}] is {got}, Python gives {want}");
        }
    }
}

#[test]
fn mixup_is_pythons() {
    let g = Golden::open("augment.safetensors");
    for (case, alpha) in [("mixup", 0.2), ("mixup_uniform", 1.0)] {
        let y = Mixup { alpha, positions: POSITIONS }.reference(&inputs(&g));
        assert_same(&g, case, &["y", "lengths", "target", "observed", "lambda"], &y);
        let above = y[4].data().iter().filter(|v| **v > 0.5).count();
        assert!(0 < above && above < y[4].shape().len(), "{case}: either clip has the larger weight somewhere");
    }
}

#[test]
fn concatenation_is_pythons() {
    let g = Golden::open("augment.safetensors");
    for (case, probability) in [("concat", 1.0), ("concat_half", 0.5)] {
        let y = Concat { probability, positions: POSITIONS }.reference(&inputs(&g));
        assert_same(&g, case, &["y", "lengths", "target", "observed"], &y);
    }
}

#[test]
fn spec_augment_is_pythons() {
    let g = Golden::open("augment.safetensors");
    let config = SpecAugment { freq_mask: 3, time_mask: 10, level_shift: 0.5 };
    let x = g.tensor("spec_augment.x");
    // Lengths are in units of 2 frames: instances of 6 frames with 3 positions.
    let y = Augment { config, unit: 2 }.reference(&[x, g.tensor("lengths"), g.tensor("clock")]);
    assert_same(&g, "spec_augment", &["y"], &y);
}
