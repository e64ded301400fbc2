//! The operators of an ONNX model, as ops add them.

use std::collections::HashMap;

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::onnx::{self, AttributeKind, Element};

/// An input of an op.
#[derive(Clone, Debug)]
pub enum Value {
    /// Computed when the model runs: its name, and its shape for a batch of one.
    Computed(String, Vec<usize>),
    /// A parameter or a constant.
    Known(Array<f32>),
}

impl Value {
    /// For a batch of one.
    pub fn dims(&self) -> &[usize] {
        match self {
            Value::Computed(_, dims) => dims,
            Value::Known(array) => array.dims(),
        }
    }

    /// The values of a parameter or constant.
    ///
    /// # Errors
    /// `Usage` for what is computed, where ONNX's operator wants a constant.
    pub fn known(&self) -> Result<&Array<f32>> {
        match self {
            Value::Known(array) => Ok(array),
            Value::Computed(name, _) => Err(Error::Usage(format!("ONNX: {name} must be constant"))),
        }
    }
}

/// An attribute of an operator.
pub enum Attribute<'a> {
    Int(i64),
    Float(f32),
    Text(&'a str),
    Ints(&'a [i64]),
}

/// ONNX operators and constants.
#[derive(Debug, Default)]
pub struct Operators {
    pub(super) nodes: Vec<onnx::Node>,
    pub(super) constants: Vec<onnx::Tensor>,
    masks: HashMap<(String, usize), String>,
}

impl Operators {
    fn name(&self, kind: &str) -> String {
        format!("{kind}_{}", self.nodes.len() + self.constants.len())
    }

    /// Adds an operator with one output, whose name it gives.
    pub fn apply(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        self.apply_to_many(operator, inputs, attributes, 1).remove(0)
    }

    /// As [`Operators::apply`], with several outputs.
    pub fn apply_to_many(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
        outputs: usize,
    ) -> Vec<String> {
        let name = self.name(operator);
        let outputs: Vec<String> = match outputs {
            1 => vec![name.clone()],
            n => (0..n).map(|i| format!("{name}_{i}")).collect(),
        };
        let attributes = attributes.iter().map(|(name, value)| {
            let mut attribute = onnx::Attribute { name: (*name).into(), ..Default::default() };
            let kind = match value {
                Attribute::Int(v) => {
                    attribute.int = *v;
                    AttributeKind::Int
                }
                Attribute::Float(v) => {
                    attribute.float = *v;
                    AttributeKind::Float
                }
                Attribute::Text(v) => {
                    attribute.text = v.as_bytes().to_vec();
                    AttributeKind::Text
                }
                Attribute::Ints(v) => {
                    attribute.ints = v.to_vec();
                    AttributeKind::Ints
                }
            };
            attribute.set_kind(kind);
            attribute
        });
        self.nodes.push(onnx::Node {
            attributes: attributes.collect(),
            inputs: inputs.iter().map(ToString::to_string).collect(),
            outputs: outputs.clone(),
            name,
            operator: operator.into(),
        });
        outputs
    }

    fn constant(&mut self, dims: &[usize], element: Element, data: Vec<u8>) -> String {
        let name = self.name("constant");
        let dims = dims.iter().map(|n| *n as i64).collect();
        self.constants.push(onnx::Tensor { dims, element: element.into(), name: name.clone(), data });
        name
    }

    pub fn floats(&mut self, dims: &[usize], values: &[f32]) -> String {
        self.constant(dims, Element::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub fn scalar(&mut self, value: f32) -> String {
        self.floats(&[], &[value])
    }

    pub fn ints(&mut self, values: &[i64]) -> String {
        self.constant(&[values.len()], Element::I64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// The name of a value.
    pub fn of(&mut self, value: &Value) -> String {
        match value {
            Value::Computed(name, _) => name.clone(),
            Value::Known(array) => self.floats(array.dims(), array.data()),
        }
    }

    /// The halves of the innermost axis.
    pub fn halves(&mut self, x: &str) -> [String; 2] {
        let halves = self.apply_to_many("Split", &[x], &[("axis", Attribute::Int(-1))], 2);
        halves.try_into().expect("two outputs")
    }

    /// `x` in another shape; the size of the axis with -1 follows from the others.
    pub fn reshape(&mut self, x: &str, shape: &[i64]) -> String {
        let shape = self.ints(shape);
        self.apply("Reshape", &[x, &shape], &[])
    }

    pub fn transpose(&mut self, x: &str, axes: &[i64]) -> String {
        self.apply("Transpose", &[x], &[("perm", Attribute::Ints(axes))])
    }

    /// Sums over `axes`, which are kept with size 1 or not.
    pub fn sum(&mut self, x: &str, axes: &[i64], keep: bool) -> String {
        let axes = self.ints(axes);
        self.apply("ReduceSum", &[x, &axes], &[("keepdims", Attribute::Int(keep.into()))])
    }

    /// `x` with axes of size 1 added.
    pub fn unsqueeze(&mut self, x: &str, axes: &[i64]) -> String {
        let axes = self.ints(axes);
        self.apply("Unsqueeze", &[x, &axes], &[])
    }

    pub fn cast(&mut self, x: &str, to: Onto) -> String {
        let element = match to {
            Onto::Floats => Element::F32,
            Onto::Ints32 => Element::I32,
        };
        self.apply("Cast", &[x], &[("to", Attribute::Int(i64::from(i32::from(element))))])
    }

    /// (B, T, 1): 1 for the first `lengths` (B) of T = `steps` instances, else 0.
    pub fn mask(&mut self, lengths: &Value, steps: usize) -> String {
        let lengths = match lengths {
            Value::Known(lengths) => {
                let valid: Vec<f32> = (0..steps).map(|i| f32::from(u8::from((i as f32) < lengths[0]))).collect();
                return self.floats(&[1, steps, 1], &valid);
            }
            Value::Computed(name, _) => name.clone(),
        };
        if let Some(mask) = self.masks.get(&(lengths.clone(), steps)) {
            return mask.clone();
        }
        let positions: Vec<i64> = (0..steps as i64).collect();
        let positions = self.ints(&positions);
        let column = self.unsqueeze(&lengths, &[1]);
        let valid = self.apply("Less", &[&positions, &column], &[]);
        let valid = self.cast(&valid, Onto::Floats);
        let mask = self.unsqueeze(&valid, &[2]);
        self.masks.insert((lengths, steps), mask.clone());
        mask
    }

    /// (B): `lengths`, at most `steps`, as f32.
    pub fn lengths(&mut self, lengths: &Value, steps: usize) -> String {
        let lengths = match lengths {
            Value::Known(lengths) => return self.floats(&[1], &[lengths[0].min(steps as f32)]),
            Value::Computed(name, _) => self.cast(&name.clone(), Onto::Floats),
        };
        let most = self.scalar(steps as f32);
        self.apply("Min", &[&lengths, &most], &[])
    }
}

/// Element types to cast to.
pub enum Onto {
    Floats,
    Ints32,
}
