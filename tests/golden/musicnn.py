"""musicnn's own features and tags of three clips, by TensorFlow: writes musicnn.safetensors.

    pip download --no-deps musicnn==0.1.0
    python tests/golden/musicnn.py musicnn-0.1.0-py3-none-any.whl

needs tensorflow-cpu 2.15.1, librosa 0.11.0, numpy 1.26.4, safetensors 0.8.0. It is not a part of make_golden.py, which
runs without TensorFlow. The network is the package's, in f64, its weights rounded to f16 as wmic's are. Its log-mel
spectrogram is computed as by the package, but without rounding the powers to f16.
"""

import sys
import tempfile
import zipfile
from pathlib import Path

import librosa
import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

from frac import frac

HERE = Path(__file__).resolve().parent

SR, SECONDS, FRAMES, BANDS, SALT = 16_000, 3, 187, 96, 3100
# Every so many frames are stored, and the maximum and mean over all.
STEP = 23
# Of each clip: the lowest partial in Hz, seconds from one note to the next, and the level of noise.
CLIPS = [(220.0, 0.75, 0.002), (98.0, 0.5, 0.05), (587.33, 0.25, 0.01)]


def sound(clip: int) -> np.ndarray:
    """Decaying notes of eight partials, and noise, at an RMS of 0.08; f32."""
    hz, beat, level = CLIPS[clip]
    t = np.arange(SECONDS * SR) / SR
    tones = sum(np.sin(2 * np.pi * hz * h * t) / h for h in range(1, 9)) * np.exp(-3 * (t % beat))
    y = 0.2 * tones + level * (2 * frac(t.shape, SALT + clip) - 1)
    return np.clip(y * (0.08 / np.sqrt(np.mean(y * y))), -1, 1).astype(np.float32)


def log_mel(y: np.ndarray) -> np.ndarray:
    """(187, 96)"""
    settings = dict(sr=SR, hop_length=256, n_fft=512, n_mels=BANDS)
    # The default of librosa 0.7, which the package was made with.
    power = librosa.feature.melspectrogram(y=y.astype(np.float64), pad_mode="reflect", **settings)
    return np.log10(10000 * power.T + 1)[:FRAMES]


def rounded(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float16).astype(np.float64)


def round_weights(session: tf.compat.v1.Session) -> None:
    """Batch norms become the scale and shift of `scripts/convert-musicnn`, rounded; those before a dense layer are a
    part of its weights."""
    variables = {v.op.name: v for v in tf.compat.v1.global_variables()}
    raw = {name: session.run(v) for name, v in variables.items()}

    def number(name: str, index: int) -> str:
        return f"{name}_{index}" if index else name

    def norm(index: int) -> tuple[np.ndarray, np.ndarray, str]:
        name = number("batch_normalization", index)
        scale = raw[name + "/gamma"] / np.sqrt(raw[name + "/moving_variance"] + 1e-3)
        return scale, raw[name + "/beta"] - raw[name + "/moving_mean"] * scale, name

    def replace(name: str, scale: np.ndarray, shift: np.ndarray) -> None:
        # gamma / sqrt(variance + eps) = scale
        one = np.full_like(scale, 1 - 1e-3)
        for part, value in [("gamma", scale), ("beta", shift), ("moving_mean", 0 * shift), ("moving_variance", one)]:
            variables[f"{name}/{part}"].load(value, session)

    for i in range(9):
        scale, shift, name = norm(i)
        replace(name, rounded(scale), rounded(shift))
    for i in range(8):
        for part in ["kernel", "bias"]:
            name = f"{number('conv2d', i)}/{part}"
            variables[name].load(rounded(raw[name]), session)
    for i, layer in [(9, "dense"), (10, "dense_1")]:
        scale, shift, name = norm(i)
        kernel = raw[layer + "/kernel"]
        variables[layer + "/kernel"].load(rounded(kernel * scale[:, None]), session)
        variables[layer + "/bias"].load(rounded(raw[layer + "/bias"] + shift @ kernel), session)
        replace(name, np.ones_like(scale), np.zeros_like(shift))


def network(models, prefix: str, inputs: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The features of all frames and the tags, with rounded weights, and the tags with the checkpoint's own."""
    tf.compat.v1.disable_eager_execution()
    with tf.compat.v1.name_scope("model"):
        x = tf.compat.v1.placeholder(tf.float64, [None, FRAMES, BANDS])
        training = tf.compat.v1.placeholder(tf.bool)
        y, timbral, temporal, *mid, _, _, _ = models.define_model(x, training, "MTT_musicnn", 50)
        tags = tf.nn.sigmoid(y)
    mid = [tf.reshape(m, [-1, FRAMES, 64]) for m in mid]
    with tf.compat.v1.Session() as session:
        released = tf.compat.v1.train.NewCheckpointReader(prefix)
        for variable in tf.compat.v1.global_variables():
            variable.load(released.get_tensor(variable.op.name).astype(np.float64), session)
        feed = {x: inputs, training: False}
        own = session.run(tags, feed)
        round_weights(session)
        return session.run([tf.concat([timbral, temporal, *mid], 2), tags], feed), own


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(sys.argv[1]) as wheel:
        wheel.extractall(folder)
        sys.path.insert(0, folder)
        (Path(folder) / "musicnn" / "__init__.py").write_text("")
        from musicnn import models

        inputs = np.stack([log_mel(sound(clip)) for clip in range(len(CLIPS))])
        (features, tags), own = network(models, f"{folder}/musicnn/MTT_musicnn/", inputs)
    print(f"rounding the weights to f16 changes a tag's probability by at most {np.abs(tags - own).max():.1e}")
    tensors = {
        "log_mel": inputs[:, ::STEP],
        "frames": features[:, ::STEP],
        "pooled": np.concatenate([features.max(1), features.mean(1)], 1),
        "tags": tags,
        "released": own,
    }
    save_file({k: np.ascontiguousarray(v, np.float32) for k, v in tensors.items()}, HERE / "musicnn.safetensors")


if __name__ == "__main__":
    main()
