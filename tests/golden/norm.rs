//! The references of batch norm and the pooling ops against PyTorch, gradients by central differences.

use crate::support::{Golden, gradient};
use wmic::Array;
use wmic::graph::Op;
use wmic::ops::attention_pool::{AttentionPool, Pooling};
use wmic::ops::batch_norm::{BatchNorm, Eval, Train};
use wmic::ops::mean_pool::MeanPool;

/// f32 rounding of the stored values, relative to numbers of this size.
const TOLERANCE: f64 = 1e-6;

#[track_caller]
fn assert_close(name: &str, got: &[f64], want: &Array<f64>) {
    assert_eq!(got.len(), want.data().len(), "{name}");
    for (i, (got, want)) in got.iter().zip(want.data()).enumerate() {
        assert!((got - want).abs() <= TOLERANCE * want.abs().max(1.0), "{name}[{i}] is {got}, PyTorch gives {want}");
    }
}

#[test]
fn batch_norm_is_pytorchs() {
    let golden = Golden::open("layers.safetensors");
    let tensor = |name: &str| golden.tensor(&format!("batch_norm.{name}"));
    let config = BatchNorm { eps: 1e-5, momentum: 0.1, relu_dropout: None };
    let names = ["x", "lengths", "gamma", "beta", "running_mean", "running_var"];
    let mut x: Vec<_> = names.map(tensor).into();

    let train = Train { config, stream: 0 };
    let after = train.reference(&x);
    assert_close("y", after[0].data(), &tensor("y"));
    assert_close("running_mean", after[1].data(), &tensor("running_mean_after"));
    assert_close("running_var", after[2].data(), &tensor("running_var_after"));
    let dy = tensor("dy");
    for (i, name) in [(0, "dx"), (2, "dgamma"), (3, "dbeta")] {
        assert_close(name, &gradient(&train, &x, i, &dy), &tensor(name));
    }

    (x[4], x[5]) = (after[1].clone(), after[2].clone());
    assert_close("y_eval", Eval { config }.reference(&x)[0].data(), &tensor("y_eval"));
}

#[test]
fn attention_pool_is_pytorchs() {
    let golden = Golden::open("layers.safetensors");
    let tensor = |name: &str| golden.tensor(&format!("attention.{name}"));
    let joined = |att: &str, cla: &str| {
        let (att, cla) = (tensor(att), tensor(cla));
        let row = |i: usize| [att.row(i), cla.row(i)].concat();
        let data = (0..att.shape().rows()).flat_map(row).collect();
        Array::new(att.shape().with_last(2 * att.shape().last()), data)
    };
    let (x, op) = ([joined("att", "cla"), tensor("lengths")], AttentionPool { pooling: Pooling::Sigmoid });
    let y = op.reference(&x);
    assert_close("y", y[0].data(), &tensor("y"));
    assert_close("weights", y[1].data(), &tensor("weights"));
    assert_close("gradient", &gradient(&op, &x, 0, &tensor("dy")), &joined("datt", "dcla"));
}

#[test]
fn mean_pool_is_pytorchs() {
    let golden = Golden::open("layers.safetensors");
    let tensor = |name: &str| golden.tensor(&format!("mean.{name}"));
    let x = ["x", "lengths"].map(tensor);
    assert_close("y", MeanPool.reference(&x)[0].data(), &tensor("y"));
    assert_close("dx", &gradient(&MeanPool, &x, 0, &tensor("dy")), &tensor("dx"));
}
