//! The op checks as data: the plan of each case with the portable kernels, its inputs, and what the reference gives.

use serde_json::{Value, json};

use super::pack::{Bound, Pack, Precision};
use crate::check::{Case, EVERY_COORDINATE, Entry, Expected, Input, Prepared};
use crate::core::error::Result;
use crate::graph::Dtype;

/// The cases of `ops`, without the large ones, which are as large as real models. `each` is called before a case.
///
/// # Errors
/// As [`list`](crate::check::list).
pub(super) fn describe(ops: &[&Entry], pack: &mut Pack, each: &mut dyn FnMut(&Case)) -> Result<Value> {
    let mut cases = vec![];
    for case in ops.iter().flat_map(|entry| (entry.cases)()).filter(|case| !case.is_large()) {
        each(&case);
        cases.push(described(&case, pack)?);
    }
    Ok(json!({ "version": env!("CARGO_PKG_VERSION"), "cases": cases }))
}

fn described(case: &Case, pack: &mut Pack) -> Result<Value> {
    let prepared = Prepared::portable(case)?;
    let expected = Expected::new(case, &prepared, |v| v);
    let plan = prepared.draft.data()?;
    let bound: Bound =
        prepared.bound().into_iter().map(|(name, words)| (name, pack.content(&words, Precision::Exact))).collect();
    let (outputs, inputs) = prepared.tensors();
    let mut read: Vec<_> = outputs.iter().map(|tensor| plan.place(*tensor)).collect();
    let dtypes = case.infer()?.y.into_iter().map(|spec| spec.dtype);
    let of_output = |(want, dtype): (&crate::Array<f64>, Dtype)| {
        let word = |v: &f64| match dtype {
            Dtype::F32 => (*v as f32).to_bits(),
            Dtype::U32 => *v as u32,
        };
        let words: Vec<u32> = want.data().iter().map(word).collect();
        json!({ "expected": pack.content(&words, Precision::Exact), "whole": dtype == Dtype::U32 })
    };
    let of_outputs: Vec<Value> = expected.y.iter().zip(dtypes).map(of_output).collect();
    let mut gradients = vec![];
    for (i, (slopes, input)) in expected.slopes.iter().zip(&case.inputs).enumerate() {
        if slopes.is_empty() {
            continue;
        }
        read.push(plan.gradient(inputs[i]));
        gradients.push(json!({ "input": i, "slopes": slopes, "each": is_each(input) }));
    }
    let tolerance = |t: crate::check::Tolerance| json!([t.atol, t.rtol]);
    Ok(json!({
        "op": case.op.name(),
        "case": case.name,
        "plan": pack.plan(&plan, &read, &bound),
        "outputs": of_outputs,
        "gradients": gradients,
        "forward": tolerance(case.forward),
        "gradient": tolerance(case.gradient),
    }))
}

/// Whether slopes are along every coordinate.
fn is_each(input: &Input) -> bool {
    input.spec.shape.len() <= EVERY_COORDINATE
}
