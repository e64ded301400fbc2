"""YAMNet's own embeddings and tags of three clips, by TensorFlow Lite: writes yamnet.safetensors.

    python tests/golden/yamnet.py yamnet.tflite

needs ai-edge-litert 2.3.0, flatbuffers, numpy, safetensors 0.8.0. It is not a part of make_golden.py, which runs
without TensorFlow Lite; the file is the published one of 4 078 224 bytes, whose weights are in 8 bits. The interpreter
also rounds what passes through the network to 8 bits, differently on every kind of processor, and the published graph
has a Fourier transform in 8 bits. So the tensors are those of the same graph in floats: weights of 8 bits times their
scales, from a log-mel spectrogram by numpy. The script prints by how much the file as it is, from samples, differs.
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import Builder
from safetensors.numpy import save_file

from frac import frac

HERE = Path(__file__).resolve().parent

SR, SAMPLES, SALT = 16_000, 15_600, 3200
LOG_MEL, EMBEDDING, TAGS = 89, 121, 123
# Of each clip: the lowest partial in Hz, seconds from one note to the next, the level of the notes and of noise.
CLIPS = [(220.0, 0.75, 0.1, 0.0005), (98.0, 0.5, 0.3, 0.05), (587.33, 0.25, 0.02, 0.001)]


def sound(clip: int) -> np.ndarray:
    """Decaying notes of eight partials, and noise, f32."""
    hz, beat, level, noise = CLIPS[clip]
    t = np.arange(SAMPLES) / SR
    tones = sum(np.sin(2 * np.pi * hz * h * t) / h for h in range(1, 9)) * np.exp(-3 * (t % beat))
    return (level * tones + noise * (2 * frac(t.shape, SALT + clip) - 1)).astype(np.float32)


def log_mel(y: np.ndarray) -> np.ndarray:
    """(96, 64)"""

    def mel(hz):
        return 1127 * np.log1p(np.asarray(hz) / 700)

    edges, bins = np.linspace(mel(125), mel(7500), 66), mel(np.linspace(0, 8000, 257))
    rise = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    bank = np.maximum(0, np.minimum(rise, fall))
    bank[0] = 0
    frames = np.lib.stride_tricks.sliding_window_view(y.astype(np.float64), 400)[::160]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    return np.log(np.abs(np.fft.rfft(frames * window, 512)) @ bank + 0.001)


def in_floats(published: bytes) -> bytes:
    """The graph from the log-mel spectrogram on, with the weights of 8 bits as floats."""
    model = schema.ModelT.InitFromPackedBuf(published, 0)
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        if tensor.type != schema.TensorType.INT8:
            continue
        about = tensor.quantization
        values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int8).reshape(tensor.shape)
        shape = [1] * values.ndim
        shape[about.quantizedDimension] = len(about.scale)
        zeros = np.array(about.zeroPoint).reshape(shape)
        values = ((values - zeros) * np.array(about.scale).reshape(shape)).astype(np.float32)
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.frombuffer(values.tobytes(), np.uint8)
        tensor.buffer, tensor.type, tensor.quantization = len(model.buffers) - 1, schema.TensorType.FLOAT32, None
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    dequantise = schema.BuiltinOperator.DEQUANTIZE
    same = {op.outputs[0]: op.inputs[0] for op in graph.operators if codes[op.opcodeIndex] == dequantise}
    first = next(i for i, op in enumerate(graph.operators) if LOG_MEL in op.outputs)
    graph.operators = [op for op in graph.operators[first + 1 :] if codes[op.opcodeIndex] != dequantise]
    for op in graph.operators:
        op.inputs = [same.get(i, i) for i in op.inputs]
    graph.inputs, graph.outputs = [LOG_MEL], [EMBEDDING, TAGS]
    model.signatureDefs = None
    builder = Builder(1 << 24)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(model: bytes, inputs: np.ndarray, outputs: list[int]) -> list[np.ndarray]:
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    results = []
    for value in inputs:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value.astype(np.float32))
        interpreter.invoke()
        results.append([interpreter.get_tensor(i)[0].copy() for i in outputs])
    return [np.stack(of) for of in zip(*results)]


def main() -> None:
    published = Path(sys.argv[1]).read_bytes()
    sounds = np.stack([sound(clip) for clip in range(len(CLIPS))])
    spectrograms = np.stack([log_mel(y) for y in sounds])
    embedding, tags = run(in_floats(published), spectrograms, [EMBEDDING, TAGS])
    (released,) = run(published, sounds[:, None], [TAGS])
    print(f"rounding to 8 bits changes a tag's probability by at most {np.abs(tags - released).max():.1e}")
    tensors = {"log_mel": spectrograms[:, ::19], "embedding": embedding, "tags": tags}
    save_file({k: np.ascontiguousarray(v, np.float32) for k, v in tensors.items()}, HERE / "yamnet.safetensors")


if __name__ == "__main__":
    main()
