//! Cases of the convolution.

use std::rc::Rc;

use super::kernels::Conv2d;
use crate::check::{Case, Fill, Input, InputRole};

/// x (B, H, W, C) to `n` channels by a square kernel of `size`.
fn case(name: &str, x: [usize; 4], n: usize, size: usize) -> Case {
    let inputs = vec![Input::gradient(x), weights(x[3], n, size), Input::param([n])];
    Case::new(name, Conv2d::default(), inputs)
}

/// With ReLU: biases of +-3 keep its arguments, with a deviation of about 1/3, away from the kink.
fn relu_case(name: &str, x: [usize; 4], n: usize, size: usize) -> Case {
    let bias = (0..n).map(|i| if i % 2 == 0 { 3.0 } else { -3.0 }).collect();
    let inputs = vec![Input::gradient(x), weights(x[3], n, size), Input::param([n]).filled(Fill::Given(bias))];
    Case::new(name, Conv2d { relu: true, ..Conv2d::default() }, inputs)
}

/// The same with a stride of 2.
fn strided(case: Case, relu: bool) -> Case {
    Case { op: Rc::new(Conv2d { stride: 2, relu }), ..case }
}

fn weights(c: usize, n: usize, size: usize) -> Input {
    let bound = 1.0 / ((size * size * c) as f64).sqrt();
    Input::param([n, c, size, size]).filled(Fill::Uniform(-bound, bound))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("one", [1, 1, 1, 1], 1, 1),
        case("one, 3x3", [1, 1, 1, 1], 1, 3),
        case("tiny", [2, 3, 4, 2], 3, 3),
        case("tiny, 5x5", [1, 4, 3, 2], 2, 5),
        relu_case("tiny, ReLU", [2, 4, 3, 2], 4, 3),
        relu_case("tiny, vec4, ReLU", [1, 3, 5, 4], 4, 3),
        case("tiny vec4, 1x1", [2, 3, 3, 8], 8, 1),
        case("one row", [3, 1, 9, 4], 8, 3),
        case("one column", [3, 9, 1, 4], 8, 3),
        case("one column, primes", [2, 13, 1, 3], 5, 5),
        case("one channel", [2, 9, 7, 1], 20, 3),
        case("one channel to few", [2, 5, 11, 1], 8, 3),
        case("three channels", [2, 6, 8, 3], 12, 5),
        case("three channels to many", [2, 5, 6, 3], 20, 3),
        case("eight channels to 12", [2, 5, 9, 8], 12, 3),
        case("many channels", [2, 5, 9, 60], 20, 3),
        case("ragged channels", [2, 7, 5, 17], 33, 3),
        case("ragged vec4", [3, 7, 5, 36], 44, 3),
        case("primes", [3, 11, 13, 7], 5, 3),
        relu_case("several slices", [5, 16, 6, 12], 20, 3),
        case("1x1", [2, 5, 7, 40], 36, 1),
        case("5x5", [2, 6, 9, 12], 16, 5),
        Case::new(
            "no bias",
            Conv2d { relu: true, ..Conv2d::default() },
            vec![
                Input::data([2, 3, 3, 4]).filled(Fill::Uniform(0.5, 1.0)),
                Input::param([4, 4, 3, 3]).filled(Fill::Uniform(0.5, 1.0)),
            ],
        ),
        Case::new(
            "shared images",
            Conv2d::default(),
            vec![Input::data([2, 5, 6, 4]).shared(), weights(4, 8, 3), Input::param([8])],
        ),
    ];
    // Tiles of 64 and 128 in each pass, complete and not.
    for (name, x, n, size) in [
        ("64 x 64, forward", [1, 64, 128, 4], 64, 1),
        ("64 x 64, backward input", [1, 64, 128, 64], 4, 1),
        ("64 x 64, backward weight", [1, 2, 3, 256], 256, 3),
        ("64 x 64, ragged, forward", [1, 64, 128, 3], 63, 1),
        ("64 x 64, ragged, backward input", [1, 64, 128, 63], 3, 1),
        ("64 x 64, ragged, backward weight", [1, 2, 3, 255], 255, 3),
        ("128 x 128, ragged, backward weight", [1, 1, 2, 511], 511, 3),
    ] {
        cases.push(case(name, x, n, size));
    }
    for (name, c, n) in [
        ("128 x 128, forward", 4, 128),
        ("128 x 128, backward input", 128, 4),
        ("128 x 128, ragged, forward", 3, 127),
        ("128 x 128, ragged, backward input", 127, 3),
    ] {
        // Sums over 16 384 pixels: 3.4e-5 was observed in the bias gradient.
        cases.push(case(name, [1, 128, 128, c], n, 1).gradient_tolerance(1e-4, 1e-5));
    }
    // Runs of 8 pixels, 8 of them next to each other: rows of one pixel less than a run, of a run, of one more, of
    // several subgroups ...
    for (width, c, n) in [(1, 4, 4), (7, 4, 8), (8, 1, 4), (9, 8, 4), (31, 3, 8), (67, 4, 12), (131, 6, 4)] {
        cases.push(case(&format!("5x5, {width} columns, {c} to {n}"), [2, 4, width, c], n, 5));
    }
    // ... of one subgroup and its neighbours' ends, kernels of other sizes, and channels at the borders between the
    // variants.
    for (x, n, size) in [
        ([1, 3, 64, 4], 16, 5),
        ([2, 2, 65, 4], 4, 1),
        ([3, 3, 17, 1], 4, 1),
        ([2, 3, 63, 8], 8, 3),
        ([2, 3, 23, 1], 16, 3),
        ([1, 9, 11, 4], 4, 7),
        ([1, 8, 9, 3], 4, 7),
        ([1, 3, 4, 56], 40, 3),
        ([1, 2, 3, 112], 8, 3),
        ([1, 2, 3, 116], 8, 3),
        ([2, 3, 10, 4], 1, 5),
        ([2, 3, 10, 8], 3, 5),
        ([2, 3, 10, 4], 20, 5),
        ([2, 3, 10, 20], 16, 5),
        ([5, 1, 3, 4], 4, 5),
    ] {
        let [_, _, width, c] = x;
        cases.push(relu_case(&format!("{size}x{size}, {width} columns, {c} to {n}, ReLU"), x, n, size));
    }
    for (name, x, n, size) in [
        ("one", [1, 1, 1, 1], 1, 3),
        ("even", [2, 4, 6, 3], 5, 3),
        ("odd", [2, 5, 7, 4], 8, 3),
        ("odd and even", [1, 7, 4, 2], 3, 5),
        ("1x1", [2, 5, 4, 3], 4, 1),
        ("ragged tiles", [3, 9, 14, 8], 36, 5),
        ("one channel", [3, 13, 18, 1], 32, 3),
    ] {
        cases.push(strided(case(&format!("stride 2, {name}"), x, n, size), false));
    }
    let aacnn = [
        ("AACNN, first, width 1/8", [2, 87, 252, 1], 4),
        ("AACNN, second, width 1/8", [2, 87, 252, 4], 4),
        ("AACNN, fourth, width 1/8", [4, 44, 126, 8], 8),
        ("AACNN, sixth, width 1/8", [4, 22, 63, 16], 16),
    ];
    let vggish = [
        ("first, width 1/4", [4, 96, 64, 1], 16),
        ("first, width 1", [4, 96, 64, 1], 64),
        ("second, width 1/8", [4, 48, 32, 8], 16),
        ("second, width 1/4", [4, 48, 32, 16], 32),
        ("second, width 1", [1, 48, 32, 64], 128),
        ("third, width 1/4", [4, 24, 16, 32], 64),
        ("fifth, width 1/4", [4, 12, 8, 64], 128),
        ("last, width 1", [2, 6, 4, 512], 512),
    ];
    let yamnet = [strided(relu_case("YAMNet, first", [19, 96, 64, 1], 32, 3), true)];
    let aacnn = aacnn.map(|(name, x, n)| case(name, x, n, 5));
    let vggish = vggish.map(|(name, x, n)| relu_case(name, x, n, 3));
    for mut case in aacnn.into_iter().chain(vggish).chain(yamnet) {
        let x = &mut case.inputs[0];
        if x.spec.shape.last() == 1 {
            x.kind = InputRole::Data; // spectrograms, which take no gradient
        }
        cases.push(case.bench());
    }
    cases
}
