//! YAMNet's weights as they are published, a model of TensorFlow Lite with a batch of one patch: found by what its
//! operators do and how they follow each other, whatever their tensors are called.

use std::path::Path;

use crate::core::error::{Error, Result};
use crate::core::files::read_limited;
use crate::core::tflite::{Model, Operator, Table, code};
use crate::nn::front_ends::yamnet::{Layer, LayerKind, layers};

/// Largest file; the published one has 4 MB.
const MAX_FILE: u64 = 64 << 20;

/// Name, shape and values of a parameter.
pub(super) type Parameter = (String, Vec<usize>, Vec<f32>);

/// Reads the parameters of all layers.
///
/// # Errors
/// `Checkpoint` for a file that is damaged or another network.
pub(super) fn read(path: &Path) -> Result<Vec<Parameter>> {
    let bytes = read_limited(path, MAX_FILE)?;
    parameters(&bytes).map_err(|reason| Error::checkpoint(path, format!("is not YAMNet of TensorFlow Lite: {reason}")))
}

fn parameters(bytes: &[u8]) -> Result<Vec<Parameter>, String> {
    let model = Model::parse(bytes)?;
    let is_layer = |op: &&Operator| matches!(op.code, code::CONV_2D | code::DEPTHWISE_CONV_2D);
    let mut operators: Vec<&Operator> = model.operators.iter().filter(is_layer).collect();
    // The embedding is the mean of the last maps, and the classes are made of it: the spectrogram has such layers, too.
    let last = operators.last().ok_or("it has no convolutions")?;
    let after = |from: &Operator, code: i32| {
        let mut found = model.operators.iter().filter(|op| op.code == code);
        found.find(|op| op.inputs.first() == from.outputs.first()).ok_or("no dense layer follows its convolutions")
    };
    operators.push(after(after(last, code::MEAN)?, code::FULLY_CONNECTED)?);
    let layers = layers();
    if operators.len() != layers.len() {
        return Err(format!("it has {} convolutions and dense layers, not {}", operators.len(), layers.len()));
    }
    let mut parameters = vec![];
    for (i, (layer, operator)) in layers.iter().zip(&operators).enumerate() {
        let part = of_layer(&model, layer, operator).map_err(|reason| format!("{}: {reason}", layer.name))?;
        if i > 0 && layer.kind != LayerKind::Dense && operator.inputs[0] != operators[i - 1].outputs[0] {
            return Err(format!("{} does not follow {}", layer.name, layers[i - 1].name));
        }
        parameters.extend(part);
    }
    Ok(parameters)
}

/// The weights and the bias of a layer.
fn of_layer(model: &Model, layer: &Layer, operator: &Operator) -> Result<[Parameter; 2], String> {
    let (&[_, weight, bias], [_]) = (&operator.inputs[..], &operator.outputs[..]) else {
        return Err("it needs an input, weights and a bias, and one output".into());
    };
    let Layer { kind, inputs, outputs, .. } = layer;
    let stride = match kind {
        LayerKind::Convolution => 2,
        LayerKind::Depthwise { stride } => *stride as i32,
        LayerKind::Pointwise | LayerKind::Dense => 1,
    };
    // TensorFlow's axes, the position of the activation among the options, and the operator.
    let (stored, activation, code) = match kind {
        LayerKind::Convolution => (vec![*outputs, 3, 3, *inputs], 3, code::CONV_2D),
        LayerKind::Depthwise { .. } => (vec![1, 3, 3, *outputs], 4, code::DEPTHWISE_CONV_2D),
        LayerKind::Pointwise => (vec![*outputs, 1, 1, *inputs], 3, code::CONV_2D),
        LayerKind::Dense => (vec![*outputs, *inputs], 0, code::FULLY_CONNECTED),
    };
    if operator.code != code {
        return Err(format!("it is operator {}, expected {code}", operator.code));
    }
    let option =
        |read: &dyn Fn(&Table) -> Result<i32, String>, default| operator.options.as_ref().map_or(Ok(default), read);
    let activation = option(&|options| options.byte(activation).map(i32::from), 0)?;
    if activation != i32::from(*kind != LayerKind::Dense) {
        return Err(format!("its activation is {activation}, expected a ReLU, and none at the end"));
    }
    if *kind != LayerKind::Dense {
        let padding = option(&|options| options.byte(0).map(i32::from), 0)?;
        let [columns, rows] = [option(&|options| options.int(1, 0), 0)?, option(&|options| options.int(2, 0), 0)?];
        if [padding, columns, rows] != [0, stride, stride] {
            return Err(format!("its padding is {padding} and its strides {rows} and {columns}, expected 0, {stride}"));
        }
    }
    let values = model.floats(weight, &stored)?;
    let values = match kind {
        // (N, rows and columns, C) to (N, C, rows and columns).
        LayerKind::Convolution => values.chunks(9 * inputs).flat_map(|filter| transposed(filter, *inputs)).collect(),
        LayerKind::Depthwise { .. } => transposed(&values, *outputs),
        LayerKind::Pointwise | LayerKind::Dense => values,
    };
    let bias = model.floats(bias, &[*outputs])?;
    let [(weight, shape), (of_bias, bias_shape)] = layer.parameters();
    Ok([(weight, shape, values), (of_bias, bias_shape, bias)])
}

/// The columns of a matrix, one after the other.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect()
}
