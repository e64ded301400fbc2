//! A check of an op: its inputs, tolerances and outputs.

use std::rc::Rc;

use crate::core::array::Array;
use crate::core::error::Result;
use crate::core::random::Stream;
use crate::core::shape::Shape;
use crate::graph::{Cost, Dtype, Graph, Op, Outputs, Spec, Tensor};

/// Elements of all inputs together beyond which a case is large.
const LARGE: usize = 100_000;

/// The values of an input, drawn for each replica.
#[derive(Clone, Debug)]
pub enum Fill {
    /// Uniform in [low, high).
    Uniform(f64, f64),
    /// Uniform in [-1, 1] without (-gap, gap): avoids a kink at 0.
    AwayFromZero(f64),
    /// Whole numbers 0 .. n - 1.
    Below(u32),
    /// 0 or 1, with this probability of 1.
    Bernoulli(f64),
    /// The same given values for every replica.
    Given(Vec<f64>),
}

/// Role of an input in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputRole {
    /// Data, no gradient.
    Data,
    /// Data that all replicas share.
    Shared,
    /// Data whose gradient is checked.
    Gradient,
    /// A trained parameter: stored in the arena, its gradient is checked.
    Param,
    /// A running statistic, stored in its arena.
    Statistic,
}

#[derive(Clone, Debug)]
pub struct Input {
    pub spec: Spec,
    pub kind: InputRole,
    pub fill: Fill,
}

impl Input {
    fn f32(shape: impl Into<Vec<usize>>, kind: InputRole) -> Self {
        Input { spec: Spec::f32(Shape::new(shape)), kind, fill: Fill::Uniform(-1.0, 1.0) }
    }

    pub fn data(shape: impl Into<Vec<usize>>) -> Self {
        Input::f32(shape, InputRole::Data)
    }

    pub fn gradient(shape: impl Into<Vec<usize>>) -> Self {
        Input::f32(shape, InputRole::Gradient)
    }

    pub fn param(shape: impl Into<Vec<usize>>) -> Self {
        Input::f32(shape, InputRole::Param)
    }

    pub fn statistic(shape: impl Into<Vec<usize>>) -> Self {
        Input::f32(shape, InputRole::Statistic)
    }

    pub fn u32(shape: impl Into<Vec<usize>>, fill: Fill) -> Self {
        Input { spec: Spec::u32(Shape::new(shape)), kind: InputRole::Data, fill }
    }

    /// Replaces the values.
    pub fn filled(self, fill: Fill) -> Self {
        Input { fill, ..self }
    }

    /// One copy for all replicas.
    pub fn shared(self) -> Self {
        Input { kind: InputRole::Shared, ..self }
    }

    /// The values for replica `r`, rounded to what f32 (or u32) holds.
    pub(super) fn values(&self, index: usize, r: usize) -> Array<f64> {
        let r = if self.kind == InputRole::Shared { 0 } else { r };
        let mut stream = Stream::new(0x5EED + r as u64, index as u32);
        let mut unit = || (stream.uniform(1.0) + 1.0) / 2.0;
        let values = Array::from_fn(self.spec.shape.clone(), |i| match &self.fill {
            Fill::Uniform(low, high) => low + unit() * (high - low),
            Fill::AwayFromZero(gap) => {
                let v = 2.0 * unit() - 1.0;
                v.signum() * (gap + v.abs() * (1.0 - gap))
            }
            Fill::Below(n) => (unit() * f64::from(*n)).floor(),
            Fill::Bernoulli(p) => f64::from(unit() < *p),
            Fill::Given(values) => values[i],
        });
        match self.spec.dtype {
            Dtype::F32 => values.map(|v| f64::from(v as f32)),
            Dtype::U32 => values,
        }
    }

    pub(super) fn wants_gradient(&self) -> bool {
        matches!(self.kind, InputRole::Gradient | InputRole::Param)
    }
}

/// An error e against a reference v passes when e <= atol + rtol |v|. A value above the default names the observed
/// error.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub atol: f64,
    pub rtol: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Tolerance { atol: 1e-5, rtol: 1e-5 }
    }
}

impl Tolerance {
    /// The error as a fraction of the tolerance, beside which `rounded` is allowed: above 1 fails.
    pub(super) fn share(&self, got: f64, want: f64, rounded: f64) -> f64 {
        if got == want {
            return 0.0;
        }
        let share = (got - want).abs() / (self.atol + self.rtol * want.abs() + rounded);
        if share.is_nan() { f64::INFINITY } else { share }
    }
}

/// A loss of the first output of a case's op, see [`Case::with_loss`].
#[derive(Clone, Debug)]
pub struct Loss {
    op: Rc<dyn Op>,
    /// How many of the inputs the case's op takes.
    first: usize,
    /// Those that the loss takes after what it is of.
    takes: Vec<usize>,
}

/// One check of an op. Bench cases have the shapes of real models; they are checked and timed.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub op: Rc<dyn Op>,
    pub inputs: Vec<Input>,
    /// See [`Case::with_loss`].
    pub loss: Option<Loss>,
    /// Outputs whose gradients are tried (all f32 ones by default).
    pub seeded: Option<Vec<usize>>,
    pub forward: Tolerance,
    pub gradient: Tolerance,
    pub bench: bool,
    /// Whether it is checked in half precision, too.
    pub halves: bool,
}

impl Case {
    pub fn new(name: impl Into<String>, op: impl Op + 'static, inputs: Vec<Input>) -> Self {
        let (forward, gradient) = Default::default();
        Case {
            name: name.into(),
            op: Rc::new(op),
            inputs,
            loss: None,
            seeded: None,
            forward,
            gradient,
            bench: false,
            halves: true,
        }
    }

    /// Followed by a loss of its first output, whose outputs are those of the case. `more`: inputs of the loss alone;
    /// `takes`: numbers of all that it takes after that output.
    pub fn with_loss(mut self, loss: impl Op + 'static, more: Vec<Input>, takes: &[usize]) -> Self {
        self.loss = Some(Loss { op: Rc::new(loss), first: self.inputs.len(), takes: takes.to_vec() });
        self.inputs.extend(more);
        self
    }

    /// What `apply` makes of the inputs `x` for the op and then, if it has one, for its loss.
    fn through<T: Clone>(&self, x: &[T], mut apply: impl FnMut(&Rc<dyn Op>, &[T]) -> Result<Vec<T>>) -> Result<Vec<T>> {
        let Some(Loss { op, first, takes }) = &self.loss else { return apply(&self.op, x) };
        let of = apply(&self.op, &x[..*first])?.swap_remove(0);
        let inputs: Vec<T> = [of].into_iter().chain(takes.iter().map(|i| x[*i].clone())).collect();
        apply(op, &inputs)
    }

    pub(super) fn push(&self, g: &mut Graph, x: &[Tensor]) -> Result<Vec<Tensor>> {
        self.through(x, |op, x| g.push_shared(op.clone(), x))
    }

    pub(crate) fn infer(&self) -> Result<Outputs> {
        let mut out = Outputs::default();
        self.through(&self.specs(), |op, x| {
            out = op.infer(x)?;
            Ok(out.y.clone())
        })?;
        Ok(out)
    }

    pub(super) fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>> {
        self.through(x, |op, x| Ok(op.reference(x))).expect("a reference has no errors")
    }

    /// Of a forward pass.
    pub(crate) fn cost(&self) -> Result<Cost> {
        let mut sum = Cost::default();
        self.through(&self.specs(), |op, x| {
            let cost = op.cost(x);
            sum = Cost { flops: sum.flops + cost.flops, bytes: sum.bytes + cost.bytes };
            Ok(op.infer(x)?.y)
        })?;
        Ok(sum)
    }

    fn specs(&self) -> Vec<Spec> {
        self.inputs.iter().map(|i| i.spec.clone()).collect()
    }

    /// Marks a case of real size, for `wmic bench`.
    pub fn bench(self) -> Self {
        Case { bench: true, ..self }
    }

    /// Not in half precision: for an op whose errors there are not bounded by the same op on absolute values, as those
    /// of products are. Its products are those of other cases.
    pub fn in_f32(self) -> Self {
        Case { halves: false, ..self }
    }

    /// Whether it is checked for one replica and along few directions only.
    pub(crate) fn is_large(&self) -> bool {
        self.bench || self.inputs.iter().map(|input| input.spec.shape.len()).sum::<usize>() > LARGE
    }

    /// Only these outputs get a gradient.
    pub fn seeded(self, outputs: &[usize]) -> Self {
        Case { seeded: Some(outputs.to_vec()), ..self }
    }

    pub fn forward_tolerance(self, atol: f64, rtol: f64) -> Self {
        Case { forward: Tolerance { atol, rtol }, ..self }
    }

    pub fn gradient_tolerance(self, atol: f64, rtol: f64) -> Self {
        Case { gradient: Tolerance { atol, rtol }, ..self }
    }
}
