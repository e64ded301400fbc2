//! Graphs as ONNX models: what has no such form. What has is compared with a runtime in `python/tests`.

use std::collections::HashMap;

use wmic::Error;
use wmic::graph::onnx::export::{Export, Input};
use wmic::graph::onnx::operators::{Operators, Value};
use wmic::graph::{Graph, Init, Mode, Op, Spec, Tensor};
use wmic::ops::batch_norm::{BatchNorm, Eval};
use wmic::ops::linear::linear;

/// Writes a graph of an input x (1, 4).
fn export(build: impl FnOnce(&mut Graph, Tensor) -> Tensor) -> wmic::Result<()> {
    let (folder, mut g) = (tempfile::tempdir().unwrap(), Graph::new(Mode::Eval));
    let x = g.input("x", Spec::f32([1, 4]));
    let y = build(&mut g, x);
    let written = Export {
        graph: &g,
        weights: HashMap::new(),
        inputs: vec![Input { tensor: x, name: Some("x"), known: 0.0, doc: "" }],
        outputs: vec![("y", y)],
        name: "test",
        doc: String::new(),
        metadata: vec![],
    };
    written.write(&folder.path().join("a.onnx"))
}

#[test]
fn what_has_no_form_in_onnx_is_told_from_other_mistakes() {
    assert!(export(|_, x| x).is_ok());
    let frozen = |g: &mut Graph, x: Tensor| {
        let w = g.input("w", Spec::f32([3, 4]));
        linear(g, x, w, None).unwrap()
    };
    assert!(matches!(export(frozen), Err(Error::NoOnnx { .. })), "weights that are not the model's own");
    let missing = |g: &mut Graph, x: Tensor| {
        let w = g.param("w", [3, 4], Init::Constant(0.0));
        linear(g, x, w, None).unwrap()
    };
    assert!(matches!(export(missing), Err(Error::Usage(_))), "weights that are missing");
    let of_rows = Eval { config: BatchNorm { eps: 1e-5, momentum: 0.1, relu_dropout: None } };
    let x = Value::Computed("x".into(), vec![1, 4]);
    assert!(matches!(of_rows.onnx(&[x], &mut Operators::default()), Err(Error::NoOnnx { .. })), "without instances");
}
