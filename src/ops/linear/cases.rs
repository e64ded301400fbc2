//! Shapes that the kernels are checked with and measured on.

use std::rc::Rc;

use super::kernels::Linear;
use crate::check::{Case, Fill, Input, InputRole};
use crate::ops::activation::Activation;
use crate::ops::arena::ALIGN;

fn case(name: &str, x: &[usize], n: usize, bias: bool) -> Case {
    let k = *x.last().expect("x has axes");
    let mut inputs = vec![Input::gradient(x), Input::param([n, k].as_slice())];
    if bias {
        inputs.push(Input::param([n].as_slice()));
    }
    Case::new(name, Linear::PLAIN, inputs)
}

/// x (rows, S, K) through segments, with ReLU: biases of +-2 keep its arguments away from the kink.
fn segmented(name: &str, x: [usize; 3], n: usize) -> Case {
    let [_, segments, k] = x;
    let bound = 1.0 / (k as f64).sqrt();
    let bias = (0..n).map(|i| if i % 2 == 0 { 2.0 } else { -2.0 }).collect();
    let w = Input::param([n, segments * k]).filled(Fill::Uniform(-bound, bound));
    let inputs = vec![Input::gradient(x), w, Input::param([n]).filled(Fill::Given(bias))];
    Case::new(name, Linear { segments, ..Linear::RELU }, inputs)
}

/// x (rows, K) with leaky ReLU and dropout.
fn dropout(name: &str, [rows, k]: [usize; 2], n: usize) -> Case {
    let mut inputs = segmented(name, [rows, 1, k], n).inputs;
    inputs.push(Input::u32([4], Fill::Below(1000)));
    let activation = Activation::LeakyRelu { slope: 0.01 };
    let config = Linear { activation, dropout: Some((0.4, 5)), ..Linear::PLAIN };
    Case::new(name, config, inputs)
}

fn sigmoid(name: &str, layers: usize, [rows, k]: [usize; 2], n: usize) -> Case {
    let config = Linear { layers, activation: Activation::Sigmoid, ..Linear::PLAIN };
    // On absolute values the sigmoid is flat where its argument is large, and its slope no bound of an error.
    Case { op: Rc::new(config), ..side_by_side(name, layers, &[rows, k], n, true) }.in_f32()
}

/// Several layers side by side.
fn side_by_side(name: &str, layers: usize, x: &[usize], n: usize, bias: bool) -> Case {
    let one = case(name, x, n, bias).inputs;
    let config = Linear { layers, ..Linear::PLAIN };
    let parameters = one[1..].iter().flat_map(|input| vec![input.clone(); layers]);
    Case::new(name, config, [one[0].clone()].into_iter().chain(parameters).collect())
}

/// A frozen layer: one set of weights for all replicas, and no gradient for them.
fn shared_weights(name: &str, x: [usize; 3], n: usize) -> Case {
    let mut case = segmented(name, x, n);
    case.inputs[1..].iter_mut().for_each(|input| input.kind = InputRole::Shared);
    case
}

/// Layers of `n` outputs side by side, with so many weights of all layers bound at once.
fn side_by_side_in_parts(name: &str, layers: usize, x: &[usize], n: usize, part: usize) -> Case {
    let config = Linear { layers, part, ..Linear::PLAIN };
    Case { op: Rc::new(config), ..side_by_side(name, layers, x, n, true) }
}

/// The same with the weights of `outputs` bound at once.
fn in_parts(case: Case, segments: usize, outputs: usize) -> Case {
    let config = Linear { segments, part: outputs * case.inputs[1].spec.shape.last(), ..Linear::RELU };
    Case { op: Rc::new(config), ..case }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("one", &[1, 1], 1, true),
        case("ragged tiles", &[3, 11, 31], 33, true),
        case("no bias", &[33, 17], 31, false),
        case("multiple of 4, ragged rows", &[17, 36], 20, true),
        case("4 columns", &[5, 4], 4, true),
        case("several slices", &[300, 8], 12, true),
        case("primes", &[131, 67], 37, true),
        segmented("segments, tiny", [1, 2, 3], 5),
        segmented("segments, ragged tiles", [35, 3, 17], 33),
        segmented("segments, vec4", [5, 6, 8], 36),
        segmented("segments, several slices", [150, 2, 12], 8),
        segmented("one segment, ReLU", [7, 1, 20], 12),
        dropout("leaky ReLU and dropout", [9, 7], 5),
        dropout("leaky ReLU and dropout, vec4", [33, 12], 36),
        dropout("leaky ReLU and dropout, several slices", [300, 20], 40),
        sigmoid("sigmoid", 1, [9, 7], 5),
        sigmoid("sigmoid, vec4", 1, [33, 12], 36),
        sigmoid("sigmoid, several slices", 1, [300, 20], 40),
        sigmoid("two layers, sigmoid", 2, [9, 7], 5),
        shared_weights("segments, shared weights", [9, 4, 8], 12),
        side_by_side("two layers, tiny", 2, &[1, 2], 1, true),
        side_by_side("two layers, ragged tiles", 2, &[3, 11, 31], 33, true),
        side_by_side("two layers, no bias, vec4", 2, &[5, 8], 36, false),
        side_by_side("two layers, several slices", 2, &[300, 8], 12, true),
        side_by_side("three layers, ragged", 3, &[131, 7], 5, true),
        side_by_side("two layers, 64 x 64, ragged", 2, &[61, 12], 61, true),
        in_parts(shared_weights("in parts, shared weights", [5, 3, 7], 130), 3, ALIGN),
        in_parts(segmented("in parts, ragged", [5, 3, 7], 130), 3, ALIGN),
        in_parts(segmented("in parts, vec4", [9, 2, 8], 132), 2, ALIGN),
        in_parts(segmented("in parts, one segment", [7, 1, 20], 132), 1, ALIGN),
        in_parts(segmented("in parts, with the bias", [7, 1, 20], 100), 1, 110),
        side_by_side_in_parts("two layers in parts", 2, &[7, 20], 132, 2 * ALIGN * 20),
        side_by_side_in_parts("two layers in parts, ragged", 2, &[5, 7], 130, 2 * ALIGN * 7),
        // Weights and biases of both, with padding between, are bound at once: 4324 elements.
        side_by_side_in_parts("two layers in parts, with the biases", 2, &[7, 20], 100, 4340),
        side_by_side_in_parts("two layers in parts, several slices", 2, &[300, 8], 200, 4 * ALIGN * 9),
        // Gradients of the weights by tiles: two slices in parts of half as many outputs.
        in_parts(segmented("in parts, several slices", [150, 2, 8], 200), 2, 2 * ALIGN),
        // More rows than the kernels for 8 lanes sum in one loop. Sums of 240 000 terms of both signs: 8.4e-4 was
        // observed.
        case("many rows, vec4", &[240_004, 4], 4, true).gradient_tolerance(3e-3, 1e-4),
        // More terms than one dispatch sums, forward and in the gradient of x. Sums of 40 004 terms: 1.6e-4 was
        // observed forward.
        case("many inputs", &[3, 40_004], 8, true).forward_tolerance(4e-4, 1e-5),
        case("many inputs, ragged", &[2, 33_001], 3, true).forward_tolerance(4e-4, 1e-5),
        case("many outputs", &[2, 4], 40_004, true),
        // Tiles of 128 and 64 in each pass, complete and not. Sums of up to 1445 terms: 4e-5 was observed.
        case("128 x 128, rows and outputs", &[1444, 20], 1300, true),
        case("128 x 128, rows and inputs", &[1444, 1300], 20, true).forward_tolerance(1e-4, 1e-5),
        case("128 x 128, inputs and outputs", &[20, 1444], 1300, true).forward_tolerance(1e-4, 1e-5),
        case("128 x 128, ragged rows and outputs", &[1445, 19], 1301, true),
        case("128 x 128, ragged rows and inputs", &[1445, 1301], 19, true).forward_tolerance(1e-4, 1e-5),
        case("128 x 128, ragged inputs and outputs", &[19, 1445], 1301, true).forward_tolerance(1e-4, 1e-5),
        case("64 x 64, rows and outputs", &[760, 12], 692, true),
        case("64 x 64, rows and inputs", &[760, 692], 12, true).forward_tolerance(1e-4, 1e-5),
        case("64 x 64, ragged rows and outputs", &[761, 11], 693, true),
        case("64 x 64, ragged rows and inputs", &[761, 693], 11, true).forward_tolerance(1e-4, 1e-5),
        case("64 x 64, ragged inputs and outputs", &[11, 761], 693, true).forward_tolerance(1e-4, 1e-5),
        segmented("64 x 64, segments, both gradients", [60, 130, 60], 60),
        segmented("64 x 64, segments", [380, 2, 40], 700),
        segmented("128 x 128, segments", [380, 8, 12], 700),
        segmented("att-tf, width 1/8", [40, 24, 64], 512).bench(),
    ];
    for (name, x, n) in [
        ("att layer", [1280, 128], 128),
        ("att head, 7 classes", [1280, 128], 7),
        ("fc first", [128, 1280], 512),
        ("att on musicnn, first", [1280, 1506], 128),
    ] {
        // Sums of up to 1506 terms: 4.3e-5 was observed.
        cases.push(case(name, &x, n, true).bench().forward_tolerance(1e-4, 1e-5));
    }
    cases.push(side_by_side("att heads", 2, &[1280, 128], 20, true).bench());
    cases
}
