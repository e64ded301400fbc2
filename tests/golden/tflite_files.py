"""Writes small.tflite: two layers with weights of every kind that is read, as TensorFlow Lite stores them.

    python tests/golden/tflite_files.py       needs ai-edge-litert 2.3.0, flatbuffers, numpy
"""

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

Type, Code = schema.TensorType, schema.BuiltinOperator
MODEL = schema.ModelT()
GRAPH = schema.SubGraphT()


def tensor(shape: list[int], kind: int = Type.FLOAT32, values: np.ndarray | None = None, **about) -> int:
    made = schema.TensorT()
    made.shape, made.type = shape, kind
    if values is not None:
        MODEL.buffers.append(schema.BufferT())
        MODEL.buffers[-1].data = np.frombuffer(values.tobytes(), np.uint8)
        made.buffer = len(MODEL.buffers) - 1
    if about:
        made.quantization = schema.QuantizationParametersT()
        for name, value in about.items():
            setattr(made.quantization, name, value)
    GRAPH.tensors.append(made)
    return len(GRAPH.tensors) - 1


def operator(code: int, inputs: list[int], outputs: list[int], kind: int = 0, options=None) -> None:
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = len(MODEL.operatorCodes), inputs, outputs
    made.builtinOptionsType, made.builtinOptions = kind, options
    GRAPH.operators.append(made)
    MODEL.operatorCodes.append(schema.OperatorCodeT())
    MODEL.operatorCodes[-1].deprecatedBuiltinCode = MODEL.operatorCodes[-1].builtinCode = code


def main() -> None:
    MODEL.version, MODEL.buffers, MODEL.operatorCodes = 3, [schema.BufferT()], []
    GRAPH.tensors, GRAPH.operators = [], []
    x, maps, y = tensor([1, 4, 4, 1]), tensor([1, 2, 2, 2]), tensor([1, 3])
    floats = np.array([0.5, -1.5], np.float32)
    bias = tensor([2], values=floats)
    halves = tensor([3], Type.FLOAT16, np.array([1, -2, 0.25], np.float16))
    # Each output channel has its scale and zero point.
    bytes_ = np.arange(-9, 9, dtype=np.int8)
    weights = tensor([2, 3, 3, 1], Type.INT8, bytes_, scale=[0.5, 0.25], zeroPoint=[0, 3], quantizedDimension=0)
    stored = tensor([3, 8], Type.INT8, np.arange(24, dtype=np.int8), scale=[0.125], zeroPoint=[-1])
    same = tensor([3, 8])
    options = schema.Conv2DOptionsT()
    options.strideW, options.strideH, options.fusedActivationFunction = 2, 2, 1
    operator(Code.CONV_2D, [x, weights, bias], [maps], schema.BuiltinOptions.Conv2DOptions, options)
    operator(Code.DEQUANTIZE, [stored], [same])
    operator(Code.FULLY_CONNECTED, [maps, same, halves], [y])
    GRAPH.inputs, GRAPH.outputs = [x], [y]
    MODEL.subgraphs = [GRAPH]
    builder = Builder(1024)
    builder.Finish(MODEL.Pack(builder), b"TFL3")
    (Path(__file__).resolve().parent / "small.tflite").write_bytes(builder.Output())


if __name__ == "__main__":
    main()
