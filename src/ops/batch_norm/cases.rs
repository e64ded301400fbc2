//! Cases of batch norm.

use super::eval::Eval;
use super::layer::{BatchNorm, Train};
use crate::check::{Case, Fill, Input, InputRole};

const PLAIN: BatchNorm = BatchNorm { eps: 1e-5, momentum: 0.1, relu_dropout: None };

/// x, lengths, gamma (some negative), beta, running mean and variance. Far enough from ReLU's kink when x is far from
/// its mean.
fn inputs(x: Input, lengths: &[u32]) -> Vec<Input> {
    let f = [x.spec.shape.last()];
    let lengths = Input::u32([lengths.len()], Fill::Given(lengths.iter().map(|&n| n.into()).collect()));
    let variance = Input::statistic(f).filled(Fill::Uniform(0.5, 2.0));
    let gamma = Input::param(f).filled(Fill::AwayFromZero(0.5));
    let beta = Input::param(f).filled(Fill::Uniform(-0.1, 0.1));
    vec![x, lengths, gamma, beta, Input::statistic(f), variance]
}

fn train(name: &str, x: &[usize], lengths: &[u32], relu_dropout: Option<f64>) -> Case {
    train_on(name, Input::gradient(x).filled(Fill::AwayFromZero(0.5)), lengths, relu_dropout)
}

fn train_on(name: &str, x: Input, lengths: &[u32], relu_dropout: Option<f64>) -> Case {
    let clock = Input::u32([4], Fill::Below(1000));
    let inputs = [inputs(x, lengths), vec![clock]].concat();
    Case::new(name, Train { config: BatchNorm { relu_dropout, ..PLAIN }, stream: 5 }, inputs)
}

/// With a tensor that is added to the result.
fn skip(mut case: Case) -> Case {
    case.inputs.push(Input::gradient(case.inputs[0].spec.shape.dims()));
    case
}

fn eval(name: &str, x: &[usize], lengths: &[u32], relu_dropout: Option<f64>) -> Case {
    let config = BatchNorm { relu_dropout, ..PLAIN };
    frozen(Case::new(name, Eval { config }, inputs(Input::data(x), lengths)))
}

/// Without gradients of gamma and beta.
fn frozen(mut case: Case) -> Case {
    (case.inputs[2].kind, case.inputs[3].kind) = (InputRole::Data, InputRole::Data);
    case
}

pub(super) fn cases() -> Vec<Case> {
    let real = [128, 10, 128];
    let full = [10; 128];
    let many: Vec<u32> = (0..67).map(|b| b % 63).collect();
    let mixed: Vec<u32> = (0..67).map(|b| b % 4).collect();
    vec![
        train("one column", &[3, 2, 1], &[2, 0, 1], None),
        train("long clip", &[1, 100_000, 3], &[99_999], None),
        train("rows without time", &[5, 3], &[1, 1, 0, 1, 1], None),
        train("padding", &[4, 5, 7], &[5, 0, 3, 1], None),
        train("padding, vec4", &[4, 5, 8], &[5, 0, 3, 1], None),
        train("maps", &[3, 4, 6, 7], &[4, 0, 2], Some(0.0)),
        train("maps, vec4", &[5, 3, 11, 8], &[3, 1, 0, 2, 3], Some(0.0)),
        train("one valid row", &[2, 3, 4], &[0, 1], None),
        train("no valid row", &[2, 3, 5], &[0, 0], None),
        train("relu", &[4, 5, 4], &[5, 0, 3, 4], Some(0.0)),
        train("relu and dropout", &[4, 5, 7], &[5, 2, 3, 4], Some(0.6)),
        train("relu and dropout, vec4", &[4, 5, 8], &[5, 2, 3, 4], Some(0.6)),
        train_on("input without gradient", Input::data([9, 3, 6]), &[3; 9], Some(0.5)),
        train_on("far from zero", Input::gradient([40, 2, 4]).filled(Fill::Uniform(100.0, 101.0)), &[2; 40], None),
        train_on("shared by the replicas", Input::data([3, 2, 4]).shared(), &[2, 1, 2], None),
        train("more rows than a workgroup has", &[67, 3, 17], &mixed, Some(0.3)),
        train("more rows than a workgroup has, vec4", &[67, 3, 36], &mixed, Some(0.3)),
        train("several slices, vec4", &[67, 62, 4], &many, Some(0.3)),
        train("slices of more rows", &[33_000, 1], &[1; 33_000], None),
        frozen(train("gamma and beta without gradient", &[4, 3, 4], &[3, 1, 0, 2], None)),
        skip(train("skip connection", &[4, 5, 7], &[5, 0, 3, 1], None)),
        skip(train("skip connection, relu and dropout, vec4", &[4, 5, 8], &[5, 2, 3, 4], Some(0.6))),
        skip(train("skip connection, several slices, vec4", &[67, 62, 4], &many, Some(0.3))),
        skip(train("skip connection, slices of more rows", &[33_000, 1], &[1; 33_000], None)),
        eval("running statistics", &[4, 5, 7], &[5, 0, 3, 1], None),
        eval("running statistics, maps", &[3, 4, 6, 7], &[4, 0, 2], None),
        eval("running statistics, relu", &[4, 5, 8], &[5, 0, 3, 1], Some(0.6)),
        train("att input", &real, &full, None).bench(),
        train("att layer", &real, &full, Some(0.6)).bench(),
        skip(train("att, last layer", &real, &full, Some(0.6))).bench(),
        train("first maps of aacnn, width 1/8", &[4, 87, 252, 4], &[87 * 252; 4], Some(0.0)).bench(),
        train("first maps of cnn-att", &[1, 20, 3072, 16], &[20], Some(0.0)).bench(),
        eval("att layer, evaluation", &real, &full, Some(0.6)).bench(),
    ]
}
