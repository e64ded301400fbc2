//! Writing a graph for evaluation.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use prost::Message;

use super::operators::{Operators, Value};
use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::files::write_atomic;
use crate::core::onnx::{self, Element, Size};
use crate::graph::{Dtype, Graph, Storage, StorageKind, Tensor};

/// An input of the whole.
pub struct Input<'a> {
    pub tensor: Tensor,
    /// `None`: of u32 that never vary, with their value for all batches.
    pub name: Option<&'a str>,
    pub known: f32,
    pub doc: &'a str,
}

/// A graph to be written.
pub struct Export<'a> {
    pub graph: &'a Graph,
    /// Parameters and statistics by name.
    pub weights: HashMap<String, Array<f32>>,
    pub inputs: Vec<Input<'a>>,
    /// With their names.
    pub outputs: Vec<(&'a str, Tensor)>,
    pub name: &'a str,
    pub doc: String,
    /// Keys and values.
    pub metadata: Vec<(&'a str, String)>,
}

impl Export<'_> {
    /// Writes it.
    ///
    /// # Errors
    /// `NoOnnx` for an op without a form in ONNX, and for other inputs than those listed.
    pub fn write(self, path: &Path) -> Result<()> {
        let mut values = Values::of(&self);
        for node in &self.graph.nodes {
            let x = node.x.iter().map(|t| values.of_tensor(*t)).collect::<Result<Vec<_>>>()?;
            let y = node.op.onnx(&x, &mut values.to)?;
            values.names.extend(node.y.iter().copied().zip(y));
        }
        let mut outputs = vec![];
        for (name, tensor) in &self.outputs {
            let value = values.of_tensor(*tensor)?;
            let to = &mut values.to;
            let computed = to.of(&value);
            let identity = to.nodes.len();
            to.apply("Identity", &[&computed], &[]);
            to.nodes[identity].outputs = vec![(*name).into()];
            outputs.push(described(name, Element::F32, value.dims(), ""));
        }
        let mut to = values.to;
        keep_needed(&mut to, &outputs);
        let is_used = |name: &str| to.nodes.iter().any(|node| node.inputs.iter().any(|input| input == name));
        let inputs = self.inputs.iter().filter_map(|input| Some((input, input.name.filter(|name| is_used(name))?)));
        let inputs = inputs.map(|(input, name)| {
            let spec = &self.graph.tensors[input.tensor.0].0;
            let element = if spec.dtype == Dtype::F32 { Element::F32 } else { Element::I64 };
            described(name, element, spec.shape.dims(), input.doc)
        });
        let graph = onnx::Graph {
            inputs: inputs.collect(),
            nodes: to.nodes,
            name: self.name.into(),
            constants: to.constants,
            outputs,
        };
        let entry = |(key, value): (&str, String)| onnx::Entry { key: key.into(), value };
        let model = onnx::Model {
            ir_version: onnx::IR_VERSION,
            producer_name: env!("CARGO_PKG_NAME").into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            doc: self.doc,
            graph: Some(graph),
            operators: vec![onnx::OperatorSet { domain: String::new(), version: onnx::OPERATORS }],
            metadata: self.metadata.into_iter().map(entry).collect(),
        };
        write_atomic(path, |out| out.write_all(&model.encode_to_vec()))
    }
}

/// What the tensors of a graph are in ONNX.
struct Values<'a> {
    of: &'a Export<'a>,
    /// The tensor that was there first with each storage; later ones are in other shapes.
    first: HashMap<Storage, Tensor>,
    /// Of what has been computed.
    names: HashMap<Tensor, String>,
    to: Operators,
}

impl<'a> Values<'a> {
    fn of(of: &'a Export<'a>) -> Values<'a> {
        let mut first = HashMap::new();
        for (i, (_, storage)) in of.graph.tensors.iter().enumerate() {
            first.entry(*storage).or_insert(Tensor(i));
        }
        Values { of, first, names: HashMap::new(), to: Operators::default() }
    }

    fn of_tensor(&mut self, t: Tensor) -> Result<Value> {
        let Export { graph, weights, inputs, .. } = self.of;
        let dims = graph.shape(t).dims().to_vec();
        if let Some(name) = self.names.get(&t) {
            return Ok(Value::Computed(name.clone(), dims));
        }
        let (spec, storage) = (&graph.tensors[t.0].0, graph.memory_of(t));
        match &graph.storages[storage.0].kind {
            StorageKind::Param(index) => {
                let name = &graph.layout.params[*index].name;
                let values = weights.get(name).ok_or_else(|| Error::Usage(format!("there are no weights {name}")))?;
                Ok(Value::Known(values.clone().reshape(spec.shape.clone())))
            }
            StorageKind::Constant(bits) => {
                let values = bits.iter().map(|bits| match spec.dtype {
                    Dtype::F32 => f32::from_bits(*bits),
                    Dtype::U32 => *bits as f32,
                });
                Ok(Value::Known(Array::new(spec.shape.clone(), values.collect())))
            }
            StorageKind::Zeros => Ok(Value::Known(Array::zeros(spec.shape.clone()))),
            StorageKind::Input { .. } | StorageKind::Computed | StorageKind::Detached(_) => {
                let first = self.first[&storage];
                let input = inputs.iter().find(|input| input.tensor == first);
                let name = match (input, self.names.get(&first)) {
                    (Some(Input { name: None, known, .. }), _) => {
                        return Ok(Value::Known(Array::new(spec.shape.clone(), vec![*known; spec.shape.len()])));
                    }
                    (Some(Input { name: Some(name), .. }), _) => (*name).to_owned(),
                    (None, Some(name)) => name.clone(),
                    (None, None) => return Err(Error::NoOnnx { op: "inputs of training or frozen weights" }),
                };
                if graph.shape(first) == graph.shape(t) {
                    return Ok(Value::Computed(name, dims));
                }
                let mut shape: Vec<i64> = dims.iter().map(|n| *n as i64).collect();
                shape[0] = -1;
                let name = self.to.reshape(&name, &shape);
                self.names.insert(t, name.clone());
                Ok(Value::Computed(name, dims))
            }
        }
    }
}

/// An input or output (batch, ...).
fn described(name: &str, element: Element, dims: &[usize], doc: &str) -> onnx::Value {
    let size = |(axis, n): (usize, &usize)| match axis {
        0 => Size::Any("batch".into()),
        _ => Size::Fixed(*n as i64),
    };
    let dims = dims.iter().enumerate().map(size).map(|size| onnx::Dim { size: Some(size) }).collect();
    let tensor = onnx::TensorType { element: element.into(), shape: Some(onnx::Dims { dims }) };
    onnx::Value { name: name.into(), of: Some(onnx::Type { tensor: Some(tensor) }), doc: doc.into() }
}

/// Drops operators and constants that no output depends on.
fn keep_needed(to: &mut Operators, outputs: &[onnx::Value]) {
    let mut needed: HashSet<String> = outputs.iter().map(|output| output.name.clone()).collect();
    let nodes = std::mem::take(&mut to.nodes);
    for node in nodes.into_iter().rev() {
        if node.outputs.iter().any(|output| needed.contains(output)) {
            needed.extend(node.inputs.iter().cloned());
            to.nodes.push(node);
        }
    }
    to.nodes.reverse();
    to.constants.retain(|constant| needed.contains(&constant.name));
}
