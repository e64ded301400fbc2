"""Losses as the mean over each clip's own known labels, then over the clips that have any (Watcharasupat, Gururani,
Lerch, 2020, Eq. 8), of the inputs of `losses` and `focal_losses` in layers.py as `layers.safetensors` holds them. Plain
numpy; gradients are central differences."""

import json
import struct
from pathlib import Path

import numpy as np

STEP = 1e-6


def tensors(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    out = {}
    for name, about in header.items():
        if name != "__metadata__":
            begin, end = (8 + size + at for at in about["data_offsets"])
            out[name] = np.frombuffer(data[begin:end], np.float32).reshape(about["shape"]).astype(np.float64)
    return out


def clip_mean(terms: np.ndarray, mask: np.ndarray) -> float:
    of_clips = [terms[b][mask[b] > 0].mean() for b in range(len(mask)) if mask[b].any()]
    return float(np.mean(of_clips))


def bce(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def focal(p: np.ndarray, y: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return -(y * alpha * (1 - p) ** 2 * np.log(p) + (1 - y) * (1 - alpha) * p**2 * np.log(1 - p))


def loss_mean(layers: Path) -> dict[str, dict]:
    of = tensors(layers)
    out = {}
    for case, terms in {"loss": bce, "focal": lambda p, y: focal(p, y, of["focal.alpha"])}.items():
        p, y, mask = (of[f"{case}.{name}"] for name in ("p", "y", "mask"))
        slopes = []
        for i in range(p.size):
            ends = [p.copy(), p.copy()]
            ends[0].flat[i] -= STEP
            ends[1].flat[i] += STEP
            low, high = (clip_mean(terms(end, y), mask) for end in ends)
            slopes.append((high - low) / (2 * STEP))
        out[case] = {"loss": clip_mean(terms(p, y), mask), "dp": slopes}
    return out
