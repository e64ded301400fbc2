//! Runs a case on an adapter and compares outputs, gradients, replays and replicas.

use std::cell::OnceCell;

use super::case::{Case, Input};
use super::fixture::{Fixture, Prepared, Run};
use crate::core::array::Array;
use crate::core::error::Result;
use crate::core::random::Stream;
use crate::gpu::{AdapterKind, Gpu, Precision, Target};
use crate::graph::Dtype;

/// Up to this many elements of an input, every coordinate of its gradient is checked; beyond, random directions, of
/// large cases one.
pub(crate) const EVERY_COORDINATE: usize = 160;
const DIRECTIONS: usize = 6;
const FEW_DIRECTIONS: usize = 1;

/// Result of a check.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub op: &'static str,
    pub case: String,
    pub target: Target,
    /// Largest forward error as a fraction of its tolerance.
    pub forward: f64,
    /// Largest gradient error as a fraction of its tolerance; `None` without gradients.
    pub gradient: Option<f64>,
    /// Failures, empty for a pass.
    pub failures: Vec<String>,
}

impl Outcome {
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// What the reference gives for replica 0, the same for every target; each is computed when it is needed first.
#[derive(Default)]
pub(super) struct References {
    expected: OnceCell<Expected>,
    /// The same of absolute values: the sums of the absolute values of what linear ops add up, of which a rounding
    /// error is a part.
    sizes: OnceCell<Expected>,
}

pub(crate) struct Expected {
    pub y: Vec<Array<f64>>,
    /// Per input with a gradient, the slopes along its `directions`.
    pub slopes: Vec<Vec<f64>>,
}

impl Expected {
    /// `map`: of all values, those of directions and of the outputs' gradients, too.
    pub fn new(case: &Case, prepared: &Prepared, map: fn(f64) -> f64) -> Expected {
        let all = |arrays: &[Array<f64>]| arrays.iter().map(|array| array.clone().map(map)).collect::<Vec<_>>();
        let (x, dy) = (all(&prepared.x[0]), all(&prepared.dy[0]));
        let slopes = |(i, input): (usize, &Input)| {
            if !input.wants_gradient() || prepared.seeded().is_empty() {
                return vec![];
            }
            let directions = directions(input.spec.shape.len(), case.is_large()).into_iter();
            let mapped = |direction: Vec<f64>| direction.into_iter().map(map).collect::<Vec<_>>();
            directions.map(|(_, of)| slope(case, prepared.seeded(), &x, &dy, i, &mapped(of))).collect()
        };
        let y = case.reference(&x);
        Expected { y, slopes: case.inputs.iter().enumerate().map(slopes).collect() }
    }
}

/// The largest error of a product of two operands relative to it, beyond that of f32: those in half precision are each
/// rounded to 11 significant bits, by up to 2^-11 of their size.
fn rounding(precision: Precision) -> f64 {
    const HALF: f64 = 1.0 + 1.0 / 2048.0;
    match precision {
        Precision::F32 => 0.0,
        Precision::F16 => HALF * HALF - 1.0,
    }
}

/// Checks `case` on `gpu` with the kernel variants of `target`.
pub fn check(gpu: &Gpu, case: &Case, target: Target) -> Result<Outcome> {
    check_against(gpu, case, target, &References::default())
}

/// As `check`, with what the reference gives, which the first target fills in.
pub(super) fn check_against(gpu: &Gpu, case: &Case, target: Target, references: &References) -> Result<Outcome> {
    let mut failures = Vec::new();
    let one = Fixture::new(gpu, case, target, &[0], 1)?;
    let alone = one.run(gpu, &mut failures)?;
    // On a software adapter the large cases take most of the time, and what runs side by side there does so in the
    // small ones as well.
    let replayed = gpu.adapter().kind != AdapterKind::Software || !case.is_large();
    if replayed && one.run(gpu, &mut failures)? != alone {
        failures.push("a replay is not bit-identical".into());
    }
    let expected = references.expected.get_or_init(|| Expected::new(case, &one.prepared, |v| v));
    let error = rounding(target.precision);
    let sizes = (error > 0.0).then(|| references.sizes.get_or_init(|| Expected::new(case, &one.prepared, f64::abs)));
    let (forward, gradient) = compare(case, expected, sizes.map(|sizes| (error, sizes)), &alone, &mut failures);

    // Small cases try the same kernels with several consumers and several replicas.
    if gradient.is_some() && !case.is_large() {
        let twice = Fixture::new(gpu, case, target, &[0], 2)?.run(gpu, &mut failures)?;
        for (i, (a, b)) in alone.dx.iter().zip(&twice.dx).enumerate() {
            let doubled = |a: &Vec<u32>| a.iter().map(|v| 2.0 * f32::from_bits(*v)).collect::<Vec<_>>();
            let got = |b: &Vec<u32>| b.iter().map(|v| f32::from_bits(*v)).collect::<Vec<_>>();
            if a.as_ref().map(doubled) != b.as_ref().map(got) {
                failures.push(format!("two consumers do not accumulate twice the gradient of input {i}"));
            }
        }
    }

    if !case.is_large() {
        let together = Fixture::new(gpu, case, target, &[0, 1, 2], 1)?.run(gpu, &mut failures)?;
        let mut single = |r| Fixture::new(gpu, case, target, &[r], 1)?.run(gpu, &mut failures);
        let singles = [alone, single(1)?, single(2)?];
        for (r, single) in singles.iter().enumerate() {
            if !same_replica(single, &together, r) {
                failures.push(format!("replica {r} of 3 differs from the same replica alone"));
            }
        }
    }
    failures.dedup();
    Ok(Outcome { op: case.op.name(), case: case.name.clone(), target, forward, gradient, failures })
}

fn same_replica(single: &Run, together: &Run, r: usize) -> bool {
    let part = |a: &[u32], b: &[u32]| a.is_empty() || b.chunks(a.len()).nth(r) == Some(a);
    let gradients = single.dx.iter().zip(&together.dx).all(|(a, b)| match (a, b) {
        (Some(a), Some(b)) => part(a, b),
        (a, b) => a.is_none() && b.is_none(),
    });
    gradients && single.y.iter().zip(&together.y).all(|(a, b)| part(a, b))
}

/// Compares replica 0 with the reference: outputs, then gradients with central differences.
fn compare(
    case: &Case,
    expected: &Expected,
    sizes: Option<(f64, &Expected)>,
    run: &Run,
    failures: &mut Vec<String>,
) -> (f64, Option<f64>) {
    let want = &expected.y;
    let dtypes: Vec<Dtype> = case.infer().expect("inferred before").y.iter().map(|s| s.dtype).collect();
    assert_eq!(run.y.len(), want.len(), "{}: the reference has as many outputs as the op", case.name);
    let mut worst = 0.0f64;
    for (o, (got, want)) in run.y.iter().zip(want).enumerate() {
        assert_eq!(got.len(), want.shape().len(), "{}: the reference's output {o} has the op's shape", case.name);
        for (i, (bits, want)) in got.iter().zip(want.data()).enumerate() {
            let got = match dtypes[o] {
                Dtype::F32 => f64::from(f32::from_bits(*bits)),
                Dtype::U32 => f64::from(*bits),
            };
            let rounded = sizes.map_or(0.0, |(error, sizes)| error * sizes.y[o][i]);
            let share = case.forward.share(got, *want, rounded);
            if share > 1.0 && worst <= 1.0 {
                failures.push(format!("output {o}[{i}] is {got}, expected {want}"));
            }
            worst = worst.max(share);
        }
    }
    if run.dx.iter().all(Option::is_none) {
        return (worst, None);
    }
    let mut worst_gradient = 0.0f64;
    for (i, dx) in run.dx.iter().enumerate() {
        let Some(dx) = dx else { continue };
        let dx: Vec<f64> = dx.iter().map(|v| f64::from(f32::from_bits(*v))).collect();
        let directions = directions(dx.len(), case.is_large());
        for (k, ((name, direction), &want)) in directions.iter().zip(&expected.slopes[i]).enumerate() {
            let got: f64 = dx.iter().zip(direction).map(|(g, d)| g * d).sum();
            let size: f64 = dx.iter().zip(direction).map(|(g, d)| (g * d).abs()).sum();
            // A direction sums many errors, so the tolerance grows with the terms, not with their sum.
            let allowed = case.gradient.atol * direction.iter().map(|d| d * d).sum::<f64>().sqrt()
                + case.gradient.rtol * size.max(want.abs())
                + sizes.map_or(0.0, |(error, sizes)| error * sizes.slopes[i][k]);
            let share = if (got - want).is_nan() { f64::INFINITY } else { (got - want).abs() / allowed };
            if share > 1.0 && worst_gradient <= 1.0 {
                failures.push(format!("gradient of input {i}, {name}: {got}, central differences give {want}"));
            }
            worst_gradient = worst_gradient.max(share);
        }
    }
    (worst, Some(worst_gradient))
}

/// Unit vectors for small inputs, a few random directions for large ones.
fn directions(len: usize, few: bool) -> Vec<(String, Vec<f64>)> {
    if len <= EVERY_COORDINATE && !few {
        let unit = |i: usize| (0..len).map(|j| f64::from(u8::from(i == j))).collect();
        return (0..len).map(|i| (format!("element {i}"), unit(i))).collect();
    }
    let count = if few { FEW_DIRECTIONS } else { DIRECTIONS };
    (0..count)
        .map(|d| {
            let mut stream = Stream::new(0xD1_2EC7, d as u32);
            (format!("direction {d}"), (0..len).map(|_| stream.uniform(1.0)).collect())
        })
        .collect()
}

/// Central difference of sum(dy y) along a direction of input `i`.
fn slope(case: &Case, seeded: &[usize], x: &[Array<f64>], dy: &[Array<f64>], i: usize, direction: &[f64]) -> f64 {
    let value = |step: f64| -> f64 {
        let mut x = x.to_vec();
        x[i].data_mut().iter_mut().zip(direction).for_each(|(v, d)| *v += step * d);
        let y = case.reference(&x);
        let product =
            |(&o, dy): (&usize, &Array<f64>)| y[o].data().iter().zip(dy.data()).map(|(y, dy)| y * dy).sum::<f64>();
        seeded.iter().zip(dy).map(product).sum()
    };
    const STEP: f64 = 1e-5;
    (value(STEP) - value(-STEP)) / (2.0 * STEP)
}
