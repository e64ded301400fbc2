//! What an op is: shape inference, forward and backward dispatches, and a simple f64 reference.

use std::any::Any;
use std::fmt::Debug;
use std::rc::Rc;

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::shape::Shape;
use crate::gpu::{Recorder, View};
use crate::graph::onnx::operators::{Operators, Value};

/// Element type of a tensor; both take 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    F32,
    U32,
}

/// Shape (without the replica axis) and type of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub shape: Shape,
    pub dtype: Dtype,
}

impl Spec {
    pub fn f32(shape: impl Into<Shape>) -> Self {
        Spec { shape: shape.into(), dtype: Dtype::F32 }
    }

    pub fn u32(shape: impl Into<Shape>) -> Self {
        Spec { shape: shape.into(), dtype: Dtype::U32 }
    }
}

/// Outputs of an op.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// Results, visible to other ops.
    pub y: Vec<Spec>,
    /// Saved by forward for backward.
    pub saved: Vec<Spec>,
    /// Working memory, alive within forward or within backward only.
    pub scratch: Vec<Spec>,
    /// `(output, input)`: this output *is* that input, updated in place (running statistics, optimiser state).
    pub in_place: Vec<(usize, usize)>,
    /// No gradient passes: the results are draws or counts.
    pub detached: bool,
}

impl Outputs {
    pub fn one(y: Spec) -> Self {
        Outputs { y: vec![y], ..Default::default() }
    }
}

/// A tensor as kernels see it.
#[derive(Clone, Debug)]
pub struct Bound {
    /// All replicas.
    pub view: View,
    /// Of one replica.
    pub shape: Shape,
    /// Elements from one replica to the next; 0 for a tensor that all replicas share.
    pub stride: usize,
}

/// Destination of a gradient. A backward kernel writes every element: `=` for the first contribution, `+=` for later
/// ones.
#[derive(Clone, Debug)]
pub struct Sink {
    pub view: View,
    pub stride: usize,
    pub accumulate: bool,
}

/// A loss whose gradient is computed by the op that it reads.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    /// Its number in the graph.
    pub node: usize,
    pub op: Rc<dyn Op>,
    pub io: Box<Io>,
}

/// The buffers of one op in a plan.
#[derive(Clone, Debug)]
pub struct Io {
    /// R.
    pub replicas: usize,
    pub(super) x: Vec<Bound>,
    pub(super) y: Vec<Bound>,
    pub(super) saved: Vec<Bound>,
    pub(super) scratch: Vec<Bound>,
    pub(super) with_forward: bool,
    pub(super) loss: Option<Loss>,
    pub(super) dy: Vec<Option<View>>,
    pub(super) dx: Vec<Option<Sink>>,
}

impl Io {
    pub fn x(&self, i: usize) -> &Bound {
        &self.x[i]
    }

    pub fn y(&self, i: usize) -> &Bound {
        &self.y[i]
    }

    pub fn saved(&self, i: usize) -> &Bound {
        &self.saved[i]
    }

    pub fn scratch(&self, i: usize) -> &Bound {
        &self.scratch[i]
    }

    /// Whether backward computes the outputs, too, see [`Op::joins_passes`] and [`Op::joins_loss`].
    pub fn with_forward(&self) -> bool {
        self.with_forward
    }

    /// The loss whose gradient this op computes, if that is a `T`, and its buffers; see [`Op::joins_loss`].
    pub fn loss<T: Op>(&self) -> Option<(&T, &Io)> {
        let Loss { op, io, .. } = self.loss.as_ref()?;
        Some(((&**op as &dyn Any).downcast_ref()?, io))
    }

    /// Gradient of output `i`; `None` if nothing trained depends on it.
    pub fn dy(&self, i: usize) -> Option<View> {
        self.dy[i]
    }

    /// Destination of the gradient of input `i`; `None` if it is not needed.
    pub fn dx(&self, i: usize) -> Option<&Sink> {
        self.dx.get(i).and_then(Option::as_ref)
    }

    pub fn inputs(&self) -> usize {
        self.x.len()
    }
}

/// Work of one forward pass of one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes that must move at least once.
    pub bytes: f64,
}

pub trait Op: Debug + Any {
    fn name(&self) -> &'static str;

    /// Shapes and types of the outputs. Every shape error is raised here.
    fn infer(&self, x: &[Spec]) -> Result<Outputs>;

    fn forward(&self, io: &Io, r: &mut Recorder) -> Result<()>;

    fn backward(&self, _io: &Io, _r: &mut Recorder) -> Result<()> {
        Err(Error::NoGradient { op: self.name() })
    }

    /// Whether the gradient of output 0 is that of each input, so that one memory can serve for both; then the input
    /// has no [`Io::dx`].
    fn passes_gradient(&self) -> bool {
        false
    }

    /// Whether one dispatch can do forward and backward of these inputs: for a loss that the caller differentiates and
    /// that no other op reads, forward is then left to backward.
    fn joins_passes(&self, _x: &[Spec]) -> bool {
        false
    }

    /// Whether one dispatch can do forward and backward of this op and the gradient of the loss [`Io::loss`], which
    /// alone reads output 0; no op reads another output. Forward is then left to backward, which has no [`Io::dy`], and
    /// the forward pass of the loss follows it.
    fn joins_loss(&self, _io: &Io) -> bool {
        false
    }

    /// One replica in f64, in plain loops. Gradients are checked against central differences of this.
    fn reference(&self, x: &[Array<f64>]) -> Vec<Array<f64>>;

    fn cost(&self, x: &[Spec]) -> Cost;

    /// Adds it to an ONNX model; gives the names of its outputs `y`.
    ///
    /// # Errors
    /// `NoOnnx` for an op, or a variant of one, that has not been written in ONNX's operators.
    fn onnx(&self, _x: &[Value], _to: &mut Operators) -> Result<Vec<String>> {
        Err(Error::NoOnnx { op: self.name() })
    }
}
